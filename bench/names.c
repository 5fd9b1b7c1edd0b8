/* bench/names.c: what it costs to find a topic by its name, on a bus with 10,000 of them, beside locking and
 * unlocking a mutex that nobody else wants.
 *
 * Nobody subscribes, so a publish by name is checking it, finding the topic, and nothing else. The whole call counts:
 * what a handle's publish to nobody takes is not taken off, since that is no measure of either. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <libbus/bus.h>

#include "contest.h"
#include "machine.h"

#define TOPICS     10000
#define CHUNK      1000 /* operations between two looks at the clock */
#define NAME_BYTES 48
#define WAIT_MS    10000

struct names {
	unsigned used; /* of the topics: a few hot ones, or all */
};

static const struct names hot = {16}, all = {TOPICS};

static struct bus *bus;
static struct bus_pub *pubs[TOPICS]; /* they keep the topics */
static char names[TOPICS][NAME_BYTES];

static void
check(int err, const char *what)
{
	if (err < 0)
		bench_die(what);
}

static void
open_topics(const struct contest *contest)
{
	(void)contest;
	check(bus_open(NULL, NULL, &bus), "bus_open");
	for (unsigned i = 0; i < TOPICS; i++) {
		snprintf(names[i], sizeof names[i], "site/%u/device/%u/metric/%u", i % 10,
		    i / 10 % 100, i / 1000);
		check(bus_pub_open(bus, names[i], NULL, &pubs[i]), "bus_pub_open");
	}
}

static void
close_topics(const struct contest *contest)
{
	(void)contest;
	for (unsigned i = 0; i < TOPICS; i++)
		bus_pub_close(pubs[i]);
	check(bus_close(bus, WAIT_MS), "bus_close");
}

/* Goes through the topics in an order that no prefetcher knows. */
static unsigned
next_topic(unsigned topic, unsigned used)
{
	return (topic * 21 + 7) % used;
}

/* Nanoseconds for each of CHUNK operations. */
static double
by_name_ns(unsigned used)
{
	static unsigned topic; /* the next chunk goes on where this one ends */
	int64_t begun = bench_now_ns();

	for (unsigned i = 0; i < CHUNK; i++) {
		topic = next_topic(topic, used);
		check(bus_publish(bus, names[topic], &i, sizeof i), "bus_publish");
	}
	return (double)(bench_now_ns() - begun) / CHUNK;
}

static double
mutex_pair_ns(unsigned used)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int64_t begun = bench_now_ns();

	(void)used;
	for (unsigned i = 0; i < CHUNK; i++) {
		pthread_mutex_lock(&lock);
		pthread_mutex_unlock(&lock);
	}
	return (double)(bench_now_ns() - begun) / CHUNK;
}

/* The median of many chunks: whoever is interrupted shows in few of them. */
static struct sample
median_ns(double (*chunk)(unsigned used), unsigned used, uint64_t count)
{
	unsigned chunks = (unsigned)(count / CHUNK) + 1;
	double *values = calloc(chunks, sizeof *values);
	struct sample sample;

	if (values == NULL)
		bench_die("calloc");
	bench_pin(0);
	for (unsigned i = 0; i < chunks; i++)
		values[i] = chunk(used);
	bench_unpin();
	sample = (struct sample){.value = bench_median(values, chunks)};
	free(values);
	return sample;
}

static struct sample
run_names(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct names *how = contest->how;

	(void)entry;
	return median_ns(by_name_ns, how->used, count);
}

static struct sample
run_mutex(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	(void)contest, (void)entry;
	return median_ns(mutex_pair_ns, 0, count);
}

static const struct entry hot_entries[] = {
    {"libbus", run_names, NULL, 0, 0},
    {"mutex pair", run_mutex, NULL, 3, 2},
};
static const struct entry all_entries[] = {
    {"libbus", run_names, NULL, 0, 0},
    {"mutex pair", run_mutex, NULL, 0, 0},
};

#define NAMES(names, shape, table)                                                                 \
	{                                                                                          \
		.group = "names", .name = names, .payload = 8, .unit = "ns", .at_most = true,      \
		.how = &shape, .begin = open_topics, .end = close_topics, ENTRIES(table)           \
	}

const struct contest name_contests[] = {
    NAMES("finding 1 of 10,000 topics by name, 16 in use", hot, hot_entries),
    NAMES("finding 1 of 10,000 topics by name, all in use", all, all_entries),
};
const unsigned name_contest_count = COUNT_OF(name_contests);
