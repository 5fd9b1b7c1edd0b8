/* log/tail.c: waits for the tail, and takes it from an owner that died or was stopped. */
#include "log/tail.h"

#include "base/clock.h"
#include "base/park.h"
#include "base/thread.h"
#include "log/stall.h"
#include "log/turn.h"

#define TURN_SPINS   400
#define TURN_WAIT_NS INT64_C(2000000)    /* then look whether the owner lives */
#define GIVE_UP_NS   INT64_C(1000000000) /* a correct writer never owns the tail this long */

/* --- taking it from another owner --------------------------------------------------------------------------------- */

/* Seals the tail's segment, as `word` has the tail. `writer` may still write there; SEAL_NOBODY: no writer. */
static bool
seal(struct log *log, uint64_t word, uint64_t writer)
{
	uint64_t number = tail_position(word) / log->segment_bytes, seen;
	uint8_t *bytes;
	struct log_segment *segment = bus__log_find(log, number, &bytes);

	if (segment == NULL)
		return false; /* the tail has gone on */
	seen = atomic_load_explicit(&segment->seal, memory_order_seq_cst);
	/* The first seal counts: later writers do not write there. */
	while (seen >> 10 < number &&
	       !atomic_compare_exchange_weak_explicit(&segment->seal, &seen,
		   seal_word(number, writer), memory_order_seq_cst, memory_order_seq_cst))
		;
	return seen >> 10 <= number;
}

/* The writer for which the segment was sealed has moved the tail in time, and no longer writes there. */
static void
unseal(struct log *log, uint64_t word)
{
	uint64_t number = tail_position(word) / log->segment_bytes;
	uint64_t sealed = seal_word(number, tail_owner(word));
	uint8_t *bytes;
	struct log_segment *segment = bus__log_find(log, number, &bytes);

	if (segment != NULL)
		atomic_compare_exchange_strong_explicit(&segment->seal, &sealed,
		    sealed | SEAL_NOBODY, memory_order_seq_cst, memory_order_relaxed);
}

/* Takes the tail from an owner that died or was stopped. false: it has moved. */
static bool
take_over(struct log *log, uint64_t word, bool dead)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t held = word & ~TAIL_BITS, seen = word;

	if (!seal(log, word, dead ? SEAL_NOBODY : tail_owner(word)))
		return false;
	bus__log_stall(LOG_STALL_SEALED);
	do {
		if ((seen & ~TAIL_BITS) != held) {
			if (tail_owner(seen) != tail_owner(held))
				unseal(log, word);
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(tail, &seen,
	    (seen & ~TAIL_OWNER) | (uint64_t)(log->member + 1) << 2, memory_order_seq_cst,
	    memory_order_seq_cst));
	return true;
}

void
bus__log_acknowledge(struct log *log)
{
	uint64_t mine = seal_word(log->number, log->member + 1);

	if (log->segment != NULL && /* this process knows one */
	    atomic_load_explicit(&log->segment->seal, memory_order_seq_cst) == mine)
		atomic_compare_exchange_strong_explicit(&log->segment->seal, &mine,
		    mine | SEAL_NOBODY, memory_order_seq_cst, memory_order_relaxed);
}

/* --- waiting ------------------------------------------------------------------------------------------------------- */

/* Whether the tail is still `held`, where no correct writer leaves it: its segment is not there or has the seal of a later one,
 * or its owner is no member. */
static bool
is_nonsense(struct log *log, uint64_t held)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	struct log_segment *segment;
	uint8_t *bytes;
	bool found;

	/* Acquire: the state that its segment got before the tail went there. */
	if ((atomic_load_explicit(tail, memory_order_acquire) & ~TAIL_BITS) != held)
		return false;
	segment = bus__log_find(log, tail_position(held) / log->segment_bytes, &bytes);
	found = segment != NULL && tail_owner(held) <= LOG_MEMBERS &&
		atomic_load_explicit(&segment->seal, memory_order_seq_cst) >> 10 <=
		    tail_position(held) / log->segment_bytes;

	/* Behind that look: otherwise the segment was gone because the tail had moved. */
	return !found && (atomic_load_explicit(&log->shared->tail, memory_order_seq_cst) &
			     ~TAIL_BITS) == held;
}

/* Waits until the tail may be free. true: it is ours. */
static __attribute__((noinline)) bool
await_turn(struct log *log, struct log_patience *patience, uint64_t *word)
{
	struct log_shared *shared = log->shared;
	uint64_t held = *word & ~TAIL_BITS, seen;
	uint32_t turn;
	int64_t now;

	for (unsigned i = 0; bus__cpus() > 1 && i < TURN_SPINS; i++) {
		bus__cpu_relax();
		*word = atomic_load_explicit(&shared->tail, memory_order_relaxed);
		if ((*word & ~TAIL_BITS) != held)
			return false;
	}
	now = bus__now_ns();
	if (patience->word != held) {
		patience->word = held;
		patience->since_ns = now;
	}
	/* Ours without a transaction: left by a dead member that had this slot. */
	if (tail_owner(held) == log->member + 1)
		return take_over(log, held, true);
	/* Read before the bit is set: the writer that clears it changes this after. */
	turn = atomic_load_explicit(&shared->turns, memory_order_acquire);
	seen = *word;
	while (!(seen & TAIL_WAITERS))
		if (atomic_compare_exchange_weak_explicit(&shared->tail, &seen, seen | TAIL_WAITERS,
			memory_order_relaxed, memory_order_relaxed) ||
		    (seen & ~TAIL_BITS) != held)
			break;
	if ((seen & ~TAIL_BITS) == held)
		bus__park_shared(&shared->turns, turn, now + TURN_WAIT_NS);
	*word = atomic_load_explicit(&shared->tail, memory_order_relaxed);
	/* A sign of life: other threads of this process do not take the turn from a thread that waits. Relaxed: it orders nothing. */
	atomic_fetch_add_explicit(&log->home->handed, 1, memory_order_relaxed);
	if ((*word & ~TAIL_BITS) != held || bus__now_ns() - now < TURN_WAIT_NS / 2)
		return false;
	if (!bus__log_is_alive(log, tail_owner(held) - 1))
		return take_over(log, held, true);
	now = bus__now_ns();
	return (now - patience->since_ns >= TURN_STOPPED_NS ||
		   bus__log_is_pressed(now, log->until_ns)) &&
	       take_over(log, held, false);
}

/* What bus__log_lock_tail() returns instead of a tail, whose two low bits it clears: the tail is not where a writer leaves it;
 * log->until_ns has passed; the thread must not wait. */
#define TAIL_DAMAGED UINT64_C(1)
#define TAIL_LATE    UINT64_C(2)
#define TAIL_WAITS   UINT64_C(3)

/* Spins for the tail, for a thread that must not wait. */
static bool
spin(_Atomic uint64_t *tail, uint64_t *word)
{
	for (unsigned i = 0; i < TURN_SPINS && (*word & TAIL_OWNER) != 0; i++) {
		bus__cpu_relax();
		*word = atomic_load_explicit(tail, memory_order_relaxed);
	}
	return (*word & TAIL_OWNER) == 0;
}

int
bus__log_tail_error(uint64_t word)
{
	static const int errors[] = {[TAIL_DAMAGED] = BUS_E_DAMAGED,
	    [TAIL_LATE] = BUS_E_TIMEDOUT,
	    [TAIL_WAITS] = BUS__E_WAITS};

	return errors[word];
}

uint64_t
bus__log_wait_for_tail(struct log *log, uint64_t word)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t me = (uint64_t)(log->member + 1) << 2;
	struct log_patience patience =
	    log->patience; /* of threads of this process that waited before */

	log->patience.word = 0;
	for (;;) {
		if ((word & TAIL_OWNER) == 0) {
			if (atomic_compare_exchange_weak_explicit(
				tail, &word, word | me, memory_order_seq_cst, memory_order_relaxed))
				return (word | me) & ~TAIL_BITS;
		} else if (!bus__may_wait()) {
			if (!spin(tail, &word))
				return TAIL_WAITS;
		} else if (await_turn(log, &patience, &word)) {
			/* The word that we stored: the tail may have been taken from us since. */
			return (word & ~(TAIL_BITS | TAIL_OWNER)) | me;
		} else if (patience.word != 0 && patience.word == (word & ~TAIL_BITS)) {
			int64_t now = bus__now_ns();

			if (is_nonsense(log, patience.word) || now - patience.since_ns > GIVE_UP_NS)
				return TAIL_DAMAGED;
			if (log->until_ns != 0 && now >= log->until_ns)
				return TAIL_LATE;
		}
	}
}

/* --- waking -------------------------------------------------------------------------------------------------------- */

void
bus__log_wake(struct log *log, uint64_t bits)
{
	struct log_shared *shared = log->shared;

	bus__log_stall(LOG_STALL_WAKE);
	if (bits & TAIL_SLEEPERS) {
		atomic_fetch_add_explicit(&shared->news, 1, memory_order_release);
		bus__unpark_shared(&shared->news);
	}
	if (bits & TAIL_WAITERS) {
		atomic_fetch_add_explicit(&shared->turns, 1, memory_order_release);
		bus__unpark_shared(&shared->turns);
	}
}
