/* link/terms.h: what a transport gets of a link's configuration (struct bus__terms in link/transport.h). */
#ifndef BUS_LINK_TERMS_H
#define BUS_LINK_TERMS_H

#include <libbus/transport.h>

#include "link/transport.h"

/* Copies the texts. terms is zeroed before. 0 or BUS_E_NOMEM; either way _fini() ends it. */
int bus__terms_init(struct bus__terms *terms, const struct bus_link_config *cfg,
    const struct bus__address *addr, bool dials);
void bus__terms_fini(struct bus__terms *terms);

#endif
