/* access/reach.h: how far away an address is, which decides whether clear text may be sent there. */
#ifndef BUS_ACCESS_REACH_H
#define BUS_ACCESS_REACH_H

#include <ifaddrs.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum bus__reach {
	BUS__REACH_UNSPECIFIED, /* 0.0.0.0 and [::]: all addresses of this machine */
	BUS__REACH_LOOPBACK,
	BUS__REACH_LAN, /* private (RFC 1918), ULA, link-local, or within a prefix of this machine's own interfaces */
	BUS__REACH_PUBLIC /* all others, also addresses that no TCP peer can have */
};

/* An IPv4 address in IPv6 (::ffff:a.b.c.d) is judged as IPv4. own: this machine's addresses, as getifaddrs() lists them. Pure. */
enum bus__reach bus__reach_among(const struct sockaddr *addr, const struct ifaddrs *own);

/* The same with this machine's present addresses, or with none if they cannot be read.
 * Threads: any.  Blocks: never. */
enum bus__reach bus__reach_of(const struct sockaddr *addr);

/* The number of a host: of an IPv4 address, or of the /64 of an IPv6 address, which belongs to one household.
 * 0: this machine, or no such address (NULL too). Pure. */
uint64_t bus__reach_host(const struct sockaddr *addr);

/* Whether clear text may be sent there. any: to every address; lan: also on this network. */
static inline bool
bus__reach_allows(enum bus__reach reach, bool lan, bool any)
{
	return any || reach == BUS__REACH_LOOPBACK || (lan && reach != BUS__REACH_PUBLIC);
}

/* "a public address" and the like, for error texts. */
const char *bus__reach_words(enum bus__reach reach);

#endif
