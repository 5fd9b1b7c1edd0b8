/* A mailbox that refuses is full, and two publishers wait in bus_pub_send() until a message is taken out. */
#include "core_model.h"

enum { PUBLISHERS = 2, EACH = 2 };

static void
before(void)
{
	model_bus_open(BUS_FULL_REFUSE, BUS_DRAIN_CALLER, PUBLISHERS, -1);
	model_shrink(64); /* two frames of 24 bytes */
}

static void
thread(int index)
{
	if (index < PUBLISHERS) {
		for (int i = 1; i <= EACH; i++)
			model_check(model_send(index, i) == 0);
		return;
	}
	while (model_listener.calls < PUBLISHERS * EACH) {
		model_pause(100);
		model_check(bus_dispatch(model_mbox, -1, 0) > 0);
	}
}

static void
after(void)
{
	model_bus_close(PUBLISHERS * EACH);
}

static const struct control controls[] = {
    {"the futex word does not change", "bus__mailbox_announce_room", "room", OP_RMW, SKIPPED,
	"DEADLOCK"},
    {"head is read without the lock", "bus__ring_try_lock", "head_lock", OP_RMW, BLIND, ""},
    {NULL},
};

const struct model model_room = {
    .name = "room",
    .shows = "a publisher that waits for room is woken, and nothing is lost",
    .threads = PUBLISHERS + 1,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 30000,
    .controls = controls,
};
