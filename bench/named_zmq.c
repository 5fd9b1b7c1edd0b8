/* bench/named_zmq.c: ZeroMQ over ipc: PUSH and PULL for one receiver, XPUB and SUB for several. */
#include "named.h"

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

static void *
open_socket(int type)
{
	void *context = zmq_ctx_new(), *socket = zmq_socket(context, type);

	check(socket == NULL ? -1 : 0, "zmq_socket");
	/* The window bounds it. */
	check(zmq_setsockopt(socket, ZMQ_SNDHWM, &(int){0}, sizeof(int)), "zmq_setsockopt");
	check(zmq_setsockopt(socket, ZMQ_RCVHWM, &(int){0}, sizeof(int)), "zmq_setsockopt");
	return socket;
}

static void
address(const struct named_run *run, char text[128])
{
	snprintf(text, 128, "ipc://%s/zmq", run->place);
}

static void
publish(struct named_run *run, unsigned publisher)
{
	bool many = run->receivers > 1;
	void *out = open_socket(many ? ZMQ_XPUB : ZMQ_PUSH);
	char *data = calloc(1, run->payload), text[128];

	(void)publisher;
	address(run, text);
	if (many) {
		check(zmq_setsockopt(out, ZMQ_XPUB_VERBOSE, &(int){1}, sizeof(int)),
		    "zmq_setsockopt");
		check(zmq_bind(out, text), "zmq_bind");
		for (unsigned i = 0; i < run->receivers; i++)
			check(zmq_recv(out, text, sizeof text, 0), "zmq_recv"); /* a subscription */
	} else {
		check(zmq_connect(out, text), "zmq_connect");
	}
	named_await_go(run);
	for (uint64_t sent = 0; sent < run->count; sent++) {
		named_keep_window(run, sent);
		check(zmq_send(out, data, run->payload, 0), "zmq_send");
	}
	named_keep_window(run, UINT64_MAX);
	free(data);
}

static void
receive(struct named_run *run, unsigned receiver)
{
	bool many = run->receivers > 1, done = false;
	void *in = open_socket(many ? ZMQ_SUB : ZMQ_PULL);
	zmq_msg_t message;
	char text[128];

	address(run, text);
	if (many) {
		check(zmq_setsockopt(in, ZMQ_SUBSCRIBE, "", 0), "zmq_setsockopt");
		check(zmq_connect(in, text), "zmq_connect");
	} else {
		check(zmq_bind(in, text), "zmq_bind");
	}
	named_ready(run, receiver);
	zmq_msg_init(&message);
	while (!done) {
		check(zmq_msg_recv(&message, in, 0), "zmq_msg_recv");
		done = named_came(run, receiver, zmq_msg_data(&message));
	}
	atomic_store(&run->ends[receiver].ended_ns, bench_now_ns());
	zmq_msg_close(&message);
}

const struct named_peer named_zmq = {"ZeroMQ ipc", 20000, publish, receive, NULL, NULL};
