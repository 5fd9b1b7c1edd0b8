/* A daemon runs without descriptors 0, 1 and 2: what it prints must not end in a socket or a file of the library. */
#define _GNU_SOURCE
#include "link_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <libbus/bus.h>

static void
close_std(void)
{
	for (int fd = 0; fd <= 2; fd++)
		close(fd);
}

static bool
is_closed(int fd)
{
	return fcntl(fd, F_GETFD) < 0 && errno == EBADF;
}

static bool
is_null(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

static void
ck_std_closed(const char *after)
{
	for (int fd = 0; fd <= 2; fd++)
		ck_assert_msg(is_closed(fd), "after %s descriptor %d is open", after, fd);
}

static void
nothing(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
}

/* Every way of a bus to come to a descriptor, but links; _i: a private bus, a named one. */
START_TEST(no_descriptor_of_a_bus_is_a_standard_one)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	const struct bus_msg *msg;
	struct bus_request *request;
	struct bus_role *role;
	struct bus_mailbox *mbox;
	struct bus_link *link;
	struct bus *bus;
	struct pollfd ready;

	close_std();
	ck_bus(bus_open(_i == 0 ? NULL : "daemon", &cfg, &bus), 0);
	ck_std_closed("bus_open()");
	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "t", NULL, NULL, NULL), 0);
	ck_bus(bus_request_start(mbox, "t", "?", 1, patience_ms(), nothing, NULL, &request), 0);
	ready = (struct pollfd){.fd = bus_mailbox_fd(mbox), .events = POLLIN};
	ck_assert_int_gt(ready.fd, 2);
	ck_std_closed("bus_mailbox_fd()");
	ck_assert_int_eq(poll(&ready, 1, patience_ms()), 1);
	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	bus_request_cancel(request);
	ck_bus(bus_subscribe(bus, "other", nothing, NULL, NULL), 0);
	ck_bus(bus_publish(bus, "other", "x", 1), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_std_closed("messages");
	if (_i == 1) {
		ck_bus(bus_role_take(bus, "role", 0, &role), 0);
		bus_role_end(role);
		ck_std_closed("bus_role_take()");
	}
	ck_bus(bus_listen(bus, "inproc://daemon", NULL, &link), 0);
	ck_std_closed("a link inside the process");
	bus_link_close(link);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_std_closed("bus_close()");
}
END_TEST

/* The descriptors that a bus's end closes and its begin opens, while another thread of the program prints. */
START_TEST(what_a_daemon_prints_reaches_nothing_of_the_library)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	char path[256];
	struct stat st;
	struct bus *bus;

	close_std();
	ck_bus(bus_open("daemon", &cfg, &bus), 0);
	for (int fd = 0; fd <= 2; fd++)
		ck_assert_int_eq(write(fd, "line\n", 5), -1);
	snprintf(path, sizeof path, "%s/daemon.lock", cfg.dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_size, 24); /* its own head */
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* _i: ipc or tcp, and whether the program listens or dials first. */
START_TEST(a_link_opens_the_null_device_where_a_standard_descriptor_is_closed)
{
	struct heard heard = {.count = 0};
	int scheme = _i % 2 + 1;
	struct bus_link *link;
	struct pair p;

	close_std();
	if (_i >= 2) {
		struct bus *bus = open_bus();

		ck_bus(
		    bus_dial(bus, scheme == 1 ? listen_url(1) : "tcp://127.0.0.1:1", NULL, &link),
		    0);
		for (int fd = 0; fd <= 2; fd++)
			ck_assert(is_null(fd));
		bus_link_close(link);
		ck_bus(bus_close(bus, 0), 0);
	}
	pair_open(&p, scheme);
	for (int fd = 0; fd <= 2; fd++) {
		ck_assert(is_null(fd));
		ck_assert_int_eq(write(fd, "line\n", 5), 5);
	}
	ck_bus(bus_subscribe(p.b, "t", hear, &heard, NULL), 0);
	ck_eventually(bus_publish(p.a, "t", "x", 1) == 0 && heard.count > 0);
	pair_close(&p);
	for (int fd = 0; fd <= 2; fd++)
		ck_assert(is_null(fd));
}
END_TEST

/* _i: ipc or tcp. Where links need no NNG, which takes any number. */
START_TEST(no_descriptor_of_a_link_is_a_standard_one)
{
	struct heard heard = {.count = 0};
	struct pair p;

	close_std();
	pair_open(&p, _i);
	ck_std_closed("a link");
	ck_bus(bus_subscribe(p.b, "t", hear, &heard, NULL), 0);
	ck_eventually(bus_publish(p.a, "t", "x", 1) == 0 && heard.count > 0);
	pair_close(&p);
	ck_std_closed("the end of a link");
}
END_TEST

START_TEST(a_standard_descriptor_that_is_open_stays_what_it_is)
{
	struct stat before, after;
	struct bus *bus = open_bus();
	struct bus_link *link;
	int pipes[2];

	ck_assert_int_eq(pipe(pipes), 0);
	close_std();
	ck_assert_int_eq(dup2(pipes[1], 1), 1);
	ck_assert_int_eq(fstat(1, &before), 0);
	ck_bus(bus_listen(bus, listen_url(2), NULL, &link), 0);
	ck_assert_int_eq(fstat(1, &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	ck_assert(is_null(0) && is_null(2));
	bus_link_close(link);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: no standard descriptors");
	TCase *tcase = bus_test_case("no std");

	bus_test_always_forks();
	bus_test_add_loop(tcase, no_descriptor_of_a_bus_is_a_standard_one, 0, 2);
	tcase_add_test(tcase, what_a_daemon_prints_reaches_nothing_of_the_library);
	bus_test_add_loop(
	    tcase, a_link_opens_the_null_device_where_a_standard_descriptor_is_closed, 0, 4);
	bus_test_add_loop(tcase, a_standard_descriptor_that_is_open_stays_what_it_is, 0, 1);
	bus_test_add_loop(tcase, no_descriptor_of_a_link_is_a_standard_one, 1, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, tcase);
	return suite;
}
