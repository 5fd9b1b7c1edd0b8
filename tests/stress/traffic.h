/* stress/traffic.h: publishers whose messages say what they are, and who reads them and keeps the accounts. */
#ifndef STRESS_TRAFFIC_H
#define STRESS_TRAFFIC_H

#include <libbus/bus.h>

#include "stress.h"

/* A stream is what one publisher sends on one topic; each is numbered without a gap by what was accepted. */
enum {
	PUBLISHERS = 3,
	TOPICS = 12,                /* all of them publish on all */
	ECHO = PUBLISHERS * TOPICS, /* what a reader publishes, on a topic of its own */
	STREAMS,
	TRAFFIC_MOST = 4096 /* bytes of a payload */
};

const char *topic_name(unsigned topic); /* TOPICS: that of the echo */

struct publisher {
	struct bus *bus;
	unsigned id;
	uint64_t operations;
	struct dice dice;
	struct bus_pub *pubs[TOPICS];
	uint64_t next[TOPICS]; /* number of the next message */
	uint64_t accepted, refused;
	uint64_t
	    unsure; /* batches of which a part was accepted: what came behind was refused, or the bus closed */
	bool handles; /* nothing but handles, since the bus may go */
	bool large;   /* payloads above 1 KiB too */
	int last;     /* what the bus answered last */
};

/* Opens handles; wait_ms as in bus_pub_config. */
struct publisher publisher_of(
    struct bus *bus, unsigned id, uint64_t operations, uint64_t seed, int wait_ms);
void publisher_close(struct publisher *p);

/* Publishes p->operations messages, each way that there is, or until the bus says that it is closed. */
void *publisher_run(void *publisher);

/* Sends a last message in each stream, which says so. */
void publisher_say_last(struct publisher *p);

/* Reads the messages of one mailbox, one at a time. */
struct reader {
	bool in_order; /* those of a publisher come in order over all topics */
	bool lossless,
	    told_at_once;   /* each gap is told by the message behind it: of one publisher */
	struct bus *echoes; /* publishes some by itself, there; NULL: does not */
	uint64_t echoed, echo_refused;
	uint64_t next[STREAMS], order[PUBLISHERS];
	uint64_t gaps, told;
	struct dice dice;
	_Atomic uint64_t got; /* this message and what it led to are done */
	_Atomic bool ended[STREAMS];
};

void reader_read(void *reader, const struct bus_msg *msg); /* a bus_msg_fn */

/* Mailboxes and their readers. */
struct audience {
	struct bus_mailbox **mboxes;
	struct reader *readers;
	unsigned count;
};

/* Sends a last message in each stream, when nothing else is inside, so that all is told that was lost. Nobody publishes
 * any more but one reader, which is alone then. */
void traffic_end(struct publisher *publishers, unsigned count, const struct audience *audience);

struct bus_stats traffic_stats(struct bus_mailbox *mbox);
uint64_t traffic_lost(const struct bus_stats *stats);

#endif
