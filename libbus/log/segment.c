/* log/segment.c: which memory a segment has, and how the next one gets some. */
#include "log/log.h"

#include <libbus/error.h>

#include "log/stall.h"

/* So much Linux maps for a read that finds a page missing (fault_around_bytes). */
#define MAP_STEP ((uintptr_t)65536)

/* A reader that got no pin copies so often before it asks again. */
#define REFUSED_PASSES 16

static uint8_t *
bytes_of(const struct log *log, uint32_t place)
{
	return log->segments + place * log->segment_bytes;
}

static _Atomic uint64_t *
entry_of(const struct log *log, uint64_t number)
{
	return &log->shared->directory[number % LOG_DIRECTORY];
}

/* The place that the directory has for a segment; LOG_MOST_SEGMENTS: none. */
static uint32_t
place_of(const struct log *log, uint64_t number)
{
	/* Acquire: pairs with the release in place_next(): `firsts` has its first sequence. */
	uint64_t entry = atomic_load_explicit(entry_of(log, number), memory_order_acquire);

	return entry >> 8 == number && (entry & 255) < log->segment_count ? (uint32_t)(entry & 255)
									  : LOG_MOST_SEGMENTS;
}

struct log_segment *
bus__log_find(const struct log *log, uint64_t number, uint8_t **ret_bytes)
{
	uint32_t place = place_of(log, number);
	struct log_segment *segment;
	uint64_t life;

	if (place == LOG_MOST_SEGMENTS)
		return NULL;
	segment = &log->shared->segments[place];
	life = atomic_load_explicit(&segment->life, memory_order_acquire);
	if (life_number(life) != number || life_is_claimed(life))
		return NULL;
	*ret_bytes = bytes_of(log, place);
	return segment;
}

static uint64_t
place_bit(uint32_t place)
{
	return UINT64_C(1) << place;
}

/* The places that this process reads in. The pins lock is held, so they do not change. */
static uint64_t
places_of(const struct log *log)
{
	return atomic_load_explicit(
	    &log->shared->pins[pins_of(log->member)].places, memory_order_relaxed);
}

/* Release: what was read there, under the pins lock or before, was read before a writer finds it free. Pins lock. */
static void
clear_pin(struct log *log, uint32_t place)
{
	atomic_store_explicit(&log->shared->pins[pins_of(log->member)].places,
	    places_of(log) & ~place_bit(place), memory_order_release);
}

/* Lets go of a place. Pins lock. */
static void
unpin(struct log *log, uint32_t place)
{
	if (--log->pinned[place] == 0)
		clear_pin(log, place);
}

void
bus__log_unpin(struct log *log, uint32_t *pin)
{
	if (*pin == 0)
		return;
	pthread_mutex_lock(&log->pins_lock);
	unpin(log, *pin - 1);
	pthread_mutex_unlock(&log->pins_lock);
	*pin = 0;
}

/* Whether a writer that lost the tail there may still write into it. */
static bool
is_written(const struct log *log, const struct log_segment *segment, uint64_t number)
{
	uint64_t seal = atomic_load_explicit(&segment->seal, memory_order_seq_cst);
	uint64_t writer = seal & SEAL_NOBODY;

	if (seal >> 10 != number || writer == 0 || writer == SEAL_NOBODY ||
	    writer == log->member + 1)
		return false;
	/* Acquire: pairs with the release of its next transaction, in another segment: its writes here have ended. */
	return atomic_load_explicit(
		   &log->shared->members[writer - 1].appended, memory_order_acquire) <= number &&
	       bus__log_is_alive(log, (uint32_t)writer - 1);
}

/* Whether a process reads in this memory. The claim comes before: pairs with bus__log_pin(). A dead member's pin does not
 * count: a process that joins in its slot pins after the claim, and finds it. */
static bool
is_pinned(const struct log *log, uint32_t place)
{
	/* One that is not below raises it, and pins, behind our claim. */
	uint32_t end = atomic_load_explicit(&log->shared->pins_end, memory_order_seq_cst);

	for (uint32_t i = 0; i < LOG_PINS && i < end; i++) {
		uint64_t places =
		    atomic_load_explicit(&log->shared->pins[i].places, memory_order_seq_cst);

		if ((places >> place & 1) != 0 && bus__log_is_alive(log, pins_member(i)))
			return true;
	}
	return false;
}

/* --- who may pin ------------------------------------------------------------------------------------------------ */

static _Atomic uint32_t *
held_of(const struct log *log, uint32_t place)
{
	return &log->shared->segments[place].held;
}

/* The places that readers ask for, may pin, or have pinned: in this order. */
static uint64_t
places_held(const struct log *log)
{
	uint64_t held = 0, pinned = 0, places;
	uint32_t end = atomic_load_explicit(&log->shared->pins_end, memory_order_seq_cst);

	for (uint32_t i = 0; i < log->segment_count; i++)
		if (atomic_load_explicit(held_of(log, i), memory_order_seq_cst) != HELD_NO)
			held |= place_bit(i);
	for (uint32_t i = 0; i < LOG_PINS && i < end; i++)
		pinned |= atomic_load_explicit(&log->shared->pins[i].places, memory_order_seq_cst);
	places = pinned & ~held;
	for (uint32_t i = 0; i < log->segment_count; i++)
		if ((places >> i & 1) != 0 && is_pinned(log, i))
			held |= place_bit(i);
	return held;
}

/* Whether what readers hold leaves enough: three quarters of the places, and beside those of stopped writers two, for
 * the tail and the next one. */
static bool
is_enough_left(const struct log *log)
{
	uint64_t held = places_held(log);
	uint32_t count = (uint32_t)__builtin_popcountll(held), written = 0;

	if (count > bus__log_most_pinned(log))
		return false;
	for (uint32_t i = 0; i < log->segment_count; i++) {
		const struct log_segment *segment = &log->shared->segments[i];
		uint64_t life = atomic_load_explicit(&segment->life, memory_order_relaxed);

		if ((held >> i & 1) == 0)
			written += is_written(log, segment, life_number(life));
	}
	return count + written + 2 <= log->segment_count;
}

/* Frees the admitted places without a pin. */
static void
free_held(struct log *log, uint32_t but, uint32_t tail)
{
	for (uint32_t i = 0; i < log->segment_count; i++) {
		uint32_t seen = atomic_load_explicit(held_of(log, i), memory_order_seq_cst);

		if (seen != HELD_NO && i != but && i != tail && !is_pinned(log, i))
			atomic_compare_exchange_strong_explicit(held_of(log, i), &seen, HELD_NO,
			    memory_order_seq_cst, memory_order_relaxed);
	}
}

/* Whether readers may pin a place. The pin is stored first: either a process that counts the places sees it, or we see that process's request. */
static bool
admit(struct log *log, uint32_t place, uint32_t tail)
{
	_Atomic uint32_t *held = held_of(log, place);
	uint32_t seen = atomic_load_explicit(held, memory_order_seq_cst);
	uint32_t mine = HELD_ASKED + log->member;
	bool is_admitted;

	if (seen == HELD_YES)
		return true;
	if (seen != HELD_NO && bus__log_is_alive(log, seen - HELD_ASKED))
		return false;
	if (!atomic_compare_exchange_strong_explicit(
		held, &seen, mine, memory_order_seq_cst, memory_order_seq_cst))
		return seen == HELD_YES;
	bus__log_stall(LOG_STALL_ASKED);
	is_admitted = is_enough_left(log);
	if (!is_admitted) {
		free_held(log, place, tail);
		is_admitted = is_enough_left(log);
	}
	/* No other process changes it now: a pinned place is not freed. */
	return atomic_compare_exchange_strong_explicit(held, &mine,
		   is_admitted ? HELD_YES : HELD_NO, memory_order_seq_cst, memory_order_relaxed) &&
	       is_admitted;
}

/* Whether a process may hold one place more. Half of what all may hold, besides the tail's place, leaves some to others. */
static bool
has_share(const struct log *log, uint32_t place, uint32_t tail)
{
	uint32_t most = bus__log_most_pinned(log) / 2, count;
	uint64_t others = places_of(log) & ~place_bit(place);

	if (tail < LOG_MOST_SEGMENTS)
		others &= ~place_bit(tail);
	count = (uint32_t)__builtin_popcountll(others);
	return count < (most > 0 ? most : 1) + (place == tail);
}

/* Pins a place for the first of this process's cursors there. Pins lock. */
static bool
pin_first(struct log *log, uint32_t place, uint64_t number)
{
	uint32_t tail = place_of(log, bus__log_tail(log) / log->segment_bytes);

	if (!has_share(log, place, tail))
		return false;
	/* Counting reads all pins: a refused reader asks rarely, unless another was admitted. */
	if (log->refused[place].number == number && log->refused[place].passes > 0 &&
	    atomic_load_explicit(held_of(log, place), memory_order_relaxed) != HELD_YES) {
		log->refused[place].passes--;
		return false;
	}
	atomic_store_explicit(&log->shared->pins[pins_of(log->member)].places,
	    places_of(log) | place_bit(place), memory_order_seq_cst);
	if (admit(log, place, tail))
		return true;
	clear_pin(log, place);
	log->refused[place].number = number;
	log->refused[place].passes = REFUSED_PASSES;
	return false;
}

struct log_segment *
bus__log_pin(struct log *log, uint32_t *pin, uint64_t number, const uint8_t **ret_bytes)
{
	uint32_t place = place_of(log, number);
	struct log_segment *segment;
	uint64_t life;

	if (place == LOG_MOST_SEGMENTS) {
		bus__log_unpin(log, pin);
		return NULL;
	}
	segment = &log->shared->segments[place];
	/* Pin first, then look; a writer claims first, and then looks at the pins. One of the two sees the other. For the
	 * second cursor in a place the first has stored the pin, before this lock. */
	pthread_mutex_lock(&log->pins_lock);
	if (*pin != 0)
		unpin(log, *pin - 1);
	*pin = 0;
	if (log->pinned[place] > 0 || pin_first(log, place, number)) {
		log->pinned[place]++;
		*pin = place + 1;
	}
	pthread_mutex_unlock(&log->pins_lock);
	bus__log_stall(LOG_STALL_PIN);
	life = atomic_load_explicit(&segment->life, memory_order_seq_cst);
	if (life_number(life) != number || life_is_claimed(life)) {
		bus__log_unpin(log, pin);
		return NULL;
	}
	*ret_bytes = bytes_of(log, place);
	return segment;
}

bool
bus__log_was_there(struct log_segment *segment, uint64_t number)
{
	uint64_t life = atomic_load_explicit(&segment->life, memory_order_relaxed);

	do {
		if (life_number(life) != number || life_is_claimed(life))
			return false;
		/* Release: what was read before this was read before a claimer, which acquires the word, writes there. A load,
		 * and a fence before it, would say as much only with a fence behind each claim. */
	} while (!atomic_compare_exchange_weak_explicit(
	    &segment->life, &life, life, memory_order_acq_rel, memory_order_relaxed));
	return true;
}

bool
bus__log_first(const struct log *log, uint64_t number, uint64_t *ret_sequence)
{
	uint64_t word = atomic_load_explicit(
	    &log->shared->firsts[number % LOG_DIRECTORY], memory_order_acquire);

	*ret_sequence = word & SEQUENCE_MASK;
	return word >> 48 == (number & 0xffff);
}

int64_t
bus__log_count(const uint8_t *bytes, uint64_t end)
{
	int64_t count = 0;
	uint64_t at = 0;

	while (at < end) {
		const struct log_record *record = (const struct log_record *)(bytes + at);
		uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
		uint64_t size = record_bytes(word);

		if (size < sizeof *record || size % 8 != 0 || size > end - at)
			return BUS_E_DAMAGED;
		at += size;
		count += !record_is_carried(word);
	}
	return count;
}

void
bus__log_map(struct log *log, uint64_t at, uint64_t end)
{
	uintptr_t begin = (uintptr_t)log->bytes, border;
	uint64_t from = at > log->mapped ? at : log->mapped;

	do {
		border = ((begin + (uintptr_t)from) | (MAP_STEP - 1)) + 1;
		(void)*(volatile uint8_t *)(log->bytes + from);
		from = border - begin;
	} while (from <= end && from < log->segment_bytes);
	log->mapped = from < log->segment_bytes ? from : log->segment_bytes;
	log->mapped_of[log->segment - log->shared->segments] = log->mapped;
}

enum log_fate
bus__log_fate(const struct log *log, uint64_t number)
{
	uint32_t place = place_of(log, number);
	uint64_t life;

	if (place == LOG_MOST_SEGMENTS)
		return LOG_GONE;
	life = atomic_load_explicit(&log->shared->segments[place].life, memory_order_acquire);
	if (life_number(life) == number && !life_is_claimed(life))
		return LOG_BACK;
	/* The new segment's first publish shows the moved values. */
	return life_number(life) > number &&
		       (life_is_claimed(life) ||
			   bus__log_tail(log) <= life_number(life) * log->segment_bytes)
		   ? LOG_MOVING
		   : LOG_GONE;
}

/* --- memory for the next one ----------------------------------------------------------------------------------- */

bool
bus__log_is_held(struct log *log, uint32_t place, uint64_t number)
{
	return is_written(log, &log->shared->segments[place], number) || is_pinned(log, place);
}

/* Whether it may have values that are not copied yet. */
static bool
has_values(const struct log_segment *segment, uint64_t life)
{
	uint64_t number = atomic_load_explicit(&segment->retained, memory_order_acquire);

	return number != 0 && number == life_number(life) && !life_is_claimed(life);
}

/* Whether the memory may be claimed as far as its own word says. */
static bool
is_over(const struct log *log, uint32_t place, uint64_t life, uint64_t current)
{
	uint64_t end, member = (life & LIFE_MASK) - LIFE_CLAIM;

	if (!life_is_claimed(life))
		return life_has_ended(life, &end) && life_number(life) < current;
	/* In this order: it may have given the place to the directory as the last thing that it did. */
	return member < LOG_MEMBERS && !bus__log_is_alive(log, (uint32_t)member) &&
	       place_of(log, life_number(life)) != place;
}

static void
give_back(struct log *log, uint32_t place, uint64_t claim, uint64_t before)
{
	/* The number before a dead process's claim is unknown. The memory then has no number, and its readers
	 * detect later than usual that the segment is gone. */
	atomic_compare_exchange_strong_explicit(&log->shared->segments[place].life, &claim,
	    life_is_claimed(before) ? 0 : before, memory_order_release, memory_order_relaxed);
}

/* Claims the oldest unused memory for segment `next`; memory with values only if the caller allows it. LOG_MOST_SEGMENTS:
 * there is none. */
static uint32_t
claim_oldest(struct log *log, uint64_t next, bool values_too, uint64_t *ret_before)
{
	uint64_t refused = 0; /* places that were tried */

	for (;;) {
		uint32_t place = LOG_MOST_SEGMENTS;
		uint64_t oldest = UINT64_MAX, claim = life_word(next, LIFE_CLAIM + log->member);
		struct log_segment *segment;
		bool moves;

		for (uint32_t i = 0; i < log->segment_count; i++) {
			uint64_t life = atomic_load_explicit(
			    &log->shared->segments[i].life, memory_order_acquire);

			/* A claim that came to nothing has nothing to lose: it goes first. */
			if (!(refused >> i & 1) && is_over(log, i, life, next - 1) &&
			    (life_is_claimed(life) ? 0 : life) < oldest) {
				oldest = life_is_claimed(life) ? 0 : life;
				*ret_before = life;
				place = i;
			}
		}
		if (place == LOG_MOST_SEGMENTS)
			return place;
		refused |= UINT64_C(1) << place;
		segment = &log->shared->segments[place];
		moves = has_values(segment, *ret_before);
		/* A claim hides values from readers: skip memory that a reader holds anyway. */
		if ((moves && (!values_too || is_pinned(log, place))) ||
		    is_written(log, segment, life_number(*ret_before)))
			continue;
		if (moves)
			bus__log_stall(LOG_STALL_MOVES);
		if (atomic_compare_exchange_strong_explicit(&segment->life, ret_before, claim,
			memory_order_seq_cst, memory_order_relaxed)) {
			if (!is_pinned(log, place))
				return place;
			give_back(log, place, claim, *ret_before);
		}
		if (moves)
			bus__log_stall(LOG_STALL_UNMOVED);
	}
}

/* Opens the segment that the directory names, whichever process claimed it. */
static void
open_next(struct log *log, uint64_t next)
{
	uint32_t place = place_of(log, next);
	struct log_segment *segment;
	uint64_t life;

	if (place == LOG_MOST_SEGMENTS)
		return;
	segment = &log->shared->segments[place];
	life = atomic_load_explicit(&segment->life, memory_order_acquire);
	if (life_number(life) == next && life_is_claimed(life))
		atomic_compare_exchange_strong_explicit(&segment->life, &life,
		    life_word(next, LIFE_OPEN), memory_order_release, memory_order_relaxed);
}

/* Gives back a claim that this writer does not use. */
static void
drop_claim(struct log *log, uint32_t place, uint64_t claim, uint64_t before)
{
	give_back(log, place, claim, before);
	if (log->rescue != 0)
		bus__log_stall(LOG_STALL_UNMOVED);
	log->rescue = 0;
}

static bool
end_segment(struct log *log, uint64_t number, uint64_t end)
{
	uint8_t *bytes;
	struct log_segment *segment = bus__log_find(log, number, &bytes);
	uint64_t open = life_word(number, LIFE_OPEN), ended = life_word(number, end / 8);

	/* Release: a reader that finds the end here finds the records before it. It has one for good. */
	return segment != NULL && (atomic_compare_exchange_strong_explicit(&segment->life, &open,
				       ended, memory_order_release, memory_order_relaxed) ||
				      open == ended);
}

static void
note_first(struct log *log, uint64_t number, uint64_t sequence)
{
	_Atomic uint64_t *first = &log->shared->firsts[number % LOG_DIRECTORY];
	uint64_t seen = atomic_load_explicit(first, memory_order_acquire);

	/* Unless it stands there already, or we come so late that a newer one does. */
	if ((uint16_t)(number - (seen >> 48)) - 1u < 0x7fff)
		atomic_compare_exchange_strong_explicit(first, &seen, first_word(number, sequence),
		    memory_order_release, memory_order_relaxed);
}

int
bus__log_prepare_next(struct log *log, uint64_t number, uint64_t end, uint64_t sequence)
{
	uint64_t next = number + 1, claim = life_word(next, LIFE_CLAIM + log->member), before;
	_Atomic uint64_t *entry = entry_of(log, next);
	uint64_t seen = atomic_load_explicit(entry, memory_order_acquire);
	uint32_t place = LOG_MOST_SEGMENTS;

	log->rescue = 0;
	/* First what may fail: as long as a segment has no end, its tail may go on in it. */
	if (seen >> 8 < next) {
		place = claim_oldest(log, next, false, &before);
		if (place == LOG_MOST_SEGMENTS) {
			place = claim_oldest(log, next, true, &before);
			log->rescue = place != LOG_MOST_SEGMENTS ? before : 0;
		}
		/* Unless another has given it a place since, and died. */
		if (place == LOG_MOST_SEGMENTS && place_of(log, next) == LOG_MOST_SEGMENTS)
			return BUS_E_FULL;
		bus__log_stall(LOG_STALL_CLAIMED);
	}
	if (!end_segment(log, number, end)) {
		if (place != LOG_MOST_SEGMENTS)
			drop_claim(log, place, claim, before);
		return BUS_E_DAMAGED;
	}
	bus__log_stall(LOG_STALL_ENDED);
	note_first(log, next, sequence);
	/* Release: a process that finds the segment here also finds its first sequence. */
	if (place != LOG_MOST_SEGMENTS &&
	    !atomic_compare_exchange_strong_explicit(
		entry, &seen, next << 8 | place, memory_order_release, memory_order_relaxed)) {
		/* Another has chosen for us: we took ourselves for the owner too long. */
		drop_claim(log, place, claim, before);
	}
	bus__log_stall(LOG_STALL_DIRECTORY);
	open_next(log, next);
	bus__log_stall(LOG_STALL_ROLL);
	return 0;
}

void
bus__log_recover(struct log *log, uint32_t member)
{
	uint32_t end;

	/* Its claims anybody takes over; its seals must not wait for a member that has his slot now. */
	for (uint32_t i = 0; i < log->segment_count; i++) {
		struct log_segment *segment = &log->shared->segments[i];
		uint64_t seal = atomic_load_explicit(&segment->seal, memory_order_acquire);
		uint64_t life = atomic_load_explicit(&segment->life, memory_order_acquire);

		if (atomic_load_explicit(&segment->held, memory_order_relaxed) ==
		    HELD_ASKED + member)
			atomic_store_explicit(&segment->held, HELD_NO, memory_order_seq_cst);
		if ((seal & SEAL_NOBODY) == member + 1)
			atomic_compare_exchange_strong_explicit(&segment->seal, &seal,
			    seal | SEAL_NOBODY, memory_order_seq_cst, memory_order_relaxed);
		if (life_is_claimed(life) && (life & LIFE_MASK) - LIFE_CLAIM == member &&
		    place_of(log, life_number(life)) != i)
			atomic_compare_exchange_strong_explicit(
			    &segment->life, &life, 0, memory_order_release, memory_order_relaxed);
	}
	/* The slot is ours while we hold its lock, so no other process pins with it. */
	atomic_store_explicit(&log->shared->pins[pins_of(member)].places, 0, memory_order_release);
	atomic_store_explicit(&log->shared->pins[pins_of(member)].reads, 0, memory_order_relaxed);
	end = atomic_load_explicit(&log->shared->pins_end, memory_order_relaxed);
	while (end <= pins_of(member) &&
	       !atomic_compare_exchange_weak_explicit(&log->shared->pins_end, &end,
		   pins_of(member) + 1, memory_order_seq_cst, memory_order_relaxed))
		;
}
