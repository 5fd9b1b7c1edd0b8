#include "named/reader.h"

#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "named/state.h"
#include "mailbox/call.h"
#include "bus/gap.h"
#include "topic/name.h"
#include "bus/request.h"
#include "bus/topic.h"
#include "topic/near.h"

#define MOST_LAST    10000
#define SKIP_MOST    65536 /* records in one go: between two of them the drainer looks up */
#define LATE_MOST_NS INT64_C(1000000000) /* that a request waits for what it has not read */
#define OWN_MOST     65536 /* bytes of a caller's batch, if it is not one message alone */

/* --- life ------------------------------------------------------------------------------------------------------ */

/* A position that is not there yet is one of another life, whatever its epoch was said to be. */
static int
check_position(struct log *log, const struct bus_mailbox_config *cfg)
{
	struct log_cursor now;
	uint64_t next;
	int err;

	if (cfg->from_epoch != 0 && cfg->from_epoch != log->epoch)
		return BUS_E_RESET;
	err = bus__log_cursor_open(log, LOG_FROM_NOW, 0, &now);
	if (err < 0)
		return err;
	next = now.sequence;
	bus__log_cursor_close(&now);
	return cfg->from_value < next ? 0 : BUS_E_RESET;
}

int
bus__reader_new(struct log *log, const struct bus_mailbox_config *cfg, struct reader **ret_reader)
{
	struct reader *r;
	int err = 0;

	if (cfg->from == BUS_FROM_LAST && cfg->from_value > MOST_LAST)
		err = BUS_E_LIMIT;
	else if (cfg->from == BUS_FROM_POSITION)
		err = check_position(log, cfg);
	if (err < 0)
		return err;
	r = bus__calloc(1, sizeof *r);
	if (r == NULL)
		return BUS_E_NOMEM;
	if (pthread_mutex_init(&r->lock, NULL) != 0) {
		bus__free(r);
		return BUS_E_NOMEM;
	}
	r->batch = bus__pages(READER_BATCH_BYTES);
	if (cfg->from == BUS_FROM_LAST)
		r->last = bus__calloc((size_t)cfg->from_value + 1, sizeof *r->last);
	if (r->batch == NULL || (cfg->from == BUS_FROM_LAST && r->last == NULL)) {
		bus__reader_free(r);
		return BUS_E_NOMEM;
	}
	r->log = log;
	r->from = cfg->from;
	r->value = cfg->from_value;
	r->since_ns = cfg->from == BUS_FROM_TIME ? (int64_t)cfg->from_value : INT64_MIN;
	atomic_init(&r->end, UINT64_MAX);
	*ret_reader = r;
	return 0;
}

void
bus__reader_free(struct reader *r)
{
	if (r == NULL)
		return;
	bus__free(r->last);
	bus__heard_fini(&r->heard);
	bus__free(r->own);
	bus__pages_free(r->batch, READER_BATCH_BYTES);
	pthread_mutex_destroy(&r->lock);
	bus__free(r);
}

void
bus__reader_stop(struct bus_mailbox *m)
{
	struct reader *r = m->reader;

	pthread_mutex_lock(&r->lock);
	bus__watch_leave_locked(m);
	if (atomic_exchange_explicit(&r->begun, false, memory_order_acq_rel))
		bus__log_cursor_close(&r->cursor);
	atomic_store_explicit(&r->end, 0, memory_order_release); /* nor does it begin again */
	pthread_mutex_unlock(&r->lock);
}

/* Opens the cursor, where the mailbox is to begin, if it is not open. Reader lock. */
static int
open_cursor(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	enum log_from from = LOG_FROM_OLDEST;
	int err;

	if (atomic_load_explicit(&r->begun, memory_order_relaxed))
		return 0;
	if (atomic_load_explicit(&r->end, memory_order_relaxed) != UINT64_MAX)
		return BUS_E_CLOSED;
	if (r->parked != 0)
		from = LOG_FROM_SEQUENCE;
	else if (r->from == BUS_FROM_NOW)
		from = LOG_FROM_NOW;
	else if (r->from == BUS_FROM_POSITION)
		from = LOG_FROM_SEQUENCE;
	err = bus__log_cursor_open(
	    r->log, from, r->parked != 0 ? r->parked : r->value + 1, &r->cursor);
	if (err < 0)
		return err;
	r->parked = 0;
	atomic_store_explicit(&r->passed, bus__log_position(&r->cursor), memory_order_relaxed);
	bus__log_let_go(&r->cursor); /* it may be long until somebody reads */
	/* Release: the drainer looks at the cursor without the lock. */
	atomic_store_explicit(&r->begun, true, memory_order_release);
	/* It may sleep already, and has asked nobody. */
	bus__mailbox_stir(m);
	if ((m->is_peer || atomic_load_explicit(&m->fd, memory_order_acquire) >= 0) &&
	    !bus__watch_enter_locked(m))
		bus__watch_tell(m);
	return 0;
}

void
bus__reader_park(struct bus_mailbox *m)
{
	struct reader *r = m->reader;

	pthread_mutex_lock(&r->lock);
	bus__watch_leave_locked(m);
	if (atomic_load_explicit(&r->begun, memory_order_relaxed)) {
		r->parked = r->cursor.sequence;
		/* What it has taken and not handed on comes again. */
		if (m->borrowed && m->at < m->batch.count)
			r->parked = r->batch[m->at].sequence;
		atomic_store_explicit(&r->begun, false, memory_order_release);
		bus__log_cursor_close(&r->cursor);
	}
	pthread_mutex_unlock(&r->lock);
}

/* --- what numbers stand for ------------------------------------------------------------------------------------- */

/* A name that was copied out of the log, where others can write. */
struct copied {
	size_t len; /* 0: none */
	char name[BUS_LIMIT_TOPIC_BYTES + 1];
};

static void
copy_name(struct copied *copied, const char *name, size_t len)
{
	memcpy(copied->name, name, len);
	copied->name[len] = '\0';
	copied->len = len;
}

static void
forget_all(struct reader *r)
{
	bus__heard_forget(&r->heard);
	r->last_number = 0;
	r->last_route = NULL;
}

/* Numbers are those of one segment. */
static inline void
heed_segment(struct reader *r)
{
	if (r->cursor.number == r->last_segment)
		return;
	r->last_segment = r->cursor.number;
	r->last_number = 0;
	r->last_route = NULL;
}

/* Hashes the name in the next record, if there is one, and has its entry of the table fetched: of very many topics in turn each
 * would be waited for. */
static inline void
look_ahead(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	const struct log_cursor *c = &r->cursor;
	const struct log_record *record = (const struct log_record *)(c->bytes + c->at);
	const char *name;
	uint64_t word;
	uint32_t len;

	if (c->at >= c->limit)
		return;
	word = atomic_load_explicit(&record->word, memory_order_relaxed);
	name =
	    record_bytes(word) <= c->limit - c->at ? bus__log_own_name(record, word, &len) : NULL;
	if (name == NULL)
		return;
	r->ahead = bus__log_position(c);
	r->ahead_hash = bus__siphash(m->bus->key, name, len);
	bus__heard_expect_name(&r->heard, r->ahead_hash);
}

/* Looks up the name of a record's topic: of one that names it, or whose number is not noted. false: it is not known, and
 * copied. One that is not there is of a damaged record, or it went while the reader copied; then the message is lost. */
static __attribute__((noinline)) bool
look_up_name(struct bus_mailbox *m, const struct log_record *record, struct copied *unknown,
    struct route **ret_route)
{
	struct reader *r = m->reader;
	struct log_cursor *c = &r->cursor;
	bool names = c->word >> 32 & LOG_NAMED;
	void *route = NULL;
	const char *name;
	uint64_t hash;
	uint32_t len;

	*ret_route = NULL;
	name = bus__log_name(c, record, &len);
	if (name == NULL) {
		c->lost++;
		return true;
	}
	hash = names && r->ahead == bus__log_position(c) - record_bytes(c->word)
		   ? r->ahead_hash
		   : bus__siphash(m->bus->key, name, len);
	if (!bus__heard_name(&r->heard, hash, &route)) {
		copy_name(unknown, name, len);
		return false;
	}
	*ret_route = route;
	if (names)
		look_ahead(m);
	/* Without memory it looks by the name again. */
	if (!names || bus__heard_notes_at_once(&r->heard, c->number))
		bus__heard_put_number(&r->heard, c->number, record->topic, route);
	return true;
}

/* false: it is not known. */
static inline bool
look_up(struct bus_mailbox *m, const struct log_record *record, struct copied *unknown,
    struct route **ret_route)
{
	const struct reader *r = m->reader;
	void *route;

	*ret_route = NULL;
	if (record->topic == 0)
		return true; /* no topic has it */
	if (r->cursor.word >> 32 & LOG_NAMED ||
	    !bus__heard_number(&r->heard, r->cursor.number, record->topic, &route))
		return look_up_name(m, record, unknown, ret_route);
	*ret_route = route;
	return true;
}

struct wanting {
	const struct bus_mailbox *mbox; /* NULL: any */
	bool found;
};

static void
look_whether_wanted(void *arg, struct node *filter)
{
	struct wanting *w = arg;

	for (const struct bus_sub *sub = filter->subs; sub != NULL && !w->found;
	     sub = sub->next_at_node)
		w->found = w->mbox == NULL || sub->mbox == w->mbox;
}

/* Whether that is the name of a topic whose messages come through the log. */
static bool
is_name(const char *name, size_t len)
{
	size_t its;
	int err = bus__topic_check(name, &its);

	if (err == BUS_E_TOPIC_RESERVED && bus__is_logged(name))
		return strlen(name) == len;
	return err == 0 && its == len;
}

int
bus__reader_topic(struct bus *bus, const struct bus_mailbox *m, const char *name, size_t len,
    struct topic **ret_topic)
{
	struct wanting wanting = {.mbox = m};

	*ret_topic = NULL;
	if (!is_name(name, len))
		return 0; /* nobody here would have made that */
	bus__trie_match_topic(&bus->trie, name, look_whether_wanted, &wanting);
	return wanting.found ? bus__topic_make(bus, name, len, ret_topic) : 0;
}

int
bus__reader_route(struct bus_mailbox *m, const char *name, size_t len, struct route **ret_route)
{
	struct topic *topic;
	int err = bus__reader_topic(m->bus, m, name, len, &topic);

	*ret_route = err == 0 && topic != NULL ? bus__topic_route(topic, m) : NULL;
	return err;
}

/* Learns what a name stands for. false: there is no memory for that, and its next message is lost. */
static bool
learn(struct bus_mailbox *m, const struct copied *unknown)
{
	struct reader *r = m->reader;
	struct route *route;
	int err;

	bus__lock(m->bus);
	err = bus__reader_route(m, unknown->name, unknown->len, &route);
	pthread_mutex_lock(&r->lock);
	if (err == 0)
		err = bus__heard_put_name(
		    &r->heard, bus__siphash(m->bus->key, unknown->name, unknown->len), route);
	if (err < 0 && bus__log_next(&r->cursor) != NULL)
		r->cursor.lost++;
	pthread_mutex_unlock(&r->lock);
	bus__unlock(m->bus);
	return err == 0;
}

/* --- taking ------------------------------------------------------------------------------------------------------ */

/* Where a reply goes that is for this process; NULL: not into this mailbox. */
static struct route *
answer_route(struct bus_mailbox *m, struct taken *t, const struct log_record *record)
{
	struct log_cursor *c = &m->reader->cursor;
	struct log_view view;

	if (!(c->word >> 32 & LOG_ANSWER) || record->origin != c->log->member ||
	    !bus__log_read(c->word, record, &view))
		return NULL;
	return bus__answer_route(m, view.reply, c->sequence - 1, &t->reply);
}

/* Counts what a link lost, if the next message is the first of a batch, which tells of it. false: the batch ends before it.
 * Others may write to a log, so a number is not believed beyond what can be lost. */
static bool
take_gap(struct bus_mailbox *m, bool behind, const struct log_record *record)
{
	struct reader *r = m->reader;
	struct log_view view;
	uint64_t count;

	if (behind) {
		bus__log_unread(&r->cursor);
		return false;
	}
	if (m->is_peer || atomic_load_explicit(&m->carried_subs, memory_order_relaxed) == 0 ||
	    r->since_ns != INT64_MIN || !bus__log_read(r->cursor.word, record, &view) ||
	    view.len != LOG_GAP_BYTES)
		return true;
	memcpy(&count, view.data, sizeof count);
	if (count > BUS__GAP_MOST)
		count = BUS__GAP_MOST;
	r->gap = bus__lost_sum(r->gap, count | (view.data[8] != 0 ? RING_LOST_AT_LEAST : 0));
	return true;
}

/* Finds the next record that somebody here wants; `here`: in the segment that is held. false: there is none, or
 * (unknown->len) one of a topic that is to be learned. Reader lock. */
static inline __attribute__((always_inline)) bool
next_wanted(
    struct bus_mailbox *m, bool here, unsigned *left, struct taken *t, struct copied *unknown)
{
	struct reader *r = m->reader;
	struct log_cursor *c = &r->cursor;
	uint64_t end = atomic_load_explicit(&r->end, memory_order_relaxed);

	for (; *left > 0; --*left) {
		const struct log_record *record;
		uint32_t number;

		if (end != UINT64_MAX && bus__log_position(c) >= end)
			return false;
		record = bus__log_next_here(c);
		if (record == NULL && !here) {
			record = bus__log_next(c);
			heed_segment(r);
		}
		/* What comes from now on, or behind the first that is not too old, is meant, whatever its time. */
		if (r->since_ns != INT64_MIN &&
		    (record == NULL ? !here : record->time_ns >= r->since_ns))
			r->since_ns = INT64_MIN;
		if (record == NULL)
			return false;
		number = record->topic;
		t->reply = 0;
		if (c->word >> 32 & (LOG_ANSWER | LOG_GAP)) {
			if (c->word >> 32 & LOG_GAP && !take_gap(m, here, record))
				return false;
			t->route = answer_route(m, t, record);
		} else if (m->is_peer && (c->word >> 32 & LOG_RELAYED)) {
			t->route = NULL; /* a link brought it: no link takes it away */
		} else if (number == r->last_number) {
			t->route = r->last_route; /* most come in runs */
		} else if (!look_up(m, record, unknown, &t->route)) {
			bus__log_unread(c);
			return false;
		} else {
			r->last_number = number;
			r->last_route = t->route;
		}
		if (t->route == NULL || r->since_ns != INT64_MIN)
			continue;
		t->record = record;
		t->word = c->word;
		t->sequence = c->sequence - 1;
		return true;
	}
	return false;
}

static void
heed_changes(struct reader *r)
{
	/* Acquire: pairs with the release of whoever changed something, so that we learn what is new. */
	uint32_t changes = atomic_load_explicit(&r->changes, memory_order_acquire);

	if (changes == r->learned)
		return;
	forget_all(r);
	r->learned = changes;
}

/* Why a choice ended with nothing. */
struct pause {
	bool tired;            /* it has passed over many, and there may be more */
	struct copied unknown; /* a topic that is to be learned */
};

/* Reader lock. */
static uint32_t
choose(struct bus_mailbox *m, struct pause *pause)
{
	struct reader *r = m->reader;
	struct taken *batch = r->batch;
	uint64_t most = m->drain == BUS_DRAIN_CALLER && !m->is_peer ? OWN_MOST : UINT64_MAX;
	unsigned left = SKIP_MOST;
	uint64_t bytes = 0;
	uint32_t count = 0;

	pause->unknown.len = 0;
	heed_changes(r);
	heed_segment(r);
	/* All of it lies in one segment: no other is held, and what was lost is lost before the first. */
	while (count < READER_BATCH &&
	       next_wanted(m, count > 0, &left, &batch[count], &pause->unknown)) {
		bytes += record_bytes(batch[count].word);
		if (bytes > most && count > 0) {
			bus__log_unread(&r->cursor);
			break;
		}
		count++;
	}
	pause->tired = left == 0;
	return count;
}

/* Whether it has come to the tail. */
static bool
is_over(uint32_t count, const struct pause *pause)
{
	return count == 0 && pause->unknown.len == 0 && !pause->tired;
}

/* Goes through the log once, to find where the last messages begin that its subscriptions want. */
static void
find_last(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	struct pause pause;
	uint64_t found = 0;
	uint32_t count;

	do {
		pthread_mutex_lock(&r->lock);
		count = choose(m, &pause);
		for (uint32_t i = 0; i < count && r->value > 0; i++)
			r->last[found++ % r->value] = r->batch[i].sequence;
		if (is_over(count, &pause)) {
			uint64_t start = r->cursor.sequence;

			if (found > 0)
				start = r->last[found < r->value ? 0 : found % r->value];
			bus__log_seek(&r->cursor, LOG_FROM_SEQUENCE, start);
			r->gap = 0; /* of those in front; the others it finds again */
		}
		pthread_mutex_unlock(&r->lock);
		/* What it cannot learn now counts as wanted: it is lost then, or comes. */
		if (count == 0 && pause.unknown.len != 0 && !learn(m, &pause.unknown) &&
		    r->value > 0)
			r->last[found++ % r->value] = r->cursor.sequence - 1;
	} while (!is_over(count, &pause));
	bus__free(r->last);
	r->last = NULL;
}

uint32_t
bus__reader_take(struct bus_mailbox *m, uint64_t *lost)
{
	struct reader *r = m->reader;
	struct pause pause;
	uint32_t count;
	bool on;

	if (!atomic_load_explicit(&r->begun, memory_order_acquire))
		return 0;
	if (r->last != NULL)
		find_last(m);
	r->owned = false;
	do {
		pthread_mutex_lock(&r->lock);
		/* A subscription that has just begun has put in what is kept, which goes first. */
		if (!bus__ring_empty(&m->ring)) {
			pthread_mutex_unlock(&r->lock);
			return 0;
		}
		count = choose(m, &pause);
		*lost += bus__log_lost(&r->cursor);
		pthread_mutex_unlock(&r->lock);
		if (count == 0 && pause.unknown.len != 0)
			learn(m, &pause.unknown);
		/* What comes behind those that nobody wants comes in the same call, unless somebody waits for us. */
		on = count == 0 &&
		     (pause.unknown.len != 0 ||
			 (pause.tired && !(atomic_load_explicit(&m->phase, memory_order_relaxed) &
					     PHASE_WAITED)));
	} while (on);
	return count;
}

/* 0, or BUS_E_NOMEM. What was needed for a large one is not kept. */
static int
make_own(struct reader *r, size_t bytes)
{
	size_t cap = bytes > OWN_MOST ? bytes : OWN_MOST;

	if (r->own_cap == cap)
		return 0;
	bus__free(r->own);
	r->own = bus__malloc(cap);
	r->own_cap = r->own != NULL ? cap : 0;
	return r->own != NULL ? 0 : BUS_E_NOMEM;
}

void
bus__reader_own(struct reader *r, uint32_t at, uint32_t count)
{
	size_t bytes = 0;
	uint8_t *to;

	if (r->owned || at == count)
		return;
	pthread_mutex_lock(&r->lock);
	r->owned = bus__log_copies(&r->cursor);
	pthread_mutex_unlock(&r->lock);
	if (r->owned)
		return;
	for (uint32_t i = at; i < count; i++)
		bytes += record_bytes(r->batch[i].word);
	if (make_own(r, bytes) < 0)
		return;
	to = r->own;
	for (uint32_t i = at; i < count; i++) {
		memcpy(to, r->batch[i].record, record_bytes(r->batch[i].word));
		r->batch[i].record = (const struct log_record *)to;
		to += record_bytes(r->batch[i].word);
	}
	r->owned = true;
	bus__reader_rest(r);
}

static const struct {
	uint16_t in_log, in_ring;
} same_flags[] = {
    {LOG_RETAIN, RING_RETAIN},
    {LOG_EXPIRES, RING_TTL},
    {LOG_HEADERS, RING_HEADERS},
    {LOG_REPLY, RING_REPLY},
    {LOG_ANSWER, RING_ANSWER},
    {LOG_KEPT, RING_KEPT},
};

static void
make_view(const struct log_view *v, struct ring_view *ret_view)
{
	*ret_view = (struct ring_view){
	    .data = v->data,
	    .len = v->len,
	    .flags = RING_TIME,
	    .type = v->type,
	    .time_ns = v->time_ns,
	    .expires_ns = v->expires_ns,
	    .headers_len = v->headers_len,
	    .reply = v->reply,
	};
	for (size_t i = 0; i < sizeof same_flags / sizeof same_flags[0]; i++)
		if (v->flags & same_flags[i].in_log)
			ret_view->flags |= same_flags[i].in_ring;
	if (v->flags & LOG_ANSWER)
		ret_view->flags &= (uint16_t)~RING_REPLY; /* its number has done its work */
}

bool
bus__reader_view(const struct taken *t, struct ring_view *ret_view)
{
	struct log_view view;
	bool whole = bus__log_read(t->word, t->record, &view);

	if (whole)
		make_view(&view, ret_view);
	else
		*ret_view = (struct ring_view){.data = t->record};
	if (t->reply != 0) {
		ret_view->flags |= RING_REPLY;
		ret_view->reply = t->reply;
	}
	ret_view->route = t->route;
	ret_view->position = t->sequence;
	return whole;
}

static void
put_item(struct bus_mailbox *m, const struct ring_view *v, struct route *route,
    struct bus_sub *target, unsigned flags, struct bus_mailbox **owed)
{
	struct ring_item item = {
	    .route = route,
	    .data = v->data,
	    .headers = (const uint8_t *)v->data + v->len,
	    .len = v->len + v->headers_len,
	    .headers_len = v->headers_len,
	    .flags = (uint16_t)(v->flags | flags),
	    .type = v->type,
	    .target = target,
	    .time_ns = v->time_ns,
	    .expires_ns = v->expires_ns,
	    .reply = v->reply,
	};
	struct bus__block *block = NULL;

	if (item.len > RING_INLINE_MAX && m->full != BUS_FULL_LATEST) {
		block = bus__block_new(NULL, item.len);
		if (block == NULL) {
			bus__ring_drop(&m->ring); /* which counts it */
			return;
		}
		bus__ring_item_copy(block->data, &item);
		item.block = block;
	}
	bus__mailbox_put(m, &item, owed);
	bus__block_unref(block);
}

/* Chooses the next ones and puts them in, without letting go of the lock in between: source.behind. */
static uint32_t
pump_some(struct bus_mailbox *m, struct pause *pause, uint64_t *lost)
{
	struct reader *r = m->reader;
	uint32_t count;

	pthread_mutex_lock(&r->lock);
	count = choose(m, pause);
	*lost += bus__log_lost(&r->cursor);
	for (uint32_t i = 0; i < count; i++) {
		struct bus_mailbox *owed = NULL; /* it is awake: nothing is */
		struct ring_view v;

		if (!bus__reader_view(&r->batch[i], &v))
			++*lost;
		/* One from before a subscription is no news for it, and may be older than a kept value that waits. */
		else if (v.flags & RING_ANSWER || bus__is_wanted(&v, NULL))
			put_item(m, &v, v.route, NULL, 0, &owed);
	}
	pthread_mutex_unlock(&r->lock);
	return count;
}

uint64_t
bus__reader_pump(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	uint64_t tail = bus__log_tail(r->log), lost = 0;
	struct pause pause;
	uint32_t count;

	if (!atomic_load_explicit(&r->begun, memory_order_acquire))
		return 0;
	if (r->last != NULL)
		find_last(m);
	do {
		count = pump_some(m, &pause, &lost);
		if (count == 0 && pause.unknown.len != 0)
			learn(m, &pause.unknown);
	} while (!is_over(count, &pause) && bus__log_position(&r->cursor) < tail &&
		 !(atomic_load_explicit(&m->phase, memory_order_relaxed) & PHASE_WAITED));
	return lost;
}

bool
bus__reader_has_read_for(struct reader *r, int64_t due_ns)
{
	int64_t now = bus__now_ns();

	/* Nor does it try for ever: the log may be damaged. */
	if (!atomic_load_explicit(&r->begun, memory_order_acquire) || bus__log_is_damaged(r->log) ||
	    now < due_ns || now - due_ns > LATE_MOST_NS)
		return true;
	if (r->due_ns != due_ns) {
		r->due_ns = due_ns;
		r->due_tail = bus__log_tail(r->log);
	}
	return bus__log_position(&r->cursor) >= r->due_tail || !bus__reader_has_news(r);
}

void
bus__reader_passed(struct reader *r)
{
	/* Release: pairs with bus_flush(): the callbacks before have run. */
	if (atomic_load_explicit(&r->begun, memory_order_relaxed))
		atomic_store_explicit(
		    &r->passed, bus__log_position(&r->cursor), memory_order_release);
}

void
bus__reader_rest(struct reader *r)
{
	pthread_mutex_lock(&r->lock);
	if (atomic_load_explicit(&r->begun, memory_order_relaxed))
		bus__log_let_go(&r->cursor);
	pthread_mutex_unlock(&r->lock);
}

bool
bus__reader_is_quiet(struct bus_mailbox *m)
{
	bool is_quiet;

	pthread_mutex_lock(&m->reader->lock);
	is_quiet = bus__watch_enter_locked(m);
	pthread_mutex_unlock(&m->reader->lock);
	return is_quiet;
}

void
bus__reader_peer_rests(struct bus_mailbox *m)
{
	bus__reader_rest(m->reader);
	/* It has gone on: the link thread is woken, so that it does other things before. */
	if (!bus__watch_enter(m))
		bus__watch_tell(m);
}

bool
bus__reader_has_passed(struct bus_mailbox *m, uint64_t position)
{
	const struct reader *r = m->reader;
	uint64_t end = atomic_load_explicit(&r->end, memory_order_acquire);

	if (!atomic_load_explicit(&r->begun, memory_order_acquire) || bus__log_is_damaged(r->log))
		return true;
	/* Nothing from its end on is handled any more. */
	if (position > end)
		position = end;
	return atomic_load_explicit(&r->passed, memory_order_acquire) >= position ||
	       bus__watch_has_passed(m, position);
}

uint64_t
bus__reader_reached(struct bus_mailbox *m)
{
	return bus__watch_reached(
	    m, atomic_load_explicit(&m->reader->passed, memory_order_acquire));
}

void
bus__reader_set_end(struct reader *r)
{
	uint64_t open = UINT64_MAX;

	atomic_compare_exchange_strong_explicit(
	    &r->end, &open, bus__log_tail(r->log), memory_order_acq_rel, memory_order_relaxed);
}

bool
bus__reader_is_through(struct bus_mailbox *m)
{
	return bus__reader_has_passed(m, UINT64_MAX);
}

/* --- subscriptions ------------------------------------------------------------------------------------------------ */

int
bus__reader_start(struct bus_mailbox *m)
{
	int err;

	pthread_mutex_lock(&m->reader->lock);
	err = open_cursor(m);
	pthread_mutex_unlock(&m->reader->lock);
	return err;
}

struct making {
	struct bus *bus;
	const char *filter;
	size_t count;
};

/* Makes a topic that has a value, if the filter matches it. */
static int
make_topic(struct making *making, const struct log_topic *kept)
{
	struct copied copied;
	struct topic *topic;

	copy_name(&copied, kept->name, kept->len);
	if (!is_name(copied.name, copied.len) ||
	    bus__near(making->filter, copied.name) != NEAR_MATCH)
		return 0;
	/* Until the subscription is there nothing keeps them: more would take the place of the first. */
	return ++making->count > making->bus->max_topics
		   ? BUS_E_LIMIT
		   : bus__topic_make(making->bus, copied.name, copied.len, &topic);
}

static int
make_topics_kept(struct bus *bus, const char *filter)
{
	struct making making = {.bus = bus, .filter = filter};
	struct log_walk walk = {.waits = true};
	struct log_topic kept;
	unsigned left = UINT_MAX;
	int err = 0;

	if (strpbrk(filter, "+#") != NULL) {
		while (
		    err == 0 && bus__log_kept_next(&bus->named->now, &walk, &left, &kept) != NULL)
			err = make_topic(&making, &kept);
	} else if (bus__is_logged(filter)) {
		bus__log_topic(bus->log, filter, strlen(filter), &kept);
		if (bus__log_kept_now(&bus->named->now, &kept) != NULL)
			err = make_topic(&making, &kept);
	}
	return err;
}

/* The first subscription opens the cursor, and each one has a cursor for the time being: it says what is now, and reads the
 * values. */
static int
begin(struct bus_mailbox *m, struct bus_sub *sub, const char *filter)
{
	struct reader *r = m->reader;
	struct log_cursor *now = &m->bus->named->now;
	int err = open_cursor(m);

	if (err < 0 || r->from != BUS_FROM_NOW)
		return err;
	err = bus__log_cursor_open(r->log, LOG_FROM_NOW, 0, now);
	if (err < 0)
		return err;
	sub->begin = now->sequence;
	m->bus->named->now_tail = bus__log_position(now);
	if (!m->is_peer) /* whose walk makes them */
		err = make_topics_kept(m->bus, filter);
	if (err < 0)
		bus__log_cursor_close(now);
	return err;
}

int
bus__reader_begin(struct bus_mailbox *m, struct bus_sub *sub, const char *filter)
{
	int err;

	pthread_mutex_lock(&m->reader->lock);
	bus__watch_note(m);
	err = begin(m, sub, filter);
	if (err < 0)
		pthread_mutex_unlock(&m->reader->lock);
	return err;
}

/* While others publish, both noted values may lie behind the tail of the first look, or be moving. A later look finds one. */
uint64_t
bus__reader_find_kept(struct topic *topic, struct bus_sub *sub)
{
	struct bus_mailbox *m = sub->mbox;
	struct bus *bus = m->bus;
	struct log *log = m->reader->log;
	uint64_t from = sub->begin, tail = bus->named->now_tail;
	struct log_topic kept;

	bus->named->now_kept = NULL;
	if (m->reader->from != BUS_FROM_NOW || m->is_peer || !bus__is_logged(topic->name))
		return from;
	bus__log_topic(log, topic->name, topic->len, &kept);
	for (struct log_looks looks = {0};;) {
		bus->named->now_kept = bus__log_kept(&bus->named->now, &kept, tail);
		if (bus->named->now_kept != NULL ||
		    !bus__log_may_look_again(&looks, &bus->named->now, &kept, tail) ||
		    bus__log_seek(&bus->named->now, LOG_FROM_NOW, 0) < 0)
			return from;
		from = bus->named->now.sequence;
		tail = bus__log_position(&bus->named->now);
	}
}

void
bus__reader_put_kept(struct bus_mailbox *m, struct route *route, struct bus_sub *sub)
{
	struct bus *bus = m->bus;
	struct ring_view v;

	if (bus->named->now_kept != NULL &&
	    bus__reader_view(
		&(struct taken){.record = bus->named->now_kept, .word = bus->named->now.word},
		&v) &&
	    v.len > 0 && !(v.flags & RING_TTL && v.expires_ns <= bus__now_ns()))
		put_item(m, &v, route, sub, RING_KEPT | RING_TARGET, &bus->owed);
}

void
bus__reader_joined(struct bus_mailbox *m)
{
	bus__reader_changed(m->reader);
	bus__watch_joined(m);
	pthread_mutex_unlock(&m->reader->lock);
	if (m->reader->from == BUS_FROM_NOW)
		bus__log_cursor_close(&m->bus->named->now);
}
