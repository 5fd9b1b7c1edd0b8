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

/* What a peer brings. */
struct brought {
	struct bus_mailbox *by;           /* the peer's */
	const struct bus__passed *passed; /* NULL: it does not go on to other peers */
};

/* A publish, besides its message: what its caller has and what it leaves to him. */
struct attempt {
	bool from_peer;           /* or the bus's own: not for peers */
	struct bus__offer *offer; /* a peer's value; NULL: it is none */
	struct bus__pool **pool;  /* for large payloads, made when it is first needed; NULL: none */
	struct bus_mailbox *full; /* because of which it was refused */
	struct bus_mailbox *owed; /* to be drained when nothing is held any more */
	bool unheard;             /* so often that it is time for a warning */
	bool is_older;            /* than what is kept: so it was not */
	uint32_t takers;          /* mailboxes that were to get a question */
	const struct brought *brought; /* by a peer; NULL: not */
	struct bus *held; /* by name: counted, where more is to be done behind the stripe */
};

/* Makes an empty block. NULL: out of memory. */
struct bus__block *bus__attempt_block(struct bus__pool **pool, size_t len);

/* Publishes a message that is kept: it is stored and put into all mailboxes under the keep lock, so that a subscription that
 * begins meanwhile sees it exactly once. The caller holds a stripe. 0, ATTEMPT_SWEPT: the topic was swept meanwhile,
 * BUS_E_FULL, BUS_E_NOMEM. */
#define ATTEMPT_SWEPT 1
int bus__attempt_kept(
    struct bus *bus, struct topic *topic, struct ring_item *item, struct attempt *attempt);

/* All other publishes, with routes that stay meanwhile. A block that the item comes with stays the caller's. 0, BUS_E_NOMEM,
 * BUS_E_FULL. */
int bus__attempt_plain(
    const struct snapshot *routes, struct ring_item *item, struct attempt *attempt);

/* What a publish does last, when nothing is held any more. */
void bus__attempt_end(struct bus *bus, const char *topic, const struct attempt *attempt);

/* Whether the message is to be kept; a question is not, since it is over soon. The answer may change meanwhile, so it is asked for once. */
static inline bool
bus__is_kept(const struct topic *topic, const struct ring_item *item)
{
	return (item->flags & RING_RETAIN) || (bus__keeps(topic) && !(item->flags & RING_REPLY));
}

/* Nobody is there to get it, which is no error, unless all routes were taken away by the end of the bus. */
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
