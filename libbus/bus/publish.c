/* bus/publish.c: publishing by the name of a topic, from any thread. */
#define _POSIX_C_SOURCE 200809L
#include "bus/publish.h"

#include <string.h>

#include "base/sized.h"
#include "bus/attempt.h"
#include "bus/bus_internal.h"
#include "bus/fail.h"
#include "bus/notice.h"
#include "topic/name.h"

/* bus_close() waits for stripes. Work after the stripe is given back needs a reference, taken before. */
static inline void
hold_for_more(struct bus *bus, struct attempt *attempt, bool more)
{
	if ((more || attempt->owed != NULL || attempt->unheard ||
		atomic_load_explicit(&bus->watched, memory_order_relaxed) != 0) &&
	    attempt->held == NULL)
		attempt->held = bus__ref(bus);
}

/* Ends a failed publish by name on an existing topic. Gives the stripe back and drains first: callbacks may
 * fail too, and the error text must be this call's. Failures of the bus's own notices are ignored. */
static __attribute__((cold, noinline)) void
end_refused(
    struct bus *bus, const char *name, struct stripe *stripe, struct attempt *attempt, int err)
{
	if (err == BUS_E_FULL) {
		bus__count_refused(attempt->full);
		bus__mailbox_ref(attempt->full);
	}
	hold_for_more(bus, attempt, true);
	bus__read_end(stripe);
	bus__mailbox_drain_owed(attempt->owed);
	attempt->owed = NULL;
	if (err == BUS_E_FULL && !attempt->from_peer)
		bus__fail_full(attempt->full, name);
	else if (!attempt->from_peer)
		bus__fail_publish(bus, err, name, 0);
	if (err == BUS_E_FULL)
		bus__mailbox_unref(attempt->full);
}

/* Publishes on an existing topic. false: there is none. */
static inline __attribute__((always_inline)) bool
publish_on_found(struct bus *bus, const char *name, size_t len, struct ring_item *item,
    struct attempt *attempt, int *ret_err)
{
	struct stripe *stripe = bus__read_begin(bus);
	struct topic *topic = bus__topic_find(bus, name, len);
	const struct snapshot *routes;

	if (topic != NULL) {
		if (!atomic_load_explicit(&topic->used, memory_order_relaxed))
			atomic_store_explicit(&topic->used, true, memory_order_relaxed);
		attempt->pool = &stripe->pool;
		routes = atomic_load_explicit(&topic->routes, memory_order_acquire);
		if (bus__is_kept(topic, item))
			*ret_err = bus__attempt_kept(bus, topic, item, attempt);
		else if (routes != NULL)
			*ret_err = bus__attempt_plain(routes, item, attempt);
		else
			*ret_err = bus__attempt_unheard(bus, topic, attempt);
		if (*ret_err < 0) {
			end_refused(bus, name, stripe, attempt, *ret_err);
			return true;
		}
	}
	hold_for_more(bus, attempt, topic == NULL || *ret_err == ATTEMPT_SWEPT);
	bus__read_end(stripe);
	return topic != NULL;
}

/* Inline: a plain publish pays nothing for questions, which share this code. own: on a topic of the bus itself, which
 * peers do not get. */
static inline __attribute__((always_inline)) int
publish_named(
    struct bus *bus, const char *name, struct ring_item *item, struct attempt *attempt, bool own)
{
	struct topic *topic;
	size_t len = name != NULL ? strnlen(name, BUS_LIMIT_TOPIC_BYTES + 1) : 0;
	bool checked = own;
	int err = 0;

	if (bus->log != NULL && !own)
		return bus->kind->publish(bus, name, item);
	/* Names in the table are valid; but $... is for the bus itself. */
	while (len == 0 || (name[0] == '$' && !own) ||
	       !publish_on_found(bus, name, len, item, attempt, &err) || err == ATTEMPT_SWEPT) {
		if (!checked) {
			err = bus__topic_check(name, &len);
			if (err < 0) {
				err = bus__fail_name(err, name);
				break;
			}
			checked = true;
		}
		/* New: make it, and look it up again, since a sweep may remove it before we publish. */
		bus__lock(bus);
		err = bus__topic_make(bus, name, len, &topic);
		bus__unlock(bus);
		if (err < 0) {
			err = own ? err : bus__fail_publish(bus, err, name, 0);
			break;
		}
	}
	if (attempt->held != NULL) {
		bus__attempt_end(bus, name, attempt);
		bus__unref(attempt->held);
	}
	return err;
}

static int
publish_by_name(struct bus *bus, const char *name, struct ring_item *item, bool own)
{
	struct attempt attempt = {.from_peer = own};

	return publish_named(bus, name, item, &attempt, own);
}

int
bus__publish_notice(struct bus *bus, const char *topic, const void *data, size_t len)
{
	struct ring_item item = {
	    .data = data, .len = (uint32_t)len, .type = (uint8_t)BUS_TYPE_MSGPACK};

	return publish_by_name(bus, topic, &item, true);
}

int
bus_publish_msg(struct bus *bus, const struct bus_msg *msg)
{
	struct bus_msg room;
	struct ring_item item;
	int err = bus__enter(bus);

	if (err < 0)
		return bus__fail_publish(bus, err, NULL, 0);
	if (msg == NULL)
		return bus__fail(BUS_E_INVAL, "the message is NULL");
	err = BUS__SIZED_IN(SIZED_MSG, msg, &room);
	if (err < 0)
		return err;
	err = bus__item_make(bus, msg, &item);
	if (err < 0)
		return bus__fail_publish(bus, err, msg->topic, msg->len + msg->headers_len);
	return publish_by_name(bus, msg->topic, &item, false);
}

int
bus__publish_question(struct bus *bus, const struct bus_msg *msg, uint64_t number,
    int64_t deadline_ns, uint32_t *ret_takers)
{
	struct attempt attempt = {.from_peer = false};
	struct ring_item item;
	int err = bus__item_make(bus, msg, &item);

	if (err < 0)
		return bus__fail_publish(bus, err, msg->topic, msg->len + msg->headers_len);
	if ((item.flags & RING_TTL) && item.expires_ns > deadline_ns)
		item.expires_ns = deadline_ns; /* the time to get here counts */
	item.flags |= RING_REPLY;
	item.reply = number;
	err = publish_named(bus, msg->topic, &item, &attempt, false);
	*ret_takers = attempt.takers;
	return err;
}

/* Separate, so that a publish that succeeds saves no register for it. */
static __attribute__((cold, noinline)) int
fail_closed(const struct bus *bus, const char *topic)
{
	int err = bus__enter(bus);

	return err < 0 ? bus__fail_publish(bus, err, topic, 0) : 0;
}

int
bus_publish(struct bus *bus, const char *topic, const void *data, size_t len)
{
	struct ring_item item = {.data = data, .len = (uint32_t)len};
	int err;

	if (bus == NULL || !bus__is_open(bus))
		return fail_closed(bus, topic);
	err = bus__payload_check(bus, data, len);
	if (err < 0)
		return bus__fail_publish(bus, err, topic, len);
	return publish_by_name(bus, topic, &item, false);
}
