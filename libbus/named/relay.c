#include "named/relay.h"

#include "base/park.h"
#include "base/thread.h"
#include "named/state.h"

static void *
relay_main(void *arg)
{
	struct bus *bus = arg;
	struct relay *relay = &bus->named->relay;

	bus__thread_name("bus-relay");
	for (;;) {
		uint32_t seen = atomic_load_explicit(&relay->wakes, memory_order_acquire);

		if (atomic_load_explicit(&relay->stop, memory_order_acquire))
			return NULL;
		bus__watch_sleep(bus, &relay->wakes, seen, INT64_MAX, true);
	}
}

int
bus__relay_start(struct bus *bus)
{
	struct relay *relay = &bus->named->relay;
	int err = relay->runs ? 0 : bus__thread_start(&relay->thread, relay_main, bus);

	relay->runs = err == 0;
	return err;
}

void
bus__relay_stop(struct bus *bus)
{
	struct relay *relay = &bus->named->relay;
	bool runs;

	bus__lock(bus);
	runs = relay->runs;
	relay->runs = false;
	bus__unlock(bus);
	if (!runs)
		return;
	atomic_store_explicit(&relay->stop, true, memory_order_release);
	/* seq_cst: as in bus__mailbox_stir(). */
	atomic_fetch_add_explicit(&relay->wakes, 1, memory_order_seq_cst);
	bus__unpark(&relay->wakes);
	bus__watch_call(bus, &relay->wakes);
	bus__thread_join(relay->thread);
}
