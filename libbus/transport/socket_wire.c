/* Sockets that the link thread waits for. A send or a receive is tried at once; the rest follows when
 * epoll reports an edge. */
#define _GNU_SOURCE
#include "transport/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "base/mem.h"
#include "transport/socket.h"

enum {
	PARTS_MOST = 4,
	GONE = EPOLLRDHUP | EPOLLHUP | EPOLLERR, /* no edge may follow */
	WATCHED = EPOLLIN | EPOLLRDHUP
};

int
bus__wire_check(void)
{
	return 0;
}

/* --- streams ---------------------------------------------------------------------------------------- */

struct socket_stream {
	struct bus__stream base;
	struct bus__source source;
	struct bus__loop *loop;
	struct bus__io *send_io, *recv_io; /* under way; NULL: none */
	struct iovec iov[PARTS_MOST];
	unsigned parts;
	void *buf;
	size_t len;
	bool readable; /* there may be more to read */
	bool
	    is_over; /* the peer ended it, or it broke: after the remaining bytes reads return an error */
	bool is_full; /* a send was cut */
	bool waits;   /* epoll reports when there is room for more */
};

/* Asks for events of free room only on demand: a Unix socket sends one with each read of its peer. */
static void
wait_for_room(struct socket_stream *s, bool waits)
{
	if (s->waits == waits)
		return;
	s->waits = waits;
	bus__loop_rewatch(s->loop, &s->source, waits ? WATCHED | EPOLLOUT : WATCHED);
}

static size_t
total(const struct iovec *iov, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* false: not now. */
static bool
try_send(struct socket_stream *s, struct bus__io *io)
{
	struct msghdr msg = {.msg_iov = s->iov, .msg_iovlen = s->parts};
	ssize_t sent;

	do
		sent = sendmsg(s->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	s->is_full = sent < 0 ? errno == EAGAIN : (size_t)sent < total(s->iov, s->parts);
	if (sent < 0 && s->is_full)
		return false;
	io->err = sent < 0 ? BUS_E_GONE : 0;
	io->count = sent < 0 ? 0 : (size_t)sent;
	s->send_io = NULL;
	return true;
}

/* false: there is nothing. A short read has emptied the socket, and the next byte is an edge. */
static bool
try_recv(struct socket_stream *s, struct bus__io *io)
{
	ssize_t got;

	do
		got = recv(s->source.fd, s->buf, s->len, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	s->readable = s->is_over || (got > 0 && (size_t)got == s->len);
	if (got < 0 && errno == EAGAIN)
		return false;
	io->err = got > 0 ? 0 : BUS_E_GONE;
	io->count = got > 0 ? (size_t)got : 0;
	s->recv_io = NULL;
	return true;
}

static void
post(struct bus__io *io)
{
	bus__loop_post(io->loop, &io->task);
}

/* Read last: its task runs at once, and may free the stream. */
static void
stream_ready(struct bus__source *source, uint32_t events)
{
	struct socket_stream *s =
	    (struct socket_stream *)((char *)source - offsetof(struct socket_stream, source));
	struct bus__io *io = s->send_io;

	s->readable = s->readable || (events & (EPOLLIN | GONE)) != 0;
	s->is_over = s->is_over || (events & GONE) != 0;
	if ((events & (EPOLLOUT | GONE)) != 0) {
		s->is_full = false;
		if (io == NULL)
			wait_for_room(s, false);
		else if (try_send(s, io))
			post(io);
	}
	io = s->recv_io;
	if (io != NULL && s->readable && try_recv(s, io))
		io->task.run(io->task.arg);
}

static void
stream_send(struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io)
{
	struct socket_stream *s = (struct socket_stream *)stream;

	memcpy(s->iov, iov, n * sizeof *iov);
	s->parts = n;
	s->send_io = io;
	if (!s->is_full && try_send(s, io))
		post(io);
	else
		wait_for_room(s, true);
}

static void
stream_recv(struct bus__stream *stream, void *buf, size_t len, struct bus__io *io)
{
	struct socket_stream *s = (struct socket_stream *)stream;

	s->buf = buf;
	s->len = len;
	s->recv_io = io;
	if (s->readable && try_recv(s, io))
		post(io);
}

static int
admit_anyone(struct bus__stream *stream)
{
	(void)stream;
	return 0;
}

static int
admit_our_user(struct bus__stream *stream)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	if (getsockopt(((struct socket_stream *)stream)->source.fd, SOL_SOCKET, SO_PEERCRED, &peer,
		&len) != 0)
		return BUS_E_DENIED;
	return peer.uid == geteuid() || peer.uid == 0 ? 0 : BUS_E_DENIED;
}

static void
stream_free(struct bus__stream *stream)
{
	struct socket_stream *s = (struct socket_stream *)stream;

	bus__loop_unwatch(s->loop, &s->source);
	/* Tells the peer even if a forked child has the descriptor, too. */
	shutdown(s->source.fd, SHUT_RDWR);
	bus__fd_close(s->source.fd);
	bus__free(s);
}

static int
tcp_remote(struct bus__stream *stream, struct sockaddr_storage *ret_addr)
{
	socklen_t len = sizeof *ret_addr;

	*ret_addr = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
	return getpeername(((struct socket_stream *)stream)->source.fd, (struct sockaddr *)ret_addr,
		   &len) == 0
		   ? 0
		   : BUS_E_GONE;
}

static const struct bus__stream_ops tcp_stream_ops = {.send = stream_send,
    .recv = stream_recv,
    .admit = admit_anyone,
    .free = stream_free,
    .remote = tcp_remote};
static const struct bus__stream_ops ipc_stream_ops = {
    .send = stream_send, .recv = stream_recv, .admit = admit_our_user, .free = stream_free};

static const struct bus__stream_ops *
ops_of(const struct bus__address *addr)
{
	return strcmp(addr->transport->scheme, "ipc") == 0 ? &ipc_stream_ops : &tcp_stream_ops;
}

static struct socket_stream *
stream_new(struct bus__loop *loop, const struct bus__stream_ops *ops)
{
	struct socket_stream *s = bus__calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->base.ops = ops;
	s->source = (struct bus__source){.fd = -1, .ready = stream_ready};
	s->loop = loop;
	return s;
}

/* Ends an attempt and closes its socket. */
static void
stream_drop(struct socket_stream *s)
{
	if (s->source.fd >= 0)
		bus__fd_close(s->source.fd);
	bus__free(s);
}

/* --- listening -------------------------------------------------------------------------------------- */

struct socket_listener {
	struct bus__listener base;
	struct bus__source source;
	struct bus__loop *loop; /* NULL: no accept yet */
	struct bus__io *io;     /* the accept under way */
	const struct bus__stream_ops *ops;
	struct socket_stream
	    *next;                /* for the next peer: then a lack of memory loses no connection */
	char path[BUS__URL_PATH]; /* of the file to remove with it; otherwise "" */
};

/* false: no peer waits. */
static bool
try_accept(struct socket_listener *l, struct bus__io *io)
{
	struct socket_stream *s = l->next;
	int err = 0;

	s->source.fd = bus__socket_accept(l->source.fd);
	if (s->source.fd < 0 && errno == EAGAIN)
		return false;
	if (s->source.fd < 0)
		err = bus__socket_error(errno);
	else
		err = bus__loop_watch(l->loop, &s->source, WATCHED);
	l->io = NULL;
	l->next = NULL;
	if (err < 0)
		stream_drop(s);
	else
		io->stream = &s->base;
	bus__io_done(io, err, 0);
	return true;
}

static void
listener_ready(struct bus__source *source, uint32_t events)
{
	struct socket_listener *l =
	    (struct socket_listener *)((char *)source - offsetof(struct socket_listener, source));

	(void)events;
	if (l->io != NULL)
		try_accept(l, l->io);
}

static void
listener_accept(struct bus__listener *listener, struct bus__io *io)
{
	struct socket_listener *l = (struct socket_listener *)listener;
	int err = l->loop == NULL ? bus__loop_watch(io->loop, &l->source, EPOLLIN) : 0;

	if (err == 0)
		l->loop = io->loop;
	if (err == 0 && l->next == NULL)
		l->next = stream_new(io->loop, l->ops);
	if (err == 0 && l->next == NULL)
		err = BUS_E_NOMEM;
	if (err < 0) {
		bus__io_done(io, err, 0);
		return;
	}
	l->io = io;
	try_accept(l, io);
}

static void
listener_free(struct bus__listener *listener)
{
	struct socket_listener *l = (struct socket_listener *)listener;

	if (l->loop != NULL)
		bus__loop_unwatch(l->loop, &l->source);
	if (l->path[0] != '\0')
		unlink(l->path);
	shutdown(l->source.fd, SHUT_RDWR); /* as for streams */
	bus__fd_close(l->source.fd);
	if (l->next != NULL)
		stream_drop(l->next);
	bus__free(l);
}

static const struct bus__listener_ops listener_ops = {listener_accept, listener_free};

int
bus__wire_listen(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener)
{
	struct socket_listener *l = bus__calloc(1, sizeof *l);
	int err;

	(void)terms;
	if (l == NULL)
		return BUS_E_NOMEM;
	l->base.ops = &listener_ops;
	l->ops = ops_of(addr);
	err = bus__socket_listen(addr, &l->source.fd);
	if (err < 0) {
		bus__free(l);
		return err;
	}
	l->source.ready = listener_ready;
	if (l->ops == &ipc_stream_ops)
		memcpy(
		    l->path, addr->name, strlen(addr->name) + 1); /* the url has the same limit */
	*ret_listener = &l->base;
	return 0;
}

/* --- dialling --------------------------------------------------------------------------------------- */

struct socket_dialer {
	struct bus__dialer base;
	struct bus__source source; /* the future stream's, while it connects */
	struct bus__io *io;
	struct socket_stream *next; /* NULL: the attempt is complete */
};

static void
end_attempt(struct socket_dialer *d, int err)
{
	struct socket_stream *s = d->next;
	struct bus__loop *loop = s->loop;

	d->next = NULL;
	s->source.fd = d->source.fd;
	if (err == 0)
		err = bus__loop_watch(loop, &s->source, WATCHED);
	if (err < 0)
		stream_drop(s);
	else
		d->io->stream = &s->base;
	bus__io_done(d->io, err, 0);
}

static void
dialer_ready(struct bus__source *source, uint32_t events)
{
	struct socket_dialer *d =
	    (struct socket_dialer *)((char *)source - offsetof(struct socket_dialer, source));
	int error = bus__socket_connected(source->fd);

	(void)events;
	bus__loop_unwatch(d->next->loop, source);
	end_attempt(d, error == 0 ? 0 : bus__socket_error(error));
}

static void
dialer_free(struct bus__dialer *dialer)
{
	struct socket_dialer *d = (struct socket_dialer *)dialer;

	if (d->next != NULL) {
		bus__loop_unwatch(d->next->loop, &d->source);
		d->next->source.fd = d->source.fd;
		stream_drop(d->next);
	}
	bus__free(d);
}

static const struct bus__dialer_ops dialer_ops = {dialer_free};

int
bus__wire_dial(const struct bus__address *addr, const struct bus__terms *terms, struct bus__io *io,
    struct bus__dialer **ret_dialer)
{
	struct socket_dialer *d = bus__calloc(1, sizeof *d);
	int err = BUS_E_NOMEM;
	bool connects;

	(void)terms;
	if (d == NULL)
		return err;
	d->base.ops = &dialer_ops;
	d->source.ready = dialer_ready;
	d->io = io;
	d->next = stream_new(io->loop, ops_of(addr));
	if (d->next == NULL)
		goto free_dialer;
	err = bus__socket_connect(addr, &d->source.fd, &connects);
	if (err < 0)
		goto free_next;
	if (connects)
		err = bus__loop_watch(io->loop, &d->source, EPOLLOUT);
	else
		end_attempt(d, 0);
	if (err < 0)
		goto close_socket;
	*ret_dialer = &d->base;
	return 0;

close_socket:
	bus__fd_close(d->source.fd);
free_next:
	stream_drop(d->next);
free_dialer:
	bus__free(d);
	return err;
}
