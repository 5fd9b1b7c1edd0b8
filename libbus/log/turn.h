/* log/turn.h: one thread of a process appends at a time, and the others pass a thread that stalls.
 *
 * A process has up to LOG_LANES memberships of a log to append with: its own, `home`, and deputies, which it makes when
 * it needs them. The turn names the thread that holds it and the lane, that is the membership, which that thread appends
 * with. A thread that has waited 0.1 s for the holder takes the turn, with another lane. From then on the stalled
 * thread is to the log like a stopped process: its segment is sealed and the tail taken from it, so its publish fails,
 * and it appends again. Its lane stays its own until it returns it. */
#ifndef BUS_LOG_TURN_H
#define BUS_LOG_TURN_H

#include "base/thread.h"
#include "log/log.h"

/* --- turn: holder | lane << 1 | awaited ----------------------------------------------------------------------- */

#define TURN_AWAITED ((uintptr_t)1) /* leaving changes `handed` and wakes a thread */
#define TURN_LANE    ((uintptr_t)6)
#define TURN_HOLDER  (~(uintptr_t)7)  /* bus__thread_word(); 0: free */
#define TURN_OVER    TURN_HOLDER      /* no thread holds it: this process has left the log */
#define TURN_BROKEN  (~(uintptr_t)15) /* nor does one: the log is damaged */

#define TURN_STOPPED_NS                                                                            \
	INT64_C(100000000) /* a holder that has not moved for this long is replaced */

/* An append that has until `until_ns` waits no longer than until shortly before that. */
#define TURN_LAST_NS INT64_C(20000000)

static inline bool
bus__log_is_pressed(int64_t now, int64_t until_ns)
{
	return until_ns != 0 && now >= until_ns - TURN_LAST_NS;
}

/* Takes the turn if it is free. true: *ret_writer is the membership to append with, until bus__log_leave(). */
static inline bool
bus__log_enter(struct log *home, struct log **ret_writer)
{
	uintptr_t word = atomic_load_explicit(&home->turn, memory_order_relaxed);

	/* Acquire: pairs with the release of leaving: what the last holder knows of the segment. */
	if ((word & ~TURN_LANE) != 0 ||
	    !atomic_compare_exchange_strong_explicit(&home->turn, &word, word | bus__thread_word(),
		memory_order_acquire, memory_order_relaxed))
		return false;
	*ret_writer = home->writers[word >> 1];
	return true;
}

/* The same when it is not free. 0; BUS_E_STATE: this thread holds it, and a signal handler interrupted it; BUS_E_TIMEDOUT: every
 * lane is with a thread that stalls, or until_ns (0: never) has passed; BUS_E_CLOSED; BUS_E_DAMAGED. */
int bus__log_enter_slowly(struct log *home, int64_t until_ns, struct log **ret_writer);

void bus__log_leave_slowly(struct log *writer);

static inline void
bus__log_leave(struct log *writer)
{
	struct log *home = writer->home;
	uintptr_t mine = writer->lane | bus__thread_word();

	if (!atomic_compare_exchange_strong_explicit(
		&home->turn, &mine, writer->lane, memory_order_release, memory_order_relaxed))
		bus__log_leave_slowly(writer);
}

/* Gives a thread that appends a moment to come out. */
void bus__log_let_out(struct log *home);

/* Lets no thread in any more. true: none is inside. false: the last one that comes out calls bus__log_end(). */
bool bus__log_end_turns(struct log *home);

/* Makes the membership of a lane (slots.c); false: not now. Frees a log that this process has left (member.c). */
bool bus__log_deputy(struct log *home, unsigned lane);
void bus__log_end(struct log *home);

#endif
