/* Any bytes, read as a connection reads them: a stream of frames, and an address. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "link/frame.h"
#include "link/url.h"

enum { MAX_PAYLOAD = 4096 };

static const uint8_t sender[BUS__BUS_ID];

/* false: it may not be sent. */
static bool
read_msg(const struct bus__frame *frame, struct bus_msg *ret_msg, struct bus__version *ret_version)
{
	if (bus__msg_read(frame, sender, ret_msg, ret_version) < 0)
		return false;
	if ((const uint8_t *)ret_msg->data + ret_msg->len + ret_msg->headers_len !=
	    frame->body + frame->len)
		abort();
	if (ret_msg->headers_len > 0 &&
	    ret_msg->headers != (const uint8_t *)ret_msg->data + ret_msg->len)
		abort();
	return true;
}

/* What was read writes back as the same bytes. */
static void
check_msg(const struct bus__frame *frame)
{
	uint8_t head[BUS__MSG_HEAD_MAX];
	struct bus__version version;
	struct bus_msg msg;
	size_t n;

	if (!read_msg(frame, &msg, &version))
		return;
	n = frame->kind == BUS__FRAME_REPLY
		? bus__reply_head_write(head, &msg, bus__reply_is_nobody(frame))
		: bus__msg_head_write(
		      head, frame->number, &msg, &version, sender, bus__msg_is_before(frame));
	/* A type of 0 may be said in four bytes, and the sender's id as an origin, but we do not. */
	if (((frame->flags & 4) == 0 || msg.type != 0) &&
	    (frame->kind == BUS__FRAME_REPLY || (frame->flags & 64) == 0 ||
		memcmp(version.bus, sender, sizeof sender) != 0))
		if (memcmp(head, frame->body - BUS__FRAME_HEAD, n) != 0)
			abort();
}

/* A PASSED is a MSG behind what it says of itself. */
static void
check_passed(const struct bus__frame *frame)
{
	struct bus__passed passed;
	struct bus__version version;
	struct bus__frame msg;
	struct bus_msg read;

	if (bus__passed_read(frame, &msg, &passed) < 0)
		return;
	if (msg.body + msg.len != frame->body + frame->len || bus__passed_number(&passed) == 0 ||
	    bus__passed_hubs(&passed) > BUS__HUBS_MOST)
		abort();
	read_msg(&msg, &read, &version);
}

static void
check_lost(const struct bus__frame *frame)
{
	uint8_t again[BUS__LOST_MAX];
	struct bus__lost lost;
	size_t n;

	if (bus__lost_read(frame, &lost) < 0 || (lost.at_least && !lost.is_passed))
		return;
	n = lost.is_passed ? bus__lost_passed_write(again, &lost)
			   : bus__lost_write(again, lost.count);
	if (memcmp(again, frame->body - BUS__FRAME_HEAD, n) != 0)
		abort();
}

static void
check_frame(const struct bus__frame *frame)
{
	char text[BUS_LIMIT_TOPIC_BYTES + 1];
	struct bus__hello hello;
	struct bus__resume resume;
	struct bus__start start;

	switch (frame->kind) {
	case BUS__FRAME_HELLO:
		bus__hello_read(frame, &hello);
		break;
	case BUS__FRAME_SUB:
	case BUS__FRAME_UNSUB:
	case BUS__FRAME_TOPIC:
		if (bus__text_read(frame, text) && strlen(text) != frame->len)
			abort();
		break;
	case BUS__FRAME_MSG:
	case BUS__FRAME_REPLY:
		check_msg(frame);
		break;
	case BUS__FRAME_LOST:
		check_lost(frame);
		break;
	case BUS__FRAME_PASSED:
		check_passed(frame);
		break;
	case BUS__FRAME_RESUME:
		bus__resume_read(frame, &resume);
		break;
	case BUS__FRAME_START:
		bus__start_read(frame, &start);
		break;
	default:
		break;
	}
}

static void
check_stream(const uint8_t *at, size_t n)
{
	bool stranger = true;
	struct bus__frame frame;

	if (bus__preamble_read(at, n) != BUS__PREAMBLE)
		return;
	at += BUS__PREAMBLE;
	n -= BUS__PREAMBLE;
	while (bus__frame_read(at, n, stranger, MAX_PAYLOAD, &frame) == 0) {
		size_t size = BUS__FRAME_HEAD + (size_t)frame.len;

		if (size >
		    (stranger ? (size_t)BUS__LIMIT_STRANGER : MAX_PAYLOAD + BUS__PASSED_HEAD_MAX))
			abort();
		if (size > n)
			return;
		check_frame(&frame);
		stranger = stranger && frame.kind != BUS__FRAME_JOIN;
		at += size;
		n -= size;
	}
}

/* What parses writes back as an address that parses to the same. */
static void
check_url(const uint8_t *at, size_t n)
{
	char text[512], back[BUS__URL_TEXT];
	struct bus__address addr, again;

	if (n >= sizeof text)
		return;
	memcpy(text, at, n);
	text[n] = '\0';
	if (bus__url_parse(text, &addr) < 0)
		return;
	bus__url_write(&addr, back);
	if (bus__url_parse(back, &again) != 0 || memcmp(&addr, &again, sizeof addr) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of exactly that size, so that reading one byte more is seen. */
	uint8_t *copy = malloc(size);

	if (size > 0)
		memcpy(copy, data, size);
	check_stream(copy, size);
	check_url(copy, size);
	free(copy);
	return 0;
}
