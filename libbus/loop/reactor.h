/* loop/reactor.h: the one thread of a process on which doors wait for sockets, times and each other's jobs.
 *
 * Only this thread touches sources, alarms and their objects, so doors need no lock for their connections.
 * Nothing on this thread may block. */
#ifndef BUS_LOOP_REACTOR_H
#define BUS_LOOP_REACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/poller.h"

struct bus__reactor;

/* Queued at most once: posting a queued job again changes nothing. run() may free it. */
struct bus__job {
	void (*run)(struct bus__job *job);
	struct bus__job *next;
	bool posted;
};

/* ring() runs once, at due_ns (monotonic) or a moment later. */
struct bus__alarm {
	void (*ring)(struct bus__alarm *alarm);
	int64_t due_ns;
	struct bus__alarm *next;
	bool set;
};

/* Adds a user to the process's reactor; the first one starts it. A forked child starts its own.
 * 0, BUS_E_NOMEM, BUS_E_LIMIT, BUS_E_LOCKED, BUS_E_SYS.
 * Threads: any.  Blocks: never. */
int bus__reactor_take(struct bus__reactor **ret_reactor);

/* Removes a user; the last one stops the thread and joins it.
 * Threads: any but the reactor's.  Blocks: until a running job, source or alarm has returned. */
void bus__reactor_give(struct bus__reactor *reactor);

/* Threads: any. */
bool bus__reactor_is_here(const struct bus__reactor *reactor);

/* Threads: any.  Blocks: never. */
void bus__reactor_post(struct bus__reactor *reactor, struct bus__job *job);

/* Takes the job out of the queue. Threads: the reactor's. */
void bus__reactor_unpost(struct bus__reactor *reactor, struct bus__job *job);

/* Runs fn(arg) on the reactor's thread, after all jobs posted before, and waits for it.
 * Threads: any but the reactor's. */
void bus__reactor_call(struct bus__reactor *reactor, void (*fn)(void *arg), void *arg);

/* The other calls are for the reactor's thread. */

/* Watches source->fd for these events, level-triggered. 0, BUS_E_NOMEM, BUS_E_LIMIT or BUS_E_SYS. */
int bus__reactor_watch(struct bus__reactor *reactor, struct bus__source *source, uint32_t events);
void bus__reactor_rewatch(
    struct bus__reactor *reactor, struct bus__source *source, uint32_t events);

/* Ends a watch. ready() is not called any more, not even for events that epoll has reported already. Close the descriptor after
 * it. */
void bus__reactor_unwatch(struct bus__reactor *reactor, struct bus__source *source);

/* Sets an alarm, or moves it. */
void bus__alarm_set(struct bus__reactor *reactor, struct bus__alarm *alarm, int64_t due_ns);
void bus__alarm_stop(struct bus__reactor *reactor, struct bus__alarm *alarm);

#endif
