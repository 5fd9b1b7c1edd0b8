#include "link/buffers.h"

#include <string.h>

#include <libbus/error.h>

#include "base/mem.h"

#define QUIET_NS INT64_C(1000000000)

size_t
bus__size_now(struct bus__size *size, int64_t now_ns)
{
	if (size->bytes == 0 || now_ns - size->used_ns >= QUIET_NS)
		size->bytes = BUS__BUFFER;
	return size->bytes;
}

void
bus__size_learn(struct bus__size *size, size_t used, bool is_full, size_t most, int64_t now_ns)
{
	size_t now = bus__size_now(size, now_ns);

	if (is_full)
		size->bytes = 2 * now < most ? 2 * now : most;
	if (is_full || used > BUS__BUFFER)
		size->used_ns = now_ns;
}

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

/* NULL: over the bound, or out of memory. */
static uint8_t *
take_grown(struct bus__buffers *buffers, size_t cap)
{
	uint8_t *data = buffers->grown + cap <= BUS__GROWN_MOST ? bus__malloc(cap) : NULL;

	buffers->grown += data != NULL ? cap : 0;
	return data;
}

static uint8_t *
take_usual(struct bus__buffers *buffers)
{
	return buffers->count > 0 ? buffers->spare[--buffers->count] : bus__malloc(BUS__BUFFER);
}

int
bus__buffers_take(struct bus__buffers *buffers, struct bus__bytes *bytes, size_t cap)
{
	struct bus__bytes taken = {.len = bytes->len, .cap = cap};

	if (bytes->cap >= cap)
		return 0;
	if (cap > BUS__BUFFER)
		taken.data = take_grown(buffers, cap);
	if (taken.data != NULL) {
		taken.grown = cap;
	} else if (bytes->cap >= BUS__BUFFER) {
		return 0;
	} else {
		taken.cap = BUS__BUFFER;
		taken.data = take_usual(buffers);
	}
	if (taken.data == NULL)
		return BUS_E_NOMEM;
	if (bytes->len > 0)
		memcpy(taken.data, bytes->data, bytes->len);
	bus__buffers_leave(buffers, bytes);
	*bytes = taken;
	return 0;
}

void
bus__buffers_leave(struct bus__buffers *buffers, struct bus__bytes *bytes)
{
	buffers->grown -= bytes->grown;
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
