/* Pages that reconnect: no event is missed or repeated, or the page gets a reset. */
#define _GNU_SOURCE
#include "page_test.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>

static void
publish_number(struct bus *bus, const char *topic, int number)
{
	char text[16];

	snprintf(text, sizeof text, "%d", number);
	publish_text(bus, topic, text);
}

/* Reads up to that number, in steps of one from *next. Skips heartbeats. */
static void
read_to(struct browser *page, int *next, int end)
{
	while (*next < end) {
		must(next_event(page));
		if (strcmp(page->name, "hb") == 0)
			continue;
		if (page->name[0] != '\0' || atoi(page->data) != *next)
			ck_abort_msg("'%s' %s instead of %d", page->name, page->data, *next);
		(*next)++;
	}
}

static struct bus *
open_kind(int named)
{
	return named ? join(bus_test_dir()) : open_bus();
}

/* Events without a name by their data, others by both. Skips heartbeats. */
static void
expect_all(struct browser *page, const char *const *wanted)
{
	for (; *wanted != NULL; wanted++)
		if (isalpha((unsigned char)(*wanted)[0])) {
			char name[32];
			int len = (int)strcspn(*wanted, " ");

			snprintf(name, sizeof name, "%.*s", len, *wanted);
			expect_event(page, name, *wanted + len + 1);
		} else
			expect_event(page, NULL, *wanted);
}
#define EXPECT_ALL(page, ...) expect_all(page, (const char *const[]){__VA_ARGS__, NULL})

START_TEST(page_resumes_behind_its_last_id)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true), again;
	int next = 0;

	for (int i = 0; i < 50; i++)
		publish_number(bus, "t", i);
	read_to(&page, &next, 20);
	again = open_page(push, "t", .raw = true, .last_id = page.id);
	read_to(&again, &next, 50);
	for (int i = 50; i < 60; i++)
		publish_number(bus, "t", i);
	read_to(&again, &next, 60);
	ck_assert_uint_eq(push_stats(push).resumed, 1);
	ck_assert_uint_eq(push_stats(push).reset, 0);
	leave_page(&page);
	leave_page(&again);
	close_pages(bus, push);
}
END_TEST

/* Also while there is no page: on a private bus the filter lingers. */
START_TEST(page_resumes_messages_published_while_it_was_away)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true);
	char id[64];
	int next = 0;

	expect_event(&page, "hb", "15");
	strcpy(id, page.id);
	leave_page(&page);
	ck_eventually(push_stats(push).pages == 0);
	for (int i = 0; i < 50; i++)
		publish_number(bus, "t", i);
	page = open_page(push, "t", .raw = true, .last_id = id);
	read_to(&page, &next, 50);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(page_resumes_in_another_process_of_the_bus)
{
	struct bus *bus = join(bus_test_dir()), *other = join(bus_test_dir());
	struct bus_push *push = plain_push(bus), *elsewhere = plain_push(other);
	struct browser page = open_page(push, "t", .raw = true);
	int next = 0;

	for (int i = 0; i < 10; i++)
		publish_number(other, "t", i);
	read_to(&page, &next, 7);
	bus_push_close(push, 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
	publish_number(other, "t", 10);
	{
		struct browser again = open_page(elsewhere, "t", .raw = true, .last_id = page.id);

		read_to(&again, &next, 11);
		leave_page(&again);
	}
	leave_page(&page);
	bus_push_close(elsewhere, patience_ms());
	ck_bus(bus_close(other, patience_ms()), 0);
}
END_TEST

START_TEST(id_of_an_earlier_run_gets_one_reset_and_the_kept_values)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = plain_push(bus);
	struct browser page;

	retain_text(bus, "t", "7");
	page = open_page(push, "t", .raw = true, .last_id = "123456789abcdef-5");
	do
		ck_assert(next_event(&page));
	while (strcmp(page.name, "hb") == 0);
	ck_assert_str_eq(page.name, "reset");
	expect_event(&page, NULL, "7");
	publish_text(bus, "t", "8");
	expect_event(&page, NULL, "8");
	ck_assert_uint_eq(push_stats(push).reset, 1);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* A reset; or the rest and a gap, if the log still has a part. */
START_TEST(id_that_lies_too_far_back_gets_a_reset)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = open_push(bus, .history = 10);
	struct browser page = open_page(push, "t", .raw = true), again;
	static char big[60000];

	expect_event(&page, "hb", "15");
	memset(big, 'x', sizeof big);
	for (int i = 0; i < 200; i++)
		ck_bus(bus_publish(bus, "t", big, sizeof big), 0);
	again = open_page(push, "t", .raw = true, .last_id = page.id, .bytes = 64 << 20);
	do
		ck_assert(next_event(&again));
	while (strcmp(again.name, "reset") != 0 && strcmp(again.name, "gap") != 0);
	leave_page(&page);
	leave_page(&again);
	close_pages(bus, push);
}
END_TEST

START_TEST(garbage_as_an_id_is_a_new_page)
{
	static const char *const garbage[] = {"x", "-", "1-", "-1", "1-2x", "1-2kk",
	    "11111111111111111-1", "A-1", "1-2 ", "1--2", "999"};
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);

	for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
		struct browser page = open_page(push, "t", .raw = true, .last_id = garbage[i]);

		expect_event(&page, "hb", "15");
		publish_text(bus, "t", "1");
		expect_event(&page, NULL, "1");
		leave_page(&page);
	}
	ck_assert_uint_eq(push_stats(push).reset, 0);
	close_pages(bus, push);
}
END_TEST

/* A connection that broke among the kept values starts them again. */
START_TEST(page_that_missed_kept_values_gets_them_behind_its_missed_messages)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = plain_push(bus);
	struct browser page, again;

	retain_text(bus, "t/a", "1");
	retain_text(bus, "t/b", "2");
	page = open_page(push, "t/#", .raw = true);
	ck_assert(next_event(&page));
	ck_assert_str_eq(page.name, "hb");
	publish_text(bus, "t/c", "3");
	retain_text(bus, "t/b", "4");
	again = open_page(push, "t/#", .raw = true, .last_id = page.id);
	EXPECT_ALL(&again, "3", "4", "begin {}");
	/* t/a and t/b as they are kept now, in any order */
	ck_assert(next_event(&again));
	while (strcmp(again.name, "hb") == 0)
		ck_assert(next_event(&again));
	ck_assert(strcmp(again.data, "1") == 0 || strcmp(again.data, "4") == 0);
	leave_page(&page);
	leave_page(&again);
	close_pages(bus, push);
}
END_TEST

enum { VERY_MANY = 5000 }; /* more than are sent in one turn */

/* Reads kept values until `count` different ones were seen. */
static void
see(struct browser *page, bool seen[VERY_MANY], int *count, int end)
{
	while (*count < end) {
		int i;

		must(next_event(page));
		if (page->name[0] != '\0')
			continue;
		i = atoi(page->data);
		*count += !seen[i];
		seen[i] = true;
	}
}

START_TEST(page_that_is_cut_among_very_many_kept_values_gets_the_rest)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = plain_push(bus);
	static bool seen[VERY_MANY];
	struct browser page, again;
	int count = 0;

	memset(seen, false, sizeof seen);
	for (int i = 0; i < VERY_MANY; i++) {
		char topic[16], text[16];

		snprintf(topic, sizeof topic, "k/%d", i);
		snprintf(text, sizeof text, "%d", i);
		retain_text(bus, topic, text);
	}
	page = open_page(push, "k/#", .raw = true);
	see(&page, seen, &count, VERY_MANY - 500);
	again = open_page(push, "k/#", .raw = true, .last_id = page.id);
	see(&again, seen, &count, VERY_MANY);
	ck_assert_uint_eq(push_stats(push).reset, 0);
	leave_page(&page);
	leave_page(&again);
	close_pages(bus, push);
}
END_TEST

START_TEST(new_filter_begins_with_kept_values_while_the_old_one_resumes)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true), again;
	int next = 0;

	retain_text(bus, "other", "1000");
	retain_text(bus, "t", "0");
	publish_number(bus, "t", 1);
	read_to(&page, &next, 1);
	again = open_page_on(push, ("t", "!other"), .raw = true, .last_id = page.id);
	EXPECT_ALL(&again, "1", "begin {}", "1000", "live {}");
	publish_number(bus, "other", 1001);
	publish_number(bus, "t", 2);
	expect_event(&again, NULL, "1001");
	expect_event(&again, NULL, "2");
	leave_page(&page);
	leave_page(&again);
	close_pages(bus, push);
}
END_TEST

START_TEST(page_begins_with_the_last_events)
{
	static const char *const remembered[] = {"t"};
	struct bus *bus = open_kind(_i);
	struct bus_push *push = open_push(bus, .remember = remembered, .remember_count = 1);
	struct browser page;
	int next = 15;

	for (int i = 0; i < 20; i++) {
		publish_number(bus, "t", i);
		publish_text(bus, "other", "x");
	}
	page = open_page(push, "t", .raw = true, .from = BUS_FROM_LAST, .from_value = 5);
	read_to(&page, &next, 20);
	publish_number(bus, "t", 20);
	read_to(&page, &next, 21);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(past_with_a_large_event_behind_small_ones_loses_none)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true);
	static char big[60000];
	char id[64];
	int next = 0;

	expect_event(&page, "hb", "15");
	strcpy(id, page.id);
	leave_page(&page);
	ck_eventually(push_stats(push).pages == 0);
	for (int i = 0; i < 500; i++)
		publish_number(bus, "t", i);
	memset(big, 'x', sizeof big);
	ck_bus(bus_publish(bus, "t", big, sizeof big), 0);
	page = open_page(push, "t", .raw = true, .last_id = id, .full = BUS_FULL_REFUSE);
	read_to(&page, &next, 500);
	do
		ck_assert(next_event(&page));
	while (page.data[0] != 'x');
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* Runs on the thread of all pages, and blocks it. */
static void
hold_up(void *arg, uint64_t page, const char *topic)
{
	_Atomic int *held = arg;

	(void)page, (void)topic;
	*held = 1;
	while (*held == 1)
		bus_test_nap();
}

START_TEST(page_of_a_private_bus_is_reset_when_the_mailbox_lost_messages_while_it_was_away)
{
	_Atomic int held = 0;
	struct bus *bus = open_bus();
	struct bus_push *push = open_push(bus, .ask = hold_up, .arg = (void *)&held);
	struct browser asking = open_page(push, "ask", .ask = true), page = plain_page(push, "t");
	static char big[60000];
	char id[64];

	publish_text(bus, "t", "1");
	do
		ck_assert(next_event(&page));
	while (page.name[0] != '\0');
	strcpy(id, page.id);
	leave_page(&page);
	ck_eventually(push_stats(push).pages == 1);
	publish_text(bus, "ask", "?");
	ck_eventually(held == 1);
	for (int i = 0; i < 100; i++) /* more than the mailbox holds */
		ck_bus(bus_publish(bus, "t", big, sizeof big), 0);
	held = 2;
	page = open_page(push, "t", .last_id = id);
	do
		ck_assert(next_event(&page));
	while (strcmp(page.name, "hb") == 0);
	ck_assert_str_eq(page.name, "reset");
	leave_page(&page);
	leave_page(&asking);
	close_pages(bus, push);
}
END_TEST

/* --- filters with their own start --------------------------------------------------------------------------------------------- */

/* t 0, o 100, t 1, o 101 and so on, remembered before a page subscribes. Returns the id behind t 4. */
static struct bus_push *
push_with_a_past(struct bus *bus, char id[64])
{
	static const char *const remembered[] = {"#"};
	struct bus_push *push = open_push(bus, .remember = remembered, .remember_count = 1);
	struct browser page = open_page(push, "t", .raw = true);
	int next = 0;

	for (int i = 0; i < 10; i++) {
		publish_number(bus, "t", i);
		publish_number(bus, "o", 100 + i);
	}
	read_to(&page, &next, 5);
	strcpy(id, page.id);
	leave_page(&page);
	return push;
}

START_TEST(new_filter_begins_in_its_past_while_the_old_one_resumes)
{
	struct bus *bus = open_kind(_i);
	char id[64];
	struct bus_push *push = push_with_a_past(bus, id);
	struct browser page = open_page_on(
	    push, ("t", "!o"), .raw = true, .last_id = id, .from = BUS_FROM_LAST, .from_value = 3);

	EXPECT_ALL(&page, "5", "6", "7", "begin {\"filter\":\"o\"}", "107", "8", "108", "9", "109",
	    "begin {}", "live {}");
	publish_number(bus, "o", 110);
	publish_number(bus, "t", 10);
	EXPECT_ALL(&page, "110", "10");
	ck_assert_uint_eq(push_stats(push).resumed, 1);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* It may reach back to before the id, too. */
START_TEST(filter_that_resumes_can_get_its_past_besides)
{
	struct bus *bus = open_kind(_i);
	char id[64];
	struct bus_push *push = push_with_a_past(bus, id);
	struct browser page;

	strcat(id, "k");
	page = open_page_on(
	    push, ("!t"), .raw = true, .last_id = id, .from = BUS_FROM_LAST, .from_value = 2);
	EXPECT_ALL(
	    &page, "5", "6", "7", "begin {\"filter\":\"t\"}", "8", "9", "begin {}", "live {}");
	leave_page(&page);
	page = open_page_on(
	    push, ("!t"), .raw = true, .last_id = id, .from = BUS_FROM_LAST, .from_value = 7);
	EXPECT_ALL(&page, "begin {\"filter\":\"t\"}", "3", "4", "5", "6", "7", "8", "9", "begin {}",
	    "live {}");
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(filters_of_a_new_page_can_have_a_past_each)
{
	struct bus *bus = open_kind(_i);
	char id[64];
	struct bus_push *push = push_with_a_past(bus, id);
	struct browser page = open_page_on(
	    push, ("!t", "!o", "!none"), .raw = true, .from = BUS_FROM_LAST, .from_value = 2);

	EXPECT_ALL(&page, "begin {\"filter\":\"t\"}", "8", "begin {\"filter\":\"o\"}", "108", "9",
	    "109", "begin {}", "live {}");
	ck_assert_uint_eq(push_stats(push).reset, 0);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(new_filter_gets_no_past_behind_a_reset)
{
	struct bus *bus = open_kind(_i);
	char id[64];
	struct bus_push *push = push_with_a_past(bus, id);
	struct browser page = open_page_on(push, ("t", "!o"), .raw = true, .last_id = "1-1",
	    .from = BUS_FROM_LAST, .from_value = 3);

	do
		ck_assert(next_event(&page));
	while (strcmp(page.name, "hb") == 0);
	ck_assert_str_eq(page.name, "reset");
	publish_number(bus, "o", 110);
	expect_event(&page, NULL, "110");
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* Runs on the thread of all pages: all but "forbidden" may be seen. */
static void
answer_now(void *arg, uint64_t page, const char *topic)
{
	struct bus_push **push = arg;

	bus_push_answer(*push, page, topic, strcmp(topic, "x/forbidden") != 0, NULL);
}

START_TEST(past_of_a_new_filter_is_asked_about)
{
	static const char *const remembered[] = {"#"};
	struct bus *bus = open_kind(_i);
	struct bus_push *push = NULL;
	struct browser page;

	push = open_push(
	    bus, .remember = remembered, .remember_count = 1, .ask = answer_now, .arg = &push);
	page = open_page(push, "t", .raw = true, .ask = true);
	publish_number(bus, "t", 0);
	expect_event(&page, NULL, "0");
	publish_number(bus, "x/open", 1);
	publish_number(bus, "x/forbidden", 2);
	publish_number(bus, "x/open", 3);
	{
		struct browser again = open_page_on(push, ("t", "!x/#"), .raw = true, .ask = true,
		    .last_id = page.id, .from = BUS_FROM_LAST, .from_value = 3);

		EXPECT_ALL(&again, "begin {\"filter\":\"x/#\"}", "1", "3", "begin {}", "live {}",
		    "denied {\"topic\":\"x/forbidden\"}");
		leave_page(&again);
	}
	ck_assert_uint_eq(push_stats(push).denied, 1);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

struct adding {
	struct bus_push *push;
	const char *last_id;
	struct browser page;
};

static void *
add_page(void *arg)
{
	struct adding *adding = arg;

	adding->page =
	    open_page(adding->push, "t", .raw = true, .bytes = 8 << 20, .last_id = adding->last_id);
	return NULL;
}

/* While the thread of all pages is blocked, a page is added and many messages are published. */
START_TEST(page_that_reconnects_behind_a_long_queue_misses_none_of_it)
{
	enum { MANY = 20000 };
	_Atomic int held = 0;
	struct bus *bus = open_kind(_i);
	struct bus_push *push =
	    open_push(bus, .history = 1000000, .ask = hold_up, .arg = (void *)&held);
	struct browser asking = open_page(push, "ask", .ask = true);
	struct adding adding = {.push = push, .page = plain_page(push, "t")};
	pthread_t thread;
	char id[64];
	int next = 0;

	publish_text(bus, "t", "first");
	do
		must(next_event(&adding.page));
	while (adding.page.name[0] != '\0');
	strcpy(id, adding.page.id);
	leave_page(&adding.page);
	ck_eventually(push_stats(push).pages == 1);
	publish_text(bus, "ask", "?");
	ck_eventually(held == 1);
	for (int i = 0; i < MANY; i++)
		publish_number(bus, "t", i);
	adding.last_id = id;
	pthread_create(&thread, NULL, add_page, &adding);
	bus_test_nap();
	held = 2;
	pthread_join(thread, NULL);
	read_to(&adding.page, &next, MANY);
	ck_assert_uint_eq(push_stats(push).reset, 0);
	leave_page(&adding.page);
	leave_page(&asking);
	close_pages(bus, push);
}
END_TEST

/* --- under traffic ---------------------------------------------------------------------------------------------------------- */

struct traffic {
	struct bus *bus;
	_Atomic bool stop;
	bool retains;
	_Atomic int count,
	    read; /* it never gets further ahead of the reader than the queues hold */
};

static void *
publish_all(void *arg)
{
	struct traffic *traffic = arg;

	while (!traffic->stop)
		if (traffic->count - traffic->read < 5000 && traffic->retains) {
			char text[16];

			snprintf(text, sizeof text, "%d", traffic->count++);
			retain_text(traffic->bus, "t", text);
		} else if (traffic->count - traffic->read < 5000)
			publish_number(traffic->bus, "t", traffic->count++);
		else
			bus_test_nap();
	return NULL;
}

/* Cut at any place, also inside an event: whole events count. */
START_TEST(page_that_is_cut_again_and_again_gets_every_event_once)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = open_push(bus, .history = 1000000);
	struct traffic traffic = {.bus = bus};
	struct browser page = open_page(push, "t", .raw = true, .bytes = 4 << 20);
	pthread_t thread;
	char id[64] = "";
	int next = 0, cuts = 0;

	must(next_event(&page));
	pthread_create(&thread, NULL, publish_all, &traffic);
	while (cuts < 30) {
		int until = next + 100;

		read_to(&page, &next, until);
		traffic.read = next;
		strcpy(id, page.id);
		leave_page(&page);
		page = open_page(push, "t", .raw = true, .bytes = 4 << 20, .last_id = id);
		cuts++;
	}
	traffic.stop = true;
	pthread_join(thread, NULL);
	read_to(&page, &next, traffic.count);
	ck_assert_uint_eq(push_stats(push).reset, 0);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* The old filter misses nothing, the new one gets its last messages and all that follow, and none arrives twice. */
START_TEST(filter_added_under_traffic_gets_its_past_and_new_messages_once)
{
	enum { LAST = 50 };
	struct bus *bus = open_kind(_i);
	struct bus_push *push = open_push(bus, .history = 1000000);
	struct traffic traffic = {.bus = bus};
	struct browser page = open_page_on(push, ("t", "+"), .raw = true, .bytes = 4 << 20);
	pthread_t thread;
	char id[64];
	int next = 0;

	pthread_create(&thread, NULL, publish_all, &traffic);
	for (int adds = 0; adds < 20; adds++) {
		int first = -1, seen = -1;

		read_to(&page, &next, next + 200);
		traffic.read = next;
		strcpy(id, page.id);
		leave_page(&page);
		page = open_page_on(push, ("t", "!+"), .raw = true, .bytes = 4 << 20, .last_id = id,
		    .from = BUS_FROM_LAST, .from_value = LAST);
		do {
			must(next_event(&page));
			if (strcmp(page.data, "{\"filter\":\"+\"}") == 0)
				first = seen + 1; /* or the next, whatever it is */
			if (page.name[0] != '\0')
				continue;
			if (seen >= 0)
				ck_assert_int_eq(atoi(page.data), seen + 1);
			else
				ck_assert_int_le(atoi(page.data), next);
			seen = atoi(page.data);
			first = first == 0 ? seen : first;
		} while (strcmp(page.name, "live") != 0);
		ck_assert_int_ge(first, 0);
		ck_assert_int_ge(seen + 1, next);
		ck_assert_int_ge(seen + 1 - first, LAST);
		traffic.read = next = seen + 1;
	}
	traffic.stop = true;
	pthread_join(thread, NULL);
	read_to(&page, &next, traffic.count);
	ck_assert_uint_eq(push_stats(push).reset, 0);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* A kept value that changes while a filter is added is not missed, and never followed by an older one. */
START_TEST(filter_that_is_added_while_its_kept_value_changes_ends_with_the_newest)
{
	struct bus *bus = open_kind(_i);
	struct bus_push *push = plain_push(bus);
	struct traffic traffic = {.bus = bus, .retains = true};
	struct browser page = open_page(push, "other", .raw = true);
	pthread_t thread;

	expect_event(&page, "hb", "15");
	pthread_create(&thread, NULL, publish_all, &traffic);
	for (int adds = 0; adds < 100; adds++) {
		struct browser again = open_page_on(
		    push, ("other", "!t"), .raw = true, .last_id = page.id, .bytes = 4 << 20);
		int seen = -1;

		for (int count = 0; count < 50;) {
			must(next_event(&again));
			if (again.name[0] != '\0')
				continue;
			if (seen >= 0)
				ck_assert_int_eq(atoi(again.data), seen + 1);
			seen = atoi(again.data);
			traffic.read = seen;
			count++;
		}
		leave_page(&again);
	}
	traffic.stop = true;
	pthread_join(thread, NULL);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

static void
add_both(TCase *tcase, const TTest *test)
{
	bus_test_add_loop(tcase, test, 0, 2);
}

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("push_resume");
	TCase *tcase = bus_test_case("resume");

	add_both(tcase, page_resumes_behind_its_last_id);
	add_both(tcase, page_resumes_messages_published_while_it_was_away);
	add_both(tcase, id_of_an_earlier_run_gets_one_reset_and_the_kept_values);
	add_both(tcase, id_that_lies_too_far_back_gets_a_reset);
	add_both(tcase, page_that_missed_kept_values_gets_them_behind_its_missed_messages);
	add_both(tcase, page_that_is_cut_among_very_many_kept_values_gets_the_rest);
	add_both(tcase, new_filter_begins_with_kept_values_while_the_old_one_resumes);
	add_both(tcase, page_begins_with_the_last_events);
	add_both(tcase, past_with_a_large_event_behind_small_ones_loses_none);
	add_both(tcase, new_filter_begins_in_its_past_while_the_old_one_resumes);
	add_both(tcase, filter_that_resumes_can_get_its_past_besides);
	add_both(tcase, filters_of_a_new_page_can_have_a_past_each);
	add_both(tcase, new_filter_gets_no_past_behind_a_reset);
	add_both(tcase, past_of_a_new_filter_is_asked_about);
	add_both(tcase, filter_added_under_traffic_gets_its_past_and_new_messages_once);
	add_both(tcase, filter_that_is_added_while_its_kept_value_changes_ends_with_the_newest);
	add_both(tcase, page_that_reconnects_behind_a_long_queue_misses_none_of_it);
	add_both(tcase, page_that_is_cut_again_and_again_gets_every_event_once);
	suite_add_tcase(suite, tcase);
	BUS_TEST_CASE(suite, "ids", page_resumes_in_another_process_of_the_bus,
	    garbage_as_an_id_is_a_new_page,
	    page_of_a_private_bus_is_reset_when_the_mailbox_lost_messages_while_it_was_away);
	return suite;
}
