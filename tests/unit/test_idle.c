/* The needs of a bus without links and without callbacks on its own thread: none. */
#define _POSIX_C_SOURCE 200809L
#include "bus_test.h"

#include <dirent.h>

#include <libbus/bus.h>

/* Compared before and after: an emulator has its own threads in this process. */
static int
entries(const char *path)
{
	DIR *dir = opendir(path);
	int count = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

START_TEST(a_bus_with_a_polled_mailbox_has_no_thread_and_no_descriptor)
{
	const struct bus_mailbox_config polled = {.size = sizeof polled, .drain = BUS_DRAIN_CALLER};
	int threads = entries("/proc/self/task"), descriptors = entries("/proc/self/fd");
	struct bus_mailbox *mbox;
	const struct bus_msg *msg;
	struct bus *bus;

	ck_bus(bus_open(NULL, NULL, &bus), 0);
	ck_bus(bus_mailbox_open(bus, &polled, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "room/#", NULL, NULL, NULL), 0);
	ck_bus(bus_publish(bus, "room/kitchen/temperature", "21.5", 4), 0);
	ck_bus(bus_recv(mbox, 0, &msg), 1);
	ck_assert_int_eq(entries("/proc/self/task"), threads);
	ck_assert_int_eq(entries("/proc/self/fd"), descriptors);
	bus_mailbox_close(mbox);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("idle");

	BUS_TEST_CASE(suite, "idle", a_bus_with_a_polled_mailbox_has_no_thread_and_no_descriptor);
	return suite;
}
