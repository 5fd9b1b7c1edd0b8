/* What a reader of a named bus loses is counted, and the slow and the stopped hold up no others. */
#define _GNU_SOURCE
#include "fake_clock.h"
#include "named_test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stopped_writer.h"

START_TEST(mailbox_that_is_lapped_loses_exactly_what_it_says)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "#");
	static char payload[1000];
	const struct bus_msg *msg;
	uint64_t next = 0, told = 0, last = 0;
	int got;

	for (uint64_t i = 0; i < 20000; i++) { /* 20 MB in 4 */
		memcpy(payload, &i, sizeof i);
		must_bus(bus_publish(bus, i % 3 ? "a" : "b", payload, sizeof payload));
	}
	while ((got = bus_recv(m, 100, &msg)) == 1) {
		uint64_t i;

		memcpy(&i, msg->data, sizeof i);
		must(i == next + msg->lost);
		told += msg->lost;
		next = i + 1;
		last = i;
	}
	ck_assert_int_eq(got, 0);
	ck_assert_uint_eq(last, 19999);
	ck_assert_uint_gt(told, 10000);
	ck_assert_uint_eq(mailbox_stats(m).lost[BUS_LOSS_LAPPED], told);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(what_is_in_hand_stays_and_what_lies_behind_it_is_lost_and_counted)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "wanted");
	static char payload[10000];
	const struct bus_msg *msg;
	uint64_t before = 1; /* records behind the first one */

	publish_text(bus, "other", "is known by now");
	expect_nothing(m);
	publish_text(bus, "wanted", "first");
	for (int i = 0; i < 50; i++, before++) /* more than a segment */
		must_bus(bus_publish(bus, "other", payload, sizeof payload));
	publish_text(bus, "wanted", "second");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	for (int i = 0; i < 1000; i++, before++) /* all of the log, twice */
		must_bus(bus_publish(bus, "other", payload, sizeof payload));
	ck_assert_mem_eq(msg->data, "first", 5);
	publish_text(bus, "wanted", "third");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->len, 5);
	ck_assert_mem_eq(msg->data, "third", 5);
	ck_assert(msg->lost > 500 && msg->lost < before);
	ck_assert_uint_eq(mailbox_stats(m).lost[BUS_LOSS_LAPPED], msg->lost);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(nobody_who_waits_holds_up_the_others)
{
	/* More idle mailboxes than the log has segments, each with a message taken from another one. */
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *idle[40];
	static char payload[10000];

	for (int i = 0; i < 40; i++) {
		const struct bus_msg *msg;

		idle[i] = subscriber(bus, "#");
		for (int n = 0; n < 40; n++)
			must_bus(bus_publish(bus, "t", payload, sizeof payload));
		if (i % 2)
			continue; /* it has not even begun to read */
		must(bus_recv(idle[i], 0, &msg) == 1);
		/* All is taken: it has none in its hands. */
		while (bus_recv(idle[i], 0, &msg) == 1)
			;
	}
	for (int i = 0; i < 1000; i++)
		must_bus(bus_publish(bus, "t", payload, sizeof payload));
	for (int i = 0; i < 40; i++)
		bus_mailbox_close(idle[i]);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(latest_keeps_the_newest_of_each_topic)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = open_mailbox(bus, "#", .full = BUS_FULL_LATEST);
	const struct bus_msg *msg;

	write_steps(bus, 0, 1000);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_mem_eq(msg->data, "998", 3);
	ck_assert_uint_eq(msg->lost, 499);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_mem_eq(msg->data, "999", 3);
	ck_assert_uint_eq(mailbox_stats(m).lost[BUS_LOSS_REPLACED], 998);
	expect_nothing(m);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(latest_begins_with_its_subscription)
{
	struct bus *bus = join(bus_test_dir());
	const struct bus_msg *msg;
	struct bus_mailbox *m = open_mailbox(bus, "a", .full = BUS_FULL_LATEST);
	struct bus_stats s = {.size = sizeof s};

	/* It reads everything, and "b" was nothing to it then. */
	publish_text(bus, "b", "before");
	ck_bus(bus_mailbox_subscribe(m, "b", NULL, NULL, NULL), 0);
	expect_nothing(m);
	publish_text(bus, "b", "after");
	expect_message(m, "b", "after");
	retain_text(bus, "c", "kept");
	ck_bus(bus_mailbox_subscribe(m, "c", NULL, NULL, NULL), 0);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_str_eq(msg->topic, "c");
	ck_assert(msg->flags & BUS_MSG_KEPT);
	ck_assert_uint_eq(msg->lost, 0);
	ck_bus(bus_mailbox_stats(m, &s), 0);
	ck_assert_uint_eq(s.lost[BUS_LOSS_REPLACED], 0);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static void
count_slowly(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	usleep(100000);
	++*(_Atomic unsigned *)arg;
}

START_TEST(flush_waits_for_the_latest_too)
{
	struct bus *bus = join(bus_test_dir());
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .full = BUS_FULL_LATEST, .drain = BUS_DRAIN_THREAD};
	_Atomic unsigned calls = 0;
	struct bus_mailbox *m;

	ck_bus(bus_mailbox_open(bus, &cfg, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "#", count_slowly, (void *)&calls, NULL), 0);
	for (unsigned i = 1; i <= 3; i++) {
		publish_text(bus, "t", "x");
		ck_bus(bus_flush(bus, patience_ms()), 0);
		ck_assert_uint_eq(calls, i);
	}
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* A drainer that only ever caught up would never get to a callback, nor to its end. */
START_TEST(flood_does_not_keep_the_latest_from_its_callbacks)
{
	struct flood f = {.bus = join(bus_test_dir())};
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .full = BUS_FULL_LATEST, .drain = BUS_DRAIN_THREAD};
	_Atomic unsigned calls = 0;
	struct bus_mailbox *m;
	struct bus_sub *sub;
	pthread_t threads[2];

	ck_bus(bus_mailbox_open(f.bus, &cfg, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "#", count_message, (void *)&calls, &sub), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, flood, &f), 0);
	ck_eventually(calls > 100);
	bus_unsubscribe(sub, NULL);
	f.over = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	bus_mailbox_close(m);
	ck_bus(bus_close(f.bus, 0), 0);
}
END_TEST

/* Each keeps the memory in which it was stopped. */
START_TEST(publish_is_refused_where_stopped_writers_hold_all_memory)
{
	enum { MOST = 40 };
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir);
	static char large[100000];
	const struct bus_msg question = {.size = sizeof question, .topic = "q", .reply_to = 1};
	pid_t stopped[MOST];
	struct bus_pub *pub;
	unsigned count = 0;
	void *loan;
	int err = 0;

	ck_bus(bus_pub_open(bus, "a", NULL, &pub), 0);
	while (err == 0) {
		must(count < MOST);
		stopped[count++] = bus_test_stop_writer(dir, "test");
		for (int i = 0; i < 3 && err == 0; i++)
			err = bus_pub_send(pub, large, sizeof large);
	}
	ck_bus(err, BUS_E_FULL);
	ck_assert_uint_ge(count, 12);
	ck_bus(bus_pub_loan(pub, sizeof large, &loan), 0);
	memset(loan, 0, sizeof large);
	ck_bus(bus_pub_commit(pub, loan, sizeof large), BUS_E_FULL);
	ck_bus(bus_reply(bus, &question, large, sizeof large), BUS_E_FULL);
	ck_assert_msg(strstr(bus_error_text(),
			  "q: full: stopped processes hold all of the bus's log") != NULL,
	    "%s", bus_error_text());
	for (unsigned i = 0; i < count; i++) {
		kill(stopped[i], SIGKILL);
		ck_assert_int_eq(waitpid(stopped[i], NULL, 0), stopped[i]);
	}
	ck_bus(bus_pub_commit(pub, loan, sizeof large), 0);
	bus_pub_close(pub);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* Programs that have taken out one message and do something else. */
START_TEST(who_does_not_come_back_for_the_rest_holds_up_nobody)
{
	enum { MANY = 40 };
	struct bus *bus = join(bus_test_dir());
	static char large[100000];
	struct bus_mailbox *all[MANY];
	const struct bus_msg *msgs[MANY];

	for (uint64_t i = 0; i < MANY; i++) {
		all[i] = subscriber(bus, "a");
		memcpy(large, &i, sizeof i);
		for (int k = 0; k < 3; k++)
			must_bus(bus_publish(bus, "a", large, 100));
		if (i % 2 == 0)
			must(bus_recv(all[i], 0, &msgs[i]) == 1);
		else
			must(bus_dispatch(all[i], 0, 1) == 1);
		for (int k = 0; k < 3; k++) /* more than a segment */
			must_bus(bus_publish(bus, "b", large, sizeof large));
	}
	for (uint64_t i = 0; i < MANY; i++) {
		if (i % 2 == 0)
			must(memcmp(msgs[i]->data, &i, sizeof i) == 0 && msgs[i]->len == 100);
		/* What was taken out with it is still there. */
		for (int k = 0; k < 2; k++) {
			must(bus_recv(all[i], 0, &msgs[i]) == 1);
			must(memcmp(msgs[i]->data, &i, sizeof i) == 0 && msgs[i]->lost == 0);
		}
		bus_mailbox_close(all[i]);
	}
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(handle_keeps_no_route_of_others)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_stats s = {.size = sizeof s};
	const struct bus_msg *msg;
	struct bus_mailbox *m = subscriber(bus, "z");
	struct bus_pub *pub;
	struct bus_sub *sub;

	ck_bus(bus_mailbox_subscribe(m, "a", NULL, NULL, &sub), 0);
	publish_text(bus, "a", "x");
	expect_message(m, "a", "x");
	ck_bus(bus_recv(m, 0, &msg), 0);
	ck_bus(bus_pub_open(bus, "a", NULL, &pub), 0);
	bus_unsubscribe(sub, NULL);
	for (int i = 0; i < 100; i++)
		ck_bus(bus_pub_send(pub, "x", 1), 0);
	expect_nothing(m);
	ck_bus(bus_mailbox_stats(m, &s), 0);
	ck_assert_uint_eq(s.lost[BUS_LOSS_UNSUBSCRIBED], 0);
	bus_pub_close(pub);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(value_that_has_expired_is_no_loss)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_stats s = {.size = sizeof s};
	const struct bus_msg *msg;
	struct bus_mailbox *m;

	ck_bus(bus_publish_msg(bus, &(struct bus_msg){.size = sizeof *msg,
					.topic = "a",
					.data = "old",
					.len = 3,
					.flags = BUS_MSG_RETAIN,
					.ttl_ms = 1}),
	    0);
	clock_pass_ms(20);
	m = subscriber(bus, "a");
	publish_text(bus, "a", "new");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->lost, 0);
	ck_bus(bus_mailbox_stats(m, &s), 0);
	ck_assert_uint_eq(s.lost[BUS_LOSS_EXPIRED], 0);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("named loss");

	BUS_TEST_CASE(suite, "losses", mailbox_that_is_lapped_loses_exactly_what_it_says,
	    what_is_in_hand_stays_and_what_lies_behind_it_is_lost_and_counted,
	    nobody_who_waits_holds_up_the_others, latest_keeps_the_newest_of_each_topic,
	    latest_begins_with_its_subscription, flush_waits_for_the_latest_too,
	    flood_does_not_keep_the_latest_from_its_callbacks,
	    publish_is_refused_where_stopped_writers_hold_all_memory,
	    who_does_not_come_back_for_the_rest_holds_up_nobody, handle_keeps_no_route_of_others,
	    value_that_has_expired_is_no_loss);
	return suite;
}
