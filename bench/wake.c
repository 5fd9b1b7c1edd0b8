/* bench/wake.c: how long a sleeping receiver takes to see a message, beside a thread that sleeps on a futex. */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "contest.h"
#include "machine.h"

#define PAUSE_US                                                                                   \
	300 /* between messages: several times the longest spin of a drainer, so that it sleeps */
#define WAKES   400
#define WAIT_MS 10000

static void
check(long err, const char *what)
{
	if (err < 0)
		bench_die(what);
}

/* Written by the receiver; the sender looks only when it may. */
static _Atomic int64_t seen_ns;

/* Sends one message after another, each to a receiver that has had time to fall asleep. */
static double
median_wake_ns(uint64_t count, void (*send)(void *arg), void *arg)
{
	double *values = calloc(count, sizeof *values), median;

	if (values == NULL)
		bench_die("calloc");
	for (uint64_t i = 0; i < count; i++) {
		int64_t begun, seen;

		usleep(PAUSE_US);
		atomic_store(&seen_ns, 0);
		begun = bench_now_ns();
		send(arg);
		while ((seen = atomic_load(&seen_ns)) == 0)
			bench_relax(16);
		values[i] = (double)(seen - begun);
	}
	median = bench_median(values, (unsigned)count);
	free(values);
	return median;
}

/* --- libbus ------------------------------------------------------------------------------------------------- */

static void
on_message(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
	atomic_store(&seen_ns, bench_now_ns());
}

static void
on_place(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
	bench_pin(1);
}

static void
send_message(void *pub)
{
	static const char data[64];

	check(bus_pub_send(pub, data, sizeof data), "bus_pub_send");
}

static struct sample
run_libbus(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	struct bus *bus;
	struct bus_pub *pub;
	double median;

	(void)contest, (void)entry;
	check(bus_open(NULL, NULL, &bus), "bus_open");
	check(bus_subscribe(bus, "place", on_place, NULL, NULL), "bus_subscribe");
	check(bus_subscribe(bus, "bench", on_message, NULL, NULL), "bus_subscribe");
	check(bus_pub_open(bus, "bench", NULL, &pub), "bus_pub_open");
	check(bus_publish(bus, "place", NULL, 0), "bus_publish");
	check(bus_flush(bus, WAIT_MS), "bus_flush");
	bench_pin(0);
	median = median_wake_ns(count, send_message, pub);
	bench_unpin();
	bus_pub_close(pub);
	check(bus_close(bus, WAIT_MS), "bus_close");
	return (struct sample){.value = median};
}

/* --- a futex ------------------------------------------------------------------------------------------------ */

static _Atomic uint32_t word;

static void *
wait_for_word(void *arg)
{
	uint32_t last = (uint32_t) * (uint64_t *)arg;

	bench_pin(1);
	for (uint32_t seen = 0; seen != last; seen++) {
		while (atomic_load(&word) == seen)
			syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
		atomic_store(&seen_ns, bench_now_ns());
	}
	return NULL;
}

static void
change_word(void *arg)
{
	(void)arg;
	atomic_fetch_add(&word, 1);
	check(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), "futex");
}

static struct sample
run_futex(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	pthread_t thread;
	double median;

	(void)contest, (void)entry;
	atomic_store(&word, 0);
	if (pthread_create(&thread, NULL, wait_for_word, &count) != 0)
		bench_die("pthread_create");
	bench_pin(0);
	median = median_wake_ns(count, change_word, NULL);
	bench_unpin();
	pthread_join(thread, NULL);
	return (struct sample){.value = median};
}

static const struct entry entries[] = {
    {"libbus", run_libbus, NULL, 0, 0},
    {"futex", run_futex, NULL, 1.1, 0},
};

const struct contest wake_contests[] = {{
    .group = "wake",
    .name = "wake latency of a sleeping receiver",
    .payload = 64,
    .unit = "ns",
    .at_most = true,
    .count = WAKES,
    ENTRIES(entries),
}};
const unsigned wake_contest_count = COUNT_OF(wake_contests);
