/* A role of a named bus has one holder at a time. */
#define _GNU_SOURCE
#include "named_test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("named roles");
	TCase *roles = bus_test_case("roles");

	tcase_add_loop_test(roles, role_has_one_holder_and_moves_when_he_ends_it_or_dies, 0, 2);
	tcase_add_test(roles, messages_do_not_wake_who_stands_by_for_a_role);
	suite_add_tcase(suite, roles);
	return suite;
}
