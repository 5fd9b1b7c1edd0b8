#include "queue/block.h"

#include <string.h>

#include "base/mem.h"

struct bus__block *
bus__block_new(const void *data, size_t len)
{
	struct bus__block *block = bus__malloc(sizeof *block + len);

	if (block == NULL)
		return NULL;
	atomic_init(&block->refs, 1);
	block->len = (uint32_t)len;
	if (len > 0)
		memcpy(block->data, data, len);
	return block;
}

struct bus__block *
bus__block_ref(struct bus__block *block)
{
	/* Relaxed: whoever adds one already has one. */
	atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
	return block;
}

void
bus__block_unref(struct bus__block *block)
{
	if (block == NULL)
		return;
	/* Release: my reads are done. Acquire: the last one sees that of everybody. */
	if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1)
		bus__free(block);
}
