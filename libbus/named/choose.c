/* named/choose.c: a reader chooses the next records that its mailbox wants, and takes them as a batch.
 *
 * One loop looks at every record of the log. Whatever it inlines stays in this file. */
#include <string.h>

#include "base/mem.h"
#include "base/siphash.h"
#include "bus/bus_internal.h"
#include "bus/gap.h"
#include "bus/request.h"
#include "mailbox/call.h"
#include "named/reader.h"
#include "named/reader_parts.h"

#define SKIP_MOST 65536 /* records in one go: between two of them the drainer looks up */
#define OWN_MOST  65536 /* bytes of a caller's batch, unless it is a single message */

/* --- the route of a record --------------------------------------------------------------------------------------------- */

static void
forget_all(struct reader *r)
{
	bus__heard_forget(&r->heard);
	r->last_number = 0;
	r->last_route = NULL;
}

/* A number means something in its own segment only. */
static inline void
heed_segment(struct reader *r)
{
	if (r->cursor.number == r->last_segment)
		return;
	r->last_segment = r->cursor.number;
	r->last_number = 0;
	r->last_route = NULL;
}

/* Hashes the name in the next record, if there is one, and prefetches its entry of the table: with very many topics in turn, each
 * look-up would wait for memory. */
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

/* Looks up the topic of a record by its name: the record carries the name, or the table lacks its number. false: the name is
 * unknown, and is copied. A record without a name is damaged, or was overwritten while the reader copied it: its message is lost. */
static __attribute__((noinline)) bool
look_up_name(struct bus_mailbox *m, const struct log_record *record, struct heard_name *unknown,
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
		heard_copy_name(unknown, name, len);
		return false;
	}
	*ret_route = route;
	if (names)
		look_ahead(m);
	/* Without memory for the number, the next record looks up its name again. */
	if (!names || bus__heard_notes_at_once(&r->heard, c->number))
		bus__heard_put_number(&r->heard, c->number, record->topic, route);
	return true;
}

/* The route of a record; NULL: this mailbox does not want it. false: its name is unknown, and is copied. */
static inline bool
look_up(struct bus_mailbox *m, const struct log_record *record, struct heard_name *unknown,
    struct route **ret_route)
{
	const struct reader *r = m->reader;
	void *route;

	*ret_route = NULL;
	if (record->topic == 0)
		return true; /* it belongs to no topic */
	if (r->cursor.word >> 32 & LOG_NAMED ||
	    !bus__heard_number(&r->heard, r->cursor.number, record->topic, &route))
		return look_up_name(m, record, unknown, ret_route);
	*ret_route = route;
	return true;
}

/* --- choosing ---------------------------------------------------------------------------------------------------------- */

/* The route of a reply, if a question of this mailbox waits for it; otherwise NULL. */
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

/* Counts what a link lost. Only the first message of a batch reports a loss: false ends the batch before this record.
 * Other processes write to the log, so the count is capped at what a link can lose. */
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

/* Whether a record that a link brought goes on to this peer: only where hubs are, and neither to the bus that published it nor by
 * the connection that brought it. */
static __attribute__((noinline)) bool
passes_on(const struct bus_mailbox *m, const struct log_record *record)
{
	const struct log_cursor *c = &m->reader->cursor;
	struct bus__passed passed;

	if (!m->far.fed || !record_passed(c->word, record, &passed) ||
	    memcmp(passed.source, m->far.id, sizeof passed.source) == 0)
		return false;
	return m->far.via == 0 || bus__passed_via(&passed) != m->far.via ||
	       record->origin != c->log->member;
}

/* Finds the next record that this mailbox wants; `here`: within the segment that the cursor holds. false: there is none, or
 * (unknown->len) its topic must be learned first. Reader lock. */
static inline __attribute__((always_inline)) bool
next_wanted(
    struct bus_mailbox *m, bool here, unsigned *left, struct taken *t, struct heard_name *unknown)
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
		/* From the first record that is recent enough, or from the tail, every record counts, whatever its time. */
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
		} else if (m->is_peer && (c->word >> 32 & LOG_RELAYED) && !passes_on(m, record)) {
			t->route = NULL;
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
	/* Acquire: pairs with the release in bus__reader_changed(): what is learned from here on is the new state. */
	uint32_t changes = atomic_load_explicit(&r->changes, memory_order_acquire);

	if (changes == r->learned)
		return;
	forget_all(r);
	r->learned = changes;
}

uint32_t
bus__reader_choose(struct bus_mailbox *m, struct pause *pause)
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
	/* A batch lies in one segment: the cursor holds no other, and losses lie before the first message. */
	while (count < READER_BATCH &&
	       next_wanted(m, count > 0, &left, &batch[count], &pause->unknown)) {
		bytes += record_bytes(batch[count].word);
		if (bytes > most && count > 0) {
			bus__log_unread(&r->cursor);
			break;
		}
		count++;
	}
	if (count > 0 && batch[count - 1].word >> 32 & LOG_RELAYED)
		bus__mailbox_fed_by_link(m);
	pause->tired = left == 0;
	return count;
}

/* --- taking a batch ----------------------------------------------------------------------------------------------------- */

void
bus__reader_find_last(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	struct pause pause;
	uint64_t found = 0;
	uint32_t count;

	do {
		pthread_mutex_lock(&r->lock);
		count = bus__reader_choose(m, &pause);
		for (uint32_t i = 0; i < count && r->value > 0; i++)
			r->last[found++ % r->value] = r->batch[i].sequence;
		if (bus__reader_is_over(count, &pause)) {
			uint64_t start = r->cursor.sequence;

			if (found > 0)
				start = r->last[found < r->value ? 0 : found % r->value];
			bus__log_seek(&r->cursor, LOG_FROM_SEQUENCE, start);
			r->gap = 0; /* of records before the start; later ones are found again */
		}
		pthread_mutex_unlock(&r->lock);
		/* A topic that cannot be learned now counts as wanted: its message is delivered later, or lost. */
		if (count == 0 && pause.unknown.len != 0 && !bus__reader_learn(m, &pause.unknown) &&
		    r->value > 0)
			r->last[found++ % r->value] = r->cursor.sequence - 1;
	} while (!bus__reader_is_over(count, &pause));
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
		bus__reader_find_last(m);
	r->owned = false;
	do {
		pthread_mutex_lock(&r->lock);
		/* A subscription that has just begun put its kept values into the ring: they go first. */
		if (!bus__ring_empty(&m->ring)) {
			pthread_mutex_unlock(&r->lock);
			return 0;
		}
		count = bus__reader_choose(m, &pause);
		*lost += bus__log_lost(&r->cursor);
		pthread_mutex_unlock(&r->lock);
		if (count == 0 && pause.unknown.len != 0)
			bus__reader_learn(m, &pause.unknown);
		/* Pass over unwanted records in this call, unless another thread waits for the drainer. */
		on = count == 0 &&
		     (pause.unknown.len != 0 ||
			 (pause.tired && !(atomic_load_explicit(&m->phase, memory_order_relaxed) &
					     PHASE_WAITED)));
	} while (on);
	return count;
}

/* Makes room for a copy. Room beyond OWN_MOST is not kept for the next one. 0 or BUS_E_NOMEM. */
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
