/* bus_transport_register(). */
#include <stdbool.h>
#include <string.h>

#include <libbus/own_transport.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "base/sized.h"
#include "transport/blocking.h"

/* As in RFC 3986, but without upper case, which would name the same scheme. */
static bool
is_scheme(const char *text)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+-.");

	return text[0] >= 'a' && text[0] <= 'z' && len < BUS__URL_SCHEME && text[len] == '\0';
}

static const char *
find_missing(const struct bus_transport *t)
{
	return t->listen == NULL   ? "listen"
	       : t->accept == NULL ? "accept"
	       : t->dial == NULL   ? "dial"
	       : t->send == NULL   ? "send"
	       : t->recv == NULL   ? "recv"
	       : t->close == NULL  ? "close"
				   : NULL;
}

int
bus_transport_register(const struct bus_transport *transport)
{
	struct bus_transport room;
	struct bus__added *added;
	const char *missing;
	int err;

	if (transport == NULL)
		return bus__fail(BUS_E_INVAL, "the transport is NULL");
	err = BUS__SIZED_IN(SIZED_TRANSPORT, transport, &room);
	if (err < 0)
		return err;
	if (transport->scheme == NULL || !is_scheme(transport->scheme))
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN
		    ": no scheme: use 1 to 15 of a-z, 0-9, '+', '-' and '.', the first one a letter",
		    transport->scheme != NULL ? transport->scheme : "NULL");
	missing = find_missing(transport);
	if (missing != NULL)
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN ": %s is NULL: a transport has all six functions", transport->scheme,
		    missing);
	added = bus__blocking_new(transport);
	if (added == NULL)
		return bus__fail_about(BUS_E_NOMEM, transport->scheme);
	err = bus__transport_add(added);
	if (err == 0)
		return 0;
	bus__free(added);
	return bus__fail(err,
	    BUS__SHOWN
	    ": the scheme is in use: it is libbus's own, or this process has registered it before; choose another",
	    transport->scheme);
}
