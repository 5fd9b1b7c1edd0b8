/* bus/topics.c: the table of topics: finding, making and forgetting them. */
#include "bus/topic.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/siphash.h"
#include "bus/bus_internal.h"
#include "bus/peer.h"
#include "bus/keep.h"
#include "bus/routes.h"

#define FIRST_SLOTS 64
#define SWEEP_MOST  1024 /* topics looked at to make room for one */

#define FEW_WAITING 65536 /* routes: more than there are frames in a mailbox of 256 KiB */

/* Marks the place of a removed topic, so that searches continue behind it. */
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

	for (size_t i = (size_t)hash;; i++) {
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
	size_t i = (size_t)topic->hash;

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

/* Gives the peer room for another name. The topic's bytes stay charged until they are freed. */
static void
leave_account(struct topic *topic)
{
	if (topic->account != NULL)
		topic->account->topics--;
}

/* Removes a topic from the table. The last frame or handle frees its memory. */
static void
forget(struct bus *bus, struct topic *topic)
{
	struct topic_slots *slots = slots_of(bus);
	size_t i = (size_t)topic->hash;

	while (atomic_load_explicit(&slots->at[i & slots->mask], memory_order_relaxed) != topic)
		i++;
	atomic_store_explicit(&slots->at[i & slots->mask], &tomb, memory_order_release);
	leave_account(topic);
	bus->topics.count--;
	bus->topics.tombs++;
	/* Its routes stay until the grace period is over: a publisher that found it before still uses them. */
	bus__trie_set_topic(topic->node, NULL);
	bus__trie_prune(&bus->trie, topic->node);
	bus->kind->topic_ends(bus);
	topic->next_garbage = bus->garbage_topics;
	bus->garbage_topics = topic;
}

/* Forgets a topic that was not published by name since the last sweep, that keeps neither a value nor the mark of a deletion,
 * and has no handle. The next publish makes it again. */
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
		found = topic->gone = bus__history_blank(bus, topic);
		pthread_mutex_unlock(bus__keep_lock(bus, topic));
		if (found)
			forget(bus, topic);
	}
	return found;
}

/* Whether topics may be forgotten. Frames that are not taken out hold routes, and these their topics: a mailbox that is not
 * drained would hold more and more of them. */
static bool
may_forget(struct bus *bus)
{
	uint32_t waiting = atomic_load_explicit(&bus->routes_waiting, memory_order_relaxed);

	return waiting < bus->max_topics || waiting < FEW_WAITING;
}

/* Sweeps again over topics that the last sweep found in use; a few may be unused by now. */
static bool
sweep_again(struct bus *bus)
{
	bus->topics.hand -= SWEEP_MOST;
	return sweep(bus);
}

static int
make_room_for_topic(struct bus *bus)
{
	if (bus->topics.count < bus->max_topics)
		return 0;
	if (!may_forget(bus))
		return BUS_E_LIMIT;
	if (sweep(bus) || sweep_again(bus))
		return 0;
	/* A needed topic is worth more than the mark of a deleted value. */
	return bus__marks_end_oldest(&bus->marks) && sweep_again(bus) ? 0 : BUS_E_LIMIT;
}

void
bus__topic_let_go(struct bus *bus, struct topic *topic)
{
	if (topic->account == NULL || topic->gone || topic->handles > 0 || !may_forget(bus) ||
	    atomic_load_explicit(&topic->used, memory_order_relaxed))
		return;
	pthread_mutex_lock(bus__keep_lock(bus, topic));
	/* The mark of a deletion outlives the value, to refuse older ones. */
	topic->gone = bus__history_blank(bus, topic);
	pthread_mutex_unlock(bus__keep_lock(bus, topic));
	if (topic->gone)
		forget(bus, topic);
}

struct topic *
bus__topic_next(struct bus *bus, struct topic_place *place, unsigned *left)
{
	struct topic_slots *slots = slots_of(bus);

	if (place->slots != slots)
		*place = (struct topic_place){slots, 0};
	while (*left > 0 && place->at <= slots->mask) {
		struct topic *topic =
		    atomic_load_explicit(&slots->at[place->at++], memory_order_relaxed);

		--*left;
		if (topic != NULL && topic != &tomb)
			return topic;
	}
	return NULL;
}

void
bus__topic_unref(struct topic *topic)
{
	if (atomic_fetch_sub_explicit(&topic->refs, 1, memory_order_acq_rel) != 1)
		return;
	bus__history_free(topic);
	bus__account_sub(topic->account, topic->charge);
	bus__free(topic);
}

pthread_mutex_t *
bus__keep_lock(struct bus *bus, const struct topic *topic)
{
	return &bus->keep_locks[topic->serial % KEEP_LOCKS];
}

/* The bytes of a topic with its entries in tables and room for its history. */
static size_t
topic_bytes(const char *name, size_t len)
{
	return bus__held(offsetof(struct topic, name) + len + 1) +
	       bus__held(sizeof(struct history)) + bus__trie_bytes(name) + 64;
}

/* Frees a topic that was not inserted, with its unshown routes. */
static void
unmake(struct bus *bus, struct topic *topic)
{
	bus__routes_free_new(topic);
	bus__trie_prune(&bus->trie, topic->node);
	bus__topic_unref(topic);
}

/* Makes a missing topic, on the account of a peer, or NULL. */
static int
make(struct bus *bus, struct bus__account *account, const char *name, size_t len,
    struct topic **ret_topic)
{
	struct topic *topic;
	int err;

	err = make_room_for_topic(bus);
	if (err == 0)
		err = make_room(bus);
	if (err < 0)
		return err;
	topic = bus__calloc(1, offsetof(struct topic, name) + len + 1);
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
	if (account != NULL) {
		topic->account = account;
		topic->charge = (uint32_t)topic_bytes(name, len);
		bus__account_add(account, topic->charge);
	}
	err = bus__keep_new_topic(bus, topic);
	if (err == 0)
		err = bus__routes_make(bus, topic);
	if (err == 0 && bus__account_is_over(account))
		err = BUS_E_LIMIT;
	if (err < 0) {
		unmake(bus, topic);
		return err;
	}
	bus__trie_set_topic(topic->node, topic);
	insert(slots_of(bus), topic);
	bus->topics.count++;
	*ret_topic = topic;
	return 0;
}

int
bus__topic_make(struct bus *bus, const char *name, size_t len, struct topic **ret_topic)
{
	struct topic *topic = bus__topic_find(bus, name, len);

	if (topic == NULL)
		return make(bus, NULL, name, len, ret_topic);
	*ret_topic = topic;
	return 0;
}

int
bus__topic_make_for(struct bus *bus, struct bus__account *account, const char *name, size_t len,
    struct topic **ret_topic)
{
	struct topic *topic = bus__topic_find(bus, name, len);
	int err;

	if (topic == NULL) {
		if (account->topics >= BUS__PEER_TOPICS ||
		    bus__account_is_full(account, topic_bytes(name, len), 0))
			return BUS_E_LIMIT;
		err = make(bus, account, name, len, &topic);
		if (err < 0)
			return err;
		account->topics++;
		/* It was not published here. */
		atomic_store_explicit(&topic->used, false, memory_order_relaxed);
	}
	*ret_topic = topic;
	return 0;
}

void
bus__topics_unroute(struct bus *bus)
{
	struct topic_slots *slots = slots_of(bus);

	for (size_t i = 0; i <= slots->mask; i++) {
		struct topic *topic = atomic_load_explicit(&slots->at[i], memory_order_relaxed);

		if (topic != NULL && topic != &tomb)
			bus__routes_show(bus, topic, NULL);
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
		leave_account(topic);
		bus__topic_unref(topic);
	}
	bus__free(slots);
}
