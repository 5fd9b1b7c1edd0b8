/* The known extensions: times, texts and arrays of numbers. */
#include "pack_test.h"

#include <string.h>

#include <libbus/pack.h>

static const void *
packed(struct bus_packer *packer, size_t *ret_len)
{
	const void *data;

	ck_bus(bus_packer_data(packer, &data, ret_len), 0);
	return data;
}

START_TEST(a_time_of_every_form_reads_back)
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

START_TEST(an_array_of_numbers_reads_back_aligned_with_its_shape)
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
	/* f8, one dimension of 1, no zeros before, and a number; its first 15 bytes are not an array. */
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

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("extensions");

	BUS_TEST_CASE(suite, "extensions", a_time_of_every_form_reads_back,
	    a_time_out_of_the_calendar_is_refused_and_read_as_an_extension,
	    a_text_in_an_extension_is_a_text_if_it_has_its_form,
	    an_array_of_numbers_reads_back_aligned_with_its_shape,
	    an_array_of_numbers_whose_parts_do_not_fit_together_is_refused,
	    bytes_that_are_no_array_of_numbers_are_an_extension);
	return suite;
}
