#include "queue/block.h"

#include <stdbool.h>

#include "base/mem.h"

#define FIRST_CLASS ((size_t)2048)
#define CACHE_BYTES                                                                                \
	((size_t)256 << 10) /* what a pool keeps for later: the bound of a mailbox by default */

/* Stands in `back` of a closed pool: a thread that returns a block then frees it. */
static struct bus__block closed;

/* Of a whole block. */
static size_t
class_bytes(uint32_t size_class)
{
	return sizeof(struct bus__block) + (FIRST_CLASS << size_class);
}

/* The smallest class that has room; BUS__POOL_CLASSES: none. */
static uint32_t
class_of(size_t len)
{
	uint32_t size_class = 0;

	while (size_class < BUS__POOL_CLASSES && FIRST_CLASS << size_class < len)
		size_class++;
	return size_class;
}

struct bus__pool *
bus__pool_new(void)
{
	return bus__aligned(_Alignof(struct bus__pool), sizeof(struct bus__pool));
}

/* Sorts blocks that came back into the lists, or frees them when enough are kept. */
static void
keep(struct bus__pool *pool, struct bus__block *block, size_t most)
{
	while (block != NULL) {
		struct bus__block *next = block->next;
		size_t bytes = class_bytes(block->size_class);

		pool->out--;
		if (pool->cached + bytes > most) {
			bus__free(block);
		} else {
			block->next = pool->free[block->size_class];
			pool->free[block->size_class] = block;
			pool->cached += bytes;
		}
		block = next;
	}
}

void
bus__pool_close(struct bus__pool *pool)
{
	int32_t left;

	if (pool == NULL)
		return;
	keep(pool, atomic_exchange_explicit(&pool->back, &closed, memory_order_acq_rel), 0);
	for (uint32_t i = 0; i < BUS__POOL_CLASSES; i++)
		while (pool->free[i] != NULL) {
			struct bus__block *block = pool->free[i];

			pool->free[i] = block->next;
			bus__free(block);
		}
	left = (int32_t)pool->out;
	if (atomic_fetch_add_explicit(&pool->left, left, memory_order_acq_rel) + left == 0)
		bus__free(pool);
}

static struct bus__block *
take_free(struct bus__pool *pool, uint32_t size_class)
{
	struct bus__block *block = pool->free[size_class];

	if (block == NULL && atomic_load_explicit(&pool->back, memory_order_relaxed) != NULL) {
		keep(pool, atomic_exchange_explicit(&pool->back, NULL, memory_order_acquire),
		    CACHE_BYTES);
		block = pool->free[size_class];
	}
	if (block != NULL) {
		pool->free[size_class] = block->next;
		pool->cached -= class_bytes(size_class);
	}
	return block;
}

struct bus__block *
bus__block_new(struct bus__pool *pool, size_t len)
{
	uint32_t size_class = pool != NULL ? class_of(len) : BUS__POOL_CLASSES;
	struct bus__block *block = NULL;

	if (size_class == BUS__POOL_CLASSES)
		pool = NULL;
	else
		block = take_free(pool, size_class);
	if (block == NULL)
		block = bus__malloc(pool != NULL ? class_bytes(size_class) : sizeof *block + len);
	if (block == NULL)
		return NULL;
	atomic_init(&block->refs, 1);
	block->len = (uint32_t)len;
	block->pool = pool;
	block->size_class = size_class;
	if (pool != NULL)
		pool->out++;
	return block;
}

struct bus__block *
bus__block_ref(struct bus__block *block)
{
	/* Relaxed: the caller already holds a reference. */
	atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
	return block;
}

/* Whether that was the last reference. */
static bool
drop(struct bus__block *block)
{
	/* Ours is the last reference, and only a holder can add one: no need to write. */
	if (atomic_load_explicit(&block->refs, memory_order_acquire) == 1)
		return true;
	/* Release: this thread's reads are done. Acquire: the last holder sees that of all threads. */
	return atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1;
}

/* The pool has been closed: the blocks are freed one by one, and it with the last. */
static void
free_late(struct bus__pool *pool, struct bus__block *block)
{
	while (block != NULL) {
		struct bus__block *next = block->next;

		bus__free(block);
		if (atomic_fetch_sub_explicit(&pool->left, 1, memory_order_acq_rel) == 1)
			bus__free(pool);
		block = next;
	}
}

void
bus__chain_end(struct bus__chain *chain)
{
	struct bus__block *first = chain->first, *top;
	struct bus__pool *pool;

	if (first == NULL)
		return;
	chain->first = NULL;
	pool = first->pool;
	top = atomic_load_explicit(&pool->back, memory_order_relaxed);
	do {
		if (top == &closed) {
			chain->last->next = NULL;
			free_late(pool, first);
			return;
		}
		chain->last->next = top;
		/* Acquire on failure: pairs with the close of the pool. */
	} while (!atomic_compare_exchange_weak_explicit(
	    &pool->back, &top, first, memory_order_release, memory_order_acquire));
}

void
bus__block_unref_to(struct bus__block *block, struct bus__chain *chain)
{
	if (block == NULL || !drop(block))
		return;
	if (block->pool == NULL) {
		bus__free(block);
		return;
	}
	if (chain->first != NULL && chain->first->pool != block->pool)
		bus__chain_end(chain);
	block->next = chain->first;
	if (chain->first == NULL)
		chain->last = block;
	chain->first = block;
}

void
bus__block_unref(struct bus__block *block)
{
	struct bus__chain chain = {NULL, NULL};

	bus__block_unref_to(block, &chain);
	bus__chain_end(&chain);
}
