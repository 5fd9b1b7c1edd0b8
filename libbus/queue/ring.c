#include "queue/ring.h"

#include <assert.h>
#include <sched.h>

#include <libbus/error.h>

#include "base/mem.h"
#include "base/thread.h"

#define LOCK_SPINS    200
#define WORD_LEN(w)   ((uint32_t)(w))
#define WORD_FLAGS(w) ((uint16_t)((w) >> 32))

static inline uint32_t
extension_bytes(unsigned flags)
{
	return 8 * (uint32_t)__builtin_popcount(flags & RING_EXTENSIONS);
}

uint32_t
bus__ring_frame_bytes(unsigned flags, uint32_t len)
{
	uint32_t payload = flags & (RING_BLOCK | RING_CELL) ? (uint32_t)sizeof(uint64_t) : len;

	return (RING_FRAME_HEAD + extension_bytes(flags) + payload + 7) & ~7u;
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
	/* A ring costs memory as it fills. calloc() clears what malloc has had before, and so touches all of it. */
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

/* Where claims of payload bytes must end: behind head by the size, less what blocks hold. */
static uint64_t
read_limit(const struct ring *r, uint64_t head)
{
	uint64_t blocks = atomic_load_explicit(&r->block_bytes, memory_order_relaxed);

	return head + (blocks < r->size ? r->size - blocks : 0);
}

/* Shows a limit, but none beyond the end of the buffer as it lies before `position`, where tail was seen: tail only
 * grows, so whoever trusts the limit cannot claim across that end. */
static void
show_limit(struct ring *r, uint64_t limit, uint64_t position)
{
	uint64_t end = (position | r->mask) + 1;

	if ((int64_t)(end - limit) < 0)
		limit = end;
	/* Release: pairs with the acquire of whoever trusts it; the taker's zeroing goes with it. */
	atomic_store_explicit(&r->limit, limit, memory_order_release);
}

/* Whether the payload is elsewhere, and counts into the bound all the same. */
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
	/* Producers that trust the old limit may still overshoot the bound by what they are putting. */
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
	bytes = bus__ring_frame_bytes(flags, item->len);
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

			/* The bytes of a block were weighed in reserve_block(); its frame needs only room. */
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
		if (++spins % LOCK_SPINS == 0)
			sched_yield(); /* the holder was preempted: it needs the CPU more than we do */
		bus__cpu_relax();
	}
}

void
bus__ring_unlock(struct ring *r)
{
	atomic_store_explicit(&r->head_lock, 0, memory_order_release);
}

bool
bus__ring_ready(struct ring *r, unsigned looks)
{
	const _Atomic uint64_t *word =
	    bus__ring_word_at(r, atomic_load_explicit(&r->out, memory_order_relaxed));

	while (atomic_load_explicit(word, memory_order_relaxed) == 0)
		if (looks-- <= 1)
			return false;
	return true;
}

/* The pointer in the place of the payload. */
static void *
frame_pointer(const uint8_t *frame, unsigned flags)
{
	uint64_t pointer;

	memcpy(&pointer, frame + RING_FRAME_HEAD + extension_bytes(flags), sizeof pointer);
	return (void *)(uintptr_t)pointer;
}

/* What the committed frame at `position` occupies; 0: not committed. */
static inline uint32_t
committed_bytes(const struct ring *r, uint64_t position, uint64_t *ret_word)
{
	uint64_t word = atomic_load_explicit(bus__ring_word_at(r, position), memory_order_acquire);
	unsigned flags = WORD_FLAGS(word);

	*ret_word = word;
	if (word == 0)
		return 0;
	if (!(flags & (RING_PAD | RING_MORE)))
		return bus__ring_small_bytes(WORD_LEN(word));
	return flags & RING_PAD ? WORD_LEN(word) : bus__ring_frame_bytes(flags, WORD_LEN(word));
}

/* Makes bytes zero again, so that the next lap finds "not committed" at every possible frame start. Of a gap only
 * its word was ever written. */
static void
clear(struct ring *r, uint64_t position, uint32_t bytes)
{
	uint8_t *at = r->bytes + (position & r->mask), *end = at + bytes;

	/* Pieces of a fixed size become stores; the calls and string instructions for others start slowly. */
	for (; end - at >= 64; at += 64)
		memset(at, 0, 64);
	for (; at < end; at += 8)
		memset(at, 0, 8);
}

/* Frees what was copied out. Head lock held. */
static void
reclaim(struct ring *r)
{
	uint64_t out = atomic_load_explicit(&r->out, memory_order_relaxed);

	if (atomic_load_explicit(&r->head, memory_order_relaxed) == out)
		return;
	clear(r, r->run, (uint32_t)(out - r->run));
	r->run = out;
	/* The bytes are free and zero: pairs with the acquire of head in put. */
	atomic_store_explicit(&r->head, out, memory_order_release);
}

bool
bus__ring_reclaim(struct ring *r)
{
	bool had;

	if (bus__ring_out(r) == bus__ring_head(r) || !bus__ring_try_lock(r))
		return false;
	had = bus__ring_out(r) != bus__ring_head(r);
	reclaim(r);
	bus__ring_unlock(r);
	return had;
}

uint32_t
bus__ring_take(struct ring *r, struct ring_batch *batch, uint32_t most)
{
	uint64_t position, block_bytes = 0, word;
	const uint8_t *at, *begin, *stop;
	uint32_t used, count = 0;
	bool owns = false;

	reclaim(r);
	position = atomic_load_explicit(&r->out, memory_order_relaxed);
	for (;;) {
		word = atomic_load_explicit(bus__ring_word_at(r, position), memory_order_acquire);
		if (!(WORD_FLAGS(word) & RING_PAD))
			break;
		clear(r, position, 8);
		position += WORD_LEN(word);
	}
	/* A run of frames without a gap: found word by word, then copied and cleared in one piece. */
	begin = at = r->bytes + (position & r->mask);
	stop = at + RING_TAKE_BYTES;
	if (stop > r->bytes + r->size)
		stop = r->bytes + r->size;
	while (word != 0) {
		if (WORD_FLAGS(word) == RING_COMMITTED) {
			at += bus__ring_small_bytes(WORD_LEN(word));
		} else if (WORD_FLAGS(word) & RING_PAD) {
			break;
		} else {
			if (WORD_FLAGS(word) & (RING_BLOCK | RING_CELL)) {
				block_bytes += WORD_LEN(word);
				owns = true;
			}
			at += bus__ring_frame_bytes(WORD_FLAGS(word), WORD_LEN(word));
		}
		if (++count == most || at >= stop)
			break;
		word = atomic_load_explicit(
		    (const _Atomic uint64_t *)(const void *)at, memory_order_acquire);
	}
	used = (uint32_t)(at - begin);
	batch->lost = 0;
	if (count > 0) {
		memcpy(batch->bytes, begin, used);
		batch->lost = r->lost_at_head;
		r->lost_at_head = 0;
		atomic_store_explicit(&r->taken,
		    atomic_load_explicit(&r->taken, memory_order_relaxed) + count,
		    memory_order_relaxed);
	}
	batch->count = count;
	batch->used = used;
	batch->owns = owns;
	batch->begin = position;
	batch->end = position + used;
	if (block_bytes != 0)
		atomic_fetch_sub_explicit(&r->block_bytes, block_bytes, memory_order_relaxed);
	r->run = position;
	atomic_store_explicit(&r->out, batch->end, memory_order_release);
	return count;
}

/* Whether a claim for this item would succeed with head where it is. */
static bool
fits(const struct ring *r, const struct ring_item *item, uint64_t head)
{
	uint64_t position = atomic_load_explicit(&r->tail, memory_order_relaxed) & ~RING_FLAG_BITS;
	unsigned flags = flags_of(item) | RING_LOST;
	uint32_t bytes = bus__ring_frame_bytes(flags, item->len);
	uint64_t pad = r->size - (position & r->mask);
	uint64_t blocks = atomic_load_explicit(&r->block_bytes, memory_order_relaxed);
	uint64_t used;

	if (pad >= bytes)
		pad = 0;
	used = position + pad + bytes - head;
	if (used > r->size)
		return false;
	/* Nothing owns blocks: claims count them that will fail, and give no sign. */
	if (position == head)
		return true;
	if (is_elsewhere(item))
		return position - head + blocks + item->len <= r->size;
	return used + blocks <= r->size;
}

/* Lets go of what a frame owns. Returns what it knew of earlier losses, which go on with its own. */
static uint64_t
evict_frame(struct ring *r, uint64_t position, uint64_t word)
{
	const uint8_t *frame = r->bytes + (position & r->mask);
	unsigned flags = WORD_FLAGS(word);
	uint64_t before = 0;

	if (flags & RING_LOST)
		memcpy(&before, frame + RING_FRAME_HEAD, 8);
	if (flags & (RING_BLOCK | RING_CELL))
		atomic_fetch_sub_explicit(&r->block_bytes, WORD_LEN(word), memory_order_relaxed);
	if (flags & RING_BLOCK)
		bus__block_unref(frame_pointer(frame, flags));
	if (flags & RING_CELL)
		bus__cell_value_free(bus__cell_take(frame_pointer(frame, flags), &before));
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
		if (++spins == LOCK_SPINS)
			return false;
		bus__cpu_relax();
	}
	reclaim(r);
	head = atomic_load_explicit(&r->head, memory_order_relaxed);
	while (!(room = fits(r, item, head)) && frames < RING_TAKE_FRAMES &&
	       (bytes = committed_bytes(r, head, &word)) != 0) {
		unsigned flags = WORD_FLAGS(word);

		if (!(flags & RING_PAD)) {
			r->lost_at_head =
			    bus__lost_sum(r->lost_at_head, evict_frame(r, head, word));
			evicted++;
		}
		clear(r, head, flags & RING_PAD ? 8 : bytes);
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
	reclaim(r);
	room = fits(r, item, atomic_load_explicit(&r->head, memory_order_relaxed)) ||
	       (bus__ring_tail(r) & RING_CLOSED);
	r->starved |= !room;
	bus__ring_unlock(r);
	return room;
}

/* The newest value of a cell, however long its frame was under way; from here on the frame owns it. */
static void
read_cell(uint8_t *frame, uint8_t *at, struct ring_view *v)
{
	struct cell_value *value = bus__cell_take(frame_pointer(frame, v->flags), &v->lost);
	uint64_t word = bus__ring_word(v->len, v->flags | RING_OUT, v->type);
	uint64_t pointer = (uintptr_t)value;

	memcpy(at, &pointer, 8);
	memcpy(frame, &word, 8);
	v->data = value->block != NULL ? value->block->data : value->data;
	v->len = value->len;
	v->flags = value->flags | RING_CELL;
	v->type = value->type;
	v->time_ns = value->time_ns;
	v->expires_ns = value->expires_ns;
	v->headers_len = value->headers_len;
	v->reply = value->reply;
	v->position =
	    UINT64_MAX; /* newer than its frame: for subscriptions that came meanwhile too */
}

void
bus__ring_read_more(uint8_t *frame, struct ring_view *v)
{
	uint8_t *at = frame + RING_FRAME_HEAD;
	unsigned flags = v->flags;
	uint64_t lost, target, headers;

	if (flags & RING_LOST) {
		memcpy(&lost, at, 8);
		v->lost = bus__lost_sum(v->lost, lost);
		at += 8;
	}
	if (flags & RING_TARGET) {
		memcpy(&target, at, 8);
		v->target = (void *)(uintptr_t)target;
		at += 8;
	}
	if (flags & RING_TIME) {
		memcpy(&v->time_ns, at, 8);
		at += 8;
	}
	if (flags & RING_TTL) {
		memcpy(&v->expires_ns, at, 8);
		at += 8;
	}
	if (flags & RING_HEADERS) {
		memcpy(&headers, at, 8);
		v->headers_len = (uint32_t)headers;
		at += 8;
	}
	if (flags & RING_REPLY) {
		memcpy(&v->reply, at, 8);
		at += 8;
	}
	v->data = at;
	if (flags & RING_BLOCK)
		v->data = ((struct bus__block *)frame_pointer(frame, flags))->data;
	if (flags & RING_CELL)
		read_cell(frame, at, v);
	if (v->flags & RING_HEADERS)
		v->len -= v->headers_len;
}

static void
release_frame(const uint8_t *frame, unsigned flags, struct bus__chain *chain)
{
	uint64_t lost = 0; /* told nobody: whoever discards unread frames counts them as a whole */

	if (flags & RING_BLOCK)
		bus__block_unref_to(frame_pointer(frame, flags), chain);
	if (flags & RING_OUT)
		bus__cell_value_free(frame_pointer(frame, flags));
	else if (flags & RING_CELL)
		bus__cell_value_free(bus__cell_take(frame_pointer(frame, flags), &lost));
}

void
bus__ring_release(struct ring_batch *batch)
{
	struct bus__chain chain = {NULL, NULL};

	if (!batch->owns)
		return;
	for (uint32_t offset = 0; offset < batch->used;) {
		uint64_t word;

		memcpy(&word, batch->bytes + offset, 8);
		release_frame(batch->bytes + offset, WORD_FLAGS(word), &chain);
		offset += bus__ring_frame_bytes(WORD_FLAGS(word), WORD_LEN(word));
	}
	bus__chain_end(&chain);
	batch->owns = false;
}

bool
bus__ring_sleep(struct ring *r)
{
	uint64_t head, expected;

	/* A plain look first: the CAS takes the line away from the producers. */
	if (!bus__ring_empty(r))
		return false;
	bus__ring_lock(r);
	reclaim(r);
	head = expected = bus__ring_head(r);
	bus__ring_unlock(r);
	return atomic_compare_exchange_strong_explicit(
	    &r->tail, &expected, head | RING_ASLEEP, memory_order_acq_rel, memory_order_relaxed);
}

bool
bus__ring_fall_asleep(struct ring *r)
{
	/* A read-modify-write even to see it. */
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
	/* Relaxed: a producer looks at what was changed meanwhile only when it ends a sleep, and bus__ring_sleep() releases. */
	atomic_fetch_and_explicit(&r->tail, ~(uint64_t)RING_CLOSED, memory_order_relaxed);
}

uint64_t
bus__ring_count(const struct ring *r)
{
	uint64_t position = atomic_load_explicit(&r->out, memory_order_relaxed);
	uint64_t end = bus__ring_tail(r) & ~RING_FLAG_BITS, count = 0, word;
	uint32_t bytes;

	while (position != end && (bytes = committed_bytes(r, position, &word)) != 0) {
		if (!(WORD_FLAGS(word) & RING_PAD))
			count++;
		position += bytes;
	}
	return count;
}

void
bus__ring_fini(struct ring *r)
{
	uint64_t position = atomic_load_explicit(&r->out, memory_order_relaxed), word;
	uint64_t end = bus__ring_tail(r) & ~RING_FLAG_BITS;
	struct bus__chain chain = {NULL, NULL};
	uint32_t bytes;

	while (position != end && (bytes = committed_bytes(r, position, &word)) != 0) {
		release_frame(r->bytes + (position & r->mask), WORD_FLAGS(word), &chain);
		position += bytes;
	}
	bus__chain_end(&chain);
	bus__pages_free(r->bytes, (size_t)r->size);
}
