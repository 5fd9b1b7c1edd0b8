/* base/version.h: which of two retained values of a topic is the later one. Clocks do not say: they may be wrong by
 * hours. The value after more changes is; of two after equally many, which two buses made while no link was up, the
 * one of the larger bus. So all buses decide alike. */
#ifndef BUS_BASE_VERSION_H
#define BUS_BASE_VERSION_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum { BUS__BUS_ID = 16 };

struct bus__version {
	uint64_t changes;         /* of the topic's value, up to this one; 0: none */
	uint8_t bus[BUS__BUS_ID]; /* that made the last of them */
};

/* A deletion is a value, too: its mark keeps older values away, for this long, and for so many topics of a bus. */
extern _Atomic int64_t bus__mark_ns; /* tests shorten it */
#define BUS__MARKS 10000

/* No bus comes so far by counting. A peer that names more is not believed: nothing could be newer. */
#define BUS__CHANGES_END (UINT64_C(1) << 62)

/* A topic that is unknown counts on from the most changes of those that a bus has forgotten; but not from here on, where no
 * bus comes by itself. */
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
