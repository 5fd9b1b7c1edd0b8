/* core/fail.h: the sentences on failures that several calls share. Each returns err (base/error_text.h). */
#ifndef BUS_CORE_FAIL_H
#define BUS_CORE_FAIL_H

#include <stddef.h>

#include "base/error_text.h"

struct bus;
struct bus_config;
struct bus_mailbox;

/* A topic or filter that is none. */
int bus__fail_name(int err, const char *name) __attribute__((cold, noinline));

/* A publish on topic with len bytes of payload and headers; bus may be NULL. */
int bus__fail_publish(const struct bus *bus, int err, const char *topic, size_t len)
    __attribute__((cold, noinline));

/* A call on a mailbox; m may be NULL. */
int bus__fail_mailbox(const struct bus_mailbox *m, int err) __attribute__((cold, noinline));

/* A send on a named bus, where the topic is not at hand: saving it would cost each send that succeeds. */
int bus__fail_append(int err) __attribute__((cold, noinline));

/* BUS_E_FULL: m refuses. */
int bus__fail_full(const struct bus_mailbox *m, const char *topic) __attribute__((cold, noinline));

#define BUS__PAYLOAD_MOST (256u << 20)

/* bus_open(). */
int bus__fail_open(int err, const char *name, const struct bus_config *cfg)
    __attribute__((cold, noinline));

#endif
