/* mailbox/drain.c: draining without a call of the owner: by the publisher that ended the sleep, or by the mailbox's own thread. */
#include "mailbox/parts.h"

#include "base/park.h"
#include "base/thread.h"

#define LOOKS_PER_YIELD 64

/* Drains here until the mailbox sleeps, including concurrent publishes. Leaves before it may sleep: the thread that ends that
 * sleep is the next drainer, and must be the only one inside. */
static void
drain_here(struct bus_mailbox *m)
{
	unsigned stalls = 0;

	/* Busy: its end has begun, and discards the messages inside. */
	while (!atomic_exchange_explicit(&m->busy, true, memory_order_acq_rel)) {
		while (m->source->take(m, PHASE_HELD | PHASE_CALLING, 1) > 0) {
			bus__mailbox_call_batch(m, UINT32_MAX);
			bus__mailbox_end_batch(m);
		}
		bus__mailbox_leave(m, false);
		if (bus__ring_sleep(&m->ring) ||
		    atomic_load_explicit(&m->closed, memory_order_acquire))
			break;
		/* Claimed and not committed: its publisher may have lost the CPU. Yield ours. */
		if (!bus__ring_empty(&m->ring) && ++stalls % LOOKS_PER_YIELD == 0)
			bus__mailbox_give_way(m, stalls / LOOKS_PER_YIELD);
	}
	bus__mailbox_unref(m);
}

void
bus__mailbox_drain_owed(struct bus_mailbox *owed)
{
	while (owed != NULL) {
		struct bus_mailbox *m = owed;

		owed = m->next_owed;
		drain_here(m);
	}
}

static void *
thread_main(void *arg)
{
	struct bus_mailbox *m = arg;
	unsigned times = 0;

	bus__thread_name("bus-mailbox");
	for (;;) {
		/* Read before the look inside: messages from before it was set are still handled. */
		bool stop = atomic_load_explicit(&m->stop, memory_order_acquire);
		uint32_t count =
		    bus__mailbox_await_batch(m, PHASE_HELD | PHASE_CALLING, stop ? 0 : INT64_MAX);

		if (count > 0) {
			bus__mailbox_call_batch(m, UINT32_MAX);
			bus__mailbox_end_batch(m);
			times = 0;
		} else if (stop && m->source->is_empty(m)) {
			break;
		} else if (stop) {
			bus__mailbox_give_way(m, ++times);
		}
	}
	bus__mailbox_settle(m);
	if (atomic_fetch_or_explicit(&m->left, THREAD_OUT, memory_order_acq_rel) & THREAD_ABANDONED)
		bus__mailbox_finish(m);
	atomic_store_explicit(&m->thread_done, 1, memory_order_release);
	bus__unpark(&m->thread_done);
	bus__mailbox_unref(m);
	return NULL;
}

int
bus__mailbox_start(struct bus_mailbox *m)
{
	int err;

	bus__mailbox_ref(m);
	err = bus__thread_start(&m->thread, thread_main, m);
	if (err == 0) {
		atomic_store_explicit(&m->has_thread, true, memory_order_release);
		return 0;
	}
	atomic_store_explicit(&m->thread_done, 1, memory_order_release);
	bus__mailbox_unref(m);
	return err;
}

void
bus__mailbox_stop(struct bus_mailbox *m, int64_t deadline_ns)
{
	if (!atomic_exchange_explicit(&m->has_thread, false, memory_order_acq_rel))
		return;
	atomic_store_explicit(&m->stop, true, memory_order_release);
	bus__mailbox_wake_drainer(m);
	while (atomic_load_explicit(&m->thread_done, memory_order_acquire) == 0)
		if (bus__park(&m->thread_done, 0, deadline_ns) == BUS_E_TIMEDOUT)
			break;
	/* Abandoned in a callback, it ends by itself when that returns, and delivers no more. */
	if (atomic_load_explicit(&m->thread_done, memory_order_acquire) == 0) {
		bus__mailbox_end_delivery(m);
		if (!(atomic_fetch_or_explicit(&m->left, THREAD_ABANDONED, memory_order_acq_rel) &
			THREAD_OUT)) {
			pthread_detach(m->thread);
			return;
		}
	}
	bus__thread_join(m->thread);
}
