#define _GNU_SOURCE
#include "base/hold.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/fd.h"

#define HOLD_BYTES 4096 /* the kernel rounds up to a page */

/* No advice at all. */
#define NONSENSE (-1)

static _Atomic bool inherited;

void *
bus__hold(int fd)
{
	/* Nobody touches it: a file without bytes will do. */
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
	/* What takes any advice follows none: qemu-user. */
	if (madvise(hold, HOLD_BYTES, NONSENSE) == 0)
		atomic_store_explicit(&inherited, true, memory_order_relaxed);
	bus__fd_close(fd);
	return hold;
}

void
bus__hold_end(void *hold)
{
	munmap(hold, HOLD_BYTES);
}

void
bus__hold_forget(void *hold)
{
	/* Elsewhere the address may be another mapping's by now. */
	if (hold != NULL && atomic_load_explicit(&inherited, memory_order_relaxed))
		munmap(hold, HOLD_BYTES);
}
