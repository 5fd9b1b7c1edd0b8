/* queue/block.h: a payload that several mailboxes share by counting. */
#ifndef BUS_QUEUE_BLOCK_H
#define BUS_QUEUE_BLOCK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct bus__block {
	_Atomic uint32_t refs;
	uint32_t len;
	uint8_t data[];
};

/* Makes a block with one reference and copies len bytes in. NULL: out of memory. */
struct bus__block *bus__block_new(const void *data, size_t len);

struct bus__block *bus__block_ref(struct bus__block *block);

/* Frees the block with its last reference; NULL is fine. */
void bus__block_unref(struct bus__block *block);

#endif
