/* bus/pub.h: a handle on a topic, inside the files that send by it. */
#ifndef BUS_BUS_PUB_H
#define BUS_BUS_PUB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "bus/attempt.h"
#include "bus/bus_internal.h"
#include "log/log.h"

struct bus_pub {
	struct bus *bus;
	struct topic *topic;      /* counted */
	struct snapshot *routes;  /* counted; compared with the topic's on every send */
	struct bus__pool *pool;   /* made at first use */
	struct bus__block *loans; /* neither committed nor aborted */
	size_t small;             /* payloads up to this length take the short way; 0: none */
	uint64_t word;            /* the first word of such a frame, without its length */
	struct log_topic
	    named; /* on a named bus; and what its records have. topic NULL: it is private */
	struct log_item record;
	int (*send_one)(struct bus *bus, const struct log_item *record, const void *data,
	    size_t len); /* its kind's */
	int type, wait_ms;
};

/* The sentence for a call that failed; pub may be NULL. */
int bus__pub_fail(const struct bus_pub *pub, int err, size_t len) __attribute__((cold, noinline));

/* Tries to publish an item, once. With BUS_E_FULL attempt->full is a reference that the caller releases. */
int bus__pub_try(struct bus_pub *pub, struct ring_item *item, struct attempt *attempt);

/* Publishes an item, waits for room as configured, and sets the error text. */
int bus__pub_send_item(struct bus_pub *pub, struct ring_item *item);

/* The same with a payload. Checks the payload and the handle, and sets the error text. */
__attribute__((noinline)) int bus__pub_send_bytes(
    struct bus_pub *pub, const void *data, size_t len);

/* Releases a loan, if it still exists: a callback inside a commit may have ended it. */
void bus__pub_end_loan(struct bus_pub *pub, const void *data);

static inline int
bus__pub_enter(const struct bus_pub *pub)
{
	return pub == NULL ? BUS_E_INVAL : bus__enter(pub->bus);
}

/* Acquire: pairs with the release that shows a snapshot. Ours cannot be freed and its address reused
 * while we hold it, so equal pointers mean that nothing has changed. */
static inline bool
bus__pub_is_current(const struct bus_pub *pub)
{
	return atomic_load_explicit(&pub->topic->routes, memory_order_acquire) == pub->routes;
}

#endif
