/* mailbox/parts.h: shared by the files of a mailbox, and only by them.
 *
 *     mailbox.c   opening and ending a mailbox
 *     put.c       putting a message in
 *     wake.c      a drainer's wait for a batch, and its wake-up
 *     from_*.c    the sources of batches (mailbox/source.h)
 *     batch.c     the end of a batch, and waiting for it
 *     deliver.c   the messages of a batch, one by one
 *     drain.c     draining without a call of the owner
 *     stats.c     the counters */
#ifndef BUS_MAILBOX_PARTS_H
#define BUS_MAILBOX_PARTS_H

#include "base/fork.h"
#include "mailbox/mailbox.h"
#include "mailbox/source.h"

#define SPIN_MOST_NS 50000
#define SPIN_STEP    8 /* looks between two pauses */
#define NAP_NS       100000

/* The last step in the end of a mailbox, by its last drainer. */
void bus__mailbox_finish(struct bus_mailbox *mbox);

/* Wakes the publishers that wait for room. */
void bus__mailbox_announce_room(struct bus_mailbox *mbox);

/* Makes the drainer check the state of its mailbox. */
void bus__mailbox_wake_drainer(struct bus_mailbox *mbox);

/* Gets a batch. 0: no message arrived before the deadline (0: do not wait), a request ended, or the mailbox is shut. */
uint32_t bus__mailbox_await_batch(struct bus_mailbox *mbox, unsigned phase, int64_t deadline_ns);

/* Yields to a publisher between claim and commit, the `times`-th time in a row. */
void bus__mailbox_give_way(struct bus_mailbox *mbox, unsigned times);

/* How long the drainer spins for a message before it sleeps. */
int64_t bus__mailbox_spin_ns(const struct bus_mailbox *mbox);

/* Learns the length of the pauses between bursts; a long one counts only up to a bound, so that it is soon forgotten. */
void bus__mailbox_learn_gap(struct bus_mailbox *mbox, int64_t gap_ns);

/* Takes at most `most` messages out of the ring that feeds it, after up to `looks` looks. Called with the head lock, which it
 * releases. Otherwise like source.take. */
uint32_t bus__mailbox_take_frames(
    struct bus_mailbox *mbox, unsigned phase, unsigned looks, uint32_t most);

/* Ends a batch, wakes the threads that wait for that, and runs the laters that are due. */
void bus__mailbox_end_batch(struct bus_mailbox *mbox);

/* Signals the threads that have set PHASE_WAITED. */
void bus__mailbox_notify_waiters(struct bus_mailbox *mbox);

/* Runs the callbacks of at most `max` messages of a batch; the rest stays in the batch. Returns how many it
 * handled. */
unsigned bus__mailbox_call_batch(struct bus_mailbox *mbox, unsigned max);

/* Calls the subscriptions of the next message, of any kind, and counts it. */
__attribute__((noinline)) void bus__mailbox_call_any(struct bus_mailbox *mbox);

/* The functions of a source that has a ring and nothing else. */
void bus__ring_only_next(struct bus_mailbox *mbox, struct ring_view *ret_view);
unsigned bus__ring_only_see_run(struct bus_mailbox *mbox, struct plain_run *ret_run);
bool bus__ring_only_look(struct bus_mailbox *mbox);
void bus__ring_only_idle(struct bus_mailbox *mbox, int64_t deadline_ns);
bool bus__ring_only_has_read_for(struct bus_mailbox *mbox, int64_t due_ns);
int bus__ring_only_error(const struct bus_mailbox *mbox);
void bus__ring_only_version(const struct bus_mailbox *mbox, struct bus__version *version);
int bus__ring_only_unpark(struct bus_mailbox *mbox);
int bus__ring_only_begin_poll(struct bus_mailbox *mbox);
bool bus__ring_only_is_quiet(struct bus_mailbox *mbox);
uint64_t bus__ring_only_mark(const struct bus_mailbox *mbox);
bool bus__ring_only_has_passed(struct bus_mailbox *mbox, uint64_t mark);
uint64_t bus__ring_only_behind(struct bus_mailbox *mbox);
void bus__ring_only_progress(struct bus_mailbox *mbox, struct progress *progress);
void bus__ring_only_nothing(struct bus_mailbox *mbox);

/* Adds to a counter that only the drainer writes: no read-modify-write is needed. */
static inline void
bus__count_some(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(
	    counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void
bus__count_one(_Atomic uint64_t *counter)
{
	bus__count_some(counter, 1);
}

/* Whether a call may enter: 0, BUS_E_INVAL (NULL), BUS_E_FORKED or BUS_E_CLOSED. Inline, like the next: they run for
 * every call. */
static inline int
bus__mailbox_enter(const struct bus_mailbox *m)
{
	if (m == NULL)
		return BUS_E_INVAL;
	if (m->fork_generation != bus__fork_generation())
		return BUS_E_FORKED;
	return atomic_load_explicit(&m->closed, memory_order_acquire) ? BUS_E_CLOSED : 0;
}

/* Both sides change `busy`: either the end sees that this call is out, or this call sees that the end has begun. false: it has, and
 * the messages taken out are gone, also (lent) the one that this call would give. */
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
