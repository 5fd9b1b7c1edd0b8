/* Blocks of a publisher's pool come back from two takers while he makes new ones and then closes it. */
#include <string.h>

#include "model.h"
#include "queue/block.h"

enum { TAKERS = 2, EACH = 2 };

static struct bus__pool *pool;
static struct bus__block *blocks[TAKERS][EACH];

static struct bus__block *
make(uint64_t value)
{
	struct bus__block *block = bus__block_new(pool, 8);

	model_check(block != NULL);
	memcpy(block->data, &value, 8);
	return block;
}

static void
before(void)
{
	pool = bus__pool_new();
	model_share("back", &pool->back, sizeof pool->back);
	model_share("left", &pool->left, sizeof pool->left);
	for (int t = 0; t < TAKERS; t++)
		for (int i = 0; i < EACH; i++)
			blocks[t][i] = make(7);
}

static void
thread(int index)
{
	struct bus__chain chain = {NULL, NULL};
	uint64_t value;

	if (index == TAKERS) {
		bus__block_unref(make(8)); /* maybe one that came back */
		bus__block_unref(make(9));
		bus__pool_close(pool);
		return;
	}
	for (int i = 0; i < EACH; i++) {
		memcpy(&value, blocks[index][i]->data, 8);
		model_check(value == 7);
		bus__block_unref_to(blocks[index][i], &chain);
		if (index == 0)
			bus__chain_end(&chain); /* one by one; the other one both together */
	}
	bus__chain_end(&chain);
}

static void
after(void)
{
	/* Relacy knows whether anything was freed twice or never. */
}

static const struct control controls[] = {
    {"a block comes back relaxed", "bus__chain_end", "back", OP_CAS, RELAXED, "DATA RACE"},
    {"the owner takes them relaxed", "take_free", "back", OP_RMW, RELAXED, "DATA RACE"},
    {"the owner takes them in two steps", "take_free", "back", OP_RMW, SPLIT, ""},
    {"the pool closes relaxed", "bus__pool_close", "back", OP_RMW, RELAXED, "DATA RACE"},
    {"the close counts relaxed", "bus__pool_close", "left", OP_RMW, RELAXED, "DATA RACE"},
    {"late blocks are counted relaxed", "free_late", "left", OP_RMW, RELAXED, "DATA RACE"},
    {NULL},
};

const struct model model_pool = {
    .name = "pool",
    .shows = "blocks return whole and once, also to a pool that closes at the same time",
    .threads = TAKERS + 1,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 50000,
    .controls = controls,
};
