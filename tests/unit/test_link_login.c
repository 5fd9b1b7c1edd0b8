/* Users on links: a peer with the password joins, and no other does, whatever it sends instead. */
#define _GNU_SOURCE
#include "link_test.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "access/scram.h"
#include "login_test.h"
#include "raw_peer.h"
#include "transport_test.h"

#define PATIENT .heartbeat_ms = 3600000

static const char *
users_file(void)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/users", bus_test_dir());
	return path;
}

/* Listens with the present users file. */
static void
listen_guarded(struct pair *p, int i)
{
	const struct bus_link_config cfg = {
	    .size = sizeof cfg, PATIENT, .users_file = users_file()};

	bus_link_close(p->la);
	ck_bus(bus_listen(p->a, listen_url(i), &cfg, &p->la), 0);
	ck_assert_int_gt(bus_link_url(p->la, p->url, sizeof p->url), 0);
}

/* A bus with users: pico, whose password is "leek soup". */
static void
open_guarded(struct pair *p, int i)
{
	unlink(users_file());
	add_user(users_file(), "pico", "leek soup");
	*p = (struct pair){.a = open_bus(), .b = open_bus()};
	listen_guarded(p, i);
}

START_TEST(peer_with_the_password_is_linked)
{
	struct heard heard = {.count = 0}, back = {.count = 0};
	struct pair p;

	open_guarded(&p, _i);
	ck_bus(bus_subscribe(p.a, "up", hear, &heard, NULL), 0);
	ck_bus(bus_subscribe(p.b, "down", hear, &back, NULL), 0);
	p.lb = dial_as(p.b, p.url, "pico", "leek soup");
	ck_eventually(is_up(p.lb));
	publish_text(p.b, "up", "1");
	publish_text(p.a, "down", "1");
	ck_eventually(heard.count == 1 && back.count == 1);
	ck_assert_int_eq(stats_of(p.lb).last_error, 0);
	pair_end(&p);
}
END_TEST

START_TEST(users_log_in_over_a_registered_transport_too)
{
	const struct bus_link_config cfg = {
	    .size = sizeof cfg, PATIENT, .users_file = users_file()};
	struct pair p = {.a = open_bus(), .b = open_bus()};

	add_user(users_file(), "pico", "leek soup");
	be_wild();
	ck_bus(bus_listen(p.a, "wild://here", &cfg, &p.la), 0);
	p.lb = dial_as(p.b, "wild://here", "pico", "onion");
	ck_eventually(stats_of(p.lb).last_error == BUS_E_AUTH);
	ck_assert_uint_eq(stats_of(p.la).peers, 0);
	bus_link_close(p.lb);
	p.lb = dial_as(p.b, "wild://here", "pico", "leek soup");
	ck_eventually(is_up(p.lb));
	pair_end(&p);
}
END_TEST

static const struct {
	const char *user, *password;
} strangers[] = {
    {"pico", "leek soup "},
    {"pico", "Leek soup"},
    {"pic", "leek soup"},
    {"nobody", "leek soup"},
    {NULL, NULL},
};

START_TEST(peer_without_it_is_refused_counted_and_always_gets_the_same_answer)
{
	const size_t i = (size_t)_i;
	struct heard heard = {.count = 0};
	struct pair p;

	open_guarded(&p, 2);
	ck_bus(bus_subscribe(p.a, "#", hear, &heard, NULL), 0);
	p.lb = dial_as(p.b, p.url, strangers[i].user, strangers[i].password);
	publish_text(p.b, "up", "1");
	ck_eventually(stats_of(p.lb).last_error == BUS_E_AUTH);
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_AUTH] > 0 ||
		      stats_of(p.lb).ended[BUS_LINK_END_AUTH] > 0);
	ck_assert(!is_up(p.lb));
	ck_assert_uint_eq(stats_of(p.la).peers, 0);
	ck_assert_uint_eq(heard.count, 0);
	pair_end(&p);
}
END_TEST

START_TEST(link_with_a_password_speaks_to_no_bus_that_cannot_prove_to_know_it)
{
	struct heard heard = {.count = 0};
	struct pair p = {.a = open_bus(), .b = open_bus()};

	ck_bus(bus_subscribe(p.a, "#", hear, &heard, NULL), 0);
	ck_bus(bus_listen(p.a, listen_url(2), NULL, &p.la), 0);
	ck_assert_int_gt(bus_link_url(p.la, p.url, sizeof p.url), 0);
	p.lb = dial_as(p.b, p.url, "pico", "leek soup");
	ck_eventually(stats_of(p.lb).ended[BUS_LINK_END_AUTH] > 0);
	ck_assert_int_eq(stats_of(p.lb).last_error, BUS_E_AUTH);
	publish_text(p.b, "up", "1");
	ck_assert_int_eq(bus_flush(p.b, 1000), 0);
	ck_assert_uint_eq(heard.count, 0);
	pair_end(&p);
}
END_TEST

/* --- bytes in place of a password -------------------------------------------------------------------------------- */

static bool is_slow;

/* Sends the gathered bytes, at once or one by one. */
static bool
flush(struct raw_peer *peer)
{
	const size_t len = peer->len;

	if (!is_slow)
		return raw_flush(peer);
	for (size_t i = 0; i < len; i++)
		if (send(peer->fd, peer->buf + i, 1, MSG_NOSIGNAL) != 1)
			return false;
	peer->len = 0;
	return true;
}

/* Reads one frame into peer->buf. false: the connection ended. */
static bool
read_frame(struct raw_peer *peer, size_t skip, struct bus__frame *ret_frame)
{
	uint8_t head[BUS__FRAME_HEAD];

	if (skip > 0)
		ck_assert_int_ge(recv(peer->fd, peer->buf, skip, MSG_WAITALL), 0);
	if (recv(peer->fd, head, sizeof head, MSG_WAITALL) != sizeof head)
		return false;
	memcpy(peer->buf, head, sizeof head);
	ck_bus(bus__frame_read(peer->buf, sizeof head, true, 1 << 20, ret_frame), 0);
	/* For an empty body recv() would wait for the next frame. */
	return ret_frame->len == 0 || recv(peer->fd, peer->buf + sizeof head, ret_frame->len,
					  MSG_WAITALL) == (ssize_t)ret_frame->len;
}

static uint64_t features; /* of raw peers */

static void
greet(struct raw_peer *peer, const char *url, const char *id)
{
	struct bus__hello hello = {
	    .max_payload = 1 << 20, .heartbeat_ms = 3600000, .features = features};
	uint8_t bytes[BUS__FRAME_HEAD + BUS__HELLO];
	struct bus__frame frame;

	peer->len = 0;
	peer->fd = raw_connect(url);
	ck_assert_int_ge(peer->fd, 0);
	memset(peer->id, 'x', sizeof peer->id);
	memcpy(peer->id, id, strlen(id));
	memcpy(hello.id, peer->id, sizeof hello.id);
	raw_bytes(peer, bytes, bus__preamble_write(bytes));
	raw_bytes(peer, bytes, bus__hello_write(bytes, &hello));
	ck_assert(flush(peer));
	ck_assert(read_frame(peer, BUS__PREAMBLE, &frame));
	ck_assert_int_eq(frame.kind, BUS__FRAME_HELLO);
	ck_assert_uint_eq(frame.body[28] & 1, 1); /* AUTH is needed */
}

static bool
is_ended(struct raw_peer *peer)
{
	uint8_t byte;

	/* BYE and the end, or the end alone. */
	shutdown(peer->fd, SHUT_WR);
	while (recv(peer->fd, &byte, 1, 0) > 0)
		;
	close(peer->fd);
	return true;
}

/* The first half of the exchange as a client. false: no challenge arrived. */
static bool
ask_in(struct raw_peer *peer, const char *user, struct bus__scram_client *client)
{
	char message[BUS__SCRAM_MESSAGE];
	struct bus__frame frame;
	int len = bus__scram_client_first(client, user, message);

	raw_frame(peer, BUS__FRAME_AUTH, 0, message, (size_t)len);
	ck_assert(flush(peer));
	if (!read_frame(peer, 0, &frame) || frame.kind != BUS__FRAME_AUTH)
		return false;
	ck_bus(bus__scram_client_challenge(client, peer->buf + BUS__FRAME_HEAD, frame.len), 0);
	return true;
}

/* The other half, in which `spoil` may change the proof. */
static bool
prove(struct raw_peer *peer, struct bus__scram_client *client, const char *password,
    void (*spoil)(char *message, int *len, int at), int at)
{
	char message[BUS__SCRAM_MESSAGE];
	uint8_t salted[BUS__SHA512];
	struct bus__scram_keys keys;
	struct bus__frame frame;
	int len;

	ck_bus(bus__pbkdf2_sha512(password, strlen(password), client->salting.salt,
		   client->salting.salt_len, client->salting.iterations, NULL, NULL, salted),
	    0);
	ck_bus(bus__scram_keys(salted, &keys), 0);
	len = bus__scram_client_final(client, &keys, message);
	ck_assert_int_gt(len, 0);
	if (spoil != NULL)
		spoil(message, &len, at);
	peer->len = 0;
	raw_frame(peer, BUS__FRAME_AUTH, 0, message, (size_t)len);
	ck_assert(flush(peer));
	return read_frame(peer, 0, &frame) && frame.kind == BUS__FRAME_AUTH;
}

static bool
log_in(struct raw_peer *peer, const char *user, const char *password,
    void (*spoil)(char *message, int *len, int at), int at)
{
	struct bus__scram_client client = {.reason = BUS__SCRAM_OK};

	return ask_in(peer, user, &client) && prove(peer, &client, password, spoil, at);
}

/* JOIN and the rest up to READY, after a login. */
static void
join_raw(struct raw_peer *peer, uint64_t sequence)
{
	const struct bus__resume resume = {.id = 0};
	const struct bus__start start = {.id = sequence};
	uint8_t bytes[BUS__FRAME_HEAD + 64];

	raw_frame(peer, BUS__FRAME_JOIN, 0, NULL, 0);
	raw_bytes(peer, bytes, bus__resume_write(bytes, &resume));
	raw_bytes(peer, bytes, bus__start_write(bytes, &start));
	raw_frame(peer, BUS__FRAME_READY, 0, NULL, 0);
	ck_assert(flush(peer));
}

START_TEST(neither_join_nor_frames_without_sense_get_in_without_a_password)
{
	static const struct {
		enum bus__frame_kind kind;
		const char *body;
		enum bus_link_end end;
	} frames[] = {
	    {BUS__FRAME_JOIN, "", BUS_LINK_END_AUTH},
	    {BUS__FRAME_PING, "", BUS_LINK_END_PROTOCOL},
	    {BUS__FRAME_SUB, "#", BUS_LINK_END_PROTOCOL},
	    {BUS__FRAME_AUTH, "x", BUS_LINK_END_PROTOCOL},
	    {BUS__FRAME_AUTH, "n,,n=pico", BUS_LINK_END_PROTOCOL},
	    {BUS__FRAME_AUTH, "y,,n=pico,r=aaaaaaaaaaaaaaaaaaaaaaaa", BUS_LINK_END_AUTH},
	    {BUS__FRAME_AUTH, "n,a=other,n=pico,r=aaaaaaaaaaaaaaaaaaaaaaaa", BUS_LINK_END_AUTH},
	    {BUS__FRAME_AUTH, "n,,n=pi=2,r=aaaaaaaaaaaaaaaaaaaaaaaa", BUS_LINK_END_PROTOCOL},
	};
	struct pair p;

	open_guarded(&p, 2);
	for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
		struct bus_link_stats before = stats_of(p.la);
		struct raw_peer peer;

		greet(&peer, p.url, "stranger");
		raw_frame(&peer, frames[i].kind, 0, frames[i].body, strlen(frames[i].body));
		join_raw(&peer, i + 1);
		ck_assert(is_ended(&peer));
		ck_assert_msg(
		    stats_of(p.la).ended[frames[i].end] == before.ended[frames[i].end] + 1,
		    "case %zu has another end: %d", i, stats_of(p.la).last_error);
	}
	pair_end(&p);
}
END_TEST

static void
cut(char *message, int *len, int at)
{
	(void)message;
	*len = at;
}

static void
flip(char *message, int *len, int at)
{
	(void)len;
	message[at / 8] = (char)(message[at / 8] ^ 1 << at % 8);
}

/* Each attempt has its own user: a user that fails too often has to wait. */
static void
fail_to_log_in(struct pair *p, void (*spoil)(char *message, int *len, int at), int at)
{
	static struct raw_peer peer;
	struct bus_link_stats before = stats_of(p->la);
	char user[32];

	snprintf(user, sizeof user, "%s%d", spoil == cut ? "cut" : "flip", at);
	greet(&peer, p->url, "stranger");
	ck_assert(!log_in(&peer, user, "leek soup", spoil, at));
	close(peer.fd);
	ck_eventually(stats_of(p->la).ended[BUS_LINK_END_AUTH] +
			  stats_of(p->la).ended[BUS_LINK_END_PROTOCOL] ==
		      before.ended[BUS_LINK_END_AUTH] + before.ended[BUS_LINK_END_PROTOCOL] + 1);
}

START_TEST(no_flipped_bit_and_no_shorter_proof_gets_in)
{
	enum { PROOF = 150, CUTS = 7, FLIPS = 41 };
	static struct raw_peer peer;
	char user[32];
	struct pair p;

	open_guarded(&p, 1);
	for (int at = 1; at < PROOF; at += CUTS) {
		snprintf(user, sizeof user, "cut%d", at);
		add_user(users_file(), user, "leek soup");
	}
	for (int at = 0; at < PROOF * 8; at += FLIPS) {
		snprintf(user, sizeof user, "flip%d", at);
		add_user(users_file(), user, "leek soup");
	}
	listen_guarded(&p, 1);
	greet(&peer, p.url, "stranger");
	ck_assert(log_in(&peer, "cut1", "leek soup", NULL, 0));
	close(peer.fd);
	for (int at = 1; at < PROOF; at += CUTS)
		fail_to_log_in(&p, cut, at);
	for (int at = 0; at < PROOF * 8; at += FLIPS)
		fail_to_log_in(&p, flip, at);
	ck_assert_uint_eq(stats_of(p.la).peers, 0);
	pair_end(&p);
}
END_TEST

/* One client's messages are worthless in another connection, whose nonce differs. */
START_TEST(login_may_arrive_byte_by_byte)
{
	static struct raw_peer peer;
	struct pair p;

	open_guarded(&p, 1);
	is_slow = true;
	greet(&peer, p.url, "stranger");
	ck_assert(log_in(&peer, "pico", "leek soup", NULL, 0));
	join_raw(&peer, 1);
	ck_eventually(stats_of(p.la).peers == 1);
	is_slow = false;
	close(peer.fd);
	pair_end(&p);
}
END_TEST

START_TEST(replayed_login_is_refused)
{
	static struct raw_peer peer;
	struct bus__frame frame;
	char first[] = "n,,n=pico,r=rOprNGfwEbeRWgbNEkqO", final[512];
	struct pair p;
	int len;

	open_guarded(&p, 2);
	greet(&peer, p.url, "stranger");
	raw_frame(&peer, BUS__FRAME_AUTH, 0, first, strlen(first));
	ck_assert(flush(&peer));
	ck_assert(read_frame(&peer, 0, &frame));
	/* The nonce of that connection, and any proof. */
	len = snprintf(final, sizeof final,
	    "c=biws,%.*s,p=", (int)strcspn((char *)peer.buf + BUS__FRAME_HEAD, ","),
	    (char *)peer.buf + BUS__FRAME_HEAD);
	memset(final + len, 'A', 86);
	memcpy(final + len + 86, "==", 2);
	close(peer.fd);
	greet(&peer, p.url, "stranger");
	raw_frame(&peer, BUS__FRAME_AUTH, 0, first, strlen(first));
	raw_frame(&peer, BUS__FRAME_AUTH, 0, final, (size_t)len + 88);
	join_raw(&peer, 1);
	ck_assert(is_ended(&peer));
	ck_assert_uint_eq(stats_of(p.la).peers, 0);
	pair_end(&p);
}
END_TEST

START_TEST(user_who_knows_anothers_bus_id_takes_no_connection_from_it)
{
	static struct raw_peer first, other, again;
	struct pair p;

	open_guarded(&p, 2);
	add_user(users_file(), "mallory", "garlic");
	listen_guarded(&p, 2);
	greet(&first, p.url, "known id");
	ck_assert(log_in(&first, "pico", "leek soup", NULL, 0));
	join_raw(&first, 2);
	ck_eventually(stats_of(p.la).peers == 1);

	greet(&other, p.url, "known id");
	ck_assert(log_in(&other, "mallory", "garlic", NULL, 0));
	join_raw(&other, 3);
	ck_assert(is_ended(&other));
	ck_eventually(stats_of(p.la).ended[BUS_LINK_END_DENIED] == 1);
	ck_assert_uint_eq(stats_of(p.la).peers, 1);

	/* The same user's connection is replaced. */
	greet(&again, p.url, "known id");
	ck_assert(log_in(&again, "pico", "leek soup", NULL, 0));
	join_raw(&again, 4);
	ck_assert(is_ended(&first));
	ck_eventually(stats_of(p.la).peers == 1);
	close(again.fd);
	pair_end(&p);
}
END_TEST

/* Each had its challenge before the first of them failed. */
START_TEST(guesses_on_many_connections_wait_like_guesses_on_one)
{
	enum { GUESSES = 8, FREE = 5 };
	static struct raw_peer peers[GUESSES], owner;
	struct bus__scram_client clients[GUESSES] = {{.reason = BUS__SCRAM_OK}};
	struct pair p;

	open_guarded(&p, 1);
	for (int i = 0; i < GUESSES; i++) {
		greet(&peers[i], p.url, "stranger");
		ck_assert(ask_in(&peers[i], "pico", &clients[i]));
	}
	for (int i = 0; i < FREE; i++)
		ck_assert(!prove(&peers[i], &clients[i], "guess", NULL, 0));
	for (int i = FREE; i < GUESSES; i++)
		ck_assert(!prove(&peers[i], &clients[i], "leek soup", NULL, 0));
	for (int i = 0; i < GUESSES; i++)
		close(peers[i].fd);
	/* The wait is over. */
	ck_eventually((greet(&owner, p.url, "stranger"),
	    log_in(&owner, "pico", "leek soup", NULL, 0) || close(owner.fd) != 0));
	close(owner.fd);
	pair_end(&p);
}
END_TEST

START_TEST(two_links_with_a_password_to_one_bus_keep_one_connection)
{
	struct bus_link *second;
	struct heard heard = {.count = 0};
	struct pair p;

	open_guarded(&p, 2);
	ck_bus(bus_subscribe(p.a, "up", hear, &heard, NULL), 0);
	p.lb = dial_as(p.b, p.url, "pico", "leek soup");
	second = dial_as(p.b, p.url, "pico", "leek soup");
	ck_eventually((is_up(p.lb) && stats_of(second).ended[BUS_LINK_END_CLOSED] > 0) ||
		      (is_up(second) && stats_of(p.lb).ended[BUS_LINK_END_CLOSED] > 0));
	ck_assert_uint_eq(stats_of(p.la).peers, 1);
	ck_eventually((publish_text(p.b, "up", "1"), heard.count > 0));
	bus_link_close(second);
	ck_eventually((publish_text(p.b, "up", "1"), is_up(p.lb)));
	pair_end(&p);
}
END_TEST

/* Otherwise it could make its hubs take another bus's next messages for repetitions. */
START_TEST(only_a_peer_that_may_write_everything_speaks_for_other_buses)
{
	static const char rights[] =
	    "user pico\ntopic readwrite #\nuser guest\ntopic write guest/#\n";
	static const char *const users[] = {"pico", "guest"};
	static struct raw_peer peer;
	const uint8_t victim[BUS__BUS_ID] = "victim";
	const struct bus__lost lost = {
	    .at_least = true, .is_passed = true, .passed = bus__passed_make(victim, 1000, 1, 0)};
	char acl[300];
	struct bus_link_config cfg = {
	    .size = sizeof cfg, PATIENT, .users_file = users_file(), .acl_file = acl, .relays = 1};
	struct pair p;
	FILE *file;

	open_guarded(&p, 1);
	bus_link_close(p.la);
	add_user(users_file(), "guest", "leek soup");
	snprintf(acl, sizeof acl, "%s/acl", bus_test_dir());
	file = fopen(acl, "w");
	fputs(rights, file);
	fclose(file);
	ck_assert_int_eq(chmod(acl, 0600), 0);
	ck_bus(bus_listen(p.a, listen_url(1), &cfg, &p.la), 0);
	features = BUS__CAN_RELAY;
	for (uint64_t i = 0; i < 2; i++) {
		uint8_t bytes[BUS__LOST_MAX];

		greet(&peer, p.url, users[i]);
		ck_assert(log_in(&peer, users[i], "leek soup", NULL, 0));
		join_raw(&peer, i + 1);
		ck_eventually(stats_of(p.la).peers == 1);
		raw_bytes(&peer, bytes, bus__lost_passed_write(bytes, &lost));
		raw_frame(&peer, BUS__FRAME_PING, 0, NULL, 0);
		ck_assert(flush(&peer));
		if (i == 1)
			ck_eventually(stats_of(p.la).ended[BUS_LINK_END_PROTOCOL] == 1);
		ck_assert(is_ended(&peer));
		ck_eventually(stats_of(p.la).peers == 0);
		ck_assert_uint_eq(stats_of(p.la).ended[BUS_LINK_END_PROTOCOL], i);
	}
	features = 0;
	pair_end(&p);
}
END_TEST

/* --- the files ------------------------------------------------------------------------------------------------------ */

START_TEST(reload_lets_new_users_in_and_removed_ones_out)
{
	struct bus *second = open_bus();
	struct bus_link *late;
	struct pair p;

	open_guarded(&p, 2);
	p.lb = dial_as(p.b, p.url, "pico", "leek soup");
	ck_eventually(is_up(p.lb));
	unlink(users_file());
	add_user(users_file(), "nano", "onion");
	late = dial_as(second, p.url, "nano", "onion");
	ck_eventually(stats_of(late).last_error == BUS_E_AUTH);
	ck_bus(bus_link_reload(p.la), 0);
	ck_eventually(is_up(late));
	ck_eventually(!is_up(p.lb) && stats_of(p.lb).last_error == BUS_E_AUTH);
	bus_link_close(late);
	ck_assert_int_ge(bus_close(second, 5000), 0);
	pair_end(&p);
}
END_TEST

START_TEST(bad_file_is_named_at_the_reload_and_changes_nothing)
{
	struct pair p;
	FILE *file;

	open_guarded(&p, 2);
	p.lb = dial_as(p.b, p.url, "pico", "leek soup");
	ck_eventually(is_up(p.lb));
	file = fopen(users_file(), "a");
	fputs("not a user\n", file);
	fclose(file);
	ck_assert_int_eq(bus_link_reload(p.la), BUS_E_INVAL);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), users_file()));
	unlink(users_file());
	ck_assert_int_lt(bus_link_reload(p.la), 0);
	ck_assert(is_up(p.lb));
	pair_end(&p);
}
END_TEST

START_TEST(link_ends_while_its_password_is_hashed)
{
	struct pair p;

	open_guarded(&p, 2);
	for (int i = 0; i < 20; i++) {
		p.lb = dial_as(p.b, p.url, "pico", "leek soup");
		bus_link_close(p.lb);
	}
	p.lb = NULL;
	pair_end(&p);
}
END_TEST

START_TEST(settings_that_do_not_fit_are_refused_by_name)
{
	static const struct {
		bool dials;
		struct bus_link_config cfg;
		const char *word;
	} wrong[] = {
	    {true, {.user = "pico"}, "password"},
	    {true, {.password = "leek soup"}, "user"},
	    {true, {.user = "pi/co", .password = "x"}, "user"},
	    {true, {.user = "", .password = "x"}, "user"},
	    {true, {.user = "pico", .password = ""}, "password"},
	    {true, {.users_file = "users"}, "bus_listen"},
	    {true, {.acl_file = "acl"}, "bus_listen"},
	    {false, {.user = "pico", .password = "x"}, "bus_dial"},
	    {false, {.acl_file = "acl"}, "users_file"},
	    {false, {.users_file = "/nowhere/users"}, "/nowhere/users"},
	    {false, {.reserved = 1}, "reserved"},
	};
	struct bus *bus = open_bus();
	struct bus_link *link;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct bus_link_config cfg = wrong[i].cfg;
		int err;

		cfg.size = sizeof cfg;
		err = wrong[i].dials ? bus_dial(bus, "tcp://127.0.0.1:1", &cfg, &link)
				     : bus_listen(bus, "tcp://127.0.0.1:0", &cfg, &link);
		ck_assert_msg(err < 0, "case %zu was taken", i);
		ck_assert_msg(strstr(bus_error_text(), wrong[i].word) != NULL, "case %zu: %s", i,
		    bus_error_text());
		ck_assert_ptr_null(strstr(bus_error_text(), "leek soup"));
	}
	ck_assert_int_ge(bus_close(bus, 1000), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	static const TTest *const *const tests[] = {
	    &link_with_a_password_speaks_to_no_bus_that_cannot_prove_to_know_it,
	    &neither_join_nor_frames_without_sense_get_in_without_a_password,
	    &no_flipped_bit_and_no_shorter_proof_gets_in, &login_may_arrive_byte_by_byte,
	    &users_log_in_over_a_registered_transport_too, &replayed_login_is_refused,
	    &user_who_knows_anothers_bus_id_takes_no_connection_from_it,
	    &guesses_on_many_connections_wait_like_guesses_on_one,
	    &two_links_with_a_password_to_one_bus_keep_one_connection,
	    &only_a_peer_that_may_write_everything_speaks_for_other_buses,
	    &reload_lets_new_users_in_and_removed_ones_out,
	    &bad_file_is_named_at_the_reload_and_changes_nothing,
	    &link_ends_while_its_password_is_hashed, &settings_that_do_not_fit_are_refused_by_name};
	Suite *suite = suite_create("link login");
	TCase *tcase = bus_test_case("users");

	tcase_add_loop_test(tcase, peer_with_the_password_is_linked, 0, LINK_TEST_SCHEMES);
	tcase_add_loop_test(tcase,
	    peer_without_it_is_refused_counted_and_always_gets_the_same_answer, 0,
	    sizeof strangers / sizeof strangers[0]);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(tcase, *tests[i]);
	suite_add_tcase(suite, tcase);
	return suite;
}
