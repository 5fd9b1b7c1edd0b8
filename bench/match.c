/* bench/match.c: which filters want a topic that nobody has published before: the tree of filters beside trying
 * one filter after the other, and a million filters beside ten thousand.
 *
 * Of the filters 80 % are names without wildcards, the rest have one +, and 1 in 500 ends in #. Measured is the
 * core's own walk, without what else a new topic costs, hence the includes below the public headers. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_internal.h"

#include "contest.h"
#include "machine.h"

#define FEW        10000
#define MANY       1000000
#define NAME_BYTES 64
#define TOPICS     32768 /* distinct ones that are asked for */
#define WAIT_MS    10000

static struct bus *few, *many;
static char (*filters)[NAME_BYTES];
static char few_topics[TOPICS][NAME_BYTES], many_topics[TOPICS][NAME_BYTES];
static uint64_t matches;

static void
check(int err, const char *what)
{
	if (err < 0)
		bench_die(what);
}

/* The same numbers in every run. */
static uint32_t
next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33);
}

/* How many places a level of a topic has: twice as many topics as filters. */
struct scale {
	unsigned filters, sites, devices, metrics;
};

static const struct scale small = {FEW, 20, 50, 20}, big = {MANY, 100, 200, 100};

static void
make_topic(char *text, const struct scale *scale, uint64_t *state)
{
	unsigned site = next_random(state) % scale->sites,
		 device = next_random(state) % scale->devices,
		 metric = next_random(state) % scale->metrics;

	snprintf(text, NAME_BYTES, "site/%u/device/%u/metric/%u", site, device, metric);
}

static void
make_filter(char *text, const struct scale *scale, unsigned i, uint64_t *state)
{
	unsigned site = next_random(state) % scale->sites,
		 device = next_random(state) % scale->devices,
		 metric = next_random(state) % scale->metrics;

	if (i % 500 == 0)
		snprintf(text, NAME_BYTES, "site/%u/#", site);
	else if (i % 5 != 0)
		snprintf(text, NAME_BYTES, "site/%u/device/%u/metric/%u", site, device, metric);
	else if (i / 5 % 3 == 0)
		snprintf(text, NAME_BYTES, "site/+/device/%u/metric/%u", device, metric);
	else if (i / 5 % 3 == 1)
		snprintf(text, NAME_BYTES, "site/%u/device/+/metric/%u", site, metric);
	else
		snprintf(text, NAME_BYTES, "site/%u/device/%u/metric/+", site, device);
}

static struct bus *
open_bus(const struct scale *scale, char (*ret_filters)[NAME_BYTES])
{
	char filter[NAME_BYTES];
	uint64_t state = 1;
	struct bus_mailbox *mailbox;
	struct bus *bus;

	check(bus_open(NULL, NULL, &bus), "bus_open");
	check(bus_mailbox_open(bus, NULL, &mailbox), "bus_mailbox_open");
	for (unsigned i = 0; i < scale->filters; i++) {
		make_filter(filter, scale, i, &state);
		check(bus_mailbox_subscribe(mailbox, filter, NULL, NULL, NULL),
		    "bus_mailbox_subscribe");
		if (ret_filters != NULL)
			memcpy(ret_filters[i], filter, sizeof filter);
	}
	return bus;
}

static void
count_match(void *arg, struct node *filter)
{
	for (const struct bus_sub *sub = filter->subs; sub != NULL; sub = sub->next_at_node)
		++*(uint64_t *)arg;
}

static double
walk_ns(struct bus *bus, char (*topics)[NAME_BYTES], uint64_t count)
{
	int64_t begun;

	bench_pin(0);
	pthread_mutex_lock(&bus->lock);
	begun = bench_now_ns();
	for (uint64_t i = 0; i < count; i++)
		bus__trie_match_topic(&bus->trie, topics[i % TOPICS], count_match, &matches);
	begun = bench_now_ns() - begun;
	pthread_mutex_unlock(&bus->lock);
	bench_unpin();
	return (double)begun / (double)count;
}

/* Topics per second where more is better, nanoseconds for each where less is. */
static struct sample
in_unit(const struct contest *contest, double each_ns)
{
	return (struct sample){.value = contest->at_most ? each_ns : 1e9 / each_ns};
}

static struct sample
run_few(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	(void)entry;
	return in_unit(contest, walk_ns(few, few_topics, count));
}

static struct sample
run_many(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	(void)entry;
	return in_unit(contest, walk_ns(many, many_topics, count));
}

/* One filter against one topic, level by level, without looking ahead. */
static bool
filter_wants(const char *filter, const char *topic)
{
	for (;; filter++, topic++) {
		if (*filter == '#')
			return true;
		if (*filter == '+') {
			topic += strcspn(topic, "/");
			filter++;
		}
		if (*filter != *topic)
			return *topic == '\0' && strcmp(filter, "/#") == 0;
		if (*topic == '\0')
			return true;
	}
}

static struct sample
run_scan(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	int64_t begun;

	(void)entry;
	bench_pin(0);
	begun = bench_now_ns();
	for (uint64_t i = 0; i < count; i++)
		for (unsigned f = 0; f < FEW; f++)
			matches += filter_wants(filters[f], few_topics[i % TOPICS]);
	begun = bench_now_ns() - begun;
	bench_unpin();
	return in_unit(contest, (double)begun / (double)count);
}

/* The same found by the tree and by the scan, or the figures compare nothing. */
static void
check_matches(void)
{
	const struct contest none = {0};
	const struct entry nobody = {0};
	uint64_t by_tree, by_scan;

	matches = 0;
	run_few(&none, &nobody, 64);
	by_tree = matches;
	matches = 0;
	run_scan(&none, &nobody, 64);
	by_scan = matches;
	check(by_tree == by_scan && by_tree > 0 ? 0 : -1, "matching alike");
}

static void
open_few(const struct contest *contest)
{
	uint64_t state = 2;

	(void)contest;
	filters = calloc(FEW, sizeof *filters);
	check(filters == NULL ? -1 : 0, "calloc");
	few = open_bus(&small, filters);
	for (unsigned i = 0; i < TOPICS; i++)
		make_topic(few_topics[i], &small, &state);
	check_matches();
}

static void
open_both(const struct contest *contest)
{
	uint64_t state = 3;

	open_few(contest);
	many = open_bus(&big, NULL);
	for (unsigned i = 0; i < TOPICS; i++)
		make_topic(many_topics[i], &big, &state);
}

static void
close_both(const struct contest *contest)
{
	(void)contest;
	check(bus_close(few, 0), "bus_close");
	if (many != NULL)
		check(bus_close(many, 0), "bus_close");
	few = many = NULL;
	free(filters);
}

static const struct entry scan_entries[] = {
    {"libbus", run_few, NULL, 0, 0},
    {"linear scan", run_scan, NULL, 200, 0},
};
static const struct entry many_entries[] = {
    {"libbus", run_many, NULL, 0, 0},
    {"libbus, 10,000 filters", run_few, NULL, 15, 0},
};

const struct contest match_contests[] = {
    {
	.group = "match",
	.name = "matching a new topic, 10,000 filters",
	.unit = "topics/s",
	.begin = open_few,
	.end = close_both,
	ENTRIES(scan_entries),
    },
    {
	.group = "match",
	.name = "matching a new topic, 1,000,000 filters",
	.unit = "ns",
	.at_most = true,
	.begin = open_both,
	.end = close_both,
	ENTRIES(many_entries),
    },
};
const unsigned match_contest_count = COUNT_OF(match_contests);
