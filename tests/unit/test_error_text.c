/* bus_error_text(): each failure names its object, and only the thread that failed sees it. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/libbus.h>

/* The call fails with err, and the text has all these words. */
#define ck_says(call, err, ...)                                                                    \
	do {                                                                                       \
		const char *const words_[] = {__VA_ARGS__};                                        \
		ck_bus(call, err);                                                                 \
		check_words(#call, words_, sizeof words_ / sizeof words_[0]);                      \
	} while (0)

static void
check_words(const char *call, const char *const words[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(strstr(bus_error_text(), words[i]) != NULL,
		    "%s says \"%s\", without \"%s\"", call, bus_error_text(), words[i]);
}

static void
ignore(void *arg, const struct bus_msg *msg)
{
	(void)arg;
	(void)msg;
}

static struct bus *
open_named(const char *name, uint64_t log_bytes)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = log_bytes};
	struct bus *bus;

	ck_bus(bus_open(name, &cfg, &bus), 0);
	return bus;
}

static struct bus *
open_private(void)
{
	struct bus *bus;

	ck_bus(bus_open(NULL, NULL, &bus), 0);
	return bus;
}

/* --- the text itself ------------------------------------------------------------------------------------------- */

START_TEST(before_the_first_failure_the_text_is_that_of_success)
{
	ck_assert_str_eq(bus_error_text(), bus_strerror(0));
	bus_close(open_private(), 0);
	ck_assert_str_eq(bus_error_text(), bus_strerror(0));
}
END_TEST

START_TEST(a_call_that_succeeds_leaves_the_text)
{
	struct bus *bus = open_private();
	char before[512];

	ck_bus(bus_publish(bus, "a/+", "", 0), BUS_E_TOPIC_WILDCARD);
	snprintf(before, sizeof before, "%s", bus_error_text());
	ck_bus(bus_publish(bus, "a/b", "1", 1), 0);
	ck_bus(bus_subscribe(bus, "a/#", ignore, NULL, NULL), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_assert_str_eq(bus_error_text(), before);
}
END_TEST

START_TEST(the_next_failure_replaces_the_text)
{
	struct bus *bus = open_private();

	ck_says(bus_publish(bus, "first/+", "", 0), BUS_E_TOPIC_WILDCARD, "first/+");
	ck_says(bus_publish(bus, "second/+", "", 0), BUS_E_TOPIC_WILDCARD, "second/+");
	ck_assert_ptr_null(strstr(bus_error_text(), "first"));
	bus_close(bus, 0);
}
END_TEST

static void *
fail_elsewhere(void *arg)
{
	ck_assert_str_eq(bus_error_text(), bus_strerror(0));
	ck_says(bus_publish(arg, "elsewhere/#", "", 0), BUS_E_TOPIC_WILDCARD, "elsewhere/#");
	return NULL;
}

START_TEST(a_thread_does_not_see_the_failures_of_another)
{
	struct bus *bus = open_private();
	pthread_t thread;

	ck_says(bus_publish(bus, "here/#", "", 0), BUS_E_TOPIC_WILDCARD, "here/#");
	ck_assert_int_eq(pthread_create(&thread, NULL, fail_elsewhere, bus), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "here/#"));
	bus_close(bus, 0);
}
END_TEST

START_TEST(a_forked_child_has_the_text_and_gets_its_own)
{
	struct bus *bus = open_private();
	int status;
	pid_t child;

	ck_bus(bus_publish(bus, "parent/#", "", 0), BUS_E_TOPIC_WILDCARD);
	child = bus_test_fork();
	if (child == 0) {
		bool same = strstr(bus_error_text(), "parent/#") != NULL;
		bool own = bus_publish(bus, "child", "", 0) == BUS_E_FORKED &&
			   strstr(bus_error_text(), "child: forked") != NULL;

		_exit(same && own ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "parent/#"));
	bus_close(bus, 0);
}
END_TEST

START_TEST(the_text_is_one_printable_line_whatever_the_topic_is)
{
	struct bus *bus = open_private();
	char topic[3000];

	ck_bus(bus_publish(bus, "\xff\n\x1b[31m\xc3", "", 0), BUS_E_TOPIC_BYTES);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "???[31m?: "));
	memset(topic, 'x', sizeof topic);
	topic[sizeof topic - 1] = '\0';
	ck_says(bus_publish(bus, topic, "", 0), BUS_E_TOPIC_LONG, "xxx", "1024");
	ck_assert_uint_lt(strlen(bus_error_text()), 320);
	bus_close(bus, 0);
}
END_TEST

START_TEST(a_failure_keeps_errno)
{
	struct bus *bus = open_private();

	errno = 4711;
	ck_bus(bus_publish(bus, "a/+", "", 0), BUS_E_TOPIC_WILDCARD);
	ck_assert_int_eq(errno, 4711);
	bus_close(bus, 0);
}
END_TEST

/* --- bus_open() -------------------------------------------------------------------------------------------------- */

START_TEST(bus_open_names_the_bus_the_option_and_the_limit)
{
	struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct bus_msg will = {.size = sizeof will, .topic = "left/+"};
	char path[512];
	struct bus *bus;

	ck_says(bus_open("No Bus", &cfg, &bus), BUS_E_INVAL, "No Bus", "1 to 64");
	ck_says(bus_open(NULL, NULL, NULL), BUS_E_INVAL, "ret_bus");
	cfg.size = 3;
	ck_says(bus_open("home", &cfg, &bus), BUS_E_INVAL, "bus_config", "3");
	cfg.size = sizeof cfg;
	cfg.max_payload = UINT32_MAX;
	ck_says(bus_open("home", &cfg, &bus), BUS_E_INVAL, "max_payload", "4294967295", "256 MiB");
	cfg.max_payload = 0;
	cfg.log_bytes = 1000;
	ck_says(bus_open("home", &cfg, &bus), BUS_E_INVAL, "home", "log_bytes", "1000", "4 MiB");
	cfg.log_bytes = 0;
	cfg.will = &will;
	ck_says(bus_open("home", &cfg, &bus), BUS_E_TOPIC_WILDCARD, "home", "left/+");
	ck_says(bus_open(NULL, &cfg, &bus), BUS_E_NOTSUP, "will");
	cfg.will = NULL;
	snprintf(path, sizeof path, "%s/missing/place", bus_test_dir());
	cfg.dir = path;
	ck_says(bus_open("home", &cfg, &bus), BUS_E_SYS, "home", path, strerror(ENOENT));
	cfg.dir = "/dev";
	if (geteuid() != 0)
		ck_says(bus_open("home", &cfg, &bus), BUS_E_DENIED, "home", "/dev");
}
END_TEST

START_TEST(bus_open_names_the_directory_where_others_may_write)
{
	struct bus_config cfg = {.size = sizeof cfg, .dir = "/tmp"};
	struct bus *bus;

	ck_says(bus_open("home", &cfg, &bus), BUS_E_DENIED, "home", "/tmp", "0700");
}
END_TEST

/* --- bus_subscribe() ----------------------------------------------------------------------------------------------- */

START_TEST(bus_subscribe_names_the_filter_and_what_is_wrong_with_it)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_PUBLISHER};
	char deep[2 * BUS_LIMIT_TOPIC_LEVELS + 2];
	struct bus *bus = open_private();
	struct bus_mailbox *mbox;

	memset(deep, '/', sizeof deep);
	deep[sizeof deep - 1] = '\0';
	ck_says(bus_subscribe(bus, "room/kit+/temp", ignore, NULL, NULL), BUS_E_FILTER,
	    "room/kit+/temp", "level 2", "\"kit+\"");
	ck_says(bus_subscribe(bus, "room/#/temp", ignore, NULL, NULL), BUS_E_FILTER, "room/#/temp",
	    "level 2", "last");
	ck_says(bus_subscribe(bus, deep, ignore, NULL, NULL), BUS_E_TOPIC_LONG, "66 levels", "32");
	ck_says(bus_subscribe(bus, "", ignore, NULL, NULL), BUS_E_TOPIC_EMPTY, "empty");
	ck_says(bus_subscribe(bus, NULL, ignore, NULL, NULL), BUS_E_INVAL, "NULL");
	ck_says(bus_subscribe(NULL, "a", ignore, NULL, NULL), BUS_E_INVAL, "bus is NULL");
	ck_says(bus_subscribe(bus, "room/#", NULL, NULL, NULL), BUS_E_INVAL, "room/#", "fn");
	ck_says(bus_mailbox_subscribe(NULL, "a", ignore, NULL, NULL), BUS_E_INVAL, "mailbox");
	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), 0);
	ck_says(bus_mailbox_subscribe(mbox, "$bus/drops", ignore, NULL, NULL), BUS_E_INVAL,
	    "$bus/drops");
	ck_says(bus_mailbox_subscribe(mbox, "a+", ignore, NULL, NULL), BUS_E_FILTER, "a+");
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

/* --- publishing ---------------------------------------------------------------------------------------------------- */

START_TEST(a_payload_too_big_is_named_with_its_topic_size_and_limit)
{
	static char payload[300 * 1024];
	const struct bus_msg msg = {
	    .size = sizeof msg, .topic = "plant/msg", .data = payload, .len = sizeof payload};
	const struct bus_slice item = {payload, sizeof payload};
	const struct bus_config small = {.size = sizeof small, .max_payload = 1000};
	struct bus *buses[2];
	struct bus_pub *pub;
	void *loan;

	ck_bus(bus_open(NULL, &small, &buses[0]), 0);
	buses[1] = open_named("small", 4 << 20);
	for (int i = 0; i < 2; i++) {
		const char *limit = i == 0 ? "max_payload" : "log_bytes";

		ck_says(bus_publish(buses[i], "plant/temp", payload, sizeof payload), BUS_E_TOO_BIG,
		    "plant/temp: ", "307200", limit);
		ck_says(
		    bus_publish_msg(buses[i], &msg), BUS_E_TOO_BIG, "plant/msg: ", "307200", limit);
		ck_bus(bus_pub_open(buses[i], "plant/pub", NULL, &pub), 0);
		ck_says(bus_pub_send(pub, payload, sizeof payload), BUS_E_TOO_BIG,
		    "plant/pub: ", "307200", limit);
		ck_bus(bus_publish(buses[i], "a/+", "", 0), BUS_E_TOPIC_WILDCARD);
		ck_says(bus_pub_send_many(pub, &item, 1), BUS_E_TOO_BIG, "plant/pub: ", "307200",
		    limit);
		ck_says(bus_pub_loan(pub, sizeof payload, &loan), BUS_E_TOO_BIG,
		    "plant/pub: ", "307200", limit);
		ck_says(bus_pub_commit(pub, payload, 1), BUS_E_INVAL, "plant/pub: ", "loan");
		ck_says(bus_pub_send(pub, NULL, 1), BUS_E_INVAL, "plant/pub: ", "NULL");
		bus_pub_close(pub);
		bus_close(buses[i], 0);
	}
}
END_TEST

START_TEST(a_full_mailbox_is_named_with_the_topic)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .full = BUS_FULL_REFUSE, .bytes = 4096};
	struct bus *bus = open_private();
	struct bus_mailbox *mbox;
	struct bus_pub *pub;
	char payload[100] = {0};
	int err;

	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "plant/#", NULL, NULL, NULL), 0);
	do
		err = bus_publish(bus, "plant/temp", payload, sizeof payload);
	while (err == 0);
	ck_says(bus_publish(bus, "plant/temp", payload, sizeof payload), BUS_E_FULL,
	    "plant/temp: ", "mailbox 1", "4 KiB", "drain");
	ck_bus(bus_pub_open(bus, "plant/pub", NULL, &pub), 0);
	ck_says(bus_pub_send(pub, payload, sizeof payload), BUS_E_FULL, "plant/pub: ", "mailbox 1");
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(the_limit_of_topics_is_named_with_its_numbers)
{
	const struct bus_config few = {.size = sizeof few, .max_topics = 2};
	struct bus_pub *pubs[3];
	struct bus *bus;

	ck_bus(bus_open(NULL, &few, &bus), 0);
	ck_bus(bus_pub_open(bus, "one", NULL, &pubs[0]), 0);
	ck_bus(bus_pub_open(bus, "two", NULL, &pubs[1]), 0);
	ck_says(
	    bus_pub_open(bus, "three", NULL, &pubs[2]), BUS_E_LIMIT, "three: ", "2", "max_topics");
	ck_says(bus_publish(bus, "three", "", 0), BUS_E_LIMIT, "three: ", "2", "max_topics");
	bus_pub_close(pubs[0]);
	bus_pub_close(pubs[1]);
	bus_close(bus, 0);
}
END_TEST

START_TEST(full_topic_names_of_a_named_bus_are_named_with_their_numbers)
{
	struct bus *bus = open_named("names", 4 << 20);
	char topic[64];
	int err = 0;

	for (int i = 0; err == 0; i++) {
		snprintf(topic, sizeof topic, "sensor/%d", i);
		err = bus_publish(bus, topic, "", 0);
	}
	ck_bus(err, BUS_E_LIMIT);
	check_words("bus_publish",
	    (const char *const[]){topic, "names are full", "240 KiB", "log_bytes"}, 4);
	bus_close(bus, 0);
}
END_TEST

START_TEST(a_topic_that_is_none_is_named)
{
	struct bus *bus = open_private();
	struct bus_msg msg = {.size = 1, .topic = "a"};
	struct bus_pub_config cfg = {.size = 2};
	struct bus_pub *pub;

	ck_says(bus_publish(bus, "a/#", "", 0), BUS_E_TOPIC_WILDCARD, "a/#: ");
	ck_says(bus_publish(bus, "$bus/x", "", 0), BUS_E_TOPIC_RESERVED, "$bus/x: ");
	ck_says(bus_publish(bus, NULL, "", 0), BUS_E_INVAL, "topic", "NULL");
	ck_says(bus_publish(NULL, "a", "", 0), BUS_E_INVAL, "bus is NULL");
	ck_says(bus_publish_msg(bus, NULL), BUS_E_INVAL, "message is NULL");
	ck_says(bus_publish_msg(bus, &msg), BUS_E_INVAL, "bus_msg", "1");
	ck_says(bus_pub_open(bus, "a", &cfg, &pub), BUS_E_INVAL, "bus_pub_config", "2");
	ck_says(bus_pub_open(bus, "b/#", NULL, &pub), BUS_E_TOPIC_WILDCARD, "b/#: ");
	ck_says(bus_pub_send(NULL, "", 0), BUS_E_INVAL, "handle");
	bus_close(bus, 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("error_text");

	BUS_TEST_CASE(suite, "text", before_the_first_failure_the_text_is_that_of_success,
	    a_call_that_succeeds_leaves_the_text, the_next_failure_replaces_the_text,
	    a_thread_does_not_see_the_failures_of_another,
	    a_forked_child_has_the_text_and_gets_its_own,
	    the_text_is_one_printable_line_whatever_the_topic_is, a_failure_keeps_errno);
	BUS_TEST_CASE(suite, "open", bus_open_names_the_bus_the_option_and_the_limit,
	    bus_open_names_the_directory_where_others_may_write);
	BUS_TEST_CASE(suite, "subscribe", bus_subscribe_names_the_filter_and_what_is_wrong_with_it);
	BUS_TEST_CASE(suite, "publish", a_payload_too_big_is_named_with_its_topic_size_and_limit,
	    a_full_mailbox_is_named_with_the_topic, the_limit_of_topics_is_named_with_its_numbers,
	    full_topic_names_of_a_named_bus_are_named_with_their_numbers,
	    a_topic_that_is_none_is_named);
	return suite;
}
