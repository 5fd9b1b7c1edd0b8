/* mailbox/source.h: the source of a mailbox's messages. One table for each kind:
 *
 *     from_ring.c    its own ring
 *     group.c        the ring of its group, shared with other receivers
 *     from_log.c     the log of a named bus, and its own ring for messages from this process alone
 *
 * Batches, waiting and the end of a mailbox are written once, over this table. On a hot path there is one call for each
 * batch and one for each run of callbacks, none for each message.
 *
 * Unless stated otherwise, the drainer calls these functions, without a lock. */
#ifndef BUS_MAILBOX_SOURCE_H
#define BUS_MAILBOX_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "mailbox/plain.h"
#include "queue/ring.h"

struct bus__version;
struct bus_mailbox;

/* How far a source has been read, and how far it reaches. */
struct progress {
	uint64_t reached, goal;
};

struct source {
	/* --- a batch ------------------------------------------------------------------------------------------------ */

	/* Takes a batch, after up to `looks` looks; shows `phase` from then on. Returns its number of messages. 0: there is
	 * no batch. */
	uint32_t (*take)(struct bus_mailbox *m, unsigned phase, unsigned looks);

	/* Reads the next message of the batch. */
	void (*next)(struct bus_mailbox *m, struct ring_view *ret_view);

	/* Calls the callbacks of the next messages, up to number `end` of the batch, while they are of a kind
	 * with a short way. true: the next message has one, too. */
	bool (*run)(struct bus_mailbox *m, uint32_t end);

	/* The caller leaves with messages of the batch, and may not return soon: no writer may have to wait for their
	 * memory. Only called when m->borrowed. */
	void (*keep)(struct bus_mailbox *m);

	/* Everything in the batch is handled. */
	void (*done)(struct bus_mailbox *m);

	/* --- waiting for one ---------------------------------------------------------------------------------------- */

	/* Looks a few times for a message, without a pause or a clock. */
	bool (*look)(struct bus_mailbox *m);

	/* A batch was empty: prepares for the drainer's spin or rest. deadline_ns 0: there will be neither. */
	void (*idle)(struct bus_mailbox *m, int64_t deadline_ns);

	/* Sleeps until there may be a message. false: the deadline has passed, or the drainer must leave. */
	bool (*rest)(struct bus_mailbox *m, int64_t deadline_ns);

	/* Whether the messages from before that deadline are taken out: only then the requests due at it end. */
	bool (*has_read_for)(struct bus_mailbox *m, int64_t due_ns);

	/* Whether no message is left that the mailbox may take. */
	bool (*is_empty)(struct bus_mailbox *m);

	/* BUS_E_DAMAGED: no more messages can arrive. Otherwise 0. */
	int (*error)(const struct bus_mailbox *m);

	/* --- the mailbox of a peer: link thread ----------------------------------------------------------------------- */

	/* Reads the version of the last taken value into *version, as far as the source knows it. */
	void (*version)(const struct bus_mailbox *m, struct bus__version *version);

	/* Reads the run of plain messages that follow in the batch, and takes none: their number, 0 without a short way. */
	unsigned (*see_run)(struct bus_mailbox *m, struct plain_run *ret_run);

	/* Stops wake-ups of the peer. */
	void (*leave)(struct bus_mailbox *m);

	/* Its ring has gone to sleep: arranges the wake-up for the next message, or wakes now. */
	void (*peer_rests)(struct bus_mailbox *m);

	/* The link is cut: releases the messages taken out, and everything held there, until unpark(), which continues at the
	 * same place. Messages gone by then are counted as lost. unpark(): 0, BUS_E_NOMEM, BUS_E_LIMIT, BUS_E_DAMAGED. */
	void (*park)(struct bus_mailbox *m);
	int (*unpark)(struct bus_mailbox *m);

	/* --- any thread --------------------------------------------------------------------------------------------- */

	/* Ends a rest: m->wakes was changed, and its sleeper was woken. */
	void (*stir)(struct bus_mailbox *m);

	/* A poll loop or the link thread is about to wait for the mailbox, not one of its threads. Bus lock. 0,
	 * BUS_E_LIMIT, BUS_E_SYS. */
	int (*begin_poll)(struct bus_mailbox *m);

	/* Whether the mailbox, whose ring sleeps, will be woken for the next message. false: there is one, or may be.
	 * Bus lock. */
	bool (*is_quiet)(struct bus_mailbox *m);

	/* The mark behind everything published so far; and whether all before it is handled. */
	uint64_t (*mark)(const struct bus_mailbox *m);
	bool (*has_passed)(struct bus_mailbox *m, uint64_t mark);

	/* The end, in its ring, of the messages put in or about to be moved there: the position for a later that
	 * frees memory behind messages. Bus lock. */
	uint64_t (*behind)(struct bus_mailbox *m);

	/* `progress` counts messages: converts it to the source's own measure, if there is one. */
	void (*progress)(struct bus_mailbox *m, struct progress *progress);

	/* --- life --------------------------------------------------------------------------------------------------- */

	/* Begins the source of a mailbox that no other thread knows yet: 0 or a negative error. fini() frees it. */
	int (*init)(struct bus_mailbox *m, const struct bus_mailbox_config *cfg);
	void (*fini)(struct bus_mailbox *m);

	/* No more messages arrive. Any thread. */
	void (*shut)(struct bus_mailbox *m);

	/* Gives up the messages that are there and were not taken. No thread drains. */
	void (*stop)(struct bus_mailbox *m);
};

extern const struct source bus__from_ring, bus__from_group, bus__from_log;

#endif
