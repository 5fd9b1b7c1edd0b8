/* mailbox/route.h: topics, and the routes from each to its mailboxes.
 *
 *     topic ──► snapshot (immutable) ──► route ──► mailbox
 *                                          └────► slots (appended to): the subscriptions behind it
 *
 * The bus changes them under its lock (bus/topic.h); publishers and drainers read them. */
#ifndef BUS_MAILBOX_ROUTE_H
#define BUS_MAILBOX_ROUTE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/account.h"
#include "mailbox/mailbox.h"
#include "queue/block.h"
#include "queue/latest.h"

struct history;
struct node;

/* A subscription behind a route, and the position in the mailbox from which messages are for it. */
struct slot {
	struct bus_sub *_Atomic sub; /* NULL: it left */
	uint64_t from;
	uint64_t order; /* the subscription's, also after its end */
};

/* The subscriptions behind a route, in the order in which they began. A new one is written behind the last
 * and then counted, while there is room; a leaving one only empties its slot. A longer or a denser list
 * replaces this one when it is full or half of it is empty, so a change costs O(1) on average. */
struct slots {
	struct later later;
	_Atomic uint32_t count; /* release, acquire by drainers: counted slots are complete */
	uint32_t cap;
	struct slot at[];
};

struct route {
	struct later later;
	struct topic *topic;      /* counted */
	struct bus_mailbox *mbox; /* counted */
	struct slots *_Atomic slots;
	struct bus__account *
	    payer; /* counted: the account of the mailbox's peer or of the topic's maker; or NULL */
	struct cell cell; /* for BUS_FULL_LATEST */
	uint64_t
	    told; /* of a peer: the value it was sent last (walk.h); 0: none. Link thread, as `owed` */
	bool owed;     /* of a peer: the topic had a value when it subscribed, not sent yet */
	uint32_t refs; /* snapshots that list it; under the bus lock, as is `live` */
	uint32_t live; /* slots that are not empty */
};

struct snapshot {
	_Atomic uint32_t refs;
	uint32_t count;
	uint32_t refusing; /* how many refuse; they come first */
	bool plain;        /* all are rings that drop, and no message must be kept or numbered */
	bool plain_here;   /* the same, peers aside */
	bool numbered;     /* a peer wants numbered messages: struct far */
	struct snapshot *next_garbage;
	struct route *routes[];
};

struct topic {
	struct snapshot *_Atomic routes; /* NULL: no subscription matches */
	_Atomic bool used;               /* published by name since the last sweep */
	_Atomic uint32_t refs;           /* of the memory: the table, routes, handles */
	uint32_t handles;                /* under the bus lock */
	_Atomic uint32_t unheard;        /* publishes without a receiver */
	_Atomic bool warned;             /* of that */
	uint64_t hash, serial;
	union {
		struct node *node;          /* in the table */
		struct topic *next_garbage; /* forgotten */
	};
	struct bus__account *account; /* of the peer that made it; counted; or NULL */
	struct history *history; /* its kept messages, under its keep lock; NULL: never kept any */
	_Atomic bool keeps;      /* all messages, and not only retained ones */
	bool gone;               /* swept: a value stored now would be lost with it; keep lock */
	uint16_t len;
	uint32_t charge; /* on the account */
	char name[];
};

#endif
