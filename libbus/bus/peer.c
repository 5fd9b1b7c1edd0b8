#include "bus/peer.h"

#include <sched.h>
#include <string.h>

#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/gap.h"
#include "topic/name.h"
#include "bus/request.h"
#include "mailbox/source.h"
#include "bus/walk.h"

int
bus__links(struct bus *bus, const struct bus__link_hooks *hooks,
    int (*make)(struct bus *bus, void **ret_links), void **ret_links)
{
	int err;

	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0 && bus->links == NULL) {
		err = make(bus, &bus->links);
		if (err == 0)
			bus->hooks = hooks;
	}
	if (err == 0)
		*ret_links = bus->links;
	bus__unlock(bus);
	return err;
}

bool
bus__calls_on_publisher(struct bus *bus)
{
	const struct bus_mailbox *m;

	bus__lock(bus);
	for (m = bus->mailboxes; m != NULL; m = m->next)
		if (m->drain == BUS_DRAIN_PUBLISHER &&
		    (atomic_load_explicit(&m->phase, memory_order_relaxed) & PHASE_CALLING))
			break;
	bus__unlock_only(bus);
	return m != NULL;
}

struct wanted {
	void (*fn)(void *arg, const char *filter);
	void *arg;
};

static void
tell_wanted(void *arg, struct node *node)
{
	const struct wanted *w = arg;
	char filter[BUS_LIMIT_TOPIC_BYTES + 1];

	if (node->wanted == 0)
		return;
	bus__trie_name(node, filter);
	if (filter[0] == '$') /* of this bus alone */
		return;
	w->fn(w->arg, filter);
}

void
bus__wanted_filters(struct bus *bus, void (*fn)(void *arg, const char *filter), void *arg)
{
	struct wanted w = {fn, arg};

	bus__lock(bus);
	if (bus->kind->hears_all)
		fn(arg, "#");
	else
		bus__trie_walk(&bus->trie, tell_wanted, &w);
	bus__unlock(bus);
}

int
bus__peer_role(struct bus *bus, const char *url, uint64_t *ret_role)
{
	return bus->kind->take_link_role(bus, url, ret_role);
}

void
bus__peer_role_end(struct bus *bus, uint64_t role)
{
	bus->kind->end_link_role(bus, role);
}

int
bus__peer_open(struct bus *bus, struct bus__account *account, size_t bytes, void (*wake)(void *arg),
    void *arg, struct bus_mailbox **ret_mbox)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg,
	    .full = BUS_FULL_DROP_OLDEST,
	    .drain = BUS_DRAIN_CALLER,
	    .bytes = bytes};
	struct bus_mailbox *m;
	int err;

	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0)
		err = bus__mailbox_new(bus, &cfg, NULL, &m);
	if (err == 0) {
		m->desk = bus__desk_open(m);
		m->walk = bus__calloc(1, sizeof *m->walk);
		if (m->desk == NULL || m->walk == NULL) {
			if (m->desk != NULL)
				bus__desk_free(m->desk);
			bus__mailbox_unlist_locked(m);
			bus__mailbox_unref(m);
			err = BUS_E_NOMEM;
		}
	}
	if (err == 0) {
		m->is_peer = true;
		m->wake = bus__wake_peer;
		m->peer_wake = wake;
		m->peer_arg = arg;
		m->account = bus__account_ref(account);
		err = m->source->begin_poll(m);
		if (err < 0) {
			bus__desk_free(m->desk);
			bus__mailbox_unlist_locked(m);
			bus__mailbox_unref(m);
		}
	}
	if (err == 0) {
		bus__peer_sleep(m); /* empty and unknown to other threads: it cannot fail */
		*ret_mbox = m;
	}
	bus__unlock(bus);
	return err;
}

void
bus__peer_know(struct bus_mailbox *m, const struct far *far)
{
	m->far = *far;
}

/* The publisher of the message that was taken. A message that is not passed on was published here, and on a bus with a log its
 * number is its position there. A kept value that is passed on is no event. */
static void
read_passed(struct bus_mailbox *m, struct bus__passed *ret_passed)
{
	if (m->far.passed == NULL) {
		*ret_passed = bus__passed_make(m->bus->id, m->msg.position, 0, 0);
		return;
	}
	memcpy(ret_passed, m->far.passed, sizeof *ret_passed);
	if (bus__passed_number(ret_passed) == 0)
		m->msg.flags &= ~(uint32_t)BUS_MSG_RETAIN;
}

/* The version of the value that was taken. A log names its maker; in a ring it is the publisher, or this bus. */
static void
read_version(struct bus_mailbox *m, struct bus__version *ret_version)
{
	memcpy(ret_version->bus, m->far.passed != NULL ? m->far.passed : m->bus->id,
	    sizeof ret_version->bus);
	ret_version->changes = 1;
	m->source->version(m, ret_version);
	ret_version->changes += ret_version->changes == 0; /* another process overwrote the log */
	/* A walk between "stored" and "put in" has sent it already; the peer may even have a newer one by now. */
	if (bus__walk_has_told(m->walk, m->msg_route, ret_version))
		m->msg.flags = (m->msg.flags & ~(uint32_t)BUS_MSG_RETAIN) | BUS_MSG_KEPT;
	else if (m->bus->kind->walker->owes(m, m->msg_route, ret_version))
		m->msg.flags |= BUS_MSG_KEPT;
	bus__walk_note(m->walk, m->msg_route, ret_version);
}

bool
bus__peer_take(struct bus_mailbox *m, struct bus__out *ret_out)
{
	const struct bus_msg *msg = bus__mailbox_next(m);

	if (msg == NULL)
		return false;
	ret_out->msg = msg;
	ret_out->topic_serial = m->msg_route->topic->serial;
	ret_out->is_reply = (m->msg_frame & RING_ANSWER) != 0;
	ret_out->nobody = (m->msg_frame & RING_NOBODY) != 0;
	ret_out->is_before = m->borrowed && bus__walk_is_before(m->walk, m->msg.position);
	ret_out->numbered = m->far.numbered && !ret_out->is_reply;
	if (ret_out->numbered)
		read_passed(m, &ret_out->passed);
	if ((msg->flags & (BUS_MSG_RETAIN | BUS_MSG_KEPT)) != 0)
		read_version(m, &ret_out->version);
	return true;
}

unsigned
bus__peer_see_run(struct bus_mailbox *m, struct plain_run *ret_run)
{
	/* A peer that numbers messages needs each message's publisher and number. */
	return m->far.numbered ? 0 : bus__mailbox_see_run(m, ret_run);
}

void
bus__peer_take_run(struct bus_mailbox *m, const struct plain_run *run, unsigned n)
{
	bus__mailbox_take_run(m, run, n);
}

void
bus__peer_release(struct bus_mailbox *m)
{
	bus__mailbox_release(m);
}

uint64_t
bus__peer_take_lost(struct bus_mailbox *m)
{
	uint64_t lost = bus__lost_sum(m->carried, bus__ring_take_lost(&m->ring));

	m->carried = 0;
	return lost;
}

void
bus__decline_peer(struct bus_mailbox *asker, uint64_t number)
{
	bus__desk_decline(asker->desk, number);
}

int
bus__tell_gap(struct bus *bus, uint64_t count, bool at_least)
{
	return bus->kind->tell_gap(bus, count, at_least);
}

bool
bus__peer_sleep(struct bus_mailbox *m)
{
	/* Count before any thread can wake us. */
	atomic_fetch_add_explicit(&m->peer_sleeps, 1, memory_order_relaxed);
	if (bus__ring_sleep(&m->ring)) {
		m->source->peer_rests(m);
		return true;
	}
	atomic_fetch_sub_explicit(&m->peer_sleeps, 1, memory_order_relaxed);
	return false;
}

/* Waits for the wakes of a closed ring whose tail was `tail` at the close. Asleep: all wakes but the one for this sleep have
 * returned. Awake: all must have. A wake under way belongs to a publisher that claimed before the close.
 * Acquire: the effects of wake() are visible. */
static void
await_wakes(struct bus_mailbox *m, uint64_t tail)
{
	while (atomic_load_explicit(&m->peer_woken, memory_order_acquire) +
		   ((tail & RING_ASLEEP) != 0) !=
	       atomic_load_explicit(&m->peer_sleeps, memory_order_relaxed))
		sched_yield();
}

uint64_t
bus__peer_lost(const struct bus_mailbox *m)
{
	return atomic_load_explicit(&m->ring.evicted, memory_order_relaxed) +
	       atomic_load_explicit(&m->ring.dropped, memory_order_relaxed) +
	       atomic_load_explicit(&m->expired, memory_order_relaxed) +
	       atomic_load_explicit(&m->lost_closed, memory_order_relaxed) +
	       atomic_load_explicit(&m->lapped, memory_order_relaxed);
}

uint64_t
bus__peer_lost_parked(const struct bus_mailbox *m)
{
	return atomic_load_explicit(&m->lost_shut, memory_order_relaxed);
}

void
bus__peer_park(struct bus_mailbox *m)
{
	uint64_t tail;

	atomic_store_explicit(&m->is_cut_off, true, memory_order_relaxed);
	m->source->leave(m);
	tail = bus__ring_close(&m->ring);
	await_wakes(m, tail);
	if (bus__ring_rouse(&m->ring)) /* the wake of that sleep, which no claim will send */
		atomic_fetch_add_explicit(&m->peer_woken, 1, memory_order_relaxed);
	m->peer_wake = NULL;
	bus__desk_close(m->desk);
	m->source->park(m);
	bus__mailbox_empty(m);
	bus__desk_free(m->desk);
	m->desk = NULL;
}

int
bus__peer_resume(struct bus_mailbox *m, void (*wake)(void *arg), void *arg)
{
	int err;

	m->desk = bus__desk_open(m);
	if (m->desk == NULL)
		return BUS_E_NOMEM;
	m->peer_wake = wake;
	m->peer_arg = arg;
	bus__lock(m->bus);
	err = m->source->begin_poll(m);
	bus__unlock(m->bus);
	if (err == 0)
		err = m->source->unpark(m);
	if (err < 0) {
		bus__desk_free(m->desk);
		m->desk = NULL;
		return err;
	}
	m->carried = 0;
	bus__ring_forget_lost(&m->ring);
	bus__ring_reopen(&m->ring);
	atomic_store_explicit(&m->is_cut_off, false, memory_order_relaxed);
	return 0;
}

uint64_t
bus__peer_close(struct bus_mailbox *m)
{
	struct bus *bus = bus__ref(m->bus);
	uint64_t tail, lost;

	m->source->leave(m);
	atomic_store_explicit(&m->ended, true, memory_order_release);
	atomic_store_explicit(&m->closed, true, memory_order_release);
	tail = bus__ring_close(&m->ring);
	if (m->desk != NULL)
		bus__desk_close(m->desk);
	bus__lock(bus);
	while (m->subs != NULL)
		bus__sub_remove(bus, m->subs);
	bus__unlock(bus);
	await_wakes(m, tail);
	bus__mailbox_discard(m);
	lost = bus__peer_lost(m) + bus__peer_lost_parked(m);
	if (m->desk != NULL)
		bus__desk_free(m->desk);
	bus__mailbox_unlist(m);
	bus__mailbox_unref(m);
	bus__unref(bus);
	return lost;
}

/* --- topics of peers ------------------------------------------------------------------------------------- */

#define HANDLE_BYTES 256 /* of a struct bus_pub */

int
bus__peer_name(
    struct bus *bus, struct bus__account *account, const char *topic, struct bus__named *ret_named)
{
	struct bus__named named = {NULL, NULL, NULL};
	size_t len;
	int err = bus__topic_check(topic, &len);

	if (err < 0)
		return err;
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0)
		err = bus__topic_make_for(bus, account, topic, len, &named.topic);
	if (err == 0) {
		/* Held like a handle until bus__peer_unname(). */
		named.topic->handles++;
		atomic_fetch_add_explicit(&named.topic->refs, 1, memory_order_relaxed);
	}
	bus__unlock(bus);
	if (err == 0) {
		named.account = account;
		bus__account_add(account, HANDLE_BYTES);
		err = bus__account_is_over(account) ? BUS_E_LIMIT
						    : bus_pub_open(bus, topic, NULL, &named.pub);
	}
	if (err < 0)
		bus__peer_unname(bus, &named);
	else
		*ret_named = named;
	return err;
}

const char *
bus__peer_topic(const struct bus__named *named)
{
	return named->topic->name;
}

void
bus__peer_unname(struct bus *bus, struct bus__named *named)
{
	bus_pub_close(named->pub);
	if (named->topic != NULL) {
		bus__lock(bus);
		named->topic->handles--;
		bus__topic_let_go(bus, named->topic);
		bus__unlock(bus);
		bus__topic_unref(named->topic);
	}
	bus__account_sub(named->account, HANDLE_BYTES);
	*named = (struct bus__named){NULL, NULL, NULL};
}
