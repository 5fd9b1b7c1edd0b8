/* tcp://host:port, on this machine only: nothing here protects what crosses a network. */
#define _GNU_SOURCE
#include "transport/table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include <libbus/error.h>

#include "base/thread.h"
#include "transport/nng_wire.h"

static bool
is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)addr;

		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	return addr->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr);
}

static int
translate(int gai)
{
	switch (gai) {
	case 0:
		return 0;
	case EAI_MEMORY:
		return BUS_E_NOMEM;
	case EAI_SYSTEM:
		return errno == EMFILE || errno == ENFILE ? BUS_E_LIMIT : BUS_E_SYS;
	default: /* no such host, or no memory to look for it */
		return errno == ENOMEM ? BUS_E_NOMEM : BUS_E_ADDRESS;
	}
}

/* NNG gets the number that was checked, and never looks the name up again. Of several addresses IPv4 is
 * taken, so that both sides of tcp://localhost meet. flags: AI_NUMERICHOST, or 0. */
static int
look_up(const struct bus__address *addr, int flags, struct bus__address *numeric)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *list, *chosen;
	int err;

	errno = 0;
	err = translate(getaddrinfo(addr->name, NULL, &hints, &list));
	if (err < 0)
		return err;
	chosen = list;
	for (struct addrinfo *at = list; at != NULL; at = at->ai_next) {
		if (!is_loopback(at->ai_addr)) {
			err = BUS_E_NOT_LOOPBACK;
			goto free_list;
		}
		if (at->ai_family == AF_INET && chosen->ai_family != AF_INET)
			chosen = at;
	}
	err = translate(getnameinfo(chosen->ai_addr, chosen->ai_addrlen, numeric->name,
	    sizeof numeric->name, NULL, 0, NI_NUMERICHOST));

free_list:
	freeaddrinfo(list);
	return err;
}

struct lookup {
	const struct bus__address *addr;
	struct bus__address *numeric;
	int err, system; /* the second: errno */
};

static void *
run_lookup(void *arg)
{
	struct lookup *lookup = arg;

	bus__thread_name("bus-lookup");
	lookup->err = look_up(lookup->addr, 0, lookup->numeric);
	lookup->system = errno;
	return NULL;
}

/* A name takes as much stack as the system's modules for names do: 12 KiB for those in glibc, any number for others. A
 * caller may have 32 KiB. */
static int
look_up_elsewhere(const struct bus__address *addr, struct bus__address *numeric)
{
	struct lookup lookup = {.addr = addr, .numeric = numeric};
	pthread_t thread;
	int err = bus__thread_start(&thread, run_lookup, &lookup);

	if (err < 0)
		return err;
	bus__thread_join(thread);
	errno = lookup.system;
	return lookup.err;
}

static int
check(const struct bus__address *addr, const struct bus__terms *terms, struct bus__address *numeric)
{
	int err;

	(void)terms;
	*numeric = *addr;
	err = bus__nng_check();
	if (err < 0)
		return err;
	if (strcmp(addr->name, "*") == 0)
		return BUS_E_NOT_LOOPBACK;
	err = look_up(addr, AI_NUMERICHOST, numeric);
	return err == BUS_E_ADDRESS ? look_up_elsewhere(addr, numeric) : err;
}

const struct bus__transport bus__transport_tcp = {
    .scheme = "tcp",
    .form = &bus__form_host,
    .check = check,
    .listen = bus__nng_listen,
    .dial = bus__nng_dial,
};
