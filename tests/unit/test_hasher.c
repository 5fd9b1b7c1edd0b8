/* The thread that makes keys of passwords: answers, cancels, bounds, forks. */
#include "access_test.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "access/hasher.h"
#include "base/thread.h"

struct ask {
	struct bus__hash_job job;
	char password[32];
	_Atomic int
	    done; /* release in note(), acquire in the waiting test: the result of the job */
};

static void
note(void *arg)
{
	struct ask *ask = arg;

	atomic_fetch_add_explicit(&ask->done, 1, memory_order_release);
}

static int
done(struct ask *ask)
{
	return atomic_load_explicit(&ask->done, memory_order_acquire);
}

static void
prepare(struct ask *ask, const char *password, uint32_t iterations)
{
	memset(ask, 0, sizeof *ask);
	snprintf(ask->password, sizeof ask->password, "%s", password);
	ask->job.password = ask->password;
	ask->job.salting.iterations = iterations;
	ask->job.salting.salt_len = 4;
	memcpy(ask->job.salting.salt, "salt", 4);
	ask->job.done = note;
	ask->job.arg = ask;
}

/* Gives the thread a job that no test waits for, and fills the queue behind it. */
static void
begin_long(struct ask *ask, struct ask fillers[BUS__HASHES_MOST])
{
	prepare(ask, "long", BUS__ITERATIONS_MOST);
	ck_bus(bus__hasher_ask(&ask->job), 0);
	for (int i = 0; i < BUS__HASHES_MOST; i++) {
		char password[16];

		snprintf(password, sizeof password, "p%d", i);
		prepare(&fillers[i], password, BUS__ITERATIONS_MOST);
		/* The last one fits once the thread has taken the first. */
		ck_eventually(bus__hasher_ask(&fillers[i].job) == 0);
	}
}

/* Whether the hasher's thread exists; sanitizers have threads too. */
static bool
is_running(void)
{
	DIR *dir = opendir("/proc/self/task");
	bool found = false;

	ck_assert_ptr_nonnull(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		char path[300], name[16] = "";
		FILE *comm;

		snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
		comm = fopen(path, "r"); /* it may have ended by now */
		if (comm == NULL)
			continue;
		found |= fscanf(comm, "%15s", name) == 1 && strcmp(name, "bus-hash") == 0;
		fclose(comm);
	}
	closedir(dir);
	return found;
}

static void
check_keys(const struct ask *ask)
{
	struct bus__scram_keys keys;

	keys_of(ask->password, &ask->job.salting, &keys);
	ck_bus(ask->job.err, 0);
	ck_assert_mem_eq(&ask->job.keys, &keys, sizeof keys);
}

/* --- answers ------------------------------------------------------------------------------------------------------------ */

START_TEST(keys_are_made_on_another_thread_which_then_ends)
{
	struct ask asks[3];

	for (int i = 0; i < 3; i++) {
		char password[2] = {(char)('a' + i), '\0'};

		prepare(&asks[i], password, TEST_ITERATIONS);
		ck_bus(bus__hasher_ask(&asks[i].job), 0);
	}
	for (int i = 0; i < 3; i++) {
		ck_eventually(done(&asks[i]) == 1);
		check_keys(&asks[i]);
	}
	ck_eventually(!is_running());
	prepare(&asks[0], "again", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&asks[0].job), 0);
	ck_eventually(done(&asks[0]) == 1);
	check_keys(&asks[0]);
}
END_TEST

START_TEST(keys_that_a_peer_proved_are_known_at_once)
{
	struct ask first, second;

	prepare(&first, "pencil", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&first.job), 0);
	ck_eventually(done(&first) == 1);
	prepare(&second, "pencil", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&second.job), 0);
	ck_eventually(done(&second) == 1);

	bus__hasher_remember(&first.job);
	prepare(&second, "pencil", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&second.job), 1);
	ck_assert_int_eq(done(&second), 0);
	check_keys(&second);

	/* Another password, salt or number of iterations makes another question. */
	prepare(&second, "pencils", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&second.job), 0);
	bus__hasher_cancel(&second.job);
	prepare(&second, "pencil", TEST_ITERATIONS + 1);
	ck_bus(bus__hasher_ask(&second.job), 0);
	bus__hasher_cancel(&second.job);
	prepare(&second, "pencil", TEST_ITERATIONS);
	second.job.salting.salt_len = 3;
	ck_bus(bus__hasher_ask(&second.job), 0);
	bus__hasher_cancel(&second.job);
}
END_TEST

START_TEST(remembered_keys_are_bounded)
{
	struct ask ask;

	prepare(&ask, "first", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&ask.job), 0);
	bus__hasher_cancel(&ask.job);
	for (int i = 0; i < 200; i++) {
		char password[16];

		snprintf(password, sizeof password, "p%d", i);
		prepare(&ask, password, TEST_ITERATIONS);
		bus__hasher_remember(&ask.job);
	}
	prepare(&ask, "p199", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&ask.job), 1);
	prepare(&ask, "p0", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&ask.job), 0);
	bus__hasher_cancel(&ask.job);
}
END_TEST

START_TEST(a_job_without_a_password_or_a_salt_is_refused)
{
	static const struct {
		uint32_t iterations, salt_len;
	} cases[] = {{0, 4}, {BUS__ITERATIONS_MOST + 1, 4}, {TEST_ITERATIONS, 0},
	    {TEST_ITERATIONS, BUS__SALT + 1}};
	char too_long[BUS__PASSWORD + 2];
	struct ask ask;

	prepare(&ask, "", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&ask.job), BUS_E_INVAL);
	memset(too_long, 'x', sizeof too_long);
	too_long[BUS__PASSWORD + 1] = '\0';
	ask.job.password = too_long;
	ck_bus(bus__hasher_ask(&ask.job), BUS_E_INVAL);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		prepare(&ask, "x", cases[i].iterations);
		ask.job.salting.salt_len = cases[i].salt_len;
		ck_bus(bus__hasher_ask(&ask.job), BUS_E_INVAL);
	}
	ask.job.password = too_long + 1;
	ask.job.salting.salt_len = 1;
	ck_bus(bus__hasher_ask(&ask.job), 0);
	ck_eventually(done(&ask) == 1);
}
END_TEST

/* --- cancels and bounds --------------------------------------------------------------------------------------------------- */

START_TEST(a_cancelled_job_is_not_called)
{
	static struct ask fillers[BUS__HASHES_MOST];
	struct ask running, *waiting = malloc(sizeof *waiting), after;
	int before; /* 1 if a busy machine let the long job end first */

	begin_long(&running, fillers);
	for (int i = 0; i < BUS__HASHES_MOST; i++)
		bus__hasher_cancel(&fillers[i].job);
	prepare(waiting, "waiting", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&waiting->job), 0);
	bus__hasher_cancel(&waiting->job);
	free(waiting);
	bus__hasher_cancel(&running.job);
	bus__hasher_cancel(&running.job); /* a second cancel does nothing */
	before = done(&running);

	/* Jobs are done in order: the cancelled ones would be done by now. */
	prepare(&after, "after", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&after.job), 0);
	ck_eventually(done(&after) == 1);
	check_keys(&after);
	ck_assert_int_eq(done(&running), before);
	for (int i = 0; i < BUS__HASHES_MOST; i++)
		ck_assert_int_eq(done(&fillers[i]), 0);
	bus__hasher_cancel(&after.job);
	ck_eventually(!is_running());
}
END_TEST

START_TEST(a_full_queue_refuses_and_takes_one_after_a_cancel)
{
	static struct ask fillers[BUS__HASHES_MOST];
	struct ask running, last;
	int err;

	begin_long(&running, fillers);
	prepare(&last, "last", TEST_ITERATIONS);
	err = bus__hasher_ask(&last.job);
	/* A busy machine may have let the long job end by now. */
	ck_assert(err == BUS_E_LIMIT || (err == 0 && done(&running) == 1));
	bus__hasher_cancel(&last.job);
	bus__hasher_cancel(&fillers[BUS__HASHES_MOST / 2].job);
	ck_bus(bus__hasher_ask(&last.job), 0);
	for (int i = 0; i < BUS__HASHES_MOST; i++)
		bus__hasher_cancel(&fillers[i].job);
	bus__hasher_cancel(&running.job);
	ck_eventually(done(&last) == 1);
	check_keys(&last);
}
END_TEST

/* Asks, cancels and waits, over and over. */
static void *
ask_and_cancel(void *arg)
{
	struct ask ask;

	for (int i = 0; i < 50; i++) {
		char password[32];
		int err;

		snprintf(password, sizeof password, "%p-%d", arg, i);
		prepare(&ask, password, TEST_ITERATIONS);
		err = bus__hasher_ask(&ask.job);
		must(err == 0);
		if (i % 3 == 0) {
			int64_t deadline = bus_test_now_ms() + patience_ms();

			while (done(&ask) == 0 && bus_test_now_ms() < deadline)
				bus_test_nap();
			must(done(&ask) == 1);
			bus__hasher_remember(&ask.job);
		}
		bus__hasher_cancel(&ask.job);
		must(done(&ask) <= 1);
		memset(&ask, 0x5a, sizeof ask);
	}
	return NULL;
}

START_TEST(threads_that_ask_and_cancel_at_once_do_not_disturb_each_other)
{
	pthread_t threads[4];

	for (size_t i = 0; i < 4; i++)
		ck_bus(bus__thread_start(&threads[i], ask_and_cancel, &threads[i]), 0);
	for (size_t i = 0; i < 4; i++)
		bus__thread_join(threads[i]);
}
END_TEST

/* --- forks -------------------------------------------------------------------------------------------------------------- */

/* Ends the child. */
static void
work_in_child(struct ask *running, struct ask *waiting)
{
	const int before = done(running) + done(waiting);
	struct ask own;

	prepare(&own, "known", TEST_ITERATIONS);
	if (bus__hasher_ask(&own.job) != 1)
		_exit(1);
	prepare(&own, "child", TEST_ITERATIONS);
	if (bus__hasher_ask(&own.job) != 0)
		_exit(2);
	ck_eventually(done(&own) == 1);
	check_keys(&own);
	bus__hasher_cancel(&running->job);
	bus__hasher_cancel(&waiting->job);
	_exit(done(running) + done(waiting) == before ? 0 : 3);
}

START_TEST(a_child_has_its_own_thread_and_no_job_of_its_parent)
{
	static struct ask fillers[BUS__HASHES_MOST];
	struct ask known, running, waiting;
	int status;
	pid_t pid;

	prepare(&known, "known", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&known.job), 0);
	ck_eventually(done(&known) == 1);
	bus__hasher_remember(&known.job);
	begin_long(&running, fillers);
	for (int i = 0; i < BUS__HASHES_MOST; i++)
		bus__hasher_cancel(&fillers[i].job);
	prepare(&waiting, "waiting", TEST_ITERATIONS);
	ck_bus(bus__hasher_ask(&waiting.job), 0);
	pid = fork(); /* bus_test_fork() would wait for the thread, which allocates nothing */
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		work_in_child(&running, &waiting);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	bus__hasher_cancel(&running.job);
	ck_eventually(done(&waiting) == 1);
	check_keys(&waiting);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("hasher");

	BUS_TEST_CASE(suite, "answers", keys_are_made_on_another_thread_which_then_ends,
	    keys_that_a_peer_proved_are_known_at_once, remembered_keys_are_bounded,
	    a_job_without_a_password_or_a_salt_is_refused);
	BUS_TEST_CASE(suite, "cancels", a_cancelled_job_is_not_called,
	    a_full_queue_refuses_and_takes_one_after_a_cancel,
	    threads_that_ask_and_cancel_at_once_do_not_disturb_each_other);
	BUS_TEST_CASE(suite, "forks", a_child_has_its_own_thread_and_no_job_of_its_parent);
	return suite;
}
