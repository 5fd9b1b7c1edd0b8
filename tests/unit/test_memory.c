/* Any allocation may fail: each scenario runs once for each of its allocations, with that one failing, and once with
 * that one and all behind it failing until the caller has been refused twice. */
#define _GNU_SOURCE
#include "link_test.h"

#include <limits.h>
#include <stdlib.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

#include "base/mem.h"

enum { LARGE = 3000, SUBS = 6, KEPT = 5 };

static char large[40000];

/* A run of a scenario, in which allocation `first` fails and so do the `count` - 1 behind it. */
struct run {
	long first, count;
	int full, drain, scheme;
	int got; /* the last answer */
	bool recovered;
	unsigned refused; /* calls that answered BUS_E_NOMEM */
	struct bus *bus;
	struct bus_mailbox *mbox;
	struct bus_pub *pub;
	struct bus_sub *subs[SUBS];
	uint64_t expected; /* offered to mbox */
	_Atomic unsigned calls, done;
};

static uint64_t
offered(struct bus *bus)
{
	struct bus_stats s = {.size = sizeof s};

	if (bus != NULL)
		ck_bus(bus_stats(bus, &s), 0);
	return s.offered;
}

/* A call was refused. From the second time in a row on there is memory again. */
static void
refuse(struct run *r, const char *call, unsigned times)
{
	ck_assert_msg(times < (r->count == 1 ? 1 : 2), "%s is still refused, allocation %ld of %ld",
	    call, r->first, r->count);
	r->refused++;
	if (times == 1) {
		bus__mem_fail_after(-1);
		r->recovered = true;
	}
}

/* Makes a call until there is memory for it; a call that is refused has offered nothing to anybody. */
#define WITHOUT_MEMORY(r, b, call)                                                                 \
	do {                                                                                       \
		uint64_t before_ = offered(b);                                                     \
		unsigned times_ = 0;                                                               \
		while (((r)->got = (call)) == BUS_E_NOMEM) {                                       \
			refuse((r), #call, times_++);                                              \
			ck_assert_uint_eq(offered(b), before_);                                    \
		}                                                                                  \
		ck_assert_msg((r)->got >= 0, "%s answered %s when allocation %ld failed", #call,   \
		    bus_errname((r)->got), (r)->first);                                            \
	} while (0)
#define TRY(r, call) WITHOUT_MEMORY(r, (r)->bus, call)

/* Runs a scenario for each allocation that it makes; it cannot pass without any. */
static void
fail_each(void (*scenario)(struct run *r), struct run like, long count, long at_least)
{
	for (long first = 0;; first++) {
		struct run r = like;
		long made;

		r.first = first;
		r.count = count;
		bus__mem_fail_many(first, count);
		scenario(&r);
		made = bus__mem_fail_after(-1);
		if (!r.recovered && made <= first) {
			ck_assert_int_ge(first, at_least);
			ck_assert_uint_eq(r.refused, 0);
			return;
		}
	}
}

static void
hear_whole(void *arg, const struct bus_msg *msg)
{
	struct run *r = arg;

	if (memcmp(msg->data, large, msg->len) != 0 ||
	    (msg->headers_len > 0 && memcmp(msg->headers, "\x80", 1) != 0))
		ck_abort_msg("not what was sent");
	r->calls++;
}

static void
count_done(void *arg)
{
	((struct run *)arg)->done++;
}

static void
open_all(struct run *r)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .full = r->full, .drain = r->drain, .bytes = 65536};

	memset(large, 'x', sizeof large);
	TRY(r, bus_open(NULL, NULL, &r->bus));
	TRY(r, bus_mailbox_open(r->bus, &cfg, &r->mbox));
	TRY(r, bus_mailbox_subscribe(r->mbox, "a/+", hear_whole, r, &r->subs[0]));
	TRY(r, bus_mailbox_subscribe(r->mbox, "a/#", hear_whole, r, NULL));
	TRY(r, bus_subscribe(r->bus, "b/c/+/#", hear_whole, r, &r->subs[1]));
}

/* Takes out all there is. */
static void
drain(struct run *r)
{
	if (r->drain == BUS_DRAIN_CALLER)
		do
			TRY(r, bus_dispatch(r->mbox, 0, 0));
		while (r->got > 0);
	TRY(r, bus_flush(r->bus, 20000));
}

static void
publish_all(struct run *r)
{
	struct bus_msg msg = {.size = sizeof msg,
	    .data = large,
	    .len = 20,
	    .flags = BUS_MSG_RETAIN,
	    .ttl_ms = 3600000,
	    .headers = "\x80",
	    .headers_len = 1};
	char topic[32];

	for (int i = 0; i < 3; i++) {
		snprintf(topic, sizeof topic, "a/%d", i % 2);
		TRY(r, bus_publish(r->bus, topic, large, 10));
		TRY(r, bus_publish(r->bus, topic, large, LARGE));
		r->expected += 2;
		drain(r);
	}
	for (int i = 0; i < KEPT; i++) {
		snprintf(topic, sizeof topic, i % 2 == 0 ? "a/kept/%d" : "b/c/kept/%d", i);
		msg.topic = topic;
		msg.len = i < 3 ? 20 : LARGE;
		TRY(r, bus_publish_msg(r->bus, &msg));
		r->expected += i % 2 == 0;
	}
	msg.topic = "a/kept/0";
	msg.len = msg.headers_len = 0;
	TRY(r, bus_publish_msg(r->bus, &msg));
	r->expected++;
	drain(r);
}

static void
publish_many(struct run *r)
{
	const struct bus_slice items[] = {{large, 8}, {large, 8}, {large, LARGE}, {large, 0},
	    {large, 8}, {large, 300}, {large, 9}};
	size_t sent = 0, count = sizeof items / sizeof items[0];

	while (sent < count) {
		/* Those in front of the one that was refused are in. */
		r->got = bus_pub_send_many(r->pub, items + sent, count - sent);
		if (r->got == BUS_E_NOMEM)
			TRY(r, bus_pub_send(r->pub, items[sent].data, items[sent].len));
		sent += r->got > 0 ? (size_t)r->got : 1;
	}
	r->expected += count;
}

static void
use_handle(struct run *r)
{
	void *loan;

	TRY(r, bus_pub_open(r->bus, "a/h", NULL, &r->pub));
	TRY(r, bus_pub_send(r->pub, large, 10));
	TRY(r, bus_pub_send(r->pub, large, LARGE));
	r->expected += 2;
	publish_many(r);
	drain(r);
	TRY(r, bus_pub_loan(r->pub, LARGE, &loan));
	memset(loan, 'x', LARGE);
	TRY(r, bus_mailbox_subscribe(r->mbox, "a/h", hear_whole, r, &r->subs[2]));
	TRY(r, bus_pub_commit(r->pub, loan, LARGE - 1));
	r->expected++;
	TRY(r, bus_pub_loan(r->pub, 10, &loan));
	bus_pub_abort(r->pub, loan);
	drain(r);
}

static void
join_late(struct run *r)
{
	unsigned calls = r->calls;

	/* All but a/kept/0, which was forgotten; a subscription that failed has been given none. */
	TRY(r, bus_mailbox_subscribe(r->mbox, "#", hear_whole, r, &r->subs[3]));
	r->expected += KEPT - 1;
	drain(r);
	/* `latest` has one value for all subscriptions of a topic, and drops it when there is no memory. */
	if (r->full != BUS_FULL_LATEST)
		ck_assert_uint_eq(r->calls, calls + KEPT - 1);
}

/* Everything that was accepted was delivered; only `latest`, which allocates when the publisher has long been told
 * that it is accepted, may count something as lost. */
static void
check_counters(struct run *r)
{
	struct bus_stats s = {.size = sizeof s};

	ck_bus(bus_mailbox_stats(r->mbox, &s), 0);
	ck_assert_uint_eq(s.offered, r->expected);
	ck_assert_uint_eq(s.pending + s.refused, 0);
	ck_assert_uint_eq(
	    s.offered, s.delivered + s.lost[BUS_LOSS_FULL] + s.lost[BUS_LOSS_REPLACED]);
	if (r->full != BUS_FULL_LATEST)
		ck_assert_uint_eq(s.delivered, r->expected);
}

/* None of these can fail. */
static void
end_all(struct run *r)
{
	unsigned calls = r->calls;

	if (r->first % 2 == 0)
		ck_assert_int_ge(bus_close(r->bus, 20000), 0);
	for (int i = 0; i < 4; i++)
		bus_unsubscribe(r->subs[i], count_done);
	if (r->first % 2 != 0) {
		TRY(r, bus_publish(r->bus, "b/c/d", large, 10));
		TRY(r, bus_flush(r->bus, 20000));
		ck_assert_uint_eq(r->calls, calls);
	}
	bus_mailbox_close(r->mbox);
	if (r->first % 2 != 0) {
		TRY(r, bus_publish(r->bus, "a/0", large, 10));
		ck_assert_uint_eq(r->calls, calls);
	}
	bus_pub_close(r->pub);
	if (r->first % 2 != 0)
		ck_assert_int_ge(bus_close(r->bus, 20000), 0);
	ck_eventually(r->done == 4);
}

static void
live(struct run *r)
{
	open_all(r);
	publish_all(r);
	use_handle(r);
	join_late(r);
	check_counters(r);
	end_all(r);
}

START_TEST(any_allocation_of_a_bus_may_fail)
{
	const struct run like = {.full = _i % 4, .drain = _i / 4};

	fail_each(live, like, 1, 30);
	fail_each(live, like, LONG_MAX, 30);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("memory");
	TCase *bus = tcase_create("bus");

	tcase_set_timeout(bus, 60);
	tcase_add_loop_test(bus, any_allocation_of_a_bus_may_fail, 0, 12);
	suite_add_tcase(suite, bus);
	return suite;
}
