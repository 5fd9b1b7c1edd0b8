#include "link/session.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "link/attempts.h"
#include "link/login.h"

#define REST_MOST_NS (100 * NS_PER_MS)

enum {
	LINGER_MS = 200,      /* for BYE to arrive; a peer that reads it closes at once */
	LINGER_LEAST_MS = 50, /* the same beyond the deadline of bus_close() */
	SILENT_HEARTBEATS = 3
};

_Atomic int bus__handshake_ms = 5000;

/* For each error that ends a connection: its counter, and the reason in the BYE to the peer. */
static const struct verdict {
	int err;
	enum bus_link_end end;
	bool polite; /* the peer would understand BYE */
	enum bus__bye bye;
} verdicts[] = {
    {BUS_E_GONE, BUS_LINK_END_GONE, false, 0},
    {BUS_E_NOT_LIBBUS, BUS_LINK_END_NOT_LIBBUS, false, 0},
    {BUS_E_TIMEDOUT, BUS_LINK_END_SILENT, true, BUS__BYE_SILENT},
    {BUS_E_VERSION, BUS_LINK_END_VERSION, true, BUS__BYE_VERSION},
    {BUS_E_PROTOCOL, BUS_LINK_END_PROTOCOL, true, BUS__BYE_PROTOCOL},
    {BUS_E_LIMIT, BUS_LINK_END_PROTOCOL, true,
	BUS__BYE_PROTOCOL}, /* its account is over the bound */
    {BUS_E_TOO_BIG, BUS_LINK_END_TOO_BIG, true, BUS__BYE_TOO_BIG},
    {BUS_E_DENIED, BUS_LINK_END_DENIED, true, BUS__BYE_DENIED},
    {BUS_E_AUTH, BUS_LINK_END_AUTH, true, BUS__BYE_AUTH}, {BUS_E_TLS, BUS_LINK_END_TLS, false, 0},
    {BUS_E_EXIST, BUS_LINK_END_CLOSED, true, BUS__BYE_EXIST},
    {BUS_E_RESET, BUS_LINK_END_CLOSED, true, BUS__BYE_AGAIN}, /* files were read again */
    {0, BUS_LINK_END_CLOSED, true, BUS__BYE_CLOSED},          /* all other errors */
};

static const struct verdict *
judge(int err)
{
	const struct verdict *verdict = verdicts;

	while (verdict->err != 0 && verdict->err != err)
		verdict++;
	return verdict;
}

static void
receive(struct bus__session *session)
{
	struct bus__bytes *in = &session->in;

	session->receiving = true;
	session->stream->ops->recv(
	    session->stream, in->data + in->len, in->cap - in->len, &session->recv_io);
}

/* --- the end ---------------------------------------------------------------------------------------- */

static void
leave_mailbox(struct bus__session *session)
{
	if (session->peer == NULL)
		return;
	bus__peers_leave(session, session->for_good);
	bus__loop_cancel(&session->link->links->loop, &session->wake_task);
	bus__loop_cancel(&session->link->links->loop, &session->values_task);
	bus__timer_stop(&session->link->links->loop, &session->values_timer);
	session->mbox = NULL;
	session->draining = false;
}

static void
lose(struct bus__session *session, struct bus__load *load)
{
	bus__count(&session->link->lost, load->msgs);
	if (session->peer != NULL)
		session->peer->out.lost += load->numbered;
	load->msgs = load->numbered = 0;
}

/* Counts the load handed to the wire as lost, as far as this side knows; a reconnecting peer says what it got. The queued load
 * is not sent. */
static void
give_up_loads(struct bus__session *session)
{
	if (session->queue.msgs > 0)
		session->queue.bytes.len = 0;
	lose(session, &session->flying);
	lose(session, &session->queue);
}

static void
free_session(struct bus__session *session)
{
	struct bus_link *link = session->link;
	struct bus__loop *loop = &link->links->loop;
	bool through;

	session->stream->ops->free(session->stream);
	bus__loop_cancel(loop, &session->parse_task);
	bus__loop_cancel(loop, &session->recv_io.task);
	bus__loop_cancel(loop, &session->send_io.task);
	bus__timer_stop(loop, &session->timer);
	bus__timer_stop(loop, &session->rest_timer);
	/* A send may be complete and not reported yet: the peer read it and left. */
	through = session->send_io.err == 0 &&
		  session->flown + session->send_io.count == bus__load_bytes(&session->flying);
	if (through)
		bus__count(&link->sent, session->flying.msgs);
	else
		lose(session, &session->flying);
	lose(session, &session->queue);
	bus__session_release_big(session, &session->flying);
	bus__session_release_big(session, &session->queue);
	leave_mailbox(session);
	bus__login_end(session);
	bus__session_forget_topics(session);
	bus__buffers_leave(&link->links->buffers, &session->in);
	bus__buffers_leave(&link->links->buffers, &session->queue.bytes);
	bus__buffers_leave(&link->links->buffers, &session->flying.bytes);
	for (size_t i = 0; i < BUS__TOPICS_PARTS; i++)
		bus__free(session->told_topics[i]);
	bus__link_freed(link, session);
	bus__free(session);
}

/* A listening side that has not sent its preamble sends it now, for BYE means nothing without it; the preamble alone
 * tells another version what runs here. */
static int
say_bye(struct bus__session *session, const struct verdict *verdict)
{
	bool version =
	    verdict->end == BUS_LINK_END_VERSION && session->stage == BUS__STAGE_GREETING;
	int err = 0;

	if (!session->dialled && (session->stage == BUS__STAGE_HELLO || version))
		err = bus__session_greet(session);
	if (err == 0 && session->stage != BUS__STAGE_GREETING && !version)
		err = bus__session_say(session, BUS__FRAME_BYE, (uint16_t)verdict->bye, NULL, 0);
	return err == 0 ? bus__session_send(session) : err;
}

static void
linger(struct bus__session *session)
{
	struct bus__links *links = session->link->links;
	int64_t now_ns = bus__now_ns(), until_ns = now_ns + LINGER_MS * NS_PER_MS;

	if (links->closing && until_ns > links->close_until_ns)
		until_ns = links->close_until_ns > now_ns + LINGER_LEAST_MS * NS_PER_MS
			       ? links->close_until_ns
			       : now_ns + LINGER_LEAST_MS * NS_PER_MS;
	bus__timer_set(&links->loop, &session->timer, until_ns);
}

void
bus__session_end(struct bus__session *session, int err)
{
	const struct verdict *verdict = judge(err);
	/* A large payload belongs to the mailbox, which ends. */
	bool polite = verdict->polite && !session->heard_bye && !bus__session_has_big(session);

	if (session->stage == BUS__STAGE_ENDING)
		return;
	bus__roster_ended(session, err);
	bus__link_ended(session->link, session->joined,
	    session->heard_bye ? BUS_LINK_END_GONE : verdict->end, err);
	session->joined = false;
	bus__login_end(session);
	/* A peer must not resume with the messages that made its account too large. */
	session->for_good = err == BUS_E_CLOSED || err == BUS_E_LIMIT || session->heard_end;
	if (polite) {
		give_up_loads(session);
		leave_mailbox(session);
		polite = say_bye(session, verdict) == 0 && session->sending;
	}
	session->stage = BUS__STAGE_ENDING;
	bus__loop_cancel(&session->link->links->loop, &session->parse_task);
	if (!polite) {
		free_session(session);
		return;
	}
	linger(session);
	session->in.len = 0;
	bus__loop_cancel(&session->link->links->loop, &session->parse_task);
	bus__timer_stop(&session->link->links->loop, &session->rest_timer);
	if (!session->receiving && session->in.cap > 0)
		receive(session);
}

/* --- events ------------------------------------------------------------------------------------------ */

/* The last step of every task: err ends the connection. */
static void
go_on(struct bus__session *session, int err)
{
	if (err == 0)
		err = bus__session_send(session);
	if (err < 0)
		bus__session_end(session, err);
}

/* Handles received bytes and the rest of the last round. The transport gets the buffer when all is handled. */
static void
hear(struct bus__session *session)
{
	int err = bus__session_parse(session, session->heard_ns);
	struct bus__loop *loop = &session->link->links->loop;
	int64_t now = bus__now_ns(), round = bus__round(), over = now - session->heard_ns - round;
	bool rests = err == 0 && session->was_heavy && over > round;

	/* A frame cannot be cut. After a long one, other work has the thread for as long. */
	if (rests)
		bus__timer_set(
		    loop, &session->rest_timer, now + (over < REST_MOST_NS ? over : REST_MOST_NS));
	else if (err == 0 && session->behind)
		bus__loop_post(loop, &session->parse_task);
	else if (err == 0)
		receive(session);
	/* Answers leave together. */
	if (err < 0 || !session->behind)
		go_on(session, err);
}

static void
hear_more(void *arg)
{
	struct bus__session *session = arg;

	session->heard_ns = bus__now_ns();
	hear(session);
}

static void
received(void *arg)
{
	struct bus__session *session = arg;

	session->receiving = false;
	if (session->recv_io.err < 0) {
		if (session->stage == BUS__STAGE_ENDING)
			free_session(session);
		else
			bus__session_end(
			    session, session->recv_io.err == BUS_E_TLS ? BUS_E_TLS : BUS_E_GONE);
		return;
	}
	session->heard_ns = bus__now_ns();
	if (session->stage == BUS__STAGE_ENDING) {
		receive(session);
		return;
	}
	session->in.len += session->recv_io.count;
	if (session->recv_io.count >= BUS__FIRST_READ)
		session->busy_ns = session->heard_ns;
	bus__size_learn(&session->in_size, session->in.len,
	    session->in.len >= bus__size_now(&session->in_size, session->heard_ns), BUS__BUFFER_IN,
	    session->heard_ns);
	hear(session);
}

static void
sent(void *arg)
{
	struct bus__session *session = arg;
	int err = bus__session_sent(session);

	/* BYE may start only now. */
	if (err == 0 && session->stage == BUS__STAGE_ENDING)
		linger(session);
	if (err == 0)
		return;
	if (session->stage == BUS__STAGE_ENDING)
		free_session(session);
	else
		bus__session_end(session, err);
}

static void
woken(void *arg)
{
	struct bus__session *session = arg;

	session->draining = true;
	go_on(session, 0);
}

/* The walk over the values continues. */
static void
go_on_telling(void *arg)
{
	go_on(arg, 0);
}

/* On a publisher's thread. */
static void
wake(void *arg)
{
	struct bus__session *session = arg;

	bus__loop_post(&session->link->links->loop, &session->wake_task);
}

static void
tick(void *arg)
{
	struct bus__session *session = arg;
	int64_t now = bus__now_ns(), silent, ping;
	int err = 0;

	if (session->stage == BUS__STAGE_ENDING) {
		free_session(session);
		return;
	}
	if (session->stage != BUS__STAGE_LIVE) {
		bus__session_end(session, BUS_E_TIMEDOUT);
		return;
	}
	silent = session->heard_ns + SILENT_HEARTBEATS * (session->link->heartbeat_ms * NS_PER_MS);
	if (now >= silent) {
		bus__session_end(session, BUS_E_TIMEDOUT);
		return;
	}
	bus__session_shed(session);
	/* The peer must hear from this side once in each of its heartbeats; a send under way counts. */
	ping = session->said_ns + session->hello.heartbeat_ms * NS_PER_MS;
	if (now >= ping) {
		ping = now + session->hello.heartbeat_ms * NS_PER_MS;
		if (!session->sending)
			err = bus__session_say(session, BUS__FRAME_PING, 0, NULL, 0);
	}
	bus__timer_set(&session->link->links->loop, &session->timer, ping < silent ? ping : silent);
	go_on(session, err);
}

/* --- the handshake ----------------------------------------------------------------------------------- */

int
bus__session_greeted(struct bus__session *session)
{
	session->stage = BUS__STAGE_HELLO;
	return 0;
}

static int
go_live(struct bus__session *session)
{
	struct bus_link *link = session->link;
	int err;

	err = bus__peers_join(session);
	if (err < 0)
		return err;
	session->stage = BUS__STAGE_LIVE;
	bus__timer_set(&link->links->loop, &session->timer, bus__now_ns());
	return bus__session_say_resume(session);
}

int
bus__session_resume(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__resume resume;
	struct bus__start start;
	int err = session->mbox == NULL ? bus__resume_read(frame, &resume) : BUS_E_PROTOCOL;

	if (err == 0)
		err = bus__peers_resume(session, &resume, wake, &start);
	return err == 0 ? bus__session_say_start(session, &start) : err;
}

int
bus__session_started(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__start start;
	int err = session->heard_start ? BUS_E_PROTOCOL : bus__start_read(frame, &start);

	if (err == 0)
		err = bus__peers_start(session, &start, &session->gap, &session->gap_at_least);
	session->heard_start = err == 0;
	return err;
}

/* Two buses keep one connection. The dialling side knows its connections best, so it refuses a second one
 * here, before it sends JOIN. */
int
bus__session_hello(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__links *links = session->link->links;
	bool has_login;
	int err;

	err = bus__hello_read(frame, &session->hello);
	if (err < 0)
		return err;
	if (memcmp(session->hello.id, bus__id(links->bus), BUS__BUS_ID) == 0)
		return BUS_E_EXIST;
	memcpy(session->identity.id, session->hello.id, sizeof session->identity.id);
	if (!session->dialled && (session->hello.features & BUS__NEEDS_AUTH) != 0)
		return BUS_E_VERSION; /* only the listening side asks for a login */
	if (!session->dialled) {
		session->stage = BUS__STAGE_JOIN;
		err = bus__login_begin(session, &has_login);
		return err == 0 ? bus__session_greet(session) : err;
	}
	err = bus__login_begin(session, &has_login);
	return err == 0 && !has_login ? bus__session_say_join(session) : err;
}

int
bus__session_say_join(struct bus__session *session)
{
	int err;

	/* Check only now: another connection to that bus may have joined during AUTH. */
	if (bus__links_find_peer(session->link->links, session->hello.id, session) != NULL)
		return BUS_E_EXIST;
	err = bus__session_say(session, BUS__FRAME_JOIN, 0, NULL, 0);
	if (err == 0)
		err = go_live(session);
	if (err == 0)
		err = bus__session_tell_filters(session);
	return err == 0 ? bus__session_say(session, BUS__FRAME_READY, 0, NULL, 0) : err;
}

/* Whether the listening side of a dialled connection has proved its identity. */
static bool
is_proved(const struct bus__session *dialled)
{
	return dialled->link->guard.user != NULL || dialled->link->terms.encrypts;
}

/* Whether a connection replaces another one to a bus of that id. Ids are no secret: a user replaces only
 * connections of the same user. Without users, two buses that dialled each other at the same moment agree which one stays: the
 * smaller id's. With users both are refused, and one of them dials first the next time. */
static int
may_replace(const struct bus__session *session, const struct bus__session *other)
{
	const char *user = session->identity.name;
	const uint8_t *own = bus__id(session->link->links->bus);

	if (other->dialled && (user[0] != '\0' || is_proved(other) ||
				  memcmp(own, session->hello.id, BUS__BUS_ID) < 0))
		return BUS_E_EXIST;
	return other->dialled || strcmp(other->identity.name, user) == 0 ? 0 : BUS_E_DENIED;
}

/* The listening side trusts JOIN: its older connection to that peer is dead and ends. */
int
bus__session_join(struct bus__session *session)
{
	struct bus__links *links = session->link->links;
	struct bus__session *other = bus__links_find_peer(links, session->hello.id, session);
	int err = other != NULL ? may_replace(session, other) : 0;

	if (err < 0)
		return err;
	if (other != NULL)
		bus__session_end(other, BUS_E_EXIST);
	return go_live(session);
}

/* When the dialling side receives READY, each side has applied all filters of the other. */
int
bus__session_ready(struct bus__session *session)
{
	int err = 0;

	if (session->joined)
		return BUS_E_PROTOCOL;
	if (!bus__filters_end_renewal(&session->peer->filters, bus__now_ns() + bus__round()))
		return BUS__AGAIN;
	bus__peer_tell_values(session->mbox);
	if (!session->dialled) {
		err = bus__session_tell_filters(session);
		if (err == 0)
			err = bus__session_say(session, BUS__FRAME_READY, 0, NULL, 0);
	}
	if (err < 0)
		return err;
	session->joined = true;
	bus__peers_met(session);
	bus__link_joined(session->link);
	bus__roster_join(session);
	return 0;
}

void
bus__session_start(struct bus_link *link, struct bus__stream *stream, bool dialled)
{
	struct bus__session *session = bus__calloc(1, sizeof *session);
	struct bus__loop *loop = &link->links->loop;

	if (session == NULL || bus__bytes_reserve(&session->in, BUS__FIRST_READ) < 0) {
		bus__free(session);
		stream->ops->free(stream);
		bus__link_ended(link, false, BUS_LINK_END_CLOSED, BUS_E_NOMEM);
		return;
	}
	session->link = link;
	session->stream = stream;
	session->host = bus__attempt_host(stream);
	session->dialled = dialled;
	session->recv_io =
	    (struct bus__io){.task = {.run = received, .arg = session}, .loop = loop};
	session->send_io = (struct bus__io){.task = {.run = sent, .arg = session}, .loop = loop};
	session->wake_task = (struct bus__task){.run = woken, .arg = session};
	session->parse_task = (struct bus__task){.run = hear_more, .arg = session};
	session->rest_timer =
	    (struct bus__timer){.fire = hear_more, .arg = session, .due_ns = INT64_MAX};
	session->timer = (struct bus__timer){.fire = tick, .arg = session};
	session->values_task = (struct bus__task){.run = go_on_telling, .arg = session};
	session->values_timer = (struct bus__timer){.fire = go_on_telling, .arg = session};
	session->heard_ns = session->said_ns = bus__now_ns();
	bus__timer_set(loop, &session->timer,
	    session->heard_ns +
		atomic_load_explicit(&bus__handshake_ms, memory_order_relaxed) * NS_PER_MS);
	session->next = link->sessions;
	link->sessions = session;
	link->session_count++;
	receive(session);
	go_on(session, dialled ? bus__session_greet(session) : 0);
}
