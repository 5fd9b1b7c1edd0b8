/* The begin of a page.
 *
 * A page without a past subscribes at once: it gets kept values, then new messages. Every other page first gets its past, each
 * filter from its own start: a filter from before the last id behind that id; one added with `.from` from there; one added
 * without, from now. Messages follow in the order of their positions, whichever filter they are for, so an id tells how far all
 * filters have got. The event `begin` marks the first message of a new filter, and `live` the point where it has all. The pasts
 * are read in past_log.c and past_memory.c. */
#include "push/begin.h"

#include <sys/epoll.h>

#include "base/mem.h"
#include "mailbox/mailbox.h"

/* --- its first events -------------------------------------------------------------------------------------------------- */

void
bus__page_greet(struct page *page, const struct event_id *id, const char *reset)
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

const char *
bus__page_reset(struct page *page)
{
	for (uint32_t i = 0; i < page->wish_count; i++)
		page->wishes[i].is_new = false;
	if (page->has_new)
		page->from = BUS_FROM_NOW;
	page->has_new = page->adds = false;
	atomic_fetch_add_explicit(&page->push->tally.reset, 1, memory_order_relaxed);
	return "the messages after the last id are gone, or the id is from an earlier run of the bus";
}

/* --- from its past to the present -------------------------------------------------------------------------------------------- */

static void
put(struct page *page, struct text *text)
{
	struct frame *frame = bus__frame_new(text, NULL, 0);

	bus__page_put(page, frame, true);
	bus__frame_unref(frame);
}

void
bus__page_mark(struct page *page, struct wish *wish)
{
	struct text text = {.at = NULL};

	if (!page->adds || (wish != NULL && wish->has_begun))
		return;
	if (wish != NULL) {
		bus__sse_notice(&text, NULL, "begin", "filter", wish->filter, NULL);
		wish->has_begun = true;
	} else
		bus__sse_mark(&text, NULL, "begin");
	for (uint32_t i = 0; i < page->wish_count && wish == NULL; i++)
		page->wishes[i].has_begun = true;
	put(page, &text);
}

bool
bus__page_has_kept(struct page *page)
{
	bus__push_drain(page->push, BUS__DRAIN_MOST);
	return page->push->ended || /* no more messages arrive */
	       bus__mailbox_is_through(page->push->mbox, page->kept_place);
}

void
bus__page_arrive(struct page *page, const struct event_id *id)
{
	struct text text = {.at = NULL};

	page->arrival = *id;
	page->arrives = page->kept != KEPT_NONE && !bus__page_has_kept(page);
	if (page->arrives) {
		bus__reactor_post(page->push->reactor, &page->job);
		return;
	}
	if (page->newest > id->position)
		id = NULL; /* the page has had a later one */
	for (; page->just_count > 0; page->just_count--)
		bus__frame_unref(page->just[page->just_count - 1]);
	if (page->adds)
		bus__sse_mark(&text, id, "live");
	else if (page->needs_id && id != NULL)
		bus__sse_beat(&text, id, page->push->heartbeat_ms, 0);
	else
		return;
	page->needs_id = false;
	put(page, &text);
}

int
bus__page_subscribe(struct page *page)
{
	int err = 0;

	for (uint32_t i = 0; i < page->wish_count && err == 0; i++) {
		struct wish *wish = &page->wishes[i];

		err = bus_mailbox_subscribe(
		    page->push->mbox, wish->filter, bus__push_message, wish, &wish->sub);
	}
	page->kept_place = bus__mailbox_place(page->push->mbox);
	return err;
}

enum kept_wish
bus__page_kept_behind(const struct page *page, const struct event_id *last)
{
	if (page->has_new && page->from != BUS_FROM_NOW)
		return KEPT_NONE; /* it gets its past instead */
	return last->more ? KEPT_ALL : KEPT_OF_NEW;
}

int
bus__page_begin(struct page *page)
{
	struct bus_push *push = page->push;
	struct event_id last;
	bool has_id = page->last_id != NULL && bus__id_read(page->last_id, &last);
	int err;

	for (uint32_t i = 0; i < page->wish_count; i++) {
		page->wishes[i].is_new &= has_id || page->from != BUS_FROM_NOW;
		page->has_new |= page->wishes[i].is_new;
	}
	page->adds = page->has_new || (has_id && last.more);
	page->form = bus__form_get(&push->forms, page->raw, page->event);
	if (page->form == NULL)
		return BUS_E_NOMEM;
	err = bus__reactor_watch(push->reactor, &page->source, EPOLLRDHUP);
	if (err == 0)
		err = (push->has_log ? bus__page_begin_in_log : bus__page_begin_in_memory)(
		    page, has_id ? &last : NULL);
	if (err == 0 && page->pasts != NULL && !page->is_gone)
		bus__page_go_on(page);
	return err;
}
