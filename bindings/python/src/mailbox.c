/* mailbox.c: libbus._core.Mailbox, drained by its callers: recv() for subscriptions, calls.c and
 * work.c for callbacks. */
#include "core.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "gate.h"

/* Messages in one batch: enough to share the costs of a wake-up, few enough to stay fair. */
#define BATCH MAILBOX_BATCH

/* The longest time until a receiver of a group notices the first filter that another thread adds to it. */
#define SLICE_MS 50

/* A callback's subscription. Python keeps the callback under the key; C never sees it. */
struct binding {
	struct binding *next;
	struct mailbox_object *mailbox;
	struct bus_sub *sub;
	unsigned long long key;
};

/* A filter of recv(). */
struct receiving {
	struct receiving *next;
	struct mailbox_object *mailbox;
	struct bus_sub *sub;
	char filter[];
};

struct mailbox_object {
	PyObject_HEAD struct core *core;
	PyObject *reader; /* makes the values of recv()'s messages, or NULL */
	unsigned burst;   /* messages that `async for` got without a pause */
	bool
	    grouped; /* shares a queue, whose descriptor may be readable because of other members */
	struct gate gate;
	struct bus_mailbox *mbox;
	pthread_mutex_t drain; /* one drainer at a time; guards all below */
	struct binding *bindings;
	struct receiving *receiving; /* the latest first */
	struct taken_batch batch;
	struct letter **received; /* destination of recv()'s message; NULL: no recv() runs */
	bool out_of_memory;       /* no memory for that message */
	int bell; /* epoll over the mailbox's own fd and `ended`, returned by fileno(); -1: not made yet */
	int ended; /* eventfd, readable once this mailbox is closed */
};

static PyObject *
raise_of(struct mailbox_object *self, int err)
{
	return error_raise(self->core, err, ABOUT_NAME, NULL);
}

/* Names the argument that this kind of bus does not support: start on a private bus, full and group on a named one. */
static void
raise_not_supported(
    struct core *core, PyObject *bus, PyObject *full, PyObject *start, PyObject *group)
{
	bool named = bus_object_is_named(bus), grouped = group != Py_None;
	PyObject *subject = named && grouped ? PyUnicode_FromFormat("group=%R", group)
			    : named ? PyUnicode_FromFormat("full=%R", full != NULL ? full : Py_None)
				    : PyUnicode_FromFormat("start=%R", start);

	if (subject == NULL)
		return;
	error_raise_because(core, BUS_E_NOTSUP, ABOUT_NAME, subject,
	    named && grouped
		? "groups are for a private bus. On a named bus let one process take bus.role() and share the work "
		  "among its threads: with workers=, or with one Subscription that all of them drain"
	    : named
		? "not on a named bus, where no reader may block a writer: use drop_oldest or latest"
		: "a private bus has no log: give the bus a name, or publish with retain=True");
	Py_DECREF(subject);
}

static void
raise_not_opened(struct core *core, int err, PyObject *group)
{
	PyObject *subject = group == Py_None ? NULL : PyUnicode_FromFormat("group %U", group);

	if (subject != NULL || group == Py_None)
		error_raise(core, err, ABOUT_NAME, subject);
	Py_XDECREF(subject);
}

static PyObject *
mailbox_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static const char *const policies[] = {
	    [BUS_FULL_DROP_OLDEST] = "drop_oldest",
	    [BUS_FULL_DROP_NEWEST] = "drop_newest",
	    [BUS_FULL_LATEST] = "latest",
	    [BUS_FULL_REFUSE] = "refuse",
	    NULL,
	};
	static char *names[] = {"bus", "full", "max_bytes", "start", "group", "reader", NULL};
	struct core *core = core_of_type(type);
	PyObject *bus, *full = NULL, *start = Py_None, *group = Py_None, *reader = Py_None;
	Py_ssize_t bytes = 0;
	struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_CALLER};
	struct mailbox_object *self;
	int err;

	if (core == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!|$OnOOO:Mailbox", names,
				core->bus, &bus, &full, &bytes, &start, &group, &reader))
		return NULL;
	if (start_of(start, &cfg.from, &cfg.from_value, &cfg.from_epoch) < 0)
		return NULL;
	if (size_between(bytes, SIZE_MAX, "max_bytes") < 0)
		return NULL;
	cfg.bytes = (size_t)bytes;
	cfg.full = full == NULL ? BUS_FULL_DROP_OLDEST : choice(full, policies, "full");
	if (cfg.full < 0)
		return NULL;

	if (group != Py_None) {
		cfg.group = text_of(core, group, ABOUT_NAME);
		if (cfg.group == NULL)
			return NULL;
	}

	self = (struct mailbox_object *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->core = core;
	self->grouped = cfg.group != NULL;
	self->reader = reader != Py_None ? Py_NewRef(reader) : NULL;
	gate_open(&self->gate);
	self->drain = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	self->bell = self->ended = -1;
	err = bus_object_mailbox(bus, &cfg, &self->mbox);
	if (err < 0) {
		if (err == BUS_E_NOTSUP)
			raise_not_supported(core, bus, full, start, group);
		else
			raise_not_opened(core, err, group);
		Py_DECREF(self);
		return NULL;
	}
	return (PyObject *)self;
}

/* Enters the gate and becomes the only drainer. */
static int
drain_begin(struct mailbox_object *self)
{
	int err = gate_enter(&self->gate);

	if (err == 0)
		pthread_mutex_lock(&self->drain);
	return err;
}

static void
drain_end(struct mailbox_object *self)
{
	pthread_mutex_unlock(&self->drain);
	gate_leave(&self->gate);
}

/* --- filters ---------------------------------------------------------------------------------------------- */

static void received(void *arg, const struct bus_msg *msg);

PyDoc_STRVAR(
    mailbox_subscribe_doc, "subscribe($self, topic_filter, /)\n--\n\nMessages for recv().");

static int
receive(struct mailbox_object *self, const char *filter)
{
	size_t len = strlen(filter);
	struct receiving *receiving = PyMem_RawMalloc(sizeof *receiving + len + 1);
	int err = BUS_E_NOMEM;

	if (receiving == NULL)
		return err;
	memcpy(receiving->filter, filter, len + 1);
	receiving->mailbox = self;
	err = drain_begin(self);
	if (err < 0)
		goto free_receiving;
	err = bus_mailbox_subscribe(self->mbox, filter, received, receiving, &receiving->sub);
	if (err == 0) {
		receiving->next = self->receiving;
		self->receiving = receiving;
	}
	drain_end(self);
	if (err == 0)
		return 0;
free_receiving:
	PyMem_RawFree(receiving);
	return err;
}

/* Drainer only. Removes a filter; NULL: all filters. Returns whether it removed one. */
static bool
drop_receiving(struct mailbox_object *self, const char *filter)
{
	struct receiving **at = &self->receiving;
	bool found = false;

	while (*at != NULL) {
		struct receiving *receiving = *at;

		if (filter != NULL && strcmp(receiving->filter, filter) != 0) {
			at = &receiving->next;
			continue;
		}
		found = true;
		*at = receiving->next;
		bus_unsubscribe(receiving->sub, NULL);
		PyMem_RawFree(receiving);
	}
	return found;
}

static PyObject *
mailbox_subscribe(struct mailbox_object *self, PyObject *filter)
{
	const char *text = text_of(self->core, filter, ABOUT_FILTER);
	int err;

	if (text == NULL)
		return NULL;
	err = receive(self, text);
	if (err < 0)
		return error_raise(self->core, err, ABOUT_FILTER, filter);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(mailbox_unsubscribe_doc,
    "unsubscribe($self, topic_filter, /)\n--\n\n"
    "Ends a filter of subscribe(). Its messages that still wait are counted as lost (unsubscribed).\n"
    "\n"
    "Raises:\n"
    "    ValueError: The subscription has no such filter.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
mailbox_unsubscribe(struct mailbox_object *self, PyObject *filter)
{
	const char *text = text_of(self->core, filter, ABOUT_FILTER);
	bool found;
	int err;

	if (text == NULL)
		return NULL;
	err = drain_begin(self);
	if (err < 0)
		return error_raise(self->core, err, ABOUT_FILTER, filter);
	found = drop_receiving(self, text);
	drain_end(self);
	if (found)
		Py_RETURN_NONE;
	PyErr_Format(PyExc_ValueError,
	    "%R: not a filter of this subscription: give a subscribed one", filter);
	return NULL;
}

static void collect(void *arg, const struct bus_msg *msg);

static int
attach(struct mailbox_object *self, const char *filter, unsigned long long key)
{
	struct binding *binding = PyMem_RawCalloc(1, sizeof *binding);
	int err = BUS_E_NOMEM;

	if (binding == NULL)
		return err;
	binding->mailbox = self;
	binding->key = key;
	err = drain_begin(self);
	if (err < 0)
		goto free_binding;
	err = bus_mailbox_subscribe(self->mbox, filter, collect, binding, &binding->sub);
	if (err == 0) {
		binding->next = self->bindings;
		self->bindings = binding;
	}
	drain_end(self);
	if (err == 0)
		return 0;
free_binding:
	PyMem_RawFree(binding);
	return err;
}

PyDoc_STRVAR(mailbox_attach_doc,
    "_attach($self, topic_filter, key, /)\n--\n\nMessages for callbacks, under the key.");

static PyObject *
mailbox_attach(struct mailbox_object *self, PyObject *args)
{
	unsigned long long key;
	PyObject *filter;
	const char *text;
	int err;

	if (!PyArg_ParseTuple(args, "OK:_attach", &filter, &key))
		return NULL;
	text = text_of(self->core, filter, ABOUT_FILTER);
	if (text == NULL)
		return NULL;
	err = attach(self, text, key);
	if (err < 0)
		return error_raise(self->core, err, ABOUT_FILTER, filter);
	Py_RETURN_NONE;
}

/* Drainer only: no collect() runs, so the unsubscribe does not wait for one. */
static void
drop_bindings(struct mailbox_object *self, bool all, unsigned long long key)
{
	struct binding **at = &self->bindings;

	while (*at != NULL) {
		struct binding *binding = *at;

		if (!all && binding->key != key) {
			at = &binding->next;
			continue;
		}
		*at = binding->next;
		bus_unsubscribe(binding->sub, NULL);
		PyMem_RawFree(binding);
	}
}

PyDoc_STRVAR(mailbox_detach_doc, "_detach($self, key, /)\n--\n\nEnds the filters of a key.");

static PyObject *
mailbox_detach(struct mailbox_object *self, PyObject *arg)
{
	unsigned long long key = PyLong_AsUnsignedLongLong(arg);
	int err;

	if (PyErr_Occurred())
		return NULL;
	err = drain_begin(self);
	if (err < 0)
		return raise_of(self, err);
	drop_bindings(self, false, key);
	drain_end(self);
	Py_RETURN_NONE;
}

/* --- waiting ---------------------------------------------------------------------------------------------- */

static int
watch(int bell, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(bell, EPOLL_CTL_ADD, fd, &event);
}

/* Drainer only. The mailbox's own fd ends with the mailbox. The bell outlives it, so close() can wake
 * waiting threads and event loops. */
static int
bell(struct mailbox_object *self)
{
	int fd, bell = -1, ended = -1;

	if (self->bell >= 0)
		return self->bell;
	fd = bus_mailbox_fd(self->mbox);
	if (fd < 0)
		return fd;
	bell = bus__fd_above_std(epoll_create1(EPOLL_CLOEXEC));
	ended = bus__fd_above_std(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (bell < 0 || ended < 0 || watch(bell, fd) < 0 || watch(bell, ended) < 0)
		goto close_both;
	self->bell = bell;
	self->ended = ended;
	return bell;

close_both:
	if (ended >= 0)
		close(ended);
	if (bell >= 0)
		close(bell);
	return BUS_E_SYS;
}

PyDoc_STRVAR(mailbox_fileno_doc,
    "fileno($self, /)\n--\n\n"
    "Returns a descriptor for select, poll and event loops: readable while a message waits, and after the end.\n"
    "\n"
    "Only wait on it: do not read, write or close it. Then call recv_nowait() until it returns None.\n"
    "\n"
    "Threads: any. Blocks: never.");

static PyObject *
mailbox_fileno(struct mailbox_object *self, PyObject *unused)
{
	int fd = drain_begin(self);

	(void)unused;
	if (fd == 0) {
		fd = bell(self);
		drain_end(self);
	}
	return fd < 0 ? raise_of(self, fd) : PyLong_FromLong(fd);
}

/* Returns the descriptor to wait for, and shortens the timeout if need be. Under the lock. */
static int
waited_fd(struct mailbox_object *self, int *timeout)
{
	int fd = bell(self);

	/* Without a filter the messages in the group's queue are for other members. */
	if (self->grouped && self->receiving == NULL && self->bindings == NULL && fd >= 0) {
		fd = self->ended;
		*timeout = *timeout < 0 || *timeout > SLICE_MS ? SLICE_MS : *timeout;
	}
	return fd;
}

/* Waits for the bell, or a signal. 0 or BUS_E_*. Without the GIL, inside the gate: close() waits until
 * no thread polls the descriptors. */
static int
wait_for_bell(struct mailbox_object *self, int timeout)
{
	struct pollfd polled = {.events = POLLIN};
	int err = drain_begin(self);

	if (err < 0)
		return err;
	polled.fd = waited_fd(self, &timeout);
	pthread_mutex_unlock(&self->drain);
	/* close() shuts the gate, then rings under the lock: either it rings this bell, or we see the shut gate. */
	if (polled.fd < 0)
		err = polled.fd;
	else if (gate_is_shut(&self->gate))
		err = BUS_E_CLOSED;
	else if (poll(&polled, 1, timeout) < 0 && errno != EINTR)
		err = BUS_E_SYS;
	gate_leave(&self->gate);
	return err;
}

/* The same in a greenlet, outside the gate: inside, a close() by another greenlet of this thread would deadlock. The caller's
 * reference keeps the descriptors open. 1: waited; 0: the thread must wait; BUS_E_*, or -1 with *ret_raised. */
static int
wait_for_bell_in_greenlet(struct mailbox_object *self, int timeout, bool *ret_raised)
{
	int done = greenlets_are_known(self->core), fd;

	if (done > 0) {
		fd = drain_begin(self);
		if (fd < 0)
			return fd;
		fd = waited_fd(self, &timeout);
		drain_end(self);
		if (fd < 0)
			return fd;
		if (gate_is_shut(&self->gate))
			return BUS_E_CLOSED;
		done = wait_in_greenlet(self->core, fd, timeout);
	}
	*ret_raised = done < 0;
	return done;
}

/* Returns 1 if this thread runs an asyncio event loop, which a wait would block, else 0; -1 with an exception. */
static int
runs_a_loop(void)
{
	PyObject *name = PyUnicode_FromString("_asyncio"), *asyncio, *loop;
	int runs;

	if (name == NULL)
		return -1;
	asyncio = PyImport_GetModule(name); /* not imported: no loop runs */
	Py_DECREF(name);
	if (asyncio == NULL)
		return PyErr_Occurred() ? -1 : 0;
	loop = PyObject_CallMethod(asyncio, "_get_running_loop", NULL);
	Py_DECREF(asyncio);
	runs = loop == NULL ? -1 : loop != Py_None;
	Py_XDECREF(loop);
	return runs;
}

/* --- recv: one message -------------------------------------------------------------------------------------- */

/* Runs inside bus_dispatch(), once per matching filter, and runs no Python. It copies the payload straight into Python's memory:
 * bus_recv() would first copy it out of the log. */
static void
received(void *arg, const struct bus_msg *msg)
{
	struct mailbox_object *self = ((struct receiving *)arg)->mailbox;

	if (self->received == NULL || *self->received != NULL)
		return;
	*self->received = letter_copy_with_gil(msg);
	self->out_of_memory = *self->received == NULL;
}

/* Takes a message if one waits. 1, 0 or BUS_E_*. With the GIL. */
static int
next_letter(struct mailbox_object *self, struct letter **ret_letter)
{
	int got = drain_begin(self);

	if (got < 0)
		return got;
	*ret_letter = NULL;
	self->received = ret_letter;
	self->out_of_memory = false;
	/* Skip messages whose filter was unsubscribed. */
	do
		got = bus_dispatch(self->mbox, 0, 1);
	while (got > 0 && *ret_letter == NULL && !self->out_of_memory);
	self->received = NULL;
	if (*ret_letter != NULL)
		got = 1;
	else if (self->out_of_memory)
		got = BUS_E_NOMEM;
	drain_end(self);
	return got;
}

/* Raises StateError if a wait would block an event loop. */
static bool
may_not_wait(struct mailbox_object *self)
{
	int runs = runs_a_loop();

	if (runs > 0)
		error_raise_because(self->core, BUS_E_STATE, ABOUT_NAME, NULL,
		    "waiting here would block the event loop: use `async for msg in subscription` or `await "
		    "anext(subscription)`; recv_nowait() does not wait");
	return runs != 0;
}

/* Waits for a message. 1; 0: none in time; BUS_E_*; -1 with *ret_raised: it must not wait, or a signal handler raised. */
static int
wait_for_letter(struct mailbox_object *self, int ms, struct letter **ret_letter, bool *ret_raised)
{
	int got = next_letter(self, ret_letter); /* usually one waits, and the clock is not read */
	int64_t deadline;

	if (got != 0 || ms == 0)
		return got;
	if (may_not_wait(self)) {
		*ret_raised = true;
		return -1;
	}
	deadline = bus__deadline_ns(ms);
	for (;; got = next_letter(self, ret_letter)) {
		int left = bus__left_ms(deadline);

		if (got != 0 || left == 0)
			return got;
		got = wait_for_bell_in_greenlet(self, left, ret_raised);
		if (got < 0)
			return got;
		if (got > 0)
			continue;
		Py_BEGIN_ALLOW_THREADS got = wait_for_bell(self, left);
		Py_END_ALLOW_THREADS if (got < 0) return got;
		*ret_raised = PyErr_CheckSignals() < 0;
		if (*ret_raised)
			return -1;
	}
}

PyDoc_STRVAR(mailbox_recv_doc,
    "recv($self, timeout=None)\n--\n\n"
    "Waits for the next message and returns it.\n"
    "\n"
    "Args:\n"
    "    timeout: Seconds to wait. None: no limit; 0: do not wait.\n"
    "\n"
    "Raises:\n"
    "    BusTimeoutError: No message arrived in time.\n"
    "    ClosedError: The subscription or its bus has ended.\n"
    "    StateError: The wait would block a running event loop: use `await anext(subscription)`.\n"
    "    TransportError: The log of the named bus is damaged.\n"
    "\n"
    "Threads: any; of several threads in recv() one gets the message. Blocks: up to timeout, without the GIL; Ctrl-C ends the wait.");

/* Parses timeout, by position or by name. */
static PyObject *
mailbox_recv(
    struct mailbox_object *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
	Py_ssize_t named = keywords != NULL ? PyTuple_GET_SIZE(keywords) : 0;
	struct letter *letter = NULL;
	bool raised = false;
	int ms, got;

	if (count + named > 1 ||
	    (named == 1 &&
		PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "timeout") != 0)) {
		PyErr_SetString(PyExc_TypeError, "recv() takes one argument, timeout, in seconds");
		return NULL;
	}
	if (timeout_ms(count + named == 1 ? args[0] : Py_None, &ms) < 0)
		return NULL;
	got = wait_for_letter(self, ms, &letter, &raised);
	if (got == 1)
		return message_new(self->core, letter, self->reader);
	if (raised)
		return NULL;
	return raise_of(self, got == 0 ? BUS_E_TIMEDOUT : got);
}

PyDoc_STRVAR(mailbox_recv_nowait_doc, "recv_nowait($self, /)\n--\n\n"
				      "Returns the next message, or None if none waits.\n"
				      "\n"
				      "Raises:\n"
				      "    ClosedError: The subscription or its bus has ended.\n"
				      "\n"
				      "Threads: any. Blocks: never.");

static PyObject *
mailbox_recv_nowait(struct mailbox_object *self, PyObject *unused)
{
	struct letter *letter = NULL;
	int got = next_letter(self, &letter);

	(void)unused;
	if (got < 0)
		return raise_of(self, got);
	if (got == 0)
		Py_RETURN_NONE;
	return message_new(self->core, letter, self->reader);
}

PyObject *
mailbox_next_now(PyObject *mailbox, bool *ret_turn_is_over)
{
	struct mailbox_object *self = (struct mailbox_object *)mailbox;
	struct letter *letter = NULL;
	int got;

	*ret_turn_is_over = ++self->burst % BATCH == 0;
	if (*ret_turn_is_over)
		return NULL;
	got = next_letter(self, &letter);
	if (got == 1)
		return message_new(self->core, letter, self->reader);
	self->burst = 0;
	if (got == BUS_E_CLOSED)
		PyErr_SetNone(PyExc_StopAsyncIteration);
	else if (got < 0)
		raise_of(self, got);
	return NULL;
}

/* async for msg in …: until the end. */
static PyObject *
mailbox_anext(struct mailbox_object *self)
{
	return next_new(self->core, (PyObject *)self);
}

/* for msg in …: until the end. */
static PyObject *
mailbox_next(struct mailbox_object *self)
{
	struct letter *letter = NULL;
	bool raised = false;
	int got = wait_for_letter(self, -1, &letter, &raised);

	if (got == 1)
		return message_new(self->core, letter, self->reader);
	if (raised || got == BUS_E_CLOSED)
		return NULL;
	return raise_of(self, got);
}

/* --- batches: messages with the keys of their callbacks ------------------------------------------------------------- */

static bool
room_for_one(struct taken_batch *batch)
{
	size_t cap = batch->cap == 0 ? BATCH : 2 * batch->cap;
	void *items;

	if (batch->count < batch->cap)
		return true;
	items = PyMem_RawRealloc(batch->items, cap * sizeof *batch->items);
	if (items == NULL)
		return false;
	batch->items = items;
	batch->cap = cap;
	return true;
}

/* Runs inside bus_dispatch(), once per matching filter, and never touches Python. */
static void
collect(void *arg, const struct bus_msg *msg)
{
	struct binding *binding = arg;
	struct taken_batch *batch = &binding->mailbox->batch;

	/* Two filters of one callback may match: it is called once. */
	for (size_t i = batch->count; i > 0 && batch->items[i - 1].letter == batch->letter; i--)
		if (batch->items[i - 1].key == binding->key)
			return;
	if (room_for_one(batch) && batch->letter == NULL)
		batch->letter = batch->with_gil ? letter_copy_with_gil(msg) : letter_copy(msg);
	if (batch->letter == NULL || batch->count == batch->cap) {
		batch->out_of_memory = true;
		return;
	}
	batch->items[batch->count].letter = batch->letter;
	batch->items[batch->count].key = binding->key;
	batch->count++;
}

int
mailbox_take_batch(PyObject *mailbox, unsigned most, bool with_gil, struct taken_batch *ret_batch)
{
	struct mailbox_object *self = (struct mailbox_object *)mailbox;
	int got = drain_begin(self);

	if (got < 0)
		return got;
	self->batch.with_gil = with_gil;
	for (unsigned i = 0; i < most; i++) {
		self->batch.letter = NULL;
		got = bus_dispatch(self->mbox, 0, 1);
		if (got <= 0)
			break;
	}
	*ret_batch = self->batch;
	self->batch = (struct taken_batch){0};
	drain_end(self);
	/* Taken messages are delivered, even if the bus has ended since. */
	return ret_batch->count > 0 || got > 0 ? 0 : got;
}

int
mailbox_take_letters(PyObject *mailbox, unsigned most, struct letter **ret_letters)
{
	struct taken_batch batch = {0};
	int count = 0, err = mailbox_take_batch(mailbox, most, false, &batch);

	if (err < 0)
		return err;
	for (size_t i = 0; i < batch.count; i++)
		if (i == 0 || batch.items[i].letter != batch.items[i - 1].letter)
			ret_letters[count++] = batch.items[i].letter;
	PyMem_RawFree(batch.items);
	return count == 0 && batch.out_of_memory ? BUS_E_NOMEM : count;
}

PyDoc_STRVAR(mailbox_take_doc,
    "_take($self, /)\n--\n\n"
    "Takes up to 64 waiting messages of attached filters, without their keys. Never waits.");

static PyObject *
mailbox_take(struct mailbox_object *self, PyObject *unused)
{
	struct letter *letters[MAILBOX_BATCH];
	int count = mailbox_take_letters((PyObject *)self, MAILBOX_BATCH, letters);
	PyObject *list;

	(void)unused;
	if (count < 0)
		return raise_of(self, count);
	list = PyList_New(count);
	for (int i = 0; i < count; i++) {
		PyObject *msg = message_new(self->core, letters[i], NULL);

		if (msg == NULL)
			Py_CLEAR(list);
		if (list != NULL)
			PyList_SET_ITEM(list, i, msg);
		else
			Py_XDECREF(msg);
	}
	return list;
}

int
mailbox_wait(PyObject *mailbox, int timeout)
{
	return wait_for_bell((struct mailbox_object *)mailbox, timeout);
}

int
mailbox_reached(PyObject *mailbox, uint64_t *ret_reached, bool *ret_nothing_waits)
{
	struct mailbox_object *self = (struct mailbox_object *)mailbox;
	int got = gate_enter(&self->gate);

	if (got < 0)
		return got;
	got = bus_mailbox_reached(self->mbox, ret_reached);
	gate_leave(&self->gate);
	*ret_nothing_waits = got > 0;
	return got < 0 ? got : 0;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(mailbox_stats_doc,
    "stats($self, /)\n--\n\n"
    "Returns the counters: offered == delivered + lost + refused + pending, exactly; lost_by has the causes.\n"
    "\n"
    "Threads: any; also after close(). Blocks: never.");

static PyObject *
mailbox_stats(struct mailbox_object *self, PyObject *unused)
{
	struct bus_stats stats = {.size = sizeof stats};
	int err = gate_enter(&self->gate);

	(void)unused;
	if (err == 0) {
		err = bus_mailbox_stats(self->mbox, &stats);
		gate_leave(&self->gate);
	}
	return err < 0 ? raise_of(self, err) : stats_dict(&stats);
}

static void
end(struct mailbox_object *self)
{
	if (!gate_shut(&self->gate))
		return;
	Py_BEGIN_ALLOW_THREADS pthread_mutex_lock(&self->drain);
	if (self->ended >= 0)
		eventfd_write(self->ended, 1); /* cannot block: the counter is 0 */
	pthread_mutex_unlock(&self->drain);
	gate_wait(&self->gate);
	drop_bindings(self, true, 0);
	drop_receiving(self, NULL);
	bus_mailbox_close(self->mbox);
	Py_END_ALLOW_THREADS self->mbox = NULL;
}

PyDoc_STRVAR(mailbox_close_doc,
    "close($self, /)\n--\n\n"
    "Ends the subscription. Messages it still holds are counted as lost. recv() on other threads raises ClosedError; loops over it end.\n"
    "\n"
    "Threads: any; also signal handlers and finalizers. Blocks: never.");

static PyObject *
mailbox_close(struct mailbox_object *self, PyObject *unused)
{
	(void)unused;
	end(self);
	Py_RETURN_NONE;
}

static PyObject *
mailbox_closed(struct mailbox_object *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(gate_is_shut(&self->gate));
}

static int
mailbox_traverse(struct mailbox_object *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->reader);
	return 0;
}

static void
mailbox_dealloc(struct mailbox_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (self->mbox != NULL)
		end(self);
	if (self->ended >= 0)
		close(self->ended);
	if (self->bell >= 0)
		close(self->bell);
	Py_XDECREF(self->reader);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyGetSetDef mailbox_getset[] = {
    {"closed", (getter)mailbox_closed, NULL, "True after close(), and in a forked child.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(mailbox_goal_doc,
    "_goal($self, /)\n--\n\n"
    "Returns the value that _reached() has once all messages that wait now are taken. Reads each message.");

static PyObject *
mailbox_goal(struct mailbox_object *self, PyObject *unused)
{
	struct bus_stats stats = {.size = sizeof stats};
	int err = gate_enter(&self->gate);

	(void)unused;
	if (err == 0) {
		err = bus_mailbox_stats(self->mbox, &stats);
		gate_leave(&self->gate);
	}
	return err < 0 ? raise_of(self, err) : PyLong_FromUnsignedLongLong(stats.goal);
}

PyDoc_STRVAR(mailbox_reached_doc,
    "_reached($self, /)\n--\n\n"
    "Returns (how far the mailbox has been drained, whether it is empty).");

static PyObject *
mailbox_tell_reached(struct mailbox_object *self, PyObject *unused)
{
	bool nothing_waits = false;
	uint64_t reached = 0;
	int err = mailbox_reached((PyObject *)self, &reached, &nothing_waits);

	(void)unused;
	if (err < 0)
		return raise_of(self, err);
	return Py_BuildValue("KO", (unsigned long long)reached, nothing_waits ? Py_True : Py_False);
}

static PyMethodDef mailbox_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"_goal", (PyCFunction)mailbox_goal, METH_NOARGS, mailbox_goal_doc},
    {"_reached", (PyCFunction)mailbox_tell_reached, METH_NOARGS, mailbox_reached_doc},
    {"subscribe", (PyCFunction)mailbox_subscribe, METH_O, mailbox_subscribe_doc},
    {"unsubscribe", (PyCFunction)mailbox_unsubscribe, METH_O, mailbox_unsubscribe_doc},
    {"_attach", (PyCFunction)mailbox_attach, METH_VARARGS, mailbox_attach_doc},
    {"_detach", (PyCFunction)mailbox_detach, METH_O, mailbox_detach_doc},
    {"recv", (PyCFunction)(void (*)(void))mailbox_recv, METH_FASTCALL | METH_KEYWORDS,
	mailbox_recv_doc},
    {"recv_nowait", (PyCFunction)mailbox_recv_nowait, METH_NOARGS, mailbox_recv_nowait_doc},
    {"_take", (PyCFunction)mailbox_take, METH_NOARGS, mailbox_take_doc},
    {"fileno", (PyCFunction)mailbox_fileno, METH_NOARGS, mailbox_fileno_doc},
    {"stats", (PyCFunction)mailbox_stats, METH_NOARGS, mailbox_stats_doc},
    {"close", (PyCFunction)mailbox_close, METH_NOARGS, mailbox_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mailbox_slots[] = {
    {Py_tp_doc, "A bounded queue of one bus, with one policy and one bound."},
    {Py_tp_new, mailbox_new},
    {Py_tp_dealloc, mailbox_dealloc},
    {Py_tp_traverse, mailbox_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, mailbox_next},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, mailbox_anext},
    {Py_tp_getset, mailbox_getset},
    {Py_tp_methods, mailbox_methods},
    {0, NULL},
};

PyType_Spec mailbox_spec = {
    .name = "libbus._core.Mailbox",
    .basicsize = sizeof(struct mailbox_object),
    .flags =
	Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = mailbox_slots,
};
