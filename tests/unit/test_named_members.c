/* Who is on a named bus, the wills of those who die, and what each member counts. */
#define _GNU_SOURCE
#include "named_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "look.h"

/* --- members ---------------------------------------------------------------------------------------------------------------- */

static void
be_there(const char *dir, int number)
{
	const struct bus_msg will = {.size = sizeof will,
	    .topic = "died",
	    .data = "adieu",
	    .len = 5,
	    .flags = BUS_MSG_RETAIN,
	    .headers = "\x80",
	    .headers_len = 1};
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = dir, .log_bytes = 4 << 20, .will = &will};
	struct bus_mailbox *end;
	struct bus *bus;

	(void)number;
	ck_bus(bus_open("test", &cfg, &bus), 0);
	end = subscriber(bus, "end");
	retain_text(bus, "there", "!");
	expect_message(end, "end", "!");
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, patience_ms()), 0);
}

START_TEST(who_is_there_is_told_and_who_leaves_or_dies)
{
	const char *dir = bus_test_dir();
	struct bus *bus;
	struct bus_mailbox *members, *died, *there, *all;
	const struct bus_msg *msg;
	pid_t child = start(be_there, dir, 0);
	char topic[64];

	bus = join(dir);
	there = subscriber(bus, "there");
	expect_message(there, "there", "!");
	all = subscriber(bus, "#");
	members = subscriber(bus, "$bus/members/#");
	died = subscriber(bus, "died");
	/* Both, in whatever order, kept. */
	for (int i = 0; i < 2; i++) {
		ck_bus(bus_recv(members, patience_ms(), &msg), 1);
		ck_assert(msg->flags & BUS_MSG_KEPT);
		ck_assert_int_eq(msg->type, BUS_TYPE_MSGPACK);
	}
	/* One that leaves in order says so, and its will is nothing. */
	publish_text(bus, "end", "!");
	finish(child);
	ck_bus(bus_recv(members, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->len, 0);
	snprintf(topic, sizeof topic, "%s", msg->topic);
	expect_nothing(died);
	/* One that is killed does not; another does it, once. */
	child = start(be_there, dir, 0);
	ck_bus(bus_recv(members, patience_ms(), &msg), 1);
	ck_assert_str_eq(msg->topic, topic); /* the slot is used again */
	ck_assert_uint_gt(msg->len, 0);
	expect_message(there, "there", "!");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	await_message(died, "died", "adieu", 5);
	await_message(members, topic, "", 0);
	expect_nothing(died);
	expect_nothing(members);
	/* What is at the first level $ no wildcard stands for. */
	while (bus_recv(all, 0, &msg) == 1)
		ck_assert_int_ne(msg->topic[0], '$');
	bus_mailbox_close(all);
	bus_mailbox_close(members);
	bus_mailbox_close(died);
	bus_mailbox_close(there);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(who_gets_the_slot_of_a_dead_one_buries_him)
{
	const char *dir = bus_test_dir();
	pid_t child = start(be_there, dir, 0);
	const struct bus_msg *msg;
	struct bus_mailbox *m;
	struct bus *bus = join(dir);

	/* This process never rests until the child is dead and another has its slot. */
	m = subscriber(bus, "there");
	expect_message(m, "there", "!");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	child = start(be_there, dir, 0);
	bus_mailbox_close(m);
	m = subscriber(bus, "died");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_mem_eq(msg->data, "adieu", 5);
	ck_assert_uint_eq(msg->headers_len, 1);
	expect_nothing(m);
	retain_text(bus, "end", "!"); /* the new one may not have subscribed yet */
	finish(child);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* Who waits for a descriptor alone, or may publish less than the will is long, or is on the bus several times: it is said
 * all the same, and once. */
START_TEST(will_is_said_once_by_whoever_is_there)
{
	enum { TIMES = 8 };
	const char *dir = bus_test_dir();
	const struct bus_config small = {
	    .size = sizeof small, .dir = dir, .log_bytes = 4 << 20, .max_payload = 3};
	const struct bus_mailbox_config own = {.size = sizeof own, .drain = BUS_DRAIN_THREAD};
	struct bus *buses[TIMES];
	struct bus_mailbox *all[TIMES], *m;
	_Atomic unsigned calls = 0;
	const struct bus_msg *msg;
	pid_t child = start(be_there, dir, 0);
	int fd;

	for (int i = 0; i < TIMES; i++) {
		ck_bus(bus_open("test", &small, &buses[i]), 0);
		ck_bus(bus_mailbox_open(buses[i], &own, &all[i]), 0);
		ck_bus(bus_mailbox_subscribe(all[i], "x", count_message, (void *)&calls, NULL), 0);
	}
	m = subscriber(buses[0], "there");
	expect_message(m, "there", "!");
	bus_mailbox_close(m);
	m = subscriber(buses[0], "died");
	fd = bus_mailbox_fd(m);
	while (bus_dispatch(m, 0, 0) > 0)
		;
	for (int i = 0; i < TIMES && _i == 0; i++) /* only the descriptor is left */
		bus_mailbox_close(all[i]);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_assert(is_readable(fd, patience_ms()));
	ck_bus(bus_recv(m, 0, &msg), 1);
	ck_assert_mem_eq(msg->data, "adieu", 5);
	expect_nothing_in_looks(m);
	bus_mailbox_close(m);
	for (int i = 0; i < TIMES; i++) {
		if (_i != 0)
			bus_mailbox_close(all[i]);
		ck_bus(bus_close(buses[i], 0), 0);
	}
}
END_TEST

static void
leave_an_object(const char *dir, int number)
{
	const struct bus_msg will = {
	    .size = sizeof will, .topic = "died", .data = "adieu", .len = 5};
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = dir, .log_bytes = 4 << 20, .will = &will};
	struct bus *first, *second;
	struct bus_mailbox *m;

	(void)number;
	ck_bus(bus_open("test", &cfg, &first), 0);
	ck_bus(bus_open("test", &cfg, &second), 0);
	m = subscriber(first, "x");
	retain_text(first, "there", "!");
	ck_bus(bus_close(first, 0), 0);
	ck_bus(bus_close(second, 0), 0);
	bus_mailbox_close(m);
}

START_TEST(who_leaves_with_several_buses_leaves_no_will)
{
	const char *dir = bus_test_dir();
	struct bus *bus;
	struct bus_mailbox *members, *died;
	const struct bus_msg *msg;
	char topic[64];
	pid_t child;

	child = start(leave_an_object, dir, 0);
	bus = join(dir);
	members = subscriber(bus, "$bus/members/#");
	died = subscriber(bus, "died");
	finish(child);
	while (bus_dispatch(members, 50, 0) > 0)
		;
	child = start(write_for_ever, dir, 0); /* has none */
	do
		must(bus_recv(members, patience_ms(), &msg) == 1);
	while (msg->len == 0);
	snprintf(topic, sizeof topic, "%s", msg->topic);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	await_message(members, topic, "", 0);
	expect_nothing(died);
	bus_mailbox_close(members);
	bus_mailbox_close(died);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- its numbers ------------------------------------------------------------------------------------------------ */

START_TEST(its_numbers_are_those_of_what_was_published)
{
	struct bus *bus = join(bus_test_dir());
	const struct bus_log_stats before = log_stats(bus);
	struct bus_mailbox *m = subscriber(bus, "t/#");
	const struct bus_msg *msg;
	struct bus_log_stats stats;
	char value[1001];

	/* That this process is there is a message, and a value. */
	ck_assert_uint_eq(before.log_bytes, 4 << 20);
	ck_assert_uint_gt(before.segments, 1);
	ck_assert_uint_eq(before.messages, 1);
	ck_assert_uint_eq(before.messages_left, 1);
	ck_assert_uint_eq(before.oldest, 1);
	ck_assert_uint_gt(before.values_bytes, 0);
	ck_assert_uint_eq(before.values_count, 0);
	ck_assert_uint_eq(before.readers, 0);
	ck_assert_uint_eq(before.processes, 1);
	ck_assert_uint_eq(before.processes_most, BUS_LIMIT_MEMBERS);
	for (int i = 0; i < 10; i++)
		publish_text(bus, "t/plain", "x");
	stats = log_stats(bus);
	ck_assert_uint_eq(stats.messages, 11);
	ck_assert_uint_eq(stats.messages_left, 11);
	ck_assert_uint_eq(stats.values_bytes, before.values_bytes);
	ck_assert_uint_eq(stats.values_count, 0);
	ck_assert_uint_gt(stats.values_count_most, 5000);
	ck_assert_uint_eq(stats.readers, 1);
	ck_assert_uint_lt(stats.readers, stats.readers_most);
	for (int i = 0; i < 10; i++)
		ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->position, stats.messages);
	/* A value takes room once, however often it is replaced, and none when it is forgotten. */
	memset(value, 'v', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	for (int i = 0; i < 10; i++)
		retain_text(bus, "t/kept", value);
	stats = log_stats(bus);
	ck_assert_uint_ge(stats.values_bytes, before.values_bytes + strlen(value));
	ck_assert_uint_lt(stats.values_bytes, before.values_bytes + 2 * strlen(value));
	ck_assert_uint_lt(stats.values_bytes, stats.values_most);
	retain_text(bus, "t/kept", "");
	ck_assert_uint_eq(log_stats(bus).values_bytes, before.values_bytes);
	bus_mailbox_close(m);
	ck_assert_uint_eq(log_stats(bus).readers, 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(what_the_log_has_no_more_is_not_among_what_is_left)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m;
	const struct bus_msg *msg;
	struct bus_log_stats stats;
	uint64_t published = 0;

	do {
		for (int i = 0; i < 1000; i++, published++)
			must_bus(bus_publish(bus, "t", "x", 1));
		stats = log_stats(bus);
		ck_assert_uint_eq(stats.messages, published + 1);
	} while (stats.oldest == 1 || stats.messages < 2 * stats.messages_left);
	ck_assert_uint_eq(stats.messages - stats.oldest + 1, stats.messages_left);
	m = open_mailbox(bus, "t", .from = BUS_FROM_OLDEST);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_uint_eq(msg->position, stats.oldest);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* The number of the only other process; BUS_LIMIT_MEMBERS: there is none. */
static uint32_t
find_other(struct bus *bus, struct bus_member *ret_member)
{
	uint32_t found = BUS_LIMIT_MEMBERS;

	for (uint32_t i = 0; i < BUS_LIMIT_MEMBERS; i++) {
		struct bus_member member = {.size = sizeof member};
		int there = bus_member(bus, i, &member);

		must(there >= 0);
		must(there == 1 || member.pid == 0);
		if (there == 0 || member.is_this)
			continue;
		ck_assert_uint_eq(found, BUS_LIMIT_MEMBERS);
		*ret_member = member;
		found = i;
	}
	return found;
}

START_TEST(member_is_found_while_it_lives_and_when_it_was_killed)
{
	const char *dir = bus_test_dir();
	pid_t child = start(be_there, dir, 0);
	struct bus *bus = join(dir);
	struct bus_mailbox *there = subscriber(bus, "there"), *members;
	struct bus_member member, own = {.size = sizeof own};
	char topic[64];
	uint32_t number;

	expect_message(there, "there", "!");
	bus_mailbox_close(there);
	ck_assert_uint_eq(log_stats(bus).processes, 2);
	number = find_other(bus, &member);
	ck_assert_uint_eq(member.pid, (uint32_t)child);
	ck_assert(member.is_alive);
	for (uint32_t i = 0; !own.is_this; i++)
		ck_assert_int_ge(bus_member(bus, i, &own), 0);
	ck_assert_uint_eq(own.pid, (uint32_t)getpid());
	ck_assert(own.is_alive);
	/* Its number is that of its topic. */
	snprintf(topic, sizeof topic, "$bus/members/%u", number);
	members = subscriber(bus, topic);
	await_message(members, topic, "\x82", 1);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	/* Dead, or buried already. */
	if (find_other(bus, &member) != BUS_LIMIT_MEMBERS)
		ck_assert(!member.is_alive);
	await_message(members, topic, "", 0);
	ck_eventually(find_other(bus, &member) == BUS_LIMIT_MEMBERS);
	ck_assert_uint_eq(log_stats(bus).processes, 1);
	bus_mailbox_close(members);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(numbers_of_what_has_none_are_refused)
{
	struct bus *bus = join(bus_test_dir()), *private;
	struct bus_log_stats stats = {.size = sizeof stats, .log_bytes = 7};
	struct bus_member member = {.size = sizeof member, .pid = 7};
	pid_t child;

	ck_bus(bus_open(NULL, NULL, &private), 0);
	ck_bus(bus_log_stats(private, &stats), BUS_E_NOTSUP);
	ck_bus(bus_member(private, 0, &member), BUS_E_NOTSUP);
	ck_bus(bus_close(private, 0), 0);
	ck_bus(bus_log_stats(NULL, &stats), BUS_E_INVAL);
	ck_bus(bus_log_stats(bus, NULL), BUS_E_INVAL);
	ck_bus(bus_member(NULL, 0, &member), BUS_E_INVAL);
	ck_bus(bus_member(bus, 0, NULL), BUS_E_INVAL);
	ck_bus(bus_member(bus, BUS_LIMIT_MEMBERS, &member), BUS_E_INVAL);
	ck_bus(bus_member(bus, UINT32_MAX, &member), BUS_E_INVAL);
	ck_bus(bus_member(bus, BUS_LIMIT_MEMBERS - 1, &member), 0);
	stats.size--;
	member.size--;
	ck_bus(bus_log_stats(bus, &stats), BUS_E_INVAL);
	ck_bus(bus_member(bus, 0, &member), BUS_E_INVAL);
	ck_assert_uint_eq(stats.log_bytes, 7);
	ck_assert_uint_eq(member.pid, 7);
	child = bus_test_fork();
	if (child == 0) {
		must(bus_log_stats(bus, &stats) == BUS_E_FORKED);
		must(bus_member(bus, 0, &member) == BUS_E_FORKED);
		_exit(0);
	}
	finish(child);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

struct closing {
	struct bus *bus;
	int stats, member; /* the answers */
};

static void
ask_until_closed(void *arg, const struct bus_msg *msg)
{
	struct closing *closing = arg;
	struct bus_log_stats stats = {.size = sizeof stats};
	struct bus_member member = {.size = sizeof member};

	(void)msg;
	do {
		closing->stats = bus_log_stats(closing->bus, &stats);
	} while (closing->stats == 0);
	closing->member = bus_member(closing->bus, 0, &member);
}

START_TEST(bus_that_is_closing_has_no_numbers)
{
	struct closing closing = {.bus = join(bus_test_dir())};

	ck_bus(bus_subscribe(closing.bus, "t", ask_until_closed, &closing, NULL), 0);
	publish_text(closing.bus, "t", "x");
	ck_bus(bus_close(closing.bus, patience_ms()), 0);
	ck_bus(closing.stats, BUS_E_CLOSED);
	ck_bus(closing.member, BUS_E_CLOSED);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("named members");
	TCase *wills = bus_test_case("wills");

	look_at_each_rest();
	BUS_TEST_CASE(suite, "members", who_is_there_is_told_and_who_leaves_or_dies,
	    who_gets_the_slot_of_a_dead_one_buries_him,
	    who_leaves_with_several_buses_leaves_no_will);
	tcase_add_loop_test(wills, will_is_said_once_by_whoever_is_there, 0, 2);
	suite_add_tcase(suite, wills);
	BUS_TEST_CASE(suite, "numbers", its_numbers_are_those_of_what_was_published,
	    what_the_log_has_no_more_is_not_among_what_is_left,
	    member_is_found_while_it_lives_and_when_it_was_killed,
	    numbers_of_what_has_none_are_refused, bus_that_is_closing_has_no_numbers);
	return suite;
}
