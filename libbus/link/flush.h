/* link/flush.h: waiting until accepted messages are on the wire. */
#ifndef BUS_LINK_FLUSH_H
#define BUS_LINK_FLUSH_H

#include <stdint.h>

struct bus__links;
struct bus__session;

/* The hook of the core. */
int bus__flush_links(void *links, int64_t deadline_ns);

/* A load of the session is sent, or there was none: all messages taken out of its mailbox are sent or queued, and no send is
 * under way. */
void bus__flush_progress(struct bus__links *links, struct bus__session *session);

/* The session ends: its flushes end. */
void bus__flush_forget(struct bus__links *links, const struct bus__session *session);

#endif
