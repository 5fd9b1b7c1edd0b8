#include "link/attempts.h"

#include <netinet/in.h>
#include <string.h>

#include "access/backoff.h"
#include "base/clock.h"
#include "link/link.h"

/* NULL: it has none. */
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

	/* Without memory nobody waits. */
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

static uint64_t
number_of_ipv4(uint32_t net_order)
{
	uint32_t host_order = ntohl(net_order);

	return host_order >> 24 == IN_LOOPBACKNET ? 0 : UINT64_C(1) << 32 | host_order;
}

uint64_t
bus__attempt_host(struct bus__stream *stream)
{
	struct sockaddr_storage room;
	const struct sockaddr *addr = address_of(stream, &room);
	const struct in6_addr *in6;
	uint64_t net;
	uint32_t mapped;

	if (addr == NULL)
		return 0;
	if (addr->sa_family == AF_INET)
		return number_of_ipv4(
		    ((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr);
	if (addr->sa_family != AF_INET6)
		return 0;
	in6 = &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
	memcpy(&mapped, in6->s6_addr + 12, sizeof mapped);
	if (IN6_IS_ADDR_V4MAPPED(in6))
		return number_of_ipv4(mapped);
	memcpy(&net, in6->s6_addr, sizeof net);
	return net; /* 0 of ::1 */
}
