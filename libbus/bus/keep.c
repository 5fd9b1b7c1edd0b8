#include "bus/keep.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/fail.h"
#include "topic/name.h"
#include "base/sized.h"
#include "topic/near.h"

#define MOST_KEPT     10000
#define MOST_BYTES    (UINT64_C(1) << 30)
#define DEFAULT_BYTES (UINT64_C(1) << 20)
#define MOST_FILTERS  256 /* each new topic is compared with all of them */

/* --- what one topic keeps ----------------------------------------------------------------------------------- */

struct kept *
bus__kept_new(const struct ring_item *item)
{
	struct kept *kept = bus__calloc(1, sizeof *kept);

	if (kept == NULL)
		return NULL;
	/* It stays for long: no pool is to wait for it. */
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
	/* A mark that lives keeps its topic, so it is among the marks no more, or the bus has ended. */
	if (topic->history == NULL)
		return;
	bus__kept_free(topic->history->first);
	bus__free(topic->history);
}

/* --- marks of deletions ------------------------------------------------------------------------------------- */

#define MARKS_SHARE 2 /* of the topics that a bus may have, marks keep no more than half */

int
bus__marks_init(struct marks *marks, uint32_t max_topics)
{
	marks->most = max_topics / MARKS_SHARE < BUS__MARKS ? max_topics / MARKS_SHARE : BUS__MARKS;
	return pthread_mutex_init(&marks->lock, NULL) == 0 ? 0 : BUS_E_NOMEM;
}

void
bus__marks_fini(struct marks *marks)
{
	pthread_mutex_destroy(&marks->lock);
}

/* Marks lock. */
static void
unmark(struct marks *marks, struct history *h)
{
	if (h->marked_ns == 0)
		return;
	*(h->older != NULL ? &h->older->newer : &marks->oldest) = h->newer;
	*(h->newer != NULL ? &h->newer->older : &marks->newest) = h->older;
	h->older = h->newer = NULL;
	h->marked_ns = 0;
	marks->count--;
}

/* The value ended at a time, now or before. */
static void
begin_mark(struct bus *bus, struct history *h, int64_t ended_ns)
{
	struct marks *marks = &bus->marks;

	h->value = NULL;
	h->deleted = true;
	pthread_mutex_lock(&marks->lock);
	unmark(marks, h);
	h->marked_ns = ended_ns;
	h->older = marks->newest;
	*(marks->newest != NULL ? &marks->newest->newer : &marks->oldest) = h;
	marks->newest = h;
	/* Only its place in the list: the rest of a history is under the keep lock of its topic. */
	if (++marks->count > marks->most)
		unmark(marks, marks->oldest);
	pthread_mutex_unlock(&marks->lock);
}

bool
bus__marks_end_oldest(struct marks *marks)
{
	bool found;

	pthread_mutex_lock(&marks->lock);
	found = marks->oldest != NULL;
	if (found)
		unmark(marks, marks->oldest);
	pthread_mutex_unlock(&marks->lock);
	return found;
}

static void
end_mark(struct bus *bus, struct history *h)
{
	if (!h->deleted)
		return;
	h->deleted = false;
	pthread_mutex_lock(&bus->marks.lock);
	unmark(&bus->marks, h);
	pthread_mutex_unlock(&bus->marks.lock);
}

static bool
mark_lives(struct bus *bus, struct history *h)
{
	bool lives;

	pthread_mutex_lock(&bus->marks.lock);
	if (h->marked_ns != 0 && bus__now_ns() - h->marked_ns >=
				     atomic_load_explicit(&bus__mark_ns, memory_order_relaxed))
		unmark(&bus->marks, h);
	lives = h->marked_ns != 0;
	pthread_mutex_unlock(&bus->marks.lock);
	return lives;
}

/* The topic's next value is to be newer than those that are not remembered any more. */
static void
forget_version(struct bus *bus, struct history *h)
{
	uint64_t floor = atomic_load_explicit(&bus->marks.floor, memory_order_relaxed);

	end_mark(bus, h);
	while (h->version.changes > floor && h->version.changes < BUS__FLOOR_MOST &&
	       !atomic_compare_exchange_weak_explicit(&bus->marks.floor, &floor, h->version.changes,
		   memory_order_relaxed, memory_order_relaxed))
		;
	memset(&h->version, 0, sizeof h->version);
}

/* --- messages ------------------------------------------------------------------------------------------------- */

/* Takes the oldest out, into a list. */
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

/* Takes out what is too much; the newest stays, whatever its size. */
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

/* Takes out what has expired, wherever it stands. */
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
			begin_mark(bus, h, kept->expires_ns);
		kept->next = gone;
		gone = kept;
	}
	bus__kept_free(gone);
}

/* Brings a history up to now. */
static void
refresh(struct bus *bus, struct history *h)
{
	expire(bus, h);
	if (h->version.changes == 0 || h->value != NULL)
		return;
	/* The version of a value that has gone, for whatever reason, is remembered as long as others stay that were before it. */
	if (h->first == NULL && !(h->deleted && mark_lives(bus, h)))
		forget_version(bus, h);
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

/* The version of a value that is published here now. */
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

/* A peer's clock may be wrong, but its message is not from the future. */
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

/* The topic's value stays, under another number. */
static void
renumber(struct history *h, const struct bus__version *version)
{
	h->version = *version;
	if (h->value == NULL)
		return;
	h->value->version = *version;
	/* Also of messages on their way to peers: the link thread changes it, and reads it there. */
	h->value->block->changes = version->changes;
}

/* What becomes of a peer's value, and its version here. */
static enum keep_answer
judge(struct bus *bus, struct history *h, struct bus__offer *offer, const struct kept *kept,
    const struct ring_item *item, struct bus__version *ret_version, uint64_t *ret_theirs)
{
	struct bus__standing standing = {.version = h->version, .theirs = h->theirs};
	struct bus__content offered = content_of(kept), has = content_of(h->value);
	enum bus__verdict verdict;

	standing.is_recent = h->change > offer->since;
	/* What was driven out of a history is no mark. */
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
		/* The end of something that was not there. */
		return is_empty(item) && item->flags & RING_KEPT && h->first == NULL ? KEEP_SILENT
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
		end_mark(bus, h);
		h->version = kept->version = version;
		h->theirs = theirs;
		kept->block->changes = h->version.changes;
		h->change =
		    atomic_fetch_add_explicit(&bus->marks.changes, 1, memory_order_relaxed) + 1;
	}
	if (kept->retained && is_empty(item)) { /* an empty value forgets */
		while (h->first != NULL)
			drop_oldest(h, ret_old);
		begin_mark(bus, h, bus__now_ns());
		return answer;
	}
	*ret_old = NULL;
	append(h, kept);
	if (kept->retained)
		h->value = kept;
	trim(h, ret_old);
	return answer;
}

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

/* The item that puts a kept message in for one subscription alone. */
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

	/* A group is told what comes, each message once. */
	if (bus__history_empty(bus, topic) || m->is_group)
		return 0;
	/* A mailbox with one place for each topic takes the newest. */
	for (const struct kept *kept = m->full == BUS_FULL_LATEST ? topic->history->last
								  : topic->history->first;
	     kept != NULL && err == 0; kept = kept->next) {
		const struct ring_item item = make_item(kept, route, sub);

		err = put(bus, m, &item);
	}
	return err;
}

/* --- filters that say how much ------------------------------------------------------------------------------ */

struct applying {
	struct bus *bus;
	const struct keep_filter *filter;
	int err;
};

static void
raise_bounds(struct history *h, const struct keep_filter *f, bool first)
{
	if (first)
		h->most_bytes = 0; /* so far it had no bound, for a single value */
	if (h->most < f->most)
		h->most = f->most;
	if (h->most_bytes < f->most_bytes)
		h->most_bytes = f->most_bytes;
}

/* Lets a topic keep as much as a filter says, if that is more. */
static void
apply(void *arg, struct topic *topic)
{
	struct applying *a = arg;
	bool kept_all;
	int err;

	pthread_mutex_lock(bus__keep_lock(a->bus, topic));
	kept_all = bus__keeps(topic);
	err = bus__history_make(topic);
	if (err == 0)
		err = bus__topic_keep_all(a->bus, topic);
	if (err == 0)
		raise_bounds(topic->history, a->filter, !kept_all);
	else
		a->err = err;
	pthread_mutex_unlock(bus__keep_lock(a->bus, topic));
}

int
bus__keep_new_topic(struct bus *bus, struct topic *topic)
{
	struct applying a = {bus, bus->keep_filters, 0};

	for (; a.filter != NULL && a.err == 0; a.filter = a.filter->next)
		if (bus__near(a.filter->filter, topic->name) == NEAR_MATCH)
			apply(&a, topic);
	return a.err;
}

void
bus__keep_filters_free(struct bus *bus)
{
	while (bus->keep_filters != NULL) {
		struct keep_filter *filter = bus->keep_filters;

		bus->keep_filters = filter->next;
		bus__free(filter);
	}
}

/* Finds the filter, or lists it. Bus lock. */
static int
make_filter(struct bus *bus, const char *text, size_t len, struct keep_filter **ret_filter)
{
	struct keep_filter **end = &bus->keep_filters;
	unsigned count = 0;

	for (; *end != NULL; end = &(*end)->next, count++)
		if (strcmp((*end)->filter, text) == 0)
			break;
	if (*end == NULL && count == MOST_FILTERS)
		return BUS_E_LIMIT;
	if (*end == NULL) {
		*end = bus__calloc(1, sizeof **end + len + 1);
		if (*end == NULL)
			return BUS_E_NOMEM;
		memcpy((*end)->filter, text, len);
	}
	*ret_filter = *end;
	return 0;
}

/* Bus lock. */
static int
keep(struct bus *bus, const char *text, size_t len, uint32_t most, uint64_t most_bytes)
{
	struct applying a = {.bus = bus};
	struct keep_filter *filter;
	int err = make_filter(bus, text, len, &filter);

	if (err < 0)
		return err;
	if (filter->most < most)
		filter->most = most;
	if (filter->most_bytes < most_bytes)
		filter->most_bytes = most_bytes;
	a.filter = filter;
	bus__trie_match_filter(&bus->trie, text, apply, &a);
	return a.err;
}

int
bus_keep(struct bus *bus, const char *filter, const struct bus_keep_config *cfg)
{
	struct bus_keep_config room;
	uint64_t most_bytes;
	uint32_t most;
	size_t len;
	int err = BUS__SIZED_IN(SIZED_KEEP_CONFIG, cfg, &room);

	if (err < 0)
		return err;
	most = cfg != NULL && cfg->last != 0 ? cfg->last : 1;
	most_bytes = cfg != NULL && cfg->max_bytes != 0 ? cfg->max_bytes : DEFAULT_BYTES;
	err = bus__enter(bus);
	if (err == 0)
		err = bus__filter_check(filter, &len);
	if (err < 0)
		return bus__fail_publish(bus, err, filter, 0);
	if (!bus->kind->has_history)
		return bus__fail(BUS_E_NOTSUP,
		    BUS__SHOWN
		    ": bus_keep() is for a private bus; the log of one with a name keeps its past: see from",
		    filter);
	if (most > MOST_KEPT)
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN ": last: %u: a topic keeps at most %u messages", filter,
		    (unsigned)most, (unsigned)MOST_KEPT);
	if (most_bytes > MOST_BYTES)
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN ": max_bytes: %llu: a topic keeps at most %llu bytes", filter,
		    (unsigned long long)most_bytes, (unsigned long long)MOST_BYTES);
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0)
		err = keep(bus, filter, len, most, most_bytes);
	bus__unlock(bus);
	if (err == BUS_E_LIMIT)
		return bus__fail(err,
		    BUS__SHOWN ": %u filters keep already, which is all that fit: use a wider one",
		    filter, (unsigned)MOST_FILTERS);
	return err < 0 ? bus__fail_name(err, filter) : 0;
}
