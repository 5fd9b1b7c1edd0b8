/* value.c: Python values into payloads and back, over libbus/pack.h. */
#include "core.h"

struct packing {
	struct core *core;
	struct bus_packer *packer;
	PyObject *topic;
};

static int pack(const struct packing *p, PyObject *value, int depth);

/* --- into a payload ------------------------------------------------------------------------------------- */

static int
too_much(const struct packing *p)
{
	PyErr_Format(PyExc_ValueError,
	    "%U: a value may nest %d deep and hold %d values in all; publish less at once, or bytes",
	    p->topic, BUS_PACK_DEPTH, BUS_PACK_ELEMENTS);
	return -1;
}

static int
pack_int(const struct packing *p, PyObject *value)
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
	PyErr_Format(PyExc_ValueError,
	    "%U: the int does not fit 64 bits; publish it as a str or a float", p->topic);
	return -1;
}

static int
pack_text(const struct packing *p, PyObject *value)
{
	Py_ssize_t len;
	const char *utf8 = PyUnicode_AsUTF8AndSize(value, &len);

	if (utf8 != NULL) {
		bus_pack_text(p->packer, utf8, (size_t)len);
		return 0;
	}
	if (!PyErr_ExceptionMatches(PyExc_UnicodeError))
		return -1;
	PyErr_Clear();
	PyErr_Format(PyExc_ValueError, "%U: the str has half a surrogate pair; publish it as bytes",
	    p->topic);
	return -1;
}

static int
pack_buffer(const struct packing *p, PyObject *value)
{
	Py_buffer view;

	if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0)
		return -1;
	bus_pack_bytes(p->packer, view.buf, (size_t)view.len);
	PyBuffer_Release(&view);
	return 0;
}

static int
pack_ext(const struct packing *p, PyObject *value)
{
	PyObject *data = PyTuple_GET_ITEM(value, 1);
	long code = PyLong_AsLong(PyTuple_GET_ITEM(value, 0));

	if (code == -1 && PyErr_Occurred())
		return -1;
	if (code < INT8_MIN || code > INT8_MAX || !PyBytes_Check(data)) {
		PyErr_Format(
		    PyExc_ValueError, "%U: an Ext is a code from -128 to 127 and bytes", p->topic);
		return -1;
	}
	bus_pack_ext(
	    p->packer, (int8_t)code, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
	return 0;
}

/* Another thread may change a container meanwhile where there is no GIL; then the number of elements
 * is not the one announced, and bus_packer_data() says so. */
static int
pack_sequence(const struct packing *p, PyObject *sequence, int depth)
{
	int done = 0;

	if (depth == BUS_PACK_DEPTH || PySequence_Fast_GET_SIZE(sequence) > BUS_PACK_ELEMENTS)
		return too_much(p);
	Py_BEGIN_CRITICAL_SECTION(sequence);
	bus_pack_array(p->packer, (uint32_t)PySequence_Fast_GET_SIZE(sequence));
	for (Py_ssize_t i = 0; done == 0 && i < PySequence_Fast_GET_SIZE(sequence); i++) {
		PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, i));

		done = pack(p, item, depth + 1);
		Py_DECREF(item);
	}
	Py_END_CRITICAL_SECTION();
	return done;
}

static int
pack_dict(const struct packing *p, PyObject *dict, int depth)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;
	int done = 0;

	if (depth == BUS_PACK_DEPTH || PyDict_GET_SIZE(dict) > BUS_PACK_ELEMENTS)
		return too_much(p);
	Py_BEGIN_CRITICAL_SECTION(dict);
	bus_pack_map(p->packer, (uint32_t)PyDict_GET_SIZE(dict));
	while (done == 0 && PyDict_Next(dict, &at, &key, &value)) {
		Py_INCREF(key);
		Py_INCREF(value);
		done = pack(p, key, depth + 1);
		if (done == 0)
			done = pack(p, value, depth + 1);
		Py_DECREF(value);
		Py_DECREF(key);
	}
	Py_END_CRITICAL_SECTION();
	return done;
}

static int
pack(const struct packing *p, PyObject *value, int depth)
{
	if (value == Py_None)
		bus_pack_nil(p->packer);
	else if (PyBool_Check(value))
		bus_pack_bool(p->packer, value == Py_True);
	else if (PyLong_Check(value))
		return pack_int(p, value);
	else if (PyFloat_Check(value))
		bus_pack_float(p->packer, PyFloat_AS_DOUBLE(value));
	else if (PyUnicode_Check(value))
		return pack_text(p, value);
	else if (PyBytes_Check(value) || PyByteArray_Check(value) || PyMemoryView_Check(value))
		return pack_buffer(p, value);
	else if (Py_IS_TYPE(value, p->core->ext))
		return pack_ext(p, value);
	else if (PyList_Check(value) || PyTuple_Check(value))
		return pack_sequence(p, value, depth);
	else if (PyDict_Check(value))
		return pack_dict(p, value, depth);
	else {
		PyErr_Format(PyExc_TypeError,
		    "%U: cannot publish %s; make it None, bool, int, float, str, bytes, list or dict",
		    p->topic, Py_TYPE(value)->tp_name);
		return -1;
	}
	return 0;
}

int
value_pack(struct core *core, struct bus_packer *packer, PyObject *value, PyObject *topic)
{
	const struct packing p = {core, packer, topic};
	const void *data;
	size_t len;
	int err;

	if (pack(&p, value, 0) < 0)
		return -1;
	err = bus_packer_data(packer, &data, &len);
	if (err == BUS_E_LIMIT)
		return too_much(&p);
	if (err == BUS_E_INVAL)
		PyErr_Format(PyExc_ValueError,
		    "%U: the value was changed by another thread meanwhile", topic);
	else if (err < 0)
		error_raise(core, err, ABOUT_TOPIC, topic);
	return err < 0 ? -1 : 0;
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
