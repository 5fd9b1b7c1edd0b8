/* link/hub.h: what comes by a connection at one of whose ends a hub is: whether it is taken, and what goes on to others.
 *
 * A hub is a bus with a link that relays. What comes by such a link goes on by the others that do. It says who published it, so each
 * bus takes it once, and it never comes back there. Link thread. */
#ifndef BUS_LINK_HUB_H
#define BUS_LINK_HUB_H

#include <stdbool.h>

#include "link/session.h"

/* Whether messages of the connection say who published them: one side is a hub. Its HELLO has been read. */
bool bus__hub_numbers(const struct bus__session *session);

/* Whether the peer may say what other buses published: it passes on, and may write every topic. Holds for the connection. */
bool bus__hub_is_trusted(const struct bus__session *session);

/* Whether the peer may say that of a message: one that is no hub publishes only its own, and (passed NULL) passes nothing on. */
bool bus__hub_may_say(const struct bus__session *session, const struct bus__passed *passed);

/* Whether it has not come before; then it has from now on. Otherwise it is counted. */
bool bus__hub_is_new(struct bus__session *session, const struct bus__passed *passed);

/* Whether an event that came is to be published; if not it is counted. A change that came before is to be made known as a kept value,
 * of which *msg and *offer then speak. */
bool bus__hub_takes(struct bus__session *session, const struct bus__passed *passed,
    struct bus_msg *msg, struct bus__offer *offer);

/* What travels on with a message, or with a kept value (passed NULL) that the bus `maker` made. NULL: it does not go on. */
const struct bus__passed *bus__hub_passes(const struct bus__session *session,
    const struct bus__passed *passed, const uint8_t maker[BUS__BUS_ID],
    struct bus__passed *ret_room);

/* Whether a loss that came is news; and lets the others know of it that could have wanted what was lost. */
bool bus__hub_takes_loss(struct bus__session *session, const struct bus__lost *lost);
void bus__hub_pass_loss(struct bus__session *session, const struct bus__lost *lost);

/* Queues the loss of which the peer is to know. 0 or BUS_E_NOMEM. */
int bus__hub_say_loss(struct bus__session *session);

/* A mark for a connection that none has; 0: all are taken. */
uint16_t bus__hub_new_via(struct bus__links *links);

#endif
