/* malloc() itself fails, also in NNG, msgpack-c, jansson and the C library: this program puts its own before
 * glibc's. Under sanitizers, which have their own, and with other C libraries nothing fails and the rest is tested. */
#define _GNU_SOURCE
#include "link_test.h"

#include <errno.h>
#include <stdlib.h>

#include <libbus/bus.h>
#include <libbus/pack.h>
#include <libbus/transport.h>

/* Allocations counted while some are to fail, on one thread (mine) or on the others, and the failing one. */
static _Atomic bool others;
static _Thread_local bool mine; /* the thread that called begin() */
static _Atomic bool here;
static _Atomic long made, fail_at;
static _Atomic long live; /* blocks not freed yet */

#if defined __GLIBC__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
enum { CAN_FAIL = true };

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *block);

static bool
fails(void)
{
	if ((mine ? !here : !others) || made++ != fail_at)
		return false;
	errno = ENOMEM;
	return true;
}

static void *
counted(void *block)
{
	live += block != NULL;
	return block;
}

void *
malloc(size_t size)
{
	return fails() ? NULL : counted(__libc_malloc(size));
}

void *
calloc(size_t count, size_t size)
{
	return fails() ? NULL : counted(__libc_calloc(count, size));
}

void *
realloc(void *old, size_t size)
{
	void *block = fails() ? NULL : __libc_realloc(old, size);

	live += old == NULL && block != NULL;
	return block;
}

void
free(void *block)
{
	live -= block != NULL;
	__libc_free(block);
}
#else
enum { CAN_FAIL = false };
#endif

static void
begin(long n, bool elsewhere)
{
	made = 0;
	fail_at = n;
	mine = true;
	here = !elsewhere;
	others = elsewhere;
}

/* false: there were fewer allocations. */
static bool
end(void)
{
	others = here = mine = false;
	return made > fail_at;
}

/* --- values ----------------------------------------------------------------------------------------------------- */

#define WHOLE(literal) (literal), sizeof(literal) - 1
static const struct {
	int type;
	const char *data;
	size_t len;
} values[] = {
    {BUS_TYPE_JSON,
	WHOLE(
	    "{\"a\":[1,2.5,\"x\",null,true,{\"b\":\"a text that is longer than what jansson begins with\"}]}")},
    {BUS_TYPE_UNTAGGED, WHOLE("[1,2,{\"c\":\"d\"}]")},
    {BUS_TYPE_MSGPACK, WHOLE("\x82\xA1\x61\x93\x01\xA1\x78\xC0\xA1\x62\x81\xA1\x63\xC4\x01\x00")},
};

START_TEST(any_allocation_in_a_parser_may_fail)
{
	bool failed = true;
	char *whole = NULL; /* read with memory */

	/* The first run may make permanent state. */
	for (long n = -1; failed; n++) {
		const struct bus_value *value = NULL;
		char *text = NULL;
		size_t len;
		long before = live;
		int err;

		begin(n, false);
		err = bus_value_read(values[_i].type, values[_i].data, values[_i].len, &value);
		if (err == 0)
			err = bus_value_json(value, &text, &len);
		failed = end();
		bus_value_free(value);
		failed |= n < 0;
		if (whole == NULL) {
			ck_bus(err, 0);
			whole = strdup(text);
		} else if (err == 0) {
			ck_assert_str_eq(text, whole); /* such as JSON taken for text */
		}
		free(text);
		ck_assert_msg(err == 0 || (failed && err == BUS_E_NOMEM), "allocation %ld: %s", n,
		    bus_errname(err));
		if (n >= 0)
			ck_assert_int_eq(live, before);
		ck_assert(n >= 3 || failed || !CAN_FAIL);
	}
	free(whole);
}
END_TEST

/* --- links ------------------------------------------------------------------------------------------------------- */

/* A thread without memory is BUS_E_LIMIT, and mbedTLS reports some failed allocations as a malformed file. */
static bool
is_refusal(int err)
{
	return err == BUS_E_NOMEM || err == BUS_E_LIMIT || err == BUS_E_TLS;
}

/* Once no allocation of NNG's start fails, NNG runs for good. */
START_TEST(any_allocation_of_a_listen_or_a_dial_may_fail)
{
	bool failed = true;

	listen_url(_i); /* makes its directory */
	for (long n = 0; failed; n++) {
		struct bus *bus = open_bus();
		struct bus_link *la = NULL, *lb = NULL;
		int listened, dialled;

		begin(n, false);
		listened = bus_listen(bus, listen_url(_i), NULL, &la);
		dialled = bus_dial(bus,
		    _i == 3   ? "tls://localhost:1"
		    : _i == 2 ? "tcp://localhost:1"
			      : "inproc://nobody",
		    NULL, &lb);
		failed = end();
		ck_assert_msg(listened == 0 || (failed && is_refusal(listened)),
		    "allocation %ld: %s (%s)", n, bus_errname(listened), bus_error_text());
		ck_assert_msg(dialled == 0 || (failed && is_refusal(dialled)), "allocation %ld: %s",
		    n, bus_errname(dialled));
		bus_link_close(la);
		bus_link_close(lb);
		ck_bus(bus_listen(bus, listen_url(_i), NULL, &la), 0);
		bus_link_close(la);
		ck_bus(bus_close(bus, patience_ms()), 0);
		ck_assert(n >= 3 || failed || !CAN_FAIL);
	}
}
END_TEST

/* Waits, without the allocations of Check, until the link is up or the allocation has failed. */
static void
come_up_or_fail(struct bus_link *link)
{
	struct bus_link_stats stats = {.size = sizeof stats};

	for (int naps = 0; naps < 20000 && made <= fail_at; naps++) {
		if (bus_link_stats(link, &stats) == 0 && stats.state == BUS_LINK_UP)
			return;
		bus_test_nap();
	}
}

/* Only over inproc: NNG 1.5.2 aborts the process when its own dial finds no memory (docs/transports.md). */
START_TEST(any_allocation_may_fail_on_the_threads_of_a_link)
{
	bool failed = true;

	for (long n = 0; failed; n++) {
		struct pair p = {.a = open_bus(), .b = open_bus()};
		struct heard heard = {.count = 0};

		ck_bus(bus_subscribe(p.b, "x", hear, &heard, NULL), 0);
		ck_bus(bus_listen(p.a, listen_url(0), NULL, &p.la), 0);
		ck_assert_int_gt(bus_link_url(p.la, p.url, sizeof p.url), 0);
		begin(n, true);
		ck_bus(bus_dial(p.b, p.url, NULL, &p.lb), 0);
		come_up_or_fail(p.lb);
		failed = end();
		ck_eventually(is_up(p.lb));
		ck_eventually(bus_publish(p.a, "x", "1", 1) == 0 && heard.count > 0);
		pair_close(&p);
		ck_assert(n >= 3 || failed || !CAN_FAIL);
	}
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("malloc");
	TCase *tcase = bus_test_case("malloc");

	bus_test_add_loop(
	    tcase, any_allocation_in_a_parser_may_fail, 0, sizeof values / sizeof values[0]);
	bus_test_add_loop(
	    tcase, any_allocation_of_a_listen_or_a_dial_may_fail, 0, LINK_TEST_SCHEMES);
	tcase_add_test(tcase, any_allocation_may_fail_on_the_threads_of_a_link);
	suite_add_tcase(suite, tcase);
	return suite;
}
