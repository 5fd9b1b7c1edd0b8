#include "log/turn.h"

#include <libbus/error.h>

#include "base/clock.h"
#include "base/park.h"

#define TURN_SPINS      400
#define NAP_NS          INT64_C(1000000)
#define LET_OUT_NS      INT64_C(10000000)
#define TURN_GIVE_UP_NS (2 * TURN_STOPPED_NS)

/* lanes: the holder of each. A lane is idle, or belongs to the turn or to a thread that lost the turn. */
#define LANES_IDLE(lane) (1u << (lane))
#define LANES_MADE(lane) (16u << (lane))
#define LANES_ALL        (LANES_IDLE(LOG_LANES) - 1)
#define LANES_MAKING     256u /* a thread makes the next one */
#define LANES_OVER       512u
#define LANES_WAITER     65536u /* for each thread that waits */

_Static_assert(LOG_LANES_AT_FIRST == LANES_MADE(0), "log.h says what a new home has");

static unsigned
lane_of(uintptr_t word)
{
	return (unsigned)(word & TURN_LANE) >> 1;
}

/* Whether the process has left, and no thread of it is inside any more. */
static bool
is_through(uint32_t lanes)
{
	return (lanes & LANES_OVER) && lanes < LANES_WAITER && !(lanes & LANES_MAKING) &&
	       (lanes & LANES_ALL) == (lanes / LANES_MADE(0) & LANES_ALL);
}

/* Changes `lanes`; the last thread to come out of a log that its process has left ends it. */
static void
change(struct log *home, uint32_t by)
{
	/* Release: what this thread knows of the lane that it returns, and that it is through; acquire: so are the others. */
	uint32_t lanes = atomic_fetch_add_explicit(&home->lanes, by, memory_order_acq_rel) + by;

	if (is_through(lanes))
		bus__log_end(home);
}

/* Takes an idle lane, or makes one. 1; 0: try again, another thread makes one, or it cannot be made now; BUS_E_TIMEDOUT: all are in
 * use. */
static int
take_lane(struct log *home, unsigned *ret_lane)
{
	uint32_t lanes = atomic_load_explicit(&home->lanes, memory_order_relaxed);
	unsigned lane;
	bool made;

	do {
		for (lane = 0; lane < LOG_LANES && !(lanes & LANES_IDLE(lane)); lane++)
			;
		if (lane < LOG_LANES)
			continue;
		for (lane = 0; lane < LOG_LANES && (lanes & LANES_MADE(lane)); lane++)
			;
		if (lane == LOG_LANES || (lanes & LANES_MAKING))
			return lane == LOG_LANES ? BUS_E_TIMEDOUT : 0;
		/* Acquire: pairs with the release of the thread that returned the lane. */
	} while (!atomic_compare_exchange_weak_explicit(&home->lanes, &lanes,
	    lanes & LANES_IDLE(lane) ? lanes - LANES_IDLE(lane) : lanes + LANES_MAKING,
	    memory_order_acquire, memory_order_relaxed));
	*ret_lane = lane;
	if (lanes & LANES_IDLE(lane))
		return 1;
	made = bus__log_deputy(home, lane);
	change(home, (made ? LANES_MADE(lane) : 0) - LANES_MAKING);
	return made;
}

/* A holder that does not move. */
struct stuck {
	uintptr_t word;
	uint32_t handed;
	int64_t since_ns;
	struct log_patience tail;
};

/* Takes the turn from a holder that stalls. 1, or what take_lane() answers. 0 also: it has moved. */
static int
replace(struct log *home, uintptr_t word, const struct stuck *stuck, struct log **ret_writer)
{
	unsigned lane;
	int got = take_lane(home, &lane);

	if (got <= 0)
		return got;
	if (!atomic_compare_exchange_strong_explicit(&home->turn, &word,
		bus__thread_word() | (uintptr_t)lane << 1 | TURN_AWAITED, memory_order_acquire,
		memory_order_relaxed)) {
		change(home, LANES_IDLE(lane));
		return 0;
	}
	*ret_writer = home->writers[lane];
	(*ret_writer)->patience = stuck->tail;
	return 1;
}

/* Notes since when neither the holder nor the tail has moved. */
static void
observe(struct log *home, uintptr_t word, uint32_t handed, int64_t now, struct stuck *stuck)
{
	uint64_t tail =
	    atomic_load_explicit(&home->shared->tail, memory_order_relaxed) & ~TAIL_BITS;

	if (stuck->word != word || stuck->handed != handed) {
		stuck->word = word;
		stuck->handed = handed;
		stuck->since_ns = now;
	}
	if (stuck->tail.word != tail)
		stuck->tail = (struct log_patience){.word = tail, .since_ns = now};
}

static int64_t
wake_time(const struct stuck *stuck, int64_t now, int64_t until_ns)
{
	int64_t wake = stuck->since_ns + TURN_STOPPED_NS;

	if (until_ns != 0 && until_ns - TURN_LAST_NS < wake)
		wake = until_ns - TURN_LAST_NS;
	return wake > now ? wake : now + NAP_NS;
}

static int
await(struct log *home, int64_t until_ns, struct log **ret_writer)
{
	uintptr_t self = bus__thread_word(), awaited = 0;
	unsigned spins = bus__cpus() > 1 ? TURN_SPINS : 0;
	struct stuck stuck = {.word = 0};

	for (;;) {
		/* Read before the turn: freeing the turn changes it afterwards. */
		uint32_t handed = atomic_load_explicit(&home->handed, memory_order_acquire);
		uintptr_t word = atomic_load_explicit(&home->turn, memory_order_relaxed);
		int64_t now;

		if ((word & TURN_HOLDER) == 0) {
			/* A thread that slept leaves the bit for others that sleep. */
			if (!atomic_compare_exchange_weak_explicit(&home->turn, &word,
				word | self | awaited, memory_order_acquire, memory_order_relaxed))
				continue;
			*ret_writer = home->writers[lane_of(word)];
			return 0;
		}
		if ((word & TURN_HOLDER) == self)
			return BUS_E_STATE;
		if ((word & TURN_HOLDER) == TURN_OVER)
			return BUS_E_CLOSED;
		if ((word & TURN_HOLDER) == TURN_BROKEN)
			return BUS_E_DAMAGED;
		if (spins > 0) {
			spins--;
			bus__cpu_relax();
			continue;
		}
		if (!bus__may_wait())
			return BUS__E_WAITS;
		now = bus__now_ns();
		observe(home, word & ~TURN_AWAITED, handed, now, &stuck);
		if (now - stuck.since_ns >= TURN_STOPPED_NS || bus__log_is_pressed(now, until_ns)) {
			int got = replace(home, word, &stuck, ret_writer);

			if (got != 0)
				return got < 0 ? got : 0;
			word = atomic_load_explicit(&home->turn, memory_order_relaxed);
			if ((word & ~TURN_AWAITED) != stuck.word)
				continue;
			if (now - stuck.since_ns >= TURN_GIVE_UP_NS)
				return BUS_E_TIMEDOUT;
		}
		if (until_ns != 0 && now >= until_ns)
			return BUS_E_TIMEDOUT;
		if (!(word & TURN_AWAITED) &&
		    !atomic_compare_exchange_weak_explicit(&home->turn, &word, word | TURN_AWAITED,
			memory_order_relaxed, memory_order_relaxed))
			continue;
		awaited = TURN_AWAITED;
		bus__park(&home->handed, handed, wake_time(&stuck, now, until_ns));
	}
}

int
bus__log_enter_slowly(struct log *home, int64_t until_ns, struct log **ret_writer)
{
	int err;

	change(home, LANES_WAITER);
	err = await(home, until_ns, ret_writer);
	change(home, 0u - LANES_WAITER);
	return err;
}

void
bus__log_leave_slowly(struct log *writer)
{
	struct log *home = writer->home;
	uintptr_t mine = writer->lane | bus__thread_word();
	uintptr_t word = atomic_load_explicit(&home->turn, memory_order_relaxed);

	do {
		if ((word & ~TURN_AWAITED) != mine) {
			/* It was taken from us: others go on with another lane. */
			change(home, LANES_IDLE(lane_of(writer->lane)));
			return;
		}
	} while (!atomic_compare_exchange_weak_explicit(
	    &home->turn, &word, writer->lane, memory_order_release, memory_order_relaxed));
	if (word & TURN_AWAITED) {
		/* Release: the thread that reads it finds the turn given free. */
		atomic_fetch_add_explicit(&home->handed, 1, memory_order_release);
		bus__unpark_one(&home->handed);
	}
}

/* Wakes all waiters of a turn that will not be free again. */
static void
wake_all(struct log *home)
{
	atomic_fetch_add_explicit(&home->handed, 1, memory_order_release);
	bus__unpark(&home->handed);
}

void
bus__log_break(struct log *log)
{
	struct log *home = log->home;
	uintptr_t word = atomic_load_explicit(&home->turn, memory_order_relaxed);

	atomic_store_explicit(&home->is_damaged, true, memory_order_relaxed);
	do {
		if ((word & TURN_HOLDER) >= TURN_BROKEN)
			return;
		/* Acquire: a free turn's lane is returned as its last holder left it. A holder finds the turn taken. */
	} while (!atomic_compare_exchange_weak_explicit(
	    &home->turn, &word, TURN_BROKEN, memory_order_acquire, memory_order_relaxed));
	if ((word & TURN_HOLDER) == 0)
		change(home, LANES_IDLE(lane_of(word)));
	wake_all(home);
	bus__log_call(home);
}

void
bus__log_let_out(struct log *home)
{
	int64_t until_ns = bus__now_ns() + LET_OUT_NS;

	while (bus__now_ns() < until_ns &&
	       (atomic_load_explicit(&home->turn, memory_order_relaxed) & TURN_HOLDER) - 1 <
		   TURN_BROKEN - 1)
		bus__park(&home->handed, atomic_load_explicit(&home->handed, memory_order_relaxed),
		    bus__now_ns() + NAP_NS);
}

bool
bus__log_end_turns(struct log *home)
{
	/* Acquire: what the last holder did. */
	uintptr_t word = atomic_exchange_explicit(&home->turn, TURN_OVER, memory_order_acquire);
	uint32_t by = LANES_OVER, lanes;

	wake_all(home);
	if ((word & TURN_HOLDER) == 0)
		by += LANES_IDLE(lane_of(word));
	lanes = atomic_fetch_add_explicit(&home->lanes, by, memory_order_acq_rel) + by;
	return is_through(lanes);
}
