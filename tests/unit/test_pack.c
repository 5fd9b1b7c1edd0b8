/* Payloads are read as values; hostile ones are refused. */
#include "pack_test.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "value/float_text.h"
#include <libbus/pack.h>

static void
ck_refused(int type, const void *data, size_t len)
{
	const struct bus_value *value = NULL;

	ck_bus(read_exact(type, data, len, &value), BUS_E_DECODE);
	ck_assert_ptr_null(value);
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

static const char rich_json[] =
    "[null,true,-1,18446744073709551615,1.5,\"a\xC3\xB1\",{\"$bytes\":\"AP8=\"},"
    "{\"k\":[],\"7\":{}},{\"$bytes\":\"eA==\",\"$ext\":-5}]";

/* --- the rule ------------------------------------------------------------------------------------- */

START_TEST(a_payload_reads_as_its_type)
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

START_TEST(a_payload_that_does_not_fit_its_type_is_refused)
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

/* As in JSON.parse(): JSON has no place for a NUL, in no token and after none. */
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

/* Integers that jansson refuses make the reader rewrite the text; the rest must stay the same. */
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

START_TEST(doubles_read_back_bit_by_bit_both_ways)
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

/* Judged by printf and strtod: powers of two, where the distances to both sides differ, decimals of few and of many
 * digits, their neighbours, and random bits. */
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

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("pack");

	BUS_TEST_CASE(suite, "rule", a_payload_reads_as_its_type,
	    untagged_is_json_else_text_else_bytes, unknown_types_are_bytes,
	    a_payload_that_does_not_fit_its_type_is_refused,
	    json_with_a_nul_is_refused_wherever_the_nul_stands, missing_arguments_are_named);
	BUS_TEST_CASE(suite, "values", integers_keep_their_value_at_every_boundary,
	    a_wide_integer_changes_nothing_beside_it, doubles_read_back_bit_by_bit_both_ways,
	    short_numbers_print_short_and_strange_ones_as_null,
	    a_number_has_the_digits_that_printf_and_strtod_agree_on,
	    the_last_of_equal_json_keys_wins, texts_may_hold_nul_and_are_escaped_for_pages,
	    base64_pads_as_rfc_4648_shows, keys_that_are_no_text_become_their_json_text,
	    keys_in_keys_in_keys_do_not_explode);
	BUS_TEST_CASE(suite, "hostile", every_truncation_is_refused,
	    every_changed_byte_is_refused_or_read_whole, claims_beyond_the_payload_are_refused,
	    nested_array_headers_reserve_nothing, the_33rd_level_is_refused_even_when_empty,
	    element_65537_is_refused, untagged_json_over_a_limit_is_text);
	return suite;
}
