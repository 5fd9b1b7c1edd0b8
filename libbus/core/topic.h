/* core/topic.h: topics, and the routes from each to its mailboxes.
 *
 *     topic ──► snapshot (immutable) ──► route ──► mailbox
 *                                          └────► slots (appended to): the subscriptions behind it
 *
 * Publishers read topic->routes without a lock. What they may still read is not freed before its grace:
 *   by name      one of 16 stripes is held meanwhile; grace() in bus.c has seen each of them free once
 *   by handle    the handle owns a counted reference to the snapshot
 *   by drainers  slots and routes are freed by the mailbox, behind the batch in progress; a route also
 *                only when everything put in before is taken out, since frames point to it
 * Changes happen under the bus lock. */
#ifndef BUS_CORE_TOPIC_H
#define BUS_CORE_TOPIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/account.h"
#include "core/mailbox.h"
#include "queue/block.h"
#include "queue/latest.h"

struct bus;
struct history;
struct node;

/* A subscription behind a route, with the position in the mailbox from which on it is meant. */
struct slot {
	struct bus_sub *_Atomic sub; /* NULL: it left */
	uint64_t from;
	uint64_t order; /* the subscription's, also when that is gone */
};

/* The subscriptions behind a route, in the order in which they began. One more is written behind the last
 * and then counted, while there is room; one that leaves only empties its slot. A longer or a denser list
 * replaces this one when it is full or half of it is empty, so a change costs O(1) in the mean. */
struct slots {
	struct later later;
	_Atomic uint32_t count; /* release, acquire by drainers: what is counted is complete */
	uint32_t cap;
	struct slot at[];
};

struct route {
	struct later later;
	struct topic *topic;      /* counted */
	struct bus_mailbox *mbox; /* counted */
	struct slots *_Atomic slots;
	struct bus__account
	    *payer; /* counted: of the peer whose mailbox it is, or that made the topic; or NULL */
	struct cell cell; /* for BUS_FULL_LATEST */
	uint64_t
	    told; /* of a peer: which value it was sent last (walk.h); 0: none. Link thread, as `owed` */
	bool
	    owed; /* of a peer: the topic had a value when it subscribed, which it was not sent yet */
	uint32_t refs; /* snapshots that list it; under the bus lock, as is `live` */
	uint32_t live; /* slots that are not empty */
};

struct snapshot {
	_Atomic uint32_t refs;
	uint32_t count;
	uint32_t refusing; /* how many refuse; they come first */
	bool plain;        /* all are rings that drop, and nothing is to be kept */
	struct snapshot *next_garbage;
	struct route *routes[];
};

struct topic {
	struct snapshot *_Atomic routes; /* NULL: nobody listens */
	_Atomic bool used;               /* published by name since the last sweep */
	_Atomic uint32_t refs;           /* of the memory: the table, routes, handles */
	uint32_t handles;                /* under the bus lock */
	_Atomic uint32_t unheard;        /* publishes that nobody got */
	_Atomic bool warned;             /* of that */
	uint64_t hash, serial;
	union {
		struct node *node;          /* in the table */
		struct topic *next_garbage; /* forgotten */
	};
	struct bus__account *account; /* of the peer that made it, if one did; counted */
	struct history *history; /* what it keeps, under its keep lock; NULL: never kept anything */
	_Atomic bool keeps;      /* all messages, and not only retained ones */
	bool gone;               /* swept: a value stored now would be lost with it; keep lock */
	uint16_t len;
	uint32_t charge; /* on the account */
	char name[];
};

/* Open-addressed table of topics by name, read without a lock. */
struct topic_slots {
	size_t mask;
	struct topic_slots *next_garbage;
	struct topic *_Atomic at[];
};

struct topic_table {
	struct topic_slots *_Atomic slots;
	size_t count, tombs, hand; /* under the bus lock; hand: where the sweep goes on */
};

int bus__topics_init(struct topic_table *table);
void bus__topics_fini(struct bus *bus);

/* Takes all routes off all topics, those too that stayed for want of memory. Bus lock. */
void bus__topics_unroute(struct bus *bus);

/* Finds a topic. The caller holds a stripe or the bus lock. */
struct topic *bus__topic_find(struct bus *bus, const char *name, size_t len);

/* The same, making it if it is missing. Bus lock. 0, BUS_E_NOMEM, or BUS_E_LIMIT when all topics there may
 * be are in use. */
int bus__topic_make(struct bus *bus, const char *name, size_t len, struct topic **ret_topic);

/* The same on the account of a peer: BUS_E_LIMIT also when it has made as many as it may, or holds as many bytes. Bus
 * lock. */
int bus__topic_make_for(struct bus *bus, struct bus__account *account, const char *name, size_t len,
    struct topic **ret_topic);

/* Forgets a topic that a peer made if nobody has a handle on it, published it by name or kept a value of it.
 * Bus lock. */
void bus__topic_let_go(struct bus *bus, struct topic *topic);

void bus__topic_unref(struct topic *topic);

/* A place in the table, from which one goes on; begins as {0}. */
struct topic_place {
	const struct topic_slots *slots;
	size_t at;
};

/* The next topic, of at most *left places, from which those that were looked at are taken. NULL: there is none, or *left is 0. A
 * topic that is there all the while comes at least once, others may. Bus lock. */
struct topic *bus__topic_next(struct bus *bus, struct topic_place *place, unsigned *left);

/* The route from a topic to a mailbox, NULL if there is none. Bus lock. */
struct route *bus__topic_route(const struct topic *topic, const struct bus_mailbox *mbox);

/* The lock that a publish that is kept holds over "store, claim". */
pthread_mutex_t *bus__keep_lock(struct bus *bus, const struct topic *topic);

/* What topics will show when a subscription joins them, in the order in which they will. Begins zeroed. */
struct prepared {
	struct snapshot *first, *last;
};

/* Allocates what a subscription of mbox needs to join a topic, which nobody sees before it joins: a subscription
 * that fails for want of memory has given its callback nothing. Bus lock. 0, BUS_E_NOMEM, or BUS_E_LIMIT when the peer holds as
 * many bytes as it may. */
int bus__topic_prepare(struct topic *topic, struct bus_mailbox *mbox, struct prepared *prepared);

/* Frees what was not used. Bus lock. */
void bus__topic_unprepare(struct prepared *prepared);

/* Joins sub to a topic, the next that was prepared: what it keeps first, then everything claimed later. Bus lock. 0, or
 * BUS_E_FULL when a mailbox that refuses has no room for what is kept; then sub is to leave. */
int bus__topic_join(
    struct bus *bus, struct topic *topic, struct bus_sub *sub, struct prepared *prepared);

/* Takes sub out of a topic. Bus lock. Cannot fail: without memory the route stays, leading nowhere. */
void bus__topic_leave(struct bus *bus, struct topic *topic, struct bus_sub *sub);

/* From now on the topic keeps all messages: its routes lead publishers off the short way. Bus lock and keep lock. 0 or
 * BUS_E_NOMEM. */
int bus__topic_keep_all(struct bus *bus, struct topic *topic);

/* The one of these routes (NULL: none) that leads to the mailbox, or NULL. A stripe or the bus lock. */
struct route *bus__route_to(const struct snapshot *routes, const struct bus_mailbox *mbox);

/* Counts and lets go of snapshots. unref: bus lock. */
struct snapshot *bus__snapshot_ref(struct snapshot *snapshot);
void bus__snapshot_unref(struct snapshot *snapshot);

#endif
