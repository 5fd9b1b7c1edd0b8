/* log/listens_file.h: the file of listens.h as it lies, for the files that write and read it: a head, then units of 64 bytes.
 * docs/internals/log-format.md says the same byte by byte. */
#ifndef BUS_LOG_LISTENS_FILE_H
#define BUS_LOG_LISTENS_FILE_H

#include "log/listens.h"
#include "log/log.h"

#define LISTENS_VERSION    1u
#define LISTENS_UNIT       64u
#define LISTENS_HEAD_BYTES 128u
#define LISTENS_TEXT_AT    20u /* in the entry of a filter */
#define LISTENS_UNITS_OF_FILTER                                                                    \
	((LISTENS_TEXT_AT + BUS_LIMIT_TOPIC_BYTES + 1 + LISTENS_UNIT - 1) / LISTENS_UNIT)
#define LISTENS_UNITS_MOST                                                                         \
	(LISTENS_FILTERS * (LISTENS_UNITS_OF_FILTER + 1)) /* each of a mailbox of its own */

enum { LISTENS_FREE, LISTENS_MAILBOX, LISTENS_FILTER };

struct listens_head {
	uint8_t magic[8];
	uint32_t version, pid;
	uint64_t epoch;
	uint32_t changes, filters, unused, units;
	char program[LISTENS_PROGRAM];
	uint8_t unused_too[48];
	uint64_t check; /* of the bytes before it */
};

/* The beginning of an entry. One of a mailbox takes one unit; one of a filter goes on with its length, the text and a NUL. */
struct listens_entry {
	uint16_t units; /* 0: the unit is free */
	uint8_t kind, bus;
	uint32_t mailbox;
	uint64_t check; /* of all its units, with 0 here */
};

struct listens_mailbox_entry {
	struct listens_entry entry;
	uint8_t full, drain, is_peer, unused[5];
	uint64_t reached, delivered, lost;
	int64_t noted_ns;
};

_Static_assert(sizeof(struct listens_head) == LISTENS_HEAD_BYTES, "the head has its place");
_Static_assert(sizeof(struct listens_mailbox_entry) <= LISTENS_UNIT, "a mailbox takes one unit");
_Static_assert(sizeof(struct listens_entry) + sizeof(uint32_t) == LISTENS_TEXT_AT,
    "a text follows its length");
_Static_assert(LISTENS_UNITS_MOST < UINT16_MAX, "a subscription keeps 16 bits");

/* The path of a member's file, to be freed; NULL: no memory. */
char *bus__log_listens_path(const struct log *log, uint32_t member);

#endif
