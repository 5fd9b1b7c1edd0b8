/* The texts of refusals. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <stdio.h>
#include <string.h>

#include "access/refusals.h"
#include "base/mem.h"
#include "base/utf8.h"

enum { TEXT = 128 * 1024 };

/* 2026-11-30T22:41:05Z */
#define NOW_MS INT64_C(1796078465000)

static void
add_line(void *arg, const char *line)
{
	char *text = arg;

	must(strlen(text) + strlen(line) + 2 < TEXT);
	strcat(strcat(text, line), "\n");
}

static const char *
text_of(const struct bus__refusals *r)
{
	static char text[TEXT];

	text[0] = '\0';
	bus__refusals_each(r, add_line, text);
	return text;
}

static bool
note(struct bus__refusals *r, enum bus__refusal reason, const char *where, const char *user,
    const char *detail, int64_t now_ms)
{
	const struct bus__refused refused = {reason, where, user, detail};
	bool due;

	ck_assert_uint_gt(bus__refusals_add(r, &refused, now_ms, &due), 0);
	return due;
}

static unsigned
count_lines(const char *text)
{
	unsigned count = 0;

	for (; *text != '\0'; text++)
		count += *text == '\n';
	return count;
}

START_TEST(sentence_names_the_refusal_and_the_remedy)
{
	static const struct {
		struct bus__refused refused;
		const char *says;
	} cases[] = {
	    {{BUS__REFUSED_PASSWORD, "", "pico", NULL},
		"wrong password for \"pico\": correct the password"},
	    {{BUS__REFUSED_NO_USER, "", "x", "y"}, "no user given: give the peer"},
	    {{BUS__REFUSED_UNKNOWN, "", "hunter2", "hunter2"},
		"unknown user, not in users_file: check"},
	    {{BUS__REFUSED_FILTER, "", "pico", "secrets/#"},
		"filter not allowed for \"pico\": secrets/#: add a line \"topic read"},
	    {{BUS__REFUSED_FILTER, "", NULL, "a"},
		"filter not allowed for peers without a user: a: add"},
	    {{BUS__REFUSED_TOPIC, "", "pico", "a/b"},
		"topic not allowed for \"pico\": a/b: add a line \"topic write"},
	    {{BUS__REFUSED_TLS, "", NULL, "the certificate expired on 2026-01-02"},
		"TLS refused: the certificate expired on 2026-01-02: check"},
	    {{BUS__REFUSED_TLS, "", NULL, NULL}, "TLS refused: check"},
	    {{BUS__REFUSED_FILTER, "", "a\nb", "x\x1b[2J\x7f"},
		"filter not allowed for \"a?b\": x?[2J?: add"},
	    {{BUS__REFUSED_FILTER, "", NULL, "bad\xff"},
		"filter not allowed for peers without a user: bad?: add"},
	};
	char text[BUS__REFUSED_LINE];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		bus__refusal_text(&cases[i].refused, text);
		ck_assert_msg(strncmp(text, cases[i].says, strlen(cases[i].says)) == 0, "%s", text);
	}
}
END_TEST

START_TEST(each_reason_has_a_word_and_a_sentence_of_its_own)
{
	char text[BUS__REFUSAL_COUNT][BUS__REFUSED_LINE];

	for (int i = 0; i < BUS__REFUSAL_COUNT; i++) {
		const struct bus__refused refused = {(enum bus__refusal)i, "", NULL, NULL};

		ck_assert_ptr_nonnull(bus__refusal_word((enum bus__refusal)i));
		bus__refusal_text(&refused, text[i]);
		ck_assert_ptr_nonnull(strstr(text[i], ": "));
		ck_assert_uint_lt(
		    strlen(text[i]), BUS__REFUSED_LINE - 300); /* room for the names */
		for (int j = 0; j < i; j++) {
			ck_assert_str_ne(text[i], text[j]);
			ck_assert_str_ne(bus__refusal_word((enum bus__refusal)i),
			    bus__refusal_word((enum bus__refusal)j));
		}
	}
}
END_TEST

START_TEST(same_refusal_is_a_count_with_two_times)
{
	struct bus__refusals *r = bus__refusals_new();

	note(r, BUS__REFUSED_PASSWORD, "192.168.1.7", "pico", NULL, NOW_MS);
	ck_assert_ptr_nonnull(
	    strstr(text_of(r), "refused 192.168.1.7: wrong password for \"pico\""));
	ck_assert_ptr_nonnull(strstr(text_of(r), "(once, 2026-11-30T22:41:05Z)"));
	note(r, BUS__REFUSED_PASSWORD, "192.168.1.7", "pico", NULL, NOW_MS + 60000);
	note(r, BUS__REFUSED_PASSWORD, "192.168.1.7", "pico", NULL, NOW_MS + 120000);
	note(r, BUS__REFUSED_HTTP, "192.168.1.8", NULL, NULL, NOW_MS);
	ck_assert_ptr_nonnull(
	    strstr(text_of(r), "(3 times, 2026-11-30T22:41:05Z to 2026-11-30T22:43:05Z)"));
	ck_assert_uint_eq(count_lines(text_of(r)), 2);
	/* The latest first. */
	ck_assert_int_eq(strncmp(text_of(r), "refused 192.168.1.8", 19), 0);
	bus__refusals_free(r);
}
END_TEST

START_TEST(name_of_an_unknown_user_is_not_kept)
{
	struct bus__refusals *r = bus__refusals_new();

	note(r, BUS__REFUSED_UNKNOWN, "192.168.1.7", "hunter2", "hunter2", NOW_MS);
	note(r, BUS__REFUSED_UNKNOWN, "192.168.1.7", "letmein", NULL, NOW_MS);
	ck_assert_ptr_null(strstr(text_of(r), "hunter2"));
	ck_assert_uint_eq(count_lines(text_of(r)), 1);
	bus__refusals_free(r);
}
END_TEST

START_TEST(last_32_peers_and_four_refusals_of_each_are_kept)
{
	struct bus__refusals *r = bus__refusals_new();
	char where[32], detail[32];

	for (int i = 0; i < 2 * BUS__REFUSED_PEERS; i++) {
		snprintf(where, sizeof where, "10.0.0.%d", i);
		note(r, BUS__REFUSED_NO_USER, where, NULL, NULL, NOW_MS + i);
		note(r, BUS__REFUSED_HTTP, "10.9.9.9", NULL, NULL, NOW_MS + i);
	}
	ck_assert_uint_eq(count_lines(text_of(r)), BUS__REFUSED_PEERS);
	ck_assert_ptr_null(strstr(text_of(r), "10.0.0.32:"));
	ck_assert_ptr_nonnull(strstr(text_of(r), "10.0.0.33:"));
	ck_assert_ptr_nonnull(strstr(text_of(r), "(64 times"));
	for (int i = 0; i < 2 * BUS__REFUSED_EACH; i++) {
		snprintf(detail, sizeof detail, "filter/%d", i);
		note(r, BUS__REFUSED_FILTER, "10.9.9.9", NULL, detail, NOW_MS + 100 + i);
	}
	ck_assert_ptr_null(strstr(text_of(r), "filter/3"));
	ck_assert_ptr_nonnull(strstr(text_of(r), "filter/4"));
	ck_assert_uint_eq(count_lines(text_of(r)), BUS__REFUSED_PEERS - 1 + BUS__REFUSED_EACH);
	bus__refusals_free(r);
}
END_TEST

START_TEST(long_texts_of_a_peer_are_cut_at_a_character)
{
	struct bus__refusals *r = bus__refusals_new();
	char detail[1025], user[200];

	memset(user, 'u', sizeof user - 1);
	user[sizeof user - 1] = '\0';
	for (int shift = 0; shift < 4; shift++) {
		memset(detail, 'x', (size_t)shift);
		for (size_t i = (size_t)shift; i + 3 < sizeof detail; i += 3)
			memcpy(detail + i, "\xe2\x82\xac\0", 4);
		note(r, BUS__REFUSED_TOPIC, "10.0.0.1", user, detail, NOW_MS);
	}
	ck_assert(bus__utf8_valid(text_of(r), strlen(text_of(r))));
	ck_assert_ptr_null(strchr(text_of(r), '?'));
	ck_assert_ptr_nonnull(strstr(text_of(r), "add a line"));
	bus__refusals_free(r);
}
END_TEST

START_TEST(notice_is_due_once_a_second_for_each_peer)
{
	struct bus__refusals *r = bus__refusals_new();

	ck_assert(note(r, BUS__REFUSED_HTTP, "10.0.0.1", NULL, NULL, NOW_MS));
	ck_assert(!note(r, BUS__REFUSED_HTTP, "10.0.0.1", NULL, NULL, NOW_MS + 999));
	ck_assert(!note(r, BUS__REFUSED_MQTT, "10.0.0.1", NULL, NULL, NOW_MS + 999));
	ck_assert(note(r, BUS__REFUSED_HTTP, "10.0.0.2", NULL, NULL, NOW_MS + 999));
	ck_assert(note(r, BUS__REFUSED_MQTT, "10.0.0.1", NULL, NULL, NOW_MS + 1000));
	/* The clock of the machine was set back. */
	ck_assert(note(r, BUS__REFUSED_MQTT, "10.0.0.1", NULL, NULL, NOW_MS - 100000));
	bus__refusals_free(r);
}
END_TEST

START_TEST(other_protocols_are_known_by_their_first_bytes)
{
	static const struct {
		const char *bytes;
		size_t len;
		enum bus__refusal reason;
	} cases[] = {
	    {"GET / HTTP/1.1\r\n", 16, BUS__REFUSED_HTTP},
	    {"POST ", 5, BUS__REFUSED_HTTP},
	    {"PRI * HTTP/2.0\r\n", 16, BUS__REFUSED_HTTP},
	    {"HTTP/1.1 400 Bad", 16, BUS__REFUSED_HTTP},
	    {"GETS", 4, BUS__REFUSED_BYTES},
	    {"GET", 3, BUS__REFUSED_BYTES},
	    {"\x16\x03\x01\x02\x00", 5, BUS__REFUSED_TLS_PLAIN},
	    {"\x16\x02\x01", 3, BUS__REFUSED_BYTES},
	    {"\x16", 1, BUS__REFUSED_BYTES},
	    {"\x10\x0c\x00\x04MQTT\x04", 9, BUS__REFUSED_MQTT},
	    {"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05", 12, BUS__REFUSED_MQTT},
	    {"\x10\x0c\x00\x06MQIsdp\x03", 11, BUS__REFUSED_MQTT},
	    {"\x10\x0c\x00\x04MQT", 7, BUS__REFUSED_BYTES},
	    {"\x10\xff\xff\xff\xff\x00\x04MQTT", 11, BUS__REFUSED_BYTES},
	    {"\x10\x80", 2, BUS__REFUSED_BYTES},
	    {"\x10", 1, BUS__REFUSED_BYTES},
	    {"SSH-2.0-", 8, BUS__REFUSED_BYTES},
	    {"", 0, BUS__REFUSED_BYTES},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ck_assert_msg(
		    bus__refusal_of_bytes(cases[i].bytes, cases[i].len) == cases[i].reason,
		    "case %zu", i);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("refusals");
	TCase *tcase = tcase_create("refusals");

	tcase_set_timeout(tcase, bus_test_limit());
	tcase_add_test(tcase, sentence_names_the_refusal_and_the_remedy);
	tcase_add_test(tcase, each_reason_has_a_word_and_a_sentence_of_its_own);
	tcase_add_test(tcase, same_refusal_is_a_count_with_two_times);
	tcase_add_test(tcase, name_of_an_unknown_user_is_not_kept);
	tcase_add_test(tcase, last_32_peers_and_four_refusals_of_each_are_kept);
	tcase_add_test(tcase, long_texts_of_a_peer_are_cut_at_a_character);
	tcase_add_test(tcase, notice_is_due_once_a_second_for_each_peer);
	tcase_add_test(tcase, other_protocols_are_known_by_their_first_bytes);
	suite_add_tcase(suite, tcase);
	return suite;
}
