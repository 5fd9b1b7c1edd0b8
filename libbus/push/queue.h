/* push/queue.h: the events that wait for one page, in order and bounded. */
#ifndef BUS_PUSH_QUEUE_H
#define BUS_PUSH_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "push/frame.h"

/* A ring of references. Empty, it has no memory. */
struct queue {
	struct frame **frames;
	uint32_t cap, head, count; /* cap: a power of two, or 0 */
	uint64_t bytes;            /* of memory: the cost of its frames */
};

/* Adds a frame at the end, and takes a reference. false: out of memory. */
bool bus__queue_add(struct queue *queue, struct frame *frame);

/* The i-th from the front. */
struct frame *bus__queue_at(const struct queue *queue, uint32_t i);

/* Takes the first one out. The caller owns the reference. */
struct frame *bus__queue_take(struct queue *queue);

/* Drops a waiting frame with the topic of a newer frame. The caller adds the newer one at the end, so that ids stay in order.
 * false: there is none. */
bool bus__queue_drop(struct queue *queue, const struct frame *newer);

void bus__queue_clear(struct queue *queue);

#endif
