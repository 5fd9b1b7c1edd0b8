/* log/topics.c: names of topics.
 *
 * A name stands in a record that this process publishes on the topic first in a segment; its later ones there point to that
 * record. So names come and go with records, and what a process remembers of them is of no use in the next segment:
 * nothing has to be told apart, given back or kept in step.
 *
 * What it remembers is a table, so that it need not name a topic anew for each publish by name. To forget costs some bytes of
 * the log. Threads read and write it without a lock: of each entry the first word is the hash xor the second, so that
 * halves of two entries are none. A hash stands for a name, since it is keyed, and one look in 2^63 would take the wrong one. */
#include "log/log.h"

#include <string.h>

#include <libbus/bus.h>

#include "base/mem.h"
#include "base/siphash.h"

#define MEMORY 16384 /* entries, two of them for each hash; a power of two */

struct log_memory {
	struct {
		_Atomic uint64_t sum, position; /* relaxed: see log_topic.named_at */
	} at[MEMORY];
};

struct log_memory *
bus__log_memory_new(void)
{
	return bus__pages(sizeof(struct log_memory));
}

void
bus__log_memory_free(struct log_memory *memory)
{
	if (memory != NULL)
		bus__pages_free(memory, sizeof *memory);
}

static uint64_t
recall(const struct log_memory *memory, uint64_t hash)
{
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t entry = (uint32_t)(hash % (MEMORY / 2)) * 2 + i;
		uint64_t position =
		    atomic_load_explicit(&memory->at[entry].position, memory_order_relaxed);

		if ((atomic_load_explicit(&memory->at[entry].sum, memory_order_relaxed) ^
			position) == hash)
			return position;
	}
	return 0;
}

void
bus__log_topic(const struct log *log, const char *name, size_t len, struct log_topic *ret_topic)
{
	uint64_t hash = bus__siphash(log->key, name, len);

	ret_topic->name = name;
	ret_topic->len = (uint32_t)len;
	ret_topic->stays = false;
	ret_topic->hash = hash;
	atomic_init(&ret_topic->named_at, log->memory != NULL ? recall(log->memory, hash) : 0);
}

void
bus__log_remember(struct log *log, struct log_topic *topic, uint64_t position)
{
	struct log_memory *memory = log->memory;
	uint32_t entry = (uint32_t)(topic->hash % (MEMORY / 2)) * 2;

	atomic_store_explicit(&topic->named_at, position, memory_order_relaxed);
	if (topic->stays || memory == NULL)
		return;
	/* Its own, or the older one. */
	if ((atomic_load_explicit(&memory->at[entry].sum, memory_order_relaxed) ^
		atomic_load_explicit(&memory->at[entry].position, memory_order_relaxed)) !=
		topic->hash &&
	    atomic_load_explicit(&memory->at[entry].position, memory_order_relaxed) >
		atomic_load_explicit(&memory->at[entry + 1].position, memory_order_relaxed))
		entry++;
	atomic_store_explicit(&memory->at[entry].sum, topic->hash ^ position, memory_order_relaxed);
	atomic_store_explicit(&memory->at[entry].position, position, memory_order_relaxed);
}

/* Where in a record the name is of which its head and its words lie at `head`. 0: it has none. */
static uint64_t
find_name(const struct log_record *head, uint64_t word, uint32_t *ret_len)
{
	unsigned flags = (unsigned)(word >> 32) & 0xffff;
	uint64_t begin = sizeof *head + 8 * (flags == LOG_NAMED ? 1u : record_words(flags)), end,
		 len;

	if (!(flags & LOG_NAMED) || word >> 56 > 7 || record_bytes(word) < begin + (word >> 56))
		return 0;
	/* It is the last of all, and its word the last of those. */
	end = record_bytes(word) - (word >> 56);
	memcpy(&len, (const uint8_t *)head + begin - sizeof len, sizeof len);
	if (len == 0 || len > BUS_LIMIT_TOPIC_BYTES || len > end - begin)
		return 0;
	*ret_len = (uint32_t)len;
	return end - len;
}

const char *
bus__log_own_name(const struct log_record *record, uint64_t word, uint32_t *ret_len)
{
	uint64_t name = find_name(record, word, ret_len);

	return name != 0 ? (const char *)record + name : NULL;
}

/* The name of a record at `at`, which ends before `own`, and that a cursor has not copied with its records. Copies the head first, and
 * looks whether the segment was there, since nothing may be read of a copy before that. */
static __attribute__((noinline)) const char *
copy_name(struct log_cursor *c, uint64_t at, uint64_t own, uint32_t *ret_len)
{
	uint64_t most = own - at, word, name, from;
	const struct log_record *head = (const struct log_record *)bus__log_copy_before(
	    c, at, most < LOG_HEAD_MOST ? most : LOG_HEAD_MOST, 0);
	const uint8_t *copy;

	if (head == NULL)
		return NULL;
	word = atomic_load_explicit(&head->word, memory_order_relaxed);
	if (record_bytes(word) > most || record_bytes(word) % 8 != 0)
		return NULL;
	name = find_name(head, word, ret_len);
	if (name == 0)
		return NULL;
	from = name & ~UINT64_C(7);
	copy = bus__log_copy_before(c, at + from, record_bytes(word) - from, LOG_HEAD_MOST);
	return copy != NULL ? (const char *)copy + (name - from) : NULL;
}

const char *
bus__log_name(struct log_cursor *c, const struct log_record *record, uint32_t *ret_len)
{
	uint64_t own = (uintptr_t)record - (uintptr_t)c->bytes;
	uint32_t topic = record->topic; /* once: others may write there */
	uint64_t word = c->word, at = ((uint64_t)topic - 1) * 8;

	if (topic == 0 || at > own)
		return NULL;
	if (at < own) {
		if (own - at < sizeof *record)
			return NULL;
		if (bus__log_copies(c) && at < (uintptr_t)c->copy - (uintptr_t)c->bytes)
			return copy_name(c, at, own, ret_len);
		record = (const struct log_record *)((uintptr_t)c->bytes + (uintptr_t)at);
		word = atomic_load_explicit(&record->word, memory_order_relaxed);
		if (record_bytes(word) > own - at)
			return NULL;
	}
	return bus__log_own_name(record, word, ret_len);
}
