/* link/loop.h: the link thread of a bus. Everything that links do happens here, one thing after the
 * other: other threads only post tasks, and no other thread begins or ends an operation.
 * So links need no lock among themselves, and an operation can never begin after its stream was closed.
 *
 * The thread sleeps on a word (a futex) until the first descriptor is watched, and from then on in epoll_wait(). */
#ifndef BUS_LINK_LOOP_H
#define BUS_LINK_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "loop/poller.h"

/* Queued at most once: posting a queued task again changes nothing. */
struct bus__task {
	void (*run)(void *arg); /* on the link thread; may free the task */
	void *arg;
	struct bus__task *next;
	bool queued;
};

struct bus__timer {
	void (*fire)(void *arg);
	void *arg;
	int64_t due_ns; /* INT64_MAX: not set */
	struct bus__timer *next;
};

struct bus__loop_sleep;

struct bus__loop {
	pthread_mutex_t lock; /* guards all down to `bell`; held over no call */
	struct bus__task *first, **last;
	bool stop;
	bool asleep; /* the thread found no work: a post clears this, and rings */
	const struct bus__loop_sleep *sleep; /* how it sleeps */
	void (*at_end)(
	    void *arg); /* of a thread that is not joined: its last call; otherwise NULL */
	void *at_end_arg;
	_Atomic uint32_t bell; /* changes with each ring. Relaxed: the lock orders the posts. */
	pthread_t thread;
	struct bus__poller poller; /* opened by the first watch; any thread rings its bell */

	struct bus__timer *timers; /* from here on: link thread only */
	int64_t next_due_ns;
};

/* Starts the thread. 0, BUS_E_NOMEM or BUS_E_LIMIT. */
int bus__loop_start(struct bus__loop *loop);

/* Ends the thread; queued tasks do not run. */
void bus__loop_stop(struct bus__loop *loop);

/* Frees the loop's memory. The thread has ended, or calls this last; no thread posts any more. */
void bus__loop_fini(struct bus__loop *loop);

/* Ends the thread without a join: it calls at_end(arg), which may free the loop. Threads: the link thread. */
void bus__loop_end(struct bus__loop *loop, void (*at_end)(void *arg), void *arg);

/* Threads: any.  Blocks: never. */
void bus__loop_post(struct bus__loop *loop, struct bus__task *task);

/* Takes the task out of the queue. Threads: the link thread. */
void bus__loop_cancel(struct bus__loop *loop, struct bus__task *task);

/* Runs fn(arg) on the link thread and waits for it. Threads: any but the link thread. */
void bus__loop_call(struct bus__loop *loop, void (*fn)(void *arg), void *arg);

/* Sets a timer, or moves it. Threads: the link thread, for both. */
void bus__timer_set(struct bus__loop *loop, struct bus__timer *timer, int64_t due_ns);
void bus__timer_stop(struct bus__loop *loop, struct bus__timer *timer);

/* Watches source->fd for events of epoll, edge-triggered. The first call opens the poller: 0, BUS_E_NOMEM, BUS_E_LIMIT or
 * BUS_E_SYS.
 * Threads: the link thread, for all three. */
int bus__loop_watch(struct bus__loop *loop, struct bus__source *source, uint32_t events);
void bus__loop_rewatch(struct bus__loop *loop, struct bus__source *source, uint32_t events);
/* Ends the calls of ready(). Close the descriptor after it. */
void bus__loop_unwatch(struct bus__loop *loop, struct bus__source *source);

#endif
