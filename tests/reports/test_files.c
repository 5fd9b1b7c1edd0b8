/* The files of a named bus: what is not provably ours stays, and what happens to ours is noticed. */
#define _GNU_SOURCE
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

#include "look.h"
#include "log/member.h"
#include "patience.h"

#define GATE_BYTE 0

static int
try_to_join(const char *dir)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = dir, .log_bytes = 4u << 20};
	struct bus *bus = NULL;
	int err = bus_open("home", &cfg, &bus);

	if (err == 0)
		bus_close(bus, 0);
	return err;
}

static const char *
path_of(const char *dir, const char *name)
{
	static char path[4][300];
	static unsigned next;
	char *to = path[next++ % 4];

	snprintf(to, sizeof path[0], "%s/%s", dir, name);
	return to;
}

/* --- files of others ------------------------------------------------------------------------------------------- */

enum kind {
	FILE_OF_TEXT,
	FILE_OF_NOTHING,
	FILE_OF_ZEROS,
	FILE_OPEN_TO_ALL,
	LINK,
	LINK_TO_NOTHING,
	FIFO,
	FOLDER,
	KINDS
};

static void
put(const char *path, enum kind kind)
{
	char zeros[4096] = "";
	int fd;

	switch (kind) {
	case LINK:
		ck_assert_int_eq(symlink("/etc/hostname", path), 0);
		return;
	case LINK_TO_NOTHING:
		ck_assert_int_eq(symlink("nowhere", path), 0);
		return;
	case FIFO:
		ck_assert_int_eq(mkfifo(path, 0600), 0);
		return;
	case FOLDER:
		ck_assert_int_eq(mkdir(path, 0700), 0);
		return;
	default:
		break;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	if (kind == FILE_OF_TEXT || kind == FILE_OPEN_TO_ALL)
		ck_assert_int_eq(write(fd, "a year of application log\n", 26), 26);
	if (kind == FILE_OF_ZEROS)
		ck_assert_int_eq(write(fd, zeros, sizeof zeros), (ssize_t)sizeof zeros);
	if (kind == FILE_OPEN_TO_ALL)
		ck_assert_int_eq(fchmod(fd, 0644), 0);
	close(fd);
}

static const char *const names[] = {"home.bus", "home.lock", "home.bus-new"};

/* _i: which file, of which kind. */
START_TEST(file_that_is_not_ours_stays_and_the_error_names_it)
{
	const char *dir = bus_test_dir(), *path = path_of(dir, names[_i / KINDS]);
	struct stat before, after;
	struct bus *bus;

	put(path, (enum kind)(_i % KINDS));
	ck_assert_int_eq(lstat(path, &before), 0);
	for (int i = 0; i < 2; i++) {
		ck_bus(try_to_join(dir), BUS_E_DENIED);
		ck_assert_msg(strstr(bus_error_text(), path) != NULL, "%s", bus_error_text());
		ck_assert_int_eq(lstat(path, &after), 0);
		ck_assert_uint_eq(after.st_ino, before.st_ino);
		ck_assert_int_eq(after.st_size, before.st_size);
		ck_assert_int_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	}
	ck_assert_int_eq(remove(path), 0);
	bus = join_as(dir, "home");
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* A name that was ours once. */
START_TEST(file_that_took_the_place_of_ours_stays_when_the_last_leaves)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join_as(dir, "home");

	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(unlink(path_of(dir, names[i])), 0);
		put(path_of(dir, names[i]), FILE_OF_TEXT);
	}
	ck_bus(bus_close(bus, 0), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(access(path_of(dir, names[i]), F_OK), 0);
}
END_TEST

START_TEST(files_with_the_suffixes_of_applications_are_not_looked_at)
{
	static const char *const others[] = {"home.log", "home.log.new"};
	const char *dir = bus_test_dir();
	struct bus *bus;

	for (int i = 0; i < 2; i++)
		put(path_of(dir, others[i]), i == 1 ? FILE_OF_NOTHING : FILE_OF_TEXT);
	bus = join_as(dir, "home");
	ck_bus(bus_close(bus, 0), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(access(path_of(dir, others[i]), F_OK), 0);
}
END_TEST

/* Of version 1: an empty lock file beside NAME.log, which begins as logs do. _i: a process is on it. */
START_TEST(bus_of_an_older_library_is_ended_if_nobody_is_on_it)
{
	const char *dir = bus_test_dir();
	int fd, lock;

	put(path_of(dir, "home.log"), FILE_OF_NOTHING);
	put(path_of(dir, "home.lock"), FILE_OF_NOTHING);
	fd = open(path_of(dir, "home.log"), O_RDWR);
	lock = open(path_of(dir, "home.lock"), O_RDWR);
	ck_assert_int_eq(write(fd, "libbuslg\1\0\0\0", 12), 12);
	if (_i == 1) {
		struct flock range = {
		    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 16, .l_len = 1};

		ck_assert_int_eq(fcntl(lock, F_OFD_SETLK, &range), 0);
	}
	ck_bus(try_to_join(dir), _i == 1 ? BUS_E_VERSION : 0);
	ck_assert_int_eq(access(path_of(dir, "home.log"), F_OK), _i == 1 ? 0 : -1);
	ck_assert_int_eq(access(path_of(dir, "home.lock"), F_OK), _i == 1 ? 0 : -1);
	close(fd);
	close(lock);
}
END_TEST

/* --- removed, truncated ---------------------------------------------------------------------------------------------- */

/* A process on the bus of dir that ends when the pipe is closed. */
static pid_t
member(const char *dir, int pipes[2])
{
	char byte = 'x';
	int ready[2];
	pid_t child;

	ck_assert_int_eq(pipe(pipes) | pipe(ready), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct bus *bus = join_as(dir, "home");

		close(pipes[1]);
		if (write(ready[1], "x", 1) != 1 || read(pipes[0], &byte, 1) < 0)
			_exit(1);
		bus_close(bus, 0);
		_exit(0);
	}
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return child;
}

START_TEST(newcomer_is_told_that_the_log_was_removed)
{
	const char *dir = bus_test_dir();
	int pipes[2];
	pid_t child = member(dir, pipes);

	ck_assert_int_eq(unlink(path_of(dir, "home.bus")), 0);
	ck_bus(try_to_join(dir), BUS_E_DAMAGED);
	ck_assert_msg(strstr(bus_error_text(), path_of(dir, "home.bus was removed")) != NULL, "%s",
	    bus_error_text());
	close(pipes[1]);
	waitpid(child, NULL, 0);
	ck_bus(try_to_join(dir), 0);
}
END_TEST

START_TEST(newcomer_is_told_that_the_log_was_truncated)
{
	const char *dir = bus_test_dir();
	int pipes[2];
	pid_t child = member(dir, pipes);

	ck_assert_int_eq(truncate(path_of(dir, "home.bus"), 3 << 20), 0);
	ck_bus(try_to_join(dir), BUS_E_DAMAGED);
	ck_assert_msg(strstr(bus_error_text(), path_of(dir, "home.bus was truncated")) != NULL,
	    "%s", bus_error_text());
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_bus(try_to_join(dir), 0);
}
END_TEST

/* Waits for a warning of that kind. */
static void
await_warning(struct bus_mailbox *warnings, const char *kind)
{
	const struct bus_msg *msg;

	for (;;) {
		ck_bus(bus_recv(warnings, patience_ms(), &msg), 1);
		if (memmem(msg->data, msg->len, kind, strlen(kind)) != NULL)
			return;
	}
}

static struct bus_mailbox *
warnings_of(struct bus *bus)
{
	struct bus_mailbox *m;

	ck_bus(bus_mailbox_open(bus, NULL, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "$bus/warnings", NULL, NULL, NULL), 0);
	return m;
}

/* _i: the log is removed, or is cut off behind what is in use. */
START_TEST(member_notices_what_happens_to_the_log)
{
	const char *dir = bus_test_dir(), *path = path_of(dir, "home.bus");
	struct bus *bus = join_as(dir, "home");
	struct bus_mailbox *warnings = warnings_of(bus);

	ck_assert_int_eq(_i == 0 ? unlink(path) : truncate(path, 3 << 20), 0);
	await_warning(warnings, _i == 0 ? "removed" : "truncated");
	bus_mailbox_close(warnings);
	bus_close(bus, 0);
}
END_TEST

/* --- locks ------------------------------------------------------------------------------------------------------------- */

/* What another process finds: the epoch of the bus, which it joins; 0: it could not. */
static uint64_t
epoch_elsewhere(const char *dir)
{
	uint64_t epoch = 0;
	int pipes[2];
	pid_t child;

	ck_assert_int_eq(pipe(pipes), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct bus *bus = join_as(dir, "home");

		epoch = bus_epoch(bus);
		bus_close(bus, 0);
		_exit(write(pipes[1], &epoch, sizeof epoch) != (ssize_t)sizeof epoch);
	}
	close(pipes[1]);
	if (read(pipes[0], &epoch, sizeof epoch) != (ssize_t)sizeof epoch)
		epoch = 0;
	close(pipes[0]);
	waitpid(child, NULL, 0);
	return epoch;
}

/* All slots but our own are locked, as each is for a moment by a member that looks at it, until the newcomer has found that. */
START_TEST(newcomer_waits_for_a_slot_that_is_looked_at)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join_as(dir, "home");
	struct flock looked_at = {
	    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 16 + 1, .l_len = 1021};
	struct flock gate = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int lock = open(path_of(dir, "home.lock"), O_RDWR);
	pid_t child;
	int status;

	ck_assert_int_eq(fcntl(lock, F_OFD_SETLK, &looked_at), 0);
	child = bus_test_fork();
	if (child == 0) {
		close(lock); /* the parent's, and the locks with it when that closes it too */
		_exit(try_to_join(dir) == 0 ? 0 : 1);
	}
	do {
		gate.l_type = F_WRLCK;
		ck_assert_int_eq(fcntl(lock, F_OFD_GETLK, &gate), 0);
	} while (gate.l_type == F_UNLCK && waitpid(child, &status, WNOHANG) == 0);
	/* One look at all slots takes a few milliseconds. A newcomer that has not finished it finds one all the same. */
	for (int i = 0; i < 20; i++)
		bus_test_nap();
	looked_at.l_type = F_UNLCK;
	ck_assert_int_eq(fcntl(lock, F_OFD_SETLK, &looked_at), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(lock);
	bus_close(bus, 0);
}
END_TEST

/* As long as they stay so it is told that the bus is full. */
START_TEST(newcomer_to_a_full_bus_is_told_so)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join_as(dir, "home");
	struct flock taken = {
	    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 16 + 1, .l_len = 1021};
	int lock = open(path_of(dir, "home.lock"), O_RDWR), status;
	pid_t child;

	ck_assert_int_eq(fcntl(lock, F_OFD_SETLK, &taken), 0);
	child = bus_test_fork();
	if (child == 0)
		_exit(try_to_join(dir) == BUS_E_LIMIT ? 0 : 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(lock);
	bus_close(bus, 0);
}
END_TEST

/* A backup, a scan: one part of the program reads every file once. */
START_TEST(membership_survives_a_reader_of_the_lock_file_in_its_process)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join_as(dir, "home");
	char bytes[100];

	for (int i = 0; i < 2; i++) {
		int fd = open(path_of(dir, names[i]), O_RDONLY);

		ck_assert_int_ge(read(fd, bytes, sizeof bytes), 0);
		close(fd);
	}
	ck_assert_uint_eq(epoch_elsewhere(dir), bus_epoch(bus));
	ck_bus(bus_close(bus, 0), 0);
	ck_assert_int_ne(access(path_of(dir, "home.lock"), F_OK), 0);
}
END_TEST

/* Closes every descriptor that leads to the lock file, and puts another file there. */
static void
close_lock_file(const char *dir)
{
	struct stat lock, st;

	ck_assert_int_eq(stat(path_of(dir, "home.lock"), &lock), 0);
	for (int fd = 3; fd < 1000; fd++)
		if (fstat(fd, &st) == 0 && st.st_ino == lock.st_ino && st.st_dev == lock.st_dev) {
			int other = open(path_of(dir, "other"), O_RDWR | O_CREAT, 0600);

			ck_assert_int_eq(dup2(other, fd), fd);
			close(other);
		}
}

START_TEST(membership_and_roles_survive_a_program_that_closes_all_descriptors)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join_as(dir, "home");
	struct bus_mailbox *warnings = warnings_of(bus);
	struct bus_role *role;
	struct stat st;
	pid_t child;
	int status;

	ck_bus(bus_role_take(bus, "one", 0, &role), 0);
	close_lock_file(dir);
	ck_assert_uint_eq(epoch_elsewhere(dir), bus_epoch(bus));
	/* At its next look for the dead the process has a descriptor again. */
	for (bool again = false; !again;) {
		struct stat lock;
		const struct bus_msg *msg;

		bus_recv(warnings, 10, &msg);
		ck_assert_int_eq(stat(path_of(dir, "home.lock"), &lock), 0);
		for (int fd = 3; fd < 1000; fd++)
			again |= fstat(fd, &st) == 0 && st.st_ino == lock.st_ino;
	}
	child = bus_test_fork();
	if (child == 0) {
		struct bus *its = join_as(dir, "home");
		struct bus_role *other;
		int err = bus_role_take(its, "one", 0, &other);

		_exit(err == BUS_E_TIMEDOUT ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	bus_role_end(role);
	bus_mailbox_close(warnings);
	ck_bus(bus_close(bus, 0), 0);
	/* What has the number is the program's. */
	ck_assert_int_eq(unlink(path_of(dir, "other")), 0);
}
END_TEST

static void *
a_page(void)
{
	void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(page, MAP_FAILED);
	return page;
}

/* The same of an address: a Unix socket has a lock file, too. */
START_TEST(address_stays_taken_when_its_process_reads_the_lock_file)
{
	const char *path = path_of(bus_test_dir(), "socket");
	char url[300], lock[300], byte = 'x';
	struct bus *bus = NULL;
	int pipes[2], status;
	pid_t child;

	snprintf(url, sizeof url, "ipc://%s", path);
	snprintf(lock, sizeof lock, "%s.lock", path);
	ck_assert_int_eq(pipe(pipes), 0);
	child = bus_test_fork(); /* before this process has a link */
	if (child == 0) {
		if (read(pipes[0], &byte, 1) != 1 || bus_open(NULL, NULL, &bus) != 0)
			_exit(1);
		_exit(bus_listen(bus, url, NULL, NULL) == BUS_E_ADDRESS_TAKEN ? 0 : 2);
	}
	ck_bus(bus_open(NULL, NULL, &bus), 0);
	ck_bus(bus_listen(bus, url, NULL, NULL), 0);
	close(open(lock, O_RDONLY));
	ck_assert_int_eq(write(pipes[1], &byte, 1), 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(file_beside_an_address_that_is_not_ours_stays)
{
	const char *path = path_of(bus_test_dir(), "socket");
	char url[300], lock[300];
	struct bus *bus = NULL;
	struct stat st;

	snprintf(url, sizeof url, "ipc://%s", path);
	snprintf(lock, sizeof lock, "%s.lock", path);
	ck_bus(bus_open(NULL, NULL, &bus), 0);
	put(lock, FILE_OF_TEXT);
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_NOT_A_SOCKET);
	ck_assert_int_eq(stat(lock, &st), 0);
	ck_assert_int_eq(st.st_size, 26);
	ck_assert_int_eq(unlink(lock), 0);
	put(lock, FIFO);
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_NOT_A_SOCKET);
	ck_assert_int_eq(unlink(lock), 0);
	ck_bus(bus_listen(bus, url, NULL, NULL), 0);
	/* One that takes the place of ours. */
	ck_assert_int_eq(unlink(lock), 0);
	put(lock, FILE_OF_TEXT);
	ck_bus(bus_close(bus, 0), 0);
	ck_assert_int_eq(access(lock, F_OK), 0);
}
END_TEST

/* Neither by fork() nor past the handlers of pthread_atfork(). */
START_TEST(forked_child_does_not_keep_its_parents_membership)
{
	const char *dir = bus_test_dir();
	int ends[2], ready[2];
	uint64_t epoch;
	pid_t child;
	char byte;

	/* An emulator that takes any advice (qemu-user) ignores MADV_DONTFORK. */
	if (_i == 1 && madvise(a_page(), 4096, -1) == 0)
		return;
	ck_assert_int_eq(pipe(ends) | pipe(ready), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct bus *bus = join_as(dir, "home");
		pid_t its;

		epoch = bus_epoch(bus);
		its = _i == 0 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		/* It says itself that it is there: until its fork() has returned it holds the locks as well. */
		if (its == 0) {
			close(ends[1]);
			if (write(ready[1], &epoch, sizeof epoch) != (ssize_t)sizeof epoch)
				_exit(1);
			_exit(read(ends[0], &byte, 1) < 0);
		}
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &epoch, sizeof epoch), (ssize_t)sizeof epoch);
	ck_assert_uint_eq(epoch_elsewhere(dir), epoch);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_assert_uint_ne(epoch_elsewhere(dir), epoch);
	close(ends[1]);
}
END_TEST

/* --- waiting at the gate -------------------------------------------------------------------------------------------------- */

static void
stop_at_gate(const char *dir, int pipes[2])
{
	struct flock gate = {
	    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = GATE_BYTE, .l_len = 1};
	struct bus *bus = join_as(dir, "home");
	int fd = open(path_of(dir, "home.lock"), O_RDWR);
	char byte = 'x';

	close(pipes[0]);
	if (bus == NULL || fcntl(fd, F_SETLK, &gate) < 0 || write(pipes[1], &byte, 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void *
open_it(void *arg)
{
	struct bus_config cfg = {.size = sizeof cfg, .dir = arg};
	struct bus *bus;
	int err = bus_open("home", &cfg, &bus);

	if (err == 0)
		bus_close(bus, 0);
	return (void *)(intptr_t)err;
}

START_TEST(open_gives_up_when_no_process_passes_the_gate)
{
	const char *dir = bus_test_dir();
	pid_t stopped;
	int pipes[2];
	char byte;

	ck_assert_int_eq(pipe(pipes), 0);
	stopped = bus_test_fork();
	if (stopped == 0)
		stop_at_gate(dir, pipes);
	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
	bus__log_gate_ms = 50;
	ck_bus(try_to_join(dir), BUS_E_TIMEDOUT);
	bus__log_gate_ms = 5000;
	kill(stopped, SIGKILL);
	waitpid(stopped, NULL, 0);
}
END_TEST

/* All this while the thread waits: it ends with the process that is stopped. */
START_TEST(fork_open_and_close_do_not_wait_for_a_thread_at_the_gate)
{
	const char *dir = bus_test_dir(), *elsewhere = path_of(dir, "elsewhere");
	struct bus_config cfg = {.size = sizeof cfg, .dir = elsewhere, .log_bytes = 4u << 20};
	struct bus *other, *another;
	int pipes[2], status;
	pthread_t thread;
	pid_t stopped, child;
	void *answer;
	char byte;

	ck_assert_int_eq(mkdir(elsewhere, 0700), 0);
	ck_assert_int_eq(pipe(pipes), 0);
	stopped = bus_test_fork();
	if (stopped == 0)
		stop_at_gate(dir, pipes);
	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
	ck_bus(bus_open("home", &cfg, &other), 0);
	bus__log_gate_ms = 1000 * bus_test_patience();
	ck_assert_int_eq(pthread_create(&thread, NULL, open_it, (void *)(uintptr_t)dir), 0);
	for (int i = 0; i < 100; i++)
		bus_test_nap();
	child = fork();
	if (child == 0)
		_exit(0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_bus(bus_open("another", &cfg, &another), 0);
	ck_bus(bus_close(another, 0), 0);
	ck_bus(bus_close(other, 0), 0);
	/* It waited for none of these. */
	ck_assert_int_eq(pthread_tryjoin_np(thread, &answer), EBUSY);
	kill(stopped, SIGKILL);
	waitpid(stopped, NULL, 0);
	ck_assert_int_eq(pthread_join(thread, &answer), 0);
	ck_bus((int)(intptr_t)answer, 0);
	bus__log_gate_ms = 5000;
}
END_TEST

/* The child has the thread's descriptor no more, nor what it locked. */
START_TEST(child_that_was_forked_while_a_thread_waited_joins_by_itself)
{
	const char *dir = bus_test_dir();
	int pipes[2], status;
	pthread_t thread;
	pid_t stopped, child;
	void *answer;
	char byte;

	ck_assert_int_eq(pipe(pipes), 0);
	stopped = bus_test_fork();
	if (stopped == 0)
		stop_at_gate(dir, pipes);
	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
	bus__log_gate_ms = 1000 * bus_test_patience();
	ck_assert_int_eq(pthread_create(&thread, NULL, open_it, (void *)(uintptr_t)dir), 0);
	for (int i = 0; i < 100; i++)
		bus_test_nap();
	child = fork();
	if (child == 0) {
		kill(stopped, SIGKILL);
		_exit(try_to_join(dir) == 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(pthread_join(thread, &answer), 0);
	ck_bus((int)(intptr_t)answer, 0);
	bus__log_gate_ms = 5000;
	waitpid(stopped, NULL, 0);
}
END_TEST

/* --- another user --------------------------------------------------------------------------------------------------------- */

/* _i: in a directory, in the user's own, by a path with a link. */
START_TEST(open_bus_is_found_again_after_setuid_and_is_not_called_removed)
{
	const char *dir = bus_test_dir();
	struct bus_config cfg = {.size = sizeof cfg, .dir = dir, .log_bytes = 4u << 20};
	struct bus *bus, *again;
	struct bus_mailbox *warnings;
	const struct bus_msg *msg;
	char name[40], link[50];
	int status;
	pid_t child;

	if (geteuid() != 0)
		return; /* no other user can drop what root has */
	snprintf(name, sizeof name, "libbus-test-setuid-%d", (int)getpid());
	if (_i == 1)
		cfg.dir = NULL;
	if (_i == 2) {
		snprintf(link, sizeof link, "/tmp/%s", name);
		ck_assert_int_eq(symlink(dir, link), 0);
		cfg.dir = link;
	}
	child = bus_test_fork();
	if (child == 0) {
		if (bus_open(name, &cfg, &bus) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		warnings = warnings_of(bus);
		for (int look = 0; look < 20; look++)
			if (bus_recv(warnings, 1, &msg) != 0)
				_exit(2); /* a warning */
		if (bus_open(name, &cfg, &again) < 0 || bus_epoch(again) != bus_epoch(bus))
			_exit(3);
		if (bus_publish(again, "t", "x", 1) < 0)
			_exit(4);
		bus_close(again, 0);
		bus_mailbox_close(warnings);
		bus_close(bus, 0);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	/* Root gives back what the other user was not allowed to remove. */
	ck_bus(bus_open(name, &cfg, &bus), 0);
	ck_bus(bus_close(bus, 0), 0);
	if (_i == 2)
		unlink(link);
	snprintf(name + strlen(name), sizeof name - strlen(name), ".bus");
	ck_assert_int_ne(access(path_of(_i == 1 ? "/dev/shm/libbus-0" : dir, name), F_OK), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("files");
	TCase *tcase = bus_test_case("loops");

	look_at_each_rest();
	tcase_add_loop_test(
	    tcase, file_that_is_not_ours_stays_and_the_error_names_it, 0, 3 * KINDS);
	tcase_add_loop_test(tcase, bus_of_an_older_library_is_ended_if_nobody_is_on_it, 0, 2);
	tcase_add_loop_test(tcase, member_notices_what_happens_to_the_log, 0, 2);
	tcase_add_loop_test(tcase, forked_child_does_not_keep_its_parents_membership, 0, 2);
	tcase_add_loop_test(
	    tcase, open_bus_is_found_again_after_setuid_and_is_not_called_removed, 0, 3);
	suite_add_tcase(suite, tcase);
	BUS_TEST_CASE(suite, "files", file_that_took_the_place_of_ours_stays_when_the_last_leaves,
	    files_with_the_suffixes_of_applications_are_not_looked_at,
	    newcomer_is_told_that_the_log_was_removed, newcomer_is_told_that_the_log_was_truncated,
	    newcomer_waits_for_a_slot_that_is_looked_at, newcomer_to_a_full_bus_is_told_so,
	    membership_survives_a_reader_of_the_lock_file_in_its_process,
	    membership_and_roles_survive_a_program_that_closes_all_descriptors,
	    address_stays_taken_when_its_process_reads_the_lock_file,
	    file_beside_an_address_that_is_not_ours_stays,
	    open_gives_up_when_no_process_passes_the_gate,
	    fork_open_and_close_do_not_wait_for_a_thread_at_the_gate,
	    child_that_was_forked_while_a_thread_waited_joins_by_itself);
	return suite;
}
