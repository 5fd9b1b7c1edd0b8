#include "stream.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contest.h"

/* Between two looks of somebody who waits. Of 1 to 256 this is what the peers are fastest with. */
#define PAUSES        64
#define PATIENT_LOOKS 50 /* until he gives his CPU away between them */

void
stream_callback(struct stream_receiver *receiver, const void *data)
{
	stream_take(receiver, data);
}

void
stream_complete(struct stream_receiver *receiver, struct stream_sink *sink)
{
	__atomic_store_n(&sink->ended_ns, bench_now_ns(), __ATOMIC_RELEASE);
	__atomic_store_n(&receiver->open_sinks, receiver->open_sinks - 1, __ATOMIC_RELEASE);
}

void
stream_wait(const struct stream *s, unsigned *waited)
{
	if (++*waited > (s->crowded ? PATIENT_LOOKS / 10 : PATIENT_LOOKS))
		sched_yield();
	else
		bench_relax(PAUSES);
}

static uint64_t
least_calls(const struct stream *s, unsigned publisher)
{
	uint64_t least = UINT64_MAX;

	for (unsigned r = 0; r < s->shape.receivers; r++) {
		uint64_t calls =
		    __atomic_load_n(&s->receivers[r].from[publisher].calls, __ATOMIC_ACQUIRE);

		if (calls < least)
			least = calls;
	}
	return least;
}

void
stream_keep_window(struct stream *s, unsigned publisher, uint64_t sent, uint64_t step)
{
	/* Publishers share the window evenly. */
	uint64_t mine = s->shape.window / s->shape.publishers * s->shape.callbacks;
	uint64_t calls = (sent + step) * s->shape.callbacks;
	unsigned waited = 0;

	if (s->shape.window == 0)
		return;
	while (calls - least_calls(s, publisher) > mine)
		stream_wait(s, &waited);
}

void *
stream_payload(const struct stream *s, unsigned publisher, size_t count)
{
	const struct stream_item item = {.publisher = publisher};
	char *bytes = calloc(count, s->payload);

	if (bytes == NULL)
		bench_die("calloc");
	for (size_t i = 0; i < count; i++)
		memcpy(bytes + i * s->payload, &item, sizeof item);
	return bytes;
}

/* --- one run ---------------------------------------------------------------------------------------------- */

struct worker {
	struct stream *stream;
	const struct stream_peer *peer;
	void *self;
	unsigned index;
	pthread_barrier_t *start;
	pthread_t thread;
};

static void *
run_publisher(void *arg)
{
	struct worker *w = arg;

	bench_pin(w->index);
	pthread_barrier_wait(w->start);
	if (w->index == 0)
		w->stream->begun_ns = bench_now_ns();
	w->peer->publish(w->stream, w->self, w->index);
	return NULL;
}

static void *
run_receiver(void *arg)
{
	struct worker *w = arg;

	stream_place_receiver(w->stream, w->index);
	pthread_barrier_wait(w->start);
	w->peer->receive(w->stream, w->self, w->index);
	return NULL;
}

void
stream_place_receiver(const struct stream *s, unsigned receiver)
{
	if (!s->crowded)
		bench_pin(s->shape.publishers + receiver);
	else if (s->shape.publishers == 1)
		bench_avoid(0);
	else
		bench_unpin();
}

static void
prepare(struct stream *s, const struct contest *contest, uint64_t count)
{
	const struct stream_shape *shape = contest->how;

	memset(s, 0, sizeof *s);
	s->shape = *shape;
	s->payload = contest->payload;
	s->count = count / shape->publishers + 1;
	s->crowded = shape->publishers + shape->receivers > bench_cpus();
	s->callback = stream_callback;
	for (unsigned r = 0; r < shape->receivers; r++) {
		s->receivers[r].stream = s;
		s->receivers[r].target = s->count * shape->callbacks;
		s->receivers[r].open_sinks = shape->publishers;
	}
}

/* Waits for all receivers and checks that everything came once. Returns when the last message came. */
static int64_t
await_receivers(struct stream *s)
{
	uint64_t sum = s->count * (s->count - 1) / 2 * s->shape.callbacks;
	int64_t ended_ns = 0;

	for (unsigned r = 0; r < s->shape.receivers; r++) {
		while (__atomic_load_n(&s->receivers[r].open_sinks, __ATOMIC_ACQUIRE) > 0)
			usleep(200);
		for (unsigned p = 0; p < s->shape.publishers; p++) {
			const struct stream_sink *sink = &s->receivers[r].from[p];

			if (sink->sum != sum)
				bench_die("delivering every message once");
			if (sink->ended_ns > ended_ns)
				ended_ns = sink->ended_ns;
		}
	}
	return ended_ns;
}

/* Messages per second at the receivers: each of several gets all of them. */
static struct sample
run_stream(const struct contest *contest, const struct entry *entry, uint64_t count)
{
	const struct stream_peer *peer = entry->who;
	struct worker publishers[STREAM_PUBLISHERS], receivers[STREAM_RECEIVERS];
	unsigned threads = 0;
	pthread_barrier_t start;
	struct stream s;
	struct sample sample = {0};
	int64_t ended_ns;
	void *self;

	prepare(&s, contest, count);
	self = peer->open(&s);
	threads = s.shape.publishers + (peer->receive != NULL ? s.shape.receivers : 0);
	pthread_barrier_init(&start, NULL, threads);
	for (unsigned r = 0; peer->receive != NULL && r < s.shape.receivers; r++) {
		receivers[r] = (struct worker){&s, peer, self, r, &start, 0};
		if (pthread_create(&receivers[r].thread, NULL, run_receiver, &receivers[r]) != 0)
			bench_die("pthread_create");
	}
	for (unsigned p = 0; p < s.shape.publishers; p++) {
		publishers[p] = (struct worker){&s, peer, self, p, &start, 0};
		if (pthread_create(&publishers[p].thread, NULL, run_publisher, &publishers[p]) != 0)
			bench_die("pthread_create");
	}
	for (unsigned p = 0; p < s.shape.publishers; p++)
		pthread_join(publishers[p].thread, NULL);
	if (s.shape.window == 0) {
		sample.lost_share = peer->settle(self);
		ended_ns = bench_now_ns();
	} else {
		ended_ns = await_receivers(&s);
	}
	for (unsigned r = 0; peer->receive != NULL && r < s.shape.receivers; r++)
		pthread_join(receivers[r].thread, NULL);
	pthread_barrier_destroy(&start);
	peer->close(self);
	sample.value = (double)(s.count * s.shape.publishers) * (1 - sample.lost_share) /
		       ((double)(ended_ns - s.begun_ns) / 1e9);
	return sample;
}

/* --- the contests ------------------------------------------------------------------------------------------- */

/* Half of the default bound of 256 KiB, in frames of 80 bytes, and of 4 KiB with what belongs to each. */
#define SMALL_WINDOW 1600
#define LARGE_WINDOW 28

static const struct stream_shape one_to_one = {1, 1, 1, SMALL_WINDOW};
static const struct stream_shape flat_out = {1, 1, 1, 0};
static const struct stream_shape two_to_one = {2, 1, 1, SMALL_WINDOW};
static const struct stream_shape one_to_16 = {1, 1, 16, SMALL_WINDOW};
static const struct stream_shape one_to_64 = {1, 1, 64, SMALL_WINDOW};
static const struct stream_shape large_one = {1, 1, 1, LARGE_WINDOW};
static const struct stream_shape large_four = {1, 4, 1, LARGE_WINDOW};

#define LIBBUS                                                                                     \
	{                                                                                          \
		"libbus", run_stream, &stream_libbus, 0, 0                                         \
	}
#define BAR(name, peer, bar, aim)                                                                  \
	{                                                                                          \
		name, run_stream, &stream_##peer, bar, aim                                         \
	}

static const struct entry one_to_one_entries[] = {
    LIBBUS,
    BAR("mutex+condvar with malloc", mutex, 9, 0),
    BAR("ck MPSC ring with malloc", ck, 4.5, 0),
    BAR("ZeroMQ inproc", zmq, 8, 0),
    BAR("NNG inproc", nng, 150, 0),
    BAR("raw SPSC index ring", spsc, 0.4, 0.6),
};

static const struct entry batch_entries[] = {
    {"libbus", run_stream, &stream_libbus_batch, 0, 0},
    BAR("raw SPSC index ring", spsc_batch, 0.6, 0.9),
};

static const struct entry named_entries[] = {
    {"libbus, a bus with a name", run_stream, &stream_libbus_named, 0, 0},
    BAR("libbus, a private bus", libbus, 0.4, 0),
};

static const struct entry flat_out_entries[] = {LIBBUS};

static const struct entry two_to_one_entries[] = {
    LIBBUS,
    BAR("mutex+condvar with malloc", mutex, 7, 0),
    BAR("ck MPSC ring with malloc", ck, 1.7, 0),
};

static const struct entry callbacks_entries[] = {
    LIBBUS,
    BAR("ck MPSC ring per subscriber", ck_each, 10, 0),
};

static const struct entry large_one_entries[] = {LIBBUS, BAR("ZeroMQ inproc", zmq, 2, 0)};
static const struct entry large_four_entries[] = {LIBBUS, BAR("ZeroMQ inproc", zmq, 4, 0)};

#define STREAM(groups, names, bytes, shape, table)                                                 \
	{                                                                                          \
		.group = groups, .name = names, .payload = bytes, .unit = "messages/s",            \
		.how = &shape, ENTRIES(table)                                                      \
	}

const struct contest stream_contests[] = {
    STREAM("stream", "1 to 1", STREAM_SMALL, one_to_one, one_to_one_entries),
    STREAM("batch", "1 to 1, batches of 16", STREAM_SMALL, one_to_one, batch_entries),
    STREAM("stream", "1 to 1, flat out", STREAM_SMALL, flat_out, flat_out_entries),
    STREAM("publishers", "2 publishers to 1 mailbox", STREAM_SMALL, two_to_one, two_to_one_entries),
    STREAM("callbacks", "1 to 16 callbacks in one mailbox", STREAM_SMALL, one_to_16,
	callbacks_entries),
    STREAM("callbacks", "1 to 64 callbacks in one mailbox", STREAM_SMALL, one_to_64,
	callbacks_entries),
    STREAM("large", "1 to 1", STREAM_LARGE, large_one, large_one_entries),
    STREAM("large", "1 to 4 mailboxes", STREAM_LARGE, large_four, large_four_entries),
    STREAM("named", "1 to 1, one process", STREAM_SMALL, one_to_one, named_entries),
};
const unsigned stream_contest_count = COUNT_OF(stream_contests);
