/* Structs of callers of other versions, with a struct that has grown twice: the library here has the second version. */
#include "bus_test.h"

#include <stdlib.h>
#include <string.h>

#include <libbus/bus.h>

#include "base/sized.h"

struct first {
	size_t size;
	size_t a;
};

struct second {
	size_t size;
	size_t a, b, c;
};

struct third {
	size_t size;
	size_t a, b, c, d;
};

static const struct sized kind = {"grown", sizeof(struct first), sizeof(struct second)};

/* Memory whose ends a sanitizer watches. */
static void *
block_of(const void *bytes, size_t len)
{
	void *block = malloc(len);

	ck_assert_ptr_nonnull(block);
	return memcpy(block, bytes, len);
}

static void
check_text(const char *words)
{
	ck_assert_msg(strstr(bus_error_text(), words) != NULL, "\"%s\" does not say \"%s\"",
	    bus_error_text(), words);
}

START_TEST(fields_that_an_older_caller_lacks_are_read_as_0)
{
	const struct first given = {sizeof given, 1};
	struct first *block = block_of(&given, sizeof given);
	struct second copy;

	memset(&copy, 0xff, sizeof copy);
	ck_bus(bus__sized_read(&kind, block, &copy), 0);
	ck_assert_uint_eq(copy.size, sizeof copy);
	ck_assert_uint_eq(copy.a, 1);
	ck_assert_uint_eq(copy.b, 0);
	ck_assert_uint_eq(copy.c, 0);
	ck_assert_uint_eq(block->size, sizeof given);
	free(block);
}
END_TEST

START_TEST(a_caller_of_a_version_in_between_is_read_to_its_end)
{
	const struct second given = {offsetof(struct second, c), 1, 2, 3};
	void *block = block_of(&given, given.size);
	struct second copy;

	ck_bus(bus__sized_read(&kind, block, &copy), 0);
	ck_assert_uint_eq(copy.a, 1);
	ck_assert_uint_eq(copy.b, 2);
	ck_assert_uint_eq(copy.c, 0);
	free(block);
}
END_TEST

START_TEST(a_newer_caller_that_leaves_its_new_field_0_is_read)
{
	const struct third given = {sizeof given, 1, 2, 3, 0};
	struct second copy;

	ck_bus(bus__sized_read(&kind, &given, &copy), 0);
	ck_assert_uint_eq(copy.size, sizeof copy);
	ck_assert_uint_eq(copy.a, 1);
	ck_assert_uint_eq(copy.b, 2);
	ck_assert_uint_eq(copy.c, 3);
}
END_TEST

START_TEST(a_newer_field_that_is_set_is_refused)
{
	struct third given = {.size = sizeof given};
	struct second copy;

	for (size_t i = sizeof copy; i < sizeof given; i++) {
		((unsigned char *)&given)[i] = 1;
		ck_bus(bus__sized_read(&kind, &given, &copy), BUS_E_INVAL);
		check_text("struct grown: ");
		check_text("built against a newer libbus");
		check_text("a field that this one does not know");
		((unsigned char *)&given)[i] = 0;
	}
	ck_bus(bus__sized_read(&kind, &given, &copy), 0);
}
END_TEST

/* The block ends with its size: a sanitizer sees any read beyond. */
START_TEST(a_size_of_no_version_is_refused_before_a_look_behind_it)
{
	static const size_t sizes[] = {
	    0, 1, sizeof(size_t), sizeof(struct first) - 1, SIZED_MOST + 1, SIZE_MAX};
	struct second copy;

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		void *block = block_of(&sizes[i], sizeof sizes[i]);

		ck_bus(bus__sized_check(&kind, sizes[i]), BUS_E_INVAL);
		ck_bus(bus__sized_read(&kind, block, &copy), BUS_E_INVAL);
		check_text("struct grown: ");
		check_text("set .size = sizeof (struct grown)");
		free(block);
	}
	ck_bus(bus__sized_check(&kind, SIZED_MOST), 0);
}
END_TEST

START_TEST(an_older_caller_is_filled_to_its_end)
{
	const struct second from = {sizeof from, 1, 2, 3};

	for (size_t size = kind.first; size <= sizeof from; size += sizeof from.a) {
		const struct second given = {size, 7, 7, 7};
		struct second *block = block_of(&given, size), all;

		bus__sized_write(&kind, &from, block);
		all = from;
		all.size = size;
		ck_assert_mem_eq(block, &all, size);
		free(block);
	}
}
END_TEST

START_TEST(a_newer_caller_finds_0_in_fields_that_the_library_lacks)
{
	const struct second from = {sizeof from, 1, 2, 3};
	struct third given = {sizeof given, 7, 7, 7, 7};

	bus__sized_write(&kind, &from, &given);
	ck_assert_uint_eq(given.size, sizeof given);
	ck_assert_uint_eq(given.a, 1);
	ck_assert_uint_eq(given.c, 3);
	ck_assert_uint_eq(given.d, 0);
}
END_TEST

START_TEST(a_struct_of_this_version_is_used_where_it_is)
{
	const struct bus_msg given = {.size = sizeof given};
	const struct bus_msg *msg = &given;
	struct bus_msg room;

	ck_bus(BUS__SIZED_IN(SIZED_MSG, msg, &room), 0);
	ck_assert_ptr_eq(msg, &given);
	msg = NULL;
	ck_bus(BUS__SIZED_IN(SIZED_MSG, msg, &room), 0);
	ck_assert_ptr_null(msg);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("sized");

	BUS_TEST_CASE(suite, "read", fields_that_an_older_caller_lacks_are_read_as_0,
	    a_caller_of_a_version_in_between_is_read_to_its_end,
	    a_newer_caller_that_leaves_its_new_field_0_is_read,
	    a_newer_field_that_is_set_is_refused,
	    a_size_of_no_version_is_refused_before_a_look_behind_it,
	    a_struct_of_this_version_is_used_where_it_is);
	BUS_TEST_CASE(suite, "fill", an_older_caller_is_filled_to_its_end,
	    a_newer_caller_finds_0_in_fields_that_the_library_lacks);
	return suite;
}
