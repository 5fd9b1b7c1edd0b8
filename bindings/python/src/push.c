/* push.c: libbus._core.Push, the pages of a bus in this process. */
#include "core.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <libbus/push.h>

#include "base/fd.h"
#include "gate.h"

/* A page waits for Python's permission to get this topic. Without a topic: the page has left. */
struct question {
	struct question *next;
	uint64_t page;
	bool left;
	char topic[];
};

struct push_object {
	PyObject_HEAD struct core *core;
	struct gate gate;
	struct bus_push *push;
	/* Guards the questions, which the thread of all pages adds and Python takes, and the last ring. */
	pthread_mutex_t lock;
	struct question *first, **last;
	atomic_bool asks; /* a page asks questions, so a Python thread takes them */
	int bell;         /* eventfd, readable while questions wait, and after close() */
};

static PyObject *
raise_of(struct push_object *self, int err)
{
	return error_raise(self->core, err, ABOUT_NAME, NULL);
}

/* --- questions ------------------------------------------------------------------------------------------------ */

static void
ring(struct push_object *self)
{
	const uint64_t one = 1;

	/* Fails only if the eventfd is readable already. */
	(void)!bus__fd_write(self->bell, &one, sizeof one);
}

/* On the thread of all pages, which never touches Python. False: out of memory. */
static bool
append(struct push_object *self, uint64_t page, const char *topic, bool left)
{
	size_t size = strlen(topic) + 1;
	struct question *question = malloc(sizeof *question + size);

	if (question == NULL)
		return false;
	question->next = NULL;
	question->page = page;
	question->left = left;
	memcpy(question->topic, topic, size);
	pthread_mutex_lock(&self->lock);
	*self->last = question;
	self->last = &question->next;
	pthread_mutex_unlock(&self->lock);
	ring(self);
	return true;
}

/* Without memory the question is refused at once. */
static void
note_question(void *arg, uint64_t page, const char *topic)
{
	struct push_object *self = arg;

	if (!append(self, page, topic, false))
		bus_push_answer(self->push, page, topic, false, "the server is out of memory");
}

static void
note_left(void *arg, uint64_t page)
{
	struct push_object *self = arg;

	if (atomic_load(&self->asks))
		append(self, page, "", true);
}

static struct question *
take(struct push_object *self)
{
	struct question *taken;
	uint64_t rung;

	pthread_mutex_lock(&self->lock);
	taken = self->first;
	self->first = NULL;
	self->last = &self->first;
	if (!gate_is_shut(&self->gate))
		(void)!bus__fd_read(self->bell, &rung, sizeof rung);
	pthread_mutex_unlock(&self->lock);
	return taken;
}

/* Puts the questions back, before newer ones: the next call gets them. */
static void
put_back(struct push_object *self, struct question *questions)
{
	struct question *last = questions;

	if (questions == NULL)
		return;
	while (last->next != NULL)
		last = last->next;
	pthread_mutex_lock(&self->lock);
	last->next = self->first;
	if (self->first == NULL)
		self->last = &last->next;
	self->first = questions;
	ring(self);
	pthread_mutex_unlock(&self->lock);
}

/* True for exactly one caller, which ends the pages. This is the last ring: take() checks the gate under the lock and does not clear
 * it. */
static bool
shut(struct push_object *self)
{
	bool was_open;

	if (gate_forked(&self->gate))
		return false;
	pthread_mutex_lock(&self->lock);
	was_open = gate_shut(&self->gate);
	if (was_open)
		ring(self);
	pthread_mutex_unlock(&self->lock);
	return was_open;
}

static void
drop(struct question *questions)
{
	while (questions != NULL) {
		struct question *next = questions->next;

		free(questions);
		questions = next;
	}
}

/* [(page, topic), …] */
static PyObject *
listed(const struct question *questions)
{
	PyObject *list = PyList_New(0);

	for (const struct question *at = questions; at != NULL && list != NULL; at = at->next) {
		PyObject *pair = Py_BuildValue(
		    "(Kz)", (unsigned long long)at->page, at->left ? NULL : at->topic);

		if (pair == NULL || PyList_Append(list, pair) < 0)
			Py_CLEAR(list);
		Py_XDECREF(pair);
	}
	return list;
}

PyDoc_STRVAR(push_questions_doc,
    "questions($self, timeout=None, /)\n--\n\n"
    "Takes the questions for answer(): [(page, topic), ...]. (page, None): this page has left; it may have had no question.\n"
    "Empty: none arrived in that time.\n"
    "\n"
    "Raises:\n"
    "    ClosedError: close() was called.\n"
    "    MemoryError: The next call gets the questions.\n"
    "\n"
    "Threads: any; one takes each question. Blocks: up to timeout, without the GIL; a greenlet lets others run.");

static PyObject *
push_questions(struct push_object *self, PyObject *args)
{
	struct pollfd polled = {.fd = self->bell, .events = POLLIN};
	PyObject *timeout = Py_None, *list;
	struct question *taken;
	int ms, green;

	if (!PyArg_ParseTuple(args, "|O:questions", &timeout) || timeout_ms(timeout, &ms) < 0)
		return NULL;
	if (gate_forked(&self->gate))
		return raise_of(self, BUS_E_FORKED);
	if (gate_is_shut(&self->gate))
		return raise_of(self, BUS_E_CLOSED);
	green = greenlets_are_known(self->core);
	if (green > 0)
		green = wait_in_greenlet(self->core, self->bell, ms);
	if (green < 0)
		return NULL;
	if (green == 0) {
		int got;

		Py_BEGIN_ALLOW_THREADS got = poll(&polled, 1, ms);
		Py_END_ALLOW_THREADS if (got < 0 && errno != EINTR) return raise_of(
		    self, BUS_E_SYS);
		if (PyErr_CheckSignals() < 0)
			return NULL;
	}
	if (gate_is_shut(&self->gate))
		return raise_of(self, BUS_E_CLOSED);
	taken = take(self);
	list = listed(taken);
	if (list != NULL)
		drop(taken);
	else
		put_back(self, taken);
	return list;
}

PyDoc_STRVAR(push_answer_doc,
    "answer($self, page, topic, may, message=None, /)\n--\n\n"
    "Says whether a page may get messages of a topic from now on. Ignores a page that has left.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
push_answer(struct push_object *self, PyObject *args)
{
	unsigned long long page;
	const char *topic, *message = NULL;
	int may, err;

	if (!PyArg_ParseTuple(args, "Ksp|z:answer", &page, &topic, &may, &message))
		return NULL;
	err = gate_enter(&self->gate);
	if (err == 0) {
		err = bus_push_answer(self->push, page, topic, may, message);
		gate_leave(&self->gate);
	}
	if (err < 0)
		return raise_of(self, err);
	Py_RETURN_NONE;
}

/* --- pages ---------------------------------------------------------------------------------------------------- */

/* The UTF-8 of a sequence of filters. */
struct texts {
	PyObject *tuple; /* keeps the texts */
	const char **list;
	size_t count;
};

static void
texts_end(struct texts *texts)
{
	Py_XDECREF(texts->tuple);
	PyMem_Free(texts->list);
}

/* 0, or -1 with an exception; texts_end() in both cases. */
static int
texts_begin(struct core *core, PyObject *filters, struct texts *texts)
{
	texts->tuple = PySequence_Tuple(filters);
	if (texts->tuple == NULL)
		return -1;
	texts->count = (size_t)PyTuple_GET_SIZE(texts->tuple);
	texts->list = PyMem_Calloc(texts->count + 1, sizeof *texts->list);
	if (texts->list == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (size_t i = 0; i < texts->count; i++) {
		texts->list[i] =
		    text_of(core, PyTuple_GET_ITEM(texts->tuple, (Py_ssize_t)i), ABOUT_FILTER);
		if (texts->list[i] == NULL)
			return -1;
	}
	return 0;
}

/* The filters of a page, and the subset that is new to it. */
struct wanted {
	struct texts filters, fresh;
	struct bus_page_filter *list;
};

static void
wanted_end(struct wanted *wanted)
{
	texts_end(&wanted->filters);
	texts_end(&wanted->fresh);
	PyMem_Free(wanted->list);
}

/* 0, or -1 with an exception; wanted_end() in both cases. fresh may be NULL. */
static int
wanted_begin(struct core *core, PyObject *filters, PyObject *fresh, struct wanted *wanted)
{
	size_t count;

	if (texts_begin(core, filters, &wanted->filters) < 0 ||
	    (fresh != NULL && texts_begin(core, fresh, &wanted->fresh) < 0))
		return -1;
	count = wanted->filters.count;
	if (count < 1 || count > BUS_PAGE_FILTERS_MAX) {
		PyErr_Format(PyExc_ValueError, "a page has 1 to %d filters, not %zu",
		    BUS_PAGE_FILTERS_MAX, count);
		return -1;
	}
	wanted->list = PyMem_Calloc(count, sizeof *wanted->list);
	if (wanted->list == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (size_t i = 0; i < count; i++) {
		wanted->list[i].filter = wanted->filters.list[i];
		for (size_t k = 0; k < wanted->fresh.count; k++)
			if (strcmp(wanted->fresh.list[k], wanted->list[i].filter) == 0)
				wanted->list[i].is_new = true;
	}
	return 0;
}

/* The first filter that is malformed, borrowed; NULL: none is. */
static PyObject *
malformed(const struct wanted *wanted)
{
	for (size_t i = 0; i < wanted->filters.count; i++)
		if (bus_filter_check(wanted->list[i].filter) < 0)
			return PyTuple_GET_ITEM(wanted->filters.tuple, (Py_ssize_t)i);
	return NULL;
}

PyDoc_STRVAR(push_add_doc,
    "add($self, fd, filters, /, *, new=(), head=b'', last_id=None, start=None, full='drop_oldest', max_bytes=0, "
    "interval=0.0, raw=False, event=None, ask=False)\n--\n\n"
    "Serves a page on a connected socket and takes the socket over. After an exception the caller still owns it.\n"
    "\n"
    "Returns:\n"
    "    The number of the page.\n"
    "\n"
    "Threads: any. Blocks: until the thread of all pages has done it, a moment; without the GIL.");

static PyObject *
push_add(struct push_object *self, PyObject *args, PyObject *kwargs)
{
	static const char *const policies[] = {"drop_oldest", "latest", "disconnect", NULL};
	static const int fulls[] = {BUS_FULL_DROP_OLDEST, BUS_FULL_LATEST, BUS_FULL_REFUSE};
	static char *names[] = {"", "", "new", "head", "last_id", "start", "full", "max_bytes",
	    "interval", "raw", "event", "ask", NULL};
	struct bus_page_config cfg = {.size = sizeof cfg};
	struct wanted wanted = {.list = NULL};
	PyObject *filters, *fresh = NULL, *start = Py_None, *full = NULL, *interval = NULL;
	PyObject *number = NULL;
	Py_ssize_t head_len = 0, bytes = 0;
	uint64_t page = 0;
	int fd, raw = 0, ask = 0, interval_ms = 0, err, policy = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO|$Oy#zOOnOpzp:add", names, &fd, &filters,
		&fresh, &cfg.head, &head_len, &cfg.last_id, &start, &full, &bytes, &interval, &raw,
		&cfg.event, &ask) ||
	    start_of(start, &cfg.from, &cfg.from_value, &cfg.from_epoch) < 0 ||
	    size_between(bytes, UINT32_MAX, "max_bytes") < 0 ||
	    (interval != NULL && seconds_ms(interval, "interval", &interval_ms) < 0))
		return NULL;
	if (full != NULL)
		policy = choice(full, policies, "full");
	if (policy < 0)
		return NULL;
	if (wanted_begin(self->core, filters, fresh, &wanted) < 0)
		goto end;
	cfg.filters = wanted.list;
	cfg.filters_count = wanted.filters.count;
	cfg.head_len = (size_t)head_len;
	cfg.full = fulls[policy];
	cfg.bytes = (uint32_t)bytes;
	cfg.interval_ms = interval_ms < 0 ? 0 : (uint32_t)interval_ms;
	cfg.raw = raw;
	cfg.ask = ask;
	if (ask)
		atomic_store(&self->asks, true);
	err = gate_enter(&self->gate);
	if (err == 0) {
		Py_BEGIN_ALLOW_THREADS err = bus_push_add(self->push, fd, &cfg, &page);
		gate_leave(&self->gate);
		Py_END_ALLOW_THREADS
	}
	if (err == 0)
		number = PyLong_FromUnsignedLongLong(page);
	else
		error_raise(self->core, err, ABOUT_FILTER, malformed(&wanted));
end:
	wanted_end(&wanted);
	return number;
}

PyDoc_STRVAR(push_remove_doc, "remove($self, page, /)\n--\n\n"
			      "Ends a page. Ignores a page that has left.\n"
			      "\n"
			      "Threads: any. Blocks: never.");

static PyObject *
push_remove(struct push_object *self, PyObject *number)
{
	unsigned long long page = PyLong_AsUnsignedLongLong(number);
	int err;

	if (PyErr_Occurred())
		return NULL;
	err = gate_enter(&self->gate);
	if (err == 0) {
		err = bus_push_remove(self->push, page);
		gate_leave(&self->gate);
	}
	if (err < 0)
		return raise_of(self, err);
	Py_RETURN_NONE;
}

/* --- counters --------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(push_stats_doc, "stats($self, /)\n--\n\n"
			     "Returns the counters of all pages so far.\n"
			     "\n"
			     "Threads: any. Blocks: never.");

static PyObject *
push_stats(struct push_object *self, PyObject *unused)
{
	static const char *const names[] = {"pages", "pages_most", "opened", "events", "bytes",
	    "lost", "replaced", "denied", "unsent", "resumed", "reset", "waiting_bytes"};
	struct bus_push_stats stats = {.size = sizeof stats};
	int err = gate_enter(&self->gate);

	(void)unused;
	if (err == 0) {
		err = bus_push_stats(self->push, &stats);
		gate_leave(&self->gate);
	}
	if (err < 0)
		return raise_of(self, err);
	return counters(names,
	    (const uint64_t[]){stats.pages, stats.pages_most, stats.opened, stats.events,
		stats.bytes, stats.lost, stats.replaced, stats.denied, stats.unsent, stats.resumed,
		stats.reset, stats.waiting_bytes},
	    sizeof names / sizeof names[0]);
}

PyDoc_STRVAR(push_page_stats_doc,
    "page_stats($self, page, /)\n--\n\n"
    "Returns the counters of one open page; None: it has left.\n"
    "\n"
    "Threads: any. Blocks: until the thread of all pages has done it, a moment; without the GIL.");

static PyObject *
push_page_stats(struct push_object *self, PyObject *number)
{
	static const char *const names[] = {
	    "events", "bytes", "lost", "replaced", "denied", "waiting_bytes"};
	struct bus_push_stats stats = {.size = sizeof stats};
	unsigned long long page = PyLong_AsUnsignedLongLong(number);
	int err;

	if (PyErr_Occurred())
		return NULL;
	err = gate_enter(&self->gate);
	if (err == 0) {
		Py_BEGIN_ALLOW_THREADS err = bus_push_page_stats(self->push, page, &stats);
		gate_leave(&self->gate);
		Py_END_ALLOW_THREADS
	}
	if (err < 0)
		return raise_of(self, err);
	if (err == 0)
		Py_RETURN_NONE;
	return counters(names,
	    (const uint64_t[]){stats.events, stats.bytes, stats.lost, stats.replaced, stats.denied,
		stats.waiting_bytes},
	    sizeof names / sizeof names[0]);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

/* Returns the number of pages that were open, 0 if there was nothing to end, or BUS_E_*. */
static int
end(struct push_object *self, int ms)
{
	int pages;

	if (!shut(self))
		return 0;
	Py_BEGIN_ALLOW_THREADS gate_wait(&self->gate);
	pages = bus_push_close(self->push, ms);
	Py_END_ALLOW_THREADS self->push = NULL;
	return pages;
}

PyDoc_STRVAR(push_close_doc,
    "close($self, timeout=1.0, /)\n--\n\n"
    "Ends all pages and tells them to connect again.\n"
    "\n"
    "Returns:\n"
    "    The number of open pages; 0 the second time, and in a forked child.\n"
    "\n"
    "Threads: any. Blocks: up to timeout, without the GIL.");

static PyObject *
push_close(struct push_object *self, PyObject *args)
{
	PyObject *timeout = NULL;
	int ms = 1000, pages;

	if (!PyArg_ParseTuple(args, "|O:close", &timeout) ||
	    (timeout != NULL && timeout_ms(timeout, &ms) < 0))
		return NULL;
	pages = end(self, ms);
	return pages < 0 ? raise_of(self, pages) : PyLong_FromLong(pages);
}

static PyObject *
push_closed(struct push_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(gate_is_shut(&self->gate));
}

static PyObject *
push_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {
	    "bus", "heartbeat", "retry", "max_pages", "history", "remember", NULL};
	struct core *core = core_of_type(type);
	struct bus_push_config cfg = {.size = sizeof cfg, .ask = note_question, .left = note_left};
	PyObject *bus, *heartbeat = NULL, *retry = NULL, *remember = NULL;
	Py_ssize_t max_pages = 0, history = 0;
	int heartbeat_ms = 0, retry_ms = 0, err;
	struct texts texts = {.list = NULL};
	struct push_object *self = NULL;

	if (core == NULL ||
	    !PyArg_ParseTupleAndKeywords(args, kwargs, "O!|$OOnnO:Push", names, core->bus, &bus,
		&heartbeat, &retry, &max_pages, &history, &remember) ||
	    (heartbeat != NULL && seconds_ms(heartbeat, "heartbeat", &heartbeat_ms) < 0) ||
	    (retry != NULL && seconds_ms(retry, "retry", &retry_ms) < 0) ||
	    size_between(max_pages, UINT32_MAX, "max_pages") < 0 ||
	    size_between(history, UINT32_MAX, "history") < 0 ||
	    (remember != NULL && texts_begin(core, remember, &texts) < 0))
		goto end;
	self = (struct push_object *)type->tp_alloc(type, 0);
	if (self == NULL)
		goto end;
	self->core = core;
	self->last = &self->first;
	self->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	gate_open(&self->gate);
	self->bell = bus__fd_above_std(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	cfg.heartbeat_ms = heartbeat_ms < 0 ? 0 : (uint32_t)heartbeat_ms;
	cfg.retry_ms = retry_ms < 0 ? 0 : (uint32_t)retry_ms;
	cfg.max_pages = (uint32_t)max_pages;
	cfg.history = (uint32_t)history;
	cfg.remember = texts.list;
	cfg.remember_count = texts.count;
	cfg.arg = self;
	if (self->bell < 0) {
		err = BUS_E_SYS;
	} else {
		Py_BEGIN_ALLOW_THREADS err = bus_object_push(bus, &cfg, &self->push);
		Py_END_ALLOW_THREADS
	}
	if (err < 0) {
		error_raise(core, err, ABOUT_NAME, NULL);
		Py_CLEAR(self);
	}
end:
	texts_end(&texts);
	return (PyObject *)self;
}

static void
push_dealloc(struct push_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	if (self->push != NULL)
		end(self, 0);
	/* In a forked child the lock may stay held for ever, and the list may be half changed. */
	if (!gate_forked(&self->gate))
		drop(self->first);
	if (self->bell >= 0)
		bus__fd_close(self->bell);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyGetSetDef push_getset[] = {
    {"closed", (getter)push_closed, NULL, "True after close(), and in a forked child.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef push_methods[] = {
    {"add", (PyCFunction)(void (*)(void))push_add, METH_VARARGS | METH_KEYWORDS, push_add_doc},
    {"questions", (PyCFunction)push_questions, METH_VARARGS, push_questions_doc},
    {"answer", (PyCFunction)push_answer, METH_VARARGS, push_answer_doc},
    {"remove", (PyCFunction)push_remove, METH_O, push_remove_doc},
    {"stats", (PyCFunction)push_stats, METH_NOARGS, push_stats_doc},
    {"page_stats", (PyCFunction)push_page_stats, METH_O, push_page_stats_doc},
    {"close", (PyCFunction)push_close, METH_VARARGS, push_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot push_slots[] = {
    {Py_tp_doc, "The pages of a bus in this process: sockets that the library serves."},
    {Py_tp_new, push_new},
    {Py_tp_dealloc, push_dealloc},
    {Py_tp_getset, push_getset},
    {Py_tp_methods, push_methods},
    {0, NULL},
};

PyType_Spec push_spec = {
    .name = "libbus._core.Push",
    .basicsize = sizeof(struct push_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = push_slots,
};
