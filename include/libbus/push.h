/* libbus/push.h: live pages. Server-sent events on sockets that a web server hands over.
 *
 * A web server reads a request, decides whether the page may listen, and gives the socket to bus_push_add(). From then on
 * one thread of the process serves all pages of all buses: it reads one mailbox per bus, writes each message as an event
 * once, and sends the same bytes to every page that wants them. A page costs its socket and about 1 KiB.
 *
 * The stream, in the format of EventSource (https://html.spec.whatwg.org/multipage/server-sent-events.html):
 *   retry: 2000 / id: ID / event: hb / data: 15    first, then after each heartbeat_ms without another event; the data is
 *                                                  the heartbeat in seconds; later ones have no retry
 *   id: ID / data: {"topic":…,"value":…,"kept":…}  a message; value as bus_payload_json() writes it
 *   id: ID / [event: NAME] / data: VALUE           the same with .raw: the value alone; text as it is, not as JSON
 *   event: gap / data: {"lost":N}                  N events were dropped right here
 *   event: reset / data: {"reason":…}              ID is too old, or from an earlier life of the bus: the page missed
 *                                                  events and begins as a new one
 *   event: begin / data: {"filter":FILTER}         what follows is for this filter too, which the page adds in its past
 *   event: begin / data: {}                        and for all that the page adds: now come their kept values
 *   id: ID / event: live / data: {}                a page that adds filters, or came back among kept values, has got all that
 *   event: denied / data: {"topic":…,"message":…}  bus_push_answer() said no
 *   retry: MS / event: end / data: MS              bus_push_close(), or the bus closed: connect again after MS milliseconds,
 *                                                  from retry_ms to three times that, so that pages come back spread over time
 * ID is opaque. Kept values have no id line. A page that connects with its last id (the header Last-Event-ID) gets every
 * event after that one once. On a named bus the id works in every process, as long as one process stays on the bus
 * and the log still holds the position. On a private bus an id belongs to one struct bus_push, which remembers the last events. */
#ifndef LIBBUS_PUSH_H
#define LIBBUS_PUSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>
#include <libbus/error.h>
#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif

struct bus_push; /* the pages of one bus in this process */

struct bus_push_config {
	size_t   size;
	uint32_t heartbeat_ms; /* 0: 15,000; at least 100. A TCP peer that takes nothing is dropped within three of them */
	uint32_t retry_ms;     /* how long a browser waits before it connects again; 0: 2,000 */
	uint32_t max_pages;    /* 0: 10,000 */
	uint32_t history;      /* events of a private bus that pages can resume from; 0: 1,000; at most 1,000,000 */
	/* Asks whether a page with .ask may get a topic that is new to it. The page's events wait until bus_push_answer().
	 * Runs on the thread of all pages, so it must not block: pass the question to another thread. topic is borrowed. */
	void (*ask)(void *arg, uint64_t page, const char *topic);
	/* A page has left. Runs on the same thread. NULL: none. */
	void (*left)(void *arg, uint64_t page);
	void *arg;
	/* Filters of a private bus whose events are remembered from bus_push_open() on. Others are remembered from the first
	 * page that has the filter until two minutes after the last. NULL: none. */
	const char *const *remember;
	size_t             remember_count;
};

/* Begins to serve pages of a bus. End *ret_push with bus_push_close(). The first call in a process starts the thread.
 * BUS_E_LIMIT: no more threads or descriptors. BUS_E_CLOSED, BUS_E_FORKED, BUS_E_INVAL, BUS_E_NOMEM.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_push_open(struct bus *bus, const struct bus_push_config *cfg, struct bus_push **ret_push);

enum { BUS_PAGE_FILTERS_MAX = 256 }; /* of one page */

struct bus_page_filter {
	const char *filter;
	bool        is_new; /* the page adds this filter now. It gets kept values and no past; with .from, of this filter its
	                     * past, and no kept values. Ignored without .last_id and .from, and behind a reset */
};

struct bus_page_config {
	size_t size;
	const struct bus_page_filter *filters;
	size_t      filters_count; /* 1 to BUS_PAGE_FILTERS_MAX */
	const char *head;          /* sent first: status line and headers of the response; NULL: none */
	size_t      head_len;      /* at most 64 KiB */
	const char *last_id;       /* the page's last id; NULL, "" or no id: it is a new page */
	uint64_t    from_value, from_epoch; /* as in struct bus_mailbox_config: of a new page for all filters together, and
	                                     * of each filter that is new for itself. On a private bus the past is what
	                                     * this struct bus_push remembers. A last_id with a k behind it: the page
	                                     * resumes its new filters besides */
	int         from;          /* enum bus_from */
	int         full;          /* of the page's queue: BUS_FULL_DROP_OLDEST, BUS_FULL_LATEST (a newer event of a topic
	                            * replaces the one that waits), BUS_FULL_REFUSE: the page is dropped, and resumes */
	uint32_t    bytes;         /* of memory, for events that wait for the page; 0: 64 KiB; kept values may take more */
	uint32_t    interval_ms;   /* at most one write per interval, with all events since the last; 0: no limit;
	                            * above heartbeat_ms: heartbeat_ms */
	bool        raw;           /* the value alone */
	bool        ask;           /* each topic needs a yes of bus_push_answer() */
	const char *event;         /* with .raw: the name of each event; NULL: that of its header "event", if there is one */
};

/* Serves a page on a connected stream socket (TCP or Unix). The library owns the socket from then on and closes it; on an
 * error the caller still owns it. The page gets what is published after the call. *ret_page is its number, never used again.
 * BUS_E_LIMIT: max_pages; BUS_E_FILTER and the like; BUS_E_CLOSED; BUS_E_INVAL; BUS_E_NOMEM.
 * Threads: any, but not inside ask() or left() (BUS_E_STATE).  Blocks: until the thread of all pages has
 * taken it, normally below 1 ms.  Callbacks: ask() and left() may run on that thread. */
BUS_API int bus_push_add(struct bus_push *push, int fd, const struct bus_page_config *cfg, uint64_t *ret_page);

/* Answers ask(): whether the page may get messages of the topic, from now until the next answer. Does nothing for a page
 * that has left. message: the reason of a no, shown to the page; NULL: none.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_push_answer(
    struct bus_push *push, uint64_t page, const char *topic, bool may, const char *message);

/* Ends a page after sending as much of its queue as the socket takes without blocking. Does nothing for a page that has left.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_push_remove(struct bus_push *push, uint64_t page);

struct bus_push_stats {
	size_t   size;
	uint64_t pages, pages_most; /* open now; max_pages */
	uint64_t opened;            /* so far */
	uint64_t events;            /* given to sockets, whole */
	uint64_t bytes;             /* the same in bytes */
	uint64_t lost;              /* events that pages lost because their queue or the mailbox was full; `gap` reports them */
	uint64_t replaced;          /* by a newer one of the topic (BUS_FULL_LATEST) */
	uint64_t denied;            /* not sent: bus_push_answer() said no */
	uint64_t unsent;            /* waited for pages that left */
	uint64_t resumed, reset;    /* pages that resumed from an id; that could not */
	uint64_t waiting_bytes;     /* of memory, for events that wait now */
};

/* Reads the counters of all pages so far; set ret_stats->size first.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_push_stats(struct bus_push *push, struct bus_push_stats *ret_stats);

/* The same of one page that is open: events, bytes, lost, replaced, denied, waiting_bytes. 1; 0: it has left.
 * Threads: any.  Blocks: until the thread of all pages answers, normally below 1 ms.  Callbacks: none run inside. */
BUS_API int bus_push_page_stats(struct bus_push *push, uint64_t page, struct bus_push_stats *ret_stats);

/* Ends all pages and frees push. Each page gets the event `end`. Returns the number of pages that were open. NULL is fine.
 * In a forked child it does nothing.
 * Threads: any, once; not inside ask() or left() (BUS_E_STATE).  Blocks: up to timeout_ms for what waits to be sent.
 * Callbacks: left() of each page, on the thread of all pages. */
BUS_API int bus_push_close(struct bus_push *push, int timeout_ms);

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif
#endif
