#define _GNU_SOURCE
#include "log/files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/random.h"
#include "log/log.h"

#define MAGIC_BYTES 8
#define LEFT_S      60 /* age of a file whose maker has given up */

const char *const bus__log_suffixes[LOG_FILES] = {".bus", ".lock", ".bus-new", ".listens"};

const uint8_t bus__log_magic[MAGIC_BYTES] = {'l', 'i', 'b', 'b', 'u', 's', 'l', 'g'};
static const uint8_t lock_magic[MAGIC_BYTES] = {'l', 'i', 'b', 'b', 'u', 's', 'l', 'k'};
const uint8_t bus__log_listens_magic[MAGIC_BYTES] = {'l', 'i', 'b', 'b', 'u', 's', 'l', 's'};
static const uint8_t draft_magic[MAGIC_BYTES] = {'l', 'i', 'b', 'b', 'u', 's', 'n', 'w'};

int
bus__log_error_of_errno(void)
{
	switch (errno) {
	case EACCES:
	case EPERM:
	case ELOOP:
		return BUS_E_DENIED;
	case EMFILE:
	case ENFILE:
		return LOG_NO_DESCRIPTOR;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return BUS_E_NOSPACE;
	case EAGAIN: /* of mmap() after mlockall() */
		return BUS_E_LOCKED;
	case ENOMEM:
		return BUS_E_NOMEM;
	default:
		return BUS_E_SYS;
	}
}

bool
bus__log_may_be_so_large(uint64_t bytes)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	       bytes <= limit.rlim_cur;
}

/* --- which file it is ------------------------------------------------------------------------------------------ */

struct log_identity
bus__log_identity(int fd)
{
	struct log_identity identity = {0};
	struct stat st;

	if (fstat(fd, &st) == 0)
		identity = (struct log_identity){.dev = st.st_dev, .ino = st.st_ino};
	return identity;
}

static bool
is_identity(const struct stat *st, const struct log_identity *identity)
{
	return st->st_dev == identity->dev && st->st_ino == identity->ino;
}

bool
bus__log_is_file(int fd, const struct log_identity *identity)
{
	struct stat st;

	return fstat(fd, &st) == 0 && is_identity(&st, identity);
}

enum log_path
bus__log_path_leads(const char *path, const struct log_identity *identity, uint64_t *ret_bytes)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? LOG_PATH_GONE : LOG_PATH_UNKNOWN;
	if (ret_bytes != NULL)
		*ret_bytes = (uint64_t)st.st_size;
	return is_identity(&st, identity) ? LOG_PATH_HERE : LOG_PATH_ELSEWHERE;
}

/* --- opening and making ------------------------------------------------------------------------------------------ */

static bool
is_own(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
	       (st->st_mode & (S_IRWXG | S_IRWXO)) == 0;
}

static bool
has_magic(int fd, enum log_file kind)
{
	uint8_t begin[MAGIC_BYTES];

	if (pread(fd, begin, sizeof begin, 0) != (ssize_t)sizeof begin)
		return false;
	switch (kind) {
	case LOG_FILE_LOCK:
		return memcmp(begin, lock_magic, sizeof begin) == 0;
	case LOG_FILE_DRAFT:
		if (memcmp(begin, draft_magic, sizeof begin) == 0)
			return true;
		break; /* it was ready, and not yet named */
	case LOG_FILE_LISTENS:
		return memcmp(begin, bus__log_listens_magic, sizeof begin) == 0;
	case LOG_FILE_LOG:
		break;
	}
	return memcmp(begin, bus__log_magic, sizeof begin) == 0;
}

int
bus__log_file_open(const char *path, enum log_file kind, int *ret_fd)
{
	struct stat st;
	int fd;

	/* Before it is opened, which the other end of a FIFO notices, and some devices. */
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? LOG_ABSENT : bus__log_error_of_errno();
	if (!is_own(&st))
		return LOG_FOREIGN;
	fd = bus__fd_above_std(open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
	if (fd < 0)
		return errno == ENOENT ? LOG_ABSENT : bus__log_error_of_errno();
	if (fstat(fd, &st) < 0 || !is_own(&st) || !has_magic(fd, kind)) {
		bus__fd_close(fd);
		return LOG_FOREIGN;
	}
	*ret_fd = fd;
	return 0;
}

/* Writes what a file of that kind begins with. Returns an errno. */
static int
begin_file(int fd, enum log_file kind)
{
	static const uint8_t *const magics[LOG_FILES] = {
	    [LOG_FILE_LOG] = draft_magic,
	    [LOG_FILE_LOCK] = lock_magic,
	    [LOG_FILE_DRAFT] = draft_magic,
	    [LOG_FILE_LISTENS] = bus__log_listens_magic,
	};
	struct log_lock_head head = {0};
	size_t bytes = kind == LOG_FILE_LOCK ? sizeof head : MAGIC_BYTES;
	ssize_t put;

	memcpy(head.magic, magics[kind], MAGIC_BYTES);
	if (!bus__log_may_be_so_large(bytes))
		return EFBIG;
	do
		put = pwrite(fd, &head, bytes, 0);
	while (put < 0 && errno == EINTR);
	if (put < 0)
		return errno;
	return (size_t)put == bytes ? 0 : ENOSPC;
}

/* Made under a unique name, and linked when it has its first bytes: a process that dies here leaves no file
 * without them under the other name. */
static int
make(const char *temporary, const char *path, enum log_file kind, int *ret_fd)
{
	int fd = bus__fd_above_std(
	    open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
	int error;

	if (fd < 0)
		return bus__log_error_of_errno();
	error = begin_file(fd, kind);
	if (error == 0 && link(temporary, path) < 0)
		error = errno;
	unlink(temporary);
	if (error != 0) {
		bus__fd_close(fd);
		errno = error;
		/* Swept by another, since we were stopped for long: as if it were there, the caller looks again. */
		return error == EEXIST || error == ENOENT ? LOG_EXISTS : bus__log_error_of_errno();
	}
	*ret_fd = fd;
	return 0;
}

int
bus__log_file_make(const char *path, enum log_file kind, int *ret_fd)
{
	size_t size = strlen(path) + LOG_NAME_EXTRA;
	char *temporary;
	uint64_t number;
	int err = bus__random(&number, sizeof number);

	if (err < 0)
		return err;
	temporary = bus__malloc(size);
	if (temporary == NULL)
		return BUS_E_NOMEM;
	snprintf(temporary, size, "%s-%016" PRIx64, path, number);
	err = make(temporary, path, kind, ret_fd);
	bus__free(temporary);
	return err;
}

int
bus__log_file_publish(const char *draft, const char *path)
{
	if (link(draft, path) < 0)
		return errno == EEXIST ? LOG_EXISTS : bus__log_error_of_errno();
	unlink(draft);
	return 0;
}

/* --- removing ------------------------------------------------------------------------------------------------------ */

void
bus__log_file_remove_only(const char *path, const struct log_identity *identity)
{
	if (bus__log_path_leads(path, identity, NULL) == LOG_PATH_HERE)
		unlink(path);
}

int
bus__log_file_remove(const char *path, enum log_file kind)
{
	struct log_identity identity;
	int fd, err = bus__log_file_open(path, kind, &fd);

	if (err < 0)
		return err;
	identity = bus__log_identity(fd);
	bus__fd_close(fd);
	bus__log_file_remove_only(path, &identity);
	return 0;
}

/* The kind of a file whose name ends in a suffix and 16 digits; LOG_FILES: none. */
static unsigned
kind_of_temporary(const char *name)
{
	const char *dash = strrchr(name, '-'), *end;
	unsigned kind = LOG_FILES;

	if (dash == NULL || strlen(dash + 1) != 16 || strspn(dash + 1, "0123456789abcdef") != 16)
		return LOG_FILES;
	/* Between suffix and digits some have the number of a slot. */
	for (end = dash; end > name && strchr("0123456789", end[-1]) != NULL;)
		end--;
	end = end < dash && end > name && end[-1] == '-' ? end - 1 : dash;
	for (unsigned i = LOG_FILE_LOCK; i < LOG_FILES; i++) {
		size_t len = strlen(bus__log_suffixes[i]);

		if ((size_t)(end - name) > len && memcmp(end - len, bus__log_suffixes[i], len) == 0)
			kind = i;
	}
	return kind;
}

void
bus__log_file_sweep(const char *dir, const char *name)
{
	unsigned kind = kind_of_temporary(name);
	size_t size = strlen(dir) + strlen(name) + 2;
	struct stat st;
	char *path;

	if (kind == LOG_FILES)
		return;
	path = bus__malloc(size);
	if (path == NULL)
		return;
	snprintf(path, size, "%s/%s", dir, name);
	if (lstat(path, &st) == 0 && time(NULL) - st.st_ctime > LEFT_S)
		bus__log_file_remove(path, (enum log_file)kind);
	bus__free(path);
}
