#include "core/gap.h"

#include <string.h>

#include "base/clock.h"
#include "core/bus_internal.h"
#include "core/mailbox.h"
#include "log/log.h"

#define WAIT_NS INT64_C(100000000) /* for the turn; then the link tells again later */

static int
tell_log(struct bus *bus, uint64_t count, bool at_least)
{
	/* Under the bus lock. */
	const struct log_item item = {.flags = LOG_GAP | LOG_RELAYED,
	    .origin = bus->log->member,
	    .until_ns = bus__now_ns() + WAIT_NS};
	uint8_t payload[LOG_GAP_BYTES] = {[LOG_GAP_BYTES - 1] = at_least};
	uint64_t sequence;

	memcpy(payload, &count, sizeof count);
	return bus__log_append(
	    bus->log, &item, &(struct bus_slice){payload, sizeof payload}, 1, &sequence);
}

static void
tell_mailboxes(struct bus *bus, uint64_t count, bool at_least)
{
	uint64_t gap = count | (at_least ? RING_LOST_AT_LEAST : 0);

	bus__lock(bus);
	for (struct bus_mailbox *m = bus->mailboxes; m != NULL; m = m->next) {
		if (atomic_load_explicit(&m->carried_subs, memory_order_relaxed) == 0)
			continue;
		bus__ring_tell(&m->ring, gap);
		bus__mailbox_count_gap(m, gap);
	}
	bus__unlock(bus);
}

int
bus__tell_gap(struct bus *bus, uint64_t count, bool at_least)
{
	if (bus->log != NULL)
		return tell_log(bus, count, at_least);
	tell_mailboxes(bus, count, at_least);
	return 0;
}
