/* bus/explain.h: the parts of bus_explain(). */
#ifndef BUS_BUS_EXPLAIN_H
#define BUS_BUS_EXPLAIN_H

#include <stddef.h>
#include <stdint.h>

#include "topic/near.h"

struct bus;
struct page;

#define NEAR_LINES 8 /* of a kind; further ones are only counted */

/* What bus_explain() has found so far. */
struct explaining {
	struct page *page;
	const char *topic;
	uint32_t now_s;
	uint32_t stuck;            /* a process that gets it and is behind for some time; 0: none */
	unsigned near[NEAR_COUNT]; /* how many filters of each kind */
};

/* Why a filter narrowly misses the topic. */
const char *bus__near_text(enum near near, const char *filter, const char *topic);

/* Describes the messages that this process keeps of a topic. Bus lock. */
void bus__explain_topic(struct explaining *e, struct bus *bus, size_t len);

#endif
