/* Threads of embedded systems have small stacks: every public call must do with 32 KiB (bus.h). Below the stack lies a
 * guard page, and below that memory which a frame larger than a page would step into. */
#define _GNU_SOURCE
#include "link_test.h"

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libbus/libbus.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { TIMES = 64 }; /* their frames are larger */
#else
enum { TIMES = 1 };
#endif

extern const struct bus_transport own_transport; /* examples/c/own_transport.c */

enum { STACK = 32 << 10, BELOW = 64 << 10 };

static __attribute__((noinline)) void
take_all_of_a_small_stack(void)
{
	char deep[(size_t)STACK * TIMES];

	memset(deep, 0xbb, sizeof deep);
	__asm__ volatile("" : : "r"(deep) : "memory");
}

/* In front of the C library's: a module for names (nsswitch.conf) that needs much stack. glibc's own, files and dns, take up
 * to 12 KiB. */
int
getaddrinfo(
    const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **ret_list)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	*(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
	if (!(hints->ai_flags & AI_NUMERICHOST))
		take_all_of_a_small_stack();
	return next(name, service, hints, ret_list);
}

static void
reply(void *arg, const struct bus_msg *question)
{
	struct bus *bus = arg;
	const struct bus_msg answer = {.size = sizeof answer, .data = "!", .len = 1};

	if (question->reply_to == 0)
		return;
	ck_bus(bus_reply(bus, question, "!", 1), 0);
	ck_bus(bus_reply_msg(bus, question, &answer), 0);
}

/* As long as a topic may be, with as many levels. */
static const char *
longest_topic(void)
{
	static char topic[BUS_LIMIT_TOPIC_BYTES + 1];

	memset(topic, 'x', BUS_LIMIT_TOPIC_BYTES);
	for (int i = 0; i < BUS_LIMIT_TOPIC_LEVELS - 1; i++)
		topic[i * 8 + 4] = '/';
	return topic;
}

static void
publish_in_every_way(struct bus *bus, const char *topic)
{
	const struct bus_msg msg = {.size = sizeof msg,
	    .topic = topic,
	    .data = "1",
	    .len = 1,
	    .flags = BUS_MSG_RETAIN,
	    .headers = "\x80",
	    .headers_len = 1};
	const struct bus_slice slices[] = {{"1", 1}, {"2", 1}};
	struct bus_pub *pub;
	void *loan;

	ck_bus(bus_publish(bus, topic, "1", 1), 0);
	ck_bus(bus_publish_msg(bus, &msg), 0);
	ck_bus(bus_pub_open(bus, topic, NULL, &pub), 0);
	ck_bus(bus_pub_send(pub, "1", 1), 0);
	ck_bus(bus_pub_send_msg(pub, &msg), 0);
	ck_bus(bus_pub_send_many(pub, slices, 2), 2);
	ck_bus(bus_pub_send_parts(pub, slices, 2), 0);
	ck_bus(bus_pub_loan(pub, 4096, &loan), 0);
	ck_bus(bus_pub_commit(pub, loan, 4096), 0);
	ck_bus(bus_pub_loan(pub, 4096, &loan), 0);
	bus_pub_abort(pub, loan);
	bus_pub_close(pub);
}

static void
ask_in_every_way(struct bus *bus, struct bus_mailbox *mbox, _Atomic unsigned *replies)
{
	const struct bus_msg question = {
	    .size = sizeof question, .topic = "ask", .data = "?", .len = 1};
	const struct bus_msg *answer;
	struct bus_request *first, *second;
	struct bus_sub *responder;

	ck_bus(bus_subscribe(bus, "ask", reply, bus, &responder), 0);
	ck_bus(bus_request(bus, "ask", "?", 1, patience_ms(), &answer), 0);
	bus_msg_free(answer);
	ck_bus(bus_request_msg(bus, &question, patience_ms(), &answer), 0);
	bus_msg_free(answer);
	ck_bus(
	    bus_request_start(mbox, "ask", "?", 1, patience_ms(), count_message, replies, &first),
	    0);
	ck_bus(
	    bus_request_start_msg(mbox, &question, patience_ms(), count_message, replies, &second),
	    0);
	while (*replies < 2)
		ck_assert_int_ge(bus_dispatch(mbox, patience_ms(), 0), 0);
	bus_request_cancel(first);
	bus_request_cancel(second);
	bus_unsubscribe(responder, NULL);
}

static void
look_at_everything(struct bus *bus, struct bus_mailbox *mbox, const char *topic, bool named)
{
	struct bus_stats stats = {.size = sizeof stats};
	struct bus_log_stats log = {.size = sizeof log};
	struct bus_member member = {.size = sizeof member};
	struct bus_role *role;
	uint64_t reached;
	char text[64];

	ck_bus(bus_filter_check("a/+/#"), 0);
	ck_bus(bus_filter_covers("a/#", "a/+/#"), 1);
	ck_assert_int_gt(bus_explain(bus, topic, text, sizeof text), 0);
	ck_assert_int_ge(bus_explain_peers(bus, text, sizeof text), 0);
	ck_assert_int_ge(bus_describe(bus, text, sizeof text), named ? 0 : BUS_E_NOTSUP);
	ck_bus(bus_stats(bus, &stats), 0);
	ck_bus(bus_mailbox_stats(mbox, &stats), 0);
	ck_assert_int_ge(bus_mailbox_reached(mbox, &reached), 0);
	ck_assert((bus_epoch(bus) != 0) == named);
	ck_assert((bus_position(bus) != 0) == named);
	ck_bus(bus_log_stats(bus, &log), named ? 0 : BUS_E_NOTSUP);
	ck_bus(bus_member(bus, 0, &member), named ? 1 : BUS_E_NOTSUP);
	ck_bus(bus_role_take(bus, "role", 0, &role), named ? 0 : BUS_E_NOTSUP);
	if (named)
		bus_role_end(role);
	ck_assert_str_ne(bus_strerror(BUS_E_NOMEM), bus_errname(BUS_E_NOMEM));
	ck_assert_ptr_nonnull(bus_version());
}

static void
serve_a_page(struct bus *bus)
{
	const struct bus_page_filter filter = {.filter = "page/#"};
	const struct bus_page_config cfg = {
	    .size = sizeof cfg, .filters = &filter, .filters_count = 1};
	struct bus_push_stats stats = {.size = sizeof stats};
	struct bus_push *push;
	uint64_t page;
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	ck_bus(bus_push_open(bus, NULL, &push), 0);
	ck_bus(bus_push_add(push, ends[1], &cfg, &page), 0);
	ck_bus(bus_push_answer(push, page, "page/x", true, NULL), 0);
	ck_bus(bus_push_stats(push, &stats), 0);
	ck_bus(bus_push_page_stats(push, page, &stats), 1);
	ck_bus(bus_push_remove(push, page), 0);
	ck_assert_int_ge(bus_push_close(push, patience_ms()), 0);
	close(ends[0]);
}

static void
link_in_every_way(struct bus *bus, const char *topic)
{
	for (int i = 0; i < LINK_TEST_SCHEMES; i++) {
		struct pair p = {.a = bus, .b = open_bus()};

		pair_link(&p, i, NULL);
		ck_bus(bus_publish(p.b, topic, "1", 1), 0);
		ck_bus(bus_flush(p.b, patience_ms()), 0);
		bus_link_close(p.lb);
		bus_link_close(p.la);
		ck_assert_int_ge(bus_close(p.b, patience_ms()), 0);
	}
}

/* A name, which the system's modules look up, instead of a number. */
static void
link_by_name(struct bus *bus)
{
	struct bus_link *listening, *dialling;
	char url[64];

	ck_bus(bus_listen(bus, "tcp://localhost:0", NULL, &listening), 0);
	ck_assert_int_gt(bus_link_url(listening, url, sizeof url), 0);
	ck_bus(bus_link_reload(listening), 0);
	ck_bus(bus_dial(bus, url, NULL, &dialling), 0);
	bus_link_close(dialling);
	bus_link_close(listening);
}

/* The call fails, and its sentence is made. */
#define ck_fails(call, err)                                                                        \
	do {                                                                                       \
		ck_bus(call, err);                                                                 \
		ck_assert_int_ne(bus_error_text()[0], '\0');                                       \
	} while (0)

static void
publish_and_fail(struct bus *bus, const char *topic)
{
	static char large[4 << 20];
	const struct bus_slice slice = {large, sizeof large};
	const struct bus_msg msg = {
	    .size = sizeof msg, .topic = topic, .data = large, .len = sizeof large};
	struct bus_pub *pub;
	void *loan;

	ck_fails(bus_publish(bus, "$x", "", 0), BUS_E_TOPIC_RESERVED);
	ck_fails(bus_publish(bus, topic, large, sizeof large), BUS_E_TOO_BIG);
	ck_fails(bus_publish_msg(bus, &msg), BUS_E_TOO_BIG);
	ck_fails(bus_pub_open(bus, "+", NULL, &pub), BUS_E_TOPIC_WILDCARD);
	ck_bus(bus_pub_open(bus, topic, NULL, &pub), 0);
	ck_fails(bus_pub_send(pub, large, sizeof large), BUS_E_TOO_BIG);
	ck_fails(bus_pub_send_msg(pub, &msg), BUS_E_TOO_BIG);
	ck_fails(bus_pub_send_many(pub, &slice, 1), BUS_E_TOO_BIG);
	ck_fails(bus_pub_send_parts(pub, &slice, 1), BUS_E_TOO_BIG);
	ck_fails(bus_pub_loan(pub, sizeof large, &loan), BUS_E_TOO_BIG);
	ck_fails(bus_pub_commit(pub, large, 1), BUS_E_INVAL);
	bus_pub_close(pub);
}

static void
ask_and_fail(struct bus *bus, struct bus_mailbox *mbox)
{
	const struct bus_msg plain = {.size = sizeof plain, .topic = "ask", .data = "", .len = 0};
	const struct bus_msg *answer;
	_Atomic unsigned replies = 0;

	ck_bus(bus_mailbox_subscribe(mbox, "silent", NULL, NULL, NULL), 0);
	ck_fails(bus_request(bus, "silent", "", 0, 1, &answer), BUS_E_TIMEDOUT);
	ck_fails(bus_request_msg(bus, NULL, 1, &answer), BUS_E_INVAL);
	ck_fails(bus_request_start(mbox, "#", "", 0, 1, count_message, &replies, NULL),
	    BUS_E_TOPIC_WILDCARD);
	ck_fails(bus_request_start_msg(mbox, NULL, 1, count_message, &replies, NULL), BUS_E_INVAL);
	ck_fails(bus_reply(bus, &plain, "", 0), BUS_E_INVAL);
	ck_fails(bus_reply_msg(bus, &plain, &plain), BUS_E_INVAL);
}

static void
register_and_fail(void)
{
	const struct bus_transport taken = {.size = sizeof taken, .scheme = "tcp"};
	struct bus_transport given = own_transport;

	if (bus_transport_register(&own_transport) != 0) /* another of these tests has */
		ck_fails(bus_transport_register(&own_transport), BUS_E_EXIST);
	ck_fails(bus_transport_register(&taken), BUS_E_INVAL);
	given.scheme = "tcp";
	ck_fails(bus_transport_register(&given), BUS_E_EXIST);
	given.scheme = "no scheme";
	ck_fails(bus_transport_register(&given), BUS_E_INVAL);
}

static void
link_by_fifos(struct bus *bus)
{
	struct bus_link *listening, *dialling;
	struct bus *other = open_bus();
	char url[200];

	snprintf(url, sizeof url, "fifo://%s/fifo", bus_test_dir());
	ck_bus(bus_listen(bus, url, NULL, &listening), 0);
	ck_bus(bus_dial(other, url, NULL, &dialling), 0);
	ck_eventually(is_up(dialling));
	bus_link_close(dialling);
	bus_link_close(listening);
	ck_assert_int_ge(bus_close(other, patience_ms()), 0);
}

#ifdef BUS_TEST_TLS
static void
ignore_user(void *arg, const char *name, uint32_t flags)
{
	(void)arg, (void)name, (void)flags;
}
#endif

static void
keep_users(void)
{
#ifdef BUS_TEST_TLS
	char file[200], other[300];

	snprintf(file, sizeof file, "%s/users", bus_test_dir());
	ck_bus(bus_user_set(file, "pico", "leek soup", 0), 0);
	ck_bus(bus_user_check(file, "pico", "leek soup"), 0);
	ck_fails(bus_user_check(file, "pico", "onion"), BUS_E_AUTH);
	ck_bus(bus_users_each(file, ignore_user, NULL), 1);
	ck_bus(bus_user_remove(file, "pico"), 1);
	ck_assert_int_gt(bus_users_file(other, sizeof other), 0);
#endif
}

static void
make_certificates(void)
{
#ifdef BUS_TEST_TLS
	const char *const names[] = {"pi.local", "192.168.1.4"};
	char dir[200], path[300], line[600];

	snprintf(dir, sizeof dir, "%s/certificates", bus_test_dir());
	ck_bus(bus_cert_server(dir, names, 2, 0), 0);
	ck_bus(bus_cert_client(dir, "kitchen", 0), 0);
	ck_bus(bus_cert_psk(dir, "pi", line, sizeof line), 0);
	ck_fails(bus_cert_psk(dir, "pi", line, sizeof line), BUS_E_EXIST);
	ck_assert_int_gt(bus_cert_path(dir, "server.pem", path, sizeof path), 0);
	ck_assert_int_gt(bus_cert_describe(path, line, sizeof line), 0);
	ck_fails(bus_cert_describe("/nowhere", line, sizeof line), BUS_E_TLS);
#endif
}

static void
link_and_fail(struct bus *bus)
{
	struct bus_link_stats stats = {.size = 0};
	struct bus_link *link;
	char url[200];

	ck_fails(bus_dial(bus, "mqtt://x", NULL, &link), BUS_E_SCHEME);
	ck_fails(bus_dial(bus, "tcp://8.8.8.8:1", NULL, &link), BUS_E_NOT_LOOPBACK);
	ck_fails(bus_dial(bus, "tcp://no host:1", NULL, &link), BUS_E_ADDRESS);
	snprintf(url, sizeof url, "ipc://%s/missing/socket", bus_test_dir());
	ck_fails(bus_listen(bus, url, NULL, &link), BUS_E_SYS);
	ck_bus(bus_listen(bus, "inproc://small", NULL, &link), 0);
	ck_fails(bus_link_url(link, url, 1), BUS_E_LIMIT);
	ck_fails(bus_link_stats(link, &stats), BUS_E_INVAL);
	ck_fails(bus_link_reload(NULL), BUS_E_INVAL);
	bus_link_close(link);
}

static void
fail_in_every_way(struct bus *bus, struct bus_mailbox *mbox, const char *topic, bool named)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = "/tmp"};
	const struct bus_mailbox_config group = {.size = sizeof group, .group = "no group"};
	struct bus_stats stats = {.size = 0};
	struct bus_log_stats log = {.size = 0};
	struct bus_member member = {.size = 0};
	const struct bus_msg *msg;
	struct bus_mailbox *other;
	struct bus_role *role;
	struct bus_push *push;
	uint64_t number;
	struct bus *none;

	ck_fails(bus_open("No Bus", NULL, &none), BUS_E_INVAL);
	ck_fails(bus_open("small", &cfg, &none), BUS_E_DENIED);
	publish_and_fail(bus, topic);
	ask_and_fail(bus, mbox);
	link_and_fail(bus);
	register_and_fail();
	ck_fails(bus_subscribe(bus, "a/b+", count_message, NULL, NULL), BUS_E_FILTER);
	ck_fails(bus_mailbox_subscribe(mbox, "#/a", NULL, NULL, NULL), BUS_E_FILTER);
	ck_fails(bus_mailbox_open(bus, &group, &other), named ? BUS_E_NOTSUP : BUS_E_INVAL);
	ck_fails(bus_mailbox_fd(NULL), BUS_E_INVAL);
	ck_fails(bus_mailbox_stats(mbox, &stats), BUS_E_INVAL);
	ck_fails(bus_mailbox_reached(mbox, NULL), BUS_E_INVAL);
	ck_fails(bus_recv(NULL, 0, &msg), BUS_E_INVAL);
	ck_fails(bus_dispatch(NULL, 0, 0), BUS_E_INVAL);
	ck_fails(bus_keep(bus, "a+", NULL), BUS_E_FILTER);
	ck_fails(bus_msg_keep(NULL, &msg), BUS_E_INVAL);
	ck_fails(bus_filter_check("a+"), BUS_E_FILTER);
	ck_fails(bus_filter_covers("a", "a+"), BUS_E_FILTER);
	ck_fails(bus_explain(bus, "a/+", NULL, 0), BUS_E_TOPIC_WILDCARD);
	ck_fails(bus_explain_peers(bus, NULL, 1), BUS_E_INVAL);
	ck_fails(bus_describe(bus, NULL, 1), BUS_E_INVAL);
	ck_fails(bus_stats(bus, &stats), BUS_E_INVAL);
	ck_fails(bus_log_stats(bus, &log), BUS_E_INVAL);
	ck_fails(bus_member(bus, 0, &member), BUS_E_INVAL);
	ck_fails(bus_role_take(bus, "role/#", 0, &role), BUS_E_TOPIC_WILDCARD);
	ck_fails(bus_push_open(NULL, NULL, &push), BUS_E_INVAL);
	ck_fails(bus_push_add(NULL, -1, NULL, &number), BUS_E_INVAL);
	ck_fails(bus_push_answer(NULL, 1, "t", true, NULL), BUS_E_INVAL);
	ck_fails(bus_push_remove(NULL, 1), BUS_E_INVAL);
	ck_fails(bus_push_stats(NULL, NULL), BUS_E_INVAL);
	ck_fails(bus_push_page_stats(NULL, 1, NULL), BUS_E_INVAL);
}

/* What remains when the bus has closed. */
static void
fail_on_a_closed_bus(struct bus_mailbox *mbox)
{
	const struct bus_msg *msg;

	ck_fails(bus_recv(mbox, 0, &msg), BUS_E_CLOSED);
	ck_fails(bus_dispatch(mbox, 0, 0), BUS_E_CLOSED);
}

static void
use_a_bus(const char *name)
{
	const struct bus_msg will = {.size = sizeof will, .topic = "will", .data = "x", .len = 1};
	const struct bus_config cfg = {
	    .size = sizeof cfg, .dir = bus_test_dir(), .will = name != NULL ? &will : NULL};
	const char *topic = longest_topic();
	_Atomic unsigned heard = 0, replies = 0;
	const struct bus_msg *msg, *kept;
	struct bus_mailbox *mbox;
	struct bus_sub *sub, *notices;
	struct bus *bus;

	ck_bus(bus_open(name, &cfg, &bus), 0);
	ck_bus(bus_keep(bus, "#", NULL), name == NULL ? 0 : BUS_E_NOTSUP);
	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "$bus/#", count_message, &heard, &notices), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "x/#", NULL, NULL, NULL), 0);
	ck_bus(bus_mailbox_subscribe(mbox, topic, count_message, &heard, NULL), 0);
	ck_bus(bus_subscribe(bus, topic, count_message, &heard, &sub), 0);
	publish_in_every_way(bus, topic);
	ck_assert_int_ge(bus_mailbox_fd(mbox), 0);
	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_bus(bus_msg_keep(msg, &kept), 0);
	bus_msg_free(kept);
	ck_assert_int_gt(bus_dispatch(mbox, patience_ms(), 0), 0);
	ask_in_every_way(bus, mbox, &replies);
	look_at_everything(bus, mbox, topic, name != NULL);
	serve_a_page(bus);
	link_in_every_way(bus, topic);
	link_by_name(bus);
	fail_in_every_way(bus, mbox, topic, name != NULL);
	keep_users();
	make_certificates();
	link_by_fifos(bus);
	ck_bus(bus_flush(bus, patience_ms()), 0);
	bus_unsubscribe(sub, NULL);
	bus_unsubscribe(notices, NULL);
	ck_assert_int_ge(bus_close(bus, patience_ms()), 0);
	fail_on_a_closed_bus(mbox);
	bus_mailbox_close(mbox);
}

static void *
use_private_bus(void *arg)
{
	use_a_bus(NULL);
	return arg;
}

static void *
use_named_bus(void *arg)
{
	use_a_bus("small");
	return arg;
}

/* Values as deep as they may be, in JSON and in msgpack. */
static void *
use_values(void *arg)
{
	struct bus_packer *packer;
	const struct bus_value *value;
	const void *data;
	struct bus_packer *numbers_packer;
	struct bus_numbers none = {.kind = 'f', .item_bytes = 8, .dimensions = 1};
	char json[2 * BUS_PACK_DEPTH + 1] = "", *text;
	size_t len;

	memset(json, '[', BUS_PACK_DEPTH);
	memset(json + BUS_PACK_DEPTH, ']', BUS_PACK_DEPTH);
	ck_bus(bus_value_read(BUS_TYPE_JSON, json, strlen(json), &value), 0);
	ck_bus(bus_value_json(value, &text, &len), 0);
	ck_assert_str_eq(text, json);
	free(text);
	bus_value_free(value);
	ck_bus(bus_value_read(BUS_TYPE_JSON, "18446744073709551615", 20, &value), 0);
	bus_value_free(value);
	ck_bus(bus_value_read(BUS_TYPE_JSON, "0.1e-5", 6, &value), 0);
	ck_bus(bus_value_json(value, &text, &len), 0);
	free(text);
	bus_value_free(value);

	ck_bus(bus_packer_new(&packer), 0);
	for (int i = 0; i < BUS_PACK_DEPTH - 1; i++)
		bus_pack_array(packer, 1);
	bus_pack_map(packer, 4);
	bus_pack_text(packer, "k", 1);
	bus_pack_nil(packer);
	bus_pack_int(packer, -1);
	bus_pack_bool(packer, true);
	bus_pack_uint(packer, UINT64_MAX);
	bus_pack_float(packer, 0.1);
	bus_pack_bytes(packer, "b", 1);
	bus_pack_ext(packer, 1, "e", 1);
	ck_bus(bus_packer_data(packer, &data, &len), 0);
	ck_bus(bus_value_read(BUS_TYPE_MSGPACK, data, len, &value), 0);
	ck_bus(bus_value_json(value, &text, &len), 0);
	free(text);
	bus_value_free(value);
	bus_packer_reset(packer);
	bus_pack_text(packer, "\xff", 1);
	ck_fails(bus_packer_data(packer, &data, &len), BUS_E_DECODE);
	bus_packer_free(packer);
	ck_fails(bus_packer_new(NULL), BUS_E_INVAL);
	ck_bus(bus_payload_json(
		   BUS_TYPE_MSGPACK, "\xcb\x3f\xd5\x55\x55\x55\x55\x55\x55", 9, &text, &len),
	    0);
	free(text);
	ck_bus(bus_packer_new(&numbers_packer), 0);
	bus_pack_array(numbers_packer, 2);
	bus_pack_time(numbers_packer, -1, 1);
	bus_pack_numbers(numbers_packer, &none);
	ck_bus(bus_packer_data(numbers_packer, &data, &len), 0);
	ck_bus(bus_value_read(BUS_TYPE_MSGPACK, data, len, &value), 0);
	ck_bus(bus_value_numbers(&value->as.items[1], &none), 0);
	bus_value_free(value);
	bus_packer_free(numbers_packer);
	ck_fails(bus_value_read(BUS_TYPE_TEXT, "\x80", 1, &value), BUS_E_DECODE);
	json[2 * BUS_PACK_DEPTH - 1] = '\0';
	ck_fails(bus_value_read(BUS_TYPE_JSON, json, strlen(json), &value), BUS_E_DECODE);
	ck_fails(bus_value_read(BUS_TYPE_MSGPACK, "\x92\x01", 2, &value), BUS_E_DECODE);
	return arg;
}

/* The system's least where that is more: 128 KiB on aarch64. */
static size_t
stack_bytes(void)
{
	long least = sysconf(_SC_THREAD_STACK_MIN), wanted = (long)STACK * TIMES;

	return (size_t)(least > wanted ? least : wanted);
}

static void
run_on_a_small_stack(void *(*run)(void *arg))
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), stack = stack_bytes(), changed = 0;
	uint8_t *memory = mmap(
	    NULL, BELOW + page + stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t thread;

	ck_assert(memory != MAP_FAILED);
	memset(memory, 0xaa, BELOW);
	ck_assert_int_eq(mprotect(memory + BELOW, page, PROT_NONE), 0);
	ck_assert_int_eq(pthread_attr_init(&attr), 0);
	ck_assert_int_eq(pthread_attr_setstack(&attr, memory + BELOW + page, stack), 0);
	ck_assert_int_eq(pthread_create(&thread, &attr, run, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
	for (size_t i = 0; i < BELOW; i++)
		changed += memory[i] != 0xaa;
	ck_assert_uint_eq(changed, 0);
	munmap(memory, BELOW + page + stack);
}

START_TEST(every_call_on_a_private_bus_does_with_32_kib_of_stack)
{
	run_on_a_small_stack(use_private_bus);
}
END_TEST

START_TEST(every_call_on_a_named_bus_does_with_32_kib_of_stack)
{
	run_on_a_small_stack(use_named_bus);
}
END_TEST

START_TEST(every_call_on_values_does_with_32_kib_of_stack)
{
	run_on_a_small_stack(use_values);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: small stack");

	BUS_TEST_CASE(suite, "small stack", every_call_on_a_private_bus_does_with_32_kib_of_stack,
	    every_call_on_a_named_bus_does_with_32_kib_of_stack,
	    every_call_on_values_does_with_32_kib_of_stack);
	return suite;
}
