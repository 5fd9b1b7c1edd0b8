/* Subscriptions, mailboxes and a private bus end, inside callbacks and under traffic too. */
#define _GNU_SOURCE
#include "world.h"

#include <pthread.h>
#include <stdatomic.h>

#include <libbus/bus.h>

#include "mailbox/mailbox.h"

struct slow {
	_Atomic bool inside, go, freed;
	_Atomic unsigned calls;
};

static void
slow_callback(void *arg, const struct bus_msg *msg)
{
	struct slow *s = arg;

	(void)msg;
	ck_assert(!s->freed);
	s->inside = true;
	while (!s->go)
		bus_test_nap();
	s->inside = false;
	s->calls++;
}

static void
mark_freed(void *arg)
{
	((struct slow *)arg)->freed = true;
}

static void *
let_go(void *arg)
{
	for (int i = 0; i < 30; i++)
		bus_test_nap();
	((struct slow *)arg)->go = true;
	return NULL;
}

START_TEST(unsubscribe_returns_when_the_callback_has_returned)
{
	struct bus *bus = open_bus();
	struct slow s = {0};
	struct bus_sub *sub;
	pthread_t thread;

	ck_bus(bus_subscribe(bus, "t", slow_callback, &s, &sub), 0);
	for (int i = 0; i < 5; i++)
		publish_text(bus, "t", "x");
	ck_eventually(s.inside);
	pthread_create(&thread, NULL, let_go, &s);
	bus_unsubscribe(sub, mark_freed);
	ck_assert(!s.inside);
	ck_eventually(s.freed);
	ck_assert_uint_eq(s.calls, 1); /* the four behind it were muted */
	pthread_join(thread, NULL);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

struct self {
	struct bus *bus;
	struct bus_sub *mine, *other;
	_Atomic unsigned calls, other_calls, done;
};

static void
count_done(void *arg)
{
	((struct self *)arg)->done++;
}

static void
end_both(void *arg, const struct bus_msg *msg)
{
	struct self *self = arg;

	(void)msg;
	self->calls++;
	bus_unsubscribe(self->mine, count_done);
	bus_unsubscribe(self->other, count_done);
	ck_bus(bus_publish(self->bus, "t", "again", 5), 0);
	ck_bus(bus_close(self->bus, 0), BUS_E_STATE);
	ck_bus(bus_flush(self->bus, 0), BUS_E_STATE);
}

static void
count_other(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	((struct self *)arg)->other_calls++;
}

START_TEST(callback_may_end_itself_and_its_neighbour)
{
	struct self self = {.bus = open_bus()};

	ck_bus(bus_subscribe(self.bus, "t", end_both, &self, &self.mine), 0);
	ck_bus(bus_subscribe(self.bus, "t", count_other, &self, &self.other), 0);
	publish_text(self.bus, "t", "x");
	ck_bus(bus_flush(self.bus, patience_ms()), 0);
	ck_assert_uint_eq(self.calls, 1);
	ck_assert_uint_eq(self.other_calls, 0);
	ck_eventually(self.done == 2);
	ck_bus(bus_close(self.bus, patience_ms()), 0);
}
END_TEST

START_TEST(close_drains_and_counts_the_messages_left)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");
	_Atomic unsigned calls = 0;

	ck_bus(bus_subscribe(bus, "t", count_message, &calls, NULL), 0);
	for (int i = 0; i < 100; i++)
		publish_text(bus, "t", "x");
	ck_bus(bus_close(bus, 5000), 100); /* the messages of the undrained mailbox */
	ck_assert_uint_eq(calls, 100);
	ck_assert_uint_eq(mailbox_stats(mbox).lost[BUS_LOSS_CLOSED], 100);
	bus_mailbox_close(mbox);
}
END_TEST

START_TEST(close_returns_in_time_though_a_callback_does_not)
{
	struct bus *bus = open_bus();
	static struct slow s; /* the thread outlives this function */
	int64_t begun = bus_test_now_ms();

	ck_bus(bus_subscribe(bus, "t", slow_callback, &s, NULL), 0);
	for (int i = 0; i < 5; i++)
		publish_text(bus, "t", "x");
	ck_eventually(s.inside);
	ck_assert_int_ge(bus_close(bus, 100), 4);
	ck_assert_int_lt(bus_test_now_ms() - begun, patience_ms());
	s.go = true;
	ck_eventually(s.calls == 1);
	for (int i = 0; i < 20; i++)
		bus_test_nap();
	ck_assert_uint_eq(s.calls, 1);
}
END_TEST

START_TEST(objects_that_outlive_their_bus_answer_closed)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");
	struct bus_stats s = {.size = sizeof s};
	const struct bus_msg *msg;
	struct bus_pub *pub;
	struct bus_sub *sub, *other;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "u", NULL, NULL, &sub), 0);
	ck_bus(bus_subscribe(bus, "u", count_message, &s, &other), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
	ck_bus(bus_pub_send(pub, "x", 1), BUS_E_CLOSED);
	ck_bus(bus_recv(mbox, -1, &msg), BUS_E_CLOSED);
	ck_bus(bus_dispatch(mbox, -1, 0), BUS_E_CLOSED);
	ck_bus(bus_mailbox_fd(mbox), BUS_E_CLOSED);
	ck_bus(bus_mailbox_subscribe(mbox, "v", NULL, NULL, NULL), BUS_E_CLOSED);
	ck_bus(bus_mailbox_stats(mbox, &s), 0);
	bus_unsubscribe(sub, NULL);
	bus_unsubscribe(other, NULL);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
}
END_TEST

static void *
close_later(void *arg)
{
	for (int i = 0; i < 30; i++)
		bus_test_nap();
	bus_close(arg, 1000);
	return NULL;
}

START_TEST(waiting_receiver_learns_of_the_close)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");
	const struct bus_msg *msg;
	pthread_t thread;

	pthread_create(&thread, NULL, close_later, bus);
	ck_bus(bus_recv(mbox, -1, &msg), BUS_E_CLOSED);
	pthread_join(thread, NULL);
	bus_mailbox_close(mbox);
}
END_TEST

/* The end happens while bus_recv() has taken it out and not returned. */
START_TEST(no_message_is_given_that_went_with_the_mailbox)
{
	enum { ALL = 200 }; /* several batches: the last one would be read in place of the first */
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = subscriber(bus, "t");
	const struct bus_msg *msg;
	struct bus_stats s;

	for (int i = 0; i < ALL; i++)
		publish_text(bus, "t", "x");
	bus__mailbox_end_delivery(mbox); /* the first step of bus_close() */
	ck_bus(bus_recv(mbox, 0, &msg), BUS_E_CLOSED);
	s = mailbox_stats(mbox);
	ck_assert_uint_eq(s.delivered, 0);
	ck_assert_uint_eq(s.lost[BUS_LOSS_CLOSED], ALL);
	ck_bus(bus_close(bus, patience_ms()), 0);
	bus_mailbox_close(mbox);
}
END_TEST

START_TEST(mailbox_may_close_itself_inside_its_callback)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);

	ck_bus(bus_mailbox_subscribe(
		   mbox, "t", (bus_msg_fn)(void (*)(void))bus_mailbox_close, mbox, NULL),
	    0);
	for (int i = 0; i < 5; i++)
		publish_text(bus, "t", "x");
	ck_assert_int_ge(bus_dispatch(mbox, 0, 0), 1);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(mailbox_with_a_thread_closes_while_it_is_busy)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus *bus = open_bus();
	_Atomic unsigned calls = 0;

	for (int i = 0; i < 200; i++) {
		struct bus_mailbox *mbox;

		ck_bus(bus_mailbox_open(bus, &cfg, &mbox), 0);
		ck_bus(bus_mailbox_subscribe(mbox, "t", count_message, &calls, NULL), 0);
		for (int k = 0; k < 3; k++)
			publish_text(bus, "t", "x");
		bus_mailbox_close(mbox);
	}
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
recv_inside(void *arg, const struct bus_msg *msg)
{
	const struct bus_msg *other;

	(void)msg;
	ck_bus(bus_recv(arg, 0, &other), BUS_E_STATE);
	ck_bus(bus_dispatch(arg, 0, 0), BUS_E_STATE);
}

START_TEST(mailbox_is_not_drained_inside_its_own_callback)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .drain = BUS_DRAIN_CALLER);

	ck_bus(bus_mailbox_subscribe(mbox, "t", recv_inside, mbox, NULL), 0);
	publish_text(bus, "t", "x");
	publish_text(bus, "t", "y");
	ck_bus(bus_dispatch(mbox, 0, 0), 2);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

struct doomed {
	struct bus_mailbox *mbox;
	struct bus_sub *sub;
	_Atomic bool closed;
};

static void
close_doomed(void *arg)
{
	struct doomed *d = arg;

	bus_mailbox_close(d->mbox);
	d->closed = true;
}

static void
end_with_done(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	bus_unsubscribe(((struct doomed *)arg)->sub, close_doomed);
}

START_TEST(mailbox_may_close_in_the_done_of_its_own_thread)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus *bus = open_bus();
	struct doomed d = {.closed = false};

	ck_bus(bus_mailbox_open(bus, &cfg, &d.mbox), 0);
	ck_bus(bus_mailbox_subscribe(d.mbox, "t", end_with_done, &d, &d.sub), 0);
	publish_text(bus, "t", "x");
	ck_eventually(d.closed);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void *
wait_for_the_close(void *arg)
{
	struct bus_mailbox *mbox = arg;
	const struct bus_msg *msg;

	ck_bus(bus_recv(mbox, -1, &msg), BUS_E_CLOSED);
	return NULL;
}

START_TEST(mailbox_closes_while_another_thread_waits_in_it)
{
	struct bus *bus = open_bus();

	for (int i = 0; i < 5; i++) {
		struct bus_mailbox *mbox = subscriber(bus, "t");
		pthread_t thread;

		pthread_create(&thread, NULL, wait_for_the_close, mbox);
		ck_eventually(mbox->busy); /* before that it must not be closed */
		for (int k = 0; k < 20; k++)
			bus_test_nap(); /* until it sleeps, most likely; any moment is right */
		bus_mailbox_close(mbox);
		pthread_join(thread, NULL);
	}
	bus_close(bus, 0);
}
END_TEST

static _Atomic bool storm_over;

static void *
storm_publisher(void *arg)
{
	struct bus_pub *pub;

	ck_bus(bus_pub_open(arg, "storm/a", NULL, &pub), 0);
	while (!storm_over) {
		ck_bus(bus_pub_send(pub, "x", 1), 0);
		publish_text(arg, "storm/b", "y");
		retain_text(arg, "storm/c", "z");
	}
	bus_pub_close(pub);
	return NULL;
}

static void *
storm_subscriber(void *arg)
{
	_Atomic unsigned calls = 0;

	for (int i = 0; i < 300; i++) {
		struct bus_mailbox *mbox = open_mailbox(arg, "storm/#", .bytes = 4096);
		const struct bus_msg *msg;
		struct bus_sub *sub, *own;

		ck_bus(bus_subscribe(arg, "storm/+", count_message, &calls, &sub), 0);
		ck_bus(bus_mailbox_subscribe(mbox, "storm/a", NULL, NULL, &own), 0);
		for (int k = 0; k < 10; k++)
			ck_assert_int_ge(bus_recv(mbox, 1, &msg), 0);
		bus_unsubscribe(sub, NULL);
		if (i % 2 == 0)
			bus_unsubscribe(own, NULL);
		bus_mailbox_close(mbox);
		if (i % 2 == 1)
			bus_unsubscribe(own, NULL);
	}
	return NULL;
}

START_TEST(subscriptions_and_mailboxes_begin_and_end_under_traffic)
{
	struct bus *bus = open_bus();
	pthread_t publishers[2], subscribers[2];

	for (int i = 0; i < 2; i++) {
		pthread_create(&publishers[i], NULL, storm_publisher, bus);
		pthread_create(&subscribers[i], NULL, storm_subscriber, bus);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(subscribers[i], NULL);
	storm_over = true;
	for (int i = 0; i < 2; i++)
		pthread_join(publishers[i], NULL);
	bus_close(bus, 5000);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("bus ending");

	BUS_TEST_CASE(suite, "ending", unsubscribe_returns_when_the_callback_has_returned,
	    callback_may_end_itself_and_its_neighbour, close_drains_and_counts_the_messages_left,
	    close_returns_in_time_though_a_callback_does_not,
	    objects_that_outlive_their_bus_answer_closed,
	    mailbox_with_a_thread_closes_while_it_is_busy,
	    mailbox_closes_while_another_thread_waits_in_it,
	    mailbox_is_not_drained_inside_its_own_callback,
	    mailbox_may_close_in_the_done_of_its_own_thread, waiting_receiver_learns_of_the_close,
	    no_message_is_given_that_went_with_the_mailbox,
	    mailbox_may_close_itself_inside_its_callback,
	    subscriptions_and_mailboxes_begin_and_end_under_traffic);
	return suite;
}
