/* Another program writes into the log of a bus. What is damaged is said once, to who publishes and who reads, and no call takes
 * long: each damage is a few words, some of them near to what stood there. */
#include "world.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <libbus/bus.h>

#include "log/log.h"

enum { LOG_BYTES = 4 << 20, DAMAGES = 40, ROUND = 5, REPEATS = 4, SUSPICIOUS_MS = 20 };

static uint64_t
draw(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static struct log_shared *
map_log(const char *dir)
{
	char path[300];
	void *map;
	int fd;

	snprintf(path, sizeof path, "%s/test.bus", dir);
	fd = open(path, O_RDWR);
	ck_assert_int_ge(fd, 0);
	map = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(map, MAP_FAILED);
	close(fd);
	return map;
}

/* The tail where no segment is, as a member has it that nobody is. */
static void
spoil_tail(const char *dir)
{
	atomic_store(&map_log(dir)->tail, UINT64_C(777777777) << 12 | UINT64_C(1000) << 2);
}

START_TEST(damage_is_told_to_publishers_and_to_readers_and_names_the_file)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir);
	struct bus_mailbox *m = subscriber(bus, "t"), *late;
	const struct bus_msg *msg;
	struct bus_config cfg = {.size = sizeof cfg, .dir = dir};
	struct bus *second;
	struct bus_pub *pub;

	ck_bus(bus_pub_open(bus, "t", NULL, &pub), 0);
	ck_bus(bus_publish(bus, "t", "before", 6), 0);
	spoil_tail(dir);
	ck_bus(bus_publish(bus, "t", "x", 1), BUS_E_DAMAGED);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "/test.bus is damaged"));
	ck_bus(bus_pub_send(pub, "x", 1), BUS_E_DAMAGED);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "/test.bus is damaged"));
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "open it again"));
	ck_bus(bus_recv(m, patience_ms(), &msg), BUS_E_DAMAGED);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "/test.bus is damaged"));
	ck_bus(bus_dispatch(m, patience_ms(), 1), BUS_E_DAMAGED);
	ck_bus(bus_flush(bus, patience_ms()), BUS_E_DAMAGED);
	ck_bus(bus_open("test", &cfg, &second), BUS_E_DAMAGED);
	ck_bus(bus_mailbox_open(bus, NULL, &late), 0);
	ck_bus(bus_mailbox_subscribe(late, "t", NULL, NULL, NULL), BUS_E_DAMAGED);
	bus_mailbox_close(late);
	bus_pub_close(pub);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static void *
receive(void *arg)
{
	const struct bus_msg *msg;

	return (void *)(intptr_t)bus_recv(arg, -1, &msg);
}

START_TEST(reader_that_waits_is_told_of_damage_without_a_publisher)
{
	const char *dir = bus_test_dir();
	struct bus *bus = join(dir);
	struct bus_mailbox *m = subscriber(bus, "t");
	pthread_t thread;
	void *answer;

	ck_assert_int_eq(pthread_create(&thread, NULL, receive, m), 0);
	spoil_tail(dir);
	ck_assert_int_eq(pthread_join(thread, &answer), 0);
	ck_bus((int)(intptr_t)answer, BUS_E_DAMAGED);
	bus_mailbox_close(m);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* --- at random -------------------------------------------------------------------------------------------------------- */

/* Of one damage: the call that took longest beyond its time, and the one that had most work, in CPU time of the process. */
struct worst {
	int64_t late_ms, work_ms;
	const char *late, *work;
};

static struct worst worst;

/* For so long this thread has waited for a CPU; 0: the kernel does not say. */
static int64_t
waited_for_cpu_ms(void)
{
	FILE *stat = fopen("/proc/thread-self/schedstat", "r");
	long long ran, waited = 0;

	if (stat == NULL)
		return 0;
	if (fscanf(stat, "%lld %lld", &ran, &waited) != 2)
		waited = 0;
	fclose(stat);
	return waited / 1000000;
}

/* What a call took beyond the time that it was given, while it had a CPU or slept. */
static void
note(const char *what, int64_t begun, int64_t given_ms)
{
	int64_t took = bus_test_now_ms() - waited_for_cpu_ms() - begun - given_ms;

	if (took > worst.late_ms) {
		worst.late_ms = took;
		worst.late = what;
	}
}

static int64_t
work_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static void
note_work(const char *what, int64_t before)
{
	int64_t work = work_ms() - before;

	if (work > worst.work_ms) {
		worst.work_ms = work;
		worst.work = what;
	}
}

#define TIMED(given_ms, call)                                                                      \
	do {                                                                                       \
		int64_t work_ = work_ms(), begun_ = bus_test_now_ms() - waited_for_cpu_ms();       \
		(void)(call);                                                                      \
		note(#call, begun_, given_ms);                                                     \
		note_work(#call, work_);                                                           \
	} while (0)

static void
spoil(struct log_shared *shared, uint64_t *seed)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)(void *)shared;
	uint64_t control = sizeof *shared / 8, begin = sizeof shared->head / 8;

	for (uint64_t i = 1 + draw(seed) % 3; i > 0; i--) {
		uint64_t at = begin + draw(seed) % (control - begin), word = draw(seed);

		switch (draw(seed) % 4) {
		case 0:
			at = (uint64_t)((uint8_t *)&shared->tail - (uint8_t *)shared) / 8;
			break;
		case 1:
			at = begin + draw(seed) % (LOG_BYTES / 8 - begin);
			break;
		case 2: /* the segments' words and the directory */
			at =
			    (uint64_t)((uint8_t *)shared->segments - (uint8_t *)shared) / 8 +
			    draw(seed) % ((sizeof shared->segments + sizeof shared->directory) / 8);
			break;
		}
		if (draw(seed) % 3 == 0)
			word %= 100000;
		else if (draw(seed) % 2 == 0)
			word = words[at] + word % 64 - 32;
		words[at] = word;
	}
}

static void
one_damage(const char *dir, uint64_t *seed)
{
	struct bus *bus = join(dir);
	struct bus_mailbox *m = subscriber(bus, "t");
	const struct bus_msg *msg;
	struct bus_msg kept = {
	    .size = sizeof kept, .topic = "v", .data = "v", .len = 1, .flags = BUS_MSG_RETAIN};
	struct log_shared *shared;
	char path[300];

	ck_bus(bus_subscribe(bus, "t", ignore_message, NULL, NULL), 0);
	ck_bus(bus_publish_msg(bus, &kept), 0);
	shared = map_log(dir);
	for (int i = 0; i < 20; i++)
		ck_bus(bus_publish(bus, "t", "0123456789", 10), 0);
	spoil(shared, seed);
	for (int i = 0; i < ROUND; i++) {
		/* A publish waits 0.1 s for an owner that lives; so do the other calls that append. */
		TIMED(100, bus_publish(bus, "t", "x", 1));
		TIMED(100, bus_publish_msg(bus, &kept));
		TIMED(10, bus_recv(m, 10, &msg));
		TIMED(110, bus_request(bus, "t", "?", 1, 10, &msg));
	}
	TIMED(20, bus_flush(bus, 20));
	bus_mailbox_close(m);
	TIMED(20, bus_close(bus, 20));
	/* Its thread may be a moment behind. */
	snprintf(path, sizeof path, "%s/test.bus", dir);
	ck_eventually(access(path, F_OK) != 0);
	munmap(shared, LOG_BYTES);
}

/* A call that waits for another thread of its process also waits until that has a CPU, which no clock of ours knows. So a damage
 * after which a call was late comes again: what the library does about it is late again, and what the scheduler did is not. */
static struct worst
worst_of_damage(const char *dir, uint64_t *seed)
{
	uint64_t same = *seed;
	struct worst first;

	worst = (struct worst){.late = "nothing", .work = "nothing"};
	one_damage(dir, seed);
	first = worst;
	for (int i = 0; i < REPEATS && first.late_ms > SUSPICIOUS_MS; i++) {
		uint64_t again = same;

		worst = (struct worst){.late = "nothing", .work = "nothing"};
		one_damage(dir, &again);
		if (worst.late_ms < first.late_ms) {
			first.late_ms = worst.late_ms;
			first.late = worst.late;
		}
	}
	return first;
}

/* LIBBUS_DAMAGES=2000 does that many, and prints what took longest. Without it a hang alone is a failure. */
START_TEST(no_call_takes_long_in_a_damaged_log)
{
	const char *many = getenv("LIBBUS_DAMAGES");
	uint64_t seed = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(_i + 1);
	int count = many != NULL ? atoi(many) : DAMAGES;

	struct worst all = {.late = "nothing", .work = "nothing"};

	for (int i = 0; i < count; i++) {
		struct worst one = worst_of_damage(bus_test_dir(), &seed);

		if (one.late_ms > all.late_ms) {
			all.late_ms = one.late_ms;
			all.late = one.late;
		}
		if (one.work_ms > all.work_ms) {
			all.work_ms = one.work_ms;
			all.work = one.work;
		}
	}
	if (many != NULL)
		printf("longest beyond its time: %lld ms, %s\nmost work: %lld ms, %s\n",
		    (long long)all.late_ms, all.late, (long long)all.work_ms, all.work);
	ck_assert_msg(
	    all.late_ms < patience_ms() / 2, "%s took %lld ms", all.late, (long long)all.late_ms);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("damaged");

	BUS_TEST_CASE(suite, "told", damage_is_told_to_publishers_and_to_readers_and_names_the_file,
	    reader_that_waits_is_told_of_damage_without_a_publisher);
	BUS_TEST_CASE(suite, "time", no_call_takes_long_in_a_damaged_log);
	return suite;
}
