/* named/heard.h: what names of topics in a log stand for here.
 *
 * Records say by a number where in their segment the name is, so a number stands for something in one segment alone. The
 * second table is by the hash of the name, with a key of this process, and outlives segments. A hash stands for a name: with all names
 * that a table holds, one new name in 10^14 would be taken for another. Not for several threads at once. */
#ifndef BUS_NAMED_HEARD_H
#define BUS_NAMED_HEARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <libbus/bus.h>

/* A name copied out of the log, where other processes can write. */
struct heard_name {
	size_t len; /* 0: none */
	char name[BUS_LIMIT_TOPIC_BYTES + 1];
};

static inline void
heard_copy_name(struct heard_name *copy, const char *name, size_t len)
{
	memcpy(copy->name, name, len);
	copy->name[len] = '\0';
	copy->len = len;
}

struct heard_entry {
	uint64_t key; /* 0: nothing */
	void *what;   /* NULL: no subscription here matches */
};

/* Open-addressed; begins as {0}. */
struct heard_table {
	struct heard_entry *at;
	uint32_t cap, count;
};

struct bus__heard {
	struct heard_table numbers, names;
	uint32_t
	    segment; /* the lower half of the one whose numbers are known; others are as if they were not there */
};

void bus__heard_fini(struct bus__heard *heard);

/* Forgets all, before what it leads to is freed. */
void bus__heard_forget(struct bus__heard *heard);

static inline uint64_t
heard_key(uint64_t segment, uint32_t number)
{
	return segment << 32 | number;
}

/* Where a number is, or would be: a number is where a name lies, so its low bits are spread well enough (Fibonacci hashing). */
static inline struct heard_entry *
heard_find_number(const struct heard_table *numbers, uint64_t key)
{
	uint32_t i = (uint32_t)key * UINT32_C(0x9E3779B1) >> 7;

	for (;; i++) {
		struct heard_entry *entry = &numbers->at[i & (numbers->cap - 1)];

		/* One of another segment is none. */
		if (entry->key == key || (entry->key ^ key) >> 32 != 0 || entry->key == 0)
			return entry;
	}
}

/* false: it is not known. */
static inline bool
bus__heard_number(
    const struct bus__heard *heard, uint64_t segment, uint32_t number, void **ret_what)
{
	const struct heard_entry *entry;

	if (heard->numbers.cap == 0)
		return false;
	entry = heard_find_number(&heard->numbers, heard_key(segment, number));
	*ret_what = entry->what;
	return entry->key == heard_key(segment, number);
}

bool bus__heard_name(const struct bus__heard *heard, uint64_t hash, void **ret_what);

/* Has the entry of a name fetched. */
static inline void
bus__heard_expect_name(const struct bus__heard *heard, uint64_t hash)
{
	if (heard->names.cap != 0)
		__builtin_prefetch(&heard->names.at[(uint32_t)hash & (heard->names.cap - 1)]);
}

#define HEARD_AT_ONCE 1024

/* Whether to note the number of a record that names its topic. Of very many topics in turn most come once in a segment: those
 * are noted when they come again, since a large table costs more than it saves. */
static inline bool
bus__heard_notes_at_once(const struct bus__heard *heard, uint64_t segment)
{
	return heard->numbers.count < HEARD_AT_ONCE || heard->segment != (uint32_t)segment;
}

/* 0 or BUS_E_NOMEM. */
int bus__heard_put_number(struct bus__heard *heard, uint64_t segment, uint32_t number, void *what);
int bus__heard_put_name(struct bus__heard *heard, uint64_t hash, void *what);

#endif
