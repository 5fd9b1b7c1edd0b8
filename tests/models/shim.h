/* shim.h: comes before every line of the library when it is compiled for the models (cc -include).
 *
 * The library's C is compiled as it stands, with -fsanitize=thread: the compiler turns each atomic operation and
 * each plain access to memory into a call, and calls.hpp answers those calls with relacy instead of with the
 * sanitizer's own runtime. What the compiler does not turn into calls is named here. */
#ifndef MODELS_SHIM_H
#define MODELS_SHIM_H

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

void *model_memcpy(void *to, const void *from, size_t size);
void *model_memset(void *to, int byte, size_t size);
int model_yield(void);
int model_lock(void *mutex);
int model_unlock(void *mutex);
void *model_frame(void);
ssize_t model_random(void *out, size_t size, unsigned flags);

#define memcpy               model_memcpy
#define memset               model_memset
#define sched_yield          model_yield
#define __builtin_ia32_pause model_yield
#define pthread_mutex_lock   model_lock
#define pthread_mutex_unlock model_unlock
#define getrandom            model_random
/* Where a stack lies must not decide anything: the same schedules in every run. */
#define __builtin_frame_address(level) model_frame()
#define __builtin_thread_pointer()     model_frame()
/* Threads of a model are fibers of one thread: memory.hpp gives each its own copy of this section. */
#define _Thread_local __attribute__((section("model_locals")))

#endif
