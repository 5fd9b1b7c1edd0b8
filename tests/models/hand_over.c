/* There is no drainer thread: the thread that clears the sleep bit drains until it can set it again. The drainer's state is plain. */
#include "model.h"
#include "ring_model.h"

enum { PRODUCERS = 3 };

static struct ring ring;
static int each; /* messages of each producer */
static struct drainer {
	struct ring_batch batch;
	struct model_seen seen;
	int inside;
	_Alignas(8) uint8_t bytes[RING_BATCH_BYTES];
} drainer;

static void
before(void)
{
	model_ring_init(&ring, 256, 0);
	each = model_tries_all ? 1 : 2;
	memset(&drainer, 0, sizeof drainer);
	drainer.batch.bytes = drainer.bytes;
	model_share("drainer", &drainer, sizeof drainer);
	model_check(bus__ring_sleep(&ring));
}

static void
drain(void)
{
	for (;;) {
		model_check(drainer.inside++ == 0);
		while (model_take(&ring, &drainer.batch) > 0)
			model_see(&drainer.seen, &drainer.batch);
		drainer.inside--;
		if (bus__ring_sleep(&ring))
			return;
		sched_yield(); /* claimed, and not committed yet */
	}
}

static void
thread(int index)
{
	for (int i = 0; i < each; i++) {
		uint64_t value = model_value(index, i);
		struct ring_item item = model_item(&value);

		model_pause(20);
		if (bus__ring_put(&ring, &item) == RING_WAKE)
			drain();
	}
}

static void
after(void)
{
	model_check(drainer.seen.delivered == (uint64_t)PRODUCERS * each && drainer.inside == 0);
	model_check(bus__ring_tail(&ring) == (bus__ring_head(&ring) | RING_ASLEEP));
	model_ring_fini(&ring);
}

static const struct control controls[] = {
    {"the drainer goes to sleep relaxed", "bus__ring_sleep", "tail", OP_CAS, RELAXED, "DATA RACE"},
    {"the claim that wakes it is relaxed", "bus__ring_claim", "tail", OP_CAS, RELAXED, "DATA RACE"},
    {"the drainer goes to sleep without looking", "bus__ring_sleep", "tail", OP_CAS, BLIND, ""},
    {NULL},
};

const struct model model_hand_over = {
    .name = "hand_over",
    .shows = "one producer at a time drains, and sees what the one before it left",
    .threads = PRODUCERS,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 100000,
    .switches = 1,
    .controls = controls,
};
