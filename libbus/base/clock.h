/* base/clock.h: time that never steps, and deadlines in it. */
#ifndef BUS_BASE_CLOCK_H
#define BUS_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t bus__now_ns(void);

/* Nanoseconds since 1970, for data only: it may step. */
int64_t bus__wall_ns(void);

/* The same as of the kernel's last tick, some milliseconds ago, for half the cost. */
int64_t bus__wall_coarse_ns(void);

/* The moment timeout_ms from now; INT64_MAX when timeout_ms is negative. */
int64_t bus__deadline_ns(int timeout_ms);

/* Milliseconds until deadline_ns, rounded up, at least 0; -1 for INT64_MAX, as poll() wants it. */
int bus__left_ms(int64_t deadline_ns);

#endif
