#include "loop/reactor.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/thread.h"

enum { JOBS = 64 /* run before sockets are served */ };

struct bus__reactor {
	uint32_t users; /* under `shared` */
	uint32_t fork_generation;
	pthread_t thread;

	pthread_mutex_t lock; /* of the next three; held over no call */
	struct bus__job *first, **last;
	bool stop;

	struct bus__poller
	    poller; /* any thread rings its bell; the rest, and all below, is the thread's */
	struct bus__alarm *alarms;
};

/* The reactor of this process. A fork takes `shared` first, so that the child finds it free. */
static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;
static struct bus__reactor *current;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
before_fork(void)
{
	pthread_mutex_lock(&shared);
}

static void
after_fork(void)
{
	pthread_mutex_unlock(&shared);
}

static void
watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

/* --- the thread ------------------------------------------------------------------------------------------------------ */

static struct bus__job *
pop(struct bus__reactor *reactor, bool *ret_stop)
{
	struct bus__job *job;

	pthread_mutex_lock(&reactor->lock);
	job = reactor->first;
	if (job != NULL) {
		reactor->first = job->next;
		if (reactor->first == NULL)
			reactor->last = &reactor->first;
		job->posted = false;
	}
	*ret_stop = reactor->stop;
	pthread_mutex_unlock(&reactor->lock);
	return job;
}

/* Returns the time until the next alarm for epoll_wait(), -1 for none. A linear walk: there are few alarms, and connections
 * share them. */
static int
ring_alarms(struct bus__reactor *reactor)
{
	int64_t next_ns, now_ns;
	struct bus__alarm *alarm;

	/* An alarm may stop or free others, so the walk begins again after each. */
again:
	now_ns = bus__now_ns();
	next_ns = INT64_MAX;
	for (alarm = reactor->alarms; alarm != NULL; alarm = alarm->next) {
		if (alarm->due_ns <= now_ns) {
			bus__alarm_stop(reactor, alarm);
			alarm->ring(alarm);
			goto again;
		}
		if (alarm->due_ns < next_ns)
			next_ns = alarm->due_ns;
	}
	return bus__left_ms(next_ns);
}

static void *
run(void *arg)
{
	struct bus__reactor *reactor = arg;
	bool stop = false;
	int cancel = bus__cancel_off();

	bus__thread_name("bus-loop");
	for (;;) {
		struct bus__job *job = NULL;
		int jobs = 0, next_ms;

		while (jobs < JOBS && (job = pop(reactor, &stop)) != NULL) {
			job->run(job);
			jobs++;
		}
		next_ms = ring_alarms(reactor);
		if (stop)
			break;
		bus__poller_wait(&reactor->poller, job != NULL ? 0 : next_ms);
		bus__poller_dispatch(&reactor->poller);
	}
	bus__cancel_back(cancel);
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------------- */

static int
start(struct bus__reactor **ret_reactor)
{
	struct bus__reactor *reactor = bus__calloc(1, sizeof *reactor);
	int err;

	if (reactor == NULL)
		return BUS_E_NOMEM;
	reactor->users = 1;
	reactor->fork_generation = bus__fork_generation();
	reactor->last = &reactor->first;
	pthread_mutex_init(&reactor->lock, NULL);
	err = bus__poller_open(&reactor->poller);
	if (err < 0)
		goto free_reactor;
	err = bus__thread_start(&reactor->thread, run, reactor);
	if (err < 0)
		goto close_poller;
	*ret_reactor = reactor;
	return 0;

close_poller:
	bus__poller_close(&reactor->poller);
free_reactor:
	pthread_mutex_destroy(&reactor->lock);
	bus__free(reactor);
	return err;
}

int
bus__reactor_take(struct bus__reactor **ret_reactor)
{
	int err = bus__fork_watch();

	if (err < 0)
		return err;
	pthread_once(&once, watch_forks);
	pthread_mutex_lock(&shared);
	if (current != NULL && current->fork_generation == bus__fork_generation())
		current->users++;
	else
		err = start(&current); /* the parent's, if any, is left alone */
	if (err == 0)
		*ret_reactor = current;
	pthread_mutex_unlock(&shared);
	return err;
}

void
bus__reactor_give(struct bus__reactor *reactor)
{
	bool is_last;

	/* A child has no such thread, and must not end the parent's sources. */
	if (reactor->fork_generation != bus__fork_generation())
		return;
	pthread_mutex_lock(&shared);
	is_last = --reactor->users == 0;
	if (is_last)
		current = NULL;
	pthread_mutex_unlock(&shared);
	if (!is_last)
		return;
	pthread_mutex_lock(&reactor->lock);
	reactor->stop = true;
	pthread_mutex_unlock(&reactor->lock);
	bus__poller_ring(&reactor->poller);
	bus__thread_join(reactor->thread);
	bus__poller_close(&reactor->poller);
	pthread_mutex_destroy(&reactor->lock);
	bus__free(reactor);
}

bool
bus__reactor_is_here(const struct bus__reactor *reactor)
{
	return pthread_equal(pthread_self(), reactor->thread) != 0;
}

/* --- jobs ------------------------------------------------------------------------------------------------------------- */

void
bus__reactor_post(struct bus__reactor *reactor, struct bus__job *job)
{
	bool was_empty = false;

	pthread_mutex_lock(&reactor->lock);
	if (!job->posted) {
		was_empty = reactor->first == NULL;
		job->posted = true;
		job->next = NULL;
		*reactor->last = job;
		reactor->last = &job->next;
	}
	pthread_mutex_unlock(&reactor->lock);
	if (was_empty)
		bus__poller_ring(&reactor->poller);
}

void
bus__reactor_unpost(struct bus__reactor *reactor, struct bus__job *job)
{
	pthread_mutex_lock(&reactor->lock);
	if (job->posted) {
		struct bus__job **at = &reactor->first;

		while (*at != job)
			at = &(*at)->next;
		*at = job->next;
		if (*at == NULL)
			reactor->last = at;
		job->posted = false;
	}
	pthread_mutex_unlock(&reactor->lock);
}

struct call {
	struct bus__job job; /* first: run_call() gets it */
	void (*fn)(void *arg);
	void *arg;
	_Atomic uint32_t done;
};

static void
run_call(struct bus__job *job)
{
	struct call *call = (struct call *)job;

	call->fn(call->arg);
	/* Release: pairs with the acquire of the caller, whose stack may be gone after the store; a futex wake needs no
	 * memory there. */
	atomic_store_explicit(&call->done, 1, memory_order_release);
	bus__unpark(&call->done);
}

void
bus__reactor_call(struct bus__reactor *reactor, void (*fn)(void *arg), void *arg)
{
	struct call call = {.job.run = run_call, .fn = fn, .arg = arg};

	bus__reactor_post(reactor, &call.job);
	while (atomic_load_explicit(&call.done, memory_order_acquire) == 0)
		bus__park(&call.done, 0, INT64_MAX);
}

/* --- sources and alarms ------------------------------------------------------------------------------------------------ */

int
bus__reactor_watch(struct bus__reactor *reactor, struct bus__source *source, uint32_t events)
{
	return bus__poller_watch(&reactor->poller, source, events);
}

void
bus__reactor_rewatch(struct bus__reactor *reactor, struct bus__source *source, uint32_t events)
{
	bus__poller_rewatch(&reactor->poller, source, events);
}

void
bus__reactor_unwatch(struct bus__reactor *reactor, struct bus__source *source)
{
	bus__poller_unwatch(&reactor->poller, source);
}

void
bus__alarm_set(struct bus__reactor *reactor, struct bus__alarm *alarm, int64_t due_ns)
{
	alarm->due_ns = due_ns;
	if (alarm->set)
		return;
	alarm->set = true;
	alarm->next = reactor->alarms;
	reactor->alarms = alarm;
}

void
bus__alarm_stop(struct bus__reactor *reactor, struct bus__alarm *alarm)
{
	if (!alarm->set)
		return;
	for (struct bus__alarm **at = &reactor->alarms;; at = &(*at)->next)
		if (*at == alarm) {
			*at = alarm->next;
			break;
		}
	alarm->set = false;
}
