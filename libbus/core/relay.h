/* core/relay.h: the thread that tells those who do not sleep on the log when it goes on.
 *
 * Nobody can wait for a futex and poll descriptors at once: neither a program with a loop of its own nor the link thread. So a
 * bus with such mailboxes has one thread, made with the first of them, that sleeps where drainers sleep, and
 * makes descriptors readable and wakes peers that have said that they wait. */
#ifndef BUS_CORE_RELAY_H
#define BUS_CORE_RELAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct bus;
struct bus_mailbox;

struct relay {
	pthread_mutex_t lock; /* the list; alone */
	struct bus_mailbox *first;
	pthread_t thread;
	bool runs; /* bus lock */
	_Atomic bool stop;
};

int bus__relay_init(struct relay *relay);
void bus__relay_fini(struct relay *relay);

/* Serves the mailbox from now on, which has a descriptor or is a peer's. Bus lock. 0, BUS_E_LIMIT or BUS_E_SYS: no thread. */
int bus__relay_add(struct bus_mailbox *mbox);
void bus__relay_remove(struct bus_mailbox *mbox);

/* Asks for a signal when the log goes on. false: it has. The drainer. */
bool bus__relay_ask(struct bus_mailbox *mbox);

/* The same for a mailbox whose reader has just begun, which may wait already: tells at once if the log has gone on. */
void bus__relay_begin(struct bus_mailbox *mbox);

/* For a peer whose ring has gone to sleep: it is woken when the log goes on, or has. */
void bus__relay_rest(struct bus_mailbox *mbox);

/* Ends the thread. No lock held. */
void bus__relay_stop(struct bus *bus);

#endif
