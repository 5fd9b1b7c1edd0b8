#define _GNU_SOURCE
#include "world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/bus.h>

#include "base/clock.h"
#include "base/park.h"
#include "base/thread.h"
#include "bus/bus_internal.h"
#include "mailbox/mailbox.h"

/* For bus_recv(), with a subscription to filter. */
static struct bus_mailbox *
open_polled(struct bus *bus, int full, size_t bytes, const char *filter)
{
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = full, .bytes = bytes);

	ck_bus(bus_mailbox_subscribe(mbox, filter, NULL, NULL, NULL), 0);
	return mbox;
}

static struct bus_pub *
open_pub(struct bus *bus, const char *topic, int wait_ms)
{
	const struct bus_pub_config cfg = {.size = sizeof cfg, .wait_ms = wait_ms};
	struct bus_pub *pub;

	ck_bus(bus_pub_open(bus, topic, &cfg, &pub), 0);
	return pub;
}

static int
publish_number(struct bus *bus, const char *topic, unsigned number)
{
	return bus_publish(bus, topic, &number, sizeof number);
}

static unsigned
number_of(const struct bus_msg *msg)
{
	unsigned number;

	ck_assert_uint_eq(msg->len, sizeof number);
	memcpy(&number, msg->data, sizeof number);
	return number;
}

static int
retain(struct bus *bus, const char *topic, const char *text)
{
	return bus_publish_msg(bus, &(struct bus_msg){.size = sizeof(struct bus_msg),
					.topic = topic,
					.data = text,
					.len = strlen(text),
					.flags = BUS_MSG_RETAIN});
}

static void
expect_number(struct bus_mailbox *mbox, unsigned number)
{
	const struct bus_msg *msg;

	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_assert_uint_eq(number_of(msg), number);
	ck_assert_uint_eq(msg->lost, 0);
}

static unsigned
fill(struct bus *bus, const char *topic)
{
	unsigned count = 0;
	int err;

	while ((err = publish_number(bus, topic, count)) == 0)
		count++;
	ck_bus(err, BUS_E_FULL);
	return count;
}

/* --- refuse ------------------------------------------------------------------------------------------------ */

START_TEST(message_that_one_mailbox_refuses_reaches_none)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *small = open_polled(bus, BUS_FULL_REFUSE, 4096, "t");
	struct bus_mailbox *lossy = open_polled(bus, BUS_FULL_DROP_OLDEST, 1 << 20, "t");
	struct bus_mailbox *large = open_polled(bus, BUS_FULL_REFUSE, 1 << 20, "#");
	struct bus_mailbox *all[] = {small, lossy, large};
	unsigned count = fill(bus, "t");
	const struct bus_msg *msg;

	ck_bus(publish_number(bus, "t", 1), BUS_E_FULL);
	ck_bus(publish_number(bus, "other", 2), 0); /* a topic that the full one does not want */
	for (size_t m = 0; m < 3; m++) {
		for (unsigned i = 0; i < count; i++)
			expect_number(all[m], i);
		if (all[m] == large)
			expect_number(large, 2);
		ck_bus(bus_recv(all[m], 0, &msg), 0);
		bus_mailbox_close(all[m]);
	}
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(more_refusing_mailboxes_than_claims_fit_on_the_stack)
{
	enum { MANY = 20 };
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox[MANY];
	unsigned count;

	for (int m = 0; m < MANY; m++)
		mbox[m] = open_polled(bus, BUS_FULL_REFUSE, m == MANY - 1 ? 4096 : 8192, "t");
	count = fill(bus, "t");
	for (int m = 0; m < MANY; m++) {
		for (unsigned i = 0; i < count; i++)
			expect_number(mbox[m], i);
		ck_assert_uint_eq(mailbox_stats(mbox[m]).offered, count + (m == MANY - 1));
		bus_mailbox_close(mbox[m]);
	}
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(large_payloads_are_refused_whole_too)
{
	static char large[3000];
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_REFUSE, 8192, "t");
	const struct bus_msg *msg;
	int sent = 0;

	while (bus_publish(bus, "t", large, sizeof large) == 0)
		sent++;
	ck_assert_int_eq(sent, 2);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->len, sizeof large);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_bus(bus_recv(mbox, 0, &msg), 0);
	ck_bus(bus_publish(bus, "t", large, sizeof large), 0);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(refused_retained_value_is_not_kept)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_REFUSE, 4096, "t"), *late;
	const struct bus_msg *msg;

	ck_bus(retain(bus, "t", "first"), 0);
	while (bus_publish(bus, "t", "x", 1) == 0)
		;
	ck_bus(retain(bus, "t", "second"), BUS_E_FULL);
	late = open_polled(bus, BUS_FULL_DROP_OLDEST, 0, "t");
	ck_bus(bus_recv(late, 0, &msg), 1);
	ck_assert(msg->len == 5 && memcmp(msg->data, "first", 5) == 0);
	ck_bus(bus_recv(late, 0, &msg), 0);
	bus_mailbox_close(mbox);
	bus_mailbox_close(late);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void *
send_large(void *arg)
{
	static const char data[1000];

	ck_bus(bus_pub_send(arg, data, sizeof data), 0);
	return NULL;
}

static bool
somebody_waits(struct ring *r)
{
	bool starved;

	bus__ring_lock(r);
	starved = r->starved;
	bus__ring_unlock(r);
	return starved;
}

/* Such as the claims of a publish that another mailbox refuses. */
START_TEST(room_of_abandoned_claims_is_announced)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_REFUSE, 4096, "t");
	struct bus_pub *pub = open_pub(bus, "t", -1);
	const struct ring_item item = {.len = 1000};
	struct ring_claim claims[8];
	const struct bus_msg *msg;
	pthread_t thread;
	unsigned count = 0;

	while (bus__ring_claim(&mbox->ring, &item, &claims[count]) != RING_FULL)
		ck_assert_uint_lt(++count, 8);
	pthread_create(&thread, NULL, send_large, pub);
	ck_eventually(somebody_waits(&mbox->ring));
	while (count > 0)
		bus__ring_cancel(&mbox->ring, &claims[--count], &item);
	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	pthread_join(thread, NULL);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(publisher_waits_no_longer_than_its_timeout)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_REFUSE, 4096, "t");
	struct bus_pub *pub = open_pub(bus, "t", 50);
	int64_t begun;

	fill(bus, "t");
	begun = bus_test_now_ms();
	ck_bus(bus_pub_send(pub, "x", 1), BUS_E_FULL);
	ck_assert_int_ge(bus_test_now_ms() - begun, 49);
	ck_assert_uint_eq(mailbox_stats(mbox).refused, 2); /* one by name, one after its wait */
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(thread_with_a_limit_puts_a_send_off_and_counts_no_refusal)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_REFUSE, 4096, "t");
	struct bus_pub *pub = open_pub(bus, "t", -1);
	const struct bus_slice many[] = {{"x", 1}, {"y", 1}};
	const struct bus_msg *msg;
	int64_t begun;

	fill(bus, "t");
	bus__set_may_wait(false);
	ck_assert_int_eq(bus_pub_send(pub, "x", 1), BUS__E_WAITS);
	ck_assert_int_eq(bus_pub_send_many(pub, many, 2), BUS__E_WAITS);
	begun = bus_test_now_ms();
	bus__set_wait_limit(bus__deadline_ns(50));
	ck_assert_int_eq(bus_pub_send(pub, "x", 1), BUS__E_WAITS);
	ck_assert_int_ge(bus_test_now_ms() - begun, 49);
	ck_assert_uint_eq(mailbox_stats(mbox).refused, 1); /* by name */
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_bus(bus_recv(mbox, 0, &msg), 1); /* the first has room now */
	bus__set_wait_limit(INT64_MAX);
	ck_bus(bus_pub_send(pub, "x", 1), 0);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

struct sender {
	struct bus_pub *pub;
	unsigned id, count;
	int err;
	pthread_t thread;
};

static void *
send_numbers(void *arg)
{
	struct sender *s = arg;

	for (unsigned i = 0; i < s->count && s->err == 0; i++) {
		unsigned both[] = {s->id, i};

		s->err = bus_pub_send(s->pub, both, sizeof both);
	}
	return NULL;
}

START_TEST(publishers_that_wait_lose_nothing_and_keep_their_order)
{
	enum { SENDERS = 3, EACH = 20000 };
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_REFUSE, 4096, "t");
	struct bus_mailbox *second = open_polled(bus, BUS_FULL_REFUSE, 8192, "t");
	struct bus_mailbox *both[] = {mbox, second};
	unsigned next[2][SENDERS] = {{0}}, got[2] = {0};
	struct sender senders[SENDERS];

	for (unsigned i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){open_pub(bus, "t", -1), i, EACH, 0, 0};
		ck_assert_int_eq(
		    pthread_create(&senders[i].thread, NULL, send_numbers, &senders[i]), 0);
	}
	while (got[0] + got[1] < 2 * SENDERS * EACH)
		for (int m = 0; m < 2; m++) {
			const struct bus_msg *msg;
			unsigned pair[2];

			if (bus_recv(both[m], got[m] == SENDERS * EACH ? 0 : 1, &msg) != 1)
				continue;
			memcpy(pair, msg->data, sizeof pair);
			ck_assert_uint_eq(msg->lost, 0);
			ck_assert_uint_eq(pair[1], next[m][pair[0]]);
			next[m][pair[0]]++;
			got[m]++;
		}
	for (unsigned i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		ck_bus(senders[i].err, 0);
		bus_pub_close(senders[i].pub);
	}
	ck_assert_uint_eq(mailbox_stats(mbox).refused + mailbox_stats(second).refused, 0);
	bus_mailbox_close(mbox);
	bus_mailbox_close(second);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(waiting_publisher_learns_that_its_bus_closes)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_REFUSE, 4096, "t");
	struct sender sender = {open_pub(bus, "t", -1), 0, 100000, 0, 0};

	ck_assert_int_eq(pthread_create(&sender.thread, NULL, send_numbers, &sender), 0);
	ck_eventually(mailbox_stats(mbox).pending > 4096 / 40);
	ck_assert_int_gt(bus_close(bus, 1000), 0);
	pthread_join(sender.thread, NULL);
	ck_bus(sender.err, BUS_E_CLOSED);
	bus_pub_close(sender.pub);
	bus_mailbox_close(mbox);
}
END_TEST

static void
send_from_callback(void *arg, const struct bus_msg *msg)
{
	struct bus_pub *pub = *(struct bus_pub **)arg;
	int64_t begun = bus_test_now_ms();

	(void)msg;
	ck_bus(bus_pub_send(pub, "x", 1), BUS_E_FULL);
	ck_assert_int_lt(bus_test_now_ms() - begun, patience_ms());
}

START_TEST(callback_does_not_wait_for_room)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *full = open_polled(bus, BUS_FULL_REFUSE, 4096, "t");
	struct bus_mailbox *calls = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct bus_pub *pub = open_pub(bus, "t", -1); /* for ever */

	fill(bus, "t");
	ck_bus(bus_mailbox_subscribe(calls, "go", send_from_callback, &pub, NULL), 0);
	ck_bus(bus_publish(bus, "go", "", 0), 0);
	ck_bus(bus_dispatch(calls, 0, 0), 1);
	bus_pub_close(pub);
	bus_mailbox_close(full);
	bus_mailbox_close(calls);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- latest ------------------------------------------------------------------------------------------------ */

START_TEST(latest_gives_the_newest_of_each_topic_and_counts_the_others)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_LATEST, 4096, "t/#");
	const struct bus_msg *msg;

	for (unsigned i = 0; i < 1000; i++) {
		ck_bus(publish_number(bus, "t/a", i), 0);
		if (i % 10 == 0)
			ck_bus(publish_number(bus, "t/b", i), 0);
	}
	ck_assert_uint_eq(mailbox_stats(mbox).pending, 2);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_str_eq(msg->topic, "t/a"); /* it waited first */
	ck_assert_uint_eq(number_of(msg), 999);
	ck_assert_uint_eq(msg->lost, 999);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_str_eq(msg->topic, "t/b");
	ck_assert_uint_eq(number_of(msg), 990);
	ck_assert_uint_eq(msg->lost, 99);
	ck_bus(bus_recv(mbox, 0, &msg), 0);
	ck_assert_uint_eq(mailbox_stats(mbox).lost[BUS_LOSS_REPLACED], 999 + 99);
	ck_bus(publish_number(bus, "t/a", 5), 0);
	expect_number(mbox, 5);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(latest_value_may_be_of_any_size_and_outlives_its_mailbox)
{
	static char large[5000] = "large";
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_LATEST, 0, "#");
	const struct bus_msg *msg;

	ck_bus(bus_publish(bus, "a", large, sizeof large), 0);
	ck_bus(bus_publish(bus, "a", "", 0), 0);
	ck_bus(bus_publish(bus, "b", "", 0), 0);
	ck_bus(bus_publish(bus, "b", large, sizeof large), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->len, 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->len, sizeof large);
	ck_assert_str_eq(msg->data, "large");
	ck_bus(bus_publish(bus, "a", large, sizeof large), 0);
	ck_bus(bus_publish(bus, "c", "x", 1), 0);
	bus_mailbox_close(mbox); /* with values inside, and one taken out */
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(more_topics_than_fit_drop_the_oldest_and_say_so)
{
	enum { TOPICS = 1000 };
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_LATEST, 4096, "#");
	const struct bus_msg *msg;
	uint64_t lost = 0;
	unsigned got = 0, last = 0;
	char topic[16];

	for (unsigned i = 0; i < TOPICS; i++) {
		snprintf(topic, sizeof topic, "t/%u", i);
		ck_bus(publish_number(bus, topic, i), 0);
	}
	while (bus_recv(mbox, 0, &msg) == 1) {
		last = number_of(msg);
		lost += msg->lost;
		got++;
	}
	ck_assert_uint_eq(last, TOPICS - 1);
	ck_assert_uint_gt(got, 50);
	ck_assert_uint_eq(got + lost, TOPICS);
	ck_assert_uint_eq(mailbox_stats(mbox).lost[BUS_LOSS_FULL], lost);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(kept_value_is_delivered_to_latest_unless_a_newer_message_waits)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_LATEST);
	const struct bus_msg *msg;

	ck_bus(retain(bus, "t", "one"), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "t", NULL, NULL, NULL), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->flags, BUS_MSG_KEPT | BUS_MSG_RETAIN);
	ck_assert_int_gt(msg->time_ns, 0);
	ck_assert(msg->len == 3 && memcmp(msg->data, "one", 3) == 0);
	ck_bus(retain(bus, "t", "two"), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "#", NULL, NULL, NULL), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1); /* the live one, for both */
	ck_assert_uint_eq(msg->flags, BUS_MSG_RETAIN);
	ck_assert(msg->len == 3 && memcmp(msg->data, "two", 3) == 0);
	ck_bus(bus_recv(mbox, 0, &msg), 0);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* The route from a topic to the only mailbox that wants it. */
static struct route *
route_of(struct bus *bus, const char *topic)
{
	struct stripe *stripe = bus__read_begin(bus);
	struct topic *found = bus__topic_find(bus, topic, strlen(topic));
	struct route *route = atomic_load(&found->routes)->routes[0];

	bus__read_end(stripe);
	return route;
}

START_TEST(value_without_room_leaves_its_replaced_count_to_the_next_message)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_LATEST, 4096, "#");
	struct bus_pub *pub = open_pub(bus, "x", 0);
	const struct bus_msg *msg;
	char topic[16];

	bus__ring_lock(&mbox->ring); /* a drainer is at work: no publisher makes room */
	for (unsigned i = 0; mbox->ring.dropped == 0; i++) {
		snprintf(topic, sizeof topic, "t/%u", i);
		ck_bus(publish_number(bus, topic, i), 0);
	}
	/* As if others had stored newer values while this one looked for room. */
	route_of(bus, "x")->cell.replaced = 3;
	ck_bus(bus_pub_send(pub, "x", 1), 0);
	ck_assert_uint_eq(mbox->ring.dropped, 2);
	bus__ring_unlock(&mbox->ring);
	while (bus_recv(mbox, 0, &msg) == 1)
		ck_assert_uint_eq(msg->lost, 0);
	ck_bus(publish_number(bus, "y", 1), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->lost, 2 + 3);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(latest_under_threads_ends_with_the_last_value_and_exact_counts)
{
	enum { SENDERS = 3, EACH = 50000 };
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_polled(bus, BUS_FULL_LATEST, 4096, "t/+");
	struct sender senders[SENDERS];
	unsigned last[SENDERS] = {0}, ended = 0;
	uint64_t got = 0, lost = 0;
	char topic[16];

	for (unsigned i = 0; i < SENDERS; i++) {
		snprintf(topic, sizeof topic, "t/%u", i);
		senders[i] = (struct sender){open_pub(bus, topic, 0), i, EACH, 0, 0};
		ck_assert_int_eq(
		    pthread_create(&senders[i].thread, NULL, send_numbers, &senders[i]), 0);
	}
	while (ended < SENDERS) {
		const struct bus_msg *msg;
		unsigned pair[2];

		ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
		memcpy(pair, msg->data, sizeof pair);
		ck_assert(pair[1] == 0 || pair[1] > last[pair[0]]); /* never an older one again */
		last[pair[0]] = pair[1];
		ended += pair[1] == EACH - 1;
		lost += msg->lost;
		got++;
	}
	for (unsigned i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		ck_bus(senders[i].err, 0);
		bus_pub_close(senders[i].pub);
	}
	ck_assert_uint_eq(mailbox_stats(mbox).offered, SENDERS * (uint64_t)EACH);
	ck_assert_uint_eq(mailbox_stats(mbox).delivered, got);
	ck_assert_uint_le(lost, SENDERS * (uint64_t)EACH - got);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- the publisher drains ---------------------------------------------------------------------------------- */

struct signalled {
	struct bus *bus;
	struct bus_mailbox *mbox;
	pthread_t thread;
	unsigned calls, nested, depth;
	_Atomic unsigned inside;
};

static void
note_call(void *arg, const struct bus_msg *msg)
{
	struct signalled *s = arg;

	(void)msg;
	s->thread = pthread_self();
	s->calls++;
}

START_TEST(callback_runs_inside_the_publish)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_PUBLISHER);
	struct bus_pub *pub = open_pub(bus, "t", 0);
	struct signalled s = {.calls = 0};
	const struct bus_slice two[] = {{"x", 1}, {"y", 1}};
	const struct bus_msg *msg;

	ck_bus(bus_mailbox_subscribe(mbox, "t", note_call, &s, NULL), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_assert_uint_eq(s.calls, 1);
	ck_bus(bus_pub_send(pub, "x", 1), 0);
	ck_assert_uint_eq(s.calls, 2);
	ck_bus(bus_pub_send_many(pub, two, 2), 2);
	ck_assert_uint_eq(s.calls, 4);
	ck_bus(retain(bus, "t", "kept"), 0);
	ck_assert_uint_eq(s.calls, 5);
	ck_bus(bus_mailbox_subscribe(mbox, "#", note_call, &s, NULL), 0); /* its kept value */
	ck_assert_uint_eq(s.calls, 6);
	ck_assert(pthread_equal(s.thread, pthread_self()));
	ck_bus(bus_mailbox_subscribe(mbox, "u", NULL, NULL, NULL), BUS_E_INVAL);
	ck_bus(bus_recv(mbox, 0, &msg), BUS_E_INVAL);
	ck_bus(bus_dispatch(mbox, 0, 0), BUS_E_INVAL);
	ck_bus(bus_mailbox_fd(mbox), BUS_E_INVAL);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
publish_again(void *arg, const struct bus_msg *msg)
{
	struct signalled *s = arg;

	(void)msg;
	ck_assert_uint_eq(s->depth, 0);
	s->depth++;
	if (++s->calls < 100) {
		ck_bus(bus_publish(s->bus, "t", "x", 1), 0);
		/* Another topic and another filter, made while the outer publish is under way. */
		ck_bus(bus_publish(s->bus, "new", "x", 1), 0);
		ck_bus(bus_mailbox_subscribe(s->mbox, "u", note_call, s, NULL), 0);
	}
	s->depth--;
}

START_TEST(publish_inside_such_a_callback_is_delivered_after_it)
{
	struct bus *bus = open_bus();
	struct signalled s = {.bus = bus};

	s.mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_PUBLISHER);
	ck_bus(bus_mailbox_subscribe(s.mbox, "t", publish_again, &s, NULL), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_assert_uint_eq(s.calls, 100);
	bus_mailbox_close(s.mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
close_own(void *arg, const struct bus_msg *msg)
{
	struct signalled *s = arg;

	(void)msg;
	s->calls++;
	bus_mailbox_close(s->mbox);
}

START_TEST(mailbox_may_close_inside_the_publish_that_drains_it)
{
	struct bus *bus = open_bus();
	struct signalled s = {.bus = bus};

	s.mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_PUBLISHER);
	ck_bus(bus_mailbox_subscribe(s.mbox, "t", close_own, &s, NULL), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_assert_uint_eq(s.calls, 1);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
alone(void *arg, const struct bus_msg *msg)
{
	struct signalled *s = arg;

	(void)msg;
	ck_assert_uint_eq(s->inside++, 0);
	s->calls++; /* not atomic: the drainer role orders it */
	s->inside--;
}

START_TEST(many_publishers_drain_one_at_a_time)
{
	enum { SENDERS = 3, EACH = 30000 };
	struct bus *bus = open_bus();
	struct signalled s = {.bus = bus};
	struct sender senders[SENDERS];

	s.mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_PUBLISHER, .full = BUS_FULL_REFUSE);
	ck_bus(bus_mailbox_subscribe(s.mbox, "t", alone, &s, NULL), 0);
	for (unsigned i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){open_pub(bus, "t", -1), i, EACH, 0, 0};
		ck_assert_int_eq(
		    pthread_create(&senders[i].thread, NULL, send_numbers, &senders[i]), 0);
	}
	for (unsigned i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		ck_bus(senders[i].err, 0);
		bus_pub_close(senders[i].pub);
	}
	/* The thread that ends the last sleep has handled everything when its send returns. */
	ck_assert_uint_eq(s.calls, SENDERS * EACH);
	ck_assert_uint_eq(mailbox_stats(s.mbox).delivered, SENDERS * EACH);
	bus_mailbox_close(s.mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- positions --------------------------------------------------------------------------------------------------- */

static void
ck_reached(struct bus_mailbox *m)
{
	struct bus_stats stats = {.size = sizeof stats};
	uint64_t reached;
	int nothing_waits = bus_mailbox_reached(m, &reached);

	ck_bus(bus_mailbox_stats(m, &stats), 0);
	ck_assert_uint_eq(reached, stats.reached);
	ck_assert_int_eq(nothing_waits, stats.reached == stats.goal);
}

static void
put_in_and_take_out(int policy)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *m = open_polled(bus, policy, 4096, "a/#");
	static char payload[2000];
	const struct bus_msg *msg;

	ck_reached(m);
	for (int step = 0; step < 3000; step++) {
		if (rand() % 5 < 3)
			ck_bus(bus_publish(bus, rand() % 2 ? "a/b" : "a/c", payload,
				   (size_t)rand() % sizeof payload),
			    0);
		else
			ck_assert_int_ge(bus_recv(m, 0, &msg), 0);
		ck_reached(m);
	}
	ck_bus(bus_publish(bus, "a/b", "x", 1), 0);
	bus_close(bus, 0);
	ck_reached(m);
	bus_mailbox_close(m);
}

START_TEST(how_far_a_mailbox_is_read_agrees_with_its_counters_after_each_step)
{
	srand(1);
	put_in_and_take_out(BUS_FULL_DROP_OLDEST);
	put_in_and_take_out(BUS_FULL_DROP_NEWEST);
	put_in_and_take_out(BUS_FULL_LATEST);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("policy");

	BUS_TEST_CASE(suite, "refuse", message_that_one_mailbox_refuses_reaches_none,
	    more_refusing_mailboxes_than_claims_fit_on_the_stack,
	    large_payloads_are_refused_whole_too, refused_retained_value_is_not_kept,
	    room_of_abandoned_claims_is_announced, publisher_waits_no_longer_than_its_timeout,
	    thread_with_a_limit_puts_a_send_off_and_counts_no_refusal,
	    publishers_that_wait_lose_nothing_and_keep_their_order,
	    waiting_publisher_learns_that_its_bus_closes, callback_does_not_wait_for_room);
	BUS_TEST_CASE(suite, "latest", latest_gives_the_newest_of_each_topic_and_counts_the_others,
	    latest_value_may_be_of_any_size_and_outlives_its_mailbox,
	    more_topics_than_fit_drop_the_oldest_and_say_so,
	    kept_value_is_delivered_to_latest_unless_a_newer_message_waits,
	    value_without_room_leaves_its_replaced_count_to_the_next_message,
	    latest_under_threads_ends_with_the_last_value_and_exact_counts);
	BUS_TEST_CASE(suite, "publisher", callback_runs_inside_the_publish,
	    publish_inside_such_a_callback_is_delivered_after_it,
	    mailbox_may_close_inside_the_publish_that_drains_it,
	    many_publishers_drain_one_at_a_time);
	BUS_TEST_CASE(
	    suite, "reached", how_far_a_mailbox_is_read_agrees_with_its_counters_after_each_step);
	return suite;
}
