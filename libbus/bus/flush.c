/* bus/flush.c: waits until published messages have left their mailboxes and the links. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/park.h"
#include "bus/bus_internal.h"
#include "bus/fail.h"
#include "bus/peer.h"

static bool
has_thread(const struct bus_mailbox *m)
{
	return atomic_load_explicit(&m->has_thread, memory_order_relaxed);
}

/* Waits for mailboxes of that kind. Drops the lock while it waits. */
static int
flush_mailboxes(struct bus *bus, bool (*is_meant)(const struct bus_mailbox *m), int64_t deadline_ns)
{
	struct bus_mailbox **all;
	size_t count = 0, used = 0;
	int err = 0;

	bus__lock(bus);
	for (struct bus_mailbox *m = bus->mailboxes; m != NULL; m = m->next)
		count += is_meant(m);
	all = bus__calloc(count + 1, sizeof *all);
	for (struct bus_mailbox *m = bus->mailboxes; all != NULL && m != NULL; m = m->next)
		if (is_meant(m) && used < count)
			all[used++] = bus__mailbox_ref(m);
	bus__unlock(bus);
	if (all == NULL)
		return BUS_E_NOMEM;
	for (size_t i = 0; i < used; i++) {
		if (err == 0)
			err = bus__mailbox_flush(all[i], deadline_ns);
		bus__mailbox_unref(all[i]);
	}
	bus__free(all);
	return err;
}

void *
bus__links_of(struct bus *bus)
{
	void *links;

	bus__lock(bus);
	links = bus->links;
	bus__unlock(bus);
	return links;
}

int
bus__flush_peers(struct bus *bus, int64_t deadline_ns)
{
	int err;

	if (bus__links_of(bus) == NULL)
		return 0;
	err = flush_mailboxes(bus, bus->kind->waits_for_peer, deadline_ns);
	return err < 0 ? err : bus->hooks->flush(bus->links, deadline_ns);
}

/* Holds a reference: the bus may close during the wait. */
static int
flush(struct bus *bus, int64_t deadline_ns)
{
	int err;

	bus__ref(bus);
	err = flush_mailboxes(bus, has_thread, deadline_ns);
	if (err == 0)
		err = bus__flush_peers(bus, deadline_ns);
	if (err == 0)
		err = bus->kind->error(bus);
	bus__unref(bus);
	return err;
}

int
bus_flush(struct bus *bus, int timeout_ms)
{
	int64_t deadline_ns = bus__deadline_ns(timeout_ms);
	int err = bus__enter(bus);

	if (err == 0 && bus__in_callback())
		err = BUS_E_STATE;
	if (err == 0)
		err = flush(bus, deadline_ns);
	if (err == BUS_E_DAMAGED)
		return err;
	if (err == BUS__E_HANDLER)
		return bus__fail(BUS_E_TIMEDOUT,
		    "bus_flush(): a signal handler ran while mailboxes or links held messages: call again, or give a limit, within which handlers do not end the wait");
	if (err == BUS_E_TIMEDOUT)
		return bus__fail(err,
		    "bus_flush(): timed out: mailboxes or links hold messages after %d ms: give it more, or look which callback is slow",
		    timeout_ms);
	return bus__answer(err);
}
