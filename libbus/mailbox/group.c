#include "mailbox/group.h"

#include <string.h>

#include "base/mem.h"
#include "base/park.h"
#include "mailbox/parts.h"
#include "mailbox/source.h"

static bool
is_name(const char *name)
{
	size_t len =
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return name[len] == '\0' && len > 0 && len <= GROUP_NAME_MOST;
}

static int
make(struct bus *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox **ret_group)
{
	/* It has no drainer. */
	const struct bus_mailbox_config shared = {.size = sizeof shared,
	    .full = cfg->full,
	    .drain = BUS_DRAIN_CALLER,
	    .bytes = cfg->bytes};
	size_t size = strlen(cfg->group) + 1;
	struct bus_mailbox *group;
	int err = bus__mailbox_new(bus, &shared, NULL, &group);

	if (err < 0)
		return err;
	group->group = bus__malloc(size);
	if (group->group == NULL) {
		bus__mailbox_unlist_locked(group);
		bus__mailbox_unref(group);
		return BUS_E_NOMEM;
	}
	memcpy(group->group, cfg->group, size);
	group->is_group = true;
	group->wake = bus__wake_receiver;
	*ret_group = group;
	return 0;
}

/* Ends the name: the next open with it makes a new group. */
static void
forget_name(struct bus_mailbox *group)
{
	bus__free(group->group);
	group->group = NULL;
}

int
bus__group_join(
    struct bus *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox **ret_receiver)
{
	struct bus_mailbox *group, *receiver;
	int err = 0;

	if (!is_name(cfg->group))
		return BUS_E_INVAL;
	group = bus__group_of(bus, cfg->group);
	if (group == NULL)
		err = make(bus, cfg, &group);
	else if (group->full != cfg->full ||
		 group->ring.size != bus__ring_bytes(bus__mailbox_bytes(cfg)))
		err = BUS_E_INVAL;
	if (err < 0)
		return err;
	err = bus__mailbox_new(bus, cfg, group, &receiver);
	if (err < 0) {
		if (group->receivers == NULL) {
			forget_name(group);
			bus__mailbox_unlist_locked(group);
			bus__mailbox_unref(group);
		}
		return err;
	}
	bus__ring_lock(&group->ring);
	receiver->next_receiver = group->receivers;
	group->receivers = receiver;
	bus__ring_unlock(&group->ring);
	*ret_receiver = receiver;
	return 0;
}

static void
hand_over(_Atomic uint64_t *to, const _Atomic uint64_t *from)
{
	atomic_store_explicit(to,
	    atomic_load_explicit(to, memory_order_relaxed) +
		atomic_load_explicit(from, memory_order_relaxed),
	    memory_order_relaxed);
}

bool
bus__group_leave(struct bus_mailbox *receiver)
{
	struct bus_mailbox *group = receiver->queue, **at = &group->receivers;
	bool last;

	/* In one step for readers that add them up, which take the head lock. */
	bus__ring_lock(&group->ring);
	while (*at != receiver)
		at = &(*at)->next_receiver;
	*at = receiver->next_receiver;
	hand_over(&group->delivered, &receiver->delivered);
	hand_over(&group->expired, &receiver->expired);
	hand_over(&group->unsubscribed, &receiver->unsubscribed);
	hand_over(&group->lost_closed, &receiver->lost_closed);
	last = group->receivers == NULL;
	bus__ring_unlock(&group->ring);
	bus__mailbox_unlist_locked(receiver);
	if (last)
		forget_name(group);
	return last;
}

void
bus__group_count(struct bus_sub *sub, bool begins)
{
	struct bus_mailbox *receiver = sub->mbox;

	if (!bus__is_receiver(receiver) || sub->counted == begins)
		return;
	sub->counted = begins;
	if (begins) {
		if (atomic_fetch_add_explicit(&receiver->subs_count, 1, memory_order_relaxed) == 0)
			bus__mailbox_wake_all(receiver);
	} else if (atomic_fetch_sub_explicit(&receiver->subs_count, 1, memory_order_relaxed) == 1) {
		bus__mailbox_wake_all(
		    receiver
			->queue); /* it may have been woken for messages that it no longer takes */
	}
}

void
bus__group_retire(struct bus_mailbox *receiver)
{
	struct ring *ring = &receiver->queue->ring;

	/* Under the head lock: either it has a batch by now, or it will get none. */
	bus__ring_lock(ring);
	atomic_store_explicit(&receiver->retired, true, memory_order_relaxed);
	bus__ring_unlock(ring);
	bus__mailbox_wake_all(receiver->queue);
}

bool
bus__group_takes(const struct bus_mailbox *receiver)
{
	return atomic_load_explicit(&receiver->subs_count, memory_order_relaxed) > 0 &&
	       !atomic_load_explicit(&receiver->retired, memory_order_relaxed);
}

/* Called by a receiver that has taken a message: makes sure that another receiver takes the next one. */
static void
pass_on(struct bus_mailbox *group)
{
	if (atomic_load_explicit(&group->parked, memory_order_relaxed) == 0 &&
	    atomic_load_explicit(&group->fd, memory_order_relaxed) < 0)
		return;
	/* The next claim wakes a receiver, unless it has been made already. */
	if (!bus__ring_sleep(&group->ring))
		group->wake(group, NULL);
}

/* false: the deadline has passed. */
static bool
sleep_on(struct bus_mailbox *receiver, _Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
	int woken = bus__park(word, seen, deadline_ns);

	receiver->interrupted = woken == BUS__INTERRUPTED;
	return woken != BUS_E_TIMEDOUT;
}

/* Only a subscription, its end, or the deadline wakes it. */
static bool
rest_aside(struct bus_mailbox *receiver, int64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&receiver->wakes, memory_order_acquire);

	if (bus__group_takes(receiver))
		return true;
	if (deadline_ns == 0 || bus__mailbox_has_to_leave(receiver))
		return false;
	return sleep_on(receiver, &receiver->wakes, seen, deadline_ns);
}

static bool
rest_in_group(struct bus_mailbox *receiver, int64_t deadline_ns)
{
	struct bus_mailbox *group = receiver->queue;
	uint32_t seen = atomic_load_explicit(&group->wakes, memory_order_acquire);
	bool woken = true;

	if (!bus__group_takes(receiver))
		return rest_aside(receiver, deadline_ns);
	atomic_fetch_add_explicit(&group->parked, 1, memory_order_relaxed);
	/* Clear the fd first: the thread that ends the sleep makes it readable afterwards. */
	bus__mailbox_clear_fd(group);
	if (!bus__ring_fall_asleep(&group->ring))
		bus__mailbox_signal_fd(group);
	else if (deadline_ns == 0 || bus__mailbox_has_to_leave(receiver))
		woken = false;
	else
		woken = sleep_on(receiver, &group->wakes, seen, deadline_ns);
	atomic_fetch_sub_explicit(&group->parked, 1, memory_order_relaxed);
	return woken;
}

uint64_t
bus__group_handled(const struct bus_mailbox *group)
{
	uint64_t position = bus__ring_out(&group->ring);

	for (const struct bus_mailbox *m = group->receivers; m != NULL; m = m->next_receiver)
		if (atomic_load_explicit(&m->phase, memory_order_acquire) != 0 &&
		    m->batch.begin < position)
			position = m->batch.begin;
	return position;
}

/* --- the source ------------------------------------------------------------------------------------------------ */

/* One message, so that the next goes to another receiver; with one look, since others wait for the head lock. */
static uint32_t
take(struct bus_mailbox *receiver, unsigned phase, unsigned looks)
{
	struct bus_mailbox *group = receiver->queue;
	uint32_t count;

	(void)looks;
	bus__ring_lock(&group->ring);
	if (!bus__group_takes(receiver)) {
		bus__ring_unlock(&group->ring);
		return 0;
	}
	count = bus__mailbox_take_frames(receiver, phase, 1, 1);
	if (count > 0)
		pass_on(group);
	return count;
}

/* A receiver handles the message it has taken before it signals: a close waits for exactly that. */
static bool
run(struct bus_mailbox *receiver, uint32_t end)
{
	if (receiver->handled < end) {
		receiver->handled++;
		bus__mailbox_call_any(receiver);
	}
	return false;
}

static bool
is_empty(struct bus_mailbox *receiver)
{
	return bus__ring_empty(&receiver->queue->ring) || !bus__group_takes(receiver);
}

static int
init(struct bus_mailbox *receiver, const struct bus_mailbox_config *cfg)
{
	(void)cfg;
	bus__mailbox_ref(receiver->queue);
	return 0;
}

static void
fini(struct bus_mailbox *receiver)
{
	bus__mailbox_unref(receiver->queue);
}

const struct source bus__from_group = {
    .take = take,
    .next = bus__ring_only_next,
    .run = run,
    .keep = bus__ring_only_nothing,
    .done = bus__ring_only_nothing,
    .look = bus__ring_only_look,
    .idle = bus__ring_only_idle,
    .rest = rest_in_group,
    .has_read_for = bus__ring_only_has_read_for,
    .is_empty = is_empty,
    .error = bus__ring_only_error,
    .version = bus__ring_only_version,
    .see_run = bus__ring_only_see_run,
    .leave = bus__ring_only_nothing,
    .peer_rests = bus__ring_only_nothing,
    .park = bus__ring_only_nothing,
    .unpark = bus__ring_only_unpark,
    .stir = bus__ring_only_nothing,
    .begin_poll = bus__ring_only_begin_poll,
    .is_quiet = bus__ring_only_is_quiet,
    .mark = bus__ring_only_mark,
    .has_passed = bus__ring_only_has_passed,
    .behind = bus__ring_only_behind,
    .progress = bus__ring_only_progress,
    .init = init,
    .fini = fini,
    .shut = bus__ring_only_nothing,
    .stop = bus__ring_only_nothing,
};
