/* Values are packed, and any allocation may fail. */
#include "pack_test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/pack.h>

#include "base/mem.h"

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

START_TEST(integers_of_every_width_read_back)
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

START_TEST(texts_of_every_header_size_read_back)
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
	bus_pack_nil(packer); /* an early look does no harm */
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

START_TEST(packed_values_read_back_up_to_the_limits)
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
		long allocations; /* at least; so that the test cannot pass without a failure */
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
	Suite *suite = suite_create("packer");

	BUS_TEST_CASE(suite, "packer", the_packer_writes_every_kind,
	    integers_of_every_width_read_back, texts_of_every_header_size_read_back,
	    the_packer_wants_exactly_one_whole_value, the_first_packing_error_sticks_until_reset,
	    packing_without_a_packer_or_a_place_for_the_result_is_refused,
	    packed_values_read_back_up_to_the_limits);
	BUS_TEST_CASE(suite, "memory", any_allocation_may_fail_while_reading_and_writing,
	    any_allocation_may_fail_while_packing);
	return suite;
}
