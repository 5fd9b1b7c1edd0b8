/* wire_choice/wire.h: the two faces of NNG behind one table, so that both are asked the same. */
#ifndef WIRE_CHOICE_WIRE_H
#define WIRE_CHOICE_WIRE_H

#include <stddef.h>

#include <nng/nng.h>

struct wire_kind;

struct wire {
	const struct wire_kind *kind;
	nng_socket socket;             /* sockets */
	nng_stream_listener *listener; /* streams */
	nng_stream *stream;
	nng_aio *aio;
};

/* Every call answers 0 or an NNG error; recv answers the number of bytes, 0 when 500 ms were silent. */
struct wire_kind {
	int (*listen)(struct wire *wire, const char *url, int *ret_port);
	int (*accept)(struct wire *wire); /* sockets accept by themselves */
	int (*dial)(struct wire *wire, const char *url);
	int (*send)(struct wire *wire, const void *data, size_t len);
	size_t (*recv)(struct wire *wire, void *buf, size_t cap);
	int (*close)(struct wire *wire); /* while bytes flow in */
};

extern const struct wire_kind wire_pair;
extern const struct wire_kind wire_pubsub; /* listens as PUB, dials as SUB, buffers as shipped */
extern const struct wire_kind wire_pubsub_8192; /* the same with the largest buffers NNG allows */
extern const struct wire_kind wire_stream;

#endif
