/* bus/explain.h: what people are told. */
#ifndef BUS_BUS_EXPLAIN_H
#define BUS_BUS_EXPLAIN_H

#include <stddef.h>
#include <stdint.h>

#include "topic/near.h"

struct bus;
struct page;

#define NEAR_LINES 8 /* of a kind; the others are counted */

/* What bus_explain() has found so far. */
struct explaining {
	struct page *page;
	const char *topic;
	uint32_t now_s;
	uint32_t stuck;            /* a pid that gets it, and is behind since a while; 0: none */
	unsigned near[NEAR_COUNT]; /* how many filters of each kind */
};

/* Why a filter misses the topic by little. */
const char *bus__near_text(enum near near, const char *filter, const char *topic);

/* What is known of a topic that this process keeps. Bus lock. */
void bus__explain_topic(struct explaining *e, struct bus *bus, size_t len);

#endif
