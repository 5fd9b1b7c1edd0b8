/* transport/hosts.h: the addresses of a host name. */
#ifndef BUS_TRANSPORT_HOSTS_H
#define BUS_TRANSPORT_HOSTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "link/transport.h"

enum { BUS__HOSTS_MOST = 8 /* of one name; further ones are not tried */ };

struct bus__hosts {
	union bus__host at[BUS__HOSTS_MOST]; /* in the system's order of preference */
	unsigned count;
};

/* Looks a name up. numeric: takes only an address, "192.0.2.1" or "fe80::1%eth0", and does not block.
 * 0, BUS_E_ADDRESS (unknown), _NOMEM, _LIMIT or _SYS with errno.
 * Blocks: without numeric, up to half a minute if name servers do not answer. */
int bus__hosts_find(const char *name, bool numeric, struct bus__hosts *ret_hosts);

/* Writes a host as an address, of at most BUS__URL_NAME bytes. */
int bus__host_write(const union bus__host *host, char *ret_text);

/* The same on a separate thread, which may outlive the caller. */
struct bus__lookup;

/* Begins a look-up of a name; posts the task at its end. BUS_E_NOMEM, _LIMIT or _LOCKED: there is no memory, thread or stack,
 * or 64 look-ups of the process are under way.
 * Threads: the link thread, also for the next two. */
int bus__lookup_start(const char *name, struct bus__loop *loop, struct bus__task *task,
    struct bus__lookup **ret_lookup);

/* Reads the result, after the task has run; an error as above. */
int bus__lookup_read(const struct bus__lookup *lookup, struct bus__hosts *ret_hosts);

/* Frees it; a look-up under way continues without touching the task. */
void bus__lookup_free(struct bus__loop *loop, struct bus__lookup *lookup);

#endif
