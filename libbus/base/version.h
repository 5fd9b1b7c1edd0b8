/* base/version.h: which of two retained values of a topic is the later one. Clocks cannot tell: they may be wrong by
 * hours. The value after more changes wins. After equally many, made on two buses while no link was up, the
 * value of the bus with the larger id wins. So all buses decide alike. */
#ifndef BUS_BASE_VERSION_H
#define BUS_BASE_VERSION_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum { BUS__BUS_ID = 16 };

struct bus__version {
	uint64_t changes;         /* of the topic's value so far, this one included; 0: none */
	uint8_t bus[BUS__BUS_ID]; /* the maker of the last change */
};

/* A deletion is a value, too: its mark refuses older values, for this long, and for this many topics of a bus. */
extern _Atomic int64_t bus__mark_ns; /* tests shorten it */
#define BUS__MARKS 10000

/* Out of reach by counting. A peer's larger number is not accepted: nothing could be newer. */
#define BUS__CHANGES_END (UINT64_C(1) << 62)

/* An unknown topic counts on from the most changes of any topic that the bus has forgotten; but not from here on, which no
 * bus reaches by itself. */
#define BUS__FLOOR_MOST (UINT64_C(1) << 48)

/* Below, at or above 0, as memcmp(). */
static inline int
bus__version_compare(const struct bus__version *left, const struct bus__version *right)
{
	if (left->changes != right->changes)
		return left->changes < right->changes ? -1 : 1;
	return memcmp(left->bus, right->bus, sizeof left->bus);
}

#endif
