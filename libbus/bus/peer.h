/* bus/peer.h: what links see of the core. A link is a mailbox whose drainer is "send to the peer", and
 * a publisher whose messages are not sent back to links.
 *
 * Lock order: the bus lock (held around every hook and watcher call) comes before any lock of links.
 * So no lock of the link layer may be held while it calls a function of this page that is marked
 * [bus lock]; the others are free. */
#ifndef BUS_BUS_PEER_H
#define BUS_BUS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "access/refusals.h"
#include "base/offer.h"
#include "base/account.h"
#include "base/passed.h"
#include "mailbox/far.h"
#include "mailbox/host.h"
#include "mailbox/plain.h"

struct page;

/* --- the bus as links see it ---------------------------------------------------------------------- */

/* Same as bus__enter for an object that belongs to a bus and outlives it. */
uint32_t bus__max_payload(const struct bus *bus);
const uint8_t *bus__id(const struct bus *bus); /* 16 random bytes of this bus's life */

/* What the core calls up into the link layer. Set once, by the first listen or dial. */
struct bus__link_hooks {
	/* The set of filters that local subscriptions want has changed: filter became wanted, or the last
	 * one that wanted it ended. Called with the bus lock held: queue it, do not call back. */
	void (*filter_changed)(void *links, const char *filter, bool wanted);
	/* Returns when all peer mailboxes are empty and handed to the wire, or at the deadline
	 * (monotonic ns, INT64_MAX: none): 0 or BUS_E_TIMEDOUT. No lock held. */
	int (*flush)(void *links, int64_t deadline_ns);
	/* Ends every link and joins the link thread. If that is in a callback at the deadline it is left behind, with a
	 * reference to the bus, and ends by itself; otherwise no callback into the core runs after it returned.
	 * No lock held. Called once, in bus_close(), after publishes are refused. */
	void (*close)(void *links, int64_t deadline_ns);
	/* Adds who is connected and who was refused. No lock held. */
	void (*explain)(void *links, struct page *page);
	/* Last reference to the bus is gone: free links. */
	void (*free)(void *links);
};

/* Gives the bus's link state, made by make() if there is none yet (under the bus lock). 0, BUS_E_CLOSED, BUS_E_FORKED or
 * what make() answers. */
int bus__links(struct bus *bus, const struct bus__link_hooks *hooks,
    int (*make)(struct bus *bus, void **ret_links), void **ret_links);

/* The right to listen or to dial at an address, which one process of a named bus has at a time: 1: it is ours, 0: another
 * has it now, or BUS_E_NOMEM, BUS_E_LIMIT, BUS_E_SYS. On a private bus it is always ours. */
int bus__peer_role(struct bus *bus, const char *url, uint64_t *ret_role);
void bus__peer_role_end(struct bus *bus, uint64_t role);

/* Calls fn for every filter that local subscriptions want now; of a named bus for #, since whoever comes later may ask its
 * log for all that was published. [bus lock] */
void bus__wanted_filters(struct bus *bus, void (*fn)(void *arg, const char *filter), void *arg);

/* Whether a callback runs on a publisher's thread, which may be the link thread. No lock held. */
bool bus__calls_on_publisher(struct bus *bus);

/* Publishes on $bus/refused what a peer was refused, for the count-th time. No lock held. */
void bus__notice_refused(struct bus *bus, const struct bus__refused *refused, uint64_t count);

/* Whether other processes are to read what bus_explain_peers() says of this one, and a text that says it. No lock held. */
bool bus__has_peers_readers(const struct bus *bus);
void bus__keep_peers(struct bus *bus, const char *text, size_t len);

/* --- outgoing: the peer's mailbox ------------------------------------------------------------------ */

/* Opens the mailbox of a peer (drop_oldest). It starts asleep. wake(arg) runs on the publishing thread
 * that finds it asleep: from then on the caller of wake owns the drainer role, until bus__peer_sleep()
 * answers true. wake must not block, and may run inside bus_publish() of any thread, of callbacks, and
 * inside bus_mailbox_subscribe(). No wake starts once bus__peer_close() has returned.
 * bus_mailbox_subscribe() works on it; such subscriptions are not "wanted" ones, take room on the account (BUS_E_LIMIT when
 * there is none), and kept values do not come to them: see bus__peer_tell_values(). [bus lock] */
int bus__peer_open(struct bus *bus, struct bus__account *account, size_t bytes,
    void (*wake)(void *arg), void *arg, struct bus_mailbox **ret_mbox);

/* One message as the wire wants it: *msg until the next take, what it points to until the release. Its headers
 * stand right behind its payload. */
struct bus__out {
	const struct bus_msg *msg;
	uint64_t topic_serial;       /* never used twice in this bus's life */
	bool is_reply;               /* to the peer's question of the number msg->reply_to */
	bool nobody;                 /* and says that there will be none */
	bool is_before;              /* a value that was published before the connection began */
	struct bus__version version; /* of a value */
	bool numbered;               /* to a peer that numbers what it is given: */
	struct bus__passed passed;
};

/* Where hubs are: whose mailbox it is, and what it is given. Before its first subscription. */
void bus__peer_know(struct bus_mailbox *mbox, const struct far *far);

/* Takes the next message. false: the mailbox is empty if nothing is held; otherwise its batch has ended: release, and
 * take again. Drainer only.
 * Up to 64 messages may be taken before bus__peer_release(), which lets go of those taken. */
bool bus__peer_take(struct bus_mailbox *mbox, struct bus__out *ret_out);
void bus__peer_release(struct bus_mailbox *mbox);

/* Reads the run of plain messages that come next, and takes the first n of them, which count among the 64. bus__peer_see_run() returns
 * their number. 0: bus__peer_take() takes the next message. Drainer only. */
unsigned bus__peer_see_run(struct bus_mailbox *mbox, struct plain_run *ret_run);
void bus__peer_take_run(struct bus_mailbox *mbox, const struct plain_run *run, unsigned n);

/* Nothing is there to take: how many messages were lost since the last one that was taken, and whom no message tells of
 * any more. Drainer only. */
uint64_t bus__peer_take_lost(struct bus_mailbox *mbox);

/* Gives the drainer role back. true: asleep, wake() will come; false: there are messages, go on. */
bool bus__peer_sleep(struct bus_mailbox *mbox);

/* The peer is out of reach: its subscriptions stay, and count what they would have brought it. On a private bus the
 * mailbox is emptied, and nothing gets in; on a named one it goes on where it was, as long as the log has that. No wake
 * starts once the call has returned, and none is under way; questions of the peer are over. The caller has the drainer
 * role then and until bus__peer_resume(). The drainer must hold nothing taken. [bus lock] */
void bus__peer_park(struct bus_mailbox *mbox);

/* It is back: messages get in again; the caller still has the drainer role. What was lost meanwhile is not told by
 * messages: see bus__peer_lost(). 0, or what bus__reader_start() answers, and BUS_E_NOMEM: it is still parked.
 * [bus lock] */
int bus__peer_resume(struct bus_mailbox *mbox, void (*wake)(void *arg), void *arg);

/* How many messages the mailbox has lost so far, once inside or gone from the log; those that the peer had unsubscribed
 * from do not count. */
uint64_t bus__peer_lost(const struct bus_mailbox *mbox);

/* How many did not get in because it was parked. A publish that was under way then may count after bus__peer_resume(). */
uint64_t bus__peer_lost_parked(const struct bus_mailbox *mbox);

/* Ends the mailbox with its subscriptions; what it held is counted as lost. The drainer must hold
 * nothing taken. Waits for publishers that are inside wake(). Returns what the two calls above would answer then, together.
 * [bus lock] */
uint64_t bus__peer_close(struct bus_mailbox *mbox);

/* --- values: what topics keep, and marks of deletions. Link thread, with the drainer role or without it --------------------- */

/* A new connection begins, in which the peer has been told nothing. */
void bus__peer_renew_values(struct bus_mailbox *mbox);

/* The peer is to be sent the values of all topics that it wants: what it was not sent in this connection. */
void bus__peer_tell_values(struct bus_mailbox *mbox);

/* Whether the peer wants the topic of a handle. [bus lock] */
bool bus__peer_wants(const struct bus_mailbox *mbox, const struct bus_pub *pub);

/* Whether it has not been sent all of them yet. */
bool bus__peer_tells_values(const struct bus_mailbox *mbox);

/* Whether it has lost messages since that was said, of which some may have been values. */
bool bus__peer_owes_values(const struct bus_mailbox *mbox);

/* Takes the next value, flagged BUS_MSG_KEPT; *ret_out is good until the next take or bus__peer_release_value(). VALUES_NONE:
 * there is none, or messages in the mailbox go first, and their drainer asks again. VALUES_LATER: it has looked at many
 * topics, and there may be more: ask again when others have had their turn. [bus lock] */
enum bus__values { BUS__VALUES_NONE, BUS__VALUES_ONE, BUS__VALUES_LATER };
enum bus__values bus__peer_take_value(struct bus_mailbox *mbox, struct bus__out *ret_out);
void bus__peer_release_value(struct bus_mailbox *mbox);

/* --- incoming ---------------------------------------------------------------------------------------- */

/* The most topics that exist because one peer named them. A topic is forgotten when the peer needs it no more, unless
 * someone here uses it or it has kept a value; such ones stay on the account, also when the peer has left. */
#define BUS__PEER_TOPICS 10000

/* A topic that a peer named, and the handle to publish on it. */
struct bus__named {
	struct bus_pub *pub;
	struct topic *topic;
	struct bus__account *account;
};

/* Names a topic on the account of a peer: 0, what bus_pub_open() answers, or BUS_E_LIMIT when the peer has made
 * as many as it may. [bus lock] */
int bus__peer_name(
    struct bus *bus, struct bus__account *account, const char *topic, struct bus__named *ret_named);

/* The peer needs it no more. Zeroes it, and does nothing on one that is. [bus lock] */
void bus__peer_unname(struct bus *bus, struct bus__named *named);

/* Publishes what a peer sent: to all mailboxes except those of peers; with `passed`, to those of other peers as well that are fed
 * with it (struct far), where it travels with *passed. One with BUS_MSG_RETAIN or BUS_MSG_KEPT is
 * a value, and bus__offer_judge() says what becomes of it and what the caller is to do then; one with
 * BUS_MSG_KEPT that is not newer is not delivered, nor is one that is here already.
 * pub->topic is used, msg->topic ignored.
 * With reply_to it is a question, and replies go to asker, the mailbox of that peer. BUS_E_LIMIT: its account has no room for
 * what would be kept.
 * Threads: one at a time per pub. May create the topic, so no lock of links. [bus lock] */
int bus__publish_from_peer(struct bus_pub *pub, const struct bus_msg *msg, struct bus__offer *offer,
    const struct bus__passed *passed, struct bus_mailbox *asker);

/* A run: messages of one topic and type with neither flags nor headers, which a peer sent one behind the other. */
enum {
	BUS__RUN = 32,          /* messages */
	BUS__RUN_BYTES = 8192,  /* of payload */
	BUS__RUN_PAYLOAD = 1024 /* the longest */
};

/* Publishes the first messages of a run, all in one step for each mailbox that has room for them. Each mailbox gets
 * and counts what it would of bus__publish_from_peer() for each. Returns how many those are. 0: the first is to be published alone.
 * Threads: one at a time per pub. Callbacks: those of BUS_DRAIN_PUBLISHER. [bus lock] */
size_t bus__publish_run_from_peer(
    struct bus_pub *pub, uint8_t type, const struct bus_slice *items, size_t count);

/* Tells a peer that nobody here hears its question of that number. [bus lock] */
void bus__decline_peer(struct bus_mailbox *asker, uint64_t number);

/* A reply of a peer to the question of that number, which is over if it is not known. nobody: the peer has nobody
 * who would. 0, BUS_E_NOMEM, BUS_E_FULL. [bus lock] */
int bus__reply_from_peer(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool nobody);

#endif
