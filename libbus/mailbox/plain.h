/* mailbox/plain.h: consecutive messages of a batch with one topic and one type, and only a payload. */
#ifndef BUS_MAILBOX_PLAIN_H
#define BUS_MAILBOX_PLAIN_H

#include <stdint.h>

#include <libbus/bus.h>

enum { PLAIN_RUN = 32 };

struct plain_run {
	uint64_t topic_serial;
	uint8_t type;
	struct bus_slice items[PLAIN_RUN];
	uint32_t next[PLAIN_RUN]; /* the place in the batch behind each */
};

#endif
