/* named/warn.c: what a named bus warns of: its files and its values. */
#include "named/warn.h"

#include "bus/notice.h"
#include "named/state.h"

#define VALUES_MANY  8 /* tenths of what there may be */
#define VALUES_FEWER 7

void
bus__warn_files(struct bus *bus, enum log_trouble trouble)
{
	if (trouble == LOG_IS_WELL ||
	    atomic_load_explicit(&bus->watched, memory_order_relaxed) == 0 ||
	    atomic_exchange_explicit(&bus->named->told_files, true, memory_order_relaxed))
		return;
	if (trouble == LOG_IS_DAMAGED)
		bus__warn(bus, "damaged", "log", bus->log->path, "epoch", bus->log->epoch,
		    "the log of this bus is damaged, since another program wrote into it: end all "
		    "processes that are on it, then open it again");
	else if (trouble == LOG_IS_REMOVED)
		bus__warn(bus, "removed", "log", bus->log->path, "epoch", bus->log->epoch,
		    "the files of this bus were removed: a program that opens the name now is on "
		    "another bus; end all processes of this one");
	else
		bus__warn(bus, "truncated", "log", bus->log->path, "epoch", bus->log->epoch,
		    "the log of this bus was truncated, which ends each process that uses it "
		    "(SIGBUS): end all processes of it, and exclude the file from log rotation");
}

void
bus__warn_values(struct bus *bus)
{
	const struct log *log = bus->log;
	uint64_t bytes = bus__log_kept_bytes(log), bytes_most = bus__log_kept_most(log);
	uint64_t count = bus__log_kept_count(log), count_most = bus__log_kept_count_most(log);

	if (bytes < bytes_most / 10 * VALUES_FEWER && count < count_most / 10 * VALUES_FEWER)
		atomic_store_explicit(&bus->named->told_values, false, memory_order_relaxed);
	if ((bytes < bytes_most / 10 * VALUES_MANY && count < count_most / 10 * VALUES_MANY) ||
	    atomic_load_explicit(&bus->watched, memory_order_relaxed) == 0 ||
	    atomic_exchange_explicit(&bus->named->told_values, true, memory_order_relaxed))
		return;
	if (count >= count_most / 10 * VALUES_MANY)
		bus__warn(bus, "values", "log", log->path, "values", count,
		    "retained values take 80 % of the number that this bus has places for: delete "
		    "some, or open the bus with a larger log_bytes");
	else
		bus__warn(bus, "values", "log", log->path, "bytes", bytes,
		    "retained values take 80 % of the room that they may take: delete some, or "
		    "open the bus with a larger log_bytes");
}
