/* value.c: Python values into payloads and back, over libbus/pack.h. */
#include "core.h"

#include <string.h>

struct packing {
	struct core *core;
	struct bus_packer *packer;
	PyObject *topic;   /* NULL: it is not published, but packed */
	const char *name;  /* of the root: "value" or "headers" */
	uint32_t elements; /* so far, as bus_pack_*() count them */
};

/* The position of an element, kept on the stack: only an error spells it out. */
struct place {
	const struct place *outer; /* NULL: the root */
	PyObject *key;             /* borrowed; NULL: an element of a sequence */
	Py_ssize_t index;
	bool is_key; /* the key itself, not its value */
	int depth;
};

static int pack(struct packing *p, PyObject *value, const struct place *at);

/* --- errors that name the element ------------------------------------------------------------------------- */

/* The repr of a key, or its type: an int of 5,000 digits has no repr. */
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

static int
refuse_type(const struct packing *p, const struct place *at, PyObject *value)
{
	char what[160];

	PyOS_snprintf(what, sizeof what, "cannot %s %.100s%s",
	    p->topic != NULL ? "publish" : "pack", Py_TYPE(value)->tp_name,
	    at->is_key ? " as a key" : "");
	return refuse(p, at, PyExc_TypeError, what,
	    at->is_key ? "make it None, bool, int, float, str, bytes or Ext"
		       : "make it None, bool, int, float, str, bytes, list, dict or a dataclass");
}

static int
too_much(const struct packing *p, const struct place *at)
{
	char what[100];

	PyOS_snprintf(what, sizeof what, "a value may nest %d deep and hold %d values in all",
	    BUS_PACK_DEPTH, BUS_PACK_ELEMENTS);
	return refuse(p, at, PyExc_ValueError,
	    at->outer == NULL ? what : strcat(what, "; too much begins"),
	    "publish less at once, or bytes");
}

/* --- into a payload --------------------------------------------------------------------------------------- */

/* A body that msgpack has no size for; bus_publish() refuses far smaller ones. */
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
		bus_pack_int(p->packer, number);
		return 0;
	}
	large = overflow > 0 ? PyLong_AsUnsignedLongLong(value) : 0;
	if (overflow > 0 && !PyErr_Occurred()) {
		bus_pack_uint(p->packer, large);
		return 0;
	}
	PyErr_Clear();
	return refuse(p, at, PyExc_ValueError, "the int does not fit 64 bits",
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
		bus_pack_text(p->packer, utf8, (size_t)len);
		return 0;
	}
	if (!PyErr_ExceptionMatches(PyExc_UnicodeError))
		return -1;
	PyErr_Clear();
	return refuse(
	    p, at, PyExc_ValueError, "the str has half a surrogate pair", "publish it as bytes");
}

static int
pack_buffer(const struct packing *p, PyObject *value, const struct place *at)
{
	Py_buffer view;
	bool fits;

	if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) == 0) {
		fits = !is_too_big(p, view.len);
		if (fits)
			bus_pack_bytes(p->packer, view.buf, (size_t)view.len);
		PyBuffer_Release(&view);
		return fits ? 0 : -1;
	}
	if (PyErr_ExceptionMatches(PyExc_BufferError)) {
		PyErr_Clear();
		return refuse(p, at, PyExc_BufferError, "the memoryview is not contiguous",
		    "publish bytes() of it");
	}
	if (PyErr_ExceptionMatches(PyExc_ValueError)) {
		PyErr_Clear();
		return refuse(p, at, PyExc_ValueError, "the memoryview is released",
		    "publish before its release()");
	}
	return -1;
}

static int
refuse_ext(const struct packing *p, PyObject *part, const char *name, const struct place *at)
{
	char what[160];

	PyOS_snprintf(
	    what, sizeof what, "the %s of the Ext is %.100s", name, Py_TYPE(part)->tp_name);
	return refuse(p, at, PyExc_TypeError, what, "make it Ext(code, data), an int and bytes");
}

static int
pack_ext(const struct packing *p, PyObject *value, const struct place *at)
{
	PyObject *number, *data;
	long code;
	int overflow;

	if (PyTuple_GET_SIZE(value) != 2) /* tuple.__new__() may make one */
		return refuse(p, at, PyExc_TypeError, "the Ext is not a code and data",
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
	bus_pack_ext(
	    p->packer, (int8_t)code, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
	return 0;
}

/* Another thread may change a container meanwhile where there is no GIL; then the number of elements
 * is not the one announced, and bus_packer_data() says so. */
static int
pack_sequence(struct packing *p, PyObject *sequence, const struct place *at)
{
	struct place inner = {.outer = at, .depth = at->depth + 1};
	int done = 0;

	Py_BEGIN_CRITICAL_SECTION(sequence);
	bus_pack_array(p->packer, (uint32_t)PySequence_Fast_GET_SIZE(sequence));
	for (; done == 0 && inner.index < PySequence_Fast_GET_SIZE(sequence); inner.index++) {
		PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, inner.index));

		done = pack(p, item, &inner);
		Py_DECREF(item);
	}
	Py_END_CRITICAL_SECTION();
	return done;
}

/* A key of a type that decides itself what it equals: a dict may have several that a reader gets as one. */
static bool
is_odd(PyObject *key)
{
	return !PyUnicode_CheckExact(key) && !PyLong_CheckExact(key) && !PyBytes_CheckExact(key) &&
	       !PyFloat_CheckExact(key) && !PyBool_Check(key) && key != Py_None;
}

/* The key as a reader gets it; NULL with an exception. */
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
	if (PyMemoryView_Check(key))
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
	return Py_NewRef(key);
}

/* After the keys were packed, so each is of a kind that can be. */
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
			    "another key of the dict is the same to readers",
			    "publish one of them");
		else
			done = had < 0 ? -1 : PySet_Add(seen, read);
		Py_XDECREF(read);
		Py_DECREF(key);
	}
	Py_XDECREF(seen);
	return done;
}

static int
pack_dict(struct packing *p, PyObject *dict, const struct place *at)
{
	PyObject *key, *value;
	Py_ssize_t next = 0;
	bool odd = false;
	int done = 0;

	Py_BEGIN_CRITICAL_SECTION(dict);
	bus_pack_map(p->packer, (uint32_t)PyDict_GET_SIZE(dict));
	while (done == 0 && PyDict_Next(dict, &next, &key, &value)) {
		struct place inner = {
		    .outer = at, .key = key, .is_key = true, .depth = at->depth + 1};

		Py_INCREF(key);
		Py_INCREF(value);
		odd |= is_odd(key);
		done = pack(p, key, &inner);
		inner.is_key = false;
		if (done == 0)
			done = pack(p, value, &inner);
		Py_DECREF(value);
		Py_DECREF(key);
	}
	if (done == 0 && odd)
		done = refuse_twins(p, dict, at);
	Py_END_CRITICAL_SECTION();
	return done;
}

static bool
is_container(PyObject *value)
{
	return PyList_Check(value) || PyTuple_Check(value) || PyDict_Check(value);
}

/* Counts value and checks the limits as bus_pack_*() do: these know no path. */
static int
admit(struct packing *p, PyObject *value, bool container, const struct place *at)
{
	Py_ssize_t inside = 0;

	if (container && at->is_key)
		return refuse_type(p, at, value); /* Python cannot look a list or a dict up. */
	if (container && at->depth == BUS_PACK_DEPTH)
		return too_much(p, at);
	if (container)
		inside =
		    PyDict_Check(value) ? PyDict_GET_SIZE(value) : PySequence_Fast_GET_SIZE(value);
	if (inside >= BUS_PACK_ELEMENTS)
		return too_much(p, at);
	if (container && PyDict_Check(value))
		inside *= 2;
	if ((uint32_t)inside >= BUS_PACK_ELEMENTS - p->elements)
		return too_much(p, at);
	p->elements++;
	return 0;
}

/* A function of Python's that makes a dict of a dataclass, and so on; NotImplemented: of other types. */
static PyObject *
plain_of(struct core *core, PyObject *value)
{
	if (core->plain == NULL) {
		PyObject *module = PyImport_ImportModule("libbus._typed");
		PyObject *plain = module == NULL ? NULL : PyObject_GetAttrString(module, "plain");

		Py_XDECREF(module);
		if (plain == NULL)
			return NULL;
		Py_XSETREF(core->plain, plain); /* the import may have packed something */
	}
	return PyObject_CallOneArg(core->plain, value);
}

/* Keys are not: whether two are the same to readers is known of the usual types only. */
static int
pack_other(struct packing *p, PyObject *value, const struct place *at)
{
	PyObject *plain;
	int done;

	if (at->is_key)
		return refuse_type(p, at, value);
	plain = plain_of(p->core, value);
	if (plain == NULL)
		return -1;
	p->elements--; /* it counts as what is packed for it */
	done = plain == Py_NotImplemented ? refuse_type(p, at, value) : pack(p, plain, at);
	Py_DECREF(plain);
	return done;
}

static int
pack(struct packing *p, PyObject *value, const struct place *at)
{
	bool ext = PyObject_TypeCheck(value, p->core->ext);

	if (admit(p, value, !ext && is_container(value), at) < 0)
		return -1;
	if (value == Py_None)
		bus_pack_nil(p->packer);
	else if (PyBool_Check(value))
		bus_pack_bool(p->packer, value == Py_True);
	else if (PyLong_Check(value))
		return pack_int(p, value, at);
	else if (PyFloat_Check(value))
		bus_pack_float(p->packer, PyFloat_AS_DOUBLE(value));
	else if (PyUnicode_Check(value))
		return pack_text(p, value, at);
	else if (PyBytes_Check(value) || PyByteArray_Check(value) || PyMemoryView_Check(value))
		return pack_buffer(p, value, at);
	else if (ext)
		return pack_ext(p, value, at);
	else if (PyList_Check(value) || PyTuple_Check(value))
		return pack_sequence(p, value, at);
	else if (PyDict_Check(value))
		return pack_dict(p, value, at);
	else
		return pack_other(p, value, at);
	return 0;
}

int
value_pack(struct core *core, struct bus_packer *packer, PyObject *value, PyObject *topic,
    const char *name)
{
	struct packing p = {core, packer, topic, name, 0};
	const struct place root = {.depth = 0};
	const void *data;
	size_t len;
	int err;

	if (pack(&p, value, &root) < 0)
		return -1;
	err = bus_packer_data(packer, &data, &len);
	if (err == BUS_E_LIMIT)
		return too_much(&p, &root);
	if (err == BUS_E_INVAL)
		refuse(&p, &root, PyExc_ValueError, "another thread changed the value meanwhile",
		    "give it a copy");
	else if (err < 0)
		error_raise(core, err, ABOUT_TOPIC, topic);
	return err < 0 ? -1 : 0;
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

/* --- and back --------------------------------------------------------------------------------------------- */

struct unpacking {
	struct core *core;
	PyObject *topic;
};

static PyObject *unpack(const struct unpacking *u, const struct bus_value *value);

static PyObject *
unpack_list(const struct unpacking *u, const struct bus_value *value)
{
	PyObject *list = PyList_New(value->count);

	if (list == NULL)
		return NULL;
	for (uint32_t i = 0; i < value->count; i++) {
		PyObject *item = unpack(u, &value->as.items[i]);

		if (item == NULL) {
			Py_DECREF(list);
			return NULL;
		}
		PyList_SET_ITEM(list, (Py_ssize_t)i, item);
	}
	return list;
}

static PyObject *
unpack_dict(const struct unpacking *u, const struct bus_value *value)
{
	PyObject *dict = PyDict_New();

	if (dict == NULL)
		return NULL;
	for (uint32_t i = 0; i < value->count; i++) {
		const struct bus_value *pair = &value->as.items[2 * (size_t)i];
		PyObject *key = NULL, *item = NULL;
		int done = -1;

		/* Python cannot look a list or a dict up. */
		if (pair->kind == BUS_KIND_ARRAY || pair->kind == BUS_KIND_MAP)
			error_raise(u->core, BUS_E_DECODE, ABOUT_TOPIC, u->topic);
		else
			key = unpack(u, &pair[0]);
		if (key != NULL)
			item = unpack(u, &pair[1]);
		if (item != NULL)
			done = PyDict_SetItem(dict, key, item);
		Py_XDECREF(item);
		Py_XDECREF(key);
		if (done < 0) {
			Py_DECREF(dict);
			return NULL;
		}
	}
	return dict;
}

static PyObject *
unpack_ext(const struct unpacking *u, const struct bus_value *value)
{
	return PyObject_CallFunction((PyObject *)u->core->ext, "iy#", (int)value->ext,
	    value->as.bytes, (Py_ssize_t)value->count);
}

/* Recursion is at most BUS_PACK_DEPTH deep: bus_value_read() has counted. */
static PyObject *
unpack(const struct unpacking *u, const struct bus_value *value)
{
	switch (value->kind) {
	case BUS_KIND_NIL:
		break;
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
		return unpack_list(u, value);
	case BUS_KIND_MAP:
		return unpack_dict(u, value);
	case BUS_KIND_EXT:
		return unpack_ext(u, value);
	}
	Py_RETURN_NONE;
}

PyObject *
value_unpack(struct core *core, const struct bus_value *value, PyObject *topic)
{
	const struct unpacking u = {core, topic};

	return unpack(&u, value);
}
