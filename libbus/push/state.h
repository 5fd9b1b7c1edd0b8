/* push/state.h: the pages of a bus, and one page. Everything belongs to the reactor's thread unless stated otherwise. */
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

/* A counter that the reactor's thread writes and any thread reads: relaxed, since counters need not agree with each other. */
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
	struct page *first_beat, *last_beat; /* all pages, by the time of their next heartbeat */
	struct page *touched;                /* pages with events to send since the last round */
	struct page *capped; /* pages with events that wait for the end of their interval */
	struct bus__alarm beat_alarm, cap_alarm;
	struct form *forms;

	/* The current message. */
	uint64_t serial,
	    begun; /* its number in the mailbox; the number of the last one looked at */
	struct event_id now_id;
	uint64_t now_hash;

	struct memory memory; /* of a private bus */
};

/* A filter of a page: the argument of its subscription. */
struct wish {
	struct page *page;
	struct bus_sub *sub;
	struct lingering *linger; /* of a private bus */
	struct wish *prev, *next; /* in its list */
	char *filter;
	bool is_new;    /* the page adds it in this connection */
	bool has_begun; /* and its `begin` was sent */
	uint64_t start; /* of a private bus: its past lies behind this position */
	bool follows;   /* of a private bus: it gets messages from `linger`, too */
	uint64_t had;   /* and the page gets its messages from here: start, or before */
};

/* A mailbox of a page's past, on a named bus. */
struct past {
	struct bus_mailbox *mbox;
	const struct bus_msg *msg; /* its next one, if it was read */
	struct wish *begins;       /* with the first message */
};

enum kept_wish { KEPT_ALL, KEPT_OF_NEW, KEPT_NONE };

struct page {
	struct bus__source source; /* its socket; first, so that the reactor's source is the page */
	struct bus__job job;       /* continues its past */
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

	bool is_live; /* it gets messages of the shared mailbox */
	bool is_touched, is_capped, is_gone, wants_room;
	bool is_ending;          /* it leaves once everything is sent */
	bool needs_id;           /* no event had a usable id yet */
	bool arrives;            /* it lacks some kept values */
	struct event_id arrival; /* the id up to which it then has everything */
	uint64_t kept_place;     /* in the mailbox of all pages: behind the kept values */
	uint64_t newest;         /* the position of that mailbox's last message */
	enum kept_wish kept;
	uint64_t behind; /* it has everything up to this position */
	uint64_t serial; /* of the last message that it took */
	bool has_new;    /* it has a new filter */
	bool
	    adds; /* or filters are new for others, by the k of its id: it gets `begin` and `live` */
	struct past *pasts;
	uint32_t past_count;
	struct frame *just[16]; /* past messages that it got while its subscriptions began */
	unsigned just_count;

	struct queue queue;
	uint64_t most;         /* bytes in the queue: bound_bytes, plus kept values */
	struct frame *sending; /* precedes the queue; may be partly sent */
	uint32_t sent;
	uint64_t lost; /* before the first event in the queue */
	uint64_t kept_count;
	struct verdicts verdicts;
	uint64_t events, bytes, lost_in_all, replaced, denied;

	uint32_t wish_count;
	struct wish wishes[];
};

/* --- page.c: its queue and its socket --------------------------------------------------------------------------------- */

/* Adds an event for the page, and takes its own reference. is_kept: may exceed the bound, up to a larger one. */
void bus__page_put(struct page *page, struct frame *frame, bool is_kept);

/* Counts events that the page lost; a gap event precedes the next one. */
void bus__page_lose(struct page *page, uint64_t count);

/* The page has something to send: bus__pages_send() will look at it. */
void bus__page_touch(struct page *page);

/* Whether the next event waits for bus_push_answer(). */
bool bus__page_waits_for_answer(struct page *page);

/* bus__pages_send() ends the page and frees it. */
void bus__page_leave(struct page *page);

/* Sends the queue, then the event `end`; then the page leaves, to reconnect after a time that differs from page to page. */
void bus__page_finish(struct page *page);

/* Sends the pages' events, ends the pages that are gone, and sets the alarms. Called at the end of each job, event and alarm. */
void bus__pages_send(struct bus_push *push);

/* Restarts the time until the page's next heartbeat. */
void bus__page_beat_later(struct page *page);

/* Adds an event of this page alone. Frees the text. */
void bus__page_put_text(struct page *page, struct text *text);

void bus__page_free(struct page *page);

/* Wakes bus_push_close() when no page is left (push.c). */
void bus__push_note_empty(struct bus_push *push);

/* --- begin.c: its begin ------------------------------------------------------------------------------------------------- */

/* The first turn of a new page. 0, or the error because of which it cannot begin. */
int bus__page_begin(struct page *page);

/* Continues the past of a page of a named bus, as its queue has room (past_log.c). */
void bus__page_go_on(struct page *page);

/* The page has its past. Once it also has the kept values, tells it so if it adds filters, and gives it an id up to which it has
 * everything if it had none. */
void bus__page_arrive(struct page *page, const struct event_id *id);
void bus__page_close_pasts(struct page *page);

/* --- feed.c: from the mailbox to pages -------------------------------------------------------------------------------------- */

/* Callbacks of subscriptions: arg is a wish, or a lingering filter. */
void bus__push_message(void *arg, const struct bus_msg *msg);
void bus__push_remember(void *arg, const struct bus_msg *msg);

/* Handles up to `most` messages of the mailbox. true: none is left for now. */
bool bus__push_drain(struct bus_push *push, unsigned most);

/* The newest id. After the mailbox is drained next, pages have everything up to it. */
struct event_id bus__push_head(struct bus_push *push);

/* Whether a filter that the page had at its last id matches the topic. */
bool bus__page_had(const struct page *page, const char *topic);

/* Whether the page got a message of the topic after it had subscribed, before the kept values. */
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
