/* Connected and refused peers, with reasons: bus_explain_peers(), $bus/refused and $bus/peers/N. */
#define _GNU_SOURCE
#include "link_test.h"

#include <stdlib.h>
#include <unistd.h>

#include <libbus/pack.h>

#include "link/link.h"
#include "login_test.h"
#include "named_test.h"
#include "raw_peer.h"

static const struct bus_link_config patient = {.size = sizeof patient, .heartbeat_ms = 3600000};

static bool
says(struct bus *bus, const char *what)
{
	static char text[64 * 1024];

	ck_assert_int_gt(bus_explain_peers(bus, text, sizeof text), 0);
	return strstr(text, what) != NULL;
}

/* A bus with the users pico and zero, "leek soup", and this ACL. i: of listen_url(). */
static void
open_guarded(struct pair *p, struct bus *a, int i, const char *acl)
{
	const char *users = file_of_test("users", "");
	const struct bus_link_config cfg = {.size = sizeof cfg,
	    .heartbeat_ms = 3600000,
	    .users_file = users,
	    .acl_file = acl != NULL ? file_of_test("acl", acl) : NULL};

	add_user(users, "pico", "leek soup");
	add_user(users, "zero", "leek soup");
	p->a = a;
	p->b = open_bus();
	ck_bus(bus_listen(p->a, listen_url(i), &cfg, &p->la), 0);
	ck_assert_int_gt(bus_link_url(p->la, p->url, sizeof p->url), 0);
}

/* --- texts --------------------------------------------------------------------------------------------------------------- */

START_TEST(peers_are_listed_while_they_are_connected)
{
	struct pair p = {.lb = NULL};

	open_guarded(&p, open_bus(), _i, NULL);
	ck_assert(says(p.a, "no peer is connected, and none was refused\n"));
	p.lb = dial_as(p.b, p.url, "pico", "leek soup");
	ck_eventually(is_up(p.lb) && stats_of(p.la).peers == 1);
	ck_eventually(says(p.a, ": user \"pico\", at "));
	ck_eventually(says(p.b, "connected ") && says(p.b, p.url) &&
		      says(p.b, "user \"pico\", dialled since 20"));
	bus_link_close(p.lb);
	p.lb = NULL;
	ck_eventually(!says(p.a, "connected "));
	ck_eventually(!says(p.b, "connected "));
	pair_end(&p);
}
END_TEST

START_TEST(text_that_does_not_fit_is_cut_and_its_length_returned)
{
	char text[32], one[1];
	struct bus *bus = open_bus();
	int len = bus_explain_peers(bus, NULL, 0);

	ck_assert_int_eq(len, (int)strlen("no peer is connected, and none was refused\n"));
	ck_assert_int_eq(bus_explain_peers(bus, text, sizeof text), len);
	ck_assert_str_eq(text, "no peer is connected, and none ");
	ck_assert_int_eq(bus_explain_peers(bus, one, 1), len);
	ck_bus(bus_explain_peers(bus, NULL, 1), BUS_E_INVAL);
	ck_bus(bus_explain_peers(NULL, text, sizeof text), BUS_E_INVAL);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static const struct {
	const char *user, *password, *there,
	    *here; /* the texts on the listening and on the dialling side */
} logins[] = {
    {"pico", "leek",
	"wrong password for \"pico\": ", "does not accept the user or password of \"pico\""},
    {"nobody", "leek soup",
	"unknown user, not in users_file: ", "does not accept the user or password of \"nobody\""},
    {NULL, NULL, "no user given: ", "does not accept the user or password of this bus"},
};

START_TEST(failed_logins_are_explained_to_the_listener_and_not_to_the_peer)
{
	struct pair p;

	open_guarded(&p, open_bus(), 2, NULL);
	p.lb = dial_as(p.b, p.url, logins[_i].user, logins[_i].password);
	ck_eventually(says(p.a, logins[_i].there));
	ck_eventually(says(p.b, logins[_i].here));
	ck_assert(!says(p.a, "nobody") && !says(p.a, "leek"));
	ck_assert(!says(p.b, "users_file") && !says(p.b, "wrong password"));
	pair_end(&p);
}
END_TEST

START_TEST(user_that_fails_too_often_waits_and_another_user_does_not)
{
	struct bus_link *other;
	struct bus *c = open_bus();
	struct pair p;

	open_guarded(&p, open_bus(), 2, NULL);
	bus__back_off_most_ms = 10;
	p.lb = dial_as(p.b, p.url, "pico", "wrong");
	ck_eventually(says(p.a, "too many failed attempts"));
	/* Failures count, attempts during the wait do not. */
	ck_assert(says(p.a, "5 times"));
	other = dial_as(c, p.url, "zero", "leek soup");
	ck_eventually(is_up(other));
	/* Even with the right password it still has to wait. */
	bus_link_close(p.lb);
	p.lb = dial_as(p.b, p.url, "pico", "leek soup");
	ck_eventually(is_up(p.lb));
	bus_link_close(other);
	ck_bus(bus_close(c, 0), 0);
	pair_end(&p);
}
END_TEST

static const struct {
	const char *bytes, *says;
} strangers[] = {
    {"GET / HTTP/1.1\r\n\r\n", "HTTP on a port for links"},
    {"\x16\x03\x01\x02", "TLS on a port without TLS"},
    {"\x10\x0c\x04\x04MQTT", "bytes of an unknown protocol"},
    {"\xb5libbus\x09", "another version of the wire"},
};

START_TEST(strangers_are_recognised_by_their_protocol)
{
	struct bus *bus = open_bus();
	struct bus_link *link;
	char url[256];
	int fd;

	ck_bus(bus_listen(bus, listen_url(_i % 2 + 1), &patient, &link), 0);
	ck_assert_int_gt(bus_link_url(link, url, sizeof url), 0);
	for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
		fd = raw_connect(url);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_gt(
		    send(fd, strangers[i].bytes, strlen(strangers[i].bytes), MSG_NOSIGNAL), 0);
		ck_eventually(says(bus, strangers[i].says));
		close(fd);
	}
	bus_link_close(link);
	/* Refusals outlive their link. */
	ck_assert(says(bus, "HTTP"));
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(too_many_connections_are_reported)
{
	const struct bus_link_config cfg = {
	    .size = sizeof cfg, .max_peers = 1, .heartbeat_ms = 3600000};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	int fd;

	pair_link(&p, 1, &cfg);
	fd = raw_connect(p.url);
	ck_assert_int_ge(fd, 0);
	ck_eventually(says(p.a, "refused this machine: too many connections: raise max_peers"));
	close(fd);
	pair_end(&p);
}
END_TEST

START_TEST(refusals_by_the_acl_are_reported_on_both_sides)
{
	struct bus_mailbox *m;
	struct pair p;

	open_guarded(&p, open_bus(), 1, "user pico\ntopic read public/#\n");
	m = subscriber(p.b, "secrets/#");
	p.lb = dial_as(p.b, p.url, "pico", "leek soup");
	ck_eventually(says(p.a, "filter not allowed for \"pico\": secrets/#: "));
	ck_eventually(says(p.b, "the peer does not let this bus read: secrets/#: "));
	ck_bus(bus_mailbox_subscribe(m, "public/#", NULL, NULL, NULL), 0);
	ck_eventually(is_up(p.lb));
	publish_text(p.b, "public/x", "no");
	ck_bus(bus_subscribe(p.a, "public/#", ignore_message, NULL, NULL), 0);
	ck_eventually((publish_text(p.b, "public/x", "no"),
	    says(p.a, "topic not allowed for \"pico\": public/x: ")));
	ck_eventually(says(p.b, "the peer does not let this bus write: public/x: "));
	bus_mailbox_close(m);
	pair_end(&p);
}
END_TEST

/* --- notices ------------------------------------------------------------------------------------------------------------- */

static bool
has(const struct bus_msg *msg, const char *text)
{
	return memmem(msg->data, msg->len, text, strlen(text)) != NULL;
}

static void
await_notice(struct bus_mailbox *m, const char *text)
{
	const struct bus_msg *msg;

	do
		ck_assert_int_eq(bus_recv(m, patience_ms(), &msg), 1);
	while (!has(msg, text));
	ck_assert_str_eq(msg->topic, "$bus/refused");
	ck_assert_int_eq(msg->type, BUS_TYPE_MSGPACK);
	ck_assert(has(msg, "refused") && has(msg, "address") && has(msg, "count"));
}

START_TEST(refusal_is_a_notice_too)
{
	struct bus *bus = _i == 1 ? join(bus_test_dir()) : open_bus();
	struct bus_mailbox *m = subscriber(bus, "$bus/refused");
	struct bus_link *link;
	char url[256];
	int fd;

	ck_bus(bus_listen(bus, listen_url(1), &patient, &link), 0);
	ck_assert_int_gt(bus_link_url(link, url, sizeof url), 0);
	fd = raw_connect(url);
	ck_assert_int_eq(send(fd, "GET / ", 6, MSG_NOSIGNAL), 6);
	await_notice(m, "HTTP on a port for links");
	close(fd);
	bus_mailbox_close(m);
	bus_link_close(link);
	ck_assert_int_ge(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* --- other processes ------------------------------------------------------------------------------------------------------- */

static void
listen_and_stay(const char *dir, int number)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *m = subscriber(bus, "end");
	const struct bus_msg *msg;
	struct bus_link *link;
	char url[256];

	snprintf(url, sizeof url, "ipc://%s/socket", dir);
	ck_bus(bus_listen(bus, url, &patient, &link), 0);
	retain_text(bus, "listens", url);
	ck_assert_int_eq(bus_recv(m, patience_ms(), &msg), 1);
	/* The other process ends without closing, or in order. */
	if (number == 0)
		_exit(0);
	bus_mailbox_close(m);
	bus_link_close(link);
	ck_assert_int_ge(bus_close(bus, patience_ms()), 0);
}

START_TEST(other_processes_read_the_peers_of_the_process_with_the_link)
{
	pid_t child = start(listen_and_stay, bus_test_dir(), _i);
	struct bus *bus = join(bus_test_dir()), *peer = open_bus();
	struct bus_mailbox *m = subscriber(bus, "listens"), *kept;
	const struct bus_msg *msg;
	struct bus_link *link;
	char url[256], line[64];
	int fd;

	ck_assert_int_eq(bus_recv(m, patience_ms(), &msg), 1);
	snprintf(url, sizeof url, "%.*s", (int)msg->len, (const char *)msg->data);
	fd = raw_connect(url);
	ck_assert_int_eq(send(fd, "GET / ", 6, MSG_NOSIGNAL), 6);
	snprintf(line, sizeof line, "pid %d: refused this machine: HTTP", (int)child);
	ck_eventually(says(bus, line));
	ck_bus(bus_dial(peer, url, &patient, &link), 0);
	ck_eventually(is_up(link));
	snprintf(line, sizeof line, "pid %d: connected this machine: without a user", (int)child);
	ck_eventually(says(bus, line));
	kept = subscriber(bus, "$bus/peers/+");
	ck_assert_int_eq(bus_recv(kept, patience_ms(), &msg), 1);
	ck_assert_int_eq(msg->type, BUS_TYPE_TEXT);
	ck_assert(has(msg, "HTTP on a port for links") && (msg->flags & BUS_MSG_KEPT));
	/* The kept text of a process ends with it. */
	publish_text(bus, "end", "");
	finish(child);
	close(fd);
	do
		ck_assert_int_eq(bus_recv(kept, patience_ms(), &msg), 1);
	while (msg->len != 0);
	ck_eventually(says(bus, "no peer is connected, and none was refused"));
	bus_link_close(link);
	bus_mailbox_close(kept);
	bus_mailbox_close(m);
	ck_assert_int_ge(bus_close(peer, patience_ms()), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("explain peers");
	TCase *tcase = tcase_create("explain peers");

	tcase_set_timeout(tcase, bus_test_limit());
	tcase_add_loop_test(tcase, peers_are_listed_while_they_are_connected, 0, LINK_TEST_SCHEMES);
	tcase_add_test(tcase, text_that_does_not_fit_is_cut_and_its_length_returned);
	tcase_add_loop_test(
	    tcase, failed_logins_are_explained_to_the_listener_and_not_to_the_peer, 0, 3);
	tcase_add_test(tcase, user_that_fails_too_often_waits_and_another_user_does_not);
	tcase_add_loop_test(tcase, strangers_are_recognised_by_their_protocol, 0, 2);
	tcase_add_test(tcase, too_many_connections_are_reported);
	tcase_add_test(tcase, refusals_by_the_acl_are_reported_on_both_sides);
	tcase_add_loop_test(tcase, refusal_is_a_notice_too, 0, 2);
	tcase_add_loop_test(
	    tcase, other_processes_read_the_peers_of_the_process_with_the_link, 0, 2);
	suite_add_tcase(suite, tcase);
	return suite;
}
