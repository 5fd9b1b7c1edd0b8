#include "wire.h"

#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>

enum { SILENCE_MS = 500, BIGGEST_BUFFER = 8192 };

static int
listen_on(struct wire *wire, const char *url, int *ret_port)
{
	nng_listener listener;
	int err = nng_listen(wire->socket, url, &listener, 0);

	*ret_port = 0;
	if (err == 0)
		(void)nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, ret_port);
	return err;
}

static int
pair_listen(struct wire *wire, const char *url, int *ret_port)
{
	int err = nng_pair0_open(&wire->socket);

	return err ? err : listen_on(wire, url, ret_port);
}

static int
pub_listen(struct wire *wire, const char *url, int *ret_port)
{
	int err = nng_pub0_open(&wire->socket);

	return err ? err : listen_on(wire, url, ret_port);
}

static int
pub_listen_8192(struct wire *wire, const char *url, int *ret_port)
{
	int err = nng_pub0_open(&wire->socket);

	if (err == 0)
		err = nng_socket_set_int(wire->socket, NNG_OPT_SENDBUF, BIGGEST_BUFFER);
	return err ? err : listen_on(wire, url, ret_port);
}

static int
accept_by_itself(struct wire *wire)
{
	(void)wire;
	return 0;
}

static int
dial_to(struct wire *wire, const char *url)
{
	int err = nng_socket_set_ms(wire->socket, NNG_OPT_RECVTIMEO, SILENCE_MS);

	return err ? err : nng_dial(wire->socket, url, NULL, 0);
}

static int
pair_dial(struct wire *wire, const char *url)
{
	int err = nng_pair0_open(&wire->socket);

	return err ? err : dial_to(wire, url);
}

static int
sub_dial_buffered(struct wire *wire, const char *url, int buffer)
{
	int err = nng_sub0_open(&wire->socket);

	if (err == 0)
		err = nng_socket_set(wire->socket, NNG_OPT_SUB_SUBSCRIBE, "", 0);
	if (err == 0 && buffer > 0)
		err = nng_socket_set_int(wire->socket, NNG_OPT_RECVBUF, buffer);
	return err ? err : dial_to(wire, url);
}

static int
sub_dial(struct wire *wire, const char *url)
{
	return sub_dial_buffered(wire, url, 0);
}

static int
sub_dial_8192(struct wire *wire, const char *url)
{
	return sub_dial_buffered(wire, url, BIGGEST_BUFFER);
}

static int
socket_send(struct wire *wire, const void *data, size_t len)
{
	return nng_send(wire->socket, (void *)(uintptr_t)data, len, 0);
}

static size_t
socket_recv(struct wire *wire, void *buf, size_t cap)
{
	return nng_recv(wire->socket, buf, &cap, 0) == 0 ? cap : 0;
}

static int
socket_close(struct wire *wire)
{
	return nng_close(wire->socket);
}

const struct wire_kind wire_pair = {
    pair_listen, accept_by_itself, pair_dial, socket_send, socket_recv, socket_close};
const struct wire_kind wire_pubsub = {
    pub_listen, accept_by_itself, sub_dial, socket_send, socket_recv, socket_close};
const struct wire_kind wire_pubsub_8192 = {
    pub_listen_8192, accept_by_itself, sub_dial_8192, socket_send, socket_recv, socket_close};
