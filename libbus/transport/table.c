#include "transport/table.h"

#include <stddef.h>

const struct bus__transport *const bus__transports[] = {
    &bus__transport_inproc,
    &bus__transport_ipc,
    &bus__transport_tcp,
    NULL,
};
