#include "topic/near.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include <libbus/bus.h>

#include "topic/name.h"

/* What comes out of laying a filter and a topic side by side, level by level, to the end of the shorter one. */
struct fit {
	unsigned levels;                        /* compared */
	unsigned wrong, wrong_case;             /* of these differ; differ in case only */
	const char *filter_left, *left;         /* of filter and topic; NULL: nothing */
	const char *wrong_filter, *wrong_topic; /* the last level of each that differs */
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
	struct fit fit = {.filter_left = filter, .left = topic};

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
			fit.wrong_filter = fit.filter_left;
			fit.wrong_topic = fit.left;
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

static unsigned
count_levels(const char *name)
{
	unsigned levels = 1;

	for (; *name != '\0'; name++)
		levels += *name == '/';
	return levels;
}

static bool
ends_in_hash(const char *filter)
{
	return filter[strlen(filter) - 1] == '#';
}

static bool
has_literal(const char *filter)
{
	for (const char *level = filter; level != NULL;) {
		size_t len = bus__level_len(level);

		if (len > 0 && !is_wild(level, len, '+') && !is_wild(level, len, '#'))
			return true;
		level = next_level(level, len);
	}
	return false;
}

/* Copies a name without one of its levels. false: nothing would be left. */
static bool
leave_out(const char *name, const char *level, char ret_name[BUS_LIMIT_TOPIC_BYTES + 1])
{
	const char *next = next_level(level, bus__level_len(level));
	size_t before = (size_t)(level - name);

	if (next == NULL && before == 0)
		return false;
	if (next == NULL)
		before--; /* the slash in front of it */
	memcpy(ret_name, name, before);
	strcpy(ret_name + before, next != NULL ? next : "");
	return ret_name[0] != '\0';
}

/* Whether the filter has a level more than the topic, which it would match without. What is left has to name something. */
static bool
has_surplus(const char *filter, const char *topic)
{
	char shorter[BUS_LIMIT_TOPIC_BYTES + 1];

	if (count_levels(filter) != count_levels(topic) + 1 && !ends_in_hash(filter))
		return false;
	for (const char *level = filter; level != NULL;) {
		size_t len = bus__level_len(level);

		if (!is_wild(level, len, '#') && leave_out(filter, level, shorter) &&
		    has_literal(shorter) && fits(shorter, topic))
			return true;
		level = next_level(level, len);
	}
	return false;
}

/* Whether the filter would match the topic without one of its levels. */
static bool
lacks_level(const char *filter, const char *topic)
{
	char shorter[BUS_LIMIT_TOPIC_BYTES + 1];

	if ((count_levels(filter) + 1 != count_levels(topic) && !ends_in_hash(filter)) ||
	    !has_literal(filter))
		return false;
	for (const char *level = topic; level != NULL;
	     level = next_level(level, bus__level_len(level)))
		if (leave_out(topic, level, shorter) && fits(filter, shorter))
			return true;
	return false;
}

#define SIMILAR_MOST 64 /* bytes of a level that is compared letter by letter */

static unsigned
least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* How many letters were left out, put in, changed, or swapped with their neighbour. */
static unsigned
edits(const char *a, size_t a_len, const char *b, size_t b_len)
{
	uint8_t rows[3][SIMILAR_MOST + 1];

	for (size_t j = 0; j <= b_len; j++)
		rows[0][j] = (uint8_t)j;
	for (size_t i = 1; i <= a_len; i++) {
		uint8_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *higher = rows[(i + 1) % 3];

		row[0] = (uint8_t)i;
		for (size_t j = 1; j <= b_len; j++) {
			unsigned cost = a[i - 1] != b[j - 1];
			unsigned edited =
			    least(least(above[j] + 1u, row[j - 1] + 1u), above[j - 1] + cost);

			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				edited = least(edited, higher[j - 2] + 1u);
			row[j] = (uint8_t)edited;
		}
	}
	return rows[a_len % 3][b_len];
}

/* Names that differ in their numbers alone are those of two things. */
static bool
differ_in_digits(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t i = 0, j = 0;

	for (;;) {
		while (i < a_len && a[i] >= '0' && a[i] <= '9')
			i++;
		while (j < b_len && b[j] >= '0' && b[j] <= '9')
			j++;
		if (i == a_len || j == b_len)
			return i == a_len && j == b_len;
		if (a[i++] != b[j++])
			return false;
	}
}

static bool
is_similar(const char *a, const char *b)
{
	size_t a_len = bus__level_len(a), b_len = bus__level_len(b);
	size_t longer = a_len > b_len ? a_len : b_len, shorter = a_len + b_len - longer;

	if (shorter < 3 || longer > SIMILAR_MOST || longer - shorter > 2 ||
	    differ_in_digits(a, a_len, b, b_len))
		return false;
	return edits(a, a_len, b, b_len) <= (shorter < 6 ? 1u : 2u);
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
	if (whole && fit.wrong == 1 && is_similar(fit.wrong_filter, fit.wrong_topic))
		return NEAR_NAME;
	if (lacks_level(filter, topic))
		return NEAR_MISSING;
	if (whole && fit.wrong == 1 && fit.levels > 1)
		return NEAR_LEVEL;
	/* Last: with a # behind it, another level in its place would do as well. */
	if (has_surplus(filter, topic))
		return NEAR_SURPLUS;
	return NEAR_NOT;
}
