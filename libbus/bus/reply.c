/* bus/reply.c: the way of replies to their asker. */
#include "bus/question.h"

#include "base/clock.h"
#include "base/park.h"
#include "base/sized.h"
#include "bus/fail.h"
#include "bus/peer.h"
#include "bus/publish.h"
#include "mailbox/mailbox.h"

void
bus__waiter_release(struct waiter *w, int err)
{
	w->err = err;
	atomic_store_explicit(&w->done, 1, memory_order_release);
	bus__unpark(&w->done);
}

/* The first reply counts; later ones find the question over. */

static int
give_waiter(struct bus *bus, struct waiter *w, const struct bus_msg *msg)
{
	struct bus_msg reply = *msg;
	int err;

	reply.topic = w->topic;
	reply.flags = 0;
	reply.reply_to = 0;
	err = bus_msg_keep(&reply, &w->reply);
	bus__question_leave(&bus->inbox, &w->q);
	bus__waiter_release(w, err);
	return err;
}

static int
give_peer(struct desk *desk, const struct peer_question *asked, struct ring_item *item)
{
	item->flags |= RING_REPLY;
	item->reply = asked->theirs;
	return bus__way_put(&desk->way, item);
}

/* Inbox lock. */
static int
give(struct bus *bus, struct question *q, const struct bus_msg *msg, struct ring_item *item)
{
	if (q->desk != NULL)
		return give_peer(q->desk, (struct peer_question *)q, item);
	if (q->waits)
		return give_waiter(bus, (struct waiter *)q, msg);
	return bus__way_put(&((struct bus_request *)q)->way, item);
}

/* Whether a question is still open to a reply. */
static bool
is_open(const struct question *q, bool from_peer)
{
	const struct peer_question *asked = (const struct peer_question *)q;

	if (q == NULL || q->desk == NULL)
		return q != NULL;
	/* A peer may answer another peer's question only on a hub. */
	return (!from_peer || asked->passes) && asked->expires_ns > bus__now_ns();
}

int
bus__reply_here(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool from_peer)
{
	struct inbox *inbox = &bus->inbox;
	struct question **at;
	struct ring_item item;
	int err = bus__item_make(bus, msg, &item);

	if (err < 0)
		return err;
	item.flags |= RING_ANSWER;
	if (item.len > RING_INLINE_MAX) {
		item.block = bus__block_new(NULL, item.len);
		if (item.block == NULL)
			return BUS_E_NOMEM;
		bus__ring_item_copy(item.block->data, &item);
	}
	pthread_mutex_lock(&inbox->lock);
	at = bus__question_find(inbox, number);
	if (at != NULL && is_open(*at, from_peer))
		err = give(bus, *at, msg, &item);
	else
		atomic_fetch_add_explicit(&inbox->late, 1, memory_order_relaxed);
	pthread_mutex_unlock(&inbox->lock);
	bus__block_unref(item.block);
	return err;
}

static struct route *
route_into(struct question *q, const struct bus_mailbox *m, uint64_t *ret_theirs)
{
	struct bus_request *req = (struct bus_request *)q;

	if (q->desk != NULL && q->desk->way.route.mbox == m && is_open(q, false)) {
		*ret_theirs = ((struct peer_question *)q)->theirs;
		return &q->desk->way.route;
	}
	return q->desk == NULL && !q->waits && req->way.route.mbox == m ? &req->way.route : NULL;
}

/* Counts a late reply once, in the first mailbox that reaches it. Inbox lock. */
static void
count_late(struct inbox *inbox, uint64_t number, uint64_t sequence)
{
	if (sequence <= inbox->answers_seen)
		return;
	inbox->answers_seen = sequence;
	if ((number >> NAMED_BUS_SHIFT & NAMED_BUS_MASK) == inbox->tag)
		atomic_fetch_add_explicit(&inbox->late, 1, memory_order_relaxed);
}

struct route *
bus__answer_route(struct bus_mailbox *m, uint64_t number, uint64_t sequence, uint64_t *ret_theirs)
{
	struct inbox *inbox = &m->bus->inbox;
	struct route *route = NULL;
	struct question **at;

	pthread_mutex_lock(&inbox->lock);
	at = bus__question_find(inbox, number);
	*ret_theirs = 0;
	if (at != NULL && *at != NULL)
		route = route_into(*at, m, ret_theirs);
	if (at == NULL || *at == NULL)
		count_late(inbox, number, sequence);
	else if (sequence > inbox->answers_seen)
		inbox->answers_seen = sequence;
	pthread_mutex_unlock(&inbox->lock);
	return route;
}

void
bus__answer_mailbox(struct bus *bus, uint64_t number, uint64_t sequence,
    void (*fn)(void *arg, struct bus_mailbox *mbox), void *arg)
{
	struct inbox *inbox = &bus->inbox;
	struct question **at;

	pthread_mutex_lock(&inbox->lock);
	at = bus__question_find(inbox, number);
	if (at == NULL || *at == NULL)
		count_late(inbox, number, sequence);
	else if ((*at)->desk != NULL)
		fn(arg, (*at)->desk->way.route.mbox);
	else if (!(*at)->waits)
		fn(arg, ((struct bus_request *)*at)->way.route.mbox);
	pthread_mutex_unlock(&inbox->lock);
}

/* One of the peers to which a hub passed another peer's question has no responder. */
static void
decline_peer(struct peer_question *asked)
{
	struct ring_item item = {
	    .flags = RING_REPLY | RING_ANSWER | RING_NOBODY, .reply = asked->theirs};

	asked->takers.declined++;
	if (asked->passes && bus__is_hopeless(&asked->takers))
		bus__way_put(&asked->q.desk->way, &item);
}

void
bus__question_decline(struct bus *bus, uint64_t number)
{
	struct inbox *inbox = &bus->inbox;
	struct bus_request *hopeless = NULL;
	struct question **at;

	pthread_mutex_lock(&inbox->lock);
	at = bus__question_find(inbox, number);
	if (at != NULL && *at != NULL && (*at)->desk != NULL) {
		decline_peer((struct peer_question *)*at);
	} else if (at != NULL && *at != NULL && (*at)->waits) {
		struct waiter *w = (struct waiter *)*at;

		w->takers.declined++;
		if (bus__is_hopeless(&w->takers))
			bus__waiter_release(w, BUS_E_NOBODY);
	} else if (at != NULL && *at != NULL) {
		struct bus_request *req = (struct bus_request *)*at;

		req->takers.declined++;
		if (bus__is_hopeless(&req->takers)) {
			hopeless = req;
			atomic_fetch_add_explicit(&req->refs, 1, memory_order_relaxed);
		}
	}
	pthread_mutex_unlock(&inbox->lock);
	if (hopeless != NULL)
		bus__request_end_soon(hopeless);
}

int
bus__reply_from_peer(struct bus *bus, uint64_t number, const struct bus_msg *msg, bool nobody)
{
	if (!nobody)
		return bus->kind->reply(bus, number, msg, true);
	bus__question_decline(bus, number);
	return 0;
}

static int
reply_msg(struct bus *bus, const struct bus_msg *question, const struct bus_msg *msg)
{
	int err = bus__enter(bus);

	if (err < 0)
		return err;
	if (question == NULL || question->reply_to == 0 || msg == NULL ||
	    (msg->flags & BUS_MSG_RETAIN))
		return BUS_E_INVAL;
	return bus->kind->reply(bus, question->reply_to, msg, false);
}

int
bus_reply_msg(struct bus *bus, const struct bus_msg *question, const struct bus_msg *msg)
{
	struct bus_msg question_room, room;
	int said;
	int err = BUS__SIZED_IN(SIZED_MSG, question, &question_room);

	if (err == 0)
		err = BUS__SIZED_IN(SIZED_MSG, msg, &room);
	if (err < 0)
		return err;
	err = reply_msg(bus, question, msg);
	if (err >= 0)
		return 0;
	if (bus == NULL || question == NULL)
		return bus__fail_publish(bus, err, NULL, 0);
	if (question->topic == NULL)
		return bus__answer(err);
	if (msg == NULL)
		return bus__fail(err, BUS__SHOWN ": the reply is NULL", question->topic);
	if (err == BUS_E_INVAL && question->reply_to == 0)
		return bus__fail(err,
		    BUS__SHOWN ": this message is no question: reply to one with reply_to",
		    question->topic);
	said = bus->kind->fail(bus, err, question->topic, msg->len + msg->headers_len);
	if (said == 0 && err == BUS_E_FULL)
		return bus__fail(err,
		    BUS__SHOWN
		    ": the asker's mailbox is full and refuses the reply: wait, or let it drain",
		    question->topic);
	return said != 0
		   ? said
		   : bus__fail_publish(bus, err, question->topic, msg->len + msg->headers_len);
}

int
bus_reply(struct bus *bus, const struct bus_msg *question, const void *data, size_t len)
{
	const struct bus_msg msg = {.size = sizeof msg, .data = data, .len = len};

	return bus_reply_msg(bus, question, &msg);
}
