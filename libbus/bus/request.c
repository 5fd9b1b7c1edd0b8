#include "bus/request.h"

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/siphash.h"
#include "bus/bus_internal.h"
#include "bus/peer.h"
#include "bus/fail.h"
#include "mailbox/group.h"
#include "topic/name.h"
#include "bus/publish.h"
#include "base/sized.h"
#include "mailbox/source.h"

#define FIRST_BUCKETS 64
#define DESK_MOST     1024 /* questions of one peer that may be open here */
#define NS_PER_MS     INT64_C(1000000)

/* What a number stands for. */
struct question {
	struct question *next; /* in its bucket */
	uint64_t number;       /* 0: not in the inbox */
	struct desk *desk;     /* of the peer that asked, struct peer_question; NULL: asked here */
	bool waits;            /* asked here: struct waiter; otherwise struct bus_request */
};

/* How often it was given to a mailbox, and how many of those turned out to lead to nobody. */
struct takers {
	uint32_t count, declined;
	bool known; /* count is */
};

/* A thread in bus_request(). */
struct waiter {
	struct question q;
	struct takers takers;
	const char *topic;
	const struct bus_msg *reply;
	int err;
	_Atomic uint32_t done; /* futex */
};

/* A route to one mailbox that no topic leads to, with one subscription behind it. */
struct way {
	struct route route;
	struct bus_sub sub;
};

/* Asked from a mailbox. */
struct bus_request {
	struct question q;
	struct takers takers;
	struct later later;
	struct deadline deadline;
	struct way way;
	bool over, quiet; /* bus lock; quiet: fn does not hear of it */
	_Atomic uint32_t refs;
	struct bus_request *next, *prev; /* of its mailbox; bus lock */
};

struct peer_question {
	struct question q;
	uint64_t theirs;
	int64_t expires_ns;
	struct peer_question *newer;
};

struct desk {
	struct way way;
	struct peer_question *oldest, **newest_end; /* inbox lock */
	uint32_t count;
};

/* --- the inbox --------------------------------------------------------------------------------------------- */

int
bus__inbox_init(struct inbox *inbox)
{
	return pthread_mutex_init(&inbox->lock, NULL) != 0 ? BUS_E_NOMEM : 0;
}

void
bus__inbox_fini(struct inbox *inbox)
{
	pthread_mutex_destroy(&inbox->lock);
	bus__free(inbox->buckets);
}

static struct question **
find(struct inbox *inbox, uint64_t number)
{
	struct question **at;

	if (inbox->buckets == NULL)
		return NULL;
	at = &inbox->buckets[number & inbox->mask];
	while (*at != NULL && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

/* Keeps buckets short, if there is memory for more of them. */
static int
make_room(struct inbox *inbox)
{
	size_t had = inbox->buckets != NULL ? inbox->mask + 1 : 0;
	size_t want = had != 0 ? 2 * had : FIRST_BUCKETS;
	struct question **buckets;

	if (inbox->count < had)
		return 0;
	buckets = bus__calloc(want, sizeof *buckets);
	if (buckets == NULL)
		return had != 0 ? 0 : BUS_E_NOMEM;
	for (size_t i = 0; i < had; i++)
		for (struct question *q = inbox->buckets[i], *next; q != NULL; q = next) {
			next = q->next;
			q->next = buckets[q->number & (want - 1)];
			buckets[q->number & (want - 1)] = q;
		}
	bus__free(inbox->buckets);
	inbox->buckets = buckets;
	inbox->mask = want - 1;
	return 0;
}

/* Gives a question its number. Inbox lock. */
static int
enter(struct bus *bus, struct question *q)
{
	struct inbox *inbox = &bus->inbox;
	struct question **at;
	int err = inbox->closed ? BUS_E_CLOSED : make_room(inbox);

	if (err < 0)
		return err;
	/* Who could guess it could answer questions that others were asked. */
	do {
		inbox->last++;
		q->number = bus->kind->number(
		    bus, bus__siphash(bus->key, &inbox->last, sizeof inbox->last));
		at = find(inbox, q->number);
	} while (q->number == 0 || *at != NULL);
	*at = q;
	q->next = NULL;
	inbox->count++;
	return 0;
}

/* Replies to it are late from here on. Inbox lock. */
static void
leave(struct inbox *inbox, struct question *q)
{
	struct question **at;

	if (q->number == 0)
		return;
	at = find(inbox, q->number);
	*at = q->next;
	q->number = 0;
	inbox->count--;
}

static int
enter_locked(struct bus *bus, struct question *q)
{
	int err;

	pthread_mutex_lock(&bus->inbox.lock);
	err = enter(bus, q);
	pthread_mutex_unlock(&bus->inbox.lock);
	return err;
}

static void
leave_locked(struct bus *bus, struct question *q)
{
	pthread_mutex_lock(&bus->inbox.lock);
	leave(&bus->inbox, q);
	pthread_mutex_unlock(&bus->inbox.lock);
}

/* --- ways -------------------------------------------------------------------------------------------------- */

static int
way_init(struct way *way, struct bus_mailbox *m, struct topic *topic, bus_msg_fn fn, void *arg)
{
	struct slots *slots = bus__calloc(1, sizeof *slots + sizeof slots->at[0]);

	if (slots == NULL)
		return BUS_E_NOMEM;
	slots->cap = 1;
	atomic_init(&slots->count, 1);
	atomic_init(&slots->at[0].sub, &way->sub);
	atomic_init(&way->route.slots, slots);
	way->route.topic = topic;
	way->route.mbox = m;
	way->sub.fn = fn;
	way->sub.arg = arg;
	return 0;
}

static void
way_fini(struct way *way)
{
	bus__free(atomic_load_explicit(&way->route.slots, memory_order_relaxed));
	bus__topic_unref(way->route.topic);
}

/* Puts an item in where nothing may be lost. */
static int
put_or_refuse(struct bus_mailbox *m, const struct ring_item *item, struct bus_mailbox **owed)
{
	enum ring_answer answer;

	if (item->block != NULL)
		bus__block_ref(item->block);
	answer = bus__ring_put(&m->ring, item);
	if (answer == RING_FULL && bus__ring_reclaim(&m->ring))
		answer = bus__ring_put(&m->ring, item);
	if (answer == RING_WAKE)
		m->wake(m, owed);
	if (answer == RING_OK || answer == RING_WAKE)
		return 0;
	bus__block_unref(item->block);
	if (answer == RING_SHUT)
		atomic_fetch_add_explicit(&m->lost_shut, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&m->refused, 1, memory_order_relaxed);
	return answer == RING_SHUT ? 0 : BUS_E_FULL;
}

/* Sends an item on its way. Inbox lock: so that the way is there. */
static int
way_put(struct way *way, struct ring_item *item)
{
	struct bus_mailbox *m = way->route.mbox, *owed = NULL;

	item->route = &way->route;
	/* Nothing is owed: neither a peer nor who asks is drained by publishers. */
	if (m->full == BUS_FULL_REFUSE)
		return put_or_refuse(m, item, &owed);
	bus__mailbox_put(m, item, &owed);
	return 0;
}

/* --- questions of a mailbox -------------------------------------------------------------------------------- */

static void
request_unref(struct bus_request *req)
{
	struct bus_mailbox *m = req->way.route.mbox;

	if (atomic_fetch_sub_explicit(&req->refs, 1, memory_order_acq_rel) != 1)
		return;
	way_fini(&req->way);
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

/* Leaves it to the drainer to tell of an end, whoever finds that it is time; or to nobody, who has gone. */
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
		for (at = &m->over; *at != NULL;) /* at the end: what ends first is told first */
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

/* Takes one out of those that are over, if it is among them. Bus lock. */
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
	leave_locked(m->bus, &req->q);
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

/* Lets the drainer end it. Takes over a reference. */
static void
end_soon(struct bus_request *req)
{
	struct bus *bus = bus__ref(req->way.route.mbox->bus);

	bus__lock(bus);
	if (!req->over)
		bus__deadlines_set(req->way.route.mbox, &req->deadline, 0);
	bus__unlock(bus);
	request_unref(req);
	bus__unref(bus);
}

/* --- replies ----------------------------------------------------------------------------------------------- */

/* Whether nobody is left who could reply. */
static bool
is_hopeless(const struct takers *takers)
{
	return takers->known && takers->declined >= takers->count;
}

static void
release_waiter(struct waiter *w, int err)
{
	w->err = err;
	atomic_store_explicit(&w->done, 1, memory_order_release);
	bus__unpark(&w->done);
}

/* The first reply counts; the others find the question over. */
static int
give_waiter(struct bus *bus, struct waiter *w, const struct bus_msg *msg)
{
	struct bus_msg reply = *msg;
	int err;

	reply.topic = w->topic;
	reply.flags = 0;
	reply.reply_to = 0;
	err = bus_msg_keep(&reply, &w->reply);
	leave(&bus->inbox, &w->q);
	release_waiter(w, err);
	return err;
}

static int
give_peer(struct desk *desk, const struct peer_question *asked, struct ring_item *item)
{
	item->flags |= RING_REPLY;
	item->reply = asked->theirs;
	return way_put(&desk->way, item);
}

/* Inbox lock. */
static int
give(struct bus *bus, struct question *q, const struct bus_msg *msg, struct ring_item *item)
{
	if (q->desk != NULL)
		return give_peer(q->desk, (struct peer_question *)q, item);
	if (q->waits)
		return give_waiter(bus, (struct waiter *)q, msg);
	return way_put(&((struct bus_request *)q)->way, item);
}

/* Whether a question is still open to a reply. */
static bool
is_open(const struct question *q, bool from_peer)
{
	if (q == NULL || q->desk == NULL)
		return q != NULL;
	/* What one peer asked no other one answers. */
	return !from_peer && ((const struct peer_question *)q)->expires_ns > bus__now_ns();
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
	at = find(inbox, number);
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

/* A reply that nobody waits for any more, once, whoever comes to it first. Inbox lock. */
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
	at = find(inbox, number);
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
	at = find(inbox, number);
	if (at == NULL || *at == NULL)
		count_late(inbox, number, sequence);
	else if ((*at)->desk != NULL)
		fn(arg, (*at)->desk->way.route.mbox);
	else if (!(*at)->waits)
		fn(arg, ((struct bus_request *)*at)->way.route.mbox);
	pthread_mutex_unlock(&inbox->lock);
}

void
bus__question_decline(struct bus *bus, uint64_t number)
{
	struct inbox *inbox = &bus->inbox;
	struct bus_request *hopeless = NULL;
	struct question **at;

	pthread_mutex_lock(&inbox->lock);
	at = find(inbox, number);
	if (at != NULL && *at != NULL && (*at)->desk == NULL && (*at)->waits) {
		struct waiter *w = (struct waiter *)*at;

		w->takers.declined++;
		if (is_hopeless(&w->takers))
			release_waiter(w, BUS_E_NOBODY);
	} else if (at != NULL && *at != NULL && (*at)->desk == NULL) {
		struct bus_request *req = (struct bus_request *)*at;

		req->takers.declined++;
		if (is_hopeless(&req->takers)) {
			hopeless = req;
			atomic_fetch_add_explicit(&req->refs, 1, memory_order_relaxed);
		}
	}
	pthread_mutex_unlock(&inbox->lock);
	if (hopeless != NULL)
		end_soon(hopeless);
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

/* --- asking ------------------------------------------------------------------------------------------------ */

/* Checks a question and gives it the life that its asker has patience for. */
static int
make_question(const struct bus_msg *msg, int timeout_ms, struct bus_msg *ret_question)
{
	uint32_t life_ms = timeout_ms > 0 ? (uint32_t)timeout_ms : timeout_ms == 0;

	if (msg == NULL || (msg->flags & BUS_MSG_RETAIN))
		return BUS_E_INVAL;
	*ret_question = *msg;
	if (life_ms != 0 && (msg->ttl_ms == 0 || msg->ttl_ms > life_ms))
		ret_question->ttl_ms = life_ms;
	return 0;
}

/* Publishes a question. Says afterwards whom it went to, which who declines in between cannot know. */
static int
ask(struct bus *bus, const struct bus_msg *question, uint64_t number, int64_t deadline_ns,
    struct takers *takers)
{
	uint32_t count = 0;
	int err = bus__publish_question(bus, question, number, deadline_ns, &count);

	/* Who listens in other processes is not known. */
	if (err < 0 || !bus->kind->knows_takers)
		return err;
	pthread_mutex_lock(&bus->inbox.lock);
	takers->count = count;
	takers->known = true;
	err = is_hopeless(takers) ? BUS_E_NOBODY : 0;
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

/* The question is over; other mailboxes come to the reply later, and are not to take it for a late one. */
static void
leave_answered(struct bus *bus, struct waiter *w)
{
	struct inbox *inbox = &bus->inbox;

	pthread_mutex_lock(&inbox->lock);
	leave(inbox, &w->q);
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
		err = ret_reply == NULL ? BUS_E_INVAL : make_question(msg, timeout_ms, &question);
	if (err < 0)
		return err;
	w.topic = question.topic;
	bus__ref(bus);
	err = enter_locked(bus, &w.q);
	if (err == 0 && bus->log != NULL) {
		err = bus->kind->ask(bus, &question, w.q.number, deadline_ns, &w.done, &w.reply);
	} else {
		if (err == 0)
			err = ask(bus, &question, w.q.number, deadline_ns, &w.takers);
		if (err == 0)
			err = await_reply(&w, deadline_ns);
	}
	leave_answered(bus, &w);
	/* A reply counts, however short the time was. */
	if (w.reply != NULL)
		*ret_reply = w.reply;
	else if (w.err < 0)
		err = w.err;
	bus__unref(bus);
	return w.reply != NULL ? 0 : err;
}

/* Where a publish refused the question, or the log another reader, they have said so. */
static int
fail_request(const struct bus *bus, int err, const struct bus_msg *msg, int timeout_ms)
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
	return err < 0 ? fail_request(bus, err, msg, timeout_ms) : 0;
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
				release_waiter((struct waiter *)q, BUS_E_CLOSED);
	pthread_mutex_unlock(&inbox->lock);
	bus->kind->call_askers(bus);
}

/* Lists a request whose memory is there. Bus lock. */
static int
begin(struct bus_mailbox *m, struct bus_request *req, int64_t deadline_ns)
{
	int err = atomic_load_explicit(&m->closed, memory_order_acquire) ? BUS_E_CLOSED : 0;

	if (err == 0)
		err = bus__deadlines_set(m, &req->deadline, deadline_ns);
	if (err < 0)
		return err;
	err = enter_locked(m->bus, &req->q);
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
		err = way_init(&req->way, m, found, fn, arg);
	if (err < 0)
		goto unlock;
	atomic_fetch_add_explicit(&found->refs, 1, memory_order_relaxed);
	err = begin(m, req, deadline_ns);
	if (err == BUS_E_LIMIT)
		err = BUS__NO_DESCRIPTOR;
	if (err < 0) {
		way_fini(&req->way);
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

/* Takes back a request that could not be asked; the publish has said why, and what runs here may fail too. false: it has
 * ended meanwhile, and fn has heard of it. */
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
		err = make_question(msg, timeout_ms, &question);
	if (err < 0)
		return err;
	err = request_new(m, question.topic, deadline_ns, fn, arg, &req, &number);
	if (err < 0)
		return bus__fail_publish(m->bus, err, question.topic, question.len);
	bus = bus__ref(m->bus);
	err = ask(bus, &question, number, deadline_ns, &req->takers);
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
	return err < 0 ? fail_request(m->bus, err, msg, timeout_ms) : 0;
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

/* --- questions of peers ------------------------------------------------------------------------------------- */

struct desk *
bus__desk_open(struct bus_mailbox *m)
{
	struct desk *desk = bus__calloc(1, sizeof *desk);
	struct topic *nameless = bus__calloc(1, sizeof *nameless + 1);

	if (desk == NULL || nameless == NULL)
		goto free_both;
	atomic_init(&nameless->refs, 1);
	if (way_init(&desk->way, m, nameless, NULL, NULL) < 0)
		goto free_both;
	desk->newest_end = &desk->oldest;
	return desk;

free_both:
	bus__free(nameless);
	bus__free(desk);
	return NULL;
}

/* With its place in the inbox. */
#define ASKED_BYTES (bus__held(sizeof(struct peer_question)) + 2 * sizeof(struct question *))

/* Inbox lock. */
static void
forget_oldest(struct inbox *inbox, struct desk *desk)
{
	struct peer_question *oldest = desk->oldest;

	desk->oldest = oldest->newer;
	if (desk->oldest == NULL)
		desk->newest_end = &desk->oldest;
	desk->count--;
	leave(inbox, &oldest->q);
	bus__account_sub(desk->way.route.mbox->account, ASKED_BYTES);
	bus__free(oldest);
}

void
bus__desk_close(struct desk *desk)
{
	struct inbox *inbox = &desk->way.route.mbox->bus->inbox;

	pthread_mutex_lock(&inbox->lock);
	while (desk->oldest != NULL)
		forget_oldest(inbox, desk);
	pthread_mutex_unlock(&inbox->lock);
}

void
bus__desk_free(struct desk *desk)
{
	way_fini(&desk->way);
	bus__free(desk);
}

int
bus__desk_accept(struct desk *desk, uint64_t theirs, uint32_t ttl_ms, uint64_t *ret_number)
{
	struct bus__account *account = desk->way.route.mbox->account;
	struct bus *bus = desk->way.route.mbox->bus;
	struct peer_question *asked;
	int64_t now = bus__now_ns();
	int err;

	if (bus__account_is_full(account, ASKED_BYTES, 0))
		return BUS_E_LIMIT;
	asked = bus__calloc(1, sizeof *asked);
	if (asked == NULL)
		return BUS_E_NOMEM;
	asked->q.desk = desk;
	asked->theirs = theirs;
	asked->expires_ns = ttl_ms != 0 ? now + ttl_ms * NS_PER_MS : INT64_MAX;
	pthread_mutex_lock(&bus->inbox.lock);
	while (desk->count == DESK_MOST || (desk->count > 0 && desk->oldest->expires_ns <= now))
		forget_oldest(&bus->inbox, desk);
	err = enter(bus, &asked->q);
	if (err == 0) {
		*ret_number = asked->q.number;
		*desk->newest_end = asked;
		desk->newest_end = &asked->newer;
		desk->count++;
		bus__account_add(account, ASKED_BYTES);
	}
	pthread_mutex_unlock(&bus->inbox.lock);
	if (err < 0)
		bus__free(asked);
	return err;
}

void
bus__desk_decline(struct desk *desk, uint64_t theirs)
{
	struct inbox *inbox = &desk->way.route.mbox->bus->inbox;
	struct ring_item item = {.flags = RING_REPLY | RING_ANSWER | RING_NOBODY, .reply = theirs};

	pthread_mutex_lock(&inbox->lock);
	way_put(&desk->way, &item);
	pthread_mutex_unlock(&inbox->lock);
}
