/* Callbacks that do not return, each with a message in its hands, and writers that are stopped: everybody else publishes and
 * reads as before. _i: all in one process, or each in its own. */
#define _GNU_SOURCE
#include "world.h"

#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "stopped_writer.h"

enum { CALLBACKS = 40, STOPPED = 4, LARGE = 60000 };

#define NAME "report-slow"

struct shared {
	_Atomic unsigned listening, held;
	sem_t go_on;
};

static void
hold(void *arg, const struct bus_msg *msg)
{
	struct shared *shared = arg;

	(void)msg;
	shared->held++;
	while (sem_wait(&shared->go_on) != 0)
		;
}

static struct bus_mailbox *
hold_on(struct bus *bus, unsigned i, struct shared *shared)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus_mailbox *m;
	char topic[16];

	snprintf(topic, sizeof topic, "hold/%u", i);
	ck_bus(bus_mailbox_open(bus, &cfg, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, topic, hold, shared, NULL), 0);
	return m;
}

static pid_t
spawn_holder(const char *dir, unsigned i, struct shared *shared)
{
	pid_t child = bus_test_fork();

	if (child == 0) {
		hold_on(join_as(dir, NAME), i, shared);
		shared->listening++;
		for (;;)
			pause();
	}
	return child;
}

static void
publish(struct bus *bus, const char *topic, uint64_t number, size_t len)
{
	static char bytes[LARGE];

	memset(bytes, (char)number, len);
	memcpy(bytes, &number, sizeof number);
	ck_bus(bus_publish(bus, topic, bytes, len), 0);
}

struct account {
	struct bus_mailbox *mbox;
	uint64_t next, lost;
};

static struct account
listen_to_all(struct bus *bus)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_CALLER};
	struct account a = {.next = 0};

	ck_bus(bus_mailbox_open(bus, &cfg, &a.mbox), 0);
	ck_bus(bus_mailbox_subscribe(a.mbox, "#", NULL, NULL, NULL), 0);
	return a;
}

/* Reads up to the message of that number: in order, whole, and each once or counted. */
static void
read_up_to(struct account *a, uint64_t last)
{
	while (a->next <= last) {
		const struct bus_msg *msg;
		uint64_t number;

		ck_bus(bus_recv(a->mbox, patience_ms(), &msg), 1);
		memcpy(&number, msg->data, sizeof number);
		if (number < a->next || number > a->next + msg->lost)
			ck_abort_msg("%llu, not %llu, %llu lost", (unsigned long long)number,
			    (unsigned long long)a->next, (unsigned long long)msg->lost);
		for (size_t i = sizeof number; i < msg->len; i++)
			if (((const char *)msg->data)[i] != (char)number)
				ck_abort_msg("%llu is torn", (unsigned long long)number);
		a->next = number + 1;
		a->lost += msg->lost;
	}
}

START_TEST(callbacks_that_never_return_hold_up_no_publisher_and_no_other_reader)
{
	struct shared *shared =
	    mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *dir = bus_test_dir();
	struct bus *bus = join_as(dir, NAME), *holders = join_as(dir, NAME);
	struct account steady = listen_to_all(bus), lazy = listen_to_all(bus);
	struct bus_mailbox *all[CALLBACKS];
	pid_t children[CALLBACKS], stopped[STOPPED];
	unsigned count = 0;
	uint64_t number = 0;

	ck_assert_ptr_ne(shared, MAP_FAILED);
	ck_assert_int_eq(sem_init(&shared->go_on, 1, 0), 0);
	for (unsigned i = 0; i < CALLBACKS; i++) {
		if (_i == 0)
			all[i] = hold_on(holders, i, shared);
		else
			children[i] = spawn_holder(dir, i, shared);
	}
	if (_i == 1)
		ck_eventually(shared->listening == CALLBACKS);
	for (unsigned i = 0; i < CALLBACKS; i++) {
		char topic[16];

		if (i % 10 == 0)
			stopped[count++] = bus_test_stop_writer(dir, NAME);
		snprintf(topic, sizeof topic, "hold/%u", i);
		publish(bus, topic, number++, 8);
		ck_eventually(shared->held == i + 1);
		for (int k = 0; k < 8; k++)
			publish(bus, "any/thing", number++, LARGE);
		read_up_to(&steady, number - 1);
	}
	for (int i = 0; i < 200; i++) {
		publish(bus, "any/thing", number++, LARGE);
		read_up_to(&steady, number - 1);
	}
	ck_assert_uint_eq(steady.lost, 0);
	read_up_to(&lazy, number - 1);
	/* The records of stopped writers have no subscriber, but count once they are overwritten. */
	ck_assert_uint_gt(lazy.lost, 0);
	ck_assert_uint_lt(lazy.lost, number + STOPPED);
	for (unsigned i = 0; i < CALLBACKS; i++) {
		if (_i == 0) {
			sem_post(&shared->go_on);
			continue;
		}
		kill(children[i], SIGKILL);
		ck_assert_int_eq(waitpid(children[i], NULL, 0), children[i]);
	}
	for (unsigned i = 0; i < STOPPED; i++) {
		kill(stopped[i], SIGKILL);
		ck_assert_int_eq(waitpid(stopped[i], NULL, 0), stopped[i]);
	}
	for (unsigned i = 0; i < CALLBACKS && _i == 0; i++)
		bus_mailbox_close(all[i]);
	bus_mailbox_close(steady.mbox);
	bus_mailbox_close(lazy.mbox);
	ck_bus(bus_close(holders, 0), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: held callbacks");
	TCase *held = bus_test_case("held");

	tcase_add_loop_test(
	    held, callbacks_that_never_return_hold_up_no_publisher_and_no_other_reader, 0, 2);
	suite_add_tcase(suite, held);
	return suite;
}
