/* topic/name_fail.c: what is wrong with a topic or filter, in a sentence. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>

#include <libbus/bus.h>

#include "base/error_text.h"
#include "topic/name.h"

/* The level of a filter that is malformed. */
static int
fail_filter(const char *filter)
{
	unsigned number = 1;

	for (const char *level = filter;; number++) {
		size_t len = strcspn(level, "/");

		if (len > 1 && strcspn(level, "+#") < len)
			return bus__fail(BUS_E_FILTER,
			    BUS__SHOWN
			    ": malformed filter: level %u is \"%.*s\", but + and # stand alone in a level",
			    filter, number, len < 40 ? (int)len : 40, level);
		if (level[0] == '#' && level[len] == '/')
			return bus__fail(BUS_E_FILTER,
			    BUS__SHOWN
			    ": malformed filter: level %u is #, which stands in the last level alone",
			    filter, number);
		if (level[len] == '\0')
			return bus__fail_about(BUS_E_FILTER, filter);
		level += len + 1;
	}
}

static int
fail_long(const char *name)
{
	size_t len = strnlen(name, BUS_LIMIT_TOPIC_BYTES + 1);
	unsigned levels = 1;

	if (len > BUS_LIMIT_TOPIC_BYTES)
		return bus__fail(BUS_E_TOPIC_LONG,
		    "%.40s...: too long: a topic or filter has at most %d bytes: shorten it", name,
		    BUS_LIMIT_TOPIC_BYTES);
	for (size_t i = 0; i < len; i++)
		levels += name[i] == '/';
	return bus__fail(BUS_E_TOPIC_LONG,
	    "%.40s%s: too long: %u levels, and a topic or filter has at most %d: use fewer /", name,
	    len > 40 ? "..." : "", levels, BUS_LIMIT_TOPIC_LEVELS);
}

int
bus__fail_name(int err, const char *name)
{
	if (name == NULL)
		return bus__fail(err,
		    err == BUS_E_INVAL
			? "the topic or filter is NULL: pass a string, like sensors/pi/temp"
			: "%s",
		    bus_strerror(err));
	switch (err) {
	case BUS_E_TOPIC_LONG:
		return fail_long(name);
	case BUS_E_FILTER:
		return fail_filter(name);
	case BUS_E_TOPIC_EMPTY:
		return bus__fail(err, "%s", bus_strerror(err));
	default:
		return bus__fail_about(err, name);
	}
}
