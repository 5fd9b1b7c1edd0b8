#include "bus/explain.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/fail.h"
#include "bus/page.h"
#include "bus/words.h"
#include "mailbox/group.h"
#include "bus/keep.h"
#include "topic/name.h"
#include "bus/notice.h"
#include "topic/near.h"

/* --- the facts, under the bus lock -------------------------------------------------------------------------- */

static const char *
kind_of(const struct bus_mailbox *m)
{
	if (bus__is_receiver(m))
		return "receiver of mailbox";
	return m->is_peer ? "peer" : "mailbox";
}

static void
say_counters(struct page *page, struct bus_mailbox *m)
{
	struct bus_stats stats = {.size = sizeof stats};

	bus__mailbox_add_stats(m, UINT64_MAX, &stats);
	bus__line(page, "%s %u: %llu delivered, %llu waiting", kind_of(m), m->number,
	    (unsigned long long)stats.delivered, (unsigned long long)stats.pending);
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		if (stats.lost[i] > 0)
			bus__line(page, "%s %u: %llu lost, %s", kind_of(m), m->number,
			    (unsigned long long)stats.lost[i], bus__loss_words[i]);
	if (stats.refused > 0)
		bus__line(page, "%s %u: %llu refused", kind_of(m), m->number,
		    (unsigned long long)stats.refused);
}

static void
say_mailbox(struct page *page, struct bus_mailbox *m)
{
	static const char *const drainers[] = {
	    [BUS_DRAIN_CALLER] = "drained by its caller",
	    [BUS_DRAIN_THREAD] = "drained by its own thread",
	    [BUS_DRAIN_PUBLISHER] = "drained by publishers",
	};

	const char *drainer = drainers[m->drain];
	unsigned receivers = 0;

	if (m->is_peer)
		drainer = atomic_load_explicit(&m->is_cut_off, memory_order_relaxed)
			      ? "its link is down: its messages are lost, and counted"
			      : "drained by its link";
	if (m->is_group)
		drainer = "drained by its receivers";
	bus__line(page, "%s %u: %s, %llu bytes, %s%s", kind_of(m), m->number,
	    bus__policy_words[m->full], (unsigned long long)m->ring.size, drainer,
	    m == m->bus->default_mbox ? ", the default one of bus_subscribe()" : "");
	for (const struct bus_mailbox *r = m->receivers; r != NULL; r = r->next_receiver)
		receivers++;
	if (m->is_group)
		bus__line(page, "%s %u: group %s, %u receivers, one of which gets it", kind_of(m),
		    m->number, m->group, receivers);
	say_counters(page, m);
}

/* Which of the two has the slash, and where. */
static const char *
slash_text(const char *filter, const char *topic)
{
	if (filter[0] == '/' && topic[0] != '/')
		return "it begins with a slash, the topic does not";
	if (topic[0] == '/' && filter[0] != '/')
		return "the topic begins with a slash, it does not";
	return filter[strlen(filter) - 1] == '/' ? "it ends with a slash, the topic does not"
						 : "the topic ends with a slash, it does not";
}

const char *
bus__near_text(enum near near, const char *filter, const char *topic)
{
	static const char *const reasons[NEAR_COUNT] = {
	    [NEAR_CASE] = "upper and lower case differ",
	    [NEAR_SHORT] = "it is too short and does not end in /#",
	    [NEAR_RESERVED] = "no wildcard stands for a name that begins with $",
	    [NEAR_SURPLUS] = "it has a level that the topic lacks",
	    [NEAR_MISSING] = "it lacks a level of the topic",
	    [NEAR_NAME] = "one level is spelled otherwise",
	    [NEAR_LEVEL] = "one level differs",
	};

	return near == NEAR_SLASH ? slash_text(filter, topic) : reasons[near];
}

static void
say_near(struct explaining *e, const struct bus_sub *sub, enum near near, const char *filter)
{
	const struct bus_mailbox *m = sub->mbox;

	if (e->near[near]++ >= NEAR_LINES)
		return;
	bus__line(e->page, "%s %u does not get it by %s: %s", kind_of(m), m->number, filter,
	    bus__near_text(near, filter, e->topic));
	if (!m->is_peer && !sub->matched && e->now_s - sub->since_s >= UNMATCHED_LONG)
		bus__line(e->page, "warning: %s: subscribed %u s, nothing ever matched", filter,
		    e->now_s - sub->since_s);
}

/* Describes a filter of a mailbox, which may be there several times. true: it matches. */
static bool
say_filter(struct explaining *e, const struct bus_sub *sub, unsigned times)
{
	const struct bus_mailbox *m = sub->mbox;
	char filter[BUS_LIMIT_TOPIC_BYTES + 1];
	enum near near;

	bus__trie_name(sub->node, filter);
	near = bus__near(filter, e->topic);
	if (near == NEAR_NOT)
		return false;
	if (near != NEAR_MATCH) {
		say_near(e, sub, near, filter);
		return false;
	}
	e->near[NEAR_MATCH]++;
	if (times > 1)
		bus__line(e->page, "%s %u gets it by %s, for %u subscriptions", kind_of(m),
		    m->number, filter, times);
	else
		bus__line(e->page, "%s %u gets it by %s", kind_of(m), m->number, filter);
	return true;
}

/* Describes the filters of a mailbox. true: one of them matches. */
static bool
say_filters(struct explaining *e, const struct bus_mailbox *m)
{
	struct bus_sub *sub = m->subs;
	unsigned times = 0;
	bool gets = false;

	while (sub != NULL && sub->next_in_mbox != NULL)
		sub = sub->next_in_mbox; /* the oldest */
	for (; sub != NULL; sub = sub->prev_in_mbox) {
		times++;
		if (sub->prev_in_mbox != NULL && sub->prev_in_mbox->node == sub->node)
			continue;
		gets |= say_filter(e, sub, times);
		times = 0;
	}
	return gets;
}

static void
explain_mailbox(struct explaining *e, struct bus_mailbox *m)
{
	bool gets;

	if (bus__is_receiver(m))
		return; /* its group describes it */
	gets = say_filters(e, m);
	for (const struct bus_mailbox *r = m->receivers; r != NULL; r = r->next_receiver)
		gets |= say_filters(e, r);
	if (gets)
		say_mailbox(e->page, m);
}

static void
say_more(struct explaining *e)
{
	static const char *const words[NEAR_COUNT] = {
	    [NEAR_CASE] = "differ in upper and lower case",
	    [NEAR_SLASH] = "differ by a slash at an end",
	    [NEAR_SHORT] = "are too short",
	    [NEAR_RESERVED] = "begin with a wildcard",
	    [NEAR_SURPLUS] = "have a level that the topic lacks",
	    [NEAR_MISSING] = "lack a level of the topic",
	    [NEAR_NAME] = "are spelled otherwise in one level",
	    [NEAR_LEVEL] = "differ in one level",
	};

	for (int near = NEAR_CASE; near < NEAR_NOT; near++)
		if (e->near[near] > NEAR_LINES)
			bus__line(
			    e->page, "%u more filters %s", e->near[near] - NEAR_LINES, words[near]);
}

static void
say_kept(struct page *page, struct bus *bus, struct topic *topic)
{
	const struct history *h;
	bool empty;

	pthread_mutex_lock(bus__keep_lock(bus, topic));
	empty = bus__history_empty(bus, topic);
	h = topic->history;
	if (bus__keeps(topic))
		bus__line(page,
		    "keeps %u of the last %u messages, %llu bytes, for new subscriptions", h->count,
		    h->most, (unsigned long long)h->bytes);
	else if (!empty)
		bus__line(
		    page, "keeps a value of %u bytes for new subscriptions", h->last->block->len);
	else
		bus__line(page, "keeps no value for new subscriptions");
	pthread_mutex_unlock(bus__keep_lock(bus, topic));
}

void
bus__explain_topic(struct explaining *e, struct bus *bus, size_t len)
{
	struct topic *topic = bus__topic_find(bus, e->topic, len);
	bool heard = e->near[NEAR_MATCH] > 0;
	unsigned unheard;

	if (!heard)
		bus__line(e->page, "not delivered: no filter matches %s", e->topic);
	if (topic == NULL) {
		bus__line(e->page, "unknown topic: it was not published here, and has no handle");
		return;
	}
	unheard = atomic_load_explicit(&topic->unheard, memory_order_relaxed);
	if (unheard >= UNHEARD_MANY && !heard)
		bus__line(e->page, "warning: published %u times without a subscriber", unheard);
	else if (unheard > 0)
		bus__line(e->page, "published %u times without a subscriber", unheard);
	say_kept(e->page, bus, topic);
}

int
bus_explain(struct bus *bus, const char *topic, char *ret_text, size_t cap)
{
	struct page page = {ret_text, cap, 0};
	struct explaining e = {.page = &page, .topic = topic};
	struct bus_mailbox *m;
	size_t len;
	int err = bus__enter(bus);

	if (err == 0)
		err = bus__topic_check(topic, &len);
	if (err < 0 && err != BUS_E_TOPIC_RESERVED) /* those can be asked about */
		return bus__fail_publish(bus, err, topic, 0);
	if (ret_text == NULL && cap > 0)
		return bus__fail(
		    BUS_E_INVAL, BUS__SHOWN ": ret_text is NULL, and cap is %zu", topic, cap);
	bus__heed(bus);
	e.now_s = (uint32_t)(bus__now_ns() / 1000000000);
	bus__lock(bus);
	m = bus->mailboxes;
	while (m != NULL && m->next != NULL)
		m = m->next; /* the oldest */
	for (; m != NULL; m = m->prev)
		explain_mailbox(&e, m);
	bus__unlock(bus);
	bus->kind->explain_others(&e, bus);
	bus__lock(bus);
	say_more(&e);
	bus->kind->explain_topic(&e, bus, len);
	bus__unlock(bus);
	bus->kind->explain_next(&e, bus);
	bus__page_end(&page);
	return page.len > INT_MAX ? INT_MAX : (int)page.len;
}
