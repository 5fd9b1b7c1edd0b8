#define _GNU_SOURCE
/* Each promise of promises.def, once, over every door in C. A case is called promise/door. */
#include "door.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_PAYLOAD = 1 << 20, SMALL = 4096, MANY = 1000 };

#define FILTERS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void
open_all(struct rig *rig, struct inbox *inbox, const struct door *door, const char *filter)
{
	rig_open(rig, door);
	inbox_open(inbox, rig, BUS_FULL_DROP_OLDEST, 0, FILTERS(filter));
}

static void
close_all(struct rig *rig, struct inbox *inbox)
{
	inbox_close(inbox);
	rig_close(rig);
}

static void
expect_text(struct inbox *inbox, const char *topic, const char *text, bool kept)
{
	const struct item *item = inbox_take(inbox);

	ck_assert_str_eq(item->topic, topic);
	ck_assert_uint_eq(item->msg.len, strlen(text));
	ck_assert_mem_eq(item->data, text, item->msg.len);
	ck_assert_int_eq((item->msg.flags & BUS_MSG_KEPT) != 0, kept);
	ck_assert_uint_eq(item->msg.lost, 0);
}

/* How many messages went over the link, when all that rig_ready() sent is through. */
static uint64_t
crossed_so_far(struct rig *rig)
{
	if (!has_link(rig))
		return 0;
	ck_bus(bus_flush(rig->from, patience_ms()), 0);
	return stats_of(rig->listener).sent;
}

/* --- who publishes meanwhile ------------------------------------------------------------------------------- */

struct sender {
	struct rig *rig;
	const char *topic;
	unsigned count; /* 0: until stop */
	uint32_t flags;
	_Atomic unsigned sent, refused;
	_Atomic bool stop;
	pthread_t thread;
};

static void *
send_numbers(void *arg)
{
	struct sender *s = arg;
	struct bus_msg msg = {.size = sizeof msg, .topic = s->topic, .flags = s->flags};

	for (unsigned i = 0; s->count > 0 ? i < s->count : !s->stop; i++) {
		int err;

		msg.data = &i;
		msg.len = sizeof i;
		err = bus_publish_msg(s->rig->from, &msg);
		if (err != BUS_E_FULL)
			ck_bus(err, 0);
		s->refused += err == BUS_E_FULL;
		s->sent++;
		if (s->count == 0 && i % 50 == 49)
			bus_test_nap(); /* nobody may fall behind by more than its room */
	}
	return NULL;
}

static void
sender_start(struct sender *s)
{
	ck_assert_int_eq(pthread_create(&s->thread, NULL, send_numbers, s), 0);
}

static void
sender_more(struct sender *s, unsigned count)
{
	unsigned sent = s->sent;

	ck_eventually(s->sent - sent >= count);
}

static void
sender_stop(struct sender *s)
{
	s->stop = true;
	pthread_join(s->thread, NULL);
}

/* --- what arrives ------------------------------------------------------------------------------------------ */

static void
promise_order(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	struct sender senders[] = {{.rig = &rig, .topic = "n/0", .count = MANY},
	    {.rig = &rig, .topic = "n/1", .count = MANY}};
	unsigned next[2] = {0};

	open_all(&rig, &inbox, door, "n/+");
	for (int i = 0; i < 2; i++)
		sender_start(&senders[i]);
	for (int i = 0; i < 2 * MANY; i++) {
		const struct item *item = inbox_take(&inbox);
		int who = item->topic[2] - '0';

		ck_assert_uint_eq(number_of(item), next[who]++);
		ck_assert_uint_eq(item->msg.lost, 0);
	}
	for (int i = 0; i < 2; i++)
		sender_stop(&senders[i]);
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static void
promise_asked(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	uint64_t crossed;

	open_all(&rig, &inbox, door, "plant/+/temp");
	crossed = crossed_so_far(&rig);
	publish(&rig, "plant/1/pressure", "no", 2);
	publish(&rig, "plant", "no", 2);
	publish(&rig, "plant/1/temp", "21", 2);
	publish(&rig, "plant/1/2/temp", "no", 2);
	retain(&rig, "other", "no");
	expect_text(&inbox, "plant/1/temp", "21", false);
	ck_bus(bus_flush(rig.from, patience_ms()), 0);
	if (has_link(&rig))
		ck_assert_uint_eq(stats_of(rig.listener).sent - crossed, 1);
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static void
match(struct rig *rig, const char *filter, const char *topic, bool yes)
{
	struct inbox inbox;

	inbox_open(&inbox, rig, 0, 0, FILTERS(filter));
	publish(rig, topic, topic, strlen(topic));
	if (yes)
		expect_text(&inbox, topic, topic, false);
	inbox_ends(&inbox);
	inbox_close(&inbox);
}

static void
promise_matching(const struct door *door)
{
	static const struct {
		const char *filter, *topic;
		bool yes;
	} rows[] = {
#define MATCH(filter, topic, yes) {filter, topic, yes},
#include "promises.def"
	};
	const struct bus_msg *msg;
	struct bus_mailbox *watcher;
	struct inbox inbox;
	struct rig rig;

	rig_open(&rig, door);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		match(&rig, rows[i].filter, rows[i].topic, rows[i].yes);
	/* Topics that begin with $ are the bus's own: let it have something to say. */
	ck_bus(bus_publish(rig.from, "$mine", "", 0), BUS_E_TOPIC_RESERVED);
	inbox_open(&inbox, &rig, 0, 0, FILTERS("+/warnings", "+/drops"));
	if (!is_named(door)) { /* where nobody knows who listens, nobody is warned */
		ck_bus(bus_mailbox_open(rig.from, NULL, &watcher), 0);
		ck_bus(bus_mailbox_subscribe(watcher, "$bus/warnings", NULL, NULL, NULL), 0);
		ck_eventually((publish(&rig, "unheard", "", 0), bus_recv(watcher, 0, &msg) == 1));
		ck_assert_str_eq(msg->topic, "$bus/warnings");
		bus_mailbox_close(watcher);
	}
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static void
promise_once(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	struct bus_stats stats;

	rig_open(&rig, door);
	inbox_open(&inbox, &rig, 0, 0, FILTERS("a/b", "a/+", "a/#"));
	publish(&rig, "a/b", "1", 1);
	/* Each subscription has a callback, and it gets its call; the message is the same one. */
	for (int i = 0; i < (door->drain == BUS_DRAIN_CALLER ? 1 : 3); i++)
		expect_text(&inbox, "a/b", "1", false);
	inbox_ends(&inbox);
	stats = inbox_stats(&inbox);
	ck_assert_uint_eq(stats.offered, 2); /* with the mark */
	close_all(&rig, &inbox);
}

static void
promise_kept(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	struct sender sender = {.rig = &rig, .topic = "kept", .flags = BUS_MSG_RETAIN};
	const struct item *item;
	unsigned next;

	rig_open(&rig, door);
	sender_start(&sender);
	sender_more(&sender, 100);
	inbox_open(&inbox, &rig, 0, 0, FILTERS("kept"));
	sender_more(&sender, 200);
	sender_stop(&sender);
	item = inbox_take(&inbox);
	ck_assert(item->msg.flags & BUS_MSG_KEPT);
	for (next = number_of(item) + 1; next < sender.sent; next++) {
		item = inbox_take(&inbox);
		ck_assert(!(item->msg.flags & BUS_MSG_KEPT));
		ck_assert_uint_eq(number_of(item), next);
		ck_assert_uint_eq(item->msg.lost, 0);
	}
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static void
promise_forget(const struct door *door)
{
	struct rig rig;
	struct inbox early, late;

	open_all(&rig, &early, door, "kept");
	retain(&rig, "kept", "1");
	expect_text(&early, "kept", "1", false);
	retain(&rig, "kept", "");
	expect_text(&early, "kept", "", false);
	inbox_open(&late, &rig, 0, 0, FILTERS("kept"));
	inbox_ends(&late);
	inbox_close(&late);
	close_all(&rig, &early);
}

/* --- what does not fit ------------------------------------------------------------------------------------- */

/* Publishes MANY numbers into a stalled inbox with room for a few. Nobody looks at the inbox meanwhile: a look at its
 * counters holds what is inside for a moment, and a publisher that cannot evict the oldest then drops its own. */
static void
overrun(struct rig *rig, struct inbox *inbox, const struct door *door, int full)
{
	rig_open(rig, door);
	inbox_open(inbox, rig, full, SMALL, FILTERS("n"));
	inbox_stall(inbox);
	for (unsigned i = 0; i < MANY; i++)
		publish_number(rig, "n", i);
	rig_ready(rig);      /* what was published before is there too */
	if (!is_named(door)) /* whose mailboxes are offered what they take out of the log */
		ck_assert_uint_eq(inbox_stats(inbox).offered, MANY + inbox->stalls);
}

/* What is too small on a named bus is the log. */
static void
lap(const struct door *door)
{
	enum { COUNT = 64, LARGE = 500000 };
	uint8_t *data = calloc(1, LARGE);
	struct rig rig;
	struct inbox inbox;
	uint64_t lost;

	ck_assert_ptr_nonnull(data);
	open_all(&rig, &inbox, door, "n");
	for (uint32_t i = 0; i < COUNT; i++) {
		memcpy(data, &i, sizeof i);
		publish(&rig, "n", data, LARGE);
	}
	lost = inbox_has_next(&inbox) ? inbox_stats(&inbox).lost[BUS_LOSS_LAPPED] : 0;
	ck_assert(lost > COUNT / 4 && lost < COUNT);
	for (uint64_t i = lost; i < COUNT; i++) {
		const struct item *item = inbox_take(&inbox);
		uint32_t number;

		memcpy(&number, item->data, sizeof number);
		ck_assert_uint_eq(number, i);
		ck_assert_uint_eq(item->msg.lost, i == lost ? lost : 0);
	}
	inbox_ends(&inbox);
	free(data);
	close_all(&rig, &inbox);
}

static void
promise_oldest(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	uint64_t lost;

	if (is_named(door)) {
		lap(door);
		return;
	}
	overrun(&rig, &inbox, door, BUS_FULL_DROP_OLDEST);
	lost = inbox_stats(&inbox).lost[BUS_LOSS_FULL];
	ck_assert(lost > MANY / 2 && lost < MANY);
	inbox_resume(&inbox);
	for (uint64_t i = lost; i < MANY; i++) {
		const struct item *item = inbox_take(&inbox);

		ck_assert_uint_eq(number_of(item), i);
		ck_assert_uint_eq(item->msg.lost, i == lost ? lost : 0);
	}
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static void
promise_newest(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	uint64_t lost;

	overrun(&rig, &inbox, door, BUS_FULL_DROP_NEWEST);
	lost = inbox_stats(&inbox).lost[BUS_LOSS_FULL];
	ck_assert(lost > MANY / 2 && lost < MANY);
	inbox_resume(&inbox);
	for (uint64_t i = 0; i < MANY - lost; i++) {
		const struct item *item = inbox_take(&inbox);

		ck_assert_uint_eq(number_of(item), i);
		ck_assert_uint_eq(item->msg.lost, 0);
	}
	publish_number(&rig, "n", MANY);
	ck_assert_uint_eq(inbox_take(&inbox)->msg.lost, lost);
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static void
promise_latest(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	const struct item *item;

	overrun(&rig, &inbox, door, BUS_FULL_LATEST);
	inbox_resume(&inbox);
	item = inbox_take(&inbox);
	ck_assert_uint_eq(number_of(item), MANY - 1);
	ck_assert_uint_eq(item->msg.lost, MANY - 1);
	ck_assert_uint_eq(inbox_stats(&inbox).lost[BUS_LOSS_REPLACED], MANY - 1);
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static void
promise_refuse(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	unsigned count = 0;
	int err;

	rig_open(&rig, door);
	inbox_open(&inbox, &rig, BUS_FULL_REFUSE, SMALL, FILTERS("n"));
	inbox_stall(&inbox);
	while ((err = bus_publish(rig.from, "n", &count, sizeof count)) == 0)
		ck_assert_uint_lt(++count, MANY);
	ck_bus(err, BUS_E_FULL);
	ck_assert_uint_gt(count, 0);
	ck_assert_uint_eq(inbox_stats(&inbox).refused, 1);
	inbox_resume(&inbox);
	for (unsigned i = 0; i < count; i++) {
		const struct item *item = inbox_take(&inbox);

		ck_assert_uint_eq(number_of(item), i);
		ck_assert_uint_eq(item->msg.lost, 0);
	}
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static uint64_t
accounted(const struct bus_stats *stats)
{
	uint64_t sum = stats->delivered + stats->refused + stats->pending;

	for (int i = 0; i < BUS_LOSS_COUNT; i++)
		sum += stats->lost[i];
	return sum;
}

static void
accounts_of_bus(struct bus *bus)
{
	struct bus_stats stats = {.size = sizeof stats};

	ck_bus(bus_stats(bus, &stats), 0);
	ck_assert_uint_eq(stats.offered, accounted(&stats));
}

/* Two publishers and a mailbox with room for a few, taken from meanwhile. */
static void
account(const struct door *door, int full)
{
	struct rig rig;
	struct inbox inbox;
	struct sender senders[] = {{.rig = &rig, .topic = "n", .count = 10 * MANY},
	    {.rig = &rig, .topic = "n", .count = 10 * MANY}};
	struct bus_stats stats;
	uint64_t came = 20 * MANY;

	rig_open(&rig, door);
	inbox_open(&inbox, &rig, full, SMALL, FILTERS("n"));
	for (int i = 0; i < 2; i++)
		sender_start(&senders[i]);
	while (senders[0].sent < 5 * MANY || senders[1].sent < 5 * MANY)
		inbox_pump(&inbox);
	for (int i = 0; i < 2; i++)
		sender_stop(&senders[i]);
	if (has_link(&rig)) {
		ck_bus(bus_flush(rig.from, patience_ms()), 0);
		came = 20 * MANY - stats_of(rig.listener).lost;
	}
	if (is_named(door)) /* it is offered what it takes */
		inbox_pump(&inbox);
	ck_eventually(inbox_stats(&inbox).offered == came);
	ck_eventually(door->drain == BUS_DRAIN_CALLER || inbox_stats(&inbox).pending == 0);
	stats = inbox_stats(&inbox);
	ck_assert_uint_eq(stats.offered, accounted(&stats));
	inbox_pump(&inbox); /* what was pending */
	stats = inbox_stats(&inbox);
	ck_assert_uint_eq(stats.pending, 0);
	ck_assert_uint_eq(stats.offered, accounted(&stats));
	if (!has_link(&rig))
		ck_assert_uint_eq(stats.refused, senders[0].refused + senders[1].refused);
	ck_assert_uint_gt(stats.delivered, 0);
	accounts_of_bus(rig.from);
	accounts_of_bus(rig.to);
	close_all(&rig, &inbox);
}

static void
promise_accounts(const struct door *door)
{
	account(door, BUS_FULL_DROP_OLDEST);
	account(door, BUS_FULL_LATEST);
	if (is_named(door)) /* the others it does not offer */
		return;
	account(door, BUS_FULL_DROP_NEWEST);
	account(door, BUS_FULL_REFUSE);
}

/* --- endings ----------------------------------------------------------------------------------------------- */

static void
promise_unsubscribe(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	struct sender sender = {.rig = &rig, .topic = "n"};
	size_t handed_over;

	open_all(&rig, &inbox, door, "n");
	sender_start(&sender);
	for (int i = 0; i < 100; i++)
		inbox_take(&inbox);
	sender_more(&sender, 100); /* where a caller drains, they wait */
	bus_unsubscribe(inbox.sub, NULL);
	pthread_mutex_lock(&inbox.lock);
	handed_over = inbox.count;
	pthread_mutex_unlock(&inbox.lock);
	inbox.sub = NULL;
	sender_more(&sender, 100);
	sender_stop(&sender);
	publish(&rig, "mark/it/here", "", 0);
	while (strcmp(inbox_take(&inbox)->topic, "n") == 0)
		ck_assert_uint_le(inbox.taken, handed_over);
	ck_assert_uint_eq(inbox.taken, handed_over + 1);
	close_all(&rig, &inbox);
}

static void
promise_close(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	int64_t begun;

	open_all(&rig, &inbox, door, "n");
	inbox_stall(&inbox);
	for (unsigned i = 0; i < 3; i++)
		publish_number(&rig, "n", i);
	ck_eventually(inbox_stats(&inbox).offered == 3 + inbox.stalls);
	begun = bus_test_now_ms();
	/* One in a callback that has not returned stayed, too. */
	ck_assert_int_eq(bus_close(rig.to, 200), 3 + (int)inbox.stalls);
	ck_assert_int_lt(bus_test_now_ms() - begun, patience_ms());
	inbox_resume(&inbox);
	if (has_link(&rig))
		ck_bus(bus_close(rig.from, patience_ms()), 0);
	bus_link_close(rig.dialled);
	bus_link_close(rig.listener);
	inbox_close(&inbox);
}

static void
promise_flush(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	uint64_t before;

	open_all(&rig, &inbox, door, "n");
	before = crossed_so_far(&rig);
	for (unsigned i = 0; i < MANY; i++)
		publish_number(&rig, "n", i);
	ck_bus(bus_flush(rig.from, patience_ms()), 0);
	if (has_link(&rig)) {
		ck_assert_uint_eq(stats_of(rig.listener).sent - before, MANY);
	} else {
		pthread_mutex_lock(&inbox.lock);
		ck_assert_uint_eq(inbox.count, MANY);
		pthread_mutex_unlock(&inbox.lock);
	}
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_uint_eq(number_of(inbox_take(&inbox)), i);
	close_all(&rig, &inbox);
}

/* --- content ----------------------------------------------------------------------------------------------- */

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

static void
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

static void
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

static void
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
	ck_eventually(asked.ends == 1);          /* behind what the asker's drainer has taken out */
	expect_text(&others, "ask", "q", false); /* and no reply */
	inbox_ends(&others);
	inbox_ends(&inbox);
	bus_mailbox_close(asker);
	inbox_close(&others);
	close_all(&rig, &inbox);
}

static void
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

static void
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
	stats = inbox_stats(&inboxes[0]);
	ck_assert_uint_eq(stats.delivered, MANY);
	ck_assert_uint_eq(stats.offered, MANY);
	for (int i = 0; i < 3; i++)
		inbox_close(&inboxes[i]);
	rig_close(&rig);
}

static void
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

/* Whether the message reached the inbox, alive, before its time was over. */
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

static void
promise_ttl(const struct door *door)
{
	uint32_t ttl_ms = 20;
	struct rig rig;
	struct inbox inbox;
	const struct item *item;
	int64_t begun;

	open_all(&rig, &inbox, door, "news");
	inbox_stall(&inbox);
	while (!arrives(&rig, &inbox, ttl_ms)) /* it may expire on a link that is slow today */
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

/* --- links that break -------------------------------------------------------------------------------------- */

static void
promise_back(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;

	rig_open(&rig, door);
	retain(&rig, "kept/state", "before");
	inbox_open(&inbox, &rig, 0, 0, FILTERS("kept/#", "live"));
	expect_text(&inbox, "kept/state", "before", true);
	for (int round = 0; round < 2; round++) {
		rig_cut(&rig);
		retain(&rig, "kept/state", round == 0 ? "first" : "second");
		rig_mend(&rig);
		expect_text(&inbox, "kept/state", round == 0 ? "first" : "second", true);
		publish(&rig, "live", "1", 1);
		expect_text(&inbox, "live", "1", false);
		inbox_ends(&inbox);
	}
	close_all(&rig, &inbox);
}

/* The peer that will be killed: wants everything from the address that it reads, and takes nothing. what: the descriptor to
 * read it from. */
static void
be_the_peer(const char *what)
{
	int address = atoi(what);
	char url[256] = "";
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox;

	alarm((unsigned)bus_test_patience());
	(void)bus_transport_register(&own_transport); /* with CK_FORK=no this is a new program */
	if (read(address, url, sizeof url - 1) <= 0)
		_exit(1);
	ck_bus(bus_mailbox_open(bus, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "#", NULL, NULL, NULL), 0);
	ck_bus(bus_dial(bus, url, NULL, NULL), 0);
	for (;;)
		pause();
}

/* The member that will be killed: publishes all the time, so that it dies inside as likely as not. */
static void
be_a_member(const char *dir)
{
	struct bus *bus = open_named(dir);

	alarm((unsigned)bus_test_patience());
	for (unsigned i = 0;; i++) {
		ck_bus(bus_publish(bus, "noise", "!", 1), 0);
		if (i % 50 == 49)
			bus_test_nap(); /* whoever reads it comes to an end of it */
	}
}

static void
kill_member(const struct door *door)
{
	const char *dir = bus_test_dir();
	struct inbox inbox, noise;
	struct rig rig;
	pid_t member = bus_test_fork(); /* before there is a bus */

	ck_assert_int_ge(member, 0);
	if (member == 0)
		be_a_member(dir);
	rig_open(&rig, door);
	inbox_open(&noise, &rig, 0, 0, FILTERS("noise"));
	inbox_take(&noise);
	inbox_close(&noise);
	inbox_open(&inbox, &rig, 0, 0, FILTERS("n"));
	for (unsigned i = 0; i < MANY; i++) {
		if (i == MANY / 2)
			ck_assert_int_eq(kill(member, SIGKILL), 0);
		publish_number(&rig, "n", i);
		ck_assert_uint_eq(number_of(inbox_take(&inbox)), i);
	}
	ck_assert_int_eq(waitpid(member, NULL, 0), member);
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

static void
promise_killed(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	int address[2];
	char what[16];
	pid_t peer;

	if (is_named(door)) {
		kill_member(door);
		return;
	}
	ck_assert_int_eq(pipe(address), 0);
	snprintf(what, sizeof what, "%d", address[0]);
	peer = bus_test_child(be_the_peer, what);
	ck_assert_int_ge(peer, 0);
	open_all(&rig, &inbox, door, "n");
	ck_assert_int_eq(write(address[1], rig.url, strlen(rig.url)), (ssize_t)strlen(rig.url));
	ck_eventually(stats_of(rig.listener).peers == 2);
	for (unsigned i = 0; i < MANY; i++) {
		if (i == MANY / 2)
			ck_assert_int_eq(kill(peer, SIGKILL), 0);
		publish_number(&rig, "n", i);
	}
	ck_assert_int_eq(waitpid(peer, NULL, 0), peer);
	ck_eventually(stats_of(rig.listener).peers == 1);
	for (unsigned i = 0; i < MANY; i++) {
		const struct item *item = inbox_take(&inbox);

		ck_assert_uint_eq(number_of(item), i);
		ck_assert_uint_eq(item->msg.lost, 0);
	}
	inbox_ends(&inbox);
	ck_assert_uint_eq(stats_of(rig.listener).ended[BUS_LINK_END_GONE], 1);
	ck_assert(is_up(rig.dialled));
	close_all(&rig, &inbox);
}

/* --- the table --------------------------------------------------------------------------------------------- */

static const struct door doors[] = {
    {"polled", BUS_DRAIN_CALLER, NO_LINK},
    {"thread", BUS_DRAIN_THREAD, NO_LINK},
    {"publisher", BUS_DRAIN_PUBLISHER, NO_LINK},
    {"named", BUS_DRAIN_CALLER, NAMED},
    {"inproc", BUS_DRAIN_CALLER, 0},
    {"ipc", BUS_DRAIN_CALLER, 1},
    {"tcp", BUS_DRAIN_CALLER, 2},
    {"own", BUS_DRAIN_CALLER, OWN},
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

	/* Here, so that a child that a test forks has it, too. */
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
