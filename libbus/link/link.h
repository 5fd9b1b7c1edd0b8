/* link/link.h: the links of a bus and what they share with their connections (session.h).
 * Unless stated otherwise everything here belongs to the link thread. */
#ifndef BUS_LINK_LINK_H
#define BUS_LINK_LINK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libbus/transport.h>

#include "bus/peer.h"
#include "link/buffers.h"
#include "link/guard.h"
#include "link/loop.h"
#include "link/roster.h"
#include "link/seen.h"
#include "link/transport.h"
#include "link/url.h"
#include "loop/network.h"

struct bus__session;
struct bus__change;
struct bus__flush;
struct bus__peer;
struct bus__debris;
struct bus__left;
struct bus__backoff;

/* The link state of one bus: made by its first link, freed with its last reference. */
struct bus__links {
	struct bus *bus;
	struct bus__loop loop;

	_Atomic uint32_t count; /* links that exist, or are queued for the link thread */
	_Atomic uint32_t idle;  /* futex: 1 when closing and no link is left */
	_Atomic bool settles;   /* some link's transport settles: relaxed, the lock orders it */

	pthread_mutex_t lock; /* of the next fields; taken after the bus lock */
	bool closed;
	_Atomic uint32_t users; /* futex: threads between bus__links_enter() and _leave() */
	struct bus__change *changes, **last_change;
	uint64_t change_count;
	bool changes_lost; /* out of memory: reconnect, to tell peers all filters again */
	struct bus__task change_task;

	struct bus_link *first;
	struct bus__peer *peers;
	struct bus__timer forget_timer; /* for the next one to forget */
	struct bus__left *left;         /* accounts of forgotten peers, the latest first */
	uint8_t (*met)[BUS__BUS_ID];    /* ring of the ids of buses met */
	uint32_t met_count, met_cap;    /* how many were met in all, and the ring's capacity */
	struct bus__task over_task;     /* an account may be over its bound */
	/* Where hubs are (hub.h). */
	struct bus__seen *seen, *seen_losses; /* separate: a loss needs no right to write */
	uint8_t loss_id[BUS__BUS_ID];         /* the source of losses first noticed here */
	uint64_t losses;                      /* their number */
	uint16_t last_via;
	struct bus__flush *flushes;
	struct bus__buffers buffers;
	struct bus__debris *debris;
	struct bus__task debris_task;
	struct bus__roster roster;
	struct bus__backoff *backoff; /* NULL: no failed login yet */
	uint64_t random;
	bool closing;
	int64_t close_until_ns; /* bus_close()'s deadline, set before `closing` */
	struct bus__task close_task, end_task;
	struct bus__timer end_timer;       /* of an abandoned link thread */
	struct bus__network_watch network; /* on once a link dials beyond this machine */
	struct bus__task network_task;
};

enum gone {
	LINK_GONE = 1, /* closing, without connections: the closing thread owns the memory */
	LINK_LEFT      /* the closing thread does not wait: the link thread owns it */
};

struct bus_link {
	struct bus__links *links;
	const struct bus__transport *transport;
	struct bus__address addr; /* numeric */
	struct bus__terms terms;
	struct bus__guard guard;
	char url[BUS__URL_TEXT];
	_Atomic uint16_t port; /* of a listener, as the system chose it; 0: as in the url */
	size_t bytes;
	uint64_t peer_bytes;
	uint32_t heartbeat_ms, max_peers;
	bool dials;
	bool relays; /* hub.h */
	bool
	    has_role; /* false: another process of the bus's name has this address, and the link is a standby */
	uint64_t role;
	bool owned; /* by the user, until bus_link_close() */

	/* Written by the link thread, read by any. */
	_Atomic int state, last_error;
	_Atomic uint32_t peers;
	_Atomic uint64_t sent, received, lost, lost_by_peers, refused, repeated, late, too_far;
	_Atomic uint64_t ended[BUS_LINK_END_COUNT];

	struct bus_link *next;
	struct bus__task begin, end;
	struct bus__session *sessions;
	uint32_t session_count;
	struct bus__listener *listener;
	struct bus__dialer *dialer;
	struct bus__io io;       /* the accept or the dial under way */
	struct bus__timer timer; /* when to accept or dial again, or to give up a dial */
	unsigned attempts;       /* dials since the last success */
	int64_t dialled_ns;      /* when the last one began */
	bool hurries;            /* this machine's networks have changed since then */
	bool has_joined;         /* dialling: it has been connected */
	bool closing;
	_Atomic uint32_t gone; /* futex, enum gone */
};

/* A counter that one thread writes and any reads. It orders nothing. */
static inline void
bus__count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Keeps the link thread alive until bus__links_leave(). false: it has ended, or is about to.
 * Threads: any. */
bool bus__links_enter(struct bus__links *links);
void bus__links_leave(struct bus__links *links);

/* The longest pause between two attempts to dial an address that never answered, and between two checks of a standby
 * whether the link's owner is gone. Tests shorten both. Relaxed: they publish nothing. */
extern _Atomic int bus__back_off_most_ms, bus__stand_by_ms;

/* Waits until the link thread stores a value other than 0 in *word. false: the deadline has passed, and the link thread is in a
 * callback of the program, or may be, which can last.
 * Threads: any. */
bool bus__links_await(struct bus__links *links, _Atomic uint32_t *word, int64_t deadline_ns);

/* Reports of a connection to its link. */
void bus__link_error(struct bus_link *link, int err); /* last_error, while the connection goes on */
void bus__link_joined(struct bus_link *link);         /* both sides know each other's filters */
void bus__link_ended(struct bus_link *link, bool was_joined, enum bus_link_end end, int err);
void bus__link_freed(struct bus_link *link, struct bus__session *session);

/* The live connection to the bus `id`, on any link, other than `except`. NULL: none. */
struct bus__session *bus__links_find_peer(
    struct bus__links *links, const uint8_t *id, const struct bus__session *except);

/* Opens the address. Threads: any, before the link is in use; then the link thread. */
int bus__link_listen(struct bus_link *link);

/* Frees its memory. Threads: any, when the link is no longer in use. */
void bus__link_free(struct bus_link *link);

/* This machine's networks have changed: a link that waits to dial beyond it dials at once. */
void bus__link_hurry(struct bus_link *link);

/* Tasks: start a link; end a link, which sets `gone` after the end of its connections. */
void bus__link_begin(void *link);
void bus__link_close(void *link);

#endif
