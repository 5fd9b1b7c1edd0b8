/* message.c: libbus.Message, a copy of a message with lazy attributes. */
#include "core.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "value/ext.h"

const char *const type_names[] = {
    [BUS_TYPE_UNTAGGED] = "untagged",
    [BUS_TYPE_MSGPACK] = "msgpack",
    [BUS_TYPE_BYTES] = "bytes",
    [BUS_TYPE_JSON] = "json",
    [BUS_TYPE_TEXT] = "text",
    NULL,
};

/* A payload of this size is copied once, into the bytes object of msg.data. A smaller one stays in the letter: no second allocation. */
#define LARGE 4096

struct letter {
	_Atomic unsigned refs;
	struct bus_msg msg; /* topic, data and headers point into `bytes` */
	PyObject *payload;  /* or data into these */
	size_t topic_len;
	char bytes[];
};

struct message_object {
	PyObject_HEAD struct core *core;
	struct letter *letter;
	PyObject *reader; /* makes the value of the message; NULL: it is what was packed */
	PyObject *topic, *data, *value, *headers; /* NULL until asked for */
};

/* A message that may not have arrived yet: until then its letter has only the topic. */
struct reply_object {
	struct message_object message;
	bool answered;
};

/* payload: a bytes object with the payload, taken over, also on failure; NULL: the letter holds the payload. */
static struct letter *
letter_make(const struct bus_msg *msg, PyObject *payload)
{
	size_t topic_len = strlen(msg->topic), len = payload == NULL ? msg->len : 0;
	size_t before = offsetof(struct letter, bytes) + topic_len + 1;
	size_t pad = (BUS__NUMBERS_ALIGNMENT - before % BUS__NUMBERS_ALIGNMENT) %
		     BUS__NUMBERS_ALIGNMENT; /* arrays are aligned as the payload is */
	struct letter *letter = PyMem_RawMalloc(before + pad + len + msg->headers_len);
	char *data, *headers;

	if (letter == NULL) {
		Py_XDECREF(payload);
		return NULL;
	}
	atomic_init(&letter->refs, 1);
	letter->msg = *msg;
	letter->payload = payload;
	letter->topic_len = topic_len;
	memcpy(letter->bytes, msg->topic, topic_len + 1);
	letter->msg.topic = letter->bytes;
	letter->msg.data = data = letter->bytes + topic_len + 1 + pad;
	if (len > 0)
		memcpy(data, msg->data, len);
	letter->msg.headers = headers = data + len;
	if (msg->headers_len > 0)
		memcpy(headers, msg->headers, msg->headers_len);
	if (payload != NULL)
		letter->msg.data = PyBytes_AS_STRING(payload);
	return letter;
}

struct letter *
letter_copy(const struct bus_msg *msg)
{
	return letter_make(msg, NULL);
}

struct letter *
letter_copy_with_gil(const struct bus_msg *msg)
{
	PyObject *payload;

	/* Arrays are aligned as the payload is. */
	if (msg->len < LARGE || offsetof(PyBytesObject, ob_sval) % BUS__NUMBERS_ALIGNMENT != 0)
		return letter_copy(msg);
	payload = PyBytes_FromStringAndSize(msg->data, (Py_ssize_t)msg->len);
	if (payload != NULL)
		return letter_make(msg, payload);
	PyErr_Clear();
	return NULL;
}

void
letter_free(struct letter *letter)
{
	if (letter == NULL || atomic_fetch_sub_explicit(&letter->refs, 1, memory_order_acq_rel) > 1)
		return;
	Py_XDECREF(letter->payload);
	PyMem_RawFree(letter);
}

struct letter *
letter_share(struct letter *letter)
{
	atomic_fetch_add_explicit(&letter->refs, 1, memory_order_relaxed);
	return letter;
}

const char *
letter_topic(const struct letter *letter)
{
	return letter->bytes;
}

const struct bus_msg *
message_msg(PyObject *message)
{
	return &((struct message_object *)message)->letter->msg;
}

/* The collector tracks it only once it holds a value or a reader: only these can form a cycle. */
PyObject *
message_new(struct core *core, struct letter *letter, PyObject *reader)
{
	struct message_object *self = PyObject_GC_New(struct message_object, core->message);

	if (self == NULL) {
		letter_free(letter);
		return NULL;
	}
	self->core = core;
	self->letter = letter;
	self->reader = Py_XNewRef(reader);
	self->topic = self->data = self->value = self->headers = NULL;
	if (reader != NULL)
		PyObject_GC_Track(self);
	return (PyObject *)self;
}

/* --- lazy attributes -------------------------------------------------------------------------------------- */

static PyObject *
make_topic(struct message_object *self)
{
	return PyUnicode_DecodeUTF8(
	    self->letter->bytes, (Py_ssize_t)self->letter->topic_len, "replace");
}

static PyObject *
make_data(struct message_object *self)
{
	if (self->letter->payload != NULL)
		return Py_NewRef(self->letter->payload);
	return PyBytes_FromStringAndSize(self->letter->msg.data, (Py_ssize_t)self->letter->msg.len);
}

/* Calls make() once and keeps its result. A garbage collection inside make() may have filled the slot first. */
static PyObject *
once(struct message_object *self, PyObject **slot, PyObject *(*make)(struct message_object *self))
{
	PyObject *answer;

	Py_BEGIN_CRITICAL_SECTION(self);
	answer = Py_XNewRef(*slot);
	if (answer == NULL) {
		answer = make(self);
		if (*slot == NULL)
			*slot = Py_XNewRef(answer);
		else
			Py_XSETREF(answer, Py_NewRef(*slot));
	}
	Py_END_CRITICAL_SECTION();
	return answer;
}

static PyObject *
message_topic(struct message_object *self, void *unused)
{
	(void)unused;
	return once(self, &self->topic, make_topic);
}

static PyObject *
message_data(struct message_object *self, void *unused)
{
	(void)unused;
	return once(self, &self->data, make_data);
}

static int
read_tree(struct message_object *self, PyObject *topic, const struct bus_value **ret_tree)
{
	const struct bus_msg *msg = &self->letter->msg;
	int err = bus_value_read(msg->type, msg->data, msg->len, ret_tree);

	if (err < 0)
		error_raise(self->core, err, ABOUT_TOPIC, topic);
	return err;
}

/* A container may lead back to the message. */
static PyObject *
watched(struct message_object *self, PyObject *value)
{
	if (value != NULL && PyObject_IS_GC(value) && !PyObject_GC_IsTracked((PyObject *)self))
		PyObject_GC_Track(self);
	return value;
}

static PyObject *
value_of_others(struct message_object *self)
{
	PyObject *topic = message_topic(self, NULL), *value = NULL;
	const struct bus_value *tree = NULL;

	if (topic != NULL && read_tree(self, topic, &tree) == 0)
		value = value_of_tree(self->core, tree, topic);
	bus_value_free(tree);
	Py_XDECREF(topic);
	return value;
}

/* Only an error needs the topic. */
static PyObject *
value_of_msgpack(struct message_object *self, const void *data, size_t len)
{
	const struct owner owner = {.letter = self->letter};
	PyObject *value = value_try(self->core, data, len, &owner), *topic;

	if (value != NULL || PyErr_Occurred())
		return value;
	topic = message_topic(self, NULL);
	if (topic != NULL)
		value_refuse(self->core, data, len, topic);
	Py_XDECREF(topic);
	return NULL;
}

static PyObject *
plain_value(struct message_object *self)
{
	const struct bus_msg *msg = &self->letter->msg;

	return msg->type == BUS_TYPE_MSGPACK ? value_of_msgpack(self, msg->data, msg->len)
					     : value_of_others(self);
}

static PyObject *
make_value(struct message_object *self)
{
	return watched(self, self->reader != NULL
				 ? PyObject_CallOneArg(self->reader, (PyObject *)self)
				 : plain_value(self));
}

static PyObject *
message_plain(struct message_object *self, PyObject *unused)
{
	(void)unused;
	return plain_value(self);
}

PyObject *
message_as(PyObject *message, PyObject *reader)
{
	struct message_object *self = (struct message_object *)message;

	return message_new(self->core, letter_share(self->letter), reader);
}

static PyObject *
make_headers(struct message_object *self)
{
	const struct bus_msg *msg = &self->letter->msg;
	PyObject *topic, *headers;

	if (msg->headers_len == 0)
		return watched(self, PyDict_New());
	headers = value_of_msgpack(self, msg->headers, msg->headers_len);
	if (headers == NULL || PyDict_Check(headers))
		return watched(self, headers);
	Py_DECREF(headers);
	topic = message_topic(self, NULL);
	if (topic != NULL)
		error_raise(self->core, BUS_E_DECODE, ABOUT_TOPIC, topic);
	Py_XDECREF(topic);
	return NULL;
}

static PyObject *
message_value(struct message_object *self, void *unused)
{
	(void)unused;
	return once(self, &self->value, make_value);
}

static PyObject *
message_headers(struct message_object *self, void *unused)
{
	(void)unused;
	return once(self, &self->headers, make_headers);
}

PyDoc_STRVAR(message_json_doc,
    "json($self, /)\n--\n\n"
    "Returns the value as JSON text on one line, for pages and logs.\n"
    "\n"
    "bytes become {\"$bytes\": base64}; numbers that JSON lacks become null; docs/payloads.md has all types.\n"
    "\n"
    "Raises:\n"
    "    DecodeError: The payload does not match its type.");

static PyObject *
message_json(struct message_object *self, PyObject *unused)
{
	const struct bus_msg *msg = &self->letter->msg;
	PyObject *text = NULL, *topic;
	char *json;
	size_t len;
	int err = bus_payload_json(msg->type, msg->data, msg->len, &json, &len);

	(void)unused;
	if (err == 0) {
		text = PyUnicode_DecodeUTF8(json, (Py_ssize_t)len, NULL);
		free(json);
		return text;
	}
	topic = message_topic(self, NULL);
	if (topic != NULL)
		error_raise(self->core, err, ABOUT_TOPIC, topic);
	Py_XDECREF(topic);
	return NULL;
}

/* --- its memory ------------------------------------------------------------------------------------------- */

/* numpy.asarray(msg): an array in place, or the bytes of a payload of type bytes. */
static int
message_getbuffer(struct message_object *self, Py_buffer *view, int flags)
{
	const struct bus_msg *msg = &self->letter->msg;
	struct bus_numbers numbers = {.data = msg->data,
	    .len = msg->len,
	    .kind = 'u',
	    .item_bytes = 1,
	    .dimensions = 1,
	    .shape = {(uint32_t)msg->len}};

	view->obj = NULL;
	if (msg->type != BUS_TYPE_BYTES &&
	    (msg->type != BUS_TYPE_MSGPACK || !numbers_are_all(msg->data, msg->len, &numbers))) {
		PyErr_Format(PyExc_BufferError,
		    "%s: the payload is not an array: use msg.value, or msg.data for its bytes",
		    letter_topic(self->letter));
		return -1;
	}
	return numbers_export(&numbers, (PyObject *)self, view, flags);
}

static void
message_releasebuffer(struct message_object *self, Py_buffer *view)
{
	(void)self;
	numbers_release(view);
}

/* --- plain attributes -------------------------------------------------------------------------------------- */

static PyObject *
message_encoding(struct message_object *self, void *unused)
{
	int type = self->letter->msg.type;

	(void)unused;
	if (type >= 0 && type <= BUS_TYPE_TEXT)
		return PyUnicode_FromString(type_names[type]);
	return PyUnicode_FromFormat("%d", type); /* a type of a newer libbus */
}

static PyObject *
message_lost(struct message_object *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(self->letter->msg.lost);
}

static PyObject *
message_lost_unknown(struct message_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong((self->letter->msg.flags & BUS_MSG_LOST_AT_LEAST) != 0);
}

static PyObject *
message_kept(struct message_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong((self->letter->msg.flags & BUS_MSG_KEPT) != 0);
}

static PyObject *
message_time(struct message_object *self, void *unused)
{
	(void)unused;
	if (self->letter->msg.time_ns == 0)
		Py_RETURN_NONE;
	return PyFloat_FromDouble((double)self->letter->msg.time_ns / 1e9);
}

static PyObject *
message_position(struct message_object *self, void *unused)
{
	(void)unused;
	if (self->letter->msg.position == 0)
		Py_RETURN_NONE;
	return PyLong_FromUnsignedLongLong(self->letter->msg.position);
}

static PyObject *
message_ttl(struct message_object *self, void *unused)
{
	(void)unused;
	if (self->letter->msg.ttl_ms == 0)
		Py_RETURN_NONE;
	return PyFloat_FromDouble(self->letter->msg.ttl_ms / 1e3);
}

static PyObject *
message_question(struct message_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(self->letter->msg.reply_to != 0);
}

/* repr() decodes payloads up to this size, and shows at most this many characters. */
enum { REPR_BYTES = 1024, REPR_MOST = 60 };

/* The value as packed, or the bytes if they do not match their type. Does not call the reader, which may do anything. */
static PyObject *
repr_of_value(struct message_object *self)
{
	PyObject *value = plain_value(self), *repr, *head;

	if (value == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
		PyErr_Clear();
		value = message_data(self, NULL);
	}
	repr = value != NULL ? PyObject_Repr(value) : NULL;
	Py_XDECREF(value);
	if (repr == NULL || PyUnicode_GET_LENGTH(repr) <= REPR_MOST)
		return repr;
	head = PyUnicode_Substring(repr, 0, REPR_MOST);
	Py_DECREF(repr);
	if (head == NULL)
		return NULL;
	repr = PyUnicode_FromFormat("%U%s", head, "…");
	Py_DECREF(head);
	return repr;
}

static PyObject *
message_repr(struct message_object *self)
{
	size_t len = self->letter->msg.len;
	PyObject *topic = message_topic(self, NULL), *type = message_encoding(self, NULL);
	PyObject *value = NULL, *repr = NULL;

	if (topic != NULL && type != NULL && len <= REPR_BYTES)
		value = repr_of_value(self);
	if (value != NULL)
		repr = PyUnicode_FromFormat(
		    "<libbus.Message %R %U, %zu bytes: %U>", topic, type, len, value);
	else if (topic != NULL && type != NULL && len > REPR_BYTES)
		repr = PyUnicode_FromFormat("<libbus.Message %R %U, %zu bytes>", topic, type, len);
	Py_XDECREF(value);
	Py_XDECREF(type);
	Py_XDECREF(topic);
	return repr;
}

/* --- life ---------------------------------------------------------------------------------------------------- */

static int
message_traverse(struct message_object *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->reader);
	Py_VISIT(self->value);
	Py_VISIT(self->headers);
	return 0;
}

static int
message_clear(struct message_object *self)
{
	Py_CLEAR(self->value);
	Py_CLEAR(self->headers);
	return 0;
}

static void
message_dealloc(struct message_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	Py_XDECREF(self->headers);
	Py_XDECREF(self->reader);
	Py_XDECREF(self->value);
	Py_XDECREF(self->data);
	Py_XDECREF(self->topic);
	letter_free(self->letter);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyGetSetDef message_getset[] = {
    {"topic", (getter)message_topic, NULL, "The topic of the message.", NULL},
    {"data", (getter)message_data, NULL, "The payload, as bytes.", NULL},
    {"value", (getter)message_value, NULL,
	"The value of the payload, decoded at the first use.\n"
	"Untagged bytes: JSON, else text, else bytes. With type=, an object of that type.\n"
	"DecodeError: the payload does not match its type.",
	NULL},
    {"headers", (getter)message_headers, NULL,
	"The dict of headers that its publisher sent; empty: none. DecodeError: the headers are not a dict.",
	NULL},
    {"encoding", (getter)message_encoding, NULL,
	"The type of the payload: untagged, msgpack, bytes, json or text.", NULL},
    {"lost", (getter)message_lost, NULL,
	"The number of messages lost by this subscription right before this one.", NULL},
    {"lost_unknown", (getter)message_lost_unknown, NULL,
	"True: `lost` is a lower bound, since the peer of a link restarted.", NULL},
    {"kept", (getter)message_kept, NULL, "True: the topic's kept value, not a new event.", NULL},
    {"time", (getter)message_time, NULL,
	"The time of publication, in seconds since 1970: on a named bus, and for a retained value.\n"
	"None: unknown.",
	NULL},
    {"position", (getter)message_position, NULL,
	"Its position in the log of a named bus, for libbus.after(); None: it has none.", NULL},
    {"ttl", (getter)message_ttl, NULL,
	"The seconds of its ttl that were left when it was received; None: no limit.", NULL},
    {"question", (getter)message_question, NULL,
	"True: the sender waits for a reply; send it with bus.reply().", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef message_methods[] = {
    {"json", (PyCFunction)message_json, METH_NOARGS, message_json_doc},
    {"_plain", (PyCFunction)message_plain, METH_NOARGS, NULL},
    {"_as", (PyCFunction)message_as, METH_O, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot message_slots[] = {
    {Py_tp_doc,
	"A message that arrived.\n\nIts fields are read-only. numpy.asarray(msg) and memoryview(msg) read the payload in place, without a copy."},
    {Py_tp_dealloc, message_dealloc},
    {Py_tp_traverse, message_traverse},
    {Py_tp_clear, message_clear},
    {Py_tp_repr, message_repr},
    {Py_tp_getset, message_getset},
    {Py_tp_methods, message_methods},
    {Py_bf_getbuffer, message_getbuffer},
    {Py_bf_releasebuffer, message_releasebuffer},
    {0, NULL},
};

PyType_Spec message_spec = {
    .name = "libbus.Message",
    .basicsize = sizeof(struct message_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
	     Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = message_slots,
};

/* --- Reply: an awaitable message ------------------------------------------------------------------------------ */

static PyObject *
reply_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"topic", NULL};
	struct core *core = core_of_type(type);
	struct bus_msg msg = {.size = sizeof msg, .data = "", .headers = ""};
	struct reply_object *self;
	PyObject *topic;

	if (core == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:Reply", names, &topic))
		return NULL;
	msg.topic = text_of(core, topic, ABOUT_TOPIC);
	if (msg.topic == NULL)
		return NULL;
	self = (struct reply_object *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->message.core = core;
	self->message.letter = letter_copy(&msg);
	if (self->message.letter == NULL) {
		Py_DECREF(self);
		return PyErr_NoMemory();
	}
	return (PyObject *)self;
}

/* Returns 1 if the attribute is one of Message's, which a Reply has only once the reply has arrived, else 0; -1 with an exception. */
static int
is_of_message(struct reply_object *self, PyObject *name)
{
	if (PyUnicode_GET_LENGTH(name) > 0 && PyUnicode_READ_CHAR(name, 0) == '_')
		return 0;
	return PyDict_Contains(self->message.core->message->tp_dict, name);
}

static PyObject *
reply_attribute(struct reply_object *self, PyObject *name)
{
	PyObject *topic;
	int early = self->answered ? 0 : is_of_message(self, name);

	if (early == 0)
		return PyObject_GenericGetAttr((PyObject *)self, name);
	topic = early > 0 ? message_topic(&self->message, NULL) : NULL;
	if (topic != NULL)
		error_raise_because(self->message.core, BUS_E_STATE, ABOUT_TOPIC, topic,
		    "the reply has not arrived yet: in a running event loop write `await bus.request(...)`");
	Py_XDECREF(topic);
	return NULL;
}

/* A Reply has no buffer before the reply arrives. */
static int
reply_getbuffer(struct reply_object *self, Py_buffer *view, int flags)
{
	if (self->answered)
		return message_getbuffer(&self->message, view, flags);
	view->obj = NULL;
	PyErr_SetString(PyExc_BufferError,
	    "the reply has not arrived yet: in a running event loop write `await bus.request(...)`");
	return -1;
}

static PyObject *
reply_repr(struct reply_object *self)
{
	PyObject *topic, *repr;

	if (self->answered)
		return message_repr(&self->message);
	topic = message_topic(&self->message, NULL);
	repr =
	    topic != NULL ? PyUnicode_FromFormat("<libbus.Reply %R, to be awaited>", topic) : NULL;
	Py_XDECREF(topic);
	return repr;
}

PyDoc_STRVAR(
    reply_fill_doc, "_fill($self, message, /)\n--\n\nSets the message that arrived, once.");

static PyObject *
reply_fill(struct reply_object *self, PyObject *message)
{
	if (!PyObject_TypeCheck(message, self->message.core->message)) {
		PyErr_SetString(PyExc_TypeError, "_fill() takes a Message");
		return NULL;
	}
	Py_BEGIN_CRITICAL_SECTION(self);
	if (!self->answered) {
		letter_free(self->message.letter);
		self->message.letter = letter_share(((struct message_object *)message)->letter);
		Py_CLEAR(self->message.topic);
		self->answered = true;
	}
	Py_END_CRITICAL_SECTION();
	Py_RETURN_NONE;
}

static PyObject *
reply_answered(struct reply_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(self->answered);
}

static PyGetSetDef reply_getset[] = {
    {"answered", (getter)reply_answered, NULL,
	"True: the reply has arrived. False: await it first.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef reply_methods[] = {
    {"_fill", (PyCFunction)reply_fill, METH_O, reply_fill_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reply_slots[] = {
    {Py_tp_doc, "The base of libbus.Reply."},
    {Py_tp_new, reply_new},
    {Py_tp_dealloc, message_dealloc},
    {Py_tp_traverse, message_traverse},
    {Py_tp_clear, message_clear},
    {Py_tp_repr, reply_repr},
    {Py_bf_getbuffer, reply_getbuffer},
    {Py_bf_releasebuffer, message_releasebuffer},
    {Py_tp_getattro, reply_attribute},
    {Py_tp_getset, reply_getset},
    {Py_tp_methods, reply_methods},
    {0, NULL},
};

PyType_Spec reply_spec = {
    .name = "libbus._core.Reply",
    .basicsize = sizeof(struct reply_object),
    .flags =
	Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reply_slots,
};
