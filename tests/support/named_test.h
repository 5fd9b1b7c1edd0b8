/* support/named_test.h: processes on one named bus. */
#ifndef NAMED_TEST_H
#define NAMED_TEST_H

#include "link_test.h"

#include <dirent.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

/* Another process: runs fn and ends. Make it before this process has a bus. */
static inline pid_t
start(void (*fn)(const char *dir, int number), const char *dir, int number)
{
	pid_t child = bus_test_fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		fn(dir, number);
		_exit(0);
	}
	return child;
}

static inline void
finish(pid_t child)
{
	int status;

	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other process failed");
}

static inline unsigned
files_in(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned count = 0;

	ck_assert_ptr_nonnull(d);
	for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(d);
	return count;
}

static inline void
write_steps(struct bus *bus, int first, int end)
{
	for (int i = first; i < end; i++) {
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		must_bus(bus_publish(bus, i % 2 ? "odd" : "even", text, strlen(text)));
	}
}

struct flood {
	struct bus *bus;
	_Atomic bool over;
};

static inline void *
flood(void *arg)
{
	struct flood *f = arg;
	struct bus_slice items[32];
	struct bus_pub *pub;

	for (int i = 0; i < 32; i++)
		items[i] = (struct bus_slice){"12345678", 8};
	must_bus(bus_pub_open(f->bus, "t", NULL, &pub));
	while (!f->over)
		must_bus(bus_pub_send_many(pub, items, 32));
	bus_pub_close(pub);
	return NULL;
}

static inline void
answer(void *arg, const struct bus_msg *msg)
{
	char text[64];
	int len = snprintf(text, sizeof text, "[%.*s]", (int)msg->len, (const char *)msg->data);

	must_bus(bus_reply(arg, msg, text, (size_t)len));
	must_bus(bus_reply(arg, msg, "again", 5));
}

static inline bool
is_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

static inline void
write_for_ever(const char *dir, int number)
{
	struct bus *bus = join(dir);

	for (uint64_t i = 0;; i++)
		must_bus(bus_publish(bus, number ? "one" : "other", &i, sizeof i));
}

static inline struct bus_log_stats
log_stats(struct bus *bus)
{
	struct bus_log_stats stats = {.size = sizeof stats};

	ck_bus(bus_log_stats(bus, &stats), 0);
	return stats;
}

#endif
