/* A page: the queue of its events and its socket. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "push/state.h"

#define ADD(counter, n) atomic_fetch_add_explicit(&(counter), n, memory_order_relaxed)

enum {
	IOV_MOST = 64,               /* events in one system call */
	KEPT_MOST = 8 * 1024 * 1024, /* bytes of kept values waiting for a page */
};

/* --- the queue --------------------------------------------------------------------------------------------------------- */

void
bus__page_touch(struct page *page)
{
	struct bus_push *push = page->push;

	if (page->is_touched)
		return;
	page->is_touched = true;
	page->next_touched = push->touched;
	push->touched = page;
}

void
bus__page_leave(struct page *page)
{
	page->is_gone = true;
	bus__page_touch(page);
}

void
bus__page_lose(struct page *page, uint64_t count)
{
	page->lost += count;
	page->lost_in_all += count;
	ADD(page->push->tally.lost, count);
	bus__page_touch(page);
}

static void
count_waiting(struct page *page, uint64_t before)
{
	ADD(page->push->waiting_bytes,
	    page->queue.bytes - before); /* wraps back if there are fewer */
}

void
bus__page_put(struct page *page, struct frame *frame, bool is_kept)
{
	uint64_t before = page->queue.bytes;

	if (frame == NULL) { /* out of memory */
		bus__page_lose(page, 1);
		return;
	}
	if (page->queue.count == 0)
		page->most = page->bound_bytes;
	if (is_kept && page->queue.bytes < KEPT_MOST)
		page->most = page->queue.bytes + frame->cost + page->bound_bytes;
	if (page->full == BUS_FULL_LATEST && frame->topic != NULL &&
	    bus__queue_drop(&page->queue, frame)) {
		page->replaced++;
		ADD(page->push->tally.replaced, 1);
	}
	while (page->queue.count > 0 && page->queue.bytes + frame->cost > page->most) {
		if (page->full == BUS_FULL_REFUSE && !is_kept) {
			bus__page_leave(page);
			break;
		}
		bus__frame_unref(bus__queue_take(&page->queue));
		bus__page_lose(page, 1);
	}
	if (!bus__queue_add(&page->queue, frame))
		bus__page_lose(page, 1);
	count_waiting(page, before);
	bus__page_touch(page);
}

void
bus__page_put_text(struct page *page, struct text *text)
{
	struct frame *frame = bus__frame_new(text, NULL, 0);

	bus__page_put(page, frame, false);
	bus__frame_unref(frame);
}

/* Spreads the reconnects of browsers, which would otherwise meet a just restarted server all at once. */
static uint32_t
spread(const struct bus_push *push, uint64_t number)
{
	uint64_t hash = bus__siphash(push->key, &number, sizeof number);

	return push->retry_ms + (uint32_t)(hash % (2 * (uint64_t)push->retry_ms));
}

void
bus__page_finish(struct page *page)
{
	struct text text = {.at = NULL};

	if (page->is_ending)
		return;
	bus__sse_end(&text, spread(page->push, page->number));
	page->interval_ms = 0;
	page->is_ending = true;
	bus__page_put_text(page, &text);
}

/* --- heartbeats ----------------------------------------------------------------------------------------------------------- */

static void
unlist_beat(struct page *page)
{
	struct bus_push *push = page->push;

	*(page->prev_beat != NULL ? &page->prev_beat->next_beat : &push->first_beat) =
	    page->next_beat;
	*(page->next_beat != NULL ? &page->next_beat->prev_beat : &push->last_beat) =
	    page->prev_beat;
}

static void
list_beat(struct page *page)
{
	struct bus_push *push = page->push;

	page->prev_beat = push->last_beat;
	page->next_beat = NULL;
	*(push->last_beat != NULL ? &push->last_beat->next_beat : &push->first_beat) = page;
	push->last_beat = page;
	page->beat_due_ns = bus__now_ns() + push->heartbeat_ms * NS_PER_MS;
	if (!push->beat_alarm.set)
		bus__alarm_set(push->reactor, &push->beat_alarm, page->beat_due_ns);
}

void
bus__page_beat_later(struct page *page)
{
	if (page->beat_due_ns != 0)
		unlist_beat(page);
	list_beat(page);
}

/* --- verdicts on topics ---------------------------------------------------------------------------------------------------- */

static enum verdict
verdict(struct page *page, const struct frame *frame)
{
	enum verdict *at;

	if (!page->asks || frame->topic == NULL)
		return VERDICT_YES;
	at = bus__verdict(&page->verdicts, frame->topic, frame->hash);
	if (at == NULL)
		return VERDICT_NO;
	if (page->is_ending && *at != VERDICT_YES)
		return VERDICT_NO; /* the answer would be too late */
	if (*at == VERDICT_NEW) {
		*at = VERDICT_ASKED;
		page->push->ask(page->push->arg, page->number, frame->topic);
	}
	return *at;
}

bool
bus__page_waits_for_answer(struct page *page)
{
	return page->sending == NULL && page->queue.count > 0 &&
	       verdict(page, bus__queue_at(&page->queue, 0)) == VERDICT_ASKED;
}

static void
drop_denied(struct page *page)
{
	while (
	    page->queue.count > 0 && verdict(page, bus__queue_at(&page->queue, 0)) == VERDICT_NO) {
		bus__frame_unref(bus__queue_take(&page->queue));
		page->denied++;
		ADD(page->push->tally.denied, 1);
	}
}

/* --- sending -------------------------------------------------------------------------------------------------------------- */

static void
ask_for_room(struct page *page, bool wants_room)
{
	if (page->wants_room == wants_room)
		return;
	page->wants_room = wants_room;
	bus__reactor_rewatch(
	    page->push->reactor, &page->source, EPOLLRDHUP | (wants_room ? EPOLLOUT : 0u));
}

static void
count_sent(struct page *page, const struct frame *frame)
{
	if (frame->topic == NULL)
		return;
	page->events++;
	ADD(page->push->tally.events, 1);
}

static unsigned
gather(struct page *page, struct iovec iov[IOV_MOST], size_t *ret_len)
{
	unsigned count = 0;

	if (page->sending == NULL && page->lost > 0) {
		struct text text = {.at = NULL};

		bus__sse_gap(&text, page->lost);
		page->sending = bus__frame_new(&text, NULL, 0);
		if (page->sending != NULL)
			page->lost = 0;
	}
	*ret_len = 0;
	if (page->sending != NULL) {
		iov[count++] = (struct iovec){.iov_base = page->sending->bytes + page->sent,
		    .iov_len = page->sending->len - page->sent};
		*ret_len += page->sending->len - page->sent;
	}
	/* A gap lies before the queue's events. */
	for (uint32_t i = 0; page->lost == 0 && count < IOV_MOST && i < page->queue.count; i++) {
		struct frame *frame = bus__queue_at(&page->queue, i);

		if (verdict(page, frame) != VERDICT_YES)
			break;
		iov[count++] = (struct iovec){.iov_base = frame->bytes, .iov_len = frame->len};
		*ret_len += frame->len;
	}
	return count;
}

/* Takes out what the socket has taken. */
static void
advance(struct page *page, size_t sent)
{
	page->bytes += sent;
	ADD(page->push->tally.bytes, sent);
	while (sent > 0) {
		size_t left;

		if (page->sending == NULL) {
			page->sending = bus__queue_take(&page->queue);
			page->sent = 0;
		}
		left = page->sending->len - page->sent;
		if (sent < left) {
			page->sent += (uint32_t)sent;
			return;
		}
		sent -= left;
		count_sent(page, page->sending);
		bus__frame_unref(page->sending);
		page->sending = NULL;
		page->sent = 0;
	}
}

static void
send_waiting(struct page *page)
{
	struct iovec iov[IOV_MOST];
	uint64_t before = page->queue.bytes;
	bool wants_room = false;

	for (;;) {
		struct msghdr message = {.msg_iov = iov};
		size_t len;
		ssize_t sent;

		drop_denied(page);
		message.msg_iovlen = gather(page, iov, &len);
		if (message.msg_iovlen == 0)
			break;
		sent = sendmsg(page->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
			bus__page_leave(page);
			break;
		}
		if (sent > 0) {
			advance(page, (size_t)sent);
			bus__page_beat_later(page);
		}
		wants_room = sent < (ssize_t)len;
		if (wants_room)
			break;
	}
	count_waiting(page, before);
	if (!page->is_gone)
		ask_for_room(page, wants_room);
}

static void
wait_for_interval(struct page *page)
{
	struct bus_push *push = page->push;

	if (!page->is_capped) {
		page->is_capped = true;
		page->next_capped = push->capped;
		push->capped = page;
	}
	if (!push->cap_alarm.set || page->write_due_ns < push->cap_alarm.due_ns)
		bus__alarm_set(push->reactor, &push->cap_alarm, page->write_due_ns);
}

static bool
has_something(const struct page *page)
{
	return page->sending != NULL || page->queue.count > 0 || page->lost > 0;
}

static void
send_page(struct page *page, int64_t now_ns)
{
	if (page->interval_ms != 0 && now_ns < page->write_due_ns && page->sent == 0) {
		ask_for_room(page, false); /* the page does not wait for room in the socket */
		if (has_something(page))
			wait_for_interval(page);
		return;
	}
	if (!has_something(page)) {
		ask_for_room(page, false);
	} else {
		page->write_due_ns = now_ns + page->interval_ms * NS_PER_MS;
		send_waiting(page);
	}
	if (page->is_ending && !has_something(page))
		bus__page_leave(page);
	if (page->pasts != NULL && !page->is_gone && !page->wants_room && !page->job.posted)
		bus__page_go_on(page);
}

/* --- its end --------------------------------------------------------------------------------------------------------------- */

static void
uncap(struct page *page)
{
	struct page **at = &page->push->capped;

	while (page->is_capped && *at != page)
		at = &(*at)->next_capped;
	if (page->is_capped)
		*at = page->next_capped;
}

static void
untable(struct page *page)
{
	struct bus_push *push = page->push;
	struct page **at = &push->table[page->number & (push->table_size - 1)];

	while (*at != page)
		at = &(*at)->next_same;
	*at = page->next_same;
	push->table_count--;
}

void
bus__page_free(struct page *page)
{
	for (unsigned i = 0; i < page->just_count; i++)
		bus__frame_unref(page->just[i]);
	for (uint32_t i = 0; i < page->wish_count; i++)
		bus__free(page->wishes[i].filter);
	bus__queue_clear(&page->queue);
	bus__frame_unref(page->sending);
	bus__verdicts_free(&page->verdicts);
	bus__free(page->event);
	bus__free(page->last_id);
	bus__free(page->head);
	bus__free(page);
}

static void
count_unsent(struct page *page)
{
	uint64_t unsent = page->sending != NULL && page->sending->topic != NULL;

	for (uint32_t i = 0; i < page->queue.count; i++)
		unsent += bus__queue_at(&page->queue, i)->topic != NULL;
	ADD(page->push->tally.unsent, unsent);
}

/* Closes the socket and frees the page. */
static void
end_page(struct page *page)
{
	struct bus_push *push = page->push;
	uint64_t number = page->number, before = page->queue.bytes;
	bool was_open = page->source.fd >= 0; /* else it never began */

	count_unsent(page);
	for (uint32_t i = 0; i < page->wish_count; i++) {
		bus_unsubscribe(page->wishes[i].sub, NULL);
		bus__memory_give(&page->wishes[i]);
	}
	bus__page_close_pasts(page);
	bus__reactor_unpost(push->reactor, &page->job);
	if (was_open) {
		bus__reactor_unwatch(push->reactor, &page->source);
		/* Ends the connection, not only this descriptor: a forked child may have one, too. */
		shutdown(page->source.fd, SHUT_RDWR);
		bus__fd_close(page->source.fd);
	}
	unlist_beat(page);
	uncap(page);
	untable(page);
	if (page->form != NULL)
		bus__form_put(&push->forms, page->form);
	bus__queue_clear(&page->queue);
	count_waiting(page, before);
	bus__page_free(page);
	atomic_fetch_sub_explicit(&push->page_count, 1, memory_order_relaxed);
	if (push->left != NULL && was_open)
		push->left(push->arg, number);
	if (push->closing)
		bus__push_note_empty(push);
}

void
bus__pages_send(struct bus_push *push)
{
	int64_t now_ns = bus__now_ns();
	struct page *page;

	/* Sending to one page, or its past, may touch others. */
	while ((page = push->touched) != NULL) {
		push->touched = page->next_touched;
		page->is_touched = false;
		if (!page->is_gone)
			send_page(page, now_ns);
		if (page->is_gone && !page->is_touched)
			end_page(page);
	}
}
