/* link/buffers.h: bytes on their way in or out. They come with traffic and go when a connection is idle: those of the usual size go
 * from one connection of a bus to the next. Under load they grow, and all that have grown are bounded together. Link thread. */
#ifndef BUS_LINK_BUFFERS_H
#define BUS_LINK_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BUS__BUFFER = 64 * 1024,     /* of a read, and of a send but for a large payload */
	BUS__BUFFER_IN = 256 * 1024, /* what a read grows to */
	BUS__BUFFER_OUT =
	    192 * 1024, /* the same of a send: more than a Unix socket takes at once is cut */
	BUS__GROWN_MOST = 16 << 20, /* bytes of the buffers of a bus that have grown */
	BUS__SPARE = 4              /* kept for the next connection that has something to say */
};

struct bus__bytes {
	uint8_t *data;
	size_t len, cap;
	size_t grown; /* of cap, that count as grown */
};

struct bus__buffers {
	uint8_t *spare[BUS__SPARE];
	unsigned count;
	size_t grown;
};

/* How large one of a connection's buffers is to be. */
struct bus__size {
	size_t bytes;    /* 0: BUS__BUFFER */
	int64_t used_ns; /* when more than that was last in use */
};

/* The size, which is BUS__BUFFER again when for a second no more was in use. */
size_t bus__size_now(struct bus__size *size, int64_t now_ns);

/* Notes that `used` bytes were in use. is_full: more would have been, with more room. */
void bus__size_learn(
    struct bus__size *size, size_t used, bool is_full, size_t most, int64_t now_ns);

/* Makes room for n more bytes. 0 or BUS_E_NOMEM. */
int bus__bytes_reserve(struct bus__bytes *bytes, size_t n);
void bus__bytes_free(struct bus__bytes *bytes);

/* Gives bytes that have less the room of `cap`, or of BUS__BUFFER where that is not to be had. 0 or BUS_E_NOMEM. */
int bus__buffers_take(struct bus__buffers *buffers, struct bus__bytes *bytes, size_t cap);

/* Takes it back, whatever its size; the bytes are empty then. */
void bus__buffers_leave(struct bus__buffers *buffers, struct bus__bytes *bytes);

void bus__buffers_free(struct bus__buffers *buffers);

#endif
