/* transport/blocking_conn.c: a connection of a registered transport. One thread blocks in recv, one in send, each with a buffer of
 * the connection. */
#include <string.h>
#include <sys/uio.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/thread.h"
#include "transport/endpoint.h"

#define BUFFER ((size_t)64 * 1024)

enum { READER, WRITER };

struct conn {
	struct endpoint endpoint;
	struct bus__io *recv_io, *send_io; /* under way; NULL: none */
	void *into;                        /* the buffer of recv_io */
	size_t room;
	size_t in_at, in_len; /* received bytes; the reader waits until the link took all */
	int in_err;           /* after those bytes; permanent */
	size_t out_len;       /* bytes that the writer sends; 0: it waits */
	uint8_t in[BUFFER], out[BUFFER];
};

/* Completes the receive under way if there are bytes or an error for it. Lock held. */
static void
give(struct conn *conn)
{
	size_t count = conn->in_len - conn->in_at;

	if (conn->recv_io == NULL || (count == 0 && conn->in_err == 0))
		return;
	if (count > conn->room)
		count = conn->room;
	if (count > 0) {
		memcpy(conn->into, conn->in + conn->in_at, count);
		conn->in_at += count;
		if (conn->in_at == conn->in_len) {
			conn->in_at = conn->in_len = 0;
			bus__endpoint_ring(&conn->endpoint, READER);
		}
	}
	bus__io_done(conn->recv_io, count > 0 ? 0 : conn->in_err, count);
	conn->recv_io = NULL;
}

static bool
has_room(const struct endpoint *endpoint)
{
	const struct conn *conn = (const struct conn *)endpoint;

	return conn->in_len == 0 && conn->in_err == 0;
}

/* Checks the result of a send or recv of `most` bytes. Below 0: BUS_E_TIMEDOUT, or an error that ends the connection. */
static int
check_count(int count, size_t most)
{
	return count > 0 && (size_t)count > most ? BUS_E_INVAL : count;
}

static void *
run_reader(void *arg)
{
	struct conn *conn = arg;
	struct endpoint *endpoint = &conn->endpoint;
	int64_t began_ns;
	int count;

	bus__thread_name("bus-recv");
	while (bus__endpoint_await(endpoint, READER, has_room)) {
		do {
			began_ns = bus__now_ns();
			count = check_count(endpoint->kind->given.recv(endpoint->handle, conn->in,
						BUFFER, BLOCKING_LOOK_MS),
			    BUFFER);
		} while (bus__endpoint_goes_on(endpoint, READER, began_ns, count));
		pthread_mutex_lock(&endpoint->lock);
		if (count > 0)
			conn->in_len = (size_t)count;
		else
			conn->in_err = count < 0 ? count : BUS_E_GONE;
		give(conn);
		pthread_mutex_unlock(&endpoint->lock);
	}
	bus__endpoint_leave(endpoint);
	return NULL;
}

static bool
has_bytes(const struct endpoint *endpoint)
{
	return ((const struct conn *)endpoint)->out_len > 0;
}

/* Sends all of `out`. 0 or an error. */
static int
send_out(struct conn *conn)
{
	struct endpoint *endpoint = &conn->endpoint;
	size_t at = 0, len = conn->out_len;
	int64_t began_ns;
	int count;

	while (at < len) {
		do {
			began_ns = bus__now_ns();
			count = check_count(endpoint->kind->given.send(endpoint->handle,
						conn->out + at, len - at, BLOCKING_LOOK_MS),
			    len - at);
			if (count == 0)
				count = BUS_E_TIMEDOUT;
		} while (bus__endpoint_goes_on(endpoint, WRITER, began_ns, count));
		if (count < 0)
			return count;
		at += (size_t)count;
	}
	return 0;
}

static void *
run_writer(void *arg)
{
	struct conn *conn = arg;
	struct endpoint *endpoint = &conn->endpoint;
	int err;

	bus__thread_name("bus-send");
	while (bus__endpoint_await(endpoint, WRITER, has_bytes)) {
		err = send_out(conn);
		pthread_mutex_lock(&endpoint->lock);
		if (conn->send_io != NULL)
			bus__io_done(conn->send_io, err, err == 0 ? conn->out_len : 0);
		conn->send_io = NULL;
		conn->out_len = 0;
		pthread_mutex_unlock(&endpoint->lock);
	}
	bus__endpoint_leave(endpoint);
	return NULL;
}

static void
conn_send(struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io)
{
	struct conn *conn = (struct conn *)stream;

	/* The writer reads them under the lock. */
	pthread_mutex_lock(&conn->endpoint.lock);
	for (unsigned i = 0; i < n && conn->out_len < BUFFER; i++) {
		size_t room = BUFFER - conn->out_len;
		size_t len = iov[i].iov_len < room ? iov[i].iov_len : room;

		memcpy(conn->out + conn->out_len, iov[i].iov_base, len);
		conn->out_len += len;
	}
	conn->send_io = io;
	bus__endpoint_ring(&conn->endpoint, WRITER);
	pthread_mutex_unlock(&conn->endpoint.lock);
}

static void
conn_recv(struct bus__stream *stream, void *buf, size_t len, struct bus__io *io)
{
	struct conn *conn = (struct conn *)stream;

	pthread_mutex_lock(&conn->endpoint.lock);
	conn->into = buf;
	conn->room = len;
	conn->recv_io = io;
	give(conn);
	pthread_mutex_unlock(&conn->endpoint.lock);
}

/* The transport's accept() has admitted it. */
static int
conn_admit(struct bus__stream *stream)
{
	(void)stream;
	return 0;
}

static void
conn_free(struct bus__stream *stream)
{
	struct conn *conn = (struct conn *)stream;

	pthread_mutex_lock(&conn->endpoint.lock);
	conn->recv_io = conn->send_io = NULL;
	bus__endpoint_let_go(&conn->endpoint);
	pthread_mutex_unlock(&conn->endpoint.lock);
}

static const struct bus__stream_ops conn_ops = {
    .send = conn_send, .recv = conn_recv, .admit = conn_admit, .free = conn_free};

/* Owns the handle from here on, also on failure. */
static int
conn_new(struct blocking *kind, void *handle, struct bus__stream **ret_stream)
{
	struct endpoint *endpoint = bus__endpoint_new(kind, sizeof(struct conn));
	int err;

	if (endpoint == NULL) {
		kind->given.close(handle);
		return BUS_E_NOMEM;
	}
	endpoint->base.stream.ops = &conn_ops;
	endpoint->handle = handle;
	endpoint->has_handle = true;
	err = bus__endpoint_start(endpoint, run_writer);
	if (err < 0) {
		bus__endpoint_free(endpoint);
		return err;
	}
	err = bus__endpoint_start(endpoint, run_reader);
	if (err < 0) {
		conn_free(&endpoint->base.stream);
		return err;
	}
	*ret_stream = &endpoint->base.stream;
	return 0;
}

void
bus__blocking_bring(struct endpoint *endpoint, struct bus__io **at, int err, void *handle)
{
	struct bus__stream *stream = NULL;

	if (err == 0)
		err = conn_new(endpoint->kind, handle, &stream);
	pthread_mutex_lock(&endpoint->lock);
	if (*at != NULL) {
		(*at)->stream = stream;
		bus__io_done(*at, err, 0);
		stream = NULL;
	}
	*at = NULL;
	pthread_mutex_unlock(&endpoint->lock);
	if (stream != NULL)
		conn_free(stream);
}
