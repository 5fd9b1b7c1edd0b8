/* The ring alone: every way in, claims that are held open, cancelled or committed late, evictions and sleep, while
 * the positions pass 2^64 and the count of wake-ups 2^32. */
#include "stress.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/park.h"
#include "queue/ring.h"

enum {
	PRODUCERS = 3,
	EVICT_TRIES = 8,
	LARGE = 3000, /* above RING_INLINE_MAX: goes by block */
	LAST = 1,     /* flag of a producer's last message */
	FIRST_WAKE = -20
};

struct rig {
	struct ring ring;
	bool evicts; /* else whoever finds no room waits */
	_Atomic uint32_t wakes;
	uint64_t got, gaps, told; /* the taker's */
};

struct producer {
	struct rig *rig;
	uint32_t id;
	uint64_t operations, next;
	struct dice dice;
	struct bus__pool *pool;
};

struct label {
	uint32_t id, flags;
	uint64_t number;
};

static void
compose(struct producer *p, uint8_t *to, uint32_t len, uint32_t flags)
{
	const struct label label = {p->id, flags, p->next};

	memcpy(to, &label, sizeof label);
	memcpy(to + sizeof label, stress_noise(label.number), len - sizeof label);
	p->next++;
}

/* --- producers ---------------------------------------------------------------------------------------------- */

/* What a claim owes that ended the taker's sleep. */
static void
pay(struct rig *rig, bool owed)
{
	if (!owed)
		return;
	atomic_fetch_add_explicit(&rig->wakes, 1, memory_order_release);
	bus__unpark(&rig->wakes);
}

/* Claims a place, making room as the rig says. false: the message was dropped. */
static bool
claim(
    struct producer *p, const struct ring_item *item, struct ring_claim *ret_claim, bool *ret_owed)
{
	struct ring *r = &p->rig->ring;
	enum ring_answer answer;
	unsigned tries = 0;

	while ((answer = bus__ring_claim(r, item, ret_claim)) == RING_FULL) {
		if (!p->rig->evicts) {
			if (!bus__ring_reclaim(r))
				sched_yield();
		} else if (++tries > EVICT_TRIES || !bus__ring_evict(r, item)) {
			bus__ring_drop(r);
			return false;
		}
	}
	must(answer == RING_OK || answer == RING_WAKE);
	*ret_owed = answer == RING_WAKE;
	return true;
}

static void
put(struct producer *p, uint32_t len, uint32_t flags, bool stalls)
{
	uint8_t data[RING_INLINE_MAX];
	const struct ring_item item = {.route = p, .data = data, .len = len};
	struct ring_claim at;
	bool owed;

	compose(p, data, len, flags);
	if (!claim(p, &item, &at, &owed))
		return;
	if (stalls)
		stress_stall(&p->dice);
	bus__ring_commit(&p->rig->ring, &at, &item);
	pay(p->rig, owed);
}

static void
put_block(struct producer *p)
{
	struct bus__block *block = bus__block_new(p->pool, LARGE);
	const struct ring_item item = {.route = p, .block = block, .len = LARGE};
	struct ring_claim at;
	bool owed;

	must(block != NULL);
	compose(p, block->data, LARGE, 0);
	if (!claim(p, &item, &at, &owed)) {
		bus__block_unref(block);
		return;
	}
	stress_stall(&p->dice);
	bus__ring_commit(&p->rig->ring, &at, &item);
	pay(p->rig, owed);
}

/* A claim that comes to nothing. */
static void
put_nothing(struct producer *p)
{
	const struct ring_item item = {
	    .route = p, .len = dice_below(&p->dice, RING_INLINE_MAX + 1)};
	struct ring_claim at;
	enum ring_answer answer = bus__ring_claim(&p->rig->ring, &item, &at);

	if (answer == RING_FULL)
		return;
	stress_stall(&p->dice);
	bus__ring_cancel(&p->rig->ring, &at, &item);
	pay(p->rig, answer == RING_WAKE);
}

/* The short way, for several at once; where it is closed one by one. */
static void
put_many(struct producer *p, uint32_t count)
{
	uint32_t len = (uint32_t)sizeof(struct label) + dice_below(&p->dice, 48), bytes;
	uint8_t data[RING_SMALL_MAX];
	uint64_t tail;
	uint8_t *at;

	bytes = bus__ring_small_bytes(len);
	at = bus__ring_claim_here(&p->rig->ring, count * bytes, &tail);
	if (at == NULL) {
		while (count-- > 0)
			put(p, len, 0, false);
		return;
	}
	for (uint32_t i = 0; i < count; i++, at += bytes) {
		compose(p, data, len, 0);
		if (i == count / 2)
			stress_stall(&p->dice); /* one frame is shown and one is not */
		bus__ring_fill(at, p, bus__ring_word(len, 0, 0), data);
	}
	pay(p->rig, tail & RING_ASLEEP);
}

static uint32_t
some_len(struct producer *p)
{
	uint32_t most = dice_below(&p->dice, 4) == 0 ? RING_INLINE_MAX : 100;

	return (uint32_t)sizeof(struct label) +
	       dice_below(&p->dice, most - (uint32_t)sizeof(struct label) + 1);
}

static void *
produce(void *arg)
{
	struct producer *p = arg;
	uint32_t count;

	for (uint64_t done = 0; done < p->operations; done += count) {
		uint32_t roll = dice_below(&p->dice, 16);

		count = 1;
		if (roll < 5) {
			put_many(p, 1);
		} else if (roll < 8) {
			count = 2 + dice_below(&p->dice, RING_MANY - 1);
			if (count > p->operations - done)
				count = (uint32_t)(p->operations - done);
			put_many(p, count);
		} else if (roll < 13) {
			put(p, some_len(p), 0, roll == 8);
		} else if (roll < 15) {
			put_block(p);
		} else {
			put_nothing(p);
		}
		stress_did(count);
	}
	return NULL;
}

/* --- the taker ---------------------------------------------------------------------------------------------- */

/* Sleeps if it may. A sleep is ended by one wake-up and no more. */
static void
sleep_or_go_on(struct rig *rig, uint32_t *sleeps)
{
	uint32_t seen = (uint32_t)FIRST_WAKE + *sleeps;

	if (!bus__ring_sleep(&rig->ring)) {
		sched_yield();
		return;
	}
	++*sleeps;
	while (atomic_load_explicit(&rig->wakes, memory_order_acquire) == seen)
		bus__park(&rig->wakes, seen, INT64_MAX);
	must_eq(rig->wakes, seen + 1);
}

/* Returns 1 for the last message of a producer. */
static unsigned
check(struct rig *rig, const struct ring_view *view, uint64_t next[PRODUCERS])
{
	const struct producer *p = view->route;
	struct label label;

	must(view->len >= sizeof label);
	memcpy(&label, view->data, sizeof label);
	must(label.id < PRODUCERS && label.id == p->id);
	must(memcmp((const uint8_t *)view->data + sizeof label, stress_noise(label.number),
		 view->len - sizeof label) == 0);
	must(label.number >= next[label.id]);
	rig->gaps += label.number - next[label.id];
	rig->told += view->lost;
	rig->got++;
	next[label.id] = label.number + 1;
	return label.flags & LAST;
}

static void *
drain(void *arg)
{
	struct rig *rig = arg;
	struct ring_batch *batch = malloc(sizeof *batch);
	uint8_t *bytes = malloc(RING_BATCH_BYTES);
	struct dice dice = dice_of(rig->ring.size, 99);
	uint64_t next[PRODUCERS] = {0};
	uint32_t sleeps = 0;
	unsigned ended = 0;

	must(batch != NULL && bytes != NULL);
	batch->bytes = bytes;
	while (ended < PRODUCERS) {
		uint32_t offset = 0;

		bus__ring_lock(&rig->ring);
		bus__ring_take(&rig->ring, batch, 1 + dice_below(&dice, RING_TAKE_FRAMES));
		bus__ring_unlock(&rig->ring);
		rig->told += batch->lost;
		for (uint32_t i = 0; i < batch->count; i++) {
			struct ring_view view;

			bus__ring_read(batch, &offset, &view);
			ended += check(rig, &view, next);
		}
		must_eq(offset, batch->used);
		bus__ring_release(batch);
		if (batch->count == 0)
			sleep_or_go_on(rig, &sleeps);
	}
	free(bytes);
	free(batch);
	return NULL;
}

/* --- a round ------------------------------------------------------------------------------------------------ */

/* A last message of each, when there is room: it tells of all losses before it. */
static void
put_last(struct producer *p)
{
	while (!bus__ring_empty(&p->rig->ring))
		stress_nap(100);
	bus__ring_reclaim(
	    &p->rig->ring); /* nobody else is there who could have the lock for long */
	for (uint64_t told = p->next; told == p->next;) {
		const struct label label = {p->id, LAST, p->next};
		const struct ring_item item = {.route = p, .data = &label, .len = sizeof label};
		enum ring_answer answer = bus__ring_put(&p->rig->ring, &item);

		if (answer == RING_FULL) {
			bus__ring_reclaim(&p->rig->ring);
			continue;
		}
		p->next++;
		pay(p->rig, answer == RING_WAKE);
	}
}

static void
ring_round(const struct scenario *scenario, struct round *round)
{
	struct dice dice = dice_of(round->seed, PRODUCERS);
	struct rig *rig = aligned_alloc(RING_LINE, sizeof *rig);
	size_t bytes = (size_t)RING_MIN_BYTES << dice_below(&dice, 3);
	struct producer producers[PRODUCERS];
	struct crew crew;
	pthread_t taker;

	must(rig != NULL);
	memset(rig, 0, sizeof *rig);
	must(bus__ring_init(&rig->ring, bytes,
		 UINT64_MAX - 7 - 8 * (uint64_t)dice_below(&dice, (uint32_t)bytes / 4)) == 0);
	rig->evicts = scenario->full != 0;
	atomic_init(&rig->wakes, (uint32_t)FIRST_WAKE);
	must(pthread_create(&taker, NULL, drain, rig) == 0);
	for (uint32_t i = 0; i < PRODUCERS; i++)
		producers[i] = (struct producer){.rig = rig,
		    .id = i,
		    .operations = (round->operations + i) / PRODUCERS,
		    .dice = dice_of(round->seed, i),
		    .pool = bus__pool_new()};
	crew_start(&crew, round->seed, PRODUCERS, produce, producers, sizeof producers[0]);
	crew_join(&crew);
	for (uint32_t i = 0; i < PRODUCERS; i++) {
		put_last(&producers[i]);
		bus__pool_close(producers[i].pool);
		round->delivered += producers[i].next;
	}
	pthread_join(taker, NULL);

	round->lost = rig->ring.evicted + rig->ring.dropped;
	must(bus__ring_empty(&rig->ring) && rig->ring.block_bytes == 0);
	must_eq(rig->got + round->lost, round->delivered);
	must_eq(rig->gaps, round->lost);
	must_eq(rig->told, round->lost);
	must(rig->evicts || round->lost == 0);
	round->delivered = rig->got;
	bus__ring_fini(&rig->ring);
	free(rig);
}

const struct scenario ring_scenarios[] = {
    {"ring-waits", "the ring alone: who finds it full tries again, and nothing is lost", 2, 50000,
	ring_round, false, 0},
    {"ring-evicts", "the ring alone: who finds it full drops the oldest, or its own", 2, 50000,
	ring_round, true, 0},
    {0},
};
