/* bus/request.h: questions and their replies.
 *
 * Each question has a number that nobody can guess. The bus's inbox knows what a number stands for: a question
 * asked here, whose reply goes to a waiting thread or into the mailbox it was asked from; or one that a peer
 * asked, whose reply goes into that peer's mailbox and no other. A reply travels as any message does, in a frame,
 * on a route that no topic leads to (struct way).
 *
 * Lock order: the bus lock, then the inbox's. Under the latter messages are put into rings, nothing else. */
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

/* On a named bus the numbers of questions begin with the member that asks, and which of the process's buses of that name it is. */
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
	    answers_seen; /* of a named bus: the last sequence of a reply that somebody here has come to */
};

int bus__inbox_init(struct inbox *inbox);
void bus__inbox_fini(struct inbox *inbox);

/* Lets everybody who waits for a reply go. */
void bus__inbox_close(struct bus *bus);

/* The route by which a reply out of a named bus's log is given to the mailbox, NULL: its question was not asked from there.
 * To a peer's mailbox with the number that the peer gave it (else 0).
 * One whose question is over is counted, by the first who comes to its sequence. */
struct route *bus__answer_route(
    struct bus_mailbox *mbox, uint64_t number, uint64_t sequence, uint64_t *ret_theirs);

/* Calls fn with the mailbox from which the question of such a reply was asked, if one was, under the inbox lock. One whose
 * question is over is counted as above. */
void bus__answer_mailbox(struct bus *bus, uint64_t number, uint64_t sequence,
    void (*fn)(void *arg, struct bus_mailbox *mbox), void *arg);

/* Gives the reply to whoever in this process asked the question of that number; counts one that is late. 0, BUS_E_NOMEM,
 * BUS_E_FULL, or what bus__item_make() answers. No lock held. */
int bus__reply_here(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool from_peer);

/* --- peers ------------------------------------------------------------------------------------------------- */

/* Where questions of a peer are remembered. NULL: out of memory. */
struct desk *bus__desk_open(struct bus_mailbox *mbox);

/* Forgets its questions; and its memory, when nothing in the mailbox refers to it any more. */
void bus__desk_close(struct desk *desk);
void bus__desk_free(struct desk *desk);

/* Remembers a peer's question of that number until it expires (ttl_ms 0: never) or too many newer ones came.
 * Gives the number under which it is known here. 0, BUS_E_NOMEM, or BUS_E_LIMIT: the peer's account has no room. */
int bus__desk_accept(struct desk *desk, uint64_t theirs, uint32_t ttl_ms, uint64_t *ret_number);

/* So many mailboxes got it; when as many peers have said that nobody there listens, the asker is told. */
void bus__desk_note_takers(struct desk *desk, uint64_t number, uint32_t takers);

/* Nobody here listens to it. */
void bus__desk_decline(struct desk *desk, uint64_t theirs);

#endif
