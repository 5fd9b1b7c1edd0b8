/* bench/names.c: what it costs to find a topic by its name, on a bus with 10,000 of them, beside locking and
 * unlocking a mutex that nobody else wants.
 *
 * Nobody subscribes, so a publish by name is finding the topic and nothing else but what a publish by handle does
 * too; the latter is taken off. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <libbus/bus.h>

#include "contest.h"
#include "machine.h"

#define TOPICS     10000
#define NAME_BYTES 48
#define WAIT_MS    10000

struct names {
	unsigned used; /* of the topics: a few hot ones, or all */
};

static const struct names hot = {16}, all = {TOPICS};

static struct bus *bus;
static struct bus_pub *pubs[TOPICS];
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

static double
by_name_ns(uint64_t count, unsigned used)
{
	int64_t begun = bench_now_ns();
	unsigned topic = 0;

	for (uint64_t i = 0; i < count; i++) {
		topic = next_topic(topic, used);
		check(bus_publish(bus, names[topic], &i, sizeof i), "bus_publish");
	}
	return (double)(bench_now_ns() - begun) / (double)count;
}

static double
by_handle_ns(uint64_t count, unsigned used)
{
	int64_t begun = bench_now_ns();
	unsigned topic = 0;

	for (uint64_t i = 0; i < count; i++) {
		topic = next_topic(topic, used);
		check(bus_pub_send(pubs[topic], &i, sizeof i), "bus_pub_send");
	}
	return (double)(bench_now_ns() - begun) / (double)count;
}

static struct sample
run_names(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct names *how = contest->how;
	struct sample sample;

	(void)entry;
	bench_pin(0);
	sample =
	    (struct sample){.value = by_name_ns(count, how->used) - by_handle_ns(count, how->used)};
	bench_unpin();
	return sample;
}

static struct sample
run_mutex(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int64_t begun;
	double took_ns;

	(void)contest, (void)entry;
	bench_pin(0);
	begun = bench_now_ns();
	for (uint64_t i = 0; i < count; i++) {
		pthread_mutex_lock(&lock);
		pthread_mutex_unlock(&lock);
	}
	took_ns = (double)(bench_now_ns() - begun);
	bench_unpin();
	return (struct sample){.value = took_ns / (double)count};
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
