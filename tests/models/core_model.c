#include "core_model.h"

#include <string.h>

#include "bus/bus_internal.h"

struct bus *model_bus;
struct bus_mailbox *model_mbox;
struct bus_sub *model_sub;
struct bus_pub *model_pub[MODEL_THREADS];
struct model_listener model_listener;

static void
hear(void *arg, const struct bus_msg *msg)
{
	struct model_listener *listener = arg;
	uint8_t bytes[2];

	model_check(msg->len == sizeof bytes);
	memcpy(bytes, msg->data, sizeof bytes);
	model_check(bytes[0] < MODEL_THREADS && bytes[1] > listener->last[bytes[0]]);
	model_check(!listener->over);
	listener->last[bytes[0]] = bytes[1];
	listener->calls++;
	listener->lost += msg->lost;
}

void
model_name_parts(struct bus_mailbox *m)
{
	struct ring *r = &m->ring;

	model_share("tail", &r->tail, sizeof r->tail);
	model_share("head", &r->head, sizeof r->head);
	model_share("head_lock", &r->head_lock, sizeof r->head_lock);
	model_share("bytes", r->bytes, r->size);
	model_share("wakes", &m->wakes, sizeof m->wakes);
	model_share("room", &m->room, sizeof m->room);
	model_share("phase", &m->phase, sizeof m->phase);
	model_share("busy", &m->busy, sizeof m->busy);
	model_share("stripes", model_bus->stripes, sizeof model_bus->stripes);
}

void
model_bus_open(int full, int drain, int publishers, int wait_ms)
{
	const struct bus_mailbox_config mailbox = {
	    .size = sizeof mailbox, .full = full, .drain = drain, .bytes = RING_MIN_BYTES};
	const struct bus_pub_config pub = {.size = sizeof pub, .wait_ms = wait_ms};

	memset(&model_listener, 0, sizeof model_listener);
	memset(model_pub, 0, sizeof model_pub);
	model_share("listener", &model_listener, sizeof model_listener);
	model_check(bus_open(NULL, NULL, &model_bus) == 0);
	model_check(bus_mailbox_open(model_bus, &mailbox, &model_mbox) == 0);
	model_check(bus_mailbox_subscribe(model_mbox, "a", hear, &model_listener, &model_sub) == 0);
	for (int i = 0; i < publishers; i++)
		model_check(bus_pub_open(model_bus, "a", &pub, &model_pub[i]) == 0);
	model_name_parts(model_mbox);
}

struct route *
model_route(void)
{
	return bus__topic_find(model_bus, "a", 1)->routes->routes[0];
}

void
model_shrink(uint64_t size)
{
	struct ring *r = &model_mbox->ring;

	r->size = size;
	r->mask = size - 1;
	atomic_init(&r->limit, size);
}

int
model_send(int publisher, int number)
{
	const uint8_t bytes[2] = {(uint8_t)publisher, (uint8_t)number};

	return bus_pub_send(model_pub[publisher], bytes, sizeof bytes);
}

void
model_bus_close(uint64_t offered)
{
	struct bus_stats stats = {.size = sizeof stats};
	uint64_t accounted;

	while (model_mbox->drain == BUS_DRAIN_CALLER && bus_dispatch(model_mbox, 0, 0) > 0)
		;
	model_check(bus_mailbox_stats(model_mbox, &stats) == 0);
	accounted = stats.delivered + stats.pending + stats.refused;
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		accounted += stats.lost[i];
	model_check(stats.offered == accounted && accounted == offered);
	model_check(stats.pending == 0 && stats.delivered == model_listener.calls);
	for (int i = 0; i < MODEL_THREADS; i++) {
		bus_pub_close(model_pub[i]);
		model_pub[i] = NULL;
	}
	bus_unsubscribe(model_sub, NULL);
	bus_mailbox_close(model_mbox);
	model_check(bus_close(model_bus, 0) == 0);
}
