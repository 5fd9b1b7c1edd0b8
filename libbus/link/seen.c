#include "link/seen.h"

#include <stdbool.h>

#include "base/mem.h"
#include "base/random.h"
#include "base/siphash.h"

/* A keyed hash, since others choose the ids. */
static struct bus__seen_source **
bucket_of(struct bus__seen *seen, const uint8_t *id)
{
	return &seen->buckets[bus__siphash(seen->key, id, BUS__BUS_ID) % BUS__SEEN_BUCKETS];
}

static void
unlist(struct bus__seen *seen, struct bus__seen_source *source)
{
	*(source->older != NULL ? &source->older->newer : &seen->oldest) = source->newer;
	*(source->newer != NULL ? &source->newer->older : &seen->newest) = source->older;
}

static void
list_newest(struct bus__seen *seen, struct bus__seen_source *source)
{
	source->newer = NULL;
	source->older = seen->newest;
	*(seen->newest != NULL ? &seen->newest->newer : &seen->oldest) = source;
	seen->newest = source;
}

/* Takes the least recently seen source out of the table. */
static struct bus__seen_source *
take_oldest(struct bus__seen *seen)
{
	struct bus__seen_source *source = seen->oldest, **at;

	if (source == NULL)
		return NULL;
	for (at = bucket_of(seen, source->id); *at != source;)
		at = &(*at)->next;
	*at = source->next;
	unlist(seen, source);
	seen->count--;
	return source;
}

/* NULL: out of memory. */
static struct bus__seen_source *
make(struct bus__seen *seen, const uint8_t *id, uint64_t number)
{
	struct bus__seen_source **at = bucket_of(seen, id), *source = NULL;

	if (seen->count < BUS__SEEN_SOURCES)
		source = bus__malloc(sizeof *source);
	if (source == NULL)
		source = take_oldest(seen);
	if (source == NULL)
		return NULL;
	*source = (struct bus__seen_source){.next = *at, .top = number};
	memcpy(source->id, id, sizeof source->id);
	*at = source;
	list_newest(seen, source);
	seen->count++;
	return source;
}

/* Most messages come from the same source as the previous one. */
static struct bus__seen_source *
find(struct bus__seen *seen, const uint8_t *id)
{
	struct bus__seen_source *source = seen->newest;

	if (source != NULL && memcmp(source->id, id, BUS__BUS_ID) == 0)
		return source;
	source = *bucket_of(seen, id);
	while (source != NULL && memcmp(source->id, id, BUS__BUS_ID) != 0)
		source = source->next;
	if (source != NULL) {
		unlist(seen, source);
		list_newest(seen, source);
	}
	return source;
}

/* Moves the window's end to this number. */
static void
advance(struct bus__seen_source *source, uint64_t number)
{
	if (number - source->top >= BUS__SEEN_WINDOW)
		memset(source->came, 0, sizeof source->came);
	else
		for (uint64_t n = source->top + 1; n < number; n++)
			source->came[n % BUS__SEEN_WINDOW / 64] &= ~(UINT64_C(1) << n % 64);
	source->top = number;
}

enum bus__seen_answer
bus__seen_take(struct bus__seen **ret_seen, const uint8_t id[BUS__BUS_ID], uint64_t number)
{
	struct bus__seen *seen = *ret_seen;
	struct bus__seen_source *source;
	uint64_t *word, bit = UINT64_C(1) << number % 64;
	bool came;

	if (seen == NULL) {
		seen = *ret_seen = bus__calloc(1, sizeof *seen);
		if (seen == NULL)
			return BUS__SEEN_NEW;
		bus__random(seen->key, sizeof seen->key);
	}
	source = find(seen, id);
	if (source == NULL)
		source = make(seen, id, number);
	if (source == NULL)
		return BUS__SEEN_NEW;
	word = &source->came[number % BUS__SEEN_WINDOW / 64];
	if (number > source->top) {
		advance(source, number);
		*word |= bit;
		return BUS__SEEN_NEW;
	}
	if (source->top - number >= BUS__SEEN_WINDOW)
		return BUS__SEEN_LATE;
	came = (*word & bit) != 0;
	*word |= bit;
	return came ? BUS__SEEN_TWICE : BUS__SEEN_NEW;
}

void
bus__seen_free(struct bus__seen *seen)
{
	struct bus__seen_source *source;

	if (seen == NULL)
		return;
	while ((source = take_oldest(seen)) != NULL)
		bus__free(source);
	bus__free(seen);
}
