/* A libbus built without links. This program brings transport/without_links.c, so the library's own ipc.c, tcp.c and
 * streams are not linked; nor is tls.c, which needs tcp. */
#include "error_text_test.h"

#include "link_test.h"

static const char *const urls[] = {
    "ipc:///tmp/a.sock", "tcp://127.0.0.1:0", "tcp://no-such-host:1", "tls://127.0.0.1:0"};

START_TEST(dialling_and_listening_name_the_option_that_is_missing)
{
	struct bus *bus = open_private();
	struct bus_link *link;

	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
		ck_says(bus_dial(bus, urls[i], NULL, &link), BUS_E_NOTSUP, urls[i], "without links",
		    "-Dlinks=enabled");
		ck_says(bus_listen(bus, urls[i], NULL, &link), BUS_E_NOTSUP, urls[i],
		    "without links", "-Dlinks=enabled");
	}
	ck_says(bus_dial(bus, "tcp://x", NULL, &link), BUS_E_ADDRESS, "malformed");
	bus_close(bus, 0);
}
END_TEST

START_TEST(an_unknown_scheme_is_answered_only_with_schemes_that_work)
{
	struct bus *bus = open_private();
	struct bus_link *link;

	ck_says(bus_dial(bus, "mqtt://x", NULL, &link), BUS_E_SCHEME, "this process has inproc: ");
	bus_close(bus, 0);
}
END_TEST

START_TEST(buses_of_one_process_are_still_linked)
{
	struct pair p;
	struct heard heard = {0};

	pair_open(&p, 0);
	ck_bus(bus_subscribe(p.b, "room/+", hear, &heard, NULL), 0);
	ck_eventually((bus_publish(p.a, "room/lamp", "on", 2), heard.count > 0));
	ck_assert_str_eq(heard.topic, "room/lamp");
	pair_close(&p);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("without links");

	BUS_TEST_CASE(suite, "links", dialling_and_listening_name_the_option_that_is_missing,
	    an_unknown_scheme_is_answered_only_with_schemes_that_work,
	    buses_of_one_process_are_still_linked);
	return suite;
}
