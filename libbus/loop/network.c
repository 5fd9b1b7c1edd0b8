#define _GNU_SOURCE
#include "loop/network.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "loop/reactor.h"

enum { READS_MOST = 64 /* of one look, before other sources are served */ };

/* `life` is held while the socket begins and ends, which waits for the reactor's thread; that thread takes `lock`. A fork waits
 * until both are free. The child has no watch: the links that it inherited do nothing there. */
static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of `watches` */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct bus__network_watch *watches;

static void ready(struct bus__source *source, uint32_t events);

static struct bus__source source = {.fd = -1, .ready = ready};

static void
take_locks(void)
{
	pthread_mutex_lock(&life);
	pthread_mutex_lock(&lock);
}

static void
leave_locks(void)
{
	pthread_mutex_unlock(&lock);
	pthread_mutex_unlock(&life);
}

static void
forget(void)
{
	watches = NULL;
	if (source.fd >= 0)
		bus__fd_close(source.fd);
	source.fd = -1;
	leave_locks();
}

static void
watch_forks(void)
{
	pthread_atfork(take_locks, leave_locks, forget);
}

/* The content of the messages does not matter: a link that waits tries the network. Lost messages (ENOBUFS) mean a change, too. */
static void
ready(struct bus__source *changed, uint32_t events)
{
	char message[64];
	bool any = false;

	(void)events;
	for (int i = 0; i < READS_MOST; i++) {
		if (recv(changed->fd, message, sizeof message, MSG_DONTWAIT | MSG_TRUNC) < 0 &&
		    errno != ENOBUFS)
			break;
		any = true;
	}
	if (!any)
		return;
	pthread_mutex_lock(&lock);
	for (struct bus__network_watch *watch = watches; watch != NULL; watch = watch->next)
		watch->changed(watch);
	pthread_mutex_unlock(&lock);
}

static int
open_socket(void)
{
	struct sockaddr_nl addr = {.nl_family = AF_NETLINK,
	    .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
	int fd = bus__fd_above_std(
	    socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));

	if (fd >= 0 && bind(fd, (const struct sockaddr *)(const void *)&addr, sizeof addr) == 0)
		return fd;
	if (fd >= 0)
		bus__fd_close(fd);
	return -1;
}

static void
close_socket(void)
{
	bus__fd_close(source.fd);
	source.fd = -1;
}

static void
start_source(void *reactor)
{
	if (bus__reactor_watch(reactor, &source, EPOLLIN) < 0)
		close_socket();
}

static void
stop_source(void *reactor)
{
	bus__reactor_unwatch(reactor, &source);
	close_socket();
}

void
bus__network_watch(struct bus__network_watch *watch)
{
	struct bus__reactor *reactor;

	/* The reactor first: a fork then takes our locks before the reactor's, in the order of the calls below. */
	if (bus__reactor_take(&reactor) < 0)
		return;
	pthread_once(&once, watch_forks);
	take_locks();
	if (watch->reactor != NULL) {
		leave_locks();
		bus__reactor_give(reactor);
		return;
	}
	watch->reactor = reactor;
	watch->next = watches;
	watches = watch;
	pthread_mutex_unlock(&lock);
	if (source.fd < 0) {
		source.fd = open_socket();
		if (source.fd >= 0)
			bus__reactor_call(watch->reactor, start_source, watch->reactor);
	}
	pthread_mutex_unlock(&life);
}

void
bus__network_unwatch(struct bus__network_watch *watch)
{
	struct bus__network_watch **at = &watches;
	bool last;

	if (watch->reactor == NULL)
		return;
	take_locks();
	while (*at != NULL && *at != watch)
		at = &(*at)->next;
	if (*at != NULL)
		*at = watch->next;
	last = watches == NULL;
	pthread_mutex_unlock(&lock);
	if (last && source.fd >= 0)
		bus__reactor_call(watch->reactor, stop_source, watch->reactor);
	pthread_mutex_unlock(&life);
	bus__reactor_give(watch->reactor);
	watch->reactor = NULL;
}
