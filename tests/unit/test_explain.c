#include "world.h"

#include <stdio.h>
#include <string.h>

#include <libbus/transport.h>

#include "bus/bus_internal.h"
#include "bus/explain.h"
#include "bus/notice.h"
#include "topic/near.h"

static const char *
explain(struct bus *bus, const char *topic)
{
	static char text[65536];
	int len = bus_explain(bus, topic, text, sizeof text);

	ck_assert_int_gt(len, 0);
	ck_assert_uint_eq((size_t)len, strlen(text));
	return text;
}

/* Whether one of the lines is exactly this. */
static bool
has_line(const char *text, const char *line)
{
	size_t len = strlen(line);

	for (const char *at = text; (at = strstr(at, line)) != NULL; at += len)
		if ((at == text || at[-1] == '\n') && at[len] == '\n')
			return true;
	return false;
}

#define ck_line(text, line) ck_assert_msg(has_line(text, line), "no line \"%s\" in\n%s", line, text)

/* --- nearness ------------------------------------------------------------------------------------------ */

START_TEST(filters_miss_a_topic_narrowly_in_eight_ways)
{
	static const struct {
		const char *filter, *topic;
		enum near near;
	} cases[] = {
	    {"room/kitchen/temp", "room/kitchen/temp", NEAR_MATCH},
	    {"room/+/temp", "room/kitchen/temp", NEAR_MATCH},
	    {"room/#", "room", NEAR_MATCH},
	    {"#", "room/kitchen", NEAR_MATCH},
	    {"$bus/#", "$bus/drops", NEAR_MATCH},
	    {"Room/+/temp", "room/kitchen/temp", NEAR_CASE},
	    {"ROOM/Kitchen", "room/kitchen", NEAR_CASE},
	    {"Room/#", "room/kitchen/temp", NEAR_CASE},
	    {"/room/kitchen", "room/kitchen", NEAR_SLASH},
	    {"room/+", "/room/kitchen", NEAR_SLASH},
	    {"room/kitchen/", "room/kitchen", NEAR_SLASH},
	    {"room/kitchen", "room/kitchen/", NEAR_SLASH},
	    {"room", "room/kitchen/temp", NEAR_SHORT},
	    {"room/+", "room/kitchen/temp", NEAR_SHORT},
	    {"#", "$bus/drops", NEAR_RESERVED},
	    {"+/drops", "$bus/drops", NEAR_RESERVED},
	    {"+/other", "$bus/drops", NEAR_NOT},
	    {"room/kichen/temp", "room/kitchen/temp", NEAR_NAME},
	    {"room/ktichen/+", "room/kitchen/temp", NEAR_NAME},
	    {"rom", "room", NEAR_NAME},
	    {"temprature", "temperature", NEAR_NAME},
	    {"sensor/temp1", "sensor/temp2", NEAR_LEVEL}, /* two things, not two spellings */
	    {"sensor/117", "sensor/118", NEAR_LEVEL},
	    {"on", "of", NEAR_NOT},
	    {"home/room/kitchen", "room/kitchen", NEAR_SURPLUS},
	    {"room/first/kitchen", "room/kitchen", NEAR_SURPLUS},
	    {"home/room/#", "room/kitchen/temp", NEAR_SURPLUS},
	    {"room/hall/#", "room/kitchen/temp", NEAR_LEVEL},
	    {"hall/+", "room", NEAR_NOT}, /* the rest would match anything */
	    {"hall/#", "room", NEAR_NOT},
	    {"kitchen/temp", "room/kitchen/temp", NEAR_MISSING},
	    {"room/temp", "room/kitchen/temp", NEAR_MISSING},
	    {"room/temp/#", "room/kitchen/temp/raw", NEAR_MISSING},
	    {"+/+", "a/b/c", NEAR_SHORT},
	    {"a/b/c/d", "a/b", NEAR_NOT},
	    {"hall/+/temp", "room/kitchen/temp", NEAR_LEVEL},
	    {"hall", "room", NEAR_NOT}, /* any name would be near any other */
	    {"hall/bath", "room/kitchen", NEAR_NOT},
	    {"room/kitchen/temp", "room/kitchen", NEAR_SURPLUS},
	    {"/", "a", NEAR_NOT},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ck_assert_msg(bus__near(cases[i].filter, cases[i].topic) == cases[i].near,
		    "%s comes to %s by %d", cases[i].filter, cases[i].topic,
		    bus__near(cases[i].filter, cases[i].topic));
}
END_TEST

START_TEST(filter_matches_in_words_exactly_when_it_does_in_fact)
{
	static const char *const filters[] = {"#", "+", "a", "a/#", "+/#", "a/+", "+/b", "a/b",
	    "/#", "/+", "+/+", "a//b", "a/+/b", "a/", "/", "$x/#", "$x/+", "+/y", "$x/y"};
	static const char *const topics[] = {
	    "a", "a/b", "a/", "/a", "/", "a//b", "a/b/b", "b/b", "ab"};
	enum { FILTERS = sizeof filters / sizeof filters[0] };
	struct bus *bus = open_bus();
	struct bus_mailbox *mboxes[FILTERS];
	const struct bus_msg *msg;

	for (size_t f = 0; f < FILTERS; f++)
		mboxes[f] = open_mailbox(bus, filters[f], .bytes = 4096);
	for (size_t t = 0; t < sizeof topics / sizeof topics[0]; t++) {
		publish_text(bus, topics[t], "x");
		for (size_t f = 0; f < FILTERS; f++)
			ck_assert_msg((bus__near(filters[f], topics[t]) == NEAR_MATCH) ==
					  (bus_recv(mboxes[f], 0, &msg) == 1),
			    "%s and %s", filters[f], topics[t]);
	}
	for (size_t f = 0; f < FILTERS; f++)
		bus_mailbox_close(mboxes[f]);
	bus_close(bus, 0);
}
END_TEST

/* --- the text ------------------------------------------------------------------------------------------ */

START_TEST(text_names_the_receivers_and_the_fate_of_earlier_messages)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox =
	    open_mailbox(bus, "room/#", .full = BUS_FULL_DROP_NEWEST, .bytes = 4096);
	char big[1000] = "";
	const char *text;

	ck_bus(bus_mailbox_subscribe(mbox, "room/+/temp", NULL, NULL, NULL), 0);
	ck_bus(bus_subscribe(bus, "room/kitchen/temp", ignore_message, NULL, NULL), 0);
	ck_bus(bus_subscribe(bus, "room/kitchen/temp", ignore_message, NULL, NULL), 0);
	for (int i = 0; i < 6; i++)
		ck_bus(bus_publish(bus, "room/kitchen/temp", big, sizeof big), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	text = explain(bus, "room/kitchen/temp");
	ck_line(text, "mailbox 1 gets it by room/#");
	ck_line(text, "mailbox 1 gets it by room/+/temp");
	ck_line(text, "mailbox 1: drop_newest, 4096 bytes, drained by its caller");
	ck_line(text, "mailbox 1: 0 delivered, 4 waiting");
	ck_line(text, "mailbox 1: 2 lost, full");
	ck_line(text, "mailbox 2 gets it by room/kitchen/temp, for 2 subscriptions");
	ck_line(text, "mailbox 2: drop_oldest, 262144 bytes, drained by its own thread, the "
		      "default one of bus_subscribe()");
	ck_line(text, "mailbox 2: 6 delivered, 0 waiting");
	ck_line(text, "keeps no value for new subscriptions");
	ck_assert_ptr_null(strstr(text, "nobody"));
	bus_mailbox_close(mbox);
	bus_close(bus, 1000);
}
END_TEST

START_TEST(text_names_filters_that_nearly_match)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "Room/kitchen", .bytes = 4096);
	const char *text;

	ck_bus(bus_mailbox_subscribe(mbox, "/room/kitchen", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "room", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "room/kichen", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "something/else/entirely", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "+/drops", NULL, NULL, NULL), 0);
	text = explain(bus, "room/kitchen");
	ck_line(text, "mailbox 1 does not get it by Room/kitchen: upper and lower case differ");
	ck_line(text,
	    "mailbox 1 does not get it by /room/kitchen: it begins with a slash, the topic does not");
	ck_line(text, "mailbox 1 does not get it by room: it is too short and does not end in /#");
	ck_line(text, "mailbox 1 does not get it by room/kichen: one level is spelled otherwise");
	ck_line(text, "not delivered: no filter matches room/kitchen");
	ck_line(text, "unknown topic: it was not published here, and has no handle");
	ck_assert_ptr_null(strstr(text, "entirely"));
	ck_line(explain(bus, "$bus/drops"), "mailbox 1 does not get it by +/drops: no wildcard "
					    "stands for a name that begins with $");
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(many_near_filters_are_counted_instead_of_listed)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .bytes = 4096);
	char filter[32];
	const char *text;

	for (int i = 0; i < 100; i++) {
		snprintf(filter, sizeof filter, "sensor/%d/temp", i);
		ck_bus(bus_mailbox_subscribe(mbox, filter, NULL, NULL, NULL), 0);
	}
	text = explain(bus, "sensor/7/temp");
	ck_line(text, "mailbox 1 gets it by sensor/7/temp");
	ck_line(text, "91 more filters differ in one level");
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(text_reports_a_kept_value_and_publishes_without_a_subscriber)
{
	struct bus *bus = open_bus();
	const struct bus_msg kept = {
	    .size = sizeof kept, .topic = "state", .data = "on", .len = 2, .flags = BUS_MSG_RETAIN};
	struct bus_pub *pub;

	ck_bus(bus_publish_msg(bus, &kept), 0);
	ck_line(explain(bus, "state"), "keeps a value of 2 bytes for new subscriptions");
	ck_bus(bus_keep(bus, "last",
		   &(struct bus_keep_config){.size = sizeof(struct bus_keep_config), .last = 3}),
	    0);
	publish_text(bus, "last", "x");
	publish_text(bus, "last", "xyz");
	ck_line(
	    explain(bus, "last"), "keeps 2 of the last 3 messages, 4 bytes, for new subscriptions");
	publish_text(bus, "t", "x");
	publish_text(bus, "t", "x");
	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	ck_bus(bus_pub_send(pub, "x", 1), 0);
	ck_line(explain(bus, "t"), "published 3 times without a subscriber");
	bus_pub_close(pub);
	bus_close(bus, 0);
}
END_TEST

START_TEST(text_reports_peers)
{
	struct bus *a = open_bus(), *b = open_bus();
	struct bus_mailbox *mbox = open_mailbox(b, "from/#", .bytes = 4096);
	struct bus_link *la, *lb;

	ck_bus(bus_listen(a, "inproc://explain", NULL, &la), 0);
	ck_bus(bus_dial(b, "inproc://explain", NULL, &lb), 0);
	ck_eventually(has_line(explain(a, "from/a"), "peer 1 gets it by from/#"));
	ck_assert_ptr_nonnull(strstr(explain(a, "from/a"), "bytes, drained by its link\n"));
	bus_link_close(lb);
	bus_link_close(la);
	bus_mailbox_close(mbox);
	bus_close(b, 1000);
	bus_close(a, 1000);
}
END_TEST

START_TEST(a_name_with_line_breaks_stays_on_its_line)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "a\nmailbox 9 gets it", .bytes = 4096);

	ck_line(explain(bus, "a\nmailbox 9 gets it"), "mailbox 1 gets it by a?mailbox 9 gets it");
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(text_that_does_not_fit_is_cut_and_its_length_returned)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "#", .bytes = 4096);
	char whole[4096], part[4096];
	int len = bus_explain(bus, "a/b", NULL, 0);

	ck_assert_int_gt(len, 20);
	ck_bus(bus_explain(bus, "a/b", whole, sizeof whole), len);
	ck_assert_uint_eq(strlen(whole), (size_t)len);
	for (size_t cap = 1; cap <= (size_t)len + 1; cap++) {
		memset(part, 'X', sizeof part);
		ck_bus(bus_explain(bus, "a/b", part, cap), len);
		ck_assert_uint_eq(strlen(part), cap - 1);
		ck_assert(memcmp(part, whole, cap - 1) == 0);
		ck_assert_int_eq(part[cap], 'X'); /* nothing is written beyond it */
	}
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(explain_refuses_a_malformed_topic)
{
	struct bus *bus = open_bus();
	char text[8];

	ck_bus(bus_explain(NULL, "a", text, sizeof text), BUS_E_INVAL);
	ck_bus(bus_explain(bus, NULL, text, sizeof text), BUS_E_INVAL);
	ck_bus(bus_explain(bus, "a", NULL, 1), BUS_E_INVAL);
	ck_bus(bus_explain(bus, "", text, sizeof text), BUS_E_TOPIC_EMPTY);
	ck_bus(bus_explain(bus, "a/+", text, sizeof text), BUS_E_TOPIC_WILDCARD);
	ck_bus(bus_explain(bus, "$bus/#", text, sizeof text), BUS_E_TOPIC_WILDCARD);
	bus_close(bus, 0);
}
END_TEST

START_TEST(both_warnings_are_in_the_text)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, "room/kichen", .bytes = 4096);
	const char *text;
	char want[128];

	for (int i = 0; i < UNHEARD_MANY; i++)
		publish_text(bus, "room/kitchen", "x");
	mbox->subs->since_s -= UNMATCHED_LONG; /* as if it were a minute ago */
	text = explain(bus, "room/kitchen");
	ck_line(text, "warning: published 1000 times without a subscriber");
	snprintf(want, sizeof want, "warning: room/kichen: subscribed %d s, nothing ever matched",
	    UNMATCHED_LONG);
	if (!has_line(text, want)) { /* a second may just have passed */
		snprintf(want, sizeof want,
		    "warning: room/kichen: subscribed %d s, nothing ever matched",
		    UNMATCHED_LONG + 1);
		ck_line(text, want);
	}
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("explain");

	BUS_TEST_CASE(suite, "near", filters_miss_a_topic_narrowly_in_eight_ways,
	    filter_matches_in_words_exactly_when_it_does_in_fact);
	BUS_TEST_CASE(suite, "text", text_names_the_receivers_and_the_fate_of_earlier_messages,
	    text_names_filters_that_nearly_match, many_near_filters_are_counted_instead_of_listed,
	    text_reports_a_kept_value_and_publishes_without_a_subscriber, text_reports_peers,
	    a_name_with_line_breaks_stays_on_its_line,
	    text_that_does_not_fit_is_cut_and_its_length_returned,
	    explain_refuses_a_malformed_topic, both_warnings_are_in_the_text);
	return suite;
}
