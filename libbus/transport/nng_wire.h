/* transport/nng_wire.h: NNG's byte streams in the shape of link/transport.h. The only place that knows
 * NNG, and it knows no more than streams: docs/transports.md says why sockets are not used. */
#ifndef BUS_TRANSPORT_NNG_WIRE_H
#define BUS_TRANSPORT_NNG_WIRE_H

#include <stdint.h>

#include "link/transport.h"

/* Listens at an address of NNG. Its scheme decides the options: tcp sends at once and keeps alive, ipc
 * makes the socket 0600 and admits only peers of our user and root. */
int bus__nng_listen(struct bus__address *addr, struct bus__listener **ret_listener);

int bus__nng_dial(
    const struct bus__address *addr, struct bus__io *io, struct bus__dialer **ret_dialer);

#endif
