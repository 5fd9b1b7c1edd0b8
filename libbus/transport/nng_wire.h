/* transport/nng_wire.h: NNG's byte streams in the shape of link/transport.h. The only place that knows
 * NNG, and it knows no more than streams: docs/transports.md says why sockets are not used. */
#ifndef BUS_TRANSPORT_NNG_WIRE_H
#define BUS_TRANSPORT_NNG_WIRE_H

#include <stdint.h>

#include "link/transport.h"

/* 0, or BUS_E_FORKED: NNG was begun in a parent process and does not work in this one. Begins nothing. */
int bus__nng_check(void);

/* Listens at an address of NNG. Its scheme decides the options: tcp sends at once and keeps alive, ipc
 * makes the socket 0600 and admits only peers of our user and root. */
int bus__nng_listen(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener);

int bus__nng_dial(const struct bus__address *addr, const struct bus__terms *terms,
    struct bus__io *io, struct bus__dialer **ret_dialer);

#endif
