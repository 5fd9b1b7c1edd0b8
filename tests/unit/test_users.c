#define _GNU_SOURCE
/* The users file: its lines, its permissions, and how it is changed. */
#include "access_test.h"

#include <errno.h>
#include <sys/wait.h>

#include "access/users_file.h"

/* mosquitto_passwd of Mosquitto 2.0.11 wrote this for the password "päss word". */
#define SALT "$di629FYXE12bK/9K"
#define HASH                                                                                       \
	"$YCAEz2RyeBokW49AA/cCEMRM1UuTJ6a4MG14QsdyWX3KWToHxauQU8A9mShmDockhVUwuqskA5Ehz4pOQAodrg=="

static struct bus__users *
load(const char *text)
{
	struct bus__users *users;

	ck_bus(bus__users_load(write_users(text), &users), 0);
	return users;
}

/* The file is refused, and the sentence has these words and none of the secrets. */
static void
check_refused(const char *text, int want, const char *words)
{
	struct bus__users *users;

	ck_bus(bus__users_load(write_users(text), &users), want);
	ck_assert_msg(strstr(bus_error_text(), words) != NULL, "\"%s\" does not say \"%s\"",
	    bus_error_text(), words);
	ck_assert_msg(strstr(bus_error_text(), "hunter2") == NULL, "it shows a password: %s",
	    bus_error_text());
}

static const struct bus__user *
user_named(const struct bus__users *users, const char *name)
{
	return bus__users_find(users, name, strlen(name));
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

START_TEST(lines_of_both_kinds_are_read_in_any_order_with_comments_between)
{
	char text[4096];
	struct bus__users *users;

	snprintf(text, sizeof text,
	    "# who may connect\n\n%s \t\r\npico:$7$101" SALT HASH "\n  \n%s",
	    line_of("zero", "a", false), "");
	strcat(text, line_of("alpha", "b", true));
	text[strlen(text) - 1] = '\0'; /* the last line lacks its end */
	users = load(text);
	ck_assert_uint_eq(bus__users_count(users), 3);
	ck_assert_str_eq(bus__users_at(users, 0)->name, "alpha");
	ck_assert_str_eq(bus__users_at(users, 2)->name, "zero");
	ck_assert(user_named(users, "alpha")->clear_text);
	ck_assert(!user_named(users, "zero")->clear_text);
	ck_assert_uint_eq(user_named(users, "zero")->salting.iterations, TEST_ITERATIONS);
	ck_assert_uint_eq(user_named(users, "pico")->salting.iterations, 101);
	bus__users_drop(users);
}
END_TEST

START_TEST(a_line_of_mosquitto_has_the_keys_of_its_password)
{
	struct bus__users *users = load("pico:$7$101" SALT HASH ":clear-text\n");
	const struct bus__user *user = user_named(users, "pico");
	struct bus__scram_keys keys;
	uint8_t stored_key[BUS__SHA512];

	ck_assert_ptr_nonnull(user);
	ck_assert(user->clear_text);
	keys_of("päss word", &user->salting, &keys);
	ck_bus(bus__scram_stored_key(&keys, stored_key), 0);
	ck_assert_mem_eq(user->stored_key, stored_key, sizeof stored_key);
	ck_assert_mem_eq(user->server_key, keys.server, sizeof keys.server);
	bus__users_drop(users);
}
END_TEST

START_TEST(a_line_that_is_written_is_read_back)
{
	struct bus__users *users = load(line_of("Zoë, =x", "pencil", true));
	char line[BUS__USER_LINE];
	const struct bus__user *user = user_named(users, "Zoë, =x");

	ck_assert_ptr_nonnull(user);
	line[bus__user_line_write(user, line)] = '\0';
	ck_assert_str_eq(line, line_of("Zoë, =x", "pencil", true));
	bus__users_drop(users);
}
END_TEST

START_TEST(a_name_is_found_whole)
{
	char text[4096] = "";
	struct bus__users *users;

	for (const char *const *name = (const char *const[]){"a", "ab", "abc", "b", "ba", NULL};
	     *name != NULL; name++)
		strcat(text, line_of(*name, "pencil", false));
	users = load(text);
	ck_assert_str_eq(bus__users_find(users, "abc", 1)->name, "a");
	ck_assert_str_eq(bus__users_find(users, "abc", 2)->name, "ab");
	ck_assert_str_eq(bus__users_find(users, "ba", 2)->name, "ba");
	ck_assert_ptr_null(bus__users_find(users, "abcd", 4));
	ck_assert_ptr_null(bus__users_find(users, "", 0));
	ck_assert_ptr_null(bus__users_find(users, "aa", 2));
	ck_assert_ptr_null(bus__users_find(users, "a\0\0", 3));
	ck_assert_ptr_null(bus__users_find(
	    users, "0123456789012345678901234567890123456789012345678901234567890123456789", 70));
	bus__users_drop(users);
}
END_TEST

START_TEST(bad_lines_are_refused_by_number_and_without_the_secret)
{
	static const struct {
		const char *line, *words;
	} cases[] = {
	    {"hunter2", ":2: it does not begin with a name and a colon"},
	    {":hunter2", "does not begin with a name"},
	    {"pico/x:hunter2", "does not begin with a name"},
	    {"$pico:hunter2", "does not begin with a name"},
	    {" pico:hunter2", "does not begin with a name"},
	    {"pi\x01"
	     "co:hunter2",
		"does not begin with a name"},
	    {"pi\xff"
	     "co:hunter2",
		"does not begin with a name"},
	    {"pico:hunter2", ":2: \"pico\": neither $scram-sha-512$ nor $7$ follows the name"},
	    {"pico:", "follows the name"},
	    {"pico:$", "follows the name"},
	    {"pico:$1$hunter2", "follows the name"},
	    {"pico:x$7$101" SALT HASH, "follows the name"},
	    {"pico:$6$hunter2$hunter2",
		"its $6$ hash is not supported; replace this line: libbus user add pico"},
	    {"pico:$argon2id$v=19$m=47104,t=1,p=1$hunter2$hunter2", "libbus user add pico"},
	    {"pico:$7$101" SALT, "too few fields"},
	    {"pico:$7$101" SALT HASH "$", "or too many"},
	    {"pico:$7$101" SALT HASH "$x", "or too many"},
	    {"pico:$7$0" SALT HASH, "its iterations are not a number"},
	    {"pico:$7$" SALT HASH, "its iterations are not a number"},
	    {"pico:$7$1e3" SALT HASH, "its iterations are not a number"},
	    {"pico:$7$1000001" SALT HASH, "its iterations are not a number"},
	    {"pico:$7$101$" HASH, "its salt is not base64"},
	    {"pico:$7$101$hunter2" HASH, "its salt is not base64"},
	    {"pico:$7$101" SALT "$aHVudGVyMg==", "its hash is not base64 of 64 bytes"},
	    {"pico:$7$101" SALT HASH ":", "a flag is unknown"},
	    {"pico:$7$101" SALT HASH ":clear-text,", "a flag is unknown"},
	    {"pico:$7$101" SALT HASH ":cleartext", "clear-text is the only one"},
	    {"pico:$scram-sha-512$4095" SALT HASH HASH, "fewer than 4096 iterations"},
	    {"pico:$scram-sha-512$4096" SALT HASH, "too few fields"},
	    {"pico:$scram-sha-512$4096" SALT HASH "$aHVudGVyMg==", "its keys are not base64"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[1024];

		snprintf(text, sizeof text, "# first\n%s\n", cases[i].line);
		check_refused(text, BUS_E_INVAL, cases[i].words);
	}
}
END_TEST

START_TEST(no_prefix_and_no_bit_flip_of_a_line_breaks_the_reader)
{
	char line[BUS__USER_LINE];
	size_t len;
	struct bus__user user;
	const char *complaint;

	strcpy(line, line_of("pico", "pencil", true));
	len = strlen(line) - 1;
	for (size_t cut = 0; cut < len; cut++) {
		char *block = malloc(cut + 1);
		int err;

		memcpy(block, line, cut);
		block = realloc(block, cut > 0 ? cut : 1);
		err = bus__user_line_read(block, cut, &user, &complaint);
		/* Complete except for the flag. */
		must(err == BUS_E_INVAL || cut == len - strlen(":clear-text"));
		free(block);
	}
	for (size_t bit = 0; bit < 8 * len; bit++) {
		line[bit / 8] ^= (char)(1 << bit % 8);
		(void)bus__user_line_read(line, len, &user, &complaint);
		line[bit / 8] ^= (char)(1 << bit % 8);
	}
}
END_TEST

START_TEST(a_name_twice_is_refused_with_both_lines)
{
	char text[4096] = "# first\n";

	strcat(text, line_of("pico", "pencil", false));
	strcat(text, line_of("zero", "pencil", false));
	strcat(text, line_of("pico", "hunter2", false));
	check_refused(text, BUS_E_INVAL, ":4: \"pico\" is in line 2 already");
}
END_TEST

START_TEST(long_lines_and_too_many_users_are_refused)
{
	char *text = malloc((BUS__USERS_MOST + 1) * sizeof "x:\n"), *at = text;

	memset(text, 'a', BUS__USER_LINE + 1);
	text[BUS__USER_LINE + 1] = '\0';
	check_refused(text, BUS_E_INVAL, ":1: it is longer than 1024 bytes");
	for (int i = 0; i <= BUS__USERS_MOST; i++)
		at = stpcpy(at, "x:\n");
	check_refused(text, BUS_E_LIMIT, "more than 10000 users");
	free(text);
}
END_TEST

/* --- permissions -------------------------------------------------------------------------------------------------------- */

START_TEST(a_file_that_other_users_can_read_is_refused_with_the_command_that_mends_it)
{
	static const mode_t modes[] = {0640, 0604, 0660, 0602, 0601, 0777};
	struct bus__users *users;

	write_users("");
	for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
		ck_assert_int_eq(chmod(users_path(), modes[i]), 0);
		ck_bus(bus__users_load(users_path(), &users), BUS_E_DENIED);
		ck_assert_msg(
		    strstr(bus_error_text(), "chmod 600") != NULL, "%s", bus_error_text());
	}
	ck_assert_int_eq(chmod(users_path(), 0400), 0);
	ck_bus(bus__users_load(users_path(), &users), 0);
	bus__users_drop(users);
}
END_TEST

START_TEST(anything_but_a_regular_file_is_refused_at_once)
{
	char fifo[512];
	struct bus__users *users;

	ck_bus(bus__users_load(users_path(), &users), BUS_E_SYS);
	ck_assert_int_eq(errno, ENOENT);
	ck_bus(bus__users_load(bus_test_dir(), &users), BUS_E_INVAL);
	snprintf(fifo, sizeof fifo, "%s/fifo", bus_test_dir());
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	ck_bus(bus__users_load(fifo, &users), BUS_E_INVAL);
}
END_TEST

START_TEST(users_live_until_the_last_reference_ends)
{
	struct bus__users *first = load(line_of("pico", "a", false)), *second, *held;
	const struct bus__user *user;

	held = bus__users_take(first);
	user = user_named(held, "pico");
	second = load(line_of("zero", "b", false));
	bus__users_drop(first);
	ck_assert_str_eq(user->name, "pico");
	ck_assert_ptr_null(user_named(second, "pico"));
	bus__users_drop(held);
	bus__users_drop(second);
	bus__users_drop(NULL);
	ck_assert_ptr_null(bus__users_take(NULL));
}
END_TEST

/* --- changing it -------------------------------------------------------------------------------------------------------- */

static const char *
text_of_file(void)
{
	static char text[8192];
	int fd = open(users_path(), O_RDONLY);
	ssize_t len = read(fd, text, sizeof text - 1);

	ck_assert_int_ge(len, 0);
	text[len] = '\0';
	close(fd);
	return text;
}

static int
edit(const char *name, const char *line)
{
	return bus__users_edit(users_path(), name, line, line != NULL ? strlen(line) : 0);
}

START_TEST(lines_are_added_changed_and_taken_away_and_others_stay_as_they_are)
{
	struct stat st;

	ck_bus(edit("a", "a:1\n"), 0);
	ck_assert_int_eq(stat(users_path(), &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	write_users("# mine\n\nold:$argon2id$x\r\na:1\nnot a line\nb:2");
	ck_bus(edit("c", "c:3\n"), 0);
	ck_bus(edit("a", "a:4\n"), 1);
	ck_assert_str_eq(
	    text_of_file(), "# mine\n\nold:$argon2id$x\r\na:4\nnot a line\nb:2\nc:3\n");
	ck_bus(edit("old", "old:5\n"), 1);
	ck_bus(edit("b", NULL), 1);
	ck_bus(edit("not a line", NULL), 0);
	ck_bus(edit("# mine", NULL), 0);
	ck_assert_str_eq(text_of_file(), "# mine\n\nold:5\na:4\nnot a line\nc:3\n");
}
END_TEST

START_TEST(a_change_leaves_nothing_beside_the_file)
{
	char draft[512];

	snprintf(draft, sizeof draft, "%s.new", users_path());
	ck_bus(edit("a", NULL), 0);
	ck_assert_int_lt(access(users_path(), F_OK), 0);
	ck_assert_int_lt(access(draft, F_OK), 0);
	ck_bus(edit("a", "a:1\n"), 0);
	ck_assert_int_lt(access(draft, F_OK), 0);
	/* The remains of a killed writer do not block the next one. */
	close(open(draft, O_WRONLY | O_CREAT, 0644));
	ck_bus(edit("b", "b:2\n"), 0);
	ck_assert_int_lt(access(draft, F_OK), 0);
	ck_assert_str_eq(text_of_file(), "a:1\nb:2\n");
}
END_TEST

START_TEST(a_file_that_may_not_be_read_is_not_changed_either)
{
	write_users("a:1\n");
	ck_assert_int_eq(chmod(users_path(), 0644), 0);
	ck_bus(edit("b", "b:2\n"), BUS_E_DENIED);
	ck_assert_str_eq(text_of_file(), "a:1\n");
}
END_TEST

START_TEST(a_symbolic_link_is_not_replaced)
{
	char real[512];

	snprintf(real, sizeof real, "%s/real", bus_test_dir());
	write_users("a:1\n");
	ck_assert_int_eq(rename(users_path(), real), 0);
	ck_assert_int_eq(symlink(real, users_path()), 0);
	ck_bus(edit("b", "b:2\n"), BUS_E_INVAL);
	ck_assert_str_eq(text_of_file(), "a:1\n");
}
END_TEST

/* Each adds its own users while the others do. */
START_TEST(writers_at_once_lose_no_line)
{
	enum { WRITERS = 4, EACH = 25 };
	pid_t pids[WRITERS];
	struct bus__users_text text;
	char path[512];

	strcpy(path, users_path()); /* a child has its own directory */
	for (int w = 0; w < WRITERS; w++) {
		pids[w] = bus_test_fork();
		if (pids[w] > 0)
			continue;
		for (int i = 0; i < EACH; i++) {
			char name[16], line[32];

			snprintf(name, sizeof name, "w%d-%d", w, i);
			snprintf(line, sizeof line, "%s:x\n", name);
			if (bus__users_edit(path, name, line, strlen(line)) != 0)
				_exit(1);
		}
		_exit(0);
	}
	for (int w = 0; w < WRITERS; w++) {
		int status;

		ck_assert_int_eq(waitpid(pids[w], &status, 0), pids[w]);
		ck_assert_int_eq(status, 0);
	}
	ck_bus(bus__users_text_read(users_path(), &text), 0);
	ck_assert_uint_eq(text.users, WRITERS * EACH);
	bus__users_text_free(&text);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("users");

	BUS_TEST_CASE(suite, "reading",
	    lines_of_both_kinds_are_read_in_any_order_with_comments_between,
	    a_line_of_mosquitto_has_the_keys_of_its_password, a_line_that_is_written_is_read_back,
	    a_name_is_found_whole, bad_lines_are_refused_by_number_and_without_the_secret,
	    no_prefix_and_no_bit_flip_of_a_line_breaks_the_reader,
	    a_name_twice_is_refused_with_both_lines, long_lines_and_too_many_users_are_refused);
	BUS_TEST_CASE(suite, "file",
	    a_file_that_other_users_can_read_is_refused_with_the_command_that_mends_it,
	    anything_but_a_regular_file_is_refused_at_once,
	    users_live_until_the_last_reference_ends);
	BUS_TEST_CASE(suite, "changing",
	    lines_are_added_changed_and_taken_away_and_others_stay_as_they_are,
	    a_change_leaves_nothing_beside_the_file,
	    a_file_that_may_not_be_read_is_not_changed_either, a_symbolic_link_is_not_replaced,
	    writers_at_once_lose_no_line);
	return suite;
}
