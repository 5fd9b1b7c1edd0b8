/* link/permit.h: what the ACL of a link lets the peer of a session do. Without an ACL everything. Link thread.
 *
 * A filter that can bring the peer nothing is refused when it comes; what a wider one brings is looked at topic by topic, once for
 * each topic and connection. What the peer may not read takes no number and is no loss. */
#ifndef BUS_LINK_PERMIT_H
#define BUS_LINK_PERMIT_H

#include "link/session.h"

bool bus__permit_read(const struct bus__session *session, const char *topic);
bool bus__permit_write(const struct bus__session *session, const char *topic);
bool bus__permit_subscribe(const struct bus__session *session, const char *filter);

/* The peer may not have what it asked for: tells it, and counts and notes it here. 0 or BUS_E_NOMEM. */
int bus__permit_deny(struct bus__session *session, enum bus__deny what, const char *name);

/* The peer says that this side may not: counts and notes it. */
void bus__permit_denied(struct bus__session *session, enum bus__deny what, const char *name);

#endif
