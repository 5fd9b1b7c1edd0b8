/* mailbox/batch.c: the end of a batch, and waiting for it. Its source begins it. */
#include "mailbox/parts.h"

#include "base/clock.h"
#include "base/park.h"
#include "mailbox/group.h"

static void
run_laters(struct later *due)
{
	while (due != NULL) {
		struct later *later = due;

		due = later->next;
		later->run(later);
	}
}

/* Moves the laters at the front whose position is not behind `position`; the positions of a list only rise. */
static void
move_due(struct later **list, struct later ***list_end, uint64_t position, struct later ***ret_end)
{
	while (*list != NULL && (*list)->position <= position) {
		**ret_end = *list;
		*ret_end = &(*list)->next;
		*list = (*list)->next;
	}
	if (*list == NULL)
		*list_end = list;
}

/* Takes out the laters that may run when everything before `position` is handled. m->lock held. */
static struct later *
take_due(struct bus_mailbox *m, uint64_t position)
{
	struct later *due = NULL, **end = &due;

	move_due(&m->laters_now, &m->laters_now_end, position, &end);
	move_due(&m->laters, &m->laters_end, position, &end);
	*end = NULL;
	atomic_store_explicit(
	    &m->later_count, m->laters_now != NULL || m->laters != NULL, memory_order_relaxed);
	return due;
}

/* The position before which everything is handled, now that a batch has ended. */
static uint64_t
handled_by(struct bus_mailbox *m)
{
	uint64_t position;

	if (!bus__is_receiver(m))
		return m->batch.end;
	bus__ring_lock(&m->queue->ring);
	position = bus__group_handled(m->queue);
	bus__ring_unlock(&m->queue->ring);
	return position;
}

void
bus__mailbox_notify_waiters(struct bus_mailbox *m)
{
	atomic_fetch_add_explicit(&m->phase_wakes, 1, memory_order_release);
	bus__unpark(&m->phase_wakes);
}

void
bus__mailbox_end_batch(struct bus_mailbox *m)
{
	struct bus_mailbox *queue = m->queue;
	struct later *due = NULL;
	uint32_t phase;

	bus__ring_release(&m->batch);
	m->source->done(m);
	m->borrowed = false;
	atomic_store_explicit(&m->drained, m->batch.end, memory_order_release);
	/* Release: this thread's reads of routes and slots are over. Acquire: laters that others deferred are complete. */
	phase = atomic_exchange_explicit(&m->phase, 0, memory_order_acq_rel);
	if (phase & PHASE_WAITED)
		bus__mailbox_notify_waiters(m);
	if ((phase & PHASE_DEFERRED) ||
	    atomic_load_explicit(&queue->later_count, memory_order_relaxed) > 0) {
		pthread_mutex_lock(&queue->lock);
		due = take_due(queue, handled_by(m));
		pthread_mutex_unlock(&queue->lock);
		run_laters(due);
	}
}

void
bus__mailbox_later(struct bus_mailbox *m, struct later *later)
{
	struct later ***end;

	m = m->queue;
	pthread_mutex_lock(&m->lock);
	end = later->position == 0 ? &m->laters_now_end : &m->laters_end;
	if (later->position == 0 && m->is_group) {
		/* Batches may overlap for ever, so a later waits only for those that have begun. */
		bus__ring_lock(&m->ring);
		later->position = bus__ring_out(&m->ring);
		bus__ring_unlock(&m->ring);
	}
	later->next = NULL; /* at the end: laters run in order */
	**end = later;
	*end = &later->next;
	atomic_store_explicit(&m->later_count, 1, memory_order_relaxed);
	pthread_mutex_unlock(&m->lock);
	bus__mailbox_unsettle(m);
}

/* Has the thread that ends the batch in progress run the laters. false: there is no batch, and none can begin under the head lock,
 * which is held. */
static bool
defer(struct bus_mailbox *m)
{
	uint32_t phase = atomic_load_explicit(&m->phase, memory_order_acquire);

	while (
	    phase != 0 && !atomic_compare_exchange_weak_explicit(&m->phase, &phase,
			      phase | PHASE_DEFERRED, memory_order_acq_rel, memory_order_acquire))
		;
	return phase != 0;
}

void
bus__mailbox_settle(struct bus_mailbox *m)
{
	struct later *due = NULL;

	m = m->queue;
	pthread_mutex_lock(&m->lock);
	bus__ring_lock(&m->ring);
	for (struct bus_mailbox *r = m->receivers; r != NULL; r = r->next_receiver)
		defer(r);
	if (m->is_group)
		due = take_due(m, bus__group_handled(m));
	else if (!defer(m)) /* everything taken out is handled */
		due = take_due(m, bus__ring_out(&m->ring));
	bus__ring_unlock(&m->ring);
	pthread_mutex_unlock(&m->lock);
	run_laters(due);
}

/* Asks the drainer to signal after its present callback. false: it is in none. */
static bool
ask_for_sign(struct bus_mailbox *m, unsigned while_phase, uint32_t *ret_seen)
{
	uint32_t phase;

	*ret_seen = atomic_load_explicit(&m->phase_wakes, memory_order_acquire);
	bus__ring_lock(&m->queue->ring);
	phase = atomic_load_explicit(&m->phase, memory_order_acquire);
	while ((phase & while_phase) &&
	       !atomic_compare_exchange_weak_explicit(&m->phase, &phase, phase | PHASE_WAITED,
		   memory_order_acq_rel, memory_order_acquire))
		;
	bus__ring_unlock(&m->queue->ring);
	return phase & while_phase;
}

void
bus__mailbox_end_delivery(struct bus_mailbox *m)
{
	uint32_t seen;

	atomic_store_explicit(&m->ended, true, memory_order_release);
	/* A batch in progress checks `ended` when it is asked to signal, a later one when it begins. */
	ask_for_sign(m, PHASE_CALLING, &seen);
}

void
bus__mailbox_await_callback(struct bus_mailbox *m)
{
	uint32_t seen;

	/* Waiting here could wait for this thread, or deadlock with a thread that waits for this one. */
	if (bus__in_callback())
		return;
	/* One signal is enough: later calls see what was stored before the request. */
	if (ask_for_sign(m, PHASE_CALLING, &seen))
		while (atomic_load_explicit(&m->phase_wakes, memory_order_acquire) == seen)
			bus__park(&m->phase_wakes, seen, INT64_MAX);
}

/* Whether the other receivers of its group have handled everything before `target`, too. */
static bool
is_flushed(struct bus_mailbox *m, uint64_t target, uint64_t mark)
{
	if (!m->source->has_passed(m, mark))
		return false;
	if (bus__is_receiver(m))
		return handled_by(m) >= target;
	return atomic_load_explicit(&m->drained, memory_order_acquire) >= target;
}

int
bus__mailbox_flush(struct bus_mailbox *m, int64_t deadline_ns)
{
	struct ring *ring = &m->queue->ring;
	uint64_t target = bus__ring_tail(ring) & ~RING_FLAG_BITS;
	uint64_t mark = m->source->mark(m);

	for (;;) {
		int64_t now = bus__now_ns(), until = deadline_ns;
		uint32_t seen;
		bool busy;

		if (is_flushed(m, target, mark))
			return 0;
		busy = ask_for_sign(m, PHASE_HELD, &seen);
		if (!busy && bus__ring_out(ring) >= target && !bus__is_receiver(m) &&
		    m->source->has_passed(m, mark))
			return 0; /* the rest was evicted */
		if (now >= deadline_ns)
			return BUS_E_TIMEDOUT;
		/* Not in a batch: it was just woken, a publisher is between claim and commit, or another receiver
		 * is working. */
		if ((!busy || bus__is_receiver(m)) && until > now + NAP_NS)
			until = now + NAP_NS;
		if (bus__park(&m->phase_wakes, seen, until) == BUS__INTERRUPTED &&
		    deadline_ns == INT64_MAX)
			return BUS__E_HANDLER;
	}
}

uint64_t
bus__mailbox_place(const struct bus_mailbox *m)
{
	return bus__ring_tail(&m->ring) & ~RING_FLAG_BITS;
}

bool
bus__mailbox_is_through(const struct bus_mailbox *m, uint64_t place)
{
	/* Relaxed: the drainer's own. Outside a batch, everything taken out is handled or evicted. */
	return atomic_load_explicit(&m->drained, memory_order_relaxed) >= place ||
	       (atomic_load_explicit(&m->phase, memory_order_relaxed) == 0 &&
		   bus__ring_out(&m->ring) >= place);
}
