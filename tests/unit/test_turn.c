/* A thread that stalls inside a publish, and the other threads of its process. The log is built with the places where it can
 * be stopped (log/stall.h). A thread that is released goes on in the middle of what it did. */
#define _GNU_SOURCE
#include "world.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "log/log.h"
#include "log/stall.h"

enum { MOST = LOG_LANES };

/* A thread that publishes `text` and stalls at that step. */
struct stalling {
	struct bus *bus;
	const char *text;
	enum log_stall at;
	pthread_t thread;
	_Atomic bool stalled, go;
	int answer;
};

static _Thread_local struct stalling *self; /* NULL: this thread does not stall */

static void
stall(enum log_stall where)
{
	struct stalling *s = self;

	if (s == NULL || where != s->at || s->stalled)
		return;
	s->stalled = true;
	while (!s->go)
		bus_test_nap();
}

static void *
publish_and_stall(void *arg)
{
	struct stalling *s = arg;

	self = s;
	s->answer = bus_publish(s->bus, "t", s->text, strlen(s->text));
	return NULL;
}

static void
start(struct stalling *s, struct bus *bus, const char *text, enum log_stall at)
{
	*s = (struct stalling){.bus = bus, .text = text, .at = at};
	bus__log_stall_hook = stall;
	ck_assert_int_eq(pthread_create(&s->thread, NULL, publish_and_stall, s), 0);
	ck_eventually(s->stalled);
}

static void
finish(struct stalling *s)
{
	s->go = true;
	ck_assert_int_eq(pthread_join(s->thread, NULL), 0);
}

static const enum log_stall steps[] = {LOG_STALL_LOCKED, LOG_STALL_COPIED, LOG_STALL_PUBLISH};

START_TEST(others_publish_while_a_thread_stalls_and_nothing_is_lost_or_doubled)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	struct stalling s;

	start(&s, bus, "stalled", steps[_i]);
	ck_bus(bus_publish(bus, "t", "one", 3), 0);
	ck_bus(bus_publish(bus, "t", "two", 3), 0);
	expect_message(m, "t", "one");
	expect_message(m, "t", "two");
	expect_nothing(m);
	finish(&s);
	ck_bus(s.answer, 0);
	expect_message(m, "t", "stalled");
	ck_bus(bus_publish(bus, "t", "three", 5), 0);
	expect_message(m, "t", "three");
	expect_nothing(m);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(process_whose_every_lane_is_stalled_is_told_and_goes_on_when_one_is_free)
{
	static const char *const texts[MOST] = {"a", "b", "c"};
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	struct stalling s[MOST];

	for (int i = 0; i < MOST; i++)
		start(&s[i], bus, texts[i], LOG_STALL_COPIED);
	ck_bus(bus_publish(bus, "t", "x", 1), BUS_E_TIMEDOUT);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "stopped inside a publish"));
	finish(&s[0]);
	expect_message(m, "t", "a");
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	expect_message(m, "t", "x");
	finish(&s[1]);
	expect_message(m, "t", "b");
	finish(&s[2]);
	expect_message(m, "t", "c");
	expect_nothing(m);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* Fills the log until this thread has carried values to its end, and stalls there. */
static void *
fill_and_stall(void *arg)
{
	static const char text[1 << 16];
	struct stalling *s = arg;

	self = s;
	while (s->answer == 0 && !s->stalled)
		s->answer = bus_publish(s->bus, "fill", text, sizeof text);
	return NULL;
}

START_TEST(values_are_counted_once_though_the_thread_that_carried_them_lost_the_tail)
{
	enum { VALUES = 500 };
	struct bus *bus = join(bus_test_dir());
	struct bus_log_stats stats = {.size = sizeof stats};
	struct stalling s = {.bus = bus, .at = LOG_STALL_CARRIED};

	for (int i = 0; i < VALUES; i++) {
		char topic[16];

		snprintf(topic, sizeof topic, "v/%d", i);
		ck_bus(bus_publish_msg(bus, &(struct bus_msg){.size = sizeof(struct bus_msg),
						.topic = topic,
						.data = "x",
						.len = 1,
						.flags = BUS_MSG_RETAIN}),
		    0);
	}
	bus__log_stall_hook = stall;
	ck_assert_int_eq(pthread_create(&s.thread, NULL, fill_and_stall, &s), 0);
	ck_eventually(s.stalled);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	finish(&s);
	ck_bus(s.answer, 0);
	ck_bus(bus_log_stats(bus, &stats), 0);
	ck_assert_uint_eq(stats.values_count, VALUES);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(other_processes_and_openings_hear_a_process_whose_thread_stalls)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *other = join(dir);
	struct bus_mailbox *m = subscriber(other, "t");
	struct bus_pub *pub;
	struct stalling s;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	start(&s, bus, "stalled", LOG_STALL_COPIED);
	ck_bus(bus_pub_send(pub, "one", 3), 0);
	ck_bus(bus_publish_msg(other, &(struct bus_msg){.size = sizeof(struct bus_msg),
					  .topic = "t",
					  .data = "kept",
					  .len = 4,
					  .flags = BUS_MSG_RETAIN}),
	    0);
	expect_message(m, "t", "one");
	expect_message(m, "t", "kept");
	finish(&s);
	expect_message(m, "t", "stalled");
	bus_pub_close(pub);
	bus_mailbox_close(m);
	ck_bus(bus_close(other, 0), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(bus_closes_while_a_thread_stalls_in_it_and_the_name_is_free_again)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *again;
	struct bus_mailbox *m;
	struct stalling s;
	char path[300];

	start(&s, bus, "stalled", steps[_i]);
	ck_bus(bus_close(bus, 0), 0);
	again = join(dir);
	m = subscriber(again, "t");
	ck_bus(bus_publish(again, "t", "one", 3), 0);
	expect_message(m, "t", "one");
	/* Its memory stays until it comes out, and so does its place among the members. */
	finish(&s);
	expect_message(m, "t", "stalled");
	bus_mailbox_close(m);
	ck_bus(bus_close(again, 0), 0);
	snprintf(path, sizeof path, "%s/test.bus", dir);
	ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(last_thread_that_comes_out_of_a_bus_that_was_closed_removes_its_files)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir);
	struct stalling s;
	char path[300];

	snprintf(path, sizeof path, "%s/test.bus", dir);
	start(&s, bus, "stalled", LOG_STALL_COPIED);
	ck_bus(bus_close(bus, 0), 0);
	ck_assert_int_eq(access(path, F_OK), 0);
	finish(&s);
	ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

/* --- signal handlers ------------------------------------------------------------------------------------------------ */

static struct bus_pub *handle;
static _Atomic int answer = 1;

static void
publish_in_handler(int sig)
{
	(void)sig;
	answer = bus_pub_send(handle, "handler", 7);
}

static void
raise_there(enum log_stall where)
{
	if (where == LOG_STALL_COPIED && answer == 1)
		raise(SIGUSR1);
}

START_TEST(publish_in_a_handler_answers_when_it_interrupted_a_publish_of_its_thread)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	struct sigaction action = {.sa_handler = publish_in_handler};

	ck_bus(bus_pub_open(bus, "t", NULL, &handle), 0);
	sigaction(SIGUSR1, &action, NULL);
	bus__log_stall_hook = raise_there;
	ck_bus(bus_publish(bus, "t", "one", 3), 0);
	ck_bus(answer, BUS_E_STATE);
	expect_message(m, "t", "one");
	expect_nothing(m);
	raise(SIGUSR1);
	ck_bus(answer, 0);
	expect_message(m, "t", "handler");
	bus_pub_close(handle);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("turn");
	TCase *steps_case = bus_test_case("steps");

	tcase_add_loop_test(
	    steps_case, others_publish_while_a_thread_stalls_and_nothing_is_lost_or_doubled, 0, 3);
	tcase_add_loop_test(
	    steps_case, bus_closes_while_a_thread_stalls_in_it_and_the_name_is_free_again, 0, 3);
	suite_add_tcase(suite, steps_case);
	BUS_TEST_CASE(suite, "lanes",
	    process_whose_every_lane_is_stalled_is_told_and_goes_on_when_one_is_free,
	    other_processes_and_openings_hear_a_process_whose_thread_stalls,
	    values_are_counted_once_though_the_thread_that_carried_them_lost_the_tail,
	    last_thread_that_comes_out_of_a_bus_that_was_closed_removes_its_files);
	BUS_TEST_CASE(suite, "handlers",
	    publish_in_a_handler_answers_when_it_interrupted_a_publish_of_its_thread);
	return suite;
}
