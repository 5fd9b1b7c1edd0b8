/* The incoming direction: bytes to frames to publishes. Nothing the peer says is believed before it is
 * checked, and no buffer grows before a checked head asks for it. */
#include "link/session.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "core/gap.h"

enum {
	READ = 64 * 1024, /* bytes of one read */
	SLICE_NS =
	    2000000 /* of filters, each of which may match very many topics, before others have their turn */
};

static int
hear_topic(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__heard_topic *topic;
	char text[BUS_LIMIT_TOPIC_BYTES + 1];
	struct bus *bus = session->link->links->bus;
	int err;

	if (!bus__text_read(frame, text) || text[0] == '$')
		return BUS_E_PROTOCOL;
	if (session->heard_topic_count <= frame->number) {
		size_t count = frame->number < 64 ? 64 : BUS__LIMIT_TOPICS;

		topic = bus__realloc(session->heard_topics, count * sizeof *topic);
		if (topic == NULL)
			return BUS_E_NOMEM;
		memset(topic + session->heard_topic_count, 0,
		    (count - session->heard_topic_count) * sizeof *topic);
		session->heard_topics = topic;
		session->heard_topic_count = count;
	}
	topic = &session->heard_topics[frame->number];
	topic->announced = true;
	/* The old one first: a peer that uses all its numbers has no topic to spare. */
	bus__peer_unname(bus, &topic->named);
	err = bus__peer_name(bus, session->account, text, &topic->named);
	switch (err) {
	case 0:
		break;
	case BUS_E_NOMEM: /* the connection ends and comes back; going by, it would be deaf to the topic for good */
		return err;
	case BUS_E_LIMIT:
	case BUS_E_CLOSED: /* not the peer's fault: its messages go by, the rest is heard */
		bus__link_error(session->link, err);
		break;
	default:
		return BUS_E_PROTOCOL;
	}
	return 0;
}

/* Lets the next message tell of those that did not arrive before it. Without room for that now it is tried again. */
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

static int
hear_msg(struct bus__session *session, const struct bus__frame *frame)
{
	struct bus__heard_topic *topic;
	struct bus__version version;
	struct bus_pub *pub;
	struct bus_msg msg;
	int err;

	err = bus__msg_read(frame, session->hello.id, &msg, &version);
	if (err < 0 || !session->heard_start || frame->number >= session->heard_topic_count)
		return BUS_E_PROTOCOL;
	tell_gap(session);
	session->peer->in.next += (msg.flags & BUS_MSG_KEPT) == 0;
	topic = &session->heard_topics[frame->number];
	if (!topic->announced)
		return BUS_E_PROTOCOL;
	pub = topic->named.pub;
	err = pub != NULL ? bus__publish_from_peer(pub, &msg, &version, session->mbox) : 0;
	if (err < 0)
		bus__link_error(session->link, err);
	if (pub == NULL && msg.reply_to != 0)
		bus__decline_peer(session->mbox, msg.reply_to);
	/* Without a handle there was no room for the topic; hear_topic() has told why. */
	bus__count(err < 0 || pub == NULL ? &session->link->refused : &session->link->received, 1);
	return 0;
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
	int err;

	if (!bus__text_read(frame, text) || text[0] == '$')
		return BUS_E_PROTOCOL;
	if (frame->kind == BUS__FRAME_UNSUB) {
		bus__filters_remove(&session->peer->filters, text);
		return 0;
	}
	err = bus__filters_add(&session->peer->filters, session->mbox, text);
	if (err == 0 && session->joined)
		bus__peer_tell_values(session->mbox);
	return err == BUS_E_FILTER || err == BUS_E_TOPIC_LONG ? BUS_E_PROTOCOL : err;
}

static const int bye_errors[] = {
    [BUS__BYE_CLOSED] = BUS_E_GONE,
    [BUS__BYE_EXIST] = BUS_E_EXIST,
    [BUS__BYE_SILENT] = BUS_E_TIMEDOUT,
    [BUS__BYE_PROTOCOL] = BUS_E_PROTOCOL,
    [BUS__BYE_TOO_BIG] = BUS_E_TOO_BIG,
    [BUS__BYE_DENIED] = BUS_E_DENIED,
    [BUS__BYE_VERSION] = BUS_E_VERSION,
};

static int
hear_bye(struct bus__session *session, const struct bus__frame *frame)
{
	session->heard_bye = true;
	session->heard_end = frame->number == BUS__BYE_CLOSED;
	return frame->number < sizeof bye_errors / sizeof bye_errors[0] ? bye_errors[frame->number]
									: BUS_E_GONE;
}

/* A peer may say any number. Only the link thread counts here. */
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

	if (err == 0)
		count_up_to_most(&session->link->lost_by_peers, session->gap);
	if (err == 0 && session->gap > BUS__GAP_MOST)
		session->gap = BUS__GAP_MOST;
	return err;
}

static int
hear_lost(struct bus__session *session, const struct bus__frame *frame)
{
	uint64_t lost = bus__lost_read(frame);

	if (!session->heard_start)
		return BUS_E_PROTOCOL;
	count_up_to_most(&session->link->lost_by_peers, lost);
	session->peer->in.next += lost;
	session->peer->in.lost += lost;
	session->gap += lost < BUS__GAP_MOST ? lost : BUS__GAP_MOST;
	return 0;
}

static int
hear_live(struct bus__session *session, const struct bus__frame *frame)
{
	/* RESUME comes first, and opens the mailbox. */
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
		return hear_msg(session, frame);
	case BUS__FRAME_REPLY:
		return hear_reply(session, frame);
	case BUS__FRAME_RESUME:
		return bus__session_resume(session, frame);
	case BUS__FRAME_START:
		return hear_start(session, frame);
	case BUS__FRAME_LOST:
		return hear_lost(session, frame);
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

/* Makes room for the rest of a frame and for a good read, and gives a large buffer back when no frame of
 * this read asked for one. Between two reads nobody else has the buffer. */
static int
make_room(struct bus__session *session, size_t wanted, size_t largest)
{
	struct bus__bytes *in = &session->in;

	if (session->stage != BUS__STAGE_LIVE)
		return 0; /* a stranger's frame fits the first buffer */
	if (in->cap > READ && largest <= READ && in->len == 0)
		bus__bytes_free(in);
	if (wanted < READ)
		wanted = READ;
	return wanted > in->cap ? bus__bytes_reserve(in, wanted - in->len) : 0;
}

int
bus__session_parse(struct bus__session *session)
{
	uint32_t max_payload = bus__max_payload(session->link->links->bus);
	size_t at = 0, wanted = 0, largest = 0;
	struct bus__frame frame;
	int64_t end_ns = 0;
	int err = 0;

	session->has_more = false;

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
		if (frame.kind == BUS__FRAME_SUB && end_ns == 0)
			end_ns = bus__now_ns() + SLICE_NS;
		err = hear(session, &frame);
		at += wanted;
		wanted = 0;
		session->has_more =
		    frame.kind == BUS__FRAME_SUB && at < session->in.len && bus__now_ns() >= end_ns;
		if (session->has_more)
			break;
	}
	if (err < 0)
		return err;
	tell_gap(session);
	session->in.len -= at;
	memmove(session->in.data, session->in.data + at, session->in.len);
	return session->has_more ? 0 : make_room(session, wanted, largest);
}

void
bus__session_forget_topics(struct bus__session *session)
{
	for (size_t i = 0; i < session->heard_topic_count; i++)
		bus__peer_unname(session->link->links->bus, &session->heard_topics[i].named);
	bus__free(session->heard_topics);
	bus__account_close(session->link->links->bus, session->account);
}
