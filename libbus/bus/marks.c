/* bus/marks.c: the marks of deletions of a private bus. A mark keeps the version of an ended value, so that a peer that missed
 * the end does not bring the value back. Over the limit, the oldest mark ends. */
#include <string.h>

#include "base/clock.h"
#include "bus/bus_internal.h"
#include "bus/keep.h"
#include "bus/keep_parts.h"

#define MARKS_SHARE 2 /* marks keep at most half of the topics that a bus may have */

int
bus__marks_init(struct marks *marks, uint32_t max_topics)
{
	marks->most = max_topics / MARKS_SHARE < BUS__MARKS ? max_topics / MARKS_SHARE : BUS__MARKS;
	return pthread_mutex_init(&marks->lock, NULL) == 0 ? 0 : BUS_E_NOMEM;
}

void
bus__marks_fini(struct marks *marks)
{
	pthread_mutex_destroy(&marks->lock);
}

/* Marks lock. */
static void
unmark(struct marks *marks, struct history *h)
{
	if (h->marked_ns == 0)
		return;
	*(h->older != NULL ? &h->older->newer : &marks->oldest) = h->newer;
	*(h->newer != NULL ? &h->newer->older : &marks->newest) = h->older;
	h->older = h->newer = NULL;
	h->marked_ns = 0;
	marks->count--;
}

void
bus__mark_begin(struct bus *bus, struct history *h, int64_t ended_ns)
{
	struct marks *marks = &bus->marks;

	h->value = NULL;
	h->deleted = true;
	pthread_mutex_lock(&marks->lock);
	unmark(marks, h);
	h->marked_ns = ended_ns;
	h->older = marks->newest;
	*(marks->newest != NULL ? &marks->newest->newer : &marks->oldest) = h;
	marks->newest = h;
	/* Only unlists the oldest: the keep lock of its topic guards the rest of its history. */
	if (++marks->count > marks->most)
		unmark(marks, marks->oldest);
	pthread_mutex_unlock(&marks->lock);
}

bool
bus__marks_end_oldest(struct marks *marks)
{
	bool found;

	pthread_mutex_lock(&marks->lock);
	found = marks->oldest != NULL;
	if (found)
		unmark(marks, marks->oldest);
	pthread_mutex_unlock(&marks->lock);
	return found;
}

void
bus__mark_end(struct bus *bus, struct history *h)
{
	h->deleted = false;
	pthread_mutex_lock(&bus->marks.lock);
	unmark(&bus->marks, h);
	pthread_mutex_unlock(&bus->marks.lock);
}

bool
bus__mark_lives(struct bus *bus, struct history *h)
{
	bool lives;

	pthread_mutex_lock(&bus->marks.lock);
	if (h->marked_ns != 0 && bus__now_ns() - h->marked_ns >=
				     atomic_load_explicit(&bus__mark_ns, memory_order_relaxed))
		unmark(&bus->marks, h);
	lives = h->marked_ns != 0;
	pthread_mutex_unlock(&bus->marks.lock);
	return lives;
}

void
bus__mark_forget_version(struct bus *bus, struct history *h)
{
	uint64_t floor = atomic_load_explicit(&bus->marks.floor, memory_order_relaxed);

	if (h->deleted)
		bus__mark_end(bus, h);
	while (h->version.changes > floor && h->version.changes < BUS__FLOOR_MOST &&
	       !atomic_compare_exchange_weak_explicit(&bus->marks.floor, &floor, h->version.changes,
		   memory_order_relaxed, memory_order_relaxed))
		;
	memset(&h->version, 0, sizeof h->version);
}
