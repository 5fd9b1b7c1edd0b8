#define _GNU_SOURCE
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <libbus/error.h>

/* pthread_create()'s EAGAIN means the number of threads, or after mlockall() the memory of a stack. */
static bool
may_lock_a_stack(void)
{
	pthread_attr_t attr;
	size_t size = 0;
	void *stack;

	if (pthread_attr_init(&attr) != 0)
		return true;
	pthread_attr_getstacksize(&attr, &size);
	pthread_attr_destroy(&attr);
	stack = mmap(
	    NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (stack == MAP_FAILED)
		return errno != EAGAIN;
	munmap(stack, size);
	return true;
}

int
bus__thread_start(pthread_t *ret_thread, void *(*run)(void *arg), void *arg)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	err = pthread_create(ret_thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err != 0)
		return err != EAGAIN        ? BUS_E_NOMEM
		       : may_lock_a_stack() ? BUS_E_LIMIT
					    : BUS_E_LOCKED;
	return 0;
}

void
bus__thread_name(const char *name)
{
	prctl(PR_SET_NAME, name);
}

void
bus__thread_join(pthread_t thread)
{
	int cancel = bus__cancel_off();

	pthread_join(thread, NULL);
	bus__cancel_back(cancel);
}

int
bus__cpus(void)
{
	static _Atomic int cpus; /* relaxed: every thread computes the same number */
	int n = atomic_load_explicit(&cpus, memory_order_relaxed);

	if (n == 0) {
		n = (int)sysconf(_SC_NPROCESSORS_ONLN);
		if (n < 1)
			n = 1;
		atomic_store_explicit(&cpus, n, memory_order_relaxed);
	}
	return n;
}

uintptr_t
bus__thread_word_slowly(void)
{
	static _Thread_local _Alignas(8) char self; /* its address */

	return (uintptr_t)&self;
}

static _Thread_local int64_t wait_limit_ns = INT64_MAX;

int64_t
bus__wait_limit(void)
{
	return wait_limit_ns;
}

void
bus__set_wait_limit(int64_t deadline_ns)
{
	wait_limit_ns = deadline_ns;
}

bool
bus__may_wait(void)
{
	return wait_limit_ns != 0;
}
