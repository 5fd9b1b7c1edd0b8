/* losses.c: messages that do not fit, and how their loss is reported. */
#define _GNU_SOURCE
#include "contract.h"

#include <stdlib.h>

/* Publishes MANY numbers into a stalled inbox with room for a few. The test does not look at the inbox during this: reading its
 * counters holds its messages for a moment, and a publisher that cannot evict the oldest then drops its own. */
static void
overrun(struct rig *rig, struct inbox *inbox, const struct door *door, int full)
{
	rig_open(rig, door);
	inbox_open(inbox, rig, full, SMALL, FILTERS("n"));
	inbox_stall(inbox);
	for (unsigned i = 0; i < MANY; i++)
		publish_number(rig, "n", i);
	rig_ready(rig);      /* earlier messages have arrived, too */
	if (!is_named(door)) /* its mailboxes count what they take out of the log as offered */
		ck_assert_uint_eq(inbox_stats(inbox).offered, MANY + inbox->stalls);
}

/* On a named bus the log is too small instead. */
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

void
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

void
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

void
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

void
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
	publish_number(&rig, "n", count); /* drained, it takes again */
	ck_assert_uint_eq(number_of(inbox_take(&inbox)), count);
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

/* Two publishers and a mailbox with room for a few, which is drained at the same time. */
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
	if (is_named(door)) /* it counts taken messages as offered */
		inbox_pump(&inbox);
	ck_eventually(inbox_stats(&inbox).offered == came);
	ck_eventually(door->drain == BUS_DRAIN_CALLER || inbox_stats(&inbox).pending == 0);
	stats = inbox_stats(&inbox);
	ck_assert_uint_eq(stats.offered, accounted(&stats));
	inbox_pump(&inbox); /* the pending messages */
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

void
promise_accounts(const struct door *door)
{
	account(door, BUS_FULL_DROP_OLDEST);
	account(door, BUS_FULL_LATEST);
	if (is_named(door)) /* it does not count the others as offered */
		return;
	account(door, BUS_FULL_DROP_NEWEST);
	account(door, BUS_FULL_REFUSE);
}
