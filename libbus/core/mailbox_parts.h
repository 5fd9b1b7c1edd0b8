/* core/mailbox_parts.h: what the files of a mailbox share, and nobody else needs.
 *
 *     mailbox.c   how it begins, and how it ends
 *     put.c       a message on its way in
 *     wake.c      how a drainer waits for a batch, and what ends its sleep
 *     batch.c     how a batch begins, how it ends, and who waits for its end
 *     deliver.c   the messages of a batch, one by one
 *     drain.c     draining without a call of the owner
 *     stats.c     what became of the messages */
#ifndef BUS_CORE_MAILBOX_PARTS_H
#define BUS_CORE_MAILBOX_PARTS_H

#include "base/fork.h"
#include "core/bus_internal.h"
#include "core/mailbox.h"

#define SPIN_MOST_NS 50000
#define SPIN_STEP    8 /* looks between two pauses */
#define NAP_NS       100000

/* The last thing that happens to a mailbox that was ended, by whoever drained it last. */
void bus__mailbox_finish(struct bus_mailbox *mbox);

/* Wakes whoever waits for room. */
void bus__mailbox_announce_room(struct bus_mailbox *mbox);

/* The drainer is to look what became of its mailbox. */
void bus__mailbox_wake_drainer(struct bus_mailbox *mbox);

/* Gets a batch. 0: none came before the deadline (0: do not wait), a request ended, or the mailbox is shut. */
uint32_t bus__mailbox_await_batch(struct bus_mailbox *mbox, unsigned phase, int64_t deadline_ns);

/* Lets a publisher that stands between claim and commit go on, asked for the so many-th time. */
void bus__mailbox_give_way(struct bus_mailbox *mbox, unsigned times);

/* Whether nothing is inside that it may still take. */
bool bus__mailbox_has_nothing_left(struct bus_mailbox *mbox);

/* Whether there may be something, after up to `looks` looks; on a named bus. */
bool bus__mailbox_has_more(const struct bus_mailbox *mbox, unsigned looks);

/* Takes a batch out, after up to `looks` looks whether there is one; `phase` is what shows meanwhile. Returns how many
 * messages it has. */
uint32_t bus__mailbox_begin_batch(struct bus_mailbox *mbox, unsigned phase, unsigned looks);

/* Asked when a batch was empty: whether something is in the log that could not be read, then and the last time. So it is
 * damaged, and nothing is gained by trying again at once. */
bool bus__mailbox_is_stuck(struct bus_mailbox *mbox);

/* Lets it go, wakes whoever waits for that, and runs the laters that are due. */
void bus__mailbox_end_batch(struct bus_mailbox *mbox);

/* Gives the sign that whoever has set PHASE_WAITED waits for. */
void bus__mailbox_notify_waiters(struct bus_mailbox *mbox);

/* Runs the callbacks of one batch of at most `max` messages; those above it stay in the batch. Returns how many it
 * handled. */
unsigned bus__mailbox_call_batch(struct bus_mailbox *mbox, unsigned max);

/* Whether a call may go in: 0, BUS_E_INVAL (NULL), BUS_E_FORKED or BUS_E_CLOSED. Inline, as is the next: they run for
 * every call. */
static inline int
bus__mailbox_enter(const struct bus_mailbox *m)
{
	if (m == NULL)
		return BUS_E_INVAL;
	if (m->bus->fork_generation != bus__fork_generation())
		return BUS_E_FORKED;
	return atomic_load_explicit(&m->closed, memory_order_acquire) ? BUS_E_CLOSED : 0;
}

/* Both sides change `busy`, so either the end sees that we are out, or we see that it has come. false: it has, and what
 * was taken out is gone, also (lent) the message that this call was to give. */
static inline bool
bus__mailbox_leave(struct bus_mailbox *m, bool lent)
{
	atomic_exchange_explicit(&m->busy, false, memory_order_acq_rel);
	if (!atomic_load_explicit(&m->ended, memory_order_acquire) ||
	    atomic_exchange_explicit(&m->busy, true, memory_order_acq_rel))
		return true;
	if (lent) {
		atomic_fetch_sub_explicit(&m->delivered, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&m->lost_closed, 1, memory_order_relaxed);
	}
	bus__mailbox_finish(m);
	atomic_exchange_explicit(&m->busy, false, memory_order_acq_rel);
	return false;
}

#endif
