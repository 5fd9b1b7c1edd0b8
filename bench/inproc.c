/* bench/inproc.c: one publisher thread, one receiving callback, 64 bytes, in one process; libbus beside a
 * queue of mutex and condition variable, and beside ZeroMQ inproc.
 *
 * Rounds are interleaved and the figure is the median of the ratios within a round, since the machine may be
 * shared: compare ratios, not messages per second. Every contender delivers every message; the publisher never
 * has more than half of libbus's bound in flight, for all of them alike. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <zmq.h>

#define PAYLOAD 64
#define WINDOW  1600 /* messages: half of 256 KiB in frames of 80 bytes */
#define ROUNDS  7

static _Atomic uint64_t received; /* by the contender that runs */

static double
now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void
die(const char *what)
{
	fprintf(stderr, "bench: %s failed\n", what);
	exit(1);
}

/* The restraint of the publisher: a look at the receiver's counter once in a while. */
static void
keep_window(uint64_t sent)
{
	while (sent - atomic_load_explicit(&received, memory_order_relaxed) >= WINDOW)
		sched_yield();
}

static void
await_all(uint64_t count)
{
	double deadline = now_s() + 60;

	while (atomic_load_explicit(&received, memory_order_acquire) < count) {
		if (now_s() > deadline)
			die("delivering every message");
		sched_yield();
	}
}

/* Publisher and receiver get a CPU each, or the scheduler's choice would be what is measured. */
static void
pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(
	    pthread_self(), sizeof set, &set); /* one CPU: it fails, and that is fine */
}

/* --- libbus --------------------------------------------------------------------------------------------- */

static void
count(void *arg, const struct bus_msg *msg)
{
	static _Thread_local bool pinned;

	(void)arg, (void)msg;
	if (!pinned)
		pin(1);
	pinned = true;
	atomic_store_explicit(&received, atomic_load_explicit(&received, memory_order_relaxed) + 1,
	    memory_order_release);
}

static double
run_libbus(uint64_t messages)
{
	char payload[PAYLOAD] = {0};
	struct bus_pub *pub;
	struct bus *bus;
	double begun;

	if (bus_open(NULL, NULL, &bus) < 0 || bus_subscribe(bus, "bench", count, NULL, NULL) < 0 ||
	    bus_pub_open(bus, "bench", NULL, &pub) < 0)
		die("opening libbus");
	begun = now_s();
	for (uint64_t i = 0; i < messages; i++) {
		if (i % 64 == 0)
			keep_window(i);
		if (bus_pub_send(pub, payload, sizeof payload) < 0)
			die("bus_pub_send");
	}
	await_all(messages);
	begun = now_s() - begun;
	bus_pub_close(pub);
	if (bus_close(bus, 1000) != 0)
		die("closing libbus with nothing left");
	return (double)messages / begun;
}

/* --- a queue as it is usually written ----------------------------------------------------------------- */

struct item {
	struct item *next;
	char payload[PAYLOAD];
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct item *first, **end;
	bool closed;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

static void *
drain_queue(void *arg)
{
	(void)arg;
	for (;;) {
		struct item *item;

		pthread_mutex_lock(&queue.lock);
		while (queue.first == NULL && !queue.closed)
			pthread_cond_wait(&queue.filled, &queue.lock);
		item = queue.first;
		if (item != NULL)
			queue.first = item->next;
		if (queue.first == NULL)
			queue.end = &queue.first;
		pthread_mutex_unlock(&queue.lock);
		if (item == NULL)
			return NULL;
		count(NULL, NULL);
		free(item);
	}
}

static double
run_mutex(uint64_t messages)
{
	char payload[PAYLOAD] = {0};
	pthread_t thread;
	double begun;

	queue.first = NULL;
	queue.end = &queue.first;
	queue.closed = false;
	if (pthread_create(&thread, NULL, drain_queue, NULL) != 0)
		die("pthread_create");
	begun = now_s();
	for (uint64_t i = 0; i < messages; i++) {
		struct item *item = malloc(sizeof *item);

		if (i % 64 == 0)
			keep_window(i);
		if (item == NULL)
			die("malloc");
		item->next = NULL;
		memcpy(item->payload, payload, sizeof payload);
		pthread_mutex_lock(&queue.lock);
		*queue.end = item;
		queue.end = &item->next;
		pthread_mutex_unlock(&queue.lock);
		pthread_cond_signal(&queue.filled);
	}
	await_all(messages);
	begun = now_s() - begun;
	pthread_mutex_lock(&queue.lock);
	queue.closed = true;
	pthread_mutex_unlock(&queue.lock);
	pthread_cond_signal(&queue.filled);
	pthread_join(thread, NULL);
	return (double)messages / begun;
}

/* --- ZeroMQ inproc ------------------------------------------------------------------------------------ */

static void *
drain_zmq(void *socket)
{
	char payload[PAYLOAD];

	while (zmq_recv(socket, payload, sizeof payload, 0) > 0)
		count(NULL, NULL);
	return NULL; /* the empty message at the end */
}

static double
run_zmq(uint64_t messages)
{
	char payload[PAYLOAD] = {0};
	void *context = zmq_ctx_new(), *in, *out;
	pthread_t thread;
	double begun;

	in = zmq_socket(context, ZMQ_PAIR);
	out = zmq_socket(context, ZMQ_PAIR);
	if (zmq_bind(in, "inproc://bench") != 0 || zmq_connect(out, "inproc://bench") != 0 ||
	    pthread_create(&thread, NULL, drain_zmq, in) != 0)
		die("opening ZeroMQ");
	begun = now_s();
	for (uint64_t i = 0; i < messages; i++) {
		if (i % 64 == 0)
			keep_window(i);
		if (zmq_send(out, payload, sizeof payload, 0) < 0)
			die("zmq_send");
	}
	await_all(messages);
	begun = now_s() - begun;
	zmq_send(out, "", 0, 0);
	pthread_join(thread, NULL);
	zmq_close(in);
	zmq_close(out);
	zmq_ctx_term(context);
	return (double)messages / begun;
}

/* --- the floor: a cache line there and back ----------------------------------------------------------- */

static _Alignas(64) _Atomic uint32_t ball;

static void *
return_ball(void *arg)
{
	(void)arg;
	pin(1);
	for (uint32_t seen = 0; seen != UINT32_MAX;) {
		seen = atomic_load_explicit(&ball, memory_order_acquire);
		if (seen % 2 == 1 && seen != UINT32_MAX)
			atomic_store_explicit(&ball, seen + 1, memory_order_release);
	}
	return NULL;
}

static double
line_rtt_ns(void)
{
	enum { TRIPS = 100000 };
	pthread_t thread;
	double begun;

	atomic_store(&ball, 0);
	if (pthread_create(&thread, NULL, return_ball, NULL) != 0)
		die("pthread_create");
	begun = now_s();
	for (uint32_t i = 0; i < TRIPS; i++) {
		double late = begun + 2;

		atomic_store_explicit(&ball, 2 * i + 1, memory_order_release);
		for (unsigned spins = 1;
		     atomic_load_explicit(&ball, memory_order_acquire) != 2 * i + 2; spins++)
			if (spins % 100000 == 0 && now_s() > late)
				sched_yield(); /* both on one CPU */
	}
	begun = now_s() - begun;
	atomic_store(&ball, UINT32_MAX);
	pthread_join(thread, NULL);
	return begun / TRIPS * 1e9;
}

/* --- rounds -------------------------------------------------------------------------------------------- */

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(const double *values)
{
	double sorted[ROUNDS];

	memcpy(sorted, values, sizeof sorted);
	qsort(sorted, ROUNDS, sizeof sorted[0], compare);
	return sorted[ROUNDS / 2];
}

static const struct peer {
	const char *name;
	double (*run)(uint64_t messages);
	uint64_t messages;
} peers[] = {
    {"mutex+condvar with malloc", run_mutex, 400000},
    {"ZeroMQ inproc", run_zmq, 400000},
};
#define PEERS (sizeof peers / sizeof peers[0])

static double
run(double (*contender)(uint64_t messages), uint64_t messages)
{
	atomic_store(&received, 0);
	return contender(messages);
}

int
main(int argc, char **argv)
{
	double ours[ROUNDS], line[ROUNDS], theirs[PEERS][ROUNDS], ratio[PEERS][ROUNDS];
	FILE *results = argc > 1 ? fopen(argv[1], "a") : NULL;

	if (argc > 1 && results == NULL) {
		perror(argv[1]);
		return 1;
	}
	pin(0);
	printf("1 publisher, 1 callback, %d bytes, in process; %d interleaved rounds\n", PAYLOAD,
	    ROUNDS);
	for (int r = 0; r < ROUNDS; r++) {
		line[r] = line_rtt_ns();
		ours[r] = run(run_libbus, 4000000);
		printf(
		    "  round %d: line %4.0f ns, libbus %5.2f M/s", r + 1, line[r], ours[r] / 1e6);
		for (size_t p = 0; p < PEERS; p++) {
			theirs[p][r] = run(peers[p].run, peers[p].messages);
			ratio[p][r] = ours[r] / theirs[p][r];
			printf(", %s %5.2f", peers[p].name, theirs[p][r] / 1e6);
		}
		printf("\n");
		fflush(stdout);
	}
	for (size_t p = 0; p < PEERS; p++) {
		printf("  libbus is %.1f times %s\n", median(ratio[p]), peers[p].name);
		if (results != NULL)
			fprintf(results,
			    "{\"case\":\"1 to 1\",\"payload\":%d,\"ours\":%.0f,\"peer\":%.0f,"
			    "\"peer_name\":\"%s\",\"ratio\":%.3f,\"bar\":null,\"sense\":\"at least\","
			    "\"unit\":\"messages/s\",\"rounds\":%d,\"line_rtt_ns\":%.0f}\n",
			    PAYLOAD, median(ours), median(theirs[p]), peers[p].name,
			    median(ratio[p]), ROUNDS, median(line));
	}
	if (results != NULL && fclose(results) != 0) {
		perror(argv[1]);
		return 1;
	}
	return 0;
}
