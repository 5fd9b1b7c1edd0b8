/* Members of a named bus leave, are killed, fork or damage its log; warnings. */
#define _GNU_SOURCE
#include "named_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/pack.h>

#include "look.h"

/* Both writers are writing. */
static void
await_both(struct bus_mailbox *m)
{
	for (bool one = false, other = false; !one || !other;) {
		const struct bus_msg *msg;

		ck_bus(bus_recv(m, patience_ms(), &msg), 1);
		one |= strcmp(msg->topic, "one") == 0;
		other |= strcmp(msg->topic, "other") == 0;
	}
}

START_TEST(killed_member_leaves_the_others_working)
{
	const char *dir = bus_test_dir();
	struct bus *bus;
	struct bus_mailbox *begun, *m;

	for (int round = 0; round < 5; round++) {
		pid_t one = start(write_for_ever, dir, 1), other = start(write_for_ever, dir, 0);

		bus = join(dir);
		m = subscriber(bus, "here");
		begun = subscriber(bus, "one");
		ck_bus(bus_mailbox_subscribe(begun, "other", NULL, NULL, NULL), 0);
		await_both(begun);
		kill(one, SIGKILL);
		waitpid(one, NULL, 0);
		kill(other, SIGKILL);
		waitpid(other, NULL, 0);
		publish_text(bus, "here", "still");
		expect_message(m, "here", "still");
		bus_mailbox_close(begun);
		bus_mailbox_close(m);
		ck_bus(bus_close(bus, patience_ms()), 0);
	}
	ck_assert_uint_eq(files_in(dir), 0);
}
END_TEST

static void
wait_for_ever(const char *dir, int number)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = dir, .log_bytes = 4 << 20};
	struct bus *bus;

	ck_bus(bus_open(number ? "dead" : "alive", &cfg, &bus), 0);
	publish_text(bus, "t", "x");
	pause();
}

static bool
has_file(const char *dir, const char *name)
{
	char path[200];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

START_TEST(memory_of_a_bus_whose_members_were_killed_is_given_back)
{
	const char *dir = bus_test_dir();
	pid_t dead = start(wait_for_ever, dir, 1), alive = start(wait_for_ever, dir, 0);
	struct bus *bus;

	/* And none that one of them is making. */
	ck_eventually(
	    has_file(dir, "dead.bus") && has_file(dir, "alive.bus") && files_in(dir) == 4);
	bus = join(dir);
	ck_assert_uint_eq(files_in(dir), 6);
	ck_bus(bus_close(bus, 0), 0);
	kill(dead, SIGKILL);
	waitpid(dead, NULL, 0);
	ck_assert_uint_eq(files_in(dir), 4);
	bus = join(dir);
	ck_assert_uint_eq(files_in(dir), 4); /* ours and that of the living */
	kill(alive, SIGKILL);
	waitpid(alive, NULL, 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(files_that_were_removed_are_warned_of)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir);
	struct bus_mailbox *m = subscriber(bus, "$bus/warnings");
	const struct bus_msg *msg;
	const struct bus_value *value;
	char path[200], *text;
	size_t len;

	snprintf(path, sizeof path, "%s/test.lock", dir);
	ck_assert_int_eq(unlink(path), 0);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_bus(bus_value_read(msg->type, msg->data, msg->len, &value), 0);
	ck_bus(bus_value_json(value, &text, &len), 0);
	ck_assert_ptr_nonnull(strstr(text, "\"removed\""));
	ck_assert_ptr_nonnull(strstr(text, "/test.bus"));
	free(text);
	bus_value_free(value);
	expect_nothing_in_looks(m);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static void
await_warning(struct bus_mailbox *m, const char *kind, const char *unit)
{
	const struct bus_msg *msg;
	const struct bus_value *value;
	char *text;
	size_t len;

	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_bus(bus_value_read(msg->type, msg->data, msg->len, &value), 0);
	ck_bus(bus_value_json(value, &text, &len), 0);
	ck_assert_ptr_nonnull(strstr(text, kind));
	ck_assert_ptr_nonnull(strstr(text, unit));
	free(text);
	bus_value_free(value);
}

/* By number, and (_i) by bytes. */
START_TEST(values_that_take_most_of_what_they_may_are_warned_of)
{
	static char payload[20000];
	struct bus *bus = join(bus_test_dir());
	struct bus_log_stats stats = log_stats(bus);
	struct bus_mailbox *m = subscriber(bus, "$bus/warnings");
	uint64_t many = _i ? stats.values_most / sizeof payload : stats.values_count_most;
	struct bus_msg value = {.size = sizeof value,
	    .data = payload,
	    .len = _i ? sizeof payload : 1,
	    .flags = BUS_MSG_RETAIN};
	char topic[32];

	value.topic = topic;
	for (uint64_t i = 0; i < many * 7 / 10 - 10; i++) {
		snprintf(topic, sizeof topic, "t/%llu", (unsigned long long)i);
		ck_bus(bus_publish_msg(bus, &value), 0);
	}
	expect_nothing_in_looks(m);
	for (uint64_t i = 0; i < many * 8 / 10 + 10; i++) {
		snprintf(topic, sizeof topic, "t/%llu", (unsigned long long)i);
		ck_bus(bus_publish_msg(bus, &value), 0);
	}
	await_warning(m, "\"values\"", _i ? "\"bytes\"" : "\"values\":");
	expect_nothing_in_looks(m); /* once */
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

#ifndef __SANITIZE_THREAD__
/* Writes nonsense all over the file, most of it where it hurts. */
static void
scribble(const char *dir, int number)
{
	uint64_t word = (uint64_t)number * UINT64_C(0x9e3779b97f4a7c15) + 1, *words;
	int64_t until = bus_test_now_ms() + 400;
	char path[300];
	int fd;

	snprintf(path, sizeof path, "%s/test.bus", dir);
	fd = open(path, O_RDWR);
	must(fd >= 0);
	words = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(words != MAP_FAILED);
	while (bus_test_now_ms() < until)
		for (int i = 0; i < 100; i++) {
			size_t at;

			word ^= word << 13;
			word ^= word >> 7;
			word ^= word << 17;
			at = (size_t)(word >> 20) % (i % 2 ? (4u << 20) / 8 : 60000);
			words[at] = i % 3 == 0 ? words[at] + word % 64 - 32 : word;
		}
}

static void
read_all(void *arg, const struct bus_msg *msg)
{
	_Atomic unsigned *sum = arg;

	for (size_t i = 0; i < msg->len; i++)
		atomic_fetch_add_explicit(
		    sum, ((const uint8_t *)msg->data)[i], memory_order_relaxed);
	for (size_t i = 0; i < msg->headers_len; i++)
		atomic_fetch_add_explicit(
		    sum, ((const uint8_t *)msg->headers)[i], memory_order_relaxed);
}

/* Whoever maps the log can destroy it, and no program with it. */
START_TEST(damage_of_the_log_crashes_nobody_and_nobody_hangs)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir);
	_Atomic unsigned sum = 0;
	pid_t child;
	int64_t until;

	must_bus(bus_subscribe(bus, "#", read_all, (void *)&sum, NULL));
	retain_text(bus, "v", "value");
	child = start(scribble, dir, _i);
	until = bus_test_now_ms() + 600;
	for (unsigned i = 0; bus_test_now_ms() < until; i++) {
		struct bus_mailbox_config cfg = {
		    .size = sizeof cfg, .from = (int)(i % 5), .from_value = 9};
		struct bus_log_stats stats = {.size = sizeof stats};
		struct bus_member member = {.size = sizeof member};
		const struct bus_msg *msg;
		struct bus_mailbox *m;
		char topic[20];

		bus_member(bus, i % BUS_LIMIT_MEMBERS, &member);
		if (i % 16 == 1)
			bus_log_stats(bus, &stats);
		snprintf(topic, sizeof topic, "t/%u", i % 50);
		bus_publish_msg(bus, &(struct bus_msg){.size = sizeof *msg,
					 .topic = topic,
					 .data = "0123456789",
					 .len = i % 11,
					 .flags = i % 2 ? BUS_MSG_RETAIN : 0});
		if (i % 16 != 0 || bus_mailbox_open(bus, &cfg, &m) < 0)
			continue;
		bus_mailbox_subscribe(m, i % 3 ? "#" : topic, NULL, NULL, NULL);
		for (int n = 0; n < 100 && bus_recv(m, 0, &msg) == 1; n++)
			read_all((void *)&sum, msg);
		bus_request(bus, topic, "?", 1, 1, &msg);
		bus_mailbox_close(m);
	}
	finish(child);
	bus_close(bus, 0);
}
END_TEST
#endif

START_TEST(forked_child_opens_a_bus_of_its_own)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	const char *dir = bus_test_dir();
	pid_t child = bus_test_fork();

	if (child == 0) {
		struct bus *own;
		const struct bus_msg *msg;

		must(bus_publish(bus, "t", "x", 1) == BUS_E_FORKED);
		must(bus_recv(m, 0, &msg) == BUS_E_FORKED);
		must(bus_close(bus, 0) == BUS_E_FORKED);
		own = join(dir);
		must(bus_publish(own, "t", "child", 5) == 0);
		must(bus_close(own, 0) == 0);
		_exit(0);
	}
	finish(child);
	expect_message(m, "t", "child");
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(mailbox_outlives_its_bus)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	const struct bus_msg *msg;

	publish_text(bus, "t", "x");
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_bus(bus_close(bus, 0), 0);
	ck_bus(bus_recv(m, patience_ms(), &msg), BUS_E_CLOSED);
	ck_bus(bus_mailbox_subscribe(m, "u", NULL, NULL, NULL), BUS_E_CLOSED);
	bus_mailbox_close(m);
	ck_assert_uint_eq(files_in(bus_test_dir()), 0);
}
END_TEST

START_TEST(what_a_named_bus_cannot_have_is_refused)
{
	struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct bus_mailbox_config mail = {.size = sizeof mail};
	struct bus_mailbox *m;
	struct bus *bus, *private;

	ck_bus(bus_open("", &cfg, &bus), BUS_E_INVAL);
	ck_bus(bus_open("Upper", &cfg, &bus), BUS_E_INVAL);
	ck_bus(bus_open("../x", &cfg, &bus), BUS_E_INVAL);
	cfg.log_bytes = 1;
	ck_bus(bus_open("x", &cfg, &bus), BUS_E_INVAL);
	bus = join(bus_test_dir());
	mail.full = BUS_FULL_REFUSE;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_NOTSUP);
	mail.full = BUS_FULL_DROP_NEWEST;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_NOTSUP);
	mail.full = BUS_FULL_DROP_OLDEST;
	mail.drain = BUS_DRAIN_PUBLISHER;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_NOTSUP);
	mail.drain = BUS_DRAIN_CALLER;
	mail.group = "g";
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_NOTSUP);
	mail.group = NULL;
	mail.from = BUS_FROM_TIME + 1;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_INVAL);
	mail.from = BUS_FROM_TIME;
	mail.from_value = (uint64_t)INT64_MAX + 1;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_INVAL);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "from_value: 9223372036854775808"));
	mail.from_value = UINT64_MAX;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_INVAL);
	mail.from_value = INT64_MAX; /* nothing has been published then */
	ck_bus(bus_mailbox_open(bus, &mail, &m), 0);
	bus_mailbox_close(m);
	mail.from = BUS_FROM_POSITION;
	mail.from_value = UINT64_MAX;
	ck_bus(bus_mailbox_open(bus, &mail, &m), BUS_E_RESET);
	mail.from_value = 0;
	ck_bus(bus_keep(bus, "#", NULL), BUS_E_NOTSUP);
	ck_bus(bus_publish(bus, "$bus/x", "x", 1), BUS_E_TOPIC_RESERVED);
	ck_bus(bus_publish(bus, "a/#", "x", 1), BUS_E_TOPIC_WILDCARD);
	ck_bus(bus_publish(bus, "", "x", 1), BUS_E_TOPIC_EMPTY);
	ck_bus(bus_publish(bus, NULL, "x", 1), BUS_E_INVAL);
	ck_bus(bus_close(bus, 0), 0);
	ck_bus(bus_open(NULL, NULL, &private), 0);
	mail.from = BUS_FROM_OLDEST;
	ck_bus(bus_mailbox_open(private, &mail, &m), BUS_E_NOTSUP);
	ck_bus(bus_describe(private, NULL, 0), BUS_E_NOTSUP);
	ck_bus(bus_close(private, 0), 0);
}
END_TEST

START_TEST(it_says_what_it_is_and_who_gets_a_topic)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_mailbox *m = subscriber(bus, "t");
	char text[4096], whole[64];
	int len;

	retain_text(bus, "t", "value");
	len = bus_describe(bus, text, sizeof text);
	ck_assert_int_eq(len, (int)strlen(text));
	snprintf(whole, sizeof whole, "pid %d, this one", (int)getpid());
	ck_assert_ptr_nonnull(strstr(text, whole));
	ck_assert_ptr_nonnull(strstr(text, "messages: "));
	ck_assert_ptr_nonnull(strstr(text, "/test.bus, 4096 KiB in "));
	ck_assert_int_gt(bus_explain(bus, "t", text, sizeof text), 0);
	ck_assert_ptr_nonnull(strstr(text, "keeps a value of 5 bytes"));
	ck_assert_ptr_nonnull(strstr(text, "other processes that listen: 0; that get it: 0\n"));
	ck_assert_int_gt(bus_explain(bus, "u", text, sizeof text), 0);
	ck_assert_ptr_nonnull(strstr(text, "unknown topic"));
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("named ends");
	TCase *warnings = bus_test_case("warnings");

	look_at_each_rest();
	BUS_TEST_CASE(suite, "ends", killed_member_leaves_the_others_working,
	    memory_of_a_bus_whose_members_were_killed_is_given_back,
	    forked_child_opens_a_bus_of_its_own, mailbox_outlives_its_bus,
	    what_a_named_bus_cannot_have_is_refused, it_says_what_it_is_and_who_gets_a_topic);
#ifndef __SANITIZE_THREAD__
	TCase *damage = bus_test_case("damage");

	tcase_add_loop_test(damage, damage_of_the_log_crashes_nobody_and_nobody_hangs, 0, 4);
	suite_add_tcase(suite, damage);
#endif
	tcase_add_test(warnings, files_that_were_removed_are_warned_of);
	tcase_add_loop_test(warnings, values_that_take_most_of_what_they_may_are_warned_of, 0, 2);
	suite_add_tcase(suite, warnings);
	return suite;
}
