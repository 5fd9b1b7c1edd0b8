/* bus.c: libbus._core.Bus: open, publish, flush, close. */
#include "core.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "gate.h"
#include "link_settings.h"

struct bus_object {
	PyObject_HEAD struct core *core;
	struct gate gate;
	struct bus *bus;
	bool named;
	uint64_t epoch; /* stays readable after close(): a saved position needs it */
	_Atomic(struct bus_packer *) packer; /* one spare packer; a call that takes it owns it */
};

/* The longest delay of Ctrl-C in a flush. */
#define SLICE_MS 50

bool
bus_object_is_named(PyObject *bus)
{
	return ((struct bus_object *)bus)->named;
}

int
bus_object_mailbox(
    PyObject *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox **ret_mbox)
{
	struct bus_object *self = (struct bus_object *)bus;
	int err = gate_enter(&self->gate);

	if (err < 0)
		return err;
	err = bus_mailbox_open(self->bus, cfg, ret_mbox);
	gate_leave(&self->gate);
	return err;
}

int
bus_object_role(PyObject *bus, const char *name, int timeout, struct bus_role **ret_role)
{
	struct bus_object *self = (struct bus_object *)bus;
	int err = gate_enter(&self->gate);

	if (err < 0)
		return err;
	err = bus_role_take(self->bus, name, timeout, ret_role);
	gate_leave(&self->gate);
	return err;
}

int
bus_object_push(PyObject *bus, const struct bus_push_config *cfg, struct bus_push **ret_push)
{
	struct bus_object *self = (struct bus_object *)bus;
	int err = gate_enter(&self->gate);

	if (err < 0)
		return err;
	err = bus_push_open(self->bus, cfg, ret_push);
	gate_leave(&self->gate);
	return err;
}

int
bus_object_pub(
    PyObject *bus, const char *topic, const struct bus_pub_config *cfg, struct bus_pub **ret_pub)
{
	struct bus_object *self = (struct bus_object *)bus;
	int err = gate_enter(&self->gate);

	if (err < 0)
		return err;
	err = bus_pub_open(self->bus, topic, cfg, ret_pub);
	gate_leave(&self->gate);
	return err;
}

int
bus_object_publish(PyObject *bus, const struct bus_msg *msg)
{
	struct bus_object *self = (struct bus_object *)bus;
	int err = gate_enter(&self->gate);

	if (err < 0)
		return err;
	err = bus_publish_msg(self->bus, msg);
	gate_leave(&self->gate);
	return err;
}

/* --- publish ------------------------------------------------------------------------------------------------ */

static PyObject *
send(struct bus_object *self, PyObject *topic, const struct bus_msg *msg)
{
	int err = gate_enter(&self->gate);

	if (err == 0) {
		TRY_THEN_RELEASE(err, bus_publish_msg(self->bus, msg));
		gate_leave(&self->gate);
	}
	if (err < 0)
		return error_raise(self->core, err, ABOUT_TOPIC, topic);
	Py_RETURN_NONE;
}

/* Converts ttl=, in seconds, or None for no limit. 0, or -1 with an exception. */
static int
life_of(PyObject *seconds, struct bus_msg *msg)
{
	double ms;

	if (seconds == Py_None)
		return 0;
	ms = ceil(PyFloat_AsDouble(seconds) * 1000);
	if (PyErr_Occurred())
		return -1;
	if (!(ms >= 1 && ms <= UINT32_MAX)) {
		PyErr_Format(PyExc_ValueError,
		    "ttl=%R: give seconds above 0 and below 50 days, or None for no limit",
		    seconds);
		return -1;
	}
	msg->ttl_ms = (uint32_t)ms;
	return 0;
}

PyDoc_STRVAR(bus_publish_doc,
    "publish($self, topic, value, *, retain=False, ttl=None, headers=None)\n--\n\n"
    "Publishes a value to every subscription whose filter matches the topic.\n"
    "\n"
    "A value without a subscription is discarded without an error. A full mailbox drops by its own policy and counts the loss.\n"
    "\n"
    "Args:\n"
    "    topic: Levels joined by /, such as room/kitchen/lamp; 1 to 1,024 bytes of UTF-8 and 32 levels at most, no wildcards.\n"
    "    value: None, a bool, number, text, bytes, date, list, dict, dataclass, array and more (docs/payloads.md); a\n"
    "        Message with an array is forwarded as it is.\n"
    "    retain: Keep it as the topic's last value, for get() and for later subscriptions.\n"
    "    ttl: Seconds until it expires; an expired message is not delivered, kept values included. None: no limit.\n"
    "    headers: A dict to send with the value.\n"
    "\n"
    "Raises:\n"
    "    TypeError: The value, or an element of it, cannot be published; the text names its path.\n"
    "    ValueError: The value is too deep, too large or malformed.\n"
    "    OverflowError: An int has more than 64 bits.\n"
    "    TopicError: The topic is malformed.\n"
    "    TooBigError: The payload is larger than max_payload, or than 1/16 of the log of a named bus.\n"
    "    FullError: A subscription with full=\"refuse\" has no room; no subscription got the message.\n"
    "    LimitError: There is no room for another topic or, with retain, for another value.\n"
    "    ClosedError: The bus is closed.\n"
    "\n"
    "Threads: any; also callbacks, signal handlers and finalizers. Blocks: never for a reader; on a named bus up to\n"
    "0.1 s if another process was stopped while it published.");

int
extras_begin(struct core *core, struct extras *extras, PyObject *topic, struct bus_msg *msg)
{
	msg->flags = extras->retain ? BUS_MSG_RETAIN : 0;
	if (life_of(extras->ttl, msg) < 0)
		return -1;
	if (extras->headers == Py_None)
		return 0;
	if (!PyDict_Check(extras->headers)) {
		PyErr_Format(PyExc_TypeError, "%U: headers must be a dict, not %s", topic,
		    Py_TYPE(extras->headers)->tp_name);
		return -1;
	}
	if (PyDict_GET_SIZE(extras->headers) == 0)
		return 0;
	if (bus_packer_new(&extras->packer) < 0) {
		PyErr_NoMemory();
		return -1;
	}
	if (value_pack(core, extras->packer, extras->headers, topic, "headers") < 0)
		return -1;
	return bus_packer_data(extras->packer, &msg->headers, &msg->headers_len);
}

void
extras_end(struct extras *extras)
{
	bus_packer_free(extras->packer);
}

/* A large value lies in two parts: a handle sends it, which copies each part once. */
static PyObject *
publish_parts(struct bus_object *self, PyObject *topic, const struct bus_slice parts[2])
{
	const struct bus_pub_config cfg = {.size = sizeof cfg, .type = BUS_TYPE_MSGPACK};
	const char *name = PyUnicode_AsUTF8(topic);
	struct bus_pub *pub = NULL;
	int err = gate_enter(&self->gate);

	if (err == 0) {
		/* On a named bus a new topic's name is written to the log first, which may wait. */
		TRY_THEN_RELEASE(err, bus_pub_open(self->bus, name, &cfg, &pub));
		if (err == 0)
			TRY_THEN_RELEASE(err, bus_pub_send_parts(pub, parts, 2));
		bus_pub_close(pub);
		gate_leave(&self->gate);
	}
	if (err < 0)
		return error_raise(self->core, err, ABOUT_TOPIC, topic);
	Py_RETURN_NONE;
}

bool
has_extras(const struct extras *extras)
{
	return extras->retain || extras->ttl != Py_None || extras->headers != Py_None;
}

static PyObject *
publish(struct bus_object *self, PyObject *topic, PyObject *value, struct extras *extras)
{
	struct bus_msg msg = {.size = sizeof msg, .type = BUS_TYPE_MSGPACK};
	Py_buffer body = {.obj = NULL};
	struct bus_packer *packer;
	PyObject *answer = NULL;
	int packed;

	msg.topic = text_of(self->core, topic, ABOUT_TOPIC);
	if (msg.topic == NULL)
		return NULL;
	packer = packer_take(&self->packer);
	if (packer == NULL)
		return NULL;
	if (has_extras(extras))
		packed = extras_begin(self->core, extras, topic, &msg) < 0
			     ? -1
			     : value_pack(self->core, packer, value, topic, "value");
	else
		packed = value_pack_parts(self->core, packer, value, topic, &body);
	if (packed == 0 && bus_packer_data(packer, &msg.data, &msg.len) == 0) {
		const struct bus_slice parts[] = {
		    {msg.data, msg.len}, {body.buf, (size_t)body.len}};

		answer =
		    body.obj != NULL ? publish_parts(self, topic, parts) : send(self, topic, &msg);
	}
	PyBuffer_Release(&body);
	extras_end(extras);
	packer_give(&self->packer, packer);
	return answer;
}

/* publish() with keywords. */
static PyObject *
publish_with(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"topic", "value", "retain", "ttl", "headers", NULL};
	struct extras extras = {.ttl = Py_None, .headers = Py_None};
	PyObject *topic, *value;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$pOO:publish", names, &topic, &value,
		&extras.retain, &extras.ttl, &extras.headers))
		return NULL;
	return publish(self, topic, value, &extras);
}

/* The usual call, a topic and a value, reads its arguments directly: parsing a tuple takes longer than the rest of Python's
 * part. */
static PyObject *
bus_publish_value(
    struct bus_object *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
	struct extras extras = {.ttl = Py_None, .headers = Py_None};
	PyObject *tuple, *kwargs, *answer = NULL;

	if (count == 2 && keywords == NULL)
		return publish(self, args[0], args[1], &extras);
	tuple = PyTuple_New(count);
	kwargs = PyDict_New();
	for (Py_ssize_t i = 0; tuple != NULL && i < count; i++)
		PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
	for (Py_ssize_t i = 0; kwargs != NULL && keywords != NULL && i < PyTuple_GET_SIZE(keywords);
	     i++)
		if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(keywords, i), args[count + i]) < 0)
			Py_CLEAR(kwargs);
	if (tuple != NULL && kwargs != NULL)
		answer = publish_with(self, tuple, kwargs);
	Py_XDECREF(tuple);
	Py_XDECREF(kwargs);
	return answer;
}

PyDoc_STRVAR(bus_publish_raw_doc,
    "publish_raw($self, topic, data, *, encoding='untagged', retain=False, ttl=None, headers=None)\n--\n\n"
    "Publishes bytes as they are, with the type that readers decode them by.\n"
    "\n"
    "Args:\n"
    "    topic: As in publish().\n"
    "    data: Bytes, or any object with a contiguous buffer; a str is sent as UTF-8.\n"
    "    encoding: The type for msg.value: untagged, msgpack, bytes, json or text.\n"
    "    retain: Keep it as the topic's last value. With empty data: delete that value.\n"
    "    ttl: Seconds until it expires; an expired message is not delivered. None: no limit.\n"
    "    headers: A dict to send with the bytes.\n"
    "\n"
    "Raises:\n"
    "    TopicError: The topic is malformed.\n"
    "    TooBigError: The payload is too large.\n"
    "    FullError: A subscription with full=\"refuse\" has no room.\n"
    "    LimitError: There is no room for another topic or value.\n"
    "    ClosedError: The bus is closed.\n"
    "\n"
    "Threads: any. Blocks: as publish().");

static PyObject *
bus_publish_raw(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"topic", "data", "encoding", "retain", "ttl", "headers", NULL};
	PyObject *topic, *encoding = NULL, *answer = NULL;
	struct extras extras = {.ttl = Py_None, .headers = Py_None};
	struct bus_msg msg = {.size = sizeof msg, .type = BUS_TYPE_UNTAGGED};
	Py_buffer data;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os*|$UpOO:publish_raw", names, &topic,
		&data, &encoding, &extras.retain, &extras.ttl, &extras.headers))
		return NULL;
	msg.topic = text_of(self->core, topic, ABOUT_TOPIC);
	if (msg.topic != NULL && encoding != NULL)
		msg.type = choice(encoding, type_names, "encoding");
	if (msg.topic == NULL || msg.type < 0)
		goto release;
	msg.data = data.buf;
	msg.len = (size_t)data.len;
	if (extras_begin(self->core, &extras, topic, &msg) == 0)
		answer = send(self, topic, &msg);
	extras_end(&extras);
release:
	PyBuffer_Release(&data);
	return answer;
}

PyDoc_STRVAR(bus_keep_doc,
    "keep($self, topic_filter, /, *, last=1, max_bytes=0)\n--\n\n"
    "Keeps the last messages of every topic that the filter matches, now or later, retained or not. A new subscription gets\n"
    "them first, with msg.kept True.\n"
    "\n"
    "Lasts as long as the bus. If several filters match a topic, the largest numbers count. Publishing on such a topic\n"
    "costs more, also without a subscriber.\n"
    "\n"
    "Args:\n"
    "    topic_filter: The topics.\n"
    "    last: Messages to keep of each topic, at most 10,000.\n"
    "    max_bytes: Bytes of payload to keep of each topic. 0: 1 MiB. The newest message stays, whatever its size.\n"
    "\n"
    "Raises:\n"
    "    FilterError: The filter is malformed.\n"
    "    LimitError: A number is above its limit, or the bus already keeps 256 filters.\n"
    "    NotSupportedError: The bus is a named one, whose log keeps messages: subscribe with start=.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
bus_keep_last(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"", "last", "max_bytes", NULL};
	struct bus_keep_config cfg = {.size = sizeof cfg};
	PyObject *filter;
	Py_ssize_t last = 1, max_bytes = 0;
	const char *text;
	int err;

	if (!PyArg_ParseTupleAndKeywords(
		args, kwargs, "O|$nn:keep", names, &filter, &last, &max_bytes))
		return NULL;
	text = text_of(self->core, filter, ABOUT_FILTER);
	if (text == NULL || size_between(last, UINT32_MAX, "last") < 0 ||
	    size_between(max_bytes, SIZE_MAX, "max_bytes") < 0)
		return NULL;
	cfg.last = (uint32_t)last;
	cfg.max_bytes = (uint64_t)max_bytes;
	err = gate_enter(&self->gate);
	if (err == 0) {
		err = bus_keep(self->bus, text, &cfg);
		gate_leave(&self->gate);
	}
	if (err < 0)
		return error_raise_because(self->core, err, ABOUT_FILTER, filter,
		    err == BUS_E_NOTSUP
			? "keep() is for a private bus: on a named bus publish with "
			  "retain=True, or subscribe with start=libbus.last(1)"
			: NULL);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(bus_get_doc,
    "get($self, topic, /, default=None)\n--\n\n"
    "Returns the kept message of a topic: the last one published with retain=True, or the newest of keep();\n"
    "default if there is none. Never waits.");

static PyObject *
bus_get_kept(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"", "default", NULL};
	PyObject *topic, *otherwise = Py_None;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get", names, &topic, &otherwise))
		return NULL;
	return kept_get(self->core, (PyObject *)self, topic, otherwise);
}

/* --- open --------------------------------------------------------------------------------------------------- */

/* Names the argument that bus_open() refused; NULL: unknown. */
static const char *
bad_argument(const char *name, const struct bus_config *cfg)
{
	size_t len = name == NULL ? 0 : strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");

	if (name != NULL && (len == 0 || len > 64 || name[len] != '\0'))
		return "the name of a bus has 1 to 64 of a-z 0-9 . _ -";
	if (cfg->max_payload > 256u << 20)
		return "max_payload: give at most 256 MiB";
	if (cfg->log_bytes != 0 &&
	    (cfg->log_bytes < UINT64_C(4) << 20 || cfg->log_bytes > UINT64_C(16) << 30))
		return "log_bytes: give 4 MiB to 16 GiB";
	return cfg->dir != NULL ? "directory: the path is too long; choose a shorter one" : NULL;
}

/* The message that another process publishes if this one dies. bus_open() copies it. */
struct will {
	PyObject *topic;
	struct bus_msg msg;
	struct extras extras;
	struct bus_packer *packer;
};

static int
will_begin(struct bus_object *self, PyObject *given, struct will *will)
{
	PyObject *value;

	if (!PyTuple_Check(given)) {
		PyErr_Format(
		    PyExc_TypeError, "will must be a libbus.Will, not %s", Py_TYPE(given)->tp_name);
		return -1;
	}
	if (!PyArg_ParseTuple(given, "OO|pO:Will", &will->topic, &value, &will->extras.retain,
		&will->extras.headers))
		return -1;
	will->msg.topic = text_of(self->core, will->topic, ABOUT_TOPIC);
	will->packer = will->msg.topic == NULL ? NULL : packer_take(&self->packer);
	if (will->packer == NULL ||
	    extras_begin(self->core, &will->extras, will->topic, &will->msg) < 0 ||
	    value_pack(self->core, will->packer, value, will->topic, "value") < 0)
		return -1;
	return bus_packer_data(will->packer, &will->msg.data, &will->msg.len);
}

static void
will_end(struct bus_object *self, struct will *will)
{
	extras_end(&will->extras);
	if (will->packer != NULL)
		packer_give(&self->packer, will->packer);
}

/* Only the will has a topic and a payload, so bus_open()'s errors about these are about the will. */
static bool
is_about_will(int err)
{
	return err == BUS_E_TOO_BIG || (err <= BUS_E_TOPIC_EMPTY && err >= BUS_E_TOPIC_RESERVED);
}

static PyObject *
bus_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {
	    "name", "max_topics", "max_payload", "directory", "log_bytes", "will", "on_fork", NULL};
	struct core *core = core_of_type(type);
	PyObject *name = Py_None, *dir = NULL, *given = Py_None, *bus = NULL;
	PyObject *on_fork; /* read by the Python part */
	Py_ssize_t max_topics = 0, max_payload = 0, log_bytes = 0;
	struct bus_config cfg = {.size = sizeof cfg, .max_topics = 0, .max_payload = 0};
	struct will will = {
	    .msg = {.size = sizeof will.msg, .type = BUS_TYPE_MSGPACK},
	    .extras = {.ttl = Py_None, .headers = Py_None},
	};
	const char *text = NULL;
	struct bus_object *self;
	int err;

	if (core == NULL ||
	    !PyArg_ParseTupleAndKeywords(args, kwargs, "|O$nnO&nOO:Bus", names, &name, &max_topics,
		&max_payload, path_or_none, &dir, &log_bytes, &given, &on_fork))
		return NULL;
	if (size_between(max_topics, UINT32_MAX, "max_topics") < 0 ||
	    size_between(max_payload, UINT32_MAX, "max_payload") < 0 ||
	    size_between(log_bytes, PY_SSIZE_T_MAX, "log_bytes") < 0)
		goto release_dir;
	if (name == Py_None && (dir != NULL || log_bytes != 0 || given != Py_None)) {
		PyErr_SetString(PyExc_TypeError,
		    "directory, log_bytes and will are for a named bus: Bus('home', ...)");
		goto release_dir;
	}
	if (name != Py_None) {
		text = text_of(core, name, ABOUT_NAME);
		if (text == NULL)
			goto release_dir;
	}
	cfg.max_topics = (uint32_t)max_topics;
	cfg.max_payload = (uint32_t)max_payload;
	cfg.dir = dir != NULL ? PyBytes_AS_STRING(dir) : NULL;
	cfg.log_bytes = (uint64_t)log_bytes;

	self = (struct bus_object *)type->tp_alloc(type, 0);
	if (self == NULL)
		goto release_dir;
	self->core = core;
	self->named = text != NULL;
	gate_open(&self->gate);
	atomic_init(&self->packer, NULL);
	if (given != Py_None) {
		if (will_begin(self, given, &will) < 0)
			goto end_will;
		cfg.will = &will.msg;
	}
	Py_BEGIN_ALLOW_THREADS err = bus_open(text, &cfg, &self->bus);
	Py_END_ALLOW_THREADS;
	if (err < 0) {
		if (is_about_will(err))
			error_raise(core, err, ABOUT_TOPIC, will.topic);
		else
			error_raise_because(core, err, ABOUT_NAME, text != NULL ? name : NULL,
			    err == BUS_E_INVAL ? bad_argument(text, &cfg) : NULL);
		goto end_will;
	}
	self->epoch = bus_epoch(self->bus);
	bus = Py_NewRef((PyObject *)self);
end_will:
	will_end(self, &will);
	Py_DECREF(self);
release_dir:
	Py_XDECREF(dir);
	return bus;
}

/* --- request and reply ---------------------------------------------------------------------------------------- */

PyDoc_STRVAR(bus_request_doc,
    "request($self, topic, value, *, timeout=None, headers=None)\n--\n\n"
    "Sends a request on a topic and waits for the first reply, a Message. NobodyError: no subscriber\n"
    "listens to the topic; BusTimeoutError: no reply within timeout seconds.");

typedef PyObject *(*request_with)(struct core *core, struct bus_mailbox *mbox,
    const struct bus_msg *question, int timeout_ms, PyObject *topic);

static PyObject *
ask(struct bus_object *self, request_with request, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"topic", "value", "timeout", "headers", NULL};
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = 1};
	PyObject *topic, *value, *timeout = Py_None, *answer = NULL;
	struct extras extras = {.ttl = Py_None, .headers = Py_None};
	struct bus_msg msg = {.size = sizeof msg, .type = BUS_TYPE_MSGPACK};
	struct bus_mailbox *mbox;
	struct bus_packer *packer;
	int ms, err;

	if (!PyArg_ParseTupleAndKeywords(
		args, kwargs, "OO|$OO:request", names, &topic, &value, &timeout, &extras.headers) ||
	    timeout_ms(timeout, &ms) < 0)
		return NULL;
	msg.topic = text_of(self->core, topic, ABOUT_TOPIC);
	packer = msg.topic == NULL ? NULL : packer_take(&self->packer);
	if (packer == NULL)
		return NULL;
	if (extras_begin(self->core, &extras, topic, &msg) < 0 ||
	    value_pack(self->core, packer, value, topic, "value") < 0 ||
	    bus_packer_data(packer, &msg.data, &msg.len) < 0)
		goto give_packer;
	err = bus_object_mailbox((PyObject *)self, &cfg, &mbox);
	if (err < 0)
		error_raise(self->core, err, ABOUT_TOPIC, topic);
	else
		answer = request(self->core, mbox, &msg, ms, topic);
give_packer:
	extras_end(&extras);
	packer_give(&self->packer, packer);
	return answer;
}

static PyObject *
bus_request_value(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	return ask(self, request_wait, args, kwargs);
}

PyDoc_STRVAR(bus_ask_doc,
    "_ask($self, topic, value, *, timeout=None, headers=None)\n--\n\n"
    "Sends a request and returns a _core.Question for its reply. Never waits.");

static PyObject *
bus_ask_value(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	return ask(self, request_start, args, kwargs);
}

PyDoc_STRVAR(bus_reply_doc,
    "reply($self, question, value, *, headers=None)\n--\n\n"
    "Replies to a request, once or more often. @bus.serve replies by itself.\n"
    "\n"
    "Args:\n"
    "    question: A Message with `question` True.\n"
    "    value: As in publish().\n"
    "    headers: A dict to send with the reply.\n"
    "\n"
    "Raises:\n"
    "    ArgumentError: The message is not a request.\n"
    "    TypeError: The value cannot be published.\n"
    "    ClosedError: The bus is closed.\n"
    "\n"
    "A reply to a request that has ended is counted in stats() as late_replies.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
bus_reply_value(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"question", "value", "headers", NULL};
	PyObject *question, *value, *topic, *answer = NULL;
	struct extras extras = {.ttl = Py_None, .headers = Py_None};
	struct bus_msg msg = {.size = sizeof msg, .type = BUS_TYPE_MSGPACK};
	struct bus_packer *packer;
	int err;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|$O:reply", names, self->core->message,
		&question, &value, &extras.headers))
		return NULL;
	topic = PyUnicode_FromString(message_msg(question)->topic);
	packer = topic == NULL ? NULL : packer_take(&self->packer);
	if (packer == NULL)
		goto drop_topic;
	if (extras_begin(self->core, &extras, topic, &msg) < 0 ||
	    value_pack(self->core, packer, value, topic, "value") < 0 ||
	    bus_packer_data(packer, &msg.data, &msg.len) < 0)
		goto give_packer;
	err = gate_enter(&self->gate);
	if (err == 0) {
		TRY_THEN_RELEASE(err, bus_reply_msg(self->bus, message_msg(question), &msg));
		gate_leave(&self->gate);
	}
	answer = err < 0 ? error_raise(self->core, err, ABOUT_TOPIC, topic) : Py_NewRef(Py_None);
give_packer:
	extras_end(&extras);
	packer_give(&self->packer, packer);
drop_topic:
	Py_XDECREF(topic);
	return answer;
}

/* --- links -------------------------------------------------------------------------------------------------- */

typedef int (*link_open)(struct bus *bus, const char *url, const struct bus_link_config *cfg,
    struct bus_link **ret_link);

static PyObject *
open_link(struct bus_object *self, link_open open, bool dials, PyObject *args, PyObject *kwargs)
{
	struct link_settings settings = {.url = NULL};
	struct bus_link *link = NULL;
	PyObject *answer = NULL;
	int err;

	if (link_settings_read(self->core, args, kwargs, dials, &settings) < 0)
		goto end_settings;
	err = gate_enter(&self->gate);
	if (err == 0) {
		Py_BEGIN_ALLOW_THREADS err =
		    open(self->bus, settings.text, &settings.config, &link);
		Py_END_ALLOW_THREADS gate_leave(&self->gate);
	}
	answer = err < 0 ? error_raise(self->core, err, ABOUT_ADDRESS, settings.url)
			 : link_new(self->core, link);

end_settings:
	link_settings_end(&settings);
	return answer;
}

PyDoc_STRVAR(bus_listen_doc,
    "listen($self, url, *, heartbeat=None, max_peers=0, max_bytes=0, peer_bytes=0, users=None, acl=None, ca=None, cert=None, key=None, psk=None, allow_lan=False, allow_insecure_remote=False, relays=False)\n--\n\n"
    "Opens an address for other buses.");

static PyObject *
bus_listen_link(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	return open_link(self, bus_listen, false, args, kwargs);
}

PyDoc_STRVAR(bus_dial_doc,
    "dial($self, url, *, heartbeat=None, max_peers=0, max_bytes=0, peer_bytes=0, user=None, password=None, ca=None, cert=None, key=None, psk=None, allow_lan=False, allow_insecure_remote=False, relays=False)\n--\n\n"
    "Keeps a connection to an address; retries until a listener is there.");

static PyObject *
bus_dial_link(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	return open_link(self, bus_dial, true, args, kwargs);
}

/* --- flush, close, stats -------------------------------------------------------------------------------------- */

static int
flush_slice(struct bus_object *self, int timeout)
{
	int err = gate_enter(&self->gate);

	if (err < 0)
		return err;
	Py_BEGIN_ALLOW_THREADS err = bus_flush(self->bus, timeout);
	Py_END_ALLOW_THREADS gate_leave(&self->gate);
	return err;
}

PyDoc_STRVAR(bus_flush_doc,
    "flush($self, timeout=None)\n--\n\n"
    "Waits until earlier messages are handed to the wire of all links that are up.\n"
    "BusTimeoutError: they were not, in time.");

static PyObject *
bus_flush_all(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"timeout", NULL};
	PyObject *timeout = Py_None;
	int64_t deadline;
	int ms, err;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:flush", names, &timeout) ||
	    timeout_ms(timeout, &ms) < 0)
		return NULL;
	deadline = bus__deadline_ns(ms);
	do {
		int left = bus__left_ms(deadline);

		err = flush_slice(self, left < 0 || left > SLICE_MS ? SLICE_MS : left);
		if (err == BUS_E_TIMEDOUT && PyErr_CheckSignals() < 0)
			return NULL;
	} while (err == BUS_E_TIMEDOUT && bus__left_ms(deadline) != 0);
	if (err < 0)
		return error_raise(self->core, err, ABOUT_NAME, NULL);
	Py_RETURN_NONE;
}

/* Only the caller that shut the gate gets here. */
static int
end(struct bus_object *self, int timeout)
{
	int undelivered;

	Py_BEGIN_ALLOW_THREADS gate_wait(&self->gate);
	undelivered = bus_close(self->bus, timeout);
	Py_END_ALLOW_THREADS self->bus = NULL;
	return undelivered;
}

PyDoc_STRVAR(bus_close_doc,
    "close($self, timeout=1.0)\n--\n\n"
    "Ends the bus. Returns the number of undelivered messages; 0 if it was closed already.");

static PyObject *
bus_close_once(struct bus_object *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"timeout", NULL};
	PyObject *timeout = NULL;
	int ms = 1000, undelivered;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:close", names, &timeout) ||
	    (timeout != NULL && timeout_ms(timeout, &ms) < 0))
		return NULL;
	if (!gate_shut(&self->gate))
		return PyLong_FromLong(0);
	undelivered = end(self, ms);
	if (undelivered < 0)
		return error_raise(self->core, undelivered, ABOUT_NAME, NULL);
	return PyLong_FromLong(undelivered);
}

PyDoc_STRVAR(bus_adopt_doc,
    "_adopt($self, other, /)\n--\n\n"
    "In a forked child: takes over the bus of another object and closes that object. The bus that this object\n"
    "had belongs to the parent and is left alone.");

static PyObject *
bus_adopt(struct bus_object *self, PyObject *given)
{
	struct bus_object *other = (struct bus_object *)given;

	if (!PyObject_TypeCheck(given, self->core->bus) || !gate_forked(&self->gate) ||
	    gate_forked(&other->gate) || !gate_shut(&other->gate))
		return error_raise(self->core, BUS_E_STATE, ABOUT_NAME, NULL);
	self->bus = other->bus;
	self->epoch = other->epoch;
	other->bus = NULL;
	gate_open(&self->gate); /* last: a call that enters finds everything set */
	Py_RETURN_NONE;
}

static PyObject *
bus_closed(struct bus_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(gate_is_shut(&self->gate));
}

PyDoc_STRVAR(bus_stats_doc,
    "stats($self, /)\n--\n\n"
    "Returns the counters of all mailboxes so far, closed ones and those of links included.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
bus_counters(struct bus_object *self, PyObject *unused)
{
	struct bus_stats stats = {.size = sizeof stats};
	int err = gate_enter(&self->gate);

	(void)unused;
	if (err == 0) {
		err = bus_stats(self->bus, &stats);
		gate_leave(&self->gate);
	}
	if (err < 0)
		return error_raise(self->core, err, ABOUT_NAME, NULL);
	return stats_dict(&stats);
}

/* The state of the log. It is read whole before any Python object is made, since that may run Python. */
struct log_numbers {
	struct bus_log_stats log;
	struct bus_member members[BUS_LIMIT_MEMBERS]; /* pid 0: the number is free */
};

static int
read_log(struct bus *bus, struct log_numbers *numbers)
{
	int err;

	numbers->log.size = sizeof numbers->log;
	err = bus_log_stats(bus, &numbers->log);
	for (uint32_t i = 0; err == 0 && i < BUS_LIMIT_MEMBERS; i++) {
		numbers->members[i] = (struct bus_member){.size = sizeof numbers->members[i]};
		bus_member(bus, i, &numbers->members[i]);
	}
	return err;
}

static PyObject *
members_list(const struct bus_member members[BUS_LIMIT_MEMBERS])
{
	PyObject *list = PyList_New(0);

	for (unsigned i = 0; list != NULL && i < BUS_LIMIT_MEMBERS; i++) {
		const struct bus_member *m = &members[i];
		PyObject *member;

		if (m->pid == 0)
			continue;
		member = Py_BuildValue("{s:I, s:I, s:O, s:O}", "number", i, "pid", (unsigned)m->pid,
		    "this", m->is_this ? Py_True : Py_False, "alive",
		    m->is_alive ? Py_True : Py_False);
		if (member == NULL || PyList_Append(list, member) < 0)
			Py_CLEAR(list);
		Py_XDECREF(member);
	}
	return list;
}

static PyObject *
log_dict(const struct log_numbers *numbers)
{
	const struct bus_log_stats *log = &numbers->log;
	PyObject *members = members_list(numbers->members);

	if (members == NULL)
		return NULL;
	return Py_BuildValue(
	    "{s:K, s:I, s:K, s:K, s:K, s:K, s:K, s:K, s:K, s:I, s:I, s:I, s:I, s:N}", "log_bytes",
	    (unsigned long long)log->log_bytes, "segments", (unsigned)log->segments, "messages",
	    (unsigned long long)log->messages, "messages_left",
	    (unsigned long long)log->messages_left, "oldest", (unsigned long long)log->oldest,
	    "values_bytes", (unsigned long long)log->values_bytes, "values_most",
	    (unsigned long long)log->values_most, "values_count",
	    (unsigned long long)log->values_count, "values_count_most",
	    (unsigned long long)log->values_count_most, "readers", (unsigned)log->readers,
	    "readers_most", (unsigned)log->readers_most, "processes", (unsigned)log->processes,
	    "processes_most", (unsigned)log->processes_most, "members", members);
}

PyDoc_STRVAR(bus_log_stats_doc,
    "log_stats($self, /)\n--\n\n"
    "Returns the size and fill of a named bus's log, and the processes on the bus.\n"
    "\n"
    "Raises:\n"
    "    NotSupportedError: The bus has no name.\n"
    "    TransportError: The log is damaged.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
bus_log_numbers(struct bus_object *self, PyObject *unused)
{
	struct log_numbers *numbers = PyMem_RawMalloc(sizeof *numbers);
	PyObject *answer;
	int err;

	(void)unused;
	if (numbers == NULL)
		return PyErr_NoMemory();
	err = gate_enter(&self->gate);
	if (err == 0) {
		Py_BEGIN_ALLOW_THREADS err = read_log(self->bus, numbers);
		Py_END_ALLOW_THREADS gate_leave(&self->gate);
	}
	if (err < 0)
		answer = error_raise_because(self->core, err, ABOUT_NAME, NULL,
		    err == BUS_E_NOTSUP ? "log_stats() is for a named bus: a private bus has no log"
					: NULL);
	else
		answer = log_dict(numbers);
	PyMem_RawFree(numbers);
	return answer;
}

PyDoc_STRVAR(bus_explain_doc,
    "explain($self, topic, /)\n--\n\n"
    "Lists the subscriptions that get a message on the topic, those that nearly match, and why: one fact per line, for people.\n"
    "\n"
    "On a named bus it covers all processes, also stopped ones. The words may change between versions. Nothing is\n"
    "sent. The topic may be one of the bus's own, $bus/...\n"
    "\n"
    "Raises:\n"
    "    TopicError: The topic is malformed.\n"
    "\n"
    "Threads: any. Blocks: never, but it reads every filter and, on a named bus, a file of each process.");

/* Writes a text for people about the bus, as bus_explain() does. */
typedef int (*writer)(struct bus *bus, const char *topic, char *ret_text, size_t cap);

static int
write_bus(struct bus *bus, const char *topic, char *ret_text, size_t cap)
{
	(void)topic;
	return bus_describe(bus, ret_text, cap);
}

static int
write_peers(struct bus *bus, const char *topic, char *ret_text, size_t cap)
{
	(void)topic;
	return bus_explain_peers(bus, ret_text, cap);
}

/* Returns the length or BUS_E_*, and the text, to be freed by PyMem_RawFree(); a length with NULL: out of memory. */
static int
whole_text(struct bus *bus, writer write_text, const char *topic, char **ret_text)
{
	char *text = NULL;
	int cap = 0, len;

	/* The text may grow between two calls. */
	while ((len = write_text(bus, topic, text, (size_t)cap)) >= cap) {
		PyMem_RawFree(text);
		cap = len + 256;
		text = PyMem_RawMalloc((size_t)cap);
		if (text == NULL)
			break;
	}
	*ret_text = text;
	return len;
}

/* topic: NULL if the text is not about one; name: its UTF-8. */
static PyObject *
text_about(struct bus_object *self, writer write_text, PyObject *topic, const char *name)
{
	char *text = NULL;
	PyObject *answer;
	int len = gate_enter(&self->gate);

	if (len < 0)
		return error_raise(self->core, len, ABOUT_NAME, NULL);
	Py_BEGIN_ALLOW_THREADS len = whole_text(self->bus, write_text, name, &text);
	Py_END_ALLOW_THREADS gate_leave(&self->gate);
	if (len < 0)
		answer = error_raise_because(self->core, len, ABOUT_TOPIC, topic,
		    len == BUS_E_NOTSUP ? "describe() is for a named bus: a private bus has no log"
					: NULL);
	else if (text == NULL)
		answer = PyErr_NoMemory();
	else
		answer = PyUnicode_DecodeUTF8(text, len, "replace"); /* a path may have any bytes */
	PyMem_RawFree(text);
	return answer;
}

static PyObject *
bus_explain_topic(struct bus_object *self, PyObject *topic)
{
	const char *name = text_of(self->core, topic, ABOUT_TOPIC);

	return name == NULL ? NULL : text_about(self, bus_explain, topic, name);
}

PyDoc_STRVAR(bus_explain_peers_doc,
    "explain_peers($self, /)\n--\n\n"
    "Lists the connected peers and the latest refusals, with reasons: one fact per line, for people.\n"
    "\n"
    "It covers the last 32 refusals: the reason, the remedy, the count and the time (UTC). On a named bus it covers the\n"
    "links of all processes, up to a second old. The words may change between versions; programs subscribe to $bus/refused.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
bus_explain_the_peers(struct bus_object *self, PyObject *unused)
{
	(void)unused;
	return text_about(self, write_peers, NULL, NULL);
}

PyDoc_STRVAR(bus_describe_doc,
    "describe($self, /)\n--\n\n"
    "Describes a named bus for people: its log, how full that is, and the processes on it.\n"
    "\n"
    "The words may change between versions; log_stats() is for programs.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
bus_describe_self(struct bus_object *self, PyObject *unused)
{
	(void)unused;
	return text_about(self, write_bus, NULL, NULL);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static int
bus_traverse(struct bus_object *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	return 0;
}

/* A forked child frees nothing: the bus belongs to the parent's threads. */
static void
bus_dealloc(struct bus_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (self->bus != NULL && gate_shut(&self->gate))
		end(self, 0);
	bus_packer_free(atomic_load(&self->packer));
	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *
bus_get_epoch(struct bus_object *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(self->epoch);
}

static PyGetSetDef bus_getset[] = {
    {"closed", (getter)bus_closed, NULL, "True after close(), and in a forked child.", NULL},
    {"epoch", (getter)bus_get_epoch, NULL,
	"Identifies this life of a named bus; positions are valid within it. 0 on a private bus.",
	NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define WITH_KEYWORDS (METH_VARARGS | METH_KEYWORDS)

static PyMethodDef bus_methods[] = {
    {"publish", (PyCFunction)(void (*)(void))bus_publish_value, METH_FASTCALL | METH_KEYWORDS,
	bus_publish_doc},
    {"publish_raw", (PyCFunction)(void (*)(void))bus_publish_raw, WITH_KEYWORDS,
	bus_publish_raw_doc},
    {"keep", (PyCFunction)(void (*)(void))bus_keep_last, WITH_KEYWORDS, bus_keep_doc},
    {"get", (PyCFunction)(void (*)(void))bus_get_kept, WITH_KEYWORDS, bus_get_doc},
    {"request", (PyCFunction)(void (*)(void))bus_request_value, WITH_KEYWORDS, bus_request_doc},
    {"_ask", (PyCFunction)(void (*)(void))bus_ask_value, WITH_KEYWORDS, bus_ask_doc},
    {"reply", (PyCFunction)(void (*)(void))bus_reply_value, WITH_KEYWORDS, bus_reply_doc},
    {"listen", (PyCFunction)(void (*)(void))bus_listen_link, WITH_KEYWORDS, bus_listen_doc},
    {"dial", (PyCFunction)(void (*)(void))bus_dial_link, WITH_KEYWORDS, bus_dial_doc},
    {"flush", (PyCFunction)(void (*)(void))bus_flush_all, WITH_KEYWORDS, bus_flush_doc},
    {"close", (PyCFunction)(void (*)(void))bus_close_once, WITH_KEYWORDS, bus_close_doc},
    {"_adopt", (PyCFunction)bus_adopt, METH_O, bus_adopt_doc},
    {"stats", (PyCFunction)bus_counters, METH_NOARGS, bus_stats_doc},
    {"log_stats", (PyCFunction)bus_log_numbers, METH_NOARGS, bus_log_stats_doc},
    {"explain", (PyCFunction)bus_explain_topic, METH_O, bus_explain_doc},
    {"explain_peers", (PyCFunction)bus_explain_the_peers, METH_NOARGS, bus_explain_peers_doc},
    {"describe", (PyCFunction)bus_describe_self, METH_NOARGS, bus_describe_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bus_slots[] = {
    {Py_tp_doc, "The base of libbus.Bus."},
    {Py_tp_new, bus_new},
    {Py_tp_dealloc, bus_dealloc},
    {Py_tp_traverse, bus_traverse},
    {Py_tp_getset, bus_getset},
    {Py_tp_methods, bus_methods},
    {0, NULL},
};

PyType_Spec bus_spec = {
    .name = "libbus._core.Bus",
    .basicsize = sizeof(struct bus_object),
    .flags =
	Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bus_slots,
};
