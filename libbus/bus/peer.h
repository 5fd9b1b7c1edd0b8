/* bus/peer.h: the core as links see it. A link is a mailbox whose drainer sends to the peer, and
 * a publisher whose messages do not go back to links.
 *
 * Lock order: the bus lock (held around every hook and watcher call) precedes any lock of links.
 * So the link layer holds none of its locks when it calls a function of this page marked
 * [bus lock]; it may call the others under a lock. */
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

/* The calls from the core up into the link layer. Set once, by the first listen or dial. */
struct bus__link_hooks {
	/* The set of filters that local subscriptions want has changed: a first subscription wants the filter, or the last one
	 * ended. Called under the bus lock: queue the change, do not call back. */
	void (*filter_changed)(void *links, const char *filter, bool wanted);
	/* Returns when all peer mailboxes are empty and handed to the wire, or at the deadline
	 * (monotonic ns, INT64_MAX: none): 0 or BUS_E_TIMEDOUT. No lock held. */
	int (*flush)(void *links, int64_t deadline_ns);
	/* Ends every link and joins the link thread. If the thread is in a callback at the deadline it is abandoned, with a
	 * reference to the bus, and ends by itself; otherwise no callback into the core runs after the return.
	 * No lock held. Called once, in bus_close(), after publishes are refused. */
	void (*close)(void *links, int64_t deadline_ns);
	/* Adds the connected peers and the refused ones. No lock held. */
	void (*explain)(void *links, struct page *page);
	/* The last reference to the bus is gone: frees links. */
	void (*free)(void *links);
};

/* Gives the bus's link state, made by make() if there is none yet (under the bus lock). 0, BUS_E_CLOSED, BUS_E_FORKED or
 * what make() answers. */
int bus__links(struct bus *bus, const struct bus__link_hooks *hooks,
    int (*make)(struct bus *bus, void **ret_links), void **ret_links);

/* The right to listen or to dial at an address, which one process of a named bus holds at a time: 1: this process holds it,
 * 0: another one does, or BUS_E_NOMEM, BUS_E_LIMIT, BUS_E_SYS. On a private bus always 1. */
int bus__peer_role(struct bus *bus, const char *url, uint64_t *ret_role);
void bus__peer_role_end(struct bus *bus, uint64_t role);

/* Calls fn for every filter that local subscriptions want now; on a named bus for #, since a later subscription may ask its
 * log for all earlier messages. [bus lock] */
void bus__wanted_filters(struct bus *bus, void (*fn)(void *arg, const char *filter), void *arg);

/* Whether a callback runs on a publisher's thread, which may be the link thread. No lock held. */
bool bus__calls_on_publisher(struct bus *bus);

/* Publishes the count-th refusal of a peer on $bus/refused. No lock held. */
void bus__notice_refused(struct bus *bus, const struct bus__refused *refused, uint64_t count);

/* Whether other processes read this one's text for bus_explain_peers(); and stores that text. No lock held. */
bool bus__has_peers_readers(const struct bus *bus);
void bus__keep_peers(struct bus *bus, const char *text, size_t len);

/* --- outgoing: the peer's mailbox ------------------------------------------------------------------ */

/* Opens the mailbox of a peer (drop_oldest). It starts asleep. wake(arg) runs on the publishing thread
 * that finds it asleep: from then on the caller of wake owns the drainer role, until bus__peer_sleep()
 * answers true. wake must not block, and may run inside bus_publish() of any thread, of callbacks, and
 * inside bus_mailbox_subscribe(). No wake starts once bus__peer_close() has returned.
 * bus_mailbox_subscribe() works on it. Such subscriptions are not "wanted" ones, are charged to the account (BUS_E_LIMIT when
 * it is full), and get no kept values: see bus__peer_tell_values(). [bus lock] */
int bus__peer_open(struct bus *bus, struct bus__account *account, size_t bytes,
    void (*wake)(void *arg), void *arg, struct bus_mailbox **ret_mbox);

/* A message to send: *msg is valid until the next take, the memory behind it until the release. Its headers
 * stand right behind its payload. */
struct bus__out {
	const struct bus_msg *msg;
	uint64_t topic_serial;       /* never used twice in this bus's life */
	bool is_reply;               /* to the peer's question of the number msg->reply_to */
	bool nobody;                 /* and says that there will be no reply */
	bool is_before;              /* a value that was published before the connection began */
	struct bus__version version; /* of a value */
	bool numbered;               /* to a peer that numbers its messages: */
	struct bus__passed passed;
};

/* Where hubs are: names the peer's bus, and which messages it gets. Call before its first subscription. */
void bus__peer_know(struct bus_mailbox *mbox, const struct far *far);

/* Takes the next message. false: the mailbox is empty if nothing is held; otherwise its batch has ended: release, and
 * take again. Drainer only.
 * Takes up to 64 messages before bus__peer_release(), which releases all of them. */
bool bus__peer_take(struct bus_mailbox *mbox, struct bus__out *ret_out);
void bus__peer_release(struct bus_mailbox *mbox);

/* bus__peer_see_run() reads the run of plain messages that follow and returns their number; bus__peer_take_run() takes the
 * first n of them, which count among the 64. 0: bus__peer_take() takes the next message. Drainer only. */
unsigned bus__peer_see_run(struct bus_mailbox *mbox, struct plain_run *ret_run);
void bus__peer_take_run(struct bus_mailbox *mbox, const struct plain_run *run, unsigned n);

/* Call when the mailbox is empty: how many messages were lost since the last one that was taken, which no later message
 * reports. Drainer only. */
uint64_t bus__peer_take_lost(struct bus_mailbox *mbox);

/* Gives the drainer role back. true: asleep, wake() will be called; false: there are messages, continue. */
bool bus__peer_sleep(struct bus_mailbox *mbox);

/* The peer is disconnected: its subscriptions stay, and count the messages that it misses. On a private bus the
 * mailbox is emptied and refuses messages; on a named one it later continues at its place, as far as the log still has it. After
 * the return no wake starts and none is under way, and the peer's questions are over. The caller has the drainer
 * role then, until bus__peer_resume(). The drainer must hold nothing taken. [bus lock] */
void bus__peer_park(struct bus_mailbox *mbox);

/* The peer is connected again: its mailbox accepts messages; the caller still has the drainer role. Messages do not report the loss
 * in between: see bus__peer_lost(). 0; or BUS_E_NOMEM and the errors of bus__reader_start(): it is still parked.
 * [bus lock] */
int bus__peer_resume(struct bus_mailbox *mbox, void (*wake)(void *arg), void *arg);

/* How many messages the mailbox has lost so far, after they were put in or in the log; messages that the peer had unsubscribed
 * from do not count. */
uint64_t bus__peer_lost(const struct bus_mailbox *mbox);

/* How many messages it refused while parked. A concurrent publish may still count after bus__peer_resume(). */
uint64_t bus__peer_lost_parked(const struct bus_mailbox *mbox);

/* Ends the mailbox with its subscriptions; messages inside count as lost. The drainer must hold
 * nothing taken. Waits for publishers that are inside wake(). Returns the final sum of the two calls above.
 * [bus lock] */
uint64_t bus__peer_close(struct bus_mailbox *mbox);

/* --- values: kept ones, and marks of deletions. Link thread, with the drainer role or without it ---------------------------- */

/* A new connection begins: the peer has not been sent any value in it. */
void bus__peer_renew_values(struct bus_mailbox *mbox);

/* Starts sending the peer the values of all topics that it wants, except those that this connection has sent already. */
void bus__peer_tell_values(struct bus_mailbox *mbox);

/* Whether the peer wants the topic of a handle. [bus lock] */
bool bus__peer_wants(const struct bus_mailbox *mbox, const struct bus_pub *pub);

/* Whether that is still going on. */
bool bus__peer_tells_values(const struct bus_mailbox *mbox);

/* Whether messages were lost since that began; some may have been values. */
bool bus__peer_owes_values(const struct bus_mailbox *mbox);

/* Takes the next value, flagged BUS_MSG_KEPT; *ret_out is good until the next take or bus__peer_release_value(). VALUES_NONE:
 * there is none, or messages in the mailbox precede it, and their drainer asks again. VALUES_LATER: the call has looked at many
 * topics, and there may be more: call again after other work. [bus lock] */
enum bus__values { BUS__VALUES_NONE, BUS__VALUES_ONE, BUS__VALUES_LATER };
enum bus__values bus__peer_take_value(struct bus_mailbox *mbox, struct bus__out *ret_out);
void bus__peer_release_value(struct bus_mailbox *mbox);

/* --- incoming ---------------------------------------------------------------------------------------- */

/* The most topics that exist because one peer named them. A topic is forgotten when the peer no longer needs it, unless
 * it is in use here or has kept a value; such topics stay on the account even after the peer has left. */
#define BUS__PEER_TOPICS 10000

/* A topic that a peer named, and the handle to publish on it. */
struct bus__named {
	struct bus_pub *pub;
	struct topic *topic;
	struct bus__account *account;
};

/* Names a topic on the account of a peer: 0, the errors of bus_pub_open(), or BUS_E_LIMIT when the peer has made
 * its most topics. [bus lock] */
int bus__peer_name(
    struct bus *bus, struct bus__account *account, const char *topic, struct bus__named *ret_named);

/* Its name, until bus__peer_unname(). */
const char *bus__peer_topic(const struct bus__named *named);

/* The peer no longer needs the topic. Zeroes it; a zeroed one is ignored. [bus lock] */
void bus__peer_unname(struct bus *bus, struct bus__named *named);

/* Publishes a peer's message to all mailboxes except those of peers; with `passed`, also to those of other peers that are fed
 * with it (struct far), where it travels with *passed. With BUS_MSG_RETAIN or BUS_MSG_KEPT it is
 * a value, and bus__offer_judge() decides what becomes of it and what the caller does next. A value with
 * BUS_MSG_KEPT is delivered only if it is newer than the topic's, or the topic has none.
 * pub->topic is used, msg->topic ignored.
 * With reply_to it is a question, and replies go to asker, the mailbox of that peer. BUS_E_LIMIT: its account has no room for
 * a message that is to be kept.
 * Threads: one at a time per pub. May create the topic, so no lock of links. [bus lock] */
int bus__publish_from_peer(struct bus_pub *pub, const struct bus_msg *msg, struct bus__offer *offer,
    const struct bus__passed *passed, struct bus_mailbox *asker);

/* A run: consecutive messages of a peer with one topic and type, without flags and headers. */
enum {
	BUS__RUN = 32,          /* messages */
	BUS__RUN_BYTES = 8192,  /* of payload */
	BUS__RUN_PAYLOAD = 1024 /* the longest */
};

/* Publishes the first messages of a run, all in one step for each mailbox that has room for them. Each mailbox gets
 * and counts the same as with bus__publish_from_peer() for each. Returns their number. 0: publish the first alone.
 * Threads: one at a time per pub. Callbacks: those of BUS_DRAIN_PUBLISHER. [bus lock] */
size_t bus__publish_run_from_peer(
    struct bus_pub *pub, uint8_t type, const struct bus_slice *items, size_t count);

/* Tells a peer that its question of that number has no responder here. [bus lock] */
void bus__decline_peer(struct bus_mailbox *asker, uint64_t number);

/* A peer's reply to the question of that number, which is over if the number is unknown. nobody: the peer has no
 * responder. 0, BUS_E_NOMEM, BUS_E_FULL. [bus lock] */
int bus__reply_from_peer(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool nobody);

#endif
