/* log/kept.c: the last retained record of each topic, which stays when its memory is used again.
 *
 * A place of the index has the positions of a topic's last two retained records. The newer one is noted before it is published:
 * so whoever sees the tail behind it sees the note. One that was never published, since its writer died or was replaced,
 * lies behind the end of its segment for good; then the older one counts.
 *
 * Before memory is used again, what is still current in it is copied to the tail. That happens two segments ahead, so
 * that a writer that dies half way through a copy has lost nothing; and memory that was not gone through is used only when
 * there is no other, and then moves what it has to its own beginning.
 *
 * A topic may have any place of two buckets. Its name is in the record, and is compared. A place whose topic has no value, nor the
 * mark of a deletion, is free for another one: nothing is given back. Only the tail's owner changes a place, but one that was revoked
 * does so late. Each change is a CAS from what it has read; and behind each note, before its record is published, the count in
 * the tag is raised, so that no late CAS takes a place that has been written to since its owner looked. If a late one came before that,
 * another place is chosen. What a late one can still do: note a position that was never published; or take a place
 * that nobody has, for a topic that has none there, so that a topic may have two. Then the newest published record counts. */
#include "log/log.h"

#include <string.h>
#include <time.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/siphash.h"

#define LOOKS                                                                                      \
	100 /* for a value behind the tail; for one that moves, before looks are a nap apart */
#define LOOK_NAP_NS 1000000
#define MOVE_MOST_NS                                                                               \
	INT64_C(250000000) /* longer than it takes until a writer that stands still is replaced */
#define KEPT_SHARE 4       /* values may take this part of the records' room */
#define MARK_BYTES 56      /* of a mark without its name: head, changes, id, end */
#define MARK_STEPS 256     /* by which the oldest are told from the others */

/* --- what a place notes ---------------------------------------------------------------------------------------- */

/* Whether a record at `position` was published when the tail was at `tail`. The memory must be held. */
static bool
is_published(const struct log *log, uint64_t position, uint64_t tail)
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

/* The same for the tail's owner. Memory that it claimed with values has a new number; log->rescue has the old end. */
static bool
was_published(const struct log *log, uint64_t position, uint64_t tail)
{
	uint64_t number = position / log->segment_bytes, end;

	if (log->rescue == 0 || number != life_number(log->rescue))
		return is_published(log, position, tail);
	return life_has_ended(log->rescue, &end) && position - number * log->segment_bytes < end;
}

/* What the value at a position counts, 0 if there is none. Owner. */
static uint64_t
counted_bytes(const struct log *log, uint64_t position, uint64_t tail)
{
	uint64_t number = position / log->segment_bytes, word;
	uint64_t at = position - number * log->segment_bytes;
	uint8_t *bytes;

	if (position == 0 || at % 8 != 0 || at + sizeof(struct log_record) > log->segment_bytes ||
	    !is_published(log, position, tail) || bus__log_find(log, number, &bytes) == NULL)
		return 0;
	word = atomic_load_explicit(
	    &((const struct log_record *)(bytes + at))->word, memory_order_relaxed);
	return record_is_value(word) ? record_bytes(word) : 0;
}

static void
raise(_Atomic uint64_t *kept, uint64_t position)
{
	uint64_t seen = atomic_load_explicit(kept, memory_order_relaxed);

	while (seen < position && !atomic_compare_exchange_weak_explicit(kept, &seen, position,
				      memory_order_release, memory_order_relaxed))
		;
}

/* Whether it is for the bus's own topics, which are not counted. */
static bool
is_own(const struct log *log, const struct log_place *place)
{
	return place < log->places + (size_t)LOG_OWN_BUCKETS * LOG_BUCKET;
}

/* Notes the record of `word` at `position` as the newest. */
static void
note(struct log *log, struct log_place *place, uint64_t position, uint64_t word, uint64_t tail)
{
	uint64_t now = atomic_load_explicit(&place->kept[0], memory_order_acquire), old;

	/* Another changes it at most once: one that was revoked, and does not know it. */
	do {
		/* Or it is us who were, and others have gone on: then what stands there counts, if it can be true. */
		if (now > position && now < bus__log_tail(log) + log->segment_bytes)
			return;
		if (now != 0 && was_published(log, now, tail))
			raise(&place->kept[1], now);
		old = counted_bytes(log, now, tail);
	} while (!atomic_compare_exchange_strong_explicit(
	    &place->kept[0], &now, position, memory_order_release, memory_order_acquire));
	atomic_fetch_add_explicit(&log->shared->kept_bytes,
	    (record_is_value(word) ? record_bytes(word) : 0) - old, memory_order_relaxed);
	if (!is_own(log, place))
		atomic_fetch_add_explicit(&log->shared->kept_count,
		    (uint64_t)record_is_value(word) - (old != 0), memory_order_relaxed);
}

/* The segment of the tail has values. Before they are published, so that its memory is not used again unseen. */
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

/* --- versions, and marks of deletions ---------------------------------------------------------------------------- */

void
bus__log_id(const struct log *log, uint8_t ret_id[BUS__BUS_ID])
{
	memcpy(ret_id, &log->epoch, sizeof log->epoch);
	memcpy(ret_id + sizeof log->epoch, log->key, sizeof log->key[0]);
}

/* The words of a retained record, which lies whole where it is. */
static void
read_words(const struct log *log, unsigned flags, const struct log_record *record,
    struct bus__version *ret_version, int64_t *ret_until_ns, uint64_t *ret_theirs)
{
	const uint8_t *at =
	    (const uint8_t *)(record + 1) + 8 * (unsigned)__builtin_popcount(flags & LOG_WORDS);

	memset(ret_version, 0, sizeof *ret_version);
	*ret_until_ns = 0;
	if (flags & LOG_CHANGES) {
		memcpy(&ret_version->changes, at, sizeof ret_version->changes);
		at += sizeof ret_version->changes;
		bus__log_id(log, ret_version->bus);
	}
	if (flags & LOG_OTHER) {
		memcpy(ret_version->bus, at, sizeof ret_version->bus);
		at += sizeof ret_version->bus;
	}
	if (flags & LOG_MARK) {
		memcpy(ret_until_ns, at, sizeof *ret_until_ns);
		at += sizeof *ret_until_ns;
	}
	*ret_theirs = ret_version->changes;
	if (flags & LOG_THEIRS)
		memcpy(ret_theirs, at, sizeof *ret_theirs);
}

static enum log_value
value_of(const struct log *log, uint64_t word, const struct log_record *record,
    struct bus__version *ret_version, uint64_t *ret_theirs)
{
	int64_t until_ns, now, lives_ns;
	struct log_view v;

	memset(ret_version, 0, sizeof *ret_version);
	if (!(word >> 32 & LOG_RETAIN) || !bus__log_read(word, record, &v))
		return LOG_NO_VALUE;
	read_words(log, v.flags, record, ret_version, &until_ns, ret_theirs);
	if (v.len > 0 && !(v.flags & LOG_EXPIRES))
		return LOG_A_VALUE;
	now = bus__now_ns();
	if (v.len > 0 && v.expires_ns > now)
		return LOG_A_VALUE;
	lives_ns = atomic_load_explicit(&bus__mark_ns, memory_order_relaxed);
	if (v.len > 0)
		until_ns =
		    v.expires_ns < INT64_MAX - lives_ns ? v.expires_ns + lives_ns : INT64_MAX;
	return until_ns > now && until_ns > atomic_load_explicit(
						&log->shared->marks_over, memory_order_relaxed)
		   ? LOG_A_MARK
		   : LOG_NO_VALUE;
}

enum log_value
bus__log_value_of(const struct log *log, uint64_t word, const struct log_record *record,
    struct bus__version *ret_version)
{
	uint64_t theirs;

	return value_of(log, word, record, ret_version, &theirs);
}

/* The next value of a topic that is unknown is newer than all that were forgotten. */
static void
raise_floor(struct log *log, uint64_t changes)
{
	_Atomic uint64_t *floor = &log->shared->floor;
	uint64_t seen = atomic_load_explicit(floor, memory_order_relaxed);

	while (changes > seen && changes < BUS__FLOOR_MOST &&
	       !atomic_compare_exchange_weak_explicit(
		   floor, &seen, changes, memory_order_relaxed, memory_order_relaxed))
		;
}

/* Whether it stays: a value does, and the mark of a deletion until it ends. */
static bool
is_to_stay(const struct log *log, const struct log_record *record, uint64_t word)
{
	struct bus__version version;

	if (!(word >> 32 & LOG_CHANGES))
		return record_is_value(word);
	return bus__log_value_of(log, word, record, &version) != LOG_NO_VALUE;
}

/* --- the index ----------------------------------------------------------------------------------------------------- */

static uint32_t
half_of(uint64_t hash)
{
	uint32_t half = (uint32_t)((hash * UINT64_C(0x9E3779B97F4A7C15)) >> 32);

	return half != 0 ? half : 1;
}

/* The two buckets of a topic, which may be one. Those of the bus's own topics are their own, so that members can always come. */
static uint32_t
bucket_of(const struct log *log, const struct log_topic *topic, bool second)
{
	uint32_t hash = (uint32_t)(second ? topic->hash >> 32 : topic->hash);

	return topic->name[0] == '$' ? hash % LOG_OWN_BUCKETS
				     : LOG_OWN_BUCKETS + hash % (log->buckets - LOG_OWN_BUCKETS);
}

static uint32_t
choices(const struct log *log, const struct log_topic *topic)
{
	return bucket_of(log, topic, false) != bucket_of(log, topic, true) ? 2 * LOG_BUCKET
									   : LOG_BUCKET;
}

/* Place i of them. */
static struct log_place *
choice(const struct log *log, const struct log_topic *topic, uint32_t i)
{
	return &log->places[(uint64_t)bucket_of(log, topic, i >= LOG_BUCKET) * LOG_BUCKET +
			    i % LOG_BUCKET];
}

static uint64_t
tag_of(const struct log_place *place)
{
	/* Acquire: pairs with the release of take(): what was noted there before. */
	return atomic_load_explicit(&place->tag, memory_order_acquire);
}

/* Whose records are meant: those of a topic, or (NULL) of any that has this half. */
struct wanted {
	const struct log_topic *topic;
	uint32_t half;
	bool
	    in_place; /* without memory for a copy: of the tail's owner, for whom they stay if it still is */
};

/* A retained record that was published, where the reader holds it, or in its copy. */
struct found {
	const struct log_record *record; /* NULL: there is none */
	uint64_t word, position;
	enum log_fate fate; /* of none */
	const char *name;
	uint32_t name_len;
	struct log_place *place;
};

/* Takes a place for a topic, unless it has been written to since it had this tag; *tag is what it has then. */
static bool
take(struct log_place *place, uint64_t *tag, uint32_t half)
{
	uint64_t seen = *tag;

	*tag = tag_word(half, (uint32_t)seen + 1);
	return atomic_compare_exchange_strong_explicit(
	    &place->tag, &seen, *tag, memory_order_release, memory_order_relaxed);
}

static bool
is_wanted(const struct log *log, const struct wanted *wanted, const struct found *found)
{
	const struct log_topic *topic = wanted->topic;

	if (topic == NULL)
		return half_of(bus__siphash(log->key, found->name, found->name_len)) ==
		       wanted->half;
	return topic->len == found->name_len && memcmp(topic->name, found->name, topic->len) == 0;
}

/* The retained record at a position. */
static bool
hold(struct log_cursor *reader, const struct wanted *wanted, uint64_t position, uint64_t tail,
    struct found *ret_found)
{
	struct log *log = reader->log;
	uint64_t number = position / log->segment_bytes;
	uint64_t at = position - number * log->segment_bytes, bytes;
	const struct log_record *record;
	struct found f = {.position = position, .fate = LOG_GONE};
	struct log_segment *segment;
	const uint8_t *memory;
	struct log_view v;

	*ret_found = f;
	if (position == 0 || at % 8 != 0 || at + sizeof *record > log->segment_bytes)
		return false;
	segment = bus__log_pin(log, &reader->pin, number, &memory);
	if (segment == NULL) {
		ret_found->fate = bus__log_fate(log, number);
		return false;
	}
	if (!is_published(log, position, tail))
		return false;
	record = (const struct log_record *)(memory + at);
	if (reader->pin == 0) {
		int copied = bus__log_copy_record(reader, segment, number, memory, at, &record);

		if (copied == 0)
			ret_found->fate = bus__log_fate(log, number);
		else if (copied == BUS_E_NOMEM && !wanted->in_place)
			ret_found->fate = LOG_MOVING; /* the value before is a stale one */
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
	*ret_found = f;
	return true;
}

/* The newest in a place when the tail was at `tail`. */
static bool
look_at(struct log_cursor *reader, const struct wanted *wanted, struct log_place *place,
    uint64_t tail, struct found *ret_found)
{
	uint64_t now = atomic_load_explicit(&place->kept[0], memory_order_acquire), seen;
	bool found;

	do {
		enum log_fate fate;

		seen = now;
		found = hold(reader, wanted, seen, tail, ret_found);
		fate = ret_found->fate;
		/* While the newest value moves, the one before it is stale. */
		if (!found && fate == LOG_GONE) {
			found = hold(reader, wanted,
			    atomic_load_explicit(&place->kept[1], memory_order_acquire), tail,
			    ret_found);
			fate = ret_found->fate;
		}
		/* It may have been copied while we looked for it: then the note has changed. */
		now = atomic_load_explicit(&place->kept[0], memory_order_acquire);
		ret_found->fate = fate;
	} while (!found && (ret_found->fate == LOG_BACK || (now != seen && now < tail)));
	ret_found->place = place;
	return found;
}

/* The newest of a topic. */
static bool
find(struct log_cursor *reader, const struct log_topic *topic, bool in_place, uint64_t tail,
    struct found *ret_found)
{
	const struct wanted wanted = {topic, half_of(topic->hash), in_place};
	const struct log *log = reader->log;
	struct found best = {.fate = LOG_GONE}, f;
	unsigned held = 0;

	for (uint32_t i = 0; i < choices(log, topic); i++) {
		struct log_place *place = choice(log, topic, i);

		if (tag_half(tag_of(place)) != wanted.half || place == best.place)
			continue;
		held++;
		if (look_at(reader, &wanted, place, tail, &f) && f.position > best.position)
			best = f;
		/* Which of two is newer is not known while one moves. To the owner none does: what a writer that was
		 * revoked claimed is lost, and what it has moved itself it has noted. */
		if (!in_place && f.record == NULL && f.fate == LOG_MOVING) {
			*ret_found = f;
			return false;
		}
	}
	*ret_found = best;
	/* The reader holds the last one. */
	return best.record != NULL &&
	       (held == 1 || look_at(reader, &wanted, best.place, tail, ret_found));
}

/* Whether a place has nothing that has to stay; `forced`: but for values. For an owner that may have been revoked: what it
 * did not find may have been copied meanwhile, and what stands behind its tail but at `position` is of one that came after it. */
static bool
is_free(struct log_cursor *reader, struct log_place *place, uint64_t tag, uint64_t position,
    uint64_t tail, bool forced)
{
	const struct wanted wanted = {NULL, tag_half(tag), false};
	struct log *log = reader->log;
	uint64_t now = atomic_load_explicit(&place->kept[0], memory_order_acquire);
	struct bus__version version;
	struct found f;

	if (now >= tail && now != position)
		return false;
	/* Nor if a writer that was revoked holds a claim on the memory: it gives that back. Nor if there was no memory to copy it. */
	if (!look_at(reader, &wanted, place, tail, &f))
		return f.fate == LOG_GONE &&
		       atomic_load_explicit(&place->kept[0], memory_order_acquire) == now;
	if (is_to_stay(log, f.record, f.word) &&
	    (!forced || bus__log_value_of(log, f.word, f.record, &version) == LOG_A_VALUE ||
		!(f.word >> 32 & LOG_CHANGES)))
		return false;
	if (f.word >> 32 & LOG_CHANGES) {
		bus__log_value_of(log, f.word, f.record, &version);
		raise_floor(log, version.changes);
	}
	return true;
}

bool
bus__log_note_kept(struct log *log, struct log_place *place, uint64_t tag, uint64_t position,
    uint64_t word, uint64_t tail)
{
	mark(log);
	note(log, place, position, word, tail);
	/* Behind the note: one that was revoked, and found the place free before it, does not take it from now on. */
	if (!take(place, &tag, tag_half(tag)))
		return false;
	if (word >> 32 & LOG_MARK)
		atomic_fetch_add_explicit(&log->shared->marks, 1, memory_order_relaxed);
	return true;
}

/* The place that has the newest record of a topic, and its tag. NULL: none has. */
static struct log_place *
place_that_has(
    struct log_cursor *reader, const struct log_topic *topic, uint64_t tail, uint64_t *ret_tag)
{
	const struct wanted wanted = {topic, half_of(topic->hash), true};
	const struct log *log = reader->log;
	struct log_place *best = NULL;
	uint64_t newest = 0;
	struct found f;

	for (uint32_t i = 0; i < choices(log, topic); i++) {
		struct log_place *place = choice(log, topic, i);
		uint64_t tag = tag_of(place);

		if (tag_half(tag) != wanted.half || !look_at(reader, &wanted, place, tail, &f) ||
		    f.position <= newest)
			continue;
		newest = f.position;
		best = place;
		*ret_tag = tag;
	}
	return best;
}

/* A free place, in the bucket that has more of them: so buckets fill up together. */
static struct log_place *
free_place(struct log_cursor *reader, const struct log_topic *topic, uint64_t position,
    uint64_t tail, bool forced, uint64_t *ret_tag)
{
	const struct log *log = reader->log;
	struct log_place *first[2] = {NULL, NULL};
	uint64_t tags[2];
	uint32_t counts[2] = {0, 0}, k;

	for (uint32_t i = 0; i < choices(log, topic); i++) {
		struct log_place *place = choice(log, topic, i);
		uint64_t tag = tag_of(place);

		k = i / LOG_BUCKET;
		if (tag != 0 && !is_free(reader, place, tag, position, tail, forced))
			continue;
		if (counts[k]++ == 0) {
			first[k] = place;
			tags[k] = tag;
		}
	}
	k = counts[1] > counts[0];
	if (first[k] != NULL)
		*ret_tag = tags[k];
	return first[k];
}

struct log_place *
bus__log_choose_place(struct log *log, const struct log_topic *topic, uint64_t position,
    uint64_t tail, uint64_t *ret_tag)
{
	struct log_place *place = NULL;
	struct log_cursor reader = {.log = log};

	/* One that was revoked takes a place from us at most once; and if we were, what we answer is of no account. */
	for (unsigned tries = 0; tries < LOOKS && place == NULL; tries++) {
		place = place_that_has(&reader, topic, tail, ret_tag);
		if (place != NULL)
			break;
		place = free_place(&reader, topic, position, tail, false, ret_tag);
		/* The mark of a deletion ends early for that. */
		if (place == NULL)
			place = free_place(&reader, topic, position, tail, true, ret_tag);
		if (place == NULL)
			break;
		if (!take(place, ret_tag, half_of(topic->hash)))
			place = NULL;
	}
	bus__log_let_go(&reader);
	return place;
}

void
bus__log_newest(struct log_cursor *reader, const struct log_topic *topic, uint64_t tail,
    struct log_newest *ret_newest)
{
	struct log *log = reader->log;
	struct log_newest n = {.kind = LOG_NO_VALUE};
	struct found f;

	if (find(reader, topic, true, tail, &f)) {
		n.record = f.record;
		n.position = f.position;
		n.word = f.word;
		n.kind = value_of(log, n.word, n.record, &n.version, &n.theirs);
	}
	if (n.kind == LOG_NO_VALUE) {
		raise_floor(log, n.version.changes);
		memset(&n.version, 0, sizeof n.version);
		n.theirs = 0;
	}
	*ret_newest = n;
}

/* Values take a part of the room, and marks the same part of that, if not as many fit there as a bus has. */
static uint32_t
most_marks(const struct log *log)
{
	uint64_t most = bus__log_kept_most(log) / KEPT_SHARE / MARK_BYTES;

	return most < BUS__MARKS ? (uint32_t)most : BUS__MARKS;
}

/* What a look at all marks finds. */
struct marks {
	uint32_t count;
	int64_t first_ns, last_ns;   /* when they end */
	int64_t step_ns;             /* 0: that is not known yet */
	uint32_t counts[MARK_STEPS]; /* of those that end in so many steps behind the first */
};

static uint64_t
places_end(const struct log *log)
{
	return (uint64_t)log->buckets * LOG_BUCKET;
}

static void
look_at_marks(struct log_cursor *reader, uint64_t tail, struct marks *marks)
{
	const struct log *log = reader->log;

	for (uint64_t i = (uint64_t)LOG_OWN_BUCKETS * LOG_BUCKET; i < places_end(log); i++) {
		const struct wanted wanted = {NULL, tag_half(tag_of(&log->places[i])), true};
		struct bus__version version;
		int64_t until_ns;
		uint64_t theirs;
		struct found f;

		if (wanted.half == 0 || !look_at(reader, &wanted, &log->places[i], tail, &f) ||
		    !(f.word >> 32 & LOG_MARK) ||
		    bus__log_value_of(log, f.word, f.record, &version) != LOG_A_MARK)
			continue;
		read_words(
		    log, (unsigned)(f.word >> 32) & 0xffff, f.record, &version, &until_ns, &theirs);
		if (marks->step_ns != 0) {
			int64_t step = (until_ns - marks->first_ns) / marks->step_ns;

			if (step >= 0 && step < MARK_STEPS)
				marks->counts[step]++;
			continue;
		}
		if (marks->count == 0 || until_ns < marks->first_ns)
			marks->first_ns = until_ns;
		if (marks->count == 0 || until_ns > marks->last_ns)
			marks->last_ns = until_ns;
		marks->count++;
	}
}

void
bus__log_bound_marks(struct log_cursor *reader, uint64_t tail)
{
	struct log *log = reader->log;
	uint32_t most = most_marks(log), left, step;
	struct marks marks = {0};

	/* Not at each one: the look is at all places. */
	if (atomic_load_explicit(&log->shared->marks, memory_order_relaxed) < most + most / 8)
		return;
	look_at_marks(reader, tail, &marks);
	left = marks.count;
	if (left > most) {
		marks.step_ns = (marks.last_ns - marks.first_ns) / MARK_STEPS + 1;
		look_at_marks(reader, tail, &marks);
		for (step = 0; step < MARK_STEPS && left > most; step++)
			left -= marks.counts[step];
		atomic_store_explicit(&log->shared->marks_over,
		    marks.first_ns + step * marks.step_ns - 1, memory_order_relaxed);
	}
	atomic_store_explicit(&log->shared->marks, left, memory_order_relaxed);
}

/* --- how much there is -------------------------------------------------------------------------------------------- */

/* Adds them up anew: a writer that died may have counted what it never published. */
void
bus__log_recount_kept(struct log *log)
{
	uint64_t tail = bus__log_tail(log), bytes = 0, count = 0;

	for (uint64_t i = 0; i < places_end(log); i++) {
		const struct log_place *place = &log->places[i];
		uint64_t now, its;

		if (tag_of(place) == 0)
			continue;
		now = atomic_load_explicit(&place->kept[0], memory_order_acquire);
		if (!is_published(log, now, tail))
			now = atomic_load_explicit(&place->kept[1], memory_order_acquire);
		its = counted_bytes(log, now, tail);
		bytes += its;
		count += its != 0 && !is_own(log, place);
	}
	atomic_store_explicit(&log->shared->kept_bytes, bytes, memory_order_relaxed);
	atomic_store_explicit(&log->shared->kept_count, count, memory_order_relaxed);
}

uint64_t
bus__log_kept_most(const struct log *log)
{
	return log->segment_bytes * log->segment_count / KEPT_SHARE;
}

bool
bus__log_may_keep(struct log *log, const struct log_topic *topic, uint64_t bytes, uint64_t tail)
{
	uint64_t most = bus__log_kept_most(log), count = bus__log_kept_count_most(log);
	struct log_cursor reader = {.log = log};
	struct found f;

	if (topic->name[0] == '$') { /* these have places of their own */
		most += log->segment_bytes;
		count = UINT64_MAX;
	}
	if (bus__log_kept_bytes(log) + bytes <= most && bus__log_kept_count(log) < count)
		return true;
	/* What it replaces makes room. */
	if (find(&reader, topic, true, tail, &f) && record_is_value(f.word)) {
		most += record_bytes(f.word);
		count++;
	}
	bus__log_let_go(&reader);
	bus__log_recount_kept(log);
	return bus__log_kept_bytes(log) + bytes <= most && bus__log_kept_count(log) < count;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* What the reader says of what it has found. */
static const struct log_record *
answer(struct log_cursor *reader, const struct found *found)
{
	reader->moving = found->record == NULL && found->fate == LOG_MOVING;
	if (found->record == NULL)
		return NULL;
	reader->word = found->word;
	reader->kept_at = found->position;
	return found->record;
}

const struct log_record *
bus__log_kept(struct log_cursor *reader, const struct log_topic *topic, uint64_t tail)
{
	struct found f;

	find(reader, topic, false, tail, &f);
	return answer(reader, &f);
}

const struct log_record *
bus__log_kept_now(struct log_cursor *reader, const struct log_topic *topic)
{
	const struct log_record *record;
	struct log_looks looks = {0};
	uint64_t tail;

	do {
		tail = bus__log_tail(reader->log);
		record = bus__log_kept(reader, topic, tail);
	} while (record == NULL && bus__log_may_look_again(&looks, reader, topic, tail));
	return record;
}

bool
bus__log_is_kept_behind(const struct log *log, const struct log_topic *topic, uint64_t tail)
{
	uint32_t half = half_of(topic->hash);

	for (uint32_t i = 0; i < choices(log, topic); i++) {
		const struct log_place *place = choice(log, topic, i);

		if (tag_half(tag_of(place)) == half &&
		    atomic_load_explicit(&place->kept[0], memory_order_acquire) >= tail)
			return true;
	}
	return false;
}

bool
bus__log_had_another(struct log *log, const struct log_topic *topic)
{
	const struct wanted wanted = {topic, half_of(topic->hash), false};
	uint64_t tail = bus__log_tail(log);
	const uint8_t *memory;
	struct log_cursor reader = {.log = log};
	bool had = false;

	for (uint32_t i = 0; i < choices(log, topic) && !had; i++) {
		const struct log_place *place = choice(log, topic, i);
		uint64_t before;
		struct found f;

		if (tag_half(tag_of(place)) != wanted.half)
			continue;
		before = atomic_load_explicit(&place->kept[1], memory_order_acquire);
		/* What has gone may have been another's, that had the place before. */
		had = before != 0 && (hold(&reader, &wanted, before, tail, &f) ||
					 bus__log_pin(log, &reader.pin, before / log->segment_bytes,
					     &memory) == NULL);
	}
	bus__log_let_go(&reader);
	return had;
}

/* Whether another look may find what one did not. */
static bool
may_look_again(struct log_looks *looks, const struct log_cursor *reader, bool is_behind)
{
	int64_t now;

	looks->count++;
	if (!reader->moving)
		return looks->count < LOOKS && is_behind;
	now = bus__now_ns();
	if (looks->moving_since_ns == 0)
		looks->moving_since_ns = now;
	if (now - looks->moving_since_ns >= MOVE_MOST_NS)
		return false;
	if (looks->count >= LOOKS)
		nanosleep(&(struct timespec){.tv_nsec = LOOK_NAP_NS}, NULL);
	return true;
}

bool
bus__log_may_look_again(struct log_looks *looks, const struct log_cursor *reader,
    const struct log_topic *topic, uint64_t tail)
{
	return may_look_again(looks, reader, bus__log_is_kept_behind(reader->log, topic, tail));
}

/* Whether the topic has one place alone. */
static bool
has_one_place(const struct log *log, const struct log_topic *topic, const struct log_place *place)
{
	uint32_t half = half_of(topic->hash);

	for (uint32_t i = 0; i < choices(log, topic); i++) {
		const struct log_place *other = choice(log, topic, i);

		if (other != place && tag_half(tag_of(other)) == half)
			return false;
	}
	return true;
}

/* With two places it comes by one. Apart, for the name: the reader goes to and fro. */
static __attribute__((noinline)) bool
is_newest(struct log_cursor *reader, const struct log_topic *topic, uint64_t tail,
    const struct log_place *place, struct found *ret_found)
{
	struct log_topic copy = {.len = topic->len, .hash = topic->hash};
	char name[BUS_LIMIT_TOPIC_BYTES];

	memcpy(name, topic->name, topic->len);
	copy.name = name;
	return find(reader, &copy, false, tail, ret_found) && ret_found->place == place;
}

/* The newest record of the topic that has a place, as of now. NULL: that is elsewhere, or there is none. */
static const struct log_record *
look_at_place(struct log_cursor *reader, struct log_place *place, uint32_t half, uint64_t tail,
    struct log_topic *ret_topic)
{
	const struct wanted wanted = {NULL, half, false};
	struct log *log = reader->log;
	struct found f;

	if (!look_at(reader, &wanted, place, tail, &f))
		return answer(reader, &f);
	bus__log_topic(log, f.name, f.name_len, ret_topic);
	if (!has_one_place(log, ret_topic, place)) {
		if (!is_newest(reader, ret_topic, tail, place, &f))
			return NULL;
		ret_topic->name = f.name;
	}
	return answer(reader, &f);
}

const struct log_record *
bus__log_kept_next(
    struct log_cursor *reader, struct log_walk *walk, unsigned *left, struct log_topic *ret_topic)
{
	struct log *log = reader->log;

	while (walk->at < places_end(log)) {
		struct log_place *place = &log->places[walk->at];
		uint32_t half = tag_half(tag_of(place));
		const struct log_record *record = NULL;
		uint64_t tail;

		if (walk->at % LOG_BUCKET == 0 && walk->looks.count == 0) {
			if (*left == 0)
				return NULL;
			--*left;
		}
		reader->moving = false;
		if (half != 0) {
			tail = bus__log_tail(log);
			record = look_at_place(reader, place, half, tail, ret_topic);
			if (record == NULL && (walk->waits || !reader->moving) &&
			    may_look_again(&walk->looks, reader,
				atomic_load_explicit(&place->kept[0], memory_order_acquire) >=
				    tail))
				continue;
		}
		walk->moving |= reader->moving;
		walk->looks = (struct log_looks){0};
		walk->at++;
		if (record != NULL)
			return record;
	}
	return NULL;
}

/* --- copying ------------------------------------------------------------------------------------------------------ */

/* The place of the segment with the lowest number above `above` that has ended. */
static bool
next_ended(const struct log *log, uint64_t above, uint64_t *ret_number, uint32_t *ret_place)
{
	uint64_t lowest = UINT64_MAX, end;

	for (uint32_t i = 0; i < log->segment_count; i++) {
		uint64_t life =
		    atomic_load_explicit(&log->shared->segments[i].life, memory_order_acquire);

		if (life_number(life) > above && life_number(life) < lowest &&
		    life_has_ended(life, &end)) {
			lowest = life_number(life);
			*ret_place = i;
		}
	}
	*ret_number = lowest;
	return lowest != UINT64_MAX;
}

/* Memory that never was a segment, which is used first. */
static uint32_t
count_unused(const struct log *log)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < log->segment_count; i++)
		count +=
		    atomic_load_explicit(&log->shared->segments[i].life, memory_order_relaxed) == 0;
	return count;
}

/* The place that has this record as the newest of its topic, and its tag. NULL: none has. */
static struct log_place *
place_of(struct log *log, const struct log_record *record, uint64_t word, uint64_t position,
    uint64_t tail, uint64_t *ret_tag)
{
	struct log_topic topic = {.len = 0};
	struct log_place *its = NULL;
	struct wanted wanted;
	struct log_view v;
	struct log_cursor reader = {.log = log};

	if (!(word >> 32 & LOG_RETAIN) || !bus__log_read(word, record, &v) || v.name_len == 0)
		return NULL; /* most are none */
	topic.name = v.name;
	topic.len = v.name_len;
	topic.hash = bus__siphash(log->key, v.name, v.name_len);
	wanted = (struct wanted){&topic, half_of(topic.hash), true};
	for (uint32_t i = 0; i < choices(log, &topic); i++) {
		struct log_place *place = choice(log, &topic, i);
		uint64_t tag = tag_of(place), now;
		struct found f;

		if (tag_half(tag) != wanted.half || place == its)
			continue;
		now = atomic_load_explicit(&place->kept[0], memory_order_acquire);
		if (now == position ||
		    (atomic_load_explicit(&place->kept[1], memory_order_acquire) == position &&
			!was_published(log, now, tail) && now < log->begin)) {
			its = place;
			*ret_tag = tag;
		} else if (look_at(&reader, &wanted, place, tail, &f) && f.position > position) {
			its = NULL; /* it has a newer one, in its other place */
			break;
		}
	}
	bus__log_let_go(&reader);
	return its;
}

/* What is not copied goes: the one before it, which may be in memory that somebody holds, does not come back. */
static void
forget(struct log *log, struct log_place *place, const struct log_record *record, uint64_t word,
    uint64_t position)
{
	struct bus__version version;

	if (bus__log_value_of(log, word, record, &version) == LOG_NO_VALUE)
		raise_floor(log, version.changes);
	if (atomic_load_explicit(&place->kept[0], memory_order_relaxed) == position)
		raise(&place->kept[1], position);
}

/* Copies what is current of a segment's records from `from` on to the tail's, behind *at. false: there was no room for all of it. */
static bool
copy_values(struct log *log, uint64_t number, const uint8_t *bytes, uint64_t from, uint64_t end,
    uint64_t *at, uint64_t tail)
{
	while (from < end) {
		const struct log_record *record = (const struct log_record *)(bytes + from);
		uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
		uint64_t size = record_bytes(word), tag;
		struct log_record *copy = (struct log_record *)(log->bytes + *at);
		struct log_place *place;

		if (size < sizeof *record || size % 8 != 0 || size > end - from)
			return true; /* damaged: there is nothing to be found behind it */
		place = place_of(log, record, word, number * log->segment_bytes + from, tail, &tag);
		if (place != NULL && !is_to_stay(log, record, word)) {
			forget(log, place, record, word, number * log->segment_bytes + from);
		} else if (place != NULL) {
			if (size >= log->segment_bytes - *at)
				return false;
			word |= (uint64_t)LOG_CARRIED << 32;
			memmove(copy, record, (size_t)size);
			copy->topic = topic_at(*at);
			atomic_store_explicit(&copy->word, word, memory_order_relaxed);
			note(log, place, log->begin + *at, word, tail);
			take(place, &tag, tag_half(tag)); /* nobody else does: it stays */
			*at += size;
		}
		from += size;
	}
	return true;
}

/* The same of a segment that is still there. */
static bool
copy_segment(struct log *log, uint64_t number, uint64_t *at, uint64_t tail)
{
	struct log_cursor source = {.log = log, .number = number};
	const uint8_t *bytes;
	uint64_t end;
	bool copied = true;

	/* Pinned, or read in a copy: an owner that was revoked reads nothing that others write. */
	source.segment = bus__log_pin(log, &source.pin, number, &bytes);
	if (source.segment == NULL ||
	    !life_has_ended(
		atomic_load_explicit(&source.segment->life, memory_order_acquire), &end) ||
	    end >= log->segment_bytes)
		end = 0;
	if (source.pin != 0)
		copied = copy_values(log, number, bytes, 0, end, at, tail);
	/* Where there is no memory for a copy, they stay; memory with values is not used before they have moved. */
	while (source.pin == 0 && source.at < end && copied) {
		copied = bus__log_copy_part(&source, bytes, end) > 0 &&
			 copy_values(log, number, source.bytes, source.at, source.limit, at, tail);
		source.at = source.limit;
	}
	bus__log_let_go(&source);
	return copied;
}

uint64_t
bus__log_carry(struct log *log, uint64_t at, uint64_t bytes, uint64_t copied[LOG_MOST_SEGMENTS])
{
	uint64_t tail = log->begin + at, number = 0, end;
	uint32_t place, ahead = count_unused(log), done = 0;

	memset(copied, 0, LOG_MOST_SEGMENTS * sizeof *copied);
	/* Nothing else was free, after several have died half way: what is there moves to its beginning. */
	if (life_has_ended(log->rescue, &end) && end < log->segment_bytes)
		copy_values(log, life_number(log->rescue), log->bytes, 0, end, &at, tail);
	log->rescue = 0;
	/* What somebody holds is not used soon, and so does not count. */
	while (done < LOG_MOST_SEGMENTS && next_ended(log, number, &number, &place) &&
	       number < log->number) {
		struct log_segment *segment = &log->shared->segments[place];

		/* Where what is to be written does not fit any more, there is room for values, and less to do next time. */
		if ((ahead >= LOG_AHEAD || done >= LOG_AHEAD) && bytes < log->segment_bytes - at)
			break;
		ahead += !bus__log_is_held(log, place, number);
		if (atomic_load_explicit(&segment->retained, memory_order_acquire) != number)
			continue;
		if (!copy_segment(log, number, &at, tail))
			break;
		copied[done++] = number;
	}
	if (at > tail - log->begin)
		mark(log);
	return at;
}

void
bus__log_carried(struct log *log, const uint64_t copied[LOG_MOST_SEGMENTS])
{
	for (unsigned i = 0; i < LOG_MOST_SEGMENTS; i++) {
		uint64_t number = copied[i];
		uint8_t *bytes;
		struct log_segment *segment =
		    number != 0 ? bus__log_find(log, number, &bytes) : NULL;

		if (segment != NULL)
			atomic_compare_exchange_strong_explicit(&segment->retained, &number, 0,
			    memory_order_release, memory_order_relaxed);
	}
}
