/* core/publish.h: publishing, as the rest of the core needs it. */
#ifndef BUS_CORE_PUBLISH_H
#define BUS_CORE_PUBLISH_H

#include <libbus/bus.h>

#include "queue/ring.h"

/* Checks a message and makes the item that rings take. */
int bus__item_make(const struct bus *bus, const struct bus_msg *msg, struct ring_item *ret_item);

/* Publishes a question under its number, which nobody gets after the deadline; *ret_takers: how many mailboxes were to get
 * it. */
int bus__publish_question(struct bus *bus, const struct bus_msg *msg, uint64_t number,
    int64_t deadline_ns, uint32_t *ret_takers);

/* After a send answered BUS__E_WAITS (base/park.h), because this thread must not wait and a mailbox that refuses has no room: sleeps
 * until that one may have room for these bytes, or the deadline. Nothing of a named bus is waited for. A thread that must not wait sends
 * next; one that has no more time publishes by name, which counts as refused. */
void bus__pub_await_room(struct bus_pub *pub, const void *data, size_t len, int64_t deadline_ns);

#endif
