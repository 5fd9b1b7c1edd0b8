/* base/passed.h: the origin that travels with a message through hubs: the bus that published it, its number there, and how many
 * hubs it has passed. It has this form in frames and records, too. */
#ifndef BUS_BASE_PASSED_H
#define BUS_BASE_PASSED_H

#include <stdint.h>
#include <string.h>

#include "base/version.h"

/* Hubs in a row. */
#define BUS__HUBS_MOST 8

#define BUS__PASSED_NUMBER ((UINT64_C(1) << 48) - 1)
#define BUS__PASSED_VIAS   4095

struct bus__passed {
	uint8_t source[BUS__BUS_ID];
	/* 0..47 number there, 0: a kept value, which has none | 48..51 hubs | 52..63 the connection it arrived on, 0: none */
	uint64_t word;
};

static inline uint64_t
bus__passed_number(const struct bus__passed *passed)
{
	return passed->word & BUS__PASSED_NUMBER;
}

static inline unsigned
bus__passed_hubs(const struct bus__passed *passed)
{
	return (unsigned)(passed->word >> 48) & 15;
}

static inline unsigned
bus__passed_via(const struct bus__passed *passed)
{
	return (unsigned)(passed->word >> 52);
}

static inline struct bus__passed
bus__passed_make(const uint8_t source[BUS__BUS_ID], uint64_t number, unsigned hubs, unsigned via)
{
	struct bus__passed passed = {
	    .word = (number & BUS__PASSED_NUMBER) | (uint64_t)hubs << 48 | (uint64_t)via << 52};

	memcpy(passed.source, source, sizeof passed.source);
	return passed;
}

_Static_assert(sizeof(struct bus__passed) == 24, "three words");

#endif
