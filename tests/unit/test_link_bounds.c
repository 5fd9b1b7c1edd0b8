/* The memory that one peer makes a bus hold is bounded in bytes, whatever it asks for. The excess is refused and counted, and
 * others notice nothing. */
#define _GNU_SOURCE
#include "link_test.h"

#include <malloc.h>

#include <libbus/bus.h>

#include "raw_peer.h"

#define MIB (size_t)(1 << 20)

enum { MANY = 10000, LARGE = 64 * 1024 };

/* The mailbox towards a peer has its own bound. */
static const struct bus_link_config bounded = {
    .size = sizeof bounded, .bytes = 64 << 10, .heartbeat_ms = 3600000, .peer_bytes = 4 * MIB};

static size_t
heap(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* A bus that listens, and a raw peer of it. */
struct rig {
	struct bus *bus;
	struct bus_link *link;
	struct raw_peer *peer;
	char url[256];
	size_t before, most; /* of the heap, since the peer joined */
};

static void
rig_join(struct rig *rig, const char *name)
{
	uint32_t peers = stats_of(rig->link).peers;

	ck_assert(raw_open(rig->peer, rig->url, name));
	ck_assert(raw_ready(rig->peer));
	ck_eventually(stats_of(rig->link).peers == peers + 1);
}

static void
rig_open(struct rig *rig, const char *name)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = name != NULL ? bus_test_dir() : NULL};

	*rig = (struct rig){.peer = calloc(1, sizeof *rig->peer)};
	ck_assert_ptr_nonnull(rig->peer);
	ck_bus(bus_open(name, &cfg, &rig->bus), 0);
	ck_bus(bus_listen(rig->bus, listen_url(1), &bounded, &rig->link), 0);
	ck_assert_int_gt(bus_link_url(rig->link, rig->url, sizeof rig->url), 0);
	rig_join(rig, "greedy");
	rig->before = rig->most = heap();
}

static void
rig_leave(struct rig *rig, int bye)
{
	uint32_t peers = stats_of(rig->link).peers;

	if (bye >= 0)
		ck_assert(raw_frame(rig->peer, BUS__FRAME_BYE, (unsigned)bye, NULL, 0) &&
			  raw_flush(rig->peer));
	close(rig->peer->fd);
	ck_eventually(stats_of(rig->link).peers == peers - 1);
}

static void
rig_close(struct rig *rig)
{
	close(rig->peer->fd);
	free(rig->peer);
	bus_link_close(rig->link);
	ck_bus(bus_close(rig->bus, 5000), 0);
}

static void
look(struct rig *rig)
{
	size_t now = heap();

	if (now > rig->most)
		rig->most = now;
}

/* Sends the peer's gathered bytes. false: the bus has closed the connection. */
static bool
flush(struct rig *rig)
{
	bool ok = raw_flush(rig->peer);

	look(rig);
	return ok;
}

static uint64_t
came(struct rig *rig)
{
	struct bus_link_stats stats = stats_of(rig->link);

	look(rig);
	return stats.received + stats.refused;
}

static bool
is_ended(struct rig *rig)
{
	look(rig);
	return stats_of(rig->link).ended[BUS_LINK_END_PROTOCOL] == 1;
}

/* --- requests of a peer ---------------------------------------------------------------------------------------------- */

static const char *
long_name(unsigned i)
{
	static char name[BUS_LIMIT_TOPIC_BYTES + 1];

	memset(name, 'x', BUS_LIMIT_TOPIC_BYTES);
	for (unsigned level = 1; level < BUS_LIMIT_TOPIC_LEVELS; level++)
		name[level * 32] = '/';
	name[snprintf(name, 8, "%06u", i)] = 'x';
	return name;
}

static const char *
short_name(unsigned i)
{
	static char name[64];

	snprintf(name, sizeof name, "0/1/2/3/4/5/6/7/8/9/a/b/c/d/%u", i);
	return name;
}

/* All of them match all short names. */
static const char *
wide_filter(unsigned i)
{
	static char name[64];

	for (unsigned bit = 0; bit < 14; bit++) {
		name[2 * bit] = i >> bit & 1 ? '+' : "0123456789abcd"[bit];
		name[2 * bit + 1] = '/';
	}
	strcpy(name + 28, "#");
	return name;
}

static bool
ask_large_values(struct rig *rig, unsigned i)
{
	static const char large[LARGE];

	return raw_text(rig->peer, BUS__FRAME_TOPIC, i, short_name(i)) &&
	       raw_message(rig->peer, i, BUS_MSG_RETAIN, 0, large, sizeof large) && flush(rig);
}

static bool
ask_small_values(struct rig *rig, unsigned i)
{
	return raw_text(rig->peer, BUS__FRAME_TOPIC, i, short_name(i)) &&
	       raw_message(rig->peer, i, BUS_MSG_RETAIN, 0, "1", 1);
}

static bool
ask_names(struct rig *rig, unsigned i)
{
	return raw_text(rig->peer, BUS__FRAME_TOPIC, i, long_name(i)) &&
	       raw_message(rig->peer, i, 0, 0, "1", 1);
}

/* Marks of values that never existed. */
static bool
ask_marks(struct rig *rig, unsigned i)
{
	return raw_text(rig->peer, BUS__FRAME_TOPIC, i, long_name(i)) &&
	       raw_message(rig->peer, i, BUS_MSG_RETAIN, 0, "", 0);
}

static bool
ask_long_filters(struct rig *rig, unsigned i)
{
	return raw_text(rig->peer, BUS__FRAME_SUB, 0, long_name(i));
}

/* Each topic has a route entry for each filter. */
static bool
ask_matches(struct rig *rig, unsigned i)
{
	if (i < 2000)
		return ask_small_values(rig, i);
	return raw_text(rig->peer, BUS__FRAME_SUB, 0, wide_filter(i));
}

/* The same, with the filters first. */
static bool
ask_matched_topics(struct rig *rig, unsigned i)
{
	if (i < 2000)
		return raw_text(rig->peer, BUS__FRAME_SUB, 0, wide_filter(i));
	return ask_small_values(rig, i);
}

static bool
ask_questions(struct rig *rig, unsigned i)
{
	if (i == 0 && !raw_text(rig->peer, BUS__FRAME_TOPIC, 0, "question"))
		return false;
	return raw_message(rig->peer, 0, 0, i + 1, "?", 1);
}

static bool
ask_all(struct rig *rig, unsigned i)
{
	switch (i % 4) {
	case 0:
		return ask_small_values(rig, i);
	case 1:
		return raw_text(rig->peer, BUS__FRAME_SUB, 0, wide_filter(i));
	case 2:
		return ask_names(rig, i);
	default:
		return i < 200 ? ask_large_values(rig, i) : ask_questions(rig, i);
	}
}

/* Leaves and reconnects under the same id. */
static bool
ask_again(struct rig *rig, unsigned i)
{
	if (i % 100 == 99) {
		rig_leave(rig, i % 200 == 99 ? 0 : -1);
		rig_join(rig, "greedy");
		rig->peer->messages = came(rig); /* some were on their way */
	}
	return i >= 1000 || ask_large_values(rig, i);
}

static const struct mix {
	const char *what;
	bool (*ask)(struct rig *rig, unsigned i);
	unsigned count;
	bool goes_beyond;
} mixes[] = {
    {"large values", ask_large_values, 200, true},
    {"small values", ask_small_values, MANY, true},
    {"names", ask_names, MANY, true},
    {"marks", ask_marks, MANY, true},
    {"long filters", ask_long_filters, MANY, true},
    {"topics, and filters that match them", ask_matches, MANY, true},
    {"filters, and topics that they match", ask_matched_topics, MANY, true},
    {"questions", ask_questions, MANY, false},
    {"all", ask_all, MANY, true},
    {"large values, and comes again", ask_again, 1000, true},
};

enum { MIXES = sizeof mixes / sizeof mixes[0] };

static void
check_bound(const struct mix *mix, const char *name)
{
	struct heard heard = {.count = 0};
	struct bus_link *honest_link;
	struct bus_link_stats stats;
	struct bus *honest = open_bus();
	struct rig rig;
	bool ok = true;

	rig_open(&rig, name);
	ck_bus(bus_subscribe(honest, "honest", hear, &heard, NULL), 0);
	ck_bus(bus_dial(honest, rig.url, &bounded, &honest_link), 0);
	ck_eventually(is_up(honest_link));
	rig.before = rig.most = heap(); /* with the mailboxes of both peers */
	for (unsigned i = 0; ok && i < mix->count; i++)
		ok = mix->ask(&rig, i);
	/* The bus has handled everything before this. */
	ok = ok && raw_text(rig.peer, BUS__FRAME_TOPIC, 1, "last") &&
	     raw_message(rig.peer, 1, 0, 0, "1", 1) && flush(&rig);
	ck_eventually(is_ended(&rig) || came(&rig) == rig.peer->messages);
	stats = stats_of(rig.link);
	ck_assert_msg(rig.most - rig.before <= bounded.peer_bytes + MIB,
	    "%s: the peer pinned %zu bytes of at most %zu", mix->what, rig.most - rig.before,
	    bounded.peer_bytes);
	if (mix->goes_beyond && name == NULL)
		ck_assert_msg(stats.refused > 0 || stats.ended[BUS_LINK_END_PROTOCOL] == 1,
		    "%s: nothing was refused", mix->what);
	if (stats.refused > 0 || stats.ended[BUS_LINK_END_PROTOCOL] == 1)
		ck_assert_int_eq(stats.last_error, BUS_E_LIMIT);
	ck_bus(bus_publish(rig.bus, "honest", "1", 1), 0);
	ck_eventually(heard.count == 1);
	bus_link_close(honest_link);
	rig_close(&rig);
	ck_bus(bus_close(honest, 5000), 0);
}

START_TEST(a_peer_pins_no_more_than_its_bytes_whatever_it_asks_for)
{
	check_bound(&mixes[_i], NULL);
}
END_TEST

START_TEST(a_peer_of_a_named_bus_pins_no_more_than_its_bytes)
{
	check_bound(&mixes[_i], "bounded");
}
END_TEST

/* --- refusals -------------------------------------------------------------------------------------------------------- */

/* Publishes values on `count` new topics of the peer, and waits for all. Returns how many were refused. */
static uint64_t
publish_values(struct rig *rig, unsigned from, unsigned count)
{
	uint64_t before = came(rig), refused = stats_of(rig->link).refused;

	for (unsigned i = from; i < from + count; i++)
		ck_assert(ask_large_values(rig, i));
	ck_eventually(came(rig) == before + count);
	return stats_of(rig->link).refused - refused;
}

static void
delete_values(struct rig *rig, unsigned count)
{
	uint64_t before = came(rig), refused = stats_of(rig->link).refused;

	for (unsigned i = 0; i < count; i++)
		ck_assert(raw_message(rig->peer, i, BUS_MSG_RETAIN, 0, "", 0));
	ck_assert(flush(rig));
	ck_eventually(came(rig) == before + count);
	ck_assert_uint_eq(stats_of(rig->link).refused, refused);
}

START_TEST(a_peer_at_its_bound_can_replace_its_values_and_delete_them)
{
	struct rig rig;
	uint64_t refused;

	rig_open(&rig, NULL);
	refused = publish_values(&rig, 0, 100);
	ck_assert_uint_gt(refused, 0);
	ck_assert_uint_lt(refused, 60); /* more than half of the bound is there for values */
	ck_assert_uint_eq(publish_values(&rig, 0, 40), 0);
	delete_values(&rig, 40);
	/* Later names have taken room since. */
	ck_assert_uint_le(publish_values(&rig, 0, 40), 2);
	rig_close(&rig);
}
END_TEST

START_TEST(values_of_a_peer_that_left_stay_on_its_account)
{
	struct rig rig;

	rig_open(&rig, NULL);
	ck_assert_uint_gt(publish_values(&rig, 0, 100), 0);
	rig_leave(&rig, _i == 0 ? 0 : -1);
	rig_join(&rig, "greedy");
	/* The connection itself took the room of one. */
	ck_assert_uint_ge(publish_values(&rig, 200, 10), 9);
	/* Another peer has its own room. */
	rig_leave(&rig, _i == 0 ? 0 : -1);
	rig_join(&rig, "modest");
	ck_assert_uint_eq(publish_values(&rig, 300, 1), 0);
	rig_close(&rig);
}
END_TEST

START_TEST(a_replaced_value_leaves_the_account)
{
	struct bus_msg msg = {.size = sizeof msg, .data = "1", .len = 1, .flags = BUS_MSG_RETAIN};
	struct rig rig;

	rig_open(&rig, NULL);
	ck_assert_uint_gt(publish_values(&rig, 0, 100), 0);
	for (unsigned i = 0; i < 10; i++) {
		msg.topic = short_name(i);
		ck_bus(bus_publish_msg(rig.bus, &msg), 0);
	}
	ck_assert_uint_eq(publish_values(&rig, 200, 5), 0);
	rig_close(&rig);
}
END_TEST

START_TEST(other_topics_that_its_filters_match_can_end_a_peer)
{
	struct rig rig;

	rig_open(&rig, NULL);
	for (unsigned i = 0; i < 1500; i++)
		ck_assert(raw_text(rig.peer, BUS__FRAME_SUB, 0, wide_filter(i)));
	ck_assert(raw_text(rig.peer, BUS__FRAME_TOPIC, 0, "done"));
	ck_assert(raw_message(rig.peer, 0, 0, 0, "1", 1) && flush(&rig));
	ck_eventually(came(&rig) == 1);
	for (unsigned i = 0; !is_ended(&rig); i++) {
		ck_assert_uint_lt(i, 100000);
		ck_bus(bus_publish(rig.bus, short_name(i % MANY), "1", 1), 0);
	}
	ck_assert_int_eq(stats_of(rig.link).last_error, BUS_E_LIMIT);
	/* Its filters ended with it. */
	close(rig.peer->fd);
	rig_join(&rig, "greedy");
	rig_close(&rig);
}
END_TEST

START_TEST(a_question_beyond_the_bound_is_declined)
{
	struct rig rig;
	uint64_t refused;

	rig_open(&rig, NULL);
	ck_assert_uint_gt(publish_values(&rig, 0, 100), 0);
	ck_assert(raw_text(rig.peer, BUS__FRAME_TOPIC, 200, short_name(0)));
	refused = stats_of(rig.link).refused;
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(raw_message(rig.peer, 200, 0, i + 1, "?", 1));
	ck_assert(flush(&rig));
	ck_eventually(stats_of(rig.link).refused > refused);
	rig_close(&rig);
}
END_TEST

enum { WARM = 20, IDLE = 200, IDLE_BYTES = 6 * 1024 };

static void
join_idle(struct rig *rig, unsigned count)
{
	char name[BUS__BUS_ID];

	for (unsigned i = 0; i < count; i++) {
		uint32_t peers = stats_of(rig->link).peers;

		snprintf(name, sizeof name, "idle%u", peers);
		ck_assert(raw_open(rig->peer, rig->url, name));
		raw_text(rig->peer, BUS__FRAME_SUB, 0, name);
		ck_assert(raw_ready(rig->peer));
		ck_eventually(stats_of(rig->link).peers == peers + 1);
	}
}

/* The descriptors are closed with the test's process. */
START_TEST(an_idle_peer_costs_its_state_and_no_buffers)
{
	const struct bus_link_config cfg = {.size = sizeof cfg, .heartbeat_ms = 3600000};
	struct rig rig = {.bus = open_bus(), .peer = calloc(1, sizeof *rig.peer)};
	size_t before;

	ck_bus(bus_listen(rig.bus, listen_url(2), &cfg, &rig.link), 0);
	ck_assert_int_gt(bus_link_url(rig.link, rig.url, sizeof rig.url), 0);
	join_idle(&rig, WARM);
	before = heap();
	join_idle(&rig, IDLE);
	/* The last READY may still be in a buffer, which then serves the next connection. */
	ck_eventually(heap() - before <= (size_t)IDLE * IDLE_BYTES);
	rig_close(&rig);
}
END_TEST

START_TEST(start_before_resume_may_not_be_sent)
{
	static const struct bus__start start = {.id = 1};
	uint8_t bytes[BUS__FRAME_HEAD + 64];
	struct rig rig;

	rig_open(&rig, NULL);
	rig_leave(&rig, 0);
	ck_assert(raw_open(rig.peer, rig.url, "early"));
	/* Without RESUME and START, which are last. */
	rig.peer->len -= BUS__FRAME_HEAD + BUS__RESUME + BUS__FRAME_HEAD + BUS__START;
	raw_bytes(rig.peer, bytes, bus__start_write(bytes, &start));
	raw_text(rig.peer, BUS__FRAME_TOPIC, 0, "question");
	raw_message(rig.peer, 0, 0, 1, "?", 1);
	ck_assert(flush(&rig));
	ck_eventually(is_ended(&rig));
	rig_close(&rig);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("link_bounds");
	TCase *bound = bus_test_case("bound");

	tcase_add_loop_test(
	    bound, a_peer_pins_no_more_than_its_bytes_whatever_it_asks_for, 0, MIXES);
	tcase_add_loop_test(bound, a_peer_of_a_named_bus_pins_no_more_than_its_bytes, 0, MIXES);
	tcase_add_loop_test(bound, values_of_a_peer_that_left_stay_on_its_account, 0, 2);
	suite_add_tcase(suite, bound);
	BUS_TEST_CASE(suite, "refused", a_peer_at_its_bound_can_replace_its_values_and_delete_them,
	    a_replaced_value_leaves_the_account, other_topics_that_its_filters_match_can_end_a_peer,
	    a_question_beyond_the_bound_is_declined, an_idle_peer_costs_its_state_and_no_buffers,
	    start_before_resume_may_not_be_sent);
	return suite;
}
