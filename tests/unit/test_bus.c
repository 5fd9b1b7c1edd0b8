/* A private bus: published messages are received. */
#define _GNU_SOURCE
#include "world.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "mailbox/mailbox.h"

/* The next message is text on topic, with these flags. */
static void
expect(struct bus_mailbox *mbox, const char *topic, const char *text, uint32_t flags)
{
	const struct bus_msg *msg;

	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_assert_str_eq(msg->topic, topic);
	ck_assert_uint_eq(msg->len, strlen(text));
	ck_assert(memcmp(msg->data, text, msg->len) == 0);
	ck_assert_uint_eq(msg->flags, flags);
}

/* --- publish and receive ------------------------------------------------------------------------------- */

START_TEST(callbacks_run_on_the_bus_thread_in_order)
{
	struct bus *bus = open_bus();
	_Atomic unsigned calls = 0;

	ck_bus(bus_subscribe(bus, "n", count_message, &calls, NULL), 0);
	for (int i = 0; i < 1000; i++)
		publish_text(bus, "n", "x");
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_assert_uint_eq(calls, 1000);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(handle_follows_subscriptions_that_begin_and_end)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct bus_pub *pub;
	struct bus_sub *sub;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	ck_bus(bus_pub_send(pub, "1", 1), 0); /* no subscriber: accepted */
	ck_bus(bus_mailbox_subscribe(mbox, "t", NULL, NULL, &sub), 0);
	ck_bus(bus_pub_send(pub, "2", 1), 0);
	expect(mbox, "t", "2", 0);
	bus_unsubscribe(sub, NULL);
	ck_bus(bus_pub_send(pub, "3", 1), 0);
	expect_nothing(mbox);
	ck_bus(bus_mailbox_subscribe(mbox, "#", NULL, NULL, NULL), 0);
	ck_bus(bus_pub_send(pub, "4", 1), 0);
	expect(mbox, "t", "4", 0);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(payloads_of_all_sizes_arrive_whole)
{
	static const size_t sizes[] = {0, 1, 7, 8, 1023, 1024, 1025, 65536, 1 << 20};
	static uint8_t data[1 << 20];
	struct bus *bus = open_bus();
	struct bus_mailbox *one = subscriber(bus, "#"), *two = subscriber(bus, "t");

	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		const struct bus_msg *msg;

		ck_bus(bus_publish(bus, "t", data, sizes[i]), 0);
		for (int k = 0; k < 2; k++) {
			ck_bus(bus_recv(k ? two : one, 0, &msg), 1);
			ck_assert_uint_eq(msg->len, sizes[i]);
			ck_assert(memcmp(msg->data, data, sizes[i]) == 0);
			ck_assert_uint_eq(msg->lost, 0);
		}
	}
	bus_mailbox_close(one);
	bus_mailbox_close(two);
	bus_close(bus, 0);
}
END_TEST

START_TEST(many_at_once_arrive_as_one_by_one)
{
	enum { ITEMS = 200, ROUNDS = 20 };
	static char payload[2000];
	struct bus *bus = open_bus();
	struct bus_mailbox *one = open_mailbox(bus, "t", .bytes = 64 << 10);
	struct bus_mailbox *other = open_mailbox(bus, "#", .bytes = 64 << 10);
	struct bus_mailbox *both[] = {one, other};
	struct bus_slice items[ITEMS];
	const struct bus_msg *msg;
	struct bus_pub *pub;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	memset(payload, 'x', sizeof payload);
	/* Small ones, and every 50th too large for a frame; the ring of 64 KiB wraps several times. */
	for (size_t i = 0; i < ITEMS; i++)
		items[i] = (struct bus_slice){
		    payload + i % 7, i % 50 == 49 ? sizeof payload - 7 : i % 100};
	for (int round = 0; round < ROUNDS; round++) {
		ck_bus(bus_pub_send_many(pub, items, ITEMS), ITEMS);
		for (size_t m = 0; m < 2; m++)
			for (size_t i = 0; i < ITEMS; i++) {
				ck_bus(bus_recv(both[m], patience_ms(), &msg), 1);
				ck_assert_uint_eq(msg->len, items[i].len);
				ck_assert_uint_eq(msg->lost, 0);
				ck_assert(memcmp(msg->data, items[i].data, msg->len) == 0);
			}
	}
	ck_bus(bus_pub_send_many(pub, items, 0), 0);
	ck_bus(bus_pub_send_many(pub, NULL, 1), BUS_E_INVAL);
	items[3] = (struct bus_slice){NULL, 1};
	ck_bus(bus_pub_send_many(pub, items, ITEMS), 3);
	ck_bus(bus_pub_send_many(pub, items + 3, ITEMS - 3), BUS_E_INVAL);
	bus_pub_close(pub);
	bus_mailbox_close(one);
	bus_mailbox_close(other);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(many_at_once_overrun_a_mailbox_by_its_policy)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *oldest =
	    open_mailbox(bus, "t", .full = BUS_FULL_DROP_OLDEST, .bytes = 4096);
	struct bus_mailbox *newest =
	    open_mailbox(bus, "t", .full = BUS_FULL_DROP_NEWEST, .bytes = 4096);
	struct bus_mailbox *both[] = {oldest, newest};
	struct bus_slice items[100];
	uint64_t got[2] = {0}, lost[2] = {0};
	const struct bus_msg *msg;
	struct bus_pub *pub;
	uint32_t number[100];

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	for (uint32_t i = 0; i < 100; i++) {
		number[i] = i;
		items[i] = (struct bus_slice){&number[i], sizeof number[i]};
	}
	for (int round = 0; round < 3; round++)
		ck_bus(bus_pub_send_many(pub, items, 100), 100);
	for (size_t m = 0; m < 2; m++) {
		while (bus_recv(both[m], 0, &msg) == 1) {
			uint32_t at;

			memcpy(&at, msg->data, sizeof at);
			ck_assert_uint_eq(at, (got[m] + msg->lost + lost[m]) % 100);
			lost[m] += msg->lost;
			got[m]++;
		}
		ck_assert_uint_gt(got[m], 100);
		ck_assert_uint_eq(mailbox_stats(both[m]).lost[BUS_LOSS_FULL], 300 - got[m]);
	}
	ck_assert_uint_eq(
	    got[0] + lost[0], 300); /* the newest were kept: all losses were reported */
	bus_pub_close(pub);
	bus_mailbox_close(oldest);
	bus_mailbox_close(newest);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- full ---------------------------------------------------------------------------------------------- */

START_TEST(losses_before_an_unwanted_message_are_reported_by_the_next)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox =
	    open_mailbox(bus, "wanted", .full = BUS_FULL_DROP_OLDEST, .bytes = 4096);
	const struct bus_msg *msg;
	uint64_t lost;
	struct bus_sub *sub;

	ck_bus(bus_mailbox_subscribe(mbox, "n", NULL, NULL, &sub), 0);
	for (int i = 0; i < 1000; i++)
		publish_text(bus, "n", "x");
	lost = mailbox_stats(mbox).lost[BUS_LOSS_FULL];
	ck_assert_uint_gt(lost, 0);
	bus_unsubscribe(sub, NULL);
	publish_text(bus, "wanted", "y");
	lost = mailbox_stats(mbox).lost[BUS_LOSS_FULL];
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_str_eq(msg->topic, "wanted");
	ck_assert_uint_eq(msg->lost, lost);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

static void *
publish_few_topics(void *arg)
{
	char topic[8];

	for (int i = 0; i < 3000; i++) {
		snprintf(topic, sizeof topic, "%d", i % 5);
		ck_bus(bus_publish(arg, topic, "x", 1), 0);
	}
	return NULL;
}

START_TEST(topics_that_are_made_and_forgotten_lose_no_message)
{
	const struct bus_config cfg = {.size = sizeof cfg, .max_topics = 2};
	struct bus_mailbox *mbox;
	pthread_t threads[3];
	struct bus *bus;

	ck_bus(bus_open(NULL, &cfg, &bus), 0);
	mbox = subscriber(bus, "#");
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, publish_few_topics, bus);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(mailbox_stats(mbox).offered, 9000);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

static void *
publish_many(void *arg)
{
	for (uint32_t n = 0; n < 20000; n++)
		ck_bus(bus_publish(arg, "n", &n, sizeof n), 0);
	return NULL;
}

START_TEST(counters_are_exact_under_threads)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *oldest =
	    open_mailbox(bus, "n", .full = BUS_FULL_DROP_OLDEST, .bytes = 4096);
	struct bus_mailbox *newest =
	    open_mailbox(bus, "#", .full = BUS_FULL_DROP_NEWEST, .bytes = 4096);
	const struct bus_msg *msg;
	_Atomic unsigned calls = 0;
	struct bus_stats all = {.size = sizeof all};
	uint64_t got = 0, told = 0;
	pthread_t threads[3];

	ck_bus(bus_subscribe(bus, "+", count_message, &calls, NULL), 0);
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, publish_many, bus);
	do {
		while (bus_recv(oldest, 0, &msg) == 1) {
			got++;
			told += msg->lost;
		}
	} while (mailbox_stats(newest).offered < 60000);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	while (bus_recv(oldest, 0, &msg) == 1) {
		got++;
		told += msg->lost;
	}
	ck_assert_uint_eq(mailbox_stats(oldest).offered, 60000);
	ck_assert_uint_eq(mailbox_stats(oldest).delivered, got);
	ck_assert_uint_le(told, mailbox_stats(oldest).lost[BUS_LOSS_FULL]);
	ck_assert_uint_eq(mailbox_stats(newest).offered, 60000);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_bus(bus_stats(bus, &all), 0);
	ck_assert_uint_eq(all.offered, 180000);
	bus_mailbox_close(oldest);
	bus_mailbox_close(newest);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- retained ------------------------------------------------------------------------------------------- */

START_TEST(late_subscriber_gets_the_last_retained_value_first)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *early = subscriber(bus, "t"), *late;

	retain_text(bus, "t", "1");
	retain_text(bus, "t", "2");
	expect(early, "t", "1", BUS_MSG_RETAIN);
	expect(early, "t", "2", BUS_MSG_RETAIN);
	late = subscriber(bus, "#");
	publish_text(bus, "t", "3");
	expect(late, "t", "2", BUS_MSG_RETAIN | BUS_MSG_KEPT);
	expect(late, "t", "3", 0);
	expect(early, "t", "3", 0); /* only the late one gets the kept value */
	expect_nothing(early);
	bus_mailbox_close(early);
	bus_mailbox_close(late);
	bus_close(bus, 0);
}
END_TEST

START_TEST(times_at_their_limits_neither_overflow_nor_pass)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;
	struct bus_msg msg = {.size = sizeof msg,
	    .topic = "t",
	    .data = "1",
	    .len = 1,
	    .flags = BUS_MSG_RETAIN,
	    .time_ns = -1};

	ck_bus(bus_publish_msg(bus, &msg), BUS_E_INVAL);
	msg.time_ns = INT64_MAX;
	ck_bus(bus_publish_msg(bus, &msg), 0);
	retain_text(bus, "t", "2"); /* a local value is never older than the kept one */
	mbox = subscriber(bus, "t");
	expect(mbox, "t", "2", BUS_MSG_RETAIN | BUS_MSG_KEPT);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(large_retained_value_is_kept_whole)
{
	static char big[5000];
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;

	memset(big, 'x', sizeof big - 1);
	retain_text(bus, "t", big);
	mbox = subscriber(bus, "t");
	expect(mbox, "t", big, BUS_MSG_RETAIN | BUS_MSG_KEPT);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

static void *
count_up(void *arg)
{
	for (uint32_t n = 1; n <= 20000; n++) {
		const struct bus_msg msg = {.size = sizeof msg,
		    .topic = "up",
		    .data = &n,
		    .len = sizeof n,
		    .flags = BUS_MSG_RETAIN};

		ck_bus(bus_publish_msg(arg, &msg), 0);
	}
	return NULL;
}

START_TEST(no_retained_update_is_missed_or_overtaken_while_subscribing)
{
	struct bus *bus = open_bus();
	pthread_t thread;
	uint32_t last = 0;

	pthread_create(&thread, NULL, count_up, bus);
	while (last < 20000) {
		struct bus_mailbox *mbox = subscriber(bus, "up");
		const struct bus_msg *msg;
		uint32_t next = 0;

		for (int i = 0; i < 50; i++) {
			uint32_t n;

			if (bus_recv(mbox, 50, &msg) != 1)
				break;
			memcpy(&n, msg->data, sizeof n);
			if (i > 0) /* a reader that lost its CPU for long learns its loss */
				ck_assert_uint_eq(n, next + msg->lost);
			ck_assert_uint_ge(n, last);
			next = n + 1;
			last = n;
		}
		bus_mailbox_close(mbox);
	}
	pthread_join(thread, NULL);
	bus_close(bus, 0);
}
END_TEST

/* --- waiting ---------------------------------------------------------------------------------------------- */

START_TEST(recv_waits_no_longer_than_its_timeout)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");
	const struct bus_msg *msg;
	int64_t begun = bus_test_now_ms();

	ck_bus(bus_recv(mbox, 50, &msg), 0);
	ck_assert_int_ge(bus_test_now_ms() - begun, 49);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

static void *
publish_later(void *arg)
{
	for (int i = 0; i < 20; i++)
		bus_test_nap();
	publish_text(arg, "t", "x");
	return NULL;
}

START_TEST(sleeping_receiver_is_woken)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");

	for (int i = 0; i < 20; i++) {
		pthread_t thread;
		const struct bus_msg *msg;

		pthread_create(&thread, NULL, publish_later, bus);
		ck_bus(bus_recv(mbox, -1, &msg), 1);
		pthread_join(thread, NULL);
	}
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

static bool
readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

START_TEST(descriptor_is_readable_while_there_is_something)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");
	struct bus_mailbox *empty = subscriber(bus, "empty");
	int fd;

	fd = bus_mailbox_fd(empty);
	ck_assert(!readable(fd, 0));
	publish_text(bus, "empty", "x");
	ck_assert(readable(fd, patience_ms()));
	bus_mailbox_close(empty);
	publish_text(bus, "t", "0");
	fd = bus_mailbox_fd(mbox);
	ck_assert_int_ge(fd, 0);
	ck_assert(readable(fd, 0)); /* for messages from before it was made */
	expect(mbox, "t", "0", 0);
	expect_nothing(mbox);
	ck_assert(!readable(fd, 0));
	for (int i = 0; i < 3; i++) {
		publish_text(bus, "t", "1");
		publish_text(bus, "t", "2");
		ck_assert(readable(fd, patience_ms()));
		expect(mbox, "t", "1", 0);
		ck_assert(readable(fd, 0)); /* level-triggered: one is left */
		expect(mbox, "t", "2", 0);
		expect_nothing(mbox);
		ck_assert(!readable(fd, 0));
	}
	bus_close(bus, 0);
	ck_assert(readable(fd, 0));
	bus_mailbox_close(mbox);
}
END_TEST

START_TEST(dispatch_runs_callbacks_here_and_no_more_than_asked)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	_Atomic unsigned calls = 0;

	ck_bus(bus_mailbox_subscribe(mbox, "t", count_message, &calls, NULL), 0);
	for (int i = 0; i < 10; i++)
		publish_text(bus, "t", "x");
	ck_bus(bus_dispatch(mbox, 0, 3), 3);
	ck_assert_uint_eq(calls, 3);
	ck_bus(bus_dispatch(mbox, 0, 0), 7);
	ck_bus(bus_dispatch(mbox, 0, 0), 0);
	ck_assert_uint_eq(calls, 10);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

/* --- bad input ------------------------------------------------------------------------------------------------ */

START_TEST(a_message_that_no_bus_carries_is_not_kept)
{
	const struct bus_msg sound = {.size = sizeof sound, .topic = "t", .data = "x", .len = 1};
	const struct bus_msg *kept = NULL;
	struct bus_msg wrong[] = {sound, sound, sound, sound, sound, sound};

	wrong[0].data = NULL;
	wrong[1].headers_len = 1;
	wrong[2].len = SIZE_MAX;
	wrong[3].len = (256u << 20) + 1;
	wrong[4].headers = "x";
	wrong[4].headers_len = SIZE_MAX;
	wrong[5].headers = "x";
	wrong[5].headers_len =
	    SIZE_MAX - 64; /* with the lengths added to it, it would wrap to a small one */
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		ck_bus(bus_msg_keep(&wrong[i], &kept), BUS_E_INVAL);
	ck_bus(bus_msg_keep(&sound, NULL), BUS_E_INVAL);
	ck_bus(bus_msg_keep(NULL, &kept), BUS_E_INVAL);
	ck_assert_ptr_null(kept);
	ck_bus(bus_msg_keep(&sound, &kept), 0);
	bus_msg_free(kept);
}
END_TEST

START_TEST(bad_arguments_are_refused_and_nothing_is_lost)
{
	const struct bus_config small = {.size = sizeof small, .max_payload = 10};
	const struct bus_mailbox_config wrong = {.size = sizeof wrong, .full = 17};
	const struct bus_mailbox_config unset = {.size = 0};
	struct bus_mailbox *mbox, *other;
	const struct bus_msg *msg;
	struct bus *bus, *named;

	ck_bus(bus_open("not a name", NULL, &named), BUS_E_INVAL);
	ck_bus(bus_open(NULL, NULL, NULL), BUS_E_INVAL);
	ck_bus(bus_open(NULL, &small, &bus), 0);
	mbox = subscriber(bus, "#");
	ck_bus(bus_publish(bus, "a/+", "x", 1), BUS_E_TOPIC_WILDCARD);
	ck_bus(bus_publish(bus, "", "x", 1), BUS_E_TOPIC_EMPTY);
	ck_bus(bus_publish(bus, NULL, "x", 1), BUS_E_INVAL);
	ck_bus(bus_publish(bus, "t", NULL, 1), BUS_E_INVAL);
	ck_bus(bus_publish(bus, "t", NULL, 0), 0);
	ck_bus(bus_publish(bus, "t", "0123456789A", 11), BUS_E_TOO_BIG);
	ck_bus(bus_publish(NULL, "t", "x", 1), BUS_E_INVAL);
	ck_bus(bus_publish_msg(bus, NULL), BUS_E_INVAL);
	ck_bus(bus_subscribe(bus, "a/#/b", count_message, NULL, NULL), BUS_E_FILTER);
	ck_bus(bus_subscribe(bus, "a", NULL, NULL, NULL), BUS_E_INVAL);
	ck_bus(bus_mailbox_open(bus, &wrong, &other), BUS_E_INVAL);
	ck_bus(bus_mailbox_open(bus, &unset, &other), BUS_E_INVAL);
	ck_bus(bus_recv(mbox, 0, NULL), BUS_E_INVAL);
	ck_bus(bus_recv(NULL, 0, &msg), BUS_E_INVAL);
	ck_bus(bus_pub_send(NULL, "x", 1), BUS_E_INVAL);
	expect(mbox, "t", "", 0);
	expect_nothing(mbox);
	bus_unsubscribe(NULL, NULL);
	bus_pub_close(NULL);
	bus_mailbox_close(NULL);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
	ck_bus(bus_close(NULL, 0), 0);
}
END_TEST

START_TEST(topics_are_bounded_and_idle_ones_make_room)
{
	const struct bus_config cfg = {.size = sizeof cfg, .max_topics = 10};
	struct bus_mailbox *mbox;
	struct bus *bus;
	char topic[32];

	ck_bus(bus_open(NULL, &cfg, &bus), 0);
	mbox = subscriber(bus, "#");
	for (int i = 0; i < 1000; i++) {
		snprintf(topic, sizeof topic, "t/%d", i);
		publish_text(bus, topic, "x");
		expect(mbox, topic, "x", 0);
	}
	for (int i = 0; i < 10; i++) {
		snprintf(topic, sizeof topic, "kept/%d", i);
		retain_text(bus, topic, "x");
	}
	ck_bus(bus_publish(bus, "one/more", "x", 1), BUS_E_LIMIT);
	retain_text(bus, "kept/3", "");
	publish_text(bus, "one/more", "x");
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

/* ThreadSanitizer cannot follow a thread that a forked child starts. */
#ifdef __SANITIZE_THREAD__
#define CHILD_DRAIN BUS_DRAIN_CALLER
#else
#define CHILD_DRAIN BUS_DRAIN_THREAD
#endif

static bool
own_bus_works(struct bus *own)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = CHILD_DRAIN};
	_Atomic unsigned calls = 0;
	struct bus_mailbox *mbox;
	bool ok = bus_mailbox_open(own, &cfg, &mbox) == 0 &&
		  bus_mailbox_subscribe(mbox, "t", count_message, &calls, NULL) == 0 &&
		  bus_publish(own, "t", "x", 1) == 0;

	if (CHILD_DRAIN == BUS_DRAIN_CALLER)
		ok = ok && bus_dispatch(mbox, patience_ms(), 0) == 1;
	ok = ok && bus_flush(own, patience_ms()) == 0 && calls == 1;
	bus_mailbox_close(mbox);
	return ok;
}

START_TEST(forked_child_gets_an_error_and_may_open_its_own_bus)
{
	struct bus *bus = open_bus(), *own;
	struct bus_mailbox *mbox = subscriber(bus, "t");
	const struct bus_msg *msg;
	_Atomic unsigned calls = 0;
	struct bus_pub *pub;
	int status;
	pid_t pid;

	ck_bus(bus_subscribe(bus, "t", count_message, &calls, NULL), 0);
	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	pid = bus_test_fork();
	if (pid == 0) {
		bool ok = bus_publish(bus, "t", "x", 1) == BUS_E_FORKED &&
			  bus_pub_send(pub, "x", 1) == BUS_E_FORKED &&
			  bus_recv(mbox, -1, &msg) == BUS_E_FORKED &&
			  bus_flush(bus, -1) == BUS_E_FORKED &&
			  bus_close(bus, -1) == BUS_E_FORKED && bus_open(NULL, NULL, &own) == 0 &&
			  own_bus_works(own) && bus_close(own, patience_ms()) == 0;

		bus_pub_close(pub);
		bus_mailbox_close(mbox);
		_exit(ok ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	publish_text(bus, "t", "x");
	expect(mbox, "t", "x", 0);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	bus_close(bus, 1000);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("bus");

	BUS_TEST_CASE(suite, "publish", callbacks_run_on_the_bus_thread_in_order,
	    handle_follows_subscriptions_that_begin_and_end, payloads_of_all_sizes_arrive_whole,
	    many_at_once_arrive_as_one_by_one, many_at_once_overrun_a_mailbox_by_its_policy);
	BUS_TEST_CASE(suite, "full", losses_before_an_unwanted_message_are_reported_by_the_next,
	    topics_that_are_made_and_forgotten_lose_no_message, counters_are_exact_under_threads);
	BUS_TEST_CASE(suite, "retained", late_subscriber_gets_the_last_retained_value_first,
	    large_retained_value_is_kept_whole, times_at_their_limits_neither_overflow_nor_pass,
	    no_retained_update_is_missed_or_overtaken_while_subscribing);
	BUS_TEST_CASE(suite, "waiting", recv_waits_no_longer_than_its_timeout,
	    sleeping_receiver_is_woken, descriptor_is_readable_while_there_is_something,
	    dispatch_runs_callbacks_here_and_no_more_than_asked);
	BUS_TEST_CASE(suite, "bad input", bad_arguments_are_refused_and_nothing_is_lost,
	    a_message_that_no_bus_carries_is_not_kept, topics_are_bounded_and_idle_ones_make_room,
	    forked_child_gets_an_error_and_may_open_its_own_bus);
	return suite;
}
