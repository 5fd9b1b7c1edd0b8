/* loop/network.h: reports changes of this machine's addresses and network interfaces, so that a link redials as soon as a network is
 * back. One rtnetlink socket for the whole process, on the reactor's thread. */
#ifndef BUS_LOOP_NETWORK_H
#define BUS_LOOP_NETWORK_H

#include <stddef.h>

struct bus__reactor;

struct bus__network_watch {
	/* Something has changed, which may be nothing that matters to the watcher. Runs on the reactor's thread under a lock: it may
	 * only post a task or the like. Changes that lie there together are one. */
	void (*changed)(struct bus__network_watch *watch);
	struct bus__network_watch *next;
	struct bus__reactor *reactor; /* NULL: it is not on */
};

/* Begins a watch, unless it is on. Without such a socket from the system nothing is reported.
 * Threads: any but the reactor's.  Blocks: never. */
void bus__network_watch(struct bus__network_watch *watch);

/* Ends it, if it is on: changed() does not run any more.
 * Threads: any but the reactor's, when none begins it.  Blocks: until a changed() that runs has returned. */
void bus__network_unwatch(struct bus__network_watch *watch);

#endif
