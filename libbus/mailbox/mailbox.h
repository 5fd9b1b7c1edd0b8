/* mailbox/mailbox.h: a ring with a policy, a drainer, counters and an end.
 *
 * A drainer takes a batch under the head lock and sets `phase` before it releases the lock.
 * So a thread that holds the head lock and reads phase 0 knows: no thread reads routes, slots or
 * subscriptions of this mailbox now, and the next batch will see what was stored before. This is how
 * memory behind a mailbox is freed (bus__mailbox_later) and how bus_unsubscribe() waits for a callback. */
#ifndef BUS_MAILBOX_MAILBOX_H
#define BUS_MAILBOX_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "mailbox/deadline.h"
#include "mailbox/far.h"
#include "mailbox/host.h"
#include "mailbox/plain.h"
#include "queue/ring.h"

struct bus;
struct node;
struct reader;
struct source;
struct topic;

/* Work to run once no batch is in progress and everything before `position` is taken out. */
struct later {
	struct later *next;
	uint64_t position;
	void (*run)(struct later *later);
};

enum { THREAD_OUT = 1, THREAD_ABANDONED = 2 };

enum phase {
	PHASE_HELD = 1u << 0,    /* a batch was taken and not ended */
	PHASE_CALLING = 1u << 1, /* callbacks run from it */
	PHASE_WAITED = 1u << 2,  /* a thread waits on phase_wakes until the callback returns */
	PHASE_DEFERRED = 1u << 3 /* `laters` holds work that became due during the batch */
};

/* Why a subscription is not called. */
enum mute {
	MUTE_DEAD = 1u << 0, /* it has ended */
	MUTE_RECV = 1u << 1  /* it has no fn: its messages are for bus_recv() */
};

struct bus_sub {
	struct later later;       /* for done(), and then for its memory */
	struct bus_mailbox *mbox; /* counted; its messages wait in mbox->queue */
	struct node *node; /* where its filter ends; NULL: taken out. Bus lock, as are the lists */
	struct bus_sub *next_at_node, *prev_at_node; /* the first at a node points to the last */
	struct bus_sub *next_in_mbox, *prev_in_mbox;
	uint64_t order;  /* age: callbacks of one mailbox run in this order */
	uint64_t begin;  /* the first message in a named bus's log that is meant for it */
	uint32_t charge; /* on the account of its mailbox */
	bus_msg_fn fn;
	void *arg;
	void (*done)(void *arg);
	_Atomic uint8_t mute; /* enum mute; 0: call fn */
	bool owned;           /* by the user, until bus_unsubscribe() */
	bool counted;         /* in subs_count; bus lock, as the next three */
	bool matched;         /* some topic */
	bool warned;          /* that it matched none */
	bool told;            /* other processes know it: it is listed, or counted */
	uint16_t listed_at;   /* named/listens.c; 0: it is not listed */
	uint32_t since_s;     /* monotonic */
};

struct bus_mailbox {
	struct ring ring;

	struct bus_mailbox
	    *queue; /* whose ring, policy and laters these are: its own, or its group's */
	const struct source *source; /* mailbox/source.h */
	const struct bus_mailbox
	    *only; /* itself if it is a receiver: only its own subscriptions are meant; else NULL */
	struct bus *bus;          /* counted */
	uint32_t fork_generation; /* its bus's */
	struct reader *reader;    /* on a named bus, else NULL */
	_Atomic uint32_t refs;
	int full, drain;
	uint32_t number;                 /* shown to people */
	uint32_t listed_at, listed_subs; /* named/listens.c; bus lock */
	bool is_peer;
	_Atomic bool
	    is_cut_off; /* a peer's, while its link is broken: it refuses messages, and counts */
	struct bus_mailbox *next_owed; /* for the thread that ended its sleep */

	/* Wakes the drainer. Owed by the claim that finds the mailbox asleep. */
	void (*wake)(struct bus_mailbox *mbox, struct bus_mailbox **owed);
	_Atomic uint32_t wakes; /* futex */
	_Atomic int fd;         /* eventfd, behind the epoll of deadlines; -1: not asked for */
	/* Beside other atomics: gcc reads neighbouring plain fields in one piece, and would read these too. */
	_Atomic bool closed;   /* by its own close or the bus's: no calls, no claims */
	_Atomic bool ended;    /* no more deliveries */
	_Atomic bool busy;     /* a call of its owner is inside: recv, dispatch or the end */
	_Atomic bool finished; /* discarded and off the bus's list */
	_Atomic bool
	    from_link; /* a link put a message in since the last vain spin; relaxed: a hint */
	void (*peer_wake)(void *arg);
	void *peer_arg;
	_Atomic uint32_t peer_sleeps, peer_woken; /* equal: no wake() is under way */

	/* The batch in progress; the drainer's own. */
	_Atomic uint32_t phase, phase_wakes;
	uint32_t at, handled;     /* offset and number in the batch */
	_Atomic uint64_t drained; /* everything before this position is handled */
	_Atomic uint64_t delivered, expired, unsubscribed, lost_closed;
	_Atomic uint64_t lost_shut; /* refused because claims were shut */
	_Atomic uint64_t replaced, refused;
	_Atomic uint64_t read, lapped; /* taken out of the log; overwritten there before that */
	_Atomic uint64_t gaps;         /* lost by links on their way to this bus */
	_Atomic uint32_t
	    carried_subs; /* subscriptions to topics that links carry, of a group's receivers too */
	_Atomic uint32_t room; /* futex: changes when room is made for a waiting publisher */
	struct bus_msg msg;
	uint16_t msg_frame; /* its flags in the ring */
	struct route *msg_route;
	bool borrowed;    /* the batch lies in memory that will be rewritten: source.keep() */
	bool lent;        /* a peer has messages of the batch */
	bool interrupted; /* a signal handler ran while the drainer slept */
	uint64_t carried; /* lost before unwanted messages: the next delivered one reports it */
	struct ring_batch batch;
	int64_t gap_ns; /* average pause between bursts, for spinning */

	/* Work that waits for the batch to end. */
	pthread_mutex_t lock;
	struct later *laters, **laters_end;         /* by position, which only rises */
	struct later *laters_now, **laters_now_end; /* for the batch alone */
	_Atomic uint32_t later_count;               /* 0: there are none */

	struct deadlines deadlines;
	struct desk *desk;            /* of a peer */
	struct bus__account *account; /* of a peer, counted; otherwise NULL */
	struct bus__walk *walk;       /* the same */
	struct far far;               /* the same; otherwise zero */

	/* A group is a mailbox without a drainer; each receiver is one without a ring (group.h). */
	bool is_group;
	char *group;                       /* its name; bus lock */
	struct bus_mailbox *receivers;     /* bus lock and head lock: one of them to read */
	struct bus_mailbox *next_receiver; /* the same */
	_Atomic uint32_t parked;           /* receivers that sleep or are about to */
	_Atomic uint32_t subs_count;       /* of a receiver: without any it takes no messages */
	_Atomic bool retired;              /* it takes no more messages */

	/* Under the bus lock. */
	struct bus_request *requests;
	struct bus_request *over; /* ended, and fn not called yet */
	struct bus_sub *subs;
	struct bus_mailbox *next, *prev;
	struct bus_mailbox *next_unsettled; /* in bus->unsettled; the last points to itself */

	/* For $bus/drops. */
	_Atomic bool lossy;             /* its policy lost a message since the last notice */
	struct bus_mailbox *next_lossy; /* of the thread in the round, as is `told` */
	uint64_t told[BUS_LOSS_COUNT];

	/* The own thread. */
	pthread_t thread;
	_Atomic bool has_thread; /* and no thread has begun to end it */
	_Atomic uint32_t left;   /* THREAD_OUT, THREAD_ABANDONED: the first of the two finishes */
	_Atomic bool stop;       /* leave when the mailbox is empty */
	_Atomic uint32_t thread_done; /* futex */
};

/* Makes a mailbox with one reference, listed in its bus, without a thread. queue NULL: with a ring of its own. Bus
 * lock. On a named bus also the errors of bus__reader_new(). */
int bus__mailbox_new(struct bus *bus, const struct bus_mailbox_config *cfg,
    struct bus_mailbox *queue, struct bus_mailbox **ret_mbox);

/* The bound in a configuration. */
size_t bus__mailbox_bytes(const struct bus_mailbox_config *cfg);

/* Starts its own thread. */
int bus__mailbox_start(struct bus_mailbox *mbox);

struct bus_mailbox *bus__mailbox_ref(struct bus_mailbox *mbox);
void bus__mailbox_unref(struct bus_mailbox *mbox);

/* The next message is from a link: the drainer must not spin long for more. */
static inline void
bus__mailbox_fed_by_link(struct bus_mailbox *mbox)
{
	if (!atomic_load_explicit(&mbox->from_link, memory_order_relaxed))
		atomic_store_explicit(&mbox->from_link, true, memory_order_relaxed);
}

/* Puts a message in by the mailbox's policy, and wakes the drainer. A mailbox that its publisher drains is put on the
 * list *owed instead, for bus__mailbox_drain_owed(). Never waits. Takes another reference to item's block if the message is in.
 * Not for mailboxes that refuse. */
void bus__mailbox_put(
    struct bus_mailbox *mbox, const struct ring_item *item, struct bus_mailbox **owed);

/* Values of `wake`, by kind of drainer: a thread that sleeps or polls; one receiver of a group; the publisher itself, by the list
 * *owed as above; the link thread. */
__attribute__((cold)) void bus__wake_sleeper(struct bus_mailbox *mbox, struct bus_mailbox **owed);
__attribute__((cold)) void bus__wake_receiver(struct bus_mailbox *mbox, struct bus_mailbox **owed);
__attribute__((cold)) void bus__wake_publisher(struct bus_mailbox *mbox, struct bus_mailbox **owed);
__attribute__((cold)) void bus__wake_peer(struct bus_mailbox *mbox, struct bus_mailbox **owed);

/* The same for a caller that holds nothing that callbacks may need: no stripe, no lock. Returns 0. */
__attribute__((cold)) int bus__mailbox_wake_now(struct bus_mailbox *mbox);

/* Wake a thread that sleeps in it; the second also its poll loop. */
void bus__mailbox_stir(struct bus_mailbox *mbox);
void bus__mailbox_wake_all(struct bus_mailbox *mbox);

/* Makes the descriptor readable, if there is one; and clears it: false, the system refused. */
void bus__mailbox_signal_fd(struct bus_mailbox *mbox);
bool bus__mailbox_clear_fd(struct bus_mailbox *mbox);

/* Whether its drainer must leave instead of waiting. */
bool bus__mailbox_has_to_leave(const struct bus_mailbox *mbox);

/* Drains the mailboxes of a list on this thread. The caller holds no lock and no stripe. */
void bus__mailbox_drain_owed(struct bus_mailbox *owed);

/* Waits until `item` may fit. false: the deadline has passed. */
bool bus__mailbox_await_room(
    struct bus_mailbox *mbox, const struct ring_item *item, int64_t deadline_ns);

/* Counts messages of any topic that a link lost; count may have RING_LOST_AT_LEAST. */
void bus__mailbox_count_gap(struct bus_mailbox *mbox, uint64_t count);

/* Registers a later; bus__unlock() runs it, or the drainer behind the batch in progress. Bus lock. */
void bus__mailbox_later(struct bus_mailbox *mbox, struct later *later);

/* Runs the laters that are due and wait for no batch in progress. No lock held. */
void bus__mailbox_settle(struct bus_mailbox *mbox);

/* Returns when every callback that began before has returned; at once inside a callback. No lock held. */
void bus__mailbox_await_callback(struct bus_mailbox *mbox);

/* Waits until its own thread has handled every message put in so far. 0 or BUS_E_TIMEDOUT. */
int bus__mailbox_flush(struct bus_mailbox *mbox, int64_t deadline_ns);

/* The place behind all messages in its ring and those that publishers are about to put in; and whether everything before such a
 * place is handled. The drainer. */
uint64_t bus__mailbox_place(const struct bus_mailbox *mbox);
bool bus__mailbox_is_through(const struct bus_mailbox *mbox, uint64_t place);

/* Ends delivery, from the next message on. After bus__mailbox_shut():
 * a call that sees the end empties the mailbox for good. */
void bus__mailbox_end_delivery(struct bus_mailbox *mbox);

/* Refuses further messages and wakes all waiting threads. */
void bus__mailbox_shut(struct bus_mailbox *mbox);

/* Empties a shut mailbox; its messages are lost. Only while no other thread drains it. */
void bus__mailbox_discard(struct bus_mailbox *mbox);

/* The same for a parked mailbox: messages still in its source stay there. */
void bus__mailbox_empty(struct bus_mailbox *mbox);

/* Ends the own thread: lets it empty the mailbox until the deadline, then joins it, or abandons it if a
 * callback does not return. Does nothing without a thread, or if another thread ends it. */
void bus__mailbox_stop(struct bus_mailbox *mbox, int64_t deadline_ns);

/* For peers: the next message of the batch in progress or of a new one, NULL when the batch is used up or there is
 * none; mbox->msg_route is its route; and the end of the lent messages. */
const struct bus_msg *bus__mailbox_next(struct bus_mailbox *mbox);
void bus__mailbox_release(struct bus_mailbox *mbox);

/* For peers: reads the run of plain messages that follow in the batch in progress, and takes the first n of those. */
unsigned bus__mailbox_see_run(struct bus_mailbox *mbox, struct plain_run *ret_run);
void bus__mailbox_take_run(struct bus_mailbox *mbox, const struct plain_run *run, unsigned n);

/* Adds the mailbox's counters; a receiver's are its group's. Each waiting message costs a look: looks at most at `most`,
 * and counts no more as pending and offered. */
void bus__mailbox_add_stats(struct bus_mailbox *mbox, uint64_t most, struct bus_stats *stats);

/* Calls fn so that bus__in_callback() is true inside. */
void bus__run_as_callback(void (*fn)(void *arg), void *arg);

/* bus_mailbox_close(), but with wait false it does not wait for a callback that does not return. */
void bus__mailbox_end(struct bus_mailbox *mbox, bool wait);

/* Whether this thread is inside a callback of any mailbox. */
bool bus__in_callback(void);

#endif
