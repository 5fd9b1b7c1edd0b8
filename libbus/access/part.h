/* access/part.h: reads text without a NUL byte at its end, field by field. */
#ifndef BUS_ACCESS_PART_H
#define BUS_ACCESS_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bus__part {
	const char *at; /* NULL: there is no such field */
	size_t len;
};

static inline bool
bus__part_is(struct bus__part part, const char *word)
{
	return part.len == strlen(word) && memcmp(part.at, word, part.len) == 0;
}

/* Cuts off the text before the first `end`, and that character. Without one it cuts off all; then no field is left, not even an
 * empty one. */
static inline struct bus__part
bus__part_cut(struct bus__part *rest, char end)
{
	const char *found = rest->len > 0 ? memchr(rest->at, end, rest->len) : NULL;
	struct bus__part first = *rest;

	if (found != NULL)
		first.len = (size_t)(found - rest->at);
	rest->at = found != NULL ? found + 1 : NULL;
	rest->len = found != NULL ? rest->len - first.len - 1 : 0;
	return first;
}

/* A decimal number from 1 to `most`, of at most 9 digits, without a sign or leading 0; 0: it is none. */
static inline uint32_t
bus__part_number(struct bus__part part, uint32_t most)
{
	uint32_t value = 0;

	if (part.len == 0 || part.len > 9 || part.at[0] == '0')
		return 0;
	for (size_t i = 0; i < part.len; i++) {
		if (part.at[i] < '0' || part.at[i] > '9')
			return 0;
		value = value * 10 + (uint32_t)(part.at[i] - '0');
	}
	return value <= most ? value : 0;
}

#endif
