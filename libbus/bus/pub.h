/* bus/pub.h: a handle on a topic, as the files that send by one know it. */
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
	struct bus__pool *pool;   /* made when it is first needed */
	struct bus__block *loans; /* not committed and not aborted */
	size_t small;             /* payloads up to here take the short way; 0: none */
	uint64_t word;            /* of such a frame, but for its length */
	struct log_topic
	    named; /* on a named bus; and what its records have. topic NULL: it is private */
	struct log_item record;
	int (*send_one)(struct bus *bus, const struct log_item *record, const void *data,
	    size_t len); /* its kind's */
	int type, wait_ms;
};

/* The sentence for a call that failed; pub may be NULL. */
int bus__pub_fail(const struct bus_pub *pub, int err, size_t len) __attribute__((cold, noinline));

/* Tries to publish an item, once. With BUS_E_FULL attempt->full is a reference, to be let go of. */
int bus__pub_try(struct bus_pub *pub, struct ring_item *item, struct attempt *attempt);

/* Publishes an item, and waits for room as the handle says; says why it fails. */
int bus__pub_send_item(struct bus_pub *pub, struct ring_item *item);

/* The same with a payload; what is wrong with it or with the handle is found and said. */
__attribute__((noinline)) int bus__pub_send_bytes(
    struct bus_pub *pub, const void *data, size_t len);

/* Lets go of a loan, if it is still one: a callback inside a commit may have ended it. */
void bus__pub_end_loan(struct bus_pub *pub, const void *data);

static inline int
bus__pub_enter(const struct bus_pub *pub)
{
	return pub == NULL ? BUS_E_INVAL : bus__enter(pub->bus);
}

/* Acquire: pairs with the release that shows a snapshot. Ours cannot be freed and come back at the same address
 * while we hold it, so equal pointers mean nothing has changed. */
static inline bool
bus__pub_is_current(const struct bus_pub *pub)
{
	return atomic_load_explicit(&pub->topic->routes, memory_order_acquire) == pub->routes;
}

#endif
