/* Two publishers into a mailbox that keeps the newest message of a topic, and a drainer. */
#include "core_model.h"

#include "bus/topic.h"

enum { PUBLISHERS = 2, EACH = 2 };

static void
before(void)
{
	struct route *route;

	model_bus_open(BUS_FULL_LATEST, BUS_DRAIN_CALLER, PUBLISHERS, 0);
	route = model_route();
	model_share("cell", &route->cell, sizeof route->cell);
}

static void
thread(int index)
{
	if (index < PUBLISHERS) {
		for (int i = 1; i <= EACH; i++)
			model_check(model_send(index, i) == 0);
		return;
	}
	for (int i = 0; i < 3; i++)
		model_check(bus_dispatch(model_mbox, 0, 0) >= 0);
}

static void
after(void)
{
	model_bus_close(PUBLISHERS * EACH);
	model_check(model_listener.calls + model_listener.lost == PUBLISHERS * EACH ||
		    model_listener.calls > 0);
}

static const struct control controls[] = {
    {"the value is put in relaxed", "bus__cell_put", "cell", OP_RMW, RELAXED, "DATA RACE"},
    {"the value is taken out relaxed", "bus__cell_take", "cell", OP_RMW, RELAXED, "DATA RACE"},
    {"the value is taken out in two steps", "bus__cell_take", "cell", OP_RMW, SPLIT, ""},
    {NULL},
};

const struct model model_latest = {
    .name = "latest",
    .shows = "the newest value arrives, whole; each other one is counted as replaced once",
    .threads = PUBLISHERS + 1,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 30000,
    .controls = controls,
};
