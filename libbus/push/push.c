/* The pages of a bus, from open to close. */
#define _GNU_SOURCE
#include <libbus/push.h>

#include <limits.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/error_text.h"
#include "base/fork.h"
#include "base/mem.h"
#include "base/park.h"
#include "base/random.h"
#include "base/sized.h"
#include "mailbox/host.h"
#include "push/state.h"

enum {
	DEFAULT_HEARTBEAT_MS = 15000,
	LEAST_HEARTBEAT_MS = 100,
	MOST_HEARTBEAT_MS = 3600000,
	DEFAULT_RETRY_MS = 2000,
	DEFAULT_PAGES = 10000,
	DEFAULT_HISTORY = 1000,
	MOST_HISTORY = 1000000,
	MAILBOX_BYTES = 4 * 1024 * 1024,
};

static void
close_now(void *arg)
{
	struct bus_push *push = arg;

	for (struct page *page = push->first_beat; page != NULL; page = page->next_beat)
		bus__page_leave(page);
	bus__pages_send(push);
	bus__alarm_stop(push->reactor, &push->beat_alarm);
	bus__alarm_stop(push->reactor, &push->cap_alarm);
	if (!push->ended)
		bus__reactor_unwatch(push->reactor, &push->source);
	bus__memory_free(&push->memory);
}

struct opening {
	struct bus_push *push;
	const struct bus_push_config *cfg;
	int err;
};

static void
start(void *arg)
{
	struct opening *opening = arg;
	struct bus_push *push = opening->push;

	opening->err = bus__reactor_watch(push->reactor, &push->source, EPOLLIN);
	for (size_t i = 0; i < opening->cfg->remember_count && opening->err == 0; i++)
		if (!push->has_log && !bus__memory_take(push, opening->cfg->remember[i], NULL))
			opening->err = BUS_E_NOMEM;
}

static int
open_mailbox(struct bus_push *push)
{
	struct bus_mailbox_config cfg = {.size = sizeof cfg,
	    .full = BUS_FULL_DROP_OLDEST,
	    .drain = BUS_DRAIN_CALLER,
	    .bytes = push->has_log ? 0 : MAILBOX_BYTES};
	int err = bus_mailbox_open(push->bus, &cfg, &push->mbox);

	if (err < 0)
		return err;
	err = bus_mailbox_fd(push->mbox);
	push->source = (struct bus__source){.fd = err, .ready = bus__push_ready};
	if (err < 0)
		bus_mailbox_close(push->mbox);
	return err < 0 ? err : 0;
}

static int
check_push(const struct bus_push_config *cfg)
{
	if (cfg->heartbeat_ms != 0 &&
	    (cfg->heartbeat_ms < LEAST_HEARTBEAT_MS || cfg->heartbeat_ms > MOST_HEARTBEAT_MS))
		return bus__fail(BUS_E_INVAL, "heartbeat_ms: from %d to %d, not %u",
		    LEAST_HEARTBEAT_MS, MOST_HEARTBEAT_MS, cfg->heartbeat_ms);
	if (cfg->history > MOST_HISTORY)
		return bus__fail(
		    BUS_E_INVAL, "history: at most %d events, not %u", MOST_HISTORY, cfg->history);
	for (size_t i = 0; i < cfg->remember_count; i++) {
		int err = bus_filter_check(cfg->remember != NULL ? cfg->remember[i] : NULL);

		if (err < 0)
			return err;
	}
	return 0;
}

static int
push_open(struct bus *bus, const struct bus_push_config *cfg, struct bus_push **ret_push)
{
	static const struct bus_push_config defaults = {.size = sizeof defaults};
	struct bus_push *push;
	struct opening opening;
	int err = ret_push == NULL ? BUS_E_INVAL : bus__enter(bus);

	if (err < 0)
		return bus__answer(err);
	if (cfg == NULL)
		cfg = &defaults;
	err = check_push(cfg);
	if (err < 0)
		return err;
	push = bus__calloc(1, sizeof *push);
	if (push == NULL)
		return bus__answer(BUS_E_NOMEM);
	push->bus = bus__ref(bus);
	push->fork_generation = bus__fork_generation();
	push->heartbeat_ms = cfg->heartbeat_ms != 0 ? cfg->heartbeat_ms : DEFAULT_HEARTBEAT_MS;
	push->retry_ms = cfg->retry_ms != 0 ? cfg->retry_ms : DEFAULT_RETRY_MS;
	push->max_pages = cfg->max_pages != 0 ? cfg->max_pages : DEFAULT_PAGES;
	push->memory.cap = cfg->history != 0 ? cfg->history : DEFAULT_HISTORY;
	push->ask = cfg->ask;
	push->left = cfg->left;
	push->arg = cfg->arg;
	push->beat_alarm.ring = bus__push_beat;
	push->cap_alarm.ring = bus__push_cap;
	push->epoch = bus_epoch(bus);
	push->has_log = push->epoch != 0;
	err = bus__random(push->key, sizeof push->key);
	if (err == 0 && !push->has_log)
		err = bus__random(&push->epoch, sizeof push->epoch);
	if (err < 0)
		goto unref_bus;
	err = bus__reactor_take(&push->reactor);
	if (err < 0)
		goto unref_bus;
	err = open_mailbox(push);
	if (err < 0)
		goto give_reactor;
	opening = (struct opening){.push = push, .cfg = cfg};
	bus__reactor_call(push->reactor, start, &opening);
	err = opening.err;
	if (err < 0)
		goto close_mailbox;
	*ret_push = push;
	return 0;

close_mailbox:
	bus__reactor_call(push->reactor, close_now, push);
	bus_mailbox_close(push->mbox);
give_reactor:
	bus__reactor_give(push->reactor);
unref_bus:
	bus__unref(bus);
	bus__free(push);
	return bus__answer(err);
}

int
bus_push_open(struct bus *bus, const struct bus_push_config *cfg, struct bus_push **ret_push)
{
	struct bus_push_config room;
	int err = BUS__SIZED_IN(SIZED_PUSH_CONFIG, cfg, &room);

	return err < 0 ? err : push_open(bus, cfg, ret_push);
}

/* --- its end -------------------------------------------------------------------------------------------------------------------------- */

void
bus__push_note_empty(struct bus_push *push)
{
	if (push->first_beat != NULL)
		return;
	/* Release: pairs with the acquire of bus_push_close(). */
	atomic_store_explicit(&push->empty, 1, memory_order_release);
	bus__unpark(&push->empty);
}

static void
begin_closing(void *arg)
{
	struct bus_push *push = arg;

	push->closing = true;
	for (struct page *page = push->first_beat; page != NULL; page = page->next_beat)
		bus__page_finish(page);
	bus__pages_send(push);
	bus__push_note_empty(push);
}

int
bus_push_close(struct bus_push *push, int timeout_ms)
{
	int64_t deadline_ns = bus__deadline_ns(timeout_ms);
	uint32_t pages;

	/* In a forked child the pages are the parent's, and their memory may be half changed. */
	if (push == NULL || push->fork_generation != bus__fork_generation())
		return 0;
	if (bus__reactor_is_here(push->reactor))
		return bus__answer(BUS_E_STATE);
	pages = atomic_load_explicit(&push->page_count, memory_order_relaxed);
	bus__reactor_call(push->reactor, begin_closing, push);
	while (atomic_load_explicit(&push->empty, memory_order_acquire) == 0 &&
	       bus__now_ns() < deadline_ns)
		bus__park(&push->empty, 0, deadline_ns);
	bus__reactor_call(push->reactor, close_now, push);
	bus_mailbox_close(push->mbox);
	bus__reactor_give(push->reactor);
	bus__unref(push->bus);
	bus__free(push->table);
	bus__free(push);
	return pages > INT_MAX ? INT_MAX : (int)pages;
}
