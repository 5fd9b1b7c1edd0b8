/* transport/tcp_dial.h: dialling a host that may have several addresses. */
#ifndef BUS_TRANSPORT_TCP_DIAL_H
#define BUS_TRANSPORT_TCP_DIAL_H

#include <stdatomic.h>

#include "link/transport.h"

/* How long one address may take to connect before the next one is tried, and a name server before the last good address is tried.
 * Tests change it. Relaxed: it publishes nothing. */
extern _Atomic int bus__connect_ms;

/* Looks the name up again and tries each address that the terms allow: the good one first, the bad one last. Works like
 * bus__transport.dial. BUS_E_NOT_LOOPBACK: none of them is allowed. */
int bus__tcp_dial(const struct bus__address *addr, const struct bus__terms *terms,
    struct bus__io *io, struct bus__dialer **ret_dialer);

#endif
