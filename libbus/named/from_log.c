/* named/from_log.c: a mailbox of a named bus: the log, and a ring for what this process alone has for it. */
#include "mailbox/parts.h"

#include <string.h>

#include "base/clock.h"
#include "base/park.h"
#include "base/thread.h"
#include "mailbox/call.h"
#include "bus/bus_internal.h"
#include "named/members.h"
#include "named/reader.h"
#include "named/relay.h"
#include "mailbox/source.h"
#include "named/watch.h"

#define PACE_FEW  32 /* records of a batch: fewer, and a reader keeps pace with its writer */
#define PACE_STEP 4  /* pauses that it makes more each time before it looks again, */
#define PACE_MOST 32 /* up to half a microsecond or so */

#define STUCK_LOOKS    20
#define STUCK_NS       INT64_C(100000000)
#define STUCK_NAP_NS   1000000 /* before it looks again into a log that is damaged where it is */
#define DAMAGE_LOOK_NS INT64_C(100000000)

#define KEPT_MOST (64u << 20) /* of a ring that is made for the values that a log keeps */

/* --- a batch ------------------------------------------------------------------------------------------------- */

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
	m->borrowed = count > 0;
	m->batch.count = count;
	m->batch.begin = m->batch.end = bus__ring_out(&m->ring);
	atomic_fetch_add_explicit(&m->read, count, memory_order_relaxed);
	return count;
}

static bool
has_more(const struct bus_mailbox *m, unsigned looks)
{
	do {
		if (!bus__ring_empty(&m->ring) || bus__reader_has_news(m->reader))
			return true;
	} while (--looks > 0);
	return false;
}

/* What comes from this process goes first. The mailbox says that it holds a batch before it looks for one, since routes are
 * found by that. */
static uint32_t
take(struct bus_mailbox *m, unsigned phase, unsigned looks)
{
	struct reader *r = m->reader;
	bool at_once;
	uint32_t count;

	bus__watch_leave(m);
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

/* Reads the next message where it may come from the log. A message from the ring goes to all present subscriptions: it has no
 * place in the log's order. */
static void
next(struct bus_mailbox *m, struct ring_view *view)
{
	if (!m->borrowed) {
		bus__ring_read(&m->batch, &m->at, view);
		view->position = UINT64_MAX;
		m->msg.position = 0;
		return;
	}
	if (!bus__reader_view(&m->reader->batch[m->at++], view))
		view->flags |= RING_TTL; /* overwritten by another program: treated as expired */
	m->msg.position = view->position;
}

/* Calls back a record whose payload is in m->msg already, and counts it. Returns the phase behind the callback. */
static inline uint32_t
call_record(struct bus_mailbox *m, const struct taken *t)
{
	m->msg.topic = t->route->topic->name;
	m->msg.type = (uint8_t)(t->word >> 48);
	m->msg.time_ns = t->record->time_ns;
	m->msg.position = t->sequence;
	if (bus__call_subs(t->route, t->sequence, NULL, NULL, &m->msg))
		bus__count_one(&m->delivered);
	else
		bus__count_one(&m->unsubscribed);
	return atomic_load_explicit(&m->phase, memory_order_relaxed);
}

/* The next record of the batch is this one. */
static void
go_on_at(struct bus_mailbox *m, const struct taken *t)
{
	uint32_t at = (uint32_t)(t - m->reader->batch);

	m->handled += at - m->at;
	m->at = at;
	m->msg.time_ns = 0;
}

/* Calls back the records that come next and have a payload and nothing else. Ends early before another kind, and when
 * a thread waits for a sign. */
static __attribute__((noinline)) void
call_plain(struct bus_mailbox *m, uint32_t end)
{
	const struct taken *t = &m->reader->batch[m->at];
	uint32_t left = end - m->handled, phase = 0;

	for (; left > 0 && bus__is_plain(t) && !(phase & PHASE_WAITED); left--, t++) {
		m->msg.data = t->record + 1;
		m->msg.len = bus__plain_len(t);
		phase = call_record(m, t);
	}
	go_on_at(m, t);
}

/* The same for records that also name their topic. false: the next record is of another kind. */
static __attribute__((noinline)) bool
call_named(struct bus_mailbox *m, uint32_t end)
{
	const struct taken *t = &m->reader->batch[m->at], *first = t;
	uint32_t left = end - m->handled;
	uint32_t phase = atomic_load_explicit(&m->phase, memory_order_relaxed);
	uint64_t len;

	/* Most are of another topic than the one before, so what they need is fetched ahead. */
	for (; left > 0 && !(phase & PHASE_WAITED) && bus__is_named(t, &len); left--, t++) {
		__builtin_prefetch(t[READER_AHEAD].route);
		if (left > READER_AHEAD / 2)
			__builtin_prefetch(bus__slots(t[READER_AHEAD / 2].route));
		m->msg.data = (const uint8_t *)(t->record + 1) + sizeof len;
		m->msg.len = (size_t)len;
		phase = call_record(m, t);
	}
	go_on_at(m, t);
	return t != first;
}

static bool
run(struct bus_mailbox *m, uint32_t end)
{
	if (m->carried != 0 || !m->borrowed)
		return false;
	call_plain(m, end);
	return m->handled < end && call_named(m, end);
}

static void
keep(struct bus_mailbox *m)
{
	bus__reader_own(m->reader, m->at, m->batch.count);
}

static void
done(struct bus_mailbox *m)
{
	/* What went through the ring is handled when that is empty. */
	if (m->full != BUS_FULL_LATEST || bus__ring_empty(&m->ring))
		bus__reader_passed(m->reader);
}

/* --- waiting for one ------------------------------------------------------------------------------------------- */

static int
error(const struct bus_mailbox *m)
{
	return bus__log_is_damaged(m->reader->log) ? BUS_E_DAMAGED : 0;
}

static bool
look(struct bus_mailbox *m)
{
	/* What lies in a damaged log cannot be taken: the drainer would spin on it. */
	return error(m) == 0 ? has_more(m, SPIN_STEP) : !bus__ring_empty(&m->ring);
}

/* Asked when a batch was empty: whether something is in the log that could not be read, then and the last time. So it is
 * damaged, and nothing is gained by trying again at once. */
static bool
is_stuck(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	uint64_t before;

	if (!bus__ring_empty(&m->ring) || !bus__reader_has_news(r)) {
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

static void
idle(struct bus_mailbox *m, int64_t deadline_ns)
{
	struct log *log = m->reader->log;

	if (error(m) == 0 && is_stuck(m) && (deadline_ns != 0 || m->drain == BUS_DRAIN_THREAD))
		bus__log_sleep(log, bus__log_news(log), bus__now_ns() + STUCK_NAP_NS);
}

/* Nothing comes from the log any more: a thread waits for what its own process has for it, and for its end. */
static bool
wait_in_damage(struct bus_mailbox *m, int64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&m->wakes, memory_order_acquire);
	int64_t most_ns = bus__now_ns() + DAMAGE_LOOK_NS;

	if (deadline_ns == 0 || bus__mailbox_has_to_leave(m))
		return false;
	bus__members_heed(m->bus);
	bus__park(&m->wakes, seen, deadline_ns < most_ns ? deadline_ns : most_ns);
	return true;
}

/* With all others that rest. */
static bool
rest_quiet(struct bus_mailbox *m, int64_t deadline_ns)
{
	/* Read before anything else: news change it after they are stored. */
	uint32_t seen = atomic_load_explicit(&m->wakes, memory_order_acquire);
	int fd = atomic_load_explicit(&m->fd, memory_order_relaxed);
	int64_t begun = bus__now_ns();

	/* The fd is cleared first: the wake-up makes it readable afterwards. */
	if (!bus__mailbox_clear_fd(m))
		return true;
	if (!bus__ring_fall_asleep(&m->ring)) {
		bus__mailbox_signal_fd(m);
		return true;
	}
	bus__members_heed(m->bus);
	bus__reader_rest(m->reader);
	/* A call that only looks does not join the watch, unless the mailbox is polled. */
	if ((fd >= 0 || deadline_ns != 0) && !bus__watch_enter(m)) {
		bus__mailbox_signal_fd(m);
		return true;
	}
	if (deadline_ns == 0 || bus__mailbox_has_to_leave(m))
		return false;
	if (atomic_load_explicit(&m->deadlines.next_ns, memory_order_relaxed) < deadline_ns)
		return true;
	switch (bus__watch_sleep(m->bus, &m->wakes, seen, deadline_ns, false)) {
	case BUS_E_TIMEDOUT:
		return false;
	case BUS__INTERRUPTED:
		m->interrupted = true;
		return true;
	}
	bus__mailbox_learn_gap(m, bus__now_ns() - begun);
	return true;
}

static bool
rest(struct bus_mailbox *m, int64_t deadline_ns)
{
	bool woken = error(m) == 0 ? rest_quiet(m, deadline_ns) : wait_in_damage(m, deadline_ns);

	/* A descriptor is made readable also after this call. */
	if (atomic_load_explicit(&m->fd, memory_order_relaxed) < 0)
		bus__watch_leave(m);
	return woken;
}

/* A reply in time lies in the log, even if it is read late. */
static bool
has_read_for(struct bus_mailbox *m, int64_t due_ns)
{
	bus__watch_leave(m);
	return bus__reader_has_read_for(m->reader, due_ns);
}

static bool
is_empty(struct bus_mailbox *m)
{
	if (error(m) == 0 && !bus__reader_is_through(m) &&
	    !atomic_load_explicit(&m->ended, memory_order_relaxed))
		return false;
	return bus__ring_empty(&m->ring);
}

static void
version(const struct bus_mailbox *m, struct bus__version *version)
{
	const struct taken *taken;

	if (!m->borrowed) {
		bus__ring_only_version(m, version);
		return;
	}
	taken = &m->reader->batch[m->at - 1];
	bus__log_value_of(m->bus->log, taken->word, taken->record, version);
}

static void
park(struct bus_mailbox *m)
{
	bus__reader_park(m);
	if (!m->borrowed)
		return;
	/* They come again. */
	atomic_fetch_sub_explicit(&m->read, m->batch.count - m->handled, memory_order_relaxed);
	bus__mailbox_end_batch(m);
}

static int
unpark(struct bus_mailbox *m)
{
	return m->reader->parked != 0 ? bus__reader_start(m) : 0;
}

/* --- anybody ------------------------------------------------------------------------------------------------------- */

static void
stir(struct bus_mailbox *m)
{
	bus__watch_call(m->bus, &m->wakes); /* it may sleep on the log */
}

static int
begin_poll(struct bus_mailbox *m)
{
	return bus__relay_start(m->bus);
}

static uint64_t
mark(const struct bus_mailbox *m)
{
	return bus__log_tail(m->reader->log);
}

/* A drainer holds the reader's lock from the choice of a message to its place in the ring. */
static uint64_t
behind(struct bus_mailbox *m)
{
	uint64_t end;

	pthread_mutex_lock(&m->reader->lock);
	end = bus__ring_only_behind(m);
	pthread_mutex_unlock(&m->reader->lock);
	return end;
}

/* Messages in the ring have no position: kept values, and messages for this mailbox alone. While one waits, the goal lies behind
 * the tail, and `reached` before the passed records. So neither an earlier `reached` nor a position noted before the message is taken
 * out counts as the goal. */
static void
progress(struct bus_mailbox *m, struct progress *progress)
{
	bool waits = progress->goal != progress->reached;
	uint64_t passed = atomic_load_explicit(&m->reader->passed, memory_order_acquire);

	if (waits) {
		progress->reached = passed - (passed > 0);
		progress->goal = bus__log_tail(m->reader->log) + 1;
	} else {
		progress->reached = bus__reader_reached(m);
		progress->goal = bus__log_tail(m->reader->log);
	}
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

/* Kept values pass through the ring, whose unused part takes no memory. */
static size_t
ring_bytes(const struct bus *bus, const struct bus_mailbox_config *cfg)
{
	size_t bytes = bus__mailbox_bytes(cfg);
	uint64_t kept;

	if (cfg->bytes != 0)
		return bytes;
	kept = 2 * bus__log_kept_bytes(bus->log);
	if (kept > KEPT_MOST)
		kept = KEPT_MOST;
	return kept > bytes ? (size_t)kept : bytes;
}

static int
init(struct bus_mailbox *m, const struct bus_mailbox_config *cfg)
{
	int err = bus__ring_init(&m->ring, ring_bytes(m->bus, cfg), 0);

	if (err < 0)
		return err;
	err = bus__reader_new(m->bus->log, cfg, &m->reader);
	if (err < 0)
		bus__ring_fini(&m->ring);
	return err;
}

static void
fini(struct bus_mailbox *m)
{
	bus__reader_free(m->reader);
	bus__ring_fini(&m->ring);
}

static void
shut(struct bus_mailbox *m)
{
	bus__reader_set_end(m->reader);
	bus__ring_close(&m->ring);
}

/* Records are read one by one. */
static unsigned
see_run(struct bus_mailbox *m, struct plain_run *ret_run)
{
	(void)m;
	(void)ret_run;
	return 0;
}

const struct source bus__from_log = {
    .take = take,
    .next = next,
    .run = run,
    .keep = keep,
    .done = done,
    .look = look,
    .idle = idle,
    .rest = rest,
    .has_read_for = has_read_for,
    .is_empty = is_empty,
    .error = error,
    .version = version,
    .see_run = see_run,
    .leave = bus__watch_leave,
    .peer_rests = bus__reader_peer_rests,
    .park = park,
    .unpark = unpark,
    .stir = stir,
    .begin_poll = begin_poll,
    .is_quiet = bus__reader_is_quiet,
    .mark = mark,
    .has_passed = bus__reader_has_passed,
    .behind = behind,
    .progress = progress,
    .init = init,
    .fini = fini,
    .shut = shut,
    .stop = bus__reader_stop,
};
