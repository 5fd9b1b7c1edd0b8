/* calls.c: libbus._core.Calls, the callbacks of one bus: takes messages out of a mailbox and calls their functions.
 *
 * One Python thread runs it. Another thread, a signal handler or a finalizer may stop it at any time: from then on no call
 * begins, and stop() counts the messages that some function did not get. */
#include "core.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/fork.h"

struct calls_object {
	PyObject_HEAD struct core *core;
	PyObject *functions;  /* {key: function}; Python may change it at any time */
	PyObject *readers;    /* {key: reader}, for functions with a type */
	PyObject *failed;     /* called with (function, message, exception) */
	pthread_mutex_t lock; /* guards all below; never held while Python runs */
	struct taken_batch batch;
	size_t next;
	atomic_bool stopped;
	uint32_t generation;
};

/* --- the batch ----------------------------------------------------------------------------------------------------- */

/* Returns whether item i owns its letter. Items of one letter follow each other, and the first owns it. */
static bool
is_first(const struct taken_batch *batch, size_t i)
{
	return i == 0 || batch->items[i].letter != batch->items[i - 1].letter;
}

struct pick {
	unsigned long long key;
	struct letter *letter; /* ours if it is new */
	bool new;
};

static bool
pick(struct calls_object *self, struct pick *ret_pick)
{
	bool found;

	pthread_mutex_lock(&self->lock);
	found = self->next < self->batch.count;
	if (found) {
		ret_pick->key = self->batch.items[self->next].key;
		ret_pick->letter = self->batch.items[self->next].letter;
		ret_pick->new = is_first(&self->batch, self->next);
		self->next++;
	}
	pthread_mutex_unlock(&self->lock);
	return found;
}

/* Takes over a batch. BUS_E_CLOSED: it is stopped, and the caller keeps the batch. */
static int
put_down(struct calls_object *self, const struct taken_batch *batch)
{
	int err = BUS_E_CLOSED;

	pthread_mutex_lock(&self->lock);
	if (!self->stopped) {
		PyMem_RawFree(self->batch.items); /* all of them are picked */
		self->batch = *batch;
		self->next = 0;
		err = 0;
	}
	pthread_mutex_unlock(&self->lock);
	return err;
}

/* Frees the messages from item `next` on, and returns the number of those that a function still wants. */
static size_t
drop(struct calls_object *self, struct taken_batch *batch, size_t next)
{
	size_t wanted = 0;
	bool counted = false;

	for (size_t i = next; i < batch->count; i++) {
		PyObject *key = PyLong_FromUnsignedLongLong(batch->items[i].key);

		counted &= !is_first(batch, i);
		if (!counted && key != NULL && PyDict_Contains(self->functions, key) > 0) {
			counted = true;
			wanted++;
		}
		Py_XDECREF(key);
	}
	PyErr_Clear(); /* out of memory for the key: not counted */
	for (size_t i = batch->count; i-- > next;)
		if (is_first(batch, i))
			letter_free(batch->items[i].letter);
	PyMem_RawFree(batch->items);
	return wanted;
}

/* --- calling ---------------------------------------------------------------------------------------------------------- */

static PyObject *
raised(void)
{
#if PY_VERSION_HEX < 0x030c0000
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	if (value != NULL && traceback != NULL)
		PyException_SetTraceback(value, traceback);
	Py_XDECREF(type);
	Py_XDECREF(traceback);
	return value;
#else
	return PyErr_GetRaisedException();
#endif
}

/* Reports an exception of a function, SystemExit too: the other callbacks still get their messages. */
static void
tell(struct calls_object *self, PyObject *function, PyObject *msg)
{
	PyObject *error = raised(), *told;

	told = error == NULL
		   ? NULL
		   : PyObject_CallFunctionObjArgs(self->failed, function, msg, error, NULL);
	if (told == NULL)
		PyErr_WriteUnraisable(function);
	Py_XDECREF(told);
	Py_XDECREF(error);
}

/* Looks a key up: a new reference, or NULL. */
static PyObject *
look_up(PyObject *dict, PyObject *key)
{
	return Py_XNewRef(PyDict_GetItemWithError(dict, key));
}

/* Makes the message of the type that the function has: a new reference, or NULL with an exception. */
static PyObject *
message_for(struct calls_object *self, PyObject *key, PyObject *msg)
{
	PyObject *reader = NULL, *typed;

	if (PyDict_GET_SIZE(self->readers) > 0)
		reader = look_up(self->readers, key);
	if (reader == NULL)
		return PyErr_Occurred() ? NULL : Py_NewRef(msg);
	typed = message_as(msg, reader);
	Py_DECREF(reader);
	return typed;
}

static void
call(struct calls_object *self, PyObject *key, PyObject *msg)
{
	PyObject *function = look_up(self->functions, key), *given, *answer;

	if (function == NULL) {
		if (PyErr_Occurred())
			PyErr_WriteUnraisable((PyObject *)self);
		return; /* it has been removed */
	}
	given = message_for(self, key, msg);
	answer = given == NULL ? NULL : PyObject_CallOneArg(function, given);
	if (answer == NULL)
		tell(self, function, msg);
	Py_XDECREF(answer);
	Py_XDECREF(given);
	Py_DECREF(function);
}

static void
call_all(struct calls_object *self)
{
	PyObject *msg = NULL;
	struct pick p;

	while (pick(self, &p)) {
		PyObject *key = PyLong_FromUnsignedLongLong(p.key);

		if (p.new)
			Py_XSETREF(msg, message_new(self->core, p.letter, NULL));
		if (msg != NULL && key != NULL)
			call(self, key, msg);
		else
			PyErr_WriteUnraisable((PyObject *)self);
		Py_XDECREF(key);
	}
	Py_XDECREF(msg);
}

PyDoc_STRVAR(calls_run_doc,
    "run($self, mailbox, /)\n--\n\n"
    "Takes up to 64 waiting messages and calls the functions. One thread. Never waits.\n"
    "ClosedError: it was stopped, or the mailbox has ended.");

static PyObject *
calls_run(struct calls_object *self, PyObject *mailbox)
{
	struct taken_batch batch = {0};
	int err;

	if (!PyObject_TypeCheck(mailbox, (PyTypeObject *)self->core->mailbox)) {
		PyErr_Format(
		    PyExc_TypeError, "run() takes a Mailbox, not %s", Py_TYPE(mailbox)->tp_name);
		return NULL;
	}
	err =
	    self->stopped ? BUS_E_CLOSED : mailbox_take_batch(mailbox, MAILBOX_BATCH, true, &batch);
	if (err == 0 && put_down(self, &batch) < 0) {
		drop(self, &batch, 0);
		err = BUS_E_CLOSED;
	}
	if (err < 0)
		return error_raise(self->core, err, ABOUT_NAME, NULL);
	if (batch.out_of_memory) {
		PyErr_NoMemory();
		PyErr_WriteUnraisable((PyObject *)self);
	}
	call_all(self);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(calls_stop_doc,
    "stop($self, /)\n--\n\n"
    "Stops it: no further call begins. Returns the number of taken messages that some function did not get.\n"
    "Any thread; never waits.");

static PyObject *
calls_stop(struct calls_object *self, PyObject *unused)
{
	struct taken_batch batch;
	size_t next;

	(void)unused;
	if (self->generation != bus__fork_generation())
		return PyLong_FromLong(
		    0); /* the messages belong to the parent, and the lock may stay held for ever */
	pthread_mutex_lock(&self->lock);
	batch = self->batch;
	next = self->next;
	self->batch = (struct taken_batch){0};
	self->next = 0;
	self->stopped = true;
	pthread_mutex_unlock(&self->lock);
	return PyLong_FromSize_t(drop(self, &batch, next));
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static PyObject *
calls_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"functions", "readers", "failed", NULL};
	struct core *core = core_of_type(type);
	PyObject *functions, *readers, *failed;
	struct calls_object *self;

	if (core == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O:Calls", names,
				&PyDict_Type, &functions, &PyDict_Type, &readers, &failed))
		return NULL;
	self = (struct calls_object *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->core = core;
	self->functions = Py_NewRef(functions);
	self->readers = Py_NewRef(readers);
	self->failed = Py_NewRef(failed);
	self->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	self->generation = bus__fork_generation();
	return (PyObject *)self;
}

static int
calls_traverse(struct calls_object *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->functions);
	Py_VISIT(self->readers);
	Py_VISIT(self->failed);
	return 0;
}

static int
calls_clear(struct calls_object *self)
{
	Py_CLEAR(self->functions);
	Py_CLEAR(self->readers);
	Py_CLEAR(self->failed);
	return 0;
}

/* No thread is inside: run() and stop() hold a reference. */
static void
calls_dealloc(struct calls_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	for (size_t i = self->batch.count; i-- > self->next;)
		if (is_first(&self->batch, i))
			letter_free(self->batch.items[i].letter);
	PyMem_RawFree(self->batch.items);
	calls_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef calls_methods[] = {
    {"run", (PyCFunction)calls_run, METH_O, calls_run_doc},
    {"stop", (PyCFunction)calls_stop, METH_NOARGS, calls_stop_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot calls_slots[] = {
    {Py_tp_doc, "The callbacks of one bus."},
    {Py_tp_new, calls_new},
    {Py_tp_dealloc, calls_dealloc},
    {Py_tp_traverse, calls_traverse},
    {Py_tp_clear, calls_clear},
    {Py_tp_methods, calls_methods},
    {0, NULL},
};

PyType_Spec calls_spec = {
    .name = "libbus._core.Calls",
    .basicsize = sizeof(struct calls_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = calls_slots,
};
