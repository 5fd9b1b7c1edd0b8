/* queue/latest.h: the newest value of one topic in one mailbox (BUS_FULL_LATEST).
 *
 * A publisher exchanges its value into the cell: wait-free. If the cell was empty it also puts a frame into the
 * ring that names the cell, so a cell has at most one frame there; if not, the value that was inside is replaced and
 * the frame on its way will find the newer one. The taker of the frame exchanges the value out when it reads it.
 *
 * Memory order, writer -> reader:
 *   value     acq_rel exchange by both   : the value behind the pointer; the thread that takes a pointer out owns it
 *   replaced  relaxed: a count that orders nothing. A replacement under way may be told by the value after. */
#ifndef BUS_QUEUE_LATEST_H
#define BUS_QUEUE_LATEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "queue/block.h"

struct ring_item;

struct cell_value {
	struct bus__block *block; /* a reference; NULL: the payload is in data */
	int64_t time_ns, expires_ns;
	uint64_t reply;
	uint32_t len, headers_len;
	uint16_t flags;
	uint8_t type;
	uint8_t data[];
};

struct cell {
	struct cell_value *_Atomic value; /* NULL: empty, and no frame names it */
	_Atomic uint64_t replaced;        /* since the last take */
};

/* Makes a value of an item; a block in it gets a reference more. NULL: out of memory. */
struct cell_value *bus__cell_value_new(const struct ring_item *item);

/* Frees a value; NULL is fine. */
void bus__cell_value_free(struct cell_value *value);

/* Stores a value. CELL_FIRST: the caller owes a frame. CELL_REPLACED: it replaced an older value. */
enum cell_answer { CELL_FIRST, CELL_REPLACED };
enum cell_answer bus__cell_put(struct cell *cell, struct cell_value *value);

/* Stores a value if there is none. false: there is one, and the caller keeps its own. */
bool bus__cell_put_first(struct cell *cell, struct cell_value *value);

/* Takes the value out, for the caller to free, and adds the count of replaced values to *lost. */
struct cell_value *bus__cell_take(struct cell *cell, uint64_t *lost);

#endif
