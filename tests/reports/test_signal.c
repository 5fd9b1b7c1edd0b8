/* A program waits for messages until Ctrl-C: its handler sets a flag, as every tutorial does it, and the wait must end.
 * _i: a private or a named bus, a handler with SA_RESTART or without. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include <libbus/bus.h>

enum { KINDS = 4 };

static _Atomic int stop; /* lock-free: a handler sets it, and other threads read it */

static void
set_stop(int sig)
{
	(void)sig;
	stop = 1;
}

/* Interrupts a thread again and again, since a handler that runs right before a wait does not end it. */
struct interrupter {
	pthread_t thread, waiter;
	_Atomic bool done;
};

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

static void
begin(struct interrupter *i, int kind)
{
	struct sigaction action = {.sa_flags = kind & 2 ? SA_RESTART : 0};

	action.sa_handler = set_stop;
	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	*i = (struct interrupter){.waiter = pthread_self()};
	ck_assert_int_eq(pthread_create(&i->thread, NULL, interrupt, i), 0);
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
	while (!stop)
		ck_bus(bus_recv(mbox, -1, &msg), 0);
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
	while (!stop)
		ck_bus(bus_recv(mbox, patience_ms(), &msg), 0);
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
	while (!stop)
		ck_bus(bus_dispatch(mbox, -1, 0), 0);
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
	while (!stop)
		ck_bus(bus_recv(mbox, -1, &msg), 0);
	end(&i);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

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

START_TEST(flushing_without_a_limit_ends_after_a_handler)
{
	struct gate gate = {.open = false};
	struct bus *bus = open_kind(_i);
	struct interrupter i;

	ck_bus(bus_subscribe(bus, "t", pass, &gate, NULL), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_eventually(gate.reached);
	begin(&i, _i);
	ck_bus(bus_flush(bus, -1), BUS_E_TIMEDOUT);
	end(&i);
	gate.open = true;
	ck_bus(bus_flush(bus, -1), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(asking_without_a_limit_ends_after_a_handler)
{
	struct bus *bus = open_kind(_i);
	struct bus_mailbox *silent = open_mailbox(bus, NULL, NULL, NULL);
	struct interrupter i;
	const struct bus_msg *reply;

	begin(&i, _i);
	ck_bus(bus_request(bus, "t", "?", 1, -1, &reply), BUS_E_TIMEDOUT);
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

/* _i: with SA_RESTART or without. */
START_TEST(standing_by_for_a_role_ends_after_a_handler)
{
	struct bus *holder = open_kind(1), *stand_by = open_kind(1);
	struct bus_role *held, *wanted;
	struct interrupter i;

	ck_bus(bus_role_take(holder, "role", 0, &held), 0);
	begin(&i, _i * 2);
	ck_bus(bus_role_take(stand_by, "role", -1, &wanted), BUS_E_TIMEDOUT);
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
	TCase *tcase = tcase_create("signals");

	tcase_set_timeout(tcase, bus_test_limit());
	tcase_add_loop_test(tcase, receiving_without_a_limit_returns_0_after_a_handler, 0, KINDS);
	tcase_add_loop_test(
	    tcase, receiving_with_a_limit_does_not_wait_for_it_after_a_handler, 0, KINDS);
	tcase_add_loop_test(tcase, dispatching_without_a_limit_returns_0_after_a_handler, 0, KINDS);
	tcase_add_loop_test(tcase, a_receiver_of_a_group_returns_0_after_a_handler, 0, 2);
	tcase_add_loop_test(tcase, flushing_without_a_limit_ends_after_a_handler, 0, KINDS);
	tcase_add_loop_test(tcase, asking_without_a_limit_ends_after_a_handler, 0, KINDS);
	tcase_add_loop_test(tcase, asking_with_a_limit_goes_on_after_a_handler, 0, KINDS);
	tcase_add_loop_test(tcase, standing_by_for_a_role_ends_after_a_handler, 0, 2);
	suite_add_tcase(suite, tcase);
	return suite;
}
