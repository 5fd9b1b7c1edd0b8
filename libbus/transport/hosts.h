/* transport/hosts.h: the addresses that a host's name stands for. */
#ifndef BUS_TRANSPORT_HOSTS_H
#define BUS_TRANSPORT_HOSTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "link/transport.h"

enum { BUS__HOSTS_MOST = 8 /* of one name; further ones are not tried */ };

struct bus__hosts {
	union bus__host at[BUS__HOSTS_MOST]; /* in the order in which the system prefers them */
	unsigned count;
};

/* Looks a name up. numeric: only an address is taken, "192.0.2.1" or "fe80::1%eth0", and nothing is waited for.
 * 0, BUS_E_ADDRESS (unknown), _NOMEM, _LIMIT or _SYS with errno.
 * Blocks: without numeric, up to half a minute where name servers do not answer. */
int bus__hosts_find(const char *name, bool numeric, struct bus__hosts *ret_hosts);

/* Writes a host as an address, of at most BUS__URL_NAME bytes. */
int bus__host_write(const union bus__host *host, char *ret_text);

/* The same on a separate thread, which may outlive the caller. */
struct bus__lookup;

/* Begins a look-up of a name; the task is posted when it has ended. BUS_E_NOMEM, _LIMIT or _LOCKED: there is no memory, thread or stack,
 * or 64 look-ups of the process are under way.
 * Threads: the link thread, also of what follows. */
int bus__lookup_start(const char *name, struct bus__loop *loop, struct bus__task *task,
    struct bus__lookup **ret_lookup);

/* Reads what was found, when the task has run; an error as above. */
int bus__lookup_read(const struct bus__lookup *lookup, struct bus__hosts *ret_hosts);

/* Frees it; one under way goes on without touching the task. */
void bus__lookup_free(struct bus__loop *loop, struct bus__lookup *lookup);

#endif
