/* log/summary.c: what people want to know of a log. */
#include "log/summary.h"

#include <libbus/error.h>

#define LOOK_MOST 65536 /* records */

static int
sequence_at(struct log *log, enum log_from from, uint64_t *ret_sequence)
{
	struct log_cursor cursor;
	int err = bus__log_cursor_open(log, from, 0, &cursor);

	if (err < 0)
		return err;
	*ret_sequence = cursor.sequence;
	bus__log_cursor_close(&cursor);
	return 0;
}

int
bus__log_next_sequence(struct log *log, uint64_t *ret_next)
{
	return sequence_at(log, LOG_FROM_NOW, ret_next);
}

/* Counts the present records: between the held ones and the rest, some may be gone. */
static uint64_t
count_there(struct log *log, uint64_t next)
{
	uint64_t last = bus__log_tail(log) / log->segment_bytes, there = 0, first, end;
	uint64_t number = last < LOG_MOST_SEGMENTS ? 1 : last - LOG_MOST_SEGMENTS + 1;
	uint8_t *bytes;

	for (; number <= last; number++) {
		if (bus__log_find(log, number, &bytes) == NULL ||
		    !bus__log_first(log, number, &first))
			continue;
		if (number == last || !bus__log_first(log, number + 1, &end))
			end = next;
		there += end > first ? end - first : 0;
	}
	return there;
}

int
bus__log_summary(struct log *log, struct log_summary *ret_summary)
{
	struct log_summary s = {.bytes = log->map_bytes, .segments = log->segment_count};
	int err = sequence_at(log, LOG_FROM_OLDEST, &s.oldest);

	if (err == 0)
		err = bus__log_next_sequence(log, &s.next);
	if (err < 0)
		return err;
	s.there = count_there(log, s.next);
	for (uint32_t i = 0; i < LOG_PINS; i++)
		s.readers +=
		    atomic_load_explicit(&log->shared->pins[i].reads, memory_order_relaxed);
	for (uint32_t i = 0; i < LOG_MEMBERS; i++)
		s.members +=
		    atomic_load_explicit(&log->shared->members[i].pid, memory_order_relaxed) != 0;
	s.kept_count = bus__log_kept_count(log);
	s.kept_count_most = bus__log_kept_count_most(log);
	s.kept_bytes = bus__log_kept_bytes(log);
	s.kept_most = bus__log_kept_most(log);
	*ret_summary = s;
	return 0;
}

/* Whether a record tells of the bus itself. */
static bool
is_own(struct log_cursor *c, const struct log_record *record)
{
	uint32_t len;
	const char *name = bus__log_name(c, record, &len);

	return name != NULL && name[0] == '$';
}

/* How many of the next records tell of the bus itself. Of many the first are looked at. */
static uint64_t
count_own(struct log_cursor *c, uint64_t count)
{
	const struct log_record *record;
	uint64_t own = 0;

	for (unsigned i = 0; i < LOOK_MOST && i < count && (record = bus__log_next(c)) != NULL; i++)
		own += is_own(c, record);
	return own < count ? own : count;
}

int
bus__log_behind(struct log *log, uint64_t position, uint64_t *ret_count, bool *ret_gone)
{
	uint64_t number = position / log->segment_bytes, next, tail, first;
	struct log_cursor c;
	int err = bus__log_cursor_open(log, LOG_FROM_NOW, 0, &c);

	if (err < 0)
		return err;
	next = c.sequence;
	tail = bus__log_position(&c);
	bus__log_cursor_close(&c);
	*ret_count = 0;
	*ret_gone = false;
	if (position >= tail)
		return 0;
	err = bus__log_first(log, number, &first)
		  ? bus__log_cursor_open(log, LOG_FROM_SEQUENCE, first, &c)
		  : bus__log_cursor_open(log, LOG_FROM_OLDEST, 0, &c);
	if (err < 0)
		return err;
	*ret_gone = c.number > number;
	while (bus__log_position(&c) < position && bus__log_next(&c) != NULL)
		;
	*ret_count = next > c.sequence ? next - c.sequence : 0;
	*ret_count -= count_own(&c, *ret_count);
	bus__log_cursor_close(&c);
	return 0;
}

uint32_t
bus__log_pid(const struct log *log, uint32_t member)
{
	return atomic_load_explicit(&log->shared->members[member].pid, memory_order_relaxed);
}
