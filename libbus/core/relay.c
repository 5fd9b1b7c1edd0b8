#include "core/relay.h"

#include "base/thread.h"
#include "core/bus_internal.h"
#include "core/members.h"
#include "core/reader.h"

int
bus__relay_init(struct relay *relay)
{
	return pthread_mutex_init(&relay->lock, NULL) != 0 ? BUS_E_NOMEM : 0;
}

void
bus__relay_fini(struct relay *relay)
{
	pthread_mutex_destroy(&relay->lock);
}

static void
tell(struct bus_mailbox *m)
{
	struct bus_mailbox *owed = NULL; /* a peer owes nothing */

	if (!m->is_peer)
		bus__mailbox_signal_fd(m);
	else if (bus__ring_rouse(&m->ring))
		bus__mailbox_wake(m, &owed);
}

/* Tells the mailbox if it has asked, and the log has gone on since. */
static void
relay_to(struct bus_mailbox *m)
{
	/* Acquire: pairs with bus__relay_ask(), by way of the tail that was read before. */
	uint64_t asked = atomic_load_explicit(&m->reader->asked, memory_order_acquire);

	if (asked == 0 || asked - 1 == bus__log_tail(m->reader->log))
		return;
	if (atomic_compare_exchange_strong_explicit(
		&m->reader->asked, &asked, 0, memory_order_acq_rel, memory_order_relaxed))
		tell(m);
}

static void *
relay_main(void *arg)
{
	struct bus *bus = arg;
	struct relay *relay = &bus->relay;

	bus__thread_name("bus-relay");
	while (!atomic_load_explicit(&relay->stop, memory_order_acquire)) {
		uint32_t seen = bus__log_news(bus->log);

		pthread_mutex_lock(&relay->lock);
		for (struct bus_mailbox *m = relay->first; m != NULL; m = m->reader->next_relayed)
			relay_to(m);
		pthread_mutex_unlock(&relay->lock);
		/* Where nobody else does: they wait for their descriptors. */
		bus__members_heed(bus);
		/* Those who asked have asked the log, too. */
		if (!atomic_load_explicit(&relay->stop, memory_order_acquire))
			bus__log_sleep(bus->log, seen, INT64_MAX);
	}
	return NULL;
}

int
bus__relay_add(struct bus_mailbox *m)
{
	struct relay *relay = &m->bus->relay;
	int err;

	if (!relay->runs) {
		err = bus__thread_start(&relay->thread, relay_main, m->bus);
		if (err < 0)
			return err;
		relay->runs = true;
	}
	pthread_mutex_lock(&relay->lock);
	m->reader->next_relayed = relay->first;
	relay->first = m;
	pthread_mutex_unlock(&relay->lock);
	return 0;
}

void
bus__relay_remove(struct bus_mailbox *m)
{
	struct relay *relay = &m->bus->relay;
	struct bus_mailbox **at;

	pthread_mutex_lock(&relay->lock);
	for (at = &relay->first; *at != NULL && *at != m;)
		at = &(*at)->reader->next_relayed;
	if (*at != NULL)
		*at = m->reader->next_relayed;
	pthread_mutex_unlock(&relay->lock);
}

bool
bus__relay_ask(struct bus_mailbox *m)
{
	struct reader *r = m->reader;
	uint64_t position;

	if (!atomic_load_explicit(&r->begun, memory_order_acquire))
		return true;
	position = bus__log_position(&r->cursor);
	atomic_store_explicit(&r->asked, position + 1, memory_order_release);
	if (bus__log_ask(r->log, position))
		return true;
	/* Whoever takes it back gives the signal. */
	return atomic_exchange_explicit(&r->asked, 0, memory_order_acq_rel) == 0;
}

void
bus__relay_begin(struct bus_mailbox *m)
{
	if (!bus__relay_ask(m))
		tell(m);
}

void
bus__relay_rest(struct bus_mailbox *m)
{
	bus__reader_rest(m->reader);
	if (bus__relay_ask(m))
		return;
	/* It has gone on: the relay is to wake it, so that the link thread does other things before. The tail is never
	 * at 0. */
	atomic_store_explicit(&m->reader->asked, 1, memory_order_release);
	bus__log_call(m->reader->log);
}

void
bus__relay_stop(struct bus *bus)
{
	bool runs;

	bus__lock(bus);
	runs = bus->relay.runs;
	bus->relay.runs = false;
	bus__unlock(bus);
	if (!runs)
		return;
	atomic_store_explicit(&bus->relay.stop, true, memory_order_release);
	bus__log_call(bus->log);
	bus__thread_join(bus->relay.thread);
}
