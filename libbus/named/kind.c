/* named/kind.c: what a named bus does: its messages and values lie in a log that other processes share. */
#include "bus/kind.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "named/state.h"
#include "bus/fail.h"
#include "named/explain.h"
#include "named/fail.h"
#include "named/relay.h"
#include "named/role.h"
#include "named/listens.h"
#include "named/members.h"
#include "named/named.h"
#include "named/peers.h"
#include "bus/publish.h"
#include "named/reader.h"
#include "mailbox/source.h"
#include "bus/walk.h"
#include "log/log.h"

#define GAP_WAIT_NS INT64_C(100000000) /* for the turn; then the link tells again later */
#define LEAVE_NS    INT64_C(40000000)  /* more than it was given, to say that it leaves */

static int
check_mailbox(const struct bus_mailbox_config *cfg)
{
	if (cfg->full != BUS_FULL_DROP_NEWEST && cfg->full != BUS_FULL_REFUSE &&
	    cfg->drain != BUS_DRAIN_PUBLISHER && cfg->group == NULL)
		return 0;
	return bus__fail(BUS_E_NOTSUP,
	    "a named bus has no mailbox that drops the newest, refuses, is drained by publishers or in a group");
}

static int
put_kept(struct bus *bus, struct topic *topic, struct route *route, struct bus_sub *sub)
{
	(void)bus;
	(void)topic;
	bus__reader_put_kept(sub->mbox, route, sub);
	return 0;
}

static void
route_ends(struct route *route)
{
	bus__reader_changed(route->mbox->reader);
}

static void
topic_ends(struct bus *bus)
{
	bus__watch_changed(&bus->named->watch);
}

static uint64_t
number(const struct bus *bus, uint64_t secret)
{
	return secret >> (64 - NAMED_BUS_SHIFT) | (uint64_t)bus->inbox.tag << NAMED_BUS_SHIFT |
	       (uint64_t)bus->log->member << NAMED_ASKER_SHIFT;
}

static int
reply(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool from_peer)
{
	struct ring_item item;
	int err = bus__item_make(bus, msg, &item);

	(void)from_peer;
	return err < 0 ? err : bus__named_reply(bus, number, &item);
}

/* They sleep on the log. */
static void
call_askers(struct bus *bus)
{
	bus__log_call(bus->log);
}

static int
tell_gap(struct bus *bus, uint64_t count, bool at_least)
{
	/* Under the bus lock. */
	const struct log_item item = {.flags = LOG_GAP | LOG_RELAYED,
	    .origin = bus->log->member,
	    .until_ns = bus__now_ns() + GAP_WAIT_NS};
	uint8_t payload[LOG_GAP_BYTES] = {[LOG_GAP_BYTES - 1] = at_least};
	uint64_t sequence;

	memcpy(payload, &count, sizeof count);
	return bus__log_append(
	    bus->log, &item, &(struct bus_slice){payload, sizeof payload}, 1, &sequence);
}

static int
take_link_role(struct bus *bus, const char *url, uint64_t *ret_role)
{
	char name[BUS_LIMIT_TOPIC_BYTES + 1];

	*ret_role = 0;
	snprintf(name, sizeof name, "$bus/links/%s", url);
	return bus__log_role_take(bus->log, name, ret_role);
}

static void
end_link_role(struct bus *bus, uint64_t role)
{
	bus__log_role_end(bus->log, role);
}

/* It takes the link thread its time until it has everything out of a log. */
static bool
waits_for_peer(const struct bus_mailbox *m)
{
	return m->is_peer;
}

static int
error(const struct bus *bus)
{
	return bus__log_is_damaged(bus->log) ? bus__fail_damaged(bus) : 0;
}

static void
leave(struct bus *bus, int64_t deadline_ns)
{
	int64_t least_ns;

	bus__roles_end(bus);
	least_ns = bus__now_ns() + LEAVE_NS;
	bus__members_leave(bus, deadline_ns > least_ns ? deadline_ns : least_ns);
	bus__relay_stop(bus);
}

const struct kind bus__named_kind = {
    .source = &bus__from_log,
    .walker = &bus__walk_log,
    .open = bus__named_open,
    .has_members = true,
    .hears_all = true,
    .check_mailbox = check_mailbox,
    .begin_sub = bus__reader_begin,
    .joined = bus__reader_joined,
    .list_sub = bus__listens_add,
    .unlist_sub = bus__listens_remove,
    .meant_from = bus__reader_find_kept,
    .put_kept = put_kept,
    .route_ends = route_ends,
    .topic_ends = topic_ends,
    .number = number,
    .begin_replies = bus__reader_start,
    .reply = reply,
    .call_askers = call_askers,
    .publish = bus__named_publish,
    .send = bus__named_send,
    .send_one = bus__named_send_one,
    .send_parts = bus__named_send_parts,
    .send_many = bus__named_send_many,
    .relay = bus__named_relay,
    .relay_run = bus__named_relay_run,
    .ask = bus__named_ask,
    .tell_gap = tell_gap,
    .take_link_role = take_link_role,
    .end_link_role = end_link_role,
    .waits_for_peer = waits_for_peer,
    .explain_others = bus__explain_others,
    .explain_topic = bus__explain_logged,
    .explain_next = bus__explain_next,
    .announce = bus__peers_announce,
    .keep_peers = bus__peers_keep,
    .explain_peers = bus__peers_explain,
    .fail = bus__fail_named,
    .error = error,
    .leave = leave,
    .fini = bus__named_close,
};
