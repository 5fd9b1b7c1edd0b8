/* named/watch_parts.h: what the files of the watch share, and nothing else includes: watch.c (mailboxes go quiet and come back), scan.c (the look
 * at each record for them) and rest.c (threads sleep, one of them on the log). Under the watch lock, where it does not say
 * otherwise. */
#ifndef BUS_NAMED_WATCH_PARTS_H
#define BUS_NAMED_WATCH_PARTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "named/heard.h"
#include "named/place.h"

struct bus;
struct bus_mailbox;
struct watch;

/* --- watch.c ------------------------------------------------------------------------------------------------------ */

/* Ends the quiet of a mailbox, or of all: it goes on at `resume` by itself. `self`: the word of this thread, which needs no wake-up;
 * or NULL. */
void bus__watch_hit(struct watch *watch, struct bus_mailbox *mbox, struct watch_place resume,
    _Atomic uint32_t *self);
void bus__watch_hit_all(struct watch *watch, struct watch_place resume, _Atomic uint32_t *self);

/* --- scan.c ------------------------------------------------------------------------------------------------------- */

struct scan {
	struct bus *bus;
	struct watch_place at;  /* the record that it looks at */
	_Atomic uint32_t *self; /* bus__watch_hit() */
	bool may_learn;
	struct heard_name unknown; /* the topic that must be learned first */
};

void bus__scan_begin(struct scan *scan, struct bus *bus, _Atomic uint32_t *self, bool may_learn);

/* Looks at records before the sequence `end` while there are quiet mailboxes, and at no more than a piece. false: there is
 * nothing more to look at. */
bool bus__scan_piece(struct scan *scan, uint64_t end);

/* Looks at all of them, and learns names. Releases the watch lock between pieces. */
void bus__scan(struct bus *bus, uint64_t end, _Atomic uint32_t *self);

/* Learns what a name stands for. Without memory every quiet mailbox looks for itself. No lock held. */
void bus__scan_learn(struct bus *bus, const struct heard_name *unknown);

#endif
