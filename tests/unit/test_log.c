/* The log of a named bus: what is appended is read, in one order, by whoever reads. */
#define _GNU_SOURCE
#include "log_test.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "log/log.h"
#include "log/summary.h"

static void
expect_nothing(struct log_cursor *cursor)
{
	ck_assert_ptr_null(bus__log_next(cursor));
}

/* --- records ---------------------------------------------------------------------------------------------------- */

START_TEST(record_comes_back_with_all_its_parts)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	const struct log_item items[] = {
	    {.topic = log_test_topic(log, "five"), .type = 3, .origin = 9},
	    {.topic = log_test_topic(log, "six"), .flags = LOG_RETAIN},
	    {.headers = "headers!!",
		.headers_len = 9,
		.topic = log_test_topic(log, "seven"),
		.flags = LOG_EXPIRES | LOG_HEADERS | LOG_REPLY,
		.expires_ns = 1234567890123,
		.reply = 77},
	};
	const struct bus_slice payloads[] = {{"payload", 7}, {NULL, 0}, {"x", 1}};
	struct log_view view;
	uint64_t sequence = 0;

	for (uint64_t i = 0; i < 3; i++) {
		ck_bus(bus__log_append(log, &items[i], &payloads[i], 1, &sequence), 1);
		ck_assert_uint_eq(sequence, i + 1);
	}
	for (int i = 0; i < 3; i++) {
		const struct log_record *record = bus__log_next(&cursor);

		ck_assert_ptr_nonnull(record);
		ck_assert(bus__log_read(cursor.word, record, &view));
		ck_assert(log_test_is_of(&cursor, record, items[i].topic->name));
		ck_assert_uint_eq(view.type, items[i].type);
		ck_assert_uint_eq(view.origin, items[i].origin);
		ck_assert_uint_eq(view.len, payloads[i].len);
		ck_assert_uint_eq(view.headers_len, items[i].headers_len);
		ck_assert_uint_eq(view.flags & ~(LOG_NAMED | LOG_EMPTY), items[i].flags);
		ck_assert_int_eq(view.expires_ns, items[i].expires_ns);
		ck_assert_uint_eq(view.reply, items[i].reply);
		if (view.len > 0)
			ck_assert_mem_eq(view.data, payloads[i].data, view.len);
		if (view.headers_len > 0)
			ck_assert_mem_eq(view.headers, items[i].headers, view.headers_len);
		ck_assert_int_lt(llabs(view.time_ns - bus__wall_ns()), 60 * INT64_C(1000000000));
	}
	expect_nothing(&cursor);
	ck_assert_uint_eq(cursor.sequence, 4);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

START_TEST(record_of_every_size_fits_or_is_refused)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	uint32_t most = bus__log_most(log);
	struct log_item item = {.topic = topic_t(log)};
	struct bus_slice payload = {"", most + 1};
	uint64_t sequence;

	ck_assert_uint_gt(most, 256 << 10);
	for (uint32_t len = 8; len < 600; len++) {
		append(log, len, len);
		expect(&cursor, len);
	}
	for (uint32_t i = 0; i < 40; i++) {
		append(log, i, most - i);
		expect(&cursor, i);
	}
	ck_bus(bus__log_append(log, &item, &payload, 1, &sequence), BUS_E_TOO_BIG);
	expect_nothing(&cursor);
	ck_assert_uint_eq(bus__log_lost(&cursor), 0);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

START_TEST(run_that_is_longer_than_a_segment_is_in_it_whole_and_in_order)
{
	enum { MANY = 20000 };
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	static uint64_t numbers[MANY];
	static struct bus_slice payloads[MANY];
	uint64_t sequence;

	for (uint64_t i = 0; i < MANY; i++) {
		numbers[i] = i;
		payloads[i] = (struct bus_slice){&numbers[i], 8};
	}
	ck_bus(bus__log_append(
		   log, &(struct log_item){.topic = topic_t(log)}, payloads, MANY, &sequence),
	    MANY);
	ck_assert_uint_eq(sequence, 1);
	for (uint64_t i = 0; i < MANY; i++)
		expect(&cursor, i);
	expect_nothing(&cursor);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

/* --- cursors ---------------------------------------------------------------------------------------------------- */

START_TEST(cursor_begins_where_it_was_told)
{
	struct log *log = open_log();
	struct log_cursor oldest, now, at, later, past;

	for (uint64_t i = 1; i <= 20000; i++)
		must(append(log, i, 100) == i);
	oldest = open_cursor(log, LOG_FROM_OLDEST, 0);
	now = open_cursor(log, LOG_FROM_NOW, 0);
	at = open_cursor(log, LOG_FROM_SEQUENCE, 12345);
	later = open_cursor(log, LOG_FROM_SEQUENCE, 1000000);
	expect(&oldest, 1);
	expect(&at, 12345);
	expect_nothing(&now);
	expect_nothing(&later);
	ck_assert_uint_eq(now.sequence, 20001);
	for (uint64_t i = 20001; i <= 60000; i++)
		append(log, i, 100);
	/* It holds what it reads, and no more. */
	expect(&oldest, 2);
	expect(&now, 20001);
	expect(&later, 20001);
	past = open_cursor(log, LOG_FROM_SEQUENCE, 1);
	ck_assert_ptr_nonnull(bus__log_next(&past));
	bus__log_cursor_close(&past);
	bus__log_cursor_close(&oldest);
	bus__log_cursor_close(&now);
	bus__log_cursor_close(&at);
	bus__log_cursor_close(&later);
	bus__log_close(log);
}
END_TEST

START_TEST(memory_is_used_again_and_a_reader_that_keeps_up_misses_nothing)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);

	for (uint64_t i = 0; i < 200000; i++) {
		must(append(log, i, (uint32_t)(16 + i % 700)) == i + 1);
		if (i % 100 == 99)
			for (uint64_t k = i - 99; k <= i; k++)
				expect(&cursor, k);
	}
	ck_assert_uint_gt(cursor.number, 200);
	ck_assert_uint_eq(bus__log_lost(&cursor), 0);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

START_TEST(reader_that_is_lapped_is_told_how_many_went_by)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	const struct log_record *record;
	uint64_t next = 0, seen = 0, lost = 0;

	srand(7);
	for (int round = 0; round < 50; round++) {
		uint64_t end = next + (uint64_t)(rand() % 20000);

		for (; next < end; next++)
			append(log, next, 300);
		for (int i = rand() % 9000; i > 0; i--) {
			record = bus__log_next(&cursor);
			if (record == NULL)
				break;
			lost += bus__log_lost(&cursor);
			must(number_of(&cursor, record) == seen + lost);
			must(cursor.sequence == seen + lost + 2);
			seen++;
		}
	}
	ck_assert_uint_gt(lost, 10000);
	while ((record = bus__log_next(&cursor)) != NULL) {
		lost += bus__log_lost(&cursor);
		seen++;
	}
	ck_assert_uint_eq(seen + lost, next);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

START_TEST(what_a_reader_holds_is_not_written_over)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	const struct log_record *record;

	for (uint64_t i = 0; i < 100; i++)
		append(log, i, 1000);
	record = bus__log_next(&cursor);
	/* Also not when the directory has long forgotten the segment. */
	for (uint64_t i = 100; i < 90000; i++)
		append(log, i, 1000);
	ck_assert_uint_gt(log->number, LOG_DIRECTORY + 10);
	ck_assert_uint_eq(number_of(&cursor, record), 0);
	for (uint64_t i = 1; i < 100; i++)
		expect(&cursor, i);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

/* A pin of the process's own: one for all cursors in a place, and none once the last has let go. */
static uint64_t
places_pinned(const struct log *log)
{
	return atomic_load(&log->shared->pins[pins_of(log->member)].places);
}

static uint32_t
processes_that_read(struct log *log)
{
	struct log_summary summary;

	ck_bus(bus__log_summary(log, &summary), 0);
	return summary.readers;
}

START_TEST(ten_thousand_cursors_of_a_process_are_one_reader_of_the_host)
{
	struct log *log = open_log();
	struct log_cursor *cursors = calloc(10000, sizeof *cursors);

	ck_assert_ptr_nonnull(cursors);
	ck_assert_uint_eq(processes_that_read(log), 0);
	for (int i = 0; i < 10000; i++)
		cursors[i] = open_cursor(log, LOG_FROM_NOW, 0);
	ck_assert_uint_eq(processes_that_read(log), 1);
	for (int i = 0; i < 9999; i++)
		bus__log_cursor_close(&cursors[i]);
	ck_assert_uint_eq(processes_that_read(log), 1);
	ck_assert_uint_eq(__builtin_popcountll(places_pinned(log)), 1);
	bus__log_let_go(&cursors[9999]);
	ck_assert_uint_eq(places_pinned(log), 0);
	bus__log_cursor_close(&cursors[9999]);
	ck_assert_uint_eq(processes_that_read(log), 0);
	free(cursors);
	bus__log_close(log);
}
END_TEST

START_TEST(place_is_pinned_until_the_last_of_its_cursors_lets_go)
{
	struct log *log = open_log();
	struct log_cursor one = open_cursor(log, LOG_FROM_NOW, 0), two;
	uint64_t place = places_pinned(log);

	two = open_cursor(log, LOG_FROM_NOW, 0);
	ck_assert_uint_eq(places_pinned(log), place);
	bus__log_let_go(&one);
	ck_assert_uint_eq(places_pinned(log), place);
	bus__log_let_go(&one);
	ck_assert_uint_eq(places_pinned(log), place);
	bus__log_cursor_close(&two);
	ck_assert_uint_eq(places_pinned(log), 0);
	bus__log_cursor_close(&one);
	bus__log_close(log);
}
END_TEST

static void *
append_soon(void *arg)
{
	struct log *log = arg;

	/* It announces its sleep, and sleeps some instructions later. */
	ck_eventually(log->shared->tail & TAIL_SLEEPERS);
	for (int i = 0; i < 5; i++)
		bus_test_nap();
	append(log, 42, 64);
	return NULL;
}

START_TEST(reader_that_sleeps_is_woken)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);

	int64_t deadline = bus_test_now_ms() + patience_ms(), took = INT64_MAX;

	/* A reader that is not woken sleeps for the full cap, every time. */
	while (took >= 150) {
		int64_t begin = bus_test_now_ms();
		pthread_t thread;

		ck_assert_int_lt(begin, deadline);
		pthread_create(&thread, NULL, append_soon, log);
		while (bus__log_next(&cursor) == NULL)
			bus__log_await(&cursor, INT64_MAX);
		took = bus_test_now_ms() - begin;
		pthread_join(thread, NULL);
	}
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

START_TEST(reader_that_waits_in_vain_comes_back_at_its_deadline)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	int64_t begin = bus_test_now_ms();

	bus__log_await(&cursor, bus__deadline_ns(30));
	ck_assert_int_ge(bus_test_now_ms() - begin, 20);
	expect_nothing(&cursor);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

/* --- many writers ----------------------------------------------------------------------------------------------- */

enum { WRITERS = 4, EACH = 30000 };

struct writer {
	struct log *log;
	uint64_t id;
	pthread_t thread;
};

static void *
write_all(void *arg)
{
	struct writer *w = arg;
	uint64_t numbers[7];
	const struct log_item item = {.topic = topic_of(w->log, (unsigned)w->id)};
	struct bus_slice payloads[7];

	for (uint64_t i = 0; i < EACH;) {
		size_t run = (size_t)(1 + i % 7), k;
		uint64_t sequence;

		for (k = 0; k < run && i < EACH; k++, i++) {
			numbers[k] = w->id << 32 | i;
			payloads[k] = (struct bus_slice){&numbers[k], 8};
		}
		must(bus__log_append(w->log, &item, payloads, k, &sequence) == (int)k);
	}
	return NULL;
}

static void *
read_all(void *arg)
{
	struct log_cursor *cursor = arg;
	uint64_t next[WRITERS] = {0};
	unsigned left = WRITERS * EACH;
	uint64_t sum = 0;

	while (left > 0) {
		const struct log_record *record = bus__log_next(cursor);
		struct log_view view;
		uint64_t number;
		char name[20];

		if (record == NULL) {
			bus__log_await(cursor, INT64_MAX);
			continue;
		}
		must(bus__log_read(cursor->word, record, &view));
		memcpy(&number, view.data, sizeof number);
		must(number >> 32 < WRITERS);
		snprintf(name, sizeof name, "value/%u", (unsigned)(number >> 32));
		must(log_test_is_of(cursor, record, name));
		must((number & UINT32_MAX) == next[number >> 32]);
		next[number >> 32]++;
		sum = sum * 31 + number;
		left--;
	}
	return (void *)(uintptr_t)sum;
}

/* Threads of this process, and (_i) as many processes: all readers see the same order. */
START_TEST(writers_keep_their_order_and_readers_see_one)
{
	struct log *log;
	struct log_cursor cursors[2];
	struct writer writers[WRITERS];
	pthread_t readers[2];
	pid_t children[WRITERS] = {0};
	void *sums[2];

	ck_bus(bus__log_open(test_dir(), "test", 16 << 20, &log), 0);
	for (int i = 0; i < 2; i++)
		cursors[i] = open_cursor(log, LOG_FROM_NOW, 0);
	for (int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){.log = log, .id = (uint64_t)i};
		if (_i == 0 || i == 0)
			continue;
		children[i] = bus_test_fork();
		if (children[i] == 0) {
			ck_bus(bus__log_open(test_dir(), "test", 0, &writers[i].log), 0);
			write_all(&writers[i]);
			bus__log_close(writers[i].log);
			_exit(0);
		}
	}
	for (int i = 0; i < 2; i++)
		pthread_create(&readers[i], NULL, read_all, &cursors[i]);
	for (int i = 0; i < WRITERS; i++)
		if (children[i] == 0)
			pthread_create(&writers[i].thread, NULL, write_all, &writers[i]);
	for (int i = 0; i < WRITERS; i++) {
		int status = 0;

		if (children[i] == 0)
			pthread_join(writers[i].thread, NULL);
		else
			ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
		ck_assert_int_eq(status, 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(readers[i], &sums[i]);
		ck_assert_uint_eq(bus__log_lost(&cursors[i]), 0);
		bus__log_cursor_close(&cursors[i]);
	}
	ck_assert_ptr_eq(sums[0], sums[1]);
	bus__log_close(log);
}
END_TEST

/* --- topics ----------------------------------------------------------------------------------------------------- */

/* The record behind, of that topic and number. *ret_names: whether the name stands in it. */
static bool
is_next(struct log_cursor *cursor, const char *topic, uint64_t number, bool *ret_names)
{
	const struct log_record *record = bus__log_next(cursor);
	struct log_view view;
	uint64_t its;

	if (record == NULL || !log_test_is_of(cursor, record, topic) ||
	    !bus__log_read(cursor->word, record, &view) || view.len != sizeof its)
		return false;
	memcpy(&its, view.data, sizeof its);
	*ret_names = view.name_len != 0;
	return its == number;
}

static void
put(struct log *log, struct log_topic *topic, uint64_t number)
{
	const struct log_item item = {.topic = topic};
	uint64_t sequence;

	must(bus__log_append(
		 log, &item, &(struct bus_slice){&number, sizeof number}, 1, &sequence) == 1);
}

START_TEST(name_stands_once_in_each_segment)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	struct log_topic *topics[2] = {log_test_topic(log, "a"), log_test_topic(log, "b/c")};
	uint64_t segment[2] = {0}, first = log->number;
	bool names;

	for (uint64_t i = 0; log->number < first + 20; i++) {
		put(log, topics[i / 3 % 2], i);
		must(is_next(&cursor, topics[i / 3 % 2]->name, i, &names));
		must(names == (segment[i / 3 % 2] != cursor.number));
		segment[i / 3 % 2] = cursor.number;
	}
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

START_TEST(names_in_a_batch_stand_in_its_first_record)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	const struct log_item item = {.topic = topic_t(log)};
	const struct bus_slice payloads[3] = {{"1", 1}, {"2", 1}, {"3", 1}};
	uint64_t sequence;

	ck_bus(bus__log_append(log, &item, payloads, 3, &sequence), 3);
	for (int i = 0; i < 3; i++) {
		const struct log_record *record = bus__log_next(&cursor);

		ck_assert(log_test_is_of(&cursor, record, "t"));
		ck_assert_int_eq((cursor.word >> 32 & LOG_NAMED) != 0, i == 0);
	}
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

/* A process remembers some thousand: whichever it has forgotten it names again. */
START_TEST(there_is_no_end_of_names)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	char name[48];
	bool names;

	for (uint64_t i = 0; i < 200000; i++) {
		uint64_t again = i / 2 - i / 2 % 8;

		snprintf(name, sizeof name, "job/%llu/progress",
		    (unsigned long long)(i % 2 != 0 ? again : i));
		put(log, log_test_topic(log, name), i);
		must(is_next(&cursor, name, i, &names));
	}
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

START_TEST(longest_name_goes_with_the_largest_payload)
{
	static uint8_t payload[1 << 20];
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	char name[BUS_LIMIT_TOPIC_BYTES + 1];
	struct log_item item = {.headers = "h",
	    .headers_len = 1,
	    .flags = LOG_HEADERS | LOG_EXPIRES | LOG_REPLY | LOG_RETAIN,
	    .expires_ns = INT64_MAX};
	struct bus_slice slice = {payload, bus__log_most(log) - 1};
	struct bus__offer offer = {
	    .version = {.changes = 9, .bus = {255}}, .peer = {254}, .is_kept = false};
	struct bus__version ours;
	const struct log_record *record;
	struct log_view view;
	uint64_t sequence;

	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	item.topic = log_test_topic(log, name);
	ck_bus(bus__log_append_value(log, &item, &offer, &slice, &sequence, &ours), 1);
	record = bus__log_next(&cursor);
	ck_assert(log_test_is_of(&cursor, record, name));
	ck_assert(bus__log_read(cursor.word, record, &view));
	ck_assert_uint_eq(view.len, slice.len);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

/* What a record points to is not believed. */
START_TEST(record_that_points_to_no_name_has_none)
{
	struct log *log = open_log();
	struct log_cursor cursor = open_cursor(log, LOG_FROM_NOW, 0);
	struct log_topic *topic = topic_t(log);
	struct log_record *record;
	uint32_t len, right;

	for (uint64_t i = 0; i < 5; i++)
		put(log, topic, i);
	record = (struct log_record *)(uintptr_t)bus__log_next(&cursor);
	right = record->topic;
	for (int i = 0; i < 3; i++)
		record = (struct log_record *)(uintptr_t)bus__log_next(&cursor);
	ck_assert_uint_eq(record->topic, right);
	/* Behind it, in the middle of one, one that names nothing, outside the segment, and none. */
	const uint32_t wrong[] = {
	    (uint32_t)cursor.at / 8 + 1, right + 1, right + 6, UINT32_MAX, UINT32_MAX / 2, 0};

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		record->topic = wrong[i];
		ck_assert_ptr_null(bus__log_name(&cursor, record, &len));
	}
	record->topic = right;
	ck_assert_ptr_nonnull(bus__log_name(&cursor, record, &len));
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("log");
	TCase *writers = bus_test_case("writers");

	BUS_TEST_CASE(suite, "records", record_comes_back_with_all_its_parts,
	    record_of_every_size_fits_or_is_refused,
	    run_that_is_longer_than_a_segment_is_in_it_whole_and_in_order);
	BUS_TEST_CASE(suite, "cursors", cursor_begins_where_it_was_told,
	    memory_is_used_again_and_a_reader_that_keeps_up_misses_nothing,
	    reader_that_is_lapped_is_told_how_many_went_by, what_a_reader_holds_is_not_written_over,
	    ten_thousand_cursors_of_a_process_are_one_reader_of_the_host,
	    place_is_pinned_until_the_last_of_its_cursors_lets_go, reader_that_sleeps_is_woken,
	    reader_that_waits_in_vain_comes_back_at_its_deadline);
	tcase_add_loop_test(writers, writers_keep_their_order_and_readers_see_one, 0, 2);
	suite_add_tcase(suite, writers);
	BUS_TEST_CASE(suite, "topics", name_stands_once_in_each_segment,
	    names_in_a_batch_stand_in_its_first_record, there_is_no_end_of_names,
	    longest_name_goes_with_the_largest_payload, record_that_points_to_no_name_has_none);
	return suite;
}
