/* link/transport.h: a transport as links call it: byte streams whose operations complete later.
 *
 * An operation is one bus__io. Starting one posts nothing. The transport fills in the io when it completes, on any thread,
 * and posts its task to the link thread that started it. That one thread calls all functions here, except where stated,
 * and except check and listen (the thread of bus_listen()). None waits for a peer.
 *
 * Transports of programs have another form, whose functions block: libbus/own_transport.h, transport/blocking.h. */
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
	size_t count; /* send, recv: bytes moved, more than 0, often fewer than asked */
	struct bus__stream *stream; /* accept, dial: the caller's */
};

/* Completes an operation. Do not touch the io afterwards. */
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

/* The settings of a link that a transport needs. The link owns all of it; a transport borrows it for a call, a listener for
 * its lifetime. */
struct bus__terms {
	char *ca_file, *cert_file, *key_file, *psk_file; /* NULL: the transport's defaults */
	char host[BUS__URL_NAME];                        /* as in the URL */
	bool dials;
	bool allow_lan, allow_insecure_remote;
	bool encrypts;        /* the caller of check() and dial() encrypts: allow any address */
	union bus__host good; /* dialling: of the last connection that was joined; tried first */
	union bus__host bad;  /* the same of the last one that did not join; tried last */
	struct bus__tls_config *tls; /* made by prepare(); NULL: none */
};

struct bus__stream {
	const struct bus__stream_ops *ops;
};

struct bus__stream_ops {
	/* One send and one recv may be under way at a time. iov and buf are borrowed until they complete. */
	void (*send)(
	    struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io);
	void (*recv)(struct bus__stream *stream, void *buf, size_t len, struct bus__io *io);
	/* 0, or BUS_E_DENIED: the process at the other end belongs to another user. */
	int (*admit)(struct bus__stream *stream);
	/* Closes and frees. Operations under way complete; after the return no io is touched. */
	void (*free)(struct bus__stream *stream);
	/* Why an operation answered BUS_E_TLS, as a text that lives as long as the stream. NULL: this transport has no texts. */
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
	void (*free)(struct bus__listener
		*listener); /* as for streams; a stream not taken is the caller's */
};

/* One attempt to connect. */
struct bus__dialer {
	const struct bus__dialer_ops *ops;
};

struct bus__dialer_ops {
	void (*free)(
	    struct bus__dialer *dialer); /* gives up, unless it is complete; as for streams */
};

struct bus__transport {
	const char *scheme;
	const struct bus__form *form; /* of its addresses */
	/* Whether this machine may use the address; a host becomes a numeric one in *numeric, or stays a name that each dial looks
	 * up. Sets the error text of BUS_E_NOT_LOOPBACK itself (bus__fail()).
	 * Blocks: for a name look-up. */
	int (*check)(const struct bus__address *addr, const struct bus__terms *terms,
	    struct bus__address *numeric);
	/* Makes what all listens and dials of a link share: reads the files in the terms. Sets the error text
	 * itself (bus__fail()). NULL: nothing to make.
	 * Threads: any.  Blocks: for files. */
	int (*prepare)(struct bus__terms *terms);
	void (*release)(struct bus__terms *terms); /* frees what prepare() made; both or neither */
	/* Opens a numeric address; port 0 becomes the real one. Peers can connect when it returns 0. */
	int (*listen)(struct bus__address *addr, const struct bus__terms *terms,
	    struct bus__listener **ret_listener);
	int (*dial)(const struct bus__address *addr, const struct bus__terms *terms,
	    struct bus__io *io, struct bus__dialer **ret_dialer);
	/* Waits, at most until the deadline, until freed streams are closed. NULL: they are closed at once.
	 * Threads: any but the link thread. */
	void (*settle)(const struct bus__transport *transport, int64_t deadline_ns);
	/* The time limit of one dial, with look-ups and all addresses of a name, without the handshake. 0: five seconds. */
	int dial_ms;
	bool encrypts; /* it encrypts its streams: allow any address */
	/* The form of an address, for an error; NULL: as in bus_strerror(). */
	const char *address_hint;
	/* The part that this libbus was built without, and how to get it: check() returns BUS_E_NOTSUP. NULL: it has all parts. */
	const char *missing;
};

/* In transport/table.c: the transports of this process. They are never removed. Threads: any, for all. */

/* The transport of that scheme, of len bytes. NULL: there is none. */
const struct bus__transport *bus__transport_find(const char *scheme, size_t len);

/* Writes their schemes, "inproc, ipc, tcp", without those that lack a part; "..." replaces schemes without room. */
void bus__transport_list(char *ret_text, size_t cap);

/* Settles all transports. */
void bus__transport_settle(int64_t deadline_ns);

#endif
