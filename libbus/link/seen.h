/* link/seen.h: the numbers received from other buses. With hubs a message may arrive by several ways; each bus takes it once.
 *
 * The newest 1,024 numbers of each source are known one by one, for at most 1,024 sources. A further source replaces the least
 * recently seen one. Link thread. */
#ifndef BUS_LINK_SEEN_H
#define BUS_LINK_SEEN_H

#include <stdint.h>

#include "base/version.h"

enum { BUS__SEEN_WINDOW = 1024, BUS__SEEN_SOURCES = 1024, BUS__SEEN_BUCKETS = 256 };

struct bus__seen_source {
	struct bus__seen_source *next;          /* in its bucket */
	struct bus__seen_source *newer, *older; /* by last use, a ring through `bus__seen.ends` */
	uint8_t id[BUS__BUS_ID];
	uint64_t top; /* the largest number received */
	uint64_t
	    came[BUS__SEEN_WINDOW / 64]; /* a bit for each number of the window, by its remainder */
};

struct bus__seen {
	uint64_t key[2];
	uint32_t count;
	struct bus__seen_source *newest, *oldest;
	struct bus__seen_source *buckets[BUS__SEEN_BUCKETS];
};

enum bus__seen_answer {
	BUS__SEEN_NEW,   /* take it; also the answer without memory */
	BUS__SEEN_TWICE, /* received before */
	BUS__SEEN_LATE   /* below the window: perhaps received before */
};

/* *seen: NULL before the first call, which makes it. */
enum bus__seen_answer bus__seen_take(
    struct bus__seen **seen, const uint8_t source[BUS__BUS_ID], uint64_t number);
void bus__seen_free(struct bus__seen *seen);

#endif
