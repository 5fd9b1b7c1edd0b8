/* errors.c: exceptions, made from the one list in libbus/error.h. */
#include "core.h"

#include <errno.h>
#include <string.h>

#include "base/error_text.h"

/* Maps each code to its exception. A new code without a line here does not compile. */
enum {
	BECOMES_NOMEM = EXCEPTION_MEMORY,
	BECOMES_INVAL = EXCEPTION_ARGUMENT,
	BECOMES_CLOSED = EXCEPTION_CLOSED,
	BECOMES_FULL = EXCEPTION_FULL,
	BECOMES_TIMEDOUT = EXCEPTION_TIMEOUT,
	BECOMES_STATE = EXCEPTION_STATE,
	BECOMES_FORKED = EXCEPTION_FORK,
	BECOMES_LIMIT = EXCEPTION_LIMIT,
	BECOMES_NOTSUP = EXCEPTION_NOT_SUPPORTED,
	BECOMES_SYS = EXCEPTION_TRANSPORT,
	BECOMES_TOPIC_EMPTY = EXCEPTION_TOPIC,
	BECOMES_TOPIC_LONG = EXCEPTION_TOPIC,
	BECOMES_TOPIC_BYTES = EXCEPTION_TOPIC,
	BECOMES_TOPIC_WILDCARD = EXCEPTION_TOPIC,
	BECOMES_TOPIC_RESERVED = EXCEPTION_TOPIC,
	BECOMES_FILTER = EXCEPTION_FILTER,
	BECOMES_TOO_BIG = EXCEPTION_TOO_BIG,
	BECOMES_SCHEME = EXCEPTION_ADDRESS,
	BECOMES_ADDRESS = EXCEPTION_ADDRESS,
	BECOMES_ADDRESS_TAKEN = EXCEPTION_TRANSPORT,
	BECOMES_NOT_A_SOCKET = EXCEPTION_TRANSPORT,
	BECOMES_NOT_LOOPBACK = EXCEPTION_ADDRESS,
	BECOMES_DENIED = EXCEPTION_TRANSPORT,
	BECOMES_REFUSED = EXCEPTION_TRANSPORT,
	BECOMES_NOT_LIBBUS = EXCEPTION_TRANSPORT,
	BECOMES_VERSION = EXCEPTION_TRANSPORT,
	BECOMES_PROTOCOL = EXCEPTION_TRANSPORT,
	BECOMES_GONE = EXCEPTION_TRANSPORT,
	BECOMES_DECODE = EXCEPTION_DECODE,
	BECOMES_EXIST = EXCEPTION_STATE,
	BECOMES_NOBODY = EXCEPTION_NOBODY,
	BECOMES_NOSPACE = EXCEPTION_TRANSPORT,
	BECOMES_DAMAGED = EXCEPTION_TRANSPORT,
	BECOMES_RESET = EXCEPTION_STATE,
	BECOMES_LOCKED = EXCEPTION_LIMIT,
	BECOMES_AUTH = EXCEPTION_TRANSPORT,
	BECOMES_TLS = EXCEPTION_TRANSPORT,
};

static const struct code {
	int value;
	int becomes;
} codes[] = {
#define CODE_ROW(name, value, text) {BUS_E_##name, BECOMES_##name},
    BUS_ERRORS(CODE_ROW)
#undef CODE_ROW
};

#define CODES (sizeof codes / sizeof codes[0])

static PyObject *
exception_of(struct core *core, int err, enum about about)
{
	int becomes = EXCEPTION_ARGUMENT;

	for (size_t i = 0; i < CODES; i++)
		if (codes[i].value == err)
			becomes = codes[i].becomes;
	if (becomes == EXCEPTION_MEMORY)
		return PyExc_MemoryError;
	/* The codes of malformed topics are also those of malformed filters. */
	if (becomes == EXCEPTION_TOPIC && about == ABOUT_FILTER)
		becomes = EXCEPTION_FILTER;
	return core->exceptions[becomes];
}

/* A message shows at most this much of the subject; the attribute has all of it. */
#define SUBJECT_SHOWN 80

/* Returns the library's own text if it begins with the subject; it does not if it cut or escaped the subject. A text about a damaged
 * log begins with the file, and is always taken. */
static PyObject *
library_sentence(int err, const char *text, PyObject *subject)
{
	PyObject *whole, *head;
	int begins;

	if (text != NULL && err == BUS_E_DAMAGED)
		return PyUnicode_FromString(text);
	if (text == NULL || subject == NULL)
		return NULL;
	whole = PyUnicode_FromString(text);
	head = whole == NULL ? NULL : PyUnicode_FromFormat("%U: ", subject);
	begins = head == NULL ? -1 : (int)PyUnicode_Tailmatch(whole, head, 0, PY_SSIZE_T_MAX, -1);
	Py_XDECREF(head);
	if (begins == 1)
		return whole;
	Py_XDECREF(whole);
	return NULL; /* no exception, or MemoryError */
}

static PyObject *
sentence(int err, int number, PyObject *subject, const char *why, const char *said)
{
	PyObject *text, *head, *printable, *whole;

	whole = why == NULL ? library_sentence(err, said, subject) : NULL;
	if (whole != NULL || PyErr_Occurred())
		return whole;
	text = err == BUS_E_SYS && number != 0
		   ? PyUnicode_FromFormat("the system refused: %s", strerror(number))
		   : PyUnicode_FromString(why != NULL ? why : bus_strerror(err));
	if (text == NULL || subject == NULL || PyUnicode_GET_LENGTH(subject) == 0)
		return text;
	head = PyUnicode_Substring(subject, 0, SUBJECT_SHOWN);
	/* Escapes lone surrogates, which cannot be written, and NUL and newlines, which should not be. */
	printable = head == NULL ? NULL : PyObject_CallMethod(head, "isprintable", NULL);
	whole = printable == NULL
		    ? NULL
		    : PyUnicode_FromFormat(printable == Py_True ? "%U%s: %U" : "%A%s: %U", head,
			  PyUnicode_GET_LENGTH(subject) > SUBJECT_SHOWN ? "…" : "", text);
	Py_XDECREF(printable);
	Py_XDECREF(head);
	Py_DECREF(text);
	return whole;
}

static int
set_attribute(PyObject *object, const char *name, PyObject *value)
{
	int done = value == NULL ? -1 : PyObject_SetAttrString(object, name, value);

	Py_XDECREF(value);
	return done;
}

static PyObject *
or_none(PyObject *subject, bool wanted)
{
	return Py_NewRef(wanted && subject != NULL ? subject : Py_None);
}

static PyObject *
make(struct core *core, int err, enum about about, PyObject *subject, const char *why)
{
	int number = errno;
	const char *said = bus__take_error_text(err);
	bool topic = about == ABOUT_TOPIC || about == ABOUT_FILTER;
	PyObject *class = exception_of(core, err, about);
	PyObject *text = sentence(err, number, subject, why, said), *error = NULL;

	if (text == NULL)
		return NULL;
	error = PyObject_CallOneArg(class, text);
	Py_DECREF(text);
	if (error == NULL || class == PyExc_MemoryError)
		return error;
	if (set_attribute(error, "code", PyLong_FromLong(err)) < 0 ||
	    set_attribute(error, "name", PyUnicode_FromString(bus_errname(err))) < 0 ||
	    set_attribute(error, "topic", or_none(subject, topic)) < 0 ||
	    set_attribute(error, "address", or_none(subject, about == ABOUT_ADDRESS)) < 0)
		goto drop;
	if (err == BUS_E_SYS && set_attribute(error, "errno", PyLong_FromLong(number)) < 0)
		goto drop;
	return error;

drop:
	Py_DECREF(error);
	return NULL;
}

PyObject *
error_new(struct core *core, int err, enum about about, PyObject *subject)
{
	return make(core, err, about, subject, NULL);
}

PyObject *
error_raise(struct core *core, int err, enum about about, PyObject *subject)
{
	return error_raise_because(core, err, about, subject, NULL);
}

PyObject *
error_raise_because(
    struct core *core, int err, enum about about, PyObject *subject, const char *why)
{
	PyObject *error = make(core, err, about, subject, why);

	if (error == NULL)
		return NULL;
	PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	Py_DECREF(error);
	return NULL;
}

const char *
text_of(struct core *core, PyObject *text, enum about about)
{
	static const char *const names[] = {
	    [ABOUT_NAME] = "a name",
	    [ABOUT_TOPIC] = "a topic",
	    [ABOUT_FILTER] = "a filter",
	    [ABOUT_ADDRESS] = "an address",
	};
	int err = about == ABOUT_ADDRESS ? BUS_E_ADDRESS : BUS_E_TOPIC_BYTES;
	const char *utf8;
	Py_ssize_t len;

	if (!PyUnicode_Check(text)) {
		PyErr_Format(
		    PyExc_TypeError, "%s is a str, not %s", names[about], Py_TYPE(text)->tp_name);
		return NULL;
	}
	utf8 = PyUnicode_AsUTF8AndSize(text, &len);
	if (utf8 != NULL && strlen(utf8) == (size_t)len)
		return utf8;
	/* Half a surrogate pair, or a NUL, where C would end the name. */
	if (utf8 == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeError))
		return NULL;
	PyErr_Clear();
	error_raise(core, err, about, text);
	return NULL;
}

/* --- the classes ------------------------------------------------------------------------------------ */

static PyObject *
base_new(void)
{
	PyObject *defaults = Py_BuildValue(
	    "{s:i, s:s, s:O, s:O}", "code", 0, "name", "", "topic", Py_None, "address", Py_None);
	PyObject *base;

	if (defaults == NULL)
		return NULL;
	base = PyErr_NewExceptionWithDoc("libbus.BusError",
	    "The base of all errors of libbus. code and name are those of libbus/error.h; topic and address\n"
	    "name the object of the error, or are None.",
	    NULL, defaults);
	Py_DECREF(defaults);
	return base;
}

static PyObject *
class_new(PyObject *base, const char *name, PyObject *parent, const char *doc)
{
	PyObject *bases = parent != NULL ? PyTuple_Pack(2, base, parent) : PyTuple_Pack(1, base);
	char full[64];
	PyObject *class;

	if (bases == NULL)
		return NULL;
	PyOS_snprintf(full, sizeof full, "libbus.%s", name);
	class = PyErr_NewExceptionWithDoc(full, doc, bases, NULL);
	Py_DECREF(bases);
	return class;
}

/* ERRORS: ((code, name, text, exception), …) in the order of the list. */
static int
add_table(PyObject *module, struct core *core)
{
	PyObject *table = PyTuple_New(CODES);
	int done;

	if (table == NULL)
		return -1;
	for (size_t i = 0; i < CODES; i++) {
		int err = codes[i].value;
		PyObject *row = Py_BuildValue("(issO)", err, bus_errname(err), bus_strerror(err),
		    exception_of(core, err, ABOUT_NAME));

		if (row == NULL) {
			Py_DECREF(table);
			return -1;
		}
		PyTuple_SET_ITEM(table, (Py_ssize_t)i, row);
	}
	done = PyModule_AddObjectRef(module, "ERRORS", table);
	Py_DECREF(table);
	return done;
}

int
errors_init(PyObject *module, struct core *core)
{
	const struct {
		const char *name, *doc;
		PyObject *parent;
	} classes[] = {
#define CLASS_ROW(id, name, parent, doc) {name, doc, parent},
	    CORE_EXCEPTIONS(CLASS_ROW)
#undef CLASS_ROW
	};

	core->base = base_new();
	if (core->base == NULL || PyModule_AddObjectRef(module, "BusError", core->base) < 0)
		return -1;
	for (int i = 0; i < EXCEPTION_COUNT; i++) {
		core->exceptions[i] =
		    class_new(core->base, classes[i].name, classes[i].parent, classes[i].doc);
		if (core->exceptions[i] == NULL ||
		    PyModule_AddObjectRef(module, classes[i].name, core->exceptions[i]) < 0)
			return -1;
	}
	return add_table(module, core);
}
