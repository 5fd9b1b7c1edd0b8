/* log/append.c: appends records: the transaction, and the short way that nearly all records take. tail.h says how writers share the tail;
 * append_value.c appends retained records. */
#include "log/append.h"

#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "log/stall.h"
#include "log/tail.h"
#include "log/turn.h"

int
bus__log_begin_append(struct log *log, const struct log_item *item, struct log **writer)
{
	int err = 0;

	if (*writer == NULL && !bus__log_enter(log, writer))
		err = bus__log_enter_slowly(log, item->until_ns, writer);
	if (err == 0)
		(*writer)->until_ns = item->until_ns;
	return err;
}

int
bus__log_end_append(struct log *writer, int err)
{
	if (err == BUS_E_DAMAGED)
		bus__log_break(writer);
	bus__log_leave(writer);
	return err;
}

/* --- the transaction ----------------------------------------------------------------------------------------------- */

/* The bytes of a whole record. */
static inline uint64_t
record_size(const struct log_item *item, const struct bus_slice *payload, bool names)
{
	uint64_t bytes = sizeof(struct log_record) + payload->len + item->headers_len;

	if (item->flags & (LOG_WORDS | LOG_PASSED))
		bytes += 8 * (uint64_t)record_words(item->flags & (LOG_WORDS | LOG_PASSED));
	if (names)
		bytes += sizeof(uint64_t) + item->topic->len;
	return (bytes + 7) & ~UINT64_C(7);
}

static void
write_record(uint8_t *to, uint32_t topic, const struct log_item *item,
    const struct bus_slice *payload, uint64_t bytes, int64_t time_ns)
{
	uint8_t *at = to + sizeof(struct log_record);

	if (item->flags & (LOG_WORDS | LOG_PASSED))
		at = bus__log_write_words(at, item);
	if (item->flags & LOG_NAMED)
		at = bus__log_write_word(at, item->topic->len);
	bus__log_write_rest(to, at, topic, item, payload, bytes, time_ns);
}

uint32_t
bus__log_most(const struct log *log)
{
	/* Less every word that a record can have, and the longest name. The last 8 bytes of a segment are never used, so that
	 * the tail at its end is still in it. */
	return (uint32_t)(log->segment_bytes - sizeof(struct log_record) - LOG_WORDS_MOST -
			  BUS_LIMIT_TOPIC_BYTES);
}

/* Writes the records that fit; the first does. `names`: that one names the topic. Returns their number. */
static size_t
write_records(struct log *log, struct log_transaction *tx, const struct log_item *item,
    const struct bus_slice *payloads, size_t count, uint64_t bytes, bool names)
{
	int64_t time_ns = item->time_ns != 0 ? item->time_ns : bus__wall_coarse_ns();
	struct log_item first = *item;
	uint32_t topic = 0;
	size_t i = 0;

	if (names)
		topic = topic_at(tx->at);
	else if (item->topic != NULL)
		topic =
		    topic_at(atomic_load_explicit(&item->topic->named_at, memory_order_relaxed) -
			     log->begin);
	if (names)
		first.flags |= LOG_NAMED;
	for (;;) {
		write_record(log->bytes + tx->at, topic, i == 0 ? &first : item, &payloads[i],
		    bytes, time_ns);
		tx->at += bytes;
		if (i == count / 2)
			bus__log_stall(LOG_STALL_COPIED);
		if (++i == count)
			break;
		bytes = record_size(item, &payloads[i], false);
		if (bytes >= log->segment_bytes - tx->at ||
		    bus__log_is_too_big(log, item, &payloads[i]))
			break;
	}
	tx->count += (uint32_t)i;
	return i;
}

/* One transaction: the records that fit one segment, at least one. */
static int
append_some(struct log *log, const struct log_item *item, const struct bus_slice *payloads,
    size_t count, uint64_t *ret_sequence)
{
	size_t written;

	if (bus__log_is_too_big(log, item, payloads))
		return BUS_E_TOO_BIG;
	for (;;) {
		struct log_transaction tx = {.word = bus__log_lock_tail(log)};
		uint64_t bytes = 0, begin;
		bool names = false;
		int err = 0;

		if (tx.word & TAIL_BITS)
			return bus__log_tail_error(tx.word);
		bus__log_stall(LOG_STALL_LOCKED);
		if (!bus__log_locate(log, &tx))
			err = BUS_E_DAMAGED;
		/* In another segment the topic has to be named again. */
		for (begin = UINT64_MAX; err == 0 && begin != log->begin;) {
			begin = log->begin;
			names = bus__log_has_to_name(log, item);
			bytes = record_size(item, payloads, names);
			err = bus__log_make_room(log, &tx, bytes);
		}
		if (err == 0 && tx.at + bytes > log->mapped)
			bus__log_map(log, tx.at, tx.at + bytes);
		if (err < 0) {
			/* Frees the tail. If it was taken from us the error does not count. */
			if (!bus__log_move_tail(log, &tx, tail_position(tx.word), false))
				continue;
			bus__log_acknowledge(log);
			return err;
		}
		begin = log->begin + tx.at;
		*ret_sequence = (log->first + tx.count) & SEQUENCE_MASK;
		written = write_records(log, &tx, item, payloads, count, bytes, names);
		bus__log_stall(LOG_STALL_PUBLISH);
		bus__log_note_count(log, &tx);
		if (bus__log_move_tail(log, &tx, log->begin + tx.at, false)) {
			/* Only now: the records of a revoked writer do not exist. */
			if (names)
				bus__log_remember(log, item->topic, begin);
			bus__log_acknowledge(log);
			return (int)written;
		}
		bus__log_acknowledge(log);
	}
}

/* --- the short way ------------------------------------------------------------------------------------------------- */

static inline uint64_t
plain_size(size_t len)
{
	return (sizeof(struct log_record) + len + 7) & ~UINT64_C(7);
}

/* Maps more of the segment. false: `bytes` do not fit behind `at`. */
static __attribute__((noinline)) bool
map_more(struct log *log, uint64_t at, uint64_t bytes, uint64_t *ret_room)
{
	if (bytes >= log->segment_bytes - at)
		return false;
	bus__log_map(log, at, at + bytes);
	*ret_room = log->mapped - at;
	return true;
}

/* Writes the records that fit; the first does. Returns their number. */
static inline size_t
write_plain(struct log *log, struct log_transaction *tx, uint32_t topic,
    const struct log_item *item, const struct bus_slice *payloads, size_t count, int64_t time_ns)
{
	/* A copy, which the writes below cannot alias. */
	const struct log_item same = {.origin = item->origin, .type = item->type};
	const struct bus_slice *payload = payloads, *end = payloads + count;
	uint8_t *to = log->bytes + tx->at;
	uint64_t room = log->mapped - tx->at, bytes = plain_size(payload->len);

	do {
		size_t len = payload->len;

		bus__log_write_head(to, topic, &same,
		    record_word((uint32_t)bytes, 0, same.type, (unsigned)-len & 7), time_ns);
		if (len > 0)
			memcpy(to + sizeof(struct log_record), payload->data, len);
		to += bytes;
		room -= bytes;
		if (++payload == end)
			break;
		bytes = plain_size(payload->len);
	} while (bytes < room || map_more(log, (uint64_t)(to - log->bytes), bytes, &room));
	tx->at = (uint64_t)(to - log->bytes);
	tx->count += (uint32_t)(payload - payloads);
	return (size_t)(payload - payloads);
}

/* The same transaction for nearly all records: payloads with nothing else, the tail free, in a segment that this process knows, with
 * room, where it has named the topic. All that is read before the tail is ours still holds then, since the tail has not moved; but
 * not the seal. Returns the number of records appended; 0: take the long way. */
static __attribute__((noinline)) size_t
append_at_once(struct log *log, const struct log_item *item, const struct bus_slice *payloads,
    size_t count, uint64_t *ret_sequence)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t word = atomic_load_explicit(tail, memory_order_relaxed), noted;
	/* Before the tail is ours, so that others wait less; behind the read of it, so that nothing comes between. */
	int64_t time_ns = bus__wall_coarse_ns();
	struct log_transaction tx = {.at = tail_position(word) - log->begin};
	uint64_t named;
	size_t written;

	/* Of an unknown segment nothing is mapped. */
	if ((word & TAIL_OWNER) || tx.at >= log->mapped ||
	    plain_size(payloads->len) >= log->mapped - tx.at)
		return 0;
	/* The record that names the topic lies before. */
	named = atomic_load_explicit(&item->topic->named_at, memory_order_relaxed) - log->begin;
	if (named >= tx.at)
		return 0;
	noted = atomic_load_explicit(&log->segment->count, memory_order_relaxed);
	tx.word = (word & ~TAIL_BITS) | (uint64_t)(log->member + 1) << 2;
	if (noted >> 32 != (uint32_t)(tail_position(word) >> 3) ||
	    !atomic_compare_exchange_strong_explicit(tail, &word, tx.word | (word & TAIL_BITS),
		memory_order_seq_cst, memory_order_relaxed))
		return 0;
	bus__log_stall(LOG_STALL_LOCKED);
	if (bus__log_is_sealed(log)) {
		bus__log_move_tail(log, &tx, tail_position(tx.word), false);
		bus__log_acknowledge(log);
		return 0;
	}
	tx.count = (uint32_t)noted;
	*ret_sequence = (log->first + tx.count) & SEQUENCE_MASK;
	written = write_plain(log, &tx, topic_at(named), item, payloads, count, time_ns);
	bus__log_stall(LOG_STALL_COPIED);
	bus__log_note_count(log, &tx);
	bus__log_stall(LOG_STALL_PUBLISH);
	if (!bus__log_move_tail(log, &tx, log->begin + tx.at, false))
		written = 0;
	if (bus__log_is_sealed(log))
		bus__log_acknowledge(log);
	return written;
}

/* Appends all but the first `done`, in one or more transactions. `writer` has the turn; NULL: not yet. */
static __attribute__((noinline)) int
append_rest(struct log *log, struct log *writer, const struct log_item *item,
    const struct bus_slice *payloads, size_t count, size_t done, uint64_t *ret_sequence)
{
	int got = bus__log_begin_append(log, item, &writer);

	if (got < 0)
		return got;
	while (done < count && got >= 0) {
		uint64_t sequence;

		got = item->flags & LOG_RETAIN
			  ? bus__log_append_kept(writer, item, payloads + done, &sequence)
			  : append_some(writer, item, payloads + done, count - done, &sequence);
		if (got >= 0 && done == 0)
			*ret_sequence = sequence;
		done += got >= 0 ? (size_t)got : 0;
	}
	bus__log_end_append(writer, got);
	return done > 0 || got >= 0 ? (int)done : got;
}

int
bus__log_append(struct log *log, const struct log_item *item, const struct bus_slice *payloads,
    size_t count, uint64_t *ret_sequence)
{
	struct log *writer = NULL;
	size_t done = 0;

	if (item->flags == 0 && item->headers_len == 0 && item->time_ns == 0 &&
	    item->topic != NULL && bus__log_enter(log, &writer))
		done = append_at_once(writer, item, payloads, count, ret_sequence);
	if (done < count)
		return append_rest(log, writer, item, payloads, count, done, ret_sequence);
	bus__log_leave(writer);
	return (int)done;
}

int
bus__log_append_parts(struct log *log, const struct log_item *item, size_t len)
{
	const struct bus_slice payload = {NULL, len};
	uint64_t sequence;

	return append_rest(log, NULL, item, &payload, 1, 0, &sequence);
}

/* The bytes of a record with a payload and its topic's name only. */
static inline uint64_t
named_size(const struct log_item *item, size_t len)
{
	return plain_size(len + sizeof(uint64_t) + item->topic->len);
}

/* append_at_once() for one record, without a loop; `names`: it names its topic. The words that are written last are computed before
 * the payload is copied, since few registers survive a call. */
static inline __attribute__((always_inline)) bool
append_one_at_once(
    struct log *log, const struct log_item *item, const void *data, size_t len, const bool names)
{
	uint64_t word = atomic_load_explicit(&log->shared->tail, memory_order_relaxed), noted, next;
	int64_t time_ns = bus__wall_coarse_ns();
	struct log_transaction tx = {.at = tail_position(word) - log->begin};
	struct log_segment *segment = log->segment;
	uint64_t bytes = names ? named_size(item, len) : plain_size(len), named;
	uint8_t *to;

	/* Of an unknown segment nothing is mapped. */
	if ((word & TAIL_OWNER) || tx.at >= log->mapped || bytes >= log->mapped - tx.at)
		return false;
	/* The record that names the topic lies before. */
	named = tx.at;
	if (!names) {
		named =
		    atomic_load_explicit(&item->topic->named_at, memory_order_relaxed) - log->begin;
		if (named >= tx.at)
			return false;
	}
	named = topic_at(named);
	noted = atomic_load_explicit(&segment->count, memory_order_relaxed);
	tx.word = (word & ~TAIL_BITS) | (uint64_t)(log->member + 1) << 2;
	if (noted >> 32 != (uint32_t)(word >> 12) ||
	    !atomic_compare_exchange_strong_explicit(&log->shared->tail, &word,
		tx.word | (word & TAIL_BITS), memory_order_seq_cst, memory_order_relaxed))
		return false;
	bus__log_stall(LOG_STALL_LOCKED);
	if (bus__log_is_sealed(log)) {
		bus__log_move_tail(log, &tx, tail_position(tx.word), false);
		bus__log_acknowledge(log);
		return false;
	}
	next = tail_position(word) + bytes;
	noted += (bytes >> 3 << 32) + 1; /* as bus__log_note_count() does */
	to = log->bytes + tx.at;
	if (names) {
		uint64_t used = sizeof(struct log_record) + sizeof used + len + item->topic->len;

		bus__log_write_word(to + sizeof(struct log_record), item->topic->len);
		bus__log_write_head(to, (uint32_t)named, item,
		    record_word((uint32_t)bytes, LOG_NAMED, item->type, (unsigned)(bytes - used)),
		    time_ns);
		memcpy(to + used - item->topic->len, item->topic->name, item->topic->len);
	} else {
		bus__log_write_head(to, (uint32_t)named, item,
		    record_word((uint32_t)bytes, 0, item->type, (unsigned)-len & 7), time_ns);
	}
	if (__builtin_expect(len > 0, 1))
		memcpy(to + sizeof(struct log_record) + (names ? sizeof(uint64_t) : 0), data, len);
	bus__log_stall(LOG_STALL_COPIED);
	atomic_store_explicit(&segment->count, noted, memory_order_relaxed);
	bus__log_stall(LOG_STALL_PUBLISH);
	if (!bus__log_move_tail(log, &tx, next, false)) {
		bus__log_acknowledge(log);
		return false;
	}
	/* Only now: the records of a revoked writer do not exist. */
	if (names)
		bus__log_remember(log, item->topic, log->begin + tx.at);
	if (bus__log_is_sealed(log))
		bus__log_acknowledge(log);
	return true;
}

/* Not inlined, so that a record without a name saves no register for it. */
static __attribute__((noinline)) bool
append_named_at_once(struct log *log, const struct log_item *item, const void *data, size_t len)
{
	return append_one_at_once(log, item, data, len, true);
}

/* The long way. `writer` has the turn; NULL: it was not free. */
static __attribute__((noinline)) int
append_one_slowly(
    struct log *log, struct log *writer, const struct log_item *item, const void *data, size_t len)
{
	const struct bus_slice payload = {data, len};
	uint64_t sequence;
	int got;

	__builtin_prefetch(item->topic->name);
	if (writer != NULL && bus__log_has_to_name(writer, item) &&
	    append_named_at_once(writer, item, data, len)) {
		bus__log_leave(writer);
		return 1;
	}
	got = bus__log_begin_append(log, item, &writer);
	if (got < 0)
		return got;
	return bus__log_end_append(writer, append_some(writer, item, &payload, 1, &sequence));
}

int
bus__log_append_one(struct log *log, const struct log_item *item, const void *data, size_t len)
{
	struct log *writer = NULL;

	if (!bus__log_enter(log, &writer) || !append_one_at_once(writer, item, data, len, false))
		return append_one_slowly(log, writer, item, data, len);
	bus__log_leave(writer);
	return 1;
}

#ifdef BUS_LOG_STALLS
void (*bus__log_stall_hook)(enum log_stall where);
#endif
