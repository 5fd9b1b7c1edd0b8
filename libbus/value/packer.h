/* value/packer.h: a packer from the inside, for pack.c and the Python extension, which knows the shape of its values. */
#ifndef BUS_VALUE_PACKER_H
#define BUS_VALUE_PACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <libbus/pack.h>

/* The open containers while values are written or read. */
struct bus__shape {
	uint32_t elements;
	uint32_t depth;                /* open containers */
	uint32_t left[BUS_PACK_DEPTH]; /* values missing in each of them */
};

struct bus_packer {
	struct bus__shape shape;
	unsigned char *data;
	size_t len, room;
	int err; /* the first one sticks */
};

/* Makes room for len bytes more. False: out of memory, and the failure sticks. */
bool bus__packer_grow(struct bus_packer *packer, size_t len);

/* Declares the output of bus__put_*() one whole value within the limits; these count nothing. */
void bus__packer_seal(struct bus_packer *packer);

/* Writes the head of an array of numbers, whose kind, item_bytes, dimensions, shape and len are valid, and returns the room
 * for the numbers. NULL: out of memory. */
void *bus__put_numbers(struct bus_packer *packer, const struct bus_numbers *numbers);

/* The same without the numbers, with room for that many bytes behind the head. False: out of memory. */
bool bus__put_numbers_head(
    struct bus_packer *packer, const struct bus_numbers *numbers, size_t room);

/* Room for len bytes, or NULL. */
static inline unsigned char *
bus__put_room(struct bus_packer *packer, size_t len)
{
	unsigned char *place;

	if (len > packer->room - packer->len && !bus__packer_grow(packer, len))
		return NULL;
	place = packer->data + packer->len;
	packer->len += len;
	return place;
}

static inline void
bus__put_byte(struct bus_packer *packer, unsigned char byte)
{
	unsigned char *place = bus__put_room(packer, 1);

	if (place != NULL)
		*place = byte;
}

/* A first byte, then the low `bytes` bytes of number, big endian. */
static inline void
bus__put_number(struct bus_packer *packer, unsigned char first, unsigned bytes, uint64_t number)
{
	unsigned char *place = bus__put_room(packer, 1 + (size_t)bytes);

	if (place == NULL)
		return;
	*place = first;
	for (unsigned i = bytes; i > 0; i--, number >>= 8)
		place[i] = (unsigned char)(number & 0xff);
}

static inline void
bus__put_uint(struct bus_packer *packer, uint64_t number)
{
	if (number < 0x80)
		bus__put_byte(packer, (unsigned char)number);
	else if (number <= UINT8_MAX)
		bus__put_number(packer, 0xcc, 1, number);
	else if (number <= UINT16_MAX)
		bus__put_number(packer, 0xcd, 2, number);
	else if (number <= UINT32_MAX)
		bus__put_number(packer, 0xce, 4, number);
	else
		bus__put_number(packer, 0xcf, 8, number);
}

static inline void
bus__put_int(struct bus_packer *packer, int64_t number)
{
	if (number >= 0)
		bus__put_uint(packer, (uint64_t)number);
	else if (number >= -32)
		bus__put_byte(packer, (unsigned char)((uint64_t)number & 0xff));
	else if (number >= INT8_MIN)
		bus__put_number(packer, 0xd0, 1, (uint64_t)number);
	else if (number >= INT16_MIN)
		bus__put_number(packer, 0xd1, 2, (uint64_t)number);
	else if (number >= INT32_MIN)
		bus__put_number(packer, 0xd2, 4, (uint64_t)number);
	else
		bus__put_number(packer, 0xd3, 8, (uint64_t)number);
}

static inline void
bus__put_float(struct bus_packer *packer, double number)
{
	uint64_t bits;

	memcpy(&bits, &number, sizeof bits);
	bus__put_number(packer, 0xcb, 8, bits);
}

/* The head of a text, in its shortest form; the bytes follow. */
static inline void
bus__put_text_head(struct bus_packer *packer, uint32_t len)
{
	if (len < 32)
		bus__put_byte(packer, (unsigned char)(0xa0 | len));
	else if (len <= UINT8_MAX)
		bus__put_number(packer, 0xd9, 1, len);
	else if (len <= UINT16_MAX)
		bus__put_number(packer, 0xda, 2, len);
	else
		bus__put_number(packer, 0xdb, 4, len);
}

static inline void
bus__put_bytes_head(struct bus_packer *packer, uint32_t len)
{
	if (len <= UINT8_MAX)
		bus__put_number(packer, 0xc4, 1, len);
	else if (len <= UINT16_MAX)
		bus__put_number(packer, 0xc5, 2, len);
	else
		bus__put_number(packer, 0xc6, 4, len);
}

static inline void
bus__put_array_head(struct bus_packer *packer, uint32_t count)
{
	if (count < 16)
		bus__put_byte(packer, (unsigned char)(0x90 | count));
	else if (count <= UINT16_MAX)
		bus__put_number(packer, 0xdc, 2, count);
	else
		bus__put_number(packer, 0xdd, 4, count);
}

static inline void
bus__put_map_head(struct bus_packer *packer, uint32_t count)
{
	if (count < 16)
		bus__put_byte(packer, (unsigned char)(0x80 | count));
	else if (count <= UINT16_MAX)
		bus__put_number(packer, 0xde, 2, count);
	else
		bus__put_number(packer, 0xdf, 4, count);
}

/* The length of the head of an extension of len bytes: 1, 2, 4, 8 and 16 have a head of their own. */
static inline unsigned
bus__ext_head_bytes(uint32_t len)
{
	if (len <= 16 && len > 0 && (len & (len - 1)) == 0)
		return 2;
	return len <= UINT8_MAX ? 3 : len <= UINT16_MAX ? 4 : 6;
}

static inline void
bus__put_ext_head(struct bus_packer *packer, int8_t ext, uint32_t len)
{
	switch (bus__ext_head_bytes(len)) {
	case 2:
		bus__put_byte(packer, (unsigned char)(len == 1   ? 0xd4
						      : len == 2 ? 0xd5
						      : len == 4 ? 0xd6
						      : len == 8 ? 0xd7
								 : 0xd8));
		break;
	case 3:
		bus__put_number(packer, 0xc7, 1, len);
		break;
	case 4:
		bus__put_number(packer, 0xc8, 2, len);
		break;
	default:
		bus__put_number(packer, 0xc9, 4, len);
	}
	bus__put_byte(packer, (unsigned char)ext);
}

static inline void
bus__put_body(struct bus_packer *packer, const void *data, size_t len)
{
	unsigned char *place = bus__put_room(packer, len);

	if (place != NULL && len > 0)
		memcpy(place, data, len);
}

#endif
