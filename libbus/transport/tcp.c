/* tcp://host:port, in clear text: on this machine, and beyond it where the link's terms allow that. */
#define _GNU_SOURCE
#include "transport/table.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <libbus/error.h>

#include "base/error_text.h"
#include "base/thread.h"
#include "link/terms.h"
#include "transport/hosts.h"
#include "transport/wire.h"
#include "transport/tcp_dial.h"

#define DIAL_MS 60000

static int
fail_reach(const struct bus__address *addr, const union bus__host *host, enum bus__reach reach)
{
	char url[BUS__URL_TEXT], text[BUS__URL_NAME] = "it";
	const char *way = reach == BUS__REACH_PUBLIC
			      ? "tls://, or allow_insecure_remote inside a VPN"
			      : "tls://, or allow_lan with users";

	bus__url_write(addr, url);
	bus__host_write(host, text);
	return bus__fail(BUS_E_NOT_LOOPBACK,
	    BUS__SHOWN
	    ": %.46s is %s: in clear text a link stays on this machine, at 127.0.0.1; use %s",
	    url, text, bus__reach_words(reach), way);
}

/* All addresses of the name must be allowed. IPv4 is preferred, so that both sides of tcp://localhost meet. The streams get the
 * number that was checked, and never look the name up again. */
static int
choose(const struct bus__address *addr, const struct bus__terms *terms,
    const struct bus__hosts *hosts, struct bus__address *numeric)
{
	unsigned chosen = 0;

	for (unsigned i = 0; i < hosts->count; i++) {
		enum bus__reach reach = bus__reach_of(&hosts->at[i].any);

		if (!bus__terms_reach(terms, reach))
			return fail_reach(addr, &hosts->at[i], reach);
		if (hosts->at[i].any.sa_family == AF_INET &&
		    hosts->at[chosen].any.sa_family != AF_INET)
			chosen = i;
	}
	return bus__host_write(&hosts->at[chosen], numeric->name);
}

struct lookup {
	const char *name;
	struct bus__hosts *hosts;
	int err, system; /* the second: errno */
};

static void *
run_lookup(void *arg)
{
	struct lookup *lookup = arg;

	bus__thread_name("bus-lookup");
	lookup->err = bus__hosts_find(lookup->name, false, lookup->hosts);
	lookup->system = errno;
	return NULL;
}

/* A look-up takes as much stack as the system's name modules do: 12 KiB for those in glibc, any amount for others. A
 * caller may have only 32 KiB. */
static int
look_up_elsewhere(const char *name, struct bus__hosts *hosts)
{
	struct lookup lookup = {.name = name, .hosts = hosts};
	pthread_t thread;
	int err = bus__thread_start(&thread, run_lookup, &lookup);

	if (err < 0)
		return err;
	bus__thread_join(thread);
	errno = lookup.system;
	return lookup.err;
}

/* A name dialled beyond this machine stays a name: its addresses may change, and may be unknown until there is a network. */
static int
check(const struct bus__address *addr, const struct bus__terms *terms, struct bus__address *numeric)
{
	const char *name = strcmp(addr->name, "*") == 0 ? "0.0.0.0" : addr->name;
	struct bus__hosts hosts;
	int err;

	*numeric = *addr;
	err = bus__wire_check();
	if (err < 0)
		return err;
	err = bus__hosts_find(name, true, &hosts);
	if (err == BUS_E_ADDRESS && terms->dials && bus__terms_leave(terms))
		return 0;
	if (err == BUS_E_ADDRESS)
		err = look_up_elsewhere(name, &hosts);
	return err < 0 ? err : choose(addr, terms, &hosts, numeric);
}

const struct bus__transport bus__transport_tcp = {
    .scheme = "tcp",
    .form = &bus__form_host,
    .check = check,
    .listen = bus__wire_listen,
    .dial = bus__tcp_dial,
    .dial_ms = DIAL_MS,
};
