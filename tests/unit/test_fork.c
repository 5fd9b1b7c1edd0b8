/* A child that is forked beside traffic, or in a callback. */
#define _GNU_SOURCE
#include "ending_test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

/* Everything that a child can make for itself; ThreadSanitizer knows no new threads there. */
#ifdef __SANITIZE_THREAD__
static bool
own_links_work(struct bus *own)
{
	(void)own;
	return true;
}
#else
static bool
own_links_work(struct bus *own)
{
	_Atomic unsigned calls = 0;
	struct bus *peer;
	bool ok = bus_open(NULL, NULL, &peer) == 0 &&
		  bus_subscribe(peer, "t", count_message, &calls, NULL) == 0 &&
		  bus_listen(peer, "inproc://storm", NULL, NULL) == 0 &&
		  bus_dial(own, "inproc://storm", NULL, NULL) == 0;

	while (ok && calls == 0) {
		ok = bus_publish(own, "t", "x", 1) == 0;
		bus_test_nap();
	}
	return ok && bus_flush(own, patience_ms()) == 0 && bus_close(peer, 20000) >= 0;
}
#endif

static bool
own_bus_works(void)
{
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;
	struct bus *own;

	return bus_open(NULL, NULL, &own) == 0 && bus_mailbox_open(own, NULL, &mbox) == 0 &&
	       bus_mailbox_subscribe(mbox, "t", NULL, NULL, NULL) == 0 && retain(own, "t") == 0 &&
	       bus_recv(mbox, 0, &msg) == 1 && own_links_work(own) &&
	       bus_flush(own, patience_ms()) == 0 && bus_close(own, 20000) >= 0;
}

/* The objects that a child has inherited. */
struct heirloom {
	struct bus *bus;
	struct bus_mailbox *mbox;
	struct bus_pub *pub;
	struct bus_sub *sub;
	struct bus_link *link;
};

static bool
everything_is_forked(struct heirloom *h)
{
	struct bus_link_stats link_stats = {.size = sizeof link_stats};
	struct bus_stats stats = {.size = sizeof stats};
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;
	struct bus_pub *pub;
	char text[64];
	void *loan;
	bool ok = bus_publish(h->bus, "t", "x", 1) == BUS_E_FORKED &&
		  retain(h->bus, "t") == BUS_E_FORKED &&
		  bus_pub_open(h->bus, "t", NULL, &pub) == BUS_E_FORKED &&
		  bus_pub_send(h->pub, "x", 1) == BUS_E_FORKED &&
		  bus_pub_loan(h->pub, 10, &loan) == BUS_E_FORKED &&
		  bus_mailbox_open(h->bus, NULL, &mbox) == BUS_E_FORKED &&
		  bus_mailbox_subscribe(h->mbox, "t", NULL, NULL, NULL) == BUS_E_FORKED &&
		  bus_subscribe(h->bus, "t", count_message, NULL, NULL) == BUS_E_FORKED &&
		  bus_recv(h->mbox, -1, &msg) == BUS_E_FORKED &&
		  bus_dispatch(h->mbox, -1, 0) == BUS_E_FORKED &&
		  bus_mailbox_fd(h->mbox) == BUS_E_FORKED &&
		  bus_mailbox_stats(h->mbox, &stats) == BUS_E_FORKED &&
		  bus_stats(h->bus, &stats) == BUS_E_FORKED &&
		  bus_keep(h->bus, "t", NULL) == BUS_E_FORKED &&
		  bus_explain(h->bus, "t", text, sizeof text) == BUS_E_FORKED &&
		  bus_listen(h->bus, "inproc://x", NULL, NULL) == BUS_E_FORKED &&
		  bus_dial(h->bus, "inproc://x", NULL, NULL) == BUS_E_FORKED &&
		  bus_link_stats(h->link, &link_stats) == BUS_E_FORKED &&
		  bus_flush(h->bus, -1) == BUS_E_FORKED;

	bus_unsubscribe(h->sub, NULL);
	bus_link_close(h->link);
	bus_pub_close(h->pub);
	bus_mailbox_close(h->mbox);
	return ok && bus_close(h->bus, -1) == BUS_E_FORKED;
}

static pid_t
fork_and_check(struct heirloom *h)
{
	pid_t pid = bus_test_fork();

	if (pid == 0) {
		alarm((unsigned)bus_test_patience()); /* a lock whose holder does not exist here */
		_exit(everything_is_forked(h) && own_bus_works() ? 0 : 1);
	}
	return pid;
}

static void
check_child(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(
	    WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %x", status);
}

/* Holds the lock of the bus as often as it can. */
static void *
come_and_go(void *arg)
{
	struct storm *s = arg;
	_Atomic unsigned calls = 0;
	struct bus_sub *sub;

	while (!s->stop && bus_subscribe(s->bus, "+", count_message, &calls, &sub) == 0)
		bus_unsubscribe(sub, NULL);
	return NULL;
}

/* The lock of the names of this process, and those of links. */
static void *
link_and_unlink(void *arg)
{
	struct storm *s = arg;
	struct bus_link *link;

	while (!s->stop && bus_listen(s->bus, "inproc://storm", NULL, &link) == 0)
		bus_link_close(link);
	return NULL;
}

START_TEST(child_forked_under_traffic_finds_no_lock_taken)
{
	void *(*const all[])(void *arg) = {publish_until_told, come_and_go, link_and_unlink};
	enum { ALL = sizeof all / sizeof all[0] };
	struct storm s = {.bus = open_bus()};
	struct heirloom h = {.bus = s.bus, .mbox = open_mailbox(s.bus, NULL, .bytes = 16384)};
	pthread_t threads[ALL];

	ck_bus(bus_mailbox_subscribe(h.mbox, "t", NULL, NULL, &h.sub), 0);
	h.pub = open_pub(s.bus, "t", 0);
	s.pub = open_pub(s.bus, "t", 0);
	ck_bus(bus_listen(s.bus, "inproc://stays", NULL, &h.link), 0);
	for (int i = 0; FORK_TRAFFIC && i < ALL; i++)
		pthread_create(&threads[i], NULL, all[i], &s);
	for (int i = 0; i < FORKS; i++)
		check_child(fork_and_check(&h));
	s.stop = true;
	for (int i = 0; FORK_TRAFFIC && i < ALL; i++)
		pthread_join(threads[i], NULL);
	go_on(s.bus);
	bus_unsubscribe(h.sub, NULL);
	bus_pub_close(h.pub);
	bus_pub_close(s.pub);
	bus_link_close(h.link);
	bus_mailbox_close(h.mbox);
	ck_assert_int_ge(bus_close(s.bus, 20000), 0);
}
END_TEST

struct forking {
	struct heirloom h;
	_Atomic pid_t child;
};

static void
fork_inside(void *arg, const struct bus_msg *msg)
{
	struct forking *f = arg;

	(void)msg;
	f->child = fork_and_check(&f->h);
}

/* The child has left the callback for good, and may close and flush its own objects. _i: the drainer. */
START_TEST(child_forked_in_a_callback_is_in_none)
{
	struct bus *bus = open_bus();
	struct forking f = {
	    .h = {.bus = bus, .mbox = open_mailbox(bus, NULL, .drain = _i, .bytes = 16384)}};

	ck_bus(bus_mailbox_subscribe(f.h.mbox, "t", fork_inside, &f, &f.h.sub), 0);
	f.h.pub = open_pub(bus, "other", 0);
	ck_bus(bus_listen(bus, "inproc://stays", NULL, &f.h.link), 0);
	ck_bus(bus_publish(bus, "t", "x", 1), 0);
	if (_i == BUS_DRAIN_CALLER)
		ck_bus(bus_dispatch(f.h.mbox, 0, 0), 1);
	ck_eventually(f.child > 0);
	check_child(f.child);
	bus_unsubscribe(f.h.sub, NULL);
	bus_pub_close(f.h.pub);
	bus_link_close(f.h.link);
	bus_mailbox_close(f.h.mbox);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("fork");
	TCase *fork_in_a_callback = bus_test_case("fork in a callback");

	BUS_TEST_CASE(suite, "fork", child_forked_under_traffic_finds_no_lock_taken);
	if (!bus_test_is_skipped("child_forked_in_a_callback_is_in_none"))
		tcase_add_loop_test(
		    fork_in_a_callback, child_forked_in_a_callback_is_in_none, 0, 3);
	suite_add_tcase(suite, fork_in_a_callback);
	return suite;
}
