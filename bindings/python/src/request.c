/* request.c: a request, until its first reply. Each has a separate mailbox: Ctrl-C ends the wait, an event loop watches the
 * descriptor, and replies to other requests cannot take its room. */
#include "core.h"

#include "base/clock.h"
#include "base/fork.h"

/* The longest delay of Ctrl-C. */
#define SLICE_MS 50

struct asking {
	struct letter *letter;
	bool out_of_memory, over;
};

/* Runs inside bus_dispatch() and never touches Python. */
static void
take_reply(void *arg, const struct bus_msg *reply)
{
	struct asking *asking = arg;

	if (reply == NULL) {
		asking->over = true;
	} else if (asking->letter == NULL) {
		asking->letter = letter_copy(reply);
		asking->out_of_memory = asking->letter == NULL;
	}
}

/* The reason why no reply will arrive. */
static int
over(int64_t deadline)
{
	return bus__left_ms(deadline) == 0 ? BUS_E_TIMEDOUT : BUS_E_NOBODY;
}

/* 0: the reply has arrived. BUS_E_*, or -1 with *ret_raised: a signal handler raised. */
static int
wait_for_reply(struct bus_mailbox *mbox, struct asking *asking, int64_t deadline, bool *ret_raised)
{
	while (asking->letter == NULL) {
		int got;

		Py_BEGIN_ALLOW_THREADS got = bus_dispatch(mbox, SLICE_MS, 0);
		Py_END_ALLOW_THREADS if (got < 0) return got;
		if (asking->out_of_memory)
			return BUS_E_NOMEM;
		if (asking->letter == NULL && asking->over)
			return over(deadline);
		*ret_raised = PyErr_CheckSignals() < 0;
		if (*ret_raised)
			return -1;
	}
	return 0;
}

PyObject *
request_wait(struct core *core, struct bus_mailbox *mbox, const struct bus_msg *question,
    int timeout_ms, PyObject *topic)
{
	int64_t deadline = bus__deadline_ns(timeout_ms);
	struct asking asking = {.letter = NULL};
	struct bus_request *req = NULL;
	bool raised = false;
	int err;

	TRY_THEN_RELEASE(
	    err, bus_request_start_msg(mbox, question, timeout_ms, take_reply, &asking, &req));
	if (err == 0)
		err = wait_for_reply(mbox, &asking, deadline, &raised);
	Py_BEGIN_ALLOW_THREADS bus_request_cancel(req);
	bus_mailbox_close(mbox);
	Py_END_ALLOW_THREADS if (err == 0 && !raised) return message_new(core, asking.letter, NULL);
	letter_free(asking.letter);
	return raised ? NULL : error_raise(core, err, ABOUT_TOPIC, topic);
}

/* --- Question: for event loops -------------------------------------------------------------------------------- */

struct question_object {
	PyObject_HEAD struct core *core;
	PyObject *topic;
	struct bus_mailbox *mbox; /* NULL: closed */
	struct bus_request *req;
	struct asking asking;
	int64_t deadline;
	uint32_t generation;
};

/* Only the caller owns the mailbox. A forked child leaves it to the parent. */
static void
question_end(struct question_object *self, struct bus_mailbox *mbox)
{
	if (mbox == NULL || self->generation != bus__fork_generation())
		return;
	Py_BEGIN_ALLOW_THREADS bus_request_cancel(self->req);
	bus_mailbox_close(mbox);
	Py_END_ALLOW_THREADS
}

PyObject *
request_start(struct core *core, struct bus_mailbox *mbox, const struct bus_msg *question,
    int timeout_ms, PyObject *topic)
{
	struct question_object *self =
	    (struct question_object *)core->question->tp_alloc(core->question, 0);
	int err;

	if (self == NULL) {
		bus_mailbox_close(mbox);
		return NULL;
	}
	self->core = core;
	self->topic = Py_NewRef(topic);
	self->mbox = mbox;
	self->deadline = bus__deadline_ns(timeout_ms);
	self->generation = bus__fork_generation();
	TRY_THEN_RELEASE(err, bus_request_start_msg(mbox, question, timeout_ms, take_reply,
				  &self->asking, &self->req));
	if (err == 0)
		return (PyObject *)self;
	error_raise(core, err, ABOUT_TOPIC, topic);
	Py_DECREF(self);
	return NULL;
}

/* 0 or BUS_E_*. */
static int
question_enter(struct question_object *self)
{
	return self->generation != bus__fork_generation() ? BUS_E_FORKED
	       : self->mbox == NULL                       ? BUS_E_CLOSED
							  : 0;
}

PyDoc_STRVAR(question_fileno_doc,
    "fileno($self, /)\n--\n\nReadable when take() has the reply or raises. Valid until close().");

static PyObject *
question_fileno(struct question_object *self, PyObject *unused)
{
	int fd;

	(void)unused;
	Py_BEGIN_CRITICAL_SECTION(self);
	fd = question_enter(self);
	if (fd == 0)
		fd = bus_mailbox_fd(self->mbox);
	Py_END_CRITICAL_SECTION();
	return fd < 0 ? error_raise(self->core, fd, ABOUT_TOPIC, self->topic) : PyLong_FromLong(fd);
}

/* Takes the reply. 1: a letter; 0: not yet; or BUS_E_*. */
static int
look(struct question_object *self)
{
	struct asking *asking = &self->asking;
	int got = question_enter(self);

	if (got == 0 && asking->letter == NULL)
		got = bus_dispatch(self->mbox, 0, 0);
	if (asking->letter != NULL)
		return 1;
	if (got < 0)
		return got;
	if (asking->out_of_memory)
		return BUS_E_NOMEM;
	return asking->over ? over(self->deadline) : 0;
}

PyDoc_STRVAR(question_take_doc,
    "take($self, /)\n--\n\n"
    "Returns the reply, a Message, once; None: it has not arrived yet. Raises as request() does. Never waits.");

static PyObject *
question_take(struct question_object *self, PyObject *unused)
{
	struct letter *letter = NULL;
	int got;

	(void)unused;
	Py_BEGIN_CRITICAL_SECTION(self);
	got = look(self);
	if (got > 0) {
		letter = self->asking.letter;
		self->asking.letter = NULL;
	}
	Py_END_CRITICAL_SECTION();
	if (got < 0)
		return error_raise(self->core, got, ABOUT_TOPIC, self->topic);
	return got > 0 ? message_new(self->core, letter, NULL) : Py_NewRef(Py_None);
}

PyDoc_STRVAR(
    question_close_doc, "close($self, /)\n--\n\nEnds the request. A later reply counts as late.");

static PyObject *
question_close(struct question_object *self, PyObject *unused)
{
	struct bus_mailbox *mbox;

	(void)unused;
	Py_BEGIN_CRITICAL_SECTION(self);
	mbox = self->mbox;
	self->mbox = NULL;
	Py_END_CRITICAL_SECTION();
	question_end(self, mbox);
	Py_RETURN_NONE;
}

static void
question_dealloc(struct question_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	question_end(self, self->mbox);
	letter_free(self->asking.letter);
	Py_XDECREF(self->topic);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef question_methods[] = {
    {"fileno", (PyCFunction)question_fileno, METH_NOARGS, question_fileno_doc},
    {"take", (PyCFunction)question_take, METH_NOARGS, question_take_doc},
    {"close", (PyCFunction)question_close, METH_NOARGS, question_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot question_slots[] = {
    {Py_tp_doc, "A pending request."},
    {Py_tp_dealloc, question_dealloc},
    {Py_tp_methods, question_methods},
    {0, NULL},
};

PyType_Spec question_spec = {
    .name = "libbus._core.Question",
    .basicsize = sizeof(struct question_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = question_slots,
};
