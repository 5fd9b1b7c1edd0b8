/* bus/routes.c: the routes of topics: making, changing and ending them. */
#include "bus/routes.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/keep.h"
#include "bus/topic.h"
#include "mailbox/source.h"

#define FEW_SLOTS     8  /* a shorter list is not worth a denser copy */
#define FIRST_MATCHES 16 /* subscriptions of a new topic that need no allocated list */

static void
free_slots(struct later *later)
{
	bus__free(later); /* struct slots begins with it */
}

/* The bytes of a route with its places in snapshots, and of a list of subscriptions. */
#define ROUTE_BYTES (bus__held(sizeof(struct route)) + 64)

static size_t
slots_bytes(const struct slots *slots)
{
	return bus__held(sizeof *slots + slots->cap * sizeof slots->at[0]);
}

static void
free_route(struct route *route)
{
	struct slots *slots = atomic_load_explicit(&route->slots, memory_order_relaxed);

	if (route->payer != NULL)
		bus__account_sub(route->payer, ROUTE_BYTES + slots_bytes(slots));
	bus__free(slots);
	bus__topic_unref(route->topic);
	bus__mailbox_unref(route->mbox);
	bus__free(route);
}

static void
end_route(struct later *later)
{
	struct route *route = (struct route *)later;

	atomic_fetch_sub_explicit(&route->mbox->bus->routes_waiting, 1, memory_order_relaxed);
	free_route(route);
}

struct snapshot *
bus__snapshot_ref(struct snapshot *snapshot)
{
	if (snapshot != NULL)
		atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
	return snapshot;
}

void
bus__snapshot_unref(struct snapshot *snapshot)
{
	if (snapshot == NULL ||
	    atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < snapshot->count; i++) {
		struct route *route = snapshot->routes[i];

		if (--route->refs > 0)
			continue;
		route->mbox->bus->kind->route_ends(route);
		/* Frames put in so far may point to it. */
		atomic_fetch_add_explicit(
		    &route->mbox->bus->routes_waiting, 1, memory_order_relaxed);
		route->later.run = end_route;
		route->later.position = route->mbox->source->behind(route->mbox);
		bus__mailbox_later(route->mbox, &route->later);
	}
	bus__free(snapshot);
}

static struct slots *
slots_new(uint32_t cap)
{
	struct slots *slots = bus__calloc(1, sizeof *slots + cap * sizeof slots->at[0]);

	if (slots != NULL)
		slots->cap = cap;
	return slots;
}

/* Counts one more slot, for which there is room. */
static void
append(struct slots *slots, struct bus_sub *sub, uint64_t order, uint64_t from)
{
	uint32_t count = atomic_load_explicit(&slots->count, memory_order_relaxed);
	struct slot *slot = &slots->at[count];

	atomic_store_explicit(&slot->sub, sub, memory_order_relaxed);
	slot->from = from;
	slot->order = order;
	atomic_store_explicit(&slots->count, count + 1, memory_order_release);
}

/* Copies a list without its empty slots, with room for cap subscriptions. */
static struct slots *
slots_copy(const struct slots *old, uint32_t cap)
{
	uint32_t count = atomic_load_explicit(&old->count, memory_order_relaxed);
	struct slots *slots = slots_new(cap);

	for (uint32_t i = 0; slots != NULL && i < count; i++) {
		const struct slot *slot = &old->at[i];
		struct bus_sub *sub = atomic_load_explicit(&slot->sub, memory_order_relaxed);

		if (sub != NULL)
			append(slots, sub, slot->order, slot->from);
	}
	return slots;
}

/* Finds a subscription in a list; NULL: it is not there. */
static struct slot *
find_slot(struct slots *slots, const struct bus_sub *sub)
{
	uint32_t count = atomic_load_explicit(&slots->count, memory_order_relaxed);
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (slots->at[mid].order < sub->order)
			low = mid + 1;
		else
			high = mid;
	}
	return low < count && slots->at[low].order == sub->order ? &slots->at[low] : NULL;
}

/* Shows drainers another list and frees the old one behind the batch in progress. */
static void
replace_slots(struct route *route, struct slots *slots)
{
	struct slots *old = atomic_exchange_explicit(&route->slots, slots, memory_order_acq_rel);

	if (old == slots)
		return;
	if (route->payer != NULL) {
		bus__account_add(route->payer, slots_bytes(slots));
		bus__account_sub(route->payer, slots_bytes(old));
	}
	old->later.run = free_slots;
	old->later.position = 0;
	bus__mailbox_later(route->mbox, &old->later);
}

/* Makes an unlisted route with room for cap subscriptions. */
static struct route *
route_make(struct topic *topic, struct bus_mailbox *mbox, uint32_t cap)
{
	struct route *route = bus__calloc(1, sizeof *route);
	struct slots *slots = slots_new(cap);

	if (route == NULL || slots == NULL) {
		bus__free(route);
		bus__free(slots);
		return NULL;
	}
	atomic_init(&route->slots, slots);
	atomic_fetch_add_explicit(&topic->refs, 1, memory_order_relaxed);
	route->topic = topic;
	route->mbox = bus__mailbox_ref(mbox);
	route->payer = mbox->account != NULL ? mbox->account : topic->account;
	if (route->payer != NULL)
		bus__account_add(route->payer, ROUTE_BYTES + slots_bytes(slots));
	return route;
}

struct route *
bus__route_to(const struct snapshot *routes, const struct bus_mailbox *mbox)
{
	for (uint32_t i = 0; routes != NULL && i < routes->count; i++)
		if (routes->routes[i]->mbox == mbox)
			return routes->routes[i];
	return NULL;
}

static struct snapshot *
snapshot_new(uint32_t most)
{
	struct snapshot *snapshot =
	    bus__calloc(1, sizeof *snapshot + most * sizeof snapshot->routes[0]);

	if (snapshot == NULL)
		return NULL;
	atomic_init(&snapshot->refs, 1);
	snapshot->plain = snapshot->plain_here = true;
	return snapshot;
}

static void
list_route(struct snapshot *snapshot, struct route *route)
{
	int full = route->mbox->full;
	uint32_t at = snapshot->count++;

	if (full == BUS_FULL_REFUSE) {
		/* The first of the others makes room. */
		snapshot->routes[at] = snapshot->routes[snapshot->refusing];
		at = snapshot->refusing++;
	}
	snapshot->routes[at] = route;
	snapshot->numbered |= route->mbox->far.numbered;
	snapshot->plain_here &=
	    route->mbox->is_peer || full == BUS_FULL_DROP_OLDEST || full == BUS_FULL_DROP_NEWEST;
	snapshot->plain &=
	    (full == BUS_FULL_DROP_OLDEST || full == BUS_FULL_DROP_NEWEST) && !snapshot->numbered;
	route->refs++;
}

/* How many of its routes lead to a subscription. A route that should be gone may stay for lack of memory. */
static uint32_t
count_live(const struct snapshot *snapshot)
{
	uint32_t live = 0;

	for (uint32_t i = 0; snapshot != NULL && i < snapshot->count; i++)
		live += snapshot->routes[i]->live > 0;
	return live;
}

/* Copies old without the routes that lead nowhere, and adds one (added). */
static struct snapshot *
snapshot_change(const struct snapshot *old, struct route *added)
{
	struct snapshot *snapshot = snapshot_new(count_live(old) + (added != NULL));

	if (snapshot == NULL)
		return NULL;
	for (uint32_t i = 0; old != NULL && i < old->count; i++)
		if (old->routes[i]->live > 0)
			list_route(snapshot, old->routes[i]);
	if (added != NULL)
		list_route(snapshot, added);
	return snapshot;
}

static void
throw_away(struct bus *bus, struct snapshot *snapshot)
{
	if (snapshot == NULL)
		return;
	snapshot->next_garbage = bus->garbage_snapshots;
	bus->garbage_snapshots = snapshot;
}

void
bus__routes_show(struct bus *bus, struct topic *topic, struct snapshot *snapshot)
{
	if (snapshot != NULL && bus__keeps(topic))
		snapshot->plain = snapshot->plain_here = false;
	/* Release: pairs with the acquire of publishers. Handles compare the pointer, which cannot be reused
	 * while they hold the old one. */
	throw_away(bus, atomic_exchange_explicit(&topic->routes, snapshot, memory_order_acq_rel));
}

int
bus__topic_keep_all(struct bus *bus, struct topic *topic)
{
	struct snapshot *old = atomic_load_explicit(&topic->routes, memory_order_relaxed);
	struct snapshot *snapshot = NULL;

	if (bus__keeps(topic))
		return 0;
	if (count_live(old) > 0) {
		snapshot = snapshot_change(old, NULL);
		if (snapshot == NULL)
			return BUS_E_NOMEM;
	}
	atomic_store_explicit(&topic->keeps, true, memory_order_relaxed);
	if (old != NULL)
		bus__routes_show(bus, topic, snapshot);
	return 0;
}

struct route *
bus__topic_route(const struct topic *topic, const struct bus_mailbox *mbox)
{
	return bus__route_to(atomic_load_explicit(&topic->routes, memory_order_relaxed), mbox);
}

int
bus__topic_prepare(struct topic *topic, struct bus_mailbox *mbox, struct prepared *prepared)
{
	struct snapshot *old = atomic_load_explicit(&topic->routes, memory_order_relaxed),
			*snapshot;
	struct route *route = bus__route_to(old, mbox);
	struct slots *slots;

	if (route != NULL) {
		slots = atomic_load_explicit(&route->slots, memory_order_relaxed);
		if (atomic_load_explicit(&slots->count, memory_order_relaxed) < slots->cap)
			return 0;
		slots = slots_copy(slots, route->live > 0 ? 2 * route->live : 1);
		if (slots == NULL)
			return BUS_E_NOMEM;
		replace_slots(route, slots); /* a longer list of the same slots */
		return bus__account_is_over(mbox->account) ? BUS_E_LIMIT : 0;
	}
	route = route_make(topic, mbox, 1);
	if (route == NULL)
		return BUS_E_NOMEM;
	if (bus__account_is_over(mbox->account)) {
		free_route(route);
		return BUS_E_LIMIT;
	}
	snapshot = snapshot_change(old, route);
	if (snapshot == NULL) {
		free_route(route); /* it was never shown */
		return BUS_E_NOMEM;
	}
	*(prepared->first != NULL ? &prepared->last->next_garbage : &prepared->first) = snapshot;
	prepared->last = snapshot;
	return 0;
}

static struct snapshot *
take_prepared(struct prepared *prepared)
{
	struct snapshot *snapshot = prepared->first;

	if (snapshot != NULL)
		prepared->first = snapshot->next_garbage;
	return snapshot;
}

void
bus__topic_unprepare(struct prepared *prepared)
{
	struct snapshot *snapshot;

	while ((snapshot = take_prepared(prepared)) != NULL)
		bus__snapshot_unref(snapshot);
}

int
bus__topic_join(
    struct bus *bus, struct topic *topic, struct bus_sub *sub, struct prepared *prepared)
{
	struct route *route = bus__route_to(
	    atomic_load_explicit(&topic->routes, memory_order_relaxed), sub->mbox->queue);
	struct snapshot *snapshot = NULL;
	struct slots *slots;
	int err;

	if (route == NULL) {
		snapshot = take_prepared(prepared); /* in the order of the topics */
		route = bus__route_to(snapshot, sub->mbox->queue);
	}
	slots = atomic_load_explicit(&route->slots, memory_order_relaxed);

	/* A publish that is kept stores and claims under this lock: either it is stored by now, or its claim
	 * lies behind `from`. */
	pthread_mutex_lock(bus__keep_lock(bus, topic));
	append(slots, sub, sub->order, bus->kind->meant_from(topic, sub));
	sub->matched = true;
	route->live++;
	err = bus->kind->put_kept(bus, topic, route, sub);
	if (snapshot != NULL)
		bus__routes_show(bus, topic, snapshot);
	pthread_mutex_unlock(bus__keep_lock(bus, topic));
	return err;
}

void
bus__topic_leave(struct bus *bus, struct topic *topic, struct bus_sub *sub)
{
	struct snapshot *old = atomic_load_explicit(&topic->routes, memory_order_relaxed),
			*snapshot;
	struct route *route = bus__route_to(old, sub->mbox->queue);
	struct slots *slots;
	struct slot *slot;
	uint32_t count;

	if (route == NULL)
		return;
	slots = atomic_load_explicit(&route->slots, memory_order_relaxed);
	slot = find_slot(slots, sub);
	if (slot == NULL)
		return;
	/* Even without memory: no drainer may read the pointer after the next batch. */
	atomic_store_explicit(&slot->sub, NULL, memory_order_relaxed);
	if (--route->live > 0) {
		count = atomic_load_explicit(&slots->count, memory_order_relaxed);
		if (count < FEW_SLOTS || route->live > count / 2)
			return;
		slots = slots_copy(slots, route->live);
		if (slots != NULL)
			replace_slots(route, slots);
		return;
	}
	if (count_live(old) == 0)
		bus__routes_show(bus, topic, NULL);
	else if ((snapshot = snapshot_change(old, NULL)) != NULL)
		bus__routes_show(bus, topic, snapshot);
}

/* --- new topics --------------------------------------------------------------------------------------------- */

/* The subscriptions that a new topic matches. */
struct matches {
	struct bus_sub **subs;
	size_t count, cap;
	int err;
	struct bus_sub *first[FIRST_MATCHES];
};

static int
make_room_for_match(struct matches *m)
{
	size_t cap = m->cap * 2;
	struct bus_sub **subs;

	if (m->count < m->cap)
		return 0;
	subs = bus__realloc(m->subs != m->first ? m->subs : NULL, cap * sizeof *subs);
	if (subs == NULL)
		return BUS_E_NOMEM;
	if (m->subs == m->first)
		memcpy(subs, m->first, sizeof m->first);
	m->subs = subs;
	m->cap = cap;
	return 0;
}

static void
gather(void *arg, struct node *filter)
{
	struct matches *m = arg;

	for (struct bus_sub *sub = filter->subs; sub != NULL && m->err == 0;
	     sub = sub->next_at_node) {
		m->err = make_room_for_match(m);
		if (m->err == 0)
			m->subs[m->count++] = sub;
	}
}

/* Orders by mailbox, then by subscription. */
static int
compare_matches(const void *left, const void *right)
{
	const struct bus_sub *l = *(struct bus_sub *const *)left;
	const struct bus_sub *r = *(struct bus_sub *const *)right;

	if (l->mbox->queue != r->mbox->queue)
		return (uintptr_t)l->mbox->queue < (uintptr_t)r->mbox->queue ? -1 : 1;
	return l->order < r->order ? -1 : l->order > r->order;
}

/* Makes one route for the subscriptions of one mailbox. */
static int
route_group(
    struct topic *topic, struct snapshot *snapshot, struct bus_sub *const subs[], uint32_t count)
{
	struct route *route = route_make(topic, subs[0]->mbox->queue, count);

	if (route == NULL)
		return BUS_E_NOMEM;
	/* A frame cannot be older than its topic; records of a log may be. */
	for (uint32_t i = 0; i < count; i++) {
		append(route->slots, subs[i], subs[i]->order, subs[i]->begin);
		subs[i]->matched = true;
	}
	route->live = count;
	list_route(snapshot, route);
	return 0;
}

/* Makes the routes of an unpublished topic, from subscriptions sorted by mailbox. All at once, since one
 * snapshot for each would cost the square of their number. */
static int
route_matches(struct topic *topic, struct bus_sub *const subs[], size_t count)
{
	struct snapshot *snapshot;
	uint32_t mailboxes = 0;
	size_t end = 0;
	int err = 0;

	for (size_t i = 0; i < count; i++)
		mailboxes += i == 0 || subs[i]->mbox->queue != subs[i - 1]->mbox->queue;
	snapshot = snapshot_new(mailboxes);
	if (snapshot == NULL)
		return BUS_E_NOMEM;
	snapshot->plain = snapshot->plain_here = !bus__keeps(topic);
	for (size_t i = 0; i < count && err == 0; i = end) {
		while (end < count && subs[end]->mbox->queue == subs[i]->mbox->queue)
			end++;
		err = route_group(topic, snapshot, subs + i, (uint32_t)(end - i));
	}
	if (err < 0)
		bus__snapshot_unref(snapshot); /* its routes end like others */
	else
		atomic_store_explicit(&topic->routes, snapshot, memory_order_relaxed);
	return err;
}

int
bus__routes_make(struct bus *bus, struct topic *topic)
{
	struct matches m = {.subs = m.first, .cap = FIRST_MATCHES};
	int err;

	bus__trie_match_topic(&bus->trie, topic->name, gather, &m);
	err = m.err;
	if (err == 0 && m.count > 0) {
		qsort(m.subs, m.count, sizeof *m.subs, compare_matches);
		err = route_matches(topic, m.subs, m.count);
	}
	if (m.subs != m.first)
		bus__free(m.subs);
	return err;
}

void
bus__routes_free_new(struct topic *topic)
{
	struct snapshot *snapshot = atomic_load_explicit(&topic->routes, memory_order_relaxed);

	for (uint32_t i = 0; snapshot != NULL && i < snapshot->count; i++)
		free_route(snapshot->routes[i]);
	bus__free(snapshot);
}
