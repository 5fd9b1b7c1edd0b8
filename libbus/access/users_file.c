#define _GNU_SOURCE
#include "access/users_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libbus/error.h>

#include "access/users.h"
#include "access/users_line.h"
#include "base/error_text.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/secret.h"
#include "base/thread.h"

enum { FILE_MOST = BUS__USERS_MOST * BUS__USER_LINE };

static int
refuse_mode(const char *path, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return bus__fail(BUS_E_INVAL, BUS__SHOWN ": not a regular file", path);
	if (st->st_uid != geteuid() && st->st_uid != 0 && geteuid() != 0)
		return bus__fail(BUS_E_DENIED,
		    BUS__SHOWN ": belongs to another account: chown %u " BUS__SHOWN, path,
		    (unsigned)geteuid(), path);
	if ((st->st_mode & 077) != 0)
		return bus__fail(BUS_E_DENIED,
		    BUS__SHOWN ": others may read or write it (mode %03o): chmod 600 " BUS__SHOWN,
		    path, (unsigned)st->st_mode & 0777, path);
	if (st->st_size > FILE_MOST)
		return bus__fail(
		    BUS_E_LIMIT, BUS__SHOWN ": it has more than %d bytes", path, FILE_MOST);
	return 0;
}

static int
fill(int fd, struct bus__users_text *text, size_t room)
{
	while (text->len < room) {
		ssize_t got = bus__fd_read(fd, text->at + text->len, room - text->len);

		if (got < 0 && errno != EINTR)
			return BUS_E_SYS;
		if (got == 0)
			break;
		if (got > 0)
			text->len += (size_t)got;
	}
	return 0;
}

/* The end of the line at `at`, behind its newline. */
static const char *
line_end(const char *at, const char *end)
{
	const char *newline = memchr(at, '\n', (size_t)(end - at));

	return newline != NULL ? newline + 1 : end;
}

static int
count_users(const char *path, struct bus__users_text *text)
{
	const char *end = text->at + text->len;

	for (const char *at = text->at, *next; at < end; at = next) {
		next = line_end(at, end);
		text->users += bus__user_line_len(at, (size_t)(next - at)) > 0;
	}
	return text->users <= BUS__USERS_MOST
		   ? 0
		   : bus__fail(BUS_E_LIMIT, BUS__SHOWN ": it has more than %d users", path,
			 BUS__USERS_MOST);
}

static int
read_open(int fd, const char *path, struct bus__users_text *text)
{
	struct stat st;
	int err = fstat(fd, &st) < 0 ? bus__fail_about(BUS_E_SYS, path) : refuse_mode(path, &st);

	if (err < 0)
		return err;
	text->at = bus__malloc((size_t)st.st_size + 1);
	if (text->at == NULL)
		return bus__fail_about(BUS_E_NOMEM, path);
	err = fill(fd, text, (size_t)st.st_size);
	return err < 0 ? bus__fail_about(err, path) : count_users(path, text);
}

int
bus__users_text_read(const char *path, struct bus__users_text *ret_text)
{
	struct bus__users_text text = {0};
	int cancel = bus__cancel_off();
	/* Opening a FIFO must not block. */
	int fd = bus__fd_above_std(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)), err;

	bus__cancel_back(cancel);
	if (fd < 0)
		return bus__fail_about(
		    errno == EMFILE || errno == ENFILE ? BUS_E_LIMIT : BUS_E_SYS, path);
	err = read_open(fd, path, &text);
	bus__fd_close(fd);
	if (err < 0)
		bus__users_text_free(&text);
	else
		*ret_text = text;
	return err;
}

void
bus__users_text_free(struct bus__users_text *text)
{
	int saved = errno;

	if (text->at != NULL)
		bus__wipe(text->at, text->len);
	bus__free(text->at);
	errno = saved;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */

/* Opens the new file, PATH.new, which is also the lock of its writers. If the path has another file after the wait, the previous
 * writer has renamed ours: begin again. */
static int
open_draft(const char *draft, int *ret_fd)
{
	for (;;) {
		struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		struct stat here, there;
		int fd = bus__fd_above_std(
		    open(draft, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));

		if (fd < 0)
			return BUS_E_SYS;
		while (fcntl(fd, F_OFD_SETLKW, &whole) < 0)
			if (errno != EINTR) {
				bus__fd_close(fd);
				return BUS_E_SYS;
			}
		if (fstat(fd, &here) == 0 && lstat(draft, &there) == 0 &&
		    here.st_dev == there.st_dev && here.st_ino == there.st_ino) {
			*ret_fd = fd;
			return 0;
		}
		bus__fd_close(fd);
	}
}

static int
put(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t put = bus__fd_write(fd, bytes, len);

		if (put < 0 && errno != EINTR)
			return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? BUS_E_NOSPACE
										    : BUS_E_SYS;
		if (put > 0) {
			bytes += put;
			len -= (size_t)put;
		}
	}
	return 0;
}

static bool
is_of(const char *line, size_t len, const char *name)
{
	size_t name_len = bus__user_line_name(line, bus__user_line_len(line, len));

	return name_len == strlen(name) && memcmp(line, name, name_len) == 0;
}

/* Writes the old text with the change. Returns whether the user was there. */
static int
write_changed(
    int fd, const struct bus__users_text *old, const char *name, const char *line, size_t line_len)
{
	const char *end = old->at + old->len;
	int err = 0;
	bool was_there = false, ends_whole = true;

	for (const char *at = old->at, *next; at < end && err == 0; at = next) {
		next = line_end(at, end);
		if (!is_of(at, (size_t)(next - at), name)) {
			err = put(fd, at, (size_t)(next - at));
			ends_whole = next[-1] == '\n';
			continue;
		}
		if (!was_there)
			err = put(fd, line, line_len);
		was_there = true;
	}
	if (err == 0 && !was_there && line_len > 0 && !ends_whole)
		err = put(fd, "\n", 1);
	if (err == 0 && !was_there)
		err = put(fd, line, line_len);
	return err < 0 ? err : was_there;
}

/* A file that root edits keeps its owner. */
static int
keep_owner(int fd, const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : bus__fail_about(BUS_E_SYS, path);
	if (S_ISLNK(st.st_mode))
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN ": it is a symbolic link: name the file that it leads to", path);
	if (st.st_uid == geteuid() || fchown(fd, st.st_uid, st.st_gid) == 0)
		return 0;
	return bus__fail_about(BUS_E_SYS, path);
}

static void
sync_directory(const char *path)
{
	char *dir = bus__strdup(path);
	char *slash = dir != NULL ? strrchr(dir, '/') : NULL;
	int fd;

	if (dir == NULL)
		return;
	if (slash != NULL)
		slash[slash == dir] = '\0';
	fd = open(slash != NULL ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!fsync(fd);
		bus__fd_close(fd);
	}
	bus__free(dir);
}

/* The draft is open and locked. 1: it replaced the file, and the user was there; 0: not there. */
static int
change(int fd, const char *path, const char *draft, const char *name, const char *line,
    size_t line_len)
{
	struct bus__users_text old = {0};
	int was_there, err = bus__users_text_read(path, &old);

	if (err < 0 && !(err == BUS_E_SYS && errno == ENOENT))
		return err;
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, 0) < 0)
		was_there = BUS_E_SYS;
	else
		was_there = write_changed(fd, &old, name, line, line_len);
	bus__users_text_free(&old);
	if (was_there < 0)
		return bus__fail_about(was_there, path);
	if (was_there == 0 && line == NULL)
		return 0;
	err = keep_owner(fd, path);
	if (err < 0)
		return err;
	if (fsync(fd) < 0 || rename(draft, path) < 0)
		return bus__fail_about(BUS_E_SYS, path);
	sync_directory(path);
	return was_there;
}

static int
edit(const char *path, const char *draft, const char *name, const char *line, size_t line_len)
{
	struct stat here, there;
	int fd, was_there, err = open_draft(draft, &fd);

	if (err < 0)
		return bus__fail_about(err, draft);
	was_there = change(fd, path, draft, name, line, line_len);
	/* Under the lock the draft is still ours, unless it is the file already. */
	if (fstat(fd, &here) == 0 && stat(draft, &there) == 0 && here.st_ino == there.st_ino)
		unlink(draft);
	bus__fd_close(fd);
	return was_there;
}

int
bus__users_edit(const char *path, const char *name, const char *line, size_t line_len)
{
	static const char ending[] = ".new";
	size_t len = strlen(path);
	char *draft = bus__malloc(len + sizeof ending);
	int err, cancel;

	if (draft == NULL)
		return bus__fail_about(BUS_E_NOMEM, path);
	memcpy(draft, path, len);
	memcpy(draft + len, ending, sizeof ending);
	cancel = bus__cancel_off();
	err = edit(path, draft, name, line, line_len);
	bus__cancel_back(cancel);
	bus__free(draft);
	return err;
}
