#include "value/value.h"

#include <stdint.h>
#include <string.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <libbus/error.h>

struct bus_value *
bus__tree_new(struct bus__tree *tree, size_t values, size_t bytes)
{
	struct bus_value *root = bus__malloc(values * sizeof *root + bytes);

	if (root == NULL)
		return NULL;
	tree->values = root + 1;
	tree->bytes = (char *)(root + values);
	return root;
}

struct bus_value *
bus__tree_take(struct bus__tree *tree, size_t count)
{
	struct bus_value *taken = tree->values;

	tree->values += count;
	return taken;
}

void
bus__tree_copy(struct bus__tree *tree, struct bus_value *value, enum bus_kind kind,
    const void *data, size_t len)
{
	*value = (struct bus_value){.kind = kind, .count = (uint32_t)len, .as.bytes = tree->bytes};
	if (len > 0)
		memcpy(tree->bytes, data, len);
	tree->bytes += len;
}

void
bus__value_uint(struct bus_value *value, uint64_t number)
{
	if (number <= INT64_MAX)
		*value = (struct bus_value){.kind = BUS_KIND_INT, .as.i = (int64_t)number};
	else
		*value = (struct bus_value){.kind = BUS_KIND_UINT, .as.u = number};
}

static int
read_flat(enum bus_kind kind, const char *data, size_t len, const struct bus_value **ret_value)
{
	struct bus__tree tree;
	struct bus_value *root = bus__tree_new(&tree, 1, len);

	if (root == NULL)
		return BUS_E_NOMEM;
	bus__tree_copy(&tree, root, kind, data, len);
	*ret_value = root;
	return 0;
}

static int
read_untagged(const char *data, size_t len, const struct bus_value **ret_value)
{
	int err = bus__json_read(data, len, ret_value);

	/* JSON over a limit is no error: the payload did not claim to be JSON. */
	if (err != BUS_E_DECODE)
		return err;
	return read_flat(
	    bus__utf8_valid(data, len) ? BUS_KIND_TEXT : BUS_KIND_BYTES, data, len, ret_value);
}

static int
read_value(int type, const void *data, size_t len, const struct bus_value **ret_value)
{
	if (ret_value == NULL || (data == NULL && len > 0))
		return BUS_E_INVAL;
	if (len > UINT32_MAX)
		return BUS_E_DECODE;
	if (data == NULL)
		data = "";
	switch (type) {
	case BUS_TYPE_UNTAGGED:
		return read_untagged(data, len, ret_value);
	case BUS_TYPE_MSGPACK:
		return bus__msgpack_read(data, len, ret_value);
	case BUS_TYPE_JSON:
		return bus__json_read(data, len, ret_value);
	case BUS_TYPE_TEXT:
		if (!bus__utf8_valid(data, len))
			return BUS_E_DECODE;
		return read_flat(BUS_KIND_TEXT, data, len, ret_value);
	default:
		return read_flat(BUS_KIND_BYTES, data, len, ret_value);
	}
}

int
bus__value_fail(int err, int type, const void *data, size_t len)
{
	size_t offset;

	if (err != BUS_E_DECODE || len > UINT32_MAX)
		return bus__answer(err);
	if (data == NULL)
		data = "";
	switch (type) {
	case BUS_TYPE_TEXT:
		return bus__fail(err,
		    "text of %zu bytes: byte %zu is not UTF-8: publish it as bytes", len,
		    bus__utf8_valid_bytes(data, len));
	case BUS_TYPE_JSON:
		offset = bus__json_bad_byte(data, len);
		if (offset == len)
			return bus__fail(err, "JSON of %zu bytes: %s", len, bus_strerror(err));
		return bus__fail(err, "JSON of %zu bytes: not valid near byte %zu", len, offset);
	default:
		return bus__fail(err, "msgpack of %zu bytes: %s (the value at byte %zu)", len,
		    bus_strerror(err), bus__msgpack_bad_byte(data, len));
	}
}

int
bus_value_read(int type, const void *data, size_t len, const struct bus_value **ret_value)
{
	int err = read_value(type, data, len, ret_value);

	return err >= 0 ? 0 : bus__value_fail(err, type, data, len);
}

void
bus_value_free(const struct bus_value *root)
{
	bus__free((void *)root);
}
