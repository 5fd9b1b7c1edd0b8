/* bench/machine.h: clock, CPUs, and the floor under every figure: one cache line there and back. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Prints what failed and ends the program: a contender that fails has no figure. */
__attribute__((noreturn)) void bench_die(const char *what);

int64_t bench_now_ns(void);

/* How many CPUs this process may use. */
unsigned bench_cpus(void);

/* Puts the calling thread on the nth of these CPUs. */
void bench_pin(unsigned nth);

/* Lets the calling thread run on all of them, or on all but the nth. */
void bench_unpin(void);
void bench_avoid(unsigned nth);

/* A word each way between two CPUs, each on a line of its own as messages are: nanoseconds there and back, the
 * median of many short runs. (One word for both ways is a third faster, and carries nothing.) The figure under each of them is the mean over BENCH_TRIPS, since a clock costs as much as a trip. */
#define BENCH_TRIPS 16
double bench_line_rtt_ns(unsigned runs);

/* Waits a little without giving the CPU away. */
static inline void
bench_relax(unsigned times)
{
	while (times-- > 0) {
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__ARM_ARCH_6K__) || __ARM_ARCH >= 7
		__asm__ volatile("yield" ::: "memory");
#else
		__asm__ volatile("" ::: "memory");
#endif
	}
}

/* The middle of count values, which are put into order. */
double bench_median(double *values, unsigned count);

#ifdef __cplusplus
}
#endif
#endif
