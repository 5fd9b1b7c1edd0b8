/* loop/network.h: reports changes of this machine's addresses and network interfaces, so that a link redials as soon as a
 * network is back. One rtnetlink socket for the whole process, on the reactor's thread. */
#ifndef BUS_LOOP_NETWORK_H
#define BUS_LOOP_NETWORK_H

#include <stddef.h>

struct bus__reactor;

struct bus__network_watch {
	/* A change has happened, perhaps of no interest to the watcher. Runs on the reactor's thread under a lock: it may
	 * only post a task or the like. One call stands for all changes that are queued. */
	void (*changed)(struct bus__network_watch *watch);
	struct bus__network_watch *next;
	struct bus__reactor *reactor; /* NULL: it is off */
};

/* Begins a watch, unless it is on. If the system has no such socket, changes are not reported.
 * Threads: any but the reactor's.  Blocks: never. */
void bus__network_watch(struct bus__network_watch *watch);

/* Ends a watch, if it is on: changed() is not called any more.
 * Threads: any but the reactor's, and not while another begins the watch.  Blocks: until a running changed() has returned. */
void bus__network_unwatch(struct bus__network_watch *watch);

#endif
