/* bus/publish.h: publishing, for the rest of the core. */
#ifndef BUS_BUS_PUBLISH_H
#define BUS_BUS_PUBLISH_H

#include <libbus/bus.h>

#include "bus/bus_internal.h"
#include "queue/ring.h"

/* Checks the payload: 0, BUS_E_INVAL or BUS_E_TOO_BIG. */
static inline int
bus__payload_check(const struct bus *bus, const void *data, size_t len)
{
	if (data == NULL && len > 0)
		return BUS_E_INVAL;
	return len > bus->max_payload ? BUS_E_TOO_BIG : 0;
}

/* Checks a message and makes the item that rings take. */
int bus__item_make(const struct bus *bus, const struct bus_msg *msg, struct ring_item *ret_item);

/* Publishes a question under its number; it is not delivered after the deadline. *ret_takers: how many mailboxes it was
 * meant for. */
int bus__publish_question(struct bus *bus, const struct bus_msg *msg, uint64_t number,
    int64_t deadline_ns, uint32_t *ret_takers);

#endif
