/* log/kept.c: the last retained record of each topic, which stays when its memory is used again.
 *
 * A topic has the positions of its last two retained records. The newer one is noted before it is published: so whoever
 * sees the tail behind it sees the note. One that was never published, since its writer died or was replaced,
 * lies behind the end of its segment for good; then the older one counts.
 *
 * Before memory is used again, what is still current in it is copied to the tail. That happens two segments ahead, so
 * that a writer that dies half way through a copy has lost nothing; and memory that was not gone through is used only when
 * there is no other, and then moves what it has to its own beginning. */
#include "log/log.h"

#include <string.h>
#include <time.h>

#include <libbus/error.h>

#include "base/clock.h"

#define LOOKS                                                                                      \
	100 /* for a value behind the tail; for one that moves, before looks are a nap apart */
#define LOOK_NAP_NS 1000000
#define MOVE_MOST_NS                                                                               \
	INT64_C(250000000) /* longer than it takes until a writer that stands still is replaced */
#define KEPT_SHARE 4       /* values may take this part of the records' room */
#define MARK_BYTES 56      /* of a mark: head, changes, id, end */
#define MARK_STEPS 256     /* by which the oldest are told from the others */

/* Whether a retained record is a value, and not the end of one. */
static bool
is_value(uint64_t word)
{
	unsigned flags = (unsigned)(word >> 32) & 0xffff;

	return flags & LOG_RETAIN && record_bytes(word) - (word >> 56) >
					 sizeof(struct log_record) + 8 * record_words(flags);
}

/* --- what a topic notes ---------------------------------------------------------------------------------------- */

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
	return is_value(word) ? record_bytes(word) : 0;
}

/* Notes the record of `word` at `position` as the topic's newest. */
static void
note(struct log *log, uint32_t number, uint64_t position, uint64_t word, uint64_t tail)
{
	struct log_topic *topic = bus__log_topic_at(log, number);
	uint64_t now, before, old;

	if (topic == NULL)
		return;
	now = atomic_load_explicit(&topic->kept[0], memory_order_acquire);
	/* Another changes it at most once: one that was revoked, and does not know it. */
	do {
		/* Or it is us who were, and others have gone on: then what stands there counts, if it can be true. */
		if (now > position && now < bus__log_tail(log) + log->segment_bytes)
			return;
		before = atomic_load_explicit(&topic->kept[1], memory_order_relaxed);
		if (now > before && was_published(log, now, tail))
			atomic_compare_exchange_strong_explicit(&topic->kept[1], &before, now,
			    memory_order_release, memory_order_relaxed);
		old = counted_bytes(log, now, tail);
	} while (!atomic_compare_exchange_strong_explicit(
	    &topic->kept[0], &now, position, memory_order_release, memory_order_acquire));
	atomic_fetch_add_explicit(&log->shared->kept_bytes,
	    (is_value(word) ? record_bytes(word) : 0) - old, memory_order_relaxed);
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

void
bus__log_note_kept(struct log *log, uint32_t topic, uint64_t position, uint64_t word, uint64_t tail)
{
	mark(log);
	note(log, topic, position, word, tail);
	if (word >> 32 & LOG_MARK)
		atomic_fetch_add_explicit(&log->shared->marks, 1, memory_order_relaxed);
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

/* The topic's newest retained record that was published, where it is, and its word. NULL: there is none. Owner. */
static const struct log_record *
newest(struct log *log, struct log_cursor *reader, const struct log_topic *topic, uint64_t tail,
    uint64_t *ret_position, uint64_t *ret_word)
{
	uint64_t position = atomic_load_explicit(&topic->kept[0], memory_order_acquire);
	uint64_t number, at, bytes;
	const struct log_record *record;
	struct log_segment *segment = NULL;
	const uint8_t *memory;
	uint8_t *found;

	if (!is_published(log, position, tail))
		position = atomic_load_explicit(&topic->kept[1], memory_order_acquire);
	number = position / log->segment_bytes;
	at = position - number * log->segment_bytes;
	if (position == 0 || at % 8 != 0 || at + sizeof *record > log->segment_bytes ||
	    !is_published(log, position, tail))
		return NULL;
	if (reader != NULL) {
		segment = bus__log_pin(log, &reader->pin, number, &memory);
		if (segment == NULL)
			return NULL;
	} else {
		if (bus__log_find(log, number, &found) == NULL)
			return NULL;
		memory = found;
	}
	record = (const struct log_record *)(memory + at);
	if (segment != NULL && reader->pin == 0) {
		int copied = bus__log_copy_record(reader, segment, number, memory, at, &record);

		/* Without memory it reads what lies there, which is right if the tail is still ours. */
		if (copied == 0 || copied == BUS_E_DAMAGED)
			return NULL;
	}
	*ret_position = position;
	*ret_word = atomic_load_explicit(&record->word, memory_order_relaxed);
	bytes = record_bytes(*ret_word);
	return bytes >= sizeof *record && bytes <= log->segment_bytes - at ? record : NULL;
}

void
bus__log_newest(struct log *log, struct log_cursor *reader, uint32_t number, uint64_t tail,
    struct log_newest *ret_newest)
{
	const struct log_topic *topic = bus__log_topic_at(log, number);
	struct log_newest n = {.kind = LOG_NO_VALUE};

	if (topic != NULL)
		n.record = newest(log, reader, topic, tail, &n.position, &n.word);
	if (n.record != NULL && n.record->topic == number)
		n.kind = value_of(log, n.word, n.record, &n.version, &n.theirs);
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

static void
look_at_marks(struct log *log, struct log_cursor *reader, uint64_t tail, struct marks *marks)
{
	struct log_place place = {0};
	unsigned left = UINT32_MAX;
	uint32_t number;

	while ((number = bus__log_topic_next(log, &place, &left)) != 0) {
		struct bus__version version;
		const struct log_record *record;
		uint64_t position, word, theirs;
		int64_t until_ns;

		record =
		    newest(log, reader, bus__log_topic_at(log, number), tail, &position, &word);
		if (record == NULL || !(word >> 32 & LOG_MARK) ||
		    bus__log_value_of(log, word, record, &version) != LOG_A_MARK)
			continue;
		read_words(
		    log, (unsigned)(word >> 32) & 0xffff, record, &version, &until_ns, &theirs);
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
bus__log_bound_marks(struct log *log, struct log_cursor *reader, uint64_t tail)
{
	uint32_t most = most_marks(log), left, step;
	struct marks marks = {0};

	/* Not at each one: the look is at all names. */
	if (atomic_load_explicit(&log->shared->marks, memory_order_relaxed) < most + most / 8)
		return;
	look_at_marks(log, reader, tail, &marks);
	left = marks.count;
	if (left > most) {
		marks.step_ns = (marks.last_ns - marks.first_ns) / MARK_STEPS + 1;
		look_at_marks(log, reader, tail, &marks);
		for (step = 0; step < MARK_STEPS && left > most; step++)
			left -= marks.counts[step];
		atomic_store_explicit(&log->shared->marks_over,
		    marks.first_ns + step * marks.step_ns - 1, memory_order_relaxed);
	}
	atomic_store_explicit(&log->shared->marks, left, memory_order_relaxed);
}

/* What the topic's published value counts. Owner. */
static uint64_t
value_bytes(const struct log *log, const struct log_topic *topic, uint64_t tail)
{
	uint64_t now = atomic_load_explicit(&topic->kept[0], memory_order_acquire);

	if (!is_published(log, now, tail))
		now = atomic_load_explicit(&topic->kept[1], memory_order_acquire);
	return counted_bytes(log, now, tail);
}

/* Adds them up anew: a writer that died may have counted what it never published. By the chains, since one that died
 * while it named a topic has left a hole among the names. */
static uint64_t
recount(struct log *log, uint64_t tail)
{
	uint64_t sum = 0, steps = log->topics_bytes / sizeof(struct log_topic);

	for (uint32_t i = 0; i < LOG_BUCKETS; i++) {
		uint32_t number =
		    atomic_load_explicit(&log->shared->buckets[i], memory_order_acquire);
		const struct log_topic *topic;

		for (; (topic = bus__log_topic_at(log, number)) != NULL && steps > 0; steps--) {
			sum += value_bytes(log, topic, tail);
			number = atomic_load_explicit(&topic->next, memory_order_relaxed);
		}
	}
	atomic_store_explicit(&log->shared->kept_bytes, sum, memory_order_relaxed);
	return sum;
}

uint64_t
bus__log_kept_most(const struct log *log)
{
	return log->segment_bytes * log->segment_count / KEPT_SHARE;
}

void
bus__log_recount_kept(struct log *log)
{
	recount(log, bus__log_tail(log));
}

bool
bus__log_may_keep(struct log *log, uint32_t number, uint64_t bytes, uint64_t tail)
{
	const struct log_topic *topic = bus__log_topic_at(log, number);
	uint64_t most = bus__log_kept_most(log);

	if (topic == NULL)
		return true; /* it will not be found as one */
	if (topic->name[0] == '$')
		most += log->segment_bytes;
	if (atomic_load_explicit(&log->shared->kept_bytes, memory_order_relaxed) + bytes <= most)
		return true;
	/* What it replaces makes room. */
	most += value_bytes(log, topic, tail);
	return recount(log, tail) + bytes <= most;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* The retained record of a topic at `position`, held by the reader. NULL: there is none, or its memory is claimed. */
static const struct log_record *
hold(struct log_cursor *reader, uint32_t topic, uint64_t position, uint64_t tail,
    enum log_fate *ret_fate)
{
	struct log *log = reader->log;
	uint64_t number = position / log->segment_bytes;
	uint64_t at = position - number * log->segment_bytes, bytes;
	const struct log_record *record;
	struct log_segment *segment;
	const uint8_t *memory;

	*ret_fate = LOG_GONE;
	if (position == 0 || at % 8 != 0 || at + sizeof *record > log->segment_bytes)
		return NULL;
	segment = bus__log_pin(log, &reader->pin, number, &memory);
	if (segment == NULL) {
		*ret_fate = bus__log_fate(log, number);
		return NULL;
	}
	if (!is_published(log, position, tail))
		return NULL;
	record = (const struct log_record *)(memory + at);
	if (reader->pin == 0) {
		int copied = bus__log_copy_record(reader, segment, number, memory, at, &record);

		if (copied == 0)
			*ret_fate = bus__log_fate(log, number);
		else if (copied == BUS_E_NOMEM) /* the value before is a stale one */
			*ret_fate = LOG_MOVING;
		if (copied <= 0)
			return NULL;
	}
	reader->kept_at = position;
	reader->word = atomic_load_explicit(&record->word, memory_order_relaxed);
	bytes = record_bytes(reader->word);
	if (bytes < sizeof *record || bytes > log->segment_bytes - at || record->topic != topic ||
	    !(reader->word >> 32 & LOG_RETAIN))
		return NULL;
	return record;
}

const struct log_record *
bus__log_kept(struct log_cursor *reader, uint32_t number, uint64_t tail)
{
	const struct log_topic *topic = bus__log_topic_at(reader->log, number);
	const struct log_record *record = NULL;
	enum log_fate fate;
	uint64_t now, seen;

	reader->moving = false;
	if (topic == NULL)
		return NULL;
	now = atomic_load_explicit(&topic->kept[0], memory_order_acquire);
	do {
		seen = now;
		record = hold(reader, number, seen, tail, &fate);
		/* While the newest value moves, the one before it is stale. */
		if (record == NULL && fate == LOG_GONE)
			record = hold(reader, number,
			    atomic_load_explicit(&topic->kept[1], memory_order_acquire), tail,
			    &fate);
		/* It may have been copied while we looked for it: then the note has changed. */
		now = atomic_load_explicit(&topic->kept[0], memory_order_acquire);
	} while (record == NULL && (fate == LOG_BACK || (now != seen && now < tail)));
	reader->moving = fate == LOG_MOVING;
	return record;
}

const struct log_record *
bus__log_kept_now(struct log_cursor *reader, uint32_t number)
{
	const struct log_record *record;
	struct log_looks looks = {0};
	uint64_t tail;

	do {
		tail = bus__log_tail(reader->log);
		record = bus__log_kept(reader, number, tail);
	} while (record == NULL && bus__log_may_look_again(&looks, reader, number, tail));
	return record;
}

bool
bus__log_is_kept_behind(const struct log *log, uint32_t number, uint64_t tail)
{
	const struct log_topic *topic = bus__log_topic_at(log, number);

	return topic != NULL && atomic_load_explicit(&topic->kept[0], memory_order_acquire) >= tail;
}

bool
bus__log_may_look_again(
    struct log_looks *looks, const struct log_cursor *reader, uint32_t number, uint64_t tail)
{
	int64_t now;

	looks->count++;
	if (!reader->moving)
		return looks->count < LOOKS && bus__log_is_kept_behind(reader->log, number, tail);
	now = bus__now_ns();
	if (looks->moving_since_ns == 0)
		looks->moving_since_ns = now;
	if (now - looks->moving_since_ns >= MOVE_MOST_NS)
		return false;
	if (looks->count >= LOOKS)
		nanosleep(&(struct timespec){.tv_nsec = LOOK_NAP_NS}, NULL);
	return true;
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

/* Whether it is the value that its topic has now. */
static bool
is_current(struct log *log, const struct log_record *record, uint64_t word, uint64_t position,
    uint64_t tail)
{
	const struct log_topic *topic;
	uint64_t now;

	if (!(word >> 32 & LOG_RETAIN))
		return false; /* most are none */
	topic = bus__log_topic_at(log, record->topic);
	if (topic == NULL)
		return false;
	now = atomic_load_explicit(&topic->kept[0], memory_order_acquire);
	return now == position ||
	       (atomic_load_explicit(&topic->kept[1], memory_order_acquire) == position &&
		   !was_published(log, now, tail) && now < log->begin);
}

/* Whether it stays: a value does, and the mark of a deletion until it ends. */
static bool
is_to_stay(struct log *log, const struct log_record *record, uint64_t word)
{
	struct bus__version version;

	if (!(word >> 32 & LOG_CHANGES))
		return is_value(word);
	if (bus__log_value_of(log, word, record, &version) != LOG_NO_VALUE)
		return true;
	raise_floor(log, version.changes);
	return false;
}

/* Copies what is current of a segment's records to the tail's, behind *at. false: there was no room for all of it. */
static bool
copy_values(struct log *log, uint64_t number, const uint8_t *bytes, uint64_t end, uint64_t *at,
    uint64_t tail)
{
	for (uint64_t from = 0; from < end;) {
		const struct log_record *record = (const struct log_record *)(bytes + from);
		uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
		uint64_t size = record_bytes(word);
		struct log_record *copy = (struct log_record *)(log->bytes + *at);

		if (size < sizeof *record || size % 8 != 0 || size > end - from)
			return true; /* damaged: there is nothing to be found behind it */
		if (is_current(log, record, word, number * log->segment_bytes + from, tail) &&
		    is_to_stay(log, record, word)) {
			if (size >= log->segment_bytes - *at)
				return false;
			word |= (uint64_t)LOG_CARRIED << 32;
			memmove(copy, record, (size_t)size);
			atomic_store_explicit(&copy->word, word, memory_order_relaxed);
			note(log, copy->topic, log->begin + *at, word, tail);
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
	uint64_t end;
	uint8_t *bytes;
	const struct log_segment *segment = bus__log_find(log, number, &bytes);

	return segment == NULL ||
	       !life_has_ended(atomic_load_explicit(&segment->life, memory_order_acquire), &end) ||
	       end >= log->segment_bytes || copy_values(log, number, bytes, end, at, tail);
}

uint64_t
bus__log_carry(struct log *log, uint64_t at, uint64_t bytes, uint64_t copied[LOG_MOST_SEGMENTS])
{
	uint64_t tail = log->begin + at, number = 0, end;
	uint32_t place, ahead = count_unused(log), done = 0;

	memset(copied, 0, LOG_MOST_SEGMENTS * sizeof *copied);
	/* Nothing else was free, after several have died half way: what is there moves to its beginning. */
	if (life_has_ended(log->rescue, &end) && end < log->segment_bytes)
		copy_values(log, life_number(log->rescue), log->bytes, end, &at, tail);
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
