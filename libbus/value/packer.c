/* The buffer of a packer. */
#include "value/packer.h"

#include "base/mem.h"
#include "value/ext.h"
#include <libbus/error.h>

bool
bus__packer_grow(struct bus_packer *packer, size_t len)
{
	size_t room = packer->len + len + packer->room + 64;
	unsigned char *data;

	if (packer->err < 0)
		return false;
	data = bus__realloc(packer->data, room);
	if (data == NULL) {
		packer->err = BUS_E_NOMEM;
		return false;
	}
	packer->data = data;
	packer->room = room;
	return true;
}

void
bus__packer_seal(struct bus_packer *packer)
{
	packer->shape.elements = 1;
	packer->shape.depth = 0;
}

/* Zeros before the numbers, so that they are aligned in an aligned payload. */
static unsigned
padding(size_t before, size_t head, size_t len)
{
	for (unsigned pad = 0; pad < BUS__NUMBERS_ALIGNMENT; pad++) {
		size_t body = head + pad + len;

		if (body <= UINT32_MAX &&
		    (before + bus__ext_head_bytes((uint32_t)body) + head + pad) %
			    BUS__NUMBERS_ALIGNMENT ==
			0)
			return pad;
	}
	return 0; /* at a size where the extension's own head grows */
}

bool
bus__put_numbers_head(struct bus_packer *packer, const struct bus_numbers *numbers, size_t room)
{
	size_t head = BUS__NUMBERS_HEAD + 4 * (size_t)numbers->dimensions;
	unsigned pad = padding(packer->len, head, numbers->len);
	unsigned char *place;

	/* Once for all of it, so that the packer need not grow by half of it and copy. */
	if (head + pad + 6 + room > packer->room - packer->len &&
	    !bus__packer_grow(packer, head + pad + 6 + room))
		return false;
	bus__put_ext_head(packer, BUS_EXT_NUMBERS, (uint32_t)(head + pad + numbers->len));
	place = bus__put_room(packer, BUS__NUMBERS_HEAD);
	place[0] = (unsigned char)numbers->kind;
	place[1] = numbers->item_bytes;
	place[2] = numbers->dimensions;
	place[3] = (unsigned char)pad;
	for (int i = 0; i < numbers->dimensions; i++) {
		place = bus__put_room(packer, 4);
		for (int j = 0; j < 4; j++)
			place[j] = (unsigned char)(numbers->shape[i] >> (24 - 8 * j) & 0xff);
	}
	memset(bus__put_room(packer, pad), 0, pad);
	return true;
}

void *
bus__put_numbers(struct bus_packer *packer, const struct bus_numbers *numbers)
{
	return bus__put_numbers_head(packer, numbers, numbers->len)
		   ? bus__put_room(packer, numbers->len)
		   : NULL;
}
