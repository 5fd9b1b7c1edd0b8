/* bench/links_libbus.c: two buses without a name, and a link. */
#include "links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

struct side {
	struct links_run *run;
	struct bus *bus;
	struct bus_link *link;
	struct bus_mailbox *in;
	struct bus_pub *out;
	bool done;
};

static void
check(int err, const char *what)
{
	if (err < 0)
		bench_die(what);
}

static void
on_message(void *arg, const struct bus_msg *msg)
{
	struct side *side = arg;

	(void)msg;
	side->done = links_came(side->run);
}

static void
on_trip(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	((struct side *)arg)->done = true;
}

/* Either may be NULL. */
static void
open_side(struct side *side, struct links_run *run, const char *in, bus_msg_fn fn, const char *out)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = LINKS_ROOM};

	*side = (struct side){.run = run};
	check(bus_open(NULL, NULL, &side->bus), "bus_open");
	if (in != NULL) {
		check(bus_mailbox_open(side->bus, &cfg, &side->in), "bus_mailbox_open");
		check(bus_mailbox_subscribe(side->in, in, fn, side, NULL), "bus_mailbox_subscribe");
	}
	if (out != NULL)
		check(bus_pub_open(side->bus, out, NULL, &side->out), "bus_pub_open");
}

static void
listens(struct side *side)
{
	const struct bus_link_config cfg = {.size = sizeof cfg, .bytes = LINKS_ROOM};
	struct links_run *run = side->run;
	char url[128];

	if (strcmp(run->scheme, "tcp") == 0)
		snprintf(url, sizeof url, "tcp://127.0.0.1:0");
	else if (strcmp(run->scheme, "ipc") == 0)
		snprintf(url, sizeof url, "ipc://%s/link", run->place);
	else
		snprintf(url, sizeof url, "inproc://bench");
	check(bus_listen(side->bus, url, &cfg, &side->link), "bus_listen");
	check(bus_link_url(side->link, run->url, sizeof run->url), "bus_link_url");
	links_ready(run);
}

/* When the link is up here, the listening side has said what it wants. */
static void
dials(struct side *side)
{
	const struct bus_link_config cfg = {.size = sizeof cfg, .bytes = LINKS_ROOM};
	struct bus_link_stats stats = {.size = sizeof stats};

	check(bus_dial(side->bus, side->run->url, &cfg, &side->link), "bus_dial");
	while (stats.peers == 0) {
		usleep(100);
		check(bus_link_stats(side->link, &stats), "bus_link_stats");
	}
}

static void
await(struct side *side)
{
	while (!side->done)
		check(bus_dispatch(side->in, 1000, 0), "bus_dispatch");
	side->done = false;
}

static void
send_all(struct links_run *run)
{
	char *data = calloc(1, run->payload);
	struct side side;

	check(data == NULL ? -1 : 0, "calloc");
	open_side(&side, run, NULL, NULL, "bench/0");
	dials(&side);
	links_await_go(run);
	for (uint64_t sent = 0; sent < run->count; sent++) {
		links_keep_window(run, sent);
		check(bus_pub_send(side.out, data, run->payload), "bus_pub_send");
	}
	links_await_all(run);
	free(data);
}

static void
receive_all(struct links_run *run)
{
	struct side side;

	open_side(&side, run, "bench/+", on_message, NULL);
	listens(&side);
	await(&side);
}

static void
trip(void *arg)
{
	static const char data[64];
	struct side *side = arg;

	check(bus_pub_send(side->out, data, side->run->payload), "bus_pub_send");
	await(side);
}

static void
ping(struct links_run *run)
{
	struct side side;

	open_side(&side, run, "pong", on_trip, "ping");
	dials(&side);
	links_await_go(run);
	links_time_trips(run, trip, &side);
}

static void
pong(struct links_run *run)
{
	static const char data[64];
	struct side side;

	open_side(&side, run, "ping", on_trip, "pong");
	listens(&side);
	for (;;) {
		await(&side);
		check(bus_pub_send(side.out, data, run->payload), "bus_pub_send");
	}
}

const struct links_peer links_libbus = {send_all, receive_all, ping, pong};
