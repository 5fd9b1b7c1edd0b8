/* log/slots.c: the slot of a member, and of a deputy: a number of the log, and the lock of its byte. */
#define _GNU_SOURCE
#include "log/member.h"

#include <string.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/hold.h"
#include "base/mem.h"
#include "base/thread.h"
#include "log/turn.h"

#define SLOT_WAIT_MS 1000
#define DEAD_TRIES   16

/* Locks the byte of a free slot: of a dead member, if it is among the first with a pid; else of one without; else any. Each try is a
 * system call that looks at all locks, and a thousand members may join at once. A deputy gets a slot without a pid: it
 * does not publish the will of a dead member. */
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
			err = bus__log_lock_slot(fd, i);
			log->member = i;
			if (err != 0)
				return err == BUS_E_LIMIT ? LOG_NO_LOCK : err;
			tries--;
		}
	}
	return LOG_NO_SLOT;
}

/* Opens the description that has the lock of the member alone. List lock. */
static int
hold_slot(struct log *log)
{
	int fd, err = bus__log_file_open(log->lock_path, LOG_FILE_LOCK, &fd);

	if (err < 0)
		return err == LOG_ABSENT ? LOG_REMOVED : bus__log_foreign(err, LOG_FILE_LOCK);
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

int
bus__log_claim_slot(struct log *log)
{
	int64_t deadline_ns = bus__deadline_ns(SLOT_WAIT_MS), nap_ns = 0;
	struct log_member *member;
	int err;

	for (;;) {
		bus__log_lock_list();
		err = hold_slot(log);
		if (err == 0)
			bus__log_listens_clear(log, log->member);
		bus__log_unlock_list();
		if (err != LOG_NO_SLOT || bus__now_ns() >= deadline_ns)
			break;
		/* A free slot is locked for the moment in which another member looks at it. */
		bus__log_nap(&nap_ns);
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

void
bus__log_free_deputy(struct log *deputy)
{
	if (deputy->hold != NULL)
		bus__hold_end(deputy->hold);
	pthread_mutex_destroy(&deputy->pins_lock);
	bus__pages_free(deputy, sizeof *deputy);
}

/* Safe in a signal handler. */
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
	err = bus__log_try_lock_list() ? 0 : BUS_E_STATE;
	if (err == 0) {
		err = hold_slot(deputy);
		bus__log_unlock_list();
	}
	bus__cancel_back(cancel);
	if (err < 0) {
		bus__log_free_deputy(deputy);
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

void
bus__log_note_pid(struct log *log)
{
	atomic_store_explicit(
	    &log->shared->members[log->member].pid, (uint32_t)getpid(), memory_order_relaxed);
}

void
bus__log_forget_pid(struct log *log, uint32_t member)
{
	/* A dead member's slot, which we hold: with pins it would cost each roll a look whether it lives. */
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
