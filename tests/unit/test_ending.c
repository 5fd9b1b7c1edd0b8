/* Threads are cancelled, callbacks do not return, subscriptions and buses end under traffic. */
#define _GNU_SOURCE
#include "ending_test.h"

#include <pthread.h>
#include <stdlib.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

/* --- cancelled threads ---------------------------------------------------------------------------------------- */

/* Makes one call on a thread with a pending cancellation, which the next cancellation point would take. */
struct doomed {
	const char *what;
	int (*call)(struct doomed *d); /* 0: as it should be */
	struct bus *bus;
	struct bus_mailbox *mbox;
	struct bus_sub *sub;
	struct bus_link *link;
	int answer;
	bool survived;
	_Atomic unsigned calls;
};

static void
cancellation_point(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	pthread_testcancel();
	((struct doomed *)arg)->calls++;
}

static void
cancellation_point_done(void *arg)
{
	pthread_testcancel();
	((struct doomed *)arg)->calls++;
}

static int
open_and_close(struct doomed *d)
{
	struct bus *bus;
	int err = bus_open(NULL, NULL, &bus);

	(void)d;
	return err == 0 ? bus_close(bus, 0) : err;
}

/* Makes the descriptor of a mailbox readable. */
static int
wake_a_poller(struct doomed *d)
{
	return bus_publish(d->bus, "polled", "x", 1);
}

static int
make_a_descriptor(struct doomed *d)
{
	return bus_mailbox_fd(d->mbox) >= 0 ? 0 : -1;
}

/* Clears the descriptor. */
static int
find_nothing(struct doomed *d)
{
	const struct bus_msg *msg;

	return bus_recv(d->mbox, 0, &msg) == 1 && bus_recv(d->mbox, 1, &msg) == 0 ? 0 : -1;
}

static int
be_the_drainer(struct doomed *d)
{
	unsigned before = d->calls;
	int err = bus_publish(d->bus, "drained", "x", 1);

	return err != 0 ? err : d->calls == before + 1 ? 0 : -1;
}

static int
dispatch(struct doomed *d)
{
	struct bus_mailbox *mbox;
	int err = bus_mailbox_open(d->bus, NULL, &mbox);

	if (err == 0)
		err = bus_mailbox_subscribe(mbox, "called", cancellation_point, d, NULL);
	if (err == 0)
		err = bus_publish(d->bus, "called", "x", 1);
	if (err == 0)
		err = bus_dispatch(mbox, 0, 0) == 1 ? 0 : -1;
	bus_mailbox_close(mbox);
	return err;
}

static int
unsubscribe(struct doomed *d)
{
	unsigned before = d->calls;

	bus_unsubscribe(d->sub, cancellation_point_done);
	return d->calls == before + 1 ? 0 : -1;
}

static int
close_a_mailbox_with_a_thread(struct doomed *d)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus_mailbox *mbox;
	int err = bus_mailbox_open(d->bus, &cfg, &mbox);

	if (err == 0)
		bus_mailbox_close(mbox);
	return err;
}

static int
close_a_mailbox_with_a_descriptor(struct doomed *d)
{
	bus_mailbox_close(d->mbox);
	return 0;
}

static int
flush(struct doomed *d)
{
	return bus_flush(d->bus, patience_ms());
}

static int
listen_and_dial(struct doomed *d)
{
	for (int i = 0; i < LINK_TEST_SCHEMES; i++) {
		char url[256];
		struct bus_link *la;
		int err = bus_listen(d->bus, listen_url(i), NULL, &la);

		if (err < 0 || bus_link_url(la, url, sizeof url) < 0)
			return -1;
		bus_link_close(la);
		if (bus_dial(d->bus, url, NULL, &la) < 0)
			return -1;
		bus_link_close(la);
	}
	return bus_dial(d->bus, "tcp://localhost:1", NULL, NULL);
}

static int
close_all(struct doomed *d)
{
	return bus_close(d->bus, 20000) >= 0 ? 0 : -1;
}

static void *
make_doomed_call(void *arg)
{
	struct doomed *d = arg;

	pthread_cancel(pthread_self());
	d->answer = d->call(d);
	d->survived = true;
	pthread_testcancel();
	return NULL;
}

static void
doom(struct doomed *d, const char *what, int (*call)(struct doomed *d))
{
	pthread_t thread;
	void *end;

	d->survived = false;
	d->call = call;
	ck_assert_int_eq(pthread_create(&thread, NULL, make_doomed_call, d), 0);
	ck_assert_int_eq(pthread_join(thread, &end), 0);
	ck_assert_msg(d->survived, "%s was left half done", what);
	ck_assert_msg(d->answer == 0, "%s answered %d", what, d->answer);
	ck_assert_ptr_eq(end, PTHREAD_CANCELED);
}

#define DOOM(d, call) doom((d), #call, (call))

START_TEST(no_call_is_a_cancellation_point_nor_are_its_callees)
{
	struct doomed d = {.bus = open_bus()};
	struct bus_mailbox *drained =
	    open_mailbox(d.bus, NULL, .drain = BUS_DRAIN_PUBLISHER, .bytes = 16384);

	ck_bus(bus_mailbox_subscribe(drained, "drained", cancellation_point, &d, NULL), 0);
	ck_bus(bus_mailbox_open(d.bus, NULL, &d.mbox), 0);
	ck_bus(bus_mailbox_subscribe(d.mbox, "polled", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(d.mbox, "x", cancellation_point, &d, &d.sub), 0);
	listen_url(1); /* cancellation points make its directory and the certificates */
	listen_url(LINK_TEST_SCHEMES - 1);
	DOOM(&d, open_and_close);
	DOOM(&d, make_a_descriptor);
	DOOM(&d, wake_a_poller);
	DOOM(&d, find_nothing);
	DOOM(&d, be_the_drainer);
	DOOM(&d, dispatch);
	DOOM(&d, unsubscribe);
	DOOM(&d, close_a_mailbox_with_a_thread);
	DOOM(&d, close_a_mailbox_with_a_descriptor);
	DOOM(&d, listen_and_dial);
	DOOM(&d, flush);
	bus_mailbox_close(drained);
	DOOM(&d, close_all);
}
END_TEST

struct patient {
	struct bus_pub *pub;
	_Atomic unsigned sent;
};

static void *
send_patiently(void *arg)
{
	struct patient *p = arg;

	while (bus_pub_send(p->pub, "x", 1) == 0) {
		p->sent++;
		pthread_testcancel();
	}
	return NULL;
}

START_TEST(publisher_cancelled_while_it_waits_for_room_blocks_no_other)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_REFUSE, .bytes = 16384);
	struct patient p = {.pub = NULL};
	const struct bus_msg *msg;
	struct bus_stats s = {.size = sizeof s};
	unsigned received = 0;
	pthread_t thread;
	void *end;

	ck_bus(bus_mailbox_subscribe(mbox, "t", NULL, NULL, NULL), 0);
	p.pub = open_pub(bus, "t", -1);
	pthread_create(&thread, NULL, send_patiently, &p);
	ck_eventually(bus_publish(bus, "t", "x", 1) == BUS_E_FULL);
	pthread_cancel(thread);
	go_on(bus);
	ck_bus(bus_publish(bus, "t", "x", 1), BUS_E_FULL);
	while (bus_recv(mbox, 50, &msg) == 1)
		received++;
	ck_assert_int_eq(pthread_join(thread, &end), 0);
	ck_assert_ptr_eq(end, PTHREAD_CANCELED);
	while (bus_recv(mbox, 0, &msg) == 1)
		received++;
	ck_bus(bus_mailbox_stats(mbox, &s), 0);
	ck_assert_uint_ge(received, p.sent);
	ck_assert_uint_eq(s.delivered, received);
	ck_assert_uint_eq(s.offered, received + s.refused);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	bus_pub_close(p.pub);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static void *
publish_until_cancelled(void *arg)
{
	for (;;) {
		publish_in_every_way(arg);
		pthread_testcancel();
	}
	return NULL;
}

START_TEST(publishers_cancelled_at_any_moment_leave_all_counters_exact)
{
	struct storm s = {.bus = open_bus()};
	struct bus_mailbox *polled =
	    open_mailbox(s.bus, NULL, .full = BUS_FULL_DROP_OLDEST, .bytes = 16384);
	struct bus_mailbox *drained = open_mailbox(
	    s.bus, NULL, .full = BUS_FULL_REFUSE, .drain = BUS_DRAIN_PUBLISHER, .bytes = 16384);
	struct bus_stats stats = {.size = sizeof stats};
	const struct bus_msg *msg;

	ck_bus(bus_mailbox_subscribe(polled, "t", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(drained, "t", count_message, &s.drained, NULL), 0);
	ck_assert_int_ge(bus_mailbox_fd(polled), 0);
	for (unsigned i = 0; i < ROUNDS / 10; i++) {
		pthread_t thread;

		s.pub = open_pub(s.bus, "t", 0);
		pthread_create(&thread, NULL, publish_until_cancelled, &s);
		for (unsigned n = 0; n < i % 5; n++)
			while (bus_recv(polled, 1000, &msg) == 0)
				;
		pthread_cancel(thread);
		go_on(s.bus);
		pthread_join(thread, NULL);
		bus_pub_close(s.pub);
	}
	while (bus_recv(polled, 0, &msg) == 1)
		;
	ck_bus(bus_mailbox_stats(polled, &stats), 0);
	ck_assert_uint_eq(stats.offered, s.accepted);
	ck_assert_uint_eq(stats.pending, 0);
	ck_bus(bus_mailbox_stats(drained, &stats), 0);
	ck_assert_uint_eq(stats.delivered, s.accepted);
	ck_assert_uint_eq(stats.pending, 0);
	ck_assert_uint_eq(s.drained, s.accepted);
	bus_mailbox_close(polled);
	bus_mailbox_close(drained);
	ck_bus(bus_close(s.bus, 0), 0);
}
END_TEST

/* --- callbacks that do not return ------------------------------------------------------------------------------- */

struct stuck {
	struct bus *bus;
	struct bus_mailbox *mbox;
	_Atomic bool inside, released, intact, out;
};

static void
get_stuck(void *arg, const struct bus_msg *msg)
{
	struct stuck *s = arg;

	if (s->inside) /* the second message is not for a callback */
		ck_abort_msg("called after the end");
	s->inside = true;
	while (!s->released)
		bus_test_nap();
	s->intact = strcmp(msg->topic, "t") == 0 && msg->len == sizeof large &&
		    memcmp(msg->data, large, sizeof large) == 0;
	s->out = true;
}

static void *
run_into_it(void *arg)
{
	struct stuck *s = arg;
	struct bus_pub *pub = open_pub(s->bus, "t", 0);

	bus_pub_send(pub, large, sizeof large);
	bus_pub_send(pub, large, sizeof large);
	bus_dispatch(s->mbox, 0, 0); /* here it is for the caller */
	bus_pub_close(pub);
	return NULL;
}

START_TEST(close_does_not_wait_for_a_callback_for_ever_nor_pull_memory_from_under_it)
{
	struct stuck s = {.bus = open_bus()};
	struct bus *other = open_bus();
	_Atomic unsigned calls = 0;
	int64_t begun;
	pthread_t thread;

	s.mbox =
	    open_mailbox(s.bus, NULL, .full = BUS_FULL_DROP_OLDEST, .drain = _i, .bytes = 16384);
	ck_bus(bus_mailbox_subscribe(s.mbox, "t", get_stuck, &s, NULL), 0);
	ck_bus(bus_subscribe(s.bus, "other", count_message, &calls, NULL), 0);
	pthread_create(&thread, NULL, run_into_it, &s);
	ck_eventually(s.inside);
	go_on(other);
	ck_bus(bus_publish(s.bus, "other", "x", 1), 0);
	ck_eventually(calls == 1);
	if (_i == BUS_DRAIN_THREAD)
		ck_bus(bus_flush(s.bus, 10), BUS_E_TIMEDOUT);
	else
		ck_bus(bus_flush(s.bus, patience_ms()), 0);
	begun = bus_test_now_ms();
	ck_assert_int_le(bus_close(s.bus, 100), 2);
	ck_assert_int_lt(bus_test_now_ms() - begun, patience_ms());
	go_on(other);
	s.released = true;
	ck_eventually(s.out);
	ck_assert(s.intact);
	pthread_join(thread, NULL);
	bus_mailbox_close(s.mbox);
	ck_bus(bus_close(other, 0), 0);
}
END_TEST

/* --- unsubscribe ------------------------------------------------------------------------------------------------ */

/* Reads and writes memory that is freed as soon as it may be. */
static void
touch(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	(*(_Atomic unsigned *)arg)++;
}

static _Atomic unsigned freed;

static void
free_and_count(void *arg)
{
	free(arg);
	freed++;
}

/* _i: the drainer, and whether done() is the signal. */
START_TEST(memory_of_a_callback_may_be_freed_when_unsubscribe_says_so)
{
	struct storm s = {.bus = open_bus()};
	struct bus_mailbox *mbox = open_mailbox(s.bus, NULL, .full = BUS_FULL_DROP_OLDEST,
	    .drain = _i / 2 == 0 ? BUS_DRAIN_THREAD : BUS_DRAIN_PUBLISHER, .bytes = 16384);
	pthread_t thread;

	freed = 0;
	s.pub = open_pub(s.bus, "t", 0);
	pthread_create(&thread, NULL, publish_until_told, &s);
	for (unsigned i = 0; i < ROUNDS; i++) {
		_Atomic unsigned *calls = calloc(1, sizeof *calls);
		struct bus_sub *sub;

		ck_bus(bus_mailbox_subscribe(mbox, "t", touch, calls, &sub), 0);
		if (i % 4 != 0)
			ck_eventually(*calls > 0);
		bus_unsubscribe(sub, _i % 2 == 0 ? free_and_count : NULL);
		if (_i % 2 != 0)
			free_and_count(calls);
	}
	ck_eventually(freed == ROUNDS);
	s.stop = true;
	pthread_join(thread, NULL);
	bus_pub_close(s.pub);
	bus_mailbox_close(mbox);
	ck_assert_int_ge(bus_close(s.bus, 20000), 0);
	ck_assert_uint_eq(freed, ROUNDS);
}
END_TEST

struct duel {
	struct bus_sub *mine, *others;
	_Atomic bool *both, done;
	struct bus *bus;
	_Atomic unsigned *ready;
	int flush, close;
};

static void
note_end(void *arg)
{
	struct duel *d = arg;

	d->flush = bus_flush(d->bus, 0);
	d->close = bus_close(d->bus, 0);
	d->done = true;
}

static void
end_the_other(void *arg, const struct bus_msg *msg)
{
	struct duel *d = arg;

	(void)msg;
	/* Both are inside, and each ends the other. */
	(*d->ready)++;
	while (*d->ready < 2)
		bus_test_nap();
	bus_unsubscribe(d->others, note_end);
}

START_TEST(callbacks_that_end_each_other_do_not_wait_for_each_other)
{
	struct bus *bus = open_bus();
	_Atomic unsigned ready = 0;
	struct bus_mailbox *mbox[2];
	struct duel duel[2];

	for (int i = 0; i < 2; i++) {
		mbox[i] = open_mailbox(bus, NULL, .drain = BUS_DRAIN_THREAD, .bytes = 16384);
		duel[i] = (struct duel){.bus = bus, .ready = &ready};
		ck_bus(
		    bus_mailbox_subscribe(mbox[i], "t", end_the_other, &duel[i], &duel[i].mine), 0);
	}
	duel[0].others = duel[1].mine;
	duel[1].others = duel[0].mine;
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_eventually(duel[0].done && duel[1].done);
	for (int i = 0; i < 2; i++) {
		ck_bus(duel[i].flush, BUS_E_STATE);
		ck_bus(duel[i].close, BUS_E_STATE);
	}
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	ck_assert_uint_eq(ready, 2);
	bus_mailbox_close(mbox[0]);
	bus_mailbox_close(mbox[1]);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- flush and close -------------------------------------------------------------------------------------------- */

static void
hear_number(void *arg, const struct bus_msg *msg)
{
	unsigned number;

	if (msg->len == sizeof number) {
		memcpy(&number, msg->data, sizeof number);
		*(_Atomic unsigned *)arg = number;
	}
}

START_TEST(flush_waits_for_earlier_messages_and_not_for_later_ones)
{
	struct storm s = {.bus = open_bus()};
	struct bus_mailbox *own = open_mailbox(
	    s.bus, NULL, .full = BUS_FULL_REFUSE, .drain = BUS_DRAIN_THREAD, .bytes = 16384);
	struct bus_mailbox *polled =
	    open_mailbox(s.bus, NULL, .full = BUS_FULL_DROP_OLDEST, .bytes = 16384);
	struct bus_pub *pub = open_pub(s.bus, "t", -1);
	_Atomic unsigned heard = 0;
	pthread_t thread;

	ck_bus(bus_mailbox_subscribe(own, "t", hear_number, &heard, NULL), 0);
	ck_bus(bus_mailbox_subscribe(polled, "t", NULL, NULL, NULL), 0); /* undrained */
	s.pub = open_pub(s.bus, "t", 0);
	pthread_create(&thread, NULL, publish_until_told, &s);
	for (unsigned i = 1; i <= ROUNDS; i++) {
		ck_bus(bus_pub_send(pub, &i, sizeof i), 0);
		ck_bus(bus_flush(s.bus, patience_ms()), 0);
		ck_assert_uint_eq(heard, i);
	}
	s.stop = true;
	pthread_join(thread, NULL);
	bus_pub_close(s.pub);
	bus_pub_close(pub);
	bus_mailbox_close(own);
	bus_mailbox_close(polled);
	ck_assert_int_ge(bus_close(s.bus, 20000), 0);
}
END_TEST

/* The answers that one publisher got. */
struct teller {
	struct bus_pub *pub;
	unsigned accepted, refused;
	int last;
};

static void *
send_until_closed(void *arg)
{
	struct teller *t = arg;

	for (;;) {
		t->last = bus_pub_send(t->pub, large, t->accepted % 3 == 0 ? 2000 : 10);
		if (t->last == 0)
			t->accepted++;
		else if (t->last == BUS_E_FULL)
			t->refused++;
		else
			return NULL;
	}
}

enum { TELLERS = 3 };

START_TEST(close_under_traffic_accounts_for_every_message)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox =
	    open_mailbox(bus, NULL, .full = _i, .drain = BUS_DRAIN_THREAD, .bytes = 16384);
	struct bus_stats s = {.size = sizeof s};
	struct teller tellers[TELLERS];
	uint64_t lost = 0, accepted = 0, refused = 0;
	_Atomic unsigned calls = 0;
	pthread_t threads[TELLERS];
	int left;

	ck_bus(bus_mailbox_subscribe(mbox, "t", count_message, &calls, NULL), 0);
	for (int i = 0; i < TELLERS; i++) {
		tellers[i] = (struct teller){.pub = open_pub(bus, "t", 0)};
		pthread_create(&threads[i], NULL, send_until_closed, &tellers[i]);
	}
	ck_eventually(calls > 100);
	left = bus_close(bus, 20000);
	ck_assert_int_ge(left, 0);
	for (int i = 0; i < TELLERS; i++) {
		pthread_join(threads[i], NULL);
		ck_bus(tellers[i].last, BUS_E_CLOSED);
		accepted += tellers[i].accepted;
		refused += tellers[i].refused;
		bus_pub_close(tellers[i].pub);
	}
	ck_bus(bus_mailbox_stats(mbox, &s), 0);
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		lost += s.lost[i];
	ck_assert_uint_eq(s.delivered, calls);
	ck_assert_uint_eq(s.refused, refused);
	ck_assert_uint_eq(s.pending, 0);
	ck_assert_uint_eq(s.offered, accepted + refused);
	ck_assert_uint_eq(s.offered, s.delivered + s.refused + lost);
	ck_assert_uint_ge(s.lost[BUS_LOSS_CLOSED], (unsigned)left);
	bus_mailbox_close(mbox);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("ending");
	TCase *stuck = bus_test_case("stuck"), *ends = bus_test_case("ends");

	BUS_TEST_CASE(suite, "cancelled", no_call_is_a_cancellation_point_nor_are_its_callees,
	    publisher_cancelled_while_it_waits_for_room_blocks_no_other,
	    publishers_cancelled_at_any_moment_leave_all_counters_exact);
	tcase_add_loop_test(
	    stuck, close_does_not_wait_for_a_callback_for_ever_nor_pull_memory_from_under_it, 0, 3);
	suite_add_tcase(suite, stuck);
	tcase_add_loop_test(ends, memory_of_a_callback_may_be_freed_when_unsubscribe_says_so, 0, 4);
	tcase_add_test(ends, callbacks_that_end_each_other_do_not_wait_for_each_other);
	tcase_add_test(ends, flush_waits_for_earlier_messages_and_not_for_later_ones);
	tcase_add_loop_test(ends, close_under_traffic_accounts_for_every_message, 0, 4);
	suite_add_tcase(suite, ends);
	return suite;
}
