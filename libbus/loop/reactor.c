#define _GNU_SOURCE
#include "loop/reactor.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/thread.h"

enum { EVENTS = 64 /* of one look */, JOBS = 64 /* before sockets get their turn */ };

struct bus__reactor {
	uint32_t users; /* under `shared` */
	uint32_t fork_generation;
	int epoll, bell; /* the bell is an eventfd, which a post rings */
	pthread_t thread;

	pthread_mutex_t lock; /* of the next three; nothing is called under it */
	struct bus__job *first, **last;
	bool stop;

	struct bus__alarm *alarms; /* from here on: the thread alone */
	struct epoll_event *events;
	int count;
};

/* The reactor of this process. A fork waits until nobody is inside, so that the child finds the lock free. */
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

/* Returns the time until the next alarm for epoll_wait(), -1 for none. A linear walk: a door has few, and its connections
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

static void
look(struct bus__reactor *reactor, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(reactor->epoll, events, EVENTS, timeout_ms);

	reactor->events = events;
	reactor->count = count;
	for (int i = 0; i < count; i++) {
		struct bus__source *source = events[i].data.ptr;
		uint64_t rung;

		if (source != NULL)
			source->ready(source, events[i].events);
		else if ((events[i].events & EPOLLIN) !=
			 0) /* the bell, or one that was ended since */
			(void)!bus__fd_read(reactor->bell, &rung, sizeof rung);
	}
	reactor->count = 0;
}

static void *
run(void *arg)
{
	struct bus__reactor *reactor = arg;
	bool stop = false;
	int cancel = bus__cancel_off();

	bus__thread_name("bus-loop");
	while (!stop) {
		struct bus__job *job = NULL;
		int jobs = 0, next_ms;

		while (jobs < JOBS && (job = pop(reactor, &stop)) != NULL) {
			job->run(job);
			jobs++;
		}
		next_ms = ring_alarms(reactor);
		if (!stop)
			look(reactor, job != NULL ? 0 : next_ms);
	}
	bus__cancel_back(cancel);
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------------- */

static int
open_descriptors(struct bus__reactor *reactor)
{
	struct epoll_event event = {.events = EPOLLIN};

	reactor->epoll = bus__fd_above_std(epoll_create1(EPOLL_CLOEXEC));
	if (reactor->epoll < 0)
		return errno == ENOMEM ? BUS_E_NOMEM : BUS_E_LIMIT;
	reactor->bell = bus__fd_above_std(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (reactor->bell >= 0 &&
	    epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, reactor->bell, &event) == 0)
		return 0;
	if (reactor->bell >= 0)
		bus__fd_close(reactor->bell);
	bus__fd_close(reactor->epoll);
	return errno == ENOMEM ? BUS_E_NOMEM : BUS_E_LIMIT;
}

static void
close_descriptors(struct bus__reactor *reactor)
{
	bus__fd_close(reactor->bell);
	bus__fd_close(reactor->epoll);
}

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
	err = open_descriptors(reactor);
	if (err < 0)
		goto free_reactor;
	err = bus__thread_start(&reactor->thread, run, reactor);
	if (err < 0)
		goto close_descriptors;
	*ret_reactor = reactor;
	return 0;

close_descriptors:
	close_descriptors(reactor);
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
		err = start(&current); /* the parent's, if there is one, is left alone */
	if (err == 0)
		*ret_reactor = current;
	pthread_mutex_unlock(&shared);
	return err;
}

void
bus__reactor_give(struct bus__reactor *reactor)
{
	bool is_last;

	/* In a child the thread is not there; what its parent watched is not ours to end. */
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
	(void)!bus__fd_write(reactor->bell, &(uint64_t){1}, sizeof(uint64_t));
	bus__thread_join(reactor->thread);
	close_descriptors(reactor);
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
		(void)!bus__fd_write(reactor->bell, &(uint64_t){1}, sizeof(uint64_t));
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
	/* Release: pairs with the acquire of the caller, whose stack may be gone after the store; waking an address needs no
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
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, source->fd, &event) == 0)
		return 0;
	return errno == ENOMEM ? BUS_E_NOMEM : errno == ENOSPC ? BUS_E_LIMIT : BUS_E_SYS;
}

void
bus__reactor_rewatch(struct bus__reactor *reactor, struct bus__source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	epoll_ctl(reactor->epoll, EPOLL_CTL_MOD, source->fd, &event);
}

void
bus__reactor_unwatch(struct bus__reactor *reactor, struct bus__source *source)
{
	epoll_ctl(reactor->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	for (int i = 0; i < reactor->count; i++)
		if (reactor->events[i].data.ptr == source)
			reactor->events[i] = (struct epoll_event){.events = 0};
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
