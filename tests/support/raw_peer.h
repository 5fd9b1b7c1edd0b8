/* support/raw_peer.h: a peer that has no libbus behind it and sends whatever frames it likes, for tests and bench/peers.c. It never
 * reads unless told to. */
#ifndef RAW_PEER_H
#define RAW_PEER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "link/frame.h"

struct raw_peer {
	int fd;
	uint8_t id[BUS__BUS_ID];
	uint64_t messages; /* sent, or gathered */
	size_t len;        /* gathered, not sent */
	uint8_t buf[128 * 1024];
};

/* Connects to an address of ipc or tcp. -1: it failed. */
static inline int
raw_connect(const char *url)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	bool ipc = strncmp(url, "ipc", 3) == 0;
	int fd = socket(ipc ? AF_UNIX : AF_INET, SOCK_STREAM, 0);

	if (ipc)
		memcpy(un.sun_path, url + 6, strnlen(url + 6, sizeof un.sun_path - 1));
	else
		in.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
	if (fd >= 0 && (ipc ? connect(fd, (struct sockaddr *)&un, sizeof un)
			    : connect(fd, (struct sockaddr *)&in, sizeof in)) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Sends what was gathered. false: the other side has closed. */
static inline bool
raw_flush(struct raw_peer *p)
{
	size_t at = 0;

	while (at < p->len) {
		ssize_t n = send(p->fd, p->buf + at, p->len - at, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	p->len = 0;
	return true;
}

static inline bool
raw_bytes(struct raw_peer *p, const void *bytes, size_t len)
{
	if (p->len + len > sizeof p->buf && !raw_flush(p))
		return false;
	memcpy(p->buf + p->len, bytes, len);
	p->len += len;
	return true;
}

static inline bool
raw_frame(
    struct raw_peer *p, enum bus__frame_kind kind, unsigned number, const void *body, size_t len)
{
	uint8_t frame[BUS__FRAME_HEAD + BUS_LIMIT_TOPIC_BYTES];

	return raw_bytes(p, frame, bus__frame_write(frame, kind, (uint16_t)number, body, len));
}

static inline bool
raw_text(struct raw_peer *p, enum bus__frame_kind kind, unsigned number, const char *text)
{
	return raw_frame(p, kind, number, text, strlen(text));
}

/* A message on the topic of that number; a value (BUS_MSG_RETAIN in flags), or with reply_to a question. */
static inline bool
raw_message(struct raw_peer *p, unsigned number, unsigned flags, uint64_t reply_to,
    const void *data, size_t len)
{
	static uint64_t changes;
	struct bus__version version = {.changes = ++changes};
	struct bus_msg msg = {.size = sizeof msg,
	    .data = data,
	    .len = len,
	    .flags = flags,
	    .reply_to = reply_to,
	    .time_ns = (int64_t)changes};
	uint8_t head[BUS__MSG_HEAD_MAX];

	p->messages++;
	memcpy(version.bus, p->id, sizeof version.bus);
	return raw_bytes(p, head,
		   bus__msg_head_write(head, (uint16_t)number, &msg, &version, p->id, false)) &&
	       raw_bytes(p, data, len);
}

/* Everything up to START, with the id of a bus that begins with `name`; the filters and READY come next. false: no connection. */
static inline bool
raw_open(struct raw_peer *p, const char *url, const char *name)
{
	const struct bus__resume resume = {.id = 0};
	static uint64_t sequences;
	const struct bus__start start = {.id = ++sequences};
	struct bus__hello hello = {.max_payload = 1 << 20, .heartbeat_ms = 3600000};
	uint8_t bytes[BUS__FRAME_HEAD + 64];

	p->len = 0;
	p->fd = raw_connect(url);
	if (p->fd < 0)
		return false;
	memset(p->id, 'x', sizeof p->id);
	memcpy(p->id, name, strlen(name) < sizeof p->id ? strlen(name) : sizeof p->id);
	memcpy(hello.id, p->id, sizeof hello.id);
	raw_bytes(p, bytes, bus__preamble_write(bytes));
	raw_bytes(p, bytes, bus__hello_write(bytes, &hello));
	raw_frame(p, BUS__FRAME_JOIN, 0, NULL, 0);
	raw_bytes(p, bytes, bus__resume_write(bytes, &resume));
	raw_bytes(p, bytes, bus__start_write(bytes, &start));
	return true;
}

static inline bool
raw_ready(struct raw_peer *p)
{
	return raw_frame(p, BUS__FRAME_READY, 0, NULL, 0) && raw_flush(p);
}

#endif
