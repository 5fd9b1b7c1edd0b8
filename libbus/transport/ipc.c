/* ipc:///path: a Unix socket for processes of one user.
 *
 * The owner of a path holds a lock on <path>.lock, an empty file. The lock ends with its holder, however that
 * ends (base/hold.h). (Probing by connecting would disturb the owner, and NNG alone would replace any file there.) A socket
 * without such a file is not libbus's, nor is a lock file that is not empty. The process's own listeners are told apart
 * by name. */
#define _GNU_SOURCE
#include "transport/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "base/hold.h"
#include "base/mem.h"
#include "transport/names.h"
#include "transport/wire.h"

struct ipc_listener {
	struct bus__listener base;
	struct bus__listener *wire;
	struct bus__name name;
	void *lock;
	struct stat lock_file;
	char path[BUS__URL_PATH];
	char lock_path[BUS__URL_PATH + sizeof ".lock"];
};

/* In a directory that other users can write to, they can put their own socket in our place, unless it is sticky
 * like /tmp; even there the user of a peer is checked. */
static int
check_directory(const char *path)
{
	char dir[BUS__URL_PATH];
	size_t len = (size_t)(strrchr(path, '/') - path);
	struct stat st;

	memcpy(dir, path, len);
	snprintf(dir + len, sizeof dir - len, "%s", len == 0 ? "/" : "");
	if (stat(dir, &st) != 0)
		return BUS_E_SYS;
	if (!S_ISDIR(st.st_mode)) {
		errno = ENOTDIR;
		return BUS_E_SYS;
	}
	return (st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0 ? BUS_E_DENIED : 0;
}

/* The error for an open() that failed. */
static int
open_error(void)
{
	switch (errno) {
	case EACCES:
	case ELOOP:
		return BUS_E_DENIED;
	case EMFILE:
	case ENFILE:
		return BUS_E_LIMIT;
	case ENOTSOCK:
		return BUS_E_NOT_A_SOCKET;
	default:
		return BUS_E_SYS;
	}
}

/* Opens the lock file. *ret_new: it did not exist. */
static int
open_file(const char *path, bool *ret_new)
{
	struct stat st;
	int fd;

	for (;;) {
		fd = bus__fd_above_std(
		    open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
		*ret_new = fd >= 0;
		if (fd >= 0 || errno != EEXIST)
			return fd;
		/* Before the open, which the other end of a FIFO would notice. */
		if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
			errno = ENOTSOCK;
			return -1;
		}
		fd = bus__fd_above_std(open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
		if (fd >= 0 || errno != ENOENT)
			return fd;
		/* Its owner left in between: try once more. */
	}
}

static bool
is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static int
open_lock(struct ipc_listener *ipc, bool *ret_new)
{
	const char *path = ipc->lock_path;
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat *opened = &ipc->lock_file, there;
	int fd, err;

	for (;;) {
		fd = open_file(path, ret_new);
		if (fd < 0)
			return open_error();
		if (fcntl(fd, F_OFD_SETLK, &whole) != 0) {
			err = errno == EACCES || errno == EAGAIN ? BUS_E_ADDRESS_TAKEN : BUS_E_SYS;
			break;
		}
		if (fstat(fd, opened) == 0 && opened->st_size != 0) {
			err = BUS_E_NOT_A_SOCKET;
			break;
		}
		/* The previous owner removes the file as it leaves, and a lock on a removed file is worthless. */
		if (stat(path, &there) == 0 && is_same(opened, &there)) {
			ipc->lock = bus__hold(fd);
			if (ipc->lock != NULL)
				return 0;
			err = BUS_E_NOMEM;
			break;
		}
		close(fd);
	}
	close(fd);
	return err;
}

/* The file at the lock file's path may belong to another process by now. */
static void
end_lock(struct ipc_listener *ipc)
{
	struct stat there;

	if (lstat(ipc->lock_path, &there) == 0 && is_same(&ipc->lock_file, &there))
		unlink(ipc->lock_path);
	bus__hold_end(ipc->lock);
}

/* Under the lock, so a socket found here belongs to a dead owner, unless no lock file stood beside it. */
static int
remove_stale(const char *path, bool lock_is_new)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : BUS_E_SYS;
	if (!S_ISSOCK(st.st_mode) || lock_is_new)
		return BUS_E_NOT_A_SOCKET;
	if (st.st_uid != geteuid())
		return BUS_E_DENIED;
	return unlink(path) == 0 ? 0 : BUS_E_SYS;
}

static int
add_name(struct bus__name *name)
{
	bool added;

	bus__names_lock();
	added = bus__names_add(name);
	bus__names_unlock();
	return added ? 0 : BUS_E_ADDRESS_TAKEN;
}

static void
remove_name(struct bus__name *name)
{
	bus__names_lock();
	bus__names_remove(name);
	bus__names_unlock();
}

static void
listener_accept(struct bus__listener *listener, struct bus__io *io)
{
	struct bus__listener *wire = ((struct ipc_listener *)listener)->wire;

	wire->ops->accept(wire, io);
}

static void
listener_free(struct bus__listener *listener)
{
	struct ipc_listener *ipc = (struct ipc_listener *)listener;

	ipc->wire->ops->free(ipc->wire); /* removes the socket */
	end_lock(ipc);
	remove_name(&ipc->name);
	bus__free(ipc);
}

static const struct bus__listener_ops listener_ops = {listener_accept, listener_free};

static int
check(const struct bus__address *addr, const struct bus__terms *terms, struct bus__address *numeric)
{
	(void)terms;
	*numeric = *addr;
	return bus__wire_check();
}

static int
listen_at(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener)
{
	struct ipc_listener *ipc;
	bool lock_is_new;
	int err;

	err = check_directory(addr->name);
	if (err < 0)
		return err;
	ipc = bus__calloc(1, sizeof *ipc);
	if (ipc == NULL)
		return BUS_E_NOMEM;
	ipc->base.ops = &listener_ops;
	memcpy(ipc->path, addr->name, strlen(addr->name) + 1); /* the url has the same limit */
	snprintf(ipc->lock_path, sizeof ipc->lock_path, "%s.lock", ipc->path);
	ipc->name = (struct bus__name){.scheme = "ipc", .text = ipc->path};
	err = add_name(&ipc->name);
	if (err < 0)
		goto free_ipc;
	err = open_lock(ipc, &lock_is_new);
	if (err < 0)
		goto remove_name;
	err = remove_stale(addr->name, lock_is_new);
	if (err < 0)
		goto close_lock;
	err = bus__wire_listen(addr, terms, &ipc->wire);
	if (err < 0)
		goto close_lock;
	*ret_listener = &ipc->base;
	return 0;

close_lock:
	end_lock(ipc);
remove_name:
	remove_name(&ipc->name);
free_ipc:
	bus__free(ipc);
	return err;
}

const struct bus__transport bus__transport_ipc = {
    .scheme = "ipc",
    .form = &bus__form_path,
    .check = check,
    .listen = listen_at,
    .dial = bus__wire_dial,
};
