/* Two buses have the same value of each topic. */
#define _GNU_SOURCE
#include "values_test.h"

#include <inttypes.h>

#include "wrong_clock.h"
#include "base/version.h"
#include "bus/peer.h"
#include "link/session.h"
#include "log/log.h"
#include "log_test.h"
#include "cut.h"

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

START_TEST(after_equally_many_changes_the_larger_id_wins)
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
	/* The buses that knew the value learn its end. */
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
	/* A third bus, which was here before, has an older value, which is not restored. */
	retain_text(c, "v/x", "old");
	ck_bus(bus_dial(c, d.url, &patient, &link), 0);
	ck_eventually(has(c, "v/x", ""));
	ck_assert(has(d.a, "v/x", ""));
	bus_link_close(link);
	bus_close(c, 0);
	close_duo(&d);
}
END_TEST

START_TEST(a_restarted_bus_wins_with_values_from_before_its_link_was_up)
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
	/* It knows the number of changes, too: one more change of the other side wins now. */
	retain_text(d.a, "v/x", "last");
	ck_eventually(has(anew, "v/x", "last"));
	bus_link_close(link);
	ck_assert_int_ge(bus_close(anew, 5000), 0);
	d.lb = NULL;
	close_duo(&d);
}
END_TEST

START_TEST(at_a_hub_the_bus_that_changes_a_value_last_wins)
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
		/* Neither sees the other's changes. */
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

/* Each of the two numbers its changes, and sees neither of the other's. */
START_TEST(two_changes_of_an_ended_program_under_one_number_end_as_one)
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

START_TEST(a_change_right_after_the_connection_wins_over_the_kept_value)
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

START_TEST(a_mark_ends_and_the_next_value_is_newer_than_any_that_peers_remember)
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

START_TEST(without_its_mark_an_older_value_returns)
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

START_TEST(over_the_limit_the_oldest_mark_ends_and_its_topic_makes_room)
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
	/* Topics with values and marks reach the limit: only the end of a mark makes room. */
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

START_TEST(a_mark_moves_along_when_the_memory_of_its_log_is_used_again)
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
	/* The next value is newer than the forgotten one. */
	ck_assert_uint_eq(log->shared->floor, 9);
	bus__log_close(log);
}
END_TEST

START_TEST(a_version_beyond_counting_stays_the_largest)
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

/* The verdict on the peer's (changes, by), against the standing value. */
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
	/* The peer got 11 elsewhere, and gets 21 from us. */
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

START_TEST(rule_decides_between_offer_and_standing_value)
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

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("values");
	TCase *private_and_named = bus_test_case("private and named");

	tcase_add_loop_test(
	    private_and_named, the_side_with_more_changes_wins_whatever_the_clocks_say, 0, 2);
	tcase_add_loop_test(private_and_named, after_equally_many_changes_the_larger_id_wins, 0, 2);
	tcase_add_loop_test(private_and_named,
	    while_linked_the_last_change_wins_though_its_clock_was_set_back, 0, 2);
	tcase_add_loop_test(
	    private_and_named, a_deletion_while_the_link_was_down_deletes_on_the_other_side, 0, 2);
	tcase_add_loop_test(
	    private_and_named, the_end_of_a_value_that_was_not_known_is_noted_and_no_news, 0, 2);
	tcase_add_loop_test(
	    private_and_named, a_restarted_bus_wins_with_values_from_before_its_link_was_up, 0, 2);
	tcase_add_loop_test(
	    private_and_named, at_a_hub_the_bus_that_changes_a_value_last_wins, 0, 2);
	tcase_add_loop_test(
	    private_and_named, a_program_changes_a_topic_that_it_has_not_asked_for, 0, 2);
	tcase_add_loop_test(
	    private_and_named, two_changes_of_an_ended_program_under_one_number_end_as_one, 0, 2);
	tcase_add_loop_test(
	    private_and_named, a_change_right_after_the_connection_wins_over_the_kept_value, 0, 2);
	tcase_add_loop_test(private_and_named,
	    the_time_of_a_message_is_for_people_and_a_peers_is_not_in_the_future, 0, 2);
	tcase_add_loop_test(private_and_named,
	    a_mark_ends_and_the_next_value_is_newer_than_any_that_peers_remember, 0, 2);
	tcase_add_loop_test(private_and_named, a_value_that_expired_counts_as_deleted, 0, 2);
	tcase_add_loop_test(
	    private_and_named, values_that_a_full_mailbox_drove_out_are_sent_again, 0, 2);
	tcase_add_loop_test(
	    private_and_named, values_count_as_no_loss_however_many_there_are, 0, 2);
	suite_add_tcase(suite, private_and_named);
	BUS_TEST_CASE(suite, "one kind",
	    over_the_limit_the_oldest_mark_ends_and_its_topic_makes_room,
	    without_its_mark_an_older_value_returns, a_repeated_value_of_a_peer_gets_no_new_number,
	    rule_decides_between_offer_and_standing_value,
	    a_peers_value_is_kept_though_a_mailbox_refuses_it,
	    a_mark_moves_along_when_the_memory_of_its_log_is_used_again,
	    the_log_bounds_its_marks_and_keeps_the_newest,
	    a_version_beyond_counting_stays_the_largest);
	return suite;
}
