#include "link/permit.h"

#include <string.h>

bool
bus__permit_read(const struct bus__session *session, const char *topic)
{
	return bus__acl_may_read(session->link->guard.acl, session->identity.name, topic);
}

bool
bus__permit_write(const struct bus__session *session, const char *topic)
{
	return bus__acl_may_write(session->link->guard.acl, session->identity.name, topic);
}

bool
bus__permit_subscribe(const struct bus__session *session, const char *filter)
{
	return bus__acl_may_subscribe(session->link->guard.acl, session->identity.name, filter);
}

int
bus__permit_deny(struct bus__session *session, enum bus__deny what, const char *name)
{
	bus__roster_refuse(session->link, session->stream,
	    what == BUS__DENY_FILTER ? BUS__REFUSED_FILTER : BUS__REFUSED_TOPIC,
	    session->identity.name, name);
	bus__link_error(session->link, BUS_E_DENIED);
	bus__count(&session->link->refused,
	    what == BUS__DENY_FILTER); /* messages count their refusals themselves */
	return bus__session_say(session, BUS__FRAME_DENY, (uint16_t)what, name, strlen(name));
}

void
bus__permit_denied(struct bus__session *session, enum bus__deny what, const char *name)
{
	bus__roster_refuse(session->link, session->stream,
	    what == BUS__DENY_FILTER ? BUS__REFUSED_OUR_FILTER : BUS__REFUSED_OUR_TOPIC, NULL,
	    name);
	bus__link_error(session->link, BUS_E_DENIED);
	bus__count(&session->link->refused, 1);
}
