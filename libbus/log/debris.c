/* log/debris.c: removes the files that dead processes left. */
#define _GNU_SOURCE
#include "log/member.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "base/mem.h"

static void
bury_at(
    const char *place, const char *name, const char *lock_path, const char *path, const char *draft)
{
	struct log_identity identity;
	int fd;

	if (bus__log_listed(lock_path) != NULL ||
	    bus__log_file_open(lock_path, LOG_FILE_LOCK, &fd) < 0)
		return;
	identity = bus__log_identity(fd);
	if (bus__log_try_gate(fd) &&
	    bus__log_path_leads(lock_path, &identity, NULL) == LOG_PATH_HERE &&
	    !bus__log_has_members(fd)) {
		bus__log_file_remove(
		    draft, LOG_FILE_DRAFT); /* of a process that died while it made the log */
		bus__log_file_remove(path, LOG_FILE_LOG);
		bus__log_listens_sweep(place, name);
		unlink(lock_path);
	}
	bus__fd_close(fd);
}

/* Removes a log without members. It stays if there is no memory for its paths. */
static void
bury(const char *place, const char *name)
{
	char *lock_path = bus__log_path_of(place, name, LOG_FILE_LOCK),
	     *path = bus__log_path_of(place, name, LOG_FILE_LOG),
	     *draft = bus__log_path_of(place, name, LOG_FILE_DRAFT);

	if (lock_path != NULL && path != NULL && draft != NULL)
		bury_at(place, name, lock_path, path, draft);
	bus__free(draft);
	bus__free(path);
	bus__free(lock_path);
}

void
bus__log_bury_all(const char *place)
{
	int fd = bus__fd_above_std(open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (dir == NULL) {
		if (fd >= 0)
			bus__fd_close(fd);
		return;
	}
	for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		const char *end = strrchr(entry->d_name, '.');
		char name[LOG_NAME_MOST + 1];

		bus__log_file_sweep(place, entry->d_name);
		if (end == NULL || strcmp(end, bus__log_suffixes[LOG_FILE_LOCK]) != 0 ||
		    end - entry->d_name > LOG_NAME_MOST)
			continue;
		snprintf(name, sizeof name, "%.*s", (int)(end - entry->d_name), entry->d_name);
		if (bus__log_is_name(name))
			bury(place, name);
	}
	closedir(dir);
}

void
bus__log_sweep_listens(const struct log *log)
{
	size_t size = (size_t)(log->name - log->path) + log->name_len + 1;
	char *dir = bus__malloc(size);

	if (dir == NULL)
		return; /* the next process to join does it */
	snprintf(dir, size, "%.*s", (int)size - 1, log->path);
	dir[log->name - log->path - 1] = '\0';
	bus__log_listens_sweep(dir, dir + (log->name - log->path));
	bus__free(dir);
}

/* --- an older library ---------------------------------------------------------------------------------------------- */

static int
end_files(const char *lock_path, const char *path)
{
	struct log_identity identity;
	struct stat st;
	int err = LOG_FOREIGN, log_fd, fd;

	if (bus__log_file_open(path, LOG_FILE_LOG, &log_fd) < 0)
		return LOG_FOREIGN;
	identity = bus__log_identity(log_fd);
	bus__fd_close(log_fd);
	fd = bus__fd_above_std(open(lock_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
	if (fd < 0)
		return LOG_FOREIGN;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0) {
		err = BUS_E_VERSION;
		if (bus__log_try_gate(fd) && !bus__log_has_members(fd)) {
			bus__log_file_remove_only(path, &identity);
			identity = bus__log_identity(fd);
			bus__log_file_remove_only(lock_path, &identity);
			err = 0;
		}
	}
	bus__fd_close(fd);
	return err;
}

int
bus__log_end_older(const struct log *log)
{
	size_t stem = strlen(log->path) - strlen(bus__log_suffixes[LOG_FILE_LOG]);
	size_t size = stem + sizeof ".log";
	char *path = bus__malloc(size);
	int err;

	if (path == NULL)
		return BUS_E_NOMEM;
	snprintf(path, size, "%.*s.log", (int)stem, log->path);
	bus__log_lock_list();
	err = end_files(log->lock_path, path);
	bus__log_unlock_list();
	bus__free(path);
	return err;
}
