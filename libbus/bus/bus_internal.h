/* bus/bus_internal.h: the bus itself. */
#ifndef BUS_BUS_BUS_INTERNAL_H
#define BUS_BUS_BUS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <libbus/bus.h>

#include "base/fork.h"
#include "bus/keep.h"
#include "bus/kind.h"
#include "bus/request.h"
#include "bus/topic.h"
#include "topic/trie.h"
#include "log/log.h"

#define STRIPES    16 /* publishers by name at once without looking for a free one */
#define KEEP_LOCKS 16
#define NEVER      UINT32_MAX /* no process has forked that often */

struct stripe {
	_Alignas(RING_LINE) _Atomic uint32_t busy;
	struct bus__pool *pool; /* for large payloads of whoever holds it; NULL: not needed yet */
};

struct bus__link_hooks;

struct bus {
	/* Read by every publish, written never or once. */
	uint32_t fork_generation;
	_Atomic uint32_t open_in; /* the same while it is open; then NEVER */
	uint32_t max_topics, max_payload;
	_Atomic uint32_t watched; /* subscriptions to $bus/...: without one nothing is announced */
	const struct kind *kind;  /* kind.h */
	struct log *log;          /* of a named bus, else NULL, as the next */
	struct named *named;      /* named/state.h */
	uint64_t key[2];
	uint64_t epoch; /* of the log; 0: none */
	uint8_t id[16];
	struct topic_table topics;

	struct stripe stripes[STRIPES];
	pthread_mutex_t keep_locks[KEEP_LOCKS];
	struct marks marks;

	struct inbox inbox;

	_Atomic uint32_t refs;
	/* Routes that nothing lists any more, behind the frames that name them. */
	_Atomic uint32_t routes_waiting;
	_Atomic bool in_round; /* notice.c: somebody makes one */
	_Atomic int64_t next_round_ns;
	pthread_mutex_t lock; /* everything below */
	struct trie trie;
	uint64_t next_serial, next_order; /* of topics; of subscriptions */
	size_t look_hand;                 /* where the next round goes on */
	uint32_t last_mailbox;
	struct bus_mailbox *mailboxes, *default_mbox;
	struct bus_stats ended; /* counters of mailboxes that are gone */
	struct keep_filter *keep_filters;
	struct snapshot *garbage_snapshots;
	struct topic *garbage_topics;
	struct topic_slots *garbage_slots;
	bool held_up; /* a publisher was stopped while it reads: the garbage waits */
	struct bus_mailbox *unsettled; /* mailboxes with new laters */
	struct bus_mailbox *owed;      /* to be drained by whoever unlocks */
	void *links;
	struct bus__pool *links_pool; /* for large payloads that links brought: the link thread's */
	const struct bus__link_hooks *hooks;
	_Atomic uint64_t numbered; /* messages for peers that number them, on a private bus */
	/* Of a bus that is closed: the stripes that were not free yet, and the next one that is left behind. */
	uint32_t waiting;
	struct bus *next_left;
};

/* Relaxed: it only has to be another one each time. */
static inline uint64_t
bus__next_number(struct bus *bus)
{
	return atomic_fetch_add_explicit(&bus->numbered, 1, memory_order_relaxed) + 1;
}

/* bus__enter(bus) == 0, for a bus that is not NULL. */
static inline bool
bus__is_open(const struct bus *bus)
{
	return atomic_load_explicit(&bus->open_in, memory_order_acquire) == bus__fork_generation();
}

/* bus__unlock(), leaving what is due to whoever unlocks next: for a thread that may run no callback. */
void bus__unlock_only(struct bus *bus);

/* Takes and gives back a stripe, around reading topics and snapshots without a lock. */
struct stripe *bus__read_begin(struct bus *bus);
void bus__read_end(struct stripe *stripe);

/* In flush.c: waits for what peers' mailboxes and the links hold. 0, BUS_E_TIMEDOUT and what bus_flush() answers. */
int bus__flush_peers(struct bus *bus, int64_t deadline_ns);

/* The state of links; NULL: there was no link yet. It is set once: under the lock it is certain that this thread sees it whole. */
void *bus__links_of(struct bus *bus);

#endif
