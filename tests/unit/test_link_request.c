/* Questions and replies between buses. Each test runs over inproc, ipc and tcp. */
#include "link_test.h"

/* Answers by the question's payload, `times` times, and keeps the last question. */
struct answerer {
	struct bus *bus;
	int times;
	_Atomic unsigned asked;
	const struct bus_msg *question;
};

static void
answer(void *arg, const struct bus_msg *msg)
{
	struct answerer *a = arg;
	const struct bus_msg reply = {.size = sizeof reply,
	    .data = msg->data,
	    .len = msg->len,
	    .type = msg->type,
	    .headers = msg->headers,
	    .headers_len = msg->headers_len};

	/* Before the reply: its receiver may read and free the question. */
	bus_msg_free(a->question);
	ck_bus(bus_msg_keep(msg, &a->question), 0);
	a->asked++;
	for (int i = 0; i < a->times; i++)
		ck_bus(bus_reply_msg(a->bus, msg, &reply), 0);
}

static uint64_t
late_replies(struct bus *bus)
{
	struct bus_stats stats = {.size = sizeof stats};

	ck_bus(bus_stats(bus, &stats), 0);
	return stats.late_replies;
}

struct asker {
	_Atomic unsigned replies, ends;
};

static void
count(void *arg, const struct bus_msg *msg)
{
	struct asker *a = arg;

	if (msg == NULL)
		a->ends++;
	else
		a->replies++;
}

START_TEST(question_is_answered_across_a_link)
{
	enum { LARGE = 100000 };
	static char large[LARGE];
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct answerer a = {.bus = p.a, .times = 1};
	struct bus_msg question = {.size = sizeof question,
	    .topic = "q",
	    .data = "hi",
	    .len = 2,
	    .type = BUS_TYPE_JSON,
	    .headers = "\x81\x01\x02",
	    .headers_len = 3};
	const struct bus_msg *reply;

	ck_bus(bus_subscribe(p.a, "q", answer, &a, NULL), 0);
	pair_link(&p, _i, NULL);
	for (int i = 0; i < 50; i++) {
		ck_bus(bus_request_msg(p.b, &question, patience_ms(), &reply), 0);
		ck_assert_str_eq(reply->topic, "q");
		ck_assert_uint_eq(reply->len, question.len);
		ck_assert_int_eq(memcmp(reply->data, question.data, reply->len), 0);
		ck_assert_int_eq(reply->type, BUS_TYPE_JSON);
		ck_assert_uint_eq(reply->headers_len, 3);
		ck_assert_mem_eq(reply->headers, "\x81\x01\x02", 3);
		bus_msg_free(reply);
		question.data = large;
		question.len = i % 2 == 0 ? LARGE : 500;
	}
	ck_assert_uint_eq(late_replies(p.a) + late_replies(p.b), 0);
	ck_eventually(stats_of(p.lb).received == 50);
	bus_msg_free(a.question);
	pair_close(&p);
}
END_TEST

START_TEST(listening_side_may_ask_too_and_from_a_mailbox)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct answerer b = {.bus = p.b, .times = 3};
	struct asker asker = {.replies = 0};
	struct bus_request *req;
	struct bus_mailbox *mbox;

	ck_bus(bus_subscribe(p.b, "q", answer, &b, NULL), 0);
	ck_bus(bus_mailbox_open(p.a, NULL, &mbox), 0);
	pair_link(&p, _i, NULL);
	ck_bus(bus_request_start(mbox, "q", "hi", 2, patience_ms(), count, &asker, &req), 0);
	while (asker.replies < 3)
		ck_assert_int_ge(bus_dispatch(mbox, patience_ms(), 0), 1);
	bus_request_cancel(req);
	ck_assert_uint_eq(asker.ends, 1);
	bus_mailbox_close(mbox);
	bus_msg_free(b.question);
	pair_close(&p);
}
END_TEST

START_TEST(reply_goes_to_the_peer_that_asked_and_to_no_other)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus *c = open_bus();
	struct answerer a = {.bus = p.a, .times = 1};
	struct heard at_c = {.count = 0};
	const struct bus_msg *reply;
	struct bus_link *lc;

	ck_bus(bus_subscribe(p.a, "q", answer, &a, NULL), 0);
	ck_bus(bus_subscribe(c, "#", hear, &at_c, NULL), 0);
	pair_link(&p, _i, NULL);
	ck_bus(bus_dial(c, p.url, NULL, &lc), 0);
	ck_eventually(is_up(lc));
	ck_bus(bus_request(p.b, "q", "hi", 2, patience_ms(), &reply), 0);
	bus_msg_free(reply);
	ck_bus(bus_publish(p.a, "mark", "1", 1), 0);
	ck_eventually(at_c.count > 0);
	ck_assert_str_eq(at_c.topic, "mark");
	ck_eventually(stats_of(lc).received == 1);
	bus_link_close(lc);
	ck_assert_int_ge(bus_close(c, 5000), 0);
	bus_msg_free(a.question);
	pair_close(&p);
}
END_TEST

START_TEST(question_fails_when_the_last_responder_unsubscribes)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct answerer a = {.bus = p.a, .times = 1};
	const struct bus_msg *reply;
	struct bus_sub *sub;

	ck_bus(bus_subscribe(p.a, "q", answer, &a, &sub), 0);
	pair_link(&p, _i, NULL);
	ck_bus(bus_request(p.b, "q", "hi", 2, patience_ms(), &reply), 0);
	bus_msg_free(reply);
	bus_unsubscribe(sub, NULL);
	/* The peer declined, or this bus knew already. */
	ck_bus(bus_request(p.b, "q", "hi", 2, -1, &reply), BUS_E_NOBODY);
	bus_msg_free(a.question);
	pair_close(&p);
}
END_TEST

START_TEST(peer_without_a_responder_declines_at_once)
{
	enum { FILTERS = 10050 };
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct asker asker = {.replies = 0};
	struct bus_mailbox *deaf, *mbox;
	const struct bus_msg *reply;
	char filter[32];
	int err;

	/* More filters than a peer takes become one for everything. So the question crosses, and finds no responder. */
	ck_bus(bus_mailbox_open(p.a, NULL, &deaf), 0);
	for (int i = 0; i < FILTERS; i++) {
		snprintf(filter, sizeof filter, "f/%d", i);
		ck_bus(bus_mailbox_subscribe(deaf, filter, NULL, NULL, NULL), 0);
	}
	ck_bus(bus_mailbox_open(p.b, NULL, &mbox), 0);
	pair_link(&p, _i, NULL);
	ck_bus(bus_request(p.b, "q", "hi", 2, -1, &reply), BUS_E_NOBODY);
	err = bus_request_start(mbox, "q", "hi", 2, -1, count, &asker, NULL);
	/* It arrived before the call was through, or after. */
	if (err != BUS_E_NOBODY)
		ck_bus(err, 0);
	while (err == 0 && asker.ends == 0)
		ck_bus(bus_dispatch(mbox, -1, 0), 0);
	ck_assert_uint_eq(asker.ends, err == 0);
	ck_assert_uint_eq(asker.replies, 0);
	ck_eventually(stats_of(p.lb).sent == 2);
	bus_mailbox_close(deaf);
	bus_mailbox_close(mbox);
	pair_close(&p);
}
END_TEST

START_TEST(peer_without_room_for_the_topic_is_no_responder)
{
	const struct bus_config cfg = {.size = sizeof cfg, .max_topics = 1};
	const struct bus_msg kept = {
	    .size = sizeof kept, .topic = "kept", .data = "1", .len = 1, .flags = BUS_MSG_RETAIN};
	struct pair p = {.b = open_bus()};
	struct answerer a = {.times = 1};
	const struct bus_msg *reply;

	ck_bus(bus_open(NULL, &cfg, &p.a), 0);
	ck_bus(bus_publish_msg(p.a, &kept), 0);
	ck_bus(bus_subscribe(p.a, "q", answer, &a, NULL), 0);
	pair_link(&p, _i, NULL);
	ck_bus(bus_request(p.b, "q", "hi", 2, -1, &reply), BUS_E_NOBODY);
	pair_close(&p);
}
END_TEST

START_TEST(reply_after_the_deadline_or_the_link_is_counted)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct answerer a = {.bus = p.a, .times = 0};
	const struct bus_msg *reply;

	ck_bus(bus_subscribe(p.a, "q", answer, &a, NULL), 0);
	pair_link(&p, _i, NULL);
	/* Doubled until the question survives the way there. */
	for (int ms = 1; a.asked == 0; ms *= 2)
		ck_bus(bus_request(p.b, "q", "hi", 2, ms, &reply), BUS_E_TIMEDOUT);
	/* A question on the wire would replace a.question when it arrives. */
	ck_bus(bus_flush(p.b, patience_ms()), 0);
	ck_eventually(stats_of(p.la).received == stats_of(p.lb).sent);
	ck_bus(bus_flush(p.a, patience_ms()), 0);
	ck_bus(bus_reply(p.a, a.question, "late", 4), 0);
	ck_eventually(late_replies(p.a) + late_replies(p.b) == 1);
	bus_link_close(p.lb);
	ck_eventually(stats_of(p.la).peers == 0);
	/* A first one may still get into the mailbox of the peer, and be lost with that. */
	ck_eventually((bus_reply(p.a, a.question, "late", 4), late_replies(p.a) >= 1));
	p.lb = NULL;
	bus_msg_free(a.question);
	pair_close(&p);
}
END_TEST

START_TEST(more_open_questions_than_a_peer_remembers_lose_the_oldest)
{
	enum { MANY = 1100 };
	const struct bus_link_config cfg = {.size = sizeof cfg, .bytes = 4 << 20};
	const struct bus_mailbox_config box = {.size = sizeof box, .bytes = 4 << 20};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	static struct asker askers[MANY];
	static const struct bus_msg *questions[MANY];
	const struct bus_msg *msg;
	struct bus_mailbox *mbox, *there;
	unsigned replies = 0;

	memset(askers, 0, sizeof askers);
	ck_bus(bus_mailbox_open(p.a, &box, &there), 0);
	ck_bus(bus_mailbox_subscribe(there, "q", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_open(p.b, &box, &mbox), 0);
	pair_link(&p, _i, &cfg);
	for (int i = 0; i < MANY; i++)
		ck_bus(bus_request_start(mbox, "q", "hi", 2, -1, count, &askers[i], NULL), 0);
	for (int i = 0; i < MANY; i++) {
		ck_bus(bus_recv(there, patience_ms(), &msg), 1);
		ck_bus(bus_msg_keep(msg, &questions[i]), 0);
	}
	for (int i = 0; i < MANY; i++) {
		ck_bus(bus_reply(p.a, questions[i], "x", 1), 0);
		bus_msg_free(questions[i]);
	}
	ck_assert_uint_eq(late_replies(p.a), MANY - 1024);
	while (replies < 1024)
		replies += (unsigned)bus_dispatch(mbox, patience_ms(), 0);
	ck_assert_uint_eq(askers[0].replies, 0);
	ck_assert_uint_eq(askers[MANY - 1].replies, 1);
	bus_mailbox_close(mbox);
	ck_assert_uint_eq(askers[0].ends, 1);
	bus_mailbox_close(there);
	pair_close(&p);
}
END_TEST

Suite *
bus_test_suite(void)
{
	static const TTest *const *const tests[] = {&question_is_answered_across_a_link,
	    &listening_side_may_ask_too_and_from_a_mailbox,
	    &reply_goes_to_the_peer_that_asked_and_to_no_other,
	    &question_fails_when_the_last_responder_unsubscribes,
	    &peer_without_a_responder_declines_at_once,
	    &peer_without_room_for_the_topic_is_no_responder,
	    &reply_after_the_deadline_or_the_link_is_counted,
	    &more_open_questions_than_a_peer_remembers_lose_the_oldest};
	Suite *suite = suite_create("link request");
	TCase *tcase = bus_test_case("over inproc, ipc, tcp");

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_loop_test(tcase, *tests[i], 0, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, tcase);
	return suite;
}
