/* Where a page begins, and how it comes from its past to the present.
 *
 * A page without a past subscribes at once: it gets kept values, then new messages. On a named bus, a page with a past first reads
 * a mailbox of its own from its position, as fast as its queue has room. Once that mailbox is empty, the page subscribes in the
 * shared one, then empties its own again: now it has everything up to a position, `behind`, and takes later messages from the shared
 * mailbox. The last steps are one turn of the reactor's thread, so the shared mailbox delivers nothing between them.
 * On a private bus the past is in memory.h, which holds every message that the shared mailbox delivered. */
#include <string.h>
#include <sys/epoll.h>

#include "base/mem.h"
#include "push/state.h"

enum {
	DRAIN_MOST = 4096, /* messages for others while one page begins */
	PAST_MOST = 256,   /* of a page's past, before others have their turn */
};

/* --- its first events -------------------------------------------------------------------------------------------------- */

/* The head of the response and the first heartbeat go before all events. */
static void
greet(struct page *page, const struct event_id *id, const char *reset)
{
	struct bus_push *push = page->push;
	struct text text = {.at = NULL};

	bus__text_add(&text, page->head, page->head_len);
	bus__sse_beat(&text, id, push->heartbeat_ms, push->retry_ms);
	if (reset != NULL)
		bus__sse_notice(&text, NULL, "reset", "reason", reset, NULL);
	page->sending = bus__frame_new(&text, NULL, 0);
	page->needs_id = id == NULL || id->more;
	if (page->sending == NULL)
		bus__page_leave(page);
	bus__free(page->head);
	page->head = NULL;
	bus__page_touch(page);
}

/* Sends an id up to which the page has everything, unless it has one. */
static void
give_id(struct page *page, const struct event_id *id)
{
	struct text text = {.at = NULL};

	if (!page->needs_id)
		return;
	page->needs_id = false;
	bus__sse_beat(&text, id, page->push->heartbeat_ms, 0);
	bus__page_put_text(page, &text);
}

/* A page that cannot resume begins as a new one. Returns the reason. */
static const char *
reset_page(struct page *page)
{
	for (uint32_t i = 0; i < page->wish_count; i++)
		page->wishes[i].is_new = false;
	atomic_fetch_add_explicit(&page->push->tally.reset, 1, memory_order_relaxed);
	return "what followed the last id is gone, or the id is from another life of the bus";
}

/* --- subscriptions ------------------------------------------------------------------------------------------------------- */

/* 0, or what bus_mailbox_subscribe() answered. */
static int
subscribe(struct page *page)
{
	int err = 0;

	for (uint32_t i = 0; i < page->wish_count && err == 0; i++) {
		struct wish *wish = &page->wishes[i];

		err = bus_mailbox_subscribe(
		    page->push->mbox, wish->filter, bus__push_message, wish, &wish->sub);
	}
	return err;
}

/* --- a named bus: the past is in the log ------------------------------------------------------------------------------------- */

static void
take_past(struct page *page, const struct bus_msg *msg)
{
	struct bus_push *push = page->push;
	struct event_id id = {.epoch = push->epoch, .position = msg->position};
	struct frame *frame;

	if (msg->lost > 0)
		bus__page_lose(page, msg->lost);
	frame = bus__form_write(page->form, msg, &id, bus__push_hash(push, msg->topic));
	bus__page_put(page, frame, true); /* bus__page_go_on() bounds it: the page is not slow */
	page->behind = msg->position;
	page->needs_id = false;
	/* The kept value of this topic is this message or an older one: takes() skips it. */
	if (page->kept == KEPT_ALL && frame != NULL && page->wishes[0].sub != NULL &&
	    page->just_count < sizeof page->just / sizeof page->just[0])
		page->just[page->just_count++] = bus__frame_ref(frame);
	bus__frame_unref(frame);
}

/* From the past to the present. */
static void
splice(struct page *page)
{
	struct bus_push *push = page->push;
	struct event_id head;
	const struct bus_msg *msg;

	if (subscribe(page) < 0) {
		bus__page_leave(page);
		return;
	}
	head = bus__push_head(push);
	/* The shared mailbox brings what lies beyond the head: the page has subscribed. So a fast writer cannot keep us here. */
	while (!page->is_gone && page->behind < head.position && bus_recv(page->past, 0, &msg) == 1)
		take_past(page, msg);
	if (page->behind < head.position)
		page->behind = head.position;
	bus_mailbox_close(page->past);
	page->past = NULL;
	page->is_live = true;
	if (page->kept != KEPT_NONE)
		bus__push_drain(push, DRAIN_MOST);
	for (; page->just_count > 0; page->just_count--)
		bus__frame_unref(page->just[page->just_count - 1]);
	give_id(page, &head);
}

void
bus__page_go_on(struct page *page)
{
	const struct bus_msg *msg;

	for (unsigned i = 0; i < PAST_MOST; i++) {
		int err;

		/* Half of the room, so that a write is large. The socket's room, or the end of an interval, brings us back. */
		if (page->queue.bytes >= page->bound_bytes / 2)
			return;
		err = bus_recv(page->past, 0, &msg);
		if (err < 0)
			bus__page_leave(page);
		else if (err == 0)
			splice(page);
		if (err != 1)
			return;
		take_past(page, msg);
	}
	bus__reactor_post(page->push->reactor, &page->job);
}

/* Opens the mailbox of a page's past, with the filters that have one. */
static int
open_past(struct page *page, int from, uint64_t value, uint64_t epoch)
{
	struct bus_mailbox_config cfg = {.size = sizeof cfg,
	    .full = BUS_FULL_DROP_OLDEST,
	    .drain = BUS_DRAIN_CALLER,
	    .bytes = 4096,
	    .from = from,
	    .from_value = value,
	    .from_epoch = epoch};
	int err = bus_mailbox_open(page->push->bus, &cfg, &page->past);

	for (uint32_t i = 0; i < page->wish_count && err == 0; i++)
		if (!page->wishes[i].is_new)
			err = bus_mailbox_subscribe(
			    page->past, page->wishes[i].filter, NULL, NULL, NULL);
	if (err < 0 && page->past != NULL) {
		bus_mailbox_close(page->past);
		page->past = NULL;
	}
	return err;
}

/* Whether the page has a start in the past, and it is there. */
static bool
opens_start(struct page *page, const char **ret_reset)
{
	int err;

	if (page->from == BUS_FROM_NOW)
		return false;
	err = open_past(page, page->from, page->from_value, page->from_epoch);
	if (err == BUS_E_RESET)
		*ret_reset = "the start is from another life of the bus";
	return err == 0;
}

/* Resumes behind the last id. false: the log no longer holds what follows it. */
static bool
resumes_in_log(struct page *page, const struct event_id *last)
{
	struct bus_push *push = page->push;
	const struct bus_msg *msg;
	int err;

	if (last == NULL || last->epoch != push->epoch ||
	    open_past(page, BUS_FROM_POSITION, last->position, last->epoch) < 0)
		return false;
	err = bus_recv(page->past, 0, &msg);
	if (err < 0 || (err == 1 && msg->lost > 0)) {
		bus_mailbox_close(page->past);
		page->past = NULL;
		return false;
	}
	page->kept = last->more ? KEPT_ALL : KEPT_OF_NEW;
	page->behind = last->position;
	greet(page, last, NULL);
	if (err == 1)
		take_past(page, msg);
	return true;
}

static int
begin_in_log(struct page *page, const struct event_id *last)
{
	struct bus_push *push = page->push;
	const char *reset = NULL;
	struct event_id head;
	int err;

	if (resumes_in_log(page, last)) {
		atomic_fetch_add_explicit(&push->tally.resumed, 1, memory_order_relaxed);
		return 0;
	}
	if (last != NULL)
		reset = reset_page(page);
	if (opens_start(page, &reset)) {
		page->kept = KEPT_NONE;
		greet(page, NULL, reset);
		return 0;
	}
	head = bus__push_head(push);
	page->behind = head.position; /* the mailbox of all pages may not have got there yet */
	page->is_live = true;
	err = subscribe(page);
	if (err < 0)
		return err;
	bus__push_drain(push, DRAIN_MOST);
	head.more = page->kept_count > 0;
	greet(page, &head, reset);
	head.more = false;
	give_id(page, &head);
	return 0;
}

/* --- a private bus: the past is in memory --------------------------------------------------------------------------------------- */

/* How many of the events in memory lie before the past that was asked for. */
static uint32_t
skip_to(const struct page *page)
{
	const struct memory *memory = &page->push->memory;
	uint32_t i = memory->count;
	uint64_t left = page->from_value;

	switch (page->from) {
	case BUS_FROM_OLDEST:
		return 0;
	case BUS_FROM_LAST:
		while (i > 0 && left > 0)
			left -= bus__page_had(page, bus__memory_at(memory, --i)->msg->topic);
		return i;
	case BUS_FROM_TIME:
		while (i > 0 && bus__memory_at(memory, i - 1)->time_ns >= (int64_t)page->from_value)
			i--;
		return i;
	case BUS_FROM_POSITION:
		while (i > 0 && bus__memory_at(memory, i - 1)->position > page->from_value)
			i--;
		return i;
	default:
		return i;
	}
}

/* A remembered event as that page wants it. Pages with the common form share it. The reference is the caller's. */
static struct frame *
frame_of(const struct page *page, struct remembered *event)
{
	const struct bus_push *push = page->push;
	const struct event_id id = {.epoch = push->epoch, .position = event->position};
	struct frame *frame;

	if (!page->raw && event->frame != NULL)
		return bus__frame_ref(event->frame);
	frame =
	    bus__form_write(page->form, event->msg, &id, bus__push_hash(push, event->msg->topic));
	if (!page->raw && frame != NULL)
		event->frame = bus__frame_ref(frame);
	return frame;
}

static void
replay(struct page *page, uint32_t i)
{
	struct memory *memory = &page->push->memory;

	for (; i < memory->count; i++) {
		struct remembered *event = bus__memory_at(memory, i);
		struct frame *frame;

		if (!bus__page_had(page, event->msg->topic))
			continue;
		frame = frame_of(page, event);
		bus__page_put(page, frame, true);
		bus__frame_unref(frame);
	}
}

static bool
reaches(const struct page *page, const struct event_id *last)
{
	const struct bus_push *push = page->push;

	if (last->epoch != push->epoch)
		return false;
	for (uint32_t i = 0; i < page->wish_count; i++)
		if (!page->wishes[i].is_new &&
		    !bus__memory_reaches(&push->memory, page->wishes[i].linger, last->position))
			return false;
	return true;
}

static void
release_held(struct page *page)
{
	page->holds = false;
	while (page->held.count > 0) {
		struct frame *frame = bus__queue_take(&page->held);

		bus__page_put(page, frame, true);
		bus__frame_unref(frame);
	}
}

static int
begin_in_memory(struct page *page, const struct event_id *last)
{
	struct bus_push *push = page->push;
	struct event_id head = {.epoch = push->epoch};
	struct memory *memory = &push->memory;
	const char *reset = NULL;
	bool resumes = false;
	int err;

	bus__push_drain(push, DRAIN_MOST);
	for (uint32_t i = 0; i < page->wish_count; i++) {
		page->wishes[i].linger = bus__memory_take(push, page->wishes[i].filter);
		if (page->wishes[i].linger == NULL)
			return BUS_E_NOMEM;
	}
	if (last != NULL)
		resumes = reaches(page, last);
	if (last != NULL && !resumes)
		reset = reset_page(page);
	if (resumes) {
		page->kept = last->more ? KEPT_ALL : KEPT_OF_NEW;
		page->from = BUS_FROM_POSITION;
		page->from_value = last->position;
		atomic_fetch_add_explicit(&push->tally.resumed, 1, memory_order_relaxed);
	} else
		page->kept = page->from == BUS_FROM_NOW ? KEPT_ALL : KEPT_NONE;
	err = subscribe(page);
	if (err < 0)
		return err;
	/* A new page takes messages from its subscription on. Others replay them from memory, then get the kept values. */
	page->is_live = page->kept == KEPT_ALL && !resumes;
	page->holds = !page->is_live;
	bus__push_drain(push, DRAIN_MOST);
	head.position = memory->last;
	if (page->holds) {
		replay(page, skip_to(page));
		release_held(page);
		page->behind = memory->last;
		page->is_live = true;
	}
	head.more = !resumes && page->kept_count > 0;
	greet(page, resumes ? last : &head, reset);
	head.more = false;
	give_id(page, &head);
	return 0;
}

/* ------------------------------------------------------------------------------------------------------------------------------ */

int
bus__page_begin(struct page *page)
{
	struct bus_push *push = page->push;
	struct event_id last;
	bool has_id = page->last_id != NULL && bus__id_read(page->last_id, &last);
	int err;

	page->form = bus__form_get(&push->forms, page->raw, page->event);
	if (page->form == NULL)
		return BUS_E_NOMEM;
	err = bus__reactor_watch(push->reactor, &page->source, EPOLLRDHUP);
	if (err == 0)
		err = (push->has_log ? begin_in_log : begin_in_memory)(page, has_id ? &last : NULL);
	if (err == 0 && page->past != NULL && !page->is_gone)
		bus__page_go_on(page);
	return err;
}
