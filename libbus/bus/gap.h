/* bus/gap.h: telling the mailboxes of a bus of messages that a link lost on their way here. */
#ifndef BUS_BUS_GAP_H
#define BUS_BUS_GAP_H

#include <stdbool.h>
#include <stdint.h>

struct bus;

/* A larger loss is impossible, whatever a peer says: a message takes at least a nanosecond. */
#define BUS__GAP_MOST (UINT64_C(1) << 48)

/* Adds `count` lost messages, of any topic, to `lost` of the next message in every mailbox that wants what links carry. On a named
 * bus a record between the messages of its log does so in all its processes. at_least: count is a lower bound.
 * 0, or an error of bus__log_append(): then no mailbox has the gap. [bus lock] */
int bus__tell_gap(struct bus *bus, uint64_t count, bool at_least);

#endif
