/* mailbox/deadline.h: the deadlines of a mailbox's drainer. A heap per mailbox, whose first entry bounds the
 * drainer's wait; for poll loops, a timerfd beside the eventfd, behind one epoll. No thread watches a clock. */
#ifndef BUS_MAILBOX_DEADLINE_H
#define BUS_MAILBOX_DEADLINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus_mailbox;

struct deadline {
	int64_t due_ns; /* monotonic; INT64_MAX: none */
	size_t at;      /* in the heap, from 1; 0: not there */
};

struct deadlines {
	struct deadline **heap; /* from 1: the first is due first. Bus lock, except next_ns */
	size_t count, cap;
	bool now; /* there is something to do without a deadline */
	_Atomic int64_t
	    next_ns;      /* written under the bus lock, read by the drainer; INT64_MAX: none */
	int epoll, timer; /* -1: not polled, or not needed yet */
};

void bus__deadlines_init(struct deadlines *deadlines);
void bus__deadlines_fini(struct deadlines *deadlines);

/* Adds or moves a deadline, so that the drainer wakes in time. 0, BUS_E_NOMEM, BUS_E_LIMIT, BUS_E_SYS; moving cannot fail.
 * Bus lock, for all. */
int bus__deadlines_set(struct bus_mailbox *mbox, struct deadline *deadline, int64_t due_ns);

/* Takes it out of the heap, if it is there. */
void bus__deadlines_remove(struct bus_mailbox *mbox, struct deadline *deadline);

/* The first deadline that is due by now; NULL: none. */
struct deadline *bus__deadlines_due(const struct deadlines *deadlines, int64_t now_ns);

/* Makes the drainer look at once, or ends that. */
void bus__deadlines_ring(struct bus_mailbox *mbox, bool now);

/* Makes the descriptor that is readable while `fd` is, or while a deadline is due. 0, BUS_E_LIMIT, BUS_E_SYS. */
int bus__deadlines_watch(struct bus_mailbox *mbox, int fd);

#endif
