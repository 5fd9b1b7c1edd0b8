#include "named.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "contest.h"

#define LOG_HALF  (8u << 20) /* of the default log */
#define HEAD      24         /* bytes of a record beside its payload */
#define STEP      64         /* messages between two looks at the window */
#define PAUSES    64
#define PATIENT   50
#define WARM_UP   200
#define TRIPS     16
#define TRIP_RUNS 1000

/* --- the processes ---------------------------------------------------------------------------------------------- */

static void
give_way(unsigned *waited)
{
	if (++*waited > PATIENT)
		sched_yield();
	else
		bench_relax(PAUSES);
}

void
named_ready(struct named_run *run, unsigned receiver)
{
	atomic_store(&run->ends[receiver].ready, 1);
}

void
named_await_go(struct named_run *run)
{
	int64_t none = 0;

	atomic_fetch_add(&run->pings[0].ready, 1);
	while (atomic_load(&run->go) == 0)
		usleep(100);
	atomic_compare_exchange_strong(&run->begun_ns, &none, bench_now_ns());
}

/* What all publishers have sent and every receiver has. */
static uint64_t
least_calls(struct named_run *run)
{
	uint64_t least = UINT64_MAX;

	for (unsigned r = 0; r < run->receivers; r++) {
		uint64_t calls = atomic_load_explicit(&run->ends[r].calls, memory_order_acquire);

		if (calls < least)
			least = calls;
	}
	return least;
}

void
named_keep_window(struct named_run *run, uint64_t sent)
{
	unsigned waited = 0;

	if (sent == UINT64_MAX) {
		while (least_calls(run) < run->count * run->publishers)
			usleep(100);
		return;
	}
	/* Publishers go about as fast as each other. */
	if (sent % STEP < run->batch)
		while (sent * run->publishers + STEP > least_calls(run) + run->window)
			give_way(&waited);
}

void
named_time_trips(struct named_run *run, void (*trip)(void *arg), void *arg)
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
		bench_die("a process of the bench failed");
}

static struct named_run *
run_new(size_t payload)
{
	struct named_run *run =
	    mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (run == MAP_FAILED)
		bench_die("mmap");
	run->payload = payload;
	run->batch = 1;
	snprintf(run->place, sizeof run->place, "/dev/shm/libbus-bench-XXXXXX");
	if (mkdtemp(run->place) == NULL)
		bench_die("mkdtemp");
	return run;
}

static void
run_free(struct named_run *run)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", run->place);
	if (system(command) != 0)
		bench_die(command);
	munmap(run, sizeof *run);
}

/* --- streams ------------------------------------------------------------------------------------------------------ */

struct named_shape {
	unsigned publishers, receivers;
};

struct who {
	const struct named_peer *peer;
	unsigned batch;
};

static struct sample
run_stream(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct named_shape *shape = contest->how;
	const struct who *who = entry->who;
	struct named_run *run = run_new(contest->payload);
	pid_t children[NAMED_RECEIVERS + NAMED_PUBLISHERS];
	struct sample sample = {0};
	unsigned n = 0;
	int64_t ended_ns = 0;

	run->publishers = shape->publishers;
	run->receivers = shape->receivers;
	run->batch = who->batch;
	run->count = (count / shape->publishers / who->batch + 1) * who->batch;
	run->window =
	    who->peer->window != 0 ? who->peer->window : LOG_HALF / (contest->payload + HEAD);
	for (unsigned r = 0; r < run->receivers; r++, n++)
		if ((children[n] = start()) == 0) {
			who->peer->receive(run, r);
			_exit(0);
		}
	for (unsigned p = 0; p < run->publishers; p++, n++)
		if ((children[n] = start()) == 0) {
			who->peer->publish(run, p);
			_exit(0);
		}
	for (unsigned r = 0; r < run->receivers; r++)
		while (atomic_load(&run->ends[r].ready) == 0)
			usleep(100);
	while (atomic_load(&run->pings[0].ready) < run->publishers)
		usleep(100);
	usleep(20000); /* connections settle */
	atomic_store(&run->go, 1);
	for (unsigned i = 0; i < n; i++)
		finish(children[i]);
	for (unsigned r = 0; r < run->receivers; r++)
		if (atomic_load(&run->ends[r].ended_ns) > ended_ns)
			ended_ns = atomic_load(&run->ends[r].ended_ns);
	sample.value = (double)(run->count * run->publishers) /
		       ((double)(ended_ns - atomic_load(&run->begun_ns)) / 1e9);
	run_free(run);
	return sample;
}

/* --- there and back ----------------------------------------------------------------------------------------------- */

static struct sample
run_trips(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct named_peer *peer = ((const struct who *)entry->who)->peer;
	const bool *asleep = contest->how;
	struct named_run *run = run_new(contest->payload);
	struct sample sample;
	pid_t near_end, far_end;

	(void)count;
	if ((far_end = start()) == 0) {
		peer->pong(run, *asleep);
		_exit(0);
	}
	if ((near_end = start()) == 0) {
		peer->ping(run, *asleep);
		_exit(0);
	}
	while (atomic_load(&run->ends[0].ready) == 0 || atomic_load(&run->pings[0].ready) == 0)
		usleep(100);
	usleep(20000);
	atomic_store(&run->go, 1);
	finish(near_end);
	kill(far_end, SIGKILL);
	waitpid(far_end, NULL, 0);
	sample = (struct sample){.value = run->rtt_ns};
	run_free(run);
	return sample;
}

/* --- reading what nobody wants ---------------------------------------------------------------------------------- */

static void
check(int err, const char *what)
{
	if (err < 0)
		bench_die(what);
}

static void
on_message(void *arg, const struct bus_msg *msg)
{
	*(uint64_t *)arg += *(const uint8_t *)msg->data;
}

/* Nanoseconds a record of a mailbox with that filter, which goes through a log that is full already. */
static struct sample
run_reader(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .from = BUS_FROM_OLDEST};
	uint64_t sum = 0, records = LOG_HALF / (contest->payload + HEAD);
	struct named_run *run = run_new(contest->payload);
	const struct bus_config place = {.size = sizeof place, .dir = run->place};
	char *data = calloc(1, contest->payload);
	int64_t took_ns = 0;
	struct bus_pub *pub;
	struct bus *bus;

	check(data == NULL ? -1 : 0, "calloc");
	check(bus_open("bench", &place, &bus), "bus_open");
	check(bus_pub_open(bus, "bench/0", NULL, &pub), "bus_pub_open");
	for (uint64_t i = 0; i < records; i++)
		check(bus_pub_send(pub, data, contest->payload), "bus_pub_send");
	for (uint64_t i = 0; i < count; i++) {
		struct bus_mailbox *m;
		int64_t begun;

		check(bus_mailbox_open(bus, &cfg, &m), "bus_mailbox_open");
		check(bus_mailbox_subscribe(m, entry->who, on_message, &sum, NULL),
		    "bus_mailbox_subscribe");
		begun = bench_now_ns();
		while (bus_dispatch(m, 0, 0) > 0)
			;
		took_ns += bench_now_ns() - begun;
		bus_mailbox_close(m);
	}
	bus_pub_close(pub);
	bus_close(bus, 0);
	free(data);
	run_free(run);
	return (struct sample){.value = (double)took_ns / (double)(count * records)};
}

/* --- the contests ------------------------------------------------------------------------------------------------- */

/* What it takes to open processes is a large part of a short run: hence so many messages. */
static const struct who libbus = {&named_libbus, 1}, batches = {&named_libbus, 16},
			zmq = {&named_zmq, 1}, iceoryx = {&named_iceoryx, 1};
static const struct named_shape one_to_one = {1, 1}, one_to_four = {1, 4}, two_to_one = {2, 1};
static const bool awake = false, asleep = true;

static void
begin(const struct contest *contest)
{
	(void)contest;
	if (!named_iceoryx_start())
		bench_die("starting iox-roudi (apt-get install iceoryx)");
}

static void
end(const struct contest *contest)
{
	(void)contest;
	named_iceoryx_stop();
}

#define OURS                                                                                       \
	{                                                                                          \
		"libbus", run_stream, &libbus, 0, 0                                                \
	}
#define STREAMS(zmq_bar, iceoryx_bar)                                                              \
	{                                                                                          \
		OURS, {"ZeroMQ ipc", run_stream, &zmq, zmq_bar, 0},                                \
		{                                                                                  \
			"iceoryx polling", run_stream, &iceoryx, iceoryx_bar, 0                    \
		}                                                                                  \
	}

static const struct entry small[] = STREAMS(6, 15), middle[] = STREAMS(10, 15),
			  large[] = STREAMS(20, 6), four[] = STREAMS(7, 10);
static const struct entry two[] = {OURS, {"ZeroMQ ipc", run_stream, &zmq, 4, 0}};
static const struct entry batch_small[] = {{"libbus, batches of 16", run_stream, &batches, 0, 0},
    {"libbus, one by one", run_stream, &libbus, 3.5, 0}};
static const struct entry batch_middle[] = {{"libbus, batches of 16", run_stream, &batches, 0, 0},
    {"libbus, one by one", run_stream, &libbus, 3, 0}};
static const struct entry trips[] = {
    {"libbus", run_trips, &libbus, 0, 0}, {"iceoryx polling", run_trips, &iceoryx, 0.3, 0}};
static const struct entry sleeping[] = {
    {"libbus", run_trips, &libbus, 0, 0}, {"iceoryx waitset", run_trips, &iceoryx, 1.0, 0}};
static const struct entry unwanted_small[] = {
    {"passed over", run_reader, "other", 0, 0}, {"delivered in place", run_reader, "#", 1.0, 0}};
static const struct entry unwanted_large[] = {
    {"passed over", run_reader, "other", 0, 0}, {"delivered in place", run_reader, "#", 0.3, 0}};

#define STREAM(names, bytes, many, shape, table)                                                   \
	{                                                                                          \
		.group = "named", .name = names, .payload = bytes, .unit = "messages/s",           \
		.count = many, .how = &shape, .begin = begin, .end = end, ENTRIES(table)           \
	}
#define OWN(names, bytes, many, table)                                                             \
	{                                                                                          \
		.group = "named", .name = names, .payload = bytes, .unit = "messages/s",           \
		.count = many, .how = &one_to_one, ENTRIES(table)                                  \
	}
#define TRIP(names, how_, table)                                                                   \
	{                                                                                          \
		.group = "named", .name = names, .payload = 8, .unit = "ns", .at_most = true,      \
		.count = 1, .how = &how_, .begin = begin, .end = end, ENTRIES(table)               \
	}
#define READER(bytes, table)                                                                       \
	{                                                                                          \
		.group = "named", .name = "a record that nobody here wants", .payload = bytes,     \
		.unit = "ns", .at_most = true, .count = 10, ENTRIES(table)                         \
	}

const struct contest named_contests[] = {
    STREAM("1 to 1, 2 processes", 64, 1000000, one_to_one, small),
    STREAM("1 to 1, 2 processes", 256, 500000, one_to_one, middle),
    STREAM("1 to 1, 2 processes", 4096, 100000, one_to_one, large),
    STREAM("1 to 4, each reader, 5 processes", 256, 200000, one_to_four, four),
    OWN("batches of 16, 2 processes", 64, 2000000, batch_small),
    OWN("batches of 16, 2 processes", 256, 1000000, batch_middle),
    {.group = "named",
	.name = "2 writers to 1, 3 processes",
	.payload = 64,
	.unit = "messages/s",
	.count = 1000000,
	.how = &two_to_one,
	ENTRIES(two)},
    TRIP("round trip of 2 processes, awake", awake, trips),
    TRIP("round trip of 2 processes, asleep", asleep, sleeping),
    READER(64, unwanted_small),
    READER(4096, unwanted_large),
};
const unsigned named_contest_count = COUNT_OF(named_contests);
