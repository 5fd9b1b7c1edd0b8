/* transport/blocking.h: registered transports (libbus/own_transport.h), whose functions block, in the shape of
 * link/transport.h, whose operations complete later: the threads that block, and buffers that outlive a link. */
#ifndef BUS_TRANSPORT_BLOCKING_H
#define BUS_TRANSPORT_BLOCKING_H

#include <libbus/own_transport.h>

#include "transport/table.h"

extern _Atomic int bus__open_ms; /* for a listen; tests shorten it */

/* Copies `given`, which is valid and of this version. NULL: no memory. The caller frees it by bus__free(), unless it was added. */
struct bus__added *bus__blocking_new(const struct bus_transport *given);

#endif
