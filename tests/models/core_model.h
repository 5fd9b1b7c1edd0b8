/* core_model.h: a private bus with one mailbox, driven by the public functions. */
#ifndef MODELS_CORE_MODEL_H
#define MODELS_CORE_MODEL_H

#include <libbus/bus.h>

#include "mailbox/mailbox.h"
#include "model.h"

extern struct bus *model_bus;
extern struct bus_mailbox *model_mbox;
extern struct bus_sub *model_sub;                /* of model_hear() to "a" */
extern struct bus_pub *model_pub[MODEL_THREADS]; /* of "a", one for each publishing thread */

/* What the callback keeps, plain: it is the library that orders one call behind the other. */
extern struct model_listener {
	uint64_t calls, lost;
	uint64_t last[MODEL_THREADS]; /* number of the last message from each publisher */
	bool over;                    /* it must not be called any more */
} model_listener;

void model_bus_open(int full, int drain, int publishers, int wait_ms);

/* Gives what is shared in a mailbox the names that controls use. */
void model_name_parts(struct bus_mailbox *mbox);

/* The route from "a" to the mailbox. */
struct route *model_route(void);

/* Shrinks the mailbox's ring to `size` bytes. */
void model_shrink(uint64_t size);

/* Message `number` (from 1) of a publisher. Returns what bus_pub_send() says. */
int model_send(int publisher, int number);

/* Empties the mailbox, checks that all that was offered is accounted for, and closes everything. */
void model_bus_close(uint64_t offered);

#endif
