/* Programs other than libbus, and peers that break the rules: each is disconnected for its own reason and counted, and an
 * honest pair on the same address notices nothing. The bytes are written by hand from docs/internals/wire.md. */
#define _GNU_SOURCE
#include "link_test.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "link/session.h"

#define PREAMBLE "\xb5libbus\x02"
#define HELLO                                                                                      \
	"\x20\0\0\0\x01\0\0\0"                                                                     \
	"a stranger's id."                                                                         \
	"\0\0\x10\0"                                                                               \
	"\x88\x13\0\0"                                                                             \
	"\0\0\0\0\0\0\0\0"
#define ZERO   "\0\0\0\0\0\0\0\0"
#define ONE    "\1\0\0\0\0\0\0\0"
#define JOIN   "\0\0\0\0\x02\0\0\0"
#define READY  "\0\0\0\0\x05\0\0\0"
#define RESUME "\x18\0\0\0\x0c\0\0\0"
#define START  "\x18\0\0\0\x0d\0\0\0"
#define LOST   "\x08\0\0\0\x08\0\0\0"
#define BEGIN  RESUME ZERO ZERO ZERO START "sequence" ZERO ZERO
#define GREET  PREAMBLE HELLO JOIN BEGIN READY

/* A client without libbus; the address is ipc or tcp. */
static int
connect_raw(const char *url)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {.tv_sec = 20};
	bool ipc = strncmp(url, "ipc", 3) == 0;
	int fd = socket(ipc ? AF_UNIX : AF_INET, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	if (ipc)
		memcpy(un.sun_path, url + 6, strlen(url + 6));
	else
		in.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
	ck_assert_int_eq(ipc ? connect(fd, (struct sockaddr *)&un, sizeof un)
			     : connect(fd, (struct sockaddr *)&in, sizeof in),
	    0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	return fd;
}

static void
say(int fd, const void *bytes, size_t len)
{
	ck_assert_int_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Reads until the other side closes, as it must; returns the last bytes. */
static size_t
read_to_end(int fd, uint8_t *last, size_t cap)
{
	uint8_t buf[4096];
	size_t have = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof buf, 0)) > 0) {
		size_t keep = (size_t)n < cap ? (size_t)n : cap;

		if (have + keep > cap) {
			memmove(last, last + (have + keep - cap), cap - keep);
			have = cap - keep;
		}
		memcpy(last + have, buf + (size_t)n - keep, keep);
		have += keep;
	}
	ck_assert_msg(n == 0, "the connection was not closed in order");
	return have;
}

/* The honest pair: b receives a's messages, before and after. */
static void
check_pair(struct pair *p, struct heard *heard)
{
	unsigned before = heard->count;

	ck_bus(bus_publish(p->a, "honest", "1", 1), 0);
	ck_eventually(heard->count == before + 1);
	ck_assert(is_up(p->lb));
	ck_assert_uint_eq(stats_of(p->lb).ended[BUS_LINK_END_GONE], 0);
}

#define CASE(bytes, end, bye)                                                                      \
	{                                                                                          \
		bytes, sizeof bytes - 1, end, bye                                                  \
	}

static const struct {
	const char *bytes;
	size_t len;
	enum bus_link_end end;
	int bye; /* -1: none is sent */
} cases[] = {
    CASE("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", BUS_LINK_END_NOT_LIBBUS, -1),
    CASE("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", BUS_LINK_END_NOT_LIBBUS, -1),
    CASE("\xb5libbuz", BUS_LINK_END_NOT_LIBBUS, -1),
    CASE("\xb5libbus\x01 and more of another version", BUS_LINK_END_VERSION, -1),
    CASE(PREAMBLE "\0\0\0\x80\x01\0\0\0", BUS_LINK_END_TOO_BIG, 4),
    CASE(PREAMBLE "\xff\xff\xff\xff\x07\0\0\0", BUS_LINK_END_TOO_BIG, 4),
    CASE(PREAMBLE "\0\0\0\0\0\0\0\0", BUS_LINK_END_PROTOCOL, 3),
    CASE(PREAMBLE READY, BUS_LINK_END_PROTOCOL, 3),
    CASE(PREAMBLE HELLO HELLO, BUS_LINK_END_PROTOCOL, 3),
    CASE(PREAMBLE HELLO READY, BUS_LINK_END_PROTOCOL, 3),
    CASE(GREET READY, BUS_LINK_END_PROTOCOL, 3), CASE(GREET JOIN, BUS_LINK_END_PROTOCOL, 3),
    CASE(GREET BEGIN, BUS_LINK_END_PROTOCOL, 3),
    CASE(PREAMBLE HELLO JOIN READY, BUS_LINK_END_PROTOCOL, 3),                /* no RESUME */
    CASE(PREAMBLE HELLO JOIN RESUME ZERO ZERO ONE, BUS_LINK_END_PROTOCOL, 3), /* 1 of 0 lost */
    CASE(PREAMBLE HELLO JOIN RESUME ZERO ZERO ZERO LOST ONE, BUS_LINK_END_PROTOCOL,
	3),                                                              /* no START */
    CASE(PREAMBLE HELLO JOIN RESUME ZERO ZERO ZERO START ZERO ZERO ZERO, /* sequence 0 */
	BUS_LINK_END_PROTOCOL, 3),
    CASE(GREET START "sequence" ZERO ZERO, BUS_LINK_END_PROTOCOL, 3),
    CASE(PREAMBLE HELLO "\0\0\0\0\x0e\0\0\0", BUS_LINK_END_PROTOCOL, 3), /* AUTH */
    CASE(GREET "\0\0\0\0\x0f\0\0\0", BUS_LINK_END_PROTOCOL, 3),          /* ACK */
    CASE(PREAMBLE "\x20\0\0\0\x01\0\0\0a stranger's id.\0\0\x10\0\x88\x13\0\0\0\0\0\0\1\0\0\0",
	BUS_LINK_END_VERSION, 6), /* it needs a feature */
    CASE(GREET "\0\0\0\0\x0b\0\0\0", BUS_LINK_END_PROTOCOL, 3),
    CASE(GREET "\x01\0\0\x01\x07\0\0\0", BUS_LINK_END_TOO_BIG, 4),    /* 16 MiB payload */
    CASE(GREET "\x01\x04\0\0\x06\0\0\0", BUS_LINK_END_TOO_BIG, 4),    /* topic of 1,025 */
    CASE(GREET "\x01\0\0\0\x07\0\0\0!", BUS_LINK_END_PROTOCOL, 3),    /* no such topic */
    CASE(GREET "\0\0\0\0\x07\0\x10\x27", BUS_LINK_END_PROTOCOL, 3),   /* number 10,000 */
    CASE(GREET "\x03\0\0\0\x06\0\0\0a/+", BUS_LINK_END_PROTOCOL, 3),  /* topic of wildcards */
    CASE(GREET "\x04\0\0\0\x06\0\0\0$bus", BUS_LINK_END_PROTOCOL, 3), /* ours */
    CASE(GREET "\x03\0\0\0\x03\0\0\0a+b", BUS_LINK_END_PROTOCOL, 3),  /* no filter */
    CASE(GREET "\x02\0\0\0\x03\0\0\0a\0", BUS_LINK_END_PROTOCOL, 3),  /* no text */
    CASE(GREET
	"\x01\0\0\0\x06\0\0\0a\x10\0\0\0\x07\x01\0\0\0\0\0\0\0\0\0\x80" ONE, /* before 1970 */
	BUS_LINK_END_PROTOCOL, 3),
    CASE(PREAMBLE HELLO JOIN "\0\0\0\0\x0a\0\0\0", BUS_LINK_END_GONE, -1), /* BYE */
};

START_TEST(peer_that_breaks_the_rules_is_disconnected_with_the_reason)
{
	static const enum bus_link_end all[] = {BUS_LINK_END_NOT_LIBBUS, BUS_LINK_END_VERSION,
	    BUS_LINK_END_TOO_BIG, BUS_LINK_END_PROTOCOL, BUS_LINK_END_GONE};
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};

	ck_bus(bus_subscribe(p.b, "honest", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	check_pair(&p, &heard);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct bus_link_stats before = stats_of(p.la);
		uint8_t last[8];
		int fd = connect_raw(p.url);
		size_t n;

		say(fd, cases[i].bytes, cases[i].len);
		ck_eventually(stats_of(p.la).ended[cases[i].end] == before.ended[cases[i].end] + 1);
		for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
			ck_assert_msg(all[j] == cases[i].end ||
					  stats_of(p.la).ended[all[j]] == before.ended[all[j]],
			    "case %zu was counted twice", i);
		shutdown(fd, SHUT_WR);
		n = read_to_end(fd, last, sizeof last);
		if (cases[i].bye >= 0) {
			ck_assert_uint_eq(n, 8);
			ck_assert_mem_eq(last, "\0\0\0\0\x0a\0", 6);
			ck_assert_int_eq(last[6], cases[i].bye);
		}
		close(fd);
	}
	check_pair(&p, &heard);
	ck_assert_uint_eq(stats_of(p.la).peers, 1);
	pair_close(&p);
}
END_TEST

START_TEST(losses_reported_by_a_peer_stay_within_the_counter)
{
	static const char nearly[] = GREET "\x08\0\0\0\x08\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff";
	static const char two[] = "\x08\0\0\0\x08\0\0\0\x02\0\0\0\0\0\0\0";
	static const char three[] = "\x08\0\0\0\x08\0\0\0\x03\0\0\0\0\0\0\0"
				    "\0\0\0\0\x0a\0\0\0"; /* BYE */
	struct pair p;
	uint64_t gone;
	int fd;

	pair_open(&p, _i);
	gone = stats_of(p.la).ended[BUS_LINK_END_GONE];
	fd = connect_raw(p.url);
	say(fd, nearly, sizeof nearly - 1);
	ck_eventually(stats_of(p.la).lost_by_peers == UINT64_MAX - 1);
	say(fd, two, sizeof two - 1);
	ck_eventually(stats_of(p.la).lost_by_peers == UINT64_MAX);
	say(fd, three, sizeof three - 1);
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_GONE] == gone + 1);
	ck_assert_uint_eq(stats_of(p.la).lost_by_peers, UINT64_MAX);
	close(fd);
	pair_close(&p);
}
END_TEST

START_TEST(another_version_learns_ours)
{
	uint8_t said[8];
	struct pair p;
	int fd;

	pair_open(&p, _i);
	fd = connect_raw(p.url);
	say(fd, "\xb5libbus\xff", 8);
	ck_assert_int_eq(recv(fd, said, 8, MSG_WAITALL), 8);
	ck_assert_mem_eq(said, PREAMBLE, 8);
	close(fd);
	pair_close(&p);
}
END_TEST

/* Five seconds, shortened here after the honest peers have joined. */
START_TEST(silent_or_half_greeted_peer_is_disconnected_at_the_handshake_limit)
{
	static const char *const words[] = {"", "\xb5lib", PREAMBLE, PREAMBLE "\x1c"};
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	int fds[4];

	ck_bus(bus_subscribe(p.b, "honest", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	bus__handshake_ms = 200;
	for (int i = 0; i < 4; i++) {
		fds[i] = connect_raw(p.url);
		(void)send(fds[i], words[i], strlen(words[i]), MSG_NOSIGNAL); /* if it is in time */
	}
	check_pair(&p, &heard);
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_SILENT] == 4);
	bus__handshake_ms = 5000;
	check_pair(&p, &heard);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	pair_close(&p);
}
END_TEST

START_TEST(a_peer_that_falls_silent_is_gone_after_three_heartbeats)
{
	const struct bus_link_config quick = {.size = sizeof quick, .heartbeat_ms = 100};
	struct bus_link *listener;
	struct bus *bus = open_bus();
	char url[256];
	int fd;

	ck_bus(bus_listen(bus, listen_url(_i), &quick, &listener), 0);
	ck_assert_int_gt(bus_link_url(listener, url, sizeof url), 0);
	fd = connect_raw(url);
	say(fd, GREET, sizeof GREET - 1);
	/* The test may get no CPU while the peer is up: it can only be sure to see the end. */
	ck_eventually(stats_of(listener).ended[BUS_LINK_END_SILENT] == 1);
	ck_assert_int_eq(stats_of(listener).last_error, BUS_E_TIMEDOUT);
	ck_assert_uint_eq(stats_of(listener).peers, 0);
	close(fd);
	bus_link_close(listener);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(half_a_message_is_never_delivered)
{
	struct heard heard = {.count = 0};
	struct pair p;
	int fd;

	pair_open(&p, _i);
	ck_bus(bus_subscribe(p.a, "#", hear, &heard, NULL), 0);
	fd = connect_raw(p.url);
	say(fd, GREET "\x01\0\0\0\x06\0\0\0t\x02\0\0\0\x07\0\0\0ok\x0a\0\0\0\x07\0\0\0part",
	    sizeof GREET - 1 + 9 + 10 + 12);
	ck_eventually(heard.count == 1);
	close(fd);
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_GONE] == 1);
	ck_bus(bus_flush(p.a, patience_ms()), 0);
	ck_assert_uint_eq(heard.count, 1);
	ck_assert_mem_eq(heard.data, "ok", 2);
	pair_close(&p);
}
END_TEST

START_TEST(a_peer_that_does_not_read_blocks_no_other)
{
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	static const char data[30000];
	int64_t began;
	int fd;

	ck_bus(bus_subscribe(p.b, "honest", hear, &heard, NULL), 0);
	pair_link(&p, _i, NULL);
	fd = connect_raw(p.url);
	say(fd, PREAMBLE HELLO JOIN BEGIN "\x01\0\0\0\x03\0\0\0#" READY, sizeof GREET - 1 + 9);
	ck_eventually(stats_of(p.la).peers == 2);
	/* The kernel takes some megabytes before it is full. */
	for (int i = 0; i < 1000; i++)
		ck_bus(bus_publish(p.a, "flood", data, sizeof data), 0);
	while (bus_flush(p.a, 50) == 0)
		for (int i = 0; i < 30; i++)
			ck_bus(bus_publish(p.a, "flood", data, sizeof data), 0);
	check_pair(&p, &heard);
	ck_bus(bus_flush(p.a, 50), BUS_E_TIMEDOUT);
	began = bus_test_now_ms();
	bus_link_close(p.la);
	ck_assert_int_lt(bus_test_now_ms() - began, patience_ms());
	p.la = NULL;
	close(fd);
	pair_close(&p);
}
END_TEST

/* BYE waits for the bytes that the kernel has already, but not for long: a reader without a CPU may miss it. */
START_TEST(a_peer_that_reads_late_still_gets_the_reason_of_its_end)
{
	static const char data[200];
	struct pair p;
	uint8_t last[8];
	bool told = false;

	pair_open(&p, _i);
	for (int tries = 0; tries < 10 && !told; tries++) {
		uint64_t ended = stats_of(p.la).ended[BUS_LINK_END_PROTOCOL];
		int fd = connect_raw(p.url);

		say(fd, PREAMBLE HELLO JOIN BEGIN "\x01\0\0\0\x03\0\0\0#" READY,
		    sizeof GREET - 1 + 9);
		ck_eventually(stats_of(p.la).peers == 2);
		do
			for (int i = 0; i < 3000; i++)
				ck_bus(bus_publish(p.a, "flood", data, sizeof data), 0);
		while (bus_flush(p.a, 50) == 0);
		say(fd, READY, sizeof READY - 1);
		ck_eventually(stats_of(p.la).ended[BUS_LINK_END_PROTOCOL] == ended + 1);
		ck_assert_uint_eq(read_to_end(fd, last, sizeof last), sizeof last);
		told = memcmp(last, "\0\0\0\0\x0a\0\x03\0", sizeof last) == 0;
		close(fd);
	}
	ck_assert(told);
	pair_close(&p);
}
END_TEST

START_TEST(a_dialled_stranger_is_recognised_too)
{
	struct sockaddr_in addr = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static const struct {
		const char *says;
		int err;
	} strangers[] = {
	    {"220 mail.example ESMTP\r\n", BUS_E_NOT_LIBBUS}, {"\xb5libbus\x07", BUS_E_VERSION}};
	struct bus *bus = open_bus();
	struct bus_link *link;
	char url[64];
	int fd, peer;

	/* Each link has its own address: an ended link has redialled by then, and is first in its queue. */
	for (int i = 0; i < 2; i++) {
		socklen_t len = sizeof addr;

		fd = socket(AF_INET, SOCK_STREAM, 0);
		addr.sin_port = 0;
		ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
		ck_assert_int_eq(listen(fd, 4), 0);
		ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
		snprintf(url, sizeof url, "tcp://127.0.0.1:%u", ntohs(addr.sin_port));
		ck_bus(bus_dial(bus, url, NULL, &link), 0);
		peer = accept(fd, NULL, NULL);
		say(peer, strangers[i].says, strlen(strangers[i].says));
		ck_eventually(stats_of(link).last_error == strangers[i].err);
		ck_eventually(stats_of(link).state == BUS_LINK_DOWN);
		close(fd);
		close(peer);
		bus_link_close(link);
	}
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* Connects as the peer of that number and breaks the connection at once. Returns whether the bus remembered it. */
static bool
is_remembered(struct bus_link *link, const char *url, unsigned number)
{
	uint64_t ended = stats_of(link).ended[BUS_LINK_END_GONE];
	char greet[sizeof GREET];
	uint8_t said[8 + 40 + 32];
	int fd = connect_raw(url);

	memcpy(greet, GREET, sizeof greet);
	memcpy(greet + 16, &number, sizeof number);
	say(fd, greet, sizeof greet - 1);
	ck_assert_int_eq(recv(fd, said, sizeof said, MSG_WAITALL), (ssize_t)sizeof said);
	/* Their having met is remembered longer. */
	ck_assert(
	    memcmp(said + 48, RESUME, 8) == 0 || memcmp(said + 48, "\x18\0\0\0\x0c\2\0\0", 8) == 0);
	ck_eventually(stats_of(link).peers == 1);
	close(fd);
	ck_eventually(stats_of(link).ended[BUS_LINK_END_GONE] == ended + 1);
	return memcmp(said + 56, "sequence", 8) == 0;
}

START_TEST(over_the_limit_the_peer_whose_link_broke_first_is_forgotten)
{
	enum { REMEMBERED = 1024 };
	struct bus *bus = open_bus();
	struct bus_link *link;
	char url[256];

	ck_bus(bus_listen(bus, listen_url(1), NULL, &link), 0);
	ck_assert_int_gt(bus_link_url(link, url, sizeof url), 0);
	for (unsigned i = 0; i < REMEMBERED + 1; i++)
		ck_assert(!is_remembered(link, url, i));
	ck_assert(is_remembered(link, url, 1));
	ck_assert(!is_remembered(link, url, 0));
	ck_assert(!is_remembered(link, url, 2)); /* it made room for 0 */
	ck_assert(is_remembered(link, url, 1));
	bus_link_close(link);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	static const TTest *const *const tests[] = {
	    &peer_that_breaks_the_rules_is_disconnected_with_the_reason,
	    &losses_reported_by_a_peer_stay_within_the_counter, &another_version_learns_ours,
	    &a_peer_that_falls_silent_is_gone_after_three_heartbeats,
	    &half_a_message_is_never_delivered, &a_peer_that_does_not_read_blocks_no_other,
	    &a_peer_that_reads_late_still_gets_the_reason_of_its_end};
	Suite *suite = suite_create("link strangers");
	TCase *tcase = bus_test_case("over ipc and tcp"), *slow = bus_test_case("over tcp");

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_loop_test(tcase, *tests[i], 1, LINK_TEST_CLEAR);
	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(
	    slow, silent_or_half_greeted_peer_is_disconnected_at_the_handshake_limit, 2, 3);
	tcase_add_test(slow, a_dialled_stranger_is_recognised_too);
	tcase_add_test(slow, over_the_limit_the_peer_whose_link_broke_first_is_forgotten);
	suite_add_tcase(suite, slow);
	return suite;
}
