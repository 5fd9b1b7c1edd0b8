/* bench/named.h: messages between processes, on a bus with a name and on its peers.
 *
 * Each end is a process of its own, forked before any library has begun. They share a page of counters, by which
 * publishers keep their window and the clock is read at the last message. */
#ifndef BENCH_NAMED_H
#define BENCH_NAMED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine.h"

#define NAMED_RECEIVERS  4
#define NAMED_PUBLISHERS 2

struct named_end {
	_Alignas(128) _Atomic uint64_t calls; /* messages that came */
	_Atomic uint32_t ready;
	_Atomic int64_t ended_ns;
};

struct named_run {
	unsigned publishers, receivers;
	size_t payload;
	uint64_t count; /* messages of each publisher */
	unsigned batch; /* that go in one call; 1: one by one */
	uint64_t window;
	char place[64]; /* a directory of this run */
	_Atomic uint32_t go;
	_Atomic int64_t begun_ns;
	struct named_end ends[NAMED_RECEIVERS];
	struct named_end pings[2]; /* of a round trip: who has answered how often */
	double rtt_ns;
};

struct named_peer {
	const char *name;
	uint64_t window; /* messages in flight at most; 0: by bytes, as libbus */
	void (*publish)(struct named_run *run, unsigned publisher);
	void (*receive)(struct named_run *run, unsigned receiver);
	/* Two processes and one message there and back, again and again; asleep: each sleeps until it comes. */
	void (*ping)(struct named_run *run, bool asleep);
	void (*pong)(struct named_run *run, bool asleep);
};

extern const struct named_peer named_libbus, named_zmq, named_iceoryx;

/* A receiver has one more message; true: it has all. */
static inline bool
named_came(struct named_run *run, unsigned receiver, const void *data)
{
	struct named_end *end = &run->ends[receiver];
	uint64_t calls = atomic_load_explicit(&end->calls, memory_order_relaxed) + 1;

	if (*(const uint64_t *)data > run->count)
		bench_die("a message came out of nowhere");
	atomic_store_explicit(&end->calls, calls, memory_order_release);
	return calls == run->count * run->publishers;
}

/* Says that this end is open. A publisher waits here until all are. */
void named_ready(struct named_run *run, unsigned receiver);
void named_await_go(struct named_run *run);

/* Before message `sent` of a publisher goes: waits until the window has room. */
void named_keep_window(struct named_run *run, uint64_t sent);

/* Ping's part of the clock: runs `trip` so often that the figure is good. */
void named_time_trips(struct named_run *run, void (*trip)(void *arg), void *arg);

/* Whether the peer is installed and its daemon runs; iceoryx has one. */
bool named_iceoryx_start(void);
void named_iceoryx_stop(void);

#endif
