/* How much of a mailbox one send takes, and the events during a send. The stream is the test's own: it records each send
 * and keeps it under way until the test completes it. */
#define _GNU_SOURCE
#include "fake_clock.h"
#include "link_test.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bus/peer.h"
#include "link/flush.h"
#include "link/session.h"

/* A send holds 64 KiB, less the room that the largest small message with its topic may need. */
enum { MESSAGES = 2000, FULL_SEND = 40 * 1024 };

struct rig {
	struct bus__stream stream; /* first: the operations receive it */
	struct bus *bus;
	struct bus__links links;
	struct bus_link link;
	struct bus__session session;
	struct bus__peer peer;
	_Atomic bool woken;
	unsigned sends, short_sends; /* short: below FULL_SEND */
	size_t bytes, last;
	size_t piece;  /* the most that a send moves; 0: all */
	uint8_t *wire; /* all sent bytes, if not NULL */
};

static void
record_send(struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io)
{
	struct rig *rig = (struct rig *)stream;

	rig->last = 0;
	for (unsigned i = 0; i < n; i++) {
		size_t len = iov[i].iov_len;

		if (rig->piece > 0 && len > rig->piece - rig->last)
			len = rig->piece - rig->last;
		if (rig->wire != NULL)
			memcpy(rig->wire + rig->bytes + rig->last, iov[i].iov_base, len);
		rig->last += len;
	}
	rig->sends++;
	rig->short_sends += rig->last < FULL_SEND;
	rig->bytes += rig->last;
	io->err = 0;
	io->count = rig->last;
}

static const struct bus__stream_ops recorder = {.send = record_send};

static void
wake(void *arg)
{
	struct rig *rig = arg;

	rig->woken = true;
}

static void
rig_open(struct rig *rig, const char *name, size_t mailbox_bytes)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = name != NULL ? bus_test_dir() : NULL};

	*rig = (struct rig){.stream = {&recorder}};
	ck_bus(bus_open(name, &cfg, &rig->bus), 0);
	rig->links.bus = rig->bus;
	rig->link.links = &rig->links;
	rig->session.link = &rig->link;
	rig->session.stream = &rig->stream;
	rig->session.stage = BUS__STAGE_LIVE;
	rig->session.hello.max_payload = 1 << 20;
	rig->session.peer = &rig->peer;
	ck_bus(bus__peer_open(rig->bus, NULL, mailbox_bytes, wake, rig, &rig->session.mbox), 0);
	ck_bus(bus_mailbox_subscribe(rig->session.mbox, "#", NULL, NULL, NULL), 0);
}

static void
rig_close(struct rig *rig)
{
	bus__peer_close(rig->session.mbox);
	bus__bytes_free(&rig->session.queue.bytes);
	bus__bytes_free(&rig->session.flying.bytes);
	bus__buffers_free(&rig->links.buffers);
	for (size_t i = 0; i < BUS__TOPICS_PARTS; i++)
		bus__free(rig->session.told_topics[i]);
	ck_bus(bus_close(rig->bus, patience_ms()), 0);
}

static void
publish(struct rig *rig, unsigned count, size_t len)
{
	static const char payload[1024];

	for (unsigned i = 0; i < count; i++)
		ck_bus(bus_publish(rig->bus, "plant/temp", payload, len), 0);
}

/* Sends until the mailbox sleeps. */
static void
drain(struct rig *rig)
{
	ck_eventually(rig->woken);
	rig->woken = false;
	rig->session.draining = true;
	ck_bus(bus__session_send(&rig->session), 0);
	while (rig->session.sending)
		ck_bus(bus__session_sent(&rig->session), 0);
	ck_assert(!rig->session.draining);
}

static const size_t lengths[] = {64, 256, 1024};

enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

START_TEST(a_send_is_full_unless_it_empties_the_mailbox)
{
	size_t len = lengths[_i];
	struct rig rig;

	rig_open(&rig, NULL, 8 << 20);
	publish(&rig, MESSAGES, len);
	drain(&rig);
	ck_assert_uint_eq(rig.link.sent, MESSAGES);
	ck_assert_uint_eq(rig.link.lost, 0);
	ck_assert_uint_ge(rig.bytes, MESSAGES * len);
	ck_assert_msg(rig.short_sends <= 1, "%u of %u sends were short with payloads of %zu bytes",
	    rig.short_sends, rig.sends, len);
	ck_assert_uint_le(rig.sends, rig.bytes / FULL_SEND + 1);
	rig_close(&rig);
}
END_TEST

START_TEST(a_send_from_a_named_bus_is_full_too)
{
	size_t len = lengths[_i];
	struct rig rig;

	rig_open(&rig, "sends", 8 << 20);
	publish(&rig, MESSAGES, len);
	while (rig.link.sent < MESSAGES)
		drain(&rig);
	ck_assert_uint_eq(rig.link.sent, MESSAGES);
	ck_assert_uint_eq(rig.link.lost, 0);
	ck_assert_msg(rig.short_sends <= 1, "%u of %u sends were short with payloads of %zu bytes",
	    rig.short_sends, rig.sends, len);
	rig_close(&rig);
}
END_TEST

START_TEST(every_message_is_either_sent_or_counted_as_lost)
{
	size_t len = lengths[_i];
	struct bus_stats stats = {.size = sizeof stats};
	struct rig rig;

	rig_open(&rig, NULL, 128 * 1024);
	publish(&rig, MESSAGES, len);
	drain(&rig);
	ck_bus(bus_mailbox_stats(rig.session.mbox, &stats), 0);
	ck_assert_uint_gt(rig.link.lost, 0);
	ck_assert_uint_eq(rig.link.sent + rig.link.lost, MESSAGES);
	ck_assert_uint_eq(stats.offered, MESSAGES);
	ck_assert_uint_eq(stats.pending, 0);
	rig_close(&rig);
}
END_TEST

START_TEST(a_message_that_expires_is_counted_at_once_also_if_no_other_follows)
{
	const struct bus_msg msg = {.size = sizeof msg, .topic = "plant/temp", .ttl_ms = 1};
	struct rig rig;

	rig_open(&rig, NULL, 8 << 20);
	ck_bus(bus_publish_msg(rig.bus, &msg), 0);
	clock_pass_ms(2);
	drain(&rig);
	ck_assert_uint_eq(rig.link.lost, 1);
	ck_assert_uint_eq(rig.bytes, BUS__FRAME_HEAD + 8); /* LOST */
	publish(&rig, 1, 1);
	drain(&rig);
	ck_assert_uint_eq(rig.link.lost, 1);
	ck_assert_uint_eq(rig.link.sent, 1);
	rig_close(&rig);
}
END_TEST

START_TEST(a_message_larger_than_a_send_keeps_its_place_in_order)
{
	void *large = calloc(1, 200000);
	struct rig rig;

	ck_assert_ptr_nonnull(large);
	rig_open(&rig, NULL, 8 << 20);
	publish(&rig, 100, 256);
	ck_bus(bus_publish(rig.bus, "plant/picture", large, 200000), 0);
	publish(&rig, 100, 256);
	drain(&rig);
	ck_assert_uint_eq(rig.link.sent, 201);
	ck_assert_uint_eq(rig.sends, 2);
	ck_assert_uint_lt(rig.last, FULL_SEND);
	rig_close(&rig);
	free(large);
}
END_TEST

/* Publishes one message, and its send begins. */
static void
begin_send(struct rig *rig)
{
	publish(rig, 1, 10);
	ck_assert(rig->woken);
	rig->session.draining = true;
	ck_bus(bus__session_send(&rig->session), 0);
	ck_assert(rig->session.sending);
	ck_assert_uint_eq(rig->sends, 1);
}

START_TEST(sends_grow_under_load_and_the_buffers_go_when_it_is_over)
{
	struct rig rig;

	rig_open(&rig, NULL, 8 << 20);
	publish(&rig, MESSAGES, 1024);
	drain(&rig);
	ck_assert_uint_eq(rig.link.sent, MESSAGES);
	ck_assert_uint_le(rig.sends, 3 + rig.bytes / (BUS__BUFFER_OUT - FULL_SEND));
	ck_assert_uint_eq(rig.links.buffers.grown, 2 * BUS__BUFFER_OUT);
	bus__session_shed(&rig.session);
	ck_assert_uint_eq(rig.links.buffers.grown, 2 * BUS__BUFFER_OUT);
	clock_pass_ms(1000);
	bus__session_shed(&rig.session);
	ck_assert_uint_eq(rig.links.buffers.grown, 0);
	ck_assert_ptr_null(rig.session.queue.bytes.data);
	ck_assert_ptr_null(rig.session.flying.bytes.data);
	rig_close(&rig);
}
END_TEST

/* Light traffic never lets it rest for a second. */
START_TEST(light_traffic_shrinks_grown_buffers)
{
	struct rig rig;

	rig_open(&rig, NULL, 8 << 20);
	publish(&rig, MESSAGES, 1024);
	drain(&rig);
	for (int i = 0; i < 5; i++) {
		publish(&rig, 1, 1024);
		drain(&rig);
		clock_pass_ms(400);
	}
	ck_assert_uint_eq(rig.links.buffers.grown, 0);
	rig_close(&rig);
}
END_TEST

START_TEST(without_memory_for_larger_sends_they_stay_as_they_are)
{
	struct rig rig;

	rig_open(&rig, NULL, 8 << 20);
	begin_send(&rig);
	publish(&rig, MESSAGES, 1024);
	bus__mem_fail_many(0, 1000000);
	for (int i = 0; i < 4; i++)
		ck_bus(bus__session_sent(&rig.session), 0);
	ck_assert_uint_eq(rig.links.buffers.grown, 0);
	bus__mem_fail_after(-1);
	while (rig.session.sending)
		ck_bus(bus__session_sent(&rig.session), 0);
	ck_assert_uint_eq(rig.link.sent, MESSAGES + 1);
	rig_close(&rig);
}
END_TEST

/* --- while a send is under way ------------------------------------------------------------------------------- */

static uint64_t
pending(struct rig *rig)
{
	return mailbox_stats(rig->session.mbox).pending;
}

START_TEST(messages_published_during_a_send_go_out_with_the_next)
{
	struct rig rig;

	rig_open(&rig, NULL, 8 << 20);
	begin_send(&rig);
	publish(&rig, 300, 64);
	ck_bus(bus__session_send(&rig.session), 0); /* some other event of the connection */
	ck_assert_uint_eq(rig.sends, 1);
	ck_assert_uint_eq(pending(&rig), 0);
	ck_assert_uint_eq(rig.link.sent, 0);
	ck_bus(bus__session_sent(&rig.session), 0);
	ck_assert_uint_eq(rig.sends, 2);
	ck_assert_uint_eq(rig.link.sent, 1);
	ck_bus(bus__session_sent(&rig.session), 0);
	ck_assert_uint_eq(rig.link.sent, 301);
	ck_assert(!rig.session.draining);
	rig_close(&rig);
}
END_TEST

START_TEST(messages_behind_a_send_fit_the_next_one)
{
	struct rig rig;

	rig_open(&rig, NULL, 8 << 20);
	begin_send(&rig);
	publish(&rig, MESSAGES, 1024);
	ck_bus(bus__session_send(&rig.session), 0);
	ck_assert_uint_gt(pending(&rig), MESSAGES / 2);
	ck_assert_uint_eq(pending(&rig) + rig.session.queue.msgs, MESSAGES);
	while (rig.session.sending)
		ck_bus(bus__session_sent(&rig.session), 0);
	ck_assert_uint_eq(rig.link.sent, MESSAGES + 1);
	rig_close(&rig);
}
END_TEST

/* The kinds of the frames on the wire, and the length of the longest. */
static size_t
read_kinds(const struct rig *rig, size_t most, uint8_t *ret_kinds, size_t *ret_longest)
{
	struct bus__frame frame;
	size_t count = 0, at = 0;

	*ret_longest = 0;
	for (; at < rig->bytes && count < most; at += BUS__FRAME_HEAD + frame.len) {
		ck_bus(bus__frame_read(rig->wire + at, rig->bytes - at, false, 1 << 20, &frame), 0);
		ret_kinds[count++] = frame.kind;
		if (frame.len > *ret_longest)
			*ret_longest = frame.len;
	}
	ck_assert_uint_eq(at, rig->bytes);
	return count;
}

START_TEST(frames_queued_after_a_large_payload_follow_it)
{
	static const size_t pieces[] = {0, 1, 7, 1000, 65536};
	static const uint8_t expected[] = {BUS__FRAME_TOPIC, BUS__FRAME_MSG, BUS__FRAME_TOPIC,
	    BUS__FRAME_MSG, BUS__FRAME_PING, BUS__FRAME_MSG};
	enum { LARGE = 30000 };
	char *large = calloc(1, LARGE);
	size_t longest, count = sizeof expected;
	uint8_t kinds[sizeof expected];
	struct rig rig;

	ck_assert_ptr_nonnull(large);
	rig_open(&rig, NULL, 8 << 20);
	rig.wire = calloc(1, 2 * LARGE);
	ck_assert_ptr_nonnull(rig.wire);
	begin_send(&rig);
	rig.piece = pieces[_i];
	ck_bus(bus_publish(rig.bus, "plant/picture", large, LARGE), 0);
	publish(&rig, 1, 10);
	ck_bus(bus__session_send(&rig.session), 0);
	ck_assert_ptr_nonnull(rig.session.queue.big);
	ck_bus(bus__session_say(&rig.session, BUS__FRAME_PING, 0, NULL, 0), 0);
	while (rig.session.sending)
		ck_bus(bus__session_sent(&rig.session), 0);
	ck_assert_uint_eq(rig.link.sent, 3);
	ck_assert_uint_eq(read_kinds(&rig, count, kinds, &longest), count);
	ck_assert_mem_eq(kinds, expected, sizeof expected);
	ck_assert_uint_eq(longest, LARGE);
	free(rig.wire);
	rig_close(&rig);
	free(large);
}
END_TEST

/* The mailbox holds the payload until the next take. */
START_TEST(nothing_is_taken_behind_a_large_payload_until_that_is_sent)
{
	void *large = calloc(1, 30000);
	struct rig rig;

	ck_assert_ptr_nonnull(large);
	rig_open(&rig, NULL, 8 << 20);
	ck_bus(bus_publish(rig.bus, "plant/picture", large, 30000), 0);
	publish(&rig, 10, 10);
	rig.session.draining = true;
	ck_bus(bus__session_send(&rig.session), 0);
	ck_assert_ptr_nonnull(rig.session.flying.big);
	ck_assert_uint_eq(rig.session.queue.msgs, 0);
	ck_bus(bus__session_send(&rig.session), 0);
	ck_assert_uint_eq(rig.session.queue.msgs, 0);
	ck_bus(bus__session_sent(&rig.session), 0);
	ck_assert_uint_eq(rig.session.flying.msgs, 10);
	ck_bus(bus__session_sent(&rig.session), 0);
	ck_assert_uint_eq(rig.link.sent, 11);
	rig_close(&rig);
	free(large);
}
END_TEST

/* --- flush: on the link thread, as in real use ------------------------------------------------------------------ */

struct flusher {
	struct rig *rig;
	pthread_t thread;
	_Atomic bool done;
};

static void *
run_flush(void *arg)
{
	struct flusher *flusher = arg;

	ck_bus(bus__flush_links(&flusher->rig->links, INT64_MAX), 0);
	flusher->done = true;
	return NULL;
}

static void
send_here(void *arg)
{
	ck_bus(bus__session_send(&((struct rig *)arg)->session), 0);
}

static void
sent_here(void *arg)
{
	ck_bus(bus__session_sent(&((struct rig *)arg)->session), 0);
}

static void
look_for_flush(void *arg)
{
	struct rig *rig = arg;

	rig->woken = rig->links.flushes != NULL;
}

/* Whether a flush waits. */
static bool
is_flushing(struct rig *rig)
{
	bus__loop_call(&rig->links.loop, look_for_flush, rig);
	return rig->woken;
}

START_TEST(flush_waits_for_taken_unsent_messages_even_if_more_are_dropped)
{
	struct bus__loop *loop;
	struct flusher flusher;
	struct rig rig;

	rig_open(&rig, NULL, 64 * 1024);
	loop = &rig.links.loop;
	pthread_mutex_init(&rig.links.lock, NULL);
	ck_bus(bus__loop_start(loop), 0);
	rig.links.first = &rig.link;
	rig.link.sessions = &rig.session;
	rig.link.session_count = 1;
	begin_send(&rig);
	publish(&rig, 100, 64);
	flusher = (struct flusher){.rig = &rig};
	ck_assert_int_eq(pthread_create(&flusher.thread, NULL, run_flush, &flusher), 0);
	ck_eventually(is_flushing(&rig));
	bus__loop_call(loop, send_here, &rig); /* takes those 100 */
	ck_assert_uint_eq(pending(&rig), 0);
	publish(&rig, 20000, 64); /* far more than fit: most are dropped */
	bus__loop_call(loop, sent_here, &rig);
	ck_assert_uint_eq(rig.link.sent, 1);
	ck_assert(is_flushing(&rig)); /* those 100 are under way */
	bus__loop_call(loop, sent_here, &rig);
	ck_assert_uint_ge(rig.link.sent, 101);
	ck_assert(!is_flushing(&rig));
	ck_assert_int_eq(pthread_join(flusher.thread, NULL), 0);
	ck_assert(flusher.done);
	while (rig.session.sending)
		bus__loop_call(loop, sent_here, &rig);
	bus__loop_stop(loop);
	rig_close(&rig);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("link_send");
	TCase *loops = bus_test_case("each length");

	tcase_add_loop_test(loops, a_send_is_full_unless_it_empties_the_mailbox, 0, LENGTHS);
	tcase_add_loop_test(loops, a_send_from_a_named_bus_is_full_too, 0, LENGTHS);
	tcase_add_loop_test(loops, every_message_is_either_sent_or_counted_as_lost, 0, LENGTHS);
	suite_add_tcase(suite, loops);
	BUS_TEST_CASE(
	    suite, "expired", a_message_that_expires_is_counted_at_once_also_if_no_other_follows);
	BUS_TEST_CASE(suite, "under way", messages_published_during_a_send_go_out_with_the_next);
	BUS_TEST_CASE(suite, "bound", messages_behind_a_send_fit_the_next_one);
	tcase_add_loop_test(loops, frames_queued_after_a_large_payload_follow_it, 0, 5);
	BUS_TEST_CASE(
	    suite, "large alone", nothing_is_taken_behind_a_large_payload_until_that_is_sent);
	BUS_TEST_CASE(
	    suite, "flush", flush_waits_for_taken_unsent_messages_even_if_more_are_dropped);
	BUS_TEST_CASE(suite, "growth", sends_grow_under_load_and_the_buffers_go_when_it_is_over);
	BUS_TEST_CASE(suite, "little", light_traffic_shrinks_grown_buffers);
	BUS_TEST_CASE(suite, "no memory", without_memory_for_larger_sends_they_stay_as_they_are);
	BUS_TEST_CASE(suite, "large", a_message_larger_than_a_send_keeps_its_place_in_order);
	return suite;
}
