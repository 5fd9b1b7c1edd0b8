/* link/tell.c: tells a peer the filters that this bus wants. */
#include "link/session.h"

#include <string.h>

/* A bus that wants more filters than a peer takes asks for everything: it sorts the messages
 * anyway. Filters that begin with $ are about this bus and concern no peer. */
static int
tell_filter(struct bus__session *session, const char *filter)
{
	if (filter[0] == '$' || session->told_all)
		return 0;
	if (session->told_filters == BUS__LIMIT_FILTERS - 1) {
		session->told_all = true;
		filter = "#";
	}
	session->told_filters++;
	return bus__session_say(session, BUS__FRAME_SUB, 0, filter, strlen(filter));
}

/* Runs under the bus lock, so no change gets its number now. */
static void
tell_wanted(void *arg, const char *filter)
{
	struct bus__session *session = arg;

	session->changes_seen = session->link->links->change_count;
	if (session->tell_error == 0)
		session->tell_error = tell_filter(session, filter);
}

int
bus__session_tell_filters(struct bus__session *session)
{
	session->telling = true;
	/* A hub keeps all values, since it does not know which later peers will want. */
	if (session->link->relays) {
		session->told_filters = BUS__LIMIT_FILTERS - 1;
		return tell_filter(session, "#");
	}
	bus__wanted_filters(session->link->links->bus, tell_wanted, session);
	return session->tell_error;
}

int
bus__session_tell_change(
    struct bus__session *session, uint64_t number, const char *filter, bool wanted)
{
	if (!session->telling || number <= session->changes_seen || filter[0] == '$')
		return 0;
	if (wanted)
		return tell_filter(session, filter);
	if (session->told_all)
		return 0;
	if (session->told_filters > 0)
		session->told_filters--;
	return bus__session_say(session, BUS__FRAME_UNSUB, 0, filter, strlen(filter));
}
