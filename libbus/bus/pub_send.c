/* bus/pub_send.c: sending by a handle. The short way is for small payloads into mailboxes that have room. The cases that leave
 * it must cost it nothing. */
#include <limits.h>

#include "bus/fail.h"
#include "bus/peer.h"
#include "bus/pub.h"

/* For a mailbox without room. */
static __attribute__((cold, noinline)) void
put_otherwise(const struct bus_pub *pub, struct route *route, uint64_t word, const void *data,
    struct bus_mailbox **owed)
{
	bus__mailbox_put(route->mbox,
	    &(struct ring_item){
		.route = route, .data = data, .len = (uint32_t)word, .type = (uint8_t)(word >> 48)},
	    owed);
	bus__heed(pub->bus);
}

/* Puts a small message into one of several mailboxes; word: the first of its frame. */
static inline void
put_small(const struct bus_pub *pub, struct route *route, uint64_t word, const void *data,
    struct bus_mailbox **owed)
{
	struct bus_mailbox *m = route->mbox;
	uint64_t tail;
	uint8_t *at = bus__ring_claim_here(&m->ring, bus__ring_small_bytes((uint32_t)word), &tail);

	if (at == NULL) {
		put_otherwise(pub, route, word, data, owed);
		return;
	}
	bus__ring_fill(at, route, word, data);
	if (tail & RING_ASLEEP)
		m->wake(m, owed);
}

/* Several mailboxes, or one without room. */
static __attribute__((noinline)) int
put_small_in_all(const struct bus_pub *pub, const void *data, uint32_t len)
{
	struct bus_mailbox *owed = NULL;

	for (uint32_t i = 0; i < pub->routes->count; i++)
		put_small(pub, pub->routes->routes[i], pub->word | len, data, &owed);
	bus__mailbox_drain_owed(owed);
	return 0;
}

/* A log, a large payload or none, mailboxes that do more than drop, or a closed bus. */
static __attribute__((noinline)) int
send_otherwise(struct bus_pub *pub, const void *data, size_t len)
{
	if (pub == NULL || pub->record.topic == NULL || !bus__is_open(pub->bus))
		return bus__pub_send_bytes(pub, data, len);
	return pub->send_one(pub->bus, &pub->record, data, len);
}

/* Whether the short way is open: only rings that drop, and unchanged routes. */
static inline bool
is_quick(const struct bus_pub *pub)
{
	return bus__is_open(pub->bus) && bus__pub_is_current(pub) && pub->routes != NULL &&
	       pub->routes->plain;
}

/* Its calls are tail calls, so no register is saved over them. */
int
bus_pub_send(struct bus_pub *pub, const void *data, size_t len)
{
	struct bus_mailbox *m;
	struct route *route;
	uint64_t tail;
	uint8_t *at;

	if (pub == NULL || len > pub->small || data == NULL || !is_quick(pub))
		return send_otherwise(pub, data, len);
	if (pub->routes->count > 1)
		return put_small_in_all(pub, data, (uint32_t)len);
	route = pub->routes->routes[0];
	m = route->mbox;
	at = bus__ring_claim_here(&m->ring, bus__ring_small_bytes((uint32_t)len), &tail);
	if (at == NULL)
		return put_small_in_all(pub, data, (uint32_t)len);
	bus__ring_fill(at, route, pub->word | len, data);
	return tail & RING_ASLEEP ? bus__mailbox_wake_now(m) : 0;
}

/* How many of the items fit into a ring by one claim, and how many bytes they need there. */
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

/* word: the first of their frames, without the length; bytes: of all. */
static inline __attribute__((always_inline)) void
put_run(const struct bus_pub *pub, struct route *route, uint64_t word,
    const struct bus_slice *items, size_t run, uint32_t bytes, struct bus_mailbox **owed)
{
	struct bus_mailbox *m = route->mbox;
	uint64_t tail;
	uint8_t *at = bus__ring_claim_here(&m->ring, bytes, &tail);

	if (at == NULL) {
		for (size_t i = 0; i < run; i++)
			put_small(pub, route, word | items[i].len, items[i].data, owed);
		return;
	}
	for (size_t i = 0; i < run; i++) {
		bus__ring_fill(at, route, word | items[i].len, items[i].data);
		at += bus__ring_small_bytes((uint32_t)items[i].len);
	}
	if (tail & RING_ASLEEP)
		m->wake(m, owed);
}

/* Returns how many were sent in one claim: at least one. */
static size_t
send_run_here(struct bus_pub *pub, const struct bus_slice *items, size_t count, int *ret_err)
{
	struct bus_mailbox *owed = NULL;
	uint32_t bytes;
	size_t run = measure_run(pub, items, count, &bytes);

	if (run < 2 || !is_quick(pub)) {
		*ret_err = bus_pub_send(pub, items->data, items->len);
		return 1;
	}
	for (uint32_t i = 0; i < pub->routes->count; i++)
		put_run(pub, pub->routes->routes[i], pub->word, items, run, bytes, &owed);
	bus__mailbox_drain_owed(owed);
	return run;
}

static size_t
send_run(struct bus_pub *pub, const struct bus_slice *items, size_t count, int *ret_err)
{
	if (pub->record.topic == NULL)
		return send_run_here(pub, items, count, ret_err);
	*ret_err = bus__is_open(pub->bus) ? 0 : bus__enter(pub->bus);
	if (*ret_err == 0)
		*ret_err = pub->bus->kind->send_many(pub->bus, &pub->record, items, count);
	return *ret_err > 0 ? (size_t)*ret_err : 0;
}

/* Ends a batch at an item that failed. bus_pub_send() has set the text, the log has not. */
static __attribute__((cold, noinline)) int
end_early(const struct bus_pub *pub, int err, const struct bus_slice *item, size_t sent)
{
	if (pub->record.topic != NULL)
		bus__pub_fail(pub, err, item->len);
	return sent > 0 ? (int)sent : err;
}

int
bus_pub_send_many(struct bus_pub *pub, const struct bus_slice *items, size_t count)
{
	size_t sent = 0;
	int err = 0;

	if (pub == NULL || (items == NULL && count > 0) || count > INT_MAX)
		return bus__fail(BUS_E_INVAL,
		    "bus_pub_send_many(): the handle or the items are NULL, or there are more than %d",
		    INT_MAX);
	while (sent < count) {
		size_t run = send_run(pub, items + sent, count - sent, &err);

		if (err < 0)
			return end_early(pub, err, &items[sent], sent);
		sent += run;
	}
	return (int)sent;
}

/* --- messages of peers --------------------------------------------------------------------------------------- */

_Static_assert(BUS__RUN <= RING_MANY && BUS__RUN_BYTES <= RING_TAKE_BYTES &&
		   BUS__RUN_PAYLOAD <= RING_INLINE_MAX,
    "a run fits one claim");

/* Routes of peers lie anywhere in the list. */
static void
put_run_here(const struct bus_pub *pub, uint8_t type, const struct bus_slice *items, size_t count)
{
	struct bus_mailbox *owed = NULL;
	uint32_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += bus__ring_small_bytes((uint32_t)items[i].len);
	for (uint32_t i = 0; i < pub->routes->count; i++) {
		struct route *route = pub->routes->routes[i];

		if (route->mbox->is_peer)
			continue;
		bus__mailbox_fed_by_link(route->mbox);
		put_run(pub, route, bus__ring_word(0, 0, type), items, count, bytes, &owed);
	}
	bus__mailbox_drain_owed(owed);
	bus__heed(pub->bus);
}

size_t
bus__publish_run_from_peer(
    struct bus_pub *pub, uint8_t type, const struct bus_slice *items, size_t count)
{
	int done;

	if (pub->record.topic == NULL) {
		/* Peers do not get it. */
		if (!bus__is_open(pub->bus) || !bus__pub_is_current(pub) || pub->routes == NULL ||
		    !pub->routes->plain_here)
			return 0;
		put_run_here(pub, type, items, count);
		return count;
	}
	if (!bus__is_open(pub->bus))
		return 0;
	done = pub->bus->kind->relay_run(pub->bus, &pub->named, type, items, count);
	return done > 0 ? (size_t)done : 0;
}
