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
	bool plain;        /* all are rings that drop, and nothing is to be kept or numbered */
	bool plain_here;   /* the same but for peers */
	bool numbered;     /* some number what they are given: struct far */
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

#endif
