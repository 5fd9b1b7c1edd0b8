/* named/listens.h: what the mailboxes of a named bus listen to, told to the other processes (log/listens.h).
 *
 * A subscription that begins or ends says so at once; how far mailboxes are is noted once a second, by a thread that rests. */
#ifndef BUS_NAMED_LISTENS_H
#define BUS_NAMED_LISTENS_H

struct bus;
struct bus_sub;

/* A subscription of a named bus is there, or goes. Bus lock. */
void bus__listens_add(struct bus *bus, struct bus_sub *sub, const char *filter);
void bus__listens_remove(struct bus *bus, struct bus_sub *sub);

/* Notes how far the mailboxes are, and lists subscriptions for which there was no room. Nothing is held. */
void bus__listens_note(struct bus *bus);

#endif
