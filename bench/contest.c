#include "contest.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

#define LINE_RUNS  2000
#define WATCHDOG_S 60

struct figures {
	struct sample sample[CONTEST_MOST_ENTRIES][CONTEST_MOST_ROUNDS];
	double line_rtt_ns[CONTEST_MOST_ROUNDS];
};

struct spread {
	double median, least, most;
};

static struct spread
spread_of(const double *values, unsigned count)
{
	double sorted[CONTEST_MOST_ROUNDS];
	struct spread spread;

	memcpy(sorted, values, count * sizeof *values);
	spread.median = bench_median(sorted, count);
	spread.least = sorted[0];
	spread.most = sorted[count - 1];
	return spread;
}

/* A run that does not end has lost something: it says who, and ends the program. */
static const char *running;

static void
on_watchdog(int signal)
{
	static const char text[] = "\nbench: no end in sight: ";

	(void)signal;
	if (write(STDERR_FILENO, text, sizeof text - 1) > 0 &&
	    write(STDERR_FILENO, running, strlen(running)) > 0)
		_exit(1);
	_exit(2);
}

static struct sample
run_entry(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	struct sample sample;

	running = entry->name;
	alarm(WATCHDOG_S);
	sample = entry->run(contest, entry, count);
	alarm(0);
	return sample;
}

/* How often a run has to do its task to take its time. */
static uint64_t
find_count(const struct contest *contest, const struct entry *entry, double run_s)
{
	uint64_t count = 256;

	if (contest->count != 0)
		return contest->count;
	for (;;) {
		int64_t begun = bench_now_ns();
		double took_s;

		run_entry(contest, entry, count);
		took_s = (double)(bench_now_ns() - begun) / 1e9;
		if (took_s >= run_s / 4)
			return (uint64_t)((double)count * run_s / took_s) + 1;
		count *= 4;
	}
}

static void
print_value(const char *name, const char *unit, double value)
{
	if (strcmp(unit, "messages/s") == 0)
		printf("  %s %.3g M/s", name, value / 1e6);
	else
		printf("  %s %.3g %s", name, value, unit);
}

static void
print_number(FILE *out, const char *key, double value)
{
	fprintf(out, ",\"%s\":%.6g", key, value);
}

static void
print_optional(FILE *out, const char *key, double value)
{
	if (value == 0)
		fprintf(out, ",\"%s\":null", key);
	else
		print_number(out, key, value);
}

static void
print_spread(FILE *out, const char *key, struct spread spread)
{
	fprintf(out, ",\"%s\":%.6g,\"%s_min\":%.6g,\"%s_max\":%.6g", key, spread.median, key,
	    spread.least, key, spread.most);
}

/* peer: 0 is libbus itself, where there is nobody to compare it with. */
static void
write_line(const struct contest *contest, const struct figures *figures, unsigned peer,
    const struct effort *effort)
{
	double ours[CONTEST_MOST_ROUNDS], theirs[CONTEST_MOST_ROUNDS], ratio[CONTEST_MOST_ROUNDS],
	    lost[CONTEST_MOST_ROUNDS];
	unsigned rounds = effort->rounds;
	FILE *out = effort->results;

	for (unsigned r = 0; r < rounds; r++) {
		ours[r] = figures->sample[0][r].value;
		theirs[r] = figures->sample[peer][r].value;
		ratio[r] = peer == 0 ? ours[r] : ours[r] / theirs[r];
		lost[r] = figures->sample[0][r].lost_share;
	}
	fprintf(out, "{\"group\":\"%s\",\"case\":\"%s\",\"payload\":%zu", contest->group,
	    contest->name, contest->payload);
	print_spread(out, "ours", spread_of(ours, rounds));
	if (peer == 0) {
		fprintf(out, ",\"peer\":null,\"peer_name\":null");
	} else {
		print_spread(out, "peer", spread_of(theirs, rounds));
		fprintf(out, ",\"peer_name\":\"%s\"", contest->entries[peer].name);
	}
	print_spread(out, "ratio", spread_of(ratio, rounds));
	print_optional(out, "bar", contest->entries[peer].bar);
	print_optional(out, "aim", contest->entries[peer].aim);
	fprintf(out, ",\"sense\":\"%s\",\"unit\":\"%s\",\"rounds\":%u",
	    contest->at_most ? "at most" : "at least", contest->unit, rounds);
	print_spread(out, "lost_share", spread_of(lost, rounds));
	print_spread(out, "line_rtt_ns", spread_of(figures->line_rtt_ns, rounds));
	fprintf(out, "}\n");
}

static void
run_round(
    const struct contest *contest, const uint64_t *counts, unsigned round, struct figures *figures)
{
	figures->line_rtt_ns[round] = bench_line_rtt_ns(LINE_RUNS);
	printf("  %2u: line %.0f ns", round + 1, figures->line_rtt_ns[round]);
	for (unsigned i = 0; i < contest->entry_count; i++) {
		/* Each round begins with another one, so that nobody always follows the same neighbour. */
		unsigned e = (i + round) % contest->entry_count;
		const struct entry *entry = &contest->entries[e];
		struct sample *sample = &figures->sample[e][round];

		*sample = run_entry(contest, entry, counts[e]);
		print_value(entry->name, contest->unit, sample->value);
		if (sample->lost_share > 0)
			printf(" (%.1f %% lost)", 100 * sample->lost_share);
		fflush(stdout);
	}
	printf("\n");
}

void
contest_run(const struct contest *contest, const struct effort *effort)
{
	uint64_t counts[CONTEST_MOST_ENTRIES];
	struct figures *figures = calloc(1, sizeof *figures);

	if (figures == NULL || contest->entry_count > CONTEST_MOST_ENTRIES ||
	    effort->rounds > CONTEST_MOST_ROUNDS)
		bench_die(contest->name);
	signal(SIGALRM, on_watchdog);
	printf("%s: %s, %zu bytes\n", contest->group, contest->name, contest->payload);
	fflush(stdout);
	if (contest->begin != NULL)
		contest->begin(contest);
	for (unsigned e = 0; e < contest->entry_count; e++)
		counts[e] = find_count(contest, &contest->entries[e], effort->run_s);
	for (unsigned r = 0; r < effort->rounds; r++)
		run_round(contest, counts, r, figures);
	if (contest->end != NULL)
		contest->end(contest);
	for (unsigned e = contest->entry_count > 1 ? 1 : 0; e < contest->entry_count; e++)
		write_line(contest, figures, e, effort);
	fflush(effort->results);
	free(figures);
}
