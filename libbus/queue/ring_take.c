/* queue/ring_take.c: the taker's side of a ring: copies frames out into a batch, reads them, and frees what they own. */
#include "queue/ring.h"

#include "queue/ring_frame.h"

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

bool
bus__ring_reclaim(struct ring *r)
{
	bool had;

	if (bus__ring_out(r) == bus__ring_head(r) || !bus__ring_try_lock(r))
		return false;
	had = bus__ring_out(r) != bus__ring_head(r);
	bus__ring_reclaim_held(r);
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

	bus__ring_reclaim_held(r);
	position = atomic_load_explicit(&r->out, memory_order_relaxed);
	for (;;) {
		word = atomic_load_explicit(bus__ring_word_at(r, position), memory_order_acquire);
		if (!(RING_WORD_FLAGS(word) & RING_PAD))
			break;
		bus__ring_clear(r, position, 8);
		position += RING_WORD_LEN(word);
	}
	/* A run of frames without a gap: found word by word, copied and cleared in one piece. */
	begin = at = r->bytes + (position & r->mask);
	stop = at + RING_TAKE_BYTES;
	if (stop > r->bytes + r->size)
		stop = r->bytes + r->size;
	while (word != 0) {
		if (RING_WORD_FLAGS(word) == RING_COMMITTED) {
			at += bus__ring_small_bytes(RING_WORD_LEN(word));
		} else if (RING_WORD_FLAGS(word) & RING_PAD) {
			break;
		} else {
			if (RING_WORD_FLAGS(word) & (RING_BLOCK | RING_CELL)) {
				block_bytes += RING_WORD_LEN(word);
				owns = true;
			}
			at += bus__ring_frame_bytes(RING_WORD_FLAGS(word), RING_WORD_LEN(word));
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

/* --- a batch --------------------------------------------------------------------------------------------- */

/* Takes the newest value out of a cell, which may be newer than its frame. The frame owns it from here on. */
static void
read_cell(uint8_t *frame, uint8_t *at, struct ring_view *v)
{
	struct cell_value *value =
	    bus__cell_take(bus__ring_frame_pointer(frame, v->flags), &v->lost);
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
	v->position = UINT64_MAX; /* newer than its frame, so newer subscriptions get it too */
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
	if (flags & RING_PASSED) {
		v->passed = at;
		at += sizeof(struct bus__passed);
	}
	v->data = at;
	if (flags & RING_BLOCK)
		v->data = ((struct bus__block *)bus__ring_frame_pointer(frame, flags))->data;
	if (flags & RING_CELL)
		read_cell(frame, at, v);
	if (v->flags & RING_HEADERS)
		v->len -= v->headers_len;
}

void
bus__ring_release_frame(const uint8_t *frame, unsigned flags, struct bus__chain *chain)
{
	uint64_t lost =
	    0; /* dropped: the caller that discards unread frames counts them as a whole */

	if (flags & RING_BLOCK)
		bus__block_unref_to(bus__ring_frame_pointer(frame, flags), chain);
	if (flags & RING_OUT)
		bus__cell_value_free(bus__ring_frame_pointer(frame, flags));
	else if (flags & RING_CELL)
		bus__cell_value_free(bus__cell_take(bus__ring_frame_pointer(frame, flags), &lost));
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
		bus__ring_release_frame(batch->bytes + offset, RING_WORD_FLAGS(word), &chain);
		offset += bus__ring_bytes_of(RING_WORD_FLAGS(word), RING_WORD_LEN(word));
	}
	bus__chain_end(&chain);
	batch->owns = false;
}
