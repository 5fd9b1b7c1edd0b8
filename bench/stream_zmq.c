/* bench/stream_zmq.c: ZeroMQ inproc: PAIR for one receiver, publish/subscribe for several. */
#include "stream.h"

#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#define ADDRESS "inproc://bench"

struct peer {
	void *context, *out, *in[STREAM_RECEIVERS];
	unsigned receivers;
};

static void
check(int result, const char *what)
{
	if (result < 0)
		bench_die(what);
}

/* Waits for a subscription, as the publisher sees it: what is sent before would be lost. */
static void
await_subscription(void *out)
{
	char subscription[8];

	check(zmq_recv(out, subscription, sizeof subscription, 0), "zmq_recv");
}

static void *
open_zmq(struct stream *s)
{
	bool many = s->shape.receivers > 1;
	struct peer *p = calloc(1, sizeof *p);

	if (p == NULL)
		bench_die("calloc");
	p->context = zmq_ctx_new();
	p->out = zmq_socket(p->context, many ? ZMQ_XPUB : ZMQ_PAIR);
	if (many) /* or it would hide that a second receiver wants the same */
		check(zmq_setsockopt(p->out, ZMQ_XPUB_VERBOSE, &(int){1}, sizeof(int)),
		    "zmq_setsockopt");
	check(zmq_bind(p->out, ADDRESS), "zmq_bind");
	for (; p->receivers < s->shape.receivers; p->receivers++) {
		void *in = zmq_socket(p->context, many ? ZMQ_SUB : ZMQ_PAIR);

		p->in[p->receivers] = in;
		check(zmq_connect(in, ADDRESS), "zmq_connect");
		if (many) {
			check(zmq_setsockopt(in, ZMQ_SUBSCRIBE, "", 0), "zmq_setsockopt");
			await_subscription(p->out);
		}
	}
	return p;
}

STREAM_INLINE void
send_one(struct stream *s, void *self, unsigned publisher, const void *data)
{
	struct peer *p = self;

	(void)publisher;
	check(zmq_send(p->out, data, s->payload, 0), "zmq_send");
}

static void
publish(struct stream *s, void *self, unsigned publisher)
{
	stream_publish(s, self, publisher, send_one);
}

static void
receive(struct stream *s, void *self, unsigned receiver)
{
	struct peer *p = self;
	zmq_msg_t message;

	zmq_msg_init(&message);
	while (!stream_done(s, receiver)) {
		check(zmq_msg_recv(&message, p->in[receiver], 0), "zmq_msg_recv");
		s->callback(&s->receivers[receiver], zmq_msg_data(&message));
	}
	zmq_msg_close(&message);
}

static void
close_zmq(void *self)
{
	struct peer *p = self;

	for (unsigned i = 0; i < p->receivers; i++)
		zmq_close(p->in[i]);
	zmq_close(p->out);
	zmq_ctx_term(p->context);
	free(p);
}

const struct stream_peer stream_zmq = {
    .open = open_zmq, .publish = publish, .receive = receive, .close = close_zmq};
