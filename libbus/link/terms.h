/* link/terms.h: a link's configuration for its transport (struct bus__terms in link/transport.h). */
#ifndef BUS_LINK_TERMS_H
#define BUS_LINK_TERMS_H

#include <libbus/transport.h>

#include "access/reach.h"
#include "link/transport.h"

/* Copies the text of a setting; NULL stays NULL. 0 or BUS_E_NOMEM. */
int bus__setting_copy(const char *text, char **ret_copy);

/* Copies the texts. terms is zeroed before. 0 or BUS_E_NOMEM. In both cases the caller ends it by _fini(). */
int bus__terms_init(struct bus__terms *terms, const struct bus_link_config *cfg,
    const struct bus__address *addr, bool dials);
void bus__terms_fini(struct bus__terms *terms);

/* The same terms, to read the files again: what prepare() reads, and nothing that the link thread writes. The texts are borrowed.
 * Threads: any. */
void bus__terms_again(const struct bus__terms *terms, struct bus__terms *ret_terms);

/* Whether peers may be on other machines. */
static inline bool
bus__terms_leave(const struct bus__terms *terms)
{
	return terms->encrypts || terms->allow_lan || terms->allow_insecure_remote;
}

/* Whether a peer, or an address to listen at, may be this far away. */
static inline bool
bus__terms_reach(const struct bus__terms *terms, enum bus__reach reach)
{
	return bus__reach_allows(
	    reach, terms->allow_lan, terms->encrypts || terms->allow_insecure_remote);
}

#endif
