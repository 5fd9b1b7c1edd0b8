/* A real-time program locks all its memory; the limit on that is small unless somebody raised it. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <libbus/bus.h>

/* Sanitizers reserve, and would lock, what no limit allows. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
enum { LITTLE = 1 << 20, NOBODYS_UID = 54321 };

/* Root may lock as much as it likes. */
static void
lock_memory(const char *dir)
{
	const struct rlimit limit = {LITTLE, LITTLE};

	ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(dir, NOBODYS_UID, NOBODYS_UID), 0);
		ck_assert_int_eq(setresuid(NOBODYS_UID, NOBODYS_UID, NOBODYS_UID), 0);
	}
	ck_assert_int_eq(mlockall(MCL_FUTURE), 0);
}

static void
nothing(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
}

START_TEST(a_log_and_a_stack_beyond_what_may_be_locked_name_that_limit)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct bus *bus, *named;

	lock_memory(cfg.dir);
	ck_bus(bus_open("locked", &cfg, &named), BUS_E_LOCKED);
	ck_bus(bus_open(NULL, NULL, &bus), 0);
	ck_bus(bus_subscribe(bus, "t", nothing, NULL, NULL), BUS_E_LOCKED);
	ck_assert_int_eq(munlockall(), 0);
	ck_bus(bus_subscribe(bus, "t", nothing, NULL, NULL), 0);
	ck_bus(bus_open("locked", &cfg, &named), 0);
	ck_bus(bus_close(named, 0), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST
#endif

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: mlockall");

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	BUS_TEST_CASE(suite, "locked", a_log_and_a_stack_beyond_what_may_be_locked_name_that_limit);
#endif
	return suite;
}
