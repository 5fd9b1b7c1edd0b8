/* Writing JSON. By hand, since jansson writes no integer above INT64_MAX, 0.1 as 0.10000000000000001,
 * and a copy of the whole tree first. */
#include <libbus/pack.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "value/ext.h"
#include <libbus/error.h>

enum {
	/* A key that is no text is a text of its JSON, whose quotes are escaped: each key inside a key
	 * doubles them, and 33 bytes could ask for gigabytes. Below this level such keys are null. */
	KEYS_IN_KEYS = 2
};

struct out {
	char *data;
	size_t len, room;
	int key_level;
	int err; /* the first one stays */
};

static void
put(struct out *out, const char *bytes, size_t len)
{
	if (out->err < 0)
		return;
	if (len > out->room - out->len) {
		size_t room = out->room + out->len + len + 64;
		char *data = bus__realloc(out->data, room);

		if (data == NULL) {
			out->err = BUS_E_NOMEM;
			return;
		}
		out->data = data;
		out->room = room;
	}
	if (len > 0)
		memcpy(out->data + out->len, bytes, len);
	out->len += len;
}

static void
put_words(struct out *out, const char *words)
{
	put(out, words, strlen(words));
}

/* The code point at text if it is one of those that move the cursor, the colours or the direction of what
 * follows, or end a line in a script: U+0080 to U+009F, U+2028, U+2029, U+202A to U+202E, U+2066 to U+2069.
 * Otherwise 0. *ret_bytes: how long it is. */
static unsigned
unruly(const char *text, size_t left, size_t *ret_bytes)
{
	const unsigned char *t = (const unsigned char *)text;
	unsigned code;

	*ret_bytes = 2;
	if (left >= 2 && t[0] == 0xC2 && t[1] < 0xA0)
		return t[1];
	*ret_bytes = 3;
	if (left < 3 || t[0] != 0xE2)
		return 0;
	code = 0x2000u | (t[1] & 0x3fu) << 6 | (t[2] & 0x3fu);
	return (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069) ? code : 0;
}

/* The escape that must stand for what begins at text, and how many bytes it replaces; 0: none must.
 * More than JSON asks for, so that the line can stand inside a script of a page, where no end tag may
 * begin, and on a terminal, where it must stay a line. */
static size_t
escape_of(const char *text, size_t left, char escape[8])
{
	unsigned char first = (unsigned char)text[0];
	size_t bytes;
	unsigned code;

	if (first == '"' || first == '\\') {
		snprintf(escape, 8, "\\%c", first);
		return 1;
	}
	if (first == '\n' || first == '\t') {
		snprintf(escape, 8, "\\%c", first == '\n' ? 'n' : 't');
		return 1;
	}
	if (first < 0x20 || first == '<' || first == 0x7f) {
		snprintf(escape, 8, "\\u%04x", first);
		return 1;
	}
	code = unruly(text, left, &bytes);
	if (code != 0)
		snprintf(escape, 8, "\\u%04x", code);
	return code != 0 ? bytes : 0;
}

static void
put_text(struct out *out, const char *text, size_t len)
{
	size_t plain = 0, at = 0;

	put(out, "\"", 1);
	while (at < len) {
		char escape[8];
		size_t replaced = escape_of(text + at, len - at, escape);

		if (replaced == 0) {
			at++;
			continue;
		}
		put(out, text + plain, at - plain);
		put_words(out, escape);
		at += replaced;
		plain = at;
	}
	if (len > 0)
		put(out, text + plain, len - plain);
	put(out, "\"", 1);
}

static void
put_base64(struct out *out, const char *bytes, size_t len)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t at = 0; at < len; at += 3) {
		size_t left = len - at;
		uint32_t three = (uint32_t)(unsigned char)bytes[at] << 16;
		char four[4];

		if (left > 1)
			three |= (uint32_t)(unsigned char)bytes[at + 1] << 8;
		if (left > 2)
			three |= (unsigned char)bytes[at + 2];
		four[0] = digits[three >> 18];
		four[1] = digits[three >> 12 & 63];
		four[2] = left > 1 ? digits[three >> 6 & 63] : '=';
		four[3] = left > 2 ? digits[three & 63] : '=';
		put(out, four, 4);
	}
}

/* The fewest digits that read back as the same double, and a sign that it is no integer. */
static void
put_float(struct out *out, double number)
{
	char text[32];
	bool pointed = false;

	if (!isfinite(number)) {
		put_words(out, "null");
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, number);
		if (strtod(text, NULL) == number)
			break;
	}
	for (const char *at = text; *at != '\0'; at++) {
		if (strchr("0123456789+-e", *at) != NULL) {
			put(out, at, 1);
		} else if (!pointed) {
			/* The locale's decimal point, which may be a comma or several bytes. */
			put(out, ".", 1);
			pointed = true;
		}
	}
	if (!pointed && strchr(text, 'e') == NULL)
		put_words(out, ".0");
}

static void
put_time(struct out *out, int64_t seconds, uint32_t nanoseconds)
{
	char text[BUS__TIME_TEXT];
	size_t len = bus__time_text(text, seconds, nanoseconds);

	put(out, "\"", 1);
	put(out, text, len);
	put(out, "\"", 1);
}

static void
put_ext(struct out *out, int8_t ext, const char *data, size_t len)
{
	struct bus_numbers numbers;
	char text[48];
	bool counted = ext == BUS_EXT_NUMBERS && bus__numbers_read(data, len, &numbers);

	put_words(out, "{\"$bytes\":\"");
	if (!counted) {
		put_base64(out, data, len);
		snprintf(text, sizeof text, "\",\"$ext\":%d}", ext);
		put_words(out, text);
		return;
	}
	put_base64(out, numbers.data, numbers.len);
	snprintf(text, sizeof text, "\",\"$numbers\":\"%c%d\",\"$shape\":[", numbers.kind,
	    numbers.item_bytes);
	put_words(out, text);
	for (int i = 0; i < numbers.dimensions; i++) {
		snprintf(text, sizeof text, "%s%" PRIu32, i == 0 ? "" : ",", numbers.shape[i]);
		put_words(out, text);
	}
	put_words(out, "]}");
}

static void put_value(struct out *out, const struct bus_value *value);

static void
put_key(struct out *out, const struct bus_value *key)
{
	struct out inner = {.key_level = out->key_level + 1, .err = out->err};

	if (key->kind == BUS_KIND_TEXT) {
		put_text(out, key->as.bytes, key->count);
		return;
	}
	if (inner.key_level > KEYS_IN_KEYS)
		put_words(&inner, "null");
	else
		put_value(&inner, key);
	if (inner.err == 0)
		put_text(out, inner.data, inner.len);
	out->err = inner.err < 0 ? inner.err : out->err;
	bus__free(inner.data);
}

/* Recursion is as deep as the tree, so at most BUS_PACK_DEPTH. */
static void
put_value(struct out *out, const struct bus_value *value)
{
	char text[48];

	switch (value->kind) {
	case BUS_KIND_NIL:
		put_words(out, "null");
		break;
	case BUS_KIND_BOOL:
		put_words(out, value->as.boolean ? "true" : "false");
		break;
	case BUS_KIND_INT:
		snprintf(text, sizeof text, "%" PRId64, value->as.i);
		put_words(out, text);
		break;
	case BUS_KIND_UINT:
		snprintf(text, sizeof text, "%" PRIu64, value->as.u);
		put_words(out, text);
		break;
	case BUS_KIND_FLOAT:
		put_float(out, value->as.f);
		break;
	case BUS_KIND_TEXT:
		put_text(out, value->as.bytes, value->count);
		break;
	case BUS_KIND_BYTES:
		put_words(out, "{\"$bytes\":\"");
		put_base64(out, value->as.bytes, value->count);
		put_words(out, "\"}");
		break;
	case BUS_KIND_EXT:
		put_ext(out, value->ext, value->as.bytes, value->count);
		break;
	case BUS_KIND_TIME:
		put_time(out, value->as.i, value->count);
		break;
	case BUS_KIND_ARRAY:
		for (uint32_t i = 0; i < value->count; i++) {
			put_words(out, i == 0 ? "[" : ",");
			put_value(out, &value->as.items[i]);
		}
		put_words(out, value->count == 0 ? "[]" : "]");
		break;
	case BUS_KIND_MAP:
		for (uint32_t i = 0; i < value->count; i++) {
			put_words(out, i == 0 ? "{" : ",");
			put_key(out, &value->as.items[2 * i]);
			put_words(out, ":");
			put_value(out, &value->as.items[2 * i + 1]);
		}
		put_words(out, value->count == 0 ? "{}" : "}");
		break;
	}
}

int
bus_value_json(const struct bus_value *value, char **ret_text, size_t *ret_len)
{
	struct out out = {0};

	if (value == NULL || ret_text == NULL || ret_len == NULL)
		return bus__answer(BUS_E_INVAL);
	put_value(&out, value);
	put(&out, "", 1);
	if (out.err < 0) {
		bus__free(out.data);
		return bus__answer(out.err);
	}
	*ret_text = out.data;
	*ret_len = out.len - 1;
	return 0;
}
