/* bench/stream_nng.c: NNG's pair sockets over inproc, with all the buffer that they allow. */
#include "stream.h"

#include <stdlib.h>
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

#define ADDRESS "inproc://bench"
#define BUFFER  8192 /* messages: the most there is */

struct peer {
	nng_socket out, in;
};

static void
check(int err, const char *what)
{
	if (err != 0)
		bench_die(what);
}

static nng_socket
open_socket(void)
{
	nng_socket socket;

	check(nng_pair0_open(&socket), "nng_pair0_open");
	check(nng_socket_set_int(socket, NNG_OPT_SENDBUF, BUFFER), "NNG_OPT_SENDBUF");
	check(nng_socket_set_int(socket, NNG_OPT_RECVBUF, BUFFER), "NNG_OPT_RECVBUF");
	return socket;
}

static void *
open_nng(struct stream *s)
{
	struct peer *p = calloc(1, sizeof *p);

	(void)s;
	if (p == NULL)
		bench_die("calloc");
	p->out = open_socket();
	p->in = open_socket();
	check(nng_listen(p->in, ADDRESS, NULL, 0), "nng_listen");
	check(nng_dial(p->out, ADDRESS, NULL, 0), "nng_dial");
	return p;
}

STREAM_INLINE void
send_one(struct stream *s, void *self, unsigned publisher, const void *data)
{
	struct peer *p = self;
	nng_msg *message;

	(void)publisher;
	check(nng_msg_alloc(&message, s->payload), "nng_msg_alloc");
	memcpy(nng_msg_body(message), data, s->payload);
	check(nng_sendmsg(p->out, message, 0), "nng_sendmsg");
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

	while (!stream_done(s, receiver)) {
		nng_msg *message;

		check(nng_recvmsg(p->in, &message, 0), "nng_recvmsg");
		s->callback(&s->receivers[receiver], nng_msg_body(message));
		nng_msg_free(message);
	}
}

static void
close_nng(void *self)
{
	struct peer *p = self;

	nng_close(p->out);
	nng_close(p->in);
	free(p);
}

const struct stream_peer stream_nng = {
    .open = open_nng, .publish = publish, .receive = receive, .close = close_nng};
