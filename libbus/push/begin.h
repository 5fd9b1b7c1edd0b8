/* push/begin.h: shared by the pasts of a named and of a private bus. */
#ifndef BUS_PUSH_BEGIN_H
#define BUS_PUSH_BEGIN_H

#include "push/state.h"

enum { BUS__DRAIN_MOST = 4096 /* messages of all pages, while one begins */ };

/* The head of the response and the first heartbeat, before all events. */
void bus__page_greet(struct page *page, const struct event_id *id, const char *reset);

/* A page that cannot resume begins as a new one. Returns the reason. */
const char *bus__page_reset(struct page *page);

/* The event `begin`: the messages that follow are also for this new filter; NULL: for all filters. No event if the page adds
 * none. */
void bus__page_mark(struct page *page, struct wish *wish);

/* Handles messages of the mailbox of all pages. Returns whether the page has all that was kept when it subscribed. */
bool bus__page_has_kept(struct page *page);

/* 0, or an error of bus_mailbox_subscribe(). */
int bus__page_subscribe(struct page *page);

/* Which kept values follow the past of a page that resumes. */
enum kept_wish bus__page_kept_behind(const struct page *page, const struct event_id *last);

/* last NULL: a new page. 0, or the error because of which it cannot begin. */
int bus__page_begin_in_log(struct page *page, const struct event_id *last);
int bus__page_begin_in_memory(struct page *page, const struct event_id *last);

#endif
