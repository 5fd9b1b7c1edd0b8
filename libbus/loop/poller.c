#define _GNU_SOURCE
#include "loop/poller.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>

#include <libbus/error.h>

#include "base/fd.h"

int
bus__poller_open(struct bus__poller *poller)
{
	/* Edge-triggered, so the bell is never read: each ring is an edge. */
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	poller->count = poller->at = 0;
	poller->epoll = bus__fd_above_std(epoll_create1(EPOLL_CLOEXEC));
	if (poller->epoll < 0)
		return errno == ENOMEM ? BUS_E_NOMEM : BUS_E_LIMIT;
	poller->bell = bus__fd_above_std(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (poller->bell >= 0 && epoll_ctl(poller->epoll, EPOLL_CTL_ADD, poller->bell, &event) == 0)
		return 0;
	if (poller->bell >= 0)
		bus__fd_close(poller->bell);
	bus__fd_close(poller->epoll);
	return errno == ENOMEM ? BUS_E_NOMEM : BUS_E_LIMIT;
}

void
bus__poller_close(struct bus__poller *poller)
{
	bus__fd_close(poller->bell);
	bus__fd_close(poller->epoll);
}

void
bus__poller_ring(struct bus__poller *poller)
{
	(void)!bus__fd_write(poller->bell, &(uint64_t){1}, sizeof(uint64_t));
}

void
bus__poller_wait(struct bus__poller *poller, int timeout_ms)
{
	poller->at = 0;
	poller->count = epoll_wait(poller->epoll, poller->events, BUS__POLLER_EVENTS, timeout_ms);
}

void
bus__poller_dispatch(struct bus__poller *poller)
{
	while (poller->at < poller->count) {
		struct epoll_event *event = &poller->events[poller->at++];
		struct bus__source *source = event->data.ptr;

		/* Otherwise the bell, or a source that has ended. */
		if (source != NULL)
			source->ready(source, event->events);
	}
}

int
bus__poller_watch(struct bus__poller *poller, struct bus__source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(poller->epoll, EPOLL_CTL_ADD, source->fd, &event) == 0)
		return 0;
	return errno == ENOMEM ? BUS_E_NOMEM : errno == ENOSPC ? BUS_E_LIMIT : BUS_E_SYS;
}

void
bus__poller_rewatch(struct bus__poller *poller, struct bus__source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	epoll_ctl(poller->epoll, EPOLL_CTL_MOD, source->fd, &event);
}

void
bus__poller_unwatch(struct bus__poller *poller, struct bus__source *source)
{
	epoll_ctl(poller->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	for (int i = poller->at; i < poller->count; i++)
		if (poller->events[i].data.ptr == source)
			poller->events[i].data.ptr = NULL;
}
