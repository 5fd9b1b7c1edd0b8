/* transport/blocking.c: a registered transport: its operations, and the count of its endpoints that still have a
 * call inside. */
#include "transport/blocking.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "transport/endpoint.h"

#define UNCLOSED_MOST 64 /* from there on this transport gets no new endpoints */

/* --- the counts ------------------------------------------------------------------------------------------------------------- */

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

/* fork() waits for the lock, so the child finds it free. */
static void
watch_fork(void)
{
	pthread_atfork(take_lock, unlock_counts, unlock_counts);
}

/* A child has none of its parent's threads, so the parent's endpoints never end there and do not count. */
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

bool
bus__blocking_is_crowded(struct blocking *kind)
{
	bool crowded;

	lock_counts(kind);
	crowded = kind->unclosed >= UNCLOSED_MOST;
	unlock_counts();
	return crowded;
}

void
bus__blocking_settle(const struct bus__transport *transport, int64_t deadline_ns)
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
			/* Timed out. The next settle does not wait for these again. */
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

uint32_t
bus__blocking_count(struct blocking *kind)
{
	uint32_t epoch;

	lock_counts(kind);
	kind->unclosed++;
	kind->awaited++;
	epoch = kind->epoch;
	unlock_counts();
	return epoch;
}

void
bus__blocking_uncount(struct blocking *kind, uint32_t epoch)
{
	lock_counts(kind);
	kind->unclosed--;
	if (kind->epoch == epoch)
		kind->awaited--;
	atomic_fetch_add_explicit(&kind->closed, 1, memory_order_relaxed);
	unlock_counts();
	bus__unpark(&kind->closed);
}

int
bus__blocking_judge(int err)
{
	return err <= 0 && strcmp(bus_errname(err), bus_errname(INT_MIN)) != 0 ? err : BUS_E_SYS;
}

/* --- a transport ------------------------------------------------------------------------------------------------------------ */

static int
check(const struct bus__address *addr, const struct bus__terms *terms, struct bus__address *numeric)
{
	(void)terms;
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
	    .listen = bus__blocking_listen,
	    .dial = bus__blocking_dial,
	    .settle = bus__blocking_settle,
	    .address_hint =
		"the program that registered the scheme says how its addresses look; they have 1 to 255 bytes of printable text"};
	return &kind->added;
}
