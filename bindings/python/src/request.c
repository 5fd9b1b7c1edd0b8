/* request.c: a question, until its first reply. In a mailbox of its own, so that Ctrl-C ends the wait. */
#include "core.h"

#include "base/clock.h"

/* How long Ctrl-C may wait. */
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

/* 0: there is a reply. BUS_E_*, or -1 with *ret_raised: a signal handler raised. */
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
			return bus__left_ms(deadline) == 0 ? BUS_E_TIMEDOUT : BUS_E_NOBODY;
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
