/* contract.c: each promise of promises.def, once, over every door in C. A case is called promise/door. */
#include "contract.h"

static const struct door doors[] = {
    {"polled", BUS_DRAIN_CALLER, NO_LINK, false},
    {"thread", BUS_DRAIN_THREAD, NO_LINK, false},
    {"publisher", BUS_DRAIN_PUBLISHER, NO_LINK, false},
    {"named", BUS_DRAIN_CALLER, NAMED, false},
    {"inproc", BUS_DRAIN_CALLER, 0, false},
    {"ipc", BUS_DRAIN_CALLER, 1, false},
    {"tcp", BUS_DRAIN_CALLER, 2, false},
#ifdef BUS_TEST_TLS
    {"tls", BUS_DRAIN_CALLER, TLS, false},
    {"user", BUS_DRAIN_CALLER, 2, true},
#endif
    {"own", BUS_DRAIN_CALLER, OWN, false},
};

static const struct {
	const char *name;
	void (*test)(const struct door *door);
} promises[] = {
#define PROMISE(name, sentence) {#name, promise_##name},
#include "promises.def"
};

static const struct {
	const char *promise, *doors;
} exceptions[] = {
#define EXCEPT(promise, doors, reason) {#promise, " " #doors " "},
#include "promises.def"
};

enum {
	DOORS = sizeof doors / sizeof doors[0],
	PROMISES = sizeof promises / sizeof promises[0],
	EXCEPTIONS = sizeof exceptions / sizeof exceptions[0]
};

static bool
is_excepted(const char *promise, const char *door)
{
	char word[32];

	snprintf(word, sizeof word, " %s ", door);
	for (size_t i = 0; i < EXCEPTIONS; i++)
		if (strcmp(exceptions[i].promise, promise) == 0 &&
		    strstr(exceptions[i].doors, word) != NULL)
			return true;
	return false;
}

START_TEST(promise_is_kept_at_the_door)
{
	promises[_i / DOORS].test(&doors[_i % DOORS]);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("contract");
	static char names[PROMISES * DOORS][40];

	/* Here, so that a forked child of a test has it, too. */
	(void)bus_transport_register(&own_transport);
	for (int i = 0; i < PROMISES * DOORS; i++) {
		const char *promise = promises[i / DOORS].name, *door = doors[i % DOORS].name;
		TCase *tcase;

		if (is_excepted(promise, door))
			continue;
		snprintf(names[i], sizeof names[i], "%s/%s", promise, door);
		tcase = bus_test_case(names[i]);
		tcase_add_loop_test(tcase, promise_is_kept_at_the_door, i, i + 1);
		suite_add_tcase(suite, tcase);
	}
	return suite;
}
