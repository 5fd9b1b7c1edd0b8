/* ring_model.h: a ring small enough for a model. */
#ifndef MODELS_RING_MODEL_H
#define MODELS_RING_MODEL_H

#include "model.h"
#include "queue/ring.h"

/* Makes a ring of `size` bytes, which may be less than RING_MIN_BYTES: the same text works on 64. */
void model_ring_init(struct ring *r, uint64_t size, uint64_t start);
void model_ring_fini(struct ring *r);

/* A message that says who sent it and which of his it is, by its route and by its payload of 8 bytes, if it has one;
 * its frame is 24 or 16 bytes long. */
struct ring_item model_item(const uint64_t *value);
struct ring_item model_empty_item(const uint64_t *value);
#define model_value(producer, number) ((uint64_t)(producer) << 8 | (uint64_t)(number))

/* For a producer that found it full: clears what was taken out, or lets others go on. */
void model_await_room(struct ring *r);

/* The memory behind a batch, for a static initializer. */
#define MODEL_BATCH                                                                                \
	{                                                                                          \
		.bytes = (uint8_t *)(uint64_t[RING_BATCH_BYTES / 8])                               \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}

/* Takes out under the head lock. */
uint32_t model_take(struct ring *r, struct ring_batch *batch);

/* What arrives, checked: whole, and each producer's in order. */
struct model_seen {
	uint64_t next[MODEL_THREADS], delivered, lost;
};
void model_see(struct model_seen *seen, struct ring_batch *batch);

#endif
