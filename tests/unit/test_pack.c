#include "bus_test.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "value/float_text.h"
#include <libbus/pack.h>

#define BYTES(literal) (literal), sizeof(literal) - 1

/* The payload stands in a block of exactly its size, so that a sanitizer sees any step beyond it. */
static int
read_exact(int type, const void *data, size_t len, const struct bus_value **ret_value)
{
	char *exact = malloc(len > 0 ? len : 1);
	int err;

	ck_assert_ptr_nonnull(exact);
	memcpy(exact, data, len);
	err = bus_value_read(type, exact, len, ret_value);
	free(exact);
	return err;
}

static const struct bus_value *
read_ok(int type, const void *data, size_t len)
{
	const struct bus_value *value = NULL;

	ck_bus(read_exact(type, data, len, &value), 0);
	return value;
}

static void
ck_refused(int type, const void *data, size_t len)
{
	const struct bus_value *value = NULL;

	ck_bus(read_exact(type, data, len, &value), BUS_E_DECODE);
	ck_assert_ptr_null(value);
}

static char *
json_of(const struct bus_value *value)
{
	char *text = NULL;
	size_t len = 0;

	ck_bus(bus_value_json(value, &text, &len), 0);
	ck_assert_uint_eq(strlen(text), len);
	return text;
}

/* Without a tree it is the same text. */
static void
ck_straight_json(int type, const void *data, size_t bytes, const char *json)
{
	char *text = NULL;
	size_t len = 0;

	ck_bus(bus_payload_json(type, data, bytes, &text, &len), 0);
	ck_assert_uint_eq(strlen(text), len);
	ck_assert_str_eq(text, json);
	free(text);
}

static void
ck_reads(int type, const void *data, size_t len, enum bus_kind kind, const char *json)
{
	const struct bus_value *value = read_ok(type, data, len);
	char *text = json_of(value);

	ck_assert_int_eq(value->kind, kind);
	ck_assert_str_eq(text, json);
	ck_straight_json(type, data, len, json);
	free(text);
	bus_value_free(value);
}

/* Reads msgpack and compares its JSON text only. */
static void
ck_json(const void *data, size_t len, const char *json)
{
	const struct bus_value *value = read_ok(BUS_TYPE_MSGPACK, data, len);
	char *text = json_of(value);

	ck_assert_str_eq(text, json);
	ck_straight_json(BUS_TYPE_MSGPACK, data, len, json);
	free(text);
	bus_value_free(value);
}

static char *
repeated(const char *unit, size_t unit_len, size_t count, const char *tail, size_t *ret_len)
{
	size_t tail_len = strlen(tail);
	char *text = malloc(unit_len * count + tail_len + 1);

	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < count; i++)
		memcpy(text + i * unit_len, unit, unit_len);
	memcpy(text + unit_len * count, tail, tail_len + 1);
	*ret_len = unit_len * count + tail_len;
	return text;
}

/* [nil, true, -1, 2^64-1, 1.5, "añ", bin 00 FF, {"k": [], 7: {}}, ext -5 "x"] */
static const char rich[] = "\x99\xC0\xC3\xFF\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"
			   "\xCB\x3F\xF8\x00\x00\x00\x00\x00\x00\xA3"
			   "a\xC3\xB1\xC4\x02\x00\xFF\x82\xA1k\x90\x07\x80\xD4\xFBx";
static const char rich_json[] =
    "[null,true,-1,18446744073709551615,1.5,\"a\xC3\xB1\",{\"$bytes\":\"AP8=\"},"
    "{\"k\":[],\"7\":{}},{\"$bytes\":\"eA==\",\"$ext\":-5}]";

/* --- the rule ------------------------------------------------------------------------------------- */

START_TEST(a_payload_reads_as_what_its_type_says)
{
	ck_reads(BUS_TYPE_MSGPACK, BYTES("\x15"), BUS_KIND_INT, "21");
	ck_reads(BUS_TYPE_MSGPACK, BYTES(rich), BUS_KIND_ARRAY, rich_json);
	ck_reads(BUS_TYPE_JSON, BYTES(" {\"a\": [1, 2.0]}\r\n"), BUS_KIND_MAP, "{\"a\":[1,2.0]}");
	ck_reads(BUS_TYPE_TEXT, BYTES("21.5"), BUS_KIND_TEXT, "\"21.5\"");
	ck_reads(BUS_TYPE_BYTES, BYTES("21.5"), BUS_KIND_BYTES, "{\"$bytes\":\"MjEuNQ==\"}");
	ck_reads(BUS_TYPE_TEXT, "", 0, BUS_KIND_TEXT, "\"\"");
	ck_reads(BUS_TYPE_BYTES, "", 0, BUS_KIND_BYTES, "{\"$bytes\":\"\"}");
}
END_TEST

START_TEST(untagged_is_json_else_text_else_bytes)
{
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("21.5"), BUS_KIND_FLOAT, "21.5");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("true"), BUS_KIND_BOOL, "true");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("null"), BUS_KIND_NIL, "null");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("\"on\""), BUS_KIND_TEXT, "\"on\"");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("[1]"), BUS_KIND_ARRAY, "[1]");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("on"), BUS_KIND_TEXT, "\"on\"");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("21.5 C"), BUS_KIND_TEXT, "\"21.5 C\"");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("NaN"), BUS_KIND_TEXT, "\"NaN\"");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("[1]]"), BUS_KIND_TEXT, "\"[1]]\"");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("\""), BUS_KIND_TEXT, "\"\\\"\"");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("1e999"), BUS_KIND_TEXT, "\"1e999\"");
	ck_reads(BUS_TYPE_UNTAGGED, "", 0, BUS_KIND_TEXT, "\"\"");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("\xFF"), BUS_KIND_BYTES, "{\"$bytes\":\"/w==\"}");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("\"\xFF\""), BUS_KIND_BYTES, "{\"$bytes\":\"Iv8i\"}");
}
END_TEST

START_TEST(unknown_types_are_bytes)
{
	ck_reads(5, BYTES("[1]"), BUS_KIND_BYTES, "{\"$bytes\":\"WzFd\"}");
	ck_reads(-1, BYTES("[1]"), BUS_KIND_BYTES, "{\"$bytes\":\"WzFd\"}");
}
END_TEST

START_TEST(what_is_not_what_its_type_says_is_refused)
{
	ck_refused(BUS_TYPE_TEXT, BYTES("\xED\xA0\x80"));
	ck_refused(BUS_TYPE_JSON, "", 0);
	ck_refused(BUS_TYPE_JSON, BYTES("{\"a\":1,}"));
	ck_refused(BUS_TYPE_JSON, BYTES("1 2"));
	ck_refused(BUS_TYPE_JSON, BYTES("\"\xC0\x80\""));
	ck_refused(BUS_TYPE_JSON, BYTES("\"\\ud800\""));
	ck_refused(BUS_TYPE_JSON, BYTES("1e999"));
	ck_refused(BUS_TYPE_MSGPACK, "", 0);
	ck_refused(BUS_TYPE_MSGPACK, BYTES("\xC1"));
	ck_refused(BUS_TYPE_MSGPACK, BYTES("\xA1\xFF"));
	ck_refused(BUS_TYPE_MSGPACK, BYTES("\x01\x02"));
}
END_TEST

/* As JSON.parse() does: it has no place in JSON, in no token and behind none. */
START_TEST(json_with_a_nul_is_refused_wherever_the_nul_stands)
{
	static const char text[] =
	    " {\"a\": [1, -2.5e3, true, null, \"b\", 18446744073709551615], \"c\": {}} ";
	char with_nul[sizeof text];

	ck_refused(BUS_TYPE_JSON, BYTES("21.5\0"));
	ck_refused(BUS_TYPE_JSON, BYTES("[1\0,2]"));
	ck_refused(BUS_TYPE_JSON, BYTES("true\0xyz"));
	ck_refused(BUS_TYPE_JSON, BYTES("12\0\xff"
					"34"));
	ck_refused(BUS_TYPE_JSON, BYTES("18446744073709551615\0"));
	ck_refused(BUS_TYPE_JSON, BYTES("\0"));
	for (size_t at = 0; at < sizeof text; at++) {
		memcpy(with_nul, text, at);
		with_nul[at] = '\0';
		memcpy(with_nul + at + 1, text + at, sizeof text - 1 - at);
		ck_refused(BUS_TYPE_JSON, with_nul, sizeof with_nul);
	}
	ck_reads(BUS_TYPE_JSON, BYTES("\"\\u0000\""), BUS_KIND_TEXT, "\"\\u0000\"");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("21.5\0"), BUS_KIND_TEXT, "\"21.5\\u0000\"");
}
END_TEST

START_TEST(missing_arguments_are_named)
{
	const struct bus_value *value;

	ck_bus(bus_value_read(BUS_TYPE_TEXT, NULL, 1, &value), BUS_E_INVAL);
	ck_bus(bus_value_read(BUS_TYPE_TEXT, "", 0, NULL), BUS_E_INVAL);
	ck_bus(bus_value_read(BUS_TYPE_UNTAGGED, NULL, 0, &value), 0);
	ck_assert_int_eq(value->kind, BUS_KIND_TEXT);
	bus_value_free(value);
	bus_value_free(NULL);
}
END_TEST

/* --- values --------------------------------------------------------------------------------------- */

START_TEST(integers_keep_their_value_at_every_boundary)
{
	static const struct {
		const char *json;
		enum bus_kind kind;
		const char *text;
	} cases[] = {
	    {"-1", BUS_KIND_INT, "-1"},
	    {"9223372036854775807", BUS_KIND_INT, "9223372036854775807"},
	    {"9223372036854775808", BUS_KIND_UINT, "9223372036854775808"},
	    {"18446744073709551615", BUS_KIND_UINT, "18446744073709551615"},
	    {"18446744073709551616", BUS_KIND_FLOAT, "1.8446744073709552e+19"},
	    {"-9223372036854775808", BUS_KIND_INT, "-9223372036854775808"},
	    {"-9223372036854775809", BUS_KIND_FLOAT, "-9.223372036854776e+18"},
	    {"1000000000000000000000", BUS_KIND_FLOAT, "1e+21"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ck_reads(BUS_TYPE_JSON, cases[i].json, strlen(cases[i].json), cases[i].kind,
		    cases[i].text);
}
END_TEST

/* Integers that jansson refuses make the reader rewrite the text: nothing else in it may change. */
START_TEST(a_wide_integer_changes_nothing_beside_it)
{
	ck_reads(BUS_TYPE_JSON,
	    BYTES("{\"\": [\"u1\", \"s\", \"\", \"\\\"18446744073709551615\\\\\"], \"u\":\t"
		  "18446744073709551615, \"u\" : -99999999999999999999,\"n\":1}"),
	    BUS_KIND_MAP,
	    "{\"\":[\"u1\",\"s\",\"\",\"\\\"18446744073709551615\\\\\"],"
	    "\"u\":-1e+20,\"n\":1}");
	ck_refused(BUS_TYPE_JSON, BYTES("{18446744073709551615:1}"));
	ck_refused(BUS_TYPE_JSON, BYTES("018446744073709551615"));
	ck_refused(BUS_TYPE_JSON, BYTES("\"\"18446744073709551615"));
	ck_refused(BUS_TYPE_JSON, BYTES("[18446744073709551615"));
}
END_TEST

START_TEST(doubles_come_back_bit_by_bit_both_ways)
{
	static const double some[] = {
	    0.0, -0.0, 21.5, 0.1, 1e23, 5e-324, 1.7976931348623157e308, 3.0, 1e15, 1e16, 1e17};
	uint64_t bits = 0x9E3779B97F4A7C15u;
	struct bus_packer *packer;

	ck_bus(bus_packer_new(&packer), 0);
	for (int i = 0; i < 5000; i++) {
		const struct bus_value *packed, *parsed;
		const void *data;
		size_t len;
		double number;
		char *text;

		bits ^= bits << 13;
		bits ^= bits >> 7;
		bits ^= bits << 17;
		memcpy(&number, &bits, sizeof number);
		if (i < (int)(sizeof some / sizeof some[0]))
			number = some[i];
		if (!isfinite(number))
			continue;
		bus_packer_reset(packer);
		bus_pack_float(packer, number);
		ck_bus(bus_packer_data(packer, &data, &len), 0);
		packed = read_ok(BUS_TYPE_MSGPACK, data, len);
		text = json_of(packed);
		parsed = read_ok(BUS_TYPE_JSON, text, strlen(text));
		ck_assert_int_eq(parsed->kind, BUS_KIND_FLOAT);
		ck_assert_mem_eq(&packed->as.f, &number, sizeof number);
		ck_assert_mem_eq(&parsed->as.f, &number, sizeof number);
		bus_value_free(parsed);
		bus_value_free(packed);
		free(text);
	}
	bus_packer_free(packer);
}
END_TEST

static void
ck_digits(double number)
{
	char quick[BUS__NUMBER_TEXT], slow[BUS__NUMBER_TEXT];
	size_t quick_len, slow_len;

	if (!isfinite(number))
		return;
	quick_len = bus__float_text(quick, number);
	slow_len = bus__float_text_slowly(slow, number);
	ck_assert_msg(quick_len == slow_len && memcmp(quick, slow, slow_len) == 0,
	    "%a: %.*s is not %.*s", number, (int)quick_len, quick, (int)slow_len, slow);
}

/* printf and strtod are the judge: of powers of two, where the distances to both sides differ, of decimals of few and of many
 * digits, of their neighbours, and of any bits. */
START_TEST(a_number_has_the_digits_that_printf_and_strtod_agree_on)
{
	uint64_t random = UINT64_C(88172645463325252);

	for (int i = 0; i < 6000; i++) {
		double numbers[6];

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		memcpy(&numbers[0], &random, sizeof random);
		numbers[1] = (double)(random >> 11) / 9007199254740992.0;
		numbers[2] = (double)(random % 2000000) / 1000;
		numbers[3] = ldexp(1, i % 2100 - 1075);
		numbers[4] =
		    ldexp((double)(random >> (11 + random % 40)), (int)(random % 140) - 120);
		numbers[5] = (double)(random % 1000) * pow(10, (int)(random % 45) - 25);
		for (int j = 0; j < 6; j++) {
			ck_digits(numbers[j]);
			ck_digits(-nextafter(numbers[j], 0));
			ck_digits(nextafter(numbers[j], INFINITY));
		}
	}
	ck_digits(0);
	ck_digits(-0.0);
	ck_digits(9007199254740992);
	ck_digits(999999999999999.9);
	ck_digits(9.9999999999999995e22);
}
END_TEST

START_TEST(short_numbers_print_short_and_strange_ones_as_null)
{
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("0.1"), BUS_KIND_FLOAT, "0.1");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("2.0"), BUS_KIND_FLOAT, "2.0");
	ck_reads(BUS_TYPE_UNTAGGED, BYTES("1E5"), BUS_KIND_FLOAT, "100000.0");
	ck_json(BYTES("\xCA\x3F\x00\x00\x00"), "0.5");
	ck_json(BYTES("\xCA\x7F\xC0\x00\x00"), "null");
	ck_json(BYTES("\xCB\xFF\xF0\x00\x00\x00\x00\x00\x00"), "null");
}
END_TEST

START_TEST(the_last_of_equal_json_keys_wins)
{
	ck_reads(BUS_TYPE_JSON, BYTES("{\"a\":1,\"b\":2,\"a\":{\"c\":3}}"), BUS_KIND_MAP,
	    "{\"a\":{\"c\":3},\"b\":2}");
}
END_TEST

START_TEST(texts_may_hold_nul_and_are_escaped_for_pages)
{
	const struct bus_value *value = read_ok(BUS_TYPE_JSON, BYTES("\"a\\u0000b\""));

	ck_assert_uint_eq(value->count, 3);
	ck_assert_mem_eq(value->as.bytes, "a\0b", 3);
	bus_value_free(value);
	ck_reads(BUS_TYPE_TEXT, BYTES("\0\x1F\n\t\"\\</\xE2\x80\xA8\xE2\x80\xA9\xE2\x80\xAA"),
	    BUS_KIND_TEXT, "\"\\u0000\\u001f\\n\\t\\\"\\\\\\u003c/\\u2028\\u2029\\u202a\"");
}
END_TEST

START_TEST(base64_pads_as_rfc_4648_shows)
{
	static const char *const vectors[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
	    {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};

	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
		char json[64];

		snprintf(json, sizeof json, "{\"$bytes\":\"%s\"}", vectors[i][1]);
		ck_reads(
		    BUS_TYPE_BYTES, vectors[i][0], strlen(vectors[i][0]), BUS_KIND_BYTES, json);
	}
}
END_TEST

START_TEST(keys_that_are_no_text_become_their_json_text)
{
	ck_json(BYTES("\x83\x01\x02\xC0\x03\xC4\x01<\x04"),
	    "{\"1\":2,\"null\":3,\"{\\\"$bytes\\\":\\\"PA==\\\"}\":4}");
	ck_json(BYTES("\x81\x92\xA1x\x01\xC3"), "{\"[\\\"x\\\",1]\":true}");
	ck_json(BYTES("\x81\x81\x01\x02\x03"), "{\"{\\\"1\\\":2}\":3}");
}
END_TEST

/* Each key in a key would double the backslashes of all inside it: 2^32 of them for these 33 bytes. */
START_TEST(keys_in_keys_in_keys_do_not_explode)
{
	char bomb[BUS_PACK_DEPTH * 2 + 1];
	const struct bus_value *value;
	char *text;

	memset(bomb, '\x81', BUS_PACK_DEPTH);
	memset(bomb + BUS_PACK_DEPTH, '\x01', BUS_PACK_DEPTH + 1);
	value = read_ok(BUS_TYPE_MSGPACK, bomb, sizeof bomb);
	text = json_of(value);
	ck_assert_str_eq(text, "{\"{\\\"{\\\\\\\"null\\\\\\\":1}\\\":1}\":1}");
	free(text);
	bus_value_free(value);
}
END_TEST

/* --- hostile payloads ----------------------------------------------------------------------------- */

START_TEST(every_truncation_is_refused)
{
	static const char text[] =
	    "{\"a\":[1,2.5,\"\\u00e9\\n\",null,18446744073709551615],\"b\":{}}";

	for (size_t len = 0; len < sizeof rich - 1; len++)
		ck_refused(BUS_TYPE_MSGPACK, rich, len);
	for (size_t len = 0; len < sizeof text - 1; len++)
		ck_refused(BUS_TYPE_JSON, text, len);
	bus_value_free(read_ok(BUS_TYPE_JSON, BYTES(text)));
}
END_TEST

START_TEST(every_changed_byte_is_refused_or_read_whole)
{
	for (size_t at = 0; at < sizeof rich - 1; at++) {
		for (int byte = 0; byte < 256; byte++) {
			const struct bus_value *value;
			char changed[sizeof rich - 1];
			int err;

			memcpy(changed, rich, sizeof changed);
			changed[at] = (char)byte;
			err = read_exact(BUS_TYPE_MSGPACK, changed, sizeof changed, &value);
			if (err == 0) {
				free(json_of(value));
				bus_value_free(value);
			} else {
				ck_bus(err, BUS_E_DECODE);
			}
		}
	}
}
END_TEST

START_TEST(claims_beyond_the_payload_are_refused)
{
	static const char *const heads[] = {"\xC4", "\xC5", "\xC6", "\xC7", "\xC8", "\xC9", "\xCA",
	    "\xCF", "\xD3", "\xD8", "\xD9", "\xDA", "\xDB", "\xDC", "\xDD", "\xDE", "\xDF"};

	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
		char payload[9] = {0};

		payload[0] = heads[i][0];
		memset(payload + 1, 0xFF, 4);
		for (size_t len = 1; len <= 5; len++)
			ck_refused(
			    BUS_TYPE_MSGPACK, payload, heads[i][0] == '\xCA' ? len - 1 : len);
	}
}
END_TEST

START_TEST(nested_array_headers_reserve_nothing)
{
	size_t len;
	char *payload = repeated("\xDD\xFF\xFF\xFF\xFF", 5, 30, "", &len);

	ck_refused(BUS_TYPE_MSGPACK, payload, len);
	free(payload);
	payload = repeated("\xDD\x00\x00\xFF\x00", 5, 30, "", &len);
	ck_refused(BUS_TYPE_MSGPACK, payload, len);
	free(payload);
}
END_TEST

static void
ck_depth(int type, const char *open, const char *most, const char *close)
{
	for (int over = 0; over <= 1; over++) {
		char payload[8 * BUS_PACK_DEPTH] = "";

		for (int i = 0; i < BUS_PACK_DEPTH - 1 + over; i++)
			strcat(payload, open);
		strcat(payload, most);
		for (int i = 0; i < BUS_PACK_DEPTH - 1 + over; i++)
			strcat(payload, close);
		if (over)
			ck_refused(type, payload, strlen(payload));
		else
			bus_value_free(read_ok(type, payload, strlen(payload)));
	}
}

START_TEST(the_33rd_level_is_refused_even_when_empty)
{
	ck_depth(BUS_TYPE_MSGPACK, "\x91", "\x90", "");
	ck_depth(BUS_TYPE_MSGPACK, "\x91", "\x91\x01", "");
	ck_depth(BUS_TYPE_MSGPACK, "\x92\x01", "\x90", "");
	ck_depth(BUS_TYPE_MSGPACK, "\x92", "\x80", "\x01");
	ck_depth(BUS_TYPE_MSGPACK, "\x81\x01", "\x80", "");
	ck_depth(BUS_TYPE_MSGPACK, "\x81", "\x80", "\x01");
	ck_depth(BUS_TYPE_JSON, "[", "[]", "]");
	ck_depth(BUS_TYPE_JSON, "{\"\":", "{}", "}");
}
END_TEST

START_TEST(element_65537_is_refused)
{
	size_t len;
	char *payload = repeated("\xC0", 1, 5 + BUS_PACK_ELEMENTS, "", &len);
	const struct bus_value *value;

	memcpy(payload, "\xDD\x00\x00\xFF\xFF", 5);
	value = read_ok(BUS_TYPE_MSGPACK, payload, 5 + BUS_PACK_ELEMENTS - 1);
	ck_assert_uint_eq(value->count, BUS_PACK_ELEMENTS - 1);
	bus_value_free(value);
	memcpy(payload, "\xDD\x00\x01\x00\x00", 5);
	ck_refused(BUS_TYPE_MSGPACK, payload, 5 + BUS_PACK_ELEMENTS);
	memcpy(payload, "\xDF\x00\x00\x80\x00", 5);
	ck_refused(BUS_TYPE_MSGPACK, payload, 5 + BUS_PACK_ELEMENTS);
	free(payload);

	payload = repeated("0,", 2, BUS_PACK_ELEMENTS - 1, "0]", &len);
	ck_refused(BUS_TYPE_JSON, payload, len);
	payload[0] = '[';
	payload[1] = ' ';
	bus_value_free(read_ok(BUS_TYPE_JSON, payload, len));
	free(payload);
}
END_TEST

START_TEST(untagged_json_over_a_limit_is_text)
{
	size_t len;
	char *payload = repeated("[", 1, 1000000, "", &len);
	const struct bus_value *value = read_ok(BUS_TYPE_UNTAGGED, payload, len);

	ck_assert_int_eq(value->kind, BUS_KIND_TEXT);
	ck_assert_uint_eq(value->count, len);
	bus_value_free(value);
	ck_refused(BUS_TYPE_JSON, payload, len);
	free(payload);
	payload = repeated("[],", 3, BUS_PACK_ELEMENTS, "[]", &len);
	value = read_ok(BUS_TYPE_UNTAGGED, payload, len);
	ck_assert_int_eq(value->kind, BUS_KIND_TEXT);
	bus_value_free(value);
	free(payload);
}
END_TEST

/* --- the packer ----------------------------------------------------------------------------------- */

static void
pack_rich(struct bus_packer *packer)
{
	bus_pack_array(packer, 9);
	bus_pack_nil(packer);
	bus_pack_bool(packer, true);
	bus_pack_int(packer, -1);
	bus_pack_uint(packer, UINT64_MAX);
	bus_pack_float(packer, 1.5);
	bus_pack_text(packer, "a\xC3\xB1", 3);
	bus_pack_bytes(packer, "\x00\xFF", 2);
	bus_pack_map(packer, 2);
	bus_pack_text(packer, "k", 1);
	bus_pack_array(packer, 0);
	bus_pack_uint(packer, 7);
	bus_pack_map(packer, 0);
	bus_pack_ext(packer, -5, "x", 1);
}

START_TEST(the_packer_writes_every_kind)
{
	struct bus_packer *packer;
	const void *data;
	size_t len;

	ck_bus(bus_packer_new(&packer), 0);
	for (int again = 0; again < 2; again++) {
		pack_rich(packer);
		ck_bus(bus_packer_data(packer, &data, &len), 0);
		ck_assert_uint_eq(len, sizeof rich - 1);
		ck_assert_mem_eq(data, rich, len);
		bus_packer_reset(packer);
	}
	bus_packer_free(packer);
	bus_packer_free(NULL);
}
END_TEST

START_TEST(integers_of_every_width_come_back)
{
	struct bus_packer *packer;

	ck_bus(bus_packer_new(&packer), 0);
	for (int bit = 0; bit < 64; bit++) {
		for (int off = -1; off <= 1; off++) {
			uint64_t number = ((uint64_t)1 << bit) + (uint64_t)(int64_t)off;
			const struct bus_value *value;
			const void *data;
			size_t len;

			bus_packer_reset(packer);
			bus_pack_array(packer, 2);
			bus_pack_uint(packer, number);
			bus_pack_int(packer, (int64_t)number);
			ck_bus(bus_packer_data(packer, &data, &len), 0);
			value = read_ok(BUS_TYPE_MSGPACK, data, len);
			ck_assert_int_eq(value->as.items[0].kind,
			    number > INT64_MAX ? BUS_KIND_UINT : BUS_KIND_INT);
			ck_assert_uint_eq(value->as.items[0].as.u, number);
			ck_assert_int_eq(value->as.items[1].kind, BUS_KIND_INT);
			ck_assert_int_eq(value->as.items[1].as.i, (int64_t)number);
			bus_value_free(value);
		}
	}
	bus_packer_free(packer);
}
END_TEST

START_TEST(texts_of_every_header_size_come_back)
{
	static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
	static char big[65536];
	struct bus_packer *packer;

	memset(big, 'x', sizeof big);
	ck_bus(bus_packer_new(&packer), 0);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		const struct bus_value *value;
		const void *data;
		size_t len;

		bus_packer_reset(packer);
		bus_pack_array(packer, 3);
		bus_pack_text(packer, sizes[i] > 0 ? big : NULL, sizes[i]);
		bus_pack_bytes(packer, sizes[i] > 0 ? big : NULL, sizes[i]);
		bus_pack_ext(packer, 127, sizes[i] > 0 ? big : NULL, sizes[i]);
		ck_bus(bus_packer_data(packer, &data, &len), 0);
		value = read_ok(BUS_TYPE_MSGPACK, data, len);
		for (int j = 0; j < 3; j++) {
			ck_assert_int_eq(value->as.items[j].kind,
			    ((const int[]){BUS_KIND_TEXT, BUS_KIND_BYTES, BUS_KIND_EXT})[j]);
			ck_assert_uint_eq(value->as.items[j].count, sizes[i]);
			ck_assert_int_eq(memcmp(value->as.items[j].as.bytes, big, sizes[i]), 0);
		}
		ck_assert_int_eq(value->as.items[2].ext, 127);
		bus_value_free(value);
	}
	bus_packer_free(packer);
}
END_TEST

static const void *
packed(struct bus_packer *packer, size_t *ret_len)
{
	const void *data;

	ck_bus(bus_packer_data(packer, &data, ret_len), 0);
	return data;
}

START_TEST(a_time_of_every_form_comes_back)
{
	static const struct {
		int64_t seconds;
		uint32_t nanoseconds;
		size_t len;
		const char *json;
	} times[] = {
	    {0, 0, 6, "\"1970-01-01T00:00:00Z\""},
	    {UINT32_MAX, 0, 6, "\"2106-02-07T06:28:15Z\""},
	    {INT64_C(1) << 32, 0, 10, "\"2106-02-07T06:28:16Z\""},
	    {951782399, 500000000, 10, "\"2000-02-28T23:59:59.500Z\""},
	    {951782400, 1000, 10, "\"2000-02-29T00:00:00.000001Z\""},
	    {(INT64_C(1) << 34) - 1, 999999999, 10, "\"2514-05-30T01:53:03.999999999Z\""},
	    {INT64_C(1) << 34, 0, 15, "\"2514-05-30T01:53:04Z\""},
	    {-1, 1, 15, "\"1969-12-31T23:59:59.000000001Z\""},
	    {INT64_C(-62135596800), 0, 15, "\"0001-01-01T00:00:00Z\""},
	    {INT64_C(253402300799), 999999999, 15, "\"9999-12-31T23:59:59.999999999Z\""},
	};
	struct bus_packer *packer;

	ck_bus(bus_packer_new(&packer), 0);
	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
		const struct bus_value *value;
		const void *data;
		size_t len;

		bus_packer_reset(packer);
		bus_pack_time(packer, times[i].seconds, times[i].nanoseconds);
		data = packed(packer, &len);
		ck_assert_uint_eq(len, times[i].len);
		value = read_ok(BUS_TYPE_MSGPACK, data, len);
		ck_assert_int_eq(value->kind, BUS_KIND_TIME);
		ck_assert_int_eq(value->as.i, times[i].seconds);
		ck_assert_uint_eq(value->count, times[i].nanoseconds);
		bus_value_free(value);
		ck_reads(BUS_TYPE_MSGPACK, data, len, BUS_KIND_TIME, times[i].json);
	}
	bus_packer_free(packer);
}
END_TEST

START_TEST(a_time_out_of_the_calendar_is_refused_and_read_as_an_extension)
{
	static const struct {
		int64_t seconds;
		uint32_t nanoseconds;
	} times[] = {{INT64_C(-62135596801), 0}, {INT64_C(253402300800), 0}, {0, 1000000000},
	    {INT64_MIN, 0}, {INT64_MAX, 0}};
	struct bus_packer *packer;
	const void *data;
	size_t len;

	ck_bus(bus_packer_new(&packer), 0);
	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
		bus_packer_reset(packer);
		bus_pack_time(packer, times[i].seconds, times[i].nanoseconds);
		ck_bus(bus_packer_data(packer, &data, &len), BUS_E_INVAL);
	}
	ck_reads(BUS_TYPE_MSGPACK,
	    BYTES("\xC7\x0C\xFF\x00\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00"), BUS_KIND_EXT,
	    "{\"$bytes\":\"AAAAAIAAAAAAAAAA\",\"$ext\":-1}");
	ck_reads(BUS_TYPE_MSGPACK, BYTES("\xD4\xFF\x00"), BUS_KIND_EXT,
	    "{\"$bytes\":\"AA==\",\"$ext\":-1}");
	bus_packer_free(packer);
}
END_TEST

START_TEST(a_text_in_an_extension_is_a_text_if_it_has_its_form)
{
	static const struct {
		int8_t ext;
		const char *text;
		bool is_text;
	} cases[] = {
	    {BUS_EXT_DECIMAL, "0", true},
	    {BUS_EXT_DECIMAL, "-12.50", true},
	    {BUS_EXT_DECIMAL, "1E+9", true},
	    {BUS_EXT_DECIMAL, "1.25E-999999999", true},
	    {BUS_EXT_DECIMAL, "-Infinity", true},
	    {BUS_EXT_DECIMAL, "NaN", true},
	    {BUS_EXT_DECIMAL, "", false},
	    {BUS_EXT_DECIMAL, "-", false},
	    {BUS_EXT_DECIMAL, ".5", false},
	    {BUS_EXT_DECIMAL, "1.", false},
	    {BUS_EXT_DECIMAL, "1e5", false},
	    {BUS_EXT_DECIMAL, "1E5", false},
	    {BUS_EXT_DECIMAL, "1E+", false},
	    {BUS_EXT_DECIMAL, "1E+1000000000", false},
	    {BUS_EXT_DECIMAL, "1.5x", false},
	    {BUS_EXT_DECIMAL, "sNaN", false},
	    {BUS_EXT_UUID, "12345678-1234-5678-1234-56781234567f", true},
	    {BUS_EXT_UUID, "12345678-1234-5678-1234-56781234567F", false},
	    {BUS_EXT_UUID, "12345678-1234-5678-1234-56781234567", false},
	    {BUS_EXT_UUID, "12345678+1234-5678-1234-56781234567f", false},
	    {BUS_EXT_DATE, "2024-02-29", true},
	    {BUS_EXT_DATE, "2000-02-29", true},
	    {BUS_EXT_DATE, "9999-12-31", true},
	    {BUS_EXT_DATE, "2023-02-29", false},
	    {BUS_EXT_DATE, "1900-02-29", false},
	    {BUS_EXT_DATE, "0000-01-01", false},
	    {BUS_EXT_DATE, "2024-00-01", false},
	    {BUS_EXT_DATE, "2024-04-31", false},
	    {BUS_EXT_DATE, "2024-4-301", false},
	    {104, "2024-02-29", false},
	};
	struct bus_packer *packer;

	ck_bus(bus_packer_new(&packer), 0);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct bus_value *value;
		const void *data;
		size_t len;

		bus_packer_reset(packer);
		bus_pack_ext(packer, cases[i].ext, cases[i].text, strlen(cases[i].text));
		data = packed(packer, &len);
		value = read_ok(BUS_TYPE_MSGPACK, data, len);
		ck_assert_msg(value->kind == (cases[i].is_text ? BUS_KIND_TEXT : BUS_KIND_EXT),
		    "%s", cases[i].text);
		ck_assert_int_eq(value->ext, cases[i].ext);
		ck_assert_uint_eq(value->count, strlen(cases[i].text));
		bus_value_free(value);
	}
	bus_packer_free(packer);
}
END_TEST

static const double six[] = {0, 1, 2, 3, 4, 5};

START_TEST(an_array_of_numbers_comes_back_aligned_with_its_shape)
{
	const struct bus_numbers sent = {.data = six,
	    .len = sizeof six,
	    .kind = 'f',
	    .item_bytes = 8,
	    .dimensions = 2,
	    .shape = {2, 3}};
	struct bus_packer *packer;

	ck_bus(bus_packer_new(&packer), 0);
	for (uint32_t before = 0; before < 40; before++) {
		const struct bus_value *value;
		struct bus_numbers read;
		const char *data;
		size_t len, at = 0;

		bus_packer_reset(packer);
		bus_pack_array(packer, 2);
		bus_pack_text(packer, "0123456789012345678901234567890123456789", before);
		bus_pack_numbers(packer, &sent);
		data = packed(packer, &len);
		while (memcmp(data + at, six, sizeof six) != 0)
			at++;
		ck_assert_uint_eq(at % 16, 0);
		value = read_ok(BUS_TYPE_MSGPACK, data, len);
		ck_bus(bus_value_numbers(&value->as.items[0], &read), BUS_E_DECODE);
		ck_bus(bus_value_numbers(&value->as.items[1], &read), 0);
		ck_assert_uint_eq(read.len, sizeof six);
		ck_assert_mem_eq(read.data, six, sizeof six);
		ck_assert_int_eq(read.kind, 'f');
		ck_assert_uint_eq(read.item_bytes, 8);
		ck_assert_uint_eq(read.dimensions, 2);
		ck_assert_uint_eq(read.shape[0], 2);
		ck_assert_uint_eq(read.shape[1], 3);
		bus_value_free(value);
	}
	bus_packer_free(packer);
}
END_TEST

START_TEST(an_array_of_numbers_whose_parts_do_not_fit_together_is_refused)
{
	static const struct bus_numbers wrong[] = {
	    {.data = six, .len = 48, .kind = 'f', .item_bytes = 8, .dimensions = 1, .shape = {5}},
	    {.data = six, .len = 48, .kind = 'f', .item_bytes = 8, .dimensions = 1, .shape = {7}},
	    {.data = six, .len = 48, .kind = 'f', .item_bytes = 8, .dimensions = 0},
	    {.data = six, .len = 48, .kind = 'f', .item_bytes = 16, .dimensions = 1, .shape = {3}},
	    {.data = six, .len = 48, .kind = 'x', .item_bytes = 8, .dimensions = 1, .shape = {6}},
	    {.data = six, .len = 48, .kind = 'f', .item_bytes = 8, .dimensions = 33, .shape = {6}},
	    {.data = NULL, .len = 48, .kind = 'f', .item_bytes = 8, .dimensions = 1, .shape = {6}},
	    {.data = six, .len = 48, .kind = 'f', .item_bytes = 8, .dimensions = 1, .shape = {0}},
	    {.data = six,
		.len = 0,
		.kind = 'f',
		.item_bytes = 8,
		.dimensions = 4,
		.shape = {65536, 65536, 65536, 65536}},
	};
	struct bus_packer *packer;
	struct bus_numbers read;
	const void *data;
	size_t len;

	ck_bus(bus_packer_new(&packer), 0);
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		bus_packer_reset(packer);
		bus_pack_numbers(packer, &wrong[i]);
		ck_bus(bus_packer_data(packer, &data, &len), BUS_E_INVAL);
	}
	bus_packer_reset(packer);
	bus_pack_numbers(packer, NULL);
	ck_bus(bus_packer_data(packer, &data, &len), BUS_E_INVAL);
	bus_packer_free(packer);
	ck_bus(bus_value_numbers(NULL, &read), BUS_E_INVAL);
}
END_TEST

START_TEST(bytes_that_are_no_array_of_numbers_are_an_extension)
{
	/* f8, one dimension of 1, no zeros before, and a number; its first 15 bytes are none. */
	static const char good[] = "f\x08\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xF8\x3F";
	struct bus_packer *packer;

	ck_bus(bus_packer_new(&packer), 0);
	for (size_t cut = 0; cut < sizeof good; cut++) {
		const struct bus_value *value;
		struct bus_numbers read;
		const void *data;
		size_t len;

		bus_packer_reset(packer);
		bus_pack_ext(packer, BUS_EXT_NUMBERS, good, cut);
		data = packed(packer, &len);
		value = read_ok(BUS_TYPE_MSGPACK, data, len);
		ck_assert_int_eq(value->kind, BUS_KIND_EXT);
		ck_bus(bus_value_numbers(value, &read), cut == 16 ? 0 : BUS_E_DECODE);
		bus_value_free(value);
	}
	bus_packer_reset(packer);
	bus_pack_ext(packer, BUS_EXT_NUMBERS, good, 16);
	{
		size_t len;
		const void *data = packed(packer, &len);

		ck_reads(BUS_TYPE_MSGPACK, data, len, BUS_KIND_EXT,
		    "{\"$bytes\":\"AAAAAAAA+D8=\",\"$numbers\":\"f8\",\"$shape\":[1]}");
	}
	bus_packer_free(packer);
}
END_TEST

static void
ck_packed(struct bus_packer *packer, int want)
{
	const void *data = NULL;
	size_t len = 99;

	ck_bus(bus_packer_data(packer, &data, &len), want);
	ck_assert_ptr_null(data);
	ck_assert_uint_eq(len, 99);
}

START_TEST(the_packer_wants_exactly_one_whole_value)
{
	struct bus_packer *packer;
	const void *data;
	size_t len;

	ck_bus(bus_packer_new(&packer), 0);
	ck_packed(packer, BUS_E_INVAL);
	bus_pack_array(packer, 2);
	bus_pack_nil(packer);
	ck_packed(packer, BUS_E_INVAL);
	bus_pack_nil(packer); /* looking early does no harm */
	ck_bus(bus_packer_data(packer, &data, &len), 0);
	bus_pack_nil(packer);
	ck_packed(packer, BUS_E_INVAL);

	bus_packer_reset(packer);
	bus_pack_map(packer, 1);
	bus_pack_nil(packer);
	ck_packed(packer, BUS_E_INVAL);
	bus_packer_free(packer);
}
END_TEST

START_TEST(the_first_packing_error_sticks_until_reset)
{
	struct bus_packer *packer;
	const void *data;
	size_t len;

	ck_bus(bus_packer_new(&packer), 0);
	bus_pack_text(packer, "\xFF", 1);
	bus_pack_nil(packer);
	ck_packed(packer, BUS_E_DECODE);
	bus_packer_reset(packer);
	bus_pack_bytes(packer, NULL, 1);
	ck_packed(packer, BUS_E_INVAL);
	bus_packer_reset(packer);
	bus_pack_nil(packer);
	ck_bus(bus_packer_data(packer, &data, &len), 0);
	ck_assert_uint_eq(len, 1);
	bus_packer_free(packer);
}
END_TEST

START_TEST(packing_without_a_packer_or_a_place_for_the_result_is_refused)
{
	struct bus_packer *packer;
	const void *data = NULL;
	size_t len = 99;

	bus_pack_nil(NULL);
	bus_pack_bool(NULL, true);
	bus_pack_int(NULL, 1);
	bus_pack_uint(NULL, 1);
	bus_pack_float(NULL, 1.0);
	bus_pack_text(NULL, "a", 1);
	bus_pack_bytes(NULL, "a", 1);
	bus_pack_array(NULL, 1);
	bus_pack_map(NULL, 1);
	bus_pack_ext(NULL, 1, "a", 1);
	bus_packer_reset(NULL);
	bus_packer_free(NULL);
	ck_packed(NULL, BUS_E_INVAL);
	ck_bus(bus_packer_new(NULL), BUS_E_INVAL);
	ck_bus(bus_packer_new(&packer), 0);
	bus_pack_text(packer, NULL, 0);
	ck_bus(bus_packer_data(packer, NULL, &len), BUS_E_INVAL);
	ck_bus(bus_packer_data(packer, &data, NULL), BUS_E_INVAL);
	ck_bus(bus_packer_data(packer, &data, &len), 0);
	ck_assert_uint_eq(len, 1);
	bus_packer_reset(packer);
	bus_pack_text(packer, NULL, 1);
	ck_packed(packer, BUS_E_INVAL);
	bus_packer_reset(packer);
	bus_pack_ext(packer, 1, NULL, 1);
	ck_packed(packer, BUS_E_INVAL);
	bus_packer_free(packer);
}
END_TEST

START_TEST(what_is_packed_can_be_read_back_up_to_the_limits)
{
	struct bus_packer *packer;
	const void *data;
	size_t len;

	ck_bus(bus_packer_new(&packer), 0);
	for (int over = 0; over <= 1; over++) {
		bus_packer_reset(packer);
		for (int i = 0; i < BUS_PACK_DEPTH - 1 + over; i++)
			bus_pack_array(packer, 1);
		bus_pack_map(packer, 0);
		if (over) {
			ck_packed(packer, BUS_E_LIMIT);
			continue;
		}
		ck_bus(bus_packer_data(packer, &data, &len), 0);
		bus_value_free(read_ok(BUS_TYPE_MSGPACK, data, len));
	}
	for (unsigned over = 0; over <= 1; over++) {
		bus_packer_reset(packer);
		bus_pack_array(packer, 2);
		bus_pack_nil(packer);
		bus_pack_array(packer, BUS_PACK_ELEMENTS - 3 + over);
		for (unsigned i = 0; i < BUS_PACK_ELEMENTS - 3 + over; i++)
			bus_pack_nil(packer);
		if (over) {
			ck_packed(packer, BUS_E_LIMIT);
			continue;
		}
		ck_bus(bus_packer_data(packer, &data, &len), 0);
		bus_value_free(read_ok(BUS_TYPE_MSGPACK, data, len));
	}
	bus_packer_reset(packer);
	bus_pack_map(packer, UINT32_MAX);
	ck_packed(packer, BUS_E_LIMIT);
	bus_packer_free(packer);
}
END_TEST

/* --- memory --------------------------------------------------------------------------------------- */

/* Reads and writes JSON while allocation n fails; false when there are fewer. */
static bool
read_without(long n, int type, const void *data, size_t len)
{
	const struct bus_value *value = NULL;
	char *text = NULL;
	size_t text_len = 0;
	int err;

	bus__mem_fail_after(n);
	err = bus_value_read(type, data, len, &value);
	if (err == 0)
		err = bus_value_json(value, &text, &text_len);
	else
		ck_assert_ptr_null(value);
	bus__mem_fail_after(-1);
	if (err < 0)
		ck_bus(err, BUS_E_NOMEM);
	ck_assert_int_eq(err == 0, text != NULL);
	bus_value_free(value);
	free(text);
	return err < 0;
}

START_TEST(any_allocation_may_fail_while_reading_and_writing)
{
	static const struct {
		int type;
		const char *data;
		size_t len;
		long allocations; /* at least; so that the test cannot pass without trying */
	} cases[] = {
	    {BUS_TYPE_MSGPACK, BYTES(rich), 4},
	    {BUS_TYPE_JSON, BYTES("{\"a\":[1,18446744073709551615]}"), 3},
	    {BUS_TYPE_UNTAGGED, BYTES("21.5"), 2},
	    {BUS_TYPE_UNTAGGED, BYTES("hello"), 2},
	    {BUS_TYPE_BYTES, BYTES("\xFF"), 2},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		long n = 0;

		while (read_without(n, cases[i].type, cases[i].data, cases[i].len))
			n++;
		ck_assert_int_ge(n, cases[i].allocations);
	}
}
END_TEST

START_TEST(any_allocation_may_fail_while_packing)
{
	long n = 0;
	bool failed = true;

	for (; failed; n++) {
		struct bus_packer *packer = NULL;
		const void *data = NULL;
		size_t len = 0;
		int err;

		bus__mem_fail_after(n);
		err = bus_packer_new(&packer);
		if (err == 0) {
			pack_rich(packer);
			err = bus_packer_data(packer, &data, &len);
		}
		bus__mem_fail_after(-1);
		failed = err < 0;
		if (failed)
			ck_bus(err, BUS_E_NOMEM);
		else
			ck_assert_uint_eq(len, sizeof rich - 1);
		if (packer != NULL) {
			bus_packer_reset(packer);
			bus_pack_nil(packer);
			ck_bus(bus_packer_data(packer, &data, &len), 0);
		}
		bus_packer_free(packer);
	}
	ck_assert_int_ge(n, 3);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("pack");

	BUS_TEST_CASE(suite, "rule", a_payload_reads_as_what_its_type_says,
	    untagged_is_json_else_text_else_bytes, unknown_types_are_bytes,
	    what_is_not_what_its_type_says_is_refused,
	    json_with_a_nul_is_refused_wherever_the_nul_stands, missing_arguments_are_named);
	BUS_TEST_CASE(suite, "values", integers_keep_their_value_at_every_boundary,
	    a_wide_integer_changes_nothing_beside_it, doubles_come_back_bit_by_bit_both_ways,
	    short_numbers_print_short_and_strange_ones_as_null,
	    a_number_has_the_digits_that_printf_and_strtod_agree_on,
	    the_last_of_equal_json_keys_wins, texts_may_hold_nul_and_are_escaped_for_pages,
	    base64_pads_as_rfc_4648_shows, keys_that_are_no_text_become_their_json_text,
	    keys_in_keys_in_keys_do_not_explode);
	BUS_TEST_CASE(suite, "hostile", every_truncation_is_refused,
	    every_changed_byte_is_refused_or_read_whole, claims_beyond_the_payload_are_refused,
	    nested_array_headers_reserve_nothing, the_33rd_level_is_refused_even_when_empty,
	    element_65537_is_refused, untagged_json_over_a_limit_is_text);
	BUS_TEST_CASE(suite, "extensions", a_time_of_every_form_comes_back,
	    a_time_out_of_the_calendar_is_refused_and_read_as_an_extension,
	    a_text_in_an_extension_is_a_text_if_it_has_its_form,
	    an_array_of_numbers_comes_back_aligned_with_its_shape,
	    an_array_of_numbers_whose_parts_do_not_fit_together_is_refused,
	    bytes_that_are_no_array_of_numbers_are_an_extension);
	BUS_TEST_CASE(suite, "packer", the_packer_writes_every_kind,
	    integers_of_every_width_come_back, texts_of_every_header_size_come_back,
	    the_packer_wants_exactly_one_whole_value, the_first_packing_error_sticks_until_reset,
	    packing_without_a_packer_or_a_place_for_the_result_is_refused,
	    what_is_packed_can_be_read_back_up_to_the_limits);
	BUS_TEST_CASE(suite, "memory", any_allocation_may_fail_while_reading_and_writing,
	    any_allocation_may_fail_while_packing);
	return suite;
}
