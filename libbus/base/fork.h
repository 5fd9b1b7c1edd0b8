/* base/fork.h: tells an object that it was inherited by a forked child. */
#ifndef BUS_BASE_FORK_H
#define BUS_BASE_FORK_H

#include <stdint.h>

/* Changes in the child at every fork(). Keep the number of the day an object was made and compare.
 * Threads: any. */
uint32_t bus__fork_generation(void);

/* Begins watching; call before the first bus__fork_generation(). 0 or BUS_E_NOMEM. */
int bus__fork_watch(void);

#endif
