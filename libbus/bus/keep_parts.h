/* bus/keep_parts.h: the marks of deletions (marks.c), as a topic's history (history.c) uses them; only these two include it.
 * Keep lock of the topic. */
#ifndef BUS_BUS_KEEP_PARTS_H
#define BUS_BUS_KEEP_PARTS_H

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct history;

/* The topic's value ended at this time, now or earlier: marks its deletion. */
void bus__mark_begin(struct bus *bus, struct history *history, int64_t ended_ns);

/* Ends the mark of a topic whose value was deleted. */
void bus__mark_end(struct bus *bus, struct history *history);

/* Whether the mark lives: neither too old, nor pushed out by newer ones. */
bool bus__mark_lives(struct bus *bus, struct history *history);

/* Forgets the version of the topic's last value. Its next value is newer than every version that the bus has forgotten. */
void bus__mark_forget_version(struct bus *bus, struct history *history);

#endif
