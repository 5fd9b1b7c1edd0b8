/* queue/ring.c: a ring from its beginning to its end: memory, head lock, sleep and close. ring_put.c is the producers' side,
 * ring_take.c the taker's. */
#include "queue/ring.h"

#include <assert.h>
#include <sched.h>

#include <libbus/error.h>

#include "base/mem.h"
#include "base/thread.h"
#include "queue/ring_frame.h"

uint32_t
bus__ring_frame_bytes(unsigned flags, uint32_t len)
{
	return bus__ring_bytes_of(flags, len);
}

uint64_t
bus__ring_bytes(size_t bytes)
{
	uint64_t size = RING_MIN_BYTES;

	while (size < bytes)
		size *= 2;
	return size;
}

int
bus__ring_init(struct ring *r, size_t bytes, uint64_t start)
{
	uint64_t size = bus__ring_bytes(bytes);

	assert(start % 8 == 0 && bytes <= SIZE_MAX / 2);
	memset(r, 0, sizeof *r);
	/* These pages take memory as the ring fills. calloc() may touch all of it at once. */
	r->bytes = bus__pages((size_t)size);
	if (r->bytes == NULL)
		return BUS_E_NOMEM;
	r->size = size;
	r->mask = size - 1;
	atomic_init(&r->tail, start);
	atomic_init(&r->head, start);
	atomic_init(&r->out, start);
	r->run = start;
	atomic_init(&r->limit, (start | r->mask) + 1);
	return 0;
}

void
bus__ring_fini(struct ring *r)
{
	uint64_t position = atomic_load_explicit(&r->out, memory_order_relaxed), word;
	uint64_t end = bus__ring_tail(r) & ~RING_FLAG_BITS;
	struct bus__chain chain = {NULL, NULL};
	uint32_t bytes;

	while (position != end && (bytes = bus__ring_committed_bytes(r, position, &word)) != 0) {
		bus__ring_release_frame(
		    r->bytes + (position & r->mask), RING_WORD_FLAGS(word), &chain);
		position += bytes;
	}
	bus__chain_end(&chain);
	bus__pages_free(r->bytes, (size_t)r->size);
}

/* --- the head lock ---------------------------------------------------------------------------------------- */

bool
bus__ring_try_lock(struct ring *r)
{
	return atomic_exchange_explicit(&r->head_lock, 1, memory_order_acquire) == 0;
}

void
bus__ring_lock(struct ring *r)
{
	unsigned spins = 0;

	while (!bus__ring_try_lock(r)) {
		if (++spins % RING_LOCK_SPINS == 0)
			sched_yield(); /* the holder was preempted and needs the CPU */
		bus__cpu_relax();
	}
}

void
bus__ring_unlock(struct ring *r)
{
	atomic_store_explicit(&r->head_lock, 0, memory_order_release);
}

uint64_t
bus__ring_count(const struct ring *r, uint64_t most)
{
	uint64_t position = atomic_load_explicit(&r->out, memory_order_relaxed);
	uint64_t end = bus__ring_tail(r) & ~RING_FLAG_BITS, count = 0, word;
	uint32_t bytes;

	while (count < most && position != end &&
	       (bytes = bus__ring_committed_bytes(r, position, &word)) != 0) {
		if (!(RING_WORD_FLAGS(word) & RING_PAD))
			count++;
		position += bytes;
	}
	return count;
}

/* --- sleep and close: bits of tail ---------------------------------------------------------------------- */

bool
bus__ring_sleep(struct ring *r)
{
	uint64_t head, expected;

	/* A plain look first: the CAS takes the line away from the producers. */
	if (!bus__ring_empty(r))
		return false;
	bus__ring_lock(r);
	bus__ring_reclaim_held(r);
	head = expected = bus__ring_head(r);
	bus__ring_unlock(r);
	return atomic_compare_exchange_strong_explicit(
	    &r->tail, &expected, head | RING_ASLEEP, memory_order_acq_rel, memory_order_relaxed);
}

bool
bus__ring_fall_asleep(struct ring *r)
{
	/* The look at the bit is a read-modify-write too: ring.h says what the caller gets from that. */
	return bus__ring_sleep(r) ||
	       (atomic_fetch_or_explicit(&r->tail, 0, memory_order_acq_rel) & RING_ASLEEP);
}

bool
bus__ring_rouse(struct ring *r)
{
	uint64_t tail = bus__ring_tail(r);

	while (tail & RING_ASLEEP)
		if (atomic_compare_exchange_weak_explicit(&r->tail, &tail, tail & ~RING_ASLEEP,
			memory_order_acq_rel, memory_order_acquire))
			return true;
	return false;
}

uint64_t
bus__ring_close(struct ring *r)
{
	return atomic_fetch_or_explicit(&r->tail, RING_CLOSED, memory_order_acq_rel);
}

void
bus__ring_reopen(struct ring *r)
{
	/* Relaxed: a producer reads what the closed ring's owner changed only when it ends a sleep, and bus__ring_sleep() releases. */
	atomic_fetch_and_explicit(&r->tail, ~(uint64_t)RING_CLOSED, memory_order_relaxed);
}
