/* log/tail.h: the tail of a log, and the transaction that owns it. For the files of the log that append.
 *
 * A writer makes itself the tail's owner by CAS and copies its records behind the tail; one CAS more shows them and frees the tail.
 * So a writer that dies in between has done nothing, and its successor has nothing to repair. A writer that was stopped is
 * not waited for either. Its segment is sealed first, so that no process reads what it still writes there. Then the tail is taken
 * from it, so that its publish fails. An owner that finds the tail in a sealed segment goes on in the next one, and an owner that
 * dies in between leaves that to another. */
#ifndef BUS_LOG_TAIL_H
#define BUS_LOG_TAIL_H

#include <libbus/error.h>

#include "log/log.h"

struct log_transaction {
	uint64_t word;  /* the tail when it became ours, without its two low bits */
	uint64_t at;    /* its offset in the segment */
	uint32_t count; /* records before it there */
};

/* --- the tail (tail.c) ---------------------------------------------------------------------------------------- */

/* bus__log_lock_tail() where another writer owns the tail, or took it first; `word` is the tail as it was seen. */
uint64_t bus__log_wait_for_tail(struct log *log, uint64_t word);

/* The error of an answer that has one of the two low bits. */
int bus__log_tail_error(uint64_t word);

/* Wakes those whose bits the publish has cleared. */
void bus__log_wake(struct log *log, uint64_t bits);

/* Behind a transaction: if the segment is sealed for this member alone, any writer may claim its memory from here on. */
void bus__log_acknowledge(struct log *log);

/* Makes the tail ours and returns it. With one of the two low bits the answer is an error, see bus__log_tail_error(). */
static inline uint64_t
bus__log_lock_tail(struct log *log)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t word = atomic_load_explicit(tail, memory_order_relaxed);
	uint64_t me = (uint64_t)(log->member + 1) << 2;

	/* Acquire: what the last owner wrote. Seq_cst: a seal of the segment came before. */
	if ((word & TAIL_OWNER) == 0 && atomic_compare_exchange_strong_explicit(tail, &word,
					    word | me, memory_order_seq_cst, memory_order_relaxed))
		return (word | me) & ~TAIL_BITS;
	return bus__log_wait_for_tail(log, word);
}

/* Moves the tail to `position`, and frees or keeps it. false: it was taken from us. */
static inline bool
bus__log_move_tail(struct log *log, struct log_transaction *tx, uint64_t position, bool keep)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t seen = tx->word, next = tail_word(position, keep ? log->member + 1 : 0);

	/* Release: the records, for readers and for the next owner. */
	while (!atomic_compare_exchange_weak_explicit(tail, &seen,
	    keep ? next | (seen & TAIL_BITS) : next, memory_order_release, memory_order_relaxed))
		if ((seen & ~TAIL_BITS) != tx->word)
			return false;
	tx->word = next;
	if (!keep && (seen & TAIL_BITS))
		bus__log_wake(log, seen & TAIL_BITS);
	return true;
}

/* --- the segment of the tail (roll.c) ------------------------------------------------------------------------------ */

/* Makes the tail's segment the one that this process knows. */
bool bus__log_adopt(struct log *log, uint64_t number);

/* Goes to the next segment. */
int bus__log_roll(struct log *log, struct log_transaction *tx, uint64_t bytes);

/* Finds the offset of the tail in its segment, and the number of records there. false: the log is damaged. */
static inline bool
bus__log_locate(struct log *log, struct log_transaction *tx)
{
	uint64_t position = tail_position(tx->word), noted;
	int64_t count;

	tx->at = position - log->begin;
	if (tx->at >= log->segment_bytes || log->segment == NULL) {
		if (!bus__log_adopt(log, position / log->segment_bytes))
			return false;
		tx->at = position - log->begin;
	}
	noted = atomic_load_explicit(&log->segment->count, memory_order_relaxed);
	tx->count = (uint32_t)noted;
	if (noted >> 32 == (uint32_t)(position >> 3))
		return true;
	/* The writer of this count lost the tail, or the segment has no record yet. */
	count = bus__log_count(log->bytes, tx->at);
	tx->count = (uint32_t)count;
	return count >= 0;
}

static inline bool
bus__log_is_sealed(const struct log *log)
{
	return atomic_load_explicit(&log->segment->seal, memory_order_seq_cst) >> 10 == log->number;
}

static inline void
bus__log_note_count(struct log *log, const struct log_transaction *tx)
{
	uint64_t tail = log->begin + tx->at;

	atomic_store_explicit(
	    &log->segment->count, tail >> 3 << 32 | tx->count, memory_order_relaxed);
}

/* Goes to a segment with room for `bytes`. */
static inline int
bus__log_make_room(struct log *log, struct log_transaction *tx, uint64_t bytes)
{
	/* Carried values may fill a new segment at once, but not half of all. */
	for (uint32_t rolls = 0; rolls < log->segment_count / 2 + 1; rolls++) {
		int err;

		if (!bus__log_is_sealed(log) && bytes < log->segment_bytes - tx->at)
			return 0;
		err = bus__log_roll(log, tx, bytes);
		if (err < 0)
			return err;
	}
	return BUS_E_FULL;
}

#endif
