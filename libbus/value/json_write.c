/* Writes JSON, without jansson, which writes no integer above INT64_MAX, writes 0.1 as 0.10000000000000001,
 * and needs a copy of the whole tree. */
#include <libbus/pack.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/error_text.h"
#include "base/mem.h"
#include "value/ext.h"
#include "value/float_text.h"
#include "value/value.h"
#include <libbus/error.h>

enum {
	/* A key that is not text is written as the text of its JSON, whose quotes are escaped: each key inside a key
	 * doubles them, and 33 bytes could ask for gigabytes. Below this level such keys are null. */
	KEYS_IN_KEYS = 2
};

struct out {
	char *data;
	size_t len, room;
	int key_level;
	int err; /* the first one sticks */
};

static bool
grow(struct out *out, size_t len)
{
	size_t room = out->room + out->len + len + 64;
	char *data;

	if (out->err < 0)
		return false;
	data = bus__realloc(out->data, room);
	if (data == NULL) {
		out->err = BUS_E_NOMEM;
		return false;
	}
	out->data = data;
	out->room = room;
	return true;
}

static inline void
put(struct out *out, const char *bytes, size_t len)
{
	if (len > out->room - out->len && !grow(out, len))
		return;
	if (len > 0)
		memcpy(out->data + out->len, bytes, len);
	out->len += len;
}

static inline void
put_words(struct out *out, const char *words)
{
	put(out, words, strlen(words));
}

/* Room for a number, whose length is added afterwards; NULL: out of memory. */
static inline char *
number_place(struct out *out)
{
	if (BUS__NUMBER_TEXT > out->room - out->len && !grow(out, BUS__NUMBER_TEXT))
		return NULL;
	return out->data + out->len;
}

/* The code point at text if it moves the cursor, changes the colours or the direction of the text that
 * follows, or ends a line in a script: U+0080 to U+009F, U+2028, U+2029, U+202A to U+202E, U+2066 to U+2069.
 * Otherwise 0. *ret_bytes: its length. */
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

/* The escape that must replace the bytes at text, and how many; 0: none.
 * Escapes more than JSON demands, so that the line can stand in a page's script, where no end tag may
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
	if (code != 0) /* the mask changes nothing, and tells gcc -O0 that four digits are enough */
		snprintf(escape, 8, "\\u%04x", code & 0xffff);
	return code != 0 ? bytes : 0;
}

/* Whether an escape may begin with this byte. */
static inline bool
is_suspect(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\' || c == '<' || c == 0x7f || c == 0xC2 || c == 0xE2;
}

static void
put_text(struct out *out, const char *text, size_t len)
{
	size_t plain = 0, at = 0;

	put(out, "\"", 1);
	while (at < len) {
		char escape[8];
		size_t replaced;

		while (at < len && !is_suspect((unsigned char)text[at]))
			at++;
		replaced = at < len ? escape_of(text + at, len - at, escape) : 0;
		if (replaced == 0) {
			at++;
			continue;
		}
		put(out, text + plain, at - plain);
		put_words(out, escape);
		at += replaced;
		plain = at;
	}
	if (len > plain)
		put(out, text + plain, len - plain);
	put(out, "\"", 1);
}

static void
put_base64(struct out *out, const char *bytes, size_t len)
{
	enum { PART = 48 /* a multiple of 3, so that only the last part has padding */ };
	char text[BUS__BASE64_LEN(PART)];

	for (size_t at = 0; at < len; at += PART) {
		size_t n = len - at < PART ? len - at : PART;

		put(out, text, bus__base64_write(bytes + at, n, text));
	}
}

static void
put_float(struct out *out, double number)
{
	char *place;

	if (!isfinite(number)) {
		put_words(out, "null");
		return;
	}
	place = number_place(out);
	if (place != NULL)
		out->len += bus__float_text(place, number);
}

static void
put_int(struct out *out, int64_t number)
{
	char *place = number_place(out);

	if (place != NULL)
		out->len += bus__int_text(place, number);
}

static void
put_uint(struct out *out, uint64_t number)
{
	char *place = number_place(out);

	if (place != NULL)
		out->len += bus__uint_text(place, number);
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
		put_words(out, i == 0 ? "" : ",");
		put_uint(out, numbers.shape[i]);
	}
	put_words(out, "]}");
}

/* The source of values: a tree, or the bytes of msgpack, which give only the head of a container. */
struct source {
	const struct bus_value *item; /* the next value of a tree; NULL: bytes */
	const uint8_t *at, *end;
};

static void put_value(struct out *out, const struct bus_value *value, struct source *inside);

/* The next value, and the source of its own values. */
static const struct bus_value *
next_of(struct source *source, struct bus_value *space, struct source *ret_inside)
{
	if (source->item == NULL) {
		bus__msgpack_next(&source->at, source->end, space);
		return space;
	}
	if (source->item->kind == BUS_KIND_ARRAY || source->item->kind == BUS_KIND_MAP)
		ret_inside->item = source->item->as.items;
	return source->item++;
}

static void
put_next(struct out *out, struct source *source)
{
	struct bus_value space;
	struct source of_tree = {0};
	const struct bus_value *value = next_of(source, &space, &of_tree);

	put_value(out, value, source->item == NULL ? source : &of_tree);
}

static void
put_key(struct out *out, struct source *source)
{
	struct bus_value space;
	struct source of_tree = {0};
	const struct bus_value *key = next_of(source, &space, &of_tree);
	struct out inner = {.key_level = out->key_level + 1, .err = out->err};

	if (key->kind == BUS_KIND_TEXT) {
		put_text(out, key->as.bytes, key->count);
		return;
	}
	/* Writes a key that will be null, too, and discards it: the value follows its bytes. */
	put_value(&inner, key, source->item == NULL ? source : &of_tree);
	if (inner.key_level > KEYS_IN_KEYS)
		put_text(out, "null", 4);
	else if (inner.err == 0)
		put_text(out, inner.data, inner.len);
	out->err = inner.err < 0 ? inner.err : out->err;
	bus__free(inner.data);
}

static void
put_array(struct out *out, uint32_t count, struct source *items)
{
	for (uint32_t i = 0; i < count; i++) {
		put(out, i == 0 ? "[" : ",", 1);
		put_next(out, items);
	}
	put_words(out, count == 0 ? "[]" : "]");
}

static void
put_map(struct out *out, uint32_t count, struct source *pairs)
{
	for (uint32_t i = 0; i < count; i++) {
		put(out, i == 0 ? "{" : ",", 1);
		put_key(out, pairs);
		put(out, ":", 1);
		put_next(out, pairs);
	}
	put_words(out, count == 0 ? "{}" : "}");
}

/* Recursion is as deep as the value: at most BUS_PACK_DEPTH. inside: the values of a container. */
static void
put_value(struct out *out, const struct bus_value *value, struct source *inside)
{
	switch (value->kind) {
	case BUS_KIND_NIL:
		put_words(out, "null");
		break;
	case BUS_KIND_BOOL:
		put_words(out, value->as.boolean ? "true" : "false");
		break;
	case BUS_KIND_INT:
		put_int(out, value->as.i);
		break;
	case BUS_KIND_UINT:
		put_uint(out, value->as.u);
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
		put_array(out, value->count, inside);
		break;
	case BUS_KIND_MAP:
		put_map(out, value->count, inside);
		break;
	}
}

static int
finish(struct out *out, char **ret_text, size_t *ret_len)
{
	put(out, "", 1);
	if (out->err < 0) {
		bus__free(out->data);
		return bus__answer(out->err);
	}
	*ret_text = out->data;
	*ret_len = out->len - 1;
	return 0;
}

int
bus_value_json(const struct bus_value *value, char **ret_text, size_t *ret_len)
{
	struct source tree = {.item = value};
	struct out out = {0};

	if (value == NULL || ret_text == NULL || ret_len == NULL)
		return bus__answer(BUS_E_INVAL);
	put_next(&out, &tree);
	return finish(&out, ret_text, ret_len);
}

/* msgpack is written without a tree; other types are read into one. */
int
bus_payload_json(int type, const void *data, size_t len, char **ret_text, size_t *ret_len)
{
	const struct bus_value *value = NULL;
	struct source bytes = {.at = data};
	struct out out = {0};
	int err;

	if (ret_text == NULL || ret_len == NULL || (data == NULL && len > 0))
		return bus__answer(BUS_E_INVAL);
	if (type != BUS_TYPE_MSGPACK || data == NULL) {
		err = bus_value_read(type, data, len, &value);
		if (err == 0)
			err = bus_value_json(value, ret_text, ret_len);
		bus_value_free(value);
		return err;
	}
	err = len <= UINT32_MAX ? bus__msgpack_check(data, len) : BUS_E_DECODE;
	if (err < 0)
		return bus__value_fail(err, type, data, len);
	bytes.end = bytes.at + len;
	/* Most texts are a little longer than their msgpack. */
	if (grow(&out, len + len / 2))
		put_next(&out, &bytes);
	return finish(&out, ret_text, ret_len);
}
