/* bus/history.c: a topic's kept messages: stores a published one, and gives them to later subscriptions and peers. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/keep.h"
#include "bus/keep_parts.h"

/* --- its messages ----------------------------------------------------------------------------------------------------- */

int
bus__history_make(struct topic *topic)
{
	if (topic->history != NULL)
		return 0;
	topic->history = bus__calloc(1, sizeof *topic->history);
	if (topic->history == NULL)
		return BUS_E_NOMEM;
	topic->history->most = 1;
	topic->history->most_bytes = UINT64_MAX;
	return 0;
}

void
bus__history_free(struct topic *topic)
{
	/* A living mark keeps its topic. So this history has none, or the bus has ended. */
	if (topic->history == NULL)
		return;
	bus__kept_free(topic->history->first);
	bus__free(topic->history);
}

/* Moves the oldest message to a list. */
static void
drop_oldest(struct history *h, struct kept **list)
{
	struct kept *kept = h->first;

	h->first = kept->next;
	if (h->first == NULL)
		h->last = NULL;
	if (h->value == kept)
		h->value = NULL;
	h->count--;
	h->mortal -= kept->expires_ns != 0;
	h->bytes -= kept->block->len;
	kept->next = *list;
	*list = kept;
}

/* Drops the oldest beyond the bounds. The newest stays, whatever its size. */
static void
trim(struct history *h, struct kept **list)
{
	while (h->count > h->most || (h->bytes > h->most_bytes && h->count > 1))
		drop_oldest(h, list);
}

static void
append(struct history *h, struct kept *kept)
{
	if (h->last != NULL)
		h->last->next = kept;
	else
		h->first = kept;
	h->last = kept;
	h->count++;
	h->mortal += kept->expires_ns != 0;
	h->bytes += kept->block->len;
}

/* Drops expired messages, wherever they stand. */
static void
expire(struct bus *bus, struct history *h)
{
	int64_t now = h->mortal > 0 ? bus__now_ns() : 0;
	struct kept *list = h->first, *gone = NULL;

	if (now == 0)
		return;
	h->first = h->last = NULL;
	h->count = h->mortal = 0;
	h->bytes = 0;
	while (list != NULL) {
		struct kept *kept = list;

		list = kept->next;
		kept->next = NULL;
		if (kept->expires_ns == 0 || kept->expires_ns > now) {
			append(h, kept);
			continue;
		}
		if (kept == h->value)
			bus__mark_begin(bus, h, kept->expires_ns);
		kept->next = gone;
		gone = kept;
	}
	bus__kept_free(gone);
}

/* Expires values and marks. */
static void
refresh(struct bus *bus, struct history *h)
{
	expire(bus, h);
	if (h->version.changes == 0 || h->value != NULL)
		return;
	/* The version of an ended value is remembered while older messages stay or its mark lives. */
	if (h->first == NULL && !(h->deleted && bus__mark_lives(bus, h)))
		bus__mark_forget_version(bus, h);
}

bool
bus__history_empty(struct bus *bus, struct topic *topic)
{
	if (topic->history != NULL)
		refresh(bus, topic->history);
	return topic->history == NULL || topic->history->first == NULL;
}

bool
bus__history_blank(struct bus *bus, struct topic *topic)
{
	return bus__history_empty(bus, topic) &&
	       (topic->history == NULL || topic->history->version.changes == 0);
}

/* --- storing one ------------------------------------------------------------------------------------------------------ */

/* The version of the next value published here. */
static struct bus__version
next_version(const struct bus *bus, const struct history *h)
{
	struct bus__version next = {.changes = h->version.changes};

	if (next.changes == 0)
		next.changes = atomic_load_explicit(&bus->marks.floor, memory_order_relaxed);
	next.changes += next.changes < UINT64_MAX;
	memcpy(next.bus, bus->id, sizeof next.bus);
	return next;
}

/* A peer's clock may be wrong: its message is never dated in the future. */
static int64_t
time_of(const struct ring_item *item, bool from_peer)
{
	int64_t now;

	if (item->time_ns != 0 && !from_peer)
		return item->time_ns;
	now = bus__wall_ns();
	return item->time_ns != 0 && item->time_ns < now ? item->time_ns : now;
}

static bool
is_empty(const struct ring_item *item)
{
	return item->len == item->headers_len;
}

/* NULL: a deletion. */
static struct bus__content
content_of(const struct kept *kept)
{
	struct bus__content content = {.len = 0};

	if (kept == NULL || kept->block->len == kept->headers_len)
		return content;
	content.data = kept->block->data;
	content.len = kept->block->len - kept->headers_len;
	content.headers = kept->block->data + content.len;
	content.headers_len = kept->headers_len;
	content.type = kept->type;
	return content;
}

/* The topic's value stays, with another version. */
static void
renumber(struct history *h, const struct bus__version *version)
{
	h->version = *version;
	if (h->value == NULL)
		return;
	h->value->version = *version;
	/* Messages on their way to peers share the block; the link thread both writes and reads this field. */
	h->value->block->changes = version->changes;
}

/* Decides what a peer's value becomes, and gives it its version here. */
static enum keep_answer
judge(struct bus *bus, struct history *h, struct bus__offer *offer, const struct kept *kept,
    const struct ring_item *item, struct bus__version *ret_version, uint64_t *ret_theirs)
{
	struct bus__standing standing = {.version = h->version, .theirs = h->theirs};
	struct bus__content offered = content_of(kept), has = content_of(h->value);
	enum bus__verdict verdict;

	standing.is_recent = h->change > offer->since;
	/* A value that newer messages pushed out leaves no mark. */
	if (h->value == NULL && !h->deleted)
		standing.content = -1;
	else if (bus__offer_asks(offer, &standing, bus->id))
		standing.content = bus__content_compare(&offered, &has);
	verdict = bus__offer_judge(offer, &standing, bus->id);
	*ret_version = bus__offer_version(verdict, offer, &standing, ret_theirs);
	switch (verdict) {
	case BUS__OFFER_OLDER:
		return KEEP_OLDER;
	case BUS__OFFER_RAISES:
	case BUS__OFFER_OURS:
		renumber(h, ret_version);
		return offer->is_kept ? KEEP_REPEATED : KEEP_OLDER;
	case BUS__OFFER_SAME:
		return KEEP_REPEATED;
	default:
		/* The end of a value that was unknown here, or an earlier change. */
		return offer->is_repeated ||
			       (is_empty(item) && item->flags & RING_KEPT && h->first == NULL)
			   ? KEEP_SILENT
			   : KEEP_STORED;
	}
}

enum keep_answer
bus__history_store(struct bus *bus, struct topic *topic, struct ring_item *item,
    struct bus__offer *offer, struct kept *kept, struct kept **ret_old)
{
	struct history *h = topic->history;
	enum keep_answer answer = KEEP_STORED;
	struct bus__version version;
	uint64_t theirs = 0;

	*ret_old = kept;
	refresh(bus, h);
	if (!kept->retained) {
		kept->time_ns = bus__wall_ns();
	} else {
		item->time_ns = kept->time_ns = time_of(item, offer != NULL);
		if (offer != NULL)
			answer = judge(bus, h, offer, kept, item, &version, &theirs);
		else
			version = next_version(bus, h);
		if (answer == KEEP_OLDER || answer == KEEP_REPEATED)
			return answer;
		if (h->deleted)
			bus__mark_end(bus, h);
		h->version = kept->version = version;
		h->theirs = theirs;
		kept->block->changes = h->version.changes;
		h->change =
		    atomic_fetch_add_explicit(&bus->marks.changes, 1, memory_order_relaxed) + 1;
	}
	if (kept->retained && is_empty(item)) { /* an empty value deletes */
		while (h->first != NULL)
			drop_oldest(h, ret_old);
		bus__mark_begin(bus, h, bus__now_ns());
		return answer;
	}
	*ret_old = NULL;
	append(h, kept);
	if (kept->retained)
		h->value = kept;
	trim(h, ret_old);
	return answer;
}

/* --- giving them out -------------------------------------------------------------------------------------------------- */

bool
bus__history_next(struct bus *bus, struct topic *topic, const struct bus__version *after, bool last,
    struct bus__value *ret_value)
{
	struct history *h = topic->history;
	const struct kept *kept;

	if (h == NULL)
		return false;
	refresh(bus, h);
	if (h->deleted && bus__version_compare(&h->version, after) > 0) {
		*ret_value = (struct bus__value){
		    .time_ns = bus__wall_ns(), .newest = true, .version = h->version};
		return true;
	}
	kept = h->value == NULL || last ? h->value : h->first;
	while (
	    kept != NULL && (!kept->retained || bus__version_compare(&kept->version, after) <= 0))
		kept = kept->next;
	if (kept == NULL)
		return false;
	*ret_value = (struct bus__value){
	    .block = bus__block_ref(kept->block),
	    .time_ns = kept->time_ns,
	    .expires_ns = kept->expires_ns,
	    .headers_len = kept->headers_len,
	    .type = kept->type,
	    .newest = kept == h->value,
	    .version = kept->version,
	};
	return true;
}

static int
put(struct bus *bus, struct bus_mailbox *m, const struct ring_item *item)
{
	enum ring_answer answer;

	if (m->full != BUS_FULL_REFUSE) {
		bus__mailbox_put(m, item, &bus->owed);
		return 0;
	}
	if (item->block != NULL)
		bus__block_ref(item->block);
	answer = bus__ring_put(&m->ring, item);
	if (answer == RING_WAKE)
		m->wake(m, &bus->owed);
	if (answer == RING_OK || answer == RING_WAKE)
		return 0;
	bus__block_unref(item->block);
	return answer == RING_FULL ? BUS_E_FULL : BUS_E_CLOSED;
}

/* Makes the item that puts a kept message in for one subscription alone. */
static struct ring_item
make_item(const struct kept *kept, struct route *route, struct bus_sub *sub)
{
	struct ring_item item = {
	    .route = route,
	    .data = kept->block->data,
	    .len = kept->block->len,
	    .type = kept->type,
	    .flags = RING_KEPT | RING_TARGET | RING_TIME,
	    .target = sub,
	    .time_ns = kept->time_ns,
	    .expires_ns = kept->expires_ns,
	    .block = kept->block->len > RING_INLINE_MAX ? kept->block : NULL,
	};

	if (kept->retained)
		item.flags |= RING_RETAIN;
	if (kept->expires_ns != 0)
		item.flags |= RING_TTL;
	if (kept->headers_len > 0) {
		item.flags |= RING_HEADERS;
		item.headers_len = kept->headers_len;
		item.headers = kept->block->data + item.len - item.headers_len;
	}
	return item;
}

int
bus__history_put(struct bus *bus, struct topic *topic, struct route *route, struct bus_sub *sub)
{
	struct bus_mailbox *m = sub->mbox->queue;
	int err = 0;

	/* A group gets only new messages, each once. */
	if (bus__history_empty(bus, topic) || m->is_group)
		return 0;
	/* A mailbox with one place per topic gets the newest only. */
	for (const struct kept *kept = m->full == BUS_FULL_LATEST ? topic->history->last
								  : topic->history->first;
	     kept != NULL && err == 0; kept = kept->next) {
		const struct ring_item item = make_item(kept, route, sub);

		err = put(bus, m, &item);
	}
	return err;
}
