#include "link/buffers.h"

#include <string.h>

#include <libbus/error.h>

#include "base/mem.h"

int
bus__bytes_reserve(struct bus__bytes *bytes, size_t n)
{
	size_t cap = bytes->cap * 2;
	uint8_t *data;

	if (bytes->cap - bytes->len >= n)
		return 0;
	if (cap < bytes->len + n)
		cap = bytes->len + n;
	data = bus__realloc(bytes->data, cap);
	if (data == NULL)
		return BUS_E_NOMEM;
	bytes->data = data;
	bytes->cap = cap;
	return 0;
}

void
bus__bytes_free(struct bus__bytes *bytes)
{
	bus__free(bytes->data);
	*bytes = (struct bus__bytes){.data = NULL};
}

int
bus__buffers_take(struct bus__buffers *buffers, struct bus__bytes *bytes)
{
	uint8_t *data;

	if (bytes->cap >= BUS__BUFFER)
		return 0;
	data = buffers->count > 0 ? buffers->spare[--buffers->count] : bus__malloc(BUS__BUFFER);
	if (data == NULL)
		return BUS_E_NOMEM;
	if (bytes->len > 0)
		memcpy(data, bytes->data, bytes->len);
	bus__free(bytes->data);
	bytes->data = data;
	bytes->cap = BUS__BUFFER;
	return 0;
}

void
bus__buffers_leave(struct bus__buffers *buffers, struct bus__bytes *bytes)
{
	if (bytes->cap == BUS__BUFFER && buffers->count < BUS__SPARE) {
		buffers->spare[buffers->count++] = bytes->data;
		*bytes = (struct bus__bytes){.data = NULL};
	} else {
		bus__bytes_free(bytes);
	}
}

void
bus__buffers_free(struct bus__buffers *buffers)
{
	while (buffers->count > 0)
		bus__free(buffers->spare[--buffers->count]);
}
