/* bench/count.c: work that is counted and not timed: instructions by valgrind, system calls by strace.
 *
 *   bench_count MESSAGES CALLBACKS
 *
 * One thread publishes BURST messages, then drains as many, so that the drainer never finds the mailbox empty and
 * never sleeps. bench/bench.py counts what happens inside the functions below, for two numbers of messages: the
 * difference is what the messages cost, without opening and closing. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <libbus/bus.h>

#define PAYLOAD 64
#define BURST   64
#define WAIT_MS 1000

/* Not inlined, cloned or looked into: the tools find them by name. */
#define COUNTED __attribute__((noipa)) static

static uint64_t seen;

static void
on_message(void *arg, const struct bus_msg *msg)
{
	(void)arg;
	seen += *(const uint64_t *)msg->data;
}

static void
check(int err, const char *what)
{
	if (err >= 0)
		return;
	fprintf(stderr, "bench_count: %s: %s\n", what, bus_strerror(err));
	exit(1);
}

COUNTED void
publish_burst(struct bus_pub *pub, uint64_t *payload)
{
	for (unsigned i = 0; i < BURST; i++) {
		payload[0] = 1;
		check(bus_pub_send(pub, payload, PAYLOAD), "bus_pub_send");
	}
}

COUNTED void
deliver_burst(struct bus_mailbox *mailbox)
{
	check(bus_dispatch(mailbox, 0, BURST), "bus_dispatch");
}

int
main(int argc, char **argv)
{
	uint64_t payload[PAYLOAD / sizeof(uint64_t)] = {0}, bursts, callbacks;
	struct bus *bus;
	struct bus_mailbox *mailbox;
	struct bus_pub *pub;

	if (argc != 3) {
		fprintf(stderr, "usage: bench_count MESSAGES CALLBACKS\n");
		return 2;
	}
	bursts = strtoul(argv[1], NULL, 10) / BURST;
	callbacks = strtoul(argv[2], NULL, 10);
	check(bus_open(NULL, NULL, &bus), "bus_open");
	check(bus_mailbox_open(bus, NULL, &mailbox), "bus_mailbox_open");
	for (uint64_t i = 0; i < callbacks; i++)
		check(bus_mailbox_subscribe(mailbox, "bench", on_message, NULL, NULL),
		    "bus_mailbox_subscribe");
	check(bus_pub_open(bus, "bench", NULL, &pub), "bus_pub_open");
	for (uint64_t i = 0; i < bursts; i++) {
		publish_burst(pub, payload);
		deliver_burst(mailbox);
	}
	bus_pub_close(pub);
	bus_mailbox_close(mailbox);
	check(bus_close(bus, WAIT_MS), "bus_close");
	if (seen != bursts * BURST * callbacks) {
		fprintf(stderr, "bench_count: %llu messages came\n", (unsigned long long)seen);
		return 1;
	}
	return 0;
}
