/* link/debris.h: the remains of connections that take long to free: 10,000 topics, as many filters. Each round of the link thread
 * frees a part, so that other work runs in between. Link thread. */
#ifndef BUS_LINK_DEBRIS_H
#define BUS_LINK_DEBRIS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct bus__links;
struct bus_link;

/* The time that one peer may take in a round of the link thread; a single frame may take longer. Tests shorten it: at 0
 * each step takes a round. Relaxed: it orders nothing. */
extern _Atomic int64_t bus__round_ns;

static inline int64_t
bus__round(void)
{
	return atomic_load_explicit(&bus__round_ns, memory_order_relaxed);
}

struct bus__debris {
	struct bus__debris *next;
	const struct bus_link *link; /* the link that it needs; NULL: none */
	/* Frees as much as it can until then. true: everything, itself included. */
	bool (*clear)(struct bus__links *links, struct bus__debris *debris, int64_t until_ns);
};

void bus__debris_init(struct bus__links *links);

/* Begins at once; while the links are closing, also ends. */
void bus__debris_add(struct bus__links *links, struct bus__debris *debris);

/* Frees all debris that needs the link; NULL: all. */
void bus__debris_finish(struct bus__links *links, const struct bus_link *link);

#endif
