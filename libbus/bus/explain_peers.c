/* bus/explain_peers.c: bus_explain_peers(): the peers of links, for people. */
#include <limits.h>

#include "bus/bus_internal.h"
#include "bus/fail.h"
#include "bus/page.h"
#include "bus/peer.h"

bool
bus__has_peers_readers(const struct bus *bus)
{
	return bus->kind->keep_peers != NULL;
}

void
bus__keep_peers(struct bus *bus, const char *text, size_t len)
{
	bus->kind->keep_peers(bus, text, len);
}

int
bus_explain_peers(struct bus *bus, char *ret_text, size_t cap)
{
	struct page page = {ret_text, cap, 0};
	const struct bus__link_hooks *hooks;
	int err = bus__enter(bus);
	void *links;

	if (err < 0)
		return bus__answer(err);
	if (ret_text == NULL && cap > 0)
		return bus__fail(BUS_E_INVAL, "ret_text is NULL, and cap is %zu", cap);
	bus__lock(bus);
	hooks = bus->hooks;
	links = bus->links;
	bus__unlock(bus);
	if (hooks != NULL)
		hooks->explain(links, &page);
	if (bus->kind->explain_peers != NULL)
		bus->kind->explain_peers(bus, &page);
	if (page.len == 0)
		bus__line(&page, "no peer is connected, and none was refused");
	bus__page_end(&page);
	return page.len > INT_MAX ? INT_MAX : (int)page.len;
}
