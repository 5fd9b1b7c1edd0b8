/* Readers hold a quarter of a log's places at most, and copy where they get none. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log/log.h"
#include "log_test.h"
#include "stopped_writer.h"

static int
try_append(struct log *log, struct log_topic *topic, uint16_t flags, uint64_t number, uint32_t len)
{
	static uint8_t bytes[1 << 18];
	const struct log_item item = {.topic = topic, .flags = flags};
	uint64_t sequence;

	must(len >= sizeof number && len <= sizeof bytes);
	memset(bytes, (uint8_t)number, len);
	memcpy(bytes, &number, sizeof number);
	return bus__log_append(log, &item, &(struct bus_slice){bytes, len}, 1, &sequence);
}

/* Of sizes that need no copy of their own, and that do. */
static uint32_t
length_of(uint64_t number)
{
	return number % 7 == 6 ? 150000 : 64 + (uint32_t)(number % 50) * 100;
}

static unsigned
places_pinned(const struct log *log)
{
	uint64_t places = 0;

	for (int i = 0; i < LOG_PINS; i++)
		places |= atomic_load(&log->shared->pins[i].places);
	return (unsigned)__builtin_popcountll(places);
}

/* Readers of this process that stand still, until it gets no more pins. What they read has the numbers from `number` on. */
enum { HOLDERS = 2 };

static uint64_t
hold_share(struct log *log, struct log_cursor holders[HOLDERS], uint64_t number)
{
	for (int i = 0; i < HOLDERS; i++) {
		uint64_t segment;

		holders[i] = open_cursor(log, LOG_FROM_NOW, 0);
		append(log, number, 64);
		expect(&holders[i], number++);
		must(!bus__log_copies(&holders[i]));
		for (segment = log->number; log->number == segment; number++)
			append(log, number, 60000);
	}
	return number;
}

static void
let_share_go(struct log_cursor holders[HOLDERS])
{
	for (int i = 0; i < HOLDERS; i++)
		bus__log_cursor_close(&holders[i]);
}

START_TEST(readers_of_a_process_that_stand_still_hold_their_share_and_no_writer)
{
	enum { MOST = 40 };
	struct log *log = open_log();
	struct log_cursor *cursors = calloc(MOST, sizeof *cursors);
	uint64_t firsts[MOST], number = 0;

	ck_assert_ptr_nonnull(cursors);
	for (int i = 0; i < MOST; i++) {
		cursors[i] = open_cursor(log, LOG_FROM_NOW, 0);
		firsts[i] = number;
		append(log, number++, 64);
		expect(&cursors[i], firsts[i]);
		/* Each is in a segment of its own. */
		for (int k = 0; k < 8; k++)
			append(log, number++, 60000);
	}
	ck_assert_uint_eq(places_pinned(log), 2);
	/* What each has in its hands is whole, whether the log has gone round since or not. */
	for (int i = 0; i < MOST; i++) {
		const struct log_record *record;
		uint64_t lost;

		bus__log_unread(&cursors[i]);
		expect(&cursors[i], firsts[i]);
		record = bus__log_next(&cursors[i]);
		lost = bus__log_lost(&cursors[i]);
		must(number_of(&cursors[i], record) == firsts[i] + 1 + lost);
		bus__log_cursor_close(&cursors[i]);
	}
	ck_assert_uint_eq(places_pinned(log), 0);
	free(cursors);
	bus__log_close(log);
}
END_TEST

START_TEST(reader_that_gets_no_pin_copies_what_is_there)
{
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	uint64_t first = hold_share(log, holders, 0), read;

	reader = open_cursor(log, LOG_FROM_NOW, 0);
	for (read = first; read < first + 500; read += 10) {
		for (uint64_t i = read; i < read + 10; i++)
			append(log, i, length_of(i));
		for (uint64_t i = read; i < read + 10; i++) {
			expect(&reader, i);
			must(bus__log_copies(&reader));
		}
		ck_assert_ptr_null(bus__log_next(&reader));
		if (read % 20 == 0)
			bus__log_let_go(&reader);
	}
	ck_assert_uint_eq(bus__log_lost(&reader), 0);
	ck_assert_uint_eq(places_pinned(log), HOLDERS);
	bus__log_cursor_close(&reader);
	let_share_go(holders);
	bus__log_close(log);
}
END_TEST

START_TEST(reader_that_copies_takes_back_what_it_was_given)
{
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	uint64_t first = hold_share(log, holders, 0);

	reader = open_cursor(log, LOG_FROM_NOW, 0);
	for (uint64_t i = 0; i < 30; i++)
		append(log, first + i, length_of(i));
	for (uint64_t i = 0; i < 30; i++) {
		expect(&reader, first + i);
		bus__log_unread(&reader);
		if (i % 3 == 0)
			bus__log_let_go(&reader);
		expect(&reader, first + i);
	}
	bus__log_cursor_close(&reader);
	let_share_go(holders);
	bus__log_close(log);
}
END_TEST

START_TEST(reader_that_copies_and_is_lapped_is_told_how_many_went_by)
{
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	uint64_t first = hold_share(log, holders, 0), next = first, lost;
	const struct log_record *record;

	reader = open_cursor(log, LOG_FROM_NOW, 0);
	for (int round = 0; round < 4; round++) {
		uint64_t was = next, number;

		for (int i = 0; i < 10; i++)
			append(log, next++, 5000);
		for (int i = 0; i < 3; i++)
			expect(&reader, was + (uint64_t)i);
		/* It has the other seven already, in the copy. */
		for (int i = 0; i < 200; i++)
			append(log, next++, 50000);
		for (int i = 3; i < 10; i++)
			expect(&reader, was + (uint64_t)i);
		record = bus__log_next(&reader);
		lost = bus__log_lost(&reader);
		number = number_of(&reader, record);
		must(lost > 0 && number == was + 10 + lost);
		while (++number < next)
			expect(&reader, number);
		must(bus__log_copies(&reader) && bus__log_lost(&reader) == 0);
	}
	bus__log_cursor_close(&reader);
	let_share_go(holders);
	bus__log_close(log);
}
END_TEST

START_TEST(reader_that_copies_holds_again_when_it_may)
{
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	uint64_t number = hold_share(log, holders, 0);

	reader = open_cursor(log, LOG_FROM_NOW, 0);
	append(log, number, 64);
	expect(&reader, number++);
	must(bus__log_copies(&reader));
	let_share_go(holders);
	/* It asks a few times a segment. */
	for (int i = 0; i < 40; i++) {
		append(log, number, 64);
		expect(&reader, number++);
	}
	must(!bus__log_copies(&reader) && reader.copy == NULL);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

START_TEST(value_is_read_without_a_pin)
{
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	struct log_topic topics[3];
	uint64_t number;

	bus__log_topic(log, "a", 1, &topics[0]);
	bus__log_topic(log, "b", 1, &topics[1]);
	bus__log_topic(log, "c", 1, &topics[2]);
	number = hold_share(log, holders, 0);
	must(try_append(log, &topics[0], LOG_RETAIN, 100, 64) == 1);
	must(try_append(log, &topics[1], LOG_RETAIN, 101, 100000) == 1);
	must(try_append(log, &topics[2], LOG_RETAIN, 102, 8) == 1);
	reader = open_cursor(log, LOG_FROM_NOW, 0);
	for (int round = 0; round < 60; round++) {
		for (unsigned i = 0; i < 3; i++)
			must(number_of(&reader, bus__log_kept_now(&reader, &topics[i])) == 100 + i);
		must(reader.pin == 0);
		bus__log_let_go(&reader);
		append(log, number++, 60000);
	}
	bus__log_cursor_close(&reader);
	let_share_go(holders);
	bus__log_close(log);
}
END_TEST

/* A change of a value compares what is there, in memory that this process may not pin. */
START_TEST(value_is_changed_where_its_memory_cannot_be_pinned)
{
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	struct log_topic a;
	struct log_item item = {.topic = &a, .flags = LOG_RETAIN};
	struct bus__version version;
	uint64_t changes = 0, sequence;

	bus__log_topic(log, "a", 1, &a);
	hold_share(log, holders, 0);
	reader = open_cursor(log, LOG_FROM_NOW, 0);
	for (uint64_t i = 1; i < 60; i++) {
		const struct bus_slice payload = {&i, sizeof i};
		const struct log_record *record;

		must(bus__log_append_value(log, &item, NULL, &payload, &sequence, NULL) == 1);
		record = bus__log_kept_now(&reader, item.topic);
		must(number_of(&reader, record) == i);
		must(bus__log_value_of(log, reader.word, record, &version) == LOG_A_VALUE);
		must(version.changes == ++changes);
		append(log, i, 60000);
	}
	bus__log_cursor_close(&reader);
	let_share_go(holders);
	bus__log_close(log);
}
END_TEST

/* --- names ------------------------------------------------------------------------------------------------------ */

enum { NAMES = 4 };

/* Of lengths that end at each byte of a word; the last is as long as one may be. */
static void
make_names(const struct log *log, struct log_topic topics[NAMES])
{
	static char names[NAMES][BUS_LIMIT_TOPIC_BYTES];
	static const size_t lengths[NAMES] = {1, 35, 128, BUS_LIMIT_TOPIC_BYTES};

	for (int i = 0; i < NAMES; i++) {
		memset(names[i], 'a' + i, lengths[i]);
		bus__log_topic(log, names[i], lengths[i], &topics[i]);
	}
}

/* Takes the next record, whose number says which topic it has. */
static void
expect_named(struct log_cursor *reader, uint64_t number, const struct log_topic topics[NAMES])
{
	const struct log_record *record = bus__log_next(reader);
	const struct log_topic *topic = &topics[number % NAMES];
	uint32_t len;
	const char *name;

	must(number_of(reader, record) == number);
	must(bus__log_copies(reader));
	name = bus__log_name(reader, record, &len);
	must(name != NULL && len == topic->len && memcmp(name, topic->name, len) == 0);
}

/* The first record of each topic lies before the copies of the later ones; it has all that a record can have. */
START_TEST(name_of_what_was_copied_is_found_before_the_copy)
{
	static const uint16_t flags[NAMES] = {
	    0, LOG_RETAIN, LOG_EXPIRES | LOG_REPLY, LOG_RETAIN | LOG_EXPIRES | LOG_REPLY};
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	struct log_topic topics[NAMES];

	make_names(log, topics);
	hold_share(log, holders, 0);
	reader = open_cursor(log, LOG_FROM_NOW, 0);
	for (uint64_t round = 0; round < 40; round++) {
		for (uint64_t i = 0; i < NAMES; i++)
			must(try_append(log, &topics[i], flags[i], i, 8 + (uint32_t)round) == 1);
		for (uint64_t i = 0; i < 10; i++)
			must(try_append(log, &topics[i % NAMES], 0, i, 20000) == 1);
		for (uint64_t i = 0; i < NAMES; i++)
			expect_named(&reader, i, topics);
		for (uint64_t i = 0; i < 10; i++)
			expect_named(&reader, i, topics);
	}
	ck_assert_uint_eq(bus__log_lost(&reader), 0);
	bus__log_cursor_close(&reader);
	let_share_go(holders);
	bus__log_close(log);
}
END_TEST

START_TEST(name_that_has_gone_since_the_copy_is_none)
{
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	struct log_topic topics[NAMES];
	const struct log_record *record;
	uint64_t segment;
	uint32_t len;

	make_names(log, topics);
	hold_share(log, holders, 0);
	must(try_append(log, &topics[2], 0, 0, 60000) == 1);
	reader = open_cursor(log, LOG_FROM_NOW, 0);
	for (uint64_t i = 1; i < 4; i++)
		must(try_append(log, &topics[2], 0, i, 100) == 1);
	segment = log->number;
	record = bus__log_next(&reader);
	must(number_of(&reader, record) == 1 && reader.number == segment);
	must(bus__log_name(&reader, record, &len) != NULL);
	for (uint64_t i = 4; log->number < segment + 2 * log->segment_count; i++)
		append(log, i, 60000);
	record = bus__log_next(&reader);
	must(number_of(&reader, record) == 2 && reader.number == segment);
	ck_assert_ptr_null(bus__log_name(&reader, record, &len));
	bus__log_cursor_close(&reader);
	let_share_go(holders);
	bus__log_close(log);
}
END_TEST

/* What is carried to other memory is read in a copy as well, where the writer's own process may not pin it. */
START_TEST(values_move_out_of_memory_that_cannot_be_pinned)
{
	enum { VALUES = 200 };
	struct log *log = open_log();
	struct log_cursor holders[HOLDERS], reader;
	uint64_t number;

	number = hold_share(log, holders, 0);
	for (uint64_t i = 0; i < VALUES; i++) {
		char name[16];

		snprintf(name, sizeof name, "v/%u", (unsigned)i);
		must(try_append(log, log_test_topic(log, name), LOG_RETAIN, i,
			 i % 50 == 49 ? 70000 : 8 + (uint32_t)i) == 1);
	}
	reader = open_cursor(log, LOG_FROM_NOW, 0);
	for (uint64_t end = log->number + 3 * log->segment_count; log->number < end;)
		append(log, number++, 60000);
	for (uint64_t i = 0; i < VALUES; i++) {
		char name[16];

		snprintf(name, sizeof name, "v/%u", (unsigned)i);
		must(
		    number_of(&reader, bus__log_kept_now(&reader, log_test_topic(log, name))) == i);
	}
	ck_assert_uint_eq(bus__log_kept_count(log), VALUES);
	bus__log_cursor_close(&reader);
	let_share_go(holders);
	bus__log_close(log);
}
END_TEST

/* --- between processes ------------------------------------------------------------------------------------------ */

/* A process with readers that stand still, until it is killed. */
static pid_t
spawn_holder(struct log *log, uint64_t *number, bool *ret_held)
{
	unsigned before = places_pinned(log);
	uint64_t segment;
	int ready[2];
	char byte;
	pid_t child;

	must(pipe(ready) == 0);
	child = bus_test_fork();
	if (child == 0) {
		struct log *mine;
		struct log_cursor cursor;

		if (bus__log_open(test_dir(), "test", LOG_BYTES_LEAST, &mine) < 0 ||
		    bus__log_cursor_open(mine, LOG_FROM_NOW, 0, &cursor) < 0 ||
		    write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	must(read(ready[0], &byte, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	*ret_held = places_pinned(log) > before;
	for (segment = log->number; log->number == segment; ++*number)
		append(log, *number, 60000);
	return child;
}

static void
end(pid_t child)
{
	kill(child, SIGKILL);
	must(waitpid(child, NULL, 0) == child);
}

START_TEST(processes_hold_a_quarter_together_and_the_next_one_gets_what_one_gives_back)
{
	enum { MANY = 8 };
	struct log *log = open_log();
	unsigned most = bus__log_most_pinned(log), held = 0;
	pid_t children[MANY], last;
	uint64_t number = 0;
	bool is_held;

	append(log, number++, 64);
	for (unsigned i = 0; i < MANY; i++) {
		children[i] = spawn_holder(log, &number, &is_held);
		held += is_held;
		ck_assert_msg(is_held == (i < most), "process %u of %u, %u segments", i, most,
		    log->segment_count);
	}
	ck_assert_uint_eq(held, most);
	for (int i = 0; i < 200; i++)
		append(log, number++, 60000);
	ck_assert_uint_eq(places_pinned(log), most);
	/* A dead one's pins are nobody's, and gone when another has its slot. */
	end(children[0]);
	last = spawn_holder(log, &number, &is_held);
	ck_assert_uint_eq(places_pinned(log), most);
	end(last);
	for (unsigned i = 1; i < MANY; i++)
		end(children[i]);
	bus__log_close(log);
}
END_TEST

START_TEST(place_that_a_dead_process_asked_for_is_asked_for_again)
{
	struct log *log = open_log();
	struct log_cursor reader;
	struct log_segment *segment;
	uint8_t *bytes;

	append(log, 1, 64);
	segment = bus__log_find(log, log->number, &bytes);
	ck_assert_ptr_nonnull(segment);
	segment->held = HELD_ASKED + 700; /* nobody is in that slot */
	reader = open_cursor(log, LOG_FROM_OLDEST, 0);
	expect(&reader, 1);
	must(!bus__log_copies(&reader));
	ck_assert_uint_eq(segment->held, HELD_YES);
	bus__log_cursor_close(&reader);
	bus__log_close(log);
}
END_TEST

static pid_t
spawn_stopped_writer(struct log *log, uint64_t *number)
{
	pid_t child = bus_test_stop_writer(test_dir(), "test");

	append(log, ++*number, 64); /* takes the tail from it */
	return child;
}

/* The last test_dir is the tail's, the one before that the next: what readers hold comes off what writers may. _i: which of
 * the two stops first. */
START_TEST(publish_is_not_refused_beside_stopped_writers)
{
	enum { MOST = LOG_MOST_SEGMENTS };
	struct log *log = open_log();
	struct log_cursor *cursors = calloc(MOST, sizeof *cursors);
	unsigned writers = log->segment_count - 2 - (_i == 0 ? HOLDERS : 0);
	pid_t children[MOST];
	uint64_t number = 0;

	ck_assert_ptr_nonnull(cursors);
	append(log, number, 64);
	for (unsigned i = 0; _i == 1 && i < writers; i++)
		children[i] = spawn_stopped_writer(log, &number);
	for (unsigned i = 0; i < MOST; i++) {
		cursors[i] = open_cursor(log, LOG_FROM_NOW, 0);
		for (int k = 0; k < 6; k++)
			must(try_append(log, log_test_topic(log, "t"), 0, ++number, 60000) == 1);
		must(bus__log_next(&cursors[i]) != NULL);
	}
	for (unsigned i = 0; _i == 0 && i < writers; i++)
		children[i] = spawn_stopped_writer(log, &number);
	for (int i = 0; i < 500; i++)
		must(try_append(log, log_test_topic(log, "t"), 0, ++number, 60000) == 1);
	for (unsigned i = 0; i < MOST; i++)
		bus__log_cursor_close(&cursors[i]);
	for (unsigned i = 0; i < writers; i++)
		end(children[i]);
	free(cursors);
	bus__log_close(log);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("pins");
	TCase *stopped = bus_test_case("stopped");

	BUS_TEST_CASE(suite, "copies", reader_that_gets_no_pin_copies_what_is_there,
	    reader_that_copies_takes_back_what_it_was_given,
	    reader_that_copies_and_is_lapped_is_told_how_many_went_by,
	    reader_that_copies_holds_again_when_it_may, value_is_read_without_a_pin,
	    value_is_changed_where_its_memory_cannot_be_pinned,
	    values_move_out_of_memory_that_cannot_be_pinned);
	BUS_TEST_CASE(suite, "names", name_of_what_was_copied_is_found_before_the_copy,
	    name_that_has_gone_since_the_copy_is_none);
	BUS_TEST_CASE(suite, "pins",
	    readers_of_a_process_that_stand_still_hold_their_share_and_no_writer,
	    processes_hold_a_quarter_together_and_the_next_one_gets_what_one_gives_back,
	    place_that_a_dead_process_asked_for_is_asked_for_again);
	tcase_add_loop_test(stopped, publish_is_not_refused_beside_stopped_writers, 0, 2);
	suite_add_tcase(suite, stopped);
	return suite;
}
