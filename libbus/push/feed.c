/* Moves messages from the mailbox of all pages to the queues of the pages that want them. */
#include <string.h>

#include "base/siphash.h"
#include "push/state.h"

uint64_t
bus__push_hash(const struct bus_push *push, const char *topic)
{
	return bus__siphash(push->key, topic, strlen(topic));
}

struct event_id
bus__push_head(struct bus_push *push)
{
	return (struct event_id){.epoch = push->epoch,
	    .position = push->has_log ? bus_position(push->bus) : push->memory.last};
}

/* Once for each message, in the first of its subscriptions. */
static void
begin(struct bus_push *push, const struct bus_msg *msg)
{
	if (push->begun == push->serial)
		return;
	push->begun = push->serial;
	bus__forms_clear(push->forms);
	push->now_hash = bus__push_hash(push, msg->topic);
	if (!push->has_log && msg->lost > 0)
		bus__memory_break(&push->memory);
	push->now_id = (struct event_id){.epoch = push->epoch, .position = msg->position};
	if (!push->has_log && (msg->flags & BUS_MSG_KEPT) == 0) {
		bus__memory_add(&push->memory, msg);
		push->now_id.position = push->memory.last;
	}
	/* The lost messages may be of any topic, so every page counts them. */
	if (msg->lost > 0)
		for (struct page *page = push->first_beat; page != NULL; page = page->next_beat)
			if (page->is_live)
				bus__page_lose(page, msg->lost);
}

bool
bus__page_just_got(const struct page *page, const char *topic, uint64_t hash)
{
	for (unsigned i = 0; i < page->just_count; i++)
		if (page->just[i]->hash == hash && strcmp(page->just[i]->topic, topic) == 0)
			return true;
	return false;
}

bool
bus__page_had(const struct page *page, const char *topic)
{
	for (uint32_t i = 0; i < page->wish_count; i++)
		if (!page->wishes[i].is_new &&
		    bus_filter_covers(page->wishes[i].filter, topic) == 1)
			return true;
	return false;
}

static bool
takes(const struct page *page, const struct wish *wish, const struct bus_msg *msg)
{
	const struct bus_push *push = page->push;

	if ((msg->flags & BUS_MSG_KEPT) == 0)
		return page->is_live && push->now_id.position > page->behind;
	return (page->kept == KEPT_ALL || (page->kept == KEPT_OF_NEW && wish->is_new)) &&
	       !bus__page_just_got(page, msg->topic, push->now_hash);
}

void
bus__push_message(void *arg, const struct bus_msg *msg)
{
	struct wish *wish = arg;
	struct page *page = wish->page;
	struct bus_push *push = page->push;

	begin(push, msg);
	if (page->is_gone || page->serial == push->serial || !takes(page, wish, msg))
		return;
	page->serial = push->serial;
	if ((msg->flags & BUS_MSG_KEPT) != 0) {
		struct frame *frame = bus__form_write(page->form, msg, NULL, push->now_hash);

		page->kept_count++;
		bus__page_put(page, frame, true);
		bus__frame_unref(frame);
	} else {
		page->newest = push->now_id.position;
		bus__page_put(
		    page, bus__form_frame(page->form, msg, &push->now_id, push->now_hash), false);
	}
}

void
bus__push_remember(void *arg, const struct bus_msg *msg)
{
	struct lingering *linger = arg;

	begin(linger->push, msg);
	for (struct wish *wish = linger->wishes; wish != NULL; wish = wish->next)
		if (wish->follows && (msg->flags & BUS_MSG_KEPT) == 0)
			bus__push_message(wish, msg);
}

/* The bus has closed, or its log is damaged. Pages reconnect, perhaps to a process where it works. */
static void
end(struct bus_push *push)
{
	push->ended = true;
	bus__reactor_unwatch(push->reactor, &push->source);
	for (struct page *page = push->first_beat; page != NULL; page = page->next_beat)
		bus__page_finish(page);
}

bool
bus__push_drain(struct bus_push *push, unsigned most)
{
	int count = 1;

	while (count > 0 && most-- > 0 && !push->ended) {
		push->serial++;
		count = bus_dispatch(push->mbox, 0, 1);
	}
	bus__forms_clear(push->forms);
	if (count < 0 && !push->ended)
		end(push);
	return count <= 0;
}
