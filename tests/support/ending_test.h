/* support/ending_test.h: what ending and forking tests share. */
#ifndef ENDING_TEST_H
#define ENDING_TEST_H

#include "link_test.h"

#include <libbus/bus.h>
#include <libbus/transport.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { ROUNDS = 40, FORKS = 2, FORK_TRAFFIC = false };
#else
enum { ROUNDS = 200, FORKS = 100, FORK_TRAFFIC = true };
#endif

static inline struct bus_pub *
open_pub(struct bus *bus, const char *topic, int wait_ms)
{
	const struct bus_pub_config cfg = {.size = sizeof cfg, .wait_ms = wait_ms};
	struct bus_pub *pub;

	ck_bus(bus_pub_open(bus, topic, &cfg, &pub), 0);
	return pub;
}

static inline int
retain(struct bus *bus, const char *topic)
{
	return bus_publish_msg(bus, &(struct bus_msg){.size = sizeof(struct bus_msg),
					.topic = topic,
					.data = "x",
					.len = 1,
					.flags = BUS_MSG_RETAIN});
}

/* Takes a lock, waits for all publishers under way, and frees what they used. */
static inline void
go_on(struct bus *bus)
{
	struct bus_sub *sub;
	_Atomic unsigned calls = 0;

	ck_bus(bus_subscribe(bus, "other/+", count_message, &calls, &sub), 0);
	ck_bus(retain(bus, "other/kept"), 0);
	ck_bus(bus_publish(bus, "other/new", "x", 1), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	bus_unsubscribe(sub, NULL);
	ck_assert_uint_ge(calls, 2);
}

struct storm {
	struct bus *bus;
	struct bus_pub *pub;
	_Atomic unsigned accepted, drained;
	_Atomic bool stop;
};

static const char large[5000];

/* In a frame of its own: a cancellation unwinds the caller's frame, and what gcc 12 had poisoned there for AddressSanitizer stays so. */
static __attribute__((noinline)) void
publish_in_every_way(struct storm *s)
{
	s->accepted += bus_publish(s->bus, "t", "x", 1) == 0;
	s->accepted += bus_publish(s->bus, "t", large, sizeof large) == 0;
	s->accepted += retain(s->bus, "t") == 0;
	s->accepted += bus_pub_send(s->pub, "x", 1) == 0;
	s->accepted += bus_pub_send(s->pub, large, sizeof large) == 0;
}

static inline void *
publish_until_told(void *arg)
{
	struct storm *s = arg;

	while (!s->stop)
		publish_in_every_way(s);
	return NULL;
}

#endif
