/* Two producers, and a drainer that parks its ring in the middle, as bus__peer_park() and _resume() do: it closes and
 * empties the ring, says who is woken from now on, and opens it again. */
#include "model.h"
#include "ring_model.h"

enum { PRODUCERS = 2, EACH = 2 };

static struct ring ring;
static struct ring_batch batch = MODEL_BATCH;
static struct model_seen seen;
static _Atomic uint32_t sleeps, woken, shut;
static int owner; /* the woken peer: plain, as the argument of a peer's wake() */

static void
before(void)
{
	model_ring_init(&ring, 256, 0);
	model_share("woken", &woken, sizeof woken);
	model_share("shut", &shut, sizeof shut);
	model_share("owner", &owner, sizeof owner);
	atomic_init(&sleeps, 0);
	atomic_init(&woken, 0);
	atomic_init(&shut, 0);
	owner = 1;
	seen = (struct model_seen){0};
}

static void
produce(int producer)
{
	for (int i = 0; i < EACH; i++) {
		uint64_t value = model_value(producer, i);
		struct ring_item item = model_item(&value);
		enum ring_answer answer = bus__ring_put(&ring, &item);

		model_check(answer != RING_FULL);
		if (answer == RING_SHUT)
			atomic_fetch_add_explicit(&shut, 1, memory_order_relaxed);
		if (answer == RING_WAKE) {
			model_check(owner == 1 || owner == 2);
			atomic_fetch_add_explicit(&woken, 1, memory_order_release);
		}
		model_pause(4);
	}
}

static void
try_to_sleep(void)
{
	atomic_fetch_add_explicit(&sleeps, 1, memory_order_relaxed);
	if (!bus__ring_sleep(&ring))
		atomic_fetch_sub_explicit(&sleeps, 1, memory_order_relaxed);
}

static void
take_all(void)
{
	while (!bus__ring_empty(&ring))
		if (model_take(&ring, &batch) > 0)
			model_see(&seen, &batch);
		else
			sched_yield(); /* claimed, and not committed yet */
}

static void
park(void)
{
	uint64_t tail = bus__ring_close(&ring);

	while (atomic_load_explicit(&woken, memory_order_acquire) + ((tail & RING_ASLEEP) != 0) !=
	       atomic_load_explicit(&sleeps, memory_order_relaxed))
		sched_yield();
	if (bus__ring_rouse(&ring))
		atomic_fetch_add_explicit(&woken, 1, memory_order_relaxed);
	owner = 2;
	take_all();
	bus__ring_forget_lost(&ring);
	bus__ring_reopen(&ring);
}

static void
thread(int index)
{
	if (index < PRODUCERS) {
		produce(index);
		return;
	}
	model_pause(8);
	take_all();
	try_to_sleep();
	model_pause(8);
	park();
	take_all();
	try_to_sleep();
}

static void
after(void)
{
	take_all();
	model_check(seen.delivered + shut == PRODUCERS * EACH && seen.lost == 0);
	model_ring_fini(&ring);
}

static const struct control controls[] = {
    {"the ring is not closed", "bus__ring_close", "tail", OP_RMW, SKIPPED, "DATA RACE"},
    {NULL},
};

const struct model model_parked = {
    .name = "parked",
    .shows = "each message is delivered or refused, and the previous peer is not woken",
    .threads = PRODUCERS + 1,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 100000,
    .controls = controls,
};
