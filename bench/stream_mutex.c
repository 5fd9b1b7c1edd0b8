/* bench/stream_mutex.c: the queue that programs usually have: a list of allocated messages, a mutex, a
 * condition variable. */
#include "stream.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct message {
	struct message *next;
	_Alignas(8) char payload[];
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct message *first, **end;
};

static void *
open_queue(struct stream *s)
{
	struct queue *q = calloc(1, sizeof *q);

	(void)s;
	if (q == NULL)
		bench_die("calloc");
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->filled, NULL);
	q->end = &q->first;
	return q;
}

STREAM_INLINE void
push(struct stream *s, void *self, unsigned publisher, const void *data)
{
	struct queue *q = self;
	struct message *message = malloc(sizeof *message + s->payload);

	(void)publisher;
	if (message == NULL)
		bench_die("malloc");
	message->next = NULL;
	memcpy(message->payload, data, s->payload);
	pthread_mutex_lock(&q->lock);
	*q->end = message;
	q->end = &message->next;
	pthread_mutex_unlock(&q->lock);
	pthread_cond_signal(&q->filled);
}

static void
publish(struct stream *s, void *self, unsigned publisher)
{
	stream_publish(s, self, publisher, push);
}

static struct message *
pop(struct queue *q)
{
	struct message *message;

	pthread_mutex_lock(&q->lock);
	while (q->first == NULL)
		pthread_cond_wait(&q->filled, &q->lock);
	message = q->first;
	q->first = message->next;
	if (q->first == NULL)
		q->end = &q->first;
	pthread_mutex_unlock(&q->lock);
	return message;
}

static void
receive(struct stream *s, void *self, unsigned receiver)
{
	while (!stream_done(s, receiver)) {
		struct message *message = pop(self);

		s->callback(&s->receivers[receiver], message->payload);
		free(message);
	}
}

static void
close_queue(void *self)
{
	struct queue *q = self;

	pthread_cond_destroy(&q->filled);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

const struct stream_peer stream_mutex = {
    .open = open_queue, .publish = publish, .receive = receive, .close = close_queue};
