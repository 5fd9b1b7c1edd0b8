/* The past of a page of a private bus, read from memory.h, which holds every message that the shared mailbox delivered.
 *
 * A page replays the remembered messages, and then subscribes. A publisher that looked for subscriptions before that may still
 * publish without the page's: the page gets that message from its lingering filter, which is older (bus__push_remember()). */
#include "push/begin.h"

/* The start of a page: for the filters that it resumes, or for a new one. */
struct start {
	const struct page *page;
	const struct wish *wish; /* NULL: the resumed ones */
};

static bool
is_of(const struct start *start, const char *topic)
{
	return start->wish != NULL ? bus_filter_covers(start->wish->filter, topic) == 1
				   : bus__page_had(start->page, topic);
}

/* The position behind which the requested past lies. */
static uint64_t
position_of(const struct start *start)
{
	const struct page *page = start->page;
	const struct memory *memory = &page->push->memory;
	uint32_t i = memory->count;
	uint64_t left = page->from_value;

	switch (page->from) {
	case BUS_FROM_OLDEST:
		i = 0;
		break;
	case BUS_FROM_LAST:
		while (i > 0 && left > 0)
			left -= is_of(start, bus__memory_at(memory, --i)->msg->topic);
		break;
	case BUS_FROM_TIME:
		while (i > 0 && bus__memory_at(memory, i - 1)->time_ns >= (int64_t)page->from_value)
			i--;
		break;
	case BUS_FROM_POSITION:
		return page->from_value;
	}
	return i < memory->count ? bus__memory_at(memory, i)->position - 1 : memory->last;
}

/* Gives each filter its start: the page gets its messages from behind that. */
static void
set_starts(struct page *page, const struct event_id *resumed)
{
	uint64_t now = page->push->memory.last;
	uint64_t others =
	    resumed != NULL ? resumed->position : position_of(&(struct start){.page = page});

	for (uint32_t i = 0; i < page->wish_count; i++) {
		struct wish *wish = &page->wishes[i];

		wish->start = wish->had = others;
		wish->follows = resumed != NULL || page->from != BUS_FROM_NOW;
		if (!wish->is_new)
			continue;
		wish->start = wish->had =
		    page->from == BUS_FROM_NOW ? now : position_of(&(struct start){page, wish});
		wish->follows = page->from != BUS_FROM_NOW;
		/* The k of an id: the page has had this filter, too, and adds its past only for others. */
		if (resumed != NULL && resumed->more && wish->follows && others < wish->start)
			wish->had = others;
	}
}

/* A remembered event in the page's form. Pages with the common form share it. The caller owns the reference. */
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

/* Whether a filter of the page wants the event. Marks the filters that begin with it. */
static bool
wants(struct page *page, const struct remembered *event)
{
	bool wanted = false;

	for (uint32_t i = 0; i < page->wish_count; i++) {
		struct wish *wish = &page->wishes[i];

		if (event->position <= wish->had ||
		    bus_filter_covers(wish->filter, event->msg->topic) != 1)
			continue;
		wanted = true;
		if (wish->is_new && event->position > wish->start)
			bus__page_mark(page, wish);
	}
	return wanted;
}

static void
replay(struct page *page)
{
	struct memory *memory = &page->push->memory;

	for (uint32_t i = 0; i < memory->count; i++) {
		struct remembered *event = bus__memory_at(memory, i);
		struct frame *frame;

		if (!wants(page, event))
			continue;
		frame = frame_of(page, event);
		bus__page_put(page, frame, true);
		bus__frame_unref(frame);
	}
	bus__page_mark(page, NULL);
}

static bool
reaches(const struct page *page, const struct event_id *last)
{
	const struct bus_push *push = page->push;

	if (last->epoch != push->epoch)
		return false;
	for (uint32_t i = 0; i < page->wish_count; i++)
		if (!page->wishes[i].is_new &&
		    !bus__memory_reaches(&push->memory, page->wishes[i].filter, last->position))
			return false;
	return true;
}

int
bus__page_begin_in_memory(struct page *page, const struct event_id *last)
{
	struct bus_push *push = page->push;
	struct event_id head = {.epoch = push->epoch};
	const char *reset = NULL;
	bool resumes = false;
	int err;

	bus__push_drain(push, BUS__DRAIN_MOST);
	for (uint32_t i = 0; i < page->wish_count; i++)
		if (!bus__memory_take(push, page->wishes[i].filter, &page->wishes[i]))
			return BUS_E_NOMEM;
	if (last != NULL)
		resumes = reaches(page, last);
	if (last != NULL && !resumes)
		reset = bus__page_reset(page);
	if (resumes) {
		page->kept = bus__page_kept_behind(page, last);
		atomic_fetch_add_explicit(&push->tally.resumed, 1, memory_order_relaxed);
	} else
		page->kept = page->from == BUS_FROM_NOW ? KEPT_ALL : KEPT_NONE;
	set_starts(page, resumes ? last : NULL);
	if (resumes || page->from != BUS_FROM_NOW)
		replay(page);
	head.position = page->behind = push->memory.last;
	page->is_live = true;
	err = bus__page_subscribe(page);
	if (err < 0)
		return err;
	head.more = (!bus__page_has_kept(page) || page->kept_count > 0) && !resumes;
	/* With an id behind its past, a page that breaks off in the past would skip the rest. */
	bus__page_greet(page, resumes ? last : page->kept == KEPT_NONE ? NULL : &head, reset);
	head.more = false;
	bus__page_arrive(page, &head);
	return 0;
}
