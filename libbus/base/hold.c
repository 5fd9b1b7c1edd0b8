#define _GNU_SOURCE
#include "base/hold.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/fd.h"

#define HOLD_BYTES 4096 /* the kernel rounds up to a page */

#define NONSENSE  (-1) /* not an advice */
#define INHERITED 256

/* Mappings that a child must unmap, if MADV_DONTFORK does nothing. Relaxed: the child has one thread, and fork() orders. */
static _Atomic(void *) inherited[INHERITED];

static bool
replace(void *from, void *to)
{
	for (unsigned i = 0; i < INHERITED; i++) {
		void *seen = from;

		if (atomic_compare_exchange_strong_explicit(
			&inherited[i], &seen, to, memory_order_relaxed, memory_order_relaxed))
			return true;
	}
	return false;
}

void *
bus__hold(int fd)
{
	/* It is never accessed, so an empty file will do. */
	void *hold = mmap(NULL, HOLD_BYTES, PROT_NONE, MAP_SHARED, fd, 0);
	int error;

	if (hold == MAP_FAILED)
		return NULL;
	if (madvise(hold, HOLD_BYTES, MADV_DONTFORK) < 0) {
		error = errno;
		munmap(hold, HOLD_BYTES);
		errno = error;
		return NULL;
	}
	/* A system that accepts any advice follows none: qemu-user. Beyond INHERITED a child keeps locks there. */
	if (madvise(hold, HOLD_BYTES, NONSENSE) == 0)
		replace(NULL, hold);
	bus__fd_close(fd);
	return hold;
}

void
bus__hold_end(void *hold)
{
	replace(hold, NULL);
	munmap(hold, HOLD_BYTES);
}

void
bus__holds_forget(void)
{
	for (unsigned i = 0; i < INHERITED; i++) {
		void *hold = atomic_exchange_explicit(&inherited[i], NULL, memory_order_relaxed);

		if (hold != NULL)
			munmap(hold, HOLD_BYTES);
	}
}
