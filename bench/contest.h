/* bench/contest.h: libbus and its peers at the same task, in rounds that take turns.
 *
 * Machines are shared and virtual CPUs move, so a speed alone says little. What counts is the ratio of two
 * figures of the same round, its median over the rounds, and how far the rounds lie apart. */
#ifndef BENCH_CONTEST_H
#define BENCH_CONTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct contest;

struct sample {
	double value;      /* in the contest's unit */
	double lost_share; /* of what was published; 0 where nothing may be lost */
};

/* One side of a contest. libbus comes first. */
struct entry {
	const char *name;
	/* Does the task `count` times. */
	struct sample (*run)(
	    const struct contest *contest, const struct entry *entry, uint64_t count);
	const void *who; /* for run */
	double bar,
	    aim; /* for the ratio of libbus to this one, without peers for libbus itself; 0: none */
};

struct contest {
	const char *group; /* what `./dev bench` can be asked for */
	const char *name;
	size_t payload; /* bytes */
	const char *unit;
	bool at_most;    /* less is better */
	uint64_t count;  /* how often a run does its task; 0: as often as fills its time */
	const void *how; /* for the runs: the shape of the task */
	void (*begin)(const struct contest *contest); /* both may be NULL */
	void (*end)(const struct contest *contest);
	const struct entry *entries;
	unsigned entry_count;
};

struct effort {
	unsigned rounds;
	double run_s; /* what one run should take */
	FILE *results;
};

#define CONTEST_MOST_ENTRIES 12
#define CONTEST_MOST_ROUNDS  99

/* Runs one contest, says on stdout how it goes, and writes a JSON line for each peer. */
void contest_run(const struct contest *contest, const struct effort *effort);

/* The contests of each file, for main.c. */
extern const struct contest stream_contests[], rtt_contests[], wake_contests[], name_contests[],
    match_contests[], named_contests[], links_contests[];
extern const unsigned stream_contest_count, rtt_contest_count, wake_contest_count,
    name_contest_count, match_contest_count, named_contest_count, links_contest_count;

#define COUNT_OF(array) ((unsigned)(sizeof(array) / sizeof(array)[0]))
#define ENTRIES(array)  .entries = (array), .entry_count = COUNT_OF(array)

#endif
