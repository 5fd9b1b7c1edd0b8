/* log/summary.h: what a log holds, counted for people. */
#ifndef BUS_LOG_SUMMARY_H
#define BUS_LOG_SUMMARY_H

#include "log/log.h"

struct log_summary {
	uint64_t bytes;               /* of the file */
	uint64_t oldest, next, there; /* the sequences of the oldest record and of the next one, and
					 how many there are between */
	uint64_t kept_count, kept_count_most, kept_bytes, kept_most;
	uint32_t segments, members, readers;
};

/* The number of the next record. 0, or what bus__log_cursor_open() answers. */
int bus__log_next_sequence(struct log *log, uint64_t *ret_next);

/* 0, or what bus__log_cursor_open() answers. */
int bus__log_summary(struct log *log, struct log_summary *ret_summary);

/* Counts the records between a position and the tail, except those of the bus itself ($...). *ret_gone: some are gone, and there were at
 * least *ret_count. 0, or what bus__log_cursor_open() answers. */
int bus__log_behind(struct log *log, uint64_t position, uint64_t *ret_count, bool *ret_gone);

#endif
