/* Five buses, linked as a star, a ring or a mesh of hubs, while wires are cut, held and mended at random. */
#define _GNU_SOURCE
#include "hub_test.h"

#include "link/session.h"

enum { BUSES = 5, STEPS = 60, SEEDS = 12 };

static uint64_t state;

static unsigned
any(unsigned end)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(state >> 33) % end;
}

/* Which pairs are linked, and which buses are hubs. */
static const struct shape {
	const char *pairs;
	unsigned hubs; /* a bit for each */
} shapes[] = {
    {"10 20 30 40", 1},                    /* a star */
    {"10 21 32 43 04", 31},                /* a ring */
    {"10 20 30 40 21 31 41 32 42 43", 31}, /* a mesh */
    {"10 20 31 32 43 41", 2 | 4 | 8 | 1},  /* two ways, and one hub behind */
};

static const struct bus_link_config *
terms_of(const struct shape *shape, unsigned bus)
{
	return shape->hubs >> bus & 1 ? &net_hub : &net_leaf;
}

static struct net *
build(const struct shape *shape, bool named)
{
	struct net *net = net_new();

	for (unsigned i = 0; i < BUSES; i++) {
		net_open(net, i, named);
		if (shape->hubs >> i & 1)
			net_listen(net, i, "tcp://127.0.0.1:0");
	}
	for (const char *at = shape->pairs;; at += 3) {
		unsigned from = (unsigned)(at[0] - '0'), to = (unsigned)(at[1] - '0');

		net_dial_by_wire(net, from, to, terms_of(shape, from));
		if (at[2] == '\0')
			return net;
	}
}

static void
take_a_step(struct net *net)
{
	struct cut *wire = &net->wires[any(net->links)];

	switch (any(6)) {
	case 0:
		wire->is_cut = true;
		break;
	case 1:
	case 2:
		wire->is_cut = wire->held = false;
		break;
	case 3:
		wire->held = true;
		break;
	default:
		net_say(net, any(BUSES), 1 + any(20));
	}
}

static uint64_t
late_at(const struct net *net, unsigned bus, const struct shape *shape)
{
	uint64_t late = net->listener[bus] != NULL ? stats_of(net->listener[bus]).late : 0;

	for (unsigned i = 0; i < net->links; i++)
		if ((unsigned)(shape->pairs[3 * i] - '0') == bus)
			late += stats_of(net->dialled[i]).late;
	return late;
}

/* Whether each bus has, or knows that it lacks, every message before the last `fresh` of each bus, and has those. */
static bool
is_accounted(const struct net *net, const struct shape *shape)
{
	unsigned said = 0;

	for (unsigned i = 0; i < BUSES; i++)
		said += net->said[i];
	for (unsigned i = 0; i < BUSES; i++) {
		const struct tally *tally = &net->tally[i];

		for (unsigned from = 0; from < BUSES; from++)
			if (tally->came[from][net->said[from] - 1] == 0)
				return false;
		if (tally->count + tally->lost + late_at(net, i, shape) < said)
			return false;
	}
	return true;
}

static void
check(const struct net *net)
{
	for (unsigned i = 0; i < BUSES; i++) {
		ck_assert_uint_eq(net->tally[i].twice, 0);
		ck_assert(!net->tally[i].at_least);
	}
}

static void
mend_all(struct net *net)
{
	for (unsigned i = 0; i < net->links; i++)
		net->wires[i].is_cut = net->wires[i].held = false;
	for (unsigned i = 0; i < net->links; i++)
		ck_eventually(is_up(net->dialled[i]));
}

START_TEST(no_message_arrives_twice_and_missing_ones_are_counted)
{
	const struct shape *shape = &shapes[(unsigned)_i / 2 % (sizeof shapes / sizeof *shapes)];
	struct net *net = build(shape, _i % 2);
	bool accounted = false;

	state = (uint64_t)_i;
	for (unsigned step = 0; step < STEPS; step++)
		take_a_step(net);
	mend_all(net);
	/* The next message reports a loss; a loss may arrive behind it. */
	for (unsigned i = 0; i < 100 && !accounted; i++) {
		for (unsigned bus = 0; bus < BUSES; bus++)
			net_say(net, bus, 1);
		for (unsigned looks = 0; looks < 1000 && !accounted; looks++) {
			usleep(1000);
			accounted = is_accounted(net, shape);
		}
	}
	for (unsigned i = 0; i < BUSES && !accounted; i++)
		printf("bus %u: %u came, %llu lost, %llu late\n", i, net->tally[i].count,
		    (unsigned long long)net->tally[i].lost,
		    (unsigned long long)late_at(net, i, shape));
	ck_assert_msg(accounted, "seed %d", _i);
	check(net);
	net_close(net);
}
END_TEST

enum { TOPICS = 4 };

/* Reads the value that the bus keeps of each topic, by an existing filter: a new one would fetch the values of peers. A value
 * is its maker and a count; 0: none. */
static void
look_at_values(struct bus *bus, uint64_t ret_values[TOPICS])
{
	struct bus_mailbox *mbox = subscriber(bus, "v/#");
	const struct bus_msg *msg;

	memset(ret_values, 0, TOPICS * sizeof ret_values[0]);
	while (bus_recv(mbox, 0, &msg) == 1)
		if (msg->flags & BUS_MSG_KEPT && msg->len == sizeof ret_values[0])
			memcpy(&ret_values[msg->topic[2] - '0'], msg->data, msg->len);
	bus_mailbox_close(mbox);
}

static bool
do_agree(const struct net *net)
{
	uint64_t first[TOPICS], other[TOPICS];
	bool same = true;

	look_at_values(net->bus[0], first);
	for (unsigned i = 1; i < BUSES && same; i++) {
		look_at_values(net->bus[i], other);
		same = memcmp(first, other, sizeof first) == 0;
	}
	return same;
}

static void
change_a_value(struct net *net)
{
	static uint64_t count;
	const char topic[] = {'v', '/', (char)('0' + any(TOPICS)), '\0'};
	const uint64_t value = ++count;
	const struct bus_msg msg = {.size = sizeof msg,
	    .topic = topic,
	    .data = &value,
	    .len = any(4) > 0 ? sizeof value : 0,
	    .flags = BUS_MSG_RETAIN};

	ck_bus(bus_publish_msg(net->bus[any(BUSES)], &msg), 0);
}

START_TEST(all_have_the_same_values_in_the_end)
{
	const struct shape *shape = &shapes[(unsigned)_i / 2 % (sizeof shapes / sizeof *shapes)];
	struct net *net = build(shape, _i % 2);

	state = (uint64_t)_i;
	atomic_store(&bus__repair_ns, 1000000);
	/* Without a cut no connection starts again and resends all. */
	for (unsigned step = 0; step < STEPS; step++) {
		if (_i < SEEDS)
			take_a_step(net);
		for (unsigned n = any(4); n > 0; n--)
			change_a_value(net);
	}
	mend_all(net);
	ck_eventually(do_agree(net));
	net_close(net);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("relay random");
	TCase *tcase = bus_test_case("any net");

	tcase_add_loop_test(
	    tcase, no_message_arrives_twice_and_missing_ones_are_counted, 0, SEEDS * 2);
	tcase_add_loop_test(tcase, all_have_the_same_values_in_the_end, 0, SEEDS * 2);
	suite_add_tcase(suite, tcase);
	return suite;
}
