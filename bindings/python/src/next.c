/* next.c: libbus._core.Next, what `async for` awaits: the next message of a subscription.
 *
 * A waiting message is returned at once, without a coroutine; otherwise a Python coroutine waits. Next takes no message before it is
 * awaited, so a task that is cancelled before its first step loses nothing. It has the methods of a coroutine, since asyncio makes
 * tasks of it. */
#include "core.h"

struct next_object {
	PyObject_HEAD struct core *core;
	PyObject *mailbox;
	PyObject *rest; /* the coroutine that waits; NULL: not yet */
	bool done;
};

PyObject *
next_new(struct core *core, PyObject *mailbox)
{
	struct next_object *self = PyObject_GC_New(struct next_object, core->next);

	if (self == NULL)
		return NULL;
	self->core = core;
	self->mailbox = Py_NewRef(mailbox);
	self->rest = NULL;
	self->done = false;
	PyObject_GC_Track(self);
	return (PyObject *)self;
}

/* The first step: a message, or a coroutine that waits for one. */
static PySendResult
begin(struct next_object *self, PyObject **ret_result)
{
	bool turn_is_over = false;

	*ret_result = mailbox_next_now(self->mailbox, &turn_is_over);
	if (*ret_result != NULL || PyErr_Occurred())
		return *ret_result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
	self->rest = PyObject_CallMethodOneArg(
	    self->mailbox, self->core->names[NAME_next], turn_is_over ? Py_True : Py_False);
	return self->rest != NULL ? PyIter_Send(self->rest, Py_None, ret_result) : PYGEN_ERROR;
}

static PySendResult
next_send(struct next_object *self, PyObject *value, PyObject **ret_result)
{
	PySendResult got;

	*ret_result = NULL;
	if (self->done) {
		PyErr_SetString(PyExc_RuntimeError,
		    "this message has been awaited already: ask for another one by anext(subscription)");
		return PYGEN_ERROR;
	}
	got = self->rest == NULL ? begin(self, ret_result)
				 : PyIter_Send(self->rest, value, ret_result);
	self->done |= got != PYGEN_NEXT;
	return got;
}

/* Returns a result as a generator does: as the value of StopIteration. */
static PyObject *
next_step(struct next_object *self, PyObject *value)
{
	PyObject *result;

	if (next_send(self, value, &result) != PYGEN_RETURN)
		return result;
	PyErr_SetObject(PyExc_StopIteration, result);
	Py_DECREF(result);
	return NULL;
}

static PyObject *
next_iternext(struct next_object *self)
{
	return next_step(self, Py_None);
}

PyDoc_STRVAR(next_throw_doc, "throw($self, /, *error)\n--\n\nRaises an exception inside the wait.");

static PyObject *
next_throw(struct next_object *self, PyObject *args)
{
	PyObject *throw, *result, *error;

	if (self->rest != NULL) {
		throw = PyObject_GetAttrString(self->rest, "throw");
		result = throw != NULL ? PyObject_CallObject(throw, args) : NULL;
		Py_XDECREF(throw);
		self->done |= result == NULL;
		return result;
	}
	self->done = true;
	error = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : PyExc_RuntimeError;
	if (PyTuple_GET_SIZE(args) > 1 && PyTuple_GET_ITEM(args, 1) != Py_None)
		PyErr_SetObject(error, PyTuple_GET_ITEM(args, 1));
	else if (PyExceptionInstance_Check(error))
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	else
		PyErr_SetNone(error);
	return NULL;
}

PyDoc_STRVAR(next_close_doc, "close($self, /)\n--\n\nEnds the wait, if there is one.");

static PyObject *
next_close(struct next_object *self, PyObject *unused)
{
	(void)unused;
	self->done = true;
	return self->rest != NULL ? PyObject_CallMethod(self->rest, "close", NULL)
				  : Py_NewRef(Py_None);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static int
next_traverse(struct next_object *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->mailbox);
	Py_VISIT(self->rest);
	return 0;
}

static int
next_clear(struct next_object *self)
{
	Py_CLEAR(self->mailbox);
	Py_CLEAR(self->rest);
	return 0;
}

static void
next_dealloc(struct next_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	next_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef next_methods[] = {
    {"send", (PyCFunction)next_step, METH_O, "send($self, value, /)\n--\n\nResumes the wait."},
    {"throw", (PyCFunction)next_throw, METH_VARARGS, next_throw_doc},
    {"close", (PyCFunction)next_close, METH_NOARGS, next_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot next_slots[] = {
    {Py_tp_doc, "The next message of a subscription, to be awaited."},
    {Py_tp_dealloc, next_dealloc},
    {Py_tp_traverse, next_traverse},
    {Py_tp_clear, next_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, next_iternext},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, next_send},
    {Py_tp_methods, next_methods},
    {0, NULL},
};

PyType_Spec next_spec = {
    .name = "libbus._core.Next",
    .basicsize = sizeof(struct next_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
	     Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = next_slots,
};
