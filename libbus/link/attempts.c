#include "link/attempts.h"

#include "access/backoff.h"
#include "access/reach.h"
#include "base/clock.h"
#include "link/link.h"

/* NULL: the peer has no address. */
static const struct sockaddr *
address_of(struct bus__stream *stream, struct sockaddr_storage *room)
{
	bool has_one = stream->ops->remote != NULL && stream->ops->remote(stream, room) == 0;

	return has_one ? (const struct sockaddr *)(const void *)room : NULL;
}

static int64_t
now_ms(void)
{
	return bus__now_ns() / NS_PER_MS;
}

bool
bus__attempt_is_early(const struct bus_link *link, struct bus__stream *stream, const char *user)
{
	const struct bus__backoff *backoff = link->links->backoff;
	struct sockaddr_storage room;

	return backoff != NULL &&
	       bus__backoff_wait(backoff, address_of(stream, &room), user, now_ms()) > 0;
}

void
bus__attempt_failed(struct bus_link *link, struct bus__stream *stream, const char *user)
{
	struct bus__links *links = link->links;
	struct sockaddr_storage room;

	/* Out of memory: no peer waits. */
	if (links->backoff == NULL)
		links->backoff = bus__backoff_new();
	if (links->backoff != NULL)
		bus__backoff_failed(links->backoff, address_of(stream, &room), user, now_ms());
}

void
bus__attempt_succeeded(struct bus_link *link, struct bus__stream *stream, const char *user)
{
	struct sockaddr_storage room;

	if (link->links->backoff != NULL)
		bus__backoff_succeeded(link->links->backoff, address_of(stream, &room), user);
}

uint64_t
bus__attempt_host(struct bus__stream *stream)
{
	struct sockaddr_storage room;

	return bus__reach_host(address_of(stream, &room));
}
