#include "bus_test.h"

#include <string.h>

static const int values[] = {
#define ERROR_VALUE(name, value, text) value,
    BUS_ERRORS(ERROR_VALUE)
#undef ERROR_VALUE
};

START_TEST(no_number_is_used_twice)
{
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
		for (size_t j = 0; j < i; j++)
			ck_assert_int_ne(values[i], values[j]);
}
END_TEST

START_TEST(every_error_has_a_name_and_a_text_of_its_own)
{
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		ck_assert_int_lt(values[i], 0);
		ck_assert(strncmp(bus_errname(values[i]), "BUS_E_", 6) == 0);
		ck_assert_uint_gt(strlen(bus_strerror(values[i])), 10);
		for (size_t j = 0; j < i; j++)
			ck_assert_str_ne(bus_strerror(values[i]), bus_strerror(values[j]));
	}
}
END_TEST

START_TEST(counts_and_strange_numbers_are_answered_too)
{
	ck_assert_str_eq(bus_errname(0), "BUS_OK");
	ck_assert_str_eq(bus_errname(17), "BUS_OK");
	ck_assert_str_eq(bus_errname(-12345), "BUS_E_?");
	ck_assert_str_eq(bus_strerror(-12345), "unknown error number");
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("error");

	BUS_TEST_CASE(suite, "list", no_number_is_used_twice,
	    every_error_has_a_name_and_a_text_of_its_own,
	    counts_and_strange_numbers_are_answered_too);
	return suite;
}
