/* queue/ring_put.c: the producers' side of a ring: claims, commits, losses, and room made by dropping the oldest frames. */
#include "queue/ring.h"

#include "base/thread.h"
#include "queue/ring_frame.h"

/* The position at which claims of payload bytes must end: head plus the size, less the bytes of blocks. */
static uint64_t
read_limit(const struct ring *r, uint64_t head)
{
	uint64_t blocks = atomic_load_explicit(&r->block_bytes, memory_order_relaxed);

	return head + (blocks < r->size ? r->size - blocks : 0);
}

/* Shows a limit, at most the end of the buffer behind `position`, where tail was seen. Tail only grows, so a producer
 * that trusts the limit cannot claim across that end. */
static void
show_limit(struct ring *r, uint64_t limit, uint64_t position)
{
	uint64_t end = (position | r->mask) + 1;

	if ((int64_t)(end - limit) < 0)
		limit = end;
	/* Release: pairs with the acquire of the producers that trust it. It hands on the taker's zeroing. */
	atomic_store_explicit(&r->limit, limit, memory_order_release);
}

/* Whether the payload is not in the frame. It counts into the bound all the same. */
static bool
is_elsewhere(const struct ring_item *item)
{
	return item->block != NULL || item->cell != NULL;
}

static unsigned
flags_of(const struct ring_item *item)
{
	return item->flags | (item->block != NULL ? RING_BLOCK : 0u) |
	       (item->cell != NULL ? RING_CELL : 0u);
}

/* Counts a block into the bound. An empty ring takes one of any size. */
static bool
reserve_block(struct ring *r, uint32_t len)
{
	uint64_t before = atomic_fetch_add_explicit(&r->block_bytes, len, memory_order_relaxed);
	uint64_t head = bus__ring_head(r);
	uint64_t position = atomic_load_explicit(&r->tail, memory_order_relaxed) & ~RING_FLAG_BITS;
	uint64_t used = position - head;

	if (used + before + len > r->size && used + before > 0) {
		atomic_fetch_sub_explicit(&r->block_bytes, len, memory_order_relaxed);
		return false;
	}
	/* Producers that trust the old limit may overshoot the bound by the items that they put now. */
	show_limit(r, read_limit(r, head), position);
	return true;
}

static void
unreserve_block(struct ring *r, const struct ring_item *item)
{
	if (is_elsewhere(item))
		atomic_fetch_sub_explicit(&r->block_bytes, item->len, memory_order_relaxed);
}

enum ring_answer
bus__ring_claim(struct ring *r, const struct ring_item *item, struct ring_claim *ret_claim)
{
	unsigned flags = flags_of(item);
	uint64_t tail, position, end, limit;
	uint32_t bytes, pad;

	if (is_elsewhere(item) && !reserve_block(r, item->len))
		return RING_FULL;
	if (atomic_load_explicit(&r->lost_at_tail, memory_order_relaxed) != 0)
		flags |= RING_LOST;
	bytes = bus__ring_bytes_of(flags, item->len);
	tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	do {
		if (tail & RING_CLOSED) {
			unreserve_block(r, item);
			return RING_SHUT;
		}
		position = tail & ~RING_FLAG_BITS;
		pad = (uint32_t)(r->size - (position & r->mask));
		if (pad >= bytes)
			pad = 0; /* it fits before the end of the buffer */
		end = position + pad + bytes;
		limit = atomic_load_explicit(&r->limit, memory_order_acquire);
		if ((int64_t)(limit - end) < 0) {
			uint64_t head = bus__ring_head(r);

			/* reserve_block() has counted the bytes of a block; its frame only needs room. */
			limit = is_elsewhere(item) ? head + r->size : read_limit(r, head);
			if ((int64_t)(limit - end) < 0) {
				unreserve_block(r, item);
				return RING_FULL;
			}
			if (!is_elsewhere(item))
				show_limit(r, limit, position);
		}
		/* Acquire: the drainer role may come with the sleep bit. Relaxed would do for the claim. */
	} while (!atomic_compare_exchange_weak_explicit(
	    &r->tail, &tail, end, memory_order_acquire, memory_order_relaxed));

	if (pad != 0)
		atomic_store_explicit(bus__ring_word_at(r, position),
		    bus__ring_word(pad, RING_PAD, 0), memory_order_release);
	ret_claim->position = position + pad;
	ret_claim->bytes = bytes;
	ret_claim->flags = flags;
	return tail & RING_ASLEEP ? RING_WAKE : RING_OK;
}

static uint8_t *
write_word(uint8_t *at, const void *word)
{
	memcpy(at, word, 8);
	return at + 8;
}

void
bus__ring_item_copy(uint8_t *to, const struct ring_item *item)
{
	uint32_t len = item->len - item->headers_len;

	if (len > 0)
		memcpy(to, item->data, len);
	if (item->headers_len > 0)
		memcpy(to + len, item->headers, item->headers_len);
}

void
bus__ring_commit(struct ring *r, const struct ring_claim *claim, const struct ring_item *item)
{
	uint8_t *at = r->bytes + (claim->position & r->mask) + 8;
	/* Pointers take a word of 8 bytes on every machine. */
	uint64_t route = (uintptr_t)item->route, target = (uintptr_t)item->target,
		 headers = item->headers_len,
		 elsewhere = item->cell != NULL ? (uintptr_t)item->cell : (uintptr_t)item->block;

	at = write_word(at, &route);
	if (claim->flags & RING_LOST) {
		uint64_t lost = atomic_exchange_explicit(&r->lost_at_tail, 0, memory_order_relaxed);

		at = write_word(at, &lost);
	}
	if (claim->flags & RING_TARGET)
		at = write_word(at, &target);
	if (claim->flags & RING_TIME)
		at = write_word(at, &item->time_ns);
	if (claim->flags & RING_TTL)
		at = write_word(at, &item->expires_ns);
	if (claim->flags & RING_HEADERS)
		at = write_word(at, &headers);
	if (claim->flags & RING_REPLY)
		at = write_word(at, &item->reply);
	if (claim->flags & RING_PASSED) {
		memcpy(at, item->passed, sizeof *item->passed);
		at += sizeof *item->passed;
	}
	if (is_elsewhere(item))
		write_word(at, &elsewhere);
	else
		bus__ring_item_copy(at, item);
	/* Show the frame only now: pairs with the acquire in take and evict. */
	atomic_store_explicit(bus__ring_word_at(r, claim->position),
	    bus__ring_word(item->len, claim->flags, item->type), memory_order_release);
}

void
bus__ring_cancel(struct ring *r, const struct ring_claim *claim, const struct ring_item *item)
{
	unreserve_block(r, item);
	atomic_store_explicit(bus__ring_word_at(r, claim->position),
	    bus__ring_word(claim->bytes, RING_PAD, 0), memory_order_release);
}

enum ring_answer
bus__ring_put(struct ring *r, const struct ring_item *item)
{
	struct ring_claim claim;
	enum ring_answer answer = bus__ring_claim(r, item, &claim);

	if (answer == RING_OK || answer == RING_WAKE)
		bus__ring_commit(r, &claim, item);
	return answer;
}

/* --- losses ---------------------------------------------------------------------------------------------- */

void
bus__ring_tell(struct ring *r, uint64_t lost)
{
	uint64_t before = atomic_load_explicit(&r->lost_at_tail, memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(&r->lost_at_tail, &before,
	    bus__lost_sum(before, lost), memory_order_release, memory_order_relaxed))
		;
}

void
bus__ring_forget_lost(struct ring *r)
{
	bus__ring_lock(r);
	r->lost_at_head = 0;
	bus__ring_unlock(r);
	atomic_store_explicit(&r->lost_at_tail, 0, memory_order_relaxed);
}

void
bus__ring_drop(struct ring *r)
{
	atomic_fetch_add_explicit(&r->dropped, 1, memory_order_relaxed);
	bus__ring_tell(r, 1);
}

uint64_t
bus__ring_take_lost(struct ring *r)
{
	/* Acquire: pairs with the release of bus__ring_tell(), so that `dropped` has all of it. */
	return atomic_load_explicit(&r->lost_at_tail, memory_order_relaxed) != 0
		   ? atomic_exchange_explicit(&r->lost_at_tail, 0, memory_order_acquire)
		   : 0;
}

/* --- room ------------------------------------------------------------------------------------------------- */

/* Whether a claim for this item would succeed with head where it is. */
static bool
fits(const struct ring *r, const struct ring_item *item, uint64_t head)
{
	uint64_t position = atomic_load_explicit(&r->tail, memory_order_relaxed) & ~RING_FLAG_BITS;
	unsigned flags = flags_of(item) | RING_LOST;
	uint32_t bytes = bus__ring_bytes_of(flags, item->len);
	uint64_t pad = r->size - (position & r->mask);
	uint64_t blocks = atomic_load_explicit(&r->block_bytes, memory_order_relaxed);
	uint64_t used;

	if (pad >= bytes)
		pad = 0;
	used = position + pad + bytes - head;
	if (used > r->size)
		return false;
	/* No frame owns a block: block_bytes then has those of claims that will fail. */
	if (position == head)
		return true;
	if (is_elsewhere(item))
		return position - head + blocks + item->len <= r->size;
	return used + blocks <= r->size;
}

/* Frees what a frame owns. Returns the losses that the frame carried; they are added to its own. */
static uint64_t
evict_frame(struct ring *r, uint64_t position, uint64_t word)
{
	const uint8_t *frame = r->bytes + (position & r->mask);
	unsigned flags = RING_WORD_FLAGS(word);
	uint64_t before = 0;

	if (flags & RING_LOST)
		memcpy(&before, frame + RING_FRAME_HEAD, 8);
	if (flags & (RING_BLOCK | RING_CELL))
		atomic_fetch_sub_explicit(
		    &r->block_bytes, RING_WORD_LEN(word), memory_order_relaxed);
	if (flags & RING_BLOCK)
		bus__block_unref(bus__ring_frame_pointer(frame, flags));
	if (flags & RING_CELL)
		bus__cell_value_free(
		    bus__cell_take(bus__ring_frame_pointer(frame, flags), &before));
	return before;
}

bool
bus__ring_evict(struct ring *r, const struct ring_item *item)
{
	uint64_t head, word, evicted = 0;
	unsigned spins = 0, frames = 0;
	uint32_t bytes = 0;
	bool room;

	while (!bus__ring_try_lock(r)) {
		if (++spins == RING_LOCK_SPINS)
			return false;
		bus__cpu_relax();
	}
	bus__ring_reclaim_held(r);
	head = atomic_load_explicit(&r->head, memory_order_relaxed);
	while (!(room = fits(r, item, head)) && frames < RING_TAKE_FRAMES &&
	       (bytes = bus__ring_committed_bytes(r, head, &word)) != 0) {
		unsigned flags = RING_WORD_FLAGS(word);

		if (!(flags & RING_PAD)) {
			r->lost_at_head =
			    bus__lost_sum(r->lost_at_head, evict_frame(r, head, word));
			evicted++;
		}
		bus__ring_clear(r, head, flags & RING_PAD ? 8 : bytes);
		head += bytes;
		frames++;
	}
	r->lost_at_head += evicted;
	atomic_store_explicit(&r->evicted,
	    atomic_load_explicit(&r->evicted, memory_order_relaxed) + evicted,
	    memory_order_relaxed);
	r->run = head;
	atomic_store_explicit(&r->out, head, memory_order_release);
	atomic_store_explicit(&r->head, head, memory_order_release);
	show_limit(r, read_limit(r, head),
	    atomic_load_explicit(&r->tail, memory_order_relaxed) & ~RING_FLAG_BITS);
	bus__ring_unlock(r);
	return room || frames > 0;
}

bool
bus__ring_starve(struct ring *r, const struct ring_item *item)
{
	bool room;

	bus__ring_lock(r);
	bus__ring_reclaim_held(r);
	room = fits(r, item, atomic_load_explicit(&r->head, memory_order_relaxed)) ||
	       (bus__ring_tail(r) & RING_CLOSED);
	r->starved |= !room;
	bus__ring_unlock(r);
	return room;
}
