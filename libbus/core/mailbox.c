#define _GNU_SOURCE
#include "core/mailbox.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/thread.h"
#include "core/bus_internal.h"
#include "core/call.h"
#include "core/group.h"
#include "core/members.h"
#include "core/notice.h"
#include "core/reader.h"
#include "core/relay.h"
#include "core/request.h"

#define DEFAULT_BYTES    (256u << 10)
#define KEPT_MOST        (64u << 20) /* of a ring that is made for the values that a log keeps */
#define EVICT_TRIES      8           /* rounds of making room before a publisher drops its own */
#define SPIN_FLOOR_NS    1000        /* costs less than the wake-up it saves, at any rate */
#define SPIN_MOST_NS     50000
#define SPIN_STEP        8  /* looks between two pauses */
#define PACE_FEW         32 /* records of a batch: fewer, and a reader keeps pace with its writer */
#define PACE_STEP        4  /* pauses that it makes more each time before it looks again, */
#define PACE_MOST        32 /* up to half a microsecond or so */
#define SPIN_PAUSES      16 /* pauses between two looks at the clock */
#define FIRST_LOOKS      512
#define ROOM_SPIN_NS     5000
#define NAP_NS           100000
#define LOOKS_PER_YIELD  64
#define STALLS_PER_YIELD 4
#define NS_PER_MS        INT64_C(1000000)

/* The callbacks under way on this thread; not a flag, since dispatch may be called inside one. */
static _Thread_local unsigned callback_depth;
static _Thread_local uint32_t
    callback_fork; /* the generation in which they began: a forked child is in none */

bool
bus__in_callback(void)
{
	return callback_depth > 0 && callback_fork == bus__fork_generation();
}

/* The program's function may come to a cancellation point, and nobody would end the batch. */
static int
enter_callback(void)
{
	if (!bus__in_callback())
		callback_depth = 0;
	callback_depth++;
	callback_fork = bus__fork_generation();
	return bus__cancel_off();
}

static void
leave_callback(int cancel)
{
	if (callback_depth > 0) /* a child that returns from it may have begun to count anew */
		callback_depth--;
	bus__cancel_back(cancel);
}

void
bus__run_as_callback(void (*fn)(void *arg), void *arg)
{
	int cancel = enter_callback();

	fn(arg);
	leave_callback(cancel);
}

/* --- life ------------------------------------------------------------------------------------------------ */

size_t
bus__mailbox_bytes(const struct bus_mailbox_config *cfg)
{
	return cfg->bytes != 0 ? cfg->bytes : DEFAULT_BYTES;
}

/* On a named bus the values that are kept come through the ring, of which only what is used takes memory. */
static size_t
ring_bytes(const struct bus *bus, const struct bus_mailbox_config *cfg)
{
	size_t bytes = bus__mailbox_bytes(cfg);
	uint64_t kept;

	if (bus->log == NULL || cfg->bytes != 0)
		return bytes;
	kept = 2 * bus__log_kept_bytes(bus->log);
	if (kept > KEPT_MOST)
		kept = KEPT_MOST;
	return kept > bytes ? (size_t)kept : bytes;
}

int
bus__mailbox_new(struct bus *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox *queue,
    struct bus_mailbox **ret_mbox)
{
	struct bus_mailbox *m = bus__aligned(RING_LINE, sizeof *m);
	int err = 0;

	if (m == NULL)
		return BUS_E_NOMEM;
	m->queue = queue != NULL ? queue : m;
	if (!bus__is_receiver(m))
		err = bus__ring_init(&m->ring, ring_bytes(bus, cfg), 0);
	if (err < 0)
		goto free_mailbox;
	if (bus->log != NULL)
		err = bus__reader_new(bus->log, cfg, &m->reader);
	if (err < 0)
		goto fini_ring;
	if (pthread_mutex_init(&m->lock, NULL) != 0) {
		err = BUS_E_NOMEM;
		goto free_reader;
	}
	if (bus__is_receiver(m))
		m->number = bus__mailbox_ref(queue)->number;
	else
		m->number = ++bus->last_mailbox;
	m->full = cfg->full;
	m->drain = cfg->drain;
	atomic_init(&m->refs, 1);
	atomic_init(&m->fd, -1);
	bus__deadlines_init(&m->deadlines);
	m->gap_ns = 2 * SPIN_MOST_NS;
	m->laters_end = &m->laters;
	m->laters_now_end = &m->laters_now;
	m->msg.size = sizeof m->msg;
	m->bus = bus__ref(bus);
	m->next = bus->mailboxes;
	if (m->next != NULL)
		m->next->prev = m;
	bus->mailboxes = m;
	if (m->drain == BUS_DRAIN_PUBLISHER)
		bus__ring_sleep(&m->ring); /* empty and unknown to anybody: it cannot fail */
	*ret_mbox = m;
	return 0;

free_reader:
	bus__reader_free(m->reader);
fini_ring:
	if (!bus__is_receiver(m))
		bus__ring_fini(&m->ring);
free_mailbox:
	bus__free(m);
	return err;
}

struct bus_mailbox *
bus__mailbox_ref(struct bus_mailbox *mbox)
{
	atomic_fetch_add_explicit(&mbox->refs, 1, memory_order_relaxed);
	return mbox;
}

void
bus__mailbox_unref(struct bus_mailbox *mbox)
{
	struct bus_mailbox *queue = mbox->queue;
	struct bus *bus = mbox->bus;
	int fd;

	if (atomic_fetch_sub_explicit(&mbox->refs, 1, memory_order_acq_rel) != 1)
		return;
	fd = atomic_load_explicit(&mbox->fd, memory_order_relaxed);
	if (fd >= 0)
		bus__fd_close(fd);
	bus__deadlines_fini(&mbox->deadlines);
	pthread_mutex_destroy(&mbox->lock);
	bus__reader_free(mbox->reader);
	if (queue == mbox)
		bus__ring_fini(&mbox->ring);
	else
		bus__mailbox_unref(queue);
	bus__free(mbox->group);
	bus__free(mbox);
	bus__unref(bus);
}

/* --- waking ---------------------------------------------------------------------------------------------- */

static void
signal_fd(int fd)
{
	uint64_t one = 1;

	/* It can only fail by being full, and then it is readable already. */
	if (fd >= 0 && bus__fd_write(fd, &one, sizeof one) < 0)
		return;
}

void
bus__mailbox_signal_fd(struct bus_mailbox *m)
{
	/* Acquire: pairs with the release of whoever made it, perhaps just now. */
	signal_fd(atomic_load_explicit(&m->fd, memory_order_acquire));
}

bool
bus__mailbox_clear_fd(struct bus_mailbox *m)
{
	int fd = atomic_load_explicit(&m->fd, memory_order_acquire);
	uint64_t cleared;

	return fd < 0 || bus__fd_read(fd, &cleared, sizeof cleared) > 0 || errno == EAGAIN;
}

void
bus__mailbox_stir(struct bus_mailbox *m)
{
	/* Release: a drainer that sees this sees what it is woken for. */
	atomic_fetch_add_explicit(&m->wakes, 1, memory_order_release);
	bus__unpark(&m->wakes);
	if (m->reader != NULL)
		bus__log_call(m->reader->log); /* it sleeps there */
}

void
bus__mailbox_wake_all(struct bus_mailbox *m)
{
	bus__mailbox_stir(m);
	bus__mailbox_signal_fd(m);
}

/* The drainer is to look what became of its mailbox. */
static void
wake_drainer(struct bus_mailbox *m)
{
	bus__mailbox_wake_all(m);
	if (bus__is_receiver(m))
		bus__mailbox_wake_all(m->queue); /* it sleeps there */
}

void
bus__mailbox_wake(struct bus_mailbox *m, struct bus_mailbox **owed)
{
	if (m->is_peer) {
		m->peer_wake(m->peer_arg);
		/* Release: pairs with bus__peer_close(), which frees what peer_arg is. */
		atomic_fetch_add_explicit(&m->peer_woken, 1, memory_order_release);
		return;
	}
	if (m->drain == BUS_DRAIN_PUBLISHER) {
		/* Until it sleeps again nobody else comes here with it: the link is ours. */
		m->next_owed = *owed;
		*owed = bus__mailbox_ref(m);
		return;
	}
	if (m->is_group) {
		atomic_fetch_add_explicit(&m->wakes, 1, memory_order_release);
		bus__unpark_one(&m->wakes);
	} else {
		bus__mailbox_stir(m);
	}
	/* By the claim's CAS on tail an fd is seen that was stored before the drainer slept. */
	bus__mailbox_signal_fd(m);
}

int
bus__mailbox_wake_now(struct bus_mailbox *m)
{
	struct bus_mailbox *owed = NULL;

	bus__mailbox_wake(m, &owed);
	bus__mailbox_drain_owed(owed);
	return 0;
}

/* The policy lost a message: to be announced, but not when an announcement was the reason. */
static void
note_loss(struct bus_mailbox *m, const struct ring_item *item)
{
	const struct route *route = item->route;

	if (!atomic_load_explicit(&m->lossy, memory_order_relaxed) && route->topic->name[0] != '$')
		atomic_store_explicit(&m->lossy, true, memory_order_relaxed);
}

/* A message that did not get in. */
static void
give_up(struct bus_mailbox *m, const struct ring_item *item, enum ring_answer answer)
{
	if (answer == RING_FULL) {
		bus__ring_drop(&m->ring);
		note_loss(m, item);
	} else { /* RING_SHUT: it closed while this publisher was on its way */
		atomic_fetch_add_explicit(&m->lost_shut, 1, memory_order_relaxed);
	}
}

/* Puts a frame in, dropping the oldest for it if the policy says so. false: it is not in, and that is counted. */
static bool
put_frame(struct bus_mailbox *m, const struct ring_item *item, struct bus_mailbox **owed)
{
	enum ring_answer answer;
	unsigned tries = 0;

	while ((answer = bus__ring_put(&m->ring, item)) == RING_FULL) {
		if (++tries > EVICT_TRIES ||
		    !(m->full == BUS_FULL_DROP_NEWEST ? bus__ring_reclaim(&m->ring)
						      : bus__ring_evict(&m->ring, item)))
			break;
		if (m->full != BUS_FULL_DROP_NEWEST)
			note_loss(m, item);
	}
	if (answer == RING_WAKE)
		bus__mailbox_wake(m, owed);
	if (answer == RING_OK || answer == RING_WAKE)
		return true;
	give_up(m, item, answer);
	return false;
}

/* Stores the newest message of a topic; a frame says so unless one is under way. */
static void
put_latest(struct bus_mailbox *m, const struct ring_item *item, struct bus_mailbox **owed)
{
	struct route *route = item->route;
	const struct ring_item frame = {.route = route, .cell = &route->cell, .len = item->len};
	struct cell_value *value = bus__cell_value_new(item);
	uint64_t replaced = 0;

	if (value == NULL) {
		give_up(m, item, RING_FULL);
		return;
	}
	if (item->flags & RING_KEPT) {
		/* A value that waits is this one or newer news. */
		if (!bus__cell_put_first(&route->cell, value)) {
			bus__cell_value_free(value);
			return;
		}
	} else if (bus__cell_put(&route->cell, value) == CELL_REPLACED) {
		atomic_fetch_add_explicit(&m->replaced, 1, memory_order_relaxed);
		note_loss(m, item);
		return;
	}
	if (put_frame(m, &frame, owed))
		return;
	bus__cell_value_free(bus__cell_take(&route->cell, &replaced));
	/* What others replaced there meanwhile was to be told by the message that did not get in. */
	bus__ring_tell(&m->ring, replaced);
}

void
bus__mailbox_put(struct bus_mailbox *m, const struct ring_item *item, struct bus_mailbox **owed)
{
	if (m->full == BUS_FULL_LATEST) {
		put_latest(m, item, owed);
		return;
	}
	if (item->block != NULL)
		bus__block_ref(item->block);
	if (!put_frame(m, item, owed))
		bus__block_unref(item->block);
}

bool
bus__mailbox_await_room(struct bus_mailbox *m, const struct ring_item *item, int64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&m->room, memory_order_acquire);
	int64_t now = bus__now_ns(), spin_until = now + ROOM_SPIN_NS;
	uint64_t out = bus__ring_out(&m->ring);

	for (; bus__cpus() > 1 && now < spin_until && now < deadline_ns; now = bus__now_ns())
		for (unsigned i = 0; i < SPIN_STEP; i++) {
			if (bus__ring_out(&m->ring) != out)
				return true;
			bus__cpu_relax();
		}
	if (bus__ring_starve(&m->ring, item))
		return true;
	return bus__park(&m->room, seen, deadline_ns) != BUS_E_TIMEDOUT;
}

static void
announce_room(struct bus_mailbox *m)
{
	atomic_fetch_add_explicit(&m->room, 1, memory_order_release);
	bus__unpark(&m->room);
}

/* --- batches --------------------------------------------------------------------------------------------- */

static void end_batch(struct bus_mailbox *m);

static uint32_t
take_from_ring(struct bus_mailbox *m)
{
	struct ring *ring = &m->ring;
	uint32_t count;

	bus__ring_lock(ring);
	count = bus__ring_take(ring, &m->batch, RING_TAKE_FRAMES);
	bus__ring_unlock(ring);
	m->carried += m->batch.lost;
	return count;
}

static void
count_lapped(struct bus_mailbox *m, uint64_t lost)
{
	if (lost == 0)
		return;
	m->carried += lost;
	atomic_fetch_add_explicit(&m->lapped, lost, memory_order_relaxed);
	atomic_store_explicit(&m->lossy, true, memory_order_relaxed);
}

static uint32_t
take_from_log(struct bus_mailbox *m)
{
	uint64_t lost = 0;
	uint32_t count = bus__reader_take(m, &lost);

	count_lapped(m, lost);
	m->logged = count > 0;
	m->batch.count = count;
	m->batch.begin = m->batch.end = bus__ring_out(&m->ring);
	atomic_fetch_add_explicit(&m->read, count, memory_order_relaxed);
	return count;
}

/* Whether there may be something, after up to `looks` looks. */
static bool
has_more(const struct bus_mailbox *m, unsigned looks)
{
	do {
		if (!bus__ring_empty(&m->ring) || bus__reader_has_news(m->reader))
			return true;
	} while (--looks > 0);
	return false;
}

/* The same where it may come from the log, and what comes from here goes first. It says that it holds a batch before
 * it looks for one, since routes are found by that. */
static __attribute__((noinline)) uint32_t
begin_logged(struct bus_mailbox *m, unsigned phase, unsigned looks)
{
	struct reader *r = m->reader;
	bool at_once;
	uint32_t count;

	for (unsigned i = 0; i < r->pace; i++)
		bus__cpu_relax();
	at_once = has_more(m, 1);
	if (!at_once)
		r->pace = 0;
	if (!at_once && (looks == 1 || !has_more(m, looks - 1)))
		return 0;
	bus__ring_lock(&m->ring);
	atomic_store_explicit(&m->phase, phase, memory_order_relaxed);
	bus__ring_unlock(&m->ring);
	if (m->full == BUS_FULL_LATEST)
		count_lapped(m, bus__reader_pump(m));
	m->at = m->handled = 0;
	count = take_from_ring(m);
	if (count == 0 && m->full != BUS_FULL_LATEST)
		count = take_from_log(m);
	if (count == 0)
		end_batch(m);
	/* One that keeps pace with its writer takes the tail from it again and again: let some more come. Single ones may be
	 * answers, whose questions wait for us. */
	if (count < 2 || count >= PACE_FEW)
		r->pace = 0;
	else if (at_once && r->pace < PACE_MOST)
		r->pace += PACE_STEP;
	return count;
}

/* Takes a batch out, after up to `looks` looks whether there is one. */
static uint32_t
begin_batch(struct bus_mailbox *m, unsigned phase, unsigned looks)
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
	m->carried += m->batch.lost;
	if (count > 0) /* nobody else writes it while it is 0 */
		atomic_store_explicit(&m->phase, phase, memory_order_relaxed);
	/* Room may come from a claim that was given up, too. */
	starved = ring->starved && bus__ring_out(ring) != before;
	ring->starved &= !starved;
	bus__ring_unlock(ring);
	if (starved)
		announce_room(m->queue);
	if (count > 0 && bus__is_receiver(m))
		bus__group_pass_on(m->queue);
	return count;
}

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

static void
notify_waiters(struct bus_mailbox *m)
{
	atomic_fetch_add_explicit(&m->phase_wakes, 1, memory_order_release);
	bus__unpark(&m->phase_wakes);
}

static void
end_batch(struct bus_mailbox *m)
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
		notify_waiters(m);
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
	if (m->reader != NULL && !bus__reader_has_passed(m->reader, log_target))
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
		    (m->reader == NULL || bus__reader_has_passed(m->reader, log_target)))
			return 0; /* the rest was evicted */
		if (now >= deadline_ns)
			return BUS_E_TIMEDOUT;
		/* Not in a batch: it was just woken, a publisher stands between claim and commit, or another receiver
		 * is at work. */
		if ((!busy || bus__is_receiver(m)) && until > now + NAP_NS)
			until = now + NAP_NS;
		bus__park(&m->phase_wakes, seen, until);
	}
}

/* --- draining -------------------------------------------------------------------------------------------- */

/* Reads the next one where it may come from the log. What comes from the ring is for all who are there: it has no
 * place in the log's order. */
static void
next_here(struct bus_mailbox *m, struct ring_view *view)
{
	if (!m->logged) {
		bus__ring_read(&m->batch, &m->at, view);
		view->position = UINT64_MAX;
		m->msg.position = 0;
		return;
	}
	if (!bus__reader_view(&m->reader->batch[m->at++], view))
		view->flags |= RING_TTL; /* somebody wrote there: it is late, whatever it was */
	m->msg.position = view->position;
}

/* Reads the next message of the batch into m->msg. */
static void
next_message(struct bus_mailbox *m, struct ring_view *view)
{
	struct bus_msg *msg = &m->msg;

	if (m->reader != NULL)
		next_here(m, view);
	else
		bus__ring_read(&m->batch, &m->at, view);
	m->msg_topic = ((struct route *)view->route)->topic;
	msg->topic = m->msg_topic->name;
	msg->data = view->data;
	msg->len = view->len;
	msg->type = view->type;
	msg->lost = view->lost + m->carried;
	m->carried = 0;
	msg->time_ns = view->time_ns;
	msg->ttl_ms = 0;
	m->msg_frame = view->flags;
	msg->reply_to = view->flags & RING_REPLY ? view->reply : 0;
	msg->headers_len = view->flags & RING_HEADERS ? view->headers_len : 0;
	msg->headers = msg->headers_len > 0 ? (const uint8_t *)view->data + view->len : NULL;
	msg->flags = (view->flags & RING_KEPT ? BUS_MSG_KEPT : 0u) |
		     (view->flags & RING_RETAIN ? BUS_MSG_RETAIN : 0u);
}

static void
count_one(_Atomic uint64_t *counter)
{
	/* Only the drainer writes it: no read-modify-write needed. */
	atomic_store_explicit(
	    counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* Whether the message that was just read comes too late; its last chance is counted. Otherwise says what is left. */
static bool
is_late(struct bus_mailbox *m, const struct ring_view *view)
{
	int64_t left_ns;

	if (!(view->flags & RING_TTL))
		return false;
	left_ns = view->expires_ns - bus__now_ns();
	if (left_ns > 0) {
		m->msg.ttl_ms = (uint32_t)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
		return false;
	}
	m->carried = m->msg.lost + 1;
	count_one(&m->expired);
	return true;
}

/* A message that nobody wants. What was lost before it is told by the next. */
static void
pass_over(struct bus_mailbox *m)
{
	m->carried = m->msg.lost;
	count_one(&m->unsubscribed);
	/* A question that was on its way when the last who would have replied went. */
	if (m->msg.reply_to != 0 && !(m->msg_frame & RING_ANSWER))
		bus__question_decline(m->bus, m->msg.reply_to);
}

/* Whose subscriptions alone are meant; NULL: all of the mailbox. */
static const struct bus_mailbox *
receiver_of(const struct bus_mailbox *m)
{
	return bus__is_receiver(m) ? m : NULL;
}

/* Whether the message that was just read is to be handed out; otherwise it is counted. */
static bool
is_due(struct bus_mailbox *m, const struct ring_view *view)
{
	if (is_late(m, view))
		return false;
	if (bus__is_wanted(view, receiver_of(m)))
		return true;
	pass_over(m);
	return false;
}

/* Makes m->msg what call_plain() wants to find. */
static void
clear_message(struct bus_mailbox *m)
{
	m->msg.flags = 0;
	m->msg.lost = 0;
	m->msg.time_ns = 0;
	m->msg.ttl_ms = 0;
	m->msg.headers = NULL;
	m->msg.headers_len = 0;
	m->msg.reply_to = 0;
}

/* Calls the subscriptions of the next message, whatever its frame holds, and counts it. */
static __attribute__((noinline)) void
call_any(struct bus_mailbox *m)
{
	struct ring_view view;

	next_message(m, &view);
	if (!is_late(m, &view)) {
		if (bus__call_subs(view.route, view.position, view.target, receiver_of(m), &m->msg))
			count_one(&m->delivered);
		else
			pass_over(m);
	}
	clear_message(m);
}

/* The same for the frames without extensions that come next: what they do not say is 0 in m->msg already. Ends early
 * before another kind of frame, and when somebody waits for a sign. Alone in a function, it has registers enough. */
static __attribute__((noinline)) void
call_plain(struct bus_mailbox *m, uint32_t end)
{
	const uint8_t *frame = m->batch.bytes + m->at;
	uint64_t word, route_word;
	uint32_t left = end - m->handled, phase = 0;

	for (; left > 0 && !(phase & PHASE_WAITED); left--) {
		uint64_t position = m->batch.begin + (uint64_t)(frame - m->batch.bytes);
		const struct route *route;

		memcpy(&word, frame, 8);
		if ((word >> 32 & 0xffff) != RING_COMMITTED)
			break;
		memcpy(&route_word, frame + 8, 8);
		route = (const struct route *)(uintptr_t)route_word;
		m->msg.topic = route->topic->name;
		m->msg.data = frame + RING_FRAME_HEAD;
		m->msg.len = (uint32_t)word;
		m->msg.type = (uint8_t)(word >> 48);
		frame += bus__ring_small_bytes((uint32_t)word);
		if (bus__call_subs(route, position, NULL, NULL, &m->msg))
			count_one(&m->delivered);
		else
			count_one(&m->unsubscribed);
		phase = atomic_load_explicit(&m->phase, memory_order_relaxed);
	}
	m->at = (uint32_t)(frame - m->batch.bytes);
	m->handled = end - left;
}

/* The same for records without extensions, out of the log. */
static __attribute__((noinline)) void
call_logged(struct bus_mailbox *m, uint32_t end)
{
	const struct taken *t = &m->reader->batch[m->at], *first = t;
	uint32_t left = end - m->handled, phase = 0;

	for (; left > 0 && bus__is_plain(t) && !(phase & PHASE_WAITED); left--, t++) {
		m->msg.topic = t->route->topic->name;
		m->msg.data = t->record + 1;
		m->msg.len = bus__plain_len(t);
		m->msg.type = (uint8_t)(t->word >> 48);
		m->msg.time_ns = t->record->time_ns;
		m->msg.position = t->sequence;
		if (bus__call_subs(t->route, t->sequence, NULL, NULL, &m->msg))
			count_one(&m->delivered);
		else
			count_one(&m->unsubscribed);
		phase = atomic_load_explicit(&m->phase, memory_order_relaxed);
	}
	m->at += (uint32_t)(t - first);
	m->handled = end - left;
	m->msg.time_ns = 0;
}

/* Between two messages: somebody waits for the end of a callback, or the mailbox has ended. */
static __attribute__((noinline)) void
heed_sign(struct bus_mailbox *m, uint32_t end)
{
	atomic_fetch_and_explicit(&m->phase, ~(uint32_t)PHASE_WAITED, memory_order_acq_rel);
	notify_waiters(m);
	if (atomic_load_explicit(&m->ended, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&m->lost_closed, end - m->handled, memory_order_relaxed);
		m->handled = end;
	}
}

/* Runs the callbacks of one batch of at most `max` messages; those above it stay in the batch. */
static unsigned
call_batch(struct bus_mailbox *m, unsigned max)
{
	uint32_t begun = m->handled, left = m->batch.count - begun;
	uint32_t end = begun + (left < max ? left : max);
	int cancel = enter_callback();

	/* Ended before this batch was taken, when nobody could see it. */
	if (atomic_load_explicit(&m->ended, memory_order_acquire))
		heed_sign(m, end);
	/* What a receiver has taken it handles before it gives a sign: who closes it waits for just that. */
	if (bus__is_receiver(m) && m->handled < end) {
		m->handled++;
		call_any(m);
	}
	while (m->handled < end) {
		if (m->carried == 0 && m->reader == NULL)
			call_plain(m, end);
		else if (m->carried == 0 && m->logged)
			call_logged(m, end);
		if (m->handled < end &&
		    !(atomic_load_explicit(&m->phase, memory_order_relaxed) & PHASE_WAITED)) {
			m->handled++;
			call_any(m);
		}
		if (atomic_load_explicit(&m->phase, memory_order_relaxed) & PHASE_WAITED)
			heed_sign(m, end);
	}
	leave_callback(cancel);
	return m->handled - begun;
}

/* Learns how long the pauses between bursts are; long ones count as a bound, to be forgotten soon. */
static void
learn_gap(struct bus_mailbox *m, int64_t gap_ns)
{
	if (gap_ns > 4 * SPIN_MOST_NS)
		gap_ns = 4 * SPIN_MOST_NS;
	m->gap_ns += (gap_ns - m->gap_ns) / 8;
}

/* Looks a few times, without a pause or a clock; the head lock is free between two such steps. */
static bool
look(struct bus_mailbox *m)
{
	struct ring *ring = &m->queue->ring;
	bool ready;

	if (m->reader != NULL)
		return has_more(m, SPIN_STEP);
	bus__ring_lock(ring);
	ready = bus__ring_ready(ring, SPIN_STEP);
	bus__ring_unlock(ring);
	return ready;
}

/* The drainers that spin, of all buses. */
static _Atomic int spinners;

static bool
spin_until(struct bus_mailbox *m, int64_t deadline_ns)
{
	int64_t budget = SPIN_FLOOR_NS, begun, now;

	if (m->gap_ns < SPIN_MOST_NS)
		budget = m->gap_ns * 2 < SPIN_MOST_NS ? m->gap_ns * 2 : SPIN_MOST_NS;
	if (budget < SPIN_FLOOR_NS)
		budget = SPIN_FLOOR_NS;
	begun = bus__now_ns();
	do {
		/* Where every CPU may have one who spins, somebody with work may have none: offer ours. */
		if (atomic_load_explicit(&spinners, memory_order_relaxed) >= bus__cpus())
			sched_yield();
		for (int i = 0; i < SPIN_PAUSES; i++) {
			if (look(m)) {
				learn_gap(m, bus__now_ns() - begun);
				return true;
			}
			bus__cpu_relax();
		}
		now = bus__now_ns();
	} while (now - begun < budget && now < deadline_ns);
	return false;
}

/* Spins for a message as long as that is likely to be cheaper than sleeping. true: something came. */
static bool
spin(struct bus_mailbox *m, int64_t deadline_ns)
{
	bool came;

	if (bus__cpus() == 1 || deadline_ns == 0 || (bus__is_receiver(m) && !bus__group_takes(m)))
		return false;
	atomic_fetch_add_explicit(&spinners, 1, memory_order_relaxed);
	came = spin_until(m, deadline_ns);
	atomic_fetch_sub_explicit(&spinners, 1, memory_order_relaxed);
	return came;
}

bool
bus__mailbox_has_to_leave(const struct bus_mailbox *m)
{
	return atomic_load_explicit(&m->closed, memory_order_acquire) ||
	       atomic_load_explicit(&m->stop, memory_order_acquire);
}

/* Sleeps until there may be something. false: the deadline has passed. */
static bool
rest(struct bus_mailbox *m, int64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&m->wakes, memory_order_acquire);
	int fd = atomic_load_explicit(&m->fd, memory_order_relaxed);
	int64_t begun;
	bool asleep = bus__ring_tail(&m->ring) & RING_ASLEEP;

	if (asleep && fd >= 0) {
		/* A waker that was late made it readable for what has long been taken out. */
		if (!bus__mailbox_clear_fd(m))
			return true;
		if (!(bus__ring_tail(&m->ring) & RING_ASLEEP) ||
		    atomic_load_explicit(&m->closed, memory_order_acquire)) {
			signal_fd(fd);
			return true;
		}
	}
	if (!asleep) {
		/* The fd is cleared first: whoever ends the sleep makes it readable after. */
		if (!bus__mailbox_clear_fd(m))
			return true;
		if (!bus__ring_sleep(&m->ring)) {
			signal_fd(fd);
			return true;
		}
	}
	if (deadline_ns == 0 || bus__mailbox_has_to_leave(m))
		return false;
	begun = bus__now_ns();
	while (bus__ring_tail(&m->ring) & RING_ASLEEP) {
		if (atomic_load_explicit(&m->deadlines.next_ns, memory_order_relaxed) < deadline_ns)
			return true; /* it came meanwhile */
		if (bus__mailbox_has_to_leave(m))
			return false;
		if (bus__park(&m->wakes, seen, deadline_ns) == BUS_E_TIMEDOUT)
			return false;
		seen = atomic_load_explicit(&m->wakes, memory_order_acquire);
	}
	learn_gap(m, bus__now_ns() - begun);
	return true;
}

/* The same where news come from the log: there one sleeps. */
static bool
rest_logged(struct bus_mailbox *m, int64_t deadline_ns)
{
	struct reader *r = m->reader;
	/* Before a look at anything: whoever has news changes it after. */
	uint32_t seen = bus__log_news(r->log);
	int fd = atomic_load_explicit(&m->fd, memory_order_relaxed);
	int64_t begun = bus__now_ns();

	/* The fd is cleared first: whoever ends the sleep makes it readable after. */
	if (!bus__mailbox_clear_fd(m))
		return true;
	if (!bus__ring_fall_asleep(&m->ring)) {
		signal_fd(fd);
		return true;
	}
	bus__members_heed(m->bus);
	bus__reader_rest(r);
	if (fd >= 0 && !bus__relay_ask(m)) {
		signal_fd(fd);
		return true;
	}
	if (deadline_ns == 0 || bus__mailbox_has_to_leave(m))
		return false;
	if (atomic_load_explicit(&m->deadlines.next_ns, memory_order_relaxed) < deadline_ns ||
	    (!bus__reader_ask(r)))
		return true;
	if (bus__log_sleep(r->log, seen, deadline_ns) == BUS_E_TIMEDOUT)
		return false;
	learn_gap(m, bus__now_ns() - begun);
	return true;
}

static bool
rest_somewhere(struct bus_mailbox *m, int64_t deadline_ns)
{
	if (m->reader != NULL)
		return rest_logged(m, deadline_ns);
	return bus__is_receiver(m) ? bus__group_rest(m, deadline_ns) : rest(m, deadline_ns);
}

/* Ends requests in time. true: it did. *ret_until_ns: how long the drainer may sleep. What was replied in time lies in the
 * log, also for one who comes late: it is read first. */
static bool
heed_deadlines(struct bus_mailbox *m, int64_t deadline_ns, int64_t *ret_until_ns)
{
	int64_t due_ns = atomic_load_explicit(&m->deadlines.next_ns, memory_order_relaxed);

	*ret_until_ns = due_ns < deadline_ns ? due_ns : deadline_ns;
	return due_ns != INT64_MAX &&
	       (m->reader == NULL || bus__reader_has_read_for(m->reader, due_ns)) &&
	       bus__requests_heed(m);
}

/* Whether nothing is inside that it may still take. */
static bool
has_nothing_left(const struct bus_mailbox *m)
{
	if (m->reader != NULL && !bus__reader_is_through(m->reader) &&
	    !atomic_load_explicit(&m->ended, memory_order_relaxed))
		return false;
	return bus__ring_empty(&m->queue->ring) || (bus__is_receiver(m) && !bus__group_takes(m));
}

/* Gets a batch. 0: none came before the deadline (0: do not wait), a request ended, or the mailbox is shut. */
static uint32_t
await_batch(struct bus_mailbox *m, unsigned phase, int64_t deadline_ns)
{
	/* What follows at once is found without a look at the clock, which takes as long as a line between CPUs; but not
	 * where others wait for the head lock meanwhile. */
	unsigned looks =
		     bus__cpus() > 1 && deadline_ns != 0 && !bus__is_receiver(m) ? FIRST_LOOKS : 1,
		 stalls = 0;
	const struct ring *ring = &m->queue->ring;
	bool last = false;

	for (;;) {
		int64_t until_ns;
		uint32_t count;

		/* The program may have waited for just that. */
		if (heed_deadlines(m, deadline_ns, &until_ns))
			return 0;
		count = begin_batch(m, phase, looks);
		if (count > 0 || last)
			return count;
		bus__heed(m->bus);
		if (!spin(m, until_ns)) {
			if (!rest_somewhere(m, until_ns) &&
			    (until_ns == deadline_ns || bus__mailbox_has_to_leave(m)))
				return 0;
			/* Claimed and not committed: its publisher may have lost the CPU, so offer ours. */
			if (!bus__ring_empty(ring) && ++stalls % STALLS_PER_YIELD == 0)
				sched_yield();
		}
		/* Closed, it cannot sleep: a caller leaves at once, a thread when it is told to and all is out. */
		if (atomic_load_explicit(&m->closed, memory_order_acquire) &&
		    (m->drain == BUS_DRAIN_CALLER ||
			(atomic_load_explicit(&m->stop, memory_order_acquire) &&
			    has_nothing_left(m))))
			return 0;
		last = deadline_ns != INT64_MAX && bus__now_ns() >= deadline_ns;
	}
}

/* What was taken out and nobody handled: the borrowed messages of a caller. */
static void
drop_batch(struct bus_mailbox *m)
{
	if (atomic_load_explicit(&m->phase, memory_order_acquire) == 0)
		return;
	atomic_fetch_add_explicit(
	    &m->lost_closed, m->batch.count - m->handled, memory_order_relaxed);
	end_batch(m);
}

/* The end of a receiver, and of its group if it is the last one. */
static void
leave_group(struct bus_mailbox *m)
{
	struct bus_mailbox *group = m->queue;
	bool last;

	drop_batch(m);
	bus__lock(m->bus);
	last = bus__group_leave(m);
	bus__unlock(m->bus);
	if (last) {
		bus__mailbox_shut(group);
		bus__mailbox_discard(group);
		bus__mailbox_unlist(group);
		bus__mailbox_unref(group);
	}
}

/* The last thing that happens to a mailbox that was ended, by whoever drained it last. */
static void
finish(struct bus_mailbox *m)
{
	if (!atomic_load_explicit(&m->ended, memory_order_acquire) ||
	    atomic_exchange_explicit(&m->finished, true, memory_order_acq_rel))
		return;
	if (bus__is_receiver(m)) {
		leave_group(m);
		return;
	}
	bus__mailbox_discard(m);
	bus__requests_tell(m);
	if (m->reader != NULL)
		bus__relay_remove(m);
	bus__mailbox_unlist(m);
}

/* Both sides change `busy`, so either the end sees that we are out, or we see that it has come. false: it has, and what
 * was taken out is gone, also (lent) the message that this call was to give. */
static bool
leave(struct bus_mailbox *m, bool lent)
{
	atomic_exchange_explicit(&m->busy, false, memory_order_acq_rel);
	if (!atomic_load_explicit(&m->ended, memory_order_acquire) ||
	    atomic_exchange_explicit(&m->busy, true, memory_order_acq_rel))
		return true;
	if (lent) {
		atomic_fetch_sub_explicit(&m->delivered, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&m->lost_closed, 1, memory_order_relaxed);
	}
	finish(m);
	atomic_exchange_explicit(&m->busy, false, memory_order_acq_rel);
	return false;
}

static bool
end_call(struct bus_mailbox *m, bool lent)
{
	bool intact = leave(m, lent);

	bus__mailbox_unref(m);
	return intact;
}

/* Drains here until it sleeps, and what others publish meanwhile. It is left before it may sleep: whoever ends that
 * sleep is the next drainer, and must find nobody inside. */
static void
drain_here(struct bus_mailbox *m)
{
	unsigned stalls = 0;

	/* Busy: its end has begun, and discards what is inside. */
	while (!atomic_exchange_explicit(&m->busy, true, memory_order_acq_rel)) {
		while (begin_batch(m, PHASE_HELD | PHASE_CALLING, 1) > 0) {
			call_batch(m, UINT32_MAX);
			end_batch(m);
		}
		leave(m, false);
		if (bus__ring_sleep(&m->ring) ||
		    atomic_load_explicit(&m->closed, memory_order_acquire))
			break;
		/* Claimed and not committed: its publisher may have lost the CPU, so offer ours. */
		if (!bus__ring_empty(&m->ring) && ++stalls % LOOKS_PER_YIELD == 0)
			sched_yield();
	}
	bus__mailbox_unref(m);
}

void
bus__mailbox_drain_owed(struct bus_mailbox *owed)
{
	while (owed != NULL) {
		struct bus_mailbox *m = owed;

		owed = m->next_owed;
		drain_here(m);
	}
}

static void *
thread_main(void *arg)
{
	struct bus_mailbox *m = arg;

	for (;;) {
		/* Read before the look inside: what was there when it was set is still handled. */
		bool stop = atomic_load_explicit(&m->stop, memory_order_acquire);
		uint32_t count = await_batch(m, PHASE_HELD | PHASE_CALLING, stop ? 0 : INT64_MAX);

		if (count > 0) {
			call_batch(m, UINT32_MAX);
			end_batch(m);
		} else if (stop && has_nothing_left(m)) {
			break;
		}
	}
	bus__mailbox_settle(m);
	if (atomic_fetch_or_explicit(&m->left, THREAD_OUT, memory_order_acq_rel) & THREAD_ABANDONED)
		finish(m);
	atomic_store_explicit(&m->thread_done, 1, memory_order_release);
	bus__unpark(&m->thread_done);
	bus__mailbox_unref(m);
	return NULL;
}

int
bus__mailbox_start(struct bus_mailbox *m)
{
	int err;

	bus__mailbox_ref(m);
	err = bus__thread_start(&m->thread, "bus-mailbox", thread_main, m);
	if (err == 0) {
		atomic_store_explicit(&m->has_thread, true, memory_order_release);
		return 0;
	}
	atomic_store_explicit(&m->thread_done, 1, memory_order_release);
	bus__mailbox_unref(m);
	return err;
}

void
bus__mailbox_shut(struct bus_mailbox *m)
{
	if (m->reader != NULL)
		bus__reader_set_end(m->reader);
	if (!bus__is_receiver(m))
		bus__ring_close(&m->ring);
	atomic_store_explicit(&m->closed, true, memory_order_release);
	announce_room(m); /* there will be none: whoever waits for it is told so */
	if (!m->is_peer)
		wake_drainer(m);
}

void
bus__mailbox_discard(struct bus_mailbox *m)
{
	drop_batch(m);
	if (m->reader != NULL)
		bus__reader_stop(m);
	/* No claim succeeds any more; those under way commit within a copy's time. */
	while (!bus__ring_empty(&m->ring)) {
		uint32_t count = begin_batch(m, PHASE_HELD, 1);

		atomic_fetch_add_explicit(&m->lost_closed, count, memory_order_relaxed);
		if (count > 0)
			end_batch(m);
		else
			sched_yield();
	}
	bus__mailbox_settle(m);
}

void
bus__mailbox_stop(struct bus_mailbox *m, int64_t deadline_ns)
{
	if (!atomic_exchange_explicit(&m->has_thread, false, memory_order_acq_rel))
		return;
	atomic_store_explicit(&m->stop, true, memory_order_release);
	wake_drainer(m);
	while (atomic_load_explicit(&m->thread_done, memory_order_acquire) == 0)
		if (bus__park(&m->thread_done, 0, deadline_ns) == BUS_E_TIMEDOUT)
			break;
	/* Left behind in a callback, it ends by itself when that returns, and delivers no more. */
	if (atomic_load_explicit(&m->thread_done, memory_order_acquire) == 0) {
		bus__mailbox_end_delivery(m);
		if (!(atomic_fetch_or_explicit(&m->left, THREAD_ABANDONED, memory_order_acq_rel) &
			THREAD_OUT)) {
			pthread_detach(m->thread);
			return;
		}
	}
	bus__thread_join(m->thread);
}

/* --- peers ------------------------------------------------------------------------------------------------- */

const struct bus_msg *
bus__mailbox_next(struct bus_mailbox *m)
{
	struct ring_view view;

	for (;;) {
		if (atomic_load_explicit(&m->phase, memory_order_relaxed) == 0 &&
		    begin_batch(m, PHASE_HELD, 1) == 0)
			return NULL;
		while (m->handled < m->batch.count) {
			next_message(m, &view);
			m->handled++;
			if (is_due(m, &view)) {
				count_one(&m->delivered);
				m->lent = true;
				return &m->msg;
			}
		}
		if (m->lent)
			return NULL;
		end_batch(m);
	}
}

const struct topic *
bus__mailbox_topic(const struct bus_mailbox *m)
{
	return m->msg_topic;
}

void
bus__mailbox_release(struct bus_mailbox *m)
{
	m->lent = false;
	/* What was not taken yet stays for the next take. */
	if (atomic_load_explicit(&m->phase, memory_order_relaxed) != 0 &&
	    m->handled == m->batch.count)
		end_batch(m);
}

/* --- counters -------------------------------------------------------------------------------------------- */

/* What became of messages that were taken out. */
struct handled {
	uint64_t delivered, expired, unsubscribed, closed;
};

static void
add_handled(struct handled *sum, const struct bus_mailbox *m)
{
	sum->delivered += atomic_load_explicit(&m->delivered, memory_order_relaxed);
	sum->expired += atomic_load_explicit(&m->expired, memory_order_relaxed);
	sum->unsubscribed += atomic_load_explicit(&m->unsubscribed, memory_order_relaxed);
	sum->closed += atomic_load_explicit(&m->lost_closed, memory_order_relaxed);
}

void
bus__mailbox_add_stats(struct bus_mailbox *m, struct bus_stats *stats)
{
	uint64_t full = atomic_load_explicit(&m->ring.evicted, memory_order_relaxed) +
			atomic_load_explicit(&m->ring.dropped, memory_order_relaxed);
	uint64_t replaced = atomic_load_explicit(&m->replaced, memory_order_relaxed);
	uint64_t refused = atomic_load_explicit(&m->refused, memory_order_relaxed);
	uint64_t lapped = atomic_load_explicit(&m->lapped, memory_order_relaxed);
	struct handled sum = {.delivered = 0};
	uint64_t pending, closed;

	if (bus__is_receiver(m))
		return; /* it is its group that has them */
	bus__ring_lock(&m->ring);
	add_handled(&sum, m);
	for (const struct bus_mailbox *r = m->receivers; r != NULL; r = r->next_receiver)
		add_handled(&sum, r);
	/* Read last: what was taken is delivered, late, unwanted, discarded, or still in a batch. */
	pending = bus__ring_count(&m->ring) +
		  atomic_load_explicit(&m->ring.taken, memory_order_relaxed) +
		  atomic_load_explicit(&m->read, memory_order_relaxed) - sum.delivered -
		  sum.expired - sum.unsubscribed - sum.closed;
	bus__ring_unlock(&m->ring);

	closed = sum.closed + atomic_load_explicit(&m->lost_shut, memory_order_relaxed);
	if (atomic_load_explicit(&m->closed, memory_order_relaxed) &&
	    m->drain != BUS_DRAIN_THREAD) {
		closed += pending; /* its bus has ended: nobody can take these out any more */
		pending = 0;
	}
	stats->delivered += sum.delivered;
	stats->pending += pending;
	stats->refused += refused;
	stats->lost[BUS_LOSS_FULL] += full;
	stats->lost[BUS_LOSS_REPLACED] += replaced;
	stats->lost[BUS_LOSS_EXPIRED] += sum.expired;
	stats->lost[BUS_LOSS_UNSUBSCRIBED] += sum.unsubscribed;
	stats->lost[BUS_LOSS_CLOSED] += closed;
	stats->lost[BUS_LOSS_LAPPED] += lapped;
	stats->offered += sum.delivered + pending + refused + full + replaced + sum.expired +
			  sum.unsubscribed + closed + lapped;
}

/* --- public ---------------------------------------------------------------------------------------------- */

static int
enter(const struct bus_mailbox *m)
{
	if (m == NULL)
		return BUS_E_INVAL;
	if (m->bus->fork_generation != bus__fork_generation())
		return BUS_E_FORKED;
	return atomic_load_explicit(&m->closed, memory_order_acquire) ? BUS_E_CLOSED : 0;
}

/* What only one kind of bus can have. */
static int
check_kind(const struct bus *bus, const struct bus_mailbox_config *cfg)
{
	if (bus->log == NULL)
		return cfg->from != BUS_FROM_NOW ? BUS_E_NOTSUP : 0;
	return cfg->full == BUS_FULL_DROP_NEWEST || cfg->full == BUS_FULL_REFUSE ||
		       cfg->drain == BUS_DRAIN_PUBLISHER || cfg->group != NULL
		   ? BUS_E_NOTSUP
		   : 0;
}

int
bus_mailbox_open(
    struct bus *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox **ret_mbox)
{
	struct bus_mailbox_config all = {.size = sizeof all};
	struct bus_mailbox *m;
	int err = bus__enter(bus);

	if (err < 0)
		return err;
	if (ret_mbox == NULL || (cfg != NULL && cfg->size != sizeof *cfg))
		return BUS_E_INVAL;
	if (cfg != NULL)
		all = *cfg;
	if (all.full < BUS_FULL_DROP_OLDEST || all.full > BUS_FULL_REFUSE ||
	    all.drain < BUS_DRAIN_CALLER || all.drain > BUS_DRAIN_PUBLISHER ||
	    all.from < BUS_FROM_NOW || all.from > BUS_FROM_TIME || all.bytes > BUS__MAILBOX_MOST ||
	    (all.group != NULL && all.drain == BUS_DRAIN_PUBLISHER))
		return BUS_E_INVAL;
	err = check_kind(bus, &all);
	if (err < 0)
		return err;
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0 && all.group != NULL)
		err = bus__group_join(bus, &all, &m);
	else if (err == 0)
		err = bus__mailbox_new(bus, &all, NULL, &m);
	bus__unlock(bus);
	if (err < 0)
		return err;
	if (all.drain == BUS_DRAIN_THREAD) {
		err = bus__mailbox_start(m);
		if (err == 0)
			err = bus__enter(
			    bus); /* it may have begun to close, and not seen the thread */
	}
	if (err < 0) {
		bus_mailbox_close(m);
		return err;
	}
	*ret_mbox = m;
	return 0;
}

/* Whether the caller still has messages of an earlier batch; ends one that he is through with. */
static bool
has_batch(struct bus_mailbox *m, unsigned calling)
{
	if (atomic_load_explicit(&m->phase, memory_order_relaxed) == 0)
		return false;
	if (m->handled == m->batch.count) {
		end_batch(m);
		return false;
	}
	/* What bus_recv() began bus_dispatch() may go on with, and the other way round. */
	if (calling != 0)
		atomic_fetch_or_explicit(&m->phase, PHASE_CALLING, memory_order_acq_rel);
	return true;
}

/* One call at a time drains: the second one, from a callback or another thread, is refused. */
static int
begin_call(struct bus_mailbox *m)
{
	int err = enter(m);

	if (err < 0)
		return err;
	if (m->drain != BUS_DRAIN_CALLER || m->is_peer)
		return BUS_E_INVAL;
	if (atomic_exchange_explicit(&m->busy, true, memory_order_acq_rel))
		return BUS_E_STATE;
	bus__mailbox_ref(m); /* whoever ends it meanwhile does not wait inside a callback */
	return 0;
}

/* Hands a reply to whoever asked, where messages go to the caller of bus_recv(). */
static void
call_one(struct bus_mailbox *m, const struct ring_view *view)
{
	int cancel;

	atomic_fetch_or_explicit(&m->phase, PHASE_CALLING, memory_order_acq_rel);
	cancel = enter_callback();
	bus__call_subs(view->route, view->position, view->target, NULL, &m->msg);
	leave_callback(cancel);
	count_one(&m->delivered);
	if (atomic_fetch_and_explicit(
		&m->phase, ~(uint32_t)(PHASE_CALLING | PHASE_WAITED), memory_order_acq_rel) &
	    PHASE_WAITED)
		notify_waiters(m);
}

static int
receive(struct bus_mailbox *m, int64_t deadline_ns)
{
	struct ring_view view;

	for (;;) {
		if (!has_batch(m, 0) && await_batch(m, PHASE_HELD, deadline_ns) == 0)
			return atomic_load_explicit(&m->closed, memory_order_acquire) ? BUS_E_CLOSED
										      : 0;
		if (m->logged)
			bus__reader_own(m->reader, m->at, m->batch.count);
		next_message(m, &view);
		m->handled++;
		if (!is_due(m, &view))
			continue;
		if (!(view.flags & RING_ANSWER))
			break;
		call_one(m, &view);
		return 0; /* the program may have waited for just that */
	}
	count_one(&m->delivered);
	return 1;
}

int
bus_recv(struct bus_mailbox *m, int timeout_ms, const struct bus_msg **ret_msg)
{
	int err = begin_call(m);

	if (err < 0)
		return err;
	err = ret_msg == NULL ? BUS_E_INVAL
			      : receive(m, timeout_ms == 0 ? 0 : bus__deadline_ns(timeout_ms));
	if (!end_call(m, err == 1) && err == 1)
		return BUS_E_CLOSED;
	if (err == 1)
		*ret_msg = &m->msg;
	return err;
}

int
bus_dispatch(struct bus_mailbox *m, int timeout_ms, unsigned max)
{
	unsigned handled = 0;
	int64_t deadline_ns;
	int err = begin_call(m);

	if (err < 0)
		return err;
	if (max == 0)
		max = INT32_MAX;
	deadline_ns = timeout_ms == 0 ? 0 : bus__deadline_ns(timeout_ms);
	clear_message(m); /* of what bus_recv() gave last */
	while (handled < max) {
		if (!has_batch(m, PHASE_CALLING) &&
		    await_batch(m, PHASE_HELD | PHASE_CALLING, handled > 0 ? 0 : deadline_ns) == 0)
			break;
		handled += call_batch(m, max - handled);
		if (m->handled == m->batch.count)
			end_batch(m);
		else if (atomic_fetch_and_explicit(&m->phase,
			     ~(uint32_t)(PHASE_CALLING | PHASE_WAITED), memory_order_acq_rel) &
			 PHASE_WAITED)
			notify_waiters(m);
		if (atomic_load_explicit(&m->closed, memory_order_acquire))
			break;
	}
	if (m->logged)
		bus__reader_own(m->reader, m->at, m->batch.count);
	err = handled > 0 ? (int)handled : enter(m);
	end_call(m, false);
	return err;
}

/* Bus lock. */
static int
make_fd(struct bus_mailbox *m, bool holds_some)
{
	int err, fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? BUS_E_LIMIT : BUS_E_SYS;
	err = m->reader != NULL ? bus__relay_add(m) : 0;
	if (err == 0)
		err = bus__deadlines_watch(m, fd);
	if (err < 0) {
		if (m->reader != NULL)
			bus__relay_remove(m);
		bus__fd_close(fd);
		return err;
	}
	atomic_store_explicit(&m->fd, fd, memory_order_release);
	/* Readable, unless it is empty and asleep. Either this sees that a sleep has ended, or whoever ends it
	 * sees the fd: both change tail. */
	if (holds_some || atomic_load_explicit(&m->closed, memory_order_acquire) ||
	    !bus__ring_fall_asleep(&m->ring) || (m->reader != NULL && !bus__relay_ask(m)))
		signal_fd(fd);
	return 0;
}

int
bus_mailbox_fd(struct bus_mailbox *m)
{
	int err = enter(m);

	if (err < 0)
		return err;
	if (m->drain != BUS_DRAIN_CALLER || m->is_peer)
		return BUS_E_INVAL;
	bus__lock(m->bus);
	err = enter(m); /* a bus that has closed makes no relay any more */
	if (err == 0 && m->queue->deadlines.epoll < 0)
		err = make_fd(m->queue, m->handled < m->batch.count);
	bus__unlock(m->bus);
	return err < 0 ? err : m->queue->deadlines.epoll;
}

void
bus__mailbox_end(struct bus_mailbox *m, bool wait)
{
	struct bus *bus = bus__ref(m->bus);

	wait = wait && !bus__in_callback();
	if (bus__is_receiver(m)) {
		/* What it has begun it ends, where that can be waited for; the rest is for the others. */
		bus__group_retire(m);
		if (wait)
			bus__mailbox_await_callback(m);
	}
	bus__mailbox_shut(m);
	bus__mailbox_end_delivery(m);
	bus__lock(bus);
	while (m->subs != NULL)
		bus__sub_remove(bus, m->subs);
	bus__requests_end(m);
	bus__unlock(bus);
	if (m->drain == BUS_DRAIN_THREAD) {
		bus__mailbox_stop(m, wait ? INT64_MAX : 0);
		/* bus_close() may have left it behind, and it finishes by itself. */
		while (wait && atomic_load_explicit(&m->thread_done, memory_order_acquire) == 0)
			bus__park(&m->thread_done, 0, INT64_MAX);
		if (atomic_load_explicit(&m->thread_done, memory_order_acquire) != 0)
			finish(m);
	} else {
		/* A call that is inside leaves soon, but for its callback; inside callbacks it is left to it. */
		while (atomic_exchange_explicit(&m->busy, true, memory_order_acq_rel)) {
			if (!wait)
				goto unref;
			bus__park(&m->phase_wakes,
			    atomic_load_explicit(&m->phase_wakes, memory_order_acquire),
			    bus__now_ns() + NAP_NS);
		}
		finish(m);
		atomic_exchange_explicit(&m->busy, false, memory_order_acq_rel);
	}
unref:
	bus__mailbox_unref(m);
	bus__unref(bus);
}

void
bus_mailbox_close(struct bus_mailbox *m)
{
	if (m != NULL && m->bus->fork_generation == bus__fork_generation())
		bus__mailbox_end(m, true);
}

int
bus_mailbox_stats(struct bus_mailbox *m, struct bus_stats *ret_stats)
{
	struct bus_stats stats = {.size = sizeof stats};

	if (m == NULL || ret_stats == NULL || ret_stats->size != sizeof *ret_stats)
		return BUS_E_INVAL;
	if (m->bus->fork_generation != bus__fork_generation())
		return BUS_E_FORKED;
	bus__mailbox_add_stats(m->queue, &stats);
	stats.reached = stats.delivered;
	stats.goal = stats.delivered + stats.pending;
	if (m->reader != NULL) {
		stats.reached = atomic_load_explicit(&m->reader->passed, memory_order_acquire);
		stats.goal = bus__log_tail(m->reader->log);
	}
	*ret_stats = stats;
	return 0;
}
