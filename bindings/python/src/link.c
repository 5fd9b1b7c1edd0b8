/* link.c: libbus.Link, a listening or dialling address. */
#include "core.h"

#include "gate.h"

struct link_object {
	PyObject_HEAD struct core *core;
	struct gate gate;
	struct bus_link *link;
	PyObject *then; /* called once after close(), or NULL */
};

/* "ipc://" and the longest path of a socket, or "tcp://", a host name of 253 bytes and a port. */
#define URL_CAP 512

PyObject *
link_new(struct core *core, struct bus_link *link)
{
	struct link_object *self = (struct link_object *)core->link->tp_alloc(core->link, 0);

	if (self == NULL) {
		bus_link_close(link);
		return NULL;
	}
	self->core = core;
	self->link = link;
	gate_open(&self->gate);
	return (PyObject *)self;
}

static PyObject *
raise_of(struct link_object *self, int err)
{
	return error_raise(self->core, err, ABOUT_ADDRESS, NULL);
}

static PyObject *
link_url(struct link_object *self, void *unused)
{
	char url[URL_CAP];
	int len = gate_enter(&self->gate);

	(void)unused;
	if (len == 0) {
		len = bus_link_url(self->link, url, sizeof url);
		gate_leave(&self->gate);
	}
	return len < 0 ? raise_of(self, len) : PyUnicode_DecodeUTF8(url, len, "replace");
}

static int
read_stats(struct link_object *self, struct bus_link_stats *ret_stats)
{
	int err = gate_enter(&self->gate);

	if (err < 0)
		return err;
	err = bus_link_stats(self->link, ret_stats);
	gate_leave(&self->gate);
	return err;
}

static const char *
state_name(int state)
{
	return state == BUS_LINK_UP ? "up" : "down";
}

static PyObject *
link_state(struct link_object *self, void *unused)
{
	struct bus_link_stats stats = {.size = sizeof stats};
	int err = read_stats(self, &stats);

	(void)unused;
	/* A link that has ended is down too; that is no exception. */
	if (err == BUS_E_CLOSED)
		return PyUnicode_FromString("down");
	return err < 0 ? raise_of(self, err) : PyUnicode_FromString(state_name(stats.state));
}

PyDoc_STRVAR(link_stats_doc, "stats($self, /)\n--\n\n"
			     "Returns state, peers and counters of the link.\n"
			     "\n"
			     "Threads: any. Blocks: never.");

static PyObject *
link_counters(struct link_object *self, PyObject *unused)
{
	static const char *const ends[BUS_LINK_END_COUNT] = {
	    [BUS_LINK_END_CLOSED] = "closed",
	    [BUS_LINK_END_GONE] = "gone",
	    [BUS_LINK_END_SILENT] = "silent",
	    [BUS_LINK_END_NOT_LIBBUS] = "not_libbus",
	    [BUS_LINK_END_VERSION] = "version",
	    [BUS_LINK_END_PROTOCOL] = "protocol",
	    [BUS_LINK_END_TOO_BIG] = "too_big",
	    [BUS_LINK_END_DENIED] = "denied",
	    [BUS_LINK_END_AUTH] = "auth",
	    [BUS_LINK_END_TLS] = "tls",
	};
	struct bus_link_stats stats = {.size = sizeof stats};
	int err = read_stats(self, &stats);
	PyObject *ended;

	(void)unused;
	if (err < 0)
		return raise_of(self, err);
	ended = counters(ends, stats.ended, BUS_LINK_END_COUNT);
	if (ended == NULL)
		return NULL;
	return Py_BuildValue("{s:s, s:I, s:z, s:K, s:K, s:K, s:K, s:K, s:N, s:K, s:K, s:K}",
	    "state", state_name(stats.state), "peers", (unsigned)stats.peers, "last_error",
	    stats.last_error < 0 ? bus_errname(stats.last_error) : NULL, "sent",
	    (unsigned long long)stats.sent, "received", (unsigned long long)stats.received, "lost",
	    (unsigned long long)stats.lost, "lost_by_peers",
	    (unsigned long long)stats.lost_by_peers, "refused", (unsigned long long)stats.refused,
	    "ended", ended, "repeated", (unsigned long long)stats.repeated, "late",
	    (unsigned long long)stats.late, "too_far", (unsigned long long)stats.too_far);
}

PyDoc_STRVAR(link_reload_doc,
    "reload($self, /)\n--\n\n"
    "Reloads the files of users, ACL and certificates. Connections are made again under the new files; a bad file changes nothing.\n"
    "\n"
    "Raises:\n"
    "    ArgumentError: A line of a file is malformed; the text names it.\n"
    "    TransportError: A file cannot be read, or other accounts may read it.\n"
    "    ClosedError: The link or its bus has ended.\n"
    "\n"
    "Threads: any. Blocks: for the files.");

static PyObject *
link_reload(struct link_object *self, PyObject *unused)
{
	int err = gate_enter(&self->gate);

	(void)unused;
	if (err == 0) {
		Py_BEGIN_ALLOW_THREADS err = bus_link_reload(self->link);
		Py_END_ALLOW_THREADS gate_leave(&self->gate);
	}
	return err < 0 ? raise_of(self, err) : Py_NewRef(Py_None);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void
end(struct link_object *self)
{
	if (!gate_shut(&self->gate))
		return;
	Py_BEGIN_ALLOW_THREADS gate_wait(&self->gate);
	bus_link_close(self->link);
	Py_END_ALLOW_THREADS self->link = NULL;
}

PyDoc_STRVAR(link_close_doc,
    "close($self, /)\n--\n\n"
    "Ends the link and its connections. Messages that still wait to be sent are counted as lost.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
link_close(struct link_object *self, PyObject *unused)
{
	PyObject *then, *answer;

	(void)unused;
	end(self);
	Py_BEGIN_CRITICAL_SECTION(self);
	then = self->then;
	self->then = NULL;
	Py_END_CRITICAL_SECTION();
	if (then == NULL)
		Py_RETURN_NONE;
	answer = PyObject_CallNoArgs(then);
	Py_DECREF(then);
	return answer;
}

/* The function must not refer to a link: the collector does not traverse links. */
static PyObject *
link_then(struct link_object *self, PyObject *then)
{
	PyObject *old;

	Py_BEGIN_CRITICAL_SECTION(self);
	old = self->then;
	self->then = Py_NewRef(then);
	Py_END_CRITICAL_SECTION();
	Py_XDECREF(old);
	Py_RETURN_NONE;
}

static PyObject *
link_closed(struct link_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(gate_is_shut(&self->gate));
}

static PyObject *
link_enter(struct link_object *self, PyObject *unused)
{
	(void)unused;
	return Py_NewRef((PyObject *)self);
}

static PyObject *
link_exit(struct link_object *self, PyObject *args)
{
	(void)args;
	return link_close(self, NULL);
}

static PyObject *
link_repr(struct link_object *self)
{
	PyObject *url = NULL, *repr;

	if (gate_is_shut(&self->gate))
		return PyUnicode_FromString("<libbus.Link closed>");
	url = link_url(self, NULL);
	if (url == NULL)
		return NULL;
	repr = PyUnicode_FromFormat("<libbus.Link %U>", url);
	Py_DECREF(url);
	return repr;
}

static void
link_dealloc(struct link_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	if (self->link != NULL)
		end(self);
	Py_XDECREF(self->then);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyGetSetDef link_getset[] = {
    {"url", (getter)link_url, NULL,
	"The address. Port 0 is replaced by the port that the system chose.", NULL},
    {"state", (getter)link_state, NULL,
	"up: connected (dialling) or open (listening); down: neither.", NULL},
    {"closed", (getter)link_closed, NULL, "True after close(), and in a forked child.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef link_methods[] = {
    {"stats", (PyCFunction)link_counters, METH_NOARGS, link_stats_doc},
    {"reload", (PyCFunction)link_reload, METH_NOARGS, link_reload_doc},
    {"close", (PyCFunction)link_close, METH_NOARGS, link_close_doc},
    {"_then", (PyCFunction)link_then, METH_O, NULL},
    {"__enter__", (PyCFunction)link_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)link_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot link_slots[] = {
    {Py_tp_doc,
	"An address that a bus listens on or dials. Lives as long as its bus, or until close()."},
    {Py_tp_dealloc, link_dealloc},
    {Py_tp_repr, link_repr},
    {Py_tp_getset, link_getset},
    {Py_tp_methods, link_methods},
    {0, NULL},
};

PyType_Spec link_spec = {
    .name = "libbus.Link",
    .basicsize = sizeof(struct link_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = link_slots,
};
