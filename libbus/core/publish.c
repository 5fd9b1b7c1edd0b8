/* core/publish.c: by name from any thread, by handle, and from a peer. */
#include <limits.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "core/bus_internal.h"
#include "core/name.h"

struct bus_pub {
	struct bus *bus;
	struct topic *topic;     /* counted */
	struct snapshot *routes; /* counted; compared with the topic's on every send */
	size_t small;            /* payloads up to here take the short way */
	uint64_t word;           /* of such a frame, but for its length */
	int type;
};

/* Puts a message into the mailboxes of a snapshot. item->route is set here; item->block, if any, stays the
 * caller's. The caller keeps the snapshot alive. */
static void
deliver(const struct snapshot *snapshot, struct ring_item *item, bool skip_peers)
{
	if (snapshot == NULL)
		return;
	for (uint32_t i = 0; i < snapshot->count; i++) {
		struct route *route = snapshot->routes[i];

		if (skip_peers && route->mbox->is_peer)
			continue;
		item->route = route;
		bus__mailbox_put(route->mbox, item);
	}
}

/* Makes a block for a payload that does not go into rings by value. */
static int
prepare(struct ring_item *item, bool always)
{
	item->block = NULL;
	if (item->len <= RING_INLINE_MAX && !always)
		return 0;
	item->block = bus__block_new(item->data, item->len);
	return item->block != NULL ? 0 : BUS_E_NOMEM;
}

/* Stores a value as the topic's kept one if it is newer, and sets its time if it has none. Keep lock held.
 * Takes over `value`; what was there before goes to *ret_old. false: it is older than what is kept. */
static bool
store_kept(struct topic *topic, struct ring_item *item, struct bus__block *value,
    struct bus__block **ret_old)
{
	*ret_old = value;
	if (item->time_ns == 0) {
		item->time_ns = bus__wall_ns();
		/* The clock may step back; the order of publishes does not. */
		if (item->time_ns <= topic->kept_ns)
			item->time_ns = topic->kept_ns + (topic->kept_ns < INT64_MAX);
	} else if (item->time_ns <= topic->kept_ns) {
		return false;
	}
	*ret_old = topic->kept;
	if (value->len == 0) { /* an empty value forgets */
		bus__block_unref(value);
		value = NULL;
	}
	topic->kept = value;
	topic->kept_ns = item->time_ns;
	topic->kept_type = item->type;
	return true;
}

/* Publishes a retained message: its value is stored and put into all mailboxes under the keep lock, so that
 * a subscription that begins meanwhile sees it exactly once. Takes over a reference to `value`. false: the
 * topic was swept meanwhile. */
static bool
publish_retained(struct bus *bus, struct topic *topic, struct ring_item *item,
    struct bus__block *value, bool from_peer)
{
	struct bus__block *old = value;
	bool gone;

	pthread_mutex_lock(bus__keep_lock(bus, topic));
	gone = topic->gone;
	/* A live message that is older than what is kept is news all the same; a kept one is not. */
	if (!gone && (store_kept(topic, item, value, &old) || !(item->flags & RING_KEPT)))
		deliver(
		    atomic_load_explicit(&topic->routes, memory_order_acquire), item, from_peer);
	pthread_mutex_unlock(bus__keep_lock(bus, topic));
	bus__block_unref(old);
	return !gone;
}

/* The common part of all publishes, with a topic whose memory stays and its routes. 0, SWEPT, BUS_E_NOMEM. */
#define SWEPT 1
static int
publish(struct bus *bus, struct topic *topic, const struct snapshot *routes, struct ring_item *item,
    bool from_peer)
{
	bool retain = item->flags & RING_RETAIN;
	struct bus__block *block;
	int err;

	if (routes == NULL && !retain)
		return 0;
	err = prepare(item, retain);
	if (err < 0)
		return err;
	block = item->block;
	if (retain) {
		item->flags |= RING_TIME;
		if (item->len <= RING_INLINE_MAX)
			item->block = NULL; /* into rings it goes by value all the same */
		if (block != NULL)
			bus__block_ref(block);
		if (!publish_retained(bus, topic, item, block, from_peer))
			err = SWEPT;
	} else {
		deliver(routes, item, from_peer);
	}
	bus__block_unref(block);
	return err;
}

/* Checks a message and makes the item that rings take. */
static int
make_item(const struct bus *bus, const struct bus_msg *msg, struct ring_item *ret_item)
{
	if (msg->data == NULL && msg->len > 0)
		return BUS_E_INVAL;
	if (msg->len > bus->max_payload)
		return BUS_E_TOO_BIG;
	if (msg->type < 0 || msg->type > UINT8_MAX || msg->time_ns < 0 ||
	    (msg->flags & ~(uint32_t)(BUS_MSG_RETAIN | BUS_MSG_KEPT)))
		return BUS_E_INVAL;
	*ret_item = (struct ring_item){
	    .data = msg->data,
	    .len = (uint32_t)msg->len,
	    .type = (uint8_t)msg->type,
	    .flags = msg->flags & BUS_MSG_RETAIN ? RING_RETAIN : 0,
	    .time_ns = msg->flags & BUS_MSG_RETAIN ? msg->time_ns : 0,
	};
	return 0;
}

/* --- by name ------------------------------------------------------------------------------------------------ */

static int
publish_by_name(struct bus *bus, const char *name, struct ring_item *item)
{
	struct topic *topic;
	size_t len;
	int err = bus__topic_check(name, &len);

	if (err < 0)
		return err;
	for (;;) {
		struct stripe *stripe = bus__read_begin(bus);

		topic = bus__topic_find(bus, name, len);
		if (topic != NULL) {
			if (!atomic_load_explicit(&topic->used, memory_order_relaxed))
				atomic_store_explicit(&topic->used, true, memory_order_relaxed);
			err = publish(bus, topic,
			    atomic_load_explicit(&topic->routes, memory_order_acquire), item,
			    false);
			bus__read_end(stripe);
			if (err == SWEPT)
				continue; /* it leaves the table now, and comes back as a new one */
			return err;
		}
		bus__read_end(stripe);
		/* New: make it, and look it up again, since it may be swept before we get there. */
		bus__lock(bus);
		err = bus__topic_make(bus, name, len, &topic);
		bus__unlock(bus);
		if (err < 0)
			return err;
	}
}

int
bus_publish_msg(struct bus *bus, const struct bus_msg *msg)
{
	struct ring_item item;
	int err = bus__enter(bus);

	if (err < 0)
		return err;
	if (msg == NULL || msg->size != sizeof *msg)
		return BUS_E_INVAL;
	err = make_item(bus, msg, &item);
	return err < 0 ? err : publish_by_name(bus, msg->topic, &item);
}

int
bus_publish(struct bus *bus, const char *topic, const void *data, size_t len)
{
	const struct bus_msg msg = {.size = sizeof msg, .topic = topic, .data = data, .len = len};

	return bus_publish_msg(bus, &msg);
}

/* --- by handle ---------------------------------------------------------------------------------------------- */

int
bus_pub_open(
    struct bus *bus, const char *topic, const struct bus_pub_config *cfg, struct bus_pub **ret_pub)
{
	struct bus_pub *pub;
	size_t len;
	int err = bus__enter(bus);

	if (err == 0)
		err = bus__topic_check(topic, &len);
	if (err < 0)
		return err;
	if (ret_pub == NULL ||
	    (cfg != NULL && (cfg->size != sizeof *cfg || cfg->type < 0 || cfg->type > UINT8_MAX)))
		return BUS_E_INVAL;
	pub = bus__calloc(1, sizeof *pub);
	if (pub == NULL)
		return BUS_E_NOMEM;
	pub->type = cfg != NULL ? cfg->type : BUS_TYPE_UNTAGGED;
	pub->small = bus->max_payload < RING_SMALL_MAX ? bus->max_payload : RING_SMALL_MAX;
	pub->word = bus__ring_word(0, 0, (uint8_t)pub->type);
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0)
		err = bus__topic_make(bus, topic, len, &pub->topic);
	if (err == 0) {
		pub->topic->handles++;
		atomic_fetch_add_explicit(&pub->topic->refs, 1, memory_order_relaxed);
		pub->routes = bus__snapshot_ref(
		    atomic_load_explicit(&pub->topic->routes, memory_order_relaxed));
		pub->bus = bus__ref(bus);
	}
	bus__unlock(bus);
	if (err < 0) {
		bus__free(pub);
		return err;
	}
	*ret_pub = pub;
	return 0;
}

static int
enter_pub(const struct bus_pub *pub)
{
	return pub == NULL ? BUS_E_INVAL : bus__enter(pub->bus);
}

/* Acquire: pairs with the release that shows a snapshot. Ours cannot be freed and come back at the same address
 * while we hold it, so equal pointers mean nothing has changed. */
static inline bool
has_current_routes(const struct bus_pub *pub)
{
	return atomic_load_explicit(&pub->topic->routes, memory_order_acquire) == pub->routes;
}

/* Counts the topic's routes of now and lets go of the old ones. */
static void
refresh(struct bus_pub *pub)
{
	bus__lock(pub->bus);
	bus__snapshot_unref(pub->routes);
	pub->routes =
	    bus__snapshot_ref(atomic_load_explicit(&pub->topic->routes, memory_order_relaxed));
	bus__unlock(pub->bus);
}

static int
send(struct bus_pub *pub, struct ring_item *item, bool from_peer)
{
	struct stripe *stripe;
	int err;

	if (item->flags & RING_RETAIN) {
		/* It goes to the routes that are current under the keep lock, which ours may not be: they are
		 * read as a publish by name reads them. */
		stripe = bus__read_begin(pub->bus);
		err = publish(pub->bus, pub->topic, NULL, item, from_peer);
		bus__read_end(stripe);
		return err;
	}
	if (!has_current_routes(pub))
		refresh(pub);
	return publish(pub->bus, pub->topic, pub->routes, item, from_peer);
}

/* --- the short way: a small payload into mailboxes that have room ---------------------------------------- */

/* For a mailbox that has no room at once. */
static __attribute__((cold, noinline)) int
put_otherwise(const struct bus_pub *pub, struct route *route, const void *data, uint32_t len)
{
	bus__mailbox_put(
	    route->mbox, &(struct ring_item){
			     .route = route, .data = data, .len = len, .type = (uint8_t)pub->type});
	return 0;
}

static inline __attribute__((always_inline)) int
put_small(const struct bus_pub *pub, struct route *route, const void *data, uint32_t len)
{
	struct bus_mailbox *m = route->mbox;
	uint64_t tail;
	uint8_t *at = bus__ring_claim_here(&m->ring, bus__ring_small_bytes(len), &tail);

	if (at == NULL)
		return put_otherwise(pub, route, data, len);
	bus__ring_fill(at, route, pub->word | len, data);
	return tail & RING_ASLEEP ? bus__mailbox_wake(m) : 0;
}

static __attribute__((noinline)) int
put_small_in_all(const struct bus_pub *pub, const void *data, uint32_t len)
{
	for (uint32_t i = 0; i < pub->routes->count; i++)
		put_small(pub, pub->routes->routes[i], data, len);
	return 0;
}

/* A large payload, none, or a bus that has ended. */
static __attribute__((cold, noinline)) int
send_otherwise(struct bus_pub *pub, const void *data, size_t len)
{
	struct ring_item item;
	int err = enter_pub(pub);

	if (err == 0)
		err = make_item(pub->bus,
		    &(struct bus_msg){.data = data, .len = len, .type = pub->type}, &item);
	return err < 0 ? err : send(pub, &item, false);
}

/* The calls in it end it, so that nothing must be kept over them. */
int
bus_pub_send(struct bus_pub *pub, const void *data, size_t len)
{
	if (pub == NULL || !bus__is_open(pub->bus) || len > pub->small || data == NULL ||
	    !has_current_routes(pub))
		return send_otherwise(pub, data, len);
	if (pub->routes == NULL)
		return 0;
	if (pub->routes->count > 1)
		return put_small_in_all(pub, data, (uint32_t)len);
	return put_small(pub, pub->routes->routes[0], data, (uint32_t)len);
}

/* How many of the items go into a ring by one claim, and the bytes that they need there. */
static size_t
measure_run(
    const struct bus_pub *pub, const struct bus_slice *items, size_t count, uint32_t *ret_bytes)
{
	const struct bus_slice *item = items;
	const struct bus_slice *end = items + (count < RING_MANY ? count : RING_MANY);
	uint32_t bytes = 0;

	for (; item < end && item->len <= pub->small && item->data != NULL; item++)
		bytes += bus__ring_small_bytes((uint32_t)item->len);
	*ret_bytes = bytes;
	return (size_t)(item - items);
}

static void
put_run(const struct bus_pub *pub, struct route *route, const struct bus_slice *items, size_t run,
    uint32_t bytes)
{
	struct bus_mailbox *m = route->mbox;
	uint64_t tail, word = pub->word;
	uint8_t *at = bus__ring_claim_here(&m->ring, bytes, &tail);

	if (at == NULL) {
		for (size_t i = 0; i < run; i++)
			put_small(pub, route, items[i].data, (uint32_t)items[i].len);
		return;
	}
	for (size_t i = 0; i < run; i++) {
		bus__ring_fill(at, route, word | items[i].len, items[i].data);
		at += bus__ring_small_bytes((uint32_t)items[i].len);
	}
	if (tail & RING_ASLEEP)
		bus__mailbox_wake(m);
}

int
bus_pub_send_many(struct bus_pub *pub, const struct bus_slice *items, size_t count)
{
	size_t sent = 0;

	if (pub == NULL || (items == NULL && count > 0) || count > INT_MAX)
		return BUS_E_INVAL;
	while (sent < count) {
		uint32_t bytes;
		size_t run = measure_run(pub, items + sent, count - sent, &bytes);

		if (run < 2 || !bus__is_open(pub->bus) || !has_current_routes(pub)) {
			int err = bus_pub_send(pub, items[sent].data, items[sent].len);

			if (err < 0)
				return sent > 0 ? (int)sent : err;
			run = 1;
		} else if (pub->routes != NULL) {
			for (uint32_t i = 0; i < pub->routes->count; i++)
				put_run(pub, pub->routes->routes[i], items + sent, run, bytes);
		}
		sent += run;
	}
	return (int)sent;
}

int
bus__publish_from_peer(struct bus_pub *pub, const struct bus_msg *msg)
{
	struct ring_item item;
	int err = enter_pub(pub);

	if (err < 0)
		return err;
	err = make_item(pub->bus, msg, &item);
	if (err < 0)
		return err;
	if (msg->flags & BUS_MSG_KEPT) {
		item.flags |= RING_KEPT | RING_RETAIN;
		item.time_ns = msg->time_ns;
	}
	return send(pub, &item, true);
}

void
bus_pub_close(struct bus_pub *pub)
{
	struct bus *bus;

	if (pub == NULL || pub->bus->fork_generation != bus__fork_generation())
		return;
	bus = pub->bus;
	bus__lock(bus);
	pub->topic->handles--;
	bus__snapshot_unref(pub->routes);
	bus__unlock(bus);
	bus__topic_unref(pub->topic);
	bus__free(pub);
	bus__unref(bus);
}
