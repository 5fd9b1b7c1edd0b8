/* Members of a log come, leave and die; files of others stay; damage crashes nobody. */
#define _GNU_SOURCE
#include "log_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log/log.h"

static bool
is_there(const char *suffix)
{
	char path[512];

	snprintf(path, sizeof path, "%s/test%s", test_dir(), suffix);
	return access(path, F_OK) == 0;
}

START_TEST(last_member_out_leaves_nothing)
{
	struct log *log = open_log(), *again = open_log();

	ck_assert_ptr_eq(log, again);
	bus__log_close(again);
	ck_assert(is_there(".bus") && is_there(".lock"));
	bus__log_close(log);
	ck_assert(!is_there(".bus") && !is_there(".lock") && !is_there(".bus-new"));
	/* A name begins anew. */
	log = open_log();
	ck_assert_uint_eq(append(log, 1, 8), 1);
	bus__log_close(log);
}
END_TEST

/* Runs in a child: joins, says so, and waits to be killed, or (leave) for the word to go. */
static pid_t
spawn_member(int pipes[2], bool leave)
{
	pid_t child;

	test_dir();
	ck_assert_int_eq(pipe(pipes), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct log *log = open_log();
		char byte = 'x';

		append(log, 7, 64);
		if (write(pipes[1], &byte, 1) != 1)
			_exit(1);
		while (!leave)
			pause();
		for (int i = 0; i < 50; i++)
			bus_test_nap();
		bus__log_close(log);
		_exit(0);
	}
	return child;
}

static void
await_member(int pipes[2])
{
	char byte;

	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
}

static void
put_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	fclose(file);
	ck_assert_int_eq(chmod(path, 0600), 0);
}

START_TEST(files_of_others_stay)
{
	static const char *const names[] = {"uv.lock", "uv.bus", "uv.bus-new", "a b.lock", "x.lock",
	    "test.log", "test.log.new", "x.lock-0123456789abcdef", "x.bus-new-0123456789abcdef"};
	const int count = sizeof names / sizeof names[0];
	char path[200];
	struct log *log;

	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%s", test_dir(), names[i]);
		put_file(path, i % 2 == 0 ? "" : "something");
	}
	log = open_log();
	bus__log_close(log);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%s", test_dir(), names[i]);
		ck_assert_msg(access(path, F_OK) == 0, "%s is gone", names[i]);
		unlink(path);
	}
}
END_TEST

/* As a cleaner of /dev/shm does it: then the name is another log's. */
START_TEST(member_whose_files_were_removed_removes_no_others)
{
	char log_path[200], lock_path[200];
	struct log *first = open_log();
	pid_t child;
	int status;

	snprintf(log_path, sizeof log_path, "%s/test.bus", test_dir());
	snprintf(lock_path, sizeof lock_path, "%s/test.lock", test_dir());
	ck_assert_int_eq(unlink(log_path) | unlink(lock_path), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct log *log;
		bool stays = bus__log_open(test_dir(), "test", LOG_BYTES_LEAST, &log) == 0 &&
			     raise(SIGSTOP) == 0;

		_exit(stays && access(log_path, F_OK) == 0 && access(lock_path, F_OK) == 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, NULL, WUNTRACED), child);
	bus__log_close(first);
	kill(child, SIGCONT);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(members_of_other_processes_keep_the_log)
{
	int pipes[2], status;
	pid_t child = spawn_member(pipes, true);
	struct log *log;
	struct log_cursor cursor;

	await_member(pipes);
	log = open_log();
	cursor = open_cursor(log, LOG_FROM_OLDEST, 0);
	expect(&cursor, 7);
	waitpid(child, &status, 0);
	ck_assert_int_eq(status, 0);
	ck_assert(is_there(".bus"));
	append(log, 8, 64);
	expect(&cursor, 8);
	bus__log_cursor_close(&cursor);
	bus__log_close(log);
	ck_assert(!is_there(".bus") && !is_there(".lock"));
}
END_TEST

START_TEST(generation_whose_members_have_all_died_makes_room_for_the_next)
{
	int pipes[2];
	pid_t child = spawn_member(pipes, false);
	struct log *log;
	uint64_t epoch;

	await_member(pipes);
	log = open_log();
	epoch = log->epoch;
	bus__log_close(log);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_assert(is_there(".bus"));
	log = open_log();
	ck_assert_uint_ne(log->epoch, epoch);
	ck_assert_uint_eq(append(log, 1, 8), 1);
	bus__log_close(log);
	ck_assert(!is_there(".bus"));
}
END_TEST

START_TEST(slots_of_the_dead_are_used_again)
{
	struct log *log = open_log();
	uint32_t slot = 0;

	for (int i = 0; i < 5; i++) {
		int pipes[2];
		pid_t child = spawn_member(pipes, false);

		await_member(pipes);
		for (slot = 1; slot < LOG_MEMBERS; slot++)
			if (log->shared->members[slot].pid == (uint32_t)child)
				break;
		ck_assert_uint_eq(slot, 1);
		ck_assert(bus__log_is_alive(log, slot));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		ck_assert(!bus__log_is_alive(log, slot));
		close(pipes[0]);
		close(pipes[1]);
	}
	bus__log_close(log);
}
END_TEST

START_TEST(role_has_one_holder_until_it_ends_it)
{
	struct log *log = open_log();
	uint64_t role, other;

	ck_bus(bus__log_role_take(log, "listen tcp://127.0.0.1:1", &role), 1);
	ck_bus(bus__log_role_take(log, "listen tcp://127.0.0.1:1", &other), 0);
	ck_bus(bus__log_role_take(log, "listen tcp://127.0.0.1:2", &other), 1);
	bus__log_role_end(log, role);
	ck_bus(bus__log_role_take(log, "listen tcp://127.0.0.1:1", &role), 1);
	bus__log_role_end(log, role);
	bus__log_role_end(log, other);
	bus__log_close(log);
}
END_TEST

START_TEST(role_of_a_dead_holder_moves_though_a_child_of_his_lives)
{
	int pipes[2], ends[2];
	uint64_t role;
	struct log *log = open_log();
	pid_t child;

	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(pipe(ends), 0);
	child = bus_test_fork();
	if (child == 0) {
		struct log *its = open_log();
		char byte = 'x';

		ck_bus(bus__log_role_take(its, "recorder", &role), 1);
		/* The grandchild keeps every descriptor of the holder until the test ends. It says itself that it is there:
		 * until its fork() has returned it holds the holder's locks as well. */
		if (fork() == 0) {
			close(ends[1]);
			if (write(pipes[1], &byte, 1) != 1)
				_exit(1);
			_exit(read(ends[0], &byte, 1) < 0);
		}
		for (;;)
			pause();
	}
	await_member(pipes);
	ck_bus(bus__log_role_take(log, "recorder", &role), 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_bus(bus__log_role_take(log, "recorder", &role), 1);
	bus__log_role_end(log, role);
	bus__log_close(log);
	close(ends[1]);
}
END_TEST

static void
damage(const char *suffix, off_t at, uint8_t byte)
{
	char path[512];
	int fd;

	snprintf(path, sizeof path, "%s/test%s", test_dir(), suffix);
	fd = open(path, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

START_TEST(file_that_is_not_one_of_ours_is_refused)
{
	int pipes[2];
	pid_t child = spawn_member(pipes, false);
	struct log *log;

	await_member(pipes);
	damage(".bus", offsetof(struct log_head, version), 99);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), BUS_E_VERSION);
	damage(".bus", offsetof(struct log_head, version), LOG_VERSION);
	damage(".bus", offsetof(struct log_head, segment_count), 200);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), BUS_E_DAMAGED);
	damage(".bus", 0, 'x');
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), LOG_FOREIGN_LOG);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), LOG_FOREIGN_LOG);
	damage(".bus", 0, 'l');
	log = open_log();
	bus__log_close(log);
}
END_TEST

START_TEST(name_and_place_are_checked)
{
	static const char *const names[] = {"", "A", "a/b", "a b", "..//",
	    "12345678901234567890123456789012345678901234567890123456789012345"};
	char path[512];
	struct log *log;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		ck_bus(bus__log_open(test_dir(), names[i], 0, &log), BUS_E_INVAL);
	ck_bus(bus__log_open(test_dir(), "test", LOG_BYTES_LEAST - 1, &log), BUS_E_INVAL);
	ck_bus(bus__log_open(test_dir(), "test", LOG_BYTES_MOST + 1, &log), BUS_E_INVAL);
	chmod(test_dir(), 0777);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), BUS_E_DENIED);
	chmod(test_dir(), 0700);
	/* No link to somewhere else, no file that others may read. */
	snprintf(path, sizeof path, "%s/test.lock", test_dir());
	ck_assert_int_eq(symlink("/dev/null", path), 0);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), LOG_FOREIGN_LOCK);
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	chmod(path, 0644);
	ck_bus(bus__log_open(test_dir(), "test", 0, &log), LOG_FOREIGN_LOCK);
	unlink(path);
	log = open_log();
	bus__log_close(log);
}
END_TEST

#ifndef __SANITIZE_THREAD__ /* which finds the races that damage makes */
/* --- damage ------------------------------------------------------------------------------------------------------ */

struct worker {
	struct log *log;
	_Atomic bool stop;
};

static uint64_t
draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A member that writes where it should not: much of it into the words by which the others find their way. */
static void
scribble(uint64_t seed)
{
	struct log *log = open_log();
	_Atomic uint64_t *words = (_Atomic uint64_t *)log->shared;
	uint64_t control = sizeof *log->shared / 8, all = log->map_bytes / 8;
	int64_t end = bus_test_now_ms() + 400;

	while (bus_test_now_ms() < end)
		for (int i = 0; i < 50; i++) {
			uint64_t word = draw(&seed),
				 at = draw(&seed) % (i % 4 == 0 ? all : control);

			if (at < sizeof log->shared->head / 8)
				continue; /* who joins would notice */

			/* Small numbers and what is near to what stands there are the more dangerous ones. */
			if (i % 3 == 0)
				word %= 100000;
			else if (i % 3 == 1)
				word = words[at] + word % 64 - 32;
			words[at] = word;
		}
	_exit(0);
}

static void *
read_whatever(void *arg)
{
	struct log *log = ((struct worker *)arg)->log;

	while (!((struct worker *)arg)->stop) {
		struct log_cursor cursor;
		const struct log_record *record;
		volatile uint8_t sum = 0;

		if (bus__log_cursor_open(log, (enum log_from)(sum % 3), 5, &cursor) < 0) {
			bus_test_nap();
			continue;
		}
		for (int i = 0; i < 10000 && (record = bus__log_next(&cursor)) != NULL; i++) {
			struct log_view view;
			const char *name;
			uint32_t len;

			if (!bus__log_read(cursor.word, record, &view))
				continue;
			for (uint32_t k = 0; k < view.len; k++)
				sum = (uint8_t)(sum + view.data[k]);
			for (uint32_t k = 0; k < view.headers_len; k++)
				sum = (uint8_t)(sum + view.headers[k]);
			name = bus__log_name(&cursor, record, &len);
			for (uint32_t k = 0; name != NULL && k < len; k++)
				sum = (uint8_t)(sum + (uint8_t)name[k]);
		}
		bus__log_cursor_close(&cursor);
	}
	return NULL;
}

static void *
append_whatever(void *arg)
{
	struct log *log = ((struct worker *)arg)->log;
	char name[20];

	for (unsigned i = 0; !((struct worker *)arg)->stop; i++) {
		struct log_item item = {.flags = i % 4 == 0 ? LOG_RETAIN : 0};
		uint64_t sequence;

		snprintf(name, sizeof name, "%u", i % 1000);
		item.topic = log_test_topic(log, name);
		bus__log_append(
		    log, &item, &(struct bus_slice){"0123456789", i % 11}, 1, &sequence);
	}
	return NULL;
}

/* Whoever maps a log can destroy it, and nobody's program with it: others get errors, or nonsense, and go on. */
START_TEST(tail_that_names_no_segment_is_damage)
{
	for (uint64_t position = 0; position < 3 * 8; position += 8) {
		struct log *log = open_log();
		uint64_t sequence;

		log->shared->tail = tail_word(position, 0);
		ck_bus(bus__log_append(log, &(struct log_item){.topic = topic_t(log)},
			   &(struct bus_slice){"x", 1}, 1, &sequence),
		    BUS_E_DAMAGED);
		bus__log_close(log);
	}
}
END_TEST

START_TEST(damage_crashes_nobody_and_nobody_hangs)
{
	struct worker worker = {.log = open_log()};
	pid_t child = bus_test_fork();
	pthread_t reader, writer;
	int status;

	if (child == 0)
		scribble((uint64_t)_i + 1);
	pthread_create(&reader, NULL, read_whatever, &worker);
	pthread_create(&writer, NULL, append_whatever, &worker);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	worker.stop = true;
	pthread_join(reader, NULL);
	pthread_join(writer, NULL);
	bus__log_close(worker.log);
}
END_TEST
#endif

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("log members");

	BUS_TEST_CASE(suite, "members", last_member_out_leaves_nothing, files_of_others_stay,
	    member_whose_files_were_removed_removes_no_others,
	    members_of_other_processes_keep_the_log,
	    generation_whose_members_have_all_died_makes_room_for_the_next,
	    slots_of_the_dead_are_used_again, role_has_one_holder_until_it_ends_it,
	    role_of_a_dead_holder_moves_though_a_child_of_his_lives,
	    file_that_is_not_one_of_ours_is_refused, name_and_place_are_checked);
#ifndef __SANITIZE_THREAD__
	TCase *damage = bus_test_case("damage");

	tcase_add_test(damage, tail_that_names_no_segment_is_damage);
	tcase_add_loop_test(damage, damage_crashes_nobody_and_nobody_hangs, 0, 4);
	suite_add_tcase(suite, damage);
#endif
	return suite;
}
