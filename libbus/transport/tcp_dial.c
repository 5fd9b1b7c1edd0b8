#include "transport/tcp_dial.h"

#include <errno.h>
#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/mem.h"
#include "link/terms.h"
#include "transport/hosts.h"
#include "transport/wire.h"

enum { EARLY_LOOK_MS = 10 };

_Atomic int bus__connect_ms = 1000;

/* First looks the name up, unless it is a number; then tries its hosts in turn. Exactly one of `lookup`, `attempt` and `early`
 * exists, or none when `outer` is complete. */
struct dialer {
	struct bus__dialer base;
	struct bus__address addr; /* its name is the host being tried */
	struct bus__terms terms;  /* the caller's, without texts */
	struct bus__io *outer;    /* the link's */
	struct bus__timer timer;

	struct bus__lookup *lookup;
	struct bus__task found;

	struct bus__hosts hosts;
	unsigned next;
	struct bus__dialer *attempt;
	struct bus__io io; /* of the attempt */
	struct bus__stream *
	    early; /* NNG takes a socket's first event for its connection, but it is not connected yet */
	int64_t until_ns; /* the attempt's deadline */
	int err, sys;     /* of the last failed attempt */
};

static void
set_timer(struct dialer *dialer)
{
	dialer->until_ns = bus__now_ns() +
			   atomic_load_explicit(&bus__connect_ms, memory_order_relaxed) * NS_PER_MS;
	bus__timer_set(dialer->io.loop, &dialer->timer, dialer->until_ns);
}

static void
drop_lookup(struct dialer *dialer)
{
	if (dialer->lookup != NULL)
		bus__lookup_free(dialer->io.loop, dialer->lookup);
	dialer->lookup = NULL;
}

static void
drop_stream(struct bus__stream **at)
{
	struct bus__stream *stream = *at;

	*at = NULL;
	if (stream != NULL)
		stream->ops->free(stream);
}

/* Also frees the stream that it may have made by now. */
static void
drop_attempt(struct dialer *dialer)
{
	bus__timer_stop(dialer->io.loop, &dialer->timer);
	if (dialer->attempt != NULL)
		dialer->attempt->ops->free(dialer->attempt);
	dialer->attempt = NULL;
	bus__loop_cancel(dialer->io.loop, &dialer->io.task);
	drop_stream(&dialer->io.stream);
	drop_stream(&dialer->early);
}

/* --- one host after the other ------------------------------------------------------------------------------------------ */

static bool
is_same(const union bus__host *a, const union bus__host *b)
{
	if (a->any.sa_family != b->any.sa_family)
		return false;
	if (a->any.sa_family == AF_INET)
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	return a->any.sa_family == AF_INET6 &&
	       memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof a->in6.sin6_addr) == 0 &&
	       a->in6.sin6_scope_id == b->in6.sin6_scope_id;
}

/* Moves one of the hosts, if it is listed; the others keep their order. */
static void
move(struct bus__hosts *hosts, const union bus__host *host, bool to_front)
{
	union bus__host moved;
	unsigned i = 0, last = hosts->count - 1;

	while (i < hosts->count && !is_same(&hosts->at[i], host))
		i++;
	if (i == hosts->count)
		return;
	moved = hosts->at[i];
	if (to_front)
		memmove(&hosts->at[1], &hosts->at[0], i * sizeof moved);
	else
		memmove(&hosts->at[i], &hosts->at[i + 1], (last - i) * sizeof moved);
	hosts->at[to_front ? 0 : last] = moved;
}

static int
try_host(struct dialer *dialer, const union bus__host *host)
{
	int err;

	if (!bus__terms_reach(&dialer->terms, bus__reach_of(&host->any)))
		return BUS_E_NOT_LOOPBACK;
	err = bus__host_write(host, dialer->addr.name);
	if (err == 0)
		err = bus__wire_dial(&dialer->addr, &dialer->terms, &dialer->io, &dialer->attempt);
	dialer->sys = errno;
	return err;
}

static void
try_next(struct dialer *dialer)
{
	while (dialer->next < dialer->hosts.count) {
		int err = try_host(dialer, &dialer->hosts.at[dialer->next++]);

		if (err == 0) {
			set_timer(dialer);
			return;
		}
		/* The error of a failed host tells more than that of a host that is not allowed. */
		if (err != BUS_E_NOT_LOOPBACK || dialer->err == 0)
			dialer->err = err;
	}
	dialer->outer->sys = dialer->sys;
	bus__io_done(dialer->outer, dialer->err, 0);
}

static void
try_all(struct dialer *dialer)
{
	const struct bus__terms *terms = &dialer->terms;

	move(&dialer->hosts, &terms->good, true);
	move(&dialer->hosts, &terms->bad, false);
	try_next(dialer);
}

static bool
is_connected(struct bus__stream *stream)
{
	struct sockaddr_storage addr;

	return stream->ops->remote == NULL || stream->ops->remote(stream, &addr) == 0;
}

static void
look_at_stream(struct dialer *dialer, struct bus__stream *stream)
{
	int64_t look_ns = bus__now_ns() + EARLY_LOOK_MS * NS_PER_MS;

	if (is_connected(stream)) {
		dialer->outer->stream = stream;
		bus__io_done(dialer->outer, 0, 0);
		return;
	}
	dialer->early = stream;
	bus__timer_set(dialer->io.loop, &dialer->timer,
	    look_ns < dialer->until_ns ? look_ns : dialer->until_ns);
}

static void
attempted(void *arg)
{
	struct dialer *dialer = arg;
	struct bus__stream *stream = dialer->io.stream;

	dialer->io.stream = NULL;
	drop_attempt(dialer);
	if (stream != NULL) {
		look_at_stream(dialer, stream);
		return;
	}
	dialer->err = dialer->io.err;
	dialer->sys = dialer->io.sys;
	try_next(dialer);
}

/* --- the name ------------------------------------------------------------------------------------------------------------ */

/* The name server does not answer: the last good host is the best guess. */
static bool
try_good(struct dialer *dialer)
{
	if (dialer->terms.good.any.sa_family == AF_UNSPEC)
		return false;
	dialer->hosts = (struct bus__hosts){.at[0] = dialer->terms.good, .count = 1};
	try_next(dialer);
	return true;
}

static void
found(void *arg)
{
	struct dialer *dialer = arg;
	int err = bus__lookup_read(dialer->lookup, &dialer->hosts);

	dialer->outer->sys = errno;
	bus__timer_stop(dialer->io.loop, &dialer->timer);
	drop_lookup(dialer);
	if (err == 0)
		try_all(dialer);
	else if (!try_good(dialer))
		bus__io_done(dialer->outer, err, 0);
}

static void
timed_out(void *arg)
{
	struct dialer *dialer = arg;

	if (dialer->lookup != NULL) {
		if (dialer->terms.good.any.sa_family != AF_UNSPEC) {
			drop_lookup(dialer);
			try_good(dialer);
		}
		return;
	}
	if (dialer->early != NULL && bus__now_ns() < dialer->until_ns) {
		struct bus__stream *early = dialer->early;

		dialer->early = NULL;
		look_at_stream(dialer, early);
		return;
	}
	drop_attempt(dialer);
	dialer->err = BUS_E_TIMEDOUT;
	try_next(dialer);
}

static void
dialer_free(struct bus__dialer *base)
{
	struct dialer *dialer = (struct dialer *)base;

	drop_lookup(dialer);
	drop_attempt(dialer);
	bus__free(dialer);
}

static const struct bus__dialer_ops dialer_ops = {dialer_free};

int
bus__tcp_dial(const struct bus__address *addr, const struct bus__terms *terms, struct bus__io *io,
    struct bus__dialer **ret_dialer)
{
	struct dialer *dialer = bus__calloc(1, sizeof *dialer);
	int err;

	if (dialer == NULL)
		return BUS_E_NOMEM;
	dialer->base.ops = &dialer_ops;
	dialer->addr = *addr;
	dialer->terms = *terms;
	dialer->outer = io;
	dialer->io = (struct bus__io){.task = {.run = attempted, .arg = dialer}, .loop = io->loop};
	dialer->found = (struct bus__task){.run = found, .arg = dialer};
	dialer->timer = (struct bus__timer){.fire = timed_out, .arg = dialer, .due_ns = INT64_MAX};
	err = bus__hosts_find(addr->name, true, &dialer->hosts);
	if (err == 0) {
		try_next(dialer);
	} else if (err == BUS_E_ADDRESS) {
		err = bus__lookup_start(addr->name, io->loop, &dialer->found, &dialer->lookup);
		if (err == 0)
			set_timer(dialer);
	}
	if (err < 0) {
		bus__free(dialer);
		return err;
	}
	*ret_dialer = &dialer->base;
	return 0;
}
