/* base/fork.h: tells an object that it was inherited by a forked child. */
#ifndef BUS_BASE_FORK_H
#define BUS_BASE_FORK_H

#include <stdatomic.h>
#include <stdint.h>

/* How many forks lie between this process and the one that loaded the library. Written in the child only. */
extern _Atomic uint32_t bus__forks;

/* Changes in the child at every fork(). Keep the number of the day an object was made and compare.
 * Threads: any. */
static inline uint32_t
bus__fork_generation(void)
{
	/* Relaxed: the child has one thread when the number changes, and fork() itself orders it. */
	return atomic_load_explicit(&bus__forks, memory_order_relaxed);
}

/* Begins watching; call before the first bus__fork_generation(). 0 or BUS_E_NOMEM. */
int bus__fork_watch(void);

#endif
