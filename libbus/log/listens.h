/* log/listens.h: what a process listens to, as all members of its log can read it, also while it is stopped.
 *
 * Each member that listens has a file beside the log, which its own process alone writes, and reads never. Members that ask
 * read it as a file: a process that truncates it, or leaves garbage there, does no harm to them. Each entry has a check of its
 * own, so a reader that meets a change sees that entry as it was, as it is, or as torn, and reads again; nothing is locked.
 * The log knows no filters: here they are texts. */
#ifndef BUS_LOG_LISTENS_H
#define BUS_LOG_LISTENS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/files.h"

#define LISTENS_FILTERS 256 /* that a process lists; those beyond are counted */
#define LISTENS_PROGRAM 32

#define LISTENS_BEYOND_MOST 65535u

struct log;

/* Of a member, in its struct log. */
struct log_listens {
	pthread_mutex_t lock;
	char *path;
	uint8_t *image,
	    *used; /* what the file is to have behind its head; which units of it are taken */
	uint32_t cap, end;        /* units: of the image, and behind the last that was ever taken */
	uint32_t filters, beyond; /* listed, and not */
	uint32_t changes;         /* of those that are listed */
	uint32_t dirty, dirty_end; /* units that the file does not have yet */
	bool whole;                /* the file may have anything */
	struct log_identity file;  /* dev and ino 0: none was made */
};

/* A mailbox that has filters. */
struct log_listener {
	uint32_t mailbox;
	uint8_t bus; /* which of the process's buses of that name */
	uint8_t full, drain, is_peer;
	uint64_t reached; /* the position in the log before which everything is handled, */
	uint64_t delivered, lost;
	int64_t noted_ns; /* as of then, monotonic */
};

/* --- the process's own: between begin and end, which writes the changes (listens.c) --------------------------------------- */

void bus__log_listens_begin(struct log *log);
void bus__log_listens_end(struct log *log);

/* Lists a mailbox, or a filter of one. What to drop it by; 0: there is no room, and a filter is counted instead. */
uint32_t bus__log_listens_mailbox(struct log *log, const struct log_listener *mailbox);
uint32_t bus__log_listens_filter(
    struct log *log, const struct log_listener *mailbox, const char *filter);

/* Notes anew how far a mailbox is. */
void bus__log_listens_note(struct log *log, uint32_t at, const struct log_listener *mailbox);

void bus__log_listens_drop(struct log *log, uint32_t at);

/* A filter is counted without being listed; goes, or is about to be listed. */
void bus__log_listens_count(struct log *log);
void bus__log_listens_uncount(struct log *log);

/* --- those of others (listens_read.c) ------------------------------------------------------------------------------------ */

/* A checked copy of a member's file. */
struct log_listening {
	uint8_t *bytes; /* behind the head */
	uint32_t units;
	uint32_t pid, filters; /* as the file says */
	uint32_t
	    beyond; /* and filters that are not listed; LISTENS_BEYOND_MOST: that many or more */
	uint32_t unread; /* of its filters, while they change */
	bool
	    is_late; /* the process has changed something that is not in the file: it could not write there */
	char program[LISTENS_PROGRAM];
};

/* Reads what the member in a slot listens to. 1: *ret_listening ends with bus__log_listens_free(). 0: it has never listened.
 * BUS_E_NOMEM; BUS_E_DENIED, LOG_ABSENT, LOG_FOREIGN, BUS_E_VERSION, BUS_E_DAMAGED: it cannot be read. */
int bus__log_listens_read(struct log *log, uint32_t member, struct log_listening *ret_listening);
void bus__log_listens_free(struct log_listening *listening);

/* The next filter, from *at = 0 on, and its mailbox. NULL: there is none. Any text may stand there. */
const char *bus__log_listens_next(
    const struct log_listening *listening, uint32_t *at, struct log_listener *ret_mailbox);

/* --- membership --------------------------------------------------------------------------------------------------------- */

int bus__log_listens_init(struct log *log);
void bus__log_listens_fini(struct log *log);

/* Removes the file that an earlier member left in this slot. The caller holds the slot. List lock. */
void bus__log_listens_clear(struct log *log, uint32_t member);

/* Removes those of all slots, in a log without members. */
void bus__log_listens_sweep(const char *dir, const char *name);

#endif
