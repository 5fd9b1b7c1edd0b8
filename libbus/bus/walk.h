/* bus/walk.h: sends a peer the values of the topics that it wants: all of them when its connection begins, those of a
 * new filter, and again what it may have missed when its mailbox lost something.
 *
 * A walk looks at all topics, some at a time, and gives those whose value the peer has not been sent in this connection; then
 * those with the mark of a deletion, of which there may be as many as a peer can name topics. It
 * begins when what waited in the mailbox has been taken out, and leaves to the mailbox what changed since it was begun: so
 * a value and the messages behind it come in their order, and what a peer was sent by a walk came by no message that it gets
 * later. Link thread. */
#ifndef BUS_BUS_WALK_H
#define BUS_BUS_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "base/offer.h"
#include "bus/keep.h"
#include "bus/peer.h"
#include "bus/topic.h"
#include "log/log.h"

struct bus__walk {
	bool begun;     /* in this connection */
	bool on, again; /* and once more when it is through */
	bool marks;     /* it has come to those */
	bool initial;   /* the one that the connection begins with */
	bool
	    skipped; /* it left out some that another peer changed since it began: no message brings those */
	/* Where the bus's changes, or its log's tail, were when that began; and the sequence of the next record there. */
	uint64_t since, since_sequence;
	uint64_t key;  /* of this connection: routes note what was told in it */
	uint64_t lost; /* what the mailbox had lost when it began */
	/* Where the mailbox, and the bus's changes, were when it began. */
	uint64_t behind, before;
	struct topic_place place;  /* the next topic */
	struct log_walk values;    /* the same in a log */
	struct bus__version after; /* of the topic that it is at, this one was told */
	struct bus__block *block;  /* of the message that was given, or NULL */
	struct bus_msg msg;
};

/* Where the values lie: in the topics of a private bus (walk.c), or in the log of a named one (walk_log.c). */
struct walker {
	unsigned looks; /* in one go */

	/* A connection begins: notes what is older than it, in `since`. No lock held. */
	void (*begin)(struct bus_mailbox *m);

	/* Where ends what the mailbox has to be handed before a walk that begins now goes on; and whether it was. The latter ends
	 * the walk of a peer that wants nothing. */
	uint64_t (*end)(const struct bus_mailbox *m);
	bool (*is_reached)(struct bus_mailbox *m);

	/* Gives the next value, after at most *left looks, which are taken from it. false: it has come to the end, or *left is 0.
	 * Bus lock. */
	bool (*look)(struct bus_mailbox *m, unsigned *left, struct bus__out *ret_out);

	/* Whether a message is the first that the peer is sent of a value from before its subscription: the value changed before
	 * the walk came there. Then the message stands for it. */
	bool (*owes)(const struct bus_mailbox *m, const struct route *route,
	    const struct bus__version *version);
};

extern const struct walker bus__walk_topics, bus__walk_log;

/* Makes a message of a value. false: its life is over. */
bool bus__walk_give(struct bus_mailbox *m, const struct topic *topic,
    const struct bus__value *value, struct bus__out *ret_out);

/* Whether a value was changed here: it comes to the peer through its mailbox. */
bool bus__walk_is_own(const struct bus *bus, const struct bus__version *version);

/* Whether the record of that sequence was published before the connection began. */
bool bus__walk_is_before(const struct bus__walk *walk, uint64_t sequence);

/* Where the bus's changes, or its log's tail, were when the connection began. */
static inline uint64_t
bus__walk_since(const struct bus__walk *walk)
{
	return walk->since;
}

/* Whether the peer was sent that version already. */
bool bus__walk_has_told(
    const struct bus__walk *walk, const struct route *route, const struct bus__version *version);

/* Notes that the peer was sent a version of the topic's value. */
void bus__walk_note(
    const struct bus__walk *walk, struct route *route, const struct bus__version *version);

#endif
