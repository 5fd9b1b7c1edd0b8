/* Two producers, a ring of two frames and a drainer that sleeps as soon as it can. A wake-up that is lost leaves it
 * asleep for ever, which relacy calls a deadlock. */
#include "model.h"
#include "ring_model.h"

#include "base/park.h"

enum { PRODUCERS = 2 };

static struct ring ring;
static struct ring_batch batch = MODEL_BATCH;
static struct model_seen seen;
static _Atomic uint32_t wakes;
static int each; /* messages of each producer */

static void
before(void)
{
	model_ring_init(&ring, 64, 0);
	model_share("wakes", &wakes, sizeof wakes);
	atomic_init(&wakes, 0);
	each = model_tries_all ? 1 : 2;
	seen = (struct model_seen){0};
}

static void
produce(int producer)
{
	for (int i = 0; i < each; i++) {
		uint64_t value = model_value(producer, i);
		struct ring_item item = model_item(&value);
		enum ring_answer answer;

		while ((answer = bus__ring_put(&ring, &item)) == RING_FULL)
			model_await_room(&ring);
		if (answer == RING_WAKE) {
			atomic_fetch_add_explicit(&wakes, 1, memory_order_release);
			bus__unpark(&wakes);
		}
	}
}

static void
drain(void)
{
	while (seen.delivered < (uint64_t)PRODUCERS * each) {
		if (model_take(&ring, &batch) > 0) {
			model_see(&seen, &batch);
			continue;
		}
		uint32_t now = atomic_load_explicit(&wakes, memory_order_acquire);

		if (!bus__ring_sleep(&ring)) {
			sched_yield(); /* claimed, and not committed yet */
			continue;
		}
		while (bus__ring_tail(&ring) & RING_ASLEEP) {
			bus__park(&wakes, now, INT64_MAX);
			now = atomic_load_explicit(&wakes, memory_order_acquire);
		}
	}
}

static void
thread(int index)
{
	if (index < PRODUCERS)
		produce(index);
	else
		drain();
}

static void
after(void)
{
	model_check(seen.delivered == (uint64_t)PRODUCERS * each && seen.lost == 0);
	model_check(bus__ring_empty(&ring));
	model_ring_fini(&ring);
}

static const struct control controls[] = {
    {"the drainer goes to sleep without looking", "bus__ring_sleep", "tail", OP_CAS, BLIND,
	"DEADLOCK or, with producers that wait for room, LIVELOCK"},
    {NULL},
};

const struct model model_sleep_bit = {
    .name = "sleep_bit",
    .shows = "a claim during the drainer's way to sleep wakes it",
    .threads = PRODUCERS + 1,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 100000,
    .switches = 2,
    .controls = controls,
};
