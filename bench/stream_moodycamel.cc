// bench/stream_moodycamel.cc: moodycamel's queues of 64-byte items: many producers and consumers, and one of each.
#include "stream.h"

#include <cstring>

#include <concurrentqueue/concurrentqueue.h>
#include <readerwriterqueue/readerwriterqueue.h>

namespace
{

struct slot {
	char bytes[STREAM_SMALL];
};

using queue = moodycamel::ConcurrentQueue<slot>;
using spsc_queue = moodycamel::ReaderWriterQueue<slot>;

template <class Queue>
void *
open_queue(struct stream *s)
{
	if (s->payload != STREAM_SMALL)
		bench_die("opening a queue");
	return new Queue(STREAM_SLOTS);
}

template <class Queue>
STREAM_INLINE void
push(struct stream *, void *self, unsigned, const void *data)
{
	slot item;

	std::memcpy(&item, data, sizeof item);
	if (!static_cast<Queue *>(self)->enqueue(item))
		bench_die("enqueue");
}

template <class Queue>
void
publish(struct stream *s, void *self, unsigned publisher)
{
	stream_publish(s, self, publisher, push<Queue>);
}

template <class Queue>
void
receive(struct stream *s, void *self, unsigned receiver)
{
	unsigned waited = 0;
	slot item;

	while (!stream_done(s, receiver)) {
		if (!static_cast<Queue *>(self)->try_dequeue(item)) {
			stream_wait(s, &waited);
			continue;
		}
		waited = 0;
		s->callback(&s->receivers[receiver], &item);
	}
}

template <class Queue>
void
close_queue(void *self)
{
	delete static_cast<Queue *>(self);
}

} // namespace

extern "C" {
extern const struct stream_peer stream_moodycamel = {
    open_queue<queue>, publish<queue>, receive<queue>, nullptr, close_queue<queue>};
extern const struct stream_peer stream_readerwriter = {open_queue<spsc_queue>, publish<spsc_queue>,
    receive<spsc_queue>, nullptr, close_queue<spsc_queue>};
}
