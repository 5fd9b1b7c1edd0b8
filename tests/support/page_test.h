/* support/page_test.h: pages of a bus, read as a browser reads them.
 *
 *   struct bus_push *push = open_push(bus, .heartbeat_ms = 100);
 *   struct bus_push *push = plain_push(bus); struct browser page = plain_page(push, "t");     without options
 *   struct browser page = open_page(push, "t/#", .raw = true);
 *   expect_event(&page, NULL, "hello"); expect_event(&page, "gap", "{\"lost\":3}");
 *   page.id: the last id that it has seen
 *
 * The parser follows the standard line by line and knows nothing of the library's encoder. */
#ifndef PAGE_TEST_H
#define PAGE_TEST_H

#include "world.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libbus/push.h>

struct browser {
	int fd;
	uint64_t number;
	char *got; /* bytes that are not parsed yet */
	size_t len, cap;
	bool ended; /* the stream is over */
	char name[64], id[64];
	char *data; /* of the last event */
	size_t data_len;
	unsigned long retry;
};

static inline struct bus_push *
page_test_push(struct bus *bus, const struct bus_push_config *cfg)
{
	struct bus_push *push;

	ck_bus(bus_push_open(bus, cfg, &push), 0);
	return push;
}

#define open_push(bus, ...)                                                                        \
	page_test_push(                                                                            \
	    bus, &(struct bus_push_config){.size = sizeof(struct bus_push_config), __VA_ARGS__})

static inline struct browser
page_test_open(struct bus_push *push, const char *const *filters, struct bus_page_config cfg)
{
	struct bus_page_filter list[8];
	struct browser page = {.fd = -1};
	int ends[2];

	while (cfg.filters_count < 8 && filters[cfg.filters_count] != NULL) {
		const char *filter = filters[cfg.filters_count];

		list[cfg.filters_count++] = (struct bus_page_filter){
		    .filter = filter[0] == '!' ? filter + 1 : filter, .is_new = filter[0] == '!'};
	}
	cfg.filters = list;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	/* A machine may give sockets more room than tests fill. */
	setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &(int){128 * 1024}, sizeof(int));
	page.fd = ends[0];
	ck_bus(bus_push_add(push, ends[1], &cfg, &page.number), 0);
	return page;
}

/* A page with these filters; one behind a ! is new since the page's last id. */
#define open_page_on(push, filters, ...)                                                           \
	page_test_open(push, (const char *const[]){PAGE_TEST_LIST filters, NULL},                  \
	    (struct bus_page_config){.size = sizeof(struct bus_page_config), __VA_ARGS__})
#define PAGE_TEST_LIST(...)          __VA_ARGS__
#define open_page(push, filter, ...) open_page_on(push, (filter), __VA_ARGS__)

static inline struct bus_push *
plain_push(struct bus *bus)
{
	return page_test_push(bus, NULL);
}

static inline struct browser
plain_page(struct bus_push *push, const char *filter)
{
	return page_test_open(push, (const char *const[]){filter, NULL},
	    (struct bus_page_config){.size = sizeof(struct bus_page_config)});
}

/* Reads more. false: the stream is over. */
static inline bool
page_test_read(struct browser *page)
{
	struct pollfd poll_fd = {.fd = page->fd, .events = POLLIN};
	ssize_t count;

	if (page->cap - page->len < 4096) {
		page->cap = 2 * page->cap + 8192;
		page->got = realloc(page->got, page->cap);
	}
	must(poll(&poll_fd, 1, patience_ms()) == 1);
	count = read(page->fd, page->got + page->len, page->cap - page->len);
	if (count > 0)
		page->len += (size_t)count;
	return count > 0;
}

/* Takes a line off, without its end: CR, LF or both. NULL: the stream is over. Freed by the caller. */
static inline char *
page_test_line(struct browser *page, size_t *ret_len)
{
	size_t i = 0, end;
	char *line;

	for (;; i++) {
		/* A CR at the end may have its LF behind it. */
		while (i >= page->len || (page->got[i] == '\r' && i + 1 == page->len))
			if (!page_test_read(page))
				return NULL;
		if (page->got[i] == '\n' || page->got[i] == '\r')
			break;
	}
	end = i + (page->got[i] == '\r' && page->got[i + 1] == '\n' ? 2 : 1);
	line = malloc(i + 1);
	memcpy(line, page->got, i);
	line[i] = '\0';
	*ret_len = i;
	page->len -= end;
	memmove(page->got, page->got + end, page->len);
	return line;
}

static inline void
page_test_add(struct browser *page, const char *value, size_t len)
{
	page->data = realloc(page->data, page->data_len + len + 2);
	memcpy(page->data + page->data_len, value, len);
	page->data_len += len;
	page->data[page->data_len++] = '\n';
	page->data[page->data_len] = '\0';
}

/* Reads one event. false: the stream is over, and page->ended says so. An event without data is none. */
static inline bool
next_event(struct browser *page)
{
	char *line;
	size_t len;

	page->name[0] = '\0';
	page->data_len = 0;
	while ((line = page_test_line(page, &len)) != NULL) {
		char *colon = memchr(line, ':', len),
		     *value = colon != NULL ? colon + 1 : line + len;

		if (len == 0) {
			free(line);
			if (page->data_len == 0)
				continue;
			page->data[--page->data_len] = '\0';
			return true;
		}
		if (colon != NULL)
			*colon = '\0';
		value += *value == ' ';
		if (strcmp(line, "data") == 0)
			page_test_add(page, value, (size_t)(line + len - value));
		else if (strcmp(line, "event") == 0)
			snprintf(page->name, sizeof page->name, "%s", value);
		else if (strcmp(line, "id") == 0 && strlen(value) == (size_t)(line + len - value))
			snprintf(page->id, sizeof page->id, "%s", value);
		else if (strcmp(line, "retry") == 0)
			page->retry = strtoul(value, NULL, 10);
		else
			ck_abort_msg("a field that is none: %s", line);
		free(line);
	}
	page->ended = true;
	return false;
}

/* The next event but for heartbeats has this name (NULL: none) and these data. */
static inline void
page_test_expect(int line, struct browser *page, const char *name, const char *data)
{
	do
		ck_assert_msg(next_event(page), "line %d: the stream ended before %s", line, data);
	while (strcmp(page->name, "hb") == 0 && (name == NULL || strcmp(name, "hb") != 0));
	ck_assert_msg(
	    strcmp(page->name, name != NULL ? name : "") == 0 && strcmp(page->data, data) == 0,
	    "line %d: event '%s' with %s, not '%s' with %s", line, page->name, page->data,
	    name != NULL ? name : "", data);
}
#define expect_event(page, name, data) page_test_expect(__LINE__, page, name, data)

/* The stream ends with a retry time, in the field retry and in the data. Returns its milliseconds. */
static inline unsigned long
expect_goodbye(struct browser *page)
{
	do
		ck_assert(next_event(page));
	while (strcmp(page->name, "hb") == 0);
	ck_assert_str_eq(page->name, "end");
	ck_assert_uint_eq(strtoul(page->data, NULL, 10), page->retry);
	ck_assert_uint_ge(page->retry, 2000);
	ck_assert_uint_lt(page->retry, 6000);
	ck_assert(!next_event(page));
	return page->retry;
}

/* The stream ends, and brings at most these named events before. */
static inline void
expect_end(struct browser *page)
{
	while (next_event(page))
		ck_assert_msg(strcmp(page->name, "end") == 0 || strcmp(page->name, "hb") == 0,
		    "the stream goes on: %s", page->data);
}

static inline void
leave_page(struct browser *page)
{
	close(page->fd);
	free(page->got);
	free(page->data);
	*page = (struct browser){.fd = -1};
}

static inline void
close_pages(struct bus *bus, struct bus_push *push)
{
	bus_push_close(push, patience_ms());
	ck_bus(bus_close(bus, patience_ms()), 0);
}

static inline struct bus_push_stats
push_stats(struct bus_push *push)
{
	struct bus_push_stats stats = {.size = sizeof stats};

	ck_bus(bus_push_stats(push, &stats), 0);
	return stats;
}

#endif
