/* bus/routes.h: what the table of topics (topics.c) asks of routes (routes.c). Bus lock. */
#ifndef BUS_BUS_ROUTES_H
#define BUS_BUS_ROUTES_H

#include "mailbox/route.h"

struct bus;

/* Makes the routes of a topic that nobody knows yet, for all subscriptions that match it. 0 or BUS_E_NOMEM. */
int bus__routes_make(struct bus *bus, struct topic *topic);

/* Frees them, where the topic stays unknown. */
void bus__routes_free_new(struct topic *topic);

/* Shows publishers other routes of a topic; NULL: none. Takes over a reference; those of before go when nobody reads them. */
void bus__routes_show(struct bus *bus, struct topic *topic, struct snapshot *snapshot);

#endif
