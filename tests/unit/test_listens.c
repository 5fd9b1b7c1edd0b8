/* The filters of a process of a named bus, as other processes read them. */
#define _GNU_SOURCE
#include "world.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "bus/bus_internal.h"
#include "log/listens.h"
#include "look.h"

static const char *
file_of(const char *dir, unsigned slot)
{
	static char path[300];

	snprintf(path, sizeof path, "%s/home.listens-%u", dir, slot);
	return path;
}

/* The text, one at a time. */
static const char *
explain(struct bus *bus, const char *topic)
{
	static char text[1 << 18];

	ck_assert_int_gt(bus_explain(bus, topic, text, sizeof text), 0);
	return text;
}

static bool
says(struct bus *bus, const char *topic, const char *words)
{
	return strstr(explain(bus, topic), words) != NULL;
}

#define ck_says(bus, topic, words)                                                                 \
	ck_assert_msg(says(bus, topic, words), "no \"%s\" in\n%s", words, explain(bus, topic))

/* --- another process ----------------------------------------------------------------------------------------- */

struct child {
	pid_t pid;
	int talk[2]; /* to it: each byte asks for one step */
	int said[2]; /* from it: the step is done */
};

typedef void (*step_fn)(struct bus *bus, struct bus_mailbox *m, int step);

/* A process on the bus that takes a step for each byte, the first at once, and reads its mailbox in between. */
static struct child
begin(const char *dir, step_fn fn)
{
	struct child c;

	ck_assert_int_eq(pipe(c.talk) | pipe(c.said), 0);
	c.pid = bus_test_fork();
	ck_assert_int_ge(c.pid, 0);
	if (c.pid == 0) {
		struct bus *bus = join_as(dir, "home");
		struct bus_mailbox *m;
		const struct bus_msg *msg;
		char byte = 'x';

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(c.talk[1]);
		close(c.said[0]);
		fcntl(c.talk[0], F_SETFL, O_NONBLOCK);
		ck_bus(bus_mailbox_open(bus, NULL, &m), 0);
		for (int step = 0;; step++) {
			ssize_t got;

			fn(bus, m, step);
			if (write(c.said[1], &byte, 1) != 1)
				_exit(1);
			while ((got = read(c.talk[0], &byte, 1)) < 0)
				bus_recv(m, 10, &msg);
			if (got == 0)
				break;
		}
		bus_mailbox_close(m);
		bus_close(bus, 0);
		_exit(0);
	}
	close(c.talk[0]);
	close(c.said[1]);
	return c;
}

static void
await_step(const struct child *c)
{
	char byte;

	ck_assert_int_eq(read(c->said[0], &byte, 1), 1);
}

static void
step(const struct child *c)
{
	ck_assert_int_eq(write(c->talk[1], "x", 1), 1);
	await_step(c);
}

static void
await_stop(const struct child *c)
{
	int status;

	ck_assert_int_eq(waitpid(c->pid, &status, WUNTRACED), c->pid);
	ck_assert(WIFSTOPPED(status));
}

static void
stop(const struct child *c)
{
	ck_assert_int_eq(kill(c->pid, SIGSTOP), 0);
	await_stop(c);
}

static void
end(const struct child *c, int sig)
{
	if (sig != 0)
		kill(c->pid, sig);
	close(c->talk[1]);
	ck_assert_int_eq(waitpid(c->pid, NULL, 0), c->pid);
	close(c->said[0]);
}

static void
subscribe(struct bus_mailbox *m, const char *filter)
{
	ck_bus(bus_mailbox_subscribe(m, filter, NULL, NULL, NULL), 0);
}

static void
listen_to_rooms(struct bus *bus, struct bus_mailbox *m, int step)
{
	(void)bus;
	if (step == 0)
		subscribe(m, "room/#");
}

/* --- receivers -------------------------------------------------------------------------------------------------- */

START_TEST(stopped_process_that_gets_a_topic_is_named_with_its_filter)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_to_rooms);
	struct bus *bus = join_as(dir, "home");
	char words[100];

	await_step(&c);
	ck_eventually(says(bus, "room/kitchen", " 0 behind, 0 lost, drop_oldest\n"));
	stop(&c);
	snprintf(words, sizeof words, "pid %-7d ", c.pid);
	ck_says(bus, "room/kitchen", words);
	ck_says(bus, "room/kitchen", " gets it by room/# ");
	ck_says(bus, "room/kitchen", "other processes that listen: 1; that get it: 1\n");
	ck_assert(!says(bus, "hall", " gets it by "));
	ck_says(bus, "hall", "next: subscribe, in a shell: libbus sub home 'hall'\n");
	for (int i = 0; i < 10; i++)
		ck_bus(bus_publish(bus, "room/kitchen", "x", 1), 0);
	ck_eventually(says(bus, "room/kitchen", " gets it by room/# 10 behind"));
	kill(c.pid, SIGCONT);
	ck_eventually(says(bus, "room/kitchen", " gets it by room/# 0 behind"));
	end(&c, 0);
	ck_says(bus, "room/kitchen", "other processes that listen: 0; that get it: 0\n");
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(process_that_does_not_go_on_is_named_with_the_next_step)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_to_rooms);
	struct bus *bus = join_as(dir, "home");
	char words[100], text[4096];

	await_step(&c);
	ck_eventually(says(bus, "room/kitchen", " 0 behind"));
	stop(&c);
	ck_bus(bus_publish(bus, "room/kitchen", "x", 1), 0);
	snprintf(words, sizeof words, "stopped (kill -CONT %d)", c.pid);
	ck_eventually(says(bus, "room/kitchen", words));
	ck_assert(strstr(explain(bus, "room/kitchen"), " 1 behind for ") != NULL);
	ck_assert_int_gt(bus_describe(bus, text, sizeof text), 0);
	snprintf(words, sizeof words, "pid %d, 1 filters, 1 behind for ", c.pid);
	ck_assert_msg(strstr(text, words) != NULL, "%s", text);
	end(&c, SIGKILL);
	bus_close(bus, 0);
}
END_TEST

/* Stops between two reads: a process stopped inside a read may hold the segment, which then stays and is counted from there. */
static void
listen_and_stop(struct bus *bus, struct bus_mailbox *m, int step)
{
	listen_to_rooms(bus, m, step);
	if (step == 1)
		raise(SIGSTOP);
}

START_TEST(reader_that_the_log_has_overtaken_is_at_least_so_far_behind)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_and_stop);
	struct bus *bus = join_as(dir, "home");
	static char big[100000];

	await_step(&c);
	ck_eventually(says(bus, "room/kitchen", " 0 behind"));
	ck_assert_int_eq(write(c.talk[1], "x", 1), 1);
	await_stop(&c);
	for (int i = 0; i < 100; i++)
		ck_bus(bus_publish(bus, "room/kitchen", big, sizeof big), 0);
	ck_says(bus, "room/kitchen", " gets it by room/# at least ");
	kill(c.pid, SIGCONT);
	await_step(&c);
	ck_eventually(says(bus, "room/kitchen", " gets it by room/# 0 behind"));
	ck_assert(strstr(explain(bus, "room/kitchen"), " 0 lost") == NULL);
	end(&c, 0);
	bus_close(bus, 0);
}
END_TEST

static void
listen_nearly(struct bus *bus, struct bus_mailbox *m, int step)
{
	static const char *const filters[] = {"/room/kitchen", "room/kitchen/", "Room/kitchen",
	    "room/kichen", "room/kitchen/temp", "home/room/+", "kitchen", "room", "hall/kitchen",
	    "something/else"};

	(void)bus;
	for (size_t i = 0; step == 0 && i < sizeof filters / sizeof filters[0]; i++)
		subscribe(m, filters[i]);
}

START_TEST(filters_that_nearly_match_are_named_with_the_reason)
{
	static const char *const reasons[] = {
	    "by /room/kitchen: it begins with a slash, the topic does not\n",
	    "by room/kitchen/: it ends with a slash, the topic does not\n",
	    "by Room/kitchen: upper and lower case differ\n",
	    "by room/kichen: one level is spelled otherwise\n",
	    "by room/kitchen/temp: it has a level that the topic lacks\n",
	    "by home/room/+: it has a level that the topic lacks\n",
	    "by kitchen: it lacks a level of the topic\n",
	    "by room: it is too short and does not end in /#\n",
	    "by hall/kitchen: one level differs\n",
	    "other processes that listen: 1; that get it: 0\n",
	    "not delivered: no filter matches room/kitchen\n",
	    "next: change one of these filters to room/kitchen, or publish on what it matches\n",
	};
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_nearly);
	struct bus *bus = join_as(dir, "home");

	await_step(&c);
	stop(&c);
	for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
		ck_says(bus, "room/kitchen", reasons[i]);
	ck_assert(!says(bus, "room/kitchen", "something"));
	end(&c, SIGKILL);
	bus_close(bus, 0);
}
END_TEST

/* More filters than are listed; then fewer, in another mailbox. */
static void
listen_to_many(struct bus *bus, struct bus_mailbox *m, int step)
{
	static struct bus_mailbox *other;
	char filter[32];

	if (step == 0) {
		ck_bus(bus_mailbox_open(bus, NULL, &other), 0);
		for (int i = 0; i < LISTENS_FILTERS - 1; i++) {
			snprintf(filter, sizeof filter, "other/%d", i);
			subscribe(other, filter);
		}
		subscribe(m, "listed");
		subscribe(m, "beyond/a");
		subscribe(m, "beyond/b");
	} else {
		bus_mailbox_close(other);
	}
}

START_TEST(filters_beyond_those_that_are_listed_are_counted_until_there_is_room)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_to_many);
	struct bus *bus = join_as(dir, "home");

	await_step(&c);
	ck_says(bus, "listed", " gets it by listed ");
	ck_says(bus, "beyond/a", " has 2 filters more than are listed: one of them may match\n");
	ck_assert(!says(bus, "beyond/a", " gets it by "));
	step(&c);
	ck_eventually(says(bus, "beyond/a", " gets it by beyond/a "));
	ck_eventually(says(bus, "beyond/b", " gets it by beyond/b "));
	ck_assert(!says(bus, "beyond/a", "more than are listed"));
	ck_assert(!says(bus, "other/1", " gets it by "));
	end(&c, 0);
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

static void
listen_at_length(struct bus *bus, struct bus_mailbox *m, int step)
{
	char filter[BUS_LIMIT_TOPIC_BYTES + 1];

	(void)bus;
	for (int i = 0; step == 0 && i < LISTENS_FILTERS; i++) {
		memset(filter, 'x', sizeof filter - 1);
		filter[sizeof filter - 1] = '\0';
		memcpy(filter, "long/", 5);
		filter[BUS_LIMIT_TOPIC_BYTES - 1] = (char)('0' + i % 10);
		subscribe(m, filter);
	}
}

START_TEST(longest_filters_are_whole_and_bound_the_file)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_at_length);
	struct bus *bus;
	char topic[BUS_LIMIT_TOPIC_BYTES + 1];
	struct stat st;

	await_step(&c);
	bus = join_as(dir, "home");
	memset(topic, 'x', sizeof topic - 1);
	topic[sizeof topic - 1] = '\0';
	memcpy(topic, "long/", 5);
	topic[BUS_LIMIT_TOPIC_BYTES - 1] = '3';
	ck_says(bus, topic, ", 26 subscriptions\n");
	ck_assert_int_eq(stat(file_of(dir, 0), &st), 0);
	ck_assert_int_le(st.st_size, 292 << 10);
	end(&c, 0);
	bus_close(bus, 0);
}
END_TEST

START_TEST(other_bus_of_this_process_is_informed_too)
{
	const char *dir = bus_test_dir();
	struct bus *one = join_as(dir, "home"), *two = join_as(dir, "home");
	struct bus_mailbox *m;
	char words[100];

	ck_bus(bus_mailbox_open(two, NULL, &m), 0);
	subscribe(m, "a/#");
	snprintf(words, sizeof words, "pid %-7d ", getpid());
	ck_says(one, "a/b", words);
	ck_assert(!says(two, "a/b", words));
	ck_says(two, "a/b", "mailbox 1 gets it by a/#\n");
	bus_mailbox_close(m);
	ck_assert(!says(one, "a/b", words));
	bus_close(one, 0);
	bus_close(two, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

/* --- failures ---------------------------------------------------------------------------------------------------- */

START_TEST(file_of_a_killed_process_is_removed)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_to_rooms);
	struct bus *bus;
	struct bus_mailbox *m;
	const struct bus_msg *msg;

	await_step(&c);
	bus = join_as(dir, "home");
	ck_assert_int_eq(access(file_of(dir, 0), F_OK), 0);
	end(&c, SIGKILL);
	ck_assert(!says(bus, "room/kitchen", " gets it by "));
	ck_bus(bus_mailbox_open(bus, NULL, &m), 0);
	subscribe(m, "x");
	/* A resting member removes it. */
	do
		bus_recv(m, 10, &msg);
	while (access(file_of(dir, 0), F_OK) == 0);
	bus_mailbox_close(m);
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

/* _i: another member leaves last, or none is left and a process opens the bus. */
START_TEST(files_of_killed_processes_go_with_the_bus)
{
	const char *dir = bus_test_dir();
	struct child all[3];
	struct bus *bus = _i == 0 ? join_as(dir, "home") : NULL;

	for (int i = 0; i < 3; i++) {
		all[i] = begin(dir, listen_to_rooms);
		await_step(&all[i]);
	}
	for (int i = 0; i < 3; i++)
		end(&all[i], SIGKILL);
	if (bus == NULL)
		bus = join_as(dir, "home");
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

static void
listen_to_another_each_step(struct bus *bus, struct bus_mailbox *m, int step)
{
	char filter[32];

	(void)bus;
	snprintf(filter, sizeof filter, "room/%d", step);
	subscribe(m, filter);
}

START_TEST(file_that_was_removed_is_made_again)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_to_another_each_step);
	struct bus *bus;

	await_step(&c);
	bus = join_as(dir, "home");
	stop(&c); /* it checks its file each second */
	ck_assert_int_eq(unlink(file_of(dir, 0)), 0);
	ck_says(bus, "room/0", "cannot be read: its file is missing");
	kill(c.pid, SIGCONT);
	step(&c);
	ck_says(bus, "room/0", " gets it by room/0 ");
	ck_says(bus, "room/1", " gets it by room/1 ");
	end(&c, 0);
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

/* _i: a text, a link, a file that other users can read. */
START_TEST(file_of_another_in_its_place_stays_as_it_is)
{
	const char *dir = bus_test_dir(), *path = file_of(dir, 0);
	struct stat before, after;
	struct child c;
	struct bus *bus;

	if (_i == 1) {
		ck_assert_int_eq(symlink("nowhere", path), 0);
	} else {
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

		ck_assert_int_eq(write(fd, _i == 0 ? "my notes" : "libbusls", 8), 8);
		ck_assert_int_eq(fchmod(fd, _i == 0 ? 0600 : 0644), 0);
		close(fd);
	}
	ck_assert_int_eq(lstat(path, &before), 0);
	c = begin(dir, listen_to_rooms);
	await_step(&c);
	bus = join_as(dir, "home");
	ck_says(bus, "room/kitchen", "cannot be read: in the place of its file is another");
	end(&c, 0);
	bus_close(bus, 0);
	ck_assert_int_eq(lstat(path, &after), 0);
	ck_assert_uint_eq(after.st_ino, before.st_ino);
	ck_assert_int_eq(after.st_size, before.st_size);
	ck_assert_int_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	ck_assert_int_eq(unlink(path), 0);
}
END_TEST

/* No ck_... under the limit: Check writes into a file. */
static void
limit_files(rlim_t bytes)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
		_exit(1);
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
		_exit(1);
}

static void
listen_without_room(struct bus *bus, struct bus_mailbox *m, int step)
{
	(void)bus;
	if (step == 1)
		limit_files(64);
	if (step == 1 && bus_mailbox_subscribe(m, "room/1", NULL, NULL, NULL) < 0)
		_exit(1);
	if (step == 2)
		limit_files(RLIM_INFINITY);
	if (step != 1)
		listen_to_another_each_step(bus, m, step);
}

START_TEST(process_that_cannot_write_its_file_listens_and_readers_know)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_without_room);
	struct bus *bus;

	await_step(&c);
	bus = join_as(dir, "home");
	step(&c);
	ck_says(bus, "room/0", " gets it by room/0 ");
	ck_says(bus, "room/1", " has changed its filters since, and could not write that down\n");
	step(&c);
	for (int i = 0; i < 3; i++) {
		char topic[16], words[32];

		snprintf(topic, sizeof topic, "room/%d", i);
		snprintf(words, sizeof words, " gets it by room/%d ", i);
		ck_says(bus, topic, words);
	}
	ck_assert(!says(bus, "room/1", "could not write"));
	end(&c, 0);
	bus_close(bus, 0);
}
END_TEST

static void
listen_as_another(struct bus *bus, struct bus_mailbox *m, int step)
{
	if (step == 1)
		ck_assert_int_eq(setuid(65534), 0);
	listen_to_another_each_step(bus, m, step);
}

START_TEST(process_that_has_changed_its_user_listens_and_readers_know)
{
	const char *dir = bus_test_dir();
	struct child c;
	struct bus *bus;

	if (geteuid() != 0)
		return;
	c = begin(dir, listen_as_another);
	await_step(&c);
	bus = join_as(dir, "home");
	step(&c);
	ck_says(bus, "room/0", " gets it by room/0 ");
	ck_says(bus, "room/1", " has changed its filters since, and could not write that down\n");
	end(&c, 0);
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(garbage_in_a_file_harms_no_reader)
{
	const char *dir = bus_test_dir();
	struct child c = begin(dir, listen_nearly);
	struct bus *bus;
	unsigned seed = 1;
	uint8_t good[2048];
	ssize_t len;
	int fd;

	await_step(&c);
	bus = join_as(dir, "home");
	stop(&c);
	fd = open(file_of(dir, 0), O_RDWR);
	len = pread(fd, good, sizeof good, 0);
	ck_assert_int_gt(len, 128);
	for (int i = 0; i < 200; i++) {
		size_t at = (size_t)rand_r(&seed) % (size_t)len;
		uint8_t byte = (uint8_t)rand_r(&seed);

		for (int more = i % 4; more >= 0; more--) {
			ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
			at = (size_t)rand_r(&seed) % (size_t)len;
		}
		if (i % 5 == 0)
			ck_assert_int_eq(ftruncate(fd, (off_t)at), 0);
		/* Damage that passes the checks never makes a filter for this topic. */
		ck_assert(!says(bus, "room/kitchen", " gets it by "));
		ck_assert_int_eq(ftruncate(fd, 0), 0);
		ck_assert_int_eq(pwrite(fd, good, (size_t)len, 0), len);
	}
	good[8] = 99;
	ck_assert_int_eq(pwrite(fd, good, (size_t)len, 0), len);
	ck_says(bus, "room/kitchen", "cannot be read: it uses another version of libbus\n");
	good[8] = 1;
	good[200]++;
	ck_assert_int_eq(pwrite(fd, good, (size_t)len, 0), len);
	ck_says(bus, "room/kitchen",
	    "cannot be read: it was stopped while it changed them, or its file is damaged\n");
	close(fd);
	kill(c.pid, SIGCONT);
	end(&c, 0);
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

/* Subscribes and unsubscribes as fast as it can, until it is stopped for good. */
static void
change_for_ever(struct bus *bus, struct bus_mailbox *m, int step)
{
	char filter[128];

	(void)bus;
	if (step == 0)
		return;
	subscribe(m, "always");
	for (unsigned i = 0;; i++) {
		struct bus_sub *subs[3];

		for (unsigned j = 0; j < 3; j++) {
			memset(filter, 'a', sizeof filter);
			snprintf(filter + (i + 37 * j) % 100, 16, "/%u", j);
			ck_bus(bus_mailbox_subscribe(m, filter, NULL, NULL, &subs[j]), 0);
		}
		for (unsigned j = 0; j < 3; j++)
			bus_unsubscribe(subs[j], NULL);
	}
}

/* The filters of a member, each of which must be whole. */
static unsigned
read_whole(struct bus *bus, uint32_t member)
{
	struct log_listening l;
	struct log_listener m;
	const char *filter;
	unsigned always = 0;
	uint32_t at = 0;

	if (bus__log_listens_read(bus->log, member, &l) != 1)
		return 0;
	while ((filter = bus__log_listens_next(&l, &at, &m)) != NULL) {
		size_t letters = strspn(filter, "a");

		always += strcmp(filter, "always") == 0;
		ck_assert_msg(strcmp(filter, "always") == 0 ||
				  (filter[letters] == '/' && filter[letters + 2] == '\0' &&
				      strchr("012", filter[letters + 1]) != NULL),
		    "%s", filter);
	}
	bus__log_listens_free(&l);
	return always;
}

START_TEST(reader_finds_whole_filters_however_a_process_is_stopped_or_killed)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join_as(dir, "home");

	for (int round = 0; round < 20; round++) {
		struct child c = begin(dir, change_for_ever);
		uint32_t member = 1;

		await_step(&c);
		ck_assert_int_eq(write(c.talk[1], "x", 1), 1);
		ck_eventually(read_whole(bus, member) == 1);
		for (int i = 0; i < 50; i++)
			read_whole(bus, member); /* while it runs */
		for (int i = 0; i < 5; i++) {
			stop(&c);
			ck_assert_uint_eq(read_whole(bus, member), 1);
			kill(c.pid, SIGCONT);
		}
		end(&c, SIGKILL);
		read_whole(bus, member);
	}
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

struct crowd {
	struct bus *bus;
	_Atomic bool stop;
};

static void *
come_and_go(void *arg)
{
	struct crowd *crowd = arg;
	struct bus_mailbox *m;
	const struct bus_msg *msg;

	for (int i = 0; i < 200; i++) {
		ck_bus(bus_mailbox_open(crowd->bus, NULL, &m), 0);
		subscribe(m, "a/b");
		subscribe(m, "a/+");
		bus_recv(m, 0, &msg);
		bus_mailbox_close(m);
	}
	return NULL;
}

static void *
ask(void *arg)
{
	struct crowd *crowd = arg;
	char text[4096];

	while (!atomic_load(&crowd->stop))
		ck_assert_int_gt(bus_explain(crowd->bus, "a/b", text, sizeof text), 0);
	return NULL;
}

START_TEST(threads_of_two_buses_subscribe_and_leave_while_others_ask)
{
	const char *dir = bus_test_dir();
	struct crowd crowds[2] = {{.bus = join_as(dir, "home")}, {.bus = join_as(dir, "home")}};
	pthread_t come[4], asks[2];
	struct bus *bus = crowds[0].bus;

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&come[i], NULL, come_and_go, &crowds[i % 2]), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&asks[i], NULL, ask, &crowds[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(come[i], NULL);
	for (int i = 0; i < 2; i++) {
		atomic_store(&crowds[i].stop, true);
		pthread_join(asks[i], NULL);
	}
	ck_assert_uint_eq(bus->log->listens.filters, 0);
	ck_assert_uint_eq(bus->log->listens.beyond, 0);
	for (uint32_t i = 0; i < bus->log->listens.cap; i++)
		ck_assert_uint_eq(bus->log->listens.used[i], 0);
	bus_close(crowds[1].bus, 0);
	bus_close(bus, 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("listens");
	TCase *each = bus_test_case("each");

	look_at_each_rest();
	BUS_TEST_CASE(suite, "gets", stopped_process_that_gets_a_topic_is_named_with_its_filter,
	    process_that_does_not_go_on_is_named_with_the_next_step,
	    reader_that_the_log_has_overtaken_is_at_least_so_far_behind,
	    filters_that_nearly_match_are_named_with_the_reason,
	    filters_beyond_those_that_are_listed_are_counted_until_there_is_room,
	    longest_filters_are_whole_and_bound_the_file,
	    other_bus_of_this_process_is_informed_too);
	BUS_TEST_CASE(suite, "wrong", file_of_a_killed_process_is_removed,
	    file_that_was_removed_is_made_again,
	    process_that_cannot_write_its_file_listens_and_readers_know,
	    process_that_has_changed_its_user_listens_and_readers_know,
	    garbage_in_a_file_harms_no_reader,
	    reader_finds_whole_filters_however_a_process_is_stopped_or_killed,
	    threads_of_two_buses_subscribe_and_leave_while_others_ask);
	tcase_add_loop_test(each, files_of_killed_processes_go_with_the_bus, 0, 2);
	tcase_add_loop_test(each, file_of_another_in_its_place_stays_as_it_is, 0, 3);
	suite_add_tcase(suite, each);
	return suite;
}
