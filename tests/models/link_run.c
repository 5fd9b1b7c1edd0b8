/* What a link brought goes into a mailbox by runs, beside a local publisher, while the owner waits in bus_recv(). */
#include "core_model.h"

#include "bus/peer.h"

enum { RUN = 2, ALL = RUN + 1 };

static uint8_t seen[MODEL_THREADS];

static void
before(void)
{
	model_bus_open(BUS_FULL_DROP_OLDEST, BUS_DRAIN_CALLER, 2, 0);
	for (int i = 0; i < MODEL_THREADS; i++)
		seen[i] = 0;
}

static void
publish_run(int publisher)
{
	const uint8_t bytes[RUN][2] = {{(uint8_t)publisher, 1}, {(uint8_t)publisher, 2}};
	const struct bus_slice items[RUN] = {{bytes[0], 2}, {bytes[1], 2}};

	model_check(bus__publish_run_from_peer(model_pub[publisher], 0, items, RUN) == RUN);
}

static void
take_all(void)
{
	for (int i = 0; i < ALL; i++) {
		const struct bus_msg *msg;
		const uint8_t *bytes;

		model_check(bus_recv(model_mbox, -1, &msg) == 1);
		model_check(msg->len == 2 && msg->lost == 0);
		bytes = msg->data;
		model_check(bytes[1] == seen[bytes[0]] + 1);
		seen[bytes[0]] = bytes[1];
		model_listener.calls++;
	}
}

static void
thread(int index)
{
	if (index < 2)
		model_pause(100);
	if (index == 0)
		publish_run(index);
	else if (index == 1)
		model_check(model_send(index, 1) == 0);
	else
		take_all();
}

static void
after(void)
{
	model_check(seen[0] == RUN && seen[1] == 1);
	model_bus_close(ALL);
}

static const struct control controls[] = {
    {"commit words are stored relaxed", "bus__ring_fill", "bytes", OP_STORE, RELAXED, "DATA RACE"},
    {"the claim does not look", "bus__ring_claim_here", "tail", OP_CAS, BLIND, ""},
    {"the drainer goes to sleep without looking", "bus__ring_sleep", "tail", OP_CAS, BLIND,
	"DEADLOCK"},
    {"the futex word does not change", "bus__mailbox_stir", "wakes", OP_RMW, SKIPPED, "DEADLOCK"},
    {NULL},
};

const struct model model_link_run = {
    .name = "link_run",
    .shows = "a run from a link arrives whole and in order, and wakes the waiting thread",
    .threads = 3,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 30000,
    .controls = controls,
};
