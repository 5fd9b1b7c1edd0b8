/* Many topics, filters and subscriptions: work that grows no faster than they do, and memory that comes back.
 * Work is counted in allocations and in nodes that walks come to; what would take hours otherwise must_bus also just
 * end, within the watchdog. */
#include "link_test.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include <libbus/bus.h>

#include "base/mem.h"
#include "core/bus_internal.h"

/* The tree is compiled into this program once more, with the comparison counted that every node reached costs. */
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

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { MANY = 50000 };
#else
enum { MANY = 1000000 };
#endif

/* Bytes that malloc() and Check may keep back for themselves. */
enum { SLACK = 64 * 1024 };

/* --- what the tests share -------------------------------------------------------------------------------- */

/* Bytes allocated now. Sanitizers count them in their own way, and report what does not come back. */
static size_t
heap_used(void)
{
#if defined __GLIBC__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
#else
	return 0;
#endif
}

static long
allocations(void)
{
	return bus__mem_fail_after(-1);
}

static void
count_call(void *arg, const struct bus_msg *msg)
{
	(void)msg;
	++*(unsigned *)arg;
}

static void
publish(struct bus *bus, const char *topic)
{
	must_bus(bus_publish(bus, topic, "x", 1));
}

/* The i-th of many names, on three levels. */
static const char *
name_of(unsigned i, const char *rest)
{
	static char name[64];

	snprintf(name, sizeof name, "site/%u/dev%u%s", i / 1000, i % 1000, rest);
	return name;
}

static void
shuffle(struct bus_sub **subs, unsigned count, unsigned *seed)
{
	for (unsigned i = count; i > 1; i--) {
		unsigned other = (unsigned)rand_r(seed) % i;
		struct bus_sub *sub = subs[other];

		subs[other] = subs[i - 1];
		subs[i - 1] = sub;
	}
}

/* --- subscriptions ------------------------------------------------------------------------------------------- */

/* Begins `count` subscriptions of one topic, in one mailbox, and ends them: in the order in which they began, in
 * the opposite one, or in none. They cost one allocation each, and the lists a logarithm of allocations. */
static void
come_and_go(unsigned count, int order)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	struct bus_sub **subs = calloc(count, sizeof(struct bus_sub *));
	unsigned calls = 0, seed = 1;
	const struct topic *topic;

	publish(bus, "a/b");
	allocations();
	for (unsigned i = 0; i < count; i++) {
		unsigned at = order == 1 ? count - 1 - i : i;

		must_bus(bus_mailbox_subscribe(mbox, "a/b", count_call, &calls, &subs[at]));
	}
	ck_assert_int_lt(allocations(), count + 64);
	publish(bus, "a/b");
	ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(calls, count);

	if (order == 2)
		shuffle(subs, count, &seed);
	for (unsigned i = 0; i + 1 < count; i++)
		bus_unsubscribe(subs[i], NULL);
	/* One that stays does not hold the place of all others. */
	topic = bus__topic_find(bus, "a/b", 3);
	ck_assert_uint_le(topic->routes->routes[0]->slots->cap, 16);
	bus_unsubscribe(subs[count - 1], NULL);
	ck_assert_int_lt(allocations(), 64);
	publish(bus, "a/b");
	ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 0);
	ck_assert_uint_eq(calls, count);
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
	free(subs);
}

START_TEST(a_subscription_costs_as_much_behind_a_million_others)
{
	size_t before = heap_used();

	for (int order = 0; order < 3; order++)
		come_and_go(MANY / 10, order);
	come_and_go(MANY, 2);
	ck_assert_uint_le(heap_used(), before + SLACK);
}
END_TEST

START_TEST(subscriptions_end_in_linear_work_while_a_message_waits)
{
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	struct bus_sub **subs = calloc(MANY / 2, sizeof(struct bus_sub *));
	unsigned calls = 0;

	/* Their memory waits behind it, and is not looked through at each end. */
	must_bus(bus_mailbox_subscribe(mbox, "a", count_call, &calls, NULL));
	publish(bus, "a");
	for (unsigned i = 0; i < MANY / 2; i++)
		must_bus(bus_mailbox_subscribe(mbox, "a/b", count_call, &calls, &subs[i]));
	for (unsigned i = 0; i < MANY / 2; i++)
		bus_unsubscribe(subs[i], NULL);
	ck_assert_int_eq(bus_dispatch(mbox, 0, 0), 1);
	ck_assert_uint_eq(calls, 1);
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
	free(subs);
}
END_TEST

/* A subscription that remembers when it was called. */
struct caller {
	struct calls *calls;
	unsigned number;
	struct bus_sub *sub;
};

enum { CALLERS = 400 };

struct calls {
	unsigned numbers[CALLERS], count, begun;
	struct caller callers[CALLERS];
};

static void
note_call(void *arg, const struct bus_msg *msg)
{
	struct caller *caller = arg;

	(void)msg;
	if (caller->calls->count < CALLERS)
		caller->calls->numbers[caller->calls->count] = caller->number;
	caller->calls->count++;
}

/* Whoever is subscribed was called once, in the order of numbers. */
static void
check_calls(struct calls *calls, struct bus *bus, struct bus_mailbox *mbox, const char *topic)
{
	unsigned live = 0, last = 0;

	calls->count = 0;
	publish(bus, topic);
	bus_dispatch(mbox, 0, 0);
	for (unsigned i = 0; i < CALLERS; i++)
		live += calls->callers[i].sub != NULL;
	ck_assert_uint_eq(calls->count, live);
	for (unsigned i = 0; i < live; i++) {
		if (calls->numbers[i] <= last)
			ck_abort_msg("%u was called behind %u", calls->numbers[i], last);
		last = calls->numbers[i];
	}
}

START_TEST(callbacks_run_in_the_order_of_subscription_however_they_come_and_go)
{
	static const char *const filters[] = {
	    "a/b", "#", "a/+", "+/b", "a/b", "+/+", "a/b/#", "a/#"};
	static struct calls calls;
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);
	unsigned seed = 5;

	publish(bus, "a/b"); /* one topic older than its subscriptions; others are younger */
	for (unsigned round = 0; round < 2000; round++) {
		/* For a while more begin than end, then the other way round. */
		bool grows = round / 250 % 2 == 0;
		struct caller *caller = &calls.callers[(unsigned)rand_r(&seed) % CALLERS];

		if (caller->sub == NULL && (grows || rand_r(&seed) % 4 == 0)) {
			*caller = (struct caller){&calls, ++calls.begun, NULL};
			must_bus(bus_mailbox_subscribe(mbox, filters[(unsigned)rand_r(&seed) % 8],
			    note_call, caller, &caller->sub));
		} else if (caller->sub != NULL && (!grows || rand_r(&seed) % 4 == 0)) {
			bus_unsubscribe(caller->sub, NULL);
			caller->sub = NULL;
		}
		if (round % 10 == 0)
			check_calls(&calls, bus, mbox, "a/b");
	}
	for (unsigned i = 0; i < CALLERS; i++)
		bus_unsubscribe(calls.callers[i].sub, NULL);
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(a_topic_younger_than_its_subscriptions_calls_them_in_their_order)
{
	/* Those of one filter lie together in the tree, and its branches are walked in an order of their own. */
	static const char *const filters[] = {"a/#", "#", "+/b", "a/b", "a/+"};
	static struct calls calls;
	struct bus *bus = open_bus();
	struct bus_mailbox *mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST);

	for (unsigned i = 0; i < CALLERS; i++) {
		calls.callers[i] = (struct caller){&calls, ++calls.begun, NULL};
		must_bus(bus_mailbox_subscribe(
		    mbox, filters[i % 5], note_call, &calls.callers[i], &calls.callers[i].sub));
	}
	check_calls(&calls, bus, mbox, "a/b");
	for (unsigned i = 0; i < CALLERS; i++)
		bus_unsubscribe(calls.callers[i].sub, NULL);
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

/* Ends the one behind it and begins a new one, in the list that is being read. */
struct changer {
	struct bus_mailbox *mbox;
	struct bus_sub *next;
	unsigned called, ended, begun;
};

static void
change(void *arg, const struct bus_msg *msg)
{
	struct changer *c = arg;

	if (c->called++ > 0)
		return;
	bus_unsubscribe(c->next, NULL);
	must_bus(bus_mailbox_subscribe(c->mbox, msg->topic, count_call, &c->begun, NULL));
}

START_TEST(what_a_callback_changes_in_its_own_list_counts_from_the_next_message)
{
	struct bus *bus = open_bus();

	/* Lists of all lengths, full ones and ones with room. */
	for (unsigned others = 0; others < 40; others++) {
		struct changer c = {.mbox = open_mailbox(bus, NULL, .full = BUS_FULL_DROP_OLDEST)};
		unsigned calls = 0;

		must_bus(bus_mailbox_subscribe(c.mbox, "a", change, &c, NULL));
		must_bus(bus_mailbox_subscribe(c.mbox, "a", count_call, &c.ended, &c.next));
		for (unsigned i = 0; i < others; i++)
			must_bus(bus_mailbox_subscribe(c.mbox, "a", count_call, &calls, NULL));
		publish(bus, "a");
		publish(bus, "a");
		ck_assert_int_eq(bus_dispatch(c.mbox, 0, 0), 2);
		ck_assert_uint_eq(c.called, 2);
		ck_assert_uint_eq(c.ended, 0);
		ck_assert_uint_eq(calls, 2 * others);
		ck_assert_uint_eq(c.begun, 0); /* both messages were older */
		publish(bus, "a");
		ck_assert_int_eq(bus_dispatch(c.mbox, 0, 0), 1);
		ck_assert_uint_eq(c.begun, 1);
		bus_mailbox_close(c.mbox);
	}
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

/* A subscription that must_bus not be called before it begins or after it has ended. */
struct guest {
	_Atomic bool here;
	_Atomic unsigned calls;
	struct bus_sub *sub;
};

static _Atomic bool called_outside;

static void
greet(void *arg, const struct bus_msg *msg)
{
	struct guest *guest = arg;

	(void)msg;
	if (!atomic_load(&guest->here))
		atomic_store(&called_outside, true);
	atomic_fetch_add(&guest->calls, 1);
}

struct chatter {
	struct bus *bus;
	_Atomic bool stop;
};

static void *
chat(void *arg)
{
	struct chatter *c = arg;

	while (!atomic_load(&c->stop))
		if (bus_publish(c->bus, "a/b", "x", 1) < 0)
			return c;
	return NULL;
}

START_TEST(lists_change_under_the_eyes_of_their_drainer)
{
	enum { GUESTS = 40, TURNS = 100 };
	static struct guest guests[GUESTS];
	struct chatter c = {.bus = open_bus()};
	pthread_t thread;
	void *failed;

	ck_assert_int_eq(pthread_create(&thread, NULL, chat, &c), 0);
	for (unsigned turn = 0; turn < TURNS; turn++) {
		for (unsigned i = 0; i < GUESTS; i++) {
			atomic_store(&guests[i].calls, 0);
			atomic_store(&guests[i].here, true);
			must_bus(bus_subscribe(
			    c.bus, i % 2 == 0 ? "a/b" : "a/+", greet, &guests[i], &guests[i].sub));
		}
		/* The last one hears what is published from now on; so the others do too. */
		ck_eventually(atomic_load(&guests[GUESTS - 1].calls) > 0);
		for (unsigned i = 0; i < GUESTS; i++)
			if (atomic_load(&guests[i].calls) == 0)
				ck_abort_msg("guest %u heard nothing in turn %u", i, turn);
		for (unsigned n = 0; n < GUESTS; n++) {
			unsigned i = (n * 7 + turn) % GUESTS;

			bus_unsubscribe(guests[i].sub, NULL);
			atomic_store(&guests[i].here, false);
		}
	}
	atomic_store(&c.stop, true);
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	ck_assert(!atomic_load(&called_outside));
	ck_assert_int_ge(bus_close(c.bus, 5000), 0);
}
END_TEST

/* --- topics and filters -------------------------------------------------------------------------------------- */

START_TEST(a_million_filters_meet_a_million_topics)
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

START_TEST(one_filter_joins_a_million_topics_and_leaves_them)
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
	/* The end of mailbox and bus takes what is left in one go. */
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

START_TEST(a_topic_comes_to_each_node_of_hostile_filters_at_most_once)
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
		/* As many levels as there may be, of which no filter has more than its own. */
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

START_TEST(a_filter_of_32_wildcards_comes_to_each_topic_once)
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
	strcpy(name + strlen(name) - 1, "c"); /* no topic has it: every path is tried, once */
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
	ck_assert_int_eq(handled, MANY / 10); /* a topic that went took no message along */
	ck_assert_uint_le(bus->topics.count, MOST);
	ck_assert_uint_le(bus->trie.edge_count, 3 * MOST);
	ck_assert_uint_le(atomic_load(&bus->topics.slots)->mask + 1, 4 * MOST);
	ck_assert_uint_le(heap_used(), filled + (256u << 10));
	bus_mailbox_close(mbox);
	ck_assert_int_eq(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(topics_that_nobody_takes_out_are_not_forgotten_without_end)
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

/* Publishes on `count` names at a, of which b hears; retained, so that b keeps what comes. */
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

	/* One that is used here too stays. */
	must_bus(bus_publish(p.b, name_of(7, ""), "y", 1));
	invent(&p, INVENTED, 0);
	/* How often "hello" came is not known. */
	ck_eventually(stats_of(p.lb).received > INVENTED);
	ck_assert_uint_eq(stats_of(p.lb).refused, 0);
	ck_assert_uint_le(topics_of(p.b), BUS__PEER_TOPICS + 10);

	/* Those that keep a value count, and what is too many is refused and counted. */
	invent(&p, INVENTED, BUS_MSG_RETAIN);
	ck_eventually(stats_of(p.lb).refused >= INVENTED - BUS__PEER_TOPICS);
	ck_eventually(stats_of(p.lb).received + stats_of(p.lb).refused > 2 * INVENTED);
	ck_assert_int_eq(stats_of(p.lb).last_error, BUS_E_LIMIT);
	ck_assert_uint_le(topics_of(p.b), BUS__PEER_TOPICS + 10);
	/* Nobody else is kept from naming topics. */
	must_bus(bus_publish(p.b, "of/our/own", "y", 1));

	/* When it leaves, what nobody uses goes with it. */
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
	ck_eventually(topics_of(p.b) == 1); /* the one that is used here too */
	bus_link_close(p.lb);
	ck_assert_int_ge(bus_close(p.b, 5000), 0);
	ck_assert_int_ge(bus_close(p.a, 5000), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("scale");

	BUS_TEST_CASE(suite, "subscriptions", a_subscription_costs_as_much_behind_a_million_others,
	    callbacks_run_in_the_order_of_subscription_however_they_come_and_go,
	    a_topic_younger_than_its_subscriptions_calls_them_in_their_order,
	    subscriptions_end_in_linear_work_while_a_message_waits,
	    what_a_callback_changes_in_its_own_list_counts_from_the_next_message,
	    lists_change_under_the_eyes_of_their_drainer);
	BUS_TEST_CASE(suite, "topics", a_million_filters_meet_a_million_topics,
	    one_filter_joins_a_million_topics_and_leaves_them,
	    a_bus_that_closes_under_its_subscriptions_gives_all_back,
	    a_new_topic_is_routed_to_many_mailboxes_at_once);
	BUS_TEST_CASE(suite, "walks", a_topic_comes_to_each_node_of_hostile_filters_at_most_once,
	    a_filter_of_32_wildcards_comes_to_each_topic_once,
	    filters_do_not_stand_in_the_way_of_filters, the_table_of_edges_shrinks_when_filters_go);
	BUS_TEST_CASE(suite, "names", names_invented_here_cost_a_bounded_table,
	    topics_that_nobody_takes_out_are_not_forgotten_without_end,
	    names_that_a_peer_invents_are_forgotten_or_refused,
	    a_peer_that_leaves_takes_its_idle_topics_along);
	return suite;
}
