/* link/filters.h: what one peer wants: its filters, each bound to the peer's mailbox. */
#ifndef BUS_LINK_FILTERS_H
#define BUS_LINK_FILTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

/* Sorted by filter. At 10,000 entries an insertion moves 80 KB in the mean, and no choice of filters by
 * the peer makes it slower, as it could a hash table. */
struct bus__filters {
	struct bus__filter {
		char *text;
		struct bus_sub *sub;
		bool is_due; /* the peer has a new connection, and has not asked for it again */
	} * list;
	size_t count, cap;
};

/* Subscribes mbox to filter; 0 also when it is already. What bus_mailbox_subscribe() answers,
 * BUS_E_PROTOCOL when there are too many, BUS_E_NOMEM. */
int bus__filters_add(struct bus__filters *filters, struct bus_mailbox *mbox, const char *filter);

/* The peer has a new connection: what it does not ask for again until the end of the renewal ends. false: not all of it has
 * by that time; call it again. */
void bus__filters_begin_renewal(struct bus__filters *filters);
bool bus__filters_end_renewal(struct bus__filters *filters, int64_t until_ns);

/* Unsubscribes, if it is there. */
void bus__filters_remove(struct bus__filters *filters, const char *filter);

/* Unsubscribes all. false: not by that time, as above. */
bool bus__filters_clear(struct bus__filters *filters, int64_t until_ns);

#endif
