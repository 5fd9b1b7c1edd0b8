/* A real-time program locks all its memory; the limit on that is small unless somebody raised it. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

/* Sanitizers reserve, and would lock, what no limit allows. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
enum { LITTLE = 1 << 20, MUCH = 4 << 20 };

/* Root may lock as much as it likes, by a capability that it can lay down; in a user namespace it has none that counts. */
static void
lay_down_privilege(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &head, caps) != 0)
		return; /* what it may lock shows below */
	caps[0].effective &= ~(1u << CAP_IPC_LOCK);
	syscall(SYS_capset, &head, caps);
}

static bool
may_lock(size_t bytes)
{
	void *memory =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool locked = memory == MAP_FAILED || mlock(memory, bytes) == 0;

	munmap(memory, bytes);
	return locked;
}

/* Why the limit cannot be tried here; NULL: it is set. A limit can be lowered, and raised by nobody but root outside of
 * user namespaces. */
static const char *
limit_locking(void)
{
	static char why[200];
	struct rlimit limit;

	lay_down_privilege();
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_max < LITTLE) {
		snprintf(why, sizeof why,
		    "RLIMIT_MEMLOCK is %llu bytes at most, and the test needs %d: raise it (ulimit -Hl)",
		    (unsigned long long)limit.rlim_max, LITTLE);
		return why;
	}
	limit.rlim_cur = limit.rlim_max = LITTLE;
	if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0) {
		snprintf(why, sizeof why, "setrlimit(RLIMIT_MEMLOCK): %s", strerror(errno));
		return why;
	}
	if (!may_lock(MUCH))
		return NULL;
	snprintf(
	    why, sizeof why, "this kernel locks %d bytes where RLIMIT_MEMLOCK is %d", MUCH, LITTLE);
	return why;
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

	ck_assert_ptr_null(limit_locking());
	ck_assert_int_eq(mlockall(MCL_FUTURE), 0);
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

/* Where the limit cannot be tried meson counts the test as skipped (77), and says why. */
static void
skip_where_nothing_is_limited(void)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		const char *why = limit_locking();

		if (why != NULL)
			fprintf(stderr, "NOT TESTED: locked memory: %s\n", why);
		_exit(why != NULL);
	}
	if (child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	    WEXITSTATUS(status) == 1)
		exit(77);
}
#endif

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: mlockall");

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	skip_where_nothing_is_limited();
	BUS_TEST_CASE(suite, "locked", a_log_and_a_stack_beyond_what_may_be_locked_name_that_limit);
#endif
	return suite;
}
