/* read.c: reads payloads into Python values, in one pass, by the table of docs/payloads.md. value.c packs them. */
#include "core.h"

#include <datetime.h>
#include <limits.h>
#include <string.h>

#include "value/ext.h"

/* --- keys ------------------------------------------------------------------------------------------------- */

/* Programs use the same few keys again and again. A remembered str needs no new memory and has its hash already. */
#ifdef Py_GIL_DISABLED
enum { KEYS = 512, KEY_MOST = 0 }; /* remembers none: threads would need a lock */
#else
enum { KEYS = 512, KEY_MOST = 24 };
#endif

struct keys {
	PyObject *at[KEYS];
};

struct keys *
keys_new(void)
{
	return PyMem_Calloc(1, sizeof(struct keys));
}

void
keys_free(struct keys *keys)
{
	for (int i = 0; keys != NULL && i < KEYS; i++)
		Py_XDECREF(keys->at[i]);
	PyMem_Free(keys);
}

static unsigned
key_slot(const char *text, size_t len)
{
	uint64_t head = 0, tail = 0;

	if (len >= 8) {
		memcpy(&head, text, 8);
		memcpy(&tail, text + len - 8, 8);
	} else if (len >= 4) {
		uint32_t first, last;

		memcpy(&first, text, 4);
		memcpy(&last, text + len - 4, 4);
		head = first;
		tail = last;
	} else {
		head = (unsigned char)text[0] | (uint64_t)(unsigned char)text[len / 2] << 8 |
		       (uint64_t)(unsigned char)text[len - 1] << 16;
	}
	head = (head ^ (tail << 7 | tail >> 57) ^ len) * UINT64_C(0x9e3779b97f4a7c15);
	return (unsigned)(head >> 55); /* 9 bits: KEYS */
}

/* --- reading -------------------------------------------------------------------------------------------------- */

struct reading {
	struct core *core;
	const unsigned char *at, *end;
	const struct owner *owner;
	uint32_t left; /* elements that no container has announced yet */
};

/* Reads one value. NULL without an exception: the bytes are not valid. */
static PyObject *read_one(struct reading *r, int depth);

static size_t
bytes_left(const struct reading *r)
{
	return (size_t)(r->end - r->at);
}

/* Reads the next `bytes` bytes as a number. The caller has checked that they are there. */
static uint64_t
take(struct reading *r, unsigned bytes)
{
	uint64_t number = 0;

	for (unsigned i = 0; i < bytes; i++)
		number = number << 8 | *r->at++;
	return number;
}

/* Reads a size of `bytes` bytes. false: the payload is too short. */
static bool
take_size(struct reading *r, unsigned bytes, uint32_t *ret_size)
{
	if (bytes_left(r) < bytes)
		return false;
	*ret_size = (uint32_t)take(r, bytes);
	return true;
}

static bool
is_ascii(const unsigned char *text, size_t len)
{
	uint64_t word, all = 0;

	for (; len >= 8; text += 8, len -= 8) {
		memcpy(&word, text, 8);
		all |= word;
	}
	for (; len > 0; text++, len--)
		all |= *text;
	return (all & UINT64_C(0x8080808080808080)) == 0;
}

static PyObject *
text_new(const unsigned char *text, size_t len)
{
	PyObject *str;

	/* Python shares the empty str and those of one Latin-1 character. */
	if (len > 1 && is_ascii(text, len)) {
		str = PyUnicode_New((Py_ssize_t)len, 127);
		if (str != NULL)
			memcpy(PyUnicode_1BYTE_DATA(str), text, len);
		return str;
	}
	str = PyUnicode_DecodeUTF8((const char *)text, (Py_ssize_t)len, NULL);
	if (str == NULL && PyErr_ExceptionMatches(PyExc_UnicodeError))
		PyErr_Clear();
	return str;
}

static PyObject *
read_text(struct reading *r, uint32_t len)
{
	const unsigned char *text = r->at;

	if (len > bytes_left(r))
		return NULL;
	r->at += len;
	return text_new(text, len);
}

static PyObject *
read_bytes(struct reading *r, uint32_t len)
{
	const unsigned char *bytes = r->at;

	if (len > bytes_left(r))
		return NULL;
	r->at += len;
	return PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)len);
}

/* --- extensions -------------------------------------------------------------------------------------------------- */

static PyObject *
time_new(int64_t seconds, uint32_t nanoseconds)
{
	int64_t of_day = ((seconds % 86400) + 86400) % 86400;
	int year, month, day;

	if (PyDateTimeAPI == NULL)
		PyDateTime_IMPORT;
	if (PyDateTimeAPI == NULL)
		return NULL;
	bus__date_of((seconds - of_day) / 86400, &year, &month, &day);
	return PyDateTimeAPI->DateTime_FromDateAndTime(year, month, day, (int)(of_day / 3600),
	    (int)(of_day / 60 % 60), (int)(of_day % 60), (int)(nanoseconds / 1000),
	    PyDateTime_TimeZone_UTC, PyDateTimeAPI->DateTimeType);
}

static int
digits_of(const char *at, int count)
{
	int number = 0;

	for (int i = 0; i < count; i++)
		number = number * 10 + (at[i] - '0');
	return number;
}

static PyObject *
date_new(const char *text)
{
	if (PyDateTimeAPI == NULL)
		PyDateTime_IMPORT;
	if (PyDateTimeAPI == NULL)
		return NULL;
	return PyDateTimeAPI->Date_FromDate(digits_of(text, 4), digits_of(text + 5, 2),
	    digits_of(text + 8, 2), PyDateTimeAPI->DateType);
}

/* Makes an object of a class from a text. Imports the class at the first use. */
static PyObject *
made_of(PyObject **cached, const char *module_name, const char *class_name, const char *text,
    size_t len)
{
	if (*cached == NULL) {
		PyObject *module = PyImport_ImportModule(module_name);
		PyObject *class =
		    module != NULL ? PyObject_GetAttrString(module, class_name) : NULL;

		Py_XDECREF(module);
		if (class == NULL)
			return NULL;
		Py_XSETREF(*cached, class);
	}
	return PyObject_CallFunction(*cached, "s#", text, (Py_ssize_t)len);
}

static PyObject *
ext_new(struct reading *r, int8_t ext, const char *data, uint32_t len)
{
	struct bus_numbers numbers;
	int64_t seconds;
	uint32_t nanoseconds;

	if (ext == BUS_EXT_TIME && bus__ext_time(data, len, &seconds, &nanoseconds))
		return time_new(seconds, nanoseconds);
	if (ext == BUS_EXT_NUMBERS && bus__numbers_read(data, len, &numbers))
		return numbers_view(r->core, &numbers, r->owner);
	if (bus__ext_is_text(ext, data, len)) {
		if (ext == BUS_EXT_DATE)
			return date_new(data);
		return ext == BUS_EXT_UUID
			   ? made_of(&r->core->uuid, "uuid", "UUID", data, len)
			   : made_of(&r->core->decimal, "decimal", "Decimal", data, len);
	}
	return PyObject_CallFunction(
	    (PyObject *)r->core->ext, "iy#", (int)ext, data, (Py_ssize_t)len);
}

static PyObject *
read_ext(struct reading *r, uint32_t len)
{
	const char *data;

	if (bytes_left(r) < 1 || len > bytes_left(r) - 1)
		return NULL;
	data = (const char *)r->at + 1;
	r->at += 1 + (size_t)len;
	return ext_new(r, (int8_t)data[-1], data, len);
}

/* --- containers --------------------------------------------------------------------------------------------------- */

/* Returns whether the rest of the payload can hold count elements of at least one byte: a false count then allocates nothing. */
static bool
admit(struct reading *r, uint64_t inside, int depth)
{
	if (depth == BUS_PACK_DEPTH || inside > r->left || inside > bytes_left(r))
		return false;
	r->left -= (uint32_t)inside;
	return true;
}

static PyObject *
read_list(struct reading *r, uint32_t count, int depth)
{
	PyObject *list = admit(r, count, depth) ? PyList_New((Py_ssize_t)count) : NULL;

	for (uint32_t i = 0; list != NULL && i < count; i++) {
		PyObject *item = read_one(r, depth + 1);

		if (item == NULL)
			Py_CLEAR(list);
		else
			PyList_SET_ITEM(list, (Py_ssize_t)i, item);
	}
	return list;
}

static PyObject *
known_key(struct reading *r, uint32_t len)
{
	PyObject **slot = &r->core->keys->at[key_slot((const char *)r->at, len)], *key = *slot;

	if (key != NULL && (size_t)PyUnicode_GET_LENGTH(key) == len &&
	    memcmp(PyUnicode_1BYTE_DATA(key), r->at, len) == 0) {
		r->at += len;
		return Py_NewRef(key);
	}
	key = read_text(r, len);
	if (key != NULL && PyUnicode_IS_ASCII(key))
		Py_XSETREF(*slot, Py_NewRef(key));
	return key;
}

static PyObject *
read_key(struct reading *r, int depth)
{
	unsigned char first;
	uint32_t len;
	PyObject *key;

	if (r->at == r->end)
		return NULL;
	first = *r->at;
	len = first & 0x1f;
	if ((first & 0xe0) == 0xa0 && len > 0 && len <= KEY_MOST && len < bytes_left(r)) {
		r->at++;
		return known_key(r, len);
	}
	/* Lists, dicts and arrays are not hashable. */
	if ((first & 0xe0) == 0x80 || (first >= 0xdc && first <= 0xdf))
		return NULL;
	key = read_one(r, depth);
	if (key != NULL && PyMemoryView_Check(key))
		Py_CLEAR(key);
	return key;
}

static PyObject *
read_dict(struct reading *r, uint32_t count, int depth)
{
	PyObject *dict = admit(r, 2 * (uint64_t)count, depth) ? PyDict_New() : NULL;

	for (uint32_t i = 0; dict != NULL && i < count; i++) {
		PyObject *key = read_key(r, depth + 1);
		PyObject *item = key != NULL ? read_one(r, depth + 1) : NULL;

		if (item == NULL || PyDict_SetItem(dict, key, item) < 0)
			Py_CLEAR(dict);
		Py_XDECREF(item);
		Py_XDECREF(key);
	}
	return dict;
}

/* --- one value ------------------------------------------------------------------------------------------------------ */

static PyObject *
read_float(struct reading *r, unsigned bytes)
{
	uint64_t bits;
	uint32_t narrow;
	double number;
	float single;

	if (bytes_left(r) < bytes)
		return NULL;
	bits = take(r, bytes);
	if (bytes == 8) {
		memcpy(&number, &bits, sizeof number);
		return PyFloat_FromDouble(number);
	}
	narrow = (uint32_t)bits;
	memcpy(&single, &narrow, sizeof single);
	return PyFloat_FromDouble((double)single);
}

static PyObject *
read_uint(struct reading *r, unsigned bytes)
{
	uint64_t number;

	if (bytes_left(r) < bytes)
		return NULL;
	number = take(r, bytes);
	return number <= LONG_MAX ? PyLong_FromLong((long)number)
				  : PyLong_FromUnsignedLongLong(number);
}

static PyObject *
read_int(struct reading *r, unsigned bytes)
{
	uint64_t number;

	if (bytes_left(r) < bytes)
		return NULL;
	number = take(r, bytes);
	if (bytes < 8 && number >> (8 * bytes - 1) != 0)
		number |= UINT64_MAX << (8 * bytes);
	return PyLong_FromLongLong((long long)number);
}

/* A first byte 0xc0 to 0xdf. */
static PyObject *
read_long_form(struct reading *r, unsigned char first, int depth)
{
	uint32_t size;

	switch (first) {
	case 0xc0:
		Py_RETURN_NONE;
	case 0xc2:
		Py_RETURN_FALSE;
	case 0xc3:
		Py_RETURN_TRUE;
	case 0xc4:
	case 0xc5:
	case 0xc6:
		return take_size(r, 1u << (first - 0xc4), &size) ? read_bytes(r, size) : NULL;
	case 0xc7:
	case 0xc8:
	case 0xc9:
		return take_size(r, 1u << (first - 0xc7), &size) ? read_ext(r, size) : NULL;
	case 0xca:
		return read_float(r, 4);
	case 0xcb:
		return read_float(r, 8);
	case 0xcc:
	case 0xcd:
	case 0xce:
	case 0xcf:
		return read_uint(r, 1u << (first - 0xcc));
	case 0xd0:
	case 0xd1:
	case 0xd2:
	case 0xd3:
		return read_int(r, 1u << (first - 0xd0));
	case 0xd4:
	case 0xd5:
	case 0xd6:
	case 0xd7:
	case 0xd8:
		return read_ext(r, 1u << (first - 0xd4));
	case 0xd9:
	case 0xda:
	case 0xdb:
		return take_size(r, 1u << (first - 0xd9), &size) ? read_text(r, size) : NULL;
	case 0xdc:
	case 0xdd:
		return take_size(r, 2u << (first - 0xdc), &size) ? read_list(r, size, depth) : NULL;
	case 0xde:
	case 0xdf:
		return take_size(r, 2u << (first - 0xde), &size) ? read_dict(r, size, depth) : NULL;
	default:
		return NULL;
	}
}

/* Recursion is at most BUS_PACK_DEPTH deep: admit() checks it. */
static PyObject *
read_one(struct reading *r, int depth)
{
	unsigned char first;

	if (r->at == r->end)
		return NULL;
	first = *r->at++;
	if (first < 0x80)
		return PyLong_FromLong(first);
	if (first >= 0xe0)
		return PyLong_FromLong((long)first - 256);
	if (first >= 0xc0)
		return read_long_form(r, first, depth);
	if (first >= 0xa0)
		return read_text(r, first & 0x1f);
	return first >= 0x90 ? read_list(r, first & 0x0f, depth)
			     : read_dict(r, first & 0x0f, depth);
}

PyObject *
value_try(struct core *core, const char *data, size_t len, const struct owner *owner)
{
	const unsigned char *bytes = (const unsigned char *)data;
	struct reading r = {core, bytes, bytes + len, owner, BUS_PACK_ELEMENTS - 1};
	PyObject *value = read_one(&r, 0);

	if (value != NULL && r.at != r.end)
		Py_CLEAR(value);
	return value;
}

/* The C reader names the fault of invalid bytes. If it reads them, a key is not hashable in Python. */
void
value_refuse(struct core *core, const char *data, size_t len, PyObject *topic)
{
	const struct bus_value *tree = NULL;
	int err = bus_value_read(BUS_TYPE_MSGPACK, data, len, &tree);

	bus_value_free(tree);
	error_raise(core, err < 0 ? err : BUS_E_DECODE, ABOUT_TOPIC, topic);
}

/* --- JSON, text and bytes --------------------------------------------------------------------------------- */

static PyObject *
list_of_tree(struct core *core, const struct bus_value *value, PyObject *topic)
{
	PyObject *list = PyList_New(value->count);

	for (uint32_t i = 0; list != NULL && i < value->count; i++) {
		PyObject *item = value_of_tree(core, &value->as.items[i], topic);

		if (item == NULL)
			Py_CLEAR(list);
		else
			PyList_SET_ITEM(list, (Py_ssize_t)i, item);
	}
	return list;
}

static PyObject *
dict_of_tree(struct core *core, const struct bus_value *value, PyObject *topic)
{
	PyObject *dict = PyDict_New();

	for (uint32_t i = 0; dict != NULL && i < value->count; i++) {
		const struct bus_value *pair = &value->as.items[2 * (size_t)i];
		PyObject *key = value_of_tree(core, &pair[0], topic);
		PyObject *item = key != NULL ? value_of_tree(core, &pair[1], topic) : NULL;

		if (item == NULL || PyDict_SetItem(dict, key, item) < 0)
			Py_CLEAR(dict);
		Py_XDECREF(item);
		Py_XDECREF(key);
	}
	return dict;
}

/* Recursion is at most BUS_PACK_DEPTH deep: bus_value_read() checked it. Keys of JSON are texts. */
PyObject *
value_of_tree(struct core *core, const struct bus_value *value, PyObject *topic)
{
	switch (value->kind) {
	case BUS_KIND_BOOL:
		return PyBool_FromLong(value->as.boolean);
	case BUS_KIND_INT:
		return PyLong_FromLongLong(value->as.i);
	case BUS_KIND_UINT:
		return PyLong_FromUnsignedLongLong(value->as.u);
	case BUS_KIND_FLOAT:
		return PyFloat_FromDouble(value->as.f);
	case BUS_KIND_TEXT:
		return PyUnicode_DecodeUTF8(value->as.bytes, value->count, NULL);
	case BUS_KIND_BYTES:
		return PyBytes_FromStringAndSize(value->as.bytes, value->count);
	case BUS_KIND_ARRAY:
		return list_of_tree(core, value, topic);
	case BUS_KIND_MAP:
		return dict_of_tree(core, value, topic);
	case BUS_KIND_NIL:
	case BUS_KIND_EXT:
	case BUS_KIND_TIME:
		break;
	}
	Py_RETURN_NONE;
}
