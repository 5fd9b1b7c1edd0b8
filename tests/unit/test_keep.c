#include "fake_clock.h"
#include "link_test.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/keep.h"

static void
keep(struct bus *bus, const char *filter, uint32_t last)
{
	const struct bus_keep_config cfg = {.size = sizeof cfg, .last = last};

	ck_bus(bus_keep(bus, filter, &cfg), 0);
}

/* The next message is text with these flags. */
static void
expect(struct bus_mailbox *mbox, const char *text, uint32_t flags)
{
	const struct bus_msg *msg;

	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->len, strlen(text));
	ck_assert(memcmp(msg->data, text, msg->len) == 0);
	ck_assert_uint_eq(msg->flags, flags);
	ck_assert_uint_eq(msg->lost, 0);
	ck_assert((msg->time_ns != 0) == (flags != 0));
}

/* A mailbox that subscribes now gets these kept texts, and no more. */
#define expect_kept(bus, filter, ...)                                                              \
	expect_only_kept(bus, filter, (const char *const[]){__VA_ARGS__, NULL})

static void
expect_only_kept(struct bus *bus, const char *filter, const char *const texts[])
{
	struct bus_mailbox *mbox = subscriber(bus, filter);

	for (size_t i = 0; texts[i] != NULL; i++)
		expect(mbox, texts[i], BUS_MSG_KEPT);
	expect_nothing(mbox);
	bus_mailbox_close(mbox);
}

/* --- kept messages --------------------------------------------------------------------------------------- */

START_TEST(last_messages_are_delivered_first_in_order_and_flagged)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;

	keep(bus, "room/#", 3);
	for (int i = 0; i < 5; i++)
		publish_text(bus, "room/kitchen", (char[]){(char)('1' + i), '\0'});
	mbox = subscriber(bus, "room/+");
	publish_text(bus, "room/kitchen", "live");
	expect(mbox, "3", BUS_MSG_KEPT);
	expect(mbox, "4", BUS_MSG_KEPT);
	expect(mbox, "5", BUS_MSG_KEPT);
	expect(mbox, "live", 0);
	expect_nothing(mbox);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(filter_applies_to_topics_that_exist_and_to_new_ones)
{
	struct bus *bus = open_bus();

	publish_text(bus, "a/old", "before");
	keep(bus, "a/+", 2);
	publish_text(bus, "a/old", "after");
	publish_text(bus, "a/new", "first");
	publish_text(bus, "b", "not kept");
	expect_kept(bus, "a/old", "after");
	expect_kept(bus, "a/new", "first");
	expect_kept(bus, "b", NULL);
	bus_close(bus, 0);
}
END_TEST

START_TEST(handle_on_the_short_way_keeps_from_then_on)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");
	const struct bus_slice items[2] = {{"4", 1}, {"5", 1}};
	struct bus_pub *pub, *unheard;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	ck_bus(bus_pub_open(bus, "u", NULL, &unheard), 0);
	ck_bus(bus_pub_send(pub, "1", 1), 0);
	ck_bus(bus_pub_send(unheard, "1", 1), 0);
	keep(bus, "+", 10);
	ck_bus(bus_pub_send(pub, "2", 1), 0);
	ck_bus(bus_pub_send(unheard, "2", 1), 0);
	bus_mailbox_close(mbox); /* new routes: none */
	ck_bus(bus_pub_send(pub, "3", 1), 0);
	mbox = subscriber(bus, "#"); /* and new ones, made for keeping */
	ck_bus(bus_pub_send_many(pub, items, 2), 2);
	expect_kept(bus, "t", "2", "3", "4", "5");
	expect_kept(bus, "u", "2");
	bus_mailbox_close(mbox);
	bus_pub_close(unheard);
	bus_pub_close(pub);
	bus_close(bus, 0);
}
END_TEST

START_TEST(largest_of_several_filters_counts)
{
	struct bus *bus = open_bus();

	keep(bus, "t", 2);
	keep(bus, "#", 3);
	keep(bus, "#", 1); /* less is no change */
	keep(bus, "+", 1);
	for (int i = 0; i < 5; i++)
		publish_text(bus, "t", (char[]){(char)('1' + i), '\0'});
	expect_kept(bus, "t", "3", "4", "5");
	keep(bus, "t", 4);
	publish_text(bus, "t", "6");
	expect_kept(bus, "t", "3", "4", "5", "6");
	bus_close(bus, 0);
}
END_TEST

START_TEST(empty_retained_message_deletes_all)
{
	struct bus *bus = open_bus();

	keep(bus, "t", 5);
	publish_text(bus, "t", "1");
	publish_text(bus, "t", ""); /* empty, but not retained: a message like others */
	retain_text(bus, "t", "");
	expect_kept(bus, "t", NULL);
	publish_text(bus, "t", "2");
	expect_kept(bus, "t", "2");
	bus_close(bus, 0);
}
END_TEST

START_TEST(retained_message_is_one_of_the_last)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;

	keep(bus, "t", 2);
	publish_text(bus, "t", "1");
	retain_text(bus, "t", "2");
	publish_text(bus, "t", "3");
	mbox = subscriber(bus, "t");
	expect(mbox, "2", BUS_MSG_KEPT | BUS_MSG_RETAIN);
	expect(mbox, "3", BUS_MSG_KEPT);
	publish_text(bus, "t", "4");
	expect_kept(bus, "t", "3", "4");
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(bytes_are_counted_and_the_newest_stays)
{
	const struct bus_keep_config cfg = {.size = sizeof cfg, .last = 100, .max_bytes = 3000};
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;
	char data[5000] = "";
	const struct bus_msg *msg;

	ck_bus(bus_keep(bus, "t", &cfg), 0);
	for (size_t len = 1000; len < 1005; len++)
		ck_bus(bus_publish(bus, "t", data, len), 0);
	mbox = subscriber(bus, "t");
	for (size_t len = 1003; len < 1005; len++) { /* 1002 would be more than 3000 */
		ck_bus(bus_recv(mbox, 0, &msg), 1);
		ck_assert_uint_eq(msg->len, len);
	}
	expect_nothing(mbox);
	ck_bus(bus_publish(bus, "t", data, sizeof data), 0);
	bus_mailbox_close(mbox);
	mbox = subscriber(bus, "t");
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->len, sizeof data);
	expect_nothing(mbox);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(expired_message_is_dropped_wherever_it_stands)
{
	struct bus *bus = open_bus();
	struct bus_msg msg = {
	    .size = sizeof msg, .topic = "t", .data = "short", .len = 5, .ttl_ms = 1};

	keep(bus, "t", 5);
	publish_text(bus, "t", "1");
	ck_bus(bus_publish_msg(bus, &msg), 0);
	publish_text(bus, "t", "2");
	ck_bus(bus_publish_msg(bus, &msg), 0);
	clock_pass_ms(2);
	expect_kept(bus, "t", "1", "2");
	publish_text(bus, "t", "3");
	expect_kept(bus, "t", "1", "2", "3");
	bus_close(bus, 0);
}
END_TEST

START_TEST(headers_type_and_loans_are_kept_whole)
{
	struct bus *bus = open_bus();
	const struct bus_msg headed = {.size = sizeof headed,
	    .topic = "t",
	    .data = "payload",
	    .len = 7,
	    .type = BUS_TYPE_TEXT,
	    .headers = "\x80",
	    .headers_len = 1};
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	struct bus_pub *pub;
	void *loan;

	keep(bus, "t", 5);
	ck_bus(bus_publish_msg(bus, &headed), 0);
	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	for (size_t len = 10; len <= 10000; len *= 1000) {
		ck_bus(bus_pub_loan(pub, len, &loan), 0);
		memset(loan, 'x', len);
		ck_bus(bus_pub_commit(pub, loan, len), 0);
	}
	bus_pub_close(pub);
	mbox = subscriber(bus, "t");
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_int_eq(msg->type, BUS_TYPE_TEXT);
	ck_assert_uint_eq(msg->len, 7);
	ck_assert_uint_eq(msg->headers_len, 1);
	ck_assert(memcmp(msg->headers, "\x80", 1) == 0);
	for (size_t len = 10; len <= 10000; len *= 1000) {
		ck_bus(bus_recv(mbox, 0, &msg), 1);
		ck_assert_uint_eq(msg->len, len);
		ck_assert_int_eq(((const char *)msg->data)[len - 1], 'x');
	}
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(bounds_of_keeping_are_exact)
{
	struct bus_keep_config cfg = {.size = sizeof cfg, .last = 10000, .max_bytes = 1u << 30};
	struct bus *bus = open_bus();
	char filter[16];

	ck_bus(bus_keep(NULL, "t", &cfg), BUS_E_INVAL);
	ck_bus(bus_keep(bus, "a/#/b", &cfg), BUS_E_FILTER);
	ck_bus(bus_keep(bus, "f/0", &cfg), 0);
	cfg.last++;
	ck_bus(bus_keep(bus, "t", &cfg), BUS_E_LIMIT);
	cfg.last--;
	cfg.max_bytes++;
	ck_bus(bus_keep(bus, "t", &cfg), BUS_E_LIMIT);
	cfg.size--;
	ck_bus(bus_keep(bus, "t", &cfg), BUS_E_INVAL);
	for (int i = 0; i < 256; i++) {
		snprintf(filter, sizeof filter, "f/%d", i);
		ck_bus(bus_keep(bus, filter, NULL), 0);
	}
	ck_bus(bus_keep(bus, "one/more", NULL), BUS_E_LIMIT);
	ck_bus(bus_keep(bus, "f/255", NULL), 0); /* an existing one */
	bus_close(bus, 0);
}
END_TEST

START_TEST(topic_that_keeps_something_is_not_forgotten)
{
	const struct bus_config cfg = {.size = sizeof cfg, .max_topics = 2};
	struct bus *bus;

	ck_bus(bus_open(NULL, &cfg, &bus), 0);
	keep(bus, "kept", 2);
	publish_text(bus, "kept", "1");
	for (int i = 0; i < 100; i++)
		publish_text(bus, (char[]){(char)('A' + i % 26), (char)('a' + i % 25), '\0'}, "x");
	expect_kept(bus, "kept", "1");
	bus_close(bus, 0);
}
END_TEST

/* --- into which mailbox ---------------------------------------------------------------------------------- */

START_TEST(mailbox_of_the_latest_gets_the_newest)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;

	keep(bus, "t", 3);
	publish_text(bus, "t", "1");
	publish_text(bus, "t", "2");
	mbox = open_mailbox(bus, "t", .full = BUS_FULL_LATEST);
	expect(mbox, "2", BUS_MSG_KEPT);
	expect_nothing(mbox);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(mailbox_that_refuses_takes_all_of_it_or_the_subscription_fails)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "u", .full = BUS_FULL_REFUSE, .bytes = 4096);
	static const char kilobyte[1000];
	const struct bus_msg *msg;

	keep(bus, "t", 10);
	publish_text(bus, "u", "accepted");
	for (int i = 0; i < 3; i++)
		ck_bus(bus_publish(bus, "t", kilobyte, sizeof kilobyte), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "t", NULL, NULL, NULL), 0);
	expect(mbox, "accepted", 0);
	for (int i = 0; i < 3; i++)
		ck_bus(bus_recv(mbox, 0, &msg), 1);
	expect_nothing(mbox);
	bus_mailbox_close(mbox);

	for (int i = 0; i < 3; i++)
		ck_bus(bus_publish(bus, "t", kilobyte, sizeof kilobyte), 0);
	mbox = open_mailbox(bus, "u", .full = BUS_FULL_REFUSE, .bytes = 4096);
	publish_text(bus, "u", "accepted");
	ck_bus(bus_mailbox_subscribe(mbox, "t", NULL, NULL, NULL), BUS_E_FULL);
	expect(mbox, "accepted", 0);
	expect_nothing(mbox); /* as if it had not been tried */
	publish_text(bus, "t", "live");
	expect_nothing(mbox);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(refused_message_is_not_kept_and_is_counted_once)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "t", .full = BUS_FULL_REFUSE, .bytes = 4096);
	struct bus_stats stats = {.size = sizeof stats};
	static const char kilobyte[1000];
	const struct bus_msg *msg;
	unsigned kept = 0;
	struct bus_pub *pub;

	keep(bus, "t", 100);
	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	while (bus_pub_send(pub, kilobyte, sizeof kilobyte) == 0)
		kept++;
	ck_bus(bus_mailbox_stats(mbox, &stats), 0);
	ck_assert_uint_eq(stats.refused, 1);
	ck_assert_uint_eq(stats.pending, kept);
	bus_mailbox_close(mbox);
	mbox = subscriber(bus, "t");
	while (bus_recv(mbox, 0, &msg) == 1)
		kept--;
	ck_assert_uint_eq(kept, 0);
	bus_mailbox_close(mbox);
	bus_pub_close(pub);
	bus_close(bus, 0);
}
END_TEST

START_TEST(peer_gets_retained_messages_and_keeps_its_own)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus_mailbox *mbox;

	keep(p.a, "t", 10);
	keep(p.b, "t", 10);
	publish_text(p.a, "t", "plain");
	retain_text(p.a, "t", "1");
	publish_text(p.a, "t", "plain");
	retain_text(p.a, "t", "2");
	mbox = subscriber(p.b, "t");
	pair_link(&p, 0, NULL);
	expect(mbox, "1", BUS_MSG_KEPT | BUS_MSG_RETAIN);
	expect(mbox, "2", BUS_MSG_KEPT | BUS_MSG_RETAIN);
	publish_text(p.a, "t", "live");
	expect(mbox, "live", 0);
	bus_mailbox_close(mbox);
	mbox = subscriber(p.b, "t");
	expect(mbox, "1", BUS_MSG_KEPT | BUS_MSG_RETAIN);
	expect(mbox, "2", BUS_MSG_KEPT | BUS_MSG_RETAIN);
	expect(mbox, "live", BUS_MSG_KEPT);
	expect_nothing(mbox);
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

/* --- under traffic --------------------------------------------------------------------------------------- */

enum { WRITERS = 2, EACH = 3000, READERS = 2, LAST = 16 };

struct traffic {
	struct bus *bus;
	_Atomic unsigned writing;
	_Atomic unsigned writer;
};

struct number {
	unsigned writer, number;
};

static void *
write_numbers(void *arg)
{
	struct traffic *t = arg;
	struct number n = {t->writer++, 0};
	struct bus_pub *pub;

	ck_bus(bus_pub_open(t->bus, "t", NULL, &pub), 0);
	for (; n.number < EACH; n.number++)
		ck_bus(n.number % 2 ? bus_pub_send(pub, &n, sizeof n)
				    : bus_publish(t->bus, "t", &n, sizeof n),
		    0);
	bus_pub_close(pub);
	t->writing--;
	return NULL;
}

/* Reads on after a first message until both writers are done, or enough: no number is missing or arrives twice. */
static void
read_without_gap(struct traffic *t)
{
	struct bus_mailbox *mbox = open_mailbox(t->bus, "t", .bytes = 4u << 20);
	unsigned next[WRITERS] = {0}, seen = 0;
	bool begun[WRITERS] = {false}, live = false;
	const struct bus_msg *msg;

	while (seen < 200 && bus_recv(mbox, t->writing > 0 ? 10 : 0, &msg) == 1) {
		struct number n;

		memcpy(&n, msg->data, sizeof n);
		if (msg->flags & BUS_MSG_KEPT)
			ck_assert(!live); /* kept messages are first */
		else
			live = true;
		if (begun[n.writer])
			ck_assert_uint_eq(n.number, next[n.writer]);
		begun[n.writer] = true;
		next[n.writer] = n.number + 1;
		seen++;
	}
	bus_mailbox_close(mbox);
}

static void *
read_again_and_again(void *arg)
{
	struct traffic *t = arg;

	while (t->writing > 0)
		read_without_gap(t);
	return NULL;
}

START_TEST(subscription_under_traffic_misses_and_repeats_nothing)
{
	struct traffic t = {.bus = open_bus(), .writing = WRITERS};
	pthread_t threads[WRITERS + READERS];

	keep(t.bus, "#", LAST);
	for (unsigned i = 0; i < WRITERS + READERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL,
				     i < WRITERS ? write_numbers : read_again_and_again, &t),
		    0);
	for (unsigned i = 0; i < WRITERS + READERS; i++)
		pthread_join(threads[i], NULL);
	bus_close(t.bus, 1000);
}
END_TEST

START_TEST(keeping_may_begin_under_traffic)
{
	struct traffic t = {.bus = open_bus(), .writing = WRITERS};
	struct bus_mailbox *mbox = open_mailbox(t.bus, "t", .bytes = 4u << 20);
	pthread_t threads[WRITERS];
	const struct bus_msg *msg;
	unsigned count = 0;

	for (unsigned i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_numbers, &t), 0);
	for (uint32_t last = 1; t.writing > 0; last = last % 1000 + 1)
		keep(t.bus, "t", last);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	while (bus_recv(mbox, 0, &msg) == 1)
		count++;
	ck_assert_uint_eq(count, WRITERS * EACH); /* none is missing */
	bus_mailbox_close(mbox);
	bus_close(t.bus, 1000);
}
END_TEST

START_TEST(keeping_without_memory_fails_whole_and_works_later)
{
	const struct bus_keep_config cfg = {.size = sizeof cfg, .last = 2};
	int err = BUS_E_NOMEM;
	long n;

	for (n = 0; err != 0; n++) {
		struct bus *bus = open_bus();

		publish_text(bus, "t", "x");
		bus__mem_fail_after(n);
		err = bus_keep(bus, "t", &cfg);
		bus__mem_fail_after(-1);
		ck_assert(err == 0 || err == BUS_E_NOMEM);
		ck_bus(bus_keep(bus, "t", &cfg), 0);
		publish_text(bus, "t", "1");
		expect_kept(bus, "t", "1");
		bus_close(bus, 0);
	}
	ck_assert_int_gt(n, 1);
	for (err = BUS_E_NOMEM, n = 0; err != 0; n++) {
		struct bus *bus = open_bus();

		keep(bus, "t", 2);
		bus__mem_fail_after(n);
		err = bus_publish(bus, "t", "1", 1);
		bus__mem_fail_after(-1);
		ck_assert(err == 0 || err == BUS_E_NOMEM);
		if (err == 0)
			expect_kept(bus, "t", "1");
		else
			expect_kept(bus, "t", NULL);
		bus_close(bus, 0);
	}
	ck_assert_int_gt(n, 3);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("keep");

	BUS_TEST_CASE(suite, "kept", last_messages_are_delivered_first_in_order_and_flagged,
	    filter_applies_to_topics_that_exist_and_to_new_ones,
	    handle_on_the_short_way_keeps_from_then_on, largest_of_several_filters_counts,
	    empty_retained_message_deletes_all, retained_message_is_one_of_the_last,
	    bytes_are_counted_and_the_newest_stays, expired_message_is_dropped_wherever_it_stands,
	    headers_type_and_loans_are_kept_whole, bounds_of_keeping_are_exact,
	    topic_that_keeps_something_is_not_forgotten);
	BUS_TEST_CASE(suite, "mailboxes", mailbox_of_the_latest_gets_the_newest,
	    mailbox_that_refuses_takes_all_of_it_or_the_subscription_fails,
	    refused_message_is_not_kept_and_is_counted_once,
	    peer_gets_retained_messages_and_keeps_its_own);
	BUS_TEST_CASE(suite, "traffic", subscription_under_traffic_misses_and_repeats_nothing,
	    keeping_may_begin_under_traffic, keeping_without_memory_fails_whole_and_works_later);
	return suite;
}
