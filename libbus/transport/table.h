/* transport/table.h: the transports there are. A new one is a file and a line in table.c. */
#ifndef BUS_TRANSPORT_TABLE_H
#define BUS_TRANSPORT_TABLE_H

#include "link/transport.h"

extern const struct bus__transport bus__transport_inproc; /* buses of one process, in memory */
extern const struct bus__transport bus__transport_ipc;    /* Unix sockets, one user */
extern const struct bus__transport bus__transport_tcp;    /* loopback only */

#endif
