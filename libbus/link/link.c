/* One link, on the link thread: it dials or accepts, begins connections and handles their end. */
#include "link/link.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/park.h"
#include "link/attempts.h"
#include "link/flush.h"
#include "link/peers.h"
#include "link/session.h"
#include "link/terms.h"

enum {
	DIAL_MS = 5000,           /* one attempt, of most transports */
	ACCEPT_AGAIN_MS = 100,    /* after a failure, such as no descriptor left */
	STRANGERS_MOST = 16,      /* of one address, before they join */
	BACK_OFF_FIRST_MS = 100,  /* doubles with each attempt */
	BACK_OFF_KNOWN_MS = 2000, /* at most, for an address that once answered */
	HURRY_MS = 500,           /* between two attempts because of network changes */
	HURRY_ATTEMPTS = 4        /* then the pauses grow again from 1.6 s */
};

_Atomic int bus__back_off_most_ms = 30000;
_Atomic int bus__stand_by_ms = 250;

/* splitmix64: spreads attempts over time. Not for secrets. */
static uint64_t
next_random(struct bus__links *links)
{
	uint64_t x = links->random += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void
set_state(struct bus_link *link, enum bus_link_state state)
{
	atomic_store_explicit(&link->state, state, memory_order_relaxed);
}

void
bus__link_error(struct bus_link *link, int err)
{
	if (err != BUS_E_CLOSED)
		atomic_store_explicit(&link->last_error, err, memory_order_relaxed);
}

struct bus__session *
bus__links_find_peer(struct bus__links *links, const uint8_t *id, const struct bus__session *except)
{
	for (struct bus_link *link = links->first; link != NULL; link = link->next)
		for (struct bus__session *s = link->sessions; s != NULL; s = s->next)
			if (s != except && s->stage == BUS__STAGE_LIVE &&
			    memcmp(s->hello.id, id, BUS__BUS_ID) == 0)
				return s;
	return NULL;
}

/* --- dialling ---------------------------------------------------------------------------------------- */

/* Full jitter: any moment from now up to a bound that doubles. */
static void
dial_later(struct bus_link *link, int64_t from_ns)
{
	int64_t bound_ms = (int64_t)BACK_OFF_FIRST_MS
			   << (link->attempts < 16 ? link->attempts : 16);
	int most_ms = atomic_load_explicit(&bus__back_off_most_ms, memory_order_relaxed);

	if (link->closing)
		return;
	if (link->has_joined && most_ms > BACK_OFF_KNOWN_MS)
		most_ms = BACK_OFF_KNOWN_MS;
	if (bound_ms > most_ms)
		bound_ms = most_ms;
	link->attempts++;
	bus__timer_set(&link->links->loop, &link->timer,
	    from_ns + (int64_t)(next_random(link->links) % (uint64_t)(bound_ms * NS_PER_MS)));
	if (link->hurries)
		bus__link_hurry(link);
}

/* The pause counts from the begin of the failed attempt: a long attempt was a pause already. */
static void
dial_again(struct bus_link *link)
{
	dial_later(link, link->dialled_ns);
}

void
bus__link_hurry(struct bus_link *link)
{
	int64_t due_ns = link->dialled_ns + HURRY_MS * NS_PER_MS, now_ns = bus__now_ns();

	if (!link->dials || !link->has_role || link->closing || !bus__terms_leave(&link->terms))
		return;
	link->hurries = link->dialer != NULL;
	if (link->attempts > HURRY_ATTEMPTS)
		link->attempts = HURRY_ATTEMPTS;
	if (due_ns < now_ns)
		due_ns = now_ns;
	/* A timer that is not set is due at the end of time: the link is up. */
	if (link->dialer == NULL && link->timer.due_ns != INT64_MAX && due_ns < link->timer.due_ns)
		bus__timer_set(&link->links->loop, &link->timer, due_ns);
}

static void
dial(struct bus_link *link)
{
	int err, most_ms = link->transport->dial_ms != 0 ? link->transport->dial_ms : DIAL_MS;

	link->dialled_ns = bus__now_ns();
	link->hurries = false;
	bus__timer_set(&link->links->loop, &link->timer, link->dialled_ns + most_ms * NS_PER_MS);
	err = link->transport->dial(&link->addr, &link->terms, &link->io, &link->dialer);
	if (err < 0) {
		bus__link_error(link, err);
		dial_again(link);
	}
}

/* Ends the dial or the accept under way, and closes the stream that it may have opened. */
static void
drop_io(struct bus_link *link)
{
	struct bus__stream *stream;

	if (link->dialer != NULL)
		link->dialer->ops->free(link->dialer);
	link->dialer = NULL;
	if (link->listener != NULL)
		link->listener->ops->free(link->listener);
	link->listener = NULL;
	bus__loop_cancel(&link->links->loop, &link->io.task);
	bus__timer_stop(&link->links->loop, &link->timer);
	stream = link->io.stream;
	link->io.stream = NULL;
	if (stream != NULL)
		stream->ops->free(stream);
}

static struct bus__stream *
take_stream(struct bus_link *link)
{
	struct bus__stream *stream = link->io.stream;

	link->io.stream = NULL;
	return stream;
}

/* The peers of 0.0.0.0 are known only now. */
static int
judge_remote(const struct bus_link *link, struct bus__stream *stream)
{
	struct sockaddr_storage addr;
	int err;

	if (link->dials || stream->ops->remote == NULL ||
	    bus__terms_reach(&link->terms, BUS__REACH_PUBLIC))
		return 0;
	err = stream->ops->remote(stream, &addr);
	if (err < 0)
		return err;
	return bus__terms_reach(
		   &link->terms, bus__reach_of((const struct sockaddr *)(const void *)&addr))
		   ? 0
		   : BUS_E_NOT_LOOPBACK;
}

/* A host is a bad one until it has joined. */
static void
note_host(struct bus_link *link, struct bus__stream *stream)
{
	struct sockaddr_storage addr;

	if (link->dials && stream->ops->remote != NULL && stream->ops->remote(stream, &addr) == 0)
		memcpy(&link->terms.bad, &addr, sizeof link->terms.bad);
}

/* Whether that address has the most connections that have not joined yet. */
static bool
is_crowd(const struct bus_link *link, uint64_t host)
{
	unsigned strangers = 0;

	if (host == 0)
		return false;
	for (const struct bus__session *s = link->sessions; s != NULL; s = s->next)
		strangers += s->host == host && s->stage < BUS__STAGE_LIVE;
	return strangers >= STRANGERS_MOST;
}

/* 0: it may begin; otherwise *ret_why is the reason. */
static int
judge(struct bus_link *link, struct bus__stream *stream, enum bus__refusal *ret_why)
{
	int err;

	*ret_why = BUS__REFUSED_CONNECTIONS;
	if (link->session_count >= link->max_peers ||
	    (!link->dials && is_crowd(link, bus__attempt_host(stream))))
		return BUS_E_DENIED;
	*ret_why = BUS__REFUSED_ATTEMPTS;
	if (bus__attempt_is_early(link, stream, NULL))
		return BUS_E_DENIED;
	*ret_why = BUS__REFUSED_ACCOUNT;
	err = stream->ops->admit(stream);
	if (err < 0)
		return err;
	*ret_why = BUS__REFUSED_PUBLIC;
	return judge_remote(link, stream);
}

static void
begin_session(struct bus_link *link, struct bus__stream *stream)
{
	enum bus__refusal why;
	int err = judge(link, stream, &why);

	if (err < 0) {
		if (!link->dials)
			bus__roster_refuse(link, stream, why, NULL, NULL);
		stream->ops->free(stream);
		bus__link_ended(link, false, BUS_LINK_END_DENIED, err);
		return;
	}
	note_host(link, stream);
	bus__session_start(link, stream, link->dials);
}

static void
dialled(void *arg)
{
	struct bus_link *link = arg;
	struct bus__stream *stream = take_stream(link);

	drop_io(link);
	if (stream != NULL) {
		begin_session(link, stream);
	} else {
		bus__link_error(link, link->io.err);
		dial_again(link);
	}
}

static void
dial_time(void *arg)
{
	struct bus_link *link = arg;

	if (link->dialer == NULL) {
		dial(link);
		return;
	}
	drop_io(link);
	bus__link_error(link, BUS_E_TIMEDOUT);
	dial_again(link);
}

/* --- listening --------------------------------------------------------------------------------------- */

static void
accept_next(void *arg)
{
	struct bus_link *link = arg;

	link->listener->ops->accept(link->listener, &link->io);
}

static void
accepted(void *arg)
{
	struct bus_link *link = arg;
	struct bus__stream *stream = take_stream(link);

	if (stream != NULL) {
		begin_session(link, stream);
		accept_next(link);
		return;
	}
	bus__link_error(link, link->io.err);
	bus__timer_set(
	    &link->links->loop, &link->timer, bus__now_ns() + ACCEPT_AGAIN_MS * NS_PER_MS);
}

int
bus__link_listen(struct bus_link *link)
{
	int err = link->transport->listen(&link->addr, &link->terms, &link->listener);

	if (err < 0)
		return err;
	atomic_store_explicit(&link->port, link->addr.port, memory_order_relaxed);
	set_state(link, BUS_LINK_UP);
	return 0;
}

/* --- one process of several ------------------------------------------------------------------------------ */

static void
begin(struct bus_link *link)
{
	link->timer.fire = link->dials ? dial_time : accept_next;
	if (link->dials)
		dial(link);
	else
		accept_next(link);
}

static void
end_role(struct bus_link *link)
{
	if (link->has_role)
		bus__peer_role_end(link->links->bus, link->role);
	link->has_role = false;
}

static void
stand_by(void *arg)
{
	struct bus_link *link = arg;
	int err = bus__peer_role(link->links->bus, link->url, &link->role);
	int pause_ms = atomic_load_explicit(&bus__stand_by_ms, memory_order_relaxed);

	link->has_role = err == 1;
	if (err == 1 && !link->dials)
		err = bus__link_listen(link);
	if (err >= 0 && link->has_role) {
		begin(link);
		return;
	}
	if (err < 0)
		bus__link_error(link, err);
	end_role(link);
	bus__timer_set(&link->links->loop, &link->timer, bus__now_ns() + pause_ms * NS_PER_MS);
}

/* --- connections begin and end ----------------------------------------------------------------------- */

void
bus__link_joined(struct bus_link *link)
{
	atomic_fetch_add_explicit(&link->peers, 1, memory_order_relaxed);
	link->attempts = 0;
	link->terms.good = link->terms.bad;
	link->terms.bad = (union bus__host){.any.sa_family = AF_UNSPEC};
	set_state(link, BUS_LINK_UP);
}

void
bus__link_ended(struct bus_link *link, bool was_joined, enum bus_link_end end, int err)
{
	bus__link_error(link, err);
	bus__count(&link->ended[end], 1);
	if (was_joined)
		atomic_fetch_sub_explicit(&link->peers, 1, memory_order_relaxed);
	if (!link->dials)
		return;
	set_state(link, BUS_LINK_DOWN);
	if (was_joined)
		dial_later(link, bus__now_ns());
	else
		dial_again(link);
}

void
bus__link_free(struct bus_link *link)
{
	if (link->transport->release != NULL)
		link->transport->release(&link->terms);
	bus__terms_fini(&link->terms);
	bus__guard_fini(&link->guard);
	bus__free(link);
}

static void
leave(struct bus_link *link)
{
	struct bus__links *links = link->links;
	struct bus_link **at = &links->first;

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	bus__guard_stop(&link->guard);
	bus__loop_cancel(&links->loop, &link->guard.hashed);
	bus__peers_forget_link(link);
	end_role(link);
	atomic_fetch_sub_explicit(&links->count, 1, memory_order_relaxed);
	if (!link->owned) {
		bus__link_free(link);
	} else if (atomic_exchange_explicit(&link->gone, LINK_GONE, memory_order_acq_rel) ==
		   LINK_LEFT) {
		bus__link_free(link);
		bus__unref(links->bus); /* not the last: the link thread runs */
	} else {
		/* After the exchange the closing thread owns the memory. */
		bus__unpark(&link->gone);
	}
	if (links->closing && links->first == NULL) {
		atomic_store_explicit(&links->idle, 1, memory_order_release);
		bus__unpark(&links->idle);
	}
}

void
bus__link_freed(struct bus_link *link, struct bus__session *session)
{
	struct bus__session **at = &link->sessions;

	bus__flush_forget(link->links, session);
	while (*at != session)
		at = &(*at)->next;
	*at = session->next;
	link->session_count--;
	if (link->closing && link->sessions == NULL)
		leave(link);
}

void
bus__link_close(void *arg)
{
	struct bus_link *link = arg;
	struct bus__session *next;

	link->closing = true;
	set_state(link, BUS_LINK_DOWN);
	drop_io(link);
	if (link->sessions == NULL) {
		leave(link);
		return;
	}
	/* The last session frees the link if it ends at once. */
	for (struct bus__session *s = link->sessions; s != NULL; s = next) {
		next = s->next;
		bus__session_end(s, BUS_E_CLOSED);
	}
}

void
bus__link_begin(void *arg)
{
	struct bus_link *link = arg;

	link->io = (struct bus__io){.task = {.run = link->dials ? dialled : accepted, .arg = link},
	    .loop = &link->links->loop};
	link->timer = (struct bus__timer){.fire = stand_by, .arg = link};
	link->next = link->links->first;
	link->links->first = link;
	if (link->has_role)
		begin(link);
	else
		stand_by(link);
}
