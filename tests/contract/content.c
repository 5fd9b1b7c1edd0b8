/* content.c: the parts of messages: bytes, times to live, questions and replies, batches. */
#define _GNU_SOURCE
#include "contract.h"

#include <stdlib.h>

static void
send_and_compare(struct rig *rig, struct inbox *inbox, const uint8_t *data, size_t len, int type)
{
	static const uint8_t map[] = {0x81, 0xa1, 'k', 0x01};
	size_t headers_len = len < MAX_PAYLOAD ? sizeof map : 0;
	const struct bus_msg msg = {.size = sizeof msg,
	    .topic = "bytes",
	    .data = data,
	    .len = len,
	    .type = type,
	    .headers = headers_len > 0 ? map : NULL,
	    .headers_len = headers_len};
	const struct item *item;

	ck_bus(bus_publish_msg(rig->from, &msg), 0);
	item = inbox_take(inbox);
	ck_assert_uint_eq(item->msg.len, len);
	ck_assert(memcmp(item->data, data, len) == 0);
	ck_assert_int_eq(item->msg.type, type);
	ck_assert_uint_eq(item->msg.headers_len, headers_len);
	ck_assert(memcmp(item->headers, map, headers_len) == 0);
}

void
promise_bytes(const struct door *door)
{
	static const size_t lens[] = {0, 1, 1023, 1024, 1025, 65536, MAX_PAYLOAD - 5, MAX_PAYLOAD};
	static const int types[] = {
	    BUS_TYPE_UNTAGGED, BUS_TYPE_MSGPACK, BUS_TYPE_BYTES, BUS_TYPE_JSON, BUS_TYPE_TEXT, 200};
	enum { TYPES = sizeof types / sizeof types[0] };
	uint8_t *data = malloc(MAX_PAYLOAD);
	struct rig rig;
	struct inbox inbox;

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < MAX_PAYLOAD; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	open_all(&rig, &inbox, door, "bytes");
	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++)
		for (size_t t = 0; t < (lens[i] < MAX_PAYLOAD / 2 ? TYPES : 1); t++)
			send_and_compare(&rig, &inbox, data, lens[i], types[t]);
	inbox_ends(&inbox);
	free(data);
	close_all(&rig, &inbox);
}

void
promise_too_big(const struct door *door)
{
	uint8_t *data = calloc(1, MAX_PAYLOAD + 1);
	const struct bus_slice slice = {data, MAX_PAYLOAD + 1};
	const struct bus_msg msg = {.size = sizeof msg,
	    .topic = "big",
	    .data = data,
	    .len = MAX_PAYLOAD + 1,
	    .flags = BUS_MSG_RETAIN};
	struct bus_pub *pub;
	struct rig rig;
	struct inbox inbox;
	void *loan;

	ck_assert_ptr_nonnull(data);
	open_all(&rig, &inbox, door, "big");
	ck_bus(bus_pub_open(rig.from, "big", NULL, &pub), 0);
	ck_bus(bus_publish(rig.from, "big", data, MAX_PAYLOAD + 1), BUS_E_TOO_BIG);
	ck_bus(bus_publish_msg(rig.from, &msg), BUS_E_TOO_BIG);
	ck_bus(bus_pub_send(pub, data, MAX_PAYLOAD + 1), BUS_E_TOO_BIG);
	ck_bus(bus_pub_send_many(pub, &slice, 1), BUS_E_TOO_BIG);
	ck_bus(bus_pub_loan(pub, MAX_PAYLOAD + 1, &loan), BUS_E_TOO_BIG);
	inbox_ends(&inbox);
	bus_pub_close(pub);
	free(data);
	close_all(&rig, &inbox);
}

struct asked {
	_Atomic unsigned replies, ends;
};

static void
hear_reply(void *arg, const struct bus_msg *reply)
{
	struct asked *asked = arg;

	if (reply == NULL)
		asked->ends++;
	else if (reply->len == 1 && *(const char *)reply->data == 'r')
		asked->replies++;
}

void
promise_reply(const struct door *door)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .drain = BUS_DRAIN_THREAD};
	struct asked asked = {.replies = 0};
	struct rig rig;
	struct inbox inbox, others;
	struct bus_mailbox *asker;
	struct bus_request *req;
	const struct item *question;

	open_all(&rig, &inbox, door, "ask");
	inbox_open(&others, &rig, 0, 0, FILTERS("#"));
	ck_bus(bus_mailbox_open(rig.from, &cfg, &asker), 0);
	ck_bus(bus_request_start(asker, "ask", "q", 1, patience_ms(), hear_reply, &asked, &req), 0);
	question = inbox_take(&inbox);
	ck_assert_uint_ne(question->msg.reply_to, 0);
	for (unsigned i = 1; i <= 3; i++) { /* as many as the answering side has */
		ck_bus(bus_reply(rig.to, &question->msg, "r", 1), 0);
		ck_eventually(asked.replies == i);
	}
	bus_request_cancel(req);
	ck_eventually(asked.ends == 1); /* behind the messages that the asker's drainer has taken */
	expect_text(&others, "ask", "q", false); /* and no reply */
	inbox_ends(&others);
	inbox_ends(&inbox);
	bus_mailbox_close(asker);
	inbox_close(&others);
	close_all(&rig, &inbox);
}

void
promise_nobody(const struct door *door)
{
	const struct bus_msg *msg;
	struct rig rig;
	struct inbox inbox;

	open_all(&rig, &inbox, door, "ask");
	ck_bus(bus_request(rig.from, "nobody", "q", 1, patience_ms(), &msg), BUS_E_NOBODY);
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static const struct item *
take_of(struct inbox *inboxes, int count)
{
	struct inbox *inbox = NULL;

	for (int i = 0; i < count && inbox == NULL; i++)
		if (inbox_has_next(&inboxes[i]))
			inbox = &inboxes[i];
	return inbox != NULL ? inbox_take(inbox) : NULL;
}

void
promise_shared(const struct door *door)
{
	unsigned came[MANY] = {0};
	struct rig rig;
	struct inbox inboxes[3];
	struct bus_stats stats;

	rig_open(&rig, door);
	for (int i = 0; i < 3; i++)
		inbox_share(&inboxes[i], &rig, FILTERS("n"));
	for (unsigned i = 0; i < MANY; i++)
		publish_number(&rig, "n", i);
	for (unsigned i = 0; i < MANY; i++) {
		const struct item *item;

		ck_eventually((item = take_of(inboxes, 3)) != NULL);
		ck_assert_uint_lt(number_of(item), MANY);
		ck_assert_uint_eq(came[number_of(item)]++, 0);
	}
	/* A callback is counted when it has returned. */
	ck_eventually((stats = inbox_stats(&inboxes[0])).delivered == MANY);
	ck_assert_uint_eq(stats.offered, MANY);
	for (int i = 0; i < 3; i++)
		inbox_close(&inboxes[i]);
	rig_close(&rig);
}

void
promise_batch(const struct door *door)
{
	enum { BATCH = 100 };
	static uint8_t data[3000];
	const struct bus_pub_config cfg = {.size = sizeof cfg, .type = BUS_TYPE_BYTES};
	struct bus_slice slices[BATCH];
	struct bus_pub *pub;
	struct rig rig;
	struct inbox inbox;

	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	for (size_t i = 0; i < BATCH; i++)
		slices[i] = (struct bus_slice){data + i, i % 10 == 9 ? 10 * i : i};
	open_all(&rig, &inbox, door, "batch");
	ck_bus(bus_pub_open(rig.from, "batch", &cfg, &pub), 0);
	ck_bus(bus_pub_send_many(pub, slices, BATCH), BATCH);
	for (size_t i = 0; i < BATCH; i++) {
		const struct item *item = inbox_take(&inbox);

		ck_assert_uint_eq(item->msg.len, slices[i].len);
		ck_assert(memcmp(item->data, slices[i].data, slices[i].len) == 0);
		ck_assert_int_eq(item->msg.type, BUS_TYPE_BYTES);
		ck_assert_uint_eq(item->msg.lost, 0);
	}
	inbox_ends(&inbox);
	bus_pub_close(pub);
	close_all(&rig, &inbox);
}

/* Whether the message reached the inbox before it expired. */
static bool
arrives(struct rig *rig, struct inbox *inbox, uint32_t ttl_ms)
{
	const struct bus_msg msg = {.size = sizeof msg, .topic = "news", .ttl_ms = ttl_ms};
	uint64_t offered = inbox_stats(inbox).offered;
	uint64_t lost = has_link(rig) ? stats_of(rig->listener).lost : 0;

	ck_bus(bus_publish_msg(rig->from, &msg), 0);
	if (is_named(rig->door)) /* it is in the log */
		return true;
	ck_eventually(inbox_stats(inbox).offered > offered ||
		      (has_link(rig) && stats_of(rig->listener).lost > lost));
	return inbox_stats(inbox).offered > offered;
}

void
promise_ttl(const struct door *door)
{
	uint32_t ttl_ms = 20;
	struct rig rig;
	struct inbox inbox;
	const struct item *item;
	int64_t begun;

	open_all(&rig, &inbox, door, "news");
	inbox_stall(&inbox);
	while (!arrives(&rig, &inbox, ttl_ms)) /* it may expire on a slow link */
		ck_assert_uint_lt(ttl_ms *= 2, (uint32_t)patience_ms());
	begun = bus_test_now_ms();
	publish(&rig, "news", "later", 5);
	ck_eventually(bus_test_now_ms() > begun + ttl_ms + 1);
	ck_eventually(is_named(door) || inbox_stats(&inbox).offered == 2 + inbox.stalls);
	inbox_resume(&inbox);
	item = inbox_take(&inbox);
	ck_assert_uint_eq(item->msg.len, 5);
	ck_assert_uint_eq(item->msg.lost, 1);
	ck_assert_uint_eq(inbox_stats(&inbox).lost[BUS_LOSS_EXPIRED], 1);
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}
