/* Threads of a named bus that rest: one of them sleeps on the log, and wakes the mailboxes that want a record. */
#include "world.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "named/state.h"
#include "mailbox/mailbox.h"
#include "named/reader.h"

static void
count_call(void *arg, const struct bus_msg *msg)
{
	if (msg != NULL) /* not the end of a request */
		atomic_fetch_add((_Atomic int *)arg, 1);
}

static struct bus_mailbox *
listen_to(struct bus *bus, int drain, const char *filter, bus_msg_fn fn, void *arg)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = drain};
	struct bus_mailbox *m;

	ck_bus(bus_mailbox_open(bus, &cfg, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, filter, fn, arg, NULL), 0);
	return m;
}

/* With a thread; end_all() closes it. */
static struct bus_mailbox *threads[600];
static int thread_count;

static struct bus_mailbox *
hear(struct bus *bus, const char *filter, bus_msg_fn fn, void *arg)
{
	ck_assert_int_lt(thread_count, (int)(sizeof threads / sizeof threads[0]));
	return threads[thread_count++] = listen_to(bus, BUS_DRAIN_THREAD, filter, fn, arg);
}

static void
end_all(struct bus *bus)
{
	while (thread_count > 0)
		bus_mailbox_close(threads[--thread_count]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}

static void
say(struct bus *bus, const char *topic)
{
	ck_bus(bus_publish(bus, topic, "x", 1), 0);
}

static int
quiet_ones(struct bus *bus)
{
	int count = 0;

	pthread_mutex_lock(&bus->named->watch.lock);
	for (struct bus_mailbox *m = bus->named->watch.quiet; m != NULL;
	     m = m->reader->watched.next)
		count++;
	pthread_mutex_unlock(&bus->named->watch.lock);
	return count;
}

static bool
has_seen_all(struct bus *bus)
{
	bool has;

	pthread_mutex_lock(&bus->named->watch.lock);
	has = bus__log_position(&bus->named->watch.place) == bus__log_tail(bus->log);
	pthread_mutex_unlock(&bus->named->watch.lock);
	return has;
}

/* Threads take room that an emulator may not have. */
static int
many(int count)
{
	return getenv("BUS_TEST_PATIENCE") != NULL ? count / 10 : count;
}

START_TEST(unwanted_record_is_looked_at_once_and_wakes_no_mailbox)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	int count = many(200);
	_Atomic int calls = 0;
	uint64_t looks, hits;

	for (int i = 0; i < count; i++)
		hear(bus, "room/#", count_call, &calls);
	ck_eventually(quiet_ones(bus) == count && has_seen_all(bus));
	looks = atomic_load(&bus->named->watch.looks);
	hits = atomic_load(&bus->named->watch.hits);
	for (int i = 0; i < 1000; i++)
		say(other, "other/x");
	ck_eventually(has_seen_all(bus));
	ck_assert_uint_eq(atomic_load(&bus->named->watch.looks) - looks, 1000);
	ck_assert_uint_eq(atomic_load(&bus->named->watch.hits) - hits, 0);
	ck_assert_int_eq(quiet_ones(bus), count);
	say(other, "room/1");
	ck_eventually(atomic_load(&calls) == count);
	ck_assert_uint_eq(atomic_load(&bus->named->watch.hits) - hits, (uint64_t)count);
	ck_bus(bus_close(other, 0), 0);
	end_all(bus);
}
END_TEST

START_TEST(wanted_record_wakes_the_mailboxes_that_want_it_alone)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	_Atomic int calls[10] = {0};
	char filter[16];
	uint64_t hits;

	for (int i = 0; i < 10; i++) {
		snprintf(filter, sizeof filter, "room/%d", i);
		hear(bus, filter, count_call, &calls[i]);
	}
	ck_eventually(quiet_ones(bus) == 10 && has_seen_all(bus));
	hits = atomic_load(&bus->named->watch.hits);
	for (int k = 1; k <= 50; k++)
		for (int i = 0; i < 10; i += 3) {
			snprintf(filter, sizeof filter, "room/%d", i);
			say(other, filter);
			ck_eventually(atomic_load(&calls[i]) == k && quiet_ones(bus) == 10);
		}
	ck_assert_uint_eq(atomic_load(&bus->named->watch.hits) - hits, 200);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(atomic_load(&calls[i]), i % 3 == 0 ? 50 : 0);
	ck_bus(bus_close(other, 0), 0);
	end_all(bus);
}
END_TEST

START_TEST(message_wakes_six_hundred_mailboxes_of_a_process)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	int count = many(600);
	_Atomic int calls = 0;

	for (int i = 0; i < count; i++)
		hear(bus, "all", count_call, &calls);
	for (int k = 1; k <= 3; k++) {
		ck_eventually(quiet_ones(bus) == count);
		say(other, "all");
		ck_eventually(atomic_load(&calls) == k * count);
	}
	ck_bus(bus_close(other, 0), 0);
	end_all(bus);
}
END_TEST

START_TEST(message_wakes_six_hundred_mailboxes_of_twenty_processes)
{
	enum { PROCESSES = 20 };
	const char *dir = bus_test_dir();
	int each = many(600) / PROCESSES, ready[2];
	pid_t children[PROCESSES];
	struct bus *bus;

	ck_assert_int_eq(pipe(ready), 0);
	for (int i = 0; i < PROCESSES; i++) {
		children[i] = bus_test_fork();
		if (children[i] != 0)
			continue;
		struct bus *own = join(dir);
		_Atomic int calls = 0;

		for (int k = 0; k < each; k++)
			hear(own, "all", count_call, &calls);
		ck_eventually(quiet_ones(own) == each);
		ck_assert_int_eq(write(ready[1], "", 1), 1);
		ck_eventually(atomic_load(&calls) == each);
		_exit(0);
	}
	bus = join(dir);
	for (int i = 0; i < PROCESSES; i++) {
		char byte;

		ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	}
	say(bus, "all");
	for (int i = 0; i < PROCESSES; i++) {
		int status;

		ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(ten_thousand_idle_subscriptions_are_one_reader_of_the_host)
{
	enum { MAILBOXES = 1000, EACH = 10 };
	static struct bus_mailbox *all[MAILBOXES];
	struct bus_log_stats stats = {.size = sizeof stats};
	struct bus *bus = join(bus_test_dir());
	const struct bus_msg *msg;
	char filter[32];

	for (int i = 0; i < MAILBOXES; i++) {
		all[i] = listen_to(bus, BUS_DRAIN_CALLER, "all", NULL, NULL);
		for (int k = 1; k < EACH; k++) {
			snprintf(filter, sizeof filter, "room/%d/%d", i, k);
			ck_bus(bus_mailbox_subscribe(all[i], filter, NULL, NULL, NULL), 0);
		}
	}
	ck_bus(bus_log_stats(bus, &stats), 0);
	ck_assert_uint_eq(stats.readers, 1);
	ck_assert_uint_eq(stats.readers_most, BUS_LIMIT_MEMBERS);
	say(bus, "all");
	for (int i = 0; i < MAILBOXES; i++)
		ck_bus(bus_recv(all[i], 0, &msg), 1);
	for (int i = 0; i < MAILBOXES; i++)
		bus_mailbox_close(all[i]);
	ck_bus(bus_log_stats(bus, &stats), 0);
	ck_assert_uint_eq(stats.readers, 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- the lead ---------------------------------------------------------------------------------------------------- */

struct gate {
	_Atomic int inside, open;
};

static void
wait_at_gate(void *arg, const struct bus_msg *msg)
{
	struct gate *gate = arg;

	(void)msg;
	atomic_fetch_add(&gate->inside, 1);
	ck_eventually(atomic_load(&gate->open) != 0);
}

/* One of them leads. */
START_TEST(callback_that_does_not_return_keeps_no_other_mailbox_asleep)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	struct gate gates[4] = {{0}};
	char filter[8];

	for (int i = 0; i < 4; i++) {
		snprintf(filter, sizeof filter, "t/%d", i);
		hear(bus, filter, wait_at_gate, &gates[i]);
	}
	ck_eventually(quiet_ones(bus) == 4);
	for (int i = 0; i < 4; i++) {
		snprintf(filter, sizeof filter, "t/%d", (i + _i) % 4);
		say(other, filter);
		ck_eventually(atomic_load(&gates[(i + _i) % 4].inside) == 1);
	}
	for (int i = 0; i < 4; i++)
		atomic_store(&gates[i].open, 1);
	ck_bus(bus_close(other, 0), 0);
	end_all(bus);
}
END_TEST

/* Each close may be that of the leader. */
START_TEST(mailboxes_close_one_by_one_and_the_rest_go_on)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	struct bus_mailbox *all[20];
	_Atomic int calls = 0;
	int expected = 0;

	for (int i = 0; i < 20; i++)
		all[i] = listen_to(bus, BUS_DRAIN_THREAD, "t", count_call, &calls);
	for (int left = 20; left > 0; left--) {
		ck_eventually(quiet_ones(bus) == left);
		say(other, "t");
		expected += left;
		ck_eventually(atomic_load(&calls) == expected);
		bus_mailbox_close(all[(left * 7 + _i) % left]);
		all[(left * 7 + _i) % left] = all[left - 1];
	}
	ck_assert_int_eq(quiet_ones(bus), 0);
	ck_bus(bus_close(other, 0), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- places and counts ------------------------------------------------------------------------------------------- */

START_TEST(lapped_quiet_mailboxes_each_count_their_own_losses)
{
	enum { COUNT = 12000 };
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	struct bus_mailbox *m[3];
	static char large[1000];
	const struct bus_msg *msg;

	for (int i = 0; i < 3; i++) {
		m[i] = listen_to(bus, BUS_DRAIN_CALLER, i < 2 ? "t" : "u", NULL, NULL);
		ck_assert_int_ge(bus_mailbox_fd(m[i]), 0);
	}
	ck_eventually(quiet_ones(bus) == 3);
	/* No thread scans until it is released. */
	pthread_mutex_lock(&bus->named->watch.lock);
	for (int i = 0; i < COUNT; i++)
		ck_bus(bus_publish(other, "t", large, sizeof large), 0);
	ck_bus(bus_publish(other, "u", "", 0), 0);
	pthread_mutex_unlock(&bus->named->watch.lock);
	for (int i = 0; i < 3; i++) {
		struct pollfd ready = {.fd = bus_mailbox_fd(m[i]), .events = POLLIN};
		uint64_t got = 0, lost = 0;
		uint64_t want = i < 2 ? COUNT : 1;

		ck_assert_int_eq(poll(&ready, 1, patience_ms()), 1);
		do {
			int err = bus_recv(m[i], 0, &msg);

			ck_assert_int_ge(err, 0);
			if (err == 0)
				break;
			got++;
			lost += msg->lost;
		} while (true);
		ck_assert_uint_gt(lost, 0);
		if (i < 2)
			ck_assert_uint_eq(got + lost, want);
		else
			ck_assert_uint_eq(got, want);
	}
	for (int i = 0; i < 3; i++)
		bus_mailbox_close(m[i]);
	ck_bus(bus_close(other, 0), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(subscription_on_a_quiet_mailbox_gets_later_messages)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	_Atomic int calls = 0, others = 0;
	struct bus_mailbox *m = hear(bus, "first", count_call, &calls);
	char topic[16];

	hear(bus, "other", count_call, &others);
	for (int i = 0; i < 200; i++) {
		snprintf(topic, sizeof topic, "t/%d", i);
		say(other, topic); /* the scan learns that no mailbox wants it */
		say(other, "other");
		ck_bus(bus_mailbox_subscribe(m, topic, count_call, &calls, NULL), 0);
		say(other, topic);
		ck_eventually(atomic_load(&calls) == i + 1);
	}
	ck_eventually(atomic_load(&others) == 200);
	ck_bus(bus_close(other, 0), 0);
	end_all(bus);
}
END_TEST

START_TEST(flush_waits_for_no_mailbox_that_is_quiet)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	struct bus_stats stats = {.size = sizeof stats};
	_Atomic int calls = 0;
	struct bus_mailbox *m = hear(bus, "room", count_call, &calls);

	ck_eventually(quiet_ones(bus) == 1);
	for (int i = 0; i < 100; i++) {
		say(other, i % 10 == 0 ? "room" : "other");
		ck_bus(bus_flush(bus, patience_ms()), 0);
		ck_assert_int_eq(atomic_load(&calls), i / 10 + 1);
		ck_bus(bus_mailbox_stats(m, &stats), 0);
		ck_assert_uint_eq(stats.reached, stats.goal);
	}
	ck_bus(bus_close(other, 0), 0);
	end_all(bus);
}
END_TEST

START_TEST(reply_wakes_the_mailbox_that_asked_alone)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	_Atomic int replies = 0, calls = 0;
	struct bus_mailbox *asks = hear(bus, "nothing", count_call, &calls);
	struct bus_mailbox *serves = listen_to(other, BUS_DRAIN_CALLER, "ask", NULL, NULL);
	const struct bus_msg *question;
	struct bus_request *request;
	uint64_t hits;

	for (int i = 0; i < 10; i++)
		hear(bus, "sleeps", count_call, &calls);
	for (int i = 1; i <= 20; i++) {
		ck_bus(bus_request_start(
			   asks, "ask", "?", 1, patience_ms(), count_call, &replies, &request),
		    0);
		ck_bus(bus_recv(serves, patience_ms(), &question), 1);
		ck_eventually(quiet_ones(bus) == 11);
		hits = atomic_load(&bus->named->watch.hits);
		ck_bus(bus_reply(other, question, "!", 1), 0);
		ck_eventually(atomic_load(&replies) == i);
		/* None if the request has woken it, and it reaches the reply by itself. */
		ck_assert_uint_le(atomic_load(&bus->named->watch.hits) - hits, 1);
		bus_request_cancel(request);
	}
	ck_assert_int_eq(atomic_load(&calls), 0);
	bus_mailbox_close(serves);
	ck_bus(bus_close(other, 0), 0);
	end_all(bus);
}
END_TEST

START_TEST(descriptor_becomes_readable_only_for_messages_that_its_mailbox_wants)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	struct bus_mailbox *m = listen_to(bus, BUS_DRAIN_CALLER, "room", NULL, NULL);
	struct pollfd ready = {.fd = bus_mailbox_fd(m), .events = POLLIN};
	const struct bus_msg *msg;

	ck_assert_int_ge(ready.fd, 0);
	ck_eventually(quiet_ones(bus) == 1);
	for (int i = 0; i < 50; i++) {
		say(other, "other");
		ck_eventually(has_seen_all(bus));
		ck_assert_int_eq(poll(&ready, 1, 0), 0);
		say(other, "room");
		ck_assert_int_eq(poll(&ready, 1, patience_ms()), 1);
		ck_bus(bus_recv(m, 0, &msg), 1);
		ck_bus(bus_recv(m, 0, &msg), 0);
	}
	bus_mailbox_close(m);
	ck_bus(bus_close(other, 0), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("watch");
	TCase *lead = bus_test_case("lead");

	BUS_TEST_CASE(suite, "scan", unwanted_record_is_looked_at_once_and_wakes_no_mailbox,
	    wanted_record_wakes_the_mailboxes_that_want_it_alone,
	    message_wakes_six_hundred_mailboxes_of_a_process,
	    message_wakes_six_hundred_mailboxes_of_twenty_processes,
	    ten_thousand_idle_subscriptions_are_one_reader_of_the_host);
	tcase_add_loop_test(
	    lead, callback_that_does_not_return_keeps_no_other_mailbox_asleep, 0, 4);
	tcase_add_loop_test(lead, mailboxes_close_one_by_one_and_the_rest_go_on, 0, 3);
	suite_add_tcase(suite, lead);
	BUS_TEST_CASE(suite, "places", lapped_quiet_mailboxes_each_count_their_own_losses,
	    subscription_on_a_quiet_mailbox_gets_later_messages,
	    flush_waits_for_no_mailbox_that_is_quiet, reply_wakes_the_mailbox_that_asked_alone,
	    descriptor_becomes_readable_only_for_messages_that_its_mailbox_wants);
	return suite;
}
