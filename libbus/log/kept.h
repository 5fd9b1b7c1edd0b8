/* log/kept.h: the index of values, for the files of the log that change or read it. kept.c says what a place of it holds. */
#ifndef BUS_LOG_KEPT_H
#define BUS_LOG_KEPT_H

#include "log/log.h"

#define LOG_KEPT_SHARE 4 /* values may take this part of the records' room */

/* --- places ------------------------------------------------------------------------------------------------------- */

static inline uint64_t
bus__log_places_end(const struct log *log)
{
	return (uint64_t)log->buckets * LOG_BUCKET;
}

/* Whether a place is for the bus's own topics, which are not counted. */
static inline bool
bus__log_is_own_place(const struct log *log, const struct log_place *place)
{
	return place < log->places + (size_t)LOG_OWN_BUCKETS * LOG_BUCKET;
}

/* The half of a topic's hash that its tag has. */
static inline uint32_t
bus__log_half_of(uint64_t hash)
{
	uint32_t half = (uint32_t)((hash * UINT64_C(0x9E3779B97F4A7C15)) >> 32);

	return half != 0 ? half : 1;
}

static inline uint64_t
bus__log_tag_of(const struct log_place *place)
{
	/* Acquire: pairs with the release of bus__log_take_place(): the note before it. */
	return atomic_load_explicit(&place->tag, memory_order_acquire);
}

/* How many places a topic may have, and place i of them. */
uint32_t bus__log_choices(const struct log *log, const struct log_topic *topic);
struct log_place *bus__log_choice(const struct log *log, const struct log_topic *topic, uint32_t i);

/* Takes a place for a topic, unless it was written to since it had this tag; *tag is its new tag. Owner. */
bool bus__log_take_place(struct log_place *place, uint64_t *tag, uint32_t half);

/* Raises the position of the record before the newest. */
void bus__log_raise_before(struct log_place *place, uint64_t position);

/* --- what a place notes ------------------------------------------------------------------------------------------- */

/* Whether a record at `position` was published when the tail was at `tail`. The memory must be held. */
bool bus__log_is_published(const struct log *log, uint64_t position, uint64_t tail);

/* The same for the tail's owner. Memory that it claimed with values has a new number; log->rescue has the old end. */
bool bus__log_was_published(const struct log *log, uint64_t position, uint64_t tail);

/* The bytes that the value at a position counts for, 0 if it is none. Owner. */
uint64_t bus__log_counted_bytes(const struct log *log, uint64_t position, uint64_t tail);

/* --- searches ----------------------------------------------------------------------------------------------------- */

/* The records that a search wants: those of a topic, or (NULL) of any with this half. */
struct log_wanted {
	const struct log_topic *topic;
	uint32_t half;
	bool
	    in_place; /* where there is no memory for a copy: of the tail's owner, for which they stay if it still is that */
};

/* A published retained record, where the reader holds it, or in its copy. */
struct log_hit {
	const struct log_record *record; /* NULL: none was found */
	uint64_t word, position;
	enum log_fate fate; /* of one that was not found */
	const char *name;
	uint32_t name_len;
	struct log_place *place;
};

/* The retained record at a position. */
bool bus__log_hold(struct log_cursor *reader, const struct log_wanted *wanted, uint64_t position,
    uint64_t tail, struct log_hit *ret_hit);

/* The newest in a place when the tail was at `tail`. */
bool bus__log_look_at(struct log_cursor *reader, const struct log_wanted *wanted,
    struct log_place *place, uint64_t tail, struct log_hit *ret_hit);

/* The newest of a topic. */
bool bus__log_find_kept(struct log_cursor *reader, const struct log_topic *topic, bool in_place,
    uint64_t tail, struct log_hit *ret_hit);

/* --- versions (versions.c) ---------------------------------------------------------------------------------------- */

/* Whether a record stays in its place: a value does, and the mark of a deletion until it ends; `forced`: a mark does not. */
bool bus__log_stays(
    const struct log *log, uint64_t word, const struct log_record *record, bool forced);

/* A record loses its place. The next value of an unknown topic gets a version above its own. */
void bus__log_forget_version(struct log *log, uint64_t word, const struct log_record *record);

#endif
