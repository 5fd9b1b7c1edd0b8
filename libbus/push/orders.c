/* Calls from other threads: answers, ends, counters. */
#include <string.h>

#include "base/error_text.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/sized.h"
#include "push/state.h"

static struct page *
find(const struct bus_push *push, uint64_t number)
{
	struct page *page = NULL;

	if (push->table_size > 0)
		page = push->table[number & (push->table_size - 1)];
	while (page != NULL && page->number != number)
		page = page->next_same;
	return page;
}

int
bus__push_enter(const struct bus_push *push)
{
	if (push == NULL)
		return BUS_E_INVAL;
	return push->fork_generation == bus__fork_generation() ? 0 : BUS_E_FORKED;
}

struct order {
	struct bus__job job;
	struct bus_push *push;
	uint64_t page;
	bool may;
	char *message; /* or NULL; behind topic */
	char topic[];
};

static void
run_answer(struct bus__job *job)
{
	struct order *order = (struct order *)job;
	struct bus_push *push = order->push;
	struct page *page = find(push, order->page);
	enum verdict *verdict = NULL;

	if (page != NULL)
		verdict =
		    bus__verdict(&page->verdicts, order->topic, bus__push_hash(push, order->topic));
	if (verdict != NULL) {
		enum verdict before = *verdict;

		*verdict = order->may ? VERDICT_YES : VERDICT_NO;
		if (!order->may && before != VERDICT_NO) {
			struct text text = {.at = NULL};

			bus__sse_notice(
			    &text, NULL, "denied", "topic", order->topic, order->message);
			bus__page_put_text(page, &text);
		}
		bus__page_touch(page);
		bus__pages_send(push);
	}
	bus__free(order);
}

static void
run_remove(struct bus__job *job)
{
	struct order *order = (struct order *)job;
	struct page *page = find(order->push, order->page);

	if (page != NULL) {
		page->interval_ms = 0;
		page->is_ending = true;
		bus__page_touch(page);
		bus__pages_send(order->push);
		page = find(order->push, order->page);
	}
	if (page != NULL) {
		bus__page_leave(page);
		bus__pages_send(order->push);
	}
	bus__free(order);
}

static int
post(struct bus_push *push, void (*run)(struct bus__job *job), uint64_t page, const char *topic,
    bool may, const char *message)
{
	size_t topic_size = strlen(topic) + 1, size = message != NULL ? strlen(message) + 1 : 0;
	struct order *order = bus__calloc(1, sizeof *order + topic_size + size);

	if (order == NULL)
		return BUS_E_NOMEM;
	order->job.run = run;
	order->push = push;
	order->page = page;
	order->may = may;
	memcpy(order->topic, topic, topic_size);
	if (message != NULL)
		order->message = memcpy(order->topic + topic_size, message, size);
	bus__reactor_post(push->reactor, &order->job);
	return 0;
}

int
bus_push_answer(
    struct bus_push *push, uint64_t page, const char *topic, bool may, const char *message)
{
	int err = topic == NULL ? BUS_E_INVAL : bus__push_enter(push);

	return bus__answer(err < 0 ? err : post(push, run_answer, page, topic, may, message));
}

int
bus_push_remove(struct bus_push *push, uint64_t page)
{
	int err = bus__push_enter(push);

	return bus__answer(err < 0 ? err : post(push, run_remove, page, "", false, NULL));
}

/* --- counters --------------------------------------------------------------------------------------------------------------------- */

static uint64_t
read_counter(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

int
bus_push_stats(struct bus_push *push, struct bus_push_stats *ret_stats)
{
	struct bus_push_stats stats = {.size = sizeof stats};
	int err = ret_stats == NULL ? BUS_E_INVAL : bus__push_enter(push);

	if (err < 0)
		return bus__answer(err);
	err = bus__sized_check(&bus__sized[SIZED_PUSH_STATS], ret_stats->size);
	if (err < 0)
		return err;
	stats.pages = atomic_load_explicit(&push->page_count, memory_order_relaxed);
	stats.pages_most = push->max_pages;
	stats.opened = read_counter(&push->tally.opened);
	stats.events = read_counter(&push->tally.events);
	stats.bytes = read_counter(&push->tally.bytes);
	stats.lost = read_counter(&push->tally.lost);
	stats.replaced = read_counter(&push->tally.replaced);
	stats.denied = read_counter(&push->tally.denied);
	stats.unsent = read_counter(&push->tally.unsent);
	stats.resumed = read_counter(&push->tally.resumed);
	stats.reset = read_counter(&push->tally.reset);
	stats.waiting_bytes = read_counter(&push->waiting_bytes);
	bus__sized_write(&bus__sized[SIZED_PUSH_STATS], &stats, ret_stats);
	return 0;
}

struct looking {
	struct bus_push *push;
	uint64_t number;
	struct bus_push_stats stats;
	bool found;
};

static void
look_at(void *arg)
{
	struct looking *looking = arg;
	const struct page *page = find(looking->push, looking->number);

	looking->found = page != NULL;
	if (page == NULL)
		return;
	looking->stats = (struct bus_push_stats){.size = sizeof looking->stats,
	    .pages = 1,
	    .pages_most = 1,
	    .opened = 1,
	    .events = page->events,
	    .bytes = page->bytes,
	    .lost = page->lost_in_all,
	    .replaced = page->replaced,
	    .denied = page->denied,
	    .waiting_bytes = page->queue.bytes};
}

int
bus_push_page_stats(struct bus_push *push, uint64_t page, struct bus_push_stats *ret_stats)
{
	struct looking looking = {.push = push, .number = page};
	int err = ret_stats == NULL ? BUS_E_INVAL : bus__push_enter(push);

	if (err == 0 && bus__reactor_is_here(push->reactor))
		err = BUS_E_STATE;
	if (err < 0)
		return bus__answer(err);
	err = bus__sized_check(&bus__sized[SIZED_PUSH_STATS], ret_stats->size);
	if (err < 0)
		return err;
	bus__reactor_call(push->reactor, look_at, &looking);
	if (looking.found)
		bus__sized_write(&bus__sized[SIZED_PUSH_STATS], &looking.stats, ret_stats);
	return looking.found;
}
