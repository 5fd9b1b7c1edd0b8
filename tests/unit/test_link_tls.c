/* Links over tls://: refused peers and their reasons, strangers, and handshakes that stall. */
#define _GNU_SOURCE
#include "error_text_test.h"

#include "link_test.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/tls_stream.h"

/* Of link/session.h, which cannot be included beside bus/notice.h. */
extern _Atomic int bus__handshake_ms;

/* A listener with these files, or the default ones. */
static struct bus_link *
listen_with(struct bus *bus, const struct bus_link_config *cfg, char url[256])
{
	struct bus_link *link;

	ck_bus(bus_listen(bus, tls_url(), cfg, &link), 0);
	ck_assert_int_gt(bus_link_url(link, url, 256), 0);
	return link;
}

static uint64_t
refused(struct bus_link *link)
{
	return stats_of(link).ended[BUS_LINK_END_TLS];
}

/* A client of raw bytes. */
static int
connect_to(const char *url)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1)),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
	return fd;
}

static void
say(int fd, const void *bytes, size_t len)
{
	ck_assert_int_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* The other side hangs up. */
static void
await_end(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	char bytes[512];
	ssize_t n;

	do {
		ck_assert_int_eq(poll(&poll_fd, 1, patience_ms()), 1);
		n = recv(fd, bytes, sizeof bytes, 0);
	} while (n > 0);
	close(fd);
}

/* The first flight of a client that knows the CA. */
static size_t
first_flight(unsigned char ret_bytes[1024])
{
	const struct bus__tls_settings settings = {.dials = true, .ca_file = pem("libbus/ca")};
	struct tls_end client;
	unsigned char *bytes;
	size_t len;

	end_open(&client, &settings, "localhost");
	shake(&client, 0);
	bytes = bus__tls_take(client.tls, &len);
	ck_assert_uint_lt(len, 1024);
	memcpy(ret_bytes, bytes, len);
	bus__free(bytes);
	end_close(&client);
	return len;
}

/* --- refusals ------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_dialler_refuses_a_server_of_another_ca)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};

	p.la = listen_with(p.a, NULL, p.url);
	make_ca("other");
	ck_bus(bus_dial(p.b, p.url,
		   &(struct bus_link_config){
		       .size = sizeof(struct bus_link_config), .ca_file = pem("other")},
		   &p.lb),
	    0);
	ck_eventually(stats_of(p.lb).last_error == BUS_E_TLS);
	ck_eventually(refused(p.lb) > 0 && refused(p.la) > 0);
	ck_assert_int_eq(stats_of(p.lb).state, BUS_LINK_DOWN);
	ck_assert_int_eq(stats_of(p.la).last_error, BUS_E_TLS);
	pair_close(&p);
}
END_TEST

START_TEST(a_listener_with_a_ca_takes_only_peers_with_a_certificate)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus_link_config cfg = {.size = sizeof cfg};

	tls_url();
	make_client("pi", "libbus/ca");
	cfg.ca_file = pem("libbus/ca");
	p.la = listen_with(p.a, &cfg, p.url);
	ck_bus(bus_dial(p.b, p.url, NULL, &p.lb), 0);
	ck_eventually(stats_of(p.lb).last_error == BUS_E_TLS);
	bus_link_close(p.lb);
	cfg = (struct bus_link_config){
	    .size = sizeof cfg, .cert_file = pem("pi"), .key_file = key_of("pi")};
	ck_bus(bus_dial(p.b, p.url, &cfg, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	pair_close(&p);
}
END_TEST

START_TEST(keys_join_two_buses)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus_link_config cfg = {.size = sizeof cfg};
	struct heard heard = {.count = 0};

	write_text(tls_path("a", ".psk"), "pi:000102030405060708090a0b0c0d0e0f\n", 0600);
	write_text(tls_path("b", ".psk"), "pi:00112233445566778899aabbccddeeff\n", 0600);
	cfg.psk_file = tls_path("a", ".psk");
	p.la = listen_with(p.a, &cfg, p.url);
	cfg.psk_file = tls_path("b", ".psk");
	ck_bus(bus_dial(p.b, p.url, &cfg, &p.lb), 0);
	ck_eventually(stats_of(p.lb).last_error == BUS_E_TLS);
	bus_link_close(p.lb);
	cfg.psk_file = tls_path("a", ".psk");
	ck_bus(bus_dial(p.b, p.url, &cfg, &p.lb), 0);
	ck_bus(bus_subscribe(p.b, "x", hear, &heard, NULL), 0);
	ck_eventually((bus_publish(p.a, "x", "1", 1), heard.count > 0));
	pair_close(&p);
}
END_TEST

START_TEST(files_that_are_read_again_hold_for_the_next_connection)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus_link_config cfg = {.size = sizeof cfg};

	p.la = listen_with(p.a, NULL, p.url);
	make_ca("other");
	cfg.ca_file = pem("other");
	ck_bus(bus_dial(p.b, p.url, &cfg, &p.lb), 0);
	ck_eventually(refused(p.lb) > 0);
	write_text(key_of("libbus/server"), "no key", 0600);
	ck_says(bus_link_reload(p.la), BUS_E_TLS, "server-key.pem");
	make_cert("libbus/server", "other", "127.0.0.1");
	ck_bus(bus_link_reload(p.la), 0);
	ck_eventually(is_up(p.lb));
	pair_close(&p);
}
END_TEST

START_TEST(a_file_that_is_missing_is_named_by_the_call)
{
	struct bus *bus = open_bus();
	struct bus_link_config cfg = {.size = sizeof cfg, .ca_file = "/nowhere/ca.pem"};
	struct bus_link *link;

	bus_test_config_here();
	ck_says(bus_dial(bus, "tls://localhost:1", NULL, &link), BUS_E_TLS, "tls://localhost",
	    bus_test_dir(), "libbus/ca.pem", "no such file", "libbus cert");
	ck_says(bus_listen(bus, "tls://localhost:0", NULL, &link), BUS_E_TLS, "libbus/server.pem",
	    "no such file");
	ck_says(bus_dial(bus, "tls://localhost:1", &cfg, &link), BUS_E_TLS, "/nowhere/ca.pem");
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static _Atomic size_t longest;

static void
measure(void *arg, const struct bus_msg *msg)
{
	(void)arg;
	if (msg->len > longest)
		longest = msg->len;
}

START_TEST(a_large_message_and_many_small_ones_arrive)
{
	enum { LARGE = 1000000, SMALL = 20000 };
	struct pair p;
	struct heard heard = {.count = 0}, last = {.count = 0};
	static unsigned char data[LARGE];

	pair_open(&p, 3);
	ck_bus(bus_subscribe(p.b, "x", hear, &heard, NULL), 0);
	ck_bus(bus_subscribe(p.b, "last", hear, &last, NULL), 0);
	ck_bus(bus_subscribe(p.a, "large", measure, NULL, NULL), 0);
	ck_eventually((bus_publish(p.a, "x", "1", 1), heard.count > 0));
	ck_eventually((bus_publish(p.b, "large", data, 1), longest > 0));
	ck_bus(bus_publish(p.b, "large", data, LARGE), 0);
	ck_eventually(longest == LARGE);
	for (unsigned i = 0; i < SMALL; i++)
		ck_bus(bus_publish(p.a, "x", &i, sizeof i), 0);
	ck_bus(bus_publish(p.a, "last", "", 0), 0);
	ck_eventually(last.count > 0);
	pair_close(&p);
}
END_TEST

/* --- strangers ------------------------------------------------------------------------------------------------------------------ */

START_TEST(clear_text_to_a_port_of_tls_is_refused)
{
	struct bus *bus = open_bus();
	char url[256];
	struct bus_link *link = listen_with(bus, NULL, url);
	int fd = connect_to(url);

	say(fd, "GET / HTTP/1.1\r\n\r\n", 18);
	await_end(fd);
	ck_eventually(refused(link) == 1);
	ck_assert_int_eq(stats_of(link).last_error, BUS_E_TLS);
	bus_link_close(link);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(tls_to_a_clear_text_port_answers_not_libbus)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	char url[256];

	tls_url();
	ck_bus(bus_listen(p.a, listen_url(2), NULL, &p.la), 0);
	ck_assert_int_gt(bus_link_url(p.la, p.url, sizeof p.url), 0);
	snprintf(url, sizeof url, "tls%s", strchr(p.url, ':'));
	ck_bus(bus_dial(p.b, url, NULL, &p.lb), 0);
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_NOT_LIBBUS] > 0);
	ck_eventually(stats_of(p.lb).last_error != 0);
	ck_assert(!is_up(p.lb));
	pair_close(&p);
}
END_TEST

START_TEST(a_peer_that_vanishes_in_the_handshake_leaves_nothing)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	unsigned char flight[1024];
	size_t len;

	p.la = listen_with(p.a, NULL, p.url);
	len = first_flight(flight);
	for (size_t i = 0; i < 100; i++) {
		int fd = connect_to(p.url);

		say(fd, flight, i % 4 == 0 ? len : 1 + i * len / 100);
		close(fd);
	}
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_GONE] == 100);
	ck_bus(bus_dial(p.b, p.url, NULL, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	pair_close(&p);
}
END_TEST

START_TEST(a_peer_that_stops_in_the_handshake_is_ended_in_time)
{
	struct bus *bus = open_bus();
	char url[256];
	struct bus_link *link;
	unsigned char flight[1024];
	size_t len;
	int fd;

	atomic_store(&bus__handshake_ms, 100);
	link = listen_with(bus, NULL, url);
	len = first_flight(flight);
	fd = connect_to(url);
	say(fd, flight, len);
	await_end(fd);
	ck_eventually(stats_of(link).ended[BUS_LINK_END_SILENT] == 1);
	bus_link_close(link);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- many at once --------------------------------------------------------------------------------------------------------------- */

enum { MANY = 100 };

START_TEST(a_hundred_handshakes_at_once_all_end_well)
{
	struct bus *a = open_bus(), *b[MANY];
	struct bus_link *la, *lb[MANY];
	const struct bus_link_config cfg = {.size = sizeof cfg, .heartbeat_ms = 3600000};
	char url[256];

	/* Under a sanitizer they take longer than the time of one. */
	atomic_store(&bus__handshake_ms, patience_ms());
	la = listen_with(a, &cfg, url);
	for (int i = 0; i < MANY; i++) {
		b[i] = open_bus();
		ck_bus(bus_dial(b[i], url, &cfg, &lb[i]), 0);
	}
	for (int i = 0; i < MANY; i++)
		ck_eventually(is_up(lb[i]));
	ck_eventually(stats_of(la).peers == MANY);
	for (int i = 0; i < MANY; i++) {
		bus_link_close(lb[i]);
		ck_bus(bus_close(b[i], 0), 0);
	}
	bus_link_close(la);
	ck_bus(bus_close(a, 0), 0);
}
END_TEST

/* More silent peers than concurrent handshakes: they stop in the middle, and the honest peer still joins. */
START_TEST(peers_that_stop_in_a_handshake_keep_no_other_out)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};
	int fds[2 * BUS__TLS_HANDSHAKES];
	enum { STOPPED = sizeof fds / sizeof fds[0] };
	unsigned char flight[1024];
	size_t len;

	atomic_store(&bus__handshake_ms, patience_ms());
	atomic_store(&bus__tls_patience_ms, 50);
	p.la = listen_with(p.a, NULL, p.url);
	len = first_flight(flight);
	for (int i = 0; i < STOPPED; i++) {
		fds[i] = connect_to(p.url);
		say(fds[i], flight, len);
	}
	ck_bus(bus_dial(p.b, p.url, NULL, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	ck_eventually(refused(p.la) >= STOPPED - BUS__TLS_HANDSHAKES);
	for (int i = 0; i < STOPPED; i++)
		close(fds[i]);
	pair_close(&p);
}
END_TEST

/* A closing bus does not wait for them, and leaves nothing of theirs: AddressSanitizer checks. */
START_TEST(handshakes_under_way_end_with_the_bus)
{
	unsigned char flight[1024];
	size_t len;

	tls_url();
	len = first_flight(flight);
	for (int round = 0; round < 20; round++) {
		struct pair p = {.a = open_bus(), .b = open_bus()};
		int fds[8];

		p.la = listen_with(p.a, NULL, p.url);
		for (int i = 0; i < 8; i++) {
			fds[i] = connect_to(p.url);
			say(fds[i], flight, len / (size_t)(1 + (i + round) % 3));
		}
		ck_bus(bus_dial(p.b, p.url, NULL, &p.lb), 0);
		if (round % 2 == 0)
			ck_eventually(stats_of(p.la).peers == 1);
		ck_assert_int_ge(bus_close(p.a, 0), 0);
		ck_assert_int_ge(bus_close(p.b, 0), 0);
		bus_link_close(p.la);
		bus_link_close(p.lb);
		for (int i = 0; i < 8; i++)
			close(fds[i]);
	}
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("links over TLS");

	BUS_TEST_CASE(suite, "refusals", a_dialler_refuses_a_server_of_another_ca,
	    a_listener_with_a_ca_takes_only_peers_with_a_certificate, keys_join_two_buses,
	    files_that_are_read_again_hold_for_the_next_connection,
	    a_file_that_is_missing_is_named_by_the_call,
	    a_large_message_and_many_small_ones_arrive);
	BUS_TEST_CASE(suite, "strangers", clear_text_to_a_port_of_tls_is_refused,
	    tls_to_a_clear_text_port_answers_not_libbus,
	    a_peer_that_vanishes_in_the_handshake_leaves_nothing,
	    a_peer_that_stops_in_the_handshake_is_ended_in_time);
	BUS_TEST_CASE(suite, "many", a_hundred_handshakes_at_once_all_end_well,
	    peers_that_stop_in_a_handshake_keep_no_other_out,
	    handshakes_under_way_end_with_the_bus);
	return suite;
}
