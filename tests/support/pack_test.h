/* support/pack_test.h: reading and printing values. */
#ifndef PACK_TEST_H
#define PACK_TEST_H

#include "bus_test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/pack.h>

#define BYTES(literal) (literal), sizeof(literal) - 1

/* The payload stands in a block of exactly its size, so that a sanitizer sees any step beyond it. */
static inline int
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

static inline const struct bus_value *
read_ok(int type, const void *data, size_t len)
{
	const struct bus_value *value = NULL;

	ck_bus(read_exact(type, data, len, &value), 0);
	return value;
}

static inline char *
json_of(const struct bus_value *value)
{
	char *text = NULL;
	size_t len = 0;

	ck_bus(bus_value_json(value, &text, &len), 0);
	ck_assert_uint_eq(strlen(text), len);
	return text;
}

/* Without a tree it is the same text. */
static inline void
ck_straight_json(int type, const void *data, size_t bytes, const char *json)
{
	char *text = NULL;
	size_t len = 0;

	ck_bus(bus_payload_json(type, data, bytes, &text, &len), 0);
	ck_assert_uint_eq(strlen(text), len);
	ck_assert_str_eq(text, json);
	free(text);
}

static inline void
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

/* [nil, true, -1, 2^64-1, 1.5, "añ", bin 00 FF, {"k": [], 7: {}}, ext -5 "x"] */
static const char rich[] = "\x99\xC0\xC3\xFF\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"
			   "\xCB\x3F\xF8\x00\x00\x00\x00\x00\x00\xA3"
			   "a\xC3\xB1\xC4\x02\x00\xFF\x82\xA1k\x90\x07\x80\xD4\xFBx";

#endif
