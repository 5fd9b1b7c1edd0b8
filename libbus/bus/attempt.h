/* bus/attempt.h: one publish into the mailboxes of this process, by name, by handle or from a peer. */
#ifndef BUS_BUS_ATTEMPT_H
#define BUS_BUS_ATTEMPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/offer.h"
#include "bus/bus_internal.h"
#include "bus/keep.h"
#include "bus/notice.h"
#include "mailbox/route.h"
#include "queue/block.h"
#include "queue/ring.h"

/* What a peer sent. */
struct brought {
	struct bus_mailbox *by;           /* the peer's */
	const struct bus__passed *passed; /* NULL: it does not go on to other peers */
};

/* A publish, besides its message: input from the caller, and work left to the caller. */
struct attempt {
	bool from_peer;                /* or the bus's own: not for peers */
	struct bus__offer *offer;      /* a peer's value; NULL: it is none */
	struct bus__pool **pool;       /* for large payloads, made at first use; NULL: none */
	struct bus_mailbox *full;      /* the mailbox that refused */
	struct bus_mailbox *owed;      /* to be drained when no lock or stripe is held */
	bool unheard;                  /* a warning about missing subscribers is due */
	bool is_older;                 /* than the kept value: the message was not kept */
	uint32_t takers;               /* mailboxes that the question was meant for */
	const struct brought *brought; /* from a peer; NULL: published here */
	struct bus *held; /* a reference, set by name if work remains after the stripe */
};

/* Makes an empty block. NULL: out of memory. */
struct bus__block *bus__attempt_block(struct bus__pool **pool, size_t len);

/* Publishes a message that is kept: stores it and puts it into all mailboxes under the keep lock, so that a concurrent new
 * subscription sees it exactly once. The caller holds a stripe. 0, ATTEMPT_SWEPT: the topic was swept in between,
 * BUS_E_FULL, BUS_E_NOMEM. */
#define ATTEMPT_SWEPT 1
int bus__attempt_kept(
    struct bus *bus, struct topic *topic, struct ring_item *item, struct attempt *attempt);

/* All other publishes. The caller keeps the routes alive. The item's block, if any, stays the caller's. 0, BUS_E_NOMEM,
 * BUS_E_FULL. */
int bus__attempt_plain(
    const struct snapshot *routes, struct ring_item *item, struct attempt *attempt);

/* The last step of a publish. The caller holds no lock and no stripe. */
void bus__attempt_end(struct bus *bus, const char *topic, const struct attempt *attempt);

/* Whether the message is to be kept. A question is not: it is over soon. Ask once per publish: the answer may change. */
static inline bool
bus__is_kept(const struct topic *topic, const struct ring_item *item)
{
	return (item->flags & RING_RETAIN) || (bus__keeps(topic) && !(item->flags & RING_REPLY));
}

/* A publish without receivers is no error, unless the end of the bus took all routes away. */
static inline int
bus__attempt_unheard(struct bus *bus, struct topic *topic, struct attempt *attempt)
{
	if (!attempt->from_peer)
		attempt->unheard = bus__count_unheard(bus, topic);
	return bus__enter(bus);
}

static inline void
bus__count_refused(struct bus_mailbox *full)
{
	atomic_fetch_add_explicit(&full->refused, 1, memory_order_relaxed);
}

#endif
