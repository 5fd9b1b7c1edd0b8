/* bench/stream_glib.c: GLib's async queue of allocated messages. */
#include "stream.h"

#include <string.h>

#include <glib.h>

static void *
open_queue(struct stream *s)
{
	(void)s;
	return g_async_queue_new();
}

STREAM_INLINE void
push(struct stream *s, void *self, unsigned publisher, const void *data)
{
	void *message = g_malloc(s->payload);

	(void)publisher;
	memcpy(message, data, s->payload);
	g_async_queue_push(self, message);
}

static void
publish(struct stream *s, void *self, unsigned publisher)
{
	stream_publish(s, self, publisher, push);
}

static void
receive(struct stream *s, void *self, unsigned receiver)
{
	while (!stream_done(s, receiver)) {
		void *message = g_async_queue_pop(self);

		s->callback(&s->receivers[receiver], message);
		g_free(message);
	}
}

static void
close_queue(void *self)
{
	g_async_queue_unref(self);
}

const struct stream_peer stream_glib = {
    .open = open_queue, .publish = publish, .receive = receive, .close = close_queue};
