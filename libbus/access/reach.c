#define _GNU_SOURCE
#include "access/reach.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* An address of either family as 16 bytes: IPv4 as IPv6 writes it. */
struct number {
	uint8_t bytes[16];
};

struct net {
	struct number base;
	unsigned bits; /* of its prefix */
	enum bus__reach reach;
};

#define IPV4(a, b, c, d)                                                                           \
	{                                                                                          \
		{                                                                                  \
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d                       \
		}                                                                                  \
	}

/* Without 100.64.0.0/10, in which a provider's other customers have addresses. A VPN that uses it gives this machine an
 * address, whose prefix then counts. */
static const struct net nets[] = {
    {{{0}}, 128, BUS__REACH_UNSPECIFIED},
    {IPV4(0, 0, 0, 0), 128, BUS__REACH_UNSPECIFIED},
    {{{[15] = 1}}, 128, BUS__REACH_LOOPBACK},
    {IPV4(127, 0, 0, 0), 96 + 8, BUS__REACH_LOOPBACK},
    {IPV4(10, 0, 0, 0), 96 + 8, BUS__REACH_LAN},
    {IPV4(172, 16, 0, 0), 96 + 12, BUS__REACH_LAN},
    {IPV4(192, 168, 0, 0), 96 + 16, BUS__REACH_LAN},
    {IPV4(169, 254, 0, 0), 96 + 16, BUS__REACH_LAN},
    {{{0xfc}}, 7, BUS__REACH_LAN},
    {{{0xfe, 0x80}}, 10, BUS__REACH_LAN},
};

static bool
read_number(const struct sockaddr *addr, struct number *ret_number)
{
	*ret_number = (struct number)IPV4(0, 0, 0, 0);
	if (addr == NULL)
		return false;
	if (addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)addr;

		memcpy(ret_number->bytes + 12, &in->sin_addr, 4);
		return true;
	}
	if (addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)addr;

		memcpy(ret_number->bytes, &in6->sin6_addr, 16);
		return true;
	}
	return false;
}

static bool
share(const struct number *a, const struct number *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	return memcmp(a->bytes, b->bytes, whole) == 0 &&
	       (rest == 0 || ((a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest)) == 0);
}

/* The prefix length of a netmask. */
static unsigned
count_bits(const struct number *mask, unsigned from)
{
	unsigned bits = from;

	while (bits < 128 && (mask->bytes[bits / 8] & (0x80 >> bits % 8)) != 0)
		bits++;
	return bits;
}

/* A prefix of no bits names no network. */
static bool
is_beside(const struct number *number, const struct ifaddrs *own)
{
	struct number base, mask;

	for (; own != NULL; own = own->ifa_next) {
		unsigned from, bits;

		if (!read_number(own->ifa_addr, &base) || !read_number(own->ifa_netmask, &mask))
			continue;
		from = own->ifa_addr->sa_family == AF_INET ? 96 : 0;
		bits = count_bits(&mask, from);
		if (bits > from && share(number, &base, bits))
			return true;
	}
	return false;
}

static enum bus__reach
judge(const struct number *number)
{
	for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++)
		if (share(number, &nets[i].base, nets[i].bits))
			return nets[i].reach;
	return BUS__REACH_PUBLIC;
}

enum bus__reach
bus__reach_among(const struct sockaddr *addr, const struct ifaddrs *own)
{
	struct number number;
	enum bus__reach reach;

	if (!read_number(addr, &number))
		return BUS__REACH_PUBLIC;
	reach = judge(&number);
	return reach == BUS__REACH_PUBLIC && is_beside(&number, own) ? BUS__REACH_LAN : reach;
}

uint64_t
bus__reach_host(const struct sockaddr *addr)
{
	static const struct number ipv4 = IPV4(0, 0, 0, 0);
	struct number number;
	uint32_t low;
	uint64_t net;

	if (!read_number(addr, &number) || bus__reach_among(addr, NULL) == BUS__REACH_LOOPBACK)
		return 0;
	memcpy(&low, number.bytes + 12, sizeof low);
	memcpy(&net, number.bytes, sizeof net);
	return share(&number, &ipv4, 96) ? UINT64_C(1) << 32 | low : net;
}

enum bus__reach
bus__reach_of(const struct sockaddr *addr)
{
	enum bus__reach reach = bus__reach_among(addr, NULL);
	struct ifaddrs *own;

	if (reach != BUS__REACH_PUBLIC || getifaddrs(&own) != 0)
		return reach;
	reach = bus__reach_among(addr, own);
	freeifaddrs(own);
	return reach;
}

const char *
bus__reach_words(enum bus__reach reach)
{
	static const char *const words[] = {
	    "all addresses of this machine",
	    "a loopback address",
	    "an address of this network",
	    "a public address",
	};

	return words[reach];
}
