/* core/batch.c: a batch out of the ring or the log: how it begins, how it ends, and who waits for its end. */
#include "core/mailbox_parts.h"

#include "base/clock.h"
#include "base/park.h"
#include "base/thread.h"
#include "core/bus_internal.h"
#include "core/group.h"
#include "core/reader.h"
#include "core/watch.h"

#define PACE_FEW  32 /* records of a batch: fewer, and a reader keeps pace with its writer */
#define PACE_STEP 4  /* pauses that it makes more each time before it looks again, */
#define PACE_MOST 32 /* up to half a microsecond or so */

/* --- the beginning --------------------------------------------------------------------------------------- */

static uint32_t
take_from_ring(struct bus_mailbox *m)
{
	struct ring *ring = &m->ring;
	uint32_t count;

	bus__ring_lock(ring);
	count = bus__ring_take(ring, &m->batch, RING_TAKE_FRAMES);
	bus__ring_unlock(ring);
	m->carried = bus__lost_sum(m->carried, m->batch.lost);
	return count;
}

static void
count_lapped(struct bus_mailbox *m, uint64_t lost)
{
	if (lost == 0)
		return;
	m->carried = bus__lost_sum(m->carried, lost);
	atomic_fetch_add_explicit(&m->lapped, lost, memory_order_relaxed);
	atomic_store_explicit(&m->lossy, true, memory_order_relaxed);
}

/* What a link lost on its way to this bus, as the log says between two messages. */
static void
count_gap(struct bus_mailbox *m)
{
	uint64_t gap = m->reader->gap;

	if (gap == 0)
		return;
	m->reader->gap = 0;
	m->carried = bus__lost_sum(m->carried, gap);
	bus__mailbox_count_gap(m, gap);
}

static uint32_t
take_from_log(struct bus_mailbox *m)
{
	uint64_t lost = 0;
	uint32_t count = bus__reader_take(m, &lost);

	count_lapped(m, lost);
	count_gap(m);
	m->logged = count > 0;
	m->batch.count = count;
	m->batch.begin = m->batch.end = bus__ring_out(&m->ring);
	atomic_fetch_add_explicit(&m->read, count, memory_order_relaxed);
	return count;
}

bool
bus__mailbox_has_more(const struct bus_mailbox *m, unsigned looks)
{
	do {
		if (!bus__ring_empty(&m->ring) || bus__reader_has_news(m->reader))
			return true;
	} while (--looks > 0);
	return false;
}

/* bus__mailbox_begin_batch() where it may come from the log, and what comes from here goes first. It says that it holds a
 * batch before it looks for one, since routes are found by that. */
static __attribute__((noinline)) uint32_t
begin_logged(struct bus_mailbox *m, unsigned phase, unsigned looks)
{
	struct reader *r = m->reader;
	bool at_once;
	uint32_t count;

	bus__watch_leave(m);
	for (unsigned i = 0; i < r->pace; i++)
		bus__cpu_relax();
	at_once = bus__mailbox_has_more(m, 1);
	if (!at_once)
		r->pace = 0;
	if (!at_once && (looks == 1 || !bus__mailbox_has_more(m, looks - 1)))
		return 0;
	bus__ring_lock(&m->ring);
	atomic_store_explicit(&m->phase, phase, memory_order_relaxed);
	bus__ring_unlock(&m->ring);
	if (m->full == BUS_FULL_LATEST) {
		count_lapped(m, bus__reader_pump(m));
		count_gap(m);
	}
	m->at = m->handled = 0;
	count = take_from_ring(m);
	if (count == 0 && m->full != BUS_FULL_LATEST)
		count = take_from_log(m);
	if (count == 0)
		bus__mailbox_end_batch(m);
	/* One that keeps pace with its writer takes the tail from it again and again: let some more come. Single ones may be
	 * answers, whose questions wait for us. */
	if (count < 2 || count >= PACE_FEW)
		r->pace = 0;
	else if (at_once && r->pace < PACE_MOST)
		r->pace += PACE_STEP;
	return count;
}

#define STUCK_LOOKS 20
#define STUCK_NS    INT64_C(100000000)

bool
bus__mailbox_is_stuck(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	uint64_t before;

	if (r == NULL || !bus__ring_empty(&m->ring) || !bus__reader_has_news(r)) {
		if (r != NULL)
			r->stuck_looks = 0;
		return false;
	}
	before = r->stuck_at;
	r->stuck_at = bus__log_position(&r->cursor);
	if (r->stuck_at != before || r->stuck_looks == 0) {
		r->stuck_ns = bus__now_ns();
		r->stuck_looks = 0;
	}
	/* A correct writer leaves nothing that cannot be read; one look may have come in between two of its steps. */
	if (++r->stuck_looks >= STUCK_LOOKS && bus__now_ns() - r->stuck_ns >= STUCK_NS)
		bus__log_break(r->log);
	return r->stuck_at == before;
}

uint32_t
bus__mailbox_begin_batch(struct bus_mailbox *m, unsigned phase, unsigned looks)
{
	/* A receiver takes one message, so that the next goes to another. */
	uint32_t most = bus__is_receiver(m) ? 1 : RING_TAKE_FRAMES, count;
	struct ring *ring = &m->queue->ring;
	uint64_t before;
	bool starved;

	if (m->reader != NULL)
		return begin_logged(m, phase, looks);
	bus__ring_lock(ring);
	before = bus__ring_out(ring);
	if (bus__is_receiver(m) && !bus__group_takes(m)) {
		bus__ring_unlock(ring);
		return 0;
	}
	bus__ring_ready(ring, looks);
	count = bus__ring_take(ring, &m->batch, most);
	m->at = m->handled = 0;
	m->carried = bus__lost_sum(m->carried, m->batch.lost);
	if (count > 0) /* nobody else writes it while it is 0 */
		atomic_store_explicit(&m->phase, phase, memory_order_relaxed);
	/* Room may come from a claim that was given up, too. */
	starved = ring->starved && bus__ring_out(ring) != before;
	ring->starved &= !starved;
	bus__ring_unlock(ring);
	if (starved)
		bus__mailbox_announce_room(m->queue);
	if (count > 0 && bus__is_receiver(m))
		bus__group_pass_on(m->queue);
	return count;
}

/* --- the end --------------------------------------------------------------------------------------------- */

static void
run_laters(struct later *due)
{
	while (due != NULL) {
		struct later *later = due;

		due = later->next;
		later->run(later);
	}
}

/* Moves the laters in front whose position is not behind `position`; those of a list only rise. */
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

/* Takes out what may run when everything before `position` is handled. m->lock held. */
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
	/* What went through the ring is handled when that is empty. */
	if (m->reader != NULL && (m->full != BUS_FULL_LATEST || bus__ring_empty(&m->ring)))
		bus__reader_passed(m->reader);
	m->logged = false;
	atomic_store_explicit(&m->drained, m->batch.end, memory_order_release);
	/* Release: my reads of routes and slots are over. Acquire: what others deferred is complete. */
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

uint64_t
bus__mailbox_behind(struct bus_mailbox *m)
{
	uint64_t tail;

	/* A drainer holds it from the choice of a message to its place in the ring. */
	if (m->reader != NULL)
		pthread_mutex_lock(&m->reader->lock);
	tail = bus__ring_tail(&m->ring) & ~RING_FLAG_BITS;
	if (m->reader != NULL)
		pthread_mutex_unlock(&m->reader->lock);
	return tail;
}

void
bus__mailbox_later(struct bus_mailbox *m, struct later *later)
{
	struct bus *bus = m->bus;
	struct later ***end;

	m = m->queue;
	pthread_mutex_lock(&m->lock);
	end = later->position == 0 ? &m->laters_now_end : &m->laters_end;
	if (later->position == 0 && m->is_group) {
		/* Batches may overlap for ever: it waits for those that have begun. */
		bus__ring_lock(&m->ring);
		later->position = bus__ring_out(&m->ring);
		bus__ring_unlock(&m->ring);
	}
	later->next = NULL; /* at the end: what comes first runs first */
	**end = later;
	*end = &later->next;
	atomic_store_explicit(&m->later_count, 1, memory_order_relaxed);
	pthread_mutex_unlock(&m->lock);
	if (m->next_unsettled == NULL) {
		m->next_unsettled = bus->unsettled != NULL ? bus->unsettled : m;
		bus->unsettled = bus__mailbox_ref(m);
	}
}

/* Lets whoever ends the batch in progress look for laters. false: there is none, nor can one begin under the head lock,
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
	else if (!defer(m)) /* whatever was taken out is handled */
		due = take_due(m, bus__ring_out(&m->ring));
	bus__ring_unlock(&m->ring);
	pthread_mutex_unlock(&m->lock);
	run_laters(due);
}

/* Asks the drainer for a sign after the callback it is in. false: it is in none. */
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
	/* A batch in progress looks at `ended` when it is asked for a sign, one to come when it begins. */
	ask_for_sign(m, PHASE_CALLING, &seen);
}

void
bus__mailbox_await_callback(struct bus_mailbox *m)
{
	uint32_t seen;

	/* Waiting here could be waiting for oneself, or for someone who waits for us. */
	if (bus__in_callback())
		return;
	/* One sign is enough: the calls behind it see what was stored before we asked. */
	if (ask_for_sign(m, PHASE_CALLING, &seen))
		while (atomic_load_explicit(&m->phase_wakes, memory_order_acquire) == seen)
			bus__park(&m->phase_wakes, seen, INT64_MAX);
}

/* Whether everything before `target` is handled by the other receivers of its group too. */
static bool
is_flushed(struct bus_mailbox *m, uint64_t target, uint64_t log_target)
{
	if (m->reader != NULL && !bus__reader_has_passed(m, log_target))
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
	uint64_t log_target = m->reader != NULL ? bus__log_tail(m->reader->log) : 0;

	for (;;) {
		int64_t now = bus__now_ns(), until = deadline_ns;
		uint32_t seen;
		bool busy;

		if (is_flushed(m, target, log_target))
			return 0;
		busy = ask_for_sign(m, PHASE_HELD, &seen);
		if (!busy && bus__ring_out(ring) >= target && !bus__is_receiver(m) &&
		    (m->reader == NULL || bus__reader_has_passed(m, log_target)))
			return 0; /* the rest was evicted */
		if (now >= deadline_ns)
			return BUS_E_TIMEDOUT;
		/* Not in a batch: it was just woken, a publisher stands between claim and commit, or another receiver
		 * is at work. */
		if ((!busy || bus__is_receiver(m)) && until > now + NAP_NS)
			until = now + NAP_NS;
		if (bus__park(&m->phase_wakes, seen, until) == BUS__INTERRUPTED &&
		    deadline_ns == INT64_MAX)
			return BUS__E_HANDLER;
	}
}
