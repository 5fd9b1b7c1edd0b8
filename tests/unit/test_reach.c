/* Which addresses belong to this machine, to this network, or lie beyond. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include "access/reach.h"

union any {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static union any
read_address(const char *text)
{
	union any addr = {.in = {.sin_family = AF_INET}};

	if (inet_pton(AF_INET, text, &addr.in.sin_addr) == 1)
		return addr;
	addr = (union any){.in6 = {.sin6_family = AF_INET6}};
	ck_assert_msg(inet_pton(AF_INET6, text, &addr.in6.sin6_addr) == 1, "%s", text);
	return addr;
}

static enum bus__reach
reach(const char *text)
{
	union any addr = read_address(text);

	return bus__reach_among(&addr.sa, NULL);
}

/* The machine has this one address. */
static enum bus__reach
reach_beside(const char *text, const char *own_text, const char *mask_text)
{
	union any addr = read_address(text), own = read_address(own_text),
		  mask = read_address(mask_text);
	struct ifaddrs second = {.ifa_addr = &own.sa, .ifa_netmask = &mask.sa};
	struct ifaddrs first = {.ifa_next = &second}; /* without an address, like some tunnels */

	return bus__reach_among(&addr.sa, &first);
}

START_TEST(each_net_begins_and_ends_where_it_does)
{
	static const struct {
		enum bus__reach inside;
		const char *before, *first, *last, *after; /* NULL: there is none */
	} nets[] = {
	    {BUS__REACH_LOOPBACK, "126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"},
	    {BUS__REACH_LAN, "9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"},
	    {BUS__REACH_LAN, "172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"},
	    {BUS__REACH_LAN, "192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"},
	    {BUS__REACH_LAN, "169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"},
	    {BUS__REACH_LAN, "fbff:ffff::", "fc00::", "fdff:ffff::1", "fe00::"},
	    {BUS__REACH_LAN, "fe7f:ffff::", "fe80::", "febf:ffff::1", "fec0::"},
	    {BUS__REACH_LOOPBACK, NULL, "::1", "::1", "::2"},
	    {BUS__REACH_UNSPECIFIED, NULL, "::", "::", NULL},
	    {BUS__REACH_UNSPECIFIED, NULL, "0.0.0.0", "0.0.0.0", "0.0.0.1"},
	};

	for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
		ck_assert_msg(reach(nets[i].first) == nets[i].inside, "%s", nets[i].first);
		ck_assert_msg(reach(nets[i].last) == nets[i].inside, "%s", nets[i].last);
		if (nets[i].before != NULL)
			ck_assert_msg(
			    reach(nets[i].before) == BUS__REACH_PUBLIC, "%s", nets[i].before);
		if (nets[i].after != NULL)
			ck_assert_msg(
			    reach(nets[i].after) == BUS__REACH_PUBLIC, "%s", nets[i].after);
	}
}
END_TEST

START_TEST(an_ipv4_address_in_ipv6_is_judged_as_ipv4)
{
	ck_assert_int_eq(reach("::ffff:127.0.0.1"), BUS__REACH_LOOPBACK);
	ck_assert_int_eq(reach("::ffff:192.168.1.1"), BUS__REACH_LAN);
	ck_assert_int_eq(reach("::ffff:192.0.2.1"), BUS__REACH_PUBLIC);
	ck_assert_int_eq(reach("::ffff:0.0.0.0"), BUS__REACH_UNSPECIFIED);
	ck_assert_int_eq(
	    reach_beside("::ffff:192.0.2.1", "192.0.2.7", "255.255.255.0"), BUS__REACH_LAN);
}
END_TEST

START_TEST(addresses_that_only_look_private_are_public)
{
	static const char *const public[] = {
	    "100.64.0.1",        /* other customers of the same provider */
	    "::127.0.0.1",       /* the old form of IPv4 in IPv6 */
	    "64:ff9b::c0a8:101", /* through a foreign translator */
	    "2002:c0a8:101::1", "2001:db8::1", "255.255.255.255", "224.0.0.1", "ff02::1"};
	struct sockaddr other = {.sa_family = AF_UNIX};

	for (size_t i = 0; i < sizeof public / sizeof public[0]; i++)
		ck_assert_msg(reach(public[i]) == BUS__REACH_PUBLIC, "%s", public[i]);
	ck_assert_int_eq(bus__reach_among(&other, NULL), BUS__REACH_PUBLIC);
}
END_TEST

START_TEST(a_prefix_of_an_own_interface_is_this_network)
{
	ck_assert_int_eq(
	    reach_beside("203.0.113.127", "203.0.113.5", "255.255.255.128"), BUS__REACH_LAN);
	ck_assert_int_eq(
	    reach_beside("203.0.113.128", "203.0.113.5", "255.255.255.128"), BUS__REACH_PUBLIC);
	ck_assert_int_eq(
	    reach_beside("2001:db8::9", "2001:db8::1", "ffff:ffff:ffff:ffff::"), BUS__REACH_LAN);
	ck_assert_int_eq(reach_beside("2001:db8:0:1::9", "2001:db8::1", "ffff:ffff:ffff:ffff::"),
	    BUS__REACH_PUBLIC);
	ck_assert_int_eq(
	    reach_beside("100.100.1.2", "100.100.1.1", "255.255.255.0"), BUS__REACH_LAN);
	/* A tunnel's own address is the machine itself, and a mask without bits is no network. */
	ck_assert_int_eq(
	    reach_beside("203.0.113.5", "203.0.113.5", "255.255.255.255"), BUS__REACH_LAN);
	ck_assert_int_eq(
	    reach_beside("203.0.113.6", "203.0.113.5", "255.255.255.255"), BUS__REACH_PUBLIC);
	ck_assert_int_eq(reach_beside("203.0.113.6", "203.0.113.5", "0.0.0.0"), BUS__REACH_PUBLIC);
	ck_assert_int_eq(reach_beside("2001:db8::9", "2001:db8::1", "::"), BUS__REACH_PUBLIC);
	ck_assert_int_eq(
	    reach_beside("2001:db8::9", "192.0.2.1", "255.255.255.0"), BUS__REACH_PUBLIC);
}
END_TEST

static uint64_t
host(const char *text)
{
	union any addr = read_address(text);

	return bus__reach_host(&addr.sa);
}

START_TEST(an_ipv6_host_is_its_64_bits_of_network_and_this_machine_is_none)
{
	ck_assert_uint_ne(host("192.0.2.1"), host("192.0.2.2"));
	ck_assert_uint_eq(host("192.0.2.1"), host("::ffff:192.0.2.1"));
	ck_assert_uint_eq(host("2001:db8:0:1::1"), host("2001:db8:0:1:ffff::9"));
	ck_assert_uint_ne(host("2001:db8:0:1::1"), host("2001:db8:0:2::1"));
	ck_assert_uint_ne(host("192.0.2.1"), 0);
	ck_assert_uint_eq(host("127.0.0.1"), 0);
	ck_assert_uint_eq(host("127.9.9.9"), 0);
	ck_assert_uint_eq(host("::1"), 0);
	ck_assert_uint_eq(host("::ffff:127.0.0.1"), 0);
	ck_assert_uint_eq(bus__reach_host(NULL), 0);
}
END_TEST

START_TEST(addresses_of_this_machine_are_never_public)
{
	struct ifaddrs *own;

	ck_assert_int_eq(getifaddrs(&own), 0);
	for (struct ifaddrs *at = own; at != NULL; at = at->ifa_next)
		if (at->ifa_addr != NULL && at->ifa_netmask != NULL &&
		    (at->ifa_addr->sa_family == AF_INET || at->ifa_addr->sa_family == AF_INET6))
			ck_assert_int_ne(bus__reach_of(at->ifa_addr), BUS__REACH_PUBLIC);
	freeifaddrs(own);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("reach");

	BUS_TEST_CASE(suite, "address", each_net_begins_and_ends_where_it_does,
	    an_ipv4_address_in_ipv6_is_judged_as_ipv4, addresses_that_only_look_private_are_public,
	    a_prefix_of_an_own_interface_is_this_network,
	    an_ipv6_host_is_its_64_bits_of_network_and_this_machine_is_none,
	    addresses_of_this_machine_are_never_public);
	return suite;
}
