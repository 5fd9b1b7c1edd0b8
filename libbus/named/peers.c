#include "named/peers.h"

#include <stdio.h>
#include <string.h>

#include <libbus/pack.h>

#include "base/clock.h"
#include "bus/page.h"
#include "log/log.h"
#include "named/named.h"
#include "named/state.h"

#define APPEND_NS INT64_C(250000000) /* the link thread has others to serve */

enum { NAME_BYTES = 32 };

static int64_t
soon(void)
{
	return bus__now_ns() + APPEND_NS;
}

int
bus__peers_announce(struct bus *bus, const char *topic, const void *data, size_t len)
{
	const struct ring_item item = {
	    .data = data, .len = (uint32_t)len, .type = (uint8_t)BUS_TYPE_MSGPACK};

	return bus__named_append(bus, topic, &item, soon());
}

static int
keep(struct bus *bus, uint32_t slot, const char *text, size_t len, int64_t until_ns)
{
	const struct ring_item item = {.data = text,
	    .len = (uint32_t)len,
	    .flags = RING_RETAIN,
	    .type = (uint8_t)BUS_TYPE_TEXT};
	char name[NAME_BYTES];

	snprintf(name, sizeof name, PEERS_PREFIX "%u", slot);
	return bus__named_append(bus, name, &item, until_ns);
}

int
bus__peers_keep(struct bus *bus, const char *text, size_t len)
{
	return keep(bus, bus->log->member, text, len, soon());
}

/* Calls fn with the text that is kept in a slot, if there is one. */
static int
with_text(
    struct bus *bus, uint32_t slot, void (*fn)(void *arg, const char *text, size_t len), void *arg)
{
	const struct log_record *record;
	struct log_topic topic;
	char name[NAME_BYTES];
	struct log_cursor c;
	struct log_view v;
	int err;

	snprintf(name, sizeof name, PEERS_PREFIX "%u", slot);
	bus__log_topic(bus->log, name, strlen(name), &topic);
	err = bus__log_cursor_open(bus->log, LOG_FROM_NOW, 0, &c);
	if (err < 0)
		return err;
	record = bus__log_kept_now(&c, &topic);
	if (record != NULL && bus__log_read(c.word, record, &v) && v.len > 0)
		fn(arg, (const char *)v.data, v.len);
	bus__log_cursor_close(&c);
	return 0;
}

static void
note_that_there_is_one(void *arg, const char *text, size_t len)
{
	(void)text;
	(void)len;
	*(bool *)arg = true;
}

int
bus__peers_end(struct bus *bus, uint32_t slot, int64_t until_ns)
{
	bool there = false;
	int err = with_text(bus, slot, note_that_there_is_one, &there);

	return err == 0 && there ? keep(bus, slot, "", 0, until_ns) : err;
}

struct lines {
	struct page *page;
	uint32_t pid;
};

static void
add_lines(void *arg, const char *text, size_t len)
{
	const struct lines *lines = arg;

	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t line = end != NULL ? (size_t)(end - text) : len;

		bus__line(
		    lines->page, "pid %u: %.*s", lines->pid, line < 2000 ? (int)line : 2000, text);
		line += end != NULL;
		text += line;
		len -= line;
	}
}

void
bus__peers_explain(struct bus *bus, struct page *page)
{
	for (uint32_t i = 0; i < LOG_MEMBERS; i++) {
		struct bus_member member = {.size = sizeof member};
		struct lines lines = {.page = page};

		if (i == bus->log->member || bus_member(bus, i, &member) <= 0 || !member.is_alive)
			continue;
		lines.pid = member.pid;
		with_text(bus, i, add_lines, &lines);
	}
}
