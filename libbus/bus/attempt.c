/* bus/attempt.c: one publish into the mailboxes of this process: claims, blocks, and kept messages. */
#include "bus/attempt.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/keep.h"
#include "bus/publish.h"

/* The claims of a publish in mailboxes that refuse: all of them take the message, or none does. */
enum { CLAIMS_HERE = 8 };

struct claimed {
	struct ring_claim at;
	enum ring_answer answer;
};

struct claims {
	struct claimed here[CLAIMS_HERE], *all; /* more claims than fit here are allocated */
	struct bus_mailbox *full;               /* the mailbox that refused */
};

static void
finish_claims(struct claims *claims)
{
	if (claims->all != claims->here)
		bus__free(claims->all);
}

/* Ends the claims in the first `count` refusing mailboxes: they get the item, or nothing if it is NULL. */
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

/* Claims a place in every mailbox that refuses; with passes_full, only in those that have room. 0, or with nothing claimed:
 * BUS_E_FULL with claims->full, BUS_E_NOMEM. */
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

static void
note_link(const struct snapshot *snapshot)
{
	for (uint32_t i = 0; i < snapshot->count; i++)
		bus__mailbox_fed_by_link(snapshot->routes[i]->mbox);
}

/* Whether a peer gets a message. A peer's message goes on only between hubs, neither to the bus that published it nor over the
 * connection that brought it. */
static bool
goes_to_peer(const struct bus_mailbox *m, const struct attempt *attempt)
{
	const struct brought *brought = attempt->brought;

	if (!attempt->from_peer)
		return true;
	return brought != NULL && brought->passed != NULL && m->far.fed && m != brought->by &&
	       memcmp(m->far.id, brought->passed->source, sizeof m->far.id) != 0;
}

/* Puts a message into the mailboxes of peers. The peers that number messages all get it under one number. */
static __attribute__((cold, noinline)) void
put_for_peers(
    const struct snapshot *snapshot, const struct ring_item *item, struct attempt *attempt)
{
	struct ring_item plain = *item, numbered = *item;
	struct bus__passed own;

	numbered.flags |= RING_PASSED;
	/* A message older than the kept value is not a value. */
	if (attempt->is_older)
		numbered.flags &= (uint16_t) ~(RING_RETAIN | RING_TIME);
	numbered.passed = attempt->brought != NULL ? attempt->brought->passed : NULL;
	for (uint32_t i = snapshot->refusing; i < snapshot->count; i++) {
		struct bus_mailbox *m = snapshot->routes[i]->mbox;
		struct ring_item *given = m->far.numbered ? &numbered : &plain;

		if (!m->is_peer || !goes_to_peer(m, attempt))
			continue;
		if (m->far.numbered && numbered.passed == NULL) {
			own = bus__passed_make(m->bus->id, bus__next_number(m->bus), 0, 0);
			numbered.passed = &own;
		}
		given->route = snapshot->routes[i];
		bus__mailbox_put(m, given, &attempt->owed);
	}
}

/* Puts a message into the mailboxes of a snapshot: first into those that refuse, as claimed, then into the others.
 * Sets item->route. item->block, if any, stays the caller's. The caller keeps the snapshot alive. */
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

/* Call before deliver(). Whether deliver() leaves out peers: they get nothing, or already have the message. */
static inline bool
skips_peers(const struct snapshot *snapshot, const struct ring_item *item, struct attempt *attempt)
{
	if (snapshot != NULL && attempt->from_peer)
		note_link(snapshot);
	if (snapshot == NULL || !snapshot->numbered)
		return attempt->from_peer;
	put_for_peers(snapshot, item, attempt);
	return true;
}

struct bus__block *
bus__attempt_block(struct bus__pool **pool, size_t len)
{
	if (pool != NULL && *pool == NULL)
		*pool = bus__pool_new();
	return bus__block_new(pool != NULL ? *pool : NULL, len);
}

/* Makes one block of an item's payload and headers. */
static struct bus__block *
make_copy(struct bus__pool **pool, const struct ring_item *item)
{
	struct bus__block *block = bus__attempt_block(pool, item->len);

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

int
bus__attempt_kept(
    struct bus *bus, struct topic *topic, struct ring_item *item, struct attempt *attempt)
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
	/* The block stays while the lock is held, and tells peers the version. */
	if (loan != NULL || item->len > RING_INLINE_MAX || (kept->retained && has_peers(routes)))
		item->block = kept->block;
	err = topic->gone ? ATTEMPT_SWEPT : bus__history_make(topic);
	if (err == 0)
		err = bus__kept_charge(
		    topic, kept, attempt->brought != NULL ? attempt->brought->by->account : NULL);
	if (err == 0 && routes == NULL)
		err = bus__enter(bus); /* bus_close() takes all routes away */
	/* A peer would not send its value again: keep it, and pass over full mailboxes. */
	if (err == 0)
		err = claim_all(routes, &claims, item, attempt->offer != NULL, &attempt->owed);
	if (err == 0) {
		answer = bus__history_store(bus, topic, item, attempt->offer, kept, &old);
		attempt->is_older = answer == KEEP_OLDER;
		/* A live message older than the kept value is still delivered; a kept one is not. */
		if (answer == KEEP_STORED ||
		    (answer == KEEP_OLDER && attempt->offer != NULL && !attempt->offer->is_kept))
			deliver(routes, &claims, item, skips_peers(routes, item, attempt),
			    &attempt->owed);
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

static __attribute__((noinline)) uint32_t
count_takers(const struct snapshot *routes, const struct attempt *attempt)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < routes->count; i++) {
		const struct bus_mailbox *m = routes->routes[i]->mbox;

		count += (!m->is_peer || goes_to_peer(m, attempt)) &&
			 !atomic_load_explicit(&m->is_cut_off, memory_order_relaxed);
	}
	return count;
}

int
bus__attempt_plain(const struct snapshot *routes, struct ring_item *item, struct attempt *attempt)
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
			attempt->takers = count_takers(routes, attempt);
		deliver(routes, &claims, item, skips_peers(routes, item, attempt), &attempt->owed);
	} else if (err == BUS_E_FULL) {
		attempt->full = claims.full;
	}
	bus__block_unref(made);
	return err;
}

void
bus__attempt_end(struct bus *bus, const char *topic, const struct attempt *attempt)
{
	if (attempt->owed != NULL)
		bus__mailbox_drain_owed(attempt->owed);
	if (attempt->unheard)
		bus__warn_unheard(bus, topic);
	bus__heed(bus);
}

int
bus__item_make(const struct bus *bus, const struct bus_msg *msg, struct ring_item *ret_item)
{
	int err = bus__payload_check(bus, msg->data, msg->len);

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
