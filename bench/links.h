/* bench/links.h: two ends of a link, in two processes or, for inproc, two threads of one. They share a page: the address,
 * the window that the sender keeps, and the clock.
 *
 * Nobody spins: a sender whose window is full sleeps until half of it has come. A sender that spins takes the CPU that threads of
 * the library need, on a machine of two. */
#ifndef BENCH_LINKS_H
#define BENCH_LINKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine.h"

#define LINKS_ROOM                                                                                 \
	(64 << 20) /* bytes of a mailbox: more than a window of the largest messages takes */

struct links_run {
	const char *scheme; /* "inproc", "ipc" or "tcp" */
	size_t payload;
	uint64_t count, window; /* messages */
	char place[64];         /* a directory of this run */
	char url[128];          /* of the receiver, from `ready` on */
	_Atomic uint32_t ready, go;
	_Alignas(128) _Atomic uint64_t came;
	_Alignas(
	    128) _Atomic uint32_t halves; /* of the window that came, by which the sender sleeps */
	int64_t begun_ns, ended_ns;
	double rtt_ns;
};

struct links_peer {
	void (*send)(struct links_run *run);
	void (*receive)(struct links_run *run); /* listens */
	void (*ping)(struct links_run *run);
	void (*pong)(struct links_run *run); /* listens; until it is killed */
};

extern const struct links_peer links_libbus, links_zmq;

/* The listening side is open, at run->url. */
void links_ready(struct links_run *run);

/* The sending side is connected: waits for the start, and reads the clock. */
void links_await_go(struct links_run *run);

/* Before message `sent` goes, and when all have gone. */
void links_keep_window(struct links_run *run, uint64_t sent);
void links_await_all(struct links_run *run);

/* One more message; true: all have come, and the clock was read. */
bool links_came(struct links_run *run);

/* Runs `trip` so often that the figure is good. */
void links_time_trips(struct links_run *run, void (*trip)(void *arg), void *arg);

#endif
