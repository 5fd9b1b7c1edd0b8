/* stress: very many operations in schedules that nobody chose, and accounts that must be exact after each round. */
#define _GNU_SOURCE
#include "stress.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "patience.h"

enum {
	PROGRESS_S = 10,  /* between two lines about a scenario that is under way */
	SLICE_US = 4000,  /* about what another program takes from a thread when it gets its CPU */
	TORMENT_US = 2000 /* between two signals, at most */
};

static const struct scenario *const tables[] = {
    ring_scenarios, policy_scenarios, account_scenarios, ending_scenarios, named_scenarios};
enum { TABLES = sizeof tables / sizeof tables[0] };

/* What is under way, for whoever tells of it. */
static const struct scenario *_Atomic running;
static _Atomic uint64_t running_operations, running_seed, running_all, done;

/* --- failure and progress ----------------------------------------------------------------------------------- */

static void
print_repeat(void)
{
	const struct scenario *s = running;

	if (s != NULL)
		fprintf(stderr, "again: stress --operations %" PRIu64 " --seed %" PRIu64 " %s\n",
		    running_operations, running_seed, s->name);
}

void
stress_fail(const char *file, int line, const char *claim, uint64_t left, uint64_t right)
{
	fflush(stdout);
	fprintf(stderr, "%s:%d: does not hold: %s", file, line, claim);
	if (left != right)
		fprintf(stderr, " (%" PRIu64 " and %" PRIu64 ")", left, right);
	fputc('\n', stderr);
	print_repeat();
	abort();
}

void
stress_did(uint64_t operations)
{
	atomic_fetch_add_explicit(&done, operations, memory_order_relaxed);
}

static void *
watch(void *arg)
{
	uint64_t seen = 0;

	(void)arg;
	for (int still = 0, s = 1;; s++) {
		uint64_t now = done;

		sleep(1);
		still = now == seen ? still + 1 : 0;
		seen = now;
		if (still == bus_test_patience()) {
			fprintf(stderr, "hangs: no operation for %d seconds\n", still);
			print_repeat();
			abort();
		}
		if (s % PROGRESS_S == 0)
			fprintf(stderr, "  %s: %" PRIu64 " of %" PRIu64 "\n", running->name, now,
			    running_all);
	}
}

/* --- chance, time, threads ---------------------------------------------------------------------------------- */

struct dice
dice_of(uint64_t seed, unsigned who)
{
	return (struct dice){seed * UINT64_C(0x9E3779B97F4A7C15) + who};
}

/* splitmix64 */
uint32_t
dice_below(struct dice *dice, uint32_t limit)
{
	uint64_t z = dice->state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return (uint32_t)(((z ^ z >> 31) >> 32) * limit >> 32);
}

static uint8_t noise[NOISE + 256];

static void
make_noise(void)
{
	struct dice dice = dice_of(0, 0);

	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (uint8_t)dice_below(&dice, 256);
}

const uint8_t *
stress_noise(uint64_t number)
{
	return noise + number % 256;
}

int
stress_patience_ms(void)
{
	return bus_test_patience() * 1000;
}

void
stress_nap(uint32_t us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000L}, NULL);
}

void
stress_stall(struct dice *dice)
{
	uint32_t roll = dice_below(dice, 256);

	if (roll == 0)
		stress_nap(SLICE_US);
	else if (roll < 16)
		stress_nap(dice_below(dice, 100));
	else if (roll < 64)
		sched_yield();
}

/* Whoever it meets stands still where it is. */
static void
hold_up(int number)
{
	static _Atomic uint32_t count;
	int error = errno;

	(void)number;
	stress_nap(atomic_fetch_add(&count, 1) % 16 == 0 ? SLICE_US : 50);
	errno = error;
}

static void *
torment(void *arg)
{
	struct crew *crew = arg;

	while (crew->ended < crew->count) {
		stress_nap(dice_below(&crew->dice, TORMENT_US));
		pthread_kill(crew->hands[dice_below(&crew->dice, crew->count)].thread, SIGUSR1);
	}
	return NULL;
}

static void *
work(void *arg)
{
	struct hand *hand = arg;
	void *result = hand->run(hand->arg);

	hand->crew->ended++;
	return result;
}

void
crew_start(struct crew *crew, uint64_t seed, unsigned count, void *(*run)(void *arg), void *args,
    size_t size)
{
	crew->count = count;
	crew->ended = 0;
	crew->dice = dice_of(seed, UINT32_MAX);
	for (unsigned i = 0; i < count; i++) {
		struct hand *hand = &crew->hands[i];

		*hand = (struct hand){.crew = crew, .run = run, .arg = (char *)args + i * size};
		must(pthread_create(&hand->thread, NULL, work, hand) == 0);
	}
	must(pthread_create(&crew->tormentor, NULL, torment, crew) == 0);
}

void
crew_join(struct crew *crew)
{
	/* The tormentor first: what is joined may not be sent a signal any more. */
	pthread_join(crew->tormentor, NULL);
	for (unsigned i = 0; i < crew->count; i++)
		pthread_join(crew->hands[i].thread, NULL);
}

/* --- scenarios ---------------------------------------------------------------------------------------------- */

struct choice {
	uint64_t operations, seed;
	char **names; /* none: all */
	int count;
};

static bool
is_chosen(const struct choice *choice, const struct scenario *s)
{
	for (int i = 0; i < choice->count; i++)
		if (strcmp(choice->names[i], s->name) == 0)
			return true;
	return choice->count == 0;
}

static const struct scenario *
next_scenario(const struct scenario *s)
{
	static unsigned table;

	if (s == NULL)
		table = 0;
	s = s == NULL ? tables[0] : s + 1;
	while (s->name == NULL && ++table < TABLES)
		s = tables[table];
	return table < TABLES ? s : NULL;
}

static void
run_scenario(const struct scenario *s, uint64_t operations, uint64_t seed)
{
	struct round all = {0};
	struct timespec begun, ended;
	double seconds;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	done = 0;
	running_all = operations;
	running = s;
	while (all.operations < operations) {
		uint64_t left = operations - all.operations;
		struct round round = {.operations = left < s->most ? left : s->most, .seed = seed};

		running_operations = round.operations;
		running_seed = seed++;
		s->run(s, &round);
		all.operations += round.operations;
		all.delivered += round.delivered;
		all.lost += round.lost;
		all.refused += round.refused;
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	seconds =
	    (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9;
	printf("%-21s %11" PRIu64 " %11" PRIu64 " %11" PRIu64 " %11" PRIu64 " %8.1f\n", s->name,
	    all.operations, all.delivered, all.lost, all.refused, seconds);
	fflush(stdout);
}

static void
run_chosen(const struct choice *choice)
{
	uint64_t shares = 0;

	for (const struct scenario *s = next_scenario(NULL); s != NULL; s = next_scenario(s))
		shares += is_chosen(choice, s) ? s->share : 0;
	printf("%-21s %11s %11s %11s %11s %8s   seed %" PRIu64 "\n", "scenario", "operations",
	    "delivered", "lost", "refused", "seconds", choice->seed);
	for (const struct scenario *s = next_scenario(NULL); s != NULL; s = next_scenario(s))
		if (is_chosen(choice, s))
			run_scenario(
			    s, (choice->operations * s->share + shares - 1) / shares, choice->seed);
}

/* --- the command -------------------------------------------------------------------------------------------- */

static void
print_help(void)
{
	puts(
	    "usage: stress [--operations N] [--seed N] [SCENARIO...]\n"
	    "\n"
	    "Lets many threads work on one ring or one bus, stops them at bad moments, and compares what\n"
	    "everybody saw: each publisher's messages come in order and whole, what is missing is what the\n"
	    "counters and `lost` of the messages say, and offered = delivered + lost + refused + pending.\n"
	    "Any difference ends the program with the line that repeats the round.\n"
	    "\n"
	    "  --operations N   publishes in all, split among the scenarios; 100,000 by default\n"
	    "  --seed N         what is done, and with which sizes; 1 by default. When it is done the\n"
	    "                   machine chooses: a failure may need several runs of the same seed to come back\n"
	    "\n"
	    "Columns: operations tried, by all threads; messages that a receiver got (each mailbox counts);\n"
	    "those that mailboxes lost and told; publishes that were refused; seconds.\n"
	    "\n"
	    "Scenarios:");
	for (const struct scenario *s = next_scenario(NULL); s != NULL; s = next_scenario(s))
		printf("  %-21s  %s\n", s->name, s->does);
}

static int
complain(const char *what)
{
	fprintf(stderr, "stress: %s; stress --help tells what there is\n", what);
	return 2;
}

static bool
read_number(const char *text, uint64_t *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static bool
is_scenario(const char *name)
{
	for (const struct scenario *s = next_scenario(NULL); s != NULL; s = next_scenario(s))
		if (strcmp(s->name, name) == 0)
			return true;
	return false;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"operations", required_argument, NULL, 'o'},
	    {"seed", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {0}};
	struct choice choice = {.operations = 100000, .seed = 1};
	pthread_t watchdog;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'h') {
			print_help();
			return 0;
		}
		if (option == '?' ||
		    !read_number(optarg, option == 'o' ? &choice.operations : &choice.seed))
			return complain("--operations and --seed take a number");
	}
	choice.names = argv + optind;
	choice.count = argc - optind;
	for (int i = 0; i < choice.count; i++)
		if (!is_scenario(choice.names[i]))
			return complain("there is no such scenario");
	if (choice.operations == 0 || choice.operations > UINT64_MAX / 1000)
		return complain("so many operations make no sense");
	make_noise();
	running = tables[0];
	must(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = hold_up, .sa_flags = SA_RESTART},
		 NULL) == 0);
	must(pthread_create(&watchdog, NULL, watch, NULL) == 0);
	run_chosen(&choice);
	return 0;
}
