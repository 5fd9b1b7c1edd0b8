#include "link/flush.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/park.h"
#include "link/session.h"
#include "mailbox/mailbox.h"

/* A flush waits for a number of messages per connection, not for an empty mailbox: other threads continue
 * to publish. */
struct bus__flush {
	struct bus__flush *next;
	struct bus__links *links;
	struct mark {
		const struct bus__session *session; /* NULL: reached */
		uint64_t target;                    /* messages that must leave its mailbox */
		uint64_t load; /* the load that has the last of them; 0: not all have left */
	} * marks;
	size_t count, left;
	int err;
	_Atomic uint32_t
	    refs; /* one of the link thread until it is done, one of the caller, passed on to give_up() */
	_Atomic uint32_t begun, done; /* futexes */
	struct bus__task begin, give_up;
};

static void
unref(struct bus__flush *flush)
{
	if (atomic_fetch_sub_explicit(&flush->refs, 1, memory_order_acq_rel) != 1)
		return;
	bus__free(flush->marks);
	bus__free(flush);
}

static void
finish(struct bus__flush *flush)
{
	struct bus__flush **at = &flush->links->flushes;

	while (*at != flush)
		at = &(*at)->next;
	*at = flush->next;
	atomic_store_explicit(&flush->done, 1, memory_order_release);
	bus__unpark(&flush->done);
	unref(flush);
}

/* Ends the marks that are reached. `handled` messages have left the session's mailbox, the last of them in load number `load`;
 * loads up to number `sent` are sent. */
static void
reach(struct bus__links *links, const struct bus__session *session, uint64_t handled, uint64_t load,
    uint64_t sent)
{
	struct bus__flush *next;

	for (struct bus__flush *flush = links->flushes; flush != NULL; flush = next) {
		next = flush->next;
		for (size_t i = 0; i < flush->count; i++) {
			struct mark *mark = &flush->marks[i];

			if (mark->session != session)
				continue;
			if (mark->load == 0 && mark->target <= handled)
				mark->load = load;
			if (mark->load != 0 && mark->load <= sent) {
				mark->session = NULL;
				flush->left--;
			}
		}
		if (flush->left == 0)
			finish(flush);
	}
}

void
bus__flush_forget(struct bus__links *links, const struct bus__session *session)
{
	reach(links, session, UINT64_MAX, 1, 1);
}

void
bus__flush_progress(struct bus__links *links, struct bus__session *session)
{
	struct bus_stats stats = {.size = sizeof stats};
	uint64_t sent;

	if (links->flushes == NULL || session->mbox == NULL ||
	    bus__peer_tells_values(session->mbox))
		return;
	bus__mailbox_add_stats(session->mbox, 0, &stats);
	/* Counted from 1. */
	sent = session->loads_sent + 1;
	reach(links, session, stats.offered - stats.pending, sent + (session->queue.bytes.len > 0),
	    sent);
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
				flush->marks[flush->count++] =
				    (struct mark){.session = s, .target = stats.offered};
		}
	flush->left = flush->count;
	flush->next = links->flushes;
	links->flushes = flush;
	atomic_store_explicit(&flush->begun, 1, memory_order_release);
	bus__unpark(&flush->begun);
	if (flush->left == 0)
		finish(flush);
}

static void
give_up(void *arg)
{
	struct bus__flush *flush = arg;

	if (atomic_load_explicit(&flush->done, memory_order_relaxed) == 0)
		finish(flush);
	unref(flush);
}

static bool
post(struct bus__flush *flush, struct bus__task *task)
{
	struct bus__links *links = flush->links;

	if (!bus__links_enter(links))
		return false;
	bus__loop_post(&links->loop, task);
	bus__links_leave(links);
	return true;
}

/* 0, BUS_E_TIMEDOUT, or (without a limit) BUS__E_HANDLER. */
static int
await(struct bus__flush *flush, int64_t deadline_ns)
{
	/* Only the link thread knows what must be flushed. It answers soon unless it is in a callback. */
	if (!bus__links_await(flush->links, &flush->begun, deadline_ns))
		return BUS_E_TIMEDOUT;
	while (atomic_load_explicit(&flush->done, memory_order_acquire) == 0) {
		int woken = bus__park(&flush->done, 0, deadline_ns);

		if (woken == BUS_E_TIMEDOUT)
			return woken;
		if (woken == BUS__INTERRUPTED && deadline_ns == INT64_MAX)
			return BUS__E_HANDLER;
	}
	return 0;
}

int
bus__flush_links(void *arg, int64_t deadline_ns)
{
	struct bus__flush *flush = bus__calloc(1, sizeof *flush);
	int err;

	if (flush == NULL)
		return BUS_E_NOMEM;
	flush->links = arg;
	flush->begin = (struct bus__task){.run = begin, .arg = flush};
	flush->give_up = (struct bus__task){.run = give_up, .arg = flush};
	atomic_init(&flush->refs, 2);
	if (!post(flush, &flush->begin)) {
		bus__free(flush);
		return 0;
	}
	err = await(flush, deadline_ns);
	/* If the bus closes here, its connections end, and that ends every flush. */
	if (err < 0 && post(flush, &flush->give_up))
		return err;
	if (err == 0)
		err = flush->err;
	unref(flush);
	return err;
}
