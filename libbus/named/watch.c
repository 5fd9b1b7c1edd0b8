/* named/watch.c: mailboxes go quiet, are hit, and come back. */
#include "named/watch.h"

#include "base/mem.h"
#include "bus/bus_internal.h"
#include "named/reader.h"
#include "named/state.h"
#include "named/watch_parts.h"

int
bus__watch_init(struct watch *w)
{
	return pthread_mutex_init(&w->lock, NULL) != 0 ? BUS_E_NOMEM : 0;
}

void
bus__watch_fini(struct watch *w)
{
	bus__heard_fini(&w->heard);
	pthread_mutex_destroy(&w->lock);
}

/* --- quiet mailboxes ---------------------------------------------------------------------------------------------- */

static void
link_quiet(struct watch *w, struct bus_mailbox *m)
{
	struct watched *q = &m->reader->watched;

	q->prev = NULL;
	q->next = w->quiet;
	if (q->next != NULL)
		q->next->reader->watched.prev = m;
	w->quiet = m;
	q->noted = place_of(&w->place);
	q->state = WATCH_QUIET;
	atomic_store_explicit(&q->rests, true, memory_order_relaxed);
}

static void
unlink_quiet(struct watch *w, struct bus_mailbox *m)
{
	struct watched *q = &m->reader->watched;

	if (q->next != NULL)
		q->next->reader->watched.prev = q->prev;
	if (q->prev != NULL)
		q->prev->reader->watched.next = q->next;
	else
		w->quiet = q->next;
}

void
bus__watch_tell(struct bus_mailbox *m)
{
	struct bus_mailbox *owed = NULL; /* stays NULL: a peer owes nothing */

	if (m->is_peer) {
		if (bus__ring_rouse(&m->ring))
			m->wake(m, &owed);
	} else {
		bus__mailbox_wake_all(m);
	}
}

void
bus__watch_hit(
    struct watch *w, struct bus_mailbox *m, struct watch_place resume, _Atomic uint32_t *self)
{
	struct watched *q = &m->reader->watched;

	unlink_quiet(w, m);
	q->resume = resume;
	q->state = WATCH_HIT;
	atomic_fetch_add_explicit(&w->hits, 1, memory_order_relaxed);
	if (&m->wakes == self) {
		atomic_fetch_add_explicit(&m->wakes, 1, memory_order_relaxed);
		bus__mailbox_signal_fd(m);
	} else {
		bus__watch_tell(m);
	}
}

void
bus__watch_hit_all(struct watch *w, struct watch_place resume, _Atomic uint32_t *self)
{
	while (w->quiet != NULL)
		bus__watch_hit(w, w->quiet, resume, self);
}

/* --- going quiet, and coming back ----------------------------------------------------------------------------------- */

void
bus__watch_leave_locked(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	struct watched *q = &r->watched;
	struct watch *w = &m->bus->named->watch;
	struct watch_place place;

	if (!atomic_load_explicit(&q->rests, memory_order_relaxed))
		return;
	pthread_mutex_lock(&w->lock);
	place = q->resume;
	if (q->state == WATCH_QUIET) {
		unlink_quiet(w, m);
		place = place_of(&w->place);
	}
	q->state = WATCH_AWAKE;
	atomic_store_explicit(&q->rests, false, memory_order_relaxed);
	pthread_mutex_unlock(&w->lock);
	/* Another thread may have made it quiet while it read on: never move its cursor back. */
	if (!atomic_load_explicit(&r->begun, memory_order_relaxed) ||
	    place.sequence <= r->cursor.sequence)
		return;
	bus__log_let_go(&r->cursor);
	r->cursor.number = place.number;
	r->cursor.at = r->cursor.limit = place.at;
	r->cursor.sequence = place.sequence;
	/* Release: as in bus__reader_passed(). Messages in the ring are handled once it is empty. */
	if (m->full != BUS_FULL_LATEST || bus__ring_empty(&m->ring))
		atomic_store_explicit(
		    &r->passed, bus__log_position(&r->cursor), memory_order_release);
}

void
bus__watch_leave(struct bus_mailbox *m)
{
	struct reader *r = m->reader;

	if (r == NULL || !atomic_load_explicit(&r->watched.rests, memory_order_relaxed))
		return;
	pthread_mutex_lock(&r->lock);
	bus__watch_leave_locked(m);
	pthread_mutex_unlock(&r->lock);
}

/* Makes it quiet where it stands, if that is the end of the log, and asks the log to wake the leader for the next record.
 * Watch lock and reader lock. */
static bool
make_quiet(struct bus_mailbox *m)
{
	struct log_cursor *own = &m->reader->cursor;
	struct watch *w = &m->bus->named->watch;

	if (w->quiet == NULL)
		w->place = bus__log_cursor_at(own);
	if (w->place.sequence != own->sequence)
		return false;
	/* Carried records have no sequence and may lie between both: no place stays before them. */
	if (bus__log_position(own) > bus__log_position(&w->place))
		w->place = bus__log_cursor_at(own);
	if (!bus__log_ask(m->bus->log, bus__log_position(&w->place)))
		return false;
	link_quiet(w, m);
	return true;
}

/* Reader lock. false with s->unknown: that name must be learned first. */
static bool
enter(struct bus_mailbox *m, struct scan *s)
{
	struct reader *r = m->reader;
	struct watch *w = &m->bus->named->watch;
	bool entered;

	s->unknown.len = 0;
	bus__watch_leave_locked(m);
	if (!atomic_load_explicit(&r->begun, memory_order_relaxed) ||
	    bus__log_position(&r->cursor) >= atomic_load_explicit(&r->end, memory_order_relaxed))
		return true;
	pthread_mutex_lock(&w->lock);
	while (w->quiet != NULL && w->place.sequence < r->cursor.sequence &&
	       bus__scan_piece(s, r->cursor.sequence) && s->unknown.len == 0)
		;
	bus__log_let_go(&w->place);
	entered = s->unknown.len == 0 && make_quiet(m);
	pthread_mutex_unlock(&w->lock);
	return entered;
}

bool
bus__watch_enter_locked(struct bus_mailbox *m)
{
	struct scan s;

	bus__scan_begin(&s, m->bus, NULL, false);
	/* Only the drainer finds "the last N". */
	return m->reader->last == NULL && enter(m, &s);
}

bool
bus__watch_enter(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	struct scan s;
	bool entered;

	bus__scan_begin(&s, m->bus, NULL, true);
	for (;;) {
		pthread_mutex_lock(&r->lock);
		entered = enter(m, &s);
		if (entered && atomic_load_explicit(&r->begun, memory_order_relaxed)) {
			/* It has reached the end: no earlier record is among the last, and every later one counts. */
			bus__free(r->last);
			r->last = NULL;
			r->since_ns = INT64_MIN;
		}
		pthread_mutex_unlock(&r->lock);
		if (s.unknown.len == 0)
			return entered;
		bus__scan_learn(m->bus, &s.unknown);
	}
}

/* --- beginning of a subscription ------------------------------------------------------------------------------------ */

void
bus__watch_note(struct bus_mailbox *m)
{
	struct watched *q = &m->reader->watched;
	struct watch *w = &m->bus->named->watch;

	if (!atomic_load_explicit(&q->rests, memory_order_relaxed))
		return;
	pthread_mutex_lock(&w->lock);
	q->noted = q->state == WATCH_QUIET ? place_of(&w->place) : q->resume;
	pthread_mutex_unlock(&w->lock);
}

void
bus__watch_joined(struct bus_mailbox *m)
{
	struct watched *q = &m->reader->watched;
	struct watch *w = &m->bus->named->watch;

	pthread_mutex_lock(&w->lock);
	bus__watch_changed(w);
	if (q->state == WATCH_HIT)
		q->resume = q->noted;
	else if (q->state == WATCH_QUIET && w->place.sequence != q->noted.sequence)
		bus__watch_hit(w, m, q->noted, NULL);
	pthread_mutex_unlock(&w->lock);
}

/* --- how far it has come -------------------------------------------------------------------------------------------- */

/* Watch lock. */
static bool
is_quiet(const struct bus_mailbox *m)
{
	return m->reader->watched.state == WATCH_QUIET;
}

bool
bus__watch_has_passed(struct bus_mailbox *m, uint64_t position)
{
	struct watch *w = &m->bus->named->watch;
	bool has;

	pthread_mutex_lock(&w->lock);
	if (is_quiet(m) && bus__log_position(&w->place) < position)
		bus__scan(m->bus, UINT64_MAX, NULL);
	has = is_quiet(m) && bus__log_position(&w->place) >= position;
	pthread_mutex_unlock(&w->lock);
	return has;
}

uint64_t
bus__watch_reached(struct bus_mailbox *m, uint64_t passed)
{
	struct watch *w = &m->bus->named->watch;

	pthread_mutex_lock(&w->lock);
	if (is_quiet(m) && bus__log_position(&w->place) > passed)
		passed = bus__log_position(&w->place);
	pthread_mutex_unlock(&w->lock);
	return passed;
}
