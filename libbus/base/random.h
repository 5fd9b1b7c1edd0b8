/* base/random.h: unguessable bytes. */
#ifndef BUS_BASE_RANDOM_H
#define BUS_BASE_RANDOM_H

#include <stddef.h>

/* 0 or BUS_E_SYS. */
int bus__random(void *ret_bytes, size_t len);

#endif
