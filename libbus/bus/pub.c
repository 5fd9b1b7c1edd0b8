/* bus/pub.c: a handle on a topic: opening, the general way to send, and close. */
#include "bus/pub.h"

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/sized.h"
#include "base/thread.h"
#include "bus/fail.h"
#include "bus/publish.h"
#include "bus/topic.h"
#include "topic/name.h"

/* The fields that all its records in a log share. */
static void
record_of(struct bus_pub *pub, const struct log *log)
{
	bus__log_topic(log, pub->topic->name, pub->topic->len, &pub->named);
	pub->named.stays = true;
	pub->record = (struct log_item){
	    .topic = &pub->named, .type = (uint8_t)pub->type, .origin = log->member};
}

/* A log needs no routes. */
static void
begin_pub(struct bus_pub *pub, struct bus *bus)
{
	if (bus->log != NULL) {
		record_of(pub, bus->log);
		pub->send_one = bus->kind->send_one;
		return;
	}
	pub->small = bus->max_payload < RING_SMALL_MAX ? bus->max_payload : RING_SMALL_MAX;
	pub->routes =
	    bus__snapshot_ref(atomic_load_explicit(&pub->topic->routes, memory_order_relaxed));
}

static int
open_pub(
    struct bus *bus, const char *topic, const struct bus_pub_config *cfg, struct bus_pub **ret_pub)
{
	struct bus_pub *pub;
	size_t len;
	int err = bus__enter(bus);

	if (err == 0)
		err = bus__topic_check(topic, &len);
	if (err < 0)
		return err;
	if (ret_pub == NULL || (cfg != NULL && (cfg->type < 0 || cfg->type > UINT8_MAX)))
		return BUS_E_INVAL;
	pub = bus__calloc(1, sizeof *pub);
	if (pub == NULL)
		return BUS_E_NOMEM;
	pub->type = cfg != NULL ? cfg->type : BUS_TYPE_UNTAGGED;
	pub->wait_ms = cfg != NULL ? cfg->wait_ms : 0;
	pub->word = bus__ring_word(0, 0, (uint8_t)pub->type);
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0)
		err = bus__topic_make(bus, topic, len, &pub->topic);
	if (err == BUS_E_LIMIT)
		err = BUS__NO_TOPIC;
	if (err == 0) {
		pub->topic->handles++;
		atomic_fetch_add_explicit(&pub->topic->refs, 1, memory_order_relaxed);
		begin_pub(pub, bus);
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

int
bus_pub_open(
    struct bus *bus, const char *topic, const struct bus_pub_config *cfg, struct bus_pub **ret_pub)
{
	struct bus_pub_config room;
	int err = BUS__SIZED_IN(SIZED_PUB_CONFIG, cfg, &room);

	if (err < 0)
		return err;
	err = open_pub(bus, topic, cfg, ret_pub);
	if (err == BUS_E_INVAL && bus != NULL && topic != NULL)
		return bus__fail(err,
		    BUS__SHOWN ": bad argument: ret_pub is NULL, or type is not 0 to 255", topic);
	return err < 0 ? bus__fail_publish(bus, err, topic, 0) : 0;
}

int
bus__pub_fail(const struct bus_pub *pub, int err, size_t len)
{
	if (pub == NULL)
		return bus__fail(err, "the handle is NULL: open one with bus_pub_open()");
	return bus__fail_publish(pub->bus, err, pub->topic->name, len);
}

/* Takes a reference to the topic's present routes and releases the old ones. */
static void
refresh(struct bus_pub *pub)
{
	bus__lock(pub->bus);
	bus__snapshot_unref(pub->routes);
	pub->routes =
	    bus__snapshot_ref(atomic_load_explicit(&pub->topic->routes, memory_order_relaxed));
	bus__unlock(pub->bus);
}

int
bus__pub_try(struct bus_pub *pub, struct ring_item *item, struct attempt *attempt)
{
	struct stripe *stripe = NULL;
	int err;

	if (bus__is_kept(pub->topic, item)) {
		/* It needs the routes that are current under the keep lock, which ours may not be. So it reads them
		 * as a publish by name does. */
		stripe = bus__read_begin(pub->bus);
		err = bus__attempt_kept(pub->bus, pub->topic, item, attempt);
	} else {
		if (!bus__pub_is_current(pub))
			refresh(pub);
		err = pub->routes != NULL ? bus__attempt_plain(pub->routes, item, attempt)
					  : bus__attempt_unheard(pub->bus, pub->topic, attempt);
	}
	if (err == BUS_E_FULL)
		bus__mailbox_ref(attempt->full);
	if (stripe != NULL)
		bus__read_end(stripe);
	return err;
}

/* Ends a send by handle that has failed. */
static __attribute__((cold, noinline)) void
end_failed(const struct bus_pub *pub, const struct attempt *attempt, int err, size_t len)
{
	if (err != BUS_E_FULL) {
		bus__pub_fail(pub, err, len);
		return;
	}
	bus__count_refused(attempt->full);
	bus__fail_full(attempt->full, pub->topic->name);
}

/* Waits for room until the deadline, or as long as this thread may block. 1: there may be room; 0: timed out; BUS__E_WAITS: this
 * thread may not block longer; BUS_E_CLOSED. */
static __attribute__((cold, noinline)) int
await_room(const struct bus_pub *pub, struct bus_mailbox *full, const struct ring_item *item,
    int64_t deadline_ns)
{
	int64_t limit_ns = bus__wait_limit();
	bool limited = limit_ns < deadline_ns;

	if (limited && limit_ns <= bus__now_ns())
		return BUS__E_WAITS;
	if (bus__mailbox_await_room(full, item, limited ? limit_ns : deadline_ns))
		return bus__is_open(pub->bus) ? 1
					      : bus__pub_fail(pub, bus__enter(pub->bus), item->len);
	return limited ? BUS__E_WAITS : 0;
}

int
bus__pub_send_item(struct bus_pub *pub, struct ring_item *item)
{
	const struct ring_item fresh = *item; /* a try changes it */
	int wait_ms = bus__in_callback() ? 0 : pub->wait_ms;
	int64_t deadline_ns = wait_ms != 0 ? bus__deadline_ns(wait_ms) : 0;
	int err, room;

	if (pub->record.topic != NULL)
		return pub->bus->kind->send(pub->bus, &pub->named, item);
	do {
		struct attempt attempt = {.pool = &pub->pool};

		err = bus__pub_try(pub, item, &attempt);
		room = 0;
		bus__attempt_end(pub->bus, pub->topic->name, &attempt);
		if (err == BUS_E_FULL && wait_ms != 0)
			room = await_room(pub, attempt.full, item, deadline_ns);
		if (err < 0 && room == 0)
			end_failed(pub, &attempt, err, item->len);
		if (err == BUS_E_FULL)
			bus__mailbox_unref(attempt.full);
		if (room < 0)
			err = room;
		*item = fresh;
	} while (room > 0);
	return err;
}

static int
send_msg(struct bus_pub *pub, const struct bus_msg *msg)
{
	struct ring_item item;
	int err = bus__item_make(pub->bus, msg, &item);

	if (err < 0)
		return bus__pub_fail(pub, err, msg->len + msg->headers_len);
	return bus__pub_send_item(pub, &item);
}

int
bus__pub_send_bytes(struct bus_pub *pub, const void *data, size_t len)
{
	int err = bus__pub_enter(pub);

	if (err < 0)
		return bus__pub_fail(pub, err, len);
	return send_msg(pub, &(struct bus_msg){.data = data, .len = len, .type = pub->type});
}

int
bus_pub_send_msg(struct bus_pub *pub, const struct bus_msg *msg)
{
	struct bus_msg room;
	int err = bus__pub_enter(pub);

	if (err < 0)
		return bus__pub_fail(pub, err, 0);
	if (msg == NULL)
		return bus__fail(BUS_E_INVAL, BUS__SHOWN ": the message is NULL", pub->topic->name);
	err = BUS__SIZED_IN(SIZED_MSG, msg, &room);
	return err < 0 ? err : send_msg(pub, msg);
}

void
bus_pub_close(struct bus_pub *pub)
{
	struct bus *bus;

	if (pub == NULL || pub->bus->fork_generation != bus__fork_generation())
		return;
	bus = pub->bus;
	while (pub->loans != NULL)
		bus__pub_end_loan(pub, pub->loans->data);
	bus__pool_close(pub->pool);
	bus__lock(bus);
	pub->topic->handles--;
	bus__snapshot_unref(pub->routes);
	bus__unlock(bus);
	bus__topic_unref(pub->topic);
	bus__free(pub);
	bus__unref(bus);
}
