/* queue/block.h: a payload that several mailboxes share by counting, and the pools that blocks come from.
 *
 * A pool belongs to one publisher at a time: a handle, or a stripe of the bus. It keeps returned blocks
 * in lists by size. The thread that drops the last reference to a block pushes it onto `back`. Only the owner takes from it,
 * by an exchange of the whole list: no element can be seen twice, so no tags and no double-word CAS.
 *
 * Memory order, writer -> reader:
 *   refs   acq_rel decrement              -> the last one: all reads of the payload are over
 *          acquire load that sees 1       -> the same: no other thread has a reference to pass on
 *   back   release CAS of the pusher      -> acquire exchange of the owner: the links of the list
 *   left   acq_rel by both                -> the thread that brings it to 0 frees the pool, after all others */
#ifndef BUS_QUEUE_BLOCK_H
#define BUS_QUEUE_BLOCK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct bus__pool;

struct bus__block {
	_Atomic uint32_t refs;
	uint32_t len;
	struct bus__pool *pool; /* NULL: freed at once */
	union {
		struct bus__block *next; /* in a list of free ones, or of loans */
		uint64_t
		    changes; /* of a value that a topic keeps, which is in none: its version's */
	};
	uint32_t size_class;
	_Alignas(max_align_t) uint8_t data[];
};

enum { BUS__POOL_CLASSES = 6 }; /* payloads up to 2 KiB, 4, … 64 KiB; larger ones have no pool */

struct bus__pool {
	/* The owner's. */
	struct bus__block *free[BUS__POOL_CLASSES];
	size_t cached; /* bytes in free */
	uint32_t out;  /* blocks that are neither in free nor freed */
	/* Everybody's. */
	_Alignas(64) struct bus__block *_Atomic back;
	_Atomic int32_t left; /* blocks that the closed pool still waits for */
};

/* Blocks that were dropped one after the other, to be given back together. Begins as {0}. */
struct bus__chain {
	struct bus__block *first, *last;
};

/* Makes a pool. NULL: out of memory. Ends with bus__pool_close(), before or after its blocks. */
struct bus__pool *bus__pool_new(void);
void bus__pool_close(struct bus__pool *pool); /* NULL is fine */

/* Makes a block with one reference for len bytes. pool NULL: without one. Owner only. NULL: out of memory. */
struct bus__block *bus__block_new(struct bus__pool *pool, size_t len);

struct bus__block *bus__block_ref(struct bus__block *block);

/* Lets go of a reference; the last one ends the block. NULL is fine. */
void bus__block_unref(struct bus__block *block);

/* The same, but a block that goes back to the pool of those before it waits in *chain for bus__chain_end(). */
void bus__block_unref_to(struct bus__block *block, struct bus__chain *chain);
void bus__chain_end(struct bus__chain *chain);

#endif
