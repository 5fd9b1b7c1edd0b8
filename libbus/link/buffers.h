/* link/buffers.h: buffers of connections. A connection has them while it has traffic and returns them when idle; those of the
 * usual size pass from one connection of a bus to the next. Under load they grow, within one bound for all that have grown.
 * Link thread. */
#ifndef BUS_LINK_BUFFERS_H
#define BUS_LINK_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BUS__BUFFER = 64 * 1024,     /* of a read, and of a send without its large payload */
	BUS__BUFFER_IN = 256 * 1024, /* the most of a read under load */
	BUS__BUFFER_OUT =
	    192 *
	    1024, /* the most of a send under load: a Unix socket cuts more than it takes at once */
	BUS__GROWN_MOST = 16 << 20, /* bytes in all grown buffers of a bus */
	BUS__SPARE = 4              /* kept for the next connection with traffic */
};

struct bus__bytes {
	uint8_t *data;
	size_t len, cap;
	size_t grown; /* the part of cap that counts as grown */
};

struct bus__buffers {
	uint8_t *spare[BUS__SPARE];
	unsigned count;
	size_t grown;
};

/* The size for one of a connection's buffers. */
struct bus__size {
	size_t bytes;    /* 0: BUS__BUFFER */
	int64_t used_ns; /* when more than BUS__BUFFER was last in use */
};

/* The size; BUS__BUFFER again after a second in which no more was in use. */
size_t bus__size_now(struct bus__size *size, int64_t now_ns);

/* Notes that `used` bytes were in use. is_full: a larger buffer would have been used, too. */
void bus__size_learn(
    struct bus__size *size, size_t used, bool is_full, size_t most, int64_t now_ns);

/* Makes room for n more bytes. 0 or BUS_E_NOMEM. */
int bus__bytes_reserve(struct bus__bytes *bytes, size_t n);
void bus__bytes_free(struct bus__bytes *bytes);

/* Gives bytes with less room a buffer of `cap`, or of BUS__BUFFER if `cap` is unavailable. 0 or BUS_E_NOMEM. */
int bus__buffers_take(struct bus__buffers *buffers, struct bus__bytes *bytes, size_t cap);

/* Takes the buffer back, whatever its size; `bytes` is empty then. */
void bus__buffers_leave(struct bus__buffers *buffers, struct bus__bytes *bytes);

void bus__buffers_free(struct bus__buffers *buffers);

#endif
