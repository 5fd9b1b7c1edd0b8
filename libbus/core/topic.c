#include "core/topic.h"

#include <string.h>

#include "base/mem.h"
#include "base/siphash.h"
#include "core/bus_internal.h"

#define FIRST_SLOTS 64
#define SWEEP_MOST  1024 /* topics looked at to make room for one */

/* Marks a place from which a topic was removed, so that searches go on behind it. */
static struct topic tomb;

int
bus__topics_init(struct topic_table *table)
{
	struct topic_slots *slots =
	    bus__calloc(1, sizeof *slots + FIRST_SLOTS * sizeof slots->at[0]);

	if (slots == NULL)
		return BUS_E_NOMEM;
	slots->mask = FIRST_SLOTS - 1;
	atomic_init(&table->slots, slots);
	return 0;
}

static struct topic_slots *
slots_of(struct bus *bus)
{
	/* Acquire: pairs with the release that shows a rebuilt table. */
	return atomic_load_explicit(&bus->topics.slots, memory_order_acquire);
}

struct topic *
bus__topic_find(struct bus *bus, const char *name, size_t len)
{
	uint64_t hash = bus__siphash(bus->key, name, len);
	struct topic_slots *slots = slots_of(bus);

	for (size_t i = hash;; i++) {
		/* Acquire: pairs with the release in insert(). */
		struct topic *topic =
		    atomic_load_explicit(&slots->at[i & slots->mask], memory_order_acquire);

		if (topic == NULL)
			return NULL;
		if (topic != &tomb && topic->hash == hash && topic->len == len &&
		    memcmp(topic->name, name, len) == 0)
			return topic;
	}
}

static void
insert(struct topic_slots *slots, struct topic *topic)
{
	size_t i = topic->hash;

	while (atomic_load_explicit(&slots->at[i & slots->mask], memory_order_relaxed) != NULL)
		i++;
	atomic_store_explicit(&slots->at[i & slots->mask], topic, memory_order_release);
}

/* Keeps a quarter of the table empty. */
static int
make_room(struct bus *bus)
{
	struct topic_table *table = &bus->topics;
	struct topic_slots *old = slots_of(bus), *slots;
	size_t want = FIRST_SLOTS;

	if ((table->count + table->tombs + 1) * 4 < (old->mask + 1) * 3)
		return 0;
	while (want < (table->count + 1) * 2)
		want *= 2;
	slots = bus__calloc(1, sizeof *slots + want * sizeof slots->at[0]);
	if (slots == NULL)
		return BUS_E_NOMEM;
	slots->mask = want - 1;
	for (size_t i = 0; i <= old->mask; i++) {
		struct topic *topic = atomic_load_explicit(&old->at[i], memory_order_relaxed);

		if (topic != NULL && topic != &tomb)
			insert(slots, topic);
	}
	table->tombs = 0;
	atomic_store_explicit(&table->slots, slots, memory_order_release);
	old->next_garbage = bus->garbage_slots;
	bus->garbage_slots = old;
	return 0;
}

static void
throw_away(struct bus *bus, struct snapshot *snapshot)
{
	if (snapshot == NULL)
		return;
	snapshot->next_garbage = bus->garbage_snapshots;
	bus->garbage_snapshots = snapshot;
}

/* Removes the topic in slot i. Its memory goes when the last frame and handle let go of it. */
static void
forget(struct bus *bus, struct topic_slots *slots, size_t i)
{
	struct topic *topic = atomic_load_explicit(&slots->at[i], memory_order_relaxed);

	atomic_store_explicit(&slots->at[i], &tomb, memory_order_release);
	bus->topics.count--;
	bus->topics.tombs++;
	/* Its routes stay until the grace is over: whoever found it before still publishes on them. */
	bus__trie_set_topic(topic->node, NULL);
	bus__trie_prune(&bus->trie, topic->node);
	topic->node = NULL;
	topic->next_garbage = bus->garbage_topics;
	bus->garbage_topics = topic;
}

/* Forgets a topic that nobody published by name since the last time round, that keeps no value and has no
 * handle. It comes back by itself when it is published again. */
static bool
sweep(struct bus *bus)
{
	struct topic_slots *slots = slots_of(bus);
	bool found = false;

	for (unsigned i = 0; i < SWEEP_MOST && !found; i++) {
		size_t at = bus->topics.hand++ & slots->mask;
		struct topic *topic = atomic_load_explicit(&slots->at[at], memory_order_relaxed);

		if (topic == NULL || topic == &tomb || topic->handles > 0)
			continue;
		if (atomic_exchange_explicit(&topic->used, false, memory_order_relaxed))
			continue;
		pthread_mutex_lock(bus__keep_lock(bus, topic));
		found = topic->gone = topic->kept == NULL;
		pthread_mutex_unlock(bus__keep_lock(bus, topic));
		if (found)
			forget(bus, slots, at);
	}
	return found;
}

struct matching {
	struct bus *bus;
	struct topic *topic;
	int err;
};

static void
join_filter(void *arg, struct node *filter)
{
	struct matching *m = arg;

	for (struct bus_sub *sub = filter->subs; sub != NULL && m->err == 0;
	     sub = sub->next_at_node)
		m->err = bus__topic_join(m->bus, m->topic, sub);
}

int
bus__topic_make(struct bus *bus, const char *name, size_t len, struct topic **ret_topic)
{
	struct topic *topic = bus__topic_find(bus, name, len);
	struct matching m = {bus, NULL, 0};

	if (topic != NULL) {
		*ret_topic = topic;
		return 0;
	}
	if (bus->topics.count >= bus->max_topics && !sweep(bus)) {
		/* All there were in use; the same ones again, of which a few may not be any more. */
		bus->topics.hand -= SWEEP_MOST;
		if (!sweep(bus))
			return BUS_E_LIMIT;
	}
	if (make_room(bus) < 0)
		return BUS_E_NOMEM;
	topic = bus__calloc(1, sizeof *topic + len + 1);
	if (topic == NULL)
		return BUS_E_NOMEM;
	memcpy(topic->name, name, len);
	topic->len = (uint16_t)len;
	topic->hash = bus__siphash(bus->key, name, len);
	topic->serial = ++bus->next_serial;
	atomic_init(&topic->refs, 1);
	atomic_init(&topic->used, true);
	topic->node = bus__trie_make(&bus->trie, name);
	if (topic->node == NULL) {
		bus__free(topic);
		return BUS_E_NOMEM;
	}
	bus__trie_set_topic(topic->node, topic);
	m.topic = topic;
	bus__trie_match_topic(&bus->trie, name, join_filter, &m);
	if (m.err < 0) {
		/* Not shown to anybody yet, but its routes may be known to mailboxes: end it like others. */
		throw_away(
		    bus, atomic_exchange_explicit(&topic->routes, NULL, memory_order_relaxed));
		bus__trie_set_topic(topic->node, NULL);
		bus__trie_prune(&bus->trie, topic->node);
		bus__topic_unref(topic);
		return m.err;
	}
	insert(slots_of(bus), topic);
	bus->topics.count++;
	*ret_topic = topic;
	return 0;
}

void
bus__topic_unref(struct topic *topic)
{
	if (atomic_fetch_sub_explicit(&topic->refs, 1, memory_order_acq_rel) == 1)
		bus__free(topic);
}

pthread_mutex_t *
bus__keep_lock(struct bus *bus, const struct topic *topic)
{
	return &bus->keep_locks[topic->serial % KEEP_LOCKS];
}

/* --- routes ------------------------------------------------------------------------------------------- */

static void
free_slots(struct later *later)
{
	bus__free(later); /* struct slots begins with it */
}

static void
free_route(struct later *later)
{
	struct route *route = (struct route *)later;

	bus__free(atomic_load_explicit(&route->slots, memory_order_relaxed));
	bus__topic_unref(route->topic);
	bus__mailbox_unref(route->mbox);
	bus__free(route);
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
		/* Frames put in so far may point to it. */
		route->later.run = free_route;
		route->later.position = bus__ring_tail(&route->mbox->ring) & ~RING_FLAG_BITS;
		bus__mailbox_later(route->mbox, &route->later);
	}
	bus__free(snapshot);
}

static struct slots *
slots_new(uint32_t most)
{
	return bus__calloc(1, sizeof(struct slots) + most * sizeof(struct slot));
}

/* Copies the subscriptions that are still there. Returns how many. */
static uint32_t
copy_slots(struct slots *slots, const struct slots *from)
{
	for (uint32_t i = 0; from != NULL && i < from->count; i++) {
		struct bus_sub *sub = atomic_load_explicit(&from->at[i].sub, memory_order_relaxed);

		if (sub == NULL)
			continue;
		atomic_init(&slots->at[slots->count].sub, sub);
		slots->at[slots->count++].from = from->at[i].from;
	}
	return slots->count;
}

/* Shows new slots to drainers and lets the old ones go behind the batch in progress. */
static void
replace_slots(struct route *route, struct slots *slots)
{
	struct slots *old = atomic_exchange_explicit(&route->slots, slots, memory_order_acq_rel);

	if (old == NULL)
		return;
	old->later.run = free_slots;
	old->later.position = 0;
	bus__mailbox_later(route->mbox, &old->later);
}

static struct route *
find_route(const struct snapshot *snapshot, const struct bus_mailbox *mbox)
{
	for (uint32_t i = 0; snapshot != NULL && i < snapshot->count; i++)
		if (snapshot->routes[i]->mbox == mbox)
			return snapshot->routes[i];
	return NULL;
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
	snapshot->plain &= full == BUS_FULL_DROP_OLDEST || full == BUS_FULL_DROP_NEWEST;
	route->refs++;
}

/* A copy of old with one route more (added) or less (removed). */
static struct snapshot *
snapshot_change(const struct snapshot *old, struct route *added, const struct route *removed)
{
	uint32_t had = old != NULL ? old->count : 0;
	struct snapshot *snapshot =
	    bus__calloc(1, sizeof *snapshot + (had + 1) * sizeof snapshot->routes[0]);

	if (snapshot == NULL)
		return NULL;
	atomic_init(&snapshot->refs, 1);
	snapshot->plain = true;
	for (uint32_t i = 0; i < had; i++)
		if (old->routes[i] != removed)
			list_route(snapshot, old->routes[i]);
	if (added != NULL)
		list_route(snapshot, added);
	return snapshot;
}

static void
show_snapshot(struct bus *bus, struct topic *topic, struct snapshot *snapshot)
{
	/* Release: pairs with the acquire of publishers. Handles notice by comparing the pointer; it cannot
	 * come back while they hold the old one. */
	throw_away(bus, atomic_exchange_explicit(&topic->routes, snapshot, memory_order_acq_rel));
}

/* Puts the kept value in for one subscription alone. Keep lock held. */
static void
put_kept(struct bus *bus, const struct topic *topic, struct route *route, struct bus_sub *sub)
{
	struct ring_item item = {
	    .route = route,
	    .data = topic->kept->data,
	    .len = topic->kept->len,
	    .type = topic->kept_type,
	    .flags = RING_KEPT | RING_RETAIN | RING_TARGET | RING_TIME,
	    .target = sub,
	    .time_ns = topic->kept_ns,
	    .block = topic->kept->len > RING_INLINE_MAX ? topic->kept : NULL,
	};

	bus__mailbox_put(sub->mbox, &item, &bus->owed);
}

int
bus__topic_join(struct bus *bus, struct topic *topic, struct bus_sub *sub)
{
	struct snapshot *old = atomic_load_explicit(&topic->routes, memory_order_relaxed);
	struct route *route = find_route(old, sub->mbox);
	struct slots *had =
	    route != NULL ? atomic_load_explicit(&route->slots, memory_order_relaxed) : NULL;
	uint32_t count = had != NULL ? had->count : 0;
	struct slots *slots = slots_new(count + 1);
	struct snapshot *snapshot = NULL;
	bool new_route = route == NULL;

	if (slots == NULL)
		return BUS_E_NOMEM;
	if (new_route) {
		route = bus__calloc(1, sizeof *route);
		if (route == NULL)
			goto free_slots;
		route->topic = topic;
		route->mbox = sub->mbox;
		snapshot = snapshot_change(old, route, NULL);
		if (snapshot == NULL)
			goto free_route;
		atomic_fetch_add_explicit(&topic->refs, 1, memory_order_relaxed);
		bus__mailbox_ref(sub->mbox);
	}
	count = copy_slots(slots, had);
	slots->at[count].sub = sub;
	slots->count = count + 1;

	/* A retained publish stores and claims under this lock: either its value is kept by now, or its claim
	 * comes behind `from`. */
	pthread_mutex_lock(bus__keep_lock(bus, topic));
	slots->at[count].from = bus__ring_tail(&sub->mbox->ring) & ~RING_FLAG_BITS;
	replace_slots(route, slots);
	if (topic->kept != NULL)
		put_kept(bus, topic, route, sub);
	if (new_route)
		show_snapshot(bus, topic, snapshot);
	pthread_mutex_unlock(bus__keep_lock(bus, topic));
	return 0;

free_route:
	bus__free(route);
free_slots:
	bus__free(slots);
	return BUS_E_NOMEM;
}

void
bus__topic_leave(struct bus *bus, struct topic *topic, struct bus_sub *sub)
{
	struct snapshot *old = atomic_load_explicit(&topic->routes, memory_order_relaxed),
			*snapshot;
	struct route *route = find_route(old, sub->mbox);
	struct slots *had, *slots;
	uint32_t live = 0;

	if (route == NULL)
		return;
	had = atomic_load_explicit(&route->slots, memory_order_relaxed);
	/* Whatever memory there is: nobody may meet the pointer after the next batch. */
	for (uint32_t i = 0; i < had->count; i++) {
		struct bus_sub *other = atomic_load_explicit(&had->at[i].sub, memory_order_relaxed);

		if (other == sub)
			atomic_store_explicit(&had->at[i].sub, NULL, memory_order_relaxed);
		else
			live += other != NULL;
	}
	if (live > 0) {
		slots = slots_new(live);
		if (slots == NULL)
			return;
		copy_slots(slots, had);
		replace_slots(route, slots);
		return;
	}
	snapshot = old->count > 1 ? snapshot_change(old, NULL, route) : NULL;
	if (snapshot != NULL || old->count == 1)
		show_snapshot(bus, topic, snapshot);
}

void
bus__topics_unroute(struct bus *bus)
{
	struct topic_slots *slots = slots_of(bus);

	for (size_t i = 0; i <= slots->mask; i++) {
		struct topic *topic = atomic_load_explicit(&slots->at[i], memory_order_relaxed);

		if (topic != NULL && topic != &tomb)
			show_snapshot(bus, topic, NULL);
	}
}

void
bus__topics_fini(struct bus *bus)
{
	struct topic_slots *slots = slots_of(bus);

	for (size_t i = 0; i <= slots->mask; i++) {
		struct topic *topic = atomic_load_explicit(&slots->at[i], memory_order_relaxed);

		if (topic == NULL || topic == &tomb)
			continue;
		bus__block_unref(topic->kept);
		bus__topic_unref(topic);
	}
	bus__free(slots);
}
