/* One producer claims place for two messages at once, as bus_pub_send_many() does; another one gives a
 * claim up and then sends singly, on the short way as long as that is open. A drainer takes out, over more than a lap. */
#include "model.h"
#include "ring_model.h"

enum { ALL = 5, RUN = 2 };

static struct ring ring;
static struct ring_batch batch = MODEL_BATCH;
static struct model_seen seen;

static void
before(void)
{
	model_ring_init(&ring, 64, 0);
	seen = (struct model_seen){0};
}

static void *
route_of(uint64_t value)
{
	return (void *)(uintptr_t)(value + 1);
}

/* false: there is no room for all of them at once. */
static bool
put_run(int producer, int first)
{
	uint64_t tail;
	uint8_t *at = bus__ring_claim_here(&ring, RUN * bus__ring_small_bytes(0), &tail);

	if (at == NULL)
		return false;
	for (int i = 0; i < RUN; i++) {
		bus__ring_fill(
		    at, route_of(model_value(producer, first + i)), bus__ring_word(0, 0, 0), NULL);
		at += bus__ring_small_bytes(0);
	}
	return true;
}

static void
put_one(int producer, int number)
{
	uint64_t value = model_value(producer, number), tail;
	struct ring_item item = model_item(&value);
	uint8_t *at = bus__ring_claim_here(&ring, bus__ring_small_bytes(8), &tail);

	if (at != NULL)
		bus__ring_fill(at, item.route, bus__ring_word(8, 0, 0), &value);
	else
		while (bus__ring_put(&ring, &item) == RING_FULL)
			model_await_room(&ring);
}

/* A claim that another mailbox of an all-or-nothing publish did not have room for. */
static void
claim_and_cancel(void)
{
	uint64_t value = 0;
	struct ring_item item = model_empty_item(&value);
	struct ring_claim claim;

	if (bus__ring_claim(&ring, &item, &claim) != RING_FULL)
		bus__ring_cancel(&ring, &claim, &item);
}

static void
thread(int index)
{
	if (index == 0) {
		if (!put_run(index, 0))
			for (int i = 0; i < RUN; i++)
				put_one(index, i);
	} else if (index == 1) {
		claim_and_cancel();
		for (int i = 0; i < ALL - RUN; i++)
			put_one(index, i);
	} else {
		while (seen.delivered < ALL)
			if (model_take(&ring, &batch) > 0)
				model_see(&seen, &batch);
			else
				sched_yield();
	}
}

static void
after(void)
{
	model_check(seen.delivered == ALL && seen.lost == 0 && bus__ring_empty(&ring));
	model_ring_fini(&ring);
}

static const struct control controls[] = {
    {"commit words are stored relaxed", "bus__ring_fill", "bytes", OP_STORE, RELAXED, "DATA RACE"},
    {"the claim does not look", "bus__ring_claim_here", "tail", OP_CAS, BLIND, ""},
    {"the limit is read relaxed", "bus__ring_claim_here", "limit", OP_LOAD, RELAXED, "DATA RACE"},
    {"a claim is cancelled relaxed", "bus__ring_cancel", "bytes", OP_STORE, RELAXED, "DATA RACE"},
    {NULL},
};

const struct model model_batch = {
    .name = "batch",
    .shows =
	"a run claimed at once arrives whole and in order, beside single messages and a claim given up",
    .threads = 3,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 100000,
    .controls = controls,
};
