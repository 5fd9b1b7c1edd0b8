/* log/kept_room.c: room for values: how much they may take of the log, and the place of the index that a topic gets. */
#include "log/kept.h"

#define TAKE_TRIES 100

/* --- how much there is -------------------------------------------------------------------------------------------- */

/* A writer that died may have counted a value that it never published. */
void
bus__log_recount_kept(struct log *log)
{
	uint64_t tail = bus__log_tail(log), bytes = 0, count = 0;

	for (uint64_t i = 0; i < bus__log_places_end(log); i++) {
		const struct log_place *place = &log->places[i];
		uint64_t now, its;

		if (bus__log_tag_of(place) == 0)
			continue;
		now = atomic_load_explicit(&place->kept[0], memory_order_acquire);
		if (!bus__log_is_published(log, now, tail))
			now = atomic_load_explicit(&place->kept[1], memory_order_acquire);
		its = bus__log_counted_bytes(log, now, tail);
		bytes += its;
		count += its != 0 && !bus__log_is_own_place(log, place);
	}
	atomic_store_explicit(&log->shared->kept_bytes, bytes, memory_order_relaxed);
	atomic_store_explicit(&log->shared->kept_count, count, memory_order_relaxed);
}

uint64_t
bus__log_kept_most(const struct log *log)
{
	return log->segment_bytes * log->segment_count / LOG_KEPT_SHARE;
}

bool
bus__log_may_keep(struct log *log, const struct log_topic *topic, uint64_t bytes, uint64_t tail)
{
	uint64_t most = bus__log_kept_most(log), count = bus__log_kept_count_most(log);
	struct log_cursor reader = {.log = log};
	struct log_hit f;

	if (topic->name[0] == '$') { /* these topics have places of their own */
		most += log->segment_bytes;
		count = UINT64_MAX;
	}
	if (bus__log_kept_bytes(log) + bytes <= most && bus__log_kept_count(log) < count)
		return true;
	/* The value that it replaces makes room. */
	if (bus__log_find_kept(&reader, topic, true, tail, &f) && record_is_value(f.word)) {
		most += record_bytes(f.word);
		count++;
	}
	bus__log_let_go(&reader);
	bus__log_recount_kept(log);
	return bus__log_kept_bytes(log) + bytes <= most && bus__log_kept_count(log) < count;
}

/* --- places -------------------------------------------------------------------------------------------------------- */

/* Whether a place has no record that has to stay; `forced`: marks need not. The owner that asks may have been revoked. Then a
 * record that it does not find may have been copied, and a position behind its tail, other than `position`, is of a later owner. */
static bool
is_free(struct log_cursor *reader, struct log_place *place, uint64_t tag, uint64_t position,
    uint64_t tail, bool forced)
{
	const struct log_wanted wanted = {NULL, tag_half(tag), false};
	struct log *log = reader->log;
	uint64_t now = atomic_load_explicit(&place->kept[0], memory_order_acquire);
	struct log_hit f;

	if (now >= tail && now != position)
		return false;
	/* Not free if a revoked writer claims the memory, since it gives that back, nor if there was no memory for a copy. */
	if (!bus__log_look_at(reader, &wanted, place, tail, &f))
		return f.fate == LOG_GONE &&
		       atomic_load_explicit(&place->kept[0], memory_order_acquire) == now;
	if (bus__log_stays(log, f.word, f.record, forced))
		return false;
	bus__log_forget_version(log, f.word, f.record);
	return true;
}

/* The place with the newest record of a topic, and its tag. NULL: none. */
static struct log_place *
place_that_has(
    struct log_cursor *reader, const struct log_topic *topic, uint64_t tail, uint64_t *ret_tag)
{
	const struct log_wanted wanted = {topic, bus__log_half_of(topic->hash), true};
	const struct log *log = reader->log;
	struct log_place *best = NULL;
	uint64_t newest = 0;
	struct log_hit f;

	for (uint32_t i = 0; i < bus__log_choices(log, topic); i++) {
		struct log_place *place = bus__log_choice(log, topic, i);
		uint64_t tag = bus__log_tag_of(place);

		if (tag_half(tag) != wanted.half ||
		    !bus__log_look_at(reader, &wanted, place, tail, &f) || f.position <= newest)
			continue;
		newest = f.position;
		best = place;
		*ret_tag = tag;
	}
	return best;
}

/* A free place in the bucket with more free places, so that buckets fill evenly. */
static struct log_place *
free_place(struct log_cursor *reader, const struct log_topic *topic, uint64_t position,
    uint64_t tail, bool forced, uint64_t *ret_tag)
{
	const struct log *log = reader->log;
	struct log_place *first[2] = {NULL, NULL};
	uint64_t tags[2];
	uint32_t counts[2] = {0, 0}, k;

	for (uint32_t i = 0; i < bus__log_choices(log, topic); i++) {
		struct log_place *place = bus__log_choice(log, topic, i);
		uint64_t tag = bus__log_tag_of(place);

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

	/* A revoked owner takes a place from us at most once. If we were revoked, the answer does not count. */
	for (unsigned tries = 0; tries < TAKE_TRIES && place == NULL; tries++) {
		place = place_that_has(&reader, topic, tail, ret_tag);
		if (place != NULL)
			break;
		place = free_place(&reader, topic, position, tail, false, ret_tag);
		/* The mark of a deletion ends early to make room. */
		if (place == NULL)
			place = free_place(&reader, topic, position, tail, true, ret_tag);
		if (place == NULL)
			break;
		if (!bus__log_take_place(place, ret_tag, bus__log_half_of(topic->hash)))
			place = NULL;
	}
	bus__log_let_go(&reader);
	return place;
}
