/* queue/ring.h: the ring of bytes behind every mailbox.
 *
 * Many producers, one taker at a time (the holder of the head lock). A frame is dense, 8-byte aligned:
 *
 *     word    length 0..31 | flags 32..47 | type 48..55     0: not committed yet
 *     route   where it goes; the ring does not look at it
 *     [lost]  [target]  [time]  [expiry]  [headers]  [reply]        8 bytes each, as the flags say
 *     [passed]   24 bytes, for a peer: struct bus__passed
 *     payload, then as many bytes of headers                or a pointer to a block with both (RING_BLOCK)
 *
 * Producers claim space by one CAS on `tail`, copy, and release-store the word. Positions are bytes
 * since the ring began, so they never wrap in a machine's life; the low bits of `tail` are free:
 *   RING_ASLEEP  the drainer sleeps. Whoever claims next clears it and owes exactly one wake-up.
 *   RING_CLOSED  no claim succeeds any more.
 * All claims and the drainer's going to sleep are read-modify-writes of this one word, hence totally
 * ordered: the sleep CAS succeeds only when every claim before it was taken out, and the first claim
 * after it sees the bit. No fence, no lost wake-up.
 *
 * Progress: a put is lock-free. A taker sees nothing behind a producer that stopped between claim and
 * commit until that one goes on (the window is a copy of at most 1 KiB; no user code runs in it).
 *
 * Memory order, writer -> reader:
 *   word       release by its producer           -> acquire by the taker: route and payload
 *   head       release by the taker              -> acquire by producers: the taker's zeroing and reads
 *   out        release by the taker              -> acquire by calls that count the contents: nothing depends on it
 *   limit      release by the producer that read head -> acquire by other producers: the same, passed on
 *   tail       acq_rel CAS of the sleeper        -> acquire CAS of the claimer: the drainer role may pass
 *              to the claimer (links), with all that the drainer wrote before it slept
 *   head_lock  acquire exchange, release store   : head, lost_at_head and what a taker keeps
 *   the rest   relaxed: counters that order nothing */
#ifndef BUS_QUEUE_RING_H
#define BUS_QUEUE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/passed.h"
#include "queue/block.h"
#include "queue/latest.h"

#define RING_LINE        64   /* bytes that travel between CPUs together */
#define RING_INLINE_MAX  1024 /* longer payloads go by block */
#define RING_SMALL_MAX   256  /* longer ones are copied by memcpy() */
#define RING_MIN_BYTES   4096 /* room for the largest frame at any offset */
#define RING_FRAME_HEAD  16   /* word and route */
#define RING_ASLEEP      UINT64_C(1)
#define RING_CLOSED      UINT64_C(2)
#define RING_FLAG_BITS   UINT64_C(7)
#define RING_TAKE_FRAMES 64
#define RING_TAKE_BYTES  8192
#define RING_BATCH_BYTES (RING_TAKE_BYTES + RING_INLINE_MAX + 88) /* of the memory behind a batch */
#define RING_MANY        32 /* most frames in one claim: a few KiB, as a take copies out at once */

enum ring_flag {
	RING_COMMITTED = 1u << 0,
	RING_PAD = 1u << 1, /* nothing but the word; length is the whole frame */
	RING_BLOCK =
	    1u << 2, /* the payload is a struct bus__block *, whose reference the frame owns */
	RING_LOST = 1u << 3,   /* a word says how many the mailbox lost right before */
	RING_TARGET = 1u << 4, /* a word names the one subscription that gets it */
	RING_TIME = 1u << 5,   /* a word has the time it was published */
	RING_RETAIN = 1u << 6,
	RING_KEPT = 1u << 7,
	RING_CELL = 1u << 8,     /* the payload is a struct cell *, which has the message itself */
	RING_OUT = 1u << 9,      /* in a batch: the value from the cell stands here */
	RING_TTL = 1u << 10,     /* a word has the time at which it expires */
	RING_HEADERS = 1u << 11, /* a word has the number of bytes of the length that are headers */
	RING_REPLY = 1u << 12,   /* a word has the number of the request that it is or replies to */
	RING_ANSWER = 1u << 13,  /* it is a reply */
	RING_NOBODY = 1u << 14,  /* and there will be none */
	RING_PASSED = 1u << 15   /* three words are a struct bus__passed; never with RING_TARGET */
};

/* A count of lost messages with this bit is a lower bound; the true count is unknown. */
#define RING_LOST_AT_LEAST (UINT64_C(1) << 63)

static inline uint64_t
bus__lost_sum(uint64_t left, uint64_t right)
{
	uint64_t sum = (left & ~RING_LOST_AT_LEAST) + (right & ~RING_LOST_AT_LEAST);

	if (sum & RING_LOST_AT_LEAST) /* only a lying peer can reach this count */
		sum = ~RING_LOST_AT_LEAST;
	return sum | ((left | right) & RING_LOST_AT_LEAST);
}

enum ring_answer { RING_OK, RING_WAKE, RING_FULL, RING_SHUT };

struct ring {
	/* What producers write. */
	_Alignas(
	    RING_LINE) _Atomic uint64_t tail; /* position of the next claim, with its flag bits */
	_Atomic uint64_t
	    limit; /* claims may end here without looking at head or at the buffer's end */
	_Atomic uint64_t lost_at_tail; /* dropped by their own producers since the last claim */
	_Atomic uint64_t dropped;      /* the same since the beginning */
	_Atomic uint64_t block_bytes;  /* in blocks that frames own */
	/* What takers write. */
	_Alignas(RING_LINE) _Atomic uint64_t head; /* everything before it is free again */
	_Atomic uint64_t out;                      /* everything before it was taken out */
	uint64_t run; /* from here to `out` it is copied and to be cleared; under the head lock */
	_Atomic uint32_t head_lock;
	uint64_t lost_at_head;    /* evicted since the last take; under the head lock */
	bool starved;             /* a producer waits for room; under the head lock */
	_Atomic uint64_t evicted; /* the same since the beginning */
	_Atomic uint64_t taken;
	/* Constant. */
	_Alignas(RING_LINE) uint8_t *bytes;
	uint64_t size, mask; /* a power of two, and one less */
};

/* What goes into a frame. Words that the flags do not announce are ignored. */
struct ring_item {
	void *route;
	const void *data, *headers;
	struct bus__block *
	    block; /* not NULL: instead of data, headers behind it; the frame takes over one reference */
	struct cell *cell;    /* not NULL: instead of both; len counts into the bound */
	uint32_t len;         /* of data and headers together */
	uint32_t headers_len; /* with RING_HEADERS, else 0 */
	uint16_t flags;       /* none of RING_COMMITTED, PAD, BLOCK, LOST, CELL, OUT */
	uint8_t type;
	union {
		void *target;                     /* with RING_TARGET */
		const struct bus__passed *passed; /* with RING_PASSED */
	};
	int64_t time_ns;
	int64_t expires_ns; /* monotonic */
	uint64_t reply;
};

/* Frames copied out, one behind the other as they stood in the ring. */
struct ring_batch {
	uint32_t count, used;
	uint64_t lost;       /* right before the first frame, besides what that says itself */
	uint64_t begin, end; /* the positions of the first frame and behind the last one */
	bool owns;           /* at least one frame owns a block or a cell's value */
	uint8_t *bytes;      /* RING_BATCH_BYTES, aligned to 8: the taker's memory */
};

/* A frame as a taker reads it. */
struct ring_view {
	void *route, *target;
	const void *data;
	uint64_t position; /* where it stood */
	uint32_t len;
	uint16_t flags;
	uint8_t type;
	uint64_t lost;
	int64_t time_ns;
	int64_t expires_ns;   /* with RING_TTL only */
	uint32_t headers_len; /* behind data, not in len; with RING_HEADERS only */
	uint64_t reply;       /* with RING_REPLY only */
	const void *passed;   /* with RING_PASSED only: a struct bus__passed, at any address */
};

/* The size of a ring of `bytes`. */
uint64_t bus__ring_bytes(size_t bytes);

/* Makes a ring of `bytes` rounded up to a power of two, at least RING_MIN_BYTES, whose positions begin at
 * `start` (a multiple of 8; 0 outside tests). It starts awake. 0 or BUS_E_NOMEM. */
int bus__ring_init(struct ring *r, size_t bytes, uint64_t start);

/* Frees the ring and the blocks in it. Nobody may use it any more. */
void bus__ring_fini(struct ring *r);

/* --- producers: any thread -------------------------------------------------------------------------- */

/* Copies payload and headers of an item that has no block: len bytes. */
void bus__ring_item_copy(uint8_t *to, const struct ring_item *item);

/* Puts one message in. RING_WAKE: it is in, and the caller owes the wake-up. RING_FULL, RING_SHUT: it is
 * not in, and a block is still the caller's. Lock-free. */
enum ring_answer bus__ring_put(struct ring *r, const struct ring_item *item);

/* The same in two steps, to do something between them. A claim that is not RING_OK or RING_WAKE is none.
 * Whoever has one commits or cancels at once, whatever happens: the taker waits for it. */
struct ring_claim {
	uint64_t position;
	uint32_t bytes;
	unsigned flags; /* of the item, and RING_LOST if the frame has room for it */
};
enum ring_answer bus__ring_claim(
    struct ring *r, const struct ring_item *item, struct ring_claim *ret_claim);
void bus__ring_commit(struct ring *r, const struct ring_claim *claim, const struct ring_item *item);

/* Clears what was copied out, if no taker is at work, so that it has room again. true: it does, try again. */
bool bus__ring_reclaim(struct ring *r);

/* Turns the claim into a gap that takers pass over. A block stays the caller's. */
void bus__ring_cancel(struct ring *r, const struct ring_claim *claim, const struct ring_item *item);

/* Drops the oldest messages until `item` should fit. false: they could not be had (a taker is at
 * work, or the oldest is not committed yet). Never waits longer than a bounded spin. */
bool bus__ring_evict(struct ring *r, const struct ring_item *item);

/* Counts a message that its producer gave up; the next accepted message carries it as lost. */
void bus__ring_drop(struct ring *r);

/* Makes the next accepted message carry losses that are counted elsewhere; lost may have RING_LOST_AT_LEAST. */
void bus__ring_tell(struct ring *r, uint64_t lost);

/* Takes away the losses that the next accepted message would carry, and returns them. */
uint64_t bus__ring_take_lost(struct ring *r);

/* Drops the losses that no message carries yet. The ring is empty. */
void bus__ring_forget_lost(struct ring *r);

/* Opens a closed ring again. */
void bus__ring_reopen(struct ring *r);

/* Asks takers for a sign when they made room: they read and clear `starved`. true: `item` may fit already,
 * try again instead. */
bool bus__ring_starve(struct ring *r, const struct ring_item *item);

/* --- the drainer ---------------------------------------------------------------------------------------- */

/* The head lock guards taking out. */
bool bus__ring_try_lock(struct ring *r);
void bus__ring_lock(
    struct ring *r); /* spins, then yields: the holder is inside a copy of some KiB */
void bus__ring_unlock(struct ring *r);

/* Looks up to `looks` times whether a taker would find something. Looks at the frame itself and not at tail, whose
 * cache line the producers write with every claim. Head lock held, since an evicting producer may clear
 * the frame and another one reuse its bytes. */
bool bus__ring_ready(struct ring *r, unsigned looks);

/* Copies out at most `most` frames (up to RING_TAKE_FRAMES) or RING_TAKE_BYTES. Returns batch->count. Head
 * lock held. The copied frames are cleared by the next take, by going to sleep, or by a producer that needs the room. Clearing
 * at once would cost more: those writes, to lines that the producer has just written, would have to end before the next
 * atomic operation of a callback. */
uint32_t bus__ring_take(struct ring *r, struct ring_batch *batch, uint32_t most);

/* Lets go of the blocks and values in a batch. */
void bus__ring_release(struct ring_batch *batch);

/* Goes to sleep: true unless something was claimed, it sleeps already or the ring is closed. Drainers only; no lock
 * held. */
bool bus__ring_sleep(struct ring *r);

/* The same where others may have gone to sleep before: true if it sleeps. The claim that ends the sleep is behind what
 * the caller wrote before. */
bool bus__ring_fall_asleep(struct ring *r);

/* Ends a sleep without a claim: true if it slept, and then the caller owes what a claim would. */
bool bus__ring_rouse(struct ring *r);

/* Refuses further claims. Returns tail with its flags as they were before. */
uint64_t bus__ring_close(struct ring *r);

/* Counts the committed messages inside, up to `most`. Head lock held. */
uint64_t bus__ring_count(const struct ring *r, uint64_t most);

static inline uint64_t
bus__ring_tail(const struct ring *r)
{
	return atomic_load_explicit(&r->tail, memory_order_acquire);
}

static inline uint64_t
bus__ring_head(const struct ring *r)
{
	return atomic_load_explicit(&r->head, memory_order_acquire);
}

static inline uint64_t
bus__ring_out(const struct ring *r)
{
	return atomic_load_explicit(&r->out, memory_order_acquire);
}

/* Whether the ring is empty and no producer is inside a claim. */
static inline bool
bus__ring_empty(const struct ring *r)
{
	return (bus__ring_tail(r) & ~RING_FLAG_BITS) == bus__ring_out(r);
}

/* --- the short way: what every publish and every delivery does -------------------------------------- */

static inline uint64_t
bus__ring_word(uint32_t len, unsigned flags, uint8_t type)
{
	return len | (uint64_t)(flags | RING_COMMITTED) << 32 | (uint64_t)type << 48;
}

static inline _Atomic uint64_t *
bus__ring_word_at(const struct ring *r, uint64_t position)
{
	return (_Atomic uint64_t *)(void *)(r->bytes + (position & r->mask));
}

static inline uint32_t
bus__ring_small_bytes(uint32_t len)
{
	return (RING_FRAME_HEAD + len + 7) & ~7u;
}

/* Claims `bytes` (a multiple of 8) below the limit as last seen, which ends where the buffer does, unless another
 * producer comes between. NULL: ask bus__ring_claim(), which knows the rest. Otherwise the claimed place, and
 * *ret_tail: where it begins, with the flag bits as they were. */
static inline uint8_t *
bus__ring_claim_here(struct ring *r, uint32_t bytes, uint64_t *ret_tail)
{
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	uint64_t end = (tail & ~RING_FLAG_BITS) + bytes;

	/* Acquire: pairs with the release of limit; the taker's zeroing came before. */
	if ((tail & RING_CLOSED) ||
	    atomic_load_explicit(&r->lost_at_tail, memory_order_relaxed) != 0 ||
	    (int64_t)(atomic_load_explicit(&r->limit, memory_order_acquire) - end) < 0)
		return NULL;
	*ret_tail = tail;
	/* Acquire: the drainer role may come with the sleep bit. Relaxed would do for the claim. */
	if (!atomic_compare_exchange_strong_explicit(
		&r->tail, &tail, end, memory_order_acquire, memory_order_relaxed))
		return NULL;
	return r->bytes + (tail & r->mask & ~RING_FLAG_BITS);
}

/* Copies in pieces of a fixed size, the last one over the end of the one before: a call of memcpy() would cost
 * as much as all the rest of a publish. */
static inline void
bus__ring_copy_in(uint8_t *to, const void *data, uint32_t len)
{
	const uint8_t *from = data, *end = from + len;

	if (len > 64) {
		for (; end - from > 32; from += 32, to += 32)
			memcpy(to, from, 32);
		memcpy(to - 32 + (end - from), end - 32, 32);
	} else if (len >= 32) {
		memcpy(to, from, 32);
		memcpy(to + len - 32, end - 32, 32);
	} else if (len >= 16) {
		memcpy(to, from, 16);
		memcpy(to + len - 16, end - 16, 16);
	} else if (len >= 8) {
		memcpy(to, from, 8);
		memcpy(to + len - 8, end - 8, 8);
	} else {
		while (from < end)
			*to++ = *from++;
	}
}

/* Writes a frame without extensions into a claimed place and shows it. */
static inline void
bus__ring_fill(uint8_t *at, const void *route, uint64_t word, const void *data)
{
	uint64_t route_word = (uintptr_t)route; /* 8 bytes on every machine */

	memcpy(at + 8, &route_word, 8);
	bus__ring_copy_in(at + RING_FRAME_HEAD, data, (uint32_t)word);
	/* Show the frame only now: pairs with the acquire in take and evict. */
	atomic_store_explicit((_Atomic uint64_t *)(void *)at, word, memory_order_release);
}

/* Reads what the flags of a frame say it has besides word, route and payload; its block; its cell's value. */
void bus__ring_read_more(uint8_t *frame, struct ring_view *view);

/* Bytes of the extensions that these flags announce, and of the whole frame. */
uint32_t bus__ring_frame_bytes(unsigned flags, uint32_t len);

#define RING_EXTENSIONS (RING_LOST | RING_TARGET | RING_TIME | RING_TTL | RING_HEADERS | RING_REPLY)
#define RING_MORE       (RING_EXTENSIONS | RING_PASSED | RING_BLOCK | RING_CELL)

/* Reads the frame at *offset of a batch and moves *offset to the next one. */
static inline void
bus__ring_read(struct ring_batch *batch, uint32_t *offset, struct ring_view *ret_view)
{
	uint8_t *frame = batch->bytes + *offset;
	struct ring_view *v = ret_view;
	uint64_t word, route;

	memcpy(&word, frame, 8);
	memcpy(&route, frame + 8, 8);
	v->route = (void *)(uintptr_t)route;
	v->len = (uint32_t)word;
	v->flags = (uint16_t)(word >> 32);
	v->type = (uint8_t)(word >> 48);
	v->position = batch->begin + *offset;
	v->lost = 0;
	v->target = NULL;
	v->time_ns = 0;
	v->data = frame + RING_FRAME_HEAD;
	if (v->flags & RING_MORE) {
		*offset += bus__ring_frame_bytes(v->flags, v->len);
		bus__ring_read_more(frame, v);
	} else {
		*offset += bus__ring_small_bytes(v->len);
	}
}

#endif
