/* mailbox/put.c: putting a message into a mailbox: applying the policy, and waiting for room. */
#include "mailbox/parts.h"

#include "base/clock.h"
#include "base/park.h"
#include "base/thread.h"
#include "mailbox/route.h"

#define EVICT_TRIES  8 /* rounds of making room before a publisher drops its own message */
#define ROOM_SPIN_NS 5000

/* The policy lost a message. The loss is announced, unless an announcement was lost. */
static void
note_loss(struct bus_mailbox *m, const struct ring_item *item)
{
	const struct route *route = item->route;

	if (!atomic_load_explicit(&m->lossy, memory_order_relaxed) && route->topic->name[0] != '$')
		atomic_store_explicit(&m->lossy, true, memory_order_relaxed);
}

/* A message that did not get in. */
static void
give_up(struct bus_mailbox *m, const struct ring_item *item, enum ring_answer answer)
{
	if (answer == RING_FULL) {
		bus__ring_drop(&m->ring);
		note_loss(m, item);
	} else { /* RING_SHUT: it closed during this publish */
		atomic_fetch_add_explicit(&m->lost_shut, 1, memory_order_relaxed);
	}
}

/* Puts a frame in, and drops the oldest for it if the policy says so. false: it is not in, and counted. */
static bool
put_frame(struct bus_mailbox *m, const struct ring_item *item, struct bus_mailbox **owed)
{
	enum ring_answer answer;
	unsigned tries = 0;

	while ((answer = bus__ring_put(&m->ring, item)) == RING_FULL) {
		if (++tries > EVICT_TRIES ||
		    !(m->full == BUS_FULL_DROP_NEWEST ? bus__ring_reclaim(&m->ring)
						      : bus__ring_evict(&m->ring, item)))
			break;
		if (m->full != BUS_FULL_DROP_NEWEST)
			note_loss(m, item);
	}
	if (answer == RING_WAKE)
		m->wake(m, owed);
	if (answer == RING_OK || answer == RING_WAKE)
		return true;
	give_up(m, item, answer);
	return false;
}

void
bus__mailbox_count_gap(struct bus_mailbox *m, uint64_t count)
{
	atomic_fetch_add_explicit(&m->gaps, count & ~RING_LOST_AT_LEAST, memory_order_relaxed);
	atomic_store_explicit(&m->lossy, true, memory_order_relaxed);
}

/* Stores the newest message of a topic, and puts a frame in for it unless one is queued already. */
static void
put_latest(struct bus_mailbox *m, const struct ring_item *item, struct bus_mailbox **owed)
{
	struct route *route = item->route;
	const struct ring_item frame = {.route = route, .cell = &route->cell, .len = item->len};
	struct cell_value *value = bus__cell_value_new(item);
	uint64_t replaced = 0;

	if (value == NULL) {
		give_up(m, item, RING_FULL);
		return;
	}
	if (item->flags & RING_KEPT) {
		/* The queued value is this one or a newer one. */
		if (!bus__cell_put_first(&route->cell, value)) {
			bus__cell_value_free(value);
			return;
		}
	} else if (bus__cell_put(&route->cell, value) == CELL_REPLACED) {
		atomic_fetch_add_explicit(&m->replaced, 1, memory_order_relaxed);
		note_loss(m, item);
		return;
	}
	if (put_frame(m, &frame, owed))
		return;
	bus__cell_value_free(bus__cell_take(&route->cell, &replaced));
	/* The lost frame would have reported the values that others replaced in between. */
	bus__ring_tell(&m->ring, replaced);
}

void
bus__mailbox_put(struct bus_mailbox *m, const struct ring_item *item, struct bus_mailbox **owed)
{
	if (m->full == BUS_FULL_LATEST) {
		put_latest(m, item, owed);
		return;
	}
	if (item->block != NULL)
		bus__block_ref(item->block);
	if (!put_frame(m, item, owed))
		bus__block_unref(item->block);
}

bool
bus__mailbox_await_room(struct bus_mailbox *m, const struct ring_item *item, int64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&m->room, memory_order_acquire);
	int64_t now = bus__now_ns(), spin_until = now + ROOM_SPIN_NS;
	uint64_t out = bus__ring_out(&m->ring);

	for (; bus__cpus() > 1 && now < spin_until && now < deadline_ns; now = bus__now_ns())
		for (unsigned i = 0; i < SPIN_STEP; i++) {
			if (bus__ring_out(&m->ring) != out)
				return true;
			bus__cpu_relax();
		}
	if (bus__ring_starve(&m->ring, item))
		return true;
	return bus__park(&m->room, seen, deadline_ns) != BUS_E_TIMEDOUT;
}

void
bus__mailbox_announce_room(struct bus_mailbox *m)
{
	atomic_fetch_add_explicit(&m->room, 1, memory_order_release);
	bus__unpark(&m->room);
}
