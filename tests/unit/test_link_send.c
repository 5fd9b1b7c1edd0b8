/* How much of a mailbox one send takes. The stream is the test's own: it records each send and completes it at once. */
#include "fake_clock.h"
#include "link_test.h"

#include <stdlib.h>

#include "base/mem.h"
#include "bus/peer.h"
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
};

static void
record_send(struct bus__stream *stream, const struct iovec *iov, unsigned n, struct bus__io *io)
{
	struct rig *rig = (struct rig *)stream;

	rig->last = 0;
	for (unsigned i = 0; i < n; i++)
		rig->last += iov[i].iov_len;
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
	bus__bytes_free(&rig->session.queue);
	bus__bytes_free(&rig->session.flying);
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

START_TEST(a_message_larger_than_a_send_goes_out_between_its_neighbours)
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
	BUS_TEST_CASE(suite, "large", a_message_larger_than_a_send_goes_out_between_its_neighbours);
	return suite;
}
