#define _GNU_SOURCE
#include "base/park.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <libbus/error.h>

/* 32-bit systems with a 64-bit time_t have the call under another number. */
#if !defined(SYS_futex) && defined(SYS_futex_time64)
#define SYS_futex SYS_futex_time64
#endif

/* The kernel's own layout of a timespec for SYS_futex: longs, whatever time_t is. */
struct kernel_time {
	long seconds, ns;
};

static int
park(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns, int private)
{
	/* Without a limit, the kernel would continue to wait after a handler that was installed with SA_RESTART. */
	struct kernel_time until = {.seconds = INT32_MAX};

	if (deadline_ns != INT64_MAX) {
		until.seconds = (long)(deadline_ns / 1000000000);
		until.ns = (long)(deadline_ns % 1000000000);
	}
	/* WAIT_BITSET takes an absolute monotonic time, so that early returns do not stretch the wait. */
	if (syscall(SYS_futex, (void *)word, FUTEX_WAIT_BITSET | private, seen, &until, NULL,
		FUTEX_BITSET_MATCH_ANY) == 0)
		return 0;
	if (errno == EINTR)
		return BUS__INTERRUPTED;
	return errno == ETIMEDOUT && deadline_ns != INT64_MAX ? BUS_E_TIMEDOUT : 0;
}

static void
wake(_Atomic uint32_t *word, int most, int private)
{
	syscall(SYS_futex, (void *)word, FUTEX_WAKE | private, most, NULL, NULL, 0);
}

int
bus__park(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
	return park(word, seen, deadline_ns, FUTEX_PRIVATE_FLAG);
}

int
bus__park_shared(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
	return park(word, seen, deadline_ns, 0);
}

void
bus__unpark(_Atomic uint32_t *word)
{
	wake(word, INT_MAX, FUTEX_PRIVATE_FLAG);
}

void
bus__unpark_one(_Atomic uint32_t *word)
{
	wake(word, 1, FUTEX_PRIVATE_FLAG);
}

void
bus__unpark_shared(_Atomic uint32_t *word)
{
	wake(word, INT_MAX, 0);
}
