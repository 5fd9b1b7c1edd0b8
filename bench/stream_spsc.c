/* bench/stream_spsc.c: the reference: a ring of 64-byte slots between one publisher and one receiver, each with
 * its own copy of the other's index. No wake-up, no allocation, no topics: what is left is the transfer. */
#include "stream.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_MOST 64 /* slots until the publisher may have them back */

struct ring {
	_Alignas(128) _Atomic uint64_t tail;
	uint64_t head_seen; /* the publisher's copy */
	_Alignas(128) _Atomic uint64_t head;
	_Alignas(128) uint64_t mask;
	struct slot {
		_Alignas(STREAM_SMALL) char bytes[STREAM_SMALL];
	} * slots;
};

static void *
open_ring(struct stream *s)
{
	struct ring *r = aligned_alloc(128, sizeof *r);

	if (s->payload != STREAM_SMALL || r == NULL)
		bench_die("opening a ring");
	atomic_init(&r->tail, 0);
	atomic_init(&r->head, 0);
	r->head_seen = 0;
	r->mask = STREAM_SLOTS - 1;
	r->slots = aligned_alloc(128, STREAM_SLOTS * sizeof *r->slots);
	if (r->slots == NULL)
		bench_die("aligned_alloc");
	memset(r->slots, 0, STREAM_SLOTS * sizeof *r->slots);
	return r;
}

static void
close_ring(void *self)
{
	struct ring *r = self;

	free(r->slots);
	free(r);
}

STREAM_INLINE void
await_room(struct stream *s, struct ring *r, uint64_t end)
{
	unsigned waited = 0;

	while (end - r->head_seen > r->mask + 1) {
		r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
		if (end - r->head_seen > r->mask + 1)
			stream_wait(s, &waited);
	}
}

STREAM_INLINE void
push(struct stream *s, struct ring *r, const void *items, size_t count)
{
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	await_room(s, r, tail + count);
	for (size_t i = 0; i < count; i++)
		memcpy(&r->slots[(tail + i) & r->mask], (const char *)items + i * STREAM_SMALL,
		    STREAM_SMALL);
	atomic_store_explicit(&r->tail, tail + count, memory_order_release);
}

/* Runs the callback on what is there, in place. */
STREAM_INLINE bool
drain(struct stream *s, struct ring *r, struct stream_receiver *receiver)
{
	uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);

	if (head == tail)
		return false;
	if (tail - head > DRAIN_MOST)
		tail = head + DRAIN_MOST;
	for (; head != tail; head++)
		s->callback(receiver, &r->slots[head & r->mask]);
	atomic_store_explicit(&r->head, head, memory_order_release);
	return true;
}

/* --- one ring ----------------------------------------------------------------------------------------------- */

STREAM_INLINE void
send_one(struct stream *s, void *self, unsigned publisher, const void *data)
{
	(void)publisher;
	push(s, self, data, 1);
}

static void
publish_one(struct stream *s, void *self, unsigned publisher)
{
	stream_publish(s, self, publisher, send_one);
}

STREAM_INLINE void
send_batch(struct stream *s, void *self, unsigned publisher, const void *items, size_t count)
{
	(void)publisher;
	push(s, self, items, count);
}

static void
publish_batch(struct stream *s, void *self, unsigned publisher)
{
	stream_publish_batches(s, self, publisher, send_batch);
}

static void
receive_one(struct stream *s, void *self, unsigned receiver)
{
	unsigned waited = 0;

	while (!stream_done(s, receiver))
		if (drain(s, self, &s->receivers[receiver]))
			waited = 0;
		else
			stream_wait(s, &waited);
}

const struct stream_peer stream_spsc = {
    .open = open_ring, .publish = publish_one, .receive = receive_one, .close = close_ring};
const struct stream_peer stream_spsc_batch = {
    .open = open_ring, .publish = publish_batch, .receive = receive_one, .close = close_ring};
