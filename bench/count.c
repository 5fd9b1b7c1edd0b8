/* bench/count.c: work that is counted and not timed: instructions by valgrind, system calls by strace.
 *
 *   bench_count MESSAGES CALLBACKS BATCH [DIR]
 *
 * on a private bus, or on a named one whose log is in DIR.
 *
 * One thread publishes BURST messages, then drains as many, so that the drainer never finds the mailbox empty and
 * never sleeps. bench/bench.py counts what happens inside the calls of the library, for two numbers of messages:
 * the difference is what the messages cost, without opening and closing. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <libbus/bus.h>

#define PAYLOAD 64
#define BURST   64
#define WAIT_MS 1000

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

/* One call for each message, or for each batch of them. */
static void
publish_burst(struct bus_pub *pub, const uint64_t *payload, size_t batch)
{
	struct bus_slice items[BURST];

	for (size_t i = 0; i < BURST; i++)
		items[i] = (struct bus_slice){payload, PAYLOAD};
	for (size_t i = 0; i < BURST; i += batch)
		check(batch == 1 ? bus_pub_send(pub, payload, PAYLOAD)
				 : bus_pub_send_many(pub, &items[i], batch),
		    "publishing");
}

int
main(int argc, char **argv)
{
	const uint64_t payload[PAYLOAD / sizeof(uint64_t)] = {1};
	struct bus_config cfg = {.size = sizeof cfg};
	uint64_t bursts, callbacks;
	size_t batch;
	struct bus *bus;
	struct bus_mailbox *mailbox;
	struct bus_pub *pub;

	if (argc != 4 && argc != 5) {
		fprintf(stderr, "usage: bench_count MESSAGES CALLBACKS BATCH [DIR]\n");
		return 2;
	}
	bursts = strtoul(argv[1], NULL, 10) / BURST;
	callbacks = strtoul(argv[2], NULL, 10);
	batch = strtoul(argv[3], NULL, 10);
	check(batch == 0 || BURST % batch != 0 ? BUS_E_INVAL : 0, "BATCH");
	cfg.dir = argc == 5 ? argv[4] : NULL;
	check(bus_open(argc == 5 ? "bench" : NULL, &cfg, &bus), "bus_open");
	check(bus_mailbox_open(bus, NULL, &mailbox), "bus_mailbox_open");
	for (uint64_t i = 0; i < callbacks; i++)
		check(bus_mailbox_subscribe(mailbox, "bench", on_message, NULL, NULL),
		    "bus_mailbox_subscribe");
	check(bus_pub_open(bus, "bench", NULL, &pub), "bus_pub_open");
	for (uint64_t i = 0; i < bursts; i++) {
		publish_burst(pub, payload, batch);
		check(bus_dispatch(mailbox, 0, BURST), "bus_dispatch");
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
