/* transport/wire.h: the byte streams of ipc and tcp, in the shape of link/transport.h. The build chooses (meson's `streams`):
 * socket_wire.c has sockets that the link thread waits for, and nng_wire.c those of NNG, which has its own threads. */
#ifndef BUS_TRANSPORT_WIRE_H
#define BUS_TRANSPORT_WIRE_H

#include "link/transport.h"

/* Whether streams work in this process. 0, BUS_E_LIMIT or BUS_E_SYS; with NNG also BUS_E_FORKED: NNG was begun in a parent
 * process and does not work in this one. Starts nothing. */
int bus__wire_check(void);

/* Listens at a numeric address. Its scheme decides the options: tcp sends at once and keeps alive, ipc
 * makes the socket 0600 and admits only peers of our user and root. */
int bus__wire_listen(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener);

int bus__wire_dial(const struct bus__address *addr, const struct bus__terms *terms,
    struct bus__io *io, struct bus__dialer **ret_dialer);

#endif
