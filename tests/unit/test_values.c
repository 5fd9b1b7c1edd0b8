/* Retained values converge: whatever was changed while a link was down or its mailbox full, and whatever the clocks say. */
#define _GNU_SOURCE
#include "link_test.h"
#include "wrong_clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/version.h"
#include "core/peer.h"
#include "link/session.h"
#include "log/log.h"
#include "log_test.h"

#include "cut.h"
#include "values_model.h"

enum { HOUR_S = 3600, TOPICS = 64 };

static const struct bus_link_config patient = {.size = sizeof patient, .heartbeat_ms = 3600000};
static const struct bus_link_config narrow = {
    .size = sizeof narrow, .heartbeat_ms = 3600000, .bytes = 4096};

/* --- values ------------------------------------------------------------------------------------------------------ */

/* What a topic keeps; "": nothing. Its filter is one that is there already: a new one would fetch what peers retain_text. */
static const char *
value_of(struct bus *bus, const char *topic)
{
	static char text[256];
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;

	text[0] = '\0';
	ck_bus(bus_mailbox_open(bus,
		   &(struct bus_mailbox_config){
		       .size = sizeof(struct bus_mailbox_config), .bytes = 1 << 22},
		   &mbox),
	    0);
	ck_bus(bus_mailbox_subscribe(mbox, "v/#", NULL, NULL, NULL), 0);
	while (bus_recv(mbox, 0, &msg) == 1)
		if (msg->flags & BUS_MSG_KEPT && strcmp(msg->topic, topic) == 0)
			snprintf(text, sizeof text, "%.*s", (int)msg->len, (const char *)msg->data);
	bus_mailbox_close(mbox);
	return text;
}

static bool
has(struct bus *bus, const char *topic, const char *text)
{
	return strcmp(value_of(bus, topic), text) == 0;
}

/* --- two buses and a wire ------------------------------------------------------------------------------------------ */

struct duo {
	struct bus *a, *b;
	struct bus_link *la, *lb;
	struct cut cut;
	struct heard at_a, at_b;
	char url[256];
};

static void
open_duo(struct duo *d, bool named, const struct bus_link_config *cfg)
{
	const struct bus_config in = {
	    .size = sizeof in, .dir = bus_test_dir(), .log_bytes = LOG_BYTES_LEAST};

	ck_bus(bus_open(named ? "a" : NULL, named ? &in : NULL, &d->a), 0);
	d->b = open_bus();
	ck_bus(bus_subscribe(d->a, "v/#", hear, &d->at_a, NULL), 0);
	ck_bus(bus_subscribe(d->b, "v/#", hear, &d->at_b, NULL), 0);
	ck_bus(bus_listen(d->a, "tcp://127.0.0.1:0", cfg, &d->la), 0);
	ck_assert_int_gt(bus_link_url(d->la, d->url, sizeof d->url), 0);
	cut_open(&d->cut, d->url);
}

static void
link_duo(struct duo *d, const struct bus_link_config *cfg)
{
	ck_bus(bus_dial(d->b, d->cut.url, cfg, &d->lb), 0);
	ck_eventually(is_up(d->lb) && stats_of(d->la).peers == 1);
}

static void
cut_duo(struct duo *d)
{
	d->cut.is_cut = true;
	ck_eventually(stats_of(d->la).peers == 0 && !is_up(d->lb));
	d->cut.is_cut = false;
}

static void
mend_duo(struct duo *d)
{
	ck_eventually(is_up(d->lb) && stats_of(d->la).peers == 1);
}

static void
close_duo(struct duo *d)
{
	if (d->lb != NULL)
		bus_link_close(d->lb);
	bus_link_close(d->la);
	ck_assert_int_ge(bus_close(d->b, 5000), 0);
	ck_assert_int_ge(bus_close(d->a, 5000), 0);
	cut_close(&d->cut);
}

START_TEST(the_side_with_more_changes_wins_whatever_the_clocks_say)
{
	struct duo d = {.a = NULL};

	open_duo(&d, _i, &patient);
	wrong_by_s = 5 * HOUR_S;
	retain_text(d.a, "v/x", "a is hours ahead");
	wrong_by_s = -5 * HOUR_S;
	retain_text(d.b, "v/x", "first");
	retain_text(d.b, "v/x", "b has changed it more often");
	link_duo(&d, &patient);
	ck_eventually(has(d.a, "v/x", "b has changed it more often"));
	ck_assert(has(d.b, "v/x", "b has changed it more often"));
	close_duo(&d);
}
END_TEST

START_TEST(of_equally_many_changes_those_of_the_larger_id_win)
{
	struct duo d = {.a = NULL};
	bool a_wins;

	open_duo(&d, _i, &patient);
	a_wins = memcmp(bus__id(d.a), bus__id(d.b), BUS__BUS_ID) > 0;
	retain_text(d.a, "v/x", "a");
	retain_text(d.b, "v/x", "b");
	link_duo(&d, &patient);
	ck_eventually(has(d.a, "v/x", a_wins ? "a" : "b") && has(d.b, "v/x", a_wins ? "a" : "b"));
	close_duo(&d);
}
END_TEST

START_TEST(while_linked_the_last_change_wins_though_its_clock_was_set_back)
{
	struct duo d = {.a = NULL};

	open_duo(&d, _i, &patient);
	link_duo(&d, &patient);
	wrong_by_s = HOUR_S;
	retain_text(d.a, "v/x", "an hour ahead");
	ck_eventually(has(d.b, "v/x", "an hour ahead"));
	wrong_by_s = -HOUR_S;
	retain_text(d.b, "v/x", "an hour behind");
	ck_eventually(has(d.a, "v/x", "an hour behind"));
	retain_text(d.a, "v/x", "");
	ck_eventually(has(d.b, "v/x", ""));
	close_duo(&d);
}
END_TEST

START_TEST(a_deletion_while_the_link_was_down_deletes_on_the_other_side)
{
	struct duo d = {.a = NULL};

	open_duo(&d, _i, &patient);
	retain_text(d.a, "v/x", "FIRE");
	link_duo(&d, &patient);
	ck_eventually(has(d.b, "v/x", "FIRE"));
	cut_duo(&d);
	retain_text(d.a, "v/x", "");
	mend_duo(&d);
	ck_eventually(has(d.b, "v/x", ""));
	ck_assert(has(d.a, "v/x", ""));
	/* It is told to those who heard of the value. */
	ck_eventually(d.at_b.count == 2);
	ck_assert_uint_eq(d.at_b.msg.len, 0);
	/* A named bus has the message itself still in its log. */
	ck_assert_uint_eq(d.at_b.msg.flags, BUS_MSG_RETAIN | (_i ? 0 : BUS_MSG_KEPT));
	close_duo(&d);
}
END_TEST

START_TEST(the_end_of_a_value_that_was_not_known_is_noted_and_no_news)
{
	struct duo d = {.a = NULL};
	struct bus *c = open_bus();
	struct heard at_c = {.count = 0};
	struct bus_link *link;

	open_duo(&d, _i, &patient);
	ck_bus(bus_subscribe(c, "v/#", hear, &at_c, NULL), 0);
	ck_bus(bus_dial(c, d.url, &patient, &link), 0);
	ck_eventually(is_up(link) && stats_of(d.la).peers == 1);
	bus_link_close(link);
	ck_eventually(stats_of(d.la).peers == 0);
	retain_text(d.b, "v/x", "");
	retain_text(d.b, "v/x", "");
	link_duo(&d, &patient);
	retain_text(d.b, "v/last", "!");
	ck_eventually(has(d.a, "v/last", "!"));
	ck_eventually(d.at_a.count == 1);
	/* A third bus, which was here before, has an older value, which does not come to life. */
	retain_text(c, "v/x", "old");
	ck_bus(bus_dial(c, d.url, &patient, &link), 0);
	ck_eventually(has(c, "v/x", ""));
	ck_assert(has(d.a, "v/x", ""));
	bus_link_close(link);
	bus_close(c, 0);
	close_duo(&d);
}
END_TEST

START_TEST(a_bus_that_begins_anew_wins_with_what_it_published_before_its_link_was_up)
{
	struct heard at_anew = {.count = 0};
	struct duo d = {.a = NULL};
	struct bus_link *link;
	struct bus *anew;

	open_duo(&d, _i, &patient);
	link_duo(&d, &patient);
	for (int i = 0; i < 9; i++)
		retain_text(d.b, "v/x", i < 8 ? "often" : "of the old life");
	retain_text(d.b, "v/y", "to be deleted");
	retain_text(d.b, "v/z", "!");
	ck_eventually(has(d.a, "v/z", "!"));
	bus_link_close(d.lb);
	ck_eventually(stats_of(d.la).peers == 0);
	anew = open_bus();
	ck_bus(bus_subscribe(anew, "v/#", hear, &at_anew, NULL), 0);
	retain_text(anew, "v/x", "of the new life");
	retain_text(anew, "v/y", "");
	ck_bus(bus_dial(anew, d.url, &patient, &link), 0);
	ck_eventually(has(d.a, "v/x", "of the new life") && has(d.a, "v/y", ""));
	ck_eventually(has(anew, "v/z", "!"));
	ck_assert(has(anew, "v/x", "of the new life") && has(anew, "v/y", ""));
	/* And it knows how often that was changed: one more change of the other side wins now. */
	retain_text(d.a, "v/x", "last");
	ck_eventually(has(anew, "v/x", "last"));
	bus_link_close(link);
	ck_assert_int_ge(bus_close(anew, 5000), 0);
	d.lb = NULL;
	close_duo(&d);
}
END_TEST

START_TEST(of_two_buses_at_a_hub_the_one_that_changes_it_last_wins)
{
	struct duo d = {.a = NULL};
	struct bus *c = open_bus();
	struct heard at_c = {.count = 0};
	struct bus_link *link;
	char text[32];

	open_duo(&d, _i, &patient);
	link_duo(&d, &patient);
	ck_bus(bus_subscribe(c, "v/#", hear, &at_c, NULL), 0);
	ck_bus(bus_dial(c, d.url, &patient, &link), 0);
	ck_eventually(is_up(link) && stats_of(d.la).peers == 2);
	for (int i = 0; i < 20; i++) {
		snprintf(text, sizeof text, "change %d", i);
		/* Neither hears of what the other changes. */
		retain_text(i % 3 ? c : d.b, "v/x", text);
		ck_eventually(has(d.a, "v/x", text));
	}
	bus_link_close(link);
	ck_assert_int_ge(bus_close(c, 5000), 0);
	close_duo(&d);
}
END_TEST

START_TEST(a_program_changes_a_topic_that_it_has_not_asked_for)
{
	struct duo d = {.a = NULL};
	struct bus *c = open_bus();
	struct bus_link *link;

	open_duo(&d, _i, &patient);
	for (int i = 0; i < 9; i++)
		retain_text(d.a, "v/x", "often");
	ck_bus(bus_dial(c, d.url, &patient, &link), 0);
	ck_eventually(is_up(link));
	retain_text(c, "v/x", "on");
	ck_eventually(has(d.a, "v/x", "on"));
	retain_text(c, "v/x", "off");
	ck_eventually(has(d.a, "v/x", "off"));
	retain_text(d.a, "v/x", "by hand");
	retain_text(c, "v/x", "on");
	ck_eventually(has(d.a, "v/x", "on"));
	retain_text(c, "v/x", "");
	ck_eventually(has(d.a, "v/x", ""));
	bus_link_close(link);
	ck_assert_int_ge(bus_close(c, 5000), 0);
	d.lb = NULL;
	close_duo(&d);
}
END_TEST

/* Each of the two gives its changes a number, and it hears of neither. */
START_TEST(two_changes_of_a_program_that_has_gone_under_one_number_end_as_one)
{
	struct duo d = {.a = NULL};
	struct bus *maker = open_bus();
	struct bus_link *listener, *to_a, *to_b;
	char url[256];

	open_duo(&d, _i, &patient);
	for (int i = 0; i < 5; i++)
		retain_text(d.a, "v/x", "at a");
	for (int i = 0; i < 6; i++)
		retain_text(d.b, "v/x", "at b");
	ck_bus(bus_listen(maker, "tcp://127.0.0.1:0", &patient, &listener), 0);
	ck_assert_int_gt(bus_link_url(listener, url, sizeof url), 0);
	ck_bus(bus_dial(d.a, url, &patient, &to_a), 0);
	ck_bus(bus_dial(d.b, url, &patient, &to_b), 0);
	ck_eventually(is_up(to_a) && is_up(to_b));
	retain_text(maker, "v/x", "first");
	ck_eventually(has(d.a, "v/x", "first") && has(d.b, "v/x", "first"));
	bus_link_close(to_b);
	retain_text(maker, "v/x", "second");
	ck_eventually(has(d.a, "v/x", "second"));
	bus_link_close(to_a);
	bus_link_close(listener);
	ck_assert_int_ge(bus_close(maker, 5000), 0);
	link_duo(&d, &patient);
	ck_eventually(has(d.b, "v/x", "second"));
	ck_assert(has(d.a, "v/x", "second"));
	close_duo(&d);
}
END_TEST

START_TEST(a_peers_value_is_kept_though_a_mailbox_refuses_it)
{
	const struct bus_mailbox_config small = {.size = sizeof small,
	    .drain = BUS_DRAIN_CALLER,
	    .full = BUS_FULL_REFUSE,
	    .bytes = 4096};
	struct bus_stats stats = {.size = sizeof stats};
	struct bus_mailbox *mbox;
	struct duo d = {.a = NULL};
	char text[32];

	open_duo(&d, 0, &patient);
	ck_bus(bus_mailbox_open(d.a, &small, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "v/#", NULL, NULL, NULL), 0);
	link_duo(&d, &patient);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof text, "change %d", i);
		retain_text(d.b, "v/x", text);
	}
	ck_eventually(has(d.a, "v/x", text));
	ck_bus(bus_mailbox_stats(mbox, &stats), 0);
	ck_assert_uint_gt(stats.refused, 0);
	ck_assert_uint_eq(stats.offered, stats.refused + stats.pending);
	bus_mailbox_close(mbox);
	close_duo(&d);
}
END_TEST

START_TEST(a_change_right_behind_the_connection_wins_against_what_was_kept)
{
	struct duo d = {.a = NULL};
	char text[32];

	open_duo(&d, _i, &patient);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 9; i++)
			retain_text(d.a, "v/x", i < 8 ? "often" : "old");
		link_duo(&d, &patient);
		snprintf(text, sizeof text, "change %d", round);
		retain_text(d.b, "v/x", text);
		retain_text(d.b, "v/last", text);
		ck_eventually(has(d.a, "v/last", text) && has(d.a, "v/x", text));
		ck_assert(has(d.b, "v/x", text));
		bus_link_close(d.lb);
		ck_eventually(stats_of(d.la).peers == 0);
	}
	d.lb = NULL;
	close_duo(&d);
}
END_TEST

START_TEST(the_time_of_a_message_is_for_people_and_a_peers_is_not_in_the_future)
{
	const int64_t past_ns = INT64_C(1000000000);
	const int64_t future_ns = bus_test_now_ms() * 0 + INT64_MAX / 2;
	struct bus_msg msg = {.size = sizeof msg, .topic = "v/x", .flags = BUS_MSG_RETAIN};
	struct duo d = {.a = NULL};

	open_duo(&d, _i, &patient);
	link_duo(&d, &patient);
	msg.data = "future";
	msg.len = 6;
	msg.time_ns = future_ns;
	ck_bus(bus_publish_msg(d.a, &msg), 0);
	ck_eventually(has(d.b, "v/x", "future"));
	ck_eventually(d.at_b.count == 1 && d.at_a.count == 1);
	ck_assert_int_eq(d.at_a.msg.time_ns, future_ns);
	ck_assert_int_lt(d.at_b.msg.time_ns, future_ns);
	msg.data = "past";
	msg.len = 4;
	msg.time_ns = past_ns;
	ck_bus(bus_publish_msg(d.a, &msg), 0);
	ck_eventually(has(d.b, "v/x", "past"));
	ck_assert(has(d.a, "v/x", "past"));
	ck_eventually(d.at_b.count == 2);
	ck_assert_int_eq(d.at_b.msg.time_ns, past_ns);
	close_duo(&d);
}
END_TEST

START_TEST(a_mark_ends_and_the_next_value_is_newer_than_what_peers_remember)
{
	struct duo d = {.a = NULL};

	open_duo(&d, _i, &patient);
	link_duo(&d, &patient);
	for (int i = 0; i < 5; i++)
		retain_text(d.a, "v/x", "changed often");
	retain_text(d.a, "v/x", "");
	retain_text(d.b, "v/y", "!");
	ck_eventually(has(d.a, "v/y", "!") && has(d.b, "v/x", ""));
	cut_duo(&d);
	bus__mark_ns = 0;
	ck_assert(has(d.a, "v/x", "")); /* a looks, and forgets it */
	retain_text(d.a, "v/x", "again");
	bus__mark_ns = INT64_C(600) * 1000000000; /* b has not looked */
	mend_duo(&d);
	ck_eventually(has(d.b, "v/x", "again"));
	ck_assert(has(d.a, "v/x", "again"));
	close_duo(&d);
}
END_TEST

START_TEST(without_its_mark_an_older_value_comes_back)
{
	struct duo d = {.a = NULL};

	open_duo(&d, false, &patient);
	link_duo(&d, &patient);
	retain_text(d.a, "v/x", "old");
	ck_eventually(has(d.b, "v/x", "old"));
	cut_duo(&d);
	bus__mark_ns = 0;
	retain_text(d.a, "v/x", "");
	mend_duo(&d);
	ck_eventually(has(d.a, "v/x", "old"));
	ck_assert(has(d.b, "v/x", "old"));
	bus__mark_ns = INT64_C(600) * 1000000000;
	close_duo(&d);
}
END_TEST

START_TEST(of_too_many_marks_the_oldest_goes_first_and_its_topic_makes_room)
{
	const struct bus_config few = {.size = sizeof few, .max_topics = 8};
	struct bus_link *listens, *dials;
	struct bus *a, *b = open_bus();
	struct heard at_a = {.count = 0}, at_b = {.count = 0};
	char topic[16], url[256];

	ck_bus(bus_open(NULL, &few, &a), 0);
	ck_bus(bus_subscribe(a, "v/#", hear, &at_a, NULL), 0);
	for (int i = 0; i < 6; i++) {
		snprintf(topic, sizeof topic, "v/%d", i);
		retain_text(b, topic, "old");
		retain_text(a, topic, "1");
		retain_text(a, topic, "");
	}
	ck_bus(bus_listen(a, "tcp://127.0.0.1:0", &patient, &listens), 0);
	ck_assert_int_gt(bus_link_url(listens, url, sizeof url), 0);
	ck_bus(bus_subscribe(b, "v/#", hear, &at_b, NULL), 0);
	ck_bus(bus_dial(b, url, &patient, &dials), 0);
	ck_eventually(has(a, "v/0", "old") && has(a, "v/1", "old"));
	ck_eventually(has(b, "v/2", "") && has(b, "v/5", ""));
	ck_assert(has(a, "v/2", "") && has(a, "v/5", ""));
	/* Topics with values and marks are all that there may be: others make room only when marks end. */
	ck_bus(bus_publish(a, "other/1", "", 0), 0);
	ck_bus(bus_publish(a, "other/2", "", 0), 0);
	bus_link_close(dials);
	bus_link_close(listens);
	bus_close(b, 0);
	bus_close(a, 0);
}
END_TEST

START_TEST(a_value_that_expired_counts_as_deleted)
{
	struct bus_msg msg = {.size = sizeof msg,
	    .topic = "v/x",
	    .data = "short",
	    .len = 5,
	    .flags = BUS_MSG_RETAIN,
	    .ttl_ms = 1};
	struct duo d = {.a = NULL};

	open_duo(&d, _i, &patient);
	retain_text(d.b, "v/x", "older");
	retain_text(d.a, "v/x", "1");
	ck_bus(bus_publish_msg(d.a, &msg), 0);
	ck_eventually(has(d.a, "v/x", ""));
	link_duo(&d, &patient);
	ck_eventually(has(d.b, "v/x", ""));
	close_duo(&d);
}
END_TEST

START_TEST(values_that_a_full_mailbox_drove_out_are_sent_again)
{
	struct duo d = {.a = NULL};
	char topic[16], text[16];

	open_duo(&d, _i, &narrow);
	link_duo(&d, &narrow);
	d.cut.held = true;
	for (int round = 0; round < 100; round++)
		for (int i = 0; i < TOPICS; i++) {
			snprintf(topic, sizeof topic, "v/%d", i);
			snprintf(text, sizeof text, "%d", round < 99 || i % 2 ? round : 0);
			retain_text(_i ? d.b : d.a, topic, round == 99 && i % 4 == 0 ? "" : text);
		}
	d.cut.held = false;
	for (int i = 0; i < TOPICS; i++) {
		snprintf(topic, sizeof topic, "v/%d", i);
		snprintf(text, sizeof text, "%s", value_of(_i ? d.b : d.a, topic));
		ck_eventually(has(_i ? d.a : d.b, topic, text));
	}
	close_duo(&d);
}
END_TEST

START_TEST(values_count_as_no_loss_however_many_there_are)
{
	struct duo d = {.a = NULL};
	char topic[16];

	open_duo(&d, _i, &narrow);
	for (int i = 0; i < 3000; i++) {
		snprintf(topic, sizeof topic, "v/%d", i);
		retain_text(d.a, topic, "a value");
	}
	ck_eventually(d.at_a.count == 3000);
	link_duo(&d, &narrow);
	ck_eventually(d.at_b.count == 3000);
	ck_assert_uint_eq(d.at_b.kept, 3000);
	ck_assert_uint_eq(d.at_b.lost, 0);
	ck_assert_uint_eq(stats_of(d.la).lost, 0);
	close_duo(&d);
}
END_TEST

START_TEST(a_mark_goes_along_when_the_memory_of_its_log_is_used_again)
{
	static char filler[16000];
	struct duo d = {.a = NULL};

	open_duo(&d, true, &patient);
	retain_text(d.b, "v/x", "old");
	retain_text(d.a, "v/x", "1");
	retain_text(d.a, "v/x", "");
	for (int i = 0; i < 2000; i++)
		ck_bus(bus_publish(d.a, "other", filler, sizeof filler), 0);
	link_duo(&d, &patient);
	ck_eventually(has(d.b, "v/x", ""));
	ck_assert(has(d.a, "v/x", ""));
	close_duo(&d);
}
END_TEST

START_TEST(the_log_bounds_its_marks_and_keeps_the_newest)
{
	enum { MANY = 7000 };
	const struct log_item item = {.flags = LOG_RETAIN};
	struct bus__offer offer = {.version = {.changes = 9, .bus = {255}}, .peer = {255}};
	struct bus__version ours;
	struct log_newest now;
	uint64_t sequence;
	struct log *log;
	unsigned live = 0;
	struct log_cursor reader = {.log = NULL};

	ck_bus(bus__log_open(bus_test_dir(), "marks", LOG_BYTES_LEAST, &log), 0);
	reader.log = log;
	for (unsigned i = 0; i < MANY; i++) {
		struct log_item mark = item;
		char name[16];

		snprintf(name, sizeof name, "t/%u", i);
		mark.topic = log_test_topic(log, name);
		ck_bus(bus__log_append_value(
			   log, &mark, &offer, &(struct bus_slice){"", 0}, &sequence, &ours),
		    1);
	}
	for (unsigned i = 0; i < MANY; i++) {
		char name[16];

		snprintf(name, sizeof name, "t/%u", i);
		bus__log_newest(&reader, log_test_topic(log, name), bus__log_tail(log), &now);
		bus__log_let_go(&reader);
		live += now.kind == LOG_A_MARK;
		if (i >= MANY - 1000)
			ck_assert_int_eq(now.kind, LOG_A_MARK);
	}
	ck_assert_uint_lt(live, MANY);
	ck_assert_uint_gt(live, 4000);
	/* What was forgotten is not older than what comes next. */
	ck_assert_uint_eq(log->shared->floor, 9);
	bus__log_close(log);
}
END_TEST

START_TEST(a_version_beyond_what_can_be_counted_stays_the_largest)
{
	struct log_item item = {.flags = LOG_RETAIN};
	struct bus__offer offer = {.version.changes = UINT64_MAX};
	struct bus__version ours;
	struct log_cursor reader = {.log = NULL};
	struct log_newest now;
	struct bus_slice text = {"x", 1};
	uint64_t sequence;
	struct log *log;

	ck_bus(bus__log_open(bus_test_dir(), "most", LOG_BYTES_LEAST, &log), 0);
	reader.log = log;
	item.topic = log_test_topic(log, "t");
	ck_bus(bus__log_append_value(log, &item, &offer, &text, &sequence, &ours), 1);
	ck_bus(bus__log_append_value(log, &item, NULL, &text, &sequence, &ours), 1);
	bus__log_newest(&reader, item.topic, bus__log_tail(log), &now);
	bus__log_let_go(&reader);
	ck_assert_int_eq(now.kind, LOG_A_VALUE);
	ck_assert_uint_eq(now.version.changes, UINT64_MAX);
	bus__log_close(log);
}
END_TEST

/* --- the rule, case by case ---------------------------------------------------------------------------------------- */

enum { OWN = 1, PEER, THIRD };

static struct bus__version
version_of(uint64_t changes, uint8_t bus)
{
	return (struct bus__version){.changes = changes, .bus = {bus}};
}

/* What the rule says of (changes, by) of the peer, beside what is here. */
static enum bus__verdict
judged(struct bus__offer offer, struct bus__standing standing)
{
	const uint8_t own[BUS__BUS_ID] = {OWN};

	offer.peer[0] = PEER;
	return bus__offer_judge(&offer, &standing, own);
}

START_TEST(a_repeated_value_of_a_peer_gets_no_new_number)
{
	const struct bus__standing has = {.version = version_of(21, PEER), .theirs = 1};
	struct bus__offer offer = {.version = version_of(11, PEER), .is_kept = true};
	const uint8_t own[BUS__BUS_ID] = {OWN};

	offer.peer[0] = PEER;
	/* The peer heard of 11 elsewhere, and hears of 21 from us. */
	ck_assert_int_eq(bus__offer_judge(&offer, &has, own), BUS__OFFER_SAME);
	ck_assert(offer.tell_peer);
	offer.version.changes = 21;
	ck_assert_int_eq(bus__offer_judge(&offer, &has, own), BUS__OFFER_SAME);
	ck_assert(!offer.tell_peer);
	/* With other bytes, or live, it is the next change. */
	offer.version.changes = 11;
	ck_assert_int_eq(
	    judged(offer,
		(struct bus__standing){.version = version_of(21, PEER), .theirs = 1, .content = 1}),
	    BUS__OFFER_CHANGE);
	offer.is_kept = false;
	ck_assert_int_eq(judged(offer, has), BUS__OFFER_CHANGE);
}
END_TEST

START_TEST(what_is_older_and_what_is_not)
{
	const struct {
		uint64_t changes;
		uint8_t by;
		bool is_kept, is_before, is_first;
		struct bus__standing has;
		enum bus__verdict verdict;
	} cases[] = {
	    {1, PEER, false, false, false, {.version = {0}}, BUS__OFFER_NEWER},
	    {1, PEER, false, false, false, {.version = version_of(9, OWN)}, BUS__OFFER_CHANGE},
	    {1, PEER, false, false, false, {.version = version_of(9, THIRD)}, BUS__OFFER_CHANGE},
	    {1, THIRD, false, false, false, {.version = version_of(9, OWN)}, BUS__OFFER_OLDER},
	    {1, PEER, false, true, false, {.version = version_of(9, THIRD)}, BUS__OFFER_OLDER},
	    {1, PEER, true, true, false, {.version = version_of(9, THIRD)}, BUS__OFFER_OLDER},
	    {1, PEER, true, true, true, {.version = version_of(9, THIRD)}, BUS__OFFER_CHANGE},
	    {1, PEER, true, true, true, {.version = version_of(9, OWN)}, BUS__OFFER_OLDER},
	    {9, THIRD, true, true, true, {.version = version_of(1, OWN)}, BUS__OFFER_OURS},
	    {9, PEER, true, true, true, {.version = version_of(1, OWN)}, BUS__OFFER_NEWER},
	    {9, PEER, true, true, false, {.version = version_of(1, OWN), .is_recent = true},
		BUS__OFFER_OURS},
	    {9, PEER, true, false, false, {.version = version_of(1, OWN), .is_recent = true},
		BUS__OFFER_NEWER},
	    {9, OWN, true, false, false, {.version = version_of(3, OWN)}, BUS__OFFER_RAISES},
	    {9, OWN, true, false, false, {.version = version_of(3, OWN), .content = 1},
		BUS__OFFER_OURS},
	    {9, OWN, true, false, false, {.version = version_of(3, THIRD)}, BUS__OFFER_NEWER},
	    {2, OWN, true, false, false, {.version = version_of(3, OWN)}, BUS__OFFER_OLDER},
	    {2, PEER, true, false, false, {.version = version_of(9, PEER), .theirs = 2},
		BUS__OFFER_SAME},
	    {1, PEER, false, false, false, {.version = version_of(9, PEER), .theirs = 2},
		BUS__OFFER_OLDER},
	    {9, THIRD, true, false, false, {.version = version_of(9, THIRD)}, BUS__OFFER_SAME},
	    {9, THIRD, true, false, false, {.version = version_of(9, THIRD), .content = 1},
		BUS__OFFER_NEWER},
	    {9, THIRD, true, false, false, {.version = version_of(9, THIRD), .content = -1},
		BUS__OFFER_SAME},
	    {9, OWN, true, false, false, {.version = version_of(9, OWN), .content = 1},
		BUS__OFFER_SAME},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct bus__offer offer = {
		    .version = version_of(cases[i].changes, cases[i].by),
		    .is_kept = cases[i].is_kept,
		    .is_before = cases[i].is_before,
		    .is_first = cases[i].is_first};

		ck_assert_msg(judged(offer, cases[i].has) == cases[i].verdict,
		    "case %zu: %d, not %d", i, judged(offer, cases[i].has), cases[i].verdict);
	}
}
END_TEST

/* --- several buses, step by step, against the model ---------------------------------------------------------------- */

struct pair_of {
	unsigned listens, dials; /* the buses */
	struct bus_link *listener, *dialler;
	struct cut wire;
};

struct world {
	struct values_model model;
	struct member {
		struct bus *bus, *beside; /* the same bus, if it is named: another opening of it */
		bool named;
		_Atomic unsigned marker[MODEL_BUSES]; /* the last that was heard of each bus */
	} at[MODEL_BUSES];
	struct pair_of pairs[3];
	unsigned pair_count, step, texts;
	const struct bus_link_config *cfg;
	uint64_t dice;
};

static unsigned
roll(struct world *w, unsigned sides)
{
	w->dice = w->dice * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)((w->dice >> 33) % sides);
}

/* Whether all are linked, so that they are to agree. */
static bool
is_whole(const struct values_model *m)
{
	for (unsigned left = 0; left < m->buses; left++)
		for (unsigned right = 0; right < left; right++)
			if (!m->linked[left][right])
				return false;
	return true;
}

/* With $BUS_TEST_TRACE: what led to a difference. */
static void
trace(const struct world *w, const char *format, ...)
{
	va_list args;

	if (getenv("BUS_TEST_TRACE") == NULL)
		return;
	fprintf(stderr, "%u: ", w->step);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static void
hear_marker(void *arg, const struct bus_msg *msg)
{
	struct member *member = arg;

	if (strncmp(msg->topic, "v/marker/", 9) == 0)
		member->marker[msg->topic[9] - '0'] = *(const unsigned *)msg->data;
}

static void
open_member(struct world *w, unsigned i)
{
	const struct bus_config in = {
	    .size = sizeof in, .dir = bus_test_dir(), .log_bytes = LOG_BYTES_LEAST};
	const char *const names[] = {"a", "b", "c"};
	struct member *member = &w->at[i];

	if (member->named) {
		ck_bus(bus_open(names[i], &in, &member->bus), 0);
		ck_bus(bus_open(names[i], &in, &member->beside), 0);
	} else {
		member->bus = member->beside = open_bus();
	}
	ck_bus(bus_subscribe(member->bus, "v/#", hear_marker, member, NULL), 0);
}

static void
close_member(struct world *w, unsigned i)
{
	struct member *member = &w->at[i];

	if (member->named)
		ck_assert_int_ge(bus_close(member->beside, 5000), 0);
	ck_assert_int_ge(bus_close(member->bus, 5000), 0);
}

static void
link_pair(struct world *w, struct pair_of *pair)
{
	ck_bus(bus_dial(w->at[pair->dials].bus, pair->wire.url, w->cfg, &pair->dialler), 0);
	ck_eventually(is_up(pair->dialler) && stats_of(pair->listener).peers == 1);
	model_link(&w->model, pair->listens, pair->dials, true, false);
}

static void
open_world(struct world *w, uint64_t seed, const struct bus_link_config *cfg)
{
	w->cfg = cfg;
	w->dice = seed;
	w->model.buses = 2 + roll(w, 2);
	for (unsigned i = 0; i < w->model.buses; i++) {
		w->at[i].named = roll(w, 2);
		open_member(w, i);
		model_restart(&w->model, i, bus__id(w->at[i].bus));
	}
	for (unsigned dials = 1; dials < w->model.buses; dials++)
		for (unsigned listens = 0; listens < dials; listens++) {
			struct pair_of *pair = &w->pairs[w->pair_count++];
			char url[256];

			pair->listens = listens;
			pair->dials = dials;
			/* A named bus listens at an address once. */
			ck_bus(bus_listen(w->at[listens].bus,
				   dials == 1 ? "tcp://127.0.0.1:0" : "tcp://localhost:0", w->cfg,
				   &pair->listener),
			    0);
			ck_assert_int_gt(bus_link_url(pair->listener, url, sizeof url), 0);
			cut_open(&pair->wire, url);
			link_pair(w, pair);
		}
}

static void
close_world(struct world *w)
{
	for (unsigned i = 0; i < w->pair_count; i++) {
		bus_link_close(w->pairs[i].dialler);
		bus_link_close(w->pairs[i].listener);
	}
	for (unsigned i = 0; i < w->model.buses; i++)
		close_member(w, i);
	for (unsigned i = 0; i < w->pair_count; i++)
		cut_close(&w->pairs[i].wire);
}

/* Until every bus has what the others sent it: values are in front of a message that is published behind them. */
static void
settle_once(struct world *w)
{
	char topic[16];

	w->step++;
	for (unsigned i = 0; i < w->model.buses; i++) {
		ck_bus(bus_flush(w->at[i].bus, patience_ms()), 0);
		snprintf(topic, sizeof topic, "v/marker/%u", i);
		ck_bus(bus_publish(w->at[i].bus, topic, &w->step, sizeof w->step), 0);
	}
	for (unsigned to = 0; to < w->model.buses; to++)
		for (unsigned from = 0; from < w->model.buses; from++)
			if (from == to || w->model.linked[from][to])
				ck_eventually(w->at[to].marker[from] == w->step);
}

/* A change gets another number, its maker hears of that, tells all, and one of them the next. */
static void
settle(struct world *w)
{
	for (unsigned round = 0; round < 4; round++)
		settle_once(w);
}

static bool
agree(struct world *w)
{
	for (unsigned i = 1; i < w->model.buses; i++)
		for (unsigned t = 0; t < MODEL_TOPICS; t++)
			if (strcmp(w->model.at[i][t].text, w->model.at[0][t].text) != 0)
				return false;
	return true;
}

static void
compare(struct world *w, uint64_t seed)
{
	char topic[16];

	settle(w);
	for (unsigned i = 0; i < w->model.buses; i++)
		for (unsigned t = 0; t < MODEL_TOPICS; t++) {
			const char *got;

			snprintf(topic, sizeof topic, "v/%u", t);
			got = value_of(w->at[i].beside, topic);
			ck_assert_msg(strcmp(got, w->model.at[i][t].text) == 0,
			    "seed %" PRIu64 ", step %u: bus %u (%s) has \"%s\" on %s, not \"%s\"",
			    seed, w->step, i, w->at[i].named ? "named" : "private", got, topic,
			    w->model.at[i][t].text);
		}
	ck_assert_msg(!is_whole(&w->model) || agree(w),
	    "seed %" PRIu64 ", step %u: all are linked and do not agree", seed, w->step);
}

static void
publish_on(struct world *w, unsigned bus, unsigned t)
{
	char topic[16], text[MODEL_TEXT] = "";

	if (roll(w, 4) != 0)
		snprintf(text, sizeof text, "%u of bus %u", ++w->texts, bus);
	snprintf(topic, sizeof topic, "v/%u", t);
	wrong_by_s = ((int64_t)roll(w, 49) - 24) * HOUR_S;
	trace(w, "bus %u publishes \"%s\" on %s", bus, text, topic);
	retain_text(roll(w, 2) ? w->at[bus].bus : w->at[bus].beside, topic, text);
	model_publish(&w->model, bus, t, text);
}

static void
publish_at(struct world *w, unsigned bus)
{
	publish_on(w, bus, roll(w, MODEL_TOPICS));
}

static void
publish(struct world *w)
{
	publish_at(w, roll(w, w->model.buses));
}

/* Breaks a link, or closes it; or brings back one that is down. */
static void
change_link(struct world *w)
{
	struct pair_of *pair = &w->pairs[roll(w, w->pair_count)];

	trace(w, "link of %u and %u: %s, %s", pair->listens, pair->dials,
	    pair->dialler == NULL ? "closed" : "dials", pair->wire.is_cut ? "cut" : "whole");
	if (pair->dialler == NULL) {
		link_pair(w, pair);
		return;
	}
	if (pair->wire.is_cut) {
		pair->wire.is_cut = false;
		ck_eventually(is_up(pair->dialler) && stats_of(pair->listener).peers == 1);
		model_link(&w->model, pair->listens, pair->dials, true, false);
		return;
	}
	if (roll(w, 2)) {
		pair->wire.is_cut = true;
	} else {
		bus_link_close(pair->dialler);
		pair->dialler = NULL;
	}
	ck_eventually((pair->dialler == NULL || !is_up(pair->dialler)) &&
		      stats_of(pair->listener).peers == 0);
	model_link(&w->model, pair->listens, pair->dials, false, false);
}

/* Holds what two buses say to each other, while both publish, and none twice on a topic: what they say crosses. With a third one
 * it would depend on time who hears what first; then they only agree, as the next test shows. */
static void
hold(struct world *w, uint64_t seed)
{
	struct pair_of *pair = &w->pairs[roll(w, w->pair_count)];

	if (!is_whole(&w->model) || w->model.buses > 2)
		return;
	trace(w, "holds %u and %u", pair->listens, pair->dials);
	pair->wire.held = true;
	/* What the forwarder has begun to give on. */
	for (unsigned n = 0; n < 20; n++)
		bus_test_nap();
	model_link(&w->model, pair->listens, pair->dials, false, false);
	for (unsigned t = 0; t < MODEL_TOPICS; t++) {
		unsigned who = roll(w, 4);

		if (who & 1)
			publish_on(w, pair->listens, t);
		if (who & 2)
			publish_on(w, pair->dials, t);
		compare(w, seed);
	}
	pair->wire.held = false;
	model_link(&w->model, pair->listens, pair->dials, true, true);
}

/* The last bus, which dials all others, ends and begins anew. */
static void
restart(struct world *w)
{
	unsigned last = w->model.buses - 1;

	if (!is_whole(&w->model))
		return;
	for (unsigned i = 0; i < w->pair_count; i++)
		if (w->pairs[i].dials == last) {
			bus_link_close(w->pairs[i].dialler);
			ck_eventually(stats_of(w->pairs[i].listener).peers == 0);
		}
	trace(w, "bus %u begins anew", last);
	close_member(w, last);
	open_member(w, last);
	model_restart(&w->model, last, bus__id(w->at[last].bus));
	for (unsigned n = roll(w, 3); n > 0; n--)
		publish_at(w, last);
	for (unsigned i = 0; i < w->pair_count; i++)
		if (w->pairs[i].dials == last)
			link_pair(w, &w->pairs[i]);
}

static uint64_t
number_of(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

START_TEST(buses_have_the_values_of_the_model_whatever_happens)
{
	uint64_t seed = number_of("BUS_TEST_SEED", 1) + (uint64_t)_i;
	unsigned steps = (unsigned)number_of("BUS_TEST_STEPS", 60);
	struct world *w = calloc(1, sizeof *w);

	bus__repair_ns = 0;
	open_world(w, seed * UINT64_C(0x9E3779B97F4A7C15), &patient);
	for (unsigned i = 0; i < steps; i++) {
		unsigned what = roll(w, 20);

		if (what < 13)
			publish(w);
		else if (what < 18)
			change_link(w);
		else if (what < 19)
			hold(w, seed);
		else
			restart(w);
		compare(w, seed);
	}
	for (unsigned i = 0; i < w->pair_count; i++)
		while (!w->model.linked[w->pairs[i].listens][w->pairs[i].dials])
			change_link(w);
	compare(w, seed);
	bus__repair_ns = INT64_C(1000000000);
	close_world(w);
	free(w);
}
END_TEST

/* --- all at once ----------------------------------------------------------------------------------------------------- */

struct writer {
	struct bus *bus;
	uint64_t seed;
	unsigned count, number;
	_Atomic bool done;
};

static void *
write_at_random(void *arg)
{
	struct writer *writer = arg;
	struct world dice = {.dice = writer->seed};
	char topic[16], text[32];

	for (unsigned i = 0; i < writer->count; i++) {
		snprintf(topic, sizeof topic, "v/%u", roll(&dice, TOPICS));
		snprintf(text, sizeof text, "%u of writer %u", i, writer->number);
		retain_text(writer->bus, topic, roll(&dice, 5) ? text : "");
		if (roll(&dice, 32) == 0)
			bus_test_nap();
	}
	writer->done = true;
	return NULL;
}

/* Whether all have the same values. */
static bool
all_agree(struct world *w)
{
	char topic[16], text[256];

	for (unsigned t = 0; t < TOPICS; t++) {
		snprintf(topic, sizeof topic, "v/%u", t);
		snprintf(text, sizeof text, "%s", value_of(w->at[0].beside, topic));
		for (unsigned i = 1; i < w->model.buses; i++)
			if (!has(w->at[i].beside, topic, text)) {
				trace(w, "%s: bus 0 \"%s\", bus %u \"%s\"", topic, text, i,
				    value_of(w->at[i].beside, topic));
				return false;
			}
	}
	return true;
}

START_TEST(buses_agree_in_the_end_however_writers_links_and_full_mailboxes_meet)
{
	uint64_t seed = number_of("BUS_TEST_SEED", 1) + (uint64_t)_i;
	unsigned each = (unsigned)number_of("BUS_TEST_STEPS", 60) * 50;
	struct writer writers[2 * MODEL_BUSES];
	struct world *w = calloc(1, sizeof *w);
	pthread_t threads[2 * MODEL_BUSES];
	unsigned count, done;

	open_world(w, ~seed * UINT64_C(0x9E3779B97F4A7C15), &narrow);
	count = 2 * w->model.buses;
	for (unsigned i = 0; i < count; i++) {
		struct member *member = &w->at[i / 2];

		writers[i] = (struct writer){.bus = i % 2 ? member->bus : member->beside,
		    .seed = seed * 16 + i,
		    .count = each,
		    .number = i};
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, write_at_random, &writers[i]), 0);
	}
	do {
		struct cut *wire = &w->pairs[roll(w, w->pair_count)].wire;

		switch (roll(w, 4)) {
		case 0:
			wire->is_cut = true;
			break;
		case 1:
			wire->held = !wire->held;
			break;
		default:
			wire->is_cut = false;
		}
		for (unsigned n = roll(w, 20); n > 0; n--)
			bus_test_nap();
		done = 0;
		for (unsigned i = 0; i < count; i++)
			done += writers[i].done;
	} while (done < count);
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < w->pair_count; i++)
		w->pairs[i].wire.is_cut = w->pairs[i].wire.held = false;
	for (unsigned i = 0; i < w->pair_count; i++)
		ck_eventually(
		    is_up(w->pairs[i].dialler) && stats_of(w->pairs[i].listener).peers == 1);
	ck_eventually(all_agree(w));
	close_world(w);
	free(w);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("values");
	TCase *both = bus_test_case("private and named"), *one = bus_test_case("one kind");
	TCase *random = bus_test_case("at random");
	int rounds = (int)number_of("BUS_TEST_ROUNDS", 6);
	const TTest *const of_both[] = {
	    the_side_with_more_changes_wins_whatever_the_clocks_say,
	    of_equally_many_changes_those_of_the_larger_id_win,
	    while_linked_the_last_change_wins_though_its_clock_was_set_back,
	    a_deletion_while_the_link_was_down_deletes_on_the_other_side,
	    the_end_of_a_value_that_was_not_known_is_noted_and_no_news,
	    a_bus_that_begins_anew_wins_with_what_it_published_before_its_link_was_up,
	    of_two_buses_at_a_hub_the_one_that_changes_it_last_wins,
	    a_program_changes_a_topic_that_it_has_not_asked_for,
	    two_changes_of_a_program_that_has_gone_under_one_number_end_as_one,
	    a_change_right_behind_the_connection_wins_against_what_was_kept,
	    the_time_of_a_message_is_for_people_and_a_peers_is_not_in_the_future,
	    a_mark_ends_and_the_next_value_is_newer_than_what_peers_remember,
	    a_value_that_expired_counts_as_deleted,
	    values_that_a_full_mailbox_drove_out_are_sent_again,
	    values_count_as_no_loss_however_many_there_are,
	};

	for (size_t i = 0; i < sizeof of_both / sizeof of_both[0]; i++)
		tcase_add_loop_test(both, of_both[i], 0, 2);
	suite_add_tcase(suite, both);
	tcase_add_test(one, of_too_many_marks_the_oldest_goes_first_and_its_topic_makes_room);
	tcase_add_test(one, without_its_mark_an_older_value_comes_back);
	tcase_add_test(one, a_repeated_value_of_a_peer_gets_no_new_number);
	tcase_add_test(one, what_is_older_and_what_is_not);
	tcase_add_test(one, a_peers_value_is_kept_though_a_mailbox_refuses_it);
	tcase_add_test(one, a_mark_goes_along_when_the_memory_of_its_log_is_used_again);
	tcase_add_test(one, the_log_bounds_its_marks_and_keeps_the_newest);
	tcase_add_test(one, a_version_beyond_what_can_be_counted_stays_the_largest);
	suite_add_tcase(suite, one);
	tcase_set_timeout(random, bus_test_limit() * (rounds > 6 ? 60 : 1));
	tcase_add_loop_test(random, buses_have_the_values_of_the_model_whatever_happens, 0, rounds);
	tcase_add_loop_test(random,
	    buses_agree_in_the_end_however_writers_links_and_full_mailboxes_meet, 0, rounds);
	suite_add_tcase(suite, random);
	return suite;
}
