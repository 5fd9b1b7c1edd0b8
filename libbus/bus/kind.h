/* bus/kind.h: the differences between a private bus and a named one. Each kind has one table (private.c, named/kind.c);
 * all other code calls the table of its bus and does not ask for the kind.
 *
 * On a private bus publishers put messages into the mailboxes of their own process. On a named bus they append them to a log that
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
	const struct source *source; /* of its mailboxes, except receivers of a group */
	const struct walker *walker; /* sends values to peers: walk.h */

	/* Sets up the state of this kind. name: of bus_open(), NULL for a private bus; cfg may be NULL. Answers as bus_open()
	 * does. */
	int (*open)(struct bus *bus, const char *name, const struct bus_config *cfg);

	/* --- what the kind supports ------------------------------------------------------------------------------------ */

	bool has_members;  /* other processes: roles, bus_member(), bus_log_stats() */
	bool has_history;  /* bus_keep() */
	bool knows_takers; /* a publish counts the mailboxes that got a question */
	bool hears_all;    /* links bring every topic, whatever the subscriptions here */

	/* Whether a mailbox can have this configuration: 0, or BUS_E_NOTSUP with its sentence. */
	int (*check_mailbox)(const struct bus_mailbox_config *cfg);

	/* --- subscriptions: bus lock ---------------------------------------------------------------------------------- */

	/* Begins a subscription before any other thread can find it. Then it joins its topics, and joined() follows, also when that
	 * fails. 0; or BUS_E_NOMEM, BUS_E_LIMIT, BUS_E_DAMAGED: it has not begun, and joined() does not follow. */
	int (*begin_sub)(struct bus_mailbox *m, struct bus_sub *sub, const char *filter);
	void (*joined)(struct bus_mailbox *m);

	/* Updates what other processes know of a subscription that has begun or is about to end. */
	void (*list_sub)(struct bus *bus, struct bus_sub *sub, const char *filter);
	void (*unlist_sub)(struct bus *bus, struct bus_sub *sub);

	/* Called as the subscription joins a topic, whose keep lock is held. The first position from which messages are meant
	 * for it; then puts in the kept values for it: 0, or BUS_E_FULL of a mailbox that refuses. */
	uint64_t (*meant_from)(struct topic *topic, struct bus_sub *sub);
	int (*put_kept)(
	    struct bus *bus, struct topic *topic, struct route *route, struct bus_sub *sub);

	/* The route is unlisted or its topic forgotten, and it will be freed soon. */
	void (*route_ends)(struct route *route);
	void (*topic_ends)(struct bus *bus);

	/* --- questions -------------------------------------------------------------------------------------------------- */

	/* The number of a question, made from an unguessable one. Inbox lock. */
	uint64_t (*number)(const struct bus *bus, uint64_t secret);

	/* Prepares the mailbox for the replies to a question asked from it. Bus lock. 0, BUS_E_NOMEM, BUS_E_LIMIT. */
	int (*begin_replies)(struct bus_mailbox *m);

	/* Replies to the question of that number. */
	int (*reply)(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool from_peer);

	/* The inbox has closed: wakes threads that wait for a reply elsewhere. */
	void (*call_askers)(struct bus *bus);

	/* --- publishing on a bus that has a log; a private bus has none of these ----------------------------------------- */

	/* Publishes a message, on a topic by name (which it checks) or by handle. Answers as bus_publish() does. */
	int (*publish)(struct bus *bus, const char *topic, const struct ring_item *item);
	int (*send)(struct bus *bus, struct log_topic *topic, const struct ring_item *item);

	/* Publishes payloads with otherwise equal records: one; one in record->parts; or many, and returns how many were
	 * published. */
	int (*send_one)(
	    struct bus *bus, const struct log_item *record, const void *data, size_t len);
	int (*send_parts)(struct bus *bus, const struct log_item *record, size_t len);
	int (*send_many)(struct bus *bus, const struct log_item *record,
	    const struct bus_slice *items, size_t count);

	/* Publishes a peer's message, which links do not send unless they pass it on (bus/peer.h). For a retained one,
	 * bus__offer_judge() decides what becomes of it. */
	int (*relay)(struct bus *bus, struct log_topic *topic, struct ring_item *item,
	    struct bus__offer *offer, const struct bus__passed *passed);

	/* The same for a run (bus/peer.h): how many of the first were published, or BUS_E_* if none was. */
	int (*relay_run)(struct bus *bus, struct log_topic *topic, uint8_t type,
	    const struct bus_slice *items, size_t count);

	/* Publishes a question and waits for the first reply; `done` is set when the bus closes. */
	int (*ask)(struct bus *bus, const struct bus_msg *question, uint64_t number,
	    int64_t deadline_ns, _Atomic uint32_t *done, const struct bus_msg **ret_reply);

	/* --- links -------------------------------------------------------------------------------------------------------- */

	/* Reports messages that a link lost on their way here: gap.h. */
	int (*tell_gap)(struct bus *bus, uint64_t count, bool at_least);

	/* The right to listen or dial, which one of its processes holds at a time: 1, or 0 if another process holds it. */
	int (*take_link_role)(struct bus *bus, const char *url, uint64_t *ret_role);
	void (*end_link_role)(struct bus *bus, uint64_t role);

	/* Whether bus_flush() waits until a peer's mailbox has taken everything from the log; otherwise publishers fill it. */
	bool (*waits_for_peer)(const struct bus_mailbox *m);

	/* --- bus_explain(): explain.h ----------------------------------------------------------------------------------- */

	/* Receivers in other processes; no lock held. The state of the topic; bus lock. The next step; no lock held. */
	void (*explain_others)(struct explaining *e, struct bus *bus);
	void (*explain_topic)(struct explaining *e, struct bus *bus, size_t len);
	void (*explain_next)(struct explaining *e, struct bus *bus);

	/* --- peers of links: explain_peers.c ---------------------------------------------------------------------------- */

	/* Publishes msgpack on a $bus/ topic, to all subscribers, in other processes too. No lock held. */
	int (*announce)(struct bus *bus, const char *topic, const void *data, size_t len);

	/* Stores the text on this process's peers for the other processes; adds their texts. NULL: there are no others. No lock
	 * held. */
	int (*keep_peers)(struct bus *bus, const char *text, size_t len);
	void (*explain_peers)(struct bus *bus, struct page *page);

	/* --- failures and the end ----------------------------------------------------------------------------------------- */

	/* The sentence for a failed publish, if this kind has its own: returns err. 0: it has none. */
	int (*fail)(const struct bus *bus, int err, const char *topic, size_t len);

	/* BUS_E_DAMAGED: no more messages can arrive. Otherwise 0. */
	int (*error)(const struct bus *bus);

	/* The bus has closed: gives back resources that other processes wait for, until the deadline. */
	void (*leave)(struct bus *bus, int64_t deadline_ns);

	/* Called when the last reference is gone. */
	void (*fini)(struct bus *bus);
};

extern const struct kind bus__private_kind, bus__named_kind;

#endif
