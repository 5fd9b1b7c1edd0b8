/* log/layout.h: the file of a named bus as it lies in shared memory. docs/internals/log-format.md says the same byte by byte.
 *
 * Segments are numbered without end from 1 on, the same memory being used again and again: segment n holds the
 * positions from n * segment_bytes on. Every word here that outlives a transaction contains the number of the
 * segment it speaks of, and changes by CAS on what was read, so that a writer that was stopped and comes back late
 * cannot undo what its successor did.
 *
 * Memory order, writer -> reader:
 *   tail       release of the publish            -> acquire of the next owner, and of readers: all bytes before it
 *   life       seq_cst claim, then look at pins  |  seq_cst pin, then look at life: one of the two sees the other
 *   pins_end   seq_cst, before the first pin     -> seq_cst, after the claim: as the pins themselves
 *   life       acq_rel CAS of a reader that copied, to the same value -> seq_cst claim: the writes of a claimer come after the copy
 *   held       seq_cst, all of it, as the pins beside it: see below
 *   directory  release, after its `firsts`       -> acquire of a segment look-up
 *   appended   release by its member             -> acquire of a process that wants its segments: it writes no more there
 *   listens    release by its member, behind its file -> acquire of the file's readers: it has that many changes
 *   seal       seq_cst, before a take-over       -> seq_cst, after a lock: the new owner sees it
 *   count      relaxed: it is checked against the tail that it names
 *   tag, kept, retained  release, before the publish that makes them true -> acquire
 *   floor        relaxed: it only rises, and a late look at it gives a value that is older than it might be
 *   marks_over, marks  relaxed: of the owner
 *   news, turns  futex words: release, acquire */
#ifndef BUS_LOG_LAYOUT_H
#define BUS_LOG_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/passed.h"

#define LOG_VERSION 4u
#define LOG_LINE    64         /* bytes that travel between CPUs together */
#define LOG_MEMBERS 1022       /* processes at a time */
#ifndef LOG_PINS               /* a model has so few of these that it comes to an end */
#define LOG_PINS          1024 /* at least LOG_MEMBERS */
#define LOG_MOST_SEGMENTS 64
#define LOG_DIRECTORY     256   /* entries, for the numbers that were used last; a power of two */
#define LOG_COPY_BYTES    65536 /* that a reader without a pin copies at a time */
#define LOG_BUCKET        16    /* places for values in one bucket */
#define LOG_OWN_BUCKETS   256   /* for the bus's own topics: two values of each member */
#endif
#define LOG_PAGE 4096

extern const uint8_t bus__log_magic[8];

/* Written once, before the file has its name. */
struct log_head {
	uint8_t magic[8];
	uint32_t version;
	uint32_t segment_count;
	uint64_t epoch; /* random; never 0 */
	uint64_t file_bytes;
	uint64_t segment_bytes; /* a multiple of LOG_PAGE */
	uint64_t segments_begin;
	uint64_t kept_begin, kept_bytes; /* the index of values */
	uint64_t key[2];                 /* of the hash of topic names in it */
	int64_t created_ns;
};

struct log_member {
	_Atomic uint64_t appended; /* the segment of its last transaction */
	_Atomic uint32_t pid;      /* for people; 0: none */
	_Atomic uint32_t
	    listens; /* changes that its file of filters is to have << 16 | filters beyond those (listens.h); 0: none */
};

struct log_segment {
	alignas(LOG_LINE) _Atomic uint64_t life; /* the segment in this memory: see below */
	_Atomic uint64_t seal;  /* number << 10 | SEAL_..: appends to that segment have ended */
	_Atomic uint64_t count; /* low half of a tail / 8, and the number of records before it */
	_Atomic uint64_t
	    retained; /* its number, while it may have values that others have not been copied from */
	_Atomic uint32_t held; /* HELD_..: whether readers may pin this place */
};

/* What a member reads. Only its own process writes here, or the member that holds a dead one's slot. */
struct log_pins {
	alignas(32) _Atomic uint64_t
	    places; /* one bit for each place that it reads in; such places are not reused */
	_Atomic uint32_t reads; /* 1: it has a cursor; for people */
};

struct log_shared {
	struct log_head head;
	alignas(LOG_LINE) _Atomic uint64_t tail;  /* see below */
	alignas(LOG_LINE) _Atomic uint32_t news;  /* changes for readers that sleep */
	alignas(LOG_LINE) _Atomic uint32_t turns; /* changes for writers that wait */
	alignas(
	    LOG_LINE) _Atomic uint64_t kept_count; /* values but the bus's own, or about as many */
	_Atomic uint64_t kept_bytes; /* of the values of all topics, or about as much */
	_Atomic uint64_t floor;      /* the most changes of a topic's value that was forgotten */
	_Atomic int64_t marks_over;  /* marks that end by this time have ended, for want of room */
	_Atomic uint32_t marks;      /* of deletions, at most */
	_Atomic uint32_t pins_end;   /* no pins from here on were ever used; it only rises */
	alignas(LOG_LINE) struct log_member members[LOG_MEMBERS];
	struct log_segment segments[LOG_MOST_SEGMENTS];
	_Atomic uint64_t directory[LOG_DIRECTORY]; /* number << 8 | its place */
	_Atomic uint64_t
	    firsts[LOG_DIRECTORY];      /* low 16 bits of number << 48 | its first sequence */
	struct log_pins pins[LOG_PINS]; /* of member i: pins_of(i) */
};

/* Where the pins of a member are, and the other way round. Two fit a line, and members that are neighbours seldom share
 * one: the first slots are taken first. */
static inline uint32_t
pins_of(uint32_t member)
{
	return member < LOG_PINS / 2 ? 2 * member : 2 * (member - LOG_PINS / 2) + 1;
}

static inline uint32_t
pins_member(uint32_t at)
{
	return at / 2 + (at % 2) * (LOG_PINS / 2);
}

/* --- tail: position / 8 << 12 | owner << 2 | two bits ------------------------------------------------------ */

#define TAIL_SLEEPERS UINT64_C(1) /* readers wait for news */
#define TAIL_WAITERS  UINT64_C(2) /* writers wait for their turn */
#define TAIL_BITS     UINT64_C(3)
#define TAIL_OWNER    (UINT64_C(1023) << 2) /* member + 1; 0: free */

static inline uint64_t
tail_position(uint64_t word)
{
	return word >> 12 << 3;
}

static inline uint32_t
tail_owner(uint64_t word)
{
	return (uint32_t)(word >> 2) & 1023;
}

static inline uint64_t
tail_word(uint64_t position, uint32_t owner)
{
	return position << 9 | (uint64_t)owner << 2;
}

/* --- life: number << 28 | end / 8, or one of these in its place --------------------------------------------- */

#define LIFE_MASK  UINT64_C(0xfffffff)
#define LIFE_OPEN  UINT64_C(0xfffffff) /* the tail is in it, or will be */
#define LIFE_CLAIM UINT64_C(0xffff800) /* + member: it prepares this memory for that number */

static inline uint64_t
life_word(uint64_t number, uint64_t state)
{
	return number << 28 | state;
}

static inline uint64_t
life_number(uint64_t life)
{
	return life >> 28;
}

static inline bool
life_is_claimed(uint64_t life)
{
	return (life & LIFE_MASK) >= LIFE_CLAIM && (life & LIFE_MASK) != LIFE_OPEN;
}

/* Offset behind the last record; only when it has ended. */
static inline bool
life_has_ended(uint64_t life, uint64_t *ret_end)
{
	*ret_end = (life & LIFE_MASK) << 3;
	return (life & LIFE_MASK) < LIFE_CLAIM;
}

/* --- seal: number << 10 | the writer that may still write there ---------------------------------------------- */

#define SEAL_NOBODY UINT64_C(1023)

static inline uint64_t
seal_word(uint64_t number, uint64_t writer)
{
	return number << 10 | writer;
}

/* --- held: whether readers may pin a place --------------------------------------------------------------------
 *
 * At most one place in four is pinned, so that readers that do not come back hold up no writer; a reader that gets no pin
 * copies. The first reader of a place stores its pin, asks here, and then counts the places that others ask for, hold, or
 * have pinned: all seq_cst. Of two that ask at once, one at least counts the other. A word that says HELD_YES may
 * be cleared by anybody that finds no pin there; a reader that saw it before has its pin stored, where the next to count
 * sees it. So the words are read before the pins. */

#define HELD_NO    0u
#define HELD_YES   1u
#define HELD_ASKED 2u /* + member: it counts */

/* --- sequences ------------------------------------------------------------------------------------------------- */

#define SEQUENCE_MASK ((UINT64_C(1) << 48) - 1)

static inline uint64_t
first_word(uint64_t number, uint64_t sequence)
{
	return number << 48 | (sequence & SEQUENCE_MASK);
}

/* --- the index of values ----------------------------------------------------------------------------------------- */

/* Where the value of a topic is. The name is in its record: a topic whose hash has the same half may have this place as well.
 * The tag has that half, never 0, in its upper half, and the count of writes to the place in its lower. So a writer that was
 * stopped before it took the place detects that another has used it since. 0: never used. */
struct log_place {
	_Atomic uint64_t tag;
	_Atomic uint64_t kept
	    [2]; /* positions of the newest retained record and of the one before; they only rise */
};

static inline uint64_t
tag_word(uint32_t half, uint32_t count)
{
	return (uint64_t)half << 32 | count;
}

static inline uint32_t
tag_half(uint64_t tag)
{
	return (uint32_t)(tag >> 32);
}

/* --- records ---------------------------------------------------------------------------------------------------- */

enum log_flag {
	LOG_RETAIN = 1u << 0,
	LOG_EXPIRES = 1u << 1, /* a word has the monotonic time at which it expires */
	LOG_HEADERS = 1u << 2, /* a word has the number of bytes of headers behind the payload */
	LOG_REPLY = 1u << 3,   /* a word has the number of the request that it is or replies to */
	LOG_ANSWER = 1u << 4,  /* it is a reply, for `origin` alone */
	LOG_PASSED = 1u << 5,  /* a hub's link brought it: three words are a struct bus__passed */
	LOG_RELAYED = 1u << 6, /* a link brought it */
	LOG_CARRIED =
	    1u
	    << 7, /* a value again, in place of a record whose memory goes: no news, and no sequence */
	LOG_KEPT = 1u << 8, /* it was no news where a link brought it from */
	LOG_GAP =
	    1u
	    << 9, /* no message: a link lost some, of any topic; the payload is 8 bytes of how many and 1 byte, which is 1
			       if that is a lower bound */
	LOG_CHANGES =
	    1u << 10, /* a retained one; a word has how often the topic's value has been changed */
	LOG_OTHER = 1u << 11, /* two words have the id of the bus that did so; without: this one */
	LOG_MARK =
	    1u
	    << 12, /* an empty retained one; a word has the monotonic time until which it keeps older values away */
	LOG_THEIRS =
	    1u
	    << 13, /* of another bus; a word has its number of changes there, 0: unknown. Without: the same number */
	LOG_NAMED =
	    1u
	    << 14, /* a word has how many bytes of the topic's name stand behind the headers; every retained one */
	LOG_EMPTY = 1u << 15 /* a retained one without payload and headers: the end of a value */
};

#define LOG_GAP_BYTES 9

#define LOG_WORDS       ((unsigned)LOG_EXPIRES | LOG_HEADERS | LOG_REPLY)
#define LOG_VALUE_WORDS ((unsigned)LOG_CHANGES | LOG_OTHER | LOG_MARK | LOG_THEIRS)
#define LOG_MORE_WORDS  (LOG_PASSED | LOG_VALUE_WORDS | LOG_NAMED) /* which few records have */

#define LOG_WORDS_MOST (12u * 8u)
#define LOG_HEAD_MOST  (24u + LOG_WORDS_MOST)

/* How many words follow the head. */
static inline unsigned
record_words(unsigned flags)
{
	return (unsigned)__builtin_popcount(flags & (LOG_WORDS | LOG_MORE_WORDS)) +
	       ((flags & LOG_OTHER) != 0) + ((flags & LOG_PASSED) != 0 ? 2 : 0);
}

/* Then the words that the flags announce, in their order; the payload; the headers; the topic's name; up to 7 bytes of
 * padding. `topic` says where the record with the name is: 1 + its offset / 8 in the same segment, not behind this one.
 * 0: it has no topic. */
struct log_record {
	_Atomic uint64_t
	    word; /* bytes of all that, a multiple of 8: 0..31 | flags 32..47 | type 48..55 | padding */
	uint32_t topic;
	uint32_t origin; /* the member that wrote it, or for which it is */
	int64_t time_ns; /* wall clock, within some milliseconds */
};

static inline uint64_t
record_word(uint32_t bytes, unsigned flags, uint8_t type, unsigned padding)
{
	return bytes | (uint64_t)flags << 32 | (uint64_t)type << 48 | (uint64_t)padding << 56;
}

static inline uint32_t
record_bytes(uint64_t word)
{
	return (uint32_t)word;
}

static inline uint32_t
topic_at(uint64_t offset)
{
	return (uint32_t)(offset / 8) + 1;
}

/* Whether a retained record is a value, and not the end of one. */
static inline bool
record_is_value(uint64_t word)
{
	return (word >> 32 & (LOG_RETAIN | LOG_EMPTY)) == LOG_RETAIN;
}

static inline bool
record_is_carried(uint64_t word)
{
	return (word >> 32 & LOG_CARRIED) != 0;
}

/* Where the words of LOG_PASSED begin. */
static inline const void *
record_passed_at(uint64_t word, const struct log_record *record)
{
	return (const uint8_t *)(record + 1) +
	       8 * (size_t)record_words((unsigned)(word >> 32) & LOG_WORDS);
}

/* Who published a record that a hub's link brought. false: it says nothing of that, or its parts do not fit. */
static inline bool
record_passed(uint64_t word, const struct log_record *record, struct bus__passed *ret_passed)
{
	unsigned flags = (unsigned)(word >> 32) & (LOG_WORDS | LOG_PASSED);

	if (!(flags & LOG_PASSED) ||
	    record_bytes(word) < sizeof *record + 8 * (uint64_t)record_words(flags))
		return false;
	memcpy(ret_passed, record_passed_at(word, record), sizeof *ret_passed);
	return true;
}

_Static_assert(LOG_MOST_SEGMENTS <= 64, "a place is a bit of a word");
_Static_assert(sizeof(struct log_record) == 24, "a record has no holes");
_Static_assert(sizeof(struct log_head) <= 2 * LOG_LINE, "the head has its place");

#endif
