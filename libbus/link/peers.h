/* link/peers.h: a bus's memory of another bus between connections, by which each learns how many messages it missed.
 *
 * The messages of a direction have numbers, which do not travel: both sides count. A sequence of numbers has an id, which its
 * sender chooses at random. After a connection broke, RESUME names the number that the receiver expects and START the one that
 * follows. The difference is the gap: messages that were on their way, that waited in the mailbox towards the peer, and that
 * the peer's filters, which stay, would have brought since. docs/internals/wire.md has the frames.
 *
 * A peer whose connection broke is remembered for ten minutes. At most 1,024 such peers are remembered; beyond that the one
 * whose connection broke first is forgotten. A peer that said or was sent goodbye is forgotten at once. Link thread.
 *
 * A bus remembers longer which buses it has met, the last 1,024 of them: a bus that it has not met does not know its values
 * (base/offer.h).
 *
 * The memory that a peer makes this bus hold stays on its account as long as it exists. So an account in use is found again by
 * the peer's identity, even after the peer was forgotten; of such accounts at least the latest 1,024 are kept. */
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

/* The identity of a peer. A bus's memory of a peer belongs to both parts together, so a user who learns the id of another
 * user's bus gets none of its messages. */
struct bus__identity {
	uint8_t id[BUS__BUS_ID];       /* of the bus */
	char name[BUS__USER_NAME + 1]; /* of the user who logged in; "": without a login */
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
	struct bus__session *session; /* its connection; NULL: broken */
	struct bus_link *link;        /* of its last connection */
	int64_t forget_ns;
	struct bus__filters filters; /* its filters, bound to: */
	struct bus_mailbox *mbox;    /* NULL before its first RESUME; parked without a connection */
	struct bus__account *account; /* the memory that it makes this bus hold */
	uint64_t told_lost,
	    told_parked; /* the part of bus__peer_lost() and bus__peer_lost_parked() that `out` counts */
	/* Where hubs are (hub.h): which messages its mailbox gets, and whether a loss must be reported to it. */
	bool numbered, fed, owes_loss;
	uint16_t via;
	struct bus__lost owed_loss;
	bool has_waited; /* an earlier connection is remembered */
	bool has_met;    /* there was one in this bus's life */
	bool is_known;   /* the peer has named `out` */
	bool
	    is_restarted; /* `out` follows a lost sequence; START says so until the peer has named it */
	struct bus__sequence out, in;
	uint64_t unsent; /* messages of `out` lost unsent since the last connection */
};

/* An account that a peer left behind. */
struct bus__left {
	struct bus__left *next;
	struct bus__identity identity;
	struct bus__account *account; /* counted */
};

void bus__peers_init(struct bus__links *links);

/* Finds or makes the peer of a session, which becomes its connection. 0 or BUS_E_NOMEM. */
int bus__peers_join(struct bus__session *session);

/* The connection has ended; for_good: no other one will continue it. */
void bus__peers_leave(struct bus__session *session, bool for_good);

/* The peer has named the number that it expects: opens its mailbox, or resumes it, and gives the START to send. Counts its missed
 * messages as lost. 0, BUS_E_PROTOCOL, and the errors of bus__peer_open() and bus__peer_resume(). */
int bus__peers_resume(struct bus__session *session, const struct bus__resume *resume,
    void (*wake)(void *arg), struct bus__start *ret_start);

/* The peer has named its next number. Returns how many messages are missing, and whether that is a lower bound.
 * BUS_E_PROTOCOL: it went backwards. */
int bus__peers_start(struct bus__session *session, const struct bus__start *start,
    uint64_t *ret_gap, bool *ret_at_least);

/* The connection is complete: the two buses have met from now on. */
void bus__peers_met(struct bus__session *session);

/* Frees the accounts and the ids of buses met. Threads: any, when the link thread has ended. */
void bus__peers_fini(struct bus__links *links);

/* Forgets the peers whose last connection was on this link; and all. */
void bus__peers_forget_link(struct bus_link *link);
void bus__peers_forget_all(struct bus__links *links);

#endif
