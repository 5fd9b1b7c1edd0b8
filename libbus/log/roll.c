/* log/roll.c: the tail goes on to the next segment. */
#include "log/tail.h"

#include "log/stall.h"

bool
bus__log_adopt(struct log *log, uint64_t number)
{
	uint8_t *bytes;
	struct log_segment *segment = bus__log_find(log, number, &bytes);

	if (segment == NULL || !bus__log_first(log, number, &log->first))
		return false;
	log->number = number;
	log->begin = number * log->segment_bytes;
	log->segment = segment;
	log->bytes = bytes;
	log->mapped = log->mapped_of[segment - log->shared->segments];
	/* Release: pairs with is_written(): this process no longer writes to earlier segments. */
	atomic_store_explicit(
	    &log->shared->members[log->member].appended, number, memory_order_release);
	return true;
}

/* Copies the values whose memory is used next to the new segment, and more of them if a record of `bytes` does not fit
 * behind those. */
static int
carry(struct log *log, struct log_transaction *tx, uint64_t bytes)
{
	bool moves = log->rescue != 0;
	uint64_t copied[LOG_MOST_SEGMENTS], end = bus__log_carry(log, tx->at, bytes, copied);

	if (end != tx->at) {
		tx->at = end;
		bus__log_note_count(log, tx);
		bus__log_stall(LOG_STALL_CARRIED);
		if (!bus__log_move_tail(log, tx, log->begin + end, true)) {
			if (moves)
				bus__log_stall(LOG_STALL_UNMOVED);
			return BUS_E_TIMEDOUT;
		}
	}
	if (moves) {
		bus__log_stall(LOG_STALL_MOVED);
		/* The notes did not see the records that they replaced in claimed memory. */
		bus__log_recount_kept(log);
	}
	bus__log_carried(log, copied);
	return 0;
}

int
bus__log_roll(struct log *log, struct log_transaction *tx, uint64_t bytes)
{
	uint64_t number = log->number;
	int err = bus__log_prepare_next(log, number, tx->at, log->first + tx->count);

	if (err < 0)
		return err;
	if (!bus__log_move_tail(log, tx, (number + 1) * log->segment_bytes, true)) {
		if (log->rescue != 0)
			bus__log_stall(LOG_STALL_UNMOVED);
		log->rescue = 0;
		return BUS_E_TIMEDOUT;
	}
	return bus__log_locate(log, tx) ? carry(log, tx, bytes) : BUS_E_DAMAGED;
}
