/* libbus/own_transport.h: links over a carrier of your own: FIFOs, a serial line, a socket of another kind.
 *
 * Six blocking functions over an opaque handle are enough. bus_transport_register() gives them a scheme, and from then on
 * bus_listen() and bus_dial() of this process take its addresses. libbus brings the threads, the framing, handshake and
 * heartbeats, the bounds, the reconnecting and the cancellation. examples/c/own_transport.c is a whole one;
 * docs/own-transport.md has the reasons.
 *
 * Bytes.     A connection carries a stream of bytes in each direction: all of them, in order, unchanged, once. Where they
 *            are cut means nothing; libbus frames them. A carrier that may lose or change bytes checks and repeats them
 *            itself, or ends the connection.
 * Waiting.   No function is ever interrupted. Each that may wait has a timeout_ms, returns BUS_E_TIMEDOUT when that
 *            has passed, and is called again while its link is open: so nothing has to be woken by a close. A function that
 *            returns early is called again after a millisecond at the soonest.
 * Threads.   All six run on threads of libbus, never on yours: one for each listener, two for each connection (one
 *            receives, one sends), one for each attempt to dial. These block all signals (a write to a pipe that nobody reads fails
 *            with EPIPE, and no SIGPIPE comes) and have a stack of the system's usual size. send and recv of one
 *            connection run at the same time; no two calls of the same function on one handle do; close runs after all
 *            others on that handle have returned. Different handles are used at the same time.
 * Ending.    bus_link_close() and bus_close() wait until calls have returned and handles are closed, for 0.3 s at most:
 *            longer than any call takes that keeps its timeout, except dial. A call that keeps it not is left behind on its
 *            thread. Nothing of the link is touched any more: its bytes are its own. When it returns after all, the
 *            handle is closed. While 64 handles of a transport are left behind, its dials and accepts fail with BUS_E_LIMIT.
 * Security.  Who can connect is on the bus: it may publish and hear everything. libbus checks neither user nor password of a
 *            peer; accept returns only connections that may be there.
 * Memory.    A connection has a buffer of 64 KiB in each direction, beside what links have.
 * Fork.      A child has what is registered, and none of the threads: it opens links of its own. Handles of the parent
 *            stay as they are in the child's memory; no function is called for them there. Open descriptors with O_CLOEXEC. */
#ifndef LIBBUS_OWN_TRANSPORT_H
#define LIBBUS_OWN_TRANSPORT_H

#include <stddef.h>

#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#pragma GCC diagnostic push /* as in bus.h */
#pragma GCC diagnostic ignored "-Wshadow"
#endif

/* Functions return 0, or a count, or a negative BUS_E_*: BUS_E_SYS with errno set for a system call that failed. An
 * error reaches the user as the error of bus_listen(), or as last_error of the link. They call nothing of libbus. */
struct bus_transport {
	size_t size;

	/* In front of "://": 1 to 15 of a-z, 0-9, '+', '-' and '.', the first one a letter. */
	const char *scheme;

	/* Handed to listen and dial. */
	void *arg;

	/* Opens an address: what follows "://", 1 to 255 bytes of printable UTF-8, valid until the call returns. Peers can connect when
	 * it returns 0. Does not wait for one; bus_listen() gives up after 5 s.
	 * BUS_E_ADDRESS: malformed; BUS_E_ADDRESS_TAKEN, BUS_E_DENIED, BUS_E_SYS. */
	int (*listen)(void *arg, const char *address, void **ret_listener);

	/* Waits for the next peer. After an error other than BUS_E_TIMEDOUT it is called again in 0.1 s. */
	int (*accept)(void *listener, int timeout_ms, void **ret_conn);

	/* Connects, and waits for that 5 s. It is not called again on the same attempt: after an error libbus starts another one,
	 * later and later. BUS_E_REFUSED: nobody listens. A link that is closed meanwhile leaves the call behind. */
	int (*dial)(void *arg, const char *address, int timeout_ms, void **ret_conn);

	/* Takes bytes, 1 to 64 KiB, and returns how many: some are enough. It may return when they are in a buffer of the system's.
	 * BUS_E_TIMEDOUT: none. Another error ends the connection. */
	int (*send)(void *conn, const void *data, size_t len, int timeout_ms);

	/* Gives bytes as soon as there are any, up to cap, which is 64 KiB, and returns how many. 0: the peer closed, as with read().
	 * BUS_E_TIMEDOUT: none. Another error ends the connection. */
	int (*recv)(void *conn, void *ret_data, size_t cap, int timeout_ms);

	/* Closes a listener or a connection and frees it. When it returns, the address is free again, and the peer finds out:
	 * its recv returns 0 or an error. What send took still arrives where that is possible. */
	void (*close)(void *handle);
};

/* Makes a transport known to this process, for buses that are open and for those to come. All of it is copied. The functions must
 * stay mapped until the process ends: it cannot be taken back.
 * BUS_E_EXIST: the scheme is libbus's own, or registered already; BUS_E_INVAL: a function is NULL, or the scheme has other
 * bytes than the above; BUS_E_NOMEM.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_transport_register(const struct bus_transport *transport);

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif
#endif
