/* host_read.h: reads the state of a Linux machine from /proc and /sys, as topics and numbers. A value
 * that is missing, broken or not known yet (a rate needs two rounds) gives no reading. README.md beside
 * this file lists topics and units. */
#ifndef HOST_READ_H
#define HOST_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct host; /* remembers the counters of the last round */

struct host_reading {
	const char *topic; /* below the host: "net/eth0/rx_bytes_per_s"; borrowed */
	double value;
	bool whole; /* a number of bytes, exact up to 2^53 */
};

typedef void (*host_reading_fn)(void *arg, const struct host_reading *reading);

/* root is what stands before /proc and /sys, "" on a live machine; borrowed until host_free().
 * NULL: out of memory. */
struct host *host_new(const char *root);
void host_free(struct host *host);

/* Reads every source once and calls fn for each number found. Rates use now_ns, a monotonic time.
 * false: root could not be opened, see errno. */
bool host_read(struct host *host, int64_t now_ns, host_reading_fn fn, void *arg);

/* Writes the name of the machine as one topic level. false: root does not have it. */
bool host_name(const char *root, char *ret_name, size_t cap);

/* Copies text as one level of a topic. Characters with a meaning there, and unprintable ones, become _. */
void host_level(const char *text, char *ret_level, size_t cap);

#endif
