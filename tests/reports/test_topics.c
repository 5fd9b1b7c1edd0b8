/* Topics with an id in the name: a named bus had room for some thousand names, and answered LIMIT from then on until all of its
 * processes had left. BUS_TEST_NAMES=5000000 makes as many. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

enum { VALUES = 5000 /* that each process has at a time */ };

static unsigned long
names(void)
{
	const char *text = getenv("BUS_TEST_NAMES");

	return text != NULL ? strtoul(text, NULL, 10) : 200000;
}

static struct bus *
join(void)
{
	static const char *dir; /* of the process that began, also in its children */
	struct bus_config cfg = {.size = sizeof cfg};
	struct bus *bus;

	if (dir == NULL)
		dir = bus_test_dir();
	cfg.dir = dir;
	ck_bus(bus_open("topics", &cfg, &bus), 0);
	return bus;
}

static int
say(struct bus *bus, const char *kind, unsigned who, unsigned long i, const char *data,
    uint32_t flags)
{
	char topic[64];

	snprintf(topic, sizeof topic, "job/%u/%08lu/%s", who, i, kind);
	return bus_publish_msg(bus, &(struct bus_msg){.size = sizeof(struct bus_msg),
					.topic = topic,
					.data = data,
					.len = strlen(data),
					.flags = flags});
}

/* Half of all names; each tenth keeps a value for a while. */
static int
publish_all(unsigned who)
{
	struct bus *bus = join();
	unsigned long all = names() / 2;
	int err = 0;

	for (unsigned long i = 0; i < all && err == 0; i++) {
		err = say(bus, "progress", who, i, "1", 0);
		if (err == 0 && i % 10 == 0)
			err = say(bus, "state", who, i / 10, "on", BUS_MSG_RETAIN);
		if (err == 0 && i % 10 == 0 && i / 10 >= VALUES)
			err = say(bus, "state", who, i / 10 - VALUES, "", BUS_MSG_RETAIN);
	}
	bus_close(bus, 0);
	return err;
}

START_TEST(two_processes_make_as_many_names_as_they_like)
{
	struct bus *bus = join();
	struct bus_log_stats stats = {.size = sizeof stats};
	int statuses[2];
	pid_t children[2];

	for (unsigned i = 0; i < 2; i++) {
		children[i] = bus_test_fork();
		if (children[i] == 0)
			_exit(publish_all(i) != 0);
	}
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(waitpid(children[i], &statuses[i], 0), children[i]);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(statuses[i], 0);
	ck_bus(bus_publish(bus, "brand/new", "x", 1), 0);
	ck_bus(bus_log_stats(bus, &stats), 0);
	/* About as many: a writer that lost its turn may have counted one more. */
	ck_assert_uint_le(stats.values_count, 2 * VALUES + VALUES / 10);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report_topics");

	BUS_TEST_CASE(suite, "names", two_processes_make_as_many_names_as_they_like);
	return suite;
}
