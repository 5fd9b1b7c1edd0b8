/* log/log.h: the log of a named bus, which every process that opens the name maps.
 *
 * It knows members, records and names of topics, but neither filters nor subscriptions. A record exists for all
 * processes from the moment its writer moves the tail, and for none before: a writer that dies or is stopped half way
 * leaves nothing. */
#ifndef BUS_LOG_LOG_H
#define BUS_LOG_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>

#include "base/offer.h"
#include "log/files.h"
#include "log/layout.h"
#include "log/listens.h"

#define LOG_NAME_MOST     64
#define LOG_BYTES_LEAST   (UINT64_C(4) << 20)
#define LOG_BYTES_DEFAULT (UINT64_C(16) << 20)
#define LOG_BYTES_MOST    (UINT64_C(16) << 30)

struct log_memory;
#define LOG_LANES_AT_FIRST 16 /* turn.c: of a home, whose own lane has the turn */
#define LOG_LANES                                                                                  \
	3 /* threads of a process that are inside an append at once, all but one of them stalled */

/* A tail without its two low bits, and since when it has not moved. */
struct log_patience {
	uint64_t word;
	int64_t since_ns;
};

/* A process's membership; one for each log, however often it is opened. */
struct log {
	struct log_shared *shared;
	/* As the head was when it was checked: any member can write there. */
	uint8_t *segments;
	struct log_place
	    *places; /* of values: buckets of LOG_BUCKET, the first LOG_OWN_BUCKETS for $... */
	uint32_t buckets;
	uint64_t segment_bytes;
	size_t map_bytes;
	uint64_t epoch, key[2];
	uint32_t segment_count;
	uint32_t member; /* its slot */
	bool
	    took_over; /* from a member that died in it; under the list's lock at first, then its opener's */
	/* Relaxed, all: a thread gets the log under the list's lock, and a new descriptor leads to the same file. */
	_Atomic int lock_fd; /* asks for locks, and has those of the gate and of roles */
	_Atomic int file_fd; /* of the log while it is made or mapped; else -1 */
	void *hold;          /* the lock that says that the member lives (base/hold.h) */
	struct log_identity lock_file, log_file;
	uint32_t fork_generation;

	/* One thread at a time appends with it, so a member has at most one transaction under way: log/turn.h. */
	struct log *home;       /* the membership that it is a deputy of, or itself */
	uintptr_t lane;         /* its index in the home's `writers`, << 1 */
	_Atomic uintptr_t turn; /* of a home, as what follows */
	_Atomic uint32_t
	    handed; /* futex: changes with the turn when threads wait, and as long as its holder waits for the tail */
	_Atomic uint32_t lanes;
	_Atomic bool is_damaged; /* relaxed: it orders nothing */
	int64_t until_ns;        /* of the append under way; 0: it has as long as it takes */
	struct log *writers[LOG_LANES];
	struct log_patience patience; /* of the thread that took the turn last */
	/* The segment of the last transaction; the position where it begins, and its first sequence. */
	uint64_t number, begin, first;
	struct log_segment *segment;
	uint8_t *bytes;
	uint64_t mapped; /* of its bytes: so far the short way writes and asks for no pages */
	uint64_t mapped_of[LOG_MOST_SEGMENTS]; /* the same for each place */
	struct log_memory
	    *memory; /* of the topics that it has named; NULL, in models: it forgets */
	uint64_t
	    rescue; /* the earlier `life` of the memory of the prepared segment, if it still has values */

	/* The pins of this process's cursors: its word in the log has the places that are not 0 here. */
	pthread_mutex_t pins_lock; /* these, and the writing of that word; alone */
	uint32_t pinned[LOG_MOST_SEGMENTS], cursors;
	/* A pin that the host refused: the segment, and how often this process does not ask again. */
	struct {
		uint64_t number;
		uint32_t passes;
	} refused[LOG_MOST_SEGMENTS];

	/* Under the lock of the list of this process. */
	enum { LOG_JOINING, LOG_JOINED, LOG_LEAVING, LOG_LEFT } state;
	char *path, *lock_path;
	const char *name; /* in path */
	size_t name_len;
	bool by_default; /* in the directory that is the user's own */
	unsigned refs;
	struct log *next;
	struct log_role *roles; /* that it has */

	/* Not held over fork(): a child does not use it. */
	pthread_mutex_t members_lock;
	unsigned buses; /* that say that they are members (named/members.c); under that lock */
	bool has_will;  /* the same; one of them has left a will */

	struct log_listens listens; /* the filters that it lists */

	_Atomic uint32_t openings; /* how often it was opened */
	_Atomic bool burying; /* one thread looks after the dead: locks are the whole process's */
};

/* --- membership (member.c, locks.c, slots.c, paths.c, memberships.c) ---------------------------------------------- */

/* Which limit bus__log_open() met: for the sentence of BUS_E_LIMIT. */
enum log_limit {
	LOG_NO_DESCRIPTOR = -1200,
	LOG_NO_LOCK = -1201, /* the system has no more file locks */
	LOG_NO_SLOT = -1202  /* all LOG_MEMBERS are taken */
};

/* The state in which bus__log_open() found the files: for the sentence of the error. */
enum log_found {
	LOG_FOREIGN_LOG = -1210, /* a file that is not of libbus, or not the user's alone */
	LOG_FOREIGN_LOCK = -1211,
	LOG_FOREIGN_DRAFT = -1212,
	LOG_REMOVED = -1213, /* no log, though processes are on it */
	LOG_CUT = -1214,     /* its length has changed since it was made */
	LOG_NO_OFD = -1215   /* a system without locks of open file descriptions */
};

/* Joins the log `name` in `dir` (NULL: the user's own directory under /dev/shm), and makes it if it has no members: `bytes`
 * long (0: 16 MiB, less where little is free). A process that joins takes the log as it is. 0, BUS_E_INVAL (a name is
 * [a-z0-9._-]{1,64}), BUS_E_DENIED (the directory is another user's), BUS_E_VERSION, enum log_limit, enum log_found, BUS_E_DAMAGED
 * (the head makes no sense), BUS_E_NOSPACE, BUS_E_TIMEDOUT (a process was stopped while it joined or left), BUS_E_NOMEM,
 * BUS_E_SYS. */
int bus__log_open(const char *dir, const char *name, uint64_t bytes, struct log **ret_log);

/* Takes another descriptor of the lock file, and its roles again, if the program has closed that which it had. */
void bus__log_mend(struct log *log);

/* Whether no member has looked for dead ones within the time: then this one is about to. A thousand members that each look once
 * a second would ask a million times whether one lives. */
bool bus__log_begin_look(struct log *log, int64_t pause_ns);

/* The state of its files. LOG_IS_REMOVED: they lost their names, and the next process to open the name is on another log. LOG_IS_CUT:
 * the log was truncated, and a touch of the missing part is SIGBUS. LOG_IS_WELL also where this process may not look. */
enum log_trouble { LOG_IS_WELL, LOG_IS_REMOVED, LOG_IS_CUT, LOG_IS_DAMAGED };
enum log_trouble bus__log_trouble(const struct log *log);

/* Writes the member's pid into its slot; clears that of a dead member, or its own. */
void bus__log_note_pid(struct log *log);
void bus__log_forget_pid(struct log *log, uint32_t member);

/* Holds the slot of a dead member, so that no other process takes or buries it. false: another process holds it. */
bool bus__log_hold_slot(struct log *log, uint32_t member);
void bus__log_let_slot_go(struct log *log, uint32_t member);

/* Leaves it; the last one removes the file. */
void bus__log_close(struct log *log);

/* Whether the process in this slot lives; its own does. A system call. */
bool bus__log_is_alive(const struct log *log, uint32_t member);

/* Locks one byte of the lock file through the member's descriptor: 1, or 0 if another process holds it. A forked child
 * keeps such a lock until it closes that descriptor. All of these need the list's lock. */
int bus__log_lock_byte(struct log *log, int64_t byte);
void bus__log_unlock_byte(struct log *log, int64_t byte);

/* The same for a lock that no child keeps. *ret_hold, for bus__hold_end(), is NULL where the lock file cannot be opened again
 * (after setuid()): then it is one of bus__log_lock_byte(). */
int bus__log_hold_byte(struct log *log, int64_t byte, void **ret_hold);

/* Locks the bytes of all roles again that have no hold. */
void bus__log_roles_again(struct log *log);

void bus__log_lock_list(void);
void bus__log_unlock_list(void);

/* --- damage (turn.c) --------------------------------------------------------------------------------------------- */

/* Another program has written into the log. The first thread of a process that finds this out calls it. From then on every append
 * of this process answers BUS_E_DAMAGED at once, waiting ones too, and threads that sleep on the log wake up. */
void bus__log_break(struct log *log);

static inline bool
bus__log_is_damaged(const struct log *log)
{
	return atomic_load_explicit(&log->home->is_damaged, memory_order_relaxed);
}

/* --- roles (role.c) ---------------------------------------------------------------------------------------------- */

/* Takes a role, whose name is like a topic's, if it is free: 1 and *ret_role, or 0. Others ask again from time to time: a role
 * is free when its holder ends it or dies. A holder in this process counts as any other. BUS_E_LIMIT: the system has no more
 * locks; BUS_E_NOMEM, BUS_E_SYS. */
int bus__log_role_take(struct log *log, const char *name, uint64_t *ret_role);
void bus__log_role_end(struct log *log, uint64_t role);

/* --- writing (append.c, append_value.c) ------------------------------------------------------------------------- */

/* A topic as this process knows it, for as long as its bytes stay. Many threads may use one. */
struct log_topic {
	const char *name;
	uint32_t len;
	bool stays;    /* as a handle does: named_at is not in the process's memory too */
	uint64_t hash; /* of the name */
	/* The position of a record in which this process named it; 0: none that is known. Relaxed: it is stored behind the
	 * publish of that record, so an owner of the tail that reads it has that record before its own. */
	_Atomic uint64_t named_at;
};

/* Makes one of a name. */
void bus__log_topic(
    const struct log *log, const char *name, size_t len, struct log_topic *ret_topic);

/* A process's memory of names: for each topic, where it named it last. NULL: out of memory. */
struct log_memory *bus__log_memory_new(void);
void bus__log_memory_free(struct log_memory *memory);

/* A record of this process at this position, which is published, names the topic. */
void bus__log_remember(struct log *log, struct log_topic *topic, uint64_t position);

/* A record without its payload. */
struct log_item {
	struct log_topic *topic; /* NULL: it has none, as replies do */
	const void *headers;
	uint32_t headers_len;
	uint16_t flags; /* enum log_flag; LOG_HEADERS if there are some */
	uint8_t type;
	uint32_t origin;
	int64_t time_ns;    /* when it was published; 0: now */
	int64_t expires_ns; /* with LOG_EXPIRES */
	uint64_t reply;     /* with LOG_REPLY */
	int64_t until_ns; /* BUS_E_TIMEDOUT then; 0: it waits for its turn as long as that takes */
	const struct bus_slice
	    *parts; /* not NULL: the payload, instead of the bytes of its slice */
	size_t part_count;
	const struct bus__passed *passed; /* with LOG_PASSED */
};

/* The most that payload and headers of a record may have together. */
uint32_t bus__log_most(const struct log *log);

/* Appends records that differ only in their payloads, next to each other as long as they fit one segment. *ret_sequence is that of
 * the first. Returns the number of records appended, all or those before a failure, or an error. BUS_E_FULL: readers hold every
 * segment; BUS_E_LIMIT: values take all the room or places that they may; BUS_E_TOO_BIG; BUS_E_DAMAGED; BUS_E_STATE,
 * BUS_E_TIMEDOUT: see log/turn.h. Waits for its turn, which comes within about 0.1 s even if another writer dies or is stopped. */
int bus__log_append(struct log *log, const struct log_item *item, const struct bus_slice *payloads,
    size_t count, uint64_t *ret_sequence);

/* bus__log_append() of one record whose payload is item->parts, `len` bytes together. */
int bus__log_append_parts(struct log *log, const struct log_item *item, size_t len);

/* bus__log_append() of one record without flags, headers and a time. */
int bus__log_append_one(struct log *log, const struct log_item *item, const void *data, size_t len);

/* Appends a retained record with a version. `offer` NULL: a change made here, which gets the topic's next version. Otherwise
 * bus__offer_judge() decides. An older one is appended without being retained or, with LOG_KEPT, not at all. One that is
 * there already is not appended. One made here that has a larger number elsewhere is appended for its number alone. With LOG_KEPT,
 * the end of a value that is not there is noted, and is no news. The comparison and the append are one step. Answers as
 * bus__log_append(); 0: not appended; LOG_OURS: not appended, and the topic's value is to get *ret_ours as its version. */
#define LOG_OURS 2
int bus__log_append_value(struct log *log, const struct log_item *item, struct bus__offer *offer,
    const struct bus_slice *payload, uint64_t *ret_sequence, struct bus__version *ret_ours);

/* The id by which peers know the bus of a log. */
void bus__log_id(const struct log *log, uint8_t ret_id[BUS__BUS_ID]);

/* --- segments (segment.c) -------------------------------------------------------------------------------------- */

/* The memory of a segment, if it is still there; its first sequence. */
struct log_segment *bus__log_find(const struct log *log, uint64_t number, uint8_t **ret_bytes);
bool bus__log_first(const struct log *log, uint64_t number, uint64_t *ret_sequence);

/* The same for a reader: the memory is not reused until the reader pins other memory. *pin: the place + 1 of its pin,
 * which is released first; 0: none. NULL: the segment is gone, and nothing is pinned. *pin 0, and not NULL: readers hold the most places
 * allowed. The reader then copies (bus__log_copy()), and trusts the copy only after bus__log_was_there(). */
struct log_segment *bus__log_pin(
    struct log *log, uint32_t *pin, uint64_t number, const uint8_t **ret_bytes);
void bus__log_unpin(struct log *log, uint32_t *pin);

/* Whether the memory was the segment's until now. What a later claimer writes there comes behind what was read before this. */
bool bus__log_was_there(struct log_segment *segment, uint64_t number);

/* Copies a multiple of 8 bytes that other processes may write during the copy. copy.c explains why it has its own file. */
void bus__log_copy(void *to, const void *from, uint64_t bytes);

/* How many places readers may pin, of all processes together. */
static inline uint32_t
bus__log_most_pinned(const struct log *log)
{
	return log->segment_count < 8 ? 1 : log->segment_count / 4;
}

/* What became of a segment that bus__log_pin() did not find. LOG_GONE: its memory belongs to another segment. LOG_BACK: a
 * writer gave back its claim, pin again. LOG_MOVING: a writer holds a claim, and moves the values to another segment. */
enum log_fate { LOG_GONE, LOG_BACK, LOG_MOVING };
enum log_fate bus__log_fate(const struct log *log, uint64_t number);

/* How many records lie before `end`, or BUS_E_DAMAGED. */
int64_t bus__log_count(const uint8_t *bytes, uint64_t end);

/* Whether a reader, or a writer that lost the tail there, keeps the memory of an ended segment from being used again. */
bool bus__log_is_held(struct log *log, uint32_t place, uint64_t number);

/* Prepares the segment behind `number`, which ends at `end` after `sequence - 1` records since the beginning. Only for
 * the tail's owner, which may have been revoked without knowing. BUS_E_FULL: no memory is free. */
int bus__log_prepare_next(struct log *log, uint64_t number, uint64_t end, uint64_t sequence);

/* Has the kernel map the pages of the tail's segment from `at` to behind `end`: many at a time by a look at one of them,
 * while each that is written to first takes as long as a hundred small messages. Only as the tail's owner. */
void bus__log_map(struct log *log, uint64_t at, uint64_t end);

/* Undoes the unfinished work of the dead process that had this slot. Its pins pass to the new owner of the slot. */
void bus__log_recover(struct log *log, uint32_t member);

/* --- reading (cursor.c) ---------------------------------------------------------------------------------------- */

struct log_cursor {
	struct log *log;
	uint32_t pin;                /* the place + 1 that it holds; 0: none, so it copies */
	uint64_t number;             /* its segment */
	struct log_segment *segment; /* NULL: it was let go */
	const uint8_t *bytes; /* address of offset 0 for the readable part; may lie before it */
	uint8_t *copy;        /* of the readable part; NULL: it reads in place */
	size_t copy_cap;
	uint64_t at, limit; /* offsets of the readable part */
	uint64_t sequence;  /* of the record at `at` */
	uint64_t lost;      /* that went by unseen since bus__log_lost() was called */
	uint64_t word;    /* of the record that was given last, read once: others can write there */
	bool moving;      /* bus__log_kept() found none because a writer is moving it */
	uint64_t kept_at; /* the position of the record found */
};

/* Where a cursor begins: at the next record, at the oldest one, or at this sequence (the next if that one is not
 * there yet, the oldest after it if it is gone: then the difference is lost). */
enum log_from { LOG_FROM_NOW, LOG_FROM_OLDEST, LOG_FROM_SEQUENCE };

/* Opens a cursor. One thread at a time may use it. 0 or BUS_E_DAMAGED. */
int bus__log_cursor_open(
    struct log *log, enum log_from from, uint64_t sequence, struct log_cursor *ret_cursor);
void bus__log_cursor_close(struct log_cursor *cursor);

/* A cursor where another is, which holds nothing; bus__log_let_go() ends it. */
struct log_cursor bus__log_cursor_at(const struct log_cursor *cursor);

/* Goes elsewhere. BUS_E_DAMAGED: there is nothing to go to. */
int bus__log_seek(struct log_cursor *cursor, enum log_from from, uint64_t sequence);

/* The next record, NULL if there is none yet. It stays where it is until the next call. Its length has been checked
 * against the segment, nothing else. */
const struct log_record *bus__log_next(struct log_cursor *cursor);

/* The same where it lies in the segment that is held, as far as is known; NULL: then bus__log_next() finds out. */
static inline const struct log_record *
bus__log_next_here(struct log_cursor *c)
{
	const struct log_record *record = (const struct log_record *)(c->bytes + c->at);
	uint64_t bytes;

	if (c->at >= c->limit)
		return NULL;
	c->word = atomic_load_explicit(&record->word, memory_order_relaxed);
	bytes = record_bytes(c->word);
	if (bytes < sizeof *record || bytes % 8 != 0 || bytes > c->limit - c->at ||
	    record_is_carried(c->word))
		return NULL;
	c->at += bytes;
	c->sequence++;
	return record;
}

/* Returns the number of records skipped before the last one of bus__log_next(), since the last call of this function. */
uint64_t bus__log_lost(struct log_cursor *cursor);

/* Takes back the record that was given last, which comes again. */
void bus__log_unread(struct log_cursor *cursor);

/* Whether the records that were given lie in memory of the cursor's own, until the next call. */
static inline bool
bus__log_copies(const struct log_cursor *cursor)
{
	return cursor->segment != NULL && cursor->pin == 0;
}

/* Copies the record at an offset of a segment that was not pinned. 1; 0: the segment is gone; BUS_E_DAMAGED: no writer
 * leaves such bytes; BUS_E_NOMEM. The record stays until the cursor's next call; use the cursor for nothing else. */
int bus__log_copy_record(struct log_cursor *cursor, struct log_segment *segment, uint64_t number,
    const uint8_t *bytes, uint64_t at, const struct log_record **ret_record);

/* Copies what lies from cursor->at on and before `end` in the cursor's segment, which was not pinned, or as many whole records of it
 * as fit: these lie between `at` and `limit` then. The same answers. */
int bus__log_copy_part(struct log_cursor *cursor, const uint8_t *segment, uint64_t end);

/* The same of what lies before a copy and belongs to it, a multiple of 8 bytes: it goes behind the copy, to `room` of
 * LOG_COPY_ROOM bytes. Until the next copy; NULL: the segment is gone. */
#define LOG_COPY_ROOM (LOG_HEAD_MOST + BUS_LIMIT_TOPIC_BYTES + 16u)
const uint8_t *bus__log_copy_before(
    struct log_cursor *cursor, uint64_t at, uint64_t bytes, uint64_t room);

/* Releases the segment. A reader with nothing to read should do so, since no writer can reuse a held segment. Records
 * returned before are invalid from now on. If the memory is reused before the reader returns, its unread records are lost. */
void bus__log_let_go(struct log_cursor *cursor);

/* Where the cursor stands, and where the tail does. */
uint64_t bus__log_position(const struct log_cursor *cursor);

static inline uint64_t
bus__log_tail(const struct log *log)
{
	/* Acquire: pairs with the release of the publish, though readers look again. */
	return tail_position(atomic_load_explicit(&log->shared->tail, memory_order_acquire));
}

/* Sleeps until there may be news, at most until the deadline (monotonic ns). */
void bus__log_await(struct log_cursor *cursor, int64_t deadline_ns);

/* The same in parts. First what news changes is read; then a wake-up is asked for, unless (false) the tail is not at
 * `position` any more; then one sleeps, which ends after 250 ms anyway, as if there were news. 0, or
 * BUS_E_TIMEDOUT: the deadline has passed. */
static inline uint32_t
bus__log_news(const struct log *log)
{
	/* Acquire, and before a look at what else may be new: a wake-up for that changes it after. */
	return atomic_load_explicit(&log->shared->news, memory_order_acquire);
}

bool bus__log_ask(struct log *log, uint64_t position);
int bus__log_sleep(struct log *log, uint32_t seen, int64_t deadline_ns);

/* Wakes all sleepers for news outside the log. */
void bus__log_call(struct log *log);

/* What is in a record. data, headers and name point into it. */
struct log_view {
	const uint8_t *data, *headers;
	const char *name; /* with LOG_NAMED; without NUL */
	uint32_t len, headers_len, name_len;
	uint32_t topic, origin;
	uint16_t flags;
	uint8_t type;
	int64_t time_ns, expires_ns;
	uint64_t reply;
};

/* What is in a record, of which the cursor said `word`. false: its parts do not fit into it. */
bool bus__log_read(uint64_t word, const struct log_record *record, struct log_view *ret_view);

/* The name of the topic of the record that the cursor gave last, without NUL, which stays until its next call or the next call
 * of this. NULL: it has none, or the record that it points to does not name one; or the cursor copies, and that record was not
 * in the copy and is gone. */
const char *bus__log_name(
    struct log_cursor *cursor, const struct log_record *record, uint32_t *ret_len);

/* The same of a record of that first word, which lies whole where it is. NULL: it does not name its topic. */
const char *bus__log_own_name(const struct log_record *record, uint64_t word, uint32_t *ret_len);

/* --- values: reading (kept_read.c) ------------------------------------------------------------------------------ */

/* The last retained record of a topic that was published when the tail was at position `tail`, for
 * bus__log_read(); NULL: it has none, or one only behind that, or a writer is moving it (reader->moving). It may be an
 * empty one: that is the end of a value. The reader is a cursor for this alone; the record stays until its next call. */
const struct log_record *bus__log_kept(
    struct log_cursor *reader, const struct log_topic *topic, uint64_t tail);

/* Whether the topic's newest retained record lies behind `tail`. */
bool bus__log_is_kept_behind(const struct log *log, const struct log_topic *topic, uint64_t tail);

/* Whether the topic may have had a retained record before its newest. */
bool bus__log_had_another(struct log *log, const struct log_topic *topic);

/* Looks of one search for a value; begins as {0}. */
struct log_looks {
	uint32_t count;
	int64_t moving_since_ns; /* 0: no look found it moving */
};

/* After bus__log_kept() answered NULL: whether another look may find the value, because a writer moves it or its newest
 * retained record lies behind `tail`. Naps between later looks at a moving value, for a quarter of a second in all. */
bool bus__log_may_look_again(struct log_looks *looks, const struct log_cursor *reader,
    const struct log_topic *topic, uint64_t tail);

/* The value as of now: looks again for as long as bus__log_may_look_again() allows. */
const struct log_record *bus__log_kept_now(
    struct log_cursor *reader, const struct log_topic *topic);

/* Goes through all topics that have a retained record; begins as {0}. */
struct log_walk {
	uint64_t at;            /* the next place */
	struct log_looks looks; /* at it */
	bool waits;             /* for a moving value, as bus__log_may_look_again() does */
	bool moving;            /* it has skipped moving values */
};

/* The newest record of the next topic, as of now; *ret_topic lives as long as the record stays. Looks at no more than *left buckets,
 * and counts *left down. NULL: there is none, or *left is 0. A topic that keeps a value throughout is not missed. */
const struct log_record *bus__log_kept_next(
    struct log_cursor *reader, struct log_walk *walk, unsigned *left, struct log_topic *ret_topic);

/* --- values: versions (versions.c) ------------------------------------------------------------------------------ */

/* Whether a retained record, with its first word as the reader or the tail's owner read it, is a value now; and its version, {0}: it
 * has none. LOG_NO_VALUE: its mark has ended, or it is not retained. A value that has expired is a mark. */
enum log_value { LOG_NO_VALUE, LOG_A_VALUE, LOG_A_MARK };
enum log_value bus__log_value_of(const struct log *log, uint64_t word,
    const struct log_record *record, struct bus__version *ret_version);

/* A topic's newest retained record. */
struct log_newest {
	enum log_value kind;
	struct bus__version version; /* LOG_NO_VALUE: {0} */
	uint64_t theirs;             /* its number where it was made */
	uint64_t position, word;
	const struct log_record *record; /* where it lies, for as long as the reader holds it */
};

/* For the tail's owner, when the tail was at `tail`: the topic's newest record. The reader holds its memory, since an owner
 * that was revoked does not know it. */
void bus__log_newest(struct log_cursor *reader, const struct log_topic *topic, uint64_t tail,
    struct log_newest *ret_newest);

/* For the tail's owner, before it appends a mark: counts it, and ends the oldest ones if there are too many. */
void bus__log_bound_marks(struct log_cursor *reader, uint64_t tail);

/* --- values: places, and room (kept.c, kept_room.c, carry.c) ----------------------------------------------------- */

#define LOG_AHEAD 2 /* segments whose values are copied before they have to go */

/* For the tail's owner. Whether there is room for a topic's new value. All values together may take a quarter of the records' room;
 * those of $... one segment more, so that members can still join and leave. */
bool bus__log_may_keep(
    struct log *log, const struct log_topic *topic, uint64_t bytes, uint64_t tail);

/* For the tail's owner: the place that is to note a retained record of the topic at `position`. NULL: all places that it may have
 * are in use. */
struct log_place *bus__log_choose_place(struct log *log, const struct log_topic *topic,
    uint64_t position, uint64_t tail, uint64_t *ret_tag);

/* For the tail's owner, before the record is published: notes it. false: a revoked owner has just taken the place, choose another. */
bool bus__log_note_kept(struct log *log, struct log_place *place, uint64_t tag, uint64_t position,
    uint64_t word, uint64_t tail);

/* For the tail's owner: copies the values of the oldest segments to `at` and returns where they end. Of LOG_AHEAD segments, or of as
 * many as there is room for if `bytes` do not fit behind them. bus__log_carried() notes that the copies are published. */
uint64_t bus__log_carry(
    struct log *log, uint64_t at, uint64_t bytes, uint64_t ret_copied[LOG_MOST_SEGMENTS]);
void bus__log_carried(struct log *log, const uint64_t copied[LOG_MOST_SEGMENTS]);

void bus__log_recount_kept(struct log *log); /* counts all values anew, and their bytes */

/* The bytes that all values together may take, and their most number; and the present ones, or about as many. */
uint64_t bus__log_kept_most(const struct log *log);

/* Three quarters of the places: beyond that some topics find both buckets full. */
static inline uint64_t
bus__log_kept_count_most(const struct log *log)
{
	uint64_t places = (uint64_t)(log->buckets - LOG_OWN_BUCKETS) * LOG_BUCKET;

	return places - places / 4;
}

/* A count that a writer lost between its note and its sum may be short: never below 0. */
static inline uint64_t
bus__log_at_least_0(uint64_t count)
{
	return (int64_t)count > 0 ? count : 0;
}

static inline uint64_t
bus__log_kept_bytes(const struct log *log)
{
	return bus__log_at_least_0(
	    atomic_load_explicit(&log->shared->kept_bytes, memory_order_relaxed));
}

static inline uint64_t
bus__log_kept_count(const struct log *log)
{
	return bus__log_at_least_0(
	    atomic_load_explicit(&log->shared->kept_count, memory_order_relaxed));
}

/* The pid of the process in that slot, by its own account; 0: none. */
uint32_t bus__log_pid(const struct log *log, uint32_t member);

#endif
