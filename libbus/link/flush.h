/* link/flush.h: waiting until what was accepted is on the wire. */
#ifndef BUS_LINK_FLUSH_H
#define BUS_LINK_FLUSH_H

#include <stdint.h>

struct bus__links;
struct bus__session;

/* The hook of the core. */
int bus__flush_links(void *links, int64_t deadline_ns);

/* A load of the session is through, or there was nothing to send: what was taken out of its mailbox is sent or queued, and nothing flies
 * at this moment. */
void bus__flush_progress(struct bus__links *links, struct bus__session *session);

/* The session ends: nothing is waited for any more. */
void bus__flush_forget(struct bus__links *links, const struct bus__session *session);

#endif
