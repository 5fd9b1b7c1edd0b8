/* Two producers into a ring of two frames that drops the oldest, as bus__mailbox_put() does, against a drainer. */
#include "model.h"
#include "ring_model.h"

enum { PRODUCERS = 2, EACH = 3, TRIES = 2, ROUNDS = 3 };

static struct ring ring;
static struct ring_batch batch = MODEL_BATCH;
static struct model_seen seen;

static void
before(void)
{
	model_ring_init(&ring, 64, 0);
	seen = (struct model_seen){0};
}

static void
put(int producer, int number)
{
	uint64_t value = model_value(producer, number);
	struct ring_item item = model_item(&value);
	enum ring_answer answer;
	int tries = 0;

	while ((answer = bus__ring_put(&ring, &item)) == RING_FULL)
		if (++tries > TRIES || !bus__ring_evict(&ring, &item))
			break;
	if (answer == RING_FULL)
		bus__ring_drop(&ring);
}

static void
thread(int index)
{
	if (index < PRODUCERS) {
		for (int i = 0; i < EACH; i++)
			put(index, i);
		return;
	}
	for (int i = 0; i < ROUNDS; i++) {
		if (model_take(&ring, &batch) > 0)
			model_see(&seen, &batch);
		sched_yield();
	}
}

static void
after(void)
{
	uint64_t dropped = ring.dropped, evicted = ring.evicted;

	while (model_take(&ring, &batch) > 0)
		model_see(&seen, &batch);
	/* What was lost behind the last message waits for the next one. */
	seen.lost += ring.lost_at_head + ring.lost_at_tail;
	model_check(seen.delivered + seen.lost == PRODUCERS * EACH);
	model_check(seen.lost == dropped + evicted);
	model_check(bus__ring_empty(&ring));
	model_ring_fini(&ring);
}

static const struct control controls[] = {
    {"the head lock is taken relaxed", "bus__ring_try_lock", "head_lock", OP_RMW, RELAXED,
	"DATA RACE"},
    {"the head lock is given back relaxed", "bus__ring_unlock", "head_lock", OP_STORE, RELAXED,
	"DATA RACE"},
    {"the head lock admits every thread", "bus__ring_try_lock", "head_lock", OP_RMW, BLIND,
	"DATA RACE"},
    {"an eviction shows head relaxed", "bus__ring_evict", "head", OP_STORE, RELAXED, "DATA RACE"},
    {"an evicted frame is not cleared", "bus__ring_clear", "bytes", OP_CLEAR, SKIPPED, ""},
    {"losses are taken over in two steps", "bus__ring_commit", "lost_at_tail", OP_RMW, SPLIT,
	"USER ASSERT FAILED"},
    {NULL},
};

const struct model model_eviction = {
    .name = "eviction",
    .shows = "each message is delivered once or counted as lost once",
    .threads = PRODUCERS + 1,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 100000,
    .controls = controls,
};
