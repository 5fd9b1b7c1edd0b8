/* bus/keep.h: the messages that a topic keeps for subscriptions to come.
 *
 * A topic keeps the last value that was published retained, or, when a filter of bus_keep() matches it, its last
 * messages, retained or not. A publish that is kept holds the keep lock of the topic over "store, then claim in all
 * mailboxes", a subscription over "put in what is kept, then be seen by publishers": so it gets each message once,
 * kept or live, and in order. `keeps` leads publishers that way, and so does `plain` of a snapshot, which is false
 * for such a topic. */
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
	int64_t time_ns;      /* for people */
	int64_t expires_ns;   /* monotonic; 0: never */
	uint32_t headers_len; /* at the end of the block */
	uint8_t type;
	bool retained;
	struct bus__account *account; /* of the peer that it came from, counted; or NULL */
	struct bus__version version;  /* if it is retained */
};

/* What a topic keeps, under its keep lock. The topic's value is the newest retained one, `version` the version of that,
 * or of its deletion: a value that was deleted here does not come back from a peer that has not heard of it, for as long
 * as the mark of the deletion lives. A value that expired counts as deleted. */
struct history {
	struct kept *first, *last;
	struct kept *value; /* in the list; NULL: there is none */
	uint64_t bytes, most_bytes;
	uint32_t count, most;
	uint32_t mortal; /* of count, those that expire */
	bool deleted;    /* the last change of the value was its end */
	struct bus__version version;
	uint64_t theirs; /* its number where it was made, if that was elsewhere; 0: unknown */
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
	/* The most changes of a topic that was forgotten: one that is unknown counts on from there, so that its next value is
	 * newer than any that the bus has forgotten. */
	_Atomic uint64_t floor;
	_Atomic uint64_t changes; /* of all values: numbers them */
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

/* Makes a message to be kept of an item, with a block of its own. NULL: out of memory. */
struct kept *bus__kept_new(const struct ring_item *item);

/* Puts a message on the account of the peer that it came from, NULL: of none, if there is room for it beside those that it will
 * replace. Keep lock. 0 or BUS_E_LIMIT. */
int bus__kept_charge(const struct topic *topic, struct kept *kept, struct bus__account *account);

/* Frees a list; NULL is fine. No lock held: it may be long. */
void bus__kept_free(struct kept *list);

/* Makes the topic's history if there is none. Keep lock. 0 or BUS_E_NOMEM. */
int bus__history_make(struct topic *topic);

/* What becomes of a message that may be kept. KEEP_STORED: it is kept, and news. KEEP_SILENT: it is kept, but no news: the
 * end of a value that was not known here. KEEP_OLDER: it is not kept, since the topic has a newer value. KEEP_REPEATED: nor
 * is it news, since that is the topic's value. */
enum keep_answer { KEEP_STORED, KEEP_SILENT, KEEP_OLDER, KEEP_REPEATED };

/* Stores a message, if it is not a retained one of a peer (offer, else NULL) that is not newer than what is there, and gives a
 * retained item its time. Takes over `kept`; what is to be freed goes to *ret_old. Keep lock. */
enum keep_answer bus__history_store(struct bus *bus, struct topic *topic, struct ring_item *item,
    struct bus__offer *offer, struct kept *kept, struct kept **ret_old);

/* Whether nothing is kept that has not expired. Keep lock. */
bool bus__history_empty(struct bus *bus, struct topic *topic);

/* The same, and there is no mark of a deletion that lives. What the topic's value was is forgotten then. */
bool bus__history_blank(struct bus *bus, struct topic *topic);

/* Puts what is kept in for one subscription alone. Keep lock and bus lock. 0, or BUS_E_FULL when its mailbox refuses and
 * has no room for all of it. */
int bus__history_put(
    struct bus *bus, struct topic *topic, struct route *route, struct bus_sub *sub);

/* What a peer is sent of a topic. */
struct bus__value {
	struct bus__block *block; /* a reference; NULL: the mark of a deletion */
	int64_t time_ns, expires_ns;
	uint32_t headers_len;
	uint8_t type;
	bool newest;    /* the topic has none behind it */
	bool is_before; /* it was changed before the peer's connection began */
	struct bus__version version;
};

/* Gives the first retained message that is newer than `after` (last: the last one alone), or the mark of a deletion. false: there
 * is none. Keep lock. */
bool bus__history_next(struct bus *bus, struct topic *topic, const struct bus__version *after,
    bool last, struct bus__value *ret_value);

/* Frees the history of a topic that nobody uses any more. */
void bus__history_free(struct topic *topic);

/* Lets a topic that nobody knows yet keep what filters say. Bus lock. 0 or BUS_E_NOMEM. */
int bus__keep_new_topic(struct bus *bus, struct topic *topic);

void bus__keep_filters_free(struct bus *bus);

#endif
