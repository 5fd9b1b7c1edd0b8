/* log/member.h: how a process joins and leaves a log, for the files that do so.
 *
 * Beside the log lies a lock file. One byte of it is the gate: a process holds it while it joins or leaves. One byte for each
 * member is locked for as long as that process lives (base/hold.h). All are locks of open file descriptions, which no other code
 * of the process can drop by accident. A process has one membership for each file, in a list. */
#ifndef BUS_LOG_MEMBER_H
#define BUS_LOG_MEMBER_H

#include "log/log.h"

#define LOG_PATH_LONGEST 3960 /* of a directory; the names in it are at most 96 bytes long */

/* --- the lock file (locks.c) -------------------------------------------------------------------------------------- */

/* Whether a member has its byte locked. */
bool bus__log_has_members(int fd);

/* How long an open waits there; tests shorten it. Relaxed: it publishes nothing. */
extern _Atomic int bus__log_gate_ms;

/* Locks the gate. Gives up when no process has passed for wait_ms. 0, BUS_E_TIMEDOUT, LOG_NO_OFD, LOG_NO_LOCK, BUS_E_SYS. */
int bus__log_enter_gate(int fd, int wait_ms);
bool bus__log_try_gate(int fd);

/* Closing the file would not do: a child that was just forked may have the descriptor a moment longer. */
void bus__log_leave_gate(int fd);

/* Locks the byte of a slot: 1, or 0 if another description has it. BUS_E_LIMIT, BUS_E_SYS. */
int bus__log_lock_slot(int fd, uint32_t slot);

/* A pause between two tries to get a lock; begins as 0. Grows, and differs between processes: a thousand that look every millisecond
 * leave no CPU to the one that has the lock. */
void bus__log_nap(int64_t *nap_ns);

/* --- paths (paths.c) ---------------------------------------------------------------------------------------------- */

bool bus__log_is_name(const char *name);

/* dir/name and the suffix of that kind, to be freed; NULL: no memory. On the heap, since stacks are small. */
char *bus__log_path_of(const char *dir, const char *name, enum log_file kind);

/* The directory (NULL: the user's own), made if it is missing. It is the user's, and no other may write there. *ret_whole, its path
 * without links, ends with free(). */
int bus__log_make_directory(const char *dir, char **ret_whole);

/* An error of files.h as the one of log.h that names the file. */
int bus__log_foreign(int err, enum log_file kind);

/* --- a new log (create.c) ----------------------------------------------------------------------------------------- */

/* Divides a file of `bytes`, a multiple of LOG_PAGE. */
void bus__log_divide(struct log_head *head, uint64_t bytes);

/* Makes the log's file as `draft`, and gives it its name when it is complete. At the gate. */
int bus__log_create(struct log *log, const char *draft, uint64_t bytes);

/* --- what dead processes left (debris.c) -------------------------------------------------------------------------- */

/* Removes the logs in the directory that have no members, and unfinished files. A bus whose last member was killed leaves its
 * memory behind; a process that is about to take memory gives that back. List lock. */
void bus__log_bury_all(const char *dir);

/* Removes the lists of filters of a log without members. At the gate. */
void bus__log_sweep_listens(const struct log *log);

/* A library before version 2 left its lock file empty, and called its log NAME.log. Removes both if that bus has no members.
 * BUS_E_VERSION: it has; LOG_FOREIGN: the lock file is none of these. */
int bus__log_end_older(const struct log *log);

/* --- slots (slots.c) ---------------------------------------------------------------------------------------------- */

/* Takes a free slot for a log that is mapped. */
int bus__log_claim_slot(struct log *log);

void bus__log_free_deputy(struct log *deputy);

/* --- the list of this process (memberships.c) --------------------------------------------------------------------- */

/* Opens or makes a file of a log, so that a child that is forked now closes it; closes one, if it is open. They take the list lock. */
int bus__log_get_file(struct log *log,
    int (*get)(const char *path, enum log_file kind, int *ret_fd), const char *path,
    enum log_file kind);
void bus__log_close_file(_Atomic int *slot);

/* For signal handlers: takes the list lock if it is free. */
bool bus__log_try_lock_list(void);

/* Registers the handlers of fork(), once. */
void bus__log_watch_fork(void);

/* A log that is not listed yet. NULL: no memory. */
struct log *bus__log_new(const char *whole, const char *name, bool by_default);
void bus__log_free(struct log *log);

/* With the list lock held, all of these. */
void bus__log_list(struct log *log);
void bus__log_unlist(struct log *log);

/* Wakes the threads that wait for a change; waits for one without the lock. */
void bus__log_say_change(void);
void bus__log_await_change(int64_t deadline_ns);

/* The log with that lock file that this process is in, joins or leaves. Not one whose files were removed: the name is another
 * log's then. */
struct log *bus__log_listed(const char *lock_path);

/* The log of that name that this process is in, in the user's own directory, or in `dir`, a path without links. Finds it without
 * its files, which a process may not reach after setuid(). */
struct log *bus__log_joined(const char *dir, const char *name);

#endif
