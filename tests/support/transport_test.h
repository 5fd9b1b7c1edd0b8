/* support/transport_test.h: a transport that can be told to misbehave. */
#ifndef TRANSPORT_TEST_H
#define TRANSPORT_TEST_H

#include "link_test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libbus/libbus.h>

#include "transport/blocking.h"

enum call { LISTEN, ACCEPT, DIAL, SEND, RECV, CALLS };

struct handle {
	int fd; /* of a listener: the end of a pipe from which it reads descriptors */
	struct handle *next;
	_Atomic int inside[CALLS];
	_Atomic bool is_closed;
};

static struct wild {
	_Atomic bool hangs[CALLS]; /* the call ignores its timeout, until this is false again */
	_Atomic int fails[CALLS];  /* what it returns; 0: it does what it should */
	_Atomic bool is_hasty;     /* no call waits */
	_Atomic size_t piece;      /* the most that a send or recv moves; 0: all */
	_Atomic int hung;          /* calls that hang right now */
	_Atomic int calls[CALLS];
	_Atomic int open, faults; /* handles; broken promises of the library */
	pthread_mutex_t lock;
	int door[2]; /* descriptors on their way from dial to accept */
	struct handle *conns;
} wild = {.lock = PTHREAD_MUTEX_INITIALIZER, .door = {-1, -1}};

/* Counts the call, and says whether it is to fail with *ret_err. */
static inline bool
enter(struct handle *handle, enum call call, int *ret_err)
{
	if (handle != NULL && (handle->is_closed || handle->inside[call]++ != 0))
		wild.faults++;
	wild.calls[call]++;
	if (wild.hangs[call]) {
		wild.hung++;
		while (wild.hangs[call])
			bus_test_nap();
		wild.hung--;
	}
	*ret_err = wild.fails[call];
	errno = ENODEV;
	return *ret_err != 0;
}

static inline int
leave(struct handle *handle, enum call call, int answer)
{
	if (handle != NULL)
		handle->inside[call]--;
	return answer;
}

static inline struct handle *
handle_new(int fd)
{
	struct handle *handle = calloc(1, sizeof *handle);

	handle->fd = fd;
	wild.open++;
	return handle;
}

static inline bool
is_ready(int fd, short what, int timeout_ms)
{
	struct pollfd at = {.fd = fd, .events = what};

	if (timeout_ms <= 0)
		wild.faults++;
	return poll(&at, 1, wild.is_hasty ? 0 : timeout_ms) == 1;
}

static inline int
wild_listen(void *arg, const char *address, void **ret_listener)
{
	int err;

	if (arg != &wild || strcmp(address, "here") != 0)
		return BUS_E_ADDRESS;
	if (enter(NULL, LISTEN, &err))
		return err;
	pthread_mutex_lock(&wild.lock);
	err = wild.door[1] >= 0 ? BUS_E_ADDRESS_TAKEN : pipe(wild.door);
	pthread_mutex_unlock(&wild.lock);
	if (err == 0)
		*ret_listener = handle_new(wild.door[0]);
	return err;
}

static inline int
wild_accept(void *listener, int timeout_ms, void **ret_conn)
{
	struct handle *handle = listener;
	int err, fd;

	if (!enter(handle, ACCEPT, &err)) {
		err = BUS_E_TIMEDOUT;
		if (is_ready(handle->fd, POLLIN, timeout_ms) &&
		    read(handle->fd, &fd, sizeof fd) == sizeof fd) {
			*ret_conn = handle_new(fd);
			err = 0;
		}
	}
	return leave(handle, ACCEPT, err);
}

static inline int
wild_dial(void *arg, const char *address, int timeout_ms, void **ret_conn)
{
	int err, fds[2];
	struct handle *handle;

	(void)timeout_ms;
	if (arg != &wild || strcmp(address, "here") != 0)
		return BUS_E_ADDRESS;
	if (enter(NULL, DIAL, &err))
		return err;
	pthread_mutex_lock(&wild.lock);
	err = BUS_E_REFUSED;
	if (wild.door[1] >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0) {
		if (write(wild.door[1], &fds[1], sizeof fds[1]) == sizeof fds[1])
			err = 0;
		handle = handle_new(fds[0]);
		handle->next = wild.conns;
		wild.conns = handle;
		*ret_conn = handle;
	}
	pthread_mutex_unlock(&wild.lock);
	return err;
}

static inline size_t
piece_of(size_t len)
{
	size_t piece = wild.piece;

	return piece != 0 && piece < len ? piece : len;
}

static inline int
wild_send(void *conn, const void *data, size_t len, int timeout_ms)
{
	struct handle *handle = conn;
	int err;

	if (!enter(handle, SEND, &err)) {
		err = BUS_E_TIMEDOUT;
		if (len == 0 || len > 64 * 1024)
			wild.faults++;
		if (is_ready(handle->fd, POLLOUT, timeout_ms))
			err =
			    (int)send(handle->fd, data, piece_of(len), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	return leave(handle, SEND, err);
}

static inline int
wild_recv(void *conn, void *ret_data, size_t cap, int timeout_ms)
{
	struct handle *handle = conn;
	int err;

	if (!enter(handle, RECV, &err)) {
		err = BUS_E_TIMEDOUT;
		if (is_ready(handle->fd, POLLIN, timeout_ms))
			err = (int)recv(handle->fd, ret_data, piece_of(cap), MSG_DONTWAIT);
	}
	return leave(handle, RECV, err);
}

static inline void
wild_close(void *handle)
{
	struct handle *closing = handle;

	for (int call = 0; call < CALLS; call++)
		wild.faults += closing->inside[call] != 0;
	wild.faults += closing->is_closed;
	closing->is_closed = true;
	pthread_mutex_lock(&wild.lock);
	if (closing->fd == wild.door[0]) {
		close(wild.door[1]);
		wild.door[0] = wild.door[1] = -1;
	}
	close(closing->fd);
	for (struct handle **at = &wild.conns; *at != NULL; at = &(*at)->next)
		if (*at == closing) {
			*at = closing->next;
			break;
		}
	pthread_mutex_unlock(&wild.lock);
	wild.open--;
	free(closing);
}

/* The library keeps nothing of it: it is gone when the call returns. */
static inline int
register_as(const char *text)
{
	char scheme[300];
	struct bus_transport transport = {.size = sizeof transport,
	    .scheme = scheme,
	    .arg = &wild,
	    .listen = wild_listen,
	    .accept = wild_accept,
	    .dial = wild_dial,
	    .send = wild_send,
	    .recv = wild_recv,
	    .close = wild_close};
	int err;

	snprintf(scheme, sizeof scheme, "%s", text);
	err = bus_transport_register(&transport);
	memset(scheme, '?', sizeof scheme);
	memset(&transport, 0, sizeof transport);
	return err;
}

static inline void
be_wild(void)
{
	int err = register_as("wild");

	for (int call = 0; call < CALLS; call++)
		wild.calls[call] = 0;
	ck_assert(
	    err == 0 || err == BUS_E_EXIST); /* a test before this one, where none is forked */
}

/* Nothing is left of the test, and the library kept what it promises to the functions. */
static inline void
expect_peace(void)
{
	ck_eventually(wild.open == 0);
	ck_assert_int_eq(wild.faults, 0);
}

static const struct bus_link_config patient = {.size = sizeof patient, .heartbeat_ms = 3600000};

static inline void
pair_over_wild(struct pair *p)
{
	be_wild();
	*p = (struct pair){.a = open_bus(), .b = open_bus()};
	ck_bus(bus_listen(p->a, "wild://here", &patient, &p->la), 0);
	ck_bus(bus_dial(p->b, "wild://here", &patient, &p->lb), 0);
}

static inline void
pair_up(struct pair *p)
{
	pair_over_wild(p);
	ck_eventually(is_up(p->lb));
}

/* A message from one to the other, without a callback. */
static inline void
expect_payload(struct pair *p, size_t len)
{
	const struct bus_mailbox_config large = {.size = sizeof large, .bytes = 4 << 20};
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	uint8_t *data = malloc(len + 1);
	static unsigned count;
	char topic[16];

	snprintf(topic, sizeof topic, "n/%u", count++); /* more than one of it may arrive */
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	ck_bus(bus_mailbox_open(p->b, &large, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, topic, NULL, NULL, NULL), 0);
	ck_eventually((bus_publish(p->a, topic, data, len), bus_recv(mbox, 1, &msg) == 1));
	ck_assert_uint_eq(msg->len, len);
	ck_assert(len == 0 || memcmp(msg->data, data, len) == 0);
	bus_mailbox_close(mbox);
	free(data);
}

/* The text of the last failure has the words. */
static inline void
expect_text(const char *words)
{
	ck_assert_msg(strstr(bus_error_text(), words) != NULL, "\"%s\" lacks \"%s\"",
	    bus_error_text(), words);
}

static inline void
release(enum call call)
{
	wild.hangs[call] = false;
	ck_eventually(wild.hung == 0);
}

#endif
