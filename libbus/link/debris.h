/* link/debris.h: what connections leave behind that takes long to take apart: 10,000 topics, as many filters. It goes in pieces of one
 * round of the link thread, so that others are served between them. Link thread. */
#ifndef BUS_LINK_DEBRIS_H
#define BUS_LINK_DEBRIS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct bus__links;
struct bus_link;

/* The time that one peer may take of the link thread before others have a turn; a single frame may take longer. Tests shorten it: at 0
 * each step takes a round. Relaxed: it orders nothing. */
extern _Atomic int64_t bus__round_ns;

static inline int64_t
bus__round(void)
{
	return atomic_load_explicit(&bus__round_ns, memory_order_relaxed);
}

struct bus__debris {
	struct bus__debris *next;
	const struct bus_link *link; /* that it needs; NULL: none */
	/* Takes apart what it can until then. true: that was all, and it is freed. */
	bool (*clear)(struct bus__links *links, struct bus__debris *debris, int64_t until_ns);
};

void bus__debris_init(struct bus__links *links);

/* Begins at once. When the links are closing, it also ends. */
void bus__debris_add(struct bus__links *links, struct bus__debris *debris);

/* Takes apart all that needs the link; NULL: all. */
void bus__debris_finish(struct bus__links *links, const struct bus_link *link);

#endif
