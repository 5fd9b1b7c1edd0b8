/* work.c: libbus._core.Work, the messages of one mailbox for several Python threads, in order per topic.
 *
 *     mailbox ──► queue ──► one message for each worker
 *
 * A worker asks for its next message and gets the oldest in the queue whose topic no other worker handles, so messages of one topic
 * are handled one after the other, in order. Of the workers that find none, one, the fetcher, waits on the mailbox and fills the
 * queue; the others sleep on `news`. The queue is short: further messages wait in the mailbox, under its bound and policy.
 *
 * The lock is held briefly, never while Python runs or a thread waits for the GIL, so a worker may take it with the GIL. Messages are
 * picked with the GIL: none is picked after close() has returned. */
#include "core.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fork.h"

#define WORKERS_MOST 256

/* The longest delay of Ctrl-C in a flush. */
#define SLICE_NS INT64_C(50000000)

struct task {
	struct task *next;
	struct letter *letter;
	uint64_t before; /* how far the mailbox had been read before this message was taken */
};

struct work_object {
	PyObject_HEAD struct core *core;
	PyObject *mailbox; /* a libbus._core.Mailbox */
	pthread_mutex_t lock;
	_Atomic uint32_t news;    /* signalled when a sleeping worker may have work */
	_Atomic uint32_t handled; /* the same for a flush */
	struct task *first, **last;
	struct task **busy; /* by worker; NULL: it is idle */
	unsigned workers, queued, flushing;
	bool fetches; /* a worker waits on the mailbox */
	bool
	    takes; /* it holds messages that are not in the queue yet; `taken_before` as in a task */
	bool ended;
	int err; /* why; 0: close() */
	uint64_t taken_before;
	uint32_t generation;
};

/* --- under the lock ------------------------------------------------------------------------------------------- */

static void
tell(_Atomic uint32_t *word, bool all)
{
	atomic_fetch_add(word, 1);
	if (all)
		bus__unpark(word);
	else
		bus__unpark_one(word);
}

static bool
is_busy(const struct work_object *self, const char *topic)
{
	for (unsigned i = 0; i < self->workers; i++)
		if (self->busy[i] != NULL &&
		    strcmp(letter_topic(self->busy[i]->letter), topic) == 0)
			return true;
	return false;
}

/* Returns the place in the queue of the first task that may run now. No earlier task of its topic waits: it would be busy, or found
 * first. */
static struct task **
find_task(struct work_object *self)
{
	struct task **at = &self->first;

	while (*at != NULL && is_busy(self, letter_topic((*at)->letter)))
		at = &(*at)->next;
	return *at != NULL ? at : NULL;
}

static bool
wants_fetcher(const struct work_object *self)
{
	return !self->fetches && !self->ended && self->queued < MAILBOX_BATCH;
}

static struct task *
pick(struct work_object *self, unsigned worker)
{
	struct task **at = self->ended ? NULL : find_task(self), *task;

	if (at == NULL)
		return NULL;
	task = *at;
	*at = task->next;
	if (self->last == &task->next)
		self->last = at;
	self->queued--;
	self->busy[worker] = task;
	if (wants_fetcher(self))
		tell(&self->news, false);
	return task;
}

static void
task_free(struct task *task)
{
	if (task != NULL)
		letter_free(task->letter);
	PyMem_RawFree(task);
}

/* The worker has handled its message. */
static struct task *
put_down(struct work_object *self, unsigned worker)
{
	struct task *task = self->busy[worker];

	self->busy[worker] = NULL;
	if (task != NULL && self->flushing > 0)
		tell(&self->handled, true);
	return task;
}

static unsigned
drop_queue(struct work_object *self)
{
	unsigned dropped = self->queued;

	while (self->first != NULL) {
		struct task *task = self->first;

		self->first = task->next;
		task_free(task);
	}
	self->last = &self->first;
	self->queued = 0;
	return dropped;
}

static void
end_for(struct work_object *self, int err)
{
	self->ended = true;
	self->err = err;
	tell(&self->news, true);
	tell(&self->handled, true);
}

/* --- the fetcher ------------------------------------------------------------------------------------------------ */

/* Takes over the letters. Returns the number of messages in the queue. */
static unsigned
enqueue(struct work_object *self, struct letter **letters, unsigned count)
{
	unsigned added = 0;

	for (unsigned i = 0; i < count; i++) {
		struct task *task = self->ended ? NULL : PyMem_RawMalloc(sizeof *task);

		if (task == NULL) {
			letter_free(letters[i]);
			continue;
		}
		*task = (struct task){.letter = letters[i], .before = self->taken_before};
		*self->last = task;
		self->last = &task->next;
		self->queued++;
		added++;
	}
	return added;
}

/* Fills the queue, or waits until the mailbox may have a message. Called with the lock, which it releases while it waits. */
static void
fetch(struct work_object *self)
{
	struct letter *letters[MAILBOX_BATCH];
	unsigned most = MAILBOX_BATCH - self->queued;
	bool nothing_waits;
	int got = mailbox_reached(self->mailbox, &self->taken_before, &nothing_waits);

	self->fetches = true;
	self->takes = true;
	pthread_mutex_unlock(&self->lock);
	if (got == 0)
		got = mailbox_take_letters(self->mailbox, most, letters);
	pthread_mutex_lock(&self->lock);
	if (got > 0)
		for (unsigned added = enqueue(self, letters, (unsigned)got); added > 1; added--)
			tell(&self->news, false); /* one is for the fetcher */
	self->takes = false;
	if (self->flushing > 0)
		tell(&self->handled, true);
	if (got == 0 && !self->ended) {
		pthread_mutex_unlock(&self->lock);
		got = mailbox_wait(self->mailbox, -1);
		pthread_mutex_lock(&self->lock);
	}
	self->fetches = false;
	if (got < 0 && got != BUS_E_NOMEM && !self->ended)
		end_for(self, got == BUS_E_CLOSED ? 0 : got);
}

/* Sleeps until the worker may have work. Without the GIL. */
static void
rest(struct work_object *self)
{
	pthread_mutex_lock(&self->lock);
	while (!self->ended && find_task(self) == NULL) {
		uint32_t seen = atomic_load(&self->news);

		if (wants_fetcher(self)) {
			fetch(self);
			continue;
		}
		pthread_mutex_unlock(&self->lock);
		bus__park(&self->news, seen, INT64_MAX);
		pthread_mutex_lock(&self->lock);
	}
	pthread_mutex_unlock(&self->lock);
}

/* --- next ----------------------------------------------------------------------------------------------------- */

static bool
is_forked(const struct work_object *self)
{
	return self->generation != bus__fork_generation();
}

/* 1: *ret_letter is a reference; 0: not yet; -1: the end. */
static int
try_next(struct work_object *self, unsigned worker, struct letter **ret_letter)
{
	struct task *done, *task;
	bool ended;

	pthread_mutex_lock(&self->lock);
	done = put_down(self, worker);
	task = pick(self, worker);
	if (task != NULL)
		*ret_letter = letter_share(task->letter);
	ended = self->ended;
	pthread_mutex_unlock(&self->lock);
	task_free(done);
	return task != NULL ? 1 : ended ? -1 : 0;
}

PyDoc_STRVAR(work_next_doc,
    "next($self, worker, /)\n--\n\n"
    "Ends the worker's last message and returns its next one; None: the end.");

static PyObject *
work_next(struct work_object *self, PyObject *arg)
{
	unsigned long worker = PyLong_AsUnsignedLong(arg);
	struct letter *letter;
	int got;

	if (PyErr_Occurred())
		return NULL;
	if (worker >= self->workers) {
		PyErr_Format(PyExc_ValueError, "worker %lu of %u", worker, self->workers);
		return NULL;
	}
	if (is_forked(self))
		return error_raise(self->core, BUS_E_FORKED, ABOUT_NAME, NULL);
	while ((got = try_next(self, (unsigned)worker, &letter)) == 0) {
		Py_BEGIN_ALLOW_THREADS rest(self);
		Py_END_ALLOW_THREADS
	}
	if (got == 1)
		return message_new(self->core, letter, NULL);
	if (self->err < 0)
		return error_raise(self->core, self->err, ABOUT_NAME, NULL);
	Py_RETURN_NONE;
}

/* --- flush ------------------------------------------------------------------------------------------------------ */

/* Returns whether every message up to `due` was handled, or dropped in the mailbox. Under the lock. */
static bool
is_handled(const struct work_object *self, uint64_t due)
{
	uint64_t lowest = UINT64_MAX, reached;
	bool nothing_waits;

	if (self->takes)
		lowest = self->taken_before;
	if (self->first != NULL && self->first->before < lowest)
		lowest = self->first->before;
	for (unsigned i = 0; i < self->workers; i++)
		if (self->busy[i] != NULL && self->busy[i]->before < lowest)
			lowest = self->busy[i]->before;
	if (lowest != UINT64_MAX)
		return lowest >= due;
	return mailbox_reached(self->mailbox, &reached, &nothing_waits) < 0 || reached >= due ||
	       nothing_waits;
}

/* 1, or 0: not within the slice. */
static int
flush_slice(struct work_object *self, uint64_t due, int64_t deadline)
{
	int done;

	pthread_mutex_lock(&self->lock);
	self->flushing++;
	for (;;) {
		uint32_t seen = atomic_load(&self->handled);

		done = self->ended || is_handled(self, due);
		if (done || bus__now_ns() >= deadline)
			break;
		pthread_mutex_unlock(&self->lock);
		bus__park(&self->handled, seen, deadline);
		pthread_mutex_lock(&self->lock);
	}
	self->flushing--;
	pthread_mutex_unlock(&self->lock);
	return done;
}

PyDoc_STRVAR(work_flush_doc,
    "flush($self, due, timeout, /)\n--\n\n"
    "Waits until every message before `due`, the mailbox's _goal(), is handled. False: not in time.");

static PyObject *
work_flush(struct work_object *self, PyObject *args)
{
	unsigned long long due;
	PyObject *timeout;
	int64_t deadline;
	int ms, done;

	if (!PyArg_ParseTuple(args, "KO:flush", &due, &timeout) || timeout_ms(timeout, &ms) < 0)
		return NULL;
	if (is_forked(self))
		Py_RETURN_TRUE;
	deadline = bus__deadline_ns(ms);
	do {
		int64_t slice = bus__now_ns() + SLICE_NS;

		Py_BEGIN_ALLOW_THREADS done =
		    flush_slice(self, due, slice < deadline ? slice : deadline);
		Py_END_ALLOW_THREADS if (done == 0 && PyErr_CheckSignals() < 0) return NULL;
	} while (done == 0 && bus__left_ms(deadline) != 0);
	return PyBool_FromLong(done);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
work_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"mailbox", "workers", NULL};
	struct core *core = core_of_type(type);
	struct work_object *self;
	PyObject *mailbox;
	int workers;

	if (core == NULL || !PyArg_ParseTupleAndKeywords(
				args, kwargs, "O!i:Work", names, core->mailbox, &mailbox, &workers))
		return NULL;
	if (workers < 1 || workers > WORKERS_MOST) {
		PyErr_Format(PyExc_ValueError, "workers=%d: give a number from 1 to %d", workers,
		    WORKERS_MOST);
		return NULL;
	}
	self = (struct work_object *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->core = core;
	self->mailbox = Py_NewRef(mailbox);
	self->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	self->last = &self->first;
	self->workers = (unsigned)workers;
	self->generation = bus__fork_generation();
	self->busy = PyMem_RawCalloc((size_t)workers, sizeof(struct task *));
	if (self->busy == NULL) {
		Py_DECREF(self);
		return PyErr_NoMemory();
	}
	return (PyObject *)self;
}

/* Messages in the fetcher's hands are counted too: it hands them over without the GIL and without a wait. */
static void
await_take(struct work_object *self)
{
	self->flushing++;
	while (self->takes) {
		uint32_t seen = atomic_load(&self->handled);

		pthread_mutex_unlock(&self->lock);
		bus__park(&self->handled, seen, INT64_MAX);
		pthread_mutex_lock(&self->lock);
	}
	self->flushing--;
}

PyDoc_STRVAR(work_close_doc,
    "close($self, /)\n--\n\n"
    "Ends next() for all workers. Returns the number of messages it still held. Close the mailbox next: that wakes\n"
    "the worker that waits on it.");

static PyObject *
work_close(struct work_object *self, PyObject *unused)
{
	unsigned dropped = 0;

	(void)unused;
	if (!is_forked(self)) {
		pthread_mutex_lock(&self->lock);
		await_take(self);
		dropped = drop_queue(self);
		end_for(self, 0);
		pthread_mutex_unlock(&self->lock);
	}
	return PyLong_FromUnsignedLong(dropped);
}

static int
work_traverse(struct work_object *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->mailbox);
	return 0;
}

/* No worker is inside: each holds a reference. */
static void
work_dealloc(struct work_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (self->busy != NULL) {
		drop_queue(self);
		for (unsigned i = 0; i < self->workers; i++)
			task_free(self->busy[i]);
	}
	PyMem_RawFree(self->busy);
	Py_XDECREF(self->mailbox);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef work_methods[] = {
    {"next", (PyCFunction)work_next, METH_O, work_next_doc},
    {"flush", (PyCFunction)work_flush, METH_VARARGS, work_flush_doc},
    {"close", (PyCFunction)work_close, METH_NOARGS, work_close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot work_slots[] = {
    {Py_tp_doc, "The messages of a mailbox for several threads, in order per topic."},
    {Py_tp_new, work_new},
    {Py_tp_dealloc, work_dealloc},
    {Py_tp_traverse, work_traverse},
    {Py_tp_methods, work_methods},
    {0, NULL},
};

PyType_Spec work_spec = {
    .name = "libbus._core.Work",
    .basicsize = sizeof(struct work_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = work_slots,
};
