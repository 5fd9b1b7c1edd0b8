/* The sentence of each failed call: the object, the limit and the next step. */
#define _GNU_SOURCE
#include "error_text_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/libbus.h>

#include "base/error_text.h"
#include "bus/bus_internal.h"
#include "mailbox/mailbox.h"
#include "bus/notice.h"
#include "log/log.h"

static struct bus *
open_named(const char *name, uint64_t log_bytes)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = log_bytes};
	struct bus *bus;

	ck_bus(bus_open(name, &cfg, &bus), 0);
	return bus;
}

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

START_TEST(bus_open_names_the_directory_that_other_users_can_write)
{
	struct bus_config cfg = {.size = sizeof cfg, .dir = "/tmp"};
	struct bus *bus;

	ck_says(bus_open("home", &cfg, &bus), BUS_E_DENIED, "home", "/tmp", "0700");
}
END_TEST

static int
retain(struct bus *bus, const char *topic, size_t len)
{
	static char value[4096];
	const struct bus_msg msg = {
	    .size = sizeof msg, .topic = topic, .data = value, .len = len, .flags = BUS_MSG_RETAIN};

	return bus_publish_msg(bus, &msg);
}

/* Another process opens the bus, with a will or without one: 0, or 1 and the error text. */
static void
check_open_elsewhere(
    const char *name, const struct bus_msg *will, const char *const words[], size_t count)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 4 << 20, .will = will};
	pid_t child = bus_test_fork();
	struct bus *bus;
	int status;

	if (child == 0) {
		int err = bus_open(name, &cfg, &bus);
		bool all = err == BUS_E_LIMIT;

		for (size_t i = 0; i < count; i++)
			all = all && strstr(bus_error_text(), words[i]) != NULL;
		if (!all)
			fprintf(stderr, "%s: %s\n", bus_errname(err), bus_error_text());
		_exit(all ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}

START_TEST(bus_open_says_that_retained_values_leave_no_room_for_its_will)
{
	static char legacy[200 * 1024];
	const struct bus_msg will = {
	    .size = sizeof will, .topic = "left", .data = legacy, .len = sizeof legacy};
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 4 << 20, .will = &will};
	struct bus *bus = open_named("values", 4 << 20), *mortal;
	char topic[32];

	for (int i = 0;; i++) {
		snprintf(topic, sizeof topic, "value/%d", i);
		if (retain(bus, topic, 4096) != 0)
			break;
	}
	ck_bus(bus_open("values", &cfg, &mortal), 0); /* a bus with some values of its own */
	check_open_elsewhere(
	    "values", &will, (const char *const[]){"values: ", "retained values are full"}, 2);
	bus_close(mortal, 0);
	bus_close(bus, 0);
}
END_TEST

START_TEST(bus_open_reports_that_descriptors_have_run_out)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct rlimit limit;
	struct bus *bus;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_says(bus_open("home", &cfg, &bus), BUS_E_LIMIT, "home: ", "descriptors");
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_bus(bus_open("home", &cfg, &bus), 0);
	bus_close(bus, 0);
}
END_TEST

/* --- bus_subscribe() ----------------------------------------------------------------------------------------------- */

START_TEST(bus_subscribe_names_the_filter_and_its_fault)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_PUBLISHER};
	char deep[2 * BUS_LIMIT_TOPIC_LEVELS + 2];
	struct bus *bus = open_private();
	struct bus_mailbox *mbox;

	memset(deep, '/', sizeof deep);
	deep[sizeof deep - 1] = '\0';
	ck_says(bus_subscribe(bus, "room/kit+/temp", ignore_message, NULL, NULL), BUS_E_FILTER,
	    "room/kit+/temp", "level 2", "\"kit+\"");
	ck_says(bus_subscribe(bus, "room/#/temp", ignore_message, NULL, NULL), BUS_E_FILTER,
	    "room/#/temp", "level 2", "last");
	ck_says(bus_subscribe(bus, deep, ignore_message, NULL, NULL), BUS_E_TOPIC_LONG, "66 levels",
	    "32");
	ck_says(bus_subscribe(bus, "", ignore_message, NULL, NULL), BUS_E_TOPIC_EMPTY, "empty");
	ck_says(bus_subscribe(bus, NULL, ignore_message, NULL, NULL), BUS_E_INVAL, "NULL");
	ck_says(bus_subscribe(NULL, "a", ignore_message, NULL, NULL), BUS_E_INVAL, "bus is NULL");
	ck_says(bus_subscribe(bus, "room/#", NULL, NULL, NULL), BUS_E_INVAL, "room/#", "fn");
	ck_says(
	    bus_mailbox_subscribe(NULL, "a", ignore_message, NULL, NULL), BUS_E_INVAL, "mailbox");
	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), 0);
	ck_says(bus_mailbox_subscribe(mbox, "$bus/drops", ignore_message, NULL, NULL), BUS_E_INVAL,
	    "$bus/drops");
	ck_says(bus_mailbox_subscribe(mbox, "a+", ignore_message, NULL, NULL), BUS_E_FILTER, "a+");
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
		ck_says(bus_pub_send_msg(pub, &msg), BUS_E_TOO_BIG, "plant/pub: ", "307200", limit);
		ck_says(bus_pub_send_msg(pub, NULL), BUS_E_INVAL, "plant/pub: ", "NULL");
		ck_says(bus_pub_send_many(pub, &item, 1), BUS_E_TOO_BIG, "plant/pub: ", "307200",
		    limit);
		ck_says(bus_pub_send_parts(pub, &item, 1), BUS_E_TOO_BIG, "plant/pub: ", "307200",
		    limit);
		ck_says(bus_pub_send_parts(pub, NULL, 1), BUS_E_INVAL, "plant/pub: ", "NULL");
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

START_TEST(the_topic_limit_of_a_named_bus_is_not_reported_as_one_of_its_log)
{
	const struct bus_config few = {
	    .size = sizeof few, .dir = bus_test_dir(), .log_bytes = 4 << 20, .max_topics = 2};
	struct bus_pub *pubs[3];
	struct bus *bus;

	ck_bus(bus_open("few", &few, &bus), 0);
	ck_bus(bus_pub_open(bus, "one", NULL, &pubs[0]), 0);
	ck_bus(bus_pub_open(bus, "two", NULL, &pubs[1]), 0);
	ck_says(
	    bus_pub_open(bus, "three", NULL, &pubs[2]), BUS_E_LIMIT, "three: ", "2", "max_topics");
	bus_pub_close(pubs[0]);
	bus_pub_close(pubs[1]);
	bus_close(bus, 0);
}
END_TEST

START_TEST(full_values_of_a_named_bus_are_named_with_their_numbers)
{
	struct bus *bus = open_named("names", 4 << 20);
	char topic[64], numbers[64];
	int count = 0;

	for (;; count++) {
		snprintf(topic, sizeof topic, "sensor/%d", count);
		if (retain(bus, topic, 1) != 0)
			break;
	}
	snprintf(numbers, sizeof numbers, "%d of %d topics", count, count);
	check_words("bus_publish_msg",
	    (const char *const[]){topic, "retained values are full", numbers, "log_bytes"}, 4);
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

/* --- mailboxes ----------------------------------------------------------------------------------------------------- */

START_TEST(a_mailbox_that_cannot_be_names_the_option)
{
	struct bus *bus = open_private(), *named = open_named("boxes", 0);
	struct bus_mailbox_config cfg = {.size = 8};
	struct bus_mailbox *mbox;

	ck_says(bus_mailbox_open(NULL, NULL, &mbox), BUS_E_INVAL, "bus is NULL");
	ck_says(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL, "bus_mailbox_config", "8");
	cfg = (struct bus_mailbox_config){.size = sizeof cfg, .full = 17};
	ck_says(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL, "full: 17");
	cfg = (struct bus_mailbox_config){.size = sizeof cfg, .drain = 18};
	ck_says(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL, "drain: 18");
	cfg = (struct bus_mailbox_config){.size = sizeof cfg, .from = 19};
	ck_says(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL, "from: 19");
	cfg = (struct bus_mailbox_config){.size = sizeof cfg, .bytes = 2000000000};
	ck_says(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL, "bytes: 2000000000", "1 GiB");
	cfg = (struct bus_mailbox_config){.size = sizeof cfg, .group = "no group"};
	ck_says(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL, "no group", "1 to 64");
	cfg = (struct bus_mailbox_config){.size = sizeof cfg, .from = BUS_FROM_OLDEST};
	ck_says(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_NOTSUP, "from", "name");
	cfg = (struct bus_mailbox_config){.size = sizeof cfg, .full = BUS_FULL_REFUSE};
	ck_says(bus_mailbox_open(named, &cfg, &mbox), BUS_E_NOTSUP, "name", "refuses");
	bus_close(named, 0);
	bus_close(bus, 0);
}
END_TEST

START_TEST(a_call_on_a_mailbox_names_it)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus *bus = open_private();
	struct bus_stats stats = {.size = 5};
	struct bus_mailbox *driven, *polled;
	const struct bus_msg *msg;
	uint64_t reached;

	ck_bus(bus_mailbox_open(bus, &cfg, &driven), 0);
	ck_bus(bus_mailbox_open(bus, NULL, &polled), 0);
	ck_says(bus_recv(driven, 0, &msg), BUS_E_INVAL, "mailbox 1", "its thread");
	ck_says(bus_dispatch(driven, 0, 0), BUS_E_INVAL, "mailbox 1", "its thread");
	ck_says(bus_mailbox_fd(driven), BUS_E_INVAL, "mailbox 1", "its thread");
	ck_says(bus_recv(NULL, 0, &msg), BUS_E_INVAL, "mailbox is NULL");
	ck_says(bus_mailbox_stats(polled, &stats), BUS_E_INVAL, "bus_stats", "5");
	ck_says(bus_mailbox_reached(NULL, &reached), BUS_E_INVAL, "mailbox is NULL");
	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_says(bus_recv(polled, 0, &msg), BUS_E_CLOSED, "mailbox 2", "closed");
	ck_says(bus_dispatch(polled, 0, 0), BUS_E_CLOSED, "mailbox 2", "closed");
	bus_mailbox_close(driven);
	bus_mailbox_close(polled);
}
END_TEST

/* --- requests, roles, kept messages ----------------------------------------------------------------------------- */

START_TEST(a_request_names_its_topic_and_its_patience)
{
	struct bus *bus = open_private();
	struct bus_msg question = {
	    .size = sizeof question, .topic = "ask/me", .flags = BUS_MSG_RETAIN};
	const struct bus_msg plain = {.size = sizeof plain, .topic = "no/question"};
	struct bus_mailbox *mbox;
	const struct bus_msg *reply;

	ck_says(
	    bus_request(bus, "ask/me", "", 0, 1, &reply), BUS_E_NOBODY, "ask/me: ", "no responder");
	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "ask/#", NULL, NULL, NULL), 0);
	ck_says(bus_request(bus, "ask/me", "", 0, 1, &reply), BUS_E_TIMEDOUT, "ask/me: ", "1 ms");
	ck_says(bus_request(bus, "ask/+", "", 0, 1, &reply), BUS_E_TOPIC_WILDCARD, "ask/+: ");
	ck_says(bus_request(bus, "ask/me", NULL, 1, 1, &reply), BUS_E_INVAL, "ask/me: ");
	ck_says(bus_request_msg(bus, &question, 1, &reply), BUS_E_INVAL, "ask/me: ", "RETAIN");
	ck_says(bus_request_msg(bus, NULL, 1, &reply), BUS_E_INVAL, "question is NULL");
	ck_says(bus_request_start(mbox, "ask/+", "", 0, 1, ignore_message, NULL, NULL),
	    BUS_E_TOPIC_WILDCARD, "ask/+: ");
	ck_says(bus_request_start(NULL, "ask", "", 0, 1, ignore_message, NULL, NULL), BUS_E_INVAL,
	    "mailbox");
	ck_says(bus_reply(bus, &plain, "", 0), BUS_E_INVAL, "no/question: ", "reply_to");
	ck_says(bus_reply(bus, NULL, "", 0), BUS_E_INVAL, "NULL");
	question.size = 9;
	ck_says(bus_request_msg(bus, &question, 1, &reply), BUS_E_INVAL, "bus_msg", "9");
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(a_role_names_itself)
{
	struct bus *private = open_private(), *one = open_named("roles", 0),
		   *two = open_named("roles", 0);
	struct bus_role *role, *other;

	ck_bus(bus_role_take(one, "heater", 0, &role), 0);
	ck_says(bus_role_take(two, "heater", 1, &other), BUS_E_TIMEDOUT, "heater: ", "1 ms");
	ck_says(bus_role_take(private, "heater", 0, &other), BUS_E_NOTSUP, "heater: ", "name");
	ck_says(bus_role_take(one, "a/#", 0, &other), BUS_E_TOPIC_WILDCARD, "a/#: ");
	ck_says(bus_role_take(one, "a", 0, NULL), BUS_E_INVAL, "a: ", "ret_role");
	bus_role_end(role);
	bus_close(two, 0);
	bus_close(one, 0);
	bus_close(private, 0);
}
END_TEST

START_TEST(bus_keep_names_the_filter_and_the_bound)
{
	struct bus *bus = open_private(), *named = open_named("keeps", 0);
	struct bus_keep_config cfg = {.size = sizeof cfg, .last = 10001};
	char filter[32];

	ck_says(bus_keep(bus, "a/#", &cfg), BUS_E_LIMIT, "a/#: ", "last: 10001", "10000");
	cfg = (struct bus_keep_config){.size = sizeof cfg, .max_bytes = UINT64_C(5) << 30};
	ck_says(bus_keep(bus, "a/#", &cfg), BUS_E_LIMIT, "a/#: ", "max_bytes: 5368709120");
	cfg.size = 7;
	ck_says(bus_keep(bus, "a/#", &cfg), BUS_E_INVAL, "bus_keep_config", "7");
	ck_says(bus_keep(named, "a/#", NULL), BUS_E_NOTSUP, "a/#: ", "private");
	ck_says(bus_keep(bus, "a/b#", NULL), BUS_E_FILTER, "a/b#: ", "level 2");
	for (int i = 0; i < 256; i++) {
		snprintf(filter, sizeof filter, "keep/%d", i);
		ck_bus(bus_keep(bus, filter, NULL), 0);
	}
	ck_says(bus_keep(bus, "one/more", NULL), BUS_E_LIMIT, "one/more: ", "256 filters");
	bus_close(named, 0);
	bus_close(bus, 0);
}
END_TEST

/* --- links ------------------------------------------------------------------------------------------------------- */

START_TEST(a_link_names_its_address_and_the_reason)
{
	struct bus_link_config cfg = {.size = sizeof cfg, .heartbeat_ms = 1};
	struct bus_link_stats stats = {.size = 6};
	struct bus *bus = open_private();
	char url[600], text[2];
	struct bus_link *link;

	ck_says(bus_dial(bus, "mqtt://x", NULL, &link), BUS_E_SCHEME, "mqtt://x: ", "scheme");
	ck_says(bus_dial(bus, "tcp://x", NULL, &link), BUS_E_ADDRESS, "tcp://x: ", "address");
	ck_says(bus_listen(bus, "tcp://8.8.8.8:1", NULL, &link), BUS_E_NOT_LOOPBACK,
	    "tcp://8.8.8.8:1: ", "127.0.0.1");
	ck_says(bus_listen(bus, "inproc://a", &cfg, &link), BUS_E_INVAL,
	    "inproc://a: ", "heartbeat_ms: 1");
	cfg.size = 4;
	ck_says(bus_listen(bus, "inproc://a", &cfg, &link), BUS_E_INVAL, "bus_link_config", "4");
	ck_says(bus_listen(bus, NULL, NULL, &link), BUS_E_INVAL, "address is NULL");
	snprintf(url, sizeof url, "ipc://%s/missing/socket", bus_test_dir());
	ck_says(bus_listen(bus, url, NULL, &link), BUS_E_SYS, url, strerror(ENOENT));
	ck_bus(bus_listen(bus, "inproc://taken", NULL, &link), 0);
	ck_says(bus_listen(bus, "inproc://taken", NULL, NULL), BUS_E_ADDRESS_TAKEN,
	    "inproc://taken: ", "in use");
	ck_says(bus_link_url(link, text, sizeof text), BUS_E_LIMIT, "inproc://taken: ", "15 bytes");
	ck_says(bus_link_stats(link, &stats), BUS_E_INVAL, "bus_link_stats", "6");
	bus_link_close(link);
	bus_close(bus, 0);
}
END_TEST

/* --- values ------------------------------------------------------------------------------------------------------- */

START_TEST(a_value_that_cannot_be_read_or_packed_names_its_place)
{
	const struct bus_value *value;
	struct bus_packer *packer;
	const void *data;
	size_t len;

	ck_says(bus_value_read(BUS_TYPE_TEXT, "caf\xc3\xa9 \xff", 7, &value), BUS_E_DECODE,
	    "text of 7", "byte 6");
	ck_says(bus_value_read(BUS_TYPE_TEXT, "abc\x80", 4, &value), BUS_E_DECODE, "byte 3");
	ck_says(bus_value_read(BUS_TYPE_JSON, "[1,", 3, &value), BUS_E_DECODE, "JSON of 3 bytes");
	ck_says(bus_value_read(BUS_TYPE_JSON, "[1,  oops]", 10, &value), BUS_E_DECODE,
	    "JSON of 10 bytes", "byte 8");
	ck_says(bus_value_read(BUS_TYPE_JSON, NULL, 0, &value), BUS_E_DECODE, "JSON of 0 bytes");
	ck_says(bus_value_read(BUS_TYPE_MSGPACK, "\x92\x01", 2, &value), BUS_E_DECODE,
	    "msgpack of 2 bytes", "byte 2");
	ck_says(bus_value_read(BUS_TYPE_MSGPACK, "\x92\x01\xa2\xff\xff", 5, &value), BUS_E_DECODE,
	    "msgpack of 5 bytes", "byte 2");
	ck_bus(bus_packer_new(&packer), 0);
	ck_says(bus_packer_data(packer, &data, &len), BUS_E_INVAL, "not a whole value");
	bus_pack_array(packer, 2);
	bus_pack_text(packer, "\xff", 1);
	ck_says(bus_packer_data(packer, &data, &len), BUS_E_DECODE, "byte 1", "UTF-8");
	bus_packer_reset(packer);
	bus_pack_array(packer, BUS_PACK_ELEMENTS);
	ck_says(bus_packer_data(packer, &data, &len), BUS_E_LIMIT, "byte 0", "65536 values");
	bus_packer_reset(packer);
	bus_pack_nil(packer);
	bus_pack_nil(packer);
	ck_says(bus_packer_data(packer, &data, &len), BUS_E_INVAL, "byte 1", "whole value");
	bus_packer_free(packer);
}
END_TEST

/* --- counters ----------------------------------------------------------------------------------------------------- */

START_TEST(a_size_that_is_not_ours_is_named_with_its_struct)
{
	struct bus *bus = open_private(), *named = open_named("sizes", 0);
	struct bus_log_stats log = {.size = 1};
	struct bus_member member = {.size = 2};
	struct bus_stats stats = {.size = 3};
	struct bus_msg msg = {.size = 4, .topic = "a"};
	const struct bus_msg *kept;

	ck_says(bus_log_stats(named, &log), BUS_E_INVAL, "bus_log_stats", "1");
	ck_says(bus_member(named, 0, &member), BUS_E_INVAL, "bus_member", "2");
	ck_says(bus_stats(bus, &stats), BUS_E_INVAL, "bus_stats", "3");
	ck_says(bus_msg_keep(&msg, &kept), BUS_E_INVAL, "bus_msg", "4");
	log.size = sizeof log;
	member.size = sizeof member;
	ck_says(bus_log_stats(bus, &log), BUS_E_NOTSUP, "private");
	ck_says(bus_member(bus, 0, &member), BUS_E_NOTSUP, "private");
	ck_says(bus_member(named, BUS_LIMIT_MEMBERS, &member), BUS_E_INVAL, "member 1022");
	ck_says(bus_explain(bus, "a/+", NULL, 0), BUS_E_TOPIC_WILDCARD, "a/+: ");
	bus_close(named, 0);
	bus_close(bus, 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("error calls");

	BUS_TEST_CASE(suite, "open", bus_open_names_the_bus_the_option_and_the_limit,
	    bus_open_names_the_directory_that_other_users_can_write,
	    bus_open_says_that_retained_values_leave_no_room_for_its_will,
	    bus_open_reports_that_descriptors_have_run_out);
	BUS_TEST_CASE(suite, "subscribe", bus_subscribe_names_the_filter_and_its_fault);
	BUS_TEST_CASE(suite, "publish", a_payload_too_big_is_named_with_its_topic_size_and_limit,
	    a_full_mailbox_is_named_with_the_topic, the_limit_of_topics_is_named_with_its_numbers,
	    the_topic_limit_of_a_named_bus_is_not_reported_as_one_of_its_log,
	    full_values_of_a_named_bus_are_named_with_their_numbers, a_topic_that_is_none_is_named);
	BUS_TEST_CASE(suite, "mailbox", a_mailbox_that_cannot_be_names_the_option,
	    a_call_on_a_mailbox_names_it);
	BUS_TEST_CASE(suite, "request", a_request_names_its_topic_and_its_patience,
	    a_role_names_itself, bus_keep_names_the_filter_and_the_bound);
	BUS_TEST_CASE(suite, "link", a_link_names_its_address_and_the_reason);
	BUS_TEST_CASE(suite, "value", a_value_that_cannot_be_read_or_packed_names_its_place);
	BUS_TEST_CASE(suite, "counters", a_size_that_is_not_ours_is_named_with_its_struct);
	return suite;
}
