#define _GNU_SOURCE
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic long allocations;
static _Atomic long fail_first, fail_count; /* 0: none */

/* Counting costs an atomic add next to a malloc; nothing on the publish path of small messages
 * allocates. Relaxed: the counter orders nothing. */
static int
may_allocate(void)
{
	long made = atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
	long first = atomic_load_explicit(&fail_first, memory_order_relaxed);

	return made < first ||
	       made - first >= atomic_load_explicit(&fail_count, memory_order_relaxed);
}

long
bus__mem_fail_many(long n, long count)
{
	long made = atomic_exchange_explicit(&allocations, 0, memory_order_relaxed);

	atomic_store_explicit(&fail_first, n, memory_order_relaxed);
	atomic_store_explicit(&fail_count, count, memory_order_relaxed);
	return made;
}

long
bus__mem_fail_after(long n)
{
	return bus__mem_fail_many(n, n >= 0);
}

void *
bus__malloc(size_t size)
{
	return may_allocate() ? malloc(size) : NULL;
}

void *
bus__calloc(size_t count, size_t size)
{
	return may_allocate() ? calloc(count, size) : NULL;
}

void *
bus__realloc(void *old, size_t size)
{
	return may_allocate() ? realloc(old, size) : NULL;
}

char *
bus__strdup(const char *text)
{
	return may_allocate() ? strdup(text) : NULL;
}

void *
bus__aligned(size_t alignment, size_t size)
{
	void *block = NULL;

	if (!may_allocate() || posix_memalign(&block, alignment, size) != 0)
		return NULL;
	memset(block, 0, size);
	return block;
}

void
bus__free(void *block)
{
	free(block);
}

/* --- pages ----------------------------------------------------------------------------------------------- */

#ifdef __has_feature
#define IS_CHECKED __has_feature(address_sanitizer)
#elif defined __SANITIZE_ADDRESS__
#define IS_CHECKED 1
#else
#define IS_CHECKED 0
#endif

#if IS_CHECKED
/* AddressSanitizer guards the ends of malloc()'s memory, and looks for pointers there. */
static void *
map(size_t size)
{
	return calloc(1, size);
}

static void
unmap(void *pages, size_t size)
{
	(void)size;
	free(pages);
}
#else
static void *
map(size_t size)
{
	void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return NULL;
	/* The first byte of a huge page would take 2 MiB: a ring and its neighbours. A kernel without huge pages refuses, which is
	 * as good. */
	(void)madvise(pages, size, MADV_NOHUGEPAGE);
	return pages;
}

static void
unmap(void *pages, size_t size)
{
	if (pages != NULL)
		munmap(pages, size);
}
#endif

void *
bus__pages(size_t size)
{
	return may_allocate() ? map(size) : NULL;
}

void
bus__pages_free(void *pages, size_t size)
{
	unmap(pages, size);
}
