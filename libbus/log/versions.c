/* log/versions.c: versions of values, and the marks of deletions, which keep older values away until they end. */
#include "log/kept.h"

#include <string.h>

#include "base/clock.h"

#define MARK_BYTES 56  /* of a mark without its name: head, changes, id, end */
#define MARK_STEPS 256 /* by which the oldest are told from the others */

void
bus__log_id(const struct log *log, uint8_t ret_id[BUS__BUS_ID])
{
	memcpy(ret_id, &log->epoch, sizeof log->epoch);
	memcpy(ret_id + sizeof log->epoch, log->key, sizeof log->key[0]);
}

/* The words of a retained record, which is whole in memory. */
static void
read_words(const struct log *log, unsigned flags, const struct log_record *record,
    struct bus__version *ret_version, int64_t *ret_until_ns, uint64_t *ret_theirs)
{
	const uint8_t *at =
	    (const uint8_t *)(record + 1) + 8 * record_words(flags & (LOG_WORDS | LOG_PASSED));

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

/* A topic without a record gets its next version above the floor, and so above all that were forgotten. */
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

bool
bus__log_stays(const struct log *log, uint64_t word, const struct log_record *record, bool forced)
{
	struct bus__version version;
	enum log_value kind;

	if (!(word >> 32 & LOG_CHANGES))
		return record_is_value(word);
	kind = bus__log_value_of(log, word, record, &version);
	return kind == LOG_A_VALUE || (kind == LOG_A_MARK && !forced);
}

void
bus__log_forget_version(struct log *log, uint64_t word, const struct log_record *record)
{
	struct bus__version version;

	if (!(word >> 32 & LOG_CHANGES))
		return;
	bus__log_value_of(log, word, record, &version);
	raise_floor(log, version.changes);
}

void
bus__log_newest(struct log_cursor *reader, const struct log_topic *topic, uint64_t tail,
    struct log_newest *ret_newest)
{
	struct log *log = reader->log;
	struct log_newest n = {.kind = LOG_NO_VALUE};
	struct log_hit f;

	if (bus__log_find_kept(reader, topic, true, tail, &f)) {
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

/* --- marks --------------------------------------------------------------------------------------------------------- */

/* Values may take a part of the room, and marks the same part of that; no more than a private bus has. */
static uint32_t
most_marks(const struct log *log)
{
	uint64_t most = bus__log_kept_most(log) / LOG_KEPT_SHARE / MARK_BYTES;

	return most < BUS__MARKS ? (uint32_t)most : BUS__MARKS;
}

/* What one look at all marks finds. */
struct marks {
	uint32_t count;
	int64_t first_ns, last_ns;   /* when they end */
	int64_t step_ns;             /* 0: not known yet */
	uint32_t counts[MARK_STEPS]; /* of those that end i steps after the first */
};

static void
look_at_marks(struct log_cursor *reader, uint64_t tail, struct marks *marks)
{
	const struct log *log = reader->log;

	for (uint64_t i = (uint64_t)LOG_OWN_BUCKETS * LOG_BUCKET; i < bus__log_places_end(log);
	     i++) {
		const struct log_wanted wanted = {
		    NULL, tag_half(bus__log_tag_of(&log->places[i])), true};
		struct bus__version version;
		int64_t until_ns;
		uint64_t theirs;
		struct log_hit f;

		if (wanted.half == 0 ||
		    !bus__log_look_at(reader, &wanted, &log->places[i], tail, &f) ||
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

	/* Not at each mark: the look is at all places. */
	if (atomic_fetch_add_explicit(&log->shared->marks, 1, memory_order_relaxed) <
	    most + most / 8)
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
	atomic_store_explicit(&log->shared->marks, left + 1, memory_order_relaxed);
}
