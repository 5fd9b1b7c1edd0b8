/* push/verdicts.h: the topics that a page may get, as far as the program has answered. */
#ifndef BUS_PUSH_VERDICTS_H
#define BUS_PUSH_VERDICTS_H

#include <stddef.h>
#include <stdint.h>

enum verdict { VERDICT_NEW, VERDICT_ASKED, VERDICT_YES, VERDICT_NO };

struct verdicts {
	struct verdict_entry **buckets; /* NULL while it is empty */
	size_t count, bucket_count;
};

/* The verdict on a topic, to read and to set; VERDICT_NEW for a new topic. NULL: out of memory. */
enum verdict *bus__verdict(struct verdicts *verdicts, const char *topic, uint64_t hash);
void bus__verdicts_free(struct verdicts *verdicts);

#endif
