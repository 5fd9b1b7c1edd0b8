/* module.c: the module libbus._core, and helpers for arguments. */
#include "core.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/fork.h"

struct core *
core_of_type(PyTypeObject *type)
{
	PyObject *module = PyType_GetModuleByDef(type, &core_module);

	return module == NULL ? NULL : PyModule_GetState(module);
}

int
timeout_ms(PyObject *seconds, int *ret_ms)
{
	return seconds_ms(seconds, "timeout", ret_ms);
}

int
seconds_ms(PyObject *seconds, const char *name, int *ret_ms)
{
	double ms;

	if (seconds == Py_None) {
		*ret_ms = -1;
		return 0;
	}
	ms = ceil(PyFloat_AsDouble(seconds) * 1000);
	if (PyErr_Occurred())
		return -1;
	if (!(ms >= 0)) {
		PyErr_Format(PyExc_ValueError,
		    "%s %R: give seconds from 0 up, or None to wait for ever", name, seconds);
		return -1;
	}
	*ret_ms = ms < INT_MAX ? (int)ms : INT_MAX;
	return 0;
}

int
size_between(Py_ssize_t size, uint64_t max, const char *name)
{
	if (size >= 0 && (uint64_t)size <= max)
		return 0;
	PyErr_Format(PyExc_ValueError, "%s=%zd: give a number from 0 (the default) to %llu", name,
	    size, (unsigned long long)max);
	return -1;
}

int
choice(PyObject *text, const char *const *names, const char *argument)
{
	PyObject *known = NULL;
	int i;

	for (i = 0; names[i] != NULL; i++)
		if (PyUnicode_Check(text) && PyUnicode_CompareWithASCIIString(text, names[i]) == 0)
			return i;
	known = PyUnicode_FromString(names[0]);
	for (i = 1; names[i] != NULL && known != NULL; i++)
		Py_SETREF(known, PyUnicode_FromFormat("%U, %s", known, names[i]));
	if (known == NULL)
		return -1;
	PyErr_Format(PyExc_ValueError, "%s=%R: choose one of %U", argument, text, known);
	Py_DECREF(known);
	return -1;
}

int
start_of(PyObject *start, int *ret_from, uint64_t *ret_value, uint64_t *ret_epoch)
{
	static const char *const kinds[] = {"now", "oldest", "last", "after", "since", NULL};
	PyObject *kind;
	unsigned long long value, epoch;

	if (start == Py_None)
		return 0;
	if (!PyTuple_Check(start) || PyTuple_GET_SIZE(start) != 3 ||
	    !PyArg_ParseTuple(start, "UKK", &kind, &value, &epoch)) {
		PyErr_Clear();
		PyErr_Format(PyExc_TypeError,
		    "start=%R: libbus.last(count), libbus.since(moment), libbus.after(position, epoch) or "
		    "libbus.oldest()",
		    start);
		return -1;
	}
	*ret_from = choice(kind, kinds, "start");
	*ret_value = value;
	*ret_epoch = epoch;
	return *ret_from < 0 ? -1 : 0;
}

_Static_assert(BUS_FROM_NOW == 0 && BUS_FROM_OLDEST == 1 && BUS_FROM_LAST == 2 &&
		   BUS_FROM_POSITION == 3 && BUS_FROM_TIME == 4,
    "the order of kinds");

PyObject *
counters(const char *const *names, const uint64_t *numbers, size_t count)
{
	PyObject *dict = PyDict_New();

	if (dict == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		PyObject *number = PyLong_FromUnsignedLongLong(numbers[i]);
		int done = number == NULL ? -1 : PyDict_SetItemString(dict, names[i], number);

		Py_XDECREF(number);
		if (done < 0) {
			Py_DECREF(dict);
			return NULL;
		}
	}
	return dict;
}

PyObject *
stats_dict(const struct bus_stats *stats)
{
	static const char *const causes[BUS_LOSS_COUNT] = {
	    [BUS_LOSS_FULL] = "full",
	    [BUS_LOSS_REPLACED] = "replaced",
	    [BUS_LOSS_EXPIRED] = "expired",
	    [BUS_LOSS_UNSUBSCRIBED] = "unsubscribed",
	    [BUS_LOSS_CLOSED] = "closed",
	    [BUS_LOSS_LAPPED] = "lapped",
	    [BUS_LOSS_LINK] = "link",
	};
	PyObject *lost_by = counters(causes, stats->lost, BUS_LOSS_COUNT);
	uint64_t lost = 0;

	if (lost_by == NULL)
		return NULL;
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		lost += stats->lost[i];
	return Py_BuildValue("{s:K, s:K, s:K, s:K, s:K, s:K, s:N}", "offered",
	    (unsigned long long)stats->offered, "delivered", (unsigned long long)stats->delivered,
	    "pending", (unsigned long long)stats->pending, "refused",
	    (unsigned long long)stats->refused, "lost", (unsigned long long)lost, "late_replies",
	    (unsigned long long)stats->late_replies, "lost_by", lost_by);
}

/* --- functions ---------------------------------------------------------------------------------------- */

PyDoc_STRVAR(error_doc, "error($module, code, subject=None, /)\n--\n\n"
			"The exception of a BUS_E_* code, to raise.");

static PyObject *
core_error(PyObject *module, PyObject *args)
{
	PyObject *subject = NULL;
	int err;

	if (!PyArg_ParseTuple(args, "i|U:error", &err, &subject))
		return NULL;
	return error_new(PyModule_GetState(module), err, ABOUT_NAME, subject);
}

PyDoc_STRVAR(wait_with_doc,
    "_wait_with($module, modules, function, /)\n--\n\n"
    "Calls function(fd, seconds) before a wait if one of the modules is imported. The function waits until the\n"
    "descriptor may be readable and returns True; False: the thread must wait.");

static PyObject *
core_wait_with(PyObject *module, PyObject *args)
{
	struct core *core = PyModule_GetState(module);
	PyObject *modules, *function;

	if (!PyArg_ParseTuple(args, "O!O:_wait_with", &PyTuple_Type, &modules, &function))
		return NULL;
	Py_XSETREF(core->wait_modules, Py_NewRef(modules));
	Py_XSETREF(core->wait, Py_NewRef(function));
	Py_RETURN_NONE;
}

int
greenlets_are_known(struct core *core)
{
	for (Py_ssize_t i = 0; core->wait != NULL && i < PyTuple_GET_SIZE(core->wait_modules);
	     i++) {
		PyObject *module = PyImport_GetModule(PyTuple_GET_ITEM(core->wait_modules, i));

		Py_XDECREF(module);
		if (module != NULL)
			return 1;
		if (PyErr_Occurred())
			return -1;
	}
	return 0;
}

int
wait_in_greenlet(struct core *core, int fd, int ms)
{
	PyObject *answer = ms < 0 ? PyObject_CallFunction(core->wait, "iO", fd, Py_None)
				  : PyObject_CallFunction(core->wait, "id", fd, ms / 1000.0);
	int done = answer == NULL ? -1 : PyObject_IsTrue(answer);

	Py_XDECREF(answer);
	return done;
}

PyDoc_STRVAR(filter_check_doc,
    "filter_check($module, topic_filter, /)\n--\n\n"
    "Checks a filter: raises the FilterError that subscribing to it would raise, else returns None.");

static PyObject *
core_filter_check(PyObject *module, PyObject *filter)
{
	struct core *core = PyModule_GetState(module);
	const char *text = text_of(core, filter, ABOUT_FILTER);
	int err;

	if (text == NULL)
		return NULL;
	err = bus_filter_check(text);
	if (err < 0)
		return error_raise(core, err, ABOUT_FILTER, filter);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(filter_covers_doc,
    "filter_covers($module, topic_filter, other, /)\n--\n\n"
    "True if the first filter matches every topic that the other matches: 'a/#' covers 'a/+/b'.\n"
    "\n"
    "Wildcards in the first level match no topic that begins with $: '#' does not cover '$bus/#'.\n"
    "\n"
    "Raises:\n"
    "    FilterError: One of the two is malformed.");

static PyObject *
core_filter_covers(PyObject *module, PyObject *args)
{
	struct core *core = PyModule_GetState(module);
	const char *text, *other_text;
	PyObject *filter, *other;
	int covers;

	if (!PyArg_ParseTuple(args, "OO:filter_covers", &filter, &other))
		return NULL;
	text = text_of(core, filter, ABOUT_FILTER);
	other_text = text == NULL ? NULL : text_of(core, other, ABOUT_FILTER);
	if (other_text == NULL)
		return NULL;
	covers = bus_filter_covers(text, other_text);
	if (covers < 0)
		return error_raise(
		    core, covers, ABOUT_FILTER, bus_filter_check(text) == covers ? filter : other);
	return PyBool_FromLong(covers);
}

PyDoc_STRVAR(packb_doc, "packb($module, value, /)\n--\n\n"
			"Packs a value into the msgpack bytes that publish() sends.\n"
			"\n"
			"Raises:\n"
			"    TypeError: An element cannot be packed; the text names its path.\n"
			"    ValueError: The value is too deep, too large or malformed.\n"
			"    OverflowError: An int has more than 64 bits.\n"
			"\n"
			"Threads: any. Blocks: never.");

static PyObject *
core_packb(PyObject *module, PyObject *value)
{
	struct core *core = PyModule_GetState(module);
	struct bus_packer *packer = packer_take(&core->packer);
	PyObject *bytes = NULL;
	const void *data;
	size_t len;

	if (packer == NULL)
		return NULL;
	if (value_pack(core, packer, value, NULL, "value") == 0 &&
	    bus_packer_data(packer, &data, &len) == 0)
		bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
	packer_give(&core->packer, packer);
	return bytes;
}

PyDoc_STRVAR(unpackb_doc,
    "unpackb($module, data, /)\n--\n\n"
    "Returns the value of msgpack bytes, as msg.value does.\n"
    "\n"
    "Raises:\n"
    "    DecodeError: The bytes are not exactly one value, or the value is deeper than 32 or has more than 65,536 elements.\n"
    "\n"
    "Threads: any. Blocks: never.");

/* Arrays in the value point into the bytes, which therefore must be immutable. */
static PyObject *
core_unpackb(PyObject *module, PyObject *data)
{
	struct core *core = PyModule_GetState(module);
	PyObject *bytes, *value;
	struct owner owner = {0};

	if (!PyBytes_CheckExact(data) && !PyObject_CheckBuffer(data)) {
		PyErr_Format(
		    PyExc_TypeError, "unpackb() takes bytes, not %s", Py_TYPE(data)->tp_name);
		return NULL;
	}
	bytes = PyBytes_CheckExact(data) ? Py_NewRef(data) : PyBytes_FromObject(data);
	if (bytes == NULL)
		return NULL;
	owner.bytes = bytes;
	value = value_try(core, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), &owner);
	if (value == NULL && !PyErr_Occurred())
		value_refuse(core, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), NULL);
	Py_DECREF(bytes);
	return value;
}

static PyMethodDef functions[] = {
    {"packb", core_packb, METH_O, packb_doc},
    {"unpackb", core_unpackb, METH_O, unpackb_doc},
    {"_wait_with", core_wait_with, METH_VARARGS, wait_with_doc},
    {"filter_check", core_filter_check, METH_O, filter_check_doc},
    {"filter_covers", core_filter_covers, METH_VARARGS, filter_covers_doc},
    {"error", core_error, METH_VARARGS, error_doc},
    {NULL, NULL, 0, NULL},
};

/* --- the module ----------------------------------------------------------------------------------------- */

static int
type_new(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **ret_type)
{
	*ret_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
	return *ret_type == NULL ? -1 : 0;
}

static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **ret_type)
{
	return type_new(module, spec, base, ret_type) < 0 ? -1
							  : PyModule_AddType(module, *ret_type);
}

static int
set_string(PyObject *object, const char *name, const char *text)
{
	PyObject *string = PyUnicode_FromString(text);
	int done = string == NULL ? -1 : PyObject_SetAttrString(object, name, string);

	Py_XDECREF(string);
	return done;
}

/* A named tuple, as Python would make it. */
static int
add_ext(PyObject *module, struct core *core)
{
	PyObject *collections = PyImport_ImportModule("collections"), *ext = NULL;

	if (collections == NULL)
		return -1;
	ext = PyObject_CallMethod(collections, "namedtuple", "s(ss)", "Ext", "code", "data");
	Py_DECREF(collections);
	if (ext == NULL)
		return -1;
	core->ext = (PyTypeObject *)ext;
	if (set_string(ext, "__module__", "libbus") < 0 ||
	    set_string(
		ext, "__doc__", "A msgpack extension: its number, -128 to 127, and its bytes.") < 0)
		return -1;
	return PyModule_AddObjectRef(module, "Ext", ext);
}

static int
intern_names(struct core *core)
{
#define NAME_TEXT(id, text) text,
	static const char *const texts[] = {CORE_NAMES(NAME_TEXT)};
#undef NAME_TEXT

	for (int i = 0; i < NAME_COUNT; i++) {
		core->names[i] = PyUnicode_InternFromString(texts[i]);
		if (core->names[i] == NULL)
			return -1;
	}
	return 0;
}

static int
core_exec(PyObject *module)
{
	struct core *core = PyModule_GetState(module);

	if (bus__fork_watch() < 0) {
		PyErr_NoMemory();
		return -1;
	}
	if (errors_init(module, core) < 0 || add_ext(module, core) < 0 || intern_names(core) < 0)
		return -1;
	core->keys = keys_new();
	if (core->keys == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	if (add_type(module, &bus_spec, NULL, &core->bus) < 0 ||
	    type_new(module, &numbers_spec, NULL, &core->numbers) < 0 ||
	    add_type(module, &mailbox_spec, NULL, &core->mailbox) < 0 ||
	    add_type(module, &message_spec, NULL, &core->message) < 0 ||
	    add_type(module, &reply_spec, core->message, &core->reply) < 0 ||
	    add_type(module, &question_spec, NULL, &core->question) < 0 ||
	    add_type(module, &link_spec, NULL, &core->link) < 0 ||
	    add_type(module, &role_spec, NULL, &core->role) < 0 ||
	    add_type(module, &publisher_spec, NULL, &core->publisher) < 0 ||
	    add_type(module, &work_spec, NULL, &core->work) < 0 ||
	    add_type(module, &calls_spec, NULL, &core->calls) < 0 ||
	    type_new(module, &next_spec, NULL, &core->next) < 0 ||
	    add_type(module, &push_spec, NULL, &core->push) < 0)
		return -1;
	if (PyModule_AddIntConstant(module, "PAGE_FILTERS_MAX", BUS_PAGE_FILTERS_MAX) < 0 ||
	    PyModule_AddStringConstant(module, "TRANSPORTS", LIBBUS_TRANSPORTS) < 0)
		return -1;
	return PyModule_AddStringConstant(module, "VERSION", bus_version());
}

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
	struct core *core = PyModule_GetState(module);

	Py_VISIT(core->bus);
	Py_VISIT(core->mailbox);
	Py_VISIT(core->message);
	Py_VISIT(core->reply);
	Py_VISIT(core->question);
	Py_VISIT(core->link);
	Py_VISIT(core->role);
	Py_VISIT(core->publisher);
	Py_VISIT(core->work);
	Py_VISIT(core->calls);
	Py_VISIT(core->next);
	Py_VISIT(core->push);
	Py_VISIT(core->ext);
	Py_VISIT(core->plain);
	Py_VISIT(core->numbers);
	Py_VISIT(core->decimal);
	Py_VISIT(core->uuid);
	Py_VISIT(core->wait_modules);
	Py_VISIT(core->wait);
	Py_VISIT(core->base);
	for (int i = 0; i < EXCEPTION_COUNT; i++)
		Py_VISIT(core->exceptions[i]);
	return 0;
}

static int
core_clear(PyObject *module)
{
	struct core *core = PyModule_GetState(module);

	Py_CLEAR(core->bus);
	Py_CLEAR(core->mailbox);
	Py_CLEAR(core->message);
	Py_CLEAR(core->reply);
	Py_CLEAR(core->question);
	Py_CLEAR(core->link);
	Py_CLEAR(core->role);
	Py_CLEAR(core->publisher);
	Py_CLEAR(core->work);
	Py_CLEAR(core->calls);
	Py_CLEAR(core->next);
	Py_CLEAR(core->push);
	Py_CLEAR(core->ext);
	Py_CLEAR(core->plain);
	Py_CLEAR(core->numbers);
	Py_CLEAR(core->decimal);
	Py_CLEAR(core->uuid);
	Py_CLEAR(core->wait_modules);
	Py_CLEAR(core->wait);
	Py_CLEAR(core->base);
	for (int i = 0; i < EXCEPTION_COUNT; i++)
		Py_CLEAR(core->exceptions[i]);
	return 0;
}

static void
core_free(void *module)
{
	struct core *core = PyModule_GetState(module);

	core_clear(module);
	if (core != NULL) {
		bus_packer_free(atomic_exchange(&core->packer, NULL));
		keys_free(core->keys);
		core->keys = NULL;
		for (int i = 0; i < NAME_COUNT; i++)
			Py_CLEAR(core->names[i]);
	}
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, core_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "libbus._core",
    .m_doc = "The C side of libbus. Use the names of the package libbus.",
    .m_size = sizeof(struct core),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
	return PyModuleDef_Init(&core_module);
}
