/* transport/blocking.h: what programs registered (libbus/own_transport.h), whose functions wait, in the shape of link/transport.h, whose
 * operations end later: the threads on which they wait, and buffers that outlive a link. */
#ifndef BUS_TRANSPORT_BLOCKING_H
#define BUS_TRANSPORT_BLOCKING_H

#include <libbus/own_transport.h>

#include "transport/table.h"

extern _Atomic int bus__open_ms; /* for a listen; tests shorten it */

/* Copies `given`, which is valid and of this version. NULL: no memory. Ends with bus__free(), unless it was added. */
struct bus__added *bus__blocking_new(const struct bus_transport *given);

#endif
