#include "ring_model.h"

void
model_ring_init(struct ring *r, uint64_t size, uint64_t start)
{
	model_check(bus__ring_init(r, RING_MIN_BYTES, start) == 0);
	r->size = size;
	r->mask = size - 1;
	atomic_init(&r->limit, (start | r->mask) + 1);
	model_share("ring", r, sizeof *r);
	model_share("tail", &r->tail, sizeof r->tail);
	model_share("limit", &r->limit, sizeof r->limit);
	model_share("lost_at_tail", &r->lost_at_tail, sizeof r->lost_at_tail);
	model_share("block_bytes", &r->block_bytes, sizeof r->block_bytes);
	model_share("head", &r->head, sizeof r->head);
	model_share("out", &r->out, sizeof r->out);
	model_share("head_lock", &r->head_lock, sizeof r->head_lock);
	model_share("lost_at_head", &r->lost_at_head, sizeof r->lost_at_head);
	model_share("bytes", r->bytes, size);
}

void
model_ring_fini(struct ring *r)
{
	bus__ring_fini(r);
}

struct ring_item
model_item(const uint64_t *value)
{
	return (struct ring_item){
	    .route = (void *)(uintptr_t)(*value + 1), .data = value, .len = 8};
}

struct ring_item
model_empty_item(const uint64_t *value)
{
	return (struct ring_item){.route = (void *)(uintptr_t)(*value + 1)};
}

void
model_await_room(struct ring *r)
{
	if (!bus__ring_reclaim(r))
		sched_yield();
}

uint32_t
model_take(struct ring *r, struct ring_batch *batch)
{
	uint32_t count;

	bus__ring_lock(r);
	count = bus__ring_take(r, batch, RING_TAKE_FRAMES);
	bus__ring_unlock(r);
	return count;
}

void
model_see(struct model_seen *seen, struct ring_batch *batch)
{
	struct ring_view view;
	uint32_t offset = 0;
	uint64_t value;

	seen->lost += batch->lost;
	for (uint32_t i = 0; i < batch->count; i++) {
		bus__ring_read(batch, &offset, &view);
		value = (uintptr_t)view.route - 1;
		model_check(view.len == 0 || (view.len == 8 && memcmp(view.data, &value, 8) == 0));
		model_check(value >> 8 < MODEL_THREADS);
		model_check((value & 255) >= seen->next[value >> 8]);
		seen->next[value >> 8] = (value & 255) + 1;
		seen->delivered++;
		seen->lost += view.lost;
	}
}
