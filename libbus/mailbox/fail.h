/* mailbox/fail.h: the sentences on failures of mailboxes. Each returns err (base/error_text.h). */
#ifndef BUS_MAILBOX_FAIL_H
#define BUS_MAILBOX_FAIL_H

#include "base/error_text.h"

struct bus_mailbox;

/* A call on a bus that is NULL. */
int bus__fail_no_bus(int err) __attribute__((cold, noinline));

/* A call on a mailbox; m may be NULL. */
int bus__fail_mailbox(const struct bus_mailbox *m, int err) __attribute__((cold, noinline));

/* BUS_E_FULL: m refuses. */
int bus__fail_full(const struct bus_mailbox *m, const char *topic) __attribute__((cold, noinline));

#endif
