#define _GNU_SOURCE
#include "bus_test.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
static bool removed_at_exit;

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

/* With CK_FORK=no one process has one test after the other. */
static void
end_dir(void)
{
	remove_dir();
	dir_owner = 0;
}

const char *
bus_test_dir(void)
{
	if (dir_owner == getpid())
		return dir;
	snprintf(dir, sizeof dir, "/tmp/libbus-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	if (!removed_at_exit)
		atexit(remove_dir);
	removed_at_exit = true;
	dir_owner = getpid();
	return dir;
}

void
bus_test_config_here(void)
{
	ck_assert_int_eq(setenv("XDG_CONFIG_HOME", bus_test_dir(), 1), 0);
}

#ifdef __SANITIZE_ADDRESS__
/* Whether no thread of the process but this one runs or could: /proc/self/task/N/stat, "N (name) S ...". */
static bool
others_sleep(void)
{
	DIR *tasks = opendir("/proc/self/task");
	bool asleep = true;
	struct dirent *task;

	ck_assert_ptr_nonnull(tasks);
	while (asleep && (task = readdir(tasks)) != NULL) {
		char path[300], name[64], state = 'S';
		FILE *stat;

		if (task->d_name[0] == '.' || atoi(task->d_name) == gettid())
			continue;
		snprintf(path, sizeof path, "/proc/self/task/%s/stat", task->d_name);
		stat = fopen(path, "r");
		if (stat == NULL)
			continue; /* it has ended */
		asleep = fscanf(stat, "%*d (%63[^)]) %c", name, &state) == 2 && state == 'S';
		fclose(stat);
	}
	closedir(tasks);
	return asleep;
}

static void
settle(void)
{
	for (int quiet = 0; quiet < 10; quiet = others_sleep() ? quiet + 1 : 0)
		bus_test_nap();
}
#else
static void
settle(void)
{
}
#endif

pid_t
bus_test_fork(void)
{
	settle();
	return fork();
}

bool
bus_test_is_skipped(const char *name)
{
	const char *list = getenv("BUS_TEST_SKIP");
	size_t len = strlen(name);

	for (const char *at = list; at != NULL && (at = strstr(at, name)) != NULL; at += len)
		if ((at == list || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
			return true;
	return false;
}

static bool always_forks;

void
bus_test_always_forks(void)
{
	always_forks = true;
}

/* "no" or not. */
static bool
forks_each_test(void)
{
	const char *word = getenv("CK_FORK");

	return word == NULL || strcmp(word, "no") != 0;
}

#define CHILD                                                                                      \
	"BUS_TEST_CHILD" /* which function of this program, counted from main(), and its argument */

int main(void);

pid_t
bus_test_child(void (*fn)(const char *arg), const char *arg)
{
	pid_t pid = bus_test_fork();
	char what[512];

	if (pid != 0)
		return pid;
	if (forks_each_test() || always_forks) {
		fn(arg);
	} else {
		snprintf(what, sizeof what, "%td %s",
		    (char *)(uintptr_t)fn - (char *)(uintptr_t)main, arg);
		setenv(CHILD, what, 1);
		execl("/proc/self/exe", "child", (char *)NULL); /* CK_FORK=no goes with it */
	}
	_exit(127);
}

static const char *child_is; /* what CHILD says, in a child */

START_TEST(child)
{
	char *arg;
	ptrdiff_t offset = (ptrdiff_t)strtoll(child_is, &arg, 10);

	((void (*)(const char *))(uintptr_t)((char *)(uintptr_t)main + offset))(arg + 1);
}
END_TEST

/* A test of its own, since what it calls asserts. */
static Suite *
child_suite(void)
{
	Suite *suite = suite_create("child");

	BUS_TEST_CASE(suite, "child", child);
	return suite;
}

TCase *
bus_test_case(const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, bus_test_limit());
	tcase_add_checked_fixture(tcase, NULL, end_dir);
	return tcase;
}

void
bus_test_add_loop(TCase *tcase, const TTest *test, int first, int end)
{
	if (bus_test_is_skipped(test->name))
		printf("skipped: %s\n", test->name);
	else
		tcase_add_loop_test(tcase, test, first, end);
}

void
bus_test_add(Suite *suite, const char *name, const TTest *const tests[], size_t count)
{
	TCase *tcase = bus_test_case(name);

	for (size_t i = 0; i < count; i++)
		if (bus_test_is_skipped(tests[i]->name))
			printf("skipped: %s\n", tests[i]->name);
		else
			tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
}

int
main(void)
{
	SRunner *runner;
	int failed;

	child_is = getenv(CHILD);
	runner = srunner_create(child_is != NULL ? child_suite() : bus_test_suite());
	if (always_forks)
		srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
