/* loop/poller.h: the descriptors that one thread waits for, and a bell that any thread rings to wake it: epoll and an eventfd. */
#ifndef BUS_LOOP_POLLER_H
#define BUS_LOOP_POLLER_H

#include <stdint.h>
#include <sys/epoll.h>

/* A watched descriptor. ready() gets events of epoll (EPOLLIN and so on) and may end or free the source. */
struct bus__source {
	int fd;
	void (*ready)(struct bus__source *source, uint32_t events);
};

enum { BUS__POLLER_EVENTS = 64 /* per wait */ };

struct bus__poller {
	int epoll, bell;
	int count, at; /* number of events, and the next one */
	struct epoll_event events[BUS__POLLER_EVENTS];
};

/* 0, BUS_E_NOMEM or BUS_E_LIMIT. */
int bus__poller_open(struct bus__poller *poller);
void bus__poller_close(struct bus__poller *poller);

/* Wakes the thread, or ends its next wait at once.
 * Threads: any, until the poller is closed.  Blocks: never. */
void bus__poller_ring(struct bus__poller *poller);

/* The other calls are for the waiting thread. */

/* Waits for events, timeout_ms at most; -1: without a limit. */
void bus__poller_wait(struct bus__poller *poller, int timeout_ms);

/* Calls ready() of each source in the last wait's events. */
void bus__poller_dispatch(struct bus__poller *poller);

/* Watches source->fd for these events. 0, BUS_E_NOMEM, BUS_E_LIMIT or BUS_E_SYS. */
int bus__poller_watch(struct bus__poller *poller, struct bus__source *source, uint32_t events);
void bus__poller_rewatch(struct bus__poller *poller, struct bus__source *source, uint32_t events);

/* Ends a watch. ready() is not called any more, not even for events that epoll has reported already. Close the descriptor after
 * it. */
void bus__poller_unwatch(struct bus__poller *poller, struct bus__source *source);

#endif
