/* named/place.h: a place in the log between two records, where a quiet mailbox goes on. It holds no segment, as a cursor would. */
#ifndef BUS_NAMED_PLACE_H
#define BUS_NAMED_PLACE_H

#include <stdint.h>

#include "log/log.h"

struct watch_place {
	uint64_t number, at, sequence; /* of the segment, in it, and of the next record */
};

static inline struct watch_place
place_of(const struct log_cursor *c)
{
	return (struct watch_place){.number = c->number, .at = c->at, .sequence = c->sequence};
}

#endif
