/* core.h: shared by the files of libbus._core.
 *
 * Threads. No thread of libbus runs Python: Python pulls. No lock of this module is held while Python
 * runs or while a thread waits for the GIL, so the two cannot deadlock. Each object guards itself;
 * none relies on the GIL. */
#ifndef LIBBUS_PY_CORE_H
#define LIBBUS_PY_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libbus/libbus.h>

#include "base/park.h"
#include "base/thread.h"

#if PY_VERSION_HEX < 0x030b0000
#define PyType_GetModuleByDef         _PyType_GetModuleByDef
#define PyFloat_Unpack2(data, little) _PyFloat_Unpack2((const unsigned char *)(data), little)
#endif
#if PY_VERSION_HEX < 0x030d0000
#define Py_BEGIN_CRITICAL_SECTION(op) {
#define Py_END_CRITICAL_SECTION()     }
#endif

/* A call that may append to the log of a named bus. The first try never waits and keeps the GIL: most calls need no wait. A call
 * that would wait is repeated without the GIL. */
#define TRY_THEN_RELEASE(err, call)                                                                \
	do {                                                                                       \
		bus__set_may_wait(false);                                                          \
		(err) = (call);                                                                    \
		bus__set_may_wait(true);                                                           \
		if ((err) == BUS__E_WAITS) {                                                       \
			Py_BEGIN_ALLOW_THREADS(err) = (call);                                      \
			Py_END_ALLOW_THREADS                                                       \
		}                                                                                  \
	} while (0)

/* The exceptions, each with its parents besides BusError, and its docstring. */
#define CORE_EXCEPTIONS(X)                                                                         \
	X(CLOSED, "ClosedError", NULL, "The bus, subscription or link has ended.")                 \
	X(FULL, "FullError", NULL, "A mailbox that refuses instead of dropping has no room.")      \
	X(TIMEOUT, "BusTimeoutError", PyExc_TimeoutError, "The timeout ran out.")                  \
	X(STATE, "StateError", PyExc_RuntimeError, "The call is not possible here or now.")        \
	X(FORK, "ForkError", PyExc_RuntimeError, "The bus belongs to the parent process.")         \
	X(LIMIT, "LimitError", NULL, "A configured limit is reached.")                             \
	X(NOT_SUPPORTED, "NotSupportedError", NULL,                                                \
	    "This kind of bus, or this version, does not support the call.")                       \
	X(ARGUMENT, "ArgumentError", PyExc_ValueError, "A value is out of its range.")             \
	X(TOPIC, "TopicError", PyExc_ValueError, "The topic is malformed, or reserved.")           \
	X(FILTER, "FilterError", PyExc_ValueError, "The filter is malformed.")                     \
	X(TOO_BIG, "TooBigError", PyExc_ValueError, "The payload is above the limit of the bus.")  \
	X(ADDRESS, "AddressError", PyExc_ValueError, "The address is malformed, or not allowed.")  \
	X(TRANSPORT, "TransportError", PyExc_OSError, "The system or the peer refused.")           \
	X(NOBODY, "NobodyError", NULL, "No subscriber listens to the topic of the request.")       \
	X(DECODE, "DecodeError", PyExc_ValueError, "The payload does not match its type.")

#define EXCEPTION_ENUM(id, name, parent, doc) EXCEPTION_##id,
enum exception {
	CORE_EXCEPTIONS(EXCEPTION_ENUM) EXCEPTION_COUNT,
	EXCEPTION_MEMORY /* Python's own MemoryError */
};
#undef EXCEPTION_ENUM

/* Names of attributes that are looked up often. Interned: a new str would miss the type's attribute cache, and fill it. */
#define CORE_NAMES(X)                                                                              \
	X(next, "_next")                                                                           \
	X(done, "_done")                                                                           \
	X(may_wait, "_may_wait")                                                                   \
	X(later, "_later")                                                                         \
	X(utcoffset, "utcoffset")

#define NAME_ENUM(id, text) NAME_##id,
enum core_name { CORE_NAMES(NAME_ENUM) NAME_COUNT };
#undef NAME_ENUM

/* Module state. Objects keep a pointer to it: their type keeps the module alive. */
struct core {
	PyTypeObject *bus;
	PyTypeObject *mailbox;
	PyTypeObject *message;
	PyTypeObject *reply;
	PyTypeObject *question;
	PyTypeObject *link;
	PyTypeObject *role;
	PyTypeObject *publisher;
	PyTypeObject *work;
	PyTypeObject *calls;
	PyTypeObject *next;
	PyTypeObject *push;
	PyTypeObject *ext;        /* a msgpack extension: (code, data) */
	PyTypeObject *numbers;    /* the exporter behind a memoryview of an array in a payload */
	PyObject *decimal, *uuid; /* the classes; NULL: not needed yet */
	_Atomic(struct bus_packer *) packer; /* spare packer of packb() */
	struct keys *keys;                   /* keys of maps read so far */
	PyObject *
	    plain; /* turns dataclasses and the like into values that can be packed; NULL: not needed yet */
	PyObject *wait_modules, *wait; /* of _wait_with(); NULL: not called yet */
	PyObject *base;                /* BusError */
	PyObject *exceptions[EXCEPTION_COUNT];
	PyObject *names[NAME_COUNT];
};

extern struct PyModuleDef core_module;

/* Returns the module state of a type of this module or of a subclass. NULL with an exception. */
struct core *core_of_type(PyTypeObject *type);

/* --- errors.c ------------------------------------------------------------------------------------- */

/* The kind of object that an error is about. It decides which attribute of the exception names the object. */
enum about { ABOUT_NAME, ABOUT_TOPIC, ABOUT_FILTER, ABOUT_ADDRESS };

/* Makes the exception of a BUS_E_* code: "<subject>: <text>". subject: str or NULL. */
PyObject *error_new(struct core *core, int err, enum about about, PyObject *subject);

/* Raises that exception. Always NULL. For BUS_E_SYS call it while errno still has the reason. */
PyObject *error_raise(struct core *core, int err, enum about about, PyObject *subject);

/* Raises it with the text why, for a caller that knows which argument is wrong. why NULL: the code's own text. */
PyObject *error_raise_because(
    struct core *core, int err, enum about about, PyObject *subject, const char *why);

/* Adds the exceptions and the table ERRORS to the module. 0 or -1. */
int errors_init(PyObject *module, struct core *core);

/* Borrows the UTF-8 of a topic, filter or address. NULL with an exception. */
const char *text_of(struct core *core, PyObject *text, enum about about);

/* --- arguments, in module.c -------------------------------------------------------------------------- */

/* Returns 1 if a module of _wait_with() is imported, else 0; -1 with an exception. */
int greenlets_are_known(struct core *core);

/* If one is: waits for a descriptor in a greenlet, up to ms milliseconds (-1: no limit). 1: waited; 0: this thread runs no greenlets,
 * so the caller must wait; -1 with an exception. */
int wait_in_greenlet(struct core *core, int fd, int ms);

/* Converts seconds (int, float, or None for no limit, -1) to milliseconds, rounded up. 0, or -1 with an exception that names the
 * argument. */
int seconds_ms(PyObject *seconds, const char *name, int *ret_ms);
int timeout_ms(PyObject *seconds, int *ret_ms); /* the same for the argument timeout */

/* Checks that a size lies between 0 and max. 0, or -1 with an exception that names the argument. */
int size_between(Py_ssize_t size, uint64_t max, const char *name);

/* A converter of arguments: a path as bytes, a new reference, or NULL for None. */
int path_or_none(PyObject *path, void *ret_bytes);

/* Returns the index of text in names, or -1 with a ValueError that lists them. */
int choice(PyObject *text, const char *const *names, const char *argument);

/* Converts start=, a libbus.Start (kind, value, epoch) or None, to the three numbers of struct bus_mailbox_config. 0, or -1 with an
 * exception. */
int start_of(PyObject *start, int *ret_from, uint64_t *ret_value, uint64_t *ret_epoch);

/* {name: number, …} */
PyObject *counters(const char *const *names, const uint64_t *numbers, size_t count);

/* Makes the dict that stats() returns for a mailbox or a bus. */
PyObject *stats_dict(const struct bus_stats *stats);

/* --- value.c ----------------------------------------------------------------------------------------- */

/* Appends a Python value to a payload that value_try() can read. topic may be NULL. name: "value" or "headers".
 * 0, or -1 with an exception that names the topic and the path of the element that cannot be packed. */
int value_pack(struct core *core, struct bus_packer *packer, PyObject *value, PyObject *topic,
    const char *name);

/* The same, without a copy of a large bytes object or array: the packer gets only the head of the payload, *ret_body the rest, to be
 * ended by PyBuffer_Release(). ret_body->obj is NULL if the packer has all of it. */
int value_pack_parts(struct core *core, struct bus_packer *packer, PyObject *value, PyObject *topic,
    Py_buffer *ret_body);

/* packer_take() takes an empty packer out of a slot, or makes one; the caller owns it until packer_give(). NULL with an exception. */
struct bus_packer *packer_take(_Atomic(struct bus_packer *) *spare);
void packer_give(_Atomic(struct bus_packer *) *spare, struct bus_packer *packer);

/* --- read.c ------------------------------------------------------------------------------------------- */

/* The owner of the bytes of arrays; exactly one is set. */
struct owner {
	struct letter *letter;
	PyObject *bytes;
};

/* Reads msgpack bytes. Arrays in the value point into them and keep owner alive. NULL with an exception; NULL without one: the bytes
 * are not valid, and value_refuse() raises the error about topic, which may be NULL. */
PyObject *value_try(struct core *core, const char *data, size_t len, const struct owner *owner);
void value_refuse(struct core *core, const char *data, size_t len, PyObject *topic);

/* Makes Python objects of a payload that is not msgpack. NULL with an exception, about topic, which may be NULL. */
PyObject *value_of_tree(struct core *core, const struct bus_value *value, PyObject *topic);

/* The keys of maps read so far, each once. */
struct keys *keys_new(void);
void keys_free(struct keys *keys);

/* --- numbers.c ---------------------------------------------------------------------------------------- */

/* Makes a memoryview of an array of numbers in a payload. It keeps owner alive. NULL with an exception. */
PyObject *numbers_view(
    struct core *core, const struct bus_numbers *numbers, const struct owner *owner);

/* Fills a Py_buffer for exporter, as flags ask; numbers_release() ends it. 0, or -1 with an exception. */
int numbers_export(
    const struct bus_numbers *numbers, PyObject *exporter, Py_buffer *view, int flags);
void numbers_release(Py_buffer *view);

/* Returns whether msgpack bytes are one array of numbers. */
bool numbers_are_all(const char *data, size_t len, struct bus_numbers *ret_numbers);

/* --- message.c --------------------------------------------------------------------------------------- */

extern const char *const type_names[]; /* by enum bus_type, NULL at the end */

/* A copy of a message. letter_copy() makes and letter_free() frees it without Python. */
struct letter;
struct letter *letter_copy(const struct bus_msg *msg); /* NULL: out of memory */
void letter_free(struct letter *letter);               /* NULL is fine */

/* The same, made and freed with the GIL: a large payload becomes the bytes object of msg.data. Runs no Python code, so the caller may
 * hold a lock. */
struct letter *letter_copy_with_gil(const struct bus_msg *msg);

struct letter *letter_share(
    struct letter *letter); /* another reference, to end with letter_free() */
const char *letter_topic(const struct letter *letter);

/* Makes a libbus.Message of a letter and takes the letter over, also on failure. reader makes its value; may be NULL. */
PyObject *message_new(struct core *core, struct letter *letter, PyObject *reader);

/* The same message with a value of another type. */
PyObject *message_as(PyObject *message, PyObject *reader);

/* Borrows the struct bus_msg of a libbus.Message. */
const struct bus_msg *message_msg(PyObject *message);

/* --- request.c --------------------------------------------------------------------------------------- */

/* Sends a request and waits for the first reply; checks signals while it waits. Returns a libbus.Message, or NULL with an
 * exception about topic. Takes over mbox, which serves this request alone. */
PyObject *request_wait(struct core *core, struct bus_mailbox *mbox, const struct bus_msg *question,
    int timeout_ms, PyObject *topic);

/* Sends a request and returns a _core.Question for its reply. NULL and mbox as above. */
PyObject *request_start(struct core *core, struct bus_mailbox *mbox, const struct bus_msg *question,
    int timeout_ms, PyObject *topic);

/* --- mailbox.c, for work.c and calls.c ----------------------------------------------------------------- */

enum { MAILBOX_BATCH = 64 };

/* Taken messages. Items that share one letter follow each other; the letter is freed once. */
struct taken_batch {
	size_t count, cap;
	struct {
		struct letter *letter;
		unsigned long long key;
	} * items;             /* of PyMem_RawRealloc() */
	struct letter *letter; /* of the message being dispatched */
	bool with_gil;         /* the letters are made and freed with the GIL */
	bool out_of_memory;
};

/* Fills *ret_batch with at most `most` messages of attached filters; with_gil: as in struct taken_batch. 0 or BUS_E_*. Never waits. */
int mailbox_take_batch(
    PyObject *mailbox, unsigned most, bool with_gil, struct taken_batch *ret_batch);

/* Takes at most `most` (up to MAILBOX_BATCH) messages of attached filters. Returns their number, or BUS_E_*. Never waits. */
int mailbox_take_letters(PyObject *mailbox, unsigned most, struct letter **ret_letters);

/* Waits until a message may be there, or the mailbox or its bus has ended. 0 or BUS_E_*. Without the GIL. */
int mailbox_wait(PyObject *mailbox, int timeout);

/* Reads how far the mailbox has been drained; *ret_nothing_waits: it is empty. Works after the bus was closed too. 0 or BUS_E_*. */
int mailbox_reached(PyObject *mailbox, uint64_t *ret_reached, bool *ret_nothing_waits);

/* Returns the next message. NULL without an exception: none waits, or other tasks run first. StopAsyncIteration: the end. */
PyObject *mailbox_next_now(PyObject *mailbox, bool *ret_turn_is_over);

/* --- next.c ------------------------------------------------------------------------------------------ */

/* The awaitable for the next message of a Subscription, whose `async def _next(self, turn_is_over)` does the waiting. */
PyObject *next_new(struct core *core, PyObject *mailbox);

/* --- kept.c ------------------------------------------------------------------------------------------ */

/* Returns the newest kept message of topic on a libbus._core.Bus, or a new reference to otherwise. NULL with an exception. */
PyObject *kept_get(struct core *core, PyObject *bus, PyObject *topic, PyObject *otherwise);

/* --- the types ---------------------------------------------------------------------------------------- */

extern PyType_Spec bus_spec, numbers_spec, mailbox_spec, message_spec, reply_spec, question_spec,
    link_spec, role_spec, publisher_spec, work_spec, calls_spec, next_spec, push_spec;

/* Opens a mailbox on a libbus._core.Bus. 0 or BUS_E_*; Python is not touched. */
int bus_object_mailbox(
    PyObject *bus, const struct bus_mailbox_config *cfg, struct bus_mailbox **ret_mbox);

/* Takes a role on one. 0 or BUS_E_*; waits, so without the GIL. */
int bus_object_role(PyObject *bus, const char *name, int timeout_ms, struct bus_role **ret_role);

/* Serves pages of one. 0 or BUS_E_*; Python is not touched. */
int bus_object_push(PyObject *bus, const struct bus_push_config *cfg, struct bus_push **ret_push);

/* Opens a handle on one, or publishes by name. 0 or BUS_E_*; Python is not touched. */
int bus_object_pub(
    PyObject *bus, const char *topic, const struct bus_pub_config *cfg, struct bus_pub **ret_pub);
int bus_object_publish(PyObject *bus, const struct bus_msg *msg);

bool bus_object_is_named(PyObject *bus);

/* The optional arguments of publish(). */
struct extras {
	PyObject *ttl, *headers;
	int retain;
	struct bus_packer *packer; /* packs the headers; NULL: there are none */
};

/* Fills flags, ttl_ms and headers of msg. The headers belong to extras until extras_end(). 0, or -1 with an exception. */
int extras_begin(struct core *core, struct extras *extras, PyObject *topic, struct bus_msg *msg);
void extras_end(struct extras *extras);
bool has_extras(const struct extras *extras);

/* Makes a libbus.Link and takes the link over, also on failure. */
PyObject *link_new(struct core *core, struct bus_link *link);

#endif
