/* log/kept.c: the index of values: where the last retained record of each topic is.
 *
 * A place has the positions of a topic's last two retained records. The newer one is noted before it is published, so a process
 * that sees the tail behind the record sees the note. A record whose writer died or was replaced is never published, and lies
 * behind the end of its segment for good; then the older one counts.
 *
 * A topic may have any place of two buckets. Its name is in the record, and is compared. A place whose topic has neither a value
 * nor the mark of a deletion is free for another topic: places are not given back. Only the tail's owner changes a place, but an
 * owner that was revoked may do so late. Each change is a CAS from what the owner has read. Behind each note, before its record is
 * published, the count in the tag is raised, so a late CAS never takes a place that was written to since its owner looked. If the
 * late CAS came before that, the owner chooses another place. Two late changes remain possible. One notes a position that
 * was never published. The other takes a free place for a topic that has one already; then the newest published record counts.
 *
 * kept_room.c chooses places, kept_read.c reads values, carry.c copies them before their memory is used again. */
#include "log/kept.h"

#include <string.h>

#include <libbus/error.h>

#include "base/siphash.h"

/* --- what a place notes ---------------------------------------------------------------------------------------- */

bool
bus__log_is_published(const struct log *log, uint64_t position, uint64_t tail)
{
	uint64_t number = position / log->segment_bytes, end;
	uint8_t *bytes;
	const struct log_segment *segment = bus__log_find(log, number, &bytes);

	if (segment == NULL || position >= tail)
		return false;
	if (!life_has_ended(atomic_load_explicit(&segment->life, memory_order_acquire), &end))
		return true;
	return position - number * log->segment_bytes < end;
}

bool
bus__log_was_published(const struct log *log, uint64_t position, uint64_t tail)
{
	uint64_t number = position / log->segment_bytes, end;

	if (log->rescue == 0 || number != life_number(log->rescue))
		return bus__log_is_published(log, position, tail);
	return life_has_ended(log->rescue, &end) && position - number * log->segment_bytes < end;
}

/* What a record counts for. 0: it is no value. */
static uint64_t
value_bytes(uint64_t word)
{
	return record_is_value(word) ? record_bytes(word) : 0;
}

/* The same of the record at `position`, if its memory still has it. */
static uint64_t
value_bytes_at(const struct log *log, uint64_t position)
{
	uint64_t number = position / log->segment_bytes;
	uint64_t at = position - number * log->segment_bytes;
	uint8_t *bytes;

	if (position == 0 || at % 8 != 0 || at + sizeof(struct log_record) > log->segment_bytes ||
	    bus__log_find(log, number, &bytes) == NULL)
		return 0;
	return value_bytes(atomic_load_explicit(
	    &((const struct log_record *)(bytes + at))->word, memory_order_relaxed));
}

uint64_t
bus__log_counted_bytes(const struct log *log, uint64_t position, uint64_t tail)
{
	return bus__log_is_published(log, position, tail) ? value_bytes_at(log, position) : 0;
}

void
bus__log_raise_before(struct log_place *place, uint64_t position)
{
	_Atomic uint64_t *kept = &place->kept[1];
	uint64_t seen = atomic_load_explicit(kept, memory_order_relaxed);

	while (seen < position && !atomic_compare_exchange_weak_explicit(kept, &seen, position,
				      memory_order_release, memory_order_relaxed))
		;
}

/* Notes the record of `word` at `position` as the newest. */
static void
note(struct log *log, struct log_place *place, uint64_t position, uint64_t word, uint64_t tail)
{
	uint64_t now = atomic_load_explicit(&place->kept[0], memory_order_acquire), old;

	/* Another owner changes it at most once: a revoked owner that has not noticed. */
	do {
		/* Or this owner was revoked, and others went on: then the position there counts, if it can be true. */
		if (now > position && now < bus__log_tail(log) + log->segment_bytes)
			return;
		if (now != 0 && bus__log_was_published(log, now, tail))
			bus__log_raise_before(place, now);
		/* What its last note added, also if that owner lost the tail before it published. */
		old = value_bytes_at(log, now);
	} while (!atomic_compare_exchange_strong_explicit(
	    &place->kept[0], &now, position, memory_order_release, memory_order_acquire));
	atomic_fetch_add_explicit(
	    &log->shared->kept_bytes, value_bytes(word) - old, memory_order_relaxed);
	if (!bus__log_is_own_place(log, place))
		atomic_fetch_add_explicit(&log->shared->kept_count,
		    (uint64_t)record_is_value(word) - (old != 0), memory_order_relaxed);
}

/* Notes that the tail's segment has values. Before they are published, so that its memory is not used again unseen. */
static void
mark(struct log *log)
{
	struct log_segment *segment = log->segment;
	uint64_t seen = atomic_load_explicit(&segment->retained, memory_order_relaxed);

	while (
	    seen < log->number && !atomic_compare_exchange_weak_explicit(&segment->retained, &seen,
				      log->number, memory_order_release, memory_order_relaxed))
		;
}

bool
bus__log_note_kept(struct log *log, struct log_place *place, uint64_t tag, uint64_t position,
    uint64_t word, uint64_t tail)
{
	mark(log);
	note(log, place, position, word, tail);
	/* Behind the note: a revoked owner that found the place free before it cannot take it from now on. */
	return bus__log_take_place(place, &tag, tag_half(tag));
}

/* --- the index ----------------------------------------------------------------------------------------------------- */

/* The two buckets of a topic, which may be one. The bus's own topics have buckets of their own, so that members can always join. */
static uint32_t
bucket_of(const struct log *log, const struct log_topic *topic, bool second)
{
	uint32_t hash = (uint32_t)(second ? topic->hash >> 32 : topic->hash);

	return topic->name[0] == '$' ? hash % LOG_OWN_BUCKETS
				     : LOG_OWN_BUCKETS + hash % (log->buckets - LOG_OWN_BUCKETS);
}

uint32_t
bus__log_choices(const struct log *log, const struct log_topic *topic)
{
	return bucket_of(log, topic, false) != bucket_of(log, topic, true) ? 2 * LOG_BUCKET
									   : LOG_BUCKET;
}

struct log_place *
bus__log_choice(const struct log *log, const struct log_topic *topic, uint32_t i)
{
	return &log->places[(uint64_t)bucket_of(log, topic, i >= LOG_BUCKET) * LOG_BUCKET +
			    i % LOG_BUCKET];
}

bool
bus__log_take_place(struct log_place *place, uint64_t *tag, uint32_t half)
{
	uint64_t seen = *tag;

	*tag = tag_word(half, (uint32_t)seen + 1);
	return atomic_compare_exchange_strong_explicit(
	    &place->tag, &seen, *tag, memory_order_release, memory_order_relaxed);
}

static bool
is_wanted(const struct log *log, const struct log_wanted *wanted, const struct log_hit *found)
{
	const struct log_topic *topic = wanted->topic;

	if (topic == NULL)
		return bus__log_half_of(bus__siphash(log->key, found->name, found->name_len)) ==
		       wanted->half;
	return topic->len == found->name_len && memcmp(topic->name, found->name, topic->len) == 0;
}

bool
bus__log_hold(struct log_cursor *reader, const struct log_wanted *wanted, uint64_t position,
    uint64_t tail, struct log_hit *ret_hit)
{
	struct log *log = reader->log;
	uint64_t number = position / log->segment_bytes;
	uint64_t at = position - number * log->segment_bytes, bytes;
	const struct log_record *record;
	struct log_hit f = {.position = position, .fate = LOG_GONE};
	struct log_segment *segment;
	const uint8_t *memory;
	struct log_view v;

	*ret_hit = f;
	if (position == 0 || at % 8 != 0 || at + sizeof *record > log->segment_bytes)
		return false;
	segment = bus__log_pin(log, &reader->pin, number, &memory);
	if (segment == NULL) {
		ret_hit->fate = bus__log_fate(log, number);
		return false;
	}
	if (!bus__log_is_published(log, position, tail))
		return false;
	record = (const struct log_record *)(memory + at);
	if (reader->pin == 0) {
		int copied = bus__log_copy_record(reader, segment, number, memory, at, &record);

		if (copied == 0)
			ret_hit->fate = bus__log_fate(log, number);
		else if (copied == BUS_E_NOMEM && !wanted->in_place)
			ret_hit->fate = LOG_MOVING; /* the value before it is stale */
		if (copied <= 0 && !(copied == BUS_E_NOMEM && wanted->in_place))
			return false;
	}
	f.word = atomic_load_explicit(&record->word, memory_order_relaxed);
	bytes = record_bytes(f.word);
	if (bytes < sizeof *record || bytes > log->segment_bytes - at ||
	    !(f.word >> 32 & LOG_RETAIN) || !bus__log_read(f.word, record, &v) || v.name_len == 0)
		return false;
	f.record = record;
	f.name = v.name;
	f.name_len = v.name_len;
	if (!is_wanted(log, wanted, &f))
		return false;
	*ret_hit = f;
	return true;
}

bool
bus__log_look_at(struct log_cursor *reader, const struct log_wanted *wanted,
    struct log_place *place, uint64_t tail, struct log_hit *ret_hit)
{
	uint64_t now = atomic_load_explicit(&place->kept[0], memory_order_acquire), seen;
	bool found;

	do {
		enum log_fate fate;

		seen = now;
		found = bus__log_hold(reader, wanted, seen, tail, ret_hit);
		fate = ret_hit->fate;
		/* While the newest value moves, the one before it is stale. */
		if (!found && fate == LOG_GONE) {
			found = bus__log_hold(reader, wanted,
			    atomic_load_explicit(&place->kept[1], memory_order_acquire), tail,
			    ret_hit);
			fate = ret_hit->fate;
		}
		/* A writer may have copied it during the look: then the note has changed. */
		now = atomic_load_explicit(&place->kept[0], memory_order_acquire);
		ret_hit->fate = fate;
	} while (!found && (ret_hit->fate == LOG_BACK || (now != seen && now < tail)));
	ret_hit->place = place;
	return found;
}

bool
bus__log_find_kept(struct log_cursor *reader, const struct log_topic *topic, bool in_place,
    uint64_t tail, struct log_hit *ret_hit)
{
	const struct log_wanted wanted = {topic, bus__log_half_of(topic->hash), in_place};
	const struct log *log = reader->log;
	struct log_hit best = {.fate = LOG_GONE}, f;
	unsigned held = 0;

	for (uint32_t i = 0; i < bus__log_choices(log, topic); i++) {
		struct log_place *place = bus__log_choice(log, topic, i);

		if (tag_half(bus__log_tag_of(place)) != wanted.half || place == best.place)
			continue;
		held++;
		if (bus__log_look_at(reader, &wanted, place, tail, &f) &&
		    f.position > best.position)
			best = f;
		/* While one of two moves, the newer one is unknown. The owner sees none move: it has noted its own moves, and a revoked
		 * writer has lost its claim. */
		if (!in_place && f.record == NULL && f.fate == LOG_MOVING) {
			*ret_hit = f;
			return false;
		}
	}
	*ret_hit = best;
	/* The reader holds the record that it looked at last. */
	return best.record != NULL &&
	       (held == 1 || bus__log_look_at(reader, &wanted, best.place, tail, ret_hit));
}
