/* A connection breaks: lost messages are counted on both sides, and the next message reports them. */
#define _GNU_SOURCE
#include "link_test.h"

#include <stdlib.h>

#include "cut.h"
#include "raw_peer.h"

/* Bus a listens, b dials through a wire; each subscribes to the other's n/#. */
struct cut_pair {
	struct bus *a, *b;
	struct bus_link *la, *lb;
	struct cut cut;
	struct heard at_a, at_b;
	_Atomic unsigned said_a, said_b;
};

static const struct bus_link_config patient = {
    .size = sizeof patient, .heartbeat_ms = 3600000, .bytes = 4096};

static void
open_cut_pair(struct cut_pair *p, const struct bus_config *of_a, const char *name_of_a)
{
	char url[256];

	ck_bus(bus_open(name_of_a, of_a, &p->a), 0);
	p->b = open_bus();
	ck_bus(bus_subscribe(p->a, "n/#", hear, &p->at_a, NULL), 0);
	ck_bus(bus_subscribe(p->b, "n/#", hear, &p->at_b, NULL), 0);
	ck_bus(bus_listen(p->a, "tcp://127.0.0.1:0", &patient, &p->la), 0);
	ck_assert_int_gt(bus_link_url(p->la, url, sizeof url), 0);
	cut_open(&p->cut, url);
	ck_bus(bus_dial(p->b, p->cut.url, &patient, &p->lb), 0);
	ck_eventually(is_up(p->lb) && stats_of(p->la).peers == 1);
}

static void
close_cut_pair(struct cut_pair *p)
{
	bus_link_close(p->lb);
	bus_link_close(p->la);
	ck_assert_int_ge(bus_close(p->b, 5000), 0);
	ck_assert_int_ge(bus_close(p->a, 5000), 0);
	cut_close(&p->cut);
}

static void
say_at(struct bus *bus, const char *topic, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		ck_bus(bus_publish(bus, topic, &i, sizeof i), 0);
}

static void
break_wire(struct cut_pair *p)
{
	p->cut.is_cut = true;
	ck_eventually(stats_of(p->la).peers == 0 && !is_up(p->lb));
	p->cut.held = false;
}

static void
mend_wire(struct cut_pair *p)
{
	p->cut.is_cut = false;
	ck_eventually(is_up(p->lb) && stats_of(p->la).peers == 1);
}

START_TEST(messages_during_an_outage_are_counted_and_reported_by_the_next_one)
{
	struct cut_pair p = {.a = NULL};

	open_cut_pair(&p, NULL, NULL);
	say_at(p.a, "n/a", 3);
	say_at(p.b, "n/b", 4);
	ck_eventually(p.at_b.count == 3 + 4 && p.at_a.count == 3 + 4);
	break_wire(&p);
	say_at(p.a, "n/a", 100);
	say_at(p.b, "n/b", 50);
	say_at(p.a, "unwanted", 10);
	mend_wire(&p);
	say_at(p.a, "n/a", 1);
	say_at(p.b, "n/b", 1);
	ck_eventually(p.at_b.count == 3 + 4 + 50 + 1 + 1 && p.at_a.count == 4 + 3 + 100 + 1 + 1);
	ck_assert_uint_eq(p.at_b.lost, 100);
	ck_assert_uint_eq(p.at_a.lost, 50);
	ck_assert_uint_eq(p.at_a.msg.flags | p.at_b.msg.flags, 0);
	ck_eventually(stats_of(p.la).sent == 4 && stats_of(p.lb).sent == 5);
	ck_assert_uint_eq(stats_of(p.la).lost, 100);
	ck_assert_uint_eq(stats_of(p.lb).lost, 50);
	ck_eventually(stats_of(p.la).received == 5);
	ck_eventually(stats_of(p.lb).received == 4);
	ck_assert_uint_eq(stats_of(p.la).lost_by_peers, 50);
	ck_assert_uint_eq(stats_of(p.lb).lost_by_peers, 100);
	close_cut_pair(&p);
}
END_TEST

/* Each message is in the current send, in the next buffer, or in the mailbox. */
START_TEST(every_message_for_a_peer_that_stops_reading_and_breaks_off_is_sent_or_lost)
{
	static const char data[200];
	struct raw_peer *peer = calloc(1, sizeof *peer);
	const struct bus_link_config wide = {
	    .size = sizeof wide, .heartbeat_ms = 3600000, .bytes = _i == 0 ? 4096 : 1 << 20};
	struct bus *bus = open_bus();
	struct bus_link *link;
	uint64_t said = 0;
	char url[256];

	ck_assert_ptr_nonnull(peer);
	ck_bus(bus_listen(bus, listen_url(1), &wide, &link), 0);
	ck_assert_int_gt(bus_link_url(link, url, sizeof url), 0);
	ck_assert(raw_open(peer, url, "stops") && raw_text(peer, BUS__FRAME_SUB, 0, "#") &&
		  raw_ready(peer));
	ck_eventually(stats_of(link).peers == 1);
	do
		for (int i = 0; i < 3000; i++, said++)
			ck_bus(bus_publish(bus, "flood", data, sizeof data), 0);
	while (bus_flush(bus, 50) == 0);
	close(peer->fd);
	ck_eventually(stats_of(link).peers == 0);
	ck_eventually(stats_of(link).sent + stats_of(link).lost == said);
	ck_assert_uint_gt(stats_of(link).lost, 0);
	bus_link_close(link);
	ck_bus(bus_close(bus, patience_ms()), 0);
	free(peer);
}
END_TEST

START_TEST(messages_in_flight_are_taken_back_from_the_sent_count)
{
	struct cut_pair p = {.a = NULL};

	open_cut_pair(&p, NULL, NULL);
	p.cut.held = true;
	say_at(p.a, "n/a", 20);
	ck_eventually(stats_of(p.la).sent == 20);
	break_wire(&p);
	mend_wire(&p);
	ck_eventually(stats_of(p.la).sent == 0);
	ck_assert_uint_eq(stats_of(p.la).lost, 20);
	say_at(p.a, "n/a", 1);
	ck_eventually(p.at_b.count == 1);
	ck_assert_uint_eq(p.at_b.lost, 20);
	ck_assert_uint_eq(stats_of(p.lb).lost_by_peers, 20);
	close_cut_pair(&p);
}
END_TEST

START_TEST(gap_is_reported_to_every_mailbox_that_the_link_could_fill_and_no_other)
{
	struct heard own = {.count = 0}, other = {.count = 0};
	struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus_mailbox *of_bus, *of_other;
	struct bus_stats stats = {.size = sizeof stats};
	struct cut_pair p = {.a = NULL};

	open_cut_pair(&p, NULL, NULL);
	ck_bus(bus_mailbox_open(p.b, &cfg, &of_bus), 0);
	ck_bus(bus_mailbox_subscribe(of_bus, "$bus/#", hear, &own, NULL), 0);
	ck_bus(bus_mailbox_open(p.b, &cfg, &of_other), 0);
	ck_bus(bus_mailbox_subscribe(of_other, "other", hear, &other, NULL), 0);
	break_wire(&p);
	say_at(p.a, "n/a", 7);
	mend_wire(&p);
	ck_eventually(stats_of(p.lb).lost_by_peers == 7);
	/* The mailboxes get the gap after it is counted. */
	ck_eventually(bus_mailbox_stats(of_other, &stats) == 0 && stats.lost[BUS_LOSS_LINK] == 7);
	ck_bus(bus_publish(p.b, "other", "here", 4), 0);
	ck_eventually(other.count == 1);
	ck_assert_uint_eq(other.lost, 7);
	ck_bus(bus_mailbox_stats(of_other, &stats), 0);
	ck_assert_uint_eq(stats.lost[BUS_LOSS_LINK], 7);
	ck_assert_uint_eq(stats.offered, 8);
	ck_bus(bus_mailbox_stats(of_bus, &stats), 0);
	ck_assert_uint_eq(stats.lost[BUS_LOSS_LINK], 0);
	bus_mailbox_close(of_bus);
	bus_mailbox_close(of_other);
	close_cut_pair(&p);
}
END_TEST

START_TEST(a_restarted_bus_leaves_a_gap_of_unknown_length)
{
	struct cut_pair p = {.a = NULL};
	char url[256];

	open_cut_pair(&p, NULL, NULL);
	say_at(p.a, "n/a", 1);
	ck_eventually(p.at_b.count == 1);
	break_wire(&p);
	say_at(p.a, "n/a", 5);
	bus_link_close(p.la);
	ck_assert_int_ge(bus_close(p.a, 5000), 0);
	p.a = open_bus();
	ck_bus(bus_listen(p.a, "tcp://127.0.0.1:0", &patient, &p.la), 0);
	ck_assert_int_gt(bus_link_url(p.la, url, sizeof url), 0);
	p.cut.target = (uint16_t)atoi(strrchr(url, ':') + 1);
	mend_wire(&p);
	say_at(p.a, "n/a", 1);
	ck_eventually(p.at_b.count == 2);
	ck_assert_uint_eq(p.at_b.lost, 0);
	ck_assert_uint_eq(p.at_b.msg.flags, BUS_MSG_LOST_AT_LEAST);
	say_at(p.a, "n/a", 1);
	ck_eventually(p.at_b.count == 3);
	ck_assert_uint_eq(p.at_b.msg.flags, 0);
	close_cut_pair(&p);
}
END_TEST

START_TEST(the_first_connection_and_one_after_a_goodbye_are_no_gap)
{
	/* Each with its own topic: callbacks of the first connection may still run in the second. */
	struct heard first = {.count = 0}, second = {.count = 0};
	struct pair p;

	pair_open(&p, _i);
	ck_bus(bus_subscribe(p.b, "n/first", hear, &first, NULL), 0);
	ck_bus(bus_subscribe(p.b, "n/second", hear, &second, NULL), 0);
	ck_eventually((say_at(p.a, "n/first", 1), first.count > 0));
	bus_link_close(p.lb);
	say_at(p.a, "n/first", 10);
	ck_bus(bus_dial(p.b, p.url, NULL, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	say_at(p.a, "n/second", 1);
	ck_eventually(second.count == 1);
	ck_assert_uint_eq(first.lost, 0);
	ck_assert_uint_eq(second.lost, 0);
	ck_assert_uint_eq(second.msg.flags, 0);
	pair_close(&p);
}
END_TEST

START_TEST(a_filter_that_ended_during_an_outage_ends_on_the_other_side)
{
	struct cut_pair p = {.a = NULL};
	struct bus_sub *sub;
	struct heard heard = {.count = 0};
	uint64_t sent;

	open_cut_pair(&p, NULL, NULL);
	ck_bus(bus_subscribe(p.b, "once", hear, &heard, &sub), 0);
	ck_eventually((say_at(p.a, "once", 1), heard.count > 0));
	break_wire(&p);
	bus_unsubscribe(sub, NULL);
	mend_wire(&p);
	say_at(p.a, "n/a", 1);
	ck_eventually(p.at_b.count == 1);
	ck_bus(bus_flush(p.a, patience_ms()), 0); /* messages that arrived may not be counted yet */
	sent = stats_of(p.la).sent;
	say_at(p.a, "once", 1);
	say_at(p.a, "n/a", 1);
	ck_eventually(p.at_b.count == 2);
	ck_eventually(stats_of(p.la).sent == sent + 1);
	close_cut_pair(&p);
}
END_TEST

START_TEST(values_are_sent_again_on_a_new_connection_and_have_no_numbers)
{
	const struct bus_msg value = {.size = sizeof value,
	    .topic = "n/value",
	    .data = "1",
	    .len = 1,
	    .flags = BUS_MSG_RETAIN};
	struct cut_pair p = {.a = NULL};
	struct bus_msg newer = value;

	open_cut_pair(&p, NULL, NULL);
	ck_bus(bus_publish_msg(p.a, &value), 0);
	ck_eventually(p.at_b.count == 1);
	break_wire(&p);
	newer.data = "2";
	ck_bus(bus_publish_msg(p.a, &newer), 0);
	mend_wire(&p);
	ck_eventually(p.at_b.count == 2);
	ck_assert_mem_eq(p.at_b.data, "2", 1);
	/* Its publish was a message that did not arrive. */
	ck_eventually(stats_of(p.lb).lost_by_peers == 1);
	ck_assert_uint_eq(stats_of(p.la).lost, 1);
	close_cut_pair(&p);
}
END_TEST

static bool
explains(struct bus *bus, const char *topic, const char *words)
{
	char text[4096];

	ck_assert_int_gt(bus_explain(bus, topic, text, sizeof text), 0);
	return strstr(text, words) != NULL;
}

START_TEST(a_peer_whose_link_is_down_is_no_responder)
{
	struct cut_pair p = {.a = NULL};
	const struct bus_msg *reply;

	open_cut_pair(&p, NULL, NULL);
	ck_bus(bus_subscribe(p.b, "question", hear, &p.at_b, NULL), 0);
	ck_eventually((say_at(p.a, "question", 1), p.at_b.count > 0));
	break_wire(&p);
	/* The link is down a moment before its mailbox is parked. */
	ck_eventually(explains(p.a, "question", "its link is down"));
	ck_bus(bus_request(p.a, "question", "?", 1, patience_ms(), &reply), BUS_E_NOBODY);
	mend_wire(&p);
	ck_assert(!explains(p.a, "question", "its link is down"));
	close_cut_pair(&p);
}
END_TEST

/* --- a named bus ---------------------------------------------------------------------------------------------- */

START_TEST(a_named_bus_reports_a_gap_to_all_its_processes_and_later_sends_its_log)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir()};
	struct heard heard = {.count = 0};
	struct cut_pair p = {.a = NULL};
	struct bus *other;

	open_cut_pair(&p, &cfg, "gap");
	ck_bus(bus_open("gap", &cfg, &other), 0);
	ck_bus(bus_subscribe(other, "n/#", hear, &heard, NULL), 0);
	break_wire(&p);
	say_at(p.b, "n/b", 30);
	say_at(other, "n/a", 40);
	mend_wire(&p);
	say_at(p.b, "n/b", 1);
	/* From b to the log: lost, and reported to both readers. */
	ck_eventually(heard.count == 41 && p.at_a.count == 41);
	ck_assert_uint_eq(heard.lost, 30);
	ck_assert_uint_eq(p.at_a.lost, 30);
	/* From the log to b: late. */
	ck_eventually(p.at_b.count == 31 + 40);
	ck_assert_uint_eq(p.at_b.lost, 0);
	ck_assert_uint_eq(stats_of(p.la).lost, 0);
	ck_assert_int_ge(bus_close(other, 5000), 0);
	close_cut_pair(&p);
}
END_TEST

/* --- at random ------------------------------------------------------------------------------------------------ */

struct way {
	struct bus *from;
	struct bus_link *out, *in;
	const char *topic;
	const struct heard *heard;
	unsigned *said, *said_there; /* each bus receives its own messages, too */
};

static bool
adds_up(const struct way *way)
{
	return way->heard->count + way->heard->lost == *way->said + *way->said_there;
}

/* The last message may have been dropped, or a loss be reported behind it: then another message reports it. */
static void
await_account(const struct way *way)
{
	int64_t limit = bus_test_now_ms() + patience_ms();

	while (!adds_up(way) && bus_test_now_ms() < limit) {
		for (int i = 0; i < 50 && !adds_up(way); i++)
			usleep(1000);
		if (adds_up(way))
			break;
		++*way->said;
		say_at(way->from, way->topic, 1);
	}
	ck_assert_msg(adds_up(way),
	    "%u heard and %u told as lost of %u and %u: %llu sent, %llu lost, %llu received, %llu lost by peers",
	    way->heard->count, way->heard->lost, *way->said, *way->said_there,
	    (unsigned long long)stats_of(way->out).sent,
	    (unsigned long long)stats_of(way->out).lost,
	    (unsigned long long)stats_of(way->in).received,
	    (unsigned long long)stats_of(way->in).lost_by_peers);
}

/* Whatever happens to the wire, published messages are received or lost, on both sides. */
static void
check_account(const struct way *way)
{
	unsigned said = *way->said, lost = way->heard->lost;

	ck_eventually(stats_of(way->out).sent + stats_of(way->out).lost == said);
	ck_eventually(stats_of(way->in).received + stats_of(way->in).lost_by_peers == said);
	ck_assert_uint_eq(stats_of(way->in).lost_by_peers, lost);
	ck_assert_uint_eq(stats_of(way->out).lost, lost);
}

START_TEST(whatever_happens_to_the_wire_no_message_is_missing_from_the_account)
{
	struct cut_pair p = {.a = NULL};
	unsigned said_a = 0, said_b = 0, n;
	struct way a_to_b, b_to_a;

	srand((unsigned)_i);
	open_cut_pair(&p, NULL, NULL);
	a_to_b = (struct way){p.a, p.la, p.lb, "n/a", &p.at_b, &said_a, &said_b};
	b_to_a = (struct way){p.b, p.lb, p.la, "n/b", &p.at_a, &said_b, &said_a};
	for (int step = 0; step < 60; step++) {
		n = (unsigned)rand() % 200;
		switch (rand() % 6) {
		case 0:
			break_wire(&p);
			break;
		case 1:
			p.cut.held = rand() % 2;
			break;
		case 2:
			p.cut.held = false;
			mend_wire(&p);
			break;
		case 3:
		case 4:
			say_at(p.a, "n/a", n);
			said_a += n;
			break;
		default:
			say_at(p.b, "n/b", n);
			said_b += n;
			break;
		}
	}
	p.cut.held = false;
	mend_wire(&p);
	await_account(&a_to_b);
	await_account(&b_to_a);
	await_account(&a_to_b); /* with the other bus's messages in it */
	check_account(&a_to_b);
	check_account(&b_to_a);
	close_cut_pair(&p);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("link gap");
	TCase *tcase = bus_test_case("broken connections"), *all = bus_test_case("every transport");
	TCase *random = bus_test_case("at random");

	tcase_add_test(tcase, messages_during_an_outage_are_counted_and_reported_by_the_next_one);
	tcase_add_test(tcase, messages_in_flight_are_taken_back_from_the_sent_count);
	tcase_add_loop_test(tcase,
	    every_message_for_a_peer_that_stops_reading_and_breaks_off_is_sent_or_lost, 0, 2);
	tcase_add_test(
	    tcase, gap_is_reported_to_every_mailbox_that_the_link_could_fill_and_no_other);
	tcase_add_test(tcase, a_restarted_bus_leaves_a_gap_of_unknown_length);
	tcase_add_test(tcase, a_filter_that_ended_during_an_outage_ends_on_the_other_side);
	tcase_add_test(tcase, values_are_sent_again_on_a_new_connection_and_have_no_numbers);
	tcase_add_test(tcase, a_peer_whose_link_is_down_is_no_responder);
	tcase_add_test(
	    tcase, a_named_bus_reports_a_gap_to_all_its_processes_and_later_sends_its_log);
	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(
	    all, the_first_connection_and_one_after_a_goodbye_are_no_gap, 0, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, all);
	tcase_add_loop_test(
	    random, whatever_happens_to_the_wire_no_message_is_missing_from_the_account, 0, 4);
	suite_add_tcase(suite, random);
	return suite;
}
