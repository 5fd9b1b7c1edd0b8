/* Peers of a hub receive each other's messages, each once, over any number of paths. */
#define _GNU_SOURCE
#include "hub_test.h"

/* _i: with private buses, or with named ones. */
enum { KINDS = 2 };

START_TEST(peers_of_a_hub_hear_each_other_and_the_hub_each_message_once_and_in_order)
{
	struct net *net = net_new();

	net_open_hub(net, 0, _i);
	for (unsigned i = 1; i < 4; i++) {
		net_open(net, i, _i);
		net_dial(net, i, 0, &net_leaf);
	}
	for (unsigned round = 0; round < 10; round++)
		for (unsigned i = 0; i < 4; i++)
			net_say(net, i, 20);
	net_await_all(net, 0, 4);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(net->tally[i].backward, 0);
	net_close(net);
}
END_TEST

START_TEST(a_message_goes_round_a_ring_of_hubs_and_each_takes_it_once)
{
	struct net *net = net_new();

	for (unsigned i = 0; i < 4; i++)
		net_open_hub(net, i, _i);
	for (unsigned i = 0; i < 4; i++)
		net_dial(net, i, (i + 1) % 4, &net_hub);
	for (unsigned i = 0; i < 4; i++)
		net_say(net, i, 100);
	net_await_all(net, 0, 4);
	net_close(net);
}
END_TEST

/* 0 publishes, 1 and 2 are hubs, 3 is linked to both. */
static struct net *
open_diamond(bool named)
{
	struct net *net = net_new();

	for (unsigned i = 0; i < 4; i++)
		net_open(net, i, named);
	net_listen(net, 1, "tcp://127.0.0.1:0");
	net_listen(net, 2, "tcp://127.0.0.1:0");
	for (unsigned i = 0; i < 4; i++)
		net_dial_by_wire(net, i < 2 ? 0 : 3, 1 + i % 2, &net_leaf);
	return net;
}

START_TEST(a_second_way_costs_bandwidth_and_delivers_once)
{
	struct net *net = open_diamond(_i);

	for (unsigned round = 0; round < 5; round++) {
		net_say(net, 0, 100);
		net_say(net, 3, 100);
	}
	ck_eventually(net->tally[3].count == 1000 && net->tally[0].count == 1000);
	ck_eventually(
	    stats_of(net->dialled[2]).repeated + stats_of(net->dialled[3]).repeated == 500);
	ck_assert_uint_eq(net->tally[0].twice + net->tally[3].twice, 0);
	/* The hubs meet only through their leaves, and a leaf does not pass on. */
	ck_eventually(net->tally[1].count == 1000 && net->tally[2].count == 1000);
	net_close(net);
}
END_TEST

START_TEST(while_one_of_two_ways_is_cut_nothing_is_missing_and_nothing_arrives_twice)
{
	struct net *net = open_diamond(_i);

	net_say(net, 0, 50);
	ck_eventually(net->tally[3].count == 50);
	for (unsigned link = 0; link < 4; link++) {
		net_cut(net, link);
		net_say(net, 0, 50);
		ck_eventually(net->tally[3].count == 50 + 100 * link + 50);
		net_mend(net, link);
		net_say(net, 0, 50);
		ck_eventually(net->tally[3].count == 50 + 100 * (link + 1));
	}
	ck_assert_uint_eq(net->tally[3].twice, 0);
	net_close(net);
}
END_TEST

START_TEST(a_message_passes_eight_hubs_and_the_ninth_counts_it)
{
	enum { HUBS = 9, BEHIND_8 = 9, BEHIND_9 = 10, BEFORE = 11 };
	struct net *net = net_new();
	uint64_t too_far = 0;

	for (unsigned i = 0; i < HUBS; i++)
		net_open_hub(net, i, _i);
	for (unsigned i = BEHIND_8; i <= BEFORE; i++)
		net_open(net, i, _i);
	for (unsigned i = 1; i < HUBS; i++)
		net_dial(net, i, i - 1, &net_hub);
	net_dial(net, BEHIND_8, 7, &net_leaf);
	net_dial(net, BEHIND_9, 8, &net_leaf);
	net_dial(net, BEFORE, 0, &net_leaf);
	net_say(net, BEFORE, 3);
	net_say(net, 0, 4);
	net_say(net, 1, 5);
	ck_eventually(net->tally[BEHIND_8].count == 3 + 4 + 5);
	ck_eventually(net->tally[8].count == 5 && net->tally[BEHIND_9].count == 5);
	ck_eventually(stats_of(net->dialled[7]).too_far == 3 + 4);
	for (unsigned i = 0; i < 7; i++)
		too_far += stats_of(net->dialled[i]).too_far;
	ck_assert_uint_eq(too_far, 0);
	net_close(net);
}
END_TEST

START_TEST(no_message_returns_to_its_publisher)
{
	struct net *net = net_new();

	net_open_hub(net, 0, _i);
	net_open_hub(net, 1, _i);
	net_dial(net, 1, 0, &net_hub);
	net_open(net, 2, _i);
	net_dial(net, 2, 0, &net_leaf);
	net_dial(net, 2, 1, &net_leaf);
	net_say(net, 2, 100);
	net_await_all(net, 0, 3);
	ck_assert_uint_eq(stats_of(net->dialled[1]).received + stats_of(net->dialled[2]).received +
			      stats_of(net->dialled[1]).repeated +
			      stats_of(net->dialled[2]).repeated,
	    0);
	/* Each crossed between the hubs at most once in each direction. */
	ck_assert_uint_le(stats_of(net->dialled[0]).repeated, 100);
	net_close(net);
}
END_TEST

START_TEST(a_message_from_a_hub_does_not_return_to_it)
{
	struct net *net = net_new();

	net_open_hub(net, 0, _i);
	net_open_hub(net, 1, _i);
	for (unsigned i = 2; i < 4; i++)
		net_open(net, i, _i);
	net_dial(net, 1, 0, &net_hub);
	net_dial(net, 2, 0, &net_leaf);
	net_dial(net, 3, 1, &net_leaf);
	net_say(net, 2, 100);
	net_await_all(net, 0, 4);
	ck_eventually(stats_of(net->dialled[0]).received == 100);
	ck_bus(bus_flush(net->bus[1], patience_ms()), 0);
	ck_assert_uint_eq(stats_of(net->dialled[0]).sent, 0);
	net_close(net);
}
END_TEST

START_TEST(a_loss_on_the_way_to_a_hub_is_reported_behind_it)
{
	struct net *net = net_new();

	/* 0 publishes over a wire to hub 1, which passes it on to hub 2, and that to 3; 4 wants nothing. */
	for (unsigned i = 0; i < 4; i++)
		net_open(net, i, _i);
	net->bus[4] = open_bus();
	net_listen(net, 1, "tcp://127.0.0.1:0");
	net_listen(net, 2, "inproc://second");
	net_dial_by_wire(net, 0, 1, &net_leaf);
	net_dial(net, 1, 2, &net_hub);
	net_dial(net, 3, 2, &net_leaf);
	net_dial(net, 4, 1, &net_leaf);
	net_say(net, 0, 1);
	ck_eventually(net->tally[3].count == 1);
	net->wires[0].held = true;
	net_say(net, 0, 20);
	ck_eventually(stats_of(net->dialled[0]).sent >= 21);
	net_cut(net, 0);
	net->wires[0].held = false;
	net_mend(net, 0);
	net_say(net, 0, 1);
	ck_eventually(net->tally[3].count == 2 && net->tally[1].count == 2);
	ck_eventually(stats_of(net->dialled[2]).lost_by_peers == 20);
	net_say(net, 0, 1); /* the loss may have arrived behind the message */
	ck_eventually(net->tally[3].lost == 20);
	ck_eventually(net->tally[1].lost == 20 && net->tally[2].lost == 20);
	ck_assert(!net->tally[3].at_least);
	ck_assert_uint_eq(stats_of(net->dialled[3]).lost_by_peers, 0);
	net_close(net);
}
END_TEST

START_TEST(a_loss_goes_round_a_ring_of_hubs_once)
{
	struct net *net = net_new();

	for (unsigned i = 0; i < 4; i++)
		net_open(net, i, _i);
	for (unsigned i = 1; i < 4; i++)
		net_listen(net, i, "tcp://127.0.0.1:0");
	net_dial_by_wire(net, 0, 1, &net_leaf);
	for (unsigned i = 1; i < 4; i++)
		net_dial(net, i, i % 3 + 1, &net_hub);
	net_say(net, 0, 1);
	net_await_all(net, 0, 4);
	net->wires[0].held = true;
	net_say(net, 0, 7);
	ck_eventually(stats_of(net->dialled[0]).sent == 8);
	net_cut(net, 0);
	net->wires[0].held = false;
	net_mend(net, 0);
	for (unsigned i = 1; i < 4; i++)
		for (unsigned n = 0; n < 2; n++) {
			net_say(net, 0, 1);
			ck_eventually(net->tally[i].count == net->said[0] - 7);
			ck_eventually(n == 0 || net->tally[i].lost >= 7);
		}
	for (unsigned i = 1; i < 4; i++)
		ck_assert_uint_eq(net->tally[i].lost, 7);
	net_close(net);
}
END_TEST

/* By an existing filter: a new one would fetch the values of peers. */
static bool
keeps(struct bus *bus, const char *topic, const char *text)
{
	struct bus_mailbox *mbox = subscriber(bus, "v/#");
	const struct bus_msg *msg;
	bool same = text[0] == '\0';

	while (bus_recv(mbox, 0, &msg) == 1)
		if (msg->flags & BUS_MSG_KEPT && strcmp(msg->topic, topic) == 0)
			same = msg->len == strlen(text) && memcmp(msg->data, text, msg->len) == 0;
	bus_mailbox_close(mbox);
	return same;
}

START_TEST(values_and_deletions_of_any_bus_reach_all_through_two_hubs)
{
	enum { BUSES = 4 };
	struct net *net = net_new();

	/* 2 - hub 0 - hub 1 - 3 */
	net_open_hub(net, 0, _i);
	net_open_hub(net, 1, _i);
	for (unsigned i = 2; i < BUSES; i++)
		net_open(net, i, _i);
	retain_text(net->bus[2], "v/before", "from before");
	net_dial(net, 2, 0, &net_leaf);
	net_dial(net, 3, 1, &net_leaf);
	net_dial(net, 1, 0, &net_hub);
	ck_eventually(keeps(net->bus[3], "v/before", "from before"));
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < BUSES; i++) {
			char text[32];

			snprintf(text, sizeof text, "%u of %u", round, i);
			retain_text(net->bus[i], "v/v", text);
			for (unsigned at = 0; at < BUSES; at++)
				ck_eventually(keeps(net->bus[at], "v/v", text));
		}
	for (unsigned i = 0; i < BUSES; i++) {
		retain_text(net->bus[(i + 1) % BUSES], "v/v", "again");
		for (unsigned at = 0; at < BUSES; at++)
			ck_eventually(keeps(net->bus[at], "v/v", "again"));
		retain_text(net->bus[i], "v/v", "");
		for (unsigned at = 0; at < BUSES; at++)
			ck_eventually(keeps(net->bus[at], "v/v", ""));
	}
	net_close(net);
}
END_TEST

START_TEST(a_value_from_a_joining_peer_is_passed_on_to_the_others)
{
	struct net *net = net_new();

	for (unsigned i = 0; i < 2; i++)
		net_open_hub(net, i, _i);
	for (unsigned i = 2; i < 4; i++)
		net_open(net, i, _i);
	net_dial(net, 1, 0, &net_hub);
	net_dial(net, 3, 1, &net_leaf);
	retain_text(net->bus[2], "v/late", "here");
	net_dial(net, 2, 0, &net_leaf);
	ck_eventually(keeps(net->bus[3], "v/late", "here"));
	net_close(net);
}
END_TEST

static void
reply_here(void *arg, const struct bus_msg *msg)
{
	if (msg->reply_to != 0)
		ck_bus(bus_reply(arg, msg, msg->data, msg->len), 0);
}

START_TEST(a_question_is_answered_through_hubs)
{
	struct net *net = net_new();
	const struct bus_msg *reply;

	net_open_hub(net, 0, _i);
	net_open_hub(net, 1, _i);
	for (unsigned i = 2; i < 4; i++)
		net_open(net, i, _i);
	ck_bus(bus_subscribe(net->bus[3], "ask", reply_here, net->bus[3], NULL), 0);
	net_dial(net, 1, 0, &net_hub);
	net_dial(net, 2, 0, &net_leaf);
	net_dial(net, 3, 1, &net_leaf);
	for (unsigned n = 0; n < 20; n++) {
		ck_bus(bus_request(net->bus[2], "ask", &n, sizeof n, patience_ms(), &reply), 0);
		ck_assert_int_eq(memcmp(reply->data, &n, sizeof n), 0);
		bus_msg_free(reply);
	}
	net_close(net);
}
END_TEST

START_TEST(a_question_without_a_responder_behind_private_hubs_fails_at_once)
{
	struct net *net = net_new();
	const struct bus_msg *reply;

	net_open_hub(net, 0, false);
	net_open_hub(net, 1, false);
	for (unsigned i = 2; i < 4; i++)
		net_open(net, i, false);
	net_dial(net, 1, 0, &net_hub);
	net_dial(net, 2, 0, &net_leaf);
	net_dial(net, 3, 1, &net_leaf);
	ck_bus(bus_request(net->bus[2], "ask", "?", 1, patience_ms(), &reply), BUS_E_NOBODY);
	net_close(net);
}
END_TEST

START_TEST(a_hub_that_begins_anew_is_found_again)
{
	struct net *net = net_new();
	char url[256];

	for (unsigned i = 0; i < 3; i++)
		net_open(net, i, _i);
	net_listen(net, 0, "tcp://127.0.0.1:0");
	ck_assert_int_gt(bus_link_url(net->listener[0], url, sizeof url), 0);
	net_dial(net, 1, 0, &net_leaf);
	net_dial(net, 2, 0, &net_leaf);
	net_say(net, 1, 10);
	ck_eventually(net->tally[2].count == 10);
	net_end(net, 0);
	net_open(net, 0, _i);
	net_listen(net, 0, url);
	ck_eventually(is_up(net->dialled[0]) && is_up(net->dialled[1]));
	net_say(net, 0, 10);
	net_say(net, 1, 10);
	ck_eventually(net->tally[2].came[1][19] == 1 && net->tally[2].came[0][9] == 1 &&
		      net->tally[1].came[0][9] == 1);
	ck_assert_uint_eq(net->tally[1].twice + net->tally[2].twice, 0);
	net_close(net);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("relay");
	TCase *tcase = bus_test_case("hubs");

	tcase_add_loop_test(tcase,
	    peers_of_a_hub_hear_each_other_and_the_hub_each_message_once_and_in_order, 0, KINDS);
	tcase_add_loop_test(
	    tcase, a_message_goes_round_a_ring_of_hubs_and_each_takes_it_once, 0, KINDS);
	tcase_add_loop_test(tcase, a_second_way_costs_bandwidth_and_delivers_once, 0, KINDS);
	tcase_add_loop_test(tcase,
	    while_one_of_two_ways_is_cut_nothing_is_missing_and_nothing_arrives_twice, 0, KINDS);
	tcase_add_loop_test(tcase, a_message_passes_eight_hubs_and_the_ninth_counts_it, 0, KINDS);
	tcase_add_loop_test(tcase, no_message_returns_to_its_publisher, 0, KINDS);
	tcase_add_loop_test(tcase, a_message_from_a_hub_does_not_return_to_it, 0, KINDS);
	tcase_add_loop_test(tcase, a_loss_on_the_way_to_a_hub_is_reported_behind_it, 0, KINDS);
	tcase_add_loop_test(tcase, a_loss_goes_round_a_ring_of_hubs_once, 0, KINDS);
	tcase_add_loop_test(
	    tcase, values_and_deletions_of_any_bus_reach_all_through_two_hubs, 0, KINDS);
	tcase_add_loop_test(
	    tcase, a_value_from_a_joining_peer_is_passed_on_to_the_others, 0, KINDS);
	tcase_add_loop_test(tcase, a_question_is_answered_through_hubs, 0, KINDS);
	tcase_add_test(tcase, a_question_without_a_responder_behind_private_hubs_fails_at_once);
	tcase_add_loop_test(tcase, a_hub_that_begins_anew_is_found_again, 0, KINDS);
	suite_add_tcase(suite, tcase);
	return suite;
}
