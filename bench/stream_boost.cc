// bench/stream_boost.cc: Boost's lock-free queues, of 64-byte slots: many producers and consumers, and one of each.
#include "stream.h"

#include <cstring>

#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>

namespace
{

struct slot {
	char bytes[STREAM_SMALL];
};

using queue = boost::lockfree::queue<slot, boost::lockfree::fixed_sized<true>>;
using spsc_queue = boost::lockfree::spsc_queue<slot>;

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
push(struct stream *s, void *self, unsigned, const void *data)
{
	unsigned waited = 0;
	slot item;

	std::memcpy(&item, data, sizeof item);
	while (!static_cast<Queue *>(self)->push(item))
		stream_wait(s, &waited);
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
		if (!static_cast<Queue *>(self)->pop(item)) {
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
extern const struct stream_peer stream_boost_queue = {
    open_queue<queue>, publish<queue>, receive<queue>, nullptr, close_queue<queue>};
extern const struct stream_peer stream_boost_spsc = {open_queue<spsc_queue>, publish<spsc_queue>,
    receive<spsc_queue>, nullptr, close_queue<spsc_queue>};
}
