/* A payload whose page comes late: a mapped file on a slow disk, or swapped memory. Here the page is none until the test lets it
 * come. The other threads of the process go on meanwhile, and the bus closes in time. */
#define _GNU_SOURCE
#include "world.h"

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

enum how { BY_NAME, BY_HANDLE, RETAINED, RETAINED_BY_NAME };

static void *
publish_page(void *how)
{
	const struct bus_msg retained = {.size = sizeof retained,
	    .topic = "t",
	    .data = page,
	    .len = LEN,
	    .flags = BUS_MSG_RETAIN};
	int err;

	switch ((enum how)(intptr_t)how) {
	case BY_NAME:
		err = bus_publish(bus, "t", page, LEN);
		break;
	case RETAINED_BY_NAME:
		err = bus_publish_msg(bus, &retained);
		break;
	default:
		err = bus_pub_send(handle, page, LEN);
	}
	return (void *)(intptr_t)err;
}

/* Begins a publish that stops at the page. */
static pthread_t
start_publish(enum how how)
{
	struct sigaction late = {.sa_handler = come_late};
	pthread_t thread;

	faulted = comes = false;
	page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(page, MAP_FAILED);
	ck_assert_int_eq(sigaction(SIGSEGV, &late, NULL), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, publish_page, (void *)(intptr_t)how), 0);
	ck_eventually(faulted);
	return thread;
}

/* Lets the page come, and gives what the publish answered. */
static int
end_publish(pthread_t thread)
{
	void *answer;

	comes = true;
	ck_assert_int_eq(pthread_join(thread, &answer), 0);
	return (int)(intptr_t)answer;
}

/* _i: by name, or with a handle. */
START_TEST(page_that_comes_late_holds_up_its_publisher_alone)
{
	struct bus_config cfg = {.size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 4 << 20};
	const struct bus_msg *msg;
	struct bus_mailbox *m;
	pthread_t thread;

	ck_bus(bus_open("test", &cfg, &bus), 0);
	ck_bus(bus_pub_open(bus, "t", NULL, &handle), 0);
	ck_bus(bus_mailbox_open(bus, NULL, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "t", NULL, NULL, NULL), 0);
	thread = start_publish((enum how)_i);
	ck_bus(bus_publish(bus, "t", "here", 4), 0);
	ck_bus(bus_recv(m, patience_ms(), &msg), 1);
	ck_assert_mem_eq(msg->data, "here", 4);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
	/* With a handle it had not begun to append, but the question whether the bus is open was behind it. */
	ck_bus(end_publish(thread), 0);
	bus_pub_close(handle);
}
END_TEST

/* On a private bus the message lies in the rings of its mailboxes, where it is in the way of those behind it until its page has
 * come. Whoever subscribes, leaves, flushes or closes goes on. Each would wait for the page, which waits for the test. */
START_TEST(page_that_comes_late_holds_up_no_call_of_a_private_bus)
{
	const struct bus_keep_config keep = {.size = sizeof keep, .last = 2};
	const struct bus_mailbox_config own_thread = {
	    .size = sizeof own_thread, .drain = BUS_DRAIN_THREAD};
	struct bus_stats stats = {.size = sizeof stats};
	const struct bus_msg *reply;
	struct bus_mailbox *m, *other;
	struct bus_sub *sub;
	struct bus *next;
	pthread_t thread;

	ck_bus(bus_open(NULL, NULL, &bus), 0);
	if (_i == RETAINED)
		ck_bus(bus_keep(bus, "t", &keep), 0);
	ck_bus(bus_pub_open(bus, "t", NULL, &handle), 0);
	ck_bus(bus_mailbox_open(bus, NULL, &m), 0);
	ck_bus(bus_mailbox_subscribe(m, "t", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_open(bus, &own_thread, &other), 0);
	ck_bus(bus_mailbox_subscribe(other, "t", ignore_message, NULL, &sub), 0);
	thread = start_publish((enum how)_i);
	ck_bus(bus_mailbox_subscribe(other, "t", ignore_message, NULL, NULL), 0);
	bus_unsubscribe(sub, NULL);
	ck_bus(bus_mailbox_subscribe(other, "new", ignore_message, NULL, NULL), 0);
	ck_bus(bus_publish(bus, "new", "x", 1), 0);
	ck_bus(bus_request(bus, "new", "", 0, 1, &reply), BUS_E_TIMEDOUT);
	ck_bus(bus_stats(bus, &stats), 0);
	bus_flush(bus, 1);
	ck_assert_int_ge(bus_close(bus, 0), 0);
	/* The closed bus stays as long as the publish needs it. */
	ck_bus(bus_open(NULL, NULL, &next), 0);
	ck_bus(bus_close(next, 0), 0);
	/* What is to be kept is copied before it is offered to anybody. */
	ck_bus(end_publish(thread), _i == BY_NAME || _i == BY_HANDLE ? 0 : BUS_E_CLOSED);
	bus_pub_close(handle);
	bus_mailbox_close(m);
	bus_mailbox_close(other);
	ck_bus(bus_open(NULL, NULL, &next), 0);
	ck_bus(bus_close(next, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("slow_page");
	TCase *pages = bus_test_case("pages");

	tcase_add_loop_test(
	    pages, page_that_comes_late_holds_up_its_publisher_alone, BY_NAME, BY_HANDLE + 1);
	tcase_add_loop_test(pages, page_that_comes_late_holds_up_no_call_of_a_private_bus, BY_NAME,
	    RETAINED_BY_NAME + 1);
	suite_add_tcase(suite, pages);
	return suite;
}
