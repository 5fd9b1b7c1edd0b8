/* ipc:// and tcp:// of a libbus that was built without links (meson's -Dlinks=disabled): the addresses parse, and each use names
 * the option. inproc:// and registered transports work. */
#include <libbus/error.h>

#include "transport/table.h"

#define MISSING "this libbus was built without links: build it again with -Dlinks=enabled"

static int
refuse(
    const struct bus__address *addr, const struct bus__terms *terms, struct bus__address *numeric)
{
	(void)terms;
	(void)addr;
	(void)numeric;
	return BUS_E_NOTSUP;
}

const struct bus__transport bus__transport_ipc = {
    .scheme = "ipc",
    .form = &bus__form_path,
    .check = refuse,
    .missing = MISSING,
};

const struct bus__transport bus__transport_tcp = {
    .scheme = "tcp",
    .form = &bus__form_host,
    .check = refuse,
    .missing = MISSING,
};
