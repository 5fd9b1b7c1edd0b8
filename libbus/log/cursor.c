/* log/cursor.c: reading the log: in place, or, where readers hold as many places as they may, in a copy. */
#include "log/log.h"

#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/park.h"

#define AWAIT_MOST_NS INT64_C(250000000) /* a writer may die between its publish and the wake-up */
#define MOST_TRIES    100

static uint64_t
begin_of(const struct log_cursor *c, uint64_t number)
{
	return number * c->log->segment_bytes;
}

/* --- copies ----------------------------------------------------------------------------------------------------- */

static void
drop_copy(struct log_cursor *c)
{
	if (c->copy == NULL)
		return;
	bus__free(c->copy);
	c->copy = NULL;
	c->copy_cap = 0;
}

static int
make_copy(struct log_cursor *c, uint64_t bytes)
{
	size_t cap = bytes > LOG_COPY_BYTES ? (size_t)bytes : LOG_COPY_BYTES;

	/* A larger record has a copy of its own size, which is not kept. */
	if (c->copy_cap == cap)
		return 0;
	drop_copy(c);
	c->copy = bus__malloc(cap + LOG_COPY_ROOM);
	if (c->copy == NULL)
		return BUS_E_NOMEM;
	c->copy_cap = cap;
	return 0;
}

/* How many bytes of a copy whole records take. */
static uint64_t
whole_records(const uint8_t *copy, uint64_t bytes)
{
	uint64_t at = 0;

	while (bytes - at >= sizeof(struct log_record)) {
		uint64_t size = record_bytes(atomic_load_explicit(
		    &((const struct log_record *)(copy + at))->word, memory_order_relaxed));

		if (size < sizeof(struct log_record) || size % 8 != 0 || size > bytes - at)
			break;
		at += size;
	}
	return at;
}

int
bus__log_copy_part(struct log_cursor *c, const uint8_t *segment, uint64_t end)
{
	uint64_t most = end - c->at, bytes = most < LOG_COPY_BYTES ? most : LOG_COPY_BYTES, whole;

	for (;;) {
		int err = make_copy(c, bytes);
		uint64_t size;

		if (err < 0)
			return err;
		bus__log_copy(c->copy, segment + c->at, bytes);
		if (!bus__log_was_there(c->segment, c->number))
			return 0;
		whole = whole_records(c->copy, bytes);
		if (whole > 0 || bytes == most)
			break;
		size = record_bytes(atomic_load_explicit(
		    &((const struct log_record *)c->copy)->word, memory_order_relaxed));
		if (size <= bytes || size > most || size % 8 != 0)
			break; /* not what a writer leaves: bus__log_next() finds that out */
		bytes = size;
	}
	c->bytes = (const uint8_t *)((uintptr_t)c->copy - (uintptr_t)c->at);
	c->limit = c->at + (whole > 0 ? whole : bytes);
	return 1;
}

const uint8_t *
bus__log_copy_before(struct log_cursor *c, uint64_t at, uint64_t bytes, uint64_t room)
{
	const struct log *log = c->log;
	const uint8_t *segment =
	    log->segments + (uint64_t)(c->segment - log->shared->segments) * log->segment_bytes;
	uint8_t *to = c->copy + c->copy_cap + room;

	bus__log_copy(to, segment + at, bytes);
	return bus__log_was_there(c->segment, c->number) ? to : NULL;
}

int
bus__log_copy_record(struct log_cursor *c, struct log_segment *segment, uint64_t number,
    const uint8_t *bytes, uint64_t at, const struct log_record **ret_record)
{
	uint64_t most = c->log->segment_bytes - at;
	uint64_t size = record_bytes(atomic_load_explicit(
	    &((const struct log_record *)(bytes + at))->word, memory_order_relaxed));
	int err;

	/* Its copy is used again: to choose a place for a value takes many. */
	c->segment = NULL;
	c->limit = c->at;
	if (size < sizeof(struct log_record) || size % 8 != 0 || size > most)
		return bus__log_was_there(segment, number) ? BUS_E_DAMAGED : 0;
	err = make_copy(c, size);
	if (err < 0)
		return err;
	bus__log_copy(c->copy, bytes + at, size);
	if (!bus__log_was_there(segment, number))
		return 0;
	*ret_record = (const struct log_record *)c->copy;
	return 1;
}

/* --- segments --------------------------------------------------------------------------------------------------- */

/* Goes to the beginning of a segment and holds it, or is about to copy. false: it is not there any more. */
static bool
enter(struct log_cursor *c, uint64_t number)
{
	const uint8_t *bytes;
	struct log_segment *segment = bus__log_pin(c->log, &c->pin, number, &bytes);
	uint64_t first;

	if (segment == NULL || !bus__log_first(c->log, number, &first))
		return false;
	c->lost += (first - c->sequence) & SEQUENCE_MASK;
	c->number = number;
	c->segment = segment;
	c->bytes = bytes;
	c->at = c->limit = 0;
	c->sequence = first;
	return true;
}

/* Moves to the oldest present segment from `number` on. false: there is none, so the log is damaged. */
static bool
enter_oldest(struct log_cursor *c, uint64_t number)
{
	/* While it looks, they may all go by: but not often. */
	for (unsigned tries = 0; tries < MOST_TRIES; tries++) {
		uint64_t word = atomic_load_explicit(&c->log->shared->tail, memory_order_acquire);
		uint64_t last = tail_position(word) / c->log->segment_bytes;

		if (last < number)
			return false;
		if (last - number >= LOG_MOST_SEGMENTS)
			number = last - LOG_MOST_SEGMENTS + 1;
		for (; number <= last; number++)
			if (enter(c, number))
				return true;
	}
	return false;
}

/* Holds the released segment again, or the oldest one if it is gone. */
static bool
hold_again(struct log_cursor *c)
{
	const uint8_t *bytes;
	struct log_segment *segment = bus__log_pin(c->log, &c->pin, c->number, &bytes);

	if (segment == NULL)
		return enter_oldest(c, c->number + 1);
	c->segment = segment;
	c->bytes = bytes;
	return true;
}

/* Finds the end of the readable part of the cursor's segment. false: it is at the cursor. */
static bool
find_end(const struct log_cursor *c, uint64_t *ret_end, bool *ret_has_tail)
{
	uint64_t word = atomic_load_explicit(&c->log->shared->tail, memory_order_acquire);
	uint64_t ahead = tail_position(word) - begin_of(c, c->number), life;

	*ret_has_tail = ahead < c->log->segment_bytes;
	*ret_end = ahead;
	if (*ret_has_tail)
		return ahead > c->at;
	/* The tail has left: the end was set before. */
	life = atomic_load_explicit(&c->segment->life, memory_order_acquire);
	return life_number(life) == c->number && life_has_ended(life, ret_end) &&
	       *ret_end > c->at && *ret_end < c->log->segment_bytes;
}

/* Finds more to read. */
static bool
refill(struct log_cursor *c)
{
	/* One that copies asks each time whether it may hold the segment by now. */
	if (c->pin == 0 && !hold_again(c))
		return false;
	for (;;) {
		uint64_t end;
		bool has_tail, found = find_end(c, &end, &has_tail);
		int copied;

		if (!found && has_tail)
			return false;
		if (!found) {
			if (!enter(c, c->number + 1) && !enter_oldest(c, c->number + 1))
				return false;
			continue;
		}
		if (c->pin != 0) {
			drop_copy(c);
			c->limit = end;
			return true;
		}
		copied = bus__log_copy_part(c, c->bytes, end);
		if (copied != 0)
			return copied > 0; /* without memory it tries again, or is lapped */
		if (!enter_oldest(c, c->number + 1))
			return false;
	}
}

const struct log_record *
bus__log_next(struct log_cursor *c)
{
	for (;;) {
		const struct log_record *record;
		uint64_t bytes;

		if (c->at >= c->limit && !refill(c))
			return NULL;
		record = (const struct log_record *)(c->bytes + c->at);
		c->word = atomic_load_explicit(&record->word, memory_order_relaxed);
		bytes = record_bytes(c->word);
		if (bytes >= sizeof *record && bytes % 8 == 0 && bytes <= c->limit - c->at) {
			c->at += bytes;
			if (record_is_carried(c->word))
				continue;
			c->sequence++;
			return record;
		}
		/* No writer leaves this in pinned memory, and the next record cannot be found. */
		if (c->pin != 0)
			bus__log_break(c->log);
		c->at = c->limit;
		if (!enter_oldest(c, c->number + 1))
			return NULL;
	}
}

uint64_t
bus__log_lost(struct log_cursor *c)
{
	uint64_t lost = c->lost;

	c->lost = 0;
	return lost;
}

void
bus__log_unread(struct log_cursor *c)
{
	c->at -= record_bytes(c->word);
	c->sequence--;
}

void
bus__log_let_go(struct log_cursor *c)
{
	bus__log_unpin(c->log, &c->pin);
	drop_copy(c);
	c->segment = NULL;
	c->limit = c->at;
}

uint64_t
bus__log_position(const struct log_cursor *c)
{
	return begin_of(c, c->number) + c->at;
}

/* --- sleeping -------------------------------------------------------------------------------------------------- */

bool
bus__log_ask(struct log *log, uint64_t position)
{
	struct log_shared *shared = log->shared;
	uint64_t word = atomic_load_explicit(&shared->tail, memory_order_acquire);

	do {
		if (tail_position(word) != position)
			return false;
	} while (!(word & TAIL_SLEEPERS) &&
		 !atomic_compare_exchange_weak_explicit(&shared->tail, &word, word | TAIL_SLEEPERS,
		     memory_order_acq_rel, memory_order_acquire));
	return true;
}

int
bus__log_sleep(struct log *log, uint32_t seen, int64_t deadline_ns)
{
	int64_t most_ns = bus__now_ns() + AWAIT_MOST_NS;

	if (deadline_ns <= most_ns)
		return bus__park_shared(&log->shared->news, seen, deadline_ns);
	return bus__park_shared(&log->shared->news, seen, most_ns) == BUS__INTERRUPTED
		   ? BUS__INTERRUPTED
		   : 0;
}

void
bus__log_await(struct log_cursor *c, int64_t deadline_ns)
{
	uint32_t seen = bus__log_news(c->log);

	if (bus__log_ask(c->log, bus__log_position(c)))
		bus__log_sleep(c->log, seen, deadline_ns);
}

void
bus__log_call(struct log *log)
{
	atomic_fetch_add_explicit(&log->shared->news, 1, memory_order_release);
	bus__unpark_shared(&log->shared->news);
}

/* --- beginning and end ----------------------------------------------------------------------------------------- */

/* Counts the cursors of this process; the log says whether there are some. */
static void
count_cursor(struct log *log, bool opens)
{
	pthread_mutex_lock(&log->pins_lock);
	log->cursors += opens ? 1 : UINT32_MAX;
	if (log->cursors == (opens ? 1 : 0))
		atomic_store_explicit(
		    &log->shared->pins[pins_of(log->member)].reads, opens, memory_order_relaxed);
	pthread_mutex_unlock(&log->pins_lock);
}

/* Goes to the tail. */
static bool
enter_tail(struct log_cursor *c)
{
	for (unsigned tries = 0; tries < MOST_TRIES; tries++) {
		uint64_t word = atomic_load_explicit(&c->log->shared->tail, memory_order_acquire);
		uint64_t number = tail_position(word) / c->log->segment_bytes;
		uint64_t at = tail_position(word) - number * c->log->segment_bytes, noted;
		int64_t count;

		if (!enter_oldest(c, number))
			return false;
		if (c->number != number)
			continue; /* it has gone by already */
		noted = atomic_load_explicit(&c->segment->count, memory_order_relaxed);
		/* Another one's note: then by ourselves. */
		count = noted >> 32 == (uint32_t)(tail_position(word) >> 3)
			    ? (int64_t)(uint32_t)noted
			    : bus__log_count(c->bytes, at);
		if (c->pin == 0 && !bus__log_was_there(c->segment, number))
			continue;
		if (count < 0)
			return false;
		c->at = c->limit = at;
		c->sequence += (uint64_t)count;
		return true;
	}
	return false;
}

/* Goes to the record with that sequence: into its segment, and from there one by one. */
static bool
enter_sequence(struct log_cursor *c, uint64_t sequence)
{
	uint64_t word = atomic_load_explicit(&c->log->shared->tail, memory_order_acquire);
	uint64_t last = tail_position(word) / c->log->segment_bytes;
	uint64_t number = last < LOG_MOST_SEGMENTS ? 1 : last - LOG_MOST_SEGMENTS + 1;
	uint64_t start = number, first;

	for (; number <= last; number++)
		if (bus__log_first(c->log, number, &first) && first <= sequence)
			start = number;
	c->sequence = sequence;
	if (!enter_oldest(c, start))
		return false;
	if (c->sequence > sequence)
		return true; /* it is gone, and enter() has counted the missing records */
	c->lost = 0;
	while (c->sequence < sequence && bus__log_next(c) != NULL)
		;
	return true;
}

int
bus__log_seek(struct log_cursor *c, enum log_from from, uint64_t sequence)
{
	bool there;

	if (from == LOG_FROM_SEQUENCE)
		return enter_sequence(c, sequence) ? 0 : BUS_E_DAMAGED;
	there = from == LOG_FROM_NOW ? enter_tail(c) : enter_oldest(c, 1);
	c->lost = 0;
	return there ? 0 : BUS_E_DAMAGED;
}

int
bus__log_cursor_open(
    struct log *log, enum log_from from, uint64_t sequence, struct log_cursor *ret_cursor)
{
	struct log_cursor c = {.log = log};
	int err = bus__log_is_damaged(log) ? BUS_E_DAMAGED : bus__log_seek(&c, from, sequence);

	if (err < 0) {
		bus__log_let_go(&c);
		return err;
	}
	count_cursor(log, true);
	*ret_cursor = c;
	return 0;
}

void
bus__log_cursor_close(struct log_cursor *c)
{
	bus__log_let_go(c);
	count_cursor(c->log, false);
}

struct log_cursor
bus__log_cursor_at(const struct log_cursor *c)
{
	return (struct log_cursor){.log = c->log,
	    .number = c->number,
	    .at = c->at,
	    .limit = c->at,
	    .sequence = c->sequence};
}

/* --- records ---------------------------------------------------------------------------------------------------- */

bool
bus__log_read(uint64_t word, const struct log_record *record, struct log_view *ret_view)
{
	static const uint16_t announced[] = {LOG_EXPIRES, LOG_HEADERS, LOG_REPLY};
	const uint8_t *at = (const uint8_t *)(record + 1);
	uint64_t left = record_bytes(word) - sizeof *record, padding = word >> 56;
	uint16_t flags = (uint16_t)(word >> 32);
	uint64_t words[3] = {0}, name = 0;

	for (int i = 0; i < 3; i++)
		if (flags & announced[i]) {
			if (left < sizeof words[i])
				return false;
			memcpy(&words[i], at, sizeof words[i]);
			at += sizeof words[i];
			left -= sizeof words[i];
		}
	if (flags & LOG_MORE_WORDS) {
		uint64_t more = 8 * (uint64_t)record_words(flags & LOG_MORE_WORDS);

		if (left < more)
			return false;
		at += more;
		left -= more;
		if (flags & LOG_NAMED) /* its word is the last */
			memcpy(&name, at - sizeof name, sizeof name);
	}
	if (padding > 7 || padding > left || name > BUS_LIMIT_TOPIC_BYTES ||
	    name > left - padding || words[1] > left - padding - name)
		return false;
	*ret_view = (struct log_view){
	    .data = at,
	    .len = (uint32_t)(left - padding - name - words[1]),
	    .headers_len = (uint32_t)words[1],
	    .name_len = (uint32_t)name,
	    .topic = record->topic,
	    .origin = record->origin,
	    .flags = flags,
	    .type = (uint8_t)(word >> 48),
	    .time_ns = record->time_ns,
	    .expires_ns = (int64_t)words[0],
	    .reply = words[2],
	};
	if (words[1] > 0)
		ret_view->headers = at + ret_view->len;
	if (name > 0)
		ret_view->name = (const char *)at + ret_view->len + words[1];
	return true;
}
