/* bus/walk.h: sends a peer the values of the topics that it wants: all of them when its connection begins, those of a
 * new filter, and, after its mailbox lost messages, those that it may have missed.
 *
 * A walk looks at all topics, a few at a time, and sends each value that this connection has not sent yet; then
 * the marks of deletions, of which there may be as many as a peer can name topics. It
 * begins after the messages that waited in the mailbox, and leaves changes made since its begin to the mailbox. So
 * a value and the messages after it keep their order, and no later message repeats a value that a walk sent. Link thread. */
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
	bool on, again; /* again: once more at its end */
	bool marks;     /* it has reached the marks of deletions */
	bool initial;   /* the walk at the begin of the connection */
	bool
	    skipped; /* it left out values that another peer changed since it began: no message brings those */
	/* The bus's changes, or its log's tail, at the begin of the connection; and the sequence of the next record there. */
	uint64_t since, since_sequence;
	uint64_t key;  /* of this connection: goes into the routes' notes */
	uint64_t lost; /* the mailbox's losses at the walk's begin */
	/* The end of the mailbox, and the bus's changes, at the walk's begin. */
	uint64_t behind, before;
	struct topic_place place;  /* the next topic */
	struct log_walk values;    /* the same in a log */
	struct bus__version after; /* the last sent version of the current topic */
	struct bus__block *block;  /* of the current message, or NULL */
	struct bus_msg msg;
};

/* The place of values: in the topics of a private bus (walk.c), or in the log of a named one (walk_log.c). */
struct walker {
	unsigned looks; /* per call */

	/* A connection begins: notes in `since` which changes are older. No lock held. */
	void (*begin)(struct bus_mailbox *m);

	/* The end of the messages that must leave the mailbox before a walk that begins now continues; and whether they have.
	 * The latter ends the walk of a peer without filters. */
	uint64_t (*end)(const struct bus_mailbox *m);
	bool (*is_reached)(struct bus_mailbox *m);

	/* Gives the next value. Looks at up to *left topics and subtracts them. false: there are no more, or *left is 0.
	 * Bus lock. */
	bool (*look)(struct bus_mailbox *m, unsigned *left, struct bus__out *ret_out);

	/* Whether a message takes the place of a value from before the peer's subscription: the value changed before
	 * the walk reached it, and the peer was not sent it. */
	bool (*owes)(const struct bus_mailbox *m, const struct route *route,
	    const struct bus__version *version);
};

extern const struct walker bus__walk_topics, bus__walk_log;

/* Makes a message of a value. false: it has expired. */
bool bus__walk_give(struct bus_mailbox *m, const struct topic *topic,
    const struct bus__value *value, struct bus__out *ret_out);

/* Whether a value was changed here: then the peer gets it through its mailbox. */
bool bus__walk_is_own(const struct bus *bus, const struct bus__version *version);

/* Whether the record of that sequence is older than the connection. */
bool bus__walk_is_before(const struct bus__walk *walk, uint64_t sequence);

/* The bus's changes, or its log's tail, at the begin of the connection. */
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
