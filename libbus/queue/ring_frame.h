/* queue/ring_frame.h: the frames in a ring's memory, for the ring's own files. ring.h draws a frame. */
#ifndef BUS_QUEUE_RING_FRAME_H
#define BUS_QUEUE_RING_FRAME_H

#include "queue/ring.h"

#define RING_LOCK_SPINS    200
#define RING_WORD_LEN(w)   ((uint32_t)(w))
#define RING_WORD_FLAGS(w) ((uint16_t)((w) >> 32))

static inline uint32_t
bus__ring_extension_bytes(unsigned flags)
{
	/* The one flag for three words adds two more. */
	return 8 * (uint32_t)__builtin_popcount(flags & (RING_EXTENSIONS | RING_PASSED)) +
	       (flags & RING_PASSED) / (RING_PASSED / 16);
}

/* bus__ring_frame_bytes(), which may be inlined. */
static inline uint32_t
bus__ring_bytes_of(unsigned flags, uint32_t len)
{
	uint32_t payload = flags & (RING_BLOCK | RING_CELL) ? (uint32_t)sizeof(uint64_t) : len;

	return (RING_FRAME_HEAD + bus__ring_extension_bytes(flags) + payload + 7) & ~7u;
}

/* The pointer that stands in the place of the payload. */
static inline void *
bus__ring_frame_pointer(const uint8_t *frame, unsigned flags)
{
	uint64_t pointer;

	memcpy(
	    &pointer, frame + RING_FRAME_HEAD + bus__ring_extension_bytes(flags), sizeof pointer);
	return (void *)(uintptr_t)pointer;
}

/* The bytes of the frame at `position`; 0: it is not committed. */
static inline uint32_t
bus__ring_committed_bytes(const struct ring *r, uint64_t position, uint64_t *ret_word)
{
	uint64_t word = atomic_load_explicit(bus__ring_word_at(r, position), memory_order_acquire);
	unsigned flags = RING_WORD_FLAGS(word);

	*ret_word = word;
	if (word == 0)
		return 0;
	if (!(flags & (RING_PAD | RING_MORE)))
		return bus__ring_small_bytes(RING_WORD_LEN(word));
	return flags & RING_PAD ? RING_WORD_LEN(word)
				: bus__ring_bytes_of(flags, RING_WORD_LEN(word));
}

/* Makes bytes zero again, so that the next lap finds "not committed" at every possible frame start. Of a gap only
 * its word was ever written. */
static inline void
bus__ring_clear(struct ring *r, uint64_t position, uint32_t bytes)
{
	uint8_t *at = r->bytes + (position & r->mask), *end = at + bytes;

	/* Pieces of a fixed size become stores; the calls and string instructions for others start slowly. */
	for (; end - at >= 64; at += 64)
		memset(at, 0, 64);
	for (; at < end; at += 8)
		memset(at, 0, 8);
}

/* Frees what a taker copied out. Head lock held. */
static inline void
bus__ring_reclaim_held(struct ring *r)
{
	uint64_t out = atomic_load_explicit(&r->out, memory_order_relaxed);

	if (atomic_load_explicit(&r->head, memory_order_relaxed) == out)
		return;
	bus__ring_clear(r, r->run, (uint32_t)(out - r->run));
	r->run = out;
	/* The bytes are free and zero: pairs with the acquire of head in a claim. */
	atomic_store_explicit(&r->head, out, memory_order_release);
}

/* Frees what a frame owns. Blocks go to the chain. */
void bus__ring_release_frame(const uint8_t *frame, unsigned flags, struct bus__chain *chain);

#endif
