/* bus/private.c: the private kind: publishers put messages into mailboxes, and topics keep their values. */
#include "bus/kind.h"

#include "bus/bus_internal.h"
#include "bus/explain.h"
#include "bus/fail.h"
#include "bus/keep.h"
#include "bus/notice.h"
#include "mailbox/mailbox.h"
#include "bus/request.h"
#include "mailbox/source.h"
#include "bus/walk.h"

static int
open_private(struct bus *bus, const char *name, const struct bus_config *cfg)
{
	(void)bus;
	(void)name;
	return cfg != NULL && cfg->will != NULL ? BUS_E_NOTSUP : 0;
}

static int
check_mailbox(const struct bus_mailbox_config *cfg)
{
	if (cfg->from == BUS_FROM_NOW)
		return 0;
	return bus__fail(BUS_E_NOTSUP, "from: a private bus has no past: open a named bus");
}

static int
begin_sub(struct bus_mailbox *m, struct bus_sub *sub, const char *filter)
{
	(void)m;
	(void)sub;
	(void)filter;
	return 0;
}

static void
joined(struct bus_mailbox *m)
{
	(void)m;
}

static void
list_sub(struct bus *bus, struct bus_sub *sub, const char *filter)
{
	(void)bus;
	(void)sub;
	(void)filter;
}

static void
unlist_sub(struct bus *bus, struct bus_sub *sub)
{
	(void)bus;
	(void)sub;
}

/* Messages that a group has accepted are also for receivers that join later. */
static uint64_t
meant_from(struct topic *topic, struct bus_sub *sub)
{
	const struct bus_mailbox *queue = sub->mbox->queue;

	(void)topic;
	return queue->is_group ? 0 : bus__ring_tail(&queue->ring) & ~RING_FLAG_BITS;
}

static int
put_kept(struct bus *bus, struct topic *topic, struct route *route, struct bus_sub *sub)
{
	if (!sub->mbox->is_peer)
		return bus__history_put(bus, topic, route, sub);
	/* A walk sends a peer its values. */
	if (route->live == 1)
		route->owed = topic->history != NULL && topic->history->value != NULL;
	return 0;
}

static void
route_ends(struct route *route)
{
	(void)route;
}

static void
topic_ends(struct bus *bus)
{
	(void)bus;
}

static uint64_t
number(const struct bus *bus, uint64_t secret)
{
	(void)bus;
	return secret;
}

static int
begin_replies(struct bus_mailbox *m)
{
	(void)m;
	return 0;
}

static void
call_askers(struct bus *bus)
{
	(void)bus;
}

static int
tell_gap(struct bus *bus, uint64_t count, bool at_least)
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
	return 0;
}

static int
take_link_role(struct bus *bus, const char *url, uint64_t *ret_role)
{
	(void)bus;
	(void)url;
	*ret_role = 0;
	return 1;
}

static void
end_link_role(struct bus *bus, uint64_t role)
{
	(void)bus;
	(void)role;
}

static bool
waits_for_peer(const struct bus_mailbox *m)
{
	(void)m;
	return false;
}

static void
explain_nothing(struct explaining *e, struct bus *bus)
{
	(void)e;
	(void)bus;
}

static int
fail(const struct bus *bus, int err, const char *topic, size_t len)
{
	(void)bus;
	(void)err;
	(void)topic;
	(void)len;
	return 0;
}

static int
error(const struct bus *bus)
{
	(void)bus;
	return 0;
}

static void
leave(struct bus *bus, int64_t deadline_ns)
{
	(void)bus;
	(void)deadline_ns;
}

static void
fini(struct bus *bus)
{
	(void)bus;
}

static int
announce(struct bus *bus, const char *topic, const void *data, size_t len)
{
	if (atomic_load_explicit(&bus->watched, memory_order_relaxed) == 0)
		return 0;
	return bus__publish_notice(bus, topic, data, len);
}

const struct kind bus__private_kind = {
    .source = &bus__from_ring,
    .walker = &bus__walk_topics,
    .open = open_private,
    .has_history = true,
    .knows_takers = true,
    .check_mailbox = check_mailbox,
    .begin_sub = begin_sub,
    .joined = joined,
    .list_sub = list_sub,
    .unlist_sub = unlist_sub,
    .meant_from = meant_from,
    .put_kept = put_kept,
    .route_ends = route_ends,
    .topic_ends = topic_ends,
    .number = number,
    .begin_replies = begin_replies,
    .reply = bus__reply_here,
    .call_askers = call_askers,
    .tell_gap = tell_gap,
    .take_link_role = take_link_role,
    .end_link_role = end_link_role,
    .waits_for_peer = waits_for_peer,
    .explain_others = explain_nothing,
    .explain_topic = bus__explain_topic,
    .explain_next = explain_nothing,
    .announce = announce,
    .fail = fail,
    .error = error,
    .leave = leave,
    .fini = fini,
};
