/* bench/main.c: runs the contests that it is asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contest.h"
#include "machine.h"

static const struct {
	const struct contest *contests;
	const unsigned *count;
} tables[] = {
    {stream_contests, &stream_contest_count},
    {rtt_contests, &rtt_contest_count},
    {wake_contests, &wake_contest_count},
    {name_contests, &name_contest_count},
    {match_contests, &match_contest_count},
    {named_contests, &named_contest_count},
    {links_contests, &links_contest_count},
};

static bool
wanted(const char *group, char **asked, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(asked[i], group) == 0)
			return true;
	return count == 0;
}

static int
usage(void)
{
	fprintf(stderr,
	    "usage: bench_time [-n ROUNDS] [-t MILLISECONDS_OF_A_RUN] RESULTS [GROUP]...\n");
	return 2;
}

int
main(int argc, char **argv)
{
	struct effort effort = {.rounds = 11, .run_s = 0.25};
	int option;

	while ((option = getopt(argc, argv, "n:t:")) != -1) {
		if (option == 'n')
			effort.rounds = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 't')
			effort.run_s = strtod(optarg, NULL) / 1000;
		else
			return usage();
	}
	if (optind == argc || effort.rounds == 0 || effort.rounds > CONTEST_MOST_ROUNDS ||
	    effort.run_s <= 0)
		return usage();
	effort.results = fopen(argv[optind], "w");
	if (effort.results == NULL) {
		perror(argv[optind]);
		return 1;
	}
	optind++;
	for (unsigned t = 0; t < COUNT_OF(tables); t++)
		for (unsigned c = 0; c < *tables[t].count; c++)
			if (wanted(tables[t].contests[c].group, argv + optind, argc - optind))
				contest_run(&tables[t].contests[c], &effort);
	if (fclose(effort.results) != 0)
		bench_die("writing the results");
	return 0;
}
