/* support/log_writer.c: a member that fills a log, for a reader that knows nothing of the library.
 *
 * usage: log_writer DIRECTORY RECORDS. Appends so many, prints the sequence of the last one, and stays until its input
 * ends. Record i, from 1 on: topic "t/<i mod 7>", payload "<i>" with i mod 300 times "x" behind it; each fifth one has
 * headers, each third one a time to live, each fourth one a number for replies. "kept/first" keeps "one" from the
 * beginning on, "kept/last" keeps "end"; they are the first record and the one behind the last. Behind that "kept/own" is changed
 * twice here, "one" and "two", "kept/gone" is deleted by the seventh change, of a bus with the id 0, 1, … 15, and "kept/other" is changed
 * twice here and then by that bus, which takes it for the second change and has not heard of those. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/error.h>

#include "log/log.h"

/* One at a time. */
static struct log_topic *
topic_of(const struct log *log, const char *name)
{
	static struct log_topic topic;

	bus__log_topic(log, name, strlen(name), &topic);
	return &topic;
}

static int
keep(struct log *log, const char *topic, const char *value, uint64_t *ret_sequence)
{
	struct bus_slice payload = {value, strlen(value)};
	const struct log_item item = {.topic = topic_of(log, topic), .flags = LOG_RETAIN};

	return bus__log_append(log, &item, &payload, 1, ret_sequence);
}

static int
change(struct log *log, const char *topic, const char *value, struct bus__offer *offer,
    uint64_t *ret_sequence)
{
	struct bus_slice payload = {value, strlen(value)};
	const struct log_item item = {.topic = topic_of(log, topic), .flags = LOG_RETAIN};
	struct bus__version ours;

	return bus__log_append_value(log, &item, offer, &payload, ret_sequence, &ours);
}

static int
fill_versions(struct log *log, uint64_t *ret_sequence)
{
	struct bus__offer seventh = {.version.changes = 7}, later;
	int got = change(log, "kept/own", "one", NULL, ret_sequence);

	for (uint8_t i = 0; i < BUS__BUS_ID; i++)
		seventh.peer[i] = seventh.version.bus[i] = i;
	later = seventh;
	later.version.changes = 2;
	if (got >= 0)
		got = change(log, "kept/own", "two", NULL, ret_sequence);
	if (got >= 0)
		got = change(log, "kept/gone", "", &seventh, ret_sequence);
	/* The second change where it was made, the third here. */
	if (got >= 0)
		got = change(log, "kept/other", "one", NULL, ret_sequence);
	if (got >= 0)
		got = change(log, "kept/other", "two", NULL, ret_sequence);
	return got >= 0 ? change(log, "kept/other", "three", &later, ret_sequence) : got;
}

static int
fill(struct log *log, uint64_t records)
{
	char payload[400], topic[20];
	uint64_t sequence = 0;
	int kept = keep(log, "kept/first", "one", &sequence);

	if (kept < 0)
		return kept;
	for (uint64_t i = 1; i <= records; i++) {
		int len = snprintf(payload, sizeof payload, "%llu", (unsigned long long)i);
		struct log_item item = {.type = (uint8_t)(i % 5), .origin = log->member};
		size_t more = (size_t)(i % 300);
		int err;

		memset(payload + len, 'x', more);
		snprintf(topic, sizeof topic, "t/%u", (unsigned)(i % 7));
		item.topic = topic_of(log, topic);
		if (i % 5 == 0) {
			item.headers = "\x81\xa1k\xa1v";
			item.headers_len = 5;
			item.flags |= LOG_HEADERS;
		}
		if (i % 3 == 0) {
			item.flags |= LOG_EXPIRES;
			item.expires_ns = (int64_t)i;
		}
		if (i % 4 == 0) {
			item.flags |= LOG_REPLY;
			item.reply = i;
		}
		err = bus__log_append(
		    log, &item, &(struct bus_slice){payload, (size_t)len + more}, 1, &sequence);
		if (err < 0)
			return err;
	}
	kept = keep(log, "kept/last", "end", &sequence);
	if (kept >= 0)
		kept = fill_versions(log, &sequence);
	if (kept < 0)
		return kept;
	printf("%llu\n", (unsigned long long)sequence);
	return fflush(stdout);
}

int
main(int argc, char **argv)
{
	struct log *log;
	int err;

	if (argc != 3)
		return 2;
	err = bus__log_open(argv[1], "test", LOG_BYTES_LEAST, &log);
	if (err == 0)
		err = fill(log, strtoull(argv[2], NULL, 10));
	if (err < 0) {
		fprintf(stderr, "log_writer: %s\n", bus_strerror(err));
		return 1;
	}
	while (getchar() != EOF)
		;
	bus__log_close(log);
	return 0;
}
