#include "wire.h"

#include <string.h>

enum { SILENCE_MS = 500 };

static int
wait_for(nng_aio *aio)
{
	nng_aio_wait(aio);
	return nng_aio_result(aio);
}

static int
stream_listen(struct wire *wire, const char *url, int *ret_port)
{
	int err = nng_aio_alloc(&wire->aio, NULL, NULL);

	*ret_port = 0;
	if (err == 0)
		err = nng_stream_listener_alloc(&wire->listener, url);
	if (err == 0 && strncmp(url, "tcp:", 4) == 0)
		err = nng_stream_listener_set_bool(wire->listener, NNG_OPT_TCP_NODELAY, true);
	if (err == 0)
		err = nng_stream_listener_listen(wire->listener);
	if (err == 0)
		(void)nng_stream_listener_get_int(wire->listener, NNG_OPT_TCP_BOUND_PORT, ret_port);
	return err;
}

static int
stream_accept(struct wire *wire)
{
	int err;

	if (wire->stream)
		nng_stream_free(wire->stream);
	wire->stream = NULL;
	nng_stream_listener_accept(wire->listener, wire->aio);
	err = wait_for(wire->aio);
	if (err == 0)
		wire->stream = nng_aio_get_output(wire->aio, 0);
	return err;
}

static int
stream_dial(struct wire *wire, const char *url)
{
	nng_stream_dialer *dialer;
	int err;

	err = nng_aio_alloc(&wire->aio, NULL, NULL);
	if (err == 0)
		err = nng_stream_dialer_alloc(&dialer, url);
	if (err != 0)
		return err;
	if (strncmp(url, "tcp:", 4) == 0)
		(void)nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true);
	nng_stream_dialer_dial(dialer, wire->aio);
	err = wait_for(wire->aio);
	if (err == 0)
		wire->stream = nng_aio_get_output(wire->aio, 0);
	nng_stream_dialer_free(dialer);
	nng_aio_set_timeout(wire->aio, SILENCE_MS);
	return err;
}

static int
stream_send(struct wire *wire, const void *data, size_t len)
{
	nng_iov iov = {.iov_buf = (void *)(uintptr_t)data, .iov_len = len};
	int err;

	while (iov.iov_len > 0) {
		nng_aio_set_iov(wire->aio, 1, &iov);
		nng_stream_send(wire->stream, wire->aio);
		err = wait_for(wire->aio);
		if (err != 0)
			return err;
		iov.iov_buf = (char *)iov.iov_buf + nng_aio_count(wire->aio);
		iov.iov_len -= nng_aio_count(wire->aio);
	}
	return 0;
}

static size_t
stream_recv(struct wire *wire, void *buf, size_t cap)
{
	nng_aio_set_iov(wire->aio, 1, &(nng_iov){.iov_buf = buf, .iov_len = cap});
	nng_stream_recv(wire->stream, wire->aio);
	return wait_for(wire->aio) == 0 ? nng_aio_count(wire->aio) : 0;
}

/* With a receive in the air, as a link has one whenever it is closed. */
static int
stream_close(struct wire *wire)
{
	static char in_the_air[4096];

	nng_aio_set_iov(
	    wire->aio, 1, &(nng_iov){.iov_buf = in_the_air, .iov_len = sizeof in_the_air});
	nng_stream_recv(wire->stream, wire->aio);
	nng_stream_close(wire->stream);
	nng_aio_wait(wire->aio);
	nng_stream_free(wire->stream);
	nng_aio_free(wire->aio);
	return 0;
}

const struct wire_kind wire_stream = {
    stream_listen, stream_accept, stream_dial, stream_send, stream_recv, stream_close};
