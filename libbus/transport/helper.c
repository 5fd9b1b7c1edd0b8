#include "transport/helper.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fork.h"
#include "base/thread.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct bus__helper_job *first, **last = &first, *at_work;
static bool runs;           /* the thread runs */
static uint32_t generation; /* of the process that these belong to */

static void
take_lock(void)
{
	pthread_mutex_lock(&lock);
}

static void
leave_lock(void)
{
	pthread_mutex_unlock(&lock);
}

/* fork() waits for the lock, so the child finds it free. */
static void
watch_forks(void)
{
	pthread_atfork(take_lock, leave_lock, leave_lock);
}

/* A child has neither the thread nor the connections of its parent. */
static void
enter(void)
{
	pthread_once(&once, watch_forks);
	take_lock();
	if (generation != bus__fork_generation()) {
		generation = bus__fork_generation();
		first = at_work = NULL;
		last = &first;
		runs = false;
		done = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	}
}

static struct bus__helper_job *
pop(void)
{
	struct bus__helper_job *job = first;

	if (job != NULL) {
		first = job->next;
		if (first == NULL)
			last = &first;
		job->queued = false;
	}
	return job;
}

static void *
run(void *arg)
{
	(void)arg;
	bus__thread_name("bus-handshake");
	take_lock();
	while ((at_work = pop()) != NULL) {
		leave_lock();
		at_work->work(at_work);
		take_lock();
		at_work = NULL;
		pthread_cond_broadcast(&done);
	}
	runs = false;
	leave_lock();
	return NULL;
}

void
bus__helper_post(struct bus__helper_job *job)
{
	pthread_t thread;
	bool here = false;

	enter();
	if (!runs) {
		here = bus__thread_start(&thread, run, NULL) < 0;
		if (!here)
			pthread_detach(thread);
		runs = !here;
	}
	if (!here) {
		job->next = NULL;
		job->queued = true;
		*last = job;
		last = &job->next;
	}
	leave_lock();
	if (here)
		job->work(job);
}

void
bus__helper_cancel(struct bus__helper_job *job)
{
	enter();
	if (job->queued) {
		struct bus__helper_job **at = &first;

		while (*at != job)
			at = &(*at)->next;
		*at = job->next;
		if (*at == NULL)
			last = at;
		job->queued = false;
	}
	while (at_work == job)
		pthread_cond_wait(&done, &lock);
	leave_lock();
}
