/* Refusals of the system: no more threads, descriptors or memory. Each is reported, leaves nothing behind,
 * and is over when there is room again. */
#define _GNU_SOURCE
#include "link_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

static void
set_soft(int what, rlim_t soft)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(what, &limit), 0);
	limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
	ck_assert_int_eq(setrlimit(what, &limit), 0);
}

/* --- threads ------------------------------------------------------------------------------------------------ */

enum { NOBODYS_UID = 54321 };

static void *
nothing(void *arg)
{
	return arg;
}

static bool
threads_are_refused(void)
{
	pthread_t thread;
	int err = pthread_create(&thread, NULL, nothing, NULL);

	if (err == 0)
		pthread_join(thread, NULL);
	return err == EAGAIN;
}

/* Allows this process no more threads. Root has no such limit, so it stops being root. false: impossible
 * here. */
static bool
refuse_threads(void)
{
	if (geteuid() == 0 && setresuid(NOBODYS_UID, NOBODYS_UID, NOBODYS_UID) == 0)
		prctl(PR_SET_DUMPABLE,
		    1); /* for the leak check at the end, which traces this process */
	set_soft(RLIMIT_NPROC, 1);
	return threads_are_refused();
}

static void
allow_threads(void)
{
	set_soft(RLIMIT_NPROC, RLIM_INFINITY);
}

START_TEST(lack_of_threads_is_reported_and_leaves_nothing)
{
	const struct bus_mailbox_config own = {.size = sizeof own, .drain = BUS_DRAIN_THREAD};
	struct bus_mailbox *none = (struct bus_mailbox *)&own, *mbox = none;
	_Atomic unsigned calls = 0;
	struct bus_link *link = NULL;
	struct bus_sub *sub = NULL;
	struct bus *bus;

	if (!refuse_threads())
		return;
	bus = open_bus();
	for (int i = 0; i < 3; i++) {
		ck_bus(bus_subscribe(bus, "t", count_message, &calls, &sub), BUS_E_LIMIT);
		ck_assert_ptr_null(sub);
		ck_bus(bus_mailbox_open(bus, &own, &mbox), BUS_E_LIMIT);
		ck_assert_ptr_eq(mbox, none);
		for (int scheme = 0; scheme < LINK_TEST_SCHEMES; scheme++) {
			ck_bus(bus_listen(bus, listen_url(scheme), NULL, &link), BUS_E_LIMIT);
			ck_bus(bus_dial(bus, "inproc://other", NULL, &link), BUS_E_LIMIT);
			ck_assert_ptr_null(link);
		}
		ck_bus(bus_publish(bus, "t", "x", 1), 0);
	}
	allow_threads();
	ck_bus(bus_subscribe(bus, "t", count_message, &calls, &sub), 0);
	ck_bus(bus_mailbox_open(bus, &own, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "t", count_message, &calls, NULL), 0);
	for (int scheme = 0; scheme < LINK_TEST_SCHEMES; scheme++)
		ck_bus(bus_listen(bus, listen_url(scheme), NULL, NULL), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_assert_uint_eq(calls, 2);
	bus_unsubscribe(sub, NULL);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* The link thread runs, those of NNG do not. */
START_TEST(links_that_need_threads_work_when_there_are_some_again)
{
	struct bus_link *link;
	struct bus *bus = open_bus();

	ck_bus(bus_listen(bus, "inproc://first", NULL, NULL), 0);
	if (refuse_threads())
		for (int i = 0; i < 3; i++)
			ck_bus(bus_listen(bus, listen_url(_i), NULL, &link), BUS_E_LIMIT);
	allow_threads();
	ck_bus(bus_listen(bus, listen_url(_i), NULL, &link), 0);
	bus_link_close(link);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- descriptors ------------------------------------------------------------------------------------------------ */

enum { FEW = 64 };

static int taken[FEW];
static unsigned taken_count;

static bool
take_one(void)
{
	int fd = dup(STDERR_FILENO);

	if (fd < 0) {
		ck_assert_int_eq(errno, EMFILE);
		return false;
	}
	ck_assert_uint_lt(taken_count, FEW);
	taken[taken_count++] = fd;
	return true;
}

/* Takes all descriptors but `left`, also those that another thread has for a moment, such as the file by which the C
 * library names a thread. */
static void
take_descriptors(unsigned left)
{
	set_soft(RLIMIT_NOFILE, FEW);
	for (unsigned quiet = 0; quiet < 20; quiet++) {
		while (take_one())
			quiet = 0;
		bus_test_nap();
	}
	while (left-- > 0)
		close(taken[--taken_count]);
}

static void
give_descriptors_back(void)
{
	while (taken_count > 0)
		close(taken[--taken_count]);
}

static unsigned
count_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < FEW; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

START_TEST(lack_of_a_descriptor_for_a_mailbox_is_reported)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;
	struct pollfd ready;
	const struct bus_msg *msg;

	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "t", NULL, NULL, NULL), 0);
	take_descriptors(0);
	ck_bus(bus_mailbox_fd(mbox), BUS_E_LIMIT);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	give_descriptors_back();
	ready = (struct pollfd){.fd = bus_mailbox_fd(mbox), .events = POLLIN};
	ck_assert_int_ge(ready.fd, 0);
	ck_assert_int_eq(poll(&ready, 1, patience_ms()), 1);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* _i: a scheme, first before anything has used NNG, then after. */
START_TEST(lack_of_a_descriptor_to_listen_is_reported_and_leaves_nothing)
{
	int scheme = _i % 2 + 1;
	struct bus *bus = open_bus();
	struct bus_link *link;
	unsigned before;

	if (_i >= 2) {
		ck_bus(bus_listen(bus, listen_url(scheme), NULL, &link), 0);
		bus_link_close(link);
	}
	before = count_descriptors();
	/* At each step at which it may fail. */
	for (unsigned left = 0; left < 2; left++) {
		take_descriptors(left);
		for (int i = 0; i < 3; i++) {
			int err = bus_listen(bus, listen_url(scheme), NULL, &link);

			if (err == 0)
				bus_link_close(link);
			else
				ck_bus(err, BUS_E_LIMIT);
			ck_assert(err < 0 || left > 0);
		}
		give_descriptors_back();
	}
	if (_i >= 2)
		ck_eventually(count_descriptors() == before);
	ck_bus(bus_listen(bus, listen_url(scheme), NULL, &link), 0);
	bus_link_close(link);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(buses_of_one_process_are_linked_without_a_descriptor)
{
	struct pair p;

	take_descriptors(0);
	pair_open(&p, 0);
	pair_close(&p);
	give_descriptors_back();
}
END_TEST

/* left 0: the dialling side has none; 1: it has, and the listening side cannot accept. */
START_TEST(connection_without_a_descriptor_opens_once_there_is_one)
{
	unsigned left = (unsigned)_i / 2;
	_Atomic unsigned calls = 0;
	struct pair p;

	/* Both buses have the shared state of their links. */
	pair_open(&p, _i % 2 + 1);
	ck_bus(bus_subscribe(p.b, "t", count_message, &calls, NULL), 0);
	bus_link_close(p.lb);
	ck_eventually(stats_of(p.la).peers == 0);
	take_descriptors(left);
	ck_bus(bus_dial(p.b, p.url, NULL, &p.lb), 0);
	ck_eventually(stats_of(left == 0 ? p.lb : p.la).last_error == BUS_E_LIMIT);
	ck_assert(!is_up(p.lb));
	give_descriptors_back();
	ck_eventually(is_up(p.lb));
	ck_eventually(bus_publish(p.a, "t", "x", 1) == 0 && calls > 0);
	pair_close(&p);
}
END_TEST

/* --- memory ------------------------------------------------------------------------------------------------------ */

#if !defined(__SANITIZE_ADDRESS__) &&                                                              \
    !defined(__SANITIZE_THREAD__) /* whose own memory would be refused */
enum { ROOM = 32 << 20, MOST = 64 };

static rlim_t
address_space(void)
{
	FILE *statm = fopen("/proc/self/statm", "r");
	long pages;

	ck_assert_ptr_nonnull(statm);
	ck_assert_int_eq(fscanf(statm, "%ld", &pages), 1);
	fclose(statm);
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Opens mailboxes of a megabyte until there is no memory for one. */
static unsigned
open_many(struct bus *bus, struct bus_mailbox *all[MOST])
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = 1 << 20};
	unsigned count = 0;
	int err = 0;

	while (count < MOST && (err = bus_mailbox_open(bus, &cfg, &all[count])) == 0) {
		ck_bus(bus_mailbox_subscribe(all[count], "t", NULL, NULL, NULL), 0);
		count++;
	}
	ck_bus(err, BUS_E_NOMEM);
	return count;
}

START_TEST(lack_of_memory_is_reported_and_freed_memory_is_used_again)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *all[MOST];
	const struct bus_msg *msg;
	unsigned count = 0;

	set_soft(RLIMIT_AS, address_space() + ROOM);
	for (int round = 0; round < 3; round++) {
		count = open_many(bus, all);
		ck_assert_uint_ge(count, 4);
		ck_bus(bus_publish(bus, "t", "x", 1), 0);
		for (unsigned i = 0; i < count; i++) {
			ck_bus(bus_recv(all[i], 0, &msg), 1);
			bus_mailbox_close(all[i]);
		}
	}
	set_soft(RLIMIT_AS, RLIM_INFINITY);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST
#endif

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("limits");
	TCase *threads = bus_test_case("threads"), *descriptors = bus_test_case("descriptors");

	bus_test_always_forks();
	bus_test_add_loop(threads, lack_of_threads_is_reported_and_leaves_nothing, 0, 1);
	bus_test_add_loop(
	    threads, links_that_need_threads_work_when_there_are_some_again, 1, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, threads);
	tcase_add_test(descriptors, lack_of_a_descriptor_for_a_mailbox_is_reported);
	bus_test_add_loop(
	    descriptors, lack_of_a_descriptor_to_listen_is_reported_and_leaves_nothing, 0, 4);
	tcase_add_test(descriptors, buses_of_one_process_are_linked_without_a_descriptor);
	bus_test_add_loop(
	    descriptors, connection_without_a_descriptor_opens_once_there_is_one, 0, 4);
	suite_add_tcase(suite, descriptors);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	BUS_TEST_CASE(suite, "memory", lack_of_memory_is_reported_and_freed_memory_is_used_again);
#endif
	return suite;
}
