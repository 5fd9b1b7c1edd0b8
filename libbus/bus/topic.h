/* bus/topic.h: the table of topics, and how their routes (mailbox/route.h) change.
 *
 * Publishers read topic->routes without a lock. Memory that they may still read is freed only after its grace period:
 *   by name      they hold one of 16 stripes; grace() in bus.c has seen each of them free once
 *   by handle    the handle owns a counted reference to the snapshot
 *   by drainers  the mailbox frees slots and routes, behind the batch in progress; a route also
 *                only after all frames put in before are taken out, since frames point to it
 * Changes happen under the bus lock. */
#ifndef BUS_BUS_TOPIC_H
#define BUS_BUS_TOPIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mailbox/route.h"

struct bus;

/* Open-addressed table of topics by name, read without a lock. */
struct topic_slots {
	size_t mask;
	struct topic_slots *next_garbage;
	struct topic *_Atomic at[];
};

struct topic_table {
	struct topic_slots *_Atomic slots;
	size_t count, tombs, hand; /* under the bus lock; hand: where the next sweep continues */
};

int bus__topics_init(struct topic_table *table);
void bus__topics_fini(struct bus *bus);

/* Takes all routes off all topics, including those that stayed for lack of memory. Bus lock. */
void bus__topics_unroute(struct bus *bus);

/* Finds a topic. The caller holds a stripe or the bus lock. */
struct topic *bus__topic_find(struct bus *bus, const char *name, size_t len);

/* Finds a topic or makes it. Bus lock. 0, BUS_E_NOMEM, or BUS_E_LIMIT when max_topics are in use. */
int bus__topic_make(struct bus *bus, const char *name, size_t len, struct topic **ret_topic);

/* The same on the account of a peer: BUS_E_LIMIT also when the peer has made its most topics, or holds its most bytes. Bus
 * lock. */
int bus__topic_make_for(struct bus *bus, struct bus__account *account, const char *name, size_t len,
    struct topic **ret_topic);

/* Forgets a topic that a peer made, if it has no handle, was not published by name and keeps no value.
 * Bus lock. */
void bus__topic_let_go(struct bus *bus, struct topic *topic);

void bus__topic_unref(struct topic *topic);

/* A position in the table, for bus__topic_next(); begins as {0}. */
struct topic_place {
	const struct topic_slots *slots;
	size_t at;
};

/* The next topic. Looks at up to *left places and subtracts them. NULL: there is none, or *left is 0. A
 * topic that exists all the time is returned at least once, others may be. Bus lock. */
struct topic *bus__topic_next(struct bus *bus, struct topic_place *place, unsigned *left);

/* The route from a topic to a mailbox, NULL if there is none. Bus lock. */
struct route *bus__topic_route(const struct topic *topic, const struct bus_mailbox *mbox);

/* The lock that a kept publish holds over "store, claim". */
pthread_mutex_t *bus__keep_lock(struct bus *bus, const struct topic *topic);

/* The lists and snapshots that topics will show when a subscription joins them, in join order. Begins zeroed. */
struct prepared {
	struct snapshot *first, *last;
};

/* Allocates the memory for a subscription of mbox to join a topic. Publishers see nothing before the join, so a subscription
 * that fails for lack of memory has called its callback with nothing. Bus lock. 0, BUS_E_NOMEM, or BUS_E_LIMIT when the peer
 * holds its most bytes. */
int bus__topic_prepare(struct topic *topic, struct bus_mailbox *mbox, struct prepared *prepared);

/* Frees the unused rest. Bus lock. */
void bus__topic_unprepare(struct prepared *prepared);

/* Joins sub to a topic, the next one that was prepared: it gets the kept messages first, then every later claim. Bus lock. 0, or
 * BUS_E_FULL when a mailbox that refuses has no room for the kept messages; then sub must leave. */
int bus__topic_join(
    struct bus *bus, struct topic *topic, struct bus_sub *sub, struct prepared *prepared);

/* Takes sub out of a topic. Bus lock. Cannot fail: without memory the route stays, leading nowhere. */
void bus__topic_leave(struct bus *bus, struct topic *topic, struct bus_sub *sub);

/* From now on the topic keeps all messages: its routes lead publishers off the short way. Bus lock and keep lock. 0 or
 * BUS_E_NOMEM. */
int bus__topic_keep_all(struct bus *bus, struct topic *topic);

/* The route among these (NULL: none) that leads to the mailbox, or NULL. A stripe or the bus lock. */
struct route *bus__route_to(const struct snapshot *routes, const struct bus_mailbox *mbox);

/* Take and release references to snapshots. unref: bus lock. */
struct snapshot *bus__snapshot_ref(struct snapshot *snapshot);
void bus__snapshot_unref(struct snapshot *snapshot);

#endif
