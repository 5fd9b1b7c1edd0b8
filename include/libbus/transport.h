/* libbus/transport.h: links carry a bus to another bus, of this machine or another.
 *
 * Addresses: inproc://name (another bus of this process), ipc:///absolute/path (this host, this user),
 * tcp://host:port (this machine; with allow_lan or allow_insecure_remote also others), tls://host:port (any machine, encrypted with the
 * files of `libbus cert`: cert.h), and schemes registered through own_transport.h. Port 0 lets the system choose. An IPv6 address stands in
 * brackets, a link-local one with its interface: tcp://[fe80::1%eth0]:7000.
 *
 * Each side tells the other its filters, so only wanted messages cross. The dialling side reconnects a
 * lost connection after a random pause of at most 2 s (30 s for an address that was never up). A change of this machine's
 * networks ends the pause. Every byte: docs/internals/wire.md; networks: docs/transports.md.
 *
 * With -Dstreams=nng, NNG opens descriptors at any time and takes the lowest free numbers. Such a link first
 * opens /dev/null as each of 0, 1 and 2 that is closed, and leaves it there. Do not close them later. */
#ifndef LIBBUS_TRANSPORT_H
#define LIBBUS_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>
#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#pragma GCC diagnostic push /* as in bus.h */
#pragma GCC diagnostic ignored "-Wshadow"
#endif

struct bus_link;

struct bus_link_config {
	size_t   size;
	size_t   bytes;        /* bound of the mailbox towards each peer (drop_oldest); 0: 1 MiB; at most 1 GiB */
	uint32_t heartbeat_ms; /* 0: 5000; from 100 to 3,600,000. A peer silent for three of them is gone. */
	uint32_t max_peers;    /* listening: connections at once; 0: 1024 */
	size_t   peer_bytes;   /* bound on the memory that one peer makes this bus hold besides its mailbox; 0: 32 MiB. See below. */
	const char *user, *password;                               /* dialling: the login. Copied, like all texts here. */
	const char *users_file, *acl_file;                         /* listening: the users that may log in, and their rights */
	const char *ca_file, *cert_file, *key_file, *psk_file;     /* tls://: NULL: the files of `libbus cert` (cert.h) */
	uint32_t allow_lan;             /* clear text to peers of this network; a listener needs users_file */
	uint32_t allow_insecure_remote; /* clear text to any address */
	uint32_t relays;                /* the bus is a hub: messages from this link go on to its other links with relays */
	uint32_t reserved;              /* 0 */
};

/* peer_bytes counts the retained values that a peer published (on a named bus they are in the log, within its bounds), the
 * topics it named, its filters, the routes that lead to them, and its pending requests. A message beyond it is refused
 * and counted: bus_link_stats.refused, last_error BUS_E_LIMIT. A filter beyond it ends the connection
 * (BUS_LINK_END_PROTOCOL, the same error), and so does a new topic of other publishers that its filters match: each topic costs
 * a matching filter about 250 bytes, and each further filter of that peer 48. An eighth is reserved for filters, so that
 * a peer that has published its maximum can still join. Values count as long as they are kept, even after their peer
 * has left. */

/* Opens an address for peers. When the call returns 0, they can connect. A bus has at most 1,024 links.
 * On a named bus one process at a time has an address, to listen or to dial. The link of another process at the same address is
 * down and a standby, until the first process ends its link or dies. The link of a named bus asks peers for all topics, since late
 * joiners may replay them, and sends them the matching messages of every process.
 * BUS_E_SCHEME, _ADDRESS, _ADDRESS_TAKEN, _NOT_A_SOCKET, _NOT_LOOPBACK, _DENIED, _LIMIT, _SYS;
 * With -Dstreams=nng, BUS_E_FORKED: ipc or tcp in the child of a process that had used them.
 * Threads: any.  Blocks: for a name look-up.  Callbacks: none run inside. */
BUS_API int bus_listen(struct bus *bus, const char *url, const struct bus_link_config *cfg,
    struct bus_link **ret_link);

/* Keeps a connection to an address, even before its listener exists. Errors as above. ret_link may be NULL here and
 * in bus_listen(): the link then ends with the bus. A name that may be another machine is looked up at each attempt. An unknown
 * name is no error here, since a machine may start before its network: last_error reports it. Each address gets one second.
 * Threads: any.  Blocks: for the look-up of a name that must be this machine.  Callbacks: none run inside. */
BUS_API int bus_dial(struct bus *bus, const char *url, const struct bus_link_config *cfg,
    struct bus_link **ret_link);

/* Ends a link and its connections and frees it. Unsent messages count as lost in the mailbox of their peer; bus_flush() first
 * sends them. NULL is fine. The call does not wait for a callback on the link thread (BUS_DRAIN_PUBLISHER): the link
 * ends after it.
 * Threads: any, once.  Blocks: for under a second.
 * Callbacks: none run inside. */
BUS_API void bus_link_close(struct bus_link *link);

/* Reads users_file, acl_file and the files of tls:// again, as `libbus hub` does on SIGHUP. The link ends its connections; they come back
 * under the new files. Messages that were on their way to a peer are counted in a gap. A bad file changes nothing, and bus_error_text()
 * says what is wrong with it.
 * BUS_E_INVAL, _DENIED, _TLS, _LIMIT, _NOMEM, _CLOSED, _SYS.
 * Threads: any, not beside bus_link_close().  Blocks: for the files.  Callbacks: none run inside. */
BUS_API int bus_link_reload(struct bus_link *link);

enum bus_link_state {
	BUS_LINK_DOWN, /* dialling: waiting to try again; listening: the bus is closed. Or standing by */
	BUS_LINK_UP    /* dialling: connected and in step; listening: the address is open */
};

/* Why connections ended, each counted. */
enum bus_link_end {
	BUS_LINK_END_CLOSED,     /* we closed it */
	BUS_LINK_END_GONE,       /* the peer closed it or died */
	BUS_LINK_END_SILENT,     /* no heartbeat, or no handshake in 5 s */
	BUS_LINK_END_NOT_LIBBUS, /* spoke another protocol: HTTP, noise */
	BUS_LINK_END_VERSION,    /* another version of ours */
	BUS_LINK_END_PROTOCOL,   /* a frame that may not be sent */
	BUS_LINK_END_TOO_BIG,    /* a frame above the limit */
	BUS_LINK_END_DENIED,     /* another user, or too many connections */
	BUS_LINK_END_AUTH,       /* user or password not accepted, or not given */
	BUS_LINK_END_TLS,        /* TLS refused */
	BUS_LINK_END_COUNT
};

enum { BUS_LINK_END_ROOM = 16 /* room for reasons of newer versions */ };

struct bus_link_stats {
	size_t   size;
	int      state;                    /* enum bus_link_state */
	uint32_t peers;                    /* connections that finished their handshake */
	int      last_error;               /* BUS_E_* of the last failed attempt or ended connection; 0: none */
	uint64_t sent, received;           /* messages; sent ones that did not arrive move to lost */
	uint64_t lost;                     /* messages for peers that our side dropped, or that did not arrive */
	uint64_t lost_by_peers;            /* the same in the other direction, as far as known here */
	uint64_t refused;                  /* messages received and not published here: see last_error */
	uint64_t ended[BUS_LINK_END_ROOM]; /* connections, by enum bus_link_end */
	/* On links with a hub: messages received and dropped. */
	uint64_t repeated;                 /* received before, by another path */
	uint64_t late;                     /* behind 1,024 newer ones of the same bus: perhaps repeated */
	uint64_t too_far;                  /* passed through 8 hubs already */
};

/* Reads the counters of a link; set ret_stats->size first.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_link_stats(struct bus_link *link, struct bus_link_stats *ret_stats);

/* Writes the address, NUL-terminated, with the real port where 0 was asked for. Returns its length;
 * BUS_E_LIMIT when cap is too small.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_link_url(struct bus_link *link, char *ret_text, size_t cap);

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif
#endif
