/* link/changes.h: changes of the bus's wanted filters, passed from the bus lock to the link thread. */
#ifndef BUS_LINK_CHANGES_H
#define BUS_LINK_CHANGES_H

#include <stdbool.h>

struct bus__links;

void bus__changes_init(struct bus__links *links);

/* The hook of the core, under the bus lock: queues the change. */
void bus__changes_add(void *links, const char *filter, bool wanted);

/* Frees the queued changes. */
void bus__changes_clear(struct bus__links *links);

#endif
