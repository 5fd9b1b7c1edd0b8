/* log/files.h: the files of a log, and the proof that a file is one of them.
 *
 * Each file begins with eight bytes that say what it is, from the moment it has its name. A path that holds anything else
 * stays as it is. */
#ifndef BUS_LOG_FILES_H
#define BUS_LOG_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum log_file { LOG_FILE_LOG, LOG_FILE_LOCK, LOG_FILE_DRAFT, LOG_FILE_LISTENS };

#define LOG_FILES      4
#define LOG_NAME_EXTRA 32 /* at most so many bytes a file's name has beside the bus's */

extern const char *const bus__log_suffixes[LOG_FILES];
extern const uint8_t bus__log_listens_magic[8];

/* Besides those of bus.h. */
enum {
	LOG_ABSENT = -1250,  /* nothing has that name */
	LOG_FOREIGN = -1251, /* something has, and it is no such file, or not ours alone */
	LOG_EXISTS = -1252   /* another process made it at the same time */
};

/* The lock file. What stands behind the magic is a hint that anybody may spoil: it is read and written as a file, since a
 * file that is mapped and cut off would end the process. */
struct log_lock_head {
	uint8_t magic[8];
	uint64_t passes;   /* how often the gate was passed */
	int64_t looked_ns; /* when a member began to look for the dead (monotonic) */
};

/* Which file it is, whatever names it has. */
struct log_identity {
	dev_t dev;
	ino_t ino;
};

/* Opens a file of that kind. 0, LOG_ABSENT, LOG_FOREIGN, or bus__log_error_of_errno(). */
int bus__log_file_open(const char *path, enum log_file kind, int *ret_fd);

/* Makes one, with its first bytes, if nothing has the name. 0, LOG_EXISTS, or bus__log_error_of_errno(). */
int bus__log_file_make(const char *path, enum log_file kind, int *ret_fd);

/* Makes one of that name out of the draft, which loses its own. 0, LOG_EXISTS, or bus__log_error_of_errno(). */
int bus__log_file_publish(const char *draft, const char *path);

/* Removes what has that name if it is a file of that kind. 0, LOG_ABSENT, LOG_FOREIGN, or bus__log_error_of_errno(). */
int bus__log_file_remove(const char *path, enum log_file kind);

/* Removes a name of this very file. */
void bus__log_file_remove_only(const char *path, const struct log_identity *identity);

/* Removes what a process left behind that died while it made a file: `name` is that of an entry of the directory. */
void bus__log_file_sweep(const char *dir, const char *name);

struct log_identity bus__log_identity(int fd);
bool bus__log_is_file(int fd, const struct log_identity *identity);

/* Whether the path leads to that file. ELSEWHERE: to another, GONE: to none; UNKNOWN: this process may not look. */
enum log_path { LOG_PATH_HERE, LOG_PATH_ELSEWHERE, LOG_PATH_GONE, LOG_PATH_UNKNOWN };
enum log_path bus__log_path_leads(
    const char *path, const struct log_identity *identity, uint64_t *ret_bytes);

/* Beyond its limit (ulimit -f) the kernel does not only refuse a file to grow: it ends the process by SIGXFSZ. */
bool bus__log_may_be_so_large(uint64_t bytes);

int bus__log_error_of_errno(void);

#endif
