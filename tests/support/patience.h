/* support/patience.h: how long a test waits before it reports a hang. */
#ifndef PATIENCE_H
#define PATIENCE_H

#include <stdlib.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PATIENCE_SLOWER 3
#else
#define PATIENCE_SLOWER 1
#endif

/* Seconds. The slowest test takes some ten of them on an idle machine, and a passing test never waits for this limit: so it
 * lies far beyond what load adds. $BUS_TEST_PATIENCE multiplies it, for emulators. */
static inline int
bus_test_patience(void)
{
	const char *times = getenv("BUS_TEST_PATIENCE");
	int factor = times != NULL ? atoi(times) : 1;

	return 120 * PATIENCE_SLOWER * (factor > 0 ? factor : 1);
}

#endif
