/* arrivals.c: which messages arrive, in which order, and how often. */
#define _GNU_SOURCE
#include "contract.h"

void
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

void
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

void
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
	/* Topics that begin with $ are the bus's own: make it publish one. */
	ck_bus(bus_publish(rig.from, "$mine", "", 0), BUS_E_TOPIC_RESERVED);
	inbox_open(&inbox, &rig, 0, 0, FILTERS("+/warnings", "+/drops"));
	if (!is_named(door)) { /* without knowledge of the takers there is no warning */
		ck_bus(bus_mailbox_open(rig.from, NULL, &watcher), 0);
		ck_bus(bus_mailbox_subscribe(watcher, "$bus/warnings", NULL, NULL, NULL), 0);
		for (int i = 0; i < 1000; i++) /* enough for a warning */
			publish(&rig, "unheard", "", 0);
		ck_eventually((publish(&rig, "unheard", "", 0), bus_recv(watcher, 0, &msg) == 1));
		ck_assert_str_eq(msg->topic, "$bus/warnings");
		bus_mailbox_close(watcher);
	}
	inbox_ends(&inbox);
	close_all(&rig, &inbox);
}

void
promise_once(const struct door *door)
{
	struct rig rig;
	struct inbox inbox;
	struct bus_stats stats;

	rig_open(&rig, door);
	inbox_open(&inbox, &rig, 0, 0, FILTERS("a/b", "a/+", "a/#"));
	publish(&rig, "a/b", "1", 1);
	/* Each subscription has a callback and gets its call, with the same message. */
	for (int i = 0; i < (door->drain == BUS_DRAIN_CALLER ? 1 : 3); i++)
		expect_text(&inbox, "a/b", "1", false);
	inbox_ends(&inbox);
	stats = inbox_stats(&inbox);
	ck_assert_uint_eq(stats.offered, 2); /* with the mark */
	close_all(&rig, &inbox);
}

void
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

void
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
