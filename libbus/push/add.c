/* Adding a page: checks the call and copies its arguments. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "base/sized.h"
#include "push/state.h"

enum {
	DEFAULT_PAGE_BYTES = 64 * 1024,
	LEAST_PAGE_BYTES = 1024,
	HEAD_MOST = 64 * 1024,
	EVENT_MOST = 128,
	UNSENT_BYTES =
	    16 * 1024, /* in the socket: the rest waits in our queue, where we can drop it */
	FIRST_TABLE = 64,
};

static void
socket_ready(struct bus__source *source, uint32_t events)
{
	struct page *page = (struct page *)source;
	struct bus_push *push = page->push;

	if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
		bus__page_leave(page);
	bus__page_touch(page);
	bus__pages_send(push);
}

static void
run_page(struct bus__job *job)
{
	struct page *page = (struct page *)((char *)job - offsetof(struct page, job));
	struct bus_push *push = page->push;

	if (!page->is_gone && page->pasts != NULL)
		bus__page_go_on(page);
	else if (!page->is_gone && page->arrives)
		bus__page_arrive(page, &page->arrival);
	bus__pages_send(push);
}

static bool
enter_table(struct page *page)
{
	struct bus_push *push = page->push;

	if (push->table_count == push->table_size) {
		size_t size = push->table_size != 0 ? 2 * push->table_size : FIRST_TABLE;
		struct page **table = bus__calloc(size, sizeof *table), *next;

		if (table == NULL)
			return false;
		for (size_t i = 0; i < push->table_size; i++)
			for (struct page *at = push->table[i]; at != NULL; at = next) {
				next = at->next_same;
				at->next_same = table[at->number & (size - 1)];
				table[at->number & (size - 1)] = at;
			}
		bus__free(push->table);
		push->table = table;
		push->table_size = size;
	}
	page->next_same = push->table[page->number & (push->table_size - 1)];
	push->table[page->number & (push->table_size - 1)] = page;
	push->table_count++;
	return true;
}

static bool
is_line(const char *text, size_t most)
{
	return strlen(text) <= most && strpbrk(text, "\r\n") == NULL;
}

static int
check_page(const struct bus_page_config *cfg)
{
	if (cfg->filters == NULL || cfg->filters_count == 0 ||
	    cfg->filters_count > BUS_PAGE_FILTERS_MAX)
		return bus__fail(BUS_E_INVAL, "filters: a page has 1 to %d of them, not %zu",
		    BUS_PAGE_FILTERS_MAX, cfg->filters_count);
	for (size_t i = 0; i < cfg->filters_count; i++) {
		int err = bus_filter_check(cfg->filters[i].filter);

		if (err < 0)
			return err;
	}
	if (cfg->head_len > HEAD_MOST || (cfg->head == NULL && cfg->head_len > 0))
		return bus__fail(
		    BUS_E_INVAL, "head: at most %d bytes, not %zu", HEAD_MOST, cfg->head_len);
	if (cfg->event != NULL && !is_line(cfg->event, EVENT_MOST))
		return bus__fail(
		    BUS_E_INVAL, "event: a name on one line, of at most %d bytes", EVENT_MOST);
	if (cfg->full != BUS_FULL_DROP_OLDEST && cfg->full != BUS_FULL_LATEST &&
	    cfg->full != BUS_FULL_REFUSE)
		return bus__fail(
		    BUS_E_INVAL, "full: a page drops the oldest, has the latest, or refuses");
	if (cfg->from < BUS_FROM_NOW || cfg->from > BUS_FROM_TIME ||
	    (cfg->from_value > INT64_MAX && cfg->from == BUS_FROM_TIME))
		return bus__fail(BUS_E_INVAL, "from: one of enum bus_from");
	return 0;
}

/* Whether another filter of the page matches everything that this one matches, from the same start. */
static bool
is_covered(const struct bus_page_config *cfg, size_t i)
{
	if (cfg->filters[i].is_new && cfg->from != BUS_FROM_NOW)
		return false;
	for (size_t j = 0; j < cfg->filters_count; j++)
		if (j != i && cfg->filters[j].is_new == cfg->filters[i].is_new &&
		    bus_filter_covers(cfg->filters[j].filter, cfg->filters[i].filter) == 1 &&
		    (j < i ||
			bus_filter_covers(cfg->filters[i].filter, cfg->filters[j].filter) != 1))
			return true;
	return false;
}

static char *
copy(const char *text, bool *failed)
{
	char *mine = text != NULL ? bus__strdup(text) : NULL;

	*failed |= text != NULL && mine == NULL;
	return mine;
}

static struct page *
new_page(struct bus_push *push, int fd, const struct bus_page_config *cfg)
{
	struct page *page =
	    bus__calloc(1, sizeof *page + cfg->filters_count * sizeof page->wishes[0]);
	bool failed = false;

	if (page == NULL)
		return NULL;
	page->push = push;
	page->source = (struct bus__source){.fd = fd, .ready = socket_ready};
	page->job.run = run_page;
	page->raw = cfg->raw;
	page->from = cfg->from;
	page->from_value = cfg->from_value;
	page->from_epoch = cfg->from_epoch;
	page->full = cfg->full;
	page->bound_bytes = cfg->bytes == 0                 ? DEFAULT_PAGE_BYTES
			    : cfg->bytes < LEAST_PAGE_BYTES ? LEAST_PAGE_BYTES
							    : cfg->bytes;
	/* Heartbeats are writes, too. */
	page->interval_ms =
	    cfg->interval_ms < push->heartbeat_ms ? cfg->interval_ms : push->heartbeat_ms;
	page->asks = cfg->ask && push->ask != NULL;
	page->event = copy(cfg->raw ? cfg->event : NULL, &failed);
	page->last_id = copy(cfg->last_id, &failed);
	if (cfg->head_len > 0) {
		page->head = bus__malloc(cfg->head_len);
		if (page->head != NULL)
			memcpy(page->head, cfg->head, cfg->head_len);
		failed |= page->head == NULL;
	}
	page->head_len = page->head != NULL ? cfg->head_len : 0;
	for (size_t i = 0; i < cfg->filters_count && !failed; i++) {
		struct wish *wish = &page->wishes[page->wish_count];

		if (is_covered(cfg, i))
			continue;
		*wish = (struct wish){.page = page,
		    .filter = copy(cfg->filters[i].filter, &failed),
		    .is_new = cfg->filters[i].is_new};
		page->wish_count++;
	}
	if (!failed)
		return page;
	bus__page_free(page);
	return NULL;
}

/* Bounds what the kernel buffers for a peer that does not read, and drops a peer that acknowledges nothing. Unix sockets have
 * none of these options. */
static void
set_socket(int fd, uint32_t heartbeat_ms)
{
	int yes = 1, unsent = UNSENT_BYTES;
	/* A peer may vanish a heartbeat before the next write; within three heartbeats it is dropped. */
	unsigned give_up_ms = heartbeat_ms + heartbeat_ms / 4 * 3;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up_ms, sizeof give_up_ms);
}

struct adding {
	struct page *page; /* freed, or the reactor's, after add() */
	int err;
};

/* Lists and begins a page: it gets every message published after bus_push_add(). */
static void
add(void *arg)
{
	struct adding *adding = arg;
	struct page *page = adding->page;
	struct bus_push *push = page->push;

	adding->err = push->ended ? BUS_E_CLOSED : enter_table(page) ? 0 : BUS_E_NOMEM;
	if (adding->err < 0) {
		bus__page_free(page);
		atomic_fetch_sub_explicit(&push->page_count, 1, memory_order_relaxed);
		return;
	}
	bus__page_beat_later(page);
	adding->err = bus__page_begin(page);
	if (adding->err == 0)
		atomic_fetch_add_explicit(&push->tally.opened, 1, memory_order_relaxed);
	else {
		/* The socket is still the caller's. */
		bus__reactor_unwatch(push->reactor, &page->source);
		page->source.fd = -1;
		bus__page_leave(page);
	}
	bus__pages_send(push);
}

static int
push_add(struct bus_push *push, int fd, const struct bus_page_config *cfg, uint64_t *ret_page)
{
	struct adding adding = {.err = 0};
	uint64_t number;
	int type = 0, err;
	socklen_t len = sizeof type;

	err = cfg == NULL || ret_page == NULL ? BUS_E_INVAL : bus__push_enter(push);
	if (err == 0 && bus__reactor_is_here(push->reactor))
		err = BUS_E_STATE;
	if (err < 0)
		return bus__answer(err);
	err = check_page(cfg);
	if (err < 0)
		return err;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return bus__fail(
		    BUS_E_INVAL, "descriptor %d: a page needs a stream socket (TCP or Unix)", fd);
	if (atomic_fetch_add_explicit(&push->page_count, 1, memory_order_relaxed) >=
	    push->max_pages) {
		err = bus__fail(BUS_E_LIMIT,
		    "all places for pages are taken (%u of %u): close some, or raise max_pages",
		    push->max_pages, push->max_pages);
		goto give_place;
	}
	adding.page = new_page(push, fd, cfg);
	if (adding.page == NULL) {
		err = bus__answer(BUS_E_NOMEM);
		goto give_place;
	}
	number = atomic_fetch_add_explicit(&push->last_page, 1, memory_order_relaxed) + 1;
	adding.page->number = number;
	set_socket(fd, push->heartbeat_ms);
	bus__reactor_call(push->reactor, add, &adding);
	if (adding.err < 0)
		return bus__answer(adding.err);
	*ret_page = number;
	return 0;

give_place:
	atomic_fetch_sub_explicit(&push->page_count, 1, memory_order_relaxed);
	return err;
}

int
bus_push_add(struct bus_push *push, int fd, const struct bus_page_config *cfg, uint64_t *ret_page)
{
	struct bus_page_config room;
	int err = BUS__SIZED_IN(SIZED_PAGE_CONFIG, cfg, &room);

	return err < 0 ? err : push_add(push, fd, cfg, ret_page);
}
