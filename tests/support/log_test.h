/* support/log_test.h: one log, its topics, and records that have a number: for tests below the bus. */
#ifndef BUS_TEST_LOG_H
#define BUS_TEST_LOG_H

#include "bus_test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log/log.h"

/* What this process knows of a topic of that name. Good until 256 more were asked for. */
static inline struct log_topic *
log_test_topic(const struct log *log, const char *name)
{
	static struct {
		struct log_topic topic;
		char name[BUS_LIMIT_TOPIC_BYTES + 1];
	} topics[256];
	static _Atomic unsigned next;
	unsigned i = next++ % 256;

	snprintf(topics[i].name, sizeof topics[i].name, "%s", name);
	bus__log_topic(log, topics[i].name, strlen(topics[i].name), &topics[i].topic);
	return &topics[i].topic;
}

/* Whether the record that a cursor gave last is of that topic. */
static inline bool
log_test_is_of(struct log_cursor *cursor, const struct log_record *record, const char *name)
{
	uint32_t len;
	const char *its = bus__log_name(cursor, record, &len);

	return its != NULL && len == strlen(name) && memcmp(its, name, len) == 0;
}

/* Of the process that began the test, also in its children. */
static inline const char *
test_dir(void)
{
	static const char *dir;
	static pid_t began;

	if (dir == NULL || began == getpid()) {
		dir = bus_test_dir(); /* with CK_FORK=no each test has another */
		began = getpid();
	}
	return dir;
}

static inline struct log *
open_log(void)
{
	struct log *log;

	ck_bus(bus__log_open(test_dir(), "test", LOG_BYTES_LEAST, &log), 0);
	return log;
}

static inline struct log_topic *
topic_t(const struct log *log)
{
	return log_test_topic(log, "t");
}

static inline struct log_cursor
open_cursor(struct log *log, enum log_from from, uint64_t sequence)
{
	struct log_cursor cursor;

	ck_bus(bus__log_cursor_open(log, from, sequence, &cursor), 0);
	return cursor;
}

/* Appends a record of `len` bytes that begins with a number; all other bytes follow from it. */
static inline uint64_t
append(struct log *log, uint64_t number, uint32_t len)
{
	static uint8_t bytes[1 << 20];
	struct log_item item = {.topic = topic_t(log)};
	uint64_t sequence;

	memset(bytes, (uint8_t)number, len);
	memcpy(bytes, &number, sizeof number);
	must(bus__log_append(log, &item, &(struct bus_slice){bytes, len}, 1, &sequence) == 1);
	return sequence;
}

/* The number in a record, all of whose bytes are checked. */
static inline uint64_t
number_of(const struct log_cursor *cursor, const struct log_record *record)
{
	struct log_view view;
	uint64_t number;

	must(record != NULL && bus__log_read(cursor->word, record, &view));
	must(view.len >= sizeof number);
	memcpy(&number, view.data, sizeof number);
	for (uint32_t i = sizeof number; i < view.len; i++)
		must(view.data[i] == (uint8_t)number);
	return number;
}

static inline void
expect(struct log_cursor *cursor, uint64_t number)
{
	const struct log_record *record = bus__log_next(cursor);

	if (record == NULL || number_of(cursor, record) != number)
		ck_abort_msg("not record %llu", (unsigned long long)number);
}

static inline struct log_topic *
topic_of(const struct log *log, unsigned number)
{
	char name[20];

	snprintf(name, sizeof name, "value/%u", number);
	return log_test_topic(log, name);
}

#endif
