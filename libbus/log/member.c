/* log/member.c: joins a log, and leaves it. */
#define _GNU_SOURCE
#include "log/member.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/hold.h"
#include "base/mem.h"
#include "base/thread.h"
#include "log/turn.h"

#define LEAVE_WAIT_MS 100

_Atomic int bus__log_gate_ms = 5000;

/* --- the file of the log ---------------------------------------------------------------------------------------------- */

static bool
is_sound(const struct log_head *head)
{
	struct log_head expected = *head;

	bus__log_divide(&expected, head->file_bytes);
	return memcmp(&expected, head, sizeof expected) == 0 && head->segment_count >= 4 &&
	       head->segment_count <= LOG_MOST_SEGMENTS;
}

static int
read_head(struct log *log, struct log_head *ret_head)
{
	struct stat st;

	if (fstat(log->file_fd, &st) < 0 ||
	    pread(log->file_fd, ret_head, sizeof *ret_head, 0) != (ssize_t)sizeof *ret_head)
		return LOG_CUT;
	if (ret_head->version != LOG_VERSION)
		return BUS_E_VERSION;
	if (ret_head->file_bytes != (uint64_t)st.st_size)
		return LOG_CUT;
	if (!is_sound(ret_head))
		return BUS_E_DAMAGED;
	if (ret_head->file_bytes > SIZE_MAX / 2)
		return BUS_E_NOMEM; /* more than there are addresses for */
	log->log_file = (struct log_identity){.dev = st.st_dev, .ino = st.st_ino};
	return 0;
}

static int
map_log(struct log *log)
{
	struct log_head head;
	void *map = NULL;
	int saved, err = bus__log_get_file(log, bus__log_file_open, log->path, LOG_FILE_LOG);

	if (err < 0)
		return err == LOG_ABSENT ? LOG_REMOVED : bus__log_foreign(err, LOG_FILE_LOG);
	err = read_head(log, &head);
	if (err == 0) {
		map = mmap(NULL, (size_t)head.file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		    log->file_fd, 0);
		if (map == MAP_FAILED)
			err = bus__log_error_of_errno();
	}
	saved = errno;
	bus__log_close_file(&log->file_fd);
	errno = saved;
	if (err < 0)
		return err;
	log->shared = map;
	log->places = (struct log_place *)((uint8_t *)map + head.kept_begin);
	log->buckets = (uint32_t)(head.kept_bytes / (LOG_BUCKET * sizeof(struct log_place)));
	log->segments = (uint8_t *)map + head.segments_begin;
	memcpy(log->key, head.key, sizeof log->key);
	log->map_bytes = (size_t)head.file_bytes;
	log->segment_bytes = head.segment_bytes;
	log->segment_count = head.segment_count;
	log->epoch = head.epoch;
	return 0;
}

/* --- the gate ------------------------------------------------------------------------------------------------------ */

static void
close_lock(struct log *log)
{
	bus__log_leave_gate(log->lock_fd);
	bus__log_close_file(&log->lock_fd);
}

/* Opens the lock file, or makes it. */
static int
open_lock(struct log *log)
{
	for (;;) {
		int err = bus__log_get_file(log, bus__log_file_open, log->lock_path, LOG_FILE_LOCK);

		if (err == LOG_FOREIGN)
			err = bus__log_end_older(log);
		else if (err == LOG_ABSENT)
			err = bus__log_get_file(
			    log, bus__log_file_make, log->lock_path, LOG_FILE_LOCK);
		if (err != LOG_EXISTS && (err < 0 || log->lock_fd >= 0))
			return bus__log_foreign(err, LOG_FILE_LOCK);
	}
}

/* Passes the gate of the lock file, and makes sure that it still has its name then. */
static int
pass_gate(struct log *log)
{
	for (;;) {
		int err = open_lock(log);

		if (err < 0)
			return err;
		err = bus__log_enter_gate(
		    log->lock_fd, atomic_load_explicit(&bus__log_gate_ms, memory_order_relaxed));
		if (err == 0 &&
		    bus__log_path_leads(log->lock_path, &log->lock_file, NULL) == LOG_PATH_HERE)
			return 0;
		close_lock(log); /* the last member has removed it */
		if (err < 0)
			return err;
	}
}

/* --- joining ------------------------------------------------------------------------------------------------------- */

/* Undoes a join. At the gate. */
static void
undo_join(struct log *log, bool made)
{
	struct log_identity *lock_file = &log->lock_file;

	if (log->shared != NULL)
		munmap(log->shared, log->map_bytes);
	if (made)
		bus__log_file_remove(log->path, LOG_FILE_LOG); /* no other process is in it */
	/* The lock file stays beside a log of dead members: by it that log is found. */
	if (access(log->path, F_OK) < 0 && errno == ENOENT && !bus__log_has_members(log->lock_fd))
		bus__log_file_remove_only(log->lock_path, lock_file);
	close_lock(log);
}

static int
join(struct log *log, const char *draft, uint64_t bytes)
{
	int err = pass_gate(log);
	bool made = false;

	if (err < 0)
		return err;
	if (!bus__log_has_members(log->lock_fd)) {
		bus__log_sweep_listens(log);
		/* In place of a log whose members have all died. */
		err = bus__log_create(log, draft, bytes);
		made = err == 0;
	}
	if (err == 0)
		err = map_log(log);
	if (err == 0)
		err = bus__log_claim_slot(log);
	if (err < 0) {
		int saved = errno; /* of the failure, not of the clearing up */

		undo_join(log, made);
		errno = saved;
		return err;
	}
	bus__log_leave_gate(log->lock_fd);
	return 0;
}

/* A new membership. List lock, which it drops while it joins. */
static int
join_new(const char *whole, const char *name, bool by_default, uint64_t bytes, struct log **ret_log)
{
	struct log *log = bus__log_new(whole, name, by_default);
	char *draft = bus__log_path_of(whole, name, LOG_FILE_DRAFT);
	int saved, err;

	if (log == NULL || draft == NULL) {
		if (log != NULL)
			bus__log_free(log);
		bus__free(draft);
		return BUS_E_NOMEM;
	}
	log->state = LOG_JOINING;
	bus__log_list(log);
	bus__log_unlock_list();
	err = join(log, draft, bytes);
	saved = errno;
	bus__free(draft);
	bus__log_lock_list();
	if (err < 0) {
		bus__log_unlist(log);
		bus__log_free(log);
		errno = saved;
		return err;
	}
	log->state = LOG_JOINED;
	bus__log_say_change();
	*ret_log = log;
	return 0;
}

static int
open_in(const char *whole, const char *name, bool by_default, uint64_t bytes, struct log **ret_log)
{
	int64_t deadline_ns =
	    bus__deadline_ns(atomic_load_explicit(&bus__log_gate_ms, memory_order_relaxed));
	struct log *log;
	char *lock_path;

	if (strlen(whole) > LOG_PATH_LONGEST)
		return BUS_E_INVAL;
	lock_path = bus__log_path_of(whole, name, LOG_FILE_LOCK);
	if (lock_path == NULL)
		return BUS_E_NOMEM;
	while ((log = bus__log_listed(lock_path)) != NULL && log->state != LOG_JOINED &&
	       bus__now_ns() < deadline_ns)
		bus__log_await_change(deadline_ns);
	bus__free(lock_path);
	if (log != NULL && log->state != LOG_JOINED)
		return BUS_E_TIMEDOUT;
	if (log != NULL) {
		log->refs++;
		*ret_log = log;
		return 0;
	}
	bus__log_bury_all(whole);
	return join_new(whole, name, by_default, bytes, ret_log);
}

static int
open_here(const char *dir, const char *name, uint64_t bytes, struct log **ret_log)
{
	/* Also for a process that may no longer read the directory. */
	char *whole = dir != NULL ? realpath(dir, NULL) : NULL;
	struct log *log = dir == NULL || whole != NULL ? bus__log_joined(whole, name) : NULL;
	int err;

	free(whole);

	if (log != NULL && bus__log_trouble(log) != LOG_IS_REMOVED) {
		log->refs++;
		*ret_log = log;
		return 0;
	}
	err = bus__log_make_directory(dir, &whole);
	if (err < 0)
		return err;
	err = open_in(whole, name, dir == NULL, bytes, ret_log);
	free(whole);
	return err;
}

int
bus__log_open(const char *dir, const char *name, uint64_t bytes, struct log **ret_log)
{
	int err, cancel;

	if (!bus__log_is_name(name) ||
	    (bytes != 0 && (bytes < LOG_BYTES_LEAST || bytes > LOG_BYTES_MOST)))
		return BUS_E_INVAL;
	err = bus__fork_watch();
	if (err < 0)
		return err;
	bus__log_watch_fork();
	cancel = bus__cancel_off();
	bus__log_lock_list();
	err = open_here(dir, name, bytes, ret_log);
	bus__log_unlock_list();
	bus__cancel_back(cancel);
	return err;
}

void
bus__log_mend(struct log *log)
{
	int fd;

	if (bus__log_is_file(log->lock_fd, &log->lock_file))
		return;
	bus__log_lock_list();
	/* The old number is closed or another file's: not ours to close. */
	if (bus__log_file_open(log->lock_path, LOG_FILE_LOCK, &fd) == 0) {
		if (bus__log_is_file(fd, &log->lock_file)) {
			atomic_store_explicit(&log->lock_fd, fd, memory_order_relaxed);
			bus__log_roles_again(log);
		} else {
			bus__fd_close(fd);
		}
	}
	bus__log_unlock_list();
}

/* --- leaving ------------------------------------------------------------------------------------------------------- */

static void
leave(struct log *log)
{
	for (unsigned i = 1; i < LOG_LANES; i++)
		if (log->writers[i] != NULL)
			bus__log_free_deputy(log->writers[i]);
	munmap(log->shared, log->map_bytes);
	if (log->listens.file.ino != 0)
		bus__log_file_remove_only(log->listens.path, &log->listens.file);
	bus__hold_end(log->hold);
	if (!bus__log_is_file(log->lock_fd, &log->lock_file)) {
		/* The program has closed our descriptor: the file with its number is not ours. */
		atomic_store_explicit(&log->lock_fd, -1, memory_order_relaxed);
		return;
	}
	/* Without its own lock, so that of many that leave at once the last one at the gate finds no members. If the gate is not
	 * free, another process leaves or was stopped there; the next one to join clears up. */
	if (bus__log_enter_gate(log->lock_fd, LEAVE_WAIT_MS) == 0 &&
	    bus__log_path_leads(log->lock_path, &log->lock_file, NULL) == LOG_PATH_HERE &&
	    !bus__log_has_members(log->lock_fd)) {
		bus__log_sweep_listens(log);
		bus__log_file_remove_only(log->path, &log->log_file);
		bus__log_file_remove_only(log->lock_path, &log->lock_file);
	}
	close_lock(log);
}

void
bus__log_end(struct log *log)
{
	int cancel = bus__cancel_off();

	leave(log);
	bus__log_lock_list();
	bus__log_unlist(log);
	bus__log_free(log);
	bus__log_unlock_list();
	bus__cancel_back(cancel);
}

void
bus__log_close(struct log *log)
{
	int cancel = bus__cancel_off();
	bool is_last, ends = false;

	bus__log_lock_list();
	is_last = --log->refs == 0;
	if (is_last) {
		log->state = LOG_LEAVING;
		bus__log_unlock_list();
		/* A dead member that had the slot and was not buried stays to be found. */
		if (!log->took_over)
			atomic_store_explicit(
			    &log->shared->members[log->member].pid, 0, memory_order_relaxed);
		bus__log_let_out(log);
		bus__log_lock_list();
		ends = bus__log_end_turns(log);
		if (!ends) {
			/* A thread that stalls uses this membership. The next open of the name gets another. */
			log->state = LOG_LEFT;
			bus__log_say_change();
		}
	}
	bus__log_unlock_list();
	if (ends)
		bus__log_end(log);
	bus__cancel_back(cancel);
}
