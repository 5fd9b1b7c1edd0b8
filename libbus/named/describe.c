/* named/describe.c: bus_describe(): the log of a named bus and the processes on it, for people. */
#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/error_text.h"
#include "bus/page.h"
#include "log/summary.h"
#include "named/explain.h"
#include "named/state.h"

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
	if (behind > 0 && bus__now_ns() - noted_ns >= EXPLAIN_LATE_NS)
		snprintf(ret_text + len, LISTENS_TEXT - (size_t)len, " for %llu s",
		    (unsigned long long)(bus__now_ns() - noted_ns) / 1000000000);
	bus__log_listens_free(&l);
}

static void
describe_log(struct page *page, struct bus *bus, const struct bus_log_stats *s)
{
	struct bus_member member = {.size = sizeof member};
	char values[SIZE_TEXT], values_most[SIZE_TEXT], size[SIZE_TEXT];

	bus__line(page, "log %s, %s in %u segments, epoch %llu", bus->log->path,
	    size_text(s->log_bytes, size), s->segments, (unsigned long long)bus->log->epoch);
	bus__line(page, "messages: %llu so far; %llu are still there, from position %llu on",
	    (unsigned long long)s->messages, (unsigned long long)s->messages_left,
	    (unsigned long long)s->oldest);
	bus__line(page, "values: %llu of at most %llu; %s of at most %s",
	    (unsigned long long)s->values_count, (unsigned long long)s->values_count_most,
	    size_text(s->values_bytes, values), size_text(s->values_most, values_most));
	bus__line(page, "processes: %u of at most %u, with %u readers of at most %u", s->processes,
	    s->processes_most, s->readers, s->readers_most);
	for (uint32_t i = 0; i < s->processes_most; i++) {
		char listens[LISTENS_TEXT] = "";

		if (bus_member(bus, i, &member) <= 0)
			continue;
		if (member.is_alive)
			describe_listening(bus->log, i, listens);
		bus__line(page, "  member %u: pid %u%s%s%s", i, member.pid,
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
	bus__page_end(&page);
	return page.len > INT_MAX ? INT_MAX : (int)page.len;
}
