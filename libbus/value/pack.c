/* msgpack, both ways. msgpack-c 4.0.0 reserves memory for any count in a header and stops at
 * BUS_PACK_DEPTH, so measure() walks over all of a payload before its unpacker gets it. */
#include <libbus/pack.h>

#include <stdint.h>
#include <string.h>

#include <msgpack.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "value/ext.h"
#include "value/packer.h"
#include "value/value.h"
#include <libbus/error.h>

/* --- the shape of a payload, the same for reading and writing ------------------------------------- */

static bool
is_whole(const struct bus__shape *shape)
{
	return shape->elements > 0 && shape->depth == 0;
}

/* Counts one value: a container of `inside` values, or not a container. */
static int
add(struct bus__shape *shape, bool container, uint64_t inside)
{
	if (is_whole(shape))
		return BUS_E_INVAL;
	if (inside >= BUS_PACK_ELEMENTS - shape->elements)
		return BUS_E_LIMIT;
	/* An empty container needs a place on msgpack-c's stack too. */
	if (container && shape->depth == BUS_PACK_DEPTH)
		return BUS_E_LIMIT;
	shape->elements++;
	if (shape->depth > 0)
		shape->left[shape->depth - 1]--;
	if (container)
		shape->left[shape->depth++] = (uint32_t)inside;
	while (shape->depth > 0 && shape->left[shape->depth - 1] == 0)
		shape->depth--;
	return 0;
}

/* --- reading -------------------------------------------------------------------------------------- */

enum family { BAD, PLAIN, SIZED, TEXT, ARRAY, MAP };

/* By first byte, 0xC0 to 0xDF: a size or a count of this many bytes, then the fixed bytes. */
static const struct head {
	uint8_t family, size_bytes, fixed;
} heads[32] = {
    [0x00] = {PLAIN, 0, 0},  /* nil */
    [0x02] = {PLAIN, 0, 0},  /* false */
    [0x03] = {PLAIN, 0, 0},  /* true */
    [0x04] = {SIZED, 1, 0},  /* bin 8 */
    [0x05] = {SIZED, 2, 0},  /* bin 16 */
    [0x06] = {SIZED, 4, 0},  /* bin 32 */
    [0x07] = {SIZED, 1, 1},  /* ext 8 */
    [0x08] = {SIZED, 2, 1},  /* ext 16 */
    [0x09] = {SIZED, 4, 1},  /* ext 32 */
    [0x0A] = {PLAIN, 0, 4},  /* float 32 */
    [0x0B] = {PLAIN, 0, 8},  /* float 64 */
    [0x0C] = {PLAIN, 0, 1},  /* uint 8 */
    [0x0D] = {PLAIN, 0, 2},  /* uint 16 */
    [0x0E] = {PLAIN, 0, 4},  /* uint 32 */
    [0x0F] = {PLAIN, 0, 8},  /* uint 64 */
    [0x10] = {PLAIN, 0, 1},  /* int 8 */
    [0x11] = {PLAIN, 0, 2},  /* int 16 */
    [0x12] = {PLAIN, 0, 4},  /* int 32 */
    [0x13] = {PLAIN, 0, 8},  /* int 64 */
    [0x14] = {PLAIN, 0, 2},  /* fixext 1 */
    [0x15] = {PLAIN, 0, 3},  /* fixext 2 */
    [0x16] = {PLAIN, 0, 5},  /* fixext 4 */
    [0x17] = {PLAIN, 0, 9},  /* fixext 8 */
    [0x18] = {PLAIN, 0, 17}, /* fixext 16 */
    [0x19] = {TEXT, 1, 0},   /* str 8 */
    [0x1A] = {TEXT, 2, 0},   /* str 16 */
    [0x1B] = {TEXT, 4, 0},   /* str 32 */
    [0x1C] = {ARRAY, 2, 0},  /* array 16 */
    [0x1D] = {ARRAY, 4, 0},  /* array 32 */
    [0x1E] = {MAP, 2, 0},    /* map 16 */
    [0x1F] = {MAP, 4, 0},    /* map 32 */
};

/* Takes the header at *at, and its size or count. */
static struct head
take_head(const uint8_t **at, const uint8_t *end, uint64_t *ret_size)
{
	uint8_t first = *(*at)++;
	struct head head = {PLAIN, 0, 0};
	uint64_t size = 0;

	if (first >= 0xC0 && first <= 0xDF) {
		head = heads[first & 0x1F];
	} else if (first >= 0xA0 && first <= 0xBF) {
		head.family = TEXT;
		size = first & 0x1F;
	} else if (first >= 0x80 && first <= 0x9F) {
		head.family = first < 0x90 ? MAP : ARRAY;
		size = first & 0x0F;
	}
	if (head.size_bytes > end - *at)
		return (struct head){BAD, 0, 0};
	for (int i = 0; i < head.size_bytes; i++)
		size = size << 8 | *(*at)++;
	*ret_size = size;
	return head;
}

/* Whether data is exactly one value within the limits, and its number of elements. *ret_offset: the place of the value
 * looked at last. */
static int
measure(const char *data, size_t len, size_t *ret_elements, size_t *ret_offset)
{
	const uint8_t *at = (const uint8_t *)data, *end = at + len;
	struct bus__shape shape = {0};

	while (!is_whole(&shape)) {
		struct head head;
		uint64_t size, inside = 0, body = 0;

		*ret_offset = (size_t)(at - (const uint8_t *)data);
		if (at == end)
			return BUS_E_DECODE;
		head = take_head(&at, end, &size);
		if (head.family == BAD)
			return BUS_E_DECODE;
		if (head.family == ARRAY)
			inside = size;
		else if (head.family == MAP)
			inside = 2 * size;
		else
			body = head.fixed + size;
		if (body > (uint64_t)(end - at))
			return BUS_E_DECODE;
		if (head.family == TEXT && !bus__utf8_valid(at, (size_t)body))
			return BUS_E_DECODE;
		at += body;
		if (add(&shape, head.family == ARRAY || head.family == MAP, inside) < 0)
			return BUS_E_DECODE;
	}
	*ret_elements = shape.elements;
	*ret_offset = (size_t)(at - (const uint8_t *)data);
	return at == end ? 0 : BUS_E_DECODE;
}

size_t
bus__msgpack_bad_byte(const char *data, size_t len)
{
	size_t elements, offset = 0;

	measure(data, len, &elements, &offset);
	return offset;
}

/* Gives an extension its kind, if its bytes have the form of its number. */
static void
give_ext(struct bus_value *value, int8_t ext)
{
	int64_t seconds;
	uint32_t nanoseconds;

	value->ext = ext;
	if (bus__ext_is_text(ext, value->as.bytes, value->count))
		value->kind = BUS_KIND_TEXT;
	else if (ext == BUS_EXT_TIME &&
		 bus__ext_time(value->as.bytes, value->count, &seconds, &nanoseconds))
		*value = (struct bus_value){
		    .kind = BUS_KIND_TIME, .count = nanoseconds, .as.i = seconds};
}

int
bus__msgpack_check(const char *data, size_t len)
{
	size_t elements, offset;

	return measure(data, len, &elements, &offset);
}

static uint64_t
take_number(const uint8_t **at, unsigned bytes)
{
	uint64_t number = 0;

	for (unsigned i = 0; i < bytes; i++)
		number = number << 8 | *(*at)++;
	return number;
}

/* A value without a size, first byte 0xC0 to 0xD3: nil, bool, float or int. */
static void
next_plain(const uint8_t **at, uint8_t first, unsigned bytes, struct bus_value *ret_value)
{
	uint64_t bits = take_number(at, bytes);
	uint32_t narrow = (uint32_t)bits;
	float single;

	if (first == 0xc0) {
		*ret_value = (struct bus_value){.kind = BUS_KIND_NIL};
	} else if (first <= 0xc3) {
		*ret_value = (struct bus_value){.kind = BUS_KIND_BOOL, .as.boolean = first == 0xc3};
	} else if (first == 0xca) {
		memcpy(&single, &narrow, sizeof single);
		*ret_value = (struct bus_value){.kind = BUS_KIND_FLOAT, .as.f = (double)single};
	} else if (first == 0xcb) {
		*ret_value = (struct bus_value){.kind = BUS_KIND_FLOAT};
		memcpy(&ret_value->as.f, &bits, sizeof bits);
	} else if (first <= 0xcf) {
		bus__value_uint(ret_value, bits);
	} else {
		if (bytes < 8 && bits >> (8 * bytes - 1) != 0)
			bits |= UINT64_MAX << (8 * bytes);
		*ret_value = (struct bus_value){.kind = BUS_KIND_INT, .as.i = (int64_t)bits};
	}
}

/* Bytes, text or an extension of size bytes, preceded by its number. */
static void
next_body(const uint8_t **at, enum bus_kind kind, uint64_t size, struct bus_value *ret_value)
{
	int8_t ext = kind == BUS_KIND_EXT ? (int8_t) * (*at)++ : 0;

	*ret_value = (struct bus_value){
	    .kind = kind, .count = (uint32_t)size, .as.bytes = (const char *)*at};
	*at += size;
	if (kind == BUS_KIND_EXT)
		give_ext(ret_value, ext);
}

void
bus__msgpack_next(const uint8_t **at, const uint8_t *end, struct bus_value *ret_value)
{
	uint8_t first = **at;
	uint64_t size;
	struct head head = take_head(at, end, &size);

	if (head.family == TEXT)
		next_body(at, BUS_KIND_TEXT, size, ret_value);
	else if (head.family == SIZED)
		next_body(at, head.fixed > 0 ? BUS_KIND_EXT : BUS_KIND_BYTES, size, ret_value);
	else if (head.family == ARRAY)
		*ret_value = (struct bus_value){.kind = BUS_KIND_ARRAY, .count = (uint32_t)size};
	else if (head.family == MAP)
		*ret_value = (struct bus_value){.kind = BUS_KIND_MAP, .count = (uint32_t)size};
	else if (first < 0x80 || first >= 0xe0)
		*ret_value = (struct bus_value){.kind = BUS_KIND_INT, .as.i = (int8_t)first};
	else if (first >= 0xd4)
		next_body(at, BUS_KIND_EXT, head.fixed - 1u, ret_value);
	else
		next_plain(at, first, head.fixed, ret_value);
}

/* Recursion is at most BUS_PACK_DEPTH deep. */
static void
copy(struct bus__tree *tree, struct bus_value *value, const msgpack_object *object)
{
	struct bus_value *items;

	switch (object->type) {
	case MSGPACK_OBJECT_NIL:
		*value = (struct bus_value){.kind = BUS_KIND_NIL};
		break;
	case MSGPACK_OBJECT_BOOLEAN:
		*value =
		    (struct bus_value){.kind = BUS_KIND_BOOL, .as.boolean = object->via.boolean};
		break;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		bus__value_uint(value, object->via.u64);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		*value = (struct bus_value){.kind = BUS_KIND_INT, .as.i = object->via.i64};
		break;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		*value = (struct bus_value){.kind = BUS_KIND_FLOAT, .as.f = object->via.f64};
		break;
	case MSGPACK_OBJECT_STR:
		bus__tree_copy(
		    tree, value, BUS_KIND_TEXT, object->via.str.ptr, object->via.str.size);
		break;
	case MSGPACK_OBJECT_BIN:
		bus__tree_copy(
		    tree, value, BUS_KIND_BYTES, object->via.bin.ptr, object->via.bin.size);
		break;
	case MSGPACK_OBJECT_EXT:
		bus__tree_copy(
		    tree, value, BUS_KIND_EXT, object->via.ext.ptr, object->via.ext.size);
		give_ext(value, object->via.ext.type);
		break;
	case MSGPACK_OBJECT_ARRAY:
		items = bus__tree_take(tree, object->via.array.size);
		for (uint32_t i = 0; i < object->via.array.size; i++)
			copy(tree, &items[i], &object->via.array.ptr[i]);
		*value = (struct bus_value){
		    .kind = BUS_KIND_ARRAY, .count = object->via.array.size, .as.items = items};
		break;
	case MSGPACK_OBJECT_MAP:
		items = bus__tree_take(tree, 2 * (size_t)object->via.map.size);
		for (uint32_t i = 0; i < object->via.map.size; i++) {
			copy(tree, &items[2 * i], &object->via.map.ptr[i].key);
			copy(tree, &items[2 * i + 1], &object->via.map.ptr[i].val);
		}
		*value = (struct bus_value){
		    .kind = BUS_KIND_MAP, .count = object->via.map.size, .as.items = items};
		break;
	}
}

int
bus__msgpack_read(const char *data, size_t len, const struct bus_value **ret_value)
{
	msgpack_unpacked unpacked;
	msgpack_unpack_return unpacking;
	struct bus__tree tree;
	struct bus_value *root;
	size_t elements, offset = 0;
	int err;

	err = measure(data, len, &elements, &offset);
	if (err < 0)
		return err;
	offset = 0;
	msgpack_unpacked_init(&unpacked);
	unpacking = msgpack_unpack_next(&unpacked, data, len, &offset);
	if (unpacking != MSGPACK_UNPACK_SUCCESS) {
		err = unpacking == MSGPACK_UNPACK_NOMEM_ERROR ? BUS_E_NOMEM : BUS_E_DECODE;
		goto destroy_unpacked;
	}
	/* All texts together are shorter than their payload. */
	root = bus__tree_new(&tree, elements, len);
	if (root == NULL) {
		err = BUS_E_NOMEM;
		goto destroy_unpacked;
	}
	copy(&tree, root, &unpacked.data);
	*ret_value = root;
destroy_unpacked:
	msgpack_unpacked_destroy(&unpacked);
	return err;
}

/* --- writing -------------------------------------------------------------------------------------- */

/* Whether one more value may be written here; a refusal sticks. */
static bool
admit(struct bus_packer *packer, bool container, uint64_t inside)
{
	if (packer == NULL)
		return false;
	if (packer->err == 0)
		packer->err = add(&packer->shape, container, inside);
	return packer->err == 0;
}

static bool
admit_body(struct bus_packer *packer, const void *data, size_t len)
{
	if (packer == NULL)
		return false;
	if (packer->err == 0 && data == NULL && len > 0)
		packer->err = BUS_E_INVAL;
	if (packer->err == 0 && len > UINT32_MAX)
		packer->err = BUS_E_LIMIT;
	return admit(packer, false, 0);
}

struct bus_packer *
bus__packer_new(void)
{
	return bus__calloc(1, sizeof(struct bus_packer));
}

int
bus_packer_new(struct bus_packer **ret_packer)
{
	struct bus_packer *packer;

	if (ret_packer == NULL)
		return bus__answer(BUS_E_INVAL);
	packer = bus__packer_new();
	if (packer == NULL)
		return bus__answer(BUS_E_NOMEM);
	*ret_packer = packer;
	return 0;
}

void
bus_packer_free(struct bus_packer *packer)
{
	if (packer == NULL)
		return;
	bus__free(packer->data);
	bus__free(packer);
}

void
bus_packer_reset(struct bus_packer *packer)
{
	if (packer == NULL)
		return;
	packer->shape = (struct bus__shape){0};
	packer->len = 0;
	packer->err = 0;
}

void
bus_pack_nil(struct bus_packer *packer)
{
	if (admit(packer, false, 0))
		bus__put_byte(packer, 0xc0);
}

void
bus_pack_bool(struct bus_packer *packer, bool value)
{
	if (admit(packer, false, 0))
		bus__put_byte(packer, value ? 0xc3 : 0xc2);
}

void
bus_pack_int(struct bus_packer *packer, int64_t value)
{
	if (admit(packer, false, 0))
		bus__put_int(packer, value);
}

void
bus_pack_uint(struct bus_packer *packer, uint64_t value)
{
	if (admit(packer, false, 0))
		bus__put_uint(packer, value);
}

void
bus_pack_float(struct bus_packer *packer, double value)
{
	if (admit(packer, false, 0))
		bus__put_float(packer, value);
}

void
bus_pack_text(struct bus_packer *packer, const char *text, size_t len)
{
	if (!admit_body(packer, text, len))
		return;
	if (len > 0 && !bus__utf8_valid(text, len)) {
		packer->err = BUS_E_DECODE;
		return;
	}
	bus__put_text_head(packer, (uint32_t)len);
	bus__put_body(packer, text, len);
}

void
bus_pack_bytes(struct bus_packer *packer, const void *data, size_t len)
{
	if (!admit_body(packer, data, len))
		return;
	bus__put_bytes_head(packer, (uint32_t)len);
	bus__put_body(packer, data, len);
}

void
bus_pack_array(struct bus_packer *packer, uint32_t count)
{
	if (admit(packer, true, count))
		bus__put_array_head(packer, count);
}

void
bus_pack_map(struct bus_packer *packer, uint32_t count)
{
	if (admit(packer, true, 2 * (uint64_t)count))
		bus__put_map_head(packer, count);
}

void
bus_pack_ext(struct bus_packer *packer, int8_t ext, const void *data, size_t len)
{
	if (!admit_body(packer, data, len))
		return;
	bus__put_ext_head(packer, ext, (uint32_t)len);
	bus__put_body(packer, data, len);
}

void
bus_pack_time(struct bus_packer *packer, int64_t seconds, uint32_t nanoseconds)
{
	char data[BUS__TIME_BYTES];
	size_t len;

	if (packer != NULL && packer->err == 0 && !bus__time_is_valid(seconds, nanoseconds))
		packer->err = BUS_E_INVAL;
	if (!admit(packer, false, 0))
		return;
	len = bus__time_write(data, seconds, nanoseconds);
	bus__put_ext_head(packer, BUS_EXT_TIME, (uint32_t)len);
	bus__put_body(packer, data, len);
}

void
bus_pack_numbers(struct bus_packer *packer, const struct bus_numbers *numbers)
{
	void *place;

	if (packer != NULL && packer->err == 0 &&
	    (numbers == NULL || !bus__numbers_are_valid(numbers) ||
		(numbers->data == NULL && numbers->len > 0)))
		packer->err = BUS_E_INVAL;
	if (packer != NULL && packer->err == 0 && numbers->len > UINT32_MAX - 256)
		packer->err = BUS_E_LIMIT;
	if (!admit(packer, false, 0))
		return;
	place = bus__put_numbers(packer, numbers);
	if (place != NULL && numbers->len > 0)
		memcpy(place, numbers->data, numbers->len);
}

static int
fail_packer(const struct bus_packer *packer)
{
	switch (packer->err) {
	case 0:
		return bus__fail(BUS_E_INVAL,
		    "packer: %zu bytes are not a whole value: a container is incomplete, or nothing was packed",
		    packer->len);
	case BUS_E_LIMIT:
		return bus__fail(packer->err,
		    "packer: the value at byte %zu is over a limit: %d deep, %d values, 4 GiB",
		    packer->len, BUS_PACK_DEPTH, BUS_PACK_ELEMENTS);
	case BUS_E_INVAL:
		return bus__fail(packer->err,
		    "packer: the value at byte %zu follows a whole value, has no data, or is not a time or an array of numbers",
		    packer->len);
	case BUS_E_DECODE:
		return bus__fail(packer->err,
		    "packer: the text at byte %zu is not UTF-8: pack it as bytes", packer->len);
	default:
		return bus__answer(packer->err);
	}
}

int
bus__packer_data(const struct bus_packer *packer, const void **ret_data, size_t *ret_len)
{
	if (packer->err < 0)
		return packer->err;
	if (!is_whole(&packer->shape))
		return BUS_E_INVAL;
	*ret_data = packer->data;
	*ret_len = packer->len;
	return 0;
}

int
bus_packer_data(struct bus_packer *packer, const void **ret_data, size_t *ret_len)
{
	if (packer == NULL || ret_data == NULL || ret_len == NULL)
		return bus__answer(BUS_E_INVAL);
	return bus__packer_data(packer, ret_data, ret_len) < 0 ? fail_packer(packer) : 0;
}
