/* base/parts.h: a payload in parts. */
#ifndef BUS_BASE_PARTS_H
#define BUS_BASE_PARTS_H

#include <stdint.h>
#include <string.h>

#include <libbus/bus.h>

/* Copies the parts to `to`, one behind the other. */
static inline void
bus__parts_join(uint8_t *to, const struct bus_slice *parts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (parts[i].len > 0)
			memcpy(to, parts[i].data, parts[i].len);
		to += parts[i].len;
	}
}

#endif
