/* bus/question.h: shared by the files of requests. */
#ifndef BUS_BUS_QUESTION_H
#define BUS_BUS_QUESTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus/bus_internal.h"
#include "bus/request.h"
#include "mailbox/deadline.h"
#include "mailbox/route.h"

struct question {
	struct question *next; /* in its bucket */
	uint64_t number;       /* 0: not in the inbox */
	struct desk *desk;     /* of the peer that asked, struct peer_question; NULL: asked here */
	bool waits;            /* asked here: struct waiter; otherwise struct bus_request */
};

/* The mailboxes that got a question, and how many of them have no responder. */
struct takers {
	uint32_t count, declined;
	bool known; /* count is valid */
};

/* A thread in bus_request(). */
struct waiter {
	struct question q;
	struct takers takers;
	const char *topic;
	const struct bus_msg *reply;
	int err;
	_Atomic uint32_t done; /* futex */
};

/* A route to one mailbox that no topic leads to, with one subscription behind it. */
struct way {
	struct route route;
	struct bus_sub sub;
};

/* Asked from a mailbox. */
struct bus_request {
	struct question q;
	struct takers takers;
	struct later later;
	struct deadline deadline;
	struct way way;
	bool over, quiet; /* bus lock; quiet: fn is not called for it */
	_Atomic uint32_t refs;
	struct bus_request *next, *prev; /* of its mailbox; bus lock */
};

struct peer_question {
	struct question q;
	struct takers takers; /* the peers that may reply: on a hub */
	bool passes;          /* on a hub: it was passed on to other peers */
	uint64_t theirs;
	int64_t expires_ns;
	struct peer_question *newer;
};

struct desk {
	struct way way;
	struct peer_question *oldest, **newest_end; /* inbox lock */
	uint32_t count;
};

/* Whether no possible responder is left. */
static inline bool
bus__is_hopeless(const struct takers *takers)
{
	return takers->known && takers->declined >= takers->count;
}

/* The place of the question of that number in its bucket; *at is NULL if it is not there. NULL: there has been no question.
 * Inbox lock. */
struct question **bus__question_find(struct inbox *inbox, uint64_t number);

/* Gives a question its number. Inbox lock. */
int bus__question_enter(struct bus *bus, struct question *q);

/* Replies to it are late from here on. Inbox lock. */
void bus__question_leave(struct inbox *inbox, struct question *q);

/* The same without the lock. */
int bus__question_enter_locked(struct bus *bus, struct question *q);
void bus__question_leave_locked(struct bus *bus, struct question *q);

/* Makes a way into the mailbox, for messages of that topic. Takes over its reference, which bus__way_fini() releases. 0 or
 * BUS_E_NOMEM. */
int bus__way_init(
    struct way *way, struct bus_mailbox *m, struct topic *topic, bus_msg_fn fn, void *arg);

void bus__way_fini(struct way *way);

/* Sends an item on its way. Inbox lock: it keeps the way alive. */
int bus__way_put(struct way *way, struct ring_item *item);

/* Releases the waiting thread with this answer. Inbox lock. */
void bus__waiter_release(struct waiter *w, int err);

/* Has the drainer end a request. Takes over a reference. */
void bus__request_end_soon(struct bus_request *req);

/* Checks a question and sets its time to live to the timeout. */
int bus__question_make(const struct bus_msg *msg, int timeout_ms, struct bus_msg *ret_question);

/* Publishes a question, and stores in *takers how many mailboxes got it. 0, BUS_E_NOBODY, or an error of a publish. */
int bus__question_ask(struct bus *bus, const struct bus_msg *question, uint64_t number,
    int64_t deadline_ns, struct takers *takers);

/* The sentence for a request that failed. A publish that refused the question has set the text already. */
int bus__fail_request(const struct bus *bus, int err, const struct bus_msg *msg, int timeout_ms);

#endif
