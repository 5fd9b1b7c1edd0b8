/* support/stopped_writer.h: a process that is stopped as the owner of a named bus's tail, as one may be in the middle of its
 * copy. For tests that link the library's inside. */
#ifndef BUS_STOPPED_WRITER_H
#define BUS_STOPPED_WRITER_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bus_test.h"
#include "log/log.h"

/* Its one record, of 8 bytes, has no topic. To be ended with SIGKILL. */
static inline pid_t
bus_test_stop_writer(const char *dir, const char *name)
{
	pid_t child = bus_test_fork();
	int status;

	if (child == 0) {
		const struct log_item item = {.topic = NULL};
		const struct bus_slice payload = {"1234567", 8};
		uint64_t word, sequence;
		struct log *log;

		if (bus__log_open(dir, name, 0, &log) < 0 ||
		    bus__log_append(log, &item, &payload, 1, &sequence) != 1)
			_exit(1);
		word = atomic_load(&log->shared->tail);
		while (
		    (word & TAIL_OWNER) != 0 || !atomic_compare_exchange_weak(&log->shared->tail,
						    &word, word | (uint64_t)(log->member + 1) << 2))
			word = atomic_load(&log->shared->tail);
		raise(SIGSTOP);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
	ck_assert(WIFSTOPPED(status));
	return child;
}

#endif
