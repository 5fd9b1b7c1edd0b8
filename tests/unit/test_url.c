#include "bus_test.h"

#include <string.h>

#include "link/url.h"

START_TEST(every_scheme_is_read_and_written_back)
{
	static const char *const urls[] = {"inproc://a", "inproc://plant one/ü",
	    "ipc:///tmp/a.sock", "ipc:///a", "tcp://127.0.0.1:0", "tcp://localhost:65535",
	    "tcp://[::1]:7000"};
	struct bus__address addr;
	char text[BUS__URL_TEXT];

	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
		ck_bus(bus__url_parse(urls[i], &addr), 0);
		bus__url_write(&addr, text);
		ck_assert_str_eq(text, urls[i]);
	}
	ck_assert_str_eq(addr.name, "::1");
	ck_assert_uint_eq(addr.port, 7000);
}
END_TEST

START_TEST(a_foreign_scheme_is_named_as_such)
{
	static const char *const urls[] = {"", "tcp", "tcp:/a:1", "127.0.0.1:80", "http://a:1",
	    "TCP://127.0.0.1:1", "tls+tcp://127.0.0.1:1", "ipcc:///a", "://a"};
	struct bus__address addr;

	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
		ck_bus(bus__url_parse(urls[i], &addr), BUS_E_SCHEME);
}
END_TEST

START_TEST(a_malformed_address_is_refused_and_changes_nothing)
{
	static const char *const urls[] = {"inproc://", "inproc://a\nb", "inproc://\xff", "ipc://",
	    "ipc://a.sock", "ipc://./a", "ipc:///tmp/", "tcp://", "tcp://:80", "tcp://127.0.0.1",
	    "tcp://127.0.0.1:", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:123456",
	    "tcp://127.0.0.1:-1", "tcp://127.0.0.1:80/", "tcp://127.0.0.1:0x50", "tcp://::1:80",
	    "tcp://[::1]", "tcp://[::1]80", "tcp://[127.0.0.1]:80", "tcp://[]:80",
	    "tcp://a@localhost:80", "tcp://local host:80"};
	struct bus__address addr = {.port = 4711};

	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
		ck_assert_msg(
		    bus__url_parse(urls[i], &addr) == BUS_E_ADDRESS, "accepted: %s", urls[i]);
	ck_assert_uint_eq(addr.port, 4711);
}
END_TEST

START_TEST(a_path_fits_a_unix_socket_or_is_refused)
{
	char url[256] = "ipc:///";
	struct bus__address addr;

	memset(url + 7, 'x', BUS__URL_PATH - 2); /* with the slash and the NUL: just fits */
	ck_bus(bus__url_parse(url, &addr), 0);
	url[strlen(url)] = 'x';
	ck_bus(bus__url_parse(url, &addr), BUS_E_ADDRESS);
}
END_TEST

START_TEST(an_endless_name_is_refused)
{
	static char url[100000] = "inproc://";
	struct bus__address addr;

	memset(url + 9, 'n', sizeof url - 10);
	ck_bus(bus__url_parse(url, &addr), BUS_E_ADDRESS);
	memcpy(url, "tcp://nnn", 9);
	memcpy(url + sizeof url - 4, ":80", 4);
	ck_bus(bus__url_parse(url, &addr), BUS_E_ADDRESS);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("url");

	BUS_TEST_CASE(suite, "parse", every_scheme_is_read_and_written_back,
	    a_foreign_scheme_is_named_as_such, a_malformed_address_is_refused_and_changes_nothing,
	    a_path_fits_a_unix_socket_or_is_refused, an_endless_name_is_refused);
	return suite;
}
