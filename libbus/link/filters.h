/* link/filters.h: the filters of one peer, each bound to the peer's mailbox. */
#ifndef BUS_LINK_FILTERS_H
#define BUS_LINK_FILTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

/* Sorted by filter. At 10,000 entries an insertion moves 80 KB on average, and the peer cannot make it
 * slower by its choice of filters, as it could with a hash table. */
struct bus__filters {
	struct bus__filter {
		char *text;
		struct bus_sub *sub;
		bool
		    is_due; /* from before the peer's new connection, and not asked for again yet */
	} * list;
	size_t count, cap;
};

/* Subscribes mbox to filter; 0 also if it was already. Otherwise the errors of bus_mailbox_subscribe(),
 * BUS_E_PROTOCOL for too many filters, BUS_E_NOMEM. */
int bus__filters_add(struct bus__filters *filters, struct bus_mailbox *mbox, const char *filter);

/* A renewal begins with the peer's new connection; its end removes the filters that the peer has not asked for again. false:
 * time ran out before all were removed; call it again. */
void bus__filters_begin_renewal(struct bus__filters *filters);
bool bus__filters_end_renewal(struct bus__filters *filters, int64_t until_ns);

/* Unsubscribes the filter, if it is there. */
void bus__filters_remove(struct bus__filters *filters, const char *filter);

/* Unsubscribes all. false: time ran out, as above. */
bool bus__filters_clear(struct bus__filters *filters, int64_t until_ns);

#endif
