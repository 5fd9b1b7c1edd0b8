/* link/buffers.h: bytes on their way in or out. They come with traffic and go when a connection is idle: those of the usual size go
 * from one connection of a bus to the next. Link thread. */
#ifndef BUS_LINK_BUFFERS_H
#define BUS_LINK_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

enum {
	BUS__BUFFER = 64 * 1024, /* of a read, and of a send but for a large payload */
	BUS__SPARE = 4           /* kept for the next connection that has something to say */
};

struct bus__bytes {
	uint8_t *data;
	size_t len, cap;
};

struct bus__buffers {
	uint8_t *spare[BUS__SPARE];
	unsigned count;
};

/* Makes room for n more bytes. 0 or BUS_E_NOMEM. */
int bus__bytes_reserve(struct bus__bytes *bytes, size_t n);
void bus__bytes_free(struct bus__bytes *bytes);

/* Gives bytes that have less the room of BUS__BUFFER. 0 or BUS_E_NOMEM. */
int bus__buffers_take(struct bus__buffers *buffers, struct bus__bytes *bytes);

/* Takes it back, whatever its size; the bytes are empty then. */
void bus__buffers_leave(struct bus__buffers *buffers, struct bus__bytes *bytes);

void bus__buffers_free(struct bus__buffers *buffers);

#endif
