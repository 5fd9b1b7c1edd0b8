/* link/frame.h: the bytes of a link, as docs/wire.md tells them. Pure functions over buffers: they
 * allocate nothing, keep nothing, and believe no length that they have not checked. */
#ifndef BUS_LINK_FRAME_H
#define BUS_LINK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

enum bus__frame_size {
	BUS__PREAMBLE = 8,
	BUS__FRAME_HEAD = 8,
	BUS__HELLO = 28,
	BUS__MSG_HEAD_MAX = BUS__FRAME_HEAD + 4 + 8 + 4 + 8 +
			    4, /* head, type, time, ttl, number, headers' length */
	BUS__BUS_ID = 16
};

enum bus__frame_limit {
	BUS__LIMIT_STRANGER = 4096, /* bytes of a frame before the handshake is done */
	BUS__LIMIT_TOPICS = 10000,
	BUS__LIMIT_FILTERS = 10000,
	BUS__HEARTBEAT_MIN = 100, /* milliseconds */
	BUS__HEARTBEAT_MAX = 3600000
};

enum { BUS__WIRE_VERSION = 1 };

enum bus__frame_kind {
	BUS__FRAME_HELLO = 1,
	BUS__FRAME_JOIN,
	BUS__FRAME_SUB,
	BUS__FRAME_UNSUB,
	BUS__FRAME_READY,
	BUS__FRAME_TOPIC,
	BUS__FRAME_MSG,
	BUS__FRAME_LOST,
	BUS__FRAME_PING,
	BUS__FRAME_BYE,
	BUS__FRAME_REPLY
};

/* Why a side says BYE, in the number field. */
enum bus__bye {
	BUS__BYE_CLOSED,
	BUS__BYE_EXIST,    /* these two buses are linked already, or are one and the same */
	BUS__BYE_SILENT,   /* not heard of for three heartbeats */
	BUS__BYE_PROTOCOL, /* a frame that may not be sent */
	BUS__BYE_TOO_BIG,
	BUS__BYE_DENIED
};

struct bus__frame {
	uint8_t kind;        /* enum bus__frame_kind */
	uint8_t flags;       /* MSG and REPLY only */
	uint16_t number;     /* TOPIC and MSG: below BUS__LIMIT_TOPICS; BYE: enum bus__bye */
	uint32_t len;        /* bytes of body */
	const uint8_t *body; /* points into the buffer */
};

struct bus__hello {
	uint8_t id[BUS__BUS_ID];
	uint32_t max_payload;
	uint32_t heartbeat_ms;
	uint32_t features; /* none is defined yet */
};

/* --- reading -------------------------------------------------------------------------------------- */

/* Looks at the first n bytes of a stream. BUS__PREAMBLE: complete and ours; 0: right so far;
 * BUS_E_NOT_LIBBUS, from the first wrong byte on; BUS_E_VERSION. */
int bus__preamble_read(const uint8_t *at, size_t n);

/* Looks at the head of the frame at the front of n bytes and checks all that it says. 0: *ret_frame is
 * filled, its body may not be there yet: the frame takes BUS__FRAME_HEAD + len bytes. 1: head incomplete.
 * BUS_E_TOO_BIG: above the limits; BUS_E_PROTOCOL. */
int bus__frame_read(
    const uint8_t *at, size_t n, bool stranger, uint32_t max_payload, struct bus__frame *ret_frame);

/* Each reads a complete frame of its kind. 0 or BUS_E_PROTOCOL. */
int bus__hello_read(const struct bus__frame *frame, struct bus__hello *ret_hello);
int bus__msg_read(
    const struct bus__frame *frame, struct bus_msg *ret_msg); /* MSG, REPLY; data is borrowed */
bool bus__reply_is_nobody(const struct bus__frame *frame);
uint64_t bus__lost_read(const struct bus__frame *frame);

/* Copies the body of SUB, UNSUB or TOPIC as text. false: it is none. */
bool bus__text_read(const struct bus__frame *frame, char ret_text[BUS_LIMIT_TOPIC_BYTES + 1]);

/* --- writing: each returns the bytes written ------------------------------------------------------- */

size_t bus__preamble_write(uint8_t at[BUS__PREAMBLE]);
size_t bus__hello_write(uint8_t at[BUS__FRAME_HEAD + BUS__HELLO], const struct bus__hello *hello);
size_t bus__frame_write(
    uint8_t *at, enum bus__frame_kind kind, uint16_t number, const void *body, size_t len);
size_t bus__lost_write(uint8_t at[BUS__FRAME_HEAD + 8], uint64_t count);

/* Writes all of a message but its payload and its headers, which follow. */
size_t bus__msg_head_write(
    uint8_t at[BUS__MSG_HEAD_MAX], uint16_t number, const struct bus_msg *msg);

/* The same of a reply to the question of number msg->reply_to; nobody: there will be none. */
size_t bus__reply_head_write(uint8_t at[BUS__MSG_HEAD_MAX], const struct bus_msg *msg, bool nobody);

#endif
