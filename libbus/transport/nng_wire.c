#define _POSIX_C_SOURCE 200809L
#include "transport/wire.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>

#include <libbus/error.h>

#include "base/fd.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/thread.h"

/* --- starting NNG ---------------------------------------------------------------------------------- */

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static bool started;
static _Atomic uint32_t
    begun_in; /* the fork generation of the first call to NNG, plus one; 0: none yet */

#if NNG_MAJOR_VERSION == 1 && NNG_MINOR_VERSION >= 10
/* Our callbacks only post a task, so a few threads serve any number of cores. */
static void
limit_threads(void)
{
	nng_init_set_parameter(NNG_INIT_NUM_TASK_THREADS, 2);
	nng_init_set_parameter(NNG_INIT_NUM_EXPIRE_THREADS, 1);
	nng_init_set_parameter(NNG_INIT_NUM_POLLER_THREADS, 1);
	nng_init_set_parameter(NNG_INIT_NUM_RESOLVER_THREADS, 1);
}
#else
static void
limit_threads(void)
{
}
#endif

static const struct {
	int nng, bus, sys;
} errors[] = {
    {NNG_ENOMEM, BUS_E_NOMEM, 0},
    {NNG_ECONNREFUSED, BUS_E_REFUSED, 0},
    {NNG_ENOENT, BUS_E_REFUSED, 0},
    {NNG_EADDRINUSE, BUS_E_ADDRESS_TAKEN, 0},
    {NNG_EADDRINVAL, BUS_E_ADDRESS, 0},
    {NNG_EPERM, BUS_E_DENIED, 0},
    {NNG_ETIMEDOUT, BUS_E_TIMEDOUT, 0},
    {NNG_ENOFILES, BUS_E_LIMIT, 0},
    {NNG_ENOSPC, BUS_E_SYS, ENOSPC},
};

static int
translate(int nng, int *ret_sys)
{
	*ret_sys = 0;
	if (nng == 0)
		return 0;
	if ((nng & NNG_ESYSERR) != 0) {
		*ret_sys = nng & ~NNG_ESYSERR;
		return BUS_E_SYS;
	}
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
		if (errors[i].nng == nng) {
			*ret_sys = errors[i].sys;
			return errors[i].bus;
		}
	return BUS_E_GONE; /* closed, shut, reset or aborted by either side: the stream is over */
}

static void *
end_at_once(void *arg)
{
	return arg;
}

/* NNG reports a lack of threads as a lack of memory. */
static int
judge_start(int nng)
{
	pthread_t thread;
	int sys, err = translate(nng, &sys);

	if (err != BUS_E_NOMEM)
		return err;
	err = bus__thread_start(&thread, end_at_once, NULL);
	if (err == 0)
		bus__thread_join(thread);
	return err == BUS_E_LIMIT || err == BUS_E_LOCKED ? err : BUS_E_NOMEM;
}

/* Starts NNG's threads. After a failure it may be called again. */
static int
start(void)
{
	sigset_t all, before;
	nng_aio *aio;
	int err;

	/* Threads made here inherit the mask: signals belong to the program's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	limit_threads();
	err = nng_aio_alloc(&aio, NULL, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err == 0)
		nng_aio_free(aio);
	return judge_start(err);
}

int
bus__wire_check(void)
{
	uint32_t begun = atomic_load(&begun_in);

	if (begun != 0 && begun != bus__fork_generation() + 1)
		return BUS_E_FORKED;
	/* From now on NNG may open descriptors at any time, in the lowest free places. */
	return bus__fd_fill_std();
}

/* NNG aborts a forked child that calls it after its parent did. The mark is set before the lock is taken, so that no
 * child waits for a lock whose holder does not exist there. */
static int
enter(void)
{
	uint32_t now = bus__fork_generation() + 1, none = 0;
	int err = 0;

	if (!atomic_compare_exchange_strong(&begun_in, &none, now) && none != now)
		return BUS_E_FORKED;
	pthread_mutex_lock(&start_lock);
	if (!started)
		err = start();
	started = err == 0;
	pthread_mutex_unlock(&start_lock);
	return err;
}

static void
io_done(struct bus__io *io, nng_aio *aio)
{
	int err = translate(nng_aio_result(aio), &io->sys);

	bus__io_done(io, err, err == 0 ? nng_aio_count(aio) : 0);
}

/* --- streams ---------------------------------------------------------------------------------------- */

struct wire_stream {
	struct bus__stream base;
	nng_stream *stream;
	nng_aio *send_aio, *recv_aio;
	struct bus__io *send_io, *recv_io;
};

static void
sent(void *arg)
{
	struct wire_stream *wire = arg;

	io_done(wire->send_io, wire->send_aio);
}

static void
received(void *arg)
{
	struct wire_stream *wire = arg;

	io_done(wire->recv_io, wire->recv_aio);
}

static void
stream_send(struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io)
{
	struct wire_stream *wire = (struct wire_stream *)stream;
	nng_iov parts[4];

	for (unsigned i = 0; i < n && i < 4; i++)
		parts[i] = (nng_iov){.iov_buf = iov[i].iov_base, .iov_len = iov[i].iov_len};
	wire->send_io = io;
	nng_aio_set_iov(wire->send_aio, n, parts);
	nng_stream_send(wire->stream, wire->send_aio);
}

static void
stream_recv(struct bus__stream *stream, void *buf, size_t len, struct bus__io *io)
{
	struct wire_stream *wire = (struct wire_stream *)stream;

	wire->recv_io = io;
	nng_aio_set_iov(wire->recv_aio, 1, &(nng_iov){.iov_buf = buf, .iov_len = len});
	nng_stream_recv(wire->stream, wire->recv_aio);
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
	uint64_t uid;

	if (nng_stream_get_uint64(
		((struct wire_stream *)stream)->stream, NNG_OPT_IPC_PEER_UID, &uid) != 0)
		return BUS_E_DENIED;
	return uid == geteuid() || uid == 0 ? 0 : BUS_E_DENIED;
}

static void
stream_free(struct bus__stream *stream)
{
	struct wire_stream *wire = (struct wire_stream *)stream;

	/* Close first: only that ends a send that the peer does not read. */
	if (wire->stream != NULL)
		nng_stream_close(wire->stream);
	if (wire->recv_aio != NULL) {
		nng_aio_stop(wire->recv_aio);
		nng_aio_free(wire->recv_aio);
	}
	if (wire->send_aio != NULL) {
		nng_aio_stop(wire->send_aio);
		nng_aio_free(wire->send_aio);
	}
	if (wire->stream != NULL)
		nng_stream_free(wire->stream);
	bus__free(wire);
}

static int
tcp_remote(struct bus__stream *stream, struct sockaddr_storage *ret_addr)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)ret_addr;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)ret_addr;
	nng_sockaddr addr;

	if (nng_stream_get_addr(((struct wire_stream *)stream)->stream, NNG_OPT_REMADDR, &addr) !=
	    0)
		return BUS_E_GONE;
	*ret_addr = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
	if (addr.s_family == NNG_AF_INET) {
		in->sin_family = AF_INET;
		in->sin_port = addr.s_in.sa_port;
		in->sin_addr.s_addr = addr.s_in.sa_addr;
		return 0;
	}
	if (addr.s_family != NNG_AF_INET6)
		return BUS_E_GONE;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = addr.s_in6.sa_port;
	in6->sin6_scope_id = addr.s_in6.sa_scope;
	memcpy(&in6->sin6_addr, addr.s_in6.sa_addr, sizeof in6->sin6_addr);
	return 0;
}

static const struct bus__stream_ops tcp_stream_ops = {.send = stream_send,
    .recv = stream_recv,
    .admit = admit_anyone,
    .free = stream_free,
    .remote = tcp_remote};
static const struct bus__stream_ops ipc_stream_ops = {
    .send = stream_send, .recv = stream_recv, .admit = admit_our_user, .free = stream_free};

/* Makes everything but the NNG stream, before there is one: then a callback cannot fail. */
static struct wire_stream *
stream_new(const struct bus__stream_ops *ops)
{
	struct wire_stream *wire = bus__calloc(1, sizeof *wire);

	if (wire == NULL)
		return NULL;
	wire->base.ops = ops;
	if (nng_aio_alloc(&wire->send_aio, sent, wire) == 0 &&
	    nng_aio_alloc(&wire->recv_aio, received, wire) == 0) {
		nng_aio_set_timeout(wire->send_aio, NNG_DURATION_INFINITE);
		nng_aio_set_timeout(wire->recv_aio, NNG_DURATION_INFINITE);
		return wire;
	}
	stream_free(&wire->base);
	return NULL;
}

static const struct bus__stream_ops *
ops_of(const struct bus__address *addr)
{
	return strcmp(addr->transport->scheme, "tcp") == 0 ? &tcp_stream_ops : &ipc_stream_ops;
}

/* An address for NNG. Its parser refuses the scope in fe80::1%eth0, so tcp addresses are built here. */
struct place {
	char url[BUS__URL_TEXT], host[BUS__URL_NAME], port[6];
	nng_url parts;
};

static void
locate(const struct bus__address *addr, struct place *ret_place)
{
	bus__url_write(addr, ret_place->url);
	memcpy(ret_place->host, addr->name, sizeof ret_place->host);
	snprintf(ret_place->port, sizeof ret_place->port, "%u", addr->port);
	ret_place->parts = (nng_url){.u_rawurl = ret_place->url,
	    .u_scheme = (char *)(uintptr_t)addr->transport->scheme,
	    .u_host = ret_place->host,
	    .u_hostname = ret_place->host,
	    .u_port = ret_place->port,
	    .u_path = "",
	    .u_requri = ""};
}

static int
alloc_listener(const struct bus__address *addr, nng_stream_listener **ret_listener)
{
	struct place place;

	locate(addr, &place);
	return ops_of(addr) == &tcp_stream_ops
		   ? nng_stream_listener_alloc_url(ret_listener, &place.parts)
		   : nng_stream_listener_alloc(ret_listener, place.url);
}

static int
alloc_dialer(const struct bus__address *addr, nng_stream_dialer **ret_dialer)
{
	struct place place;

	locate(addr, &place);
	return ops_of(addr) == &tcp_stream_ops
		   ? nng_stream_dialer_alloc_url(ret_dialer, &place.parts)
		   : nng_stream_dialer_alloc(ret_dialer, place.url);
}

/* --- listening -------------------------------------------------------------------------------------- */

struct wire_listener {
	struct bus__listener base;
	nng_stream_listener *listener;
	nng_aio *aio;
	struct bus__io *io;
	const struct bus__stream_ops *ops;
	struct wire_stream *next; /* for its next NNG stream */
};

static void
accepted(void *arg)
{
	struct wire_listener *wire = arg;

	if (nng_aio_result(wire->aio) == 0) {
		wire->next->stream = nng_aio_get_output(wire->aio, 0);
		wire->io->stream = &wire->next->base;
		wire->next = NULL;
	}
	io_done(wire->io, wire->aio);
}

static void
listener_accept(struct bus__listener *listener, struct bus__io *io)
{
	struct wire_listener *wire = (struct wire_listener *)listener;

	if (wire->next == NULL)
		wire->next = stream_new(wire->ops);
	if (wire->next == NULL) {
		bus__io_done(io, BUS_E_NOMEM, 0);
		return;
	}
	wire->io = io;
	nng_stream_listener_accept(wire->listener, wire->aio);
}

static void
listener_free(struct bus__listener *listener)
{
	struct wire_listener *wire = (struct wire_listener *)listener;

	nng_stream_listener_close(wire->listener);
	nng_aio_stop(wire->aio);
	nng_aio_free(wire->aio);
	nng_stream_listener_free(wire->listener);
	if (wire->next != NULL)
		stream_free(&wire->next->base);
	bus__free(wire);
}

static const struct bus__listener_ops listener_ops = {listener_accept, listener_free};

/* Options are for later connections, so set them before the first one. */
static int
listener_options(nng_stream_listener *listener, const struct bus__address *addr)
{
	int err;

	if (strcmp(addr->transport->scheme, "ipc") == 0)
		return nng_stream_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, 0600);
	err = nng_stream_listener_set_bool(listener, NNG_OPT_TCP_NODELAY, true);
	return err != 0 ? err : nng_stream_listener_set_bool(listener, NNG_OPT_TCP_KEEPALIVE, true);
}

int
bus__wire_listen(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener)
{
	struct wire_listener *wire;
	int err, sys = 0, port;

	(void)terms;
	err = enter();
	if (err < 0)
		return err;
	wire = bus__calloc(1, sizeof *wire);
	if (wire == NULL)
		return BUS_E_NOMEM;
	wire->base.ops = &listener_ops;
	wire->ops = ops_of(addr);
	err = nng_aio_alloc(&wire->aio, accepted, wire);
	if (err != 0)
		goto free_wire;
	nng_aio_set_timeout(wire->aio, NNG_DURATION_INFINITE);
	err = alloc_listener(addr, &wire->listener);
	if (err != 0)
		goto free_aio;
	err = listener_options(wire->listener, addr);
	if (err == 0)
		err = nng_stream_listener_listen(wire->listener);
	if (err == 0 && strcmp(addr->transport->scheme, "tcp") == 0) {
		err = nng_stream_listener_get_int(wire->listener, NNG_OPT_TCP_BOUND_PORT, &port);
		addr->port = (uint16_t)(err == 0 ? port : 0);
	}
	if (err != 0)
		goto free_listener;
	*ret_listener = &wire->base;
	return 0;

free_listener:
	nng_stream_listener_close(wire->listener);
	nng_stream_listener_free(wire->listener);
free_aio:
	nng_aio_free(wire->aio);
free_wire:
	bus__free(wire);
	err = translate(err, &sys);
	if (err == BUS_E_SYS)
		errno = sys;
	return err;
}

/* --- dialling --------------------------------------------------------------------------------------- */

struct wire_dialer {
	struct bus__dialer base;
	nng_stream_dialer *dialer;
	nng_aio *aio;
	struct bus__io *io;
	struct wire_stream *next;
};

static void
dialled(void *arg)
{
	struct wire_dialer *wire = arg;

	if (nng_aio_result(wire->aio) == 0) {
		wire->next->stream = nng_aio_get_output(wire->aio, 0);
		wire->io->stream = &wire->next->base;
		wire->next = NULL;
	}
	io_done(wire->io, wire->aio);
}

static void
dialer_free(struct bus__dialer *dialer)
{
	struct wire_dialer *wire = (struct wire_dialer *)dialer;

	nng_stream_dialer_close(wire->dialer);
	nng_aio_stop(wire->aio);
	nng_aio_free(wire->aio);
	nng_stream_dialer_free(wire->dialer);
	if (wire->next != NULL)
		stream_free(&wire->next->base);
	bus__free(wire);
}

static const struct bus__dialer_ops dialer_ops = {dialer_free};

static int
dialer_options(nng_stream_dialer *dialer, const struct bus__address *addr)
{
	int err;

	if (strcmp(addr->transport->scheme, "ipc") == 0)
		return 0;
	err = nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true);
	return err != 0 ? err : nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_KEEPALIVE, true);
}

int
bus__wire_dial(const struct bus__address *addr, const struct bus__terms *terms, struct bus__io *io,
    struct bus__dialer **ret_dialer)
{
	struct wire_dialer *wire;
	int err, sys;

	(void)terms;
	err = enter();
	if (err < 0)
		return err;
	wire = bus__calloc(1, sizeof *wire);
	if (wire == NULL)
		return BUS_E_NOMEM;
	wire->base.ops = &dialer_ops;
	wire->io = io;
	err = NNG_ENOMEM;
	wire->next = stream_new(ops_of(addr));
	if (wire->next == NULL)
		goto free_wire;
	err = nng_aio_alloc(&wire->aio, dialled, wire);
	if (err != 0)
		goto free_next;
	nng_aio_set_timeout(wire->aio, NNG_DURATION_INFINITE);
	err = alloc_dialer(addr, &wire->dialer);
	if (err != 0)
		goto free_aio;
	err = dialer_options(wire->dialer, addr);
	if (err != 0)
		goto free_dialer;
	*ret_dialer = &wire->base;
	nng_stream_dialer_dial(wire->dialer, wire->aio);
	return 0;

free_dialer:
	nng_stream_dialer_free(wire->dialer);
free_aio:
	nng_aio_free(wire->aio);
free_next:
	stream_free(&wire->next->base);
free_wire:
	bus__free(wire);
	return translate(err, &sys);
}
