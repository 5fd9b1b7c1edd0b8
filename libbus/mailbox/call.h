/* mailbox/call.h: the subscriptions behind one message, for its drainer. Inline: it runs for every message. */
#ifndef BUS_MAILBOX_CALL_H
#define BUS_MAILBOX_CALL_H

#include "mailbox/route.h"

/* The slots of a route. A callback may replace them; they stay readable until the batch ends. It may also append to
 * them: a reader that reads the count once sees a complete list, though not the newest. */
static inline const struct slots *
bus__slots(const struct route *route)
{
	return atomic_load_explicit(&route->slots, memory_order_acquire);
}

/* The slot's subscription, if the message at `position` is for it (or for `target` alone) and none of these reasons mutes
 * it; otherwise NULL. */
static inline struct bus_sub *
bus__slot_sub(const struct slot *slot, uint64_t position, const void *target, unsigned mute)
{
	struct bus_sub *sub = atomic_load_explicit(&slot->sub, memory_order_relaxed);

	if (sub == NULL || (atomic_load_explicit(&sub->mute, memory_order_relaxed) & mute))
		return NULL;
	if (target != NULL ? sub != target : position < slot->from)
		return NULL;
	return sub;
}

/* Calls the subscriptions; if receiver is not NULL, only its own. false: there was none to call. */
static inline bool
bus__call_subs(const struct route *route, uint64_t position, const void *target,
    const struct bus_mailbox *receiver, const struct bus_msg *msg)
{
	const struct slots *slots = bus__slots(route);
	const struct slot *slot = slots->at;
	const struct slot *end = slot + atomic_load_explicit(&slots->count, memory_order_acquire);
	bool called = false;

	do {
		struct bus_sub *sub = bus__slot_sub(slot, position, target, MUTE_DEAD | MUTE_RECV);

		if (sub == NULL || (receiver != NULL && sub->mbox != receiver))
			continue;
		sub->fn(sub->arg, msg);
		called = true;
	} while (++slot < end); /* a list is never empty */
	return called;
}

/* Whether the message is for any of them. */
static inline bool
bus__is_wanted(const struct ring_view *view, const struct bus_mailbox *receiver)
{
	const struct slots *slots = bus__slots(view->route);
	uint32_t count = atomic_load_explicit(&slots->count, memory_order_acquire);

	for (uint32_t i = 0; i < count; i++) {
		const struct bus_sub *sub =
		    bus__slot_sub(&slots->at[i], view->position, view->target, MUTE_DEAD);

		if (sub != NULL && (receiver == NULL || sub->mbox == receiver))
			return true;
	}
	return false;
}

#endif
