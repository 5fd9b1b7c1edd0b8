#define _GNU_SOURCE
/* The engine of TLS: two ends in memory, and the reasons that each gives for refusing a peer. */
#include "tls_test.h"

enum { MOST = 1 << 30 };

static struct tls_end server, client;

/* ca.pem signs server.pem, for pico.local and 192.168.1.4. */
static void
make_files(void)
{
	make_ca("ca");
	make_cert("server", "ca", "pico.local", "*.farm.local", "192.168.1.4", "fd00::4");
}

static struct bus__tls_settings
as_server(const char *cert, const char *ca)
{
	return (struct bus__tls_settings){.cert_file = pem(cert),
	    .key_file = key_of(cert),
	    .ca_file = ca != NULL ? pem(ca) : NULL};
}

static struct bus__tls_settings
as_client(const char *ca, const char *cert)
{
	return (struct bus__tls_settings){.dials = true,
	    .ca_file = pem(ca),
	    .cert_file = cert != NULL ? pem(cert) : NULL,
	    .key_file = cert != NULL ? key_of(cert) : NULL};
}

static void
open_ends(struct bus__tls_settings listens, struct bus__tls_settings dials, const char *host)
{
	end_open(&server, &listens, NULL);
	end_open(&client, &dials, host);
}

static void
close_ends(void)
{
	end_close(&server);
	end_close(&client);
}

static void
open_joined(size_t most)
{
	make_files();
	open_ends(as_server("server", NULL), as_client("ca", NULL), "pico.local");
	meet(&client, &server, most);
	ck_assert_int_eq(client.state, 1);
	ck_assert_int_eq(server.state, 1);
}

/* --- bytes ---------------------------------------------------------------------------------------------------------------------- */

static const size_t sizes[] = {1, 2, 255, 256, 257, 16383, 16384, 16385, 100000};

START_TEST(bytes_of_all_sizes_arrive_both_ways)
{
	unsigned char *data = malloc(100000);

	for (size_t i = 0; i < 100000; i++)
		data[i] = (unsigned char)(i * 7 + i / 251);
	open_joined(MOST);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		tell(&client, &server, data, sizes[i], MOST);
		tell(&server, &client, data, sizes[i], MOST);
		tell(&client, &server, data, sizes[i], 1000);
	}
	free(data);
	close_ends();
}
END_TEST

START_TEST(a_byte_at_a_time_is_as_good)
{
	static unsigned char data[20000];

	open_joined(1);
	tell(&client, &server, data, sizeof data, 1);
	tell(&server, &client, data, sizeof data, 1);
	close_ends();
}
END_TEST

START_TEST(ciphertext_does_not_show_the_plaintext)
{
	static const char secret[] = "the greenhouse door is open";
	size_t len;
	char *seen;

	open_joined(MOST);
	ck_assert_int_eq(bus__tls_write(client.tls, secret, sizeof secret), sizeof secret);
	seen = bus__tls_take(client.tls, &len);
	ck_assert_uint_gt(len, sizeof secret);
	ck_assert_ptr_null(memmem(seen, len, "greenhouse", 10));
	bus__free(seen);
	close_ends();
}
END_TEST

/* --- the end -------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_close_is_read_behind_the_data_before_it)
{
	char got[8];

	open_joined(MOST);
	ck_assert_int_eq(bus__tls_write(client.tls, "last", 4), 4);
	bus__tls_close(client.tls);
	carry(&client, &server);
	bus__tls_feed(server.tls, server.in, server.in_len);
	ck_assert_int_eq(bus__tls_read(server.tls, got, sizeof got), 4);
	ck_bus((int)bus__tls_read(server.tls, got, sizeof got), BUS_E_GONE);
	ck_bus((int)bus__tls_read(server.tls, got, sizeof got), BUS_E_GONE);
	close_ends();
}
END_TEST

START_TEST(a_changed_byte_ends_it)
{
	char got[64];

	open_joined(MOST);
	ck_assert_int_eq(bus__tls_write(client.tls, "hello", 5), 5);
	carry(&client, &server);
	server.in[server.in_len - 3] ^= 4;
	bus__tls_feed(server.tls, server.in, server.in_len);
	ck_bus((int)bus__tls_read(server.tls, got, sizeof got), BUS_E_TLS);
	ck_assert_str_ne(bus__tls_reason(server.tls), "");
	ck_bus((int)bus__tls_read(server.tls, got, sizeof got), BUS_E_TLS);
	ck_bus((int)bus__tls_write(server.tls, "more", 4), BUS_E_TLS);
	/* The peer gets the alert. */
	ck_assert_uint_gt(carry(&server, &client), 0);
	bus__tls_feed(client.tls, client.in, client.in_len);
	ck_bus((int)bus__tls_read(client.tls, got, sizeof got), BUS_E_TLS);
	ck_reason(&client, "the peer refused", "changed on the way");
	close_ends();
}
END_TEST

START_TEST(bytes_of_no_protocol_behind_the_handshake_end_it)
{
	static const char noise[] = "GET / HTTP/1.1\r\n\r\n";
	char got[64];

	open_joined(MOST);
	bus__tls_feed(server.tls, noise, sizeof noise);
	ck_bus((int)bus__tls_read(server.tls, got, sizeof got), BUS_E_TLS);
	ck_assert_str_ne(bus__tls_reason(server.tls), "");
	close_ends();
}
END_TEST

START_TEST(data_before_a_bad_record_is_delivered_first)
{
	char got[64];

	open_joined(MOST);
	ck_assert_int_eq(bus__tls_write(client.tls, "good", 4), 4);
	carry(&client, &server);
	ck_assert_int_eq(bus__tls_write(client.tls, "bad", 3), 3);
	carry(&client, &server);
	server.in[server.in_len - 1] ^= 1;
	bus__tls_feed(server.tls, server.in, server.in_len);
	ck_assert_int_eq(bus__tls_read(server.tls, got, sizeof got), 4);
	ck_bus((int)bus__tls_read(server.tls, got, sizeof got), BUS_E_TLS);
	close_ends();
}
END_TEST

/* --- identity of the peer ------------------------------------------------------------------------------------------------------- */

static void
refuses(struct tls_end *refuser, struct tls_end *other)
{
	meet(&client, &server, MOST);
	ck_bus(refuser->state, BUS_E_TLS);
	/* In TLS 1.3 a client's handshake ends before the server has checked it: the next read reports it. */
	if (other->state == 1) {
		char got[8];

		bus__tls_feed(other->tls, other->in, other->in_len);
		other->state = (int)bus__tls_read(other->tls, got, sizeof got);
	}
	ck_bus(other->state, BUS_E_TLS);
	ck_reason(other, "the peer refused: ");
}

static const char *const good_hosts[] = {
    "pico.local", "PICO.local", "a.farm.local", "192.168.1.4", "fd00::4", "fd00:0:0::4"};

START_TEST(names_and_addresses_of_the_certificate_are_good)
{
	make_files();
	open_ends(as_server("server", NULL), as_client("ca", NULL), good_hosts[_i]);
	meet(&client, &server, MOST);
	ck_assert_int_eq(client.state, 1);
	ck_assert_int_eq(server.state, 1);
	close_ends();
}
END_TEST

static const char *const bad_hosts[] = {"other.local", "pico.local.evil.org", "ico.local",
    "a.b.farm.local", "192.168.1.5", "192.168.1.40", "fd00::5", "::ffff:192.168.1.4"};

START_TEST(other_names_and_addresses_are_refused_with_both)
{
	make_files();
	open_ends(as_server("server", NULL), as_client("ca", NULL), bad_hosts[_i]);
	refuses(&client, &server);
	ck_reason(&client,
	    "certificate is for pico.local, *.farm.local, 192.168.1.4, fd00::4, not for ",
	    bad_hosts[_i]);
	close_ends();
}
END_TEST

START_TEST(another_ca_is_refused_with_its_name)
{
	make_files();
	make_ca("other");
	open_ends(as_server("server", NULL), as_client("other", NULL), "pico.local");
	refuses(&client, &server);
	ck_reason(&client, "signed by a CA \"ca\" that ca_file does not have", "other.pem");
	ck_reason(&server, "ca_file does not have the CA");
	close_ends();
}
END_TEST

START_TEST(a_ca_of_the_same_name_is_another_one)
{
	make_files();
	make("imposter", NULL, (struct bus__cert_order){.kind = BUS__CERT_CA, .name = "ca"});
	make_cert("false", "imposter", "pico.local");
	open_ends(as_server("false", NULL), as_client("ca", NULL), "pico.local");
	refuses(&client, &server);
	ck_reason(&client, "signed by a CA \"ca\" that ca_file does not have");
	close_ends();
}
END_TEST

START_TEST(an_expired_certificate_is_refused_with_its_date)
{
	static const char *const hosts[] = {"pico.local"};
	make_files();
	make("old", "ca",
	    (struct bus__cert_order){.kind = BUS__CERT_SERVER,
		.hosts = hosts,
		.host_count = 1,
		.from = 1704067200, /* 2024-01-01 */
		.to = 1735776000 /* 2025-01-02 */});
	open_ends(as_server("old", NULL), as_client("ca", NULL), "pico.local");
	refuses(&client, &server);
	ck_reason(&client, "certificate expired on 2025-01-02");
	close_ends();
}
END_TEST

START_TEST(a_certificate_of_the_future_is_refused_with_both_dates)
{
	static const char *const hosts[] = {"pico.local"};
	make_files();
	make("young", "ca",
	    (struct bus__cert_order){.kind = BUS__CERT_SERVER,
		.hosts = hosts,
		.host_count = 1,
		.from = 2114380800, /* 2037-01-01: a time_t may have 32 bits */
		.to = 2114467200});
	open_ends(as_server("young", NULL), as_client("ca", NULL), "pico.local");
	refuses(&client, &server);
	ck_reason(&client, "valid from 2037-01-01 on", "this machine's clock says 20");
	close_ends();
}
END_TEST

START_TEST(a_listener_with_a_ca_wants_a_certificate)
{
	make_files();
	open_ends(as_server("server", "ca"), as_client("ca", NULL), "pico.local");
	refuses(&server, &client);
	ck_reason(&server, "sent no certificate", "libbus cert client");
	close_ends();
}
END_TEST

START_TEST(a_listener_with_a_ca_takes_its_certificates)
{
	make_files();
	make_client("pi", "ca");
	open_ends(as_server("server", "ca"), as_client("ca", "pi"), "pico.local");
	meet(&client, &server, MOST);
	ck_assert_int_eq(server.state, 1);
	close_ends();
}
END_TEST

START_TEST(a_client_of_another_ca_is_refused)
{
	make_files();
	make_ca("other");
	make_client("stranger", "other");
	open_ends(as_server("server", "ca"), as_client("ca", "stranger"), "pico.local");
	refuses(&server, &client);
	ck_reason(&server, "signed by a CA \"other\" that ca_file does not have");
	close_ends();
}
END_TEST

START_TEST(a_servers_certificate_is_none_of_a_client)
{
	make_files();
	open_ends(as_server("server", "ca"), as_client("ca", "server"), "pico.local");
	refuses(&server, &client);
	ck_reason(&server, "not meant for a client");
	close_ends();
}
END_TEST

/* --- keys instead of certificates ----------------------------------------------------------------------------------------------- */

static struct bus__tls_settings
with_keys(const char *name, const char *text, bool dials)
{
	char *path = tls_path(name, ".psk");

	write_text(path, text, 0600);
	return (struct bus__tls_settings){.dials = dials, .psk_file = path};
}

#define KEY_A "000102030405060708090a0b0c0d0e0f"
#define KEY_B "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeffF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF"

START_TEST(keys_that_both_have_are_enough)
{
	open_ends(with_keys("server", "# two\npi:" KEY_A "\n \ntwo words:" KEY_B "\r\n", false),
	    with_keys("client", "two words:" KEY_B, true), "pico.local");
	meet(&client, &server, MOST);
	ck_assert_int_eq(client.state, 1);
	ck_assert_int_eq(server.state, 1);
	ck_assert_str_eq(bus__tls_identity(server.tls), "two words");
	tell(&client, &server, (const unsigned char *)"hello", 5, MOST);
	close_ends();
}
END_TEST

START_TEST(another_key_is_refused_with_its_identity)
{
	open_ends(with_keys("server", "pi:" KEY_A, false), with_keys("client", "pi:" KEY_B, true),
	    "pico.local");
	refuses(&server, &client);
	ck_reason(&server, "keys differ", "\"pi\"");
	ck_reason(&client, "keys differ");
	close_ends();
}
END_TEST

START_TEST(an_unknown_identity_is_refused)
{
	open_ends(with_keys("server", "pi:" KEY_A, false), with_keys("client", "pa:" KEY_A, true),
	    "pico.local");
	refuses(&server, &client);
	ck_reason(&server, "identity is not in psk_file");
	ck_reason(&client, "psk_file does not have this side's identity");
	close_ends();
}
END_TEST

START_TEST(keys_on_one_side_and_certificates_on_the_other_are_explained)
{
	make_files();
	open_ends(as_server("server", NULL), with_keys("client", "pi:" KEY_A, true), "pico.local");
	refuses(&server, &client);
	ck_reason(&server, "psk_file", "certificates");
	ck_reason(&client, "psk_file", "certificates");
	close_ends();
}
END_TEST

/* --- other protocols ------------------------------------------------------------------------------------------------------------ */

static const struct {
	const char *bytes, *words;
} foreign[] = {
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"},
    {"\xb5libbus\x04", "libbus in clear text"},
    {"\x10\x0c", "MQTT in clear text"},
    {"SSH-2.0-OpenSSH_9.2", "SSH"},
    {"hello there", "another protocol"},
};

START_TEST(another_protocol_is_named)
{
	make_files();
	open_ends(as_server("server", NULL), as_client("ca", NULL), "pico.local");
	end_hear(&server, foreign[_i].bytes, strlen(foreign[_i].bytes));
	shake(&server, MOST);
	ck_bus(server.state, BUS_E_TLS);
	ck_reason(&server, "does not speak TLS", foreign[_i].words);
	close_ends();
}
END_TEST

/* Each change of one bit, and every prefix, of a client's first flight is refused or waited for, without a read beyond it. */
START_TEST(any_bit_of_a_first_flight_may_be_wrong)
{
	unsigned char flight[1024];
	size_t len;

	make_files();
	open_ends(as_server("server", NULL), as_client("ca", NULL), "pico.local");
	shake(&client, MOST);
	carry(&client, &server);
	len = server.in_len;
	ck_assert_uint_lt(len, sizeof flight);
	memcpy(flight, server.in, len);
	close_ends();
	for (size_t i = 0; i < len * 8; i += 1 + i % 3) {
		const struct bus__tls_settings settings = as_server("server", NULL);

		end_open(&server, &settings, NULL);
		end_hear(&server, flight, len);
		server.in[i / 8] ^= (unsigned char)(1 << i % 8);
		shake(&server, MOST);
		ck_assert_int_ne(server.state, 1);
		end_close(&server);
	}
	for (size_t n = 0; n < len; n++) {
		const struct bus__tls_settings settings = as_server("server", NULL);

		end_open(&server, &settings, NULL);
		end_hear(&server, flight, n);
		shake(&server, MOST);
		ck_assert_int_eq(server.state, 0);
		end_close(&server);
	}
}
END_TEST

/* --- files ---------------------------------------------------------------------------------------------------------------------- */

#define ck_file(settings, ...)                                                                     \
	do {                                                                                       \
		const struct bus__tls_settings settings_ = (settings);                             \
		const char *const words_[] = {__VA_ARGS__};                                        \
		struct bus__tls_config *config_;                                                   \
		char reason_[BUS__TLS_REASON];                                                     \
		ck_bus(bus__tls_config_new(&settings_, &config_, reason_), BUS_E_TLS);             \
		for (size_t i_ = 0; i_ < sizeof words_ / sizeof words_[0]; i_++)                   \
			ck_assert_msg(strstr(reason_, words_[i_]) != NULL,                         \
			    "it says \"%s\", without \"%s\"", reason_, words_[i_]);                \
	} while (0)

START_TEST(a_file_that_cannot_be_used_is_named_with_the_reason)
{
	make_files();
	make_cert("second", "ca", "x");
	write_text(pem("noise"), "-----BEGIN CERTIFICATE-----\nAAAA\n", 0600);
	ck_file(as_server("none", NULL), "none.pem", "no such file", "libbus cert");
	ck_file(as_client("noise", NULL), "noise.pem", "not a certificate");
	ck_file(
	    ((struct bus__tls_settings){.cert_file = pem("server"), .key_file = key_of("second")}),
	    "second-key.pem", "this key belongs to another certificate");
	make_client("pi", "ca");
	ck_file(as_server("pi", NULL), "pi.pem", "not meant for a server");
	chmod(pem("server"), 0600);
	ck_file(((struct bus__tls_settings){.cert_file = pem("server")}), "server.pem",
	    "not a private key");
	ck_file(((struct bus__tls_settings){.cert_file = bus_test_dir()}), "not a file");
	chmod(key_of("server"), 0644);
	ck_file(as_server("server", NULL), "server-key.pem", "chmod 600");
}
END_TEST

START_TEST(a_bad_line_in_a_file_of_keys_is_named)
{
	ck_file(with_keys("x", "pi:" KEY_A "\n\npo " KEY_A "\n", false), "x.psk", "line 3");
	ck_file(with_keys("x", "pi:00\n", false), "line 1", "16 to 32 bytes");
	ck_file(with_keys("x", "pi:" KEY_A "0", false), "line 1");
	ck_file(with_keys("x", "pi:" KEY_B "00", false), "line 1");
	ck_file(with_keys("x", ":" KEY_A, false), "line 1");
	ck_file(with_keys("x", "# none\n", false), "no key in it", "libbus cert psk");
	chmod(tls_path("x", ".psk"), 0604);
	ck_file(((struct bus__tls_settings){.psk_file = tls_path("x", ".psk")}), "chmod 600");
}
END_TEST

/* The last allocation that fails is the last one there is. */
START_TEST(lack_of_memory_is_reported_and_leaves_nothing)
{
	make_files();
	for (long n = 0;; n++) {
		const struct bus__tls_settings settings = as_server("server", "ca");
		struct bus__tls_config *config = NULL;
		struct bus__tls *tls = NULL;
		char reason[BUS__TLS_REASON];
		int err;

		bus__mem_fail_after(n);
		err = bus__tls_config_new(&settings, &config, reason);
		if (err == 0)
			err = bus__tls_new(config, "pico.local", &tls);
		bus__mem_fail_after(-1);
		bus__tls_free(tls);
		bus__tls_config_unref(config);
		if (err == 0)
			break;
		ck_bus(err, BUS_E_NOMEM);
	}
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("TLS");
	TCase *hosts = bus_test_case("names"), *others = bus_test_case("other protocols");

	BUS_TEST_CASE(suite, "bytes", bytes_of_all_sizes_arrive_both_ways,
	    a_byte_at_a_time_is_as_good, ciphertext_does_not_show_the_plaintext);
	BUS_TEST_CASE(suite, "end", a_close_is_read_behind_the_data_before_it,
	    a_changed_byte_ends_it, bytes_of_no_protocol_behind_the_handshake_end_it,
	    data_before_a_bad_record_is_delivered_first);
	BUS_TEST_CASE(suite, "peers", another_ca_is_refused_with_its_name,
	    a_ca_of_the_same_name_is_another_one, an_expired_certificate_is_refused_with_its_date,
	    a_certificate_of_the_future_is_refused_with_both_dates,
	    a_listener_with_a_ca_wants_a_certificate, a_listener_with_a_ca_takes_its_certificates,
	    a_client_of_another_ca_is_refused, a_servers_certificate_is_none_of_a_client);
	BUS_TEST_CASE(suite, "keys", keys_that_both_have_are_enough,
	    another_key_is_refused_with_its_identity, an_unknown_identity_is_refused,
	    keys_on_one_side_and_certificates_on_the_other_are_explained);
	BUS_TEST_CASE(suite, "files", a_file_that_cannot_be_used_is_named_with_the_reason,
	    a_bad_line_in_a_file_of_keys_is_named, lack_of_memory_is_reported_and_leaves_nothing);
	BUS_TEST_CASE(suite, "noise", any_bit_of_a_first_flight_may_be_wrong);
	bus_test_add_loop(hosts, names_and_addresses_of_the_certificate_are_good, 0,
	    sizeof good_hosts / sizeof good_hosts[0]);
	bus_test_add_loop(hosts, other_names_and_addresses_are_refused_with_both, 0,
	    sizeof bad_hosts / sizeof bad_hosts[0]);
	bus_test_add_loop(others, another_protocol_is_named, 0, sizeof foreign / sizeof foreign[0]);
	suite_add_tcase(suite, hosts);
	suite_add_tcase(suite, others);
	return suite;
}
