/* Messages with a time to live. */
#include "fake_clock.h"
#include "link_test.h"

enum { LONG_MS = 600000 };

static struct bus_msg
message(const char *topic, const char *text, uint32_t ttl_ms, uint32_t flags)
{
	return (struct bus_msg){.size = sizeof(struct bus_msg),
	    .topic = topic,
	    .data = text,
	    .len = strlen(text),
	    .flags = flags,
	    .ttl_ms = ttl_ms};
}

static void
publish(struct bus *bus, const char *topic, const char *text, uint32_t ttl_ms, uint32_t flags)
{
	const struct bus_msg msg = message(topic, text, ttl_ms, flags);

	ck_bus(bus_publish_msg(bus, &msg), 0);
}

/* Everything published with a ttl of 1 ms expires. */
static void
outlive(void)
{
	clock_pass_ms(2);
}

static struct bus_stats
counts(struct bus_mailbox *mbox)
{
	struct bus_stats stats = {.size = sizeof stats};
	uint64_t sum;

	ck_bus(bus_mailbox_stats(mbox, &stats), 0);
	sum = stats.delivered + stats.pending + stats.refused;
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		sum += stats.lost[i];
	ck_assert_uint_eq(sum, stats.offered);
	return stats;
}

static void
expect(struct bus_mailbox *mbox, const char *text, uint64_t lost, bool limited)
{
	const struct bus_msg *msg;

	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->len, strlen(text));
	ck_assert_mem_eq(msg->data, text, msg->len);
	ck_assert_uint_eq(msg->lost, lost);
	ck_assert_uint_le(msg->ttl_ms, LONG_MS);
	ck_assert((msg->ttl_ms > 0) == limited);
}

START_TEST(expired_message_is_counted_and_reported_by_the_next)
{
	static const int policies[] = {BUS_FULL_DROP_OLDEST, BUS_FULL_DROP_NEWEST, BUS_FULL_REFUSE};
	static char large[3000];

	memset(large, 'x', sizeof large - 1);
	for (int i = 0; i < 3; i++) {
		struct bus *bus = open_bus();
		struct bus_mailbox *mbox = open_mailbox(bus, "#", .full = policies[i]);

		publish(bus, "t", "for ever", 0, 0);
		publish(bus, "t", "short", 1, 0);
		publish(bus, "t", large, 1, 0);
		publish(bus, "t", large, LONG_MS, 0);
		publish(bus, "t", "long", LONG_MS, 0);
		publish(bus, "t", "for ever", 0, 0);
		outlive();
		expect(mbox, "for ever", 0, false);
		expect(mbox, large, 2, true);
		expect(mbox, "long", 0, true);
		expect(mbox, "for ever", 0, false);
		expect_nothing(mbox);
		ck_assert_uint_eq(counts(mbox).lost[BUS_LOSS_EXPIRED], 2);
		ck_assert_uint_eq(counts(mbox).delivered, 4);
		bus_mailbox_close(mbox);
		ck_bus(bus_close(bus, patience_ms()), 0);
	}
}
END_TEST

START_TEST(late_message_at_the_end_is_reported_by_a_much_later_one)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "#");

	publish(bus, "t", "short", 1, 0);
	outlive();
	expect_nothing(mbox);
	ck_assert_uint_eq(counts(mbox).pending, 0);
	publish(bus, "t", "x", 0, 0);
	expect(mbox, "x", 1, false);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(latest_value_expires_too)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "#", .full = BUS_FULL_LATEST);

	publish(bus, "t", "old", 0, 0);
	publish(bus, "t", "short", 1, 0);
	publish(bus, "u", "long", LONG_MS, 0);
	outlive();
	expect(mbox, "long", 2, true); /* one replaced, one expired */
	expect_nothing(mbox);
	ck_assert_uint_eq(counts(mbox).lost[BUS_LOSS_EXPIRED], 1);
	ck_assert_uint_eq(counts(mbox).lost[BUS_LOSS_REPLACED], 1);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(callbacks_see_the_time_left_and_no_late_message)
{
	struct bus *bus = open_bus();
	struct heard heard = {.count = 0};
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "#", hear, &heard, NULL), 0);
	publish(bus, "t", "short", 1, 0);
	publish(bus, "t", "long", LONG_MS, 0);
	outlive();
	ck_bus(bus_dispatch(mbox, 0, 1), 1);
	ck_assert_uint_eq(heard.count, 0);
	ck_bus(bus_dispatch(mbox, 0, 1), 1);
	ck_assert_uint_eq(heard.count, 1);
	ck_assert_uint_eq(heard.lost, 1);
	ck_assert(heard.msg.ttl_ms > 0 && heard.msg.ttl_ms <= LONG_MS);
	publish(bus, "t", "x", 0, 0);
	ck_bus(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(heard.msg.ttl_ms, 0);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(plain_message_has_no_field_of_the_previous_one)
{
	struct bus *bus = open_bus();
	struct heard heard = {.count = 0};
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "#", hear, &heard, NULL), 0);
	publish(bus, "t", "rich", LONG_MS, BUS_MSG_RETAIN);
	publish(bus, "t", "plain", 0, 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_gt(msg->ttl_ms, 0);
	ck_bus(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(heard.msg.ttl_ms, 0);
	ck_assert_uint_eq(heard.msg.flags, 0);
	ck_assert_int_eq(heard.msg.time_ns, 0);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(retained_value_ends_when_it_expires)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;

	publish(bus, "long", "1", LONG_MS, BUS_MSG_RETAIN);
	publish(bus, "short", "1", 1, BUS_MSG_RETAIN);
	publish(bus, "renewed", "1", 1, BUS_MSG_RETAIN);
	publish(bus, "renewed", "2", 0, BUS_MSG_RETAIN);
	outlive();
	mbox = subscriber(bus, "short");
	ck_bus(bus_mailbox_subscribe(mbox, "long", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "renewed", NULL, NULL, NULL), 0);
	expect(mbox, "1", 0, true);
	expect(mbox, "2", 0, false);
	expect_nothing(mbox);
	ck_assert_uint_eq(counts(mbox).offered, 2);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(kept_value_that_expires_in_the_mailbox_is_late_there)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;

	publish(bus, "t", "1", LONG_MS, BUS_MSG_RETAIN);
	mbox = subscriber(bus, "t");
	ck_assert_uint_eq(counts(mbox).offered, 1);
	clock_pass_ms(LONG_MS + 1);
	expect_nothing(mbox);
	ck_assert_uint_eq(counts(mbox).lost[BUS_LOSS_EXPIRED], 1);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
	clock_pass_ms(-LONG_MS - 1);
}
END_TEST

START_TEST(topic_of_an_expired_value_makes_room_for_another)
{
	const struct bus_config cfg = {.size = sizeof cfg, .max_topics = 1};
	const struct bus_msg other = message("other", "1", 0, 0);
	struct bus *bus;

	ck_bus(bus_open(NULL, &cfg, &bus), 0);
	publish(bus, "t", "1", LONG_MS, BUS_MSG_RETAIN);
	ck_bus(bus_publish_msg(bus, &other), BUS_E_LIMIT);
	publish(bus, "t", "1", 1, BUS_MSG_RETAIN);
	outlive();
	ck_bus(bus_publish_msg(bus, &other), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(remaining_time_to_live_crosses_links)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	const struct bus_msg *msg;
	struct bus_mailbox *mbox = subscriber(p.b, "#");

	publish(p.a, "kept", "1", LONG_MS, BUS_MSG_RETAIN);
	publish(p.a, "gone", "1", 1, BUS_MSG_RETAIN);
	outlive();
	pair_link(&p, _i, NULL);
	publish(p.a, "live", "2", LONG_MS, 0);
	publish(p.a, "for ever", "3", 0, 0);
	for (int i = 0; i < 3; i++) {
		ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
		ck_assert_str_eq(msg->topic, i == 0 ? "kept" : i == 1 ? "live" : "for ever");
		ck_assert((msg->ttl_ms > 0) == (i < 2));
		ck_assert_uint_le(msg->ttl_ms, LONG_MS);
	}
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("ttl");
	TCase *tcase = bus_test_case("over inproc, ipc, tcp");

	BUS_TEST_CASE(suite, "delivery", expired_message_is_counted_and_reported_by_the_next,
	    late_message_at_the_end_is_reported_by_a_much_later_one, latest_value_expires_too,
	    callbacks_see_the_time_left_and_no_late_message,
	    plain_message_has_no_field_of_the_previous_one);
	BUS_TEST_CASE(suite, "kept", retained_value_ends_when_it_expires,
	    kept_value_that_expires_in_the_mailbox_is_late_there,
	    topic_of_an_expired_value_makes_room_for_another);
	bus_test_add_loop(tcase, remaining_time_to_live_crosses_links, 0, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, tcase);
	return suite;
}
