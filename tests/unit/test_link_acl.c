/* Which filters, messages, values, questions and replies an ACL withholds from a peer, and which it lets through. Peers have no
 * user unless stated otherwise; each test runs between two private buses and between two named ones. */
#define _GNU_SOURCE
#include "link_test.h"

#include <stdlib.h>

#include "access/acl.h"
#include "base/mem.h"
#include "link/link.h"
#include "link/session.h"
#include "raw_peer.h"

/* --- an ACL for a link -------------------------------------------------------------------------------------------------- */

struct rule {
	struct bus_link *link;
	struct bus__acl *acl;
};

static void
take_acl(void *arg)
{
	struct rule *rule = arg;

	rule->link->guard.acl = rule->acl;
}

/* Before the first peer connects. */
static void
set_acl(struct bus_link *link, const char *text)
{
	struct rule rule = {.link = link};
	char error[BUS__ACL_ERROR];

	ck_bus(bus__acl_parse("acl", text, strlen(text), &rule.acl, error), 0);
	bus__loop_call(&link->links->loop, take_acl, &rule);
}

/* With room for all messages of a test: a drop may count withheld messages. */
static const struct bus_link_config patient = {
    .size = sizeof patient, .heartbeat_ms = 3600000, .bytes = 32 << 20};

/* a, whose link has the ACL, and b, not connected yet. named: both have a name. */
static void
pair_begin(struct pair *p, bool named, const char *acl)
{
	p->a = named ? join_as(bus_test_dir(), "a") : open_bus();
	p->b = named ? join_as(bus_test_dir(), "b") : open_bus();
	ck_bus(bus_listen(p->a, listen_url(1), &patient, &p->la), 0);
	ck_assert_int_gt(bus_link_url(p->la, p->url, sizeof p->url), 0);
	set_acl(p->la, acl);
}

static void
pair_connect(struct pair *p)
{
	ck_bus(bus_dial(p->b, p->url, &patient, &p->lb), 0);
	ck_eventually(is_up(p->lb) && stats_of(p->la).peers == 1);
}

/* --- filters ------------------------------------------------------------------------------------------------------------- */

START_TEST(filter_that_can_bring_nothing_is_refused_and_the_connection_stays)
{
	struct bus_mailbox *m;
	struct pair p;

	pair_begin(&p, false, "topic read public/#");
	m = subscriber(p.b, "secret/#");
	ck_bus(bus_mailbox_subscribe(m, "public/+", NULL, NULL, NULL), 0);
	pair_connect(&p);
	ck_eventually(stats_of(p.lb).refused == 1);
	ck_assert_uint_eq(stats_of(p.la).refused, 1);
	ck_assert_int_eq(stats_of(p.la).last_error, BUS_E_DENIED);
	ck_assert_int_eq(stats_of(p.lb).last_error, BUS_E_DENIED);
	/* Later too, and a refused filter can be ended. */
	ck_bus(bus_mailbox_subscribe(m, "+/x/secret", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(m, "secret", NULL, NULL, NULL), 0);
	ck_eventually(stats_of(p.lb).refused == 2);
	publish_text(p.a, "secret/x", "no");
	publish_text(p.a, "secret", "no");
	publish_text(p.a, "public/x", "yes");
	expect_message(m, "public/x", "yes");
	expect_nothing(m);
	ck_eventually(stats_of(p.la).sent == 1);
	ck_assert_uint_eq(stats_of(p.la).peers, 1);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

/* As if a dialling bus had an ACL: either side may have one. */
START_TEST(dialling_side_may_have_an_acl_too)
{
	struct bus_mailbox *m;
	struct pair p;

	p.a = open_bus();
	p.b = open_bus();
	m = subscriber(p.a, "#");
	ck_bus(bus_dial(p.b, listen_url(1), &patient, &p.lb), 0);
	set_acl(p.lb, "topic read public/#");
	ck_bus(bus_listen(p.a, listen_url(1), &patient, &p.la), 0);
	ck_eventually(is_up(p.lb) && stats_of(p.la).peers == 1);
	publish_text(p.b, "secret", "no");
	publish_text(p.b, "public", "yes");
	expect_message(m, "public", "yes");
	expect_nothing(m);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

/* --- messages --------------------------------------------------------------------------------------------------------------- */

START_TEST(wide_filter_brings_readable_topics_and_counts_no_loss)
{
	enum { LARGE = 40000, ROUNDS = 3000 };
	static const char large[LARGE];
	const struct bus_msg *msg;
	struct bus_mailbox *m;
	unsigned sent = 0;
	struct pair p;

	pair_begin(&p, _i == 1, "topic read public/#\ntopic write secret/#\ntopic deny public/raw");
	m = open_mailbox(p.b, "#", .bytes = 4 << 20);
	pair_connect(&p);
	for (unsigned n = 0; n < ROUNDS; n++) {
		char topic[32], text[16];

		snprintf(text, sizeof text, "%u", n);
		snprintf(topic, sizeof topic, "secret/%u", n % 50);
		publish_text(p.a, topic, text);
		publish_text(p.a, "public/raw", text);
		if (n % 100 == 0)
			ck_bus(bus_publish(p.a, "secret/large", large, sizeof large), 0);
		if (n % 3 == 0) {
			snprintf(topic, sizeof topic, "public/%u", n % 7);
			publish_text(p.a, topic, text);
			sent++;
		}
		if (n % 1000 == 0) {
			ck_bus(bus_publish(p.a, "public/large", large, sizeof large), 0);
			sent++;
		}
	}
	publish_text(p.a, "public/end", "end");
	ck_bus(bus_flush(p.a, patience_ms()), 0);
	do {
		must(bus_recv(m, patience_ms(), &msg) == 1);
		must(strncmp(msg->topic, "public/", 7) == 0 && msg->lost == 0);
		sent -= strcmp(msg->topic, "public/end") != 0;
	} while (strcmp(msg->topic, "public/end") != 0);
	ck_assert_uint_eq(sent, 0);
	ck_assert_uint_eq(stats_of(p.la).lost, 0);
	ck_assert_uint_eq(stats_of(p.lb).lost_by_peers, 0);
	ck_eventually(stats_of(p.la).sent == stats_of(p.lb).received);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

static void
break_sessions(void *arg)
{
	struct bus_link *link = arg;
	struct bus__session *next;

	for (struct bus__session *s = link->sessions; s != NULL; s = next) {
		next = s->next;
		bus__session_end(s, BUS_E_GONE);
	}
}

START_TEST(no_gap_after_an_outage_counts_withheld_messages)
{
	struct bus_mailbox *m;
	struct pair p;

	pair_begin(&p, _i == 1, "topic read public");
	m = subscriber(p.b, "#");
	pair_connect(&p);
	for (unsigned n = 0; n < 100; n++)
		publish_text(p.a, "secret", "no");
	publish_text(p.a, "public", "1");
	expect_message(m, "public", "1");
	bus__loop_call(&p.la->links->loop, break_sessions, p.la);
	ck_eventually(stats_of(p.lb).ended[BUS_LINK_END_GONE] == 1);
	ck_eventually(is_up(p.lb) && stats_of(p.la).peers == 1);
	publish_text(p.a, "public", "2");
	ck_assert_uint_eq(expect_message(m, "public", "2")->lost, 0);
	ck_assert_uint_eq(stats_of(p.lb).lost_by_peers, 0);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

START_TEST(message_above_the_limit_of_a_peer_is_lost_only_if_it_may_be_read)
{
	enum { LARGE = 5000 };
	static const char large[LARGE];
	struct bus_mailbox *m;
	struct pair p;

	pair_begin(&p, false, "topic read public/#");
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	ck_bus(
	    bus_open(NULL,
		&(struct bus_config){.size = sizeof(struct bus_config), .max_payload = 1000}, &p.b),
	    0);
	m = subscriber(p.b, "#");
	pair_connect(&p);
	ck_bus(bus_publish(p.a, "secret", large, sizeof large), 0);
	publish_text(p.a, "public", "1");
	ck_assert_uint_eq(expect_message(m, "public", "1")->lost, 0);
	ck_bus(bus_publish(p.a, "public", large, sizeof large), 0);
	publish_text(p.a, "public", "2");
	ck_assert_uint_eq(expect_message(m, "public", "2")->lost, 1);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

/* More topics than one round of the link thread looks at, and nothing else wakes it. */
START_TEST(many_values_that_may_not_be_read_hide_none_that_may)
{
	enum { MANY = 5000 };
	struct bus_mailbox *m;
	struct pair p;

	pair_begin(&p, _i == 1, "topic read public");
	for (unsigned n = 0; n < MANY; n++) {
		char topic[32];

		snprintf(topic, sizeof topic, "secret/%u", n);
		retain_text(p.a, topic, "no");
		if (n == MANY / 2)
			retain_text(p.a, "public", "yes");
	}
	m = subscriber(p.b, "#");
	pair_connect(&p);
	expect_message(m, "public", "yes");
	/* A value that changes goes the same way. */
	retain_text(p.a, "secret/1", "still not");
	retain_text(p.a, "public", "more");
	expect_message(m, "public", "more");
	expect_nothing(m);
	ck_eventually(stats_of(p.la).sent == 2);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

START_TEST(readable_value_arrives_behind_ten_thousand_unreadable_topics)
{
	struct bus_mailbox *m;
	struct pair p;

	pair_begin(&p, false, "topic read public");
	m = subscriber(p.b, "#");
	pair_connect(&p);
	/* Numbers of topics are reused, and the note on one topic does not hold for another. */
	for (unsigned n = 0; n < BUS__LIMIT_TOPICS; n++) {
		char topic[32];

		snprintf(topic, sizeof topic, "secret/%u", n);
		publish_text(p.a, topic, "no");
		if (n % 1000 == 0)
			ck_bus(bus_flush(p.a, patience_ms()), 0);
	}
	publish_text(p.a, "public", "1");
	publish_text(p.a, "secret/0", "no");
	publish_text(p.a, "secret/1", "no");
	publish_text(p.a, "public", "2");
	expect_message(m, "public", "1");
	expect_message(m, "public", "2");
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

/* --- messages of the peer --------------------------------------------------------------------------------------------------- */

START_TEST(message_on_a_topic_that_may_not_be_written_is_refused_and_counted)
{
	struct bus_mailbox *m;
	struct pair p;

	pair_begin(&p, _i == 1, "topic write ok/#\ntopic read secret/#");
	m = subscriber(p.a, "#");
	pair_connect(&p);
	for (unsigned n = 0; n < 100; n++)
		publish_text(p.b, n % 2 ? "secret/x" : "ok/x", "m");
	retain_text(p.b, "secret/kept", "no");
	retain_text(p.b, "ok/kept", "yes");
	for (unsigned n = 0; n < 50; n++)
		ck_assert_uint_eq(expect_message(m, "ok/x", "m")->lost, 0);
	expect_message(m, "ok/kept", "yes");
	expect_nothing(m);
	ck_eventually(stats_of(p.la).refused == 51 && stats_of(p.la).received == 51);
	ck_assert_uint_eq(stats_of(p.la).lost_by_peers, 0);
	/* The other side gets one DENY for each topic. */
	ck_eventually(stats_of(p.lb).refused == 2);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

/* A dialler offers each bus all its values, also those that it has from there. */
START_TEST(value_that_a_reader_offers_back_is_no_attempt_to_write)
{
	struct bus_mailbox *m, *there;
	struct pair p;

	pair_begin(&p, _i == 1, "topic read room/#");
	m = subscriber(p.a, "#");
	there = subscriber(p.b, "room/#");
	retain_text(p.a, "room/lamp", "on");
	expect_message(m, "room/lamp", "on");
	pair_connect(&p);
	expect_message(there, "room/lamp", "on");
	for (unsigned again = 1; again <= 2; again++) {
		uint64_t before;

		bus_link_close(p.lb);
		ck_eventually(stats_of(p.la).peers == 0);
		before = stats_of(p.la).received;
		pair_connect(&p);
		publish_text(p.b, "room/mark", "no");
		ck_eventually(stats_of(p.lb).sent == 2);
		ck_eventually(
		    stats_of(p.la).received == before + 1 && stats_of(p.la).refused == again);
		ck_eventually(stats_of(p.lb).refused == 1);
	}
	/* A value of its own is an attempt. */
	retain_text(p.b, "room/lamp", "off");
	ck_eventually(stats_of(p.la).refused == 3 && stats_of(p.lb).refused == 2);
	expect_nothing(m);
	bus_mailbox_close(there);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

/* --- questions ---------------------------------------------------------------------------------------------------------------- */

static void
answer(void *arg, const struct bus_msg *msg)
{
	const struct bus_msg reply = {.size = sizeof reply, .data = "re", .len = 2};

	ck_bus(bus_reply_msg(arg, msg, &reply), 0);
}

static int
ask(struct bus *bus, const char *topic)
{
	const struct bus_msg question = {
	    .size = sizeof question, .topic = topic, .data = "?", .len = 1};
	const struct bus_msg *reply;
	int err = bus_request_msg(bus, &question, patience_ms(), &reply);

	if (err == 0) {
		ck_assert_uint_eq(reply->len, 2);
		bus_msg_free(reply);
	}
	return err;
}

START_TEST(question_needs_the_right_to_write_its_topic_and_the_reply_returns)
{
	struct pair p;

	pair_begin(&p, false, "topic write may/ask\ntopic read may/hear");
	ck_bus(bus_subscribe(p.a, "#", answer, p.a, NULL), 0);
	ck_bus(bus_subscribe(p.b, "+/hear", answer, p.b, NULL), 0);
	pair_connect(&p);
	ck_bus(ask(p.b, "may/ask"), 0);
	/* The responder here does not get it, and the asker does not wait. */
	ck_bus(ask(p.b, "may/not"), BUS_E_NOBODY);
	pair_close(&p);
}
END_TEST

START_TEST(question_that_a_peer_may_not_read_is_not_put_to_it)
{
	struct pair p;

	pair_begin(&p, false, "topic read may/hear");
	ck_bus(bus_subscribe(p.b, "+/hear", answer, p.b, NULL), 0);
	pair_connect(&p);
	ck_bus(ask(p.a, "may/hear"), 0);
	ck_bus(ask(p.a, "secret/hear"), BUS_E_NOBODY);
	pair_close(&p);
}
END_TEST

/* --- users ------------------------------------------------------------------------------------------------------------------------ */

struct naming {
	struct bus_link *link;
	const char *name;
	unsigned sessions;
};

static void
name_sessions(void *arg)
{
	struct naming *naming = arg;

	naming->sessions = 0;
	for (struct bus__session *s = naming->link->sessions; s != NULL; s = s->next) {
		strcpy(s->identity.name, naming->name);
		naming->sessions++;
	}
}

static bool
has_session(struct naming *naming)
{
	bus__loop_call(&naming->link->links->loop, name_sessions, naming);
	return naming->sessions == 1;
}

/* A raw peer with this user from the start. */
static void
raw_user(struct raw_peer *peer, struct pair *p, const char *name)
{
	struct naming naming = {.link = p->la, .name = name};

	ck_assert(raw_open(peer, p->url, name));
	ck_eventually(has_session(&naming));
	ck_assert(raw_ready(peer));
	ck_eventually(stats_of(p->la).peers == 1);
}

/* Reads frames up to one of that kind and copies its body. */
static unsigned
await_frame(struct raw_peer *peer, enum bus__frame_kind kind, char *ret_text)
{
	uint8_t head[BUS__FRAME_HEAD];
	uint32_t len;

	do {
		ck_assert_int_eq(recv(peer->fd, head, sizeof head, MSG_WAITALL), sizeof head);
		memcpy(&len, head, sizeof len);
		ck_assert_uint_lt(len, 1024);
		ck_assert(len == 0 || recv(peer->fd, ret_text, len, MSG_WAITALL) == (ssize_t)len);
		ret_text[len] = '\0';
	} while (head[4] != kind);
	return head[6];
}

static void
raw_await_deny(struct raw_peer *peer, enum bus__deny what, const char *name)
{
	char text[1025];

	ck_assert_uint_eq(await_frame(peer, BUS__FRAME_DENY, text), what);
	ck_assert_str_eq(text, name);
}

START_TEST(peer_learns_which_topic_or_filter_was_refused)
{
	struct raw_peer *peer = calloc(1, sizeof *peer);
	uint8_t preamble[BUS__PREAMBLE];
	struct bus_mailbox *m;
	char text[1025];
	struct pair p;

	pair_begin(&p, _i == 1, "user pico\ntopic read all/#\npattern readwrite home/%u/#");
	m = subscriber(p.a, "home/#");
	raw_user(peer, &p, "pico");
	ck_assert_int_eq(recv(peer->fd, preamble, sizeof preamble, MSG_WAITALL), sizeof preamble);
	ck_assert(raw_text(peer, BUS__FRAME_SUB, 0, "home/zero/#"));
	ck_assert(raw_text(peer, BUS__FRAME_SUB, 0, "+/pico/+"));
	ck_assert(raw_text(peer, BUS__FRAME_TOPIC, 7, "home/zero/x"));
	ck_assert(raw_text(peer, BUS__FRAME_TOPIC, 8, "home/pico/x"));
	ck_assert(raw_message(peer, 7, 0, 0, "no", 2));
	ck_assert(raw_message(peer, 8, 0, 0, "yes", 3));
	ck_assert(raw_flush(peer));
	raw_await_deny(peer, BUS__DENY_FILTER, "home/zero/#");
	raw_await_deny(peer, BUS__DENY_TOPIC, "home/zero/x");
	expect_message(m, "home/pico/x", "yes");
	/* A number of a refused topic can be given to an allowed one. */
	ck_assert(raw_text(peer, BUS__FRAME_TOPIC, 7, "home/pico/y"));
	ck_assert(raw_message(peer, 7, 0, 0, "now", 3));
	ck_assert(raw_flush(peer));
	expect_message(m, "home/pico/y", "now");
	publish_text(p.a, "home/zero/z", "no");
	publish_text(p.a, "x/pico/z", "no");
	publish_text(p.a, "home/pico/z", "hello");
	await_frame(peer, BUS__FRAME_TOPIC, text);
	ck_assert_str_eq(text, "home/pico/z");
	await_frame(peer, BUS__FRAME_MSG, text);
	ck_assert_str_eq(text, "hello");
	close(peer->fd);
	free(peer);
	bus_mailbox_close(m);
	bus_link_close(p.la);
	ck_assert_int_ge(bus_close(p.a, patience_ms()), 0);
	ck_bus(bus_close(p.b, patience_ms()), 0);
}
END_TEST

START_TEST(deny_of_an_unknown_kind_or_without_a_text_ends_the_link)
{
	struct raw_peer *peer = calloc(1, sizeof *peer);
	struct pair p;

	pair_begin(&p, false, "topic #");
	ck_assert(raw_open(peer, p.url, "raw") && raw_ready(peer));
	ck_eventually(stats_of(p.la).peers == 1);
	ck_assert(raw_frame(peer, BUS__FRAME_DENY, BUS__DENY_TOPIC, "a", 1) && raw_flush(peer));
	ck_eventually(stats_of(p.la).refused == 1);
	switch (_i) {
	case 0:
		ck_assert(raw_frame(peer, BUS__FRAME_DENY, BUS__DENY_TOPIC + 1, "a", 1));
		break;
	case 1:
		ck_assert(raw_frame(peer, BUS__FRAME_DENY, 0, "a\0b", 3));
		break;
	default:
		ck_assert(raw_frame(peer, BUS__FRAME_DENY, 0, "", 0));
	}
	ck_assert(raw_flush(peer));
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_PROTOCOL] == 1);
	close(peer->fd);
	free(peer);
	bus_link_close(p.la);
	ck_assert_int_ge(bus_close(p.a, patience_ms()), 0);
	ck_bus(bus_close(p.b, patience_ms()), 0);
}
END_TEST

/* --- memory ---------------------------------------------------------------------------------------------------------------------- */

/* Without memory to note that a topic may not be read, the ACL is asked for each message. */
START_TEST(topic_stays_withheld_without_memory)
{
	struct bus_mailbox *m;
	struct pair p;

	pair_begin(&p, false, "topic read public");
	m = subscriber(p.b, "#");
	pair_connect(&p);
	for (long n = 0; n < 40; n++) {
		bus__mem_fail_after(n);
		bus_publish(p.a, "secret", "no", 2);
		bus_publish(p.a, "secret/2", "no", 2);
		bus_flush(p.a, 100);
		bus__mem_fail_after(-1);
	}
	/* A connection may have ended for want of memory. */
	ck_eventually(is_up(p.lb) && stats_of(p.la).peers == 1);
	publish_text(p.a, "public", "yes");
	expect_message(m, "public", "yes");
	expect_nothing(m);
	bus_mailbox_close(m);
	pair_close(&p);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("link acl");
	TCase *tcase = tcase_create("link acl");

	tcase_set_timeout(tcase, bus_test_limit());
	tcase_add_test(tcase, filter_that_can_bring_nothing_is_refused_and_the_connection_stays);
	tcase_add_test(tcase, dialling_side_may_have_an_acl_too);
	tcase_add_loop_test(tcase, wide_filter_brings_readable_topics_and_counts_no_loss, 0, 2);
	tcase_add_loop_test(tcase, no_gap_after_an_outage_counts_withheld_messages, 0, 2);
	tcase_add_test(tcase, message_above_the_limit_of_a_peer_is_lost_only_if_it_may_be_read);
	tcase_add_loop_test(tcase, many_values_that_may_not_be_read_hide_none_that_may, 0, 2);
	tcase_add_test(tcase, readable_value_arrives_behind_ten_thousand_unreadable_topics);
	tcase_add_loop_test(
	    tcase, message_on_a_topic_that_may_not_be_written_is_refused_and_counted, 0, 2);
	tcase_add_loop_test(tcase, value_that_a_reader_offers_back_is_no_attempt_to_write, 0, 2);
	tcase_add_test(tcase, question_needs_the_right_to_write_its_topic_and_the_reply_returns);
	tcase_add_test(tcase, question_that_a_peer_may_not_read_is_not_put_to_it);
	tcase_add_loop_test(tcase, peer_learns_which_topic_or_filter_was_refused, 0, 2);
	tcase_add_loop_test(tcase, deny_of_an_unknown_kind_or_without_a_text_ends_the_link, 0, 3);
	tcase_add_test(tcase, topic_stays_withheld_without_memory);
	suite_add_tcase(suite, tcase);
	return suite;
}
