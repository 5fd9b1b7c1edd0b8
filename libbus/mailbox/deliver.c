/* mailbox/deliver.c: the messages of a batch, one by one: to callbacks, to the caller of bus_recv(), to a peer. */
#include "mailbox/parts.h"

#include <string.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/thread.h"
#include "mailbox/call.h"
#include "mailbox/fail.h"
#include "mailbox/host.h"

/* --- a message ------------------------------------------------------------------------------------------- */

/* Reads the next message of the batch into m->msg. */
static void
next_message(struct bus_mailbox *m, struct ring_view *view)
{
	struct bus_msg *msg = &m->msg;
	uint64_t lost;

	m->source->next(m, view);
	m->msg_route = view->route;
	msg->topic = m->msg_route->topic->name;
	msg->data = view->data;
	msg->len = view->len;
	msg->type = view->type;
	lost = bus__lost_sum(view->lost, m->carried);
	msg->lost = lost & ~RING_LOST_AT_LEAST;
	m->carried = 0;
	msg->time_ns = view->time_ns;
	msg->ttl_ms = 0;
	m->msg_frame = view->flags;
	msg->reply_to = view->flags & RING_REPLY ? view->reply : 0;
	msg->headers_len = view->flags & RING_HEADERS ? view->headers_len : 0;
	msg->headers = msg->headers_len > 0 ? (const uint8_t *)view->data + view->len : NULL;
	msg->flags = (view->flags & RING_KEPT ? BUS_MSG_KEPT : 0u) |
		     (view->flags & RING_RETAIN ? BUS_MSG_RETAIN : 0u) |
		     (lost & RING_LOST_AT_LEAST ? BUS_MSG_LOST_AT_LEAST : 0u);
}

/* The loss before the message just read, which the next delivered one reports. */
static uint64_t
lost_before(const struct bus_mailbox *m)
{
	return m->msg.lost | (m->msg.flags & BUS_MSG_LOST_AT_LEAST ? RING_LOST_AT_LEAST : 0);
}

/* Whether the message just read has expired; counts it then. Otherwise sets its remaining time. */
static bool
is_late(struct bus_mailbox *m, const struct ring_view *view)
{
	int64_t left_ns;

	if (!(view->flags & RING_TTL))
		return false;
	left_ns = view->expires_ns - bus__now_ns();
	if (left_ns > 0) {
		m->msg.ttl_ms = (uint32_t)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
		return false;
	}
	m->carried = bus__lost_sum(lost_before(m), 1);
	bus__count_one(&m->expired);
	return true;
}

/* A message without a subscription. The next delivered one reports the loss before it. */
static void
pass_over(struct bus_mailbox *m)
{
	m->carried = lost_before(m);
	bus__count_one(&m->unsubscribed);
	/* The last responder unsubscribed while this question was queued. */
	if (m->msg.reply_to != 0 && !(m->msg_frame & RING_ANSWER))
		bus__question_decline(m->bus, m->msg.reply_to);
}

/* Whether to hand out the message just read; otherwise counts it. */
static bool
is_due(struct bus_mailbox *m, const struct ring_view *view)
{
	if (is_late(m, view))
		return false;
	if (bus__is_wanted(view, m->only))
		return true;
	pass_over(m);
	return false;
}

/* --- callbacks ------------------------------------------------------------------------------------------- */

/* The callbacks under way on this thread; not a flag, since a callback may call dispatch. */
static _Thread_local unsigned callback_depth;
static _Thread_local uint32_t
    callback_fork; /* the fork generation in which they began: a forked child is in none */

bool
bus__in_callback(void)
{
	return callback_depth > 0 && callback_fork == bus__fork_generation();
}

/* The program's function may contain a cancellation point; a cancelled thread would leave the batch open. */
static int
enter_callback(void)
{
	if (!bus__in_callback())
		callback_depth = 0;
	callback_depth++;
	callback_fork = bus__fork_generation();
	return bus__cancel_off();
}

static void
leave_callback(int cancel)
{
	if (callback_depth > 0) /* a child that returns from it may have begun its own count */
		callback_depth--;
	bus__cancel_back(cancel);
}

void
bus__run_as_callback(void (*fn)(void *arg), void *arg)
{
	int cancel = enter_callback();

	fn(arg);
	leave_callback(cancel);
}

/* Puts m->msg into the state that call_plain() expects. */
static void
clear_message(struct bus_mailbox *m)
{
	m->msg.flags = 0;
	m->msg.lost = 0;
	m->msg.time_ns = 0;
	m->msg.ttl_ms = 0;
	m->msg.headers = NULL;
	m->msg.headers_len = 0;
	m->msg.reply_to = 0;
}

void
bus__mailbox_call_any(struct bus_mailbox *m)
{
	struct ring_view view;

	next_message(m, &view);
	if (!is_late(m, &view)) {
		if (bus__call_subs(view.route, view.position, view.target, m->only, &m->msg))
			bus__count_one(&m->delivered);
		else
			pass_over(m);
	}
	clear_message(m);
}

/* Between two messages: a thread waits for the end of a callback, or the mailbox has ended. */
static __attribute__((noinline)) void
heed_sign(struct bus_mailbox *m, uint32_t end)
{
	atomic_fetch_and_explicit(&m->phase, ~(uint32_t)PHASE_WAITED, memory_order_acq_rel);
	bus__mailbox_notify_waiters(m);
	if (atomic_load_explicit(&m->ended, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&m->lost_closed, end - m->handled, memory_order_relaxed);
		m->handled = end;
	}
}

unsigned
bus__mailbox_call_batch(struct bus_mailbox *m, unsigned max)
{
	uint32_t begun = m->handled, left = m->batch.count - begun;
	uint32_t end = begun + (left < max ? left : max);
	int cancel = enter_callback();

	/* It ended before this batch was taken, when there was no batch to ask. */
	if (atomic_load_explicit(&m->ended, memory_order_acquire))
		heed_sign(m, end);
	while (m->handled < end) {
		bool more = m->source->run(m, end);

		if (m->handled < end && !more &&
		    !(atomic_load_explicit(&m->phase, memory_order_relaxed) & PHASE_WAITED)) {
			m->handled++;
			bus__mailbox_call_any(m);
		}
		if (atomic_load_explicit(&m->phase, memory_order_relaxed) & PHASE_WAITED)
			heed_sign(m, end);
	}
	leave_callback(cancel);
	return m->handled - begun;
}

/* --- a caller -------------------------------------------------------------------------------------------- */

/* One call at a time drains: a second one, from a callback or another thread, is refused. */
static int
begin_call(struct bus_mailbox *m)
{
	int err = bus__mailbox_enter(m);

	if (err < 0)
		return bus__fail_mailbox(m, err);
	if (m->drain != BUS_DRAIN_CALLER || m->is_peer)
		return bus__fail_mailbox(m, BUS_E_INVAL);
	if (atomic_exchange_explicit(&m->busy, true, memory_order_acq_rel))
		return bus__fail_mailbox(m, BUS_E_STATE);
	bus__mailbox_ref(m); /* a thread that ends it now does not wait inside a callback */
	return 0;
}

static bool
end_call(struct bus_mailbox *m, bool lent)
{
	bool intact = bus__mailbox_leave(m, lent);

	bus__mailbox_unref(m);
	return intact;
}

/* Whether the caller still has messages of an earlier batch; ends a batch that is used up. */
static bool
has_batch(struct bus_mailbox *m, unsigned calling)
{
	if (atomic_load_explicit(&m->phase, memory_order_relaxed) == 0)
		return false;
	if (m->handled == m->batch.count) {
		bus__mailbox_end_batch(m);
		return false;
	}
	/* bus_dispatch() may continue a batch of bus_recv(), and the other way round. */
	if (calling != 0)
		atomic_fetch_or_explicit(&m->phase, PHASE_CALLING, memory_order_acq_rel);
	return true;
}

/* Hands a reply to its asker, in a mailbox whose messages go to the caller of bus_recv(). */
static void
call_one(struct bus_mailbox *m, const struct ring_view *view)
{
	int cancel;

	atomic_fetch_or_explicit(&m->phase, PHASE_CALLING, memory_order_acq_rel);
	cancel = enter_callback();
	bus__call_subs(view->route, view->position, view->target, NULL, &m->msg);
	leave_callback(cancel);
	bus__count_one(&m->delivered);
	if (atomic_fetch_and_explicit(
		&m->phase, ~(uint32_t)(PHASE_CALLING | PHASE_WAITED), memory_order_acq_rel) &
	    PHASE_WAITED)
		bus__mailbox_notify_waiters(m);
}

static int
receive(struct bus_mailbox *m, int64_t deadline_ns)
{
	struct ring_view view;

	for (;;) {
		if (!has_batch(m, 0) && bus__mailbox_await_batch(m, PHASE_HELD, deadline_ns) == 0)
			return atomic_load_explicit(&m->closed, memory_order_acquire)
				   ? BUS_E_CLOSED
				   : m->source->error(m);
		if (m->borrowed)
			m->source->keep(m);
		next_message(m, &view);
		m->handled++;
		if (!is_due(m, &view))
			continue;
		if (!(view.flags & RING_ANSWER))
			break;
		call_one(m, &view);
		return 0; /* the program may have waited for it */
	}
	bus__count_one(&m->delivered);
	return 1;
}

int
bus_recv(struct bus_mailbox *m, int timeout_ms, const struct bus_msg **ret_msg)
{
	int err = begin_call(m);

	if (err < 0)
		return err;
	err = ret_msg == NULL ? BUS_E_INVAL
			      : receive(m, timeout_ms == 0 ? 0 : bus__deadline_ns(timeout_ms));
	if (!end_call(m, err == 1) && err == 1)
		return bus__answer(BUS_E_CLOSED);
	if (err == 1) {
		*ret_msg = &m->msg;
		return 1;
	}
	return err == BUS_E_DAMAGED ? bus__fail_damaged(m->bus) : bus__answer(err);
}

int
bus_dispatch(struct bus_mailbox *m, int timeout_ms, unsigned max)
{
	unsigned handled = 0;
	int64_t deadline_ns;
	int err = begin_call(m);

	if (err < 0)
		return err;
	if (max == 0)
		max = INT32_MAX;
	deadline_ns = timeout_ms == 0 ? 0 : bus__deadline_ns(timeout_ms);
	clear_message(m); /* the last message of bus_recv() */
	while (handled < max) {
		if (!has_batch(m, PHASE_CALLING) &&
		    bus__mailbox_await_batch(
			m, PHASE_HELD | PHASE_CALLING, handled > 0 ? 0 : deadline_ns) == 0)
			break;
		handled += bus__mailbox_call_batch(m, max - handled);
		if (m->handled == m->batch.count)
			bus__mailbox_end_batch(m);
		else if (atomic_fetch_and_explicit(&m->phase,
			     ~(uint32_t)(PHASE_CALLING | PHASE_WAITED), memory_order_acq_rel) &
			 PHASE_WAITED)
			bus__mailbox_notify_waiters(m);
		if (atomic_load_explicit(&m->closed, memory_order_acquire))
			break;
	}
	if (m->borrowed)
		m->source->keep(m);
	err = handled > 0 ? (int)handled : bus__mailbox_enter(m);
	if (err == 0)
		err = m->source->error(m);
	end_call(m, false); /* may run callbacks of requests, which may fail */
	return err == BUS_E_DAMAGED ? bus__fail_damaged(m->bus) : bus__answer(err);
}

/* --- peers ----------------------------------------------------------------------------------------------- */

const struct bus_msg *
bus__mailbox_next(struct bus_mailbox *m)
{
	struct ring_view view;

	for (;;) {
		if (atomic_load_explicit(&m->phase, memory_order_relaxed) == 0 &&
		    m->source->take(m, PHASE_HELD, 1) == 0)
			return NULL;
		while (m->handled < m->batch.count) {
			next_message(m, &view);
			m->handled++;
			if (is_due(m, &view)) {
				bus__count_one(&m->delivered);
				m->lent = true;
				m->far.passed = view.flags & RING_PASSED ? view.passed : NULL;
				return &m->msg;
			}
		}
		if (m->lent)
			return NULL;
		bus__mailbox_end_batch(m);
	}
}

unsigned
bus__mailbox_see_run(struct bus_mailbox *m, struct plain_run *ret_run)
{
	return atomic_load_explicit(&m->phase, memory_order_relaxed) != 0
		   ? m->source->see_run(m, ret_run)
		   : 0;
}

void
bus__mailbox_take_run(struct bus_mailbox *m, const struct plain_run *run, unsigned n)
{
	if (n == 0)
		return;
	m->at = run->next[n - 1];
	m->handled += n;
	m->lent = true;
	bus__count_some(&m->delivered, n);
}

void
bus__mailbox_release(struct bus_mailbox *m)
{
	m->lent = false;
	/* Messages that were not taken yet stay for the next take. */
	if (atomic_load_explicit(&m->phase, memory_order_relaxed) != 0 &&
	    m->handled == m->batch.count)
		bus__mailbox_end_batch(m);
}
