#include "topic/overlap.h"

#include <string.h>

#include "topic/name.h"

/* A filter, level by level. */
struct levels {
	const char *at; /* the next level; NULL: there is none */
	size_t len;
};

static struct levels
levels_of(const char *filter)
{
	return (struct levels){filter, bus__level_len(filter)};
}

static void
step(struct levels *levels)
{
	const char *end = levels->at + levels->len;

	*levels = *end == '/' ? levels_of(end + 1) : (struct levels){NULL, 0};
}

static bool
is_wild(const struct levels *levels, char wildcard)
{
	return levels->at != NULL && levels->len == 1 && levels->at[0] == wildcard;
}

/* Wildcards in the first level leave out what begins with $. */
static bool
is_hidden(const char *filter, const char *from)
{
	return filter[0] == '$' && (from[0] == '+' || from[0] == '#');
}

struct text {
	char *bytes;
	size_t len;
	bool is_begun, is_full;
};

static void
add(struct text *text, const char *level, size_t len)
{
	size_t slash = text->is_begun ? 1 : 0;

	if (text->len + slash + len > BUS_LIMIT_TOPIC_BYTES) {
		text->is_full = true; /* no topic is that long */
		return;
	}
	if (slash)
		text->bytes[text->len++] = '/';
	memcpy(text->bytes + text->len, level, len);
	text->len += len;
	text->is_begun = true;
}

/* The other one ends in #, here: what is left decides. It may be nothing, for "a/#" matches "a". */
static void
add_rest(struct text *text, const struct levels *rest)
{
	if (rest->at != NULL)
		add(text, rest->at, strlen(rest->at));
}

bool
bus__filter_overlap(const char *a, const char *b, char ret_filter[BUS_LIMIT_TOPIC_BYTES + 1])
{
	struct levels x = levels_of(a), y = levels_of(b);
	struct text text = {.bytes = ret_filter};

	if (is_hidden(a, b) || is_hidden(b, a))
		return false;
	for (;;) {
		if (is_wild(&x, '#')) {
			add_rest(&text, &y);
			break;
		}
		if (is_wild(&y, '#')) {
			add_rest(&text, &x);
			break;
		}
		if (x.at == NULL && y.at == NULL)
			break;
		if (x.at == NULL || y.at == NULL)
			return false;
		if (is_wild(&x, '+'))
			add(&text, y.at, y.len);
		else if (is_wild(&y, '+') || (x.len == y.len && memcmp(x.at, y.at, x.len) == 0))
			add(&text, x.at, x.len);
		else
			return false;
		step(&x);
		step(&y);
	}
	ret_filter[text.len] = '\0';
	/* No topic is empty, so "/#" and "+" have nothing in common but what begins with a slash. */
	return !text.is_full && text.len > 0;
}
