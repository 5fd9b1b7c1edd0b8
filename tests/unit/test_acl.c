/* Which topics users may read and write by an ACL file: compared with a slow and simple model. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "access/acl.h"
#include "base/mem.h"
#include "naive_match.h"
#include "topic/name.h"
#include "topic/overlap.h"
#include "world.h"

static struct bus__acl *
acl_of(const char *text)
{
	char error[BUS__ACL_ERROR] = "";
	struct bus__acl *acl = NULL;
	int err = bus__acl_parse("acl", text, strlen(text), &acl, error);

	ck_assert_msg(err == 0, "%s", error);
	return acl;
}

static void
ck_refused(const char *text, size_t len, const char *says)
{
	char error[BUS__ACL_ERROR] = "";
	struct bus__acl *acl = NULL;

	ck_bus(bus__acl_parse("acl", text, len, &acl, error), BUS_E_INVAL);
	ck_assert_msg(strstr(error, says) != NULL, "\"%s\" is not in: %s", says, error);
	ck_assert_ptr_null(acl);
}

/* --- all names of few letters ---------------------------------------------------------------------------------- */

enum { NAME = 16, MOST_NAMES = 1000 };

struct names {
	unsigned count;
	char name[MOST_NAMES][NAME];
};

/* Adds all names of up to `levels` levels, each one of the words. */
static void
add_names(struct names *names, const char *begin, unsigned levels, const char *const *words)
{
	char name[NAME];

	for (unsigned i = 0; words[i] != NULL; i++) {
		snprintf(name, sizeof name, "%s%s", begin, words[i]);
		must(names->count < MOST_NAMES);
		if (name[0] != '\0')
			strcpy(names->name[names->count++], name);
		if (levels > 1 && strcmp(words[i], "#") != 0) {
			strcat(name, "/");
			add_names(names, name, levels - 1, words);
		}
	}
}

static struct names *
all_filters(unsigned levels)
{
	static const char *const words[] = {"a", "b", "", "+", "#", NULL};
	struct names *names = calloc(1, sizeof *names);

	add_names(names, "", levels, words);
	return names;
}

/* One level more than the filters have, and a word that no filter has. */
static struct names *
all_topics(unsigned levels)
{
	static const char *const words[] = {"a", "b", "", "z", NULL};
	struct names *names = calloc(1, sizeof *names);

	add_names(names, "", levels, words);
	return names;
}

START_TEST(overlap_of_two_filters_matches_exactly_their_common_topics)
{
	struct names *filters = all_filters(3), *topics = all_topics(4);
	char both[BUS_LIMIT_TOPIC_BYTES + 1];
	size_t len;

	for (unsigned a = 0; a < filters->count; a++)
		for (unsigned b = 0; b < filters->count; b++) {
			const char *x = filters->name[a], *y = filters->name[b];
			bool some = bus__filter_overlap(x, y, both), found = false;

			must(!some || bus__filter_check(both, &len) == 0);
			for (unsigned t = 0; t < topics->count; t++) {
				const char *topic = topics->name[t];
				bool is_in = naive_match(x, topic) && naive_match(y, topic);

				found |= is_in;
				if (is_in != (some && naive_match(both, topic)))
					ck_abort_msg("%s and %s: %s, but %s", x, y,
					    some ? both : "none", topic);
			}
			if (found != some)
				ck_abort_msg("%s and %s: %d", x, y, some);
		}
	free(filters);
	free(topics);
}
END_TEST

START_TEST(overlap_excludes_dollar_topics_and_topics_that_are_too_long)
{
	char both[BUS_LIMIT_TOPIC_BYTES + 1], x[1001], y[1001];

	ck_assert(!bus__filter_overlap("#", "$bus/#", both));
	ck_assert(!bus__filter_overlap("$bus/a", "+/a", both));
	ck_assert(bus__filter_overlap("$bus/+", "$bus/#", both));
	ck_assert_str_eq(both, "$bus/+");
	/* Each is short enough, and no topic is as long as both together. */
	memset(x, 'x', sizeof x);
	memset(y, 'y', sizeof y);
	strcpy(x + 600, "/+");
	memcpy(y, "+/", 2);
	y[600] = '\0';
	ck_assert(!bus__filter_overlap(x, y, both));
	y[300] = '\0';
	ck_assert(bus__filter_overlap(x, y, both));
}
END_TEST

/* --- a model ------------------------------------------------------------------------------------------------------ */

enum { RULES = 5 };

struct model {
	unsigned count;
	struct {
		char filter[NAME];
		int may; /* an index of words */
	} rules[RULES];
};

static const char *const words[] = {"read", "write", "readwrite", "deny"};

static bool
model_may(const struct model *m, bool write, const char *topic)
{
	bool allowed = false;

	for (unsigned i = 0; i < m->count; i++) {
		if (!naive_match(m->rules[i].filter, topic))
			continue;
		if (m->rules[i].may == 3)
			return false;
		allowed |= m->rules[i].may == 2 || m->rules[i].may == write;
	}
	return allowed;
}

static bool
model_may_subscribe(const struct model *m, const char *filter, const struct names *topics)
{
	for (unsigned t = 0; t < topics->count; t++)
		if (naive_match(filter, topics->name[t]) && model_may(m, false, topics->name[t]))
			return true;
	return false;
}

static struct bus__acl *
acl_of_model(const struct model *m, bool is_pattern, const char *user)
{
	char text[RULES * 64] = "";
	size_t len = 0;

	if (user[0] != '\0' && !is_pattern)
		len = (size_t)snprintf(text, sizeof text, "user %s\n", user);
	for (unsigned i = 0; i < m->count; i++)
		len += (size_t)snprintf(text + len, sizeof text - len, "%s %s %s\n",
		    is_pattern ? "pattern" : "topic", words[m->rules[i].may], m->rules[i].filter);
	return acl_of(text);
}

START_TEST(each_line_allows_the_topics_that_its_filter_matches)
{
	struct names *filters = all_filters(3), *topics = all_topics(4);
	struct model m = {.count = 1};

	for (unsigned f = 0; f < filters->count; f++)
		for (int may = 0; may < 4; may++) {
			struct bus__acl *acl;

			strcpy(m.rules[0].filter, filters->name[f]);
			m.rules[0].may = may;
			acl = acl_of_model(&m, f % 2 == 0, f % 3 == 0 ? "" : "pico");
			for (unsigned t = 0; t < topics->count; t++) {
				const char *topic = topics->name[t];

				must(bus__acl_may_read(acl, f % 3 == 0 ? NULL : "pico", topic) ==
				     model_may(&m, false, topic));
				must(bus__acl_may_write(acl, f % 3 == 0 ? "" : "pico", topic) ==
				     model_may(&m, true, topic));
			}
			bus__acl_unref(acl);
		}
	free(filters);
	free(topics);
}
END_TEST

START_TEST(filters_without_a_readable_topic_are_refused_and_others_are_not)
{
	struct names *filters = all_filters(3), *topics = all_topics(4);
	unsigned brings = 0, asked = 0;
	struct model m;

	srand(1);
	for (int round = 0; round < 3000; round++) {
		struct bus__acl *acl;

		m.count = 1 + (unsigned)rand() % RULES;
		for (unsigned i = 0; i < m.count; i++) {
			strcpy(m.rules[i].filter, filters->name[(unsigned)rand() % filters->count]);
			m.rules[i].may = i == 0 ? 0 : rand() % 4;
		}
		acl = acl_of_model(&m, round % 2 == 0, "pico");
		for (int i = 0; i < 10; i++) {
			const char *filter = filters->name[(unsigned)rand() % filters->count];
			bool want = model_may_subscribe(&m, filter, topics);

			asked++;
			brings += want;
			if (bus__acl_may_subscribe(acl, "pico", filter) != want)
				ck_abort_msg("round %d: %s: not %d", round, filter, want);
		}
		bus__acl_unref(acl);
	}
	ck_assert_uint_gt(brings, asked / 10);
	ck_assert_uint_lt(brings, asked / 10 * 9);
	free(filters);
	free(topics);
}
END_TEST

START_TEST(denied_depths_may_cover_a_filter_only_together)
{
	struct bus__acl *acl =
	    acl_of("topic read a/#\ntopic deny a\ntopic deny a/+\ntopic deny a/+/+/#\n");

	ck_assert(!bus__acl_may_subscribe(acl, NULL, "a/#"));
	ck_assert(!bus__acl_may_subscribe(acl, NULL, "#"));
	bus__acl_unref(acl);
	acl = acl_of("topic read a/#\ntopic deny a\ntopic deny a/+/+/#\n");
	ck_assert(bus__acl_may_subscribe(acl, NULL, "a/#"));
	ck_assert(bus__acl_may_subscribe(acl, NULL, "a/x"));
	ck_assert(!bus__acl_may_subscribe(acl, NULL, "a/x/y/#"));
	bus__acl_unref(acl);
}
END_TEST

/* --- users ------------------------------------------------------------------------------------------------------------ */

START_TEST(lines_belong_to_the_user_above_them_and_the_first_lines_to_peers_without_a_user)
{
	struct bus__acl *acl = acl_of("topic read public/#\r\n"
				      "\r\n"
				      "# of the kitchen\r\n"
				      "user pico\r\n"
				      "topic read a/b\r\n"
				      "user Maria Wachter\n"
				      "  topic   write \t with blanks/x \n"
				      "user pico\n"
				      "topic write c");

	ck_assert(bus__acl_may_read(acl, NULL, "public/x"));
	ck_assert(bus__acl_may_read(acl, "", "public/x"));
	ck_assert(!bus__acl_may_write(acl, "", "public/x"));
	ck_assert(!bus__acl_may_read(acl, "pico", "public/x"));
	ck_assert(bus__acl_may_read(acl, "pico", "a/b"));
	ck_assert(bus__acl_may_write(acl, "pico", "c"));
	ck_assert(!bus__acl_may_read(acl, "pic", "a/b"));
	ck_assert(!bus__acl_may_read(acl, "nobody", "a/b"));
	ck_assert(bus__acl_may_write(acl, "Maria Wachter", "with blanks/x"));
	ck_assert(!bus__acl_may_subscribe(acl, "nobody", "#"));
	bus__acl_unref(acl);
}
END_TEST

START_TEST(empty_file_allows_nothing_and_no_file_allows_all)
{
	struct bus__acl *acl = acl_of("# nothing\n");

	ck_assert(!bus__acl_may_read(acl, "pico", "a"));
	ck_assert(!bus__acl_may_write(acl, NULL, "a"));
	ck_assert(!bus__acl_may_subscribe(acl, NULL, "#"));
	bus__acl_unref(acl);
	ck_assert(bus__acl_may_read(NULL, "pico", "a"));
	ck_assert(bus__acl_may_write(NULL, NULL, "a"));
	ck_assert(bus__acl_may_subscribe(NULL, NULL, "#"));
}
END_TEST

START_TEST(no_line_allows_a_topic_of_the_bus_itself)
{
	struct bus__acl *acl =
	    acl_of("topic $SYS/#\ntopic readwrite $bus/#\ntopic #\npattern %u/#");
	static const char *const names[] = {"$bus/drops", "$SYS/uptime", "$"};

	for (unsigned i = 0; i < 3; i++) {
		ck_assert(!bus__acl_may_read(acl, NULL, names[i]));
		ck_assert(!bus__acl_may_write(acl, "$bus", names[i]));
		ck_assert(!bus__acl_may_subscribe(acl, "$SYS", names[i]));
		ck_assert(!bus__acl_may_read(NULL, NULL, names[i]));
		ck_assert(!bus__acl_may_subscribe(NULL, NULL, names[i]));
	}
	ck_assert(!bus__acl_may_subscribe(acl, NULL, "$bus/#"));
	ck_assert(bus__acl_may_subscribe(acl, NULL, "#"));
	bus__acl_unref(acl);
}
END_TEST

START_TEST(pattern_is_for_each_user_with_the_name_in_it)
{
	struct bus__acl *acl = acl_of("user pico\npattern readwrite home/%u/#\npattern read %u\n"
				      "pattern deny home/%u/raw/%u\npattern read all/#\n");

	ck_assert(bus__acl_may_write(acl, "pico", "home/pico/temp"));
	ck_assert(bus__acl_may_write(acl, "zero", "home/zero/temp"));
	ck_assert(!bus__acl_may_read(acl, "zero", "home/pico/temp"));
	ck_assert(bus__acl_may_read(acl, "zero", "zero"));
	ck_assert(!bus__acl_may_read(acl, "zero", "home/zero/raw/zero"));
	ck_assert(bus__acl_may_read(acl, "zero", "home/zero/raw/pico"));
	ck_assert(!bus__acl_may_read(acl, NULL, "home//temp"));
	ck_assert(!bus__acl_may_read(acl, NULL, "home/%u/temp"));
	ck_assert(bus__acl_may_read(acl, NULL, "all/x"));
	ck_assert(bus__acl_may_subscribe(acl, "zero", "+/zero/+"));
	ck_assert(!bus__acl_may_subscribe(acl, "zero", "home/pico/#"));
	ck_assert(!bus__acl_may_subscribe(acl, NULL, "home/#"));
	bus__acl_unref(acl);
}
END_TEST

START_TEST(name_with_a_wildcard_or_a_slash_widens_no_pattern)
{
	static const char *const names[] = {"#", "+", "a/b", "a/#", "+/+", "x+", "/"};
	struct bus__acl *acl = acl_of("pattern readwrite home/%u/#\npattern readwrite %u\n");

	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		static const char *const topics[] = {"home/a/b", "home/a/b/c", "home/x", "home/#",
		    "home/+/x", "a/b", "a", "/", "home///"};

		for (unsigned t = 0; t < sizeof topics / sizeof topics[0]; t++) {
			ck_assert(!bus__acl_may_read(acl, names[i], topics[t]));
			ck_assert(!bus__acl_may_write(acl, names[i], topics[t]));
		}
		ck_assert(!bus__acl_may_subscribe(acl, names[i], "#"));
	}
	bus__acl_unref(acl);
	/* A topic denied to a user stays denied with such a name. */
	acl = acl_of("pattern deny secret/%u/x\npattern readwrite secret/#\npattern readwrite a/#");
	ck_assert(bus__acl_may_read(acl, "pico", "secret/zero/x"));
	ck_assert(!bus__acl_may_read(acl, "pico", "secret/pico/x"));
	ck_assert(!bus__acl_may_read(acl, "a/b", "secret/a/b/x"));
	ck_assert(!bus__acl_may_read(acl, "#", "secret/a/b/x"));
	ck_assert(bus__acl_may_read(acl, "a/b", "a/x"));
	bus__acl_unref(acl);
}
END_TEST

START_TEST(long_name_in_a_pattern_stays_within_a_topic)
{
	char text[BUS_LIMIT_TOPIC_BYTES + 100], user[BUS__ACL_USER + 1], topic[1100];
	struct bus__acl *acl;
	size_t len;

	memset(user, 'u', sizeof user);
	user[BUS__ACL_USER] = '\0';
	len = (size_t)snprintf(text, sizeof text, "pattern read ");
	memset(text + len, 'x', 1000);
	strcpy(text + len + 1000, "/%u");
	acl = acl_of(text);
	ck_assert(!bus__acl_may_subscribe(acl, user, "#"));
	ck_assert(bus__acl_may_subscribe(acl, "pico", "#"));
	memset(topic, 'x', 1000);
	strcpy(topic + 1000, "/pico");
	ck_assert(bus__acl_may_read(acl, "pico", topic));
	bus__acl_unref(acl);
}
END_TEST

/* --- files ------------------------------------------------------------------------------------------------------------ */

static const struct {
	const char *text, *says;
} bad_lines[] = {
    {"usr pico", "acl: line 1: \"usr\": unknown word"},
    {"user pico\n\ntopics a", "line 3: \"topics\": unknown word"},
    {"# ok\nuser", "line 2: the name is missing"},
    {"user   \t", "the name is missing"},
    {"user 12345678901234567890123456789012345678901234567890123456789012345", "at most 64 bytes"},
    {"topic", "the filter is missing: write topic read"},
    {"pattern ", "the filter is missing: write pattern read"},
    {"topic read", "the filter is missing"},
    {"topic deny\t", "the filter is missing"},
    {"topic reads a", "\"reads\": unknown access"},
    {"topic Read a", "\"Read\": unknown access"},
    {"topic a b", "\"a\": unknown access"},
    {"topic read a/#/b", "line 1: a/#/b: malformed filter"},
    {"topic a+", "a+: malformed filter"},
    {"topic read bad\xff", "UTF-8"},
    {"topic read 1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28/29/30/31/32/33",
	"too long"},
    {"pattern read home/%c/#", "a link has none"},
    {"topic read home/%c", "a link has none"},
    {"pattern read home/x%u", "must be a whole level"},
    {"pattern read %u%u", "must be a whole level"},
    {"pattern read home/%ux/a", "must be a whole level"},
    {"topic read home/%u", "write pattern instead of topic"},
    {"topic read a\x01", "control character"},
    {"user \x7f", "control character"},
    {"allow_anonymous true", "\"allow_anonymous\": unknown word"},
    {"pico:$7$101$salt$hash", "unknown word"},
};

START_TEST(each_bad_line_is_refused_with_its_number_and_a_remedy)
{
	for (size_t i = 0; i < sizeof bad_lines / sizeof bad_lines[0]; i++)
		ck_refused(bad_lines[i].text, strlen(bad_lines[i].text), bad_lines[i].says);
	ck_refused("topic a\0b", 9, "a NUL byte");
}
END_TEST

START_TEST(file_has_a_limit_of_lines_and_of_bytes)
{
	const size_t line = strlen("topic a\n"), size = BUS__ACL_BYTES + 1;
	char *text = malloc(size);
	char error[BUS__ACL_ERROR];
	struct bus__acl *acl;

	for (size_t i = 0; i <= BUS__ACL_RULES; i++)
		memcpy(text + i * line, "topic a\n", line);
	ck_bus(bus__acl_parse("acl", text, BUS__ACL_RULES * line, &acl, error), 0);
	bus__acl_unref(acl);
	ck_refused(text, (BUS__ACL_RULES + 1) * line, "line 10001: more than 10000 lines");
	memset(text, '#', size);
	ck_bus(bus__acl_parse("acl", text, size - 1, &acl, error), 0);
	bus__acl_unref(acl);
	ck_refused(text, size, "larger than 1048576 bytes");
	free(text);
}
END_TEST

START_TEST(file_is_loaded_or_refused_with_a_reason)
{
	char path[300], error[BUS__ACL_ERROR] = "";
	struct bus__acl *acl = NULL;
	FILE *file;

	snprintf(path, sizeof path, "%s/acl", bus_test_dir());
	ck_bus(bus__acl_load(path, &acl, error), BUS_E_SYS);
	ck_assert_ptr_nonnull(strstr(error, "cannot be read: No such file"));
	ck_bus(bus__acl_load(bus_test_dir(), &acl, error), BUS_E_INVAL);
	ck_assert_ptr_nonnull(strstr(error, "not a regular file"));
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs("\xef\xbb\xbftopic read a/#\nuser pico\ntopic write b", file);
	fclose(file);
	ck_bus(bus__acl_load(path, &acl, error), 0);
	ck_assert(bus__acl_may_read(acl, NULL, "a"));
	ck_assert(bus__acl_may_write(bus__acl_ref(acl), "pico", "b"));
	bus__acl_unref(acl);
	ck_assert(bus__acl_may_write(acl, "pico", "b"));
	bus__acl_unref(acl);
	bus__acl_unref(NULL);
	ck_assert_int_eq(truncate(path, BUS__ACL_BYTES + 1), 0);
	ck_bus(bus__acl_load(path, &acl, error), BUS_E_INVAL);
	ck_assert_ptr_nonnull(strstr(error, "larger than"));
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_bus(bus__acl_load(path, &acl, error), BUS_E_INVAL);
}
END_TEST

static int
load_without_memory(const char *path, long after)
{
	char error[BUS__ACL_ERROR];
	struct bus__acl *acl;
	int err;

	bus__mem_fail_after(after);
	err = bus__acl_load(path, &acl, error);
	bus__mem_fail_after(-1);
	if (err == 0)
		bus__acl_unref(acl);
	return err;
}

START_TEST(any_allocation_may_fail)
{
	char path[300];
	FILE *file;
	unsigned failed = 0;

	snprintf(path, sizeof path, "%s/acl", bus_test_dir());
	file = fopen(path, "w");
	for (int i = 0; i < 40; i++)
		fprintf(file, "topic read a/%d\n", i);
	fclose(file);
	for (long n = 0; n < 10; n++) {
		int err = load_without_memory(path, n);

		ck_assert(err == 0 || err == BUS_E_NOMEM);
		failed += err != 0;
	}
	/* The file, the ACL, its lines three times; shrinking the first one may fail. */
	ck_assert_uint_eq(failed, 5);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("acl");
	TCase *tcase = tcase_create("acl");

	tcase_set_timeout(tcase, bus_test_limit());
	tcase_add_test(tcase, overlap_of_two_filters_matches_exactly_their_common_topics);
	tcase_add_test(tcase, overlap_excludes_dollar_topics_and_topics_that_are_too_long);
	tcase_add_test(tcase, each_line_allows_the_topics_that_its_filter_matches);
	tcase_add_test(tcase, filters_without_a_readable_topic_are_refused_and_others_are_not);
	tcase_add_test(tcase, denied_depths_may_cover_a_filter_only_together);
	tcase_add_test(
	    tcase, lines_belong_to_the_user_above_them_and_the_first_lines_to_peers_without_a_user);
	tcase_add_test(tcase, empty_file_allows_nothing_and_no_file_allows_all);
	tcase_add_test(tcase, no_line_allows_a_topic_of_the_bus_itself);
	tcase_add_test(tcase, pattern_is_for_each_user_with_the_name_in_it);
	tcase_add_test(tcase, name_with_a_wildcard_or_a_slash_widens_no_pattern);
	tcase_add_test(tcase, long_name_in_a_pattern_stays_within_a_topic);
	tcase_add_test(tcase, each_bad_line_is_refused_with_its_number_and_a_remedy);
	tcase_add_test(tcase, file_has_a_limit_of_lines_and_of_bytes);
	tcase_add_test(tcase, file_is_loaded_or_refused_with_a_reason);
	tcase_add_test(tcase, any_allocation_may_fail);
	suite_add_tcase(suite, tcase);
	return suite;
}
