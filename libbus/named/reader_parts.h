/* named/reader_parts.h: what the files of a reader share, and nothing else includes: reader.c (life, and how far it has come), choose.c (the next
 * records that the mailbox wants), learn.c (what their names stand for), to_ring.c (views and copies of them) and begin.c
 * (subscriptions). */
#ifndef BUS_NAMED_READER_PARTS_H
#define BUS_NAMED_READER_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "named/heard.h"

struct bus_mailbox;
struct bus_sub;
struct ring_view;
struct route;

/* Opens the cursor at the place where the mailbox begins, unless it is open. Reader lock. 0, BUS_E_CLOSED, or what
 * bus__log_cursor_open() answers. */
int bus__reader_open(struct bus_mailbox *mbox);

/* --- choose.c ---------------------------------------------------------------------------------------------------- */

/* Why a choice ended with nothing. */
struct pause {
	bool tired;                /* it passed over many records, and there may be more */
	struct heard_name unknown; /* the topic that must be learned first */
};

/* Chooses the next messages into the batch, up to READER_BATCH of one segment. Returns their number. Reader lock. */
uint32_t bus__reader_choose(struct bus_mailbox *mbox, struct pause *pause);

/* Whether the choice has reached the tail. */
static inline bool
bus__reader_is_over(uint32_t count, const struct pause *pause)
{
	return count == 0 && pause->unknown.len == 0 && !pause->tired;
}

/* BUS_FROM_LAST: goes through the log once, and moves the cursor to the first of the last messages that the mailbox wants. */
void bus__reader_find_last(struct bus_mailbox *mbox);

/* --- learn.c ----------------------------------------------------------------------------------------------------- */

/* Whether this is the name of a topic whose messages come through the log. */
bool bus__reader_is_name(const char *name, size_t len);

/* Learns what a name stands for. false: there is no memory, and its next message is lost. No lock held. */
bool bus__reader_learn(struct bus_mailbox *mbox, const struct heard_name *unknown);

/* --- to_ring.c --------------------------------------------------------------------------------------------------- */

/* Copies a message into the mailbox's own ring. `flags` are added to its own. Without memory it is counted as dropped. */
void bus__reader_put(struct bus_mailbox *mbox, const struct ring_view *view, struct route *route,
    struct bus_sub *target, unsigned flags, struct bus_mailbox **owed);

#endif
