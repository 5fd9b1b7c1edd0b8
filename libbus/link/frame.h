/* link/frame.h: the bytes of a link, as docs/internals/wire.md describes them. Pure functions over buffers: they
 * allocate nothing, keep nothing, and trust no length before they have checked it. */
#ifndef BUS_LINK_FRAME_H
#define BUS_LINK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <libbus/bus.h>

#include "base/passed.h"
#include "base/version.h"

enum bus__frame_size {
	BUS__PREAMBLE = 8,
	BUS__FRAME_HEAD = 8,
	BUS__HELLO = 32,
	BUS__RESUME = 24,
	BUS__START = 24,
	BUS__PASSED = BUS__BUS_ID + 8,
	BUS__LOST_MAX = BUS__FRAME_HEAD + 8 + BUS__PASSED,
	BUS__MSG_HEAD_MAX =
	    BUS__FRAME_HEAD + 4 + 8 + 8 + BUS__BUS_ID + 4 + 8 +
	    4, /* head, type, time, changes, origin, ttl, question, headers' length */
	BUS__PASSED_HEAD_MAX = BUS__MSG_HEAD_MAX + BUS__PASSED
};

enum bus__frame_limit {
	BUS__LIMIT_STRANGER = 4096, /* bytes of a frame before the handshake is done */
	BUS__LIMIT_TOPICS = 10000,
	BUS__LIMIT_FILTERS = 10000,
	BUS__HEARTBEAT_MIN = 100, /* milliseconds */
	BUS__HEARTBEAT_MAX = 3600000
};

enum { BUS__WIRE_VERSION = 2 };

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
	BUS__FRAME_REPLY,
	BUS__FRAME_RESUME,
	BUS__FRAME_START,
	BUS__FRAME_AUTH,  /* a step of SCRAM, before JOIN */
	BUS__FRAME_ACK,   /* reserved: no version of ours sends it */
	BUS__FRAME_DENY,  /* what the peer may not read or write */
	BUS__FRAME_PASSED /* a MSG where hubs are: it names its publisher */
};

/* In the number field of DENY. */
enum bus__deny { BUS__DENY_FILTER, BUS__DENY_TOPIC };

/* Features in HELLO. A bus ignores an unknown one of the low half and refuses a peer that sets an unknown one of the
 * high half. */
#define BUS__FEATURES_NEEDED (UINT64_C(0xffffffff) << 32)
#define BUS__CAN_RELAY       (UINT64_C(1) << 1)  /* it is a hub */
#define BUS__NEEDS_AUTH      (UINT64_C(1) << 32) /* the peer must log in, by AUTH */
#define BUS__NEEDS_PASSED    (UINT64_C(1) << 33) /* its peers must number what they publish */
#define BUS__FEATURES_KNOWN  (BUS__NEEDS_AUTH | BUS__NEEDS_PASSED)

/* Reasons for BYE, in the number field. */
enum bus__bye {
	BUS__BYE_CLOSED,
	BUS__BYE_EXIST,    /* these two buses are linked already, or are one and the same */
	BUS__BYE_SILENT,   /* silent for three heartbeats */
	BUS__BYE_PROTOCOL, /* an invalid frame */
	BUS__BYE_TOO_BIG,
	BUS__BYE_DENIED,
	BUS__BYE_VERSION, /* the peer needs a feature that this bus does not know */
	BUS__BYE_AUTH,    /* the user or the password is not accepted */
	BUS__BYE_AGAIN    /* users or rights may have changed: connect again */
};

struct bus__frame {
	uint8_t kind;        /* enum bus__frame_kind */
	uint8_t flags;       /* MSG, REPLY, RESUME and START only */
	uint16_t number;     /* TOPIC and MSG: below BUS__LIMIT_TOPICS; BYE: enum bus__bye */
	uint32_t len;        /* bytes of body */
	const uint8_t *body; /* points into the buffer */
};

struct bus__hello {
	uint8_t id[BUS__BUS_ID];
	uint32_t max_payload;
	uint32_t heartbeat_ms;
	uint64_t features;
};

/* RESUME: how much a side has handled of the other's sequence of messages. */
struct bus__resume {
	uint64_t id;     /* of the sequence; 0: none is known */
	uint64_t next;   /* the number that it expects */
	uint64_t lost;   /* how many of the numbers before that one it did not receive */
	bool has_met;    /* it has been connected to this bus before */
	bool has_waited; /* id 0: an earlier connection broke before START arrived */
};

/* START: where a side's own sequence continues. */
struct bus__start {
	uint64_t id;     /* random, not 0 */
	uint64_t next;   /* the number of the next message */
	uint64_t unsent; /* how many messages right before it the peer wanted and did not get */
	bool
	    is_restarted; /* the peer's RESUME named an unknown sequence, or none where there was one */
};

/* --- plain messages: a MSG without flags, or with a type alone -------------------------------------- */

enum {
	BUS__MSG_TYPED = 1u << 2, /* flag: four bytes of type come first */
	BUS__PLAIN_HEAD_MAX = BUS__FRAME_HEAD + 4
};

/* The head behind its length, as it stands in memory. */
static inline uint32_t
bus__plain_head(uint8_t type, uint16_t number)
{
	const uint8_t bytes[4] = {BUS__FRAME_MSG, type != 0 ? BUS__MSG_TYPED : 0, (uint8_t)number,
	    (uint8_t)(number >> 8)};
	uint32_t head;

	memcpy(&head, bytes, sizeof head);
	return head;
}

/* Writes the head of a message; `head` is bus__plain_head() of its type. Returns its bytes. */
static inline size_t
bus__plain_write(uint8_t *at, uint32_t head, uint8_t type, uint32_t len)
{
	uint32_t body = type != 0 ? len + 4 : len;

	at[0] = (uint8_t)body;
	at[1] = (uint8_t)(body >> 8);
	at[2] = (uint8_t)(body >> 16);
	at[3] = (uint8_t)(body >> 24);
	memcpy(at + 4, &head, sizeof head);
	if (type == 0)
		return BUS__FRAME_HEAD;
	at[8] = type;
	at[9] = at[10] = at[11] = 0;
	return BUS__FRAME_HEAD + 4;
}

/* Whether the frame at the front of n bytes is complete, and `head` is its head. *ret_len: the bytes of its body. */
static inline bool
bus__plain_is(const uint8_t *at, size_t n, uint32_t head, uint32_t *ret_len)
{
	if (n < BUS__FRAME_HEAD || memcmp(at + 4, &head, sizeof head) != 0)
		return false;
	*ret_len =
	    (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
	return n - BUS__FRAME_HEAD >= *ret_len;
}

/* --- reading -------------------------------------------------------------------------------------- */

/* Looks at the first n bytes of a stream. BUS__PREAMBLE: complete and ours; 0: right so far;
 * BUS_E_NOT_LIBBUS, from the first wrong byte on; BUS_E_VERSION. */
int bus__preamble_read(const uint8_t *at, size_t n);

/* Reads and checks the head of the frame at the front of n bytes. 0: *ret_frame is
 * filled, but its body may be incomplete: the frame takes BUS__FRAME_HEAD + len bytes. 1: head incomplete.
 * BUS_E_TOO_BIG: above the limits; BUS_E_PROTOCOL. */
int bus__frame_read(
    const uint8_t *at, size_t n, bool stranger, uint32_t max_payload, struct bus__frame *ret_frame);

/* Each reads a complete frame of its kind. 0 or BUS_E_PROTOCOL. */
int bus__hello_read(const struct bus__frame *frame, struct bus__hello *ret_hello);

/* MSG, REPLY; data is borrowed. *ret_version: of a value (RETAIN, KEPT), made by the bus `sender` unless the frame
 * names another bus. */
int bus__msg_read(const struct bus__frame *frame, const uint8_t sender[BUS__BUS_ID],
    struct bus_msg *ret_msg, struct bus__version *ret_version);
/* Reads a MSG of only a payload and perhaps a type from 0 to 255. false: it has more. */
bool bus__plain_read(
    const struct bus__frame *frame, uint8_t *ret_type, struct bus_slice *ret_payload);

bool bus__msg_is_before(const struct bus__frame *frame);
bool bus__reply_is_nobody(const struct bus__frame *frame);

/* LOST. passed: of a loss that a hub passes on, otherwise zero. */
struct bus__lost {
	uint64_t count;
	bool at_least, is_passed;
	struct bus__passed passed;
};
int bus__lost_read(const struct bus__frame *frame, struct bus__lost *ret_lost);

/* PASSED: its publisher, and the MSG in it. */
int bus__passed_read(
    const struct bus__frame *frame, struct bus__frame *ret_msg, struct bus__passed *ret_passed);
int bus__resume_read(const struct bus__frame *frame, struct bus__resume *ret_resume);
int bus__start_read(const struct bus__frame *frame, struct bus__start *ret_start);

/* Copies the body of SUB, UNSUB or TOPIC as text. false: it is not a text. */
bool bus__text_read(const struct bus__frame *frame, char ret_text[BUS_LIMIT_TOPIC_BYTES + 1]);

/* --- writing: each returns the bytes written ------------------------------------------------------- */

size_t bus__preamble_write(uint8_t at[BUS__PREAMBLE]);
size_t bus__hello_write(uint8_t at[BUS__FRAME_HEAD + BUS__HELLO], const struct bus__hello *hello);
size_t bus__frame_write(
    uint8_t *at, enum bus__frame_kind kind, uint16_t number, const void *body, size_t len);
size_t bus__lost_write(uint8_t at[BUS__FRAME_HEAD + 8], uint64_t count);
size_t bus__lost_passed_write(uint8_t at[BUS__LOST_MAX], const struct bus__lost *lost);
size_t bus__resume_write(
    uint8_t at[BUS__FRAME_HEAD + BUS__RESUME], const struct bus__resume *resume);
size_t bus__start_write(uint8_t at[BUS__FRAME_HEAD + BUS__START], const struct bus__start *start);

/* Writes a message up to its payload and its headers, which follow. version: of a value (RETAIN, KEPT), which
 * names its bus unless that is `sender`; otherwise ignored. before: a value from before the connection. */
size_t bus__msg_head_write(uint8_t at[BUS__MSG_HEAD_MAX], uint16_t number,
    const struct bus_msg *msg, const struct bus__version *version,
    const uint8_t sender[BUS__BUS_ID], bool before);

/* The same of a PASSED. */
size_t bus__passed_head_write(uint8_t at[BUS__PASSED_HEAD_MAX], uint16_t number,
    const struct bus_msg *msg, const struct bus__version *version,
    const uint8_t sender[BUS__BUS_ID], bool before, const struct bus__passed *passed);

/* The same of a reply to the question of number msg->reply_to; nobody: there will be no reply. */
size_t bus__reply_head_write(uint8_t at[BUS__MSG_HEAD_MAX], const struct bus_msg *msg, bool nobody);

#endif
