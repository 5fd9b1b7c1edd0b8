/* named/fail.h: the sentences on failures of a named bus. Each returns err (base/error_text.h). */
#ifndef BUS_NAMED_FAIL_H
#define BUS_NAMED_FAIL_H

#include <stddef.h>

struct bus;
struct log;

/* A publish that fails otherwise than on a private bus. 0: it does not. */
int bus__fail_named(const struct bus *bus, int err, const char *topic, size_t len)
    __attribute__((cold, noinline));

/* A send on a named bus, where the topic is not at hand: saving it would cost each send that succeeds. */
int bus__fail_append(const struct bus *bus, int err) __attribute__((cold, noinline));

/* bus_open() of a named bus that met a limit: the above, or enum log_limit. Other errors pass through. log may be NULL. */
int bus__fail_join(const struct log *log, int err, const char *name)
    __attribute__((cold, noinline));

#endif
