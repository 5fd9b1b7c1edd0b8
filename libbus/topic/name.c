#define _POSIX_C_SOURCE 200809L
#include "topic/name.h"

#include <string.h>

#include <libbus/bus.h>

#include "base/utf8.h"

/* What topics and filters have in common. The length is bounded before the text is looked at, so that a
 * missing NUL costs at most a limit's worth of reading. */
static int
name_check(const char *name, size_t *ret_len)
{
	size_t len, levels = 1;

	if (name == NULL)
		return BUS_E_INVAL;
	len = strnlen(name, BUS_LIMIT_TOPIC_BYTES + 1);
	if (len == 0)
		return BUS_E_TOPIC_EMPTY;
	if (len > BUS_LIMIT_TOPIC_BYTES)
		return BUS_E_TOPIC_LONG;
	for (size_t i = 0; i < len; i++)
		levels += name[i] == '/';
	if (levels > BUS_LIMIT_TOPIC_LEVELS)
		return BUS_E_TOPIC_LONG;
	if (!bus__utf8_valid(name, len))
		return BUS_E_TOPIC_BYTES;
	*ret_len = len;
	return 0;
}

int
bus__topic_check(const char *topic, size_t *ret_len)
{
	int err = name_check(topic, ret_len);

	if (err < 0)
		return err;
	if (strpbrk(topic, "+#") != NULL)
		return BUS_E_TOPIC_WILDCARD;
	if (topic[0] == '$')
		return BUS_E_TOPIC_RESERVED;
	return 0;
}

size_t
bus__level_len(const char *name)
{
	return strcspn(name, "/");
}

int
bus__filter_check(const char *filter, size_t *ret_len)
{
	int err = name_check(filter, ret_len);
	const char *level = filter;

	if (err < 0)
		return err;
	for (;;) {
		size_t len = bus__level_len(level);
		const char *wild = strpbrk(level, "+#");

		if (wild != NULL && wild < level + len && len != 1)
			return BUS_E_FILTER; /* a wildcard shares its level */
		if (level[0] == '#' && level[len] == '/')
			return BUS_E_FILTER; /* # is not the last level */
		if (level[len] == '\0')
			return 0;
		level += len + 1;
	}
}

/* A level of a filter that is one wildcard. */
static bool
level_is(const char *level, char wildcard)
{
	return level[0] == wildcard && (level[1] == '/' || level[1] == '\0');
}

bool
bus__filter_covers(const char *filter, const char *other)
{
	/* Wildcards in the first level leave out what begins with $. */
	if (other[0] == '$' && (level_is(filter, '+') || level_is(filter, '#')))
		return false;
	/* "+/#" matches all that "#" matches: each topic has a first level. Deeper, "a/#" alone matches "a". */
	if (strcmp(filter, "+/#") == 0)
		return true;
	/* No topic is empty, so "/#" has none that is its parent. */
	if (strcmp(other, "/#") == 0)
		other = "/+/#";
	for (;;) {
		size_t len = bus__level_len(filter), other_len = bus__level_len(other);

		if (level_is(filter, '#'))
			return true;
		if (level_is(other, '#'))
			return false;
		if (!level_is(filter, '+') && (len != other_len || memcmp(filter, other, len) != 0))
			return false;
		filter += len;
		other += other_len;
		if (*other == '\0')
			/* "a/#" matches its parent, "a". */
			return *filter == '\0' || strcmp(filter, "/#") == 0;
		if (*filter == '\0')
			return false;
		filter++;
		other++;
	}
}

int
bus_filter_check(const char *filter)
{
	size_t len;
	int err = bus__filter_check(filter, &len);

	return err < 0 ? bus__fail_name(err, filter) : 0;
}

int
bus_filter_covers(const char *filter, const char *other)
{
	int err = bus_filter_check(filter);

	if (err == 0)
		err = bus_filter_check(other);
	return err < 0 ? err : bus__filter_covers(filter, other);
}
