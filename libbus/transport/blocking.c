#include "transport/blocking.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/thread.h"

#define NS_PER_MS INT64_C(1000000)

enum {
	LOOK_MS = 100,      /* between two looks whether a handle was let go of */
	PAUSE_MS = 1,       /* before a function is called again that returned early */
	OPEN_MS = 5000,     /* for a listen, and for a dial */
	SETTLE_MS = 300,    /* for calls to return and handles to close: some LOOK_MS */
	UNCLOSED_MOST = 64, /* then this transport gets no new ones */
	BUFFER = 64 * 1024
};

_Atomic int bus__open_ms = OPEN_MS;

/* --- what was registered ------------------------------------------------------------------------------------------------- */

struct blocking {
	struct bus__added added;
	struct bus_transport given;
	char scheme[BUS__URL_SCHEME];

	/* Under counts_lock. */
	uint32_t
	    unclosed;     /* endpoints that links let go of and whose calls have not all returned */
	uint32_t awaited; /* those among them that settle() waits for: of this epoch */
	uint32_t epoch;   /* ends when settle() has waited in vain */
	uint32_t generation;     /* the fork generation of the above */
	_Atomic uint32_t closed; /* futex: changes with awaited */
};

static pthread_mutex_t counts_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
take_lock(void)
{
	pthread_mutex_lock(&counts_lock);
}

static void
unlock_counts(void)
{
	pthread_mutex_unlock(&counts_lock);
}

/* fork() waits for the lock, so the child never inherits it from a thread that is not there. */
static void
watch_fork(void)
{
	pthread_atfork(take_lock, unlock_counts, unlock_counts);
}

/* A child has none of its parent's threads, so none of its endpoints comes to an end there: they do not count. */
static void
lock_counts(struct blocking *kind)
{
	pthread_once(&once, watch_fork);
	take_lock();
	if (kind->generation != bus__fork_generation()) {
		kind->generation = bus__fork_generation();
		kind->unclosed = kind->awaited = 0;
		kind->epoch++;
	}
}

static bool
is_crowded(struct blocking *kind)
{
	bool crowded;

	lock_counts(kind);
	crowded = kind->unclosed >= UNCLOSED_MOST;
	unlock_counts();
	return crowded;
}

static void
settle(const struct bus__transport *transport, int64_t deadline_ns)
{
	struct blocking *kind = (struct blocking *)(uintptr_t)transport;
	int system = errno;
	bool over = false;
	uint32_t seen;

	while (!over) {
		lock_counts(kind);
		seen = atomic_load_explicit(&kind->closed, memory_order_relaxed);
		over = kind->awaited == 0;
		if (!over && bus__now_ns() >= deadline_ns) {
			/* Left behind: the next one does not wait for them again. */
			kind->epoch++;
			kind->awaited = 0;
			over = true;
		}
		unlock_counts();
		if (!over)
			bus__park(&kind->closed, seen, deadline_ns);
	}
	errno = system;
}

/* Programs return any number. */
static int
judge(int err)
{
	return err <= 0 && strcmp(bus_errname(err), bus_errname(INT_MIN)) != 0 ? err : BUS_E_SYS;
}

/* --- handles, and the threads that wait on them ---------------------------------------------------------------------------- */

enum { BELLS = 2 };

/* What a listener, a connection and an attempt to dial have in common. The link lets go of each once, and does not wait: its
 * threads see that when the call they are in has returned, and the last of them closes the handle. So calls get bytes that
 * are the endpoint's, and nothing of the link's. */
struct endpoint {
	union {
		struct bus__stream stream;
		struct bus__listener listener;
		struct bus__dialer dialer;
	} base;
	struct blocking *kind;
	void *handle;
	bool has_handle;
	size_t size; /* of all of it, in bus__pages() */

	pthread_mutex_t lock; /* of what follows, and of the rest that threads share */
	unsigned threads;
	_Atomic bool let_go;           /* relaxed: also looked at without the lock, between calls */
	_Atomic uint32_t bells[BELLS]; /* futexes: one per thread, changes with what it waits for */
	uint32_t epoch;                /* of the counts, when the link let go of it */
};

static struct endpoint *
endpoint_new(struct blocking *kind, size_t size)
{
	struct endpoint *endpoint = bus__pages(size);

	if (endpoint == NULL)
		return NULL;
	endpoint->kind = kind;
	endpoint->size = size;
	pthread_mutex_init(&endpoint->lock, NULL);
	return endpoint;
}

/* No thread is there any more. */
static void
endpoint_free(struct endpoint *endpoint)
{
	if (endpoint->has_handle)
		endpoint->kind->given.close(endpoint->handle);
	pthread_mutex_destroy(&endpoint->lock);
	bus__pages_free(endpoint, endpoint->size);
}

static bool
is_let_go(const struct endpoint *endpoint)
{
	return atomic_load_explicit(&endpoint->let_go, memory_order_relaxed);
}

/* Lock held. */
static void
ring(struct endpoint *endpoint, unsigned who)
{
	atomic_fetch_add_explicit(&endpoint->bells[who], 1, memory_order_relaxed);
	bus__unpark(&endpoint->bells[who]);
}

/* Frees it when its calls have returned. Lock held, under which the caller has taken the ios out: they are not touched any more. */
static void
let_go(struct endpoint *endpoint)
{
	struct blocking *kind = endpoint->kind;

	lock_counts(kind);
	kind->unclosed++;
	kind->awaited++;
	endpoint->epoch = kind->epoch;
	unlock_counts();
	atomic_store_explicit(&endpoint->let_go, true, memory_order_relaxed);
	for (unsigned i = 0; i < BELLS; i++)
		ring(endpoint, i);
}

/* Ends a thread, behind let_go(). */
static void
leave(struct endpoint *endpoint)
{
	struct blocking *kind = endpoint->kind;
	uint32_t epoch;
	bool is_last;

	pthread_mutex_lock(&endpoint->lock);
	is_last = --endpoint->threads == 0;
	epoch = endpoint->epoch;
	pthread_mutex_unlock(&endpoint->lock);
	if (!is_last)
		return;
	endpoint_free(endpoint);
	lock_counts(kind);
	kind->unclosed--;
	if (kind->epoch == epoch)
		kind->awaited--;
	atomic_fetch_add_explicit(&kind->closed, 1, memory_order_relaxed);
	unlock_counts();
	bus__unpark(&kind->closed);
}

static int
start(struct endpoint *endpoint, void *(*run)(void *arg))
{
	pthread_t thread;
	int err;

	pthread_mutex_lock(&endpoint->lock);
	endpoint->threads++;
	err = bus__thread_start(&thread, run, endpoint);
	if (err == 0)
		pthread_detach(thread);
	else
		endpoint->threads--;
	pthread_mutex_unlock(&endpoint->lock);
	return err;
}

/* Sleeps until is_ready(), which runs under the lock. false: the link let go. */
static bool
await(struct endpoint *endpoint, unsigned who, bool (*is_ready)(const struct endpoint *endpoint))
{
	bool ready, over;
	uint32_t seen;

	for (;;) {
		pthread_mutex_lock(&endpoint->lock);
		seen = atomic_load_explicit(&endpoint->bells[who], memory_order_relaxed);
		over = is_let_go(endpoint);
		ready = is_ready(endpoint);
		pthread_mutex_unlock(&endpoint->lock);
		if (over || ready)
			return !over;
		bus__park(&endpoint->bells[who], seen, INT64_MAX);
	}
}

static bool
never(const struct endpoint *endpoint)
{
	(void)endpoint;
	return false;
}

/* Whether a call is to be made again, which began then and returned err. */
static bool
goes_on(struct endpoint *endpoint, unsigned who, int64_t began_ns, int err)
{
	int64_t soonest_ns = began_ns + PAUSE_MS * NS_PER_MS;

	if (err != BUS_E_TIMEDOUT)
		return false;
	while (!is_let_go(endpoint) && bus__now_ns() < soonest_ns)
		bus__park(&endpoint->bells[who],
		    atomic_load_explicit(&endpoint->bells[who], memory_order_relaxed), soonest_ns);
	return !is_let_go(endpoint);
}

/* --- connections ------------------------------------------------------------------------------------------------------------ */

enum { READER, WRITER };

struct conn {
	struct endpoint endpoint;
	struct bus__io *recv_io, *send_io; /* under way; NULL: none */
	void *into;                        /* what recv_io is to fill */
	size_t room;
	size_t in_at, in_len; /* bytes that were received; the reader waits until all are taken */
	int in_err;           /* what comes behind them: sticks */
	size_t out_len;       /* bytes that the writer sends; 0: it waits */
	uint8_t in[BUFFER], out[BUFFER];
};

/* Ends the receive that is under way, if there is something for it. Lock held. */
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
			ring(&conn->endpoint, READER);
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

/* What a send or recv of so many bytes returned; less than 0: an error that ends the connection, or BUS_E_TIMEDOUT. */
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
	while (await(endpoint, READER, has_room)) {
		do {
			began_ns = bus__now_ns();
			count = check_count(
			    endpoint->kind->given.recv(endpoint->handle, conn->in, BUFFER, LOOK_MS),
			    BUFFER);
		} while (goes_on(endpoint, READER, began_ns, count));
		pthread_mutex_lock(&endpoint->lock);
		if (count > 0)
			conn->in_len = (size_t)count;
		else
			conn->in_err = count < 0 ? count : BUS_E_GONE;
		give(conn);
		pthread_mutex_unlock(&endpoint->lock);
	}
	leave(endpoint);
	return NULL;
}

static bool
has_bytes(const struct endpoint *endpoint)
{
	return ((const struct conn *)endpoint)->out_len > 0;
}

/* Sends all that is in `out`. 0, or why not. */
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
						conn->out + at, len - at, LOOK_MS),
			    len - at);
			if (count == 0)
				count = BUS_E_TIMEDOUT;
		} while (goes_on(endpoint, WRITER, began_ns, count));
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
	while (await(endpoint, WRITER, has_bytes)) {
		err = send_out(conn);
		pthread_mutex_lock(&endpoint->lock);
		if (conn->send_io != NULL)
			bus__io_done(conn->send_io, err, err == 0 ? conn->out_len : 0);
		conn->send_io = NULL;
		conn->out_len = 0;
		pthread_mutex_unlock(&endpoint->lock);
	}
	leave(endpoint);
	return NULL;
}

static void
conn_send(struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io)
{
	struct conn *conn = (struct conn *)stream;

	/* The writer looks at them only behind the lock. */
	pthread_mutex_lock(&conn->endpoint.lock);
	for (unsigned i = 0; i < n && conn->out_len < BUFFER; i++) {
		size_t room = BUFFER - conn->out_len;
		size_t len = iov[i].iov_len < room ? iov[i].iov_len : room;

		memcpy(conn->out + conn->out_len, iov[i].iov_base, len);
		conn->out_len += len;
	}
	conn->send_io = io;
	ring(&conn->endpoint, WRITER);
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

/* accept() returned it, which decides that. */
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
	let_go(&conn->endpoint);
	pthread_mutex_unlock(&conn->endpoint.lock);
}

static const struct bus__stream_ops conn_ops = {conn_send, conn_recv, conn_admit, conn_free};

/* Takes the handle, also where it fails. */
static int
conn_new(struct blocking *kind, void *handle, struct bus__stream **ret_stream)
{
	struct endpoint *endpoint = endpoint_new(kind, sizeof(struct conn));
	int err;

	if (endpoint == NULL) {
		kind->given.close(handle);
		return BUS_E_NOMEM;
	}
	endpoint->base.stream.ops = &conn_ops;
	endpoint->handle = handle;
	endpoint->has_handle = true;
	err = start(endpoint, run_writer);
	if (err < 0) {
		endpoint_free(endpoint);
		return err;
	}
	err = start(endpoint, run_reader);
	if (err < 0) {
		conn_free(&endpoint->base.stream);
		return err;
	}
	*ret_stream = &endpoint->base.stream;
	return 0;
}

/* Ends an accept or a dial, which brought a handle if err is 0. */
static void
bring(struct endpoint *endpoint, struct bus__io **at, int err, void *handle)
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

/* --- listening -------------------------------------------------------------------------------------------------------------- */

enum { ACCEPTER, OPENER };

struct listening {
	struct endpoint endpoint;
	struct bus__io *io; /* the accept under way */
	bool is_open;       /* or err says why not */
	int err, sys;
	char address[BUS__URL_NAME];
};

static bool
is_asked(const struct endpoint *endpoint)
{
	return ((const struct listening *)endpoint)->io != NULL;
}

static void
accept_one(struct listening *listening)
{
	struct endpoint *endpoint = &listening->endpoint;
	void *handle = NULL;
	int64_t began_ns;
	int err;

	do {
		began_ns = bus__now_ns();
		err = is_crowded(endpoint->kind)
			  ? BUS_E_LIMIT
			  : judge(endpoint->kind->given.accept(endpoint->handle, LOOK_MS, &handle));
	} while (goes_on(endpoint, ACCEPTER, began_ns, err));
	bring(endpoint, &listening->io, err, handle);
}

static void *
run_listener(void *arg)
{
	struct listening *listening = arg;
	struct endpoint *endpoint = &listening->endpoint;
	const struct bus_transport *given = &endpoint->kind->given;
	void *handle = NULL;
	int err, sys;

	bus__thread_name("bus-accept");
	err = judge(given->listen(given->arg, listening->address, &handle));
	sys = errno;
	endpoint->handle = handle;
	endpoint->has_handle = err == 0;
	pthread_mutex_lock(&endpoint->lock);
	listening->is_open = true;
	listening->err = err;
	listening->sys = sys;
	ring(endpoint, OPENER);
	pthread_mutex_unlock(&endpoint->lock);
	while (await(endpoint, ACCEPTER, is_asked))
		accept_one(listening);
	leave(endpoint);
	return NULL;
}

static void
listener_accept(struct bus__listener *listener, struct bus__io *io)
{
	struct listening *listening = (struct listening *)listener;

	pthread_mutex_lock(&listening->endpoint.lock);
	listening->io = io;
	ring(&listening->endpoint, ACCEPTER);
	pthread_mutex_unlock(&listening->endpoint.lock);
}

static void
listener_free(struct bus__listener *listener)
{
	struct listening *listening = (struct listening *)listener;

	pthread_mutex_lock(&listening->endpoint.lock);
	listening->io = NULL;
	let_go(&listening->endpoint);
	pthread_mutex_unlock(&listening->endpoint.lock);
}

static const struct bus__listener_ops listener_ops = {listener_accept, listener_free};

/* Waits until it is open. 0, or why not, and it is let go of. */
static int
open_up(struct listening *listening)
{
	int64_t deadline_ns =
	    bus__deadline_ns(atomic_load_explicit(&bus__open_ms, memory_order_relaxed));
	struct endpoint *endpoint = &listening->endpoint;
	int err = BUS_E_TIMEDOUT, sys = 0;
	bool is_over = false;
	uint32_t seen;

	while (!is_over) {
		pthread_mutex_lock(&endpoint->lock);
		seen = atomic_load_explicit(&endpoint->bells[OPENER], memory_order_relaxed);
		if (listening->is_open) {
			err = listening->err;
			sys = listening->sys;
		}
		is_over = listening->is_open || bus__now_ns() >= deadline_ns;
		if (is_over && err < 0)
			let_go(endpoint);
		pthread_mutex_unlock(&endpoint->lock);
		if (!is_over)
			bus__park(&endpoint->bells[OPENER], seen, deadline_ns);
	}
	errno = sys;
	return err;
}

static struct blocking *
kind_of(const struct bus__address *addr)
{
	return (struct blocking *)(uintptr_t)addr->transport;
}

static int
listen_at(struct bus__address *addr, struct bus__listener **ret_listener)
{
	struct blocking *kind = kind_of(addr);
	struct listening *listening;
	int err;

	if (is_crowded(kind))
		settle(addr->transport,
		    bus__deadline_ns(SETTLE_MS)); /* many may just have ended at once */
	if (is_crowded(kind))
		return BUS_E_LIMIT;
	listening = (struct listening *)endpoint_new(kind, sizeof *listening);
	if (listening == NULL)
		return BUS_E_NOMEM;
	listening->endpoint.base.listener.ops = &listener_ops;
	memcpy(listening->address, addr->name, sizeof listening->address);
	err = start(&listening->endpoint, run_listener);
	if (err < 0) {
		endpoint_free(&listening->endpoint);
		return err;
	}
	err = open_up(listening);
	if (err == 0)
		*ret_listener = &listening->endpoint.base.listener;
	return err;
}

/* --- dialling --------------------------------------------------------------------------------------------------------------- */

struct attempt {
	struct endpoint endpoint; /* the handle is the connection's */
	struct bus__io *io;
	char address[BUS__URL_NAME];
};

static void *
run_attempt(void *arg)
{
	struct attempt *attempt = arg;
	struct endpoint *endpoint = &attempt->endpoint;
	const struct bus_transport *given = &endpoint->kind->given;
	void *handle = NULL;
	int err;

	bus__thread_name("bus-dial");
	err = judge(given->dial(given->arg, attempt->address, OPEN_MS, &handle));
	bring(endpoint, &attempt->io, err, handle);
	await(endpoint, 0, never);
	leave(endpoint);
	return NULL;
}

static void
attempt_free(struct bus__dialer *dialer)
{
	struct attempt *attempt = (struct attempt *)dialer;

	pthread_mutex_lock(&attempt->endpoint.lock);
	attempt->io = NULL;
	let_go(&attempt->endpoint);
	pthread_mutex_unlock(&attempt->endpoint.lock);
}

static const struct bus__dialer_ops attempt_ops = {attempt_free};

static int
dial(const struct bus__address *addr, struct bus__io *io, struct bus__dialer **ret_dialer)
{
	struct blocking *kind = kind_of(addr);
	struct attempt *attempt;
	int err;

	if (is_crowded(kind))
		return BUS_E_LIMIT;
	attempt = (struct attempt *)endpoint_new(kind, sizeof *attempt);
	if (attempt == NULL)
		return BUS_E_NOMEM;
	attempt->endpoint.base.dialer.ops = &attempt_ops;
	attempt->io = io;
	memcpy(attempt->address, addr->name, sizeof attempt->address);
	/* The dial may end before this returns; its task runs on this thread, later. */
	err = start(&attempt->endpoint, run_attempt);
	if (err < 0) {
		endpoint_free(&attempt->endpoint);
		return err;
	}
	*ret_dialer = &attempt->endpoint.base.dialer;
	return 0;
}

/* --- a transport ------------------------------------------------------------------------------------------------------------ */

static int
check(const struct bus__address *addr, struct bus__address *numeric)
{
	*numeric = *addr;
	return 0;
}

struct bus__added *
bus__blocking_new(const struct bus_transport *given)
{
	struct blocking *kind = bus__calloc(1, sizeof *kind);

	if (kind == NULL)
		return NULL;
	memcpy(kind->scheme, given->scheme, strlen(given->scheme) + 1);
	kind->given = *given;
	kind->given.scheme = kind->scheme;
	kind->generation = bus__fork_generation();
	kind->added.base = (struct bus__transport){.scheme = kind->scheme,
	    .form = &bus__form_name,
	    .check = check,
	    .listen = listen_at,
	    .dial = dial,
	    .settle = settle,
	    .address_hint =
		"the program that registered the scheme says how its addresses look; they have 1 to 255 bytes of printable text"};
	return &kind->added;
}
