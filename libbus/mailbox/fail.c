/* mailbox/fail.c: the sentence for a failure: error, mailbox, next step. */
#include "mailbox/fail.h"

#include <inttypes.h>

#include <libbus/bus.h>

#include "mailbox/mailbox.h"

int
bus__fail_no_bus(int err)
{
	return bus__fail(err, "the bus is NULL: open one with bus_open()");
}

int
bus__fail_full(const struct bus_mailbox *m, const char *topic)
{
	return bus__fail(BUS_E_FULL,
	    BUS__SHOWN ": mailbox %" PRIu32 " is full (%" PRIu64
		       " KiB) and refuses: wait, drain it or raise its bytes",
	    topic, m->number, (uint64_t)m->ring.size / 1024);
}

int
bus__fail_mailbox(const struct bus_mailbox *m, int err)
{
	if (m == NULL)
		return bus__fail(err, "the mailbox is NULL: open one with bus_mailbox_open()");
	switch (err) {
	case BUS_E_INVAL:
		if (m->drain == BUS_DRAIN_CALLER)
			return bus__answer(err);
		return bus__fail(err,
		    "mailbox %" PRIu32 ": %s drains it: open one with BUS_DRAIN_CALLER", m->number,
		    m->drain == BUS_DRAIN_THREAD ? "its thread" : "its publisher");
	case BUS_E_STATE:
		return bus__fail(err,
		    "mailbox %" PRIu32
		    ": another call drains it, on another thread or around this callback: return from that one first",
		    m->number);
	default:
		return bus__fail(err, "mailbox %" PRIu32 ": %s", m->number, bus_strerror(err));
	}
}
