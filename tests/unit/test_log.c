/* The log of a named bus: what is appended is read, in one order, by whoever reads; members come and go. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "log/log.h"
#include "log_test.h"

#define SMALL LOG_BYTES_LEAST

/* Of the process that began the test, also in its children. */
static const char *
test_dir(void)
{
	static const char *dir;

	if (dir == NULL)
		dir = bus_test_dir();
	return dir;
}

static struct log *
open_log(void)
{
	struct log *log;

	ck_bus(bus__log_open(test_dir(), "test", SMALL, &log), 0);
	return log;
}

static struct log_topic *
topic_t(const struct log *log)
{
	return log_test_topic(log, "t");
}

static struct log_cursor
open_cursor(struct log *log, enum log_from from, uint64_t sequence)
{
	struct log_cursor cursor;

	ck_bus(bus__log_cursor_open(log, from, sequence, &cursor), 0);
	return cursor;
}

/* Appends a record of `len` bytes that begins with a number; all other bytes follow from it. */
static uint64_t
append(struct log *log, uint64_t number, uint32_t len)
{
	static uint8_t bytes[1 << 20];
	struct log_item item = {.topic = topic_t(log)};
	uint64_t sequence;

	memset(bytes, (uint8_t)number, len);
	memcpy(bytes, &number, sizeof number);
	must(bus__log_append(log, &item, &(struct bus_slice){bytes, len}, 1, &sequence) == 1);
	return sequence;
}

/* The number in a record, all of whose bytes are checked. */
static uint64_t
number_of(const struct log_cursor *cursor, const struct log_record *record)
{
	struct log_view view;
	uint64_t number;

	must(bus__log_read(cursor->word, record, &view));
	must(view.len >= sizeof number);
	memcpy(&number, view.data, sizeof number);
	for (uint32_t i = sizeof number; i < view.len; i++)
		must(view.data[i] == (uint8_t)number);
	return number;
}

static void
expect(struct log_cursor *cursor, uint64_t number)
{
	const struct log_record *record = bus__log_next(cursor);

	if (record == NULL || number_of(cursor, record) != number)
		ck_abort_msg("not record %llu", (unsigned long long)number);
}

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

/* --- values ------------------------------------------------------------------------------------------------------ */

static struct log_topic *
topic_of(const struct log *log, unsigned number)
{
	char name[20];

	snprintf(name, sizeof name, "value/%u", number);
	return log_test_topic(log, name);
}

/* Keeps `number` in a topic, with `len` bytes; 0 ends the value. */
static int
keep(struct log *log, unsigned topic, uint64_t number, uint32_t len)
{
	static uint8_t bytes[1 << 18];
	struct log_item item = {.topic = topic_of(log, topic), .flags = LOG_RETAIN};
	uint64_t sequence;

	memset(bytes, (uint8_t)number, len);
	if (len >= sizeof number)
		memcpy(bytes, &number, sizeof number);
	return bus__log_append(log, &item, &(struct bus_slice){bytes, len}, 1, &sequence);
}

static uint64_t
tail_of(const struct log *log)
{
	return tail_position(log->shared->tail);
}

/* What a topic keeps now; 0: nothing. */
static uint64_t
kept(struct log_cursor *reader, unsigned topic)
{
	const struct log_record *record =
	    bus__log_kept(reader, topic_of(reader->log, topic), tail_of(reader->log));
	struct log_view view;

	if (record == NULL)
		return 0;
	must(bus__log_read(reader->word, record, &view));
	return view.len == 0 ? 0 : number_of(reader, record);
}

START_TEST(value_stays_when_its_memory_is_used_again)
{
	struct log *log = open_log();
	struct log_cursor live = open_cursor(log, LOG_FROM_NOW, 0), reader;

	for (unsigned i = 0; i < 50; i++)
		must(keep(log, i, 1000 + i, 64 + i * 10) == 1);
	must(keep(log, 3, 0, 0) == 1); /* ends it */
	for (uint64_t i = 0; i < 100000; i++) {
		append(log, i, 300);
		if (i % 1000 == 999)
			must(keep(log, 7, 2000 + i, 100) == 1);
		while (bus__log_next(&live) != NULL)
			;
	}
	reader = open_cursor(log, LOG_FROM_NOW, 0); /* it would hold the memory */
	ck_assert_uint_gt(log->number, 100);
	for (unsigned i = 0; i < 50; i++)
		if (i != 3 && i != 7)
			ck_assert_uint_eq(kept(&reader, i), 1000 + i);
	ck_assert_uint_eq(kept(&reader, 3), 0);
	ck_assert_uint_eq(kept(&reader, 7), 2000 + 99999);
	ck_assert_uint_eq(kept(&reader, 51), 0);
	/* What is carried along is no news: it has no sequence, and nobody misses it. */
	ck_assert_uint_eq(bus__log_lost(&live), 0);
	ck_assert_uint_eq(live.sequence, 1 + 50 + 1 + 100000 + 100);
	bus__log_cursor_close(&live);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

START_TEST(value_as_of_a_position_is_the_one_before_it)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);
	const struct log_topic *topic = topic_of(log, 1);
	uint64_t before, between;

	before = tail_of(log);
	must(keep(log, 1, 11, 64) == 1);
	between = tail_of(log);
	must(keep(log, 1, 12, 64) == 1);
	ck_assert_ptr_null(bus__log_kept(&reader, topic, before));
	ck_assert_uint_eq(number_of(&reader, bus__log_kept(&reader, topic, between)), 11);
	ck_assert_uint_eq(kept(&reader, 1), 12);
	/* Then it comes anyway, behind that position. */
	must(keep(log, 1, 13, 64) == 1);
	ck_assert_ptr_null(bus__log_kept(&reader, topic, between));
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

START_TEST(values_have_a_part_of_the_room_and_no_more)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);
	unsigned count = 0;
	int err;

	while ((err = keep(log, count, 5000 + count, 20000)) == 1)
		count++;
	ck_bus(err, BUS_E_LIMIT);
	ck_assert_uint_gt(count, 30);
	/* All else goes on for ever, and they stay. */
	for (uint64_t i = 0; i < 100000; i++)
		append(log, i, 300);
	for (unsigned i = 0; i < count; i++)
		ck_assert_uint_eq(kept(&reader, i), 5000 + i);
	/* One that ends makes room. */
	ck_bus(keep(log, count, 1, 20000), BUS_E_LIMIT);
	ck_bus(keep(log, 5, 0, 0), 1);
	ck_bus(keep(log, count, 1, 20000), 1);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

START_TEST(what_replaces_a_value_or_ends_it_needs_no_room)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);
	struct log_topic *own = log_test_topic(log, "$bus/members/1");
	unsigned count = 0;

	while (keep(log, count, 1000 + count, 4000) == 1)
		count++;
	ck_assert_int_gt(count, 100);
	ck_bus(keep(log, count, 1, 4000), BUS_E_LIMIT);
	ck_bus(keep(log, 0, 2000, 4000), 1);
	ck_assert_uint_eq(kept(&reader, 0), 2000);
	ck_bus(keep(log, 0, 3000, 8000), BUS_E_LIMIT);
	ck_assert_uint_eq(kept(&reader, 0), 2000);
	/* What the bus says of its members still has room. */
	ck_bus(bus__log_append(log, &(struct log_item){.topic = own, .flags = LOG_RETAIN},
		   &(struct bus_slice){"12345678", 8}, 1, &(uint64_t){0}),
	    1);
	for (unsigned i = 0; i < count; i++)
		ck_bus(keep(log, i, 0, 0), 1);
	ck_bus(keep(log, count, 1, 4000), 1);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

/* Where every segment has some values, those that are carried along leave too little room behind them. */
START_TEST(largest_message_goes_in_and_costs_two_or_three_segments)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);
	uint32_t most = bus__log_most(log);

	for (unsigned i = 0; i < 64; i++) {
		must(keep(log, i, 1000 + i, 2000) == 1);
		append(log, i, 60000);
	}
	for (unsigned round = 0; round < 200; round++) {
		uint64_t number = log->number;

		append(log, round, most - round % 16);
		ck_assert_uint_le(log->number, number + 3);
		append(log, round, 30000);
	}
	for (unsigned i = 0; i < 64; i++)
		ck_assert_uint_eq(kept(&reader, i), 1000 + i);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

/* As one finds out who was stopped between the choice of a value to carry and its note. */
START_TEST(note_that_comes_late_undoes_no_newer_one)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);
	struct log_place *place;
	uint64_t early, word, tag;

	ck_bus(keep(log, 0, 1, 100), 1);
	early = log->shared->tail;
	append(log, 7, 100);
	ck_bus(keep(log, 0, 2, 100), 1);
	word = record_word(128, LOG_RETAIN | LOG_CARRIED, 0, 4);
	place = bus__log_choose_place(
	    log, topic_of(log, 0), tail_position(early), bus__log_tail(log), &tag);
	bus__log_note_kept(log, place, tag, tail_position(early), word, tail_position(early));
	ck_assert_uint_eq(kept(&reader, 0), 2);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

START_TEST(values_stay_while_readers_hold_the_oldest_memory)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0), holders[5];

	for (unsigned i = 0; i < 5; i++) {
		must(keep(log, i, 100 + i, 1000) == 1);
		holders[i] = open_cursor(log, LOG_FROM_NOW, 0);
		append(log, i, 1 << 17);
		expect(&holders[i], i);
		append(log, i, 1 << 17);
	}
	for (uint64_t i = 0; i < 30000; i++) {
		append(log, i, 1000);
		must(keep(log, (unsigned)(10 + i % 3), i + 1, 100) == 1);
	}
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_uint_eq(kept(&reader, i), 100 + i);
		bus__log_cursor_close(&holders[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(kept(&reader, 10 + (29997 + i) % 3), 29998 + i);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

/* Readers hold the memory whose values were carried. So the next segment takes memory with values, the last two of one topic
 * among them. */
START_TEST(newest_value_stays_when_memory_with_values_is_used)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0), holders[2];
	uint64_t number = log->number, newest[64] = {0};
	unsigned topic, held = 0;

	for (unsigned i = 0; i < 4000; i++) {
		topic = i / 4 % 64;
		newest[topic] = i + 1;
		must(keep(log, topic, i + 1, 100) == 1);
		if (i % 4 == 3)
			append(log, i, 60000);
		for (unsigned k = 0; k < 64; k++)
			ck_assert_uint_eq(kept(&reader, k), newest[k]);
		bus__log_let_go(&reader);
		if (log->number == number)
			continue;
		number = log->number;
		for (; held > 0; held--)
			bus__log_cursor_close(&holders[held - 1]);
		for (; held < 2 && number % 6 == 0; held++)
			holders[held] = open_cursor(log, LOG_FROM_OLDEST, 0);
		while (held > 0 && holders[1].number == holders[0].number &&
		       bus__log_next(&holders[1]) != NULL)
			;
	}
	for (; held > 0; held--)
		bus__log_cursor_close(&holders[held - 1]);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

struct claim {
	struct log_segment *segment;
	uint64_t life; /* before the claim */
};

static void *
give_back_later(void *arg)
{
	struct claim *claim = arg;

	for (int i = 0; i < 20; i++)
		bus_test_nap();
	claim->segment->life = claim->life;
	return NULL;
}

/* The state in which a writer stops that is about to move the values of a segment. */
START_TEST(value_whose_memory_is_claimed_is_not_the_one_before_it)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);
	struct log_segment *segment;
	uint64_t number, life;
	pthread_t thread;
	uint8_t *bytes;

	must(keep(log, 1, 11, 64) == 1);
	for (number = log->number; log->number == number;)
		append(log, 0, 60000);
	must(keep(log, 1, 12, 64) == 1);
	for (number = log->number; log->number == number;)
		append(log, 0, 60000);
	segment = bus__log_find(log, number, &bytes);
	ck_assert_ptr_nonnull(segment);
	life = segment->life;
	segment->life = life_word(log->number + 1, LIFE_CLAIM + log->member);
	ck_assert_ptr_null(bus__log_kept(&reader, topic_of(log, 1), tail_of(log)));
	ck_assert(reader.moving);
	/* The writer gives its claim back: to a reader that looks again meanwhile, the value was never away. */
	pthread_create(&thread, NULL, give_back_later, &(struct claim){segment, life});
	ck_assert_ptr_nonnull(bus__log_kept_now(&reader, topic_of(log, 1)));
	pthread_join(thread, NULL);
	ck_assert_uint_eq(kept(&reader, 1), 12);
	ck_assert(!reader.moving);
	/* A claim that stays is waited for, but not for ever. */
	segment->life = life_word(log->number + 1, LIFE_CLAIM + log->member);
	ck_assert_ptr_null(bus__log_kept_now(&reader, topic_of(log, 1)));
	segment->life = life;
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

/* As writers would leave it that all died before they had published a copy. */
static void
undo_copies(struct log *log, unsigned topics)
{
	for (uint32_t i = 0; i < log->segment_count; i++) {
		struct log_segment *segment = &log->shared->segments[i];
		uint64_t end;

		if (life_has_ended(segment->life, &end))
			segment->retained = life_number(segment->life);
	}
	for (unsigned i = 0; i < topics; i++) {
		uint64_t tag, tail = bus__log_tail(log);
		struct log_place *place =
		    bus__log_choose_place(log, topic_of(log, i), tail, tail, &tag);
		uint8_t *bytes;

		if (place->kept[1] != 0 &&
		    bus__log_find(log, place->kept[1] / log->segment_bytes, &bytes) != NULL)
			place->kept[0] = place->kept[1];
	}
}

START_TEST(values_move_within_their_memory_when_no_other_is_free)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);

	for (unsigned i = 0; i < 20; i++) {
		must(keep(log, i, 100 + i, 1000 + i) == 1);
		append(log, i, 1 << 16);
	}
	for (unsigned i = 0; i < 200; i++) {
		undo_copies(log, 20);
		append(log, i, 1 << 17);
		bus__log_cursor_close(&reader); /* it would hold what it read last */
		reader = open_cursor(log, LOG_FROM_NOW, 0);
		for (unsigned k = 0; k < 20; k++)
			ck_assert_uint_eq(kept(&reader, k), 100 + k);
	}
	bus__log_cursor_close(&reader);
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

/* --- the index of values ------------------------------------------------------------------------------------------ */

START_TEST(values_that_come_and_go_have_no_end)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);

	for (unsigned i = 0; i < 60000; i++) {
		must(keep(log, i, i + 1, 16) == 1);
		if (i >= 500)
			must(keep(log, i - 500, 0, 0) == 1);
		if (i % 1000 == 999)
			for (unsigned k = i - 499; k <= i; k++)
				ck_assert_uint_eq(kept(&reader, k), k + 1);
	}
	ck_assert_uint_eq(kept(&reader, 59499), 0);
	ck_assert_uint_eq(kept(&reader, 59999), 60000);
	bus__log_recount_kept(log);
	ck_assert_uint_eq(bus__log_kept_count(log), 500);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

/* The bound of small values; each one that ends makes room. */
START_TEST(more_values_than_there_are_places_for_are_refused)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);
	char name[20];
	unsigned count = 0;

	while (keep(log, count, count + 1, 8) == 1)
		count++;
	ck_assert_uint_eq(count, bus__log_kept_count_most(log));
	for (unsigned i = 0; i < count; i++)
		must(kept(&reader, i) == i + 1);
	/* The bus's own are not among them. */
	for (unsigned i = 0; i < 2 * LOG_MEMBERS; i++) {
		snprintf(name, sizeof name, "$bus/%u", i);
		ck_bus(
		    bus__log_append(log,
			&(struct log_item){.topic = log_test_topic(log, name), .flags = LOG_RETAIN},
			&(struct bus_slice){"12345678", 8}, 1, &(uint64_t){0}),
		    1);
	}
	for (unsigned i = 0; i < count; i++) {
		must(keep(log, i, 0, 0) == 1);
		must(keep(log, count + i, 1, 8) == 1);
	}
	must(keep(log, 2 * count, 1, 8) == BUS_E_LIMIT);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

/* A walk finds each topic with a value once. */
START_TEST(walk_finds_all_values)
{
	enum { MANY = 3000 };
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0);
	static bool found[MANY];
	struct log_walk walk = {.waits = true};
	unsigned left = UINT_MAX, number;
	struct log_topic topic;
	uint64_t count = 0;
	char name[20];

	for (unsigned i = 0; i < MANY; i++) {
		must(keep(log, i, i + 1, 32) == 1);
		append(log, i, 3000);
	}
	for (; bus__log_kept_next(&reader, &walk, &left, &topic) != NULL; count++) {
		snprintf(name, sizeof name, "%.*s", (int)topic.len, topic.name);
		must(sscanf(name, "value/%u", &number) == 1 && number < MANY);
		must(!found[number]);
		found[number] = true;
	}
	ck_assert_uint_eq(count, MANY);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

/* A deleted value is not found again when the memory of its end is used again before its own, which a reader holds. */
START_TEST(value_that_was_deleted_does_not_come_back_from_memory_that_is_held)
{
	struct log *log = open_log();
	struct log_cursor reader = open_cursor(log, LOG_FROM_NOW, 0), holder;
	uint64_t number;

	must(keep(log, 1, 11, 64) == 1);
	holder = open_cursor(log, LOG_FROM_OLDEST, 0);
	ck_assert_ptr_nonnull(bus__log_next(&holder));
	for (number = log->number; log->number == number;)
		append(log, 0, 60000);
	must(keep(log, 1, 0, 0) == 1);
	for (number = log->number + 2 * log->segment_count; log->number < number;)
		append(log, 0, 60000);
	ck_assert_uint_eq(kept(&reader, 1), 0);
	bus__log_cursor_close(&holder);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

/* --- members ---------------------------------------------------------------------------------------------------- */

static bool
is_there(const char *suffix)
{
	char path[512];

	snprintf(path, sizeof path, "%s/test%s", test_dir(), suffix);
	return access(path, F_OK) == 0;
}

START_TEST(last_member_out_leaves_nothing)
{
	struct log *log = open_log(), *again = open_log();

	ck_assert_ptr_eq(log, again);
	bus__log_close(again);
	ck_assert(is_there(".bus") && is_there(".lock"));
	bus__log_close(log);
	ck_assert(!is_there(".bus") && !is_there(".lock") && !is_there(".bus-new"));
	/* A name begins anew. */
	log = open_log();
	ck_assert_uint_eq(append(log, 1, 8), 1);
	bus__log_close(log);
}
END_TEST

/* Runs in a child: joins, says so, and waits to be killed, or (leave) for the word to go. */
static pid_t
spawn_member(int pipes[2], bool leave)
{
	pid_t child;

	test_dir();
	ck_assert_int_eq(pipe(pipes), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct log *log = open_log();
		char byte = 'x';

		append(log, 7, 64);
		if (write(pipes[1], &byte, 1) != 1)
			_exit(1);
		while (!leave)
			pause();
		for (int i = 0; i < 50; i++)
			bus_test_nap();
		bus__log_close(log);
		_exit(0);
	}
	return child;
}

static void
await_member(int pipes[2])
{
	char byte;

	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
}

static void
put_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	fclose(file);
	ck_assert_int_eq(chmod(path, 0600), 0);
}

START_TEST(files_of_others_stay)
{
	static const char *const names[] = {"uv.lock", "uv.bus", "uv.bus-new", "a b.lock", "x.lock",
	    "test.log", "test.log.new", "x.lock-0123456789abcdef", "x.bus-new-0123456789abcdef"};
	const int count = sizeof names / sizeof names[0];
	char path[200];
	struct log *log;

	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%s", test_dir(), names[i]);
		put_file(path, i % 2 == 0 ? "" : "something");
	}
	log = open_log();
	bus__log_close(log);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%s", test_dir(), names[i]);
		ck_assert_msg(access(path, F_OK) == 0, "%s is gone", names[i]);
		unlink(path);
	}
}
END_TEST

/* As a cleaner of /dev/shm does it: then the name is another log's. */
START_TEST(member_whose_files_were_removed_removes_no_others)
{
	char log_path[200], lock_path[200];
	struct log *first = open_log();
	pid_t child;
	int status;

	snprintf(log_path, sizeof log_path, "%s/test.bus", test_dir());
	snprintf(lock_path, sizeof lock_path, "%s/test.lock", test_dir());
	ck_assert_int_eq(unlink(log_path) | unlink(lock_path), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct log *log;
		bool stays =
		    bus__log_open(test_dir(), "test", SMALL, &log) == 0 && raise(SIGSTOP) == 0;

		_exit(stays && access(log_path, F_OK) == 0 && access(lock_path, F_OK) == 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, NULL, WUNTRACED), child);
	bus__log_close(first);
	kill(child, SIGCONT);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(members_of_other_processes_keep_the_log)
{
	int pipes[2], status;
	pid_t child = spawn_member(pipes, true);
	struct log *log;
	struct log_cursor cursor;

	await_member(pipes);
	log = open_log();
	cursor = open_cursor(log, LOG_FROM_OLDEST, 0);
	expect(&cursor, 7);
	waitpid(child, &status, 0);
	ck_assert_int_eq(status, 0);
	ck_assert(is_there(".bus"));
	append(log, 8, 64);
	expect(&cursor, 8);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
	ck_assert(!is_there(".bus") && !is_there(".lock"));
}
END_TEST

START_TEST(generation_whose_members_have_all_died_makes_room_for_the_next)
{
	int pipes[2];
	pid_t child = spawn_member(pipes, false);
	struct log *log;
	uint64_t epoch;

	await_member(pipes);
	log = open_log();
	epoch = log->epoch;
	bus__log_close(log);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_assert(is_there(".bus"));
	log = open_log();
	ck_assert_uint_ne(log->epoch, epoch);
	ck_assert_uint_eq(append(log, 1, 8), 1);
	bus__log_close(log);
	ck_assert(!is_there(".bus"));
}
END_TEST

START_TEST(slots_of_the_dead_are_used_again)
{
	struct log *log = open_log();
	uint32_t slot = 0;

	for (int i = 0; i < 5; i++) {
		int pipes[2];
		pid_t child = spawn_member(pipes, false);

		await_member(pipes);
		for (slot = 1; slot < LOG_MEMBERS; slot++)
			if (log->shared->members[slot].pid == (uint32_t)child)
				break;
		ck_assert_uint_eq(slot, 1);
		ck_assert(bus__log_is_alive(log, slot));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		ck_assert(!bus__log_is_alive(log, slot));
		close(pipes[0]);
		close(pipes[1]);
	}
	bus__log_close(log);
}
END_TEST

START_TEST(role_has_one_holder_until_it_ends_it)
{
	struct log *log = open_log();
	uint64_t role, other;

	ck_bus(bus__log_role_take(log, "listen tcp://127.0.0.1:1", &role), 1);
	ck_bus(bus__log_role_take(log, "listen tcp://127.0.0.1:1", &other), 0);
	ck_bus(bus__log_role_take(log, "listen tcp://127.0.0.1:2", &other), 1);
	bus__log_role_end(log, role);
	ck_bus(bus__log_role_take(log, "listen tcp://127.0.0.1:1", &role), 1);
	bus__log_role_end(log, role);
	bus__log_role_end(log, other);
	bus__log_close(log);
}
END_TEST

START_TEST(role_of_a_dead_holder_moves_though_a_child_of_his_lives)
{
	int pipes[2], ends[2];
	uint64_t role;
	struct log *log = open_log();
	pid_t child;

	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(pipe(ends), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct log *its = open_log();
		char byte = 'x';

		ck_bus(bus__log_role_take(its, "recorder", &role), 1);
		/* The grandchild keeps every descriptor of the holder until the test ends. It says itself that it is there:
		 * until its fork() has returned it holds the holder's locks as well. */
		if (fork() == 0) {
			close(ends[1]);
			if (write(pipes[1], &byte, 1) != 1)
				_exit(1);
			_exit(read(ends[0], &byte, 1) < 0);
		}
		for (;;)
			pause();
	}
	await_member(pipes);
	ck_bus(bus__log_role_take(log, "recorder", &role), 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_bus(bus__log_role_take(log, "recorder", &role), 1);
	bus__log_role_end(log, role);
	bus__log_close(log);
	close(ends[1]);
}
END_TEST

static void
damage(const char *suffix, off_t at, uint8_t byte)
{
	char path[512];
	int fd;

	snprintf(path, sizeof path, "%s/test%s", test_dir(), suffix);
	fd = open(path, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

START_TEST(file_that_is_not_one_of_ours_is_refused)
{
	int pipes[2];
	pid_t child = spawn_member(pipes, false);
	struct log *log;

	await_member(pipes);
	damage(".bus", offsetof(struct log_head, version), 99);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), BUS_E_VERSION);
	damage(".bus", offsetof(struct log_head, version), LOG_VERSION);
	damage(".bus", offsetof(struct log_head, segment_count), 200);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), BUS_E_DAMAGED);
	damage(".bus", 0, 'x');
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), LOG_FOREIGN_LOG);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), LOG_FOREIGN_LOG);
	damage(".bus", 0, 'l');
	log = open_log();
	bus__log_close(log);
}
END_TEST

START_TEST(name_and_place_are_checked)
{
	static const char *const names[] = {"", "A", "a/b", "a b", "..//",
	    "12345678901234567890123456789012345678901234567890123456789012345"};
	char path[512];
	struct log *log;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		ck_bus(bus__log_open(test_dir(), names[i], 0, &log), BUS_E_INVAL);
	ck_bus(bus__log_open(test_dir(), "test", LOG_BYTES_LEAST - 1, &log), BUS_E_INVAL);
	ck_bus(bus__log_open(test_dir(), "test", LOG_BYTES_MOST + 1, &log), BUS_E_INVAL);
	chmod(test_dir(), 0777);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), BUS_E_DENIED);
	chmod(test_dir(), 0700);
	/* No link to somewhere else, no file that others may read. */
	snprintf(path, sizeof path, "%s/test.lock", test_dir());
	ck_assert_int_eq(symlink("/dev/null", path), 0);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), LOG_FOREIGN_LOCK);
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	chmod(path, 0644);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), LOG_FOREIGN_LOCK);
	unlink(path);
	log = open_log();
	bus__log_close(log);
}
END_TEST

#ifndef __SANITIZE_THREAD__ /* which finds the races that damage makes */
/* --- damage ------------------------------------------------------------------------------------------------------ */

struct worker {
	struct log *log;
	_Atomic bool stop;
};

static uint64_t
draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A member that writes where it should not: much of it into the words by which the others find their way. */
static void
scribble(uint64_t seed)
{
	struct log *log = open_log();
	_Atomic uint64_t *words = (_Atomic uint64_t *)log->shared;
	uint64_t control = sizeof *log->shared / 8, all = log->map_bytes / 8;
	int64_t end = bus_test_now_ms() + 400;

	while (bus_test_now_ms() < end)
		for (int i = 0; i < 50; i++) {
			uint64_t word = draw(&seed),
				 at = draw(&seed) % (i % 4 == 0 ? all : control);

			if (at < sizeof log->shared->head / 8)
				continue; /* who joins would notice */

			/* Small numbers and what is near to what stands there are the more dangerous ones. */
			if (i % 3 == 0)
				word %= 100000;
			else if (i % 3 == 1)
				word = words[at] + word % 64 - 32;
			words[at] = word;
		}
	_exit(0);
}

static void *
read_whatever(void *arg)
{
	struct log *log = ((struct worker *)arg)->log;

	while (!((struct worker *)arg)->stop) {
		struct log_cursor cursor;
		const struct log_record *record;
		volatile uint8_t sum = 0;

		if (bus__log_cursor_open(log, (enum log_from)(sum % 3), 5, &cursor) < 0) {
			bus_test_nap();
			continue;
		}
		for (int i = 0; i < 10000 && (record = bus__log_next(&cursor)) != NULL; i++) {
			struct log_view view;
			const char *name;
			uint32_t len;

			if (!bus__log_read(cursor.word, record, &view))
				continue;
			for (uint32_t k = 0; k < view.len; k++)
				sum = (uint8_t)(sum + view.data[k]);
			for (uint32_t k = 0; k < view.headers_len; k++)
				sum = (uint8_t)(sum + view.headers[k]);
			name = bus__log_name(&cursor, record, &len);
			for (uint32_t k = 0; name != NULL && k < len; k++)
				sum = (uint8_t)(sum + (uint8_t)name[k]);
		}
		bus__log_cursor_close(&cursor);
	}
	return NULL;
}

static void *
append_whatever(void *arg)
{
	struct log *log = ((struct worker *)arg)->log;
	char name[20];

	for (unsigned i = 0; !((struct worker *)arg)->stop; i++) {
		struct log_item item = {.flags = i % 4 == 0 ? LOG_RETAIN : 0};
		uint64_t sequence;

		snprintf(name, sizeof name, "%u", i % 1000);
		item.topic = log_test_topic(log, name);
		bus__log_append(
		    log, &item, &(struct bus_slice){"0123456789", i % 11}, 1, &sequence);
	}
	return NULL;
}

/* Whoever maps a log can destroy it, and nobody's program with it: others get errors, or nonsense, and go on. */
START_TEST(tail_that_names_no_segment_is_damage)
{
	for (uint64_t position = 0; position < 3 * 8; position += 8) {
		struct log *log = open_log();
		uint64_t sequence;

		log->shared->tail = tail_word(position, 0);
		ck_bus(bus__log_append(log, &(struct log_item){.topic = topic_t(log)},
			   &(struct bus_slice){"x", 1}, 1, &sequence),
		    BUS_E_DAMAGED);
		bus__log_close(log);
	}
}
END_TEST

START_TEST(damage_crashes_nobody_and_nobody_hangs)
{
	struct worker worker = {.log = open_log()};
	pid_t child = bus_test_fork();
	pthread_t reader, writer;
	int status;

	if (child == 0)
		scribble((uint64_t)_i + 1);
	pthread_create(&reader, NULL, read_whatever, &worker);
	pthread_create(&writer, NULL, append_whatever, &worker);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	worker.stop = true;
	pthread_join(reader, NULL);
	pthread_join(writer, NULL);
	bus__log_close(worker.log);
}
END_TEST
#endif

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
#ifndef __SANITIZE_THREAD__
	TCase *damaged = bus_test_case("damage");

	tcase_add_test(damaged, tail_that_names_no_segment_is_damage);
	tcase_add_loop_test(damaged, damage_crashes_nobody_and_nobody_hangs, 0, 4);
	suite_add_tcase(suite, damaged);
#endif
	BUS_TEST_CASE(suite, "values", value_stays_when_its_memory_is_used_again,
	    value_as_of_a_position_is_the_one_before_it, values_have_a_part_of_the_room_and_no_more,
	    what_replaces_a_value_or_ends_it_needs_no_room,
	    largest_message_goes_in_and_costs_two_or_three_segments,
	    note_that_comes_late_undoes_no_newer_one,
	    values_stay_while_readers_hold_the_oldest_memory,
	    newest_value_stays_when_memory_with_values_is_used,
	    value_whose_memory_is_claimed_is_not_the_one_before_it,
	    values_move_within_their_memory_when_no_other_is_free);
	BUS_TEST_CASE(suite, "topics", name_stands_once_in_each_segment,
	    names_in_a_batch_stand_in_its_first_record, there_is_no_end_of_names,
	    longest_name_goes_with_the_largest_payload, record_that_points_to_no_name_has_none);
	BUS_TEST_CASE(suite, "index", values_that_come_and_go_have_no_end,
	    more_values_than_there_are_places_for_are_refused, walk_finds_all_values,
	    value_that_was_deleted_does_not_come_back_from_memory_that_is_held);
	BUS_TEST_CASE(suite, "members", last_member_out_leaves_nothing, files_of_others_stay,
	    member_whose_files_were_removed_removes_no_others,
	    members_of_other_processes_keep_the_log,
	    generation_whose_members_have_all_died_makes_room_for_the_next,
	    slots_of_the_dead_are_used_again, role_has_one_holder_until_it_ends_it,
	    role_of_a_dead_holder_moves_though_a_child_of_his_lives,
	    file_that_is_not_one_of_ours_is_refused, name_and_place_are_checked);
	return suite;
}
