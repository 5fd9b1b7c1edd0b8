/* Wakes the reactor's thread for the mailbox, heartbeats and the ends of intervals. */
#define _GNU_SOURCE
#include <stddef.h>

#include "base/clock.h"
#include "push/state.h"

enum {
	BATCH = 256,   /* messages, before sockets are served */
	BEAT_PARTS = 8 /* heartbeats due within this fraction of the interval are sent together */
};

void
bus__push_ready(struct bus__source *source, uint32_t events)
{
	struct bus_push *push =
	    (struct bus_push *)((char *)source - offsetof(struct bus_push, source));

	(void)events;
	bus__push_drain(push, BATCH); /* level-triggered: the rest wakes us again */
	bus__pages_send(push);
}

void
bus__push_beat(struct bus__alarm *alarm)
{
	struct bus_push *push =
	    (struct bus_push *)((char *)alarm - offsetof(struct bus_push, beat_alarm));
	int64_t until_ns = bus__now_ns() + (int64_t)push->heartbeat_ms * NS_PER_MS / BEAT_PARTS;
	struct text with_id = {.at = NULL}, without = {.at = NULL};
	struct frame *frames[2] = {NULL, NULL};
	struct page *page = push->first_beat;
	struct event_id head;
	bool is_through, has_all;

	if (page == NULL)
		return;
	if (page->beat_due_ns > bus__now_ns()) {
		bus__alarm_set(push->reactor, alarm, page->beat_due_ns);
		return;
	}
	head = bus__push_head(push);
	is_through = bus__push_drain(push, BATCH);
	if (!push->has_log)
		head.position = push->memory.last;
	bus__sse_beat(&with_id, is_through ? &head : NULL, push->heartbeat_ms, 0);
	bus__sse_beat(&without, NULL, push->heartbeat_ms, 0);
	frames[1] = bus__frame_new(&with_id, NULL, 0);
	frames[0] = bus__frame_new(&without, NULL, 0);
	while ((page = push->first_beat) != NULL && page->beat_due_ns <= until_ns) {
		bus__page_beat_later(page);
		/* Events that wait for the socket are as good a sign of life; events that wait for an answer are none. */
		has_all = page->is_live && !page->arrives;
		if (page->queue.count == 0 && page->sending == NULL && frames[has_all] != NULL)
			bus__page_put(page, frames[has_all], false);
		else if (frames[0] != NULL && bus__page_waits_for_answer(page)) {
			page->sending = bus__frame_ref(frames[0]);
			bus__page_touch(page);
		}
	}
	bus__frame_unref(frames[0]);
	bus__frame_unref(frames[1]);
	if (push->first_beat != NULL)
		bus__alarm_set(push->reactor, alarm, push->first_beat->beat_due_ns);
	bus__pages_send(push);
}

void
bus__push_cap(struct bus__alarm *alarm)
{
	struct bus_push *push =
	    (struct bus_push *)((char *)alarm - offsetof(struct bus_push, cap_alarm));
	struct page *page = push->capped, *next;

	push->capped = NULL;
	for (; page != NULL; page = next) {
		next = page->next_capped;
		page->is_capped = false;
		bus__page_touch(page); /* a page whose interval has not ended returns to the list */
	}
	bus__pages_send(push);
}
