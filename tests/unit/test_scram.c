/* The exchange of SCRAM-SHA-512, and hostile messages. tests/python/test_scram.py compares it with another
 * implementation. */
#include "access_test.h"

#include "access/scram.h"
#include "base/base64.h"

/* The messages of one exchange, in order; each in a block of exactly its size. */
enum { CLIENT_FIRST, SERVER_FIRST, CLIENT_FINAL, SERVER_FINAL, MESSAGES };

struct message {
	char bytes[BUS__SCRAM_MESSAGE];
	int len; /* or the error of the step that makes it */
};

struct exchange {
	const struct bus__users *users;
	struct bus__scram_client client;
	struct bus__scram_server server;
	struct message messages[MESSAGES];
	int verified; /* the result of the last step */
};

/* The same random bytes in each exchange, so that all exchanges are alike. */
static const uint8_t client_random[BUS__SCRAM_RANDOM] = "client's twenty-four by",
		     server_random[BUS__SCRAM_RANDOM] = "server's twenty-four by";

static struct bus__users *
users_of(const char *text)
{
	struct bus__users *users;

	ck_bus(bus__users_load(write_users(text), &users), 0);
	return users;
}

/* The last answer of PBKDF2: thousands of exchanges ask the same. */
static void
cached_keys(
    const char *password, const struct bus__salting *salting, struct bus__scram_keys *ret_keys)
{
	static struct bus__salting last_salting;
	static char last_password[64];
	static struct bus__scram_keys last;

	if (memcmp(&last_salting, salting, sizeof *salting) != 0 ||
	    strcmp(last_password, password) != 0) {
		keys_of(password, salting, &last);
		last_salting = *salting;
		snprintf(last_password, sizeof last_password, "%s", password);
	}
	*ret_keys = last;
}

/* Gives a message to a step in a block of exactly its size, so that a sanitizer sees an overrun. */
static char *
block_of(const char *bytes, int len)
{
	char *block = malloc((size_t)len + 1);

	block[len] = '?';
	memcpy(block, bytes, (size_t)len);
	return realloc(block, len > 0 ? (size_t)len : 1);
}

/* Runs the step `at`, which makes the message `at` from the one before. */
static void
step(struct exchange *x, int at, const char *user, const char *password)
{
	struct message *made = at < MESSAGES ? &x->messages[at] : NULL;
	char *in = at > 0 ? block_of(x->messages[at - 1].bytes, x->messages[at - 1].len) : NULL;
	size_t len = at > 0 ? (size_t)x->messages[at - 1].len : 0;
	struct bus__scram_keys keys;

	switch (at) {
	case CLIENT_FIRST:
		made->len =
		    bus__scram_client_first_with(&x->client, user, client_random, made->bytes);
		break;
	case SERVER_FIRST:
		made->len = bus__scram_server_first_with(
		    &x->server, x->users, in, len, server_random, made->bytes);
		break;
	case CLIENT_FINAL:
		made->len = bus__scram_client_challenge(&x->client, in, len);
		if (made->len < 0)
			break;
		cached_keys(password, &x->client.salting, &keys);
		made->len = bus__scram_client_final(&x->client, &keys, made->bytes);
		break;
	case SERVER_FINAL:
		made->len = bus__scram_server_final(&x->server, in, len, made->bytes);
		break;
	default:
		x->verified = bus__scram_client_verify(&x->client, in, len);
	}
	free(in);
}

/* Runs the exchange from step `at` on, and returns the error that ended it, or 0. */
static int
run_from(struct exchange *x, int at, const char *user, const char *password)
{
	for (; at < MESSAGES; at++) {
		step(x, at, user, password);
		if (x->messages[at].len < 0)
			return x->messages[at].len;
	}
	step(x, MESSAGES, user, password);
	return x->verified;
}

static int
run(struct exchange *x, const struct bus__users *users, const char *user, const char *password)
{
	memset(x, 0, sizeof *x);
	x->users = users;
	return run_from(x, CLIENT_FIRST, user, password);
}

/* --- the exchange ------------------------------------------------------------------------------------------------------- */

START_TEST(both_sides_learn_that_the_other_knows_the_password)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange x;

	ck_bus(run(&x, users, "pico", "pencil"), 0);
	ck_assert_int_eq(x.client.reason, BUS__SCRAM_OK);
	ck_assert_int_eq(x.server.reason, BUS__SCRAM_OK);
	ck_assert_str_eq(x.server.name, "pico");
	ck_assert_ptr_eq(x.server.user, bus__users_find(users, "pico", 4));
	bus__users_drop(users);
}
END_TEST

START_TEST(wrong_password_is_refused_at_the_proof)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange x;

	ck_bus(run(&x, users, "pico", "pencils"), BUS_E_AUTH);
	ck_bus(x.messages[SERVER_FINAL].len, BUS_E_AUTH);
	ck_assert_int_eq(x.server.reason, BUS__SCRAM_WRONG_PASSWORD);
	bus__users_drop(users);
}
END_TEST

START_TEST(an_unknown_user_is_refused_where_a_wrong_password_is)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange known, unknown, again, other;

	ck_bus(run(&known, users, "pico", "wrong"), BUS_E_AUTH);
	ck_bus(run(&unknown, users, "nano", "wrong"), BUS_E_AUTH);
	ck_assert_int_eq(unknown.server.reason, BUS__SCRAM_UNKNOWN_USER);
	ck_assert_str_eq(unknown.server.name, "nano");
	ck_assert_ptr_null(unknown.server.user);
	ck_bus(unknown.messages[SERVER_FINAL].len, known.messages[SERVER_FINAL].len);
	ck_assert_int_eq(unknown.messages[SERVER_FIRST].len, known.messages[SERVER_FIRST].len);
	ck_assert_uint_eq(unknown.client.salting.iterations, known.client.salting.iterations);

	ck_bus(run(&again, users, "nano", "wrong"), BUS_E_AUTH);
	ck_bus(run(&other, users, "zero", "wrong"), BUS_E_AUTH);
	ck_assert_mem_eq(
	    &again.client.salting, &unknown.client.salting, sizeof again.client.salting);
	ck_assert_mem_ne(
	    &other.client.salting, &unknown.client.salting, sizeof other.client.salting);
	bus__users_drop(users);
}
END_TEST

START_TEST(a_file_without_users_knows_no_user)
{
	struct bus__users *users = users_of("");
	struct exchange x;

	ck_bus(run(&x, users, "pico", "pencil"), BUS_E_AUTH);
	ck_assert_int_eq(x.server.reason, BUS__SCRAM_UNKNOWN_USER);
	ck_assert_uint_eq(x.client.salting.iterations, BUS__ITERATIONS);
	ck_assert_uint_eq(x.client.salting.salt_len, BUS__NEW_SALT);
	bus__users_drop(users);
}
END_TEST

START_TEST(names_with_commas_and_equals_signs_are_escaped)
{
	static const char *const names[] = {"a,b", "a=b", "=2C", "==,,==", "größer", "a b",
	    "\"%s\"", ",", "=", "0123456789,123456789=123456789,123456789=123456789,1234567890123"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct bus__users *users = users_of(line_of(names[i], "pencil", false));
		struct exchange x;

		ck_bus(run(&x, users, names[i], "pencil"), 0);
		ck_assert_str_eq(x.server.name, names[i]);
		bus__users_drop(users);
	}
}
END_TEST

START_TEST(a_dialler_gives_no_name_that_is_none)
{
	static const char *const names[] = {"", "a:b", "a/b", "a+", "#", "$a", " a", "a ", "a\n",
	    "\xff", "0123456789012345678901234567890123456789012345678901234567890123x"};
	struct bus__scram_client client;
	char message[BUS__SCRAM_MESSAGE];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		ck_bus(bus__scram_client_first(&client, names[i], message), BUS_E_INVAL);
		ck_bus(bus__scram_client_challenge(&client, "", 0), BUS_E_STATE);
	}
}
END_TEST

START_TEST(nonces_are_new_each_time)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct bus__scram_client client;
	struct bus__scram_server server;
	struct message first[2], challenge[2];

	for (int i = 0; i < 2; i++) {
		first[i].len = bus__scram_client_first(&client, "pico", first[i].bytes);
		ck_assert_int_gt(first[i].len, 0);
		/* To the same message, so that only the listener's nonce may differ. */
		challenge[i].len = bus__scram_server_first(
		    &server, users, first[0].bytes, (size_t)first[0].len, challenge[i].bytes);
		ck_assert_int_gt(challenge[i].len, 0);
	}
	ck_assert_mem_ne(first[0].bytes, first[1].bytes, first[0].len);
	ck_assert_int_eq(challenge[0].len, challenge[1].len);
	ck_assert_mem_ne(challenge[0].bytes, challenge[1].bytes, challenge[0].len);
	bus__users_drop(users);
}
END_TEST

/* --- hostile messages --------------------------------------------------------------------------------------------------- */

/* Gives the receiver of the message `at` other bytes in its place, and continues. */
static int
with_other_bytes(const struct exchange *good, int at, const char *bytes, int len)
{
	struct exchange x = *good;

	memcpy(x.messages[at].bytes, bytes, (size_t)len);
	x.messages[at].len = len;
	return run_from(&x, at + 1, "pico", "pencil");
}

/* A copy of the exchange from when the message `at` was made. */
static struct exchange
until(const struct bus__users *users, int at)
{
	struct exchange x = {.users = users};

	for (int i = 0; i <= at; i++) {
		step(&x, i, "pico", "pencil");
		ck_assert_int_gt(x.messages[i].len, 0);
	}
	return x;
}

START_TEST(no_bit_of_a_message_may_flip)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange x = until(users, _i);
	int len = x.messages[_i].len;
	char bytes[BUS__SCRAM_MESSAGE];

	for (int bit = 0; bit < 8 * len; bit++) {
		memcpy(bytes, x.messages[_i].bytes, (size_t)len);
		bytes[bit / 8] ^= (char)(1 << bit % 8);
		if (with_other_bytes(&x, _i, bytes, len) >= 0)
			ck_abort_msg("message %d is accepted with bit %d flipped: %.*s", _i, bit,
			    len, bytes);
	}
	bus__users_drop(users);
}
END_TEST

START_TEST(no_message_may_be_cut_or_lengthened)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange x = until(users, _i);
	int len = x.messages[_i].len;
	char bytes[BUS__SCRAM_MESSAGE] = {0};

	for (int cut = 0; cut < len; cut++)
		if (with_other_bytes(&x, _i, x.messages[_i].bytes, cut) >= 0)
			ck_abort_msg("message %d is accepted when cut at %d", _i, cut);
	memcpy(bytes, x.messages[_i].bytes, (size_t)len);
	for (int c = 0; c < 256; c++) {
		bytes[len] = (char)c;
		if (with_other_bytes(&x, _i, bytes, len + 1) >= 0)
			ck_abort_msg("message %d is accepted with byte %d behind it", _i, c);
	}
	memset(bytes + len, 'A', sizeof bytes - (size_t)len);
	ck_assert_int_lt(with_other_bytes(&x, _i, bytes, sizeof bytes), 0);
	bus__users_drop(users);
}
END_TEST

START_TEST(a_message_of_another_step_is_refused)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));

	for (int at = 0; at < MESSAGES; at++) {
		struct exchange x = until(users, at), whole = until(users, SERVER_FINAL);

		for (int other = 0; other < MESSAGES; other++)
			if (other != at && with_other_bytes(&x, at, whole.messages[other].bytes,
					       whole.messages[other].len) >= 0)
				ck_abort_msg("message %d is accepted in place of %d", other, at);
	}
	bus__users_drop(users);
}
END_TEST

/* An eavesdropper on a successful exchange cannot open another one. */
START_TEST(a_replay_is_refused)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange heard = until(users, SERVER_FINAL);
	struct bus__scram_server server;
	struct bus__scram_client client;
	char message[BUS__SCRAM_MESSAGE];

	ck_assert_int_gt(bus__scram_server_first(&server, users, heard.messages[CLIENT_FIRST].bytes,
			     (size_t)heard.messages[CLIENT_FIRST].len, message),
	    0);
	ck_bus(bus__scram_server_final(&server, heard.messages[CLIENT_FINAL].bytes,
		   (size_t)heard.messages[CLIENT_FINAL].len, message),
	    BUS_E_PROTOCOL);
	ck_assert_int_gt(bus__scram_client_first(&client, "pico", message), 0);
	ck_bus(bus__scram_client_challenge(&client, heard.messages[SERVER_FIRST].bytes,
		   (size_t)heard.messages[SERVER_FIRST].len),
	    BUS_E_PROTOCOL);
	bus__users_drop(users);
}
END_TEST

START_TEST(an_engine_that_failed_or_ended_takes_nothing_more)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange x = until(users, CLIENT_FINAL);
	struct message *final = &x.messages[CLIENT_FINAL];
	char out[BUS__SCRAM_MESSAGE];
	struct bus__scram_keys keys = {0};

	ck_bus(bus__scram_server_final(&x.server, "x", 1, out), BUS_E_PROTOCOL);
	ck_bus(bus__scram_server_final(&x.server, final->bytes, (size_t) final->len, out),
	    BUS_E_STATE);
	ck_bus(bus__scram_client_verify(&x.client, "x", 1), BUS_E_PROTOCOL);
	ck_bus(bus__scram_client_verify(&x.client, "x", 1), BUS_E_STATE);

	x = until(users, SERVER_FINAL);
	ck_bus(bus__scram_server_final(&x.server, final->bytes, (size_t) final->len, out),
	    BUS_E_STATE);
	ck_bus(
	    bus__scram_client_challenge(&x.client, final->bytes, (size_t) final->len), BUS_E_STATE);
	ck_bus(bus__scram_client_final(&x.client, &keys, out), BUS_E_STATE);
	bus__scram_client_end(&x.client);
	bus__scram_server_end(&x.server);
	ck_bus(bus__scram_client_verify(&x.client, "x", 1), BUS_E_STATE);
	ck_bus(bus__scram_server_final(&x.server, "x", 1, out), BUS_E_STATE);
	bus__users_drop(users);
}
END_TEST

/* Every form of a first message other than the plain one. */
START_TEST(channel_binding_and_other_identities_are_refused)
{
	static const struct {
		const char *message;
		int want;
		enum bus__scram_reason reason;
	} cases[] = {
	    {"y,,n=pico,r=0123456789abcdef", BUS_E_AUTH, BUS__SCRAM_BINDING},
	    {"p=tls-unique,,n=pico,r=0123456789abcdef", BUS_E_AUTH, BUS__SCRAM_BINDING},
	    {"n,a=admin,n=pico,r=0123456789abcdef", BUS_E_AUTH, BUS__SCRAM_BINDING},
	    {"n,,m=1,n=pico,r=0123456789abcdef", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,n=pico,r=0123456789abcdef,x=1", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,n=pico,r=0123456789abcde", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,n=pico,r=0123456789 bcdef", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,n=pi=2co,r=0123456789abcdef", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,n=pi=,r=0123456789abcdef", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,n=,r=0123456789abcdef", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,r=0123456789abcdef,n=pico", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,n=pico", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"n,,", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	    {"GET / HTTP/1.1\r\n\r\n", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED},
	};
	struct bus__users *users = users_of(line_of("pico", "pencil", false));

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct bus__scram_server server;
		char message[BUS__SCRAM_MESSAGE];

		ck_bus(bus__scram_server_first(
			   &server, users, cases[i].message, strlen(cases[i].message), message),
		    cases[i].want);
		ck_assert_int_eq(server.reason, cases[i].reason);
		ck_assert_str_eq(server.name, "");
	}
	bus__users_drop(users);
}
END_TEST

START_TEST(another_binding_in_the_last_message_is_refused)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange x = until(users, CLIENT_FINAL);
	struct message *final = &x.messages[CLIENT_FINAL];
	char out[BUS__SCRAM_MESSAGE];

	memcpy(final->bytes, "c=eSws", 6); /* "y,," */
	ck_bus(
	    bus__scram_server_final(&x.server, final->bytes, (size_t) final->len, out), BUS_E_AUTH);
	ck_assert_int_eq(x.server.reason, BUS__SCRAM_BINDING);
	bus__users_drop(users);
}
END_TEST

/* --- refusals by the dialler -------------------------------------------------------------------------------------------- */

static void
check_challenge(const char *rest, int want, enum bus__scram_reason reason)
{
	struct bus__scram_client client;
	char first[BUS__SCRAM_MESSAGE], message[2 * BUS__SCRAM_MESSAGE];
	int len = bus__scram_client_first(&client, "pico", first);
	const char *nonce;

	ck_assert_int_gt(len, 0);
	nonce = strstr(first, "r=") + 2;
	len = snprintf(message, sizeof message, "r=%.*s%s", (int)BUS__BASE64_LEN(BUS__SCRAM_RANDOM),
	    nonce, rest);
	ck_bus(bus__scram_client_challenge(&client, message, (size_t)len), want);
	ck_assert_int_eq(client.reason, reason);
}

#define NONCE "0123456789abcdef"
#define SALT  ",s=MDEyMzQ1Njc4OWFiY2RlZg=="

START_TEST(a_listener_cannot_ask_for_too_few_iterations_nor_burn_the_cpu)
{
	check_challenge(NONCE SALT ",i=4096", 0, BUS__SCRAM_OK);
	check_challenge(NONCE SALT ",i=1000000", 0, BUS__SCRAM_OK);
	check_challenge(NONCE SALT ",i=4095", BUS_E_AUTH, BUS__SCRAM_FEW_ITERATIONS);
	check_challenge(NONCE SALT ",i=1", BUS_E_AUTH, BUS__SCRAM_FEW_ITERATIONS);
	check_challenge(NONCE SALT ",i=1000001", BUS_E_AUTH, BUS__SCRAM_MANY_ITERATIONS);
	check_challenge(NONCE SALT ",i=999999999", BUS_E_AUTH, BUS__SCRAM_MANY_ITERATIONS);
	check_challenge(NONCE SALT ",i=4294971392", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge(NONCE SALT ",i=0", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge(NONCE SALT ",i=-4096", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge(NONCE SALT ",i=04096", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge(NONCE SALT ",i=", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
}
END_TEST

START_TEST(a_challenge_needs_a_salt_and_a_nonce_that_extends_ours)
{
	check_challenge(SALT ",i=4096", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge("0123456789abcde" SALT ",i=4096", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge(NONCE ",s=,i=4096", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge(NONCE ",s=MDEy*,i=4096", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge(NONCE ",i=4096", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge(NONCE SALT ",i=4096,x=1", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
	check_challenge("", BUS_E_PROTOCOL, BUS__SCRAM_MALFORMED);
}
END_TEST

START_TEST(a_listener_without_the_password_is_noticed)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange x = until(users, SERVER_FINAL);
	char lie[BUS__BASE64_LEN(BUS__SHA512) + 2] = "v=";
	uint8_t zeros[BUS__SHA512] = {0};

	ck_bus(bus__scram_client_verify(
		   &x.client, lie, 2 + bus__base64_write(zeros, sizeof zeros, lie + 2)),
	    BUS_E_AUTH);
	ck_assert_int_eq(x.client.reason, BUS__SCRAM_NOT_THE_SERVER);
	bus__users_drop(users);
}
END_TEST

START_TEST(a_refusal_by_the_listener_has_its_own_reason)
{
	struct bus__users *users = users_of(line_of("pico", "pencil", false));
	struct exchange x = until(users, CLIENT_FINAL);

	ck_bus(bus__scram_client_verify(&x.client, "e=invalid-proof", 15), BUS_E_AUTH);
	ck_assert_int_eq(x.client.reason, BUS__SCRAM_REFUSED);
	bus__users_drop(users);
}
END_TEST

/* --- entries that every client refuses ------------------------------------------------------------------------------------ */

/* As mosquitto_passwd makes it: 101 iterations. */
#define OF_MOSQUITTO                                                                               \
	"pico:$7$101$di629FYXE12bK/9K$YCAEz2RyeBokW49AA/cCEMRM1UuTJ6a4MG14QsdyWX3KWToHxauQU8A9mShmDockhVUwuqskA5Ehz4pOQAodrg=="

START_TEST(an_entry_with_few_iterations_looks_like_an_unknown_user_except_in_our_log)
{
	struct bus__users *users = users_of(OF_MOSQUITTO "\n");
	struct exchange x;

	ck_bus(run(&x, users, "pico", "päss word"), BUS_E_AUTH);
	ck_bus(x.messages[SERVER_FINAL].len, BUS_E_AUTH);
	ck_assert_int_eq(x.server.reason, BUS__SCRAM_WEAK_ENTRY);
	ck_assert_uint_eq(x.client.salting.iterations, BUS__ITERATIONS);
	bus__users_drop(users);
}
END_TEST

START_TEST(every_reason_has_a_text)
{
	for (int i = 0; i < BUS__SCRAM_REASONS; i++)
		ck_assert_uint_gt(strlen(bus__scram_text((enum bus__scram_reason)i)), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("scram");
	TCase *messages = bus_test_case("messages");

	BUS_TEST_CASE(suite, "exchange", both_sides_learn_that_the_other_knows_the_password,
	    wrong_password_is_refused_at_the_proof,
	    an_unknown_user_is_refused_where_a_wrong_password_is,
	    a_file_without_users_knows_no_user, names_with_commas_and_equals_signs_are_escaped,
	    a_dialler_gives_no_name_that_is_none, nonces_are_new_each_time);
	bus_test_add_loop(messages, no_bit_of_a_message_may_flip, 0, MESSAGES);
	bus_test_add_loop(messages, no_message_may_be_cut_or_lengthened, 0, MESSAGES);
	suite_add_tcase(suite, messages);
	BUS_TEST_CASE(suite, "strangers", a_message_of_another_step_is_refused, a_replay_is_refused,
	    an_engine_that_failed_or_ended_takes_nothing_more,
	    channel_binding_and_other_identities_are_refused,
	    another_binding_in_the_last_message_is_refused);
	BUS_TEST_CASE(suite, "dialler",
	    a_listener_cannot_ask_for_too_few_iterations_nor_burn_the_cpu,
	    a_challenge_needs_a_salt_and_a_nonce_that_extends_ours,
	    a_listener_without_the_password_is_noticed,
	    a_refusal_by_the_listener_has_its_own_reason);
	BUS_TEST_CASE(suite, "entries",
	    an_entry_with_few_iterations_looks_like_an_unknown_user_except_in_our_log,
	    every_reason_has_a_text);
	return suite;
}
