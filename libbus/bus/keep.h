/* bus/keep.h: the messages that a topic keeps for future subscriptions.
 *
 * A topic keeps the last value that was published retained, or, when a filter of bus_keep() matches it, its last messages,
 * retained or not. A publish that is kept holds the keep lock of the topic over "store, then claim in all mailboxes", a
 * subscription over "put in the kept messages, then become visible to publishers". So a subscription gets each message once,
 * kept or live, and in order. `keeps` leads publishers that way, and so does `plain` of a snapshot, which is false for such a
 * topic. */
#ifndef BUS_BUS_KEEP_H
#define BUS_BUS_KEEP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/offer.h"
#include "bus/topic.h"

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
	int64_t time_ns;      /* shown to people */
	int64_t expires_ns;   /* monotonic; 0: never */
	uint32_t headers_len; /* at the end of the block */
	uint8_t type;
	bool retained;
	struct bus__account *account; /* of the peer that sent it, counted; or NULL */
	struct bus__version version;  /* if it is retained */
};

/* A topic's kept messages, under its keep lock. The topic's value is the newest retained one, and `version` is its version or
 * that of its deletion. While the mark of a deletion lives, a peer that missed the deletion cannot bring the value back. An
 * expired value counts as deleted. */
struct history {
	struct kept *first, *last;
	struct kept *value; /* in the list; NULL: there is none */
	uint64_t bytes, most_bytes;
	uint32_t count, most;
	uint32_t mortal; /* of count, those that expire */
	bool deleted;    /* the last change of the value was a deletion */
	struct bus__version version;
	uint64_t theirs; /* its number where it was made, if elsewhere; 0: unknown */
	uint64_t change; /* the bus's number of that change; 0: there was none */
	/* Its place among the marks of the bus; under the lock of those. */
	struct history *older, *newer;
	int64_t marked_ns; /* monotonic; 0: it has no mark */
};

/* The marks of deletions of a private bus, in their order. */
struct marks {
	pthread_mutex_t lock; /* inside keep locks */
	struct history *oldest, *newest;
	uint32_t count, most;
	/* The most changes of any forgotten topic. An unknown topic counts on from here, so that its next value is newer than
	 * any that the bus has forgotten. */
	_Atomic uint64_t floor;
	_Atomic uint64_t changes; /* of all values: the number of the last one */
};

int bus__marks_init(struct marks *marks, uint32_t max_topics);
void bus__marks_fini(struct marks *marks);

/* Ends the oldest mark, so that its topic may be forgotten. false: there is none. */
bool bus__marks_end_oldest(struct marks *marks);

/* Whether the topic keeps all messages, and not only retained ones. */
static inline bool
bus__keeps(const struct topic *topic)
{
	return atomic_load_explicit(&topic->keeps, memory_order_relaxed);
}

/* Makes a kept message of an item, with its own block. NULL: out of memory. */
struct kept *bus__kept_new(const struct ring_item *item);

/* Charges a message to the account of the peer that sent it (NULL: to none), if there is room beside the messages that it will
 * replace. Keep lock. 0 or BUS_E_LIMIT. */
int bus__kept_charge(const struct topic *topic, struct kept *kept, struct bus__account *account);

/* Frees a list; NULL is fine. No lock held: it may be long. */
void bus__kept_free(struct kept *list);

/* Makes the topic's history if there is none. Keep lock. 0 or BUS_E_NOMEM. */
int bus__history_make(struct topic *topic);

/* The result of storing a message. KEEP_STORED: kept and delivered. KEEP_SILENT: kept but not delivered, the end of a value
 * that was unknown here. KEEP_OLDER: not kept, since the topic has a newer value. KEEP_REPEATED: neither kept nor delivered,
 * since it is the topic's value already. */
enum keep_answer { KEEP_STORED, KEEP_SILENT, KEEP_OLDER, KEEP_REPEATED };

/* Stores a message, unless it is a peer's retained one (offer, else NULL) and not newer than the topic's value, and gives a
 * retained item its time. Takes over `kept`. The caller frees *ret_old. Keep lock. */
enum keep_answer bus__history_store(struct bus *bus, struct topic *topic, struct ring_item *item,
    struct bus__offer *offer, struct kept *kept, struct kept **ret_old);

/* Whether the topic keeps no message that has not expired. Keep lock. */
bool bus__history_empty(struct bus *bus, struct topic *topic);

/* The same, and no mark of a deletion lives. Forgets the version of the topic's value then. */
bool bus__history_blank(struct bus *bus, struct topic *topic);

/* Puts the kept messages in for one subscription alone. Keep lock and bus lock. 0, or BUS_E_FULL when its mailbox refuses and
 * has no room for all of them. */
int bus__history_put(
    struct bus *bus, struct topic *topic, struct route *route, struct bus_sub *sub);

/* A value of a topic, as a peer gets it. */
struct bus__value {
	struct bus__block *block; /* a reference; NULL: the mark of a deletion */
	int64_t time_ns, expires_ns;
	uint32_t headers_len;
	uint8_t type;
	bool newest;    /* the topic has none behind it */
	bool is_before; /* its change is older than the peer's connection */
	struct bus__version version;
};

/* Gives the first retained message that is newer than `after` (last: the last one alone), or the mark of a deletion. false: there
 * is none. Keep lock. */
bool bus__history_next(struct bus *bus, struct topic *topic, const struct bus__version *after,
    bool last, struct bus__value *ret_value);

/* Frees the history of an unused topic. */
void bus__history_free(struct topic *topic);

/* Gives a topic that is not published yet the limits of the filters. Bus lock. 0 or BUS_E_NOMEM. */
int bus__keep_new_topic(struct bus *bus, struct topic *topic);

void bus__keep_filters_free(struct bus *bus);

#endif
