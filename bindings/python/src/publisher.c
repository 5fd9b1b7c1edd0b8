/* publisher.c: libbus._core.Publisher, a topic for many messages that may wait for room.
 *
 * A C handle belongs to one thread at a time. Each send takes one for itself: the spare one, or one opened for this call. So a send
 * that waits blocks no other send, no close() and no signal handler that sends. */
#include "core.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/fork.h"
#include "value/packer.h"

/* The longest delay of Ctrl-C and close(). */
#define SLICE_NS INT64_C(50000000)

/* send_many() packs this many values before it sends: they share the cost of one call, and an endless generator stays bounded. */
#define BATCH       32
#define BATCH_BYTES ((size_t)64 << 10)

struct publisher_object {
	PyObject_HEAD struct core *core;
	PyObject *bus;   /* a libbus._core.Bus; the reference keeps it open */
	PyObject *topic; /* str */
	PyObject *done;  /* returned by send(): an awaitable that is already done */
	_Atomic(struct bus_pub *) spare;
	_Atomic(struct bus_packer *) packer;
	atomic_bool closed;
	uint32_t generation;
	bool named;
	int wait_ms;
	bool plain;          /* its messages have no ttl, headers or flags */
	struct bus_msg form; /* what they have in common */
	struct extras extras;
};

/* --- handles ------------------------------------------------------------------------------------------------- */

static int
pub_open(struct publisher_object *self, struct bus_pub **ret_pub)
{
	/* Only the last try may count as refused: earlier ones are tries of a send that waits. */
	const struct bus_pub_config cfg = {
	    .size = sizeof cfg, .type = BUS_TYPE_MSGPACK, .wait_ms = -1};

	const char *topic = PyUnicode_AsUTF8(self->topic);
	int err;

	/* On a named bus a new topic's name is written to the log first, which may wait. */
	TRY_THEN_RELEASE(err, bus_object_pub(self->bus, topic, &cfg, ret_pub));
	return err;
}

static int
pub_take(struct publisher_object *self, struct bus_pub **ret_pub)
{
	if (self->generation != bus__fork_generation())
		return BUS_E_FORKED;
	if (atomic_load(&self->closed))
		return BUS_E_CLOSED;
	*ret_pub = atomic_exchange(&self->spare, NULL);
	return *ret_pub != NULL ? 0 : pub_open(self, ret_pub);
}

/* A close() may run at the same time. If it misses this handle, this thread ends it. */
static void
pub_give(struct publisher_object *self, struct bus_pub *pub)
{
	bus_pub_close(atomic_exchange(&self->spare, pub));
	if (atomic_load(&self->closed))
		bus_pub_close(atomic_exchange(&self->spare, NULL));
}

/* --- sending ------------------------------------------------------------------------------------------------- */

/* One call of send() or send_many(). */
struct sending {
	struct publisher_object *self;
	struct bus_pub *pub;
	const struct bus_slice
	    *parts; /* the two parts of the only item; NULL: the item is in one piece */
	size_t sent;
	int may_wait; /* -1: not asked yet */
	bool later;   /* an event loop waits instead: items without room are left to the caller */
	bool raised;
};

static struct bus_msg
msg_of(const struct publisher_object *self, const struct bus_slice *item)
{
	struct bus_msg msg = self->form;

	msg.data = item->data;
	msg.len = item->len;
	return msg;
}

static int
send_one(const struct sending *s, const struct bus_slice *item)
{
	if (!s->self->plain) {
		const struct bus_msg msg = msg_of(s->self, item);

		return bus_pub_send_msg(s->pub, &msg);
	}
	return s->parts != NULL ? bus_pub_send_parts(s->pub, s->parts, 2)
				: bus_pub_send(s->pub, item->data, item->len);
}

/* Sends as many items as there is room for. Returns their number, BUS__E_WAITS or BUS_E_*. */
static int
send_some(const struct sending *s, const struct bus_slice *items, size_t count)
{
	int err = 0;

	if (count == 1)
		return send_one(s, items);
	if (s->self->plain)
		return bus_pub_send_many(s->pub, items, count);
	for (size_t i = 0; i < count; i++) {
		err = send_one(s, &items[i]);
		if (err < 0)
			return i > 0 ? (int)i : err;
	}
	return (int)count;
}

static int
try_some(const struct sending *s, const struct bus_slice *items, size_t count)
{
	int got;

	if (s->self->named) {
		TRY_THEN_RELEASE(got, send_some(s, items, count));
	} else {
		bus__set_may_wait(false);
		got = send_some(s, items, count);
		bus__set_may_wait(true);
	}
	return got == 0 && count == 1 ? 1 : got;
}

/* Asks the Python method whether this call may wait, once before the first wait. None: wait later, in a task. */
static bool
may_wait(struct sending *s)
{
	PyObject *answer;

	if (s->may_wait >= 0)
		return s->may_wait > 0;
	answer =
	    PyObject_CallMethodNoArgs((PyObject *)s->self, s->self->core->names[NAME_may_wait]);
	s->later = answer == Py_None;
	s->may_wait = answer != NULL ? PyObject_IsTrue(answer) : -1;
	Py_XDECREF(answer);
	s->raised = s->may_wait < 0;
	return s->may_wait > 0;
}

/* The last try, whose failure counts as refused. 1 or BUS_E_*. */
static int
send_now(const struct sending *s, const struct bus_slice *item)
{
	const struct bus_msg msg = msg_of(s->self, item);
	int err = bus_object_publish(s->self->bus, &msg);

	return err < 0 ? err : 1;
}

/* Sends one within a slice. 1, 0: not yet, or BUS_E_*. */
static int
send_in_slice(const struct sending *s, const struct bus_slice *item, int64_t deadline)
{
	int64_t slice = bus__now_ns() + SLICE_NS;
	int err;

	Py_BEGIN_ALLOW_THREADS bus__set_wait_limit(slice < deadline ? slice : deadline);
	err = send_one(s, item);
	bus__set_wait_limit(INT64_MAX);
	Py_END_ALLOW_THREADS return err == BUS__E_WAITS ? 0 : err < 0 ? err : 1;
}

/* Sends all items; each may wait up to `wait`. 0, BUS_E_*, BUS__E_WAITS with s->later, or -1 with s->raised. */
static int
send_all(struct sending *s, const struct bus_slice *items, size_t count)
{
	int64_t deadline = 0; /* deadline of the item without room; 0: it has not waited yet */

	for (size_t sent = 0; sent < count;) {
		int got = try_some(s, items + sent, count - sent);
		bool waits = false;

		if (got == BUS__E_WAITS) {
			if (deadline == 0)
				deadline = bus__deadline_ns(s->self->wait_ms);
			waits = bus__left_ms(deadline) != 0 && may_wait(s);
		}
		if (s->raised)
			return -1;
		if (s->later)
			return BUS__E_WAITS;
		if (waits)
			got = send_in_slice(s, items + sent, deadline);
		else if (got == BUS__E_WAITS)
			got = send_now(s, items + sent);
		if (got < 0)
			return got;
		if (got > 0) {
			sent += (size_t)got;
			s->sent += (size_t)got;
			deadline = 0;
		}
		if (waits && PyErr_CheckSignals() < 0) {
			s->raised = true;
			return -1;
		}
		if (atomic_load(&s->self->closed) && sent < count)
			return BUS_E_CLOSED;
	}
	return 0;
}

static int
sending_begin(struct publisher_object *self, struct sending *s)
{
	int err;

	*s = (struct sending){.self = self, .may_wait = -1};
	err = pub_take(self, &s->pub);
	if (err < 0)
		error_raise(self->core, err, ABOUT_TOPIC, self->topic);
	return err;
}

/* 0, or -1 with an exception. */
static int
sending_end(struct sending *s, int err)
{
	if (err < 0 && !s->raised && !s->later)
		error_raise(s->self->core, err, ABOUT_TOPIC, s->self->topic);
	pub_give(s->self, s->pub);
	return err < 0 ? -1 : 0;
}

/* Makes the task that sends the rest: the Python method gets the packed values, the iterator of the others, and the number sent. */
static PyObject *
send_later(struct publisher_object *self, const struct bus_slice *items, size_t count,
    PyObject *values, size_t sent)
{
	PyObject *packed = PyList_New((Py_ssize_t)count), *number, *later;

	for (size_t i = 0; packed != NULL && i < count; i++) {
		PyObject *bytes =
		    PyBytes_FromStringAndSize(items[i].data, (Py_ssize_t)items[i].len);

		if (bytes == NULL)
			Py_CLEAR(packed);
		else
			PyList_SET_ITEM(packed, (Py_ssize_t)i, bytes);
	}
	if (packed == NULL)
		return NULL;
	number = PyLong_FromSize_t(sent);
	later = number != NULL
		    ? PyObject_CallMethodObjArgs((PyObject *)self, self->core->names[NAME_later],
			  packed, values != NULL ? values : Py_None, number, NULL)
		    : NULL;
	Py_XDECREF(number);
	Py_DECREF(packed);
	return later;
}

PyDoc_STRVAR(publisher_pack_doc, "_pack($self, value, /)\n--\n\nPacks a value into bytes.");

static PyObject *
publisher_pack(struct publisher_object *self, PyObject *value)
{
	struct bus_packer *packer = packer_take(&self->packer);
	struct bus_slice item;
	PyObject *bytes = NULL;

	if (packer == NULL)
		return NULL;
	if (value_pack(self->core, packer, value, self->topic, "value") == 0 &&
	    bus_packer_data(packer, &item.data, &item.len) == 0)
		bytes = PyBytes_FromStringAndSize(item.data, (Py_ssize_t)item.len);
	packer_give(&self->packer, packer);
	return bytes;
}

PyDoc_STRVAR(publisher_try_doc,
    "_try($self, packed, last, /)\n--\n\n"
    "Sends as many packed values as there is room for, and never waits. Returns their number; 0: no room, which\n"
    "raises FullError with `last`.");

static PyObject *
publisher_try(struct publisher_object *self, PyObject *args)
{
	struct bus_slice items[BATCH];
	PyObject *packed, *fast;
	size_t count = 0;
	struct sending s;
	int last, got;

	if (!PyArg_ParseTuple(args, "Op:_try", &packed, &last))
		return NULL;
	fast = PySequence_Fast(packed, "_try() takes a sequence of packed values");
	if (fast == NULL)
		return NULL;
	while (count < BATCH && count < (size_t)PySequence_Fast_GET_SIZE(fast)) {
		PyObject *bytes = PySequence_Fast_GET_ITEM(fast, (Py_ssize_t)count);
		char *data;
		Py_ssize_t len;

		if (PyBytes_AsStringAndSize(bytes, &data, &len) < 0)
			goto drop;
		items[count++] = (struct bus_slice){data, (size_t)len};
	}
	if (count == 0 || sending_begin(self, &s) < 0)
		goto drop;
	got = try_some(&s, items, count);
	if (got == BUS__E_WAITS)
		got = last ? send_now(&s, items) : 0;
	Py_DECREF(fast);
	return sending_end(&s, got) < 0 ? NULL : PyLong_FromLong(got);
drop:
	Py_DECREF(fast);
	if (!PyErr_Occurred())
		PyErr_SetString(PyExc_ValueError, "_try() takes at least one packed value");
	return NULL;
}

/* Tries to send a large item in two parts, whose head is in the packer. 1: sent; 0: no room, and the item is now in one piece, so that
 * it can wait; or BUS_E_*. */
static int
send_parts(
    struct sending *s, struct bus_packer *packer, const Py_buffer *body, struct bus_slice *item)
{
	const struct bus_slice parts[] = {*item, {body->buf, (size_t)body->len}};
	int got;

	s->parts = parts;
	got = try_some(s, item, 1);
	s->parts = NULL;
	if (got != BUS__E_WAITS)
		return got;
	bus__put_body(packer, body->buf, (size_t)body->len);
	return bus_packer_data(packer, &item->data, &item->len);
}

PyDoc_STRVAR(publisher_send_doc,
    "send($self, value, /)\n--\n\n"
    "Publishes a value on the topic, as bus.publish() does.\n"
    "\n"
    "In a running event loop `await publisher.send(value)` waits for room and leaves the loop to other tasks. A value with room\n"
    "is published when you call it, also without await.\n"
    "\n"
    "Raises:\n"
    "    FullError: A subscription with full=\"refuse\" had no room for `wait` seconds; no subscription got the value. In a\n"
    "        callback it does not wait.\n"
    "    TypeError: The value cannot be published.\n"
    "    TooBigError: The payload is too large.\n"
    "    ClosedError: The publisher or its bus is closed.\n"
    "\n"
    "Threads: any. Blocks: up to `wait` seconds, without the GIL; Ctrl-C ends it.");

static PyObject *
publisher_send(struct publisher_object *self, PyObject *value)
{
	struct bus_packer *packer = packer_take(&self->packer);
	Py_buffer body = {.obj = NULL};
	PyObject *answer = NULL;
	struct bus_slice item;
	struct sending s;
	int done;

	if (packer == NULL)
		return NULL;
	done = self->plain ? value_pack_parts(self->core, packer, value, self->topic, &body)
			   : value_pack(self->core, packer, value, self->topic, "value");
	if (done == 0 && bus_packer_data(packer, &item.data, &item.len) == 0 &&
	    sending_begin(self, &s) == 0) {
		if (body.obj != NULL)
			done = send_parts(&s, packer, &body, &item);
		if (done == 0)
			done = send_all(&s, &item, 1);
		if (sending_end(&s, done) == 0)
			answer = Py_NewRef(self->done);
		else if (s.later)
			answer = send_later(self, &item, 1, NULL, 0);
	}
	PyBuffer_Release(&body);
	packer_give(&self->packer, packer);
	return answer;
}

/* --- send_many ------------------------------------------------------------------------------------------------ */

struct batch {
	char *bytes;
	size_t len, cap, count;
	size_t ends[BATCH];
};

/* Appends the bytes of a value. 0, or -1 with an exception. */
static int
batch_add(struct publisher_object *self, struct batch *batch, PyObject *value)
{
	struct bus_packer *packer = packer_take(&self->packer);
	const void *data;
	size_t len;
	int done = -1;

	if (packer == NULL)
		return -1;
	if (value_pack(self->core, packer, value, self->topic, "value") < 0 ||
	    bus_packer_data(packer, &data, &len) < 0)
		goto give;
	if (batch->cap - batch->len < len) {
		size_t cap = batch->len + len + BATCH_BYTES;
		char *bytes = PyMem_RawRealloc(batch->bytes, cap);

		if (bytes == NULL) {
			PyErr_NoMemory();
			goto give;
		}
		batch->bytes = bytes;
		batch->cap = cap;
	}
	memcpy(batch->bytes + batch->len, data, len);
	batch->len += len;
	batch->ends[batch->count++] = batch->len;
	done = 0;
give:
	packer_give(&self->packer, packer);
	return done;
}

/* Packs the next values. 1: there may be more; 0: there are no more; -1 with an exception, raised after the packed values are sent. */
static int
batch_fill(struct publisher_object *self, struct batch *batch, PyObject *values)
{
	batch->len = batch->count = 0;
	while (batch->count < BATCH && batch->len < BATCH_BYTES) {
		PyObject *value = PyIter_Next(values);
		int done;

		if (value == NULL)
			return PyErr_Occurred() ? -1 : 0;
		done = batch_add(self, batch, value);
		Py_DECREF(value);
		if (done < 0)
			return -1;
	}
	return 1;
}

static void
batch_items(const struct batch *batch, struct bus_slice items[BATCH])
{
	size_t begin = 0;

	for (size_t i = 0; i < batch->count; i++) {
		items[i] = (struct bus_slice){batch->bytes + begin, batch->ends[i] - begin};
		begin = batch->ends[i];
	}
}

/* Sets `sent` of the current exception. */
static void
note_sent(size_t sent)
{
	PyObject *type, *error, *trace, *number;

	PyErr_Fetch(&type, &error, &trace);
	PyErr_NormalizeException(&type, &error, &trace);
	number = PyLong_FromSize_t(sent);
	if (number == NULL || error == NULL || PyObject_SetAttrString(error, "sent", number) < 0)
		PyErr_Clear();
	Py_XDECREF(number);
	PyErr_Restore(type, error, trace);
}

/* 0; -1 with an exception; -1 with *ret_later, the task that sends the rest. */
static int
send_values(
    struct publisher_object *self, PyObject *values, struct sending *s, PyObject **ret_later)
{
	struct batch batch = {.bytes = NULL};
	int more;

	do {
		struct bus_slice items[BATCH];
		PyObject *type, *error, *trace;
		size_t before = s->sent, sent;
		int err;

		more = batch_fill(self, &batch, values);
		PyErr_Fetch(&type, &error, &trace);
		batch_items(&batch, items);
		err = send_all(s, items, batch.count);
		sent = s->sent - before;
		if (err < 0 && s->later) {
			/* An exception of the iterable is raised after the values before it are sent. */
			PyErr_NormalizeException(&type, &error, &trace);
			*ret_later = send_later(self, items + sent, batch.count - sent,
			    error != NULL ? error : values, s->sent);
		}
		if (err < 0) {
			Py_XDECREF(type);
			Py_XDECREF(error);
			Py_XDECREF(trace);
			if (!s->raised && !s->later)
				error_raise(self->core, err, ABOUT_TOPIC, self->topic);
			more = -1;
		} else {
			PyErr_Restore(type, error, trace);
		}
	} while (more > 0);
	PyMem_RawFree(batch.bytes);
	return more;
}

PyDoc_STRVAR(publisher_send_many_doc,
    "send_many($self, values, /)\n--\n\n"
    "Publishes each value of an iterable, in order. Cheaper than one send() for each value.\n"
    "\n"
    "Waits for room as send() does. An exception, also one of the iterable, ends it; the exception's `sent` is the number of\n"
    "published values. In a running event loop await the call.\n"
    "\n"
    "Returns:\n"
    "    The number of values.\n"
    "\n"
    "Threads: any. Blocks: up to `wait` seconds for each value, without the GIL; Ctrl-C ends it.");

static PyObject *
publisher_send_many(struct publisher_object *self, PyObject *values)
{
	PyObject *iterator, *later = NULL;
	struct sending s;
	int done;

	if (PyUnicode_Check(values) || PyBytes_Check(values) || PyDict_Check(values)) {
		PyErr_Format(PyExc_TypeError,
		    "%U: send_many() takes a list or another iterable of values, not one %s: use send()",
		    self->topic, Py_TYPE(values)->tp_name);
		return NULL;
	}
	iterator = PyObject_GetIter(values);
	if (iterator == NULL)
		return NULL;
	if (sending_begin(self, &s) < 0) {
		Py_DECREF(iterator);
		return NULL;
	}
	done = send_values(self, iterator, &s, &later);
	if (done < 0 && later == NULL && !s.later) /* the task that sends the rest sets it itself */
		note_sent(s.sent);
	Py_DECREF(iterator);
	pub_give(self, s.pub);
	return done < 0 ? later : PyLong_FromSize_t(s.sent);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static PyObject *
publisher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"bus", "topic", "wait", "retain", "ttl", "headers", NULL};
	struct core *core = core_of_type(type);
	struct extras extras = {.ttl = Py_None, .headers = Py_None};
	PyObject *bus, *topic, *wait = NULL;
	struct publisher_object *self;
	struct bus_pub *pub = NULL;
	int err, wait_ms = 0;

	if (core == NULL ||
	    !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|$OpOO:Publisher", names, core->bus,
		&bus, &topic, &wait, &extras.retain, &extras.ttl, &extras.headers) ||
	    (wait != NULL && seconds_ms(wait, "wait", &wait_ms) < 0) ||
	    text_of(core, topic, ABOUT_TOPIC) == NULL)
		return NULL;
	if (wait_ms != 0 && bus_object_is_named(bus))
		return error_raise_because(core, BUS_E_NOTSUP, ABOUT_TOPIC, topic,
		    "wait= is for a private bus: on a named bus no reader may block a writer, so there is "
		    "nothing to wait for; readers that fall behind see msg.lost");
	self = (struct publisher_object *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->core = core;
	self->bus = Py_NewRef(bus);
	self->topic = Py_NewRef(topic);
	self->done = PyObject_GetAttr((PyObject *)type, core->names[NAME_done]);
	if (self->done == NULL) {
		Py_DECREF(self);
		return NULL;
	}
	self->generation = bus__fork_generation();
	self->named = bus_object_is_named(bus);
	self->wait_ms = wait_ms;
	self->plain = !has_extras(&extras);
	self->form = (struct bus_msg){
	    .size = sizeof self->form, .topic = PyUnicode_AsUTF8(topic), .type = BUS_TYPE_MSGPACK};
	self->extras = extras;
	if (extras_begin(core, &self->extras, topic, &self->form) < 0) {
		Py_DECREF(self);
		return NULL;
	}
	self->extras.ttl = self->extras.headers = NULL; /* the caller's */
	err = pub_open(self, &pub);
	if (err < 0) {
		error_raise(core, err, ABOUT_TOPIC, topic);
		Py_DECREF(self);
		return NULL;
	}
	atomic_store(&self->spare, pub);
	return (PyObject *)self;
}

PyDoc_STRVAR(publisher_close_doc,
    "close($self, /)\n--\n\n"
    "Ends the publisher. A send() that waits on another thread raises ClosedError.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
publisher_close(struct publisher_object *self, PyObject *unused)
{
	(void)unused;
	if (self->generation == bus__fork_generation()) {
		atomic_store(&self->closed, true);
		bus_pub_close(atomic_exchange(&self->spare, NULL));
	}
	Py_RETURN_NONE;
}

static PyObject *
publisher_closed(struct publisher_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(
	    atomic_load(&self->closed) || self->generation != bus__fork_generation());
}

static PyObject *
publisher_topic(struct publisher_object *self, void *unused)
{
	(void)unused;
	return Py_NewRef(self->topic);
}

/* A subclass checks for event loops. */
static PyObject *
publisher_may_wait(struct publisher_object *self, PyObject *unused)
{
	(void)self;
	(void)unused;
	Py_RETURN_TRUE;
}

static int
publisher_traverse(struct publisher_object *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->bus);
	return 0;
}

/* No tp_clear: only an attribute of the bus leads back here, and clearing that ends the cycle. */
static void
publisher_dealloc(struct publisher_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	bus_pub_close(atomic_load(&self->spare));
	bus_packer_free(atomic_load(&self->packer));
	extras_end(&self->extras);
	Py_XDECREF(self->topic);
	Py_XDECREF(self->done);
	Py_XDECREF(self->bus);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyGetSetDef publisher_getset[] = {
    {"topic", (getter)publisher_topic, NULL, "The topic it publishes on.", NULL},
    {"closed", (getter)publisher_closed, NULL, "True after close(), and in a forked child.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef publisher_methods[] = {
    {"send", (PyCFunction)publisher_send, METH_O, publisher_send_doc},
    {"send_many", (PyCFunction)publisher_send_many, METH_O, publisher_send_many_doc},
    {"_pack", (PyCFunction)publisher_pack, METH_O, publisher_pack_doc},
    {"_try", (PyCFunction)publisher_try, METH_VARARGS, publisher_try_doc},
    {"_may_wait", (PyCFunction)publisher_may_wait, METH_NOARGS, NULL},
    {"close", (PyCFunction)publisher_close, METH_NOARGS, publisher_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot publisher_slots[] = {
    {Py_tp_doc, "The base of libbus.Publisher."},
    {Py_tp_new, publisher_new},
    {Py_tp_dealloc, publisher_dealloc},
    {Py_tp_traverse, publisher_traverse},
    {Py_tp_getset, publisher_getset},
    {Py_tp_methods, publisher_methods},
    {0, NULL},
};

PyType_Spec publisher_spec = {
    .name = "libbus._core.Publisher",
    .basicsize = sizeof(struct publisher_object),
    .flags =
	Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = publisher_slots,
};
