/* A payload whose page comes late: a mapped file on a slow disk, or swapped memory. Here the page is none until the test lets it
 * come. The other threads of the process publish meanwhile, and the bus closes in time. _i: by name, or with a handle. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include <libbus/bus.h>

enum { PAGE = 4096, LEN = 500 };

static uint8_t *page;
static _Atomic bool faulted, comes; /* lock-free: a handler uses them */
static struct bus *bus;
static struct bus_pub *handle;

static void
come_late(int sig)
{
	(void)sig;
	faulted = true;
	while (!comes)
		bus_test_nap();
	mprotect(page, PAGE, PROT_READ);
}

static void *
publish_page(void *by_name)
{
	int err =
	    by_name != NULL ? bus_publish(bus, "t", page, LEN) : bus_pub_send(handle, page, LEN);

	return (void *)(intptr_t)err;
}

START_TEST(page_that_comes_late_holds_up_its_publisher_alone)
{
	struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 4 << 20};
	struct sigaction late = {.sa_handler = come_late};
	const struct bus_msg *msg;
	struct bus_mailbox *m;
	pthread_t thread;
	void *answer;

	faulted = comes = false;
	page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(page, MAP_FAILED);
	ck_assert_int_eq(sigaction(SIGSEGV, &late, NULL), 0);
	ck_bus(bus_open("test", &cfg, &bus), 0);
	ck_bus(bus_pub_open(bus, "t", NULL, &handle), 0);
	ck_bus(bus_mailbox_open(bus, NULL, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "t", NULL, NULL, NULL), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, publish_page, _i == 0 ? page : NULL), 0);
	ck_eventually(faulted);
	ck_bus(bus_publish(bus, "t", "here", 4), 0);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_mem_eq(msg->data, "here", 4);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
	comes = true;
	ck_assert_int_eq(pthread_join(thread, &answer), 0);
	/* With a handle it had not begun to append, but the question whether the bus is open was behind it. */
	ck_bus((int)(intptr_t)answer, 0);
	bus_pub_close(handle);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("slow_page");
	TCase *pages = bus_test_case("pages");

	tcase_add_loop_test(pages, page_that_comes_late_holds_up_its_publisher_alone, 0, 2);
	suite_add_tcase(suite, pages);
	return suite;
}
