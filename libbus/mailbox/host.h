/* mailbox/host.h: the calls of a mailbox on its bus. The bus implements them (bus.c, sub.c, request.c, notice.c);
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

/* Take and release references to the memory of a bus, beyond bus_close(). They do not keep it open. */
struct bus *bus__ref(struct bus *bus);
void bus__unref(struct bus *bus);

/* Lock and unlock the bus. Unlocking waits for readers of new garbage, frees it, and
 * runs the laters of mailboxes. */
void bus__lock(struct bus *bus);
void bus__unlock(struct bus *bus);

/* Called in every slow place: publishes due notices on $bus/. The caller holds no lock. */
void bus__heed(struct bus *bus);

/* --- its mailboxes: bus lock, unless stated otherwise --------------------------------------------------------------- */

/* Whether a mailbox can have this configuration: 0, or BUS_E_NOTSUP with its sentence. No lock. */
int bus__check_mailbox(const struct bus *bus, const struct bus_mailbox_config *cfg);

/* The source of its mailboxes, except a group's receivers. No lock. */
const struct source *bus__source(const struct bus *bus);

/* Lists a new mailbox, and numbers it; a receiver has its group's number. */
void bus__mailbox_list(struct bus_mailbox *mbox);

/* Unlists a finished mailbox, and adds its counters to the bus's. The second takes the lock itself. */
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

/* Ends the requests that have timed out, and calls back. The drainer, outside a batch. */
bool bus__requests_heed(struct bus_mailbox *mbox);

/* Calls back for ended requests. true: there were some. No lock held. */
bool bus__requests_tell(struct bus_mailbox *mbox);

/* A recipient of a question asked here has no responder: a peer, or a mailbox that passed
 * it over. No lock held. */
void bus__question_decline(struct bus *bus, uint64_t number);

/* --- failures --------------------------------------------------------------------------------------------------------- */

/* The sentence for BUS_E_DAMAGED of a call that publishes, reads or waits. */
int bus__fail_damaged(const struct bus *bus) __attribute__((cold, noinline));

#endif
