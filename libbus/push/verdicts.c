#include "push/verdicts.h"

#include <string.h>

#include "base/mem.h"

enum { FIRST = 16 };

struct verdict_entry {
	struct verdict_entry *next;
	uint64_t hash;
	enum verdict verdict;
	char topic[];
};

/* Doubles the buckets. Without memory the chains get longer. */
static void
grow(struct verdicts *verdicts)
{
	size_t count = verdicts->bucket_count != 0 ? 2 * verdicts->bucket_count : FIRST;
	struct verdict_entry **buckets = bus__calloc(count, sizeof *buckets), *entry, *next;

	if (buckets == NULL)
		return;
	for (size_t i = 0; i < verdicts->bucket_count; i++)
		for (entry = verdicts->buckets[i]; entry != NULL; entry = next) {
			next = entry->next;
			entry->next = buckets[entry->hash & (count - 1)];
			buckets[entry->hash & (count - 1)] = entry;
		}
	bus__free(verdicts->buckets);
	verdicts->buckets = buckets;
	verdicts->bucket_count = count;
}

enum verdict *
bus__verdict(struct verdicts *verdicts, const char *topic, uint64_t hash)
{
	struct verdict_entry *entry, **bucket;
	size_t size = strlen(topic) + 1;

	if (verdicts->count == verdicts->bucket_count)
		grow(verdicts);
	if (verdicts->bucket_count == 0)
		return NULL;
	bucket = &verdicts->buckets[hash & (verdicts->bucket_count - 1)];
	for (entry = *bucket; entry != NULL; entry = entry->next)
		if (entry->hash == hash && strcmp(entry->topic, topic) == 0)
			return &entry->verdict;
	entry = bus__malloc(sizeof *entry + size);
	if (entry == NULL)
		return NULL;
	*entry = (struct verdict_entry){.next = *bucket, .hash = hash};
	memcpy(entry->topic, topic, size);
	*bucket = entry;
	verdicts->count++;
	return &entry->verdict;
}

void
bus__verdicts_free(struct verdicts *verdicts)
{
	struct verdict_entry *entry, *next;

	for (size_t i = 0; i < verdicts->bucket_count; i++)
		for (entry = verdicts->buckets[i]; entry != NULL; entry = next) {
			next = entry->next;
			bus__free(entry);
		}
	bus__free(verdicts->buckets);
	*verdicts = (struct verdicts){.buckets = NULL};
}
