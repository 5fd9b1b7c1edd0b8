/* mailbox/mailbox.c: opening and ending a mailbox. */
#include "mailbox/parts.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/account.h"
#include "mailbox/fail.h"
#include "mailbox/group.h"
#include "base/sized.h"

#define DEFAULT_BYTES (256u << 10)

/* --- life ------------------------------------------------------------------------------------------------ */

size_t
bus__mailbox_bytes(const struct bus_mailbox_config *cfg)
{
	return cfg->bytes != 0 ? cfg->bytes : DEFAULT_BYTES;
}

int
bus__mailbox_new(struct bus *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox *queue,
    struct bus_mailbox **ret_mbox)
{
	struct bus_mailbox *m = bus__aligned(RING_LINE, sizeof *m);
	int err;

	if (m == NULL)
		return BUS_E_NOMEM;
	m->queue = queue != NULL ? queue : m;
	m->bus = bus;
	m->fork_generation = bus__fork_generation();
	m->source = bus__source(bus);
	if (queue != NULL) {
		m->source = &bus__from_group;
		m->only = m;
	}
	/* Ring and batch have their own pages: an idle mailbox costs only its struct. */
	m->batch.bytes = bus__pages(RING_BATCH_BYTES);
	err = m->batch.bytes != NULL ? m->source->init(m, cfg) : BUS_E_NOMEM;
	if (err < 0)
		goto free_batch;
	if (pthread_mutex_init(&m->lock, NULL) != 0) {
		err = BUS_E_NOMEM;
		goto fini_source;
	}
	m->full = cfg->full;
	m->drain = cfg->drain;
	m->wake = m->drain == BUS_DRAIN_PUBLISHER ? bus__wake_publisher : bus__wake_sleeper;
	atomic_init(&m->refs, 1);
	atomic_init(&m->fd, -1);
	bus__deadlines_init(&m->deadlines);
	m->gap_ns = 2 * SPIN_MOST_NS;
	m->laters_end = &m->laters;
	m->laters_now_end = &m->laters_now;
	m->msg.size = sizeof m->msg;
	bus__ref(bus);
	bus__mailbox_list(m);
	if (m->drain == BUS_DRAIN_PUBLISHER)
		bus__ring_sleep(&m->ring); /* empty and unknown to other threads: it cannot fail */
	*ret_mbox = m;
	return 0;

fini_source:
	m->source->fini(m);
free_batch:
	bus__pages_free(m->batch.bytes, RING_BATCH_BYTES);
	bus__free(m);
	return err;
}

struct bus_mailbox *
bus__mailbox_ref(struct bus_mailbox *mbox)
{
	atomic_fetch_add_explicit(&mbox->refs, 1, memory_order_relaxed);
	return mbox;
}

void
bus__mailbox_unref(struct bus_mailbox *mbox)
{
	struct bus *bus = mbox->bus;
	int fd;

	if (atomic_fetch_sub_explicit(&mbox->refs, 1, memory_order_acq_rel) != 1)
		return;
	fd = atomic_load_explicit(&mbox->fd, memory_order_relaxed);
	if (fd >= 0)
		bus__fd_close(fd);
	bus__deadlines_fini(&mbox->deadlines);
	pthread_mutex_destroy(&mbox->lock);
	mbox->source->fini(mbox);
	bus__pages_free(mbox->batch.bytes, RING_BATCH_BYTES);
	bus__account_unref(mbox->account);
	bus__free(mbox->group);
	bus__free(mbox->walk);
	bus__free(mbox);
	bus__unref(bus);
}

/* A time beyond the log's range would count as one before 1970, and so admit everything. */
static bool
is_time_too_late(const struct bus_mailbox_config *cfg)
{
	return cfg->from == BUS_FROM_TIME && cfg->from_value > INT64_MAX;
}

static int
open_mailbox(struct bus *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox **ret_mbox)
{
	struct bus_mailbox_config all = {.size = sizeof all};
	struct bus_mailbox *m;
	int err = bus__enter(bus);

	if (err < 0)
		return err;
	if (ret_mbox == NULL)
		return BUS_E_INVAL;
	if (cfg != NULL)
		all = *cfg;
	if (all.full < BUS_FULL_DROP_OLDEST || all.full > BUS_FULL_REFUSE ||
	    all.drain < BUS_DRAIN_CALLER || all.drain > BUS_DRAIN_PUBLISHER ||
	    all.from < BUS_FROM_NOW || all.from > BUS_FROM_TIME || is_time_too_late(&all) ||
	    all.bytes > BUS__MAILBOX_MOST ||
	    (all.group != NULL && all.drain == BUS_DRAIN_PUBLISHER))
		return BUS_E_INVAL;
	err = bus__check_mailbox(bus, &all);
	if (err < 0)
		return err;
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0 && all.group != NULL)
		err = bus__group_join(bus, &all, &m);
	else if (err == 0)
		err = bus__mailbox_new(bus, &all, NULL, &m);
	bus__unlock(bus);
	if (err < 0)
		return err;
	if (all.drain == BUS_DRAIN_THREAD) {
		err = bus__mailbox_start(m);
		if (err == 0)
			err = bus__enter(
			    bus); /* it may have begun to close without seeing the thread */
	}
	if (err < 0) {
		bus_mailbox_close(m);
		return err;
	}
	*ret_mbox = m;
	return 0;
}

static int
fail_config(int err, const struct bus_mailbox_config *cfg)
{
	bool of_group = err == BUS_E_INVAL && cfg->group != NULL;

	if (cfg->full < BUS_FULL_DROP_OLDEST || cfg->full > BUS_FULL_REFUSE)
		return bus__fail(err, "full: %d is no enum bus_full", cfg->full);
	if (cfg->drain < BUS_DRAIN_CALLER || cfg->drain > BUS_DRAIN_PUBLISHER)
		return bus__fail(err, "drain: %d is no enum bus_drain", cfg->drain);
	if (cfg->from < BUS_FROM_NOW || cfg->from > BUS_FROM_TIME)
		return bus__fail(err, "from: %d is no enum bus_from", cfg->from);
	if (is_time_too_late(cfg))
		return bus__fail(err,
		    "from_value: %llu: BUS_FROM_TIME takes nanoseconds since 1970, at most 2^63 - 1 (the year 2262)",
		    (unsigned long long)cfg->from_value);
	if (cfg->bytes > BUS__MAILBOX_MOST)
		return bus__fail(err, "bytes: %zu: a mailbox has at most 1 GiB", cfg->bytes);
	if (of_group && cfg->drain == BUS_DRAIN_PUBLISHER)
		return bus__fail(err,
		    "group " BUS__SHOWN
		    ": publishers cannot drain a group: use BUS_DRAIN_CALLER or BUS_DRAIN_THREAD",
		    cfg->group);
	if (of_group)
		return bus__fail(err,
		    "group " BUS__SHOWN
		    ": its mailboxes have another full or bytes, or the name is not 1 to 64 of A-Z a-z 0-9 . _ -",
		    cfg->group);
	return bus__answer(err);
}

int
bus_mailbox_open(
    struct bus *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox **ret_mbox)
{
	struct bus_mailbox_config room;
	int err = BUS__SIZED_IN(SIZED_MAILBOX_CONFIG, cfg, &room);

	if (err < 0)
		return err;
	err = open_mailbox(bus, cfg, ret_mbox);
	if (err >= 0)
		return 0;
	if (bus == NULL)
		return bus__fail_no_bus(err);
	if (err == BUS_E_NOTSUP) /* the bus's kind has set the text */
		return err;
	return cfg != NULL && err == BUS_E_INVAL ? fail_config(err, cfg) : bus__answer(err);
}

/* --- the end --------------------------------------------------------------------------------------------- */

void
bus__mailbox_shut(struct bus_mailbox *m)
{
	m->source->shut(m);
	atomic_store_explicit(&m->closed, true, memory_order_release);
	bus__mailbox_announce_room(m); /* wakes waiting publishers: there will be no room */
	if (!m->is_peer)
		bus__mailbox_wake_drainer(m);
}

/* Messages taken out but not handled: a caller's borrowed ones. */
static void
drop_batch(struct bus_mailbox *m)
{
	if (atomic_load_explicit(&m->phase, memory_order_acquire) == 0)
		return;
	atomic_fetch_add_explicit(
	    &m->lost_closed, m->batch.count - m->handled, memory_order_relaxed);
	bus__mailbox_end_batch(m);
}

static void
empty_ring(struct bus_mailbox *m)
{
	unsigned times = 0;

	/* No new claim succeeds; those under way commit within a copy's time. */
	while (!bus__ring_empty(&m->ring)) {
		uint32_t count = m->source->take(m, PHASE_HELD, 1);

		atomic_fetch_add_explicit(&m->lost_closed, count, memory_order_relaxed);
		if (count > 0)
			bus__mailbox_end_batch(m);
		else
			bus__mailbox_give_way(m, ++times);
	}
	bus__mailbox_settle(m);
}

void
bus__mailbox_discard(struct bus_mailbox *m)
{
	drop_batch(m);
	m->source->stop(m);
	empty_ring(m);
}

void
bus__mailbox_empty(struct bus_mailbox *m)
{
	drop_batch(m);
	empty_ring(m);
}

/* Ends a receiver, and its group with the last one. */
static void
leave_group(struct bus_mailbox *m)
{
	struct bus_mailbox *group = m->queue;
	bool last;

	drop_batch(m);
	bus__lock(m->bus);
	last = bus__group_leave(m);
	bus__unlock(m->bus);
	if (last) {
		bus__mailbox_shut(group);
		bus__mailbox_discard(group);
		bus__mailbox_unlist(group);
		bus__mailbox_unref(group);
	}
}

void
bus__mailbox_finish(struct bus_mailbox *m)
{
	if (!atomic_load_explicit(&m->ended, memory_order_acquire) ||
	    atomic_exchange_explicit(&m->finished, true, memory_order_acq_rel))
		return;
	if (bus__is_receiver(m)) {
		leave_group(m);
		return;
	}
	bus__mailbox_discard(m);
	bus__requests_tell(m);
	bus__mailbox_unlist(m);
}

void
bus__mailbox_end(struct bus_mailbox *m, bool wait)
{
	struct bus *bus = bus__ref(m->bus);

	wait = wait && !bus__in_callback();
	if (bus__is_receiver(m)) {
		/* It finishes the message it has begun, if the caller can wait; the rest is for the other receivers. */
		bus__group_retire(m);
		if (wait)
			bus__mailbox_await_callback(m);
	}
	bus__mailbox_shut(m);
	bus__mailbox_end_delivery(m);
	bus__lock(bus);
	while (m->subs != NULL)
		bus__sub_remove(bus, m->subs);
	bus__requests_end(m);
	bus__unlock(bus);
	if (m->drain == BUS_DRAIN_THREAD) {
		bus__mailbox_stop(m, wait ? INT64_MAX : 0);
		/* bus_close() may have abandoned it; then it finishes by itself. */
		while (wait && atomic_load_explicit(&m->thread_done, memory_order_acquire) == 0)
			bus__park(&m->thread_done, 0, INT64_MAX);
		if (atomic_load_explicit(&m->thread_done, memory_order_acquire) != 0)
			bus__mailbox_finish(m);
	} else {
		/* A call that is inside leaves soon, unless in a callback; inside callbacks, that call finishes the mailbox. */
		while (atomic_exchange_explicit(&m->busy, true, memory_order_acq_rel)) {
			if (!wait)
				goto unref;
			bus__park(&m->phase_wakes,
			    atomic_load_explicit(&m->phase_wakes, memory_order_acquire),
			    bus__now_ns() + NAP_NS);
		}
		bus__mailbox_finish(m);
		atomic_exchange_explicit(&m->busy, false, memory_order_acq_rel);
	}
unref:
	bus__mailbox_unref(m);
	bus__unref(bus);
}

void
bus_mailbox_close(struct bus_mailbox *m)
{
	if (m != NULL && m->fork_generation == bus__fork_generation())
		bus__mailbox_end(m, true);
}
