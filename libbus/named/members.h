/* named/members.h: the processes on a named bus, and their wills.
 *
 * Each process keeps a value on `$bus/members/SLOT`, and deletes it when it leaves. For a process that died, another member deletes it:
 * before it sleeps, a member checks for slots without a lock, and holds the lock while it buries the process, so that only one does.
 * The will of a process is a value on `$bus/wills/SLOT`, which has no subscribers. */
#ifndef BUS_NAMED_MEMBERS_H
#define BUS_NAMED_MEMBERS_H

#include <stdatomic.h>
#include <stdint.h>

#include <libbus/bus.h>

struct bus;

#define MEMBERS_PREFIX "$bus/members/"

/* Announces this process, and stores its will (NULL: none). First buries a dead previous owner of the slot. Returns as
 * bus_publish_msg(), but BUS__NO_... (fail.h) for BUS_E_LIMIT. */
int bus__members_join(struct bus *bus, const struct bus_msg *will);

/* Says that it has left, if this is its last bus of that name. */
void bus__members_leave(struct bus *bus, int64_t until_ns);

/* The time between two looks of a process, a second; tests shorten it. Relaxed: it orders nothing. */
extern _Atomic int64_t bus__look_ns;

/* Looks for the dead, unless the last look was within bus__look_ns. Nothing is held. */
void bus__members_heed(struct bus *bus);

#endif
