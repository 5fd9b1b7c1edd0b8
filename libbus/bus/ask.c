/* bus/ask.c: asking, and waiting for the reply on this thread. */
#include "bus/question.h"

#include "base/clock.h"
#include "base/park.h"
#include "base/sized.h"
#include "bus/fail.h"
#include "bus/publish.h"
#include "mailbox/mailbox.h"
#include "topic/name.h"

int
bus__question_make(const struct bus_msg *msg, int timeout_ms, struct bus_msg *ret_question)
{
	uint32_t life_ms = timeout_ms > 0 ? (uint32_t)timeout_ms : timeout_ms == 0;

	if (msg == NULL || (msg->flags & BUS_MSG_RETAIN))
		return BUS_E_INVAL;
	*ret_question = *msg;
	if (life_ms != 0 && (msg->ttl_ms == 0 || msg->ttl_ms > life_ms))
		ret_question->ttl_ms = life_ms;
	return 0;
}

int
bus__question_ask(struct bus *bus, const struct bus_msg *question, uint64_t number,
    int64_t deadline_ns, struct takers *takers)
{
	uint32_t count = 0;
	int err = bus__publish_question(bus, question, number, deadline_ns, &count);

	/* The takers in other processes are not known. */
	if (err < 0 || !bus->kind->knows_takers)
		return err;
	pthread_mutex_lock(&bus->inbox.lock);
	takers->count = count;
	takers->known = true;
	err = bus__is_hopeless(takers) ? BUS_E_NOBODY : 0;
	pthread_mutex_unlock(&bus->inbox.lock);
	return err;
}

static int
await_reply(struct waiter *w, int64_t deadline_ns)
{
	while (atomic_load_explicit(&w->done, memory_order_acquire) == 0) {
		int woken = bus__park(&w->done, 0, deadline_ns);

		if (woken == BUS_E_TIMEDOUT)
			return woken;
		if (woken == BUS__INTERRUPTED && deadline_ns == INT64_MAX)
			return BUS__E_HANDLER;
	}
	return 0;
}

/* The question is over. Other mailboxes may read the reply later, and must not count it as late. */
static void
leave_answered(struct bus *bus, struct waiter *w)
{
	struct inbox *inbox = &bus->inbox;

	pthread_mutex_lock(&inbox->lock);
	bus__question_leave(inbox, &w->q);
	if (w->reply != NULL && w->reply->position > inbox->answers_seen)
		inbox->answers_seen = w->reply->position;
	pthread_mutex_unlock(&inbox->lock);
}

static int
request(
    struct bus *bus, const struct bus_msg *msg, int timeout_ms, const struct bus_msg **ret_reply)
{
	struct waiter w = {.q = {.waits = true}};
	int64_t deadline_ns = bus__deadline_ns(timeout_ms);
	struct bus_msg question;
	int err = bus__enter(bus);

	if (err == 0 && bus__in_callback())
		err = BUS_E_STATE;
	if (err == 0)
		err = ret_reply == NULL ? BUS_E_INVAL
					: bus__question_make(msg, timeout_ms, &question);
	if (err < 0)
		return err;
	w.topic = question.topic;
	bus__ref(bus);
	err = bus__question_enter_locked(bus, &w.q);
	if (err == 0 && bus->log != NULL) {
		err = bus->kind->ask(bus, &question, w.q.number, deadline_ns, &w.done, &w.reply);
	} else {
		if (err == 0)
			err = bus__question_ask(bus, &question, w.q.number, deadline_ns, &w.takers);
		if (err == 0)
			err = await_reply(&w, deadline_ns);
	}
	leave_answered(bus, &w);
	/* A reply counts even if the deadline has passed. */
	if (w.reply != NULL)
		*ret_reply = w.reply;
	else if (w.err < 0)
		err = w.err;
	bus__unref(bus);
	return w.reply != NULL ? 0 : err;
}

int
bus__fail_request(const struct bus *bus, int err, const struct bus_msg *msg, int timeout_ms)
{
	if (bus == NULL)
		return bus__fail_publish(NULL, err, NULL, 0);
	if (msg == NULL)
		return bus__fail(err, "the question is NULL");
	if (msg->topic == NULL)
		return bus__fail_name(err, NULL);
	switch (err) {
	case BUS__E_HANDLER:
		return bus__fail(BUS_E_TIMEDOUT,
		    BUS__SHOWN
		    ": a signal handler ran before a reply came: ask again, or give a limit, within which handlers do not end the wait",
		    msg->topic);
	case BUS_E_TIMEDOUT:
		return bus__fail(err,
		    BUS__SHOWN
		    ": timed out: no reply within %d ms: give it more, or look why it is slow",
		    msg->topic, timeout_ms);
	case BUS_E_STATE:
		return bus__fail(err,
		    BUS__SHOWN
		    ": not from here: a callback may not wait for a reply; use bus_request_start()",
		    msg->topic);
	case BUS_E_NOBODY:
	case BUS_E_CLOSED:
	case BUS_E_FORKED:
	case BUS_E_NOMEM:
		return bus__fail_about(err, msg->topic);
	case BUS_E_INVAL:
		if (msg->flags & BUS_MSG_RETAIN)
			return bus__fail(err,
			    BUS__SHOWN ": a question is not retained: clear BUS_MSG_RETAIN",
			    msg->topic);
		return bus__fail(err,
		    BUS__SHOWN
		    ": bad question: ret_reply, fn or data is NULL, type or flags is out of range, or the mailbox is in a group or drained by publishers",
		    msg->topic);
	default:
		return err;
	}
}

int
bus_request_msg(
    struct bus *bus, const struct bus_msg *msg, int timeout_ms, const struct bus_msg **ret_reply)
{
	struct bus_msg room;
	int err = BUS__SIZED_IN(SIZED_MSG, msg, &room);

	if (err < 0)
		return err;
	err = request(bus, msg, timeout_ms, ret_reply);
	return err < 0 ? bus__fail_request(bus, err, msg, timeout_ms) : 0;
}

int
bus_request(struct bus *bus, const char *topic, const void *data, size_t len, int timeout_ms,
    const struct bus_msg **ret_reply)
{
	const struct bus_msg msg = {.size = sizeof msg, .topic = topic, .data = data, .len = len};

	return bus_request_msg(bus, &msg, timeout_ms, ret_reply);
}

void
bus__inbox_close(struct bus *bus)
{
	struct inbox *inbox = &bus->inbox;

	pthread_mutex_lock(&inbox->lock);
	inbox->closed = true;
	for (size_t i = 0; inbox->buckets != NULL && i <= inbox->mask; i++)
		for (struct question *q = inbox->buckets[i]; q != NULL; q = q->next)
			if (q->waits)
				bus__waiter_release((struct waiter *)q, BUS_E_CLOSED);
	pthread_mutex_unlock(&inbox->lock);
	bus->kind->call_askers(bus);
}
