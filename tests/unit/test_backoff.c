/* How long a peer has to wait after failed logins. The clock is an argument. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "access/backoff.h"
#include "base/mem.h"

static const struct sockaddr *
address(const char *text)
{
	static union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} addr;

	memset(&addr, 0, sizeof addr);
	if (strchr(text, ':') != NULL) {
		addr.in6.sin6_family = AF_INET6;
		ck_assert_int_eq(inet_pton(AF_INET6, text, &addr.in6.sin6_addr), 1);
	} else {
		addr.in.sin_family = AF_INET;
		ck_assert_int_eq(inet_pton(AF_INET, text, &addr.in.sin_addr), 1);
	}
	return &addr.any;
}

static void
fail_at(struct bus__backoff *b, const char *addr, const char *user, int64_t now_ms, unsigned times)
{
	while (times-- > 0)
		bus__backoff_failed(b, addr != NULL ? address(addr) : NULL, user, now_ms);
}

static int64_t
wait_at(struct bus__backoff *b, const char *addr, const char *user, int64_t now_ms)
{
	return bus__backoff_wait(b, addr != NULL ? address(addr) : NULL, user, now_ms);
}

START_TEST(fifth_failure_in_a_row_costs_a_second_and_each_further_one_twice_as_long)
{
	static const int64_t pauses[] = {
	    0, 0, 0, 0, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000};
	struct bus__backoff *b = bus__backoff_new();
	int64_t now_ms = _i == 0 ? 0 : INT64_C(-5000000000);

	for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
		fail_at(b, "192.168.1.7", "pico", now_ms, 1);
		ck_assert_int_eq(wait_at(b, "192.168.1.7", "pico", now_ms), pauses[i]);
		if (pauses[i] > 0)
			ck_assert_int_eq(wait_at(b, "192.168.1.7", "x", now_ms + pauses[i] - 1), 1);
		now_ms += pauses[i];
		ck_assert_int_eq(wait_at(b, "192.168.1.7", "pico", now_ms), 0);
	}
	for (unsigned n = 0; n < 100; n++)
		fail_at(b, "192.168.1.7", NULL, now_ms, 1);
	ck_assert_int_eq(wait_at(b, "192.168.1.7", NULL, now_ms), 60000);
	bus__backoff_free(b);
}
END_TEST

START_TEST(success_forgives_and_so_do_ten_minutes)
{
	struct bus__backoff *b = bus__backoff_new();

	fail_at(b, "10.0.0.1", "pico", 0, 8);
	fail_at(b, "10.0.0.2", "pico", 0, 8);
	bus__backoff_succeeded(b, address("10.0.0.1"), "pico");
	ck_assert_int_eq(wait_at(b, "10.0.0.1", "pico", 0), 0);
	ck_assert_int_eq(wait_at(b, "10.0.0.2", "pico", 0), 8000);
	ck_assert_uint_eq(bus__backoff_count(b), 1);
	fail_at(b, "10.0.0.1", "pico", 0, 4);
	ck_assert_int_eq(wait_at(b, "10.0.0.1", "pico", 0), 0);
	bus__backoff_succeeded(b, address("10.0.0.9"), "pico");
	/* The count starts again. */
	fail_at(b, "10.0.0.2", "pico", BUS__BACKOFF_FORGIVEN_MS, 4);
	ck_assert_int_eq(wait_at(b, "10.0.0.2", "pico", BUS__BACKOFF_FORGIVEN_MS), 0);
	fail_at(b, "10.0.0.2", "pico", BUS__BACKOFF_FORGIVEN_MS, 1);
	ck_assert_int_eq(wait_at(b, "10.0.0.2", "pico", BUS__BACKOFF_FORGIVEN_MS), 1000);
	bus__backoff_free(b);
}
END_TEST

START_TEST(household_counts_as_one_host_and_its_neighbours_separately)
{
	struct bus__backoff *b = bus__backoff_new();

	fail_at(b, "2001:db8:1:2::5", NULL, 0, 5);
	ck_assert_int_eq(wait_at(b, "2001:db8:1:2:ffff::1", NULL, 0), 1000);
	ck_assert_int_eq(wait_at(b, "2001:db8:1:3::5", NULL, 0), 0);
	fail_at(b, "192.168.1.7", "a", 0, 5);
	ck_assert_int_eq(wait_at(b, "192.168.1.7", "b", 0), 1000);
	ck_assert_int_eq(wait_at(b, "::ffff:192.168.1.7", "b", 0), 1000);
	ck_assert_int_eq(wait_at(b, "192.168.1.8", "a", 0), 0);
	bus__backoff_free(b);
}
END_TEST

START_TEST(on_this_machine_each_user_name_counts_for_itself)
{
	static const char *const places[] = {
	    "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", NULL};
	struct bus__backoff *b = bus__backoff_new();

	fail_at(b, places[_i], "pico", 0, 5);
	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		ck_assert_int_eq(wait_at(b, places[i], "pico", 0), 1000);
		ck_assert_int_eq(wait_at(b, places[i], "zero", 0), 0);
	}
	/* Without a name nothing tells the peers apart. */
	fail_at(b, places[_i], NULL, 0, 9);
	fail_at(b, places[_i], "", 0, 9);
	ck_assert_int_eq(wait_at(b, places[_i], NULL, 0), 0);
	ck_assert_uint_eq(bus__backoff_count(b), 1);
	bus__backoff_free(b);
}
END_TEST

START_TEST(over_the_limit_the_host_with_the_oldest_failure_is_forgotten)
{
	struct bus__backoff *b = bus__backoff_new();
	char text[32];

	for (int i = 0; i < BUS__BACKOFF_MOST; i++) {
		snprintf(text, sizeof text, "10.1.%d.%d", i / 256, i % 256);
		fail_at(b, text, NULL, i, 5);
	}
	fail_at(b, "10.1.0.0", NULL, BUS__BACKOFF_MOST, 1);
	fail_at(b, "10.2.0.0", NULL, BUS__BACKOFF_MOST, 5);
	ck_assert_uint_eq(bus__backoff_count(b), BUS__BACKOFF_MOST);
	ck_assert_int_eq(wait_at(b, "10.1.0.0", NULL, BUS__BACKOFF_MOST), 2000);
	ck_assert_int_eq(wait_at(b, "10.2.0.0", NULL, BUS__BACKOFF_MOST), 1000);
	ck_assert_int_eq(wait_at(b, "10.1.0.1", NULL, 1), 0);
	ck_assert_int_eq(wait_at(b, "10.1.0.2", NULL, 2), 1000);
	bus__backoff_free(b);
}
END_TEST

START_TEST(nothing_is_made_without_memory)
{
	bus__mem_fail_after(0);
	ck_assert_ptr_null(bus__backoff_new());
	bus__mem_fail_after(-1);
	bus__backoff_free(NULL);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("backoff");
	TCase *tcase = tcase_create("backoff");

	tcase_set_timeout(tcase, bus_test_limit());
	tcase_add_loop_test(
	    tcase, fifth_failure_in_a_row_costs_a_second_and_each_further_one_twice_as_long, 0, 2);
	tcase_add_test(tcase, success_forgives_and_so_do_ten_minutes);
	tcase_add_test(tcase, household_counts_as_one_host_and_its_neighbours_separately);
	tcase_add_loop_test(tcase, on_this_machine_each_user_name_counts_for_itself, 0, 5);
	tcase_add_test(tcase, over_the_limit_the_host_with_the_oldest_failure_is_forgotten);
	tcase_add_test(tcase, nothing_is_made_without_memory);
	suite_add_tcase(suite, tcase);
	return suite;
}
