#include "push/queue.h"

#include <string.h>

#include "base/mem.h"

enum { FIRST = 8 };

static struct frame **
place(const struct queue *queue, uint32_t i)
{
	return &queue->frames[(queue->head + i) & (queue->cap - 1)];
}

static bool
grow(struct queue *queue)
{
	uint32_t cap = queue->cap != 0 ? 2 * queue->cap : FIRST;
	struct frame **frames = bus__malloc(cap * sizeof *frames);

	if (frames == NULL)
		return false;
	for (uint32_t i = 0; i < queue->count; i++)
		frames[i] = *place(queue, i);
	bus__free(queue->frames);
	queue->frames = frames;
	queue->cap = cap;
	queue->head = 0;
	return true;
}

bool
bus__queue_add(struct queue *queue, struct frame *frame)
{
	if (queue->count == queue->cap && !grow(queue))
		return false;
	*place(queue, queue->count) = bus__frame_ref(frame);
	queue->count++;
	queue->bytes += frame->cost;
	return true;
}

struct frame *
bus__queue_at(const struct queue *queue, uint32_t i)
{
	return *place(queue, i);
}

struct frame *
bus__queue_take(struct queue *queue)
{
	struct frame *frame = *place(queue, 0);

	queue->head = (queue->head + 1) & (queue->cap - 1);
	queue->count--;
	queue->bytes -= frame->cost;
	if (queue->count == 0)
		bus__queue_clear(queue);
	return frame;
}

bool
bus__queue_drop(struct queue *queue, const struct frame *newer)
{
	for (uint32_t i = queue->count; i-- > 0;) {
		struct frame *frame = *place(queue, i);

		if (frame->topic == NULL || frame->hash != newer->hash ||
		    strcmp(frame->topic, newer->topic) != 0)
			continue;
		for (; i + 1 < queue->count; i++)
			*place(queue, i) = *place(queue, i + 1);
		queue->count--;
		queue->bytes -= frame->cost;
		bus__frame_unref(frame);
		return true;
	}
	return false;
}

void
bus__queue_clear(struct queue *queue)
{
	while (queue->count > 0) {
		bus__frame_unref(*place(queue, 0));
		queue->head = (queue->head + 1) & (queue->cap - 1);
		queue->count--;
	}
	bus__free(queue->frames);
	*queue = (struct queue){.frames = NULL};
}
