/* value.c: packs Python values into payloads, by the table of docs/payloads.md. read.c reads them. */
#include "core.h"

#include <datetime.h>
#include <string.h>

#include "value/ext.h"
#include "value/packer.h"

struct packing {
	struct core *core;
	struct bus_packer *packer;
	PyObject *topic;  /* NULL: packb(), which publishes nothing */
	const char *name; /* of the root: "value" or "headers" */
	uint32_t left;    /* elements that no container has announced yet */
	Py_buffer *
	    body; /* not NULL: a large root in one piece of memory is lent here, and only its head is packed */
};

/* From this size on, lending the memory costs less than a copy. */
enum { WORTH_A_LOAN = 16384 };

/* The position of an element, on the stack. Only an error makes a text of it. */
struct place {
	const struct place *outer; /* NULL: the root */
	PyObject *key;             /* borrowed; NULL: an element of a sequence */
	Py_ssize_t index;
	bool is_key; /* the key itself, not its value */
	int depth;
};

static int pack(struct packing *p, PyObject *value, const struct place *at);

/* --- errors that name the element ------------------------------------------------------------------------- */

/* The repr of a key, or its type if repr() fails, as for an int of 5,000 digits. */
static PyObject *
shown(PyObject *key)
{
	PyObject *repr = PyObject_Repr(key);

	if (repr != NULL || !PyErr_ExceptionMatches(PyExc_Exception))
		return repr;
	PyErr_Clear();
	return PyUnicode_FromFormat("<%s>", Py_TYPE(key)->tp_name);
}

/* value['rooms'][3], or: the key (1, 2) of value['grid'] */
static PyObject *
path_of(const struct packing *p, const struct place *at)
{
	PyObject *outer, *key = NULL, *path = NULL;

	if (at->outer == NULL)
		return PyUnicode_FromString(p->name);
	outer = path_of(p, at->outer);
	if (outer == NULL)
		return NULL;
	if (at->key != NULL)
		key = shown(at->key);
	if (at->key == NULL)
		path = PyUnicode_FromFormat("%U[%zd]", outer, at->index);
	else if (key != NULL && at->is_key)
		path = PyUnicode_FromFormat("the key %.60U of %U", key, outer);
	else if (key != NULL)
		path = PyUnicode_FromFormat("%U[%.60U]", outer, key);
	Py_XDECREF(key);
	Py_DECREF(outer);
	return path;
}

/* Raises "topic: what at path; advice", without a topic if there is none. Always -1. */
static int
refuse(const struct packing *p, const struct place *at, PyObject *kind, const char *what,
    const char *advice)
{
	PyObject *path = path_of(p, at), *text;

	if (path == NULL)
		return -1;
	if (at->outer == NULL && strcmp(p->name, "value") == 0)
		text = PyUnicode_FromFormat("%s; %s", what, advice);
	else
		text = PyUnicode_FromFormat("%s at %U; %s", what, path, advice);
	if (text != NULL && p->topic != NULL)
		PyErr_Format(kind, "%U: %U", p->topic, text);
	else if (text != NULL)
		PyErr_SetObject(kind, text);
	Py_XDECREF(text);
	Py_DECREF(path);
	return -1;
}

/* Advice for types that resemble one that can be published. */
static const char *
advice_for(PyObject *value)
{
	static const char *const advices[][2] = {
	    {"datetime.timedelta", "publish its total_seconds()"},
	    {"datetime.time", "publish its isoformat()"},
	    {"numpy.datetime64", "publish its astype('int64'), or a datetime"},
	    {"numpy.timedelta64", "publish its astype('int64')"},
	    {"complex", "publish [x.real, x.imag]"},
	    {"MaskedArray", "publish its filled()"},
	    {"numpy.ma.MaskedArray", "publish its filled()"},
	};

	for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++)
		if (strcmp(Py_TYPE(value)->tp_name, advices[i][0]) == 0)
			return advices[i][1];
	return "make it None, bool, int, float, str, bytes, list, dict, set, datetime, date, Decimal, UUID, an array of "
	       "numbers or a dataclass";
}

static int
refuse_type(const struct packing *p, const struct place *at, PyObject *value)
{
	char what[160];

	PyOS_snprintf(what, sizeof what, "cannot %s %.100s%s",
	    p->topic != NULL ? "publish" : "pack", Py_TYPE(value)->tp_name,
	    at->is_key ? " as a key" : "");
	return refuse(p, at, PyExc_TypeError, what,
	    at->is_key
		? "make it None, bool, int, float, str, bytes, datetime, date, Decimal, UUID or Ext"
		: advice_for(value));
}

static int
too_much(const struct packing *p, const struct place *at)
{
	char what[100];

	PyOS_snprintf(what, sizeof what, "a value may nest %d deep and hold %d elements in all",
	    BUS_PACK_DEPTH, BUS_PACK_ELEMENTS);
	return refuse(p, at, PyExc_ValueError,
	    at->outer == NULL ? what : strcat(what, "; the limit is passed"),
	    "publish less at once, or bytes");
}

/* --- into a payload --------------------------------------------------------------------------------------- */

/* A body too large for msgpack; bus_publish() refuses far smaller ones. */
static bool
is_too_big(const struct packing *p, Py_ssize_t len)
{
	if ((uint64_t)len <= UINT32_MAX)
		return false;
	error_raise(p->core, BUS_E_TOO_BIG, ABOUT_TOPIC, p->topic);
	return true;
}

static int
pack_int(const struct packing *p, PyObject *value, const struct place *at)
{
	int overflow;
	long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
	unsigned long long large;

	if (overflow == 0) {
		bus__put_int(p->packer, number);
		return 0;
	}
	large = overflow > 0 ? PyLong_AsUnsignedLongLong(value) : 0;
	if (overflow > 0 && !PyErr_Occurred()) {
		bus__put_uint(p->packer, large);
		return 0;
	}
	PyErr_Clear();
	return refuse(p, at, PyExc_OverflowError, "the int does not fit 64 bits",
	    "publish it as a str or a float");
}

static int
pack_text(const struct packing *p, PyObject *value, const struct place *at)
{
	Py_ssize_t len;
	const char *utf8 = PyUnicode_AsUTF8AndSize(value, &len);

	if (utf8 != NULL && is_too_big(p, len))
		return -1;
	if (utf8 != NULL) {
		bus__put_text_head(p->packer, (uint32_t)len);
		bus__put_body(p->packer, utf8, (size_t)len);
		return 0;
	}
	if (!PyErr_ExceptionMatches(PyExc_UnicodeError))
		return -1;
	PyErr_Clear();
	return refuse(
	    p, at, PyExc_ValueError, "the str has half a surrogate pair", "publish it as bytes");
}

/* Returns whether the memory of this element is lent instead of copied. */
static bool
is_lent(const struct packing *p, const struct place *at, Py_ssize_t len)
{
	return p->body != NULL && at->outer == NULL && len >= WORTH_A_LOAN;
}

static int
pack_bytes(const struct packing *p, PyObject *value, const struct place *at)
{
	const char *data = PyBytes_AS_STRING(value);
	Py_ssize_t len = PyBytes_GET_SIZE(value);

	if (is_too_big(p, len))
		return -1;
	bus__put_bytes_head(p->packer, (uint32_t)len);
	if (is_lent(p, at, len))
		return PyObject_GetBuffer(value, p->body, PyBUF_SIMPLE);
	bus__put_body(p->packer, data, (size_t)len);
	return 0;
}

/* --- buffers -------------------------------------------------------------------------------------------------- */

/* Borrows the memory of value. 0, or -1 with an exception that names the path. */
static int
buffer_get(const struct packing *p, PyObject *value, const struct place *at, Py_buffer *ret_view)
{
	PyObject *type, *error, *trace, *why;
	const char *reason = NULL;
	char what[240];

	if (PyObject_GetBuffer(value, ret_view, PyBUF_RECORDS_RO) == 0)
		return 0;
	if (!PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError))
		return -1;
	if (PyMemoryView_Check(value) && PyErr_ExceptionMatches(PyExc_ValueError)) {
		PyErr_Clear();
		return refuse(p, at, PyExc_ValueError, "the memoryview is released",
		    "publish it before its release()");
	}
	/* This text is NumPy's about a type without a buffer, or a libbus.Message's without an array. */
	PyErr_Fetch(&type, &error, &trace);
	why = error != NULL ? PyObject_Str(error) : NULL;
	reason = why != NULL ? PyUnicode_AsUTF8(why) : NULL;
	if (reason == NULL)
		PyErr_Clear();
	PyOS_snprintf(what, sizeof what, "cannot %s %.100s (%.100s)",
	    p->topic != NULL ? "publish" : "pack", Py_TYPE(value)->tp_name,
	    reason != NULL ? reason : "it has no buffer");
	Py_XDECREF(why);
	Py_XDECREF(type);
	Py_XDECREF(error);
	Py_XDECREF(trace);
	return refuse(p, at, PyExc_TypeError, what, advice_for(value));
}

/* Returns the kind of number (as in bus_numbers) of a struct format, or 0. *ret_foreign: it has the other byte order. */
static char
kind_of(const char *format, bool *ret_foreign)
{
	static const char orders[] = "@=<>!";
	const char *order = memchr(orders, *format, sizeof orders - 1);

	*ret_foreign = order != NULL && order >= orders + 2 && (*order != '<') != PY_BIG_ENDIAN;
	format += order != NULL;
	if (format[0] == 'Z' && (format[1] == 'f' || format[1] == 'd') && format[2] == '\0')
		return 'c';
	if (format[0] == '\0' || format[1] != '\0')
		return 0;
	if (*format == '?')
		return 'b';
	if (strchr("bhilqn", *format) != NULL)
		return 'i';
	if (strchr("BHILQN", *format) != NULL)
		return 'u';
	return strchr("efd", *format) != NULL ? 'f' : 0;
}

/* Swaps the bytes of each number; those of the two parts of a complex one separately. */
static void
turn_round(char *data, size_t len, size_t item)
{
	for (size_t at = 0; at + item <= len; at += item)
		for (size_t i = 0; i < item / 2; i++) {
			char byte = data[at + i];

			data[at + i] = data[at + item - 1 - i];
			data[at + item - 1 - i] = byte;
		}
}

/* Packs one NumPy number. 1: packed; 0: msgpack has no such number. */
static int
pack_number(const struct packing *p, char kind, const char *data, size_t bytes)
{
	uint64_t bits = 0;
	float single;
	double number;

	for (size_t i = bytes; i > 0; i--)
		bits = bits << 8 | (unsigned char)data[i - 1];
	switch (kind) {
	case 'b':
		bus__put_byte(p->packer, bits != 0 ? 0xc3 : 0xc2);
		return 1;
	case 'u':
		bus__put_uint(p->packer, bits);
		return 1;
	case 'i':
		if (bytes < 8 && (bits >> (8 * bytes - 1)) != 0)
			bits |= UINT64_MAX << (8 * bytes);
		bus__put_int(p->packer, (int64_t)bits);
		return 1;
	case 'f':
		if (bytes == 2) {
			number = PyFloat_Unpack2(data, 1);
		} else if (bytes == 4) {
			uint32_t narrow = (uint32_t)bits;

			memcpy(&single, &narrow, sizeof single);
			number = (double)single;
		} else {
			memcpy(&number, &bits, sizeof number);
		}
		bus__put_float(p->packer, number);
		return 1;
	default:
		return 0;
	}
}

/* Copies the numbers of view in C order, little endian. 0, or -1 with an exception. */
static int
copy_numbers(char *place, Py_buffer *view, char kind, bool foreign)
{
	size_t item = (size_t)view->itemsize / (kind == 'c' ? 2 : 1);

	if (PyBuffer_IsContiguous(view, 'C'))
		memcpy(place, view->buf, (size_t)view->len);
	else if (PyBuffer_ToContiguous(place, view, view->len, 'C') < 0)
		return -1;
	if (foreign != PY_BIG_ENDIAN && item > 1)
		turn_round(place, (size_t)view->len, item);
	return 0;
}

/* Describes view. false: it is not an array of numbers that can be published. */
static bool
numbers_of(const Py_buffer *view, struct bus_numbers *ret_numbers, bool *ret_foreign)
{
	const char *format = view->format != NULL ? view->format : "B";

	if (view->itemsize > UINT8_MAX || view->ndim > BUS_NUMBERS_DIMENSIONS)
		return false;
	*ret_numbers = (struct bus_numbers){.len = (size_t)view->len,
	    .kind = kind_of(format, ret_foreign),
	    .item_bytes = (uint8_t)view->itemsize,
	    .dimensions = (uint8_t)view->ndim};
	for (int i = 0; i < view->ndim; i++) {
		if ((uint64_t)view->shape[i] > UINT32_MAX)
			return false;
		ret_numbers->shape[i] = (uint32_t)view->shape[i];
	}
	return bus__numbers_are_valid(ret_numbers);
}

/* Returns whether view is a sequence of single bytes. */
static bool
is_bytes(PyObject *value, const Py_buffer *view)
{
	return (PyMemoryView_Check(value) || PyByteArray_Check(value)) && view->ndim == 1 &&
	       view->itemsize == 1 &&
	       (view->format == NULL || strcmp(view->format, "B") == 0 ||
		   strcmp(view->format, "c") == 0);
}

/* A NumPy scalar of time has a buffer of raw bytes, and a masked array one that includes the hidden elements: refuse both. */
static bool
is_more_than_memory(PyObject *value)
{
	const char *name = Py_TYPE(value)->tp_name;

	return strcmp(name, "numpy.datetime64") == 0 || strcmp(name, "numpy.timedelta64") == 0 ||
	       strcmp(name, "MaskedArray") == 0 || strcmp(name, "numpy.ma.MaskedArray") == 0;
}

static int
refuse_numbers(
    const struct packing *p, const struct place *at, PyObject *value, const Py_buffer *view)
{
	char what[200];

	if (at->is_key || is_more_than_memory(value))
		return refuse_type(p, at, value);
	PyOS_snprintf(what, sizeof what, "cannot %s %.100s with items of the format %.40s",
	    p->topic != NULL ? "publish" : "pack", Py_TYPE(value)->tp_name,
	    view->format != NULL ? view->format : "B");
	return refuse(p, at, PyExc_TypeError, what,
	    "arrays may hold bool, int and float of 1 to 8 bytes, and complex: convert it, for instance with astype(float)");
}

enum { NUMBERS_HEAD_MOST = 256 };

/* Packs the numbers, or only the head if the memory is lent. */
static int
put_numbers(const struct packing *p, const struct bus_numbers *numbers, const struct place *at,
    Py_buffer *view, bool foreign)
{
	void *place;

	if (is_lent(p, at, view->len) && foreign == PY_BIG_ENDIAN &&
	    PyBuffer_IsContiguous(view, 'C')) {
		if (bus__put_numbers_head(p->packer, numbers, 0))
			*p->body = *view;
		return 0;
	}
	place = bus__put_numbers(p->packer, numbers);
	return place != NULL ? copy_numbers(place, view, numbers->kind, foreign) : 0;
}

/* If it lends the memory, p->body is the view. */
static int
put_view(const struct packing *p, PyObject *value, const struct place *at, Py_buffer *view)
{
	struct bus_numbers numbers;
	unsigned char *place;
	bool foreign;
	char one[16];

	if (is_too_big(p, view->len + NUMBERS_HEAD_MOST))
		return -1;
	if (is_bytes(value, view)) {
		bus__put_bytes_head(p->packer, (uint32_t)view->len);
		if (is_lent(p, at, view->len) && PyBuffer_IsContiguous(view, 'C')) {
			*p->body = *view;
			return 0;
		}
		place = bus__put_room(p->packer, (size_t)view->len);
		return place != NULL ? copy_numbers((char *)place, view, 'b', false) : 0;
	}
	if (at->is_key || is_more_than_memory(value) || !numbers_of(view, &numbers, &foreign))
		return refuse_numbers(p, at, value, view);
	if (view->ndim == 0) {
		if (copy_numbers(one, view, numbers.kind, foreign) < 0)
			return -1;
		return pack_number(p, numbers.kind, one, numbers.item_bytes)
			   ? 0
			   : refuse_numbers(p, at, value, view);
	}
	return put_numbers(p, &numbers, at, view, foreign);
}

static int
pack_buffer(const struct packing *p, PyObject *value, const struct place *at)
{
	Py_buffer view;
	int done;

	if (buffer_get(p, value, at, &view) < 0)
		return -1;
	done = put_view(p, value, at, &view);
	if (p->body == NULL || p->body->obj == NULL)
		PyBuffer_Release(&view);
	return done;
}

/* --- extensions ------------------------------------------------------------------------------------------------- */

static int
refuse_ext(const struct packing *p, PyObject *part, const char *name, const struct place *at)
{
	char what[160];

	PyOS_snprintf(
	    what, sizeof what, "the %s of the Ext is %.100s", name, Py_TYPE(part)->tp_name);
	return refuse(p, at, PyExc_TypeError, what, "make it Ext(code, data), an int and bytes");
}

/* Returns whether readers make another type of this extension. */
static bool
has_meaning(int8_t code, PyObject *data)
{
	struct bus_numbers numbers;
	int64_t seconds;
	uint32_t nanoseconds;
	const char *bytes = PyBytes_AS_STRING(data);
	size_t len = (size_t)PyBytes_GET_SIZE(data);

	return bus__ext_is_text(code, bytes, len) ||
	       (code == BUS_EXT_TIME && bus__ext_time(bytes, len, &seconds, &nanoseconds)) ||
	       (code == BUS_EXT_NUMBERS && bus__numbers_read(bytes, len, &numbers));
}

static int
pack_ext(const struct packing *p, PyObject *value, const struct place *at)
{
	PyObject *number, *data;
	long code;
	int overflow;

	if (PyTuple_GET_SIZE(value) != 2) /* tuple.__new__() may make one */
		return refuse(p, at, PyExc_TypeError, "the Ext does not have a code and data",
		    "make it Ext(code, data), an int and bytes");
	number = PyTuple_GET_ITEM(value, 0);
	data = PyTuple_GET_ITEM(value, 1);
	if (!PyLong_Check(number))
		return refuse_ext(p, number, "code", at);
	if (!PyBytes_Check(data))
		return refuse_ext(p, data, "data", at);
	code = PyLong_AsLongAndOverflow(number, &overflow);
	if (overflow != 0 || code < INT8_MIN || code > INT8_MAX)
		return refuse(p, at, PyExc_ValueError, "the code of the Ext does not fit 8 bits",
		    "take one from -128 to 127");
	if (is_too_big(p, PyBytes_GET_SIZE(data)))
		return -1;
	if (at->is_key && has_meaning((int8_t)code, data))
		return refuse(p, at, PyExc_TypeError,
		    "readers read the Ext as a value of another type",
		    "publish that value as the key");
	bus__put_ext_head(p->packer, (int8_t)code, (uint32_t)PyBytes_GET_SIZE(data));
	bus__put_body(p->packer, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
	return 0;
}

/* Reads the UTC offset of value, in seconds and microseconds. 1; 0: it has none; -1 with an exception. */
static int
offset_of(const struct packing *p, PyObject *value, int64_t *ret_seconds, int64_t *ret_us)
{
	PyObject *offset = PyObject_CallMethodNoArgs(value, p->core->names[NAME_utcoffset]);

	if (offset == NULL)
		return -1;
	if (!PyDelta_Check(offset)) {
		Py_DECREF(offset);
		return 0;
	}
	*ret_seconds = (int64_t)PyDateTime_DELTA_GET_DAYS(offset) * 86400 +
		       PyDateTime_DELTA_GET_SECONDS(offset);
	*ret_us = PyDateTime_DELTA_GET_MICROSECONDS(offset);
	Py_DECREF(offset);
	return 1;
}

static int
pack_time(const struct packing *p, PyObject *value, const struct place *at)
{
	int64_t seconds = 0, us = 0;
	char data[BUS__TIME_BYTES];
	int aware = offset_of(p, value, &seconds, &us);
	size_t len;

	if (aware < 0)
		return -1;
	if (aware == 0)
		return refuse(p, at, PyExc_TypeError, "the datetime has no time zone",
		    "make it datetime.now(timezone.utc), or give it one with astimezone()");
	seconds = bus__days_of(PyDateTime_GET_YEAR(value), PyDateTime_GET_MONTH(value),
		      PyDateTime_GET_DAY(value)) *
		      86400 +
		  PyDateTime_DATE_GET_HOUR(value) * 3600 + PyDateTime_DATE_GET_MINUTE(value) * 60 +
		  PyDateTime_DATE_GET_SECOND(value) - seconds;
	us = PyDateTime_DATE_GET_MICROSECOND(value) - us;
	if (us < 0) {
		us += 1000000;
		seconds--;
	}
	if (!bus__time_is_valid(seconds, (uint32_t)us * 1000))
		return refuse(p, at, PyExc_OverflowError,
		    "the datetime is outside the years 1 to 9999 in UTC",
		    "publish its isoformat()");
	len = bus__time_write(data, seconds, (uint32_t)us * 1000);
	bus__put_ext_head(p->packer, BUS_EXT_TIME, (uint32_t)len);
	bus__put_body(p->packer, data, len);
	return 0;
}

/* Packs the text of value as an extension of this number. */
static int
pack_text_ext(const struct packing *p, int8_t ext, PyObject *value, const struct place *at)
{
	PyObject *text = PyObject_Str(value);
	Py_ssize_t len;
	const char *utf8 = text != NULL ? PyUnicode_AsUTF8AndSize(text, &len) : NULL;
	int done = -1;

	if (utf8 != NULL && is_too_big(p, len)) {
		done = -1;
	} else if (utf8 != NULL && bus__ext_is_text(ext, utf8, (size_t)len)) {
		bus__put_ext_head(p->packer, ext, (uint32_t)len);
		bus__put_body(p->packer, utf8, (size_t)len);
		done = 0;
	} else if (utf8 != NULL) {
		/* A signalling NaN, a NaN with a payload, or an exponent of ten digits. */
		char what[100];

		PyOS_snprintf(what, sizeof what, "the %.60s does not fit every reader",
		    Py_TYPE(value)->tp_name);
		done = refuse(p, at, PyExc_ValueError, what, "publish str() of it");
	}
	Py_XDECREF(text);
	return done;
}

static int
refuse_changed(const struct packing *p)
{
	const struct place root = {.depth = 0};

	return refuse(p, &root, PyExc_ValueError, "the value changed while it was packed",
	    "publish a copy of it");
}

/* Checks the limits for a container with this many elements at this depth. */
static int
admit(struct packing *p, Py_ssize_t inside, const struct place *at)
{
	if (at->depth == BUS_PACK_DEPTH || inside > (Py_ssize_t)p->left)
		return too_much(p, at);
	p->left -= (uint32_t)inside;
	return 0;
}

/* Another thread, or Python code of an element, may change a container while it is packed. Then it does not have the announced number
 * of elements. */
static int
pack_sequence(struct packing *p, PyObject *sequence, const struct place *at)
{
	struct place inner = {.outer = at, .depth = at->depth + 1};
	Py_ssize_t count;
	int done;

	Py_BEGIN_CRITICAL_SECTION(sequence);
	count = PySequence_Fast_GET_SIZE(sequence);
	done = admit(p, count, at);
	if (done == 0)
		bus__put_array_head(p->packer, (uint32_t)count);
	for (; done == 0 && inner.index < PySequence_Fast_GET_SIZE(sequence); inner.index++) {
		PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, inner.index));

		done = pack(p, item, &inner);
		Py_DECREF(item);
	}
	if (done == 0 && inner.index != count)
		done = refuse_changed(p);
	Py_END_CRITICAL_SECTION();
	return done;
}

static int
pack_set(struct packing *p, PyObject *set, const struct place *at)
{
	PyObject *list = PySequence_List(set);
	int done = list != NULL ? pack_sequence(p, list, at) : -1;

	Py_XDECREF(list);
	return done;
}

/* Keys whose type defines equality itself: a dict may hold several that a reader merges into one. */
static bool
is_odd(PyObject *key)
{
	return !PyUnicode_CheckExact(key) && !PyLong_CheckExact(key) && !PyBytes_CheckExact(key) &&
	       !PyFloat_CheckExact(key) && !PyBool_Check(key) && key != Py_None;
}

/* Returns the key as a reader sees it. NULL with an exception. */
static PyObject *
key_as_read(const struct packing *p, PyObject *key)
{
	if (PyBool_Check(key))
		return Py_NewRef(key);
	if (PyUnicode_Check(key))
		return PyUnicode_FromObject(key);
	if (PyLong_Check(key))
		return PyNumber_Index(key);
	if (PyFloat_Check(key))
		return PyFloat_FromDouble(PyFloat_AS_DOUBLE(key));
	if (PyBytes_Check(key))
		return PyBytes_FromStringAndSize(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key));
	if (PyMemoryView_Check(key)) /* hashable, since read-only */
		return PyBytes_FromObject(key);
	if (PyObject_TypeCheck(key, p->core->ext)) {
		PyObject *code = key_as_read(p, PyTuple_GET_ITEM(key, 0));
		PyObject *data = code != NULL ? key_as_read(p, PyTuple_GET_ITEM(key, 1)) : NULL;
		PyObject *ext = data != NULL ? PyObject_CallFunctionObjArgs(
						   (PyObject *)p->core->ext, code, data, NULL)
					     : NULL;

		Py_XDECREF(data);
		Py_XDECREF(code);
		return ext;
	}
	if (PyDateTime_Check(key))
		return PyObject_CallMethod(key, "astimezone", "O", PyDateTime_TimeZone_UTC);
	if (p->core->decimal != NULL && PyObject_TypeCheck(key, (PyTypeObject *)p->core->decimal))
		return PyObject_CallOneArg(p->core->decimal, key);
	if (p->core->uuid != NULL && PyObject_TypeCheck(key, (PyTypeObject *)p->core->uuid)) {
		PyObject *text = PyObject_Str(key);
		PyObject *uuid = text != NULL ? PyObject_CallOneArg(p->core->uuid, text) : NULL;

		Py_XDECREF(text);
		return uuid;
	}
	return Py_NewRef(key);
}

/* Runs after the keys were packed, so each has a type that can be packed. */
static int
refuse_twins(const struct packing *p, PyObject *dict, const struct place *at)
{
	PyObject *seen = PySet_New(NULL), *key, *value;
	Py_ssize_t next = 0;
	int done = seen != NULL ? 0 : -1;

	while (done == 0 && PyDict_Next(dict, &next, &key, &value)) {
		const struct place inner = {
		    .outer = at, .key = key, .is_key = true, .depth = at->depth + 1};
		PyObject *read;
		int had = -1;

		Py_INCREF(key);
		read = key_as_read(p, key);
		if (read != NULL)
			had = PySet_Contains(seen, read);
		if (had == 1)
			done = refuse(p, &inner, PyExc_ValueError,
			    "two keys of the dict are the same to readers", "publish one of them");
		else
			done = had < 0 ? -1 : PySet_Add(seen, read);
		Py_XDECREF(read);
		Py_DECREF(key);
	}
	Py_XDECREF(seen);
	return done;
}

static int
pack_pair(struct packing *p, PyObject *key, PyObject *value, const struct place *at)
{
	struct place inner = {.outer = at, .key = key, .is_key = true, .depth = at->depth + 1};
	int done;

	Py_INCREF(key);
	Py_INCREF(value);
	done = pack(p, key, &inner);
	inner.is_key = false;
	if (done == 0)
		done = pack(p, value, &inner);
	Py_DECREF(value);
	Py_DECREF(key);
	return done;
}

static int
pack_dict(struct packing *p, PyObject *dict, const struct place *at)
{
	PyObject *key, *value;
	Py_ssize_t next = 0, count, packed = 0;
	bool odd = false;
	int done;

	Py_BEGIN_CRITICAL_SECTION(dict);
	count = PyDict_GET_SIZE(dict);
	done = count < BUS_PACK_ELEMENTS ? admit(p, 2 * count, at) : too_much(p, at);
	if (done == 0)
		bus__put_map_head(p->packer, (uint32_t)count);
	for (; done == 0 && PyDict_Next(dict, &next, &key, &value); packed++) {
		odd |= is_odd(key);
		done = pack_pair(p, key, value, at);
	}
	if (done == 0 && packed != count)
		done = refuse_changed(p);
	if (done == 0 && odd)
		done = refuse_twins(p, dict, at);
	Py_END_CRITICAL_SECTION();
	return done;
}

/* The Python function that makes a dict of a dataclass and the like; it returns NotImplemented for other types. */
static PyObject *
plain_of(struct core *core, PyObject *value)
{
	if (core->plain == NULL) {
		PyObject *module = PyImport_ImportModule("libbus._typed");
		PyObject *plain = module == NULL ? NULL : PyObject_GetAttrString(module, "plain");

		Py_XDECREF(module);
		if (plain == NULL)
			return NULL;
		Py_XSETREF(core->plain, plain); /* the import may have packed a value and set it */
	}
	return PyObject_CallOneArg(core->plain, value);
}

/* Returns whether value is an instance of this class; a module that is not loaded has no instances. -1 with an exception. */
static int
is_of(PyObject *value, PyObject **cached, const char *module_name, const char *class_name)
{
	if (*cached == NULL) {
		PyObject *name = PyUnicode_FromString(module_name), *module, *class;

		if (name == NULL)
			return -1;
		module = PyImport_GetModule(name);
		Py_DECREF(name);
		if (module == NULL)
			return PyErr_Occurred() ? -1 : 0;
		class = PyObject_GetAttrString(module, class_name);
		Py_DECREF(module);
		if (class == NULL)
			return -1;
		Py_XSETREF(*cached, class);
	}
	return PyType_Check(*cached) && PyObject_TypeCheck(value, (PyTypeObject *)*cached);
}

/* Packs a value of a standard library type. 1; 0: it has none of these types; -1 with an exception. */
static int
pack_standard(const struct packing *p, PyObject *value, const struct place *at)
{
	struct core *core = p->core;
	int is;

	if (PyDateTimeAPI == NULL)
		PyDateTime_IMPORT;
	if (PyDateTimeAPI == NULL)
		return -1;
	if (PyDateTime_Check(value))
		return pack_time(p, value, at) < 0 ? -1 : 1;
	if (PyDate_Check(value))
		return pack_text_ext(p, BUS_EXT_DATE, value, at) < 0 ? -1 : 1;
	is = is_of(value, &core->decimal, "decimal", "Decimal");
	if (is > 0)
		return pack_text_ext(p, BUS_EXT_DECIMAL, value, at) < 0 ? -1 : 1;
	if (is == 0)
		is = is_of(value, &core->uuid, "uuid", "UUID");
	if (is > 0)
		return pack_text_ext(p, BUS_EXT_UUID, value, at) < 0 ? -1 : 1;
	return is;
}

/* No other type may be a key: only of the usual types it is known whether two keys are the same to readers. */
static int
pack_other(struct packing *p, PyObject *value, const struct place *at)
{
	int done = pack_standard(p, value, at);
	PyObject *plain;

	if (done != 0)
		return done < 0 ? -1 : 0;
	if (at->is_key)
		return refuse_type(p, at, value);
	if (PyAnySet_Check(value))
		return pack_set(p, value, at);
	if (PyObject_CheckBuffer(value))
		return pack_buffer(p, value, at);
	plain = plain_of(p->core, value);
	if (plain == NULL)
		return -1;
	if (plain == Py_NotImplemented)
		done = refuse_type(p, at, value);
	else if (Py_EnterRecursiveCall(" while packing a value") < 0)
		done = -1;
	else {
		done = pack(p, plain, at);
		Py_LeaveRecursiveCall();
	}
	Py_DECREF(plain);
	return done;
}

/* Packs a value whose type is not exactly one of pack()'s. */
static int
pack_subclass(struct packing *p, PyObject *value, const struct place *at)
{
	bool ext = PyObject_TypeCheck(value, p->core->ext);

	if (PyBool_Check(value))
		bus__put_byte(p->packer, value == Py_True ? 0xc3 : 0xc2);
	else if (PyLong_Check(value))
		return pack_int(p, value, at);
	else if (PyFloat_Check(value))
		bus__put_float(p->packer, PyFloat_AS_DOUBLE(value));
	else if (PyUnicode_Check(value))
		return pack_text(p, value, at);
	else if (PyBytes_Check(value))
		return pack_bytes(p, value, at);
	else if (PyByteArray_Check(value) || PyMemoryView_Check(value))
		return pack_buffer(p, value, at);
	else if (ext)
		return pack_ext(p, value, at);
	else if (!PyList_Check(value) && !PyTuple_Check(value) && !PyDict_Check(value))
		return pack_other(p, value, at);
	else if (at->is_key)
		return refuse_type(p, at, value); /* Lists and dicts are not hashable. */
	else if (PyDict_Check(value))
		return pack_dict(p, value, at);
	else
		return pack_sequence(p, value, at);
	return 0;
}

static int
pack(struct packing *p, PyObject *value, const struct place *at)
{
	if (PyUnicode_CheckExact(value))
		return pack_text(p, value, at);
	if (PyLong_CheckExact(value))
		return pack_int(p, value, at);
	if (PyDict_CheckExact(value) && !at->is_key)
		return pack_dict(p, value, at);
	if (PyList_CheckExact(value) && !at->is_key)
		return pack_sequence(p, value, at);
	if (PyFloat_CheckExact(value))
		bus__put_float(p->packer, PyFloat_AS_DOUBLE(value));
	else if (value == Py_None)
		bus__put_byte(p->packer, 0xc0);
	else
		return pack_subclass(p, value, at);
	return 0;
}

static int
pack_root(struct packing *p, PyObject *value)
{
	const struct place root = {.depth = 0};

	if (pack(p, value, &root) < 0)
		return -1;
	bus__packer_seal(p->packer);
	if (p->packer->err == 0)
		return 0;
	error_raise(p->core, p->packer->err, ABOUT_TOPIC, p->topic);
	return -1;
}

int
value_pack(struct core *core, struct bus_packer *packer, PyObject *value, PyObject *topic,
    const char *name)
{
	struct packing p = {core, packer, topic, name, BUS_PACK_ELEMENTS - 1, NULL};

	return pack_root(&p, value);
}

int
value_pack_parts(struct core *core, struct bus_packer *packer, PyObject *value, PyObject *topic,
    Py_buffer *ret_body)
{
	struct packing p = {core, packer, topic, "value", BUS_PACK_ELEMENTS - 1, ret_body};

	ret_body->obj = NULL;
	if (pack_root(&p, value) == 0)
		return 0;
	PyBuffer_Release(ret_body);
	return -1;
}

struct bus_packer *
packer_take(_Atomic(struct bus_packer *) *spare)
{
	struct bus_packer *packer = atomic_exchange(spare, NULL);

	if (packer != NULL)
		bus_packer_reset(packer);
	else if (bus_packer_new(&packer) < 0)
		PyErr_NoMemory();
	return packer;
}

void
packer_give(_Atomic(struct bus_packer *) *spare, struct bus_packer *packer)
{
	bus_packer_free(atomic_exchange(spare, packer));
}
