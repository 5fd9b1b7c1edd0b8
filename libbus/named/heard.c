#include "named/heard.h"

#include <string.h>

#include <libbus/error.h>

#include "base/mem.h"

#define FIRST      16
#define MOST_NAMES 24576 /* then it begins anew: of names there is no end */

typedef struct heard_entry *find_entry(const struct heard_table *table, uint64_t key);

void
bus__heard_fini(struct bus__heard *h)
{
	bus__free(h->numbers.at);
	bus__free(h->names.at);
}

static void
clear(struct heard_table *table)
{
	if (table->cap > 0)
		memset(table->at, 0, table->cap * sizeof *table->at);
	table->count = 0;
}

void
bus__heard_forget(struct bus__heard *h)
{
	clear(&h->numbers);
	clear(&h->names);
}

static struct heard_entry *
find_name(const struct heard_table *names, uint64_t hash)
{
	for (uint32_t i = (uint32_t)hash;; i++) {
		struct heard_entry *entry = &names->at[i & (names->cap - 1)];

		if (entry->key == hash || entry->key == 0)
			return entry;
	}
}

/* Keeps a quarter of it empty. What is not of this segment (0: all is) goes. */
static int
make_room(struct heard_table *table, find_entry *find, uint32_t segment)
{
	struct heard_table new = {.cap = table->cap != 0 ? 2 * table->cap : FIRST};

	if (4 * (table->count + 1) <= 3 * table->cap)
		return 0;
	new.at = bus__calloc(new.cap, sizeof *new.at);
	if (new.at == NULL)
		return BUS_E_NOMEM;
	for (uint32_t i = 0; i < table->cap; i++) {
		const struct heard_entry *entry = &table->at[i];

		if (entry->key == 0 || (segment != 0 && entry->key >> 32 != segment))
			continue;
		*find(&new, entry->key) = *entry;
		new.count++;
	}
	bus__free(table->at);
	*table = new;
	return 0;
}

static int
put(struct heard_table *table, find_entry *find, uint64_t key, uint32_t segment, void *what)
{
	struct heard_entry *entry;
	int err = make_room(table, find, segment);

	if (err < 0)
		return err;
	entry = find(table, key);
	table->count += entry->key != key;
	*entry = (struct heard_entry){key, what};
	return 0;
}

static struct heard_entry *
find_number(const struct heard_table *numbers, uint64_t key)
{
	return heard_find_number(numbers, key);
}

int
bus__heard_put_number(struct bus__heard *h, uint64_t segment, uint32_t number, void *what)
{
	/* What is of a segment before is as if it were not there; but not if it comes back to one. */
	if ((uint32_t)segment < h->segment)
		clear(&h->numbers);
	if ((uint32_t)segment != h->segment)
		h->numbers.count = 0;
	h->segment = (uint32_t)segment;
	return put(&h->numbers, find_number, heard_key(segment, number), h->segment, what);
}

/* 0 is an empty entry. */
static uint64_t
key_of(uint64_t hash)
{
	return hash != 0 ? hash : 1;
}

bool
bus__heard_name(const struct bus__heard *h, uint64_t hash, void **ret_what)
{
	const struct heard_entry *entry;

	if (h->names.cap == 0)
		return false;
	entry = find_name(&h->names, key_of(hash));
	*ret_what = entry->what;
	return entry->key != 0;
}

int
bus__heard_put_name(struct bus__heard *h, uint64_t hash, void *what)
{
	if (h->names.count >= MOST_NAMES)
		clear(&h->names);
	return put(&h->names, find_name, key_of(hash), 0, what);
}
