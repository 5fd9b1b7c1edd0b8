/* A bus with a name: every process gets every message, in one order. */
#define _GNU_SOURCE
#include "fake_clock.h"
#include "named_test.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

/* --- delivery ---------------------------------------------------------------------------------------------------- */

START_TEST(message_comes_to_every_mailbox_of_every_bus_of_the_name)
{
	struct bus *one = join(bus_test_dir()), *two = join(bus_test_dir());
	struct bus_mailbox *a = subscriber(one, "a/#"), *b = subscriber(two, "a/+"),
			   *c = subscriber(two, "b");

	publish_text(one, "a/1", "hello");
	publish_text(two, "b", "there");
	expect_message(a, "a/1", "hello");
	expect_message(b, "a/1", "hello");
	expect_message(c, "b", "there");
	expect_nothing(a);
	expect_nothing(b);
	bus_mailbox_close(a);
	bus_mailbox_close(b);
	bus_mailbox_close(c);
	ck_bus(bus_close(one, 0), 0);
	ck_bus(bus_close(two, 0), 0);
	ck_assert_uint_eq(files_in(bus_test_dir()), 0);
}
END_TEST

static void
echo(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *m = subscriber(bus, "to");
	char text[16];

	snprintf(text, sizeof text, "%d", number);
	retain_text(bus, "ready", text);
	expect_message(m, "to", "hello");
	publish_text(bus, "from", text);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, patience_ms()), 0);
}

START_TEST(message_goes_to_another_process_and_back)
{
	const char *dir = bus_test_dir();
	pid_t child = start(echo, dir, 7);
	struct bus *bus = join(dir);
	struct bus_mailbox *ready = subscriber(bus, "ready"), *from = subscriber(bus, "from");

	expect_message(ready, "ready", "7");
	publish_text(bus, "to", "hello");
	expect_message(from, "from", "7");
	finish(child);
	bus_mailbox_close(ready);
	bus_mailbox_close(from);
	ck_bus(bus_close(bus, 0), 0);
	ck_assert_uint_eq(files_in(dir), 0);
}
END_TEST

START_TEST(callbacks_run_on_the_mailboxs_thread_and_flush_waits_for_them)
{
	struct bus *bus = join(bus_test_dir());
	_Atomic unsigned calls = 0, more = 0;
	struct bus_sub *sub;

	ck_bus(bus_subscribe(bus, "t/#", count_message, (void *)&calls, &sub), 0);
	ck_bus(bus_subscribe(bus, "t/1", count_message, (void *)&more, NULL), 0);
	for (int i = 0; i < 1000; i++)
		must_bus(bus_publish(bus, i % 2 ? "t/1" : "t/2", "x", 1));
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_assert_uint_eq(calls, 1000);
	ck_assert_uint_eq(more, 500);
	bus_unsubscribe(sub, NULL);
	publish_text(bus, "t/1", "x");
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_assert_uint_eq(calls, 1000);
	ck_assert_uint_eq(more, 501);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(close_lets_own_threads_finish_what_was_published)
{
	struct bus *bus = join(bus_test_dir());
	_Atomic unsigned calls = 0;

	ck_bus(bus_subscribe(bus, "#", count_message, (void *)&calls, NULL), 0);
	for (int i = 0; i < 20000; i++)
		must_bus(bus_publish(bus, "t", "x", 1));
	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_assert_uint_eq(calls, 20000);
}
END_TEST

START_TEST(everything_that_a_message_has_arrives)
{
	static char large[200000];
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "#");
	const struct bus_msg out = {.size = sizeof out,
	    .topic = "t",
	    .data = large,
	    .len = sizeof large,
	    .type = BUS_TYPE_BYTES,
	    .ttl_ms = 60000,
	    .headers = "\x80",
	    .headers_len = 1};
	const struct bus_msg *msg;
	int64_t now = bus__wall_ns();

	memset(large, 'x', sizeof large);
	ck_bus(bus_publish_msg(bus, &out), 0);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->len, sizeof large);
	ck_assert_mem_eq(msg->data, large, sizeof large);
	ck_assert_int_eq(msg->type, BUS_TYPE_BYTES);
	ck_assert_uint_eq(msg->headers_len, 1);
	ck_assert_mem_eq(msg->headers, "\x80", 1);
	ck_assert(msg->ttl_ms > 0 && msg->ttl_ms <= 60000);
	ck_assert_uint_eq(msg->lost, 0);
	ck_assert_uint_gt(msg->position, 0);
	ck_assert_int_ge(msg->time_ns, now - 1000000000);
	ck_assert_uint_eq(msg->flags, 0);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(handles_send_one_many_and_loans)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	const struct bus_pub_config cfg = {.size = sizeof cfg, .type = BUS_TYPE_TEXT};
	const struct bus_slice parts[] = {{"he", 2}, {NULL, 0}, {"a", 1}, {"d, body", 7}};
	struct bus_slice items[100];
	const struct bus_msg *msg;
	struct bus_pub *pub;
	char texts[100][8];
	void *loan;

	ck_bus(bus_pub_open(bus, "t", &cfg, &pub), 0);
	ck_bus(bus_pub_send(pub, "one", 3), 0);
	ck_bus(bus_pub_send(pub, "", 0), 0);
	ck_bus(bus_pub_send(pub, NULL, 1), BUS_E_INVAL);
	for (int i = 0; i < 100; i++) {
		snprintf(texts[i], sizeof texts[i], "%d", i);
		items[i] = (struct bus_slice){texts[i], strlen(texts[i])};
	}
	ck_bus(bus_pub_send_many(pub, items, 100), 100);
	items[1].data = NULL;
	ck_bus(bus_pub_send_many(pub, items, 3), 1);
	ck_bus(bus_pub_send_parts(pub, parts, 4), 0);
	ck_bus(bus_pub_send_parts(pub, &(struct bus_slice){NULL, 1}, 1), BUS_E_INVAL);
	ck_bus(bus_pub_loan(pub, 5000, &loan), 0);
	memcpy(loan, "lent", 4);
	ck_bus(bus_pub_commit(pub, loan, 4), 0);
	expect_message(m, "t", "one");
	expect_message(m, "t", "");
	for (int i = 0; i < 100; i++)
		expect_message(m, "t", texts[i]);
	expect_message(m, "t", "0");
	expect_message(m, "t", "head, body");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_mem_eq(msg->data, "lent", 4);
	ck_assert_int_eq(msg->type, BUS_TYPE_TEXT);
	bus_pub_close(pub);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(late_message_is_counted_and_not_delivered)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	const struct bus_msg *msg;

	ck_bus(bus_publish_msg(bus,
		   &(struct bus_msg){
		       .size = sizeof *msg, .topic = "t", .data = "x", .len = 1, .ttl_ms = 1}),
	    0);
	clock_pass_ms(5);
	publish_text(bus, "t", "in time");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->lost, 1);
	ck_assert_mem_eq(msg->data, "in time", 7);
	ck_assert_uint_eq(mailbox_stats(m).lost[BUS_LOSS_EXPIRED], 1);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- order ---------------------------------------------------------------------------------------------------------- */

#define WRITERS 3

#define EACH 20000

static void
write_many(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *go = subscriber(bus, "go");
	struct bus_pub *pub;
	char topic[16];

	snprintf(topic, sizeof topic, "w/%d", number);
	ck_bus(bus_pub_open(bus, topic, NULL, &pub), 0);
	retain_text(bus, topic, "ready");
	expect_message(go, "go", "!");
	for (uint32_t i = 0; i < EACH; i++) {
		must_bus(bus_pub_send(pub, &i, sizeof i));
		if (i % 500 == 0)
			usleep(1000); /* nobody is to be lapped here */
	}
	bus_pub_close(pub);
	bus_mailbox_close(go);
	ck_bus(bus_close(bus, 0), 0);
}

/* Sums what comes, in its order. */
static void *
hash_all(void *arg)
{
	struct bus_mailbox *m = arg;
	const struct bus_msg *msg;
	uint64_t *hash = calloc(1, sizeof *hash);
	uint32_t next[WRITERS] = {0}, number;

	for (int i = 0; i < WRITERS * EACH; i++) {
		must(bus_recv(m, patience_ms(), &msg) == 1);
		if (msg->len != sizeof number) {
			i--; /* "ready" */
			continue;
		}
		memcpy(&number, msg->data, sizeof number);
		must(msg->lost == 0 && number == next[msg->topic[2] - '0']++);
		*hash = *hash * 31 + number * 4 + (unsigned)(msg->topic[2] - '0');
	}
	return hash;
}

START_TEST(all_readers_get_the_messages_of_all_writers_in_one_order)
{
	const char *dir = bus_test_dir();
	pid_t writers[WRITERS];
	struct bus_mailbox *readers[2];
	pthread_t threads[2];
	void *hashes[2];
	struct bus *bus;

	for (int i = 0; i < WRITERS; i++)
		writers[i] = start(write_many, dir, i);
	bus = join(dir);
	for (int i = 0; i < 2; i++) {
		readers[i] = subscriber(bus, "w/+");
		pthread_create(&threads[i], NULL, hash_all, readers[i]);
	}
	/* They have joined when each has said so. */
	for (int i = 0; i < WRITERS; i++) {
		struct bus_mailbox *m;
		char topic[16];

		snprintf(topic, sizeof topic, "w/%d", i);
		m = subscriber(bus, topic);
		expect_message(m, topic, "ready");
		bus_mailbox_close(m);
	}
	publish_text(bus, "go", "!");
	for (int i = 0; i < WRITERS; i++)
		finish(writers[i]);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &hashes[i]);
		bus_mailbox_close(readers[i]);
	}
	ck_assert_uint_eq(*(uint64_t *)hashes[0], *(uint64_t *)hashes[1]);
	free(hashes[0]);
	free(hashes[1]);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- descriptors --------------------------------------------------------------------------------------------------------- */

static void
write_slowly(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *go = subscriber(bus, "go");

	retain_text(bus, "ready", "!");
	expect_message(go, "go", "!");
	for (int i = 0; i < number; i++) {
		must_bus(bus_publish(bus, "t", "x", 1));
		usleep(i % 10 == 0 ? 20000 : 0);
	}
	bus_mailbox_close(go);
	ck_bus(bus_close(bus, 0), 0);
}

START_TEST(descriptor_is_readable_while_there_is_something)
{
	const char *dir = bus_test_dir();
	pid_t writer = start(write_slowly, dir, 200);
	struct bus *bus = join(dir);
	struct bus_mailbox *ready = subscriber(bus, "ready"), *m;
	_Atomic unsigned calls = 0;
	int fd;

	ck_bus(bus_mailbox_open(bus, NULL, &m), 0);
	fd = bus_mailbox_fd(m);
	ck_assert_int_ge(fd, 0);
	ck_assert(!is_readable(fd, 50));
	ck_bus(bus_mailbox_subscribe(m, "t", count_message, (void *)&calls, NULL), 0);
	expect_message(ready, "ready", "!");
	while (bus_dispatch(m, 0, 0) > 0)
		;
	ck_assert(!is_readable(fd, 50));
	publish_text(bus, "go", "!");
	while (calls < 200) {
		must(is_readable(fd, patience_ms()));
		must_bus(bus_dispatch(m, 0, 3));
	}
	while (bus_dispatch(m, 0, 0) > 0)
		;
	finish(writer);
	ck_bus(bus_close(bus, 0), 0);
	ck_assert(is_readable(fd, patience_ms()));
	bus_mailbox_close(m);
	bus_mailbox_close(ready);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("named delivery");

	BUS_TEST_CASE(suite, "delivery", message_comes_to_every_mailbox_of_every_bus_of_the_name,
	    message_goes_to_another_process_and_back,
	    callbacks_run_on_the_mailboxs_thread_and_flush_waits_for_them,
	    close_lets_own_threads_finish_what_was_published, everything_that_a_message_has_arrives,
	    handles_send_one_many_and_loans, late_message_is_counted_and_not_delivered);
	BUS_TEST_CASE(suite, "order", all_readers_get_the_messages_of_all_writers_in_one_order);
	BUS_TEST_CASE(suite, "descriptors", descriptor_is_readable_while_there_is_something);
	return suite;
}
