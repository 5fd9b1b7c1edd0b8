/* The outgoing direction: gather the mailbox's messages, send them as one, and gather the next ones while that is under way. */
#include "link/session.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "link/flush.h"
#include "link/hub.h"
#include "link/permit.h"

enum {
	SMALL = 16 * 1024,  /* larger payloads are sent from where they are, not copied */
	TAKE = 64,          /* messages between two bus__peer_release() */
	ENOUGH = 16 * 1024, /* send this much before gathering more */
	WITHHELD_MOST =
	    1024, /* messages that the peer may not read, which fill no buffer, in one round */
	WORST = 3 * (BUS__FRAME_HEAD + 8) + BUS__FRAME_HEAD + BUS_LIMIT_TOPIC_BYTES +
		BUS__PASSED_HEAD_MAX + SMALL /* one message with everything that may precede it */
};

_Atomic int64_t bus__repair_ns = INT64_C(1000000000);

static uint8_t *
end_of(const struct bus__load *load)
{
	return load->bytes.data + load->bytes.len;
}

int
bus__session_say(struct bus__session *session, enum bus__frame_kind kind, uint16_t number,
    const void *body, size_t len)
{
	int err = bus__bytes_reserve(&session->queue.bytes, BUS__FRAME_HEAD + len);

	if (err < 0)
		return err;
	session->queue.bytes.len +=
	    bus__frame_write(end_of(&session->queue), kind, number, body, len);
	return 0;
}

int
bus__session_greet(struct bus__session *session)
{
	struct bus *bus = session->link->links->bus;
	struct bus__hello hello = {.max_payload = bus__max_payload(bus),
	    .heartbeat_ms = session->link->heartbeat_ms,
	    .features = (session->link->guard.users != NULL ? BUS__NEEDS_AUTH : 0) |
			(session->link->relays ? BUS__CAN_RELAY | BUS__NEEDS_PASSED : 0)};
	int err =
	    bus__bytes_reserve(&session->queue.bytes, BUS__PREAMBLE + BUS__FRAME_HEAD + BUS__HELLO);

	if (err < 0)
		return err;
	memcpy(hello.id, bus__id(bus), sizeof hello.id);
	session->queue.bytes.len += bus__preamble_write(end_of(&session->queue));
	session->queue.bytes.len += bus__hello_write(end_of(&session->queue), &hello);
	return 0;
}

int
bus__session_say_resume(struct bus__session *session)
{
	const struct bus__sequence *in = &session->peer->in;
	struct bus__resume resume = {
	    .id = in->id,
	    .next = in->next,
	    .lost = in->lost,
	    .has_met = session->peer->has_met,
	    .has_waited = in->id == 0 && session->peer->has_waited,
	};
	int err = bus__bytes_reserve(&session->queue.bytes, BUS__FRAME_HEAD + BUS__RESUME);

	if (err == 0)
		session->queue.bytes.len += bus__resume_write(end_of(&session->queue), &resume);
	return err;
}

int
bus__session_say_start(struct bus__session *session, const struct bus__start *start)
{
	int err = bus__bytes_reserve(&session->queue.bytes, BUS__FRAME_HEAD + BUS__START);

	if (err == 0)
		session->queue.bytes.len += bus__start_write(end_of(&session->queue), start);
	return err;
}

/* --- messages --------------------------------------------------------------------------------------- */

static void
put_lost(struct bus__session *session, uint64_t count)
{
	session->queue.bytes.len += bus__lost_write(end_of(&session->queue), count);
	session->peer->out.next += count;
	session->peer->out.lost += count;
	bus__count(&session->link->lost, count);
}

/* Losses that the mailbox reports. */
static void
put_lost_before(struct bus__session *session, uint64_t count)
{
	session->peer->told_lost += count;
	if (count > 0)
		put_lost(session, count);
}

/* Losses of publishes that were under way when the connection began: no message reports them. */
static void
put_lost_parked(struct bus__session *session)
{
	struct bus__peer *peer = session->peer;
	uint64_t lost = bus__peer_lost_parked(session->mbox) - peer->told_parked;

	peer->told_parked += lost;
	if (lost > 0)
		put_lost(session, lost);
}

static void
put_content(struct bus__session *session, const struct bus_msg *msg, size_t len)
{
	struct bus__load *load = &session->queue;

	load->msgs++;
	if ((msg->flags & BUS_MSG_KEPT) == 0) {
		load->numbered++;
		session->peer->out.next++;
	}
	if (len > SMALL) {
		load->big = msg->data;
		load->big_at = load->bytes.len;
		load->big_len = len;
	} else if (len > 0) {
		memcpy(end_of(load), msg->data, len);
		load->bytes.len += len;
	}
}

enum told { TOLD_BEFORE, TOLD_NOW, TOLD_NEVER };

/* In told_topics, beside the serial: the peer may not read the topic. */
#define WITHHELD (UINT64_C(1) << 63)

/* Whether the peer knows the topic's number. From this call on it does, unless there is no memory to note
 * that; or it is not told the topic, since it may not read it. */
static enum told
tell_topic(struct bus__session *session, uint16_t number, const struct bus__out *out)
{
	uint64_t **part = &session->told_topics[number / BUS__TOPICS_PART], *told, none = 0;
	uint64_t serial = out->topic_serial + 1;

	if (*part == NULL)
		*part = bus__calloc(BUS__TOPICS_PART, sizeof **part);
	told = *part != NULL ? &(*part)[number % BUS__TOPICS_PART] : &none;
	if (*told == serial)
		return TOLD_BEFORE;
	if (*told == (serial | WITHHELD))
		return TOLD_NEVER;
	if (!bus__permit_read(session, out->msg->topic))
		serial |= WITHHELD;
	*told = serial;
	return serial & WITHHELD ? TOLD_NEVER : TOLD_NOW;
}

/* The peer learns nothing of the message, so it takes no number. A question is declined. */
static void
withhold(struct bus__session *session, const struct bus_msg *msg)
{
	const struct bus_msg nobody = {.size = sizeof nobody, .reply_to = msg->reply_to};

	session->withheld++;
	if (msg->reply_to != 0)
		bus__reply_from_peer(session->link->links->bus, msg->reply_to, &nobody, true);
}

static inline bool
is_before(const struct bus__out *out)
{
	return out->is_before && (out->msg->flags & (BUS_MSG_RETAIN | BUS_MSG_KEPT)) != 0;
}

/* Writes the head of an event that names its publisher. Separate: a link without a hub pays nothing for it. */
static __attribute__((noinline)) void
put_passed_head(struct bus__session *session, uint16_t number, const struct bus__out *out)
{
	unsigned hubs = bus__passed_hubs(&out->passed);
	/* A hub's own messages have passed that hub. */
	const struct bus__passed passed = bus__passed_make(out->passed.source,
	    bus__passed_number(&out->passed), hubs > 0 ? hubs : session->link->relays, 0);

	session->queue.bytes.len += bus__passed_head_write(end_of(&session->queue), number,
	    out->msg, &out->version, bus__id(session->link->links->bus), is_before(out), &passed);
}

/* Appends one message, for which there is room. A topic's number is its serial modulo their count: no table to
 * search, and two topics share a number only after 10,000 others were made in between. */
static void
put_message(struct bus__session *session, const struct bus__out *out)
{
	const struct bus_msg *msg = out->msg;
	size_t len = msg->len + msg->headers_len;
	uint16_t number = (uint16_t)(out->topic_serial % BUS__LIMIT_TOPICS);

	enum told told;

	put_lost_before(session, msg->lost);
	if (len > session->hello.max_payload) {
		if ((msg->flags & BUS_MSG_KEPT) == 0 &&
		    (out->is_reply || bus__permit_read(session, msg->topic)))
			put_lost(session, 1);
		else
			session->withheld++;
		return;
	}
	if (out->is_reply) {
		session->queue.bytes.len +=
		    bus__reply_head_write(end_of(&session->queue), msg, out->nobody);
		put_content(session, msg, len);
		return;
	}
	told = tell_topic(session, number, out);
	if (told == TOLD_NEVER) {
		withhold(session, msg);
		return;
	}
	if (told == TOLD_NOW) {
		session->queue.bytes.len += bus__frame_write(end_of(&session->queue),
		    BUS__FRAME_TOPIC, number, msg->topic, strlen(msg->topic));
	}
	/* A kept value is no event: it travels the same with hubs. */
	if (out->numbered && (msg->flags & (BUS_MSG_RETAIN | BUS_MSG_KEPT)) != BUS_MSG_KEPT)
		put_passed_head(session, number, out);
	else
		session->queue.bytes.len += bus__msg_head_write(end_of(&session->queue), number,
		    msg, &out->version, bus__id(session->link->links->bus), is_before(out));
	put_content(session, msg, len);
}

/* Appends the first messages of a run: at most `most`, up to `room` bytes of the buffer. Returns how many. 0: the peer does not
 * know the topic's number; put_message() must append the first. */
static unsigned
put_run(struct bus__session *session, const struct plain_run *run, unsigned most, size_t room)
{
	uint16_t number = (uint16_t)(run->topic_serial % BUS__LIMIT_TOPICS);
	uint32_t head = bus__plain_head(run->type, number);
	const uint64_t *part = session->told_topics[number / BUS__TOPICS_PART];
	uint8_t *at = end_of(&session->queue), *end = session->queue.bytes.data + room;
	unsigned n = 0;

	if (part == NULL || part[number % BUS__TOPICS_PART] != run->topic_serial + 1)
		return 0;
	for (; n < most; n++) {
		const struct bus_slice *item = &run->items[n];

		if (item->len > session->hello.max_payload ||
		    item->len + BUS__PLAIN_HEAD_MAX > (size_t)(end - at))
			break;
		at += bus__plain_write(at, head, run->type, (uint32_t)item->len);
		memcpy(at, item->data, item->len);
		at += item->len;
	}
	session->queue.bytes.len = (size_t)(at - session->queue.bytes.data);
	session->queue.msgs += n;
	session->queue.numbered += n;
	session->peer->out.next += n;
	return n;
}

/* Takes and appends plain messages, at most `most`, up to `room` bytes of the buffer. Returns how many. */
static unsigned
gather_runs(struct bus__session *session, unsigned most, size_t room)
{
	struct plain_run run;
	unsigned taken = 0, count, n;

	do {
		count = bus__peer_see_run(session->mbox, &run);
		if (count > most - taken)
			count = most - taken;
		n = count > 0 ? put_run(session, &run, count, room) : 0;
		bus__peer_take_run(session->mbox, &run, n);
		taken += n;
	} while (n > 0 && n == count && taken < most);
	return taken;
}

/* Some lost messages may have been values, and values get new numbers. Resends them, but at a limited rate. */
static void
repair(struct bus__session *session)
{
	struct bus__loop *loop = &session->link->links->loop;
	int64_t now;

	if (!session->joined || !(session->owes_values || bus__peer_owes_values(session->mbox)))
		return;
	now = bus__now_ns();
	if (now < session->values_ns) {
		bus__timer_set(loop, &session->values_timer, session->values_ns);
		return;
	}
	session->values_ns = now + atomic_load_explicit(&bus__repair_ns, memory_order_relaxed);
	session->owes_values = false;
	bus__peer_tell_values(session->mbox);
}

void
bus__session_owe_values(struct bus__session *session)
{
	session->owes_values = true;
	if (session->joined)
		bus__loop_post(&session->link->links->loop, &session->values_task);
}

bool
bus__session_has_big(const struct bus__session *session)
{
	return session->queue.big != NULL || session->flying.big != NULL;
}

/* Fills `queue` with values, up to `most` bytes, or one large payload. Looks at a limited number of topics per round. */
static int
gather_values(struct bus__session *session, size_t most)
{
	enum bus__values got = BUS__VALUES_ONE;
	struct bus__out out;
	int err = 0;

	repair(session);
	while (err == 0 && !bus__session_has_big(session) &&
	       session->queue.bytes.len + WORST <= most && session->withheld < WITHHELD_MOST) {
		got = bus__peer_take_value(session->mbox, &out);
		if (got != BUS__VALUES_ONE)
			break;
		err = bus__buffers_take(
		    &session->link->links->buffers, &session->queue.bytes, BUS__BUFFER);
		if (err == 0)
			put_message(session, &out);
		session->queue.big_is_value = session->queue.big != NULL;
	}
	if (got == BUS__VALUES_LATER)
		bus__loop_post(&session->link->links->loop, &session->values_task);
	return err;
}

/* The size as of the last send: it follows consecutive loads. */
static size_t
out_size(struct bus__session *session)
{
	return bus__size_now(&session->out_size, session->said_ns);
}

/* Gives back empty buffers and oversized ones. */
static void
shed(struct bus__session *session, struct bus__bytes *bytes)
{
	if (bytes->len == 0 && bytes->cap > out_size(session))
		bus__buffers_leave(&session->link->links->buffers, bytes);
}

void
bus__session_shed(struct bus__session *session)
{
	bus__size_now(&session->out_size, bus__now_ns());
	shed(session, &session->queue.bytes);
	shed(session, &session->flying.bytes);
}

/* Fills `queue` from the mailbox, up to one large payload, which stays borrowed. */
static int
gather(struct bus__session *session)
{
	struct bus__bytes *bytes = &session->queue.bytes;
	size_t room = out_size(session);
	struct bus__out out;
	unsigned taken = 0;
	int err;

	if (bus__session_has_big(session) || bytes->len + WORST > room)
		return 0;
	shed(session, bytes);
	err = bus__buffers_take(&session->link->links->buffers, bytes, room);
	if (err < 0)
		return err;
	if (room > bytes->cap)
		room = bytes->cap;
	put_lost_parked(session);
	while (bytes->len + WORST <= room && session->withheld < WITHHELD_MOST) {
		if (!bus__peer_take(session->mbox, &out)) {
			if (taken == 0) {
				/* The last messages expired, and the next one, which would report them, may be far off. */
				put_lost_before(session, bus__peer_take_lost(session->mbox));
				return 0;
			}
			/* The end of a batch: the mailbox takes the next one only after a release. */
			bus__peer_release(session->mbox);
			taken = 0;
			continue;
		}
		taken++;
		put_message(session, &out);
		if (session->queue.big != NULL)
			return 0;
		taken += gather_runs(session, TAKE - taken, room);
		if (taken == TAKE) {
			bus__peer_release(session->mbox);
			taken = 0;
		}
	}
	if (taken > 0)
		bus__peer_release(session->mbox);
	return 0;
}

/* Sends values and messages; neither takes all the room of the other. */
static int
fill(struct bus__session *session)
{
	int err = session->mbox != NULL ? bus__hub_say_loss(session) : 0;

	if (err == 0 && session->mbox != NULL)
		err = gather_values(session, BUS__BUFFER / 2);
	return err == 0 && session->draining ? gather(session) : err;
}

/* --- the wire --------------------------------------------------------------------------------------- */

size_t
bus__load_bytes(const struct bus__load *load)
{
	return load->bytes.len + load->big_len;
}

static void
fly(struct bus__session *session)
{
	const struct bus__load *load = &session->flying;
	const struct iovec parts[] = {
	    {load->bytes.data, load->big_at},
	    {(uint8_t *)(uintptr_t)load->big, load->big_len},
	    {load->bytes.data + load->big_at, load->bytes.len - load->big_at},
	};
	struct iovec iov[sizeof parts / sizeof parts[0]];
	size_t flown = session->flown;
	unsigned n = 0;

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		size_t skip = flown < parts[i].iov_len ? flown : parts[i].iov_len;

		flown -= skip;
		if (skip < parts[i].iov_len)
			iov[n++] = (struct iovec){
			    (uint8_t *)parts[i].iov_base + skip, parts[i].iov_len - skip};
	}
	session->sending = true;
	session->send_io.err = BUS_E_GONE; /* until it has been done */
	session->send_io.count = 0;
	session->stream->ops->send(session->stream, iov, n, &session->send_io);
}

/* Sends the queued load; the next one gathers in the other buffer. */
static void
take_off(struct bus__session *session)
{
	struct bus__load empty = {.bytes = session->flying.bytes};
	size_t len = session->queue.bytes.len;

	session->flying = session->queue;
	session->queue = empty;
	session->flown = 0;
	session->said_ns = bus__now_ns();
	bus__size_learn(&session->out_size, len, len + WORST > out_size(session), BUS__BUFFER_OUT,
	    session->said_ns);
	fly(session);
}

/* No load is queued and no send is under way. false: there are messages after all. */
static bool
rest(struct bus__session *session)
{
	struct bus__links *links = session->link->links;

	if (session->draining && !bus__peer_sleep(session->mbox))
		return false;
	session->draining = false;
	/* A grown buffer stays for a second, since it may soon be needed again. */
	if (out_size(session) == BUS__BUFFER) {
		bus__buffers_leave(&links->buffers, &session->queue.bytes);
		bus__buffers_leave(&links->buffers, &session->flying.bytes);
	}
	/* Values that had to wait for messages in the mailbox. */
	if (session->mbox != NULL && bus__peer_tells_values(session->mbox))
		bus__loop_post(&links->loop, &session->values_task);
	bus__flush_progress(links, session);
	return true;
}

int
bus__session_send(struct bus__session *session)
{
	int err;

	session->withheld = 0;
	for (;;) {
		/* Send a full load at once; gather more into a small one. */
		err = session->sending || session->queue.bytes.len < ENOUGH ? fill(session) : 0;
		if (err < 0 || session->sending)
			return err;
		if (session->queue.bytes.len > 0) {
			take_off(session);
		} else if (session->withheld >= WITHHELD_MOST) {
			bus__loop_post(&session->link->links->loop, &session->values_task);
			return 0;
		} else if (rest(session)) {
			return 0;
		}
	}
}

void
bus__session_release_big(struct bus__session *session, struct bus__load *load)
{
	if (load->big == NULL)
		return;
	if (load->big_is_value)
		bus__peer_release_value(session->mbox);
	else
		bus__peer_release(session->mbox);
	load->big = NULL;
	load->big_is_value = false;
	load->big_at = load->big_len = 0;
}

int
bus__session_sent(struct bus__session *session)
{
	struct bus__load *load = &session->flying;

	session->sending = false;
	if (session->send_io.err < 0)
		return session->send_io.err == BUS_E_TLS ? BUS_E_TLS : BUS_E_GONE;
	session->flown += session->send_io.count;
	if (session->flown < bus__load_bytes(load)) {
		fly(session);
		return 0;
	}
	session->loads_sent++;
	bus__count(&session->link->sent, load->msgs);
	load->msgs = load->numbered = 0;
	load->bytes.len = 0;
	/* Many filters told at once leave a large buffer. */
	if (load->bytes.cap > BUS__BUFFER_OUT)
		bus__buffers_leave(&session->link->links->buffers, &load->bytes);
	bus__session_release_big(session, load);
	bus__flush_progress(session->link->links, session);
	return bus__session_send(session);
}
