/* A program was compiled with the header of an older or a newer libbus than the one that it runs with, so its structs
 * are smaller or larger. Every public struct that begins with its size, at every call that takes it. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libbus/bus.h>
#include <libbus/own_transport.h>
#include <libbus/push.h>
#include <libbus/transport.h>

#include "structs_0_1.h"

START_TEST(the_smallest_size_is_that_of_the_first_version)
{
	for (int i = 0; i < SIZED_KINDS; i++) {
		ck_assert_uint_eq(bus__sized[i].first, sizes_0_1[i]);
		ck_assert_uint_le(bus__sized[i].first, bus__sized[i].now);
		ck_assert_uint_lt(bus__sized[i].now, SIZED_MOST);
	}
}
END_TEST

/* --- the calls ------------------------------------------------------------------------------------------------------- */

struct place {
	struct bus *bus, *named;
	struct bus_mailbox *mbox; /* of bus; "t" comes here */
	struct bus_mailbox *
	    inside; /* of bus; its callbacks run in the publish, whose thread has their error texts */
	struct bus_link *link; /* of bus */
	const char *dir;
};

static void
open_place(struct place *p)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .log_bytes = 4 << 20};
	const struct bus_mailbox_config inside = {
	    .size = sizeof inside, .drain = BUS_DRAIN_PUBLISHER};

	p->dir = cfg.dir;
	ck_bus(bus_open(NULL, NULL, &p->bus), 0);
	ck_bus(bus_open("sizes", &cfg, &p->named), 0);
	ck_bus(bus_mailbox_open(p->bus, NULL, &p->mbox), 0);
	ck_bus(bus_mailbox_subscribe(p->mbox, "t", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_open(p->bus, &inside, &p->inside), 0);
	ck_bus(bus_listen(p->bus, "inproc://sizes", NULL, &p->link), 0);
}

static void
close_place(struct place *p)
{
	bus_link_close(p->link);
	bus_mailbox_close(p->inside);
	bus_mailbox_close(p->mbox);
	ck_bus(bus_close(p->named, 0), 0);
	ck_bus(bus_close(p->bus, 0), 0);
}

static int
publish(struct place *p, void *given)
{
	const struct bus_msg *got;
	int err = bus_publish_msg(p->bus, given);

	if (err < 0)
		return err;
	ck_bus(bus_recv(p->mbox, 0, &got), 1);
	ck_assert_uint_eq(got->size, sizeof *got);
	ck_assert_uint_eq(got->len, 5);
	ck_assert_mem_eq(got->data, "hello", 5);
	ck_assert_int_eq(got->type, BUS_TYPE_TEXT);
	return 0;
}

static int
send_on_handle(struct place *p, void *given)
{
	const struct bus_msg *got;
	struct bus_pub *pub;
	int err;

	ck_bus(bus_pub_open(p->bus, "t", NULL, &pub), 0);
	err = bus_pub_send_msg(pub, given);
	bus_pub_close(pub);
	if (err < 0)
		return err;
	ck_bus(bus_recv(p->mbox, 0, &got), 1);
	ck_assert_mem_eq(got->data, "hello", 5);
	ck_assert_int_eq(got->type, BUS_TYPE_TEXT);
	return 0;
}

static int
publish_on_named(struct place *p, void *given)
{
	return bus_publish_msg(p->named, given);
}

static int
keep_msg(struct place *p, void *given)
{
	const struct bus_msg *kept;
	int err = bus_msg_keep(given, &kept);

	(void)p;
	if (err < 0)
		return err;
	ck_assert_uint_eq(kept->size, sizeof *kept);
	ck_assert_str_eq(kept->topic, "t");
	ck_assert_mem_eq(kept->data, "hello", 5);
	bus_msg_free(kept);
	return 0;
}

static void
answer(void *arg, const struct bus_msg *question)
{
	ck_bus(bus_reply(arg, question, "yes", 3), 0);
}

static int
request(struct place *p, void *given)
{
	const struct bus_msg *reply;
	struct bus_sub *sub;
	int err;

	ck_bus(bus_mailbox_subscribe(p->inside, "t", answer, p->bus, &sub), 0);
	err = bus_request_msg(p->bus, given, patience_ms(), &reply);
	bus_unsubscribe(sub, NULL);
	if (err < 0)
		return err;
	ck_assert_uint_eq(reply->size, sizeof *reply);
	ck_assert_mem_eq(reply->data, "yes", 3);
	bus_msg_free(reply);
	return 0;
}

static void
ignore(void *arg, const struct bus_msg *msg)
{
	(void)arg;
	(void)msg;
}

static int
request_start(struct place *p, void *given)
{
	struct bus_request *req;
	int err = bus_request_start_msg(p->mbox, given, patience_ms(), ignore, NULL, &req);

	if (err == 0)
		bus_request_cancel(req);
	return err;
}

/* A reply of this message, or to it. */
struct replier {
	struct bus *bus;
	const struct bus_msg *reply;
	void *question; /* of another size: takes the number of the real one */
	int err;
};

static void
reply_by(void *arg, const struct bus_msg *question)
{
	struct replier *r = arg;

	r->err = bus_reply_msg(r->bus, question, r->reply);
	if (r->err < 0)
		ck_bus(bus_reply(r->bus, question, "hello", 5), 0);
}

static int
reply(struct place *p, void *given)
{
	struct replier r = {.bus = p->bus, .reply = given};
	const struct bus_msg *got;
	struct bus_sub *sub;

	ck_bus(bus_mailbox_subscribe(p->inside, "q", reply_by, &r, &sub), 0);
	ck_bus(bus_request(p->bus, "q", "", 0, patience_ms(), &got), 0);
	bus_unsubscribe(sub, NULL);
	ck_assert_uint_eq(got->size, sizeof *got);
	ck_assert_mem_eq(got->data, "hello", 5);
	bus_msg_free(got);
	return r.err;
}

static void
reply_to_copy(void *arg, const struct bus_msg *question)
{
	struct replier *r = arg;
	const struct bus_msg yes = {.size = sizeof yes, .data = "yes", .len = 3};
	struct bus_msg *copy = r->question;
	size_t size = copy->size;

	if (size >= sizeof(struct msg_0_1) && size <= SIZED_MOST)
		copy->reply_to = question->reply_to;
	r->err = bus_reply_msg(r->bus, copy, &yes);
	if (r->err < 0)
		ck_bus(bus_reply(r->bus, question, "yes", 3), 0);
}

static int
reply_to(struct place *p, void *given)
{
	struct replier r = {.bus = p->bus, .question = given};
	const struct bus_msg *got;
	struct bus_sub *sub;

	ck_bus(bus_mailbox_subscribe(p->inside, "q", reply_to_copy, &r, &sub), 0);
	ck_bus(bus_request(p->bus, "q", "", 0, patience_ms(), &got), 0);
	bus_unsubscribe(sub, NULL);
	ck_assert_mem_eq(got->data, "yes", 3);
	bus_msg_free(got);
	return r.err;
}

static int
open_with_will(struct place *p, void *given)
{
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = p->dir, .log_bytes = 4 << 20, .will = given};
	struct bus *bus;
	int err = bus_open("sizes", &cfg, &bus);

	return err < 0 ? err : bus_close(bus, 0);
}

static int
open_bus(struct place *p, void *given)
{
	char small[100] = "";
	struct bus *bus;
	int err = bus_open(NULL, given, &bus);

	(void)p;
	if (err < 0)
		return err;
	ck_bus(bus_publish(bus, "t", small, sizeof small), BUS_E_TOO_BIG);
	return bus_close(bus, 0);
}

static int
open_pub(struct place *p, void *given)
{
	const struct bus_msg *got;
	struct bus_pub *pub;
	int err = bus_pub_open(p->bus, "t", given, &pub);

	if (err < 0)
		return err;
	ck_bus(bus_pub_send(pub, "x", 1), 0);
	ck_bus(bus_recv(p->mbox, 0, &got), 1);
	ck_assert_int_eq(got->type, BUS_TYPE_TEXT);
	bus_pub_close(pub);
	return 0;
}

static int
open_mailbox(struct place *p, void *given)
{
	struct bus_mailbox *mbox;
	int err = bus_mailbox_open(p->bus, given, &mbox);

	if (err < 0)
		return err;
	ck_assert_int_ge(bus_mailbox_fd(mbox), 0);
	bus_mailbox_close(mbox);
	return 0;
}

static int
keep(struct place *p, void *given)
{
	return bus_keep(p->bus, "kept/#", given);
}

static int
listen_at(struct place *p, void *given)
{
	struct bus_link *link;
	int err = bus_listen(p->bus, "inproc://more", given, &link);

	if (err == 0)
		bus_link_close(link);
	return err;
}

static int
dial(struct place *p, void *given)
{
	struct bus_link *link;
	int err = bus_dial(p->bus, "inproc://nobody", given, &link);

	if (err == 0)
		bus_link_close(link);
	return err;
}

static int
read_bus_stats(struct place *p, void *ret_given)
{
	const struct bus_stats *stats = ret_given;
	int err = bus_stats(p->bus, ret_given);

	if (err < 0)
		return err;
	ck_assert_uint_eq(stats->offered, 0);
	ck_assert_uint_eq(stats->lost[BUS_LOSS_ROOM - 1], 0);
	ck_assert_uint_eq(stats->goal, 0);
	return 0;
}

static int
read_mailbox_stats(struct place *p, void *ret_given)
{
	const struct bus_stats *stats = ret_given;
	const struct bus_msg *got;
	int err;

	ck_bus(bus_publish(p->bus, "t", "x", 1), 0);
	err = bus_mailbox_stats(p->mbox, ret_given);
	if (err == 0) {
		ck_assert_uint_eq(stats->pending, 1);
		ck_assert_uint_eq(stats->lost[BUS_LOSS_FULL], 0);
		ck_assert_uint_eq(stats->goal, stats->reached + 1);
	}
	ck_bus(bus_recv(p->mbox, 0, &got), 1);
	return err;
}

static int
read_link_stats(struct place *p, void *ret_given)
{
	const struct bus_link_stats *stats = ret_given;
	int err = bus_link_stats(p->link, ret_given);

	if (err < 0)
		return err;
	ck_assert_uint_eq(stats->peers, 0);
	for (int i = 0; i < BUS_LINK_END_ROOM; i++)
		ck_assert_uint_eq(stats->ended[i], 0);
	return 0;
}

static int
read_log_stats(struct place *p, void *ret_given)
{
	const struct bus_log_stats *stats = ret_given;
	int err = bus_log_stats(p->named, ret_given);

	if (err < 0)
		return err;
	ck_assert_uint_ge(stats->log_bytes, 4 << 20);
	ck_assert_uint_eq(stats->processes, 1);
	ck_assert_uint_eq(stats->processes_most, BUS_LIMIT_MEMBERS);
	return 0;
}

static int
read_member(struct place *p, void *ret_given)
{
	const struct bus_member *member = ret_given;
	int err = bus_member(p->named, 0, ret_given);

	if (err < 0)
		return err;
	ck_assert_int_eq(err, 1);
	ck_assert_uint_eq(member->pid, (uint32_t)getpid());
	ck_assert(member->is_this && member->is_alive);
	return 0;
}

/* No function is called: there is no link. */
static int
no_listen(void *arg, const char *address, void **ret_listener)
{
	(void)arg, (void)address, (void)ret_listener;
	return BUS_E_NOTSUP;
}

static int
no_accept(void *listener, int timeout_ms, void **ret_conn)
{
	(void)listener, (void)timeout_ms, (void)ret_conn;
	return BUS_E_NOTSUP;
}

static int
no_dial(void *arg, const char *address, int timeout_ms, void **ret_conn)
{
	(void)arg, (void)address, (void)timeout_ms, (void)ret_conn;
	return BUS_E_NOTSUP;
}

static int
no_send(void *conn, const void *data, size_t len, int timeout_ms)
{
	(void)conn, (void)data, (void)len, (void)timeout_ms;
	return BUS_E_NOTSUP;
}

static int
no_recv(void *conn, void *ret_data, size_t cap, int timeout_ms)
{
	(void)conn, (void)ret_data, (void)cap, (void)timeout_ms;
	return BUS_E_NOTSUP;
}

static void
no_close(void *handle)
{
	(void)handle;
}

/* From the second call on the scheme is there. */
static int
register_transport(struct place *p, void *given)
{
	int err = bus_transport_register(given);

	(void)p;
	return err == BUS_E_EXIST ? 0 : err;
}

static int
open_push(struct place *p, void *given)
{
	struct bus_push *push;
	int err = bus_push_open(p->bus, given, &push);

	if (err == 0)
		bus_push_close(push, 0);
	return err;
}

static int
add_page(struct place *p, void *given)
{
	struct bus_push *push;
	uint64_t page;
	int ends[2], err;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	ck_bus(bus_push_open(p->bus, NULL, &push), 0);
	err = bus_push_add(push, ends[1], given, &page);
	if (err < 0)
		close(ends[1]);
	ck_assert_int_eq(bus_push_close(push, 0), err == 0);
	close(ends[0]);
	return err;
}

static int
read_push_stats(struct place *p, void *ret_given)
{
	const struct bus_push_stats *stats = ret_given;
	struct bus_push *push;
	int err;

	ck_bus(bus_push_open(p->bus, NULL, &push), 0);
	err = bus_push_stats(push, ret_given);
	if (err == 0) {
		ck_assert_uint_eq(stats->pages_most, 10000);
		ck_assert_uint_eq(stats->waiting_bytes, 0);
	}
	bus_push_close(push, 0);
	return err;
}

static const struct bus_page_filter page_filter = {.filter = "t"};
static const struct bus_push_config push_cfg = {.heartbeat_ms = 1000, .history = 10};
static const struct bus_page_config page_cfg = {
    .filters = &page_filter, .filters_count = 1, .raw = true, .event = "news"};
static const struct bus_msg message = {
    .topic = "t", .data = "hello", .len = 5, .type = BUS_TYPE_TEXT};
static const struct bus_config bus_cfg = {.max_payload = 99};
static const struct bus_pub_config pub_cfg = {.type = BUS_TYPE_TEXT};
static const struct bus_mailbox_config mailbox_cfg = {
    .full = BUS_FULL_REFUSE, .bytes = 4096, .drain = BUS_DRAIN_CALLER};
static const struct bus_keep_config keep_cfg = {.last = 3, .max_bytes = 100};
static const struct bus_link_config link_cfg = {.bytes = 4096, .max_peers = 1};
static const struct bus_transport transport = {.scheme = "sized",
    .listen = no_listen,
    .accept = no_accept,
    .dial = no_dial,
    .send = no_send,
    .recv = no_recv,
    .close = no_close};

static const struct door {
	const char *call;
	int kind;
	int (*use)(struct place *p, void *given);
	const void *fields; /* what the library reads there; NULL: it fills the struct */
} doors[] = {
    {"bus_publish_msg", SIZED_MSG, publish, &message},
    {"bus_publish_msg, named", SIZED_MSG, publish_on_named, &message},
    {"bus_pub_send_msg", SIZED_MSG, send_on_handle, &message},
    {"bus_msg_keep", SIZED_MSG, keep_msg, &message},
    {"bus_request_msg", SIZED_MSG, request, &message},
    {"bus_request_start_msg", SIZED_MSG, request_start, &message},
    {"bus_reply_msg, the reply", SIZED_MSG, reply, &message},
    {"bus_reply_msg, the question", SIZED_MSG, reply_to, &message},
    {"bus_open, the will", SIZED_MSG, open_with_will, &message},
    {"bus_open", SIZED_CONFIG, open_bus, &bus_cfg},
    {"bus_pub_open", SIZED_PUB_CONFIG, open_pub, &pub_cfg},
    {"bus_mailbox_open", SIZED_MAILBOX_CONFIG, open_mailbox, &mailbox_cfg},
    {"bus_keep", SIZED_KEEP_CONFIG, keep, &keep_cfg},
    {"bus_listen", SIZED_LINK_CONFIG, listen_at, &link_cfg},
    {"bus_dial", SIZED_LINK_CONFIG, dial, &link_cfg},
    {"bus_stats", SIZED_STATS, read_bus_stats, NULL},
    {"bus_mailbox_stats", SIZED_STATS, read_mailbox_stats, NULL},
    {"bus_link_stats", SIZED_LINK_STATS, read_link_stats, NULL},
    {"bus_log_stats", SIZED_LOG_STATS, read_log_stats, NULL},
    {"bus_member", SIZED_MEMBER, read_member, NULL},
    {"bus_push_open", SIZED_PUSH_CONFIG, open_push, &push_cfg},
    {"bus_push_add", SIZED_PAGE_CONFIG, add_page, &page_cfg},
    {"bus_push_stats", SIZED_PUSH_STATS, read_push_stats, NULL},
    {"bus_transport_register", SIZED_TRANSPORT, register_transport, &transport},
};

enum { DOORS = sizeof doors / sizeof doors[0] };

START_TEST(every_struct_with_a_size_is_at_a_call)
{
	for (int kind = 0; kind < SIZED_KINDS; kind++) {
		bool found = false;

		for (int i = 0; i < DOORS; i++)
			found = found || doors[i].kind == kind;
		ck_assert_msg(found, "struct %s is at no call", bus__sized[kind].name);
	}
}
END_TEST

/* --- sizes ----------------------------------------------------------------------------------------------------------- */

/* The struct as a caller has it whose header gives it this size, in a block of so many bytes: a sanitizer sees a look
 * behind it. What the library is to fill has other bytes before. */
static void *
make_given(const struct door *door, size_t size, size_t block_len)
{
	size_t now = bus__sized[door->kind].now;
	unsigned char *block = calloc(1, block_len);

	ck_assert_ptr_nonnull(block);
	if (door->fields != NULL)
		memcpy(block, door->fields, now < block_len ? now : block_len);
	else
		memset(block, 0xa5, block_len);
	memcpy(block, &size, sizeof size);
	return block;
}

/* The call takes a struct of this size, and fills no byte behind what both know. */
static void
check_taken(struct place *p, const struct door *door, size_t size)
{
	size_t now = bus__sized[door->kind].now, after;
	unsigned char *given = make_given(door, size, size);
	int err = door->use(p, given);

	ck_assert_msg(
	    err == 0, "%s: size %zu: %s: %s", door->call, size, bus_errname(err), bus_error_text());
	memcpy(&after, given, sizeof after);
	ck_assert_uint_eq(after, size);
	for (size_t i = now; i < size; i++)
		ck_assert_msg(
		    given[i] == 0, "%s: size %zu: byte %zu is not 0", door->call, size, i);
	free(given);
}

static void
check_refused(struct place *p, const struct door *door, void *given, const char *words)
{
	char name[64];
	int err = door->use(p, given);
	const char *text = bus_error_text();

	snprintf(name, sizeof name, "struct %s: ", bus__sized[door->kind].name);
	ck_assert_msg(err == BUS_E_INVAL, "%s answered %s", door->call, bus_errname(err));
	free(given);
	/* The will and the reply come with other calls behind them; none fails. */
	ck_assert_msg(strstr(text, name) != NULL && strstr(text, words) != NULL,
	    "%s: \"%s\" lacks \"%s\" or \"%s\"", door->call, text, name, words);
}

/* So far all structs are of the first size; as soon as one grows, these are its older callers. */
START_TEST(a_caller_of_an_older_version_is_served)
{
	const struct sized *kind = &bus__sized[doors[_i].kind];
	struct place p;

	open_place(&p);
	for (size_t size = kind->first; size <= kind->now; size++)
		check_taken(&p, &doors[_i], size);
	close_place(&p);
}
END_TEST

START_TEST(a_caller_of_a_newer_version_that_uses_nothing_new_is_served)
{
	const struct sized *kind = &bus__sized[doors[_i].kind];
	struct place p;

	open_place(&p);
	check_taken(&p, &doors[_i], kind->now + 1);
	check_taken(&p, &doors[_i], kind->now + sizeof(long));
	check_taken(&p, &doors[_i], SIZED_MOST);
	close_place(&p);
}
END_TEST

START_TEST(a_caller_that_sets_a_field_of_a_newer_version_is_told_so)
{
	const struct door *door = &doors[_i];
	size_t now = bus__sized[door->kind].now;
	const size_t sizes[] = {now + 1, now + sizeof(long), SIZED_MOST};
	struct place p;

	if (door->fields == NULL)
		return; /* the library reads only the size */
	open_place(&p);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		unsigned char *first = make_given(door, sizes[i], sizes[i]);
		unsigned char *last = make_given(door, sizes[i], sizes[i]);

		first[now] = 1;
		last[sizes[i] - 1] = 0x80;
		check_refused(&p, door, first, "built against a newer libbus");
		check_refused(&p, door, last, "a field that this one does not know");
	}
	close_place(&p);
}
END_TEST

START_TEST(a_size_that_no_version_has_is_refused)
{
	const struct door *door = &doors[_i];
	const size_t sizes[] = {
	    0, 1, sizeof(size_t), bus__sized[door->kind].first - 1, SIZED_MOST + 1, SIZE_MAX};
	struct place p;

	open_place(&p);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		check_refused(&p, door, make_given(door, sizes[i], sizeof(size_t)),
		    "set .size = sizeof (struct bus_");
	close_place(&p);
}
END_TEST

/* The program of the report: a struct of a newer header around ours. */
START_TEST(a_newer_program_opens_a_bus_and_publishes)
{
	struct {
		struct bus_config cfg;
		long newer;
	} cfg;
	struct {
		struct bus_msg msg;
		long newer;
	} msg;
	struct bus *bus;

	memset(&cfg, 0, sizeof cfg);
	memset(&msg, 0, sizeof msg);
	cfg.cfg.size = sizeof cfg;
	msg.msg.size = sizeof msg;
	msg.msg.topic = "t";
	ck_bus(bus_open(NULL, &cfg.cfg, &bus), 0);
	ck_bus(bus_publish_msg(bus, &msg.msg), 0);
	msg.newer = 1;
	ck_bus(bus_publish_msg(bus, &msg.msg), BUS_E_INVAL);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: struct size");
	TCase *tcase = bus_test_case("each call");

	BUS_TEST_CASE(suite, "versions", a_newer_program_opens_a_bus_and_publishes,
	    the_smallest_size_is_that_of_the_first_version, every_struct_with_a_size_is_at_a_call);
	tcase_add_loop_test(tcase, a_caller_of_an_older_version_is_served, 0, DOORS);
	tcase_add_loop_test(
	    tcase, a_caller_of_a_newer_version_that_uses_nothing_new_is_served, 0, DOORS);
	tcase_add_loop_test(
	    tcase, a_caller_that_sets_a_field_of_a_newer_version_is_told_so, 0, DOORS);
	tcase_add_loop_test(tcase, a_size_that_no_version_has_is_refused, 0, DOORS);
	suite_add_tcase(suite, tcase);
	return suite;
}
