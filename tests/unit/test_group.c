/* Several receivers on one mailbox: each message is delivered to one of them. */
#include "world.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <libbus/bus.h>

#include "mailbox/mailbox.h"

enum { MANY = 20000, MOST_RECEIVERS = 8 };

static _Atomic uint8_t came[MANY]; /* how often each number arrived */

static struct bus_mailbox *
join_group(struct bus *bus, int full, int drain)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .full = full, .drain = drain, .bytes = 65536, .group = "workers"};
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), 0);
	return mbox;
}

static void
publish(struct bus *bus, unsigned number)
{
	ck_bus(bus_publish(bus, "job", &number, sizeof number), 0);
}

static unsigned
number_of(const struct bus_msg *msg)
{
	unsigned number;

	ck_assert_uint_eq(msg->len, sizeof number);
	memcpy(&number, msg->data, sizeof number);
	ck_assert_uint_lt(number, MANY);
	return number;
}

static void
note(void *arg, const struct bus_msg *msg)
{
	came[number_of(msg)]++;
	(*(_Atomic unsigned *)arg)++;
}

static void
each_came_once(void)
{
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_msg(came[i] == 1, "%u came %u times", i, came[i]);
}

/* --- sharing ------------------------------------------------------------------------------------------------- */

struct publisher {
	struct bus *bus;
	unsigned begin, end;
};

/* Waits for room, so that nothing is refused. */
static void *
publish_all(void *arg)
{
	const struct bus_pub_config cfg = {.size = sizeof cfg, .wait_ms = patience_ms()};
	struct publisher *p = arg;
	struct bus_pub *pub;

	ck_bus(bus_pub_open(p->bus, "job", &cfg, &pub), 0);
	for (unsigned i = p->begin; i < p->end; i++)
		ck_bus(bus_pub_send(pub, &i, sizeof i), 0);
	bus_pub_close(pub);
	return NULL;
}

static void
publish_from_two(struct bus *bus)
{
	struct publisher halves[] = {{bus, 0, MANY / 2}, {bus, MANY / 2, MANY}};
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, publish_all, &halves[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

START_TEST(each_message_is_delivered_to_one_receiver)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *receivers[4];
	_Atomic unsigned counts[4] = {0};
	unsigned sum = 0;

	memset((void *)came, 0, sizeof came);
	for (int i = 0; i < 4; i++) {
		receivers[i] = join_group(bus, BUS_FULL_REFUSE, BUS_DRAIN_THREAD);
		ck_bus(bus_mailbox_subscribe(receivers[i], "job", note, &counts[i], NULL), 0);
	}
	publish_from_two(bus);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	for (int i = 0; i < 4; i++)
		sum += counts[i];
	ck_assert_uint_eq(sum, MANY);
	each_came_once();
	for (int i = 0; i < 4;
	     i++) { /* each receiver has the counters of all, also of those that have left */
		ck_assert_uint_eq(mailbox_stats(receivers[i]).delivered, MANY);
		bus_mailbox_close(receivers[i]);
	}
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

struct worker {
	struct bus_mailbox *mbox;
	_Atomic unsigned count;
	_Atomic bool stop;
	bool poll;
	pthread_t thread;
};

static void *
receive(void *arg)
{
	struct worker *w = arg;
	const struct bus_msg *msg;

	while (!w->stop) {
		struct pollfd fd = {.fd = w->poll ? bus_mailbox_fd(w->mbox) : -1, .events = POLLIN};

		if (w->poll)
			poll(&fd, 1, 100);
		if (bus_recv(w->mbox, w->poll ? 0 : 20, &msg) == 1)
			note(&w->count, msg);
	}
	return NULL;
}

START_TEST(callers_of_recv_and_of_poll_share_too)
{
	struct bus *bus = open_bus();
	struct worker workers[3] = {{.poll = _i == 1}, {.poll = _i >= 1}, {.poll = _i == 1}};

	memset((void *)came, 0, sizeof came);
	for (int i = 0; i < 3; i++) {
		workers[i].mbox = join_group(bus, BUS_FULL_REFUSE, BUS_DRAIN_CALLER);
		ck_bus(bus_mailbox_subscribe(workers[i].mbox, "job", NULL, NULL, NULL), 0);
		pthread_create(&workers[i].thread, NULL, receive, &workers[i]);
	}
	publish_from_two(bus);
	ck_eventually(mailbox_stats(workers[0].mbox).delivered == MANY);
	for (int i = 0; i < 3; i++) {
		workers[i].stop = true;
		pthread_join(workers[i].thread, NULL);
		bus_mailbox_close(workers[i].mbox);
	}
	each_came_once();
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* A callback that stays until the test releases it. */
struct stay {
	_Atomic unsigned inside;
	_Atomic bool leave;
};

static void
stay(void *arg, const struct bus_msg *msg)
{
	struct stay *s = arg;

	(void)msg;
	s->inside++;
	ck_eventually(s->leave);
}

/* Each publish finds a free receiver, though all others are at work. */
START_TEST(no_message_waits_while_a_receiver_sleeps)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *receivers[MOST_RECEIVERS];

	for (int i = 0; i < MOST_RECEIVERS; i++)
		receivers[i] = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_THREAD);
	for (int round = 0; round < 50; round++) {
		struct bus_sub *subs[MOST_RECEIVERS];
		struct stay s = {.inside = 0};

		for (int i = 0; i < MOST_RECEIVERS; i++)
			ck_bus(bus_mailbox_subscribe(receivers[i], "job", stay, &s, &subs[i]), 0);
		for (unsigned i = 0; i < MOST_RECEIVERS; i++) {
			publish(bus, i);
			if (round % 2 == 0) /* else all at once */
				ck_eventually(s.inside == i + 1);
		}
		ck_eventually(s.inside == MOST_RECEIVERS);
		s.leave = true;
		for (int i = 0; i < MOST_RECEIVERS; i++)
			bus_unsubscribe(subs[i], NULL);
	}
	ck_assert_uint_eq(mailbox_stats(receivers[0]).delivered, 50 * MOST_RECEIVERS);
	for (int i = 0; i < MOST_RECEIVERS; i++)
		bus_mailbox_close(receivers[i]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- joining and leaving -------------------------------------------------------------------------------------- */

static void *
come_and_go(void *arg)
{
	struct worker *w = arg;
	struct bus *bus = (struct bus *)w->mbox;

	while (!w->stop) {
		struct bus_mailbox *mbox = join_group(bus, BUS_FULL_REFUSE, BUS_DRAIN_THREAD);

		ck_bus(bus_mailbox_subscribe(mbox, "job", note, &w->count, NULL), 0);
		bus_test_nap();
		bus_mailbox_close(mbox);
	}
	return NULL;
}

START_TEST(receivers_that_join_and_leave_lose_nothing)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *stays = join_group(bus, BUS_FULL_REFUSE, BUS_DRAIN_THREAD);
	struct worker others[2] = {0};
	_Atomic unsigned count = 0;
	struct bus_stats stats;

	memset((void *)came, 0, sizeof came);
	ck_bus(bus_mailbox_subscribe(stays, "job", note, &count, NULL), 0);
	for (int i = 0; i < 2; i++) {
		others[i].mbox = (struct bus_mailbox *)bus;
		pthread_create(&others[i].thread, NULL, come_and_go, &others[i]);
	}
	publish_from_two(bus);
	for (int i = 0; i < 2; i++) {
		others[i].stop = true;
		pthread_join(others[i].thread, NULL);
	}
	ck_bus(bus_flush(bus, patience_ms()), 0);
	each_came_once();
	stats = mailbox_stats(stays);
	ck_assert_uint_eq(stats.delivered, MANY);
	ck_assert_uint_eq(stats.offered - stats.refused, MANY);
	bus_mailbox_close(stays);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
set(void *arg)
{
	*(_Atomic bool *)arg = true;
}

/* Callbacks that always overlap: one batch has begun before another ends. */
START_TEST(done_runs_though_some_receiver_is_always_at_work)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *receivers[2];
	struct stay stays[2] = {{.inside = 0}, {.inside = 0}};
	_Atomic bool done = false;
	struct bus_sub *sub;

	for (int i = 0; i < 2; i++) {
		receivers[i] = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_THREAD);
		ck_bus(bus_mailbox_subscribe(receivers[i], "job", stay, &stays[i], NULL), 0);
	}
	publish(bus, 0);
	ck_eventually(stays[0].inside + stays[1].inside == 1);
	ck_bus(bus_mailbox_subscribe(receivers[0], "other", stay, &done, &sub), 0);
	if (stays[0].inside ==
	    1) { /* then unsubscribing waits for it: end it, and begin the next */
		publish(bus, 1);
		ck_eventually(stays[1].inside == 1);
		stays[0].leave = true;
	}
	bus_unsubscribe(sub, set);
	/* receivers[1] has begun before: it ends while receivers[0] is at work again. */
	stays[0].leave = false;
	publish(bus, 2);
	ck_eventually(stays[0].inside >= 1);
	ck_assert(!done);
	stays[1].leave = true;
	ck_eventually(done);
	stays[0].leave = true;
	for (int i = 0; i < 2; i++)
		bus_mailbox_close(receivers[i]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(receiver_without_a_subscription_takes_nothing)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *idle = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
	struct bus_mailbox *busy = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
	_Atomic unsigned count = 0;
	const struct bus_msg *msg;
	struct bus_sub *sub;

	ck_bus(bus_mailbox_subscribe(busy, "job", NULL, NULL, NULL), 0);
	publish(bus, 7);
	ck_bus(bus_recv(idle, 0, &msg), 0);
	ck_bus(bus_dispatch(idle, 10, 0), 0);
	ck_assert_uint_eq(mailbox_stats(idle).pending, 1);
	ck_bus(bus_mailbox_subscribe(idle, "job", note, &count, &sub), 0);
	ck_bus(bus_dispatch(idle, 0, 0), 1);
	ck_assert_uint_eq(count, 1);
	bus_unsubscribe(sub, NULL);
	publish(bus, 8);
	ck_bus(bus_dispatch(idle, 0, 0), 0);
	ck_bus(bus_recv(busy, 0, &msg), 1);
	ck_assert_uint_eq(number_of(msg), 8);
	bus_mailbox_close(idle);
	bus_mailbox_close(busy);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* Filters that differ: a message may be taken by a receiver that did not ask for it. */
START_TEST(message_that_its_receiver_does_not_want_is_counted)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *jobs = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
	struct bus_mailbox *others = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
	struct bus_stats stats;
	const struct bus_msg *msg;
	unsigned number = 3;

	ck_bus(bus_mailbox_subscribe(jobs, "job", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(others, "other", NULL, NULL, NULL), 0);
	publish(bus, 1);
	ck_bus(bus_publish(bus, "other", &number, sizeof number), 0);
	ck_bus(bus_recv(others, 0, &msg), 1); /* took the first and passed it over */
	ck_assert_str_eq(msg->topic, "other");
	ck_bus(bus_recv(jobs, 0, &msg), 0);
	stats = mailbox_stats(jobs);
	ck_assert_uint_eq(stats.offered, 2);
	ck_assert_uint_eq(stats.delivered, 1);
	ck_assert_uint_eq(stats.lost[BUS_LOSS_UNSUBSCRIBED], 1);
	bus_mailbox_close(jobs);
	bus_mailbox_close(others);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(queue_ends_with_its_last_receiver)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *first = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
	struct bus_mailbox *second = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
	struct bus_stats all = {.size = sizeof all};
	const struct bus_msg *msg;

	ck_bus(bus_mailbox_subscribe(first, "job", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(second, "job", NULL, NULL, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		publish(bus, i);
	ck_bus(bus_recv(first, 0, &msg), 1);
	bus_mailbox_close(first);
	ck_assert_uint_eq(mailbox_stats(second).pending, 2);
	ck_bus(bus_recv(second, 0, &msg), 1);
	ck_assert_uint_eq(number_of(msg), 1);
	bus_mailbox_close(second);
	ck_bus(bus_stats(bus, &all), 0);
	ck_assert_uint_eq(all.delivered, 2);
	ck_assert_uint_eq(all.lost[BUS_LOSS_CLOSED], 1);
	/* The name is free again. */
	first = join_group(bus, BUS_FULL_LATEST, BUS_DRAIN_CALLER);
	ck_assert_uint_eq(mailbox_stats(first).offered, 0);
	bus_mailbox_close(first);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(closing_the_bus_lets_the_receivers_empty_the_queue)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *receivers[3];
	_Atomic unsigned count = 0;
	const struct bus_msg *msg;

	/* A third one would have to ask. */
	for (int i = 0; i < 3; i++) {
		receivers[i] = join_group(
		    bus, BUS_FULL_DROP_OLDEST, i < 2 ? BUS_DRAIN_THREAD : BUS_DRAIN_CALLER);
		ck_bus(bus_mailbox_subscribe(receivers[i], "job", note, &count, NULL), 0);
	}
	for (unsigned i = 0; i < 1000; i++)
		publish(bus, i);
	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_assert_uint_eq(count, 1000);
	ck_assert_uint_eq(mailbox_stats(receivers[2]).delivered, 1000);
	ck_bus(bus_recv(receivers[2], 0, &msg), BUS_E_CLOSED);
	for (int i = 0; i < 3; i++)
		bus_mailbox_close(receivers[i]);
}
END_TEST

struct waiting {
	struct bus_mailbox *mbox;
	_Atomic int answer;
};

static void *
wait_for_ever(void *arg)
{
	struct waiting *w = arg;
	const struct bus_msg *msg;

	w->answer = bus_recv(w->mbox, -1, &msg);
	return NULL;
}

START_TEST(closing_ends_a_receiver_that_waits_and_no_other)
{
	struct bus *bus = open_bus();
	struct waiting waiting[2] = {{.answer = 99}, {.answer = 99}};
	pthread_t threads[2];

	for (int i = 0; i < 2; i++) {
		waiting[i].mbox = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
		if (_i == 0) /* otherwise they have nothing to wait for */
			ck_bus(bus_mailbox_subscribe(waiting[i].mbox, "job", NULL, NULL, NULL), 0);
		pthread_create(&threads[i], NULL, wait_for_ever, &waiting[i]);
	}
	ck_eventually(waiting[0].mbox->busy); /* before that it must not be closed */
	for (int i = 0; i < 20; i++)
		bus_test_nap();
	bus_mailbox_close(waiting[0].mbox);
	pthread_join(threads[0], NULL);
	ck_bus(waiting[0].answer, BUS_E_CLOSED);
	ck_assert_int_eq(waiting[1].answer, 99);
	if (_i == 0) {
		publish(bus, 1);
		pthread_join(threads[1], NULL);
		ck_bus(waiting[1].answer, 1);
		ck_bus(bus_close(bus, patience_ms()), 0);
	} else {
		ck_bus(bus_close(bus, patience_ms()), 0);
		pthread_join(threads[1], NULL);
		ck_bus(waiting[1].answer, BUS_E_CLOSED);
	}
	bus_mailbox_close(waiting[1].mbox);
}
END_TEST

/* --- policies and limits --------------------------------------------------------------------------------------- */

START_TEST(group_has_one_policy_and_one_bound)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *first = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER),
			   *mbox = NULL;
	struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = 65536, .group = "workers"};
	static const char *const names[] = {"", "a b", "a/b", "ä",
	    "12345678901234567890123456789012345678901234567890123456789012345"};

	cfg.full = BUS_FULL_DROP_NEWEST;
	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL);
	cfg.full = BUS_FULL_DROP_OLDEST;
	cfg.bytes = 131072;
	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL);
	cfg.bytes = 65000; /* rounded up */
	cfg.drain = BUS_DRAIN_PUBLISHER;
	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL);
	cfg.drain = BUS_DRAIN_THREAD;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		cfg.group = names[i];
		ck_bus(bus_mailbox_open(bus, &cfg, &mbox), BUS_E_INVAL);
	}
	ck_assert_ptr_null(mbox);
	cfg.group = "workers";
	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), 0);
	bus_mailbox_close(mbox);
	bus_mailbox_close(first);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(no_question_starts_at_a_receiver_and_one_receiver_replies)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *receivers[2];
	struct stay s = {.leave = true};
	const struct bus_msg *reply;
	unsigned number = 1;

	for (int i = 0; i < 2; i++) {
		receivers[i] = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_THREAD);
		ck_bus(bus_mailbox_subscribe(receivers[i], "job", stay, &s, NULL), 0);
	}
	ck_bus(bus_request_start(receivers[0], "job", &number, sizeof number, 100, stay, &s, NULL),
	    BUS_E_INVAL);
	/* One receiver gets the question, and does not reply. A question that expires before that is repeated with a longer
	 * deadline. */
	for (int timeout_ms = 50; s.inside == 0; timeout_ms *= 2) {
		ck_assert_int_lt(timeout_ms, patience_ms());
		ck_bus(bus_request(bus, "job", &number, sizeof number, timeout_ms, &reply),
		    BUS_E_TIMEDOUT);
	}
	ck_assert_uint_eq(s.inside, 1);
	for (int i = 0; i < 2; i++)
		bus_mailbox_close(receivers[i]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(kept_messages_are_not_delivered_again)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	const struct bus_msg kept = {
	    .size = sizeof kept, .topic = "job", .data = "x", .len = 1, .flags = BUS_MSG_RETAIN};

	ck_bus(bus_publish_msg(bus, &kept), 0);
	mbox = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
	ck_bus(bus_mailbox_subscribe(mbox, "job", NULL, NULL, NULL), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 0);
	ck_bus(bus_publish_msg(bus, &kept), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* The next message reports the losses of one receiver, whichever receiver takes it. */
START_TEST(losses_are_reported_once_to_one_receiver)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *receivers[2];
	uint64_t lost = 0, taken = 0;
	const struct bus_msg *msg;

	for (int i = 0; i < 2; i++) {
		receivers[i] = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
		ck_bus(bus_mailbox_subscribe(receivers[i], "job", NULL, NULL, NULL), 0);
	}
	for (unsigned i = 0; i < MANY; i++)
		publish(bus, i);
	while (bus_recv(receivers[taken % 2], 0, &msg) == 1) {
		lost += msg->lost;
		taken++;
	}
	ck_assert_uint_gt(taken, 100);
	ck_assert_uint_eq(taken + lost, MANY);
	ck_assert_uint_eq(mailbox_stats(receivers[0]).lost[BUS_LOSS_FULL], lost);
	for (int i = 0; i < 2; i++)
		bus_mailbox_close(receivers[i]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(latest_of_each_topic_is_delivered_to_one_receiver)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *receivers[2];
	char topic[20];
	const struct bus_msg *msg;
	unsigned taken = 0;

	for (int i = 0; i < 2; i++) {
		receivers[i] = join_group(bus, BUS_FULL_LATEST, BUS_DRAIN_CALLER);
		ck_bus(bus_mailbox_subscribe(receivers[i], "t/#", NULL, NULL, NULL), 0);
	}
	for (unsigned i = 0; i < 100; i++) {
		snprintf(topic, sizeof topic, "t/%u", i % 10);
		ck_bus(bus_publish(bus, topic, &i, sizeof i), 0);
	}
	while (bus_recv(receivers[taken % 2], 0, &msg) == 1) {
		ck_assert_uint_eq(number_of(msg), 90 + taken);
		taken++;
	}
	ck_assert_uint_eq(taken, 10);
	ck_assert_uint_eq(mailbox_stats(receivers[1]).lost[BUS_LOSS_REPLACED], 90);
	for (int i = 0; i < 2; i++)
		bus_mailbox_close(receivers[i]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(explain_names_the_group)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *receivers[2];
	char text[4096];

	for (int i = 0; i < 2; i++) {
		receivers[i] = join_group(bus, BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER);
		ck_bus(bus_mailbox_subscribe(receivers[i], "job", NULL, NULL, NULL), 0);
	}
	publish(bus, 1);
	ck_assert_int_gt(bus_explain(bus, "job", text, sizeof text), 0);
	ck_assert_msg(strstr(text, "receiver of mailbox 1 gets it by job") != NULL, "%s", text);
	ck_assert_msg(strstr(text, "group workers, 2 receivers") != NULL, "%s", text);
	ck_assert_msg(strstr(text, "0 delivered, 1 waiting") != NULL, "%s", text);
	for (int i = 0; i < 2; i++)
		bus_mailbox_close(receivers[i]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("group");
	TCase *waits = bus_test_case("waits");

	BUS_TEST_CASE(suite, "sharing", each_message_is_delivered_to_one_receiver,
	    no_message_waits_while_a_receiver_sleeps);
	BUS_TEST_CASE(suite, "coming and going", receivers_that_join_and_leave_lose_nothing,
	    done_runs_though_some_receiver_is_always_at_work,
	    receiver_without_a_subscription_takes_nothing,
	    message_that_its_receiver_does_not_want_is_counted, queue_ends_with_its_last_receiver,
	    closing_the_bus_lets_the_receivers_empty_the_queue);
	BUS_TEST_CASE(suite, "policies", group_has_one_policy_and_one_bound,
	    no_question_starts_at_a_receiver_and_one_receiver_replies,
	    kept_messages_are_not_delivered_again, losses_are_reported_once_to_one_receiver,
	    latest_of_each_topic_is_delivered_to_one_receiver, explain_names_the_group);
	tcase_add_loop_test(waits, callers_of_recv_and_of_poll_share_too, 0, 3);
	tcase_add_loop_test(waits, closing_ends_a_receiver_that_waits_and_no_other, 0, 2);
	suite_add_tcase(suite, waits);
	return suite;
}
