#include "link/flush.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/park.h"
#include "link/session.h"

/* A flush waits for a number of messages per connection, not for an empty mailbox: other threads go on
 * publishing. */
struct bus__flush {
	struct bus__flush *next;
	struct bus__links *links;
	struct mark {
		const struct bus__session *session; /* NULL: reached */
		uint64_t target;
	} * marks;
	size_t count, left;
	int err, given_up;     /* why, before give_up() */
	_Atomic uint32_t done; /* futex */
};

static void
finish(struct bus__flush *flush)
{
	struct bus__flush **at = &flush->links->flushes;

	while (*at != flush)
		at = &(*at)->next;
	*at = flush->next;
	atomic_store_explicit(&flush->done, 1, memory_order_release);
	bus__unpark(&flush->done);
}

static void
reach(struct bus__links *links, const struct bus__session *session, uint64_t handled)
{
	struct bus__flush *next;

	for (struct bus__flush *flush = links->flushes; flush != NULL; flush = next) {
		next = flush->next;
		for (size_t i = 0; i < flush->count; i++)
			if (flush->marks[i].session == session &&
			    flush->marks[i].target <= handled) {
				flush->marks[i].session = NULL;
				flush->left--;
			}
		if (flush->left == 0)
			finish(flush);
	}
}

void
bus__flush_forget(struct bus__links *links, const struct bus__session *session)
{
	reach(links, session, UINT64_MAX);
}

void
bus__flush_progress(struct bus__links *links, struct bus__session *session)
{
	struct bus_stats stats = {.size = sizeof stats};

	if (links->flushes == NULL || session->mbox == NULL ||
	    bus__peer_tells_values(session->mbox))
		return;
	bus_mailbox_stats(session->mbox, &stats);
	reach(links, session, stats.offered - stats.pending);
}

static void
begin(void *arg)
{
	struct bus__flush *flush = arg;
	struct bus__links *links = flush->links;
	struct bus_stats stats = {.size = sizeof stats};
	size_t sessions = 0;

	for (struct bus_link *link = links->first; link != NULL; link = link->next)
		sessions += link->session_count;
	flush->marks = bus__calloc(sessions + 1, sizeof *flush->marks);
	if (flush->marks == NULL)
		flush->err = BUS_E_NOMEM;
	for (struct bus_link *link = links->first; link != NULL; link = link->next)
		for (struct bus__session *s = link->sessions; s != NULL; s = s->next) {
			if (flush->marks == NULL || s->mbox == NULL)
				continue;
			bus_mailbox_stats(s->mbox, &stats);
			if (stats.pending > 0 || s->sending || bus__peer_tells_values(s->mbox))
				flush->marks[flush->count++] = (struct mark){s, stats.offered};
		}
	flush->left = flush->count;
	flush->next = links->flushes;
	links->flushes = flush;
	if (flush->left == 0)
		finish(flush);
}

static void
give_up(void *arg)
{
	struct bus__flush *flush = arg;

	if (atomic_load_explicit(&flush->done, memory_order_relaxed) == 0) {
		flush->err = flush->given_up;
		finish(flush);
	}
}

static bool
call(struct bus__flush *flush, void (*fn)(void *arg))
{
	if (!bus__links_enter(flush->links))
		return false;
	bus__loop_call(&flush->links->loop, fn, flush);
	bus__links_leave(flush->links);
	return true;
}

/* 0, BUS_E_TIMEDOUT, or (without a limit) BUS__E_HANDLER. */
static int
await(struct bus__flush *flush, int64_t deadline_ns)
{
	while (atomic_load_explicit(&flush->done, memory_order_acquire) == 0) {
		int woken = bus__park(&flush->done, 0, deadline_ns);

		if (woken == BUS_E_TIMEDOUT)
			return woken;
		if (woken == BUS__INTERRUPTED && deadline_ns == INT64_MAX)
			return BUS__E_HANDLER;
	}
	return 0;
}

static void
await_end(struct bus__flush *flush)
{
	while (atomic_load_explicit(&flush->done, memory_order_acquire) == 0)
		bus__park(&flush->done, 0, INT64_MAX);
}

int
bus__flush_links(void *arg, int64_t deadline_ns)
{
	struct bus__flush flush = {.links = arg};

	if (!call(&flush, begin))
		return 0;
	flush.given_up = await(&flush, deadline_ns);
	/* When the bus closes meanwhile its connections end, and that ends every flush. */
	if (flush.given_up < 0 && !call(&flush, give_up))
		await_end(&flush);
	bus__free(flush.marks);
	return flush.err;
}
