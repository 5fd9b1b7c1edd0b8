/* link/hub.h: messages on connections with a hub at one end: which are taken, and which are passed on.
 *
 * A hub is a bus with links that relay. It passes messages of one such link on to the others. Each message names its publisher,
 * so each bus takes it once, and it never returns to its publisher. Link thread. */
#ifndef BUS_LINK_HUB_H
#define BUS_LINK_HUB_H

#include <stdbool.h>

#include "link/session.h"

/* Whether messages of the connection name their publisher: one side is a hub. The peer's HELLO has been read. */
bool bus__hub_numbers(const struct bus__session *session);

/* Whether the peer may name other buses as publishers: it relays, and may write every topic. Holds for the connection. */
bool bus__hub_is_trusted(const struct bus__session *session);

/* Whether the peer may send such a message: a peer that is no hub may name only itself as publisher, and (passed NULL) passes
 * nothing on. */
bool bus__hub_may_say(const struct bus__session *session, const struct bus__passed *passed);

/* Whether the message is new; notes it. A repeated one is counted. */
bool bus__hub_is_new(struct bus__session *session, const struct bus__passed *passed);

/* Whether to publish a received event; counts it otherwise. A change that is known already must be made known as a kept value;
 * then *msg and *offer describe that value. */
bool bus__hub_takes(struct bus__session *session, const struct bus__passed *passed,
    struct bus_msg *msg, struct bus__offer *offer);

/* The origin that travels on with a message, or with a kept value (passed NULL) made by the bus `maker`. NULL: it is not passed
 * on. */
const struct bus__passed *bus__hub_passes(const struct bus__session *session,
    const struct bus__passed *passed, const uint8_t maker[BUS__BUS_ID],
    struct bus__passed *ret_room);

/* Whether a reported loss is new. If so, passes it on to the peers that may have wanted the lost messages. */
bool bus__hub_takes_loss(struct bus__session *session, const struct bus__lost *lost);
void bus__hub_pass_loss(struct bus__session *session, const struct bus__lost *lost);

/* Queues the report of the loss to the peer. 0 or BUS_E_NOMEM. */
int bus__hub_say_loss(struct bus__session *session);

/* An unused mark for a connection; 0: all are in use. */
uint16_t bus__hub_new_via(struct bus__links *links);

#endif
