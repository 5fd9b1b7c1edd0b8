/* transport/table.h: the transports. One of libbus's is a file and a line in table.c; programs register theirs. */
#ifndef BUS_TRANSPORT_TABLE_H
#define BUS_TRANSPORT_TABLE_H

#include <stdatomic.h>

#include "link/transport.h"

extern const struct bus__transport bus__transport_inproc; /* buses of one process, in memory */
extern const struct bus__transport bus__transport_ipc;    /* Unix sockets, one user */
extern const struct bus__transport bus__transport_tcp;    /* loopback only */
extern const struct bus__transport bus__transport_tls;    /* tcp, encrypted, both sides known */
/* ipc and tcp without links: transport/without_links.c; tls without mbedTLS: transport/without_mbedtls.c. */

/* A registered transport. It stays for good, so links need no reference. */
struct bus__added {
	struct bus__transport base;
	_Atomic(struct bus__added *) next;
};

/* Adds one. BUS_E_EXIST: its scheme is taken. Threads: any. */
int bus__transport_add(struct bus__added *added);

#endif
