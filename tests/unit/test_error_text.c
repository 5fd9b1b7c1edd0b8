/* bus_last_error(): which call sets the text, and its length. */
#define _GNU_SOURCE
#include "error_text_test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/libbus.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "bus/bus_internal.h"
#include "mailbox/mailbox.h"
#include "bus/notice.h"
#include "log/log.h"

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
	ck_bus(bus_subscribe(bus, "a/#", ignore_message, NULL, NULL), 0);
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

START_TEST(only_the_bytes_that_are_no_text_are_replaced)
{
	static const struct {
		const char *topic, *shown;
	} cases[] = {
	    {"abc\x80", "abc?: "},
	    {"\xc3\xa9\x80z", "\xc3\xa9?z: "},
	    {"\xe2\x82z\xe2\x82\xac", "??z\xe2\x82\xac: "},
	    {"\xff\xf0\x9f\x98\x80", "?\xf0\x9f\x98\x80: "},
	};
	struct bus *bus = open_private();

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ck_bus(bus_publish(bus, cases[i].topic, "", 0), BUS_E_TOPIC_BYTES);
		ck_assert_msg(
		    strncmp(bus_error_text(), cases[i].shown, strlen(cases[i].shown)) == 0, "%s",
		    bus_error_text());
	}
	bus_close(bus, 0);
}
END_TEST

START_TEST(a_text_is_cut_between_characters)
{
	static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
	char text[600];

	for (size_t i = 0; i < sizeof characters / sizeof characters[0]; i++)
		for (size_t shift = 0; shift < 4; shift++) {
			size_t bytes = strlen(characters[i]), len = shift;

			memset(text, 'x', shift);
			for (; len + bytes < sizeof text; len += bytes)
				memcpy(text + len, characters[i], bytes);
			text[len] = '\0';
			bus__fail(BUS_E_INVAL, "%s", text);
			len = strlen(bus_error_text());
			ck_assert_uint_eq(len, shift + (319 - shift) / bytes * bytes);
			ck_assert_int_eq(strncmp(bus_error_text(), text, len), 0);
		}
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

/* --- calls inside calls ----------------------------------------------------------------------------------------- */

struct crossing {
	struct bus *bus;
	pthread_t publisher;
	_Atomic bool ran, stop;
};

static void
fail_inside(void *arg, const struct bus_msg *msg)
{
	struct crossing *c = arg;

	(void)msg;
	if (pthread_equal(pthread_self(), c->publisher))
		c->ran = bus_publish(c->bus, "inside/+", "", 0) == BUS_E_TOPIC_WILDCARD;
}

/* Not while the publisher drains, which would then never end. Refused when it lost its CPU there. */
static void *
publish_beside(void *arg)
{
	struct crossing *c = arg;

	while (!c->stop)
		if (!c->ran)
			bus_publish(c->bus, "beside", "", 0);
	return NULL;
}

/* A publish that a full mailbox refuses owes wake-ups to the mailboxes it had claimed, and finds there the messages that others
 * have published since. It drains the first of them last, hence their number. */
START_TEST(a_callback_that_fails_inside_a_publish_that_fails_does_not_replace_its_text)
{
	const struct bus_mailbox_config driven = {
	    .size = sizeof driven, .full = BUS_FULL_REFUSE, .drain = BUS_DRAIN_PUBLISHER};
	const struct bus_mailbox_config small = {
	    .size = sizeof small, .full = BUS_FULL_REFUSE, .bytes = 4096};
	struct crossing c = {.bus = open_private(), .publisher = pthread_self()};
	struct bus_mailbox *first, *full, *others[100];
	pthread_t beside;

	ck_bus(bus_mailbox_open(c.bus, &driven, &first), 0);
	ck_bus(bus_mailbox_open(c.bus, &small, &full), 0);
	ck_bus(bus_mailbox_subscribe(first, "refused", fail_inside, &c, NULL), 0);
	ck_bus(bus_mailbox_subscribe(first, "beside", fail_inside, &c, NULL), 0);
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		ck_bus(bus_mailbox_open(c.bus, &driven, &others[i]), 0);
		ck_bus(bus_mailbox_subscribe(others[i], "refused", ignore_message, NULL, NULL), 0);
	}
	ck_bus(bus_mailbox_subscribe(full, "refused", NULL, NULL, NULL), 0);
	while (bus_publish(c.bus, "refused", "0123456789", 10) == 0)
		;
	ck_assert_int_eq(pthread_create(&beside, NULL, publish_beside, &c), 0);
	for (int times = 0; times < 10;) {
		c.ran = false;
		/* Mailbox 2 is full, and mailbox 1 too when its drainer has no CPU for long. */
		ck_says(bus_publish(c.bus, "refused", "0123456789", 10), BUS_E_FULL,
		    "refused: mailbox ", "is full");
		times += c.ran;
	}
	c.stop = true;
	ck_assert_int_eq(pthread_join(beside, NULL), 0);
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		bus_mailbox_close(others[i]);
	bus_mailbox_close(full);
	bus_mailbox_close(first);
	bus_close(c.bus, 0);
}
END_TEST

static void
fail_at_the_end(void *arg, const struct bus_msg *reply)
{
	struct crossing *c = arg;

	ck_assert_ptr_null(reply);
	ck_bus(bus_publish(c->bus, "inside/+", "", 0), BUS_E_TOPIC_WILDCARD);
	c->ran = !pthread_equal(pthread_self(), c->publisher);
}

struct dispatching {
	struct bus_mailbox *mbox;
	int err;
	char text[400];
};

static void *
dispatch_until_closed(void *arg)
{
	struct dispatching *d = arg;

	do
		d->err = bus_dispatch(d->mbox, -1, 0);
	while (d->err >= 0);
	snprintf(d->text, sizeof d->text, "%s", bus_error_text());
	return NULL;
}

/* Of the closing and the dispatching thread, the last to leave ends the mailbox's requests. */
START_TEST(a_request_that_ends_inside_a_dispatch_that_fails_does_not_replace_its_text)
{
	struct crossing c = {.bus = open_private(), .publisher = pthread_self()};
	struct bus_mailbox *silent;
	pthread_t thread;

	ck_bus(bus_mailbox_open(c.bus, NULL, &silent), 0);
	ck_bus(bus_mailbox_subscribe(silent, "ask", NULL, NULL, NULL), 0);
	for (int times = 0; times < 3; times += c.ran) {
		struct dispatching d = {.err = 0};

		c.ran = false;
		ck_bus(bus_mailbox_open(c.bus, NULL, &d.mbox), 0);
		ck_bus(bus_request_start(d.mbox, "ask", "", 0, -1, fail_at_the_end, &c, NULL), 0);
		ck_assert_int_eq(pthread_create(&thread, NULL, dispatch_until_closed, &d), 0);
		ck_eventually(atomic_load(&d.mbox->busy));
		bus_mailbox_close(d.mbox);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
		ck_bus(d.err, BUS_E_CLOSED);
		ck_assert_msg(strstr(d.text, "closed") != NULL, "%s", d.text);
	}
	bus_mailbox_close(silent);
	bus_close(c.bus, 0);
}
END_TEST

START_TEST(a_warning_without_memory_leaves_the_text)
{
	struct bus *bus = open_private();
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "$bus/#", NULL, NULL, NULL), 0);
	ck_bus(bus_publish(bus, "unheard", "", 0), 0);
	ck_bus(bus_publish(bus, "before/+", "", 0), BUS_E_TOPIC_WILDCARD);
	bus__mem_fail_many(0, 1000000);
	for (int i = 0; i < 2 * UNHEARD_MANY; i++)
		ck_bus(bus_publish(bus, "unheard", "", 0), 0);
	bus__mem_fail_after(-1);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "before/+"));
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("error text");

	BUS_TEST_CASE(suite, "text", before_the_first_failure_the_text_is_that_of_success,
	    a_call_that_succeeds_leaves_the_text, the_next_failure_replaces_the_text,
	    a_thread_does_not_see_the_failures_of_another,
	    a_forked_child_has_the_text_and_gets_its_own,
	    the_text_is_one_printable_line_whatever_the_topic_is,
	    only_the_bytes_that_are_no_text_are_replaced, a_text_is_cut_between_characters,
	    a_failure_keeps_errno);
	BUS_TEST_CASE(suite, "inside",
	    a_callback_that_fails_inside_a_publish_that_fails_does_not_replace_its_text,
	    a_request_that_ends_inside_a_dispatch_that_fails_does_not_replace_its_text,
	    a_warning_without_memory_leaves_the_text);
	return suite;
}
