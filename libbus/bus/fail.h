/* bus/fail.h: the sentences on failures that several calls share. Each returns err (base/error_text.h). */
#ifndef BUS_BUS_FAIL_H
#define BUS_BUS_FAIL_H

#include <stddef.h>

#include "base/error_text.h"
#include "mailbox/fail.h"
#include "mailbox/host.h"

struct bus;
struct bus_config;

/* Which limit was reached. Internal codes: the sentence turns them into BUS_E_LIMIT. */
enum {
	BUS__NO_TOPIC = -1100,      /* max_topics */
	BUS__NO_VALUE = -1103,      /* retained values in the log */
	BUS__NO_DESCRIPTOR = -1104, /* of the process or of the system */
};

/* A publish on topic with len bytes of payload and headers; bus may be NULL. */
int bus__fail_publish(const struct bus *bus, int err, const char *topic, size_t len)
    __attribute__((cold, noinline));

#define BUS__PAYLOAD_MOST (256u << 20)

/* bus_open(). For BUS_E_LIMIT the text is set already. */
int bus__fail_open(int err, const char *name, const struct bus_config *cfg)
    __attribute__((cold, noinline));

#endif
