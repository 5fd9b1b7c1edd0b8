/* transport/tls_stream.c: the link thread moves ciphertext and deciphers. The helper does the handshake, whose steps take
 * milliseconds. A tls belongs to the helper from bus__helper_post() until the job's task runs. */
#include "transport/tls_stream.h"

#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/mem.h"
#include "link/buffers.h"
#include "transport/helper.h"

enum {
	READ_FIRST = 512, /* what an idle connection lends to the transport below */
	READ_MOST = 64 * 1024,
	WRITE_MOST = 64 * 1024, /* enciphered in one turn of the link thread: under a millisecond */
	IOV_MAX_PARTS = 4
};

_Atomic int bus__tls_patience_ms = 1000;

enum stage {
	STAGE_NEW,     /* no operation yet */
	STAGE_QUIET,   /* listening: waits for the peer's first bytes */
	STAGE_WAITING, /* they have arrived, and the gate is full */
	STAGE_SHAKING,
	STAGE_OPEN,
	STAGE_OVER /* operations answer `err` */
};

struct bus__tls_stream {
	struct bus__stream base;
	struct bus__stream *lower;
	struct bus__tls_config *config;
	struct bus__tls *tls; /* from SHAKING on */
	char *host;           /* dialled; NULL: listening */
	enum stage stage;
	int err;
	const char *why; /* the reason, if the tls does not have it */
	struct bus__loop *loop;

	struct bus__tls_gate *gate;
	struct bus__tls_stream *next; /* in one of its lists */

	struct bus__io recv_io, send_io; /* of the stream below */
	bool receiving, sending;
	uint8_t *in;
	size_t in_len, in_cap;
	uint8_t *out; /* lent to the stream below */
	size_t out_len, out_at;

	struct bus__helper_job job;
	struct bus__task done_task;
	bool at_helper;
	int result; /* of bus__tls_handshake() */
	int64_t heard_ns;

	struct bus__io *user_recv, *user_send; /* under way; NULL: none */
	void *buf;
	size_t buf_len;
	struct iovec iov[IOV_MAX_PARTS];
	unsigned parts;
	size_t taken; /* bytes of iov whose ciphertext is being sent */
};

static void go_on(struct bus__tls_stream *stream);

static void
finish(struct bus__io **at, int err, size_t count)
{
	struct bus__io *io = *at;

	*at = NULL;
	if (io != NULL)
		bus__io_done(io, err, count);
}

/* --- the stream below -------------------------------------------------------------------------------------------------------- */

/* The buffer is as large as recent reads, so that an idle connection keeps little. */
static int
fit_buffer(struct bus__tls_stream *stream)
{
	size_t cap = stream->in_cap;

	if (stream->in_len == cap && cap < READ_MOST)
		cap = cap == 0 ? READ_FIRST : cap * 8 < READ_MOST ? cap * 8 : READ_MOST;
	else if (stream->in_len < cap / 16)
		cap = READ_FIRST;
	if (cap == stream->in_cap)
		return 0;
	bus__free(stream->in);
	stream->in = bus__malloc(cap);
	stream->in_cap = stream->in != NULL ? cap : 0;
	stream->in_len = 0;
	return stream->in != NULL ? 0 : BUS_E_NOMEM;
}

static int
receive(struct bus__tls_stream *stream)
{
	int err;

	if (stream->receiving)
		return 0;
	err = fit_buffer(stream);
	if (err < 0)
		return err;
	stream->receiving = true;
	stream->lower->ops->recv(stream->lower, stream->in, stream->in_cap, &stream->recv_io);
	return 0;
}

static void
fly(struct bus__tls_stream *stream)
{
	struct iovec iov = {
	    .iov_base = stream->out + stream->out_at, .iov_len = stream->out_len - stream->out_at};

	stream->sending = true;
	stream->lower->ops->send(stream->lower, &iov, 1, &stream->send_io);
}

/* Sends the tls's ciphertext, unless a send is under way. */
static void
flush(struct bus__tls_stream *stream)
{
	if (stream->sending || stream->tls == NULL || !bus__tls_has_output(stream->tls))
		return;
	stream->out = bus__tls_take(stream->tls, &stream->out_len);
	stream->out_at = 0;
	fly(stream);
}

/* --- the gate ---------------------------------------------------------------------------------------------------------------- */

static void begin_handshake(struct bus__tls_stream *stream);
static void end(struct bus__tls_stream *stream, int err);

static void
unlink_from(struct bus__tls_stream **at, struct bus__tls_stream *stream)
{
	while (*at != NULL && *at != stream)
		at = &(*at)->next;
	if (*at == stream)
		*at = stream->next;
}

static void
queue_up(struct bus__tls_gate *gate, struct bus__tls_stream *stream)
{
	if (gate->waiting == NULL)
		bus__timer_set(gate->loop, &gate->timer, bus__now_ns());
	stream->stage = STAGE_WAITING;
	stream->next = NULL;
	*gate->last_waiting = stream;
	gate->last_waiting = &stream->next;
}

static void
stop_waiting(struct bus__tls_gate *gate, struct bus__tls_stream *stream)
{
	unlink_from(&gate->waiting, stream);
	gate->last_waiting = &gate->waiting;
	while (*gate->last_waiting != NULL)
		gate->last_waiting = &(*gate->last_waiting)->next;
	if (gate->waiting == NULL)
		bus__timer_stop(gate->loop, &gate->timer);
}

static void
pass(struct bus__tls_gate *gate, struct bus__tls_stream *stream)
{
	stream->next = gate->inside;
	gate->inside = stream;
	gate->count++;
	begin_handshake(stream);
}

/* A handshake has ended: starts the next one. */
static void
leave(struct bus__tls_stream *stream)
{
	struct bus__tls_gate *gate = stream->gate;
	struct bus__tls_stream *next;

	stream->gate = NULL;
	if (gate == NULL)
		return;
	if (stream->stage == STAGE_WAITING) {
		stop_waiting(gate, stream);
	} else if (stream->stage == STAGE_SHAKING) {
		unlink_from(&gate->inside, stream);
		gate->count--;
		next = gate->waiting;
		if (next != NULL) {
			stop_waiting(gate, next);
			pass(gate, next);
		}
	}
	bus__tls_gate_unref(gate);
}

/* While others wait, a handshake whose peer is silent ends. */
static void
look_round(void *arg)
{
	struct bus__tls_gate *gate = arg;
	int64_t patience_ns =
	    atomic_load_explicit(&bus__tls_patience_ms, memory_order_relaxed) * NS_PER_MS;
	int64_t now_ns = bus__now_ns();
	struct bus__tls_stream *next;

	for (struct bus__tls_stream *at = gate->inside; at != NULL && gate->waiting != NULL;
	     at = next) {
		next = at->next;
		if (at->at_helper || now_ns - at->heard_ns < patience_ns)
			continue;
		at->why = "the peer stopped in the middle of the handshake while others waited";
		end(at, BUS_E_TLS);
	}
	if (gate->waiting != NULL)
		bus__timer_set(gate->loop, &gate->timer, now_ns + patience_ns / 4);
}

struct bus__tls_gate *
bus__tls_gate_new(void)
{
	struct bus__tls_gate *gate = bus__calloc(1, sizeof *gate);

	if (gate == NULL)
		return NULL;
	gate->refs = 1;
	gate->timer = (struct bus__timer){.fire = look_round, .arg = gate, .due_ns = INT64_MAX};
	gate->last_waiting = &gate->waiting;
	return gate;
}

void
bus__tls_gate_unref(struct bus__tls_gate *gate)
{
	if (gate != NULL && --gate->refs == 0)
		bus__free(gate);
}

/* --- the end ----------------------------------------------------------------------------------------------------------------- */

/* Reports the end to the link, which frees the stream. Before that the peer gets the alert that says why. */
static void
tell_end(struct bus__tls_stream *stream)
{
	if (stream->sending && stream->err == BUS_E_TLS)
		return;
	finish(&stream->user_recv, stream->err, 0);
	finish(&stream->user_send, stream->err, 0);
}

static void
end(struct bus__tls_stream *stream, int err)
{
	if (stream->stage == STAGE_OVER)
		return;
	leave(stream);
	stream->stage = STAGE_OVER;
	stream->err = err;
	if (!stream->at_helper)
		flush(stream);
	tell_end(stream);
}

/* --- the handshake ----------------------------------------------------------------------------------------------------------- */

static void
shake(struct bus__helper_job *job)
{
	struct bus__tls_stream *stream =
	    (struct bus__tls_stream *)(void *)((char *)job - offsetof(struct bus__tls_stream, job));

	stream->result = bus__tls_handshake(stream->tls);
	bus__loop_post(stream->loop, &stream->done_task);
}

static void
to_helper(struct bus__tls_stream *stream)
{
	stream->at_helper = true;
	bus__helper_post(&stream->job);
}

static void
shaken(void *arg)
{
	struct bus__tls_stream *stream = arg;

	stream->at_helper = false;
	if (stream->stage == STAGE_OVER)
		return;
	if (stream->result == 1) {
		leave(stream);
		stream->stage = STAGE_OPEN;
	} else if (stream->result < 0) {
		end(stream, stream->result);
		return;
	}
	flush(stream);
	go_on(stream);
}

static void
begin_handshake(struct bus__tls_stream *stream)
{
	int err;

	stream->stage = STAGE_SHAKING; /* before its end, which takes it out of the gate */
	err = bus__tls_new(stream->config, stream->host, &stream->tls);
	if (err < 0) {
		end(stream, err);
		return;
	}
	stream->heard_ns = bus__now_ns();
	if (stream->host == NULL)
		bus__tls_feed(stream->tls, stream->in, stream->in_len);
	to_helper(stream);
}

static void
begin(struct bus__tls_stream *stream)
{
	if (stream->host != NULL)
		begin_handshake(stream);
	else if (receive(stream) == 0)
		stream->stage = STAGE_QUIET;
	else
		end(stream, BUS_E_NOMEM);
}

/* --- operations -------------------------------------------------------------------------------------------------------------- */

static void
encipher(struct bus__tls_stream *stream)
{
	size_t skip = 0;
	long n = 1;

	stream->taken = 0;
	for (unsigned i = 0; i < stream->parts && n > 0; i++) {
		const char *at = stream->iov[i].iov_base;
		size_t len = stream->iov[i].iov_len;

		for (skip = 0; skip < len && stream->taken < WRITE_MOST && n > 0;
		     skip += (size_t)n) {
			n = bus__tls_write(stream->tls, at + skip, len - skip);
			if (n < 0) {
				end(stream, (int)n);
				return;
			}
			stream->taken += (size_t)n;
		}
	}
	flush(stream);
}

/* Deciphers into the link's buffer. */
static void
decipher(struct bus__tls_stream *stream)
{
	long n = bus__tls_read(stream->tls, stream->buf, stream->buf_len);

	if (n > 0)
		finish(&stream->user_recv, 0, (size_t)n);
	else if (n == 0 && receive(stream) < 0)
		n = BUS_E_NOMEM;
	if (n < 0)
		end(stream, (int)n);
}

static void
go_on(struct bus__tls_stream *stream)
{
	switch (stream->stage) {
	case STAGE_NEW:
		begin(stream);
		break;
	case STAGE_SHAKING:
		if (!stream->at_helper && receive(stream) < 0)
			end(stream, BUS_E_NOMEM);
		break;
	case STAGE_OPEN:
		/* Read first: an answer of TLS itself is sent before data that is enciphered later. */
		if (stream->user_recv != NULL && !stream->receiving)
			decipher(stream);
		if (stream->stage == STAGE_OPEN && stream->user_send != NULL && !stream->sending)
			encipher(stream);
		if (stream->stage == STAGE_OPEN)
			flush(stream);
		break;
	case STAGE_OVER:
		tell_end(stream);
		break;
	case STAGE_QUIET:
	case STAGE_WAITING:
		break;
	}
}

static void
received(void *arg)
{
	struct bus__tls_stream *stream = arg;

	stream->receiving = false;
	if (stream->recv_io.err < 0) {
		if (stream->stage == STAGE_SHAKING)
			stream->why = "the peer closed the connection during the handshake";
		end(stream, stream->recv_io.err);
		return;
	}
	stream->in_len = stream->recv_io.count;
	stream->heard_ns = bus__now_ns();
	if (stream->stage == STAGE_QUIET && stream->gate != NULL) {
		if (stream->gate->count < BUS__TLS_HANDSHAKES)
			pass(stream->gate, stream);
		else
			queue_up(stream->gate, stream);
		return;
	}
	if (stream->stage == STAGE_QUIET) {
		begin_handshake(stream);
		return;
	}
	if (stream->stage == STAGE_OVER)
		return;
	bus__tls_feed(stream->tls, stream->in, stream->in_len);
	if (stream->stage == STAGE_SHAKING)
		to_helper(stream);
	else
		go_on(stream);
}

static void
sent(void *arg)
{
	struct bus__tls_stream *stream = arg;

	stream->sending = false;
	stream->out_at += stream->send_io.count;
	if (stream->send_io.err == 0 && stream->out_at < stream->out_len) {
		fly(stream);
		return;
	}
	bus__free(stream->out);
	stream->out = NULL;
	if (stream->send_io.err < 0) {
		end(stream, stream->send_io.err);
	} else if (stream->taken > 0) {
		finish(&stream->user_send, 0, stream->taken);
		stream->taken = 0;
	}
	if (!stream->at_helper)
		flush(stream);
	go_on(stream);
}

static void
tls_send(struct bus__stream *base, const struct iovec *iov, unsigned n, struct bus__io *io)
{
	struct bus__tls_stream *stream = (struct bus__tls_stream *)base;

	memcpy(stream->iov, iov, n * sizeof *iov);
	stream->parts = n;
	stream->user_send = io;
	go_on(stream);
}

static void
tls_recv(struct bus__stream *base, void *buf, size_t len, struct bus__io *io)
{
	struct bus__tls_stream *stream = (struct bus__tls_stream *)base;

	stream->buf = buf;
	stream->buf_len = len;
	stream->user_recv = io;
	go_on(stream);
}

static int
tls_admit(struct bus__stream *base)
{
	struct bus__tls_stream *stream = (struct bus__tls_stream *)base;

	return stream->lower->ops->admit(stream->lower);
}

static int
tls_remote(struct bus__stream *base, struct sockaddr_storage *ret_addr)
{
	struct bus__tls_stream *stream = (struct bus__tls_stream *)base;

	return stream->lower->ops->remote(stream->lower, ret_addr);
}

static const char *
tls_reason(const struct bus__stream *base)
{
	const struct bus__tls_stream *stream = (const struct bus__tls_stream *)base;

	if (stream->why != NULL)
		return stream->why;
	return stream->tls != NULL ? bus__tls_reason(stream->tls) : "";
}

static void
tls_free(struct bus__stream *base)
{
	struct bus__tls_stream *stream = (struct bus__tls_stream *)base;

	stream->user_recv = stream->user_send = NULL;
	bus__helper_cancel(&stream->job);
	stream->lower->ops->free(stream->lower);
	bus__loop_cancel(stream->loop, &stream->done_task);
	bus__loop_cancel(stream->loop, &stream->recv_io.task);
	bus__loop_cancel(stream->loop, &stream->send_io.task);
	leave(stream);
	bus__tls_free(stream->tls);
	bus__tls_config_unref(stream->config);
	bus__free(stream->host);
	bus__free(stream->in);
	bus__free(stream->out);
	bus__free(stream);
}

static const struct bus__stream_ops tls_ops = {
    .send = tls_send,
    .recv = tls_recv,
    .admit = tls_admit,
    .free = tls_free,
    .reason = tls_reason,
    .remote = tls_remote,
};

struct bus__stream *
bus__tls_stream_new(struct bus__stream *lower, struct bus__tls_config *config, const char *host,
    struct bus__tls_gate *gate, struct bus__loop *loop)
{
	struct bus__tls_stream *stream = bus__calloc(1, sizeof *stream);

	if (stream == NULL || (host != NULL && (stream->host = bus__strdup(host)) == NULL)) {
		bus__free(stream);
		return NULL;
	}
	stream->base.ops = &tls_ops;
	stream->lower = lower;
	stream->config = bus__tls_config_ref(config);
	stream->gate = gate;
	if (gate != NULL)
		gate->refs++;
	stream->loop = loop;
	stream->recv_io = (struct bus__io){.task = {.run = received, .arg = stream}, .loop = loop};
	stream->send_io = (struct bus__io){.task = {.run = sent, .arg = stream}, .loop = loop};
	stream->done_task = (struct bus__task){.run = shaken, .arg = stream};
	stream->job.work = shake;
	return &stream->base;
}
