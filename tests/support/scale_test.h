/* support/scale_test.h: counting memory and allocations. */
#ifndef SCALE_TEST_H
#define SCALE_TEST_H

#include "link_test.h"

#include <malloc.h>
#include <stdlib.h>

#include <libbus/bus.h>

#include "base/mem.h"
#include "bus/bus_internal.h"
#include "bus/peer.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define MANY 50000
#else
#define MANY scale_many()
#endif

/* A million; $BUS_TEST_MANY says fewer, for emulators. */
static inline unsigned
scale_many(void)
{
	static unsigned many;

	if (many == 0) {
		const char *fewer = getenv("BUS_TEST_MANY");

		many = fewer != NULL && atoi(fewer) > 0 ? (unsigned)atoi(fewer) : 1000000;
	}
	return many;
}

/* Bytes that malloc() and Check may keep back for themselves. */
enum { SLACK = 64 * 1024 };

/* Bytes allocated now. Sanitizers count them in their own way, and report what does not come back. */
static inline size_t
heap_used(void)
{
#if defined __GLIBC__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
#else
	return 0;
#endif
}

static inline long
allocations(void)
{
	return bus__mem_fail_after(-1);
}

static inline void
count_call(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	++*(unsigned *)arg;
}

static inline void
publish(struct bus *bus, const char *topic)
{
	must_bus(bus_publish(bus, topic, "x", 1));
}

#endif
