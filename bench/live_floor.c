/* The least that a live page costs, for live.py: pages on a thread that does nothing but send() the same bytes to each.
 *
 * Run: live_floor PORT. Answers any request with the head of an event stream. For each line on its standard input it sends that
 * line as an event to all. Ends with standard input. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "must.h"

enum { PAGES_MOST = 1 << 16 };

static const char head[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
static int pages[PAGES_MOST], count, loop, listener;

static void
watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	must(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void
accept_page(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), yes = 1;

	must(fd >= 0, "accept4");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	watch(fd);
}

static void
forget(int fd)
{
	for (int i = 0; i < count; i++)
		if (pages[i] == fd)
			pages[i] = pages[--count];
	close(fd);
}

static void
answer(int fd)
{
	char request[4096];

	if (recv(fd, request, sizeof request, MSG_DONTWAIT) <= 0) {
		forget(fd);
		return;
	}
	must(count < PAGES_MOST && send(fd, head, sizeof head - 1, MSG_NOSIGNAL) > 0, "send");
	pages[count++] = fd; /* its events come behind the head */
}

static bool
send_line(void)
{
	char line[4096], event[4200];
	ssize_t len = read(0, line, sizeof line - 1);

	if (len <= 0)
		return false;
	line[len] = '\0';
	len = snprintf(event, sizeof event, "id: 0123456789abcdef-123456\ndata: %s\n", line);
	for (int i = 0; i < count; i++)
		(void)!send(pages[i], event, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
	return true;
}

int
main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons((uint16_t)(argc == 2 ? atoi(argv[1]) : 0))};
	struct epoll_event found[64];
	int yes = 1;

	if (argc != 2) {
		fprintf(stderr, "usage: live_floor PORT\n");
		return 2;
	}
	loop = epoll_create1(EPOLL_CLOEXEC);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(loop >= 0 && listener >= 0, "socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
	must(listen(listener, 1024) == 0, "listen");
	watch(listener);
	watch(0);
	for (;;) {
		int n = epoll_wait(loop, found, 64, -1);

		for (int i = 0; i < n; i++) {
			int fd = found[i].data.fd;

			if (fd == listener)
				accept_page();
			else if (fd != 0)
				answer(fd);
			else if (!send_line())
				return 0;
		}
	}
}
