/* kept.c: reads the kept value of a topic, by a mailbox that lives for one call. */
#include "core.h"

#include <string.h>

/* A try fails only if other threads publish more than a mailbox holds while it runs. */
#define TRIES 100

/* Reads the newest kept message that waits in mbox. 1: *ret_letter has it, or is NULL if there is none; 0: newer messages may have
 * pushed it out. BUS_E_*. Never touches Python. */
static int
newest_kept(struct bus_mailbox *mbox, struct letter **ret_letter)
{
	const struct bus_msg *msg;
	int got;

	/* Kept messages come first; the others were published since. */
	while ((got = bus_recv(mbox, 0, &msg)) == 1 && (msg->flags & BUS_MSG_KEPT) != 0) {
		letter_free(*ret_letter);
		*ret_letter = letter_copy(msg);
		if (*ret_letter == NULL)
			return BUS_E_NOMEM;
	}
	if (got < 0)
		return got;
	return *ret_letter != NULL || got == 0 || msg->lost == 0;
}

/* Drop_oldest, with the usual bound: of more kept messages than fit, the newest stays. */
static int
try_kept(PyObject *bus, const char *topic, struct letter **ret_letter)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_CALLER};
	struct bus_mailbox *mbox;
	int err = bus_object_mailbox(bus, &cfg, &mbox);

	if (err < 0)
		return err;
	err = bus_mailbox_subscribe(mbox, topic, NULL, NULL, NULL);
	if (err == 0)
		err = newest_kept(mbox, ret_letter);
	bus_mailbox_close(mbox);
	return err;
}

static int
read_kept(PyObject *bus, const char *topic, struct letter **ret_letter)
{
	int done = 0;

	for (int i = 0; i < TRIES && done == 0; i++)
		done = try_kept(bus, topic, ret_letter);
	return done == 0 ? BUS_E_TIMEDOUT : done;
}

PyObject *
kept_get(struct core *core, PyObject *bus, PyObject *topic, PyObject *otherwise)
{
	const char *name = text_of(core, topic, ABOUT_TOPIC);
	struct letter *letter = NULL;
	int err;

	if (name == NULL)
		return NULL;
	if (strpbrk(name, "+#") != NULL)
		return error_raise_because(core, BUS_E_TOPIC_WILDCARD, ABOUT_TOPIC, topic,
		    "get() takes one topic, without + and #: for the kept values of several topics use subscribe()");
	/* On a named bus this waits while a process moves the retained values. */
	if (bus_object_is_named(bus)) {
		Py_BEGIN_ALLOW_THREADS err = read_kept(bus, name, &letter);
		Py_END_ALLOW_THREADS
	} else {
		err = read_kept(bus, name, &letter);
	}
	if (err < 0) {
		letter_free(letter);
		return error_raise(core, err, ABOUT_TOPIC, topic);
	}
	return letter != NULL ? message_new(core, letter, NULL) : Py_NewRef(otherwise);
}
