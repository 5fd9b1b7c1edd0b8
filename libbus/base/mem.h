/* base/mem.h: allocation in one place, so that tests can make the N-th one fail. */
#ifndef BUS_BASE_MEM_H
#define BUS_BASE_MEM_H

#include <stddef.h>

/* Like malloc, calloc, realloc, strdup and free. NULL: out of memory. */
void *bus__malloc(size_t size);
void *bus__calloc(size_t count, size_t size);
void *bus__realloc(void *old, size_t size);
char *bus__strdup(const char *text);
void *bus__aligned(size_t alignment, size_t size); /* zeroed; free with bus__free() */
void bus__free(void *block);

/* Zeroed memory in whole pages, separate from malloc's. A page takes memory only once it is written to, whatever malloc
 * has used and freed before. Free with bus__pages_free() of the same size; NULL is fine. */
void *bus__pages(size_t size);
void bus__pages_free(void *pages, size_t size);

/* Tests: lets n more allocations of the process succeed, then fails one; negative: never fails (the
 * default). Returns how many were made since the last call. */
long bus__mem_fail_after(long n);

/* Tests: the same, but fails the `count` allocations that follow. */
long bus__mem_fail_many(long n, long count);

#endif
