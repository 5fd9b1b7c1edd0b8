/* push/state.h: the pages of a bus, and one page. Everything belongs to the reactor's thread unless it says otherwise. */
#ifndef BUS_PUSH_STATE_H
#define BUS_PUSH_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libbus/push.h>

#include "loop/reactor.h"
#include "push/frame.h"
#include "push/memory.h"
#include "push/queue.h"
#include "push/verdicts.h"

/* A counter that the reactor's thread writes and any may read: relaxed, each is of a moment of its own. */
struct tally {
	_Atomic uint64_t opened, events, bytes, lost, replaced, denied, unsent, resumed, reset;
};

struct bus_push {
	struct bus *bus; /* a reference: its memory outlives bus_close() */
	struct bus__reactor *reactor;
	uint32_t fork_generation;
	uint32_t heartbeat_ms, retry_ms, max_pages;
	void (*ask)(void *arg, uint64_t page, const char *topic);
	void (*left)(void *arg, uint64_t page);
	void *arg;
	uint64_t key[2]; /* of hashes of topics */
	uint64_t epoch;  /* of ids */
	bool has_log;    /* a named bus: the past of a page is in the log, else in memory */
	_Atomic uint64_t last_page;
	_Atomic uint32_t page_count; /* relaxed: it only bounds */
	struct tally tally;
	_Atomic uint64_t waiting_bytes;

	struct bus_mailbox *mbox; /* of all pages */
	struct bus__source source;
	bool ended;             /* the bus was closed, or its log is damaged */
	bool closing;           /* bus_push_close() waits */
	_Atomic uint32_t empty; /* futex: 1 when closing and no page is left */

	struct page **table; /* by number */
	size_t table_size, table_count;
	struct page *first_beat,
	    *last_beat;       /* all pages, in the order in which their next heartbeat is due */
	struct page *touched; /* have something to send since the last round */
	struct page *capped;  /* have it, and wait for the end of their interval */
	struct bus__alarm beat_alarm, cap_alarm;
	struct form *forms;

	/* The message that is handled now. */
	uint64_t serial,
	    begun; /* its number among those of the mailbox; the last one that was looked at */
	struct event_id now_id;
	uint64_t now_hash;

	struct memory memory; /* of a private bus */
};

/* A filter of a page: the argument of its subscription. */
struct wish {
	struct page *page;
	struct bus_sub *sub;
	struct lingering *linger; /* of a private bus */
	struct wish *prev, *next; /* there */
	char *filter;
	bool is_new;    /* the page adds it now */
	bool has_begun; /* and was told that its past begins */
	uint64_t start; /* of a private bus: its past lies behind */
	bool follows;   /* of a private bus: it gets its messages from `linger`, too */
	uint64_t had;   /* and what the page gets of it: start, or before */
};

/* A mailbox of a page's past, on a named bus. */
struct past {
	struct bus_mailbox *mbox;
	const struct bus_msg *msg; /* its next one, if it was looked for */
	struct wish *begins;       /* with the first message */
};

enum kept_wish { KEPT_ALL, KEPT_OF_NEW, KEPT_NONE };

struct page {
	struct bus__source source; /* its socket; first, so that the reactor's source is the page */
	struct bus__job job;       /* goes on with its past */
	struct bus_push *push;
	uint64_t number;
	struct page *next_same, *prev_beat, *next_beat, *next_touched, *next_capped;
	int64_t beat_due_ns, write_due_ns;

	struct form *form;
	bool raw;
	char *event, *last_id, *head; /* until it has begun */
	size_t head_len;
	int from;
	uint64_t from_value, from_epoch;
	int full;
	uint32_t bound_bytes, interval_ms;
	bool asks;

	bool is_live; /* it gets what the mailbox brings */
	bool is_touched, is_capped, is_gone, wants_room;
	bool is_ending;          /* gone once everything is sent */
	bool needs_id;           /* no event had a usable id yet */
	bool arrives;            /* what is kept has not come whole */
	struct event_id arrival; /* up to which it has everything then */
	uint64_t kept_place;     /* in the mailbox of all pages: behind what is kept */
	uint64_t newest;         /* position of what that mailbox brought */
	enum kept_wish kept;
	uint64_t behind; /* it has everything up to this position */
	uint64_t serial; /* of the last message that it took */
	bool has_new;    /* some filter is new to it */
	bool adds; /* or some are for others, too, by the k of its id: it gets `begin` and `live` */
	struct past *pasts;
	uint32_t past_count;
	struct frame *just[16]; /* what it got of the past while its subscriptions began */
	unsigned just_count;

	struct queue queue;
	uint64_t most;         /* bytes in the queue: bound_bytes, and what is kept besides */
	struct frame *sending; /* goes before the queue; partly sent, perhaps */
	uint32_t sent;
	uint64_t lost; /* before the first event in the queue */
	uint64_t kept_count;
	struct verdicts verdicts;
	uint64_t events, bytes, lost_in_all, replaced, denied;

	uint32_t wish_count;
	struct wish wishes[];
};

/* --- page.c: its queue and its socket --------------------------------------------------------------------------------- */

/* Adds an event for the page; takes no reference of the caller's. is_kept: beyond the bound, up to a larger one. */
void bus__page_put(struct page *page, struct frame *frame, bool is_kept);

/* Counts events that the page lost; a gap event precedes the next one. */
void bus__page_lose(struct page *page, uint64_t count);

/* The page has something to send: bus__pages_send() looks. */
void bus__page_touch(struct page *page);

/* Whether the next event waits for bus_push_answer(). */
bool bus__page_waits_for_answer(struct page *page);

/* bus__pages_send() ends the page and frees it. */
void bus__page_leave(struct page *page);

/* Sends what waits, then the event `end`; after that the page leaves, to come back at a time that differs from page to page. */
void bus__page_finish(struct page *page);

/* Sends what pages have, ends those that are gone, and sets the alarms. The end of each job, event and alarm. */
void bus__pages_send(struct bus_push *push);

/* Restarts the time until the page's next heartbeat. */
void bus__page_beat_later(struct page *page);

/* Adds an event of this page alone. Frees the text. */
void bus__page_put_text(struct page *page, struct text *text);

void bus__page_free(struct page *page);

/* Wakes bus_push_close() when no page is left (push.c). */
void bus__push_note_empty(struct bus_push *push);

/* --- begin.c: where it begins ------------------------------------------------------------------------------------------- */

/* The first turn of a page that was added. 0, or why it cannot begin. */
int bus__page_begin(struct page *page);

/* Goes on with the past of a page of a named bus, as its queue has room (past_log.c). */
void bus__page_go_on(struct page *page);

/* The page has its past: when it also has what is kept, tells it so if it adds filters, and an id up to which it has everything if it
 * had none. */
void bus__page_arrive(struct page *page, const struct event_id *id);
void bus__page_close_pasts(struct page *page);

/* --- feed.c: from the mailbox to pages -------------------------------------------------------------------------------------- */

/* Callbacks of subscriptions: arg is a wish, or a filter that lingers. */
void bus__push_message(void *arg, const struct bus_msg *msg);
void bus__push_remember(void *arg, const struct bus_msg *msg);

/* Handles messages of the mailbox, at most that many. true: none is left for now. */
bool bus__push_drain(struct bus_push *push, unsigned most);

/* The newest id. Once the mailbox is drained after the call, pages have everything up to it. */
struct event_id bus__push_head(struct bus_push *push);

/* Whether one of the filters that the page had when it noted its id matches the topic. */
bool bus__page_had(const struct page *page, const char *topic);

/* Whether the page got a message of the topic after it had subscribed, before what is kept. */
bool bus__page_just_got(const struct page *page, const char *topic, uint64_t hash);

uint64_t bus__push_hash(const struct bus_push *push, const char *topic);

/* --- turn.c: what wakes the reactor's thread -------------------------------------------------------------------------------- */

void bus__push_ready(struct bus__source *source, uint32_t events);
void bus__push_beat(struct bus__alarm *alarm);
void bus__push_cap(struct bus__alarm *alarm);

/* --- orders.c ------------------------------------------------------------------------------------------------------------------ */

/* 0, BUS_E_INVAL or BUS_E_FORKED. Threads: any. */
int bus__push_enter(const struct bus_push *push);

#endif
