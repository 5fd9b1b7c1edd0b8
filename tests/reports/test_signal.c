/* A program waits for messages until Ctrl-C: its handler sets a flag, as every tutorial does it, and the wait must end.
 * _i: a private or a named bus, a handler with SA_RESTART or without. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libbus/bus.h>

enum { KINDS = 4 };

static _Atomic int stop; /* lock-free: a handler sets it, and other threads read it */

static void
set_stop(int sig)
{
	(void)sig;
	stop = 1;
}

struct interrupter {
	pthread_t thread, waiter;
	pid_t waiter_id;
	bool is_named;
	_Atomic bool done;
};

/* Again and again, since a handler that runs right before a wait does not end it. */
static void *
interrupt(void *arg)
{
	struct interrupter *i = arg;

	while (!i->done) {
		pthread_kill(i->waiter, SIGUSR1);
		bus_test_nap();
	}
	return NULL;
}

/* Whether the thread sleeps, and how often it has gone to sleep. */
static bool
is_asleep(pid_t id, long *ret_sleeps)
{
	char path[64], line[128], state = '?';
	FILE *status;

	*ret_sleeps = -1;
	snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)id);
	status = fopen(path, "r");
	ck_assert_ptr_nonnull(status);
	while (fgets(line, sizeof line, status) != NULL) {
		sscanf(line, "State: %c", &state);
		sscanf(line, "voluntary_ctxt_switches: %ld", ret_sleeps);
	}
	fclose(status);
	return state == 'S';
}

/* Once, when it has slept the same sleep for some looks: that of the wait, and not for a lock on the way there. On a named
 * bus once in each sleep, since a wait is several there, and it may be between two of them. */
static void *
interrupt_once(void *arg)
{
	enum { LOOKS = 10 };
	struct interrupter *i = arg;
	long sleeps, before = -1;

	do {
		for (int same = 0; same < LOOKS && !i->done; before = sleeps) {
			same = is_asleep(i->waiter_id, &sleeps) && sleeps == before ? same + 1 : 0;
			bus_test_nap();
		}
		if (!i->done)
			pthread_kill(i->waiter, SIGUSR1);
		while (
		    i->is_named && !i->done && is_asleep(i->waiter_id, &sleeps) && sleeps == before)
			bus_test_nap();
	} while (i->is_named && !i->done);
	return NULL;
}

static void
begin_with(struct interrupter *i, int kind, void *(*run)(void *arg))
{
	struct sigaction action = {.sa_flags = kind & 2 ? SA_RESTART : 0};

	action.sa_handler = set_stop;
	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	stop = 0;
	*i = (struct interrupter){
	    .waiter = pthread_self(), .waiter_id = gettid(), .is_named = kind & 1};
	ck_assert_int_eq(pthread_create(&i->thread, NULL, run, i), 0);
}

static void
begin(struct interrupter *i, int kind)
{
	begin_with(i, kind, interrupt);
}

static void
begin_once(struct interrupter *i, int kind)
{
	begin_with(i, kind, interrupt_once);
}

static void
end(struct interrupter *i)
{
	i->done = true;
	ck_assert_int_eq(pthread_join(i->thread, NULL), 0);
	ck_assert_int_eq(stop, 1);
}

static struct bus *
open_kind(int kind)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct bus *bus;

	ck_bus(bus_open(kind & 1 ? "signals" : NULL, &cfg, &bus), 0);
	return bus;
}

static struct bus_mailbox *
open_mailbox(struct bus *bus, const char *group, bus_msg_fn fn, void *arg)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .group = group};
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "t", fn, arg, NULL), 0);
	return mbox;
}

static void
count(void *arg, const struct bus_msg *msg)
{
	*(_Atomic unsigned *)arg += msg != NULL;
}

START_TEST(receiving_without_a_limit_returns_0_after_a_handler)
{
	struct bus *bus = open_kind(_i);
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, NULL, NULL);
	struct interrupter i;
	const struct bus_msg *msg;

	begin(&i, _i);
	do
		ck_bus(bus_recv(mbox, -1, &msg), 0);
	while (!stop);
	end(&i);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_bus(bus_recv(mbox, -1, &msg), 1);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(receiving_with_a_limit_does_not_wait_for_it_after_a_handler)
{
	struct bus *bus = open_kind(_i);
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, NULL, NULL);
	int64_t begun = bus_test_now_ms();
	struct interrupter i;
	const struct bus_msg *msg;

	begin(&i, _i);
	do
		ck_bus(bus_recv(mbox, patience_ms(), &msg), 0);
	while (!stop);
	end(&i);
	ck_assert_int_lt(bus_test_now_ms() - begun, patience_ms());
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(dispatching_without_a_limit_returns_0_after_a_handler)
{
	_Atomic unsigned heard = 0;
	struct bus *bus = open_kind(_i);
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, count, &heard);
	struct interrupter i;

	begin(&i, _i);
	do
		ck_bus(bus_dispatch(mbox, -1, 0), 0);
	while (!stop);
	end(&i);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_bus(bus_dispatch(mbox, -1, 0), 1);
	ck_assert_uint_eq(heard, 1);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* _i: 0 or 2; a named bus has no groups. */
START_TEST(a_receiver_of_a_group_returns_0_after_a_handler)
{
	int kind = _i * 2;
	struct bus *bus = open_kind(kind);
	struct bus_mailbox *mbox = open_mailbox(bus, "group", NULL, NULL);
	struct interrupter i;
	const struct bus_msg *msg;

	begin(&i, kind);
	do
		ck_bus(bus_recv(mbox, -1, &msg), 0);
	while (!stop);
	end(&i);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(one_signal_ends_a_wait_for_messages)
{
	_Atomic unsigned heard = 0;
	struct bus *bus = open_kind(_i);
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, count, &heard);
	struct interrupter i;
	const struct bus_msg *msg;

	begin_once(&i, _i);
	ck_bus(bus_recv(mbox, -1, &msg), 0);
	end(&i);
	begin_once(&i, _i);
	ck_bus(bus_dispatch(mbox, -1, 0), 0);
	end(&i);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* _i: 0 or 2. */
START_TEST(one_signal_ends_a_wait_in_a_group)
{
	struct bus *bus = open_kind(_i * 2);
	struct bus_mailbox *mbox = open_mailbox(bus, "group", NULL, NULL);
	struct interrupter i;
	const struct bus_msg *msg;

	begin_once(&i, _i * 2);
	ck_bus(bus_recv(mbox, -1, &msg), 0);
	end(&i);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* A wait without a limit that a handler ended says so; "-1 ms" would say nothing. */
static void
check_text(const char *subject)
{
	const char *text = bus_error_text();

	ck_assert_msg(strncmp(text, subject, strlen(subject)) == 0 &&
			  strstr(text, "a signal handler ran") != NULL &&
			  strstr(text, "-1") == NULL,
	    "%s", text);
}

struct gate {
	_Atomic bool reached, open;
};

static void
pass(void *arg, const struct bus_msg *msg)
{
	struct gate *gate = arg;

	(void)msg;
	gate->reached = true;
	while (!gate->open)
		bus_test_nap();
}

START_TEST(flushing_without_a_limit_ends_after_one_handler)
{
	struct gate gate = {.open = false};
	struct bus *bus = open_kind(_i);
	struct interrupter i;

	ck_bus(bus_subscribe(bus, "t", pass, &gate, NULL), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_eventually(gate.reached);
	begin_once(&i, _i);
	ck_bus(bus_flush(bus, -1), BUS_E_TIMEDOUT);
	check_text("bus_flush(): ");
	end(&i);
	gate.open = true;
	ck_bus(bus_flush(bus, -1), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(asking_without_a_limit_ends_after_one_handler)
{
	struct bus *bus = open_kind(_i);
	struct bus_mailbox *silent = open_mailbox(bus, NULL, NULL, NULL);
	struct interrupter i;
	const struct bus_msg *reply;

	begin_once(&i, _i);
	ck_bus(bus_request(bus, "t", "?", 1, -1, &reply), BUS_E_TIMEDOUT);
	check_text("t: ");
	end(&i);
	bus_mailbox_close(silent);
	bus_close(bus, 0);
}
END_TEST

struct answerer {
	struct bus *bus;
	struct gate gate;
};

static void
answer(void *arg, const struct bus_msg *question)
{
	struct answerer *a = arg;

	pass(&a->gate, question);
	ck_bus(bus_reply(a->bus, question, "!", 1), 0);
}

static void *
open_gate_after_handlers(void *arg)
{
	struct answerer *a = arg;

	ck_eventually(a->gate.reached && stop);
	a->gate.open = true;
	return NULL;
}

START_TEST(asking_with_a_limit_goes_on_after_a_handler)
{
	struct answerer a = {.bus = open_kind(_i)};
	struct interrupter i;
	const struct bus_msg *reply;
	pthread_t opener;

	ck_bus(bus_subscribe(a.bus, "t", answer, &a, NULL), 0);
	ck_assert_int_eq(pthread_create(&opener, NULL, open_gate_after_handlers, &a), 0);
	begin(&i, _i);
	ck_bus(bus_request(a.bus, "t", "?", 1, patience_ms(), &reply), 0);
	end(&i);
	ck_assert_int_eq(pthread_join(opener, NULL), 0);
	bus_msg_free(reply);
	ck_bus(bus_close(a.bus, patience_ms()), 0);
}
END_TEST

/* _i: with SA_RESTART or without. By one signal only with luck: it sleeps in pieces, to notice that the holder died. */
START_TEST(standing_by_for_a_role_ends_after_a_handler)
{
	struct bus *holder = open_kind(1), *stand_by = open_kind(1);
	struct bus_role *held, *wanted;
	struct interrupter i;

	ck_bus(bus_role_take(holder, "role", 0, &held), 0);
	begin(&i, _i * 2);
	ck_bus(bus_role_take(stand_by, "role", -1, &wanted), BUS_E_TIMEDOUT);
	check_text("role: ");
	end(&i);
	bus_role_end(held);
	ck_bus(bus_role_take(stand_by, "role", -1, &wanted), 0);
	bus_role_end(wanted);
	ck_bus(bus_close(stand_by, 0), 0);
	ck_bus(bus_close(holder, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: signals");
	TCase *tcase = bus_test_case("signals");

	tcase_add_loop_test(tcase, receiving_without_a_limit_returns_0_after_a_handler, 0, KINDS);
	tcase_add_loop_test(
	    tcase, receiving_with_a_limit_does_not_wait_for_it_after_a_handler, 0, KINDS);
	tcase_add_loop_test(tcase, dispatching_without_a_limit_returns_0_after_a_handler, 0, KINDS);
	tcase_add_loop_test(tcase, a_receiver_of_a_group_returns_0_after_a_handler, 0, 2);
	tcase_add_loop_test(tcase, one_signal_ends_a_wait_for_messages, 0, KINDS);
	tcase_add_loop_test(tcase, one_signal_ends_a_wait_in_a_group, 0, 2);
	tcase_add_loop_test(tcase, flushing_without_a_limit_ends_after_one_handler, 0, KINDS);
	tcase_add_loop_test(tcase, asking_without_a_limit_ends_after_one_handler, 0, KINDS);
	tcase_add_loop_test(tcase, asking_with_a_limit_goes_on_after_a_handler, 0, KINDS);
	tcase_add_loop_test(tcase, standing_by_for_a_role_ends_after_a_handler, 0, 2);
	suite_add_tcase(suite, tcase);
	return suite;
}
