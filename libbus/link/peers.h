/* link/peers.h: what a bus remembers of another bus from one connection to the next, so that each of the two learns how
 * many messages it missed between them.
 *
 * The messages of a direction have numbers, which do not travel: both sides count. A sequence of numbers has an id, which
 * its sender chooses at random. After a connection broke, RESUME says which number the receiver expects and START which
 * one comes next; the difference is the gap: what was on its way, what waited in the mailbox towards the peer, and what
 * the peer's filters, which stay, would have brought it since. docs/wire.md has the frames.
 *
 * A peer whose connection broke is remembered for ten minutes, and 1,024 such peers are; of more, the one whose
 * connection broke first is forgotten. One that said goodbye, or was told so, is forgotten at once. Link thread.
 *
 * Whether two buses have met is remembered for longer, of the last 1,024 others: a bus that is new to this one has not heard of
 * its values (base/offer.h).
 *
 * What a peer made this bus hold stays on its account as long as it is there. So an account with something on it is found again by
 * the peer's identity, also after the peer was forgotten; of 1,024 such, at least, the latest. */
#ifndef BUS_LINK_PEERS_H
#define BUS_LINK_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "access/users.h"
#include "link/debris.h"
#include "link/filters.h"
#include "link/frame.h"

struct bus__links;
struct bus__session;
struct bus_link;

/* Who a peer is. What a bus remembers of a peer belongs to both together, so a user who learns the id of another's bus gets
 * nothing that is meant for that. */
struct bus__identity {
	uint8_t id[BUS__BUS_ID]; /* of the bus */
	char name[BUS__USER_NAME +
		  1]; /* of the user, whose password the peer has; "": nobody asked */
};

bool bus__identity_equal(const struct bus__identity *a, const struct bus__identity *b);

/* Of the numbers below `next`, `lost` belong to messages that did not reach the receiver, as far as this side knows. */
struct bus__sequence {
	uint64_t id; /* 0: there is none */
	uint64_t next, lost;
};

struct bus__peer {
	struct bus__debris debris; /* when it is forgotten */
	struct bus__peer *next;
	struct bus__identity identity;
	struct bus__session *session; /* its connection; NULL: that broke */
	struct bus_link *link;        /* of its last connection */
	int64_t forget_ns;
	struct bus__filters filters; /* what it wants, bound to: */
	struct bus_mailbox *mbox;    /* NULL before its first RESUME; parked without a connection */
	struct bus__account *account; /* what it makes this bus hold */
	uint64_t told_lost,
	    told_parked; /* how much of bus__peer_lost() and bus__peer_lost_parked() `out` counts */
	/* Where hubs are (hub.h): what its mailbox knows, and of which loss it is to know. */
	bool numbered, fed, owes_loss;
	uint16_t via;
	struct bus__lost owed_loss;
	bool has_waited; /* there was a connection before this one, and it is remembered */
	bool has_met;    /* there was one, in this bus's life */
	bool is_known;   /* the peer has named `out`, so it knows it */
	bool
	    is_restarted; /* `out` follows one that was lost, of which START tells until the peer has named it */
	struct bus__sequence out, in;
	uint64_t
	    unsent; /* how many of `out` became lost since the last connection without being sent */
};

/* An account that a peer left behind. */
struct bus__left {
	struct bus__left *next;
	struct bus__identity identity;
	struct bus__account *account; /* counted */
};

void bus__peers_init(struct bus__links *links);

/* Finds or makes what is remembered of the peer of a session, whose connection it is from now on. 0 or BUS_E_NOMEM. */
int bus__peers_join(struct bus__session *session);

/* The connection has ended; for_good: no other one is expected to go on where it was. */
void bus__peers_leave(struct bus__session *session, bool for_good);

/* The peer has said which number it expects: opens its mailbox, or resumes it, and gives the START to be said. What it
 * missed becomes counted as lost. 0, BUS_E_PROTOCOL, and what bus__peer_open() and bus__peer_resume() answer. */
int bus__peers_resume(struct bus__session *session, const struct bus__resume *resume,
    void (*wake)(void *arg), struct bus__start *ret_start);

/* The peer has said which number comes next. Returns how many messages are missing, and whether that is a lower bound.
 * BUS_E_PROTOCOL: it went back. */
int bus__peers_start(struct bus__session *session, const struct bus__start *start,
    uint64_t *ret_gap, bool *ret_at_least);

/* The connection is complete: the two buses have met from now on. */
void bus__peers_met(struct bus__session *session);

/* Frees what is left of accounts, and of those who were met. Threads: any, when the link thread has ended. */
void bus__peers_fini(struct bus__links *links);

/* Forgets the peers that were connected last by this link; and all. */
void bus__peers_forget_link(struct bus_link *link);
void bus__peers_forget_all(struct bus__links *links);

#endif
