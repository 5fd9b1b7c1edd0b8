/* core/keep.h: the messages that a topic keeps for subscriptions to come.
 *
 * A topic keeps the last value that was published retained, or, when a filter of bus_keep() matches it, its last
 * messages, retained or not. A publish that is kept holds the keep lock of the topic over "store, then claim in all
 * mailboxes", a subscription over "put in what is kept, then be seen by publishers": so it gets each message once,
 * kept or live, and in order. `keeps` leads publishers that way, and so does `plain` of a snapshot, which is false
 * for such a topic. */
#ifndef BUS_CORE_KEEP_H
#define BUS_CORE_KEEP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/topic.h"

/* A filter of bus_keep(). */
struct keep_filter {
	struct keep_filter *next;
	uint64_t most_bytes;
	uint32_t most;
	char filter[];
};

/* A message that is kept. */
struct kept {
	struct kept *next; /* the one after it */
	struct bus__block *block;
	int64_t time_ns;
	int64_t expires_ns;   /* monotonic; 0: never */
	uint32_t headers_len; /* at the end of the block */
	uint8_t type;
	bool retained;
	struct bus__account *account; /* of the peer that it came from, counted; or NULL */
};

/* What a topic keeps, under its keep lock. It stays when it is empty, for its time: an older value that a peer still
 * has does not come back. */
struct history {
	struct kept *first, *last;
	uint64_t bytes, most_bytes;
	uint32_t count, most;
	uint32_t mortal;     /* of count, those that expire */
	int64_t retained_ns; /* time of the newest retained value */
};

/* Whether the topic keeps all messages, and not only retained ones. */
static inline bool
bus__keeps(const struct topic *topic)
{
	return atomic_load_explicit(&topic->keeps, memory_order_relaxed);
}

/* Makes a message to be kept of an item, with a block of its own. NULL: out of memory. */
struct kept *bus__kept_new(const struct ring_item *item);

/* Puts a message on the account of the peer that it came from, NULL: of none, if there is room for it beside those that it will
 * replace. Keep lock. 0 or BUS_E_LIMIT. */
int bus__kept_charge(const struct topic *topic, struct kept *kept, struct bus__account *account);

/* Frees a list; NULL is fine. No lock held: it may be long. */
void bus__kept_free(struct kept *list);

/* Makes the topic's history if there is none. Keep lock. 0 or BUS_E_NOMEM. */
int bus__history_make(struct topic *topic);

/* Stores a message, unless it is retained and not newer than the last one, and gives a retained item its time if it
 * has none. Takes over `kept`; what is to be freed goes to *ret_old. false: it is not stored. Keep lock. */
bool bus__history_store(
    struct topic *topic, struct ring_item *item, struct kept *kept, struct kept **ret_old);

/* Whether nothing is kept that has not expired. Keep lock. */
bool bus__history_empty(struct topic *topic);

/* The same, and there is no time of a retained value to remember. */
bool bus__history_blank(struct topic *topic);

/* Puts what is kept in for one subscription alone, of a peer only what was retained. Keep lock and bus lock. 0, or
 * BUS_E_FULL when its mailbox refuses and has no room for all of it. */
int bus__history_put(
    struct bus *bus, struct topic *topic, struct route *route, struct bus_sub *sub);

/* Frees the history of a topic that nobody uses any more. */
void bus__history_free(struct topic *topic);

/* Lets a topic that nobody knows yet keep what filters say. Bus lock. 0 or BUS_E_NOMEM. */
int bus__keep_new_topic(struct bus *bus, struct topic *topic);

void bus__keep_filters_free(struct bus *bus);

#endif
