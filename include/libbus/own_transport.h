/* libbus/own_transport.h: links over a carrier of your own: FIFOs, a serial line, a socket of another kind.
 *
 * Six blocking functions over an opaque handle are enough. bus_transport_register() gives them a scheme, and from then on
 * bus_listen() and bus_dial() of this process take its addresses. libbus brings the threads, the framing, handshake and
 * heartbeats, the bounds, the reconnecting and the cancellation. examples/c/own_transport.c is a whole one;
 * docs/guide/own-transport.md has the reasons.
 *
 * Bytes.     A connection carries a stream of bytes in each direction: all of them, in order, unchanged. Where they are
 *            cut means nothing; libbus frames them. A carrier that may lose or change bytes checks and repeats them
 *            itself, or ends the connection.
 * Waiting.   A function that may wait has a timeout_ms. It returns BUS_E_TIMEDOUT when that has passed, and is called again
 *            while its link is open. This is how a call is cancelled: nothing else ends it. A function that returns
 *            early is called again after a millisecond at the soonest.
 * Threads.   All six run on threads of libbus: one for each listener, two for each connection (one sends, one receives),
 *            one for each attempt to dial. These have the system's usual stack and block all signals: a write to a pipe without a
 *            reader fails with EPIPE. send and recv of one connection run at the same time; no function runs twice at the same
 *            time on one handle; close runs once, after all other calls on its handle.
 * Ending.    bus_link_close() and bus_close() wait until calls have returned and handles are closed, for 300 ms at most;
 *            bus_close() no longer than its timeout, and not less than 40 ms.
 *            A call that takes longer is left behind on its thread. Its bytes are no part of the link, so it does no
 *            harm; when it returns, its handle is closed. While 64 handles of a transport are left behind, its listens, dials and
 *            accepts fail with BUS_E_LIMIT.
 * Security.  Without bus_link_config.users_file, every connection that accept returns is a peer that may publish and receive
 *            everything: accept only trusted ones. With users_file, peers log in as on every link. libbus does not encrypt.
 * Memory.    A connection has a buffer of 64 KiB in each direction, beside what every link has.
 * Fork.      A child has what is registered and none of the threads; it opens links of its own. No function is called there
 *            for handles of the parent. Open descriptors with O_CLOEXEC. */
#ifndef LIBBUS_OWN_TRANSPORT_H
#define LIBBUS_OWN_TRANSPORT_H

#include <stddef.h>

#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#pragma GCC diagnostic push /* as in bus.h */
#pragma GCC diagnostic ignored "-Wshadow"
#endif

/* Functions return 0 or a count, or a negative BUS_E_*; BUS_E_SYS, with errno set, for a system call that failed. An
 * error of listen is that of bus_listen(); one of accept or dial is last_error of the link. They call nothing of libbus. */
struct bus_transport {
	size_t size;

	/* In front of "://": 1 to 15 of a-z, 0-9, '+', '-' and '.', the first one a letter. */
	const char *scheme;

	/* Handed to listen and dial. */
	void *arg;

	/* Opens an address: what follows "://", 1 to 255 bytes of printable UTF-8, valid until the call returns. Peers can connect when
	 * it returns 0. It does not wait for one; bus_listen() gives up after 5 s with BUS_E_TIMEDOUT.
	 * BUS_E_ADDRESS: malformed; BUS_E_ADDRESS_TAKEN, BUS_E_DENIED, BUS_E_SYS. */
	int (*listen)(void *arg, const char *address, void **ret_listener);

	/* Waits for the next peer. After another error than BUS_E_TIMEDOUT it is called again in 100 ms. */
	int (*accept)(void *listener, int timeout_ms, void **ret_conn);

	/* Connects within timeout_ms, 5 s. After any error libbus dials again, from the beginning, after pauses that grow to 30 s.
	 * BUS_E_REFUSED: nothing listens at the address. Closing the link does not wait for the call. */
	int (*dial)(void *arg, const char *address, int timeout_ms, void **ret_conn);

	/* Takes some of the bytes, which are 64 KiB at most, and returns how many. It may return when they are in a buffer of the
	 * system's. BUS_E_TIMEDOUT: none. Any other negative number ends the connection, also the -1 of a system call. */
	int (*send)(void *conn, const void *data, size_t len, int timeout_ms);

	/* Gives bytes as soon as there are any, up to cap, which is 64 KiB, and returns how many. 0: the peer has closed, as with
	 * read(). BUS_E_TIMEDOUT: none. Any other negative number ends the connection. */
	int (*recv)(void *conn, void *ret_data, size_t cap, int timeout_ms);

	/* Closes a listener or a connection and frees it. When it returns, the address is free again, and recv of the peer returns 0
	 * or an error, behind the bytes that send took where that is possible. */
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
