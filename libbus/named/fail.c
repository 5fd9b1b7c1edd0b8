/* named/fail.c: what went wrong on a named bus, and the next step. */
#include "named/fail.h"

#include <inttypes.h>

#include <libbus/bus.h>

#include "bus/bus_internal.h"
#include "bus/fail.h"
#include "log/log.h"

#define KIB(bytes) (((uint64_t)(bytes) + 1023) / 1024)

/* The turn of the threads of this process, which no topic has to do with. */
static int
fail_turn(int err)
{
	if (err == BUS_E_STATE)
		return bus__fail(err,
		    "a signal handler interrupted a publish of its own thread: set a flag in it, and publish when it has returned");
	return bus__fail(err,
	    "timed out: %d threads of this process are stopped inside a publish: continue them, or look why their memory comes so late",
	    LOG_LANES);
}

int
bus__fail_damaged(const struct bus *bus)
{
	return bus__fail(BUS_E_DAMAGED,
	    "%s is damaged: another program wrote into it: end all processes of this bus, then open it again",
	    bus->log->path);
}

int
bus__fail_append(const struct bus *bus, int err)
{
	if (err == BUS_E_DAMAGED)
		return bus__fail_damaged(bus);
	if (err == BUS_E_STATE || err == BUS_E_TIMEDOUT)
		return fail_turn(err);
	if (err != BUS_E_FULL)
		return bus__answer(err);
	return bus__fail(err,
	    "full: stopped processes hold all of the bus's log: let them go on, or end them (ps shows the state T)");
}

int
bus__fail_named(const struct bus *bus, int err, const char *topic, size_t len)
{
	const struct log *log = bus->log;

	switch (err) {
	case BUS_E_DAMAGED:
		return bus__fail_damaged(bus);
	case BUS_E_STATE:
	case BUS_E_TIMEDOUT:
		return fail_turn(err);
	case BUS_E_TOO_BIG:
		if (bus->max_payload != bus__log_most(log))
			return 0;
		return bus__fail(err,
		    BUS__SHOWN ": payload too big: %zu bytes, and a log of %" PRIu64
			       " KiB takes %" PRIu32
			       ": split it, or open the bus with a larger log_bytes",
		    topic, len, KIB(log->map_bytes), bus->max_payload);
	case BUS_E_LIMIT:
		return bus__fail(err,
		    BUS__SHOWN ": retained values are full (%" PRIu64 " of %" PRIu64
			       " KiB, %" PRIu64 " of %" PRIu64
			       " topics): delete some, or open the bus with a larger log_bytes",
		    topic, bus__log_kept_bytes(log) / 1024, bus__log_kept_most(log) / 1024,
		    bus__log_kept_count(log), bus__log_kept_count_most(log));
	case BUS_E_FULL:
		return bus__fail(err,
		    BUS__SHOWN ": full: stopped processes hold all of the bus's log of %" PRIu64
			       " KiB: let them go on, or end them (ps shows the state T)",
		    topic, KIB(log->map_bytes));
	default:
		return 0;
	}
}

int
bus__fail_join(const struct log *log, int err, const char *name)
{
	switch (err) {
	case LOG_NO_DESCRIPTOR:
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN ": no more descriptors: close some, or raise ulimit -n", name);
	case LOG_NO_LOCK:
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN ": the system has no more file locks: end programs that lock files",
		    name);
	case LOG_NO_SLOT:
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN
		    ": %d processes have this bus open, which is all that fit: close one",
		    name, LOG_MEMBERS);
	case BUS__NO_VALUE:
		return bus__fail(BUS_E_LIMIT,
		    BUS__SHOWN
		    ": no room for this process or its will: retained values are full (%" PRIu64
		    " KiB): delete some, or open the bus with a larger log_bytes",
		    name, bus__log_kept_bytes(log) / 1024);
	default:
		return err;
	}
}
