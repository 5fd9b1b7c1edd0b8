/* Three receivers of one group, each of which takes one message and then does not look any more: whoever sleeps has to be
 * woken for the next, though the others are at work. */
#include "core_model.h"

#include "mailbox/group.h"

enum { PUBLISHERS = 1, RECEIVERS = 3 };

static struct bus_mailbox *receivers[RECEIVERS];
static int numbers[RECEIVERS]; /* what came to each */

static void
before(void)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .drain = BUS_DRAIN_CALLER, .bytes = RING_MIN_BYTES, .group = "g"};

	model_check(bus_open(NULL, NULL, &model_bus) == 0);
	for (int i = 0; i < RECEIVERS; i++) {
		model_check(bus_mailbox_open(model_bus, &cfg, &receivers[i]) == 0);
		model_check(bus_mailbox_subscribe(receivers[i], "a", NULL, NULL, NULL) == 0);
	}
	model_check(bus_pub_open(model_bus, "a", NULL, &model_pub[0]) == 0);
	model_name_parts(receivers[0]->queue);
	model_share("parked", &receivers[0]->queue->parked, sizeof receivers[0]->queue->parked);
}

static void
thread(int index)
{
	const struct bus_msg *msg;

	if (index < PUBLISHERS) {
		model_pause(100);
		for (int i = 1; i <= RECEIVERS; i++) {
			model_check(model_send(0, i) == 0);
			model_pause(100);
		}
		return;
	}
	index -= PUBLISHERS;
	model_check(bus_recv(receivers[index], -1, &msg) == 1);
	model_check(msg->len == 2 && msg->lost == 0);
	numbers[index] = ((const uint8_t *)msg->data)[1];
}

static void
after(void)
{
	struct bus_stats stats = {.size = sizeof stats};

	model_check((1 << numbers[0] | 1 << numbers[1] | 1 << numbers[2]) == 0xe); /* 1, 2 and 3 */
	model_check(bus_mailbox_stats(receivers[0], &stats) == 0);
	model_check(stats.offered == RECEIVERS && stats.delivered == RECEIVERS);
	bus_pub_close(model_pub[0]);
	model_pub[0] = NULL;
	for (int i = 0; i < RECEIVERS; i++)
		bus_mailbox_close(receivers[i]);
	model_check(bus_close(model_bus, 0) == 0);
}

static const struct control controls[] = {
    {"a receiver goes to sleep without a note", "rest_in_group", "parked", OP_RMW, SKIPPED,
	"DEADLOCK"},
    {"a receiver goes to sleep without a look at tail", "bus__ring_sleep", "tail", OP_CAS, BLIND,
	"DEADLOCK"},
    {"the futex word does not change", "bus__wake_receiver", "wakes", OP_RMW, SKIPPED, "DEADLOCK"},
    {NULL},
};

const struct model model_shared = {
    .name = "shared",
    .shows = "no message waits while a receiver of the group sleeps",
    .threads = PUBLISHERS + RECEIVERS,
    .before = before,
    .thread = thread,
    .after = after,
    .schedules = 50000,
    .controls = controls,
};
