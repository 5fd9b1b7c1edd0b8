/* transport/tls_stream.h: a connection of tls://: the byte stream of tcp below, and crypto/tls.h between it and the link. */
#ifndef BUS_TRANSPORT_TLS_STREAM_H
#define BUS_TRANSPORT_TLS_STREAM_H

#include "crypto/tls.h"
#include "link/transport.h"

/* The most handshakes of a listener at once. Further peers wait in order, with their first bytes unread. While
 * some wait, a handshake whose peer is silent for bus__tls_patience_ms ends. A peer that has sent nothing yet is not counted. */
enum { BUS__TLS_HANDSHAKES = 32 };
extern _Atomic int bus__tls_patience_ms; /* tests shorten it; relaxed: it publishes nothing */

struct bus__tls_stream;

struct bus__tls_gate {
	unsigned refs; /* of its listener and of connections in the handshake */
	struct bus__tls_stream *waiting, **last_waiting;
	struct bus__tls_stream *inside; /* handshakes under way */
	unsigned count;                 /* of them */
	struct bus__loop *loop;
	struct bus__timer timer;
};

/* One reference. `loop` is set before its first stream. NULL: no memory. */
struct bus__tls_gate *bus__tls_gate_new(void);
void bus__tls_gate_unref(struct bus__tls_gate
	*gate); /* NULL is fine. Threads: the link thread, or before the first stream any */

/* Wraps `lower`, which it owns from now on unless it returns NULL (no memory). host: as for bus__tls_new(). gate: of the
 * listener; NULL: none. Nothing is sent or read before the first operation. Threads: the link thread. */
struct bus__stream *bus__tls_stream_new(struct bus__stream *lower, struct bus__tls_config *config,
    const char *host, struct bus__tls_gate *gate, struct bus__loop *loop);

#endif
