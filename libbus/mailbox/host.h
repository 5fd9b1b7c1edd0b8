/* mailbox/host.h: what a mailbox asks of the bus that it belongs to. The bus implements it (bus.c, sub.c, request.c, notice.c);
 * a mailbox knows nothing else of it. */
#ifndef BUS_MAILBOX_HOST_H
#define BUS_MAILBOX_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include <libbus/bus.h>

struct bus_mailbox;
struct bus_sub;
struct source;

/* The largest bound of a mailbox, in bytes. */
#define BUS__MAILBOX_MOST (1u << 30)

/* --- its life ------------------------------------------------------------------------------------------------ */

/* 0, or BUS_E_INVAL (NULL), BUS_E_FORKED, BUS_E_CLOSED. First line of every public call on a bus. */
int bus__enter(const struct bus *bus);

/* Keep the memory of a bus alive beyond bus_close(); not the bus open. */
struct bus *bus__ref(struct bus *bus);
void bus__unref(struct bus *bus);

/* Locks and unlocks the bus. Unlocking waits for readers of what became garbage meanwhile, frees it, and
 * runs what mailboxes were told to do later. */
void bus__lock(struct bus *bus);
void bus__unlock(struct bus *bus);

/* What every slow place does: tells what there is to be told on $bus/. Nothing is held. */
void bus__heed(struct bus *bus);

/* --- its mailboxes: bus lock, where it does not say otherwise --------------------------------------------------- */

/* Whether they can be as the configuration says: 0, or BUS_E_NOTSUP with its sentence. No lock. */
int bus__check_mailbox(const struct bus *bus, const struct bus_mailbox_config *cfg);

/* Where their messages come from, but those of a group's receivers. No lock. */
const struct source *bus__source(const struct bus *bus);

/* Lists a mailbox that is new; and gives it its number, unless it is a receiver, which has its group's. */
void bus__mailbox_list(struct bus_mailbox *mbox);

/* Takes a mailbox that is through off the list, and remembers its counters. The second without the lock. */
void bus__mailbox_unlist_locked(struct bus_mailbox *mbox);
void bus__mailbox_unlist(struct bus_mailbox *mbox);

/* The group of that name; NULL: there is none. */
struct bus_mailbox *bus__group_of(const struct bus *bus, const char *name);

/* It has new laters: bus__unlock() settles it. */
void bus__mailbox_unsettle(struct bus_mailbox *mbox);

/* Takes a subscription out of the bus. */
void bus__sub_remove(struct bus *bus, struct bus_sub *sub);

/* --- its requests ------------------------------------------------------------------------------------------------- */

/* Ends the requests of a mailbox. Bus lock. */
void bus__requests_end(struct bus_mailbox *mbox);

/* Ends those whose time has passed, and tells. The drainer, outside a batch. */
bool bus__requests_heed(struct bus_mailbox *mbox);

/* Tells of what has ended. true: there was something. No lock held. */
bool bus__requests_tell(struct bus_mailbox *mbox);

/* One of those who were given a question asked here has nobody who would reply: a peer, or a mailbox that passed
 * it over. No lock held. */
void bus__question_decline(struct bus *bus, uint64_t number);

/* --- failures --------------------------------------------------------------------------------------------------------- */

/* The sentence for BUS_E_DAMAGED of a call that publishes, reads or waits. */
int bus__fail_damaged(const struct bus *bus) __attribute__((cold, noinline));

#endif
