/* link/roster.h: the peers of a bus, for people: the connected ones, and the refused ones with reasons. The link thread writes; any
 * thread reads. On a named bus the text is also a kept value for the other processes, updated at most once a second. */
#ifndef BUS_LINK_ROSTER_H
#define BUS_LINK_ROSTER_H

#include <pthread.h>
#include <stdint.h>

#include "access/refusals.h"
#include "access/users.h"
#include "link/loop.h"

struct bus_link;
struct bus__links;
struct bus__session;
struct bus__stream;
struct page;

enum { BUS__WHERE = 64 };

/* A peer that is connected: part of its session. */
struct bus__guest {
	struct bus__guest *next;
	const struct bus_link *link;
	int64_t since_ms; /* of 1970; 0: it is not connected */
	char where[BUS__WHERE], user[BUS__USER_NAME + 1];
};

struct bus__roster {
	pthread_mutex_t lock;           /* of the next two; nothing is called under it */
	struct bus__refusals *refusals; /* NULL: no refusals yet */
	struct bus__guest *guests;
	struct bus__timer timer; /* from here on: link thread */
	int64_t told_ns;         /* when the text was last stored */
	int64_t notices_ns;      /* when `notices` began to count */
	unsigned notices;
};

void bus__roster_init(struct bus__links *links);
void bus__roster_fini(struct bus__links *links);

/* A connection is complete; a connection has ended with err, which is noted if it is a refusal. */
void bus__roster_join(struct bus__session *session);
void bus__roster_ended(struct bus__session *session, int err);

/* Notes a refusal of a peer. stream: of the peer. */
void bus__roster_refuse(struct bus_link *link, struct bus__stream *stream, enum bus__refusal reason,
    const char *user, const char *detail);

/* Threads: any. */
void bus__roster_explain(void *links, struct page *page);

#endif
