/* Many subscriptions: work that grows no faster than their number, and memory that is returned. */
#include "scale_test.h"

#include <pthread.h>
#include <stdlib.h>

#include <libbus/bus.h>

#include "bus/bus_internal.h"

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
 * reverse, or in a random order. They cost one allocation each, and the lists a logarithm of allocations. */
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
	/* A remaining subscription does not hold the memory of all others. */
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

START_TEST(a_subscription_costs_as_much_behind_many_others)
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

	/* Their memory waits behind it, and an end does not search through it. */
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

/* Each current subscription was called once, in the order of numbers. */
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

START_TEST(callbacks_run_in_the_order_of_subscription_however_they_change)
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
	/* Those of one filter lie together in the tree, whose branches have their own order. */
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

/* Ends the subscription behind it and begins a new one, in the list that is being read. */
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

START_TEST(change_by_a_callback_to_its_own_list_counts_from_the_next_message)
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

/* A subscription that must not be called before it begins or after it has ended. */
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
		/* The last one gets new messages; so the others do, too. */
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

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("scale");

	BUS_TEST_CASE(suite, "subscriptions", a_subscription_costs_as_much_behind_many_others,
	    callbacks_run_in_the_order_of_subscription_however_they_change,
	    a_topic_younger_than_its_subscriptions_calls_them_in_their_order,
	    subscriptions_end_in_linear_work_while_a_message_waits,
	    change_by_a_callback_to_its_own_list_counts_from_the_next_message,
	    lists_change_under_the_eyes_of_their_drainer);
	return suite;
}
