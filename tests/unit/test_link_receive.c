/* Messages that arrive in one read are published in runs. Order, types, losses and gaps stay as if each arrived alone. */
#define _GNU_SOURCE
#include "link_test.h"

#include <malloc.h>
#include <stdlib.h>

#include "fake_clock.h"
#include "base/thread.h"
#include "link/buffers.h"
#include "link/debris.h"
#include "mailbox/parts.h"
#include "raw_peer.h"

enum { LONGEST = 3000, TOPICS = 3, MESSAGES = 3000 };

static const struct bus_link_config patient = {.size = sizeof patient, .heartbeat_ms = 3600000};

struct rig {
	struct bus *bus;
	struct bus_link *link;
	struct raw_peer *peer;
};

/* name NULL: a private bus. */
static void
rig_open(struct rig *rig, const char *name)
{
	static const char *const topics[TOPICS] = {"t/0", "t/1", "t/2"};
	char url[256];

	*rig = (struct rig){.peer = calloc(1, sizeof *rig->peer)};
	ck_assert_ptr_nonnull(rig->peer);
	rig->bus = name != NULL ? join_as(bus_test_dir(), name) : open_bus();
	ck_bus(bus_listen(rig->bus, listen_url(1), &patient, &rig->link), 0);
	ck_assert_int_gt(bus_link_url(rig->link, url, sizeof url), 0);
	ck_assert(raw_open(rig->peer, url, "runs") && raw_ready(rig->peer));
	ck_eventually(stats_of(rig->link).peers == 1);
	for (unsigned i = 0; i < TOPICS; i++)
		ck_assert(raw_text(rig->peer, BUS__FRAME_TOPIC, i, topics[i]));
}

static void
rig_close(struct rig *rig)
{
	close(rig->peer->fd);
	free(rig->peer);
	bus_link_close(rig->link);
	ck_bus(bus_close(rig->bus, patience_ms()), 0);
}

static void
say(struct rig *rig, unsigned number, int type, const void *data, size_t len)
{
	const struct bus_msg msg = {.size = sizeof msg, .data = data, .len = len, .type = type};
	uint8_t head[BUS__MSG_HEAD_MAX];

	ck_assert(
	    raw_bytes(rig->peer, head,
		bus__msg_head_write(head, (uint16_t)number, &msg, NULL, rig->peer->id, false)) &&
	    raw_bytes(rig->peer, data, len));
	rig->peer->messages++;
}

/* Returns when all sent messages are published. */
static void
await(struct rig *rig)
{
	ck_assert(raw_flush(rig->peer));
	ck_eventually(stats_of(rig->link).received == rig->peer->messages);
}

/* --- order ----------------------------------------------------------------------------------------------------- */

/* The n-th message: runs of different lengths, on several topics, of several types, some with payloads that end a run. */
struct told {
	unsigned number, type;
	size_t len;
};

static struct told
message(unsigned n)
{
	static const size_t lengths[] = {8, 64, 200, 256, 257, 1000, 1024, 1025, LONGEST};
	unsigned run = n * 7 / 100; /* changes every 14 or 15 messages */

	return (struct told){.number = n % 71 < 70 ? run % TOPICS : (run + 1) % TOPICS,
	    .type = n % 97 < 90 ? run / 5 % 3 : 255,
	    .len = lengths[n % 53 < 45 ? run / 2 % 6 : n % 9]};
}

START_TEST(messages_arrive_in_order_and_unchanged)
{
	static uint8_t data[LONGEST];
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	struct rig rig;
	char topic[8];

	if (_i >= 2)
		bus__round_ns = 0; /* one read takes many rounds of the link thread */
	rig_open(&rig, _i % 2 == 0 ? NULL : "runs");
	mbox = open_mailbox(rig.bus, "t/+", .bytes = 8 << 20);
	for (unsigned n = 0; n < MESSAGES; n++) {
		struct told told = message(n);

		memcpy(data, &n, sizeof n);
		data[told.len - 1] = (uint8_t)n;
		say(&rig, told.number, (int)told.type, data, told.len);
	}
	await(&rig);
	for (unsigned n = 0; n < MESSAGES; n++) {
		struct told told = message(n);

		must(bus_recv(mbox, patience_ms(), &msg) == 1);
		snprintf(topic, sizeof topic, "t/%u", told.number);
		must(strcmp(msg->topic, topic) == 0);
		must(msg->type == (int)told.type && msg->len == told.len && msg->lost == 0);
		must(memcmp(msg->data, &n, sizeof n) == 0);
		must(((const uint8_t *)msg->data)[told.len - 1] == (uint8_t)n);
	}
	expect_nothing(mbox);
	bus__round_ns = INT64_C(1000000);
	bus_mailbox_close(mbox);
	rig_close(&rig);
}
END_TEST

START_TEST(empty_payloads_go_along)
{
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	struct rig rig;

	rig_open(&rig, _i == 0 ? NULL : "runs");
	mbox = open_mailbox(rig.bus, "t/+", .bytes = 1 << 20);
	for (unsigned n = 0; n < 100; n++)
		say(&rig, 0, 0, "x", n % 2);
	await(&rig);
	for (unsigned n = 0; n < 100; n++) {
		ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
		ck_assert_uint_eq(msg->len, n % 2);
	}
	bus_mailbox_close(mbox);
	rig_close(&rig);
}
END_TEST

/* --- losses ---------------------------------------------------------------------------------------------------- */

static const int policies[] = {
    BUS_FULL_DROP_OLDEST, BUS_FULL_DROP_NEWEST, BUS_FULL_REFUSE, BUS_FULL_LATEST};

START_TEST(losses_of_a_full_mailbox_are_counted_to_the_message)
{
	uint64_t lost = 0;
	struct bus_mailbox *mbox, *wide;
	const struct bus_msg *msg;
	uint32_t next = 0, came = 0, n;
	struct rig rig;

	rig_open(&rig, NULL);
	mbox = open_mailbox(rig.bus, "t/0", .bytes = 4096, .full = policies[_i]);
	wide = open_mailbox(rig.bus, "t/0", .bytes = 1 << 20);
	for (n = 0; n < 1000; n++)
		say(&rig, 0, 0, &n, sizeof n);
	await(&rig);
	while (next < 1001) {
		ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
		memcpy(&n, msg->data, sizeof n);
		ck_assert_uint_eq(n, next + msg->lost);
		lost += msg->lost;
		next = n + 1;
		/* Room again: the next message carries the count of those dropped before it. */
		n = 1000;
		if (came++ == 0)
			say(&rig, 0, 0, &n, sizeof n);
		await(&rig);
	}
	ck_assert_uint_gt(lost, 0);
	ck_assert_uint_eq(mailbox_stats(mbox).lost[BUS_LOSS_FULL], lost);
	ck_assert_uint_eq(mailbox_stats(mbox).offered, 1001);
	ck_assert_uint_eq(mailbox_stats(wide).pending, 1001);
	bus_mailbox_close(mbox);
	bus_mailbox_close(wide);
	rig_close(&rig);
}
END_TEST

START_TEST(a_gap_is_reported_by_the_first_message_behind_it)
{
	uint8_t lost[BUS__FRAME_HEAD + 8];
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	struct rig rig;

	rig_open(&rig, _i == 0 ? NULL : "runs");
	mbox = open_mailbox(rig.bus, "t/0", .bytes = 1 << 20);
	for (unsigned n = 0; n < 90; n++) {
		if (n % 30 == 20)
			raw_bytes(rig.peer, lost, bus__lost_write(lost, n));
		say(&rig, 0, 0, &n, sizeof n);
	}
	await(&rig);
	for (unsigned n = 0; n < 90; n++) {
		ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
		ck_assert_mem_eq(msg->data, &n, sizeof n);
		ck_assert_uint_eq(msg->lost, n % 30 == 20 ? n : 0);
	}
	ck_assert_uint_eq(stats_of(rig.link).lost_by_peers, 20 + 50 + 80);
	bus_mailbox_close(mbox);
	rig_close(&rig);
}
END_TEST

START_TEST(messages_before_an_invalid_frame_are_published)
{
	struct bus_mailbox *mbox;
	struct rig rig;

	rig_open(&rig, NULL);
	mbox = open_mailbox(rig.bus, "t/0", .bytes = 1 << 20);
	for (unsigned n = 0; n < 50; n++)
		say(&rig, 0, 0, &n, sizeof n);
	ck_assert(raw_frame(rig.peer, BUS__FRAME_ACK, 0, NULL, 0) && raw_flush(rig.peer));
	ck_eventually(stats_of(rig.link).ended[BUS_LINK_END_PROTOCOL] == 1);
	ck_assert_uint_eq(stats_of(rig.link).received, 50);
	ck_assert_uint_eq(mailbox_stats(mbox).pending, 50);
	bus_mailbox_close(mbox);
	rig_close(&rig);
}
END_TEST

/* --- where the short way is closed -------------------------------------------------------------------------------- */

START_TEST(mailboxes_that_refuse_or_keep_the_latest_get_the_same_from_a_run)
{
	struct bus_mailbox *strict, *latest;
	const struct bus_msg *msg;
	struct rig rig;
	uint32_t n, got;

	rig_open(&rig, NULL);
	strict = open_mailbox(rig.bus, "t/0", .bytes = 4096, .full = BUS_FULL_REFUSE);
	latest = open_mailbox(rig.bus, "t/1", .full = BUS_FULL_LATEST);
	for (n = 0; n < 1000; n++)
		say(&rig, 0, 0, &n, sizeof n);
	for (n = 0; n < 1000; n++)
		say(&rig, 1, 0, &n, sizeof n);
	ck_assert(raw_flush(rig.peer));
	ck_eventually(stats_of(rig.link).received + stats_of(rig.link).refused == 2000);
	ck_assert_uint_gt(stats_of(rig.link).refused, 0);
	ck_assert_int_eq(stats_of(rig.link).last_error, BUS_E_FULL);
	ck_assert_uint_eq(mailbox_stats(strict).pending, 1000 - stats_of(rig.link).refused);
	for (n = 0; n < 1000 - stats_of(rig.link).refused; n++) {
		ck_bus(bus_recv(strict, patience_ms(), &msg), 1);
		ck_assert_mem_eq(msg->data, &n, sizeof n);
	}
	ck_bus(bus_recv(latest, patience_ms(), &msg), 1);
	memcpy(&got, msg->data, sizeof got);
	ck_assert_uint_eq(got, 999);
	ck_assert_uint_eq(msg->lost, 999);
	bus_mailbox_close(strict);
	bus_mailbox_close(latest);
	rig_close(&rig);
}
END_TEST

START_TEST(a_run_is_kept_where_its_topic_keeps_messages)
{
	const struct bus_keep_config cfg = {.size = sizeof cfg, .last = 10};
	struct bus_mailbox *mbox;
	struct rig rig;

	rig_open(&rig, NULL);
	ck_bus(bus_keep(rig.bus, "t/0", &cfg), 0);
	for (unsigned n = 0; n < 100; n++)
		say(&rig, 0, 0, &n, sizeof n);
	await(&rig);
	mbox = subscriber(rig.bus, "t/0");
	ck_assert_uint_eq(mailbox_stats(mbox).pending, 10);
	bus_mailbox_close(mbox);
	rig_close(&rig);
}
END_TEST

/* --- spinning ----------------------------------------------------------------------------------------------------- */

START_TEST(a_mailbox_spins_long_for_local_messages_and_not_for_those_of_links)
{
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	int64_t least;
	struct rig rig;

	rig_open(&rig, NULL);
	mbox = open_mailbox(rig.bus, "t/0", .full = policies[_i]);
	least = bus__mailbox_spin_ns(mbox);
	mbox->gap_ns = 10000;
	ck_assert_int_gt(bus__mailbox_spin_ns(mbox), least);
	say(&rig, 0, 0, "1", 1);
	await(&rig);
	ck_assert_int_eq(bus__mailbox_spin_ns(mbox), least);
	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_assert_int_eq(bus__mailbox_spin_ns(mbox), least);
	/* It spins in vain, where there is more than one CPU. */
	mbox->gap_ns = 10000;
	ck_bus(bus_recv(mbox, 1, &msg), 0);
	if (bus__cpus() > 1)
		ck_assert_int_gt(bus__mailbox_spin_ns(mbox), least);
	bus_mailbox_close(mbox);
	rig_close(&rig);
}
END_TEST

START_TEST(a_mailbox_of_a_named_bus_does_not_spin_long_for_messages_of_links)
{
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	int64_t least;
	struct rig rig;

	rig_open(&rig, "spin");
	mbox = open_mailbox(rig.bus, "t/0", .full = BUS_FULL_DROP_OLDEST);
	least = bus__mailbox_spin_ns(mbox);
	say(&rig, 0, 0, "1", 1);
	await(&rig);
	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	mbox->gap_ns = 10000;
	ck_assert_int_eq(bus__mailbox_spin_ns(mbox), least);
	publish_text(rig.bus, "t/0", "here");
	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	/* It spins in vain, where there is more than one CPU. */
	ck_bus(bus_recv(mbox, 1, &msg), 0);
	mbox->gap_ns = 10000;
	if (bus__cpus() > 1)
		ck_assert_int_gt(bus__mailbox_spin_ns(mbox), least);
	bus_mailbox_close(mbox);
	rig_close(&rig);
}
END_TEST

/* --- buffers ------------------------------------------------------------------------------------------------------ */

static size_t
heap(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

START_TEST(the_read_buffer_grows_under_load_and_is_freed_when_the_peer_is_quiet)
{
	static const uint8_t data[1024];
	size_t before, most = 0;
	struct rig rig;

	rig_open(&rig, NULL);
	say(&rig, 0, 0, data, sizeof data);
	await(&rig); /* the topics are there */
	before = heap();
	for (unsigned n = 0; n < 20000; n++) {
		say(&rig, 0, 0, data, sizeof data);
		most = heap() > most ? heap() : most;
	}
	await(&rig);
	if (before > 0) /* sanitizers count no heap */
		ck_assert_uint_gt(most, before + BUS__BUFFER_IN - 8192);
	ck_assert_uint_lt(most, before + BUS__BUFFER_IN + 3 * BUS__BUFFER); /* it is copied */
	clock_pass_ms(1000);
	ck_assert(raw_frame(rig.peer, BUS__FRAME_PING, 0, NULL, 0) && raw_flush(rig.peer));
	ck_eventually(heap() < before + BUS__BUFFER + 8192); /* one is kept as a spare */
	clock_pass_ms(-1000);
	rig_close(&rig);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("link_receive");
	TCase *both = bus_test_case("private and named"), *policy = bus_test_case("policies");

	tcase_add_loop_test(both, messages_arrive_in_order_and_unchanged, 0, 4);
	tcase_add_loop_test(both, empty_payloads_go_along, 0, 2);
	tcase_add_loop_test(both, a_gap_is_reported_by_the_first_message_behind_it, 0, 2);
	suite_add_tcase(suite, both);
	tcase_add_loop_test(policy, losses_of_a_full_mailbox_are_counted_to_the_message, 0, 2);
	tcase_add_loop_test(
	    policy, a_mailbox_spins_long_for_local_messages_and_not_for_those_of_links, 0, 4);
	suite_add_tcase(suite, policy);
	BUS_TEST_CASE(suite, "spin on a named bus",
	    a_mailbox_of_a_named_bus_does_not_spin_long_for_messages_of_links);
	BUS_TEST_CASE(suite, "protocol", messages_before_an_invalid_frame_are_published);
	BUS_TEST_CASE(
	    suite, "one by one", mailboxes_that_refuse_or_keep_the_latest_get_the_same_from_a_run);
	BUS_TEST_CASE(
	    suite, "buffers", the_read_buffer_grows_under_load_and_is_freed_when_the_peer_is_quiet);
	BUS_TEST_CASE(suite, "kept", a_run_is_kept_where_its_topic_keeps_messages);
	return suite;
}
