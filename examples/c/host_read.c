#define _GNU_SOURCE
#include "host_source.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- names ---------------------------------------------------------------------------------------- */

void
host_level(const char *text, char *ret_level, size_t cap)
{
	size_t i = 0;

	for (; text[i] != '\0' && i + 1 < cap; i++) {
		bool plain = isgraph((unsigned char)text[i]) && !strchr("/+#", text[i]);

		ret_level[i] = plain && !(i == 0 && text[i] == '$') ? text[i] : '_';
	}
	if (i == 0 && cap > 1)
		ret_level[i++] = '_';
	ret_level[i] = '\0';
}

static void
join(const char *const levels[], char *ret_topic, size_t cap)
{
	size_t len = 0;

	for (; *levels && len + 2 < cap; levels++) {
		if (len > 0)
			ret_topic[len++] = '/';
		host_level(*levels, ret_topic + len, cap - len);
		len += strlen(ret_topic + len);
	}
}

/* --- counters: a rate is the growth of a counter since the last round ------------------------------- */

enum { COUNTER_NAME_CAP = 96 };

struct counter {
	char name[COUNTER_NAME_CAP];
	uint64_t value;
};

static void
remember(struct round *round, const char *name, uint64_t value)
{
	struct counter *counter;

	if (round->count == round->cap) {
		size_t cap = round->cap ? 2 * round->cap : 64;

		counter = realloc(round->counters, cap * sizeof *counter);
		if (counter == NULL)
			return; /* only this rate is missing in the next round */
		round->counters = counter;
		round->cap = cap;
	}
	counter = &round->counters[round->count++];
	snprintf(counter->name, sizeof counter->name, "%s", name);
	counter->value = value;
}

static const struct counter *
recall(const struct round *round, const char *name, size_t guess)
{
	/* Files list the same entries in the same order, so the guess is nearly always right. */
	if (guess < round->count && strcmp(round->counters[guess].name, name) == 0)
		return &round->counters[guess];
	for (size_t i = 0; i < round->count; i++)
		if (strcmp(round->counters[i].name, name) == 0)
			return &round->counters[i];
	return NULL;
}

bool
growth(struct host *host, const char *name, uint64_t value, double *ret_growth)
{
	const struct counter *old = recall(&host->before, name, host->now.count);

	remember(&host->now, name, value);
	if (old == NULL || value < old->value)
		return false;
	*ret_growth = (double)(value - old->value);
	return true;
}

/* --- giving readings -------------------------------------------------------------------------------- */

void
give(struct host *host, const char *const levels[], double value)
{
	char topic[TOPIC_CAP];

	join(levels, topic, sizeof topic);
	host->fn(host->arg, &(struct host_reading){.topic = topic, .value = value});
}

void
give_bytes(struct host *host, const char *const levels[], uint64_t bytes)
{
	char topic[TOPIC_CAP];

	join(levels, topic, sizeof topic);
	host->fn(host->arg,
	    &(struct host_reading){.topic = topic, .value = (double)bytes, .whole = true});
}

void
give_rate(struct host *host, const char *const levels[], uint64_t count)
{
	double seconds = (double)(host->now.time_ns - host->before.time_ns) / 1e9;
	char name[COUNTER_NAME_CAP];
	double grown;

	join(levels, name, sizeof name);
	if (growth(host, name, count, &grown) && seconds > 0)
		give(host, levels, grown / seconds);
}

/* --- files ------------------------------------------------------------------------------------------ */

FILE *
open_file(int dir, const char *path)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	FILE *file;

	if (fd < 0)
		return NULL;
	file = fdopen(fd, "r");
	if (file == NULL)
		close(fd);
	return file;
}

bool
read_line(int dir, const char *path, char *ret_line, size_t cap)
{
	FILE *file = open_file(dir, path);
	bool got;

	if (file == NULL)
		return false;
	got = fgets(ret_line, (int)cap, file) != NULL;
	fclose(file);
	if (got)
		ret_line[strcspn(ret_line, "\n")] = '\0';
	return got;
}

bool
read_number(int dir, const char *path, double *ret_number)
{
	char line[LINE_CAP], *end;
	double number;

	if (!read_line(dir, path, line, sizeof line))
		return false;
	number = strtod(line, &end);
	if (end == line || *end != '\0' || !isfinite(number))
		return false;
	*ret_number = number;
	return true;
}

bool
file_exists(int dir, const char *path)
{
	return faccessat(dir, path, F_OK, 0) == 0;
}

void
each_entry(int dir, const char *path, const char *prefix,
    void (*fn)(void *arg, int folder, const char *entry), void *arg)
{
	int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (folder == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.' && strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
			fn(arg, fd, entry->d_name);
	closedir(folder);
}

/* --- a round ----------------------------------------------------------------------------------------- */

/* Rates first, close to the round's time; 1-wire last: a thermometer takes up to a second to answer. */
static void (*const readers[])(struct host *host) = {
    read_cpu,
    read_disks,
    read_net,
    read_memory,
    read_load,
    read_uptime,
    read_thermal,
    read_hwmon,
    read_iio,
    read_w1,
};

struct host *
host_new(const char *root)
{
	struct host *host = calloc(1, sizeof *host);

	if (host)
		host->root_path = root;
	return host;
}

void
host_free(struct host *host)
{
	if (host == NULL)
		return;
	free(host->before.counters);
	free(host->now.counters);
	free(host);
}

static int
open_root(const char *path)
{
	return open(*path ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool
host_read(struct host *host, int64_t now_ns, host_reading_fn fn, void *arg)
{
	struct round old;

	host->root = open_root(host->root_path);
	if (host->root < 0)
		return false;
	host->fn = fn;
	host->arg = arg;
	host->now.time_ns = now_ns;
	for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++)
		readers[i](host);
	close(host->root);

	/* Forget the counters that this round did not see: a new device of that name starts without a rate. */
	old = host->before;
	host->before = host->now;
	host->now = old;
	host->now.count = 0;
	return true;
}

bool
host_name(const char *root, char *ret_name, size_t cap)
{
	char line[LINE_CAP];
	int fd = open_root(root);
	bool got;

	if (fd < 0)
		return false;
	got = read_line(fd, "proc/sys/kernel/hostname", line, sizeof line) && line[0] != '\0';
	close(fd);
	if (got)
		host_level(line, ret_name, cap);
	return got;
}
