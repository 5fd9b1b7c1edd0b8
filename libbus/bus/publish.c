/* bus/publish.c: by name from any thread, by handle, and from a peer. */
#define _POSIX_C_SOURCE 200809L
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/thread.h"
#include "bus/bus_internal.h"
#include "bus/fail.h"
#include "bus/keep.h"
#include "topic/name.h"
#include "bus/notice.h"
#include "bus/publish.h"
#include "bus/request.h"
#include "base/sized.h"
#include "bus/walk.h"
#include "log/log.h"

#define NS_PER_MS INT64_C(1000000)

struct bus_pub {
	struct bus *bus;
	struct topic *topic;      /* counted */
	struct snapshot *routes;  /* counted; compared with the topic's on every send */
	struct bus__pool *pool;   /* made when it is first needed */
	struct bus__block *loans; /* not committed and not aborted */
	size_t small;             /* payloads up to here take the short way; 0: none */
	uint64_t word;            /* of such a frame, but for its length */
	struct log_topic
	    named; /* on a named bus; and what its records have. topic NULL: it is private */
	struct log_item record;
	int (*send_one)(struct bus *bus, const struct log_item *record, const void *data,
	    size_t len); /* its kind's */
	int type, wait_ms;
};

/* What a publish has claimed in mailboxes that refuse: all of them take the message, or none gets it. */
enum { CLAIMS_HERE = 8 };

struct claimed {
	struct ring_claim at;
	enum ring_answer answer;
};

struct claims {
	struct claimed here[CLAIMS_HERE], *all; /* more than fit here are allocated */
	struct bus_mailbox *full;               /* the one that refused */
};

static void
finish_claims(struct claims *claims)
{
	if (claims->all != claims->here)
		bus__free(claims->all);
}

/* Ends claims of the first `count` refusing mailboxes: they get the item, or (NULL) nothing. */
static void
end_claims(const struct snapshot *snapshot, uint32_t count, struct claims *claims,
    struct ring_item *item, bool commit, struct bus_mailbox **owed)
{
	for (uint32_t i = 0; i < count; i++) {
		struct bus_mailbox *m = snapshot->routes[i]->mbox;
		struct claimed *c = &claims->all[i];

		if (c->answer == RING_SHUT || c->answer == RING_FULL) {
			if (commit)
				atomic_fetch_add_explicit(
				    c->answer == RING_SHUT ? &m->lost_shut : &m->refused, 1,
				    memory_order_relaxed);
			continue;
		}
		item->route = snapshot->routes[i];
		if (commit && item->block != NULL)
			bus__block_ref(item->block);
		if (commit)
			bus__ring_commit(&m->ring, &c->at, item);
		else
			bus__ring_cancel(&m->ring, &c->at, item);
		if (c->answer == RING_WAKE)
			m->wake(m, owed);
	}
	finish_claims(claims);
}

/* Claims a place in every mailbox that refuses, or where passes_full in those that have one. 0, BUS_E_FULL with claims->full,
 * BUS_E_NOMEM: nothing is claimed. */
static int
claim_all(const struct snapshot *snapshot, struct claims *claims, struct ring_item *item,
    bool passes_full, struct bus_mailbox **owed)
{
	uint32_t count = snapshot != NULL ? snapshot->refusing : 0;

	claims->all = claims->here;
	if (count > CLAIMS_HERE)
		claims->all = bus__calloc(count, sizeof *claims->all);
	if (claims->all == NULL)
		return BUS_E_NOMEM;
	for (uint32_t i = 0; i < count; i++) {
		struct bus_mailbox *m = snapshot->routes[i]->mbox;
		struct claimed *c = &claims->all[i];

		c->answer = bus__ring_claim(&m->ring, item, &c->at);
		if (c->answer == RING_FULL && bus__ring_reclaim(&m->ring))
			c->answer = bus__ring_claim(&m->ring, item, &c->at);
		if (c->answer == RING_FULL && !passes_full) {
			claims->full = m;
			end_claims(snapshot, i, claims, item, false, owed);
			return BUS_E_FULL;
		}
	}
	return 0;
}

/* Puts a message into the mailboxes of a snapshot: into those that refuse by what was claimed, then into the others.
 * item->route is set here; item->block, if any, stays the caller's. The caller keeps the snapshot alive. */
static void
deliver(const struct snapshot *snapshot, struct claims *claims, struct ring_item *item,
    bool skip_peers, struct bus_mailbox **owed)
{
	if (snapshot == NULL)
		return;
	end_claims(snapshot, snapshot->refusing, claims, item, true, owed);
	for (uint32_t i = snapshot->refusing; i < snapshot->count; i++) {
		struct route *route = snapshot->routes[i];

		if (skip_peers && route->mbox->is_peer)
			continue;
		item->route = route;
		bus__mailbox_put(route->mbox, item, owed);
	}
}

/* A publish, besides its message: what its caller has and what it leaves to him. */
struct attempt {
	bool from_peer;           /* or the bus's own: not for peers */
	struct bus__offer *offer; /* a peer's value; NULL: it is none */
	struct bus__pool **pool;  /* for large payloads, made when it is first needed; NULL: none */
	struct bus_mailbox *full; /* because of which it was refused */
	struct bus_mailbox *owed; /* to be drained when nothing is held any more */
	bool unheard;             /* so often that it is time for a warning */
	uint32_t takers;          /* mailboxes that were to get a question */
	struct bus__account *account; /* of the peer that it comes from */
	struct bus *held; /* by name: counted, where more is to be done behind the stripe */
};

/* Makes an empty block. NULL: out of memory. */
static struct bus__block *
make_block(struct bus__pool **pool, size_t len)
{
	if (pool != NULL && *pool == NULL)
		*pool = bus__pool_new();
	return bus__block_new(pool != NULL ? *pool : NULL, len);
}

/* Makes one of an item's payload and headers. */
static struct bus__block *
make_copy(struct bus__pool **pool, const struct ring_item *item)
{
	struct bus__block *block = make_block(pool, item->len);

	if (block != NULL)
		bus__ring_item_copy(block->data, item);
	return block;
}

static bool
has_peers(const struct snapshot *routes)
{
	for (uint32_t i = 0; routes != NULL && i < routes->count; i++)
		if (routes->routes[i]->mbox->is_peer)
			return true;
	return false;
}

/* Publishes a message that is kept: it is stored and put into all mailboxes under the keep lock, so that a
 * subscription that begins meanwhile sees it exactly once. The caller holds a stripe. 0, SWEPT: the topic was swept
 * meanwhile, BUS_E_FULL, BUS_E_NOMEM. */
#define SWEPT 1
static int
publish_kept(struct bus *bus, struct topic *topic, struct ring_item *item, struct attempt *attempt)
{
	struct bus__block *loan = item->block;
	struct kept *kept = bus__kept_new(item), *old = kept;
	const struct snapshot *routes;
	enum keep_answer answer;
	struct claims claims;
	int err;

	if (kept == NULL)
		return BUS_E_NOMEM;
	if (item->flags & RING_RETAIN)
		item->flags |= RING_TIME;
	pthread_mutex_lock(bus__keep_lock(bus, topic));
	routes = atomic_load_explicit(&topic->routes, memory_order_acquire);
	/* Its block stays as long as the lock is held, and tells peers the version. */
	if (loan != NULL || item->len > RING_INLINE_MAX || (kept->retained && has_peers(routes)))
		item->block = kept->block;
	err = topic->gone ? SWEPT : bus__history_make(topic);
	if (err == 0)
		err = bus__kept_charge(topic, kept, attempt->account);
	if (err == 0 && routes == NULL)
		err = bus__enter(bus); /* its end takes all routes away */
	/* A peer that sent a value could not send it again: it is kept, and who has no room is passed over. */
	if (err == 0)
		err = claim_all(routes, &claims, item, attempt->offer != NULL, &attempt->owed);
	if (err == 0) {
		answer = bus__history_store(bus, topic, item, attempt->offer, kept, &old);
		/* A live message that is older than what is kept is news all the same; a kept one is not. */
		if (answer == KEEP_STORED ||
		    (answer == KEEP_OLDER && attempt->offer != NULL && !attempt->offer->is_kept))
			deliver(routes, &claims, item, attempt->from_peer, &attempt->owed);
		else if (routes != NULL)
			end_claims(routes, routes->refusing, &claims, item, false, &attempt->owed);
	}
	pthread_mutex_unlock(bus__keep_lock(bus, topic));
	bus__kept_free(old);
	item->block = loan;
	if (err == BUS_E_FULL)
		attempt->full = claims.full;
	return err;
}

/* Whether the message is to be kept; a question is not, since it is over soon. The answer may change meanwhile, so it is asked for once. */
static bool
is_kept(const struct topic *topic, const struct ring_item *item)
{
	return (item->flags & RING_RETAIN) || (bus__keeps(topic) && !(item->flags & RING_REPLY));
}

static __attribute__((noinline)) uint32_t
count_takers(const struct snapshot *routes, bool from_peer)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < routes->count; i++) {
		const struct bus_mailbox *m = routes->routes[i]->mbox;

		count += !(from_peer && m->is_peer) &&
			 !atomic_load_explicit(&m->is_cut_off, memory_order_relaxed);
	}
	return count;
}

/* The common part of all other publishes, with routes that stay meanwhile. A block that the item comes with stays the
 * caller's. 0, BUS_E_NOMEM, BUS_E_FULL. */
static int
publish_plain(const struct snapshot *routes, struct ring_item *item, struct attempt *attempt)
{
	struct bus__block *made = NULL;
	struct claims claims;
	int err;

	if (item->block == NULL && item->len > RING_INLINE_MAX) {
		made = make_copy(attempt->pool, item);
		if (made == NULL)
			return BUS_E_NOMEM;
		item->block = made;
	}
	err = claim_all(routes, &claims, item, false, &attempt->owed);
	if (err == 0) {
		if (item->flags & RING_REPLY)
			attempt->takers = count_takers(routes, attempt->from_peer);
		deliver(routes, &claims, item, attempt->from_peer, &attempt->owed);
	} else if (err == BUS_E_FULL) {
		attempt->full = claims.full;
	}
	bus__block_unref(made);
	return err;
}

/* Nobody is there to get it, which is no error, unless all routes were taken away by the end of the bus. */
static inline int
publish_unheard(struct bus *bus, struct topic *topic, struct attempt *attempt)
{
	if (!attempt->from_peer)
		attempt->unheard = bus__count_unheard(bus, topic);
	return bus__enter(bus);
}

/* bus_close() waits for stripes: with none, a publish by name has the bus only where it counts it before. */
static inline void
hold_for_more(struct bus *bus, struct attempt *attempt, bool more)
{
	if ((more || attempt->owed != NULL || attempt->unheard ||
		atomic_load_explicit(&bus->watched, memory_order_relaxed) != 0) &&
	    attempt->held == NULL)
		attempt->held = bus__ref(bus);
}

/* What a publish does last, when nothing is held any more. */
static void
finish(struct bus *bus, const char *topic, const struct attempt *attempt)
{
	if (attempt->owed != NULL)
		bus__mailbox_drain_owed(attempt->owed);
	if (attempt->unheard)
		bus__warn_unheard(bus, topic);
	bus__heed(bus);
}

static void
count_refused(struct bus_mailbox *full)
{
	atomic_fetch_add_explicit(&full->refused, 1, memory_order_relaxed);
}

/* Ends a publish by name that failed on a topic that exists. Gives the stripe back and drains first, since callbacks may
 * fail too, and the text is to be that of this call. The bus's own fail unnoticed. */
static __attribute__((cold, noinline)) void
end_refused(
    struct bus *bus, const char *name, struct stripe *stripe, struct attempt *attempt, int err)
{
	if (err == BUS_E_FULL) {
		count_refused(attempt->full);
		bus__mailbox_ref(attempt->full);
	}
	hold_for_more(bus, attempt, true);
	bus__read_end(stripe);
	bus__mailbox_drain_owed(attempt->owed);
	attempt->owed = NULL;
	if (err == BUS_E_FULL && !attempt->from_peer)
		bus__fail_full(attempt->full, name);
	else if (!attempt->from_peer)
		bus__fail_publish(bus, err, name, 0);
	if (err == BUS_E_FULL)
		bus__mailbox_unref(attempt->full);
}

static int
payload_check(const struct bus *bus, const void *data, size_t len)
{
	if (data == NULL && len > 0)
		return BUS_E_INVAL;
	return len > bus->max_payload ? BUS_E_TOO_BIG : 0;
}

/* Checks a message and makes the item that rings take. */
int
bus__item_make(const struct bus *bus, const struct bus_msg *msg, struct ring_item *ret_item)
{
	int err = payload_check(bus, msg->data, msg->len);

	if (err < 0)
		return err;
	if (msg->headers == NULL && msg->headers_len > 0)
		return BUS_E_INVAL;
	if (msg->headers_len > bus->max_payload - msg->len)
		return BUS_E_TOO_BIG;
	if (msg->type < 0 || msg->type > UINT8_MAX || msg->time_ns < 0 ||
	    (msg->flags & ~(uint32_t)(BUS_MSG_RETAIN | BUS_MSG_KEPT | BUS_MSG_LOST_AT_LEAST)))
		return BUS_E_INVAL;
	*ret_item = (struct ring_item){
	    .data = msg->data,
	    .headers = msg->headers,
	    .len = (uint32_t)(msg->len + msg->headers_len),
	    .headers_len = (uint32_t)msg->headers_len,
	    .type = (uint8_t)msg->type,
	    .flags = msg->flags & BUS_MSG_RETAIN ? RING_RETAIN : 0,
	    .time_ns = msg->flags & BUS_MSG_RETAIN ? msg->time_ns : 0,
	};
	if (msg->headers_len > 0)
		ret_item->flags |= RING_HEADERS;
	if (msg->ttl_ms != 0) {
		ret_item->flags |= RING_TTL;
		ret_item->expires_ns = bus__now_ns() + msg->ttl_ms * NS_PER_MS;
	}
	return 0;
}

/* --- by name ------------------------------------------------------------------------------------------------ */

/* Publishes on a topic that exists. false: it does not. */
static inline __attribute__((always_inline)) bool
publish_on_found(struct bus *bus, const char *name, size_t len, struct ring_item *item,
    struct attempt *attempt, int *ret_err)
{
	struct stripe *stripe = bus__read_begin(bus);
	struct topic *topic = bus__topic_find(bus, name, len);
	const struct snapshot *routes;

	if (topic != NULL) {
		if (!atomic_load_explicit(&topic->used, memory_order_relaxed))
			atomic_store_explicit(&topic->used, true, memory_order_relaxed);
		attempt->pool = &stripe->pool;
		routes = atomic_load_explicit(&topic->routes, memory_order_acquire);
		if (is_kept(topic, item))
			*ret_err = publish_kept(bus, topic, item, attempt);
		else if (routes != NULL)
			*ret_err = publish_plain(routes, item, attempt);
		else
			*ret_err = publish_unheard(bus, topic, attempt);
		if (*ret_err < 0) {
			end_refused(bus, name, stripe, attempt, *ret_err);
			return true;
		}
	}
	hold_for_more(bus, attempt, topic == NULL || *ret_err == SWEPT);
	bus__read_end(stripe);
	return topic != NULL;
}

/* Inline: a plain publish is to pay nothing for questions, which come here too. own: on a topic of the bus's own, which
 * peers do not get. */
static inline __attribute__((always_inline)) int
publish_named(
    struct bus *bus, const char *name, struct ring_item *item, struct attempt *attempt, bool own)
{
	struct topic *topic;
	size_t len = name != NULL ? strnlen(name, BUS_LIMIT_TOPIC_BYTES + 1) : 0;
	bool checked = own;
	int err = 0;

	if (bus->log != NULL && !own)
		return bus->kind->publish(bus, name, item);
	/* A name that is in the table has been checked; but $... is there for the bus itself. */
	while (len == 0 || (name[0] == '$' && !own) ||
	       !publish_on_found(bus, name, len, item, attempt, &err) || err == SWEPT) {
		if (!checked) {
			err = bus__topic_check(name, &len);
			if (err < 0) {
				err = bus__fail_name(err, name);
				break;
			}
			checked = true;
		}
		/* New: make it, and look it up again, since it may be swept before we get there. */
		bus__lock(bus);
		err = bus__topic_make(bus, name, len, &topic);
		bus__unlock(bus);
		if (err < 0) {
			err = own ? err : bus__fail_publish(bus, err, name, 0);
			break;
		}
	}
	if (attempt->held != NULL) {
		finish(bus, name, attempt);
		bus__unref(attempt->held);
	}
	return err;
}

static int
publish_by_name(struct bus *bus, const char *name, struct ring_item *item, bool own)
{
	struct attempt attempt = {.from_peer = own};

	return publish_named(bus, name, item, &attempt, own);
}

int
bus__publish_notice(struct bus *bus, const char *topic, const void *data, size_t len)
{
	struct ring_item item = {
	    .data = data, .len = (uint32_t)len, .type = (uint8_t)BUS_TYPE_MSGPACK};

	return publish_by_name(bus, topic, &item, true);
}

int
bus_publish_msg(struct bus *bus, const struct bus_msg *msg)
{
	struct bus_msg room;
	struct ring_item item;
	int err = bus__enter(bus);

	if (err < 0)
		return bus__fail_publish(bus, err, NULL, 0);
	if (msg == NULL)
		return bus__fail(BUS_E_INVAL, "the message is NULL");
	err = BUS__SIZED_IN(SIZED_MSG, msg, &room);
	if (err < 0)
		return err;
	err = bus__item_make(bus, msg, &item);
	if (err < 0)
		return bus__fail_publish(bus, err, msg->topic, msg->len + msg->headers_len);
	return publish_by_name(bus, msg->topic, &item, false);
}

int
bus__publish_question(struct bus *bus, const struct bus_msg *msg, uint64_t number,
    int64_t deadline_ns, uint32_t *ret_takers)
{
	struct attempt attempt = {.from_peer = false};
	struct ring_item item;
	int err = bus__item_make(bus, msg, &item);

	if (err < 0)
		return bus__fail_publish(bus, err, msg->topic, msg->len + msg->headers_len);
	if ((item.flags & RING_TTL) && item.expires_ns > deadline_ns)
		item.expires_ns = deadline_ns; /* it has taken its time to get here */
	item.flags |= RING_REPLY;
	item.reply = number;
	err = publish_named(bus, msg->topic, &item, &attempt, false);
	*ret_takers = attempt.takers;
	return err;
}

/* Apart, so that a publish that succeeds saves no register for it. */
static __attribute__((cold, noinline)) int
fail_closed(const struct bus *bus, const char *topic)
{
	int err = bus__enter(bus);

	return err < 0 ? bus__fail_publish(bus, err, topic, 0) : 0;
}

int
bus_publish(struct bus *bus, const char *topic, const void *data, size_t len)
{
	struct ring_item item = {.data = data, .len = (uint32_t)len};
	int err;

	if (bus == NULL || !bus__is_open(bus))
		return fail_closed(bus, topic);
	err = payload_check(bus, data, len);
	if (err < 0)
		return bus__fail_publish(bus, err, topic, len);
	return publish_by_name(bus, topic, &item, false);
}

/* --- by handle ---------------------------------------------------------------------------------------------- */

/* What all its records in a log have. */
static void
record_of(struct bus_pub *pub, const struct log *log)
{
	bus__log_topic(log, pub->topic->name, pub->topic->len, &pub->named);
	pub->named.stays = true;
	pub->record = (struct log_item){
	    .topic = &pub->named, .type = (uint8_t)pub->type, .origin = log->member};
}

/* A log needs no routes. */
static void
begin_pub(struct bus_pub *pub, struct bus *bus)
{
	if (bus->log != NULL) {
		record_of(pub, bus->log);
		pub->send_one = bus->kind->send_one;
		return;
	}
	pub->small = bus->max_payload < RING_SMALL_MAX ? bus->max_payload : RING_SMALL_MAX;
	pub->routes =
	    bus__snapshot_ref(atomic_load_explicit(&pub->topic->routes, memory_order_relaxed));
}

static int
open_pub(
    struct bus *bus, const char *topic, const struct bus_pub_config *cfg, struct bus_pub **ret_pub)
{
	struct bus_pub *pub;
	size_t len;
	int err = bus__enter(bus);

	if (err == 0)
		err = bus__topic_check(topic, &len);
	if (err < 0)
		return err;
	if (ret_pub == NULL || (cfg != NULL && (cfg->type < 0 || cfg->type > UINT8_MAX)))
		return BUS_E_INVAL;
	pub = bus__calloc(1, sizeof *pub);
	if (pub == NULL)
		return BUS_E_NOMEM;
	pub->type = cfg != NULL ? cfg->type : BUS_TYPE_UNTAGGED;
	pub->wait_ms = cfg != NULL ? cfg->wait_ms : 0;
	pub->word = bus__ring_word(0, 0, (uint8_t)pub->type);
	bus__lock(bus);
	err = bus__enter(bus);
	if (err == 0)
		err = bus__topic_make(bus, topic, len, &pub->topic);
	if (err == BUS_E_LIMIT)
		err = BUS__NO_TOPIC;
	if (err == 0) {
		pub->topic->handles++;
		atomic_fetch_add_explicit(&pub->topic->refs, 1, memory_order_relaxed);
		begin_pub(pub, bus);
		pub->bus = bus__ref(bus);
	}
	bus__unlock(bus);
	if (err < 0) {
		bus__free(pub);
		return err;
	}
	*ret_pub = pub;
	return 0;
}

int
bus_pub_open(
    struct bus *bus, const char *topic, const struct bus_pub_config *cfg, struct bus_pub **ret_pub)
{
	struct bus_pub_config room;
	int err = BUS__SIZED_IN(SIZED_PUB_CONFIG, cfg, &room);

	if (err < 0)
		return err;
	err = open_pub(bus, topic, cfg, ret_pub);
	if (err == BUS_E_INVAL && bus != NULL && topic != NULL)
		return bus__fail(err,
		    BUS__SHOWN ": bad argument: ret_pub is NULL, or type is not 0 to 255", topic);
	return err < 0 ? bus__fail_publish(bus, err, topic, 0) : 0;
}

static const char *
topic_of(const struct bus_pub *pub)
{
	return pub->topic->name;
}

static __attribute__((cold, noinline)) int
fail_pub(const struct bus_pub *pub, int err, size_t len)
{
	if (pub == NULL)
		return bus__fail(err, "the handle is NULL: open one with bus_pub_open()");
	return bus__fail_publish(pub->bus, err, topic_of(pub), len);
}

static int
enter_pub(const struct bus_pub *pub)
{
	return pub == NULL ? BUS_E_INVAL : bus__enter(pub->bus);
}

/* Acquire: pairs with the release that shows a snapshot. Ours cannot be freed and come back at the same address
 * while we hold it, so equal pointers mean nothing has changed. */
static inline bool
has_current_routes(const struct bus_pub *pub)
{
	return atomic_load_explicit(&pub->topic->routes, memory_order_acquire) == pub->routes;
}

/* Counts the topic's routes of now and lets go of the old ones. */
static void
refresh(struct bus_pub *pub)
{
	bus__lock(pub->bus);
	bus__snapshot_unref(pub->routes);
	pub->routes =
	    bus__snapshot_ref(atomic_load_explicit(&pub->topic->routes, memory_order_relaxed));
	bus__unlock(pub->bus);
}

/* With BUS_E_FULL attempt->full is a reference, to be let go of. */
static int
send(struct bus_pub *pub, struct ring_item *item, struct attempt *attempt)
{
	struct stripe *stripe = NULL;
	int err;

	if (is_kept(pub->topic, item)) {
		/* It goes to the routes that are current under the keep lock, which ours may not be: they are
		 * read as a publish by name reads them. */
		stripe = bus__read_begin(pub->bus);
		err = publish_kept(pub->bus, pub->topic, item, attempt);
	} else {
		if (!has_current_routes(pub))
			refresh(pub);
		err = pub->routes != NULL ? publish_plain(pub->routes, item, attempt)
					  : publish_unheard(pub->bus, pub->topic, attempt);
	}
	if (err == BUS_E_FULL)
		bus__mailbox_ref(attempt->full);
	if (stripe != NULL)
		bus__read_end(stripe);
	return err;
}

/* Ends a send by handle that failed for good. */
static __attribute__((cold, noinline)) void
end_failed(const struct bus_pub *pub, const struct attempt *attempt, int err, size_t len)
{
	if (err != BUS_E_FULL) {
		fail_pub(pub, err, len);
		return;
	}
	count_refused(attempt->full);
	bus__fail_full(attempt->full, topic_of(pub));
}

/* Waits for room until the deadline, or for as long as this thread may. 1: there may be some; 0: not in time; BUS__E_WAITS: this thread's
 * time is over; BUS_E_CLOSED. */
static __attribute__((cold, noinline)) int
await_room(const struct bus_pub *pub, struct bus_mailbox *full, const struct ring_item *item,
    int64_t deadline_ns)
{
	int64_t limit_ns = bus__wait_limit();
	bool limited = limit_ns < deadline_ns;

	if (limited && limit_ns <= bus__now_ns())
		return BUS__E_WAITS;
	if (bus__mailbox_await_room(full, item, limited ? limit_ns : deadline_ns))
		return bus__is_open(pub->bus) ? 1 : fail_pub(pub, bus__enter(pub->bus), item->len);
	return limited ? BUS__E_WAITS : 0;
}

/* Sends, and waits for room as the handle says. */
static int
send_patiently(struct bus_pub *pub, struct ring_item *item)
{
	const struct ring_item fresh = *item; /* a try changes it */
	int wait_ms = bus__in_callback() ? 0 : pub->wait_ms;
	int64_t deadline_ns = wait_ms != 0 ? bus__deadline_ns(wait_ms) : 0;
	int err, room;

	if (pub->record.topic != NULL)
		return pub->bus->kind->send(pub->bus, &pub->named, item);
	do {
		struct attempt attempt = {.pool = &pub->pool};

		err = send(pub, item, &attempt);
		room = 0;
		finish(pub->bus, pub->topic->name, &attempt);
		if (err == BUS_E_FULL && wait_ms != 0)
			room = await_room(pub, attempt.full, item, deadline_ns);
		if (err < 0 && room == 0)
			end_failed(pub, &attempt, err, item->len);
		if (err == BUS_E_FULL)
			bus__mailbox_unref(attempt.full);
		if (room < 0)
			err = room;
		*item = fresh;
	} while (room > 0);
	return err;
}

/* --- the short way: a small payload into mailboxes that have room ---------------------------------------- */

/* For a mailbox that has no room at once. */
static __attribute__((cold, noinline)) void
put_otherwise(const struct bus_pub *pub, struct route *route, const void *data, uint32_t len,
    struct bus_mailbox **owed)
{
	bus__mailbox_put(route->mbox,
	    &(struct ring_item){
		.route = route, .data = data, .len = len, .type = (uint8_t)pub->type},
	    owed);
	bus__heed(pub->bus);
}

/* Puts a small message into one of several mailboxes. */
static inline void
put_small(const struct bus_pub *pub, struct route *route, const void *data, uint32_t len,
    struct bus_mailbox **owed)
{
	struct bus_mailbox *m = route->mbox;
	uint64_t tail;
	uint8_t *at = bus__ring_claim_here(&m->ring, bus__ring_small_bytes(len), &tail);

	if (at == NULL) {
		put_otherwise(pub, route, data, len, owed);
		return;
	}
	bus__ring_fill(at, route, pub->word | len, data);
	if (tail & RING_ASLEEP)
		m->wake(m, owed);
}

/* Several mailboxes, or one that has no room at once. */
static __attribute__((noinline)) int
put_small_in_all(const struct bus_pub *pub, const void *data, uint32_t len)
{
	struct bus_mailbox *owed = NULL;

	for (uint32_t i = 0; i < pub->routes->count; i++)
		put_small(pub, pub->routes->routes[i], data, len, &owed);
	bus__mailbox_drain_owed(owed);
	return 0;
}

static __attribute__((noinline)) int
send_item(struct bus_pub *pub, const void *data, size_t len)
{
	struct ring_item item;
	int err = enter_pub(pub);

	if (err == 0)
		err = bus__item_make(pub->bus,
		    &(struct bus_msg){.data = data, .len = len, .type = pub->type}, &item);
	if (err < 0)
		return fail_pub(pub, err, len);
	return send_patiently(pub, &item);
}

/* A log, a large payload or none, mailboxes that do more than drop, or a bus that has ended. */
static __attribute__((noinline)) int
send_otherwise(struct bus_pub *pub, const void *data, size_t len)
{
	if (pub == NULL || pub->record.topic == NULL || !bus__is_open(pub->bus))
		return send_item(pub, data, len);
	return pub->send_one(pub->bus, &pub->record, data, len);
}

/* Whether the short way is open: rings that drop, and nothing about them has changed. */
static inline bool
is_quick(const struct bus_pub *pub)
{
	return bus__is_open(pub->bus) && has_current_routes(pub) && pub->routes != NULL &&
	       pub->routes->plain;
}

/* The calls in it end it, so that nothing must be kept over them. */
int
bus_pub_send(struct bus_pub *pub, const void *data, size_t len)
{
	struct bus_mailbox *m;
	struct route *route;
	uint64_t tail;
	uint8_t *at;

	if (pub == NULL || len > pub->small || data == NULL || !is_quick(pub))
		return send_otherwise(pub, data, len);
	if (pub->routes->count > 1)
		return put_small_in_all(pub, data, (uint32_t)len);
	route = pub->routes->routes[0];
	m = route->mbox;
	at = bus__ring_claim_here(&m->ring, bus__ring_small_bytes((uint32_t)len), &tail);
	if (at == NULL)
		return put_small_in_all(pub, data, (uint32_t)len);
	bus__ring_fill(at, route, pub->word | len, data);
	return tail & RING_ASLEEP ? bus__mailbox_wake_now(m) : 0;
}

/* How many of the items go into a ring by one claim, and the bytes that they need there. */
static size_t
measure_run(
    const struct bus_pub *pub, const struct bus_slice *items, size_t count, uint32_t *ret_bytes)
{
	const struct bus_slice *item = items;
	const struct bus_slice *end = items + (count < RING_MANY ? count : RING_MANY);
	uint32_t bytes = 0;

	for (; item < end && item->len <= pub->small && item->data != NULL; item++)
		bytes += bus__ring_small_bytes((uint32_t)item->len);
	*ret_bytes = bytes;
	return (size_t)(item - items);
}

static void
put_run(const struct bus_pub *pub, struct route *route, const struct bus_slice *items, size_t run,
    uint32_t bytes, struct bus_mailbox **owed)
{
	struct bus_mailbox *m = route->mbox;
	uint64_t tail, word = pub->word;
	uint8_t *at = bus__ring_claim_here(&m->ring, bytes, &tail);

	if (at == NULL) {
		for (size_t i = 0; i < run; i++)
			put_small(pub, route, items[i].data, (uint32_t)items[i].len, owed);
		return;
	}
	for (size_t i = 0; i < run; i++) {
		bus__ring_fill(at, route, word | items[i].len, items[i].data);
		at += bus__ring_small_bytes((uint32_t)items[i].len);
	}
	if (tail & RING_ASLEEP)
		m->wake(m, owed);
}

/* Returns how many went, together: at least one. */
static size_t
send_run_here(struct bus_pub *pub, const struct bus_slice *items, size_t count, int *ret_err)
{
	struct bus_mailbox *owed = NULL;
	uint32_t bytes;
	size_t run = measure_run(pub, items, count, &bytes);

	if (run < 2 || !is_quick(pub)) {
		*ret_err = bus_pub_send(pub, items->data, items->len);
		return 1;
	}
	for (uint32_t i = 0; i < pub->routes->count; i++)
		put_run(pub, pub->routes->routes[i], items, run, bytes, &owed);
	bus__mailbox_drain_owed(owed);
	return run;
}

static size_t
send_run(struct bus_pub *pub, const struct bus_slice *items, size_t count, int *ret_err)
{
	if (pub->record.topic == NULL)
		return send_run_here(pub, items, count, ret_err);
	*ret_err = bus__is_open(pub->bus) ? 0 : bus__enter(pub->bus);
	if (*ret_err == 0)
		*ret_err = pub->bus->kind->send_many(pub->bus, &pub->record, items, count);
	return *ret_err > 0 ? (size_t)*ret_err : 0;
}

/* Ends a batch at an item that failed; bus_pub_send() has said why, and the log has not. */
static __attribute__((cold, noinline)) int
end_early(const struct bus_pub *pub, int err, const struct bus_slice *item, size_t sent)
{
	if (pub->record.topic != NULL)
		fail_pub(pub, err, item->len);
	return sent > 0 ? (int)sent : err;
}

int
bus_pub_send_many(struct bus_pub *pub, const struct bus_slice *items, size_t count)
{
	size_t sent = 0;
	int err = 0;

	if (pub == NULL || (items == NULL && count > 0) || count > INT_MAX)
		return bus__fail(BUS_E_INVAL,
		    "bus_pub_send_many(): the handle or the items are NULL, or there are more than %d",
		    INT_MAX);
	while (sent < count) {
		size_t run = send_run(pub, items + sent, count - sent, &err);

		if (err < 0)
			return end_early(pub, err, &items[sent], sent);
		sent += run;
	}
	return (int)sent;
}

int
bus__publish_from_peer(struct bus_pub *pub, const struct bus_msg *msg, struct bus__offer *offer,
    struct bus_mailbox *asker)
{
	bool is_value = (msg->flags & (BUS_MSG_RETAIN | BUS_MSG_KEPT)) != 0;
	struct attempt attempt = {
	    .from_peer = true, .account = asker->account, .offer = is_value ? offer : NULL};
	struct ring_item item;
	int err = enter_pub(pub);

	if (err < 0)
		return err;
	err = bus__item_make(pub->bus, msg, &item);
	if (err < 0)
		return err;
	offer->since = bus__walk_since(asker->walk);
	if (msg->flags & BUS_MSG_KEPT) {
		item.flags |= RING_KEPT | RING_RETAIN;
		item.time_ns = msg->time_ns;
	}
	if (msg->reply_to != 0) {
		/* The reply comes to a peer that has subscribed to nothing, too. */
		bus__lock(pub->bus);
		err = pub->bus->kind->begin_replies(asker);
		bus__unlock(pub->bus);
		if (err < 0)
			return err;
	}
	if (msg->reply_to != 0) {
		item.flags |= RING_REPLY;
		err = bus__desk_accept(asker->desk, msg->reply_to, msg->ttl_ms, &item.reply);
		if (err < 0)
			return err;
	}
	if (pub->record.topic != NULL)
		return pub->bus->kind->relay(pub->bus, &pub->named, &item, offer);
	err = send(pub, &item, &attempt);
	if (err == BUS_E_FULL) {
		count_refused(attempt.full);
		bus__mailbox_unref(attempt.full);
	}
	if (err == 0 && msg->reply_to != 0 && attempt.takers == 0)
		bus__desk_decline(asker->desk, msg->reply_to);
	finish(pub->bus, pub->topic->name, &attempt);
	return err;
}

bool
bus__peer_wants(const struct bus_mailbox *m, const struct bus_pub *pub)
{
	const struct route *route;
	bool wants;

	bus__lock(pub->bus);
	route = bus__topic_route(pub->topic, m);
	wants = route != NULL && route->live > 0;
	bus__unlock(pub->bus);
	return wants;
}

/* --- loans ---------------------------------------------------------------------------------------------------- */

int
bus_pub_loan(struct bus_pub *pub, size_t len, void **ret_data)
{
	struct bus__block *block;
	int err = enter_pub(pub);

	if (err == 0 && ret_data == NULL)
		err = BUS_E_INVAL;
	if (err == 0 && len > pub->bus->max_payload)
		err = BUS_E_TOO_BIG;
	if (err < 0)
		return fail_pub(pub, err, len);
	block = make_block(&pub->pool, len);
	if (block == NULL)
		return bus__fail_publish(pub->bus, BUS_E_NOMEM, topic_of(pub), len);
	block->next = pub->loans;
	pub->loans = block;
	*ret_data = block->data;
	return 0;
}

/* Where the list of loans names the one with this data; NULL: it is none of ours. */
static struct bus__block **
find_loan(struct bus_pub *pub, const void *data)
{
	struct bus__block **at = &pub->loans;

	while (*at != NULL && (*at)->data != data)
		at = &(*at)->next;
	return *at != NULL ? at : NULL;
}

/* A callback inside the commit may have changed the list: look again. */
static void
end_loan(struct bus_pub *pub, const void *data)
{
	struct bus__block **at = find_loan(pub, data), *block;

	if (at == NULL)
		return;
	block = *at;
	*at = block->next;
	bus__block_unref(block);
}

int
bus_pub_commit(struct bus_pub *pub, void *data, size_t len)
{
	struct bus__block **loan;
	struct ring_item item;
	int err = enter_pub(pub);

	if (err < 0)
		return fail_pub(pub, err, len);
	loan = find_loan(pub, data);
	if (loan == NULL || len > (*loan)->len)
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN
		    ": no loan of this handle with %zu bytes: commit what bus_pub_loan() gave",
		    topic_of(pub), len);
	item = (struct ring_item){.block = *loan, .len = (uint32_t)len, .type = (uint8_t)pub->type};
	bus__block_ref(item.block); /* a callback inside may abort the loan */
	err = send_patiently(pub, &item);
	bus__block_unref(item.block);
	if (err == 0)
		end_loan(pub, data);
	return err;
}

void
bus_pub_abort(struct bus_pub *pub, void *data)
{
	if (pub != NULL && pub->bus->fork_generation == bus__fork_generation())
		end_loan(pub, data);
}

/* --- the end -------------------------------------------------------------------------------------------------- */

void
bus_pub_close(struct bus_pub *pub)
{
	struct bus *bus;

	if (pub == NULL || pub->bus->fork_generation != bus__fork_generation())
		return;
	bus = pub->bus;
	while (pub->loans != NULL)
		end_loan(pub, pub->loans->data);
	bus__pool_close(pub->pool);
	bus__lock(bus);
	pub->topic->handles--;
	bus__snapshot_unref(pub->routes);
	bus__unlock(bus);
	bus__topic_unref(pub->topic);
	bus__free(pub);
	bus__unref(bus);
}
