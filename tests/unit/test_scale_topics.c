/* Many topics and filters: work that grows no faster than their number, and memory that is returned. */
#include "scale_test.h"

#include <stdlib.h>

#include <libbus/bus.h>

#include "bus/bus_internal.h"

/* Compiles the tree into this program again, and counts the comparison that each visited node costs. */
static _Atomic unsigned long nodes_reached; /* links have a thread */

static int
counted_memcmp(const void *left, const void *right, size_t len)
{
	atomic_fetch_add_explicit(&nodes_reached, 1, memory_order_relaxed);
	return memcmp(left, right, len);
}

#define memcmp counted_memcmp
#include "topic/trie.c"
#undef memcmp

/* The i-th of many names, on three levels. */
static const char *
name_of(unsigned i, const char *rest)
{
	static char name[64];

	snprintf(name, sizeof name, "site/%u/dev%u%s", i / 1000, i % 1000, rest);
	return name;
}

/* --- topics and filters -------------------------------------------------------------------------------------- */

START_TEST(many_filters_meet_many_topics)
{
	struct bus_sub **subs = calloc(MANY, sizeof(struct bus_sub *));
	size_t before = heap_used();
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	unsigned calls = 0;
	int handled = 0;

	for (unsigned i = 0; i < MANY; i++)
		must_bus(bus_mailbox_subscribe(
		    mbox, name_of(i, "/+"), count_call, &calls, i % 2 == 0 ? &subs[i] : NULL));
	for (unsigned i = 0; i < MANY; i++) {
		publish(bus, name_of(i, "/x"));
		if (i % 1000 == 999)
			handled += bus_dispatch(mbox, 0, 0);
	}
	ck_assert_int_eq(handled, MANY);
	ck_assert_uint_eq(calls, MANY);
	ck_assert_uint_eq(bus->topics.count, MANY);
	/* Half of them end one by one, the others with their mailbox. */
	for (unsigned i = 0; i < MANY; i += 2)
		bus_unsubscribe(subs[i], NULL);
	publish(bus, name_of(0, "/x"));
	publish(bus, name_of(1, "/x"));
	ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(calls, MANY + 1);
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
	ck_assert_uint_le(heap_used(), before + SLACK);
	free(subs);
}
END_TEST

START_TEST(a_filter_joins_many_topics_and_leaves_them)
{
	size_t before = heap_used();
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	unsigned calls = 0;
	struct bus_sub *sub;

	for (unsigned i = 0; i < MANY; i++)
		publish(bus, name_of(i, ""));
	for (unsigned round = 0; round < 2; round++) {
		allocations();
		must_bus(bus_mailbox_subscribe(mbox, "#", count_call, &calls, &sub));
		ck_assert_int_lt(allocations(), 3L * MANY + 64); /* route, list, snapshot */
		publish(bus, name_of(MANY - 1, ""));
		ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 1);
		bus_unsubscribe(sub, NULL);
		ck_assert_int_lt(allocations(), 64);
		publish(bus, name_of(0, ""));
		ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 0);
	}
	ck_assert_uint_eq(calls, 2);
	ck_assert_uint_eq(atomic_load(&bus->routes_waiting), 0);
	/* The end of mailbox and bus frees the rest in one pass. */
	must_bus(bus_mailbox_subscribe(mbox, "#", count_call, &calls, NULL));
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
	ck_assert_uint_le(heap_used(), before + SLACK);
}
END_TEST

START_TEST(a_bus_that_closes_under_its_subscriptions_gives_all_back)
{
	size_t before = heap_used();
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	unsigned calls = 0;

	for (unsigned i = 0; i < MANY / 5; i++) {
		publish(bus, name_of(i, ""));
		must_bus(bus_mailbox_subscribe(mbox, name_of(i, ""), count_call, &calls, NULL));
	}
	ck_assert_int_eq(bus_close(bus, 0), 0);
	bus_mailbox_close(mbox);
	ck_assert_uint_le(heap_used(), before + SLACK);
}
END_TEST

START_TEST(a_new_topic_is_routed_to_many_mailboxes_at_once)
{
	enum { MAILBOXES = 2000 };
	static struct bus_mailbox *mailboxes[MAILBOXES];
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = 4096};
	struct bus *bus = open_bus();
	unsigned calls = 0;

	for (unsigned i = 0; i < MAILBOXES; i++) {
		must_bus(bus_mailbox_open(bus, &cfg, &mailboxes[i]));
		must_bus(bus_mailbox_subscribe(mailboxes[i], "+/b", count_call, &calls, NULL));
	}
	allocations();
	publish(bus, "a/b");
	/* A route and a list each; one snapshot, not one for each. */
	ck_assert_int_lt(allocations(), 2 * MAILBOXES + 64);
	for (unsigned i = 0; i < MAILBOXES; i++) {
		ck_assert_int_eq(bus_dispatch(mailboxes[i], 0, 0), 1);
		bus_mailbox_close(mailboxes[i]);
	}
	ck_assert_uint_eq(calls, MAILBOXES);
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

/* --- walks --------------------------------------------------------------------------------------------------- */

static void
ignore_filter(void *arg, struct node *filter)
{
	(void)filter;
	++*(unsigned *)arg;
}

static void
ignore_topic(void *arg, struct topic *topic)
{
	(void)topic;
	++*(unsigned *)arg;
}

/* Fills the tree with all filters of `levels` levels that are a or +, each followed by rest. */
static void
plant_all(struct trie *trie, unsigned levels, const char *rest)
{
	static char object; /* only its address is used */

	for (unsigned bits = 0; bits < 1u << levels; bits++) {
		char filter[128];
		size_t len = 0;
		struct node *node;

		for (unsigned i = 0; i < levels; i++) {
			filter[len++] = bits >> i & 1 ? '+' : 'a';
			filter[len++] = '/';
		}
		strcpy(filter + len, rest);
		node = bus__trie_make(trie, filter);
		ck_assert_ptr_nonnull(node);
		node->subs = (struct bus_sub *)(void *)&object;
	}
}

static void
clear_subs(void *arg, struct node *node)
{
	(void)arg;
	node->subs = NULL;
}

START_TEST(a_topic_visits_each_node_of_hostile_filters_at_most_once)
{
	const uint64_t key[2] = {1, 2};

	for (unsigned levels = 4; levels <= 12; levels++) {
		struct trie trie;
		char topic[128] = "";
		unsigned found = 0;

		ck_bus(bus__trie_init(&trie, key), 0);
		plant_all(&trie, levels, "x");
		plant_all(&trie, levels, "+/#");
		for (unsigned i = 0; i < levels; i++)
			strcat(topic, "a/");
		nodes_reached = 0;
		bus__trie_match_topic(&trie, topic, ignore_filter, &found);
		ck_assert_uint_eq(found, 1u << levels);
		ck_assert_uint_le(nodes_reached, trie.edge_count);
		/* The most levels, of which no filter has more than its own. */
		strcpy(topic, "a");
		for (unsigned i = 1; i < BUS_LIMIT_TOPIC_LEVELS; i++)
			strcat(topic, "/a");
		nodes_reached = 0;
		bus__trie_match_topic(&trie, topic, ignore_filter, &found);
		ck_assert_uint_le(nodes_reached, trie.edge_count);
		bus__trie_walk(&trie, clear_subs, NULL);
		bus__trie_fini(&trie);
	}
}
END_TEST

START_TEST(a_filter_of_32_wildcards_visits_each_topic_once)
{
	const uint64_t key[2] = {1, 2};
	static char object;
	struct trie trie;
	char name[128];
	unsigned found = 0;

	ck_bus(bus__trie_init(&trie, key), 0);
	for (unsigned bits = 0; bits < 4096; bits++) {
		name[0] = '\0';
		for (unsigned i = 0; i < BUS_LIMIT_TOPIC_LEVELS; i++)
			strcat(name, i == 0 ? "a" : i <= 12 && bits >> (i - 1) & 1 ? "/b" : "/a");
		bus__trie_set_topic(bus__trie_make(&trie, name), (struct topic *)(void *)&object);
	}
	strcpy(name, "+");
	for (unsigned i = 1; i < BUS_LIMIT_TOPIC_LEVELS; i++)
		strcat(name, "/+");
	bus__trie_match_filter(&trie, name, ignore_topic, &found);
	ck_assert_uint_eq(found, 4096);
	found = 0;
	nodes_reached = 0;
	strcpy(name + strlen(name) - 1, "c"); /* no topic matches: every path is tried, once */
	bus__trie_match_filter(&trie, name, ignore_topic, &found);
	ck_assert_uint_eq(found, 0);
	ck_assert_uint_le(nodes_reached, trie.edge_count);
	bus__trie_fini(&trie);
}
END_TEST

START_TEST(filters_do_not_stand_in_the_way_of_filters)
{
	/* Walked over, the filters of the first kind would cost those of the second the square of their number. */
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	unsigned calls = 0;
	char filter[32];

	for (unsigned i = 0; i < MANY / 5; i++) {
		snprintf(filter, sizeof filter, "a%u", i);
		must_bus(bus_mailbox_subscribe(mbox, filter, count_call, &calls, NULL));
	}
	for (unsigned i = 0; i < MANY / 5; i++) {
		snprintf(filter, sizeof filter, "+/b%u", i);
		must_bus(bus_mailbox_subscribe(mbox, filter, count_call, &calls, NULL));
	}
	publish(bus, "a7/b7");
	ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(calls, 1);
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(the_table_of_edges_shrinks_when_filters_go)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	unsigned calls = 0;

	for (unsigned i = 0; i < MANY / 10; i++)
		must_bus(bus_mailbox_subscribe(mbox, name_of(i, ""), count_call, &calls, NULL));
	ck_assert_uint_ge(bus->trie.edge_slots, MANY / 10);
	bus_mailbox_close(mbox);
	ck_assert_uint_eq(bus->trie.edge_count, 0);
	ck_assert_uint_le(bus->trie.edge_slots, 64);
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

/* --- names invented without end -------------------------------------------------------------------------------- */

START_TEST(names_invented_here_cost_a_bounded_table)
{
	enum { MOST = 1000 };
	const struct bus_config cfg = {.size = sizeof cfg, .max_topics = MOST};
	struct bus_mailbox *mbox;
	struct bus *bus;
	size_t filled = 0;
	unsigned calls = 0;
	int handled = 0;

	ck_bus(bus_open(NULL, &cfg, &bus), 0);
	mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	must_bus(bus_mailbox_subscribe(mbox, "#", count_call, &calls, NULL));
	for (unsigned i = 0; i < MANY / 10; i++) {
		publish(bus, name_of(i, ""));
		if (i % 100 == 99)
			handled += bus_dispatch(mbox, 0, 0);
		if (i == 2 * MOST)
			filled = heap_used();
	}
	ck_assert_int_eq(handled, MANY / 10); /* forgotten topics took no message along */
	ck_assert_uint_le(bus->topics.count, MOST);
	ck_assert_uint_le(bus->trie.edge_count, 3 * MOST);
	ck_assert_uint_le(atomic_load(&bus->topics.slots)->mask + 1, 4 * MOST);
	ck_assert_uint_le(heap_used(), filled + (256u << 10));
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(topics_in_undrained_mailboxes_are_not_forgotten_without_end)
{
	enum { MOST = 100 };
	const struct bus_config cfg = {.size = sizeof cfg, .max_topics = MOST};
	struct bus_mailbox *mbox;
	struct bus *bus;
	unsigned calls = 0;

	ck_bus(bus_open(NULL, &cfg, &bus), 0);
	mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_NEWEST);
	must_bus(bus_mailbox_subscribe(mbox, "#", count_call, &calls, NULL));
	for (unsigned i = 0; i < 2 * MOST; i++)
		publish(bus, name_of(i, ""));
	/* Half of them are forgotten, and their routes wait behind the frames that name them. */
	ck_assert_uint_eq(atomic_load(&bus->routes_waiting), MOST);
	atomic_fetch_add(&bus->routes_waiting, 1000000);
	ck_bus(bus_publish(bus, "one/more", "x", 1), BUS_E_LIMIT);
	atomic_fetch_sub(&bus->routes_waiting, 1000000);
	ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 2 * MOST);
	publish(bus, "one/more");
	ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_le(atomic_load(&bus->routes_waiting), 1);
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

static size_t
topics_of(struct bus *bus)
{
	size_t count;

	bus__lock(bus);
	count = bus->topics.count;
	bus__unlock(bus);
	return count;
}

/* Publishes on `count` names at a, to b's subscription; retained, so that b keeps the values. */
static void
invent(struct pair *p, unsigned count, uint32_t flags)
{
	for (unsigned i = 0; i < count; i++) {
		const struct bus_msg msg = {.size = sizeof msg,
		    .topic = name_of(i, flags != 0 ? "/kept" : ""),
		    .data = "x",
		    .len = 1,
		    .flags = flags};

		must_bus(bus_publish_msg(p->a, &msg));
		if (i % 500 == 499)
			must_bus(bus_flush(p->a, patience_ms()));
	}
	must_bus(bus_flush(p->a, patience_ms()));
}

START_TEST(names_that_a_peer_invents_are_forgotten_or_refused)
{
	enum { INVENTED = BUS__PEER_TOPICS + 2500 };
	struct heard heard = {0};
	struct pair p;

	pair_open(&p, 0);
	must_bus(bus_subscribe(p.b, "#", hear, &heard, NULL));
	ck_eventually(bus_publish(p.a, "hello", "x", 1) == 0 && heard.count > 0);

	/* A topic that is in use here, too, stays. */
	must_bus(bus_publish(p.b, name_of(7, ""), "y", 1));
	invent(&p, INVENTED, 0);
	/* The number of "hello" messages is unknown. */
	ck_eventually(stats_of(p.lb).received > INVENTED);
	ck_assert_uint_eq(stats_of(p.lb).refused, 0);
	ck_assert_uint_le(topics_of(p.b), BUS__PEER_TOPICS + 10);

	/* Topics with a value count, and the excess is refused and counted. */
	invent(&p, INVENTED, BUS_MSG_RETAIN);
	ck_eventually(stats_of(p.lb).refused >= INVENTED - BUS__PEER_TOPICS);
	ck_eventually(stats_of(p.lb).received + stats_of(p.lb).refused > 2 * INVENTED);
	ck_assert_int_eq(stats_of(p.lb).last_error, BUS_E_LIMIT);
	ck_assert_uint_le(topics_of(p.b), BUS__PEER_TOPICS + 10);
	/* Others can still name topics. */
	must_bus(bus_publish(p.b, "of/our/own", "y", 1));

	/* When it leaves, its unused topics are forgotten. */
	bus_link_close(p.la);
	ck_eventually(!is_up(p.lb));
	ck_assert_uint_le(topics_of(p.b), BUS__PEER_TOPICS + 10);
	bus_link_close(p.lb);
	ck_assert_int_ge(bus_close(p.b, 5000), 0);
	ck_assert_int_ge(bus_close(p.a, 5000), 0);
}
END_TEST

START_TEST(a_peer_that_leaves_takes_its_idle_topics_along)
{
	struct heard heard = {0};
	struct pair p;

	pair_open(&p, 0);
	must_bus(bus_subscribe(p.b, "#", hear, &heard, NULL));
	must_bus(bus_publish(p.b, name_of(7, ""), "y", 1));
	ck_eventually(bus_publish(p.a, "hello", "x", 1) == 0 && heard.count > 1);
	invent(&p, 1000, 0);
	ck_eventually(topics_of(p.b) >= 1000);
	bus_link_close(p.la);
	ck_eventually(topics_of(p.b) == 1); /* the topic in use here */
	bus_link_close(p.lb);
	ck_assert_int_ge(bus_close(p.b, 5000), 0);
	ck_assert_int_ge(bus_close(p.a, 5000), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("scale topics");

	BUS_TEST_CASE(suite, "topics", many_filters_meet_many_topics,
	    a_filter_joins_many_topics_and_leaves_them,
	    a_bus_that_closes_under_its_subscriptions_gives_all_back,
	    a_new_topic_is_routed_to_many_mailboxes_at_once);
	BUS_TEST_CASE(suite, "walks", a_topic_visits_each_node_of_hostile_filters_at_most_once,
	    a_filter_of_32_wildcards_visits_each_topic_once,
	    filters_do_not_stand_in_the_way_of_filters, the_table_of_edges_shrinks_when_filters_go);
	BUS_TEST_CASE(suite, "names", names_invented_here_cost_a_bounded_table,
	    topics_in_undrained_mailboxes_are_not_forgotten_without_end,
	    names_that_a_peer_invents_are_forgotten_or_refused,
	    a_peer_that_leaves_takes_its_idle_topics_along);
	return suite;
}
