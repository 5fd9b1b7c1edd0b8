/* transport/endpoint.c: handles of a registered transport, and the threads that block on them. */
#include "transport/endpoint.h"

#include <libbus/error.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/thread.h"

#define PAUSE_MS 1 /* before a function that returned early is called again */

struct endpoint *
bus__endpoint_new(struct blocking *kind, size_t size)
{
	struct endpoint *endpoint = bus__pages(size);

	if (endpoint == NULL)
		return NULL;
	endpoint->kind = kind;
	endpoint->size = size;
	pthread_mutex_init(&endpoint->lock, NULL);
	return endpoint;
}

void
bus__endpoint_free(struct endpoint *endpoint)
{
	if (endpoint->has_handle)
		endpoint->kind->given.close(endpoint->handle);
	pthread_mutex_destroy(&endpoint->lock);
	bus__pages_free(endpoint, endpoint->size);
}

void
bus__endpoint_ring(struct endpoint *endpoint, unsigned bell)
{
	atomic_fetch_add_explicit(&endpoint->bells[bell], 1, memory_order_relaxed);
	bus__unpark(&endpoint->bells[bell]);
}

void
bus__endpoint_let_go(struct endpoint *endpoint)
{
	endpoint->epoch = bus__blocking_count(endpoint->kind);
	atomic_store_explicit(&endpoint->let_go, true, memory_order_relaxed);
	for (unsigned i = 0; i < ENDPOINT_BELLS; i++)
		bus__endpoint_ring(endpoint, i);
}

void
bus__endpoint_leave(struct endpoint *endpoint)
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
	bus__endpoint_free(endpoint);
	bus__blocking_uncount(kind, epoch);
}

int
bus__endpoint_start(struct endpoint *endpoint, void *(*run)(void *arg))
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

bool
bus__endpoint_await(
    struct endpoint *endpoint, unsigned bell, bool (*is_ready)(const struct endpoint *endpoint))
{
	bool ready, over;
	uint32_t seen;

	for (;;) {
		pthread_mutex_lock(&endpoint->lock);
		seen = atomic_load_explicit(&endpoint->bells[bell], memory_order_relaxed);
		over = bus__endpoint_is_let_go(endpoint);
		ready = is_ready(endpoint);
		pthread_mutex_unlock(&endpoint->lock);
		if (over || ready)
			return !over;
		bus__park(&endpoint->bells[bell], seen, INT64_MAX);
	}
}

bool
bus__endpoint_goes_on(struct endpoint *endpoint, unsigned bell, int64_t began_ns, int err)
{
	int64_t soonest_ns = began_ns + PAUSE_MS * NS_PER_MS;

	if (err != BUS_E_TIMEDOUT)
		return false;
	while (!bus__endpoint_is_let_go(endpoint) && bus__now_ns() < soonest_ns)
		bus__park(&endpoint->bells[bell],
		    atomic_load_explicit(&endpoint->bells[bell], memory_order_relaxed), soonest_ns);
	return !bus__endpoint_is_let_go(endpoint);
}
