#include "link/roster.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/page.h"
#include "link/link.h"
#include "link/login.h"
#include "link/session.h"
#include "value/ext.h"

/* Notices of one bus per second: a log has no room for a flood. */
enum { NOTICES_MOST = 8 };

/* The most bytes of text kept for other processes. */
enum { KEPT_MOST = 16 * 1024 };

#define PAUSE_NS INT64_C(1000000000)

static int64_t
wall_ms(void)
{
	return bus__wall_coarse_ns() / NS_PER_MS;
}

/* The address of a peer without its port; of a peer that this link dialled, the link's. */
static void
name_place(const struct bus_link *link, struct bus__stream *stream, char ret_where[BUS__WHERE])
{
	struct sockaddr_storage addr;
	const void *in = &((const struct sockaddr_in *)(const void *)&addr)->sin_addr;
	const void *in6 = &((const struct sockaddr_in6 *)(const void *)&addr)->sin6_addr;

	if (link->dials)
		snprintf(ret_where, BUS__WHERE, "%.63s", link->url);
	else if (stream->ops->remote == NULL || stream->ops->remote(stream, &addr) < 0 ||
		 inet_ntop(addr.ss_family, addr.ss_family == AF_INET ? in : in6, ret_where,
		     BUS__WHERE) == NULL)
		snprintf(ret_where, BUS__WHERE, "this machine");
}

/* --- text ------------------------------------------------------------------------------------------------------- */

static void
add_line(void *arg, const char *text)
{
	bus__line(arg, "%s", text);
}

static void
add_guest(struct page *page, const struct bus__guest *guest)
{
	bool has_user = guest->user[0] != '\0';
	char since[BUS__TIME_TEXT];

	bus__time_text(since, guest->since_ms / 1000, 0);
	bus__line(page, "connected %s: %s%s%s, %s%s since %s", guest->where,
	    has_user ? "user \"" : "without a user", guest->user, has_user ? "\"" : "",
	    guest->link->dials ? "dialled" : "at ", guest->link->dials ? "" : guest->link->url,
	    since);
}

void
bus__roster_explain(void *arg, struct page *page)
{
	struct bus__links *links = arg;
	struct bus__roster *roster = &links->roster;

	pthread_mutex_lock(&roster->lock);
	for (const struct bus__guest *guest = roster->guests; guest != NULL; guest = guest->next)
		add_guest(page, guest);
	if (roster->refusals != NULL)
		bus__refusals_each(roster->refusals, add_line, page);
	pthread_mutex_unlock(&roster->lock);
}

/* --- for other processes ------------------------------------------------------------------------------------- */

static void
keep_text(struct bus__links *links)
{
	size_t most =
	    bus__max_payload(links->bus) < KEPT_MOST ? bus__max_payload(links->bus) : KEPT_MOST;
	struct page page = {.text = bus__malloc(most + 1), .cap = most + 1};

	if (page.text == NULL)
		return; /* the next change includes this one */
	bus__roster_explain(links, &page);
	if (page.len > most)
		page.len = most;
	/* Whole lines. */
	while (page.len > 0 && page.text[page.len - 1] != '\n')
		page.len--;
	bus__keep_peers(links->bus, page.text, page.len);
	bus__free(page.text);
}

static void
tell(void *arg)
{
	struct bus__links *links = arg;

	links->roster.told_ns = bus__now_ns();
	keep_text(links);
}

static void
changed(struct bus__links *links)
{
	struct bus__roster *roster = &links->roster;
	int64_t now_ns = bus__now_ns(), next_ns = roster->told_ns + PAUSE_NS;

	if (bus__has_peers_readers(links->bus) && roster->timer.due_ns == INT64_MAX)
		bus__timer_set(&links->loop, &roster->timer, next_ns > now_ns ? next_ns : now_ns);
}

static bool
may_notice(struct bus__roster *roster)
{
	int64_t now_ns = bus__now_ns();

	if (now_ns - roster->notices_ns >= PAUSE_NS) {
		roster->notices_ns = now_ns;
		roster->notices = 0;
	}
	return roster->notices++ < NOTICES_MOST;
}

/* --- events ------------------------------------------------------------------------------------------------------ */

void
bus__roster_init(struct bus__links *links)
{
	pthread_mutex_init(&links->roster.lock, NULL);
	links->roster.timer = (struct bus__timer){.fire = tell, .arg = links, .due_ns = INT64_MAX};
	links->roster.told_ns = links->roster.notices_ns = bus__now_ns() - PAUSE_NS;
}

void
bus__roster_fini(struct bus__links *links)
{
	bus__refusals_free(links->roster.refusals);
	pthread_mutex_destroy(&links->roster.lock);
}

void
bus__roster_join(struct bus__session *session)
{
	struct bus__links *links = session->link->links;
	struct bus__guest *guest = &session->guest;

	guest->link = session->link;
	guest->since_ms = wall_ms();
	name_place(session->link, session->stream, guest->where);
	/* If this side dialled: the user that this side is there. */
	snprintf(guest->user, sizeof guest->user, "%s",
	    session->link->dials && session->link->guard.user != NULL ? session->link->guard.user
								      : session->identity.name);
	pthread_mutex_lock(&links->roster.lock);
	guest->next = links->roster.guests;
	links->roster.guests = guest;
	pthread_mutex_unlock(&links->roster.lock);
	changed(links);
}

static void
leave(struct bus__session *session)
{
	struct bus__links *links = session->link->links;
	struct bus__guest **at = &links->roster.guests;

	if (session->guest.since_ms == 0)
		return;
	pthread_mutex_lock(&links->roster.lock);
	while (*at != &session->guest)
		at = &(*at)->next;
	*at = session->guest.next;
	pthread_mutex_unlock(&links->roster.lock);
	session->guest.since_ms = 0;
	changed(links);
}

void
bus__roster_refuse(struct bus_link *link, struct bus__stream *stream, enum bus__refusal reason,
    const char *user, const char *detail)
{
	struct bus__links *links = link->links;
	struct bus__roster *roster = &links->roster;
	char where[BUS__WHERE];
	const struct bus__refused refused = {reason, where, user, detail};
	uint64_t count = 0;
	bool due = false;

	name_place(link, stream, where);
	pthread_mutex_lock(&roster->lock);
	if (roster->refusals == NULL)
		roster->refusals = bus__refusals_new();
	if (roster->refusals != NULL)
		count = bus__refusals_add(roster->refusals, &refused, wall_ms(), &due);
	pthread_mutex_unlock(&roster->lock);
	changed(links);
	if (due && may_notice(roster))
		bus__notice_refused(links->bus, &refused, count);
}

/* The refusal that ended a connection. false: it was not refused. */
static bool
reason_of(const struct bus__session *session, int err, struct bus__refused *ret)
{
	switch (err) {
	case BUS_E_NOT_LIBBUS:
		ret->reason = bus__refusal_of_bytes(session->in.data, session->in.len);
		return true;
	case BUS_E_VERSION:
		ret->reason = BUS__REFUSED_VERSION;
		return true;
	case BUS_E_AUTH:
		ret->reason = bus__login_refusal(session, &ret->user);
		return true;
	case BUS_E_TLS:
		ret->reason = BUS__REFUSED_TLS;
		if (session->stream->ops->reason != NULL)
			ret->detail = session->stream->ops->reason(session->stream);
		return true;
	case BUS_E_DENIED:
		ret->reason = BUS__REFUSED_BUS_ID;
		ret->user = session->identity.name;
		return session->stage == BUS__STAGE_JOIN && !session->heard_bye;
	default:
		return false;
	}
}

void
bus__roster_ended(struct bus__session *session, int err)
{
	struct bus__refused refused = {.user = NULL};

	leave(session);
	if (reason_of(session, err, &refused))
		bus__roster_refuse(
		    session->link, session->stream, refused.reason, refused.user, refused.detail);
}
