/* Frames, head and the limit over the end of the buffer, where bytes are used again. The drainer does not sleep,
 * which would order more than the orders that are looked at here. */
#include "model.h"
#include "ring_model.h"

enum { PRODUCERS = 2, ALL = 4 };

/* Two frames of 16 bytes fill the ring: the first producer comes around the end and shows a limit for two more, and
 * the second one may trust it without ever looking at head. */
static const int messages[PRODUCERS] = {3, 1};

static struct ring ring;
static struct ring_batch batch = MODEL_BATCH;
static struct model_seen seen;

static void
before(void)
{
	model_ring_init(&ring, 32, 0);
	seen = (struct model_seen){0};
}

static void
thread(int index)
{
	if (index == PRODUCERS) {
		while (seen.delivered < ALL)
			if (model_take(&ring, &batch) > 0)
				model_see(&seen, &batch);
			else
				sched_yield();
		return;
	}
	for (int i = 0; i < messages[index]; i++) {
		uint64_t value = model_value(index, i);
		struct ring_item item = model_empty_item(&value);

		while (bus__ring_put(&ring, &item) == RING_FULL)
			model_await_room(&ring);
	}
}

static void
after(void)
{
	model_check(seen.delivered == ALL && seen.lost == 0 && bus__ring_empty(&ring));
	bus__ring_reclaim(&ring);
	for (uint64_t i = 0; i < ring.size; i++)
		model_check(ring.bytes[i] == 0);
	model_ring_fini(&ring);
}

static const struct control controls[] = {
    {"the commit word is stored relaxed", "bus__ring_commit", "bytes", OP_STORE, RELAXED,
	"DATA RACE"},
    {"the commit word is read relaxed", "bus__ring_take", "bytes", OP_LOAD, RELAXED, "DATA RACE"},
    {"head is shown relaxed", "bus__ring_reclaim_held", "head", OP_STORE, RELAXED, "DATA RACE"},
    {"head is read relaxed", "bus__ring_head", "head", OP_LOAD, RELAXED, "DATA RACE"},
    {"the limit is shown relaxed", "show_limit", "limit", OP_STORE, RELAXED, "DATA RACE"},
    {"the limit is read relaxed", "bus__ring_claim", "limit", OP_LOAD, RELAXED, "DATA RACE"},
    {"what is taken out is not cleared", "bus__ring_clear", "bytes", OP_CLEAR, SKIPPED, ""},
    {"what is taken out is cleared behind head", "bus__ring_clear", "bytes", OP_CLEAR, LATE,
	"DATA RACE"},
    {NULL},
};

const struct model model_laps = {
    .name = "laps",
    .shows =
	"frames arrive whole, once and in order, and bytes are clear before they are used again",
    .threads = PRODUCERS + 1,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 100000,
    .controls = controls,
};
