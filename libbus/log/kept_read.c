/* log/kept_read.c: reads the value that a topic keeps, and goes through all of them. */
#define _POSIX_C_SOURCE 200809L
#include "log/kept.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"

#define LOOKS       100 /* for a value behind the tail; for a moving one, before looks are a nap apart */
#define LOOK_NAP_NS 1000000
/* Longer than it takes until a writer that is stopped is replaced. */
#define MOVE_MOST_NS INT64_C(250000000)

/* Notes the hit in the reader. */
static const struct log_record *
answer(struct log_cursor *reader, const struct log_hit *found)
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
	struct log_hit f;

	bus__log_find_kept(reader, topic, false, tail, &f);
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
	uint32_t half = bus__log_half_of(topic->hash);

	for (uint32_t i = 0; i < bus__log_choices(log, topic); i++) {
		const struct log_place *place = bus__log_choice(log, topic, i);

		if (tag_half(bus__log_tag_of(place)) == half &&
		    atomic_load_explicit(&place->kept[0], memory_order_acquire) >= tail)
			return true;
	}
	return false;
}

bool
bus__log_had_another(struct log *log, const struct log_topic *topic)
{
	const struct log_wanted wanted = {topic, bus__log_half_of(topic->hash), false};
	uint64_t tail = bus__log_tail(log);
	const uint8_t *memory;
	struct log_cursor reader = {.log = log};
	bool had = false;

	for (uint32_t i = 0; i < bus__log_choices(log, topic) && !had; i++) {
		const struct log_place *place = bus__log_choice(log, topic, i);
		uint64_t before;
		struct log_hit f;

		if (tag_half(bus__log_tag_of(place)) != wanted.half)
			continue;
		before = atomic_load_explicit(&place->kept[1], memory_order_acquire);
		/* A record that is gone may have been of another topic, which had the place before. */
		had = before != 0 && (bus__log_hold(&reader, &wanted, before, tail, &f) ||
					 bus__log_pin(log, &reader.pin, before / log->segment_bytes,
					     &memory) == NULL);
	}
	bus__log_let_go(&reader);
	return had;
}

/* Whether another look may find the record. */
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

/* --- all topics ---------------------------------------------------------------------------------------------------- */

/* Whether the topic has only this place. */
static bool
has_one_place(const struct log *log, const struct log_topic *topic, const struct log_place *place)
{
	uint32_t half = bus__log_half_of(topic->hash);

	for (uint32_t i = 0; i < bus__log_choices(log, topic); i++) {
		const struct log_place *other = bus__log_choice(log, topic, i);

		if (other != place && tag_half(bus__log_tag_of(other)) == half)
			return false;
	}
	return true;
}

/* A topic with two places is handed out once. Not inlined, for its copy of the name: the reader changes memory. */
static __attribute__((noinline)) bool
is_newest(struct log_cursor *reader, const struct log_topic *topic, uint64_t tail,
    const struct log_place *place, struct log_hit *ret_found)
{
	struct log_topic copy = {.len = topic->len, .hash = topic->hash};
	char name[BUS_LIMIT_TOPIC_BYTES];

	memcpy(name, topic->name, topic->len);
	copy.name = name;
	return bus__log_find_kept(reader, &copy, false, tail, ret_found) &&
	       ret_found->place == place;
}

/* The newest record of the topic of a place, as of now. NULL: it is in another place, or there is none. */
static const struct log_record *
look_at_place(struct log_cursor *reader, struct log_place *place, uint32_t half, uint64_t tail,
    struct log_topic *ret_topic)
{
	const struct log_wanted wanted = {NULL, half, false};
	struct log *log = reader->log;
	struct log_hit f;

	if (!bus__log_look_at(reader, &wanted, place, tail, &f))
		return answer(reader, &f);
	bus__log_topic(log, f.name, f.name_len, ret_topic);
	if (!has_one_place(log, ret_topic, place)) {
		if (!is_newest(reader, ret_topic, tail, place, &f))
			return NULL;
		ret_topic->name = f.name;
	}
	return answer(reader, &f);
}

/* Most places are empty: the next one that is not, or that begins a bucket. */
static uint64_t
skip_empty(const struct log *log, uint64_t at, uint64_t end)
{
	while (at < end && at % LOG_BUCKET != 0 && tag_half(bus__log_tag_of(&log->places[at])) == 0)
		at++;
	return at;
}

const struct log_record *
bus__log_kept_next(
    struct log_cursor *reader, struct log_walk *walk, unsigned *left, struct log_topic *ret_topic)
{
	struct log *log = reader->log;
	uint64_t end = bus__log_places_end(log);

	while (walk->at < end) {
		struct log_place *place = &log->places[walk->at];
		uint32_t half = tag_half(bus__log_tag_of(place));
		const struct log_record *record = NULL;
		uint64_t tail;

		if (walk->at % LOG_BUCKET == 0 && walk->looks.count == 0) {
			if (*left == 0)
				return NULL;
			--*left;
		}
		if (half == 0 && walk->looks.count == 0) {
			walk->at = skip_empty(log, walk->at + 1, end);
			continue;
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
