/* Where a subscription to a named bus starts: with what is kept, in the past, or now. */
#define _GNU_SOURCE
#include "fake_clock.h"
#include "named_test.h"

#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"

/* --- beginnings ------------------------------------------------------------------------------------------------------ */

START_TEST(kept_value_comes_first_and_flagged)
{
	struct bus *bus = join(bus_test_dir()), *other = join(bus_test_dir());
	struct bus_mailbox *m;
	const struct bus_msg *msg;

	retain_text(bus, "v/1", "old");
	retain_text(bus, "v/1", "new");
	retain_text(bus, "v/2", "gone");
	retain_text(bus, "v/2", "");
	publish_text(bus, "v/3", "not kept");
	m = subscriber(other, "v/#");
	publish_text(bus, "v/1", "live");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->flags, BUS_MSG_KEPT | BUS_MSG_RETAIN);
	ck_assert_str_eq(msg->topic, "v/1");
	ck_assert_mem_eq(msg->data, "new", 3);
	ck_assert_int_gt(msg->time_ns, 0);
	expect_message(m, "v/1", "live");
	expect_nothing(m);
	/* A second subscription of the mailbox has it for itself. */
	ck_bus(bus_mailbox_subscribe(m, "v/1", NULL, NULL, NULL), 0);
	expect_message(m, "v/1", "new");
	expect_nothing(m);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
	ck_bus(bus_close(other, 0), 0);
}
END_TEST

static struct bus_mailbox *
open_from(struct bus *bus, const char *filter, int from, uint64_t value)
{
	return open_mailbox(bus, filter, .from = from, .from_value = value);
}

START_TEST(mailbox_begins_where_it_is_told_to_and_goes_on_with_what_comes)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *oldest, *last, *none, *behind, *since, *now;
	const struct bus_msg *msg;
	uint64_t fifth = 0;
	int64_t time_ns;

	write_steps(bus, 0, 10);
	clock_pass_ms(50);
	time_ns = bus__wall_ns() - 20000000;
	write_steps(bus, 10, 12);
	oldest = open_from(bus, "odd", BUS_FROM_OLDEST, 0);
	last = open_from(bus, "odd", BUS_FROM_LAST, 2);
	none = open_from(bus, "odd", BUS_FROM_LAST, 0);
	since = open_from(bus, "#", BUS_FROM_TIME, (uint64_t)time_ns);
	now = open_from(bus, "#", BUS_FROM_NOW, 0);
	for (int i = 1; i < 12; i += 2) {
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		ck_bus(bus_recv(oldest, patience_ms(), &msg), 1);
		ck_assert_mem_eq(msg->data, text, strlen(text));
		ck_assert_uint_eq(msg->lost, 0);
		if (i == 5)
			fifth = msg->position;
	}
	expect_message(last, "odd", "9");
	expect_message(last, "odd", "11");
	expect_nothing(last);
	expect_nothing(none);
	expect_message(since, "even", "10");
	expect_message(since, "odd", "11");
	behind = open_from(bus, "#", BUS_FROM_POSITION, fifth);
	expect_message(behind, "even", "6");
	write_steps(bus, 12, 14);
	for (int i = 7; i < 14; i++) {
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		expect_message(behind, i % 2 ? "odd" : "even", text);
	}
	expect_message(oldest, "odd", "13");
	expect_message(last, "odd", "13");
	expect_message(none, "odd", "13");
	expect_message(now, "even", "12");
	expect_message(since, "even", "12");
	bus_mailbox_close(oldest);
	bus_mailbox_close(last);
	bus_mailbox_close(none);
	bus_mailbox_close(behind);
	bus_mailbox_close(since);
	bus_mailbox_close(now);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(mailbox_behind_the_last_position_gets_what_is_published_after)
{
	struct bus *bus = join(bus_test_dir()), *private = open_bus();
	struct bus_mailbox *m;

	publish_text(bus, "t", "before");
	m = open_mailbox(bus, NULL, .from = BUS_FROM_POSITION, .from_value = bus_position(bus),
	    .from_epoch = bus_epoch(bus));
	publish_text(bus, "t", "between");
	ck_bus(bus_mailbox_subscribe(m, "t", NULL, NULL, NULL), 0);
	publish_text(bus, "t", "after");
	expect_message(m, "t", "between");
	ck_assert_uint_eq(expect_message(m, "t", "after")->position, bus_position(bus));
	ck_assert_uint_eq(bus_position(private), 0);
	bus_mailbox_close(m);
	ck_bus(bus_close(private, 0), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(position_of_another_life_is_told_apart)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox_config cfg = {.size = sizeof cfg, .from = BUS_FROM_POSITION};
	struct bus_mailbox *m;

	ck_assert_uint_ne(bus_epoch(bus), 0);
	ck_assert_uint_eq(bus_epoch(NULL), 0);
	ck_assert_uint_eq(bus_position(NULL), 0);
	cfg.from_epoch = bus_epoch(bus);
	ck_bus(bus_mailbox_open(bus, &cfg, &m), 0);
	bus_mailbox_close(m);
	cfg.from_epoch ^= 1;
	ck_bus(bus_mailbox_open(bus, &cfg, &m), BUS_E_RESET);
	cfg.from_epoch = 0; /* it was not noted; but nothing has that position yet */
	cfg.from_value = 1000;
	ck_bus(bus_mailbox_open(bus, &cfg, &m), BUS_E_RESET);
	cfg.from = BUS_FROM_LAST;
	cfg.from_value = 10001;
	ck_bus(bus_mailbox_open(bus, &cfg, &m), BUS_E_LIMIT);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static void
write_until_told(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *end = subscriber(bus, "end");
	const struct bus_msg *msg;
	struct bus_pub *pub;

	(void)number;
	ck_bus(bus_pub_open(bus, "n", NULL, &pub), 0);
	for (uint64_t i = 1; i % 64 != 0 || bus_recv(end, 0, &msg) == 0; i++) {
		must_bus(bus_pub_send(pub, &i, sizeof i));
		if (i % 64 == 0)
			usleep(500);
	}
	bus_pub_close(pub);
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, 0), 0);
}

/* Whatever has come is one behind the other. */
struct chain {
	uint64_t next;
	unsigned calls, breaks;
	bool kept;
};

static void
follow(void *arg, const struct bus_msg *msg)
{
	struct chain *chain = arg;
	uint64_t number;

	memcpy(&number, msg->data, sizeof number);
	/* A reader that gets no CPU for long is lapped: that gap is counted. */
	chain->breaks +=
	    chain->next != 0 && number != chain->next && (number < chain->next || msg->lost == 0);
	chain->next = number + 1;
	chain->calls++;
}

START_TEST(subscriptions_begin_and_end_under_traffic_without_a_gap)
{
	const char *dir = bus_test_dir();
	pid_t writer = start(write_until_told, dir, 0);
	struct bus *bus = join(dir);
	unsigned all = 0;

	for (int round = 0; round < 60; round++) {
		struct chain chains[3] = {{.calls = 0}};
		struct bus_sub *subs[3];

		for (int i = 0; i < 3; i++) {
			must_bus(
			    bus_subscribe(bus, i == 1 ? "#" : "n", follow, &chains[i], &subs[i]));
			usleep(1000);
		}
		for (int i = 0; i < 3; i++)
			bus_unsubscribe(subs[i], NULL);
		for (int i = 0; i < 3; i++) {
			must(chains[i].breaks == 0);
			all += chains[i].calls;
		}
	}
	ck_assert_uint_gt(all, 0);
	publish_text(bus, "end", "!");
	finish(writer);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(last_messages_are_found_behind_many_that_nobody_wants)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m;
	struct bus_pub *pub;

	publish_text(bus, "t", "1");
	ck_bus(bus_pub_open(bus, "other", NULL, &pub), 0);
	for (int i = 0; i < 80000; i++) /* more than are passed over in one go; 2.5 of 4 MB */
		must_bus(bus_pub_send(pub, "", 0));
	publish_text(bus, "t", "2");
	publish_text(bus, "t", "3");
	m = open_from(bus, "t", BUS_FROM_LAST, 2);
	expect_message(m, "t", "2");
	expect_message(m, "t", "3");
	bus_mailbox_close(m);
	m = open_from(bus, "t", BUS_FROM_OLDEST, 0);
	for (int i = 1; i <= 3; i++) {
		const struct bus_msg *msg;

		ck_bus(bus_recv(m, 0, &msg), 1);
		ck_assert_int_eq(*(const char *)msg->data, '0' + i);
	}
	bus_mailbox_close(m);
	bus_pub_close(pub);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

#define MILLION 1000000

static void *
write_million(void *arg)
{
	struct bus_pub *pub;

	must(bus_pub_open(arg, "n", NULL, &pub) == 0);
	for (uint64_t i = 0; i < MILLION; i++)
		must_bus(bus_pub_send(pub, &i, sizeof i));
	bus_pub_close(pub);
	return NULL;
}

START_TEST(replay_goes_over_into_what_comes_without_a_gap_or_a_double)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 64 << 20};
	struct bus *bus;
	struct bus_mailbox *first, *m;
	const struct bus_msg *msg;
	pthread_t writer;
	uint64_t number, base = 0;

	ck_bus(bus_open("test", &cfg, &bus), 0);
	first = subscriber(bus, "n");
	pthread_create(&writer, NULL, write_million, bus);
	/* It begins behind a message of the middle, while the writer goes on. */
	for (uint64_t i = 0; i < MILLION / 4; i++) {
		must(bus_recv(first, patience_ms(), &msg) == 1);
		memcpy(&number, msg->data, sizeof number);
		base = i == 0 ? msg->position : base;
		must(number == i && msg->lost == 0 && msg->position == base + i);
	}
	m = open_from(bus, "n", BUS_FROM_OLDEST, 0);
	for (uint64_t i = 0; i < MILLION; i++) {
		must(bus_recv(m, patience_ms(), &msg) == 1);
		memcpy(&number, msg->data, sizeof number);
		must(number == i && msg->lost == 0 && msg->position == base + i);
	}
	expect_nothing(m);
	pthread_join(writer, NULL);
	bus_mailbox_close(first);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- what is kept ------ */

/* Somebody publishes all the time; each subscription sees the value first that was kept, or none. */
START_TEST(kept_value_comes_before_what_is_newer)
{
	struct flood f = {.bus = join(bus_test_dir())};
	struct bus_mailbox *m = subscriber(f.bus, "x");
	const struct bus_msg *msg;
	pthread_t thread;

	retain_text(f.bus, "t", "kept");
	ck_assert_int_eq(pthread_create(&thread, NULL, flood, &f), 0);
	for (int round = 0; round < 300; round++) {
		bool live = false;
		struct bus_sub *sub;

		must_bus(bus_mailbox_subscribe(m, "t", NULL, NULL, &sub));
		for (int i = 0; i < 20; i++) {
			must(bus_recv(m, patience_ms(), &msg) == 1);
			must(!live || !(msg->flags & BUS_MSG_KEPT));
			live = live || !(msg->flags & BUS_MSG_KEPT);
		}
		bus_unsubscribe(sub, NULL);
	}
	f.over = true;
	pthread_join(thread, NULL);
	bus_mailbox_close(m);
	ck_bus(bus_close(f.bus, 0), 0);
}
END_TEST

START_TEST(mailbox_has_room_for_all_that_is_kept)
{
	enum { MANY = 6000 };
	struct bus *bus = join(bus_test_dir());
	struct bus_stats s = {.size = sizeof s};
	const struct bus_msg *msg;
	struct bus_mailbox *m;
	char topic[20], value[100] = "";
	int came = 0;

	for (int i = 0; i < MANY; i++) {
		snprintf(topic, sizeof topic, "t/%d", i);
		must_bus(bus_publish_msg(bus, &(struct bus_msg){.size = sizeof *msg,
						  .topic = topic,
						  .data = value,
						  .len = sizeof value,
						  .flags = BUS_MSG_RETAIN}));
	}
	m = subscriber(bus, "#");
	while (bus_recv(m, 0, &msg) == 1)
		came++;
	ck_assert_int_eq(came, MANY);
	ck_bus(bus_mailbox_stats(m, &s), 0);
	ck_assert_uint_eq(s.lost[BUS_LOSS_FULL], 0);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(more_kept_topics_than_a_bus_may_have_are_told)
{
	const char *dir = bus_test_dir();
	const struct bus_config few = {
	    .size = sizeof few, .dir = dir, .log_bytes = 4 << 20, .max_topics = 4};
	struct bus *bus = join(dir), *small;
	struct bus_mailbox *m;
	char topic[20];

	for (int i = 0; i < 10; i++) {
		snprintf(topic, sizeof topic, "t/%d", i);
		retain_text(bus, topic, "x");
	}
	ck_bus(bus_open("test", &few, &small), 0);
	ck_bus(bus_mailbox_open(small, NULL, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "t/#", NULL, NULL, NULL), BUS_E_LIMIT);
	ck_bus(bus_mailbox_subscribe(m, "t/1", NULL, NULL, NULL), 0);
	expect_message(m, "t/1", "x");
	bus_mailbox_close(m);
	ck_bus(bus_close(small, 0), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(kept_value_that_waits_is_not_yet_reached)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m;
	uint64_t before, due, reached;

	ck_bus(bus_mailbox_open(bus, NULL, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "other", NULL, NULL, NULL), 0);
	retain_text(bus, "v", "kept");
	expect_nothing(m);
	ck_assert_int_eq(bus_mailbox_reached(m, &before), 1);

	ck_bus(bus_mailbox_subscribe(m, "v", NULL, NULL, NULL), 0);
	due = mailbox_stats(m).goal;
	ck_assert_uint_lt(before, due);
	ck_assert_int_eq(bus_mailbox_reached(m, &reached), 0);
	ck_assert_uint_lt(reached, due);
	expect_message(m, "v", "kept");
	expect_nothing(m);
	ck_assert_int_eq(bus_mailbox_reached(m, &reached), 1);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("named start");

	BUS_TEST_CASE(suite, "beginnings", kept_value_comes_first_and_flagged,
	    kept_value_comes_before_what_is_newer, mailbox_has_room_for_all_that_is_kept,
	    more_kept_topics_than_a_bus_may_have_are_told,
	    mailbox_begins_where_it_is_told_to_and_goes_on_with_what_comes,
	    position_of_another_life_is_told_apart,
	    mailbox_behind_the_last_position_gets_what_is_published_after,
	    subscriptions_begin_and_end_under_traffic_without_a_gap,
	    replay_goes_over_into_what_comes_without_a_gap_or_a_double,
	    last_messages_are_found_behind_many_that_nobody_wants,
	    kept_value_that_waits_is_not_yet_reached);
	return suite;
}
