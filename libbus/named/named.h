/* named/named.h: what a named bus does otherwise than a private one: it publishes into its log, and asks and replies
 * there. Reading is in reader.h. */
#ifndef BUS_NAMED_NAMED_H
#define BUS_NAMED_NAMED_H

#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "base/offer.h"
#include "queue/ring.h"

struct bus_mailbox;
struct log;
struct log_item;
struct log_topic;
struct topic;

/* Joins the log of that name. What bus_open() answers. The configuration may be NULL. */
int bus__named_open(struct bus *bus, const char *name, const struct bus_config *cfg);

/* The last reference to the bus has gone: leaves the log. */
void bus__named_close(struct bus *bus);

/* Publishes a message by the name of its topic, which is checked. As bus_publish(). */
int bus__named_publish(struct bus *bus, const char *topic, const struct ring_item *item);

/* The same on a topic that was checked; its name ends with NUL. */
int bus__named_send(struct bus *bus, struct log_topic *topic, const struct ring_item *item);

/* The same for the bus's own messages: a failure leaves bus_error_text() alone. */
int bus__named_append(
    struct bus *bus, const char *topic, const struct ring_item *item, int64_t until_ns);

/* The same for what a peer sent, and so links do not take away, unless they pass it on. Of a retained one bus__offer_judge() says
 * what becomes of it. */
int bus__named_relay(struct bus *bus, struct log_topic *topic, struct ring_item *item,
    struct bus__offer *offer, const struct bus__passed *passed);

/* The same for a run: how many of the first are in, or BUS_E_* if none is. */
int bus__named_relay_run(struct bus *bus, struct log_topic *topic, uint8_t type,
    const struct bus_slice *items, size_t count);

/* A payload of such a record. */
int bus__named_send_one(
    struct bus *bus, const struct log_item *record, const void *data, size_t len);

/* One payload of record->parts, len bytes together. 0 or BUS_E_*. */
int bus__named_send_parts(struct bus *bus, const struct log_item *record, size_t len);

/* Several payloads: how many are in, at least one, or the error of the first. */
int bus__named_send_many(
    struct bus *bus, const struct log_item *record, const struct bus_slice *items, size_t count);

/* Replies to the question of that number, of whatever process. */
int bus__named_reply(struct bus *bus, uint64_t number, const struct ring_item *item);

/* Publishes a question and waits for the first reply; `done` is set when the bus closes. */
int bus__named_ask(struct bus *bus, const struct bus_msg *question, uint64_t number,
    int64_t deadline_ns, _Atomic uint32_t *done, const struct bus_msg **ret_reply);

#endif
