/* inproc://name: two buses of one process. A send and a receive meet in memory, and the bytes are copied
 * once, straight from one side's buffers into the other's: no thread, no descriptor, no NNG. */
#include "transport/table.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <libbus/error.h>

#include "base/mem.h"
#include "transport/names.h"

enum { IOV_MAX_PARTS = 4 };

/* --- streams ---------------------------------------------------------------------------------------- */

struct end {
	struct bus__stream base;
	struct pipe *pipe;
	bool open;
	struct bus__io *send_io, *recv_io; /* under way; NULL: none */
	struct iovec iov[IOV_MAX_PARTS];
	unsigned parts;
	void *buf;
	size_t len;
};

struct pipe {
	pthread_mutex_t lock;
	struct end ends[2];
};

static struct end *
other(struct end *end)
{
	return end == &end->pipe->ends[0] ? &end->pipe->ends[1] : &end->pipe->ends[0];
}

static void
finish(struct bus__io **at, int err, size_t count)
{
	struct bus__io *io = *at;

	*at = NULL;
	if (io != NULL)
		bus__io_done(io, err, count);
}

/* Moves bytes if `from` sends and `to` receives; the shorter of the two decides. Lock held. */
static void
meet(struct end *from, struct end *to)
{
	size_t count = 0;

	if (from->send_io == NULL || to->recv_io == NULL)
		return;
	for (unsigned i = 0; i < from->parts && count < to->len; i++) {
		size_t room = to->len - count;
		size_t n = from->iov[i].iov_len < room ? from->iov[i].iov_len : room;

		memcpy((char *)to->buf + count, from->iov[i].iov_base, n);
		count += n;
	}
	finish(&from->send_io, 0, count);
	finish(&to->recv_io, 0, count);
}

static void
end_send(struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io)
{
	struct end *end = (struct end *)stream;

	pthread_mutex_lock(&end->pipe->lock);
	if (other(end)->open) {
		memcpy(end->iov, iov, n * sizeof *iov);
		end->parts = n;
		end->send_io = io;
		meet(end, other(end));
	} else {
		bus__io_done(io, BUS_E_GONE, 0);
	}
	pthread_mutex_unlock(&end->pipe->lock);
}

static void
end_recv(struct bus__stream *stream, void *buf, size_t len, struct bus__io *io)
{
	struct end *end = (struct end *)stream;

	pthread_mutex_lock(&end->pipe->lock);
	if (other(end)->open) {
		end->buf = buf;
		end->len = len;
		end->recv_io = io;
		meet(other(end), end);
	} else {
		bus__io_done(io, BUS_E_GONE, 0);
	}
	pthread_mutex_unlock(&end->pipe->lock);
}

static int
end_admit(struct bus__stream *stream)
{
	(void)stream;
	return 0;
}

static void
end_free(struct bus__stream *stream)
{
	struct end *end = (struct end *)stream;
	struct pipe *pipe = end->pipe;
	bool last;

	pthread_mutex_lock(&pipe->lock);
	end->open = false;
	end->send_io = NULL;
	end->recv_io = NULL;
	finish(&other(end)->send_io, BUS_E_GONE, 0);
	finish(&other(end)->recv_io, BUS_E_GONE, 0);
	last = !other(end)->open;
	pthread_mutex_unlock(&pipe->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&pipe->lock);
	bus__free(pipe);
}

static const struct bus__stream_ops end_ops = {
    .send = end_send, .recv = end_recv, .admit = end_admit, .free = end_free};

static struct pipe *
pipe_new(void)
{
	struct pipe *pipe = bus__calloc(1, sizeof *pipe);

	if (pipe == NULL)
		return NULL;
	pthread_mutex_init(&pipe->lock, NULL);
	for (int i = 0; i < 2; i++) {
		pipe->ends[i].base.ops = &end_ops;
		pipe->ends[i].pipe = pipe;
		pipe->ends[i].open = true;
	}
	return pipe;
}

/* --- listening and dialling ------------------------------------------------------------------------- */

enum { BACKLOG = 128 };

/* Guarded by the lock of names. */
struct inproc_listener {
	struct bus__listener base;
	struct bus__name name;
	struct bus__io *accept_io;
	struct bus__stream *waiting[BACKLOG]; /* connected, not accepted yet */
	unsigned count;
	char text[BUS__URL_NAME];
};

static void
listener_accept(struct bus__listener *listener, struct bus__io *io)
{
	struct inproc_listener *inproc = (struct inproc_listener *)listener;

	bus__names_lock();
	if (inproc->count > 0) {
		io->stream = inproc->waiting[0];
		inproc->count--;
		memmove(inproc->waiting, inproc->waiting + 1,
		    inproc->count * sizeof inproc->waiting[0]);
		bus__io_done(io, 0, 0);
	} else {
		inproc->accept_io = io;
	}
	bus__names_unlock();
}

static void
listener_free(struct bus__listener *listener)
{
	struct inproc_listener *inproc = (struct inproc_listener *)listener;

	bus__names_lock();
	bus__names_remove(&inproc->name);
	bus__names_unlock();
	for (unsigned i = 0; i < inproc->count; i++)
		end_free(inproc->waiting[i]);
	bus__free(inproc);
}

static const struct bus__listener_ops listener_ops = {listener_accept, listener_free};

static int
check(const struct bus__address *addr, const struct bus__terms *terms, struct bus__address *numeric)
{
	(void)terms;
	*numeric = *addr;
	return 0;
}

static int
listen_at(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener)
{
	struct inproc_listener *inproc = bus__calloc(1, sizeof *inproc);
	bool added;

	(void)terms;
	if (inproc == NULL)
		return BUS_E_NOMEM;
	inproc->base.ops = &listener_ops;
	memcpy(inproc->text, addr->name, sizeof inproc->text);
	inproc->name = (struct bus__name){.scheme = "inproc", .text = inproc->text};
	bus__names_lock();
	added = bus__names_add(&inproc->name);
	bus__names_unlock();
	if (!added) {
		bus__free(inproc);
		return BUS_E_ADDRESS_TAKEN;
	}
	*ret_listener = &inproc->base;
	return 0;
}

/* Lock of names held. */
static int
connect_to(const char *text, struct bus__stream *stream)
{
	struct bus__name *name = bus__names_find("inproc", text);
	struct inproc_listener *inproc;

	if (name == NULL)
		return BUS_E_REFUSED;
	inproc = (struct inproc_listener *)((char *)name - offsetof(struct inproc_listener, name));
	if (inproc->accept_io != NULL) {
		inproc->accept_io->stream = stream;
		bus__io_done(inproc->accept_io, 0, 0);
		inproc->accept_io = NULL;
	} else if (inproc->count < BACKLOG) {
		inproc->waiting[inproc->count++] = stream;
	} else {
		return BUS_E_REFUSED;
	}
	return 0;
}

static void
dialer_free(struct bus__dialer *dialer)
{
	(void)dialer; /* the attempt completed inside dial() */
}

static struct bus__dialer no_dialer = {&(const struct bus__dialer_ops){dialer_free}};

static int
dial(const struct bus__address *addr, const struct bus__terms *terms, struct bus__io *io,
    struct bus__dialer **ret_dialer)
{
	struct pipe *pipe = pipe_new();
	int err;

	(void)terms;
	if (pipe == NULL)
		return BUS_E_NOMEM;
	bus__names_lock();
	err = connect_to(addr->name, &pipe->ends[1].base);
	bus__names_unlock();
	if (err < 0) {
		end_free(&pipe->ends[1].base);
		end_free(&pipe->ends[0].base);
		return err;
	}
	io->stream = &pipe->ends[0].base;
	bus__io_done(io, 0, 0);
	*ret_dialer = &no_dialer;
	return 0;
}

const struct bus__transport bus__transport_inproc = {
    .scheme = "inproc",
    .form = &bus__form_name,
    .check = check,
    .listen = listen_at,
    .dial = dial,
};
