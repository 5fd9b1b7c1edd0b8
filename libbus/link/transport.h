/* link/transport.h: what links ask of a transport: byte streams whose operations end later.
 *
 * An operation is one bus__io. Whoever begins it posts nothing: when it has ended, from whatever thread,
 * the transport fills the io and its task runs on the link thread of the beginner. All functions here are
 * called by that one thread, except where said, and check and listen (the caller's of bus_listen). None waits for a peer.
 *
 * What programs add has another form, whose functions wait: libbus/own_transport.h, transport/blocking.h. */
#ifndef BUS_LINK_TRANSPORT_H
#define BUS_LINK_TRANSPORT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "link/loop.h"
#include "link/url.h"

struct bus__io {
	struct bus__task task;
	struct bus__loop *loop;
	int err;      /* 0 or BUS_E_* */
	int sys;      /* BUS_E_SYS: the errno */
	size_t count; /* send, recv: bytes moved, more than 0; fewer than asked is usual */
	struct bus__stream *stream; /* accept, dial: yours */
};

/* Ends an operation. Nothing may touch the io afterwards. */
static inline void
bus__io_done(struct bus__io *io, int err, size_t count)
{
	io->err = err;
	io->count = count;
	bus__loop_post(io->loop, &io->task);
}

struct bus__tls_config; /* crypto/tls.h */

/* An address of the internet, without its port. */
union bus__host {
	struct sockaddr any; /* AF_UNSPEC: none */
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* The settings of a link as far as a transport needs them. The link owns all of it; a transport borrows it for a call, a listener as long
 * as it lives. */
struct bus__terms {
	char *ca_file, *cert_file, *key_file, *psk_file; /* NULL: the transport's defaults */
	char host[BUS__URL_NAME];                        /* as the URL has it */
	bool dials;
	bool allow_lan, allow_insecure_remote;
	bool encrypts;        /* the caller of check() and dial() encrypts: any address will do */
	union bus__host good; /* dialling: of the last connection that was joined; tried first */
	union bus__host bad;  /* the same of the last one that was not; tried last */
	struct bus__tls_config *tls; /* made by prepare(); NULL: none */
};

struct bus__stream {
	const struct bus__stream_ops *ops;
};

struct bus__stream_ops {
	/* One send and one recv may be under way at a time. iov and buf are borrowed until the end. */
	void (*send)(
	    struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io);
	void (*recv)(struct bus__stream *stream, void *buf, size_t len, struct bus__io *io);
	/* 0, or BUS_E_DENIED: the process at the other end is another user's. */
	int (*admit)(struct bus__stream *stream);
	/* Closes and frees. Operations under way end; when it returns, no io is touched any more. */
	void (*free)(struct bus__stream *stream);
	/* Why an operation answered BUS_E_TLS, in words, as long as the stream. NULL: this transport has no words. */
	const char *(*reason)(const struct bus__stream *stream);
	/* Reads the peer's address. 0, or BUS_E_GONE. NULL: peers of this transport have none. */
	int (*remote)(struct bus__stream *stream, struct sockaddr_storage *ret_addr);
};

struct bus__listener {
	const struct bus__listener_ops *ops;
};

struct bus__listener_ops {
	/* Waits for one peer; one at a time. */
	void (*accept)(struct bus__listener *listener, struct bus__io *io);
	void (*free)(
	    struct bus__listener *listener); /* as for streams; a stream not taken is yours */
};

/* One attempt to connect. */
struct bus__dialer {
	const struct bus__dialer_ops *ops;
};

struct bus__dialer_ops {
	void (*free)(
	    struct bus__dialer *dialer); /* gives up, if it has not ended; as for streams */
};

struct bus__transport {
	const char *scheme;
	const struct bus__form *form; /* of its addresses */
	/* Whether this machine may use the address; a host becomes a numeric one in *numeric, or stays a name that each dial looks
	 * up. BUS_E_NOT_LOOPBACK: it has set the sentence itself (bus__fail()).
	 * Blocks: for a name look-up. */
	int (*check)(const struct bus__address *addr, const struct bus__terms *terms,
	    struct bus__address *numeric);
	/* Makes what all listens and dials of a link share: reads the files that the terms name. Sets the sentence of the
	 * failure itself (bus__fail()). NULL: nothing to make.
	 * Threads: any.  Blocks: for files. */
	int (*prepare)(struct bus__terms *terms);
	void (*release)(struct bus__terms *terms); /* what prepare() made; goes with prepare() */
	/* Opens a numeric address; port 0 becomes the real one. Peers can connect when it returns 0. */
	int (*listen)(struct bus__address *addr, const struct bus__terms *terms,
	    struct bus__listener **ret_listener);
	int (*dial)(const struct bus__address *addr, const struct bus__terms *terms,
	    struct bus__io *io, struct bus__dialer **ret_dialer);
	/* Waits, until the deadline at most, until what was freed is also closed. NULL: it is.
	 * Threads: any but the link thread. */
	void (*settle)(const struct bus__transport *transport, int64_t deadline_ns);
	/* How long one dial may take, with look-ups and all addresses of a name, and without the handshake. 0: five seconds. */
	int dial_ms;
	bool encrypts; /* what it carries: any address will do */
	/* What an address looks like, for an error; NULL: as bus_strerror() says. */
	const char *address_hint;
	/* What this libbus was built without, and how to get it: check() returns BUS_E_NOTSUP. NULL: nothing is missing. */
	const char *missing;
};

/* In transport/table.c: the transports there are in this process. They stay. Threads: any, for all. */

/* The one of that scheme, of len bytes. NULL: there is none. */
const struct bus__transport *bus__transport_find(const char *scheme, size_t len);

/* Writes their schemes, "inproc, ipc, tcp", without those that miss something; those that have no room become "...". */
void bus__transport_list(char *ret_text, size_t cap);

/* Settles all of them. */
void bus__transport_settle(int64_t deadline_ns);

#endif
