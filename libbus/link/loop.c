#include "link/loop.h"

#include <stddef.h>

#include "base/clock.h"
#include "base/park.h"
#include "base/thread.h"

enum { TASKS = 16 /* run before sockets are looked at */ };

/* --- sleep ------------------------------------------------------------------------------------------- */

struct bus__loop_sleep {
	/* Waits for the bell, at most until the next timer. seen: the bell when there was no work. */
	void (*rest)(struct bus__loop *loop, uint32_t seen);
	/* Handles ready sockets, between tasks. */
	void (*glance)(struct bus__loop *loop);
	void (*ring)(struct bus__loop *loop);
};

static void
rest_on_word(struct bus__loop *loop, uint32_t seen)
{
	bus__park(&loop->bell, seen, loop->next_due_ns);
}

static void
hear_nothing(struct bus__loop *loop)
{
	(void)loop;
}

static void
ring_word(struct bus__loop *loop)
{
	atomic_fetch_add_explicit(&loop->bell, 1, memory_order_relaxed);
	bus__unpark(&loop->bell);
}

static const struct bus__loop_sleep on_word = {rest_on_word, hear_nothing, ring_word};

static void
glance_at_poller(struct bus__loop *loop)
{
	bus__poller_wait(&loop->poller, 0);
	bus__poller_dispatch(&loop->poller);
}

/* A ring between the look at the queue and the wait is an edge that the wait sees, so `seen` is not needed. */
static void
rest_in_poller(struct bus__loop *loop, uint32_t seen)
{
	(void)seen;
	bus__poller_wait(&loop->poller, bus__left_ms(loop->next_due_ns));
	/* A post while sources are handled need not ring. */
	pthread_mutex_lock(&loop->lock);
	loop->asleep = false;
	pthread_mutex_unlock(&loop->lock);
	bus__poller_dispatch(&loop->poller);
}

static void
ring_poller(struct bus__loop *loop)
{
	bus__poller_ring(&loop->poller);
}

static const struct bus__loop_sleep in_poller = {rest_in_poller, glance_at_poller, ring_poller};

/* Lock held. The sleep to ring after the lock is released. NULL: the thread is awake. */
static const struct bus__loop_sleep *
wake(struct bus__loop *loop)
{
	const struct bus__loop_sleep *sleep = loop->asleep ? loop->sleep : NULL;

	loop->asleep = false;
	return sleep;
}

/* --- the thread -------------------------------------------------------------------------------------- */

/* NULL: there is no work, and from now on a post rings. */
static struct bus__task *
pop(struct bus__loop *loop, bool *ret_stop, uint32_t *ret_bell)
{
	struct bus__task *task;

	pthread_mutex_lock(&loop->lock);
	task = loop->first;
	if (task != NULL) {
		loop->first = task->next;
		if (loop->first == NULL)
			loop->last = &loop->first;
		task->queued = false;
	}
	loop->asleep = task == NULL;
	*ret_stop = loop->stop;
	*ret_bell = atomic_load_explicit(&loop->bell, memory_order_relaxed);
	pthread_mutex_unlock(&loop->lock);
	return task;
}

/* A linear walk, but only when the earliest timer is due: connections keep one timer each, and do not
 * move it when bytes arrive. */
static void
fire_timers(struct bus__loop *loop)
{
	int64_t now = bus__now_ns();
	struct bus__timer *timer;

	if (now < loop->next_due_ns)
		return;
	/* A timer may stop or free others, so the walk begins again after each. */
again:
	loop->next_due_ns = INT64_MAX;
	for (timer = loop->timers; timer != NULL; timer = timer->next) {
		if (timer->due_ns <= now) {
			bus__timer_stop(loop, timer);
			timer->fire(timer->arg);
			goto again;
		}
		if (timer->due_ns < loop->next_due_ns)
			loop->next_due_ns = timer->due_ns;
	}
}

static void *
run(void *arg)
{
	struct bus__loop *loop = arg;
	struct bus__task *task;
	unsigned tasks = 0;
	uint32_t bell;
	bool stop;

	bus__thread_name("bus-link");
	for (;;) {
		fire_timers(loop);
		task = pop(loop, &stop, &bell);
		if (stop)
			break;
		if (task == NULL) {
			loop->sleep->rest(loop, bell);
			tasks = 0;
			continue;
		}
		task->run(task->arg);
		if (++tasks == TASKS) {
			loop->sleep->glance(loop);
			tasks = 0;
		}
	}
	if (loop->at_end != NULL)
		loop->at_end(loop->at_end_arg);
	return NULL;
}

int
bus__loop_start(struct bus__loop *loop)
{
	int err;

	*loop =
	    (struct bus__loop){.last = &loop->first, .sleep = &on_word, .next_due_ns = INT64_MAX};
	pthread_mutex_init(&loop->lock, NULL);
	err = bus__thread_start(&loop->thread, run, loop);
	if (err < 0)
		pthread_mutex_destroy(&loop->lock);
	return err;
}

void
bus__loop_stop(struct bus__loop *loop)
{
	const struct bus__loop_sleep *sleep;

	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	sleep = wake(loop);
	pthread_mutex_unlock(&loop->lock);
	if (sleep != NULL)
		sleep->ring(loop);
	bus__thread_join(loop->thread);
}

void
bus__loop_fini(struct bus__loop *loop)
{
	if (loop->sleep == &in_poller)
		bus__poller_close(&loop->poller);
	pthread_mutex_destroy(&loop->lock);
}

void
bus__loop_end(struct bus__loop *loop, void (*at_end)(void *arg), void *arg)
{
	pthread_detach(loop->thread);
	loop->at_end = at_end;
	loop->at_end_arg = arg;
	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_mutex_unlock(&loop->lock);
}

/* Rings without the lock: the thread would wake only to wait for it. */
void
bus__loop_post(struct bus__loop *loop, struct bus__task *task)
{
	const struct bus__loop_sleep *sleep = NULL;

	pthread_mutex_lock(&loop->lock);
	if (!task->queued) {
		task->queued = true;
		task->next = NULL;
		*loop->last = task;
		loop->last = &task->next;
		sleep = wake(loop);
	}
	pthread_mutex_unlock(&loop->lock);
	if (sleep != NULL)
		sleep->ring(loop);
}

void
bus__loop_cancel(struct bus__loop *loop, struct bus__task *task)
{
	pthread_mutex_lock(&loop->lock);
	if (task->queued) {
		struct bus__task **at = &loop->first;

		while (*at != task)
			at = &(*at)->next;
		*at = task->next;
		if (*at == NULL)
			loop->last = at;
		task->queued = false;
	}
	pthread_mutex_unlock(&loop->lock);
}

struct call {
	void (*fn)(void *arg);
	void *arg;
	_Atomic uint32_t done;
};

static void
run_call(void *arg)
{
	struct call *call = arg;

	call->fn(call->arg);
	/* The caller's stack may be gone after the store; a futex wake needs no memory there. */
	atomic_store_explicit(&call->done, 1, memory_order_release);
	bus__unpark(&call->done);
}

void
bus__loop_call(struct bus__loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = {.fn = fn, .arg = arg};
	struct bus__task task = {.run = run_call, .arg = &call};

	bus__loop_post(loop, &task);
	while (atomic_load_explicit(&call.done, memory_order_acquire) == 0)
		bus__park(&call.done, 0, INT64_MAX);
}

void
bus__timer_set(struct bus__loop *loop, struct bus__timer *timer, int64_t due_ns)
{
	bus__timer_stop(loop, timer);
	timer->due_ns = due_ns;
	timer->next = loop->timers;
	loop->timers = timer;
	if (due_ns < loop->next_due_ns)
		loop->next_due_ns = due_ns;
}

void
bus__timer_stop(struct bus__loop *loop, struct bus__timer *timer)
{
	for (struct bus__timer **at = &loop->timers; *at != NULL; at = &(*at)->next)
		if (*at == timer) {
			*at = timer->next;
			break;
		}
	timer->due_ns = INT64_MAX;
}

/* --- descriptors -------------------------------------------------------------------------------------- */

int
bus__loop_watch(struct bus__loop *loop, struct bus__source *source, uint32_t events)
{
	if (loop->sleep == &on_word) {
		int err = bus__poller_open(&loop->poller);

		if (err < 0)
			return err;
		pthread_mutex_lock(&loop->lock);
		loop->sleep = &in_poller;
		pthread_mutex_unlock(&loop->lock);
	}
	return bus__poller_watch(&loop->poller, source, events | EPOLLET);
}

void
bus__loop_rewatch(struct bus__loop *loop, struct bus__source *source, uint32_t events)
{
	bus__poller_rewatch(&loop->poller, source, events | EPOLLET);
}

void
bus__loop_unwatch(struct bus__loop *loop, struct bus__source *source)
{
	bus__poller_unwatch(&loop->poller, source);
}
