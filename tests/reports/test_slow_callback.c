/* A callback that does not return for a while, on the thread of links: a mailbox that its publishers drain gets what a peer sends
 * there. Calls with a limit keep it, and closing goes on without the callback. Here it returns only when the test has the call
 * behind it. */
#include "link_test.h"

#include <stdatomic.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

static struct bus *here, *there;
static struct bus_link *link_here, *link_there;
static _Atomic bool called, may_return, closes_link, has_returned;

static void
stay(void *arg, const struct bus_msg *msg)
{
	(void)arg;
	(void)msg;
	called = true;
	if (closes_link)
		bus_link_close(link_here);
	while (!may_return)
		bus_test_nap();
	has_returned = true;
}

static struct bus_mailbox *
start_callback(void)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_PUBLISHER};
	struct bus_link_stats stats = {.size = sizeof stats};
	struct bus_mailbox *m;

	called = may_return = has_returned = false;
	ck_bus(bus_open(NULL, NULL, &here), 0);
	ck_bus(bus_open(NULL, NULL, &there), 0);
	ck_bus(bus_mailbox_open(here, &cfg, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "t", stay, NULL, NULL), 0);
	ck_bus(bus_listen(here, "inproc://slow", NULL, &link_here), 0);
	ck_bus(bus_dial(there, "inproc://slow", NULL, &link_there), 0);
	ck_eventually(bus_link_stats(link_there, &stats) == 0 && stats.peers == 1);
	ck_bus(bus_publish(there, "t", "x", 1), 0);
	ck_eventually(called);
	return m;
}

static void
end_callback(struct bus_mailbox *m)
{
	may_return = true;
	ck_eventually(has_returned);
	bus_mailbox_close(m);
	bus_link_close(link_there);
	ck_bus(bus_close(there, patience_ms()), 0);
}

START_TEST(bus_closes_beside_a_callback_on_its_link_thread)
{
	struct bus_mailbox *m = start_callback();

	ck_assert_int_ge(bus_close(here, _i), 0);
	bus_link_close(link_here); /* ends behind the callback */
	end_callback(m);
}
END_TEST

START_TEST(flush_keeps_its_limit_beside_a_callback_on_the_link_thread)
{
	struct bus_mailbox *m = start_callback();

	ck_bus(bus_flush(here, _i), BUS_E_TIMEDOUT);
	may_return = true;
	ck_bus(bus_flush(here, patience_ms()), 0);
	bus_link_close(link_here);
	end_callback(m);
	ck_bus(bus_close(here, patience_ms()), 0);
}
END_TEST

START_TEST(link_closes_beside_a_callback_on_its_thread)
{
	struct bus_mailbox *m = start_callback();
	struct bus_link *again;

	bus_link_close(link_here);
	end_callback(m);
	/* The address is free when the link has ended. */
	ck_eventually(bus_listen(here, "inproc://slow", NULL, &again) == 0);
	ck_bus(bus_close(here, patience_ms()), 0);
	bus_link_close(again);
}
END_TEST

START_TEST(callback_on_the_link_thread_closes_its_link)
{
	struct bus_mailbox *m;

	closes_link = may_return = true;
	m = start_callback();
	end_callback(m);
	ck_bus(bus_close(here, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("slow_callback");
	TCase *links = bus_test_case("links");

	tcase_add_loop_test(links, bus_closes_beside_a_callback_on_its_link_thread, 0, 2);
	tcase_add_loop_test(
	    links, flush_keeps_its_limit_beside_a_callback_on_the_link_thread, 0, 2);
	tcase_add_test(links, link_closes_beside_a_callback_on_its_thread);
	tcase_add_test(links, callback_on_the_link_thread_closes_its_link);
	suite_add_tcase(suite, links);
	return suite;
}
