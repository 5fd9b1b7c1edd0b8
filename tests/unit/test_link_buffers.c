/* Buffers of connections: how they grow, how far, and how they are given back. */
#include "link_test.h"

#include <stdlib.h>

#include "base/mem.h"
#include "link/session.h"

#define SECOND INT64_C(1000000000)

START_TEST(a_size_doubles_when_full_and_is_the_usual_one_after_a_second_without_use)
{
	struct bus__size size = {.bytes = 0};

	ck_assert_uint_eq(bus__size_now(&size, 0), BUS__BUFFER);
	bus__size_learn(&size, BUS__BUFFER, false, BUS__BUFFER_OUT, 0);
	ck_assert_uint_eq(bus__size_now(&size, 0), BUS__BUFFER);
	bus__size_learn(&size, BUS__BUFFER, true, BUS__BUFFER_OUT, 0);
	ck_assert_uint_eq(bus__size_now(&size, 0), 2 * BUS__BUFFER);
	bus__size_learn(&size, 2 * BUS__BUFFER, true, BUS__BUFFER_OUT, 0);
	bus__size_learn(&size, BUS__BUFFER_OUT, true, BUS__BUFFER_OUT, 0);
	ck_assert_uint_eq(bus__size_now(&size, 0), BUS__BUFFER_OUT);
	bus__size_learn(&size, BUS__BUFFER + 1, false, BUS__BUFFER_OUT, SECOND - 1);
	bus__size_learn(&size, BUS__BUFFER, false, BUS__BUFFER_OUT, SECOND);
	ck_assert_uint_eq(bus__size_now(&size, 2 * SECOND - 2), BUS__BUFFER_OUT);
	ck_assert_uint_eq(bus__size_now(&size, 2 * SECOND - 1), BUS__BUFFER);
}
END_TEST

START_TEST(grown_buffers_are_bounded_over_all_connections_of_a_bus)
{
	enum { MANY = BUS__GROWN_MOST / BUS__BUFFER_IN };
	struct bus__buffers buffers = {.count = 0};
	struct bus__bytes many[MANY] = {{.data = NULL}}, one = {.data = NULL};

	for (int i = 0; i < MANY; i++) {
		ck_bus(bus__buffers_take(&buffers, &many[i], BUS__BUFFER_IN), 0);
		ck_assert_uint_eq(many[i].cap, BUS__BUFFER_IN);
	}
	ck_bus(bus__buffers_take(&buffers, &one, BUS__BUFFER_IN), 0);
	ck_assert_uint_eq(one.cap, BUS__BUFFER);
	bus__buffers_leave(&buffers, &many[0]);
	ck_bus(bus__buffers_take(&buffers, &one, BUS__BUFFER_IN), 0);
	ck_assert_uint_eq(one.cap, BUS__BUFFER_IN);
	bus__buffers_leave(&buffers, &one);
	for (int i = 1; i < MANY; i++)
		bus__buffers_leave(&buffers, &many[i]);
	ck_assert_uint_eq(buffers.grown, 0);
	bus__buffers_free(&buffers);
}
END_TEST

START_TEST(growing_a_buffer_keeps_its_bytes_and_no_memory_keeps_its_size)
{
	struct bus__buffers buffers = {.count = 0};
	struct bus__bytes bytes = {.data = NULL};

	ck_bus(bus__bytes_reserve(&bytes, 512), 0);
	memcpy(bytes.data, "hello", 5);
	bytes.len = 5;
	ck_bus(bus__buffers_take(&buffers, &bytes, BUS__BUFFER), 0);
	bus__mem_fail_many(0, 1000);
	ck_bus(bus__buffers_take(&buffers, &bytes, BUS__BUFFER_IN), 0);
	bus__mem_fail_after(-1);
	ck_assert_uint_eq(bytes.cap, BUS__BUFFER);
	ck_bus(bus__buffers_take(&buffers, &bytes, BUS__BUFFER_IN), 0);
	ck_assert_uint_eq(bytes.cap, BUS__BUFFER_IN);
	ck_assert_uint_eq(bytes.len, 5);
	ck_assert_mem_eq(bytes.data, "hello", 5);
	bus__buffers_leave(&buffers, &bytes);
	ck_assert_uint_eq(buffers.grown, 0);
	bus__buffers_free(&buffers);
}
END_TEST

/* The bound is for speed; a valid frame has room in any case. */
START_TEST(a_long_frame_has_room_where_nothing_may_grow_any_more)
{
	struct bus__links links = {.bus = open_bus(), .buffers = {.grown = BUS__GROWN_MOST}};
	struct bus_link link = {.links = &links};
	struct bus__session session = {.link = &link, .stage = BUS__STAGE_LIVE};
	uint8_t head[BUS__FRAME_HEAD] = {0xa0, 0x86, 1, 0, BUS__FRAME_MSG}; /* 100,000 bytes */

	session.in_size.bytes = BUS__BUFFER_IN;
	ck_bus(bus__bytes_reserve(&session.in, 512), 0);
	memcpy(session.in.data, head, sizeof head);
	session.in.len = sizeof head;
	ck_bus(bus__session_parse(&session, 0), 0);
	ck_assert_uint_ge(session.in.cap, 100000 + sizeof head);
	ck_assert_uint_lt(session.in.cap, BUS__BUFFER_IN);
	ck_assert_uint_eq(session.in.len, sizeof head);
	bus__bytes_free(&session.in);
	bus__buffers_free(&links.buffers);
	ck_bus(bus_close(links.bus, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("link_buffers");

	BUS_TEST_CASE(suite, "size",
	    a_size_doubles_when_full_and_is_the_usual_one_after_a_second_without_use);
	BUS_TEST_CASE(suite, "bound", grown_buffers_are_bounded_over_all_connections_of_a_bus);
	BUS_TEST_CASE(
	    suite, "memory", growing_a_buffer_keeps_its_bytes_and_no_memory_keeps_its_size);
	BUS_TEST_CASE(suite, "long", a_long_frame_has_room_where_nothing_may_grow_any_more);
	return suite;
}
