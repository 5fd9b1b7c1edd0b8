/* log/paths.c: the directory of a log, the paths of its files, and whether they still lead to them. */
#define _GNU_SOURCE
#include "log/member.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/mem.h"

bool
bus__log_is_name(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");

	return name[len] == '\0' && len > 0 && len <= LOG_NAME_MOST;
}

char *
bus__log_path_of(const char *dir, const char *name, enum log_file kind)
{
	const char *suffix = bus__log_suffixes[kind];
	size_t size = strlen(dir) + strlen(name) + strlen(suffix) + 2;
	char *path = bus__malloc(size);

	if (path != NULL)
		snprintf(path, size, "%s/%s%s", dir, name, suffix);
	return path;
}

int
bus__log_make_directory(const char *dir, char **ret_whole)
{
	char own[sizeof "/dev/shm/libbus-" + 3 * sizeof(unsigned)];
	const char *place = dir != NULL ? dir : own;
	struct stat st;

	snprintf(own, sizeof own, "/dev/shm/libbus-%u", (unsigned)geteuid());
	if (strlen(place) > LOG_PATH_LONGEST)
		return BUS_E_INVAL;
	if (mkdir(place, 0700) < 0 && errno != EEXIST)
		return bus__log_error_of_errno();
	/* In /dev/shm any user can have made a link of that name. */
	if ((dir != NULL ? stat(place, &st) : lstat(place, &st)) < 0)
		return bus__log_error_of_errno();
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return BUS_E_DENIED;
	*ret_whole = realpath(place, NULL);
	return *ret_whole != NULL ? 0 : bus__log_error_of_errno();
}

int
bus__log_foreign(int err, enum log_file kind)
{
	static const int errors[LOG_FILES] = {
	    LOG_FOREIGN_LOG, LOG_FOREIGN_LOCK, LOG_FOREIGN_DRAFT, LOG_FOREIGN};

	return err == LOG_FOREIGN || err == LOG_EXISTS ? errors[kind] : err;
}

enum log_trouble
bus__log_trouble(const struct log *log)
{
	uint64_t bytes;
	struct stat st;

	if (bus__log_is_damaged(log))
		return LOG_IS_DAMAGED;
	if (bus__log_is_file(log->lock_fd, &log->lock_file) && fstat(log->lock_fd, &st) == 0 &&
	    st.st_nlink == 0)
		return LOG_IS_REMOVED;
	/* Without a name here: a new root, or a directory that was moved. That says nothing about the log. */
	switch (bus__log_path_leads(log->lock_path, &log->lock_file, NULL)) {
	case LOG_PATH_ELSEWHERE:
		return LOG_IS_REMOVED;
	case LOG_PATH_HERE:
		break;
	case LOG_PATH_GONE:
	case LOG_PATH_UNKNOWN:
		return LOG_IS_WELL;
	}
	switch (bus__log_path_leads(log->path, &log->log_file, &bytes)) {
	case LOG_PATH_ELSEWHERE:
	case LOG_PATH_GONE:
		return LOG_IS_REMOVED;
	case LOG_PATH_HERE:
		return bytes < log->map_bytes ? LOG_IS_CUT : LOG_IS_WELL;
	case LOG_PATH_UNKNOWN:
		break;
	}
	return LOG_IS_WELL;
}
