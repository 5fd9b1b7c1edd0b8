/* bench/stream.h: messages from publisher threads to receiver threads, delivered to callbacks.
 *
 * An adaptor says how to open a peer, what sends one message and how a receiver takes them out; the loops,
 * the restraint of the publishers, the callback and the clock are the same for all. Everybody reaches the
 * callback through a pointer. C++ may include this. */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine.h"

#ifdef __cplusplus
extern "C" {
#endif

#define STREAM_SMALL      64   /* bytes: what peers of fixed size take */
#define STREAM_LARGE      4096 /* bytes */
#define STREAM_BATCH      16
#define STREAM_PUBLISHERS 2
#define STREAM_RECEIVERS  4
#define STREAM_SLOTS      4096 /* messages that peers of fixed size hold: as libbus, a power of two */

#define STREAM_INLINE static inline __attribute__((always_inline))

struct stream_shape {
	unsigned publishers, receivers;
	unsigned callbacks; /* behind each receiver */
	uint64_t window;    /* messages in flight; 0: flat out */
};

/* How a payload begins. */
struct stream_item {
	uint64_t sequence; /* per publisher */
	uint64_t publisher;
};

/* What a receiver has seen of one publisher. Written by the receiver, read by that publisher. */
struct stream_sink {
	uint64_t calls __attribute__((aligned(128)));
	uint64_t sum; /* of sequences: nothing lost, nothing twice */
	int64_t ended_ns;
};

struct stream;

struct stream_receiver {
	struct stream *stream;
	uint64_t target;                                   /* calls per publisher */
	unsigned open_sinks __attribute__((aligned(128))); /* publishers that are not through */
	struct stream_sink from[STREAM_PUBLISHERS];
};

struct stream {
	struct stream_shape shape;
	size_t payload;
	uint64_t count; /* messages of each publisher */
	bool crowded;   /* more threads than CPUs: who waits gives way */
	void (*callback)(struct stream_receiver *receiver, const void *data);
	int64_t begun_ns;
	struct stream_receiver receivers[STREAM_RECEIVERS];
};

struct stream_peer {
	void *(*open)(struct stream *s); /* the calling thread opens and closes */
	/* Sends s->count messages; runs on a thread for each publisher. */
	void (*publish)(struct stream *s, void *peer, unsigned publisher);
	/* Takes out until the receiver has everything; a thread each. NULL: the peer has threads of its own. */
	void (*receive)(struct stream *s, void *peer, unsigned receiver);
	/* Waits for what is still to come of a flat-out run and answers the share that was lost; may be NULL. */
	double (*settle)(void *peer);
	void (*close)(void *peer);
};

/* The adaptors. */
extern const struct stream_peer stream_libbus, stream_libbus_batch, stream_libbus_named,
    stream_mutex, stream_ck, stream_spsc, stream_spsc_batch, stream_zmq, stream_nng, stream_ck_each;

/* The callback of all but libbus, which brings its own pointer. */
void stream_callback(struct stream_receiver *receiver, const void *data);

/* Notes when a receiver has everything of one publisher. */
void stream_complete(struct stream_receiver *receiver, struct stream_sink *sink);

/* What a waiting thread does between two looks: *waited counts them, and is 0 after a success. */
void stream_wait(const struct stream *s, unsigned *waited);

/* Waits until `step` more messages of a publisher keep within the window. */
void stream_keep_window(struct stream *s, unsigned publisher, uint64_t sent, uint64_t step);

/* A payload of s->payload bytes, to be freed. */
void *stream_payload(const struct stream *s, unsigned publisher, size_t count);

/* Puts the calling thread where a receiver belongs: a CPU of its own if there are enough, else never beside
 * a single publisher. */
void stream_place_receiver(const struct stream *s, unsigned receiver);

/* What every callback does: look at the payload and count. */
STREAM_INLINE void
stream_take(struct stream_receiver *receiver, const void *data)
{
	const struct stream_item *item = (const struct stream_item *)data;
	struct stream_sink *sink = &receiver->from[item->publisher];
	uint64_t calls = sink->calls + 1;

	sink->sum += item->sequence;
	__atomic_store_n(&sink->calls, calls, __ATOMIC_RELEASE);
	if (calls == receiver->target)
		stream_complete(receiver, sink);
}

/* Whether a receiver may go home. Only on its own thread. */
STREAM_INLINE bool
stream_done(const struct stream *s, unsigned receiver)
{
	return s->receivers[receiver].open_sinks == 0;
}

/* Between two looks at the receivers' counters: they are asked often enough for a small window, and seldom
 * enough to cost nothing in a large one. */
STREAM_INLINE uint64_t
stream_step(const struct stream *s)
{
	return s->shape.window == 0 || s->shape.window >= 256 ? 64 : 4;
}

/* The loop of a publisher; send is inlined here. */
STREAM_INLINE void
stream_publish(struct stream *s, void *peer, unsigned publisher,
    void (*send)(struct stream *s, void *peer, unsigned publisher, const void *data))
{
	struct stream_item *item = (struct stream_item *)stream_payload(s, publisher, 1);
	uint64_t step = stream_step(s);

	for (uint64_t i = 0; i < s->count; i++) {
		if (i % step == 0)
			stream_keep_window(s, publisher, i, step);
		item->sequence = i;
		send(s, peer, publisher, item);
	}
	__builtin_free(item);
}

/* The same STREAM_BATCH at a time: `items` are so many payloads one behind the other. */
STREAM_INLINE void
stream_publish_batches(struct stream *s, void *peer, unsigned publisher,
    void (*send)(struct stream *s, void *peer, unsigned publisher, const void *items, size_t count))
{
	char *items = (char *)stream_payload(s, publisher, STREAM_BATCH);
	uint64_t step = stream_step(s);

	for (uint64_t i = 0; i < s->count;) {
		size_t count = s->count - i < STREAM_BATCH ? (size_t)(s->count - i) : STREAM_BATCH;

		if (i % step == 0)
			stream_keep_window(s, publisher, i, step);
		for (size_t k = 0; k < count; k++)
			((struct stream_item *)(void *)(items + k * s->payload))->sequence = i + k;
		send(s, peer, publisher, items, count);
		i += count;
	}
	__builtin_free(items);
}

#ifdef __cplusplus
}
#endif
#endif
