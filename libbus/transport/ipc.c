/* ipc:///path: a Unix socket for processes of one user.
 *
 * Who owns a path is decided by a record lock on <path>.lock, which ends with its holder however that
 * ends. (flock() and OFD locks would live on in a forked child; probing by connecting disturbs the owner,
 * and NNG on its own would replace any file there.) A socket without such a file was never ours. The process's own listeners are told apart by name,
 * since a record lock never conflicts with its own process. */
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
#include "base/mem.h"
#include "transport/names.h"
#include "transport/nng_wire.h"

struct ipc_listener {
	struct bus__listener base;
	struct bus__listener *wire;
	struct bus__name name;
	int lock_fd;
	char path[BUS__URL_PATH];
	char lock_path[BUS__URL_PATH + sizeof ".lock"];
};

/* A directory where others may write lets them put a socket of theirs in our place, unless it is sticky
 * like /tmp; there a peer is still checked for its user. */
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

/* What an open() that failed is answered with. */
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
	default:
		return BUS_E_SYS;
	}
}

/* Opens the lock file. *ret_new: it was not there. */
static int
open_file(const char *path, bool *ret_new)
{
	int fd;

	for (;;) {
		fd = bus__fd_above_std(
		    open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
		*ret_new = fd >= 0;
		if (fd >= 0 || errno != EEXIST)
			return fd;
		fd = bus__fd_above_std(open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
		if (fd >= 0 || errno != ENOENT)
			return fd;
		/* Its owner left between the two: once more. */
	}
}

static int
open_lock(const char *path, int *ret_fd, bool *ret_new)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat opened, there;
	int fd, err;

	for (;;) {
		fd = open_file(path, ret_new);
		if (fd < 0)
			return open_error();
		if (fcntl(fd, F_SETLK, &whole) != 0) {
			err = errno == EACCES || errno == EAGAIN ? BUS_E_ADDRESS_TAKEN : BUS_E_SYS;
			break;
		}
		/* The owner before us removes the file as it leaves: a lock on a removed one is none. */
		if (fstat(fd, &opened) == 0 && stat(path, &there) == 0 &&
		    opened.st_ino == there.st_ino && opened.st_dev == there.st_dev) {
			*ret_fd = fd;
			return 0;
		}
		close(fd);
	}
	close(fd);
	return err;
}

/* Under the lock, so a socket found here is a dead one's, unless no lock file stood beside it. */
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
	unlink(ipc->lock_path);
	close(ipc->lock_fd);
	remove_name(&ipc->name);
	bus__free(ipc);
}

static const struct bus__listener_ops listener_ops = {listener_accept, listener_free};

static int
check(const struct bus__address *addr, struct bus__address *numeric)
{
	*numeric = *addr;
	return bus__nng_check();
}

static int
listen_at(struct bus__address *addr, struct bus__listener **ret_listener)
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
	memcpy(ipc->path, addr->name, strlen(addr->name) + 1); /* the url's limit is ours */
	snprintf(ipc->lock_path, sizeof ipc->lock_path, "%s.lock", ipc->path);
	ipc->name = (struct bus__name){.scheme = "ipc", .text = ipc->path};
	err = add_name(&ipc->name);
	if (err < 0)
		goto free_ipc;
	err = open_lock(ipc->lock_path, &ipc->lock_fd, &lock_is_new);
	if (err < 0)
		goto remove_name;
	err = remove_stale(addr->name, lock_is_new);
	if (err < 0)
		goto close_lock;
	err = bus__nng_listen(addr, &ipc->wire);
	if (err < 0)
		goto close_lock;
	*ret_listener = &ipc->base;
	return 0;

close_lock:
	unlink(ipc->lock_path);
	close(ipc->lock_fd);
remove_name:
	remove_name(&ipc->name);
free_ipc:
	bus__free(ipc);
	return err;
}

const struct bus__transport bus__transport_ipc = {
    .scheme = "ipc",
    .check = check,
    .listen = listen_at,
    .dial = bus__nng_dial,
};
