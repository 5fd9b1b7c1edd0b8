/* bench/links_zmq.c: PUSH and PULL, or PAIR for round trips, over the same transports. */
#include "links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

static void
check(int result, const char *what)
{
	if (result < 0)
		bench_die(what);
}

/* One for both ends where they are threads of a process. */
static void *
context(void)
{
	static void *only;
	static _Atomic int made;

	/* The listening end comes first, and the other waits for it. */
	if (atomic_exchange(&made, 1) == 0)
		only = zmq_ctx_new();
	return only;
}

static void *
open_socket(int type)
{
	void *socket = zmq_socket(context(), type);

	check(socket == NULL ? -1 : 0, "zmq_socket");
	/* The window bounds it. */
	check(zmq_setsockopt(socket, ZMQ_SNDHWM, &(int){0}, sizeof(int)), "zmq_setsockopt");
	check(zmq_setsockopt(socket, ZMQ_RCVHWM, &(int){0}, sizeof(int)), "zmq_setsockopt");
	return socket;
}

static void *
listens(struct links_run *run, int type)
{
	void *socket = open_socket(type);
	size_t size = sizeof run->url;
	char url[128];

	if (strcmp(run->scheme, "tcp") == 0)
		snprintf(url, sizeof url, "tcp://127.0.0.1:*");
	else if (strcmp(run->scheme, "ipc") == 0)
		snprintf(url, sizeof url, "ipc://%s/zmq", run->place);
	else
		snprintf(url, sizeof url, "inproc://bench");
	check(zmq_bind(socket, url), "zmq_bind");
	check(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, run->url, &size), "zmq_getsockopt");
	links_ready(run);
	return socket;
}

static void *
dials(struct links_run *run, int type)
{
	void *socket = open_socket(type);

	check(zmq_connect(socket, run->url), "zmq_connect");
	return socket;
}

static void
send_all(struct links_run *run)
{
	void *out = dials(run, ZMQ_PUSH);
	char *data = calloc(1, run->payload);

	check(data == NULL ? -1 : 0, "calloc");
	links_await_go(run);
	for (uint64_t sent = 0; sent < run->count; sent++) {
		links_keep_window(run, sent);
		check(zmq_send(out, data, run->payload, 0), "zmq_send");
	}
	links_await_all(run);
	free(data);
}

static void
receive_all(struct links_run *run)
{
	void *in = listens(run, ZMQ_PULL);
	zmq_msg_t message;

	zmq_msg_init(&message);
	do
		check(zmq_msg_recv(&message, in, 0), "zmq_msg_recv");
	while (!links_came(run));
	zmq_msg_close(&message);
}

struct pinging {
	void *socket;
	size_t payload;
	char data[4096];
};

static void
trip(void *arg)
{
	struct pinging *p = arg;

	check(zmq_send(p->socket, p->data, p->payload, 0), "zmq_send");
	check(zmq_recv(p->socket, p->data, sizeof p->data, 0), "zmq_recv");
}

static void
ping(struct links_run *run)
{
	static struct pinging p;

	p.socket = dials(run, ZMQ_PAIR);
	p.payload = run->payload;
	links_await_go(run);
	links_time_trips(run, trip, &p);
}

static void
pong(struct links_run *run)
{
	static char data[4096];
	void *socket = listens(run, ZMQ_PAIR);

	for (;;) {
		check(zmq_recv(socket, data, sizeof data, 0), "zmq_recv");
		check(zmq_send(socket, data, run->payload, 0), "zmq_send");
	}
}

const struct links_peer links_zmq = {send_all, receive_all, ping, pong};
