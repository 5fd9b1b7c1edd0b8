/* A subscription ends while messages are on their way to it. What publishers and the drainer may still read (snapshot,
 * route, slots, subscription) is freed behind them: relacy fails on freed memory. Publishes come by name, since a handle
 * keeps its snapshot alive. */
#include "core_model.h"

static void
before(void)
{
	model_bus_open(BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER, 0, 0);
}

static void
thread(int index)
{
	const uint8_t message[2] = {0, 1};

	switch (index) {
	case 0:
		model_check(bus_publish(model_bus, "a", message, sizeof message) == 0);
		break;
	case 1:
		for (int i = 0; i < 2; i++) {
			model_pause(20);
			model_check(bus_dispatch(model_mbox, 0, 0) >= 0);
		}
		break;
	default:
		model_pause(40);
		bus_unsubscribe(model_sub, NULL);
		model_sub = NULL;
		model_listener.over = true;
		break;
	}
}

static void
after(void)
{
	struct bus_stats stats = {.size = sizeof stats};

	while (bus_dispatch(model_mbox, 0, 0) > 0)
		;
	model_check(bus_mailbox_stats(model_mbox, &stats) == 0);
	model_bus_close(stats.offered); /* none or one: a message after the end was not offered */
}

static const struct control controls[] = {
    {"a batch does not show in the phase", "bus__mailbox_take_frames", "phase", OP_STORE, SKIPPED,
	""},
    {"a batch ends relaxed", "bus__mailbox_end_batch", "phase", OP_RMW, RELAXED, "DATA RACE"},
    {"no stripe is awaited", "grace", "stripes", OP_RMW, BLIND, ""},
    {"a stripe is given back relaxed", "bus__read_end", "stripes", OP_STORE, RELAXED, "DATA RACE"},
    {NULL},
};

const struct model model_unsubscribe = {
    .name = "unsubscribe",
    .shows =
	"behind bus_unsubscribe() no callback runs, and what it used is freed behind all readers",
    .threads = 3,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 30000,
    .controls = controls,
};
