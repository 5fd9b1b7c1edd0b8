/* bus/kind.h: what differs between a private bus and a named one. One table for each kind (private.c, named/kind.c);
 * everything else asks the table of its bus, not which kind that is.
 *
 * "Private" means: publishers put messages into the mailboxes of their own process. "Named": they append them to a log that
 * all processes of that name share, and mailboxes read there. */
#ifndef BUS_BUS_KIND_H
#define BUS_BUS_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

struct bus;
struct bus__offer;
struct bus__passed;
struct bus_sub;
struct explaining;
struct log_item;
struct log_topic;
struct page;
struct ring_item;
struct route;
struct source;
struct topic;
struct walker;

struct kind {
	const struct source *source; /* of its mailboxes, but for receivers of a group */
	const struct walker *walker; /* how a peer is told the values: walk.h */

	/* Begins what only a bus of this kind has. name: of bus_open(), NULL of a private one; cfg may be NULL. What bus_open()
	 * answers. */
	int (*open)(struct bus *bus, const char *name, const struct bus_config *cfg);

	/* --- what it can ------------------------------------------------------------------------------------------ */

	bool has_members;  /* other processes: roles, bus_member(), bus_log_stats() */
	bool has_history;  /* bus_keep() */
	bool knows_takers; /* how many mailboxes were given a question */
	bool hears_all;    /* links are to bring every topic, whatever is subscribed to here */

	/* Whether its mailboxes can be as the configuration says: 0, or BUS_E_NOTSUP with its sentence. */
	int (*check_mailbox)(const struct bus_mailbox_config *cfg);

	/* --- subscriptions: bus lock ---------------------------------------------------------------------------------- */

	/* A subscription begins, before anybody can find it. Then its topics are joined, and joined() follows, also when that
	 * fails. 0, BUS_E_NOMEM, BUS_E_LIMIT, BUS_E_DAMAGED: nothing has begun, and joined() does not follow. */
	int (*begin_sub)(struct bus_mailbox *m, struct bus_sub *sub, const char *filter);
	void (*joined)(struct bus_mailbox *m);

	/* It is there, or it is about to go: what other processes know of it. */
	void (*list_sub)(struct bus *bus, struct bus_sub *sub, const char *filter);
	void (*unlist_sub)(struct bus *bus, struct bus_sub *sub);

	/* It joins a topic, whose keep lock is held. The position from which on messages are meant for it; then the values
	 * that are kept are put in for it: 0, or BUS_E_FULL of a mailbox that refuses. */
	uint64_t (*meant_from)(struct topic *topic, struct bus_sub *sub);
	int (*put_kept)(
	    struct bus *bus, struct topic *topic, struct route *route, struct bus_sub *sub);

	/* Nothing lists the route, or knows the topic, any more, and soon it is freed. */
	void (*route_ends)(struct route *route);
	void (*topic_ends)(struct bus *bus);

	/* --- questions -------------------------------------------------------------------------------------------------- */

	/* The number of a question, made of one that cannot be guessed. Inbox lock. */
	uint64_t (*number)(const struct bus *bus, uint64_t secret);

	/* The mailbox is to hear the replies to a question that is asked from it. Bus lock. 0, BUS_E_NOMEM, BUS_E_LIMIT. */
	int (*begin_replies)(struct bus_mailbox *m);

	/* Replies to the question of that number. */
	int (*reply)(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool from_peer);

	/* The inbox has closed: lets those go who wait for a reply elsewhere. */
	void (*call_askers)(struct bus *bus);

	/* --- publishing on a bus that has a log; a private bus has none of these ----------------------------------------- */

	/* A message, on a topic by its name, which is checked, or by a handle's. As bus_publish(). */
	int (*publish)(struct bus *bus, const char *topic, const struct ring_item *item);
	int (*send)(struct bus *bus, struct log_topic *topic, const struct ring_item *item);

	/* Payloads of records that differ in nothing else: one; one in record->parts; or many, of which it says how many are in. */
	int (*send_one)(
	    struct bus *bus, const struct log_item *record, const void *data, size_t len);
	int (*send_parts)(struct bus *bus, const struct log_item *record, size_t len);
	int (*send_many)(struct bus *bus, const struct log_item *record,
	    const struct bus_slice *items, size_t count);

	/* What a peer sent, which links do not take away unless they pass it on (bus/peer.h). Of a retained one
	 * bus__offer_judge() says what becomes of it. */
	int (*relay)(struct bus *bus, struct log_topic *topic, struct ring_item *item,
	    struct bus__offer *offer, const struct bus__passed *passed);

	/* The same for a run (bus/peer.h): how many of the first are in, or BUS_E_* if none is. */
	int (*relay_run)(struct bus *bus, struct log_topic *topic, uint8_t type,
	    const struct bus_slice *items, size_t count);

	/* Publishes a question and waits for the first reply; `done` is set when the bus closes. */
	int (*ask)(struct bus *bus, const struct bus_msg *question, uint64_t number,
	    int64_t deadline_ns, _Atomic uint32_t *done, const struct bus_msg **ret_reply);

	/* --- links -------------------------------------------------------------------------------------------------------- */

	/* Tells of messages that a link lost on their way here: gap.h. */
	int (*tell_gap)(struct bus *bus, uint64_t count, bool at_least);

	/* One of its processes at a time listens, or dials: 1, and 0 if another one does. */
	int (*take_link_role)(struct bus *bus, const char *url, uint64_t *ret_role);
	void (*end_link_role)(struct bus *bus, uint64_t role);

	/* Whether bus_flush() waits until a peer's mailbox has been handed everything: others are filled by publishers. */
	bool (*waits_for_peer)(const struct bus_mailbox *m);

	/* --- bus_explain(): explain.h ----------------------------------------------------------------------------------- */

	/* Who gets it in other processes; no lock held. What is known of the topic; bus lock. What to do next; no lock held. */
	void (*explain_others)(struct explaining *e, struct bus *bus);
	void (*explain_topic)(struct explaining *e, struct bus *bus, size_t len);
	void (*explain_next)(struct explaining *e, struct bus *bus);

	/* --- peers of links: explain_peers.c ---------------------------------------------------------------------------- */

	/* Publishes msgpack on a topic of the bus's own: to all who hear it, in other processes too. No lock held. */
	int (*announce)(struct bus *bus, const char *topic, const void *data, size_t len);

	/* Keeps what the links of this process say of their peers, for the other processes; adds what those keep. NULL: there are
	 * none. No lock held. */
	int (*keep_peers)(struct bus *bus, const char *text, size_t len);
	void (*explain_peers)(struct bus *bus, struct page *page);

	/* --- failures and the end ----------------------------------------------------------------------------------------- */

	/* The sentence for a failed publish, where it is another one than on any bus: returns err. 0: it is not. */
	int (*fail)(const struct bus *bus, int err, const char *topic, size_t len);

	/* BUS_E_DAMAGED: nothing more can come. Otherwise 0. */
	int (*error)(const struct bus *bus);

	/* The bus has closed: gives back what other processes wait for, until the deadline. */
	void (*leave)(struct bus *bus, int64_t deadline_ns);

	/* The last reference has gone. */
	void (*fini)(struct bus *bus);
};

extern const struct kind bus__private_kind, bus__named_kind;

#endif
