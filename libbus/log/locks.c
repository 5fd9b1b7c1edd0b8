/* log/locks.c: the lock file: the gate, the bytes of the members, and the hints behind its head. */
#define _GNU_SOURCE
#include "log/member.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/hold.h"

#define GATE_BYTE    0
#define MEMBER_BYTE  16 /* + slot */
#define NAP_LEAST_NS 1000000
#define NAP_MOST_NS  50000000

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

bool
bus__log_has_members(int fd)
{
	return ask_lock(fd, MEMBER_BYTE, LOG_MEMBERS) != IS_FREE;
}

/* --- the gate ------------------------------------------------------------------------------------------------------ */

/* How often the gate was passed. Read as a file: if the file were mapped and truncated, a read would end the process. */
static uint64_t
passes(int fd)
{
	uint64_t count = 0;

	if (pread(fd, &count, sizeof count, offsetof(struct log_lock_head, passes)) !=
	    (ssize_t)sizeof count)
		return 0;
	return count;
}

/* At the gate. If the count cannot be written others give up earlier, nothing else. */
static void
count_pass(int fd)
{
	uint64_t count = passes(fd) + 1;
	ssize_t put = pwrite(fd, &count, sizeof count, offsetof(struct log_lock_head, passes));

	(void)put;
}

void
bus__log_nap(int64_t *nap_ns)
{
	int64_t least_ns = *nap_ns != 0 ? *nap_ns : NAP_LEAST_NS;
	const struct timespec nap = {
	    .tv_nsec = (long)(least_ns / 2 + bus__now_ns() / 64 % least_ns)};

	nanosleep(&nap, NULL);
	*nap_ns = least_ns < NAP_MOST_NS ? least_ns * 3 / 2 : least_ns;
}

bool
bus__log_try_gate(int fd)
{
	return set_lock(fd, F_WRLCK, GATE_BYTE, 1);
}

int
bus__log_enter_gate(int fd, int wait_ms)
{
	int64_t deadline_ns = bus__deadline_ns(wait_ms), nap_ns = 0;
	uint64_t seen = passes(fd);

	while (!bus__log_try_gate(fd)) {
		int error = errno;

		if (error == EINVAL)
			return LOG_NO_OFD;
		if (error != EAGAIN && error != EACCES && error != EINTR)
			return error == ENOLCK ? LOG_NO_LOCK : BUS_E_SYS;
		if (bus__now_ns() > deadline_ns) {
			uint64_t count = passes(fd);

			if (count == seen)
				return BUS_E_TIMEDOUT;
			seen = count;
			deadline_ns = bus__deadline_ns(wait_ms);
		}
		bus__log_nap(&nap_ns);
	}
	count_pass(fd);
	return 0;
}

void
bus__log_leave_gate(int fd)
{
	set_lock(fd, F_UNLCK, GATE_BYTE, 1);
}

/* --- bytes --------------------------------------------------------------------------------------------------------- */

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
bus__log_lock_slot(int fd, uint32_t slot)
{
	return lock_byte(fd, MEMBER_BYTE + (int64_t)slot);
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
	/* Another description has our own byte locked. If that seems free, the program has closed our descriptor, and its number
	 * is another file's. Then no member counts as dead. */
	return ask_lock(log->home->lock_fd, MEMBER_BYTE + (off_t)log->member, 1) != IS_LOCKED;
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

/* --- hints --------------------------------------------------------------------------------------------------------- */

bool
bus__log_begin_look(struct log *log, int64_t pause_ns)
{
	const off_t at = offsetof(struct log_lock_head, looked_ns);
	int64_t now_ns = bus__now_ns(), looked_ns;

	/* Two that begin at once both look: that costs time, nothing else. */
	if (pread(log->lock_fd, &looked_ns, sizeof looked_ns, at) == (ssize_t)sizeof looked_ns &&
	    looked_ns <= now_ns && now_ns - looked_ns < pause_ns)
		return false;
	return pwrite(log->lock_fd, &now_ns, sizeof now_ns, at) == (ssize_t)sizeof now_ns;
}
