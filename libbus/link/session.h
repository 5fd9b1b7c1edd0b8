/* link/session.h: one connection to one peer. session.c: its life; receive.c and send.c: its two
 * directions. Everything runs on the link thread. A function that answers BUS_E_* has not ended the
 * connection: its task does so as its last step, by bus__session_end(). */
#ifndef BUS_LINK_SESSION_H
#define BUS_LINK_SESSION_H

#include "link/frame.h"
#include "link/link.h"
#include "link/peers.h"

enum bus__stage {
	BUS__STAGE_GREETING, /* waits for the peer's preamble */
	BUS__STAGE_HELLO,    /* its HELLO */
	BUS__STAGE_AUTH,     /* its next AUTH */
	BUS__STAGE_JOIN,     /* listening: its JOIN */
	BUS__STAGE_LIVE,     /* there is a mailbox */
	BUS__STAGE_ENDING    /* BYE is on its way; input is ignored */
};

/* The time limit of the handshake; tests shorten it. Relaxed: it publishes nothing. */
extern _Atomic int bus__handshake_ms;

enum { BUS__FIRST_READ = 512 /* what an idle connection lends to the transport */ };
#define BUS__TOPICS_PART  256 /* topic numbers allocated together */
#define BUS__TOPICS_PARTS (BUS__LIMIT_TOPICS / BUS__TOPICS_PART + 1)

/* The bytes of one send. */
struct bus__load {
	struct bus__bytes bytes;
	const void *big; /* a large payload, in place: its mailbox holds it until it is sent */
	size_t big_at, big_len;  /* its place among `bytes`, and its length */
	bool big_is_value;       /* the walk over the values holds it instead */
	uint32_t msgs, numbered; /* all but kept values have a number */
};

struct bus__session {
	struct bus__session *next; /* of its link */
	struct bus_link *link;
	struct bus__stream *stream;
	uint64_t host; /* as bus__attempt_host() */
	bool dialled;
	enum bus__stage stage;
	bool joined;    /* both READY are exchanged */
	bool may_relay; /* the peer may send what other buses published */
	bool heard_bye;
	bool heard_end;                /* a BYE after which the peer will not resume */
	bool for_good;                 /* it ends without a later resume */
	bool is_first;                 /* the first between the two buses */
	bool heard_start;              /* from here on the peer's messages have numbers */
	bool numbered;                 /* one side is a hub: events are PASSED (hub.h) */
	bool gap_at_least;             /* as `gap` */
	struct bus__hello hello;       /* the peer's */
	struct bus__identity identity; /* from HELLO on; its user from AUTH on */
	struct bus__login *login;      /* while AUTH is under way */
	struct bus__guest guest;       /* while it is joined */
	struct bus__peer *peer;        /* from JOIN on; NULL after its end */
	uint64_t gap; /* messages that did not reach us, not yet reported to mailboxes */
	struct bus__timer timer;
	int64_t heard_ns, said_ns;

	/* In. */
	struct bus__io recv_io;
	bool receiving;
	bool behind;    /* parse_task continues with the rest of `in` */
	bool was_heavy; /* the last frame may have taken long */
	struct bus__task parse_task;
	struct bus__timer rest_timer; /* continues too, after a round that was too long */
	struct bus__bytes in;
	size_t in_at; /* the handled part; 0 unless `behind` */
	struct bus__size in_size;
	int64_t busy_ns; /* when a read last brought more than BUS__FIRST_READ */
	struct bus__heard_topic {
		struct bus__named named; /* zero: there was no room for it here */
		bool announced;
		bool denied, told; /* the peer may not write it; and a refusal has been told */
	} * heard_topics[BUS__TOPICS_PARTS]; /* by number, in parts */
	struct bus__account *topics_account; /* charged with it; NULL: there is no part */

	/* Out: frames gather in `queue` while `flying` is with the transport. At most one of the two has a large payload, and
	 * nothing more is taken after it until it is sent. */
	struct bus__io send_io;
	bool sending;
	struct bus__load queue, flying;
	struct bus__size out_size;
	size_t flown;
	uint64_t loads_sent;
	struct bus_mailbox *mbox; /* the peer's, from its RESUME on */
	struct bus__task wake_task;
	bool draining;                  /* the drainer role of mbox is ours */
	struct bus__task values_task;   /* continues the walk over the values */
	struct bus__timer values_timer; /* when it may begin again because of losses */
	int64_t values_ns;              /* the same: not before */
	bool owes_values;               /* it must begin again: some values have new numbers */
	/* By number: the serial of its topic, plus one; and whether the peer may not read it. */
	uint64_t *told_topics[BUS__TOPICS_PARTS];
	uint32_t withheld; /* in this round */
	uint32_t told_filters;
	bool told_all, telling;
	int tell_error;
	uint64_t changes_seen; /* the filters told first include the changes up to this one */
};

/* A frame was not finished in this round, and is handled again in the next. */
#define BUS__AGAIN 1

/* Begins a connection over stream, which it owns from now on, in any case. */
void bus__session_start(struct bus_link *link, struct bus__stream *stream, bool dialled);

/* Ends it for the reason err; sends BYE, after the send under way, if it is of use to the peer. The session
 * may be freed when this returns. */
void bus__session_end(struct bus__session *session, int err);

/* In receive.c: handles received bytes, for one round. 0 or BUS_E_*; `behind`: another round must continue. */
int bus__session_parse(struct bus__session *session, int64_t now);

/* In heard.c: the topic of a number; NULL: no number near it is in use. The second makes room for it, on the peer's account;
 * NULL: out of memory. The third frees them all. */
struct bus__heard_topic *bus__heard_find(struct bus__session *session, uint16_t number);
struct bus__heard_topic *bus__heard_make(struct bus__session *session, uint16_t number);
void bus__session_forget_topics(struct bus__session *session);

/* In session.c: the answers to handshake frames. */
int bus__session_greeted(struct bus__session *session);
int bus__session_hello(struct bus__session *session, const struct bus__frame *frame);
int bus__session_say_join(struct bus__session *session);
int bus__session_join(struct bus__session *session);
int bus__session_ready(struct bus__session *session); /* or BUS__AGAIN */
int bus__session_resume(struct bus__session *session, const struct bus__frame *frame);
int bus__session_started(struct bus__session *session, const struct bus__frame *frame);

/* In send.c. Queues a frame; it leaves with the next bus__session_send(). */
int bus__session_say(struct bus__session *session, enum bus__frame_kind kind, uint16_t number,
    const void *body, size_t len);
int bus__session_greet(struct bus__session *session);
int bus__session_say_resume(struct bus__session *session);
int bus__session_say_start(struct bus__session *session, const struct bus__start *start);

/* In tell.c: sends the filters that this bus wants, and a change of them. */
int bus__session_tell_filters(struct bus__session *session);
int bus__session_tell_change(
    struct bus__session *session, uint64_t number, const char *filter, bool wanted);

/* The least time between two walks over the values for one peer because of losses or new numbers. */
extern _Atomic int64_t bus__repair_ns; /* tests shorten it */

/* Soon sends the peer the values that this connection has not sent. */
void bus__session_owe_values(struct bus__session *session);

/* Queues the mailbox's messages, and sends the queue unless a send is under way. */
int bus__session_send(struct bus__session *session);
int bus__session_sent(struct bus__session *session);
bool bus__session_has_big(const struct bus__session *session);
void bus__session_release_big(struct bus__session *session, struct bus__load *load);
/* Gives back empty buffers that have been too large for a second. */
void bus__session_shed(struct bus__session *session);
size_t bus__load_bytes(const struct bus__load *load);

#endif
