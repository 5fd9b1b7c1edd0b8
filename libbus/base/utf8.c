#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

size_t
bus__utf8_valid_bytes(const void *text, size_t len)
{
	const uint8_t *p = text, *end = p + len;

	while (p < end) {
		size_t begin = (size_t)(p - (const uint8_t *)text);
		uint8_t first = *p++, low = 0x80, high = 0xBF;
		int more;

		if (first < 0x80) {
			/* Topics and numbers are mostly ASCII: eight bytes at a time. */
			uint64_t eight;

			while (end - p >= 8 &&
			       (memcpy(&eight, p, 8), (eight & 0x8080808080808080u) == 0))
				p += 8;
			continue;
		}
		if (first >= 0xC2 && first <= 0xDF)
			more = 1;
		else if (first >= 0xE0 && first <= 0xEF)
			more = 2;
		else if (first >= 0xF0 && first <= 0xF4)
			more = 3;
		else
			return begin;
		if (end - p < more)
			return begin;
		/* The second byte has a narrower range after these, which excludes overlong forms, surrogates
		 * and characters above U+10FFFF. */
		if (first == 0xE0)
			low = 0xA0;
		else if (first == 0xED)
			high = 0x9F;
		else if (first == 0xF0)
			low = 0x90;
		else if (first == 0xF4)
			high = 0x8F;
		for (; more > 0; more--, p++, low = 0x80, high = 0xBF)
			if (*p < low || *p > high)
				return begin;
	}
	return len;
}

bool
bus__utf8_valid(const void *text, size_t len)
{
	return bus__utf8_valid_bytes(text, len) == len;
}
