/* bus/sub.c: a filter bound to a mailbox. */
#include <string.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/peer.h"
#include "bus/fail.h"
#include "mailbox/group.h"
#include "topic/name.h"
#include "bus/notice.h"

static void
free_sub(struct later *later)
{
	struct bus_sub *sub = (struct bus_sub *)later;

	if (sub->charge != 0)
		bus__account_sub(sub->mbox->account, sub->charge);
	bus__mailbox_unref(sub->mbox);
	bus__free(sub);
}

/* Frees a subscription behind the frames that may name it. Bus lock. */
static void
free_later(struct bus_sub *sub)
{
	sub->later.run = free_sub;
	sub->later.position = bus__ring_tail(&sub->mbox->queue->ring) & ~RING_FLAG_BITS;
	bus__mailbox_later(sub->mbox->queue, &sub->later);
}

static void
call_done(struct later *later)
{
	struct bus_sub *sub = (struct bus_sub *)later;
	struct bus *bus = bus__ref(sub->mbox->bus);

	bus__run_as_callback(sub->done, sub->arg);
	/* Free the memory only now, even if another thread runs the deferred work. */
	bus__lock(bus);
	free_later(sub);
	bus__unlock(bus);
	bus__unref(bus);
}

static void
link_sub(struct bus_sub *sub, struct node *node)
{
	struct bus_mailbox *mbox = sub->mbox;

	struct bus_sub *first = node->subs;

	sub->node = node;
	/* At the end: the last subscription stands before the first. */
	if (first != NULL) {
		sub->prev_at_node = first->prev_at_node;
		first->prev_at_node->next_at_node = sub;
		first->prev_at_node = sub;
	} else {
		sub->prev_at_node = node->subs = sub;
	}
	sub->next_in_mbox = mbox->subs;
	if (mbox->subs != NULL)
		mbox->subs->prev_in_mbox = sub;
	mbox->subs = sub;
}

static void
unlink_sub(struct bus_sub *sub)
{
	struct bus_sub *first = sub->node->subs;

	if (sub->next_at_node != NULL)
		sub->next_at_node->prev_at_node = sub->prev_at_node;
	else
		first->prev_at_node = sub->prev_at_node;
	if (sub == first)
		sub->node->subs = sub->next_at_node;
	else
		sub->prev_at_node->next_at_node = sub->next_at_node;
	if (sub->prev_in_mbox != NULL)
		sub->prev_in_mbox->next_in_mbox = sub->next_in_mbox;
	else
		sub->mbox->subs = sub->next_in_mbox;
	if (sub->next_in_mbox != NULL)
		sub->next_in_mbox->prev_in_mbox = sub->prev_in_mbox;
	sub->node = NULL;
}

/* Tells links that this filter became wanted or unwanted. */
static void
tell_links(struct bus *bus, const char *filter, bool wanted)
{
	if (bus->hooks == NULL || bus->kind->hears_all)
		return;
	if (filter[0] == '$') /* of this bus alone */
		return;
	bus->hooks->filter_changed(bus->links, filter, wanted);
}

/* Topics that begin with $ stay on this bus; links carry the others. */
static void
count_carried(const struct bus_sub *sub, const struct node *node, int change)
{
	char filter[BUS_LIMIT_TOPIC_BYTES + 1];

	bus__trie_name(node, filter);
	if (filter[0] != '$' && !sub->mbox->is_peer)
		atomic_fetch_add_explicit(
		    &sub->mbox->queue->carried_subs, (uint32_t)change, memory_order_relaxed);
}

/* The bytes charged to a peer for a filter: the subscription, its levels, and the link's state for it. */
static int
pay(struct bus_sub *sub, const char *filter)
{
	struct bus__account *account = sub->mbox->account;

	if (account == NULL)
		return 0;
	sub->charge = (uint32_t)(bus__held(sizeof *sub) + bus__trie_bytes(filter) +
				 bus__held(strlen(filter) + 1) + 64);
	bus__account_add(account, sub->charge);
	return bus__account_is_over(account) ? BUS_E_LIMIT : 0;
}

struct joining {
	struct bus *bus;
	struct bus_sub *sub;
	struct prepared prepared;
	int err;
};

static void
prepare(void *arg, struct topic *topic)
{
	struct joining *j = arg;

	if (j->err == 0)
		j->err = bus__topic_prepare(topic, j->sub->mbox->queue, &j->prepared);
}

static void
join(void *arg, struct topic *topic)
{
	struct joining *j = arg;

	if (j->err == 0)
		j->err = bus__topic_join(j->bus, topic, j->sub, &j->prepared);
}

static void
leave(void *arg, struct topic *topic)
{
	struct joining *j = arg;

	bus__topic_leave(j->bus, topic, j->sub);
}

void
bus__sub_remove(struct bus *bus, struct bus_sub *sub)
{
	char filter[BUS_LIMIT_TOPIC_BYTES + 1];
	struct joining j = {.bus = bus, .sub = sub};
	struct node *node = sub->node;

	bus->kind->unlist_sub(bus, sub);
	bus__group_count(sub, false);
	count_carried(sub, node, -1);
	atomic_fetch_or_explicit(&sub->mute, MUTE_DEAD, memory_order_relaxed);
	bus__trie_name(node, filter);
	bus__trie_match_filter(&bus->trie, filter, leave, &j);
	unlink_sub(sub);
	if (bus__is_notice_filter(filter))
		atomic_fetch_sub_explicit(&bus->watched, 1, memory_order_relaxed);
	if (!sub->mbox->is_peer && --node->wanted == 0)
		tell_links(bus, filter, false);
	bus__trie_prune(&bus->trie, node);
	if (!sub->owned)
		free_later(sub);
}

/* Bus lock. */
static int
subscribe(struct bus *bus, struct bus_mailbox *mbox, const char *filter, bus_msg_fn fn, void *arg,
    struct bus_sub **ret_sub)
{
	struct bus_sub *sub = bus__calloc(1, sizeof *sub);
	struct joining j = {.bus = bus, .sub = sub};
	struct node *node = NULL;
	int err;

	if (sub == NULL)
		return BUS_E_NOMEM;
	/* Before other threads can find it: topics made from now on are joined below, as all others. */
	err = bus->kind->begin_sub(mbox, sub, filter);
	if (err == 0) {
		node = bus__trie_make(&bus->trie, filter);
		if (node == NULL)
			bus->kind->joined(mbox);
	}
	if (node == NULL) {
		bus__free(sub);
		return err < 0 ? err : BUS_E_NOMEM;
	}
	sub->mbox = bus__mailbox_ref(mbox);
	sub->order = ++bus->next_order;
	sub->fn = fn;
	sub->arg = arg;
	atomic_init(&sub->mute, fn != NULL ? 0 : MUTE_RECV);
	sub->since_s = (uint32_t)(bus__now_ns() / 1000000000);
	link_sub(sub, node);
	count_carried(sub, node, 1);
	if (bus__is_notice_filter(filter))
		atomic_fetch_add_explicit(&bus->watched, 1, memory_order_relaxed);
	if (!mbox->is_peer && node->wanted++ == 0)
		tell_links(bus, filter, true);
	j.err = pay(sub, filter);
	if (j.err == 0)
		bus__trie_match_filter(&bus->trie, filter, prepare, &j);
	if (j.err == 0)
		bus__trie_match_filter(&bus->trie, filter, join, &j);
	bus->kind->joined(mbox);
	bus__topic_unprepare(&j.prepared);
	if (j.err < 0) {
		bus__sub_remove(bus, sub);
		return j.err;
	}
	bus->kind->list_sub(bus, sub, filter);
	bus__group_count(sub, true);
	if (ret_sub != NULL) {
		sub->owned = true;
		*ret_sub = sub;
	}
	return 0;
}

static int
default_mailbox(struct bus *bus, struct bus_mailbox **ret_mbox)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .full = BUS_FULL_DROP_OLDEST, .drain = BUS_DRAIN_THREAD};
	int err = 0;

	if (bus->default_mbox == NULL) {
		struct bus_mailbox *mbox;

		err = bus__mailbox_new(bus, &cfg, NULL, &mbox);
		if (err < 0)
			return err;
		err = bus__mailbox_start(mbox);
		if (err < 0) {
			bus__mailbox_unlist_locked(mbox);
			bus__mailbox_unref(mbox);
			return err;
		}
		bus->default_mbox = mbox;
	}
	*ret_mbox = bus->default_mbox;
	return err;
}

int
bus_subscribe(
    struct bus *bus, const char *filter, bus_msg_fn fn, void *arg, struct bus_sub **ret_sub)
{
	struct bus_mailbox *mbox;
	size_t len;
	int err = bus__enter(bus);

	if (err == 0)
		err = bus__filter_check(filter, &len);
	if (err < 0)
		return bus__fail_publish(bus, err, filter, 0);
	if (fn == NULL)
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN ": fn is NULL: pass a callback, or use a mailbox of your own",
		    filter);
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0)
		err = default_mailbox(bus, &mbox);
	if (err == 0)
		err = subscribe(bus, mbox, filter, fn, arg, ret_sub);
	bus__unlock(bus);
	bus__heed(bus);
	return err < 0 ? bus__fail_name(err, filter) : 0;
}

int
bus_mailbox_subscribe(struct bus_mailbox *mbox, const char *filter, bus_msg_fn fn, void *arg,
    struct bus_sub **ret_sub)
{
	size_t len;
	int err;

	if (mbox == NULL)
		return bus__fail(
		    BUS_E_INVAL, "the mailbox is NULL: open one with bus_mailbox_open()");
	err = bus__enter(mbox->bus);
	if (err == 0)
		err = bus__filter_check(filter, &len);
	if (err < 0)
		return bus__fail_name(err, filter);
	if (fn == NULL && mbox->drain != BUS_DRAIN_CALLER)
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN ": fn is NULL: pass a callback, or let the caller drain the mailbox",
		    filter);
	/* Notices are published where no callback may run. */
	if (mbox->drain == BUS_DRAIN_PUBLISHER && bus__is_notice_filter(filter))
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN
		    ": a mailbox drained by its publishers takes no $bus/ filter: drain it otherwise",
		    filter);
	bus__lock(mbox->bus);
	err = atomic_load_explicit(&mbox->closed, memory_order_acquire) ? BUS_E_CLOSED : 0;
	if (err == 0)
		err = subscribe(mbox->bus, mbox, filter, fn, arg, ret_sub);
	bus__unlock(mbox->bus);
	/* Some kept messages had room, and fn is being called with them. */
	if (err == BUS_E_FULL)
		bus__mailbox_await_callback(mbox);
	bus__heed(mbox->bus);
	if (err == BUS_E_FULL)
		return bus__fail_full(mbox->queue, filter);
	return err < 0 ? bus__fail_name(err, filter) : 0;
}

void
bus_unsubscribe(struct bus_sub *sub, void (*done)(void *arg))
{
	struct bus_mailbox *mbox;
	struct bus *bus;

	if (sub == NULL || sub->mbox->bus->fork_generation != bus__fork_generation())
		return;
	mbox = bus__mailbox_ref(sub->mbox);
	bus = bus__ref(mbox->bus);
	bus__lock(bus);
	if (sub->node != NULL)
		bus__sub_remove(bus, sub);
	sub->done = done;
	if (done != NULL) {
		sub->later.run = call_done;
		sub->later.position = 0;
		bus__mailbox_later(mbox, &sub->later);
	} else {
		free_later(sub);
	}
	bus__unlock(bus);
	bus__mailbox_await_callback(mbox);
	bus__mailbox_settle(mbox);
	bus__mailbox_unref(mbox);
	bus__unref(bus);
}
