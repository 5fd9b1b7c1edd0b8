/* named/log_stats.c: the size and fill of a named bus's log, and its processes, in numbers. */
#include "base/error_text.h"
#include "bus/bus_internal.h"
#include "base/sized.h"

#include "log/log.h"
#include "log/summary.h"

_Static_assert(
    BUS_LIMIT_MEMBERS == LOG_MEMBERS, "each slot of the log is a number of bus_member()");

int
bus_log_stats(struct bus *bus, struct bus_log_stats *ret_stats)
{
	struct bus_log_stats stats;
	struct log_summary s;
	int err = bus__enter(bus);

	if (err < 0)
		return bus__answer(err);
	if (ret_stats == NULL)
		return bus__answer(BUS_E_INVAL);
	err = bus__sized_check(&bus__sized[SIZED_LOG_STATS], ret_stats->size);
	if (err < 0)
		return err;
	if (!bus->kind->has_members)
		return bus__fail(BUS_E_NOTSUP, "this bus is private: only a named bus has a log");
	err = bus__log_summary(bus->log, &s);
	if (err < 0)
		return bus__fail_about(err, "bus_log_stats()");
	stats = (struct bus_log_stats){
	    .size = sizeof stats,
	    .log_bytes = s.bytes,
	    .messages = s.next - 1,
	    .messages_left = s.there,
	    .oldest = s.oldest,
	    .values_bytes = s.kept_bytes,
	    .values_most = s.kept_most,
	    .values_count = s.kept_count,
	    .values_count_most = s.kept_count_most,
	    .segments = s.segments,
	    .readers = s.readers,
	    .readers_most = LOG_MEMBERS,
	    .processes = s.members,
	    .processes_most = LOG_MEMBERS,
	};
	bus__sized_write(&bus__sized[SIZED_LOG_STATS], &stats, ret_stats);
	return 0;
}

int
bus_member(struct bus *bus, uint32_t number, struct bus_member *ret_member)
{
	struct bus_member member;
	int err = bus__enter(bus);
	uint32_t pid;
	bool alive;

	if (err < 0)
		return bus__answer(err);
	if (ret_member == NULL)
		return bus__answer(BUS_E_INVAL);
	err = bus__sized_check(&bus__sized[SIZED_MEMBER], ret_member->size);
	if (err < 0)
		return err;
	if (number >= BUS_LIMIT_MEMBERS)
		return bus__fail(BUS_E_INVAL, "member %u: numbers are below %d", (unsigned)number,
		    BUS_LIMIT_MEMBERS);
	if (!bus->kind->has_members)
		return bus__fail(BUS_E_NOTSUP, "this bus is private: only a named bus has members");
	/* Who leaves takes its pid away before its lock: one whose pid is still there without a lock is dead. */
	do {
		pid = bus__log_pid(bus->log, number);
		if (pid == 0)
			return 0;
		alive = bus__log_is_alive(bus->log, number);
	} while (bus__log_pid(bus->log, number) != pid);
	member = (struct bus_member){
	    .size = sizeof member,
	    .pid = pid,
	    .is_this = number == bus->log->member,
	    .is_alive = alive,
	};
	bus__sized_write(&bus__sized[SIZED_MEMBER], &member, ret_member);
	return 1;
}
