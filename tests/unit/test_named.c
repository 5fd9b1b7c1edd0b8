/* A bus with a name: processes on one log, behind the same calls. */
#define _GNU_SOURCE
#include "link_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libbus/pack.h>

#include "base/clock.h"
#include "stopped_writer.h"

/* Another process: runs fn and ends. Make it before this process has a bus. */
static pid_t
start(void (*fn)(const char *dir, int number), const char *dir, int number)
{
	pid_t child = bus_test_fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		fn(dir, number);
		_exit(0);
	}
	return child;
}

static void
finish(pid_t child)
{
	int status;

	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other process failed");
}

static unsigned
files_in(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned count = 0;

	ck_assert_ptr_nonnull(d);
	for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(d);
	return count;
}

static uint64_t
lost(struct bus_mailbox *m, int cause)
{
	struct bus_stats stats = {.size = sizeof stats};
	uint64_t sum;

	ck_bus(bus_mailbox_stats(m, &stats), 0);
	sum = stats.delivered + stats.pending + stats.refused;
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		sum += stats.lost[i];
	ck_assert_uint_eq(stats.offered, sum);
	return stats.lost[cause];
}

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
	ck_bus(bus_pub_loan(pub, 5000, &loan), 0);
	memcpy(loan, "lent", 4);
	ck_bus(bus_pub_commit(pub, loan, 4), 0);
	expect_message(m, "t", "one");
	expect_message(m, "t", "");
	for (int i = 0; i < 100; i++)
		expect_message(m, "t", texts[i]);
	expect_message(m, "t", "0");
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
	usleep(5000);
	publish_text(bus, "t", "in time");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->lost, 1);
	ck_assert_mem_eq(msg->data, "in time", 7);
	ck_assert_uint_eq(lost(m, BUS_LOSS_EXPIRED), 1);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- order ---------------------------------------------------------------------------------------------------------- */

#define WRITERS 3
#define EACH    20000

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

static void
write_steps(struct bus *bus, int first, int end)
{
	for (int i = first; i < end; i++) {
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		must_bus(bus_publish(bus, i % 2 ? "odd" : "even", text, strlen(text)));
	}
}

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
	usleep(50000);
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

START_TEST(position_of_another_life_is_told_apart)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox_config cfg = {.size = sizeof cfg, .from = BUS_FROM_POSITION};
	struct bus_mailbox *m;

	ck_assert_uint_ne(bus_epoch(bus), 0);
	ck_assert_uint_eq(bus_epoch(NULL), 0);
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

/* --- losses ----------------------------------------------------------------------------------------------------------- */

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
	ck_assert_uint_eq(lost(m, BUS_LOSS_LAPPED), told);
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
	ck_assert_uint_eq(lost(m, BUS_LOSS_LAPPED), msg->lost);
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
	ck_assert_uint_eq(lost(m, BUS_LOSS_REPLACED), 998);
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

struct flood {
	struct bus *bus;
	_Atomic bool over;
};

static void *
flood(void *arg)
{
	struct flood *f = arg;
	struct bus_slice items[32];
	struct bus_pub *pub;

	for (int i = 0; i < 32; i++)
		items[i] = (struct bus_slice){"12345678", 8};
	must_bus(bus_pub_open(f->bus, "t", NULL, &pub));
	while (!f->over)
		must_bus(bus_pub_send_many(pub, items, 32));
	bus_pub_close(pub);
	return NULL;
}

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
	usleep(20000);
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

/* --- questions ---------------------------------------------------------------------------------------------------------- */

static void
answer(void *arg, const struct bus_msg *msg)
{
	char text[64];
	int len = snprintf(text, sizeof text, "[%.*s]", (int)msg->len, (const char *)msg->data);

	must_bus(bus_reply(arg, msg, text, (size_t)len));
	must_bus(bus_reply(arg, msg, "again", 5));
}

static void
serve(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *end = subscriber(bus, "end");

	(void)number;
	ck_bus(bus_subscribe(bus, "q", answer, bus, NULL), 0);
	retain_text(bus, "ready", "!");
	expect_message(end, "end", "!");
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, patience_ms()), 0);
}

struct asker {
	_Atomic unsigned replies, ends;
	char last[64];
};

static void
hear_reply(void *arg, const struct bus_msg *msg)
{
	struct asker *a = arg;

	if (msg == NULL) {
		a->ends++;
		return;
	}
	must(strcmp(msg->topic, "q") == 0 && msg->reply_to == 0);
	snprintf(a->last, sizeof a->last, "%.*s", (int)msg->len, (const char *)msg->data);
	a->replies++;
}

START_TEST(question_is_answered_by_another_process)
{
	const char *dir = bus_test_dir();
	pid_t server = start(serve, dir, 0);
	struct bus *bus = join(dir);
	struct bus_mailbox *ready = subscriber(bus, "ready"), *m;
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus_stats stats = {.size = sizeof stats};
	struct asker asker = {.replies = 0};
	struct bus_request *req;
	const struct bus_msg *reply;

	expect_message(ready, "ready", "!");
	for (int i = 0; i < 50; i++) {
		ck_bus(bus_request(bus, "q", "how", 3, patience_ms(), &reply), 0);
		ck_assert_uint_eq(reply->len, 5);
		ck_assert_mem_eq(reply->data, "[how]", 5);
		ck_assert_str_eq(reply->topic, "q");
		bus_msg_free(reply);
	}
	ck_bus(bus_mailbox_open(bus, &cfg, &m), 0);
	ck_bus(bus_request_start(m, "q", "why", 3, patience_ms(), hear_reply, &asker, &req), 0);
	ck_eventually(asker.replies == 2);
	bus_request_cancel(req);
	/* Behind what the drainer has in hand. */
	ck_eventually(asker.ends == 1);
	ck_assert_str_eq(asker.last, "again");
	/* Both are in the log of everybody, and nobody else has got them. */
	expect_nothing(ready);
	ck_bus(bus_request(bus, "nobody", "?", 1, 50, &reply), BUS_E_TIMEDOUT);
	ck_bus(bus_stats(bus, &stats), 0);
	publish_text(bus, "end", "!");
	finish(server);
	bus_mailbox_close(m);
	bus_mailbox_close(ready);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void *
close_soon(void *arg)
{
	usleep(50000);
	bus_close(arg, 0);
	return NULL;
}

static void
count_replies(void *arg, const struct bus_msg *reply)
{
	if (reply != NULL)
		++*(_Atomic unsigned *)arg;
}

START_TEST(reply_that_came_in_time_is_read_by_who_comes_late)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *second = join(dir);
	struct bus_stats s = {.size = sizeof s};
	struct bus_mailbox *asks = subscriber(bus, "x"), *answers = subscriber(bus, "q"),
			   *beside = subscriber(second, "x");
	const struct bus_msg *msg;
	_Atomic unsigned replies = 0;
	struct bus_request *req;
	bool in_time = false;

	/* A machine too busy to reply before the deadline gets a later one. */
	for (int timeout_ms = 100; !in_time; timeout_ms *= 2) {
		int64_t begun = bus_test_now_ms();

		ck_assert_int_lt(timeout_ms, patience_ms());
		ck_bus(bus_request_start(
			   asks, "q", "?", 1, timeout_ms, count_replies, (void *)&replies, &req),
		    0);
		ck_bus(bus_recv(answers, patience_ms(), &msg), 1);
		ck_bus(bus_reply(bus, msg, "!", 1), 0);
		in_time = bus_test_now_ms() < begun + timeout_ms;
		ck_eventually(bus_test_now_ms() > begun + timeout_ms + 1);
		for (int i = 0; i < 4; i++)
			must_bus(bus_dispatch(asks, 0, 0));
		ck_assert_uint_le(replies, 1);
		if (!in_time) {
			bus_request_cancel(req);
			replies = 0;
		}
	}
	ck_assert_uint_eq(replies, 1);
	/* It was not for the other bus of the process, and so is not late there. */
	must_bus(bus_dispatch(beside, 0, 0));
	ck_bus(bus_stats(second, &s), 0);
	ck_assert_uint_eq(s.late_replies, 0);
	bus_mailbox_close(beside);
	ck_bus(bus_close(second, 0), 0);
	bus_mailbox_close(asks);
	bus_mailbox_close(answers);
	bus_request_cancel(req);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(close_ends_the_wait_for_a_reply)
{
	struct bus *bus = join(bus_test_dir());
	const struct bus_msg *reply;
	pthread_t thread;

	pthread_create(&thread, NULL, close_soon, bus);
	ck_bus(bus_request(bus, "q", "?", 1, -1, &reply), BUS_E_CLOSED);
	pthread_join(thread, NULL);
}
END_TEST

/* --- links ---------------------------------------------------------------------------------------------------------------- */

static void
address_in(const char *dir, char text[200])
{
	snprintf(text, 200, "ipc://%s/link.sock", dir);
}

static uint32_t
peers_of(struct bus_link *link)
{
	struct bus_link_stats stats = {.size = sizeof stats};

	ck_bus(bus_link_stats(link, &stats), 0);
	return stats.peers;
}

/* Dials, says so, and lives until it is told to end or killed. */
static void
dial_and_wait(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *end = subscriber(bus, "end");
	struct bus_link *link;
	char address[200];

	(void)number;
	address_in(dir, address);
	ck_bus(bus_dial(bus, address, NULL, &link), 0);
	ck_eventually(peers_of(link) == 1);
	ck_bus(bus_subscribe(bus, "q", answer, bus, NULL), 0);
	retain_text(bus, "dialled", "!");
	expect_message(end, "end", "!");
	bus_link_close(link);
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, patience_ms()), 0);
}

START_TEST(one_process_has_the_link_and_all_have_what_it_brings)
{
	const char *dir = bus_test_dir();
	struct bus *private, *bus;
	struct bus_mailbox *there, *here, *dialled;
	struct bus_link *listener, *link;
	const struct bus_msg *reply;
	char address[200];
	pid_t holder;

	address_in(dir, address);
	holder = start(dial_and_wait, dir, 0);
	ck_bus(bus_open(NULL, NULL, &private), 0);
	ck_bus(bus_listen(private, address, NULL, &listener), 0);
	retain_text(private, "kept", "before");
	there = subscriber(private, "up/#");
	bus = join(dir);
	dialled = subscriber(bus, "dialled");
	expect_message(dialled, "dialled", "!");
	here = subscriber(bus, "kept");
	expect_message(here, "kept", "before");
	ck_bus(bus_mailbox_subscribe(here, "#", NULL, NULL, NULL), 0);
	ck_bus(bus_recv(here, patience_ms(), &reply), 1); /* both again, for this one */
	ck_bus(bus_recv(here, patience_ms(), &reply), 1);
	/* It stands by: the peer has one connection. */
	ck_bus(bus_dial(bus, address, NULL, &link), 0);
	usleep(600000);
	ck_assert_uint_eq(peers_of(listener), 1);
	ck_assert_uint_eq(peers_of(link), 0);

	publish_text(private, "down", "1");
	expect_message(here, "down", "1");
	retain_text(private, "kept", "after");
	expect_message(here, "kept", "after");
	publish_text(bus, "up/1", "2");
	expect_message(here, "up/1", "2");
	expect_message(there, "up/1", "2");
	expect_nothing(there); /* once, and nothing that came from there goes back */
	ck_bus(bus_flush(bus, patience_ms()), 0);
	/* A process without the link is asked from beyond it. */
	ck_bus(bus_request(private, "q", "how", 3, patience_ms(), &reply), 0);
	ck_assert_mem_eq(reply->data, "[how]", 5);
	bus_msg_free(reply);

	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	ck_eventually(peers_of(link) == 1);
	ck_eventually(peers_of(listener) == 1);
	while (bus_recv(here, 0, &reply) == 1)
		;
	publish_text(private, "down", "3");
	expect_message(here, "down", "3");
	publish_text(bus, "up/2", "4");
	expect_message(there, "up/2", "4");
	bus_link_close(link);
	bus_mailbox_close(here);
	bus_mailbox_close(dialled);
	ck_bus(bus_close(bus, patience_ms()), 0);
	bus_mailbox_close(there);
	bus_link_close(listener);
	ck_bus(bus_close(private, patience_ms()), 0);
}
END_TEST

static void
reply_at_once(void *arg, const struct bus_msg *msg)
{
	ck_bus(bus_reply(arg, msg, "!", 1), 0);
}

START_TEST(peer_that_has_subscribed_to_nothing_gets_its_replies)
{
	struct bus *bus = join(bus_test_dir()), *peer;
	const struct bus_msg *reply;
	struct bus_link *listens, *dials;
	char url[256];

	ck_bus(bus_subscribe(bus, "q", reply_at_once, bus, NULL), 0);
	ck_bus(bus_listen(bus, listen_url(0), NULL, &listens), 0);
	ck_assert_int_gt(bus_link_url(listens, url, sizeof url), 0);
	ck_bus(bus_open(NULL, NULL, &peer), 0);
	ck_bus(bus_dial(peer, url, NULL, &dials), 0);
	ck_eventually(is_up(dials));
	ck_eventually(bus_request(peer, "q", "?", 1, 5000, &reply) == 0);
	ck_assert_mem_eq(reply->data, "!", 1);
	bus_msg_free(reply);
	bus_link_close(dials);
	ck_bus(bus_close(peer, 0), 0);
	bus_link_close(listens);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
listen_and_wait(const char *dir)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *end = subscriber(bus, "end");
	char address[200];

	address_in(dir, address);
	ck_bus(bus_listen(bus, address, NULL, NULL), 0);
	retain_text(bus, "listens", "!");
	expect_message(end, "end", "!");
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, patience_ms()), 0);
	_exit(0);
}

START_TEST(address_that_one_process_listens_on_goes_to_another_that_asked_for_it)
{
	const char *dir = bus_test_dir();
	pid_t holder = bus_test_child(listen_and_wait, dir);
	struct bus *bus = join(dir), *private;
	struct bus_mailbox *listens = subscriber(bus, "listens"), *there;
	struct bus_link_stats stats = {.size = sizeof stats};
	struct bus_link *link, *dial;
	char address[200], text[200];

	expect_message(listens, "listens", "!");
	address_in(dir, address);
	ck_bus(bus_listen(bus, address, NULL, &link), 0);
	ck_bus(bus_link_stats(link, &stats), 0);
	ck_assert_int_eq(stats.state, BUS_LINK_DOWN);
	ck_bus(bus_open(NULL, NULL, &private), 0);
	there = subscriber(private, "#");
	ck_bus(bus_dial(private, address, NULL, &dial), 0);
	ck_eventually(peers_of(dial) == 1);
	expect_message(there, "listens", "!");
	publish_text(bus, "t", "by the other");
	expect_message(there, "t", "by the other");
	publish_text(bus, "end", "!");
	finish(holder);
	ck_eventually(peers_of(link) == 1);
	ck_assert_int_gt(bus_link_url(link, text, sizeof text), 0);
	ck_assert_str_eq(text, address);
	expect_message(there, "end", "!");
	ck_eventually(peers_of(dial) == 1);
	publish_text(bus, "t", "by us"); /* and the kept value is the same: no news */
	expect_message(there, "t", "by us");
	bus_mailbox_close(there);
	bus_link_close(dial);
	ck_bus(bus_close(private, patience_ms()), 0);
	bus_link_close(link);
	bus_mailbox_close(listens);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- descriptors --------------------------------------------------------------------------------------------------------- */

static bool
is_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

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

/* --- members ---------------------------------------------------------------------------------------------------------------- */

static void
be_there(const char *dir, int number)
{
	const struct bus_msg will = {.size = sizeof will,
	    .topic = "died",
	    .data = "adieu",
	    .len = 5,
	    .flags = BUS_MSG_RETAIN,
	    .headers = "\x80",
	    .headers_len = 1};
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = dir, .log_bytes = 4 << 20, .will = &will};
	struct bus_mailbox *end;
	struct bus *bus;

	(void)number;
	ck_bus(bus_open("test", &cfg, &bus), 0);
	end = subscriber(bus, "end");
	retain_text(bus, "there", "!");
	expect_message(end, "end", "!");
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, patience_ms()), 0);
}

START_TEST(who_is_there_is_told_and_who_leaves_or_dies)
{
	const char *dir = bus_test_dir();
	struct bus *bus;
	struct bus_mailbox *members, *died, *there, *all;
	const struct bus_msg *msg;
	pid_t child = start(be_there, dir, 0);
	char topic[64];

	bus = join(dir);
	there = subscriber(bus, "there");
	expect_message(there, "there", "!");
	all = subscriber(bus, "#");
	members = subscriber(bus, "$bus/members/#");
	died = subscriber(bus, "died");
	/* Both, in whatever order, kept. */
	for (int i = 0; i < 2; i++) {
		ck_bus(bus_recv(members, patience_ms(), &msg), 1);
		ck_assert(msg->flags & BUS_MSG_KEPT);
		ck_assert_int_eq(msg->type, BUS_TYPE_MSGPACK);
	}
	/* One that leaves in order says so, and its will is nothing. */
	publish_text(bus, "end", "!");
	finish(child);
	ck_bus(bus_recv(members, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->len, 0);
	snprintf(topic, sizeof topic, "%s", msg->topic);
	expect_nothing(died);
	/* One that is killed does not; another does it, once. */
	child = start(be_there, dir, 0);
	ck_bus(bus_recv(members, patience_ms(), &msg), 1);
	ck_assert_str_eq(msg->topic, topic); /* the slot is used again */
	ck_assert_uint_gt(msg->len, 0);
	expect_message(there, "there", "!");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	await_message(died, "died", "adieu", 5);
	await_message(members, topic, "", 0);
	expect_nothing(died);
	expect_nothing(members);
	/* What is at the first level $ no wildcard stands for. */
	while (bus_recv(all, 0, &msg) == 1)
		ck_assert_int_ne(msg->topic[0], '$');
	bus_mailbox_close(all);
	bus_mailbox_close(members);
	bus_mailbox_close(died);
	bus_mailbox_close(there);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(who_gets_the_slot_of_a_dead_one_buries_him)
{
	const char *dir = bus_test_dir();
	pid_t child = start(be_there, dir, 0);
	const struct bus_msg *msg;
	struct bus_mailbox *m;
	struct bus *bus = join(dir);

	/* This process never rests until the child is dead and another has its slot. */
	m = subscriber(bus, "there");
	expect_message(m, "there", "!");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	child = start(be_there, dir, 0);
	bus_mailbox_close(m);
	m = subscriber(bus, "died");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_mem_eq(msg->data, "adieu", 5);
	ck_assert_uint_eq(msg->headers_len, 1);
	expect_nothing(m);
	publish_text(bus, "end", "!");
	finish(child);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static void write_for_ever(const char *dir, int number);

/* Who waits for a descriptor alone, or may publish less than the will is long, or is on the bus several times: it is said
 * all the same, and once. */
START_TEST(will_is_said_once_by_whoever_is_there)
{
	enum { TIMES = 8 };
	const char *dir = bus_test_dir();
	const struct bus_config small = {
	    .size = sizeof small, .dir = dir, .log_bytes = 4 << 20, .max_payload = 3};
	const struct bus_mailbox_config own = {.size = sizeof own, .drain = BUS_DRAIN_THREAD};
	struct bus *buses[TIMES];
	struct bus_mailbox *all[TIMES], *m;
	_Atomic unsigned calls = 0;
	const struct bus_msg *msg;
	pid_t child = start(be_there, dir, 0);
	int fd;

	for (int i = 0; i < TIMES; i++) {
		ck_bus(bus_open("test", &small, &buses[i]), 0);
		ck_bus(bus_mailbox_open(buses[i], &own, &all[i]), 0);
		ck_bus(bus_mailbox_subscribe(all[i], "x", count_message, (void *)&calls, NULL), 0);
	}
	m = subscriber(buses[0], "there");
	expect_message(m, "there", "!");
	bus_mailbox_close(m);
	m = subscriber(buses[0], "died");
	fd = bus_mailbox_fd(m);
	while (bus_dispatch(m, 0, 0) > 0)
		;
	for (int i = 0; i < TIMES && _i == 0; i++) /* only the descriptor is left */
		bus_mailbox_close(all[i]);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_assert(is_readable(fd, patience_ms()));
	ck_bus(bus_recv(m, 0, &msg), 1);
	ck_assert_mem_eq(msg->data, "adieu", 5);
	ck_bus(bus_recv(m, 1500, &msg), 0);
	bus_mailbox_close(m);
	for (int i = 0; i < TIMES; i++) {
		if (_i != 0)
			bus_mailbox_close(all[i]);
		ck_bus(bus_close(buses[i], 0), 0);
	}
}
END_TEST

static void
leave_an_object(const char *dir, int number)
{
	const struct bus_msg will = {
	    .size = sizeof will, .topic = "died", .data = "adieu", .len = 5};
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = dir, .log_bytes = 4 << 20, .will = &will};
	struct bus *first, *second;
	struct bus_mailbox *m;

	(void)number;
	ck_bus(bus_open("test", &cfg, &first), 0);
	ck_bus(bus_open("test", &cfg, &second), 0);
	m = subscriber(first, "x");
	retain_text(first, "there", "!");
	ck_bus(bus_close(first, 0), 0);
	ck_bus(bus_close(second, 0), 0);
	bus_mailbox_close(m);
}

START_TEST(who_leaves_with_several_buses_leaves_no_will)
{
	const char *dir = bus_test_dir();
	struct bus *bus;
	struct bus_mailbox *members, *died;
	const struct bus_msg *msg;
	char topic[64];
	pid_t child;

	child = start(leave_an_object, dir, 0);
	bus = join(dir);
	members = subscriber(bus, "$bus/members/#");
	died = subscriber(bus, "died");
	finish(child);
	while (bus_dispatch(members, 50, 0) > 0)
		;
	child = start(write_for_ever, dir, 0); /* has none */
	do
		must(bus_recv(members, patience_ms(), &msg) == 1);
	while (msg->len == 0);
	snprintf(topic, sizeof topic, "%s", msg->topic);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	await_message(members, topic, "", 0);
	expect_nothing(died);
	bus_mailbox_close(members);
	bus_mailbox_close(died);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static void
hold_role(const char *dir, int forks)
{
	struct bus *bus = join(dir);
	struct bus_role *role;

	ck_bus(bus_role_take(bus, "leader", 0, &role), 0);
	if (forks && fork() == 0) { /* a child that outlives its parent holds nothing */
		alarm((unsigned)bus_test_patience());
		for (;;)
			pause();
	}
	retain_text(bus, "holds", "!");
	pause();
}

START_TEST(role_has_one_holder_and_moves_when_he_ends_it_or_dies)
{
	const char *dir = bus_test_dir();
	pid_t holder = start(hold_role, dir, _i);
	struct bus *bus = join(dir), *private;
	struct bus_mailbox *m = subscriber(bus, "holds");
	struct bus_role *role, *second;

	expect_message(m, "holds", "!");
	ck_bus(bus_role_take(bus, "leader", 0, &role), BUS_E_TIMEDOUT);
	ck_bus(bus_role_take(bus, "leader", 150, &role), BUS_E_TIMEDOUT);
	ck_bus(bus_role_take(bus, "other", 0, &second), 0);
	bus_role_end(second);
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	ck_bus(bus_role_take(bus, "leader", patience_ms(), &role), 0);
	ck_bus(bus_role_take(bus, "leader", 0, &second), BUS_E_TIMEDOUT);
	bus_role_end(role);
	ck_bus(bus_role_take(bus, "leader", 0, &role), 0);
	ck_bus(bus_role_take(bus, "a/#", 0, &second), BUS_E_TOPIC_WILDCARD);
	ck_bus(bus_role_take(bus, "leader", 0, NULL), BUS_E_INVAL);
	ck_bus(bus_open(NULL, NULL, &private), 0);
	ck_bus(bus_role_take(private, "leader", 0, &second), BUS_E_NOTSUP);
	ck_bus(bus_close(private, 0), 0);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
	bus = join(dir);
	ck_bus(bus_role_take(bus, "leader", 0, &second), 0); /* the end of the bus gave it back */
	bus_role_end(role);
	bus_role_end(second);
	bus_role_end(NULL);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static void
never(void *arg, const struct bus_msg *msg)
{
	(void)arg;
	(void)msg;
}

struct standby {
	struct bus *bus;
	_Atomic bool waits;
	int answer;
	long sleeps;
};

static void *
stand_by(void *arg)
{
	struct standby *s = arg;
	struct bus_role *role;
	struct rusage usage;

	s->waits = true;
	s->answer = bus_role_take(s->bus, "leader", -1, &role);
	getrusage(RUSAGE_THREAD, &usage);
	s->sleeps = usage.ru_nvcsw;
	bus_role_end(role);
	return NULL;
}

/* It looks ten times a second whether another process's holder is there still, and at once when one of its own bus ends. */
START_TEST(messages_do_not_wake_who_stands_by_for_a_role)
{
	enum { MESSAGES = 2000 };
	struct standby s = {.bus = join(bus_test_dir())};
	struct bus_role *role;
	pthread_t thread;
	int64_t begun_ms;

	ck_bus(bus_role_take(s.bus, "leader", 0, &role), 0);
	/* It sleeps, and asks to be woken by the next message. */
	ck_bus(bus_subscribe(s.bus, "unheard", never, NULL, NULL), 0);
	begun_ms = bus_test_now_ms();
	ck_assert_int_eq(pthread_create(&thread, NULL, stand_by, &s), 0);
	ck_eventually(s.waits);
	for (int i = 0; i < MESSAGES; i++) {
		const struct timespec pause = {.tv_nsec = 200000};

		must_bus(bus_publish(s.bus, "t", "x", 1));
		nanosleep(&pause, NULL);
	}
	bus_role_end(role);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_bus(s.answer, 0);
	/* Some more for locks that it waits for. */
	ck_assert_int_lt(s.sleeps, (bus_test_now_ms() - begun_ms) / 50 + MESSAGES / 10);
	ck_bus(bus_close(s.bus, 0), 0);
}
END_TEST

/* --- ends ------------------------------------------------------------------------------------------------------------------ */

static void
write_for_ever(const char *dir, int number)
{
	struct bus *bus = join(dir);

	for (uint64_t i = 0;; i++)
		must_bus(bus_publish(bus, number ? "one" : "other", &i, sizeof i));
}

START_TEST(killed_member_leaves_the_others_working)
{
	const char *dir = bus_test_dir();
	struct bus *bus;
	struct bus_mailbox *m;

	for (int round = 0; round < 5; round++) {
		pid_t one = start(write_for_ever, dir, 1), other = start(write_for_ever, dir, 0);

		bus = join(dir);
		m = subscriber(bus, "here");
		usleep(30000);
		kill(one, SIGKILL);
		waitpid(one, NULL, 0);
		kill(other, SIGKILL);
		waitpid(other, NULL, 0);
		publish_text(bus, "here", "still");
		expect_message(m, "here", "still");
		bus_mailbox_close(m);
		ck_bus(bus_close(bus, patience_ms()), 0);
	}
	ck_assert_uint_eq(files_in(dir), 0);
}
END_TEST

static void
wait_for_ever(const char *dir, int number)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = dir, .log_bytes = 4 << 20};
	struct bus *bus;

	ck_bus(bus_open(number ? "dead" : "alive", &cfg, &bus), 0);
	publish_text(bus, "t", "x");
	pause();
}

static bool
has_file(const char *dir, const char *name)
{
	char path[200];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

START_TEST(memory_of_a_bus_whose_members_were_killed_is_given_back)
{
	const char *dir = bus_test_dir();
	pid_t dead = start(wait_for_ever, dir, 1), alive = start(wait_for_ever, dir, 0);
	struct bus *bus;

	/* And none that one of them is making. */
	ck_eventually(
	    has_file(dir, "dead.bus") && has_file(dir, "alive.bus") && files_in(dir) == 4);
	bus = join(dir);
	ck_assert_uint_eq(files_in(dir), 6);
	ck_bus(bus_close(bus, 0), 0);
	kill(dead, SIGKILL);
	waitpid(dead, NULL, 0);
	ck_assert_uint_eq(files_in(dir), 4);
	bus = join(dir);
	ck_assert_uint_eq(files_in(dir), 4); /* ours and that of the living */
	kill(alive, SIGKILL);
	waitpid(alive, NULL, 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(files_that_were_removed_are_warned_of)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir);
	struct bus_mailbox *m = subscriber(bus, "$bus/warnings");
	const struct bus_msg *msg;
	const struct bus_value *value;
	char path[200], *text;
	size_t len;

	snprintf(path, sizeof path, "%s/test.lock", dir);
	ck_assert_int_eq(unlink(path), 0);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_bus(bus_value_read(msg->type, msg->data, msg->len, &value), 0);
	ck_bus(bus_value_json(value, &text, &len), 0);
	ck_assert_ptr_nonnull(strstr(text, "\"removed\""));
	ck_assert_ptr_nonnull(strstr(text, "/test.bus"));
	free(text);
	bus_value_free(value);
	ck_bus(bus_recv(m, 1500, &msg), 0);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static struct bus_log_stats
log_stats(struct bus *bus)
{
	struct bus_log_stats stats = {.size = sizeof stats};

	ck_bus(bus_log_stats(bus, &stats), 0);
	return stats;
}

static void
await_warning(struct bus_mailbox *m, const char *kind, const char *unit)
{
	const struct bus_msg *msg;
	const struct bus_value *value;
	char *text;
	size_t len;

	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_bus(bus_value_read(msg->type, msg->data, msg->len, &value), 0);
	ck_bus(bus_value_json(value, &text, &len), 0);
	ck_assert_ptr_nonnull(strstr(text, kind));
	ck_assert_ptr_nonnull(strstr(text, unit));
	free(text);
	bus_value_free(value);
}

/* By number, and (_i) by bytes. */
START_TEST(values_that_take_most_of_what_they_may_are_warned_of)
{
	static char payload[20000];
	struct bus *bus = join(bus_test_dir());
	struct bus_log_stats stats = log_stats(bus);
	struct bus_mailbox *m = subscriber(bus, "$bus/warnings");
	uint64_t many = _i ? stats.values_most / sizeof payload : stats.values_count_most;
	const struct bus_msg *msg;
	struct bus_msg value = {.size = sizeof value,
	    .data = payload,
	    .len = _i ? sizeof payload : 1,
	    .flags = BUS_MSG_RETAIN};
	char topic[32];

	value.topic = topic;
	for (uint64_t i = 0; i < many * 7 / 10 - 10; i++) {
		snprintf(topic, sizeof topic, "t/%llu", (unsigned long long)i);
		ck_bus(bus_publish_msg(bus, &value), 0);
	}
	ck_bus(bus_recv(m, 1500, &msg), 0);
	for (uint64_t i = 0; i < many * 8 / 10 + 10; i++) {
		snprintf(topic, sizeof topic, "t/%llu", (unsigned long long)i);
		ck_bus(bus_publish_msg(bus, &value), 0);
	}
	await_warning(m, "\"values\"", _i ? "\"bytes\"" : "\"values\":");
	ck_bus(bus_recv(m, 1500, &msg), 0); /* once */
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

#ifndef __SANITIZE_THREAD__
/* Writes nonsense all over the file, most of it where it hurts. */
static void
scribble(const char *dir, int number)
{
	uint64_t word = (uint64_t)number * UINT64_C(0x9e3779b97f4a7c15) + 1, *words;
	int64_t until = bus_test_now_ms() + 1500;
	char path[300];
	int fd;

	snprintf(path, sizeof path, "%s/test.bus", dir);
	fd = open(path, O_RDWR);
	must(fd >= 0);
	words = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(words != MAP_FAILED);
	while (bus_test_now_ms() < until)
		for (int i = 0; i < 100; i++) {
			size_t at;

			word ^= word << 13;
			word ^= word >> 7;
			word ^= word << 17;
			at = (size_t)(word >> 20) % (i % 2 ? (4u << 20) / 8 : 60000);
			words[at] = i % 3 == 0 ? words[at] + word % 64 - 32 : word;
		}
}

static void
read_all(void *arg, const struct bus_msg *msg)
{
	_Atomic unsigned *sum = arg;

	for (size_t i = 0; i < msg->len; i++)
		atomic_fetch_add_explicit(
		    sum, ((const uint8_t *)msg->data)[i], memory_order_relaxed);
	for (size_t i = 0; i < msg->headers_len; i++)
		atomic_fetch_add_explicit(
		    sum, ((const uint8_t *)msg->headers)[i], memory_order_relaxed);
}

/* Whoever maps the log can destroy it, and no program with it. */
START_TEST(damage_of_the_log_crashes_nobody_and_nobody_hangs)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir);
	_Atomic unsigned sum = 0;
	pid_t child;
	int64_t until;

	must_bus(bus_subscribe(bus, "#", read_all, (void *)&sum, NULL));
	retain_text(bus, "v", "value");
	child = start(scribble, dir, _i);
	until = bus_test_now_ms() + 2000;
	for (unsigned i = 0; bus_test_now_ms() < until; i++) {
		struct bus_mailbox_config cfg = {
		    .size = sizeof cfg, .from = (int)(i % 5), .from_value = 9};
		struct bus_log_stats stats = {.size = sizeof stats};
		struct bus_member member = {.size = sizeof member};
		const struct bus_msg *msg;
		struct bus_mailbox *m;
		char topic[20];

		bus_member(bus, i % BUS_LIMIT_MEMBERS, &member);
		if (i % 16 == 1)
			bus_log_stats(bus, &stats);
		snprintf(topic, sizeof topic, "t/%u", i % 50);
		bus_publish_msg(bus, &(struct bus_msg){.size = sizeof *msg,
					 .topic = topic,
					 .data = "0123456789",
					 .len = i % 11,
					 .flags = i % 2 ? BUS_MSG_RETAIN : 0});
		if (i % 16 != 0 || bus_mailbox_open(bus, &cfg, &m) < 0)
			continue;
		bus_mailbox_subscribe(m, i % 3 ? "#" : topic, NULL, NULL, NULL);
		for (int n = 0; n < 100 && bus_recv(m, 0, &msg) == 1; n++)
			read_all((void *)&sum, msg);
		bus_request(bus, topic, "?", 1, 1, &msg);
		bus_mailbox_close(m);
	}
	finish(child);
	bus_close(bus, 0);
}
END_TEST
#endif

START_TEST(forked_child_opens_a_bus_of_its_own)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	const char *dir = bus_test_dir();
	pid_t child = bus_test_fork();

	if (child == 0) {
		struct bus *own;
		const struct bus_msg *msg;

		must(bus_publish(bus, "t", "x", 1) == BUS_E_FORKED);
		must(bus_recv(m, 0, &msg) == BUS_E_FORKED);
		must(bus_close(bus, 0) == BUS_E_FORKED);
		own = join(dir);
		must(bus_publish(own, "t", "child", 5) == 0);
		must(bus_close(own, 0) == 0);
		_exit(0);
	}
	finish(child);
	expect_message(m, "t", "child");
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(mailbox_outlives_its_bus)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	const struct bus_msg *msg;

	publish_text(bus, "t", "x");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_bus(bus_close(bus, 0), 0);
	ck_bus(bus_recv(m, patience_ms(), &msg), BUS_E_CLOSED);
	ck_bus(bus_mailbox_subscribe(m, "u", NULL, NULL, NULL), BUS_E_CLOSED);
	bus_mailbox_close(m);
	ck_assert_uint_eq(files_in(bus_test_dir()), 0);
}
END_TEST

START_TEST(what_a_named_bus_cannot_have_is_refused)
{
	struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct bus_mailbox_config mail = {.size = sizeof mail};
	struct bus_mailbox *m;
	struct bus *bus, *private;

	ck_bus(bus_open("", &cfg, &bus), BUS_E_INVAL);
	ck_bus(bus_open("Upper", &cfg, &bus), BUS_E_INVAL);
	ck_bus(bus_open("../x", &cfg, &bus), BUS_E_INVAL);
	cfg.log_bytes = 1;
	ck_bus(bus_open("x", &cfg, &bus), BUS_E_INVAL);
	bus = join(bus_test_dir());
	mail.full = BUS_FULL_REFUSE;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_NOTSUP);
	mail.full = BUS_FULL_DROP_NEWEST;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_NOTSUP);
	mail.full = BUS_FULL_DROP_OLDEST;
	mail.drain = BUS_DRAIN_PUBLISHER;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_NOTSUP);
	mail.drain = BUS_DRAIN_CALLER;
	mail.group = "g";
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_NOTSUP);
	mail.group = NULL;
	mail.from = BUS_FROM_TIME + 1;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_INVAL);
	mail.from = BUS_FROM_TIME;
	mail.from_value = (uint64_t)INT64_MAX + 1;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_INVAL);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "from_value: 9223372036854775808"));
	mail.from_value = UINT64_MAX;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_INVAL);
	mail.from_value = INT64_MAX; /* nothing has been published then */
	ck_bus(bus_mailbox_open(bus, &mail, &m), 0);
	bus_mailbox_close(m);
	mail.from = BUS_FROM_POSITION;
	mail.from_value = UINT64_MAX;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_RESET);
	mail.from_value = 0;
	ck_bus(bus_keep(bus, "#", NULL), BUS_E_NOTSUP);
	ck_bus(bus_publish(bus, "$bus/x", "x", 1), BUS_E_TOPIC_RESERVED);
	ck_bus(bus_publish(bus, "a/#", "x", 1), BUS_E_TOPIC_WILDCARD);
	ck_bus(bus_publish(bus, "", "x", 1), BUS_E_TOPIC_EMPTY);
	ck_bus(bus_publish(bus, NULL, "x", 1), BUS_E_INVAL);
	ck_bus(bus_close(bus, 0), 0);
	ck_bus(bus_open(NULL, NULL, &private), 0);
	mail.from = BUS_FROM_OLDEST;
	ck_bus(bus_mailbox_open(private, &mail, &m), BUS_E_NOTSUP);
	ck_bus(bus_describe(private, NULL, 0), BUS_E_NOTSUP);
	ck_bus(bus_close(private, 0), 0);
}
END_TEST

START_TEST(it_says_what_it_is_and_who_gets_a_topic)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	char text[4096], whole[64];
	int len;

	retain_text(bus, "t", "value");
	len = bus_describe(bus, text, sizeof text);
	ck_assert_int_eq(len, (int)strlen(text));
	snprintf(whole, sizeof whole, "pid %d, this one", (int)getpid());
	ck_assert_ptr_nonnull(strstr(text, whole));
	ck_assert_ptr_nonnull(strstr(text, "messages: "));
	ck_assert_ptr_nonnull(strstr(text, "/test.bus, 4096 KiB in "));
	ck_assert_int_gt(bus_explain(bus, "t", text, sizeof text), 0);
	ck_assert_ptr_nonnull(strstr(text, "keeps a value of 5 bytes"));
	ck_assert_ptr_nonnull(strstr(text, "other processes that listen: 0; that get it: 0\n"));
	ck_assert_int_gt(bus_explain(bus, "u", text, sizeof text), 0);
	ck_assert_ptr_nonnull(strstr(text, "unknown topic"));
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- its numbers ------------------------------------------------------------------------------------------------ */

START_TEST(its_numbers_are_those_of_what_was_published)
{
	struct bus *bus = join(bus_test_dir());
	const struct bus_log_stats before = log_stats(bus);
	struct bus_mailbox *m = subscriber(bus, "t/#");
	const struct bus_msg *msg;
	struct bus_log_stats stats;
	char value[1001];

	/* That this process is there is a message, and a value. */
	ck_assert_uint_eq(before.log_bytes, 4 << 20);
	ck_assert_uint_gt(before.segments, 1);
	ck_assert_uint_eq(before.messages, 1);
	ck_assert_uint_eq(before.messages_left, 1);
	ck_assert_uint_eq(before.oldest, 1);
	ck_assert_uint_gt(before.values_bytes, 0);
	ck_assert_uint_eq(before.values_count, 0);
	ck_assert_uint_eq(before.readers, 0);
	ck_assert_uint_eq(before.processes, 1);
	ck_assert_uint_eq(before.processes_most, BUS_LIMIT_MEMBERS);
	for (int i = 0; i < 10; i++)
		publish_text(bus, "t/plain", "x");
	stats = log_stats(bus);
	ck_assert_uint_eq(stats.messages, 11);
	ck_assert_uint_eq(stats.messages_left, 11);
	ck_assert_uint_eq(stats.values_bytes, before.values_bytes);
	ck_assert_uint_eq(stats.values_count, 0);
	ck_assert_uint_gt(stats.values_count_most, 5000);
	ck_assert_uint_eq(stats.readers, 1);
	ck_assert_uint_lt(stats.readers, stats.readers_most);
	for (int i = 0; i < 10; i++)
		ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->position, stats.messages);
	/* A value takes room once, however often it is replaced, and none when it is forgotten. */
	memset(value, 'v', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	for (int i = 0; i < 10; i++)
		retain_text(bus, "t/kept", value);
	stats = log_stats(bus);
	ck_assert_uint_ge(stats.values_bytes, before.values_bytes + strlen(value));
	ck_assert_uint_lt(stats.values_bytes, before.values_bytes + 2 * strlen(value));
	ck_assert_uint_lt(stats.values_bytes, stats.values_most);
	retain_text(bus, "t/kept", "");
	ck_assert_uint_eq(log_stats(bus).values_bytes, before.values_bytes);
	bus_mailbox_close(m);
	ck_assert_uint_eq(log_stats(bus).readers, 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(what_the_log_has_no_more_is_not_among_what_is_left)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m;
	const struct bus_msg *msg;
	struct bus_log_stats stats;
	uint64_t published = 0;

	do {
		for (int i = 0; i < 1000; i++, published++)
			must_bus(bus_publish(bus, "t", "x", 1));
		stats = log_stats(bus);
		ck_assert_uint_eq(stats.messages, published + 1);
	} while (stats.oldest == 1 || stats.messages < 2 * stats.messages_left);
	ck_assert_uint_eq(stats.messages - stats.oldest + 1, stats.messages_left);
	m = open_mailbox(bus, "t", .from = BUS_FROM_OLDEST);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->position, stats.oldest);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* The number of the only other process; BUS_LIMIT_MEMBERS: there is none. */
static uint32_t
find_other(struct bus *bus, struct bus_member *ret_member)
{
	uint32_t found = BUS_LIMIT_MEMBERS;

	for (uint32_t i = 0; i < BUS_LIMIT_MEMBERS; i++) {
		struct bus_member member = {.size = sizeof member};
		int there = bus_member(bus, i, &member);

		must(there >= 0);
		must(there == 1 || member.pid == 0);
		if (there == 0 || member.is_this)
			continue;
		ck_assert_uint_eq(found, BUS_LIMIT_MEMBERS);
		*ret_member = member;
		found = i;
	}
	return found;
}

START_TEST(member_is_found_while_it_lives_and_when_it_was_killed)
{
	const char *dir = bus_test_dir();
	pid_t child = start(be_there, dir, 0);
	struct bus *bus = join(dir);
	struct bus_mailbox *there = subscriber(bus, "there"), *members;
	struct bus_member member, own = {.size = sizeof own};
	char topic[64];
	uint32_t number;

	expect_message(there, "there", "!");
	bus_mailbox_close(there);
	ck_assert_uint_eq(log_stats(bus).processes, 2);
	number = find_other(bus, &member);
	ck_assert_uint_eq(member.pid, (uint32_t)child);
	ck_assert(member.is_alive);
	for (uint32_t i = 0; !own.is_this; i++)
		ck_assert_int_ge(bus_member(bus, i, &own), 0);
	ck_assert_uint_eq(own.pid, (uint32_t)getpid());
	ck_assert(own.is_alive);
	/* Its number is that of its topic. */
	snprintf(topic, sizeof topic, "$bus/members/%u", number);
	members = subscriber(bus, topic);
	await_message(members, topic, "\x82", 1);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	/* Dead, or buried already. */
	if (find_other(bus, &member) != BUS_LIMIT_MEMBERS)
		ck_assert(!member.is_alive);
	await_message(members, topic, "", 0);
	ck_eventually(find_other(bus, &member) == BUS_LIMIT_MEMBERS);
	ck_assert_uint_eq(log_stats(bus).processes, 1);
	bus_mailbox_close(members);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(numbers_of_what_has_none_are_refused)
{
	struct bus *bus = join(bus_test_dir()), *private;
	struct bus_log_stats stats = {.size = sizeof stats, .log_bytes = 7};
	struct bus_member member = {.size = sizeof member, .pid = 7};
	pid_t child;

	ck_bus(bus_open(NULL, NULL, &private), 0);
	ck_bus(bus_log_stats(private, &stats), BUS_E_NOTSUP);
	ck_bus(bus_member(private, 0, &member), BUS_E_NOTSUP);
	ck_bus(bus_close(private, 0), 0);
	ck_bus(bus_log_stats(NULL, &stats), BUS_E_INVAL);
	ck_bus(bus_log_stats(bus, NULL), BUS_E_INVAL);
	ck_bus(bus_member(NULL, 0, &member), BUS_E_INVAL);
	ck_bus(bus_member(bus, 0, NULL), BUS_E_INVAL);
	ck_bus(bus_member(bus, BUS_LIMIT_MEMBERS, &member), BUS_E_INVAL);
	ck_bus(bus_member(bus, UINT32_MAX, &member), BUS_E_INVAL);
	ck_bus(bus_member(bus, BUS_LIMIT_MEMBERS - 1, &member), 0);
	stats.size--;
	member.size--;
	ck_bus(bus_log_stats(bus, &stats), BUS_E_INVAL);
	ck_bus(bus_member(bus, 0, &member), BUS_E_INVAL);
	ck_assert_uint_eq(stats.log_bytes, 7);
	ck_assert_uint_eq(member.pid, 7);
	child = bus_test_fork();
	if (child == 0) {
		must(bus_log_stats(bus, &stats) == BUS_E_FORKED);
		must(bus_member(bus, 0, &member) == BUS_E_FORKED);
		_exit(0);
	}
	finish(child);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

struct closing {
	struct bus *bus;
	int stats, member; /* the answers */
};

static void
ask_until_closed(void *arg, const struct bus_msg *msg)
{
	struct closing *closing = arg;
	struct bus_log_stats stats = {.size = sizeof stats};
	struct bus_member member = {.size = sizeof member};

	(void)msg;
	do {
		closing->stats = bus_log_stats(closing->bus, &stats);
	} while (closing->stats == 0);
	closing->member = bus_member(closing->bus, 0, &member);
}

START_TEST(bus_that_is_closing_has_no_numbers)
{
	struct closing closing = {.bus = join(bus_test_dir())};

	ck_bus(bus_subscribe(closing.bus, "t", ask_until_closed, &closing, NULL), 0);
	publish_text(closing.bus, "t", "x");
	ck_bus(bus_close(closing.bus, patience_ms()), 0);
	ck_bus(closing.stats, BUS_E_CLOSED);
	ck_bus(closing.member, BUS_E_CLOSED);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("named");
	TCase *wills = bus_test_case("wills"), *roles = bus_test_case("roles");

	BUS_TEST_CASE(suite, "delivery", message_comes_to_every_mailbox_of_every_bus_of_the_name,
	    message_goes_to_another_process_and_back,
	    callbacks_run_on_the_mailboxs_thread_and_flush_waits_for_them,
	    close_lets_own_threads_finish_what_was_published, everything_that_a_message_has_arrives,
	    handles_send_one_many_and_loans, late_message_is_counted_and_not_delivered,
	    all_readers_get_the_messages_of_all_writers_in_one_order);
	BUS_TEST_CASE(suite, "beginnings", kept_value_comes_first_and_flagged,
	    kept_value_comes_before_what_is_newer, mailbox_has_room_for_all_that_is_kept,
	    more_kept_topics_than_a_bus_may_have_are_told,
	    mailbox_begins_where_it_is_told_to_and_goes_on_with_what_comes,
	    position_of_another_life_is_told_apart,
	    subscriptions_begin_and_end_under_traffic_without_a_gap,
	    replay_goes_over_into_what_comes_without_a_gap_or_a_double,
	    last_messages_are_found_behind_many_that_nobody_wants);
	BUS_TEST_CASE(suite, "losses", mailbox_that_is_lapped_loses_exactly_what_it_says,
	    what_is_in_hand_stays_and_what_lies_behind_it_is_lost_and_counted,
	    nobody_who_waits_holds_up_the_others, latest_keeps_the_newest_of_each_topic,
	    latest_begins_with_its_subscription, flush_waits_for_the_latest_too,
	    flood_does_not_keep_the_latest_from_its_callbacks,
	    publish_is_refused_where_stopped_writers_hold_all_memory,
	    who_does_not_come_back_for_the_rest_holds_up_nobody, handle_keeps_no_route_of_others,
	    value_that_has_expired_is_no_loss);
	BUS_TEST_CASE(suite, "questions", question_is_answered_by_another_process,
	    reply_that_came_in_time_is_read_by_who_comes_late, close_ends_the_wait_for_a_reply);
	BUS_TEST_CASE(suite, "links", one_process_has_the_link_and_all_have_what_it_brings,
	    peer_that_has_subscribed_to_nothing_gets_its_replies,
	    address_that_one_process_listens_on_goes_to_another_that_asked_for_it);
	BUS_TEST_CASE(suite, "members", who_is_there_is_told_and_who_leaves_or_dies,
	    who_gets_the_slot_of_a_dead_one_buries_him, files_that_were_removed_are_warned_of,
	    who_leaves_with_several_buses_leaves_no_will);
	tcase_add_loop_test(wills, will_is_said_once_by_whoever_is_there, 0, 2);
	tcase_add_loop_test(wills, values_that_take_most_of_what_they_may_are_warned_of, 0, 2);
	suite_add_tcase(suite, wills);
	tcase_add_loop_test(roles, role_has_one_holder_and_moves_when_he_ends_it_or_dies, 0, 2);
	tcase_add_test(roles, messages_do_not_wake_who_stands_by_for_a_role);
	suite_add_tcase(suite, roles);
	BUS_TEST_CASE(suite, "numbers", its_numbers_are_those_of_what_was_published,
	    what_the_log_has_no_more_is_not_among_what_is_left,
	    member_is_found_while_it_lives_and_when_it_was_killed,
	    numbers_of_what_has_none_are_refused, bus_that_is_closing_has_no_numbers);
	BUS_TEST_CASE(suite, "descriptors", descriptor_is_readable_while_there_is_something);
#ifndef __SANITIZE_THREAD__
	TCase *damaged = bus_test_case("damage");

	tcase_add_loop_test(damaged, damage_of_the_log_crashes_nobody_and_nobody_hangs, 0, 4);
	suite_add_tcase(suite, damaged);
#endif
	BUS_TEST_CASE(suite, "ends", killed_member_leaves_the_others_working,
	    memory_of_a_bus_whose_members_were_killed_is_given_back,
	    forked_child_opens_a_bus_of_its_own, mailbox_outlives_its_bus,
	    what_a_named_bus_cannot_have_is_refused, it_says_what_it_is_and_who_gets_a_topic);
	return suite;
}
