#include "queue/latest.h"

#include "base/mem.h"
#include "queue/ring.h"

struct cell_value *
bus__cell_value_new(const struct ring_item *item)
{
	size_t here = item->block == NULL ? item->len : 0;
	struct cell_value *value = bus__malloc(sizeof *value + here);

	if (value == NULL)
		return NULL;
	value->block = item->block != NULL ? bus__block_ref(item->block) : NULL;
	value->time_ns = item->time_ns;
	value->expires_ns = item->expires_ns;
	value->len = item->len;
	value->headers_len = item->headers_len;
	value->reply = item->reply;
	value->flags = item->flags;
	value->type = item->type;
	if (here > 0)
		bus__ring_item_copy(value->data, item);
	return value;
}

void
bus__cell_value_free(struct cell_value *value)
{
	if (value == NULL)
		return;
	bus__block_unref(value->block);
	bus__free(value);
}

enum cell_answer
bus__cell_put(struct cell *cell, struct cell_value *value)
{
	struct cell_value *old =
	    atomic_exchange_explicit(&cell->value, value, memory_order_acq_rel);

	if (old == NULL)
		return CELL_FIRST;
	bus__cell_value_free(old);
	atomic_fetch_add_explicit(&cell->replaced, 1, memory_order_relaxed);
	return CELL_REPLACED;
}

bool
bus__cell_put_first(struct cell *cell, struct cell_value *value)
{
	struct cell_value *none = NULL;

	return atomic_compare_exchange_strong_explicit(
	    &cell->value, &none, value, memory_order_acq_rel, memory_order_relaxed);
}

struct cell_value *
bus__cell_take(struct cell *cell, uint64_t *lost)
{
	struct cell_value *value =
	    atomic_exchange_explicit(&cell->value, NULL, memory_order_acq_rel);

	*lost += atomic_exchange_explicit(&cell->replaced, 0, memory_order_relaxed);
	return value;
}
