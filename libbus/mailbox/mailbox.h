/* mailbox/mailbox.h: a ring with a policy, a drainer, counters and an end.
 *
 * Whoever drains takes a batch under the head lock and says so in `phase` before it lets go of the lock.
 * So another thread that holds the head lock and reads phase 0 knows: nobody reads routes, slots or
 * subscriptions of this mailbox now, and the next batch will see what was stored before. That is how
 * things behind a mailbox are freed (bus__mailbox_later) and how bus_unsubscribe() waits for a callback. */
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

/* Something to do once no batch is in progress and everything before `position` is taken out. */
struct later {
	struct later *next;
	uint64_t position;
	void (*run)(struct later *later);
};

enum { THREAD_OUT = 1, THREAD_ABANDONED = 2 };

enum phase {
	PHASE_HELD = 1u << 0,    /* a batch was taken and is not let go */
	PHASE_CALLING = 1u << 1, /* callbacks run from it */
	PHASE_WAITED = 1u << 2,  /* somebody parks on phase_wakes until the callback returns */
	PHASE_DEFERRED = 1u << 3 /* `laters` has what became due meanwhile */
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
	struct bus_sub *next_at_node,
	    *prev_at_node; /* before the first at a node stands the last */
	struct bus_sub *next_in_mbox, *prev_in_mbox;
	uint64_t order;  /* of its beginning: callbacks of one mailbox run in this order */
	uint64_t begin;  /* the first message of a named bus's log that is meant for it */
	uint32_t charge; /* on the account of its mailbox */
	bus_msg_fn fn;
	void *arg;
	void (*done)(void *arg);
	_Atomic uint8_t mute; /* enum mute; 0: call fn */
	bool owned;           /* the user has it, until bus_unsubscribe() */
	bool counted;         /* in subs_count; bus lock, as the next three */
	bool matched;         /* a topic */
	bool warned;          /* that it did not */
	bool told;            /* to other processes: it is listed, or counted */
	uint16_t listed_at;   /* named/listens.c; 0: it is not listed */
	uint32_t since_s;     /* monotonic */
};

struct bus_mailbox {
	struct ring ring;

	struct bus_mailbox
	    *queue; /* whose ring, policy and laters these are: its own, or its group's */
	const struct source *source; /* where its messages come from: mailbox/source.h */
	const struct bus_mailbox
	    *only; /* whose subscriptions alone are meant: itself if it is a receiver; else NULL */
	struct bus *bus;          /* counted */
	uint32_t fork_generation; /* its bus's */
	struct reader *reader;    /* on a named bus, else NULL */
	_Atomic uint32_t refs;
	int full, drain;
	uint32_t number;                 /* by which people know it */
	uint32_t listed_at, listed_subs; /* named/listens.c; bus lock */
	bool is_peer;
	_Atomic bool is_cut_off; /* a peer's, whose link broke: it takes nothing, and counts */
	struct bus_mailbox *next_owed; /* of whoever ended its sleep */

	/* Waking the drainer: what a claim owes that found the mailbox asleep. */
	void (*wake)(struct bus_mailbox *mbox, struct bus_mailbox **owed);
	_Atomic uint32_t wakes; /* futex */
	_Atomic int fd; /* eventfd, behind the epoll of deadlines; -1: nobody asked for one */
	/* Beside other atomics: gcc reads neighbouring plain fields in one piece, these too if they were there. */
	_Atomic bool closed;   /* by its own close or by that of the bus: no calls, no claims */
	_Atomic bool ended;    /* what is inside is not delivered any more */
	_Atomic bool busy;     /* a call of its owner is inside: recv, dispatch or the end */
	_Atomic bool finished; /* discarded and off the bus's list */
	_Atomic bool
	    from_link; /* a link put something in since it last spun in vain; relaxed: a hint */
	void (*peer_wake)(void *arg);
	void *peer_arg;
	_Atomic uint32_t peer_sleeps, peer_woken; /* equal: no wake() is under way */

	/* The batch in progress; the drainer's own. */
	_Atomic uint32_t phase, phase_wakes;
	uint32_t at, handled;     /* offset and number in the batch */
	_Atomic uint64_t drained; /* everything before this position is handled */
	_Atomic uint64_t delivered, expired, unsubscribed, lost_closed;
	_Atomic uint64_t lost_shut; /* came when claims were refused already */
	_Atomic uint64_t replaced, refused;
	_Atomic uint64_t read, lapped; /* taken out of the log; gone there before that */
	_Atomic uint64_t gaps;         /* lost by links on their way to this bus */
	_Atomic uint32_t
	    carried_subs; /* subscriptions to topics that links carry, of a group's receivers too */
	_Atomic uint32_t room; /* futex: changes when room was made that a publisher waits for */
	struct bus_msg msg;
	uint16_t msg_frame; /* its flags in the ring */
	struct route *msg_route;
	bool borrowed;    /* the batch lies where others will write again: source.keep() */
	bool lent;        /* a peer has messages of the batch */
	bool interrupted; /* a signal handler ran while the drainer slept */
	uint64_t carried; /* lost before messages that nobody wanted: told by the next one */
	struct ring_batch batch;
	int64_t gap_ns; /* average pause between bursts, for the spin */

	/* What waits for the batch to end. */
	pthread_mutex_t lock;
	struct later *laters, **laters_end;         /* for their positions, which only rise */
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
	_Atomic uint32_t subs_count;       /* of a receiver: with none it takes nothing */
	_Atomic bool retired;              /* it takes nothing any more */

	/* Under the bus lock. */
	struct bus_request *requests;
	struct bus_request *over; /* ended, and whoever asked has not heard of it */
	struct bus_sub *subs;
	struct bus_mailbox *next, *prev;
	struct bus_mailbox *next_unsettled; /* in bus->unsettled; itself when it is the last */

	/* What $bus/drops tells. */
	_Atomic bool lossy;             /* its policy lost something since */
	struct bus_mailbox *next_lossy; /* of whoever makes the round, as is told */
	uint64_t told[BUS_LOSS_COUNT];

	/* The own thread. */
	pthread_t thread;
	_Atomic bool has_thread; /* and nobody has begun to end it */
	_Atomic uint32_t left;   /* THREAD_OUT, THREAD_ABANDONED: whichever came first finishes */
	_Atomic bool stop;       /* leave when nothing is inside any more */
	_Atomic uint32_t thread_done; /* futex */
};

/* Makes a mailbox with one reference, listed in its bus, without a thread. queue NULL: with a ring of its own. Bus
 * lock. On a named bus also what bus__reader_new() answers. */
int bus__mailbox_new(struct bus *bus, const struct bus_mailbox_config *cfg,
    struct bus_mailbox *queue, struct bus_mailbox **ret_mbox);

/* The bound that a configuration asks for. */
size_t bus__mailbox_bytes(const struct bus_mailbox_config *cfg);

/* Starts its own thread. */
int bus__mailbox_start(struct bus_mailbox *mbox);

struct bus_mailbox *bus__mailbox_ref(struct bus_mailbox *mbox);
void bus__mailbox_unref(struct bus_mailbox *mbox);

/* What is put in next comes by a link: the drainer is not to spin long for more. */
static inline void
bus__mailbox_fed_by_link(struct bus_mailbox *mbox)
{
	if (!atomic_load_explicit(&mbox->from_link, memory_order_relaxed))
		atomic_store_explicit(&mbox->from_link, true, memory_order_relaxed);
}

/* Puts a message in, as the mailbox's policy says, and wakes the drainer: one that is the publisher is put on the
 * list *owed, for bus__mailbox_drain_owed(). Never waits. A block in item gets a reference more if it is in.
 * Not for mailboxes that refuse. */
void bus__mailbox_put(
    struct bus_mailbox *mbox, const struct ring_item *item, struct bus_mailbox **owed);

/* Kinds of drainers, for `wake`: a thread that sleeps or polls; one receiver of a group; the publisher himself, by the list
 * *owed as above; the link thread. */
__attribute__((cold)) void bus__wake_sleeper(struct bus_mailbox *mbox, struct bus_mailbox **owed);
__attribute__((cold)) void bus__wake_receiver(struct bus_mailbox *mbox, struct bus_mailbox **owed);
__attribute__((cold)) void bus__wake_publisher(struct bus_mailbox *mbox, struct bus_mailbox **owed);
__attribute__((cold)) void bus__wake_peer(struct bus_mailbox *mbox, struct bus_mailbox **owed);

/* The same for a caller who holds nothing that callbacks may need: no stripe, no lock. Returns 0. */
__attribute__((cold)) int bus__mailbox_wake_now(struct bus_mailbox *mbox);

/* Wakes whoever sleeps in it; and whoever polls it. */
void bus__mailbox_stir(struct bus_mailbox *mbox);
void bus__mailbox_wake_all(struct bus_mailbox *mbox);

/* Makes the descriptor readable, if there is one; and not any more: false, the system refused. */
void bus__mailbox_signal_fd(struct bus_mailbox *mbox);
bool bus__mailbox_clear_fd(struct bus_mailbox *mbox);

/* Whether its drainer has nothing to wait for any more. */
bool bus__mailbox_has_to_leave(const struct bus_mailbox *mbox);

/* Drains the mailboxes of a list on this thread; as above, nothing is held. */
void bus__mailbox_drain_owed(struct bus_mailbox *owed);

/* Waits until `item` may fit. false: the deadline has passed. */
bool bus__mailbox_await_room(
    struct bus_mailbox *mbox, const struct ring_item *item, int64_t deadline_ns);

/* Counts messages of any topic that a link lost; count may have RING_LOST_AT_LEAST. */
void bus__mailbox_count_gap(struct bus_mailbox *mbox, uint64_t count);

/* Registers later; bus__unlock() runs it, or the drainer behind the batch in progress. Bus lock. */
void bus__mailbox_later(struct bus_mailbox *mbox, struct later *later);

/* Runs what is due, if no batch is in progress that it waits for. No lock held. */
void bus__mailbox_settle(struct bus_mailbox *mbox);

/* Returns when no callback is running that began before; at once inside a callback. No lock held. */
void bus__mailbox_await_callback(struct bus_mailbox *mbox);

/* Waits until everything put in so far is handled by its own thread. 0 or BUS_E_TIMEDOUT. */
int bus__mailbox_flush(struct bus_mailbox *mbox, int64_t deadline_ns);

/* The place behind all that is in its ring, and what publishers are about to put in; and whether everything before such a place is
 * handled. The drainer. */
uint64_t bus__mailbox_place(const struct bus_mailbox *mbox);
bool bus__mailbox_is_through(const struct bus_mailbox *mbox, uint64_t place);

/* What is inside is not delivered any more, from the next message on. After bus__mailbox_shut():
 * a call that sees the end empties the mailbox for good. */
void bus__mailbox_end_delivery(struct bus_mailbox *mbox);

/* Refuses further messages and wakes whoever waits. */
void bus__mailbox_shut(struct bus_mailbox *mbox);

/* Empties a mailbox that was shut; what is inside is lost. Only while nobody else drains it. */
void bus__mailbox_discard(struct bus_mailbox *mbox);

/* The same of a mailbox that is parked: what its source has for it stays there. */
void bus__mailbox_empty(struct bus_mailbox *mbox);

/* Ends the own thread: lets it empty the mailbox until the deadline, then joins it, or leaves it behind if a
 * callback does not return. Does nothing when there is no thread or somebody else ends it. */
void bus__mailbox_stop(struct bus_mailbox *mbox, int64_t deadline_ns);

/* For peers: the next message of the batch in progress or of a new one, NULL when that is used up or there is
 * none; mbox->msg_route is how it came; and the end of what was lent. */
const struct bus_msg *bus__mailbox_next(struct bus_mailbox *mbox);
void bus__mailbox_release(struct bus_mailbox *mbox);

/* For peers: reads the run of plain messages that the batch in progress has next, and takes the first n of those. */
unsigned bus__mailbox_see_run(struct bus_mailbox *mbox, struct plain_run *ret_run);
void bus__mailbox_take_run(struct bus_mailbox *mbox, const struct plain_run *run, unsigned n);

/* Adds the mailbox's counters; those of a receiver are its group's. Each message that waits costs a look: it takes at most `most`,
 * and counts no more as pending and offered. */
void bus__mailbox_add_stats(struct bus_mailbox *mbox, uint64_t most, struct bus_stats *stats);

/* Calls fn so that bus__in_callback() is true inside. */
void bus__run_as_callback(void (*fn)(void *arg), void *arg);

/* bus_mailbox_close(), but (wait false) without waiting for a callback that does not return. */
void bus__mailbox_end(struct bus_mailbox *mbox, bool wait);

/* Whether this thread is inside a callback of any mailbox. */
bool bus__in_callback(void);

#endif
