/* bus/kept.c: a message that a topic keeps: made of an item, charged to the peer that sent it, and freed. */
#include <string.h>

#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/keep.h"

struct kept *
bus__kept_new(const struct ring_item *item)
{
	struct kept *kept = bus__calloc(1, sizeof *kept);

	if (kept == NULL)
		return NULL;
	/* It lives long, so it takes no block of a pool. */
	kept->block = bus__block_new(NULL, item->len);
	if (kept->block == NULL) {
		bus__free(kept);
		return NULL;
	}
	if (item->block != NULL)
		memcpy(kept->block->data, item->block->data, item->len);
	else
		bus__ring_item_copy(kept->block->data, item);
	kept->expires_ns = item->flags & RING_TTL ? item->expires_ns : 0;
	kept->headers_len = item->headers_len;
	kept->type = item->type;
	kept->retained = item->flags & RING_RETAIN;
	return kept;
}

static size_t
kept_bytes(const struct kept *kept)
{
	return bus__held(sizeof *kept) + bus__held(sizeof *kept->block + kept->block->len);
}

int
bus__kept_charge(const struct topic *topic, struct kept *kept, struct bus__account *account)
{
	const struct history *h = topic->history;
	const struct kept *oldest = h != NULL && h->count >= h->most ? h->first : NULL;
	size_t bytes = kept_bytes(kept), freed = 0;
	bool forgets = kept->retained && kept->block->len == kept->headers_len;

	if (account == NULL)
		return 0;
	if (oldest != NULL && oldest->account == account)
		freed = kept_bytes(oldest);
	if (!forgets && bus__account_is_full(account, bytes, freed))
		return BUS_E_LIMIT;
	kept->account = account;
	bus__account_add(account, bytes);
	return 0;
}

void
bus__kept_free(struct kept *list)
{
	while (list != NULL) {
		struct kept *kept = list;

		list = kept->next;
		if (kept->account != NULL)
			bus__account_sub(kept->account, kept_bytes(kept));
		bus__block_unref(kept->block);
		bus__free(kept);
	}
}
