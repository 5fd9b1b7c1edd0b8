/* Questions and their replies, in one bus. */
#define _GNU_SOURCE
#include "link_test.h"

#include <poll.h>
#include <pthread.h>

#include "base/mem.h"

/* Answers every question by its own text in brackets, `times` times. */
struct answerer {
	struct bus *bus;
	int times;
	_Atomic int err;
	_Atomic unsigned asked;
};

static void
answer(void *arg, const struct bus_msg *msg)
{
	struct answerer *a = arg;
	char text[64];
	int len = snprintf(text, sizeof text, "[%.*s]", (int)msg->len, (const char *)msg->data);

	ck_assert_uint_ne(msg->reply_to, 0);
	for (int i = 0; i < a->times; i++)
		a->err = bus_reply(a->bus, msg, text, (size_t)len);
	a->asked++;
}

/* The calls that a request got. */
struct asker {
	_Atomic unsigned replies, ends, wrong;
	char last[64];
	struct bus_request *cancel; /* by the first reply */
	pthread_t thread;           /* that called its end */
};

static void
listen(void *arg, const struct bus_msg *msg)
{
	struct asker *a = arg;

	a->wrong += a->ends > 0; /* no call follows the end */
	if (msg == NULL) {
		a->thread = pthread_self();
		a->ends++;
		return;
	}
	a->wrong += strcmp(msg->topic, "q") != 0 || msg->reply_to != 0;
	snprintf(a->last, sizeof a->last, "%.*s", (int)msg->len, (const char *)msg->data);
	a->replies++;
	bus_request_cancel(a->cancel);
	a->cancel = NULL;
}

static uint64_t
late_replies(struct bus *bus)
{
	struct bus_stats stats = {.size = sizeof stats};

	ck_bus(bus_stats(bus, &stats), 0);
	return stats.late_replies;
}

static int
start(struct bus_mailbox *mbox, int timeout_ms, struct asker *asker, struct bus_request **ret_req)
{
	return bus_request_start(mbox, "q", "hi", 2, timeout_ms, listen, asker, ret_req);
}

/* --- blocking ------------------------------------------------------------------------------------------------ */

START_TEST(question_gets_the_reply_of_its_responder)
{
	static char large[5000];
	struct bus *bus = open_bus();
	struct answerer a = {.bus = bus, .times = 1};
	const struct bus_msg *reply;

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	for (int i = 0; i < 100; i++) {
		ck_bus(bus_request(bus, "q", "hi", 2, patience_ms(), &reply), 0);
		ck_assert_str_eq(reply->topic, "q");
		ck_assert_uint_eq(reply->len, 4);
		ck_assert_mem_eq(reply->data, "[hi]", 4);
		bus_msg_free(reply);
	}
	ck_bus(bus_request(bus, "q", large, sizeof large, patience_ms(), &reply), 0);
	bus_msg_free(reply);
	ck_bus(a.err, 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
answer_in_full(void *arg, const struct bus_msg *msg)
{
	struct answerer *a = arg;
	struct bus_msg reply = {.size = sizeof reply,
	    .data = "42",
	    .len = 2,
	    .type = BUS_TYPE_JSON,
	    .headers = msg->headers,
	    .headers_len = msg->headers_len};

	ck_assert_int_eq(msg->type, BUS_TYPE_TEXT);
	ck_assert(msg->ttl_ms > 0 && msg->ttl_ms <= (uint32_t)patience_ms());
	a->err = bus_reply_msg(a->bus, msg, &reply);
}

START_TEST(type_and_headers_go_both_ways)
{
	struct bus *bus = open_bus();
	struct answerer a = {.bus = bus};
	const struct bus_msg question = {.size = sizeof question,
	    .topic = "q",
	    .data = "?",
	    .len = 1,
	    .type = BUS_TYPE_TEXT,
	    .headers = "\x81\x01\x02",
	    .headers_len = 3};
	const struct bus_msg *reply;

	ck_bus(bus_subscribe(bus, "q", answer_in_full, &a, NULL), 0);
	ck_bus(bus_request_msg(bus, &question, patience_ms(), &reply), 0);
	ck_assert_int_eq(reply->type, BUS_TYPE_JSON);
	ck_assert_uint_eq(reply->headers_len, 3);
	ck_assert_mem_eq(reply->headers, "\x81\x01\x02", 3);
	bus_msg_free(reply);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(question_without_a_responder_fails_at_once)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct asker asker = {.replies = 0};
	const struct bus_msg *reply;

	ck_bus(bus_request(bus, "q", "hi", 2, -1, &reply), BUS_E_NOBODY);
	ck_bus(start(mbox, -1, &asker, NULL), BUS_E_NOBODY);
	ck_bus(bus_dispatch(mbox, 0, 0), 0);
	bus_mailbox_close(mbox);
	ck_assert_uint_eq(asker.ends, 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(question_without_a_reply_times_out_and_is_not_delivered_later)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	const struct bus_msg *msg, *kept;
	int64_t begun = bus_test_now_ms();

	ck_bus(bus_mailbox_subscribe(mbox, "q", NULL, NULL, NULL), 0);
	ck_bus(bus_request(bus, "q", "hi", 2, 30, &kept), BUS_E_TIMEDOUT);
	ck_assert_int_ge(bus_test_now_ms() - begun, 29);
	ck_bus(bus_recv(mbox, 0, &msg), 0);
	ck_bus(bus_request(bus, "q", "hi", 2, 0, &kept), BUS_E_TIMEDOUT);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
request_inside(void *arg, const struct bus_msg *msg)
{
	struct answerer *a = arg;
	const struct bus_msg *reply;

	(void)msg;
	a->err = bus_request(a->bus, "q", "hi", 2, -1, &reply);
	a->asked++;
}

START_TEST(callback_may_not_wait_for_a_reply)
{
	struct bus *bus = open_bus();
	struct answerer a = {.bus = bus};

	ck_bus(bus_subscribe(bus, "#", request_inside, &a, NULL), 0);
	ck_bus(bus_publish(bus, "x", "", 0), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_bus(a.err, BUS_E_STATE);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(malformed_question_is_refused)
{
	const struct bus_msg retained = {
	    .size = sizeof retained, .topic = "q", .flags = BUS_MSG_RETAIN};
	const struct bus_msg plain = {.size = sizeof plain, .topic = "q"};
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_PUBLISHER);
	struct asker asker = {.replies = 0};
	const struct bus_msg *reply;

	ck_bus(bus_request(bus, "q", NULL, 2, 0, &reply), BUS_E_INVAL);
	ck_bus(bus_request(bus, "q", "", 0, 0, NULL), BUS_E_INVAL);
	ck_bus(bus_request(bus, "q/+", "", 0, 0, &reply), BUS_E_TOPIC_WILDCARD);
	ck_bus(bus_request(bus, "", "", 0, 0, &reply), BUS_E_TOPIC_EMPTY);
	ck_bus(bus_request(bus, NULL, "", 0, 0, &reply), BUS_E_INVAL);
	ck_bus(bus_request_msg(bus, &retained, 0, &reply), BUS_E_INVAL);
	ck_bus(bus_reply(bus, &plain, "", 0), BUS_E_INVAL);
	ck_bus(bus_reply(bus, NULL, "", 0), BUS_E_INVAL);
	ck_bus(start(mbox, 0, &asker, NULL), BUS_E_INVAL);
	ck_bus(bus_request_start(NULL, "q", "", 0, 0, listen, &asker, NULL), BUS_E_INVAL);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(reply_to_a_question_that_is_over_is_counted)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	const struct bus_msg *msg, *question, *reply;
	struct answerer a = {.bus = bus, .times = 3};

	ck_bus(bus_mailbox_subscribe(mbox, "late", NULL, NULL, NULL), 0);
	ck_bus(bus_request(bus, "late", "hi", 2, 1, &reply), BUS_E_TIMEDOUT);
	ck_bus(bus_publish(bus, "late", "hi", 2), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_eq(msg->reply_to, 0);
	ck_bus(bus_msg_keep(msg, &question), 0);
	((struct bus_msg *)(uintptr_t)question)->reply_to = 12345;
	ck_bus(bus_reply(bus, question, "", 0), 0);
	ck_assert_uint_eq(late_replies(bus), 1);
	bus_msg_free(question);
	bus_msg_free(NULL);
	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	ck_bus(bus_request(bus, "q", "hi", 2, patience_ms(), &reply), 0);
	bus_msg_free(reply);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_assert_uint_eq(late_replies(bus), 3); /* the second and the third */
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void *
ask_for_ever(void *arg)
{
	struct answerer *a = arg;
	const struct bus_msg *reply;

	a->err = bus_request(a->bus, "q", "hi", 2, -1, &reply);
	return NULL;
}

START_TEST(waiting_asker_is_woken_when_the_bus_closes)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct answerer a = {.bus = bus};
	const struct bus_msg *msg;
	pthread_t thread;

	ck_bus(bus_mailbox_subscribe(mbox, "q", NULL, NULL, NULL), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, ask_for_ever, &a), 0);
	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_bus(bus_close(bus, patience_ms()), 0);
	pthread_join(thread, NULL);
	ck_bus(a.err, BUS_E_CLOSED);
	bus_mailbox_close(mbox);
}
END_TEST

enum { THREADS = 4, EACH = 2000 };

static void *
ask_often(void *arg)
{
	struct answerer *a = arg;

	for (int i = 0; i < EACH && a->err == 0; i++) {
		const struct bus_msg *reply;
		char text[32], want[40];
		int len = snprintf(text, sizeof text, "%p %d", arg, i);

		snprintf(want, sizeof want, "[%s]", text);
		a->err = bus_request(a->bus, "q", text, (size_t)len, patience_ms(), &reply);
		if (a->err == 0 &&
		    (reply->len != strlen(want) || memcmp(reply->data, want, reply->len) != 0))
			a->err = BUS_E_DECODE;
		if (a->err == 0)
			bus_msg_free(reply);
	}
	return NULL;
}

START_TEST(each_of_many_threads_gets_the_reply_to_its_own_question)
{
	struct bus *bus = open_bus();
	struct answerer askers[THREADS], a = {.bus = bus, .times = 1};
	pthread_t threads[THREADS];

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	for (int i = 0; i < THREADS; i++) {
		askers[i] = (struct answerer){.bus = bus};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_often, &askers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		ck_bus(askers[i].err, 0);
	}
	ck_eventually(a.asked == THREADS * EACH);
	ck_assert_uint_eq(late_replies(bus), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

struct storm {
	struct bus_mailbox *mbox;
	unsigned seed;
	_Atomic bool stop;
	struct asker askers[EACH];
};

START_TEST(question_is_not_kept)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct bus_mailbox *later = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	const struct bus_msg *msg;
	struct asker asker = {.replies = 0};

	ck_bus(bus_keep(bus, "q", NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "q", NULL, NULL, NULL), 0);
	ck_bus(start(mbox, -1, &asker, NULL), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_uint_ne(msg->reply_to, 0);
	ck_bus(bus_mailbox_subscribe(later, "q", NULL, NULL, NULL), 0);
	ck_bus(bus_recv(later, 0, &msg), 0);
	bus_mailbox_close(later);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- from a mailbox ------------------------------------------------------------------------------------------ */

/* Whether all replies arrive before the deadline, as they do unless the machine is too busy. */
static bool
three_come_in(int policy, int timeout_ms)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = policy);
	struct answerer a = {.bus = bus, .times = 3};
	struct asker asker = {.replies = 0};

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	ck_bus(start(mbox, timeout_ms, &asker, NULL), 0);
	while (asker.ends == 0)
		ck_assert_int_ge(bus_dispatch(mbox, -1, 0), 0);
	ck_assert_uint_le(asker.replies, 3);
	if (asker.replies > 0)
		ck_assert_str_eq(asker.last, "[hi]");
	ck_bus(bus_dispatch(mbox, 0, 0), 0);
	ck_assert_uint_eq(asker.ends, 1);
	ck_assert_uint_eq(asker.wrong, 0);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
	return asker.replies == 3;
}

START_TEST(replies_arrive_until_the_deadline_and_then_the_end_once)
{
	static const int policies[] = {BUS_FULL_DROP_OLDEST, BUS_FULL_DROP_NEWEST, BUS_FULL_REFUSE};

	for (int i = 0; i < 3; i++)
		for (int timeout_ms = 200; !three_come_in(policies[i], timeout_ms); timeout_ms *= 2)
			ck_assert_int_lt(timeout_ms, patience_ms());
}
END_TEST

START_TEST(own_thread_wakes_for_a_deadline_set_while_it_slept)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *deaf = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_THREAD);
	struct asker late = {.replies = 0}, early = {.replies = 0};

	ck_bus(bus_mailbox_subscribe(deaf, "q", NULL, NULL, NULL), 0);
	ck_bus(start(mbox, 600000, &late, NULL), 0);
	for (int i = 0; i < 3; i++)
		bus_test_nap(); /* it sleeps, most likely */
	ck_bus(start(mbox, 5, &early, NULL), 0);
	ck_eventually(early.ends == 1);
	ck_assert_uint_eq(late.ends, 0);
	bus_mailbox_close(mbox);
	ck_assert_uint_eq(late.ends, 1);
	bus_mailbox_close(deaf);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void *
subscribe_often(void *arg)
{
	struct storm *s = arg;
	struct bus_sub *sub;

	while (!s->stop) {
		ck_bus(bus_mailbox_subscribe(s->mbox, "other", answer, NULL, &sub), 0);
		bus_unsubscribe(sub, NULL);
	}
	return NULL;
}

START_TEST(only_the_drainer_reports_an_end)
{
	static struct storm storm;
	struct bus *bus = open_bus();
	struct bus_mailbox *deaf = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	pthread_t thread;

	storm.mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_THREAD);
	ck_bus(bus_mailbox_subscribe(deaf, "q", NULL, NULL, NULL), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, subscribe_often, &storm), 0);
	for (int i = 0; i < 200; i++)
		ck_bus(start(storm.mbox, 1, &storm.askers[i], NULL), 0);
	for (int i = 0; i < 200; i++) {
		ck_eventually(storm.askers[i].ends == 1);
		ck_assert(pthread_equal(storm.askers[i].thread, storm.askers[0].thread));
		ck_assert(!pthread_equal(storm.askers[i].thread, thread));
		ck_assert(!pthread_equal(storm.askers[i].thread, pthread_self()));
	}
	storm.stop = true;
	pthread_join(thread, NULL);
	bus_mailbox_close(storm.mbox);
	bus_mailbox_close(deaf);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(deadlines_are_kept_in_their_order)
{
	enum { MANY = 50 };
	struct bus *bus = open_bus();
	struct bus_mailbox *deaf = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct bus_request *req[MANY];
	struct asker askers[MANY];

	ck_bus(bus_mailbox_subscribe(deaf, "q", NULL, NULL, NULL), 0);
	for (int i = 0; i < MANY; i++) {
		askers[i] = (struct asker){.replies = 0};
		ck_bus(start(mbox, 1 + i * 37 % MANY * 2, &askers[i], &req[i]), 0);
	}
	for (int i = 0; i < MANY; i += 3) {
		bus_request_cancel(req[i]);
		ck_assert_uint_eq(askers[i].ends, 1);
	}
	for (int due = 0; due < MANY; due++)
		for (int i = 0; i < MANY; i++) {
			if (i * 37 % MANY != due)
				continue;
			while (askers[i].ends == 0)
				ck_bus(bus_dispatch(mbox, 1, 0), 0);
			for (int j = 0; j < MANY; j++)
				if (j * 37 % MANY < due)
					ck_assert_uint_eq(askers[j].ends, 1);
			if (i % 3 != 0)
				bus_request_cancel(req[i]);
		}
	bus_mailbox_close(mbox);
	bus_mailbox_close(deaf);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(cancelled_request_hears_of_its_end_and_nothing_more)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct answerer a = {.bus = bus, .times = 1};
	struct asker asker = {.replies = 0};
	struct bus_request *req;

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	ck_bus(start(mbox, -1, &asker, &req), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0); /* the reply waits in the mailbox */
	bus_request_cancel(req);
	ck_bus(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(asker.ends, 1);
	ck_assert_uint_eq(asker.replies, 0);
	bus_request_cancel(NULL);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(reply_may_cancel_its_own_request)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct answerer a = {.bus = bus, .times = 3};
	struct asker asker = {.replies = 0};

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	ck_bus(start(mbox, -1, &asker, &asker.cancel), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_assert_int_ge(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(asker.replies, 1);
	ck_assert_uint_eq(asker.ends, 1);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(recv_calls_the_asker_and_returns_other_messages)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct answerer a = {.bus = bus, .times = 2};
	struct asker asker = {.replies = 0};
	const struct bus_msg *msg;

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "other", NULL, NULL, NULL), 0);
	/* This test needs a deadline that passes after two replies: a busy machine gets a later one. */
	for (int timeout_ms = 250;; timeout_ms *= 2) {
		int64_t begun = bus_test_now_ms();

		ck_bus(start(mbox, timeout_ms, &asker, NULL), 0);
		ck_bus(bus_flush(bus, patience_ms()), 0);
		if (bus_test_now_ms() < begun + timeout_ms)
			break;
		ck_assert_int_lt(timeout_ms, patience_ms());
		while (asker.ends == 0)
			ck_assert_int_ge(bus_dispatch(mbox, -1, 0), 0);
		asker = (struct asker){.replies = 0};
	}
	ck_bus(bus_publish(bus, "other", "1", 1), 0);
	ck_bus(bus_recv(mbox, -1, &msg), 0);
	ck_assert_uint_eq(asker.replies, 1);
	ck_bus(bus_recv(mbox, -1, &msg), 0);
	ck_assert_uint_eq(asker.replies, 2);
	ck_bus(bus_recv(mbox, -1, &msg), 1);
	ck_assert_str_eq(msg->topic, "other");
	while (asker.ends == 0)
		ck_bus(bus_recv(mbox, -1, &msg), 0);
	ck_assert_uint_eq(asker.wrong, 0);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(descriptor_is_readable_for_replies_and_deadlines)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct answerer a = {.bus = bus, .times = 1};
	struct asker first = {.replies = 0}, second = {.replies = 0}, third = {.replies = 0};
	struct pollfd polled = {.events = POLLIN};

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	ck_bus(start(mbox, 30, &first, NULL), 0); /* before there is a descriptor, and after */
	polled.fd = bus_mailbox_fd(mbox);
	ck_assert_int_ge(polled.fd, 0);
	ck_bus(bus_mailbox_fd(mbox), polled.fd);
	ck_bus(start(mbox, 10, &second, NULL), 0);
	ck_bus(start(mbox, -1, &third, &third.cancel), 0);
	while (first.ends + second.ends + third.ends < 3) {
		ck_assert_int_eq(poll(&polled, 1, patience_ms()), 1);
		ck_assert_int_ge(bus_dispatch(mbox, 0, 0), 0);
	}
	ck_assert_uint_eq(third.replies, 1);
	ck_bus(bus_dispatch(mbox, 0, 0), 0);
	ck_assert_int_eq(poll(&polled, 1, 0), 0);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(end_of_the_mailbox_is_the_end_of_its_requests)
{
	static const int drains[] = {BUS_DRAIN_CALLER, BUS_DRAIN_THREAD};

	for (int i = 0; i < 4; i++) {
		struct bus *bus = open_bus();
		struct bus_mailbox *deaf = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
		struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = drains[i % 2]);
		struct asker asker = {.replies = 0}, owned = {.replies = 0};
		struct bus_request *req;

		ck_bus(bus_mailbox_subscribe(deaf, "q", NULL, NULL, NULL), 0);
		ck_bus(start(mbox, -1, &asker, NULL), 0);
		ck_bus(start(mbox, 600000, &owned, &req), 0);
		if (i < 2)
			ck_assert_int_ge(bus_close(bus, 1000), 0);
		bus_mailbox_close(mbox);
		ck_assert_uint_eq(asker.ends, 1);
		ck_assert_uint_eq(owned.ends, 1);
		bus_request_cancel(req);
		ck_assert_uint_eq(owned.ends, 1);
		bus_mailbox_close(deaf);
		if (i >= 2)
			ck_bus(bus_close(bus, patience_ms()), 0);
	}
}
END_TEST

START_TEST(full_refusing_mailbox_refuses_the_reply)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_REFUSE);
	struct answerer a = {.bus = bus, .times = 1};
	struct asker asker = {.replies = 0};
	struct bus_request *req;

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "fill", NULL, NULL, NULL), 0);
	while (bus_publish(bus, "fill", "x", 1) == 0)
		;
	ck_bus(start(mbox, -1, &asker, &req), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_bus(a.err, BUS_E_FULL);
	bus_request_cancel(req);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(latest_mailbox_gets_the_newest_reply)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_LATEST);
	struct answerer a = {.bus = bus, .times = 5};
	struct asker asker = {.replies = 0};
	struct bus_request *req;

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	ck_bus(start(mbox, -1, &asker, &req), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_bus(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(asker.replies, 1);
	bus_request_cancel(req);
	ck_assert_uint_eq(asker.ends, 1);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void *
ask_and_cancel(void *arg)
{
	struct storm *s = arg;
	struct bus_request *req;

	for (int i = 0; i < EACH; i++) {
		s->seed = s->seed * 1103515245 + 12345;
		ck_bus(start(s->mbox, (int)(s->seed >> 16) % 3, &s->askers[i], &req), 0);
		if (s->seed >> 20 & 1)
			bus_test_nap();
		bus_request_cancel(req);
	}
	return NULL;
}

START_TEST(replies_deadlines_and_cancels_at_once_end_each_request_once)
{
	static struct storm storms[THREADS];
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_THREAD);
	struct answerer a = {.bus = bus, .times = 2};
	pthread_t threads[THREADS];

	ck_bus(bus_subscribe(bus, "q", answer, &a, NULL), 0);
	for (int i = 0; i < THREADS; i++) {
		storms[i].mbox = mbox;
		storms[i].seed = (unsigned)i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_and_cancel, &storms[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	bus_mailbox_close(mbox);
	for (int i = 0; i < THREADS; i++)
		for (int j = 0; j < EACH; j++) {
			ck_assert_uint_eq(storms[i].askers[j].ends, 1);
			ck_assert_uint_eq(storms[i].askers[j].wrong, 0);
		}
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);
	struct answerer a = {.bus = bus, .times = 1};
	int err = BUS_E_NOMEM;

	ck_bus(bus_mailbox_subscribe(mbox, "q", answer, &a, NULL), 0);
	for (long n = 0; err == BUS_E_NOMEM; n++) {
		struct asker asker = {.replies = 0};
		struct bus_request *req = NULL;

		ck_assert_int_lt(n, 100);
		bus__mem_fail_after(n);
		err = start(mbox, -1, &asker, &req);
		if (err == 0)
			bus_dispatch(mbox, 0, 0);
		bus__mem_fail_after(-1);
		bus_request_cancel(req);
		ck_assert_uint_eq(asker.ends, err == 0);
	}
	ck_bus(err, 0);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("request");

	BUS_TEST_CASE(suite, "waiting", question_gets_the_reply_of_its_responder,
	    type_and_headers_go_both_ways, question_without_a_responder_fails_at_once,
	    question_without_a_reply_times_out_and_is_not_delivered_later,
	    callback_may_not_wait_for_a_reply, malformed_question_is_refused,
	    reply_to_a_question_that_is_over_is_counted, waiting_asker_is_woken_when_the_bus_closes,
	    question_is_not_kept, each_of_many_threads_gets_the_reply_to_its_own_question);
	BUS_TEST_CASE(suite, "from a mailbox",
	    replies_arrive_until_the_deadline_and_then_the_end_once,
	    own_thread_wakes_for_a_deadline_set_while_it_slept, only_the_drainer_reports_an_end,
	    deadlines_are_kept_in_their_order, cancelled_request_hears_of_its_end_and_nothing_more,
	    reply_may_cancel_its_own_request, recv_calls_the_asker_and_returns_other_messages,
	    descriptor_is_readable_for_replies_and_deadlines,
	    end_of_the_mailbox_is_the_end_of_its_requests, full_refusing_mailbox_refuses_the_reply,
	    latest_mailbox_gets_the_newest_reply,
	    replies_deadlines_and_cancels_at_once_end_each_request_once, any_allocation_may_fail);
	return suite;
}
