/* log/member.c: how a process joins a log, and leaves it.
 *
 * Beside the log lies a lock file. A byte of it is the gate, which whoever joins or leaves holds meanwhile; one byte
 * for each member is locked for as long as that process lives. The kernel drops a record lock with the last thread of
 * its process, does not hand it to a forked child, and asks for no pid. It also drops all of them when the process
 * closes any descriptor of that file; hence one membership for each file and process, in a list. */
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/thread.h"

#define GATE_BYTE     0
#define MEMBER_BYTE   16 /* + slot */
#define GATE_WAIT_MS  5000
#define NAP_NS        1000000
#define PATH_LONGEST  4000 /* of a directory; the names in it are at most 72 bytes long */
#define ALLOCATE_STEP (UINT64_C(1) << 20)
#define CLEAR_AT_ONCE 16 /* pages */
#define CLEAR_MOST    (UINT64_C(64) << 20)

const uint8_t bus__log_magic[8] = {'l', 'i', 'b', 'b', 'u', 's', 'l', 'g'};

/* --- the list of this process -------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct log *logs;

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

/* The parent's memberships are not the child's. Its descriptors stay open there: closing one would drop the locks
 * that the child has taken itself by then. */
static void
forget_list(void)
{
	logs = NULL;
	bus__log_unlock_list();
}

static void
watch_fork(void)
{
	pthread_atfork(bus__log_lock_list, bus__log_unlock_list, forget_list);
}

/* --- record locks ------------------------------------------------------------------------------------------------ */

static bool
set_lock(int fd, short type, off_t begin, off_t count)
{
	struct flock range = {
	    .l_type = type, .l_whence = SEEK_SET, .l_start = begin, .l_len = count};

	return fcntl(fd, F_SETLK, &range) == 0;
}

/* Whether another process has locked some of these bytes. */
static bool
is_locked(int fd, off_t begin, off_t count)
{
	struct flock range = {
	    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = begin, .l_len = count};

	return fcntl(fd, F_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

static int
enter_gate(int fd)
{
	int64_t deadline_ns = bus__deadline_ns(GATE_WAIT_MS);

	while (!set_lock(fd, F_WRLCK, GATE_BYTE, 1)) {
		const struct timespec nap = {.tv_nsec = NAP_NS};

		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return errno == ENOLCK ? LOG_NO_LOCK : BUS_E_SYS;
		if (bus__now_ns() > deadline_ns)
			return BUS_E_TIMEDOUT;
		nanosleep(&nap, NULL);
	}
	return 0;
}

int
bus__log_lock_byte(struct log *log, int64_t byte)
{
	if (set_lock(log->lock_fd, F_WRLCK, (off_t)byte, 1))
		return 1;
	if (errno == EAGAIN || errno == EACCES)
		return 0;
	return errno == ENOLCK ? BUS_E_LIMIT : BUS_E_SYS;
}

void
bus__log_unlock_byte(struct log *log, int64_t byte)
{
	set_lock(log->lock_fd, F_UNLCK, (off_t)byte, 1);
}

bool
bus__log_is_alive(const struct log *log, uint32_t member)
{
	return member == log->member || is_locked(log->lock_fd, MEMBER_BYTE + (off_t)member, 1);
}

/* --- the directory and its files ---------------------------------------------------------------------------------- */

static int
error_of_errno(void)
{
	switch (errno) {
	case EACCES:
	case EPERM:
	case ELOOP:
		return BUS_E_DENIED;
	case EMFILE:
	case ENFILE:
		return LOG_NO_DESCRIPTOR;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return BUS_E_NOSPACE;
	case EAGAIN: /* of mmap() after mlockall() */
		return BUS_E_LOCKED;
	case ENOMEM:
		return BUS_E_NOMEM;
	default:
		return BUS_E_SYS;
	}
}

static bool
is_name(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");

	return name[len] == '\0' && len > 0 && len <= LOG_NAME_MOST;
}

/* dir/name and a suffix, to be freed; NULL: no memory. In memory of its own, since stacks are small. */
static char *
path_of(const char *dir, const char *name, const char *suffix)
{
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
		return error_of_errno();
	/* In /dev/shm anybody can have put a link there that leads elsewhere. */
	if ((dir != NULL ? stat(place, &st) : lstat(place, &st)) < 0)
		return error_of_errno();
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return BUS_E_DENIED;
	*ret_whole = realpath(place, NULL);
	return *ret_whole != NULL ? 0 : error_of_errno();
}

/* Opens a file that is ours alone. */
static int
open_own(const char *path, int flags, int *ret_fd)
{
	struct stat st;
	int fd = bus__fd_above_std(open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600));

	if (fd < 0)
		return error_of_errno();
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
		bus__fd_close(fd);
		return BUS_E_DENIED;
	}
	*ret_fd = fd;
	return 0;
}

static bool
is_same_file(int fd, const char *path)
{
	struct stat here, there;

	return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
	       here.st_ino == there.st_ino;
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
	head->topics_begin = whole_pages(sizeof(struct log_shared));
	head->topics_bytes = whole_pages(bytes / 16);
	head->segments_begin = head->topics_begin + head->topics_bytes;
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
	atomic_store_explicit(&shared->topics_end, 8, memory_order_relaxed);
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

/* Beyond its limit (ulimit -f) the kernel does not only refuse a file to grow: it ends the process by SIGXFSZ. */
static bool
may_be_so_large(uint64_t bytes)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	       bytes <= limit.rlim_cur;
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

/* Makes the file under a name of its own, and gives it its name when all is there. At the gate. */
static int
make_log(const char *path, const char *draft, uint64_t bytes)
{
	struct log_head head = {.version = LOG_VERSION, .created_ns = bus__wall_ns()};
	struct log_shared *shared;
	int fd, err;

	unlink(draft); /* of one that died here */
	err = open_own(draft, O_CREAT | O_EXCL, &fd);
	if (err < 0)
		return err;
	divide(&head, bytes != 0 ? whole_pages(bytes) : default_bytes(fd));
	memcpy(head.magic, bus__log_magic, sizeof head.magic);
	err = bus__random(head.key, sizeof head.key);
	if (err == 0)
		err = bus__random(&head.epoch, sizeof head.epoch);
	head.epoch |= head.epoch == 0;
	/* All of it now: what is missing later is a SIGBUS in whoever touches it. */
	if (err == 0 && head.file_bytes > SIZE_MAX / 2)
		err = BUS_E_NOMEM; /* more than there are addresses for */
	if (err == 0 && !may_be_so_large(head.file_bytes))
		err = BUS_E_NOSPACE;
	errno = err == 0 ? allocate(fd, head.file_bytes) : 0;
	if (err == 0 && errno == 0)
		errno = clear(fd, head.file_bytes);
	if (errno != 0)
		err = error_of_errno();
	if (err == 0) {
		shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (shared == MAP_FAILED)
			err = error_of_errno();
	}
	if (err == 0) {
		shared->head = head;
		initialize(shared);
		munmap(shared, sizeof *shared);
		if (rename(draft, path) < 0)
			err = error_of_errno();
	}
	bus__fd_close(fd);
	if (err < 0)
		unlink(draft);
	return err;
}

/* --- joining ---------------------------------------------------------------------------------------------------------- */

static bool
is_sound(const struct log_head *head, uint64_t file_bytes)
{
	struct log_head expected = *head;

	divide(&expected, head->file_bytes);
	return head->file_bytes == file_bytes && memcmp(&expected, head, sizeof expected) == 0 &&
	       head->segment_count >= 4 && head->segment_count <= LOG_MOST_SEGMENTS;
}

static int
map_log(struct log *log, const char *path)
{
	struct log_head head;
	struct stat st;
	void *map = NULL;
	int fd, err = open_own(path, 0, &fd);

	if (err < 0)
		return errno == ENOENT ? BUS_E_GONE : err;
	if (fstat(fd, &st) < 0 || bus__fd_read(fd, &head, sizeof head) != (ssize_t)sizeof head ||
	    memcmp(head.magic, bus__log_magic, sizeof head.magic) != 0)
		err = BUS_E_NOT_LIBBUS;
	else if (head.version != LOG_VERSION)
		err = BUS_E_VERSION;
	else if (!is_sound(&head, (uint64_t)st.st_size))
		err = BUS_E_NOT_LIBBUS;
	else if (head.file_bytes > SIZE_MAX / 2)
		err = BUS_E_NOMEM; /* more than there are addresses for */
	if (err == 0) {
		map =
		    mmap(NULL, (size_t)head.file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			err = error_of_errno();
	}
	bus__fd_close(fd);
	if (err < 0)
		return err;
	log->shared = map;
	log->topics = (uint8_t *)map + head.topics_begin;
	log->topics_bytes = head.topics_bytes;
	log->segments = (uint8_t *)map + head.segments_begin;
	memcpy(log->key, head.key, sizeof log->key);
	log->map_bytes = (size_t)head.file_bytes;
	log->segment_bytes = head.segment_bytes;
	log->segment_count = head.segment_count;
	log->epoch = head.epoch;
	return 0;
}

static int
claim_member(struct log *log)
{
	for (uint32_t i = 0; i < LOG_MEMBERS; i++)
		if (set_lock(log->lock_fd, F_WRLCK, MEMBER_BYTE + (off_t)i, 1)) {
			struct log_member *member = &log->shared->members[i];

			log->member = i;
			log->took_over =
			    atomic_load_explicit(&member->pid, memory_order_relaxed) != 0;
			bus__log_recover(log, i);
			atomic_store_explicit(&member->appended, 0, memory_order_release);
			atomic_store_explicit(
			    &member->pid, (uint32_t)getpid(), memory_order_relaxed);
			return 0;
		}
	if (errno == ENOLCK)
		return LOG_NO_LOCK;
	return errno == EAGAIN || errno == EACCES ? LOG_NO_SLOT : BUS_E_SYS;
}

/* Opens the lock file and passes the gate. */
static int
open_lock(const char *path, int *ret_fd)
{
	for (;;) {
		int fd, err = open_own(path, O_CREAT, &fd);

		if (err < 0)
			return err;
		err = enter_gate(fd);
		if (err == 0 && is_same_file(fd, path)) {
			*ret_fd = fd;
			return 0;
		}
		bus__fd_close(fd); /* whoever left last has removed it meanwhile */
		if (err < 0)
			return err;
	}
}

/* By the file, whatever path leads to it. */
static struct log *
find(const char *lock_path)
{
	struct log *log = logs;

	while (log != NULL && !is_same_file(log->lock_fd, lock_path))
		log = log->next;
	return log;
}

/* Whether that is a log, or (draft) what becomes one: other programs have files of such names, too. */
static bool
is_log(const char *path, bool draft)
{
	static const uint8_t nothing[sizeof bus__log_magic];
	uint8_t begin[sizeof bus__log_magic];
	bool is = false;
	int fd;

	if (open_own(path, 0, &fd) < 0)
		return false;
	if (bus__fd_read(fd, begin, sizeof begin) == (ssize_t)sizeof begin)
		is = memcmp(begin, bus__log_magic, sizeof begin) == 0 ||
		     (draft && memcmp(begin, nothing, sizeof begin) == 0);
	bus__fd_close(fd);
	return is;
}

static bool
is_empty(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size == 0;
}

static void
bury_at(const char *lock_path, const char *path, const char *draft)
{
	int fd;

	if (find(lock_path) != NULL || (!is_log(path, false) && !is_log(draft, true)) ||
	    open_own(lock_path, 0, &fd) < 0)
		return;
	if (set_lock(fd, F_WRLCK, GATE_BYTE, 1) && is_same_file(fd, lock_path) && is_empty(fd) &&
	    !is_locked(fd, MEMBER_BYTE, LOG_MEMBERS)) {
		if (is_log(draft, true))
			unlink(draft); /* of one that died while it made it */
		if (is_log(path, false))
			unlink(path);
		unlink(lock_path);
	}
	bus__fd_close(fd);
}

/* Removes a log in whose lock file nobody has a lock. One that this process is in is not opened here: closing it would
 * drop our own. Without memory it stays for another time. */
static void
bury(const char *place, const char *name)
{
	char *lock_path = path_of(place, name, ".lock"), *path = path_of(place, name, ".log"),
	     *draft = path_of(place, name, ".log.new");

	if (lock_path != NULL && path != NULL && draft != NULL)
		bury_at(lock_path, path, draft);
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

		if (end == NULL || strcmp(end, ".lock") != 0 || end - entry->d_name > LOG_NAME_MOST)
			continue;
		snprintf(name, sizeof name, "%.*s", (int)(end - entry->d_name), entry->d_name);
		if (is_name(name))
			bury(place, name);
	}
	closedir(dir);
}

static int
join(struct log *log, const char *draft, uint64_t bytes)
{
	const char *path = log->path, *lock_path = log->lock_path;
	int err = open_lock(lock_path, &log->lock_fd);
	bool made = false;

	if (err < 0)
		return err;
	if (!is_locked(log->lock_fd, MEMBER_BYTE, LOG_MEMBERS)) {
		err = make_log(
		    path, draft, bytes); /* in the place of one whose members have all died */
		made = err == 0;
	}
	if (err == 0)
		err = map_log(log, path);
	if (err == 0)
		err = claim_member(log);
	if (err < 0) {
		int saved =
		    errno; /* the caller's sentence is about what failed, not about the clearing up */

		if (log->shared != NULL)
			munmap(log->shared, log->map_bytes);
		if (made)
			unlink(path); /* nobody else is in it, at the gate */
		/* Beside the log of members that have died the lock file stays: by it that log is found. */
		if (access(path, F_OK) < 0 && errno == ENOENT && is_empty(log->lock_fd) &&
		    !is_locked(log->lock_fd, MEMBER_BYTE, LOG_MEMBERS))
			unlink(lock_path);
		bus__fd_close(log->lock_fd);
		errno = saved;
		return err;
	}
	set_lock(log->lock_fd, F_UNLCK, GATE_BYTE, 1);
	return 0;
}

static void
free_log(struct log *log)
{
	pthread_mutex_destroy(&log->pins_lock);
	bus__free(log->lock_path);
	bus__free(log->path);
	bus__free(log);
}

/* A membership of our own of the log with that name in the directory. */
static int
new_log(const char *whole, const char *name, uint64_t bytes, struct log **ret_log)
{
	struct log *log = bus__calloc(1, sizeof *log);
	char *draft;
	int err;

	if (log == NULL)
		return BUS_E_NOMEM;
	if (pthread_mutex_init(&log->pins_lock, NULL) != 0) {
		bus__free(log);
		return BUS_E_NOMEM;
	}
	log->refs = 1;
	log->fork_generation = bus__fork_generation();
	log->path = path_of(whole, name, ".log");
	log->lock_path = path_of(whole, name, ".lock");
	draft = path_of(whole, name, ".log.new");
	err = log->path != NULL && log->lock_path != NULL && draft != NULL ? join(log, draft, bytes)
									   : BUS_E_NOMEM;
	bus__free(draft);
	if (err < 0) {
		free_log(log);
		return err;
	}
	log->begin =
	    UINT64_MAX; /* no tail is behind it: the first transaction looks where the segment is */
	log->next = logs;
	logs = log;
	*ret_log = log;
	return 0;
}

static int
open_in(const char *whole, const char *name, uint64_t bytes, struct log **ret_log)
{
	char *lock_path;
	struct log *log;

	if (strlen(whole) > PATH_LONGEST)
		return BUS_E_INVAL;
	lock_path = path_of(whole, name, ".lock");
	if (lock_path == NULL)
		return BUS_E_NOMEM;
	log = find(lock_path);
	bus__free(lock_path);
	if (log != NULL) {
		log->refs++;
		*ret_log = log;
		return 0;
	}
	bury_all(whole);
	return new_log(whole, name, bytes, ret_log);
}

static int
open_here(const char *dir, const char *name, uint64_t bytes, struct log **ret_log)
{
	char *whole;
	int err = make_place(dir, &whole);

	if (err < 0)
		return err;
	err = open_in(whole, name, bytes, ret_log);
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

bool
bus__log_was_removed(const struct log *log)
{
	return !is_same_file(log->lock_fd, log->lock_path);
}

/* --- leaving ---------------------------------------------------------------------------------------------------------- */

static void
leave(struct log *log)
{
	/* One who had the slot and was not buried stays to be found. */
	if (!log->took_over)
		atomic_store_explicit(
		    &log->shared->members[log->member].pid, 0, memory_order_relaxed);
	/* If the gate is not free, somebody was stopped in it; whoever opens the name next clears up. What has the name now
	 * may be others': ours has been removed by hand then. */
	if (enter_gate(log->lock_fd) == 0 && is_same_file(log->lock_fd, log->lock_path) &&
	    !is_locked(log->lock_fd, MEMBER_BYTE, LOG_MEMBERS)) {
		unlink(log->path);
		unlink(log->lock_path);
	}
	munmap(log->shared, log->map_bytes);
	bus__fd_close(log->lock_fd); /* and all its locks */
}

void
bus__log_close(struct log *log)
{
	int cancel = bus__cancel_off();

	bus__log_lock_list();
	if (--log->refs == 0) {
		struct log **at = &logs;

		while (*at != log)
			at = &(*at)->next;
		*at = log->next;
		leave(log);
		free_log(log);
	}
	bus__log_unlock_list();
	bus__cancel_back(cancel);
}
