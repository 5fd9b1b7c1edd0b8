/* log/append.c: writing to the log.
 *
 * Whoever makes itself the tail's owner by CAS copies its records behind the tail, and shows them and gives the tail
 * free by one CAS more. So a writer that dies in between has done nothing, and its successor has nothing to repair.
 * One that was only stopped is not waited for either: its segment is sealed first, so that whatever it still writes
 * lies where nobody reads; then the tail is taken, so that its publish fails. Whoever finds the tail in a sealed
 * segment goes on in the next one, and a taker that dies in between leaves that to another. */
#define _GNU_SOURCE
#include "log/log.h"

#include <string.h>

#include <libbus/error.h>

#include "base/clock.h"
#include "base/park.h"
#include "base/thread.h"
#include "log/stall.h"
#include "log/turn.h"

#define TURN_SPINS   400
#define TURN_WAIT_NS INT64_C(2000000)    /* then look whether the owner lives */
#define GIVE_UP_NS   INT64_C(1000000000) /* no process that follows the protocol has it for so long */
#define STOPPED_NS   TURN_STOPPED_NS     /* the same for an owner of the tail */

/* A transaction: the tail as it was when it became ours. */
struct turn {
	uint64_t word;  /* without its two low bits */
	uint64_t at;    /* offset in the segment */
	uint32_t count; /* records before it there */
};

/* --- the turn of this process ------------------------------------------------------------------------------------ */

/* Has *writer be what to append with, if it is NULL, and tell it how long the append may take. */
static int
enter(struct log *log, const struct log_item *item, struct log **writer)
{
	int err = 0;

	if (*writer == NULL && !bus__log_enter(log, writer))
		err = bus__log_enter_slowly(log, item->until_ns, writer);
	if (err == 0)
		(*writer)->until_ns = item->until_ns;
	return err;
}

/* Ends an append that has failed. Damage is known from then on. */
static int
leave(struct log *writer, int err)
{
	if (err == BUS_E_DAMAGED)
		bus__log_break(writer);
	bus__log_leave(writer);
	return err;
}

/* --- the tail --------------------------------------------------------------------------------------------------- */

/* Seals the segment in which `word` has the tail. `writer` may still write there, or nobody. */
static bool
seal(struct log *log, uint64_t word, uint64_t writer)
{
	uint64_t number = tail_position(word) / log->segment_bytes, seen;
	uint8_t *bytes;
	struct log_segment *segment = bus__log_find(log, number, &bytes);

	if (segment == NULL)
		return false; /* the tail has gone on */
	seen = atomic_load_explicit(&segment->seal, memory_order_seq_cst);
	/* The first seal counts: whoever comes after it does not write there. */
	while (seen >> 10 < number &&
	       !atomic_compare_exchange_weak_explicit(&segment->seal, &seen,
		   seal_word(number, writer), memory_order_seq_cst, memory_order_seq_cst))
		;
	return seen >> 10 <= number;
}

/* The writer that a seal was made for has moved the tail in time: it writes there no more. */
static void
unseal(struct log *log, uint64_t word)
{
	uint64_t number = tail_position(word) / log->segment_bytes;
	uint64_t sealed = seal_word(number, tail_owner(word));
	uint8_t *bytes;
	struct log_segment *segment = bus__log_find(log, number, &bytes);

	if (segment != NULL)
		atomic_compare_exchange_strong_explicit(&segment->seal, &sealed,
		    sealed | SEAL_NOBODY, memory_order_seq_cst, memory_order_relaxed);
}

/* Takes the tail from an owner that is dead, or has been stopped. false: it has moved. */
static bool
take_over(struct log *log, uint64_t word, bool dead)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t held = word & ~TAIL_BITS, seen = word;

	if (!seal(log, word, dead ? SEAL_NOBODY : tail_owner(word)))
		return false;
	bus__log_stall(LOG_STALL_SEALED);
	do {
		if ((seen & ~TAIL_BITS) != held) {
			if (tail_owner(seen) != tail_owner(held))
				unseal(log, word);
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(tail, &seen,
	    (seen & ~TAIL_OWNER) | (uint64_t)(log->member + 1) << 2, memory_order_seq_cst,
	    memory_order_seq_cst));
	return true;
}

/* Whether the tail has been `held` for a while where no correct writer leaves it: in a segment that is not there, or that cannot be
 * sealed, since its seal names a later one; or its owner is none. */
static bool
is_nonsense(struct log *log, uint64_t held)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	struct log_segment *segment;
	uint8_t *bytes;
	bool found;

	/* Acquire: what its segment was given before the tail went there. */
	if ((atomic_load_explicit(tail, memory_order_acquire) & ~TAIL_BITS) != held)
		return false;
	segment = bus__log_find(log, tail_position(held) / log->segment_bytes, &bytes);
	found = segment != NULL && tail_owner(held) <= LOG_MEMBERS &&
		atomic_load_explicit(&segment->seal, memory_order_seq_cst) >> 10 <=
		    tail_position(held) / log->segment_bytes;

	/* Behind that look: the segment was gone because the tail had moved, or it was not. */
	return !found && (atomic_load_explicit(&log->shared->tail, memory_order_seq_cst) &
			     ~TAIL_BITS) == held;
}

/* Waits until the tail may be free. true: it has become ours. */
static __attribute__((noinline)) bool
await_turn(struct log *log, struct log_patience *patience, uint64_t *word)
{
	struct log_shared *shared = log->shared;
	uint64_t held = *word & ~TAIL_BITS, seen;
	uint32_t turn;
	int64_t now;

	for (unsigned i = 0; bus__cpus() > 1 && i < TURN_SPINS; i++) {
		bus__cpu_relax();
		*word = atomic_load_explicit(&shared->tail, memory_order_relaxed);
		if ((*word & ~TAIL_BITS) != held)
			return false;
	}
	now = bus__now_ns();
	if (patience->word != held) {
		patience->word = held;
		patience->since_ns = now;
	}
	/* Ours without a transaction under way: left by a dead one that had this slot. */
	if (tail_owner(held) == log->member + 1)
		return take_over(log, held, true);
	/* Read before the bit is set: whoever clears it changes this after. */
	turn = atomic_load_explicit(&shared->turns, memory_order_acquire);
	seen = *word;
	while (!(seen & TAIL_WAITERS))
		if (atomic_compare_exchange_weak_explicit(&shared->tail, &seen, seen | TAIL_WAITERS,
			memory_order_relaxed, memory_order_relaxed) ||
		    (seen & ~TAIL_BITS) != held)
			break;
	if ((seen & ~TAIL_BITS) == held)
		bus__park_shared(&shared->turns, turn, now + TURN_WAIT_NS);
	*word = atomic_load_explicit(&shared->tail, memory_order_relaxed);
	/* This thread waits, it does not stall: others of its process leave it the turn. Relaxed: they look at nothing else. */
	atomic_fetch_add_explicit(&log->home->handed, 1, memory_order_relaxed);
	if ((*word & ~TAIL_BITS) != held || bus__now_ns() - now < TURN_WAIT_NS / 2)
		return false;
	if (!bus__log_is_alive(log, tail_owner(held) - 1))
		return take_over(log, held, true);
	now = bus__now_ns();
	return (now - patience->since_ns >= STOPPED_NS ||
		   bus__log_is_pressed(now, log->until_ns)) &&
	       take_over(log, held, false);
}

/* What lock_tail() answers instead of a tail, whose two low bits it clears. */
#define TAIL_DAMAGED UINT64_C(1)
#define TAIL_LATE    UINT64_C(2)
#define TAIL_WAITS   UINT64_C(3)

/* Looks a few times whether the tail is given free. */
static bool
spin(_Atomic uint64_t *tail, uint64_t *word)
{
	for (unsigned i = 0; i < TURN_SPINS && (*word & TAIL_OWNER) != 0; i++) {
		bus__cpu_relax();
		*word = atomic_load_explicit(tail, memory_order_relaxed);
	}
	return (*word & TAIL_OWNER) == 0;
}

/* What lock_tail() answered is no tail. */
static int
tail_error(uint64_t word)
{
	static const int errors[] = {[TAIL_DAMAGED] = BUS_E_DAMAGED,
	    [TAIL_LATE] = BUS_E_TIMEDOUT,
	    [TAIL_WAITS] = BUS__E_WAITS};

	return errors[word];
}

/* The same when somebody had it, or got it before us: `word` is what was seen. */
static __attribute__((noinline)) uint64_t
wait_for_tail(struct log *log, uint64_t word)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t me = (uint64_t)(log->member + 1) << 2;
	struct log_patience patience =
	    log->patience; /* others of this process have waited for it */

	log->patience.word = 0;
	for (;;) {
		if ((word & TAIL_OWNER) == 0) {
			if (atomic_compare_exchange_weak_explicit(
				tail, &word, word | me, memory_order_seq_cst, memory_order_relaxed))
				return (word | me) & ~TAIL_BITS;
		} else if (!bus__may_wait()) {
			if (!spin(tail, &word))
				return TAIL_WAITS;
		} else if (await_turn(log, &patience, &word)) {
			/* Not what the tail is by now: it may have been taken from us again. */
			return (word & ~(TAIL_BITS | TAIL_OWNER)) | me;
		} else if (patience.word != 0 && patience.word == (word & ~TAIL_BITS)) {
			int64_t now = bus__now_ns();

			if (is_nonsense(log, patience.word) || now - patience.since_ns > GIVE_UP_NS)
				return TAIL_DAMAGED;
			if (log->until_ns != 0 && now >= log->until_ns)
				return TAIL_LATE;
		}
	}
}

/* Makes the tail ours, or TAIL_DAMAGED: it is not what a writer leaves; TAIL_LATE: log->until_ns has passed; TAIL_WAITS: this thread
 * must not wait. */
static inline uint64_t
lock_tail(struct log *log)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t word = atomic_load_explicit(tail, memory_order_relaxed);
	uint64_t me = (uint64_t)(log->member + 1) << 2;

	/* Acquire: what the last owner wrote. Seq_cst: whoever sealed the segment did so before. */
	if ((word & TAIL_OWNER) == 0 && atomic_compare_exchange_strong_explicit(tail, &word,
					    word | me, memory_order_seq_cst, memory_order_relaxed))
		return (word | me) & ~TAIL_BITS;
	return wait_for_tail(log, word);
}

static __attribute__((noinline)) void
wake(struct log *log, uint64_t bits)
{
	struct log_shared *shared = log->shared;

	bus__log_stall(LOG_STALL_WAKE);
	if (bits & TAIL_SLEEPERS) {
		atomic_fetch_add_explicit(&shared->news, 1, memory_order_release);
		bus__unpark_shared(&shared->news);
	}
	if (bits & TAIL_WAITERS) {
		atomic_fetch_add_explicit(&shared->turns, 1, memory_order_release);
		bus__unpark_shared(&shared->turns);
	}
}

/* Moves the tail to `position`, and gives it free or keeps it. false: it was taken from us. */
static inline bool
move_tail(struct log *log, struct turn *turn, uint64_t position, bool keep)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t seen = turn->word, next = tail_word(position, keep ? log->member + 1 : 0);

	/* Release: the records, for readers and for the next owner. */
	while (!atomic_compare_exchange_weak_explicit(tail, &seen,
	    keep ? next | (seen & TAIL_BITS) : next, memory_order_release, memory_order_relaxed))
		if ((seen & ~TAIL_BITS) != turn->word)
			return false;
	turn->word = next;
	if (!keep && (seen & TAIL_BITS))
		wake(log, seen & TAIL_BITS);
	return true;
}

/* --- the segment of the tail -------------------------------------------------------------------------------------- */

/* Makes the tail's segment the one that we know. */
static __attribute__((noinline)) bool
adopt(struct log *log, uint64_t number)
{
	uint8_t *bytes;
	struct log_segment *segment = bus__log_find(log, number, &bytes);

	if (segment == NULL || !bus__log_first(log, number, &log->first))
		return false;
	log->number = number;
	log->begin = number * log->segment_bytes;
	log->segment = segment;
	log->bytes = bytes;
	log->mapped = log->mapped_of[segment - log->shared->segments];
	/* Release: pairs with is_written(): we are through with all segments before. */
	atomic_store_explicit(
	    &log->shared->members[log->member].appended, number, memory_order_release);
	return true;
}

/* Finds where in its segment the tail is, and how many records lie there. false: the log is damaged. */
static inline bool
locate(struct log *log, struct turn *turn)
{
	uint64_t position = tail_position(turn->word), noted;
	int64_t count;

	turn->at = position - log->begin;
	if (turn->at >= log->segment_bytes || log->segment == NULL) {
		if (!adopt(log, position / log->segment_bytes))
			return false;
		turn->at = position - log->begin;
	}
	noted = atomic_load_explicit(&log->segment->count, memory_order_relaxed);
	turn->count = (uint32_t)noted;
	if (noted >> 32 == (uint32_t)(position >> 3))
		return true;
	/* Its writer lost the tail behind this note, or nothing was appended here yet. */
	count = bus__log_count(log->bytes, turn->at);
	turn->count = (uint32_t)count;
	return count >= 0;
}

static inline bool
is_sealed(const struct log *log)
{
	return atomic_load_explicit(&log->segment->seal, memory_order_seq_cst) >> 10 == log->number;
}

/* If it is for us that the segment is kept, it need not be any longer. */
static __attribute__((noinline)) void
acknowledge(struct log *log)
{
	uint64_t mine = seal_word(log->number, log->member + 1);

	if (log->segment != NULL && /* it has found one */
	    atomic_load_explicit(&log->segment->seal, memory_order_seq_cst) == mine)
		atomic_compare_exchange_strong_explicit(&log->segment->seal, &mine,
		    mine | SEAL_NOBODY, memory_order_seq_cst, memory_order_relaxed);
}

static void
note_count(struct log *log, const struct turn *turn)
{
	uint64_t tail = log->begin + turn->at;

	atomic_store_explicit(
	    &log->segment->count, tail >> 3 << 32 | turn->count, memory_order_relaxed);
}

/* Copies to the new segment the values whose memory is used next; more of them if what is to be written here, so
 * many bytes, does not fit behind those. */
static int
carry(struct log *log, struct turn *turn, uint64_t bytes)
{
	bool moves = log->rescue != 0;
	uint64_t copied[LOG_MOST_SEGMENTS], end = bus__log_carry(log, turn->at, bytes, copied);

	if (end != turn->at) {
		turn->at = end;
		note_count(log, turn);
		bus__log_stall(LOG_STALL_CARRIED);
		if (!move_tail(log, turn, log->begin + end, true)) {
			if (moves)
				bus__log_stall(LOG_STALL_UNMOVED);
			return BUS_E_TIMEDOUT;
		}
	}
	if (moves) {
		bus__log_stall(LOG_STALL_MOVED);
		bus__log_recount_kept(
		    log); /* a note did not see what it replaced in claimed memory */
	}
	bus__log_carried(log, copied);
	return 0;
}

/* Goes to the next segment. */
static __attribute__((noinline)) int
roll(struct log *log, struct turn *turn, uint64_t bytes)
{
	uint64_t number = log->number;
	int err = bus__log_prepare_next(log, number, turn->at, log->first + turn->count);

	if (err < 0)
		return err;
	if (!move_tail(log, turn, (number + 1) * log->segment_bytes, true)) {
		if (log->rescue != 0)
			bus__log_stall(LOG_STALL_UNMOVED);
		log->rescue = 0;
		return BUS_E_TIMEDOUT;
	}
	return locate(log, turn) ? carry(log, turn, bytes) : BUS_E_DAMAGED;
}

/* Goes to a segment where so many bytes may be written. */
static inline int
make_room(struct log *log, struct turn *turn, uint64_t bytes)
{
	/* Values that are carried along may fill a new one at once, but not half of all. */
	for (uint32_t rolls = 0; rolls < log->segment_count / 2 + 1; rolls++) {
		int err;

		if (!is_sealed(log) && bytes < log->segment_bytes - turn->at)
			return 0;
		err = roll(log, turn, bytes);
		if (err < 0)
			return err;
	}
	return BUS_E_FULL;
}

/* --- records ---------------------------------------------------------------------------------------------------- */

/* Whether the first record of the item in the tail's segment names its topic: this process has not, as far as it knows. */
static bool
has_to_name(const struct log *log, const struct log_item *item)
{
	return item->topic != NULL &&
	       atomic_load_explicit(&item->topic->named_at, memory_order_relaxed) - log->begin >=
		   log->segment_bytes;
}

/* Of the whole record. */
static inline uint64_t
record_size(const struct log_item *item, const struct bus_slice *payload, bool names)
{
	uint64_t bytes = sizeof(struct log_record) + payload->len + item->headers_len;

	if (item->flags & LOG_WORDS)
		bytes += 8 * (uint64_t)__builtin_popcount(item->flags & LOG_WORDS);
	if (names)
		bytes += sizeof(uint64_t) + item->topic->len;
	return (bytes + 7) & ~UINT64_C(7);
}

static uint8_t *
write_words(uint8_t *at, const struct log_item *item)
{
	const uint64_t words[] = {(uint64_t)item->expires_ns, item->headers_len, item->reply};
	static const uint16_t announced[] = {LOG_EXPIRES, LOG_HEADERS, LOG_REPLY};

	for (int i = 0; i < 3; i++)
		if (item->flags & announced[i]) {
			memcpy(at, &words[i], sizeof words[i]);
			at += sizeof words[i];
		}
	return at;
}

static uint8_t *
write_word(uint8_t *at, uint64_t word)
{
	memcpy(at, &word, sizeof word);
	return at + sizeof word;
}

/* Shows that there is a record, when the rest of it is there. */
static inline void
write_head(uint8_t *to, uint32_t topic, const struct log_item *item, uint64_t word, int64_t time_ns)
{
	struct log_record *record = (struct log_record *)to;

	/* Nobody reads it before the tail has moved; atomic, since a reader that was lapped looks at it. */
	atomic_store_explicit(&record->word, word, memory_order_relaxed);
	record->topic = topic;
	record->origin = item->origin;
	record->time_ns = time_ns;
}

/* Writes what comes behind the words, and then the head. Returns its first word. */
static inline uint64_t
write_rest(uint8_t *to, uint8_t *at, uint32_t topic, const struct log_item *item,
    const struct bus_slice *payload, uint64_t bytes, int64_t time_ns)
{
	uint64_t word;

	if (payload->len > 0)
		memcpy(at, payload->data, payload->len);
	at += payload->len;
	if (item->headers_len > 0)
		memcpy(at, item->headers, item->headers_len);
	at += item->headers_len;
	if (item->flags & LOG_NAMED) {
		memcpy(at, item->topic->name, item->topic->len);
		at += item->topic->len;
	}
	word = record_word((uint32_t)bytes, item->flags, item->type, (unsigned)(to + bytes - at));
	write_head(to, topic, item, word, time_ns);
	return word;
}

/* topic: of the record. */
static void
write_record(uint8_t *to, uint32_t topic, const struct log_item *item,
    const struct bus_slice *payload, uint64_t bytes, int64_t time_ns)
{
	uint8_t *at = to + sizeof(struct log_record);

	if (item->flags & LOG_WORDS)
		at = write_words(at, item);
	if (item->flags & LOG_NAMED)
		at = write_word(at, item->topic->len);
	write_rest(to, at, topic, item, payload, bytes, time_ns);
}

uint32_t
bus__log_most(const struct log *log)
{
	/* With every word that a record can have, and the longest name. The last 8 bytes of a segment are never used, so that
	 * the tail at its end is still in it. */
	return (uint32_t)(log->segment_bytes - sizeof(struct log_record) - 9 * 8 -
			  BUS_LIMIT_TOPIC_BYTES);
}

static bool
is_too_big(const struct log *log, const struct log_item *item, const struct bus_slice *payload)
{
	return payload->len + item->headers_len > bus__log_most(log);
}

/* Writes as many as fit, the first of which does, and names the topic there if that is said. Returns how many. */
static size_t
write_records(struct log *log, struct turn *turn, const struct log_item *item,
    const struct bus_slice *payloads, size_t count, uint64_t bytes, bool names)
{
	int64_t time_ns = item->time_ns != 0 ? item->time_ns : bus__wall_coarse_ns();
	struct log_item first = *item;
	uint32_t topic = 0;
	size_t i = 0;

	if (names)
		topic = topic_at(turn->at);
	else if (item->topic != NULL)
		topic =
		    topic_at(atomic_load_explicit(&item->topic->named_at, memory_order_relaxed) -
			     log->begin);
	if (names)
		first.flags |= LOG_NAMED;
	for (;;) {
		write_record(log->bytes + turn->at, topic, i == 0 ? &first : item, &payloads[i],
		    bytes, time_ns);
		turn->at += bytes;
		if (i == count / 2)
			bus__log_stall(LOG_STALL_COPIED);
		if (++i == count)
			break;
		bytes = record_size(item, &payloads[i], false);
		if (bytes >= log->segment_bytes - turn->at || is_too_big(log, item, &payloads[i]))
			break;
	}
	turn->count += (uint32_t)i;
	return i;
}

/* One transaction: as many as fit one segment, at least one. */
static int
append_some(struct log *log, const struct log_item *item, const struct bus_slice *payloads,
    size_t count, uint64_t *ret_sequence)
{
	size_t written;

	if (is_too_big(log, item, payloads))
		return BUS_E_TOO_BIG;
	for (;;) {
		struct turn turn = {.word = lock_tail(log)};
		uint64_t bytes = 0, begin;
		bool names = false;
		int err = 0;

		if (turn.word & TAIL_BITS)
			return tail_error(turn.word);
		bus__log_stall(LOG_STALL_LOCKED);
		if (!locate(log, &turn))
			err = BUS_E_DAMAGED;
		/* In another segment it has to be named again. */
		for (begin = UINT64_MAX; err == 0 && begin != log->begin;) {
			begin = log->begin;
			names = has_to_name(log, item);
			bytes = record_size(item, payloads, names);
			err = make_room(log, &turn, bytes);
		}
		if (err == 0 && turn.at + bytes > log->mapped)
			bus__log_map(log, turn.at, turn.at + bytes);
		if (err < 0) {
			/* Free for others, unless it was taken from us: then the error is of no account. */
			if (!move_tail(log, &turn, tail_position(turn.word), false))
				continue;
			acknowledge(log);
			return err;
		}
		begin = log->begin + turn.at;
		*ret_sequence = (log->first + turn.count) & SEQUENCE_MASK;
		written = write_records(log, &turn, item, payloads, count, bytes, names);
		bus__log_stall(LOG_STALL_PUBLISH);
		note_count(log, &turn);
		if (move_tail(log, &turn, log->begin + turn.at, false)) {
			/* Only now: of a writer that was revoked nothing is there. */
			if (names)
				bus__log_remember(log, item->topic, begin);
			acknowledge(log);
			return (int)written;
		}
		acknowledge(log);
	}
}

/* --- values ----------------------------------------------------------------------------------------------------- */

/* A retained record, as it is decided that it is. */
struct value {
	struct log_item item;
	struct bus__version version;
	int64_t until_ns; /* with LOG_MARK */
	uint64_t theirs;  /* with LOG_THEIRS */
	bool is_news;     /* it has a sequence */
};

static uint64_t
value_size(const struct value *value, const struct bus_slice *payload)
{
	return (sizeof(struct log_record) + 8 * (uint64_t)record_words(value->item.flags) +
		   payload->len + value->item.headers_len +
		   (value->item.flags & LOG_NAMED ? value->item.topic->len : 0) + 7) &
	       ~UINT64_C(7);
}

/* Returns its first word. */
static uint64_t
write_value(uint8_t *to, uint32_t topic, const struct value *value, const struct bus_slice *payload,
    uint64_t bytes, int64_t time_ns)
{
	const struct log_item *item = &value->item;
	uint8_t *at = write_words(to + sizeof(struct log_record), item);

	if (item->flags & LOG_CHANGES)
		at = write_word(at, value->version.changes);
	if (item->flags & LOG_OTHER) {
		memcpy(at, value->version.bus, sizeof value->version.bus);
		at += sizeof value->version.bus;
	}
	if (item->flags & LOG_MARK)
		at = write_word(at, (uint64_t)value->until_ns);
	if (item->flags & LOG_THEIRS)
		at = write_word(at, value->theirs);
	if (item->flags & LOG_NAMED)
		at = write_word(at, item->topic->len);
	return write_rest(to, at, topic, item, payload, bytes, time_ns);
}

/* The topic's next version. */
static struct bus__version
next_version(const struct log *log, const struct bus__version *now)
{
	struct bus__version next = {.changes = now->changes};

	if (next.changes == 0)
		next.changes = atomic_load_explicit(&log->shared->floor, memory_order_relaxed);
	next.changes += next.changes < UINT64_MAX;
	bus__log_id(log, next.bus);
	return next;
}

/* How what is to be appended compares with what the topic has. */
static int
compare_content(
    const struct log_newest *now, const struct log_item *item, const struct bus_slice *payload)
{
	struct bus__content offered = {.len = 0}, has = {.len = 0};
	struct log_view v;

	if (payload->len > 0)
		offered = (struct bus__content){
		    payload->data, item->headers, payload->len, item->headers_len, item->type};
	if (now->kind == LOG_NO_VALUE)
		return -1;
	if (now->kind == LOG_A_VALUE) {
		if (!bus__log_read(now->word, now->record, &v))
			return -1;
		has = (struct bus__content){v.data, v.headers, v.len, v.headers_len, v.type};
	}
	return bus__content_compare(&offered, &has);
}

enum fate { FATE_IN, FATE_OUT, FATE_OURS };

/* Decides what becomes of what another bus made, by what the topic has now. */
static enum fate
decide_offer(struct log *log, const struct log_newest *now, struct bus__offer *offer,
    const struct bus_slice *payload, struct value *value)
{
	struct bus__standing standing = {.version = now->version, .theirs = now->theirs};
	enum bus__verdict verdict;
	uint8_t own[BUS__BUS_ID];

	bus__log_id(log, own);
	standing.is_recent = now->position >= offer->since && !record_is_carried(now->word);
	if (bus__offer_asks(offer, &standing, own))
		standing.content = compare_content(now, &value->item, payload);
	verdict = bus__offer_judge(offer, &standing, own);
	value->version = bus__offer_version(verdict, offer, &standing, &value->theirs);
	switch (verdict) {
	case BUS__OFFER_SAME:
		return FATE_OUT;
	case BUS__OFFER_OURS:
		return FATE_OURS;
	case BUS__OFFER_OLDER:
		value->item.flags &= (uint16_t)~LOG_RETAIN;
		return offer->is_kept ? FATE_OUT : FATE_IN;
	case BUS__OFFER_RAISES:
		value->is_news = false;
		return FATE_IN;
	default:
		/* The end of what was not there. */
		value->is_news =
		    payload->len > 0 || !(value->item.flags & LOG_KEPT) || now->kind == LOG_A_VALUE;
		return FATE_IN;
	}
}

/* Decides what becomes of a retained record. Owner. */
static enum fate
decide(struct log *log, struct log_cursor *reader, uint64_t tail, const struct log_item *item,
    struct bus__offer *offer, const struct bus_slice *payload, struct value *ret_value)
{
	struct log_newest now;
	uint8_t own[BUS__BUS_ID];
	enum fate fate = FATE_IN;

	*ret_value = (struct value){.item = *item, .is_news = true};
	if (item->topic->name[0] == '$') /* no peer hears of the bus's own */
		return FATE_IN;
	bus__log_newest(reader, item->topic, tail, &now);
	if (offer != NULL)
		fate = decide_offer(log, &now, offer, payload, ret_value);
	else
		ret_value->version = next_version(log, &now.version);
	if (fate != FATE_IN || !(ret_value->item.flags & LOG_RETAIN))
		return fate;
	ret_value->item.flags |= LOG_CHANGES;
	bus__log_id(log, own);
	if (memcmp(ret_value->version.bus, own, sizeof own) != 0) {
		ret_value->item.flags |= LOG_OTHER;
		if (ret_value->theirs != ret_value->version.changes)
			ret_value->item.flags |= LOG_THEIRS;
	}
	/* Readers pass over a record that was carried. */
	if (!ret_value->is_news)
		ret_value->item.flags |= LOG_CARRIED;
	if (payload->len > 0)
		return FATE_IN;
	ret_value->item.flags |= LOG_MARK;
	ret_value->until_ns =
	    bus__now_ns() + atomic_load_explicit(&bus__mark_ns, memory_order_relaxed);
	bus__log_bound_marks(reader, tail);
	return FATE_IN;
}

/* Makes room for what was decided on, and finds the place of a value. */
static int
place_value(struct log *log, struct turn *turn, struct value *value,
    const struct bus_slice *payload, uint64_t *ret_bytes, struct log_place **ret_place,
    uint64_t *ret_tag)
{
	struct log_item *item = &value->item;
	bool is_empty = payload->len + item->headers_len == 0;
	uint64_t begin = UINT64_MAX, bytes = 0;
	int err = 0;

	if (item->flags & LOG_RETAIN)
		item->flags |= is_empty ? LOG_NAMED | LOG_EMPTY : LOG_NAMED;
	/* In another segment it has to be named again. */
	while (err == 0 && begin != log->begin) {
		begin = log->begin;
		if (has_to_name(log, item))
			item->flags |= LOG_NAMED;
		bytes = value_size(value, payload);
		err = make_room(log, turn, bytes);
	}
	*ret_bytes = bytes;
	*ret_place = NULL;
	if (err < 0)
		return err;
	if (turn->at + bytes > log->mapped)
		bus__log_map(log, turn->at, turn->at + bytes);
	if (!(item->flags & LOG_RETAIN))
		return 0;
	if (!is_empty && !bus__log_may_keep(log, item->topic, bytes, tail_position(turn->word)))
		return BUS_E_LIMIT;
	*ret_place = bus__log_choose_place(
	    log, item->topic, log->begin + turn->at, tail_position(turn->word), ret_tag);
	return *ret_place != NULL ? 0 : BUS_E_LIMIT;
}

/* Notes a value, in another place if one that was revoked has just taken that. */
static int
note_value(struct log *log, const struct turn *turn, const struct log_topic *topic,
    struct log_place *place, uint64_t tag, uint64_t word)
{
	uint64_t position = log->begin + turn->at, tail = tail_position(turn->word);

	while (place != NULL && !bus__log_note_kept(log, place, tag, position, word, tail))
		place = bus__log_choose_place(log, topic, position, tail, &tag);
	return place != NULL ? 0 : BUS_E_LIMIT;
}

/* The transaction of a value: what it is depends on what the topic has, which is as it is while the tail is ours.
 * is_judged: it gets a version. */
static int
append_value(struct log *log, struct log_cursor *reader, const struct log_item *item,
    struct bus__offer *offer, bool is_judged, const struct bus_slice *payload,
    uint64_t *ret_sequence, struct bus__version *ret_ours)
{
	int64_t time_ns = item->time_ns != 0 ? item->time_ns : bus__wall_coarse_ns();

	if (is_too_big(log, item, payload))
		return BUS_E_TOO_BIG;
	for (;;) {
		struct turn turn = {.word = lock_tail(log)};
		struct value value = {.item = *item, .is_news = true};
		enum fate fate = FATE_IN;
		struct log_place *place = NULL;
		uint64_t bytes = 0, word, at = 0, tag = 0;
		uint32_t topic;
		int err = 0;

		if (turn.word & TAIL_BITS)
			return tail_error(turn.word);
		bus__log_stall(LOG_STALL_LOCKED);
		if (!locate(log, &turn))
			err = BUS_E_DAMAGED;
		else if (is_judged)
			fate = decide(
			    log, reader, tail_position(turn.word), item, offer, payload, &value);
		/* Release: what was read was read before a writer finds the memory free. */
		bus__log_let_go(reader);
		if (err == 0 && fate == FATE_IN)
			err = place_value(log, &turn, &value, payload, &bytes, &place, &tag);
		if (err == 0 && fate == FATE_IN) {
			at = log->begin + turn.at;
			if (!(value.item.flags & LOG_NAMED))
				at = atomic_load_explicit(
				    &item->topic->named_at, memory_order_relaxed);
			topic = topic_at(at - log->begin);
			word = write_value(
			    log->bytes + turn.at, topic, &value, payload, bytes, time_ns);
			if (place != NULL)
				err = note_value(log, &turn, item->topic, place, tag, word);
		}
		if (err < 0 || fate != FATE_IN) {
			/* As in append_some(). */
			if (!move_tail(log, &turn, tail_position(turn.word), false))
				continue;
			acknowledge(log);
			if (err == 0 && fate == FATE_OURS) {
				*ret_ours = value.version;
				return LOG_OURS;
			}
			return err;
		}
		*ret_sequence = (log->first + turn.count) & SEQUENCE_MASK;
		turn.at += bytes;
		turn.count += value.is_news;
		bus__log_stall(LOG_STALL_COPIED);
		bus__log_stall(LOG_STALL_PUBLISH);
		note_count(log, &turn);
		if (move_tail(log, &turn, log->begin + turn.at, false)) {
			if (value.item.flags & LOG_NAMED)
				bus__log_remember(log, item->topic, at);
			acknowledge(log);
			return 1;
		}
		acknowledge(log);
	}
}

int
bus__log_append_value(struct log *log, const struct log_item *item, struct bus__offer *offer,
    const struct bus_slice *payload, uint64_t *ret_sequence, struct bus__version *ret_ours)
{
	struct log *writer = NULL;
	struct log_cursor reader = {.log = NULL};
	int got = enter(log, item, &writer);

	if (got < 0)
		return got;
	reader.log = writer;
	return leave(writer,
	    append_value(writer, &reader, item, offer, true, payload, ret_sequence, ret_ours));
}

/* --- the short way ---------------------------------------------------------------------------------------------- */

static inline uint64_t
plain_size(size_t len)
{
	return (sizeof(struct log_record) + len + 7) & ~UINT64_C(7);
}

/* Whether so many bytes fit into the segment behind `at`, though not into what of it is mapped. */
static __attribute__((noinline)) bool
map_more(struct log *log, uint64_t at, uint64_t bytes, uint64_t *ret_room)
{
	if (bytes >= log->segment_bytes - at)
		return false;
	bus__log_map(log, at, at + bytes);
	*ret_room = log->mapped - at;
	return true;
}

/* Writes as many as fit, the first of which does. Returns how many. */
static inline size_t
write_plain(struct log *log, struct turn *turn, uint32_t topic, const struct log_item *item,
    const struct bus_slice *payloads, size_t count, int64_t time_ns)
{
	/* Of its own, which nothing that is written here can change. */
	const struct log_item same = {.origin = item->origin, .type = item->type};
	const struct bus_slice *payload = payloads, *end = payloads + count;
	uint8_t *to = log->bytes + turn->at;
	uint64_t room = log->mapped - turn->at, bytes = plain_size(payload->len);

	do {
		size_t len = payload->len;

		write_head(to, topic, &same,
		    record_word((uint32_t)bytes, 0, same.type, (unsigned)-len & 7), time_ns);
		if (len > 0)
			memcpy(to + sizeof(struct log_record), payload->data, len);
		to += bytes;
		room -= bytes;
		if (++payload == end)
			break;
		bytes = plain_size(payload->len);
	} while (bytes < room || map_more(log, (uint64_t)(to - log->bytes), bytes, &room));
	turn->at = (uint64_t)(to - log->bytes);
	turn->count += (uint32_t)(payload - payloads);
	return (size_t)(payload - payloads);
}

/* The same transaction for what nearly all are: payloads with nothing else, the tail free, in a segment that we know, that
 * has room, and in which we have named the topic. What is looked at before the tail is ours is as it was then, since the tail has not moved meanwhile; but
 * for the seal. Returns how many are in; 0: it takes the long way. */
static __attribute__((noinline)) size_t
append_at_once(struct log *log, const struct log_item *item, const struct bus_slice *payloads,
    size_t count, uint64_t *ret_sequence)
{
	_Atomic uint64_t *tail = &log->shared->tail;
	uint64_t word = atomic_load_explicit(tail, memory_order_relaxed), noted;
	/* Before the tail is ours, so that others wait the shorter; not before it was read, so that nothing comes between. */
	int64_t time_ns = bus__wall_coarse_ns();
	struct turn turn = {.at = tail_position(word) - log->begin};
	uint64_t named;
	size_t written;

	/* Nothing is mapped of a segment that is not known. */
	if ((word & TAIL_OWNER) || turn.at >= log->mapped ||
	    plain_size(payloads->len) >= log->mapped - turn.at)
		return 0;
	/* What names the topic lies before. */
	named = atomic_load_explicit(&item->topic->named_at, memory_order_relaxed) - log->begin;
	if (named >= turn.at)
		return 0;
	noted = atomic_load_explicit(&log->segment->count, memory_order_relaxed);
	turn.word = (word & ~TAIL_BITS) | (uint64_t)(log->member + 1) << 2;
	if (noted >> 32 != (uint32_t)(tail_position(word) >> 3) ||
	    !atomic_compare_exchange_strong_explicit(tail, &word, turn.word | (word & TAIL_BITS),
		memory_order_seq_cst, memory_order_relaxed))
		return 0;
	bus__log_stall(LOG_STALL_LOCKED);
	if (is_sealed(log)) {
		move_tail(log, &turn, tail_position(turn.word), false);
		acknowledge(log);
		return 0;
	}
	turn.count = (uint32_t)noted;
	*ret_sequence = (log->first + turn.count) & SEQUENCE_MASK;
	written = write_plain(log, &turn, topic_at(named), item, payloads, count, time_ns);
	bus__log_stall(LOG_STALL_COPIED);
	note_count(log, &turn);
	bus__log_stall(LOG_STALL_PUBLISH);
	if (!move_tail(log, &turn, log->begin + turn.at, false))
		written = 0;
	if (is_sealed(log))
		acknowledge(log);
	return written;
}

static int
append_kept(struct log *log, const struct log_item *item, const struct bus_slice *payload,
    uint64_t *ret_sequence)
{
	struct log_cursor reader = {.log = log};

	return append_value(log, &reader, item, NULL, false, payload, ret_sequence, NULL);
}

/* All but the first `done`, in as many transactions as it takes. `writer` has the turn; NULL: it is to be taken first. */
static __attribute__((noinline)) int
append_rest(struct log *log, struct log *writer, const struct log_item *item,
    const struct bus_slice *payloads, size_t count, size_t done, uint64_t *ret_sequence)
{
	int got = enter(log, item, &writer);

	if (got < 0)
		return got;
	while (done < count && got >= 0) {
		uint64_t sequence;

		got = item->flags & LOG_RETAIN
			  ? append_kept(writer, item, payloads + done, &sequence)
			  : append_some(writer, item, payloads + done, count - done, &sequence);
		if (got >= 0 && done == 0)
			*ret_sequence = sequence;
		done += got >= 0 ? (size_t)got : 0;
	}
	leave(writer, got);
	return done > 0 || got >= 0 ? (int)done : got;
}

int
bus__log_append(struct log *log, const struct log_item *item, const struct bus_slice *payloads,
    size_t count, uint64_t *ret_sequence)
{
	struct log *writer = NULL;
	size_t done = 0;

	if (item->flags == 0 && item->headers_len == 0 && item->time_ns == 0 &&
	    item->topic != NULL && bus__log_enter(log, &writer))
		done = append_at_once(writer, item, payloads, count, ret_sequence);
	if (done < count)
		return append_rest(log, writer, item, payloads, count, done, ret_sequence);
	bus__log_leave(writer);
	return (int)done;
}

/* Of a record that has nothing but a payload and its topic's name. */
static inline uint64_t
named_size(const struct log_item *item, size_t len)
{
	return plain_size(len + sizeof(uint64_t) + item->topic->len);
}

/* append_at_once() for one record, without a loop; `names`: which names its topic. What is written last is computed before the
 * payload is copied, since little is kept over a call. */
static inline __attribute__((always_inline)) bool
append_one_at_once(
    struct log *log, const struct log_item *item, const void *data, size_t len, const bool names)
{
	uint64_t word = atomic_load_explicit(&log->shared->tail, memory_order_relaxed), noted, next;
	int64_t time_ns = bus__wall_coarse_ns();
	struct turn turn = {.at = tail_position(word) - log->begin};
	struct log_segment *segment = log->segment;
	uint64_t bytes = names ? named_size(item, len) : plain_size(len), named;
	uint8_t *to;

	/* Nothing is mapped of a segment that is not known. */
	if ((word & TAIL_OWNER) || turn.at >= log->mapped || bytes >= log->mapped - turn.at)
		return false;
	/* What names the topic lies before. */
	named = turn.at;
	if (!names) {
		named =
		    atomic_load_explicit(&item->topic->named_at, memory_order_relaxed) - log->begin;
		if (named >= turn.at)
			return false;
	}
	named = topic_at(named);
	noted = atomic_load_explicit(&segment->count, memory_order_relaxed);
	turn.word = (word & ~TAIL_BITS) | (uint64_t)(log->member + 1) << 2;
	if (noted >> 32 != (uint32_t)(word >> 12) ||
	    !atomic_compare_exchange_strong_explicit(&log->shared->tail, &word,
		turn.word | (word & TAIL_BITS), memory_order_seq_cst, memory_order_relaxed))
		return false;
	bus__log_stall(LOG_STALL_LOCKED);
	if (is_sealed(log)) {
		move_tail(log, &turn, tail_position(turn.word), false);
		acknowledge(log);
		return false;
	}
	next = tail_position(word) + bytes;
	noted += (bytes >> 3 << 32) + 1; /* as note_count() does */
	to = log->bytes + turn.at;
	if (names) {
		uint64_t used = sizeof(struct log_record) + sizeof used + len + item->topic->len;

		write_word(to + sizeof(struct log_record), item->topic->len);
		write_head(to, (uint32_t)named, item,
		    record_word((uint32_t)bytes, LOG_NAMED, item->type, (unsigned)(bytes - used)),
		    time_ns);
		memcpy(to + used - item->topic->len, item->topic->name, item->topic->len);
	} else {
		write_head(to, (uint32_t)named, item,
		    record_word((uint32_t)bytes, 0, item->type, (unsigned)-len & 7), time_ns);
	}
	if (__builtin_expect(len > 0, 1))
		memcpy(to + sizeof(struct log_record) + (names ? sizeof(uint64_t) : 0), data, len);
	bus__log_stall(LOG_STALL_COPIED);
	atomic_store_explicit(&segment->count, noted, memory_order_relaxed);
	bus__log_stall(LOG_STALL_PUBLISH);
	if (!move_tail(log, &turn, next, false)) {
		acknowledge(log);
		return false;
	}
	/* Only now: of a writer that was revoked nothing is there. */
	if (names)
		bus__log_remember(log, item->topic, log->begin + turn.at);
	if (is_sealed(log))
		acknowledge(log);
	return true;
}

/* Apart, so that a record that names nothing saves no register for it. */
static __attribute__((noinline)) bool
append_named_at_once(struct log *log, const struct log_item *item, const void *data, size_t len)
{
	return append_one_at_once(log, item, data, len, true);
}

/* The long way: `writer` has the turn; NULL: it is not free. */
static __attribute__((noinline)) int
append_one_slowly(
    struct log *log, struct log *writer, const struct log_item *item, const void *data, size_t len)
{
	const struct bus_slice payload = {data, len};
	uint64_t sequence;
	int got;

	__builtin_prefetch(item->topic->name);
	if (writer != NULL && has_to_name(writer, item) &&
	    append_named_at_once(writer, item, data, len)) {
		bus__log_leave(writer);
		return 1;
	}
	got = enter(log, item, &writer);
	if (got < 0)
		return got;
	return leave(writer, append_some(writer, item, &payload, 1, &sequence));
}

int
bus__log_append_one(struct log *log, const struct log_item *item, const void *data, size_t len)
{
	struct log *writer = NULL;

	if (!bus__log_enter(log, &writer) || !append_one_at_once(writer, item, data, len, false))
		return append_one_slowly(log, writer, item, data, len);
	bus__log_leave(writer);
	return 1;
}

#ifdef BUS_LOG_STALLS
void (*bus__log_stall_hook)(enum log_stall where);
#endif
