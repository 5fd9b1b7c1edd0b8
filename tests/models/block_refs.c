/* One block in the rings of two mailboxes: two takers and an evicting producer let go of it. */
#include "model.h"
#include "ring_model.h"

#include "base/mem.h"

static struct ring ring[2];
static struct ring_batch batch[2] = {MODEL_BATCH, MODEL_BATCH};
static struct bus__block *block;

static void
before(void)
{
	static const uint64_t words[2] = {17, 23};

	for (int i = 0; i < 2; i++)
		model_ring_init(&ring[i], 64, 0);
	block = bus__block_new(NULL, sizeof words);
	model_check(block != NULL);
	memcpy(block->data, words, sizeof words);
	model_share("refs", &block->refs, sizeof block->refs);
}

static void
publish(void)
{
	for (int i = 0; i < 2; i++) {
		struct ring_item item = {
		    .route = &block, .block = bus__block_ref(block), .len = 16};

		model_check(bus__ring_put(&ring[i], &item) == RING_OK);
	}
	bus__block_unref(block);
	/* A message that does not fit beside what may be inside still. */
	struct ring_item large = {.route = &block, .len = 48, .data = ring};

	bus__ring_evict(&ring[0], &large);
}

static void
thread(int index)
{
	struct ring_view view;
	uint32_t offset = 0;
	uint64_t words[2];

	if (index == 2) {
		publish();
		return;
	}
	while (model_take(&ring[index], &batch[index]) == 0) {
		if (bus__ring_out(&ring[index]) > 0)
			return; /* it was evicted */
		sched_yield();
	}
	bus__ring_read(&batch[index], &offset, &view);
	model_check(view.len == 16 && view.flags & RING_BLOCK);
	memcpy(words, view.data, 16);
	model_check(words[0] == 17 && words[1] == 23);
	bus__ring_release(&batch[index]);
}

static void
after(void)
{
	/* Relacy counts what is allocated: the block is freed, once. */
	for (int i = 0; i < 2; i++) {
		model_check(ring[i].block_bytes == 0);
		model_ring_fini(&ring[i]);
	}
}

static const struct control controls[] = {
    {"a reference is let go relaxed", "drop", "refs", OP_RMW, RELAXED, "DATA RACE"},
    {"the last one does not wait for the others", "drop", "refs", OP_LOAD, RELAXED, "DATA RACE"},
    {"references are counted in two steps", "drop", "refs", OP_RMW, SPLIT, ""},
    {"a reference is not taken", "bus__block_ref", "refs", OP_RMW, SKIPPED, ""},
    {NULL},
};

const struct model model_block_refs = {
    .name = "block_refs",
    .shows = "the last reader of a block frees it, once, after all others",
    .threads = 3,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 100000,
    .controls = controls,
};
