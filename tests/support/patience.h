/* support/patience.h: how long a test waits for what must happen, before it calls that a hang. */
#ifndef PATIENCE_H
#define PATIENCE_H

#include <stdlib.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PATIENCE_SLOWER 3
#else
#define PATIENCE_SLOWER 1
#endif

/* In seconds. The slowest test takes some ten of these on a machine that does nothing else; a test that passes
 * waits for none of it, so the limit is far beyond what load can add. An emulator multiplies it by $BUS_TEST_PATIENCE. */
static inline int
bus_test_patience(void)
{
	const char *times = getenv("BUS_TEST_PATIENCE");
	int factor = times != NULL ? atoi(times) : 1;

	return 120 * PATIENCE_SLOWER * (factor > 0 ? factor : 1);
}

#endif
