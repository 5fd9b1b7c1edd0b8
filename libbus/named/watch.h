/* named/watch.h: how the threads of a named bus rest. One of them, the leader, sleeps on the log and looks at each record for
 * all mailboxes that are quiet; the others sleep on a word of their own. docs/design/0010-one-sleeper.md has the whole argument.
 *
 * A quiet mailbox has handled everything before the watch's place, and nothing before it is unread. Its own cursor stands still. When the
 * scan comes to a record for it, the mailbox is hit: it is woken, continues there by itself, and leaves the scan.
 *
 * Lock order: the bus lock, a reader's lock, the watch's, the inbox's. */
#ifndef BUS_NAMED_WATCH_H
#define BUS_NAMED_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "named/heard.h"
#include "named/place.h"
#include "log/log.h"

struct bus;
struct bus_mailbox;
struct watch_waiter;

enum watch_state { WATCH_AWAKE, WATCH_QUIET, WATCH_HIT };

/* Of a reader. */
struct watched {
	enum watch_state state; /* watch lock, as all but what says otherwise */
	_Atomic bool
	    rests; /* it is not awake: the drainer comes back before it reads. Relaxed: the locks follow */
	struct watch_place resume; /* of a hit */
	struct watch_place
	    noted; /* where it would have gone on when a subscription began; reader lock */
	struct bus_mailbox *next, *prev; /* quiet ones */
};

struct watch {
	pthread_mutex_t lock;    /* all but the atomics */
	struct log_cursor place; /* meant only while there are quiet mailboxes */
	struct bus_mailbox *quiet;
	struct bus__heard heard; /* topics, by their numbers and names */
	uint32_t learned;
	_Atomic uint32_t
	    changes; /* of its tables (heard.h). Release after a change, acquire by the scan */
	struct watch_waiter *leader, *first,
	    *last; /* and the next leaders; NULL only if none waits */
	/* The word of the leader that sleeps on the log, or is about to. seq_cst: stored before the leader looks at its word
	 * again; read by bus__watch_call() behind the change of the word. One of the two sees the other. */
	_Atomic uint32_t *_Atomic sleeper;
	_Atomic uint64_t looks, hits,
	    sleeps; /* records, told mailboxes, sleeps on the log; for tests */
};

int bus__watch_init(struct watch *watch);
void bus__watch_fini(struct watch *watch);

/* --- the drainer ------------------------------------------------------------------------------------------------ */

/* Has the scan look for the mailbox from where it stands. false: the log has gone on, or the drainer is to look itself.
 * A mailbox that reads nothing is asked for nothing: true. No lock held. */
bool bus__watch_enter(struct bus_mailbox *mbox);

/* The same by anybody, with the bus lock and the reader's. */
bool bus__watch_enter_locked(struct bus_mailbox *mbox);

/* The mailbox leaves the watch: its cursor stands where it continues. Does nothing for an awake mailbox. */
void bus__watch_leave(struct bus_mailbox *mbox);
void bus__watch_leave_locked(struct bus_mailbox *mbox); /* with the reader's lock */

/* Sleeps until *word differs from `seen`; leads the scan if no other thread does. No lock held. 0, BUS_E_TIMEDOUT,
 * BUS__INTERRUPTED. is_relay: leads last. */
int bus__watch_sleep(
    struct bus *bus, _Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns, bool is_relay);

/* --- anybody ---------------------------------------------------------------------------------------------------- */

/* Ends a sleep on the log of the thread that sleeps for this word, which has just been changed (seq_cst). */
void bus__watch_call(struct bus *bus, _Atomic uint32_t *word);

/* Tells a mailbox to look: wakes its drainer, makes its descriptor readable, wakes a peer that sleeps. */
void bus__watch_tell(struct bus_mailbox *mbox);

/* A topic is about to be garbage. Bus lock. */
static inline void
bus__watch_changed(struct watch *watch)
{
	atomic_fetch_add_explicit(&watch->changes, 1, memory_order_release);
}

/* Around the beginning of a subscription, with bus and reader lock: what the scan passes over in between it looks at again. */
void bus__watch_note(struct bus_mailbox *mbox);
void bus__watch_joined(struct bus_mailbox *mbox);

/* Whether a mailbox is quiet, and nothing before this position is for it. No lock held. */
bool bus__watch_has_passed(struct bus_mailbox *mbox, uint64_t position);

/* What it has passed: at least `passed`. */
uint64_t bus__watch_reached(struct bus_mailbox *mbox, uint64_t passed);

#endif
