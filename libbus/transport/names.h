/* transport/names.h: addresses in use by this process. A forked child starts with none of them. */
#ifndef BUS_TRANSPORT_NAMES_H
#define BUS_TRANSPORT_NAMES_H

#include <stdbool.h>

struct bus__name {
	const char *scheme, *text;
	struct bus__name *next;
};

/* The one lock around the calls below and the use of their results. */
void bus__names_lock(void);
void bus__names_unlock(void);

struct bus__name *bus__names_find(const char *scheme, const char *text);
bool bus__names_add(struct bus__name *name); /* false: taken */
void bus__names_remove(struct bus__name *name);

#endif
