/* mailbox/source.h: where the messages of a mailbox come from. One table for each kind of source:
 *
 *     from_ring.c    its own ring
 *     group.c        the ring of its group, which it shares with other receivers
 *     from_log.c     the log of a named bus, and its own ring for what this process alone has for it
 *
 * Batches, waiting and the end of a mailbox are written once, over this table. The calls on a hot path are one for each
 * batch and one for each run of callbacks, none for each message.
 *
 * Unless it says otherwise a function is called by the drainer, without a lock. */
#ifndef BUS_MAILBOX_SOURCE_H
#define BUS_MAILBOX_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "mailbox/plain.h"
#include "queue/ring.h"

struct bus__version;
struct bus_mailbox;

/* How far a source has got, and how far there is to go. */
struct progress {
	uint64_t reached, goal;
};

struct source {
	/* --- a batch ------------------------------------------------------------------------------------------------ */

	/* Takes a batch, after up to `looks` looks whether there is one; `phase` is what shows meanwhile. Returns how many
	 * messages it has. 0: there is no batch. */
	uint32_t (*take)(struct bus_mailbox *m, unsigned phase, unsigned looks);

	/* Reads the next message of the batch. */
	void (*next)(struct bus_mailbox *m, struct ring_view *ret_view);

	/* Calls the callbacks of the next messages, at most up to number `end` of the batch, as long as they are of a kind
	 * that it has a short way for. true: it has one for the next message too. */
	bool (*run)(struct bus_mailbox *m, uint32_t end);

	/* The caller leaves with messages of the batch, and may not come back soon: nobody else may have to wait for the
	 * memory. Only called when m->borrowed. */
	void (*keep)(struct bus_mailbox *m);

	/* Everything in the batch is handled. */
	void (*done)(struct bus_mailbox *m);

	/* --- waiting for one ---------------------------------------------------------------------------------------- */

	/* Looks a few times whether there is something, without a pause or a clock. */
	bool (*look)(struct bus_mailbox *m);

	/* A batch was empty: what the source has to do before the drainer spins or rests. deadline_ns 0: it does neither. */
	void (*idle)(struct bus_mailbox *m, int64_t deadline_ns);

	/* Sleeps until there may be something. false: the deadline has passed, or the mailbox has to leave. */
	bool (*rest)(struct bus_mailbox *m, int64_t deadline_ns);

	/* Whether what came before that deadline has been taken out: then the requests that it ends may end. */
	bool (*has_read_for)(struct bus_mailbox *m, int64_t due_ns);

	/* Whether nothing is inside that the mailbox may still take. */
	bool (*is_empty)(struct bus_mailbox *m);

	/* BUS_E_DAMAGED: nothing comes from there any more. Otherwise 0. */
	int (*error)(const struct bus_mailbox *m);

	/* --- the mailbox of a peer: link thread ----------------------------------------------------------------------- */

	/* Reads the version of the value that was taken last into *version, as far as it is known there. */
	void (*version)(const struct bus_mailbox *m, struct bus__version *version);

	/* Reads the run of plain messages that the batch has next, and takes none: their number, 0 where there is no short way. */
	unsigned (*see_run)(struct bus_mailbox *m, struct plain_run *ret_run);

	/* Nobody wakes the peer any more. */
	void (*leave)(struct bus_mailbox *m);

	/* Its ring has gone to sleep: the peer is woken when there is more, or is by now. */
	void (*peer_rests)(struct bus_mailbox *m);

	/* The link is cut: lets go of what was taken out, and of what it holds there, until unpark(), which goes on where it was.
	 * What is gone by then is lost, and counted. unpark(): 0, BUS_E_NOMEM, BUS_E_LIMIT, BUS_E_DAMAGED. */
	void (*park)(struct bus_mailbox *m);
	int (*unpark)(struct bus_mailbox *m);

	/* --- anybody ------------------------------------------------------------------------------------------------ */

	/* Ends a rest: m->wakes was changed, and whoever sleeps on it was woken. */
	void (*stir)(struct bus_mailbox *m);

	/* Somebody is about to wait for the mailbox with no thread of ours: a poll loop, or the link thread. Bus lock. 0,
	 * BUS_E_LIMIT, BUS_E_SYS. */
	int (*begin_poll)(struct bus_mailbox *m);

	/* Whether the mailbox, whose ring sleeps, will be told of what comes next. false: something is there, or may be.
	 * Bus lock. */
	bool (*is_quiet)(struct bus_mailbox *m);

	/* Everything published so far lies before this mark; and whether all before it is handled. */
	uint64_t (*mark)(const struct bus_mailbox *m);
	bool (*has_passed)(struct bus_mailbox *m, uint64_t mark);

	/* Where in its ring that ends which has been put in, or is about to be moved there: the position for a later that
	 * frees what messages may lead to. Bus lock. */
	uint64_t (*behind)(struct bus_mailbox *m);

	/* `progress` counts messages: says it in the source's own measure, if that is another. */
	void (*progress)(struct bus_mailbox *m, struct progress *progress);

	/* --- life --------------------------------------------------------------------------------------------------- */

	/* Begins the source of a mailbox that nobody knows yet: 0 or a negative error. fini() frees what init() made. */
	int (*init)(struct bus_mailbox *m, const struct bus_mailbox_config *cfg);
	void (*fini)(struct bus_mailbox *m);

	/* Nothing more comes in. Anybody. */
	void (*shut)(struct bus_mailbox *m);

	/* What is there and was not taken out is not for it any more. Nobody drains. */
	void (*stop)(struct bus_mailbox *m);
};

extern const struct source bus__from_ring, bus__from_group, bus__from_log;

#endif
