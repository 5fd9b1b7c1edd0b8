/* support/bus_test.h: what every Check suite here uses.
 *
 * A test file defines `Suite *bus_test_suite(void)` and tests named as sentences; support/main.c runs it.
 * Check forks a process per test: open buses in tests only, never in main() or an unchecked fixture. */
#ifndef BUS_TEST_H
#define BUS_TEST_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <libbus/error.h>

#include "patience.h"

Suite *bus_test_suite(void);

/* The call answers exactly `want`; failure prints both names. */
#define ck_bus(call, want)                                                                         \
	do {                                                                                       \
		int got_ = (call), want_ = (want);                                                 \
		ck_assert_msg(got_ == want_, "%s answered %d (%s), not %d (%s)", #call, got_,      \
		    bus_errname(got_), want_, bus_errname(want_));                                 \
	} while (0)

/* The same for loops: Check writes down each of its assertions that holds, these write only where one does not. */
#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			ck_abort_msg("not so: %s", #condition);                                    \
	} while (0)
#define must_bus(call)                                                                             \
	do {                                                                                       \
		int got_ = (call);                                                                 \
		if (got_ < 0)                                                                      \
			ck_abort_msg("%s answered %s", #call, bus_errname(got_));                  \
	} while (0)

/* Waits until `condition` is true; fails after bus_test_patience(). */
#define ck_eventually(condition)                                                                   \
	do {                                                                                       \
		int64_t deadline_ = bus_test_now_ms() + patience_ms();                             \
		while (!(condition)) {                                                             \
			ck_assert_msg(                                                             \
			    bus_test_now_ms() < deadline_, "never became true: %s", #condition);   \
			bus_test_nap();                                                            \
		}                                                                                  \
	} while (0)

/* The time limit of a call that must succeed: a watchdog, too. */
static inline int
patience_ms(void)
{
	return bus_test_patience() * 1000;
}

/* Check's limit for one test, in seconds: longer than its waits, which name the condition that stayed false. */
static inline int
bus_test_limit(void)
{
	return bus_test_patience() * 2;
}

int64_t bus_test_now_ms(void);
void bus_test_nap(void); /* one millisecond */

/* A fresh directory (0700) of this test; removed with its files when the test or its process ends. */
const char *bus_test_dir(void);

/* The default files of libbus are in its folder libbus from here on ($XDG_CONFIG_HOME). */
void bus_test_config_here(void);

/* fork(), at once. Under AddressSanitizer it first waits until every other thread sleeps: that of gcc 12 does
 * not hold the locks of its allocator over fork(), and a thread that was just starting leaves one locked. */
pid_t bus_test_fork(void);

/* Whether $BUS_TEST_SKIP, words with a space between, has the name: for machines that cannot run a test. */
bool bus_test_is_skipped(const char *name);

/* Starts fn(arg) in a child that has used no link yet: NNG does not work in the forked child of a process that has. With
 * CK_FORK=no, where an earlier test may have, the child is a new program. fn does not return. */
pid_t bus_test_child(void (*fn)(const char *arg), const char *arg);

/* A suite whose tests change their process (limits, user, descriptors) has each of them in one of its own, also with CK_FORK=no. */
void bus_test_always_forks(void);

/* A TCase with the limit of time that tests have, and a bus_test_dir() for each. */
TCase *bus_test_case(const char *name);

/* tcase_add_loop_test(), unless the test is skipped. */
void bus_test_add_loop(TCase *tcase, const TTest *test, int first, int end);

/* One around a list of test functions. */
void bus_test_add(Suite *suite, const char *name, const TTest *const tests[], size_t count);
#define BUS_TEST_CASE(suite, name, ...)                                                            \
	do {                                                                                       \
		const TTest *const tests_[] = {__VA_ARGS__};                                       \
		bus_test_add(suite, name, tests_, sizeof tests_ / sizeof tests_[0]);               \
	} while (0)

#endif
