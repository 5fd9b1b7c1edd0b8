/* bus/notice.h: what a bus publishes about itself, on its `$bus/...` topics.
 *
 * There is no timer. A thread in a slow place makes a round, at most one a second, and only while `$bus/...` has a subscription.
 * Slow places are a publish by name, one that is not taken the short way, a drainer that finds its mailbox empty, and a new
 * subscription. The caller holds no stripe and no lock. */
#ifndef BUS_BUS_NOTICE_H
#define BUS_BUS_NOTICE_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/bus_internal.h"
#include "log/log.h"

#define UNHEARD_MANY    1000 /* publishes without a receiver: no accident any more */
#define UNMATCHED_LONG  60   /* seconds that a filter waits for a topic */
#define NOTICE_PAUSE_NS INT64_C(1000000000)

/* Whether the filter names messages of the bus itself. */
bool bus__is_notice_filter(const char *filter);

/* Whether a warning about a topic without receivers is due for the first time and has a subscriber. */
bool bus__is_warning_due(struct bus *bus, struct topic *topic);

/* Counts a publish without receivers. true: bus__warn_unheard() is due. Not a read-modify-write, the most expensive part
 * of such a publish: of two at the same moment one may not be counted. */
static inline bool
bus__count_unheard(struct bus *bus, struct topic *topic)
{
	uint32_t count = atomic_load_explicit(&topic->unheard, memory_order_relaxed);

	if (count < UINT32_MAX)
		atomic_store_explicit(&topic->unheard, ++count, memory_order_relaxed);
	return count >= UNHEARD_MANY && bus__is_warning_due(bus, topic);
}

/* Publishes {"warning": kind, about: name, unit: number, "text": text} on $bus/warnings. The caller holds no lock. */
void bus__warn(struct bus *bus, const char *kind, const char *about, const char *name,
    const char *unit, uint64_t number, const char *text);

/* Warns that the topic has no receivers. The caller holds no lock. */
void bus__warn_unheard(struct bus *bus, const char *topic);

/* Makes a round if the last one was at least a second before `now_ns`. The caller holds no lock. */
void bus__round(struct bus *bus, int64_t now_ns);
__attribute__((cold)) void bus__round_now(struct bus *bus);

/* Publishes msgpack on a $bus/ topic, to all mailboxes except those of peers. In publish.c. */
int bus__publish_notice(struct bus *bus, const char *topic, const void *data, size_t len);

#endif
