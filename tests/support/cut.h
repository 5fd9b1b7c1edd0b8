/* support/cut.h: a wire that a test can hold, cut and mend: a tcp forwarder of one connection at a time. */
#ifndef CUT_H
#define CUT_H

#include "bus_test.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct cut {
	char url[64];            /* to dial */
	_Atomic uint16_t target; /* the port of whoever listens */
	_Atomic bool held;       /* bytes are taken in and not given out */
	_Atomic bool is_cut;     /* no connection stays, and new ones are closed */
	_Atomic bool stop;
	_Atomic unsigned connections;
	int listener;
	pthread_t thread;
};

static inline int
cut_connect(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	if (connect(fd, (struct sockaddr *)&in, sizeof in) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Gives on what has come. false: the connection ended. What was taken in and held is lost when it is cut. */
static inline bool
cut_forward(int from, int to)
{
	char bytes[65536];
	ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);

	for (ssize_t sent = 0, m; sent < n; sent += m) {
		m = send(to, bytes + sent, (size_t)(n - sent), MSG_NOSIGNAL);
		if (m < 0)
			return false;
	}
	return n > 0;
}

static inline void *
cut_main(void *arg)
{
	struct cut *cut = arg;
	int ends[2] = {-1, -1}, fd;

	while (!cut->stop) {
		struct pollfd polled[] = {
		    {.fd = cut->listener, .events = POLLIN},
		    {.fd = cut->held ? -1 : ends[0], .events = POLLIN},
		    {.fd = cut->held ? -1 : ends[1], .events = POLLIN},
		};
		bool over = cut->is_cut;

		poll(polled, 3, 5);
		for (int i = 0; i < 2 && !over && !cut->held; i++)
			if (ends[i] >= 0 && polled[1 + i].revents != 0)
				over = !cut_forward(ends[i], ends[1 - i]);
		fd = accept(cut->listener, NULL, NULL);
		if (over || fd >= 0) {
			for (int i = 0; i < 2; i++)
				if (ends[i] >= 0)
					close(ends[i]);
			ends[0] = ends[1] = -1;
		}
		if (fd >= 0 && (cut->is_cut || (ends[1] = cut_connect(cut->target)) < 0)) {
			close(fd);
		} else if (fd >= 0) {
			ends[0] = fd;
			cut->connections++;
		}
	}
	for (int i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
	return NULL;
}

/* A wire to the port at the end of the url. */
static inline void
cut_open(struct cut *cut, const char *url)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof in;

	cut->target = (uint16_t)atoi(strrchr(url, ':') + 1);
	cut->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_ge(cut->listener, 0);
	ck_assert_int_eq(bind(cut->listener, (struct sockaddr *)&in, len), 0);
	ck_assert_int_eq(listen(cut->listener, 16), 0);
	ck_assert_int_eq(getsockname(cut->listener, (struct sockaddr *)&in, &len), 0);
	snprintf(cut->url, sizeof cut->url, "tcp://127.0.0.1:%u", ntohs(in.sin_port));
	ck_assert_int_eq(pthread_create(&cut->thread, NULL, cut_main, cut), 0);
}

static inline void
cut_close(struct cut *cut)
{
	cut->stop = true;
	pthread_join(cut->thread, NULL);
	close(cut->listener);
}

#endif
