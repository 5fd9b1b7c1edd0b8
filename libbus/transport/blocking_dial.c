/* transport/blocking_dial.c: an attempt to dial with a registered transport, on a separate thread. */
#include <string.h>

#include <libbus/error.h>

#include "base/thread.h"
#include "transport/endpoint.h"

struct attempt {
	struct endpoint endpoint; /* without a handle: the connection gets it */
	struct bus__io *io;
	char address[BUS__URL_NAME];
};

static bool
never(const struct endpoint *endpoint)
{
	(void)endpoint;
	return false;
}

static void *
run_attempt(void *arg)
{
	struct attempt *attempt = arg;
	struct endpoint *endpoint = &attempt->endpoint;
	const struct bus_transport *given = &endpoint->kind->given;
	void *handle = NULL;
	int err;

	bus__thread_name("bus-dial");
	err = bus__blocking_judge(
	    given->dial(given->arg, attempt->address, BLOCKING_OPEN_MS, &handle));
	bus__blocking_bring(endpoint, &attempt->io, err, handle);
	bus__endpoint_await(endpoint, 0, never);
	bus__endpoint_leave(endpoint);
	return NULL;
}

static void
attempt_free(struct bus__dialer *dialer)
{
	struct attempt *attempt = (struct attempt *)dialer;

	pthread_mutex_lock(&attempt->endpoint.lock);
	attempt->io = NULL;
	bus__endpoint_let_go(&attempt->endpoint);
	pthread_mutex_unlock(&attempt->endpoint.lock);
}

static const struct bus__dialer_ops attempt_ops = {attempt_free};

int
bus__blocking_dial(const struct bus__address *addr, const struct bus__terms *terms,
    struct bus__io *io, struct bus__dialer **ret_dialer)
{
	struct blocking *kind = bus__blocking_kind(addr);
	struct attempt *attempt;
	int err;

	(void)terms;
	if (bus__blocking_is_crowded(kind))
		return BUS_E_LIMIT;
	attempt = (struct attempt *)bus__endpoint_new(kind, sizeof *attempt);
	if (attempt == NULL)
		return BUS_E_NOMEM;
	attempt->endpoint.base.dialer.ops = &attempt_ops;
	attempt->io = io;
	memcpy(attempt->address, addr->name, sizeof attempt->address);
	/* The dial may complete before this returns; its task runs on this thread, later. */
	err = bus__endpoint_start(&attempt->endpoint, run_attempt);
	if (err < 0) {
		bus__endpoint_free(&attempt->endpoint);
		return err;
	}
	*ret_dialer = &attempt->endpoint.base.dialer;
	return 0;
}
