/* named/relay.h: a thread that rests where no drainer does.
 *
 * Nobody can wait for a futex and poll descriptors at once: neither a program with a loop of its own nor the link thread. So a
 * bus with such mailboxes has one thread, made with the first of them, that rests for ever, and leads (named/watch.h) where no
 * drainer does. */
#ifndef BUS_NAMED_RELAY_H
#define BUS_NAMED_RELAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct bus;

struct relay {
	pthread_t thread;
	bool runs; /* bus lock */
	_Atomic bool stop;
	_Atomic uint32_t wakes; /* futex: changed for `stop` */
};

/* Starts the thread if it does not run. Bus lock. 0, BUS_E_LIMIT or BUS_E_SYS: no thread. */
int bus__relay_start(struct bus *bus);

/* Ends the thread. No lock held. */
void bus__relay_stop(struct bus *bus);

#endif
