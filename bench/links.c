#include "links.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contest.h"

#define WARM_UP   200
#define TRIPS     16
#define TRIP_RUNS 200
#define SETTLE_US 20000

/* --- the two ends ----------------------------------------------------------------------------------------------- */

/* Sleeps while a word has this value. */
static void
futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	while (atomic_load_explicit(word, memory_order_acquire) == value)
		if (syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0) < 0 &&
		    errno != EAGAIN && errno != EINTR)
			bench_die("futex");
}

static void
futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void
set(_Atomic uint32_t *word)
{
	atomic_store_explicit(word, 1, memory_order_release);
	futex_wake(word);
}

void
links_ready(struct links_run *run)
{
	set(&run->ready);
}

void
links_await_go(struct links_run *run)
{
	set(&run->go);
	usleep(SETTLE_US);
	run->begun_ns = bench_now_ns();
}

bool
links_came(struct links_run *run)
{
	uint64_t came = atomic_load_explicit(&run->came, memory_order_relaxed) + 1;

	atomic_store_explicit(&run->came, came, memory_order_release);
	if (came == run->count)
		run->ended_ns = bench_now_ns();
	if (came % (run->window / 2) == 0 || came == run->count) {
		atomic_fetch_add_explicit(&run->halves, 1, memory_order_release);
		futex_wake(&run->halves);
	}
	return came == run->count;
}

static void
await(struct links_run *run, uint64_t count)
{
	for (;;) {
		uint32_t halves = atomic_load_explicit(&run->halves, memory_order_acquire);

		if (atomic_load_explicit(&run->came, memory_order_acquire) >= count)
			return;
		futex_wait(&run->halves, halves);
	}
}

void
links_keep_window(struct links_run *run, uint64_t sent)
{
	if (sent % (run->window / 2) == 0 && sent >= run->window)
		await(run, sent - run->window / 2);
}

void
links_await_all(struct links_run *run)
{
	await(run, run->count);
}

void
links_time_trips(struct links_run *run, void (*trip)(void *arg), void *arg)
{
	static double values[TRIP_RUNS];

	for (unsigned i = 0; i < WARM_UP; i++)
		trip(arg);
	for (unsigned i = 0; i < TRIP_RUNS; i++) {
		int64_t begun = bench_now_ns();

		for (unsigned k = 0; k < TRIPS; k++)
			trip(arg);
		values[i] = (double)(bench_now_ns() - begun) / TRIPS;
	}
	run->rtt_ns = bench_median(values, TRIP_RUNS);
}

/* --- a run -------------------------------------------------------------------------------------------------------- */

struct shape {
	const char *scheme;
	uint64_t window;
};

static pid_t
start(void)
{
	pid_t child = fork();

	if (child < 0)
		bench_die("fork");
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

static void
finish(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		bench_die("an end of a link failed");
}

struct end {
	void (*main)(struct links_run *run);
	struct links_run *run;
};

static void *
run_end(void *arg)
{
	const struct end *end = arg;

	end->main(end->run);
	return NULL;
}

/* The far end listens; the near one begins when it does, and what it does ends the run. */
static void
run_ends(struct links_run *run, void (*near_main)(struct links_run *run),
    void (*far_main)(struct links_run *run), bool far_ends)
{
	struct end end = {far_main, run};
	pid_t far = 0, near;
	pthread_t thread;

	if (strcmp(run->scheme, "inproc") != 0 && (far = start()) == 0) {
		far_main(run);
		_exit(0);
	}
	if ((near = start()) == 0) {
		if (far == 0 && pthread_create(&thread, NULL, run_end, &end) != 0)
			bench_die("pthread_create");
		futex_wait(&run->ready, 0);
		near_main(run);
		_exit(0);
	}
	finish(near);
	if (far != 0 && !far_ends)
		kill(far, SIGKILL);
	if (far != 0)
		waitpid(far, NULL, 0);
}

static struct links_run *
run_new(const struct contest *contest)
{
	const struct shape *shape = contest->how;
	struct links_run *run =
	    mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (run == MAP_FAILED)
		bench_die("mmap");
	run->scheme = shape->scheme;
	run->window = shape->window;
	run->payload = contest->payload;
	snprintf(run->place, sizeof run->place, "/tmp/libbus-bench-XXXXXX");
	if (mkdtemp(run->place) == NULL)
		bench_die("mkdtemp");
	return run;
}

static void
run_free(struct links_run *run)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", run->place);
	if (system(command) != 0)
		bench_die(command);
	munmap(run, sizeof *run);
}

static struct sample
run_stream(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct links_peer *peer = entry->who;
	struct links_run *run = run_new(contest);
	struct sample sample;

	/* Whole halves of the window, so that the last message ends one. */
	run->count = (count / run->window + 1) * run->window;
	run_ends(run, peer->send, peer->receive, true);
	sample.value = (double)run->count / ((double)(run->ended_ns - run->begun_ns) / 1e9);
	sample.lost_share = 0; /* a run that loses something does not end */
	run_free(run);
	return sample;
}

static struct sample
run_trips(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct links_peer *peer = entry->who;
	struct links_run *run = run_new(contest);
	struct sample sample = {0};

	(void)count;
	run_ends(run, peer->ping, peer->pong, false);
	sample.value = run->rtt_ns;
	run_free(run);
	return sample;
}

/* --- the contests ------------------------------------------------------------------------------------------------- */

static const struct shape ipc = {"ipc", 10000}, tcp = {"tcp", 10000}, ipc_narrow = {"ipc", 100},
			  inproc = {"inproc", 3000};

#define SIDES(run, bar, aim)                                                                       \
	{                                                                                          \
		{"libbus", run, &links_libbus, 0, 0},                                              \
		{                                                                                  \
			"ZeroMQ", run, &links_zmq, bar, aim                                        \
		}                                                                                  \
	}

static const struct entry of_64[] = SIDES(run_stream, 2, 3), of_256[] = SIDES(run_stream, 1.5, 2.5),
			  of_1024[] = SIDES(run_stream, 1.2, 2.5),
			  of_4096[] = SIDES(run_stream, 1.5, 2),
			  narrow[] = SIDES(run_stream, 1, 1.3),
			  inside_64[] = SIDES(run_stream, 1.5, 0),
			  inside_256[] = SIDES(run_stream, 1, 0),
			  inside_1024[] = SIDES(run_stream, 0.8, 0),
			  trips[] = SIDES(run_trips, 1.2, 1);

#define STREAM(names, bytes, many, shape, table)                                                   \
	{                                                                                          \
		.group = "links", .name = names, .payload = bytes, .unit = "messages/s",           \
		.count = many, .how = &shape, ENTRIES(table)                                       \
	}
#define TRIP(names, shape)                                                                         \
	{                                                                                          \
		.group = "links", .name = names, .payload = 64, .unit = "ns", .at_most = true,     \
		.count = 1, .how = &shape, ENTRIES(trips)                                          \
	}

const struct contest links_contests[] = {
    STREAM("ipc link, window of 10,000", 64, 500000, ipc, of_64),
    STREAM("ipc link, window of 10,000", 256, 300000, ipc, of_256),
    STREAM("ipc link, window of 10,000", 1024, 150000, ipc, of_1024),
    STREAM("ipc link, window of 10,000", 4096, 50000, ipc, of_4096),
    STREAM("ipc link, window of 100", 64, 200000, ipc_narrow, narrow),
    STREAM("tcp link, window of 10,000", 64, 500000, tcp, of_64),
    STREAM("tcp link, window of 10,000", 256, 300000, tcp, of_256),
    STREAM("tcp link, window of 10,000", 1024, 150000, tcp, of_1024),
    STREAM("tcp link, window of 10,000", 4096, 50000, tcp, of_4096),
    STREAM("inproc link, window of 3,000", 64, 500000, inproc, inside_64),
    STREAM("inproc link, window of 3,000", 256, 300000, inproc, inside_256),
    STREAM("inproc link, window of 3,000", 1024, 150000, inproc, inside_1024),
    TRIP("round trip over an ipc link", ipc),
    TRIP("round trip over a tcp link", tcp),
};
const unsigned links_contest_count = COUNT_OF(links_contests);
