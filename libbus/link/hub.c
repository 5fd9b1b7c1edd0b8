#include "link/hub.h"

#include <string.h>

#include "base/random.h"
#include "bus/gap.h"

bool
bus__hub_numbers(const struct bus__session *session)
{
	return session->link->relays || (session->hello.features & BUS__CAN_RELAY) != 0;
}

bool
bus__hub_is_trusted(const struct bus__session *session)
{
	const struct bus__acl *acl = session->link->guard.acl;
	const char *user = session->identity.name;

	if ((session->hello.features & BUS__CAN_RELAY) == 0)
		return false;
	/* No line of an ACL names such a level, so an ACL that allows it allows all topics. */
	return session->dialled ||
	       (bus__acl_may_write(acl, user, "\1") && bus__acl_may_write(acl, user, "\1/\1"));
}

bool
bus__hub_may_say(const struct bus__session *session, const struct bus__passed *passed)
{
	if (session->may_relay)
		return true;
	return passed != NULL && bus__passed_hubs(passed) == 0 &&
	       memcmp(passed->source, session->hello.id, sizeof passed->source) == 0;
}

/* Whether the message has passed the most hubs already, without this one. */
static bool
is_too_far(const struct bus__session *session, const struct bus__passed *passed)
{
	return session->link->relays && bus__passed_hubs(passed) >= BUS__HUBS_MOST;
}

bool
bus__hub_is_new(struct bus__session *session, const struct bus__passed *passed)
{
	struct bus__links *links = session->link->links;
	enum bus__seen_answer answer = BUS__SEEN_TWICE;

	if (memcmp(passed->source, bus__id(links->bus), sizeof passed->source) != 0)
		answer = bus__seen_take(&links->seen, passed->source, bus__passed_number(passed));
	if (answer == BUS__SEEN_NEW)
		return true;
	bus__count(answer == BUS__SEEN_TWICE ? &session->link->repeated : &session->link->late, 1);
	return false;
}

bool
bus__hub_takes(struct bus__session *session, const struct bus__passed *passed, struct bus_msg *msg,
    struct bus__offer *offer)
{
	if (is_too_far(session, passed)) {
		bus__count(&session->link->too_far, 1);
		return false;
	}
	if (bus__hub_is_new(session, passed))
		return true;
	if ((msg->flags & BUS_MSG_RETAIN) == 0)
		return false;
	/* Two hubs may have numbered it differently. */
	msg->flags = BUS_MSG_KEPT;
	offer->is_kept = offer->is_repeated = true;
	return true;
}

const struct bus__passed *
bus__hub_passes(const struct bus__session *session, const struct bus__passed *passed,
    const uint8_t maker[BUS__BUS_ID], struct bus__passed *ret_room)
{
	unsigned via = session->peer->via;

	if (!session->link->relays)
		return NULL;
	*ret_room = passed == NULL ? bus__passed_make(maker, 0, 0, via)
				   : bus__passed_make(passed->source, bus__passed_number(passed),
					 bus__passed_hubs(passed) + 1, via);
	return ret_room;
}

/* --- losses ----------------------------------------------------------------------------------------------------------- */

bool
bus__hub_takes_loss(struct bus__session *session, const struct bus__lost *lost)
{
	struct bus__links *links = session->link->links;

	if (is_too_far(session, &lost->passed) ||
	    memcmp(lost->passed.source, links->loss_id, sizeof links->loss_id) == 0)
		return false;
	return bus__seen_take(&links->seen_losses, lost->passed.source,
		   bus__passed_number(&lost->passed)) == BUS__SEEN_NEW;
}

/* A loss has a number, like a message, so that it does not circulate. A bus numbers its losses in a sequence apart. */
static struct bus__passed
number_loss(struct bus__links *links, unsigned hubs)
{
	if (links->losses == 0)
		bus__random(links->loss_id, sizeof links->loss_id);
	return bus__passed_make(links->loss_id, ++links->losses, hubs, 0);
}

/* Merges several losses that wait for one peer. */
static void
owe(struct bus__links *links, struct bus__peer *peer, const struct bus__lost *lost)
{
	struct bus__lost *owed = &peer->owed_loss;
	unsigned hubs = bus__passed_hubs(&lost->passed);

	if (!peer->owes_loss) {
		*owed = *lost;
	} else {
		if (bus__passed_hubs(&owed->passed) > hubs)
			hubs = bus__passed_hubs(&owed->passed);
		owed->count += lost->count;
		if (owed->count > BUS__GAP_MOST)
			owed->count = BUS__GAP_MOST;
		owed->at_least |= lost->at_least;
		owed->passed = number_loss(links, hubs);
	}
	peer->owes_loss = true;
	if (peer->session != NULL)
		bus__loop_post(&links->loop, &peer->session->values_task);
}

void
bus__hub_pass_loss(struct bus__session *session, const struct bus__lost *lost)
{
	struct bus__links *links = session->link->links;
	struct bus__lost next = *lost;

	if (!session->link->relays || (lost->count == 0 && !lost->at_least))
		return;
	if (next.count > BUS__GAP_MOST)
		next.count = BUS__GAP_MOST;
	next.passed = lost->is_passed
			  ? bus__passed_make(lost->passed.source, bus__passed_number(&lost->passed),
				bus__passed_hubs(&lost->passed) + 1, 0)
			  : number_loss(links, 1);
	for (struct bus__peer *peer = links->peers; peer != NULL; peer = peer->next)
		if (peer != session->peer && peer->fed && peer->filters.count > 0)
			owe(links, peer, &next);
}

int
bus__hub_say_loss(struct bus__session *session)
{
	struct bus__peer *peer = session->peer;
	struct bus__bytes *bytes = &session->queue.bytes;
	int err;

	if (!peer->owes_loss)
		return 0;
	err = bus__bytes_reserve(bytes, BUS__LOST_MAX);
	if (err < 0)
		return err;
	bytes->len += bus__lost_passed_write(bytes->data + bytes->len, &peer->owed_loss);
	peer->out.next += peer->owed_loss.count;
	peer->out.lost += peer->owed_loss.count;
	bus__count(&session->link->lost, peer->owed_loss.count);
	peer->owes_loss = false;
	return 0;
}

/* --- connections --------------------------------------------------------------------------------------------------------- */

static bool
is_via_taken(const struct bus__links *links, unsigned via)
{
	for (const struct bus__peer *peer = links->peers; peer != NULL; peer = peer->next)
		if (peer->via == via)
			return true;
	return false;
}

uint16_t
bus__hub_new_via(struct bus__links *links)
{
	for (unsigned tries = 0; tries < BUS__PASSED_VIAS; tries++) {
		links->last_via = (uint16_t)(links->last_via % BUS__PASSED_VIAS + 1);
		if (!is_via_taken(links, links->last_via))
			return links->last_via;
	}
	return 0;
}
