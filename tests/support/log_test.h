/* support/log_test.h: topics of a log, for tests below the bus. */
#ifndef BUS_TEST_LOG_H
#define BUS_TEST_LOG_H

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

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

#endif
