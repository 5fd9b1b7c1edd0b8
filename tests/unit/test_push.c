/* Live pages: their messages and forms, and pages that are slow, gone or not allowed. */
#define _GNU_SOURCE
#include "page_test.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

#include <libbus/pack.h>

#include "base/mem.h"

static void
publish_numbers(struct bus *bus, const char *topic, int from, int to)
{
	for (int i = from; i < to; i++) {
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		publish_text(bus, topic, text);
	}
}

static void
expect_numbers(struct browser *page, int from, int to)
{
	for (int i = from; i < to; i++) {
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		expect_event(page, NULL, text);
	}
}

/* --- messages --------------------------------------------------------------------------------------------------------- */

START_TEST(page_gets_matching_messages_as_topic_and_value)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = plain_page(push, "plant/+");

	expect_event(&page, "hb", "15");
	ck_assert_uint_eq(page.retry, 2000);
	publish_text(bus, "other", "1");
	publish_text(bus, "plant/temp", "21.5");
	publish_text(bus, "plant/\"x\"", "wet");
	expect_event(&page, NULL, "{\"topic\":\"plant/temp\",\"value\":21.5,\"kept\":false}");
	expect_event(
	    &page, NULL, "{\"topic\":\"plant/\\\"x\\\"\",\"value\":\"wet\",\"kept\":false}");
	ck_assert_int_eq(bus_push_close(push, patience_ms()), 1);
	expect_goodbye(&page);
	leave_page(&page);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(new_page_gets_kept_values_and_then_new_messages)
{
	struct bus *bus = _i == 0 ? open_bus() : join(bus_test_dir());
	struct bus_push *push = plain_push(bus);
	struct browser first, second;

	retain_text(bus, "door", "open");
	first = plain_page(push, "door");
	expect_event(&first, NULL, "{\"topic\":\"door\",\"value\":\"open\",\"kept\":true}");
	retain_text(bus, "door", "shut");
	expect_event(&first, NULL, "{\"topic\":\"door\",\"value\":\"shut\",\"kept\":false}");
	second = plain_page(push, "#");
	expect_event(&second, NULL, "{\"topic\":\"door\",\"value\":\"shut\",\"kept\":true}");
	publish_text(bus, "door", "ajar");
	expect_event(&first, NULL, "{\"topic\":\"door\",\"value\":\"ajar\",\"kept\":false}");
	expect_event(&second, NULL, "{\"topic\":\"door\",\"value\":\"ajar\",\"kept\":false}");
	leave_page(&first);
	leave_page(&second);
	close_pages(bus, push);
}
END_TEST

START_TEST(filters_that_overlap_bring_a_message_once)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page_on(push, ("a/#", "+/b", "a/b", "a/#"), .raw = true);

	publish_text(bus, "a/b", "1");
	publish_text(bus, "a/c", "2");
	publish_text(bus, "c/b", "3");
	expect_numbers(&page, 1, 4);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(raw_page_gets_the_value_alone_and_text_line_by_line)
{
	static const struct {
		const char *text, *data;
	} cases[] = {
	    {"one\ntwo", "one\ntwo"},
	    {"one\r\ntwo\rthree\n", "one\ntwo\nthree\n"},
	    {"\n", "\n"},
	    {" leading", " leading"},
	    {"data: x\n\nid: 7\n\nevent: y", "data: x\n\nid: 7\n\nevent: y"},
	    {"\xef\xbb\xbf"
	     "bom \xe2\x80\xa8 line",
		"\xef\xbb\xbf"
		"bom \xe2\x80\xa8 line"},
	    {"{\"a\": 1}", "{\"a\":1}"},
	};
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true, .event = "news");

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct bus_msg msg = {.size = sizeof msg,
		    .topic = "t",
		    .type = cases[i].text[0] == '{' ? BUS_TYPE_JSON : BUS_TYPE_TEXT,
		    .data = cases[i].text,
		    .len = strlen(cases[i].text)};

		ck_bus(bus_publish_msg(bus, &msg), 0);
		expect_event(&page, "news", cases[i].data);
	}
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(raw_event_takes_its_name_id_and_retry_from_headers)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true);
	struct bus_packer *packer;
	struct bus_msg msg = {.size = sizeof msg, .topic = "t", .data = "hello", .len = 5};

	ck_bus(bus_packer_new(&packer), 0);
	bus_pack_map(packer, 3);
	bus_pack_text(packer, "event", 5);
	bus_pack_text(packer, "greeting", 8);
	bus_pack_text(packer, "id", 2);
	bus_pack_text(packer, "mine", 4);
	bus_pack_text(packer, "retry", 5);
	bus_pack_int(packer, 4321);
	ck_bus(bus_packer_data(packer, &msg.headers, &msg.headers_len), 0);
	ck_bus(bus_publish_msg(bus, &msg), 0);
	expect_event(&page, "greeting", "hello");
	ck_assert_str_eq(page.id, "mine");
	ck_assert_uint_eq(page.retry, 4321);

	/* A name that would end its line is ignored. */
	bus_packer_reset(packer);
	bus_pack_map(packer, 1);
	bus_pack_text(packer, "event", 5);
	bus_pack_text(packer, "a\ndata: b", 9);
	ck_bus(bus_packer_data(packer, &msg.headers, &msg.headers_len), 0);
	ck_bus(bus_publish_msg(bus, &msg), 0);
	expect_event(&page, NULL, "hello");
	bus_packer_free(packer);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(payload_that_does_not_fit_its_type_is_shown_as_bytes)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = plain_page(push, "t"), raw = open_page(push, "t", .raw = true);
	const struct bus_msg msg = {
	    .size = sizeof msg, .topic = "t", .type = BUS_TYPE_JSON, .data = "{\xff", .len = 2};

	ck_bus(bus_publish_msg(bus, &msg), 0);
	expect_event(
	    &page, NULL, "{\"topic\":\"t\",\"value\":{\"$bytes\":\"e/8=\"},\"kept\":false}");
	expect_event(&raw, NULL, "{\"$bytes\":\"e/8=\"}");
	leave_page(&page);
	leave_page(&raw);
	close_pages(bus, push);
}
END_TEST

START_TEST(head_of_the_response_is_sent_first)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	const char *head = "HTTP/1.1 200 OK\r\n\r\n";
	struct browser page = open_page(push, "t", .head = head, .head_len = strlen(head));
	char got[64] = "";

	for (size_t len = 0; len < strlen(head);) {
		ssize_t count = read(page.fd, got + len, strlen(head) - len);

		must(count > 0);
		len += (size_t)count;
	}
	ck_assert_str_eq(got, head);
	expect_event(&page, "hb", "15");
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* --- begin and end ---------------------------------------------------------------------------------------------------- */

START_TEST(quiet_page_gets_heartbeats_with_a_fresh_id)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_push *push = open_push(bus, .heartbeat_ms = 100);
	struct browser page = plain_page(push, "t");
	char first[64];

	expect_event(&page, "hb", "0.100");
	strcpy(first, page.id);
	publish_text(bus, "other", "1");
	do
		expect_event(&page, "hb", "0.100");
	while (strcmp(first, page.id) == 0);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(page_that_leaves_is_removed_at_once)
{
	struct bus *bus = open_bus();
	struct bus_push *push = open_push(bus, .max_pages = 1);
	struct browser page = plain_page(push, "t");
	const struct bus_page_filter filter = {.filter = "t"};
	const struct bus_page_config cfg = {
	    .size = sizeof cfg, .filters = &filter, .filters_count = 1};
	uint64_t number;
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	ck_bus(bus_push_add(push, ends[1], &cfg, &number), BUS_E_LIMIT);
	ck_assert_ptr_ne(strstr(bus_error_text(), "max_pages"), NULL);
	leave_page(&page);
	ck_eventually(push_stats(push).pages == 0);
	ck_bus(bus_push_add(push, ends[1], &cfg, &number), 0);
	ck_bus(bus_push_remove(push, number), 0);
	ck_eventually(push_stats(push).pages == 0);
	close(ends[0]);
	ck_assert_int_eq(bus_push_close(push, patience_ms()), 0);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

/* At different times. */
START_TEST(pages_of_a_closed_bus_are_asked_to_reconnect)
{
	enum { PAGES = 10 };
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser pages[PAGES];
	unsigned long first = 0, other = 0;
	const struct bus_page_filter filter = {.filter = "t"};
	const struct bus_page_config cfg = {
	    .size = sizeof cfg, .filters = &filter, .filters_count = 1};
	uint64_t number;
	int ends[2];

	for (int i = 0; i < PAGES; i++)
		pages[i] = plain_page(push, "t");
	ck_bus(bus_close(bus, patience_ms()), 0);
	for (int i = 0; i < PAGES; i++) {
		unsigned long ms = expect_goodbye(&pages[i]);

		first = i == 0 ? ms : first;
		other = ms != first ? ms : other;
		leave_page(&pages[i]);
	}
	ck_assert_uint_ne(other, 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	ck_eventually(bus_push_add(push, ends[1], &cfg, &number) == BUS_E_CLOSED);
	close(ends[0]);
	close(ends[1]);
	bus_push_close(push, patience_ms());
}
END_TEST

START_TEST(two_buses_share_the_thread_and_close_one_after_the_other)
{
	struct bus *one = open_bus(), *other = open_bus();
	struct bus_push *first = plain_push(one), *second = plain_push(other);
	struct browser page = open_page(first, "t", .raw = true),
		       same = open_page(second, "t", .raw = true);

	publish_text(one, "t", "1");
	publish_text(other, "t", "2");
	expect_event(&page, NULL, "1");
	expect_event(&same, NULL, "2");
	bus_push_close(first, patience_ms());
	publish_text(other, "t", "3");
	expect_event(&same, NULL, "3");
	bus_push_close(second, patience_ms());
	leave_page(&page);
	leave_page(&same);
	ck_bus(bus_close(one, patience_ms()), 0);
	ck_bus(bus_close(other, patience_ms()), 0);
}
END_TEST

/* ThreadSanitizer cannot follow a thread that a forked child starts. */
#ifndef __SANITIZE_THREAD__
static bool
child_serves_a_page(void)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true);

	publish_text(bus, "t", "child");
	expect_event(&page, NULL, "child");
	return bus_push_close(push, patience_ms()) == 1 && bus_close(bus, patience_ms()) == 0;
}
#else
static bool
child_serves_a_page(void)
{
	return true;
}
#endif

START_TEST(forked_child_is_refused_and_serves_its_own_pages)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true);
	struct bus_push_stats stats = {.size = sizeof stats};
	int status;
	pid_t child = bus_test_fork();

	if (child == 0) {
		bool fine = bus_push_stats(push, &stats) == BUS_E_FORKED &&
			    bus_push_close(push, 0) == 0 && child_serves_a_page();

		_exit(fine ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	publish_text(bus, "t", "parent");
	expect_event(&page, NULL, "parent");
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* --- slow pages --------------------------------------------------------------------------------------------------------- */

/* Publishes until the page has lost an event, in events of 1,000 bytes; returns how many. */
static unsigned
overrun(struct bus *bus, struct bus_push *push, uint64_t page, const char *topic)
{
	char text[1000];
	struct bus_push_stats stats = {.size = sizeof stats};
	unsigned count = 0;

	do {
		memset(text, 'x', sizeof text);
		snprintf(text, sizeof text, "%u", count++);
		text[strlen(text)] = ' ';
		ck_bus(bus_publish(bus, topic, text, sizeof text), 0);
		ck_bus(bus_push_page_stats(push, page, &stats), 1);
	} while (stats.lost < 5 && stats.replaced < 5);
	return count;
}

START_TEST(slow_page_loses_the_oldest_and_learns_how_many)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true, .bytes = 4096);
	struct browser other = open_page(push, "fast", .raw = true);
	unsigned count, got = 0, lost = 0;

	count = overrun(bus, push, page.number, "t");
	ck_assert_uint_le(push_stats(push).waiting_bytes, 4096);
	publish_text(bus, "fast", "1"); /* other pages notice nothing */
	expect_event(&other, NULL, "1");
	publish_text(bus, "t", "last");
	for (;;) {
		unsigned n;

		ck_assert(next_event(&page));
		if (strcmp(page.data, "last") == 0)
			break;
		if (strcmp(page.name, "hb") == 0)
			continue;
		if (sscanf(page.data, "{\"lost\":%u}", &n) == 1) {
			ck_assert_str_eq(page.name, "gap");
			lost += n;
		} else {
			/* In order, and after a gap exactly as many later as it says. */
			ck_assert_uint_eq(strtoul(page.data, NULL, 10), got + lost);
			got++;
		}
	}
	ck_assert_uint_eq(got + lost, count);
	ck_assert_uint_ge(lost, 5);
	leave_page(&page);
	leave_page(&other);
	close_pages(bus, push);
}
END_TEST

START_TEST(page_with_the_latest_skips_old_messages_without_a_gap)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page = open_page(push, "t", .raw = true, .full = BUS_FULL_LATEST);
	unsigned long before = 0;

	overrun(bus, push, page.number, "t");
	publish_text(bus, "t", "last");
	do {
		ck_assert(next_event(&page));
		ck_assert_str_ne(page.name, "gap");
		if (page.name[0] == '\0' && strcmp(page.data, "last") != 0) {
			ck_assert_uint_ge(strtoul(page.data, NULL, 10), before);
			before = strtoul(page.data, NULL, 10) + 1;
		}
	} while (strcmp(page.data, "last") != 0);
	ck_assert_uint_eq(push_stats(push).lost, 0);
	ck_assert_uint_ge(push_stats(push).replaced, 5);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

START_TEST(page_that_refuses_loses_nothing_but_its_connection)
{
	struct bus *bus = join(bus_test_dir());
	struct bus_push *push = plain_push(bus);
	struct browser page =
	    open_page(push, "t", .raw = true, .full = BUS_FULL_REFUSE, .bytes = 4096);
	struct browser again;
	char text[1000];
	int count = 500, next = 0; /* more than socket and queue hold, less than the log */

	memset(text, ' ', sizeof text);
	for (int i = 0; i < count; i++) {
		snprintf(text, sizeof text, "%d", i);
		text[strlen(text)] = ' ';
		ck_bus(bus_publish(bus, "t", text, sizeof text), 0);
	}
	ck_eventually(push_stats(push).pages == 0);
	while (next_event(&page))
		if (page.name[0] == '\0')
			ck_assert_int_eq(atoi(page.data), next++);
	ck_assert_int_lt(next, count);
	again = open_page(push, "t", .raw = true, .full = BUS_FULL_REFUSE, .last_id = page.id);
	while (next < count) {
		ck_assert(next_event(&again));
		if (again.name[0] == '\0')
			ck_assert_int_eq(atoi(again.data), next++);
		ck_assert_str_ne(again.name, "gap");
	}
	leave_page(&page);
	leave_page(&again);
	close_pages(bus, push);
}
END_TEST

START_TEST(page_with_an_interval_gets_many_events_in_one_write)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	struct browser page =
	    open_page(push, "t", .raw = true, .interval_ms = 100, .full = BUS_FULL_LATEST);
	int64_t begun_ms = bus_test_now_ms();
	unsigned events = 0;

	expect_event(&page, "hb", "15");
	for (int i = 0; i < 200; i++) {
		publish_numbers(bus, "t", i, i + 1);
		bus_test_nap();
	}
	publish_text(bus, "t", "last");
	do {
		ck_assert(next_event(&page));
		events++;
	} while (strcmp(page.data, "last") != 0);
	/* At most one for each interval that may have ended by now. */
	ck_assert_int_le(events, (bus_test_now_ms() - begun_ms) / 100 + 2);
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* --- permission ------------------------------------------------------------------------------------------------------------ */

struct asked {
	pthread_mutex_t lock;
	unsigned count;
	char topics[16][32];
	uint64_t page;
	_Atomic unsigned left;
};

static void
note_question(void *arg, uint64_t page, const char *topic)
{
	struct asked *asked = arg;

	pthread_mutex_lock(&asked->lock);
	snprintf(asked->topics[asked->count++ % 16], 32, "%s", topic);
	asked->page = page;
	pthread_mutex_unlock(&asked->lock);
}

static void
note_leaving(void *arg, uint64_t page)
{
	(void)page;
	((struct asked *)arg)->left++;
}

static unsigned
questions(struct asked *asked)
{
	unsigned count;

	pthread_mutex_lock(&asked->lock);
	count = asked->count;
	pthread_mutex_unlock(&asked->lock);
	return count;
}

START_TEST(page_gets_a_topic_only_after_a_yes_and_in_order)
{
	struct asked asked = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct bus *bus = open_bus();
	struct bus_push *push =
	    open_push(bus, .ask = note_question, .left = note_leaving, .arg = &asked);
	struct browser page;

	retain_text(bus, "secret/kept", "s0");
	page = open_page(push, "#", .raw = true, .ask = true);
	publish_text(bus, "secret", "s1");
	publish_text(bus, "open", "o1");
	publish_text(bus, "secret", "s2");
	publish_text(bus, "open", "o2");
	ck_eventually(questions(&asked) == 1);
	ck_assert_str_eq(asked.topics[0], "secret/kept");
	ck_bus(bus_push_answer(push, page.number, "secret/kept", false, "not for you"), 0);
	ck_eventually(questions(&asked) == 2);
	ck_bus(bus_push_answer(push, page.number, "secret", false, NULL), 0);
	ck_eventually(questions(&asked) == 3);
	ck_bus(bus_push_answer(push, page.number, "open", true, NULL), 0);
	for (int open = 0, denied = 0; open + denied < 4;) {
		static const char *const said[] = {
		    "{\"topic\":\"secret/kept\",\"message\":\"not for you\"}",
		    "{\"topic\":\"secret\"}"};

		/* A refusal is sent when it is answered, behind the events that wait at that moment. */
		ck_assert(next_event(&page));
		if (strcmp(page.name, "denied") == 0)
			ck_assert_str_eq(page.data, said[denied++]);
		else if (strcmp(page.name, "hb") != 0)
			ck_assert_str_eq(page.data, open++ == 0 ? "o1" : "o2");
	}
	ck_assert_uint_eq(push_stats(push).denied, 3);

	/* Each topic is asked for once, and an answer can be revoked. */
	publish_text(bus, "open", "o3");
	expect_event(&page, NULL, "o3");
	ck_bus(bus_push_answer(push, page.number, "open", false, NULL), 0);
	expect_event(&page, "denied", "{\"topic\":\"open\"}");
	publish_text(bus, "open", "o4");
	ck_eventually(push_stats(push).denied == 4);
	ck_assert_uint_eq(questions(&asked), 3);

	/* A message whose topic is not allowed yet is not sent at the end. */
	publish_text(bus, "late", "l1");
	ck_eventually(questions(&asked) == 4);
	ck_assert_int_eq(bus_push_close(push, patience_ms()), 1);
	expect_goodbye(&page);
	ck_assert_uint_eq(asked.left, 1);
	leave_page(&page);
	ck_bus(bus_close(bus, patience_ms()), 0);
}
END_TEST

START_TEST(page_that_waits_for_an_answer_still_gets_heartbeats)
{
	struct asked asked = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct bus *bus = open_bus();
	struct bus_push *push =
	    open_push(bus, .ask = note_question, .arg = &asked, .heartbeat_ms = 100);
	struct browser page = open_page(push, "t", .raw = true, .ask = true);

	publish_text(bus, "t", "1");
	ck_eventually(questions(&asked) == 1);
	for (int i = 0; i < 3; i++)
		expect_event(&page, "hb", "0.100");
	ck_bus(bus_push_answer(push, page.number, "t", true, NULL), 0);
	expect_event(&page, NULL, "1");
	leave_page(&page);
	close_pages(bus, push);
}
END_TEST

/* --- refusals --------------------------------------------------------------------------------------------------------------- */

START_TEST(bad_arguments_are_refused_and_leave_the_socket_alone)
{
	struct bus *bus = open_bus();
	struct bus_push *push = plain_push(bus);
	const struct bus_page_filter filter = {.filter = "t"}, bad = {.filter = "t#"};
	const struct bus_page_config good = {
	    .size = sizeof good, .filters = &filter, .filters_count = 1};
	struct bus_page_config cfg = good;
	struct bus_push_stats stats = {.size = sizeof stats};
	uint64_t number;
	int ends[2], pipe_ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	ck_assert_int_eq(pipe(pipe_ends), 0);
	ck_bus(bus_push_add(NULL, ends[1], &good, &number), BUS_E_INVAL);
	ck_bus(bus_push_add(push, ends[1], NULL, &number), BUS_E_INVAL);
	ck_bus(bus_push_add(push, pipe_ends[0], &good, &number), BUS_E_INVAL);
	ck_bus(bus_push_add(push, -1, &good, &number), BUS_E_INVAL);
	cfg.filters = &bad;
	ck_bus(bus_push_add(push, ends[1], &cfg, &number), BUS_E_FILTER);
	cfg = good;
	cfg.filters_count = 0;
	ck_bus(bus_push_add(push, ends[1], &cfg, &number), BUS_E_INVAL);
	cfg = good;
	cfg.event = "a\nb";
	ck_bus(bus_push_add(push, ends[1], &cfg, &number), BUS_E_INVAL);
	cfg = good;
	cfg.full = BUS_FULL_DROP_NEWEST;
	ck_bus(bus_push_add(push, ends[1], &cfg, &number), BUS_E_INVAL);
	cfg = good;
	cfg.from = 9;
	ck_bus(bus_push_add(push, ends[1], &cfg, &number), BUS_E_INVAL);
	ck_bus(bus_push_open(NULL, NULL, &push), BUS_E_INVAL);
	ck_bus(bus_push_open(bus,
		   &(struct bus_push_config){
		       .size = sizeof(struct bus_push_config), .heartbeat_ms = 1},
		   &push),
	    BUS_E_INVAL);
	ck_bus(bus_push_answer(push, 1, NULL, true, NULL), BUS_E_INVAL);
	ck_bus(bus_push_answer(push, 1, "t", true, NULL), 0);
	ck_bus(bus_push_page_stats(push, 1, &stats), 0);
	ck_assert_uint_eq(push_stats(push).pages, 0);
	ck_assert_int_eq(send(ends[0], "x", 1, 0), 1); /* still open at the other end */
	for (int i = 0; i < 2; i++) {
		close(ends[i]);
		close(pipe_ends[i]);
	}
	ck_assert_int_eq(bus_push_close(NULL, 0), 0);
	close_pages(bus, push);
}
END_TEST

/* --- no memory ------------------------------------------------------------------------------------------------------------- */

/* Adds a page with a message to send, as far as there is memory. */
static struct browser
use_a_page(struct bus *bus, struct bus_push *push)
{
	const struct bus_page_filter filter = {.filter = "t/#"};
	const struct bus_page_config cfg = {.size = sizeof cfg,
	    .filters = &filter,
	    .filters_count = 1,
	    .last_id = "1-1",
	    .raw = true,
	    .event = "e",
	    .ask = true};
	struct browser page = {.fd = -1};
	int ends[2], err;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	page.fd = ends[0];
	err = bus_push_add(push, ends[1], &cfg, &page.number);
	must(err == 0 || err == BUS_E_NOMEM);
	if (err < 0)
		close(ends[1]);
	for (int i = 0; i < 2; i++)
		bus_push_answer(push, page.number, i == 0 ? "t/0" : "t/1", true, NULL);
	bus_publish(bus, "t/1", "x", 1);
	bus_push_answer(push, page.number, "t/2", false, "no");
	bus_publish(bus, "t/2", "x", 1);
	return page;
}

static void
ignore_question(void *arg, uint64_t page, const char *topic)
{
	(void)arg, (void)page, (void)topic;
}

START_TEST(any_allocation_may_fail)
{
	for (long n = 0, made = n; n <= made; n++) {
		struct bus *bus = _i == 0 ? open_bus() : join(bus_test_dir());
		const struct bus_push_config cfg = {
		    .size = sizeof cfg, .ask = ignore_question, .heartbeat_ms = 100};
		struct bus_push *push;
		int err;

		retain_text(bus, "t/0", "kept");
		bus__mem_fail_after(n);
		err = bus_push_open(bus, &cfg, &push);
		must(err == 0 || err == BUS_E_NOMEM);
		if (err == 0) {
			struct browser page = use_a_page(bus, push);

			bus_push_close(push, patience_ms());
			while (next_event(&page)) /* every received event is whole */
				;
			leave_page(&page);
		}
		made = bus__mem_fail_after(-1);
		ck_bus(bus_close(bus, patience_ms()), 0);
	}
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("push");
	TCase *kept = bus_test_case("kept"), *memory = bus_test_case("memory");

	BUS_TEST_CASE(suite, "events", page_gets_matching_messages_as_topic_and_value,
	    filters_that_overlap_bring_a_message_once,
	    raw_page_gets_the_value_alone_and_text_line_by_line,
	    raw_event_takes_its_name_id_and_retry_from_headers,
	    payload_that_does_not_fit_its_type_is_shown_as_bytes,
	    head_of_the_response_is_sent_first);
	bus_test_add_loop(kept, new_page_gets_kept_values_and_then_new_messages, 0, 2);
	suite_add_tcase(suite, kept);
	BUS_TEST_CASE(suite, "life", quiet_page_gets_heartbeats_with_a_fresh_id,
	    page_that_leaves_is_removed_at_once, pages_of_a_closed_bus_are_asked_to_reconnect,
	    two_buses_share_the_thread_and_close_one_after_the_other,
	    forked_child_is_refused_and_serves_its_own_pages);
	BUS_TEST_CASE(suite, "slow", slow_page_loses_the_oldest_and_learns_how_many,
	    page_with_the_latest_skips_old_messages_without_a_gap,
	    page_that_refuses_loses_nothing_but_its_connection,
	    page_with_an_interval_gets_many_events_in_one_write);
	BUS_TEST_CASE(suite, "may", page_gets_a_topic_only_after_a_yes_and_in_order,
	    page_that_waits_for_an_answer_still_gets_heartbeats);
	bus_test_add_loop(memory, any_allocation_may_fail, 0, 2);
	suite_add_tcase(suite, memory);
	BUS_TEST_CASE(suite, "refusals", bad_arguments_are_refused_and_leave_the_socket_alone);
	return suite;
}
