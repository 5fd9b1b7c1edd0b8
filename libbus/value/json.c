/* Reads JSON, by jansson. jansson recurses 2048 deep, has no limit on elements and no integers above
 * INT64_MAX; so survey() checks the text first, and widen() rewrites such integers. */
#define _POSIX_C_SOURCE 200809L
#include "value/value.h"

#include <errno.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include <libbus/error.h>

/* --- a survey of the text -------------------------------------------------------------------------- */

static const char *
string_end(const char *at, const char *end)
{
	for (at++; at < end && *at != '"'; at++)
		if (*at == '\\' && end - at > 1)
			at++;
	return at < end ? at + 1 : end;
}

/* A number, true, false, null, or an error that only jansson names. */
static const char *
bare_end(const char *at, const char *end)
{
	while (at < end && memchr("[]{},:\" \t\r\n", *at, 11) == NULL)
		at++;
	return at;
}

static bool
digits_exceed(const char *digits, size_t len, const char *limit)
{
	size_t limit_len = strlen(limit);

	return len > limit_len || (len == limit_len && memcmp(digits, limit, len) > 0);
}

enum width { NARROW, NEEDS_UINT, NEEDS_FLOAT };

/* The width of a bare token: NARROW unless it is an integer that int64_t does not hold. */
static enum width
width_of(const char *token, size_t len)
{
	bool negative = len > 0 && token[0] == '-';

	token += negative;
	len -= negative;
	if (len < 19 || token[0] == '0')
		return NARROW;
	for (size_t i = 0; i < len; i++)
		if (token[i] < '0' || token[i] > '9')
			return NARROW;
	if (negative)
		return digits_exceed(token, len, "9223372036854775808") ? NEEDS_FLOAT : NARROW;
	if (digits_exceed(token, len, "18446744073709551615"))
		return NEEDS_FLOAT;
	return digits_exceed(token, len, "9223372036854775807") ? NEEDS_UINT : NARROW;
}

struct survey {
	size_t elements;
	bool wide; /* has integers that jansson refuses */
};

/* Counts exactly for JSON, and harmlessly for anything else; false: over a limit. */
static bool
survey(const char *at, size_t len, struct survey *ret_survey)
{
	const char *end = at + len, *token;
	struct survey found = {0};
	int depth = 0;

	while (at < end) {
		token = at;
		switch (*at) {
		case ' ':
		case '\t':
		case '\r':
		case '\n':
		case ',':
		case ':':
			at++;
			continue;
		case ']':
		case '}':
			if (--depth < 0)
				return false;
			at++;
			continue;
		case '[':
		case '{':
			if (++depth > BUS_PACK_DEPTH)
				return false;
			at++;
			break;
		case '"':
			at = string_end(at, end);
			break;
		default:
			at = bare_end(at, end);
			if (width_of(token, (size_t)(at - token)) != NARROW)
				found.wide = true;
		}
		if (++found.elements > BUS_PACK_ELEMENTS)
			return false;
	}
	*ret_survey = found;
	return true;
}

/* --- integers that jansson refuses ---------------------------------------------------------------- */

/* In a widened text every string begins with a mark, so that no string can pass for a number. */
enum mark { MARK_STRING = 's', MARK_UINT = 'u' };

enum { WIDEN_MOST = 3 }; /* bytes more per element: "u and " */

/* Writes 18446744073709551615 as "u18446744073709551615", a larger integer with e0, "x" as "sx". */
static size_t
widen(const char *at, size_t len, char *out)
{
	const char *end = at + len, *token;
	char *start = out;

	while (at < end) {
		enum width width = NARROW;

		token = at;
		if (*at == '"') {
			at = string_end(at, end);
			*out++ = '"';
			*out++ = MARK_STRING;
			token++;
		} else if (memchr("[]{},: \t\r\n", *at, 10) != NULL) {
			at++;
		} else {
			at = bare_end(at, end);
			width = width_of(token, (size_t)(at - token));
		}
		if (width == NEEDS_UINT) {
			*out++ = '"';
			*out++ = MARK_UINT;
		}
		memcpy(out, token, (size_t)(at - token));
		out += at - token;
		if (width == NEEDS_UINT)
			*out++ = '"';
		if (width == NEEDS_FLOAT) {
			*out++ = 'e';
			*out++ = '0';
		}
	}
	return (size_t)(out - start);
}

/* --- the tree ------------------------------------------------------------------------------------- */

struct copying {
	struct bus__tree tree;
	bool wide;
	bool wrong; /* a widened integer stood where JSON wants a key */
};

static void
copy_string(struct copying *copying, struct bus_value *value, const char *text, size_t len)
{
	if (copying->wide && *text == MARK_UINT) {
		bus__value_uint(value, strtoull(text + 1, NULL, 10));
		return;
	}
	bus__tree_copy(
	    &copying->tree, value, BUS_KIND_TEXT, text + copying->wide, len - copying->wide);
}

/* Recursion is at most BUS_PACK_DEPTH deep. */
static void
copy(struct copying *copying, struct bus_value *value, json_t *json)
{
	struct bus_value *items;
	uint32_t count = 0;

	switch (json_typeof(json)) {
	case JSON_NULL:
		*value = (struct bus_value){.kind = BUS_KIND_NIL};
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		*value =
		    (struct bus_value){.kind = BUS_KIND_BOOL, .as.boolean = json_is_true(json)};
		break;
	case JSON_INTEGER:
		*value = (struct bus_value){.kind = BUS_KIND_INT, .as.i = json_integer_value(json)};
		break;
	case JSON_REAL:
		*value = (struct bus_value){.kind = BUS_KIND_FLOAT, .as.f = json_real_value(json)};
		break;
	case JSON_STRING:
		copy_string(copying, value, json_string_value(json), json_string_length(json));
		break;
	case JSON_ARRAY:
		items = bus__tree_take(&copying->tree, json_array_size(json));
		for (; count < json_array_size(json); count++)
			copy(copying, &items[count], json_array_get(json, count));
		*value =
		    (struct bus_value){.kind = BUS_KIND_ARRAY, .count = count, .as.items = items};
		break;
	case JSON_OBJECT:
		items = bus__tree_take(&copying->tree, 2 * json_object_size(json));
		for (void *at = json_object_iter(json); at != NULL;
		     at = json_object_iter_next(json, at), count++) {
			/* jansson refuses keys with NUL. */
			const char *key = json_object_iter_key(at);

			copy_string(copying, &items[2 * count], key, strlen(key));
			if (items[2 * count].kind != BUS_KIND_TEXT)
				copying->wrong = true;
			copy(copying, &items[2 * count + 1], json_object_iter_value(at));
		}
		*value =
		    (struct bus_value){.kind = BUS_KIND_MAP, .count = count, .as.items = items};
		break;
	}
}

/* jansson names its reason; but when memory ran out it names none, or a syntax error where it stopped. */
static int
load_error(const json_error_t *error, int system_error)
{
	enum json_error_code code = json_error_code(error);

	return system_error == ENOMEM || code == json_error_out_of_memory ||
		       code == json_error_unknown
		   ? BUS_E_NOMEM
		   : BUS_E_DECODE;
}

/* jansson aborts on a number if the locale's decimal point has several bytes, as in Persian. */
static int
load(const char *text, size_t len, json_t **ret_json, json_error_t *ret_error)
{
	locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0), callers;
	int system_error;

	if (plain == (locale_t)0)
		return BUS_E_NOMEM;
	callers = uselocale(plain);
	errno = 0;
	*ret_json = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, ret_error);
	system_error = errno;
	uselocale(callers);
	freelocale(plain);
	if (*ret_json == NULL)
		return load_error(ret_error, system_error);
	/* If its buffer for a token above 15 bytes cannot grow, jansson drops a character. For a number it does not report
	 * that, so the number may be wrong. */
	if (system_error == ENOMEM) {
		json_decref(*ret_json);
		return BUS_E_NOMEM;
	}
	return 0;
}

size_t
bus__json_bad_byte(const char *text, size_t len)
{
	struct survey found;
	json_error_t error = {.position = 0};
	json_t *json;
	int err;

	/* Widened numbers would move the bytes. */
	if (!survey(text, len, &found) || found.wide)
		return len;
	err = load(text, len, &json, &error);
	if (err == 0)
		json_decref(json);
	if (err != BUS_E_DECODE)
		return len;
	return error.position > 0 && (size_t)error.position <= len ? (size_t)error.position - 1 : 0;
}

int
bus__json_read(const char *text, size_t len, const struct bus_value **ret_value)
{
	struct survey found;
	struct copying copying;
	struct bus_value *root;
	json_error_t error;
	json_t *json;
	char *widened = NULL;
	size_t text_len = len;
	int err;

	/* jansson drops a NUL behind a number or a literal. JSON has none anywhere. */
	if ((len > 0 && memchr(text, '\0', len) != NULL) || !survey(text, len, &found))
		return BUS_E_DECODE;
	copying = (struct copying){.wide = found.wide};
	if (found.wide) {
		widened = bus__malloc(len + WIDEN_MOST * found.elements);
		if (widened == NULL)
			return BUS_E_NOMEM;
		text_len = widen(text, len, widened);
		text = widened;
	}
	err = load(text, text_len, &json, &error);
	if (err < 0)
		goto free_widened;
	/* An escape is never shorter than its character: the texts fit into len bytes. */
	root = bus__tree_new(&copying.tree, found.elements, len);
	if (root == NULL) {
		err = BUS_E_NOMEM;
		goto free_json;
	}
	copy(&copying, root, json);
	if (copying.wrong) {
		err = BUS_E_DECODE;
		bus_value_free(root);
	} else {
		*ret_value = root;
	}
free_json:
	json_decref(json);
free_widened:
	bus__free(widened);
	return err;
}
