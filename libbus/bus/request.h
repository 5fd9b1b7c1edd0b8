/* bus/request.h: questions and their replies.
 *
 * Each question has an unguessable number. The bus's inbox maps the number to a question
 * asked here, whose reply goes to a waiting thread or into the mailbox it was asked from; or to a peer's question,
 * whose reply goes into that peer's mailbox and no other. A reply travels as any message does, in a frame,
 * on a route that no topic leads to (struct way).
 *
 * Lock order: the bus lock, then the inbox's. Under the inbox's lock messages are put into rings, nothing else. */
#ifndef BUS_BUS_REQUEST_H
#define BUS_BUS_REQUEST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "mailbox/host.h"

struct bus_mailbox;
struct desk;
struct question;
struct route;

/* On a named bus the number of a question begins with the asking member, and which of its process's buses of that name it is. */
#define NAMED_ASKER_SHIFT 54
#define NAMED_BUS_SHIFT   48
#define NAMED_BUS_MASK    63u

struct inbox {
	pthread_mutex_t lock;
	struct question **buckets; /* by number; NULL: there has been no question */
	size_t mask, count;
	uint64_t last; /* counts questions; its keyed hash is a number */
	bool closed;
	_Atomic uint64_t late;
	uint32_t tag; /* of a named bus: NAMED_BUS_SHIFT */
	uint64_t
	    answers_seen; /* of a named bus: the last sequence of a reply that a mailbox here has reached */
};

int bus__inbox_init(struct inbox *inbox);
void bus__inbox_fini(struct inbox *inbox);

/* Wakes all threads that wait for a reply. */
void bus__inbox_close(struct bus *bus);

/* The route that gives a reply from a named bus's log to the mailbox; NULL: its question was not asked from there.
 * To a peer's mailbox with the peer's own number for it (else 0).
 * A reply whose question is over is counted by the first mailbox that reaches its sequence. */
struct route *bus__answer_route(
    struct bus_mailbox *mbox, uint64_t number, uint64_t sequence, uint64_t *ret_theirs);

/* Calls fn, under the inbox lock, with the mailbox that asked the question of such a reply, if a mailbox did. A reply whose
 * question is over is counted as above. */
void bus__answer_mailbox(struct bus *bus, uint64_t number, uint64_t sequence,
    void (*fn)(void *arg, struct bus_mailbox *mbox), void *arg);

/* Gives the reply to the asker in this process; counts a late one. 0, BUS_E_NOMEM,
 * BUS_E_FULL, or an error of bus__item_make(). No lock held. */
int bus__reply_here(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool from_peer);

/* --- peers ------------------------------------------------------------------------------------------------- */

/* Remembers the questions of a peer. NULL: out of memory. */
struct desk *bus__desk_open(struct bus_mailbox *mbox);

/* Forgets its questions; frees its memory when nothing in the mailbox refers to it any more. */
void bus__desk_close(struct desk *desk);
void bus__desk_free(struct desk *desk);

/* Remembers a peer's question of that number until it expires (ttl_ms 0: never) or newer ones push it out.
 * Gives its number here. 0, BUS_E_NOMEM, or BUS_E_LIMIT: the peer's account has no room. */
int bus__desk_accept(struct desk *desk, uint64_t theirs, uint32_t ttl_ms, uint64_t *ret_number);

/* `takers` mailboxes got the question. When as many peers have declined, the asker gets BUS_E_NOBODY. */
void bus__desk_note_takers(struct desk *desk, uint64_t number, uint32_t takers);

/* The question has no responder here. */
void bus__desk_decline(struct desk *desk, uint64_t theirs);

#endif
