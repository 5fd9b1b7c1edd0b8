/* log/member.c: how a process joins a log, and leaves it.
 *
 * Beside the log lies a lock file. A byte of it is the gate, which whoever joins or leaves holds meanwhile; one byte
 * for each member is locked for as long as that process lives (base/hold.h). All are locks of open file descriptions,
 * which no other code of the process can drop by chance. A process has one membership for each file, in a list. */
#define _GNU_SOURCE
#include "log/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/hold.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/random.h"
#include "base/thread.h"
#include "log/files.h"
#include "log/turn.h"

#define GATE_BYTE     0
#define MEMBER_BYTE   16 /* + slot */
#define GATE_WAIT_MS  5000
#define LEAVE_WAIT_MS 100
#define SLOT_WAIT_MS  1000
#define NAP_LEAST_NS  1000000
#define NAP_MOST_NS   50000000
#define DEAD_TRIES    16
#define PATH_LONGEST  3960 /* of a directory; the names in it are at most 96 bytes long */
#define ALLOCATE_STEP (UINT64_C(1) << 20)
#define CLEAR_AT_ONCE 16 /* pages */
#define CLEAR_MOST    (UINT64_C(64) << 20)

/* --- the list of this process -------------------------------------------------------------------------------- */

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

static void
close_slot(_Atomic int *slot)
{
	int fd = atomic_exchange_explicit(slot, -1, memory_order_relaxed);

	if (fd >= 0)
		bus__fd_close(fd);
}

/* The parent's memberships are not the child's, and what the child keeps open would keep locks of the parent. */
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

static void
say_change(void)
{
	/* Release: not needed, the list's lock orders what changed. */
	atomic_fetch_add_explicit(&changes, 1, memory_order_relaxed);
	bus__unpark(&changes);
}

/* --- locks ------------------------------------------------------------------------------------------------------- */

static bool
set_lock(int fd, short type, off_t begin, off_t count)
{
	struct flock range = {
	    .l_type = type, .l_whence = SEEK_SET, .l_start = begin, .l_len = count};

	return fcntl(fd, F_OFD_SETLK, &range) == 0;
}

/* Whether other descriptions have locked some of these bytes. */
enum asked { IS_FREE, IS_LOCKED, IS_UNKNOWN };

static enum asked
ask_lock(int fd, off_t begin, off_t count)
{
	struct flock range = {
	    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = begin, .l_len = count};

	if (fcntl(fd, F_OFD_GETLK, &range) < 0)
		return IS_UNKNOWN;
	return range.l_type == F_UNLCK ? IS_FREE : IS_LOCKED;
}

static bool
somebody_lives(int fd)
{
	return ask_lock(fd, MEMBER_BYTE, LOG_MEMBERS) != IS_FREE;
}

/* How often the gate was passed. Read as a file: a word in a mapped one that somebody truncates would end the process. */
static uint64_t
passes(int fd)
{
	uint64_t count = 0;

	if (pread(fd, &count, sizeof count, offsetof(struct log_lock_head, passes)) !=
	    (ssize_t)sizeof count)
		return 0;
	return count;
}

/* At the gate. A count that is not written makes others give up earlier, nothing else. */
static void
count_pass(int fd)
{
	uint64_t count = passes(fd) + 1;
	ssize_t put = pwrite(fd, &count, sizeof count, offsetof(struct log_lock_head, passes));

	(void)put;
}

/* Gives up when nobody has passed for wait_ms. Whoever finds it closed looks again after a while that grows and differs
 * between them: a thousand that look every millisecond leave no CPU to the one that is inside. */
static int
enter_gate(int fd, int wait_ms)
{
	int64_t deadline_ns = bus__deadline_ns(wait_ms), nap_ns = NAP_LEAST_NS;
	uint64_t seen = passes(fd);

	while (!set_lock(fd, F_WRLCK, GATE_BYTE, 1)) {
		int error = errno;
		int64_t now_ns = bus__now_ns();
		const struct timespec nap = {.tv_nsec = (long)(nap_ns / 2 + now_ns / 64 % nap_ns)};

		if (error == EINVAL)
			return LOG_NO_OFD;
		if (error != EAGAIN && error != EACCES && error != EINTR)
			return error == ENOLCK ? LOG_NO_LOCK : BUS_E_SYS;
		if (now_ns > deadline_ns) {
			uint64_t count = passes(fd);

			if (count == seen)
				return BUS_E_TIMEDOUT;
			seen = count;
			deadline_ns = bus__deadline_ns(wait_ms);
		}
		nanosleep(&nap, NULL);
		nap_ns = nap_ns < NAP_MOST_NS ? nap_ns * 3 / 2 : nap_ns;
	}
	count_pass(fd);
	return 0;
}

/* 1, or 0 if another description has it. */
static int
lock_byte(int fd, int64_t byte)
{
	if (set_lock(fd, F_WRLCK, (off_t)byte, 1))
		return 1;
	if (errno == EAGAIN || errno == EACCES)
		return 0;
	return errno == ENOLCK ? BUS_E_LIMIT : BUS_E_SYS;
}

int
bus__log_lock_byte(struct log *log, int64_t byte)
{
	return lock_byte(log->lock_fd, byte);
}

void
bus__log_unlock_byte(struct log *log, int64_t byte)
{
	set_lock(log->lock_fd, F_UNLCK, (off_t)byte, 1);
}

bool
bus__log_is_alive(const struct log *log, uint32_t member)
{
	if (member == log->member)
		return true;
	if (ask_lock(log->home->lock_fd, MEMBER_BYTE + (off_t)member, 1) != IS_FREE)
		return true;
	/* Our own byte is locked by another description. If it seems free, this is the lock file no more: the program has
	 * closed our descriptor. Then nobody counts as dead. */
	return ask_lock(log->home->lock_fd, MEMBER_BYTE + (off_t)log->member, 1) != IS_LOCKED;
}

/* --- the directory and its files ---------------------------------------------------------------------------------- */

static bool
is_name(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");

	return name[len] == '\0' && len > 0 && len <= LOG_NAME_MOST;
}

/* dir/name and a suffix, to be freed; NULL: no memory. In memory of its own, since stacks are small. */
static char *
path_of(const char *dir, const char *name, enum log_file kind)
{
	const char *suffix = bus__log_suffixes[kind];
	size_t size = strlen(dir) + strlen(name) + strlen(suffix) + 2;
	char *path = bus__malloc(size);

	if (path != NULL)
		snprintf(path, size, "%s/%s%s", dir, name, suffix);
	return path;
}

/* The directory, made if it is not there; ours, and nobody else may write in it. *ret_whole, its path without links,
 * ends with free(). */
static int
make_place(const char *dir, char **ret_whole)
{
	char own[sizeof "/dev/shm/libbus-" + 3 * sizeof(unsigned)];
	const char *place = dir != NULL ? dir : own;
	struct stat st;

	snprintf(own, sizeof own, "/dev/shm/libbus-%u", (unsigned)geteuid());
	if (strlen(place) > PATH_LONGEST)
		return BUS_E_INVAL;
	if (mkdir(place, 0700) < 0 && errno != EEXIST)
		return bus__log_error_of_errno();
	/* In /dev/shm anybody can have put a link there that leads elsewhere. */
	if ((dir != NULL ? stat(place, &st) : lstat(place, &st)) < 0)
		return bus__log_error_of_errno();
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return BUS_E_DENIED;
	*ret_whole = realpath(place, NULL);
	return *ret_whole != NULL ? 0 : bus__log_error_of_errno();
}

/* --- a new log ------------------------------------------------------------------------------------------------------ */

static uint64_t
whole_pages(uint64_t bytes)
{
	return (bytes + LOG_PAGE - 1) & ~(uint64_t)(LOG_PAGE - 1);
}

/* Divides the file. A segment takes the largest message of a private bus where there are 16 MiB. */
static void
divide(struct log_head *head, uint64_t bytes)
{
	head->file_bytes = bytes;
	head->kept_begin = whole_pages(sizeof(struct log_shared));
	head->kept_bytes = whole_pages(bytes / 12);
	head->segments_begin = head->kept_begin + head->kept_bytes;
	head->segment_bytes = whole_pages(bytes / 16) + LOG_PAGE;
	head->segment_count = (uint32_t)((bytes - head->segments_begin) / head->segment_bytes);
}

static void
initialize(struct log_shared *shared)
{
	atomic_store_explicit(
	    &shared->tail, tail_word(shared->head.segment_bytes, 0), memory_order_relaxed);
	atomic_store_explicit(
	    &shared->segments[0].life, life_word(1, LIFE_OPEN), memory_order_relaxed);
	atomic_store_explicit(&shared->directory[1], 1u << 8, memory_order_relaxed);
	atomic_store_explicit(&shared->firsts[1], first_word(1, 1), memory_order_relaxed);
}

/* Takes memory for all of a file; a signal may interrupt some kernels in that, but a step is over before the next one.
 * Returns an errno. */
static int
allocate(int fd, uint64_t bytes)
{
	int error = 0;

	for (uint64_t at = 0; at < bytes && error == 0; at += ALLOCATE_STEP)
		do
			error = posix_fallocate(fd, (off_t)at,
			    (off_t)(bytes - at < ALLOCATE_STEP ? bytes - at : ALLOCATE_STEP));
		while (error == EINTR);
	return error;
}

/* Pages that were only taken the kernel clears and shows one by one, when each is touched first; what was written is
 * ready. Not all of a large file: others wait at the gate. Returns an errno. */
static int
clear(int fd, uint64_t bytes)
{
	static const uint8_t zeros[LOG_PAGE];
	struct iovec pages[CLEAR_AT_ONCE];
	uint64_t at = 0, end = bytes < CLEAR_MOST ? bytes : CLEAR_MOST;

	while (at < end) {
		uint64_t left = end - at;
		int count = 0;
		ssize_t written;

		for (; count < CLEAR_AT_ONCE && left > 0; left -= pages[count++].iov_len)
			pages[count] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros,
			    .iov_len = left < sizeof zeros ? (size_t)left : sizeof zeros};
		written = pwritev(fd, pages, count, (off_t)at);

		if (written > 0)
			at += (uint64_t)written;
		else if (written == 0 || errno != EINTR)
			return written == 0 ? ENOSPC : errno;
	}
	return 0;
}

/* How large a log is that nobody has asked a size for. */
static uint64_t
default_bytes(int fd)
{
	struct statvfs fs;
	uint64_t quarter;

	if (fstatvfs(fd, &fs) < 0)
		return LOG_BYTES_DEFAULT;
	quarter = (uint64_t)fs.f_bavail * fs.f_frsize / 4 & ~(uint64_t)(LOG_PAGE - 1);
	if (quarter >= LOG_BYTES_DEFAULT)
		return LOG_BYTES_DEFAULT;
	return quarter > LOG_BYTES_LEAST ? quarter : LOG_BYTES_LEAST;
}

/* Opens or makes a file of a log. A child that is forked meanwhile closes it. */
static int
list_file(struct log *log, int (*get)(const char *path, enum log_file kind, int *ret_fd),
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

static void
close_listed(_Atomic int *slot)
{
	bus__log_lock_list();
	close_slot(slot);
	bus__log_unlock_list();
}

/* A child that was just forked may have the descriptor a moment longer, and with it the gate. */
static void
leave_gate(int fd)
{
	set_lock(fd, F_UNLCK, GATE_BYTE, 1);
}

static void
close_lock(struct log *log)
{
	leave_gate(log->lock_fd);
	close_listed(&log->lock_fd);
}

/* The sentence names the path. */
static int
foreign(int err, enum log_file kind)
{
	static const int errors[LOG_FILES] = {
	    LOG_FOREIGN_LOG, LOG_FOREIGN_LOCK, LOG_FOREIGN_DRAFT, LOG_FOREIGN};

	return err == LOG_FOREIGN || err == LOG_EXISTS ? errors[kind] : err;
}

/* Removes one of a generation that has died. */
static int
remove_old(const char *path, enum log_file kind)
{
	int err = bus__log_file_remove(path, kind);

	return err == LOG_ABSENT ? 0 : foreign(err, kind);
}

/* Fills the file. */
static int
fill_log(int fd, uint64_t bytes)
{
	struct log_head head = {.version = LOG_VERSION, .created_ns = bus__wall_ns()};
	struct log_shared *shared;
	int err;

	divide(&head, bytes != 0 ? whole_pages(bytes) : default_bytes(fd));
	memcpy(head.magic, bus__log_magic, sizeof head.magic);
	err = bus__random(head.key, sizeof head.key);
	if (err == 0)
		err = bus__random(&head.epoch, sizeof head.epoch);
	if (err < 0)
		return err;
	head.epoch |= head.epoch == 0;
	if (head.file_bytes > SIZE_MAX / 2)
		return BUS_E_NOMEM; /* more than there are addresses for */
	if (!bus__log_may_be_so_large(head.file_bytes))
		return BUS_E_NOSPACE;
	/* All of it now: what is missing later is a SIGBUS in whoever touches it. */
	errno = allocate(fd, head.file_bytes);
	if (errno == 0)
		errno = clear(fd, head.file_bytes);
	if (errno != 0)
		return bus__log_error_of_errno();
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		return bus__log_error_of_errno();
	shared->head = head;
	initialize(shared);
	munmap(shared, sizeof *shared);
	return 0;
}

/* Makes the file under a name of its own, and gives it its name when all is there. At the gate. */
static int
make_log(struct log *log, const char *draft, uint64_t bytes)
{
	int saved, err = remove_old(draft, LOG_FILE_DRAFT);

	if (err == 0)
		err = remove_old(log->path, LOG_FILE_LOG);
	if (err == 0)
		err = foreign(
		    list_file(log, bus__log_file_make, draft, LOG_FILE_DRAFT), LOG_FILE_DRAFT);
	if (err < 0)
		return err;
	err = fill_log(log->file_fd, bytes);
	if (err == 0)
		err = foreign(bus__log_file_publish(draft, log->path), LOG_FILE_LOG);
	saved = errno;
	close_listed(&log->file_fd);
	if (err < 0)
		bus__log_file_remove(draft, LOG_FILE_DRAFT);
	errno = saved;
	return err;
}

/* --- joining ---------------------------------------------------------------------------------------------------------- */

static bool
is_sound(const struct log_head *head)
{
	struct log_head expected = *head;

	divide(&expected, head->file_bytes);
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
	int saved, err = list_file(log, bus__log_file_open, log->path, LOG_FILE_LOG);

	if (err < 0)
		return err == LOG_ABSENT ? LOG_REMOVED : foreign(err, LOG_FILE_LOG);
	err = read_head(log, &head);
	if (err == 0) {
		map = mmap(NULL, (size_t)head.file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		    log->file_fd, 0);
		if (map == MAP_FAILED)
			err = bus__log_error_of_errno();
	}
	saved = errno;
	close_listed(&log->file_fd);
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

/* Locks the byte of a free slot: that of a member which died, if it is among the first that have a pid; else one without;
 * else any. Each try is a system call that looks at all locks, and a thousand members may join at once. A deputy gets one
 * without a pid: it says no will of a dead one. */
static int
find_slot(struct log *log, int fd)
{
	enum { DEAD, NONE, ANY, PASSES };
	bool is_deputy = log->home != log;
	int err;

	for (int pass = is_deputy ? NONE : DEAD; pass < (is_deputy ? ANY : PASSES); pass++) {
		uint32_t tries = pass == DEAD ? DEAD_TRIES : LOG_MEMBERS;

		for (uint32_t i = 0; i < LOG_MEMBERS && tries > 0; i++) {
			if (pass != ANY && (bus__log_pid(log, i) == 0) != (pass == NONE))
				continue;
			err = lock_byte(fd, MEMBER_BYTE + (int64_t)i);
			log->member = i;
			if (err != 0)
				return err == BUS_E_LIMIT ? LOG_NO_LOCK : err;
			tries--;
		}
	}
	return LOG_NO_SLOT;
}

/* The description that has the lock of a member, and nothing else. List lock. */
static int
hold_slot(struct log *log)
{
	int fd, err = bus__log_file_open(log->lock_path, LOG_FILE_LOCK, &fd);

	if (err < 0)
		return err == LOG_ABSENT ? LOG_REMOVED : foreign(err, LOG_FILE_LOCK);
	err = bus__log_is_file(fd, &log->lock_file) ? find_slot(log, fd) : LOG_REMOVED;
	if (err == 1) {
		log->hold = bus__hold(fd);
		if (log->hold != NULL)
			return 0;
		err = bus__log_error_of_errno();
	}
	bus__fd_close(fd);
	return err;
}

static void
free_deputy(struct log *deputy)
{
	if (deputy->hold != NULL)
		bus__hold_end(deputy->hold);
	pthread_mutex_destroy(&deputy->pins_lock);
	bus__pages_free(deputy, sizeof *deputy);
}

static int
claim_member(struct log *log)
{
	int64_t deadline_ns = bus__deadline_ns(SLOT_WAIT_MS), nap_ns = NAP_LEAST_NS;
	struct log_member *member;
	int err;

	for (;;) {
		struct timespec nap;

		bus__log_lock_list();
		err = hold_slot(log);
		if (err == 0)
			bus__log_listens_clear(log, log->member);
		bus__log_unlock_list();
		if (err != LOG_NO_SLOT || bus__now_ns() >= deadline_ns)
			break;
		/* A slot that another member looks at is locked for that moment, though nobody has it. */
		nap = (struct timespec){.tv_nsec = (long)nap_ns};
		nanosleep(&nap, NULL);
		nap_ns = nap_ns < NAP_MOST_NS ? nap_ns * 3 / 2 : nap_ns;
	}
	if (err < 0)
		return err;
	member = &log->shared->members[log->member];
	log->took_over = atomic_load_explicit(&member->pid, memory_order_relaxed) != 0;
	bus__log_recover(log, log->member);
	atomic_store_explicit(&member->appended, 0, memory_order_release);
	atomic_store_explicit(&member->listens, 0, memory_order_relaxed);
	atomic_store_explicit(&member->pid, (uint32_t)getpid(), memory_order_relaxed);
	return 0;
}

/* Everything that it does a signal handler may do. */
bool
bus__log_deputy(struct log *home, unsigned lane)
{
	struct log *deputy = bus__pages(sizeof *deputy);
	int err, cancel;

	if (deputy == NULL)
		return false;
	deputy->shared = home->shared;
	deputy->segments = home->segments;
	deputy->places = home->places;
	deputy->buckets = home->buckets;
	deputy->memory = home->memory;
	deputy->segment_bytes = home->segment_bytes;
	deputy->map_bytes = home->map_bytes;
	deputy->epoch = home->epoch;
	memcpy(deputy->key, home->key, sizeof deputy->key);
	deputy->segment_count = home->segment_count;
	deputy->home = home;
	deputy->lane = (uintptr_t)lane << 1;
	deputy->begin = UINT64_MAX;
	deputy->lock_path = home->lock_path;
	deputy->lock_file = home->lock_file;
	pthread_mutex_init(&deputy->pins_lock, NULL);
	cancel = bus__cancel_off();
	err = pthread_mutex_trylock(&lock) != 0 ? BUS_E_STATE : 0;
	if (err == 0) {
		err = hold_slot(deputy);
		bus__log_unlock_list();
	}
	bus__cancel_back(cancel);
	if (err < 0) {
		free_deputy(deputy);
		return false;
	}
	bus__log_recover(deputy, deputy->member);
	atomic_store_explicit(
	    &home->shared->members[deputy->member].appended, 0, memory_order_release);
	atomic_store_explicit(
	    &home->shared->members[deputy->member].listens, 0, memory_order_relaxed);
	home->writers[lane] = deputy;
	return true;
}

int
bus__log_hold_byte(struct log *log, int64_t byte, void **ret_hold)
{
	int fd, err;

	*ret_hold = NULL;
	if (bus__log_file_open(log->lock_path, LOG_FILE_LOCK, &fd) < 0)
		return bus__log_lock_byte(log, byte);
	if (!bus__log_is_file(fd, &log->lock_file)) {
		bus__fd_close(fd);
		return bus__log_lock_byte(log, byte);
	}
	err = lock_byte(fd, byte);
	if (err == 1) {
		*ret_hold = bus__hold(fd);
		if (*ret_hold != NULL)
			return 1;
		err = bus__log_error_of_errno();
	}
	bus__fd_close(fd);
	return err;
}

/* A library before version 2 left its lock file without a byte, and called its log NAME.log. Removes both if nobody is on
 * that bus. BUS_E_VERSION: somebody is. */
static int
end_older(const char *lock_path, const char *path)
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
		if (set_lock(fd, F_WRLCK, GATE_BYTE, 1) && !somebody_lives(fd)) {
			bus__log_file_remove_only(path, &identity);
			identity = bus__log_identity(fd);
			bus__log_file_remove_only(lock_path, &identity);
			err = 0;
		}
	}
	bus__fd_close(fd);
	return err;
}

static int
look_for_older(const struct log *log)
{
	size_t stem = strlen(log->path) - strlen(bus__log_suffixes[LOG_FILE_LOG]);
	size_t size = stem + sizeof ".log";
	char *path = bus__malloc(size);
	int err;

	if (path == NULL)
		return BUS_E_NOMEM;
	snprintf(path, size, "%.*s.log", (int)stem, log->path);
	bus__log_lock_list();
	err = end_older(log->lock_path, path);
	bus__log_unlock_list();
	bus__free(path);
	return err;
}

/* Opens the lock file, or makes it. */
static int
open_lock(struct log *log)
{
	for (;;) {
		int err = list_file(log, bus__log_file_open, log->lock_path, LOG_FILE_LOCK);

		if (err == LOG_FOREIGN)
			err = look_for_older(log);
		else if (err == LOG_ABSENT)
			err = list_file(log, bus__log_file_make, log->lock_path, LOG_FILE_LOCK);
		if (err != LOG_EXISTS && (err < 0 || log->lock_fd >= 0))
			return foreign(err, LOG_FILE_LOCK);
	}
}

/* Passes the gate of the lock file that has the name then. */
static int
pass_gate(struct log *log)
{
	for (;;) {
		int err = open_lock(log);

		if (err < 0)
			return err;
		err = enter_gate(log->lock_fd, GATE_WAIT_MS);
		if (err == 0 &&
		    bus__log_path_leads(log->lock_path, &log->lock_file, NULL) == LOG_PATH_HERE)
			return 0;
		close_lock(log); /* whoever left last has removed it meanwhile */
		if (err < 0)
			return err;
	}
}

/* A log of that name that this process is in, or is about to join or leave. Unless its files have been removed: then the
 * name is another log's. */
static struct log *
find(const char *lock_path)
{
	struct log *log = logs;

	while (log != NULL &&
	       (strcmp(log->lock_path, lock_path) != 0 || log->state == LOG_LEFT ||
		   (log->state == LOG_JOINED && bus__log_trouble(log) == LOG_IS_REMOVED)))
		log = log->next;
	return log;
}

static void
bury_at(
    const char *place, const char *name, const char *lock_path, const char *path, const char *draft)
{
	struct log_identity identity;
	int fd;

	if (find(lock_path) != NULL || bus__log_file_open(lock_path, LOG_FILE_LOCK, &fd) < 0)
		return;
	identity = bus__log_identity(fd);
	if (set_lock(fd, F_WRLCK, GATE_BYTE, 1) &&
	    bus__log_path_leads(lock_path, &identity, NULL) == LOG_PATH_HERE &&
	    !somebody_lives(fd)) {
		bus__log_file_remove(draft, LOG_FILE_DRAFT); /* of one that died while it made it */
		bus__log_file_remove(path, LOG_FILE_LOG);
		bus__log_listens_sweep(place, name);
		unlink(lock_path);
	}
	bus__fd_close(fd);
}

/* Removes a log in whose lock file nobody has a lock. Without memory it stays for another time. */
static void
bury(const char *place, const char *name)
{
	char *lock_path = path_of(place, name, LOG_FILE_LOCK),
	     *path = path_of(place, name, LOG_FILE_LOG),
	     *draft = path_of(place, name, LOG_FILE_DRAFT);

	if (lock_path != NULL && path != NULL && draft != NULL)
		bury_at(place, name, lock_path, path, draft);
	bus__free(draft);
	bus__free(path);
	bus__free(lock_path);
}

/* A bus whose last member was killed leaves its memory behind. Whoever is about to take some gives it back. */
static void
bury_all(const char *place)
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
		if (is_name(name))
			bury(place, name);
	}
	closedir(dir);
}

/* Of a log that nobody is on: what members said that they listen to. At the gate. */
static void
sweep_listens(const struct log *log)
{
	size_t size = (size_t)(log->name - log->path) + log->name_len + 1;
	char *dir = bus__malloc(size);

	if (dir == NULL)
		return; /* for another time */
	snprintf(dir, size, "%.*s", (int)size - 1, log->path);
	dir[log->name - log->path - 1] = '\0';
	bus__log_listens_sweep(dir, dir + (log->name - log->path));
	bus__free(dir);
}

/* Undoes what a join had begun. At the gate. */
static void
undo_join(struct log *log, bool made)
{
	struct log_identity *lock_file = &log->lock_file;

	if (log->shared != NULL)
		munmap(log->shared, log->map_bytes);
	if (made)
		bus__log_file_remove(log->path, LOG_FILE_LOG); /* nobody else is in it */
	/* Beside the log of members that have died the lock file stays: by it that log is found. */
	if (access(log->path, F_OK) < 0 && errno == ENOENT && !somebody_lives(log->lock_fd))
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
	if (!somebody_lives(log->lock_fd)) {
		sweep_listens(log);
		/* In the place of one whose members have all died. */
		err = make_log(log, draft, bytes);
		made = err == 0;
	}
	if (err == 0)
		err = map_log(log);
	if (err == 0)
		err = claim_member(log);
	if (err < 0) {
		int saved =
		    errno; /* the caller's sentence is about what failed, not about the clearing up */

		undo_join(log, made);
		errno = saved;
		return err;
	}
	leave_gate(log->lock_fd);
	return 0;
}

static void
free_log(struct log *log)
{
	pthread_mutex_destroy(&log->members_lock);
	pthread_mutex_destroy(&log->pins_lock);
	bus__log_memory_free(log->memory);
	bus__log_listens_fini(log);
	bus__free(log->lock_path);
	bus__free(log->path);
	bus__free(log);
}

static struct log *
new_log(const char *whole, const char *name, bool by_default)
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
	log->path = path_of(whole, name, LOG_FILE_LOG);
	log->lock_path = path_of(whole, name, LOG_FILE_LOCK);
	log->memory = bus__log_memory_new();
	if (log->path == NULL || log->lock_path == NULL || log->memory == NULL) {
		free_log(log);
		return NULL;
	}
	log->name = log->path + strlen(whole) + 1;
	log->name_len = strlen(name);
	log->by_default = by_default;
	atomic_init(&log->lock_fd, -1);
	atomic_init(&log->file_fd, -1);
	/* No tail is behind it: the first transaction looks where the segment is. */
	log->begin = UINT64_MAX;
	return log;
}

/* List lock. */
static void
unlist(struct log *log)
{
	struct log **at = &logs;

	while (*at != log)
		at = &(*at)->next;
	*at = log->next;
	say_change();
}

/* A membership of our own of the log with that name in the directory. List lock, but not while it waits. */
static int
join_new(const char *whole, const char *name, bool by_default, uint64_t bytes, struct log **ret_log)
{
	struct log *log = new_log(whole, name, by_default);
	char *draft = path_of(whole, name, LOG_FILE_DRAFT);
	int saved, err;

	if (log == NULL || draft == NULL) {
		if (log != NULL)
			free_log(log);
		bus__free(draft);
		return BUS_E_NOMEM;
	}
	log->state = LOG_JOINING;
	log->next = logs;
	logs = log;
	bus__log_unlock_list();
	err = join(log, draft, bytes);
	saved = errno;
	bus__free(draft);
	bus__log_lock_list();
	if (err < 0) {
		unlist(log);
		free_log(log);
		errno = saved;
		return err;
	}
	log->state = LOG_JOINED;
	say_change();
	*ret_log = log;
	return 0;
}

/* Waits until another thread has joined or left a log. List lock, but not meanwhile. */
static void
await_change(int64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&changes, memory_order_relaxed);

	bus__log_unlock_list();
	bus__park(&changes, seen, deadline_ns);
	bus__log_lock_list();
}

static int
open_in(const char *whole, const char *name, bool by_default, uint64_t bytes, struct log **ret_log)
{
	int64_t deadline_ns = bus__deadline_ns(GATE_WAIT_MS);
	struct log *log;
	char *lock_path;

	if (strlen(whole) > PATH_LONGEST)
		return BUS_E_INVAL;
	lock_path = path_of(whole, name, LOG_FILE_LOCK);
	if (lock_path == NULL)
		return BUS_E_NOMEM;
	while ((log = find(lock_path)) != NULL && log->state != LOG_JOINED &&
	       bus__now_ns() < deadline_ns)
		await_change(deadline_ns);
	bus__free(lock_path);
	if (log != NULL && log->state != LOG_JOINED)
		return BUS_E_TIMEDOUT;
	if (log != NULL) {
		log->refs++;
		*ret_log = log;
		return 0;
	}
	bury_all(whole);
	return join_new(whole, name, by_default, bytes, ret_log);
}

/* A log of that name that this process is in, in the directory that is the user's own, or (dir) in that one, without links:
 * found without its files, which a process may not use any more after setuid(). */
static struct log *
find_joined(const char *dir, const char *name)
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

static int
open_here(const char *dir, const char *name, uint64_t bytes, struct log **ret_log)
{
	/* Leads there also for a process that may not read the directory any more. */
	char *whole = dir != NULL ? realpath(dir, NULL) : NULL;
	struct log *log = dir == NULL || whole != NULL ? find_joined(whole, name) : NULL;
	int err;

	free(whole);

	if (log != NULL && bus__log_trouble(log) != LOG_IS_REMOVED) {
		log->refs++;
		*ret_log = log;
		return 0;
	}
	err = make_place(dir, &whole);
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

	if (!is_name(name) || (bytes != 0 && (bytes < LOG_BYTES_LEAST || bytes > LOG_BYTES_MOST)))
		return BUS_E_INVAL;
	err = bus__fork_watch();
	if (err < 0)
		return err;
	pthread_once(&once, watch_fork);
	cancel = bus__cancel_off();
	bus__log_lock_list();
	err = open_here(dir, name, bytes, ret_log);
	bus__log_unlock_list();
	bus__cancel_back(cancel);
	return err;
}

void
bus__log_note_pid(struct log *log)
{
	atomic_store_explicit(
	    &log->shared->members[log->member].pid, (uint32_t)getpid(), memory_order_relaxed);
}

void
bus__log_forget_pid(struct log *log, uint32_t member)
{
	/* We hold a dead one's slot: its pins cost each roll a look whether it lives. */
	if (member != log->member) {
		struct log_pins *pins = &log->shared->pins[pins_of(member)];

		atomic_store_explicit(&pins->places, 0, memory_order_release);
		atomic_store_explicit(&pins->reads, 0, memory_order_relaxed);
		atomic_store_explicit(
		    &log->shared->members[member].listens, 0, memory_order_relaxed);
		bus__log_lock_list();
		bus__log_listens_clear(log, member);
		bus__log_unlock_list();
	}
	atomic_store_explicit(&log->shared->members[member].pid, 0, memory_order_relaxed);
}

bool
bus__log_hold_slot(struct log *log, uint32_t member)
{
	return member != log->member && bus__log_lock_byte(log, MEMBER_BYTE + member) == 1;
}

void
bus__log_let_slot_go(struct log *log, uint32_t member)
{
	bus__log_unlock_byte(log, MEMBER_BYTE + member);
}

void
bus__log_mend(struct log *log)
{
	int fd;

	if (bus__log_is_file(log->lock_fd, &log->lock_file))
		return;
	bus__log_lock_list();
	/* The old number is closed, or is another file's: it is not ours to close. */
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

bool
bus__log_begin_look(struct log *log, int64_t pause_ns)
{
	const off_t at = offsetof(struct log_lock_head, looked_ns);
	int64_t now_ns = bus__now_ns(), looked_ns;

	/* Of two that begin at once both look: that costs time, nothing else. */
	if (pread(log->lock_fd, &looked_ns, sizeof looked_ns, at) == (ssize_t)sizeof looked_ns &&
	    looked_ns <= now_ns && now_ns - looked_ns < pause_ns)
		return false;
	return pwrite(log->lock_fd, &now_ns, sizeof now_ns, at) == (ssize_t)sizeof now_ns;
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
	/* Without its name where we look: a new root, or a directory that was moved. That tells nothing. */
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

/* --- leaving ---------------------------------------------------------------------------------------------------------- */

static void
leave(struct log *log)
{
	for (unsigned i = 1; i < LOG_LANES; i++)
		if (log->writers[i] != NULL)
			free_deputy(log->writers[i]);
	munmap(log->shared, log->map_bytes);
	if (log->listens.file.ino != 0)
		bus__log_file_remove_only(log->listens.path, &log->listens.file);
	bus__hold_end(log->hold);
	if (!bus__log_is_file(log->lock_fd, &log->lock_file)) {
		/* The program has closed our descriptor: what has its number is not ours. */
		atomic_store_explicit(&log->lock_fd, -1, memory_order_relaxed);
		return;
	}
	/* Without its lock: so of many that leave at once the last one at the gate finds nobody. If the gate is not free,
	 * another leaves, or was stopped in it; whoever opens the name next clears up. */
	if (enter_gate(log->lock_fd, LEAVE_WAIT_MS) == 0 &&
	    bus__log_path_leads(log->lock_path, &log->lock_file, NULL) == LOG_PATH_HERE &&
	    !somebody_lives(log->lock_fd)) {
		sweep_listens(log);
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
	unlist(log);
	free_log(log);
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
		/* One who had the slot and was not buried stays to be found. */
		if (!log->took_over)
			atomic_store_explicit(
			    &log->shared->members[log->member].pid, 0, memory_order_relaxed);
		bus__log_let_out(log);
		bus__log_lock_list();
		ends = bus__log_end_turns(log);
		if (!ends) {
			/* A thread that stalls uses this membership. Who opens the name gets another. */
			log->state = LOG_LEFT;
			say_change();
		}
	}
	bus__log_unlock_list();
	if (ends)
		bus__log_end(log);
	bus__cancel_back(cancel);
}
