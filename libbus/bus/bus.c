/* bus/bus.c: a bus's opening, lock and end. */
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/random.h"
#include "base/thread.h"
#include "bus/bus_internal.h"
#include "bus/peer.h"
#include "bus/fail.h"
#include "bus/keep.h"
#include "base/sized.h"

#define DEFAULT_TOPICS  1000000
#define DEFAULT_PAYLOAD (1u << 20)
#define MOST_CLOSE_MS   60000
#define COPY_NS         INT64_C(20000000) /* the same, for publishes that are in the middle of a copy */
#define SOON_NS         INT64_C(1000000) /* for a publisher that lost its CPU */
#define NAP_NS          100000
#define ALL_STRIPES     ((1u << STRIPES) - 1)

/* --- stripes ---------------------------------------------------------------------------------------------- */

struct stripe *
bus__read_begin(struct bus *bus)
{
	/* Stacks differ between threads: a first guess, by the upper bits of a product (Fibonacci hashing). */
	uint64_t stack = (uintptr_t)__builtin_frame_address(0) >> 16;
	size_t i = (size_t)(stack * UINT64_C(0x9E3779B97F4A7C15) >> 60);

	for (;; i++) {
		struct stripe *stripe = &bus->stripes[i % STRIPES];

		/* Acquire: pairs with the release of grace(), after which memory unlinked before is freed. */
		if (atomic_load_explicit(&stripe->busy, memory_order_relaxed) == 0 &&
		    atomic_exchange_explicit(&stripe->busy, 1, memory_order_acquire) == 0)
			return stripe;
	}
}

void
bus__read_end(struct stripe *stripe)
{
	atomic_store_explicit(&stripe->busy, 0, memory_order_release);
}

static void
nap(void)
{
	_Atomic uint32_t word = 0;

	bus__park(&word, 0, bus__now_ns() + NAP_NS);
}

/* Whether every reader that may have seen unlinked memory is done: clears each stripe in *waiting once it was free. Waits until the
 * deadline. A reader holds a stripe for one publish, in which no callback runs; but a page fault on its payload, a debugger or a
 * signal handler may stop its thread. */
static bool
grace(struct bus *bus, uint32_t *waiting, int64_t deadline_ns)
{
	int64_t begun_ns = 0, now_ns;
	unsigned looks = 0;

	for (unsigned i = 0; i < STRIPES; i++) {
		if (!(*waiting & 1u << i))
			continue;
		while (
		    atomic_exchange_explicit(&bus->stripes[i].busy, 1, memory_order_acq_rel) != 0) {
			if (++looks % 64 != 0)
				continue;
			now_ns = bus__now_ns();
			begun_ns = begun_ns != 0 ? begun_ns : now_ns;
			if (now_ns >= deadline_ns)
				return false;
			if (now_ns - begun_ns < SOON_NS)
				sched_yield();
			else
				nap();
		}
		bus__read_end(&bus->stripes[i]);
		*waiting &= ~(1u << i);
	}
	return true;
}

/* --- the lock --------------------------------------------------------------------------------------------- */

void
bus__lock(struct bus *bus)
{
	pthread_mutex_lock(&bus->lock);
}

/* Garbage that a stopped publisher may still read stays for the next unlock, so that no thread waits for it under the lock. */
static void
free_garbage(struct bus *bus)
{
	uint32_t waiting = ALL_STRIPES;

	if (bus->garbage_snapshots == NULL && bus->garbage_topics == NULL &&
	    bus->garbage_slots == NULL)
		return;
	/* Wait once per stopped publisher, not at each unlock. */
	bus->held_up = !grace(bus, &waiting, bus->held_up ? 0 : bus__now_ns() + SOON_NS);
	if (bus->held_up)
		return;
	while (bus->garbage_snapshots != NULL) {
		struct snapshot *snapshot = bus->garbage_snapshots;

		bus->garbage_snapshots = snapshot->next_garbage;
		bus__snapshot_unref(snapshot);
	}
	while (bus->garbage_topics != NULL) {
		struct topic *topic = bus->garbage_topics;

		bus->garbage_topics = topic->next_garbage;
		bus__snapshot_unref(
		    atomic_exchange_explicit(&topic->routes, NULL, memory_order_relaxed));
		bus__topic_unref(topic);
	}
	while (bus->garbage_slots != NULL) {
		struct topic_slots *slots = bus->garbage_slots;

		bus->garbage_slots = slots->next_garbage;
		bus__free(slots);
	}
}

void
bus__unlock_only(struct bus *bus)
{
	free_garbage(bus);
	pthread_mutex_unlock(&bus->lock);
}

void
bus__unlock(struct bus *bus)
{
	free_garbage(bus);
	for (;;) {
		struct bus_mailbox *m = bus->unsettled, *owed = bus->owed;

		if (m != NULL) {
			bus->unsettled = m->next_unsettled == m ? NULL : m->next_unsettled;
			m->next_unsettled = NULL;
		}
		bus->owed = NULL;
		pthread_mutex_unlock(&bus->lock);
		if (m == NULL && owed == NULL)
			return;
		/* Deferred work may call the user's done(), and a mailbox its callbacks: no lock may be held. */
		if (m != NULL) {
			bus__mailbox_settle(m);
			bus__mailbox_unref(m);
		}
		bus__mailbox_drain_owed(owed);
		pthread_mutex_lock(&bus->lock);
	}
}

/* --- life --------------------------------------------------------------------------------------------------- */

static int
init_locks(struct bus *bus)
{
	if (pthread_mutex_init(&bus->lock, NULL) != 0)
		return BUS_E_NOMEM;
	for (unsigned i = 0; i < KEEP_LOCKS; i++)
		if (pthread_mutex_init(&bus->keep_locks[i], NULL) != 0)
			return BUS_E_NOMEM; /* on Linux it does not fail; nothing to undo */
	return 0;
}

/* Closed buses that a stopped publisher may still read. The list has no lock, since a process may fork while it changes. */
static struct bus *_Atomic left_behind;

/* Waits for publishers that were inside when the bus began to close. A stopped one keeps the bus; the next open or close of
 * another bus frees it. */
static void
end(struct bus *bus, int64_t deadline_ns)
{
	if (!grace(bus, &bus->waiting, deadline_ns)) {
		bus->next_left = atomic_load_explicit(&left_behind, memory_order_relaxed);
		/* Release: pairs with the acquire of the thread that takes the list. */
		while (!atomic_compare_exchange_weak_explicit(
		    &left_behind, &bus->next_left, bus, memory_order_release, memory_order_relaxed))
			;
		return;
	}
	bus__lock(bus);
	bus->held_up = false; /* no reader is left: free all garbage */
	bus__unlock(bus);
	bus__unref(bus);
}

/* Ends the closed buses whose publishers are done. A child leaves its parent's alone. */
static void
end_left_behind(void)
{
	struct bus *bus, *next;

	if (atomic_load_explicit(&left_behind, memory_order_relaxed) == NULL)
		return;
	bus = atomic_exchange_explicit(&left_behind, NULL, memory_order_acquire);
	for (; bus != NULL; bus = next) {
		next = bus->next_left;
		if (bus->fork_generation == bus__fork_generation())
			end(bus, 0);
	}
}

static int
open_bus(const char *name, const struct bus_config *cfg, struct bus **ret_bus)
{
	struct bus *bus;
	int err;

	if (ret_bus == NULL || (cfg != NULL && cfg->max_payload > BUS__PAYLOAD_MOST))
		return BUS_E_INVAL;
	err = bus__fork_watch();
	if (err < 0)
		return err;
	end_left_behind();
	bus = bus__aligned(RING_LINE, sizeof *bus);
	if (bus == NULL)
		return BUS_E_NOMEM;
	bus->fork_generation = bus__fork_generation();
	atomic_init(&bus->open_in, bus->fork_generation);
	bus->max_topics = cfg != NULL && cfg->max_topics != 0 ? cfg->max_topics : DEFAULT_TOPICS;
	bus->max_payload =
	    cfg != NULL && cfg->max_payload != 0 ? cfg->max_payload : DEFAULT_PAYLOAD;
	atomic_init(&bus->refs, 1);
	bus->waiting = ALL_STRIPES;
	err = init_locks(bus);
	if (err == 0)
		err = bus__marks_init(&bus->marks, bus->max_topics);
	if (err == 0)
		err = bus__inbox_init(&bus->inbox);
	if (err == 0)
		err = bus__random(bus->key, sizeof bus->key);
	if (err == 0)
		err = bus__random(bus->id, sizeof bus->id);
	if (err < 0)
		goto free_bus;
	err = bus__trie_init(&bus->trie, bus->key);
	if (err < 0)
		goto free_bus;
	err = bus__topics_init(&bus->topics);
	if (err < 0)
		goto fini_trie;
	bus->kind = name != NULL ? &bus__named_kind : &bus__private_kind;
	err = bus->kind->open(bus, name, cfg);
	if (err < 0)
		goto fini_topics;
	*ret_bus = bus;
	return 0;

fini_topics:
	bus__topics_fini(bus);
fini_trie:
	bus__trie_fini(&bus->trie);
free_bus:
	bus__free(bus);
	return err;
}

int
bus_open(const char *name, const struct bus_config *cfg, struct bus **ret_bus)
{
	struct bus_config room;
	struct bus_msg will_room;
	int err = BUS__SIZED_IN(SIZED_CONFIG, cfg, &room);

	if (err == 0 && cfg != NULL) {
		room = *cfg;
		cfg = &room;
		err = BUS__SIZED_IN(SIZED_MSG, room.will, &will_room);
	}
	if (err < 0)
		return err;
	err = open_bus(name, cfg, ret_bus);
	return err < 0 ? bus__fail_open(err, name, cfg) : 0;
}

struct bus *
bus__ref(struct bus *bus)
{
	atomic_fetch_add_explicit(&bus->refs, 1, memory_order_relaxed);
	return bus;
}

void
bus__unref(struct bus *bus)
{
	if (atomic_fetch_sub_explicit(&bus->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (bus->links != NULL)
		bus->hooks->free(bus->links);
	bus__topics_fini(bus);
	bus__keep_filters_free(bus);
	bus__trie_fini(&bus->trie);
	for (unsigned i = 0; i < STRIPES; i++)
		bus__pool_close(bus->stripes[i].pool);
	bus__pool_close(bus->links_pool);
	bus__inbox_fini(&bus->inbox);
	bus->kind->fini(bus);
	for (unsigned i = 0; i < KEEP_LOCKS; i++)
		pthread_mutex_destroy(&bus->keep_locks[i]);
	bus__marks_fini(&bus->marks);
	pthread_mutex_destroy(&bus->lock);
	bus__free(bus);
}

int
bus__enter(const struct bus *bus)
{
	if (bus == NULL)
		return BUS_E_INVAL;
	if (bus->fork_generation != bus__fork_generation())
		return BUS_E_FORKED;
	return bus__is_open(bus) ? 0 : BUS_E_CLOSED;
}

uint32_t
bus__max_payload(const struct bus *bus)
{
	return bus->max_payload;
}

const uint8_t *
bus__id(const struct bus *bus)
{
	return bus->id;
}

int
bus__check_mailbox(const struct bus *bus, const struct bus_mailbox_config *cfg)
{
	return bus->kind->check_mailbox(cfg);
}

const struct source *
bus__source(const struct bus *bus)
{
	return bus->kind->source;
}

void
bus__mailbox_list(struct bus_mailbox *m)
{
	struct bus *bus = m->bus;

	m->number = m->queue != m ? m->queue->number : ++bus->last_mailbox;
	m->next = bus->mailboxes;
	if (m->next != NULL)
		m->next->prev = m;
	bus->mailboxes = m;
}

struct bus_mailbox *
bus__group_of(const struct bus *bus, const char *name)
{
	struct bus_mailbox *m = bus->mailboxes;

	while (m != NULL && (m->group == NULL || strcmp(m->group, name) != 0))
		m = m->next;
	return m;
}

void
bus__mailbox_unsettle(struct bus_mailbox *m)
{
	struct bus *bus = m->bus;

	if (m->next_unsettled != NULL)
		return;
	m->next_unsettled = bus->unsettled != NULL ? bus->unsettled : m;
	bus->unsettled = bus__mailbox_ref(m);
}

void
bus__mailbox_unlist_locked(struct bus_mailbox *m)
{
	struct bus *bus = m->bus;

	if (m->prev != NULL)
		m->prev->next = m->next;
	else
		bus->mailboxes = m->next;
	if (m->next != NULL)
		m->next->prev = m->prev;
	bus__mailbox_add_stats(m, UINT64_MAX, &bus->ended);
}

void
bus__mailbox_unlist(struct bus_mailbox *m)
{
	bus__lock(m->bus);
	bus__mailbox_unlist_locked(m);
	bus__unlock(m->bus);
}

/* Shuts all mailboxes and lets those with a thread finish. The objects live on until their own close. */
static void
end_mailboxes(struct bus *bus, int64_t deadline_ns)
{
	/* Those without a thread in one pass: the loop below starts anew each time. */
	bus__lock(bus);
	for (struct bus_mailbox *m = bus->mailboxes; m != NULL; m = m->next)
		if (!atomic_load_explicit(&m->has_thread, memory_order_relaxed) && !m->is_group) {
			bus__mailbox_shut(m);
			bus__mailbox_end_delivery(
			    m); /* messages that a call has taken out count as lost */
		}
	bus__unlock(bus);
	for (;;) {
		struct bus_mailbox *m;

		bus__lock(bus);
		for (m = bus->mailboxes; m != NULL; m = m->next)
			if (!atomic_load_explicit(&m->closed, memory_order_relaxed))
				break; /* a group after its receivers, which are newer */
		if (m != NULL)
			bus__mailbox_ref(m);
		bus__unlock(bus);
		if (m == NULL)
			return;
		bus__mailbox_shut(m);
		bus__mailbox_stop(m, deadline_ns);
		bus__mailbox_unref(m);
	}
}

/* The counters of all mailboxes, past and present. Bus lock. */
static void
sum_stats(const struct bus *bus, struct bus_stats *ret_stats)
{
	*ret_stats = bus->ended;
	ret_stats->size = sizeof *ret_stats;
	ret_stats->late_replies = atomic_load_explicit(&bus->inbox.late, memory_order_relaxed);
	for (struct bus_mailbox *m = bus->mailboxes; m != NULL; m = m->next)
		bus__mailbox_add_stats(m, UINT64_MAX, ret_stats);
}

int
bus_close(struct bus *bus, int timeout_ms)
{
	struct bus_stats before, after;
	int64_t deadline_ns, now_ns;
	uint64_t left;

	if (bus == NULL)
		return 0;
	if (bus->fork_generation != bus__fork_generation())
		return bus__answer(BUS_E_FORKED);
	if (bus__in_callback())
		return bus__answer(BUS_E_STATE);
	if (timeout_ms < 0 || timeout_ms > MOST_CLOSE_MS)
		timeout_ms = MOST_CLOSE_MS;
	deadline_ns = bus__deadline_ns(timeout_ms);
	end_left_behind();
	bus__lock(bus);
	if (atomic_exchange_explicit(&bus->open_in, NEVER, memory_order_acq_rel) == NEVER) {
		bus__unlock(bus);
		return bus__answer(BUS_E_CLOSED);
	}
	sum_stats(bus, &before);
	bus__unlock(bus);
	bus__flush_peers(bus, deadline_ns);
	if (bus__links_of(bus) != NULL)
		bus->hooks->close(bus->links, deadline_ns);
	end_mailboxes(bus, deadline_ns);
	bus->kind->leave(bus, deadline_ns);
	bus__inbox_close(bus);
	bus__lock(bus);
	sum_stats(bus, &after);
	bus__unlock(bus);
	left = after.pending + after.lost[BUS_LOSS_CLOSED] - before.lost[BUS_LOSS_CLOSED];
	if (bus->default_mbox != NULL)
		bus__mailbox_end(bus->default_mbox, false);
	bus__lock(bus);
	bus__topics_unroute(bus);
	bus__unlock(bus);
	now_ns = bus__now_ns();
	end(bus, deadline_ns > now_ns + COPY_NS ? deadline_ns : now_ns + COPY_NS);
	return left > INT32_MAX ? INT32_MAX : (int)left;
}

int
bus_stats(struct bus *bus, struct bus_stats *ret_stats)
{
	struct bus_stats stats;
	int err = bus__enter(bus);

	if (err < 0 || ret_stats == NULL)
		return bus__answer(err < 0 ? err : BUS_E_INVAL);
	err = bus__sized_check(&bus__sized[SIZED_STATS], ret_stats->size);
	if (err < 0)
		return err;
	bus__lock(bus);
	sum_stats(bus, &stats);
	bus__unlock(bus);
	bus__sized_write(&bus__sized[SIZED_STATS], &stats, ret_stats);
	return 0;
}
