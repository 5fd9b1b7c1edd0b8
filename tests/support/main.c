#define _GNU_SOURCE
#include "bus_test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int64_t
bus_test_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void
bus_test_nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static char dir[64];
static pid_t dir_owner;

static int
remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void
remove_dir(void)
{
	if (getpid() == dir_owner)
		nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *
bus_test_dir(void)
{
	if (dir_owner == getpid())
		return dir;
	snprintf(dir, sizeof dir, "/tmp/libbus-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	dir_owner = getpid();
	atexit(remove_dir);
	return dir;
}

void
bus_test_add(
    Suite *suite, const char *name, int timeout_s, const TTest *const tests[], size_t count)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, timeout_s);
	for (size_t i = 0; i < count; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
}

int
main(void)
{
	SRunner *runner = srunner_create(bus_test_suite());
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
