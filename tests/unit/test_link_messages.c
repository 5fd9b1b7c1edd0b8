/* Which messages cross a link, and which do not. Each test runs over inproc, ipc and tcp. */
#include "link_test.h"

#include <stdlib.h>

START_TEST(a_filter_of_later_counts_too_and_ends_with_its_subscription)
{
	struct heard heard = {.count = 0}, other = {.count = 0};
	struct bus_sub *sub;
	struct pair p;
	unsigned before;

	pair_open(&p, _i);
	ck_bus(bus_subscribe(p.a, "late/#", hear, &heard, &sub), 0);
	/* The filter is on its way: publish until a message arrives. */
	ck_eventually((publish_text(p.b, "late/one", "1"), heard.count > 0));
	bus_unsubscribe(sub, NULL);
	ck_bus(bus_subscribe(p.a, "mark", hear, &other, NULL), 0);
	ck_eventually(
	    (publish_text(p.b, "mark", "1"), other.count > 0)); /* told after the other ended */
	ck_bus(bus_flush(p.b, patience_ms()), 0);
	before = (unsigned)stats_of(p.lb).sent;
	publish_text(p.b, "late/one", "2");
	ck_bus(bus_flush(p.b, patience_ms()), 0);
	ck_assert_uint_eq(stats_of(p.lb).sent, before);
	pair_close(&p);
}
END_TEST

START_TEST(ten_thousand_messages_arrive_in_order)
{
	struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = 4 << 20};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(p.b, &cfg, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "n", NULL, NULL, NULL), 0);
	pair_link(&p, _i,
	    &(struct bus_link_config){.size = sizeof(struct bus_link_config), .bytes = 4 << 20});
	for (uint32_t i = 0; i < 10000; i++)
		ck_bus(bus_publish(p.a, "n", &i, sizeof i), 0);
	for (uint32_t i = 0; i < 10000; i++) {
		uint32_t got;

		ck_assert_int_eq(bus_recv(mbox, patience_ms(), &msg), 1);
		ck_assert_uint_eq(msg->len, sizeof got);
		memcpy(&got, msg->data, sizeof got);
		ck_assert_uint_eq(got, i);
		ck_assert_uint_eq(msg->lost, 0);
	}
	ck_assert_uint_eq(stats_of(p.la).lost, 0);
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

enum { MIXED = 5000, MIXED_LEN = 1500 /* in a block of its own, and sent alone */ };

/* Message number i: most continue a run of plain ones, and any may end it. */
static struct bus_msg
mixed(uint32_t i, uint64_t random, char topic[16], uint8_t data[MIXED_LEN])
{
	static const uint8_t headers[] = {0x81, 0xa1, 'k', 1}; /* {"k": 1} */
	struct bus_msg msg = {.size = sizeof msg, .topic = topic, .data = data};
	bool is_plain = random % 16 != 0;

	snprintf(topic, 16, "mix/%u", (unsigned)(i / 40 % 3));
	msg.len = sizeof i + (size_t)(random / 16 % (is_plain ? 100 : MIXED_LEN - sizeof i));
	memset(data, (int)(uint8_t)i, msg.len);
	memcpy(data, &i, sizeof i);
	if (is_plain)
		return msg;
	if (random & 1 << 16)
		msg.type = BUS_TYPE_TEXT;
	if (random & 1 << 17)
		msg.flags = BUS_MSG_RETAIN;
	if (random & 1 << 18) {
		msg.headers = headers;
		msg.headers_len = sizeof headers;
	}
	if (random & 1 << 19)
		msg.ttl_ms = 3600000;
	if (random & 1 << 20)
		snprintf(topic, 16, "mix/%u", (unsigned)(random >> 21 & 1023));
	return msg;
}

START_TEST(messages_of_every_kind_arrive_in_order)
{
	struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = 64 << 20};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus_mailbox *mbox;
	const struct bus_msg *got;
	uint8_t data[MIXED_LEN];
	uint64_t random = 1;
	char topic[16];

	ck_bus(bus_mailbox_open(p.b, &cfg, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "#", NULL, NULL, NULL), 0);
	pair_link(&p, _i,
	    &(struct bus_link_config){.size = sizeof(struct bus_link_config), .bytes = 64 << 20});
	for (uint32_t i = 0; i < MIXED; i++) {
		struct bus_msg msg;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		msg = mixed(i, random >> 20, topic, data);
		ck_bus(bus_publish_msg(p.a, &msg), 0);
	}
	random = 1;
	for (uint32_t i = 0; i < MIXED; i++) {
		struct bus_msg msg;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		msg = mixed(i, random >> 20, topic, data);
		ck_assert_int_eq(bus_recv(mbox, patience_ms(), &got), 1);
		ck_assert_str_eq(got->topic, topic);
		ck_assert_uint_eq(got->len, msg.len);
		ck_assert_mem_eq(got->data, data, msg.len);
		ck_assert_uint_eq(got->headers_len, msg.headers_len);
		ck_assert_int_eq(got->type, msg.type);
		ck_assert_uint_eq(got->lost, 0);
		ck_assert_int_eq(got->ttl_ms != 0, msg.ttl_ms != 0);
	}
	ck_assert_uint_eq(stats_of(p.la).lost, 0);
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

START_TEST(a_message_that_has_no_room_here_is_counted_as_refused)
{
	const struct bus_config cfg = {.size = sizeof cfg, .max_topics = 1};
	const struct bus_msg kept = {
	    .size = sizeof kept, .topic = "kept", .data = "1", .len = 1, .flags = BUS_MSG_RETAIN};
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus()};

	ck_bus(bus_open(NULL, &cfg, &p.b), 0);
	ck_bus(bus_publish_msg(p.b, &kept), 0); /* the one allowed topic, which stays */
	ck_bus(bus_subscribe(p.b, "new", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	publish_text(p.a, "new", "1");
	ck_eventually(stats_of(p.lb).refused == 1);
	ck_assert_int_eq(stats_of(p.lb).last_error, BUS_E_LIMIT);
	ck_assert(is_up(p.lb));
	pair_close(&p);
}
END_TEST

START_TEST(a_message_never_returns_to_its_sender)
{
	struct heard at_a = {.count = 0}, at_b = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};

	ck_bus(bus_subscribe(p.a, "#", hear, &at_a, NULL), 0);
	ck_bus(bus_subscribe(p.b, "#", hear, &at_b, NULL), 0);
	pair_link(&p, _i, NULL);
	publish_text(p.a, "x", "1");
	publish_text(p.b, "y", "1");
	ck_eventually(at_a.count == 2 && at_b.count == 2);
	ck_bus(bus_flush(p.a, patience_ms()), 0);
	ck_bus(bus_flush(p.b, patience_ms()), 0);
	ck_eventually(stats_of(p.la).sent == 1);
	ck_eventually(stats_of(p.lb).sent == 1);
	pair_close(&p);
}
END_TEST

START_TEST(a_retained_value_is_sent_to_peers_that_connect_later)
{
	struct heard heard = {.count = 0}, again = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	const struct bus_msg msg = {.size = sizeof msg,
	    .topic = "state",
	    .data = "\"on\"",
	    .len = 4,
	    .type = BUS_TYPE_JSON,
	    .flags = BUS_MSG_RETAIN};

	ck_bus(bus_publish_msg(p.a, &msg), 0);
	ck_bus(bus_subscribe(p.b, "state", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	ck_eventually(heard.count == 1);
	ck_assert_uint_eq(heard.kept, 1);
	ck_assert_int_eq(heard.msg.type, BUS_TYPE_JSON);
	ck_assert_int_gt(heard.msg.time_ns, 0);
	ck_assert_mem_eq(heard.data, "\"on\"", 4);
	/* It is kept here by now, too. */
	ck_bus(bus_subscribe(p.b, "state", hear, &again, NULL), 0);
	ck_eventually(again.kept >= 1);
	pair_close(&p);
}
END_TEST

START_TEST(message_that_the_peer_would_refuse_is_dropped_here_and_counted_on_both_sides)
{
	struct bus_config small = {.size = sizeof small, .max_payload = 1000};
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus()};
	char data[1001] = "";

	ck_bus(bus_open(NULL, &small, &p.b), 0);
	ck_bus(bus_subscribe(p.b, "#", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	ck_bus(bus_publish(p.a, "x", data, 1001), 0);
	ck_bus(bus_publish(p.a, "x", data, 1000), 0);
	ck_eventually(heard.count == 1);
	ck_assert_uint_eq(heard.msg.len, 1000);
	ck_assert_uint_eq(stats_of(p.la).lost, 1);
	ck_assert_uint_eq(stats_of(p.lb).lost_by_peers, 1);
	pair_close(&p);
}
END_TEST

static uint64_t
lost_full(struct bus *bus)
{
	struct bus_stats stats = {.size = sizeof stats};

	ck_bus(bus_stats(bus, &stats), 0);
	return stats.lost[BUS_LOSS_FULL];
}

START_TEST(outgoing_overflow_is_counted_to_the_message)
{
	const struct bus_link_config cfg = {.size = sizeof cfg, .bytes = 4096};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct heard heard = {.count = 0};
	uint64_t published = 0, lost;
	char data[100] = "";

	ck_bus(bus_subscribe(p.b, "x", hear, &heard, NULL), 0);
	pair_link(&p, _i, &cfg);
	while (stats_of(p.la).lost == 0)
		for (int i = 0; i < 1000; i++, published++)
			ck_bus(bus_publish(p.a, "x", data, sizeof data), 0);
	/* The next message that gets through reports a loss; a message published while the link empties the mailbox may be lost
	 * itself. */
	do {
		lost = stats_of(p.la).lost;
		ck_bus(bus_publish(p.a, "x", data, sizeof data), 0);
		published++;
		ck_bus(bus_flush(p.a, patience_ms()), 0);
	} while (
	    stats_of(p.la).sent + stats_of(p.la).lost != published || stats_of(p.la).lost != lost);
	ck_eventually(stats_of(p.lb).received == stats_of(p.la).sent);
	ck_assert_uint_eq(stats_of(p.lb).lost_by_peers, stats_of(p.la).lost);
	/* A fast link may overflow the callback's mailbox, too. */
	ck_eventually(heard.lost == stats_of(p.la).lost + lost_full(p.b));
	pair_close(&p);
}
END_TEST

START_TEST(more_topics_than_numbers_still_arrive_under_their_names)
{
	enum { TOPICS = 10500 };
	const struct bus_link_config cfg = {.size = sizeof cfg, .bytes = 8 << 20};
	struct bus_mailbox_config box = {.size = sizeof box, .bytes = 8 << 20};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;
	char topic[32];

	ck_bus(bus_mailbox_open(p.b, &box, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "t/#", NULL, NULL, NULL), 0);
	pair_link(&p, _i, &cfg);
	for (int i = 0; i < TOPICS; i++) {
		snprintf(topic, sizeof topic, "t/%d", i);
		publish_text(p.a, topic, topic);
	}
	for (int i = 0; i < TOPICS; i++) {
		ck_assert_int_eq(bus_recv(mbox, patience_ms(), &msg), 1);
		ck_assert_uint_eq(msg->len, strlen(msg->topic));
		ck_assert_mem_eq(msg->topic, msg->data, msg->len);
	}
	ck_assert_uint_eq(stats_of(p.la).lost, 0);
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

START_TEST(more_filters_than_a_peer_takes_become_one_for_everything)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;
	char filter[32];

	ck_bus(bus_mailbox_open(p.b, NULL, &mbox), 0);
	for (int i = 0; i < 10050; i++) {
		snprintf(filter, sizeof filter, "f/%d", i);
		ck_bus(bus_mailbox_subscribe(mbox, filter, NULL, NULL, NULL), 0);
	}
	pair_link(&p, _i, NULL);
	publish_text(p.a, "f/0", "first");
	publish_text(p.a, "f/10049", "last");
	ck_assert_int_eq(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_assert_str_eq(msg->topic, "f/0");
	ck_assert_int_eq(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_assert_str_eq(msg->topic, "f/10049");
	ck_assert_uint_eq(stats_of(p.la).ended[BUS_LINK_END_PROTOCOL], 0);
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

START_TEST(flush_returns_when_all_is_on_the_wire_and_close_loses_nothing_then)
{
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};

	ck_bus(bus_subscribe(p.b, "x", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	for (int i = 0; i < 1000; i++)
		publish_text(p.a, "x", "1");
	ck_bus(bus_flush(p.a, patience_ms()), 0);
	ck_eventually(stats_of(p.la).sent == 1000);
	publish_text(p.a, "x", "2");
	ck_bus(bus_close(p.a, patience_ms()), 0); /* flushes too */
	ck_eventually(heard.count == 1001);
	ck_eventually(stats_of(p.la).sent == 1001);
	ck_assert_uint_eq(stats_of(p.la).lost, 0);
	bus_link_close(p.la);
	bus_link_close(p.lb);
	ck_bus(bus_close(p.b, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	static const TTest *const *const tests[] = {
	    &a_filter_of_later_counts_too_and_ends_with_its_subscription,
	    &ten_thousand_messages_arrive_in_order, &messages_of_every_kind_arrive_in_order,
	    &a_message_that_has_no_room_here_is_counted_as_refused,
	    &a_message_never_returns_to_its_sender,
	    &a_retained_value_is_sent_to_peers_that_connect_later,
	    &message_that_the_peer_would_refuse_is_dropped_here_and_counted_on_both_sides,
	    &outgoing_overflow_is_counted_to_the_message,
	    &more_topics_than_numbers_still_arrive_under_their_names,
	    &more_filters_than_a_peer_takes_become_one_for_everything,
	    &flush_returns_when_all_is_on_the_wire_and_close_loses_nothing_then};
	Suite *suite = suite_create("link messages");
	TCase *tcase = bus_test_case("over inproc, ipc, tcp");

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_loop_test(tcase, *tests[i], 0, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, tcase);
	return suite;
}
