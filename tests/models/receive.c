/* bus_recv() waits without an end for what two publishers send: sleep bit, futex and batches as they are shipped. */
#include "core_model.h"

enum { PUBLISHERS = 2 };

static void
before(void)
{
	model_bus_open(BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER, PUBLISHERS, 0);
}

static void
thread(int index)
{
	const struct bus_msg *msg;

	if (index < PUBLISHERS) {
		model_pause(100);
		model_check(model_send(index, 1) == 0);
		return;
	}
	for (int i = 0; i < PUBLISHERS; i++) {
		model_check(bus_recv(model_mbox, -1, &msg) == 1);
		model_check(msg->len == 2 && msg->lost == 0);
		model_listener.calls++;
	}
}

static void
after(void)
{
	model_bus_close(PUBLISHERS);
}

static const struct control controls[] = {
    {"the drainer goes to sleep without looking", "bus__ring_sleep", "tail", OP_CAS, BLIND,
	"DEADLOCK"},
    {"the futex word does not change", "bus__mailbox_stir", "wakes", OP_RMW, SKIPPED, "DEADLOCK"},
    {NULL},
};

const struct model model_receive = {
    .name = "receive",
    .shows = "a thread in bus_recv() gets every message",
    .threads = PUBLISHERS + 1,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 50000,
    .controls = controls,
};
