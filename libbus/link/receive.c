/* The incoming direction: bytes to frames to publishes. Nothing from the peer is trusted before it is
 * checked, and no buffer grows before a checked head asks for it. */
#include "link/session.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/gap.h"
#include "link/debris.h"
#include "link/hub.h"
#include "link/login.h"
#include "link/permit.h"
#include "topic/name.h"

/* How long a connection has more than BUS__FIRST_READ after a read that needed it. */
#define BUSY_NS INT64_C(1000000000)

enum { LOOK_EACH = 32 /* messages between two looks at the clock */ };

static int
hear_topic(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__heard_topic *topic;
	char text[BUS_LIMIT_TOPIC_BYTES + 1];
	struct bus *bus = session->link->links->bus;
	int err;

	if (!bus__text_read(frame, text) || text[0] == '$')
		return BUS_E_PROTOCOL;
	topic = bus__heard_make(session, frame->number);
	if (topic == NULL)
		return BUS_E_NOMEM;
	topic->announced = true;
	topic->denied = !bus__permit_write(session, text);
	topic->told = false;
	/* Free the old one first: a peer that uses all its numbers has no topic to spare. */
	bus__peer_unname(bus, &topic->named);
	err = bus__peer_name(bus, session->peer->account, text, &topic->named);
	switch (err) {
	case 0:
		break;
	case BUS_E_NOMEM: /* reconnect: ignoring the frame would make this side deaf to the topic for good */
		return err;
	case BUS_E_LIMIT:
	case BUS_E_CLOSED: /* not the peer's fault: ignore its messages, handle the rest */
		bus__link_error(session->link, err);
		break;
	default:
		return BUS_E_PROTOCOL;
	}
	return 0;
}

/* Reports the messages that did not arrive by the next one's `lost`. Retries later if there is no room now. */
static void
tell_gap(struct bus__session *session)
{
	int err;

	if (session->gap == 0 && !session->gap_at_least)
		return;
	err = bus__tell_gap(session->link->links->bus, session->gap, session->gap_at_least);
	if (err < 0) {
		bus__link_error(session->link, err);
		return;
	}
	session->gap = 0;
	session->gap_at_least = false;
}

/* A value has a new number: sends it to the peers that want it, or to this one alone. */
static void
tell_number(struct bus__session *session, const struct bus_pub *pub, const struct bus__offer *offer)
{
	struct bus__peer *peer = session->link->links->peers;

	for (; (offer->tell_peer || offer->tell_all) && peer != NULL; peer = peer->next)
		if ((offer->tell_all || peer->session == session) && peer->session != NULL &&
		    peer->session->mbox != NULL && bus__peer_wants(peer->session->mbox, pub))
			bus__session_owe_values(peer->session);
}

/* Publishes one message that the peer knows already, and counts it. pub NULL: there was no room for its topic, and
 * hear_topic() has reported why. */
static void
publish(struct bus__session *session, struct bus_pub *pub, const struct bus_msg *msg,
    struct bus__offer *offer, const struct bus__passed *passed)
{
	struct bus_link *link = session->link;
	int err = pub != NULL ? bus__publish_from_peer(pub, msg, offer, passed, session->mbox) : 0;

	tell_number(session, pub, offer);
	if (err < 0)
		bus__link_error(link, err);
	if ((pub == NULL || err == BUS_E_LIMIT) && msg->reply_to != 0)
		bus__decline_peer(session->mbox, msg->reply_to);
	bus__count(err < 0 || pub == NULL ? &link->refused : &link->received, 1);
}

/* A message on a topic that the peer may not write. The first is told; all are counted. A value that the peer has from this bus or from
 * others, and offers back as it does to every bus, is no attempt to write. */
static int
refuse(struct bus__session *session, struct bus__heard_topic *topic, const struct bus_msg *msg,
    const struct bus__version *version)
{
	bool is_value = (msg->flags & (BUS_MSG_RETAIN | BUS_MSG_KEPT)) != 0;

	if (is_value && memcmp(version->bus, session->hello.id, sizeof version->bus) != 0) {
		bus__count(&session->link->received, 1);
		return 0;
	}
	if (msg->reply_to != 0)
		bus__decline_peer(session->mbox, msg->reply_to);
	bus__count(&session->link->refused, 1);
	if (topic->told)
		return 0;
	topic->told = true;
	return bus__permit_deny(session, BUS__DENY_TOPIC, bus__peer_topic(&topic->named));
}

/* passed: of a PASSED, else NULL. */
static int
hear_msg(
    struct bus__session *session, const struct bus__frame *frame, const struct bus__passed *passed)
{
	struct bus__offer offer = {.is_first = session->is_first};
	struct bus__heard_topic *topic;
	struct bus__passed room;
	struct bus_msg msg;
	int err;

	err = bus__msg_read(frame, session->hello.id, &msg, &offer.version);
	topic = bus__heard_find(session, frame->number);
	if (err < 0 || !session->heard_start || topic == NULL || !topic->announced)
		return BUS_E_PROTOCOL;
	/* KEPT and RETAIN: a change that is the first news of its value here. */
	offer.is_kept = (msg.flags & (BUS_MSG_RETAIN | BUS_MSG_KEPT)) == BUS_MSG_KEPT;
	if (session->numbered != (passed != NULL) && !offer.is_kept)
		return BUS_E_PROTOCOL;
	tell_gap(session);
	session->peer->in.next += (msg.flags & BUS_MSG_KEPT) == 0;
	if (topic->denied && topic->named.pub != NULL)
		return refuse(session, topic, &msg, &offer.version);
	memcpy(offer.peer, session->hello.id, sizeof offer.peer);
	offer.is_before = bus__msg_is_before(frame);
	/* A message refused here may be accepted over another connection. */
	if (passed != NULL && topic->named.pub != NULL &&
	    !bus__hub_takes(session, passed, &msg, &offer))
		return 0;
	publish(session, topic->named.pub, &msg, &offer,
	    bus__hub_passes(session, offer.is_repeated ? NULL : passed, offer.version.bus, &room));
	return 0;
}

static int
hear_passed(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__passed passed;
	struct bus__frame msg;

	return bus__passed_read(frame, &msg, &passed) < 0 || !bus__hub_may_say(session, &passed)
		   ? BUS_E_PROTOCOL
		   : hear_msg(session, &msg, &passed);
}

/* The last plain messages, of one topic and type, that are not published yet. */
struct run {
	size_t count, bytes, longest; /* messages, of payload, the longest that may be added */
	struct bus_pub *pub;          /* as for publish() */
	uint16_t number;
	uint8_t type;
	struct bus_slice items[BUS__RUN];
};

/* Publishes the first of a run alone, when it cannot take the short way. */
static void
publish_first(struct bus__session *session, const struct run *run, const struct bus_slice *item)
{
	const struct bus_msg msg = {
	    .size = sizeof msg, .data = item->data, .len = item->len, .type = run->type};
	struct bus__offer offer = {.is_first = session->is_first};

	publish(session, run->pub, &msg, &offer, NULL);
}

static void
end_run(struct bus__session *session, struct run *run)
{
	size_t at = 0;

	if (run->count == 0)
		return;
	tell_gap(session);
	session->peer->in.next += run->count;
	while (at < run->count) {
		size_t n = run->pub != NULL ? bus__publish_run_from_peer(run->pub, run->type,
						  run->items + at, run->count - at)
					    : 0;

		bus__count(&session->link->received, n);
		if (n == 0)
			publish_first(session, run, &run->items[at++]);
		at += n;
	}
	run->count = run->bytes = 0;
}

/* Adds a message to the run, or ends that and begins another one. false: the frame belongs to no run. */
static inline __attribute__((always_inline)) bool
add_plain(struct bus__session *session, struct run *run, const struct bus__frame *frame)
{
	const struct bus__heard_topic *topic;
	struct bus_slice payload;
	uint8_t type;

	if (!session->heard_start || !bus__plain_read(frame, &type, &payload) ||
	    payload.len > run->longest)
		return false;
	if (run->count == BUS__RUN || run->bytes + payload.len > BUS__RUN_BYTES ||
	    run->number != frame->number || run->type != type)
		end_run(session, run);
	if (run->count == 0) {
		topic = bus__heard_find(session, frame->number);
		if (topic == NULL || !topic->announced || topic->denied)
			return false;
		run->pub = topic->named.pub;
		run->number = frame->number;
		run->type = type;
	}
	run->items[run->count++] = payload;
	run->bytes += payload.len;
	return true;
}

/* Adds the messages that follow at *at and continue the run: same topic, no type, no flags. Where hubs are they have another
 * form. */
static void
continue_run(struct bus__session *session, struct run *run, size_t *at, unsigned *frames)
{
	uint32_t head = bus__plain_head(0, run->number);
	const uint8_t *begin = session->in.data, *end = begin + session->in.len;
	const uint8_t *frame = begin + *at;
	uint32_t len;

	if (run->count == 0 || run->type != 0 || session->numbered)
		return;
	while (run->count < BUS__RUN && bus__plain_is(frame, (size_t)(end - frame), head, &len) &&
	       len <= run->longest && run->bytes + len <= BUS__RUN_BYTES) {
		run->items[run->count++] = (struct bus_slice){frame + BUS__FRAME_HEAD, len};
		run->bytes += len;
		frame += BUS__FRAME_HEAD + len;
		++*frames;
	}
	*at = (size_t)(frame - begin);
}

/* The same for messages from a hub to a bus that passes nothing on itself, and so need not keep their publisher. */
static __attribute__((noinline)) bool
add_passed(struct bus__session *session, struct run *run, const struct bus__frame *frame)
{
	const struct bus__heard_topic *topic;
	struct bus_slice payload;
	struct bus__passed passed;
	struct bus__frame msg;
	uint8_t type;

	if (!session->heard_start || session->link->relays || frame->kind != BUS__FRAME_PASSED ||
	    bus__passed_read(frame, &msg, &passed) < 0 || !bus__hub_may_say(session, &passed) ||
	    !bus__plain_read(&msg, &type, &payload) || payload.len > run->longest)
		return false;
	topic = bus__heard_find(session, frame->number);
	if (topic == NULL || !topic->announced || topic->named.pub == NULL)
		return false;
	if (bus__hub_is_new(session, &passed))
		return add_plain(session, run, &msg);
	session->peer->in.next++;
	return true;
}

static inline bool
add_to_run(struct bus__session *session, struct run *run, const struct bus__frame *frame)
{
	return session->numbered ? add_passed(session, run, frame) : add_plain(session, run, frame);
}

static int
hear_reply(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus_link *link = session->link;
	struct bus__version version;
	struct bus_msg msg;
	int err;

	if (!session->heard_start || bus__msg_read(frame, session->hello.id, &msg, &version) < 0)
		return BUS_E_PROTOCOL;
	tell_gap(session);
	session->peer->in.next++;
	err =
	    bus__reply_from_peer(link->links->bus, msg.reply_to, &msg, bus__reply_is_nobody(frame));
	if (err < 0)
		bus__link_error(link, err);
	bus__count(err < 0 ? &link->refused : &link->received, 1);
	return 0;
}

static int
hear_filter(struct bus__session *session, const struct bus__frame *frame)
{
	char text[BUS_LIMIT_TOPIC_BYTES + 1];
	size_t len;
	int err;

	if (!bus__text_read(frame, text) || text[0] == '$')
		return BUS_E_PROTOCOL;
	if (frame->kind == BUS__FRAME_UNSUB) {
		bus__filters_remove(&session->peer->filters, text);
		return 0;
	}
	if (bus__filter_check(text, &len) == 0 && !bus__permit_subscribe(session, text))
		return bus__permit_deny(session, BUS__DENY_FILTER, text);
	err = bus__filters_add(&session->peer->filters, session->mbox, text);
	if (err == 0 && session->joined)
		bus__peer_tell_values(session->mbox);
	return err == BUS_E_FILTER || err == BUS_E_TOPIC_LONG ? BUS_E_PROTOCOL : err;
}

static int
hear_deny(struct bus__session *session, const struct bus__frame *frame)
{
	char text[BUS_LIMIT_TOPIC_BYTES + 1];
	size_t len;

	if (!bus__text_read(frame, text) || text[0] == '$' || bus__filter_check(text, &len) < 0 ||
	    (frame->number == BUS__DENY_TOPIC && bus__topic_check(text, &len) < 0))
		return BUS_E_PROTOCOL;
	bus__permit_denied(session, (enum bus__deny)frame->number, text);
	return 0;
}

static const int bye_errors[] = {
    [BUS__BYE_CLOSED] = BUS_E_GONE,
    [BUS__BYE_EXIST] = BUS_E_EXIST,
    [BUS__BYE_SILENT] = BUS_E_TIMEDOUT,
    [BUS__BYE_PROTOCOL] = BUS_E_PROTOCOL,
    [BUS__BYE_TOO_BIG] = BUS_E_TOO_BIG,
    [BUS__BYE_DENIED] = BUS_E_DENIED,
    [BUS__BYE_VERSION] = BUS_E_VERSION,
    [BUS__BYE_AUTH] = BUS_E_AUTH,
};

static int
hear_bye(struct bus__session *session, const struct bus__frame *frame)
{
	session->heard_bye = true;
	session->heard_end = frame->number == BUS__BYE_CLOSED;
	return frame->number < sizeof bye_errors / sizeof bye_errors[0] ? bye_errors[frame->number]
									: BUS_E_GONE;
}

/* A peer may send any number. Only the link thread counts here. */
static void
count_up_to_most(_Atomic uint64_t *counter, uint64_t n)
{
	uint64_t had = atomic_load_explicit(counter, memory_order_relaxed);

	bus__count(counter, n < UINT64_MAX - had ? n : UINT64_MAX - had);
}

static int
hear_start(struct bus__session *session, const struct bus__frame *frame)
{
	int err = bus__session_started(session, frame);

	if (err < 0)
		return err;
	count_up_to_most(&session->link->lost_by_peers, session->gap);
	bus__hub_pass_loss(
	    session, &(struct bus__lost){.count = session->gap, .at_least = session->gap_at_least});
	if (session->gap > BUS__GAP_MOST)
		session->gap = BUS__GAP_MOST;
	return 0;
}

static int
hear_lost(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__lost lost;

	if (!session->heard_start || bus__lost_read(frame, &lost) < 0 ||
	    (frame->flags != 0 && !bus__hub_may_say(session, NULL)))
		return BUS_E_PROTOCOL;
	session->peer->in.next += lost.count;
	session->peer->in.lost += lost.count;
	if (lost.is_passed && !bus__hub_takes_loss(session, &lost))
		return 0;
	count_up_to_most(&session->link->lost_by_peers, lost.count);
	session->gap += lost.count < BUS__GAP_MOST ? lost.count : BUS__GAP_MOST;
	session->gap_at_least |= lost.at_least;
	bus__hub_pass_loss(session, &lost);
	return 0;
}

static int
hear_live(struct bus__session *session, const struct bus__frame *frame)
{
	/* RESUME must be first; it opens the mailbox. */
	if (session->mbox == NULL && frame->kind != BUS__FRAME_RESUME)
		return BUS_E_PROTOCOL;
	switch (frame->kind) {
	case BUS__FRAME_SUB:
	case BUS__FRAME_UNSUB:
		return hear_filter(session, frame);
	case BUS__FRAME_READY:
		return bus__session_ready(session);
	case BUS__FRAME_TOPIC:
		return hear_topic(session, frame);
	case BUS__FRAME_MSG:
		return hear_msg(session, frame, NULL);
	case BUS__FRAME_PASSED:
		return hear_passed(session, frame);
	case BUS__FRAME_REPLY:
		return hear_reply(session, frame);
	case BUS__FRAME_RESUME:
		return bus__session_resume(session, frame);
	case BUS__FRAME_START:
		return hear_start(session, frame);
	case BUS__FRAME_LOST:
		return hear_lost(session, frame);
	case BUS__FRAME_DENY:
		return hear_deny(session, frame);
	case BUS__FRAME_PING:
		return 0;
	default:
		return BUS_E_PROTOCOL;
	}
}

static int
hear(struct bus__session *session, const struct bus__frame *frame)
{
	if (frame->kind == BUS__FRAME_BYE)
		return hear_bye(session, frame);
	switch (session->stage) {
	case BUS__STAGE_HELLO:
		return frame->kind == BUS__FRAME_HELLO ? bus__session_hello(session, frame)
						       : BUS_E_PROTOCOL;
	case BUS__STAGE_AUTH:
		return bus__login_hear(session, frame);
	case BUS__STAGE_JOIN:
		return frame->kind == BUS__FRAME_JOIN ? bus__session_join(session) : BUS_E_PROTOCOL;
	default:
		return hear_live(session, frame);
	}
}

static int
parse_preamble(struct bus__session *session, size_t *ret_used)
{
	int n = bus__preamble_read(session->in.data, session->in.len);

	if (n <= 0)
		return n;
	*ret_used = (size_t)n;
	return bus__session_greeted(session);
}

/* The size of the next read, of which `wanted` bytes are the rest of a frame: small while the peer is idle, or a stranger. */
static size_t
next_cap(struct bus__session *session, size_t wanted)
{
	bool busy = session->heard_ns - session->busy_ns < BUSY_NS;
	size_t size = bus__size_now(&session->in_size, session->heard_ns);

	if (session->stage != BUS__STAGE_LIVE || (!busy && wanted <= BUS__FIRST_READ))
		return wanted > BUS__FIRST_READ ? wanted : BUS__FIRST_READ;
	return wanted > size ? wanted : size;
}

/* Makes room for the rest of a frame and for a full read, and gives a large buffer back when no frame of
 * this read asked for one. Between two reads nothing else uses the buffer. */
static int
make_room(struct bus__session *session, size_t wanted, size_t largest)
{
	struct bus__buffers *buffers = &session->link->links->buffers;
	struct bus__bytes *in = &session->in;
	size_t cap = next_cap(session, wanted);
	int err = 0;

	if (in->cap > cap && in->len == 0 && largest <= cap)
		bus__buffers_leave(buffers, in);
	if (cap != wanted && cap >= BUS__BUFFER) {
		err = bus__buffers_take(buffers, in, cap);
		cap = wanted; /* the buffer may be smaller */
	}
	return err == 0 && cap > in->cap ? bus__bytes_reserve(in, cap - in->len) : err;
}

/* Whether the round must end. Frames that may take long ask each time, the others now and then. */
static bool
is_round_over(
    const struct bus__session *session, unsigned frames, unsigned *next_look, int64_t until_ns)
{
	if (!session->was_heavy && frames < *next_look)
		return false;
	*next_look = frames + LOOK_EACH;
	return bus__now_ns() >= until_ns;
}

int
bus__session_parse(struct bus__session *session, int64_t now)
{
	uint32_t max_payload = bus__max_payload(session->link->links->bus);
	size_t at = session->in_at, wanted = 0, largest = 0;
	struct bus__frame frame;
	unsigned frames = 0, next_look = LOOK_EACH;
	struct run run;
	int err = 0;

	run.count = run.bytes = run.number = run.type = 0;
	run.longest = max_payload < BUS__RUN_PAYLOAD ? max_payload : BUS__RUN_PAYLOAD;
	session->behind = session->was_heavy = false;
	if (session->stage == BUS__STAGE_GREETING)
		err = parse_preamble(session, &at);
	while (err == 0 && session->stage != BUS__STAGE_GREETING) {
		err = bus__frame_read(session->in.data + at, session->in.len - at,
		    session->stage != BUS__STAGE_LIVE, max_payload, &frame);
		if (err != 0)
			break;
		wanted = BUS__FRAME_HEAD + (size_t)frame.len;
		if (wanted > largest)
			largest = wanted;
		if (session->in.len - at < wanted)
			break;
		if (!add_to_run(session, &run, &frame)) {
			/* Publish earlier messages before this frame. */
			end_run(session, &run);
			err = hear(session, &frame);
		}
		if (err == 0) {
			at += wanted;
			frames++;
			continue_run(session, &run, &at, &frames);
		}
		wanted = 0;
		session->was_heavy = frame.kind != BUS__FRAME_MSG && frame.kind != BUS__FRAME_REPLY;
		session->behind = err == BUS__AGAIN ||
				  (at < session->in.len && is_round_over(session, frames,
							       &next_look, now + bus__round()));
		if (session->behind)
			break;
	}
	end_run(session, &run);
	if (err < 0)
		return err;
	tell_gap(session);
	/* Move the rest once, not in each round. */
	session->in_at = session->behind ? at : 0;
	if (session->behind)
		return 0;
	session->in.len -= at;
	memmove(session->in.data, session->in.data + at, session->in.len);
	return make_room(session, wanted, largest);
}
