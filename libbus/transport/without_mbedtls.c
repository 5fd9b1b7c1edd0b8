/* tls:// of a libbus that was built without mbedTLS, or without links: the address parses, and each use names the missing package. */
#include <libbus/error.h>

#include "transport/table.h"

static int
refuse(
    const struct bus__address *addr, const struct bus__terms *terms, struct bus__address *numeric)
{
	(void)addr;
	(void)terms;
	(void)numeric;
	return BUS_E_NOTSUP;
}

const struct bus__transport bus__transport_tls = {
    .scheme = "tls",
    .form = &bus__form_host,
    .check = refuse,
    .missing =
	"this libbus was built without mbedTLS or without links: install libmbedtls-dev (Debian, Ubuntu), mbedtls-devel (Fedora), mbedtls-dev (Alpine) or mbedtls (Arch), then build libbus again with -Dlinks=enabled",
};
