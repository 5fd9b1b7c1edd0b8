#include "named/watch.h"

#include <string.h>

#include "base/mem.h"
#include "base/park.h"
#include "base/siphash.h"
#include "named/state.h"
#include "named/members.h"
#include "named/reader.h"
#include "bus/request.h"
#include "bus/topic.h"

#define PIECE 1024 /* records between two moments in which others get the lock */

/* A thread that rests; on its stack. */
struct watch_waiter {
	_Atomic uint32_t *word;
	uint32_t handed; /* times that it was given the lead, each of which changed the word */
	bool is_listed;
	struct watch_waiter *next, *prev;
};

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

static struct watch_place
place_of(const struct log_cursor *c)
{
	return (struct watch_place){.number = c->number, .at = c->at, .sequence = c->sequence};
}

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
bus__watch_call(struct bus *bus, _Atomic uint32_t *word)
{
	if (atomic_load_explicit(&bus->named->watch.sleeper, memory_order_seq_cst) == word)
		bus__log_call(bus->log);
}

void
bus__watch_tell(struct bus_mailbox *m)
{
	struct bus_mailbox *owed = NULL; /* a peer owes nothing */

	if (m->is_peer) {
		if (bus__ring_rouse(&m->ring))
			m->wake(m, &owed);
	} else {
		bus__mailbox_wake_all(m);
	}
}

/* It goes on at `resume` by itself. `self`: the word of this thread, which needs no wake-up. */
static void
hit(struct watch *w, struct bus_mailbox *m, struct watch_place resume, _Atomic uint32_t *self)
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

static void
hit_all(struct watch *w, struct watch_place resume, _Atomic uint32_t *self)
{
	while (w->quiet != NULL)
		hit(w, w->quiet, resume, self);
}

/* --- what names stand for ------------------------------------------------------------------------------------------ */

/* A topic that is to be learned, copied out of the log. */
struct copied {
	size_t len; /* 0: none is */
	char name[BUS_LIMIT_TOPIC_BYTES + 1];
};

static void
heed_changes(struct watch *w)
{
	/* Acquire: pairs with the release in bus__watch_changed(): a topic that is about to be garbage is forgotten here,
	 * or the stripe that we hold holds up its end. */
	uint32_t changes = atomic_load_explicit(&w->changes, memory_order_acquire);

	if (changes == w->learned)
		return;
	bus__heard_forget(&w->heard);
	w->learned = changes;
}

/* Learns what a name stands for. Without memory everybody looks for himself. No lock held. */
static void
learn(struct bus *bus, const struct copied *unknown)
{
	struct watch *w = &bus->named->watch;
	struct topic *topic;
	int err;

	bus__lock(bus);
	err = bus__reader_topic(bus, NULL, unknown->name, unknown->len, &topic);
	pthread_mutex_lock(&w->lock);
	heed_changes(w);
	if (err == 0)
		err = bus__heard_put_name(
		    &w->heard, bus__siphash(bus->key, unknown->name, unknown->len), topic);
	if (err < 0)
		hit_all(w, place_of(&w->place), NULL);
	pthread_mutex_unlock(&w->lock);
	/* The leader runs no callback: all others would wait for it. */
	bus__unlock_only(bus);
}

/* --- the scan ----------------------------------------------------------------------------------------------------- */

struct scan {
	struct bus *bus;
	struct watch_place at;  /* the record that it looks at */
	_Atomic uint32_t *self; /* hit() */
	bool may_learn;
	struct copied unknown;
};

static void
hit_if_quiet(struct scan *s, struct bus_mailbox *m)
{
	if (m->reader->watched.state == WATCH_QUIET)
		hit(&s->bus->named->watch, m, s->at, s->self);
}

static void
hit_asker(void *arg, struct bus_mailbox *m)
{
	hit_if_quiet(arg, m);
}

/* What a link lost concerns all mailboxes that have something from links. */
static void
hit_carried(struct scan *s)
{
	for (struct bus_mailbox *m = s->bus->named->watch.quiet, *next; m != NULL; m = next) {
		next = m->reader->watched.next;
		if (!m->is_peer && atomic_load_explicit(&m->carried_subs, memory_order_relaxed) > 0)
			hit(&s->bus->named->watch, m, s->at, s->self);
	}
}

static void
hit_routes(struct scan *s, const struct topic *topic, bool relayed)
{
	/* Acquire: pairs with the release of whoever made it. The stripe keeps it. */
	const struct snapshot *routes = atomic_load_explicit(&topic->routes, memory_order_acquire);

	for (uint32_t i = 0; routes != NULL && i < routes->count; i++) {
		struct bus_mailbox *m = routes->routes[i]->mbox;

		/* A link brought it: no link takes it away. */
		if (!(m->is_peer && relayed))
			hit_if_quiet(s, m);
	}
}

/* Looks up the topic of a record by its name. false: it is not known; then *ret_name is its name, or NULL. */
static bool
look_up_name(struct scan *s, const struct log_record *record, uint64_t word, void **ret_topic,
    const char **ret_name, uint32_t *ret_len)
{
	struct watch *w = &s->bus->named->watch;

	*ret_topic = NULL;
	*ret_name = bus__log_name(&w->place, record, ret_len);
	if (*ret_name == NULL ||
	    !bus__heard_name(&w->heard, bus__siphash(s->bus->key, *ret_name, *ret_len), ret_topic))
		return false;
	/* Without memory it looks by the name again. */
	if (!(word >> 32 & LOG_NAMED) || bus__heard_notes_at_once(&w->heard, w->place.number))
		bus__heard_put_number(&w->heard, w->place.number, record->topic, *ret_topic);
	return true;
}

/* Looks at a message. false: its topic is to be learned first. */
static bool
look_at_message(struct scan *s, const struct log_record *record, uint64_t word)
{
	struct watch *w = &s->bus->named->watch;
	const char *name = NULL;
	void *topic;
	uint32_t len;

	if ((!(word >> 32 & LOG_NAMED) &&
		bus__heard_number(&w->heard, w->place.number, record->topic, &topic)) ||
	    look_up_name(s, record, word, &topic, &name, &len)) {
		if (topic != NULL)
			hit_routes(s, topic, word >> 32 & LOG_RELAYED);
		return true;
	}
	if (s->may_learn && name != NULL) {
		memcpy(s->unknown.name, name, len);
		s->unknown.name[len] = '\0';
		s->unknown.len = len;
		return false;
	}
	hit_all(w, s->at, s->self); /* one without a name is damaged, and lost for each */
	return true;
}

/* Looks at one record. The same answer. */
static bool
look_at(struct scan *s, const struct log_record *record, uint64_t word)
{
	struct watch *w = &s->bus->named->watch;
	struct log_view view;

	if (word >> 32 & LOG_GAP) {
		hit_carried(s);
	} else if (word >> 32 & LOG_ANSWER) {
		if (record->origin == s->bus->log->member && bus__log_read(word, record, &view))
			bus__answer_mailbox(
			    s->bus, view.reply, w->place.sequence - 1, hit_asker, s);
	} else if (record->topic != 0) {
		return look_at_message(s, record, word);
	}
	return true;
}

static void
begin_scan(struct scan *s, struct bus *bus, _Atomic uint32_t *self, bool may_learn)
{
	s->bus = bus;
	s->self = self;
	s->may_learn = may_learn;
	s->unknown.len = 0;
}

/* Looks at records before the sequence `end`, for as long as there are quiet mailboxes, but at no more than a piece. Watch lock.
 * false: there is nothing more to look at. */
static bool
scan_piece(struct scan *s, uint64_t end)
{
	struct watch *w = &s->bus->named->watch;
	struct log_cursor *c = &w->place;
	struct stripe *stripe = bus__read_begin(s->bus);
	unsigned left = PIECE;

	s->unknown.len = 0;
	heed_changes(w);
	while (left > 0 && w->quiet != NULL && c->sequence < end) {
		const struct log_record *record;

		s->at = place_of(c);
		record = bus__log_next(c);
		/* Some are gone: each mailbox finds that out from where it was, and counts them. */
		if (bus__log_lost(c) > 0)
			hit_all(w, s->at, s->self);
		if (record == NULL)
			break;
		if (!look_at(s, record, c->word)) {
			bus__log_unread(c);
			break;
		}
		atomic_fetch_add_explicit(&w->looks, 1, memory_order_relaxed);
		left--;
	}
	bus__read_end(stripe);
	return s->unknown.len != 0 || left == 0;
}

/* Watch lock, which others get meanwhile. */
static void
scan(struct bus *bus, uint64_t end, _Atomic uint32_t *self)
{
	struct watch *w = &bus->named->watch;
	struct scan s;

	begin_scan(&s, bus, self, true);
	while (scan_piece(&s, end)) {
		pthread_mutex_unlock(&w->lock);
		if (s.unknown.len != 0)
			learn(bus, &s.unknown);
		pthread_mutex_lock(&w->lock);
	}
	bus__log_let_go(&w->place);
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
	/* Another thread may have made it quiet while it read on: it does not go back. */
	if (!atomic_load_explicit(&r->begun, memory_order_relaxed) ||
	    place.sequence <= r->cursor.sequence)
		return;
	bus__log_let_go(&r->cursor);
	r->cursor.number = place.number;
	r->cursor.at = r->cursor.limit = place.at;
	r->cursor.sequence = place.sequence;
	/* Release: as in bus__reader_passed(). What went through the ring is handled when that is empty. */
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

/* Makes it quiet where it stands, if that is the end of the log, for whose next record the leader is woken. Watch lock and
 * reader lock. */
static bool
make_quiet(struct bus_mailbox *m)
{
	struct log_cursor *own = &m->reader->cursor;
	struct watch *w = &m->bus->named->watch;

	if (w->quiet == NULL)
		w->place = bus__log_cursor_at(own);
	if (w->place.sequence != own->sequence)
		return false;
	/* Between both may lie what was carried, which has no sequence: nobody stays before that. */
	if (bus__log_position(own) > bus__log_position(&w->place))
		w->place = bus__log_cursor_at(own);
	if (!bus__log_ask(m->bus->log, bus__log_position(&w->place)))
		return false;
	link_quiet(w, m);
	return true;
}

/* Reader lock. false, and s->unknown: that is to be learned. */
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
	       scan_piece(s, r->cursor.sequence) && s->unknown.len == 0)
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

	begin_scan(&s, m->bus, NULL, false);
	/* "The last N" are the drainer's to find. */
	return m->reader->last == NULL && enter(m, &s);
}

bool
bus__watch_enter(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	struct scan s;
	bool entered;

	begin_scan(&s, m->bus, NULL, true);
	for (;;) {
		pthread_mutex_lock(&r->lock);
		entered = enter(m, &s);
		if (entered && atomic_load_explicit(&r->begun, memory_order_relaxed)) {
			/* It has come to the end: of what was there none is among the last, and what comes is meant. */
			bus__free(r->last);
			r->last = NULL;
			r->since_ns = INT64_MIN;
		}
		pthread_mutex_unlock(&r->lock);
		if (s.unknown.len == 0)
			return entered;
		learn(m->bus, &s.unknown);
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
		hit(w, m, q->noted, NULL);
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
		scan(m->bus, UINT64_MAX, NULL);
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

/* --- resting ---------------------------------------------------------------------------------------------------------- */

/* The relay last: what leads and is hit needs no other to be woken. Watch lock, as for the next. */
static void
list_waiter(struct watch *w, struct watch_waiter *me, bool is_relay)
{
	me->next = is_relay ? NULL : w->first;
	me->prev = is_relay ? w->last : NULL;
	*(me->prev != NULL ? &me->prev->next : &w->first) = me;
	*(me->next != NULL ? &me->next->prev : &w->last) = me;
	me->is_listed = true;
}

static void
unlist_waiter(struct watch *w, struct watch_waiter *me)
{
	if (!me->is_listed)
		return;
	*(me->prev != NULL ? &me->prev->next : &w->first) = me->next;
	*(me->next != NULL ? &me->next->prev : &w->last) = me->prev;
	me->is_listed = false;
}

/* Makes the first that waits the leader. Its word changes and `handed` with it, under the lock. */
static void
hand_on(struct watch *w)
{
	struct watch_waiter *next = w->first;

	w->leader = next;
	if (next == NULL)
		return;
	unlist_waiter(w, next);
	next->handed++;
	atomic_fetch_add_explicit(next->word, 1, memory_order_release);
	bus__unpark(next->word);
}

/* Sleeps on the log once, for all. Watch lock, which others get meanwhile. */
static int
lead(struct bus *bus, struct watch_waiter *me, uint32_t expected, int64_t deadline_ns)
{
	struct watch *w = &bus->named->watch;
	/* Before a look at anything: what is news changes it after. */
	uint32_t news = bus__log_news(bus->log);
	uint64_t tail = bus__log_tail(bus->log);
	int woken;

	scan(bus, UINT64_MAX, me->word);
	/* There is more, and the scan does not get there: the log is damaged, as each will find. */
	if (w->quiet != NULL &&
	    (bus__log_position(&w->place) < tail || bus__log_is_damaged(bus->log)))
		hit_all(w, place_of(&w->place), me->word);
	atomic_store_explicit(&w->sleeper, me->word, memory_order_seq_cst);
	if (atomic_load_explicit(me->word, memory_order_seq_cst) != expected ||
	    (w->quiet != NULL && !bus__log_ask(bus->log, bus__log_position(&w->place)))) {
		atomic_store_explicit(&w->sleeper, NULL, memory_order_relaxed);
		return 0;
	}
	pthread_mutex_unlock(&w->lock);
	bus__members_heed(bus);
	woken = bus__log_sleep(bus->log, news, deadline_ns);
	pthread_mutex_lock(&w->lock);
	atomic_store_explicit(&w->sleeper, NULL, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->sleeps, 1, memory_order_relaxed);
	return woken;
}

int
bus__watch_sleep(
    struct bus *bus, _Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns, bool is_relay)
{
	struct watch *w = &bus->named->watch;
	struct watch_waiter me = {.word = word};
	int woken = 0;

	pthread_mutex_lock(&w->lock);
	/* Acquire: pairs with whoever changed it, for what it is woken for. */
	while (woken == 0 && atomic_load_explicit(word, memory_order_acquire) == seen + me.handed) {
		uint32_t expected = seen + me.handed;

		if (w->leader == NULL)
			w->leader = &me;
		if (w->leader == &me) {
			woken = lead(bus, &me, expected, deadline_ns);
			continue;
		}
		list_waiter(w, &me, is_relay);
		pthread_mutex_unlock(&w->lock);
		woken = bus__park(word, expected, deadline_ns);
		pthread_mutex_lock(&w->lock);
		unlist_waiter(w, &me);
	}
	if (w->leader == &me)
		hand_on(w);
	pthread_mutex_unlock(&w->lock);
	return woken;
}
