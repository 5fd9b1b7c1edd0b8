/* hub_lines.c: the first user, and the lines to paste on another machine. */
#define _GNU_SOURCE
#include "hub.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { URL = 512, HOST = 256 };

/* --- the address of this machine ------------------------------------------------------------------------- */

static bool
is_wildcard(const char *host)
{
	return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "[::]") == 0 || strcmp(host, "*") == 0;
}

/* Finds the source address of packets to other networks; a machine with containers has several addresses. Sends nothing.
 * false: there is no route. */
static bool
find_by_route(char ret_host[HOST])
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(9)};
	socklen_t len = sizeof in;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool found;

	inet_pton(AF_INET, "198.51.100.1", &in.sin_addr); /* for documentation: no machine has it */
	found = fd >= 0 && connect(fd, (struct sockaddr *)&in, sizeof in) == 0 &&
		getsockname(fd, (struct sockaddr *)&in, &len) == 0;
	if (fd >= 0)
		close(fd);
	if (found)
		inet_ntop(AF_INET, &in.sin_addr, ret_host, HOST);
	return found;
}

/* Finds an address of this machine that its network reaches; without one, takes its name. */
static void
own_host(char ret_host[HOST])
{
	struct ifaddrs *all = NULL;
	char name[HOST / 2] = "";

	gethostname(name, sizeof name - 1);
	snprintf(ret_host, HOST, "%s.local", name);
	if (find_by_route(ret_host) || getifaddrs(&all) != 0)
		return;
	for (struct ifaddrs *at = all; at != NULL; at = at->ifa_next) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(void *)at->ifa_addr;

		if (in == NULL || in->sin_family != AF_INET || (at->ifa_flags & IFF_UP) == 0 ||
		    (at->ifa_flags & IFF_LOOPBACK) != 0)
			continue;
		inet_ntop(AF_INET, &in->sin_addr, ret_host, HOST);
		break;
	}
	freeifaddrs(all);
}

/* The URL that the other machine dials. */
static void
url_from_outside(struct bus_link *link, char ret_url[URL])
{
	char url[URL], host[HOST];
	const char *port;
	char *at;

	if (bus_link_url(link, url, sizeof url) < 0)
		url[0] = '\0';
	at = strstr(url, "://");
	port = strrchr(url, ':');
	snprintf(ret_url, URL, "%s", url);
	if (at == NULL || port <= at || strchr(at + 3, '/') != NULL)
		return;
	snprintf(host, sizeof host, "%.*s", (int)(port - at - 3), at + 3);
	if (!is_wildcard(host))
		return;
	own_host(host);
	snprintf(ret_url, URL, "%.*s://%s%s", (int)(at - url), url, host, port);
}

/* --- lines to paste ------------------------------------------------------------------------------------- */

void
hub_print_lines(
    const struct cli_link *link, const struct bus_link_config *cfg, const char *password)
{
	const bool encrypts = strncmp(link->url, "tls:", 4) == 0;
	const char *user = password != NULL ? HUB_USER : "NAME";
	const char *shown = password != NULL ? password : "PASSWORD";
	char url[URL];

	url_from_outside(link->link, url);
	if (cfg->users_file == NULL) {
		printf("Listening on %s\n", url);
		fflush(stdout);
		return;
	}
	if (password != NULL)
		printf("Added the user %s to %s. Its password is shown only once.\n", user,
		    cfg->users_file);
	printf("On the other machine, paste one of these%s:\n\n",
	    password == NULL ? ", with a user from libbus user list and its password" : "");
	printf("  C       const struct bus_link_config cfg = {.size = sizeof cfg,\n"
	       "              .user = \"%s\", .password = \"%s\", %s};\n"
	       "          bus_dial(bus, \"%s\", &cfg, NULL);\n\n",
	    user, shown, encrypts ? ".ca_file = \"ca.pem\"" : ".allow_lan = 1", url);
	printf("  Python  bus.dial(\"%s\", user=\"%s\", password=\"%s\", %s)\n\n", url, user, shown,
	    encrypts ? "ca=\"ca.pem\"" : "allow_lan=True");
	printf("  shell   LIBBUS_PASSWORD='%s' libbus sub --dial %s --user %s %s '#'\n\n", shown,
	    url, user, encrypts ? "--ca ca.pem" : "--lan");
	if (!encrypts && cfg->allow_lan != 0)
		printf(
		    "Nothing is encrypted: every machine in this network can read the messages.\n");
	fflush(stdout);
}
