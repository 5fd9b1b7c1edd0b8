/* The values that a log keeps: each stays though its memory is used again, and their index is bounded. */
#define _GNU_SOURCE
#include "log_test.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "log/log.h"

/* --- values ------------------------------------------------------------------------------------------------------ */

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

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("log values");

	BUS_TEST_CASE(suite, "values", value_stays_when_its_memory_is_used_again,
	    value_as_of_a_position_is_the_one_before_it, values_have_a_part_of_the_room_and_no_more,
	    what_replaces_a_value_or_ends_it_needs_no_room,
	    largest_message_goes_in_and_costs_two_or_three_segments,
	    note_that_comes_late_undoes_no_newer_one,
	    values_stay_while_readers_hold_the_oldest_memory,
	    newest_value_stays_when_memory_with_values_is_used,
	    value_whose_memory_is_claimed_is_not_the_one_before_it,
	    values_move_within_their_memory_when_no_other_is_free);
	BUS_TEST_CASE(suite, "index", values_that_come_and_go_have_no_end,
	    more_values_than_there_are_places_for_are_refused, walk_finds_all_values,
	    value_that_was_deleted_does_not_come_back_from_memory_that_is_held);
	return suite;
}
