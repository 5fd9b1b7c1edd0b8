#include "core/explain.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "core/bus_internal.h"
#include "core/fail.h"
#include "mailbox/group.h"
#include "core/keep.h"
#include "topic/name.h"
#include "core/notice.h"
#include "topic/near.h"

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

/* Which of both has the slash, and where. */
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

static const char *
near_text(enum near near, const char *filter, const char *topic)
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
	line(e->page, "%s %u does not get it by %s: %s", kind_of(m), m->number, filter,
	    near_text(near, filter, e->topic));
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
	    [NEAR_SURPLUS] = "have a level that the topic lacks",
	    [NEAR_MISSING] = "lack a level of the topic",
	    [NEAR_NAME] = "are spelled otherwise in one level",
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

/* --- other processes of a named bus ----------------------------------------------------------------------- */

#define PAD_MOST 40                  /* columns */
#define LATE_NS  INT64_C(3000000000) /* a process that rests notes where it is once a second */

/* A filter of another process. */
struct row {
	char *filter;
	enum near near;
	unsigned times;
	uint32_t pid;
	char program[LISTENS_PROGRAM];
	struct log_listener mailbox;
};

struct others {
	struct explaining *e;
	struct bus *bus;
	struct row *rows;
	size_t count, cap;
	unsigned processes, getting; /* that listen; that get it */
	uint32_t stuck;              /* a pid that gets it, and is behind since a while */
	bool no_memory;
	/* What was asked of the log last: most are where the others are. */
	uint64_t position, behind;
	bool gone, asked;
};

static bool
is_row_of(const struct row *row, uint32_t pid, const struct log_listener *m, const char *filter)
{
	return row->pid == pid && row->mailbox.bus == m->bus &&
	       row->mailbox.mailbox == m->mailbox && strcmp(row->filter, filter) == 0;
}

static void
add_row(struct others *o, const struct log_listening *l, const struct log_listener *m,
    const char *filter, enum near near)
{
	struct row *rows;
	char *copy;

	for (size_t i = o->count; i > 0 && o->rows[i - 1].pid == l->pid; i--)
		if (is_row_of(&o->rows[i - 1], l->pid, m, filter)) {
			o->rows[i - 1].times++;
			return;
		}
	if (near != NEAR_MATCH && o->e->near[near] >= NEAR_LINES) {
		o->e->near[near]++;
		return;
	}
	if (o->count == o->cap) {
		size_t cap = o->cap != 0 ? 2 * o->cap : 16;

		rows = bus__realloc(o->rows, cap * sizeof *rows);
		if (rows == NULL) {
			o->no_memory = true;
			return;
		}
		o->rows = rows;
		o->cap = cap;
	}
	copy = bus__strdup(filter);
	if (copy == NULL) {
		o->no_memory = true;
		return;
	}
	o->e->near[near]++;
	o->rows[o->count] =
	    (struct row){.filter = copy, .near = near, .times = 1, .pid = l->pid, .mailbox = *m};
	memcpy(o->rows[o->count++].program, l->program, sizeof l->program);
}

/* Takes what a process listens to apart. Others can write in its file. */
static void
add_rows(struct others *o, const struct log_listening *l, bool is_ours)
{
	struct log_listener m;
	const char *filter;
	bool gets = false;
	uint32_t at = 0;
	size_t len;

	while ((filter = bus__log_listens_next(l, &at, &m)) != NULL) {
		enum near near;

		if (bus__filter_check(filter, &len) < 0 || (is_ours && m.bus == o->bus->inbox.tag))
			continue;
		near = bus__near(filter, o->e->topic);
		gets |= near == NEAR_MATCH;
		if (near != NEAR_NOT)
			add_row(o, l, &m, filter, near);
	}
	o->getting += gets && !is_ours;
}

static const char *
unreadable_text(int err)
{
	switch (err) {
	case LOG_ABSENT:
		return "its file is not there: there was no room for it, or somebody removed it";
	case LOG_FOREIGN:
		return "in the place of its file is another, or one of another user";
	case BUS_E_VERSION:
		return "it uses another version of libbus";
	case BUS_E_DENIED:
		return "this process may not read its file";
	case BUS_E_NOMEM:
		return "no memory";
	default:
		return "its file is damaged";
	}
}

/* What is not known of a process. */
static void
say_unread(struct page *page, const struct log_listening *l)
{
	if (l->beyond > 0)
		line(page, "pid %u (%s) has %u filters more than are listed: one of them may match",
		    (unsigned)l->pid, l->program, (unsigned)l->beyond);
	if (l->unread > 0)
		line(page,
		    "pid %u (%s): %u of its filters cannot be read: it was stopped while it changed them, or its file is damaged",
		    (unsigned)l->pid, l->program, (unsigned)l->unread);
	if (l->is_late)
		line(page,
		    "pid %u (%s) has changed its filters since, and could not write that down",
		    (unsigned)l->pid, l->program);
}

static void
look_at_member(struct others *o, uint32_t member)
{
	struct log *log = o->bus->log;
	uint32_t pid = bus__log_pid(log, member);
	struct log_listening l;
	int got;

	if (pid == 0)
		return;
	if (!bus__log_is_alive(log, member)) {
		line(o->e->page, "pid %u has died, and gets nothing", (unsigned)pid);
		return;
	}
	got = bus__log_listens_read(log, member, &l);
	if (got < 0 && bus__log_pid(log, member) == pid)
		line(o->e->page, "pid %u: what it listens to cannot be read: %s", (unsigned)pid,
		    unreadable_text(got));
	if (got <= 0)
		return;
	o->processes += member != log->member && (l.filters > 0 || l.beyond > 0);
	add_rows(o, &l, member == log->member);
	if (member != log->member)
		say_unread(o->e->page, &l);
	bus__log_listens_free(&l);
}

static int
pad(size_t width, size_t len)
{
	return (int)(len > PAD_MOST || len < width ? width : len);
}

static void
say_row(struct others *o, const struct row *row, int program, int filter)
{
	int64_t age_ns = bus__now_ns() - row->mailbox.noted_ns;
	const char *policy = row->mailbox.full <= BUS_FULL_REFUSE
				 ? bus__policy_words[row->mailbox.full]
				 : "another policy";
	char times[32] = "", age[48] = "";

	if (row->near != NEAR_MATCH) {
		line(o->e->page, "pid %-7u %-*s does not get it by %s: %s", (unsigned)row->pid,
		    program, row->program, row->filter,
		    near_text(row->near, row->filter, o->e->topic));
		return;
	}
	if (!o->asked || o->position != row->mailbox.reached) {
		o->position = row->mailbox.reached;
		o->asked = bus__log_behind(o->bus->log, o->position, &o->behind, &o->gone) == 0;
	}
	if (o->asked && o->behind > 0 && age_ns >= LATE_NS) {
		snprintf(age, sizeof age, " for %llu s", (unsigned long long)age_ns / 1000000000);
		o->stuck = row->pid;
	}
	if (row->times > 1)
		snprintf(times, sizeof times, ", %u subscriptions", row->times);
	line(o->e->page, "pid %-7u %-*s gets it by %-*s %s%llu behind%s, %llu lost, %s%s%s",
	    (unsigned)row->pid, program, row->program, filter, row->filter,
	    o->gone ? "at least " : "", (unsigned long long)(o->asked ? o->behind : 0), age,
	    (unsigned long long)row->mailbox.lost, policy,
	    row->mailbox.is_peer ? ", over a link" : "", times);
}

static void
say_rows(struct others *o)
{
	int program = 0, filter = 0;

	for (size_t i = 0; i < o->count; i++) {
		program = pad((size_t)program, strlen(o->rows[i].program));
		if (o->rows[i].near == NEAR_MATCH)
			filter = pad((size_t)filter, strlen(o->rows[i].filter));
	}
	for (int others = 0; others < 2; others++)
		for (size_t i = 0; i < o->count; i++)
			if ((o->rows[i].near != NEAR_MATCH) == others)
				say_row(o, &o->rows[i], program, filter);
}

/* What the other processes have written down; nobody is asked. No lock held. */
static void
explain_others(struct explaining *e, struct bus *bus, uint32_t *ret_stuck)
{
	struct others o = {.e = e, .bus = bus};

	for (uint32_t i = 0; i < LOG_MEMBERS; i++)
		look_at_member(&o, i);
	say_rows(&o);
	if (o.no_memory)
		line(e->page, "there was no memory to look at all filters");
	line(e->page, "other processes that listen: %u; that get it: %u", o.processes, o.getting);
	*ret_stuck = o.stuck;
	for (size_t i = 0; i < o.count; i++)
		bus__free(o.rows[i].filter);
	bus__free(o.rows);
}

/* What to do next, on a named bus. */
static void
say_next(struct explaining *e, struct bus *bus, uint32_t stuck)
{
	bool is_near = false;

	for (int near = NEAR_CASE; near < NEAR_NOT; near++)
		is_near |= e->near[near] > 0;
	if (stuck != 0)
		line(e->page,
		    "next: pid %u has not caught up: it is busy, stopped (kill -CONT %u), in a callback that does not return, or takes no messages",
		    (unsigned)stuck, (unsigned)stuck);
	else if (e->near[NEAR_MATCH] > 0)
		return;
	else if (is_near)
		line(e->page,
		    "next: change one of these filters to %s, or publish on what it matches",
		    e->topic);
	else
		line(e->page, "next: subscribe, in a shell: libbus sub %.*s '%s'",
		    (int)bus->log->name_len, bus->log->name, e->topic);
}

/* What is kept of a topic is in the log of a named bus. */
/* Whether a message on the topic is left in the log. Names stand in records, so this looks at all of them. */
static bool
is_in_log(struct bus *bus, const char *topic, size_t len)
{
	uint64_t tail = bus__log_tail(bus->log);
	const struct log_record *record;
	struct log_cursor c;
	const char *name;
	uint32_t its;
	bool found = false;

	if (bus__log_cursor_open(bus->log, LOG_FROM_OLDEST, 0, &c) < 0)
		return false;
	while (!found && bus__log_position(&c) < tail && (record = bus__log_next(&c)) != NULL) {
		name = c.word >> 32 & LOG_NAMED ? bus__log_name(&c, record, &its) : NULL;
		found = name != NULL && its == len && memcmp(name, topic, len) == 0;
	}
	bus__log_cursor_close(&c);
	return found;
}

static void
explain_logged(struct explaining *e, struct bus *bus, size_t len)
{
	const struct log_record *record;
	struct log_topic topic;
	struct log_cursor c;
	struct log_view v;

	if (e->near[NEAR_MATCH] == 0)
		line(e->page, "nobody gets it: no filter matches %s", e->topic);
	if (bus__log_cursor_open(bus->log, LOG_FROM_NOW, 0, &c) < 0)
		return;
	bus__log_topic(bus->log, e->topic, len, &topic);
	record = bus__log_kept_now(&c, &topic);
	if (record != NULL && bus__log_read(c.word, record, &v) && v.len > 0)
		line(e->page, "keeps a value of %u bytes for new subscriptions", v.len);
	else if (record == NULL && !is_in_log(bus, e->topic, len))
		line(e->page, "unknown topic: no message on it is in the log");
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

enum { LISTENS_TEXT = 128 };

/* How many filters a process has, and how far the slowest of its mailboxes is behind. */
static void
describe_listening(struct log *log, uint32_t member, char ret_text[LISTENS_TEXT])
{
	uint64_t behind = 0, slowest = UINT64_MAX;
	int64_t noted_ns = 0;
	struct log_listening l;
	struct log_listener m;
	uint32_t at = 0;
	bool gone = false;
	int len;

	if (bus__log_listens_read(log, member, &l) <= 0)
		return;
	while (bus__log_listens_next(&l, &at, &m) != NULL)
		if (m.reached < slowest) {
			slowest = m.reached;
			noted_ns = m.noted_ns;
		}
	if (slowest != UINT64_MAX && bus__log_behind(log, slowest, &behind, &gone) < 0)
		behind = 0;
	len = snprintf(ret_text, LISTENS_TEXT, ", %u filters", (unsigned)(l.filters + l.beyond));
	if (behind > 0)
		len += snprintf(ret_text + len, LISTENS_TEXT - (size_t)len, ", %s%llu behind",
		    gone ? "at least " : "", (unsigned long long)behind);
	if (behind > 0 && bus__now_ns() - noted_ns >= LATE_NS)
		snprintf(ret_text + len, LISTENS_TEXT - (size_t)len, " for %llu s",
		    (unsigned long long)(bus__now_ns() - noted_ns) / 1000000000);
	bus__log_listens_free(&l);
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
	for (uint32_t i = 0; i < s->processes_most; i++) {
		char listens[LISTENS_TEXT] = "";

		if (bus_member(bus, i, &member) <= 0)
			continue;
		if (member.is_alive)
			describe_listening(bus->log, i, listens);
		line(page, "  member %u: pid %u%s%s%s", i, member.pid,
		    member.is_this ? ", this one" : "", member.is_alive ? "" : ", dead", listens);
	}
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
	uint32_t stuck = 0;
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
	if (bus->log != NULL) {
		/* Without the lock: they are files. */
		bus__unlock(bus);
		explain_others(&e, bus, &stuck);
		bus__lock(bus);
	}
	say_more(&e);
	if (bus->log != NULL)
		explain_logged(&e, bus, len);
	else
		explain_topic(&e, bus, len);
	bus__unlock(bus);
	if (bus->log != NULL)
		say_next(&e, bus, stuck);
	end_page(&page);
	return page.len > INT_MAX ? INT_MAX : (int)page.len;
}
