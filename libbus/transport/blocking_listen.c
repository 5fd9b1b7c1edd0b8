/* transport/blocking_listen.c: a listener of a registered transport: a thread opens it, then waits in accept. */
#include <errno.h>
#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/park.h"
#include "base/thread.h"
#include "transport/endpoint.h"

#define SETTLE_MS 300 /* for calls to return and handles to close: a few BLOCKING_LOOK_MS */

_Atomic int bus__open_ms = BLOCKING_OPEN_MS;

enum { ACCEPTER, OPENER };

struct listening {
	struct endpoint endpoint;
	struct bus__io *io; /* the accept under way */
	bool is_open;       /* listen() returned: err */
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
		err = bus__blocking_is_crowded(endpoint->kind)
			  ? BUS_E_LIMIT
			  : bus__blocking_judge(endpoint->kind->given.accept(
				endpoint->handle, BLOCKING_LOOK_MS, &handle));
	} while (bus__endpoint_goes_on(endpoint, ACCEPTER, began_ns, err));
	bus__blocking_bring(endpoint, &listening->io, err, handle);
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
	err = bus__blocking_judge(given->listen(given->arg, listening->address, &handle));
	sys = errno;
	endpoint->handle = handle;
	endpoint->has_handle = err == 0;
	pthread_mutex_lock(&endpoint->lock);
	listening->is_open = true;
	listening->err = err;
	listening->sys = sys;
	bus__endpoint_ring(endpoint, OPENER);
	pthread_mutex_unlock(&endpoint->lock);
	while (bus__endpoint_await(endpoint, ACCEPTER, is_asked))
		accept_one(listening);
	bus__endpoint_leave(endpoint);
	return NULL;
}

static void
listener_accept(struct bus__listener *listener, struct bus__io *io)
{
	struct listening *listening = (struct listening *)listener;

	pthread_mutex_lock(&listening->endpoint.lock);
	listening->io = io;
	bus__endpoint_ring(&listening->endpoint, ACCEPTER);
	pthread_mutex_unlock(&listening->endpoint.lock);
}

static void
listener_free(struct bus__listener *listener)
{
	struct listening *listening = (struct listening *)listener;

	pthread_mutex_lock(&listening->endpoint.lock);
	listening->io = NULL;
	bus__endpoint_let_go(&listening->endpoint);
	pthread_mutex_unlock(&listening->endpoint.lock);
}

static const struct bus__listener_ops listener_ops = {listener_accept, listener_free};

/* Waits for listen() to return. On failure releases the endpoint. */
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
			bus__endpoint_let_go(endpoint);
		pthread_mutex_unlock(&endpoint->lock);
		if (!is_over)
			bus__park(&endpoint->bells[OPENER], seen, deadline_ns);
	}
	errno = sys;
	return err;
}

int
bus__blocking_listen(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener)
{
	struct blocking *kind = bus__blocking_kind(addr);
	struct listening *listening;
	int err;

	(void)terms;
	if (bus__blocking_is_crowded(kind))
		bus__blocking_settle(addr->transport,
		    bus__deadline_ns(SETTLE_MS)); /* many links may have ended at once */
	if (bus__blocking_is_crowded(kind))
		return BUS_E_LIMIT;
	listening = (struct listening *)bus__endpoint_new(kind, sizeof *listening);
	if (listening == NULL)
		return BUS_E_NOMEM;
	listening->endpoint.base.listener.ops = &listener_ops;
	memcpy(listening->address, addr->name, sizeof listening->address);
	err = bus__endpoint_start(&listening->endpoint, run_listener);
	if (err < 0) {
		bus__endpoint_free(&listening->endpoint);
		return err;
	}
	err = open_up(listening);
	if (err == 0)
		*ret_listener = &listening->endpoint.base.listener;
	return err;
}
