#include "machine.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static cpu_set_t allowed; /* as the process began */
static pthread_once_t read_once = PTHREAD_ONCE_INIT;

void
bench_die(const char *what)
{
	fprintf(stderr, "bench: %s failed\n", what);
	exit(1);
}

int64_t
bench_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void
read_allowed(void)
{
	if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
		bench_die("sched_getaffinity");
}

unsigned
bench_cpus(void)
{
	pthread_once(&read_once, read_allowed);
	return (unsigned)CPU_COUNT(&allowed);
}

static int
nth_cpu(unsigned nth)
{
	unsigned seen = 0, wanted = nth % bench_cpus();

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && seen++ == wanted)
			return cpu;
	bench_die("finding a CPU");
}

static void
run_on(const cpu_set_t *cpus)
{
	if (pthread_setaffinity_np(pthread_self(), sizeof *cpus, cpus) != 0)
		bench_die("pthread_setaffinity_np");
}

void
bench_pin(unsigned nth)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(nth_cpu(nth), &one);
	run_on(&one);
}

void
bench_unpin(void)
{
	pthread_once(&read_once, read_allowed);
	run_on(&allowed);
}

void
bench_avoid(unsigned nth)
{
	cpu_set_t others;
	int cpu = nth_cpu(nth);

	others = allowed;
	if (bench_cpus() > 1)
		CPU_CLR(cpu, &others);
	run_on(&others);
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double
bench_median(double *values, unsigned count)
{
	qsort(values, count, sizeof *values, compare);
	return values[count / 2];
}

static struct {
	_Alignas(128) _Atomic uint32_t there;
	_Alignas(128) _Atomic uint32_t back;
} lines;

static void
await_word(_Atomic uint32_t *word, uint32_t wanted)
{
	for (unsigned spins = 1; atomic_load_explicit(word, memory_order_acquire) != wanted;
	     spins++)
		if (spins % (1u << 20) == 0)
			sched_yield(); /* both on one CPU */
}

static void *
answer_words(void *arg)
{
	uint32_t trips = *(uint32_t *)arg;

	bench_pin(1);
	for (uint32_t i = 1; i <= trips; i++) {
		await_word(&lines.there, i);
		atomic_store_explicit(&lines.back, i, memory_order_release);
	}
	return NULL;
}

double
bench_line_rtt_ns(unsigned runs)
{
	double *values = calloc(runs, sizeof *values), median;
	uint32_t trips = runs * BENCH_TRIPS, i = 1;
	pthread_t thread;

	if (values == NULL)
		bench_die("calloc");
	atomic_store(&lines.there, 0);
	atomic_store(&lines.back, 0);
	if (pthread_create(&thread, NULL, answer_words, &trips) != 0)
		bench_die("pthread_create");
	bench_pin(0);
	for (unsigned run = 0; run < runs; run++) {
		int64_t begun = bench_now_ns();

		for (unsigned trip = 0; trip < BENCH_TRIPS; trip++, i++) {
			atomic_store_explicit(&lines.there, i, memory_order_release);
			await_word(&lines.back, i);
		}
		values[run] = (double)(bench_now_ns() - begun) / BENCH_TRIPS;
	}
	pthread_join(thread, NULL);
	bench_unpin();
	median = bench_median(values, runs);
	free(values);
	return median;
}
