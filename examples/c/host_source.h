/* host_source.h: helpers for the sources of host_read.c. */
#ifndef HOST_SOURCE_H
#define HOST_SOURCE_H

#include "host_read.h"

#include <stdio.h>

enum { TOPIC_CAP = 512, LINE_CAP = 128 };

struct counter;

struct round {
	struct counter *counters;
	size_t count, cap;
	int64_t time_ns;
};

struct host {
	const char *root_path;
	int root; /* open for one round, so that a round sees one tree */
	struct round before, now;
	host_reading_fn fn;
	void *arg;
};

/* --- giving readings: the levels of the topic, then the number ---------------------------------------- */

#define LEVELS(...) ((const char *const[]){__VA_ARGS__, NULL})

void give(struct host *host, const char *const levels[], double value);
void give_bytes(struct host *host, const char *const levels[], uint64_t bytes);

/* Gives the rate of count since the last round; nothing if growth() returns false. */
void give_rate(struct host *host, const char *const levels[], uint64_t count);

/* false: the last round did not count it, or it is smaller now (it wrapped or was reset). */
bool growth(struct host *host, const char *name, uint64_t count, double *ret_growth);

/* --- files: false or NULL when there is none or it cannot be read ------------------------------------- */

FILE *open_file(int dir, const char *path);
bool file_exists(int dir, const char *path);
bool read_line(int dir, const char *path, char *ret_line, size_t cap);

/* sysfs answers a read with an error, or with no number, while a sensor does not work. */
bool read_number(int dir, const char *path, double *ret_number);

/* Calls fn for every entry of a folder whose name begins with prefix. */
void each_entry(int dir, const char *path, const char *prefix,
    void (*fn)(void *arg, int folder, const char *entry), void *arg);

/* --- the sources ---------------------------------------------------------------------------------------- */

void read_cpu(struct host *host);
void read_memory(struct host *host);
void read_load(struct host *host);
void read_uptime(struct host *host);
void read_disks(struct host *host);
void read_net(struct host *host);

void read_thermal(struct host *host);
void read_hwmon(struct host *host);
void read_iio(struct host *host);
void read_w1(struct host *host);

#endif
