/* Transports that a program registers: links over them work. */
#define _GNU_SOURCE
#include "transport_test.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/libbus.h>

#include "transport/blocking.h"

/* --- registering ---------------------------------------------------------------------------------------------------------- */

START_TEST(a_transport_without_a_function_is_refused_by_its_name)
{
	const struct bus_transport whole = {sizeof whole, "whole", NULL, wild_listen, wild_accept,
	    wild_dial, wild_send, wild_recv, wild_close};
	static const char *const names[] = {"listen", "accept", "dial", "send", "recv", "close"};
	struct bus_transport part[6] = {whole, whole, whole, whole, whole, whole};

	part[0].listen = NULL;
	part[1].accept = NULL;
	part[2].dial = NULL;
	part[3].send = NULL;
	part[4].recv = NULL;
	part[5].close = NULL;
	for (int i = 0; i < 6; i++) {
		char words[32];

		snprintf(words, sizeof words, "whole: %s is NULL", names[i]);
		ck_bus(bus_transport_register(&part[i]), BUS_E_INVAL);
		expect_text(words);
	}
	ck_bus(bus_transport_register(NULL), BUS_E_INVAL);
}
END_TEST

START_TEST(a_scheme_is_short_and_of_few_letters)
{
	static const char *const bad[] = {"", "Fifo", "9p", "+a", "a b", "a/b", "a:b", "a_b", "ü",
	    "a\n", "abcdefghijklmnop", "a://"};
	static const char *const good[] = {"x", "a9+-.", "abcdefghijklmno"};
	struct bus_transport none = {.size = sizeof none};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ck_assert_msg(register_as(bad[i]) == BUS_E_INVAL, "accepted: %s", bad[i]);
		expect_text("no scheme: use 1 to 15 of a-z");
	}
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		ck_bus(register_as(good[i]), 0);
	ck_bus(bus_transport_register(&none), BUS_E_INVAL);
	expect_text("NULL: no scheme");
}
END_TEST

START_TEST(a_scheme_is_registered_once_and_never_replaces_one_of_libbus)
{
	static const char *const ours[] = {"inproc", "ipc", "tcp"};

	for (int i = 0; i < 3; i++) {
		ck_bus(register_as(ours[i]), BUS_E_EXIST);
		expect_text("the scheme is in use");
	}
	ck_bus(register_as("twice"), 0);
	ck_bus(register_as("twice"), BUS_E_EXIST);
	ck_bus(register_as("twic"), 0);
}
END_TEST

static void *
register_many(void *arg)
{
	_Atomic int *registered = arg;
	char scheme[16];

	for (int i = 0; i < 100; i++) {
		snprintf(scheme, sizeof scheme, "s%d", i);
		*registered += register_as(scheme) == 0;
	}
	return NULL;
}

START_TEST(threads_that_register_the_same_schemes_get_each_once)
{
	_Atomic int registered = 0;
	pthread_t threads[4];
	struct bus *bus = open_bus();
	struct bus_link *link;

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, register_many, &registered), 0);
	/* Lookups at the same time. */
	for (int i = 0; i < 100; i++)
		ck_bus(bus_dial(bus, "nothing://x", NULL, &link), BUS_E_SCHEME);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(registered, 100);
	/* That many do not fit into the text, which says so and keeps all else. */
	ck_bus(bus_dial(bus, "nothing://x", NULL, &link), BUS_E_SCHEME);
	expect_text("this process has inproc, ipc, tcp, ");
	expect_text(", ...: use one of them, or first add yours by bus_transport_register()");
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(an_unknown_scheme_is_answered_with_the_list_of_schemes)
{
	struct bus *bus = open_bus();
	struct bus_link *link;

	ck_bus(bus_dial(bus, "radio://x", NULL, &link), BUS_E_SCHEME);
	expect_text("radio://x: unknown scheme: this process has inproc, ipc, tcp");
	ck_bus(register_as("carrier"), 0);
	ck_bus(bus_listen(bus, "radio://x", NULL, &link), BUS_E_SCHEME);
	expect_text("inproc, ipc, tcp, ");
	expect_text("carrier: use one of them");
	ck_bus(register_as("radio"), 0);
	ck_bus(bus_dial(bus, "radio://x", NULL, &link), 0);
	ck_bus(bus_close(bus, 0), 0);
	bus_link_close(link);
	expect_peace();
}
END_TEST

/* --- links that work ------------------------------------------------------------------------------------------------------ */

START_TEST(a_transport_that_never_waits_works)
{
	struct pair p;

	wild.is_hasty = true;
	pair_up(&p);
	expect_payload(&p, 1 << 20);
	pair_close(&p);
	expect_peace();
	wild.is_hasty = false;
}
END_TEST

START_TEST(a_transport_can_be_registered_beside_open_links)
{
	struct pair p;

	pair_open(&p, 0);
	be_wild();
	expect_payload(&p, 10);
	pair_close(&p);
	pair_up(&p);
	expect_payload(&p, 10);
	pair_close(&p);
	expect_peace();
}
END_TEST

START_TEST(an_address_is_free_again_when_its_link_is_closed)
{
	struct bus *bus = open_bus();
	struct bus_link *link, *other;
	char url[64];

	be_wild();
	for (int i = 0; i < 3; i++) {
		ck_bus(bus_listen(bus, "wild://here", NULL, &link), 0);
		ck_bus(bus_listen(bus, "wild://here", NULL, &other), BUS_E_ADDRESS_TAKEN);
		ck_assert_int_gt(bus_link_url(link, url, sizeof url), 0);
		ck_assert_str_eq(url, "wild://here");
		bus_link_close(link);
		ck_assert_int_eq(wild.open, 0);
	}
	/* A link that the user does not close ends with the bus. */
	ck_bus(bus_listen(bus, "wild://here", NULL, NULL), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_assert_int_eq(wild.open, 0);
	expect_peace();
}
END_TEST

/* The library's threads, by their names. */
static unsigned
threads(void)
{
	unsigned count = 0;
	struct dirent *entry;
	char path[300], name[16];
	DIR *dir = opendir("/proc/self/task");
	FILE *file;

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (file == NULL)
			continue; /* it has ended */
		count += fgets(name, sizeof name, file) != NULL && strncmp(name, "bus-", 4) == 0;
		fclose(file);
	}
	closedir(dir);
	return count;
}

START_TEST(its_threads_end_with_the_link)
{
	struct pair p;

	pair_up(&p);
	/* One of each bus and of the listener, two of each end of the connection. */
	ck_eventually(threads() == 2 + 1 + 4);
	pair_close(&p);
	ck_eventually(threads() == 0);
	expect_peace();
}
END_TEST

/* --- processes ------------------------------------------------------------------------------------------------------------ */

#ifndef __SANITIZE_THREAD__ /* which knows no new threads in a forked child */
static void
use_in_a_child(void)
{
	struct pair p;

	alarm((unsigned)bus_test_patience());
	/* The child needs a door of its own. */
	wild.door[0] = wild.door[1] = -1;
	wild.conns = NULL;
	wild.open = 0;
	wild.hangs[RECV] = false;
	pair_up(&p);
	expect_payload(&p, 1000);
	pair_close(&p);
	ck_eventually(wild.open == 0);
	_exit(wild.faults == 0 ? 0 : 1);
}

START_TEST(a_child_has_the_registered_transports_and_opens_its_own_links)
{
	struct bus *spare = open_bus();
	struct pair p;
	pid_t child;
	int status;

	pair_up(&p);
	wild.hangs[RECV] = true;
	ck_eventually(wild.hung == 2);
	bus_link_close(p.lb); /* it leaves a call behind */
	child = bus_test_fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		use_in_a_child();
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	release(RECV);
	bus_link_close(p.la);
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	ck_assert_int_ge(bus_close(p.a, 0), 0);
	ck_bus(bus_close(spare, 0), 0);
	expect_peace();
}
END_TEST

#endif

START_TEST(one_of_two_processes_of_a_name_has_the_address)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 4 << 20};
	struct bus *first, *second;
	struct bus_link *open, *standing_by;

	be_wild();
	ck_bus(bus_open("wild", &cfg, &first), 0);
	ck_bus(bus_open("wild", &cfg, &second), 0);
	ck_bus(bus_listen(first, "wild://here", NULL, &open), 0);
	ck_bus(bus_listen(second, "wild://here", NULL, &standing_by), 0);
	ck_assert(is_up(open) && !is_up(standing_by));
	bus_link_close(open);
	ck_eventually(is_up(standing_by));
	bus_link_close(standing_by);
	ck_assert_int_ge(bus_close(second, patience_ms()), 0);
	ck_assert_int_ge(bus_close(first, patience_ms()), 0);
	expect_peace();
}
END_TEST

/* --- the example ---------------------------------------------------------------------------------------------------------- */

extern const struct bus_transport
    own_transport; /* examples/c/own_transport.c; tests/contract has the rest */

static void
open_fifos(void)
{
	int err = bus_transport_register(&own_transport);

	ck_assert(err == 0 || err == BUS_E_EXIST);
}

START_TEST(the_example_refuses_an_address_in_use_and_foreign_files)
{
	struct bus *bus = open_bus();
	struct bus_link *link;
	char path[200], url[256], text[8] = "";
	FILE *file;

	open_fifos();
	snprintf(path, sizeof path, "%s/file", bus_test_dir());
	file = fopen(path, "w+");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fputs("mine", file), 1);
	ck_assert_int_eq(fflush(file), 0);
	snprintf(url, sizeof url, "fifo://%s", path);
	ck_bus(bus_listen(bus, url, NULL, &link), BUS_E_SYS);
	ck_bus(bus_dial(bus, url, NULL, &link), 0);
	ck_eventually(stats_of(link).last_error == BUS_E_REFUSED);
	bus_link_close(link);
	rewind(file);
	ck_assert_ptr_nonnull(fgets(text, sizeof text, file));
	ck_assert_str_eq(text, "mine");
	fclose(file);

	snprintf(url, sizeof url, "fifo://%s/fifo", bus_test_dir());
	ck_bus(bus_listen(bus, url, NULL, &link), 0);
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_ADDRESS_TAKEN);
	bus_link_close(link);
	ck_bus(bus_listen(bus, url, NULL, NULL), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("transport");

	BUS_TEST_CASE(suite, "registering", a_transport_without_a_function_is_refused_by_its_name,
	    a_scheme_is_short_and_of_few_letters,
	    a_scheme_is_registered_once_and_never_replaces_one_of_libbus,
	    an_unknown_scheme_is_answered_with_the_list_of_schemes,
	    a_transport_can_be_registered_beside_open_links,
	    threads_that_register_the_same_schemes_get_each_once);
	BUS_TEST_CASE(suite, "links", a_transport_that_never_waits_works,
	    an_address_is_free_again_when_its_link_is_closed, its_threads_end_with_the_link);
	BUS_TEST_CASE(
	    suite, "the example", the_example_refuses_an_address_in_use_and_foreign_files);
	BUS_TEST_CASE(suite, "processes", one_of_two_processes_of_a_name_has_the_address);
#ifndef __SANITIZE_THREAD__
	BUS_TEST_CASE(
	    suite, "children", a_child_has_the_registered_transports_and_opens_its_own_links);
#endif
	return suite;
}
