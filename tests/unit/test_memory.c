/* Any allocation may fail: each scenario runs once for each of its allocations, with that one failing, and once with
 * that one and all later ones failing until the caller has been refused twice. */
#define _GNU_SOURCE
#include "link_test.h"

#include <limits.h>
#include <stdlib.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

#include "base/mem.h"

enum { LARGE = 3000, SUBS = 6, KEPT = 5 };

static char large[40000];

/* A run of a scenario, in which allocation `first` and the `count` - 1 after it fail. */
struct run {
	long first, count;
	int full, drain, scheme;
	int got;          /* the last answer */
	long made;        /* allocations until there was memory again; 0: none has failed yet */
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

/* From now on there is memory. */
static void
recover(struct run *r)
{
	long made = bus__mem_fail_after(-1);

	if (r->made == 0)
		r->made = made;
}

/* A call was refused. From the second time in a row on there is memory again. */
static void
refuse(struct run *r, const char *call, unsigned times)
{
	ck_assert_msg(times < (r->count == 1 ? 1 : 2), "%s is still refused, allocation %ld of %ld",
	    call, r->first, r->count);
	r->refused++;
	if (times == 1)
		recover(r);
}

/* Repeats a call until there is memory for it; a refused call has offered nothing to any mailbox. */
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

/* Runs a scenario for each step-th of its allocations; without any it fails. */
static void
fail_each(void (*scenario)(struct run *r), struct run like, long count, long step, long at_least)
{
	for (long first = 0;; first += step) {
		struct run r = like;

		r.first = first;
		r.count = count;
		bus__mem_fail_many(first, count);
		scenario(&r);
		recover(&r);
		if (r.made <= first) {
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
	TRY(r, bus_flush(r->bus, patience_ms()));
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
		/* The items before the refused one are in. */
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

	/* All but a/kept/0, which was deleted; a failed subscription has got none. */
	TRY(r, bus_mailbox_subscribe(r->mbox, "#", hear_whole, r, &r->subs[3]));
	r->expected += KEPT - 1;
	drain(r);
	/* `latest` has one value for all subscriptions of a topic, and drops it when there is no memory. */
	if (r->full != BUS_FULL_LATEST)
		ck_assert_uint_eq(r->calls, calls + KEPT - 1);
}

/* Every accepted message was delivered; only `latest`, which allocates after the publisher's call has accepted
 * the message, may count a loss. */
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
		TRY(r, bus_flush(r->bus, patience_ms()));
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

	fail_each(live, like, 1, 1, 30);
	fail_each(live, like, LONG_MAX, 2, 30);
}
END_TEST

/* --- mailboxes that refuse, and keeping ------------------------------------------------------------------ */

enum { REFUSING = 10 }; /* more than fit on the stack of a publish */

/* A publish claims in all of them or in none. */
static void
refuse_together(struct run *r)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .full = BUS_FULL_REFUSE};
	struct bus_mailbox *all[REFUSING];
	const struct bus_msg *msg;

	TRY(r, bus_open(NULL, NULL, &r->bus));
	for (int i = 0; i < REFUSING; i++) {
		TRY(r, bus_mailbox_open(r->bus, &cfg, &all[i]));
		TRY(r, bus_mailbox_subscribe(all[i], "t", NULL, NULL, NULL));
	}
	TRY(r, bus_publish(r->bus, "t", large, 10));
	TRY(r, bus_publish(r->bus, "t", large, LARGE));
	TRY(r, bus_publish_msg(r->bus, &(struct bus_msg){.size = sizeof *msg,
					   .topic = "t",
					   .data = large,
					   .len = LARGE,
					   .flags = BUS_MSG_RETAIN}));
	for (int i = 0; i < REFUSING; i++) {
		for (int n = 0; n < 3; n++) {
			TRY(r, bus_recv(all[i], 0, &msg));
			ck_assert_int_eq(r->got, 1);
			ck_assert_uint_eq(msg->len, n == 0 ? 10 : LARGE);
		}
		TRY(r, bus_recv(all[i], 0, &msg));
		ck_assert_int_eq(r->got, 0);
		bus_mailbox_close(all[i]);
	}
	ck_bus(bus_close(r->bus, 0), 0);
}

START_TEST(any_allocation_may_fail_among_mailboxes_that_refuse)
{
	fail_each(refuse_together, (struct run){.bus = NULL}, 1, 1, 30);
	fail_each(refuse_together, (struct run){.bus = NULL}, LONG_MAX, 1, 30);
}
END_TEST

static void
keep_last(struct run *r)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .full = r->full};
	const struct bus_msg *msg;
	char text[512];

	TRY(r, bus_open(NULL, NULL, &r->bus));
	TRY(r, bus_publish(r->bus, "k/0", large, 10)); /* before it keeps anything */
	TRY(r, bus_keep(r->bus, "k/#",
		   &(struct bus_keep_config){.size = sizeof(struct bus_keep_config), .last = 2}));
	for (int i = 1; i <= 3; i++)
		for (int topic = 0; topic < 2; topic++)
			TRY(r, bus_publish(r->bus, topic == 0 ? "k/0" : "k/1", large,
				   i == 2 ? LARGE : (size_t)i));
	TRY(r, bus_mailbox_open(r->bus, &cfg, &r->mbox));
	TRY(r, bus_mailbox_subscribe(r->mbox, "k/+", NULL, NULL, NULL));
	TRY(r, bus_pub_open(r->bus, "k/0", NULL, &r->pub));
	TRY(r, bus_pub_send(r->pub, large, 4));
	for (int i = 0; i < 5; i++) {
		TRY(r, bus_recv(r->mbox, 0, &msg));
		ck_assert_int_eq(r->got, 1);
		ck_assert_uint_eq(msg->len, i == 4 ? 4 : i % 2 == 0 ? LARGE : 3);
		ck_assert_uint_eq(msg->flags, i == 4 ? 0 : BUS_MSG_KEPT);
	}
	TRY(r, bus_recv(r->mbox, 0, &msg));
	ck_assert_int_eq(r->got, 0);
	TRY(r, bus_explain(r->bus, "k/0", text, sizeof text));
	bus_pub_close(r->pub);
	bus_mailbox_close(r->mbox);
	ck_bus(bus_close(r->bus, 0), 0);
}

START_TEST(any_allocation_may_fail_while_messages_are_kept)
{
	const struct run like = {.full = _i == 0 ? BUS_FULL_DROP_OLDEST : BUS_FULL_REFUSE};

	fail_each(keep_last, like, 1, 1, 30);
	fail_each(keep_last, like, LONG_MAX, 1, 30);
}
END_TEST

static struct bus_mailbox *
listener_at(struct bus *bus, const char *filter, struct bus_sub **ret_sub)
{
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, filter, NULL, NULL, ret_sub), 0);
	return mbox;
}

static uint64_t
unwanted(struct bus_mailbox *mbox)
{
	struct bus_stats s = {.size = sizeof s};
	const struct bus_msg *msg;

	ck_bus(bus_recv(mbox, 0, &msg), 0);
	ck_bus(bus_mailbox_stats(mbox, &s), 0);
	return s.lost[BUS_LOSS_UNSUBSCRIBED];
}

START_TEST(
    unsubscribing_without_memory_takes_effect_at_once_and_its_route_goes_with_the_next_change)
{
	struct bus_sub *sub;
	struct bus *bus = open_bus();
	struct bus_mailbox *leaves = listener_at(bus, "t", &sub);
	struct bus_mailbox *stays = listener_at(bus, "t", NULL), *comes;

	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	bus__mem_fail_many(0, LONG_MAX);
	bus_unsubscribe(sub, NULL);
	bus__mem_fail_after(-1);
	ck_assert_uint_eq(unwanted(leaves), 1);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_assert_uint_eq(unwanted(leaves), 2);
	comes = listener_at(bus, "t", NULL);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	ck_assert_uint_eq(unwanted(leaves), 2);
	bus_mailbox_close(leaves);
	bus_mailbox_close(stays);
	bus_mailbox_close(comes);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- questions ---------------------------------------------------------------------------------------------- */

/* Keeps the question too: both need memory, on the responder's thread. */
static void
answer(void *arg, const struct bus_msg *question)
{
	const struct bus_msg *kept = NULL;
	struct run *r = arg;
	unsigned times = 0;
	int err;

	while ((err = bus_msg_keep(question, &kept)) == BUS_E_NOMEM ||
	       (err = bus_reply(r->bus, kept, large, LARGE)) == BUS_E_NOMEM) {
		bus_msg_free(kept);
		kept = NULL;
		if (++times == 2)
			recover(r);
		ck_assert_uint_le(times, 2);
	}
	ck_bus(err, 0);
	bus_msg_free(kept);
}

static void
hear_answer(void *arg, const struct bus_msg *reply)
{
	struct run *r = arg;

	if (reply == NULL) {
		r->done++;
	} else {
		ck_assert_uint_eq(reply->len, LARGE);
		r->calls++;
	}
}

static void
ask(struct run *r)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	const struct bus_msg *reply;
	struct bus_mailbox *answers;
	struct bus_request *req;
	unsigned calls;

	TRY(r, bus_open(NULL, NULL, &r->bus));
	TRY(r, bus_mailbox_open(r->bus, NULL, &r->mbox));
	TRY(r, bus_mailbox_open(r->bus, &cfg, &answers));
	TRY(r, bus_mailbox_subscribe(answers, "ask", answer, r, NULL));
	for (int i = 0; i < 2; i++) {
		WITHOUT_MEMORY(
		    r, NULL, bus_request(r->bus, "ask", large, 10, patience_ms(), &reply));
		ck_assert_uint_eq(reply->len, LARGE);
		bus_msg_free(reply);
		calls = r->calls;
		WITHOUT_MEMORY(r, NULL,
		    bus_request_start(r->mbox, "ask", large, LARGE, 3600000, hear_answer, r, &req));
		while (r->calls == calls)
			TRY(r, bus_dispatch(r->mbox, patience_ms(), 1));
		ck_assert_uint_eq(r->calls, calls + 1);
		bus_request_cancel(req);
		ck_assert_uint_eq(r->done, i + 1u);
	}
	bus_mailbox_close(answers);
	bus_mailbox_close(r->mbox);
	ck_bus(bus_close(r->bus, patience_ms()), 0);
}

START_TEST(any_allocation_may_fail_between_question_and_answer)
{
	fail_each(ask, (struct run){.bus = NULL}, 1, 1, 20);
	fail_each(ask, (struct run){.bus = NULL}, LONG_MAX, 1, 20);
}
END_TEST

/* --- a bus with a name ------------------------------------------------------------------------------------------ */

static void
talk(struct run *r)
{
	const struct bus_slice many[] = {{large, 8}, {large, 8}, {large, LARGE}};
	const struct bus_msg will = {.size = sizeof will, .topic = "a/will", .data = "x", .len = 1};
	void *loan;

	TRY(r, bus_mailbox_subscribe(r->mbox, "a/+", hear_whole, r, &r->subs[0]));
	TRY(r, bus_publish(r->bus, "a/1", large, 10));
	TRY(r, bus_publish_msg(r->bus, &(struct bus_msg){.size = sizeof will,
					   .topic = "a/kept",
					   .data = large,
					   .len = LARGE,
					   .flags = BUS_MSG_RETAIN,
					   .headers = "\x80",
					   .headers_len = 1}));
	TRY(r, bus_publish_msg(r->bus, &will));
	TRY(r, bus_pub_open(r->bus, "a/h", NULL, &r->pub));
	TRY(r, bus_pub_send(r->pub, large, 10));
	TRY(r, bus_pub_send_many(r->pub, many, 3));
	ck_assert_int_eq(r->got, 3);
	TRY(r, bus_pub_loan(r->pub, LARGE, &loan));
	memset(loan, 'x', LARGE);
	TRY(r, bus_pub_commit(r->pub, loan, LARGE));
	r->expected += 8;
	drain(r);
}

/* A second subscription gets the kept messages; without memory they are counted as lost. */
static void
learn_what_is_kept(struct run *r)
{
	TRY(r, bus_mailbox_subscribe(r->mbox, "#", hear_whole, r, &r->subs[1]));
	r->expected++;
	drain(r);
}

static void
ask_there(struct run *r)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	const struct bus_msg *reply;
	struct bus_mailbox *answers;

	TRY(r, bus_mailbox_open(r->bus, &cfg, &answers));
	TRY(r, bus_mailbox_subscribe(answers, "ask", answer, r, NULL));
	recover(r); /* without the topic the question would be lost */
	WITHOUT_MEMORY(r, NULL, bus_request(r->bus, "ask", large, 10, patience_ms(), &reply));
	ck_assert_uint_eq(reply->len, LARGE);
	bus_msg_free(reply);
	bus_mailbox_close(answers);
}

static void
live_with_a_name(struct run *r)
{
	const struct bus_msg will = {.size = sizeof will, .topic = "b/will", .data = "x", .len = 1};
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 4 << 20, .will = &will};
	const struct bus_mailbox_config from[] = {{.size = sizeof from[0], .drain = r->drain},
	    {.size = sizeof from[0], .drain = r->drain, .from = BUS_FROM_LAST, .from_value = 3}};
	struct bus_stats s = {.size = sizeof s};
	struct bus_role *role;
	char text[2000];
	uint64_t lost = 0;

	memset(large, 'x', sizeof large);
	TRY(r, bus_open("memory", &cfg, &r->bus));
	TRY(r, bus_role_take(r->bus, "role", 0, &role));
	TRY(r, bus_mailbox_open(r->bus, &from[r->scheme], &r->mbox));
	TRY(r, bus_mailbox_fd(r->mbox));
	talk(r);
	if (r->scheme == 0)
		learn_what_is_kept(r);
	TRY(r, bus_describe(r->bus, text, sizeof text));
	ck_bus(bus_mailbox_stats(r->mbox, &s), 0);
	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		lost += s.lost[i];
	recover(r);
	/* A filter that asks for the last 3 may get more, if it could not learn them in the first look. */
	if (r->scheme == 0)
		ck_assert_uint_eq(r->calls + lost, r->expected);
	else
		ck_assert_uint_ge(r->calls + lost, 3);
	if (r->made <= r->first)
		ck_assert_uint_eq(lost, 0);
	ask_there(r);
	bus_role_end(role);
	bus_pub_close(r->pub);
	for (int i = 0; i < 2; i++)
		bus_unsubscribe(r->subs[i], NULL);
	bus_mailbox_close(r->mbox);
	ck_bus(bus_close(r->bus, patience_ms()), 0);
}

START_TEST(any_allocation_of_a_bus_with_a_name_may_fail)
{
	const struct run like = {.scheme = _i, .drain = BUS_DRAIN_CALLER};

	fail_each(live_with_a_name, like, 1, 1, 30);
	fail_each(live_with_a_name, like, LONG_MAX, 1, 30);
}
END_TEST

/* --- groups --------------------------------------------------------------------------------------------------- */

static void
share(struct run *r)
{
	struct bus_mailbox_config cfg = {.size = sizeof cfg, .group = "workers"};
	struct bus_mailbox *receivers[2];
	const struct bus_msg *msg;

	TRY(r, bus_open(NULL, NULL, &r->bus));
	for (int round = 0; round < 2; round++) { /* the second begins a new group */
		for (int i = 0; i < 2; i++) {
			cfg.drain = i == 0 ? BUS_DRAIN_CALLER : BUS_DRAIN_THREAD;
			TRY(r, bus_mailbox_open(r->bus, &cfg, &receivers[i]));
		}
		TRY(r, bus_mailbox_subscribe(receivers[0], "x", NULL, NULL, NULL));
		TRY(r, bus_publish(r->bus, "x", large, LARGE));
		ck_bus(bus_recv(receivers[0], patience_ms(), &msg), 1);
		ck_assert_uint_eq(msg->len, LARGE);
		for (int i = 0; i < 2; i++)
			bus_mailbox_close(receivers[i]);
	}
	ck_bus(bus_close(r->bus, patience_ms()), 0);
}

START_TEST(any_allocation_of_a_group_may_fail)
{
	fail_each(share, (struct run){.bus = NULL}, 1, 1, 10);
	fail_each(share, (struct run){.bus = NULL}, LONG_MAX, 1, 10);
}
END_TEST

/* --- links -------------------------------------------------------------------------------------------------- */

/* The messages that one bus received: kept values by topic, how many on x, and the length of the last on y/1. */
struct ears {
	_Atomic unsigned kept, x, y;
};

static void
hear_link(void *arg, const struct bus_msg *msg)
{
	struct ears *ears = arg;

	if (memcmp(msg->data, large, msg->len) != 0)
		ck_abort_msg("not what was sent");
	if (msg->topic[0] == 'k')
		ears->kept |= 1u << (msg->topic[1] - '0');
	else if (msg->topic[0] == 'x')
		ears->x++;
	else
		ears->y = (unsigned)msg->len;
}

/* Without memory a connection ends, and is restored with all its state. */
static void
link_up(struct run *r)
{
	struct pair p;
	struct ears ears = {.kept = 0};
	struct bus_msg msg = {.size = sizeof msg, .data = large, .flags = BUS_MSG_RETAIN};
	unsigned before;

	memset(large, 'x', sizeof large);
	WITHOUT_MEMORY(r, NULL, bus_open(NULL, NULL, &p.a));
	WITHOUT_MEMORY(r, NULL, bus_open(NULL, NULL, &p.b));
	for (int i = 0; i < 3; i++) {
		msg.topic = i == 0 ? "k0" : i == 1 ? "k1" : "k2";
		msg.len = i == 2 ? sizeof large : 10;
		WITHOUT_MEMORY(r, p.a, bus_publish_msg(p.a, &msg));
	}
	WITHOUT_MEMORY(r, p.b, bus_subscribe(p.b, "+", hear_link, &ears, NULL));
	WITHOUT_MEMORY(r, p.a, bus_listen(p.a, listen_url(r->scheme), NULL, &p.la));
	ck_assert_int_gt(bus_link_url(p.la, p.url, sizeof p.url), 0);
	WITHOUT_MEMORY(r, p.b, bus_dial(p.b, p.url, NULL, &p.lb));
	ck_eventually(ears.kept == 7 || stats_of(p.lb).refused > 0);
	WITHOUT_MEMORY(r, NULL, bus_subscribe(p.b, "y/1", hear_link, &ears, NULL));
	WITHOUT_MEMORY(r, NULL, bus_publish(p.a, "x", large, sizeof large));
	WITHOUT_MEMORY(r, NULL, bus_flush(p.a, patience_ms()));
	ck_eventually(bus_publish(p.a, "y/1", large, 10) == 0 && ears.y > 0);
	recover(r);
	/* All failures are handled on both sides: nothing ends this connection any more. */
	ck_eventually(bus_publish(p.a, "y/1", large, 11) == 0 && ears.y == 11);
	before = ears.x;
	for (int i = 0; i < 10; i++)
		ck_bus(bus_publish(p.a, "x", large, i % 2 == 0 ? 10 : sizeof large), 0);
	ck_bus(bus_flush(p.a, patience_ms()), 0);
	ck_eventually(ears.x >= before + 10);
	pair_close(&p);
}

START_TEST(any_allocation_may_fail_while_two_buses_are_linked)
{
	/* One by one over inproc; over ipc by threes, to wait for fewer connections. */
	long count = _i == 0 ? 1 : 3;

	fail_each(link_up, (struct run){.scheme = _i}, count, count, 40);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("memory");
	TCase *bus = bus_test_case("bus"), *links = bus_test_case("links");

	bus_test_add_loop(bus, any_allocation_of_a_bus_may_fail, 0, 12);
	tcase_add_test(bus, any_allocation_may_fail_among_mailboxes_that_refuse);
	bus_test_add_loop(bus, any_allocation_may_fail_while_messages_are_kept, 0, 2);
	tcase_add_test(bus, any_allocation_may_fail_between_question_and_answer);
	tcase_add_test(bus, any_allocation_of_a_group_may_fail);
	bus_test_add_loop(bus, any_allocation_of_a_bus_with_a_name_may_fail, 0, 2);
	tcase_add_test(bus,
	    unsubscribing_without_memory_takes_effect_at_once_and_its_route_goes_with_the_next_change);
	suite_add_tcase(suite, bus);
	bus_test_add_loop(links, any_allocation_may_fail_while_two_buses_are_linked, 0, 2);
	suite_add_tcase(suite, links);
	return suite;
}
