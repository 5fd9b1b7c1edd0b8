/* support/world.h: buses, mailboxes and messages, as most tests need them. A call here that fails ends the test.
 *
 *   struct bus *bus = open_bus();                              a private bus
 *   struct bus *bus = join(dir);                               the named bus "test" of that directory
 *   struct bus_mailbox *m = subscriber(bus, "t");               a mailbox with one subscription, for bus_recv()
 *   struct bus_mailbox *m = open_mailbox(bus, "t", .bytes = 4096, .full = BUS_FULL_REFUSE);
 *
 *   publish_text(bus, "t", "hello"); retain_text(bus, "t", "on");
 *   expect_message(m, "t", "hello"); expect_nothing(m); await_message(m, "t", "hello", 5);
 *   mailbox_stats(m).lost[BUS_LOSS_FULL]
 *
 * With links: link_test.h, which includes this. */
#ifndef WORLD_H
#define WORLD_H

#include "bus_test.h"

#include <stdatomic.h>
#include <string.h>

#include <libbus/bus.h>

/* --- buses ------------------------------------------------------------------------------------------------------- */

static inline struct bus *
open_bus(void)
{
	struct bus *bus;

	ck_bus(bus_open(NULL, NULL, &bus), 0);
	return bus;
}

/* A bus with the smallest log that all tests fit in. */
static inline struct bus *
join_as(const char *dir, const char *name)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = dir, .log_bytes = 4 << 20};
	struct bus *bus;

	ck_bus(bus_open(name, &cfg, &bus), 0);
	return bus;
}

static inline struct bus *
join(const char *dir)
{
	return join_as(dir, "test");
}

/* --- mailboxes --------------------------------------------------------------------------------------------------- */

static inline struct bus_mailbox *
world_open_mailbox(struct bus *bus, const char *filter, const struct bus_mailbox_config *cfg)
{
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, cfg, &mbox), 0);
	if (filter != NULL)
		ck_bus(bus_mailbox_subscribe(mbox, filter, NULL, NULL, NULL), 0);
	return mbox;
}

/* A mailbox with these options, subscribed to the filter unless that is NULL. */
#define open_mailbox(bus, filter, ...)                                                             \
	world_open_mailbox(bus, filter,                                                            \
	    &(struct bus_mailbox_config){.size = sizeof(struct bus_mailbox_config), __VA_ARGS__})

static inline struct bus_mailbox *
subscriber(struct bus *bus, const char *filter)
{
	return world_open_mailbox(bus, filter, NULL);
}

/* Its counters; every message offered to it is in exactly one of them. For a mailbox in which nothing happens meanwhile. */
static inline struct bus_stats
mailbox_stats(struct bus_mailbox *mbox)
{
	struct bus_stats stats = {.size = sizeof stats};
	uint64_t sum;

	ck_bus(bus_mailbox_stats(mbox, &stats), 0);
	sum = stats.delivered + stats.pending + stats.refused;
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		sum += stats.lost[i];
	ck_assert_uint_eq(stats.offered, sum);
	return stats;
}

/* Callbacks: one adds to an _Atomic unsigned. */
static inline void
count_message(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static inline void
ignore_message(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static inline void
publish_text(struct bus *bus, const char *topic, const char *text)
{
	ck_bus(bus_publish(bus, topic, text, strlen(text)), 0);
}

static inline void
retain_text(struct bus *bus, const char *topic, const char *text)
{
	const struct bus_msg msg = {.size = sizeof msg,
	    .topic = topic,
	    .data = text,
	    .len = strlen(text),
	    .flags = BUS_MSG_RETAIN};

	ck_bus(bus_publish_msg(bus, &msg), 0);
}

static inline const struct bus_msg *
world_expect(int line, struct bus_mailbox *mbox, const char *topic, const char *text)
{
	const struct bus_msg *msg;
	int got = bus_recv(mbox, patience_ms(), &msg);

	ck_assert_msg(got == 1, "line %d: %s did not come: %s", line, text, bus_errname(got));
	ck_assert_msg(strcmp(msg->topic, topic) == 0 && msg->len == strlen(text) &&
			  memcmp(msg->data, text, msg->len) == 0,
	    "line %d: %.*s came on %s, not %s on %s", line, (int)msg->len, (const char *)msg->data,
	    msg->topic, text, topic);
	return msg;
}

/* The next message, which has this topic and text: good until the next bus_recv(). */
#define expect_message(mbox, topic, text) world_expect(__LINE__, mbox, topic, text)

/* Nothing is there. Whatever was published before on this bus, in any process, would be: this does not wait. */
static inline void
world_expect_nothing(int line, struct bus_mailbox *mbox)
{
	const struct bus_msg *msg;
	int got = bus_recv(mbox, 0, &msg);

	ck_assert_msg(
	    got == 0, "line %d: bus_recv() answered %d, and not that nothing is there", line, got);
}
#define expect_nothing(mbox) world_expect_nothing(__LINE__, mbox)

/* Waits for a message of that topic that begins with these bytes, whatever comes before it. With len 0: for an empty one. */
static inline void
await_message(struct bus_mailbox *mbox, const char *topic, const void *data, size_t len)
{
	const struct bus_msg *msg;

	do {
		if (bus_recv(mbox, patience_ms(), &msg) != 1)
			ck_abort_msg("no such message came on %s", topic);
	} while (strcmp(msg->topic, topic) != 0 || (len == 0 && msg->len != 0) || msg->len < len ||
		 memcmp(msg->data, data, len) != 0);
}

#endif
