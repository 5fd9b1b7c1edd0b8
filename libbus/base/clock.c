#define _GNU_SOURCE
#include "base/clock.h"

#include <limits.h>
#include <time.h>

static int64_t
read_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t
bus__now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t
bus__wall_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t
bus__wall_coarse_ns(void)
{
	return read_clock(CLOCK_REALTIME_COARSE);
}

int64_t
bus__deadline_ns(int timeout_ms)
{
	return timeout_ms < 0 ? INT64_MAX : bus__now_ns() + timeout_ms * NS_PER_MS;
}

int
bus__left_ms(int64_t deadline_ns)
{
	int64_t left;

	if (deadline_ns == INT64_MAX)
		return -1;
	left = deadline_ns - bus__now_ns();
	if (left <= 0)
		return 0;
	left = (left + NS_PER_MS - 1) / NS_PER_MS;
	return left > INT_MAX ? INT_MAX : (int)left;
}
