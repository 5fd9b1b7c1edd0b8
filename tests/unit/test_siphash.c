#include "bus_test.h"

#include <string.h>

#include "base/siphash.h"

static uint64_t
rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static void
round_of(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotate(v[1], 13), v[1] ^= v[0], v[0] = rotate(v[0], 32);
	v[2] += v[3], v[3] = rotate(v[3], 16), v[3] ^= v[2];
	v[0] += v[3], v[3] = rotate(v[3], 21), v[3] ^= v[0];
	v[2] += v[1], v[1] = rotate(v[1], 17), v[1] ^= v[2], v[2] = rotate(v[2], 32);
}

/* The paper's definition, byte by byte: 1 round a word, 3 at the end. */
static uint64_t
by_the_paper(const uint64_t key[2], const uint8_t *text, size_t len)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
	    key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};

	for (size_t i = 0; i <= len / 8; i++) {
		uint64_t word = i == len / 8 ? (uint64_t)len << 56 : 0;

		for (size_t b = 0; b < 8 && 8 * i + b < len; b++)
			word |= (uint64_t)text[8 * i + b] << 8 * b;
		v[3] ^= word;
		round_of(v);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		round_of(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

START_TEST(hash_is_that_of_the_paper_for_every_length_and_place)
{
	const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
	uint8_t text[96];

	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (uint8_t)(i * 37 + 11);
	for (size_t at = 0; at < 9; at++)
		for (size_t len = 0; len + at < sizeof text; len++)
			ck_assert_uint_eq(
			    bus__siphash(key, text + at, len), by_the_paper(key, text + at, len));
}
END_TEST

START_TEST(every_byte_and_the_length_count)
{
	const uint64_t key[2] = {1, 2};
	uint8_t text[40] = {0};

	for (size_t len = 1; len <= sizeof text; len++) {
		uint64_t before = bus__siphash(key, text, len);

		ck_assert_uint_ne(before, bus__siphash(key, text, len - 1));
		for (size_t i = 0; i < len; i++) {
			text[i] ^= 0x80;
			ck_assert_uint_ne(before, bus__siphash(key, text, len));
			text[i] ^= 0x80;
		}
	}
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("siphash");

	BUS_TEST_CASE(suite, "hash", hash_is_that_of_the_paper_for_every_length_and_place,
	    every_byte_and_the_length_count);
	return suite;
}
