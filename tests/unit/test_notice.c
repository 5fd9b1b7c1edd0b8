#include "world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/pack.h>
#include <libbus/transport.h>

#include "base/clock.h"
#include "bus/bus_internal.h"
#include "bus/notice.h"

/* The time that many seconds from the start. */
static int64_t
seconds(int64_t count)
{
	return bus__now_ns() + count * 1000000000;
}

static struct bus_mailbox *
open_quiet_mailbox(struct bus *bus, int full, int drain, size_t bytes, const char *filter)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .full = full, .drain = drain, .bytes = bytes};
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(bus, &cfg, &mbox), 0);
	if (filter != NULL)
		ck_bus(bus_mailbox_subscribe(mbox, filter, NULL, NULL, NULL), 0);
	/* Only the test makes rounds, not a thread in a slow place on a busy machine. */
	bus->next_round_ns = seconds(50);
	return mbox;
}

/* The mailbox that subscribes to $bus/. */
static struct bus_mailbox *
watch(struct bus *bus, const char *filter)
{
	return open_quiet_mailbox(bus, 0, 0, 0, filter);
}

static void
say_many(struct bus *bus, const char *topic, int times)
{
	for (int i = 0; i < times; i++)
		ck_bus(bus_publish(bus, topic, "x", 1), 0);
}

/* The next notice, on this topic, as JSON. */
static const char *
told(struct bus_mailbox *mbox, const char *topic)
{
	static char json[1024];
	const struct bus_value *value;
	const struct bus_msg *msg;
	size_t len;
	char *text;

	ck_bus(bus_recv(mbox, patience_ms(), &msg), 1);
	ck_assert_str_eq(msg->topic, topic);
	ck_assert_int_eq(msg->type, BUS_TYPE_MSGPACK);
	ck_bus(bus_value_read(msg->type, msg->data, msg->len, &value), 0);
	ck_bus(bus_value_json(value, &text, &len), 0);
	snprintf(json, sizeof json, "%s", text);
	free(text);
	bus_value_free(value);
	return json;
}

/* --- warnings ------------------------------------------------------------------------------------------ */

#define UNHEARD                                                                                    \
	"{\"warning\":\"unheard\",\"topic\":\"t\",\"publishes\":1000,"                             \
	"\"text\":\"published 1,000 times without a subscriber\"}"
#define UNMATCHED(filter)                                                                          \
	"{\"warning\":\"unmatched\",\"filter\":\"" filter "\",\"seconds\":60,"                     \
	"\"text\":\"subscribed 60 s, nothing ever matched\"}"

START_TEST(thousandth_publish_without_a_subscriber_is_warned_of_once)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/warnings");

	say_many(bus, "t", UNHEARD_MANY - 1);
	expect_nothing(watcher);
	say_many(bus, "t", 1);
	ck_assert_str_eq(told(watcher, "$bus/warnings"), UNHEARD);
	say_many(bus, "t", 2 * UNHEARD_MANY);
	expect_nothing(watcher);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(handle_without_a_subscriber_is_warned_of_too)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/#");
	const struct bus_slice items[2] = {{"a", 1}, {"b", 1}};
	struct bus_pub *pub;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	for (int i = 0; i < UNHEARD_MANY / 2; i++)
		ck_bus(bus_pub_send_many(pub, items, 2), 2);
	ck_assert_str_eq(told(watcher, "$bus/warnings"), UNHEARD);
	bus_pub_close(pub);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(late_watcher_is_warned_by_the_next_publish)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher;

	say_many(bus, "t", 3 * UNHEARD_MANY);
	watcher = watch(bus, "$bus/warnings");
	expect_nothing(watcher);
	say_many(bus, "t", 1);
	ck_assert_str_eq(told(watcher, "$bus/warnings"), UNHEARD);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(publish_that_is_received_or_kept_is_not_counted)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/warnings");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, 0, 0, 0, "heard");
	const struct bus_msg kept = {
	    .size = sizeof kept, .topic = "kept", .data = "x", .len = 1, .flags = BUS_MSG_RETAIN};

	say_many(bus, "heard", UNHEARD_MANY);
	for (int i = 0; i < UNHEARD_MANY; i++)
		ck_bus(bus_publish_msg(bus, &kept), 0);
	expect_nothing(watcher);
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(filter_that_nothing_matches_for_a_minute_is_warned_of_once)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/warnings");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, 0, 0, 0, "room/kichen");

	ck_bus(bus_mailbox_subscribe(mbox, "room/kitchen", NULL, NULL, NULL), 0);
	say_many(bus, "room/kitchen", 1);
	bus__round(bus, seconds(UNMATCHED_LONG - 5));
	expect_nothing(watcher);
	bus__round(bus, seconds(UNMATCHED_LONG + 5));
	ck_assert_str_eq(told(watcher, "$bus/warnings"), UNMATCHED("room/kichen"));
	bus__round(bus, seconds(3 * UNMATCHED_LONG));
	expect_nothing(watcher);
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(every_one_of_many_unmatched_filters_is_warned_of)
{
	enum { FILTERS = 3000 };
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = open_quiet_mailbox(bus, 0, 0, 4u << 20, "$bus/warnings");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, 0, 0, 0, NULL);
	const struct bus_msg *msg;
	unsigned warned = 0;
	char filter[32];

	for (int i = 0; i < FILTERS; i++) {
		snprintf(filter, sizeof filter, "f/%d", i);
		ck_bus(bus_mailbox_subscribe(mbox, filter, NULL, NULL, NULL), 0);
	}
	/* A round looks at a part of them. */
	for (int i = 0; i < 16; i++)
		bus__round(bus, seconds(UNMATCHED_LONG + 5 + 2 * i));
	while (bus_recv(watcher, 0, &msg) == 1)
		warned++;
	ck_assert_uint_eq(warned, FILTERS);
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(rounds_keep_a_second_between_them)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/warnings");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, 0, 0, 0, NULL);
	int64_t later = seconds(2 * UNMATCHED_LONG);

	bus__round(bus, later);
	ck_bus(bus_mailbox_subscribe(mbox, "a", NULL, NULL, NULL), 0);
	bus__round(bus, later + NOTICE_PAUSE_NS - 1);
	expect_nothing(watcher);
	bus__round(bus, later + NOTICE_PAUSE_NS);
	ck_assert_str_eq(told(watcher, "$bus/warnings"), UNMATCHED("a"));
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

/* --- losses -------------------------------------------------------------------------------------------- */

#define DROPS(mailbox, policy, full, replaced, total)                                              \
	"{\"mailbox\":" #mailbox ",\"kind\":\"mailbox\",\"filter\":\"t\",\"policy\":\"" policy     \
	"\",\"full\":" #full ",\"replaced\":" #replaced                                            \
	",\"expired\":0,\"unsubscribed\":0,\"closed\":0,\"lapped\":0,\"link\":0,\"total\":" #total \
	"}"

/* Publishes kilobytes on t: four fit a mailbox of 4 KiB, less their heads three. */
static void
flood(struct bus *bus, int times)
{
	static const char kilobyte[1000];

	for (int i = 0; i < times; i++)
		ck_bus(bus_publish(bus, "t", kilobyte, sizeof kilobyte), 0);
}

START_TEST(losses_are_announced_with_their_causes_once_a_second)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/drops");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, BUS_FULL_DROP_NEWEST, 0, 4096, "t");
	int64_t later = seconds(55);

	flood(bus, 4);
	bus__round(bus, later);
	expect_nothing(watcher); /* all of them fit */
	flood(bus, 3);
	bus__round(bus, later + NOTICE_PAUSE_NS - 1);
	expect_nothing(watcher);
	bus__round(bus, later + NOTICE_PAUSE_NS);
	ck_assert_str_eq(told(watcher, "$bus/drops"), DROPS(2, "drop_newest", 3, 0, 3));
	flood(bus, 2);
	bus__round(bus, later + 2 * NOTICE_PAUSE_NS);
	ck_assert_str_eq(told(watcher, "$bus/drops"), DROPS(2, "drop_newest", 2, 0, 5));
	bus__round(bus, later + 3 * NOTICE_PAUSE_NS);
	expect_nothing(watcher);
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(oldest_that_make_room_and_latest_that_are_replaced_are_announced)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/drops");
	struct bus_mailbox *oldest = open_quiet_mailbox(bus, BUS_FULL_DROP_OLDEST, 0, 4096, "t");
	struct bus_mailbox *latest = open_quiet_mailbox(bus, BUS_FULL_LATEST, 0, 0, "t");

	flood(bus, 6);
	ck_assert_uint_eq(oldest->lossy, true);
	bus__round(bus, seconds(55));
	ck_assert_str_eq(told(watcher, "$bus/drops"), DROPS(2, "drop_oldest", 2, 0, 2));
	ck_assert_str_eq(told(watcher, "$bus/drops"), DROPS(3, "latest", 0, 5, 5));
	bus_mailbox_close(latest);
	bus_mailbox_close(oldest);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(refused_publish_is_no_loss)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/drops");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, BUS_FULL_REFUSE, 0, 4096, "t");
	static const char kilobyte[1000];

	flood(bus, 4);
	ck_bus(bus_publish(bus, "t", kilobyte, sizeof kilobyte), BUS_E_FULL);
	bus__round(bus, seconds(55));
	expect_nothing(watcher);
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(publisher_by_the_short_way_announces_its_drops)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/drops");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, BUS_FULL_DROP_NEWEST, 0, 4096, "t");
	const struct bus_msg *msg;
	struct bus_pub *pub;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	/* Until this publish is the first after the second is over. */
	do {
		ck_bus(bus_pub_send(pub, "x", 1), 0);
		bus->next_round_ns = 0;
	} while (mailbox_stats(mbox).lost[BUS_LOSS_FULL] < 2);
	ck_bus(bus_recv(watcher, 0, &msg), 1);
	bus_pub_close(pub);
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(idle_drainer_announces_drops)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/drops");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, BUS_FULL_DROP_NEWEST, 0, 4096, "t");
	const struct bus_msg *msg;

	bus__round(bus, seconds(60)); /* for publishers the second is not over */
	flood(bus, 10);
	expect_nothing(watcher);
	while (bus_recv(mbox, 0, &msg) == 1)
		bus->next_round_ns = seconds(60);
	bus->next_round_ns = 0;
	ck_bus(bus_recv(mbox, 0, &msg), 0);
	ck_assert_str_eq(told(watcher, "$bus/drops"), DROPS(2, "drop_newest", 6, 0, 6));
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(losses_by_announcements_bring_no_announcement)
{
	enum { ROUNDS = 200 };
	struct bus *bus = open_bus();
	struct bus_mailbox *full = open_quiet_mailbox(bus, BUS_FULL_DROP_OLDEST, 0, 4096, "$bus/#");
	struct bus_mailbox *watcher = open_quiet_mailbox(bus, 0, 0, 1u << 20, "$bus/drops");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, BUS_FULL_DROP_NEWEST, 0, 4096, "t");
	unsigned announced = 0;
	const struct bus_msg *msg;

	flood(bus, 4);
	for (int i = 0; i < ROUNDS; i++) {
		flood(bus, 1);
		bus__round(bus, seconds(55 + 2 * i));
	}
	ck_assert_uint_gt(mailbox_stats(full).lost[BUS_LOSS_FULL], 0);
	bus__round(bus, seconds(55 + 2 * ROUNDS));
	while (bus_recv(watcher, 0, &msg) == 1)
		announced++;
	ck_assert_uint_eq(announced, ROUNDS); /* of mbox, and none of full */
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_mailbox_close(full);
	bus_close(bus, 0);
}
END_TEST

START_TEST(announcement_that_is_refused_is_made_up_for_by_the_next)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher =
	    open_quiet_mailbox(bus, BUS_FULL_REFUSE, 0, 4096, "$bus/drops");
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, BUS_FULL_DROP_NEWEST, 0, 4096, "t");
	unsigned refused;
	const struct bus_msg *msg;
	int64_t later = 55;

	flood(bus, 4);
	while ((refused = (unsigned)mailbox_stats(watcher).refused) < 3) {
		flood(bus, 1);
		bus__round(bus, seconds(later += 2));
	}
	while (bus_recv(watcher, 0, &msg) == 1)
		;
	bus__round(bus, seconds(later + 2));
	ck_assert_ptr_nonnull(strstr(told(watcher, "$bus/drops"), "\"full\":3,"));
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

struct storm {
	struct bus *bus;
	_Atomic bool over;
};

static void *
publish_on_and_on(void *arg)
{
	struct storm *storm = arg;
	struct bus_pub *pub;

	ck_bus(bus_pub_open(storm->bus, "t", NULL, &pub), 0);
	for (int i = 0; i < 20000; i++)
		ck_bus(i % 2 ? bus_pub_send(pub, "small", 5)
			     : bus_publish(storm->bus, "t", "by name", 7),
		    0);
	bus_pub_close(pub);
	return NULL;
}

static void *
make_rounds(void *arg)
{
	struct storm *storm = arg;

	for (int64_t later = 55; !storm->over; later += 2)
		bus__round(storm->bus, seconds(later));
	return NULL;
}

/* The losses by a full mailbox in the waiting announcements. */
static uint64_t
sum_announced(struct bus_mailbox *watcher)
{
	const struct bus_msg *msg;
	uint64_t sum = 0;

	while (bus_recv(watcher, 0, &msg) == 1) {
		const struct bus_value *value;

		ck_bus(bus_value_read(msg->type, msg->data, msg->len, &value), 0);
		ck_assert_uint_eq(value->count, 12);
		sum += (uint64_t)value->as.items[9].as.i; /* the value of the fifth pair */
		bus_value_free(value);
	}
	return sum;
}

START_TEST(announced_losses_add_up_to_all_losses)
{
	struct storm storm = {.bus = open_bus()};
	struct bus_mailbox *watcher = open_quiet_mailbox(storm.bus, 0, 0, 64u << 20, "$bus/drops");
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .bytes = 4096, .drain = BUS_DRAIN_THREAD};
	pthread_t threads[4];
	struct bus_mailbox *mbox;

	ck_bus(bus_mailbox_open(storm.bus, &cfg, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, "t", ignore_message, NULL, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, i < 2 ? publish_on_and_on : make_rounds, &storm);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	storm.over = true;
	for (int i = 2; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_bus(bus_flush(storm.bus, patience_ms()), 0);
	storm.bus->next_round_ns = 0;
	bus__round(storm.bus, seconds(0));
	ck_assert_uint_eq(sum_announced(watcher), mailbox_stats(mbox).lost[BUS_LOSS_FULL]);
	ck_assert_uint_eq(mailbox_stats(watcher).lost[BUS_LOSS_FULL], 0);
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	ck_bus(bus_close(storm.bus, patience_ms()), 0);
}
END_TEST

/* --- the topics ---------------------------------------------------------------------------------------- */

START_TEST(wildcards_do_not_stand_for_the_topics_of_the_bus)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *all = open_quiet_mailbox(bus, 0, 0, 1u << 20, "#");
	struct bus_mailbox *plus = open_quiet_mailbox(bus, 0, 0, 1u << 20, "+/warnings");
	struct bus_mailbox *watcher = watch(bus, "$bus/+");

	bus_mailbox_close(all);
	say_many(bus, "t", UNHEARD_MANY);
	ck_assert_str_eq(told(watcher, "$bus/warnings"), UNHEARD);
	expect_nothing(plus);
	ck_bus(bus_publish(bus, "$bus/warnings", "x", 1), BUS_E_TOPIC_RESERVED);
	bus_mailbox_close(plus);
	bus_mailbox_close(watcher);
	bus_close(bus, 0);
}
END_TEST

START_TEST(without_a_watcher_no_topic_of_the_bus_is_made)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *watcher = watch(bus, "$bus/#");

	bus_mailbox_close(watcher);
	ck_assert_uint_eq(bus->watched, 0);
	say_many(bus, "t", 2 * UNHEARD_MANY);
	ck_assert_uint_eq(bus->topics.count, 1);
	bus_close(bus, 0);
}
END_TEST

START_TEST(mailbox_that_publishers_drain_cannot_watch)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_quiet_mailbox(bus, 0, BUS_DRAIN_PUBLISHER, 0, NULL);

	/* Its callbacks would run in unexpected places, such as inside bus_recv(). */
	ck_bus(bus_mailbox_subscribe(mbox, "$bus/#", ignore_message, NULL, NULL), BUS_E_INVAL);
	bus_mailbox_close(mbox);
	bus_close(bus, 0);
}
END_TEST

START_TEST(notices_and_filters_for_them_stay_on_their_bus)
{
	struct bus *a = open_bus(), *b = open_bus();
	struct bus_mailbox *watcher = watch(b, "$bus/#");
	struct bus_link_stats stats = {.size = sizeof stats};
	struct bus_mailbox *mbox;
	struct bus_link *la, *lb;
	const struct bus_msg *msg;

	ck_bus(bus_listen(a, "inproc://notice", NULL, &la), 0);
	ck_bus(bus_dial(b, "inproc://notice", NULL, &lb), 0);
	mbox = open_quiet_mailbox(b, 0, 0, 0, "from/a");
	ck_bus(bus_mailbox_subscribe(mbox, "$bus/warnings", NULL, NULL, NULL), 0);
	do /* until the link is up and has brought the filter */
		say_many(a, "from/a", 1);
	while (bus_recv(mbox, 1, &msg) == 0);
	say_many(a, "t", UNHEARD_MANY);
	/* A peer that asked for a reserved name would have been disconnected. */
	ck_bus(bus_link_stats(lb, &stats), 0);
	ck_assert_int_eq(stats.state, BUS_LINK_UP);
	expect_nothing(watcher);
	bus_link_close(lb);
	bus_link_close(la);
	bus_mailbox_close(mbox);
	bus_mailbox_close(watcher);
	bus_close(b, 1000);
	bus_close(a, 1000);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("notice");

	BUS_TEST_CASE(suite, "warnings", thousandth_publish_without_a_subscriber_is_warned_of_once,
	    handle_without_a_subscriber_is_warned_of_too,
	    late_watcher_is_warned_by_the_next_publish,
	    publish_that_is_received_or_kept_is_not_counted,
	    filter_that_nothing_matches_for_a_minute_is_warned_of_once,
	    every_one_of_many_unmatched_filters_is_warned_of, rounds_keep_a_second_between_them);
	BUS_TEST_CASE(suite, "losses", losses_are_announced_with_their_causes_once_a_second,
	    oldest_that_make_room_and_latest_that_are_replaced_are_announced,
	    refused_publish_is_no_loss, publisher_by_the_short_way_announces_its_drops,
	    idle_drainer_announces_drops, losses_by_announcements_bring_no_announcement,
	    announcement_that_is_refused_is_made_up_for_by_the_next,
	    announced_losses_add_up_to_all_losses);
	BUS_TEST_CASE(suite, "topics", wildcards_do_not_stand_for_the_topics_of_the_bus,
	    without_a_watcher_no_topic_of_the_bus_is_made,
	    mailbox_that_publishers_drain_cannot_watch,
	    notices_and_filters_for_them_stay_on_their_bus);
	return suite;
}
