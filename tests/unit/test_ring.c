#include "bus_test.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "queue/ring.h"

/* The positions of every ring here pass 2^64 inside the test: they begin a few frames before it. */
#define NEAR_WRAP (UINT64_MAX - 255)

static struct ring *
ring_at(uint64_t start, size_t bytes)
{
	struct ring *r = aligned_alloc(RING_LINE, sizeof *r);

	ck_bus(bus__ring_init(r, bytes, start), 0);
	return r;
}

static void
ring_free(struct ring *r)
{
	bus__ring_fini(r);
	free(r);
}

static enum ring_answer
put(struct ring *r, const void *data, size_t len)
{
	const struct ring_item item = {.route = r, .data = data, .len = (uint32_t)len};

	return bus__ring_put(r, &item);
}

static uint32_t
take(struct ring *r, struct ring_batch *batch)
{
	static _Alignas(8) uint8_t bytes[RING_BATCH_BYTES]; /* a test has one batch */
	uint32_t count;

	batch->bytes = bytes;
	bus__ring_lock(r);
	count = bus__ring_take(r, batch, RING_TAKE_FRAMES);
	bus__ring_unlock(r);
	return count;
}

START_TEST(frames_of_every_length_come_out_as_they_went_in)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;
	char sent[RING_INLINE_MAX];

	for (int lap = 0; lap < 3; lap++)
		for (size_t len = 0; len <= RING_INLINE_MAX; len++) {
			struct ring_view view;
			uint32_t offset = 0;

			memset(sent, (int)(len + (size_t)lap), sizeof sent);
			ck_assert_int_eq(put(r, sent, len), RING_OK);
			ck_assert_uint_eq(take(r, &batch), 1);
			bus__ring_read(&batch, &offset, &view);
			ck_assert_uint_eq(view.len, len);
			ck_assert_ptr_eq(view.route, r);
			ck_assert(memcmp(view.data, sent, len) == 0);
			ck_assert_uint_eq(offset, batch.used);
		}
	ck_assert(bus__ring_empty(r));
	ring_free(r);
}
END_TEST

START_TEST(short_way_writes_the_same_frames)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;
	unsigned short_way = 0;
	char sent[RING_SMALL_MAX];

	for (uint32_t lap = 0; lap < 8; lap++)
		for (uint32_t len = 0; len <= RING_SMALL_MAX; len++) {
			struct ring_view view;
			uint32_t offset = 0;
			uint64_t tail;
			uint8_t *at = bus__ring_claim_here(r, bus__ring_small_bytes(len), &tail);

			for (uint32_t i = 0; i < len; i++)
				sent[i] = (char)(i + len + lap);
			if (at != NULL) {
				bus__ring_fill(at, r, bus__ring_word(len, 0, 7), sent);
				short_way++;
			} else { /* the end of the buffer */
				const struct ring_item item = {
				    .route = r, .data = sent, .len = len, .type = 7};

				ck_assert_int_eq(bus__ring_put(r, &item), RING_OK);
			}
			ck_assert_uint_eq(take(r, &batch), 1);
			bus__ring_read(&batch, &offset, &view);
			ck_assert_uint_eq(view.len, len);
			ck_assert_uint_eq(view.type, 7);
			ck_assert_ptr_eq(view.route, r);
			ck_assert(memcmp(view.data, sent, len) == 0);
		}
	ck_assert_uint_gt(short_way, 7 * RING_SMALL_MAX);
	ring_free(r);
}
END_TEST

START_TEST(cancelled_claim_is_passed_over)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;
	const struct ring_item item = {.route = r, .data = "gone", .len = 4};
	struct ring_claim claim;

	for (int lap = 0; lap < 200; lap++) {
		unsigned got = 0;

		ck_assert_int_eq(put(r, "a", 1), RING_OK);
		ck_assert_int_eq(bus__ring_claim(r, &item, &claim), RING_OK);
		ck_assert_int_eq(put(r, "b", 1), RING_OK);
		ck_assert_uint_eq(take(r, &batch), 1); /* nothing behind the open claim is seen */
		bus__ring_cancel(r, &claim, &item);
		ck_assert_int_eq(bus__ring_claim(r, &item, &claim), RING_OK);
		bus__ring_cancel(r, &claim, &item);
		while (!bus__ring_empty(r))
			got += take(r, &batch);
		ck_assert_uint_eq(got, 1);
		ck_assert(bus__ring_sleep(r));
		ck_assert_int_eq(put(r, "c", 1), RING_WAKE);
		ck_assert_uint_eq(take(r, &batch), 1);
	}
	ring_free(r);
}
END_TEST

START_TEST(starving_producer_is_noted_until_somebody_looks)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;
	const struct ring_item item = {.route = r, .data = "x", .len = 1};

	ck_assert(bus__ring_starve(r, &item)); /* there is room: no need to wait */
	while (put(r, "x", 1) == RING_OK)
		;
	ck_assert(!bus__ring_starve(r, &item));
	take(r, &batch);
	ck_assert(r->starved);
	bus__ring_close(r);
	ck_assert(bus__ring_starve(r, &item)); /* nothing to wait for */
	ring_free(r);
}
END_TEST

/* It counts the bytes of a block before it knows that it will fail, and gives no sign when it takes them back. */
START_TEST(nobody_waits_in_front_of_an_empty_ring_for_a_claim_that_will_fail)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	const struct ring_item item = {.len = 100};

	r->block_bytes += RING_MIN_BYTES;
	ck_assert(bus__ring_starve(r, &item));
	ck_assert(!r->starved);
	r->block_bytes -= RING_MIN_BYTES;
	ring_free(r);
}
END_TEST

START_TEST(full_ring_refuses_then_takes_again_after_a_take)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;
	unsigned in = 0, out = 0;

	for (int lap = 0; lap < 5; lap++) {
		while (put(r, "0123456789", 10) == RING_OK)
			in++;
		ck_assert_int_eq(put(r, "", 0), RING_FULL);
		out += take(r, &batch);
		ck_assert_int_eq(put(r, "x", 1), RING_FULL); /* copied, not cleared yet */
		ck_assert(bus__ring_reclaim(r));
		ck_assert(!bus__ring_reclaim(r));
		ck_assert_int_eq(put(r, "x", 1), RING_OK);
		in++;
	}
	while (!bus__ring_empty(r))
		out += take(r, &batch);
	ck_assert_uint_eq(in, out);
	ring_free(r);
}
END_TEST

START_TEST(eviction_takes_the_oldest_and_no_more_than_needed)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;
	struct ring_view view;
	uint32_t offset = 0;
	uint64_t number = 0, first;

	for (;; number++) {
		const struct ring_item item = {.route = r, .data = &number, .len = sizeof number};

		if (bus__ring_put(r, &item) == RING_FULL) {
			ck_assert(bus__ring_evict(r, &item));
			ck_assert_int_eq(bus__ring_put(r, &item), RING_OK);
			break;
		}
	}
	ck_assert_uint_ge(take(r, &batch), 2); /* up to the end of the buffer */
	bus__ring_read(&batch, &offset, &view);
	memcpy(&first, view.data, sizeof first);
	ck_assert_uint_ge(first, 1);
	ck_assert_uint_le(first, 2);
	ck_assert_uint_eq(batch.lost, first); /* all before it were evicted, and it says so */
	bus__ring_read(&batch, &offset, &view);
	ck_assert_uint_eq(view.lost, 0);
	ring_free(r);
}
END_TEST

START_TEST(what_a_publisher_drops_is_told_by_the_next_message)
{
	struct ring *r = ring_at(0, RING_MIN_BYTES);
	static struct ring_batch batch;
	struct ring_view view;
	uint32_t offset = 0;

	put(r, "a", 1);
	bus__ring_drop(r);
	bus__ring_drop(r);
	put(r, "b", 1);
	put(r, "c", 1);
	ck_assert_uint_eq(take(r, &batch), 3);
	bus__ring_read(&batch, &offset, &view);
	ck_assert_uint_eq(view.lost, 0);
	bus__ring_read(&batch, &offset, &view);
	ck_assert_uint_eq(view.lost, 2);
	ck_assert(memcmp(view.data, "b", 1) == 0);
	bus__ring_read(&batch, &offset, &view);
	ck_assert_uint_eq(view.lost, 0);
	ring_free(r);
}
END_TEST

START_TEST(losses_of_an_evicted_message_pass_to_the_next_one)
{
	struct ring *r = ring_at(0, RING_MIN_BYTES);
	static struct ring_batch batch;
	char big[RING_INLINE_MAX] = {0};
	const struct ring_item item = {.route = r, .data = big, .len = sizeof big};

	bus__ring_drop(r);
	while (bus__ring_put(r, &item) == RING_OK)
		;
	ck_assert(bus__ring_evict(r, &item)); /* the first one, which carried a loss of its own */
	ck_assert_int_eq(bus__ring_put(r, &item), RING_OK);
	take(r, &batch);
	ck_assert_uint_eq(batch.lost, 2);
	ring_free(r);
}
END_TEST

START_TEST(sleep_fails_while_something_is_inside_and_ends_with_one_wake_up)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;

	put(r, "a", 1);
	ck_assert(!bus__ring_sleep(r));
	take(r, &batch);
	ck_assert(bus__ring_sleep(r));
	ck_assert_int_eq(put(r, "b", 1), RING_WAKE);
	ck_assert_int_eq(put(r, "c", 1), RING_OK);
	ring_free(r);
}
END_TEST

START_TEST(closed_ring_takes_nothing_more_and_keeps_what_it_has)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;

	put(r, "a", 1);
	bus__ring_close(r);
	ck_assert_int_eq(put(r, "b", 1), RING_SHUT);
	ck_assert_uint_eq(take(r, &batch), 1);
	ck_assert(!bus__ring_sleep(r));
	ring_free(r);
}
END_TEST

START_TEST(blocks_count_into_the_bound_and_an_empty_ring_takes_any)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;
	static char large[100000];
	struct bus__block *block = bus__block_new(NULL, sizeof large);
	struct ring_item item = {.route = r, .len = sizeof large, .block = block};

	ck_assert_int_eq(bus__ring_put(r, &item), RING_OK); /* takes over our reference */
	ck_assert_int_eq(put(r, "small", 5), RING_FULL);
	item.block = bus__block_new(NULL, sizeof large);
	ck_assert_int_eq(bus__ring_put(r, &item), RING_FULL);
	ck_assert(bus__ring_evict(r, &item));
	ck_assert_int_eq(bus__ring_put(r, &item), RING_OK);
	ck_assert_uint_eq(take(r, &batch), 1);
	bus__ring_release(&batch);
	ck_assert_int_eq(put(r, "small", 5), RING_OK);
	ring_free(r);
}
END_TEST

/* --- threads -------------------------------------------------------------------------------------------- */

#define PRODUCERS    3
#define PER_PRODUCER 60000

struct stress {
	struct ring *ring;
	bool evict;
	unsigned id;
};

static void *
produce(void *arg)
{
	const struct stress *s = arg;
	unsigned seed = s->id;

	for (uint32_t i = 0; i < PER_PRODUCER; i++) {
		uint32_t payload[64] = {s->id, i};
		const struct ring_item item = {.route = s->ring,
		    .data = payload,
		    .len = 8 + (uint32_t)rand_r(&seed) % (sizeof payload - 8)};

		while (bus__ring_put(s->ring, &item) == RING_FULL) {
			if (s->evict && bus__ring_evict(s->ring, &item))
				continue;
			if (s->evict) {
				bus__ring_drop(s->ring);
				break;
			}
			sched_yield();
		}
	}
	return NULL;
}

/* Several producers on a small ring whose positions wrap: per producer in order, and sent = got + lost. */
static void
run_stress(bool evict)
{
	struct ring *r = ring_at(NEAR_WRAP, RING_MIN_BYTES);
	static struct ring_batch batch;
	struct stress stress[PRODUCERS];
	pthread_t threads[PRODUCERS];
	int64_t next[PRODUCERS] = {0};
	uint64_t got = 0, told = 0;
	bool running = true;

	for (unsigned p = 0; p < PRODUCERS; p++) {
		stress[p] = (struct stress){r, evict, p};
		pthread_create(&threads[p], NULL, produce, &stress[p]);
	}
	while (running) {
		uint32_t offset = 0;

		/* All have ended: one more look finds all there is. */
		if (got + atomic_load(&r->evicted) + atomic_load(&r->dropped) ==
		    PRODUCERS * (uint64_t)PER_PRODUCER)
			running = false;
		take(r, &batch);
		told += batch.lost;
		for (uint32_t i = 0; i < batch.count; i++) {
			struct ring_view view;
			uint32_t from[2];

			bus__ring_read(&batch, &offset, &view);
			memcpy(from, view.data, sizeof from);
			ck_assert_uint_lt(from[0], PRODUCERS);
			ck_assert_int_ge((int64_t)from[1], next[from[0]]);
			if (!evict)
				ck_assert_int_eq((int64_t)from[1], next[from[0]]);
			next[from[0]] = (int64_t)from[1] + 1;
			told += view.lost;
			got++;
		}
		if (batch.count == 0)
			sched_yield();
	}
	for (unsigned p = 0; p < PRODUCERS; p++)
		pthread_join(threads[p], NULL);
	ck_assert(bus__ring_empty(r));
	/* Each loss was told once, but for those that no message came behind. */
	ck_assert_uint_eq(told + r->lost_at_head + atomic_load(&r->lost_at_tail),
	    atomic_load(&r->evicted) + atomic_load(&r->dropped));
	if (!evict)
		ck_assert_uint_eq(got, PRODUCERS * (uint64_t)PER_PRODUCER);
	ring_free(r);
}

START_TEST(many_producers_lose_nothing_when_they_wait)
{
	run_stress(false);
}
END_TEST

START_TEST(many_producers_that_evict_account_for_every_message)
{
	run_stress(true);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("ring");

	BUS_TEST_CASE(suite, "frames", frames_of_every_length_come_out_as_they_went_in,
	    short_way_writes_the_same_frames, cancelled_claim_is_passed_over,
	    starving_producer_is_noted_until_somebody_looks,
	    nobody_waits_in_front_of_an_empty_ring_for_a_claim_that_will_fail,
	    full_ring_refuses_then_takes_again_after_a_take,
	    eviction_takes_the_oldest_and_no_more_than_needed,
	    what_a_publisher_drops_is_told_by_the_next_message,
	    losses_of_an_evicted_message_pass_to_the_next_one,
	    sleep_fails_while_something_is_inside_and_ends_with_one_wake_up,
	    closed_ring_takes_nothing_more_and_keeps_what_it_has,
	    blocks_count_into_the_bound_and_an_empty_ring_takes_any);
	BUS_TEST_CASE(suite, "threads", many_producers_lose_nothing_when_they_wait,
	    many_producers_that_evict_account_for_every_message);
	return suite;
}
