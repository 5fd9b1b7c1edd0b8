/* mailbox/stats.c: the counters of a mailbox. */
#include "mailbox/parts.h"

#include "base/fork.h"
#include "mailbox/fail.h"
#include "mailbox/group.h"
#include "base/sized.h"

/* The fates of messages that were taken out. */
struct handled {
	uint64_t delivered, expired, unsubscribed, closed;
};

static void
add_handled(struct handled *sum, const struct bus_mailbox *m)
{
	sum->delivered += atomic_load_explicit(&m->delivered, memory_order_relaxed);
	sum->expired += atomic_load_explicit(&m->expired, memory_order_relaxed);
	sum->unsubscribed += atomic_load_explicit(&m->unsubscribed, memory_order_relaxed);
	sum->closed += atomic_load_explicit(&m->lost_closed, memory_order_relaxed);
}

/* Its bus has ended: the messages inside can no longer be taken. */
static bool
is_ended(const struct bus_mailbox *m)
{
	return atomic_load_explicit(&m->closed, memory_order_relaxed) &&
	       m->drain != BUS_DRAIN_THREAD;
}

void
bus__mailbox_add_stats(struct bus_mailbox *m, uint64_t most, struct bus_stats *stats)
{
	uint64_t full = atomic_load_explicit(&m->ring.evicted, memory_order_relaxed) +
			atomic_load_explicit(&m->ring.dropped, memory_order_relaxed);
	uint64_t replaced = atomic_load_explicit(&m->replaced, memory_order_relaxed);
	uint64_t refused = atomic_load_explicit(&m->refused, memory_order_relaxed);
	uint64_t lapped = atomic_load_explicit(&m->lapped, memory_order_relaxed);
	uint64_t gaps = atomic_load_explicit(&m->gaps, memory_order_relaxed);
	struct handled sum = {.delivered = 0};
	uint64_t shut = atomic_load_explicit(&m->lost_shut, memory_order_relaxed);
	uint64_t pending, closed;

	if (bus__is_receiver(m))
		return; /* its group has them */
	bus__ring_lock(&m->ring);
	add_handled(&sum, m);
	for (const struct bus_mailbox *r = m->receivers; r != NULL; r = r->next_receiver)
		add_handled(&sum, r);
	/* Read last: taken messages are delivered, late, unwanted, discarded, or still in a batch. */
	pending = bus__ring_count(&m->ring, is_ended(m) ? UINT64_MAX : most) +
		  atomic_load_explicit(&m->ring.taken, memory_order_relaxed) +
		  atomic_load_explicit(&m->read, memory_order_relaxed) - sum.delivered -
		  sum.expired - sum.unsubscribed - sum.closed;
	bus__ring_unlock(&m->ring);

	/* A peer's ring is shut while its link is down. */
	closed = sum.closed + (m->is_peer ? 0 : shut);
	gaps += m->is_peer ? shut : 0;
	if (is_ended(m)) {
		closed += pending;
		pending = 0;
	}
	stats->delivered += sum.delivered;
	stats->pending += pending;
	stats->refused += refused;
	stats->lost[BUS_LOSS_FULL] += full;
	stats->lost[BUS_LOSS_REPLACED] += replaced;
	stats->lost[BUS_LOSS_EXPIRED] += sum.expired;
	stats->lost[BUS_LOSS_UNSUBSCRIBED] += sum.unsubscribed;
	stats->lost[BUS_LOSS_CLOSED] += closed;
	stats->lost[BUS_LOSS_LAPPED] += lapped;
	stats->lost[BUS_LOSS_LINK] += gaps;
	stats->offered += sum.delivered + pending + refused + full + replaced + sum.expired +
			  sum.unsubscribed + closed + lapped + gaps;
}

/* As exact as counting only that many waiting messages allows. */
static struct progress
progress_of(struct bus_mailbox *m, const struct bus_stats *stats)
{
	struct progress progress = {stats->delivered, stats->delivered + stats->pending};

	m->source->progress(m, &progress);
	return progress;
}

int
bus_mailbox_stats(struct bus_mailbox *m, struct bus_stats *ret_stats)
{
	struct bus_stats stats = {.size = sizeof stats};
	struct progress progress;
	int err;

	if (m == NULL)
		return bus__fail_mailbox(NULL, BUS_E_INVAL);
	if (ret_stats == NULL)
		return bus__answer(BUS_E_INVAL);
	err = bus__sized_check(&bus__sized[SIZED_STATS], ret_stats->size);
	if (err < 0)
		return err;
	if (m->fork_generation != bus__fork_generation())
		return bus__fail_mailbox(m, BUS_E_FORKED);
	bus__mailbox_add_stats(m->queue, UINT64_MAX, &stats);
	progress = progress_of(m, &stats);
	stats.reached = progress.reached;
	stats.goal = progress.goal;
	bus__sized_write(&bus__sized[SIZED_STATS], &stats, ret_stats);
	return 0;
}

int
bus_mailbox_reached(struct bus_mailbox *m, uint64_t *ret_reached)
{
	struct bus_stats stats = {.size = sizeof stats};
	struct progress progress;

	if (m == NULL)
		return bus__fail_mailbox(NULL, BUS_E_INVAL);
	if (ret_reached == NULL)
		return bus__answer(BUS_E_INVAL);
	if (m->fork_generation != bus__fork_generation())
		return bus__fail_mailbox(m, BUS_E_FORKED);
	bus__mailbox_add_stats(m->queue, 1, &stats);
	progress = progress_of(m, &stats);
	*ret_reached = progress.reached;
	return progress.reached == progress.goal;
}
