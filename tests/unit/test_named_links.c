/* Requests between the processes of a named bus, and the one of them that has a link. */
#define _GNU_SOURCE
#include "fake_clock.h"
#include "named_test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link/link.h"

/* --- questions ---------------------------------------------------------------------------------------------------------- */

static void
serve(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *end = subscriber(bus, "end");

	(void)number;
	ck_bus(bus_subscribe(bus, "q", answer, bus, NULL), 0);
	retain_text(bus, "ready", "!");
	expect_message(end, "end", "!");
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, patience_ms()), 0);
}

struct asker {
	_Atomic unsigned replies, ends;
	char last[64];
};

static void
hear_reply(void *arg, const struct bus_msg *msg)
{
	struct asker *a = arg;

	if (msg == NULL) {
		a->ends++;
		return;
	}
	must(strcmp(msg->topic, "q") == 0 && msg->reply_to == 0);
	snprintf(a->last, sizeof a->last, "%.*s", (int)msg->len, (const char *)msg->data);
	a->replies++;
}

START_TEST(question_is_answered_by_another_process)
{
	const char *dir = bus_test_dir();
	pid_t server = start(serve, dir, 0);
	struct bus *bus = join(dir);
	struct bus_mailbox *ready = subscriber(bus, "ready"), *m;
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct bus_stats stats = {.size = sizeof stats};
	struct asker asker = {.replies = 0};
	struct bus_request *req;
	const struct bus_msg *reply;

	expect_message(ready, "ready", "!");
	for (int i = 0; i < 50; i++) {
		ck_bus(bus_request(bus, "q", "how", 3, patience_ms(), &reply), 0);
		ck_assert_uint_eq(reply->len, 5);
		ck_assert_mem_eq(reply->data, "[how]", 5);
		ck_assert_str_eq(reply->topic, "q");
		bus_msg_free(reply);
	}
	ck_bus(bus_mailbox_open(bus, &cfg, &m), 0);
	ck_bus(bus_request_start(m, "q", "why", 3, patience_ms(), hear_reply, &asker, &req), 0);
	ck_eventually(asker.replies == 2);
	bus_request_cancel(req);
	/* Behind what the drainer has in hand. */
	ck_eventually(asker.ends == 1);
	ck_assert_str_eq(asker.last, "again");
	/* Both are in the log of everybody, and nobody else has got them. */
	expect_nothing(ready);
	ck_bus(bus_request(bus, "nobody", "?", 1, 50, &reply), BUS_E_TIMEDOUT);
	ck_bus(bus_stats(bus, &stats), 0);
	publish_text(bus, "end", "!");
	finish(server);
	bus_mailbox_close(m);
	bus_mailbox_close(ready);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
count_replies(void *arg, const struct bus_msg *reply)
{
	if (reply != NULL)
		++*(_Atomic unsigned *)arg;
}

START_TEST(reply_that_came_in_time_is_read_by_who_comes_late)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir), *second = join(dir);
	struct bus_stats s = {.size = sizeof s};
	struct bus_mailbox *asks = subscriber(bus, "x"), *answers = subscriber(bus, "q"),
			   *beside = subscriber(second, "x");
	const struct bus_msg *msg;
	_Atomic unsigned replies = 0;
	struct bus_request *req;

	ck_bus(bus_request_start(
		   asks, "q", "?", 1, patience_ms(), count_replies, (void *)&replies, &req),
	    0);
	ck_bus(bus_recv(answers, patience_ms(), &msg), 1);
	ck_bus(bus_reply(bus, msg, "!", 1), 0);
	clock_pass_ms(patience_ms() + 1);
	for (int i = 0; i < 4; i++)
		must_bus(bus_dispatch(asks, 0, 0));
	ck_assert_uint_eq(replies, 1);
	/* It was not for the other bus of the process, and so is not late there. */
	must_bus(bus_dispatch(beside, 0, 0));
	ck_bus(bus_stats(second, &s), 0);
	ck_assert_uint_eq(s.late_replies, 0);
	bus_mailbox_close(beside);
	ck_bus(bus_close(second, 0), 0);
	bus_mailbox_close(asks);
	bus_mailbox_close(answers);
	bus_request_cancel(req);
	ck_bus(bus_close(bus, 0), 0);
	clock_pass_ms(-patience_ms() - 1);
}
END_TEST

/* The member `arg` closes `asking` once it has the question. */
static struct bus *asking;
static _Atomic bool is_there;

static void *
close_when_asked(void *arg)
{
	struct bus_mailbox *m = subscriber(arg, "q");

	atomic_store(&is_there, true);
	expect_message(m, "q", "?");
	bus_close(asking, 0);
	bus_mailbox_close(m);
	return NULL;
}

START_TEST(close_ends_the_wait_for_a_reply)
{
	struct bus *member = join(bus_test_dir());
	const struct bus_msg *reply;
	pthread_t thread;

	asking = join(bus_test_dir());
	pthread_create(&thread, NULL, close_when_asked, member);
	ck_eventually(atomic_load(&is_there));
	ck_bus(bus_request(asking, "q", "?", 1, -1, &reply), BUS_E_CLOSED);
	pthread_join(thread, NULL);
	ck_bus(bus_close(member, 0), 0);
}
END_TEST

/* --- links ---------------------------------------------------------------------------------------------------------------- */

static void
address_in(const char *dir, char text[200])
{
	snprintf(text, 200, "ipc://%s/link.sock", dir);
}

static uint32_t
peers_of(struct bus_link *link)
{
	struct bus_link_stats stats = {.size = sizeof stats};

	ck_bus(bus_link_stats(link, &stats), 0);
	return stats.peers;
}

/* Dials, says so, and lives until it is told to end or killed. */
static void
dial_and_wait(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *end = subscriber(bus, "end");
	struct bus_link *link;
	char address[200];

	(void)number;
	address_in(dir, address);
	ck_bus(bus_dial(bus, address, NULL, &link), 0);
	ck_eventually(peers_of(link) == 1);
	ck_bus(bus_subscribe(bus, "q", answer, bus, NULL), 0);
	retain_text(bus, "dialled", "!");
	expect_message(end, "end", "!");
	bus_link_close(link);
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, patience_ms()), 0);
}

START_TEST(one_process_has_the_link_and_all_have_what_it_brings)
{
	const char *dir = bus_test_dir();
	struct bus *private, *bus;
	struct bus_mailbox *there, *here, *dialled;
	struct bus_link *listener, *link;
	const struct bus_msg *reply;
	char address[200];
	pid_t holder;

	bus__stand_by_ms = 1;
	address_in(dir, address);
	holder = start(dial_and_wait, dir, 0);
	ck_bus(bus_open(NULL, NULL, &private), 0);
	ck_bus(bus_listen(private, address, NULL, &listener), 0);
	retain_text(private, "kept", "before");
	there = subscriber(private, "up/#");
	bus = join(dir);
	dialled = subscriber(bus, "dialled");
	expect_message(dialled, "dialled", "!");
	here = subscriber(bus, "kept");
	expect_message(here, "kept", "before");
	ck_bus(bus_mailbox_subscribe(here, "#", NULL, NULL, NULL), 0);
	ck_bus(bus_recv(here, patience_ms(), &reply), 1); /* both again, for this one */
	ck_bus(bus_recv(here, patience_ms(), &reply), 1);
	/* It stands by: the peer has one connection. */
	ck_bus(bus_dial(bus, address, NULL, &link), 0);
	usleep(100 * 1000); /* of a hundred looks */
	ck_assert_uint_eq(peers_of(listener), 1);
	ck_assert_uint_eq(peers_of(link), 0);

	publish_text(private, "down", "1");
	expect_message(here, "down", "1");
	retain_text(private, "kept", "after");
	expect_message(here, "kept", "after");
	publish_text(bus, "up/1", "2");
	expect_message(here, "up/1", "2");
	expect_message(there, "up/1", "2");
	ck_bus(bus_flush(bus, patience_ms()), 0);
	/* A process without the link is asked from beyond it. */
	ck_bus(bus_request(private, "q", "how", 3, patience_ms(), &reply), 0);
	ck_assert_mem_eq(reply->data, "[how]", 5);
	bus_msg_free(reply);
	expect_nothing(there); /* "up/1" came once, and nothing that came from there goes back */

	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	ck_eventually(peers_of(link) == 1);
	ck_eventually(peers_of(listener) == 1);
	while (bus_recv(here, 0, &reply) == 1)
		;
	publish_text(private, "down", "3");
	expect_message(here, "down", "3");
	publish_text(bus, "up/2", "4");
	expect_message(there, "up/2", "4");
	bus_link_close(link);
	bus_mailbox_close(here);
	bus_mailbox_close(dialled);
	ck_bus(bus_close(bus, patience_ms()), 0);
	bus_mailbox_close(there);
	bus_link_close(listener);
	ck_bus(bus_close(private, patience_ms()), 0);
	bus__stand_by_ms = 250;
}
END_TEST

static void
reply_at_once(void *arg, const struct bus_msg *msg)
{
	ck_bus(bus_reply(arg, msg, "!", 1), 0);
}

START_TEST(peer_that_has_subscribed_to_nothing_gets_its_replies)
{
	struct bus *bus = join(bus_test_dir()), *peer;
	const struct bus_msg *reply;
	struct bus_link *listens, *dials;
	char url[256];

	ck_bus(bus_subscribe(bus, "q", reply_at_once, bus, NULL), 0);
	ck_bus(bus_listen(bus, listen_url(0), NULL, &listens), 0);
	ck_assert_int_gt(bus_link_url(listens, url, sizeof url), 0);
	ck_bus(bus_open(NULL, NULL, &peer), 0);
	ck_bus(bus_dial(peer, url, NULL, &dials), 0);
	ck_eventually(is_up(dials));
	ck_eventually(bus_request(peer, "q", "?", 1, 5000, &reply) == 0);
	ck_assert_mem_eq(reply->data, "!", 1);
	bus_msg_free(reply);
	bus_link_close(dials);
	ck_bus(bus_close(peer, 0), 0);
	bus_link_close(listens);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

static void
listen_and_wait(const char *dir)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *end = subscriber(bus, "end");
	char address[200];

	address_in(dir, address);
	ck_bus(bus_listen(bus, address, NULL, NULL), 0);
	retain_text(bus, "listens", "!");
	expect_message(end, "end", "!");
	bus_mailbox_close(end);
	ck_bus(bus_close(bus, patience_ms()), 0);
	_exit(0);
}

START_TEST(address_that_one_process_listens_on_goes_to_another_that_asked_for_it)
{
	const char *dir = bus_test_dir();
	pid_t holder = bus_test_child(listen_and_wait, dir);
	struct bus *bus = join(dir), *private;
	struct bus_mailbox *listens = subscriber(bus, "listens"), *there;
	struct bus_link_stats stats = {.size = sizeof stats};
	struct bus_link *link, *dial;
	char address[200], text[200];

	expect_message(listens, "listens", "!");
	address_in(dir, address);
	ck_bus(bus_listen(bus, address, NULL, &link), 0);
	ck_bus(bus_link_stats(link, &stats), 0);
	ck_assert_int_eq(stats.state, BUS_LINK_DOWN);
	ck_bus(bus_open(NULL, NULL, &private), 0);
	there = subscriber(private, "#");
	ck_bus(bus_dial(private, address, NULL, &dial), 0);
	ck_eventually(peers_of(dial) == 1);
	expect_message(there, "listens", "!");
	publish_text(bus, "t", "by the other");
	expect_message(there, "t", "by the other");
	publish_text(bus, "end", "!");
	finish(holder);
	ck_eventually(peers_of(link) == 1);
	ck_assert_int_gt(bus_link_url(link, text, sizeof text), 0);
	ck_assert_str_eq(text, address);
	expect_message(there, "end", "!");
	ck_eventually(peers_of(dial) == 1);
	publish_text(bus, "t", "by us"); /* and the kept value is the same: no news */
	expect_message(there, "t", "by us");
	bus_mailbox_close(there);
	bus_link_close(dial);
	ck_bus(bus_close(private, patience_ms()), 0);
	bus_link_close(link);
	bus_mailbox_close(listens);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("named links");

	BUS_TEST_CASE(suite, "questions", question_is_answered_by_another_process,
	    reply_that_came_in_time_is_read_by_who_comes_late, close_ends_the_wait_for_a_reply);
	BUS_TEST_CASE(suite, "links", one_process_has_the_link_and_all_have_what_it_brings,
	    peer_that_has_subscribed_to_nothing_gets_its_replies,
	    address_that_one_process_listens_on_goes_to_another_that_asked_for_it);
	return suite;
}
