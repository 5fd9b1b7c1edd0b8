/* log/append.h: how a record is written, and the turn that an append takes. For the files of the log that append. */
#ifndef BUS_LOG_APPEND_H
#define BUS_LOG_APPEND_H

#include <string.h>

#include "base/parts.h"
#include "log/log.h"
#include "log/turn.h"

/* Takes the turn if *writer is NULL: *writer is the membership to append with. Notes the time limit of the append. */
int bus__log_begin_append(struct log *log, const struct log_item *item, struct log **writer);

/* Ends an append with err, which it returns. Damage is known to the whole process from then on. */
int bus__log_end_append(struct log *writer, int err);

/* Appends a retained record without a version. The same answers as bus__log_append(). */
int bus__log_append_kept(struct log *writer, const struct log_item *item,
    const struct bus_slice *payload, uint64_t *ret_sequence);

/* --- records ------------------------------------------------------------------------------------------------------ */

/* Whether the next record of the item names its topic: this process knows of no record in the tail's segment that does. */
static inline bool
bus__log_has_to_name(const struct log *log, const struct log_item *item)
{
	return item->topic != NULL &&
	       atomic_load_explicit(&item->topic->named_at, memory_order_relaxed) - log->begin >=
		   log->segment_bytes;
}

static inline bool
bus__log_is_too_big(
    const struct log *log, const struct log_item *item, const struct bus_slice *payload)
{
	return payload->len + item->headers_len > bus__log_most(log);
}

static inline uint8_t *
bus__log_write_words(uint8_t *at, const struct log_item *item)
{
	const uint64_t words[] = {(uint64_t)item->expires_ns, item->headers_len, item->reply};
	static const uint16_t announced[] = {LOG_EXPIRES, LOG_HEADERS, LOG_REPLY};

	for (int i = 0; i < 3; i++)
		if (item->flags & announced[i]) {
			memcpy(at, &words[i], sizeof words[i]);
			at += sizeof words[i];
		}
	if (item->flags & LOG_PASSED) {
		memcpy(at, item->passed, sizeof *item->passed);
		at += sizeof *item->passed;
	}
	return at;
}

static inline uint8_t *
bus__log_write_word(uint8_t *at, uint64_t word)
{
	memcpy(at, &word, sizeof word);
	return at + sizeof word;
}

/* Writes the head of a record, last: it shows that there is a record. */
static inline void
bus__log_write_head(
    uint8_t *to, uint32_t topic, const struct log_item *item, uint64_t word, int64_t time_ns)
{
	struct log_record *record = (struct log_record *)to;

	/* Readers wait for the tail to move. Atomic, since a reader that was lapped may look at it. */
	atomic_store_explicit(&record->word, word, memory_order_relaxed);
	record->topic = topic;
	record->origin = item->origin;
	record->time_ns = time_ns;
}

/* Writes the parts behind the words, and then the head. Returns its first word. */
static inline uint64_t
bus__log_write_rest(uint8_t *to, uint8_t *at, uint32_t topic, const struct log_item *item,
    const struct bus_slice *payload, uint64_t bytes, int64_t time_ns)
{
	uint64_t word;

	if (item->parts != NULL)
		bus__parts_join(at, item->parts, item->part_count);
	else if (payload->len > 0)
		memcpy(at, payload->data, payload->len);
	at += payload->len;
	if (item->headers_len > 0)
		memcpy(at, item->headers, item->headers_len);
	at += item->headers_len;
	if (item->flags & LOG_NAMED) {
		memcpy(at, item->topic->name, item->topic->len);
		at += item->topic->len;
	}
	word = record_word((uint32_t)bytes, item->flags, item->type, (unsigned)(to + bytes - at));
	bus__log_write_head(to, topic, item, word, time_ns);
	return word;
}

#endif
