/* Two producers, a drainer and a thread that closes the ring under them. */
#include "model.h"
#include "ring_model.h"

enum { PRODUCERS = 2, EACH = 2 };

static struct ring ring;
static struct ring_batch batch = MODEL_BATCH;
static struct model_seen seen;
static uint64_t end; /* of the last claim that may succeed */
static int in[PRODUCERS], refused[PRODUCERS];

static void
before(void)
{
	model_ring_init(&ring, 128, 0);
	seen = (struct model_seen){0};
	memset(in, 0, sizeof in);
	memset(refused, 0, sizeof refused);
}

static void
produce(int producer)
{
	for (int i = 0; i < EACH; i++) {
		uint64_t value = model_value(producer, i);
		struct ring_item item = model_item(&value);
		enum ring_answer answer = bus__ring_put(&ring, &item);

		model_check(answer != RING_FULL);
		model_check(answer == RING_SHUT || refused[producer] == 0);
		++(answer == RING_SHUT ? refused : in)[producer];
	}
}

static void
thread(int index)
{
	if (index < PRODUCERS) {
		produce(index);
	} else if (index == PRODUCERS) {
		if (model_take(&ring, &batch) > 0)
			model_see(&seen, &batch);
	} else {
		model_pause(40);
		for (int i = 0; i < 8; i++)
			bus__ring_tail(&ring); /* the producers run at the same time */
		end = bus__ring_close(&ring) & ~RING_FLAG_BITS;
	}
}

static void
after(void)
{
	uint64_t value = 0;
	struct ring_item item = model_item(&value);
	uint64_t pending = bus__ring_count(&ring, UINT64_MAX);
	int accepted = in[0] + in[1];

	model_check((bus__ring_tail(&ring) & ~RING_FLAG_BITS) == end);
	model_check(bus__ring_put(&ring, &item) == RING_SHUT);
	model_check(accepted + refused[0] + refused[1] == PRODUCERS * EACH);
	model_check(seen.delivered + pending == (uint64_t)accepted);
	model_ring_fini(&ring);
}

static const struct control controls[] = {
    {"the ring is closed in two steps", "bus__ring_close", "tail", OP_RMW, SPLIT, ""},
    {"the bit is not set", "bus__ring_close", "tail", OP_RMW, SKIPPED, "USER ASSERT FAILED"},
    {"a claim does not look", "bus__ring_claim", "tail", OP_CAS, BLIND, ""},
    {NULL},
};

const struct model model_close_bit = {
    .name = "close_bit",
    .shows = "no claim succeeds behind the close; offered = delivered + refused + pending",
    .threads = PRODUCERS + 2,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 100000,
    .switches = 1,
    .controls = controls,
};
