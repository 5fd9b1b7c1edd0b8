/* log/create.c: makes the file of a new log. */
#define _GNU_SOURCE
#include "log/member.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/random.h"

#define ALLOCATE_STEP (UINT64_C(1) << 20)
#define CLEAR_AT_ONCE 16 /* pages */
#define CLEAR_MOST    (UINT64_C(64) << 20)

static uint64_t
whole_pages(uint64_t bytes)
{
	return (bytes + LOG_PAGE - 1) & ~(uint64_t)(LOG_PAGE - 1);
}

/* From 16 MiB on, a segment takes the largest message of a private bus. */
void
bus__log_divide(struct log_head *head, uint64_t bytes)
{
	head->file_bytes = bytes;
	head->kept_begin = whole_pages(sizeof(struct log_shared));
	head->kept_bytes = whole_pages(bytes / 12);
	head->segments_begin = head->kept_begin + head->kept_bytes;
	head->segment_bytes = whole_pages(bytes / 16) + LOG_PAGE;
	head->segment_count = (uint32_t)((bytes - head->segments_begin) / head->segment_bytes);
}

static void
initialize(struct log_shared *shared)
{
	atomic_store_explicit(
	    &shared->tail, tail_word(shared->head.segment_bytes, 0), memory_order_relaxed);
	atomic_store_explicit(
	    &shared->segments[0].life, life_word(1, LIFE_OPEN), memory_order_relaxed);
	atomic_store_explicit(&shared->directory[1], 1u << 8, memory_order_relaxed);
	atomic_store_explicit(&shared->firsts[1], first_word(1, 1), memory_order_relaxed);
}

/* Takes memory for all of a file, in steps, since a signal may interrupt some kernels in one. Returns an errno. */
static int
allocate(int fd, uint64_t bytes)
{
	int error = 0;

	for (uint64_t at = 0; at < bytes && error == 0; at += ALLOCATE_STEP)
		do
			error = posix_fallocate(fd, (off_t)at,
			    (off_t)(bytes - at < ALLOCATE_STEP ? bytes - at : ALLOCATE_STEP));
		while (error == EINTR);
	return error;
}

/* The kernel clears and maps pages that were only allocated one by one, at the first touch; written ones are ready. Not all of a
 * large file, since others wait at the gate. Returns an errno. */
static int
clear(int fd, uint64_t bytes)
{
	static const uint8_t zeros[LOG_PAGE];
	struct iovec pages[CLEAR_AT_ONCE];
	uint64_t at = 0, end = bytes < CLEAR_MOST ? bytes : CLEAR_MOST;

	while (at < end) {
		uint64_t left = end - at;
		int count = 0;
		ssize_t written;

		for (; count < CLEAR_AT_ONCE && left > 0; left -= pages[count++].iov_len)
			pages[count] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros,
			    .iov_len = left < sizeof zeros ? (size_t)left : sizeof zeros};
		written = pwritev(fd, pages, count, (off_t)at);

		if (written > 0)
			at += (uint64_t)written;
		else if (written == 0 || errno != EINTR)
			return written == 0 ? ENOSPC : errno;
	}
	return 0;
}

/* The size of a log where the caller gave none. */
static uint64_t
default_bytes(int fd)
{
	struct statvfs fs;
	uint64_t quarter;

	if (fstatvfs(fd, &fs) < 0)
		return LOG_BYTES_DEFAULT;
	quarter = (uint64_t)fs.f_bavail * fs.f_frsize / 4 & ~(uint64_t)(LOG_PAGE - 1);
	if (quarter >= LOG_BYTES_DEFAULT)
		return LOG_BYTES_DEFAULT;
	return quarter > LOG_BYTES_LEAST ? quarter : LOG_BYTES_LEAST;
}

/* Removes a file of members that have died. */
static int
remove_old(const char *path, enum log_file kind)
{
	int err = bus__log_file_remove(path, kind);

	return err == LOG_ABSENT ? 0 : bus__log_foreign(err, kind);
}

static int
fill_log(int fd, uint64_t bytes)
{
	struct log_head head = {.version = LOG_VERSION, .created_ns = bus__wall_ns()};
	struct log_shared *shared;
	int err;

	bus__log_divide(&head, bytes != 0 ? whole_pages(bytes) : default_bytes(fd));
	memcpy(head.magic, bus__log_magic, sizeof head.magic);
	err = bus__random(head.key, sizeof head.key);
	if (err == 0)
		err = bus__random(&head.epoch, sizeof head.epoch);
	if (err < 0)
		return err;
	head.epoch |= head.epoch == 0;
	if (head.file_bytes > SIZE_MAX / 2)
		return BUS_E_NOMEM; /* more than there are addresses for */
	if (!bus__log_may_be_so_large(head.file_bytes))
		return BUS_E_NOSPACE;
	/* All of it now: a page that is missing later is a SIGBUS in the process that touches it. */
	errno = allocate(fd, head.file_bytes);
	if (errno == 0)
		errno = clear(fd, head.file_bytes);
	if (errno != 0)
		return bus__log_error_of_errno();
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		return bus__log_error_of_errno();
	shared->head = head;
	initialize(shared);
	munmap(shared, sizeof *shared);
	return 0;
}

int
bus__log_create(struct log *log, const char *draft, uint64_t bytes)
{
	int saved, err = remove_old(draft, LOG_FILE_DRAFT);

	if (err == 0)
		err = remove_old(log->path, LOG_FILE_LOG);
	if (err == 0)
		err = bus__log_foreign(
		    bus__log_get_file(log, bus__log_file_make, draft, LOG_FILE_DRAFT),
		    LOG_FILE_DRAFT);
	if (err < 0)
		return err;
	err = fill_log(log->file_fd, bytes);
	if (err == 0)
		err = bus__log_foreign(bus__log_file_publish(draft, log->path), LOG_FILE_LOG);
	saved = errno;
	bus__log_close_file(&log->file_fd);
	if (err < 0)
		bus__log_file_remove(draft, LOG_FILE_DRAFT);
	errno = saved;
	return err;
}
