/* topic/overlap.h: what two filters have in common. */
#ifndef BUS_TOPIC_OVERLAP_H
#define BUS_TOPIC_OVERLAP_H

#include <stdbool.h>

#include <libbus/bus.h>

/* Writes the filter that matches exactly the topics that both filters match; there is always one. false: there is no such
 * topic. Both are well-formed. */
bool bus__filter_overlap(const char *a, const char *b, char ret_filter[BUS_LIMIT_TOPIC_BYTES + 1]);

#endif
