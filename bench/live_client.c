/* Many pages in one process, for live.py: opens them, counts the events that come, and measures how old each is.
 *
 * Run: live_client ADDRESS PORT PATH PAGES [sse|socketio]. Both count the same marks in the bytes that come. Socket.IO comes over a
 * WebSocket, and gets its two answers: joining, and a pong for each ping. An event tells when it was published by
 * "at":NANOSECONDS (CLOCK_MONOTONIC) in its data.
 * Prints a line of JSON when all pages are open or refused, and another one for each line that comes on standard input, of
 * what came since the last one. Ends with standard input. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "must.h"

/* Frames of a WebSocket, ours with a mask of zeros: joining the default namespace of Socket.IO, its ping, and our pong. */
static const unsigned char join[] = {0x81, 0x82, 0, 0, 0, 0, '4', '0'}, ping[] = {0x81, 1, '2'},
			   pong[] = {0x81, 0x81, 0, 0, 0, 0, '3'};

/* What differs between the two ways. */
struct way {
	const char *name, *headers, *status;
	bool is_socketio;
};

static const struct way ways[] = {
    {"sse", "Accept: text/event-stream\r\n", "200", false},
    {"socketio",
	"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	"Sec-WebSocket-Key: bGlidXMgbGl2ZSBiZW5jaA==\r\n",
	"101", true},
};

enum { OPENING_MOST = 64, KEPT = 96, AGES = 1 << 20 };

struct page {
	int fd;
	bool is_open;
	size_t kept; /* the end of what was read: a mark may be cut there */
	char tail[KEPT];
};

static struct sockaddr_in server;
static const char *path, *host;
static const struct way *way = &ways[0];
static int loop, asked, opening, opened, refused, closed;
static struct page *pages;
static uint64_t events, bytes, first_ns, last_ns;
static uint32_t ages_us[AGES];

static uint64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void
open_page(struct page *page)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = page};
	char request[512];
	int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s\r\n",
	    path, host, ntohs(server.sin_port), way->headers);

	page->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(page->fd >= 0, "socket");
	must(connect(page->fd, (struct sockaddr *)&server, sizeof server) == 0, "connect");
	must(write(page->fd, request, (size_t)len) == len, "write");
	fcntl(page->fd, F_SETFL, O_NONBLOCK);
	must(epoll_ctl(loop, EPOLL_CTL_ADD, page->fd, &event) == 0, "epoll_ctl");
	opening++;
	asked++;
}

static void
count_events(char *text, size_t len)
{
	uint64_t now = now_ns();
	char *at = text;

	text[len] = '\0';
	while ((at = memmem(at, (size_t)(text + len - at), "\"at\":", 5)) != NULL) {
		uint64_t then = strtoull(at + 5, NULL, 10),
			 age = now > then ? (now - then) / 1000 : 0;

		if (first_ns == 0)
			first_ns = now;
		last_ns = now;
		ages_us[events++ % AGES] = age < UINT32_MAX ? (uint32_t)age : UINT32_MAX;
		at += 5;
	}
}

/* How much of the end may be the beginning of a mark or its number. */
static size_t
cut_off(const char *text, size_t len)
{
	size_t from = len > KEPT - 1 ? len - (KEPT - 1) : 0, rest = 0;

	for (size_t i = len; i-- > from;) {
		if (text[i] == '\n' || text[i] == '}' || text[i] == ',')
			return rest;
		/* On to the first one: the quote behind `"at` looks like a beginning too. */
		if (text[i] == '"' && memcmp(text + i, "\"at\":", len - i < 5 ? len - i : 5) == 0)
			rest = len - i;
	}
	return rest;
}

static void
open_stream(struct page *page, const char *text)
{
	opening--;
	page->is_open = memcmp(text + 9, way->status, 3) == 0;
	opened += page->is_open;
	refused += !page->is_open;
	if (page->is_open && way->is_socketio)
		must(write(page->fd, join, sizeof join) > 0, "write");
}

static void
read_page(struct page *page)
{
	static char text[1 << 16];
	ssize_t got;
	size_t len, rest;

	memcpy(text, page->tail, page->kept);
	got = read(page->fd, text + page->kept, sizeof text - page->kept - 1);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		opening -= !page->is_open;
		refused += !page->is_open;
		closed += page->is_open;
		close(page->fd);
		page->fd = -1;
		return;
	}
	bytes += (uint64_t)got;
	len = page->kept + (size_t)got;
	if (!page->is_open && len >= 12)
		open_stream(page, text);
	else if (way->is_socketio && memmem(text, len, ping, sizeof ping) != NULL)
		must(write(page->fd, pong, sizeof pong) > 0, "write");
	rest = cut_off(text, len);
	memmove(page->tail, text + len - rest, rest);
	page->kept = rest;
	count_events(text, len - rest);
}

static int
compare(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

static void
report(void)
{
	size_t count = events < AGES ? (size_t)events : AGES;

	qsort(ages_us, count, sizeof ages_us[0], compare);
	printf(
	    "{\"open\":%d,\"refused\":%d,\"closed\":%d,\"events\":%llu,\"bytes\":%llu,\"first_ns\":%llu,\"last_ns\":%llu,"
	    "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
	    opened - closed, refused, closed, (unsigned long long)events, (unsigned long long)bytes,
	    (unsigned long long)first_ns, (unsigned long long)last_ns,
	    count ? ages_us[count / 2] / 1e3 : 0, count ? ages_us[count * 99 / 100] / 1e3 : 0,
	    count ? ages_us[count - 1] / 1e3 : 0);
	fflush(stdout);
	events = bytes = first_ns = last_ns = 0;
}

static bool
heed_input(void)
{
	char line[64];

	if (read(0, line, sizeof line) <= 0)
		return false;
	report();
	return true;
}

int
main(int argc, char **argv)
{
	struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL}, found[256];
	struct rlimit files;
	int count = argc == 5 || argc == 6 ? atoi(argv[4]) : 0;
	bool said = false;

	if (argc == 6)
		way = strcmp(argv[5], ways[1].name) == 0 ? &ways[1] : &ways[0];
	if (count <= 0) {
		fprintf(stderr, "usage: live_client ADDRESS PORT PATH PAGES [sse|socketio]\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	host = argv[1];
	path = argv[3];
	server =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
	must(inet_pton(AF_INET, host, &server.sin_addr) == 1, "inet_pton");
	loop = epoll_create1(EPOLL_CLOEXEC);
	pages = calloc((size_t)count, sizeof *pages);
	must(loop >= 0 && pages != NULL, "epoll_create1");
	must(epoll_ctl(loop, EPOLL_CTL_ADD, 0, &input) == 0, "epoll_ctl");
	for (;;) {
		int n;

		while (asked < count && opening < OPENING_MOST)
			open_page(&pages[asked]);
		if (!said && asked == count && opening == 0) {
			report();
			said = true;
		}
		n = epoll_wait(loop, found, 256, -1);
		for (int i = 0; i < n; i++) {
			if (found[i].data.ptr != NULL)
				read_page(found[i].data.ptr);
			else if (!heed_input())
				return 0;
		}
	}
}
