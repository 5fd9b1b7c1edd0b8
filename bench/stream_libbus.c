/* bench/stream_libbus.c: libbus as a program uses it: handles, mailboxes of the default policy and bound, with
 * a thread of their own. */
#include "stream.h"

#include <stdlib.h>

#include <libbus/bus.h>

#define FLUSH_MS 60000

struct peer {
	struct bus *bus;
	struct bus_mailbox *mailboxes[STREAM_RECEIVERS];
	struct bus_pub *pubs[STREAM_PUBLISHERS];
	unsigned mailbox_count, pub_count;
};

static void
check(int err, const char *what)
{
	if (err < 0)
		bench_die(what);
}

static void
on_place(void *arg, const struct bus_msg *msg)
{
	struct stream_receiver *receiver = arg;

	(void)msg;
	stream_place_receiver(receiver->stream, (unsigned)(receiver - receiver->stream->receivers));
}

static void
on_message(void *arg, const struct bus_msg *msg)
{
	stream_take(arg, msg->data);
}

static void *
open_as(struct stream *s, const char *name)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct peer *p = calloc(1, sizeof *p);

	if (p == NULL)
		bench_die("calloc");
	check(bus_open(name, NULL, &p->bus), "bus_open");
	for (; p->mailbox_count < s->shape.receivers; p->mailbox_count++) {
		struct bus_mailbox **mailbox = &p->mailboxes[p->mailbox_count];
		struct stream_receiver *receiver = &s->receivers[p->mailbox_count];

		check(bus_mailbox_open(p->bus, &cfg, mailbox), "bus_mailbox_open");
		check(bus_mailbox_subscribe(*mailbox, "place", on_place, receiver, NULL),
		    "bus_mailbox_subscribe");
		for (unsigned c = 0; c < s->shape.callbacks; c++)
			check(bus_mailbox_subscribe(*mailbox, "bench", on_message, receiver, NULL),
			    "bus_mailbox_subscribe");
	}
	check(bus_publish(p->bus, "place", NULL, 0), "bus_publish");
	check(bus_flush(p->bus, FLUSH_MS), "bus_flush");
	for (; p->pub_count < s->shape.publishers; p->pub_count++)
		check(bus_pub_open(p->bus, "bench", NULL, &p->pubs[p->pub_count]), "bus_pub_open");
	return p;
}

static void *
open_libbus(struct stream *s)
{
	return open_as(s, NULL);
}

static void *
open_named(struct stream *s)
{
	return open_as(s, "libbus-bench-one-process");
}

STREAM_INLINE void
send_one(struct stream *s, void *self, unsigned publisher, const void *data)
{
	struct peer *p = self;

	check(bus_pub_send(p->pubs[publisher], data, s->payload), "bus_pub_send");
}

static void
publish(struct stream *s, void *self, unsigned publisher)
{
	stream_publish(s, self, publisher, send_one);
}

STREAM_INLINE void
send_batch(struct stream *s, void *self, unsigned publisher, const void *items, size_t count)
{
	struct peer *p = self;
	struct bus_slice slices[STREAM_BATCH];

	for (size_t i = 0; i < count; i++)
		slices[i] = (struct bus_slice){(const char *)items + i * s->payload, s->payload};
	check(bus_pub_send_many(p->pubs[publisher], slices, count), "bus_pub_send_many");
}

static void
publish_batches(struct stream *s, void *self, unsigned publisher)
{
	stream_publish_batches(s, self, publisher, send_batch);
}

static double
settle(void *self)
{
	struct peer *p = self;
	struct bus_stats stats = {.size = sizeof stats};

	check(bus_flush(p->bus, FLUSH_MS), "bus_flush");
	check(bus_stats(p->bus, &stats), "bus_stats");
	return (double)stats.lost[BUS_LOSS_FULL] / (double)stats.offered;
}

static void
close_libbus(void *self)
{
	struct peer *p = self;

	for (unsigned i = 0; i < p->pub_count; i++)
		bus_pub_close(p->pubs[i]);
	for (unsigned i = 0; i < p->mailbox_count; i++)
		bus_mailbox_close(p->mailboxes[i]);
	check(bus_close(p->bus, FLUSH_MS), "bus_close");
	free(p);
}

const struct stream_peer stream_libbus = {
    .open = open_libbus, .publish = publish, .settle = settle, .close = close_libbus};

const struct stream_peer stream_libbus_batch = {
    .open = open_libbus, .publish = publish_batches, .settle = settle, .close = close_libbus};

const struct stream_peer stream_libbus_named = {
    .open = open_named, .publish = publish, .settle = settle, .close = close_libbus};
