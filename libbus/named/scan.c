/* named/scan.c: the scan of the watch looks at each record of the log, and hits the quiet mailboxes that it is for. */
#include <pthread.h>

#include "base/siphash.h"
#include "bus/bus_internal.h"
#include "bus/request.h"
#include "bus/topic.h"
#include "named/reader.h"
#include "named/state.h"
#include "named/watch_parts.h"

#define PIECE 1024 /* records between two moments in which other threads get the lock */

/* --- what names stand for ------------------------------------------------------------------------------------------ */

static void
heed_changes(struct watch *w)
{
	/* Acquire: pairs with the release in bus__watch_changed(): a topic that is about to be garbage is forgotten here,
	 * or the stripe that this thread holds delays its end. */
	uint32_t changes = atomic_load_explicit(&w->changes, memory_order_acquire);

	if (changes == w->learned)
		return;
	bus__heard_forget(&w->heard);
	w->learned = changes;
}

void
bus__scan_learn(struct bus *bus, const struct heard_name *unknown)
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
		bus__watch_hit_all(w, place_of(&w->place), NULL);
	pthread_mutex_unlock(&w->lock);
	/* The leader runs no callback: every other thread would wait for it. */
	bus__unlock_only(bus);
}

/* --- mailboxes that a record is for -------------------------------------------------------------------------------- */

static void
hit_if_quiet(struct scan *s, struct bus_mailbox *m)
{
	if (m->reader->watched.state == WATCH_QUIET)
		bus__watch_hit(&s->bus->named->watch, m, s->at, s->self);
}

static void
hit_asker(void *arg, struct bus_mailbox *m)
{
	hit_if_quiet(arg, m);
}

/* A loss of a link concerns every mailbox that receives from links. */
static void
hit_carried(struct scan *s)
{
	for (struct bus_mailbox *m = s->bus->named->watch.quiet, *next; m != NULL; m = next) {
		next = m->reader->watched.next;
		if (!m->is_peer && atomic_load_explicit(&m->carried_subs, memory_order_relaxed) > 0)
			bus__watch_hit(&s->bus->named->watch, m, s->at, s->self);
	}
}

static void
hit_routes(struct scan *s, const struct topic *topic, bool relayed)
{
	/* Acquire: pairs with the release that published the snapshot. The stripe keeps it alive. */
	const struct snapshot *routes = atomic_load_explicit(&topic->routes, memory_order_acquire);

	for (uint32_t i = 0; routes != NULL && i < routes->count; i++) {
		struct bus_mailbox *m = routes->routes[i]->mbox;

		/* What a link brought, only hubs pass on. */
		if (!(m->is_peer && relayed && !m->far.fed))
			hit_if_quiet(s, m);
	}
}

/* --- the look at each record ---------------------------------------------------------------------------------------- */

/* Looks up the topic of a record by its name. false: the name is unknown; *ret_name is the name, or NULL. */
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
	/* Without memory for the number, the next record looks up its name again. */
	if (!(word >> 32 & LOG_NAMED) || bus__heard_notes_at_once(&w->heard, w->place.number))
		bus__heard_put_number(&w->heard, w->place.number, record->topic, *ret_topic);
	return true;
}

/* Looks at a message. false: its topic must be learned first. */
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
		heard_copy_name(&s->unknown, name, len);
		return false;
	}
	bus__watch_hit_all(w, s->at,
	    s->self); /* a record without a name is damaged: each mailbox counts it as lost */
	return true;
}

/* Looks at one record. false: its topic must be learned first. */
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

void
bus__scan_begin(struct scan *s, struct bus *bus, _Atomic uint32_t *self, bool may_learn)
{
	s->bus = bus;
	s->self = self;
	s->may_learn = may_learn;
	s->unknown.len = 0;
}

bool
bus__scan_piece(struct scan *s, uint64_t end)
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
		/* Records were overwritten: each mailbox finds that out from its own place, and counts them. */
		if (bus__log_lost(c) > 0)
			bus__watch_hit_all(w, s->at, s->self);
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

void
bus__scan(struct bus *bus, uint64_t end, _Atomic uint32_t *self)
{
	struct watch *w = &bus->named->watch;
	struct scan s;

	bus__scan_begin(&s, bus, self, true);
	while (bus__scan_piece(&s, end)) {
		pthread_mutex_unlock(&w->lock);
		if (s.unknown.len != 0)
			bus__scan_learn(bus, &s.unknown);
		pthread_mutex_lock(&w->lock);
	}
	bus__log_let_go(&w->place);
}
