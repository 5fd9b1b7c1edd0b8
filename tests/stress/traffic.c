#include "traffic.h"

#include <sched.h>
#include <string.h>

enum {
	MANY = 32,
	MANY_LEN = 300, /* most in a batch: some are too large for the short way */
	ECHO_EACH = 64,
	LAST = 1
};

struct label {
	uint32_t stream, flags;
	uint64_t number, order;
};

const char *
topic_name(unsigned topic)
{
	static const char *const names[] = {"s/a", "s/b", "s/c/d", "s/e", "t/a", "t/b", "t/c/d",
	    "t/e/f/g", "u", "u/v", "u/v/w", "/", "echo"};

	return names[topic];
}

static void
compose(uint8_t *to, uint32_t len, struct label label)
{
	memcpy(to, &label, sizeof label);
	memcpy(to + sizeof label, stress_noise(label.number), len - sizeof label);
}

static bool
is_whole(const uint8_t *data, size_t len, uint64_t number)
{
	return memcmp(data + sizeof(struct label), stress_noise(number),
		   len - sizeof(struct label)) == 0;
}

/* --- publishing --------------------------------------------------------------------------------------------- */

struct publisher
publisher_of(struct bus *bus, unsigned id, uint64_t operations, uint64_t seed, int wait_ms)
{
	const struct bus_pub_config cfg = {.size = sizeof cfg, .wait_ms = wait_ms};
	struct publisher p = {.bus = bus,
	    .id = id,
	    .operations = operations,
	    .dice = dice_of(seed, id),
	    .large = true};

	for (unsigned t = 0; t < TOPICS; t++)
		must(bus_pub_open(bus, topic_name(t), &cfg, &p.pubs[t]) == 0);
	return p;
}

void
publisher_close(struct publisher *p)
{
	for (unsigned t = 0; t < TOPICS; t++)
		bus_pub_close(p->pubs[t]);
}

static struct label
label_of(const struct publisher *p, unsigned topic, unsigned ahead)
{
	return (struct label){
	    p->id * TOPICS + topic, 0, p->next[topic] + ahead, p->accepted + ahead};
}

static uint32_t
some_len(struct publisher *p)
{
	uint32_t roll = dice_below(&p->dice, 16);
	uint32_t most = roll < 11 ? 128 : roll < 15 || !p->large ? 1024 : TRAFFIC_MOST;

	return (uint32_t)sizeof(struct label) +
	       dice_below(&p->dice, most - (uint32_t)sizeof(struct label) + 1);
}

/* Counts what a publish of `count` messages answered. */
static void
note(struct publisher *p, unsigned topic, unsigned count, int answer)
{
	unsigned sent = answer < 0 ? 0 : count;

	must(answer >= 0 || answer == BUS_E_FULL || answer == BUS_E_CLOSED);
	p->next[topic] += sent;
	p->accepted += sent;
	p->refused += answer == BUS_E_FULL;
	p->last = answer;
}

static void
send_one(struct publisher *p, unsigned topic, bool by_name)
{
	uint8_t data[TRAFFIC_MOST];
	uint32_t len = some_len(p);

	compose(data, len, label_of(p, topic, 0));
	note(p, topic, 1,
	    by_name ? bus_publish(p->bus, topic_name(topic), data, len)
		    : bus_pub_send(p->pubs[topic], data, len));
}

static void
send_with_headers(struct publisher *p, unsigned topic)
{
	static const uint8_t headers[] = {0x81, 0xA1, 'k', 0x01};
	uint8_t data[TRAFFIC_MOST];
	uint32_t len = some_len(p);

	compose(data, len, label_of(p, topic, 0));
	note(p, topic, 1,
	    bus_publish_msg(p->bus, &(struct bus_msg){.size = sizeof(struct bus_msg),
					.topic = topic_name(topic),
					.data = data,
					.len = len,
					.headers = headers,
					.headers_len = sizeof headers}));
}

static void
send_many(struct publisher *p, unsigned topic, unsigned count)
{
	uint8_t data[MANY][MANY_LEN];
	struct bus_slice items[MANY];
	int sent;

	for (unsigned i = 0; i < count; i++) {
		uint32_t len = (uint32_t)sizeof(struct label) +
			       dice_below(&p->dice, MANY_LEN - (uint32_t)sizeof(struct label));

		compose(data[i], len, label_of(p, topic, i));
		items[i] = (struct bus_slice){data[i], len};
	}
	sent = bus_pub_send_many(p->pubs[topic], items, count);
	if (sent <= 0) {
		note(p, topic, count, sent);
		return;
	}
	note(p, topic, (unsigned)sent, 0);
	p->unsure += (unsigned)sent < count;
}

static void
send_loan(struct publisher *p, unsigned topic)
{
	uint32_t len = some_len(p);
	void *data;
	int err = bus_pub_loan(p->pubs[topic], len, &data);

	if (err < 0) {
		note(p, topic, 1, err);
		return;
	}
	compose(data, len, label_of(p, topic, 0));
	note(p, topic, 1, bus_pub_commit(p->pubs[topic], data, len));
	bus_pub_abort(p->pubs[topic], data); /* where it was not accepted */
}

void *
publisher_run(void *arg)
{
	struct publisher *p = arg;
	unsigned count;

	for (uint64_t done = 0; done < p->operations && p->last != BUS_E_CLOSED; done += count) {
		unsigned topic = dice_below(&p->dice, TOPICS), roll = dice_below(&p->dice, 16);

		count = 1;
		if (roll < 6 || (p->handles && roll < 12)) {
			send_one(p, topic, false);
		} else if (roll < 10) {
			send_one(p, topic, true);
		} else if (roll < 12) {
			send_with_headers(p, topic);
		} else if (roll < 14) {
			count = 2 + dice_below(&p->dice, MANY - 1);
			if (count > p->operations - done)
				count = (unsigned)(p->operations - done);
			send_many(p, topic, count);
		} else {
			send_loan(p, topic);
		}
		if (p->last == BUS_E_FULL)
			sched_yield();
		stress_did(count);
	}
	return NULL;
}

/* --- reading ------------------------------------------------------------------------------------------------ */

static void
echo(struct reader *r)
{
	const struct label label = {ECHO, 0, r->echoed, 0};
	int err = bus_publish(r->echoes, topic_name(TOPICS), &label, sizeof label);

	must(err == 0 || err == BUS_E_FULL || err == BUS_E_CLOSED);
	r->echoed += err == 0;
	r->echo_refused += err == BUS_E_FULL;
}

static void
check_order(struct reader *r, const struct label *label, uint64_t lost)
{
	uint64_t *order = &r->order[label->stream / TOPICS];

	must(label->order >= *order);
	if (r->told_at_once)
		must_eq(lost, label->order - *order);
	*order = label->order + 1;
}

void
reader_read(void *arg, const struct bus_msg *msg)
{
	struct reader *r = arg;
	struct label label;
	uint64_t gap;

	must(msg->len >= sizeof label);
	memcpy(&label, msg->data, sizeof label);
	must(label.stream < STREAMS);
	must(strcmp(msg->topic,
		 topic_name(label.stream == ECHO ? TOPICS : label.stream % TOPICS)) == 0);
	must(is_whole(msg->data, msg->len, label.number));
	must(label.number >= r->next[label.stream]);
	gap = label.number - r->next[label.stream];
	r->next[label.stream] = label.number + 1;
	r->gaps += gap;
	r->told += msg->lost;
	must(!r->lossless || (gap == 0 && msg->lost == 0));
	if (r->in_order && label.stream != ECHO)
		check_order(r, &label, msg->lost);
	if (label.flags & LAST) {
		r->ended[label.stream] = true;
	} else if (r->echoes != NULL && label.stream != ECHO &&
		   dice_below(&r->dice, ECHO_EACH) == 0) {
		echo(r);
	}
	r->got++;
}

/* --- the end ------------------------------------------------------------------------------------------------ */

struct bus_stats
traffic_stats(struct bus_mailbox *mbox)
{
	struct bus_stats s = {.size = sizeof s};

	must(bus_mailbox_stats(mbox, &s) == 0);
	must_eq(s.offered, s.delivered + s.pending + s.refused + traffic_lost(&s));
	return s;
}

uint64_t
traffic_lost(const struct bus_stats *stats)
{
	uint64_t sum = 0;

	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		sum += stats->lost[i];
	return sum;
}

/* Waits until the reader is through with all that there is. The order of looks matters: what it has published by
 * itself counts as pending before it counts as read. */
static void
settle(struct bus_mailbox *mbox, struct reader *r)
{
	for (;;) {
		uint64_t got = r->got;
		struct bus_stats s = traffic_stats(mbox);

		if (s.pending == 0 && s.delivered == got)
			return;
		stress_nap(200);
	}
}

static bool
is_over(const struct audience *a, unsigned stream)
{
	bool over = true;

	for (unsigned i = 0; i < a->count; i++) {
		settle(a->mboxes[i], &a->readers[i]);
		over = over && a->readers[i].ended[stream];
	}
	return over;
}

static void
say_last(struct publisher *p, unsigned topic)
{
	struct label label = label_of(p, topic, 0);

	label.flags = LAST;
	note(p, topic, 1, bus_pub_send(p->pubs[topic], &label, sizeof label));
}

void
publisher_say_last(struct publisher *p)
{
	for (unsigned t = 0; t < TOPICS; t++)
		do
			say_last(p, t);
		while (p->last == BUS_E_FULL);
}

/* Until all have it: an empty mailbox may drop it all the same, if its drainer is just at work. */
static void
end_stream(struct publisher *p, unsigned topic, const struct audience *a)
{
	while (!is_over(a, label_of(p, topic, 0).stream))
		say_last(p, topic);
}

static void
end_echo(struct bus *bus, const struct audience *a)
{
	struct reader *r = &a->readers[0];

	while (!is_over(a, ECHO)) {
		const struct label label = {ECHO, LAST, r->echoed, 0};
		int err = bus_publish(bus, topic_name(TOPICS), &label, sizeof label);

		must(err == 0 || err == BUS_E_FULL);
		r->echoed += err == 0;
		r->echo_refused += err == BUS_E_FULL;
	}
}

void
traffic_end(struct publisher *publishers, unsigned count, const struct audience *a)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned t = 0; t < TOPICS; t++)
			end_stream(&publishers[i], t, a);
	if (a->readers[0].echoes != NULL)
		end_echo(a->readers[0].echoes, a);
}
