/* role.c: libbus._core.Role, a role that one process on a named bus holds at a time. */
#include "core.h"

#include "base/clock.h"
#include "gate.h"

struct role_object {
	PyObject_HEAD struct gate gate;
	struct bus_role *role;
};

/* The longest delay of Ctrl-C. */
#define SLICE_MS 50

/* Waits for a slice. 0 or BUS_E_*. */
static int
take_slice(PyObject *bus, const char *name, int timeout, struct bus_role **ret_role)
{
	int err;

	Py_BEGIN_ALLOW_THREADS err = bus_object_role(bus, name, timeout, ret_role);
	Py_END_ALLOW_THREADS return err;
}

static PyObject *
role_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"bus", "name", "timeout", NULL};
	struct core *core = core_of_type(type);
	PyObject *bus, *name, *timeout = Py_None;
	struct role_object *self;
	const char *text;
	int64_t deadline;
	int ms, err;

	if (core == NULL ||
	    !PyArg_ParseTupleAndKeywords(
		args, kwargs, "O!O|$O:Role", names, core->bus, &bus, &name, &timeout) ||
	    timeout_ms(timeout, &ms) < 0)
		return NULL;
	text = text_of(core, name, ABOUT_NAME);
	if (text == NULL)
		return NULL;
	self = (struct role_object *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	gate_open(&self->gate);
	deadline = bus__deadline_ns(ms);
	do {
		int left = bus__left_ms(deadline);

		err = take_slice(
		    bus, text, left < 0 || left > SLICE_MS ? SLICE_MS : left, &self->role);
		if (err == BUS_E_TIMEDOUT && PyErr_CheckSignals() < 0)
			goto drop;
	} while (err == BUS_E_TIMEDOUT && bus__left_ms(deadline) != 0);
	if (err == 0)
		return (PyObject *)self;
	/* Not the library's text: it names the time of the last slice. */
	error_raise_because(core, err, ABOUT_NAME, name,
	    err == BUS_E_NOTSUP ? "roles are for a named bus: no other process is on a private one"
	    : err == BUS_E_TIMEDOUT
		? "timed out: another bus holds this role; wait longer, or close that bus"
		: NULL);
drop:
	Py_DECREF(self);
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void
end(struct role_object *self)
{
	if (!gate_shut(&self->gate))
		return;
	Py_BEGIN_ALLOW_THREADS bus_role_end(self->role);
	Py_END_ALLOW_THREADS self->role = NULL;
}

PyDoc_STRVAR(role_close_doc, "close($self, /)\n--\n\nGives the role back.");

static PyObject *
role_close(struct role_object *self, PyObject *unused)
{
	(void)unused;
	end(self);
	Py_RETURN_NONE;
}

static PyObject *
role_closed(struct role_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(gate_is_shut(&self->gate));
}

static void
role_dealloc(struct role_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	if (self->role != NULL)
		end(self);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyGetSetDef role_getset[] = {
    {"closed", (getter)role_closed, NULL, "True after close(), and in a forked child.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef role_methods[] = {
    {"close", (PyCFunction)role_close, METH_NOARGS, role_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot role_slots[] = {
    {Py_tp_doc, "The base of libbus.Role."},
    {Py_tp_new, role_new},
    {Py_tp_dealloc, role_dealloc},
    {Py_tp_getset, role_getset},
    {Py_tp_methods, role_methods},
    {0, NULL},
};

PyType_Spec role_spec = {
    .name = "libbus._core.Role",
    .basicsize = sizeof(struct role_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = role_slots,
};
