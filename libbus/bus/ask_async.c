/* bus/ask_async.c: asking from a mailbox, whose drainer gets the reply or the error. */
#include "bus/question.h"

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/sized.h"
#include "bus/fail.h"
#include "bus/topic.h"
#include "mailbox/group.h"
#include "mailbox/mailbox.h"
#include "mailbox/source.h"
#include "topic/name.h"

static void
request_unref(struct bus_request *req)
{
	struct bus_mailbox *m = req->way.route.mbox;

	if (atomic_fetch_sub_explicit(&req->refs, 1, memory_order_acq_rel) != 1)
		return;
	bus__way_fini(&req->way);
	bus__free(req);
	bus__mailbox_unref(m);
}

static struct bus_request *
request_of(struct later *later)
{
	return (struct bus_request *)(void *)((char *)later - offsetof(struct bus_request, later));
}

static struct bus_request *
request_of_deadline(struct deadline *d)
{
	return (struct bus_request *)(void *)((char *)d - offsetof(struct bus_request, deadline));
}

static void
tell_end(void *arg)
{
	struct bus_request *req = arg;

	req->way.sub.fn(req->way.sub.arg, NULL);
}

static void
tell(struct bus_request *req)
{
	bus__run_as_callback(tell_end, req);
	request_unref(req);
}

/* Queues an ended request for the drainer of its mailbox. If the mailbox has finished, calls fn here. */
static void
run_end(struct later *later)
{
	struct bus_request *req = request_of(later), **at;
	struct bus_mailbox *m = req->way.route.mbox;
	struct bus *bus = bus__ref(m->bus);
	bool finished;

	if (req->quiet) {
		request_unref(req);
		bus__unref(bus);
		return;
	}
	bus__lock(bus);
	finished = atomic_load_explicit(&m->finished, memory_order_acquire);
	if (!finished) {
		for (at = &m->over; *at != NULL;) /* at the end: fn sees the ends in their order */
			at = &(*at)->next;
		req->next = NULL;
		*at = req;
		bus__deadlines_ring(m, true);
	}
	bus__unlock(bus);
	if (finished)
		tell(req);
	bus__unref(bus);
}

/* Removes a request from the list of ended ones, if it is there. Bus lock. */
static bool
take_over(struct bus_mailbox *m, struct bus_request *req)
{
	struct bus_request **at = &m->over;

	while (*at != NULL && *at != req)
		at = &(*at)->next;
	if (*at == NULL)
		return false;
	*at = req->next;
	bus__deadlines_ring(m, m->over != NULL);
	return true;
}

bool
bus__requests_tell(struct bus_mailbox *m)
{
	struct bus_request *over, *next;
	bool told;

	bus__lock(m->bus);
	over = m->over;
	m->over = NULL;
	bus__deadlines_ring(m, false);
	bus__unlock(m->bus);
	told = over != NULL;
	for (; over != NULL; over = next) {
		next = over->next;
		tell(over);
	}
	return told;
}

/* Ends a request behind the replies that are in its mailbox. Bus lock. */
static void
end(struct bus_request *req)
{
	struct bus_mailbox *m = req->way.route.mbox;

	if (req->over)
		return;
	req->over = true;
	bus__question_leave_locked(m->bus, &req->q);
	bus__deadlines_remove(m, &req->deadline);
	if (req->prev != NULL)
		req->prev->next = req->next;
	else
		m->requests = req->next;
	if (req->next != NULL)
		req->next->prev = req->prev;
	req->later.run = run_end;
	req->later.position = m->source->behind(m);
	bus__mailbox_later(m, &req->later);
}

void
bus__requests_end(struct bus_mailbox *m)
{
	while (m->requests != NULL)
		end(m->requests);
}

bool
bus__requests_heed(struct bus_mailbox *m)
{
	struct deadline *d;
	int64_t now = bus__now_ns();

	if (atomic_load_explicit(&m->deadlines.next_ns, memory_order_relaxed) > now)
		return false;
	bus__lock(m->bus);
	while ((d = bus__deadlines_due(&m->deadlines, now)) != NULL)
		end(request_of_deadline(d));
	bus__unlock(m->bus);
	return bus__requests_tell(m);
}

void
bus__request_end_soon(struct bus_request *req)
{
	struct bus *bus = bus__ref(req->way.route.mbox->bus);

	bus__lock(bus);
	if (!req->over)
		bus__deadlines_set(req->way.route.mbox, &req->deadline, 0);
	bus__unlock(bus);
	request_unref(req);
	bus__unref(bus);
}

/* Lists an allocated request. Bus lock. */
static int
begin(struct bus_mailbox *m, struct bus_request *req, int64_t deadline_ns)
{
	int err = atomic_load_explicit(&m->closed, memory_order_acquire) ? BUS_E_CLOSED : 0;

	if (err == 0)
		err = bus__deadlines_set(m, &req->deadline, deadline_ns);
	if (err < 0)
		return err;
	err = bus__question_enter_locked(m->bus, &req->q);
	if (err < 0) {
		bus__deadlines_remove(m, &req->deadline);
		return err;
	}
	req->next = m->requests;
	if (req->next != NULL)
		req->next->prev = req;
	m->requests = req;
	return 0;
}

/* Makes a request and lists it, with a reference for its end and one for the caller. */
static int
request_new(struct bus_mailbox *m, const char *topic, int64_t deadline_ns, bus_msg_fn fn, void *arg,
    struct bus_request **ret_req, uint64_t *ret_number)
{
	struct bus_request *req = bus__calloc(1, sizeof *req);
	struct topic *found;
	size_t len;
	int err = req == NULL ? BUS_E_NOMEM : bus__topic_check(topic, &len);

	if (err < 0)
		goto free_request;
	atomic_init(&req->refs, 2);
	bus__lock(m->bus);
	err = m->bus->kind->begin_replies(m);
	if (err == 0)
		err = bus__topic_make(m->bus, topic, len, &found);
	if (err == BUS_E_LIMIT)
		err = BUS__NO_TOPIC;
	if (err == 0)
		err = bus__way_init(&req->way, m, found, fn, arg);
	if (err < 0)
		goto unlock;
	atomic_fetch_add_explicit(&found->refs, 1, memory_order_relaxed);
	err = begin(m, req, deadline_ns);
	if (err == BUS_E_LIMIT)
		err = BUS__NO_DESCRIPTOR;
	if (err < 0) {
		bus__way_fini(&req->way);
		goto unlock;
	}
	bus__mailbox_ref(m);
	*ret_number = req->q.number; /* read here: it may end as soon as the lock is free */
	bus__unlock(m->bus);
	*ret_req = req;
	return 0;

unlock:
	bus__unlock(m->bus);
free_request:
	bus__free(req);
	return err;
}

/* Takes back a request whose publish failed. The publish has set the error text, and a callback here may fail too. false: the
 * request has ended already, and fn was called. */
static bool
withdraw(struct bus *bus, struct bus_request *req)
{
	struct bus__said said;
	bool mine;

	bus__save_error_text(&said);
	bus__lock(bus);
	mine = !req->over;
	if (mine) {
		req->quiet = true;
		atomic_fetch_or_explicit(&req->way.sub.mute, MUTE_DEAD, memory_order_relaxed);
		end(req);
	}
	bus__unlock(bus);
	bus__restore_error_text(&said);
	return mine;
}

static int
start(struct bus_mailbox *m, const struct bus_msg *msg, int timeout_ms, bus_msg_fn fn, void *arg,
    struct bus_request **ret_req)
{
	int64_t deadline_ns = bus__deadline_ns(timeout_ms);
	struct bus_msg question;
	struct bus_request *req = NULL;
	struct bus *bus;
	uint64_t number = 0;
	int err;

	if (m == NULL || fn == NULL || m->is_peer || m->drain == BUS_DRAIN_PUBLISHER ||
	    bus__is_receiver(m))
		return BUS_E_INVAL;
	err = bus__enter(m->bus);
	if (err == 0)
		err = bus__question_make(msg, timeout_ms, &question);
	if (err < 0)
		return err;
	err = request_new(m, question.topic, deadline_ns, fn, arg, &req, &number);
	if (err < 0)
		return bus__fail_publish(m->bus, err, question.topic, question.len);
	bus = bus__ref(m->bus);
	err = bus__question_ask(bus, &question, number, deadline_ns, &req->takers);
	if (err < 0 && !withdraw(bus, req))
		err = 0;
	if (err == 0 && ret_req != NULL)
		*ret_req = req;
	else
		request_unref(req);
	bus__unref(bus);
	return err;
}

int
bus_request_start_msg(struct bus_mailbox *m, const struct bus_msg *msg, int timeout_ms,
    bus_msg_fn fn, void *arg, struct bus_request **ret_req)
{
	struct bus_msg room;
	int err = BUS__SIZED_IN(SIZED_MSG, msg, &room);

	if (err < 0)
		return err;
	err = start(m, msg, timeout_ms, fn, arg, ret_req);
	if (err < 0 && m == NULL)
		return bus__fail_mailbox(NULL, err);
	return err < 0 ? bus__fail_request(m->bus, err, msg, timeout_ms) : 0;
}

int
bus_request_start(struct bus_mailbox *mbox, const char *topic, const void *data, size_t len,
    int timeout_ms, bus_msg_fn fn, void *arg, struct bus_request **ret_req)
{
	const struct bus_msg msg = {.size = sizeof msg, .topic = topic, .data = data, .len = len};

	return bus_request_start_msg(mbox, &msg, timeout_ms, fn, arg, ret_req);
}

void
bus_request_cancel(struct bus_request *req)
{
	struct bus_mailbox *m;
	struct bus *bus;
	bool mine;

	if (req == NULL || req->way.route.mbox->bus->fork_generation != bus__fork_generation())
		return;
	m = bus__mailbox_ref(req->way.route.mbox);
	bus = bus__ref(m->bus);
	bus__lock(bus);
	atomic_fetch_or_explicit(&req->way.sub.mute, MUTE_DEAD, memory_order_relaxed);
	end(req);
	bus__unlock(bus);
	bus__mailbox_await_callback(m);
	bus__mailbox_settle(m);
	bus__lock(bus);
	mine = take_over(m, req);
	bus__unlock(bus);
	if (mine)
		tell(req);
	request_unref(req);
	bus__mailbox_unref(m);
	bus__unref(bus);
}
