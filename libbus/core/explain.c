#include "core/explain.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "core/bus_internal.h"
#include "core/fail.h"
#include "core/group.h"
#include "core/keep.h"
#include "core/name.h"
#include "core/notice.h"

#define NEAR_LINES 8 /* of a kind; the others are counted */

const char *const bus__policy_words[] = {
    [BUS_FULL_DROP_OLDEST] = "drop_oldest",
    [BUS_FULL_DROP_NEWEST] = "drop_newest",
    [BUS_FULL_LATEST] = "latest",
    [BUS_FULL_REFUSE] = "refuse",
};

const char *const bus__loss_words[BUS_LOSS_COUNT] = {
    [BUS_LOSS_FULL] = "full",
    [BUS_LOSS_REPLACED] = "replaced",
    [BUS_LOSS_EXPIRED] = "expired",
    [BUS_LOSS_UNSUBSCRIBED] = "unsubscribed",
    [BUS_LOSS_CLOSED] = "closed",
    [BUS_LOSS_LAPPED] = "lapped",
    [BUS_LOSS_LINK] = "link",
};

/* --- nearness --------------------------------------------------------------------------------------------- */

/* What comes out of laying a filter and a topic side by side, level by level, to the end of the shorter one. */
struct fit {
	unsigned levels;                /* compared */
	unsigned wrong, wrong_case;     /* of these differ; differ in case only */
	const char *filter_left, *left; /* of filter and topic; NULL: nothing */
};

static bool
is_wild(const char *level, size_t len, char wildcard)
{
	return len == 1 && level[0] == wildcard;
}

static const char *
next_level(const char *level, size_t len)
{
	return level[len] == '\0' ? NULL : level + len + 1;
}

static struct fit
lay(const char *filter, const char *topic)
{
	struct fit fit = {0, 0, 0, filter, topic};

	while (fit.filter_left != NULL) {
		size_t len = bus__level_len(fit.filter_left), topic_len;

		if (is_wild(fit.filter_left, len, '#')) /* whatever follows, also nothing */
			fit.filter_left = fit.left = NULL;
		if (fit.filter_left == NULL || fit.left == NULL)
			break;
		topic_len = bus__level_len(fit.left);
		fit.levels++;
		if (!is_wild(fit.filter_left, len, '+') &&
		    (len != topic_len || memcmp(fit.filter_left, fit.left, len) != 0)) {
			fit.wrong++;
			fit.wrong_case +=
			    len == topic_len && strncasecmp(fit.filter_left, fit.left, len) == 0;
		}
		fit.filter_left = next_level(fit.filter_left, len);
		fit.left = next_level(fit.left, topic_len);
	}
	return fit;
}

static bool
fits(const char *filter, const char *topic)
{
	struct fit fit = lay(filter, topic);

	return fit.wrong == 0 && fit.filter_left == NULL && fit.left == NULL;
}

static bool
differs_in_slash(const char *filter, const char *topic, const struct fit *fit)
{
	if (filter[0] == '/' && topic[0] != '/' && filter[1] != '\0')
		return fits(filter + 1, topic);
	if (topic[0] == '/' && filter[0] != '/' && topic[1] != '\0')
		return fits(filter, topic + 1);
	/* The last level of one of them is empty, and the other one lacks it. */
	return fit->wrong == 0 && ((fit->filter_left != NULL && fit->filter_left[0] == '\0') ||
				      (fit->left != NULL && fit->left[0] == '\0'));
}

enum near
bus__near(const char *filter, const char *topic)
{
	struct fit fit = lay(filter, topic);
	bool whole = fit.filter_left == NULL && fit.left == NULL;
	bool wild = filter[0] == '+' || filter[0] == '#';

	if (topic[0] == '$' && wild)
		return whole && fit.wrong == 0 ? NEAR_RESERVED : NEAR_NOT;
	if (whole && fit.wrong == 0)
		return NEAR_MATCH;
	if (whole && fit.wrong == fit.wrong_case)
		return NEAR_CASE;
	if (differs_in_slash(filter, topic, &fit))
		return NEAR_SLASH;
	if (fit.filter_left == NULL && fit.wrong == 0)
		return NEAR_SHORT;
	if (whole && fit.wrong == 1 && fit.levels > 1)
		return NEAR_LEVEL;
	return NEAR_NOT;
}

/* --- the page --------------------------------------------------------------------------------------------- */

/* As much of the text as fits, and how long all of it is. */
struct page {
	char *text;
	size_t cap, len;
};

static __attribute__((format(printf, 2, 3))) void
line(struct page *page, const char *format, ...)
{
	size_t room = page->len < page->cap ? page->cap - page->len : 0;
	char *text = room > 0 ? page->text + page->len : NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, room, format, args);
	va_end(args);
	if (len < 0)
		return;
	/* A name may hold any character, and must not make a line of its own. */
	for (size_t i = 0; i < (size_t)len && i + 1 < room; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = '?';
	if ((size_t)len + 1 < room)
		text[len] = '\n';
	page->len += (size_t)len + 1;
}

static void
end_page(struct page *page)
{
	if (page->cap > 0)
		page->text[page->len < page->cap ? page->len : page->cap - 1] = '\0';
}

/* --- the facts, under the bus lock -------------------------------------------------------------------------- */

struct explaining {
	struct page *page;
	const char *topic;
	uint32_t now_s;
	unsigned near[NEAR_COUNT]; /* how many filters of each kind */
};

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

	bus__mailbox_add_stats(m, &stats);
	line(page, "%s %u: %llu delivered, %llu waiting", kind_of(m), m->number,
	    (unsigned long long)stats.delivered, (unsigned long long)stats.pending);
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		if (stats.lost[i] > 0)
			line(page, "%s %u: %llu lost, %s", kind_of(m), m->number,
			    (unsigned long long)stats.lost[i], bus__loss_words[i]);
	if (stats.refused > 0)
		line(page, "%s %u: %llu refused", kind_of(m), m->number,
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
			      ? "its link is down: it gets nothing, and what it misses is counted"
			      : "drained by its link";
	if (m->is_group)
		drainer = "drained by its receivers";
	line(page, "%s %u: %s, %llu bytes, %s%s", kind_of(m), m->number, bus__policy_words[m->full],
	    (unsigned long long)m->ring.size, drainer,
	    m == m->bus->default_mbox ? ", the default one of bus_subscribe()" : "");
	for (const struct bus_mailbox *r = m->receivers; r != NULL; r = r->next_receiver)
		receivers++;
	if (m->is_group)
		line(page, "%s %u: group %s, %u receivers, one of which gets it", kind_of(m),
		    m->number, m->group, receivers);
	say_counters(page, m);
}

static void
say_near(struct explaining *e, const struct bus_sub *sub, enum near near, const char *filter)
{
	static const char *const reasons[NEAR_COUNT] = {
	    [NEAR_CASE] = "upper and lower case differ",
	    [NEAR_SLASH] = "one of them has a slash more at an end",
	    [NEAR_SHORT] = "it is too short and does not end in /#",
	    [NEAR_RESERVED] = "no wildcard stands for a name that begins with $",
	    [NEAR_LEVEL] = "one level differs",
	};
	const struct bus_mailbox *m = sub->mbox;

	if (e->near[near]++ >= NEAR_LINES)
		return;
	line(e->page, "%s %u does not get it by %s: %s", kind_of(m), m->number, filter,
	    reasons[near]);
	if (!m->is_peer && !sub->matched && e->now_s - sub->since_s >= UNMATCHED_LONG)
		line(e->page, "warning: %s: subscribed %u s, nothing ever matched", filter,
		    e->now_s - sub->since_s);
}

/* Tells about a filter of a mailbox, which may be there several times. true: it matches. */
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
		line(e->page, "%s %u gets it by %s, for %u subscriptions", kind_of(m), m->number,
		    filter, times);
	else
		line(e->page, "%s %u gets it by %s", kind_of(m), m->number, filter);
	return true;
}

/* Tells about the filters of a mailbox. true: one of them matches. */
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
		return; /* with its group */
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
	    [NEAR_LEVEL] = "differ in one level",
	};

	for (int near = NEAR_CASE; near < NEAR_NOT; near++)
		if (e->near[near] > NEAR_LINES)
			line(
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
		line(page, "keeps %u of the last %u messages, %llu bytes, for new subscriptions",
		    h->count, h->most, (unsigned long long)h->bytes);
	else if (!empty)
		line(page, "keeps a value of %u bytes for new subscriptions", h->last->block->len);
	else
		line(page, "keeps no value for new subscriptions");
	pthread_mutex_unlock(bus__keep_lock(bus, topic));
}

static void
explain_topic(struct explaining *e, struct bus *bus, size_t len)
{
	struct topic *topic = bus__topic_find(bus, e->topic, len);
	bool heard = e->near[NEAR_MATCH] > 0;
	unsigned unheard;

	if (!heard)
		line(e->page, "nobody gets it: no filter matches %s", e->topic);
	if (topic == NULL) {
		line(e->page, "unknown topic: nobody published it or opened a handle for it");
		return;
	}
	unheard = atomic_load_explicit(&topic->unheard, memory_order_relaxed);
	if (unheard >= UNHEARD_MANY && !heard)
		line(e->page, "warning: published %u times, matched nobody", unheard);
	else if (unheard > 0)
		line(e->page, "published %u times while nobody got it", unheard);
	say_kept(e->page, bus, topic);
}

/* On a named bus others may listen, and what is kept is in the log. */
static void
explain_logged(struct explaining *e, struct bus *bus, size_t len)
{
	const struct log_record *record;
	struct log_topic topic;
	struct log_cursor c;
	struct log_view v;

	line(e->page,
	    "other processes of this bus have mailboxes of their own, which are not known here");
	if (bus__log_cursor_open(bus->log, LOG_FROM_NOW, 0, &c) < 0)
		return;
	bus__log_topic(bus->log, e->topic, len, &topic);
	record = bus__log_kept_now(&c, &topic);
	if (record != NULL && bus__log_read(c.word, record, &v) && v.len > 0)
		line(e->page, "keeps a value of %u bytes for new subscriptions", v.len);
	else
		line(e->page, "keeps no value for new subscriptions");
	bus__log_cursor_close(&c);
}

enum { SIZE_TEXT = 32 };

/* Exact where KiB would hide most of it: values of some bytes are not 0 KiB. */
static const char *
size_text(uint64_t bytes, char text[SIZE_TEXT])
{
	bool small = bytes < 10 * 1024;

	snprintf(text, SIZE_TEXT, "%llu %s", (unsigned long long)(small ? bytes : bytes / 1024),
	    small ? "bytes" : "KiB");
	return text;
}

static void
describe_log(struct page *page, struct bus *bus, const struct bus_log_stats *s)
{
	struct bus_member member = {.size = sizeof member};
	char values[SIZE_TEXT], values_most[SIZE_TEXT], size[SIZE_TEXT];

	line(page, "log %s, %s in %u segments, epoch %llu", bus->log->path,
	    size_text(s->log_bytes, size), s->segments, (unsigned long long)bus->log->epoch);
	line(page, "messages: %llu so far; %llu are still there, from position %llu on",
	    (unsigned long long)s->messages, (unsigned long long)s->messages_left,
	    (unsigned long long)s->oldest);
	line(page, "values: %llu of at most %llu; %s of at most %s",
	    (unsigned long long)s->values_count, (unsigned long long)s->values_count_most,
	    size_text(s->values_bytes, values), size_text(s->values_most, values_most));
	line(page, "processes: %u of at most %u, with %u readers of at most %u", s->processes,
	    s->processes_most, s->readers, s->readers_most);
	for (uint32_t i = 0; i < s->processes_most; i++)
		if (bus_member(bus, i, &member) > 0)
			line(page, "  member %u: pid %u%s%s", i, member.pid,
			    member.is_this ? ", this one" : "", member.is_alive ? "" : ", dead");
}

int
bus_describe(struct bus *bus, char *ret_text, size_t cap)
{
	struct page page = {ret_text, cap, 0};
	struct bus_log_stats stats = {.size = sizeof stats};
	int err = bus__enter(bus);

	if (err < 0)
		return bus__answer(err);
	if (ret_text == NULL && cap > 0)
		return bus__answer(BUS_E_INVAL);
	err = bus_log_stats(bus, &stats);
	if (err < 0)
		return err;
	describe_log(&page, bus, &stats);
	end_page(&page);
	return page.len > INT_MAX ? INT_MAX : (int)page.len;
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
	say_more(&e);
	if (bus->log != NULL)
		explain_logged(&e, bus, len);
	else
		explain_topic(&e, bus, len);
	bus__unlock(bus);
	end_page(&page);
	return page.len > INT_MAX ? INT_MAX : (int)page.len;
}
