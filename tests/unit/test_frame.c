#include "bus_test.h"

#include <string.h>

#include "link/frame.h"

enum { MAX = 1000 }; /* max_payload of the reader */

#define LARGE_ID (UINT64_C(1) << 63 | 1)

static const uint8_t own[BUS__BUS_ID] = "the sender's id.";

static int
read_head(const uint8_t *at, size_t n, bool stranger)
{
	struct bus__frame frame;

	return bus__frame_read(at, n, stranger, MAX, &frame);
}

/* Reads a frame with that head and no body. */
static int
head_of(uint32_t len, uint8_t kind, uint8_t flags, uint16_t number, bool stranger)
{
	const uint8_t head[BUS__FRAME_HEAD] = {(uint8_t)len, (uint8_t)(len >> 8),
	    (uint8_t)(len >> 16), (uint8_t)(len >> 24), kind, flags, (uint8_t)number,
	    (uint8_t)(number >> 8)};

	return read_head(head, sizeof head, stranger);
}

START_TEST(frames_have_the_bytes_in_the_document)
{
	static const uint8_t preamble[] = {0xb5, 'l', 'i', 'b', 'b', 'u', 's', 2};
	static const uint8_t topic[] = {3, 0, 0, 0, 6, 0, 0x0f, 0x27, 'a', '/', 'b'};
	static const uint8_t retained[] = {
	    24, 0, 0, 0, 7, 5, 2, 1, 3, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t foreign[] = {40, 0, 0, 0, 7, 69, 2, 1, 3, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2,
	    1, 9, 0, 0, 0, 0, 0, 0, 0, 'a', 'n', 'o', 't', 'h', 'e', 'r', ' ', 'b', 'u', 's', '\'',
	    's', ' ', 'i', 'd'};
	static const uint8_t resume[] = {24, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x80, 2, 0,
	    0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t start[] = {24, 0, 0, 0, 13, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x80, 3, 0,
	    0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t mortal[] = {6, 0, 0, 0, 7, 8, 0, 0, 0x60, 0xea, 0, 0};
	static const uint8_t headed[] = {7, 0, 0, 0, 7, 16, 0, 0, 1, 0, 0, 0};
	static const uint8_t question[] = {10, 0, 0, 0, 7, 32, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1};
	static const uint8_t answer[] = {
	    14, 0, 0, 0, 11, 36, 0, 0, 4, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1};
	static const uint8_t nobody[] = {8, 0, 0, 0, 11, 96, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1};
	static const uint8_t lost[] = {8, 0, 0, 0, 8, 0, 0, 0, 0xff, 1, 0, 0, 0, 0, 0, 0};
	const struct bus_msg msg = {.type = BUS_TYPE_JSON,
	    .flags = BUS_MSG_RETAIN,
	    .time_ns = 0x0102030405060708,
	    .data = "null",
	    .len = 4};
	const struct bus_msg short_lived = {.ttl_ms = 60000, .data = "hi", .len = 2};
	const struct bus_msg with_headers = {
	    .data = "hi", .len = 2, .headers = "\x80", .headers_len = 1};
	struct bus_msg asking = {.reply_to = 0x0102030405060708, .data = "hi", .len = 2};
	struct bus__version version = {.changes = 9};
	uint8_t at[64];

	memcpy(version.bus, own, sizeof own);
	ck_assert_uint_eq(bus__preamble_write(at), sizeof preamble);
	ck_assert_mem_eq(at, preamble, sizeof preamble);
	ck_assert_uint_eq(bus__frame_write(at, BUS__FRAME_TOPIC, 9999, "a/b", 3), sizeof topic);
	ck_assert_mem_eq(at, topic, sizeof topic);
	ck_assert_uint_eq(
	    bus__msg_head_write(at, 258, &msg, &version, own, false), sizeof retained);
	ck_assert_mem_eq(at, retained, sizeof retained);
	memcpy(version.bus, "another bus's id", sizeof version.bus);
	ck_assert_uint_eq(bus__msg_head_write(at, 258, &msg, &version, own, false), sizeof foreign);
	ck_assert_mem_eq(at, foreign, sizeof foreign);
	ck_assert_uint_eq(
	    bus__msg_head_write(at, 0, &short_lived, NULL, own, false), sizeof mortal);
	ck_assert_mem_eq(at, mortal, sizeof mortal);
	ck_assert_uint_eq(
	    bus__msg_head_write(at, 0, &with_headers, NULL, own, false), sizeof headed);
	ck_assert_mem_eq(at, headed, sizeof headed);
	ck_assert_uint_eq(bus__msg_head_write(at, 0, &asking, NULL, own, false), sizeof question);
	ck_assert_mem_eq(at, question, sizeof question);
	asking.type = BUS_TYPE_TEXT;
	ck_assert_uint_eq(bus__reply_head_write(at, &asking, false), sizeof answer);
	ck_assert_mem_eq(at, answer, sizeof answer);
	asking = (struct bus_msg){.reply_to = asking.reply_to};
	ck_assert_uint_eq(bus__reply_head_write(at, &asking, true), sizeof nobody);
	ck_assert_mem_eq(at, nobody, sizeof nobody);
	ck_assert_uint_eq(bus__lost_write(at, 0x1ff), sizeof lost);
	ck_assert_mem_eq(at, lost, sizeof lost);
	ck_assert_uint_eq(
	    bus__resume_write(at, &(struct bus__resume){.id = LARGE_ID, .next = 2, .lost = 1}),
	    sizeof resume);
	ck_assert_mem_eq(at, resume, sizeof resume);
	ck_assert_uint_eq(
	    bus__start_write(at, &(struct bus__start){LARGE_ID, 3, 2, true}), sizeof start);
	ck_assert_mem_eq(at, start, sizeof start);
}
END_TEST

START_TEST(a_hello_reads_back_unchanged)
{
	struct bus__hello hello = {.id = "0123456789abcde",
			      .max_payload = UINT32_MAX,
			      .heartbeat_ms = BUS__HEARTBEAT_MIN,
			      .features = 0x80000001},
			  back;
	uint8_t at[BUS__FRAME_HEAD + BUS__HELLO];
	struct bus__frame frame;

	ck_assert_uint_eq(bus__hello_write(at, &hello), sizeof at);
	ck_assert_int_eq(bus__frame_read(at, sizeof at, true, MAX, &frame), 0);
	ck_bus(bus__hello_read(&frame, &back), 0);
	ck_assert_mem_eq(&back, &hello, sizeof hello);
}
END_TEST

START_TEST(a_hello_without_a_real_heartbeat_is_refused)
{
	struct bus__hello hello = {.heartbeat_ms = BUS__HEARTBEAT_MIN - 1};
	uint8_t at[BUS__FRAME_HEAD + BUS__HELLO];
	struct bus__frame frame;

	bus__hello_write(at, &hello);
	ck_assert_int_eq(bus__frame_read(at, sizeof at, true, MAX, &frame), 0);
	ck_bus(bus__hello_read(&frame, &hello), BUS_E_PROTOCOL);
}
END_TEST

START_TEST(every_kind_of_message_reads_back_unchanged)
{
	static const int types[] = {0, BUS_TYPE_TEXT, INT32_MAX, -1};
	static const uint32_t flags[] = {
	    0, BUS_MSG_RETAIN, BUS_MSG_KEPT, BUS_MSG_RETAIN | BUS_MSG_KEPT};
	struct bus__version version, read;
	struct bus__frame frame;
	struct bus_msg msg, back;
	uint8_t at[BUS__MSG_HEAD_MAX + MAX];
	bool before;
	size_t n;

	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++)
			for (size_t len = 0; len <= MAX; len += MAX / 2) {
				msg = (struct bus_msg){.type = types[i],
				    .flags = flags[j],
				    .time_ns = flags[j] != 0 ? INT64_MAX : 0,
				    .reply_to = j == 0 && i > 0 ? UINT64_MAX : 0,
				    .ttl_ms = (i + j) % 2 != 0 ? UINT32_MAX : 0,
				    .headers_len = (size_t)j * len / 6,
				    .len = len - (size_t)j * len / 6};
				version = (struct bus__version){.changes = 1 + (uint64_t)i};
				memcpy(version.bus, i == 2 ? "another bus's id" : (const char *)own,
				    sizeof version.bus);
				before = flags[j] != 0 && i % 2;
				n = bus__msg_head_write(at, 17, &msg, &version, own, before);
				memset(at + n, 'p', len);
				ck_assert_int_eq(
				    bus__frame_read(at, n + len, false, MAX, &frame), 0);
				ck_assert_uint_eq(BUS__FRAME_HEAD + frame.len, n + len);
				ck_assert_uint_eq(frame.number, 17);
				ck_bus(bus__msg_read(&frame, own, &back, &read), 0);
				ck_assert_int_eq(bus__msg_is_before(&frame), before);
				if (flags[j] == 0)
					ck_assert_uint_eq(read.changes, 0);
				else
					ck_assert_int_eq(bus__version_compare(&read, &version), 0);
				ck_assert_int_eq(back.type, msg.type);
				ck_assert_uint_eq(back.flags, msg.flags);
				ck_assert_int_eq(back.time_ns, msg.time_ns);
				ck_assert_uint_eq(back.ttl_ms, msg.ttl_ms);
				ck_assert_uint_eq(back.reply_to, msg.reply_to);
				ck_assert_uint_eq(back.len, msg.len);
				ck_assert_ptr_eq(back.data, at + n);
				ck_assert_uint_eq(back.headers_len, msg.headers_len);
				if (msg.headers_len > 0)
					ck_assert_ptr_eq(back.headers, at + n + msg.len);
			}
}
END_TEST

START_TEST(an_http_request_is_recognised_from_its_first_byte)
{
	const char *get = "GET / HTTP/1.1\r\n\r\n";

	for (size_t n = 1; n < strlen(get); n++)
		ck_bus(bus__preamble_read((const uint8_t *)get, n), BUS_E_NOT_LIBBUS);
}
END_TEST

START_TEST(a_preamble_is_right_until_its_first_wrong_byte)
{
	uint8_t at[BUS__PREAMBLE];

	bus__preamble_write(at);
	for (size_t n = 0; n < sizeof at; n++)
		ck_assert_int_eq(bus__preamble_read(at, n), 0);
	ck_assert_int_eq(bus__preamble_read(at, sizeof at), BUS__PREAMBLE);
	at[7]++;
	ck_bus(bus__preamble_read(at, sizeof at), BUS_E_VERSION);
	at[6]++;
	ck_bus(bus__preamble_read(at, sizeof at), BUS_E_NOT_LIBBUS);
}
END_TEST

START_TEST(a_head_is_judged_when_it_is_complete_and_before_its_body)
{
	uint8_t at[BUS__FRAME_HEAD] = {0xff, 0xff, 0xff, 0xff, BUS__FRAME_MSG};

	for (size_t n = 0; n < sizeof at; n++)
		ck_assert_int_eq(read_head(at, n, false), 1);
	ck_bus(read_head(at, sizeof at, false), BUS_E_TOO_BIG);
}
END_TEST

START_TEST(lengths_are_held_to_the_byte)
{
	ck_assert_int_eq(head_of(MAX, BUS__FRAME_MSG, 0, 0, false), 0);
	ck_bus(head_of(MAX + 1, BUS__FRAME_MSG, 0, 0, false), BUS_E_TOO_BIG);
	ck_assert_int_eq(head_of(MAX + 20, BUS__FRAME_MSG, 7, 0, false), 0);
	ck_bus(head_of(MAX + 21, BUS__FRAME_MSG, 7, 0, false), BUS_E_TOO_BIG);
	ck_bus(head_of(19, BUS__FRAME_MSG, 7, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(3, BUS__FRAME_MSG, 8, 0, false), BUS_E_PROTOCOL);
	ck_assert_int_eq(head_of(MAX + 24, BUS__FRAME_MSG, 15, 0, false), 0);
	ck_bus(head_of(MAX + 25, BUS__FRAME_MSG, 15, 0, false), BUS_E_TOO_BIG);
	ck_bus(head_of(0, BUS__FRAME_SUB, 0, 0, false), BUS_E_PROTOCOL);
	ck_assert_int_eq(head_of(BUS_LIMIT_TOPIC_BYTES, BUS__FRAME_SUB, 0, 0, false), 0);
	ck_bus(head_of(BUS_LIMIT_TOPIC_BYTES + 1, BUS__FRAME_SUB, 0, 0, false), BUS_E_TOO_BIG);
	ck_bus(head_of(1, BUS__FRAME_JOIN, 0, 0, false), BUS_E_TOO_BIG);
	ck_bus(head_of(7, BUS__FRAME_LOST, 0, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(BUS__HELLO - 1, BUS__FRAME_HELLO, 0, 0, true), BUS_E_PROTOCOL);
	ck_assert_int_eq(head_of(4096 - 8, BUS__FRAME_HELLO, 0, 0, true), 0);
	ck_bus(head_of(4096 - 7, BUS__FRAME_HELLO, 0, 0, true), BUS_E_TOO_BIG);
}
END_TEST

START_TEST(a_strangers_large_frame_is_too_big_whatever_it_calls_itself)
{
	for (unsigned kind = 0; kind < 256; kind++)
		ck_bus(head_of(1u << 31, (uint8_t)kind, 0, 0, true), BUS_E_TOO_BIG);
}
END_TEST

START_TEST(reserved_values_are_refused)
{
	ck_bus(head_of(0, 0, 0, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(0, BUS__FRAME_AUTH, 0, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(0, BUS__FRAME_ACK, 0, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(1, BUS__FRAME_ACK, 0, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(0, BUS__FRAME_DENY + 1, 0, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(24, BUS__FRAME_MSG, 64, 0, false), BUS_E_PROTOCOL); /* no value */
	ck_assert_int_eq(head_of(32, BUS__FRAME_MSG, 65, 0, false), 0);
	ck_bus(head_of(31, BUS__FRAME_MSG, 65, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(24, BUS__FRAME_START, 2, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(23, BUS__FRAME_RESUME, 0, 0, false), BUS_E_PROTOCOL);
	ck_assert_int_eq(
	    head_of(25, BUS__FRAME_RESUME, 0, 0, false), 0); /* a longer body, of a later version */
	ck_bus(head_of(8, BUS__FRAME_REPLY, 128 + 32, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(0, BUS__FRAME_READY, 1, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(0, BUS__FRAME_READY, 0, 1, false), BUS_E_PROTOCOL);
	ck_bus(head_of(0, BUS__FRAME_MSG, 0, BUS__LIMIT_TOPICS, false), BUS_E_PROTOCOL);
	ck_assert_int_eq(head_of(0, BUS__FRAME_MSG, 0, BUS__LIMIT_TOPICS - 1, false), 0);
	ck_assert_int_eq(head_of(0, BUS__FRAME_BYE, 0, UINT16_MAX, false), 0);
}
END_TEST

START_TEST(a_life_of_nothing_is_refused)
{
	static const uint8_t at[] = {4, 0, 0, 0, BUS__FRAME_MSG, 8, 0, 0, 0, 0, 0, 0};
	struct bus__version version;
	struct bus__frame frame;
	struct bus_msg msg;

	ck_assert_int_eq(bus__frame_read(at, sizeof at, false, MAX, &frame), 0);
	ck_bus(bus__msg_read(&frame, own, &msg, &version), BUS_E_PROTOCOL);
}
END_TEST

START_TEST(questions_and_replies_have_a_number_and_nothing_that_contradicts_it)
{
	static const uint8_t zero[] = {
	    8, 0, 0, 0, BUS__FRAME_REPLY, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	struct bus__version version;
	struct bus__frame frame;
	struct bus_msg msg;

	ck_assert_int_eq(head_of(8, BUS__FRAME_MSG, 32, 0, false), 0);
	ck_bus(head_of(24, BUS__FRAME_MSG, 33, 0, false), BUS_E_PROTOCOL); /* retained */
	ck_bus(head_of(24, BUS__FRAME_MSG, 34, 0, false), BUS_E_PROTOCOL);
	ck_assert_int_eq(head_of(8 + MAX, BUS__FRAME_REPLY, 32, 0, false), 0);
	ck_bus(head_of(9 + MAX, BUS__FRAME_REPLY, 32, 0, false), BUS_E_TOO_BIG);
	ck_bus(head_of(7, BUS__FRAME_REPLY, 32, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(8, BUS__FRAME_REPLY, 0, 0, false), BUS_E_PROTOCOL);
	ck_bus(head_of(8, BUS__FRAME_REPLY, 32, 1, false), BUS_E_PROTOCOL);
	ck_bus(head_of(16, BUS__FRAME_REPLY, 33, 0, false), BUS_E_PROTOCOL);
	ck_assert_int_eq(head_of(8, BUS__FRAME_REPLY, 96, 0, false), 0);
	ck_bus(head_of(9, BUS__FRAME_REPLY, 96, 0, false), BUS_E_TOO_BIG);
	ck_bus(head_of(12, BUS__FRAME_REPLY, 96 + 4, 0, false), BUS_E_PROTOCOL);
	ck_assert_int_eq(bus__frame_read(zero, sizeof zero, false, MAX, &frame), 0);
	ck_bus(bus__msg_read(&frame, own, &msg, &version), BUS_E_PROTOCOL);
}
END_TEST

START_TEST(headers_of_nothing_or_beyond_their_frame_are_refused)
{
	for (uint8_t len = 0; len < 5; len++) {
		const uint8_t at[] = {7, 0, 0, 0, BUS__FRAME_MSG, 16, 0, 0, len, 0, 0, 0, 1, 2, 3};
		struct bus__version version;
		struct bus__frame frame;
		struct bus_msg msg;

		ck_assert_int_eq(bus__frame_read(at, sizeof at, false, MAX, &frame), 0);
		ck_bus(bus__msg_read(&frame, own, &msg, &version),
		    len >= 1 && len <= 3 ? 0 : BUS_E_PROTOCOL);
	}
}
END_TEST

START_TEST(names_with_a_nul_or_broken_text_are_none)
{
	char text[BUS_LIMIT_TOPIC_BYTES + 1];
	struct bus__frame frame = {
	    .kind = BUS__FRAME_SUB, .len = 3, .body = (const uint8_t *)"a\0b"};

	ck_assert(!bus__text_read(&frame, text));
	frame.body = (const uint8_t *)"a\xff!";
	ck_assert(!bus__text_read(&frame, text));
	frame.body = (const uint8_t *)"a/b beyond";
	ck_assert(bus__text_read(&frame, text));
	ck_assert_str_eq(text, "a/b");
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("frame");

	BUS_TEST_CASE(suite, "write and read", frames_have_the_bytes_in_the_document,
	    a_hello_reads_back_unchanged, every_kind_of_message_reads_back_unchanged);
	BUS_TEST_CASE(suite, "refuse", an_http_request_is_recognised_from_its_first_byte,
	    a_preamble_is_right_until_its_first_wrong_byte,
	    a_head_is_judged_when_it_is_complete_and_before_its_body, lengths_are_held_to_the_byte,
	    a_strangers_large_frame_is_too_big_whatever_it_calls_itself,
	    a_hello_without_a_real_heartbeat_is_refused, reserved_values_are_refused,
	    a_life_of_nothing_is_refused, headers_of_nothing_or_beyond_their_frame_are_refused,
	    questions_and_replies_have_a_number_and_nothing_that_contradicts_it,
	    names_with_a_nul_or_broken_text_are_none);
	return suite;
}
