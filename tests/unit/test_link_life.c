#define _GNU_SOURCE
/* Links begin, break, reconnect and end, under traffic too. */
#include "link_test.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link/link.h"
#include "link/peers.h"

static unsigned
open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

START_TEST(dialling_first_is_fine)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};

	const char *url = listen_url(_i);
	bool port = _i >= 2; /* the system chooses it */

	url = _i == 2 ? "tcp://127.0.0.1:1" : port ? "tls://127.0.0.1:1" : url;
	ck_bus(bus_dial(p.b, url, NULL, &p.lb), 0);
	ck_eventually(stats_of(p.lb).last_error == BUS_E_REFUSED);
	ck_assert_int_eq(stats_of(p.lb).state, BUS_LINK_DOWN);
	if (!port) {
		ck_bus(bus_listen(p.a, listen_url(_i), NULL, &p.la), 0);
		ck_eventually(is_up(p.lb));
	}
	pair_close(&p);
}
END_TEST

START_TEST(a_lost_connection_is_restored_with_its_filters)
{
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};

	ck_bus(bus_subscribe(p.b, "x", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	for (unsigned round = 1; round <= 3; round++) {
		bus_link_close(p.la);
		ck_eventually(!is_up(p.lb));
		ck_bus(bus_listen(p.a, p.url, NULL, &p.la), 0);
		ck_eventually(is_up(p.lb));
		ck_assert_uint_eq(stats_of(p.lb).ended[BUS_LINK_END_GONE], round);
		ck_bus(bus_publish(p.a, "x", "1", 1), 0);
		ck_eventually(heard.count == round);
	}
	pair_close(&p);
}
END_TEST

START_TEST(kept_values_arrive_once_and_not_with_every_reconnect)
{
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	const struct bus_msg msg = {
	    .size = sizeof msg, .topic = "k", .data = "1", .len = 1, .flags = BUS_MSG_RETAIN};

	ck_bus(bus_publish_msg(p.a, &msg), 0);
	ck_bus(bus_subscribe(p.b, "#", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	ck_eventually(heard.count == 1);
	bus_link_close(p.la);
	ck_eventually(!is_up(p.lb));
	ck_bus(bus_listen(p.a, p.url, NULL, &p.la), 0);
	ck_eventually(is_up(p.lb));
	ck_bus(bus_publish(p.a, "end", "", 0), 0);
	ck_eventually(heard.count >= 2);
	ck_assert_str_eq(heard.topic, "end");
	ck_assert_uint_eq(heard.count, 2);
	pair_close(&p);
}
END_TEST

START_TEST(a_second_path_between_two_buses_is_refused)
{
	struct heard heard = {.count = 0};
	struct bus_link *second_listen, *second;
	struct pair p = {.a = open_bus(), .b = open_bus()};

	ck_bus(bus_subscribe(p.b, "x", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	ck_bus(bus_listen(p.a, "inproc://second", NULL, &second_listen), 0);
	ck_bus(bus_dial(p.b, "inproc://second", NULL, &second), 0);
	ck_eventually(stats_of(second).last_error == BUS_E_EXIST);
	ck_assert(!is_up(second));
	ck_bus(bus_publish(p.a, "x", "1", 1), 0);
	ck_bus(bus_publish(p.a, "x", "2", 1), 0);
	ck_eventually(heard.count >= 2);
	ck_assert_uint_eq(heard.count, 2);
	/* It takes over when the first one ends. */
	bus_link_close(p.lb);
	ck_eventually(is_up(second));
	p.lb = second;
	bus_link_close(second_listen);
	pair_close(&p);
}
END_TEST

START_TEST(a_bus_cannot_be_linked_to_itself)
{
	struct bus_link *listener, *link;
	struct bus *bus = open_bus();
	char url[256];

	ck_bus(bus_listen(bus, listen_url(_i), NULL, &listener), 0);
	ck_assert_int_gt(bus_link_url(listener, url, sizeof url), 0);
	ck_bus(bus_dial(bus, url, NULL, &link), 0);
	ck_eventually(stats_of(link).last_error == BUS_E_EXIST);
	ck_assert(!is_up(link));
	bus_link_close(link);
	bus_link_close(listener);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(two_buses_that_dial_each_other_keep_one_connection)
{
	struct heard heard = {.count = 0};
	struct bus_link *listen_a, *listen_b, *dial_a, *dial_b;
	struct bus *a, *b;

	for (int round = 0; round < 20; round++) {
		heard.count = 0;
		a = open_bus();
		b = open_bus();
		ck_bus(bus_subscribe(b, "x", hear, &heard, NULL), 0);
		ck_bus(bus_listen(a, "inproc://a", NULL, &listen_a), 0);
		ck_bus(bus_listen(b, "inproc://b", NULL, &listen_b), 0);
		ck_bus(bus_dial(a, "inproc://b", NULL, &dial_a), 0);
		ck_bus(bus_dial(b, "inproc://a", NULL, &dial_b), 0);
		ck_eventually(is_up(dial_a) != is_up(dial_b) &&
			      stats_of(is_up(dial_a) ? dial_b : dial_a).last_error == BUS_E_EXIST);
		ck_bus(bus_publish(a, "x", "1", 1), 0);
		ck_eventually(heard.count == 1);
		ck_bus(bus_close(a, patience_ms()), 0);
		ck_bus(bus_close(b, patience_ms()), 0);
		bus_link_close(listen_a);
		bus_link_close(listen_b);
		bus_link_close(dial_a);
		bus_link_close(dial_b);
		ck_assert_uint_eq(heard.count, 1);
	}
}
END_TEST

START_TEST(one_peer_more_than_allowed_is_denied)
{
	const struct bus_link_config one = {.size = sizeof one, .max_peers = 1};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus *third = open_bus();
	struct bus_link *link;

	pair_link(&p, _i, &one);
	ck_bus(bus_dial(third, p.url, NULL, &link), 0);
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_DENIED] > 0);
	ck_assert_int_eq(stats_of(p.la).last_error, BUS_E_DENIED);
	ck_assert(!is_up(link));
	ck_assert(is_up(p.lb));
	ck_assert_uint_eq(stats_of(p.la).peers, 1);
	bus_link_close(link);
	ck_bus(bus_close(third, 0), 0);
	pair_close(&p);
}
END_TEST

/* Watches a link for ten heartbeats; three without a sign of the peer end it. */
static bool
stays_up(int i, uint32_t heartbeat_ms)
{
	const struct bus_link_config cfg = {.size = sizeof cfg, .heartbeat_ms = heartbeat_ms};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	bool up = true;

	pair_link(&p, i, &cfg);
	for (int64_t until = bus_test_now_ms() + 10 * heartbeat_ms; up && bus_test_now_ms() < until;
	     bus_test_nap())
		up = is_up(p.lb) && stats_of(p.la).ended[BUS_LINK_END_SILENT] == 0;
	pair_close(&p);
	return up;
}

START_TEST(an_idle_link_stays_up_by_its_heartbeats)
{
	/* A machine too busy for quick heartbeats manages slower ones. */
	for (uint32_t ms = 100; !stays_up(_i, ms); ms *= 2)
		ck_assert_int_lt((int)ms * 10, patience_ms());
}
END_TEST

START_TEST(links_of_a_closed_bus_are_down_and_can_be_closed)
{
	struct pair p;
	struct bus_link *link = NULL;

	pair_open(&p, _i);
	ck_bus(bus_close(p.a, patience_ms()), 0);
	ck_assert_int_eq(stats_of(p.la).state, BUS_LINK_DOWN);
	ck_assert_uint_eq(stats_of(p.la).ended[BUS_LINK_END_CLOSED], 1);
	ck_assert_int_gt(bus_link_url(p.la, p.url, sizeof p.url), 0);
	ck_eventually(!is_up(p.lb));
	bus_link_close(p.la);
	ck_bus(bus_close(p.b, patience_ms()), 0);
	bus_link_close(p.lb);
	bus_link_close(link);
}
END_TEST

START_TEST(links_without_a_holder_end_with_their_bus)
{
	struct heard heard = {.count = 0};
	struct bus *a = open_bus(), *b = open_bus();

	ck_bus(bus_subscribe(b, "#", hear, &heard, NULL), 0);
	ck_bus(bus_listen(a, "inproc://held by none", NULL, NULL), 0);
	ck_bus(bus_dial(b, "inproc://held by none", NULL, NULL), 0);
	ck_eventually((bus_publish(a, "x", "", 0), heard.count > 0));
	ck_bus(bus_close(a, patience_ms()), 0);
	ck_bus(bus_close(b, patience_ms()), 0);
}
END_TEST

START_TEST(a_bus_has_a_bounded_number_of_links)
{
	struct bus *bus = open_bus();
	int links = 0, err;

	while ((err = bus_dial(bus, "inproc://nobody", NULL, NULL)) == 0)
		links++;
	ck_bus(err, BUS_E_LIMIT);
	ck_assert_int_eq(links, 1024);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* Runs fn in a forked child. */
static void
check_in_child(bool (*fn)(struct pair *p), struct pair *p)
{
	int status;
	pid_t pid = bus_test_fork();

	if (pid == 0)
		_exit(fn(p) ? 0 : 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

static bool
use_inherited(struct pair *p)
{
	struct bus_link_stats stats = {.size = sizeof stats};
	char url[8];
	bool fine = bus_link_stats(p->lb, &stats) == BUS_E_FORKED &&
		    bus_link_url(p->lb, url, sizeof url) == BUS_E_FORKED &&
		    bus_listen(p->a, "inproc://other", NULL, NULL) == BUS_E_FORKED &&
		    bus_dial(p->b, p->url, NULL, NULL) == BUS_E_FORKED;

	bus_link_close(p->lb);
	bus_link_close(p->la);
	return fine && bus_close(p->a, 0) == BUS_E_FORKED;
}

START_TEST(a_forked_child_leaves_the_links_of_its_parent_alone)
{
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};

	ck_bus(bus_subscribe(p.b, "x", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	check_in_child(use_inherited, &p);
	ck_assert(is_up(p.lb));
	ck_bus(bus_publish(p.a, "x", "1", 1), 0);
	ck_eventually(heard.count == 1);
	pair_close(&p);
}
END_TEST

#ifndef __SANITIZE_THREAD__ /* which knows no new threads in a forked child */
/* The child may listen at its parent's name; NNG does not survive a fork. */
static bool
use_own_inproc(struct pair *p)
{
	struct bus *own;

	(void)p;
	return bus_open(NULL, NULL, &own) == 0 &&
	       bus_listen(own, "inproc://test", NULL, NULL) == 0 &&
	       bus_listen(own, "tcp://127.0.0.1:0", NULL, NULL) == BUS_E_FORKED &&
	       bus_dial(own, "tcp://127.0.0.1:1", NULL, NULL) == BUS_E_FORKED &&
	       bus_dial(own, "ipc:///tmp/libbus-nobody", NULL, NULL) == BUS_E_FORKED &&
	       bus_close(own, 0) == 0;
}

START_TEST(a_forked_child_has_inproc_links_and_gets_an_error_for_others)
{
	struct bus_link *listener;
	struct pair p;

	pair_open(&p, 0);
	ck_bus(bus_listen(p.a, "tcp://127.0.0.1:0", NULL, &listener), 0);
	check_in_child(use_own_inproc, &p);
	bus_link_close(listener);
	pair_close(&p);
}
END_TEST

static bool
becomes_up(struct bus_link *link)
{
	ck_eventually(is_up(link));
	return true;
}

/* A link to the parent, which has links of the same kind. */
static bool
use_own_links(struct pair *p)
{
	struct bus_link *listener, *dialler;
	struct bus *own;

	return bus_open(NULL, NULL, &own) == 0 &&
	       bus_listen(own, "tcp://127.0.0.1:0", NULL, &listener) == 0 &&
	       bus_dial(own, p->url, NULL, &dialler) == 0 && becomes_up(dialler) &&
	       bus_publish(own, "x", "child", 5) == 0 && bus_flush(own, patience_ms()) == 0 &&
	       bus_close(own, patience_ms()) == 0;
}

/* _i: ipc or tcp. Without NNG the links of a child need nothing of their parent's. */
START_TEST(a_forked_child_opens_its_own_links)
{
	struct heard heard = {.count = 0};
	struct pair p;

	pair_open(&p, _i);
	ck_bus(bus_subscribe(p.a, "x", hear, &heard, NULL), 0);
	check_in_child(use_own_links, &p);
	ck_eventually(heard.count == 1);
	ck_assert(is_up(p.lb));
	pair_close(&p);
}
END_TEST
#endif

/* A task that runs on the link thread in each round, until the filters of a former peer end. Then it publishes, once. */
struct between_rounds {
	struct bus__task task;
	struct bus__links *links;
	uint64_t parked; /* messages that the parked mailbox of that peer lost */
	_Atomic bool has_published;
};

static void
publish_between_rounds(void *arg)
{
	struct between_rounds *between = arg;
	const struct bus__peer *gone = (const struct bus__peer *)between->links->debris;

	if (gone == NULL) {
		bus__loop_post(&between->links->loop, &between->task);
		return;
	}
	for (int i = 0; i < 3; i++)
		bus_publish(between->links->bus, "x/0", "1", 1);
	between->parked = bus__peer_lost_parked(gone->mbox);
	between->has_published = true;
}

START_TEST(a_publisher_wakes_no_peer_that_is_gone_while_its_filters_still_end)
{
	static const char *const filters[] = {"x/0", "x/1", "x/2", "x/3", "x/4", "x/5"};
	struct heard heard = {.count = 0};
	struct between_rounds between = {.task.run = publish_between_rounds, .task.arg = &between};
	struct pair p = {.a = open_bus(), .b = open_bus()};

	for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
		ck_bus(bus_subscribe(p.b, filters[i], hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	ck_bus(bus_publish(p.a, "x/0", "1", 1), 0);
	ck_eventually(heard.count == 1);
	ck_bus(bus_flush(p.a, patience_ms()),
	    0); /* the mailbox sleeps: the next message wakes its drainer */
	bus__round_ns = 0;
	between.links = p.la->links;
	bus__loop_post(&between.links->loop, &between.task);
	bus_link_close(p.lb);
	ck_eventually(between.has_published);
	bus__round_ns = INT64_C(1000000);
	ck_assert_uint_eq(between.parked, 3);
	ck_eventually(stats_of(p.la).peers == 0 && stats_of(p.la).lost == 3);
	p.lb = NULL;
	pair_close(&p);
}
END_TEST

struct traffic {
	struct bus *bus;
	_Atomic bool stop;
};

static void *
publish_on(void *arg)
{
	struct traffic *traffic = arg;
	static const char data[40000];

	while (!traffic->stop)
		for (size_t i = 0; i < 64; i++)
			bus_publish(traffic->bus, "x", data, i % 16 == 0 ? sizeof data : 10);
	return NULL;
}

START_TEST(two_hundred_ends_under_traffic_leave_nothing_behind)
{
	struct traffic traffic = {.bus = open_bus()};
	struct bus_link *listener, *link;
	unsigned before = 0;
	pthread_t thread;
	char url[256];

	ck_bus(bus_listen(traffic.bus, listen_url(_i), NULL, &listener), 0);
	ck_assert_int_gt(bus_link_url(listener, url, sizeof url), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, publish_on, &traffic), 0);
	for (int round = 0; round < 200; round++) {
		struct heard heard = {.count = 0};
		struct bus *bus = open_bus();

		ck_bus(bus_subscribe(bus, "x", hear, &heard, NULL), 0);
		ck_bus(bus_dial(bus, url, NULL, &link), 0);
		ck_eventually(heard.count > 0);
		/* Each side ends first in turn, link or bus. */
		if (round % 4 == 0) {
			bus_link_close(listener);
			ck_bus(bus_listen(traffic.bus, url, NULL, &listener), 0);
		}
		if (round % 2 == 0)
			bus_link_close(link);
		ck_assert_int_ge(bus_close(bus, 5000), 0);
		if (round % 2 != 0)
			bus_link_close(link);
		if (round == 10)
			before = open_descriptors();
	}
	traffic.stop = true;
	pthread_join(thread, NULL);
	ck_eventually(open_descriptors() <= before);
	bus_link_close(listener);
	ck_assert_int_ge(bus_close(traffic.bus, 1000), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	static const TTest *const *const tests[] = {&dialling_first_is_fine,
	    &a_lost_connection_is_restored_with_its_filters,
	    &kept_values_arrive_once_and_not_with_every_reconnect,
	    &a_second_path_between_two_buses_is_refused, &a_bus_cannot_be_linked_to_itself,
	    &one_peer_more_than_allowed_is_denied, &an_idle_link_stays_up_by_its_heartbeats,
	    &links_of_a_closed_bus_are_down_and_can_be_closed,
	    &a_forked_child_leaves_the_links_of_its_parent_alone,
	    &a_publisher_wakes_no_peer_that_is_gone_while_its_filters_still_end,
	    &two_hundred_ends_under_traffic_leave_nothing_behind};
	Suite *suite = suite_create("link life");
	TCase *tcase = bus_test_case("over inproc, ipc, tcp");

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_loop_test(tcase, *tests[i], 0, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, tcase);
	BUS_TEST_CASE(suite, "inproc alone", two_buses_that_dial_each_other_keep_one_connection,
	    links_without_a_holder_end_with_their_bus, a_bus_has_a_bounded_number_of_links);
#ifndef __SANITIZE_THREAD__
	BUS_TEST_CASE(
	    suite, "forked", a_forked_child_has_inproc_links_and_gets_an_error_for_others);
	tcase = bus_test_case("forked, with links of its own");
	bus_test_add_loop(tcase, a_forked_child_opens_its_own_links, 1, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, tcase);
#endif
	return suite;
}
