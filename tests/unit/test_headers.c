/* Headers: bytes that accompany a payload. */
#include "link_test.h"

enum { LARGE = 1 << 20 };

/* Bytes of a message: both parts differ in every place, and between messages. */
static const uint8_t *
bytes(void)
{
	static uint8_t all[LARGE + 1000];

	if (all[1] == 0)
		for (size_t i = 0; i < sizeof all; i++)
			all[i] = (uint8_t)(i * 2654435761u >> 11);
	return all;
}

static int
publish(struct bus *bus, size_t len, size_t headers_len, uint32_t flags)
{
	return bus_publish_msg(bus, &(struct bus_msg){.size = sizeof(struct bus_msg),
					.topic = "t",
					.data = bytes(),
					.len = len,
					.headers = bytes() + 7,
					.headers_len = headers_len,
					.flags = flags});
}

static void
expect(struct bus_mailbox *mbox, size_t len, size_t headers_len)
{
	const struct bus_msg *msg;

	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->len, len);
	ck_assert(len == 0 || memcmp(msg->data, bytes(), len) == 0);
	ck_assert_uint_eq(msg->headers_len, headers_len);
	ck_assert((msg->headers == NULL) == (headers_len == 0));
	ck_assert(headers_len == 0 || memcmp(msg->headers, bytes() + 7, headers_len) == 0);
}

/* By value, at the border, by block, and nearly nothing but headers. */
static const size_t sizes[][2] = {{0, 1}, {1, 1}, {5, 0}, {8, 30}, {900, 124}, {900, 125},
    {1, 1023}, {3000, 500}, {0, 4000}, {20000, 20}, {LARGE - 100, 100}, {5, 0}};

enum { SIZES = sizeof sizes / sizeof sizes[0] };

START_TEST(payload_and_headers_arrive_beside_each_other_under_every_policy)
{
	static const int policies[] = {
	    BUS_FULL_DROP_OLDEST, BUS_FULL_DROP_NEWEST, BUS_FULL_LATEST, BUS_FULL_REFUSE};

	for (int i = 0; i < 4; i++) {
		struct bus *bus = open_bus();
		struct bus_mailbox *mbox =
		    open_mailbox(bus, "#", .full = policies[i], .bytes = 4 * LARGE);

		for (int j = 0; j < SIZES; j++) {
			ck_bus(publish(bus, sizes[j][0], sizes[j][1], 0), 0);
			if (policies[i] == BUS_FULL_LATEST)
				expect(mbox, sizes[j][0], sizes[j][1]);
		}
		for (int j = 0; policies[i] != BUS_FULL_LATEST && j < SIZES; j++)
			expect(mbox, sizes[j][0], sizes[j][1]);
		bus_mailbox_close(mbox);
		ck_bus(bus_close(bus, patience_ms()), 0);
	}
}
END_TEST

/* On a private bus and on a named one. */
START_TEST(handle_sends_all_fields_of_a_message)
{
	const char *dir = bus_test_dir();
	struct bus *bus = _i == 0 ? open_bus() : join(dir);
	struct bus_msg msg = {.size = sizeof msg,
	    .topic = "ignored",
	    .data = bytes(),
	    .len = 5,
	    .headers = bytes() + 7,
	    .headers_len = 3,
	    .type = BUS_TYPE_TEXT,
	    .flags = BUS_MSG_RETAIN};
	struct bus_mailbox *mbox;
	const struct bus_msg *got;
	struct bus_pub *pub;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	ck_bus(bus_pub_send_msg(pub, &msg), 0);
	mbox = open_mailbox(bus, "t", .full = BUS_FULL_DROP_OLDEST);
	ck_bus(bus_recv(mbox, patience_ms(), &got), 1);
	ck_assert_str_eq(got->topic, "t");
	ck_assert_int_eq(got->type, BUS_TYPE_TEXT);
	ck_assert(got->flags & BUS_MSG_KEPT);
	msg.flags = 0;
	ck_bus(bus_pub_send_msg(pub, &msg), 0);
	expect(mbox, 5, 3);
	ck_bus(bus_pub_send_msg(pub, NULL), BUS_E_INVAL);
	msg.len = LARGE;
	ck_bus(bus_pub_send_msg(pub, &msg), BUS_E_TOO_BIG);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(callbacks_see_headers_of_their_own_message_only)
{
	struct bus *bus = open_bus();
	struct heard heard = {.count = 0};
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "#", hear, &heard, NULL), 0);
	ck_bus(publish(bus, 5, 3, 0), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_bus(bus_dispatch(mbox, 0, 1), 1);
	ck_assert_uint_eq(heard.msg.headers_len, 3);
	ck_bus(bus_dispatch(mbox, 0, 1), 1);
	ck_assert_uint_eq(heard.msg.headers_len, 0);
	ck_assert_ptr_null(heard.msg.headers);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(kept_value_keeps_its_headers)
{
	struct bus *bus = open_bus();

	for (int j = 0; j < SIZES; j++) {
		struct bus_mailbox *mbox;

		ck_bus(publish(bus, sizes[j][0], sizes[j][1], BUS_MSG_RETAIN), 0);
		mbox = open_mailbox(bus, "t", .bytes = 4 * LARGE);
		if (sizes[j][0] > 0)
			expect(mbox, sizes[j][0], sizes[j][1]);
		else /* an empty payload deletes, whatever its headers */
			ck_bus(bus_recv(mbox, 0, &(const struct bus_msg *){NULL}), 0);
		bus_mailbox_close(mbox);
	}
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(payload_and_headers_share_one_limit)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "t", .bytes = 4 * LARGE);
	const struct bus_msg without = {
	    .size = sizeof without, .topic = "t", .data = "1", .len = 1, .headers_len = 1};

	ck_bus(publish(bus, LARGE, 1, 0), BUS_E_TOO_BIG);
	ck_bus(publish(bus, LARGE - 500, 501, 0), BUS_E_TOO_BIG);
	ck_bus(publish(bus, 1, SIZE_MAX, 0), BUS_E_TOO_BIG);
	ck_bus(bus_publish_msg(bus, &without), BUS_E_INVAL);
	ck_bus(publish(bus, LARGE - 500, 500, 0), 0);
	expect(mbox, LARGE - 500, 500);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(headers_cross_links)
{
	const struct bus_link_config cfg = {.size = sizeof cfg, .bytes = 8 * LARGE};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus_mailbox *mbox = open_mailbox(p.b, "#", .bytes = 4 * LARGE);

	ck_bus(publish(p.a, 30, 10, BUS_MSG_RETAIN), 0);
	pair_link(&p, _i, &cfg);
	expect(mbox, 30, 10);
	for (int j = 0; j < SIZES; j++)
		ck_bus(publish(p.a, sizes[j][0], sizes[j][1], 0), 0);
	for (int j = 0; j < SIZES; j++)
		expect(mbox, sizes[j][0], sizes[j][1]);
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

START_TEST(headers_count_towards_the_limit_of_a_peer)
{
	struct bus_config small = {.size = sizeof small, .max_payload = 1000};
	struct pair p = {.a = open_bus()};
	struct bus_mailbox *mbox;

	ck_bus(bus_open(NULL, &small, &p.b), 0);
	mbox = open_mailbox(p.b, "#", .bytes = 4 * LARGE);
	pair_link(&p, _i, NULL);
	ck_bus(publish(p.a, 990, 11, 0), 0);
	ck_bus(publish(p.a, 990, 10, 0), 0);
	expect(mbox, 990, 10);
	ck_assert_uint_eq(stats_of(p.la).lost, 1);
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("headers");
	TCase *tcase = bus_test_case("over inproc, ipc, tcp");
	TCase *both = bus_test_case("private and named");

	BUS_TEST_CASE(suite, "in a bus",
	    payload_and_headers_arrive_beside_each_other_under_every_policy,
	    callbacks_see_headers_of_their_own_message_only, kept_value_keeps_its_headers,
	    payload_and_headers_share_one_limit);
	bus_test_add_loop(both, handle_sends_all_fields_of_a_message, 0, 2);
	suite_add_tcase(suite, both);
	bus_test_add_loop(tcase, headers_cross_links, 0, LINK_TEST_SCHEMES);
	bus_test_add_loop(tcase, headers_count_towards_the_limit_of_a_peer, 0, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, tcase);
	return suite;
}
