/* Functions of a transport fail, or do not return: the link reports it and reconnects, and nothing else waits. */
#define _GNU_SOURCE
#include "transport_test.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>

#include <libbus/libbus.h>

#include "base/mem.h"
#include "link/link.h"
#include "transport/blocking.h"

/* --- a transport that misbehaves on demand ------------------------------------------------------------------------------- */

/* The peer hangs up, as far as the dialling side can see. */
static void
cut(void)
{
	pthread_mutex_lock(&wild.lock);
	for (struct handle *at = wild.conns; at != NULL; at = at->next)
		shutdown(at->fd, SHUT_RDWR);
	pthread_mutex_unlock(&wild.lock);
}

static const char filler[10000];

/* Makes p.a send its messages on t. */
static void
want_messages(struct pair *p)
{
	ck_bus(bus_subscribe(p->b, "t", ignore_message, NULL, NULL), 0);
	ck_eventually((bus_publish(p->a, "t", "x", 1), stats_of(p->la).sent > 0));
}

/* --- links that work ------------------------------------------------------------------------------------------------------ */

START_TEST(messages_cross_however_small_the_pieces_are)
{
	static const size_t pieces[] = {1, 3, 1000, 0};
	struct pair p;

	wild.piece = pieces[_i];
	pair_up(&p);
	expect_payload(&p, 0);
	expect_payload(&p, 5000);
	if (pieces[_i] != 1)
		expect_payload(&p, pieces[_i] == 3 ? 100000 : 1 << 20);
	pair_close(&p);
	expect_peace();
	wild.piece = 0;
}
END_TEST

/* --- functions that fail -------------------------------------------------------------------------------------------------- */

START_TEST(error_of_listen_is_the_answer_of_bus_listen)
{
	struct bus *bus = open_bus();
	struct bus_link *link;

	be_wild();
	ck_bus(bus_listen(bus, "wild://", NULL, &link), BUS_E_ADDRESS);
	expect_text("wild://: malformed address: ");
	ck_bus(bus_listen(bus, "wild://elsewhere", NULL, &link), BUS_E_ADDRESS);
	expect_text("wild://elsewhere: malformed address: the program that registered the scheme");
	wild.fails[LISTEN] = BUS_E_DENIED;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_DENIED);
	wild.fails[LISTEN] = BUS_E_SYS;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_SYS);
	expect_text(strerror(ENODEV));
	/* An error number that libbus does not know becomes BUS_E_SYS. */
	wild.fails[LISTEN] = -12345;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_SYS);
	wild.fails[LISTEN] = 7;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_SYS);
	wild.fails[LISTEN] = 0;
	ck_bus(bus_close(bus, patience_ms()), 0);
	expect_peace();
}
END_TEST

START_TEST(a_dial_that_fails_is_tried_again)
{
	struct pair p;

	wild.fails[DIAL] = BUS_E_DENIED;
	pair_over_wild(&p);
	ck_eventually(wild.calls[DIAL] >= 3);
	ck_assert_int_eq(stats_of(p.lb).last_error, BUS_E_DENIED);
	ck_assert(!is_up(p.lb));
	wild.fails[DIAL] = 0;
	ck_eventually(is_up(p.lb));
	expect_payload(&p, 10);
	pair_close(&p);
	expect_peace();
}
END_TEST

START_TEST(an_accept_that_fails_is_tried_again)
{
	struct pair p;

	wild.fails[ACCEPT] = BUS_E_PROTOCOL;
	pair_over_wild(&p);
	ck_eventually(wild.calls[ACCEPT] >= 3);
	ck_assert_int_eq(stats_of(p.la).last_error, BUS_E_PROTOCOL);
	wild.fails[ACCEPT] = 0;
	ck_eventually(is_up(p.lb));
	pair_close(&p);
	expect_peace();
}
END_TEST

START_TEST(a_connection_whose_calls_fail_is_restored)
{
	/* -1: like a system call. More than the buffer holds: a fault of the transport. */
	static const int answers[][2] = {
	    {SEND, BUS_E_GONE}, {SEND, -1}, {RECV, 0x7fffffff}, {RECV, -1}, {SEND, 1 << 20}};
	struct pair p;

	pair_up(&p);
	want_messages(&p);
	wild.fails[answers[_i][0]] = answers[_i][1];
	ck_eventually((bus_publish(p.a, "t", "x", 1),
	    stats_of(p.la).ended[BUS_LINK_END_GONE] + stats_of(p.lb).ended[BUS_LINK_END_GONE] > 0));
	wild.fails[answers[_i][0]] = 0;
	ck_eventually(is_up(p.lb));
	expect_payload(&p, 10);
	pair_close(&p);
	expect_peace();
}
END_TEST

START_TEST(a_connection_whose_peer_vanishes_is_restored)
{
	struct pair p;

	pair_up(&p);
	expect_payload(&p, 10);
	for (unsigned i = 1; i <= 3; i++) {
		cut();
		ck_eventually(stats_of(p.lb).ended[BUS_LINK_END_GONE] >= i);
		ck_eventually(is_up(p.lb));
		expect_payload(&p, 10);
	}
	pair_close(&p);
	expect_peace();
}
END_TEST

/* Each allocation fails once, while a link connects. */
START_TEST(a_link_without_memory_is_up_later)
{
	const struct bus_transport other = {sizeof other, "other", NULL, wild_listen, wild_accept,
	    wild_dial, wild_send, wild_recv, wild_close};
	struct bus_link *la, *lb;
	struct pair p;

	be_wild();
	bus__back_off_most_ms = 1;
	bus__mem_fail_after(0);
	ck_bus(bus_transport_register(&other), BUS_E_NOMEM);
	expect_text("other: out of memory");
	for (long n = 0, made = LONG_MAX; made > n; n++) {
		p = (struct pair){.a = open_bus(), .b = open_bus()};
		la = lb = NULL;
		bus__mem_fail_after(n);
		while (bus_listen(p.a, "wild://here", &patient, &la) == BUS_E_NOMEM)
			continue;
		while (bus_dial(p.b, "wild://here", &patient, &lb) == BUS_E_NOMEM)
			continue;
		ck_eventually(is_up(lb));
		made = bus__mem_fail_after(-1);
		bus_link_close(lb);
		bus_link_close(la);
		ck_assert_int_ge(bus_close(p.b, 0), 0);
		ck_assert_int_ge(bus_close(p.a, 0), 0);
	}
	bus__back_off_most_ms = 30000;
	expect_peace();
}
END_TEST

/* --- functions that do not return ------------------------------------------------------------------------------------------ */

/* It hangs when the closes begin, and still does when they have returned. */
START_TEST(links_and_buses_close_beside_a_call_that_does_not_return)
{
	static const enum call calls[] = {SEND, RECV, ACCEPT, DIAL};
	enum call call = calls[_i];
	struct pair p;

	if (call == DIAL) {
		wild.hangs[DIAL] = true;
		pair_over_wild(&p);
	} else {
		pair_up(&p);
		want_messages(&p);
		wild.hangs[call] = true;
	}
	ck_eventually((bus_publish(p.a, "t", "x", 1), wild.hung > 0));
	bus_link_close(p.lb);
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	ck_assert_int_ge(bus_close(p.a, 0), 0);
	bus_link_close(p.la);
	ck_assert_int_gt(wild.hung, 0);
	ck_assert_int_gt(wild.open + (call == DIAL), 0);
	release(call);
	expect_peace();
}
END_TEST

/* When the call returns with bytes, nothing is written where the link had its buffers. */
START_TEST(a_call_that_returns_after_its_link_disturbs_no_other)
{
	struct pair p, q;

	pair_up(&p);
	want_messages(&p);
	wild.hangs[RECV] = true;
	ck_eventually(wild.hung == 2);
	for (int i = 0; i < 100; i++)
		bus_publish(p.a, "t", "some bytes on their way", 23);
	bus_link_close(p.lb);
	bus_link_close(p.la);
	pair_open(&q, 0);
	expect_payload(&q, 100000);
	release(RECV);
	expect_payload(&q, 100000);
	pair_close(&q);
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	ck_assert_int_ge(bus_close(p.a, 0), 0);
	expect_peace();
}
END_TEST

START_TEST(a_listen_that_does_not_return_times_out)
{
	struct bus *bus = open_bus();
	struct bus_link *link;

	be_wild();
	bus__open_ms = 50;
	wild.hangs[LISTEN] = true;
	ck_bus(bus_listen(bus, "wild://here", NULL, &link), BUS_E_TIMEDOUT);
	expect_text("wild://here: timed out");
	ck_assert_int_eq(wild.hung, 1);
	release(LISTEN);
	/* The handle that it opened in the end is closed again. */
	ck_eventually(wild.open == 0 && wild.calls[LISTEN] == 1);
	bus__open_ms = 5000;
	ck_eventually(bus_listen(bus, "wild://here", NULL, &link) == 0);
	bus_link_close(link);
	ck_bus(bus_close(bus, patience_ms()), 0);
	expect_peace();
}
END_TEST

START_TEST(a_listener_of_another_bus_waits_for_no_call_that_was_left_behind)
{
	struct bus *bus = open_bus();
	struct bus_link *link;

	be_wild();
	wild.hangs[DIAL] = true;
	ck_bus(bus_dial(bus, "wild://here", NULL, NULL), 0);
	ck_eventually(wild.hung == 1);
	ck_bus(bus_close(bus, 0), 0);
	bus = open_bus();
	for (int i = 0; i < 20; i++) {
		ck_bus(bus_listen(bus, "wild://here", NULL, &link), 0);
		bus_link_close(link);
		ck_assert_int_eq(wild.open, 0);
	}
	ck_bus(bus_close(bus, 0), 0);
	release(DIAL);
	expect_peace();
}
END_TEST

START_TEST(calls_that_do_not_return_are_bounded)
{
	enum { MOST = 64 };
	struct bus *bus = open_bus();
	struct bus_link *link;

	be_wild();
	wild.hangs[DIAL] = true;
	for (int i = 0; i < MOST; i++)
		ck_bus(bus_dial(bus, "wild://here", NULL, NULL), 0);
	ck_eventually(wild.hung == MOST);
	ck_bus(bus_close(bus, 0), 0);
	bus = open_bus();
	ck_bus(bus_dial(bus, "wild://here", NULL, &link), 0);
	ck_eventually(stats_of(link).last_error == BUS_E_LIMIT);
	ck_bus(bus_listen(bus, "wild://here", NULL, NULL), BUS_E_LIMIT);
	expect_text("calls of a registered transport do not return");
	ck_assert_int_eq(wild.hung, MOST);
	release(DIAL);
	/* Once they have returned, it works again. */
	ck_eventually(bus_listen(bus, "wild://here", NULL, NULL) == 0);
	bus_link_close(link);
	ck_bus(bus_close(bus, 0), 0);
	expect_peace();
}
END_TEST

/* The peer reads nothing, and send keeps its timeouts: so nothing hangs, and the excess is counted. */
START_TEST(a_send_that_takes_nothing_blocks_no_other)
{
	struct pair p;

	pair_up(&p);
	want_messages(&p);
	wild.fails[SEND] = BUS_E_TIMEDOUT;
	for (int i = 0; i < 200; i++)
		ck_bus(bus_publish(p.a, "t", filler, sizeof filler), 0);
	ck_assert_int_ge(bus_close(p.a, 0), 0);
	ck_assert_uint_gt(stats_of(p.la).lost, 0);
	bus_link_close(p.la);
	wild.fails[SEND] = 0;
	bus_link_close(p.lb);
	ck_assert_int_ge(bus_close(p.b, 0), 0);
	expect_peace();
}
END_TEST

START_TEST(a_peer_that_takes_nothing_is_silent_and_ends)
{
	const struct bus_link_config quick = {.size = sizeof quick, .heartbeat_ms = 100};
	struct pair p;

	be_wild();
	p = (struct pair){.a = open_bus(), .b = open_bus()};
	ck_bus(bus_listen(p.a, "wild://here", &quick, &p.la), 0);
	ck_bus(bus_dial(p.b, "wild://here", &quick, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	wild.fails[SEND] = BUS_E_TIMEDOUT;
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_SILENT] > 0);
	wild.fails[SEND] = 0;
	ck_eventually(is_up(p.lb));
	pair_close(&p);
	expect_peace();
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("transport failures");
	TCase *loops = bus_test_case("loops");

	BUS_TEST_CASE(suite, "failures", error_of_listen_is_the_answer_of_bus_listen,
	    a_dial_that_fails_is_tried_again, a_link_without_memory_is_up_later,
	    an_accept_that_fails_is_tried_again, a_connection_whose_peer_vanishes_is_restored,
	    a_send_that_takes_nothing_blocks_no_other,
	    a_peer_that_takes_nothing_is_silent_and_ends);
	BUS_TEST_CASE(suite, "hangs", a_call_that_returns_after_its_link_disturbs_no_other,
	    a_listen_that_does_not_return_times_out,
	    a_listener_of_another_bus_waits_for_no_call_that_was_left_behind,
	    calls_that_do_not_return_are_bounded);
	tcase_add_loop_test(loops, messages_cross_however_small_the_pieces_are, 0, 4);
	tcase_add_loop_test(loops, a_connection_whose_calls_fail_is_restored, 0, 5);
	tcase_add_loop_test(loops, links_and_buses_close_beside_a_call_that_does_not_return, 0, 4);
	suite_add_tcase(suite, loops);
	return suite;
}
