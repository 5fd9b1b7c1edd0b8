#include "bus_test.h"

#include <stdlib.h>
#include <string.h>

#include <libbus/bus.h>

#include "topic/name.h"
#include "topic/trie.h"
#include "naive_match.h"

/* Names that may not be topics or filters, and why. */
static const struct {
	const char *name;
	int as_topic, as_filter;
} names[] = {
    {"a", 0, 0},
    {"/", 0, 0},
    {"a//b", 0, 0},
    {"sensors/pi/temp", 0, 0},
    {"gr\xc3\xbc\xc3\x9f/gott", 0, 0},
    {"", BUS_E_TOPIC_EMPTY, BUS_E_TOPIC_EMPTY},
    {"bad\xff", BUS_E_TOPIC_BYTES, BUS_E_TOPIC_BYTES},
    {"over\xc0\xaflong", BUS_E_TOPIC_BYTES, BUS_E_TOPIC_BYTES},
    {"half\xed\xa0\x80", BUS_E_TOPIC_BYTES, BUS_E_TOPIC_BYTES},
    {"cut\xe2\x82", BUS_E_TOPIC_BYTES, BUS_E_TOPIC_BYTES},
    {"$bus/drops", BUS_E_TOPIC_RESERVED, 0},
    {"#", BUS_E_TOPIC_WILDCARD, 0},
    {"+", BUS_E_TOPIC_WILDCARD, 0},
    {"a/+/b", BUS_E_TOPIC_WILDCARD, 0},
    {"a/#", BUS_E_TOPIC_WILDCARD, 0},
    {"a/b#", BUS_E_TOPIC_WILDCARD, BUS_E_FILTER},
    {"a/#/b", BUS_E_TOPIC_WILDCARD, BUS_E_FILTER},
    {"a+/b", BUS_E_TOPIC_WILDCARD, BUS_E_FILTER},
    {"++", BUS_E_TOPIC_WILDCARD, BUS_E_FILTER},
    {"##", BUS_E_TOPIC_WILDCARD, BUS_E_FILTER},
    {NULL, BUS_E_INVAL, BUS_E_INVAL},
};

START_TEST(every_kind_of_bad_name_has_its_own_error)
{
	size_t len;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		ck_bus(bus__topic_check(names[i].name, &len), names[i].as_topic);
		ck_bus(bus__filter_check(names[i].name, &len), names[i].as_filter);
	}
}
END_TEST

START_TEST(length_and_depth_have_exact_limits)
{
	char name[BUS_LIMIT_TOPIC_BYTES + 2];
	size_t len;

	memset(name, 'x', sizeof name);
	name[BUS_LIMIT_TOPIC_BYTES] = '\0';
	ck_bus(bus__topic_check(name, &len), 0);
	ck_assert_uint_eq(len, BUS_LIMIT_TOPIC_BYTES);
	name[BUS_LIMIT_TOPIC_BYTES] = 'x';
	name[BUS_LIMIT_TOPIC_BYTES + 1] = '\0';
	ck_bus(bus__topic_check(name, &len), BUS_E_TOPIC_LONG);

	memset(name, '/', BUS_LIMIT_TOPIC_LEVELS);
	name[BUS_LIMIT_TOPIC_LEVELS - 1] = '\0';
	ck_bus(bus__topic_check(name, &len), 0);
	name[BUS_LIMIT_TOPIC_LEVELS - 1] = '/';
	name[BUS_LIMIT_TOPIC_LEVELS] = '\0';
	ck_bus(bus__topic_check(name, &len), BUS_E_TOPIC_LONG);
}
END_TEST

static void
random_name(char *name, const char *const levels[], unsigned kinds, unsigned *seed)
{
	unsigned count = 1 + (unsigned)rand_r(seed) % 5;

	name[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		const char *level = levels[(unsigned)rand_r(seed) % kinds];

		if (strcmp(level, "#") == 0 && i + 1 < count)
			level = "+";
		strcat(name, level);
		if (i + 1 < count)
			strcat(name, "/");
	}
	if (name[0] == '\0')
		strcpy(name, "a");
}

/* A failure only: Check writes a line for each assertion, which here would be most of the time. */
static void
expect(unsigned times, bool want, const char *filter, const char *topic, unsigned seed)
{
	if (times != want)
		ck_abort_msg(
		    "%s and %s met %u times, not %d (seed %u)", filter, topic, times, want, seed);
}

struct found {
	const void *want;
	bool found;
};

static void
see_node(void *arg, struct node *filter)
{
	struct found *f = arg;

	f->found |= filter->subs == f->want;
}

static void
see_topic(void *arg, struct topic *topic)
{
	struct found *f = arg;

	ck_assert(!f->found); /* each topic at most once */
	f->found |= topic == f->want;
}

START_TEST(trie_agrees_with_the_text_of_the_standard_in_both_directions)
{
	static const char *const topic_levels[] = {"a", "b", "c", "", "$s", "aa"};
	static const char *const filter_levels[] = {"a", "b", "+", "#", "", "$s", "aa", "+"};
	const uint64_t key[2] = {1, 2};
	unsigned seed = 7, matched = 0, pairs = 200000;
	int object; /* only its address is used */
	struct trie trie;

	ck_bus(bus__trie_init(&trie, key), 0);
	for (unsigned i = 0; i < pairs; i++) {
		char topic[64], filter[64], back[BUS_LIMIT_TOPIC_BYTES + 1];
		struct found f = {&object, false};
		struct node *filter_node, *topic_node;
		bool want;

		random_name(topic, topic_levels, 6, &seed);
		random_name(filter, filter_levels, 8, &seed);
		want = naive_match(filter, topic);
		matched += want;

		filter_node = bus__trie_make(&trie, filter);
		filter_node->subs = (struct bus_sub *)(void *)&object;
		bus__trie_name(filter_node, back);
		ck_assert_str_eq(back, filter);
		bus__trie_match_topic(&trie, topic, see_node, &f);
		expect(f.found, want, filter, topic, seed);

		topic_node = bus__trie_make(&trie, topic);
		bus__trie_set_topic(topic_node, (struct topic *)(void *)&object);
		f = (struct found){&object, false};
		bus__trie_match_filter(&trie, filter, see_topic, &f);
		expect(f.found, want, filter, topic, seed);

		bus__trie_set_topic(topic_node, NULL);
		bus__trie_prune(&trie, topic_node);
		filter_node = bus__trie_find(&trie, filter);
		filter_node->subs = NULL;
		bus__trie_prune(&trie, filter_node);
		ck_assert_uint_eq(trie.edge_count, 0); /* nothing stays behind */
	}
	ck_assert_uint_gt(
	    matched, pairs / 100); /* the names were not too random to tell anything */
	bus__trie_fini(&trie);
}
END_TEST

/* Many filters and many topics in one tree, so that walks have ways to go wrong in. */
enum {
	FILTERS = 50,
	TOPICS = 40,
	ROUNDS = 500 /* of FILTERS * TOPICS pairs each: 10^6 */
};

struct forest {
	struct trie trie;
	char filters[FILTERS][64], topics[TOPICS][64];
	struct node *filter_nodes[FILTERS], *topic_nodes[TOPICS];
	unsigned seen[FILTERS > TOPICS ? FILTERS : TOPICS];
};

/* Filters and topics are told from each other by where they stand in these. */
static char filter_objects[FILTERS], topic_objects[TOPICS];

static void
grow(struct forest *f, unsigned *seed)
{
	static const char *const topic_levels[] = {"a", "b", "", "$s", "aa", "$"};
	static const char *const filter_levels[] = {"a", "b", "+", "#", "", "$s", "aa", "+", "$"};

	for (unsigned i = 0; i < FILTERS; i++) {
		random_name(f->filters[i], filter_levels, 9, seed);
		f->filter_nodes[i] = bus__trie_make(&f->trie, f->filters[i]);
		if (f->filter_nodes[i]->subs == NULL)
			f->filter_nodes[i]->subs = (struct bus_sub *)(void *)&filter_objects[i];
	}
	for (unsigned i = 0; i < TOPICS; i++) {
		random_name(f->topics[i], topic_levels, 6, seed);
		f->topic_nodes[i] = bus__trie_make(&f->trie, f->topics[i]);
		if (f->topic_nodes[i]->topic == NULL)
			bus__trie_set_topic(
			    f->topic_nodes[i], (struct topic *)(void *)&topic_objects[i]);
	}
}

/* The first of the names that are equal to the i-th, which stands for all of them. */
static unsigned
first_of(char list[][64], unsigned i)
{
	unsigned first = 0;

	while (strcmp(list[first], list[i]) != 0)
		first++;
	return first;
}

static void
count_filter(void *arg, struct node *filter)
{
	struct forest *f = arg;

	f->seen[(char *)(void *)filter->subs - filter_objects]++;
}

static void
count_topic(void *arg, struct topic *topic)
{
	struct forest *f = arg;

	f->seen[(char *)(void *)topic - topic_objects]++;
}

/* Every topic comes to the filters that match it, from the first-th on, once each. Returns how many do. */
static unsigned
walk_from_topics(struct forest *f, unsigned first, unsigned seed)
{
	unsigned matched = 0;

	for (unsigned t = 0; t < TOPICS; t++) {
		memset(f->seen, 0, sizeof f->seen);
		bus__trie_match_topic(&f->trie, f->topics[t], count_filter, f);
		for (unsigned i = 0; i < FILTERS; i++) {
			bool want = first_of(f->filters, i) >= first &&
				    naive_match(f->filters[i], f->topics[t]);

			matched += want;
			expect(f->seen[first_of(f->filters, i)], want, f->filters[i], f->topics[t],
			    seed);
		}
	}
	return matched;
}

/* The same the other way round. */
static void
walk_from_filters(struct forest *f, unsigned first, unsigned seed)
{
	for (unsigned i = 0; i < FILTERS; i++) {
		memset(f->seen, 0, sizeof f->seen);
		bus__trie_match_filter(&f->trie, f->filters[i], count_topic, f);
		for (unsigned t = 0; t < TOPICS; t++)
			expect(f->seen[first_of(f->topics, t)],
			    first_of(f->topics, t) >= first &&
				naive_match(f->filters[i], f->topics[t]),
			    f->filters[i], f->topics[t], seed);
	}
}

/* Takes out those from the first-th to the one before the end-th. */
static void
fell(struct forest *f, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end && i < FILTERS; i++) {
		if (first_of(f->filters, i) != i)
			continue;
		f->filter_nodes[i]->subs = NULL;
		bus__trie_prune(&f->trie, f->filter_nodes[i]);
	}
	for (unsigned i = first; i < end && i < TOPICS; i++) {
		if (first_of(f->topics, i) != i)
			continue;
		bus__trie_set_topic(f->topic_nodes[i], NULL);
		bus__trie_prune(&f->trie, f->topic_nodes[i]);
	}
}

START_TEST(a_million_random_pairs_match_as_the_standard_says)
{
	const uint64_t key[2] = {3, 4};
	static struct forest f;
	unsigned seed = 20240607, matched = 0;

	ck_bus(bus__trie_init(&f.trie, key), 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned begun = seed;

		grow(&f, &seed);
		matched += walk_from_topics(&f, 0, begun);
		walk_from_filters(&f, 0, begun);
		/* What stands is found as before when others have gone. */
		fell(&f, 0, 25);
		walk_from_topics(&f, 25, begun);
		walk_from_filters(&f, 25, begun);
		fell(&f, 25, FILTERS);
		ck_assert_uint_eq(f.trie.edge_count, 0); /* nothing stays behind */
	}
	ck_assert_uint_gt(matched, ROUNDS * FILTERS * TOPICS / 100);
	bus__trie_fini(&f.trie);
}
END_TEST

START_TEST(a_program_learns_what_is_wrong_with_a_filter)
{
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		ck_bus(bus_filter_check(names[i].name), names[i].as_filter);
	ck_bus(bus_filter_check("room/#/door"), BUS_E_FILTER);
	ck_assert_str_eq(bus_error_text(),
	    "room/#/door: malformed filter: level 2 is #, which stands in the last level alone");
	ck_bus(bus_filter_covers("#", "a+/b"), BUS_E_FILTER);
	ck_assert_ptr_nonnull(
	    strstr(bus_error_text(), "a+/b: malformed filter: level 1 is \"a+\""));
	ck_bus(bus_filter_covers("##", "a"), BUS_E_FILTER);
	ck_bus(bus_filter_covers(NULL, "a"), BUS_E_INVAL);
	ck_bus(bus_filter_covers("a", NULL), BUS_E_INVAL);
}
END_TEST

/* All names of 1 to depth of these levels, # in the last one alone. Returns how many. */
static unsigned
every_name(char (*ret_names)[16], const char *const levels[], unsigned kinds, unsigned depth)
{
	unsigned count = 0, of_depth = 1;

	for (unsigned d = 1; d <= depth; d++) {
		of_depth *= kinds;
		for (unsigned i = 0; i < of_depth; i++) {
			char *name = ret_names[count];
			bool is_name = true;
			unsigned left = i;

			name[0] = '\0';
			for (unsigned level = 0; level < d; level++, left /= kinds) {
				strcat(name, levels[left % kinds]);
				if (level + 1 < d) {
					is_name &= levels[left % kinds][0] != '#';
					strcat(name, "/");
				}
			}
			count += is_name && name[0] != '\0';
		}
	}
	return count;
}

START_TEST(a_filter_covers_another_when_no_topic_of_the_other_escapes_it)
{
	enum {
		MOST_FILTERS = 6 + 6 * 6 + 6 * 6 * 6,
		MOST_TOPICS = 5 + 5 * 5 + 5 * 5 * 5 + 5 * 5 * 5 * 5
	};
	/* c is in no filter: it stands for all other levels. One level more than filters have shows what # matches. */
	static const char *const topic_levels[] = {"a", "aa", "", "$s", "c"};
	static const char *const filter_levels[] = {"a", "aa", "", "$s", "+", "#"};
	static char topics[MOST_TOPICS + 1][16], filters[MOST_FILTERS + 1][16];
	static bool match[MOST_FILTERS][MOST_TOPICS];
	unsigned topic_count = every_name(topics, topic_levels, 5, 4);
	unsigned filter_count = every_name(filters, filter_levels, 6, 3);
	unsigned covered = 0;

	for (unsigned f = 0; f < filter_count; f++)
		for (unsigned t = 0; t < topic_count; t++)
			match[f][t] = naive_match(filters[f], topics[t]);
	for (unsigned f = 0; f < filter_count; f++)
		for (unsigned o = 0; o < filter_count; o++) {
			bool want = true;

			for (unsigned t = 0; t < topic_count && want; t++)
				want = match[f][t] || !match[o][t];
			covered += want;
			if (bus_filter_covers(filters[f], filters[o]) != want)
				ck_abort_msg("%s and %s: %d", filters[f], filters[o], want);
		}
	ck_assert_uint_gt(covered, filter_count);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("topic");

	BUS_TEST_CASE(suite, "names", every_kind_of_bad_name_has_its_own_error,
	    length_and_depth_have_exact_limits, a_program_learns_what_is_wrong_with_a_filter);
	BUS_TEST_CASE(suite, "matching",
	    trie_agrees_with_the_text_of_the_standard_in_both_directions,
	    a_million_random_pairs_match_as_the_standard_says,
	    a_filter_covers_another_when_no_topic_of_the_other_escapes_it);
	return suite;
}
