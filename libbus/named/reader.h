/* named/reader.h: a mailbox of a named bus is a place in its log.
 *
 * Its drainer takes batches straight out of the log, where the messages stay until the batch ends. Of each record it
 * reads the topic's number first; tables map that to a route, or to none in this process (heard.h). The tables are
 * the drainer's cache of the bus. Each change of the mailbox's routes or subscriptions empties them
 * before a route may be freed (behind a batch, as everything else: mailbox.h).
 *
 * The ring of such a mailbox is there for what comes from this process alone: kept values for one subscription, and
 * what the bus tells. It goes first. With BUS_FULL_LATEST everything goes through it.
 *
 * Lock order: the bus lock, `lock`, the inbox's. Under `lock` the drainer chooses records, and a subscription begins:
 * so none is passed over that comes behind the beginning of a subscription. */
#ifndef BUS_NAMED_READER_H
#define BUS_NAMED_READER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <libbus/bus.h>

#include "named/heard.h"
#include "named/members.h"
#include "named/peers.h"
#include "named/watch.h"
#include "log/log.h"
#include "queue/ring.h"

struct bus_mailbox;
struct bus_sub;
struct route;
struct topic;

#define READER_BATCH 64

/* A message of a batch, with what was checked of its record: others can write there. */
struct taken {
	const struct log_record *record;
	uint64_t word, sequence;
	uint64_t reply; /* what the peer calls the question that it answers; 0: no peer's */
	struct route *route;
};

/* A few more are fetched ahead, whatever they are. */
#define READER_AHEAD       4
#define READER_BATCH_BYTES ((READER_BATCH + READER_AHEAD) * sizeof(struct taken))

struct reader {
	struct log *log;
	pthread_mutex_t lock; /* all but the atomics and the batch */
	struct log_cursor cursor;
	_Atomic bool begun; /* it has a cursor. Release, acquire: that is complete */
	int from;           /* enum bus_from; and its value */
	uint64_t value;
	uint64_t parked;  /* the sequence at which it goes on; 0: it is not parked */
	int64_t since_ns; /* records before it are not meant */
	uint64_t
	    *last; /* where the drainer notes what comes last, before it begins; NULL: it has */
	struct bus__heard heard; /* routes, by the numbers and names of their topics */
	uint32_t learned;        /* up to which of `changes` */
	uint64_t ahead,
	    ahead_hash; /* of the name in the record at that position, which comes next */
	uint32_t
	    last_number; /* what was looked up last, in this segment; 0, which no topic has: NULL */
	uint64_t last_segment;
	struct route *last_route;
	_Atomic uint32_t changes; /* of routes and subscriptions; bus lock */
	_Atomic uint64_t
	    passed; /* everything before this position of the log is handled, or not for us */
	_Atomic uint64_t end; /* nothing from here on is; UINT64_MAX: it is open */
	int64_t
	    due_ns; /* a deadline of a request, and where the tail was when that was seen to have passed */
	uint64_t due_tail;
	uint64_t
	    gap; /* lost by links before the next message, as the drainer found; RING_LOST_AT_LEAST */
	struct watched watched;
	struct taken *batch; /* READER_BATCH of them; the drainer's own */
	uint8_t *own;        /* a copy of what a caller has left of it: bus__reader_own() */
	size_t own_cap;
	bool owned;
	unsigned pace; /* pauses before it looks whether there is more */
	uint64_t
	    stuck_at; /* the position of the last time that nothing could be read where something was */
	unsigned stuck_looks; /* so often one behind the other it was there, since */
	int64_t stuck_ns;
};

/* Makes the reader of a mailbox that is new. 0, BUS_E_NOMEM, BUS_E_INVAL, BUS_E_RESET. */
int bus__reader_new(
    struct log *log, const struct bus_mailbox_config *cfg, struct reader **ret_reader);
void bus__reader_free(struct reader *reader);

/* Closes its cursor; it reads nothing any more. The drainer, outside a batch. */
void bus__reader_stop(struct bus_mailbox *mbox);

/* Closes its cursor until bus__reader_start(), which continues at the same place: records gone by then are lost and counted.
 * Undelivered messages of the current batch are read again. Drainer only. */
void bus__reader_park(struct bus_mailbox *mbox);

/* --- the drainer ------------------------------------------------------------------------------------------------ */

/* Chooses the next messages, up to READER_BATCH, while the mailbox says that it holds a batch. What was lost right before
 * them is added to *lost. */
uint32_t bus__reader_take(struct bus_mailbox *mbox, uint64_t *lost);

/* Finds the mailbox's route of the topic, and makes the topic if a subscription here matches it. NULL: none does.
 * Bus lock. 0, or what bus__topic_make() answers. */
int bus__reader_route(
    struct bus_mailbox *mbox, const char *name, size_t len, struct route **ret_route);

/* Reads one of them. false: its parts do not fit together. */
bool bus__reader_view(const struct taken *taken, struct ring_view *ret_view);

/* Whether it has nothing but a payload: its length then. The cursor has checked that the record fits its segment. */
static inline bool
bus__is_plain(const struct taken *taken)
{
	return (taken->word >> 32 & 0xffff) == 0 &&
	       record_bytes(taken->word) >= sizeof(struct log_record) + (taken->word >> 56);
}

static inline uint32_t
bus__plain_len(const struct taken *taken)
{
	return record_bytes(taken->word) - (uint32_t)sizeof(struct log_record) -
	       (uint32_t)(taken->word >> 56);
}

/* Whether it has nothing but a payload, whose length is *ret_len, and its topic's name. The payload is behind a word. */
static inline bool
bus__is_named(const struct taken *taken, uint64_t *ret_len)
{
	uint64_t most = record_bytes(taken->word), name;
	uint64_t rest = sizeof(struct log_record) + sizeof name + (taken->word >> 56);

	if ((taken->word >> 32 & 0xffff) != LOG_NAMED || most < rest)
		return false;
	memcpy(&name, taken->record + 1, sizeof name); /* once: others may write there */
	*ret_len = most - rest - name;
	return name <= most - rest;
}

/* Moves the present records into the ring, where a newer message replaces an older one, unless a thread waits for the drainer. Returns
 * the losses before them. */
uint64_t bus__reader_pump(struct bus_mailbox *mbox);

/* Whether it has read what came before a request's deadline was seen to have passed. The drainer. */
bool bus__reader_has_read_for(struct reader *reader, int64_t due_ns);

/* Copies the rest of a batch, from `at` on, and releases the log's memory, so that a slow caller
 * holds up no writer. Without memory for the copy the batch stays in the log. */
void bus__reader_own(struct reader *reader, uint32_t at, uint32_t count);

/* They are handled. */
void bus__reader_passed(struct reader *reader);

/* Whether the log goes on behind what was taken. */
static inline bool
bus__reader_has_news(const struct reader *reader)
{
	uint64_t at;

	if (!atomic_load_explicit(&reader->begun, memory_order_acquire))
		return false;
	at = bus__log_position(&reader->cursor);
	return at < atomic_load_explicit(&reader->end, memory_order_relaxed) &&
	       at != bus__log_tail(reader->log);
}

/* Lets go of the memory that it reads in, before it rests. */
void bus__reader_rest(struct reader *reader);

/* Makes a mailbox quiet before a program polls it. false: a message waits, or may wait. Bus lock. */
bool bus__reader_is_quiet(struct bus_mailbox *mbox);

/* For a peer whose ring has gone to sleep: it is woken when the log goes on, or has. */
void bus__reader_peer_rests(struct bus_mailbox *mbox);

/* Whether everything before this position of the log is handled. No lock held. */
bool bus__reader_has_passed(struct bus_mailbox *mbox, uint64_t position);

/* Whether everything is handled that it is to handle before it ends. No lock held. */
bool bus__reader_is_through(struct bus_mailbox *mbox);

/* The position before which everything is handled. */
uint64_t bus__reader_reached(struct bus_mailbox *mbox);

/* The reader ends behind the last present record. */
void bus__reader_set_end(struct reader *reader);

/* --- subscriptions: bus lock -------------------------------------------------------------------------------------- */

/* A subscription begins: begin() locks the reader, says from which sequence on the subscription is meant, and makes
 * the topics that have a value. For each topic, find_kept() finds its value, and says from which sequence on it goes on
 * behind that; put_kept() puts the value in for the subscription, which must be there by then. joined() unlocks. begin() may
 * fail, and then nothing is locked: BUS_E_NOMEM, BUS_E_LIMIT (max_topics), BUS_E_DAMAGED. */
int bus__reader_begin(struct bus_mailbox *mbox, struct bus_sub *sub, const char *filter);
uint64_t bus__reader_find_kept(struct topic *topic, struct bus_sub *sub);
void bus__reader_put_kept(struct bus_mailbox *mbox, struct route *route, struct bus_sub *sub);
void bus__reader_joined(struct bus_mailbox *mbox);

/* Routes of the mailbox change: called before one is freed. */
static inline void
bus__reader_changed(struct reader *reader)
{
	atomic_fetch_add_explicit(&reader->changes, 1, memory_order_release);
}

/* The topic of a name, made if the mailbox wants it (NULL: if any here does); otherwise, or if that is no name, *ret_topic is
 * NULL. Bus lock. 0, BUS_E_NOMEM or BUS_E_LIMIT. */
int bus__reader_topic(struct bus *bus, const struct bus_mailbox *mbox, const char *name, size_t len,
    struct topic **ret_topic);

/* A question is to be asked from the mailbox, and its replies to be read. The same errors. */
int bus__reader_start(struct bus_mailbox *mbox);

/* Whether messages on the topic come through the log: all but what a bus tells of itself, unless it is of its members and their
 * links' peers. */
static inline bool
bus__is_logged(const char *topic)
{
	return topic[0] != '$' || strncmp(topic, MEMBERS_PREFIX, sizeof MEMBERS_PREFIX - 1) == 0 ||
	       strncmp(topic, PEERS_PREFIX, sizeof PEERS_PREFIX - 1) == 0 ||
	       strcmp(topic, REFUSED_TOPIC) == 0;
}

#endif
