/* named/explain.c: the subscribers of a topic in the other processes of a named bus, and its messages in the log. */
#include "named/explain.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/explain.h"
#include "bus/page.h"
#include "bus/words.h"
#include "log/summary.h"
#include "named/state.h"
#include "topic/name.h"
#include "topic/near.h"

#define PAD_MOST 40 /* columns */

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
		return "its file is missing: there was no room for it, or it was removed";
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
		bus__line(page,
		    "pid %u (%s) has %u filters more than are listed: one of them may match",
		    (unsigned)l->pid, l->program, (unsigned)l->beyond);
	if (l->unread > 0)
		bus__line(page,
		    "pid %u (%s): %u of its filters cannot be read: it was stopped while it changed them, or its file is damaged",
		    (unsigned)l->pid, l->program, (unsigned)l->unread);
	if (l->is_late)
		bus__line(page,
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
		bus__line(o->e->page, "pid %u has died, and gets nothing", (unsigned)pid);
		return;
	}
	got = bus__log_listens_read(log, member, &l);
	if (got < 0 && bus__log_pid(log, member) == pid)
		bus__line(o->e->page, "pid %u: what it listens to cannot be read: %s",
		    (unsigned)pid, unreadable_text(got));
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
		bus__line(o->e->page, "pid %-7u %-*s does not get it by %s: %s", (unsigned)row->pid,
		    program, row->program, row->filter,
		    bus__near_text(row->near, row->filter, o->e->topic));
		return;
	}
	if (!o->asked || o->position != row->mailbox.reached) {
		o->position = row->mailbox.reached;
		o->asked = bus__log_behind(o->bus->log, o->position, &o->behind, &o->gone) == 0;
	}
	if (o->asked && o->behind > 0 && age_ns >= EXPLAIN_LATE_NS) {
		snprintf(age, sizeof age, " for %llu s", (unsigned long long)age_ns / 1000000000);
		o->stuck = row->pid;
	}
	if (row->times > 1)
		snprintf(times, sizeof times, ", %u subscriptions", row->times);
	bus__line(o->e->page, "pid %-7u %-*s gets it by %-*s %s%llu behind%s, %llu lost, %s%s%s",
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

void
bus__explain_others(struct explaining *e, struct bus *bus)
{
	struct others o = {.e = e, .bus = bus};

	for (uint32_t i = 0; i < LOG_MEMBERS; i++)
		look_at_member(&o, i);
	say_rows(&o);
	if (o.no_memory)
		bus__line(e->page, "there was no memory to look at all filters");
	bus__line(
	    e->page, "other processes that listen: %u; that get it: %u", o.processes, o.getting);
	e->stuck = o.stuck;
	for (size_t i = 0; i < o.count; i++)
		bus__free(o.rows[i].filter);
	bus__free(o.rows);
}

void
bus__explain_next(struct explaining *e, struct bus *bus)
{
	bool is_near = false;

	for (int near = NEAR_CASE; near < NEAR_NOT; near++)
		is_near |= e->near[near] > 0;
	if (e->stuck != 0)
		bus__line(e->page,
		    "next: pid %u has not caught up: it is busy, stopped (kill -CONT %u), in a callback that does not return, or takes no messages",
		    (unsigned)e->stuck, (unsigned)e->stuck);
	else if (e->near[NEAR_MATCH] > 0)
		return;
	else if (is_near)
		bus__line(e->page,
		    "next: change one of these filters to %s, or publish on what it matches",
		    e->topic);
	else
		bus__line(e->page, "next: subscribe, in a shell: libbus sub %.*s '%s'",
		    (int)bus->log->name_len, bus->log->name, e->topic);
}

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

void
bus__explain_logged(struct explaining *e, struct bus *bus, size_t len)
{
	const struct log_record *record;
	struct log_topic topic;
	struct log_cursor c;
	struct log_view v;

	if (e->near[NEAR_MATCH] == 0)
		bus__line(e->page, "not delivered: no filter matches %s", e->topic);
	if (bus__log_cursor_open(bus->log, LOG_FROM_NOW, 0, &c) < 0)
		return;
	bus__log_topic(bus->log, e->topic, len, &topic);
	record = bus__log_kept_now(&c, &topic);
	if (record != NULL && bus__log_read(c.word, record, &v) && v.len > 0)
		bus__line(e->page, "keeps a value of %u bytes for new subscriptions", v.len);
	else if (record == NULL && !is_in_log(bus, e->topic, len))
		bus__line(e->page, "unknown topic: no message on it is in the log");
	else
		bus__line(e->page, "keeps no value for new subscriptions");
	bus__log_cursor_close(&c);
}
