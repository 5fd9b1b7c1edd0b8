#include "link/frame.h"

#include <string.h>

#include "base/utf8.h"

/* The first byte is not ASCII, so no text protocol begins with it. */
static const uint8_t magic[BUS__PREAMBLE - 1] = {0xb5, 'l', 'i', 'b', 'b', 'u', 's'};

enum msg_flag {
	MSG_RETAIN = 1u << 0, /* the same bits as enum bus_msg_flag */
	MSG_KEPT = 1u << 1,
	MSG_TYPED = BUS__MSG_TYPED,
	MSG_TTL = 1u << 3,      /* four bytes of milliseconds follow the time */
	MSG_HEADERS = 1u << 4,  /* four bytes of their length come before the payload */
	MSG_REPLY_TO = 1u << 5, /* eight bytes of number follow the ttl */
	REPLY_NOBODY = 1u << 6, /* REPLY only: there will be none */
	MSG_ORIGIN = 1u << 6,   /* MSG only: the id of another bus follows the changes */
	MSG_BEFORE = 1u << 7,   /* RETAIN, KEPT: older than the connection */
	MSG_VALUE =
	    MSG_RETAIN | MSG_KEPT /* eight bytes of time and eight of changes follow the type */
};

enum { LOST_AT_LEAST = 1u << 0, LOST_PASSED = 1u << 1 };
enum { START_RESTARTED = 1u << 0, RESUME_WAITED = 1u << 0, RESUME_MET = 1u << 1 };

static void
put(uint8_t *at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t
get(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

/* --- reading -------------------------------------------------------------------------------------- */

int
bus__preamble_read(const uint8_t *at, size_t n)
{
	size_t seen = n < sizeof magic ? n : sizeof magic;

	if (memcmp(at, magic, seen) != 0)
		return BUS_E_NOT_LIBBUS;
	if (n < BUS__PREAMBLE)
		return 0;
	return at[sizeof magic] == BUS__WIRE_VERSION ? BUS__PREAMBLE : BUS_E_VERSION;
}

#define MSG_FLAGS                                                                                  \
	(MSG_TYPED | MSG_VALUE | MSG_TTL | MSG_HEADERS | MSG_REPLY_TO | MSG_ORIGIN | MSG_BEFORE)
#define REPLY_FLAGS (MSG_TYPED | MSG_TTL | MSG_HEADERS | MSG_REPLY_TO | REPLY_NOBODY)

/* The origin belongs to a value: in a REPLY its bit means something else. */
static bool
has_origin(uint8_t flags)
{
	return (flags & MSG_VALUE) != 0 && (flags & MSG_ORIGIN) != 0;
}

static uint32_t
msg_extra(uint8_t flags)
{
	return ((flags & MSG_TYPED) != 0 ? 4u : 0u) + ((flags & MSG_VALUE) != 0 ? 16u : 0u) +
	       (has_origin(flags) ? (uint32_t)BUS__BUS_ID : 0u) +
	       ((flags & MSG_TTL) != 0 ? 4u : 0u) + ((flags & MSG_HEADERS) != 0 ? 4u : 0u) +
	       ((flags & MSG_REPLY_TO) != 0 ? 8u : 0u);
}

/* No length is valid. */
#define RESERVED                                                                                   \
	{                                                                                          \
		UINT32_MAX, 0, 0                                                                   \
	}

/* The shape of each kind of frame: the shortest and longest body, and the largest number. MSG depends
 * on its flags and on the payload limit. */
static const struct shape {
	uint32_t min, max;
	uint16_t numbers;
} shapes[] = {
    [BUS__FRAME_HELLO] = {BUS__HELLO, BUS__LIMIT_STRANGER - BUS__FRAME_HEAD, 0},
    [BUS__FRAME_JOIN] = {0, 0, 0},
    [BUS__FRAME_SUB] = {1, BUS_LIMIT_TOPIC_BYTES, 0},
    [BUS__FRAME_UNSUB] = {1, BUS_LIMIT_TOPIC_BYTES, 0},
    [BUS__FRAME_READY] = {0, 0, 0},
    [BUS__FRAME_TOPIC] = {1, BUS_LIMIT_TOPIC_BYTES, BUS__LIMIT_TOPICS - 1},
    [BUS__FRAME_MSG] = {0, 0, BUS__LIMIT_TOPICS - 1},
    [BUS__FRAME_LOST] = {8, 8 + BUS__PASSED, 0},
    [BUS__FRAME_PING] = {0, 0, 0},
    [BUS__FRAME_BYE] = {0, 0, UINT16_MAX},
    [BUS__FRAME_REPLY] = {0, 0, 0},
    [BUS__FRAME_RESUME] = {BUS__RESUME, BUS__LIMIT_STRANGER - BUS__FRAME_HEAD, 0},
    [BUS__FRAME_START] = {BUS__START, BUS__LIMIT_STRANGER - BUS__FRAME_HEAD, 0},
    [BUS__FRAME_AUTH] = {1, BUS__LIMIT_STRANGER - BUS__FRAME_HEAD, 0},
    [BUS__FRAME_ACK] = RESERVED,
    [BUS__FRAME_DENY] = {1, BUS_LIMIT_TOPIC_BYTES, BUS__DENY_TOPIC},
    [BUS__FRAME_PASSED] = {0, 0, BUS__LIMIT_TOPICS - 1},
};

/* Whether the kind of frame may have these flags, and flags that need each other are together. */
static bool
are_flags_right(uint8_t kind, uint8_t flags)
{
	switch (kind) {
	case BUS__FRAME_PASSED:
		/* A kept value is no event. */
		if ((flags & MSG_VALUE) == MSG_KEPT)
			return false;
		/* Fall through. */
	case BUS__FRAME_MSG:
		/* A value is no question, and so far only a value has an origin. */
		return (flags & ~MSG_FLAGS) == 0 &&
		       !((flags & MSG_REPLY_TO) != 0 && (flags & MSG_VALUE) != 0) &&
		       ((flags & MSG_ORIGIN) == 0 || (flags & MSG_VALUE) != 0) &&
		       ((flags & MSG_BEFORE) == 0 || (flags & MSG_VALUE) != 0);
	case BUS__FRAME_REPLY:
		if ((flags & REPLY_NOBODY) != 0)
			return flags == (REPLY_NOBODY | MSG_REPLY_TO);
		return (flags & ~REPLY_FLAGS) == 0 && (flags & MSG_REPLY_TO) != 0;
	case BUS__FRAME_LOST:
		return (flags & ~(LOST_AT_LEAST | LOST_PASSED)) == 0;
	case BUS__FRAME_START:
		return (flags & ~START_RESTARTED) == 0;
	case BUS__FRAME_RESUME:
		return (flags & ~(RESUME_WAITED | RESUME_MET)) == 0;
	default:
		return flags == 0;
	}
}

/* The bodies of frames other than MSG that depend on their flags. Separate, so that a MSG pays nothing for them. */
static __attribute__((noinline)) void
bound_others(
    const struct bus__frame *frame, uint32_t max_payload, uint64_t *ret_min, uint64_t *ret_max)
{
	switch (frame->kind) {
	case BUS__FRAME_PASSED:
		*ret_min = (uint32_t)BUS__PASSED + msg_extra(frame->flags);
		*ret_max = *ret_min + max_payload;
		break;
	case BUS__FRAME_REPLY:
		*ret_min = msg_extra(frame->flags);
		*ret_max = *ret_min + (bus__reply_is_nobody(frame) ? 0 : max_payload);
		break;
	case BUS__FRAME_LOST:
		*ret_min = 8 + ((frame->flags & LOST_PASSED) != 0 ? (uint32_t)BUS__PASSED : 0u);
		*ret_max = *ret_min;
		break;
	default:
		break;
	}
}

int
bus__frame_read(
    const uint8_t *at, size_t n, bool stranger, uint32_t max_payload, struct bus__frame *ret_frame)
{
	struct bus__frame frame;
	uint64_t min, max;

	if (n < BUS__FRAME_HEAD)
		return 1;
	frame.len = (uint32_t)get(at, 4);
	frame.kind = at[4];
	frame.flags = at[5];
	frame.number = (uint16_t)get(at + 6, 2);
	frame.body = at + BUS__FRAME_HEAD;

	/* Check the length first, whatever the kind: 2 GiB from a stranger is BUS_E_TOO_BIG and nothing else. */
	if (stranger && frame.len > BUS__LIMIT_STRANGER - BUS__FRAME_HEAD)
		return BUS_E_TOO_BIG;
	if (frame.kind == 0 || frame.kind >= sizeof shapes / sizeof shapes[0])
		return BUS_E_PROTOCOL;
	min = shapes[frame.kind].min;
	max = shapes[frame.kind].max;
	if (min > max || !are_flags_right(frame.kind, frame.flags))
		return BUS_E_PROTOCOL;
	if (frame.kind == BUS__FRAME_MSG) {
		min = msg_extra(frame.flags);
		max = min + max_payload;
	} else {
		bound_others(&frame, max_payload, &min, &max);
	}
	if (frame.len > max)
		return BUS_E_TOO_BIG;
	if (frame.len < min || frame.number > shapes[frame.kind].numbers)
		return BUS_E_PROTOCOL;
	*ret_frame = frame;
	return 0;
}

int
bus__hello_read(const struct bus__frame *frame, struct bus__hello *ret_hello)
{
	/* A longer body is from a later minor version: skip the unknown part. */
	memcpy(ret_hello->id, frame->body, BUS__BUS_ID);
	ret_hello->max_payload = (uint32_t)get(frame->body + 16, 4);
	ret_hello->heartbeat_ms = (uint32_t)get(frame->body + 20, 4);
	ret_hello->features = get(frame->body + 24, 8);
	if ((ret_hello->features & BUS__FEATURES_NEEDED & ~BUS__FEATURES_KNOWN) != 0)
		return BUS_E_VERSION;
	return ret_hello->heartbeat_ms < BUS__HEARTBEAT_MIN ? BUS_E_PROTOCOL : 0;
}

int
bus__resume_read(const struct bus__frame *frame, struct bus__resume *ret_resume)
{
	ret_resume->id = get(frame->body, 8);
	ret_resume->next = get(frame->body + 8, 8);
	ret_resume->lost = get(frame->body + 16, 8);
	ret_resume->has_met = (frame->flags & RESUME_MET) != 0;
	ret_resume->has_waited = (frame->flags & RESUME_WAITED) != 0;
	if (ret_resume->has_waited && (ret_resume->id != 0 || ret_resume->next != 0))
		return BUS_E_PROTOCOL;
	return ret_resume->lost <= ret_resume->next ? 0 : BUS_E_PROTOCOL;
}

int
bus__start_read(const struct bus__frame *frame, struct bus__start *ret_start)
{
	ret_start->id = get(frame->body, 8);
	ret_start->next = get(frame->body + 8, 8);
	ret_start->unsent = get(frame->body + 16, 8);
	ret_start->is_restarted = (frame->flags & START_RESTARTED) != 0;
	return ret_start->id != 0 && ret_start->unsent <= ret_start->next ? 0 : BUS_E_PROTOCOL;
}

/* Returns the end of the version. */
static const uint8_t *
read_version(const struct bus__frame *frame, const uint8_t *at, const uint8_t sender[BUS__BUS_ID],
    struct bus__version *ret_version)
{
	ret_version->changes = get(at, 8);
	at += 8;
	if (!has_origin(frame->flags)) {
		memcpy(ret_version->bus, sender, BUS__BUS_ID);
		return at;
	}
	memcpy(ret_version->bus, at, BUS__BUS_ID);
	return at + BUS__BUS_ID;
}

int
bus__msg_read(const struct bus__frame *frame, const uint8_t sender[BUS__BUS_ID],
    struct bus_msg *ret_msg, struct bus__version *ret_version)
{
	const uint8_t *at = frame->body;
	uint32_t extra = msg_extra(frame->flags);

	*ret_version = (struct bus__version){.changes = 0};
	*ret_msg = (struct bus_msg){.size = sizeof *ret_msg, .flags = frame->flags & MSG_VALUE};
	if ((frame->flags & MSG_TYPED) != 0) {
		ret_msg->type = (int)(int32_t)(uint32_t)get(at, 4);
		at += 4;
	}
	if ((frame->flags & MSG_VALUE) != 0) {
		ret_msg->time_ns = (int64_t)get(at, 8);
		at = read_version(frame, at + 8, sender, ret_version);
		if (ret_version->changes == 0) /* it would be older than having no value */
			return BUS_E_PROTOCOL;
	}
	if ((frame->flags & MSG_TTL) != 0) {
		ret_msg->ttl_ms = (uint32_t)get(at, 4);
		at += 4;
		if (ret_msg->ttl_ms == 0) /* 0 would mean no limit */
			return BUS_E_PROTOCOL;
	}
	if ((frame->flags & MSG_REPLY_TO) != 0) {
		ret_msg->reply_to = get(at, 8);
		at += 8;
		if (ret_msg->reply_to == 0)
			return BUS_E_PROTOCOL;
	}
	if ((frame->flags & MSG_HEADERS) != 0) {
		ret_msg->headers_len = (size_t)get(at, 4);
		at += 4;
		if (ret_msg->headers_len == 0 || ret_msg->headers_len > frame->len - extra)
			return BUS_E_PROTOCOL;
		ret_msg->headers = frame->body + frame->len - ret_msg->headers_len;
	}
	ret_msg->data = at;
	ret_msg->len = frame->len - extra - ret_msg->headers_len;
	return ret_msg->time_ns < 0 || ret_version->changes >= BUS__CHANGES_END ? BUS_E_PROTOCOL
										: 0;
}

bool
bus__plain_read(const struct bus__frame *frame, uint8_t *ret_type, struct bus_slice *ret_payload)
{
	uint32_t extra = (frame->flags & MSG_TYPED) != 0 ? 4 : 0;
	uint64_t type = extra != 0 ? get(frame->body, 4) : 0;

	if (frame->kind != BUS__FRAME_MSG || (frame->flags & ~MSG_TYPED) != 0 || type > UINT8_MAX)
		return false;
	*ret_type = (uint8_t)type;
	*ret_payload = (struct bus_slice){frame->body + extra, frame->len - extra};
	return true;
}

bool
bus__msg_is_before(const struct bus__frame *frame)
{
	return frame->kind == BUS__FRAME_MSG && (frame->flags & MSG_BEFORE) != 0;
}

bool
bus__reply_is_nobody(const struct bus__frame *frame)
{
	return frame->kind == BUS__FRAME_REPLY && (frame->flags & REPLY_NOBODY) != 0;
}

/* BUS_E_PROTOCOL: an impossible number, or too many hubs. */
static int
read_passed(const uint8_t *at, struct bus__passed *ret_passed)
{
	memcpy(ret_passed->source, at, sizeof ret_passed->source);
	ret_passed->word = get(at + BUS__BUS_ID, 8);
	return bus__passed_number(ret_passed) != 0 &&
		       bus__passed_hubs(ret_passed) <= BUS__HUBS_MOST &&
		       bus__passed_via(ret_passed) == 0
		   ? 0
		   : BUS_E_PROTOCOL;
}

int
bus__lost_read(const struct bus__frame *frame, struct bus__lost *ret_lost)
{
	*ret_lost = (struct bus__lost){
	    .count = get(frame->body, 8),
	    .at_least = (frame->flags & LOST_AT_LEAST) != 0,
	    .is_passed = (frame->flags & LOST_PASSED) != 0,
	};
	return ret_lost->is_passed ? read_passed(frame->body + 8, &ret_lost->passed) : 0;
}

int
bus__passed_read(
    const struct bus__frame *frame, struct bus__frame *ret_msg, struct bus__passed *ret_passed)
{
	*ret_msg = *frame;
	ret_msg->kind = BUS__FRAME_MSG;
	ret_msg->body += BUS__PASSED;
	ret_msg->len -= BUS__PASSED;
	return read_passed(frame->body, ret_passed);
}

bool
bus__text_read(const struct bus__frame *frame, char ret_text[BUS_LIMIT_TOPIC_BYTES + 1])
{
	if (memchr(frame->body, 0, frame->len) != NULL || !bus__utf8_valid(frame->body, frame->len))
		return false;
	memcpy(ret_text, frame->body, frame->len);
	ret_text[frame->len] = '\0';
	return true;
}

/* --- writing -------------------------------------------------------------------------------------- */

static void
put_head(uint8_t *at, uint64_t len, enum bus__frame_kind kind, uint8_t flags, uint16_t number)
{
	put(at, len, 4);
	at[4] = (uint8_t)kind;
	at[5] = flags;
	put(at + 6, number, 2);
}

size_t
bus__preamble_write(uint8_t at[BUS__PREAMBLE])
{
	memcpy(at, magic, sizeof magic);
	at[sizeof magic] = BUS__WIRE_VERSION;
	return BUS__PREAMBLE;
}

size_t
bus__hello_write(uint8_t at[BUS__FRAME_HEAD + BUS__HELLO], const struct bus__hello *hello)
{
	uint8_t *body = at + BUS__FRAME_HEAD;

	put_head(at, BUS__HELLO, BUS__FRAME_HELLO, 0, 0);
	memcpy(body, hello->id, BUS__BUS_ID);
	put(body + 16, hello->max_payload, 4);
	put(body + 20, hello->heartbeat_ms, 4);
	put(body + 24, hello->features, 8);
	return BUS__FRAME_HEAD + BUS__HELLO;
}

size_t
bus__frame_write(
    uint8_t *at, enum bus__frame_kind kind, uint16_t number, const void *body, size_t len)
{
	put_head(at, len, kind, 0, number);
	if (len > 0)
		memcpy(at + BUS__FRAME_HEAD, body, len);
	return BUS__FRAME_HEAD + len;
}

size_t
bus__lost_write(uint8_t at[BUS__FRAME_HEAD + 8], uint64_t count)
{
	put_head(at, 8, BUS__FRAME_LOST, 0, 0);
	put(at + BUS__FRAME_HEAD, count, 8);
	return BUS__FRAME_HEAD + 8;
}

static void
put_passed(uint8_t *at, const struct bus__passed *passed)
{
	memcpy(at, passed->source, sizeof passed->source);
	put(at + BUS__BUS_ID, passed->word, 8);
}

size_t
bus__lost_passed_write(uint8_t at[BUS__LOST_MAX], const struct bus__lost *lost)
{
	put_head(at, 8 + BUS__PASSED, BUS__FRAME_LOST,
	    (uint8_t)(LOST_PASSED | (lost->at_least ? LOST_AT_LEAST : 0u)), 0);
	put(at + BUS__FRAME_HEAD, lost->count, 8);
	put_passed(at + BUS__FRAME_HEAD + 8, &lost->passed);
	return BUS__LOST_MAX;
}

size_t
bus__resume_write(uint8_t at[BUS__FRAME_HEAD + BUS__RESUME], const struct bus__resume *resume)
{
	uint8_t *body = at + BUS__FRAME_HEAD;

	put_head(at, BUS__RESUME, BUS__FRAME_RESUME,
	    (uint8_t)((resume->has_waited ? RESUME_WAITED : 0u) |
		      (resume->has_met ? RESUME_MET : 0u)),
	    0);
	put(body, resume->id, 8);
	put(body + 8, resume->next, 8);
	put(body + 16, resume->lost, 8);
	return BUS__FRAME_HEAD + BUS__RESUME;
}

size_t
bus__start_write(uint8_t at[BUS__FRAME_HEAD + BUS__START], const struct bus__start *start)
{
	uint8_t *body = at + BUS__FRAME_HEAD;

	put_head(at, BUS__START, BUS__FRAME_START, start->is_restarted ? START_RESTARTED : 0, 0);
	put(body, start->id, 8);
	put(body + 8, start->next, 8);
	put(body + 16, start->unsent, 8);
	return BUS__FRAME_HEAD + BUS__START;
}

/* version: of a value, which a REPLY never is; otherwise ignored. */
static size_t
put_msg_head(uint8_t *at, enum bus__frame_kind kind, uint8_t more, uint16_t number,
    const struct bus_msg *msg, const struct bus__version *version)
{
	uint8_t flags = (uint8_t)((msg->flags & MSG_VALUE) | (msg->type != 0 ? MSG_TYPED : 0u) |
				  (msg->ttl_ms != 0 ? MSG_TTL : 0u) |
				  (msg->headers_len != 0 ? MSG_HEADERS : 0u) |
				  (msg->reply_to != 0 ? MSG_REPLY_TO : 0u) | more);
	size_t n = BUS__FRAME_HEAD;

	put_head(at, msg_extra(flags) + (uint64_t)msg->len + msg->headers_len, kind, flags, number);
	if ((flags & MSG_TYPED) != 0) {
		put(at + n, (uint32_t)msg->type, 4);
		n += 4;
	}
	if ((flags & MSG_VALUE) != 0) {
		put(at + n, (uint64_t)msg->time_ns, 8);
		put(at + n + 8, version->changes, 8);
		n += 16;
	}
	if (has_origin(flags)) {
		memcpy(at + n, version->bus, BUS__BUS_ID);
		n += BUS__BUS_ID;
	}
	if ((flags & MSG_TTL) != 0) {
		put(at + n, msg->ttl_ms, 4);
		n += 4;
	}
	if ((flags & MSG_REPLY_TO) != 0) {
		put(at + n, msg->reply_to, 8);
		n += 8;
	}
	if ((flags & MSG_HEADERS) != 0) {
		put(at + n, msg->headers_len, 4);
		n += 4;
	}
	return n;
}

size_t
bus__msg_head_write(uint8_t at[BUS__MSG_HEAD_MAX], uint16_t number, const struct bus_msg *msg,
    const struct bus__version *version, const uint8_t sender[BUS__BUS_ID], bool before)
{
	uint8_t more = before ? MSG_BEFORE : 0;

	if ((msg->flags & MSG_VALUE) != 0 && memcmp(version->bus, sender, BUS__BUS_ID) != 0)
		more |= MSG_ORIGIN;
	return put_msg_head(at, BUS__FRAME_MSG, more, number, msg, version);
}

size_t
bus__passed_head_write(uint8_t at[BUS__PASSED_HEAD_MAX], uint16_t number, const struct bus_msg *msg,
    const struct bus__version *version, const uint8_t sender[BUS__BUS_ID], bool before,
    const struct bus__passed *passed)
{
	/* A MSG, whose head then moves to the front. */
	uint8_t *moved = at + BUS__PASSED;
	size_t n = bus__msg_head_write(moved, number, msg, version, sender, before);

	put_head(at, get(moved, 4) + BUS__PASSED, BUS__FRAME_PASSED, moved[5], number);
	put_passed(at + BUS__FRAME_HEAD, passed);
	return BUS__PASSED + n;
}

size_t
bus__reply_head_write(uint8_t at[BUS__MSG_HEAD_MAX], const struct bus_msg *msg, bool nobody)
{
	return put_msg_head(at, BUS__FRAME_REPLY, nobody ? REPLY_NOBODY : 0, 0, msg, NULL);
}
