/* mailbox/group.h: several receivers that share the work of one mailbox.
 *
 *     routes ──► group: ring, policy, counters of the past ──► receivers: a batch of one message, subscriptions
 *
 * A message goes to the receiver that takes it, and to that receiver's subscriptions alone. Receivers sleep on the
 * group's `wakes`, and one claim wakes one of them. So that no message waits while a receiver sleeps:
 *   - a receiver that goes to sleep counts itself in `parked`, and sleeps only after it has seen RING_ASLEEP by a
 *     read-modify-write of tail: a claim behind that clears the bit, wakes, and its taker sees the count (tail: acq_rel ->
 *     acquire of the claim; word: release -> acquire of the take);
 *   - a receiver that has taken a message, and sees others parked, sets RING_ASLEEP for them, or wakes one if more is inside;
 *   - a receiver that leaves, or stops taking, wakes all. */
#ifndef BUS_MAILBOX_GROUP_H
#define BUS_MAILBOX_GROUP_H

#include "mailbox/mailbox.h"

enum { GROUP_NAME_MOST = 64 };

static inline bool
bus__is_receiver(const struct bus_mailbox *m)
{
	return m->queue != m;
}

/* Makes a receiver of the group of that name, and the group if it is the first. Bus lock. 0, BUS_E_NOMEM, or
 * BUS_E_INVAL: not a name, or the group has another policy or bound. */
int bus__group_join(
    struct bus *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox **ret_receiver);

/* Takes out a receiver without a batch and subscriptions; its counters stay with the group. true: it
 * was the last one, and the caller ends the group. Bus lock. */
bool bus__group_leave(struct bus_mailbox *receiver);

/* A subscription of a receiver began, or is about to end. Bus lock. */
void bus__group_count(struct bus_sub *sub, bool begins);

/* From now on the receiver takes no messages. */
void bus__group_retire(struct bus_mailbox *receiver);

/* Whether a receiver may take messages. Head lock. */
bool bus__group_takes(const struct bus_mailbox *receiver);

/* Everything before this position is handled. Head lock. */
uint64_t bus__group_handled(const struct bus_mailbox *group);

#endif
