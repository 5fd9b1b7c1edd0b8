/* base/fork.h: tells an object that a forked child inherited it. */
#ifndef BUS_BASE_FORK_H
#define BUS_BASE_FORK_H

#include <stdatomic.h>
#include <stdint.h>

/* The number of forks between this process and the one that loaded the library. Written in the child only. */
extern _Atomic uint32_t bus__forks;

/* Changes in the child at every fork(). Store it when an object is made, and compare.
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
