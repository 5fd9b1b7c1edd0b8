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
#define NEVER      UINT32_MAX /* more forks than a process can do */

struct stripe {
	_Alignas(RING_LINE) _Atomic uint32_t busy;
	struct bus__pool *pool; /* for large payloads of the stripe's holder; NULL: not made yet */
};

struct bus__link_hooks;

struct bus {
	/* Read by every publish, rarely or never written. */
	uint32_t fork_generation;
	_Atomic uint32_t open_in; /* fork_generation while the bus is open, then NEVER */
	uint32_t max_topics, max_payload;
	_Atomic uint32_t watched; /* subscriptions to $bus/...: without one there are no notices */
	const struct kind *kind;  /* kind.h */
	struct log *log;          /* of a named bus, else NULL; so is `named` */
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
	/* Unlisted routes that frames still name. */
	_Atomic uint32_t routes_waiting;
	_Atomic bool in_round; /* notice.c: a thread is in a round */
	_Atomic int64_t next_round_ns;
	pthread_mutex_t lock; /* everything below */
	struct trie trie;
	uint64_t next_serial, next_order; /* of topics; of subscriptions */
	size_t look_hand;                 /* where the next round continues */
	uint32_t last_mailbox;
	struct bus_mailbox *mailboxes, *default_mbox;
	struct bus_stats ended; /* counters of closed mailboxes */
	struct keep_filter *keep_filters;
	struct snapshot *garbage_snapshots;
	struct topic *garbage_topics;
	struct topic_slots *garbage_slots;
	bool held_up; /* a publisher was stopped while it reads: keep the garbage */
	struct bus_mailbox *unsettled; /* mailboxes with new laters */
	struct bus_mailbox *owed;      /* drained by the thread that unlocks next */
	void *links;
	struct bus__pool *links_pool; /* for large payloads from links: the link thread's */
	const struct bus__link_hooks *hooks;
	_Atomic uint64_t numbered; /* messages for peers that number them, on a private bus */
	/* Of a closed bus: the stripes that were still in use, and the next bus left behind. */
	uint32_t waiting;
	struct bus *next_left;
};

/* Relaxed: each call only needs a different number. */
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

/* bus__unlock(), but leaves deferred work to the next thread that unlocks: for a thread that may run no callback. */
void bus__unlock_only(struct bus *bus);

/* Takes and gives back a stripe, around reading topics and snapshots without a lock. */
struct stripe *bus__read_begin(struct bus *bus);
void bus__read_end(struct stripe *stripe);

/* In flush.c: waits for what peers' mailboxes and the links hold. 0, BUS_E_TIMEDOUT and what bus_flush() answers. */
int bus__flush_peers(struct bus *bus, int64_t deadline_ns);

/* The state of links; NULL: there was no link yet. It is set once. Only under the lock does the caller surely see it. */
void *bus__links_of(struct bus *bus);

#endif
