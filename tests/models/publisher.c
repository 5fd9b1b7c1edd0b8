/* A mailbox that is drained inside the publish that finds it idle: the role goes from one publisher to the other. */
#include "core_model.h"

enum { PUBLISHERS = 3 };

static void
before(void)
{
	model_bus_open(BUS_FULL_DROP_OLDEST, BUS_DRAIN_PUBLISHER, PUBLISHERS, 0);
}

static void
thread(int index)
{
	model_pause(60);
	model_check(model_send(index, 1) == 0);
}

static void
after(void)
{
	/* All are through, so all is delivered. */
	model_check(model_listener.calls == PUBLISHERS && model_listener.lost == 0);
	model_bus_close(PUBLISHERS);
}

static const struct control controls[] = {
    {"the drainer goes to sleep without looking", "bus__ring_sleep", "tail", OP_CAS, BLIND, ""},
    {NULL},
};

const struct model model_publisher = {
    .name = "publisher",
    .shows = "one publisher at a time drains, and delivers the messages put in during that",
    .threads = PUBLISHERS,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 30000,
    .controls = controls,
};
