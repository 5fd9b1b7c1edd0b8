/* bus/routes.h: the calls of the table of topics (topics.c) on routes (routes.c). Bus lock. */
#ifndef BUS_BUS_ROUTES_H
#define BUS_BUS_ROUTES_H

#include "mailbox/route.h"

struct bus;

/* Makes the routes of an unpublished topic, for all subscriptions that match it. 0 or BUS_E_NOMEM. */
int bus__routes_make(struct bus *bus, struct topic *topic);

/* Frees them, if the topic is not inserted. */
void bus__routes_free_new(struct topic *topic);

/* Shows publishers other routes of a topic; NULL: none. Takes over a reference. The old ones are freed when no reader is left. */
void bus__routes_show(struct bus *bus, struct topic *topic, struct snapshot *snapshot);

#endif
