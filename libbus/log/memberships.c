/* log/memberships.c: the logs that this process is in, joins or leaves, and what a fork does with them. */
#define _GNU_SOURCE
#include "log/member.h"

#include <string.h>

#include "base/fd.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct log *logs;
static _Atomic uint32_t changes; /* futex: a log in the list has joined or has left */

void
bus__log_lock_list(void)
{
	pthread_mutex_lock(&lock);
}

void
bus__log_unlock_list(void)
{
	pthread_mutex_unlock(&lock);
}

bool
bus__log_try_lock_list(void)
{
	return pthread_mutex_trylock(&lock) == 0;
}

/* --- files --------------------------------------------------------------------------------------------------------- */

static void
close_slot(_Atomic int *slot)
{
	int fd = atomic_exchange_explicit(slot, -1, memory_order_relaxed);

	if (fd >= 0)
		bus__fd_close(fd);
}

void
bus__log_close_file(_Atomic int *slot)
{
	bus__log_lock_list();
	close_slot(slot);
	bus__log_unlock_list();
}

int
bus__log_get_file(struct log *log, int (*get)(const char *path, enum log_file kind, int *ret_fd),
    const char *path, enum log_file kind)
{
	int fd, err;

	bus__log_lock_list();
	err = get(path, kind, &fd);
	if (err == 0 && kind == LOG_FILE_LOCK) {
		log->lock_file = bus__log_identity(fd);
		atomic_store_explicit(&log->lock_fd, fd, memory_order_relaxed);
	} else if (err == 0) {
		atomic_store_explicit(&log->file_fd, fd, memory_order_relaxed);
	}
	bus__log_unlock_list();
	return err;
}

/* --- fork ---------------------------------------------------------------------------------------------------------- */

/* The child has none of the parent's memberships. Descriptors that it kept open would keep the parent's locks. */
static void
forget_list(void)
{
	for (struct log *log = logs; log != NULL; log = log->next) {
		if (bus__log_is_file(log->lock_fd, &log->lock_file))
			close_slot(&log->lock_fd);
		close_slot(&log->file_fd);
	}
	logs = NULL;
	bus__log_unlock_list();
}

static void
watch_fork(void)
{
	pthread_atfork(bus__log_lock_list, bus__log_unlock_list, forget_list);
}

void
bus__log_watch_fork(void)
{
	pthread_once(&once, watch_fork);
}

/* --- one log ------------------------------------------------------------------------------------------------------- */

struct log *
bus__log_new(const char *whole, const char *name, bool by_default)
{
	struct log *log = bus__calloc(1, sizeof *log);

	if (log == NULL)
		return NULL;
	/* On Linux neither fails. */
	pthread_mutex_init(&log->members_lock, NULL);
	pthread_mutex_init(&log->pins_lock, NULL);
	log->home = log->writers[0] = log;
	atomic_init(&log->lanes, LOG_LANES_AT_FIRST);
	bus__log_listens_init(log);
	log->refs = 1;
	log->fork_generation = bus__fork_generation();
	log->path = bus__log_path_of(whole, name, LOG_FILE_LOG);
	log->lock_path = bus__log_path_of(whole, name, LOG_FILE_LOCK);
	log->memory = bus__log_memory_new();
	if (log->path == NULL || log->lock_path == NULL || log->memory == NULL) {
		bus__log_free(log);
		return NULL;
	}
	log->name = log->path + strlen(whole) + 1;
	log->name_len = strlen(name);
	log->by_default = by_default;
	atomic_init(&log->lock_fd, -1);
	atomic_init(&log->file_fd, -1);
	/* No tail is above it: the first transaction looks up the segment. */
	log->begin = UINT64_MAX;
	return log;
}

void
bus__log_free(struct log *log)
{
	pthread_mutex_destroy(&log->members_lock);
	pthread_mutex_destroy(&log->pins_lock);
	bus__log_memory_free(log->memory);
	bus__log_listens_fini(log);
	bus__free(log->lock_path);
	bus__free(log->path);
	bus__free(log);
}

/* --- the list ------------------------------------------------------------------------------------------------------ */

void
bus__log_list(struct log *log)
{
	log->next = logs;
	logs = log;
}

void
bus__log_unlist(struct log *log)
{
	struct log **at = &logs;

	while (*at != log)
		at = &(*at)->next;
	*at = log->next;
	bus__log_say_change();
}

void
bus__log_say_change(void)
{
	/* Relaxed: the list's lock orders what changed. */
	atomic_fetch_add_explicit(&changes, 1, memory_order_relaxed);
	bus__unpark(&changes);
}

void
bus__log_await_change(int64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&changes, memory_order_relaxed);

	bus__log_unlock_list();
	bus__park(&changes, seen, deadline_ns);
	bus__log_lock_list();
}

struct log *
bus__log_listed(const char *lock_path)
{
	struct log *log = logs;

	while (log != NULL &&
	       (strcmp(log->lock_path, lock_path) != 0 || log->state == LOG_LEFT ||
		   (log->state == LOG_JOINED && bus__log_trouble(log) == LOG_IS_REMOVED)))
		log = log->next;
	return log;
}

struct log *
bus__log_joined(const char *dir, const char *name)
{
	struct log *log = logs;
	size_t len = strlen(name);

	for (; log != NULL; log = log->next) {
		if (log->name_len != len || memcmp(log->name, name, len) != 0 ||
		    log->state != LOG_JOINED)
			continue;
		if (dir == NULL
			? log->by_default
			: strncmp(log->path, dir, (size_t)(log->name - log->path) - 1) == 0 &&
			      dir[log->name - log->path - 1] == '\0')
			break;
	}
	return log;
}
