/* log/carry.c: copies values to the tail before their memory is used again.
 *
 * That happens two segments ahead, so that a writer that dies half way through has lost nothing. Memory that was not gone through
 * is used only when there is no other. The values in it then move to its own beginning. */
#include "log/kept.h"

#include <string.h>

#include "base/siphash.h"

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

/* The places of memory that never was a segment. They are used first. */
static uint32_t
count_unused(const struct log *log)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < log->segment_count; i++)
		count +=
		    atomic_load_explicit(&log->shared->segments[i].life, memory_order_relaxed) == 0;
	return count;
}

/* The place with this record as the newest of its topic, and its tag. NULL: none. */
static struct log_place *
place_of(struct log *log, const struct log_record *record, uint64_t word, uint64_t position,
    uint64_t tail, uint64_t *ret_tag)
{
	struct log_topic topic = {.len = 0};
	struct log_place *its = NULL;
	struct log_wanted wanted;
	struct log_view v;
	struct log_cursor reader = {.log = log};

	if (!(word >> 32 & LOG_RETAIN) || !bus__log_read(word, record, &v) || v.name_len == 0)
		return NULL; /* as most records */
	topic.name = v.name;
	topic.len = v.name_len;
	topic.hash = bus__siphash(log->key, v.name, v.name_len);
	wanted = (struct log_wanted){&topic, bus__log_half_of(topic.hash), true};
	for (uint32_t i = 0; i < bus__log_choices(log, &topic); i++) {
		struct log_place *place = bus__log_choice(log, &topic, i);
		uint64_t tag = bus__log_tag_of(place), now;
		struct log_hit f;

		if (tag_half(tag) != wanted.half || place == its)
			continue;
		now = atomic_load_explicit(&place->kept[0], memory_order_acquire);
		if (now == position ||
		    (atomic_load_explicit(&place->kept[1], memory_order_acquire) == position &&
			!bus__log_was_published(log, now, tail) && now < log->begin)) {
			its = place;
			*ret_tag = tag;
		} else if (bus__log_look_at(&reader, &wanted, place, tail, &f) &&
			   f.position > position) {
			its = NULL; /* its other place has a newer one */
			break;
		}
	}
	bus__log_let_go(&reader);
	return its;
}

/* A record that is not copied is gone. The one before it, whose memory may be held, must not come back. */
static void
forget(struct log *log, struct log_place *place, const struct log_record *record, uint64_t word,
    uint64_t position)
{
	bus__log_forget_version(log, word, record);
	if (atomic_load_explicit(&place->kept[0], memory_order_relaxed) == position)
		bus__log_raise_before(place, position);
}

/* Copies the current values of a segment's records from `from` on to the tail's segment at *at. false: no room for all of them. */
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
			return true; /* damaged: the next record cannot be found */
		place = place_of(log, record, word, number * log->segment_bytes + from, tail, &tag);
		if (place != NULL && !bus__log_stays(log, word, record, false)) {
			forget(log, place, record, word, number * log->segment_bytes + from);
		} else if (place != NULL) {
			if (size >= log->segment_bytes - *at)
				return false;
			word |= (uint64_t)LOG_CARRIED << 32;
			memmove(copy, record, (size_t)size);
			copy->topic = topic_at(*at);
			atomic_store_explicit(&copy->word, word, memory_order_relaxed);
			/* Whatever it answers: the place is in use, so only an owner that replaced this one has written there. */
			bus__log_note_kept(log, place, tag, log->begin + *at, word, tail);
			*at += size;
		}
		from += size;
	}
	return true;
}

/* The same of a segment whose memory was not claimed. */
static bool
copy_segment(struct log *log, uint64_t number, uint64_t *at, uint64_t tail)
{
	struct log_cursor source = {.log = log, .number = number};
	const uint8_t *bytes;
	uint64_t end;
	bool copied = true;

	/* Pinned, or read in a copy: a revoked owner must not read memory that others write. */
	source.segment = bus__log_pin(log, &source.pin, number, &bytes);
	if (source.segment == NULL ||
	    !life_has_ended(
		atomic_load_explicit(&source.segment->life, memory_order_acquire), &end) ||
	    end >= log->segment_bytes)
		end = 0;
	if (source.pin != 0)
		copied = copy_values(log, number, bytes, 0, end, at, tail);
	/* Without memory for a copy the values stay: memory with values is not used before they have moved. */
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
	/* No other memory was free, since several writers died half way: its values move to its beginning. */
	if (life_has_ended(log->rescue, &end) && end < log->segment_bytes)
		copy_values(log, life_number(log->rescue), log->bytes, 0, end, &at, tail);
	log->rescue = 0;
	/* Memory that is held is not used soon, and so does not count. */
	while (done < LOG_MOST_SEGMENTS && next_ended(log, number, &number, &place) &&
	       number < log->number) {
		struct log_segment *segment = &log->shared->segments[place];

		/* If the new record does not fit any more, the rest of this segment takes values: less to do next time. */
		if ((ahead >= LOG_AHEAD || done >= LOG_AHEAD) && bytes < log->segment_bytes - at)
			break;
		ahead += !bus__log_is_held(log, place, number);
		if (atomic_load_explicit(&segment->retained, memory_order_acquire) != number)
			continue;
		if (!copy_segment(log, number, &at, tail))
			break;
		copied[done++] = number;
	}
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
