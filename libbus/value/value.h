/* value/value.h: shared by the readers of values. */
#ifndef BUS_VALUE_VALUE_H
#define BUS_VALUE_VALUE_H

#include <stddef.h>

#include <libbus/pack.h>

/* A tree is one block: the values, the root first, then the bytes of its texts. */
struct bus__tree {
	struct bus_value *values; /* the next free one */
	char *bytes;
};

/* Makes room for a tree and takes its root; NULL is out of memory. bus_value_free() ends it. */
struct bus_value *bus__tree_new(struct bus__tree *tree, size_t values, size_t bytes);

/* Takes count values in a row. */
struct bus_value *bus__tree_take(struct bus__tree *tree, size_t count);

/* Makes value a TEXT, BYTES or EXT with a copy of data. */
void bus__tree_copy(struct bus__tree *tree, struct bus_value *value, enum bus_kind kind,
    const void *data, size_t len);

/* Sets an integer of the kind that fits. */
void bus__value_uint(struct bus_value *value, uint64_t number);

/* Sets bus_error_text() to the reason why a payload of this type cannot be read. Returns err. */
int bus__value_fail(int err, int type, const void *data, size_t len);

/* The readers behind bus_value_read(): 0, BUS_E_DECODE or BUS_E_NOMEM. len fits uint32_t. */
int bus__msgpack_read(const char *data, size_t len, const struct bus_value **ret_value);
int bus__json_read(const char *text, size_t len, const struct bus_value **ret_value);

/* Reads the next value of msgpack that bus__msgpack_check() has passed, and moves *at behind it; of an array or a map only the
 * head. Bytes are borrowed. */
void bus__msgpack_next(const uint8_t **at, const uint8_t *end, struct bus_value *ret_value);

/* Whether data is exactly one value within the limits. 0 or BUS_E_DECODE. */
int bus__msgpack_check(const char *data, size_t len);

/* bus_packer_new(), NULL: out of memory, and bus_packer_data() for the bus's own messages: a failure leaves
 * bus_error_text() alone. */
struct bus_packer *bus__packer_new(void);
int bus__packer_data(const struct bus_packer *packer, const void **ret_data, size_t *ret_len);

/* The offset at which a payload becomes invalid, for bus_error_text(); JSON: approximate, len: unknown. */
size_t bus__msgpack_bad_byte(const char *data, size_t len);
size_t bus__json_bad_byte(const char *text, size_t len);

#endif
