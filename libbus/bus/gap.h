/* bus/gap.h: telling the mailboxes of a bus of messages that a link lost on their way here. */
#ifndef BUS_BUS_GAP_H
#define BUS_BUS_GAP_H

#include <stdbool.h>
#include <stdint.h>

struct bus;

/* More than this cannot be lost, whatever a peer says: a message takes a nanosecond at least. */
#define BUS__GAP_MOST (UINT64_C(1) << 48)

/* Lets the next message of every mailbox that wants what links carry tell of `count` lost messages, of any topic; of a
 * named bus in all its processes, by a record between the messages of its log. at_least: count is a lower bound.
 * 0, or an error of bus__log_append(): no mailbox has the gap then. [bus lock] */
int bus__tell_gap(struct bus *bus, uint64_t count, bool at_least);

#endif
