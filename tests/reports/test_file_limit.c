/* `ulimit -f` below the size of a log: the kernel would end the process by SIGXFSZ. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

enum { LITTLE = 1 << 20 }; /* less than any log; enough for the file that Check writes itself */

static void
allow_files_of(rlim_t bytes)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static unsigned
files_in(const char *place)
{
	DIR *dir = opendir(place);
	unsigned count = 0;

	ck_assert_ptr_nonnull(dir);
	for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

START_TEST(a_log_above_the_limit_of_files_is_refused_and_leaves_none)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 8 << 20};
	struct bus *bus;

	for (rlim_t limit = LITTLE; limit < 8 << 20; limit += LITTLE) {
		allow_files_of(limit);
		ck_bus(bus_open("limited", &cfg, &bus), BUS_E_NOSPACE);
		ck_assert_uint_eq(files_in(cfg.dir), 0);
	}
	allow_files_of(8 << 20);
	ck_bus(bus_open("limited", &cfg, &bus), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_bus(bus_close(bus, 0), 0);
	ck_assert_uint_eq(files_in(cfg.dir), 0);
}
END_TEST

START_TEST(a_process_below_the_limit_joins_a_log_that_is_there)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct bus *bus;
	pid_t other;
	int status;

	ck_bus(bus_open("limited", &cfg, &bus), 0);
	other = bus_test_fork();
	if (other == 0) {
		struct bus *mine;

		allow_files_of(LITTLE);
		_exit(bus_open("limited", &cfg, &mine) == 0 &&
			      bus_publish(mine, "t", "x", 1) == 0 && bus_close(mine, 0) == 0
			  ? 0
			  : 1);
	}
	ck_assert_int_eq(waitpid(other, &status, 0), other);
	ck_assert_int_eq(status, 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(a_refused_log_leaves_nothing_of_dead_members_either)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct bus *bus;
	pid_t member = bus_test_fork();
	int status;

	if (member == 0) {
		if (bus_open("limited", &cfg, &bus) == 0)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(member, &status, 0), member);
	ck_assert_int_eq(status, SIGKILL);
	ck_assert_uint_eq(files_in(cfg.dir), 2);
	allow_files_of(LITTLE);
	ck_bus(bus_open("limited", &cfg, &bus), BUS_E_NOSPACE);
	ck_assert_uint_eq(files_in(cfg.dir), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: file limit");

	bus_test_always_forks();
	BUS_TEST_CASE(suite, "limit", a_log_above_the_limit_of_files_is_refused_and_leaves_none,
	    a_process_below_the_limit_joins_a_log_that_is_there,
	    a_refused_log_leaves_nothing_of_dead_members_either);
	return suite;
}
