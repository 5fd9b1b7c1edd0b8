#define _GNU_SOURCE
#include "transport/socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "link/transport.h"

/* Heartbeats end a connection much earlier. These are for the time without heartbeats, before and after. */
enum { KEEP_ALIVE_S = 15, KEEP_ALIVE_EACH_S = 5, KEEP_ALIVE_TIMES = 3, UNACKED_MS = 30000 };

enum { BACKLOG = 4096 /* the system has a lower limit */ };

static const struct {
	int error, bus;
} errors[] = {
    {ENOMEM, BUS_E_NOMEM},
    {ENOBUFS, BUS_E_NOMEM},
    {EMFILE, BUS_E_LIMIT},
    {ENFILE, BUS_E_LIMIT},
    {ECONNREFUSED, BUS_E_REFUSED},
    {ENOENT, BUS_E_REFUSED},
    {EAGAIN, BUS_E_REFUSED}, /* a Unix socket whose backlog is full */
    {EADDRINUSE, BUS_E_ADDRESS_TAKEN},
    {EADDRNOTAVAIL, BUS_E_ADDRESS},
    {EACCES, BUS_E_DENIED},
    {EPERM, BUS_E_DENIED},
    {ETIMEDOUT, BUS_E_TIMEDOUT},
    {ECONNRESET, BUS_E_GONE},
    {ENETUNREACH, BUS_E_GONE},
    {EHOSTUNREACH, BUS_E_GONE},
};

int
bus__socket_error(int error)
{
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
		if (errors[i].error == error)
			return errors[i].bus;
	return BUS_E_SYS;
}

/* --- the two kinds ---------------------------------------------------------------------------------- */

union place {
	struct sockaddr any;
	struct sockaddr_un un;
	struct sockaddr_storage room;
};

static int
find_path(const struct bus__address *addr, union place *ret_place, socklen_t *ret_len)
{
	ret_place->un = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* The url has the same limit, so its NUL is copied, too. */
	memcpy(ret_place->un.sun_path, addr->name, sizeof ret_place->un.sun_path);
	*ret_len = sizeof ret_place->un;
	return 0;
}

/* The host is numeric, so there is no look-up. "*": all addresses. */
static int
find_host(const struct bus__address *addr, union place *ret_place, socklen_t *ret_len)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
			    .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE},
			*found;
	bool all = strcmp(addr->name, "*") == 0;
	char port[8];
	int err;

	snprintf(port, sizeof port, "%u", (unsigned)addr->port);
	err = getaddrinfo(all ? NULL : addr->name, port, &hints, &found);
	if (err != 0)
		return err == EAI_MEMORY ? BUS_E_NOMEM : BUS_E_ADDRESS;
	*ret_len = found->ai_addrlen;
	memcpy(ret_place, found->ai_addr, *ret_len);
	freeaddrinfo(found);
	return 0;
}

static void
leave_as_it_is(int fd)
{
	(void)fd;
}

static void
set(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof value);
}

/* Accepted sockets inherit these. */
static void
tune_tcp(int fd)
{
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_ALIVE_S);
	set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_ALIVE_EACH_S);
	set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_ALIVE_TIMES);
	set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKED_MS);
	/* After an outage that ends no connection, a link with little traffic resumes at once: the pauses between its
	 * retransmissions do not double. */
	set(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
}

/* No peer can connect before the socket listens. */
static int
only_for_our_user(int fd, struct bus__address *addr)
{
	(void)fd;
	return chmod(addr->name, 0600);
}

static int
learn_port(int fd, struct bus__address *addr)
{
	union place place;
	socklen_t len = sizeof place;

	if (getsockname(fd, &place.any, &len) != 0)
		return -1;
	/* The port has the same place in both families. */
	addr->port = ntohs(((const struct sockaddr_in *)(const void *)&place)->sin_port);
	return 0;
}

struct kind {
	int (*find)(const struct bus__address *addr, union place *ret_place, socklen_t *ret_len);
	void (*tune)(int fd);
	int (*before_listen)(int fd, struct bus__address *addr); /* 0, or -1 and errno */
	int (*after_listen)(int fd, struct bus__address *addr);
	bool has_file;
};

static int
nothing(int fd, struct bus__address *addr)
{
	(void)fd;
	(void)addr;
	return 0;
}

static const struct kind ipc = {find_path, leave_as_it_is, only_for_our_user, nothing, true};
static const struct kind tcp = {find_host, tune_tcp, nothing, learn_port, false};

static const struct kind *
kind_of(const struct bus__address *addr)
{
	return strcmp(addr->transport->scheme, "ipc") == 0 ? &ipc : &tcp;
}

/* --- operations -------------------------------------------------------------------------------------- */

static int
open_socket(const struct kind *kind, int family)
{
	int fd = bus__fd_above_std(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));

	if (fd >= 0)
		kind->tune(fd);
	return fd;
}

int
bus__socket_listen(struct bus__address *addr, int *ret_fd)
{
	const struct kind *kind = kind_of(addr);
	bool bound = false;
	union place place;
	socklen_t len;
	int fd, err;

	err = kind->find(addr, &place, &len);
	if (err < 0)
		return err;
	fd = open_socket(kind, place.any.sa_family);
	if (fd < 0)
		return bus__socket_error(errno);
	/* A port with only dead connections is free. */
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	bound = bind(fd, &place.any, len) == 0;
	if (bound && kind->before_listen(fd, addr) == 0 && listen(fd, BACKLOG) == 0 &&
	    kind->after_listen(fd, addr) == 0) {
		*ret_fd = fd;
		return 0;
	}
	err = errno;
	if (bound && kind->has_file)
		unlink(addr->name);
	bus__fd_close(fd);
	errno = err;
	return bus__socket_error(err);
}

/* Errors of a connection that has ended already are not errors of the listener. */
static bool
is_of_the_connection(int error)
{
	static const int them[] = {ECONNABORTED, EINTR, ENETDOWN, EPROTO, ENOPROTOOPT, EHOSTDOWN,
	    ENONET, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH};

	for (size_t i = 0; i < sizeof them / sizeof them[0]; i++)
		if (them[i] == error)
			return true;
	return false;
}

int
bus__socket_accept(int fd)
{
	int peer;

	do
		peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (peer < 0 && is_of_the_connection(errno));
	return bus__fd_above_std(peer);
}

int
bus__socket_connect(const struct bus__address *addr, int *ret_fd, bool *ret_connects)
{
	const struct kind *kind = kind_of(addr);
	union place place;
	socklen_t len;
	int fd, err;

	err = kind->find(addr, &place, &len);
	if (err < 0)
		return err;
	fd = open_socket(kind, place.any.sa_family);
	if (fd < 0)
		return bus__socket_error(errno);
	*ret_connects = connect(fd, &place.any, len) != 0;
	if (*ret_connects && errno != EINPROGRESS) {
		err = bus__socket_error(errno);
		bus__fd_close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

int
bus__socket_connected(int fd)
{
	int error = 0;
	socklen_t len = sizeof error;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}
