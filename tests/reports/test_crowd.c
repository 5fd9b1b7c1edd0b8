/* As many processes as a bus takes open one name in the same moment: all join and listen, and all hear. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

/* All that one bus takes. Those with sanitizers are large, and those under emulators slow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
#define CROWD 100
#else
#define CROWD BUS_LIMIT_MEMBERS
#endif

struct crowd {
	_Atomic int joined, heard, failed;
	_Atomic int error; /* of one that failed */
	int go[2], say[2], end[2];
};

static void
await_close(const int pipes[2])
{
	char byte;

	if (read(pipes[0], &byte, 1) < 0)
		_exit(1);
}

static int
listen_to(struct bus *bus, struct bus_mailbox **ret_m)
{
	int err = bus_mailbox_open(bus, NULL, ret_m);

	return err < 0 ? err : bus_mailbox_subscribe(*ret_m, "news", NULL, NULL, NULL);
}

/* All listen, and the last one says something. */
static void
run(struct crowd *crowd, const char *dir, int number)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = dir};
	struct bus_mailbox *m = NULL;
	const struct bus_msg *msg;
	struct bus *bus = NULL;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(crowd->go[1]);
	close(crowd->say[1]);
	close(crowd->end[1]);
	await_close(crowd->go);
	err = bus_open("crowd", &cfg, &bus);
	if (err == 0)
		err = listen_to(bus, &m);
	if (err < 0) {
		crowd->error = err;
		crowd->failed++;
		_exit(1);
	}
	crowd->joined++;
	if (number == CROWD - 1) {
		await_close(crowd->say);
		bus_publish(bus, "news", "x", 1);
	}
	if (bus_recv(m, patience_ms(), &msg) == 1)
		crowd->heard++;
	await_close(crowd->end);
	bus_mailbox_close(m);
	bus_close(bus, 0);
	_exit(0);
}

START_TEST(all_processes_that_a_bus_takes_open_it_at_once_and_hear)
{
	const char *dir = bus_test_dir();
	struct crowd *crowd =
	    mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(crowd, MAP_FAILED);
	ck_assert_int_eq(pipe(crowd->go) | pipe(crowd->say) | pipe(crowd->end), 0);
	for (int i = 0; i < CROWD; i++) {
		pid_t child = bus_test_fork();

		ck_assert_int_ge(child, 0);
		if (child == 0)
			run(crowd, dir, i);
	}
	close(crowd->go[1]);
	ck_eventually(crowd->joined + crowd->failed == CROWD);
	ck_assert_msg(crowd->failed == 0, "%d of %d did not join, one of them: %s", crowd->failed,
	    CROWD, bus_errname(crowd->error));
	close(crowd->say[1]);
	ck_eventually(crowd->heard == CROWD);
	close(crowd->end[1]);
	for (int i = 0; i < CROWD; i++)
		ck_assert_int_gt(wait(NULL), 0);
	/* They left at once, too, and the last one has put the files away. */
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("crowd");

	BUS_TEST_CASE(suite, "crowd", all_processes_that_a_bus_takes_open_it_at_once_and_hear);
	return suite;
}
