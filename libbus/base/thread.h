/* base/thread.h: the library's threads. They block all signals, so handlers run on the program's threads. */
#ifndef BUS_BASE_THREAD_H
#define BUS_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* One instruction, if the compiler has it. With 64 bits it is a multiple of 8 in every C library; else perhaps of 4. */
#if UINTPTR_MAX > UINT32_MAX && defined(__has_builtin)
#if __has_builtin(__builtin_thread_pointer)
#define BUS__THREAD_POINTER
#endif
#endif

/* Starts a thread. 0, BUS_E_NOMEM, BUS_E_LIMIT (no more threads), or BUS_E_LOCKED (no stack
 * after mlockall()). */
int bus__thread_start(pthread_t *ret_thread, void *(*run)(void *arg), void *arg);

/* Names the calling thread (at most 15 bytes are shown). To name another thread, the C library would open a file, with
 * the lowest free descriptor. */
void bus__thread_name(const char *name);

/* Waits for the end of a thread. */
void bus__thread_join(pthread_t thread);

/* Between these two no pthread_cancel() takes effect on this thread: around system calls that are cancellation points,
 * and around the program's functions, so that no call of the library is left half done (docs/design/0003-cancellation.md). */
static inline int
bus__cancel_off(void)
{
	int before;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

static inline void
bus__cancel_back(int before)
{
	pthread_setcancelstate(before, &before);
}

/* A word of the calling thread that no other living thread has: a multiple of 8, not 0. */
uintptr_t bus__thread_word_slowly(void);

static inline uintptr_t
bus__thread_word(void)
{
#ifdef BUS__THREAD_POINTER
	return (uintptr_t)__builtin_thread_pointer();
#else
	return bus__thread_word_slowly();
#endif
}

/* The time (monotonic ns) until which this thread may wait for another thread's append to a log, or for room as its handle
 * allows; INT64_MAX, the initial value: no limit. The Python extension sets 0 while it holds the interpreter's lock, and short
 * limits where it must check for signals in between. Appends only compare it with 0. */
int64_t bus__wait_limit(void);
void bus__set_wait_limit(int64_t deadline_ns);

static inline void
bus__set_may_wait(bool may)
{
	bus__set_wait_limit(may ? INT64_MAX : 0);
}

bool bus__may_wait(void);

/* Tells the CPU that this is a spin loop. */
static inline void
bus__cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
	__asm__ volatile("yield");
#endif
}

/* The CPUs of the machine; with one, spinning cannot help. */
int bus__cpus(void);

#endif
