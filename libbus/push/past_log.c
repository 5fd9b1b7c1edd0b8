/* The past of a page of a named bus, read from the log.
 *
 * The page reads its own mailboxes, one for the filters that it resumes and one for each filter with another start, in the
 * order of positions and as fast as its queue has room. Once they are empty, the page subscribes in the shared mailbox, then
 * empties its own again: now it has everything up to a position, `behind`, and takes later messages from the shared mailbox.
 * The last steps are one turn of the reactor's thread, so the shared mailbox delivers nothing between them. */
#include "base/mem.h"
#include "push/begin.h"

enum { PAST_MOST = 256 /* of a page's past, in one turn */ };

/* --- its mailboxes ----------------------------------------------------------------------------------------------------- */

void
bus__page_close_pasts(struct page *page)
{
	for (uint32_t i = 0; i < page->past_count; i++)
		bus_mailbox_close(page->pasts[i].mbox);
	bus__free(page->pasts);
	page->pasts = NULL;
	page->past_count = 0;
}

/* Opens another mailbox of the page's past. */
static int
open_past(struct page *page, int from, uint64_t value, uint64_t epoch, struct past **ret_past)
{
	struct bus_mailbox_config cfg = {.size = sizeof cfg,
	    .full = BUS_FULL_DROP_OLDEST,
	    .drain = BUS_DRAIN_CALLER,
	    .bytes = 4096,
	    .from = from,
	    .from_value = value,
	    .from_epoch = epoch};
	struct past *past;
	int err;

	/* One for each filter, one to resume, and one for filters from now on. */
	if (page->pasts == NULL)
		page->pasts = bus__calloc(page->wish_count + 2, sizeof *page->pasts);
	if (page->pasts == NULL)
		return BUS_E_NOMEM;
	past = &page->pasts[page->past_count];
	err = bus_mailbox_open(page->push->bus, &cfg, &past->mbox);
	if (err < 0)
		return err;
	page->past_count++;
	*ret_past = past;
	return 0;
}

/* Adds the page's new filters, or the others, to a past. */
static int
fill_past(struct page *page, struct past *past, bool is_new)
{
	int err = 0;

	for (uint32_t i = 0; i < page->wish_count && err == 0; i++)
		if (page->wishes[i].is_new == is_new)
			err = bus_mailbox_subscribe(
			    past->mbox, page->wishes[i].filter, NULL, NULL, NULL);
	return err;
}

/* New filters have their own start. */
static int
open_starts(struct page *page)
{
	int err = 0;

	for (uint32_t i = 0; i < page->wish_count && err == 0; i++) {
		struct wish *wish = &page->wishes[i];
		struct past *past;

		if (!wish->is_new)
			continue;
		err = open_past(page, page->from, page->from_value, page->from_epoch, &past);
		if (err < 0)
			break;
		past->begins = wish;
		err = bus_mailbox_subscribe(past->mbox, wish->filter, NULL, NULL, NULL);
	}
	return err;
}

/* --- reading them ------------------------------------------------------------------------------------------------------- */

/* The page's mailbox with the next message. NULL: there is none for now, or the page leaves. */
static struct past *
next_past(struct page *page)
{
	/* Read the head first: an empty mailbox has no message up to here. Beyond it, another mailbox's message may not be the
	 * next. */
	uint64_t head = bus_position(page->push->bus);
	struct past *next = NULL;

	for (uint32_t i = 0; i < page->past_count; i++) {
		struct past *past = &page->pasts[i];
		int err = past->msg != NULL ? 1 : bus_recv(past->mbox, 0, &past->msg);

		if (err < 0) {
			bus__page_leave(page);
			return NULL;
		}
		if (err == 0)
			past->msg = NULL;
		else if (next == NULL || past->msg->position < next->msg->position)
			next = past;
	}
	return next != NULL && next->msg->position <= head ? next : NULL;
}

/* The topic's kept value is this one, or older. */
static void
note_just(struct page *page, struct frame *frame)
{
	if (page->kept != KEPT_NONE && frame != NULL &&
	    page->just_count < sizeof page->just / sizeof page->just[0])
		page->just[page->just_count++] = bus__frame_ref(frame);
}

static void
take_past(struct page *page, const struct past *next)
{
	struct bus_push *push = page->push;
	const struct bus_msg *msg = next->msg;
	const struct event_id id = {.epoch = push->epoch, .position = msg->position};
	struct frame *frame;

	for (uint32_t i = 0; i < page->past_count; i++) {
		struct past *past = &page->pasts[i];

		if (past->msg == NULL || past->msg->position != id.position)
			continue;
		if (past->begins != NULL)
			bus__page_mark(page, past->begins); /* before a start there is no loss */
		else if (past->msg->lost > 0)
			bus__page_lose(page, past->msg->lost);
		past->begins = NULL;
		past->msg = NULL; /* valid until the next bus_recv() */
	}
	frame = bus__form_write(page->form, msg, &id, bus__push_hash(push, msg->topic));
	bus__page_put(page, frame, true); /* bus__page_go_on() bounds it: the page is not slow */
	page->behind = id.position;
	page->needs_id = false;
	if (page->wishes[0].sub != NULL)
		note_just(page, frame);
	bus__frame_unref(frame);
}

/* Switches from the past to the present. */
static void
splice(struct page *page)
{
	struct bus_push *push = page->push;
	struct event_id head = bus__push_head(push);
	struct past *past;
	int err = 0;

	/* A filter that has no start in the past begins here. */
	if (page->has_new && page->from == BUS_FROM_NOW) {
		err = open_past(page, BUS_FROM_POSITION, head.position, head.epoch, &past);
		if (err == 0)
			err = fill_past(page, past, true);
	}
	if (err == 0)
		err = bus__page_subscribe(page);
	if (err < 0) {
		bus__page_leave(page);
		return;
	}
	bus__page_mark(page, NULL);
	head = bus__push_head(push);
	/* The page has subscribed, so the shared mailbox has the messages beyond the head. A fast writer cannot keep us here. */
	while (!page->is_gone && (past = next_past(page)) != NULL &&
	       past->msg->position <= head.position)
		take_past(page, past);
	if (page->behind < head.position)
		page->behind = head.position;
	bus__page_close_pasts(page);
	page->is_live = true;
	bus__page_arrive(page, &head);
}

void
bus__page_go_on(struct page *page)
{
	for (unsigned i = 0; i < PAST_MOST; i++) {
		struct past *past;

		/* Fills half of the room, so that a write is large. Room in the socket, or the end of an interval, calls again. */
		if (page->queue.bytes >= page->bound_bytes / 2)
			return;
		past = next_past(page);
		if (past == NULL) {
			if (!page->is_gone)
				splice(page);
			return;
		}
		take_past(page, past);
	}
	bus__reactor_post(page->push->reactor, &page->job);
}

/* --- its begin ----------------------------------------------------------------------------------------------------------- */

/* Whether the page has a start in the past that the log still holds. */
static bool
opens_start(struct page *page, const char **ret_reset)
{
	struct past *past;
	int err;

	if (page->from == BUS_FROM_NOW)
		return false;
	err = open_past(page, page->from, page->from_value, page->from_epoch, &past);
	if (err == 0)
		err = fill_past(page, past, false);
	if (err == 0)
		err = open_starts(page);
	if (err == BUS_E_RESET)
		*ret_reset = "the start is from an earlier run of the bus";
	if (err < 0)
		bus__page_close_pasts(page);
	return err == 0;
}

/* Resumes behind the last id. false: the log no longer holds what follows it. */
static bool
resumes_in_log(struct page *page, const struct event_id *last)
{
	struct past *past;
	int err;

	if (last == NULL || last->epoch != page->push->epoch)
		return false;
	err = open_past(page, BUS_FROM_POSITION, last->position, last->epoch, &past);
	if (err == 0)
		err = fill_past(page, past, false);
	/* The k of an id: the page has had the new filters, too, and adds their past only for others. */
	if (err == 0 && last->more && page->from != BUS_FROM_NOW)
		err = fill_past(page, past, true);
	if (err == 0)
		err = bus_recv(past->mbox, 0, &past->msg);
	if (err == 0)
		past->msg = NULL;
	if (err < 0 || (err == 1 && past->msg->lost > 0)) {
		bus__page_close_pasts(page);
		return false;
	}
	return true;
}

int
bus__page_begin_in_log(struct page *page, const struct event_id *last)
{
	struct bus_push *push = page->push;
	const char *reset = NULL;
	struct event_id head;
	int err;

	if (resumes_in_log(page, last)) {
		err = page->from != BUS_FROM_NOW ? open_starts(page) : 0;
		if (err < 0)
			return err;
		page->kept = bus__page_kept_behind(page, last);
		page->behind = last->position;
		bus__page_greet(page, last, NULL);
		atomic_fetch_add_explicit(&push->tally.resumed, 1, memory_order_relaxed);
		return 0;
	}
	if (last != NULL)
		reset = bus__page_reset(page);
	if (opens_start(page, &reset)) {
		page->kept = KEPT_NONE;
		bus__page_greet(page, NULL, reset);
		return 0;
	}
	page->adds = false;
	head = bus__push_head(push);
	page->behind = head.position; /* the mailbox of all pages may lag behind */
	page->is_live = true;
	err = bus__page_subscribe(page);
	if (err < 0)
		return err;
	head.more = !bus__page_has_kept(page) || page->kept_count > 0;
	bus__page_greet(page, &head, reset);
	head.more = false;
	bus__page_arrive(page, &head);
	return 0;
}
