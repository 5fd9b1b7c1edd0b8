/* link/permit.h: applies the ACL of a link to the peer of a session. Without an ACL everything is allowed. Link thread.
 *
 * A filter that can match no readable topic is refused at once. Messages of a wider filter are checked by topic, once for each topic and
 * connection. Withheld messages take no number and are no loss. */
#ifndef BUS_LINK_PERMIT_H
#define BUS_LINK_PERMIT_H

#include "link/session.h"

bool bus__permit_read(const struct bus__session *session, const char *topic);
bool bus__permit_write(const struct bus__session *session, const char *topic);
bool bus__permit_subscribe(const struct bus__session *session, const char *filter);

/* Refuses a filter or a topic: sends DENY to the peer, and counts and notes the refusal. 0 or BUS_E_NOMEM. */
int bus__permit_deny(struct bus__session *session, enum bus__deny what, const char *name);

/* The peer sent DENY: counts and notes the refusal. */
void bus__permit_denied(struct bus__session *session, enum bus__deny what, const char *name);

#endif
