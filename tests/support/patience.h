/* support/patience.h: how long a test waits for what must happen, before it calls that a hang. */
#ifndef PATIENCE_H
#define PATIENCE_H

#include <stdlib.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PATIENCE_FACTOR 2 /* on top of what ./dev says: also a build that no `dev` made has it */
#else
#define PATIENCE_FACTOR 1
#endif

/* In seconds. Far beyond what the slowest machine under load takes, since a passing test never waits so long.
 * $BUS_TEST_PATIENCE multiplies it, for emulators. */
static inline int
bus_test_patience(void)
{
	const char *times = getenv("BUS_TEST_PATIENCE");
	int factor = times != NULL ? atoi(times) : 1;

	return 120 * PATIENCE_FACTOR * (factor > 0 ? factor : 1);
}

#endif
