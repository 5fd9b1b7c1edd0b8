/* named/members.h: who is on a named bus, and what is said for one who died.
 *
 * Each process keeps a value on `$bus/members/SLOT`, and one without payload when it leaves. One that dies cannot: any other
 * member does it, who finds at a rest that the slot's lock is gone, and holds it meanwhile, so that one does. What the dead
 * one left to be said, its will, is a value on `$bus/wills/SLOT`, which nobody subscribes to. */
#ifndef BUS_NAMED_MEMBERS_H
#define BUS_NAMED_MEMBERS_H

#include <stdatomic.h>
#include <stdint.h>

#include <libbus/bus.h>

struct bus;

#define MEMBERS_PREFIX "$bus/members/"

/* Says that this process is there, and notes its will (NULL: none). Buries first whoever had its slot and died. What
 * bus_publish_msg() answers, but BUS__NO_... (fail.h) for BUS_E_LIMIT. */
int bus__members_join(struct bus *bus, const struct bus_msg *will);

/* Says that it has left, if this is its last bus of that name. */
void bus__members_leave(struct bus *bus, int64_t until_ns);

/* The time between two looks of a process, a second; tests shorten it. Relaxed: it orders nothing. */
extern _Atomic int64_t bus__look_ns;

/* Looks for the dead, unless the last look was within bus__look_ns. Nothing is held. */
void bus__members_heed(struct bus *bus);

#endif
