/* bench/stream_ck.c: Concurrency Kit's ring, many producers and one consumer, of allocated messages; one ring,
 * or one for each subscriber. */
#include "stream.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <ck_ring.h>

struct queue {
	_Alignas(128) ck_ring_t ring;
	ck_ring_buffer_t *slots;
};

struct message {
	_Atomic unsigned readers;
	_Alignas(8) char payload[];
};

/* The rings, one after the other; the last one has no slots. */
static struct queue *
open_rings(unsigned count, unsigned slots)
{
	struct queue *queues = aligned_alloc(128, (count + 1) * sizeof *queues);

	if (queues == NULL)
		bench_die("aligned_alloc");
	for (unsigned i = 0; i < count; i++) {
		ck_ring_init(&queues[i].ring, slots);
		queues[i].slots = calloc(slots, sizeof *queues[i].slots);
		if (queues[i].slots == NULL)
			bench_die("calloc");
	}
	queues[count].slots = NULL;
	return queues;
}

static void
close_rings(void *self)
{
	struct queue *queues = self;

	for (struct queue *q = queues; q->slots != NULL; q++)
		free(q->slots);
	free(queues);
}

STREAM_INLINE struct message *
make_message(const struct stream *s, const void *data, unsigned readers)
{
	struct message *message = malloc(sizeof *message + s->payload);

	if (message == NULL)
		bench_die("malloc");
	atomic_init(&message->readers, readers);
	memcpy(message->payload, data, s->payload);
	return message;
}

STREAM_INLINE void
push(struct stream *s, struct queue *q, struct message *message)
{
	unsigned waited = 0;

	while (!ck_ring_enqueue_mpsc(&q->ring, q->slots, message))
		stream_wait(s, &waited);
}

/* --- one ring ----------------------------------------------------------------------------------------------- */

static void *
open_one(struct stream *s)
{
	(void)s;
	return open_rings(1, STREAM_SLOTS);
}

STREAM_INLINE void
send_one(struct stream *s, void *self, unsigned publisher, const void *data)
{
	(void)publisher;
	push(s, self, make_message(s, data, 1));
}

static void
publish_one(struct stream *s, void *self, unsigned publisher)
{
	stream_publish(s, self, publisher, send_one);
}

static void
receive_one(struct stream *s, void *self, unsigned receiver)
{
	struct queue *q = self;
	unsigned waited = 0;

	while (!stream_done(s, receiver)) {
		struct message *message;

		if (!ck_ring_dequeue_mpsc(&q->ring, q->slots, &message)) {
			stream_wait(s, &waited);
			continue;
		}
		waited = 0;
		s->callback(&s->receivers[receiver], message->payload);
		free(message);
	}
}

const struct stream_peer stream_ck = {
    .open = open_one, .publish = publish_one, .receive = receive_one, .close = close_rings};

/* --- one ring for each subscriber, one counted message for all ------------------------------------------ */

static void *
open_each(struct stream *s)
{
	return open_rings(s->shape.callbacks, STREAM_SLOTS);
}

STREAM_INLINE void
send_each(struct stream *s, void *self, unsigned publisher, const void *data)
{
	struct queue *queues = self;
	struct message *message = make_message(s, data, s->shape.callbacks);

	(void)publisher;
	for (unsigned i = 0; i < s->shape.callbacks; i++)
		push(s, &queues[i], message);
}

static void
publish_each(struct stream *s, void *self, unsigned publisher)
{
	stream_publish(s, self, publisher, send_each);
}

/* Takes what one subscriber has. */
static bool
drain(struct stream *s, struct queue *q, struct stream_receiver *receiver)
{
	struct message *message;
	bool any = false;

	while (ck_ring_dequeue_mpsc(&q->ring, q->slots, &message)) {
		any = true;
		s->callback(receiver, message->payload);
		if (atomic_fetch_sub_explicit(&message->readers, 1, memory_order_acq_rel) == 1)
			free(message);
	}
	return any;
}

static void
receive_each(struct stream *s, void *self, unsigned receiver)
{
	struct queue *queues = self;
	unsigned waited = 0;

	while (!stream_done(s, receiver)) {
		bool any = false;

		for (unsigned i = 0; i < s->shape.callbacks; i++)
			any |= drain(s, &queues[i], &s->receivers[receiver]);
		if (any)
			waited = 0;
		else
			stream_wait(s, &waited);
	}
}

const struct stream_peer stream_ck_each = {
    .open = open_each, .publish = publish_each, .receive = receive_each, .close = close_rings};
