/* bus/pub_peer.c: publishing a peer's messages, by the handle of their topic. */
#include "bus/peer.h"
#include "bus/pub.h"
#include "bus/publish.h"
#include "bus/request.h"
#include "bus/topic.h"
#include "bus/walk.h"

int
bus__publish_from_peer(struct bus_pub *pub, const struct bus_msg *msg, struct bus__offer *offer,
    const struct bus__passed *passed, struct bus_mailbox *asker)
{
	bool is_value = (msg->flags & (BUS_MSG_RETAIN | BUS_MSG_KEPT)) != 0;
	const struct brought brought = {.by = asker, .passed = passed};
	struct attempt attempt = {.from_peer = true,
	    .brought = &brought,
	    .offer = is_value ? offer : NULL,
	    .pool = &pub->bus->links_pool};
	struct ring_item item;
	int err = bus__pub_enter(pub);

	if (err < 0)
		return err;
	err = bus__item_make(pub->bus, msg, &item);
	if (err < 0)
		return err;
	offer->since = bus__walk_since(asker->walk);
	if (msg->flags & BUS_MSG_KEPT) {
		item.flags |= RING_KEPT | RING_RETAIN;
		item.time_ns = msg->time_ns;
	}
	if (msg->reply_to != 0) {
		/* A peer without subscriptions gets the reply, too. */
		bus__lock(pub->bus);
		err = pub->bus->kind->begin_replies(asker);
		bus__unlock(pub->bus);
		if (err < 0)
			return err;
	}
	if (msg->reply_to != 0) {
		item.flags |= RING_REPLY;
		err = bus__desk_accept(asker->desk, msg->reply_to, msg->ttl_ms, &item.reply);
		if (err < 0)
			return err;
	}
	if (pub->record.topic != NULL)
		return pub->bus->kind->relay(pub->bus, &pub->named, &item, offer, passed);
	err = bus__pub_try(pub, &item, &attempt);
	if (err == BUS_E_FULL) {
		bus__count_refused(attempt.full);
		bus__mailbox_unref(attempt.full);
	}
	if (err == 0 && msg->reply_to != 0 && attempt.takers == 0)
		bus__desk_decline(asker->desk, msg->reply_to);
	else if (err == 0 && msg->reply_to != 0 && passed != NULL)
		bus__desk_note_takers(asker->desk, item.reply, attempt.takers);
	bus__attempt_end(pub->bus, pub->topic->name, &attempt);
	return err;
}

bool
bus__peer_wants(const struct bus_mailbox *m, const struct bus_pub *pub)
{
	const struct route *route;
	bool wants;

	bus__lock(pub->bus);
	route = bus__topic_route(pub->topic, m);
	wants = route != NULL && route->live > 0;
	bus__unlock(pub->bus);
	return wants;
}
