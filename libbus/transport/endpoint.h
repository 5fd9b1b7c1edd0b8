/* transport/endpoint.h: the parts of blocking.h: a registered transport, its endpoints and the threads that block on them. For the
 * files blocking*.c alone. */
#ifndef BUS_TRANSPORT_ENDPOINT_H
#define BUS_TRANSPORT_ENDPOINT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "transport/blocking.h"

enum {
	BLOCKING_LOOK_MS = 100,  /* between two checks whether the link has released a handle */
	BLOCKING_OPEN_MS = 5000, /* for a listen, and for a dial */
};

/* --- a registered transport (blocking.c) ------------------------------------------------------------------------------------ */

struct blocking {
	struct bus__added added;
	struct bus_transport given;
	char scheme[BUS__URL_SCHEME];

	/* Under the lock of the counts. */
	uint32_t unclosed;   /* endpoints that links released and that still have a call inside */
	uint32_t awaited;    /* those that a settle waits for: of this epoch */
	uint32_t epoch;      /* ends when a settle has waited in vain */
	uint32_t generation; /* the fork generation of the above */
	_Atomic uint32_t closed; /* futex: changes with awaited */
};

/* Counts an endpoint that the link released; returns the epoch, for the count of its end. */
uint32_t bus__blocking_count(struct blocking *kind);
void bus__blocking_uncount(struct blocking *kind, uint32_t epoch);

/* Whether too many endpoints still have a call inside: then the transport gets no new ones. */
bool bus__blocking_is_crowded(struct blocking *kind);

/* Waits until the calls of all released endpoints have returned. */
void bus__blocking_settle(const struct bus__transport *transport, int64_t deadline_ns);

/* A known error, or BUS_E_SYS: a program may return any number. */
int bus__blocking_judge(int err);

static inline struct blocking *
bus__blocking_kind(const struct bus__address *addr)
{
	return (struct blocking *)(uintptr_t)addr->transport;
}

/* --- endpoints (endpoint.c) ------------------------------------------------------------------------------------------------- */

enum { ENDPOINT_BELLS = 2 };

/* The common part of a listener, a connection and an attempt to dial. The link releases each once and does not wait. Its threads
 * notice that when their call returns; the last one closes the handle. So calls get the endpoint's memory, never the
 * link's. */
struct endpoint {
	union {
		struct bus__stream stream;
		struct bus__listener listener;
		struct bus__dialer dialer;
	} base;
	struct blocking *kind;
	void *handle;
	bool has_handle;
	size_t size; /* of all of it, in bus__pages() */

	pthread_mutex_t lock; /* guards the rest that threads share */
	unsigned threads;
	_Atomic bool let_go; /* relaxed: also read without the lock, between calls */
	_Atomic uint32_t bells[ENDPOINT_BELLS]; /* futexes, one per thread; a ring changes it */
	uint32_t epoch;                         /* of the counts, when the link released it */
};

struct endpoint *bus__endpoint_new(struct blocking *kind, size_t size);

/* Closes the handle. No thread is inside. */
void bus__endpoint_free(struct endpoint *endpoint);

static inline bool
bus__endpoint_is_let_go(const struct endpoint *endpoint)
{
	return atomic_load_explicit(&endpoint->let_go, memory_order_relaxed);
}

/* Wakes a thread. Lock held. */
void bus__endpoint_ring(struct endpoint *endpoint, unsigned bell);

/* Releases the endpoint for the link; it is freed when its calls have returned. Lock held, under which the caller has taken the ios
 * out: no thread touches them afterwards. */
void bus__endpoint_let_go(struct endpoint *endpoint);

int bus__endpoint_start(struct endpoint *endpoint, void *(*run)(void *arg));

/* Ends a thread of a released endpoint. */
void bus__endpoint_leave(struct endpoint *endpoint);

/* Sleeps until is_ready(), which runs under the lock. false: the link released the endpoint. */
bool bus__endpoint_await(
    struct endpoint *endpoint, unsigned bell, bool (*is_ready)(const struct endpoint *endpoint));

/* Whether to repeat a call that began at began_ns and returned err: it timed out, and the endpoint is not released. */
bool bus__endpoint_goes_on(struct endpoint *endpoint, unsigned bell, int64_t began_ns, int err);

/* --- the three kinds of endpoint (blocking_conn.c, blocking_listen.c, blocking_dial.c) -------------------------------------- */

/* Completes an accept or a dial. err 0: it has a handle, of which it makes a connection. */
void bus__blocking_bring(struct endpoint *endpoint, struct bus__io **at, int err, void *handle);

int bus__blocking_listen(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener);
int bus__blocking_dial(const struct bus__address *addr, const struct bus__terms *terms,
    struct bus__io *io, struct bus__dialer **ret_dialer);

#endif
